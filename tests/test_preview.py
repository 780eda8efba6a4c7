"""A plan is told without asking a model, whatever its prompts do with fields that are not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdcgen.preview import plan_summary
from qdcgen.recipe import loads

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
