"""The filter `schema` keeps rows whose every field is what it was declared to be, and names the first that is not."""

from __future__ import annotations

import asyncio

import pytest

from qdcgen.filters.schema import Schema
from qdcgen.parts import Tools
from qdcgen.rows import Cell, Row, Verdict

FIELDS = {
    "message": {"type": "string", "minLength": 1, "maxLength": 20},
    "urgency": {"enum": ["low", "high"]},
    "stars": {"type": "integer", "minimum": 1, "maximum": 5},
    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
}
GOOD = {"message": "hello", "urgency": "low", "stars": 3, "tags": ["a"]}


def judged(*fields, declared=FIELDS):
    rows = [Row(Cell(f"{number:016x}", {}, number, number), one) for number, one in enumerate(fields)]
    return asyncio.run(Schema().judge(rows, Tools(fields=declared)))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({}, ""),
        ({"stars": 3.0}, ""),
        ({"extra": "is nobody's business"}, ""),
        ({"message": None}, "message is missing"),
        ({"message": ""}, 'message: "" is shorter than 1 character'),
        ({"message": 7}, 'message: 7 is not of type "string"'),
        ({"urgency": "lo"}, 'urgency: "lo" is not one of "low" or "high"'),
        ({"stars": 6}, "stars: 6 is greater than the maximum of 5"),
        ({"stars": 2.5}, 'stars: 2.5 is not of type "integer"'),
        ({"stars": True}, 'stars: true is not of type "integer"'),
        ({"tags": ["a", 1]}, 'tags: 1 is not of type "string"'),
        ({"tags": ["a", "b", "c"]}, 'tags: ["a","b","c"] has more than 2 items'),
        ({"message": 7, "urgency": None, "stars": 0}, 'message: 7 is not of type "string"'),
    ],
)
def test_the_first_field_that_does_not_fit_is_named(wrong, reason):
    assert judged({**GOOD, **wrong}) == [Verdict(kept=not reason, reason=reason)]


def test_a_field_that_is_not_there_is_missing():
    assert judged({"message": "hello"}) == [Verdict(kept=False, reason="urgency is missing")]


def test_a_long_reason_is_cut():
    (verdict,) = judged({**GOOD, "message": "x" * 10_000})
    assert not verdict.kept
    assert len(verdict.reason) <= 300


def test_rows_are_judged_one_by_one_in_order():
    assert [verdict.kept for verdict in judged(GOOD, {}, GOOD)] == [True, False, True]
    assert judged() == []


def test_nothing_declared_keeps_everything():
    assert judged({}, {"a": 1}, declared={}) == [Verdict(kept=True)] * 2


@pytest.mark.parametrize(
    ("schema", "value", "reason"),
    [
        ({"type": "number"}, float("inf"), "it: inf is no number that JSON can hold"),
        ({"type": "array"}, [1.0, [float("nan")]], "it: nan is no number that JSON can hold"),
        ({"type": "string"}, "ab\ud800", "it: half of a character (a lone surrogate) at position 2"),
        ({"type": "object"}, {"\udfff": 1}, "it: half of a character (a lone surrogate) at position 0"),
        ({"type": "string"}, "a\x00b 🦊", ""),
        ({"type": "integer"}, 10**30, ""),
        ({"type": "string", "format": "email"}, "nobody", 'it: "nobody" is not a "email"'),
        ({"type": "string", "format": "email"}, "a@example.org", ""),
        ({"type": "string", "format": "of our own"}, "x", ""),
    ],
)
def test_what_json_cannot_hold_fits_no_schema_and_formats_count(schema, value, reason):
    assert judged({"it": value}, declared={"it": schema}) == [Verdict(kept=not reason, reason=reason)]


def test_validators_are_compiled_once():
    tools = Tools(fields=FIELDS)
    row = Row(Cell("0" * 16, {}, 0, 0), GOOD)
    asyncio.run(Schema().judge([row], tools))
    first = tools.scratch["checks"]
    asyncio.run(Schema().judge([row], tools))
    assert tools.scratch["checks"] is first
