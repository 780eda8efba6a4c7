"""Metric `clusters`: how many dense groups the texts make up."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import PARTS, T_19, canonical, clamp
from qdcgen.likeness import groups
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

LEAST = 200
"""Below 200 texts a cluster of 0.5 % would be a single text."""

ALIKE = 0.9
"""Similarity of letters from which texts are one."""

DRAWS = 3
"""Samples that the figure is the geometric mean of, where there are more texts than it is taken at."""

DIMENSIONS = 15
"""HDBSCAN's trees compare all pairs in hundreds of dimensions; at 15, 10,000 texts take 1 s."""


class Clusters(Metric):
    """Effective number of dense groups that the texts make up, a text in none of them being a group of its own.

    Near-duplicates (similarity of letters of 0.9, see qdcgen/likeness.py) are taken as one text with their weight.
    HDBSCAN (Campello et al. 2013; McInnes et al. 2017, JOSS 2:205), leaf clusters, on the first 15 principal components
    of the unit vectors, Euclidean; smallest cluster max(5, 0.5 % of the texts), so that the figure shrinks with n as
    little as it can. exp(-Σ p ln p) over the shares p of clusters and single texts (the Hill number of order 1), from 1
    to n. Taken at `texts` texts at most, chosen by seed. The interval is what 20 samples of half the texts differ by,
    in proportion, not scaled down to their size: the figure of a larger sample is hardly surer. The note has the
    number of clusters, the largest one's share and the share in none. By themselves these are no measures of
    diversity: texts that collapse into copies of a few have more clusters than before, and one no larger.

    What makes it lie: density clusters are an estimate, and two samples of the same texts may differ by half, as the
    interval says; texts spread evenly over a wide field have no clusters, which is not a fault.
    """

    table: ClassVar[str] = "diversity"
    evened: ClassVar[bool] = True
    gates: ClassVar[tuple[str, ...]] = ("effective_groups",)

    texts: int = Field(default=4_000, ge=LEAST, le=10_000)
    """Texts that are clustered, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """The one figure."""
        import numpy as np

        n = len(sample.texts)
        at = min(self.texts, sample.equal_n or n)
        blank = Measure(
            "diversity", "effective groups", None, "groups", (1.0, math.inf), n, of=sample.of, embedder=sample.embedder
        )
        if n < LEAST or n < at or at < LEAST:
            note = f"too few: {plural(min(n, at), 'text')}, needs {LEAST if n >= at else at}"
            return [replace(blank, note=note)]
        vectors, order = sample.vectors(), canonical(sample.texts)
        rng = np.random.default_rng(sample.seed)

        def drawn(size: int) -> NDArray[np.int64]:
            rows = order[rng.permutation(n)[:size]]
            return grouped([sample.texts[i] for i in rows.tolist()], vectors[rows])

        labels = [drawn(at) for _ in range(DRAWS if at < n else 1)]
        value = float(np.exp(np.mean([math.log(effective(one)) for one in labels])))
        size = min(at, n // 2, 1_000)
        parts = np.log([effective(drawn(size)) for _ in range(PARTS)])
        spread = T_19 * max(float(parts.std(ddof=1)), size**-0.5)
        count, largest, alone = summary(labels[0])
        found = f"{count} cluster{'' if count == 1 else 's'} of {smallest(at)} texts or more"
        note = f"{found}, the largest {largest:.0%}, {alone:.0%} in none; at {at} of {n} texts"
        span = (1.0, float(at))
        interval = clamp((value / math.exp(spread), value * math.exp(spread)), *span)
        return [replace(blank, value=value, range=span, n=at, interval=interval, note=note)]


def grouped(texts: Sequence[str], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Cluster of each text; texts in none have numbers below 0, near-duplicates the same one."""
    import numpy as np

    first = np.array(groups(texts, ALIKE), dtype=np.int64)
    apart, place = np.unique(first, return_inverse=True)
    labels = cluster(vectors[apart], smallest(len(texts)))
    return np.where(labels < 0, -1 - np.arange(len(apart)), labels)[place]


def effective(labels: NDArray[np.int64]) -> float:
    """The exponential of the entropy over the shares of equal labels, in [1, n]; 0 for none."""
    import numpy as np

    if not len(labels):
        return 0.0
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return min(float(len(labels)), float(np.exp(-(shares * np.log(shares)).sum())))


def summary(labels: NDArray[np.int64]) -> tuple[int, float, float]:
    """Clusters, the largest one's share of all, the share in none."""
    import numpy as np

    sizes = np.unique(labels[labels >= 0], return_counts=True)[1]
    n = max(1, len(labels))
    return len(sizes), float(sizes.max() / n) if len(sizes) else 0.0, float((labels < 0).sum() / n)


def smallest(n: int) -> int:
    """Smallest cluster allowed among n texts."""
    return max(5, n // 200)


def cluster(vectors: NDArray[np.float32], least: int) -> NDArray[np.int64]:
    """Cluster number of each row, -1 for none."""
    import numpy as np

    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    if values[-1] < 1e-12:  # noqa: PLR2004  (rounding of 64-bit sums)
        return np.zeros(len(vectors), dtype=np.int64)  # all alike: one cluster, and no density to speak of
    if len(vectors) <= 2 * least:
        return np.full(len(vectors), -1, dtype=np.int64)
    return _dense(np.ascontiguousarray(centred @ axes[:, -DIMENSIONS:]), least)


def _dense(points: NDArray[np.float64], least: int) -> NDArray[np.int64]:
    """HDBSCAN labels of (n, ≤ 15) points."""
    import numpy as np
    from hdbscan import HDBSCAN

    # The exact spanning tree: the approximate one depends on the order of the rows. Repeats are at distance 0, whose
    # density is infinite: it divides by 0, and means it. Leaves of its tree: its own choice of the largest clusters put
    # 3 % of self_instruct's outputs in none in one sample, 66 % in the next.
    with np.errstate(divide="ignore", invalid="ignore"):
        labels: NDArray[np.int64] = HDBSCAN(
            min_cluster_size=least, approx_min_span_tree=False, core_dist_n_jobs=1, cluster_selection_method="leaf"
        ).fit_predict(points)
    return labels
