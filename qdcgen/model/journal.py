"""The journal: request → reply, in SQLite. What is in it is never paid for again.

Replies that arrive in one turn of the event loop share a transaction, and count as received when it is over: a kill
repeats at most the calls in flight. WAL without a sync per commit: a killed process loses nothing that was committed; a
power cut may lose the last seconds, which are asked again. In the loop's own thread: handing each reply to a writer
thread cost 5 ms of waiting for the interpreter's lock, 2.5 % of a call of 200 ms.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from qdcgen.errors import RowFault, RunDamaged, RunError
from qdcgen.rows import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from qdcgen.rows import Request

__all__ = ["Journal", "Totals", "damage", "key"]

FORMAT = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS about (format INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    key BLOB PRIMARY KEY, model TEXT NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL,
    tokens_in INTEGER, tokens_out INTEGER, cost REAL, seconds REAL NOT NULL, at REAL NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0, used REAL NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS lost (
    kind TEXT NOT NULL, model TEXT NOT NULL, text TEXT NOT NULL,
    tokens_in INTEGER, tokens_out INTEGER, cost REAL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS pruned (
    calls INTEGER NOT NULL, tokens_in INTEGER, tokens_out INTEGER, cost REAL, unknown INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS faults (kind TEXT PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    token TEXT PRIMARY KEY, place TEXT NOT NULL, at REAL NOT NULL, bytes INTEGER NOT NULL, file TEXT, batch TEXT
);
CREATE TABLE IF NOT EXISTS batch_lines (
    key BLOB NOT NULL, token TEXT NOT NULL, PRIMARY KEY (key, token)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_faults (
    key BLOB PRIMARY KEY, tries INTEGER NOT NULL, final INTEGER NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID;
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


class _Entry(NamedTuple):
    """One statement that waits for the next transaction."""

    statement: str
    values: tuple[Any, ...]
    done: asyncio.Future[None]


class Totals(NamedTuple):
    """What all invocations of a run spent. `cost` is in US dollars, None when the price of any reply is unknown."""

    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    faults: dict[str, int]


class Journal:
    """Replies by request key. Open one per run folder; its lock is the run folder's."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            RunDamaged: it is no journal, or one of another format; says which and the way out.
        """
        self.path = path
        try:
            self._connection = self._connect()
            self._connection.executescript(_TABLES)
            found = self._connection.execute("SELECT format FROM about").fetchone()
            if found is None:
                self._connection.execute("INSERT INTO about VALUES (?)", (FORMAT,))
                self._connection.commit()
            elif found[0] != FORMAT:
                raise RunDamaged(f"{path}: journal of format {found[0]}; this qdcgen reads format {FORMAT}")
        except sqlite3.OperationalError as error:
            raise RunError(f"{path}: journal cannot be opened: {error}") from None
        except sqlite3.DatabaseError as error:
            message = f"{path}: no longer a readable journal ({error}); move it away to ask everything again"
            raise RunDamaged(message) from None
        self._group: list[_Entry] = []
        self._hits: dict[bytes, int] = {}

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=10)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint=16384")  # 64 MiB: each checkpoint syncs, and holds up the loop
        return connection

    def get(self, name: bytes) -> Reply | None:
        """The reply to the request called `name`, if it was ever answered; about 8 µs."""
        try:
            found = self._connection.execute(
                "SELECT text, model, tokens_in, tokens_out, cost, finish, seconds FROM calls WHERE key = ?", (name,)
            ).fetchone()
        except sqlite3.Error as error:
            raise RunDamaged(f"{self.path}: journal cannot be read: {error}; restore it from a copy") from None
        if found is None:
            return None
        text, model, tokens_in, tokens_out, cost, finish, seconds = found
        self._hits[name] = self._hits.get(name, 0) + 1
        return Reply(text, model, None, tokens_in, tokens_out, cost, finish, seconds, journaled=True)

    async def put(self, name: bytes, reply: Reply) -> None:
        """Return when the reply is in the file."""
        values = (reply.model, reply.text, reply.finish, reply.tokens_in, reply.tokens_out, reply.cost, reply.seconds)
        await self.write(
            "INSERT OR REPLACE INTO calls (key, model, text, finish, tokens_in, tokens_out, cost, seconds, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (name, *values, time.time()),
        )

    async def lose(self, kind: str, reply: Reply) -> None:
        """Keep the text and the cost of a reply that cannot be used; it is never served again."""
        values = (kind, reply.model, reply.text, reply.tokens_in, reply.tokens_out, reply.cost, time.time())
        await self.write("INSERT INTO lost VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    async def write(self, statement: str, values: tuple[Any, ...]) -> None:
        """Return when the statement's transaction is over.

        Raises:
            RunError: SQLite refused it; nothing of its group was written.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if not self._group:
            loop.call_soon(self._flush)
        self._group.append(_Entry(statement, values, done))
        await done

    def _flush(self) -> None:
        """One transaction for everything that came in during one turn of the event loop; 0.1 ms and 8 µs an entry."""
        group, self._group = self._group, []
        failed: dict[int, Exception] = {}
        try:
            with self._connection as connection:
                for number, entry in enumerate(group):
                    try:
                        connection.execute(entry.statement, entry.values)
                    except (OverflowError, ValueError) as error:  # half a surrogate pair, a number beyond 64 bits
                        failed[number] = RowFault("unwritable", f"a reply that cannot be journaled: {error}")
        except sqlite3.Error as error:
            fault = RunError(f"{self.path}: journal cannot be written: {error}")
            failed = dict.fromkeys(range(len(group)), fault)
        for number, entry in enumerate(group):
            if entry.done.done():
                continue
            if number in failed:
                entry.done.set_exception(failed[number])
            else:
                entry.done.set_result(None)

    def totals(self) -> Totals:
        """What was spent over all invocations, unusable replies included; faults by kind."""
        said = self._connection.execute(
            "SELECT COUNT(*), TOTAL(tokens_in), TOTAL(tokens_out), TOTAL(cost), COUNT(*) - COUNT(cost) FROM"
            " (SELECT tokens_in, tokens_out, cost FROM calls UNION ALL SELECT tokens_in, tokens_out, cost FROM lost)"
        ).fetchone()
        gone = self._connection.execute(
            "SELECT TOTAL(calls), TOTAL(tokens_in), TOTAL(tokens_out), TOTAL(cost), TOTAL(unknown) FROM pruned"
        ).fetchone()
        calls, tokens_in, tokens_out, cost, unknown = (a + b for a, b in zip(said, gone, strict=True))
        faults = dict(self._connection.execute("SELECT kind, count FROM faults ORDER BY kind"))
        return Totals(int(calls), int(tokens_in), int(tokens_out), None if unknown else cost, faults)

    def by_model(self) -> dict[str, Totals]:
        """What was spent on each model, unusable replies included, the most asked first; faults are not told apart.

        What was pruned stands under the empty name: its model is not known.
        """
        said = self._connection.execute(
            "SELECT model, COUNT(*), TOTAL(tokens_in), TOTAL(tokens_out), TOTAL(cost), COUNT(*) - COUNT(cost) FROM"
            " (SELECT model, tokens_in, tokens_out, cost FROM calls"
            " UNION ALL SELECT model, tokens_in, tokens_out, cost FROM lost) GROUP BY model ORDER BY 2 DESC, 1"
        ).fetchall()
        gone = self._connection.execute(
            "SELECT '', TOTAL(calls), TOTAL(tokens_in), TOTAL(tokens_out), TOTAL(cost), TOTAL(unknown) FROM pruned"
        ).fetchall()
        return {
            model: Totals(int(calls), int(tokens_in), int(tokens_out), None if unknown else cost, {})
            for model, calls, tokens_in, tokens_out, cost, unknown in (*said, *gone)
            if calls
        }

    def count(self, faults: Mapping[str, int]) -> None:
        """Add to the faults by kind, and write down which replies were used again."""
        now = time.time()
        with self._connection as connection:
            connection.executemany(
                "INSERT INTO faults VALUES (?, ?) ON CONFLICT (kind) DO UPDATE SET count = count + excluded.count",
                list(faults.items()),
            )
            connection.executemany(
                "UPDATE calls SET hits = hits + ?, used = ? WHERE key = ?",
                [(hits, now, name) for name, hits in self._hits.items()],
            )
        self._hits.clear()

    def about(self) -> dict[str, Any]:
        """Size in bytes, replies, hits, unusable replies, oldest and newest: what `qdcgen journal` prints."""
        replies, hits, oldest, newest = self._connection.execute(
            "SELECT COUNT(*), TOTAL(hits), MIN(at), MAX(at) FROM calls"
        ).fetchone()
        lost = self._connection.execute("SELECT COUNT(*) FROM lost").fetchone()[0]
        models = dict(self._connection.execute("SELECT model, COUNT(*) FROM calls GROUP BY model ORDER BY model"))
        size = sum(path.stat().st_size for path in self.path.parent.glob(f"{self.path.name}*"))
        return {
            "file": str(self.path),
            "bytes": size,
            "replies": replies,
            "hits": int(hits),
            "unusable": lost,
            "models": models,
            "oldest": oldest,
            "newest": newest,
        }

    def prune(self, days: float) -> int:
        """Drop replies neither made nor used in the last `days` days, and the unusable ones; gives how many replies."""
        since = time.time() - days * 86_400
        with self._connection as connection:
            for old in ("FROM calls WHERE MAX(at, used) < ?", "FROM lost WHERE at < ?"):  # what they cost stays known
                connection.execute(
                    "INSERT INTO pruned SELECT COUNT(*), TOTAL(tokens_in), TOTAL(tokens_out), TOTAL(cost),"
                    f" COUNT(*) - COUNT(cost) {old}",
                    (since,),
                )
            dropped = connection.execute("DELETE FROM calls WHERE MAX(at, used) < ?", (since,)).rowcount
            connection.execute("DELETE FROM lost WHERE at < ?", (since,))
        self._connection.execute("VACUUM")
        return dropped

    def close(self) -> None:
        """Write what is waiting, then close."""
        if self._group:
            self._flush()
        self._connection.close()


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
