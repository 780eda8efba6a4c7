"""How long reading where texts landed takes, beyond embedding them: `python -m benchmarks.landing`.

Random vectors of 256 numbers stand for the texts; the tree has ten times fewer inner nodes than leaves. With
`../shared/data/banking77` beside the project it also prints how often each installed embedder agrees with people on 77
intents, read from the names of the intents alone.
"""

from __future__ import annotations

import argparse
import csv
import resource
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from qdcgen.errors import MissingExtra
from qdcgen.landing import Landing, Reader, agreement, confused, levels, places
from qdcgen.parts import Embedder, find
from qdcgen.rows import Node, Taxonomy
from qdcgen.taxonomy import inline

REAL = Path(__file__).parent.parent.parent / "shared" / "data" / "banking77" / "test.csv"


def tree_of(leaves: int) -> Taxonomy:
    nodes = [Node(f"g{number}", f"group {number}", f"g{number}", 0) for number in range(max(1, leaves // 10))]
    groups = len(nodes)
    for number in range(leaves):
        above = nodes[number % groups]
        nodes.append(Node(f"l{number}", f"leaf {number}", f"{above.path}/l{number}", 1, above.id))
    return Taxonomy("topic", tuple(nodes))


def speed(texts: int, leaves: int) -> None:
    rng = np.random.default_rng(0)

    def vectors(some: object) -> np.ndarray:
        found = rng.standard_normal((len(some), 256), dtype=np.float32)  # type: ignore[arg-type]
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    tree = tree_of(leaves)
    held = vectors(range(texts))
    begin = time.perf_counter()
    with threadpool_limits(limits=1):
        landed, _ = Reader(tree, vectors, threshold=0.0).place(held)
        asked = rng.choice([number for number, node in enumerate(tree.nodes) if node.depth], texts)
        landing = Landing(asked, landed, "random")
        for level in levels(tree):
            agreement(landing, level)
        confused(landing, tree)
    took = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{f'{texts:,} texts, {leaves:,} leaves':<34}{took:>8.2f}{peak:>10.0f}")


def truth() -> None:
    if not REAL.is_file():
        print(f"accuracy on 77 bank intents: not measured, {REAL} is not there")
        return
    with REAL.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [row["label"] for row in rows]
    tree = inline("intent", sorted(set(labels)), REAL.name)
    print(f"\n{'77 bank intents, 3,080 messages':<34}{'right':>8}{'κ':>8}{'95 %':>16}{'nowhere':>9}")
    for name in ("wordllama", "bge"):
        part = find("embedders", name)()
        assert isinstance(part, Embedder)
        try:
            reader = Reader(tree, part.embed)
        except MissingExtra as error:
            print(f"{name:<34}{error}")
            continue
        landed, _ = reader.place(part.embed([row["text"] for row in rows]))
        found = agreement(Landing(places(labels, tree), landed, name, known=True), levels(tree)[0])
        low, high = found.interval or (0, 0)
        share, nowhere = found.hits / found.n, found.nowhere / found.n
        print(f"{name:<34}{share:>8.3f}{found.kappa:>8.3f}{f'{low:.3f}–{high:.3f}':>16}{nowhere:>9.3f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--leaves", type=int, default=1_000)
    chosen = parser.parse_args()
    print(f"{'reading, beyond embedding':<34}{'s':>8}{'peak MiB':>10}")
    speed(chosen.texts, chosen.leaves)
    truth()


if __name__ == "__main__":
    main()
