"""Joining weights from parts: fake parts on disk, real processes, real kills."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from qdcgen.errors import MissingExtra, UsageError
from qdcgen.model import weights
from qdcgen.model.weights import Weights, cache_folder, joined, part_files

BYTES = [bytes([n]) * (70_000 + n) for n in range(1, 12)]
WHOLE = b"".join(BYTES)
TINY = Weights("tiny", "qdcgen_fake_part", len(BYTES), len(WHOLE), sha256(WHOLE).hexdigest(), "embedded")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eleven packages: more than nine, so that an order by name would be wrong. Importing one fails the test."""
    for number, data in enumerate(BYTES, 1):
        folder = tmp_path / "site" / f"{TINY.stem}{number}"
        (folder / "data").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise SystemExit('weights must not be imported')")
        (folder / "data" / f"part{number:02d}.bin").write_bytes(data)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("QDCGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "site"


def _left(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


def _script(body: str) -> list[str]:
    head = f"from qdcgen.model import weights; import os, sys, time; tiny = weights.Weights{_fields()!r}\n"
    return [sys.executable, "-c", head + body]


def _fields() -> tuple[object, ...]:
    return (TINY.name, TINY.stem, TINY.parts, TINY.size, TINY.digest, TINY.extra)


def _environment(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}


def test_parts_are_joined_in_order(parts: Path) -> None:
    whole = joined(TINY)
    assert whole.read_bytes() == WHOLE
    assert _left(whole.parent) == {"tiny.gguf", "tiny.gguf.verified"}
    assert [file.parent.parent.name for file in part_files(TINY)] == [f"{TINY.stem}{n}" for n in range(1, 12)]
    shutil.rmtree(parts)
    assert joined(TINY) == whole, "a whole file needs no parts"


def test_a_verified_file_is_not_hashed_again(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = joined(TINY)
    monkeypatch.setattr(weights, "_digest", lambda _: pytest.fail("hashed again"))
    assert joined(TINY) == whole


def test_a_touched_file_is_read_again(parts: Path) -> None:
    whole = joined(TINY)
    (whole.parent / "tiny.gguf.verified").unlink()
    before = whole.stat().st_ino
    assert joined(TINY).stat().st_ino == before, "good bytes without a mark are marked, not written again"
    whole.write_bytes(b"x" * len(WHOLE))
    assert joined(TINY).read_bytes() == WHOLE, "other bytes of the same size are replaced"
    whole.write_bytes(WHOLE[:-1])
    assert joined(TINY).read_bytes() == WHOLE, "a cut file is replaced"


def test_a_missing_part_is_named(parts: Path) -> None:
    shutil.rmtree(parts / f"{TINY.stem}7")
    with pytest.raises(MissingExtra, match=r"found 10 of 11 parts; missing qdcgen-fake-part7.*qdcgen\[embedded\]"):
        joined(TINY)
    assert _left(cache_folder()) == set()


def test_wrong_bytes_leave_nothing(parts: Path) -> None:
    (parts / f"{TINY.stem}3" / "data" / "part03.bin").write_bytes(b"!" * len(BYTES[2]))
    with pytest.raises(UsageError, match=f"expected {TINY.digest}"):
        joined(TINY)
    assert _left(cache_folder()) == set()


def test_a_cut_part_is_seen_before_copying(parts: Path) -> None:
    (parts / f"{TINY.stem}3" / "data" / "part03.bin").write_bytes(b"")
    with pytest.raises(UsageError, match=r"hold 770,063 bytes, expected 770,066|hold [\d,]+ bytes, expected [\d,]+"):
        joined(TINY)


def test_a_full_disk_is_seen_before_copying(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    with pytest.raises(UsageError, match=r"5 bytes free.*QDCGEN_CACHE"):
        joined(TINY)
    assert _left(cache_folder()) == set()


def test_an_unwritable_cache_is_named(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QDCGEN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UsageError, match=r"file/cache: cannot keep the model tiny.*QDCGEN_CACHE"):
        joined(TINY)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QDCGEN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/qdcgen")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert cache_folder() == Path("/h/.cache/qdcgen")


def test_processes_joining_at_once_agree(parts: Path) -> None:
    body = "weights._BLOCK = 512; print(weights.joined(tiny))"
    running = [
        subprocess.Popen(_script(body), env=_environment(parts), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        assert Path(out.decode().strip()).read_bytes() == WHOLE
    assert joined(TINY).read_bytes() == WHOLE
    assert _left(cache_folder()) == {"tiny.gguf", "tiny.gguf.verified"}


def test_killed_while_joining_leaves_no_whole_file(parts: Path) -> None:
    body = "os.fsync = lambda _: (print('now', flush=True), time.sleep(60)); weights.joined(tiny)"
    process = subprocess.Popen(_script(body), env=_environment(parts), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"now\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    left = _left(cache_folder())
    assert len(left) == 1
    assert next(iter(left)).endswith(".tmp")
    old = cache_folder() / next(iter(left))
    os.utime(old, (time.time() - 7200,) * 2)
    assert joined(TINY).read_bytes() == WHOLE
    assert not old.exists(), "what a killed process left is swept"
