"""Effective diversity: what was not kept counts as nothing, over everything that was made."""

from __future__ import annotations

import random
from itertools import combinations, pairwise

import numpy as np
import polars as pl
import pytest

from qdcgen.embedders.wordllama import Wordllama
from qdcgen.measure import measure, samples_of
from qdcgen.metrics.effective import Effective, effective_distance
from qdcgen.metrics.spread import pairwise as apart
from qdcgen.rows import Measure
from qdcgen.same import Pair

WORDS = [f"{a}{b}" for a in ("car", "ban", "loa", "rat", "wir") for b in ("do", "ki", "nu", "te")]


def written(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=9)) + f" {i}" for i in range(n)]


def of(
    texts: list[str], kept: list[bool], failed: int = 0, pairs: list[Pair] | None = None, **states: int
) -> dict[tuple[str, str], Measure]:
    """A run that made these texts and `failed` rows without one; `states`: further rows in that state."""
    ids = [f"{i:04}" for i in range(len(texts))]
    raw = pl.DataFrame({"_id": ids, "text": texts}, schema={"_id": pl.String, "text": pl.String})
    more = [("failed", failed), *states.items()]
    tried = pl.DataFrame(
        {
            "_id": [*ids, *(f"{state}{i}" for state, count in more for i in range(count))],
            "_state": [
                *("accepted" if one else "rejected" for one in kept),
                *(s for s, count in more for _ in range(count)),
            ],
            "_kept": [*kept, *(False for _, count in more for _ in range(count))],
        },
        schema={"_id": pl.String, "_state": pl.String, "_kept": pl.Boolean},
    )
    frames = {"raw": raw, "kept": raw.filter(pl.Series(kept, dtype=pl.Boolean))}
    samples = samples_of(frames, "text", Wordllama(), attempts=tried, filters=["length"], pairs=pairs or [])
    return {(one.of, one.name): one for one in measure(samples, [Effective()])}


def test_the_distance_counts_pairs_of_which_one_was_not_kept_as_nothing() -> None:
    texts = written(40)
    kept = [i % 4 != 0 for i in range(40)]
    found = of(texts, kept, failed=5)
    vectors = Wordllama().embed(texts).astype(np.float64)
    far = sum(1 - vectors[i] @ vectors[j] for i, j in combinations(range(40), 2) if kept[i] and kept[j])
    assert found["kept", "effective distance"].value == pytest.approx(far / (45 * 44 / 2), abs=1e-6)
    every = sum(1 - vectors[i] @ vectors[j] for i, j in combinations(range(40), 2))
    assert found["raw", "effective distance"].value == pytest.approx(every / (45 * 44 / 2), abs=1e-6)
    assert found["kept", "effective distance"].note == "all pairs, exact; 30 texts of 45 candidates"


def test_its_interval_is_the_jackknife_over_candidates() -> None:
    vectors = Wordllama().embed(written(12))
    value, interval = effective_distance(vectors, 15)
    without = [effective_distance(np.delete(vectors, i, axis=0), 14)[0] for i in range(12)]
    without += [effective_distance(vectors, 14)[0]] * 3
    spread = 1.959964 * np.sqrt(14 * np.var(without))
    assert interval == pytest.approx((value - spread, value + spread), abs=1e-6)


def test_where_everything_is_kept_it_is_the_mean_pairwise_distance() -> None:
    texts = written(50)
    found = of(texts, [True] * 50)
    assert found["kept", "effective distance"].value == pytest.approx(apart(Wordllama().embed(texts))[0], abs=1e-6)
    assert found["kept", "effective texts"].value == found["raw", "effective texts"].value == 1
    interval = found["kept", "effective texts"].interval
    assert interval is not None
    assert interval[0] < 0.95, "30 of 30 is not all there ever are"


def test_texts_count_once_and_only_where_kept() -> None:
    texts = written(100)[:50] * 2
    found = of(texts, [i < 50 or i % 2 == 0 for i in range(100)])
    assert found["raw", "effective texts"].value == pytest.approx(0.5)
    assert found["kept", "effective texts"].value == pytest.approx(0.5)
    half = of(texts, [i < 25 for i in range(100)])
    assert half["kept", "effective texts"].value == pytest.approx(0.25)
    assert half["kept", "effective texts"].n == 100


def test_a_filter_never_raises_it_and_failures_lower_it() -> None:
    texts = written(120)
    values = [of(texts, [i % 10 < tenths for i in range(120)]) for tenths in (10, 7, 4, 1)]
    for name in ("effective distance", "effective texts"):
        told = [one["kept", name].value for one in values]
        assert told == sorted(told, reverse=True), name
        assert told[0] > 2 * told[-1]
    failed = of(texts, [True] * 120, failed=120)
    assert failed["raw", "effective distance"].value < 0.3 * values[0]["raw", "effective distance"].value
    assert failed["raw", "effective texts"].value == pytest.approx(0.5, abs=0.05)


def test_rows_that_nobody_judged_or_wants_are_on_neither_side() -> None:
    texts = written(60)
    one, other = of(texts, [True] * 60), of(texts, [True] * 60, unjudged=30, retired=30)
    assert one == other


def test_collapse_moves_it_one_way() -> None:
    told = []
    for share in (0, 0.3, 0.6, 0.9):
        texts = written(100)
        gone = round(share * 100)
        texts[:gone] = [texts[0]] * gone
        found = of(texts, [True] * 100)
        told.append([found["kept", name].value for name in ("effective distance", "effective texts")])
    assert all(a > b for one, two in pairwise(told) for a, b in zip(one, two, strict=True))


def test_classes_are_counted_where_pairs_are_given() -> None:
    pairs = [
        Pair(f"{word} {word}", f"{word} {WORDS[i - 1] if i % 2 else word}", i % 2 == 0) for i, word in enumerate(WORDS)
    ]
    texts = [f"{WORDS[i % 20]} {WORDS[i % 20]}" for i in range(100)]
    found = of(texts, [i % 20 < 5 for i in range(100)], pairs=pairs)
    assert found["raw", "effective classes"].value == pytest.approx(20 / 100, abs=0.05)
    assert found["kept", "effective classes"].value == pytest.approx(5 / 100, abs=0.02)
    assert ("raw", "effective classes") not in of(texts, [True] * 100)


def test_order_changes_nothing() -> None:
    texts, kept = written(90), [i % 3 > 0 for i in range(90)]
    turn = np.random.default_rng(1).permutation(90).tolist()
    one = of(texts, kept)
    other = of([texts[i] for i in turn], [kept[i] for i in turn])
    for key, found in one.items():
        assert found.value == pytest.approx(other[key].value or 0, abs=0.02), key


@pytest.mark.parametrize("n", [0, 1, 2, 19, 20, 29, 30])
def test_any_size_is_in_range_or_too_few(n: int) -> None:
    for one in of(written(n), [i % 2 == 0 for i in range(n)]).values():
        if one.value is None:
            assert one.note.startswith("too few: ")
        else:
            assert one.interval is not None
            assert one.range[0] <= one.interval[0] <= one.value <= one.interval[1] <= one.range[1]


def test_data_that_nobody_judged_have_no_effective_figures() -> None:
    samples = samples_of({"rows": pl.DataFrame({"text": written(50)})}, "text", Wordllama())
    assert measure(samples, [Effective()]) == []
