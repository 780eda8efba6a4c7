"""Caps stop a run before they are exceeded."""

import asyncio

import pytest

from qdcgen.errors import CapReached
from qdcgen.model.budget import Budget, most_tokens
from qdcgen.model.journal import Totals
from qdcgen.rows import Reply, Request

REQUEST = Request("m", [{"role": "user", "content": "é" * 100}], None, 0.8, 0.95, 50, 1)


def test_the_most_a_call_can_take_is_counted_in_bytes():
    assert most_tokens(REQUEST) == (232, 50)


def hold(budget, price=None):
    return asyncio.run(budget.hold(REQUEST, price))


def test_a_call_waits_for_calls_in_flight_that_hold_what_it_needs():
    price = (1e-6, 2e-6)  # 332 millionths a call at most

    async def go():
        budget = Budget(usd=0.0011)
        held = [await budget.hold(REQUEST, price) for _ in range(3)]
        fourth = asyncio.ensure_future(budget.hold(REQUEST, price))
        await asyncio.sleep(0.01)
        assert not fourth.done()
        budget.settle(held.pop(), Reply("", "m", None, 10, 10, 0.00003))
        await asyncio.wait_for(fourth, 1)

    asyncio.run(go())


def test_a_cap_that_nothing_in_flight_can_ease_is_reached():
    with pytest.raises(CapReached, match=r"target.usd reached: 0.0000 of 0.0003 spent.*--set target.usd=0.0006"):
        hold(Budget(usd=0.0003), (1e-6, 2e-6))


def test_what_earlier_invocations_spent_counts():
    budget = Budget(calls=10)
    budget.begin(Totals(9, 0, 0, None, {}))
    budget.settle(hold(budget), Reply("", "m", None, 1, 1, None))
    with pytest.raises(CapReached, match=r"target.calls reached"):
        hold(budget)


def test_tokens_and_minutes_are_caps_too():
    with pytest.raises(CapReached, match=r"target.tokens reached"):
        hold(Budget(tokens=200))
    with pytest.raises(CapReached, match=r"target.minutes reached"):
        hold(Budget(minutes=1e-9))


def test_a_call_that_failed_gives_back_what_was_set_aside():
    budget = Budget(calls=1)
    budget.settle(hold(budget), None)
    hold(budget)


def test_a_call_that_waited_for_one_cap_looks_at_the_others_again():
    async def go():
        budget = Budget(calls=2, tokens=10_000)
        first = [await budget.hold(REQUEST, None) for _ in range(2)]
        waiting = asyncio.ensure_future(budget.hold(REQUEST, None))
        await asyncio.sleep(0)
        budget.tokens = 500
        budget.settle(first.pop(), None)
        await asyncio.sleep(0.01)
        assert not waiting.done(), "200 tokens are held, 282 more would be too many"
        budget.settle(first.pop(), None)
        await asyncio.wait_for(waiting, 1)

    asyncio.run(go())
