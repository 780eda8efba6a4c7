"""The layer `label`: labels at their declared distribution before any text, and the field can hold nothing else."""

import json
from collections import Counter

import polars as pl
import pytest

from qdcgen.errors import RecipeError
from qdcgen.layers.label import Label
from qdcgen.parts import Scene, pinned, position
from qdcgen.recipe import load
from qdcgen.rows import Cell, Draft
from qdcgen.run import run

RECIPE = """\
recipe: 1
name: labels
models: {{writer: {{model: openai/test, api_base: "{url}"}}}}
taxonomy: {{topic: [hotels, films]}}
layers:
  wanted: {{label: {{field: sentiment, values: {{positive: 5, negative: 2, mixed: 1}}}}}}
generate:
  - write: {{fields: {{review: string, sentiment: [positive, negative, mixed]}}, prompt: "A {{{{ wanted }}}} review of {{{{ topic }}}}"}}
target: {{rows: 64}}
measure: {{text: review}}
"""  # noqa: E501


def drawn(part, count, names=None, mix="topic=a"):
    return [part.draw(names or {}, position(7, mix, f"row {n}", "wanted", n)) for n in range(count)]


def test_labels_have_their_shares_in_every_mix_from_the_first_rows_on():
    part = Label(field="sentiment", values={"positive": 5, "negative": 2, "mixed": 1})
    for mix in range(50):
        labels = drawn(part, 200, mix=f"topic={mix}")
        assert Counter(labels[:64]) == {"positive": 40, "negative": 16, "mixed": 8}
        for count in range(1, 201):
            found = Counter(labels[:count])
            assert all(abs(found[label] - count * weight / 8) <= 4 for label, weight in part.values.items())


def test_the_whole_run_keeps_to_the_distribution_where_mixes_are_small():
    part = Label(field="sentiment", values={"positive": 1, "negative": 1})
    whole = Counter(label for mix in range(500) for label in drawn(part, 2, mix=f"topic={mix}"))
    assert whole == {"positive": 500, "negative": 500}


def test_a_case_gives_another_distribution():
    part = Label.model_validate(
        {"field": "f", "values": ["a", "b"], "when": [{"if": {"topic": "x"}, "values": {"c": 1}}]}
    )
    assert set(drawn(part, 8, {"topic": "x"})) == {"c"}
    assert set(drawn(part, 8, {"topic": "y"})) == {"a", "b"}
    assert part.support() == ["a", "b", "c"]


def test_a_drawn_label_narrows_the_schema_of_its_field_and_no_other():
    label = drawn(Label(field="grade", values=["3"]), 1)[0]
    fields = {"grade": {"enum": [1, 2, 3]}, "text": {"type": "string"}, "other": {"enum": ["3", "4"]}}
    draft = Draft(Cell("0" * 16, {}, 0, 0), {"wanted": label})
    assert pinned(draft, fields) == {**fields, "grade": {"enum": [3]}}
    assert pinned(Draft(Cell("0" * 16, {}, 0, 0), {"wanted": "3"}), fields) == fields


def test_two_layers_cannot_decide_one_field():
    (problem,) = Label(field="f", values=["a"]).problems(
        Scene({"first": Label(field="f", values=["a"])}, {}, [], lambda _: set())
    )
    assert problem == (("field",), "first decides 'f' already")


def test_a_run_asks_for_the_label_in_prompt_and_schema_and_records_it(server, tmp_path):
    asked = Counter()

    def answer(body):
        schema = body["response_format"]["json_schema"]["schema"]
        (label,) = schema["properties"]["sentiment"]["enum"]
        asked[label] += 1
        assert f"A {label} review of" in body["messages"][-1]["content"]
        return json.dumps({"review": f"words of number {sum(asked.values())}", "sentiment": label})

    server.answer = answer
    path = tmp_path / "labels.yaml"
    path.write_text(RECIPE.format(url=server.url))
    assert run(load(path), tmp_path / "out", quiet=True).exit_code == 0
    frame = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")
    assert (frame["wanted"] == frame["sentiment"]).all()
    assert Counter(frame["wanted"]) == asked == {"positive": 40, "negative": 16, "mixed": 8}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("field: sentiment", "field: sentimen", "no step fills a field called 'sentimen'; did you mean 'sentiment'?"),
        ("sentiment: [positive, negative, mixed]", "sentiment: string", "field 'sentiment' may hold anything; list"),
        ("mixed: 1", "mixd: 1", "'mixd' is no value of field 'sentiment'; did you mean 'mixed'?"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_hold_the_labels_is_told_with_its_place(tmp_path, old, new, said):
    path = tmp_path / "labels.yaml"
    path.write_text(RECIPE.format(url="http://127.0.0.1:9").replace(old, new))
    with pytest.raises(RecipeError) as error:
        load(path)
    (fault,) = error.value.faults
    assert said in fault.message
    assert fault.message.startswith("layers.wanted.label.field: ")
    assert fault.line == 6
