"""The layer `people`: persons from a file or a list, and more of them from a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from qdcgen.deal import nth, pair, pairs
from qdcgen.errors import RowFault, UsageError
from qdcgen.parts import Layer, Position, Problem, Scene, Tools
from qdcgen.passages import clean, cut, texts, unlike
from qdcgen.prompts import DATA, fenced, unknown_alias
from qdcgen.together import together

if TYPE_CHECKING:
    from pathlib import Path

PER_CALL = 3
"""Persons asked for in one call: one text or person is seen from few sides before they repeat each other."""
SPARE = 3
"""Calls at most, as a multiple of what would do if nobody were dropped."""
PERSON = 150
"""Words of one person's description; what follows is left out."""
SOURCE = 300
"""Words of a text that persons are asked for."""
LETTERS = 0.9
"""Similarity of letters at which two descriptions are one person's (arXiv 2406.20094 §2.3)."""
MOST_READ = 100_000
"""Rows of a file that persons or texts are read from."""

SYSTEM = (
    "You invent people for a data set, as varied as real ones. Each is one sentence or two in the third person: what "
    "they do, where they stand in life, what they care about and know well. No names, no numbers, no lists of traits, "
    "nobody famous. Reply with JSON: people, a list of such descriptions. " + DATA
)
FROM_TEXT = (
    "Name {count} different people who may have written, would read, or are affected by the text. Let what the text "
    "is about show in them, but do not repeat its words."
)
FROM_PEOPLE = (
    "Name {count} different people who stand in a close relation to this person (at work, in the family, as a "
    "customer, an opponent, a neighbour). Describe each by themselves, so that they can be understood alone."
)


class People(Layer):
    """A person of a file or a list for each row: `{people: {file: people.jsonl}}`, `{people: [a nurse, a baker]}`.

    Within a mix nobody comes twice before everybody came once. With `pairs: true` a row gets two different people
    (`{{ axis.first }}`, `{{ axis.second }}`), and no pair comes twice in a mix, in whatever order, before all have.
    `grow: 50` has a model add people until there are 50, once, before the first row: from each of those there it asks
    who is close to them (`from: people`), or, where the file holds texts of any kind, who would write or read them
    (`from: text`), then who is close to those. Near-duplicates are left out. What was grown is frozen in the run
    folder as `axes/<axis>.json`: look at it, prune it, run again.

    Source: text-to-persona and persona-to-persona (Ge et al. 2024, arXiv 2406.20094 §2).
    """

    model_config = ConfigDict(populate_by_name=True)
    short: ClassVar[str | None] = "pool"

    pool: tuple[Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)], ...] = ()
    """People, one text each."""
    file: str | None = None
    """A table, or a text file with one person between blank lines, or one a line, in the recipe's folder."""
    text: str | None = None
    """Column of the table; default: `text`, or the only column of texts."""
    grow: int | None = Field(default=None, ge=1, le=10_000)
    """People there should be in the end; a model is asked for those that are missing."""
    from_: Literal["people", "text"] = Field(default="people", alias="from")
    """What the file holds, and growing begins with: `people`, or `text` that people are found for."""
    model: str | None = None
    """Alias of the model that adds people; default: the first one."""
    similarity: float = Field(default=0.85, gt=0, le=1)
    """Cosine of two descriptions' embeddings from which the later one is a near-duplicate, and left out."""
    pairs: bool = False
    """Two people a row."""

    @model_validator(mode="after")
    def _possible(self) -> People:
        if not self.pool and self.file is None:
            raise ValueError("expected pool: (a list of people) or file:")
        if self.pool and self.file is not None:
            raise ValueError("pool and file cannot both be given; put the pool's people into the file")
        if self.from_ == "text" and (self.grow is None or self.file is None):
            raise ValueError("from: text needs file: with the texts, and grow: with the number of people wanted")
        if self.pairs and self.grow is None and self.pool and len(set(self.pool)) < 2:  # noqa: PLR2004
            raise ValueError("pairs need two different people at least")
        return self

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias exists."""
        yield from unknown_alias(scene, model=self.model)

    def preparing(self) -> float:
        """Calls that growing takes at most."""
        known = 0 if self.from_ == "text" else len(set(self.pool))
        return 0.0 if self.grow is None else float(SPARE * -(-max(0, self.grow - known) // PER_CALL))

    async def prepare(self, tools: Tools) -> Any:
        """Everybody, as plain data: `people` (text, and where each is from), `dropped`, `calls`.

        Raises:
            UsageError: the file cannot be read or holds nobody; or too few for pairs.
        """
        path = tools.file(self.file) if self.file is not None else None
        found, held = self._begin(path, tools)
        dropped: list[dict[str, Any]] = []
        calls = 0
        if self.grow is not None and len(found) < self.grow:
            calls, dropped = await self._grown(found, held, self.grow, tools)
        least = 2 if self.pairs else 1
        if len(found) < least:
            asked = f", and {calls} calls gave no more" if calls else ""
            raise UsageError(f"{path or 'pool'}: {len(found)} people where {least} are needed{asked}")
        return {"people": found, "dropped": dropped, "calls": calls}

    def _begin(self, path: Path | None, tools: Tools) -> tuple[list[dict[str, str]], list[tuple[str, str]]]:
        """People that are there already, and (source, text) of what growing begins with."""
        if path is None:
            raw = [(f"pool {number}", text) for number, text in enumerate(self.pool, 1)]
        else:
            column = texts(path, self.text)[:MOST_READ]
            raw = [(f"row {number}", text) for number, text in enumerate(column, 1) if text]
        size = SOURCE if self.from_ == "text" else PERSON
        said = [(source, shown) for source, text in raw if (shown := cut(clean(text), size))]
        if not said:
            raise UsageError(f"{path or 'pool'}: no text in it")
        if self.from_ == "text":
            return [], said
        sources = {text: source for source, text in reversed(said)}
        people = list(dict.fromkeys(text for _, text in said))
        if self.grow is not None and len(people) < self.grow:  # else near ones are their owner's business
            people, _ = self._distinct([], people, tools)
        return [{"text": text, "source": sources[text]} for text in people], []

    def _distinct(self, held: Sequence[str], new: Sequence[str], tools: Tools) -> tuple[list[str], Sequence[Any]]:
        return unlike(held, new, tools.embed, letters=LETTERS, meaning=self.similarity)

    async def _grown(
        self, found: list[dict[str, str]], held: list[tuple[str, str]], wanted: int, tools: Tools
    ) -> tuple[int, list[dict[str, Any]]]:
        """Adds people to `found`, wave by wave, each source asked once; gives calls made and who was left out."""
        most = SPARE * -(-(wanted - len(found)) // PER_CALL)
        order = [held[nth(number, len(held), 0)] for number in range(min(len(held), most))]
        dropped: list[dict[str, Any]] = []
        calls = asked = 0
        while len(found) < wanted and calls < most:
            wave = [(FROM_TEXT, *one) for one in order[calls:]] if calls < len(order) else []
            if not wave:
                wave = [(FROM_PEOPLE, one["source"], one["text"]) for one in found[asked:]]
            wave = wave[: min(-(-(wanted - len(found)) // PER_CALL), most - calls)]
            if not wave:
                break
            calls += len(wave)
            asked += len(wave) if wave[0][0] is FROM_PEOPLE else 0
            replies = await together(self._asked(how, text, tools) for how, _, text in wave)
            for (how, source, _), said in zip(wave, replies, strict=True):
                kept, left = self._distinct([one["text"] for one in found], said, tools)
                origin = source if how is FROM_TEXT else f"close to: {source}"
                found += [{"text": text, "source": origin[:200]} for text in kept[: wanted - len(found)]]
                dropped += [one._asdict() for one in left]
        return calls, dropped

    async def _asked(self, how: str, text: str, tools: Tools) -> list[str]:
        """The people of one reply; nobody where it does not fit."""
        form = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": PER_CALL}
        try:
            reply = await tools.ask(
                self.model or "",
                [
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": f"{how.format(count=PER_CALL)}\n{fenced(text)}"},
                ],
                schema={
                    "type": "object",
                    "properties": {"people": form},
                    "required": ["people"],
                    "additionalProperties": False,
                },
            )
        except RowFault:
            return []
        return [shown for one in reply.parsed["people"][:PER_CALL] if (shown := cut(clean(one), PERSON))]

    def draw(self, names: Mapping[str, Any], at: Position) -> dict[str, str]:  # noqa: ARG002  (looks at no other axis)
        """The mix's next person, or pair; in a pair either may come first."""
        held = at.prepared["people"] if at.prepared else [{"text": "a person"}, {"text": "another person"}]
        if not self.pairs:
            one = held[nth(at.replicate, len(held), at.mix_seed)]
            return {"text": one["text"], "source": one.get("source", "")}
        two = list(pair(nth(at.replicate, pairs(len(held)), at.mix_seed)))
        at.rng.shuffle(two)
        first, second = (held[number]["text"] for number in two)
        return {"text": f"First person: {first}\nSecond person: {second}", "first": first, "second": second}

    def column(self) -> Mapping[str, str]:
        """A struct: the person and where they are from; or both people."""
        return dict.fromkeys(("text", "first", "second") if self.pairs else ("text", "source"), "String")

    def remarks(self, prepared: Mapping[str, Any]) -> Sequence[str]:
        """How many there are, and whether that is what was wanted."""
        people, dropped = len(prepared["people"]), len(prepared["dropped"])
        said = f"{people:,} people"
        if self.grow is not None:
            said += f" ({prepared['calls']:,} calls, {dropped:,} near-duplicates left out)"
            said += f"; {self.grow:,} were wanted" if people < self.grow else ""
        return [said]
