"""The step `correct`: the label is decided again by who does not know it; a flip drops or relabels the row."""

import json

import polars as pl
import pytest

from qdcgen.errors import RecipeError

from .conftest import keys_of, notes, question, schema_of  # noqa: TID252

STEPS = """
- write:
    fields: {text: string, label: [good, bad, mixed]}
    prompt: "Write about {{ topic }}, {{ mood }}."
- correct: {field: label, model: critic, labels: {mixed: both at once}}
"""
TOPICS = "[a, b, c, d]"


class Script:
    """Labels a text by its topic; the reader says otherwise of topic `a`."""

    def __init__(self):
        self.seen = []

    def __call__(self, body):
        if keys_of(body) == ["because", "label"]:
            self.seen.append(body)
            return json.dumps({"because": "it says so", "label": "bad" if "topic a" in question(body) else "good"})
        topic = question(body).split("about ")[1][0]
        label = "mixed" if topic == "b" else "good"
        return json.dumps({"text": f"a text of topic {topic}", "label": label})


def test_a_flip_drops_the_row_and_says_both_labels(steps, server):
    server.answer = script = Script()
    outcome, frame = steps(STEPS, topics=TOPICS, rows=8)
    assert outcome.exit_code == 4
    flipped = frame.filter(frame["_fault"] == "label flipped")
    assert set(flipped["topic"]) == {"a", "b"}
    reasons = dict(zip(flipped["topic"], flipped["_reason"], strict=True))
    assert reasons["a"] == "label: asked for 'good', reads as 'bad': it says so"
    assert reasons["b"] == "label: asked for 'mixed', reads as 'good': it says so"
    counted = [(one["correct"]["label"]["drawn"], one["correct"]["label"]["read"]) for one in notes(frame)]
    assert sorted(counted) == [("good", "bad")] * 2 + [("good", "good")] * 4 + [("mixed", "good")] * 2
    assert all(body["model"] == "critic" and body["temperature"] == 0 for body in script.seen)


def test_a_flip_relabels_the_row_and_keeps_the_drawn_label(steps, server):
    server.answer = Script()
    outcome, frame = steps(STEPS, "generate.1.correct.flip=relabel", topics=TOPICS, rows=8)
    assert outcome.exit_code == 0
    assert dict(zip(frame["topic"], frame["label"], strict=True)) == {"a": "bad", "b": "good", "c": "good", "d": "good"}
    assert {one["correct"]["label"]["drawn"] for one in notes(frame.filter(frame["topic"] == "b"))} == {"mixed"}
    assert [one["correct"]["label"]["flipped"] for one in notes(frame)].count(True) == 4


def test_the_reader_is_blind_and_sees_every_label(steps, server):
    server.answer = script = Script()
    steps(STEPS, topics=TOPICS, rows=8)
    for body in script.seen:
        system = body["messages"][0]["content"]
        assert "- good\n- bad\n- mixed: both at once" in system
        assert (
            question(body) == f'The example:\n<data>\n{{\n  "text": "{question(body).split(chr(34))[3]}"\n}}\n</data>'
        )
        assert schema_of(body)["properties"]["label"] == {"enum": ["good", "bad", "mixed"]}
        assert "mood" not in str(body["messages"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{field: lable}", "did you mean 'label'"),
        ("{field: text}", "has no list of labels"),
        ("{field: label, text: [label]}", "decides 'label' blind"),
        ("{field: label, labels: {goood: x}}", "did you mean 'good'"),
        ("{field: label, flip: keep}", "flip"),
        ("{field: label, model: critc}", "did you mean 'critic'"),
    ],
)
def test_settings_that_cannot_be_are_refused(steps, settings, said):
    with pytest.raises(RecipeError, match=said):
        steps(STEPS.partition("- correct")[0] + f"- correct: {settings}")


@pytest.mark.parametrize(("flip", "kept"), [("drop", 4), ("relabel", 8)])
def test_flips_are_counted_by_label_in_the_report_and_are_a_column(steps, server, tmp_path, flip, kept):
    server.answer = Script()
    outcome, _ = steps(STEPS, f"generate.1.correct.flip={flip}", topics=TOPICS, rows=8)
    found = {one.axis: (one.value, one.note) for one in outcome.report.measures if one.name == "flipped"}
    assert found == {
        "label": (0.5, "4 of 8 rows read blind"),
        "label=bad": (None, "never drawn; 0 before, 2 after"),
        "label=good": (pytest.approx(1 / 3), "6 before, 6 after; read as bad 2"),
        "label=mixed": (1.0, "2 before, 0 after; read as good 2"),
    }
    data = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")
    assert data.height == kept
    assert {one["field"] for said in data["_labels"].to_list() for one in said} == {"label"}
