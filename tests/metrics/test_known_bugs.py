"""Known bugs of public tools: in the smallest case where a buggy variant gives another value, ours is the right one."""

from __future__ import annotations

import asyncio
import json
import math
import re
import zlib
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from qdcgen.bradley_terry import Batch, compared, fit
from qdcgen.knn import nearest
from qdcgen.measure import sample_of
from qdcgen.metrics.clusters import summary
from qdcgen.metrics.lexical import compression_ratio, distinct, self_repetition
from qdcgen.metrics.near_duplicates import NearDuplicates
from qdcgen.metrics.nodes import Nodes
from qdcgen.metrics.spread import pairwise as distances
from qdcgen.metrics.spread import within
from qdcgen.metrics.vendi import Vendi
from qdcgen.parts import Embedder
from qdcgen.ratings import score
from qdcgen.rows import Node, Reply, Taxonomy
from qdcgen.same import classes, linked
from qdcgen.spectrum import vendi, vendi_of_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TWO_ALIKE = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
"""Four texts that say three things."""


class Words(Embedder):
    """A text's words, counted."""

    @property
    def label(self) -> str:
        return "words"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        known = sorted({word for text in texts for word in text.split()})
        counts = np.array([[text.split().count(word) for word in known] for text in texts], dtype=np.float32)
        return np.asarray(counts / np.linalg.norm(counts, axis=1, keepdims=True), dtype=np.float32)


def disjoint(n: int) -> list[str]:
    """Texts of which no two share a word."""
    return [" ".join(f"w{text}x{word}" for word in range(6)) for text in range(n)]


# ── a count that begins at 0 ────────────────────────────────────────────────────────────────────────────────────────


def test_classes_are_counted_and_not_numbered_from_0() -> None:
    numbers = np.arange(len(TWO_ALIKE))
    labels = linked(TWO_ALIKE, numbers, 0.9)
    from_0 = np.unique(labels, return_inverse=True)[1]
    buggy = int(from_0.max())  # the last number of labels that begin at 0, as in stored "distinct" columns
    assert (buggy, classes(TWO_ALIKE, numbers, 0.9)[0]) == (2, 3)
    assert classes(TWO_ALIKE[:1], numbers[:1], 0.9) == (1, 1.0), "one text is one class, not none"


def test_clusters_and_distinct_words_are_counted_and_not_numbered_from_0() -> None:
    labels = np.array([0, 0, 1, 1, 2, -1])
    assert (int(labels.max()), summary(labels)[0]) == (2, 3)
    assert distinct(["a b c"], 1) == 1.0
    assert distinct(["a a a a"], 1) == 1 / 4, "the last number from 0 would be 0"


# ── an order q that is ignored ──────────────────────────────────────────────────────────────────────────────────────


def test_the_order_q_is_not_ignored_for_vectors_nor_for_kernels() -> None:
    def buggy(vectors: Any, _q: float) -> float:  # the order is accepted and not passed on
        return vendi_of_vectors(vectors)

    shares = np.array([0.5, 0.25, 0.25])  # eigenvalues: two texts alike and two that are not
    expected = {1.0: math.exp(-(shares * np.log(shares)).sum()), 2.0: 1 / (shares**2).sum(), math.inf: 2.0}
    for q, value in expected.items():
        assert vendi_of_vectors(TWO_ALIKE, q) == pytest.approx(value)
        assert vendi(TWO_ALIKE @ TWO_ALIKE.T, q) == pytest.approx(value)
        assert (buggy(TWO_ALIKE, q) == pytest.approx(value)) == (q == 1)


def test_the_three_lines_of_the_report_have_three_orders() -> None:
    texts = [f"{'same' if number < 20 else f'word{number}'} text" for number in range(40)]
    found = Vendi().measure(sample_of(pl.DataFrame({"text": texts}), "text", Words()))
    values = [one.value for one in found]
    assert all(value is not None for value in values)
    assert values[0] > 1.2 * values[1] > 1.2 * values[2]  # type: ignore[operator]


# ── a ceiling that a temperature makes ──────────────────────────────────────────────────────────────────────────────


def softmaxed(vectors: NDArray[np.floating[Any]], tau: float) -> float:
    """Σ over texts of the probability that a softmax over cosines gives the text itself."""
    odds = np.exp(vectors @ vectors.T / tau)
    return float((np.diag(odds) / odds.sum(axis=1)).sum())


@pytest.mark.parametrize("n", [10, 30, 1_000])
def test_a_count_of_different_texts_has_no_ceiling_below_n(n: int) -> None:
    vectors = np.eye(n)
    assert softmaxed(vectors, tau=1) < math.e, "at τ = 1 no set of unit vectors gets beyond e"
    assert vendi_of_vectors(vectors) == pytest.approx(n)
    assert vendi_of_vectors(vectors, math.inf) == pytest.approx(n)
    if n <= 30:
        assert classes(vectors.astype(np.float32), np.arange(n), 0.5)[0] == n


# ── ancestors that are not credited ─────────────────────────────────────────────────────────────────────────────────


def test_a_row_on_a_leaf_covers_the_nodes_above_it() -> None:
    tree = Taxonomy(
        "topic",
        (
            Node("1", "cards", "cards", 0),
            Node("11", "lost", "cards/lost", 1, "1"),
            Node("111", "abroad", "cards/lost/abroad", 2, "11"),
            Node("2", "loans", "loans", 0),
        ),
    )
    table = pl.DataFrame({"text": ["x"], "topic": ["cards/lost/abroad"]})
    found = {
        one.name: one.value for one in Nodes().measure(sample_of(table, "text", Words(), taxonomies={"topic": tree}))
    }
    named = set(table["topic"])
    buggy = sum(node.path in named for node in tree.nodes if node.depth == 0) / 2  # only what a row names itself
    assert (buggy, found["nodes of level 1"], found["nodes of level 2"]) == (0.0, 0.5, 1.0)


# ── places within a batch, a mix or a subset, taken for rows ────────────────────────────────────────────────────────


def test_scores_of_a_batch_go_to_the_texts_shown_and_not_to_texts_of_those_numbers() -> None:
    texts = [f"worth {number}" for number in range(30)]
    asked: list[list[int]] = []

    async def ask(_alias: str, messages: Sequence[Any], **_: Any) -> Reply:
        shown = [int(number) for number in re.findall(r"worth (\d+)", messages[1]["content"])]
        asked.append(shown)
        said = {"compared": "x", "scores": [{"text": at, "score": 1 + worth} for at, worth in enumerate(shown, 1)]}
        return Reply(json.dumps(said), "critic", parsed=said)

    found = asyncio.run(score(texts, {}, ask, "critic", critic="critic"))
    truth = np.array([int(text.removeprefix("worth ")) for text in found.texts])
    ours = fit(30, compared(found.batches)).ratings
    local = [Batch(tuple(range(len(batch.items))), batch.scores, batch.round) for batch in found.batches]
    buggy = fit(30, compared(local)).ratings
    assert np.corrcoef(ours, truth)[0, 1] > 0.97
    assert abs(np.corrcoef(buggy, truth)[0, 1]) < 0.6
    assert np.count_nonzero(np.abs(buggy - np.median(buggy)) > 1e-9) <= 5, "all is said of texts 0 to 4"


def test_rows_of_a_mix_are_rows_of_the_sample_and_not_places_in_the_mix() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], dtype=np.float32)
    rows, mix = np.array([2, 3]), np.array([0, 0])
    assert within(vectors, rows, mix)[0] == pytest.approx(0), "rows 2 and 3 are alike"
    assert within(vectors, np.arange(len(rows)), mix)[0] == pytest.approx(1), "rows 0 and 1 are not"


def test_neighbours_are_sought_among_the_rows_named_and_a_text_is_not_its_own() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    among = np.array([4, 2, 3])  # -x, x, y
    ours = nearest(vectors, np.arange(3), 1, among)
    assert ours == pytest.approx([1, 1, 1])
    assert nearest(vectors[: len(among)], np.arange(3), 1) == pytest.approx([0, 1, 0]), "places taken for rows"


# ── ratings that only neighbours make ───────────────────────────────────────────────────────────────────────────────


def elo(batches: Sequence[Batch], n: int, step: float = 32) -> NDArray[np.float64]:
    """Elo ratings from comparisons of neighbours in the order shown, batch by batch."""
    ratings = np.zeros(n)
    for batch in batches:
        for (one, high), (other, low) in pairwise(zip(batch.items, batch.scores, strict=True)):
            assert high is not None
            assert low is not None
            won = 1.0 if high > low else 0.5 if high == low else 0.0
            gain = step * (won - 1 / (1 + 10 ** ((ratings[other] - ratings[one]) / 400)))
            ratings[one] += gain
            ratings[other] -= gain
    return ratings


def test_every_pair_of_a_batch_is_compared_and_the_order_shown_does_not_matter() -> None:
    batch = Batch((0, 1, 2, 3, 4), (50, 10, 40, 20, 30))
    turned = Batch(batch.items[::-1], batch.scores[::-1])
    moved = Batch((1, 3, 4, 2, 0), (10, 20, 30, 40, 50))
    assert len(compared([batch]).first) == len(list(combinations(batch.items, 2))) == 10
    by_score = [1, 3, 4, 2, 0]
    for one in (batch, turned, moved):
        assert np.argsort(fit(5, compared([one])).ratings).tolist() == by_score
        assert fit(5, compared([one])).ratings == pytest.approx(fit(5, compared([batch])).ratings)
    assert np.argsort(elo([batch], 5)).tolist() != by_score, "2 and 4 beat their neighbours alike, whatever they got"
    assert elo([batch], 5) != pytest.approx(elo([moved], 5))


def test_the_order_of_batches_does_not_matter() -> None:
    batches = [Batch((0, 1), (2, 1)), Batch((1, 2), (2, 1)), Batch((2, 0), (2, 1)), Batch((0, 1), (2, 1))]
    assert elo(batches, 3) != pytest.approx(elo(batches[::-1], 3))
    assert fit(3, compared(batches)).ratings == pytest.approx(fit(3, compared(batches[::-1])).ratings)


# ── compressed twice ────────────────────────────────────────────────────────────────────────────────────────────────


def test_texts_are_compressed_once() -> None:
    texts = ["the cat sat on the mat today"] * 20_000
    joined = " ".join(texts).encode()
    once = zlib.compress(joined, 9)
    twice = zlib.compress(once, 9)
    assert compression_ratio(texts) == pytest.approx(len(joined) / len(once))
    assert len(joined) / len(twice) > 1.2 * compression_ratio(texts), "what is repetitive looks more so"
    few = ["a short text that does not repeat"]
    told = " ".join(few).encode()
    assert len(told) / len(zlib.compress(zlib.compress(told, 9), 9)) < compression_ratio(few), "and this one less"


# ── 1.0 for texts that share nothing ────────────────────────────────────────────────────────────────────────────────


def overlap(texts: Sequence[str]) -> float:
    """Mean share of words that two texts have in common, over pairs that have any; 1 where none has."""
    shares = []
    for one, other in combinations([set(text.split()) for text in texts], 2):
        if one & other:
            shares.append(len(one & other) / len(one | other))
    return sum(shares) / len(shares) if shares else 1.0


@pytest.mark.parametrize("n", [25, 60])
def test_texts_that_share_nothing_are_as_unlike_as_can_be(n: int) -> None:
    texts = disjoint(n)
    assert overlap(texts) == 1.0 == overlap(["one and the same"] * n), "nothing shared reads like everything shared"
    assert self_repetition(texts) == (0.0, 0.0)
    assert distinct(texts, 1) == 1.0
    vectors = Words().embed(texts)
    assert distances(vectors)[0] == pytest.approx(1)
    assert vendi_of_vectors(vectors) == pytest.approx(n)
    found = NearDuplicates().measure(sample_of(pl.DataFrame({"text": texts}), "text", Words()))
    assert [one.value for one in found] == [0.0, 0.0]
