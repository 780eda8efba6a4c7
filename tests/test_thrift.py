"""What the calls were worth: critics' calls that were not needed, unique rows a call and a dollar; counted by hand."""

import json

import polars as pl
import pytest

from qdcgen import thrift
from qdcgen.model.journal import Journal
from qdcgen.recipe import load
from qdcgen.report.contents import Calls
from qdcgen.report.terminal import terminal
from qdcgen.review import review
from qdcgen.run import run
from qdcgen.store import Store

OWN = ["turn the pot a little every day", "roll your shirts up", "soak the rice for an hour", "leave the phone outside"]


class Plain:
    filter_order = "cheap_first"


def candidates(rows):
    """`rows` are (text, kept, calls, dollars, models)."""
    kinds = {"_text": pl.String, "_kept": pl.Boolean, "_calls": pl.Int64, "_usd": pl.Float64, "_models": pl.String}
    return pl.DataFrame(rows, schema=kinds, orient="row")


def measured(rows, spent, found=()):
    given = thrift.measures(Plain, rows, found, spent)
    return {(one.name, one.axis): one for one in given}


def test_unique_rows_are_counted_by_hand_near_copies_once_and_everything_paid_for():
    rows = candidates(
        [
            (OWN[0], True, 2, 0.02, "a"),
            (OWN[0] + ".", True, 2, 0.02, "a"),
            (OWN[1], True, 2, 0.02, "a"),
            (OWN[2], False, 2, 0.02, "a"),
            (None, False, 1, 0.01, "a"),
        ]
    )
    found = measured(rows, Calls(20, 0, 0, 0.25))
    calls, dollars = found["unique rows per 1,000 calls", ""], found["unique rows a dollar", ""]
    assert calls.value == pytest.approx(1_000 * 2 / 20)
    assert dollars.value == pytest.approx(2 / 0.25)
    assert (calls.n, dollars.n) == (5, 5)
    assert all(one.interval[0] < one.value < one.interval[1] for one in (calls, dollars))
    assert calls.note.startswith("2 accepted rows for 20 calls; ")
    assert set(found) == {("unique rows per 1,000 calls", ""), ("unique rows a dollar", "")}, "one model needs no line"


def test_each_model_pays_for_its_own_rows_alone_and_shares_a_row_that_both_made():
    rows = candidates(
        [
            (OWN[0], True, 1, 0.1, "large"),
            (OWN[1], True, 1, 0.1, "large"),
            (OWN[1] + "!", True, 3, 0.01, "small"),
            (OWN[2], True, 3, 0.01, "small"),
            (None, False, 3, 0.01, "small"),
            (OWN[3], False, 1, None, "large,small"),
        ]
    )
    found = measured(rows, Calls(100, 0, 0, None))
    assert found["unique rows per 1,000 calls", ""].value == pytest.approx(30)
    assert found["unique rows per 1,000 calls", "large"].value == pytest.approx(1_000 * 1.5 / 2)
    assert found["unique rows per 1,000 calls", "small"].value == pytest.approx(1_000 * 1.5 / 9)
    assert found["unique rows a dollar", "large"].value == pytest.approx(1.5 / 0.2)
    assert found["unique rows a dollar", "small"].value == pytest.approx(1.5 / 0.03)
    for axis in ("", "large + small"):
        unknown = found["unique rows a dollar", axis]
        assert unknown.value is None
        assert "unknown; name it under price:" in unknown.note


def test_with_writers_on_a_layer_calls_are_told_by_alias_and_dollars_left_to_the_metric_writers():
    rows = candidates([(text, True, 1, 0.1, "m") for text in OWN]).with_columns(
        pl.Series("_writer", ["x", "x", "x", "y"])
    )
    found = measured(rows, Calls(4, 0, 0, 0.4))
    assert {key for key in found if key[1]} == {
        ("unique rows per 1,000 calls", "x"),
        ("unique rows per 1,000 calls", "y"),
    }


def test_what_costs_nothing_and_what_no_call_is_known_of_have_no_figure():
    rows = candidates([(text, True, 1, 0.0, "m") for text in OWN])
    found = measured(rows, Calls(0, 0, 0, 0.0))
    assert found["unique rows a dollar", ""].note == "its calls cost nothing"
    assert found["unique rows per 1,000 calls", ""].value is None


def test_the_interval_holds_the_true_rate():
    import random

    held = 0
    for seed in range(200):
        rng = random.Random(seed)
        rows = []
        for n in range(80):
            calls = rng.choice([1, 2, 5])
            rows.append((f"{n} {rng.random()} {rng.random()}", rng.random() < 0.6, calls, 0.01 * calls, "m"))
        frame = candidates(rows)
        one = measured(frame, Calls(int(frame["_calls"].sum()), 0, 0, 1.0))["unique rows per 1,000 calls", ""]
        held += one.interval[0] <= 1_000 * 0.6 / (8 / 3) <= one.interval[1]
    assert held >= 186, "95 % of 200, and noise"


# ── a run ───────────────────────────────────────────────────────────────────────────────────────────────────────────

RECIPE = """\
recipe: 1
name: spent
models:
  writer: {{model: openai/test, api_base: "{url}", price: {{input: 1, output: 2}}}}
  critic: {{model: openai/other, api_base: "{url}", price: {{input: 10, output: 20}}}}
taxonomy: {{topic: [lost, declined, pending, pin]}}
generate:
  - write: {{fields: {{message: string}}, prompt: "{{{{ topic }}}}"}}
filters:
  - double_critic: {{model: critic}}
  - judge: {{model: critic, rubric: "It is polite."}}
  - length: {{field: message, min_words: 4}}
target: {{rows: 16, candidates: 1}}
measure: {{text: message}}
"""


@pytest.fixture
def critics(server):
    """Every message about a lost card is too short; every third other one is impolite."""

    def answer(body):
        said = body["messages"][-1]["content"]
        if "<data>" not in said:
            more = "" if "lost" in said else f"says number {body['seed']} {'rudely' if body['seed'] % 3 == 0 else ''}"
            return json.dumps({"message": f"{said} {more}"})
        if "incorrect:" in said:
            return json.dumps({"finding": "so", "verdict": "no"})
        return json.dumps({"finding": "so", "verdict": "no" if "rudely" in said and "correct" not in said else "yes"})

    server.answer = answer
    return server


def test_calls_saved_are_those_that_the_server_never_saw(tmp_path, critics):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(url=critics.url))
    outcome = run(load(path), tmp_path / "out", quiet=True)
    store, recipe = Store(tmp_path / "out").peek(), load(path)
    found = {one.filter: one for one in thrift.saved(store, recipe)}
    verdicts = pl.concat([store.table(name) for name in store.names("verdicts")])
    seen = dict(verdicts.group_by("filter").len().iter_rows())
    assert found["judge"] == thrift.Saved("judge", 1.0, 16, 4)
    assert found["double_critic"] == thrift.Saved("double_critic", 2.0, 16, 16 - seen["double_critic"])
    asked = critics.asked - 16
    assert asked == 12 + 2 * seen["double_critic"]
    assert thrift.totals(list(found.values())) == {"saved": 48 - asked, "of": 48}
    assert outcome.results["critic_calls"] == {"saved": 48 - asked, "of": 48}
    told = {(one.name, one.axis): one for one in outcome.report.measures}
    assert told["critic calls saved", ""].value == pytest.approx((48 - asked) / 48)
    assert told["critic calls saved", "judge"].value == 4 / 16
    note = f"cheap filters first saved {48 - asked} of 48 critic calls"
    assert told["critic calls saved", ""].note.startswith(note)
    page = terminal(review(tmp_path / "out", text=(), axes=(), embedder=None), colour=False, notes=True)
    assert note in " ".join(page.split())
    again = run(load(path, overrides=("filter_order=written",)), tmp_path / "out", quiet=True)
    assert again.results["critic_calls"]["saved"] < 48 - asked
    assert any(one.note.startswith("filters as written saved") for one in again.report.measures)


def test_replies_are_split_by_model_and_what_was_pruned_stays_counted(tmp_path, critics):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(url=critics.url))
    outcome = run(load(path), tmp_path / "out", quiet=True)
    calls = outcome.report.calls
    by = {one.model: one for one in calls.models}
    assert by["openai/test"].replies == 16
    assert sum(one.replies for one in calls.models) == calls.replies == critics.asked
    assert sum(one.usd for one in calls.models) == pytest.approx(calls.usd)
    assert by["openai/other"].usd > by["openai/test"].usd
    assert "openai/other" in terminal(outcome.report, colour=False)
    stored = review(tmp_path / "out", text=(), axes=(), embedder=None)
    assert stored.calls == outcome.report.calls
    journal = Journal(tmp_path / "out" / "calls.sqlite")
    journal.prune(0)
    left = journal.by_model()
    journal.close()
    assert set(left) == {""}
    assert left[""].calls == critics.asked


def test_a_run_without_critics_says_nothing_of_them(small, tmp_path):
    outcome = run(load(small), tmp_path / "out", quiet=True)
    assert outcome.results["critic_calls"] == {"saved": 0, "of": 0}
    names = {one.name for one in outcome.report.measures}
    assert "critic calls saved" not in names
    assert {"unique rows per 1,000 calls", "unique rows a dollar"} <= names
