"""Vectors of texts by their content, in the run folder: what was embedded there once is not embedded again.

Two files an embedder, below `vectors/`: `<digest of its label>.keys`, 12 bytes a text (8 of its BLAKE2, 4 of a CRC-32
over key and vector) after a head of 12 that names format and width, and `<digest>.vectors`, 32-bit numbers in the same
order. They are only appended to, vectors first: what a kill leaves half written is cut off by the next writer, and a
vector whose bytes changed is embedded again. Unlike the run's other files it is in no manifest and may be deleted at
any time. Two of a million texts share a key with a probability of 3 in 100,000,000.

100,000 texts of 60 words are read back in 0.4 s of one core; wordllama, the quickest embedder, takes 8 s for them. Each
takes 1 KB of disk at 256 numbers.

A vector here depends on its text alone: an embedder whose vectors move with what is embedded beside them (bge) is given
texts one by one, so that a figure is the same whether its vectors were remembered or not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from hashlib import blake2b
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from qdcgen import nearness

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Embedder
    from qdcgen.recipe import Recipe

    Vectors = NDArray[np.float32]
    Keys = NDArray[np.uint64]
    Places = NDArray[np.int64]
    Sums = NDArray[np.uint32]

__all__ = ["FOLDER", "Remembered", "remembering"]

FOLDER = "vectors"
_MAGIC = b"qdcvec 1"
_ENTRY = 12
PART = 8_192
"""Texts embedded and written at once, or read: 8 MB at 256 numbers. A kill loses one part at most."""
FRESH = 8_192
"""Vectors of this process that are looked up in a dict; more are taken into the sorted index."""


def remembering(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe, its embedder remembering in this run folder what it embedded."""
    entry = recipe.measure.embedder
    if isinstance(entry.part, Remembered):
        return recipe
    measure = recipe.measure.model_copy(update={"embedder": entry._replace(part=Remembered(entry.part, folder))})
    return recipe.model_copy(update={"measure": measure})


class Remembered:
    """An embedder that looks into a run folder first, and writes there what it embeds."""

    def __init__(self, part: Embedder, folder: Path) -> None:
        """Opens and reads nothing yet."""
        self.part = part
        self._folder = folder
        self._files: _Files | None = None
        self._lock = Lock()

    def __repr__(self) -> str:
        """As the embedder itself: verdicts stand as long as it does."""
        return repr(self.part)

    @property
    def label(self) -> str:
        """The embedder's own."""
        return self.part.label

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, rows of unit length, in the order of `texts`; a repeat is embedded once."""
        if not texts:
            return self.part.embed(texts)
        with self._lock:  # filters embed in threads
            if self._files is None:
                self._files = _Files(self._folder, self.label)
            return self._embed(texts, _keys(texts), self._files)

    def _embed(self, texts: Sequence[str], keys: Keys, files: _Files) -> Vectors:
        import numpy as np

        rows: Vectors | None = None
        missing = np.arange(len(texts))
        if files.width:
            rows = np.empty((len(texts), files.width), dtype=np.float32)
            missing = np.flatnonzero(~files.read(keys, rows))
        _, first, back = np.unique(keys[missing], return_index=True, return_inverse=True)
        new = missing[np.sort(first)]  # as they come: whoever reads them again reads them in a row
        for start in range(0, len(new), PART):
            at = new[start : start + PART]
            vectors = self._new([texts[place] for place in at.tolist()])
            if rows is None:
                rows = np.empty((len(texts), vectors.shape[1]), dtype=np.float32)
            elif rows.shape[1] != vectors.shape[1]:  # another model answers to this label by now
                files.forget()
                return self._embed(texts, keys, files)
            rows[at] = vectors
            files.append(keys[at], vectors)
        if rows is None:
            raise AssertionError
        again = missing[first[back]]
        repeats = again != missing
        rows[missing[repeats]] = rows[again[repeats]]
        return rows

    def _new(self, texts: Sequence[str]) -> Vectors:
        import numpy as np

        found = nearness.vectors(self.part.embed, texts, one_by_one=self.part.alone)
        return np.ascontiguousarray(found, dtype=np.float32)


def _keys(texts: Sequence[str]) -> Keys:
    import numpy as np

    hashes = (blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64, copy=False)


def _sums(keys: Keys, vectors: Vectors) -> Sums:
    """A CRC-32 of each vector that begins with its key: a vector that stands at another's place is noticed too."""
    import numpy as np

    content, size = memoryview(vectors.tobytes()), 4 * vectors.shape[1]
    begins = (keys & np.uint64(0xFFFFFFFF)).tolist()
    found = (crc32(content[at * size : (at + 1) * size], begin) for at, begin in enumerate(begins))
    return np.fromiter(found, dtype=np.uint32, count=len(begins))


class _Index(NamedTuple):
    """Keys in ascending order, and for each its place in the file and its sum."""

    keys: Keys
    places: Places
    sums: Sums


class _Files:
    """The two files of one embedder, and where each key stands in them."""

    def __init__(self, folder: Path, label: str) -> None:
        name = blake2b(label.encode(), digest_size=8).hexdigest()
        self.keys = folder / FOLDER / f"{name}.keys"
        self.vectors = folder / FOLDER / f"{name}.vectors"
        self.width = 0
        self._index: _Index
        self._fresh: dict[int, tuple[int, int]] = {}
        self._load()

    def forget(self) -> None:
        """Take nothing from the files; what is appended next, of another width, takes their place."""
        self._index = _Index(self._index.keys[:0], self._index.places[:0], self._index.sums[:0])
        self._fresh.clear()
        self.width = 0

    def _load(self) -> None:
        """Read every key: 12 MB and 0.2 s for a million. What cannot be read, or is of another format, counts as none.

        Of two entries with one key the later counts: it was written because the earlier was damaged.
        """
        import numpy as np

        content, size = b"", 0
        with contextlib.suppress(OSError):
            content = self.keys.read_bytes()
            size = self.vectors.stat().st_size
        self.width = int.from_bytes(content[8:12], "little") if content.startswith(_MAGIC) else 0
        n = min(len(content) // _ENTRY - 1, size // (4 * self.width)) if self.width else 0
        entries = np.frombuffer(content, dtype=[("key", "<u8"), ("sum", "<u4")], count=n, offset=_ENTRY if n else 0)
        order = np.argsort(entries["key"], kind="stable")
        self._index = _Index(entries["key"][order], order, entries["sum"][order])
        self._fresh.clear()

    def _find(self, keys: Keys) -> tuple[Places, Sums]:
        """Place and sum of each key; place -1 where it is not there."""
        import numpy as np

        places, sums = np.full(len(keys), -1, dtype=np.int64), np.zeros(len(keys), dtype=np.uint32)
        if len(self._index.keys):
            last = np.maximum(np.searchsorted(self._index.keys, keys, side="right") - 1, 0)
            met = self._index.keys[last] == keys
            places[met], sums[met] = self._index.places[last[met]], self._index.sums[last[met]]
        if self._fresh:
            for at, key in enumerate(keys.tolist()):
                if key in self._fresh:
                    places[at], sums[at] = self._fresh[key]
        return places, sums

    def read(self, keys: Keys, rows: Vectors) -> NDArray[np.bool_]:
        """Put the vectors that are known into `rows`; for each key, whether that was done."""
        import numpy as np

        done = np.zeros(len(keys), dtype=bool)
        places, sums = self._find(keys)
        there = np.flatnonzero(places >= 0)
        if not len(there):
            return done
        there = there[np.argsort(places[there], kind="stable")]
        breaks = np.flatnonzero(np.diff(places[there]) != 1) + 1
        starts, stops = np.append(0, breaks).tolist(), np.append(breaks, len(there)).tolist()
        try:
            descriptor = os.open(self.vectors, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return done
        try:
            for start, stop in zip(starts, stops, strict=True):
                for low in range(start, stop, PART):
                    at = there[low : min(low + PART, stop)]
                    size = 4 * self.width
                    content = os.pread(descriptor, size * len(at), size * int(places[at[0]]))
                    if len(content) < size * len(at):
                        continue
                    vectors = np.frombuffer(content, dtype="<f4").reshape(-1, self.width)
                    rows[at] = vectors
                    done[at] = _sums(keys[at], vectors) == sums[at]
        finally:
            os.close(descriptor)
        return done

    def append(self, keys: Keys, vectors: Vectors) -> None:
        """Write vectors behind those that are there. Where the folder cannot be written to, nothing is remembered."""
        sums = _sums(keys, vectors)
        # Nobody waits for a cache, and a full or read-only disk must not keep a report from being printed.
        with contextlib.suppress(OSError):
            first = self._write(keys, sums, vectors)
            told = zip(keys.tolist(), sums.tolist(), strict=True)
            self._fresh.update((key, (first + number, total)) for number, (key, total) in enumerate(told))
            if len(self._fresh) > max(FRESH, len(self._index.keys) // 2):
                self._load()

    def _write(self, keys: Keys, sums: Sums, vectors: Vectors) -> int:
        """Append, alone; the place of the first. Another process may have written meanwhile."""
        import numpy as np

        width = vectors.shape[1]
        self.keys.parent.mkdir(exist_ok=True)
        with self.keys.open("ab") as names, self.vectors.open("ab") as file:
            fcntl.flock(names, fcntl.LOCK_EX)
            head = _MAGIC + width.to_bytes(4, "little")
            with self.keys.open("rb") as begun:
                if begun.read(_ENTRY) != head:
                    names.truncate(0)
                    file.truncate(0)
                    names.write(head)
                    names.flush()
            names.seek(0, os.SEEK_END)
            file.seek(0, os.SEEK_END)
            n = min(names.tell() // _ENTRY - 1, file.tell() // (4 * width))
            names.truncate(_ENTRY * (n + 1))
            file.truncate(4 * width * n)
            file.write(vectors.tobytes())
            file.flush()
            entries = np.empty(len(keys), dtype=[("key", "<u8"), ("sum", "<u4")])
            entries["key"], entries["sum"] = keys, sums
            names.write(entries.tobytes())
        self.width = width
        return int(n)
