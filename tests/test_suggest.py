"""Strategies that a model suggests: every name checked, nothing applied, calls bounded and journaled."""

from __future__ import annotations

import json
import re

import pytest

from qdcgen import strict_yaml
from qdcgen.errors import UsageError
from qdcgen.recipe import load
from qdcgen.suggest import suggest, suggested_text

STRATEGIES = {
    "strategies": [
        {"axes": ["topic", "tone"], "weight": 2, "reason": "Topics are told\nin a \u001b[2Jtone."},
        {"axes": ["tone", "topic"], "weight": 1, "reason": "the same again"},
        {"axes": ["topic", "colour"], "weight": 99, "reason": "by topic alone"},
    ]
}
FORBID = {
    "forbid": [
        {"axis": "topic", "node": "Lost", "other_axis": "tone", "other_node": "polite", "reason": "Nobody is."},
        {"axis": "topic", "node": "cards", "other_axis": "channel", "other_node": "email", "reason": "By chat."},
        {"axis": "topic", "node": "cards", "other_axis": "channel", "other_node": "fax", "reason": "no such value"},
        {"axis": "topic", "node": "lost", "other_axis": "topic", "other_node": "pending", "reason": "one axis"},
        {"axis": "mood", "node": "x", "other_axis": "tone", "other_node": "angry", "reason": "no such axis"},
        {"axis": "topic", "node": "cards", "other_axis": "tone", "other_node": "angry", "reason": "fine"},
        {"axis": "topic", "node": "transfers", "other_axis": "tone", "other_node": "angry", "reason": "too much"},
        {"axis": "topic", "node": "transfers", "other_axis": "tone", "other_node": "polite", "reason": "all gone"},
        {"axis": "topic", "node": "declined", "other_axis": "tone", "other_node": "polite", "reason": "all gone"},
    ]
}
TOPIC = {
    "weights": [
        {"node": "cards/lost", "weight": 3, "reason": "Cards # get lost: often"},
        {"node": "transfers/wrong acount", "weight": 2, "reason": "a slip"},
        {"node": "declined", "weight": 1, "reason": "as usual"},
        {"node": "pending", "weight": 5000, "reason": "very much"},
    ]
}
TONE = {"weights": [{"node": "angry", "weight": 0.5, "reason": "Most are polite."}]}


def scripted(body):
    words = body["messages"][1]["content"]
    if "belong together" in words:
        return json.dumps(STRATEGIES)
    if "cannot occur" in words:
        return json.dumps(FORBID)
    return json.dumps(TOPIC if "topic:" in words else TONE)


def test_what_is_suggested_is_checked_and_pastes_into_a_recipe_that_loads(small, server, tmp_path):
    server.answer = scripted
    recipe = load(small)
    found = suggest(recipe, tmp_path / "run")
    assert (found.calls, server.asked) == (4, 4)
    assert [(axes, weight) for axes, weight, _ in found.strategies] == [(("topic", "tone"), 2), (("topic",), 1)]
    assert [entry for entry, _ in found.forbid] == [
        {"topic": "cards/lost", "tone": "polite"},
        {"topic": "cards", "channel": "email"},
        {"topic": "cards", "tone": "angry"},
        {"topic": "transfers", "tone": "angry"},
        {"topic": "transfers", "tone": "polite"},
    ]
    assert found.weights == {
        "topic": [("cards/lost", 3.0, "Cards # get lost: often")],
        "tone": [("angry", 0.5, "Most are polite.")],
    }
    left = "\n".join(found.left_out)
    for said in ("'colour'", "'fax'", "'mood'", "topic twice", "did you mean 'transfers/wrong account'", "5000",
                 "leaves a strategy nothing to draw"):  # fmt: skip
        assert said in left
    text = suggested_text(found, recipe)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    data = strict_yaml.parse(text, "suggested").data
    pasted = small.read_text()
    topic = "tree: {cards: [lost, declined], transfers: [pending, wrong account]}"
    pasted = pasted.replace(topic, f"{topic}, weights: {json.dumps(data['taxonomy']['topic']['weights'])}")
    pasted += f"strategies: {json.dumps(data['strategies'])}\nforbid: {json.dumps(data['forbid'])}\n"
    small.write_text(pasted)
    assert [one.axes for one in load(small).strategies] == [axes for axes, _, _ in found.strategies]


def test_asked_again_it_costs_nothing_and_says_the_same(small, server, tmp_path):
    server.answer = scripted
    recipe = load(small)
    first = suggested_text(suggest(recipe, tmp_path / "run"), recipe)
    again = suggested_text(suggest(recipe, tmp_path / "run"), recipe)
    assert (again, server.asked) == (first, 4)


def test_an_answer_that_cannot_be_used_costs_itself_and_is_named(small, server, tmp_path):
    server.answer = lambda body: "no idea" if "cannot occur" in body["messages"][1]["content"] else scripted(body)
    found = suggest(load(small), tmp_path / "run")
    assert (found.forbid, bool(found.strategies), bool(found.weights)) == ([], True, True)
    assert any(said.startswith("forbid: the answer could not be used (") for said in found.left_out)
    server.answer = lambda _body: "no idea"
    with pytest.raises(UsageError, match=r"no answer of .* could be used: .*try another with --model"):
        suggest(load(small, overrides=("seed=4",)), tmp_path / "run")


def test_the_command_prints_yaml_or_writes_a_new_file_and_changes_no_recipe(qdcgen, small, server, tmp_path):
    server.answer = scripted
    before = small.read_text()
    said = qdcgen("taxonomy", "strategies", "small.yaml")
    assert (said.returncode, said.stderr) == (0, "")
    assert "Nothing of it is applied" in said.stdout
    assert (tmp_path / "runs/small/calls.sqlite").is_file()
    written = qdcgen("taxonomy", "strategies", "small.yaml", "-o", "s.yaml")
    assert (written.returncode, server.asked) == (0, 4)
    assert (tmp_path / "s.yaml").read_text() == said.stdout
    assert qdcgen("taxonomy", "strategies", "small.yaml", "-o", "s.yaml").returncode == 2
    assert small.read_text() == before
    wrong = qdcgen("taxonomy", "strategies", "small.yaml", "--model", "writre")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "--model writre: no such alias; did you mean 'writer'? (expected one of writer)\n"
