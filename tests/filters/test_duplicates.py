"""The filter `duplicates` drops repeats with a reason, and forgets nothing across batches and restarts."""

from __future__ import annotations

import asyncio
from typing import Any

from qdcgen.filters.duplicates import Duplicates
from qdcgen.parts import Scene, Tools
from qdcgen.rows import Cell, Row, Verdict


def row(number: int, **fields: Any) -> Row:
    return Row(Cell(f"{number:016x}", {}, number, number), fields)


def judged(part: Duplicates, rows: list[Row], tools: Tools | None = None) -> list[Verdict]:
    return asyncio.run(part.judge(rows, tools or Tools()))


LONG = "My card has still not arrived although you said that it would be here by Monday at the latest"


def test_an_exact_repeat_names_the_row_it_repeats() -> None:
    rows = [row(1, message=LONG), row(2, message="other words"), row(3, message=f"  {LONG.upper()}\n")]
    first, second, third = judged(Duplicates(field="message"), rows)
    assert first.kept
    assert second.kept
    assert third == Verdict(kept=False, reason="repeats row 0000000000000001", score=1.0)


def test_a_near_repeat_says_how_near() -> None:
    verdict = judged(Duplicates(), [row(1, message=LONG), row(2, message=LONG + "!")])[1]
    assert not verdict.kept
    assert verdict.score is not None
    assert verdict.reason == f"repeats row 0000000000000001, similarity {verdict.score:.2f}, at or above 0.90"


def test_rows_kept_in_an_earlier_batch_count_with_and_without_scratch() -> None:
    old = row(1, message=LONG)
    tools = Tools(kept=lambda: [old])
    assert not judged(Duplicates(), [row(2, message=LONG)], tools)[0].kept
    tools = Tools()
    assert judged(Duplicates(), [old], tools)[0].kept
    assert not judged(Duplicates(), [row(2, message=LONG)], tools)[0].kept


def test_a_dropped_row_is_not_what_later_rows_repeat() -> None:
    rows = [row(1, m=LONG), row(2, m=LONG), row(3, m=LONG)]
    assert [v.reason[-2:] for v in judged(Duplicates(), rows)[1:]] == ["01", "01"]


def test_without_a_field_all_text_fields_are_compared_together() -> None:
    rows = [
        row(1, q=LONG, a="yes", n=1),
        row(2, q=LONG, a="certainly not, we regret", n=1),
        row(3, q=LONG, a="yes", n=2),
    ]
    assert [v.kept for v in judged(Duplicates(), rows)] == [True, True, False]


def test_rows_without_the_field_are_kept() -> None:
    rows = [row(1), row(2), row(3, message=None), row(4, message=" "), row(5, message=4)]
    assert all(v.kept for v in judged(Duplicates(field="message"), rows))


def test_an_unknown_field_is_a_problem_with_a_suggestion() -> None:
    scene = Scene({}, {"message": {}, "reply": {}}, [], lambda _: set())
    (problem,) = Duplicates(field="mesage").problems(scene)
    assert problem.path == ("field",)
    assert problem.message == "no step fills 'mesage'; did you mean 'message'? (fields: message, reply)"
    assert list(Duplicates(field="reply").problems(scene)) == []


def test_no_rows_give_no_verdicts() -> None:
    assert judged(Duplicates(), []) == []
