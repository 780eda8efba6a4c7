"""Metric `vendi`: the effective number of different texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import SIZES, canonical, clamp, rarefied
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure
from qdcgen.spectrum import effective, spectrum_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

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
            spectrum = spectrum_of(vectors[order[rows]])
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
