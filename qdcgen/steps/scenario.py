"""The step `scenario`: candidate meta-prompts for a mix in one call, one kept for each row."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from pydantic import Field

from qdcgen.errors import RowFault
from qdcgen.parts import Problem, Scene, Step, Tools
from qdcgen.prompts import DATA, SENTENCES, asked, fenced, unknown_alias, unknown_names
from qdcgen.rows import Draft, Taxonomy, mix_key, stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM = (
    "You plan a data set. For one region of it you write scenarios: each says in two or three sentences who does what, "
    "where and why, concretely enough that a writer can make one example from it without asking back. Scenarios of "
    "one list differ in kind, not in wording: other people, other causes, other outcomes. A scenario is unmistakably "
    "of its region, is no finished example, and never names the list that describes the region. " + DATA
)
CHAIN = 8
"""Calls of a mix that follow one another, each seeing all before it. A later one follows the call of half its number:
call 1,000 then waits for 14 calls and not for 999, and its rows read as many from the journal."""
SHOWN = 32
"""Most earlier scenarios that a call is shown, the latest ones."""
CUT = 160
"""Characters of each: 32 of them take about 1,300 tokens, which leaves the embedded model room for its answer."""


class Scenario(Step):
    """Asks once for several candidate scenarios (meta-prompts) of the row's mix and keeps one; `{{ scenario }}` is it.

    One call gives `candidates` of them, and that many rows of the mix take one each, in an order drawn by the mix: no
    row has the first one because it came first. When more rows share the mix, the next call is shown what the calls
    before it gave and asks for others. Rows of one call pay for it once; the call is counted on the first of them.
    Layers are not told: a scenario is of its region, and what varies inside it is for the steps below to add. The
    model is `model` or the recipe's first, whoever writes the row.

    Source: Simula (arXiv 2603.29791, §2.2).
    """

    candidates: int = Field(default=4, ge=1, le=20)
    """Scenarios in one call."""
    about: str = ""
    """Template that says what the data set is, e.g. `messages of bank customers`; it may name taxonomies only."""
    model: str | None = None
    """Alias of the model; default: the first one."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Overrides the alias."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Overrides the alias."""

    async def take(self, draft: Draft, tools: Tools) -> None:
        """One call for every `candidates` rows of the mix; the kept one becomes a name and is noted."""
        block, place = divmod(draft.cell.replicate, self.candidates)
        seen: list[list[str]] = []
        for number in _line(block):
            try:
                found = await self._ask(draft, tools, number, seen, counted=number == block and place == 0)
            except RowFault:
                if number == block:
                    raise
                continue  # a call that gave nothing is passed over, or it would cost every later row of the mix
            seen.append(found)
        order = random.Random(stream(mix_key(draft.cell.mix), f"scenario/{block}")).sample(
            range(self.candidates), self.candidates
        )
        kept = seen[-1][order[place]]
        draft.names = {**draft.names, "scenario": kept}
        draft.notes["scenario"] = {
            "text": kept,
            "call": block,
            "candidate": order[place],
            "of": self.candidates,
            "shown": len(_latest(seen[:-1])),
        }

    async def _ask(self, draft: Draft, tools: Tools, number: int, seen: list[list[str]], *, counted: bool) -> list[str]:
        """The candidates of one call: the same request for every row that needs it."""
        about = tools.render(self.about, draft.names).strip()
        earlier = _latest(seen)
        parts = [f"The data set: {about}"] if about else []
        parts.append(f"The region:\n{fenced(asked(draft, layers=False))}")
        if earlier:
            listed = "\n".join(f"- {text}" for text in earlier)
            parts.append(f"Scenarios that exist already. Write none that is like one of them:\n{fenced(listed)}")
        parts.append(f"Write {self.candidates} new scenario{'s' if self.candidates > 1 else ''} of this region.")
        reply = await tools.ask(
            self.model or "",
            [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n\n".join(parts)}],
            schema=self._schema,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=str(number),
            counted=counted,
        )
        return [str(text).strip() for text in reply.parsed["scenarios"]]

    @property
    def _schema(self) -> dict[str, Any]:
        texts = {
            "type": "array",
            "items": SENTENCES,
            "minItems": self.candidates,
            "maxItems": self.candidates,
        }
        return {
            "type": "object",
            "properties": {"scenarios": texts},
            "required": ["scenarios"],
            "additionalProperties": False,
        }

    def names(self) -> Mapping[str, Any]:
        """The scenario."""
        return {"scenario": "word " * 40}

    def calls(self) -> tuple[float, float]:
        """One; fewer where rows share a mix, which the plan knows and the step does not."""
        return (1.0, 1.0)

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias exists; `about` names taxonomies only, since all rows of a mix share the call."""
        yield from unknown_alias(scene, model=self.model)
        trees = [axis for axis, value in scene.axes.items() if isinstance(value, Taxonomy)]
        yield from unknown_names(scene, "about", self.about, trees, "taxonomy, and a scenario is of its mix alone")


def _line(block: int) -> list[int]:
    """The calls that call `block` builds on, oldest first, and itself."""
    line = [block]
    while block:
        block = block - 1 if block <= CHAIN else block // 2
        line.append(block)
    return line[::-1]


def _latest(seen: list[list[str]]) -> list[str]:
    """What a call is shown of the calls before it."""
    flat = [text if len(text) <= CUT else f"{text[: CUT - 1]}…" for found in seen for text in found]
    return flat[-SHOWN:]
