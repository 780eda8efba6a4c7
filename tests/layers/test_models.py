"""The layer `models`: each row's writer by weight, for every step that names none."""

import json
from collections import Counter

import polars as pl
import pytest

from qdcgen.layers.models import Models
from qdcgen.parts import Scene, alias_of, position
from qdcgen.recipe import load
from qdcgen.rows import Cell, Draft
from qdcgen.run import run

RECIPE = """\
recipe: 1
name: ensemble
models:
  first: {{model: openai/first, api_base: "{url}"}}
  small: {{model: openai/small, api_base: "{url}"}}
  large: {{model: openai/large, api_base: "{url}"}}
taxonomy: {{topic: [a, b]}}
layers: {{writer: {{models: {{small: 3, large: 1}}}}}}
generate:
  - write: {{fields: {{title: string}}, prompt: "A title on {{{{ topic }}}} by {{{{ writer }}}}"}}
  - write: {{fields: {{text: string}}, prompt: "{{{{ title }}}}", model: first}}
target: {{rows: 16}}
measure: {{text: text}}
"""


def row(**names):
    return Draft(Cell("0" * 16, {}, 0, 0), names)


def drawn(part, count, names=None):
    return [part.draw(names or {}, position(7, "topic=a", f"row {n}", "writer", n)) for n in range(count)]


def test_a_step_asks_its_own_model_or_the_rows_or_the_first():
    small = drawn(Models(values=["small"]), 1)[0]
    assert alias_of(row(writer=small), None) == "small"
    assert alias_of(row(writer=small), "critic") == "critic"
    assert alias_of(row(writer="small"), None) == "", "a plain word is no writer"
    assert alias_of(row(), None) == ""


def test_weights_are_met_and_cases_apply():
    part = Models.model_validate(
        {"values": {"small": 3, "large": 1}, "when": [{"if": {"topic": "law"}, "values": ["large"]}]}
    )
    assert Counter(drawn(part, 64)) == {"small": 48, "large": 16}
    assert set(drawn(part, 8, {"topic": "law"})) == {"large"}


def test_aliases_that_are_none_and_a_second_such_layer_are_problems():
    part = Models.model_validate({"values": ["smal"], "when": [{"if": {"topic": "x"}, "values": {"lage": 1}}]})
    scene = Scene({"topic": None, "other": Models(values=["large"])}, {}, ["small", "large"], lambda _: set())
    assert [tuple(problem) for problem in part.problems(scene)] == [
        (("values", "smal"), "no model called 'smal'; did you mean 'small'?"),
        (("when", 0, "values", "lage"), "no model called 'lage'; did you mean 'large'?"),
        ((), "other says already which model makes a row"),
    ]


def test_in_a_run_the_rows_model_writes_where_the_step_names_none(server, tmp_path):
    asked = Counter()

    def answer(body):
        schema = body["response_format"]["json_schema"]["schema"]["properties"]
        asked[body["model"], *schema] += 1
        return json.dumps({name: f"by {body['model']}, number {sum(asked.values())}" for name in schema})

    server.answer = answer
    path = tmp_path / "ensemble.yaml"
    path.write_text(RECIPE.format(url=server.url))
    assert run(load(path), tmp_path / "out", quiet=True).exit_code == 0
    assert asked == {("small", "title"): 12, ("large", "title"): 4, ("first", "text"): 16}
    frame = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")
    assert Counter(frame["writer"]) == {"small": 12, "large": 4}
    for said in frame.iter_rows(named=True):
        assert f"by {said['writer']}," in said["title"]


@pytest.mark.parametrize("values", [[], {"small": 0}])
def test_no_writer_is_refused(values):
    with pytest.raises(ValueError, match="at least one value"):
        Models(values=values)
