"""Bands of difficulty: which one a row is asked to be in, which one it is in, and when a band is full.

A recipe names bands of a figure (words, or a critic's grade) and the share of rows that each is to have. What decides
is the row as it came out: the last judge of the run places it, and turns it down once its band has all its rows.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import ceil, floor
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from qdcgen.critics import CHECKER, answered, ask, of_row, undecided
from qdcgen.errors import RowFault
from qdcgen.parts import Band, Filter, Settings, Weight
from qdcgen.prompts import SENTENCES
from qdcgen.rows import Verdict, stream
from qdcgen.scrutiny import bound
from qdcgen.surface import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdcgen.parts import Tools
    from qdcgen.rows import Row

__all__ = ["LABEL", "NAME", "Bands", "Complexity", "drawn", "quotas"]

LABEL = "complexity"
"""What the judge is called in verdicts and in the report."""
NAME = "complexity"
"""What templates call the band that a row is asked to be in."""
WORST = 10
"""The highest grade."""
GRADING = (
    CHECKER + " Say how hard the example is to deal with rightly, whoever has to do so: to answer it, to solve it, to "
    f"label it. Grade it with a whole number from 1 to {WORST}. 1: at sight, nothing has to be weighed, inferred or "
    f"worked out. 5: a capable adult has to think, and may slip. {WORST}: an expert has to work at it, with conditions "
    "that interact or much that is left to infer, and most would get it wrong. Length, rare words, polish and what the "
    "example says of its own difficulty do not count."
)
QUESTION = (
    "How hard is the example? First go through what has to be understood, weighed or worked out, in `finding`; then "
    "give the grade."
)
GRADE: dict[str, Any] = {
    "type": "object",
    "properties": {"finding": SENTENCES, "grade": {"enum": list(range(1, WORST + 1))}},
    "required": ["finding", "grade"],
    "additionalProperties": False,
}

By = Literal["words", "words_per_sentence", "grade"]


def _share(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})?\s*%", value.strip()):
        return float(Fraction(value.strip().rstrip("% ")) / 100)
    return value


Share = Annotated[
    Weight,
    BeforeValidator(_share),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1e9}, {"type": "string", "pattern": "%$"}]}),
]
"""A share relative to others; `30%` is 0.3."""
BandName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class Complexity(Settings):
    """Bands of difficulty, and the share of the accepted rows that each is to have."""

    by: By
    """What places a row: `words` or `words_per_sentence` of its measured text, or `grade`: a critic's whole number from
    1 to 10, one call a row."""
    model: str | None = None
    """Alias of the critic for `grade`; default: the first model."""
    bands: dict[BandName, str] = Field(min_length=2, max_length=10)
    """Name → bound on the figure, e.g. `{easy: "< 20", medium: "20..40", hard: "> 40"}`; no two may overlap. Their
    order is that of the bounds: the lowest is the easiest."""
    shares: dict[BandName, Share]
    """Name → share of the accepted rows, relative to the others, e.g. `{easy: 0.3, medium: 0.5, hard: 0.2}`, or `30%`
    for 0.3."""

    @model_validator(mode="after")
    def _sound(self) -> Complexity:
        if set(self.shares) != set(self.bands):
            odd = sorted(set(self.shares) ^ set(self.bands))
            raise ValueError(f"bands: and shares: must name the same bands; only one of them has {', '.join(odd)}")
        if not sum(self.shares.values()):
            raise ValueError("shares: every share is 0")
        if self.model is not None and self.by != "grade":
            raise ValueError(f"model: is for by: grade; {self.by} is counted, and asks nobody")
        ranges = {name: bound(said) for name, said in self.bands.items()}
        names = sorted(ranges, key=lambda name: (ranges[name].low, ranges[name].high))
        for one, other in pairwise(names):
            a, b = ranges[one], ranges[other]
            if a.high > b.low or (a.high == b.low and not a.strict and not b.strict):
                raise ValueError(f"bands {one} ({a.text}) and {other} ({b.text}) overlap")
        for name, of in ranges.items():
            if self.by == "grade" and not any(of.holds(grade) for grade in range(1, WORST + 1)):
                raise ValueError(f"band {name}: no grade from 1 to {WORST} is {of.text}")
            if of.high < 0 or (of.high == 0 and of.strict):
                raise ValueError(f"band {name}: no figure is {of.text}")
        return self

    @property
    def order(self) -> tuple[str, ...]:
        """The bands, easiest first."""
        ranges = {name: bound(said) for name, said in self.bands.items()}
        return tuple(sorted(ranges, key=lambda name: (ranges[name].low, ranges[name].high)))

    @property
    def gaps(self) -> tuple[str, ...]:
        """Figures that lie between two bands, in words; for grades also those below all bands and above them."""
        if self.by == "grade":
            return tuple(str(grade) for grade in range(1, WORST + 1) if self.of(grade) is None)
        ranges = [bound(self.bands[name]) for name in self.order]
        found = []
        for one, other in pairwise(ranges):
            low, high = one.high, other.low
            if self.by == "words":  # whole numbers
                first = floor(low) + (not (one.strict and low == floor(low)))
                last = ceil(high) - (not (other.strict and high == ceil(high)))
                if first <= last:
                    found.append(f"{first}" if first == last else f"{first} to {last}")
            elif low < high:
                found.append(f"{low:g} to {high:g}")
            elif one.strict and other.strict:
                found.append(f"of {low:g}")
        return tuple(found)

    @property
    def target(self) -> dict[str, float]:
        """Band → its share of all rows, easiest first."""
        total = sum(self.shares.values())
        return {name: self.shares[name] / total for name in self.order}

    def quota(self, rows: int) -> dict[str, int]:
        """Band → rows that it is to have of so many, easiest first."""
        return dict(zip(self.order, quotas(_fractions(self), rows), strict=True))

    def of(self, figure: float) -> str | None:
        """The band that a figure lies in; None where it lies between two."""
        return next((name for name, said in self.bands.items() if _bound(said).holds(figure)), None)

    def aimed(self, slot: int) -> str:
        """The band that the plan asks this row for when it asks for the first time."""
        return self.order[drawn(slot, _fractions(self))]

    def band(self, name: str | None, slot: int) -> Band:
        """The band as a row's templates and steps are told it; a name that the recipe no longer has is drawn anew."""
        order = self.order
        place = order.index(name) if name in order else drawn(slot, _fractions(self))
        return Band(order[place], harder=2 * place > len(order) - 1)


@lru_cache(maxsize=64)
def _bound(said: str) -> Any:
    return bound(said)


def _fractions(settings: Complexity) -> tuple[Fraction, ...]:
    return _exact(tuple(settings.shares[name] for name in settings.order))


@lru_cache(maxsize=64)
def _exact(shares: tuple[float, ...]) -> tuple[Fraction, ...]:
    """Shares that sum to 1, as the recipe writes them."""
    parts = [Fraction(repr(share)) for share in shares]
    return tuple(part / sum(parts) for part in parts)


def quotas(shares: Sequence[Fraction], rows: int) -> list[int]:
    """Rows of each share, by largest remainder; of equal remainders the earlier one gets the row."""
    found = [int(share * rows) for share in shares]
    ranked = sorted(range(len(shares)), key=lambda place: (found[place] - shares[place] * rows, place))
    for place in ranked[: rows - sum(found)]:
        found[place] += 1
    return found


def drawn(slot: int, shares: Sequence[Fraction]) -> int:
    """Which share the planned row `slot` belongs to: of the first n rows each has its own, to within a few rows.

    One share after the other is taken out of what is left: one row in each stretch of 1/share rows, drawn, because the
    plan takes regions by turns. A larger target changes nothing about the rows before it.
    """
    left = Fraction(1)
    for place, share in enumerate(shares[:-1]):
        part = share / left if left else Fraction(0)
        taken, before = _taken(slot, part, str(place))
        if taken:
            return place
        slot, left = slot - before, left - share
    return len(shares) - 1


def _taken(slot: int, share: Fraction, name: str) -> tuple[bool, int]:
    """Whether a row is of those that a share takes, and how many before it are."""
    if share > Fraction(1, 2):
        other, before = _taken(slot, 1 - share, name)
        return not other, slot - before
    if not share:
        return False, 0
    stretch = floor(slot * share)
    first, end = ceil(stretch / share), ceil((stretch + 1) / share)
    at = first + stream(f"complexity/{name}", str(stretch)) % (end - first)
    return slot == at, stretch + (slot > at)


class Bands(Filter):
    """Places each row in its band of difficulty, and turns it down when the band has all its rows.

    The last judge of a run with `target.complexity`; no recipe lists it. A row that a critic gives no grade is
    undecided and in no band. A row whose slot is filled already is neither counted nor turned down.
    """

    settings: Complexity
    """The bands."""
    text: tuple[str, ...]
    """Fields that make up the measured text."""
    rows: int = Field(default=1, exclude=True)
    """Accepted rows that the bands share. A larger target fills them up, and judges nothing again."""

    def calls(self, axes: int) -> float:  # noqa: ARG002
        """One for a grade."""
        return 1.0 if self.settings.by == "grade" else 0.0

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """One verdict a row, in order: a band fills up row by row.

        `tools.scratch` holds `held` (slot → band of what was kept before), and may hold `rows` and `wants`: the target
        of the moment, and whether a slot is to be filled.
        """
        figures = await self._figures(rows, tools)
        held: dict[int, str] = tools.scratch.setdefault("held", {})
        wants = tools.scratch.get("wants") or (lambda slot: slot < self.rows)
        quota = self.settings.quota(int(tools.scratch.get("rows", self.rows)))
        counts = Counter(held.values())
        found = []
        for row, figure in zip(rows, figures, strict=True):
            if isinstance(figure, RowFault):
                found.append(undecided(f"the critic gave no grade that fits: {figure}"))
                continue
            band, slot = self.settings.of(figure), row.cell.slot
            if slot in held or not wants(slot):
                found.append(Verdict(kept=True, score=figure))
            elif band is None:
                listed = ", ".join(f"{name} {said}" for name, said in self.settings.bands.items())
                found.append(Verdict(kept=False, reason=f"{self._said(figure)} in no band: {listed}", score=figure))
            elif counts[band] >= quota[band]:
                reason = f"band {band} is full: {counts[band]} of {quota[band]}"
                found.append(Verdict(kept=False, reason=reason, score=figure))
            else:
                held[slot] = band
                counts[band] += 1
                found.append(Verdict(kept=True, score=figure))
        return found

    def _said(self, figure: float) -> str:
        return f"{self.settings.by.replace('_', ' ')}: {figure:g}, which is"

    async def _figures(self, rows: Sequence[Row], tools: Tools) -> Sequence[float | RowFault]:
        if self.settings.by == "grade":
            return await answered(self._grade(row, tools) for row in rows)
        texts = [
            "\n".join(str(row.fields[name]) for name in self.text if row.fields.get(name) is not None) for row in rows
        ]
        found: list[float] = counted(texts)[self.settings.by.replace("_", " ")].cast(float).to_list()
        return found

    async def _grade(self, row: Row, tools: Tools) -> float:
        shown_row = of_row(row, self.text, tools)
        said = await ask(tools, self.settings.model, GRADING, shown_row, QUESTION, GRADE)
        return float(said["grade"])
