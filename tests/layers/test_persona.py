"""The layer `persona`: ends asked for once, positions that cover, texts of rules without names or numbers."""

import asyncio
import re

import numpy as np
import pytest

from qdcgen import support
from qdcgen.errors import Incomplete, RowFault
from qdcgen.layers.persona import ASKED, Persona
from qdcgen.parts import Scene, Tools, position
from qdcgen.testing import scripted

AXES = {"risk": "attitude to financial risk", "pace": "how fast they decide"}


def ends(word):
    low = [f"You wait {n} when {word} comes up." for n in ("a day", "a week", "a month", "for good")]
    return {"low": low, "high": [said.replace("wait", "rush") for said in low]}


PREPARED = {"risk": ends("money"), "pace": ends("a choice")}


def drawn(part, count, prepared=PREPARED, names=None, mix="topic=a"):
    return [part.draw(names or {}, position(7, mix, f"row {n}", "who", n, prepared)) for n in range(count)]


def persona(**settings):
    return Persona.model_validate({"axes": AXES, **settings})


def prepared(part, ask):
    return asyncio.run(part.prepare(Tools(ask=ask)))


def test_each_axis_is_asked_for_once_with_the_shared_text_first():
    ask = scripted(ends("money"), ends("a choice"))
    assert prepared(persona(about="customers of a bank", model="critic"), ask) == PREPARED
    assert [one["alias"] for one in ask.asked] == ["critic", "critic"]
    systems = {one["messages"][0]["content"] for one in ask.asked}
    assert len(systems) == 1
    assert "customers of a bank" in ask.asked[0]["messages"][1]["content"]
    assert "attitude to financial risk" in ask.asked[0]["messages"][1]["content"]
    assert persona().preparing() == 2 * ASKED


def said(*sentences):
    return [f"You {sentence} in such a case." for sentence in (*sentences, *sentences, *sentences, *sentences)[:4]]


def test_sentences_that_name_an_axis_are_left_out_and_asked_for_again_where_none_is_left():
    leaking = {"low": said("hate risk", "wait a long time"), "high": said("love Risk", "are risky")}
    ask = scripted(leaking, {"low": said("hide"), "high": said("jump")}, ends("a choice"))
    found = prepared(persona(), ask)
    assert found["risk"] == {"low": [*said("wait a long time")[:1], *said("hide")[:1]], "high": said("jump")[:1]}
    assert len(ask.asked) == 3
    assert "never 'risk', 'pace'" in ask.asked[1]["messages"][-1]["content"]


def test_a_model_that_keeps_naming_the_axis_is_read_without_the_name():
    leaking = {"low": said("hate risk"), "high": said("love taking risks")}
    found = prepared(persona(), scripted(leaking, leaking, ends("a choice")))
    assert found["risk"] == {"low": said("hate it")[:1], "high": said("love taking it")[:1]}


@pytest.mark.parametrize(
    "bad", ["You keep 3 months aside.", "You wait. And wait. And wait.", "The customer waits a long time."]
)
def test_a_reply_of_another_form_is_asked_for_again_and_then_ends_the_run(bad):
    misfit = {"low": [bad] * 4, "high": said("jump")}
    assert prepared(persona(), scripted(misfit, ends("money"), ends("a choice"))) == PREPARED
    with pytest.raises(Incomplete, match=r"no sentences for 'attitude to financial risk' \(.*\); name a larger model"):
        prepared(persona(), scripted(misfit, misfit))


@pytest.mark.parametrize("axes", [2, 3])
def test_positions_cover_the_support(axes):
    named = dict(list({**AXES, "warmth": "how warm they are"}.items())[:axes])
    covers = []
    for mix in range(40):
        people = drawn(Persona(axes=named), 25, None, mix=f"topic={mix}")
        covers.append(support.support_coverage(np.array([[person[axis] for axis in named] for person in people])))
    assert np.mean(covers) >= 0.98


def test_the_text_leans_as_the_position_says():
    for person in drawn(persona(), 200):
        text = person["text"]
        for axis, word in (("risk", "money"), ("pace", "a choice")):
            low, high = (
                len(re.findall(rf"You wait \D{{5,10}} when {word}", text)),
                len(re.findall(rf"You rush \D{{5,10}} when {word}", text)),
            )
            place = person[axis]
            assert (low, high) == {0: (2, 0), 1: (2, 1), 2: (1, 1), 3: (1, 2), 4: (0, 2)}[min(int(place * 5), 4)]
        assert not any(bit.isdigit() for bit in text)
        assert "risk" not in text
        assert "pace" not in text


def test_a_range_and_a_case_keep_to_a_part_of_an_axis():
    part = persona(within={"risk": [0.5, 1]}, when=[{"if": {"topic": "loans"}, "within": {"risk": [0, 0.2]}}])
    places = [person["risk"] for person in drawn(part, 64)]
    assert 0.5 <= min(places) < 0.52
    assert 0.98 < max(places) <= 1
    assert max(person["risk"] for person in drawn(part, 64, names={"topic": "loans"})) <= 0.2


def test_before_it_is_prepared_positions_stand_and_edited_ends_cost_the_row():
    bare = drawn(persona(), 5, None)
    assert [{**person, "text": ""} for person in bare] == [{**person, "text": ""} for person in drawn(persona(), 5)]
    with pytest.raises(RowFault, match="lacks a low or high end"):
        drawn(persona(), 1, {"risk": {"low": ["a"], "high": ["b"]}})


def test_unknown_aliases_and_axes_are_problems():
    part = persona(model="critik", within={"rsik": [0, 1]}, when=[{"if": {"tone": "x"}, "within": {"pace": [0, 0.5]}}])
    said = {problem.path: problem.message for problem in part.problems(Scene({}, {}, ["critic"], lambda _: set()))}
    assert said[("model",)] == "no model called 'critik'; did you mean 'critic'?"
    assert "did you mean 'risk'" in said[("within", "rsik")]
    assert ("when", 0, "if", "tone") in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"axes": {"risk": "x"}}, "at least 2"),
        ({"axes": {f"a{n}": "x" for n in range(9)}}, "at most 8"),
        ({"axes": {"values": "x", "b": "y"}}, "axis 'values': taken"),
        ({"axes": {"a b": "x", "b": "y"}}, "expected letters, digits and _"),
        ({"axes": AXES, "within": {"risk": [0.5, 0.5]}}, "expected two positions such as"),
        ({"axes": AXES, "within": {"risk": [0, 2]}}, "expected two positions such as"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Persona.model_validate(settings)
