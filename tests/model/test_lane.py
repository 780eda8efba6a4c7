"""Limits: how many calls at once, how fast, and how often a try is repeated."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from qdcgen.errors import Incomplete, RowFault, TryAgain
from qdcgen.model import lane as lanes
from qdcgen.model.lane import Ceiling, Lane, Rate
from qdcgen.rows import Reply, Request

REQUEST = Request("m", [{"role": "user", "content": "x" * 40}], None, 0.8, 0.95, 10, 1)


class Way:
    """A transport that plays a queue: an exception is raised, anything else is a reply."""

    name = "way"

    def __init__(self, *plays, in_flight=8, seconds=0.0):
        self.plays = list(plays)
        self.in_flight = in_flight
        self.seconds = seconds
        self.busy = self.peak = self.asked = 0

    async def ask(self, request):
        self.asked += 1
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        try:
            await asyncio.sleep(self.seconds)
            play = self.plays.pop(0) if self.plays else "fine"
            if isinstance(play, Exception):
                raise play
            return Reply(play, "way", None, 10, 10)
        finally:
            self.busy -= 1

    async def close(self):
        pass


def lane(way, **settings):
    return Lane(SimpleNamespace(rpm=None, tpm=None, **settings) if not settings else SimpleNamespace(**settings), way)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lanes, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(lanes, "LONGEST_WAIT", 0.002)


def test_no_more_calls_at_once_than_the_cap_and_no_fewer():
    way = Way(in_flight=5, seconds=0.01)

    async def go():
        one = lane(way)
        await asyncio.gather(*(one.ask(REQUEST) for _ in range(40)))

    asyncio.run(go())
    assert way.peak == 5
    assert way.asked == 40


def test_a_failed_try_is_repeated_within_the_budget_and_counted_by_kind(quick):
    way = Way(TryAgain("500", "oh"), TryAgain("reset", "oh"), TryAgain("500", "oh"), "fine")
    one = lane(way)
    assert asyncio.run(one.ask(REQUEST)).text == "fine"
    assert one.faults == {"500": 2, "reset": 1}


def test_an_outage_ends_the_run_after_the_budget(quick):
    way = Way(*[TryAgain("503", "down")] * 50)
    with pytest.raises(Incomplete, match="way: no answer after 6 tries; the last one: down"):
        asyncio.run(lane(way).ask(REQUEST))
    assert way.asked == 6


def test_one_request_that_never_comes_through_while_others_do_costs_its_row(quick):
    class Picky(Way):
        async def ask(self, request):
            if request.seed == 13:
                await asyncio.sleep(0.002)
                raise TryAgain("timeout", "never")
            return await super().ask(request)

    async def go():
        one = lane(Picky(seconds=0.001))
        others = [one.ask(Request("m", [], None, 0.8, 0.95, 10, n)) for n in range(100, 140)]
        bad = Request("m", [], None, 0.8, 0.95, 10, 13)
        return await asyncio.gather(one.ask(bad), *others, return_exceptions=True)

    bad, *others = asyncio.run(go())
    assert isinstance(bad, RowFault)
    assert bad.kind == "no answer"
    assert all(isinstance(other, Reply) for other in others)


def test_a_throttled_call_waits_and_is_never_dropped(quick):
    way = Way(*[TryAgain("429", "slow down")] * 30, "fine")
    one = lane(way)
    assert asyncio.run(one.ask(REQUEST)).text == "fine"
    assert one.faults == {"429": 30}


def test_retry_after_is_obeyed(quick):
    way = Way(TryAgain("429", "slow down", after=0.2), "fine")
    begin = time.monotonic()
    asyncio.run(lane(way).ask(REQUEST))
    assert time.monotonic() - begin >= 0.2


def test_the_ceiling_halves_once_for_calls_that_met_the_same_wall_and_comes_back():
    ceiling = Ceiling(64)
    for _ in range(20):
        ceiling.throttled(0)
    assert ceiling.now == 32
    ceiling.throttled(1)
    assert ceiling.now == 16
    for _ in range(2000):
        ceiling.succeeded()
    assert ceiling.now == 64


def test_five_per_cent_of_429_costs_less_than_half_the_speed():
    ceiling, rounds, calls = Ceiling(64), 0, 0
    while calls < 20_000:
        now = int(ceiling.now)
        cuts = ceiling._cuts
        for n in range(now):
            if (calls + n) % 20 == 19:
                ceiling.throttled(cuts)
            else:
                ceiling.succeeded()
        calls += now
        rounds += 1
    assert calls / rounds > 32


def test_the_ceiling_never_falls_below_one():
    ceiling = Ceiling(4)
    for cut in range(30):
        ceiling.throttled(cut)
    assert ceiling.now == 1


def test_a_call_that_begins_its_row_goes_before_those_that_go_on_with_one():
    async def go():
        ceiling, order = Ceiling(1), []

        async def call(name, begins):
            await ceiling.enter(begins=begins)
            order.append(name)
            ceiling.leave()

        await ceiling.enter()
        calls = [
            asyncio.ensure_future(call(*one)) for one in [("b2", False), ("c1", True), ("a2", False), ("d1", True)]
        ]
        await asyncio.sleep(0)
        ceiling.leave()
        await asyncio.wait_for(asyncio.gather(*calls), 5)
        return order

    assert asyncio.run(go()) == ["c1", "d1", "b2", "a2"]


def test_a_cancelled_call_gives_its_place_back():
    async def go():
        ceiling = Ceiling(1)
        await ceiling.enter()
        waiting = [asyncio.ensure_future(ceiling.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        ceiling.leave()
        await asyncio.wait_for(waiting[1], 1)
        waiting[2].cancel()
        ceiling.leave()
        await asyncio.wait_for(ceiling.enter(), 1)

    asyncio.run(go())


def test_a_rate_is_kept_over_a_minute_of_a_made_up_clock():
    now = [0.0]
    slept = []

    async def go():
        rate = Rate(600, clock=lambda: now[0])
        for _ in range(100):
            before = rate._free
            await rate.take(1)
            slept.append(max(0.0, max(before, now[0] - 1.0) - now[0]))
            now[0] += slept[-1]

    real = asyncio.sleep

    async def instant(_seconds):
        await real(0)

    asyncio.sleep, keep = instant, asyncio.sleep
    try:
        asyncio.run(go())
    finally:
        asyncio.sleep = keep
    assert now[0] == pytest.approx(9.9, abs=0.2), "100 calls at 600 a minute"


def test_rpm_and_tpm_slow_a_lane_down():
    way = Way(in_flight=100)

    async def go(**settings):
        one = Lane(SimpleNamespace(**settings), way)
        begin = time.monotonic()
        await asyncio.gather(*(one.ask(REQUEST) for _ in range(30)))
        return time.monotonic() - begin

    assert asyncio.run(go(rpm=1200, tpm=None)) >= 1.4, "30 calls at 20 a second"
    assert asyncio.run(go(rpm=None, tpm=24_000)) >= 1.4, "600 tokens at 400 a second"
