"""One alias's lane to its model: how many calls at once, how fast, how often a try is repeated, and what went wrong."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from qdcgen.errors import Incomplete, ModelRefused, RowFault, TryAgain

if TYPE_CHECKING:
    from collections.abc import Callable

    from qdcgen.model.ask import Transport
    from qdcgen.rows import Reply, Request

__all__ = ["FIRST_WAIT", "LONGEST_WAIT", "TRIES", "Ceiling", "Lane", "Rate"]

TRIES = 6
"""Tries of one call, throttled ones (429) not counted: those wait as long as it takes."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0
"""Seconds before the second try, doubled each time and drawn from half to whole; and the most."""
LONGEST_ASKED = 120.0
"""Seconds of Retry-After that are obeyed; a server that asks for more gets another try after these."""
CUT = 0.5
"""Share of the ceiling that a 429 leaves."""
GOAL = 0.95
"""Share of the old ceiling that is won back at one call per success; beyond, slowly."""
SLOWLY = 1 / 8
"""Share of the cap that a full round of successes adds beyond the goal."""


class Ceiling:
    """Calls at once: a cap that halves on 429 and comes back (additive increase, multiplicative decrease).

    One cut for all calls that were under way when it fell: they met the same wall. Up to 95 % of the old ceiling it
    doubles in a round trip, so that stray 429s (5 % of calls, say) cost a quarter of the speed and not nine tenths.
    """

    def __init__(self, most: int) -> None:
        """`most` ≥ 1 calls."""
        self.most = most
        self.now = float(most)
        self._goal = float(most)
        self._busy = 0
        self._first: deque[asyncio.Future[None]] = deque()
        self._later: deque[asyncio.Future[None]] = deque()
        self._cuts = 0

    async def enter(self, *, begins: bool = False) -> int:
        """Wait for a place; gives the number of cuts so far, to be handed to `throttled`.

        A call that `begins` its row goes before calls that go on with one: otherwise the last rows of a run take their
        calls one after another while all other places are empty (2,000 rows of two calls of 0.2 s, 64 at once: 0.957
        of the bound and 0.974 with it).
        """
        if self._first or self._later or self._busy >= int(self.now):
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            (self._first if begins else self._later).append(place)
            try:
                await place
            except BaseException:
                if place.done() and not place.cancelled():
                    self._busy -= 1  # the place was given just as this call was cancelled
                self._next()
                raise
        else:
            self._busy += 1
        return self._cuts

    def leave(self) -> None:
        """Give the place back."""
        self._busy -= 1
        self._next()

    def _next(self) -> None:
        while (waiting := self._first or self._later) and self._busy < int(self.now):
            place = waiting.popleft()
            if not place.done():
                self._busy += 1
                place.set_result(None)

    def succeeded(self) -> None:
        """A call came through."""
        if self.now < self.most:
            step = 1.0 if self.now < self._goal else max(1.0, self.most * SLOWLY) / self.now
            self.now = min(float(self.most), self.now + step)

    def throttled(self, cuts: int) -> None:
        """A call that entered after `cuts` cuts met 429."""
        if cuts == self._cuts:
            self._cuts += 1
            self._goal = max(1.0, self.now * GOAL)
            self.now = max(1.0, self.now * CUT)


class Rate:
    """At most `per_minute` units a minute: a bucket that holds a second's worth, filled evenly."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_minute` > 0."""
        self.per_second = per_minute / 60
        self._clock = clock
        self._free = clock()

    async def take(self, units: float) -> None:
        """Wait until `units` more fit."""
        now = self._clock()
        begin = max(self._free, now - 1.0)
        self._free = begin + units / self.per_second
        if begin > now:
            await asyncio.sleep(begin - now)

    def correct(self, units: float) -> None:
        """Take `units` more (or, negative, give back) without waiting: an estimate was off."""
        self._free += units / self.per_second


class Lane:
    """The way to one model under one alias: limits, retries and counts around a transport's single tries."""

    def __init__(self, alias: Any, way: Transport, go_on: Callable[[], None] = lambda: None) -> None:
        """`alias` has the fields of `recipe.Alias`; `go_on` raises when there is to be no other try."""
        self._go_on = go_on
        self.way = way
        self.ceiling = Ceiling(way.in_flight)
        self.rpm = Rate(alias.rpm) if alias.rpm else None
        self.tpm = Rate(alias.tpm) if alias.tpm else None
        self.faults: Counter[str] = Counter()
        """Tries that failed, by kind: `429`, `500`, `timeout`, `reset`, …"""
        self._reply_tokens = 0.0
        self._answered = 0
        self._refused: ModelRefused | None = None

    async def ask(self, request: Request, *, begins: bool = False) -> Reply:
        """One reply, whatever it takes within the budget of tries; `begins`: see `Ceiling.enter`.

        Raises:
            Incomplete: still no answer after TRIES tries, and no other call came through in that time: an outage.
            RowFault: still no answer, though others had theirs; or as the transport says. Not tried again.
            ModelRefused: as the transport says.
        """
        wait, failed, others = FIRST_WAIT, 0, self._answered
        while True:
            estimate = await self._room(request)
            cuts = await self.ceiling.enter(begins=begins)
            try:
                if self._refused is not None:
                    raise self._refused
                self._go_on()
                reply = await self.way.ask(request)
            except ModelRefused as refused:
                self._refused = refused  # whoever waited behind this call need not ask to hear it again
                raise
            except TryAgain as fault:
                self.faults[fault.kind] += 1
                if fault.kind == "429":
                    self.ceiling.throttled(cuts)
                else:
                    failed += 1
                    if failed >= TRIES:
                        message = f"{self.way.name}: no answer after {TRIES} tries; the last one: {fault}"
                        if self._answered > others:
                            raise RowFault("no answer", message) from None
                        raise Incomplete(message) from None
                pause = max(min(fault.after, LONGEST_ASKED), wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                self._answered += 1
                self.ceiling.succeeded()
                self._settle(reply, estimate)
                return reply
            finally:
                self.ceiling.leave()
            while pause > 0:  # second by second, so that a run that is told to stop does not sit out a long wait
                self._go_on()
                await asyncio.sleep(min(pause, 1.0))
                pause -= 1.0

    async def _room(self, request: Request) -> float:
        """Wait for the rates; gives the tokens that were taken for this call."""
        if self.rpm is not None:
            await self.rpm.take(1)
        if self.tpm is None:
            return 0.0
        prompt = sum(len(message["content"]) for message in request.messages) / 4
        estimate = prompt + (self._reply_tokens or request.max_tokens)
        await self.tpm.take(estimate)
        return estimate

    def _settle(self, reply: Reply, estimate: float) -> None:
        """Correct the token rate by what the call really took; remember how long replies are."""
        if self.tpm is None or reply.tokens_in is None or reply.tokens_out is None:
            return
        self.tpm.correct(reply.tokens_in + reply.tokens_out - estimate)
        self._reply_tokens += (reply.tokens_out - self._reply_tokens) / 8 if self._reply_tokens else reply.tokens_out
