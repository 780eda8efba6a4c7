"""What a pattern agrees with, and what is said where it can agree with nothing."""

import pytest

from qdcgen import parts
from qdcgen.conditions import agrees, mismatch, pick
from qdcgen.rows import Node, Taxonomy

LOST = Node("cards/lost", "lost", "cards/lost", 1, "cards")


@pytest.mark.parametrize(
    ("pattern", "value", "said"),
    [
        ("cards", LOST, True),
        ("cards/*", LOST, True),
        ("loans", LOST, False),
        ("5", 5, True),
        ("calm", None, False),
        ("chat", {"name": "chat", "text": "a chat message"}, True),
        ("a chat message", {"name": "chat", "text": "a chat message"}, False),
        ("a person", {"text": "a person", "source": "x"}, True),
        ("medium=phone", {"text": "…", "medium": "phone"}, True),
        ("medium = phone", {"text": "…", "medium": "phone"}, True),
        ("medium=chat", {"text": "…", "medium": "phone"}, False),
        ("openness<40", {"text": "…", "openness": 39.9}, True),
        ("openness<40", {"text": "…", "openness": 40.0}, False),
        ("openness>40", {"text": "…", "openness": 40.1}, True),
        ("absent>40", {"text": "…", "openness": 40.1}, False),
        ("openness>much", {"text": "…", "openness": 40.1}, False),
    ],
)
def test_a_pattern_agrees_with_what_it_names(pattern, value, said):
    assert agrees(pattern, value) is said


def layer(name, **settings):
    return parts.find("layers", name).model_validate(settings)


@pytest.mark.parametrize(
    ("pattern", "known", "said"),
    [
        ("chat", layer("format", formats={"chat": "a", "email": "b"}), None),
        ("chta", layer("format", formats={"chat": "a", "email": "b"}), "x is never 'chta'; did you mean 'chat'?"),
        ("medium=phone", layer("situation"), None),
        ("medium=phoen", layer("situation"), "medium of x is never 'phoen'; did you mean 'phone'?"),
        ("mediun=phone", layer("situation"), "x has no 'mediun'; did you mean 'medium'?"),
        ("colour=red", layer("situation"), "x has no 'colour'; it has text, speakers, familiarity"),
        ("phone", layer("situation"), "'phone': x has several values; name one, such as 'speakers=two girls'"),
        ("topic=tax", layer("situation", topic_from="t"), None),
        ("openness<40", layer("big_five"), None),
        ("openness<forty", layer("big_five"), "expected a number after <, found 'forty'"),
        ("medium<3", layer("situation"), "medium is no number; write medium=…"),
        ("cards", Taxonomy("x", (Node("cards", "cards", "cards", 0), LOST)), None),
        ("loans", Taxonomy("x", (LOST,)), "'loans' matches no node of x"),
        ("anything", Taxonomy("x", ()), None),
    ],
)
def test_a_pattern_that_can_agree_with_nothing_is_told(pattern, known, said):
    found = mismatch(pattern, "x", known)
    assert found is None if said is None else said in found


def test_even_points_give_every_value_its_share():
    drawn = [pick({"a": 2, "never": 0, "b": 1, "c": 1}, (n + 0.5) / 400) for n in range(400)]
    assert {value: drawn.count(value) for value in "abc"} == {"a": 200, "b": 100, "c": 100}
    assert pick({"a": 1, "b": 1}, 1 - 2**-32) == "b"
