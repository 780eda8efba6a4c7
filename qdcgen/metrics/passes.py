"""Metric `passes`: how often a named solver comes to a row's answer, over several tries."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qdcgen.hardness import SOLVED, solved_band
from qdcgen.intervals import FEW, clamp, mean, median, wilson
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qdcgen.parts import Sample


class Passes(Metric):
    """Pass rate of the solver under `measure.solver`: of so many tries at a row, the share that comes to its answer.

    In [0, 1]: the median over rows, its interval between two order statistics. Then the share of rows in each band,
    Wilson intervals: always solved (all tries), easy (two thirds or more), medium, hard (less than a third, and at
    least one), never solved (none). Never solved is not hard: the row may be unsolvable, or its key wrong. Answers are
    compared by rule, as in the filter `solvable`; a try without an answer that fits is not solved. The rows are chosen
    by a digest of what they say; `passes.parquet` in the run folder has each one's rate with its Wilson interval.

    What makes it lie: a row's own rate is known to 0.3 or so at 8 tries, so bands blur into each other. Difficulty is
    for this solver: one that wrote the rows finds them easy, and labels can be guessed. Rows that a filter `solvable`
    kept were chosen for being solved.
    """

    table: ClassVar[str] = "complexity"
    gates: ClassVar[tuple[str, ...]] = ("pass_rate", *(name.replace(" ", "_") for name in SOLVED))
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(gates, ("measure.solver",))

    def measure(self, sample: Sample) -> list[Measure]:
        """Six measures of accepted rows; none where no solver was asked."""
        import numpy as np

        if sample.of != "kept" or "_solved" not in sample.frame.columns:
            return []
        told = sample.frame.select("_solved", "_tries").drop_nulls()
        n = told.height
        if n < FEW:
            note = f"too few: {plural(n, 'row')} with a usable try, needs {FEW}"
            return [Measure("complexity", name, None, n=n, of=sample.of, note=note) for name in ("pass rate", *SOLVED)]
        rates = told["_solved"].to_numpy().astype(np.float64)
        tries = int(told["_tries"][0])
        middle, interval = median(rates)
        average, around = mean(rates)
        low, high = clamp(around or (0.0, 1.0), 0.0, 1.0)
        note = f"median of {n} rows, {tries} tries each; mean {average:.2f} ({low:.2f}–{high:.2f})"
        found = [Measure("complexity", "pass rate", middle, n=n, interval=interval, of=sample.of, note=note)]
        named = [solved_band(round(rate * tries), tries) for rate in rates.tolist()]
        for name in SOLVED:
            count = named.count(name)
            if name not in {solved_band(hits, tries) for hits in range(tries + 1)}:
                continue  # of 2 tries, say, one is no less than a third
            said = f"{count} of {n} rows"
            said += "; unknown: too hard, unsolvable, or a wrong key" if name == SOLVED[-1] else ""
            share = Measure("complexity", name, count / n, n=n, interval=wilson(count, n), of=sample.of, note=said)
            found.append(share)
        return found
