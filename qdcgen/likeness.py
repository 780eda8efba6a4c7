"""Texts that say the same thing in the same letters: exact repeats and near-duplicates.

Two texts are alike by the Jaccard similarity |A ∩ B| / |A ∪ B| of their sets A, B of 4-letter shingles, after
normalisation (NFKC, casefold, runs of whitespace to one space). Letters, not words, because on messages of 5-15 words
(banking77) a threshold of 0.9 finds 20 % of copies with another full stop by word 3-shingles and 99 % by letters, 5 %
against 25 % of one-letter typos, and in neither case one pair with different labels; and because letters also work
where a script has no spaces. Four and not three, because long texts share most 3-letter shingles: unrelated documents
of 10,000 letters pass 0.6.

Candidates come from MinHash (Broder 1997) by `rensa` with banding; every candidate is then compared set by set, so
similarities are exact and a false candidate costs time only. A pair at the threshold is missed with a probability
below 0.5 %, one well above it practically never; repeats after normalisation are always found. Nothing depends on
PYTHONHASHSEED.
"""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Index", "Pair", "Signed", "firsts", "groups", "normal", "pairs", "similarity"]

Key = TypeVar("Key")

SHINGLE = 4
PERMUTATIONS = 64
"""Slots of a signature: 256 bytes a text while pairs are sought."""

SEED = 7
MISSED = 0.005
CHUNK = 4_000
"""Texts signed at once: bounds the memory that their letters take as 64-bit hashes."""

EARLIER = 8
"""Texts of one bucket that a text is compared with: those just before it. Bounds time and memory where thousands of
texts from one template share a bucket."""

MOST = 128
"""Texts of an index that one is compared with set by set, those whose signatures agree best. Bounds a lookup to 5 ms
among thousands of texts of one template that are just below the threshold: 2,000 of them took 48 s without it."""

ROOM = 3_000_000

BLOCK = 200_000
"""Candidate pairs whose signatures are compared at once: 0.1 GB."""

_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
_MIX = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)


class Pair(NamedTuple):
    """Positions of two like texts, `earlier` < `later`, and their similarity in [threshold, 1]."""

    earlier: int
    later: int
    similarity: float


def normal(text: str) -> str:
    """The text as it is compared: NFKC, casefold, whitespace runs to one space, ends stripped."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def _shingles(text: str) -> frozenset[str]:
    """Shingles of a text in normal form; one shorter than a shingle is its own only one."""
    return frozenset(text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1)))


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def similarity(one: str, other: str) -> float:
    """Exact Jaccard similarity of two texts' shingles, in [0, 1]; 1 for equal normal forms, two empty texts included.

    What makes it lie: it sees letters only. A paraphrase scores 0.1-0.4, and "not" among 60 words 0.97.
    """
    return _jaccard(_shingles(normal(one)), _shingles(normal(other)))


def bands(threshold: float) -> tuple[int, int]:
    """(bands, rows a band): the most rows for which a pair at the threshold is missed less than once in 200.

    A pair of similarity s shares at least one band with probability 1 - (1 - s^rows)^bands.
    """
    for rows in range(PERMUTATIONS, 1, -1):
        count = PERMUTATIONS // rows
        if (1 - threshold**rows) ** count <= MISSED:
            return count, rows
    return PERMUTATIONS, 1


def _signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """(n, PERMUTATIONS) MinHash signatures of texts in normal form."""
    import numpy as np
    from rensa import RMinHash

    # A text shorter than a shingle is filled up with NUL, which no normal form of a longer one can imitate cheaply.
    letters = [text.ljust(SHINGLE, "\0") for text in texts]
    flat = np.frombuffer("".join(letters).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    hashes = np.zeros(len(flat) - SHINGLE + 1, dtype=np.uint64)
    for place, factor in enumerate(_FACTORS):
        hashes += flat[place : place + len(hashes)] * np.uint64(factor)
    for factor in _MIX:
        hashes ^= hashes >> np.uint64(33)
        hashes *= np.uint64(factor)
    # Windows that run over the end of a text belong to no text.
    lengths = np.array([len(text) for text in letters], dtype=np.int64)
    inside = np.ones(len(flat), dtype=bool)
    ends = np.cumsum(lengths)
    for back in range(1, SHINGLE):
        inside[ends - back] = False
    hashes = hashes[inside[: len(hashes)]]
    offsets = [0, *np.cumsum(lengths - SHINGLE + 1).tolist()]
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, PERMUTATIONS, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def _keys(signed: NDArray[np.uint32], threshold: float) -> NDArray[np.uint64]:
    """(n, bands) one 64-bit key for each text and band; texts with an equal key in a band are candidates."""
    import numpy as np

    count, rows = bands(threshold)
    cut = signed[:, : count * rows].reshape(-1, count, rows)
    key = np.zeros(cut.shape[:2], dtype=np.uint64)
    for row in range(rows):
        key = (key ^ cut[:, :, row]) * np.uint64(_FACTORS[0])
        key ^= key >> np.uint64(29)
    return key


def _enough(threshold: float) -> float:
    """Slots in which two signatures must agree before their texts are compared set by set.

    Agreement is binomial around the similarity: 3.5 standard errors below the threshold lose 1 like pair in 4,000.
    Comparing sets takes 10 µs, signatures 0.1 µs: 20,000 texts of one template took 17 s without this, 4 s with it.
    """
    return PERMUTATIONS * (threshold - 3.5 * math.sqrt(threshold * (1 - threshold) / PERMUTATIONS))


def _candidates(texts: Sequence[str], threshold: float) -> list[tuple[int, int]]:
    """Position pairs (earlier, later), sorted, that share a band and whose signatures agree often enough."""
    import numpy as np

    n = len(texts)
    if n < 2:  # noqa: PLR2004  (one text has no other)
        return []
    signed = np.empty((n, PERMUTATIONS), dtype=np.uint32)  # filled in place: joining chunks would hold it twice
    for start in range(0, n, CHUNK):
        signed[start : start + CHUNK] = _signatures(texts[start : start + CHUNK])
    keys = _keys(signed, threshold)
    enough = _enough(threshold)
    found: list[NDArray[np.int64]] = []
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        ranked = keys[order, band]
        for lag in range(1, min(EARLIER, n - 1) + 1):
            at = np.flatnonzero(ranked[lag:] == ranked[:-lag])
            if not len(at):
                break
            for start in range(0, len(at), BLOCK):
                earlier, later = order[at[start : start + BLOCK]], order[at[start : start + BLOCK] + lag]
                close = (signed[earlier] == signed[later]).sum(axis=1) >= enough
                found.append(earlier[close] * n + later[close])
    codes = np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
    return list(zip((codes // n).tolist(), (codes % n).tolist(), strict=True))


class _Shingled:
    """Shingle sets of texts, made on first use and kept until they hold `ROOM` shingles: 0.3 GB."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.held = 0
        self.sets: dict[int, frozenset[str]] = {}

    def __getitem__(self, i: int) -> frozenset[str]:
        found = self.sets.get(i)
        if found is None:
            if self.held > ROOM:
                self.sets.clear()
                self.held = 0
            found = self.sets[i] = _shingles(self.texts[i])
            self.held += len(found)
        return found


def _at_least(a: frozenset[str], b: frozenset[str], threshold: float) -> float | None:
    """Similarity of two sets if it reaches the threshold; sizes alone rule most out: J ≤ smaller / larger."""
    small, large = sorted((len(a), len(b)))
    if small < threshold * large:
        return None
    found = _jaccard(a, b)
    return found if found >= threshold else None


def firsts(texts: Sequence[str]) -> list[int]:
    """For each text, the position of the first with the same normal form; its own position where it is the first."""
    seen: dict[str, int] = {}
    return [seen.setdefault(normal(text), i) for i, text in enumerate(texts)]


def _checked(threshold: float) -> None:
    if not 0 < threshold <= 1:
        message = f"a similarity of {threshold} is outside 0 < s ≤ 1"
        raise ValueError(message)


def pairs(texts: Sequence[str], threshold: float = 0.9) -> list[Pair]:
    """Like pairs, sorted by position.

    A repeat (equal normal form) is paired with its first occurrence only, so 1,000 copies give 999 pairs. Between
    first occurrences every pair found by MinHash is listed with its exact similarity; in a bucket, a text is compared
    with at most the 8 before it. 100,000 texts of 60 words: 2 s, 0.4 GiB; 20,000 variants
    of one text, most of them just below the threshold: 11 s.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    _checked(threshold)
    first = firsts(texts)
    found = [Pair(place, i, 1.0) for i, place in enumerate(first) if place != i]
    single = [i for i, place in enumerate(first) if place == i]
    forms = [normal(texts[i]) for i in single]
    sets = _Shingled(forms)
    for earlier, later in _candidates(forms, threshold):
        alike = _at_least(sets[earlier], sets[later], threshold)
        if alike is not None:
            found.append(Pair(single[earlier], single[later], alike))
    return sorted(found)


def groups(texts: Sequence[str], threshold: float = 0.9) -> list[int]:
    """For each text, the first position of its group; texts linked by a chain of like pairs are one group.

    Does not depend on order, save for which text is first. Pairs already in one group are not compared again, so
    20,000 near-copies of one text take 1 s.

    What makes it lie: chains. With a like b and b like c, a and c are one group however unlike.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    _checked(threshold)
    root = firsts(texts)

    def top(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    single = [i for i, place in enumerate(root) if place == i]
    forms = [normal(texts[i]) for i in single]
    sets = _Shingled(forms)
    for earlier, later in _candidates(forms, threshold):
        one, other = sorted((top(single[earlier]), top(single[later])))
        if one != other and _at_least(sets[earlier], sets[later], threshold) is not None:
            root[other] = one
    return [top(i) for i in range(len(texts))]


class Signed(NamedTuple):
    """A text as an index compares it: its normal form, its MinHash signature, and the buckets that it falls into."""

    form: str
    signature: NDArray[np.uint32]
    buckets: list[int]


class Index(Generic[Key]):
    """Texts seen so far, and the nearest like one to a new text.

    Texts of 12 words, signed 16 at once: 0.04 ms to sign, look up and add one; one by one 0.1 ms. 100,000 take 0.3 GB.
    Whatever else is signed at once, a text's answer is the same. Among thousands of texts of one template, most of them
    just below the threshold, 1 like text in 250 is not found.
    """

    def __init__(self, threshold: float = 0.9) -> None:
        """Like means a similarity of at least `threshold`, in (0, 1].

        Raises:
            ValueError: the threshold is outside (0, 1].
        """
        _checked(threshold)
        self.threshold = threshold
        self._enough = _enough(threshold)
        self._exact: dict[str, int] = {}
        self._keys: list[Key] = []
        self._texts: list[str] = []
        self._signed: NDArray[np.uint32] | None = None
        """Signatures by place, with room for more."""
        self._buckets: dict[int, int | list[int]] = {}
        """Bucket → the place in it, or places: most have one, and a list of one takes 60 bytes more."""
        self._sets = _Shingled(self._texts)

    def __len__(self) -> int:
        """Distinct texts held."""
        return len(self._texts)

    def sign(self, texts: Sequence[str]) -> list[Signed]:
        """The texts as `add` and `nearest` take them: many at once cost a third of one by one."""
        import numpy as np

        found: list[Signed] = []
        for start in range(0, len(texts), CHUNK):
            forms = [normal(text) for text in texts[start : start + CHUNK]]
            signatures = _signatures(forms)
            keys = _keys(signatures, self.threshold)
            keys ^= np.arange(keys.shape[1], dtype=np.uint64) * np.uint64(_MIX[1])  # one table for all bands
            found += map(Signed, forms, signatures, keys.tolist())
        return found

    def add(self, key: Key, text: str | Signed) -> bool:
        """Remember `text` under `key`; whether it is new. A repeat is not stored again: the first key stays."""
        import numpy as np

        signed = self.sign([text])[0] if isinstance(text, str) else text
        if signed.form in self._exact:
            return False
        place = self._exact[signed.form] = len(self._texts)
        self._keys.append(key)
        self._texts.append(signed.form)
        if self._signed is None or place == len(self._signed):
            room = np.empty((max(64, 2 * place), PERMUTATIONS), dtype=np.uint32)
            if self._signed is not None:
                room[:place] = self._signed
            self._signed = room
        self._signed[place] = signed.signature
        for bucket in signed.buckets:
            held = self._buckets.setdefault(bucket, place)
            if isinstance(held, list):
                held.append(place)
            elif held != place:
                self._buckets[bucket] = [held, place]
        return True

    def nearest(self, text: str | Signed) -> tuple[Key, float] | None:
        """Key and exact similarity of the most similar text at or above the threshold; the earliest of equals.

        A repeat is always found, with similarity 1. None when nothing is like it.
        """
        signed = self.sign([text])[0] if isinstance(text, str) else text
        place = self._exact.get(signed.form)
        if place is not None:
            return self._keys[place], 1.0
        others = self._alike(signed)
        if not others:
            return None
        mine = _shingles(signed.form)
        best: tuple[float, int] | None = None
        for other in others:
            alike = _at_least(mine, self._sets[other], self.threshold)
            if alike is not None and (best is None or alike > best[0]):
                best = (alike, other)
        return (self._keys[best[1]], best[0]) if best else None

    def _alike(self, signed: Signed) -> list[int]:
        """Places, in order, that share a bucket with a text: those whose signatures agree best, if they do enough."""
        import numpy as np

        found: set[int] = set()
        for bucket in signed.buckets:
            held = self._buckets.get(bucket)
            if isinstance(held, list):
                found.update(held[-CHUNK:])
            elif held is not None:
                found.add(held)
        if not found or self._signed is None:
            return []
        places = np.array(sorted(found))
        agree = (self._signed[places] == signed.signature).sum(axis=1)
        best = np.argsort(-agree, kind="stable")[:MOST]
        return sorted(int(place) for place in places[best[agree[best] >= self._enough]])
