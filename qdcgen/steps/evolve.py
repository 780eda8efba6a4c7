"""The step `evolve`: rewrite the nearest accepted row toward a cell that stayed empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from qdcgen.parts import Problem, Scene, Step, Tools, alias_of, pinned
from qdcgen.prompts import DATA, asked, fenced, unknown_alias
from qdcgen.rows import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM = (
    "You adapt examples of a data set. You are given one accepted example as JSON and a list of what a new one must "
    "be. Rewrite the example so that it is unmistakably what the list says, and keep of the old one only what still "
    "fits: its form, its tone of voice, its level of detail. Never mention the list or its names. Answer with one JSON "
    "object that has the same keys. " + DATA
)


class Evolve(Step):
    """In a refill, rewrites an accepted row of the nearest region instead of writing from nothing.

    Put it first under `generate:`. In rounds before `after`, and while nothing has been accepted, it does nothing and
    the steps below it make the row. From then on it asks the model once to turn the nearest accepted row into what the
    owed cell asks for, fills every field with the answer, and the steps below it that make rows are passed over
    (`revise` and `correct` are not; these rows are in no share of `complexify`). What it wrote is judged as every row
    is, so it counts where it lands (name the filter `landed` to have that checked). Meant for the
    last cells, that writing from nothing does not reach; `_notes` says which row it started from, and `_generation` is
    one more than that row's.

    Source: rewriting toward empty cells is the variation step of quality-diversity search (Mouret and Clune 2015,
    arXiv 1504.04909; with a language model: Bradley et al. 2023, arXiv 2310.13032).
    """

    model: str | None = None
    """Alias of the model; default: the row's writer."""
    after: int = Field(default=1, ge=1, le=1000)
    """First round in which it rewrites; round 0 is the first try of every row."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Overrides the alias."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Overrides the alias."""

    async def take(self, draft: Draft, tools: Tools) -> None:
        """One call, or none; its parsed reply becomes all fields of the draft."""
        source = tools.near(draft.cell) if draft.round >= self.after else None
        if source is None:
            return
        fields = pinned(draft, tools.fields)
        kept = {name: source.fields[name] for name in fields if name in source.fields}
        reply = await tools.ask(
            alias_of(draft, self.model),
            [
                {"role": "system", "content": SYSTEM},
                {
                    "role": "user",
                    "content": f"The accepted example:\n{fenced(kept)}\n\nThe new one must be:\n{asked(draft)}",
                },
            ],
            schema={"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False},
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        draft.fields.update(reply.parsed)
        draft.notes["evolve"] = {"from": source.id}
        draft.generation = source.generation + 1
        draft.whole = True

    def fills(self) -> Mapping[str, Mapping[str, Any]]:
        """Nothing of its own: the fields of the steps below it."""
        return {}

    def calls(self) -> tuple[float, float]:
        """None in the first round, one at most."""
        return (0.0, 1.0)

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias exists, and no step stands above it: what that filled would be thrown away."""
        yield from unknown_alias(scene, model=self.model)
        if scene.fields:
            yield Problem((), "evolve belongs first under generate:, before any step that fills fields")
