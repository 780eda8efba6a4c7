"""The layer `range` covers its numbers evenly inside each mix, both ends included."""

from __future__ import annotations

from collections import Counter

import pytest

from qdcgen.layers.range import Range
from qdcgen.parts import position


def drawn(part, rows, mix="topic=a"):
    return [part.draw({}, position(7, mix, f"row {number}", "words", number)) for number in range(rows)]


@pytest.mark.parametrize("mix", ["topic=a", "topic=b"])
def test_whole_numbers_are_met_evenly_ends_included(mix):
    found = Counter(drawn(Range(min=1, max=8), 64, mix))
    assert found == dict.fromkeys(range(1, 9), 8)
    assert all(type(value) is int for value in found)


def test_each_quarter_of_the_rows_covers_the_whole_range():
    found = drawn(Range(min=0, max=1.0), 64)
    for start in range(0, 64, 16):
        assert {int(value * 16) for value in found[start : start + 16]} == set(range(16))


def test_fractions_have_three_decimals_and_stay_inside():
    found = drawn(Range(min=0.25, max=0.75), 200)
    assert all(0.25 <= value <= 0.75 and value == round(value, 3) for value in found)
    assert Range(min=0.25, max=0.75).column() == "Float64"


@pytest.mark.parametrize(
    ("part", "values", "column"),
    [
        (Range(min=10, max=50, step=10), {10, 20, 30, 40, 50}, "Int64"),
        (Range(min=10, max=49, step=10), {10, 20, 30, 40}, "Int64"),
        (Range(min=0, max=1, step=0.25), {0.0, 0.25, 0.5, 0.75, 1.0}, "Float64"),
        (Range(min=0, max=0.3, step=0.1), {0.0, 0.1, 0.2, 0.3}, "Float64"),
        (Range(min=-3, max=-1), {-3, -2, -1}, "Int64"),
        (Range(min=5, max=5), {5}, "Int64"),
        (Range(min=5, max=6, step=100), {5}, "Int64"),
    ],
)
def test_steps_count_from_the_smallest_value(part, values, column):
    assert set(drawn(part, 128)) == values
    assert part.column() == column


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min": 2, "max": 1}, "min 2 is above max 1"),
        ({"min": 1}, "max"),
        ({"min": "010", "max": 20}, "expected a number, found '010'"),
        ({"min": True, "max": 20}, "expected a number, found true"),
        ({"min": 0, "max": float("inf")}, "less than or equal to"),
        ({"min": float("nan"), "max": 1}, "greater than or equal to"),
        ({"min": 0, "max": 1, "step": 0}, "greater than 0"),
        ({"min": 0, "max": 1, "step": -1}, "greater than 0"),
    ],
)
def test_bounds_that_cannot_be_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Range(**settings)


def test_every_number_can_be_drawn_so_there_is_no_short_list_of_them():
    assert Range(min=1, max=9).support() is None
