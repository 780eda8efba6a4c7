"""Real small things to test with: an OpenAI-dialect server on loopback, and tools for one part by itself.

`with Server() as server:` inside a test; `python -m qdcgen.testing --fault 429=0.05` beside a plug-in at work.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson

from qdcgen.rows import Reply

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["FAULTS", "Scripted", "Server", "fault_known", "scripted", "value_for"]

_WORDS = (  # noqa: SIM905  (32 words in two lines rather than 32)
    "amber basket candle dragon ember forest garden harbor jungle kettle ladder magnet needle orchard pepper quartz "
    "ribbon saddle timber umbrella velvet window yellow zephyr anchor bridge copper desert engine feather glacier"
).split()

FAULTS: Mapping[str, str] = {
    # the wire
    "reset": "the request is read, then the connection is reset (RST)",
    "close": "the request is read, then the connection is closed without a reply",
    "silent": "the request is read, then nothing: no byte, no close",
    "cut head": "20 bytes of the reply, then the connection is closed",
    "cut": "half of the body under the full Content-Length, then the connection is closed",
    "stall": "status and headers, then nothing",
    "stall body": "half of the body, then nothing",
    "slow": "the whole reply in 20 pieces over `slow` seconds",
    # the body
    "not json": "200 with a body that breaks off in mid JSON, its length right",
    "html": "200 with a login page",
    "bomb": "200 with 1 MiB of gzip that inflates to 1 GiB",
    "redirect": "307 to the host name `localhost`, counted under `strayed` if it is followed",
    "redirect 302": "302 to http://attacker.example/",
    "redirect metadata": "307 to http://169.254.169.254/",
    "no schema": "400 that says that response_format is not supported",
    # the completion
    "malformed": "the content is prose where JSON was asked for",
    "misfit": "the content is JSON that does not fit the schema",
    "fenced": "the content is right, in a fence, with chatter before it; a tolerant client reads it",
    "truncated": "half of the content; finish_reason is length",
    "filtered": "the content is right; finish_reason is content_filter",
    "empty": "the content is the empty string",
    "null": "the content is null",
    "refusal": "the content is null and message.refusal says why",
    "surrogate": "the content has half of a surrogate pair, which is not Unicode",
    "huge": "the content is 2 MiB long",
    "constant": "the content is the same whatever was asked",
    "wrong model": "the reply names another model",
    "no usage": "the reply counts no tokens",
    "negative usage": "the reply counts -5 tokens",
    "no choices": "the list of choices is empty",
}
"""Faults by name. Besides these, every status from 400 to 599 is a fault, alone (`429`, `503`) or with one word more:
`seconds`, `date`, `past`, `day`, `nonsense` (forms of Retry-After), `html` (the body), `context` (the error's code)."""

_STATUS = re.compile(r"([45]\d\d)(?: (seconds|date|past|day|nonsense|html|context))?")
_UNANSWERED = frozenset({"reset", "close", "silent"})
_PIECES = 20
_HUGE = 2 * 2**20
_BOMB = 2**30
_BOMB_CRC = 0x9AC47FA6  # of 2³⁰ spaces; counting it out takes a second of the server's time


def fault_known(kind: str) -> bool:
    """Whether the server can do this fault."""
    return kind in FAULTS or _STATUS.fullmatch(kind) is not None


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


# ── a model that reads from a list ──────────────────────────────────────────────────────────────────────────────────


@dataclass
class Scripted:
    """An `ask` that plays a queue; see `scripted`."""

    replies: deque[Any]
    asked: list[dict[str, Any]] = field(default_factory=list)
    """What it was asked: `alias`, `messages`, `schema`, `temperature`, `max_tokens`."""

    async def __call__(
        self,
        alias: str,
        messages: Sequence[Mapping[str, str]],
        *,
        schema: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: str | None = None,
        counted: bool = True,
    ) -> Reply:
        """The next reply, checked against `schema` as a model's would be; `seed` and `counted` are only noted.

        Raises:
            ReplyFault: the reply does not fit `schema`.
            AssertionError: the queue is empty.
        """
        from qdcgen.model.replies import checked

        said = {"alias": alias, "messages": [dict(message) for message in messages], "schema": schema}
        more = {} if seed is None else {"seed": seed, "counted": counted}
        self.asked.append({**said, "temperature": temperature, "max_tokens": max_tokens, **more})
        if not self.replies:
            raise AssertionError(f"asked {len(self.asked)} times, which is once more than there are replies")
        reply = self.replies.popleft()
        if isinstance(reply, BaseException):
            raise reply
        text = reply if isinstance(reply, str) else orjson.dumps(reply).decode()
        parsed = None if schema is None else checked(text, schema, "stop")
        prompt = sum(len(message["content"].split()) for message in messages)
        return Reply(text, "scripted", parsed, prompt, len(text.split()), 0.0)


def scripted(*replies: Any) -> Scripted:
    """An `ask` for `Tools(ask=…)` that answers with these, in order.

    A string is the reply's text, an exception is raised, anything else is sent as JSON. What was asked is kept under
    `asked`. It raises AssertionError when asked more often than there are replies.
    """
    return Scripted(deque(replies))


# ── a model behind HTTP ─────────────────────────────────────────────────────────────────────────────────────────────


class _Answer(NamedTuple):
    """Status, body, and header lines beyond the length, each ended by CRLF."""

    status: int
    body: bytes
    headers: str = ""


def _error(status: int, message: str, **more: str) -> _Answer:
    return _Answer(status, orjson.dumps({"error": {"message": message, **more}}))


def _share(*words: Any) -> float:
    """A number in [0, 1) that depends on the words alone."""
    return int.from_bytes(sha256("/".join(map(str, words)).encode()).digest()[:8], "big") / 2**64


@dataclass
class Server:
    """An OpenAI-dialect chat server on 127.0.0.1, in a thread of its own: `with Server() as server: server.url`.

    Replies are a function of the request alone (messages, seed, schema), so a second run sees what the first saw.
    `answer(body)` may give another reply: a string is the message's text, an int is an HTTP status, bytes are the whole
    body, None closes the connection without a word.

    Faults come by position (`script`), then by rate (`faults`), as a function of `fault_seed` and the number under
    which a request arrived, so that counts repeat and a retry draws afresh. A batch's lines have no faults of their
    own but what `answer` gives and `finish_batches` is told. All settings may be changed while it runs.
    """

    answer: Callable[[dict[str, Any]], Any] | None = None
    latency: float | tuple[float, float] = 0.0
    """Seconds before a reply begins, or the two ends between which each request's own are drawn."""
    seen: Counter[str] = field(default_factory=Counter)
    """Requests by digest of their body: how often each was asked."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Replies by HTTP status; a reply that is cut or stalls after its headers counts too."""
    faults: Mapping[str, float] = field(default_factory=dict)
    """Kind of fault → share of requests (0 … 1, at most 1 together)."""
    script: Sequence[str | None] = ()
    """The fault of the first request, of the second, …; None: none. `faults` begin after its end."""
    fault_seed: int = 0
    faulted: Counter[str] = field(default_factory=Counter)
    """Faults done, by kind."""
    slow: float = 1.0
    """Seconds over which a `slow` reply is spread."""
    retry_after: float = 1.0
    """Seconds that `429 seconds` and `429 date` ask for; a date is rounded up to whole seconds."""
    json_schema: bool = True
    """False: a request that asks for a JSON Schema is answered 400, as hosts do that do not know it."""
    capacity: int | None = None
    """Requests at once; those above it are answered 429, counted under `429 capacity`."""
    routes: dict[str, str] = field(default_factory=dict)
    """Faults of what is no chat call, by method and beginning of the path: `{"POST /v1/batches": "500"}`.
    `reset`, `close` and `silent` leave the request undone; `cut head` does it and loses the reply."""
    port: int = 0
    """Port to listen on; 0: a free one."""
    tls: bool = False
    """Whether to speak TLS, under a certificate that nobody signed; needs `openssl`."""
    finish_after: int | None = None
    """A batch completes by itself when it is polled for this many times; None: only when `finish_batches` is called."""
    batch_limit: int = 50_000
    """Requests in one batch; more fail it."""
    peak: int = 0
    """Most requests at once so far."""
    connections: int = 0
    """Connections opened so far."""
    strayed: int = 0
    """Requests that followed a redirect away from `url`."""
    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Files by id, as GET /v1/files lists them."""
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Batches by id, as GET /v1/batches lists them, oldest first."""
    lines: Counter[str] = field(default_factory=Counter)
    """Requests of all batches that were created, by custom_id: what a provider would bill."""

    def __post_init__(self) -> None:
        """Check the faults' names; without this a typo would test nothing.

        Raises:
            ValueError: an unknown fault, or shares above 1 together.
        """
        self._arrived = 0
        self._busy = 0
        self._open: set[Any] = set()
        self._heads: deque[bytes] = deque(maxlen=100)
        self._contents: dict[str, bytes] = {}
        self._polls: Counter[str] = Counter()
        unknown = [kind for kind in (*self.faults, *self.script) if kind is not None and not fault_known(kind)]
        if unknown:
            raise ValueError(f"no such fault: {', '.join(map(repr, unknown))}; known: {', '.join(FAULTS)}, a status")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError(f"the faults' shares make {sum(self.faults.values()):g} together; at most 1")

    def __enter__(self) -> Self:
        """Start; gives itself once the port is open.

        Raises:
            OSError: the port is taken.
        """
        self._secure = _certificate() if self.tls else None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qdcgen-testing-server", daemon=True)
        self._thread.start()
        try:
            self._do(self._listen())
        except OSError:
            self._stop()
            raise
        return self

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._listening = await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=4096, ssl=self._secure
        )
        self.port = self._listening.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        self._listening.close()
        for transport in list(self._open):
            transport.abort()
        await asyncio.sleep(0)

    def __exit__(self, *_: object) -> None:
        """Stop listening and close every connection."""
        self._do(self._hang_up())
        self._stop()

    @contextmanager
    def down(self) -> Iterator[None]:
        """While this lasts, every connection is dropped and new ones are refused; then it is back on the same port."""
        self._do(self._hang_up())
        try:
            yield
        finally:
            self._do(self._listen())

    @property
    def url(self) -> str:
        """What to write under `api_base`."""
        return f"http{'s' * self.tls}://127.0.0.1:{self.port}/v1"

    @property
    def asked(self) -> int:
        """Chat calls so far, those that met a fault too; a batch's lines do not count."""
        return self._arrived

    @property
    def headers(self) -> list[dict[str, str]]:
        """Headers of the last 100 requests, names in lower case."""
        return [_headers(head) for head in list(self._heads)]

    # ── chat ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _arrive(self, digest: bytes, raw: bytes) -> tuple[str | None, float]:
        """Count one chat call; its fault, if any, and the seconds before it is answered."""
        number = self._arrived
        self._arrived = number + 1
        self.seen[digest.hex()[:32]] += 1
        delay = self.latency
        if isinstance(delay, tuple):
            low, high = delay
            delay = low + (high - low) * int.from_bytes(digest[16:24], "big") / 2**64
        if self.capacity is not None and self._busy > self.capacity:
            return "429 capacity", delay
        if number < len(self.script):
            return self.script[number], delay
        if self.faults:
            at = _share(self.fault_seed, number)
            for kind, share in self.faults.items():
                at -= share
                if at < 0:
                    return kind, delay
        if not self.json_schema and b'"json_schema"' in raw:
            return "no schema", delay
        return None, delay

    def reply(self, raw: bytes) -> tuple[int, bytes] | None:
        """Status and body for one request body, by itself, uncounted and without faults; None to hang up."""
        said = self._reply(sha256(raw).digest(), raw, None)
        return None if said is None else said[:2]

    def _reply(self, digest: bytes, raw: bytes, kind: str | None) -> _Answer | None:
        if kind is not None:
            fixed = self._fixed(kind)
            if fixed is not None:
                return fixed
        try:
            body = orjson.loads(raw)
            messages = body["messages"]
            model = body["model"]
        except (ValueError, KeyError, TypeError):
            return _error(400, "expected a JSON object with model and messages")
        said: Any = None
        if self.answer is not None:
            said = self.answer(body)
            if said is None:
                return None
            if isinstance(said, int):
                return _error(said, f"asked to answer {said}")
            if isinstance(said, bytes):
                return _Answer(200, said)
        if said is None:
            form = body.get("response_format") or {}
            schema = form.get("json_schema", {}).get("schema", {"type": "string"})
            value = value_for(schema, random.Random(0 if kind == "constant" else digest))
            said = value if isinstance(value, str) else orjson.dumps(value).decode()
        prompt = sum(len(str(message["content"]).split()) for message in messages)
        written = len(said.split())
        completion = {
            "id": f"chatcmpl-{digest.hex()[:16]}",
            "object": "chat.completion",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written},
        }
        if kind is None:
            return _Answer(200, orjson.dumps(completion))
        return _Answer(200, _bent(completion, kind))

    def _fixed(self, kind: str) -> _Answer | None:
        """The whole answer of a fault that does not look at the request; None for one that does."""
        if kind == "429 capacity":
            return _error(429, f"more than {self.capacity} requests at once")
        status = _STATUS.fullmatch(kind)
        if status is not None:
            return self._status(int(status[1]), status[2])
        match kind:
            case "not json":
                return _Answer(200, b'{"choices": [{"message": {"content": "')
            case "html":
                return _Answer(200, b"<html>login</html>", "content-type: text/html\r\n")
            case "bomb":
                return _Answer(200, _bomb(), "content-encoding: gzip\r\n")
            case "redirect":
                target = self.url.replace("127.0.0.1", "localhost").replace("/v1", "/elsewhere/chat/completions")
                return _Answer(307, b"", f"location: {target}\r\n")
            case "redirect 302":
                return _Answer(302, b"", "location: http://attacker.example/\r\n")
            case "redirect metadata":
                return _Answer(307, b"", "location: http://169.254.169.254/\r\n")
            case "no schema":
                return _error(400, "response_format json_schema is not supported", param="response_format")
        return None

    def _status(self, status: int, word: str | None) -> _Answer:
        if word == "html":
            return _Answer(status, b"<html>", "content-type: text/html\r\n")
        if word == "context":
            return _error(status, "the prompt is too long", code="context_length_exceeded")
        after = {
            "seconds": f"{self.retry_after:g}",
            "date": formatdate(time.time() + self.retry_after + 1, usegmt=True),
            "past": formatdate(time.time() - 60, usegmt=True),
            "day": "86400",
            "nonsense": "soon",
        }
        said = _error(status, f"asked to answer {status}")
        return said if word is None else said._replace(headers=f"retry-after: {after[word]}\r\n")

    # ── files and batches ───────────────────────────────────────────────────────────────────────────────────────────

    def _route(self, method: str, target: str, head: bytes, raw: bytes) -> _Answer:
        """Everything but chat."""
        path, _, query = target.partition("?")
        words = path.strip("/").split("/")[1:]
        said: _Answer | None = None
        if (method, words) == ("POST", ["files"]):
            return self._upload(head, raw)
        if (method, words) == ("POST", ["batches"]):
            return self._create(raw)
        if (method, words) == ("GET", ["models"]):
            return _Answer(200, orjson.dumps({"object": "list", "data": [{"id": "test", "object": "model"}]}))
        if words[:1] == ["files"]:
            said = self._files(method, words[1:], query)
        if words[:1] == ["batches"]:
            said = self._batches(method, words[1:], query)
        return said or _error(404, f"no {method} {path} here")

    def _files(self, method: str, words: Sequence[str], query: str) -> _Answer | None:
        match (method, *words):
            case ("GET",):
                return _listed(self.uploads, query, 10_000)
            case ("GET", name) if name in self.uploads:
                return _Answer(200, orjson.dumps(self.uploads[name]))
            case ("GET", name, "content") if name in self.uploads:
                return _Answer(200, self._contents[name], "content-type: application/octet-stream\r\n")
            case ("DELETE", name) if name in self.uploads:
                del self.uploads[name]
                return _Answer(200, orjson.dumps({"id": name, "object": "file", "deleted": True}))
        return None

    def _batches(self, method: str, words: Sequence[str], query: str) -> _Answer | None:
        match (method, *words):
            case ("GET",):
                return _listed(self.batches, query, 20)
            case ("GET", name) if name in self.batches:
                self._polls[name] += 1
                if self.finish_after is not None and self._polls[name] >= self.finish_after:
                    self.finish_batches(only=name)
                return _Answer(200, orjson.dumps(self.batches[name]))
            case ("POST", name, "cancel") if name in self.batches:
                if self.batches[name]["status"] in {"validating", "in_progress"}:
                    self.batches[name] = {**self.batches[name], "status": "cancelling"}
                return _Answer(200, orjson.dumps(self.batches[name]))
        return None

    def _upload(self, head: bytes, raw: bytes) -> _Answer:
        boundary = re.search(r'boundary="?([^";]+)', _headers(head).get("content-type", ""))
        if boundary is None:
            return _error(400, "expected multipart/form-data")
        sent: dict[str, bytes] = {}
        filename = ""
        for part in raw.split(b"--" + boundary[1].encode())[1:-1]:
            about, _, content = part.partition(b"\r\n\r\n")
            name = re.search(rb' name="([^"]*)"', about)
            sent[name[1].decode() if name else ""] = content[:-2]
            found = re.search(rb'filename="([^"]*)"', about)
            filename = found[1].decode() if found else filename
        if sent.get("purpose") != b"batch" or "file" not in sent:
            return _error(400, "expected purpose=batch and a file")
        return _Answer(200, orjson.dumps(self._keep("file", filename, "batch", sent["file"])))

    def _keep(self, stem: str, filename: str, purpose: str, content: bytes) -> dict[str, Any]:
        name = f"{stem}-{len(self._contents) + 1}"
        self._contents[name] = content
        made = {"object": "file", "bytes": len(content), "created_at": int(time.time()), "purpose": purpose}
        self.uploads[name] = {"id": name, "filename": filename, "status": "processed", **made}
        return self.uploads[name]

    def _create(self, raw: bytes) -> _Answer:
        try:
            told = orjson.loads(raw)
            source, endpoint, window = told["input_file_id"], told["endpoint"], told["completion_window"]
        except (ValueError, KeyError, TypeError):
            return _error(400, "expected input_file_id, endpoint and completion_window")
        if source not in self.uploads:
            return _error(400, f"no such file: {source}")
        name = f"batch_{len(self.batches) + 1}"
        lines = [line["custom_id"] for line in self.requests(source)]
        self.lines.update(lines)
        wrong = (
            f"{len(lines):,} requests; at most {self.batch_limit:,}"
            if len(lines) > self.batch_limit
            else "custom_id repeats"
            if len(set(lines)) < len(lines)
            else None
        )
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": endpoint,
            "errors": {"data": [{"code": "invalid_request", "message": wrong}]} if wrong else None,
            "input_file_id": source,
            "completion_window": window,
            "status": "failed" if wrong else "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(time.time()),
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            "metadata": told.get("metadata"),
        }
        return _Answer(200, orjson.dumps(self.batches[name]))

    def requests(self, file: str) -> list[dict[str, Any]]:
        """The lines of an uploaded file."""
        return [orjson.loads(line) for line in self._contents[file].splitlines() if line]

    def start_batches(self, done: float = 0.0) -> None:
        """Batches that are validating become in_progress, this share of their requests done."""
        for name, batch in self.batches.items():
            if batch["status"] in {"validating", "in_progress"}:
                counts = {**batch["request_counts"], "completed": int(batch["request_counts"]["total"] * done)}
                self.batches[name] = {**batch, "status": "in_progress", "request_counts": counts}

    def finish_batches(
        self,
        status: str = "completed",
        *,
        failed: float = 0.0,
        failure: int = 400,
        unfinished: float = 0.0,
        only: str | None = None,
    ) -> None:
        """Batches under way end with `status`: completed, expired, cancelled or failed.

        Of their requests the share `unfinished` has no reply (expired and cancelled ones say so line by line), the
        share `failed` failed with the HTTP status `failure`, and the rest is answered as a chat call would be. Which is
        which depends on the batch and the custom_id alone. A `failed` batch has only `errors`.
        """
        for name, batch in list(self.batches.items()):
            if batch["status"] not in {"validating", "in_progress", "finalizing", "cancelling"}:
                continue
            if only is None or only == name:
                ended = "cancelled" if batch["status"] == "cancelling" else status
                self.batches[name] = {
                    **batch,
                    "status": ended,
                    **self._outcome(batch, ended, failed, failure, unfinished),
                }

    def _outcome(
        self, batch: Mapping[str, Any], status: str, failed: float, failure: int, unfinished: float
    ) -> dict[str, Any]:
        if status == "failed":
            return {"errors": {"data": [{"code": "invalid_json_line", "message": "asked to fail", "line": 1}]}}
        name = batch["id"]
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for request in self.requests(batch["input_file_id"]):
            custom = request["custom_id"]
            line: dict[str, Any] = {"id": f"batch_req_{len(good) + len(bad)}", "custom_id": custom}
            if _share("unfinished", name, custom) < unfinished:
                if status != "completed":
                    message = "This request could not be executed before the completion window expired."
                    bad.append({**line, "response": None, "error": {"code": f"batch_{status}", "message": message}})
                continue
            raw = orjson.dumps(request["body"])
            if _share("failed", name, custom) < failed:
                said: _Answer | None = _error(failure, f"asked to answer {failure}")
            else:
                said = self._reply(sha256(raw).digest(), raw, None)
            if said is None:
                bad.append({**line, "response": None, "error": {"code": "server_error", "message": "hung up"}})
                continue
            about = {"status_code": said.status, "request_id": line["id"], "body": orjson.loads(said.body)}
            (good if said.status == HTTPStatus.OK else bad).append({**line, "response": about, "error": None})
        random.Random(name).shuffle(good)  # providers promise no order
        files = {
            key: self._keep(
                "file", f"{name}_{key}.jsonl", "batch_output", b"".join(orjson.dumps(one) + b"\n" for one in lines)
            )["id"]
            for key, lines in (("output_file_id", good), ("error_file_id", bad))
            if lines
        }
        counts = {**batch["request_counts"], "completed": len(good), "failed": len(bad)}
        return {**files, "request_counts": counts, "completed_at": int(time.time())}


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _listed(found: Mapping[str, Mapping[str, Any]], query: str, limit: int) -> _Answer:
    """A page of a list, newest first, after the one named `after`."""
    told = dict(pair.partition("=")[::2] for pair in query.split("&"))
    names = list(found)[::-1]
    names = names[names.index(told["after"]) + 1 :] if told.get("after") in found else names
    page = names[: int(told.get("limit") or limit)]
    ends = {"first_id": page[0], "last_id": page[-1]} if page else {"first_id": None, "last_id": None}
    said = {"object": "list", "data": [found[name] for name in page], "has_more": len(page) < len(names), **ends}
    return _Answer(200, orjson.dumps(said))


def _bent(completion: dict[str, Any], kind: str) -> bytes:  # noqa: C901, PLR0912  (one case a fault)
    """A completion with one thing wrong; unchanged for a fault of the wire."""
    choice = completion["choices"][0]
    message = choice["message"]
    said = message["content"]
    match kind:
        case "malformed":
            message["content"] = "I would be glad to help, and here it is: {not quite"
        case "misfit":
            message["content"] = '{"unexpected": [true]}'
        case "fenced":
            message["content"] = f"Sure! Here it is:\n```json\n{said}\n```"
        case "truncated":
            message["content"], choice["finish_reason"] = said[: len(said) // 2], "length"
        case "filtered":
            choice["finish_reason"] = "content_filter"
        case "empty":
            message["content"] = ""
        case "null":
            message["content"] = None
        case "refusal":
            message["content"], message["refusal"] = None, "I cannot help with that."
        case "surrogate":
            message["content"] = "SURROGATE"
            return orjson.dumps(completion).replace(b"SURROGATE", rb"half \ud800 a pair")
        case "huge":
            message["content"] = "huge " * (_HUGE // 5)
        case "wrong model":
            completion["model"] = "another-model"
        case "no usage":
            del completion["usage"]
        case "negative usage":
            completion["usage"] = {"prompt_tokens": -5, "completion_tokens": -5, "total_tokens": -10}
        case "no choices":
            completion["choices"] = []
    return orjson.dumps(completion)


def _bomb() -> bytes:
    """1 GiB of spaces as gzip, about 1 MiB: one packed MiB, flushed so that it stands by itself, 1,024 times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    return head + piece * (_BOMB // 2**20) + b"\x03\x00" + struct.pack("<II", _BOMB_CRC, _BOMB)


def _certificate() -> ssl.SSLContext:
    """A server's context under a certificate that it signed itself, good for a day."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
        about = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        command = ["openssl", "req", "-x509", *curve, *about, "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)  # noqa: S603
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    return context


_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for 0 s: closing sends RST in place of FIN."""


class _Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection; as little as the client needs."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.waiting = bytearray()
        self.needed = 0
        self.busy = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.server.connections += 1
        self.server._open.add(transport)  # noqa: SLF001  (the server's own other half, here and below)

    def connection_lost(self, _: Exception | None) -> None:
        self.server._open.discard(self.transport)  # noqa: SLF001
        while self.busy:
            self.done()

    def done(self) -> None:
        """One request less at once."""
        if self.busy:
            self.busy -= 1
            self.server._busy -= 1  # noqa: SLF001

    def data_received(self, data: bytes) -> None:
        if self.waiting:
            self.waiting += data
            if len(self.waiting) < self.needed:
                return
            data = bytes(self.waiting)
            self.waiting.clear()
        while data:
            end = data.find(b"\r\n\r\n")
            length = 0
            if end >= 0:
                at = data.lower().find(b"\r\ncontent-length:", 0, end)
                length = int(data[at + 17 : data.find(b"\r", at + 2)]) if at >= 0 else 0
            whole = end + 4 + length
            if end < 0 or len(data) < whole:
                self.waiting += data
                self.needed = whole if end >= 0 else 0
                return
            self.take(data[:end], data[end + 4 : whole])
            data = data[whole:]

    def take(self, head: bytes, raw: bytes) -> None:
        """One request: count it, then answer it now or when its latency is over."""
        server = self.server
        server._heads.append(head)  # noqa: SLF001
        method, target = head[: head.find(b"\r\n")].decode("latin-1").split(" ", 2)[:2]
        if target.startswith("/elsewhere"):
            server.strayed += 1
        elif method != "POST" or not target.endswith("/chat/completions"):
            called = f"{method} {target}"
            kind = next((kind for route, kind in server.routes.items() if called.startswith(route)), None)
            fixed = None if kind is None else server._fixed(kind)  # noqa: SLF001
            undone = kind in _UNANSWERED or fixed is not None
            self.emit(fixed if undone else server._route(method, target, head, raw), kind)  # noqa: SLF001
            return
        self.busy += 1
        server._busy += 1  # noqa: SLF001
        server.peak = max(server.peak, server._busy)  # noqa: SLF001
        digest = sha256(raw).digest()
        kind, delay = server._arrive(digest, raw)  # noqa: SLF001
        if delay:
            server._loop.call_later(delay, self.send, digest, raw, kind)  # noqa: SLF001
        else:
            self.send(digest, raw, kind)

    def send(self, digest: bytes, raw: bytes, kind: str | None) -> None:
        """Answer a chat call."""
        if self.transport.is_closing():
            return
        self.emit(None if kind in _UNANSWERED else self.server._reply(digest, raw, kind), kind)  # noqa: SLF001

    def emit(self, said: _Answer | None, kind: str | None) -> None:
        """Put an answer on the wire, or what the fault leaves of it."""
        if kind is not None:
            self.server.faulted[kind] += 1
        if said is None:
            if kind == "silent":
                return
            if kind == "reset":
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
            self.done()
            return
        status, body, more = said
        self.server.statuses[status] += 1
        if "content-type" not in more:
            more += "content-type: application/json\r\n"
        head = f"HTTP/1.1 {status} -\r\n{more}content-length: {len(body)}\r\n\r\n".encode()
        self.write(head, body, kind)

    def write(self, head: bytes, body: bytes, kind: str | None) -> None:
        """Head and body, bent by a fault of the wire. A stall keeps the request open until the client hangs up."""
        match kind:
            case "stall":
                self.transport.write(head)
            case "stall body":
                self.transport.write(head + body[: len(body) // 2])
            case "slow":
                self.dribble(head + body, len(head + body) // _PIECES + 1)
            case "cut" | "cut head":
                self.transport.write(head[:20] if kind == "cut head" else head + body[: len(body) // 2])
                self.transport.close()
                self.done()
            case _:
                self.transport.write(head + body)
                self.done()

    def dribble(self, rest: bytes, step: int) -> None:
        """One piece now, the next after its share of `slow`."""
        if self.transport.is_closing():
            return
        self.transport.write(rest[:step])
        if len(rest) > step:
            self.server._loop.call_later(self.server.slow / _PIECES, self.dribble, rest[step:], step)  # noqa: SLF001
        else:
            self.done()


# ── by itself ───────────────────────────────────────────────────────────────────────────────────────────────────────


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM, then print what arrived as one line of JSON."""
    import argparse
    import signal

    known = "".join(f"\n  {kind:<18}{text}" for kind, text in FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m qdcgen.testing",
        description="An OpenAI-dialect model on loopback whose replies depend on the request alone.",
        epilog=f"faults: a status such as 429 or 503, `429 seconds`, or\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--latency", type=float, nargs="+", default=[0.0], help="seconds, or two ends to draw between")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND=SHARE", help="e.g. 429=0.05; repeatable")
    parser.add_argument("--fault-seed", type=int, default=0)
    parser.add_argument("--no-json-schema", action="store_true", help="answer 400 to requests with a JSON Schema")
    parser.add_argument("--polls", type=int, default=1, help="polls after which a batch completes")
    given = parser.parse_args(arguments)
    latency: float | tuple[float, float] = given.latency[0]
    if len(given.latency) > 1:
        latency = (given.latency[0], given.latency[-1])
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    try:
        faults = {kind: float(share) for kind, _, share in (one.rpartition("=") for one in given.fault)}
        server = Server(
            latency=latency,
            faults=faults,
            fault_seed=given.fault_seed,
            json_schema=not given.no_json_schema,
            port=given.port,
            finish_after=given.polls,
        )
    except ValueError as error:
        parser.error(str(error))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        stopped.wait()
    told = {"asked": server.asked, "distinct": len(server.seen), "peak": server.peak, "connections": server.connections}
    counts = {"statuses": server.statuses, "faulted": server.faulted}
    sys.stdout.write(orjson.dumps({**told, **counts}, option=orjson.OPT_NON_STR_KEYS).decode() + "\n")


if __name__ == "__main__":
    main()
