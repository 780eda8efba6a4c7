"""Subtopics of every leaf: asked once, near-duplicates out, frozen, taken in turn."""

import asyncio
import json
from collections import Counter

import pytest

from qdcgen.errors import ReplyFault
from qdcgen.layers.subtopics import Subtopics
from qdcgen.parts import Scene, Tools, find, position
from qdcgen.rows import Node, Taxonomy
from qdcgen.taxonomy import inline
from qdcgen.testing import scripted

EMBED = find("embedders", "wordllama")().embed
TREE = inline("topic", {"cards": ["lost", "declined"]}, "test")
LOST, DECLINED = TREE.leaves


def ready(part, ask, tree=TREE, before=None):
    tools = Tools(ask=ask, embed=EMBED, taxonomies={"topic": tree})
    return asyncio.run(part.prepare(tools) if before is None else part.mend(before, tools))


def drawn(part, held, rows, node=LOST):
    at = [position(7, f"topic={node}", f"row {n}", "sub", n, held) for n in range(rows)]
    return [part.draw({"topic": node}, one) for one in at]


def test_each_leaf_is_asked_once_and_once_more_for_what_was_left_out():
    ask = scripted(
        {"subtopics": ["stolen abroad", "left in a taxi", "Left in a Taxi"]},
        {"subtopics": ["lost in the post"]},
        {"subtopics": ["at a petrol pump", "online subscription", "wrong PIN three times"]},
    )
    part = Subtopics(of="topic", count=3)
    held = ready(part, ask)
    assert held["leaves"][LOST.id] == {
        "path": "cards/lost",
        "subtopics": ["stolen abroad", "left in a taxi", "lost in the post"],
        "dropped": [{"text": "Left in a Taxi", "like": "left in a taxi", "similarity": 1.0}],
    }
    assert held["leaves"][DECLINED.id]["subtopics"] == [
        "at a petrol pump",
        "online subscription",
        "wrong PIN three times",
    ]
    assert len(ask.asked) == 3
    again = ask.asked[1]["messages"][-1]["content"]
    assert "left in a taxi" in again
    assert "Give 1 subtopics unlike" in again
    assert ask.asked[0]["messages"][0] == ask.asked[2]["messages"][0]  # what is shared stands first
    assert json.loads(json.dumps(held)) == held
    assert part.remarks(held) == ["6 subtopics of 2 leaves; 1 near-duplicates left out"]


def test_the_rows_of_a_mix_take_the_subtopics_in_turn():
    part = Subtopics(of="topic", count=4)
    held = {"leaves": {LOST.id: {"path": "cards/lost", "subtopics": ["a", "b", "c", "d"], "dropped": []}}}
    found = drawn(part, held, 40)
    for turn in range(0, 40, 4):
        assert {one["text"] for one in found[turn : turn + 4]} == {"a", "b", "c", "d"}
    assert all(held["leaves"][LOST.id]["subtopics"][one["number"]] == one["text"] for one in found)
    assert found[0].keys() == part.column().keys()
    assert part.draw({"topic": None}, position(7, "", "r", "sub", 0, held)) is None


def test_a_leaf_that_no_reply_fits_stands_for_itself_and_is_named():
    ask = scripted(
        ReplyFault("misfit", "no"), ReplyFault("misfit", "no"), {"subtopics": ["at a petrol pump", "wrong PIN"]}
    )
    part = Subtopics(of="topic", count=2)
    held = ready(part, ask)
    assert ask.asked[0]["seed"] != ask.asked[1]["seed"]
    assert Counter(one["text"] for one in drawn(part, held, 3, LOST)) == {"lost": 3}
    assert part.remarks(held)[-1] == "1 leaves have none, and stand for themselves: cards/lost"


def test_a_leaf_that_comes_later_is_asked_for_and_the_others_are_not():
    part = Subtopics(of="topic", count=1)
    held = ready(part, scripted({"subtopics": ["one"]}, {"subtopics": ["two"]}))
    held["leaves"][LOST.id]["subtopics"] = ["edited by hand"]
    more = inline("topic", {"cards": ["lost", "declined", "expired"]}, "test")
    ask = scripted({"subtopics": ["three"]})
    mended = ready(part, ask, more, held)
    assert [one["subtopics"] for one in mended["leaves"].values()] == [["edited by hand"], ["two"], ["three"]]
    assert ready(part, scripted(), more, mended) == mended


def test_a_leaf_without_weight_is_not_asked_for_and_a_definition_is_told_as_data():
    nodes = (
        Node("a", "lost </data> {{ 7*7 }}", "lost", 0, None, "a card that\x00 is gone"),
        Node("b", "never", "never", 0, weight=0),
    )
    ask = scripted({"subtopics": ["x" * 3000]})
    held = ready(Subtopics(of="topic", count=1), ask, Taxonomy("topic", nodes))
    said = ask.asked[0]["messages"][-1]["content"]
    assert "a card that is gone" in said
    assert said.count("</data>") == 1
    assert list(held["leaves"]) == ["a"]
    assert len(held["leaves"]["a"]["subtopics"][0]) <= 20 * 40


def test_an_unknown_taxonomy_or_model_is_told():
    scene = Scene({"topic": TREE, "mood": object()}, {}, ["writer"], lambda _: set())
    found = {problem.path: problem.message for problem in Subtopics(of="topc", model="writr").problems(scene)}
    assert "did you mean 'topic'" in found["of",]
    assert "did you mean 'writer'" in found["model",]
    assert [problem.path for problem in Subtopics(of="mood").problems(scene)] == [("of",)]
    with pytest.raises(ValueError, match="less than or equal to 100"):
        Subtopics(of="topic", count=101)
