"""Pass rates: accepted rows are given to a named solver, several times each."""

import json
import random
import re

import polars as pl
import pytest

from qdcgen.errors import RecipeError
from qdcgen.recipe import load
from qdcgen.review import of_run
from qdcgen.run import run
from qdcgen.solver import chosen
from qdcgen.store import Store

RECIPE = """\
recipe: 1
name: sums
seed: 2
models:
  writer: {{model: openai/test, api_base: "{url}", price: {{input: 1, output: 2}}}}
  solver: {{model: openai/solver, api_base: "{url}", price: {{input: 1, output: 2}}}}
taxonomy:
  topic: [sums, products]
generate:
  - write: {{fields: {{question: string, answer: integer}}, prompt: "A task on {{{{ topic }}}}."}}
  - complexify: {{fraction: 0.5, of: question}}
target: {{rows: {rows}, candidates: 2}}
measure:
  text: question
  solver: {{model: solver, question: question, answer: answer, tries: 4, rows: 30}}
gates:
  complexity: {{pass_rate: ">= 0.1", never_solved: "<= 0.9"}}
"""


def properties(body):
    return body["response_format"]["json_schema"]["schema"]["properties"]


def answer(body):
    """Sums of one digit are always solved, of two mostly, hard ones half of the time, and some keys are wrong."""
    said, chance = body["messages"][-1]["content"], random.Random(json.dumps(body, sort_keys=True))
    if "harder" in properties(body):
        a, b = map(int, re.findall(r"[0-9]+", said.rpartition("How much")[2])[:2])
        return json.dumps({"harder": f"Tricky: take {a}, then {b} more?"})
    if "result" in properties(body):
        a, b = map(int, re.findall(r"[0-9]+", said)[:2])
        right = chance.random() < (0.4 if "Tricky" in said else 0.9)
        return json.dumps({"reasoning": "as one adds", "result": a + b if right else a + b + 1})
    a, b = chance.randint(1, 900), chance.randint(1, 900)
    return json.dumps({"question": f"How much is {a} and {b}?", "answer": a + b if chance.random() < 0.9 else 0})


@pytest.fixture
def sums(tmp_path, server):
    """`sums(rows=40)` runs the recipe; gives its path, its folder and the outcome."""

    def go(*overrides, rows=40, change=lambda text: text, answer=answer):
        server.answer = answer
        path = tmp_path / "sums.yaml"
        path.write_text(change(RECIPE.format(url=server.url, rows=rows)))
        return path, tmp_path / "out", run(load(path, overrides=overrides), tmp_path / "out", quiet=True)

    return go


def figures(report):
    return {one.name: one for one in report.measures if one.table == "complexity" and one.of == "kept"}


def test_accepted_rows_are_solved_several_times_and_each_has_a_rate(sums, server):
    path, out, outcome = sums()
    assert outcome.exit_code == 0, outcome.remarks
    found = figures(outcome.report)
    assert found["pass rate"].n == 30
    assert 0.4 < found["pass rate"].value <= 1
    assert "wrong key" in found["never solved"].note
    assert found["never solved"].value > 0
    assert (found["asked against pass rate"].interval or (0, 0))[1] < 0
    table = pl.read_parquet(out / "passes.parquet")
    assert table.height == 30
    assert set(table["_tries"]) == {4}
    one = table.filter(table["_solved"] == 0)
    assert one["low"][0] == 0
    assert 0.4 < one["high"][0] < 0.5
    assert set(one["band"]) == {"never solved"}
    assert Store(out).peek().verify() == []
    asked = server.asked
    assert run(load(path), out, quiet=True).exit_code == 0
    assert server.asked == asked, "nothing changed, so nobody is asked"


def test_more_rows_ask_only_about_what_is_new(sums, server):
    sums()
    before = server.asked
    _, _, outcome = sums(rows=60)
    assert outcome.exit_code == 0
    made = 20 * 1.5
    assert server.asked - before <= made + 4 * 20, "of 30 rows those stay that the digest still chooses"
    assert figures(outcome.report)["pass rate"].n == 30


def test_the_solver_is_asked_by_run_only(sums, server):
    path, out, _ = sums()
    asked = server.asked
    report = of_run(Store(out).peek(), load(path), "", ask=False)
    assert server.asked == asked
    assert "pass rate" not in figures(report)
    assert any("asked by qdcgen run only" in said for said in report.remarks)


def test_the_filter_and_the_measure_pay_once_for_the_same_tries(sums, server):
    filtered = "filters: [{solvable: {question: question, answer: answer, tries: 4, at_least: 1, model: solver}}]\n"
    _, _, outcome = sums(change=lambda text: text.replace("target:", f"{filtered}target:"))
    rows = outcome.results["rows"]["attempted"]
    assert server.asked <= rows * (1 + 1 + 4), "written, some of them made harder, tried four times, and no more"
    assert figures(outcome.report)["never solved"].value == 0
    assert any("so too high" in said for said in outcome.report.remarks)


def test_a_cap_that_is_reached_while_solving_leaves_the_rates_for_the_next_run(sums):
    _, _, outcome = sums("target.calls=100")
    assert outcome.report is not None
    assert "pass rate" not in figures(outcome.report)
    assert any("run again to go on" in said for said in outcome.report.remarks)
    assert any(said.startswith("rows were not all solved") for said in outcome.remarks)


def test_a_solver_that_answers_nothing_leaves_lines_that_say_so(sums):
    def silent(body):
        return "I would rather not." if "result" in properties(body) else answer(body)

    _, _, outcome = sums(answer=silent)
    found = figures(outcome.report)
    for name in ("pass rate", "always solved", "never solved"):
        assert found[name].value is None
        assert found[name].note == "too few: 0 rows with a usable try, needs 20"
    assert outcome.exit_code == 3
    assert any("pass_rate could not be measured (too few: 0 rows" in said for said in outcome.remarks)
    assert any("30 of 30 rows that the solver gave no usable answer on" in said for said in outcome.report.remarks)
    assert found["asked against pass rate"].value is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("model: solver, q", "model: slover, q", "did you mean 'solver'"),
        ("question: question", "question: qestion", "did you mean 'question'"),
        ("answer: answer, tries", "answer: question, tries", "would see the answer"),
        ("answer: answer, tries", "answer: reply, tries", "no step fills 'reply'"),
        ("tries: 4", "tries: 1", "tries"),
        ("rows: 30}", "rows: 30}\n  ifd: {answer: anser}", "did you mean 'answer'"),
        (
            "  solver: {model: solver, question: question, answer: answer, tries: 4, rows: 30}",
            "  ifd: {}",
            "expected question",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(sums, old, new, said):
    with pytest.raises(RecipeError, match=said):
        sums(change=lambda text: text.replace(old, new))


def test_ifd_takes_the_fields_of_the_solver(sums):
    path, _, _ = sums(change=lambda text: text.replace("rows: 30}", "rows: 30}\n  ifd: {rows: 20}"))
    assert load(path).measure.solving == (("question",), "answer")


def test_rows_are_chosen_by_what_they_say():
    frame = pl.DataFrame(
        {"_id": [f"{n:03d}" for n in range(100)], "q": [f"q{n % 80}" for n in range(100)], "a": ["1"] * 100}
    )
    some = chosen(frame, ["q"], "a", 30, 7)
    assert some.height == 30
    assert some["q"].n_unique() == 30
    turned = chosen(frame.sample(fraction=1, shuffle=True, seed=2), ["q"], "a", 30, 7)
    assert set(turned["q"]) == set(some["q"])
    same = ["_id", "q", "a"]
    assert turned[same].equals(some[same]), "of rows that say the same the first by id, however they are ordered"
    fewer = chosen(frame.head(60), ["q"], "a", 30, 7)
    assert set(some["q"]) & set(frame.head(60)["q"]) <= set(fewer["q"])
