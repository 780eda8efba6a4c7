"""Filter `judge`: a critic's verdict by a rubric, yes or no, or in grades with a threshold each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from qdcgen.critics import (
    BY_RUBRIC,
    CHECKER,
    MEETS,
    answered,
    ask,
    clipped,
    of_row,
    undecided,
    unknown_fields,
    yes_or_no,
)
from qdcgen.errors import RowFault, nearest
from qdcgen.parts import Filter, Graded, Problem, Settings
from qdcgen.prompts import SENTENCES, unknown_alias
from qdcgen.rows import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qdcgen.parts import Scene, Tools
    from qdcgen.rows import Row

GRADING = (
    CHECKER + " Grade it on each item below by itself, with whole numbers from 1 (not at all) to {scale} (wholly, "
    "nothing to add). Few examples deserve the ends. First say in a few sentences what you found on each item, then "
    "give the grades.\n\nThe items:\n"
)
ASKED = "\n\n`asked for` says what the example was to be; grade or judge `example` only."
Line = Annotated[str, Field(min_length=1, max_length=4000)]


class Item(Settings):
    """One thing that is graded."""

    text: Line
    """What is looked at, e.g. `Every sentence can be understood at the first reading.`"""
    at_least: int = Field(ge=1)
    """Grade from which the row is kept."""


class Judge(Filter):
    """Has a critic judge each row by a rubric of yours: strictly yes or no, or by items with a grade each.

    `rubric` asks for one yes or no, with what was found as the reason. `items` asks, in one call, for a whole number
    from 1 to `scale` on each item; a row is kept when every item reaches its `at_least`. The score is then the grade
    (one item), or the smallest distance of a grade from its threshold (several: 0 is just enough), so that `report
    --curve` can show other thresholds. One call a row at temperature 0. An answer that is not of the form asked for is
    undecided, which is never kept.

    The rubric is shown as it stands, never filled in like a template. The critic sees fields alone; `shows` puts what
    the row was asked to be beside them, for rubrics such as "it is what was asked for". What makes it lie: a critic
    that is the writer, or grades almost all alike; `qdcgen audit` measures how often it is wrong.
    """

    critic: ClassVar[bool] = True
    short: ClassVar[str | None] = "rubric"

    rubric: Line | None = None
    """What a row must meet, in words; the bare value."""
    items: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")], Item] = Field(default={})
    """Name → what is graded and from which grade a row is kept: `{clear: {text: …, at_least: 4}}`."""
    scale: int = Field(default=5, ge=2, le=10)
    """Highest grade."""
    model: str | None = None
    """Alias of the critic; default: the first model. Another one than the writer's is worth more."""
    fields: tuple[str, ...] = ()
    """Fields that are shown; default: all."""
    shows: tuple[str, ...] = ()
    """Axes whose value the row was asked to have, shown beside the fields; default: none, so that the request does not
    speak for the row."""

    @model_validator(mode="after")
    def _one_form(self) -> Judge:
        if (self.rubric is None) == (not self.items):
            raise ValueError("expected either rubric: (yes or no) or items: (grades)")
        return self

    def graded(self) -> Graded | None:
        """One item: its threshold. Several: 0, from which none falls short."""
        thresholds = [item.at_least for item in self.items.values()]
        return None if not thresholds else Graded(float(thresholds[0]) if len(thresholds) == 1 else 0.0)

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias, the fields and the axes exist; every threshold lies on the scale."""
        yield from unknown_alias(scene, model=self.model)
        yield from unknown_fields(scene, "fields", self.fields)
        for number, axis in enumerate(self.shows):
            if axis not in scene.axes:
                yield Problem(("shows", number), f"no axis called {axis!r}{nearest(axis, list(scene.axes))}")
        for name, item in self.items.items():
            if item.at_least > self.scale:
                message = f"found {item.at_least}, above scale: {self.scale}; no row could reach it"
                yield Problem(("items", name, "at_least"), message)

    def calls(self, axes: int) -> float:  # noqa: ARG002
        """One."""
        return 1.0

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """One verdict a row."""
        one = self._graded if self.items else self._strict
        found = await answered(one(of_row(row, self.fields, tools, self.shows), tools) for row in rows)
        return [
            undecided(f"the critic gave no answer that fits: {said}") if isinstance(said, RowFault) else said
            for said in found
        ]

    async def _strict(self, shown: Mapping[str, Any], tools: Tools) -> Verdict:
        system = f"{BY_RUBRIC}{self.rubric}{ASKED if self.shows else ''}"
        yes, finding = await yes_or_no(tools, self.model, system, shown, MEETS)
        return Verdict(kept=yes, reason="" if yes else finding)

    async def _graded(self, shown: Mapping[str, Any], tools: Tools) -> Verdict:
        listed = "\n".join(f"- {name}: {item.text}" for name, item in self.items.items())
        grade = {"enum": list(range(1, self.scale + 1))}
        grades = {
            "type": "object",
            "properties": dict.fromkeys(self.items, grade),
            "required": list(self.items),
            "additionalProperties": False,
        }
        schema = {
            "type": "object",
            "properties": {"finding": SENTENCES, "grades": grades},  # by the alphabet, too, the finding comes first
            "required": ["finding", "grades"],
            "additionalProperties": False,
        }
        system = f"{GRADING.format(scale=self.scale)}{listed}{ASKED if self.shows else ''}"
        said = await ask(tools, self.model, system, shown, f"Grade the example on {', '.join(self.items)}.", schema)
        given = {name: int(said["grades"][name]) for name in self.items}
        short = [name for name, item in self.items.items() if given[name] < item.at_least]
        score = min(given[name] - item.at_least for name, item in self.items.items())
        if len(self.items) == 1:
            score = next(iter(given.values()))
        if not short:
            return Verdict(kept=True, score=float(score))
        missed = ", ".join(f"{name} {given[name]} of at least {self.items[name].at_least}" for name in short)
        return Verdict(kept=False, reason=f"{missed}: {clipped(said['finding'])}", score=float(score))
