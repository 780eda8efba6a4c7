"""`Models`: aliases in, one `ask` out; journal first, then the transport, then the schema."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from qdcgen.errors import Deferred, ReplyFault, RowFault, Stopped, UsageError, nearest
from qdcgen.model.budget import Budget
from qdcgen.model.journal import Journal, key
from qdcgen.model.lane import Lane
from qdcgen.model.replies import checked
from qdcgen.rows import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qdcgen.model.batches import Batches

__all__ = ["Models", "Transport", "Used", "surprisal", "transport"]


DIALECT = frozenset({"hosted_vllm", "llamafile", "lm_studio", "ollama", "openai", "openai_like", "vllm"})
"""Providers known to litellm whose servers speak the OpenAI dialect at `api_base`."""


class Transport(Protocol):
    """A way to one model; `ask` is one try."""

    name: str
    """Identity of the model: part of the journal's key, printed in reports."""
    in_flight: int
    """Calls at once."""
    price: tuple[float, float] | None
    """US dollars per prompt and reply token; None where it is not known."""

    async def ask(self, request: Request) -> Reply:
        """One reply. Raises `TryAgain`, `RowFault` or `ModelRefused`."""
        ...

    async def close(self) -> None:
        """Let go of what it holds."""
        ...


def transport(alias: Any) -> Transport:
    """The transport that an alias's model name asks for; cheap, connects or loads at the first call.

    The embedded model in-process; `openai/…`, `ollama/…` and what has an `api_base` straight over HTTP; the rest, and
    what says `via: litellm`, through litellm.

    Raises:
        UsageError: the name has no provider.
    """
    if alias.model == "embedded" or alias.model.startswith("embedded:"):
        from qdcgen.model.embedded import Embedded

        return Embedded(alias.model)
    from qdcgen.model.openai import HOMES, OpenAI

    provider, slash, _ = alias.model.partition("/")
    if not slash:
        known = ["embedded", *(f"{home}/<model>" for home in HOMES)]
        near = nearest(provider, ["embedded", *HOMES])
        raise UsageError(f"no way to the model {alias.model!r}{near}; write {', '.join(known)} or <provider>/<model>")
    from qdcgen.model.prices import providers

    foreign = provider in providers() - DIALECT
    if alias.via is None and (provider in HOMES or (alias.api_base and not foreign)):
        return OpenAI(alias)
    if provider not in providers():
        near = nearest(provider, sorted(providers() | {"embedded"}))
        raise UsageError(f"no provider called {provider!r}{near}; an OpenAI-dialect server needs its api_base")
    from qdcgen.model.providers import Provider

    return Provider(alias)


@dataclass(slots=True)
class Used:
    """What the calls of one invocation used; those answered from the journal are in `calls` and nowhere else."""

    calls: int = 0
    asked: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0


class Models:
    """Every alias of a recipe, opened on first use."""

    def __init__(
        self,
        aliases: Mapping[str, Any],
        journal: Journal,
        *,
        budget: Budget | None = None,
        trace: Callable[[Mapping[str, Any]], None] | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`aliases`: name → record with the fields of `recipe.Alias`.

        `trace` is told of every call, without keys. Once `stopping()` is true nothing more is asked.
        """
        self._stopping = stopping
        self.aliases = aliases
        self.journal = journal
        self.budget = budget or Budget()
        self.budget.begin(journal.totals())
        self.asked = Used()
        self.faults: Counter[str] = Counter()
        """Replies that did not fit, by kind; tries that failed are counted by each lane."""
        self._trace = trace
        self._lanes: dict[str, Lane] = {}
        self._batches: dict[tuple[str, str | None, str | None], Batches] = {}
        self._first = next(iter(aliases))
        self._flights: dict[bytes, asyncio.Future[RowFault | None]] = {}
        """Requests on their way, by key; done with what spoilt them, or None when the reply is in the journal."""
        self._spoilt: dict[bytes, RowFault] = {}
        """Shared requests that had no usable reply, until the invocation ends."""

    def _lane(self, alias: str) -> Lane:
        if alias not in self._lanes:
            settings = self.aliases[alias]
            twin = next((other for other in self._lanes if self.aliases[other].model == settings.model), None)
            if twin is not None and settings.model.startswith("embedded"):
                self._lanes[alias] = self._lanes[twin]  # a gigabyte of weights is loaded once
            else:
                lane = Lane(settings, transport(settings), self._go_on)
                if self.budget.usd is not None and lane.way.price is None:
                    message = f"target.usd needs a price, and that of {lane.way.name} is not known"
                    raise UsageError(
                        f"{message}; write models.{alias}.price: {{input: …, output: …}} (per million tokens)"
                    )
                self._lanes[alias] = lane
        return self._lanes[alias]

    def _go_on(self) -> None:
        if self._stopping():
            raise Stopped("asked to stop")
        self.budget.check_time()

    def name(self, alias: str = "") -> str:
        """Identity of the model behind an alias."""
        return self._lane(alias or self._first).way.name

    async def ask(
        self,
        alias: str,
        messages: Sequence[Mapping[str, str]],
        *,
        seed: int,
        schema: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        begins: bool = False,
        shared: bool = False,
    ) -> Reply:
        """The journaled reply, or a new one: limited, checked, repaired once, journaled.

        A row's first call `begins` it, and waits in front of calls that go on with others. Equal requests at one time
        are asked once. One that is `shared` by many rows is not tried again in this invocation after it failed: every
        row would pay for its own failure.

        Raises:
            ReplyFault: the reply does not fit `schema` after one repair.
            RowFault, ModelRefused, Incomplete: as the lane says, or a cap was reached.
            Deferred: the call waits in a provider's batch.
        """
        alias = alias or self._first
        settings = self.aliases[alias]
        request = Request(
            model=self._lane(alias).way.name,
            messages=[dict(message) for message in messages],
            schema=schema,
            temperature=settings.temperature if temperature is None else temperature,
            top_p=settings.top_p,
            max_tokens=max_tokens or settings.max_tokens,
            seed=seed,
        )
        try:
            return await self._alone(alias, request, begins=begins, shared=shared)
        except ReplyFault as fault:
            if fault.kind in ("cut", "refused", "too long") or fault.raw is None or request.schema is None:
                raise
            return await self._alone(alias, _repair(request, fault), shared=shared)

    async def _alone(self, alias: str, request: Request, *, begins: bool = False, shared: bool = False) -> Reply:
        """`_answer`, once at a time for each request: who comes while it is on its way waits, and shares its fault."""
        name = key(request)
        while (flight := self._flights.get(name)) is not None:
            fault = await asyncio.shield(flight)  # whoever stops waiting must not stop the call
            if fault is not None:
                raise fault
        if name in self._spoilt:
            raise self._spoilt[name]
        flight = self._flights[name] = asyncio.get_running_loop().create_future()
        spoilt: RowFault | None = None
        try:
            return await self._answer(alias, name, request, begins=begins)
        except RowFault as fault:
            spoilt = fault
            if shared:
                self._spoilt[name] = fault
            raise
        finally:
            del self._flights[name]
            flight.set_result(spoilt)

    async def _answer(self, alias: str, name: bytes, request: Request, *, begins: bool = False) -> Reply:
        """One journaled exchange; only a reply that fits is journaled, so a bad one is never served again."""
        reply = self.journal.get(name)
        if reply is None:
            reply = await self._send(alias, name, request, begins=begins)
        self._count(reply)
        if request.schema is None:
            parsed = None
        else:
            try:
                parsed = checked(reply.text, request.schema, reply.finish)
            except ReplyFault as fault:
                self.faults[fault.kind] += 1
                if not reply.journaled:
                    await self.journal.lose(fault.kind, reply)
                raise
        if not reply.journaled:
            await self.journal.put(name, reply)
        return replace(reply, parsed=parsed)

    async def _send(self, alias: str, name: bytes, request: Request, *, begins: bool) -> Reply:
        lane = self._lane(alias)
        if self.aliases[alias].batch:
            from qdcgen.model.batches import DISCOUNT

            batches = self._batch_road(alias)
            if (fault := batches.fault(name)) is not None:
                raise fault
            rates = lane.way.price
            self.budget.reserve(request, (rates[0] * DISCOUNT, rates[1] * DISCOUNT) if rates else None)
            batches.defer(name, request)
            raise Deferred(f"{lane.way.name}: waits in a batch")
        held = await self.budget.hold(request, lane.way.price)
        reply = None
        began = time.perf_counter()
        try:
            reply = await lane.ask(request, begins=begins)
        except RowFault as fault:
            if fault.paid is not None:  # an empty reply or a refusal costs what any other does
                reply = fault.paid
                self._count(reply)
                await self.journal.lose(fault.kind, reply)
            raise
        finally:
            self.budget.settle(held, reply)
            if self._trace is not None:
                self._trace(_traced(alias, name, request, reply, time.perf_counter() - began))
        return reply

    def _count(self, reply: Reply) -> None:
        used = self.asked
        used.calls += 1
        if reply.journaled:
            return
        used.asked += 1
        used.tokens_in += reply.tokens_in or 0
        used.tokens_out += reply.tokens_out or 0
        used.cost = None if used.cost is None or reply.cost is None else used.cost + reply.cost

    # ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _batch_road(self, alias: str) -> Batches:
        """One road for each account: two aliases of one would otherwise send the same request twice."""
        settings, name = self.aliases[alias], self._lane(alias).way.name
        account = (name, settings.api_base, settings.key)
        if account not in self._batches:
            from qdcgen.model.batches import Batches

            self._batches[account] = Batches(settings, self.journal, name=name)
        return self._batches[account]

    async def collect(self) -> list[str]:
        """Fetch what providers' batches have finished; says what is still pending."""
        roads = dict.fromkeys(self._batch_road(alias) for alias, settings in self.aliases.items() if settings.batch)
        return [words for road in roads if (words := await road.collect())]

    async def submit(self) -> list[str]:
        """Send what was deferred as batches; says what was sent."""
        return [words for road in self._batches.values() if (words := await road.submit())]

    async def close(self) -> None:
        """Close every lane that was opened; write down what went wrong on the way."""
        lanes = list({id(lane): lane for lane in self._lanes.values()}.values())
        for lane in lanes:
            await lane.way.close()
        for road in self._batches.values():
            await road.close()
        counts = sum((lane.faults for lane in lanes), self.faults)
        self.journal.count(counts)
        self._lanes.clear()
        self._batches.clear()


def _traced(alias: str, name: bytes, request: Request, reply: Reply | None, seconds: float) -> dict[str, Any]:
    """One line of a trace: what was asked of whom and what it took; no key is anywhere near it."""
    return {
        "at": time.time(),
        "alias": alias,
        "model": request.model,
        "key": name.hex(),
        "seconds": round(seconds, 6),
        "finish": reply.finish if reply else None,
        "tokens_in": reply.tokens_in if reply else None,
        "tokens_out": reply.tokens_out if reply else None,
        "usd": reply.cost if reply else None,
        "messages": list(request.messages),
        "text": reply.text if reply else None,
    }


def _repair(request: Request, fault: ReplyFault) -> Request:
    """The same question with the reply that did not fit and why; its own key, so it is journaled by itself."""
    said = (fault.raw or "")[:8000]
    return replace(
        request,
        messages=[
            *request.messages,
            {"role": "assistant", "content": said},
            {"role": "user", "content": f"That cannot be used: {fault}. Send only the corrected JSON."},
        ],
    )


def surprisal(aliases: Mapping[str, Any]) -> Callable[[Sequence[str]], list[tuple[float, int]]] | None:
    """Reads texts with the embedded model that a recipe names: (nats, tokens) of each. None where it names none.

    A text that its tokenizer and the model would cut into different tokens (rare scripts, emoji) gets (0.0, 0). A text
    is read once, however often it is asked about; 60 tokens take about 3 s of one core.
    """
    model = next((alias.model for alias in aliases.values() if alias.model.startswith("embedded")), None)
    if model is None:
        return None
    known: dict[str, tuple[float, int]] = {}

    async def read(texts: Sequence[str]) -> None:
        from qdcgen.model.embedded import Embedded

        way = Embedded(model)

        async def one(text: str) -> None:
            try:
                known[text] = await way.surprisal(text)
            except RowFault:
                known[text] = (0.0, 0)

        try:
            await asyncio.gather(*(one(text) for text in texts))
        finally:
            await way.close()

    def answer(texts: Sequence[str]) -> list[tuple[float, int]]:
        unread = [text for text in dict.fromkeys(texts) if text not in known]
        if unread:
            asyncio.run(read(unread))
        return [known[text] for text in texts]

    return answer
