"""The transport for OpenAI-dialect servers (OpenAI, vLLM, llama.cpp, Ollama, TGI, …), straight over aiohttp."""

from __future__ import annotations

import os
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from qdcgen.errors import ModelRefused, RowFault, TryAgain
from qdcgen.model.prices import rates
from qdcgen.model.replies import instructed, schema_text
from qdcgen.rows import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from qdcgen.rows import Request

__all__ = ["HOMES", "OpenAI"]

HOMES = {"openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"), "ollama": ("http://localhost:11434/v1", "")}
"""Provider → where it lives, and the variable that holds its key."""

AGAIN = frozenset({408, 409, 425, 429})
"""Statuses that another try may change, besides every 5xx."""
STOP = frozenset({401, 402, 403, 404})
WEEK = 604_800.0
MAX_BODY = 8 * 2**20
"""Bytes of one reply body; larger ones fail their row."""


class OpenAI:
    """One server under one alias: one session, kept alive, with as many connections as calls in flight."""

    def __init__(self, alias: Any) -> None:
        """`alias` has the fields of `recipe.Alias`. Connects at the first call."""
        provider, _, self.model = alias.model.partition("/")
        home, variable = HOMES.get(provider, ("", ""))
        self.name: str = alias.model
        self.in_flight: int = alias.max_in_flight
        self.url = (alias.api_base or home) + "/chat/completions"
        self.price = rates(alias)
        self.timeout = alias.timeout
        # A key goes only to the host it belongs to: the provider's own, or an address for which the recipe names it.
        self.variable = alias.key or ("" if alias.api_base else variable)
        self._schemas = True
        """Whether the server takes JSON Schemas; False once it said that it does not."""
        self._unknown: set[str] = set()
        """Settings that the server said it does not take: `temperature`, `top_p`, `seed` or `max_tokens`."""
        self._secret = b""
        self._session: aiohttp.ClientSession | None = None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            # No compression: a reply is small, and a bomb stays as small as it was sent.
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
            if self.variable:
                secret = os.environ.get(self.variable, "").strip()
                if not secret:
                    raise ModelRefused(f"{self.name}: no key; type: export {self.variable}=…")
                headers["Authorization"] = f"Bearer {secret}"
                self._secret = secret.encode()
            self._session = aiohttp.ClientSession(
                headers=headers,
                connector=aiohttp.TCPConnector(limit=self.in_flight, keepalive_timeout=75),
                timeout=aiohttp.ClientTimeout(total=self.timeout),
                auto_decompress=False,
            )
        return self._session

    async def ask(self, request: Request) -> Reply:
        """One try.

        Raises:
            TryAgain: 408, 409, 425, 429, 5xx, no answer in time, a connection that broke, a body that is no completion.
            RowFault: the server refuses this one request (other 4xx), or its reply is empty or a refusal.
            ModelRefused: 401, 402, 403, 404: key, quota or permission.
        """
        began = time.perf_counter()
        with_schema, without = self._schemas and request.schema is not None, set(self._unknown)
        status, payload, after = await self._post(self._body(request))
        payload = self._plain(payload) if status != HTTPStatus.OK else payload
        if status == HTTPStatus.OK:
            return self._reply(payload, time.perf_counter() - began)
        said = f"{self.name}: {status}: {payload[:300].decode('utf-8', 'replace')}"
        if status in STOP or b"insufficient_quota" in payload:
            raise ModelRefused(f"{self.name} refuses: {status}: {payload[:300].decode('utf-8', 'replace')}")
        if status in AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise TryAgain(str(status), said, after)
        if status < HTTPStatus.BAD_REQUEST:  # followed, it would carry the key to another address
            raise TryAgain(str(status), f"{self.name}: {status}: redirects are not followed; mend api_base")
        if with_schema and _is_about_schemas(payload):
            self._schemas = False  # found out once a run: from now on the prompt says what the reply must look like
            return await self.ask(request)
        if (setting := _refused_setting(payload)) and setting not in without:
            self._unknown.add(setting)  # reasoning models take no temperature, and another name for max_tokens
            return await self.ask(request)
        raise RowFault("refused by server", said)

    def _plain(self, payload: bytes) -> bytes:
        """What the server said without the key, which some repeat when they refuse it."""
        return payload.replace(self._secret, b"...") if self._secret else payload

    async def _post(self, body: bytes) -> tuple[int, bytes, float]:
        """Status, body and Retry-After in seconds."""
        import aiohttp

        session = self._connected()
        try:
            async with session.post(self.url, data=body, allow_redirects=False) as answer:
                payload = await _bounded(answer)
                return answer.status, payload, _seconds(answer.headers.get("Retry-After"))
        except TimeoutError:
            raise TryAgain("timeout", f"{self.name}: no answer within {self.timeout:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise TryAgain("connection", f"{self.name}: cannot connect: {error.strerror or error}") from None
        except aiohttp.ClientError as error:
            raise TryAgain("reset", f"{self.name}: {type(error).__name__}: {error}") from None

    def _body(self, request: Request) -> bytes:
        messages = list(request.messages)
        said: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
            "seed": request.seed,
        }
        for setting in self._unknown:
            most = said.pop(setting)
            if setting == "max_tokens":
                said["max_completion_tokens"] = most
        if request.schema is not None and self._schemas:
            schema = orjson.Fragment(schema_text(request.schema))
            said["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "strict": True, "schema": schema},
            }
        elif request.schema is not None:
            said["messages"] = instructed(messages, request.schema)
        return orjson.dumps(said)

    def _reply(self, payload: bytes, seconds: float) -> Reply:
        try:
            said: Mapping[str, Any] = orjson.loads(payload)
            choice = said["choices"][0]
            message = choice["message"]
            text = message["content"]
            finish = str(choice.get("finish_reason") or "stop")
            usage = said.get("usage") or {}
            tokens_in, tokens_out = _tokens(usage.get("prompt_tokens")), _tokens(usage.get("completion_tokens"))
        except (ValueError, LookupError, TypeError, AttributeError):
            raise TryAgain(
                "no completion", f"{self.name} sent no chat completion: {self._plain(payload)[:200]!r}"
            ) from None
        cost = None
        if self.price and tokens_in is not None and tokens_out is not None:
            cost = tokens_in * self.price[0] + tokens_out * self.price[1]
        reply = Reply(
            text if isinstance(text, str) else "", self.name, None, tokens_in, tokens_out, cost, finish, seconds
        )
        if not isinstance(text, str) or not text:
            refusal = message.get("refusal")
            why = f"{self.name}: {refusal or 'the reply is empty'}"[:400]
            raise RowFault("refused" if refusal else "empty", why, paid=reply)
        if finish == "content_filter":
            raise RowFault("refused", f"{self.name}: its content filter stopped the reply", paid=reply)
        return reply

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    """The body.

    Raises:
        RowFault: it is longer than MAX_BODY.
    """
    if (answer.content_length or MAX_BODY + 1) <= MAX_BODY:
        return await answer.read()
    parts, size = [], 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            answer.close()
            raise RowFault("too long", f"a reply body of more than {MAX_BODY:,} bytes")
    return b"".join(parts)


def _tokens(count: Any) -> int | None:
    """A count of tokens as servers should give it; anything else is unknown."""
    return count if isinstance(count, int) and 0 <= count < 2**53 else None


def _is_about_schemas(payload: bytes) -> bool:
    """Whether a 4xx complains of the reply format rather than of the prompt."""
    return any(word in payload for word in (b"response_format", b"json_schema", b"guided_json", b"structured output"))


def _refused_setting(payload: bytes) -> str | None:
    """The sampling setting that a 400 says the model does not take."""
    said = payload.lower()
    if b"support" not in said and b"unrecognized" not in said:
        return None
    return next((word for word in ("max_tokens", "temperature", "top_p", "seed") if word.encode() in said), None)


def _seconds(said: str | None) -> float:
    """Retry-After as seconds; 0 for a date in the past or nonsense."""
    if not said:
        return 0.0
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        except (ValueError, TypeError):
            return 0.0
    return seconds if 0 < seconds < WEEK else 0.0  # NaN and infinity fail the comparisons
