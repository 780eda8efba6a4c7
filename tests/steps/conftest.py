"""A server that knows each step by the form of the reply that it asks for, and runs over it."""

import json

import polars as pl
import pytest

from qdcgen.recipe import load
from qdcgen.run import run

HEAD = """\
recipe: 1
name: steps
seed: 3
models:
  writer: {{model: openai/test, api_base: "{url}", price: {{input: 1, output: 2}}}}
  critic: {{model: openai/critic, api_base: "{url}", price: {{input: 1, output: 2}}}}
taxonomy:
  topic: {topics}
layers:
  mood: {{choice: {{calm: 1, angry: 1}}}}
"""


def keys_of(body):
    """Keys of the object that a request asks for, by the alphabet."""
    return list(schema_of(body)["properties"])


def schema_of(body):
    return body["response_format"]["json_schema"]["schema"]


def question(body):
    return body["messages"][-1]["content"]


@pytest.fixture
def steps(tmp_path, server):
    """`steps("- write: …", rows=8)` runs these steps; gives the outcome and all rows, kept or not, in plan order."""

    def go(generate, *overrides, topics="[cards, transfers]", rows=8, layers="", folder="out", **options):
        path = tmp_path / "steps.yaml"
        body = "".join(f"  {line}\n" for line in generate.strip().splitlines())
        path.write_text(
            HEAD.format(url=server.url, topics=topics)
            + layers
            + f"generate:\n{body}target: {{rows: {rows}, candidates: 1}}\n"
        )
        outcome = run(load(path, overrides=overrides), tmp_path / folder, quiet=True, **options)
        frames = [pl.read_parquet(file) for file in sorted((tmp_path / folder / "raw").glob("*.parquet"))]
        return outcome, pl.concat(frames).sort("_round", "_slot")

    go.path = tmp_path / "steps.yaml"
    return go


def notes(frame):
    """What each row's steps recorded."""
    return [json.loads(said) for said in frame["_notes"]]
