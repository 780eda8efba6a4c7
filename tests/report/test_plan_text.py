"""What `qdcgen plan` prints."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from qdcgen.report.document import dumps
from qdcgen.report.plan_text import AxisPlan, PairPlan, PlanSummary, plan_document, plan_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTILE = "\x1b[2J[red]\u202e\n漢字 " * 20


def test_a_whole_plan(plan: PlanSummary, snapshot: Callable[[str, str], None]) -> None:
    snapshot("plan-80.txt", plan_terminal(plan, colour=False))
    snapshot("plan.json", dumps(plan_document(plan)))


def test_an_unknown_cost_is_unknown_and_not_nothing(plan: PlanSummary) -> None:
    page = plan_terminal(replace(plan, usd=None, tokens_in_expected=None, calls_most=math.inf), colour=False)
    assert re.search(r"^cost +unknown$", page, re.MULTILINE)
    assert re.search(r"^tokens in +unknown$", page, re.MULTILINE)
    assert "unknown at most" in page
    assert plan_document(replace(plan, usd=None))["usd"] is None
    assert re.search(r"^cost +\$0\.00$", plan_terminal(replace(plan, usd=(0.0, 0.0)), colour=False), re.MULTILINE)


def test_an_empty_plan() -> None:
    page = plan_terminal(PlanSummary("a.yaml", 0, 0, 0), colour=False)
    assert page.startswith("plan of a.yaml  nothing is spent\nrows        0, in 0 batches of 0\n")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_hostile_text_fits_and_is_harmless(plan: PlanSummary, width: int) -> None:
    summary = replace(
        plan,
        recipe=HOSTILE,
        axes=[AxisPlan(HOSTILE, 0, 0, 0, 0)],
        pairs=[PairPlan(HOSTILE, HOSTILE, 0, 0, math.nan)],
        examples=[{HOSTILE: HOSTILE}],
        remarks=[HOSTILE],
    )
    page = plan_terminal(summary, width=width, colour=False)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", page)
    assert [line for line in page.splitlines() if cell_len(line) > width] == []
    assert json.loads(dumps(plan_document(summary)))["pairs"][0]["uniform_expected"] is None
