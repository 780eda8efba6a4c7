"""Metric `asked`: do texts that were asked to be harder differ from the others in anything that can be measured?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.hardness import ASKED, compared, partial
from qdcgen.intervals import FEW
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

RESAMPLED = 500


class Asked(Metric):
    """Rank correlation of the difficulty that was asked for with what each row measures, also with length held fixed.

    Words, words per sentence and long words always; pass rate, the critic's rating, surprisal and instruction-following
    difficulty where the recipe asks for them. Spearman's ρ in [-1, 1], ties at mean ranks; "at equal length" is the
    partial ρ given the words. `_complexity` is read as a band of the recipe's target, as numbers, or as words from very
    easy to very hard; where only some rows carry one single value, they are set against the rows that carry none.
    Bootstrap of rows, percentiles, 100 to 500 times: ρ pairs of columns, so a row drawn twice does not bias it. Control
    0: what shuffling the request gives.

    What makes it lie: structure is not difficulty. A ρ that vanishes when length is held fixed says that "harder" was
    only "longer"; a ρ of 0 does not say that nothing got harder. The partial ρ takes out what is monotone in the words;
    the metric `harder` compares pairs instead. A pass rate falls (ρ < 0) where rows are harder.
    """

    table: ClassVar[str] = "complexity"
    gates: ClassVar[tuple[str, ...]] = (
        "asked_against_words",
        "asked_against_words_per_sentence",
        "asked_against_words_per_sentence_at_equal_length",
        "asked_against_long_words",
        "asked_against_long_words_at_equal_length",
        "asked_against_pass_rate",
        "asked_against_pass_rate_at_equal_length",
        "asked_against_rating",
        "asked_against_rating_at_equal_length",
        "asked_against_surprisal",
        "asked_against_surprisal_at_equal_length",
        "asked_against_ifd",
        "asked_against_ifd_at_equal_length",
    )
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(gates, (ASKED,)) | {
        "asked_against_pass_rate": (ASKED, "measure.solver"),
        "asked_against_pass_rate_at_equal_length": (ASKED, "measure.solver"),
        "asked_against_rating": (ASKED, "measure.complexity"),
        "asked_against_rating_at_equal_length": (ASKED, "measure.complexity"),
        "asked_against_surprisal": (ASKED, "an embedded model"),
        "asked_against_surprisal_at_equal_length": (ASKED, "an embedded model"),
        "asked_against_ifd": (ASKED, "measure.ifd", "an embedded model"),
        "asked_against_ifd_at_equal_length": (ASKED, "measure.ifd", "an embedded model"),
    }

    texts: int = Field(default=5_000, ge=FEW, le=100_000)
    """Texts compared, at most, spread evenly over the sample."""

    def measure(self, sample: Sample) -> list[Measure]:
        """The correlations, or one measure that says why there are none."""
        import numpy as np

        if sample.of == "anchor":  # nobody asked for real rows
            return []
        told = compared(sample, self.texts)
        if isinstance(told, str):
            return [
                Measure(
                    "complexity",
                    "asked against measured",
                    None,
                    unit="Spearman ρ",
                    range=(-1.0, 1.0),
                    of=sample.of,
                    note=told,
                )
            ]
        found = [self._one(sample, "words", told.asked, told.words, given=None, note=told.note)]
        for name, values in told.figures.items():
            if name == "rating" and told.noise:
                none = Measure("complexity", "", None, "Spearman ρ", (-1.0, 1.0), of=sample.of, note=told.noise)
                found += [replace(none, name=f"asked against rating{end}") for end in ("", " at equal length")]
                continue
            known = np.isfinite(values)
            asked, own, words = told.asked[known], values[known], told.words[known]
            found.append(self._one(sample, name, asked, own, given=None, note=told.note))
            found.append(self._one(sample, f"{name} at equal length", asked, own, given=words, note=told.note))
        return found

    def _one(
        self,
        sample: Sample,
        name: str,
        asked: NDArray[np.float64],
        values: NDArray[np.float64],
        *,
        given: NDArray[np.float64] | None,
        note: str,
    ) -> Measure:
        import numpy as np

        n = len(asked)
        value = partial(asked, values, given) if n >= FEW else None
        interval = None
        if value is not None:
            rng = np.random.default_rng(sample.seed)
            drawn = []
            for _ in range(min(RESAMPLED, max(100, 1_000_000 // n))):
                rows = rng.integers(0, n, n)
                again = partial(asked[rows], values[rows], None if given is None else given[rows])
                if again is not None:
                    drawn.append(again)
            low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (-1.0, 1.0)
            interval = (min(float(low), value), max(float(high), value))
        elif n < FEW:
            note = f"too few: {n} rows with a known difficulty, needs {FEW}"
        else:
            note = "one side never varies"
        return Measure(
            "complexity",
            f"asked against {name}",
            value,
            unit="Spearman ρ",
            range=(-1.0, 1.0),
            n=n,
            interval=interval,
            control=0.0 if value is not None else None,
            control_of="shuffled requests" if value is not None else "",
            of=sample.of,
            note=note,
        )
