"""The step `outline`: an ordered list within bounds, printed and walked by later steps."""

import json

import pytest

from qdcgen.errors import RecipeError

from .conftest import keys_of, notes, question, schema_of  # noqa: TID252

STEPS = """
- outline: {prompt: "A talk about {{ topic }} in a {{ mood }} mood.", min: 2, max: 4}
- write: {fields: {text: string}, prompt: "{{ outline }}|{% for point in outline.points %}[{{ point }}]{% endfor %}"}
"""


def test_points_in_order_within_bounds_for_later_templates(steps, server):
    asked = []

    def answer(body):
        if keys_of(body) == ["points"]:
            asked.append(schema_of(body)["properties"]["points"])
            assert "Give 2 to 4 points." in question(body)
            return json.dumps({"points": ["asks\n  first", "doubts", "agrees"]})
        return json.dumps({"text": question(body)})

    server.answer = answer
    _, frame = steps(STEPS, rows=4)
    assert {(one["minItems"], one["maxItems"]) for one in asked} == {(2, 4)}
    assert set(frame["text"]) == {"1. asks first\n2. doubts\n3. agrees|[asks first][doubts][agrees]"}
    assert [note["outline"] for note in notes(frame)] == [["asks first", "doubts", "agrees"]] * 4
    assert "outline" not in frame.columns


def test_a_list_out_of_bounds_costs_its_row_after_one_repair(steps, server):
    server.answer = lambda body: json.dumps({"points": ["one"] * 9} if keys_of(body) == ["points"] else {"text": "a"})
    outcome, frame = steps(STEPS, rows=4)
    assert outcome.exit_code == 4
    assert set(frame["_fault"]) == {"schema"}
    assert server.asked == 8


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("{prompt: a, min: 5, max: 4}", "min 5 is above max 4"),
        ("{prompt: '{{ nothing }}'}", "is no axis and no earlier field"),
    ],
)
def test_settings_that_cannot_be_are_refused(steps, setting, said):
    with pytest.raises(RecipeError, match=said):
        steps(f"- outline: {setting}\n- write: {{fields: {{text: string}}, prompt: a}}")
