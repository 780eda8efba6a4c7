"""How long a graph of tools takes, from the file to the first walk: `python -m benchmarks.tools`.

On the 2,674 function schemas of `../shared/data/bfcl_tools`, or on as many made-up tools where that is absent; and on
the 88 tools of `../shared/data/sgd`, by matching and by their counted transitions, with how many of the steps that
matching finds are among those that people took.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from qdcgen.parts import Embedder, find
from qdcgen.tool_lists import read
from qdcgen.tool_walks import Graph, counted, in_words, linked, matched, walk

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
WORDS = (
    "city",
    "date",
    "name",
    "price",
    "order",
    "user",
    "file",
    "path",
    "text",
    "start",
    "end",
    "size",
    "team",
    "mail",
)


def made_up(folder: Path, count: int) -> Path:
    rng = random.Random(0)
    path = folder / "tools.jsonl"
    with path.open("w") as file:
        for number in range(count):
            names = {"_".join(rng.choices(WORDS, k=2)) for _ in range(3)}
            fields = {name: {"type": "string", "description": " ".join(rng.choices(WORDS, k=6))} for name in names}
            file.write(json.dumps({"name": f"tool_{number}", "parameters": {"type": "object", "properties": fields}}))
            file.write("\n")
    return path


def timed(path: Path, threshold: float) -> Graph:
    embedder = find("embedders", "wordllama")()
    assert isinstance(embedder, Embedder)
    embedder.embed(["loaded"])
    begin = time.perf_counter()
    tools = read(path).tools
    reading = time.perf_counter() - begin
    graph = linked(tools, matched(tools, embedder.embed, threshold))
    linking = time.perf_counter() - begin - reading
    begin = time.perf_counter()
    for number in range(1000):
        walk(graph, graph.starts[number % len(graph.starts)], 3, random.Random(number))
    walking = (time.perf_counter() - begin) * 1000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{f'{len(tools):,} tools':<34}{reading:>10.2f}{linking:>10.2f}{walking:>12.0f}{peak:>10.0f}")
    return graph


def real_steps(graph: Graph, path: Path) -> None:
    steps, counts = counted(path, graph.tools)
    seen = {end for place, others in enumerate(steps) for end in (place, *others.tolist()) if len(others)}
    real = {(place, other) for place, others in enumerate(steps) for other in others.tolist()}
    found = {
        (place, other)
        for place, others in enumerate(graph.follow)
        for other in others.tolist()
        if place in seen and other in seen
    }
    chance = len(real) / (len(seen) * (len(seen) - 1))
    print(
        f"\nof {len(found):,} steps found by matching, {len(found & real) / len(found):.1%} were taken by people ",
        end="",
    )
    print(f"(by chance {chance:.1%}); of {len(real):,} steps taken, {len(found & real) / len(real):.1%} are found")
    print("\nby counted transitions:", *in_words(linked(graph.tools, steps, counts), 3), sep="\n  ")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threshold", type=float, default=0.82)
    threshold = parser.parse_args().threshold
    print(f"{'graph of tools':<34}{'read s':>10}{'link s':>10}{'a walk µs':>12}{'peak MiB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        bfcl, sgd = (SHARED / name / "tools.jsonl" for name in ("bfcl_tools", "sgd"))
        graph = timed(bfcl if bfcl.is_file() else made_up(Path(folder), 2674), threshold)
        print(*in_words(graph, 3), sep="\n  ")
        if not sgd.is_file():
            print(f"not measured against people's steps: {sgd} is not there")
            return
        graph = timed(sgd, threshold)
        print(*in_words(graph, 3), sep="\n  ")
        real_steps(graph, sgd.parent / "intent_transitions.csv")


if __name__ == "__main__":
    main()
