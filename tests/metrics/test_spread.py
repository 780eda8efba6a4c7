"""Distances against brute force, within mixes and among neighbours."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdcgen import knn
from qdcgen.knn import by_torch, nearest
from qdcgen.measure import measure, sample_of, sample_of_file
from qdcgen.metrics.spread import MIXES, Spread, _mixes, within
from qdcgen.parts import Embedder, Sample
from qdcgen.rows import Measure, Node, Taxonomy

TREE = Taxonomy("topic", tuple(Node(f"t{i}", f"t{i}", f"t{i}", 0) for i in range(4)))


class Given(Embedder):
    """The numbers that a text is made of."""

    @property
    def label(self) -> str:
        return "given"

    def embed(self, texts: object) -> np.ndarray:
        assert isinstance(texts, list)
        found = np.array([[float(x) for x in text.split()] for text in texts], dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def units(n: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def sample(vectors: np.ndarray, topics: list[str | None], **more: object) -> Sample:
    table = pl.DataFrame({"text": [" ".join(map(repr, map(float, row))) for row in vectors], "topic": topics})
    return sample_of(table, "text", Given(), taxonomies={"topic": TREE}, **more)


def named(found: list[Measure]) -> dict[str, Measure]:
    return {one.name: one for one in found}


def distances(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    return 1 - wide @ wide.T


# ── neighbours ──────────────────────────────────────────────────────────────────────────────────────────────────────


def brute(vectors: np.ndarray, asked: np.ndarray, k: int) -> np.ndarray:
    far = distances(vectors)
    np.fill_diagonal(far, np.inf)
    return np.sort(far[asked], axis=1)[:, :k].mean(axis=1)


@pytest.mark.parametrize("k", [1, 5, 29])
def test_neighbours_agree_with_brute_force_across_chunks_and_blocks(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    monkeypatch.setattr(knn, "CHUNK", 33)
    monkeypatch.setattr(knn, "BLOCK", 7)
    vectors = units(200)
    asked = np.random.default_rng(1).permutation(200)[:60]
    assert nearest(vectors, asked, k) == pytest.approx(brute(vectors, asked, k), abs=1e-5)


def test_places_among_some_rows_are_not_taken_for_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "CHUNK", 16)
    vectors = units(120)
    among = np.random.default_rng(2).permutation(120)[:50]
    asked = np.array([49, 0, 17, 18])
    found = nearest(vectors, asked, 3, among)
    assert found == pytest.approx(brute(vectors[among], asked, 3), abs=1e-5)
    mixed_up = brute(vectors, asked, 3)
    assert np.abs(found - mixed_up).max() > 0.01, "the test cannot tell places from rows"


def test_an_equal_text_is_a_neighbour_and_the_text_itself_is_not() -> None:
    vectors = np.concatenate([units(30), units(30)[:1]])
    assert nearest(vectors, np.array([0, 30, 1]), 1)[:2] == pytest.approx([0, 0], abs=1e-6)
    assert nearest(vectors, np.array([1]), 1)[0] > 0.01


def test_more_neighbours_than_others_are_refused() -> None:
    with pytest.raises(ValueError, match="3 neighbours among 3"):
        nearest(units(3), np.arange(3), 3)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("kind", ["random", "copies", "clustered"])
def test_torch_gives_the_same(kind: str) -> None:
    vectors = units(1_500, 32)
    if kind == "copies":
        vectors = vectors[np.arange(1_500) % 40]
    if kind == "clustered":
        vectors = vectors[np.arange(1_500) % 9] + np.float32(0.004) * units(1_500, 32, 3)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    among = np.random.default_rng(4).permutation(1_500)[:1_331]
    asked = np.random.default_rng(5).permutation(1_331)[:700]
    for k in (1, 10):
        told = by_torch(vectors, asked, k, "cpu", among)
        assert told == pytest.approx(nearest(vectors, asked, k, among), abs=1e-5)
    few = vectors[:7]
    assert by_torch(few, np.arange(7), 5, "cpu") == pytest.approx(nearest(few, np.arange(7), 5), abs=1e-5)


# ── within a mix ────────────────────────────────────────────────────────────────────────────────────────────────────


def by_hand(vectors: np.ndarray, topics: list[str | None]) -> tuple[float, float]:
    """Mean over texts of the mean distance to their mix, and mean over pairs of different mixes."""
    far = distances(vectors)
    of = {name: [i for i, topic in enumerate(topics) if topic == name] for name in set(topics) - {None}}
    of = {name: rows for name, rows in of.items() if len(rows) > 1}
    each = [np.mean([far[i, j] for j in rows if j != i]) for rows in of.values() for i in rows]
    apart = [far[i, j] for a, b in combinations(of.values(), 2) for i in a for j in b]
    return float(np.mean(each)), float(np.mean(apart))


def test_within_and_across_mixes_agree_with_brute_force_however_rows_lie() -> None:
    vectors = units(90) + np.repeat(3 * units(3, seed=9), 30, axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    topics: list[str | None] = [f"t{i // 30}" for i in range(90)]
    topics[5], topics[40] = None, "t3"  # on no axis, and alone in its mix
    turn = np.random.default_rng(1).permutation(90)
    vectors, topics = vectors[turn], [topics[i] for i in turn]
    own, apart = by_hand(vectors, topics)
    found = named(Spread().measure(sample(vectors, topics)))["mean distance within a mix"]
    assert (found.value, found.control) == (pytest.approx(own, abs=1e-6), pytest.approx(apart, abs=1e-6))
    assert found.n == 88
    # What a mix-up of places within the mix and rows of the sample would give: the first 30 rows for every mix.
    wrong = distances(vectors)[:30, :30][np.triu_indices(30, 1)].mean()
    assert abs(wrong - own) > 0.1, "the test cannot tell them apart"
    mixes = _mixes(sample(vectors, topics))
    assert mixes is not None
    assert [{topics[i] for i in mixes.rows[mixes.mix == mix]} for mix in range(3)] == [{"t0"}, {"t1"}, {"t2"}]


def test_the_interval_within_mixes_is_the_jackknife_of_brute_force() -> None:
    vectors, topics = units(24), [f"t{i}" for i in (0, 0, 0, 1, 1, 1, 1, 2, 2, *[3] * 15)]
    without = np.array([by_hand(np.delete(vectors, i, 0), topics[:i] + topics[i + 1 :])[0] for i in range(24)])
    spread = 1.959964 * np.sqrt(23 * without.var())
    value, interval, _ = within(vectors, np.arange(24), np.array([int(topic[1]) for topic in topics]))
    assert interval == pytest.approx((value - spread, value + spread), abs=1e-6)


def test_one_mix_has_nothing_across_and_lone_texts_are_too_few() -> None:
    found = named(Spread().measure(sample(units(40), ["t0"] * 40)))["mean distance within a mix"]
    assert found.value == pytest.approx(distances(units(40))[np.triu_indices(40, 1)].mean(), abs=1e-6)
    assert found.control is None
    few = named(Spread().measure(sample(units(40), [None] * 38 + ["t0", "t0"])))["mean distance within a mix"]
    assert (few.value, few.note) == (None, "too few: 2 texts that share a mix, needs 20")
    assert named(Spread().measure(sample(units(5), ["t0"] * 5)))["mean distance within a mix"].value is None


def test_columns_given_as_axes_make_mixes_and_without_any_there_is_no_line() -> None:
    table = pl.DataFrame({"text": [" ".join(map(repr, map(float, row))) for row in units(60)], "model": [1, 2, 3] * 20})
    lone = Spread().measure(sample_of_file(table, "text", Given(), of="rows"))
    assert [one.name for one in lone] == ["mean pairwise distance", "mean distance to 5 nearest"]
    found = named(Spread().measure(sample_of_file(table, "text", Given(), of="rows", axes=["model"])))
    assert "model: 60 texts in 3 mixes" in found["mean distance within a mix"].note


def test_of_very_many_mixes_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qdcgen.metrics.spread.MIXES", 10)
    assert MIXES == 50_000
    tree = Taxonomy("topic", tuple(Node(f"t{i:02}", f"t{i:02}", f"t{i:02}", 0) for i in range(30)))
    table = replace(sample(units(90), [f"t{i % 30:02}" for i in range(90)]), taxonomies={"topic": tree})
    found = named(Spread().measure(table))["mean distance within a mix"]
    assert (found.n, found.note) == (30, "topic: 90 texts in 30 mixes of two or more, 10 of which were looked at")
    assert found.interval is not None
    assert found.interval[0] < 1 < found.interval[1]


# ── properties ──────────────────────────────────────────────────────────────────────────────────────────────────────

points = st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3).filter(any), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None)
@given(points, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing_and_all_is_in_range(rows: list[list[int]], random: object) -> None:
    vectors = np.array(rows, dtype=np.float32)
    topics: list[str | None] = [f"t{sum(row) % 4}" for row in rows]
    turn = list(range(len(rows)))
    random.shuffle(turn)  # type: ignore[attr-defined]
    one = measure([sample(vectors, topics)], [Spread()])
    other = measure([sample(vectors[turn], [topics[i] for i in turn])], [Spread()])
    for a, b in zip(one, other, strict=True):
        assert (a.name, a.n, a.note, a.value is None) == (b.name, b.n, b.note, b.value is None)
        if a.value is not None and b.value is not None:
            assert a.value == pytest.approx(b.value, abs=1e-6)
            assert 0 <= a.value <= 2
            assert a.interval is not None
            assert a.interval[0] <= a.value + 1e-9
            assert a.value - 1e-9 <= a.interval[1]


def test_copies_lower_every_distance_at_fixed_n() -> None:
    vectors = units(200)
    topics: list[str | None] = [f"t{i % 4}" for i in range(200)]
    before = measure([sample(vectors, topics)], [Spread()])
    for share in (0.2, 0.5, 0.9):
        copied = vectors.copy()
        gone = round(share * 200)
        copied[:gone] = vectors[np.arange(gone) % 4 + 196]
        after = measure([sample(copied, topics)], [Spread()])
        for a, b in zip(before, after, strict=True):
            assert a.value is not None
            assert b.value is not None
            assert b.value < a.value, (share, a.name)
        before = after
