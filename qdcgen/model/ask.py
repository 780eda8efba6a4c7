"""`Models`: aliases in, one `ask` out; journal first, then the transport, then the schema."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from qdcgen.errors import ReplyFault, RowFault, UsageError, nearest
from qdcgen.model.journal import Journal, key
from qdcgen.model.replies import checked
from qdcgen.rows import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Models", "Transport", "Used", "surprisal", "transport"]


class Transport(Protocol):
    """A way to one model."""

    name: str
    """Identity of the model: part of the journal's key, printed in reports."""
    in_flight: int
    """Calls at once."""

    async def ask(self, request: Request) -> Reply:
        """One reply. Raises `RowFault`, `ModelRefused` or `Incomplete`."""
        ...

    async def close(self) -> None:
        """Let go of what it holds."""
        ...


def transport(alias: Any) -> Transport:
    """The transport that an alias's model name asks for; cheap, connects or loads at the first call.

    Raises:
        UsageError: no transport knows this provider.
    """
    provider = alias.model.partition("/")[0]
    if alias.model == "embedded" or alias.model.startswith("embedded:"):
        from qdcgen.model.embedded import Embedded

        return Embedded(alias.model)
    from qdcgen.model.openai import HOMES, OpenAI

    if provider in HOMES and "/" in alias.model:
        return OpenAI(alias)
    known = ["embedded", *(f"{home}/<model>" for home in HOMES)]
    raise UsageError(f"no way to the model {alias.model!r}{nearest(provider, known)}; known: {', '.join(known)}")


@dataclass(slots=True)
class Used:
    """What one row's calls used."""

    calls: int = 0
    asked: int = 0
    """Calls that were not answered from the journal."""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0


class Models:
    """Every alias of a recipe, opened on first use."""

    def __init__(self, aliases: Mapping[str, Any], journal: Journal) -> None:
        """`aliases`: name → record with the fields of `recipe.Alias`."""
        self.aliases = aliases
        self.journal = journal
        self.asked = Used()
        """Totals of this invocation, calls answered from the journal left out of everything but `calls`."""
        self._open: dict[str, tuple[Transport, asyncio.Semaphore]] = {}
        self._first = next(iter(aliases))

    def _transport(self, alias: str) -> tuple[Transport, asyncio.Semaphore]:
        if alias not in self._open:
            model = self.aliases[alias].model
            twin = next((other for other in self._open if self.aliases[other].model == model), None)
            if twin is not None and model.startswith("embedded"):
                self._open[alias] = self._open[twin]  # a gigabyte of weights is loaded once
            else:
                made = transport(self.aliases[alias])
                self._open[alias] = (made, asyncio.Semaphore(made.in_flight))
        return self._open[alias]

    def name(self, alias: str = "") -> str:
        """Identity of the model behind an alias."""
        return self._transport(alias or self._first)[0].name

    async def ask(
        self,
        alias: str,
        messages: Sequence[Mapping[str, str]],
        *,
        seed: int,
        schema: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Reply:
        """The journaled reply, or a new one: limited, checked, repaired once, journaled.

        Raises:
            ReplyFault: the reply does not fit `schema` after one repair.
            RowFault, ModelRefused, Incomplete: as the transport says.
        """
        alias = alias or self._first
        settings = self.aliases[alias]
        way, limit = self._transport(alias)
        request = Request(
            model=way.name,
            messages=[dict(message) for message in messages],
            schema=schema,
            temperature=settings.temperature if temperature is None else temperature,
            top_p=settings.top_p,
            max_tokens=max_tokens or settings.max_tokens,
            seed=seed,
        )
        try:
            return await self._answer(way, limit, request)
        except ReplyFault as fault:
            if fault.kind == "cut" or fault.raw is None or request.schema is None:
                raise
            return await self._answer(way, limit, _repair(request, fault))

    async def _answer(self, way: Transport, limit: asyncio.Semaphore, request: Request) -> Reply:
        """One journaled exchange; only a reply that fits is journaled, so a bad one is never served again."""
        name = key(request)
        reply = self.journal.get(name)
        if reply is None:
            async with limit:
                reply = await way.ask(request)
        self._count(reply)
        parsed = None if request.schema is None else checked(reply.text, request.schema, reply.finish)
        if not reply.journaled:
            await self.journal.put(name, reply)
        return replace(reply, parsed=parsed)

    def _count(self, reply: Reply) -> None:
        used = self.asked
        used.calls += 1
        if reply.journaled:
            return
        used.asked += 1
        used.tokens_in += reply.tokens_in or 0
        used.tokens_out += reply.tokens_out or 0
        used.cost = None if used.cost is None or reply.cost is None else used.cost + reply.cost

    async def close(self) -> None:
        """Close every transport that was opened."""
        for way in {id(way): way for way, _ in self._open.values()}.values():
            await way.close()
        self._open.clear()


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
