"""The metric `vendi`: its orders, and one n for all populations. Published values: test_reference.py."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from qdcgen.embedders.wordllama import Wordllama
from qdcgen.measure import measure, sample_of, samples_of
from qdcgen.metrics.vendi import Vendi
from qdcgen.rows import Measure
from qdcgen.spectrum import vendi, vendi_of_vectors

WORDS = ["card", "bank", "loan", "rate", "cash", "wire", "fee", "pin", "safe", "coin", "mint", "debt"]


def texts(n: int, seed: int = 0, words: int = 6) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(WORDS[i] for i in row) + f" {n}" for n, row in enumerate(rng.integers(0, 12, (n, words)).tolist())]


def of(**written: list[str]) -> dict[tuple[str, str], Measure]:
    frames = {name: pl.DataFrame({"text": one}) for name, one in written.items()}
    found = measure(samples_of(frames, "text", Wordllama()), [Vendi()])
    return {(one.of, one.name): one for one in found}


@pytest.mark.parametrize("q", [0.5, 1.0, 2.0, math.inf])
def test_the_order_counts_for_vectors_as_for_a_kernel(q: float) -> None:
    vectors = Wordllama().embed(texts(40)).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for some in (vectors, vectors[:, :8] / np.linalg.norm(vectors[:, :8], axis=1, keepdims=True)):
        assert vendi_of_vectors(some, q) == pytest.approx(vendi(some @ some.T, q), rel=1e-6)
    ignored = vendi_of_vectors(vectors, 1.0)
    assert (vendi_of_vectors(vectors, q) == pytest.approx(ignored, rel=1e-3)) is (q == 1)


def test_the_metric_tells_three_orders_that_differ_and_fall() -> None:
    found = of(rows=texts(120))
    one, two, most = (found["rows", name].value for name in ("Vendi score", "Vendi score, q=2", "Vendi score, q=∞"))
    assert one is not None
    assert two is not None
    assert most is not None
    assert one > 1.2 * two > 1.2 * most > 1.2


def test_populations_are_taken_at_one_n_and_a_larger_one_is_no_more_diverse_for_its_size() -> None:
    found = of(raw=texts(900), kept=texts(130, seed=1))
    assert {one.n for one in found.values()} == {100}
    raw, kept = found["raw", "Vendi score"], found["kept", "Vendi score"]
    assert raw.interval is not None
    assert kept.interval is not None
    assert raw.interval[0] <= (kept.value or 0) + (kept.interval[1] - kept.interval[0])
    assert abs((raw.value or 0) - (kept.value or 0)) < 0.1 * (raw.value or 0)
    alone = measure([sample_of(pl.DataFrame({"text": texts(900)}), "text", Wordllama())], [Vendi()])[0]
    assert alone.n == 300
    assert (alone.value or 0) > (raw.value or 0), "without it, size alone would raise the score"
