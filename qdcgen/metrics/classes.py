"""Metric `classes`: how many different things the texts say, where people have said what counts as the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from qdcgen.intervals import SIZES, canonical, clamp, rarefied
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure
from qdcgen.same import classes, numbered

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample


class Classes(Metric):
    """Number of semantic classes among a fixed number of texts, and the share of the largest.

    Needs pairs of texts that people judged the same or not (`measure.pairs`, or `report --pairs FILE`); without them
    it prints nothing, since no threshold holds for every subject. The threshold on the cosine is fitted on them (see
    qdcgen/same.py), its agreement on held-out pairs is printed beside, once. Equal texts are one; the distinct ones
    are joined by average linkage (Sokal and Michener 1958) as long as the mean cosine of two groups reaches the
    threshold: from 1 to n. Links by single pairs make one class of almost everything (of 1,000 messages with 77 intents
    2, by complete linkage 126, by average linkage 50). A text that is below the threshold to all others adds exactly
    one class; one that is like two classes may join them. Taken at the largest of 30, 100, 300, 1,000, … texts that
    every population has, up to `texts`; the interval joins subsampling without replacement and the two ends of the
    threshold's own interval.

    What makes it lie: it grows with n; a class is what the pairs' author meant, as far as this embedder sees it, so a
    threshold carried to another subject counts other things.
    """

    table: ClassVar[str] = "diversity"
    evened: ClassVar[bool] = True
    gates: ClassVar[tuple[str, ...]] = ("semantic_classes", "largest_semantic_class")
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(gates, ("measure.pairs",))
    short: ClassVar[str | None] = "texts"

    texts: int = Field(default=1_000, ge=30, le=3_000)
    """Texts that classes are counted among, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Classes, the largest one's share, and how often the threshold says what people said."""
        import numpy as np

        fitted = sample.alike()
        if fitted is None:
            return []
        n = len(sample.texts)
        room = min(self.texts, sample.equal_n or n)
        at = max((size for size in SIZES if size <= room), default=0)
        told: dict[str, Any] = {"of": sample.of, "embedder": sample.embedder}
        names = ("semantic classes", "largest semantic class")
        spans = ((1.0, float(at or SIZES[0])), (0.0, 1.0))
        most = max(fitted.same, fitted.pairs - fitted.same) / fitted.pairs
        agreement = Measure(  # it is of no population; measures that are alike stand in a report once
            "diversity",
            "same pairs told",
            fitted.accuracy,
            n=fitted.pairs,
            interval=fitted.accuracy_between,
            of=next(iter(sample.beside), sample.of),
            embedder=sample.embedder,
            control=most,
            control_of="one answer for every pair",
            note=fitted.words,
        )
        note = ""
        if not at or n < at:
            note = f"too few: {plural(n, 'text')}, needs {at or SIZES[0]}"
        elif not fitted.knows:
            note = f"{sample.embedder} does not tell the pairs apart: {fitted.words}"
        if note:
            nothing = [
                Measure("diversity", name, None, range=span, n=n, note=note, **told)
                for name, span in zip(names, spans, strict=True)
            ]
            return [*nothing, agreement]
        vectors, order = sample.vectors(), canonical(sample.texts)
        numbers = numbered(sample.texts, order)

        def figures(rows: NDArray[np.int64]) -> list[float]:
            found = classes(vectors[order[rows]], numbers[rows], fitted.threshold)
            return [float(found[0]), found[1]]

        values, intervals = rarefied(n, at, figures, seed=sample.seed)
        # Two draws do for the ends: what the threshold moves is far more.
        rng = np.random.default_rng(sample.seed)
        draws = [rng.permutation(n)[:at] for _ in range(2)]
        ends = [
            np.mean([classes(vectors[order[rows]], numbers[rows], threshold) for rows in draws], axis=0)
            for threshold in fitted.between
        ]
        found = []
        for place, (name, span) in enumerate(zip(names, spans, strict=True)):
            met = [values[place], *(float(end[place]) for end in ends), *(intervals[place] or ())]
            found.append(
                Measure(
                    "diversity",
                    name,
                    values[place],
                    range=span,
                    n=at,
                    interval=clamp((min(met), max(met)), *span) if intervals[place] else None,
                    note=f"at {at} of {n} texts; {fitted.words}",
                    **told,
                )
            )
        return [*found, agreement]
