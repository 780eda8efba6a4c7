"""Metric `vendi`: the effective number of different texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from qdcgen.intervals import SIZES, canonical, clamp, rarefied
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

ROUNDING = 1e-12

ORDERS = ((1.0, "Vendi score"), (2.0, "Vendi score, q=2"), (math.inf, "Vendi score, q=∞"))


class Vendi(Metric):
    """Effective number of different texts among a fixed number: e to the entropy of the similarities' eigenvalues.

    VS_q = (Σ λ^q)^(1/(1-q)), VS_1 = exp(-Σ λ ln λ), VS_∞ = 1/max λ, with λ the eigenvalues of K/n and K the cosines of
    the texts (Friedman and Dieng 2023, arXiv 2210.02410, §3; orders: Pasarkar and Dieng 2024, arXiv 2310.12952). From 1
    (all alike) to n. Small q counts rare texts, q=∞ only the commonest direction. With vectors of d numbers the d×d
    matrix has the same eigenvalues, so n costs nothing. Taken at the largest of 30, 100, 300, 1,000, … texts that every
    population has, up to `texts`; mean of 10 random subsets; intervals by subsampling without replacement.

    What makes it lie: it grows with n and is at most d, so only figures at the same n and embedder compare; cosines
    that are high throughout (most transformers) squeeze it towards 1.
    """

    table: ClassVar[str] = "diversity"
    evened: ClassVar[bool] = True
    gates: ClassVar[tuple[str, ...]] = ("vendi_score",)
    short: ClassVar[str | None] = "texts"

    texts: int = Field(default=1_000, ge=30, le=10_000)
    """Texts that the score is taken at, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """The score for q = 1, 2 and ∞."""
        n = len(sample.texts)
        room = min(self.texts, sample.equal_n or n)
        at = max((size for size in SIZES if size <= room), default=0)
        if not at or n < at:
            note = f"too few: {plural(n, 'text')}, needs {at or SIZES[0]}"
            return [
                Measure(
                    "diversity",
                    name,
                    None,
                    unit="texts",
                    range=(1.0, float(at or SIZES[0])),
                    n=n,
                    of=sample.of,
                    embedder=sample.embedder,
                    note=note,
                )
                for _, name in ORDERS
            ]
        vectors, order = sample.vectors(), canonical(sample.texts)

        def scores(rows: NDArray[np.int64]) -> list[float]:
            spectrum = _spectrum(vectors[order[rows]])
            return [effective(spectrum, q) for q, _ in ORDERS]

        values, intervals = rarefied(n, at, scores, seed=sample.seed)
        return [
            Measure(
                "diversity",
                name,
                value,
                unit="texts",
                range=(1.0, float(at)),
                n=at,
                interval=clamp(interval, 1.0, float(at)) if interval else None,
                of=sample.of,
                embedder=sample.embedder,
                note=f"at {at} of {n} texts; at most {min(at, vectors.shape[1])}",
            )
            for (_, name), value, interval in zip(ORDERS, values, intervals, strict=True)
        ]


def effective(spectrum: NDArray[np.floating[Any]], q: float) -> float:
    """Effective number of an eigenvalue spectrum that sums to 1: the Hill number of order q ≥ 0, in [1, len]."""
    import numpy as np

    kept = spectrum[spectrum > ROUNDING]
    kept = kept / kept.sum()
    if q == 1:
        return float(np.exp(-(kept * np.log(kept)).sum()))
    if math.isinf(q):
        return float(1 / kept.max())
    return float((kept**q).sum() ** (1 / (1 - q)))


def vendi(kernel: Any, q: float = 1.0) -> float:
    """Vendi score of an (n, n) similarity matrix with ones on its diagonal, in [1, n].

    Raises:
        ValueError: the matrix is empty, not square, not symmetric, or its diagonal is not 1.
    """
    import numpy as np

    k = np.asarray(kernel, dtype=np.float64)
    square = k.size > 0 and k.shape == (len(k), len(k))
    if not square or not np.allclose(k, k.T) or not np.allclose(np.diag(k), 1):
        message = "a similarity matrix is square and symmetric, with ones on its diagonal"
        raise ValueError(message)
    return effective(np.linalg.eigvalsh(k / len(k)), q)


def vendi_of_vectors(vectors: Any, q: float = 1.0) -> float:
    """Vendi score of (n, d) unit vectors under cosine similarity, in [1, min(n, d)]. O(min(n, d)³ + n·d·min(n, d)).

    Raises:
        ValueError: there are no vectors.
    """
    import numpy as np

    found = np.asarray(vectors, dtype=np.float64)
    if not found.size:
        message = "no vectors"
        raise ValueError(message)
    return effective(_spectrum(found), q)


def _spectrum(vectors: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Eigenvalues of K/n, ascending; of the smaller of the n×n and the d×d matrix, which share all that are not 0."""
    import numpy as np

    found = vectors.astype(np.float64)
    small = found.T @ found if found.shape[0] > found.shape[1] else found @ found.T
    return np.linalg.eigvalsh(small / len(found))
