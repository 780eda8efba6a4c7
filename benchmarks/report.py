"""How long the whole report takes: `python -m benchmarks.report --rows 100000`, and `--rows 1000000` for the long one.

Made-up rows of 60 words drawn by Zipf's law from 5,000, one in twenty a near-copy of the one 7 before it; a taxonomy of
100 leaves on two levels, a flat one of 100, three layers. Measured as a user does it: `qdcgen report FILE` on a table,
and `qdcgen report RUN` on a run folder whose rows, verdicts and plan are laid there without asking a model.

Prints CPU seconds and wall seconds of embedding, of each metric and of the rest, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdcgen.vector_cache import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORDS = 60
LEAVES = 100
PART = 50_000
BOUNDS = {100_000: (60, 2, "beyond embedding"), 1_000_000: (720, 6, "embedding included")}
"""Rows → seconds and GiB that the whole report may take on two cores."""
SHOWN = 0.005
"""CPU seconds below which a part has no line."""

RECIPE = """\
recipe: 1
name: bench
models: {{writer: {{model: openai/none, api_base: "http://127.0.0.1:9"}}}}
taxonomy:
  topic: {{tree: {tree}}}
  risk: {flat}
layers:
  mood: {{choice: [calm, worried, angry]}}
  channel: {{choice: {{chat: 2, mail: 1}}}}
  words: {{range: {{min: 8, max: 90}}}}
generate:
  - write: {{fields: {{text: string}}, prompt: "{{{{ topic }}}} {{{{ risk }}}} {{{{ mood }}}} {{{{ words }}}}"}}
filters: [schema, {{length: {{field: text, min_words: 8}}}}, {{duplicates: {{field: text}}}}]
target: {{rows: {rows}, candidates: 1}}
measure: {{text: text, embedder: {embedder}}}
"""


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def texts(rows: int, seed: int) -> Iterator[list[str]]:
    """The texts, part by part."""
    import numpy as np

    rng, letters = random.Random(seed), "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(2, 10))) for _ in range(5_000)]
    weights = 1 / (np.arange(len(vocabulary)) + 3)
    drawn = np.random.default_rng(seed)
    for start in range(0, rows, PART):
        size = min(PART, rows - start)
        codes = drawn.choice(len(vocabulary), (size, WORDS), p=weights / weights.sum())
        copies = np.arange(19, size, 20)
        codes[copies] = codes[copies - 7]
        codes[copies, drawn.integers(0, WORDS, len(copies))] = drawn.integers(0, len(vocabulary), len(copies))
        yield [" ".join(map(vocabulary.__getitem__, line)) for line in codes.tolist()]


def build_file(rows: int, seed: int, path: Path) -> None:
    """A table as a user may have it: text and three columns."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed + 1)
    pl.DataFrame({
        "text": pl.concat([pl.Series(part) for part in texts(rows, seed)]),
        "topic": pl.Series(rng.integers(0, LEAVES, rows)).cast(pl.String),
        "mood": pl.Series(["calm", "worried", "angry"])[rng.integers(0, 3, rows)],
        "words": rng.integers(8, 91, rows),
    }).write_parquet(path)  # fmt: skip


def build_run(rows: int, seed: int, folder: Path, embedder: str) -> None:
    """A finished run of `rows` candidates: 5 of 100 are too short, 4 of 100 are repeats; their slots stay empty."""
    import polars as pl

    from qdcgen import recipe as recipes
    from qdcgen import rounds
    from qdcgen.generate import column_types
    from qdcgen.store import Store, frame_of, packed

    tree = {f"branch {b}": [f"topic {b} {leaf}" for leaf in range(10)] for b in range(LEAVES // 10)}
    flat = [f"risk {leaf}" for leaf in range(LEAVES)]
    source = RECIPE.format(tree=tree, flat=flat, rows=rows, embedder=embedder)
    recipe = recipes.loads(source.encode(), file="bench.yaml", folder=folder.parent)
    paths = {axis: {leaf.id: leaf.path for leaf in tree.leaves} for axis, tree in recipe.taxonomies.items()}
    empty = frame_of([], 0, column_types(recipe), paths)
    made = (text for part in texts(rows, seed) for text in part)
    with Store(folder) as store:
        store.commit({"recipe.yaml": (source.encode(), None)})
        rounds.freeze(store, recipe, rounds.named(rounds.plan_of(recipe).slots(0, rows), recipe).with_columns(
            pl.lit(0, dtype=pl.Int64).alias("replicate")))  # fmt: skip
        files = {}
        for batch in rounds.batches(store):
            said = batch.slots
            number, size = said["slot"], said.height
            mixes = said.select(rounds._key(["risk", "topic"]).alias("_mix"))["_mix"]  # noqa: SLF001
            table = pl.DataFrame({
                "text": [next(made) for _ in range(size)],
                "mood": pl.Series(["calm", "worried", "angry"]).gather(number % 3),
                "channel": pl.Series(["chat", "mail", "chat"]).gather(number // 3 % 3),
                "words": 8 + number * 7 % 83,
                **{axis: said[axis].replace_strict(named) for axis, named in paths.items()},
                "_id": [f"{one:016x}" for one in number.to_list()],
                "_mix": mixes, "_replicate": [0] * size, "_slot": number, "_round": [0] * size,
                "_calls": [1] * size, "_tokens_in": [120] * size, "_tokens_out": [80] * size, "_usd": [1e-4] * size,
                "_models": ["openai/none"] * size, "_notes": ["{}"] * size,
            })  # fmt: skip
            raw = pl.concat([empty, table], how="diagonal_relaxed").select(empty.columns)
            lost = {"length": number % 100 < 5, "duplicates": number % 100 >= 96}
            verdicts, left = [], table
            for name in ("schema", "length", "duplicates"):
                gone = left["_slot"].is_in(number.filter(lost[name]).implode()) if name in lost else left["_slot"] < 0
                verdicts.append(
                    left.select(
                        "_id",
                        pl.lit(name).alias("filter"),
                        (~gone).alias("kept"),
                        pl.when(gone).then(pl.lit(f"{name}: 7, fewer than 8")).alias("reason"),
                        pl.lit(None, dtype=pl.Float64).alias("score"),
                    )
                )
                left = left.filter(~gone)
            files[batch.raw] = packed(raw)
            files[batch.verdicts] = packed(pl.concat(verdicts))
        store.commit(files)


# ── measuring ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Clock:
    """Wall and CPU seconds by name; what runs inside something timed counts as its own only."""

    def __init__(self) -> None:
        """Nothing has run yet."""
        self.spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self.inside: list[str] = ["the rest"]
        self.since = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def _book(self) -> None:
        now, own = self._now(), self.spent[self.inside[-1]]
        own[0] += now[0] - self.since[0]
        own[1] += now[1] - self.since[1]
        own[2] = max(own[2], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        self.since = now

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Whatever runs meanwhile is booked under `name`."""
        self._book()
        self.inside.append(name)
        try:
            yield
        finally:
            self._book()
            self.inside.pop()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, booked under `name`."""

        @wraps(call)
        def booked(*given: Any, **named: Any) -> Any:
            with self.of(name):
                return call(*given, **named)

        return booked

    def table(self, rows: int) -> str:
        """One line a name, in the order in which they first ran; `GiB`: the peak of the process by then."""
        self._book()
        lines = [f"  {'':<22}{'CPU s':>8}{'wall s':>9}{'GiB':>7}"]
        rest = {name: one for name, one in self.spent.items() if name != "the rest"}
        for name, (wall, cpu, peak) in (rest | {"the rest": self.spent["the rest"]}).items():
            if cpu < SHOWN:
                continue
            lines.append(f"  {name:<22}{cpu:>8.2f}{wall:>9.2f}{peak:>7.2f}")
        wall, cpu = (sum(one[at] for one in self.spent.values()) for at in (0, 1))
        embedding = self.spent["embedding"][1]
        peak = max(one[2] for one in self.spent.values())
        lines.append(f"  {'all':<22}{cpu:>8.2f}{wall:>9.2f}{peak:>7.2f}")
        if embedding:
            lines.append(f"  beyond embedding {cpu - embedding:.1f} CPU s, {cpu / embedding - 1:.1f} × embedding")
        if rows in BOUNDS:
            seconds, memory, which = BOUNDS[rows]
            took = cpu - embedding if which.startswith("beyond") else cpu
            lines.append(
                f"  {took / seconds:.0%} of {seconds} s ({which}) and {peak / memory:.0%} of {memory} GiB allowed"
            )
        return "\n".join(lines)


class Timed:
    """A metric whose measuring is booked."""

    def __init__(self, name: str, metric: Any, clock: Clock) -> None:
        """`metric` does the measuring."""
        self.measure = clock.timed(name, metric.measure)


def measure(where: Path, embedder: str, rows: int) -> None:
    """`qdcgen report` on `where`, in this process, with a clock at every part."""
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")  # as the command line does
    clock = Clock()
    from qdcgen import attrition, ledger, parts, review, rounds, thrift
    from qdcgen.cli import app

    kind = parts.find("embedders", embedder)
    kind.embed = clock.timed("embedding", kind.embed)  # type: ignore[attr-defined]
    listed = review._metrics  # noqa: SLF001
    review._metrics = lambda: [  # noqa: SLF001
        Timed(type(one).__module__.rpartition(".")[2], one, clock) for one in listed()
    ]
    for module, name in (
        (rounds, "attempts"), (rounds, "made"), (attrition, "attrition"), (thrift, "measures"), (ledger, "lines"),
    ):  # fmt: skip
        setattr(module, name, clock.timed(f"{module.__name__.rpartition('.')[2]}.{name}", getattr(module, name)))
    options = ["--text", "text", "--axis", "topic", "--axis", "mood", "--axis", "words", "--embedder", embedder]
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            app(["report", str(where), *(options if where.is_file() else [])], standalone_mode=False)
    finally:  # what ran until then took minutes
        print(clock.table(rows))


def main() -> None:
    """Parse, make rows and measure them, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--of", choices=("file", "run", "both"), default="both")
    parser.add_argument("--embedder", default="wordllama")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="make the rows in this folder, or find them there, and leave them")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        measure(asked.measure, asked.embedder, asked.rows)
    elif asked.build and asked.build.suffix:
        build_file(asked.rows, asked.seed, asked.build)
    elif asked.build:
        build_run(asked.rows, asked.seed, asked.build, asked.embedder)
    else:
        with tempfile.TemporaryDirectory() as made:
            folder = asked.keep or Path(made)
            folder.mkdir(parents=True, exist_ok=True)
            again = [sys.executable, "-m", "benchmarks.report", "--rows", str(asked.rows), "--seed", str(asked.seed)]
            again += ["--embedder", asked.embedder]
            for name in ("file", "run") if asked.of == "both" else (asked.of,):
                where = folder / {"file": f"{asked.rows}.parquet", "run": f"{asked.rows}"}[name]
                if not where.exists():
                    subprocess.run([*again, "--build", str(where)], check=True)
                shutil.rmtree(where / FOLDER, ignore_errors=True)
                print(f"report on a {name} of {asked.rows:,} rows, {asked.embedder}", flush=True)
                subprocess.run([*again, "--measure", str(where)], check=True)


if __name__ == "__main__":
    main()
