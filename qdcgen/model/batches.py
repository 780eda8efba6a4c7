"""The Batch road: requests queue, go to the provider as one file, and are collected by a later invocation.

Nothing is submitted twice, even when the process is killed between sending and writing down that it was sent. Before
anything leaves, an intent (a random token and the keys of its requests) is on disk, synced. The token is in the file's
name and in the batch's metadata; an intent without a batch is looked for at the provider and adopted if it is there.

What is kept, in the journal's file: open batches, the keys in them, and requests that failed for good. The lines
themselves are not: they are in an unnamed temporary file until they are sent, and at the provider from then on.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import sqlite3
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import orjson

from qdcgen.errors import Incomplete, ModelRefused, RowFault, RunError, UsageError
from qdcgen.model.openai import HOMES
from qdcgen.model.prices import rates
from qdcgen.model.replies import schema_text
from qdcgen.rows import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    import aiohttp

    from qdcgen.model.journal import Journal
    from qdcgen.rows import Request

__all__ = ["DISCOUNT", "Batches"]

DISCOUNT = 0.5
"""What a batched call costs of a plain one, at OpenAI and at every host that copies its Batch API (2025)."""
MAX_REQUESTS, MAX_BYTES = 50_000, 100 * 2**20
"""Of one batch. OpenAI takes 50,000 and 200 MB, others as many requests and 100 MB."""
TRIES = 3
"""Batches that a request may fail in by no fault of its own (429, 5xx, no completion) before that is its answer; also
tries of one poll or download."""
SETTLE = 5.0
"""Seconds that a provider is given to list what it was sent just before a kill; waited once, and only then."""
MAX_LINE = 8 * 2**20
"""Bytes of one line of an output file; a longer one is passed over."""
MAX_PAGES = 1_000
"""Of a list of batches or files."""
GROUP = 1_000
"""Replies that go to the journal at once."""
TOKEN = "qdcgen_token"  # noqa: S105  (a name in the batch's metadata)
ENDPOINT = "/v1/chat/completions"

STOP = frozenset({401, 402, 403, 404})
UNSURE = frozenset({408, 409, 425})
"""Statuses after which a POST may have been done all the same, besides every 5xx."""
FULL = "token_limit_exceeded"
"""Error code of a batch that found too many tokens queued before it: not its own fault, so it is sent again."""
ENDED = frozenset({"completed", "expired", "cancelled", "failed"})
_ID = re.compile(r"[\w.:-]{1,200}", re.ASCII)


class _Unsure(Incomplete):
    """No answer, or one that does not say whether the thing was done."""


class _Open(NamedTuple):
    """One row of the table `batches`. No `file`: perhaps not uploaded; no `batch`: perhaps not created."""

    token: str
    at: float
    bytes: int
    file: str | None
    batch: str | None

    @property
    def filename(self) -> str:
        return f"qdcgen-{self.token}.jsonl"


@dataclass
class _Part:
    """What one batch will hold: its lines in a file without a name, which a kill leaves nothing of."""

    file: IO[bytes]
    keys: list[bytes] = field(default_factory=list)
    bytes: int = 0


@dataclass
class _Found:
    """What the files of an ended batch say, until all of it is written in one transaction."""

    keys: set[bytes]
    """Requests of the batch that no line has spoken of yet."""
    final: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    """Failed for good: key → kind, reason."""
    again: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    """Failed by no fault of their own."""
    paid: list[tuple[str, Reply]] = field(default_factory=list)
    """Replies that cost money and cannot be used: kind, reply."""
    refused: str = ""
    """What the provider said to a line, where it is about the key or the model: the run must stop."""
    faults: Counter[str] = field(default_factory=Counter)


class Batches:
    """The requests of one alias that go through a provider's Batch API: queue, submit, poll, collect."""

    def __init__(self, alias: Any, journal: Journal, *, name: str) -> None:
        """`alias` has the fields of `recipe.Alias`; `name` is the model's identity. Connects at the first call.

        Raises:
            UsageError: no OpenAI-dialect address is known for the model, so it has no Batch API here.
        """
        provider, _, self.model = alias.model.partition("/")
        home, variable = HOMES.get(provider, ("", ""))
        self.alias = alias
        self.name = name
        self.url = alias.api_base or home
        if not self.url:
            known = " or ".join(f"{one}/<model>" for one in HOMES)
            raise UsageError(
                f"batch: true needs {known}, or an api_base that speaks their dialect; found {alias.model!r}"
            )
        self.variable = alias.key or ("" if alias.api_base else variable)
        self.journal = journal
        self._place = f"{name} {self.url} {self.variable}"  # two aliases of one model may be two accounts
        self._parts: list[_Part] = []
        self._queued: set[bytes] = set()
        self._spare: list[str] = []
        """Tokens of intents of which nothing had reached the provider; used again first."""
        self._session: aiohttp.ClientSession | None = None
        self._secret = ""
        self._rows = sqlite3.connect(journal.path, timeout=10, check_same_thread=False)
        # FULL: an intent that a power cut forgets is paid for twice. Three commits a batch, about 5 ms each.
        self._rows.execute("PRAGMA synchronous=FULL")

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def fault(self, key: bytes) -> RowFault | None:
        """What the provider said of a request that failed for good in an earlier batch; about 8 µs."""
        query = "SELECT kind, reason FROM batch_faults WHERE key = ? AND final"
        found = self._rows.execute(query, (key,)).fetchone()
        return None if found is None else RowFault(*found)

    def defer(self, key: bytes, request: Request) -> None:
        """Queue a request for the next submission, unless it is queued already or in an open batch."""
        if key in self._queued or self._is_pending(key):
            return
        line = {"custom_id": key.hex(), "method": "POST", "url": ENDPOINT, "body": self._body(request)}
        raw = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        last = self._parts[-1] if self._parts else None
        if last is None or len(last.keys) >= MAX_REQUESTS or last.bytes + len(raw) > MAX_BYTES:
            last = _Part(tempfile.TemporaryFile(dir=self.journal.path.parent))  # noqa: SIM115  (closed by submit or close)
            self._parts.append(last)
        last.file.write(raw)
        last.keys.append(key)
        last.bytes += len(raw)
        self._queued.add(key)

    def _is_pending(self, key: bytes) -> bool:
        query = "SELECT 1 FROM batch_lines JOIN batches USING (token) WHERE key = ? AND place = ?"
        return self._rows.execute(query, (key, self._place)).fetchone() is not None

    def _body(self, request: Request) -> dict[str, Any]:
        said: dict[str, Any] = {
            "model": self.model,
            "messages": list(request.messages),
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
            "seed": request.seed,
        }
        if request.schema is not None:
            schema = orjson.Fragment(schema_text(request.schema))
            form = {"name": "reply", "strict": True, "schema": schema}
            said["response_format"] = {"type": "json_schema", "json_schema": form}
        return said

    # ── submitting ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(self) -> str | None:
        """Upload and create a batch of everything queued, more than one where it is too much for one.

        Gives words such as "batch batch_12 submitted, 2,000 requests"; None when nothing was queued.

        Raises:
            ModelRefused: the provider will not have it: key, quota, permission, or a file that it does not take.
            Incomplete: no clear answer. The next `collect` finds out whether it was done.
        """
        said = []
        while self._parts:
            part = self._parts.pop(0)
            with part.file:
                batch = await self._send(part)
            said.append(f"batch {batch} submitted, {len(part.keys):,} request{'s' * (len(part.keys) != 1)}")
        return "; ".join(said) or None

    async def _send(self, part: _Part) -> str:
        self._connected()  # without a key there is no intent
        opened = _Open(self._spare.pop() if self._spare else secrets.token_hex(12), time.time(), part.bytes, None, None)
        self._intend(opened, part.keys)
        self._queued.difference_update(part.keys)
        try:
            opened = self._record(opened, file=await self._upload(opened, part))
        except _Unsure:
            raise
        except (ModelRefused, Incomplete):
            self._forget(opened)
            raise
        return await self._create(opened)

    async def _upload(self, opened: _Open, part: _Part) -> str:
        import aiohttp

        part.file.seek(0)
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", part.file, filename=opened.filename, content_type="application/jsonl")
        return _id(await self._call("POST", "/files", form))

    async def _create(self, opened: _Open) -> str:
        told = {
            "input_file_id": opened.file,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": {TOKEN: opened.token},
        }
        try:
            batch = _id(await self._call("POST", "/batches", orjson.dumps(told)))
        except ModelRefused:
            self._forget(opened)  # a definite no; after a 429 the file waits for the next try
            raise
        self._record(opened, batch=batch)
        return batch

    # ── the table of open batches ───────────────────────────────────────────────────────────────────────────────────

    def _intend(self, opened: _Open, keys: list[bytes]) -> None:
        with self._written() as rows:
            values = (opened.token, self._place, opened.at, opened.bytes)
            rows.execute("INSERT INTO batches (token, place, at, bytes) VALUES (?, ?, ?, ?)", values)
            rows.executemany("INSERT INTO batch_lines VALUES (?, ?)", [(key, opened.token) for key in keys])

    def _record(self, opened: _Open, *, file: str | None = None, batch: str | None = None) -> _Open:
        now = opened._replace(at=time.time(), file=file or opened.file, batch=batch or opened.batch)
        with self._written() as rows:
            rows.execute(
                "UPDATE batches SET at = ?, file = ?, batch = ? WHERE token = ?",
                (now.at, now.file, now.batch, now.token),
            )
        return now

    def _forget(self, opened: _Open) -> None:
        with self._written() as rows:
            _drop(rows, opened.token)

    def _written(self) -> _Transaction:
        return _Transaction(self._rows, str(self.journal.path))

    # ── collecting ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def collect(self) -> str | None:
        """Poll every open batch once; put the replies of ended ones into the journal.

        Call it before anything is deferred. Gives words such as "batch batch_12 in_progress, 120 of 2,000 done" while
        something is pending, else None. Requests without a reply (expired, cancelled, 429, 5xx) are simply no longer
        pending, so that they can be deferred again; the rest is known to `fault`. Interrupted, it begins again.

        Raises:
            ModelRefused: key, quota or permission; or the provider found the batch itself at fault.
            Incomplete: no answer.
        """
        query = "SELECT token, at, bytes, file, batch FROM batches WHERE place = ? ORDER BY at"
        said = []
        refused = ""
        for row in self._rows.execute(query, (self._place,)).fetchall():
            opened = _Open(*row)
            batch = opened.batch or await self._adopted(opened)
            if batch is None:
                continue
            told = await self._call("GET", f"/batches/{batch}")
            status = str(told.get("status"))
            if status in ENDED:
                refused = await self._end(opened, batch, told, status) or refused
            else:
                said.append(f"batch {batch} {status[:40]}{_progress(told)}")
        if refused:
            raise ModelRefused(refused)
        return "; ".join(said) or None

    async def _adopted(self, opened: _Open) -> str | None:
        """The batch of an intent that was cut short, created now where only its file had arrived; None: start over."""
        batch, files = await self._find(opened)
        wait = opened.at + SETTLE - time.time()
        if batch is None and 0 < wait <= SETTLE:
            await asyncio.sleep(wait)
            batch, files = await self._find(opened)
        if batch is not None:
            self._record(opened, batch=batch)
            return batch
        if files:
            return await self._create(self._record(opened, file=files[0]))
        self._forget(opened)
        self._spare.append(opened.token)
        return None

    async def _find(self, opened: _Open) -> tuple[str | None, list[str]]:
        """The batch that carries the intent's token or was made of its file, and the files that carry it, whole."""
        files = [
            _id(one)
            async for one in self._listed("/files?purpose=batch&limit=1000")
            if one.get("filename") == opened.filename and one.get("bytes") in (opened.bytes, None)
        ]
        if opened.file is not None and opened.file not in files:
            files.insert(0, opened.file)
        async for one in self._listed("/batches?limit=100"):
            if (one.get("metadata") or {}).get(TOKEN) == opened.token or one.get("input_file_id") in files:
                return _id(one), files
        return None, files

    async def _listed(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """Every entry of a list, page by page."""
        after = ""
        for _ in range(MAX_PAGES):
            page = await self._call("GET", path + after)
            found = [one for one in page.get("data") or [] if isinstance(one, dict)]
            for one in found:
                yield one
            if not page.get("has_more") or not found:
                return
            after = f"&after={_id(found[-1])}"

    async def _end(self, opened: _Open, batch: str, told: Mapping[str, Any], status: str) -> str:
        """Write down all that an ended batch has; gives what must stop the run, or nothing."""
        query = "SELECT key FROM batch_lines WHERE token = ?"
        found = _Found({key for (key,) in self._rows.execute(query, (opened.token,))})
        for kind in ("output_file_id", "error_file_id"):
            if told.get(kind):
                await self._read(_id(told, kind), found)
        if status == "completed":
            for key in found.keys:
                found.again[key] = ("no answer", f"{self.name}: batch {batch} ended without a word on this request")
        elif status == "failed":
            why = self._plain(_first_error(told))
            found.faults["batch failed"] += 1
            if FULL not in why:
                found.refused = f"{self.name} did not take batch {batch}: {why}"
        elif found.keys:
            found.faults[status] += len(found.keys)
        self._close_batch(opened, found)
        return found.refused

    async def _read(self, file: str, found: _Found) -> None:
        """Take every line of one output file; begin again where the connection breaks."""
        for attempt in range(TRIES):
            group: list[tuple[bytes, Reply]] = []
            try:
                async for raw in self._lines(f"/files/{file}/content"):
                    taken = self._line(raw, found)
                    if taken is not None:
                        group.append(taken)
                    if len(group) >= GROUP:
                        await self._put(group)
                        group.clear()
            except _Unsure:
                if attempt == TRIES - 1:
                    raise
                await asyncio.sleep(_pause(attempt))
            else:
                return
            finally:
                await self._put(group)

    async def _put(self, group: list[tuple[bytes, Reply]]) -> None:
        known = "SELECT 1 FROM calls WHERE key = ?"
        new = [(key, reply) for key, reply in group if self._rows.execute(known, (key,)).fetchone() is None]
        await asyncio.gather(*(self.journal.put(key, reply) for key, reply in new))

    def _line(self, raw: bytes, found: _Found) -> tuple[bytes, Reply] | None:
        """One line of a file: a reply, or None and a note in `found`. Lines of requests not asked about are nothing."""
        try:
            line = orjson.loads(raw)
            key = bytes.fromhex(line["custom_id"])
            answer = line.get("response") or {}
            error = line.get("error") or {}
            status, body = answer.get("status_code"), answer.get("body")
            code = str(error.get("code") or "")
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if key not in found.keys:
            return None
        found.keys.discard(key)
        if status == HTTPStatus.OK:
            return self._answered(key, body, found)
        if code in {"batch_expired", "batch_cancelled"}:
            found.faults[code.removeprefix("batch_")] += 1
            return None
        reason = self._plain(orjson.dumps(body if answer else error).decode("utf-8", "replace"))
        if status in STOP or (status == HTTPStatus.BAD_REQUEST and "response_format" in reason):
            found.refused = f"{self.name} refuses: {status}: {reason}"
        elif isinstance(status, int) and 400 <= status < 500 and status not in UNSURE | {429}:  # noqa: PLR2004
            found.final[key] = ("refused by server", f"{self.name}: {status}: {reason}")
            return None
        else:
            found.again[key] = (str(status or "no answer"), f"{self.name}: {status or code}: {reason}")
        return None

    def _answered(self, key: bytes, body: Any, found: _Found) -> tuple[bytes, Reply] | None:
        try:
            choice = body["choices"][0]
            message = choice["message"]
            text, refusal = message.get("content"), message.get("refusal")
            finish = str(choice.get("finish_reason") or "stop")
            usage = body.get("usage") or {}
            tokens_in, tokens_out = _tokens(usage.get("prompt_tokens")), _tokens(usage.get("completion_tokens"))
        except (LookupError, TypeError, AttributeError):
            found.again[key] = ("no completion", f"{self.name} sent no chat completion: {str(body)[:200]}")
            return None
        price, cost = self._price, None
        if price is not None and tokens_in is not None and tokens_out is not None:
            cost = DISCOUNT * (tokens_in * price[0] + tokens_out * price[1])
        words = text if isinstance(text, str) else ""
        reply = Reply(words, self.name, None, tokens_in, tokens_out, cost, finish)
        if words and finish != "content_filter":
            return key, reply
        kind = "refused" if refusal or words else "empty"
        reason = refusal or ("its content filter stopped the reply" if words else "the reply is empty")
        found.final[key] = (kind, f"{self.name}: {self._plain(str(reason))}")
        found.paid.append((kind, reply))
        return None

    @cached_property
    def _price(self) -> tuple[float, float] | None:
        """US dollars per token, in and out, of a plain call."""
        return rates(self.alias)

    def _close_batch(self, opened: _Open, found: _Found) -> None:
        """In one transaction: what failed, and that the batch is over; a kill before it collects the same again."""
        found.faults.update(kind for kind, _ in (*found.final.values(), *found.again.values()))
        now = time.time()
        with self._written() as rows:
            rows.executemany(
                "INSERT OR REPLACE INTO batch_faults VALUES (?, 1, 1, ?, ?)",
                [(key, *said) for key, said in found.final.items()],
            )
            rows.executemany(
                "INSERT INTO batch_faults VALUES (?, 1, 0, ?, ?) ON CONFLICT (key) DO UPDATE SET"
                " tries = tries + 1, final = tries + 1 >= ?, kind = excluded.kind, reason = excluded.reason",
                [(key, *said, TRIES) for key, said in found.again.items()],
            )
            rows.executemany(
                "INSERT INTO lost (kind, model, text, tokens_in, tokens_out, cost, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(kind, r.model, r.text, r.tokens_in, r.tokens_out, r.cost, now) for kind, r in found.paid],
            )
            rows.executemany(
                "INSERT INTO faults VALUES (?, ?) ON CONFLICT (kind) DO UPDATE SET count = count + excluded.count",
                list(found.faults.items()),
            )
            _drop(rows, opened.token)

    # ── the wire ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            headers = {"Accept-Encoding": "identity"}
            if self.variable:
                self._secret = os.environ.get(self.variable, "").strip()
                if not self._secret:
                    raise ModelRefused(f"{self.name}: no key; type: export {self.variable}=…")
                headers["Authorization"] = f"Bearer {self._secret}"
            # No total: 100 MiB take as long as they take, while bytes move.
            waits = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=self.alias.timeout)
            self._session = aiohttp.ClientSession(headers=headers, timeout=waits, auto_decompress=False)
        return self._session

    async def _call(self, method: str, path: str, data: Any = None) -> dict[str, Any]:
        """The JSON object that the server answers. A GET is tried TRIES times, a POST once.

        Raises:
            ModelRefused: a definite no.
            _Unsure: no answer, or none that says whether it was done.
            Incomplete: 429 to a POST, which was not done.
        """
        for attempt in range(TRIES):
            try:
                return await self._call_once(method, path, data)
            except _Unsure:
                if method != "GET" or attempt == TRIES - 1:
                    raise
            await asyncio.sleep(_pause(attempt))
        raise AssertionError("unreachable")

    async def _call_once(self, method: str, path: str, data: Any) -> dict[str, Any]:
        import aiohttp

        headers = {"Content-Type": "application/json"} if isinstance(data, bytes) else {}
        try:
            async with self._connected().request(
                method, self.url + path, data=data, headers=headers, allow_redirects=False
            ) as answer:
                payload = await answer.content.read(MAX_LINE)
                while not answer.content.at_eof() and len(payload) < MAX_LINE:
                    payload += await answer.content.read(MAX_LINE - len(payload))
                self._judge(method, path, answer.status, payload)
            said = orjson.loads(payload)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise _Unsure(self._plain(f"{self.name}: {method} {path}: {type(error).__name__} {error}")) from None
        except ValueError:
            raise _Unsure(self._plain(f"{self.name}: {method} {path}: not JSON: {payload[:200]!r}")) from None
        if not isinstance(said, dict):
            raise _Unsure(f"{self.name}: {method} {path}: not a JSON object")
        return said

    async def _lines(self, path: str) -> AsyncIterator[bytes]:
        """The lines of a file as they arrive. A file that is no longer there has none."""
        import aiohttp

        waiting = bytearray()
        try:
            async with self._connected().get(self.url + path, allow_redirects=False) as answer:
                if answer.status == HTTPStatus.NOT_FOUND:
                    return  # the batch is there, so the key is right: the provider has dropped the file
                if answer.status != HTTPStatus.OK:
                    self._judge("GET", path, answer.status, await answer.content.read(2_000))
                async for piece in answer.content.iter_any():
                    *whole, rest = piece.split(b"\n")
                    for line in whole:
                        waiting += line
                        if waiting:
                            yield bytes(waiting)
                        waiting.clear()
                    if len(waiting) + len(rest) <= MAX_LINE:
                        waiting += rest
                    else:
                        waiting[:] = b"too long"  # no JSON, whatever follows
        except (TimeoutError, aiohttp.ClientError) as error:
            raise _Unsure(self._plain(f"{self.name}: GET {path}: {type(error).__name__} {error}")) from None
        if waiting:
            yield bytes(waiting)

    def _judge(self, method: str, path: str, status: int, payload: bytes) -> None:
        """Pass on 200 and 201 only."""
        if status in (HTTPStatus.OK, HTTPStatus.CREATED):
            return
        said = self._plain(f"{self.name}: {method} {path}: {status}: {payload[:300].decode('utf-8', 'replace')}")
        if status in UNSURE or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Unsure(said)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise _Unsure(said) if method == "GET" else Incomplete(said)
        if status == HTTPStatus.NOT_FOUND and path.startswith("/batches/"):
            raise ModelRefused(f"{said}; the batch is another account's, or it is gone")
        if status < HTTPStatus.BAD_REQUEST:  # followed, it would carry the key to another address
            raise ModelRefused(f"{self.name}: {method} {path}: {status}: redirects are not followed; mend api_base")
        raise ModelRefused(said)

    def _plain(self, said: str) -> str:
        """At most 400 characters of what the server said, without the key, which some repeat."""
        return (said.replace(self._secret, "…") if self._secret else said)[:400]

    async def close(self) -> None:
        """Close connections and files; what was queued and not submitted is deferred again by the next invocation."""
        for part in self._parts:
            part.file.close()
        self._parts.clear()
        self._queued.clear()
        self._rows.close()
        if self._session is not None:
            await self._session.close()
            self._session = None


class _Transaction:
    """All or nothing, on disk when it is left."""

    def __init__(self, rows: sqlite3.Connection, path: str) -> None:
        self.rows, self.path = rows, path

    def __enter__(self) -> sqlite3.Connection:
        return self.rows.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.rows.__exit__(kind, error, trace)
        except sqlite3.Error as failed:
            raise RunError(f"{self.path}: journal cannot be written: {failed}") from None
        if isinstance(error, sqlite3.Error):
            raise RunError(f"{self.path}: journal cannot be written: {error}") from None


def _drop(rows: sqlite3.Connection, token: str) -> None:
    rows.execute("DELETE FROM batches WHERE token = ?", (token,))
    rows.execute("DELETE FROM batch_lines WHERE token = ?", (token,))


def _id(told: Mapping[str, Any], name: str = "id") -> str:
    """An id that may stand in an address.

    Raises:
        _Unsure: there is none, or it would change the address.
    """
    found = told.get(name)
    if isinstance(found, str) and _ID.fullmatch(found) and set(found) != {"."}:
        return found
    raise _Unsure(f"the server sent no {name}: {str(dict(told))[:200]}")


def _tokens(count: Any) -> int | None:
    """A count of tokens as servers should give it; anything else is unknown."""
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _progress(told: Mapping[str, Any]) -> str:
    """`, 120 of 2,000 done`; nothing where the server does not count."""
    counts = told.get("request_counts")
    if not isinstance(counts, dict):
        return ""
    total, done = _tokens(counts.get("total")), _tokens(counts.get("completed"))
    if not total or done is None:
        return ""
    return f", {done + (_tokens(counts.get('failed')) or 0):,} of {total:,} done"


def _first_error(told: Mapping[str, Any]) -> str:
    """What a failed batch says of itself: the first of its errors."""
    errors = told.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else errors
    first = listed[0] if isinstance(listed, list) and listed else "it does not say why"
    return f"{first.get('code')}: {first.get('message')}" if isinstance(first, dict) else str(first)


def _pause(attempt: int) -> float:
    """Seconds before the next try: half to a whole one, then twice that."""
    return random.uniform(0.5, 1.0) * (1 << attempt)
