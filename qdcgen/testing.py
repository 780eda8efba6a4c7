"""Real small things to test with: an OpenAI-dialect server on loopback, and tools for one part by itself."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Server", "value_for"]

_WORDS = (  # noqa: SIM905  (32 words in two lines rather than 32)
    "amber basket candle dragon ember forest garden harbor jungle kettle ladder magnet needle orchard pepper quartz "
    "ribbon saddle timber umbrella velvet window yellow zephyr anchor bridge copper desert engine feather glacier"
).split()


def value_for(schema: Mapping[str, Any], rng: random.Random) -> Any:
    """A value that fits a schema of the kind steps use, drawn with `rng`; strings are 6 to 14 plain words."""
    if "enum" in schema:
        return rng.choice(list(schema["enum"]))
    kind = schema.get("type")
    if kind == "object":
        return {name: value_for(inner, rng) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        low = schema.get("minItems", 1)
        return [value_for(schema.get("items", {"type": "string"}), rng) for _ in range(max(low, 2))]
    if kind == "integer":
        return rng.randint(int(schema.get("minimum", 0)), int(schema.get("maximum", 100)))
    if kind == "number":
        return round(rng.uniform(schema.get("minimum", 0), schema.get("maximum", 1)), 6)
    if kind == "boolean":
        return rng.random() < 0.5  # noqa: PLR2004
    text = " ".join(rng.choices(_WORDS, k=rng.randint(6, 14)))
    return text[: schema.get("maxLength", len(text))].rstrip() or "x"


@dataclass
class Server:
    """An OpenAI-dialect chat server on 127.0.0.1, in a thread of its own: `with Server() as server: server.url`.

    Replies are a function of the request alone (messages, seed, schema), so a second run sees what the first saw.
    `answer(body)` may give another reply: a string is the message's text, an int is an HTTP status, bytes are the whole
    body, None closes the connection without a word. `latency` is in seconds.
    """

    answer: Callable[[dict[str, Any]], Any] | None = None
    latency: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    """Requests by digest of their body: how often each was asked."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Replies by HTTP status."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Headers of the last 100 requests, names in lower case."""

    def __enter__(self) -> Self:
        """Start; gives itself once the port is open."""
        self._open: set[Any] = set()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()

        def serve() -> None:
            asyncio.set_event_loop(self._loop)
            started = self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
            self._listening = self._loop.run_until_complete(started)
            ready.set()
            self._loop.run_forever()

        self._thread = threading.Thread(target=serve, name="qdcgen-testing-server", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening and close every connection."""

        async def stop() -> None:
            self._listening.close()
            for transport in list(self._open):
                transport.abort()
            await asyncio.sleep(0)
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(stop(), self._loop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """What to write under `api_base`."""
        return f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}/v1"

    @property
    def asked(self) -> int:
        """Requests so far."""
        return self.seen.total()

    def reply(self, raw: bytes) -> tuple[int, bytes] | None:
        """Status and body for one request body; None to hang up."""
        digest = sha256(raw).digest()
        self.seen[digest.hex()[:32]] += 1
        body = orjson.loads(raw)
        said: Any = None
        if self.answer is not None:
            said = self.answer(body)
            if said is None:
                return None
            if isinstance(said, int):
                return said, orjson.dumps({"error": {"message": f"asked to answer {said}"}})
            if isinstance(said, bytes):
                return 200, said
        if said is None:
            schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {"type": "string"})
            value = value_for(schema, random.Random(digest))
            said = value if isinstance(value, str) else orjson.dumps(value).decode()
        prompt = sum(len(message["content"].split()) for message in body["messages"])
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        usage = {"prompt_tokens": prompt, "completion_tokens": len(said.split())}
        return 200, orjson.dumps(
            {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
        )


class _Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection; as little as the client needs."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.waiting = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.server._open.add(transport)  # noqa: SLF001  (the server's own other half)

    def connection_lost(self, _: Exception | None) -> None:
        self.server._open.discard(self.transport)  # noqa: SLF001

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.waiting[:end]).decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
            length = int(headers.get("content-length", 0))
            if len(self.waiting) < end + 4 + length:
                return
            raw = bytes(self.waiting[end + 4 : end + 4 + length])
            del self.waiting[: end + 4 + length]
            self.server.headers = [*self.server.headers[-99:], headers]
            if self.server.latency:
                asyncio.get_running_loop().call_later(self.server.latency, self.send, raw)
            else:
                self.send(raw)

    def send(self, raw: bytes) -> None:
        answered = self.server.reply(raw)
        if answered is None:
            self.transport.abort()
            return
        status, body = answered
        self.server.statuses[status] += 1
        if not self.transport.is_closing():
            head = f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            self.transport.write(head.encode() + body)
