"""The cluster figures are the library's, on the same points, by two implementations."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from qdcgen.measure import measure, sample_of
from qdcgen.metrics.clusters import DIMENSIONS, Clusters, cluster, smallest, summary
from qdcgen.parts import Embedder
from qdcgen.rows import Measure


class Seeded(Embedder):
    """`3 17`: near centre 3, by noise 17."""

    @property
    def label(self) -> str:
        return "seeded"

    def embed(self, texts: list[str]) -> np.ndarray:
        return vectors([tuple(map(int, text.split())) for text in texts])


def vectors(places: list[tuple[int, int]]) -> np.ndarray:
    centres = np.random.default_rng(0).normal(size=(50, 40))
    found = np.stack([
        centres[centre] + 0.25 * np.random.default_rng(noise).normal(size=40) for centre, noise in places
    ])  # fmt: skip
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist()) if label >= 0}


PLACES = [(i % 6, i) for i in range(300)] + [(6 + i % 44, 1_000 + i) for i in range(30)]


def test_labels_are_those_of_the_library_on_its_own_principal_components() -> None:
    from hdbscan import HDBSCAN
    from sklearn import cluster as sklearn
    from sklearn.decomposition import PCA

    given = vectors(PLACES)
    ours = cluster(given, smallest(len(given)))
    points = PCA(DIMENSIONS, svd_solver="full").fit_transform(given.astype(np.float64))
    theirs = HDBSCAN(
        min_cluster_size=smallest(len(given)), approx_min_span_tree=False, cluster_selection_method="leaf"
    ).fit_predict(points)
    assert partition(ours) == partition(theirs)
    assert ((ours < 0) == (theirs < 0)).all()
    third = sklearn.HDBSCAN(
        min_cluster_size=smallest(len(given)), copy=True, cluster_selection_method="leaf"
    ).fit_predict(points)
    assert summary(third) == pytest.approx(summary(ours), abs=0.02)
    assert len(partition(ours)) == 6


def found(places: list[tuple[int, int]]) -> Measure:
    table = pl.DataFrame({"text": [f"{a} {b}" for a, b in places]})
    (one,) = measure([sample_of(table, "text", Seeded())], [Clusters()])
    return one


def test_planted_groups_are_counted_whatever_the_order() -> None:
    planted = found(PLACES)
    shares = np.array([50 / 330] * 6 + [1 / 330] * 30)
    assert planted.value == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=0.1)
    assert planted.note.startswith("6 clusters of 5 texts or more, the largest 1")
    shuffled = [PLACES[i] for i in np.random.default_rng(2).permutation(len(PLACES))]
    assert found(shuffled).value == planted.value


def test_the_more_of_the_texts_are_copies_of_a_few_the_fewer_groups_there_are() -> None:
    rng = np.random.default_rng(3)
    spread = [(6 + i % 44, 1_000 + i) for i in range(300)]
    values = []
    for share in (0.0, 0.3, 0.6, 0.9):
        copied = rng.permutation(300)[: int(share * 300)]
        places = list(spread)
        for i in copied.tolist():
            places[i] = spread[int(rng.integers(5))]
        values.append(found(places).value)
    assert values == sorted(values, reverse=True)
    assert values[-1] < 12
    assert found([(1, 1)] * 330).value == 1
