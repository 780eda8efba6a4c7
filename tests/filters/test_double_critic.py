"""Two questions a row: kept on yes and no, dropped with the reason on anything else."""

import asyncio
import json

import polars as pl
import pytest

from qdcgen.errors import CapReached, RowFault
from qdcgen.filters.double_critic import QUESTIONS, DoubleCritic
from qdcgen.parts import UNDECIDED, Tools
from qdcgen.recipe import load
from qdcgen.rows import Cell, Row
from qdcgen.run import run
from qdcgen.testing import scripted

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
    assert reasons["vague"].startswith("undecided: neither correct nor incorrect")
    assert reasons["agreeing"].startswith("undecided: correct and incorrect")
    assert len(asked) == 16
    assert run(load(path), tmp_path / "out", quiet=True).exit_code == 4
    assert len(asked) == 16, "verdicts are journaled"


def judged(*replies):
    rows = [Row(Cell(f"{n:016x}", {}, n, n), {"answer": f"text {n}"}) for n in range(len(replies) // 2)]
    ask = scripted(*replies)
    said = asyncio.run(DoubleCritic().judge(rows, Tools(fields={"answer": {"type": "string"}}, ask=ask)))
    return said, ask


def test_one_answer_that_does_not_fit_leaves_the_row_undecided():
    yes, no = {"finding": "f", "verdict": "yes"}, {"finding": "f", "verdict": "no"}
    said, ask = judged(yes, RowFault("schema", "x" * 999), RowFault("schema", "none"), no, yes, no)
    assert [one.kept for one in said] == [False, False, True]
    assert all(one.reason.startswith(UNDECIDED) for one in said[:2])
    assert len(said[0].reason) <= len(UNDECIDED) + 300
    assert len(ask.asked) == 6


def test_the_two_questions_are_asked_blind_to_each_other():
    yes, no = {"finding": "f", "verdict": "yes"}, {"finding": "f", "verdict": "no"}
    _, ask = judged(yes, no)
    first, second = (one["messages"] for one in ask.asked)
    assert first[0] == second[0]
    assert [one[1]["content"].removesuffix(q) for one, q in zip((first, second), QUESTIONS, strict=True)] == [
        first[1]["content"].removesuffix(QUESTIONS[0])
    ] * 2


def test_every_row_is_answered_before_a_cap_ends_the_run():
    yes, no = {"finding": "f", "verdict": "yes"}, {"finding": "f", "verdict": "no"}
    ask = scripted(yes, CapReached("calls"), yes, no)
    rows = [Row(Cell(f"{n:016x}", {}, n, n), {"answer": "text"}) for n in range(2)]
    with pytest.raises(CapReached):
        asyncio.run(DoubleCritic().judge(rows, Tools(fields={"answer": {"type": "string"}}, ask=ask)))
    assert len(ask.asked) == 4
