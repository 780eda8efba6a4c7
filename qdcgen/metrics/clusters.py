"""Metric `clusters`: how many dense groups the texts fall into, and how large the largest is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import canonical, clamp, rarefied
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

LEAST = 200
"""Below 200 texts a cluster of 0.5 % would be a single text."""

DIMENSIONS = 15
"""HDBSCAN's trees compare all pairs in hundreds of dimensions; at 15, 10,000 texts take 1 s."""


class Clusters(Metric):
    """Number of clusters, the largest one's share, the share in none, and how evenly the clustered texts are spread.

    HDBSCAN (Campello et al. 2013; McInnes et al. 2017, JOSS 2:205) on the first 15 principal components of the unit
    vectors, Euclidean; smallest cluster max(5, 0.5 % of the texts), so that the figures shrink with n as little as they
    can. Evenness = entropy over clusters / ln clusters. Taken at `texts` texts at most, chosen by seed; intervals by
    subsampling without replacement.

    What makes it lie: density clusters are an estimate, and the number moves with the smallest cluster allowed; texts
    spread evenly over a wide field have no clusters and are all "in none", which is not a fault.
    """

    table: ClassVar[str] = "diversity"
    gates: ClassVar[tuple[str, ...]] = ("clusters", "largest_cluster", "in_no_cluster", "cluster_evenness")

    texts: int = Field(default=4_000, ge=LEAST, le=10_000)
    """Texts that are clustered, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Clusters, largest cluster, in no cluster, evenness over clusters."""
        n = len(sample.texts)
        at = min(self.texts, sample.equal_n or n)
        names = ("clusters", "largest cluster", "in no cluster", "cluster evenness")
        units = ("clusters", "", "", "")
        ranges = ((0.0, math.inf), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
        if n < LEAST or n < at or at < LEAST:
            note = f"too few: {min(n, at)} texts, needs {LEAST}" if n >= at else f"too few: {n} texts, needs {at}"
            return [
                Measure(
                    "diversity",
                    name,
                    None,
                    unit=unit,
                    range=span,
                    n=n,
                    of=sample.of,
                    embedder=sample.embedder,
                    note=note,
                )
                for name, unit, span in zip(names, units, ranges, strict=True)
            ]
        vectors, order = sample.vectors(), canonical(sample.texts)

        def figures(rows: NDArray[np.int64]) -> list[float]:
            return list(summary(cluster(vectors[order[rows]])))

        values, intervals = rarefied(n, at, figures, seed=sample.seed, draws=1, most=1_000)
        return [
            Measure(
                "diversity",
                name,
                value,
                unit=unit,
                range=span,
                n=at,
                interval=clamp(interval, *span) if interval else None,
                of=sample.of,
                embedder=sample.embedder,
                note=f"at {at} of {n} texts, smallest cluster {smallest(at)}",
            )
            for name, unit, span, value, interval in zip(names, units, ranges, values, intervals, strict=True)
        ]


def smallest(n: int) -> int:
    """Smallest cluster allowed among n texts."""
    return max(5, n // 200)


def cluster(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Cluster number of each row, -1 for none."""
    import numpy as np

    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    if values[-1] < 1e-12:  # noqa: PLR2004  (rounding of 64-bit sums)
        return np.zeros(len(vectors), dtype=np.int64)  # all alike: one cluster, and no density to speak of
    points = np.ascontiguousarray(centred @ axes[:, -DIMENSIONS:])
    return _dense(points, smallest(len(points)))


def summary(labels: NDArray[np.int64]) -> tuple[float, float, float, float]:
    """Clusters, largest share of all, share in none, evenness (0 where there are fewer than two clusters)."""
    import numpy as np

    n = len(labels)
    sizes = np.bincount(labels[labels >= 0])
    sizes = sizes[sizes > 0]
    noise = float((labels < 0).mean()) if n else 0.0
    if not len(sizes):
        return 0.0, 0.0, noise, 0.0
    shares = sizes / sizes.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    even = min(1.0, entropy / math.log(len(sizes))) if len(sizes) > 1 else 0.0
    return float(len(sizes)), float(sizes.max() / n), noise, even


def _dense(points: NDArray[np.float64], least: int) -> NDArray[np.int64]:
    """HDBSCAN labels of (n, ≤ 15) points."""
    import numpy as np
    from hdbscan import HDBSCAN

    # The exact spanning tree: the approximate one depends on the order of the rows. Repeats are at distance 0, whose
    # density is infinite: it divides by 0, and means it.
    with np.errstate(divide="ignore", invalid="ignore"):
        labels: NDArray[np.int64] = HDBSCAN(
            min_cluster_size=least, approx_min_span_tree=False, core_dist_n_jobs=1
        ).fit_predict(points)
    return labels
