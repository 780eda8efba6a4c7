"""Metric `near_duplicates`: the share of texts that another one makes superfluous."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import FEW, canonical, clamp, rarefied, wilson
from qdcgen.likeness import groups, normal
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample


class NearDuplicates(Metric):
    """Share of texts that would go if every group of near-duplicates kept one: (texts - groups) / texts.

    Two texts are linked when the Jaccard similarity of their 4-letter shingles is at least `similarity`, exact after
    MinHash candidates (Broder 1997; see qdcgen/likeness.py); a group is what links connect, so the figure does not
    depend on the order of the rows. Exact repeats are given apart. Intervals by subsampling without replacement, and
    never narrower than Wilson's: none found among 25 is not none at all.

    What makes it lie: it grows with n, for every new text may repeat any earlier one, so compare at equal n only; it
    sees letters, so a paraphrase is not a duplicate; a chain of small changes is one group, however far its ends are.
    """

    table: ClassVar[str] = "diversity"
    gates: ClassVar[tuple[str, ...]] = ("near_duplicates", "exact_repeats")
    short: ClassVar[str | None] = "similarity"

    similarity: float = Field(default=0.9, gt=0, le=1)
    """Jaccard similarity from which two texts count as near-duplicates."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Near-duplicates (exact ones included), and exact repeats."""
        n = len(sample.texts)
        names = ("near-duplicates", "exact repeats")
        at = sample.equal_n or n
        if n < max(FEW, at):
            note = f"too few: {plural(n, 'text')}, needs {max(FEW, at)}"
            return [Measure("diversity", name, None, n=n, of=sample.of, note=note) for name in names]
        order = canonical(sample.texts)

        def shares(rows: NDArray[np.int64]) -> list[float]:
            drawn = [sample.texts[i] for i in order[rows].tolist()]
            near = len(set(groups(drawn, self.similarity)))
            exact = len(set(map(normal, drawn)))
            return [(len(drawn) - near) / len(drawn), (len(drawn) - exact) / len(drawn)]

        values, intervals = rarefied(n, at, shares, seed=sample.seed, most=2_000)
        notes = (f"similarity of at least {self.similarity:g}", "after normalising case, width and spaces")
        return [
            Measure(
                "diversity",
                name,
                value,
                n=at,
                interval=_widest(interval, round(value * at), at),
                of=sample.of,
                note=f"{note}; at {at} of {n} texts",
            )
            for name, value, interval, note in zip(names, values, intervals, notes, strict=True)
        ]


def _widest(interval: tuple[float, float] | None, hits: int, n: int) -> tuple[float, float] | None:
    """The span of both intervals, in [0, 1]."""
    share = wilson(hits, n)
    if interval is None or share is None:
        return share
    return clamp((min(interval[0], share[0]), max(interval[1], share[1])), 0.0, 1.0)
