"""The journal: request → reply, in SQLite. What is in it is never paid for again.

One thread writes, in groups: all replies that arrive while a transaction is under way go into the next one. A reply
counts as received when its transaction is over, so a kill repeats at most the calls in flight. WAL without a sync per
commit: a killed process loses nothing that was committed; a power cut may lose the last seconds, which are asked again.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson

from qdcgen.errors import RunDamaged, RunError
from qdcgen.rows import Reply

if TYPE_CHECKING:
    from pathlib import Path

    from qdcgen.rows import Request

__all__ = ["Journal", "key"]

FORMAT = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS about (format INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    key BLOB PRIMARY KEY, model TEXT NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL,
    tokens_in INTEGER, tokens_out INTEGER, cost REAL, seconds REAL NOT NULL, at REAL NOT NULL
);
"""


def key(request: Request) -> bytes:
    """16 bytes that name a request: model, messages, schema, sampling and the row's own stream; about 6 µs."""
    said = (
        request.model,
        list(request.messages),
        request.schema,
        request.temperature,
        request.top_p,
        request.max_tokens,
        request.seed,
    )
    return sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).digest()[:16]


class Journal:
    """Replies by request key. Open one per run folder; its lock is the run folder's."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            RunDamaged: it is no journal, or one of another format; says which and the way out.
        """
        self.path = path
        try:
            self._reader = self._connect()
            self._reader.executescript(_TABLES)
            found = self._reader.execute("SELECT format FROM about").fetchone()
            if found is None:
                self._reader.execute("INSERT INTO about VALUES (?)", (FORMAT,))
                self._reader.commit()
            elif found[0] != FORMAT:
                raise RunDamaged(f"{path}: journal of format {found[0]}; this qdcgen reads format {FORMAT}")
        except sqlite3.OperationalError as error:
            raise RunError(f"{path}: journal cannot be opened: {error}") from None
        except sqlite3.DatabaseError as error:
            message = f"{path}: no longer a readable journal ({error}); move it away to ask everything again"
            raise RunDamaged(message) from None
        self._waiting: queue.SimpleQueue[tuple[bytes, Reply, asyncio.AbstractEventLoop, asyncio.Future[None]] | None]
        self._waiting = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=10, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def get(self, name: bytes) -> Reply | None:
        """The reply to the request called `name`, if it was ever answered; about 8 µs."""
        found = self._reader.execute(
            "SELECT text, model, tokens_in, tokens_out, cost, finish, seconds FROM calls WHERE key = ?", (name,)
        ).fetchone()
        if found is None:
            return None
        text, model, tokens_in, tokens_out, cost, finish, seconds = found
        return Reply(text, model, None, tokens_in, tokens_out, cost, finish, seconds, journaled=True)

    async def put(self, name: bytes, reply: Reply) -> None:
        """Return when the reply is in the file."""
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
            self._writer.start()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.put((name, reply, loop, done))
        await done

    def _write(self) -> None:
        connection = self._connect()
        ending = False
        while not ending:
            group = [self._waiting.get()]
            while not self._waiting.empty():
                group.append(self._waiting.get())
            ending = None in group
            entries = [entry for entry in group if entry is not None]
            failed: Exception | None = None
            try:
                now = time.time()
                with connection:
                    connection.executemany(
                        "INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        [
                            (n, r.model, r.text, r.finish, r.tokens_in, r.tokens_out, r.cost, r.seconds, now)
                            for n, r, _, _ in entries
                        ],
                    )
            except sqlite3.Error as error:
                failed = RunError(f"{self.path}: journal cannot be written: {error}")
            for loop in {id(entry[2]): entry[2] for entry in entries}.values():
                mine = [entry[3] for entry in entries if entry[2] is loop]
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_settle, mine, failed)
        connection.close()

    def totals(self) -> tuple[int, int, int, float | None]:
        """Calls, tokens in, tokens out, and cost in US dollars (None: a price is unknown) over all invocations."""
        count, tokens_in, tokens_out, cost, unknown = self._reader.execute(
            "SELECT COUNT(*), TOTAL(tokens_in), TOTAL(tokens_out), TOTAL(cost), COUNT(*) - COUNT(cost) FROM calls"
        ).fetchone()
        return count, int(tokens_in), int(tokens_out), None if unknown else cost

    def close(self) -> None:
        """Write what is waiting, then close."""
        if self._writer is not None:
            self._waiting.put(None)
            self._writer.join()
            self._writer = None
        self._reader.close()


def _settle(futures: list[asyncio.Future[None]], failed: Exception | None) -> None:
    for future in futures:
        if not future.done():
            if failed is None:
                future.set_result(None)
            else:
                future.set_exception(failed)


def damage(path: Path) -> list[str]:
    """What SQLite's own check says against the journal, one line each; empty when it is sound or not there."""
    if not path.exists():
        return []
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        return [f"{path.name}: {error}"]
    return [f"{path.name}: {line}" for line in found if line != "ok"]
