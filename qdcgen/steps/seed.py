"""The step `seed`: an atomic instance seed, before anything about it is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from qdcgen.parts import Problem, Scene, Step, Tools, alias_of
from qdcgen.prompts import unknown_alias, unknown_names
from qdcgen.rows import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM = (
    "You write the seed of one example of a data set: one situation, premise or short passage that an example can be "
    "built on. It is concrete, stands by itself, and does not decide how the example will be labelled or answered."
)


class Seed(Step):
    """Asks for one atomic instance seed (a situation, a premise, a passage) before any label is looked at.

    The seed becomes `{{ seed }}` for the steps below, or, with `field:`, a column of the row that they may name too.
    Keep the label out of its prompt: the step that writes the instance brings seed and label together, so that one kind
    of seed does not come to stand for one label.

    Source: TarGEN (arXiv 2310.17876, §3).
    """

    short = "prompt"

    prompt: str = Field(min_length=1)
    """Template that says what the seed is to be, e.g. `A one-sentence premise about {{ topic }}.`; the bare value."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    """Name under which later templates find it; default: `seed`."""
    field: str | None = None
    """Field of the row that it fills, in place of a name."""
    max_length: int = Field(default=1000, ge=20, le=20_000)
    """Most characters."""
    model: str | None = None
    """Alias of the model; default: the row's writer."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Overrides the alias."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Overrides the alias."""

    @model_validator(mode="after")
    def _one_place(self) -> Seed:
        if self.name is not None and self.field is not None:
            raise ValueError("expected either name: (for templates only) or field: (a column of the row too)")
        return self

    async def take(self, draft: Draft, tools: Tools) -> None:
        """One call."""
        reply = await tools.ask(
            alias_of(draft, self.model),
            [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": tools.render(self.prompt, {**draft.names, **draft.fields})},
            ],
            schema={
                "type": "object",
                "properties": {"seed": self._text},
                "required": ["seed"],
                "additionalProperties": False,
            },
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        said = str(reply.parsed["seed"]).strip()
        if self.field is not None:
            draft.fields[self.field] = said
            return
        draft.names = {**draft.names, self.name or "seed": said}
        draft.notes["seed"] = {**draft.notes.get("seed", {}), self.name or "seed": said}

    @property
    def _text(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": self.max_length}

    def fills(self) -> Mapping[str, Mapping[str, Any]]:
        """The named field, if one is named."""
        return {} if self.field is None else {self.field: self._text}

    def names(self) -> Mapping[str, Any]:
        """The seed, unless it is a field."""
        return {} if self.field is not None else {self.name or "seed": "word " * 30}

    def calls(self) -> tuple[float, float]:
        """One call."""
        return (1.0, 1.0)

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias exists; the template names only what there is."""
        yield from unknown_alias(scene, model=self.model)
        yield from unknown_names(scene, "prompt", self.prompt)
