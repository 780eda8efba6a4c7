"""Metric `spread`: how far apart the texts lie, overall and from their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import FEW, T_19, Z, canonical, clamp, jackknife
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

    Vectors = NDArray[np.float32]

ASKED = 2_000
"""Texts whose neighbours are looked for, among all. Exact and seeded: 2 s at 100,000 texts, where an approximate index
of all of them took 6.5 s and gave other digits on every run with two threads."""

PART = 1_000
CELLS = 2_000_000
"""Cosines held at once: 8 MB."""
BLOCK = 250


class Spread(Metric):
    """Mean cosine distance over all pairs (global), and to the k nearest others (local).

    Global: 1 - (|Σv|² - n) / (n(n - 1)) for unit vectors v, exact over all pairs, in [0, 2]; it does not depend on n,
    and its interval is the jackknife's. Local: mean over texts of the mean distance to the `neighbours` nearest other
    texts, exact for 2,000 of them (all, where there are fewer) among all; it falls as n grows, so populations are
    compared at equal n; its interval joins the error of that sample and of 20 subsamples without replacement.

    What makes it lie: it is the embedder's view. A few far clusters of near-copies have a large global distance and a
    small local one, so read both; nonsense lies far from everything; length and language alone move both.
    """

    table: ClassVar[str] = "diversity"
    gates: ClassVar[tuple[str, ...]] = ("mean_pairwise_distance",)

    neighbours: int = Field(default=5, ge=1, le=100)
    """k, the nearest others that count as local."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Mean pairwise distance, mean k-nearest distance."""
        n = len(sample.texts)
        at = sample.equal_n or n
        names = ("mean pairwise distance", f"mean distance to {self.neighbours} nearest")
        least = max(FEW, self.neighbours + 2)
        if n < least:
            return [
                Measure(
                    "diversity",
                    name,
                    None,
                    unit="cosine",
                    range=(0.0, 2.0),
                    n=n,
                    of=sample.of,
                    embedder=sample.embedder,
                    note=f"too few: {n} texts, needs {least}",
                )
                for name in names
            ]
        vectors, order = sample.vectors(), canonical(sample.texts)
        overall, interval = pairwise(vectors)
        whole = Measure(
            "diversity",
            names[0],
            overall,
            unit="cosine",
            range=(0.0, 2.0),
            n=n,
            interval=interval,
            of=sample.of,
            embedder=sample.embedder,
            note="all pairs, exact",
        )
        if n < at:
            near = Measure(
                "diversity",
                names[1],
                None,
                unit="cosine",
                range=(0.0, 2.0),
                n=n,
                of=sample.of,
                embedder=sample.embedder,
                note=f"too few: {n} texts, needs {at}",
            )
            return [whole, near]
        local, spread, asked = self._local(vectors, order, at, sample.seed)
        near = Measure(
            "diversity",
            names[1],
            local,
            unit="cosine",
            range=(0.0, 2.0),
            n=at,
            interval=clamp((local - spread, local + spread), 0.0, 2.0) if spread is not None else None,
            of=sample.of,
            embedder=sample.embedder,
            note=f"{asked} texts among {at} of {n}, exact",
        )
        return [whole, near]

    def _local(self, vectors: Vectors, order: NDArray[np.int64], at: int, seed: int) -> tuple[float, float | None, int]:
        """Value, half width of its interval, and how many texts were asked for their neighbours."""
        import numpy as np

        n = len(vectors)
        rng = np.random.default_rng(seed)
        # `order` makes the choice depend on the texts alone; at full size the rows stay in place, a copy is 1 GB a
        # million.
        pool = vectors if at == n else vectors[order[rng.choice(n, at, replace=False)]]
        place = order if at == n else np.arange(at)
        asked = place if at <= ASKED else place[rng.choice(at, ASKED, replace=False)]
        distances = nearest(pool, asked, self.neighbours)
        value = float(distances.mean())
        part = min(at, n // 2, PART)
        if part <= self.neighbours + 1:
            return value, None, len(asked)
        means = []
        for _ in range(20):
            drawn = vectors[order[rng.choice(n, part, replace=False)]]
            means.append(float(nearest(drawn, np.arange(part), self.neighbours).mean()))
        unit = float(np.var(means, ddof=1)) / (1 / part - 1 / n)
        among = (T_19**2) * unit / at
        within = Z**2 * float(distances.var(ddof=1)) / len(asked) * (1 - len(asked) / at)
        return value, (among + within) ** 0.5, len(asked)


def pairwise(vectors: Vectors) -> tuple[float, tuple[float, float] | None]:
    """Mean cosine distance over all pairs of (n, dim) unit vectors, n ≥ 2, and its jackknife interval.

    O(n·dim): the sum of all n² inner products is the squared norm of the vectors' sum.
    """
    import numpy as np

    n = len(vectors)
    total = vectors.sum(axis=0, dtype=np.float64)
    norms = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    squares = float(norms.sum())
    value = 1 - (float(total @ total) - squares) / (n * (n - 1))
    value = min(max(value, 0.0), 2.0)
    if n < 3:  # noqa: PLR2004  (no pair is left when one is left out)
        return value, None
    # Block by block: at once it would copy all vectors to 64 bits, 200 MB for 100,000.
    blocks = [vectors[start : start + 8192].astype(np.float64) @ total for start in range(0, n, 8192)]
    along = np.concatenate(blocks)
    without = 1 - (float(total @ total) - 2 * along + norms - (squares - norms)) / ((n - 1) * (n - 2))
    interval = jackknife(value, without)
    return value, clamp(interval, 0.0, 2.0) if interval else None


def nearest(vectors: Vectors, asked: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Mean cosine distance from each asked row to its k nearest other rows, (len(asked),) in [0, 2]; exact."""
    import numpy as np

    found = np.empty(len(asked), dtype=np.float64)
    block = max(16, min(BLOCK, CELLS // len(vectors)))
    for start in range(0, len(asked), block):
        rows = asked[start : start + block]
        cosines = vectors[rows] @ vectors.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        cosines.partition(len(vectors) - k, axis=1)  # in place: a copy would double the peak
        found[start : start + block] = 1 - cosines[:, -k:].mean(axis=1, dtype=np.float64)
    return np.clip(found, 0.0, 2.0)
