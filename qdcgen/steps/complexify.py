"""The step `complexify`: a share of the rows made harder, and not merely longer."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING, Any

from pydantic import Field

from qdcgen.errors import RowFault, nearest
from qdcgen.parts import Band, Problem, Scene, Step, Tools, alias_of, is_text
from qdcgen.prompts import DATA, asked, fenced, unknown_alias, words
from qdcgen.rows import Draft, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM = (
    "You make a text of a data set harder to deal with. Harder means: more has to be understood, weighed or worked out "
    "to deal with it rightly, e.g. conditions that interact, a rare case, information that must be inferred, a "
    "tempting wrong way. It does not mean longer, vaguer, or in rarer words. All that the text is required to be stays "
    "true, and the requirements themselves are not mentioned. " + DATA
)


class Complexify(Step):
    """For a `fraction` of the rows, has the scenario (or a field) rewritten harder while every requirement stays true.

    Which rows: an exact share by their place in the plan, one at random in each stretch of 1/`fraction` rows; a refill
    is asked to be as hard as the row that it stands in for. The column `_complexity` says `hard` or `plain`: what was
    asked, not what was measured. Harder must not be longer: both lengths are noted, a rewriting of more than `longer`
    times the words is asked for once more with that said, and then the original stays, with the reason noted.

    Where the recipe has `target.complexity`, its bands decide instead of `fraction`: a row that is asked for a band
    above the middle one is rewritten, and `_complexity` is the band.

    Source: Simula (arXiv 2603.29791, §2.2).
    """

    short = "fraction"

    fraction: float = Field(default=0.3, ge=0, le=1)
    """Share of the rows, where no bands decide; the bare value."""
    of: str = "scenario"
    """What is rewritten: `scenario`, another name that a step above gives, or a text field that one fills."""
    longer: float = Field(default=1.5, ge=1, le=10)
    """Most words, as a multiple of the original's."""
    model: str | None = None
    """Alias of the model; default: the row's writer."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Overrides the alias."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Overrides the alias."""

    async def take(self, draft: Draft, tools: Tools) -> None:
        """No call for a plain row; one or two for a hard one."""
        band = next((value for value in draft.names.values() if isinstance(value, Band)), None)
        hard = is_hard(draft.cell.slot, self.fraction) if band is None else band.harder
        if band is None:
            draft.notes["complexity"] = "hard" if hard else "plain"
        if not hard:
            return
        source = draft.fields if self.of in draft.fields else draft.names
        if not isinstance(source.get(self.of), str):
            raise RowFault("no text", f"complexify: {self.of} holds no text in this row")
        before = str(source[self.of])
        most = max(int(words(before) * self.longer), words(before) + 3)  # room to change a text of five words at all
        after, why = await self._rewritten(draft, tools, before, most)
        draft.notes["complexify"] = {
            "of": self.of,
            "kept": "original" if why else "rewritten",
            "words": [words(before), words(after)],
            "original": before,
        } | ({"why": why} if why else {})
        if why:
            return
        if source is draft.fields:
            draft.fields[self.of] = after
        else:
            draft.names = {**draft.names, self.of: after}

    async def _rewritten(self, draft: Draft, tools: Tools, before: str, most: int) -> tuple[str, str]:
        """The last rewriting, and why it cannot be used, if so."""
        question = (
            f"What it is required to be:\n{fenced(asked(draft))}\n\nThe text, of {words(before)} words:\n"
            f"{fenced(before)}\n\nWrite it harder, in at most {most} words."
        )
        after, why = before, ""
        for _ in range(2):
            told = f"{question}\n\nYour last try {why}:\n{fenced(after)}\n\nTry again." if why else question
            reply = await tools.ask(
                alias_of(draft, self.model),
                [{"role": "system", "content": SYSTEM}, {"role": "user", "content": told}],
                schema=SCHEMA,
                temperature=self.temperature,
                max_tokens=self.max_tokens,
            )
            after = str(reply.parsed["harder"]).strip()
            if words(after) > most:
                why = f"had {words(after)} words; at most {most} are allowed"
            elif after.casefold() == before.casefold():
                why = "was the text unchanged"
            else:
                return after, ""
        return after, why

    def calls(self) -> tuple[float, float]:
        """One for the share of hard rows, two at most; with bands, of those that are asked for a hard one."""
        return (self.fraction, 2.0)

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias exists, and what is rewritten is a text by then."""
        yield from unknown_alias(scene, model=self.model)
        texts = [name for name, value in scene.axes.items() if isinstance(value, str) and not isinstance(value, Band)]
        texts += [name for name, schema in scene.fields.items() if is_text(schema) and "enum" not in schema]
        if self.of not in texts:
            known = nearest(self.of, texts) or (f"; known here: {', '.join(texts)}" if texts else "")
            message = f"{self.of!r} is no text that a step above gives{known}"
            yield Problem(("of",), message if texts else f"{message}; put `- scenario` above complexify")


def is_hard(slot: int, fraction: float) -> bool:
    """Whether the planned row `slot` is a hard one: of the first n rows n · `fraction` are, to within one row.

    One row is drawn in each stretch of 1/`fraction` rows. Drawn, because the plan takes regions by turns: every second
    row would be hard for one leaf of two and plain for the other.
    """
    share = Fraction(repr(fraction))
    if share > Fraction(1, 2):
        return not is_hard(slot, float(1 - share))
    if not share:
        return False
    stretch = floor(slot * share)
    first, end = ceil(stretch / share), ceil((stretch + 1) / share)
    return slot == first + stream("complexify", str(stretch)) % (end - first)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"harder": {"type": "string", "minLength": 1, "maxLength": 8000}},
    "required": ["harder"],
    "additionalProperties": False,
}
