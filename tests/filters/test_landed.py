"""The filter `landed` drops what landed elsewhere, says where, and lets a run refill by what landed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from qdcgen.embedders.wordllama import Wordllama
from qdcgen.errors import CapReached, RowFault
from qdcgen.filters.landed import Landed
from qdcgen.landing import NONE
from qdcgen.parts import Scene, Tools
from qdcgen.rows import Cell, Reply, Row
from qdcgen.taxonomy import inline
from qdcgen.testing import scripted

TREE = inline("topic", {"cards": ["lost card", "forgotten pin"], "transfers": ["pending", "wrong account"]}, "x")
TONE = inline("tone", ["polite", "angry"], "x")
LOST = "I think my card is lost, I cannot find the card anywhere."
PIN = "I forgot my PIN and need a new pin number."
ELSEWHERE = "The choir sang two old songs in the church."
FIELDS = {"message": {"type": "string"}, "urgency": {"enum": ["low", "high"]}}


def row(text: str, **mix: str) -> Row:
    return Row(Cell("0" * 16, mix, 0, 0), {"message": text, "urgency": "low"})


def tools(**more: Any) -> Tools:
    return Tools(embed=Wordllama().embed, fields=FIELDS, taxonomies={"topic": TREE, "tone": TONE}, **more)


def judged(part: Landed, rows: list[Row], given: Tools | None = None) -> list[Any]:
    return asyncio.run(part.judge(rows, given or tools()))


def test_a_row_that_landed_elsewhere_is_dropped_with_asked_landed_and_score() -> None:
    pin = "cards/forgotten pin"
    rows = [row(LOST, topic="cards/lost card"), row(LOST, topic=pin), row(ELSEWHERE, topic=pin)]
    kept, dropped, unknown = judged(Landed(axes=("topic",)), rows)
    assert kept.kept
    assert kept.score is not None
    assert not dropped.kept
    assert dropped.reason == f"topic: asked cards/forgotten pin, landed cards/lost card, score {dropped.score:.2f}"
    assert unknown.kept  # not knowing is no evidence
    assert unknown.score is None


def test_a_level_counts_only_the_ancestor() -> None:
    rows = [row(LOST, topic="cards/forgotten pin"), row(LOST, topic="transfers/pending")]
    assert [one.kept for one in judged(Landed(axes=("topic",), level=1), rows)] == [True, False]
    assert [one.kept for one in judged(Landed(axes=("topic",), level=2), rows)] == [False, False]


def test_axes_that_a_row_was_not_drawn_from_do_not_count() -> None:
    assert judged(Landed(), [row(LOST, topic="cards/lost card")])[0].kept
    assert judged(Landed(axes=("tone",)), [row(LOST, topic="transfers/pending")])[0].kept
    assert judged(Landed(), []) == []


def test_only_free_text_is_read_and_one_field_where_named() -> None:
    fields = {**FIELDS, "reply": {"type": "string"}}
    both = Row(Cell("0" * 16, {"topic": "cards/lost card"}, 0, 0), {"message": PIN, "reply": LOST, "urgency": "low"})
    given = Tools(embed=Wordllama().embed, fields=fields, taxonomies={"topic": TREE})
    assert not judged(Landed(field="message"), [both], given)[0].kept
    assert judged(Landed(field="reply"), [both], given)[0].kept


def test_a_critic_is_asked_once_a_row_and_axis_without_the_request() -> None:
    seen: list[str] = []

    async def ask(alias: str, messages: Any, *, schema: Any, temperature: Any) -> Reply:
        seen.append(messages[1]["content"])
        options = schema["properties"]["subject"]["enum"]
        return Reply("", alias, {"subject": next(o for o in options if o in {"cards/lost card", NONE})})

    rows = [row(LOST, topic="cards/lost card"), row(LOST, topic="transfers/pending"), row(PIN, tone="angry")]
    first, second, third = judged(Landed(model="critic"), rows, tools(ask=ask))
    assert (first.kept, second.kept, third.kept) == (True, False, True)
    assert second.reason == "topic: asked transfers/pending, landed cards/lost card"
    assert len(seen) == 3
    assert seen[0] == seen[1]  # the same text gives the same question whatever was asked for


def test_a_critic_whose_answer_does_not_fit_costs_the_row_and_a_cap_ends_the_run() -> None:
    fault = scripted(RowFault("schema", "no subject"), {"subject": "cards/lost card"})
    bad, good = judged(Landed(axes=("topic",), model="c"), [row(LOST, topic="cards/lost card")] * 2, tools(ask=fault))
    assert (bad.kept, good.kept) == (False, True)
    assert bad.reason == "undecided: topic: the critic gave no answer that fits: no subject"
    with pytest.raises(CapReached):
        judged(Landed(model="c"), [row(LOST, topic="cards/lost card")], tools(ask=scripted(CapReached("calls"))))


def test_problems_name_what_there_is() -> None:
    scene = Scene({"topic": TREE, "mood": object()}, FIELDS, ["critic"], lambda _: set())
    found = list(Landed(axes=("topc",), model="critc", field="mesage", level=9).problems(scene))
    assert [problem.path for problem in found] == [("axes", 0), ("model",), ("field",)]
    assert "did you mean 'topic'" in found[0].message
    assert [p.message for p in Landed(level=3).problems(scene)] == ["no tree has a level 3; the deepest has 2"]
    assert list(Landed(axes=("topic",), model="critic", level=2).problems(scene)) == []
    with pytest.raises(ValidationError):
        Landed(threshold=2)
