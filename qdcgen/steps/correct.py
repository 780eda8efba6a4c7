"""The step `correct`: the label is decided again by a reader who does not know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from qdcgen.errors import RowFault, nearest
from qdcgen.parts import Problem, Scene, Step, Tools, alias_of
from qdcgen.prompts import DATA, SENTENCES, fenced, unknown_alias
from qdcgen.rows import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM = (
    "You label one example of a data set. {question} Say first in one sentence what in the example decides it, then "
    "give exactly one of the labels. " + DATA + "\n\nThe labels:\n{labels}"
)


class Correct(Step):
    """Has the label decided again, blind, and drops or relabels the row where the reader says another.

    The reader sees the text and the set of labels, never the drawn label, the cell or the scenario. On a flip the row
    fails as `label flipped` (and its slot is tried again), or takes the reader's label. Either way `_notes` keeps both
    labels and the reason, and a failed row's reason names them, so flips can be counted by label.

    Source: the self-correction of TarGEN (arXiv 2310.17876, §3).
    """

    judges: ClassVar[bool] = True

    short = "field"

    field: str = Field(min_length=1)
    """Field that holds the label, one with an `enum`; the bare value."""
    text: tuple[str, ...] = ()
    """Fields that the reader sees; default: every other field filled by then."""
    question: str = "Which of the labels fits the example?"
    """What the reader is to decide, e.g. `Does the hypothesis follow from the premise?`"""
    labels: dict[str, str] = Field(default={})
    """Label → what it means, for labels that do not speak for themselves."""
    flip: Literal["drop", "relabel"] = "drop"
    """What becomes of a row whose label the reader does not give."""
    model: str | None = None
    """Alias of the reader; default: the row's writer. Better another than that."""

    async def take(self, draft: Draft, tools: Tools) -> None:
        """One call."""
        drawn = draft.fields.get(self.field)
        if drawn is None:
            raise RowFault("no label", f"correct: {self.field} was not filled in this row")
        values = list(tools.fields[self.field]["enum"])
        shown = self.text or tuple(name for name in tools.fields if name in draft.fields and name != self.field)
        listed = "\n".join(
            f"- {value}: {self.labels[str(value)]}" if str(value) in self.labels else f"- {value}" for value in values
        )
        reply = await tools.ask(
            alias_of(draft, self.model),
            [
                {"role": "system", "content": SYSTEM.format(question=self.question, labels=listed)},
                {
                    "role": "user",
                    "content": f"The example:\n{fenced({name: draft.fields.get(name) for name in shown})}",
                },
            ],
            schema={
                "type": "object",
                "properties": {"because": SENTENCES, "label": {"enum": values}},
                "required": ["because", "label"],
                "additionalProperties": False,
            },
            temperature=0.0,
        )
        read, why = reply.parsed["label"], reply.parsed["because"]
        said = {"drawn": drawn, "read": read, "flipped": read != drawn, "why": why}
        draft.notes["correct"] = {**draft.notes.get("correct", {}), self.field: said}
        if read == drawn:
            return
        if self.flip == "drop":
            raise RowFault("label flipped", f"{self.field}: asked for {drawn!r}, reads as {read!r}: {why}")
        draft.fields[self.field] = read

    def calls(self) -> tuple[float, float]:
        """One call."""
        return (1.0, 1.0)

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias and the fields exist; the label is one of a list."""
        yield from unknown_alias(scene, model=self.model)
        yield from self._known(scene.fields)
        if self.field in scene.fields and "enum" not in scene.fields[self.field]:
            yield Problem(("field",), f"{self.field!r} has no list of labels; declare it as one, e.g. [yes, no]")
        elif self.field in scene.fields:
            values = [str(value) for value in scene.fields[self.field]["enum"]]
            for label in self.labels:
                if label not in values:
                    close = nearest(label, values) or f"; it has {', '.join(values)}"
                    yield Problem(("labels", label), f"{self.field} has no label {label!r}{close}")

    def _known(self, fields: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
        named = [(("field",), self.field), *((("text", number), name) for number, name in enumerate(self.text))]
        for path, name in named:
            if name not in fields:
                close = nearest(name, list(fields)) or (f"; known here: {', '.join(fields)}" if fields else "")
                yield Problem(path, f"no earlier step fills {name!r}{close}")
        if self.field in self.text:
            yield Problem(("text",), f"the reader decides {self.field!r} blind, so it cannot be shown")
        if self.field in fields and len(fields) == 1:
            yield Problem((), f"there is nothing to read beside {self.field!r}; put correct below the step that writes")
