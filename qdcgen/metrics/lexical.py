"""Metric `lexical`: how much of the wording repeats."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import FEW, canonical, clamp, evened, rarefied, wilson
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

    Grams = tuple[NDArray[np.int64], NDArray[np.int64]]

LONGEST = 4
"""Words in the longest run that is counted."""

VOCABULARY = 30_000
"""Words that EAD supposes a writer to choose from: the same for every population, or figures would not compare."""

NAMES = (
    *(f"distinct {k}-grams" for k in range(1, LONGEST + 1)),
    f"repeated {LONGEST}-grams",
    "self-repetition",
    "compression ratio",
    "expectation-adjusted distinct",
)
RANGES = (*[(0.0, 1.0)] * 6, (0.0, math.inf), (0.0, math.inf))


class Lexical(Metric):
    """Distinct words and runs of words, repeats within and between texts, compression, at fixed texts and words.

    Words are runs of non-blank characters, case and all; runs of words do not cross texts. distinct-k = different
    k-grams / k-grams (Li et al. 2016, arXiv 1510.03055, §5), k = 1 to 4; repeated 4-grams = 1 - distinct-4.
    Self-repetition = share of 4-grams that another text has too; its note has the score of Salkar et al. (2022, arXiv
    2210.08145) as Shaib et al. compute it, the mean over texts of ln(1 + Σ other texts that have the 4-gram), over the
    text's different 4-grams. Compression ratio = bytes / bytes after one pass of zlib level 9, texts joined by a blank
    (Shaib et al. 2024, arXiv 2403.00553, §3.1, whose own code compresses twice). EAD = N / (V·(1 - (1 - 1/V)^C)), N
    different of C words, V = 30,000 words for every population (Liu et al. 2022, arXiv 2202.13587): 1 is a writer who
    picks each word blindly out of V. All in [0, 1], but the last two, from 0 up. Higher is more diverse for distinct-k
    and EAD, less for the others. Taken at `texts` texts (all, where there are fewer), and where populations are
    compared at equal texts and equal words a text, long texts cut; mean of 10 random subsets, intervals by subsampling
    without replacement.

    What makes it lie: each moves with the number of texts and their length, EAD too, for words are not picked blindly:
    108 web texts (c4) cut to 30, 100 and 300 words have distinct-1 0.55, 0.42 and 0.30, EAD 0.58, 0.49 and 0.49, but
    100, 1,000 and 10,000 messages (banking77) 0.36, 0.13 and 0.04 against 0.37, 0.16 and 0.15. With more different
    words than V, EAD passes 1. A repeat of a short text in place of a long one can raise distinct-k, and a compressor
    sees 32 KB back. Nonsense scores as perfectly diverse.
    """

    table: ClassVar[str] = "diversity"
    gates: ClassVar[tuple[str, ...]] = (
        "distinct_1_grams",
        "distinct_2_grams",
        "distinct_3_grams",
        "distinct_4_grams",
        "repeated_4_grams",
        "self_repetition",
        "compression_ratio",
        "expectation_adjusted_distinct",
    )
    short: ClassVar[str | None] = "texts"

    texts: int = Field(default=1_000, ge=20, le=100_000)
    """Texts that the figures are taken at, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """The eight figures of `NAMES`."""
        n = len(sample.texts)
        at = min(self.texts, sample.equal_n or n)
        if n < max(FEW, at):
            note = f"too few: {plural(n, 'text')}, needs {max(FEW, at)}"
            return [
                Measure("diversity", name, None, range=span, n=n, of=sample.of, note=note)
                for name, span in zip(NAMES, RANGES, strict=True)
            ]
        order = canonical(sample.texts)

        def figures(rows: NDArray[np.int64]) -> list[float]:
            drawn = [sample.texts[i] for i in order[rows].tolist()]
            if sample.equal_words is not None:
                drawn = cut(drawn, round(sample.equal_words * len(drawn)))
            return _figures(drawn)

        (*values, score), (*intervals, _) = rarefied(n, at, figures, seed=sample.seed, most=500)
        note = f"at {at} of {n} texts" + (f" of {sample.equal_words:.1f} words" if sample.equal_words else "")
        asides = {
            "self-repetition": f"; score of Salkar et al. {score:.2f}",
            "expectation-adjusted distinct": f"; V is {VOCABULARY:,} words",
        }
        return [
            _measure(sample, name, (value, interval), span, at, note + asides.get(name, ""))
            for name, value, interval, span in zip(NAMES, values, intervals, RANGES, strict=True)
        ]


def _measure(
    sample: Sample,
    name: str,
    found: tuple[float, tuple[float, float] | None],
    span: tuple[float, float],
    at: int,
    note: str,
) -> Measure:
    value, interval = found
    if math.isnan(value) or (interval and math.isnan(interval[0])):
        note = "too few: the texts are too short for it"
        return Measure("diversity", name, None, range=span, n=at, of=sample.of, note=note)
    if interval and interval[0] == interval[1] and span[1] == 1:
        interval = wilson(round(value * at), at)  # none among 26 texts is not none at all
    interval = clamp(interval, *span) if interval else None
    return Measure("diversity", name, value, range=span, n=at, interval=interval, of=sample.of, note=note)


def _figures(texts: Sequence[str]) -> list[float]:
    """The figures of `NAMES`, then the score of self-repetition; NaN where there is nothing to count."""
    runs = grams(texts, LONGEST)
    shares = [_distinct(numbers) for numbers, _ in runs]
    words = runs[0][0]
    shared, score = _between(runs[-1], len(texts))
    adjusted = expected(int(words.max()) + 1, len(words)) if len(words) else math.nan
    return [*shares, 1 - shares[-1], shared, compression_ratio(texts), adjusted, score]


def distinct(texts: Sequence[str], k: int) -> float:
    """Different k-grams of words over all k-grams of words, in [0, 1]; NaN where no text has k words."""
    return _distinct(grams(texts, k)[-1][0])


def _distinct(numbers: NDArray[np.int64]) -> float:
    return (int(numbers.max()) + 1) / len(numbers) if len(numbers) else math.nan


def self_repetition(texts: Sequence[str], k: int = LONGEST) -> tuple[float, float]:
    """Share of k-grams that another text has too, in [0, 1], and the published score, from 0; NaN without k-grams."""
    return _between(grams(texts, k)[-1], len(texts))


def _between(runs: Grams, n: int) -> tuple[float, float]:
    import numpy as np

    numbers, owner = runs
    if not len(numbers):
        return math.nan, math.nan
    pairs = np.unique(numbers * n + owner)
    holders = np.bincount(pairs // n)
    others = np.bincount(pairs % n, weights=holders[pairs // n] - 1, minlength=n)
    return float((holders[numbers] > 1).mean()), float(np.log1p(others).mean())


def expected(different: int, words: int, vocabulary: int = VOCABULARY) -> float:
    """EAD: different words over those that as many blind picks from `vocabulary` words would give, from 0."""
    return different / (-vocabulary * math.expm1(words * math.log1p(-1 / vocabulary)))


def compression_ratio(texts: Sequence[str]) -> float:
    """UTF-8 bytes of the texts, joined by blanks, over bytes after zlib level 9; 1 for no bytes at all."""
    joined = " ".join(texts).encode("utf-8", "replace")
    return len(joined) / len(zlib.compress(joined, 9)) if joined else 1.0


def grams(texts: Sequence[str], most: int) -> list[Grams]:
    """For k = 1 to `most`: the k-grams of words in order, numbered from 0 without gaps, and the text of each."""
    import numpy as np

    known: dict[str, int] = {}
    split = [text.split() for text in texts]
    words = np.array([known.setdefault(word, len(known)) for one in split for word in one], dtype=np.int64)
    owner = np.repeat(np.arange(len(split)), [len(one) for one in split])
    numbers, starts = words, np.arange(len(words))
    found = [(numbers, owner)]
    for k in range(1, most):
        ends = starts + k
        whole = np.zeros(len(starts), dtype=bool)
        reach = ends < len(words)
        whole[reach] = owner[ends[reach]] == owner[starts[reach]]
        starts = starts[whole]
        # A k-gram is the number of the one before it and a word more: no tuples, so 4-grams cost what words do.
        _, numbers = np.unique(numbers[whole] * len(known) + words[starts + k], return_inverse=True)
        found.append((numbers.astype(np.int64), owner[starts]))
    return found


def cut(texts: Sequence[str], words: int) -> list[str]:
    """The texts with `words` words in all, the longest cut to one length; untouched where they have no more."""
    lengths = [len(text.split()) for text in texts]
    kept = evened(lengths, words, texts)
    return [
        text if length <= most else " ".join(text.split()[:most])
        for text, length, most in zip(texts, lengths, kept, strict=True)
    ]
