"""Two questions a row: kept on yes and no, dropped with the reason on anything else."""

import json

import polars as pl
import pytest

from qdcgen.recipe import load
from qdcgen.run import run

RECIPE = """\
recipe: 1
name: critic
models: {{writer: {{model: openai/test, api_base: "{url}"}}}}
taxonomy: {{topic: [sound, wrong, vague, agreeing]}}
generate:
  - write: {{fields: {{answer: string}}, prompt: "{{{{ topic }}}}"}}
filters: [double_critic]
target: {{rows: 8, candidates: 1}}
"""
SAID = {"sound": ("yes", "no"), "wrong": ("no", "yes"), "vague": ("no", "no"), "agreeing": ("yes", "yes")}


@pytest.fixture
def asked(server):
    found = []

    def answer(body):
        said = body["messages"][-1]["content"]
        if "<data>" not in said:
            return json.dumps({"answer": f"{said} text {body['seed']}"})
        found.append(said)
        topic = next(name for name in SAID if name in said)
        verdict = SAID[topic]["incorrect:" in said]
        return json.dumps({"finding": f"looked at {topic}", "verdict": verdict})

    server.answer = answer
    return found


def test_a_row_is_kept_on_yes_and_no_and_otherwise_dropped_with_the_reason(tmp_path, server, asked):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(url=server.url))
    outcome = run(load(path), tmp_path / "out", quiet=True)
    assert outcome.exit_code == 4
    assert set(pl.read_parquet(tmp_path / "out/data/*.parquet")["topic"]) == {"sound"}
    gone = pl.read_parquet(tmp_path / "out/rejected/*.parquet")
    reasons = dict(gone.select("topic", "_reason").iter_rows())
    assert reasons["wrong"] == "incorrect: looked at wrong"
    assert reasons["vague"].startswith("neither correct nor incorrect")
    assert reasons["agreeing"].startswith("correct and incorrect")
    assert len(asked) == 16
    assert run(load(path), tmp_path / "out", quiet=True).exit_code == 4
    assert len(asked) == 16, "verdicts are journaled"
