"""Metric `facility`: how near the texts come to what they should stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from qdcgen.intervals import FEW, SIZES, Z, canonical, clamp, rarefied
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.intervals import Interval
    from qdcgen.parts import Sample

    Vectors = NDArray[np.float32]
    Rows = NDArray[np.int64]

READ = 500
"""Texts that are to be stood for, at most: their share of the interval is then 0.01 wide on banking77."""


class Facility(Metric):
    """Facility location: mean over texts to be stood for of the largest cosine with one of a fixed number of texts.

    f(S) = 1/|V| Σ_v max_s cos(v, s), in [-1, 1], higher is nearer; V is up to 500 texts of the anchor where there is
    one, else of everything made (raw), else of the file itself, and S is random texts of the population that are not
    in V, as many for each: the largest of 30, 100, 300, 1,000, … that all of them have, up to `texts`. Classic in
    operations research; as a measure of how a set stands for another, Lin and Bilmes 2011 (ACL, P11-1052). It adds what
    distances cannot: a set may lie far apart and still leave regions without anyone near. The control is as many other
    texts of the population that V is from: kept below it means that filters emptied regions of what was made, or, with
    an anchor, what other real texts would reach. Of a file alone V is its own, and the figure says how much its texts
    repeat each other's meaning: high is alike. The interval joins the choice of V and of S.

    What makes it lie: it forgives noise: texts far from everything cost nothing but their place in S; a mean hides a
    small region that nobody stands for; and it is the embedder's view.
    """

    table: ClassVar[str] = "diversity"
    evened: ClassVar[bool] = True
    gates: ClassVar[tuple[str, ...]] = ("facility_location",)
    short: ClassVar[str | None] = "texts"

    texts: int = Field(default=1_000, ge=30, le=10_000)
    """Texts that stand for others, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """The one figure."""
        import numpy as np

        of, whole = self._for(sample)
        n, others = len(sample.texts), len(whole.texts)
        least = min(sample.equal_n or n, others)
        read = min(READ, least // 2)
        # However many of V are in the population, this many others are left.
        at = max((size for size in SIZES if size <= min(self.texts, least - read)), default=0)
        told: dict[str, Any] = {
            "unit": "cosine",
            "range": (-1.0, 1.0),
            "of": sample.of,
            "embedder": sample.embedder,
        }
        if n < (sample.equal_n or 0) or not at or read < FEW:
            needs = max(2 * SIZES[0] - 1, sample.equal_n or 0)
            note = f"too few: {min(n, others)} texts, needs {needs}"
            return [Measure("diversity", "facility location", None, n=n, note=note, **told)]
        theirs, order = whole.vectors(), canonical(whole.texts)
        chosen = order[np.random.default_rng(sample.seed).permutation(others)]
        stood, rest = theirs[chosen[:read]], chosen[read:]
        pool = rest if whole is sample else _apart(sample, whole, chosen[:read])
        value, interval = _nearness(stood, sample.vectors(), pool, at, sample.seed)
        control = None
        if whole is not sample:
            control = _nearness(stood, theirs, rest, at, sample.seed)[0]
        return [
            Measure(
                "diversity",
                "facility location",
                value,
                n=at,
                interval=interval,
                control=control,
                control_of="" if control is None else "real vs real" if of == "anchor" else f"others of {of}",
                note=f"{read} {'of its own texts' if whole is sample else f'texts of {of}'}, stood for by {at} of {n}",
                **told,
            )
        ]

    @staticmethod
    def _for(sample: Sample) -> tuple[str, Sample]:
        """Name and sample of what is to be stood for."""
        for of in ("anchor", "raw"):
            if of in sample.beside and len(sample.beside[of].texts) >= FEW:
                return of, sample if of == sample.of else sample.beside[of]
        return sample.of, sample


def _apart(sample: Sample, whole: Sample, stood: Rows) -> Rows:
    """Rows of the sample that are not among those to be stood for, in an order that the texts alone decide.

    The same row is known by its id: an equal text in another row may well stand for it.
    """
    order = canonical(sample.texts)
    if "_id" not in sample.frame.columns or "_id" not in whole.frame.columns:
        return order
    there = sample.frame["_id"].is_in(whole.frame["_id"].gather(stood).implode()).to_numpy()
    found: Rows = order[~there[order]]
    return found


def _nearness(stood: Vectors, vectors: Vectors, pool: Rows, at: int, seed: int) -> tuple[float, Interval | None]:
    """The figure for `at` rows of the pool, and its interval."""
    import numpy as np

    def nearest(rows: Rows) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (stood @ vectors[pool[rows]].T).max(axis=1)
        return found

    (value,), (interval,) = rarefied(len(pool), at, lambda rows: [float(nearest(rows).mean())], seed=seed)
    value = min(max(value, -1.0), 1.0)
    if interval is None:
        return value, None
    each = nearest(np.random.default_rng(seed).permutation(len(pool))[:at])
    spread = ((interval[1] - interval[0]) ** 2 / 4 + Z**2 * float(each.var(ddof=1)) / len(each)) ** 0.5
    return value, clamp((value - spread, value + spread), -1.0, 1.0)
