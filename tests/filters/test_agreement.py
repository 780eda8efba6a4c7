"""Several models, blind to each other: the majority keeps, and a voice that is missing is no yes."""

import asyncio
import json

import pytest
from pydantic import ValidationError

from qdcgen.errors import RowFault
from qdcgen.filters.agreement import Agreement
from qdcgen.parts import UNDECIDED, Graded, Scene, Tools
from qdcgen.recipe import load
from qdcgen.rows import Cell, Row
from qdcgen.run import run
from qdcgen.testing import scripted

FIELDS = {"text": {"type": "string"}}
YES, NO = {"finding": "fine", "verdict": "yes"}, {"finding": "a gap", "verdict": "no"}
LOST = RowFault("schema", "nothing")
THREE = Agreement(models=("a", "b", "c"), rubric="It is complete.")


def judged(part, *replies):
    rows = [Row(Cell(f"{n:016x}", {}, n, n), {"text": f"row {n}"}) for n in range(len(replies) // len(part.models))]
    ask = scripted(*replies)
    return asyncio.run(part.judge(rows, Tools(fields=FIELDS, ask=ask))), ask


def test_a_majority_keeps_and_the_reason_has_the_tally_and_the_first_no():
    said, ask = judged(THREE, YES, YES, YES, YES, NO, YES, YES, NO, NO, NO, NO, NO)
    assert [one.kept for one in said] == [True, True, False, False]
    assert [one.score for one in said] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert said[2].reason == "1 yes, 2 no, 2 wanted; b: a gap"
    assert [one["alias"] for one in ask.asked[:3]] == ["a", "b", "c"]
    assert len({json.dumps(one["messages"]) for one in ask.asked[:3]}) == 1, "nobody sees what another said"


def test_a_voice_without_an_answer_is_no_yes_and_undecided_where_it_could_decide():
    said, _ = judged(THREE, YES, YES, LOST, YES, LOST, NO, NO, LOST, NO, LOST, LOST, LOST)
    assert [one.kept for one in said] == [True, False, False, False]
    assert [one.reason.startswith(UNDECIDED) for one in said] == [False, True, False, True]
    assert [one.score is None for one in said] == [False, True, False, True]


@pytest.mark.parametrize(("models", "at_least"), [("ab", None), ("abc", 3), ("abcde", 1), ("abcd", None)])
def test_the_score_alone_decides(models, at_least):
    part = Agreement(models=tuple(models), rubric="x", at_least=at_least)
    count = len(models)
    said, _ = judged(part, *(YES if place < yes else NO for yes in range(count + 1) for place in range(count)))
    assert [one.kept for one in said] == [one.score >= part.graded().threshold for one in said]
    assert part.graded() == Graded((at_least or count // 2 + 1) / count)
    assert part.calls(1) == count


def test_settings_that_cannot_be():
    scene = Scene({}, FIELDS, ["a", "b"], lambda _: set())
    one = list(Agreement(models=("a",), rubric="x").problems(scene))
    assert [problem.path for problem in one] == [("models",)]
    assert "2 models or more" in one[0].message
    wrong = list(Agreement(models=("a", "a", "bb"), rubric="x", fields=("txt",)).problems(scene))
    assert [problem.path for problem in wrong] == [("models", 1), ("models", 2), ("fields", 0)]
    with pytest.raises(ValidationError, match="more than the 2 models"):
        Agreement(models=("a", "b"), rubric="x", at_least=3)


RECIPE = """\
recipe: 1
name: agreed
models:
  writer: {{model: openai/w, api_base: "{url}"}}
  a: {{model: openai/a, api_base: "{url}"}}
  b: {{model: openai/b, api_base: "{url}"}}
  c: {{model: openai/{c}, api_base: "{url}"}}
taxonomy: {{topic: [plain, split]}}
generate:
  - write: {{fields: {{text: string}}, prompt: "{{{{ topic }}}}"}}
filters:
  - agreement: {{models: [a, b, c], rubric: "It is complete."}}
target: {{rows: 4, candidates: 1}}
"""


def test_a_run_asks_each_model_once_a_row(tmp_path, server):
    asked = []

    def answer(body):
        said = body["messages"][-1]["content"]
        if "<data>" not in said:
            return json.dumps({"text": f"{said} text {body['seed']}"})
        asked.append(body["model"])
        return json.dumps(NO if "split" in said and body["model"] != "a" else YES)

    server.answer = answer
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(url=server.url, c="c"))
    recipe = load(path)
    assert recipe.notes == ()
    assert run(recipe, tmp_path / "out", quiet=True).exit_code == 4
    assert sorted(asked) == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    path.write_text(RECIPE.format(url=server.url, c="b"))
    assert any("not that many models" in note for note in load(path).notes)
