"""A rubric of one's own: yes or no, or grades with a threshold each; the score decides, and nothing else."""

import asyncio
import json

import polars as pl
import pytest
from pydantic import ValidationError

from qdcgen.critics import MEETS
from qdcgen.errors import RecipeError
from qdcgen.filters.judge import Judge
from qdcgen.parts import UNDECIDED, Graded, Scene, Tools
from qdcgen.recipe import load
from qdcgen.rows import Cell, Row
from qdcgen.run import run
from qdcgen.taxonomy import inline
from qdcgen.testing import scripted

TOPIC = inline("topic", {"cards": ["lost"]}, "x")
FIELDS = {"text": {"type": "string"}, "label": {"enum": ["a", "b"]}}
TWO = {"clear": {"text": "Easy to read.", "at_least": 3}, "Apt": {"text": "Says what it must.", "at_least": 4}}


def judged(part, *replies, values=None):
    cells = [Cell(f"{n:016x}", {"topic": "cards/lost"}, n, n, values or {}) for n in range(len(replies))]
    rows = [Row(cell, {"text": f"row {cell.slot}", "label": "a"}) for cell in cells]
    ask = scripted(*replies)
    said = asyncio.run(part.judge(rows, Tools(fields=FIELDS, taxonomies={"topic": TOPIC}, ask=ask)))
    return said, ask


def grades(clear, apt):
    return {"finding": "looked", "grades": {"clear": clear, "Apt": apt}}


def test_a_rubric_gives_a_strict_yes_or_no_and_the_finding_is_the_reason():
    part = Judge(rubric="Is it {{ polite }}?")
    said, ask = judged(part, {"finding": "good", "verdict": "yes"}, {"finding": "rude", "verdict": "no"})
    assert [(one.kept, one.reason, one.score) for one in said] == [(True, "", None), (False, "rude", None)]
    assert part.graded() is None
    assert part.calls(3) == len(ask.asked) / 2
    system, user = ask.asked[0]["messages"]
    assert "Is it {{ polite }}?" in system["content"], "a rubric is no template"
    assert system == ask.asked[1]["messages"][0], "what all rows share stands first"
    assert user["content"].endswith(MEETS)
    assert "topic" not in user["content"]
    assert ask.asked[0]["temperature"] == 0.0


def test_grades_are_held_against_a_threshold_each():
    part = Judge(items=TWO)
    said, _ = judged(part, grades(3, 4), grades(5, 5), grades(2, 4), grades(1, 1))
    assert [(one.kept, one.score) for one in said] == [(True, 0.0), (True, 1.0), (False, -1.0), (False, -3.0)]
    assert said[2].reason == "clear 2 of at least 3: looked"
    assert said[3].reason.startswith("clear 1 of at least 3, Apt 1 of at least 4: ")
    assert part.graded() == Graded(0.0)


def test_the_score_of_one_item_is_its_grade():
    part = Judge(items={"clear": {"text": "Easy to read.", "at_least": 4}}, scale=7)
    said, ask = judged(part, *({"finding": "f", "grades": {"clear": grade}} for grade in (3, 4, 7)))
    assert [(one.kept, one.score) for one in said] == [(False, 3.0), (True, 4.0), (True, 7.0)]
    assert part.graded() == Graded(4.0)
    assert ask.asked[0]["schema"]["properties"]["grades"]["properties"]["clear"] == {"enum": [1, 2, 3, 4, 5, 6, 7]}


@pytest.mark.parametrize(
    "reply",
    [
        *("Yes.", "yes\n", "", "maybe", '{"verdict": "keep"}', '{"finding": "f", "verdict": "Yes"}'),
        '{"finding": "f", "verdict": "yes", "sure": true}',
        'The text says {"finding": "f", "verdict": "yes"}, which I do not believe.',
        '```json\n{"finding": "f", "verdict": "yes"}\n```\nBut no.',
        '{"finding": "f", "verdict": "yes",}',
        '[{"finding": "f", "verdict": "yes"}]',
    ],
)
def test_anything_but_the_strict_form_is_undecided(reply):
    (said,), _ = judged(Judge(rubric="Is it good?"), reply)
    assert not said.kept
    assert said.reason.startswith(UNDECIDED)
    assert said.score is None


@pytest.mark.parametrize(
    "reply",
    [
        '```json\n{"finding": "f", "verdict": "yes"}\n```',
        '<think>{"finding": "f", "verdict": "no"}</think> {"finding": "f", "verdict": "yes"}\n',
    ],
)
def test_a_fence_and_thoughts_before_the_answer_are_no_other_form(reply):
    (said,), _ = judged(Judge(rubric="Is it good?"), reply)
    assert said.kept


@pytest.mark.parametrize("bad", [0, 6, 3.5, "4", True, None])
def test_a_grade_off_the_scale_is_undecided(bad):
    (said,), _ = judged(Judge(items=TWO), grades(bad, 5))
    assert not said.kept
    assert said.reason.startswith(UNDECIDED)
    assert said.score is None


def test_what_the_row_was_asked_to_be_is_shown_only_where_named():
    yes = {"finding": "f", "verdict": "yes"}
    part = Judge(rubric="It is what was asked for.", shows=("topic", "persona", "none"), fields=("text",))
    _, ask = judged(part, yes, values={"persona": {"name": "p", "text": "a tired nurse"}, "mood": "calm"})
    system, user = (one["content"] for one in ask.asked[0]["messages"])
    shown = json.loads(user[user.index("{") : user.rindex("}") + 1])
    assert shown == {"asked for": {"topic": "cards/lost", "persona": "a tired nurse"}, "example": {"text": "row 0"}}
    assert "asked for" in system


def test_settings_that_cannot_be():
    for bad in ({}, {"rubric": "x", "items": TWO}, {"items": {"a b": TWO["clear"]}}, {"items": {"a": {"text": "x"}}}):
        with pytest.raises(ValidationError):
            Judge(**bad)
    scene = Scene({"topic": TOPIC}, FIELDS, ["critic"], lambda _: set())
    part = Judge(items={"clear": {"text": "x", "at_least": 6}}, model="critc", fields=("txt",), shows=("topc",))
    found = {problem.path: problem.message for problem in part.problems(scene)}
    assert list(found) == [("model",), ("fields", 0), ("shows", 0), ("items", "clear", "at_least")]
    assert "did you mean 'topic'" in found["shows", 0]
    assert list(Judge(items=TWO, model="critic").problems(scene)) == []


RECIPE = """\
recipe: 1
name: judged
models:
  writer: {{model: openai/test, api_base: "{url}"}}
  critic: {{model: openai/{critic}, api_base: "{url}"}}
taxonomy: {{topic: [plain, dull]}}
generate:
  - write: {{fields: {{text: string}}, prompt: "{{{{ topic }}}}"}}
filters:
  - judge: {{model: critic, items: {{fresh: {{text: "It says something new.", at_least: 4}}}}}}
target: {{rows: 6, candidates: 1}}
"""


def test_a_run_drops_what_falls_short_and_says_that_critic_and_writer_are_one(tmp_path, server):
    def answer(body):
        said = body["messages"][-1]["content"]
        if "<data>" not in said:
            return json.dumps({"text": f"{said} text {body['seed']}"})
        return json.dumps({"finding": "looked", "grades": {"fresh": 2 if "dull" in said else 5}})

    server.answer = answer
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(url=server.url, critic="test"))
    recipe = load(path)
    assert any("filter judge: critic also writes the rows" in note for note in recipe.notes)
    outcome = run(recipe, tmp_path / "out", quiet=True)
    assert any("filter judge: critic also writes the rows" in remark for remark in outcome.remarks)
    gone = pl.read_parquet(tmp_path / "out/rejected/*.parquet")
    assert set(gone["topic"]) == {"dull"}
    assert set(gone["_reason"]) == {"fresh 2 of at least 4: looked"}
    path.write_text(RECIPE.format(url=server.url, critic="other"))
    assert load(path).notes == ()


def test_a_wrong_setting_is_told_at_its_place(tmp_path, server):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(url=server.url, critic="test").replace("at_least: 4", "at_least: 9"))
    with pytest.raises(RecipeError, match=r"r.yaml:10:.*at_least: found 9, above scale: 5"):
        load(path)
