"""Filter `agreement`: several models answer the same question, blind to each other; kept by majority."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from qdcgen.critics import BY_RUBRIC, MEETS, answered, of_row, undecided, unknown_fields, yes_or_no
from qdcgen.errors import RowFault, nearest
from qdcgen.parts import Filter, Graded, Problem
from qdcgen.rows import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qdcgen.parts import Scene, Tools
    from qdcgen.rows import Row


class Agreement(Filter):
    """Asks several models the same yes-or-no question about each row, blind to each other; keeps it by majority.

    The score is the share that said yes; the reason has the tally and what the first no found. A model without an
    answer that fits is no yes; where its answer could have changed the outcome the row is undecided, which is never
    kept. One call a row and model at temperature 0. Models of one family share their errors: three of them are less
    than three opinions.
    """

    critic: ClassVar[bool] = True

    models: Annotated[tuple[str, ...], Field(min_length=1)]
    """Aliases of the models, two or more, each another model."""
    rubric: str = Field(min_length=1, max_length=4000)
    """What a row must meet, in words; shown as it stands, never filled in like a template."""
    at_least: int | None = Field(default=None, ge=1)
    """How many must say yes; default: more than half."""
    fields: tuple[str, ...] = ()
    """Fields that are shown; default: all."""

    @model_validator(mode="after")
    def _several(self) -> Agreement:
        if self.at_least is not None and self.at_least > len(self.models):
            raise ValueError(f"at_least: {self.at_least} is more than the {len(self.models)} models there are")
        return self

    @property
    def wanted(self) -> int:
        """How many must say yes."""
        return self.at_least or len(self.models) // 2 + 1

    def graded(self) -> Graded:
        """By the share of yes."""
        return Graded(self.wanted / len(self.models))

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """Two aliases or more, each there and none twice; the fields exist."""
        if len(self.models) < 2:  # noqa: PLR2004
            yield Problem(("models",), f"found {len(self.models)}; agreement needs 2 models or more (one: judge)")
        for number, alias in enumerate(self.models):
            if alias not in scene.models:
                yield Problem(("models", number), f"no model called {alias!r}{nearest(alias, list(scene.models))}")
            elif alias in self.models[:number]:
                yield Problem(("models", number), f"{alias!r} twice; the same model agrees with itself")
        yield from unknown_fields(scene, "fields", self.fields)

    def calls(self, axes: int) -> float:  # noqa: ARG002
        """One for each model."""
        return float(len(self.models))

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """One verdict a row."""
        shown = [of_row(row, self.fields, tools) for row in rows]
        system = BY_RUBRIC + self.rubric
        said = await answered(yes_or_no(tools, alias, system, one, MEETS) for one in shown for alias in self.models)
        voices = len(self.models)
        return [self._verdict(said[place : place + voices]) for place in range(0, len(said), voices)]

    def _verdict(self, said: Sequence[Any]) -> Verdict:
        """What the voices come to; each is whether it was a yes and the finding, or a fault."""
        faults = [one for one in said if isinstance(one, RowFault)]
        yes = sum(not isinstance(one, RowFault) and one[0] for one in said)
        score = yes / len(said)
        if yes >= self.wanted:
            return Verdict(kept=True, score=score)
        tally = f"{yes} yes, {len(said) - yes - len(faults)} no"
        if yes + len(faults) >= self.wanted:
            return undecided(f"{tally}, {len(faults)} without an answer that fits: {faults[0]}")
        spoke = (
            f"{alias}: {one[1]}"
            for alias, one in zip(self.models, said, strict=True)
            if not isinstance(one, RowFault) and not one[0]
        )
        return Verdict(kept=False, reason=f"{tally}, {self.wanted} wanted; {next(spoke)}", score=score)
