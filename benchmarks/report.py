"""How long the whole measure takes: `python -m benchmarks.report --rows 100000`.

Prints seconds for each metric, peak memory and n. Texts are 60 words drawn by Zipf's law from 5,000, one in twenty a
near-copy; two taxonomies of 100 leaves; populations `raw` and, with `--kept 0.8`, a kept share of it.
"""

from __future__ import annotations

import argparse
import random
import resource
import time

import polars as pl

from qdcgen.measure import METRICS, measure, samples_of
from qdcgen.parts import Embedder, Metric, find
from qdcgen.rows import Node, Taxonomy

WORDS = 60
LEAVES = 100


def table(rows: int, seed: int) -> pl.DataFrame:
    """Made-up rows with axes and everything else that metrics look at."""
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(2, 10))) for _ in range(5_000)]
    weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
    texts: list[str] = []
    for number in range(rows):
        words = rng.choices(vocabulary, weights, k=WORDS)
        if number % 20 == 19:
            words = [*texts[-7].split()]
            words[rng.randrange(WORDS)] = rng.choice(vocabulary)
        texts.append(" ".join(words))
    return pl.DataFrame({
        "_id": [f"{number:016x}" for number in range(rows)],
        "text": texts,
        "topic": [f"topic {rng.randrange(LEAVES)}" for _ in range(rows)],
        "risk": [f"risk {rng.randrange(LEAVES)}" for _ in range(rows)],
        "mood": [rng.choice(["calm", "worried", "angry"]) for _ in range(rows)],
        "_complexity": [rng.choice([None, "hard"]) for _ in range(rows)],
    })  # fmt: skip


def tree(name: str) -> Taxonomy:
    """A flat taxonomy of 100 leaves."""
    labels = [f"{name} {number}" for number in range(LEAVES)]
    return Taxonomy(name, tuple(Node(label, label, label, 0) for label in labels))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--kept", type=float, default=0.0, help="also measure this share as `kept`, at equal n")
    parser.add_argument("--embedder", default="wordllama")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    raw = table(asked.rows, asked.seed)
    frames = {"raw": raw}
    if asked.kept:
        frames["kept"] = raw.sample(fraction=asked.kept, seed=asked.seed)
    attempts = raw.select("_id", (pl.int_range(pl.len()) % 5 > 0).alias("_kept")).with_columns(
        _filter=pl.when(~pl.col("_kept")).then(pl.lit("length")),
        _reason=pl.when(~pl.col("_kept")).then(pl.lit("7 words, fewer than 8")),
    )
    part = find("embedders", asked.embedder)()
    assert isinstance(part, Embedder)
    samples = samples_of(
        frames,
        "text",
        part,
        seed=asked.seed,
        taxonomies={name: tree(name) for name in ("topic", "risk")},
        layers=["mood"],
        strategies=[["topic", "risk"]],
        filters=["length"],
        attempts=attempts,
    )
    began = time.perf_counter()
    for sample in samples:
        sample.vectors()
    total = time.perf_counter() - began
    print(f"{'embedding':<18}{total:8.2f} s   {samples[0].embedder}")
    for name in METRICS:
        metric = find("metrics", name)()
        assert isinstance(metric, Metric)
        began = time.perf_counter()
        found = measure(samples, [metric])
        seconds = time.perf_counter() - began
        total += seconds
        print(f"{name:<18}{seconds:8.2f} s   {len(found)} measures, n = {max(one.n for one in found):,}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'all':<18}{total:8.2f} s   {asked.rows:,} rows, peak {peak:.2f} GiB")


if __name__ == "__main__":
    main()
