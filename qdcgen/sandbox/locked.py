"""Runs in a process of its own, as a script: locks itself in, then runs the program that it was given.

What is locked, by the kernel, before the first byte of the program is looked at:

- system calls (seccomp): only those of a list are let through. None on it makes a socket that reaches anything, starts
  a process or a thread, sends a signal to another process, traces one, changes limits, modes, owners or mounts.
- files (Landlock): Python's own library, the system's shared libraries, time zones and the empty folder it starts in
  can be read, and nothing written but /dev/null. Names are not secret: it can learn whether a path exists, and how
  large it is, but has nowhere to tell it but the one line that becomes the row's reason.
- memory, CPU time, open files (rlimits, which it cannot raise), and no privileges, not even those of root.

No network namespace is needed, and so no privilege and no setting of the machine: containers and systems that forbid
namespaces to users can lock all the same. Whatever fails here is told, and then the program is not run.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys
import types
from pathlib import Path
from typing import Any

# ── which system calls ──────────────────────────────────────────────────────────────────────────────────────────────

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED = {
    "x86_64": (
        # read, write, open, close, stat, fstat, lstat, poll, lseek, mmap, mprotect, munmap, brk, rt_sigaction,
        # rt_sigprocmask, rt_sigreturn, pread64, pwrite64, readv, writev, access, pipe, select, sched_yield, mremap.
        *(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25),
        # madvise, dup, dup2, pause, nanosleep, getitimer, alarm, setitimer, getpid, recvfrom, shutdown, exit, uname
        *(28, 32, 33, 34, 35, 36, 37, 38, 39, 45, 48, 60, 63),
        # getdents, getcwd, chdir, fchdir, readlink, umask, gettimeofday, getrlimit, getrusage, sysinfo, times, getuid,
        # getgid, geteuid, getegid, getppid, getpgrp, getgroups, rt_sigpending, sigaltstack, gettid, time, futex
        *(78, 79, 80, 81, 89, 95, 96, 97, 98, 99, 100, 102, 104, 107, 108, 110, 111, 115, 127, 131, 186, 201, 202),
        # sched_getaffinity, getdents64, restart_syscall, clock_gettime, clock_getres, clock_nanosleep, exit_group,
        # epoll_wait, epoll_ctl, openat, newfstatat, readlinkat, faccessat, pselect6, ppoll, set_robust_list
        *(204, 217, 219, 228, 229, 230, 231, 232, 233, 257, 262, 267, 269, 270, 271, 273),
        # epoll_pwait, eventfd2, epoll_create1, dup3, pipe2, getrandom, statx, rseq, close_range, faccessat2
        *(281, 290, 291, 292, 293, 318, 332, 334, 436, 439),
    ),
    "aarch64": (
        # getcwd, eventfd2, epoll_create1, epoll_ctl, epoll_pwait, dup, dup3, faccessat, chdir, fchdir, openat, close,
        # pipe2, getdents64, lseek, read, write, readv, writev, pread64, pwrite64, pselect6, ppoll, readlinkat
        *(17, 19, 20, 21, 22, 23, 24, 48, 49, 50, 56, 57, 59, 61, 62, 63, 64, 65, 66, 67, 68, 72, 73, 78),
        # newfstatat, fstat, exit, exit_group, futex, set_robust_list, nanosleep, getitimer, setitimer, clock_gettime,
        # clock_getres, clock_nanosleep, sched_getaffinity, sched_yield, restart_syscall, sigaltstack, rt_sigaction
        *(79, 80, 93, 94, 98, 99, 101, 102, 103, 113, 114, 115, 123, 124, 128, 132, 134),
        # rt_sigprocmask, rt_sigpending, rt_sigreturn, times, getpgid, getgroups, uname, getrusage, umask, gettimeofday.
        *(135, 136, 139, 153, 155, 158, 160, 165, 166, 169),
        # getpid, getppid, getuid, geteuid, getgid, getegid, gettid, sysinfo, recvfrom, shutdown, brk, munmap, mremap
        *(172, 173, 174, 175, 176, 177, 178, 179, 207, 210, 214, 215, 216),
        # mmap, mprotect, madvise, getrandom, statx, rseq, close_range, faccessat2
        *(222, 226, 233, 278, 291, 293, 436, 439),
    ),
}
"""Machine → numbers of the system calls that are let through whatever their arguments. Linux never changes them."""

# Those that are let through with some arguments only.
SOME = {
    "x86_64": {"ioctl": 16, "sendto": 44, "socketpair": 53, "fcntl": 72, "tgkill": 234, "prlimit64": 302},
    "aarch64": {"ioctl": 29, "sendto": 206, "socketpair": 199, "fcntl": 25, "tgkill": 131, "prlimit64": 261},
}
SECCOMP = {"x86_64": 317, "aarch64": 277}
CAPSET = {"x86_64": 126, "aarch64": 91}
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446

IOCTLS = (0x5401, 0x5421, 0x541B, 0x5450, 0x5451)
"""TCGETS (is it a terminal?), FIONBIO, FIONREAD, FIONCLEX, FIOCLEX: not those that make another process get signals."""
FCNTLS = (0, 1, 2, 3, 4, 1030)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC: not F_SETOWN, which could kill another process."""

ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050001  # the last: "operation not permitted"
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16


def program(machine: str, pid: int) -> bytes:
    """The filter that the kernel runs on each system call of the process `pid`: instructions of 8 bytes."""
    made: list[tuple[int, int, int, int]] = []

    def load(offset: int) -> None:
        made.append((LOAD, 0, 0, offset))

    def answer(value: int) -> None:
        made.append((RETURN, 0, 0, value))

    def low(argument: int) -> int:
        return ARGUMENTS + 8 * argument

    def only(name: str, *checks: tuple[int, int | None, tuple[int, ...]]) -> None:
        """Let `name` through where each (offset, mask, values) holds."""
        body: list[tuple[int, int, int, int]] = []
        for offset, mask, values in checks:
            body.append((LOAD, 0, 0, offset))
            if mask is not None:
                body.append((AND, 0, 0, mask))
            for place, value in enumerate(values):
                body.append((EQUAL, len(values) - place, 0, value))  # past the refusal below
            body.append((RETURN, 0, 0, REFUSE))
        body.append((RETURN, 0, 0, ALLOW))
        load(NUMBER)
        made.append((EQUAL, 0, len(body), SOME[machine][name]))
        made.extend(body)

    load(ARCHITECTURE)
    made.append((EQUAL, 1, 0, ARCHITECTURES[machine]))
    answer(KILL)  # a call of another architecture has other numbers
    load(NUMBER)
    for number in ALLOWED[machine]:
        made.append((EQUAL, 0, 1, number))
        answer(ALLOW)
    only("ioctl", (low(1), None, IOCTLS))
    only("fcntl", (low(1), None, FCNTLS))
    only("tgkill", (low(0), None, (pid,)))
    only("prlimit64", (low(2), None, (0,)), (low(2) + 4, None, (0,)))  # asks for a limit, sets none
    only("socketpair", (low(0), None, (1,)), (low(1), 0xF, (1,)))  # two ends that reach each other: asyncio needs it
    only("sendto", (low(4), None, (0,)), (low(4) + 4, None, (0,)))  # no address
    answer(REFUSE)
    return b"".join(struct.pack("=HBBI", *one) for one in made)


# ── which files ─────────────────────────────────────────────────────────────────────────────────────────────────────

READ, WRITE = 0b1100, 0b10
READ_FILE = 0b100
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Version of Landlock → how many rights over files it knows; all are taken."""
NETWORK_SINCE, SCOPES_SINCE = 4, 6


def readable() -> list[str]:
    """Folders and files that a program may read."""
    own = [str(Path(os.__file__).parent), f"{sys.base_prefix}/lib", f"{sys.base_prefix}/lib64"]
    return [*own, "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/urandom"]


class _Refused(Exception):
    """The kernel does not lock."""


def _called(libc: Any, what: str, number: int, *arguments: Any) -> int:
    found = int(libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        raise _Refused(f"{what}: {os.strerror(ctypes.get_errno())}")
    return found


def lock(machine: str, folder: str) -> None:
    """Give up everything but what the list above allows, for good.

    Raises:
        _Refused: the kernel cannot.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_long(0)
    if libc.prctl(38, ctypes.c_long(1), zero, zero, zero):  # PR_SET_NO_NEW_PRIVS
        raise _Refused("no_new_privs")
    version = _called(libc, "Landlock (Linux 5.13 or later has it)", LANDLOCK_CREATE, None, zero, ctypes.c_long(1))
    handled = (1 << RIGHTS.get(version, 16)) - 1
    attributes = struct.pack(
        "=QQQ", handled, 0b11 if version >= NETWORK_SINCE else 0, 0b11 if version >= SCOPES_SINCE else 0
    )
    attributes = attributes[: 24 if version >= SCOPES_SINCE else 16 if version >= NETWORK_SINCE else 8]
    rules = _called(libc, "Landlock", LANDLOCK_CREATE, attributes, ctypes.c_long(len(attributes)), zero)
    for path, rights in [*((one, READ) for one in readable()), (folder, READ), ("/dev/null", READ_FILE | WRITE)]:
        try:
            at = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not every machine has each of them, and what is not allowed is forbidden
        own = rights if Path(path).is_dir() else rights & (READ_FILE | WRITE)
        _called(
            libc, "Landlock", LANDLOCK_ADD, ctypes.c_long(rules), ctypes.c_long(1), struct.pack("=Qi", own, at), zero
        )
        os.close(at)
    _called(libc, "Landlock", LANDLOCK_RESTRICT, ctypes.c_long(rules), zero)
    os.close(rules)
    _called(libc, "capset", CAPSET[machine], struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", *[0] * 6))
    code = program(machine, os.getpid())
    held = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(held))
    _called(libc, "seccomp", SECCOMP[machine], ctypes.c_long(1), zero, header)  # SECCOMP_SET_MODE_FILTER


def limit(seconds: float, memory_mb: int) -> None:
    """Bounds that hold whatever the program does."""
    cpu = int(seconds) + 1
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, memory_mb << 20),
    ):
        resource.setrlimit(what, (most, most))


def main() -> None:
    """Take orders from stdin, lock, run; on stdout `locked`, `ran` and `tested` as far as it came."""
    asked = json.loads(sys.stdin.buffer.read())
    answer, nothing = os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    os.environ.clear()
    machine = platform.machine()
    try:
        if sys.platform != "linux" or machine not in ARCHITECTURES:
            raise _Refused(f"{sys.platform} on {machine}, expected linux on {' or '.join(ARCHITECTURES)}")  # noqa: TRY301
        ctypes.CDLL(None).prctl(1, ctypes.c_long(signal.SIGKILL), *[ctypes.c_long(0)] * 3)  # die with the parent
        if os.getppid() != asked["parent"]:
            raise _Refused("whoever asked is gone")  # noqa: TRY301
        limit(asked["seconds"], asked["memory_mb"])
        lock(machine, str(Path.cwd()))
    except (_Refused, OSError, ValueError) as error:
        os.write(answer, f"unlocked {error}\n".encode())
        return
    os.write(answer, b"locked\n")
    own = types.ModuleType("__main__")
    sys.modules["__main__"] = own
    sys.argv = ["program"]
    try:
        exec(compile(asked["program"], "<program>", "exec", dont_inherit=True), own.__dict__)  # noqa: S102  (locked in)
    except SystemExit as end:
        if asked["test"] is None or end.code not in {None, 0}:
            raise
    os.write(answer, b"ran\n")
    if asked["test"] is not None:
        exec(compile(asked["test"], "<test>", "exec", dont_inherit=True), own.__dict__)  # noqa: S102
        os.write(answer, b"tested\n")


if __name__ == "__main__":
    main()
