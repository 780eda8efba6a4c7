"""The filter `length` counts words, and its reason says found and expected."""

from __future__ import annotations

import asyncio

import pytest

from qdcgen.filters.length import Length
from qdcgen.parts import Scene, Tools
from qdcgen.rows import Cell, Row, Verdict


def judged(part, *fields):
    rows = [Row(Cell(f"{number:016x}", {}, number, number), one) for number, one in enumerate(fields)]
    return asyncio.run(part.judge(rows, Tools()))


def test_both_bounds_are_kept_and_reasons_say_found_and_expected():
    part = Length(field="m", min_words=2, max_words=3)
    assert judged(part, *({"m": "word " * count} for count in range(1, 5))) == [
        Verdict(kept=False, reason="1 words, fewer than 2", score=1),
        Verdict(kept=True, score=2),
        Verdict(kept=True, score=3),
        Verdict(kept=False, reason="4 words, more than 3", score=4),
    ]


def test_words_are_runs_of_what_is_no_space():
    texts = ["one", " one\ttwo\nthree ", "one\u00a0two\u3003three", "don't-stop 5 … !", ""]
    assert [verdict.score for verdict in judged(Length(), *({"m": text} for text in texts))] == [1, 3, 2, 4, 0]


def test_without_a_field_all_text_fields_count_together():
    assert judged(Length(min_words=4), {"q": "a b", "a": "c d", "n": 7}, {"q": "a b", "n": 7}) == [
        Verdict(kept=True, score=4),
        Verdict(kept=False, reason="2 words, fewer than 4", score=2),
    ]


def test_a_field_that_is_missing_or_no_text_has_no_words():
    assert [verdict.reason for verdict in judged(Length(field="m"), {}, {"m": None}, {"m": 12}, {"other": "a b"})] == [
        "0 words, fewer than 1"
    ] * 4


def test_no_rows_give_no_verdicts():
    assert judged(Length()) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_words": 9, "max_words": 3}, "min_words 9 is above max_words 3; no row could pass"),
        ({"min_words": -1}, "greater than or equal to 0"),
        ({"max_words": 0}, "greater than or equal to 1"),
        ({"min_words": "010"}, "expected a whole number, found '010'"),
    ],
)
def test_bounds_that_cannot_be_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Length(**settings)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "string"}, True),
        ({"enum": ["low", "high"]}, True),
        ({"type": "array", "items": {"type": "string"}}, False),
        ({"type": "integer"}, False),
        ({"enum": [1, 2]}, False),
    ],
)
def test_a_field_that_holds_no_text_is_a_problem(schema, text):
    problems = list(Length(field="m").problems(Scene({}, {"m": schema}, [], lambda _: set())))
    assert problems == ([] if text else [(("field",), "field 'm' holds no text, so it has no words to count")])


def test_an_unknown_field_is_a_problem_with_a_suggestion():
    scene = Scene({}, {"message": {}}, [], lambda _: set())
    assert list(Length(field="mesage").problems(scene)) == [
        (("field",), "no field called 'mesage'; did you mean 'message'?")
    ]
    assert list(Length(field="message").problems(scene)) == []
    assert list(Length().problems(scene)) == []
