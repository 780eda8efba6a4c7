"""Dealing gives each once in every round of all, in an order of its own, without remembering anything."""

import itertools
from collections import Counter

import pytest

from qdcgen.deal import nth, pair, pairs


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 256, 257, 1000, 1024])
def test_each_comes_once_before_any_comes_twice(count):
    for turn in range(3):
        numbers = range(turn * count, (turn + 1) * count)
        assert sorted(nth(number, count, 11) for number in numbers) == list(range(count))


def test_another_seed_and_another_turn_give_another_order():
    def order(seed, turn):
        return [nth(turn * 50 + place, 50, seed) for place in range(50)]

    orders = [order(seed, turn) for seed in range(4) for turn in range(4)]
    assert len({tuple(one) for one in orders}) == 16
    assert order(3, 1) == order(3, 1)


def test_every_place_gets_everything_about_as_often():
    # 10 cells of 400 expected: chi² of 9 degrees of freedom passes 30 once in 2,000.
    for count, number in itertools.product((10, 1000), (0, 4, 9)):
        found = Counter(nth(number, count, seed) * 10 // count for seed in range(4000))
        assert sum((found[place] - 400) ** 2 / 400 for place in range(10)) < 30


def test_a_deal_of_billions_needs_no_room():
    count = pairs(100_000)
    found = [nth(number, count, 5) for number in range(2000)]
    assert len(set(found)) == 2000
    assert max(found) < count
    assert max(found) > count * 0.99


def test_pairs_are_counted_off_without_gap_or_repeat():
    found = [pair(number) for number in range(pairs(40))]
    assert set(found) == set(itertools.combinations(range(40), 2))
    assert len(found) == 780
    for low, high in ((0, 94906266), (12345, 94906267), (94906265, 94906266)):  # where floats no longer tell
        assert pair(high * (high - 1) // 2 + low) == (low, high)
