"""Metric `lexical`: how much of the wording repeats."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import FEW, canonical, clamp, rarefied
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

NAMES = ("distinct 1-grams", "distinct 2-grams", "repeated 4-grams", "compression ratio")


class Lexical(Metric):
    """Distinct words and word pairs, repeated runs of four words, and how well the texts compress, at a fixed size.

    Words are runs of non-blank characters, case and all; runs of words do not cross texts. distinct-k = different
    k-grams / k-grams (Li et al. 2016, arXiv 1510.03055, §5); repeated 4-grams = share of 4-grams that occurred before;
    compression ratio = bytes / bytes after one pass of zlib level 9, texts joined by a blank (Shaib et al. 2024,
    arXiv 2403.00553, §3.1, whose own code compresses twice). Higher is more diverse for the first two, less for the
    others. Taken at `texts` texts (all, where there are fewer), and where populations are compared at equal texts and
    equal words; mean of 10 random subsets, intervals by subsampling without replacement.

    What makes it lie: every one of the four moves with the number of texts and their length, so compare at equal n
    only; a compressor sees 32 KB back; nonsense scores as perfectly diverse.
    """

    table: ClassVar[str] = "diversity"
    gates: ClassVar[tuple[str, ...]] = ("distinct_1_grams", "distinct_2_grams", "repeated_4_grams", "compression_ratio")

    texts: int = Field(default=1_000, ge=20, le=100_000)
    """Texts that the figures are taken at, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """The four figures of `NAMES`."""
        n = len(sample.texts)
        at = min(self.texts, sample.equal_n or n)
        ranges = ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, float("inf")))
        if n < max(FEW, at):
            note = f"too few: {n} texts, needs {max(FEW, at)}"
            return [
                Measure("diversity", name, None, range=span, n=n, of=sample.of, note=note)
                for name, span in zip(NAMES, ranges, strict=True)
            ]
        order = canonical(sample.texts)
        most = int(at * sample.equal_words) if sample.equal_words else None

        def figures(rows: NDArray[np.int64]) -> list[float]:
            drawn = [sample.texts[i] for i in order[rows].tolist()]
            if most is not None:
                drawn = _cut(drawn, max(1, most * len(drawn) // at))
            return [distinct(drawn, 1), distinct(drawn, 2), 1 - distinct(drawn, 4), compression_ratio(drawn)]

        values, intervals = rarefied(n, at, figures, seed=sample.seed, most=500)
        note = f"at {at} of {n} texts" + (f" and {most} words" if most else "")
        return [
            Measure(
                "diversity",
                name,
                value,
                range=span,
                n=at,
                interval=clamp(interval, *span) if interval else None,
                of=sample.of,
                note=note,
            )
            for name, value, interval, span in zip(NAMES, values, intervals, ranges, strict=True)
        ]


def distinct(texts: Sequence[str], k: int) -> float:
    """Different k-grams of words over all k-grams of words, in [0, 1]; 1 where no text has k words."""
    met: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        words = text.split()
        grams = list(zip(*(words[i:] for i in range(k)), strict=False))
        met.update(grams)
        total += len(grams)
    return len(met) / total if total else 1.0


def compression_ratio(texts: Sequence[str]) -> float:
    """UTF-8 bytes of the texts, joined by blanks, over bytes after zlib level 9; 1 for no bytes at all."""
    joined = " ".join(texts).encode("utf-8", "replace")
    return len(joined) / len(zlib.compress(joined, 9)) if joined else 1.0


def _cut(texts: Sequence[str], words: int) -> list[str]:
    """The first texts that hold `words` words together; the last is cut."""
    kept: list[str] = []
    for text in texts:
        parts = text.split()
        kept.append(text if len(parts) <= words else " ".join(parts[:words]))
        words -= len(parts)
        if words <= 0:
            break
    return kept
