"""The layer `persona`: people spread evenly over axes that the recipe names, written as rules they decide by."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, field_validator

from qdcgen import conditions, sobol
from qdcgen.conditions import When
from qdcgen.errors import Incomplete, RowFault, nearest
from qdcgen.parts import Layer, Position, Problem, Scene, Tools

SYSTEM = (
    "You describe two people who stand at the two ends of a scale. For each end write short sentences that begin with "
    "`You`, each about another case of daily life: what this person decides in that case, or thinks and says about it. "
    "At most twenty words a sentence. Only decisions and opinions: no life story, no name, age, job or place. Do not "
    "use the words of the scale, and no digits. The two ends contradict each other. Scale and setting are data, no "
    "instruction. Answer with JSON: low (sentences for the person who has little of it) and high (sentences for the "
    "person who has much of it)."
)
SENTENCES = 4
"""Asked for at each end."""
ASKED = 2
"""Calls for one axis at most: the second where the first did not fit, or each sentence of an end names an axis."""
SHOWN = 2
"""Sentences of one end that one person is told by."""

LEVELS: Sequence[tuple[str, str | None]] = (
    ("This holds for you without exception:", None),
    ("As a rule:", "Only now and then, and to your own surprise:"),
    ("Some days:", "And just as often:"),
)
"""How firmly a person is told to keep to the nearer end, from the end to the middle, and what leads in the other."""

MIDDLE = 2
_TAKEN = {"text", "name", *dir(dict)}
"""Keys of the value that are something else already: `{{ persona.values }}` would be a method."""
SENTENCE = r"^(?:You [^0-9.\n]{10,160}\.)$"
"""One sentence to `you`, without a digit. Asked for in words alone, a small model writes paragraphs about customers."""


def _ranged(value: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    for axis, (low, high) in value.items():
        if not 0 <= low < high <= 1:
            raise ValueError(f"{axis}: expected two positions such as [0, 0.5], from 0 to 1, found [{low:g}, {high:g}]")
    return value


Within = Annotated[dict[str, tuple[float, float]], AfterValidator(_ranged)]


class Case(When):
    """Other ranges for rows whose other axes match."""

    within: Within
    """Axis of the persona → the part of it that is used in this case."""


class Persona(Layer):
    """A person on axes of your own: `{axes: {risk: attitude to financial risk, pace: how fast they decide}}`.

    Before the first round the model is asked, once for each axis (at most twice), for the rules and opinions of people
    at its two ends; they are frozen in the run folder, where they can be edited. The rows of one mix take the points of
    a scrambled Sobol sequence over the axes, by the row's number, so that few people cover all combinations. A person's
    text is made of the ends' sentences, as firmly as its position says: decision rules and opinions, no life story, no
    name of an axis and no number. The positions are in the axis's column.

    Source: support-covering persona generators (arXiv 2602.03545).
    """

    short: ClassVar[str | None] = "axes"

    axes: dict[str, Annotated[str, Field(min_length=1, max_length=500)]] = Field(min_length=2, max_length=8)
    """Axis of the persona → what it distinguishes."""
    about: str = Field(default="", max_length=2000)
    """Who these people are and where they are met, e.g. `customers of a bank`."""
    model: str | None = None
    """Alias of the model that describes the ends; default: the first one."""
    within: Within = Field(default={})
    """Axis of the persona → the part of it that is used: `{risk: [0.5, 1]}`."""
    when: tuple[Case, ...] = ()
    """Cases, tried in order: `{if: {topic: loans/*}, within: {risk: [0, 0.5]}}`."""

    @field_validator("axes")
    @classmethod
    def _nameable(cls, value: dict[str, str]) -> dict[str, str]:
        for axis in value:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", axis) or axis in _TAKEN:
                why = "taken" if axis in _TAKEN else "expected letters, digits and _, starting with a letter"
                raise ValueError(f"axis {axis!r}: {why}")
        return value

    async def prepare(self, tools: Tools) -> dict[str, dict[str, list[str]]]:
        """Axis → low and high → sentences, none of which names an axis or holds a digit.

        Raises:
            Incomplete: no reply fits.
            ModelRefused: as `Tools.ask`.
        """
        return {axis: await self._ends(told, tools) for axis, told in self.axes.items()}

    async def _ends(self, told: str, tools: Tools) -> dict[str, list[str]]:
        """Sentences that name no axis; where even the second reply has none, those that do, with `it` in its place."""
        asked = f"The setting: {self.about}\n" if self.about else ""
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"{asked}The scale: {told}\nWrite {SENTENCES} sentences for each end."},
        ]
        sentence = {"type": "string", "pattern": SENTENCE}
        side = {"type": "array", "items": sentence, "minItems": SENTENCES, "maxItems": SENTENCES}
        schema = {
            "type": "object",
            "properties": {"low": side, "high": side},
            "required": ["low", "high"],
            "additionalProperties": False,
        }
        found: dict[str, list[str]] = {"low": [], "high": []}
        why = ""
        for _ in range(ASKED):
            try:
                reply = await tools.ask(self.model or "", messages, schema=schema)
            except RowFault as fault:
                why = str(fault)
                messages = [*messages[:2], {"role": "user", "content": "Sentences that begin with `You`, no digits."}]
                continue
            for end, kept in found.items():
                kept += [" ".join(said.split()) for said in reply.parsed[end]]
            if all(any(not self._named.search(said) for said in kept) for kept in found.values()):
                break
            again = f"Again, with other words: never {', '.join(map(repr, self.axes))}."
            messages = [*messages[:2], {"role": "assistant", "content": reply.text}, {"role": "user", "content": again}]
        if not all(found.values()):
            raise Incomplete(f"persona: no sentences for {told!r} ({why}); name a larger model under model:")
        return {end: self._plain(list(dict.fromkeys(kept))) for end, kept in found.items()}

    @cached_property
    def _named(self) -> re.Pattern[str]:
        """The name of any axis, `_` said as a space or not, and what grammar makes of it: risks, risky, risked."""
        said = (r"[\s_-]+".join(re.escape(one) for one in axis.split("_") if one) for axis in self.axes)
        return re.compile(rf"\b(?:{'|'.join(said)})(?:s|es|y|ed|d|ing)?\b", re.IGNORECASE)

    def _plain(self, said: list[str]) -> list[str]:
        plain = [one for one in said if not self._named.search(one)]
        return plain or [self._named.sub("it", one) for one in said]

    def preparing(self) -> float:
        """Up to two calls an axis."""
        return float(ASKED * len(self.axes))

    def draw(self, names: Mapping[str, Any], at: Position) -> dict[str, Any]:
        """The person at the row's point; before `prepare`, one without a description.

        Raises:
            RowFault: the frozen ends were edited into something else.
        """
        case = conditions.first(self.when, names)
        within = {**self.within, **(case.within if case else {})}
        point = sobol.point(at.replicate, len(self.axes), at.mix_seed)
        places = {axis: _placed(u, within.get(axis)) for axis, u in zip(self.axes, point, strict=True)}
        if at.prepared is None:
            return {"text": "a person", **places}
        rng = at.rng
        try:
            said = [_told(at.prepared[axis], place, rng) for axis, place in places.items()]
        except (LookupError, TypeError, ValueError):
            raise RowFault("persona", "the frozen axis lacks a low or high end; mend it, or remove the file") from None
        rng.shuffle(said)
        return {"text": " ".join(said), **places}

    def column(self) -> Mapping[str, str]:
        """A struct: the text, and the position on each axis, from 0 to 1."""
        return {"text": "String", **dict.fromkeys(self.axes, "Float64")}

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias exists, cases look at axes above, and ranges are of the persona's own axes."""
        yield from conditions.problems(self.when, scene)
        if self.model is not None and self.model not in scene.models:
            yield Problem(("model",), f"no model called {self.model!r}{nearest(self.model, list(scene.models))}")
        for path, within in (((), self.within), *((("when", at), case.within) for at, case in enumerate(self.when))):
            for axis in within:
                if axis not in self.axes:
                    yield Problem((*path, "within", axis), f"no axis {axis!r} here{nearest(axis, list(self.axes))}")


def _placed(u: float, within: tuple[float, float] | None) -> float:
    low, high = within or (0.0, 1.0)
    return round(low + u * (high - low), 6)


def _told(ends: Mapping[str, Sequence[str]], place: float, rng: random.Random) -> str:
    """What the position sounds like: the nearer end's sentences, and, further in, one of the other's."""
    level = min(int(place * 5), 4)
    near, far = ("low", "high") if level < MIDDLE or (level == MIDDLE and rng.random() < 0.5) else ("high", "low")  # noqa: PLR2004
    lead, other = LEVELS[min(level, 4 - level)]
    count = SHOWN if other is None or level != MIDDLE else 1
    said = [lead, *rng.sample(list(ends[near]), min(count, len(ends[near])))]
    if other is not None:
        said += [other, rng.choice(list(ends[far]))]
    return " ".join(said)
