"""The layer `big_five`: a person by five traits, told in prose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from statistics import NormalDist
from typing import Any, Literal

from pydantic import Field, field_validator

from qdcgen import conditions, sobol
from qdcgen.conditions import Weights, When
from qdcgen.errors import nearest
from qdcgen.parts import Layer, Position, Problem, Scene

Trait = Literal["openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism"]

BANDS = {"very low": 20.0, "low": 35.0, "middle": 45.0, "high": 55.0, "very high": 65.0}
"""Band → the T-score it begins at; the last one ends at 80, three standard deviations above the mean."""
HIGHEST = 80.0
_SCORES = NormalDist(50, 10)

PROSE: Mapping[Trait, Mapping[str, tuple[str, ...]]] = {
    "openness": {
        "very low": (
            "They want things done the way they have always been done, and new ideas tire them.",
            "They have no patience for art, theories or what-ifs, and stay with what they know.",
            "They distrust anything they have not seen work with their own eyes.",
        ),
        "low": (
            "They prefer the familiar road and need a good reason to leave it.",
            "They like plain facts better than ideas, and a tested recipe better than a new one.",
            "They are practical, and seldom wonder how things could be otherwise.",
        ),
        "middle": (
            "They try something new now and then, once the old way has shown its limits.",
            "They enjoy an unusual idea as long as it leads somewhere.",
            "They keep their habits, but can be talked into an experiment.",
        ),
        "high": (
            "They are curious, and ask how things work even where nobody needs to know.",
            "They like odd questions, foreign food and books outside their field.",
            "They soon get bored with the usual, and look for another way to do it.",
        ),
        "very high": (
            "They live in ideas: one remark sets off three theories and a comparison nobody expected.",
            "They chase whatever is strange and beautiful, and find routine close to unbearable.",
            "They question every convention, and picture ten alternatives before others see one.",
        ),
    },
    "conscientiousness": {
        "very low": (
            "They forget dates, lose papers and begin things that never get finished.",
            "They act on the spur of the moment, and leave the mess for another day.",
            "They ignore plans, miss deadlines and shrug it off.",
        ),
        "low": (
            "They put off dull tasks, and make do with good enough.",
            "They are loose about details and rather improvise than prepare.",
            "They mean to be on time, and often are not.",
        ),
        "middle": (
            "They keep order where it counts, and let the rest slide.",
            "They finish what they promised, though sometimes at the last minute.",
            "They plan the week roughly and adjust as they go.",
        ),
        "high": (
            "They make lists, keep appointments and read instructions to the end.",
            "They check their work before they hand it over, and expect the same of others.",
            "They pay bills on the day they arrive, and know where every paper is.",
        ),
        "very high": (
            "They leave nothing to chance: every step is planned, written down and checked twice.",
            "They cannot rest while a task is unfinished or a figure does not add up.",
            "They hold themselves to exact rules, and notice at once when somebody else does not.",
        ),
    },
    "extraversion": {
        "very low": (
            "They say as little as they can, and company wears them out within the hour.",
            "They avoid calls and crowds, and answer in a few words.",
            "They keep their thoughts to themselves, and are happiest alone.",
        ),
        "low": (
            "They are quiet, and let others begin.",
            "They think before they speak, and need time alone after a busy day.",
            "They prefer one good friend to a full table.",
        ),
        "middle": (
            "They chat gladly when spoken to, and are as content without it.",
            "They enjoy an evening out, and then an evening in.",
            "They speak up when they have something to say, and otherwise listen.",
        ),
        "high": (
            "They talk easily, laugh a lot and soon know everybody's name.",
            "They like to be where things happen, and get others moving.",
            "They begin conversations with strangers, and enjoy having an audience.",
        ),
        "very high": (
            "They fill every room, talk without a pause and think aloud.",
            "They are restless without people around, and throw themselves into every party and plan.",
            "They take the lead at once, loud, quick and full of energy.",
        ),
    },
    "agreeableness": {
        "very low": (
            "They suspect a trick in every kindness, and say so to people's faces.",
            "They argue to win, and do not care who is hurt by it.",
            "They put themselves first, and treat a request for help as an imposition.",
        ),
        "low": (
            "They are blunt, and would sooner be right than be liked.",
            "They doubt people's motives, and bargain hard.",
            "They lose patience with others' feelings rather soon.",
        ),
        "middle": (
            "They are friendly as long as others are, and firm when pushed.",
            "They give people a fair chance, and one warning.",
            "They help when it costs little, and say no when it costs much.",
        ),
        "high": (
            "They are warm, give others the benefit of the doubt and look for a way that suits everybody.",
            "They listen patiently, and thank people for small things.",
            "They would rather give way than quarrel.",
        ),
        "very high": (
            "They trust everybody, forgive at once and apologise even when the fault is another's.",
            "They cannot refuse a request, and worry more about others' comfort than their own.",
            "They soften every hard word, and take any blame to keep the peace.",
        ),
    },
    "neuroticism": {
        "very low": (
            "Nothing shakes them: bad news gets a nod and a next step.",
            "They do not know what it is to lie awake over something.",
            "They stay cool where everybody else is shouting.",
        ),
        "low": (
            "They take setbacks calmly, and are over them by evening.",
            "They seldom worry, and mostly expect things to turn out well.",
            "It takes a lot to upset them.",
        ),
        "middle": (
            "They worry when there is cause, and settle down once it has passed.",
            "They have good days and bad days, like most people.",
            "They are tense before something important, and fine afterwards.",
        ),
        "high": (
            "They worry ahead, and small troubles weigh on them for days.",
            "They are easily hurt, and read a reproach into a short answer.",
            "Their mood turns quickly, and stress shows in everything they say.",
        ),
        "very high": (
            "They expect the worst, panic at the first sign of trouble and go over it again and again.",
            "They are close to tears or to anger over things that others would not notice.",
            "They ask for reassurance again and again, and do not believe it when it comes.",
        ),
    },
}
"""What each band of each trait looks like from outside. No trait, band or number is named: those would be copied."""

Bands = dict[Trait, Weights]


class Case(When):
    """Other weights for rows whose other axes match."""

    traits: Bands
    """Trait → its bands in this case."""

    @field_validator("traits")
    @classmethod
    def _known(cls, value: Bands) -> Bands:
        return _checked(value)


class BigFive(Layer):
    """A person by five traits (openness, conscientiousness, extraversion, agreeableness, neuroticism): `big_five`.

    The rows of one mix take the points of a scrambled Sobol sequence over the five traits, so that they cover their
    combinations evenly; each becomes a T-score (mean 50, standard deviation 10 over people), each score one of five
    bands (very low below 35, low below 45, middle below 55, high below 65, very high), and each band a sentence of
    several. `{{ axis }}` prints the five sentences in a shuffled order; scores and the names of traits and bands are
    not in them. The scores are in the axis's column. `traits` keeps a trait to some bands, or weighs them:
    `{traits: {extraversion: [high, very high]}}`.

    Source: the trait model of Costa and McCrae; Sobol positions as in arXiv 2602.03545.
    """

    traits: Bands = Field(default={})
    """Trait → bands that it may have, as a list or by weight; the others follow the normal distribution of people."""
    when: tuple[Case, ...] = ()
    """Cases, tried in order: `{if: {tone: angry}, traits: {agreeableness: [low, very low]}}`."""

    @field_validator("traits")
    @classmethod
    def _known(cls, value: Bands) -> Bands:
        return _checked(value)

    def draw(self, names: Mapping[str, Any], at: Position) -> dict[str, Any]:
        """The person at the row's point."""
        case = conditions.first(self.when, names)
        traits = {**self.traits, **(case.traits if case else {})}
        point = sobol.point(at.replicate, len(PROSE), at.mix_seed)
        scores: dict[str, float] = {trait: _score(u, traits.get(trait)) for trait, u in zip(PROSE, point, strict=True)}
        rng = at.rng
        said = [rng.choice(PROSE[trait][_band(scores[trait])]) for trait in PROSE]
        rng.shuffle(said)
        return {"text": " ".join(said), **scores}

    def column(self) -> Mapping[str, str]:
        """A struct: the prose, and the T-score of each trait."""
        return {"text": "String", **dict.fromkeys(PROSE, "Float64")}

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """Cases look at axes above."""
        yield from conditions.problems(self.when, scene)


def _checked(traits: Bands) -> Bands:
    for trait, bands in traits.items():
        for band in bands:
            if band not in BANDS:
                close = nearest(band, list(BANDS))
                raise ValueError(f"no band called {band!r} for {trait}{close}; expected {', '.join(BANDS)}")
    return traits


def _score(u: float, bands: Mapping[str, float] | None) -> float:
    """The T-score at the point u: by the normal quantile, inside the bands that are wanted; one decimal.

    Rounded down, so that no score leaves its band.
    """
    low, high = BANDS["very low"], HIGHEST
    least, most = 0.0, 1.0
    if bands is not None:
        band = conditions.pick(bands, u)
        before = 0.0
        for name, weight in bands.items():
            if name == band:
                u = min((u * sum(bands.values()) - before) / weight, 1.0)
                break
            before += weight
        low, high = _edges(band)
        least, most = _SCORES.cdf(low), _SCORES.cdf(high)
    share = least + u * (most - least)
    score = _SCORES.inv_cdf(min(max(share, 1e-9), 1 - 1e-9))
    highest = high if high == HIGHEST else high - 0.1
    return max(low, math.floor(10 * min(score, highest) + 1e-6) / 10)


def _edges(band: str) -> tuple[float, float]:
    edges = [*BANDS.values(), HIGHEST]
    return dict(zip(BANDS, pairwise(edges), strict=True))[band]


def _band(score: float) -> str:
    return next(band for band in reversed(BANDS) if score >= BANDS[band])
