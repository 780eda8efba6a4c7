"""The cluster figures are the library's, on the same points, by two implementations."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from qdcgen.measure import measure, sample_of
from qdcgen.metrics.clusters import DIMENSIONS, Clusters, cluster, smallest, summary
from qdcgen.parts import Embedder


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
    ours = cluster(given)
    points = PCA(DIMENSIONS, svd_solver="full").fit_transform(given.astype(np.float64))
    theirs = HDBSCAN(min_cluster_size=smallest(len(given)), approx_min_span_tree=False).fit_predict(points)
    assert partition(ours) == partition(theirs)
    assert ((ours < 0) == (theirs < 0)).all()
    third = sklearn.HDBSCAN(min_cluster_size=smallest(len(given)), copy=True).fit_predict(points)
    assert summary(third)[:2] == pytest.approx(summary(ours)[:2], abs=0.02)
    assert len(partition(ours)) == 6


def test_planted_groups_are_counted_and_collapse_empties_them() -> None:
    def found(places: list[tuple[int, int]]) -> dict[str, float | None]:
        table = pl.DataFrame({"text": [f"{a} {b}" for a, b in places]})
        return {one.name: one.value for one in measure([sample_of(table, "text", Seeded())], [Clusters()])}

    planted = found(PLACES)
    assert planted["clusters"] == 6
    assert planted["largest cluster"] == pytest.approx(50 / 330, abs=0.01)
    shuffled = [PLACES[i] for i in np.random.default_rng(2).permutation(len(PLACES))]
    assert found(shuffled) == pytest.approx(planted)
    assert found([(1, 1)] * 330)["clusters"] == 1
