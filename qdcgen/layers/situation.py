"""The layer `situation`: who talks to whom, how, where and about what."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, field_validator

from qdcgen import conditions, sobol
from qdcgen.conditions import Weights, When
from qdcgen.errors import RowFault, nearest
from qdcgen.parts import Layer, Position, Problem, Scene, Settings, word

SPEAKERS: Mapping[str, str] = {
    "two girls": "two teenage girls",
    "two boys": "two teenage boys",
    "girl and boy": "a teenage girl and a teenage boy",
    "two young women": "two women in their twenties",
    "two young men": "two men in their twenties",
    "young woman and man": "a woman and a man, both in their twenties",
    "two women": "two women in their forties",
    "two men": "two men in their forties",
    "woman and man": "a woman and a man, both in their forties",
    "two old women": "two women over seventy",
    "two old men": "two men over seventy",
    "old woman and man": "a woman and a man, both over seventy",
    "mother's age and girl": "a woman in her forties and a teenage girl",
    "father's age and boy": "a man in his forties and a teenage boy",
    "old man and young woman": "a man over seventy and a woman in her twenties",
    "old woman and young man": "a woman over seventy and a man in his twenties",
    "woman and young man": "a woman in her forties and a man in his twenties",
    "man and young woman": "a man in his forties and a woman in her twenties",
}
"""Age and gender of both: value → how the prompt says it."""

VOCABULARY: Mapping[str, Mapping[str, str]] = {
    "speakers": SPEAKERS,
    "familiarity": {
        "strangers": "who have never met before",
        "acquaintances": "who know each other by sight",
        "neighbours": "who are neighbours",
        "colleagues": "who work together",
        "customer and clerk": "of whom one serves the other as a customer",
        "friends": "who are friends",
        "relatives": "who are related",
        "couple": "who are a couple",
    },
    "emotion": {
        "calm": "Both are calm.",
        "cheerful": "Both are in good spirits.",
        "excited": "One is excited, and it is catching.",
        "worried": "One is worried.",
        "sad": "One is sad.",
        "tired": "One is tired and short of words.",
        "irritated": "One is irritated.",
        "embarrassed": "One is embarrassed.",
        "relieved": "Both are relieved.",
    },
    "formality": {
        "formal": "They speak formally.",
        "polite": "They are polite, and no more than that.",
        "casual": "They speak casually.",
        "intimate": "They speak as one speaks only to those one is close to.",
    },
    "duration": {
        "moment": "It is over after a few turns.",
        "minutes": "It takes a few minutes.",
        "half hour": "It takes about half an hour, with room for detail.",
        "long": "It goes on for long, and wanders.",
    },
    "medium": {
        "face to face": "They talk face to face",
        "phone": "They talk on the phone",
        "video call": "They talk by video call",
        "voice messages": "They send each other voice messages",
        "chat": "They write to each other in a chat",
    },
    "topic": {
        "plans": "a plan they have to agree on",
        "work": "something at work or at school",
        "money": "money",
        "health": "somebody's health",
        "family": "family matters",
        "food": "food",
        "travel": "a journey",
        "news": "something that was in the news",
        "memory": "something that happened years ago",
        "problem": "a thing that does not work",
        "favour": "a favour that one of them needs",
        "hobby": "what one of them does for pleasure",
    },
    "location": {
        "home": "at home",
        "workplace": "at work",
        "shop": "in a shop",
        "café": "in a café",
        "street": "in the street",
        "train": "on a train",
        "waiting room": "in a waiting room",
        "apart": "each from where they are",
    },
    "agreement": {
        "agree": "They agree.",
        "mostly agree": "They agree on most of it.",
        "differ": "They see it differently, and let it stand.",
        "persuade": "One brings the other round.",
        "quarrel": "They quarrel.",
    },
    "features": {
        "fluent": "They speak in whole sentences.",
        "hesitations": "They hesitate, and fill pauses with small words.",
        "interruptions": "They interrupt each other.",
        "corrections": "They begin sentences, break off and begin again.",
        "misunderstanding": "They misunderstand each other once, and clear it up.",
        "laughter": "They laugh and joke.",
        "asides": "They stray from the subject and come back.",
        "typing errors": "They write fast, with typing errors and no capitals.",
    },
}
"""The ten characteristics → value → how the prompt says it."""

_TEENAGERS = ("two girls", "two boys", "girl and boy")
_APART_IN_AGE = (
    "mother's age and girl",
    "father's age and boy",
    "old man and young woman",
    "old woman and young man",
    "woman and young man",
    "man and young woman",
)
_SPOKEN = ("face to face", "phone", "video call", "voice messages")

RULES: Sequence[tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]] = (
    ({"familiarity": ("strangers", "acquaintances", "customer and clerk")}, {"formality": ("intimate",)}),
    ({"familiarity": ("couple", "relatives", "friends")}, {"formality": ("formal",)}),
    ({"familiarity": ("couple",)}, {"formality": ("polite",)}),
    ({"familiarity": ("neighbours", "colleagues")}, {"formality": ("intimate",)}),
    ({"familiarity": ("strangers",)}, {"topic": ("memory", "family", "health", "favour")}),
    ({"familiarity": ("strangers",)}, {"medium": ("video call", "voice messages")}),
    ({"familiarity": ("customer and clerk",)}, {"topic": ("memory", "family", "plans"), "duration": ("long",)}),
    (
        {"familiarity": ("customer and clerk",)},
        {"medium": ("voice messages",), "location": ("home", "train", "street")},
    ),
    ({"familiarity": ("strangers",)}, {"location": ("home",), "duration": ("long",)}),
    ({"familiarity": ("couple",)}, {"speakers": (*_TEENAGERS, *_APART_IN_AGE)}),
    ({"familiarity": ("colleagues",)}, {"speakers": (*_TEENAGERS, "mother's age and girl", "father's age and boy")}),
    ({"familiarity": ("colleagues",)}, {"speakers": ("two old women", "two old men", "old woman and man")}),
    ({"familiarity": ("customer and clerk",)}, {"speakers": _TEENAGERS}),
    ({"medium": ("face to face",)}, {"location": ("apart",)}),
    (
        {"medium": ("phone", "video call", "voice messages", "chat")},
        {"location": ("home", "workplace", "shop", "café", "street", "train", "waiting room")},
    ),
    ({"medium": ("chat",)}, {"features": ("interruptions", "hesitations")}),
    ({"medium": ("voice messages",)}, {"features": ("interruptions",), "duration": ("half hour", "long")}),
    ({"medium": _SPOKEN}, {"features": ("typing errors",)}),
    ({"formality": ("formal",)}, {"features": ("typing errors", "laughter", "interruptions")}),
    ({"location": ("shop", "street")}, {"duration": ("half hour", "long")}),
    ({"duration": ("moment",)}, {"features": ("asides",), "agreement": ("persuade",)}),
    ({"emotion": ("sad", "worried", "irritated", "embarrassed")}, {"features": ("laughter",)}),
    ({"emotion": ("cheerful", "relieved")}, {"agreement": ("quarrel",)}),
    ({"agreement": ("quarrel",)}, {"emotion": ("calm",)}),
)
"""What does not go together: where each of the first holds, none of the second may."""

ORDER = (
    "medium",
    "familiarity",
    "speakers",
    "formality",
    "emotion",
    "agreement",
    "location",
    "duration",
    "topic",
    "features",
)
"""In this order they are drawn, those that the recipe sets before the others: what comes late gives way."""

REDRAWS = 100
"""Times a whole situation is begun again where some characteristic is left without a value."""


def _named(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Some = Annotated[Weights, BeforeValidator(_named, json_schema_input_type=dict[str, float] | list[str] | str)]
"""One value, a list of values that weigh alike, or value → weight."""


class Ten(Settings):
    """The ten characteristics, each left free, restricted or weighted."""

    speakers: Some | None = None
    """Age and gender of the two who talk."""
    familiarity: Some | None = None
    """How well they know each other."""
    emotion: Some | None = None
    """The emotional state."""
    formality: Some | None = None
    """How formally they speak."""
    duration: Some | None = None
    """How long it takes."""
    medium: Some | None = None
    """How they reach each other."""
    topic: Some | None = None
    """What it is about, in everyday words; see `topic_from`."""
    location: Some | None = None
    """Where they are."""
    agreement: Some | None = None
    """Whether they agree."""
    features: Some | None = None
    """What makes it sound natural."""

    @field_validator(*VOCABULARY)
    @classmethod
    def _known(cls, value: dict[str, float] | None, info: Any) -> dict[str, float] | None:
        known = list(VOCABULARY[info.field_name])
        for one in value or ():
            if one not in known:
                close = nearest(one, known) or f"; expected {', '.join(known)}"
                raise ValueError(f"no {info.field_name} called {one!r}{close}")
        return value

    def set(self) -> dict[str, dict[str, float]]:
        """Characteristic → weights, for those that are said."""
        return {name: value for name in VOCABULARY if (value := getattr(self, name)) is not None}


class Case(Ten, When):
    """Other weights for rows whose other axes match."""


class Situation(Ten, Layer):
    """The situation of a conversation, by ten characteristics: `situation`, `{medium: [phone, chat], topic: money}`.

    Age and gender of the speakers, familiarity, emotional state, formality, duration, medium, topic, location,
    agreement, and natural features such as hesitations: each from a closed vocabulary, free, fixed, restricted to a
    list, or weighted. The rows of one mix cover each evenly, as far as they are coherent: strangers are not intimate, a
    phone call has no shared place, and a value that does not go with those drawn before it is drawn again. What the
    recipe sets is drawn first, so that its weights hold. `{{ axis }}` prints it in a few sentences, `{{ axis.medium }}`
    one value; the axis's column holds all ten.

    Source: the conversation characteristics of DiaSynth (arXiv 2409.19020, §3); the vocabularies are our own.
    """

    topic_from: str | None = None
    """An axis above that says what the conversation is about, in place of `topic`."""
    when: tuple[Case, ...] = ()
    """Cases, tried in order: `{if: {channel: phone}, medium: phone}`."""

    def draw(self, names: Mapping[str, Any], at: Position) -> dict[str, Any]:
        """A coherent situation near the row's point.

        Raises:
            RowFault: none was found in REDRAWS tries.
        """
        case = conditions.first(self.when, names)
        weights = self._weights(case)
        said = {**self.set(), **(case.set() if case is not None else {})}
        order = dict.fromkeys((*said, *ORDER))
        point: Sequence[float] = sobol.point(at.replicate, len(ORDER), at.mix_seed)
        rng = at.rng
        for _ in range(REDRAWS):
            drawn = self._drawn(weights, dict(zip(ORDER, point, strict=True)), order, rng)
            if drawn is not None:
                break
            point = [rng.random() for _ in ORDER]
        else:
            raise RowFault("situation", f"no coherent situation in {REDRAWS} tries with these settings")
        topic = VOCABULARY["topic"][drawn["topic"]]
        if self.topic_from is not None:
            topic = drawn["topic"] = word(names.get(self.topic_from) or "")
        return {"text": _told(drawn, topic), **{name: drawn[name] for name in VOCABULARY}}

    def _drawn(
        self,
        weights: Mapping[str, Mapping[str, float]],
        point: Mapping[str, float],
        order: Iterable[str],
        rng: random.Random,
    ) -> dict[str, str] | None:
        """One value after another: by the point, or among those that go with the ones before; None: none does."""
        drawn: dict[str, str] = {}
        free = self.topic_from is not None
        for name in order:
            drawn[name] = conditions.pick(weights[name], point[name])
            if _broken(drawn, name, free=free) is not None:
                left = {value: weight for value, weight in weights[name].items() if weight > 0}
                left = {
                    value: left[value] for value in left if _broken({**drawn, name: value}, name, free=free) is None
                }
                if not left:
                    return None
                drawn[name] = conditions.pick(left, rng.random())
        return drawn

    def _weights(self, case: Ten | None) -> dict[str, Mapping[str, float]]:
        said = {**self.set(), **(case.set() if case is not None else {})}
        return {name: said.get(name) or dict.fromkeys(values, 1.0) for name, values in VOCABULARY.items()}

    def column(self) -> Mapping[str, str]:
        """A struct: the sentences, and each characteristic's value."""
        return dict.fromkeys(("text", *VOCABULARY), "String")

    def vocabulary(self) -> Mapping[str, Sequence[str]]:
        """Every value of each characteristic; of the topic only where no axis says it."""
        return {name: list(values) for name, values in VOCABULARY.items() if name != "topic" or self.topic_from is None}

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """Cases and `topic_from` look at axes above, and the settings leave something coherent."""
        yield from conditions.problems(self.when, scene)
        if self.topic_from is not None and self.topic_from not in scene.axes:
            close = nearest(self.topic_from, list(scene.axes))
            yield Problem(("topic_from",), f"no axis {self.topic_from!r} above this one{close}")
        if self.topic_from is not None and self.topic is not None:
            yield Problem(("topic",), "topic_from says already what it is about; leave one of them out")
        for number, case in enumerate((None, *self.when)):
            path = () if case is None else ("when", number - 1)
            if told := self._impossible(case):
                yield Problem(path, told)

    def _impossible(self, case: Ten | None) -> str | None:
        """Why no situation of these settings is coherent: looked for value by value, in the order of the ten."""
        weights = self._weights(case)
        free = self.topic_from is not None
        last = ""

        def search(drawn: dict[str, str], rest: Sequence[str]) -> bool:
            nonlocal last
            if not rest:
                return True
            for value, weight in weights[rest[0]].items():
                more = {**drawn, rest[0]: value}
                if weight > 0 and (said := _broken(more, rest[0], free=free)) is None:
                    if search(more, rest[1:]):
                        return True
                elif weight > 0:
                    last = said or last
            return False

        order = sorted(VOCABULARY, key=lambda name: len(weights[name]))
        return None if search({}, order) else f"nothing coherent is left: {last}"


_RULES_OF = {
    name: [(condition, barred) for condition, barred in RULES if name in condition or name in barred]
    for name in VOCABULARY
}


def _broken(drawn: Mapping[str, str], last: str, *, free: bool) -> str | None:
    """The first rule that the value drawn `last` breaks, in words; None: it goes with the others.

    `free`: the topic is not ours.
    """
    for condition, barred in _RULES_OF[last]:
        if all(drawn.get(name) in values for name, values in condition.items()):
            for name, values in barred.items():
                if drawn.get(name) in values and not (free and name == "topic"):
                    where = " and ".join(f"{one} {drawn[one]}" for one in condition)
                    return f"{where} does not go with {name} {drawn[name]}"
    return None


def _told(drawn: Mapping[str, str], topic: str) -> str:
    said = {name: VOCABULARY[name].get(value, value) for name, value in drawn.items()}
    return (
        f"A conversation between {said['speakers']} {said['familiarity']}. {said['medium']}, {said['location']}. "
        f"It is about {topic}. {said['duration']} {said['formality']} {said['emotion']} {said['agreement']} "
        f"{said['features']}"
    )
