"""The filter `code`: code that parses, and on request runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from qdcgen.errors import nearest
from qdcgen.parts import Filter, Problem, Scene, Settings, Tools, is_text
from qdcgen.rows import Row, Verdict
from qdcgen.sandbox.processes import Reader, check, run

LONGEST = 1 << 20
"""Bytes of UTF-8 in a field; nobody trains on more, and parsers take seconds and gigabytes over it."""
LONGEST_SQL = 100_000
"""Likewise for SQL: its parser takes 3 s for 700 kB."""
FENCE = re.compile(r"`{3,}|~{3,}")


class Run(Settings):
    """How a program is run."""

    seconds: float = Field(default=2, gt=0, le=60)
    """Time by the clock that it has; a program that takes just about that long may be judged either way."""
    memory_mb: int = Field(default=256, ge=64, le=4096)
    """MiB of memory that it has, some 20 of them Python's own."""
    test: str | None = None
    """Field with a test (assertions, say), run after the program in the same names; both must end without an error."""


class Code(Filter):
    """Keeps rows whose field is Python, JSON or SQL that parses; with `compile` or `run`, Python that compiles or runs.

    `{code: {field: answer, language: python}}`. A field that is one fenced block as a whole (three backticks) is looked
    at without its fence; a field with no code in it is dropped. Parsers have a process of their own, 1 GiB and 2
    seconds of CPU time a text, so that no text can crash or hang the run. Python is the Python that qdcgen runs on.
    JSON is strict: no key twice, no NaN, nothing after the value. SQL is read by `sqlglot`, which is lenient: it
    accepts some statements that a database refuses, and looks at no more than the first word of rare ones (`SHOW …`).

    `run: {seconds: 2, memory_mb: 256}` runs Python, one process a row, kept where it ends with exit code 0 in time. It
    is off by default, for Linux only (5.13 or later, x86-64 or ARM), and needs no privilege. The kernel (seccomp,
    Landlock, rlimits) holds the program to one process and one thread without network, that reads Python's own library
    and shared system libraries, writes nothing, and signals nobody: what starts threads, opens files or sockets fails,
    and its row is dropped, so do not ask for rows about these. It can learn whether a path exists, and the time; a
    program that means to can cheat its own test. A hole in the kernel is a hole in this. Where the machine cannot lock
    programs in, `check` and the run refuse; nothing ever runs unlocked.
    """

    short: ClassVar[str | None] = "field"

    field: str
    """Field with the code."""
    language: Literal["python", "json", "sql"] = "python"
    """What it must be."""
    dialect: str | None = None
    """For SQL: a dialect as sqlglot names it (`postgres`, `sqlite`, `mysql`, `tsql`, …); default: what most share."""
    compile: bool = False
    """For Python: also compile it, which finds `return` outside of functions and the like. Runs nothing."""
    run: Run | None = None
    """For Python: also run it, locked in; default: nothing is run."""

    @model_validator(mode="after")
    def _of_its_language(self) -> Code:
        for name in ("compile", "run"):
            if getattr(self, name) and self.language != "python":
                raise ValueError(f"{name} is for language: python, found {self.language}")
        if self.dialect is not None and self.language != "sql":
            raise ValueError(f"dialect is for language: sql, found {self.language}")
        return self

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The fields exist and hold text; sqlglot knows the dialect."""
        named: list[tuple[tuple[str | int, ...], str]] = [(("field",), self.field)]
        if self.run is not None and self.run.test is not None:
            named.append((("run", "test"), self.run.test))
        for path, name in named:
            if name not in scene.fields:
                yield Problem(path, f"no field called {name!r}{nearest(name, list(scene.fields))}")
            elif not is_text(scene.fields[name]):
                yield Problem(path, f"field {name!r} holds no text, so it holds no code")
        if self.dialect is not None:
            from sqlglot.dialects import DIALECTS

            known = sorted(one.lower() for one in DIALECTS)
            if self.dialect not in known:
                said = nearest(self.dialect, known) or f" (dialects: {', '.join(known)})"
                yield Problem(("dialect",), f"sqlglot knows no dialect {self.dialect!r}{said}")

    def read(self, tools: Tools) -> None:  # noqa: ARG002  (it reads no files)
        """Reads nothing, and makes sure that this machine can lock programs in where any are to run."""
        if self.run is not None:
            check()

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """Reads every row's code, then runs what parses, as many at once as there are processors."""
        if self.run is not None:
            await asyncio.to_thread(check)
        reader = tools.scratch.setdefault("reader", Reader()) if self.language != "json" else None
        faults = await asyncio.to_thread(lambda: [self._fault(row, reader) for row in rows])
        if self.run is not None:
            turns = asyncio.Semaphore(os.cpu_count() or 1)
            parsed = [place for place, fault in enumerate(faults) if fault is None]
            ran = await asyncio.gather(*(self._ran(rows[place], self.run, turns) for place in parsed))
            for place, fault in zip(parsed, ran, strict=True):
                faults[place] = fault
        return [Verdict(kept=fault is None, reason=fault or "") for fault in faults]

    def _fault(self, row: Row, reader: Reader | None) -> str | None:
        """Why the row's code does not parse, or None."""
        text = row.fields.get(self.field)
        if not isinstance(text, str):
            return f"{self.field} holds no text"
        code = unfenced(text)
        if not code.strip():
            return f"{self.field} is empty"
        most = LONGEST_SQL if self.language == "sql" else LONGEST
        size = len(code.encode("utf-8", "surrogatepass"))
        if size > most:
            return f"{self.field} has {size:,} bytes, more than the {most:,} that are looked at"
        if reader is None:
            fault = _json_fault(code)
        else:
            fault = reader.fault(self.language, code, compiled=self.compile, dialect=self.dialect)
        names = {"python": "Python", "json": "JSON", "sql": "SQL"}
        return None if fault is None else f"{self.field} is not {names[self.language]}: {fault}"

    async def _ran(self, row: Row, how: Run, turns: asyncio.Semaphore) -> str | None:
        """Why the row's program, or its test, does not run to its end, or None."""
        test = row.fields.get(how.test) if how.test is not None else None
        if how.test is not None and not (isinstance(test, str) and unfenced(test).strip()):
            return f"{how.test} holds no test"
        program = unfenced(row.fields[self.field])
        async with turns:
            ended = await asyncio.to_thread(
                run, program, unfenced(test) if test else None, seconds=how.seconds, memory_mb=how.memory_mb
            )
        if ended.fault is not None:
            return f"{how.test if ended.ran and test else self.field} does not run: {ended.fault}"
        return f"{self.field} ends before {how.test} is run" if test and not ended.tested else None


def unfenced(text: str) -> str:
    """The code of a text that is one fenced block as a whole; any other text as it stands."""
    block = text.strip()
    first, _, rest = block.partition("\n")
    opened = FENCE.match(first)
    if opened is None or "`" in first[opened.end() :] or not rest.endswith(opened[0]):
        return text
    code = rest.rstrip(opened[0][0]).rstrip(" \t")
    # Its end may be longer than its beginning where it has a line to itself; elsewhere the rest of it is code.
    code = code.removesuffix("\n") if code[-1:] in ("", "\n") else rest[: -len(opened[0])]
    return text if opened[0] in code else code


def _json_fault(text: str) -> str | None:
    """Why a text is not JSON, or None. Numbers are not converted, so that none is too long."""
    try:
        json.loads(text, object_pairs_hook=_once, parse_constant=_refused, parse_int=str, parse_float=str)
    except json.JSONDecodeError as error:
        return f"line {error.lineno}: {error.msg}"
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        return str(error)
    return None


def _once(pairs: list[tuple[str, Any]]) -> None:
    met: set[str] = set()
    for key, _ in pairs:
        if key in met:
            raise ValueError(f"the key {key[:60]!r} twice in one object")
        met.add(key)


def _refused(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
