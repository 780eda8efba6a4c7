"""Starts the processes in which a model's code is read and run, and ends them: every one, whatever it does."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from qdcgen.errors import UsageError
from qdcgen.safe import printable

__all__ = ["Ended", "Reader", "check", "run"]

HERE = Path(__file__).parent
STARTING = 30.0
"""Seconds in which a process must have started and locked itself: 0.05 on an idle machine."""
READING = 30.0
"""Seconds by the clock for one text, on top of the 2 s of CPU time that its process bounds."""
FLOOD = 1 << 20
"""Bytes of errors that a program may write; it is ended there."""
TAIL = 4_096
SHOWN = 200


class Reader:
    """A process that parses texts, started when first asked and again after a text that ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def fault(self, language: str, text: str, *, compiled: bool, dialect: str | None) -> str | None:
        """Why `text` does not parse, or None. Takes 2 s of CPU time at most."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._start()
        asked = json.dumps({"language": language, "text": text, "compile": compiled, "dialect": dialect})
        assert process.stdin is not None  # noqa: S101  (it was asked for)
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(asked.encode() + b"\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as waiting:
                waiting.register(process.stdout, selectors.EVENT_READ)
                line = process.stdout.readline() if waiting.select(READING) else b""
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            _end(process)
            code = process.returncode
            if code == -signal.SIGPROF:
                return "the parser takes more than 2 seconds over it"
            return f"the parser gives up on it ({_died(code)})"
        said = json.loads(line)
        return None if said is None else printable(str(said))[:SHOWN]

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603  (our own script)
            [sys.executable, "-I", "-B", str(HERE / "reading.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )
        self._process = process
        weakref.finalize(self, _end, process)
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with all of its group, and wait for it."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # what had not been sent to it


def _died(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


class Ended(NamedTuple):
    """How a program ended: whether it ran to its end, whether its test did, and what is wrong, if anything is."""

    ran: bool
    tested: bool
    fault: str | None


def run(program: str, test: str | None = None, *, seconds: float, memory_mb: int) -> Ended:
    """Run a Python program, and then its test in the same names, locked in as `locked` says.

    Raises:
        UsageError: this machine cannot lock it in; it was not run.
    """
    with tempfile.TemporaryDirectory(prefix="qdcgen-") as folder:
        process = subprocess.Popen(  # noqa: S603  (our own script)
            # As -I, but the environment is ours: hashes, and so the order of sets, are the same in every run.
            [sys.executable, "-s", "-P", "-S", "-B", "-X", "utf8", str(HERE / "locked.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={"PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        try:
            orders = {
                "program": program,
                "test": test,
                "seconds": seconds,
                "memory_mb": memory_mb,
                "parent": os.getpid(),
            }
            return _watched(process, json.dumps(orders).encode(), seconds)
        finally:
            _end(process)


def _watched(process: subprocess.Popen[bytes], orders: bytes, seconds: float) -> Ended:
    """Give the process its orders, and read what it says until it ends or its time is up."""
    assert process.stdin is not None  # noqa: S101  (they were asked for)
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    try:
        process.stdin.write(orders)
        process.stdin.close()
    except BrokenPipeError:
        process.stdin = None  # it ended before it read all of it, and says why
    said, errors, written = b"", b"", 0
    until = time.monotonic() + STARTING
    with selectors.DefaultSelector() as waiting:
        for pipe in (process.stdout, process.stderr):
            waiting.register(pipe, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(max(until - time.monotonic(), 0.0))
            if not ready:
                return _late(said, seconds)
            begun = _locked(said)
            for key, _ in ready:
                got = os.read(key.fd, 1 << 16)
                if not got:
                    waiting.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    said = (said + got)[:TAIL]
                else:
                    written += len(got)
                    errors = (errors + got)[-TAIL:]
            if not begun and _locked(said):
                until = time.monotonic() + seconds
            if written > FLOOD:
                return _failed(said, "it writes more than 1 MiB of errors")
    try:
        process.wait(max(until - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:  # it closed its outputs and goes on
        return _late(said, seconds)
    return _ended(process.returncode, said, errors)


def _ended(code: int, said: bytes, errors: bytes) -> Ended:
    if not _locked(said):
        why = said.decode("utf-8", "replace").strip().removeprefix("unlocked ") or _last(errors) or _died(code)
        raise UsageError(_CANNOT.format(why=printable(why)[:SHOWN]))
    if code == 0:
        return Ended(ran=True, tested=b"\ntested\n" in said, fault=None)
    return _failed(said, _last(errors) or f"it ends with {_died(code)}")


def _locked(said: bytes) -> bool:
    """Whether the process locked itself in; what comes after that may be the program's own words."""
    return said.startswith(b"locked\n")


_CANNOT = (
    "this machine cannot lock a program in ({why}), and qdcgen runs none that is not: take `run:` out of the filter "
    "`code`, or run on Linux 5.13 or later with seccomp and Landlock"
)


def _late(said: bytes, seconds: float) -> Ended:
    if not _locked(said):
        raise UsageError(_CANNOT.format(why=f"nothing heard in {STARTING:g} seconds"))
    return _failed(said, f"it does not end within {seconds:g} seconds")


def _failed(said: bytes, fault: str) -> Ended:
    return Ended(ran=b"\nran\n" in said, tested=False, fault=fault)


def _last(errors: bytes) -> str:
    """The last line that says something, clipped and harmless."""
    lines: Sequence[str] = [line.strip() for line in errors.decode("utf-8", "replace").splitlines()]
    return printable(next((line for line in reversed(lines) if line), ""))[:SHOWN]


PROBES = (
    ("opens a socket", "import socket; socket.socket()"),
    ("reads the system's files", "open('/etc/passwd').read()"),
    ("lists the root folder", "import os; os.listdir('/')"),
    ("writes a file", "open('a', 'w')"),
    ("starts a process", "import os; os.fork()"),
)


@cache
def check() -> None:
    """Lock in five programs that try what none may, once for every process.

    Raises:
        UsageError: this machine cannot lock a program in, or one of them did what it tried.
    """
    fine = run("pass", seconds=STARTING, memory_mb=256)
    if fine.fault is not None:
        raise UsageError(_CANNOT.format(why=f"an empty program does not run: {fine.fault}"))
    for what, program in PROBES:
        found = run(program, seconds=STARTING, memory_mb=256)
        if found.fault is None or "PermissionError" not in found.fault:
            raise UsageError(_CANNOT.format(why=f"a program there {what}: {found.fault or 'nothing stops it'}"))
