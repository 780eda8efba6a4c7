"""Every shipped recipe: parses, plans, is in step with the published schema, and says what it is for."""

import json
from pathlib import Path

import jsonschema_rs
import pytest

from qdcgen.growing import grow_recipe
from qdcgen.preview import plan_summary
from qdcgen.recipe import load
from qdcgen.run import run
from qdcgen.schema import recipe_schema
from qdcgen.strict_yaml import parse
from qdcgen.testing import Server

RECIPES = Path(__file__).parent.parent / "recipes"
SHIPPED = sorted(RECIPES.glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_recipe_passes_check_and_can_be_planned(path, tmp_path):
    recipe = load(path, out=tmp_path)
    if recipe.ungrown:
        with Server() as server:
            keys = ("model=openai/test", f"api_base={server.url}")
            there = tuple(f"models.{alias}.{key}" for alias in recipe.models for key in keys)
            grow_recipe(load(path, overrides=there, out=tmp_path), tmp_path)
        recipe = load(path, out=tmp_path)
    summary = plan_summary(recipe)
    assert summary.rows == recipe.target.rows
    assert summary.calls_expected > 0
    assert all(axis.leaves_planned == axis.leaves for axis in summary.axes)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_recipe_fits_the_published_schema(path):
    jsonschema_rs.validator_for(recipe_schema()).validate(parse(path.read_bytes(), path.name).data)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_recipe_begins_by_saying_what_it_shows(path):
    lines = path.read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=recipe.schema.json"
    assert lines[1].startswith("# ")


def test_the_schema_file_is_what_the_code_says():
    assert json.loads((RECIPES / "recipe.schema.json").read_text()) == recipe_schema()


def test_the_schema_refuses_what_check_refuses():
    check = jsonschema_rs.validator_for(recipe_schema())
    good = parse((RECIPES / "quickstart.yaml").read_bytes(), "quickstart.yaml").data
    assert check.is_valid(good)
    tree = {"tree": ["a", "b"]}
    assert check.is_valid({**good, "taxonomy": {"t": {**tree, "weights": {"a": 2}}}})
    assert not check.is_valid({**good, "taxonomy": {"t": {**tree, "weights": {"a": -2}}}})
    assert not check.is_valid({**good, "filters": [{"lenght": {}}]})
    assert not check.is_valid({**good, "target": {"rows": 0}})
    assert not check.is_valid({**good, "modles": {}})


def test_the_recipe_of_difficulty_runs_to_bands_ratings_pass_rates_and_an_anchor(tmp_path):
    numbers = iter(range(2, 10**6))

    def answer(body):
        asked = body["messages"][-1]["content"]
        properties = body["response_format"]["json_schema"]["schema"]["properties"]
        if "question" in properties:
            more = ("and then once again " * 6) if "It is to be hard" in asked else ""
            a, b = next(numbers), next(numbers)
            return json.dumps({"question": f"Rosa has {a} jars {more}and fills {b} more. How many?", "answer": a + b})
        if "scores" in properties:
            texts = range(1, 6)
            return json.dumps({"compared": "by steps", "scores": [{"text": n, "score": 10 * n} for n in texts]})
        return json.dumps({"reasoning": "one step", "result": 5})

    with Server(answer=answer) as server:
        keys = ("model=openai/test", f"api_base={server.url}")
        there = tuple(f"models.{alias}.{key}" for alias in ("writer", "critic", "solver") for key in keys)
        outcome = run(load(RECIPES / "levels.yaml", overrides=there), tmp_path / "out", quiet=True)
    assert outcome.exit_code == 0, outcome.remarks
    value = {one.name: one.value for one in outcome.report.measures if one.of == "kept"}
    assert (value["easy"], value["hard"]) == (0.5, 0.5)
    assert value["pass rate"] == 0
    for name in ("rating reliability", "semantic classes", "words"):
        assert value[name] is not None, name
    assert {one.of for one in outcome.report.measures} >= {"raw", "kept", "anchor"}
