"""Calls side by side: all results, or one fault and nothing left running."""

import asyncio

import pytest

from qdcgen.errors import CapReached, ModelRefused
from qdcgen.together import together


async def slow(value, done, fault=None, seconds=0.02):
    await asyncio.sleep(0 if fault else seconds)
    if fault:
        raise fault
    done.append(value)
    return value


def test_results_come_in_order():
    async def run():
        return await together(slow(n, [], seconds=0.02 - n / 500) for n in range(5))

    assert asyncio.run(run()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("fault", "left"), [(CapReached("cap"), [0, 2]), (ModelRefused("key"), [])])
def test_a_cap_lets_what_is_in_flight_come_in_and_a_refusal_does_not(fault, left):
    done = []

    async def run():
        with pytest.raises(type(fault)):
            await together([slow(0, done), slow(1, done, fault), slow(2, done)])
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
    assert done == left
