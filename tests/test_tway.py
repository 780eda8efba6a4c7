"""Combinations of axes: first rows, rows needed and expectations, against counting by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdcgen import tway
from qdcgen.tway import LEVELS, Odds, first_rows, grouped, numbered, rows_expected, rows_needed


@given(st.lists(st.integers(0, 30), max_size=80))
def test_first_rows_are_those_where_a_number_is_new(numbers: list[int]) -> None:
    seen: set[int] = set()
    new = [at for at, number in enumerate(numbers) if number not in seen and not seen.add(number)]  # type: ignore[func-returns-value]
    cells = np.asarray(numbers, dtype=np.int64)
    assert first_rows(cells, 31).tolist() == new
    assert first_rows(cells, tway._FLAT + 1).tolist() == new  # the other road


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=60), st.integers(13, 20))
def test_rows_needed_are_what_counting_row_by_row_gives(numbers: list[int], total: int) -> None:
    found = rows_needed(first_rows(np.asarray(numbers, dtype=np.int64), 13), total)
    for level, needed in zip(LEVELS, found, strict=True):
        enough = [n for n in range(len(numbers) + 1) if 100 * len(set(numbers[:n])) >= round(100 * level) * total]
        assert needed == (enough[0] if enough else None)


def odds(*weights: list[float], forbidden: float = 1.0) -> Odds:
    sides = []
    for one in weights:
        share = np.asarray(one) / sum(one)
        sides.append(grouped(np.zeros(len(one), dtype=np.int64), share))
    return Odds(sides, np.full([1] * len(weights), forbidden))


@pytest.mark.parametrize("weights", [([5.0, 1, 1],), ([1.0] * 4, [3.0, 1]), ([1.0, 2], [1.0, 1, 4], [2.0, 1])])
def test_the_expectation_is_the_sum_over_every_combination(weights: tuple[list[float], ...]) -> None:
    shares = [np.asarray(one) / sum(one) for one in weights]
    for rows in (1, 7, 40):
        by_hand = sum(1 - (1 - float(np.prod(cell))) ** rows for cell in itertools.product(*shares))
        assert odds(*weights).expected(rows) == pytest.approx(by_hand)
    assert odds(*weights).total == np.prod([len(one) for one in weights])


def test_like_shares_taken_together_change_the_expectation_by_less_than_a_thousandth() -> None:
    steep = [float(number) for number in range(1, 1001)]
    exact = odds(steep, steep)
    for rows in (1_000, 300_000, 3_000_000):
        assert exact.coarse().expected(rows) == pytest.approx(exact.expected(rows), rel=1e-3)


def test_rows_expected_is_where_the_expectation_passes_each_level() -> None:
    one, two = odds([1.0] * 30, [1.0] * 30), odds([1.0] * 30, [4.0, 1, 1])
    total = one.total + two.total
    for level, rows in zip(LEVELS, rows_expected([one, two]), strict=True):
        assert rows is not None
        assert (
            one.expected(rows) + two.expected(rows) >= level * total > one.expected(rows - 1) + two.expected(rows - 1)
        )


def test_what_is_almost_never_drawn_needs_more_rows_than_are_told() -> None:
    assert rows_expected([odds([1.0, 1e-13])]) == [1, None, None, None]
    assert rows_expected([]) == [None] * 4


def test_numbers_of_combinations_do_not_collide() -> None:
    sizes = [3, 5, 2]
    cells = np.asarray(list(itertools.product(*map(range, sizes))), dtype=np.int64)
    assert len(set(numbered(list(cells.T), sizes).tolist())) == 30
