"""The layer `big_five`: scores like those of people, spread evenly, told without a number or a name."""

import re
from collections import Counter
from statistics import NormalDist, mean, stdev

import numpy as np
import pytest

from qdcgen import support
from qdcgen.layers.big_five import BANDS, PROSE, BigFive
from qdcgen.parts import Scene, position
from qdcgen.template import render

BARE = re.compile(
    r"\b(open\w*|conscien\w*|extra\w*|intro\w*|agreeab\w*|neuro\w*|very|low|middle|high|score\w*)\b|\d", re.IGNORECASE
)


def drawn(part, count, names=None, mix="topic=a"):
    return [part.draw(names or {}, position(7, mix, f"row {n}", "person", n)) for n in range(count)]


def band(score):
    return [name for name, low in BANDS.items() if score >= low][-1]


def test_scores_are_those_of_people_and_cover_the_traits_evenly():
    people = drawn(BigFive(), 256)
    for trait in PROSE:
        scores = [person[trait] for person in people]
        assert mean(scores) == pytest.approx(50, abs=0.3)
        assert stdev(scores) == pytest.approx(10, abs=0.4)
        shares = Counter(map(band, scores))
        assert [shares[name] / 256 for name in BANDS] == pytest.approx([0.067, 0.242, 0.383, 0.242, 0.067], abs=0.01)
    places = np.array([[NormalDist(50, 10).cdf(person[trait]) for trait in PROSE] for person in people[:32]])
    assert support.support_coverage(places) > 0.975
    assert abs(np.corrcoef(places.T) - np.eye(5)).max() < 0.4


def test_the_prose_tells_every_band_and_names_neither_trait_nor_band_nor_number():
    said = [text for bands in PROSE.values() for texts in bands.values() for text in texts]
    assert len(said) == len(set(said)) == 75
    assert not [text for text in said if BARE.search(text)]
    for person in drawn(BigFive(), 100):
        for trait, bands in PROSE.items():
            assert sum(text in person["text"] for text in bands[band(person[trait])]) == 1
        assert person["text"].count(".") == 5
    assert len({person["text"] for person in drawn(BigFive(), 200)}) > 195


def test_a_trait_can_be_kept_to_bands_or_weighted_and_never_leaves_them():
    traits = {"extraversion": ["high", "very high"], "openness": {"low": 3, "very low": 1}}
    part = BigFive(traits=traits)
    people = drawn(part, 512)
    assert Counter(band(person["extraversion"]) for person in people) == {"high": 256, "very high": 256}
    assert Counter(band(person["openness"]) for person in people) == {"low": 384, "very low": 128}
    assert min(person["extraversion"] for person in people) >= 55
    assert len({band(person["neuroticism"]) for person in people}) == 5


def test_a_case_changes_the_bands_of_rows_that_it_fits():
    part = BigFive.model_validate({"when": [{"if": {"tone": "angry"}, "traits": {"agreeableness": ["very low"]}}]})
    assert {band(person["agreeableness"]) for person in drawn(part, 64, {"tone": "angry"})} == {"very low"}
    assert len({band(person["agreeableness"]) for person in drawn(part, 64, {"tone": "polite"})}) == 5
    (problem,) = part.problems(Scene({"ton": None}, {}, [], lambda _: set()))
    assert problem.path == ("when", 0, "if", "tone")


def test_a_template_prints_the_prose_and_can_ask_for_a_score():
    person = drawn(BigFive(), 1)[0]
    assert (
        render("{{ person }}", {"person": person}) == person["text"] == render("{{ person.text }}", {"person": person})
    )
    assert render("{{ person.openness }}", {"person": person}) == str(person["openness"])


@pytest.mark.parametrize(
    ("traits", "said"),
    [
        ({"openess": ["low"]}, "openness"),
        ({"openness": ["lwo"]}, "no band called 'lwo' for openness; did you mean 'low'"),
        ({"openness": {"low": 0}}, "at least one value with a weight above 0"),
    ],
)
def test_traits_and_bands_that_are_none_are_refused(traits, said):
    with pytest.raises(ValueError, match=said):
        BigFive.model_validate({"traits": traits})
