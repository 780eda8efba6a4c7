"""The step `revise`: a requirement critic says yes or no and why; on a no the row is rewritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from qdcgen.errors import RowFault, nearest
from qdcgen.parts import Problem, Scene, Step, Tools, alias_of, pinned
from qdcgen.prompts import DATA, VERDICT, asked, fenced, unknown_alias, unknown_names
from qdcgen.rows import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CRITIC = (
    "You check one example of a data set against its requirements. First say in one or two sentences which "
    "requirement the example misses and where, or that it misses none; then give the verdict: yes if it meets every "
    "requirement, no if it misses one. Style and taste are no requirements, nor is the JSON in which "
    "the example is shown. " + DATA
)
WRITER = (
    "You mend one example of a data set. You are given its requirements, the example as JSON, and what a critic found "
    "missing. Change what has to change, keep the rest, and never mention the requirements or the critic. Answer with "
    "one JSON object that has the same keys. " + DATA
)


class Revise(Step):
    """Asks a critic whether the row meets its requirements, strictly yes or no with the reason; rewrites it on a no.

    The requirements are what the row was asked to be (its mix and its layers), its scenario where there is one, and
    `require`. After a rewriting the critic is asked again, until it says yes or `rounds` are through: then the last
    rewriting stands, and `_notes` says that it ended in a no, with every verdict. To drop such rows, name a filter that
    judges the same; here nothing is dropped.

    Source: Simula (arXiv 2603.29791, §2.2).
    """

    judges: ClassVar[bool] = True

    short = "require"

    require: tuple[str, ...] = ()
    """Further requirements, each a template, e.g. `[the message never names the bank]`; the bare value."""
    fields: tuple[str, ...] = ()
    """Fields that are checked and rewritten; default: every field filled by then."""
    rounds: int = Field(default=1, ge=1, le=10)
    """Most rewritings."""
    model: str | None = None
    """Alias of the critic; default: the row's writer."""
    writer: str | None = None
    """Alias of who rewrites; default: the row's writer."""

    async def take(self, draft: Draft, tools: Tools) -> None:
        """One call where the critic says yes at once; two more for each rewriting."""
        fields = self.fields or tuple(name for name in tools.fields if name in draft.fields)
        requirements = self._requirements(draft, tools)
        verdicts = [await self._verdict(draft, tools, requirements, fields)]
        while verdicts[-1]["verdict"] == "no" and len(verdicts) <= self.rounds:
            await self._rewrite(draft, tools, requirements, fields, verdicts[-1]["why"])
            verdicts.append(await self._verdict(draft, tools, requirements, fields))
        said = {"verdicts": verdicts, "rounds": len(verdicts) - 1, "ended": verdicts[-1]["verdict"]}
        draft.notes["revise"] = [*draft.notes.get("revise", []), said]

    def _requirements(self, draft: Draft, tools: Tools) -> str:
        lines = [asked(draft)]
        if isinstance(scenario := draft.names.get("scenario"), str):
            lines.append(f"- scenario: {scenario}")
        names = {**draft.names, **draft.fields}
        lines += [f"- {tools.render(source, names)}" for source in self.require]
        return "\n".join(line for line in lines if line)

    async def _verdict(self, draft: Draft, tools: Tools, requirements: str, fields: tuple[str, ...]) -> dict[str, Any]:
        reply = await tools.ask(
            alias_of(draft, self.model),
            [
                {"role": "system", "content": CRITIC},
                {"role": "user", "content": _shown(draft, requirements, fields)},
            ],
            schema=VERDICT,
            temperature=0.0,
        )
        return {"verdict": reply.parsed["verdict"], "why": reply.parsed["finding"]}

    async def _rewrite(self, draft: Draft, tools: Tools, requirements: str, fields: tuple[str, ...], why: str) -> None:
        schemas = pinned(draft, {name: tools.fields[name] for name in fields})
        reply = await tools.ask(
            alias_of(draft, self.writer),
            [
                {"role": "system", "content": WRITER},
                {
                    "role": "user",
                    "content": f"{_shown(draft, requirements, fields)}\n\nThe critic found:\n{fenced(why)}",
                },
            ],
            schema={
                "type": "object",
                "properties": schemas,
                "required": list(schemas),
                "additionalProperties": False,
            },
        )
        draft.fields.update(reply.parsed)

    def calls(self) -> tuple[float, float]:
        """A critic for every row, and two more a rewriting; that half the rows need one is a guess, not a figure."""
        return (2.0, 1.0 + 2.0 * self.rounds)

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """Aliases and fields exist; the templates name only what there is."""
        yield from unknown_alias(scene, model=self.model, writer=self.writer)
        if not scene.fields:
            yield Problem((), "nothing is written yet; put revise below the step that fills the fields")
        records = [name for name, schema in scene.fields.items() if _holds_records(schema)]
        for name in records if not self.fields else set(records) & set(self.fields):
            rest = [other for other in scene.fields if other not in records]
            message = f"{name!r} is a list of records, which is not rewritten; name the others: {', '.join(rest)}"
            yield Problem(("fields",), message)
        for number, name in enumerate(self.fields):
            if name not in scene.fields:
                close = nearest(name, list(scene.fields)) or f"; known here: {', '.join(scene.fields)}"
                yield Problem(("fields", number), f"no earlier step fills {name!r}{close}")
        for number, source in enumerate(self.require):
            for problem in unknown_names(scene, "require", source):
                yield Problem(("require", number), problem.message)


def _holds_records(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("type") == "array" and schema.get("items", {}).get("type") == "object")


def _shown(draft: Draft, requirements: str, fields: tuple[str, ...]) -> str:
    missing = [name for name in fields if name not in draft.fields]
    if missing:
        raise RowFault("no text", f"revise: {', '.join(missing)} was not filled in this row")
    example = {name: draft.fields[name] for name in fields}
    return f"The requirements:\n{fenced(requirements)}\n\nThe example:\n{fenced(example)}"
