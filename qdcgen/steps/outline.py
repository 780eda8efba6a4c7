"""The step `outline`: an ordered plan of turns or requests, logic only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from qdcgen.parts import Problem, Scene, Step, Tools, alias_of
from qdcgen.prompts import SENTENCES, unknown_alias, unknown_names
from qdcgen.rows import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM = (
    "You plan a conversation before it is written. You give an ordered list of points: each says in one short sentence "
    "what happens next and why it follows from the points before it. Logic only: no greetings, no wording, no line of "
    "dialogue. Each point is what one speaker brings up or asks for, and can be settled in one exchange."
)

LONGEST = 300
"""Characters of a point: it is one turn's purpose, and a small model fills what it is given."""


class Outline(Step):
    """Asks for an ordered plan of turns or requests, logic only, before a line of the text is written.

    `{{ outline.text }}` prints it as a numbered list for the steps below, `outline.points` is the list itself, and
    `converse` follows it point by point.

    Source: the request plan of ToolFlow (arXiv 2410.18447, §3) and the reasoning block of DiaSynth (arXiv 2409.19020).
    """

    short = "prompt"

    prompt: str = Field(min_length=1)
    """Template that says what is planned: who speaks, about what, with which tools; the bare value."""
    min: int = Field(default=3, ge=1, le=50)
    """Fewest points."""
    max: int = Field(default=6, ge=1, le=50)
    """Most points."""
    model: str | None = None
    """Alias of the model; default: the row's writer."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Overrides the alias."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Overrides the alias."""

    @model_validator(mode="after")
    def _possible(self) -> Outline:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self

    async def take(self, draft: Draft, tools: Tools) -> None:
        """One call."""
        size = str(self.min) if self.min == self.max else f"{self.min} to {self.max}"
        asked = tools.render(self.prompt, {**draft.names, **draft.fields})
        points = {
            "type": "array",
            "items": {**SENTENCES, "maxLength": LONGEST},
            "minItems": self.min,
            "maxItems": self.max,
        }
        reply = await tools.ask(
            alias_of(draft, self.model),
            [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"{asked}\n\nGive {size} points."},
            ],
            schema={
                "type": "object",
                "properties": {"points": points},
                "required": ["points"],
                "additionalProperties": False,
            },
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        listed = [" ".join(str(point).split()) for point in reply.parsed["points"]]
        draft.names = {**draft.names, "outline": _value(listed)}
        draft.notes["outline"] = listed

    def names(self) -> Mapping[str, Any]:
        """The outline."""
        return {"outline": _value(["word " * 15] * self.max)}

    def calls(self) -> tuple[float, float]:
        """One call."""
        return (1.0, 1.0)

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias exists; the template names only what there is."""
        yield from unknown_alias(scene, model=self.model)
        yield from unknown_names(scene, "prompt", self.prompt)


def _value(points: list[str]) -> dict[str, Any]:
    numbered = "\n".join(f"{number}. {point}" for number, point in enumerate(points, 1))
    return {"text": numbered, "points": points}
