"""The transport for OpenAI-dialect servers (OpenAI, vLLM, llama.cpp, Ollama, TGI, …), straight over aiohttp."""

from __future__ import annotations

import asyncio
import os
import random
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from qdcgen.errors import Incomplete, ModelRefused, RowFault
from qdcgen.model.replies import schema_text
from qdcgen.rows import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from qdcgen.rows import Request

__all__ = ["OpenAI"]

HOMES = {"openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"), "ollama": ("http://localhost:11434/v1", "")}
"""Provider → where it lives, and the variable that holds its key."""

TRIES = 6
"""Tries of one call in all; with the waits below, about a minute of outage is sat out."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0
"""Seconds before the second try (doubled each time, then drawn from half to whole), and the cap."""
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
STOP = frozenset({401, 402, 403, 404})
MAX_BODY = 8 * 2**20
"""Bytes of one reply body; larger ones fail their row."""


class OpenAI:
    """One server under one alias: one session, kept alive, with as many connections as calls in flight."""

    def __init__(self, alias: Any) -> None:
        """`alias` has the fields of `recipe.Alias`. Connects at the first call."""
        provider, _, self.model = alias.model.partition("/")
        home, variable = HOMES[provider]
        self.name: str = alias.model
        self.in_flight: int = alias.max_in_flight
        self.url = (alias.api_base or home) + "/chat/completions"
        self.price: tuple[float, float] | None = (
            (alias.price.input / 1e6, alias.price.output / 1e6) if alias.price else None
        )
        self.timeout = alias.timeout
        # A key goes only to the host it belongs to: the provider's own, or an address for which the recipe names it.
        self.variable = alias.key or ("" if alias.api_base else variable)
        self._session: aiohttp.ClientSession | None = None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            headers = {"Content-Type": "application/json"}
            if self.variable:
                secret = os.environ.get(self.variable, "").strip()
                if not secret:
                    raise ModelRefused(f"{self.name}: no key; type: export {self.variable}=…")
                headers["Authorization"] = f"Bearer {secret}"
            self._session = aiohttp.ClientSession(
                headers=headers,
                connector=aiohttp.TCPConnector(limit=self.in_flight, keepalive_timeout=75),
                timeout=aiohttp.ClientTimeout(total=self.timeout),
                auto_decompress=True,
            )
        return self._session

    async def ask(self, request: Request) -> Reply:
        """One call, retried within its budget.

        Raises:
            RowFault: the server refuses this request (400, 422), or says something that is no reply.
            ModelRefused: 401, 402, 403, 404: key, quota or permission.
            Incomplete: still no answer when the budget of tries is used up.
        """
        body = self._body(request)
        wait = FIRST_WAIT
        said = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, LONGEST_WAIT)
            status, payload, after = await self._post(body)
            if status == HTTPStatus.OK:
                return self._reply(payload)
            said = f"{status}: {payload[:200].decode('utf-8', 'replace')}" if status else payload.decode()
            if status in STOP:
                raise ModelRefused(f"{self.name} refuses: {said}")
            if status and status not in AGAIN:
                raise RowFault("refused by server", f"{self.name}: {said}")
            wait = max(wait, min(after, LONGEST_WAIT))
        raise Incomplete(f"{self.name}: no answer after {TRIES} tries; the last one said {said}")

    async def _post(self, body: bytes) -> tuple[int, bytes, float]:
        """Status, body and Retry-After in seconds; status 0 when there was no answer, with the reason as body."""
        import aiohttp

        session = self._connected()
        try:
            async with session.post(self.url, data=body, allow_redirects=False) as answer:
                payload = await answer.content.read(MAX_BODY)
                while not answer.content.at_eof() and len(payload) < MAX_BODY:
                    payload += await answer.content.read(MAX_BODY - len(payload))
                return answer.status, payload, _seconds(answer.headers.get("Retry-After"))
        except TimeoutError:
            return 0, f"no answer within {self.timeout:g} s".encode(), 0.0
        except aiohttp.ClientError as error:
            return 0, f"{type(error).__name__}: {error}".encode(), 0.0

    def _body(self, request: Request) -> bytes:
        said: dict[str, Any] = {
            "model": self.model,
            "messages": list(request.messages),
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
            "seed": request.seed,
        }
        if request.schema is not None:
            said["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "strict": True, "schema": orjson.loads(schema_text(request.schema))},
            }
        return orjson.dumps(said)

    def _reply(self, payload: bytes) -> Reply:
        started = time.perf_counter()
        try:
            said: Mapping[str, Any] = orjson.loads(payload)
            choice = said["choices"][0]
            text = choice["message"]["content"]
            finish = str(choice.get("finish_reason") or "stop")
            usage = said.get("usage") or {}
            tokens_in, tokens_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
        except (ValueError, LookupError, TypeError, AttributeError):
            raise RowFault("no reply", f"{self.name} sent no chat completion: {payload[:200]!r}") from None
        if not isinstance(text, str) or not text:
            refusal = choice["message"].get("refusal")
            raise RowFault("refused" if refusal else "empty", f"{self.name}: {refusal or 'the reply is empty'}"[:400])
        cost = None
        if self.price and isinstance(tokens_in, int) and isinstance(tokens_out, int):
            cost = tokens_in * self.price[0] + tokens_out * self.price[1]
        return Reply(text, self.name, None, tokens_in, tokens_out, cost, finish, time.perf_counter() - started)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _seconds(said: str | None) -> float:
    """Retry-After as seconds; 0 for a date in the past or nonsense."""
    if not said:
        return 0.0
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
