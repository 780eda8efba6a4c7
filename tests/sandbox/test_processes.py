"""Programs are locked in: what they try outside of themselves fails, and they leave nothing behind."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from qdcgen.errors import UsageError
from qdcgen.sandbox import locked, processes
from qdcgen.sandbox.processes import Ended, Reader, run


def able() -> bool:
    try:
        processes.check()
    except UsageError:
        return False
    return True


needs_lock = pytest.mark.skipif(not able(), reason="this machine cannot lock programs in")


def fault(program: str, test: str | None = None, **settings: float) -> str:
    found = run(program, test, **{"seconds": 2, "memory_mb": 256, **settings})
    return found.fault or ""


@needs_lock
@pytest.mark.parametrize(
    "program",
    [
        "print('x' * 10_000_000)",
        "import sys; sys.exit(0)",
        "import sys; sys.exit()",
        "assert __name__ == '__main__'",
        "import asyncio\nasync def f(): await asyncio.sleep(0.01)\nasyncio.run(f())",
        "import json, re, decimal, datetime, random, hashlib, statistics, dataclasses, unittest, csv, zoneinfo",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nassert A(1) == A(1)",
        "open('/dev/null', 'w').write('a')",
        "import os; assert not os.environ and not os.listdir('.')",
    ],
)
def test_a_program_that_keeps_to_itself_runs(program):
    assert run(program, seconds=10, memory_mb=256) == Ended(ran=True, tested=False, fault=None)


@needs_lock
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "it ends with exit code 3"),
        ("import ctypes; ctypes.string_at(0)", "it ends with SIGSEGV"),
        ("import os; os.abort()", "it ends with SIGABRT"),
        ("input()", "EOFError: EOF when reading a line"),
        ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("a = bytearray(10**9)", "MemoryError"),
        ("a = []\nwhile True: a.append('x' * 10**6)", "MemoryError"),
        ("raise ValueError('\\x1b[31m red \\u202e')", r"ValueError: \x1b[31m red \u202e"),
        ("import sys\nwhile True: sys.stderr.write('x' * 10**6)", "it writes more than 1 MiB of errors"),
    ],
)
def test_a_program_that_fails_says_its_last_line(program, expected):
    assert fault(program, seconds=20) == expected


@needs_lock
@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "while True: print('x' * 10**6)",
        "import os\nfor fd in range(20):\n  try: os.close(fd)\n  except OSError: pass\nwhile True: pass",
        "import signal\nfor s in (1, 2, 3, 10, 12, 14, 15, 24): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
    ],
)
def test_a_program_that_goes_on_is_ended(program):
    begun = time.monotonic()
    assert fault(program, seconds=0.5) == "it does not end within 0.5 seconds"
    assert time.monotonic() - begun < 10


FORBIDDEN = {
    "a socket": "import socket; socket.socket()",
    "a socket of the machine": "import socket; socket.socket(socket.AF_UNIX)",
    "a name looked up": "import socket; s = socket.create_connection(('127.0.0.1', 1))",
    "a pair that could send elsewhere": "import socket; socket.socketpair(type=socket.SOCK_DGRAM)",
    "an address through a pair": "import socket; a, b = socket.socketpair(); a.sendto(b'x', '\\0name')",
    "the system's files": "open('/etc/passwd').read()",
    "a listing": "import os; os.listdir('/')",
    "its own environment": "open('/proc/self/environ').read()",
    "its parent's environment": "import os; open(f'/proc/{os.getppid()}/environ').read()",
    "a file here": "open('a', 'w')",
    "a file in /tmp": "open('/tmp/qdcgen-probe', 'w')",
    "shared memory": "open('/dev/shm/qdcgen-probe', 'w')",
    "a folder": "import os; os.mkdir('a')",
    "a link": "import os; os.symlink('/etc/passwd', 'a')",
    "a mode": "import os; os.chmod('/tmp', 0)",
    "a process": "import os; os.fork()",
    "a bomb": "import os\nwhile True: os.fork()",
    "a thread": "import _thread; _thread.start_new_thread(print, ())",
    "another program": "import os; os.execv('/bin/sh', ['sh'])",
    "a command": "import subprocess; subprocess.run(['/bin/ls'])",
    "its parent killed": "import os; os.kill(os.getppid(), 9)",
    "its group killed": "import os; os.killpg(0, 9)",
    "all killed": "import os; os.kill(-1, 9)",
    "a signal by a file": "import fcntl, os; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
    "a terminal's input": "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSTI, b'x')",
    "its limits": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))",
    "a session": "import os; os.setsid()",
    "another user": "import os; os.setuid(12345)",
    "memory without a bound": "import os; os.memfd_create('a')",
    "another priority": "import os; os.nice(-1)",
}


@needs_lock
@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_reaches_out_of_it_is_refused(what):
    said = fault(FORBIDDEN[what], seconds=10)
    assert "PermissionError" in said or "OSError" in said or "can't start new thread" in said or "not allowed" in said
    assert not said.startswith("it does not end")


@needs_lock
@pytest.mark.parametrize(
    "number",
    # io_uring_setup, bpf, ptrace, process_vm_readv, unshare, mount, userfaultfd, perf_event_open, keyctl, clone3, vfork
    [425, 321, 101, 310, 272, 165, 323, 298, 250, 435, 58, 0x40000000 + 41, 41],
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")
def test_system_calls_by_number_are_refused(number):
    program = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"assert libc.syscall({number}, 1, 1, 0, 0, 0) == -1 and ctypes.get_errno() == 1"
    )
    assert fault(program, seconds=10) == ""


@needs_lock
def test_a_file_of_the_user_is_not_read_and_a_server_is_not_reached(tmp_path):
    secret = tmp_path / "id_rsa"
    secret.write_text("secret")
    assert "PermissionError" in fault(f"open({str(secret)!r}).read()", seconds=10)
    assert fault(f"import os; assert os.path.exists({str(secret)!r})", seconds=10) == ""  # as the docstring owns up to
    met: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1.0)
        port = server.getsockname()[1]
        said = fault(f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/')", seconds=10)
        assert "Operation not permitted" in said
        with pytest.raises(TimeoutError):
            met.append(server.accept()[0].recv(1))
    assert met == []


@needs_lock
def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for program in ("pass", "while True: pass", "import os\nwhile True: os.fork()", "1 / 0"):
        run(program, seconds=0.3, memory_mb=128)
    assert list(tmp_path.iterdir()) == []
    held = [str(one.readlink()) for one in Path("/proc").glob("[0-9]*/cwd") if one.is_symlink()]
    assert not [one for one in held if one.startswith(str(tmp_path))]


@needs_lock
def test_a_test_runs_in_the_programs_names_and_is_not_passed_by_leaving_early():
    good = "def double(x): return 2 * x"
    assert run(good, "assert double(2) == 4", seconds=5, memory_mb=128) == Ended(ran=True, tested=True, fault=None)
    assert run(good, "assert double(2) == 5, 'no'", seconds=5, memory_mb=128) == Ended(
        ran=True, tested=False, fault="AssertionError: no"
    )
    assert run(good + "\nraise SystemExit(0)", "assert double(2) == 5", seconds=5, memory_mb=128).fault is not None
    assert run("import os; os._exit(0)", "assert False", seconds=5, memory_mb=128) == Ended(
        ran=True, tested=False, fault=None
    )
    assert not run("1 / 0", "pass", seconds=5, memory_mb=128).ran


@needs_lock
def test_sets_have_one_order_in_every_run():
    program = "raise SystemExit(' '.join({'a', 'b', 'c', 'd', 'e', 'f', 'g'}))"
    assert len({fault(program, seconds=10) for _ in range(4)}) == 1


@needs_lock
def test_threads_may_run_programs_at_once():
    found: list[str] = []
    programs = [f"assert {n} != 3, 'three'" for n in range(6)]
    threads = [threading.Thread(target=lambda p=p: found.append(fault(p, seconds=20))) for p in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [""] * 5 + ["AssertionError: three"]


def test_a_machine_that_cannot_lock_runs_nothing(tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    for script in ("locked.py", "reading.py"):
        shutil.copy(processes.HERE / script, tmp_path / script)
    source = (tmp_path / "locked.py").read_text()
    (tmp_path / "locked.py").write_text(
        source.replace("LANDLOCK_CREATE, LANDLOCK_ADD", "_, LANDLOCK_ADD")
        .replace('"""Runs in', 'LANDLOCK_CREATE = 9999\n"""Runs in', 1)
        .replace("from __future__ import annotations\n", "")
    )
    monkeypatch.setattr(processes, "HERE", tmp_path)
    with pytest.raises(
        UsageError, match=r"cannot lock a program in \(Landlock .*not implemented\), and qdcgen runs none"
    ):
        run(f"open({str(marker)!r}, 'w')", seconds=5, memory_mb=128)
    assert not marker.exists()


def test_the_filters_of_both_machines_are_whole():
    for machine in locked.ARCHITECTURES:
        made = locked.program(machine, 4711)
        assert len(made) % 8 == 0
        assert len(made) // 8 < 4096
        assert set(locked.ALLOWED[machine]).isdisjoint(locked.SOME[machine].values())
        assert len(set(locked.ALLOWED[machine])) == len(locked.ALLOWED[machine])


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "-" * 100_000 + "1",
        "1" + "+1" * 30_000,
        "a" + ".b" * 30_000,
        "lambda:" * 50_000 + "1",
        "if 1:pass\n" + "elif 1:pass\n" * 20_000,
        "x\0",
        "'\ud800'",
        "f(" * 90 + "[" * 90,
        "9" * 100_000,
    ],
)
@pytest.mark.parametrize("language", ["python", "sql"])
def test_hostile_texts_get_an_answer_and_the_next_one_too(text, language):
    reader = Reader()
    begun = time.monotonic()
    reader.fault(language, text, compiled=True, dialect=None)
    assert reader.fault(language, "SELECT 1" if language == "sql" else "x = 1", compiled=True, dialect=None) is None
    assert time.monotonic() - begun < 15


def test_a_text_that_takes_too_long_ends_its_process_and_not_the_next_text():
    reader = Reader()
    said = reader.fault("python", "x=[" + "(1,2,3,4)," * 400_000 + "]", compiled=True, dialect=None)
    assert said is not None
    assert "2 seconds" in said or "1 GiB" in said
    assert reader.fault("python", "x = 1", compiled=True, dialect=None) is None


def test_a_reader_that_is_let_go_ends_its_process():
    reader = Reader()
    assert reader.fault("python", "x = 1", compiled=False, dialect=None) is None
    pid = reader._process.pid
    del reader
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_scripts_import_nothing_of_the_package():
    for script in ("locked.py", "reading.py"):
        assert "qdcgen." not in (processes.HERE / script).read_text()
    assert sys.executable
