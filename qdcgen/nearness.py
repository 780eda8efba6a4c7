"""The nearest of many vectors of unit length, exactly, and the same however they come in.

All is compared with all, in blocks of 8,192 float32 vectors: no approximate index, so nothing is missed and nothing
depends on the order of insertion. A float32 product differs by up to 1e-6 with the shape of the batch; so it only says
which few are worth looking at, and the similarity that counts is the float64 product of one pair, rounded to 1e-4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Embed = Callable[[Sequence[str]], Vectors]

__all__ = ["PLACES", "Near", "alone", "label", "vectors"]

BLOCK = 8_192
"""Vectors of a block: 8 MB at 256 numbers. Blocks are filled in place, so that growing copies nothing."""
ROWS = 256
"""Vectors looked up at once: their products with a block take 8 MB."""
PLACES = 4
"""Decimals of a similarity."""
SLACK = 2e-4
"""How far below the best float32 product another may still be the best after rounding."""
MOVED = 1e-3
"""From this change of one number of its vector on, a text's vector depends on what is embedded beside it: bge, with
weights of 8 bits, moves by 0.02 (and its cosines by 0.04); 32-bit models by 1e-6; wordllama not at all."""

_PROBES = (
    "Where is my card?",
    "I would like to know why the transfer that I made last week is still pending, and whom I can ask about it.",
    "12.50 €",
)


def label(embed: Embed) -> str:
    """Name and version of the embedder that a callable belongs to; `the embedder` where it does not say."""
    return str(getattr(getattr(embed, "__self__", None), "label", "the embedder"))


def alone(embed: Embed) -> bool:
    """Whether a text must be embedded by itself, because its vector depends on what is embedded beside it."""
    import numpy as np

    together = embed(_PROBES)
    return any(
        float(np.abs(embed([text])[0] - vector).max()) > MOVED for text, vector in zip(_PROBES, together, strict=True)
    )


def vectors(embed: Embed, texts: Sequence[str], *, one_by_one: bool) -> Vectors:
    """(n, dim) vectors, each by itself where `one_by_one`: 3.5 ms a message by bge instead of 2.4."""
    import numpy as np

    if one_by_one and len(texts) > 1:
        return np.concatenate([embed([text]) for text in texts])
    return embed(texts)


class Near:
    """Vectors of unit length by position, and the nearest of them to new ones. 1 KB each at 256 numbers.

    16 new ones against 100,000 take 13 ms on one core.
    """

    def __init__(self) -> None:
        """Holds nothing; the first vector decides the width."""
        self._blocks: list[Vectors] = []
        self._n = 0
        self._limits: Any = None

    def __len__(self) -> int:
        """Vectors held."""
        return self._n

    def add(self, new: Vectors) -> None:
        """Hold the vectors (n, dim), at the positions that follow."""
        import numpy as np

        start = 0
        while start < len(new):
            if self._n % BLOCK == 0:
                self._blocks.append(np.empty((BLOCK, new.shape[1]), dtype=np.float32))
            at = self._n % BLOCK
            taken = min(BLOCK - at, len(new) - start)
            self._blocks[-1][at : at + taken] = new[start : start + taken]
            start += taken
            self._n += taken

    def best(self, asked: Vectors, since: int = 0) -> list[tuple[int, float] | None]:
        """For each vector asked: position and cosine of the nearest from position `since` on, the earliest of equals.

        The cosine is rounded to 4 decimals, and equal means equal after that. None where nothing is held.
        """
        from threadpoolctl import ThreadpoolController

        if self._n <= since:
            return [None] * len(asked)
        if self._limits is None:
            self._limits = ThreadpoolController()  # 2 ms to look for libraries, 7 µs to limit them
        found: list[tuple[int, float] | None] = []
        # One core: on 2 that others use as well, products as small as these took twice as long with two.
        with self._limits.limit(limits=1):
            for start in range(0, len(asked), ROWS):
                found += self._best(asked[start : start + ROWS], since)
        return found

    def _best(self, asked: Vectors, since: int) -> list[tuple[int, float] | None]:
        import numpy as np

        best = np.full(len(asked), -np.inf, dtype=np.float32)
        worth: list[list[NDArray[np.int64]]] = [[] for _ in asked]
        for number in range(since // BLOCK, len(self._blocks)):
            first = number * BLOCK
            low, high = max(since - first, 0), min(self._n - first, BLOCK)
            alike = asked @ self._blocks[number][low:high].T
            most = alike.max(axis=1)
            for row in np.flatnonzero(most >= best - SLACK).tolist():
                best[row] = max(best[row], most[row])
                worth[row].append(np.flatnonzero(alike[row] >= best[row] - SLACK) + (first + low))
        return [self._exact(vector, np.concatenate(places)) for vector, places in zip(asked, worth, strict=True)]

    def _exact(self, vector: NDArray[np.float32], places: NDArray[np.int64]) -> tuple[int, float]:
        """The nearest among a few, by float64 products summed row by row: the same whatever stands beside a pair."""
        import numpy as np

        mine = vector.astype(np.float64)
        top, place = -np.inf, -1
        for other in places.tolist():
            theirs = self._blocks[other // BLOCK][other % BLOCK]
            alike = round(float((theirs * mine).sum()), PLACES)
            if alike > top:
                top, place = alike, other
        return place, float(np.clip(top, -1.0, 1.0))
