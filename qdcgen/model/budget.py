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
        tokens_in, tokens_out = most_tokens(request)
        dollars = tokens_in * price[0] + tokens_out * price[1] if price else 0.0
        most = [dollars, 1.0, float(tokens_in + tokens_out)]
        caps = (self.usd, self.calls, self.tokens)
        for name, place in (("usd", 0), ("calls", 1), ("tokens", 2)):
            cap = caps[place]
            while cap is not None and self._spent[place] + self._held[place] + most[place] > cap:
                if not self._in_flight:
                    said = f"{self._spent[place]:.4f}" if name == "usd" else f"{self._spent[place]:,.0f}"
                    raise CapReached(
                        f"target.{name} reached: {said} of {cap:g} spent, and the next call could exceed it; "
                        f"raise it to go on, e.g. --set target.{name}={cap * 2:g}"
                    )
                self._settled.clear()
                await self._settled.wait()
        if self.minutes is not None and time.monotonic() - self._began > self.minutes * 60:
            raise CapReached(f"target.minutes reached: {self.minutes:g} minutes are over; run again to go on")
        self._in_flight += 1
        self._held = [held + more for held, more in zip(self._held, most, strict=True)]
        return most

    def reserve(self, request: Request, price: tuple[float, float] | None) -> None:
        """Set aside the most that a deferred call can take, for the rest of this invocation.

        Raises:
            CapReached: a cap could be exceeded.
        """
        tokens_in, tokens_out = most_tokens(request)
        most = [tokens_in * price[0] + tokens_out * price[1] if price else 0.0, 1.0, float(tokens_in + tokens_out)]
        for name, cap, spent, held, more in zip(
            ("usd", "calls", "tokens"), (self.usd, self.calls, self.tokens), self._spent, self._held, most, strict=True
        ):
            if cap is not None and spent + held + more > cap:
                raise CapReached(f"target.{name} reached: the next call could exceed {cap:g}")
        self._held = [held + more for held, more in zip(self._held, most, strict=True)]

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
