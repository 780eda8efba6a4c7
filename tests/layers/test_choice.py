"""The layer `choice` meets its weights evenly inside each mix, and looks only at what was drawn before it."""

from __future__ import annotations

from collections import Counter

import pytest

from qdcgen.layers.choice import Choice
from qdcgen.parts import Scene, position
from qdcgen.rows import Node, Taxonomy

CARDS = Node("cards/lost", "lost", "cards/lost", 1, "cards")
TRANSFERS = Node("transfers/pending", "pending", "transfers/pending", 1, "transfers")


def drawn(part, rows, names=None, mix="topic=a"):
    return Counter(part.draw(names or {}, position(7, mix, f"row {number}", "mood", number)) for number in range(rows))


@pytest.mark.parametrize("mix", ["topic=a", "topic=b", "topic=c;tone=d"])
def test_weights_are_met_evenly_in_every_mix(mix):
    part = Choice(values={"calm": 2, "worried": 1, "angry": 1})
    assert drawn(part, 64, mix=mix) == {"calm": 32, "worried": 16, "angry": 16}
    for rows in (5, 9, 21, 50):
        found = drawn(part, rows, mix=mix)
        assert all(abs(found[value] - rows * share) <= 2 for value, share in {"calm": 0.5, "angry": 0.25}.items())


def test_two_mixes_do_not_begin_alike():
    part = Choice(values=["a", "b", "c", "d"])
    firsts = {part.draw({}, position(7, f"topic={number}", "r", "mood", 0)) for number in range(40)}
    assert firsts == {"a", "b", "c", "d"}


def test_a_list_weighs_all_alike_and_numbers_are_words():
    part = Choice(values=[1, "two", 3.5])
    assert part.values == {"1": 1.0, "two": 1.0, "3.5": 1.0}
    assert set(drawn(part, 99)) == {"1", "two", "3.5"}


def test_a_value_of_weight_0_is_never_drawn_but_known():
    part = Choice(values={"never": 0, "always": 3, "nor this": 0})
    assert drawn(part, 200) == {"always": 200}
    assert part.support() == ["never", "always", "nor this"]


def test_the_first_case_that_fits_is_used():
    part = Choice(
        values={"calm": 1},
        when=[
            {"if": {"topic": "cards/*", "channel": "chat"}, "values": ["angry"]},
            {"if": {"topic": "cards"}, "values": ["worried"]},
            {"if": {"channel": "chat"}, "values": ["brief"]},
        ],
    )
    assert drawn(part, 3, {"topic": CARDS, "channel": "chat"}) == {"angry": 3}
    assert drawn(part, 3, {"topic": CARDS, "channel": "email"}) == {"worried": 3}
    assert drawn(part, 3, {"topic": TRANSFERS, "channel": "chat"}) == {"brief": 3}
    assert drawn(part, 3, {"topic": TRANSFERS, "channel": "email"}) == {"calm": 3}
    assert drawn(part, 3, {"topic": None, "channel": "email"}) == {"calm": 3}
    assert part.support() == ["calm", "angry", "worried", "brief"]


def test_a_case_compares_numbers_by_what_they_print_as():
    part = Choice(values=["long"], when=[{"if": {"words": "5"}, "values": ["short"]}])
    assert drawn(part, 1, {"words": 5}) == {"short": 1}
    assert drawn(part, 1, {"words": 50}) == {"long": 1}


def test_a_case_about_an_axis_that_comes_later_is_a_problem():
    part = Choice(values=["a"], when=[{"if": {"chanel": "chat"}, "values": ["b"]}])
    (problem,) = part.problems(Scene({"channel": None}, {}, [], lambda _: set()))
    assert problem == (("when", 0, "if", "chanel"), "no axis 'chanel' above this one; did you mean 'channel'?")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("cards/lost", None),
        ("cards", None),
        ("**/lost", None),
        ("A1", None),
        ("cards/lst", "'cards/lst' matches no node of topic; did you mean 'cards/lost'?"),
        ("loans/*", "'loans/*' matches no node of topic"),
        ("A", ("'A' matches no node of topic by path or label, which is all a case can tell above the leaves; "
               "write 'cards'")),
    ],
)  # fmt: skip
def test_a_case_that_fits_no_node_is_a_problem(pattern, said):
    tree = Taxonomy("topic", (Node("A", "cards", "cards", 0), Node("A1", "lost", "cards/lost", 1, "A")))
    part = Choice(values=["a"], when=[{"if": {"topic": pattern}, "values": ["b"]}])
    problems = list(part.problems(Scene({"topic": tree}, {}, [], lambda _: set())))
    assert problems == ([] if said is None else [(("when", 0, "if", "topic"), said)])
    assert (drawn(part, 1, {"topic": tree.leaves[0]}) == {"b": 1}) == (said is None), "what is no problem does fit"


def test_a_taxonomy_that_could_not_be_read_is_not_held_against_a_case():
    part = Choice(values=["a"], when=[{"if": {"topic": "cards"}, "values": ["b"]}])
    assert list(part.problems(Scene({"topic": Taxonomy("topic", ())}, {}, [], lambda _: set()))) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "expected at least one value with a weight above 0"),
        ({}, "expected at least one value with a weight above 0"),
        ({"a": 0}, "expected at least one value with a weight above 0"),
        ({"a": -1}, "greater than or equal to 0"),
        ({"a": "010"}, "expected a number, found '010'"),
        ({"a": True}, "expected a number, found true"),
        ({"a": float("nan")}, "expected at least one value|greater than or equal"),
        ({"a": 1e300}, "less than or equal to 1000000000"),
        ("a", "valid dictionary"),
    ],
)
def test_weights_that_cannot_be_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        Choice(values=values)
