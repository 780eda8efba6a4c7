"""Filter `double_critic`: two independent questions, is it correct and is it incorrect; kept on yes and no."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from qdcgen.errors import RowFault, nearest
from qdcgen.parts import Filter, Problem
from qdcgen.prompts import DATA, VERDICT, fenced, unknown_alias
from qdcgen.rows import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qdcgen.parts import Scene, Tools
    from qdcgen.rows import Row

SYSTEM = (
    "You check one example of a data set, given as JSON, against a question. Work through it step by step in a few "
    "sentences, then answer the question with yes or no and nothing in between. " + DATA
)
QUESTIONS = (
    "Is everything in the example correct: does its answer follow from what is asked, without any error?",
    "Is anything in the example incorrect: does its answer contain an error, or not follow from what is asked?",
)
WANTED = ("yes", "no")


class DoubleCritic(Filter):
    """Asks a critic twice, in separate calls: "is it correct?" and "is it incorrect?". Keeps a row on yes and no only.

    A critic that likes to agree says yes to both and is found out: such rows are dropped with that reason. Only for
    tasks with a right answer (a question and its solution, a text and its label); of a poem there is nothing to say.
    Two calls a row, journaled; a reply that does not fit drops the row. What makes it lie: a critic that shares the
    writer's errors finds them correct twice.

    Source: Simula (arXiv 2603.29791, §2.2).
    """

    short = "model"

    model: str | None = None
    """Alias of the critic; default: the first model. Another one than the writer's is worth more."""
    fields: tuple[str, ...] = ()
    """Fields that are shown; default: all."""

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias and the fields exist."""
        yield from unknown_alias(scene, model=self.model)
        for number, name in enumerate(self.fields):
            if name not in scene.fields:
                close = nearest(name, list(scene.fields)) or f"; known here: {', '.join(scene.fields)}"
                yield Problem(("fields", number), f"no step fills {name!r}{close}")

    def calls(self, axes: int) -> float:  # noqa: ARG002
        """Two."""
        return 2.0

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """One verdict a row; every row is answered before anything is raised, so that no reply paid for is lost."""
        verdicts = await asyncio.gather(*(self._one(row, tools) for row in rows), return_exceptions=True)
        found = []
        for verdict in verdicts:
            if isinstance(verdict, BaseException):
                raise verdict
            found.append(verdict)
        return found

    async def _one(self, row: Row, tools: Tools) -> Verdict:
        shown = {name: row.fields[name] for name in self.fields or tools.fields if name in row.fields}
        asked = (self._answer(shown, question, tools) for question in QUESTIONS)
        replies = []
        for reply in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(reply, RowFault):
                return Verdict(kept=False, reason=f"the critic gave no answer that fits: {reply}")
            if isinstance(reply, BaseException):
                raise reply
            replies.append(reply)
        said = (replies[0]["verdict"], replies[1]["verdict"])
        if said == WANTED:
            return Verdict(kept=True)
        told = {
            ("no", "yes"): f"incorrect: {replies[1]['finding']}",
            ("yes", "yes"): f"correct and incorrect, so the critic cannot tell: {replies[1]['finding']}",
            ("no", "no"): f"neither correct nor incorrect, so the critic cannot tell: {replies[0]['finding']}",
        }
        return Verdict(kept=False, reason=told[said])

    async def _answer(self, shown: Any, question: str, tools: Tools) -> dict[str, str]:
        reply = await tools.ask(
            self.model or "",
            [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"{fenced(shown)}\n\n{question}"},
            ],
            schema=VERDICT,
            temperature=0.0,
        )
        answer: dict[str, str] = reply.parsed
        return answer
