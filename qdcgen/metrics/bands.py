"""Metric `bands`: the share of rows in each band of difficulty, measured where the target says how, else asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from qdcgen.hardness import ASKED
from qdcgen.intervals import wilson
from qdcgen.parts import Metric
from qdcgen.rows import Measure
from qdcgen.scrutiny import BANDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qdcgen.parts import Sample


class Bands(Metric):
    """Share of rows in each band of `target.complexity`, by the figure that the target names, beside its target share.

    Rows count that were placed in a band; a critic's undecided ones do not. Wilson intervals. The note says how many of
    the rows that were asked to be in the band came out in it. Without such a target, and where rows were asked to be
    easy, plain, medium or hard: the share that was asked for, which says nothing about the rows.

    What makes it lie: accepted rows have the target's shares because a full band turns rows down. What the writer makes
    of the request is in the note, and in the column of all rows made. Words are not difficulty; a critic's grade is an
    opinion.
    """

    table: ClassVar[str] = "complexity"
    gates: ClassVar[tuple[str, ...]] = tuple(sorted(BANDS))
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "easy": ("target.complexity",),
        "medium": ("target.complexity",),
        "hard": (ASKED,),
        "plain": (ASKED,),
    }

    def measure(self, sample: Sample) -> list[Measure]:
        """One measure a band, easiest first; none where nobody was asked for one."""
        if sample.bands:
            return self._measured(sample)
        return self._asked(sample)

    def _measured(self, sample: Sample) -> list[Measure]:
        import polars as pl

        blank = Measure("complexity", "", None, of=sample.of)
        if not {"_measured", "_figure", "_complexity"} <= set(sample.frame.columns):
            return []
        told = sample.frame.select("_measured", "_figure", "_complexity")
        n = told["_figure"].count()
        found = []
        for band, share in sample.bands.items():
            asked = told.filter((pl.col("_complexity") == band) & pl.col("_figure").is_not_null())
            hit = asked.filter(pl.col("_measured") == band).height
            of = f"; of {asked.height} asked to be {band}, {hit} came out so" if asked.height else ""
            one = replace(blank, name=band, n=n, control=share, control_of="target")
            count = told.filter(pl.col("_measured") == band).height
            if n:
                note = f"{count} of {n} rows{of}"
                found.append(replace(one, value=count / n, interval=wilson(count, n), note=note))
            else:
                found.append(replace(one, note="too few: no row was placed in a band"))
        return found

    def _asked(self, sample: Sample) -> list[Measure]:
        import polars as pl

        if "_complexity" not in sample.frame.columns:
            return []
        asked = sample.frame["_complexity"].cast(pl.String)
        counts = dict(asked.drop_nulls().value_counts().iter_rows())
        if not counts or not set(counts) <= BANDS:
            return []
        n = asked.len()
        note = "asked for, not measured: target.complexity measures it"
        return [
            Measure("complexity", band, counts[band] / n, n=n, of=sample.of, note=note)
            for band in ("easy", "plain", "medium", "hard")
            if band in counts
        ]
