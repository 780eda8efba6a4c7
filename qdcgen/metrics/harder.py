"""Metric `harder`: what rows that were asked to be the hardest have more of, at any length and at equal length."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.hardness import ASKED, DOWN, ENOUGH, HARDER, apart, compared, matched
from qdcgen.intervals import FEW, Z
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qdcgen.hardness import Compared
    from qdcgen.parts import Sample

    Figures = Iterator[Measure]


class Harder(Metric):
    """Rows asked to be the hardest minus the others, in standard deviations, for each figure, at equal length.

    First the words, at any length: mean minus mean over the standard deviation of all compared rows, Welch's interval;
    the note says how much longer the rows are. Then words per sentence, long words, and, where the recipe asks for
    them, pass rate, surprisal and instruction-following difficulty: the mean difference over pairs of one leaf, one row
    asked to be the hardest and one that was not, words within 10 %, each row in one pair; normal interval of the mean,
    20 pairs or more. Beside it the difference at any length. Ratings have their own lines (`rated harder`). Any value;
    0 where asking did nothing.

    What makes it lie: pairs exist only where the two kinds overlap in length, so it speaks of the shorter hard rows and
    the longer others, and of these alone. What is counted is no difficulty; a pass rate and a rating come nearer.
    """

    table: ClassVar[str] = "complexity"
    gates: ClassVar[tuple[str, ...]] = (
        "harder_in_words",
        "harder_in_words_per_sentence",
        "harder_in_long_words",
        "harder_in_pass_rate",
        "harder_in_surprisal",
        "harder_in_ifd",
    )
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(gates, (ASKED,)) | {
        "harder_in_pass_rate": (ASKED, "measure.solver"),
        "harder_in_surprisal": (ASKED, "an embedded model"),
        "harder_in_ifd": (ASKED, "measure.ifd", "an embedded model"),
    }

    texts: int = Field(default=20_000, ge=FEW, le=100_000)
    """Texts compared, at most, spread evenly over the sample."""

    def measure(self, sample: Sample) -> list[Measure]:
        """One measure a figure; none where no row was asked for a difficulty."""
        told = compared(sample, self.texts)
        return [] if isinstance(told, str) else list(self._figures(sample, told))

    def _figures(self, sample: Sample, told: Compared) -> Figures:
        blank = Measure("complexity", "", None, "sd", (-math.inf, math.inf), of=sample.of)
        words, n = replace(blank, name=f"{HARDER}words"), int(told.hardest.sum())
        if min(n, len(told.rows) - n) < ENOUGH:
            note = f"too few: {n} rows asked to be the hardest and {len(told.rows) - n} others"
            yield replace(words, note=f"{note}; needs {ENOUGH} of each")
            return
        longer = apart(told.words, told.hardest)
        if longer is None:
            note = f"all rows have {told.words[0]:g} words"
            yield replace(words, value=0.0, interval=(0.0, 0.0), n=len(told.rows), note=note)
        else:
            note = f"{_longer(told)}; {longer.note}; {told.note}"
            yield replace(words, value=longer.value, interval=longer.interval, n=longer.n, note=note)
        for name, values in told.figures.items():
            if name == "rating":
                continue
            one = replace(blank, name=f"{HARDER}{name}")
            plain, paired = apart(values, told.hardest), matched(told, values)
            if plain is not None:
                one = replace(one, control=plain.value, control_of="at any length", note=plain.note)
            if paired is None:
                why = f"too few: fewer than {FEW} pairs of one leaf and of like length, or all alike"
                yield replace(one, note=f"{why}; at any length {plain.value:+.2f} sd" if plain else why, control=None)
                continue
            side = "; lower is harder" if name in DOWN else ""
            note = f"between {paired.note}{side}"
            yield replace(one, value=paired.value, interval=paired.interval, n=paired.n, note=note)


def _longer(told: Compared) -> str:
    """`38 % longer (20 to 55 %)`: ratio of mean words, its interval by the delta method on the logarithm."""
    one, other = told.words[told.hardest], told.words[~told.hardest]
    if not one.mean() or not other.mean():
        return "of no words on one side"
    ratio = math.log(one.mean() / other.mean())
    spread = Z * math.sqrt(sum(float(of.var(ddof=1)) / len(of) / float(of.mean()) ** 2 for of in (one, other)))
    value, low, high = (100 * (math.exp(end) - 1) for end in (ratio, ratio - spread, ratio + spread))
    if value < 0:
        return f"{-value:.0f} % shorter ({-high:.0f} to {-low:.0f} %)"
    return f"{value:.0f} % longer ({low:.0f} to {high:.0f} %)"
