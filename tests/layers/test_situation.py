"""The layer `situation`: ten characteristics from closed vocabularies that go together."""

from collections import Counter

import pytest

from qdcgen.layers.situation import RULES, VOCABULARY, Situation
from qdcgen.parts import Scene, position
from qdcgen.rows import Node

TOPIC = Node("cards/lost", "lost card", "cards/lost", 1, "cards")


def drawn(part, count, names=None, mix="topic=a"):
    return [part.draw(names or {}, position(7, mix, f"row {n}", "scene", n)) for n in range(count)]


def situation(**settings):
    return Situation.model_validate(settings)


def problems(part, **axes):
    return list(part.problems(Scene(axes, {}, [], lambda _: set())))


def test_ten_characteristics_are_drawn_logged_and_told():
    part = situation()
    assert len(VOCABULARY) == 10
    assert set(part.column()) == {"text", *VOCABULARY}
    for scene in drawn(part, 200):
        assert set(scene) == set(part.column())
        for name, values in VOCABULARY.items():
            assert scene[name] in values
            assert values[scene[name]] in scene["text"]


def test_every_value_occurs_and_no_draw_breaks_a_rule():
    scenes = drawn(situation(), 2000)
    for name, values in VOCABULARY.items():
        assert {scene[name] for scene in scenes} == set(values)
    for condition, barred in RULES:
        both = {**condition, **barred}
        assert set(both) <= set(VOCABULARY)
        assert all(set(values) <= set(VOCABULARY[name]) for name, values in both.items())
        for scene in scenes:
            if all(scene[name] in values for name, values in condition.items()):
                assert not any(scene[name] in values for name, values in barred.items())


def test_what_the_recipe_sets_holds_and_the_rest_gives_way():
    part = situation(medium={"phone": 3, "chat": 1}, formality="formal", features=["hesitations", "fluent"])
    scenes = drawn(part, 64)
    assert Counter(scene["medium"] for scene in scenes) == {"phone": 48, "chat": 16}
    assert {scene["formality"] for scene in scenes} == {"formal"}
    assert {scene["features"] for scene in scenes} == {"hesitations", "fluent"}
    assert {scene["location"] for scene in scenes} == {"apart"}
    assert not {"couple", "friends", "relatives"} & {scene["familiarity"] for scene in scenes}


def test_the_rows_of_a_mix_cover_what_is_free_evenly():
    counts = Counter(scene["medium"] for scene in drawn(situation(), 100))
    assert all(abs(count - 20) <= 2 for count in counts.values())


def test_the_topic_may_come_from_an_axis():
    part = situation(topic_from="topic", familiarity="strangers")
    scene = drawn(part, 1, {"topic": TOPIC})[0]
    assert scene["topic"] == "lost card"
    assert "It is about lost card." in scene["text"]
    assert "topic" not in part.vocabulary()
    (problem,) = problems(part, topik=None)
    assert problem == (("topic_from",), "no axis 'topic' above this one; did you mean 'topik'?")
    (problem,) = problems(situation(topic_from="topic", topic="money"), topic=None)
    assert problem.path == ("topic",)


def test_a_case_changes_rows_that_it_fits():
    part = situation(when=[{"if": {"channel": "phone"}, "medium": "phone"}])
    assert {scene["medium"] for scene in drawn(part, 20, {"channel": "phone"})} == {"phone"}
    assert len({scene["medium"] for scene in drawn(part, 20, {"channel": "shop"})}) > 2


def test_settings_that_leave_nothing_coherent_are_told_before_the_run():
    (problem,) = problems(situation(familiarity="strangers", formality="intimate"))
    assert problem == ((), "nothing coherent is left: familiarity strangers does not go with formality intimate")
    part = situation(medium="chat", when=[{"if": {"a": "b"}, "location": "home"}])
    (problem,) = problems(part, a=None)
    assert problem.path == ("when", 0)
    assert not problems(situation())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"medium": "fone"}, "no medium called 'fone'; did you mean 'phone'"),
        ({"medium": ["carrier pigeon"]}, "expected face to face, phone, video call, voice messages, chat"),
        ({"medium": {"phone": "often"}}, "expected a number, found 'often'"),
        ({"mediun": "phone"}, "Extra inputs"),
    ],
)
def test_values_outside_the_vocabulary_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        situation(**settings)
