"""Filter `double_critic`: two independent questions, is it correct and is it incorrect; kept on yes and no."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qdcgen.critics import CHECKER, FIRST, answered, of_row, undecided, unknown_fields, yes_or_no
from qdcgen.errors import RowFault
from qdcgen.parts import Filter, Problem
from qdcgen.prompts import unknown_alias
from qdcgen.rows import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qdcgen.parts import Scene, Tools
    from qdcgen.rows import Row

SYSTEM = (
    CHECKER + " You are asked one question about it. Work through it step by step in a few sentences, then answer the "
    "question with yes or no and nothing in between."
)
QUESTIONS = (
    f"Is everything in the example correct: does its answer follow from what is asked, without any error? {FIRST}",
    f"Is anything in the example incorrect: does its answer hold an error, or not follow from what is asked? {FIRST}",
)


class DoubleCritic(Filter):
    """Asks a critic twice, in separate calls: "is it correct?" and "is it incorrect?". Keeps a row on yes and no only.

    A critic that likes to agree says yes to both and is found out: such rows, and those of two noes, are undecided,
    which is told apart from incorrect and is not kept either. So is a row to which one answer does not fit. Two calls a
    row, blind to each other. Only for tasks with a right answer (a question and its solution, a text and its label);
    which those are a recipe does not say, so nothing warns of a poem that is asked about. What makes it lie: a critic
    that shares the writer's errors finds them correct twice.

    Source: Simula (arXiv 2603.29791, §2.2).
    """

    critic: ClassVar[bool] = True
    short: ClassVar[str | None] = "model"

    model: str | None = None
    """Alias of the critic; default: the first model. Another one than the writer's is worth more."""
    fields: tuple[str, ...] = ()
    """Fields that are shown; default: all."""

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias and the fields exist."""
        yield from unknown_alias(scene, model=self.model)
        yield from unknown_fields(scene, "fields", self.fields)

    def calls(self, axes: int) -> float:  # noqa: ARG002
        """Two."""
        return 2.0

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """One verdict a row."""
        shown = [of_row(row, self.fields, tools) for row in rows]
        said = await answered(yes_or_no(tools, self.model, SYSTEM, one, q) for one in shown for q in QUESTIONS)
        return [_verdict(*pair) for pair in zip(said[::2], said[1::2], strict=True)]


def _verdict(correct: Any, incorrect: Any) -> Verdict:
    """What the two answers come to; each is whether it was a yes and the finding, or a fault."""
    for answer in (correct, incorrect):
        if isinstance(answer, RowFault):
            return undecided(f"the critic gave no answer that fits: {answer}")
    (right, _), (wrong, found) = correct, incorrect
    if right and not wrong:
        return Verdict(kept=True)
    if wrong and not right:
        return Verdict(kept=False, reason=f"incorrect: {found}")
    both = "correct and incorrect" if right else "neither correct nor incorrect"
    return undecided(f"{both} by the same critic: {found if right else correct[1]}")
