"""A plan is told without asking a model, whatever its prompts do with fields that are not there yet."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import polars as pl
import pytest

from qdcgen import rounds
from qdcgen.generate import Asked, cells
from qdcgen.preview import plan_summary
from qdcgen.recipe import loads
from qdcgen.report.plan_text import plan_document, plan_terminal
from qdcgen.rounds import plan_of

TWO_STEPS = """\
recipe: 1
name: two
models: {{writer: {{model: {model}}}}}
taxonomy:
  topic: [cards, transfers]
  tone: [polite, angry]
strategies: [[topic, tone], [topic]]
generate:
  - write: {{fields: {fields}, prompt: "About {{{{ topic }}}}"}}
  - write: {{fields: {{text: string}}, prompt: "{prompt}"}}
target: {{rows: 20}}
"""


def planned(prompt="More", fields="{n: integer}", model="openai/test"):
    return plan_summary(
        loads(TWO_STEPS.format(prompt=prompt, fields=fields, model=model), file="r.yaml", folder=Path("/nonexistent"))
    )


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ("{n: integer}", "{{ 10 // n + 1 }}"),
        ("{n: {type: number, minimum: 2.5}}", "{{ 10 / n }}"),
        ("{n: {type: integer, maximum: -3}}", "{{ 10 // n }}"),
        ("{n: boolean}", "{{ 1 if n else 2 }}"),
        ("{n: [low, high]}", "{{ n }}"),
        ("{n: array}", "{% for one in n %}{{ one }}{% endfor %}"),
        ("{n: {type: array, minItems: 2}}", "{{ n[1] }}"),
        ("{n: string}", "{{ n }}"),
    ],
)
def test_a_field_that_is_not_filled_yet_is_stood_in_for_by_a_value_that_fits_it(fields, prompt):
    summary = planned(prompt, fields)
    assert summary.tokens_in_expected is not None
    assert not any("sample values" in remark for remark in summary.remarks)


def test_rows_whose_prompt_cannot_be_filled_are_left_out_of_the_estimate_and_told():
    whole, some = planned("{{ topic }}"), planned("{{ topic }}{{ '' if tone else 1 // (n - n) }}")
    assert some.tokens_in_expected == pytest.approx(whole.tokens_in_expected, rel=0.2)
    (said,) = [remark for remark in some.remarks if "sample values" in remark]
    assert said.startswith("prompts of 10 of the first 20 rows could not be filled with sample values (")


def test_where_no_prompt_can_be_filled_tokens_are_unknown_and_the_reason_is_told():
    summary = planned("{{ 1 // (n - n) }}")
    assert summary.tokens_in_expected is None
    (said,) = [remark for remark in summary.remarks if "sample values" in remark]
    assert said.startswith("prompts of 20 of the first 20 rows")
    assert said.endswith("tokens in: unknown")


def test_the_embedded_model_costs_nothing_and_the_cost_of_others_is_unknown_until_measured():
    assert planned(model="embedded").usd == (0.0, 0.0)
    unknown = planned()
    assert (unknown.usd, unknown.tokens_out_expected) == (None, None)
    assert any("plan --estimate" in remark for remark in unknown.remarks)
    assert not any("plan --estimate" in remark for remark in planned(model="embedded").remarks)


LAYERED = """\
recipe: 1
name: three
models: {writer: {model: embedded}}
taxonomy:
  topic: {tree: {cards: [lost, pin, stolen], loans: [a, b]}, quotas: {cards: 30%}}
  tone: {tree: [polite, angry], minimum: 3}
  risk: [low, high]
layers:
  mood: {choice: [calm, cross, glad]}
  words: {range: {min: 5, max: 20}}
  channel: {choice: {chat: 1, letter: 1}}
forbid: [{tone: angry, mood: glad}]
generate:
  - write: {fields: {text: string}, prompt: "About {{ topic }}"}
target: {rows: 40}
"""


def test_a_plan_counts_pairs_and_triples_with_layers_as_they_are_drawn():
    recipe = loads(LAYERED, file="r.yaml", folder=Path("/nonexistent"))
    document = plan_document(plan_summary(recipe))
    slots = rounds.named(plan_of(recipe).slots(0, 40), recipe)
    numbered = slots.with_columns(pl.int_range(pl.len()).over("topic", "tone", "risk").alias("replicate"))
    asked = [
        Asked(row["slot"], row["replicate"], {axis: row[axis] for axis in recipe.taxonomies})
        for row in numbered.iter_rows(named=True)
    ]
    drawn = [{**cell.mix, **cell.values} for cell, _, _ in cells(recipe, asked)]
    assert len({cell.id for cell, _, _ in cells(recipe, asked)}) == 40  # the rows that a run would make
    axes = ["topic", "tone", "risk", "mood", "channel"]
    wanted = {
        one: (len({tuple(row[axis] for axis in one) for row in drawn}), 40)
        for one in (*combinations(axes, 2), *combinations(axes, 3))
    }
    told = {(one["left"], one["right"]): (one["planned"], one["rows"]) for one in document["pairs"]}
    told |= {tuple(one["axes"]): (one["planned"], one["rows"]) for one in document["triples"]}
    assert told == wanted
    every = {(one["left"], one["right"]): one["all"] for one in document["pairs"]}
    assert (every["tone", "mood"], every["mood", "channel"], every["topic", "mood"]) == (5, 6, 15)
    assert {(one["pattern"], one["leaves"], one["share"], one["rows"]) for one in document["quotas"]} == {
        ("cards", 3, 0.3, 12),
        ("", 2, 0.7, 28),
    }


def test_a_plan_tells_the_rows_that_leaves_and_pairs_take():
    document = plan_document(plan_summary(loads(LAYERED, file="r.yaml", folder=Path("/nonexistent"))))
    leaves, pairs = document["rows_needed"]
    assert (leaves["what"], leaves["all"], pairs["what"], pairs["all"]) == ("leaves", 9, "pairs", 24)
    assert leaves["levels"] == [0.5, 0.8, 0.95, 0.99]
    for one in (leaves, pairs):
        assert one["planned"] == sorted(one["planned"])
        assert one["planned"][-1] < one["uniform_expected"][-1]


def test_a_small_target_is_looked_beyond_and_a_bound_is_told():
    many = ", ".join(f"n{number}" for number in range(200))
    said = LAYERED.replace("risk: [low, high]", f"risk: [{many}]\n  place: [{many.replace('n', 'p')}]")
    leaves, pairs = plan_document(plan_summary(loads(said, file="r.yaml", folder=Path("/nonexistent"))))["rows_needed"]
    assert leaves["planned"][-1] < 1000
    assert (pairs["looked_at"], pairs["planned"][-1]) == (20_000, None)


def test_the_sums_are_told_beside_drawing_at_random():
    summary = plan_summary(loads(LAYERED, file="r.yaml", folder=Path("/nonexistent")))
    page = plan_terminal(summary, width=120, colour=False)
    assert re.search(r"pairs of leaves +24 of 24 \(100\.0 %\), at random \d\d\.\d %, margin \+\d+\.\d points", page)
    assert re.search(r"triples of leaves +\d+ of 20 \(", page)
    assert re.search(r"pairs, planned +\d+ +\d+ +\d+ +\d+", page)
