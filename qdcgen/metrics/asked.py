"""Metric `asked`: do texts that were asked to be harder differ from the others in anything that can be counted?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import FEW, canonical, spearman
from qdcgen.parts import Metric
from qdcgen.rows import Measure
from qdcgen.surface import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

SCALE = (
    "trivial",
    "very easy",
    "easy",
    "low",
    "simple",
    "plain",
    "medium",
    "normal",
    "moderate",
    "hard",
    "high",
    "difficult",
    "complex",
    "very hard",
    "expert",
)
"""Words for difficulty, easiest first; other words have no order that could be known."""

RESAMPLED = 500

TINY = 1e-9


class Asked(Metric):
    """Rank correlation of the difficulty that was asked for with structure: words, words per sentence, long words.

    Spearman's ρ in [-1, 1], ties at mean ranks; the last two also with length held fixed, as the partial ρ given the
    words. `_complexity` is read as numbers, or as words from very easy to very hard; where only some rows carry one
    single value, they are set against the rows that carry none. Bootstrap of rows, percentiles, 100 to 500 times: ρ
    pairs of columns, so a row drawn twice does not bias it. Control 0: what shuffling the request gives.

    What makes it lie: structure is not difficulty. A ρ that vanishes when length is held fixed says that "harder" was
    only "longer"; a ρ of 0 does not say that nothing got harder.
    """

    table: ClassVar[str] = "complexity"
    gates: ClassVar[tuple[str, ...]] = (
        "asked_against_words",
        "asked_against_words_per_sentence",
        "asked_against_words_per_sentence_at_equal_length",
        "asked_against_long_words",
        "asked_against_long_words_at_equal_length",
    )

    texts: int = Field(default=5_000, ge=FEW, le=100_000)
    """Texts compared, at most, spread evenly over the sample."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Five correlations, or one measure that says why there are none."""
        import numpy as np

        levels, note = _levels(sample)
        if levels is None:
            return [
                Measure(
                    "complexity",
                    "asked against measured",
                    None,
                    unit="Spearman ρ",
                    range=(-1.0, 1.0),
                    of=sample.of,
                    note=note,
                )
            ]
        order = canonical(sample.texts)
        held = order[np.isfinite(levels[order])]
        held = held[:: -(-len(held) // self.texts)]
        table = counted([sample.texts[i] for i in held.tolist()])
        asked = levels[held]
        words = table["words"].cast(float).to_numpy()
        found = [self._one(sample, "words", asked, words, given=None, note=note)]
        for name in ("words per sentence", "long words"):
            values = table[name].to_numpy()
            found.append(self._one(sample, name, asked, values, given=None, note=note))
            found.append(self._one(sample, f"{name} at equal length", asked, values, given=words, note=note))
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


def partial(x: NDArray[np.float64], y: NDArray[np.float64], given: NDArray[np.float64] | None) -> float | None:
    """Spearman's ρ of x and y, given a third where there is one: (ρxy - ρxz ρyz) / √((1 - ρxz²)(1 - ρyz²))."""
    direct = spearman(x, y)
    if given is None or direct is None:
        return direct
    one, other = spearman(x, given), spearman(y, given)
    if one is None or other is None:
        return direct
    scale = (1 - one**2) * (1 - other**2)
    if scale < TINY:
        return None  # one of them *is* the length: nothing is left to compare
    return float(min(1.0, max(-1.0, (direct - one * other) / scale**0.5)))


def _levels(sample: Sample) -> tuple[NDArray[np.float64] | None, str]:
    """Difficulty asked of each row as a number, NaN where unknown; or None, and why."""
    import numpy as np
    import polars as pl

    if "_complexity" not in sample.frame.columns or sample.frame["_complexity"].drop_nulls().is_empty():
        return None, "no row was asked for a difficulty"
    asked: Sequence[str | None] = sample.frame["_complexity"].cast(pl.String).to_list()
    met = sorted({value for value in asked if value is not None})
    if len(met) == 1:
        if None not in asked:
            return None, f"every row was asked to be {met[0]}: nothing to compare"
        return np.array([float(value is not None) for value in asked]), f"rows asked to be {met[0]} against the others"
    place = {value: rank for value in met if (rank := _rank(value)) is not None}
    if len(place) < 2:  # noqa: PLR2004  (one level has no order)
        return None, f"no known order of {', '.join(met[:5])}"
    numbers = [place.get(value, np.nan) if value is not None else np.nan for value in asked]
    ranked = sorted(place, key=place.__getitem__)
    return np.array(numbers, dtype=np.float64), f"from {ranked[0]} to {ranked[-1]}"


def _rank(value: str) -> float | None:
    import math

    word = value.strip().lower()
    if word in SCALE:
        return float(SCALE.index(word))
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
