"""Runs of words that texts share with other texts, found fast and verified word by word.

Words are runs of letters, marks and digits after NFKC and casefold; where a script has no spaces (Chinese, Japanese,
Thai, Lao, Khmer, Burmese) each character is a word, so that 13 of them are some 8 words.

Every run of n words of the other texts is held as one 64-bit number: bits of its hash above, the number of its text
below, sorted in one array. 1,000,000 texts of 60 words take 0.4 GB so (0.55 while they are sorted), and leave 44 bits
for the hash. A hit there is looked up in the text itself, so that two runs with equal hashes are never taken for one.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Texts = Sequence[str | None] | pl.Series

__all__ = ["Hit", "Overlap", "words"]

SHORT = 8
"""Words from which a text shorter than n is also looked for inside of longer ones; below it, only as a whole. GPT-3's
authors (arXiv 2005.14165, appendix C) take 8 as the least, since shorter runs are shared by chance."""
CHUNK = 20_000
"""Texts whose words are held at once: some 0.1 GB."""
_FACTOR, _MIX = 0x9E3779B97F4A7C15, 0xFF51AFD7ED558CCD
_ALONE = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Blocks of letters whose every character is a word."""
_STARTS = [first for first, _ in _ALONE]


class _Letters(dict[int, str]):
    """Code point → itself where it is part of a word, between spaces where it is one, else a space; found on need."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        said = letter if unicodedata.category(letter)[0] in "LMN" else " "
        place = bisect_right(_STARTS, code) - 1
        if said != " " and place >= 0 and code <= _ALONE[place][1]:
            said = f" {letter} "
        self[code] = said
        return said


_LETTERS = _Letters()


def words(text: str) -> list[str]:
    """The words of a text as they are compared."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return text.casefold().translate(_LETTERS).split()


class Hit(NamedTuple):
    """What a text shares with one of the others: that one's number, the words, and how they are shared."""

    text: int
    shared: tuple[str, ...]
    whole: bool
    """Whether the other text is shared as a whole."""
    share: float
    """Share of the text's own words that stand in any shared run, 0 to 1."""


class Overlap:
    """The runs of `n` words of many texts, to ask which of them another text has."""

    def __init__(self, columns: Sequence[Texts], n: int) -> None:
        """Texts of all columns are numbered through, from 0; read again when there is a hit, and not copied."""
        import numpy as np

        self.n = n
        self._columns = columns
        self._starts = [sum(len(column) for column in columns[:place]) for place in range(len(columns))]
        self._bits = max(1, sum(len(column) for column in columns).bit_length())
        runs: dict[int, list[Hashes]] = {n: []}
        number = 0
        for chunk in (chunk for column in columns for chunk in _chunks(column)):
            held = [words(text or "") for text in chunk]
            lengths = np.array([len(one) for one in held])
            hashes = _hashed(held)
            numbers = np.arange(number, number + len(held), dtype=np.uint64)
            number += len(held)
            runs[n].append(self._keys(hashes, lengths, numbers, n))
            for size in np.unique(lengths[(lengths > 0) & (lengths < n)]).tolist():
                own = lengths == size
                keys = self._keys(hashes[np.repeat(own, lengths)], lengths[own], numbers[own], size)
                runs.setdefault(size, []).append(keys)
        self._runs: dict[int, Hashes] = {}
        for size in list(runs):
            self._runs[size] = np.concatenate([np.empty(0, np.uint64), *runs.pop(size)])
            self._runs[size].sort()

    def _keys(self, hashes: Hashes, lengths: NDArray[np.int64], numbers: Hashes, size: int) -> Hashes:
        """A number for every run of `size` words inside one text: its hash above, the text's number below."""
        import numpy as np

        runs = _runs(hashes, size)
        ends = np.cumsum(lengths)
        left = np.repeat(ends, lengths) - np.arange(len(hashes))  # words from here to the end of the text
        inside = (left >= size)[: len(runs)]
        below = np.uint64((1 << self._bits) - 1)
        return (runs[inside] & ~below) | np.repeat(numbers, np.maximum(lengths - size + 1, 0))

    def hit(self, text: str) -> Hit | None:
        """What `text` shares with the others, the first run of it; None where it shares nothing."""
        import numpy as np

        own = words(text)
        if not own:
            return None
        hashes = _hashed([own])
        first: Hit | None = None
        met = np.zeros(len(own), dtype=bool)
        for size in sorted(self._runs, reverse=True):
            if size > len(own) or (size < min(self.n, SHORT) and size != len(own)):
                continue
            for place, numbers in self._candidates(_runs(hashes, size), self._runs[size]):
                run = own[place : place + size]
                found = self._holder(run, numbers, whole=size < self.n)
                if found is None:
                    continue
                met[place : place + size] = True
                if first is None:
                    first = Hit(found, tuple(run), whole=len(self._of(found)) == size, share=0.0)
        return None if first is None else first._replace(share=float(met.mean()))

    def _candidates(self, runs: Hashes, keys: Hashes) -> Iterator[tuple[int, list[int]]]:
        """Where in the text a run begins whose hash is known, and the numbers of the texts with that hash."""
        import numpy as np

        below = np.uint64((1 << self._bits) - 1)
        begin = np.searchsorted(keys, runs & ~below)
        end = np.searchsorted(keys, runs | below, side="right")
        for place in np.flatnonzero(end > begin).tolist():
            yield place, (keys[begin[place] : end[place]] & below).tolist()

    def _holder(self, run: list[str], numbers: list[int], *, whole: bool) -> int | None:
        """The first of these texts that does hold the run, or is it; None where only hashes are equal."""
        sought = f" {' '.join(run)} "
        for number in numbers:
            held = f" {' '.join(self._of(number))} "
            if held == sought if whole else sought in held:
                return number
        return None

    def _of(self, number: int) -> list[str]:
        """The words of one of the other texts."""
        column = bisect_right(self._starts, number) - 1
        return words(self._columns[column][number - self._starts[column]] or "")


def _chunks(column: Texts) -> Iterator[Texts]:
    for begin in range(0, len(column), CHUNK):
        yield column[begin : begin + CHUNK]


def _hashed(texts: Sequence[Sequence[str]]) -> Hashes:
    """Python's own hash of every word of every text: another in another process, which nothing depends on."""
    import numpy as np

    count = sum(len(text) for text in texts)
    return np.fromiter((hash(word) for text in texts for word in text), dtype=np.int64, count=count).view(np.uint64)


def _runs(hashes: Hashes, size: int) -> Hashes:
    """Hash of every run of `size` words."""
    import numpy as np

    count = max(0, len(hashes) - size + 1)
    found = np.zeros(count, dtype=np.uint64)
    for place in range(size):
        found *= np.uint64(_FACTOR)
        found += hashes[place : place + count]
    found ^= found >> np.uint64(32)
    found *= np.uint64(_MIX)
    return found ^ (found >> np.uint64(29))
