"""Facility location against brute force, its controls, and what it sees that distances do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from qdcgen.intervals import canonical
from qdcgen.measure import measure, sample_of, samples_of
from qdcgen.metrics.facility import Facility, _apart
from qdcgen.parts import Embedder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdcgen.rows import Measure


class Numbers(Embedder):
    """The numbers that a text is made of."""

    @property
    def label(self) -> str:
        return "numbers"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        found = np.array([[float(x) for x in text.split()] for text in texts], dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def points(
    n: int, topics: int = 12, seed: int = 0, *, only: int | None = None, noise: float = 0.5
) -> list[list[float]]:
    """Texts about topics, each with noise of its own; `only`: of the first so many topics."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(topics, 16))
    found = centres[rng.integers(0, only or topics, n)] + noise * rng.normal(size=(n, 16))
    return found.round(4).tolist()


def frame(rows: list[list[float]], ids: Sequence[int] | None = None) -> pl.DataFrame:
    table = pl.DataFrame({"text": [" ".join(map(str, row)) for row in rows]})
    return table if ids is None else table.with_columns(_id=pl.Series([str(one) for one in ids]))


def of(**frames: pl.DataFrame) -> dict[str, Measure]:
    return {one.of: one for one in measure(samples_of(frames, "text", Numbers()), [Facility()])}


def test_the_figure_is_the_mean_of_the_largest_cosines() -> None:
    """With every other text standing for those in question, nothing is left to chance."""
    table = frame(points(60))
    sample = sample_of(table, "text", Numbers(), of="rows")
    (found,) = measure([sample], [Facility()])
    chosen = canonical(sample.texts)[np.random.default_rng(0).permutation(60)]
    vectors = sample.vectors().astype(np.float64)
    expected = (vectors[chosen[:30]] @ vectors[chosen[30:]].T).max(axis=1).mean()
    assert found.value == pytest.approx(expected, abs=1e-6)
    assert (found.n, found.note, found.control) == (30, "30 of its own texts, stood for by 30 of 60", None)


def test_a_row_never_stands_for_itself() -> None:
    raw = frame(points(200), range(200))
    kept = raw.filter(pl.int_range(pl.len()) % 2 == 0)
    whole, some = samples_of({"raw": raw, "kept": kept}, "text", Numbers())
    stood = np.arange(0, 200, 4)
    left = _apart(some, whole, stood)
    assert len(left) == 50
    assert not set(kept["_id"].gather(left)) & set(raw["_id"].gather(stood))
    assert set(left.tolist()) == {i for i in range(100) if i % 2}


def test_kept_that_lacks_regions_falls_below_as_many_random_rows_and_an_even_share_does_not() -> None:
    rows = points(1_200)
    raw = frame(rows, range(1_200))
    even = of(raw=raw, kept=raw.filter(pl.int_range(pl.len()) % 2 == 0))["kept"]
    assert even.interval is not None
    assert even.control is not None
    assert even.control_of == "others of raw"
    assert even.interval[0] <= even.control <= even.interval[1]
    centres = np.random.default_rng(99).normal(size=(12, 16))
    topic = np.argmin(((np.array(rows)[:, None] - centres) ** 2).sum(axis=2), axis=1)
    narrow = of(raw=raw, kept=raw.filter(pl.Series(topic < 4)))["kept"]
    assert narrow.interval is not None
    assert narrow.control is not None
    assert narrow.interval[1] < narrow.control - 0.1


def test_against_an_anchor_the_control_is_other_real_texts() -> None:
    real = frame(points(600, seed=1))
    good, narrow = frame(points(600, seed=2)), frame(points(600, seed=3, only=3))
    for kept, like in ((good, True), (narrow, False)):
        found = of(kept=kept, anchor=real)
        one = found["kept"]
        assert one.interval is not None
        assert one.control is not None
        assert (one.control_of, found["anchor"].control) == ("real vs real", None)
        assert one.control == pytest.approx(found["anchor"].value, abs=1e-9)
        assert (one.interval[0] <= one.control <= one.interval[1]) is like


def test_far_apart_is_not_the_same_as_standing_for() -> None:
    """What this adds: noise raises the mean distance, and stands for nothing."""
    rng = np.random.default_rng(5)
    raw = frame(points(600), range(600))
    noise = frame((10 * rng.normal(size=(600, 16))).round(4).tolist(), range(600, 1200))
    found = of(kept=noise, raw=raw)["kept"]
    assert found.interval is not None
    assert found.control is not None
    assert found.interval[1] < found.control


def test_order_changes_nothing_and_copies_move_it_one_way() -> None:
    rows = points(400)
    turn = np.random.default_rng(7).permutation(400)
    one, other = of(rows=frame(rows))["rows"], of(rows=frame([rows[i] for i in turn]))["rows"]
    assert one.value == pytest.approx(other.value or 0, abs=1e-6)
    assert one.interval == pytest.approx(other.interval or (0, 0), abs=1e-6)
    values = []
    for share in (0, 0.3, 0.6, 0.9):
        gone = round(share * 400)
        copied = [rows[i % 4] for i in range(gone)] + rows[gone:]
        values.append(of(rows=frame(copied))["rows"].value)
    assert values == sorted(values), "of a file alone: the more alike, the nearer they stand to each other"
    assert values[0] < values[-1]


def test_the_interval_holds_the_truth() -> None:
    """Half of a population against itself, many times: the truth is the mean of all of them."""
    found = [of(rows=frame(points(300, seed=seed)))["rows"] for seed in range(40)]
    truth = float(np.mean([one.value for one in found]))
    hits = sum(one.interval is not None and one.interval[0] <= truth <= one.interval[1] for one in found)
    assert hits >= 35


@pytest.mark.parametrize("n", [0, 1, 19, 58, 59])
def test_too_few_are_too_few(n: int) -> None:
    if n:
        found = of(rows=frame(points(n)))["rows"]
    else:
        (found,) = Facility().measure(sample_of(frame(points(1)).clear(), "text", Numbers(), of="rows"))
    assert (found.value is None) == (n < 59)
    if n < 59:
        assert found.note == f"too few: {n} texts, needs 59"
    all_alike = of(rows=frame([[1.0, 2.0]] * 80))["rows"]
    assert all_alike.value == pytest.approx(1)
    assert all_alike.interval == pytest.approx((1, 1), abs=1e-6)
