"""Caps that stop a run before they are exceeded: calls in flight count at the most they can cost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdcgen.errors import CapReached

if TYPE_CHECKING:
    from qdcgen.model.journal import Totals
    from qdcgen.rows import Reply, Request

__all__ = ["Budget", "most_tokens"]


def most_tokens(request: Request) -> tuple[int, int]:
    """Prompt and reply tokens that a call can take at most.

    No tokenizer in use makes more tokens than UTF-8 bytes; a chat template adds a few to each message.
    """
    said = sum(len(message["content"].encode("utf-8", "replace")) for message in request.messages)
    return said + 16 * len(request.messages) + 16, request.max_tokens


@dataclass
class Budget:
    """What may still be spent. None: no cap. `usd`, `calls`, `tokens`: over all invocations; `minutes`: in this."""

    usd: float | None = None
    calls: int | None = None
    tokens: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        """Nothing spent yet."""
        self._began = time.monotonic()
        self._spent = [0.0, 0.0, 0.0]  # usd, calls, tokens
        self._held = [0.0, 0.0, 0.0]
        self._in_flight = 0
        self._settled = asyncio.Event()

    @property
    def capped(self) -> bool:
        """Whether there is any cap."""
        return any(cap is not None for cap in (self.usd, self.calls, self.tokens, self.minutes))

    def begin(self, totals: Totals) -> None:
        """Start from what earlier invocations spent."""
        self._spent = [totals.cost or 0.0, float(totals.calls), float(totals.tokens_in + totals.tokens_out)]

    async def hold(self, request: Request, price: tuple[float, float] | None) -> list[float]:
        """Set aside the most that this call can take; hand it to `settle`.

        While calls in flight hold what this one would need, wait for what they really take.

        Raises:
            CapReached: a cap could be exceeded and nothing is in flight; says which and how to raise it.
        """
        if not self.capped:
            return [0.0, 0.0, 0.0]
        most = _most(request, price)
        while (name := self._exceeded(most)) is not None:
            if not self._in_flight:
                raise self._reached(name)
            self._settled.clear()
            await self._settled.wait()
        self.check_time()
        self._in_flight += 1
        self._held = [held + more for held, more in zip(self._held, most, strict=True)]
        return most

    def reserve(self, request: Request, price: tuple[float, float] | None) -> None:
        """Set aside the most that a deferred call can take, for the rest of this invocation.

        Raises:
            CapReached: a cap could be exceeded.
        """
        most = _most(request, price)
        if (name := self._exceeded(most)) is not None:
            raise self._reached(name)
        self._held = [held + more for held, more in zip(self._held, most, strict=True)]

    def check_time(self) -> None:
        """Nothing, while there is time.

        Raises:
            CapReached: the minutes are over.
        """
        if self.minutes is not None and time.monotonic() - self._began > self.minutes * 60:
            raise CapReached(f"target.minutes reached: {self.minutes:g} minutes are over; run again to go on")

    def _exceeded(self, most: list[float]) -> str | None:
        """The first cap that `most` more would exceed."""
        caps = {"usd": self.usd, "calls": self.calls, "tokens": self.tokens}
        for place, (name, cap) in enumerate(caps.items()):
            if cap is not None and self._spent[place] + self._held[place] + most[place] > cap:
                return name
        return None

    def _reached(self, name: str) -> CapReached:
        place = ("usd", "calls", "tokens").index(name)
        cap = getattr(self, name)
        said = f"{self._spent[place]:.4f}" if name == "usd" else f"{self._spent[place]:,.0f}"
        return CapReached(
            f"target.{name} reached: {said} of {cap:g} spent, and the next call could exceed it; "
            f"raise it to go on, e.g. --set target.{name}={cap * 2:g}"
        )

    def settle(self, held: list[float], reply: Reply | None) -> None:
        """Give back what was set aside; count what the reply really took."""
        if not self.capped:
            return
        self._in_flight -= 1
        self._settled.set()
        self._held = [all_held - mine for all_held, mine in zip(self._held, held, strict=True)]
        if reply is not None:
            taken = (reply.tokens_in or 0) + (reply.tokens_out or 0)
            self._spent = [self._spent[0] + (reply.cost or 0.0), self._spent[1] + 1, self._spent[2] + taken]


def _most(request: Request, price: tuple[float, float] | None) -> list[float]:
    """US dollars, calls and tokens that a call can take at most."""
    tokens_in, tokens_out = most_tokens(request)
    dollars = tokens_in * price[0] + tokens_out * price[1] if price else 0.0
    return [dollars, 1.0, float(tokens_in + tokens_out)]
