"""How sure a figure is: Wilson, order-statistic and jackknife intervals, and figures taken at a fixed size.

A plain bootstrap draws rows twice, and rows drawn twice are exact duplicates: on 200 messages (banking77) it puts
distinct-2 32 % and the Vendi score 19 % below their value on the very same texts. So whatever counts repeats is
resampled here *without* replacement (Politis and Romano 1994, Ann. Stat. 22:2031; the delete-d jackknife of Shao and
Wu 1989, Ann. Stat. 17:1176). Every interval is two-sided, at 95 %, and comes from a fixed seed.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Interval = tuple[float, float]
    Statistic = Callable[[NDArray[np.int64]], Sequence[float]]

__all__ = [
    "FEW",
    "SIZES",
    "Texts",
    "canonical",
    "clamp",
    "evened",
    "jackknife",
    "mean",
    "median",
    "ranks",
    "rarefied",
    "spearman",
    "wilson",
]

FEW = 20
"""Fewer texts than this carry no figure that depends on size: its interval would span most of its range."""

SIZES = (30, 100, 300, 1_000, 3_000, 10_000)
"""Sizes that a figure is taken at where it grows with n for ever: steps, so that two runs of 1,200 and 2,000 rows give
it at the same n."""

Z = 1.959964
T_19 = 2.093024
"""97.5 % point of Student's t on 19 degrees of freedom: the spread comes from 20 subsamples."""

PARTS = 20


def clamp(interval: Interval, low: float, high: float) -> Interval:
    """The interval cut to the range that its figure can take."""
    return (min(max(interval[0], low), high), min(max(interval[1], low), high))


def wilson(hits: int, n: int) -> Interval | None:
    """Wilson score interval of the share hits/n (Wilson 1927, JASA 22:209); None when n is 0.

    Holds its 95 % for n ≥ 10 and never leaves [0, 1]; 0 of 8 gives (0, 0.32), not (0, 0).
    """
    if n == 0:
        return None
    p = hits / n
    spread = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    middle = p + Z * Z / (2 * n)
    scale = 1 + Z * Z / n
    return clamp(((middle - spread) / scale, (middle + spread) / scale), 0.0, 1.0)


def mean(values: NDArray[np.float64]) -> tuple[float, Interval | None]:
    """Mean and its normal interval; the interval is None below 2 values."""
    n = len(values)
    middle = float(values.mean())
    if n < 2:  # noqa: PLR2004  (one value has no spread)
        return middle, None
    spread = Z * float(values.std(ddof=1)) / math.sqrt(n)
    return middle, (middle - spread, middle + spread)


def median(values: NDArray[np.float64]) -> tuple[float, Interval | None]:
    """Median and its distribution-free interval between two order statistics; None below 6 values.

    The median lies between the j-th and (n+1-j)-th smallest value with probability 1 - 2·P(Bin(n, 1/2) < j); j by
    the normal approximation. Below 6 values even the two extremes hold less than 95 %.
    """
    import numpy as np

    ordered = np.sort(values)
    n = len(ordered)
    middle = float(np.median(ordered))
    if n < 6:  # noqa: PLR2004  (1 - 2/2⁵ = 0.94)
        return middle, None
    j = max(1, int((n - Z * math.sqrt(n)) / 2))
    return middle, (float(ordered[j - 1]), float(ordered[n - j]))


def jackknife(value: float, without: NDArray[np.float64]) -> Interval | None:
    """Interval of `value` from the figures with each row left out in turn (Efron and Stein 1981); None below 3 rows.

    Right for smooth figures such as a mean over all pairs; wrong for medians and counts of distinct things.
    """
    n = len(without)
    if n < 3:  # noqa: PLR2004  (two rows, each left out, leave no pair)
        return None
    spread = Z * math.sqrt(max(0.0, (n - 1) * float(without.var())))
    return (value - spread, value + spread)


class Texts(list[str]):
    """The texts of a population, which are put in order once: a dozen metrics ask, and a million take 3 s each time."""

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """See `canonical`."""
        return _ordered(self)


def canonical(texts: Sequence[str]) -> NDArray[np.int64]:
    """Order of the texts by their content: figures drawn in this order do not depend on the order of the rows."""
    return texts.order if isinstance(texts, Texts) else _ordered(texts)


def _ordered(texts: Sequence[str]) -> NDArray[np.int64]:
    import numpy as np

    found = np.array(sorted(range(len(texts)), key=texts.__getitem__), dtype=np.int64)
    found.flags.writeable = False
    return found


def evened(lengths: Sequence[int], total: int, texts: Sequence[str]) -> list[int]:
    """How much of each text to take so that all together are `total` long: the longest are cut to one length.

    All of everything where they are no longer than that. Every text stays, so texts and words are equal at once; cut
    off after so many words in all, a population of long texts would have fewer of them. Words that are left over, fewer
    than there are long texts, go one each to long texts that their content picks: equal texts are cut alike, whatever
    the order, and a few words may stay unspent.
    """
    over = sum(lengths) - total
    if over <= 0:
        return list(lengths)
    left, room = len(lengths), total
    most = 0
    for length in sorted(lengths):
        most = room // left
        if length > most:
            break
        room -= length
        left -= 1
    spare = room - most * left
    counts = Counter(text for text, length in zip(texts, lengths, strict=True) if length > most)
    longer = set()
    for text in sorted(counts, key=lambda text: (crc32(text.encode("utf-8", "surrogatepass")), text)):
        if counts[text] <= spare:
            spare -= counts[text]
            longer.add(text)
    return [min(length, most + (text in longer)) for text, length in zip(texts, lengths, strict=True)]


def rarefied(
    n: int, at: int, statistic: Statistic, *, seed: int, draws: int = 10, most: int = 1_000, budget: int = 100_000
) -> tuple[list[float], list[Interval | None]]:
    """Figures of `at` rows out of `n`, and their intervals, by drawing rows without replacement.

    `statistic(indexes)` gives one or more figures of those rows. The value is its mean over `draws` random subsets of
    `at` rows (one draw, in random order, when `at` is n; fewer when at × draws passes `budget`). The interval is
    ± t·√V with V = σ²/n + (σ²/at - σ²/n)/draws, where σ² = s²/(1/b - 1/n) and s² is the variance over 20 subsets of
    b = min(at, n/2, `most`) rows: the delete-d jackknife, scaled from b to n as for any smooth figure. None where
    b < 5.

    What makes it lie: a figure whose spread does not shrink as 1/n (a largest cluster, a count of rare things) gets
    an interval that is too narrow when b is far below n.
    """
    import numpy as np

    at = min(at, n)
    rng = np.random.default_rng(seed)
    rounds = 1 if at == n else max(1, min(draws, budget // max(at, 1)))
    taken = np.array([statistic(rng.permutation(n)[:at]) for _ in range(rounds)], dtype=np.float64)
    values = [float(value) for value in taken.mean(axis=0)]
    size = min(at, n // 2, most)
    if size < 5:  # noqa: PLR2004  (as the docstring says)
        return values, [None] * len(values)
    parts = np.array([statistic(rng.permutation(n)[:size]) for _ in range(PARTS)], dtype=np.float64)
    unit = parts.var(axis=0, ddof=1) / (1 / size - 1 / n)
    spread = T_19 * np.sqrt(unit / n + unit * (1 / at - 1 / n) / rounds)
    return values, [(value - float(s), value + float(s)) for value, s in zip(values, spread, strict=True)]


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    """Spearman's rank correlation with mean ranks for ties, in [-1, 1]; None where either side never varies."""
    import numpy as np

    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(np.clip(float(a @ b) / scale, -1.0, 1.0)) if scale > 0 else None


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each value from 1, equal ones at the mean of theirs."""
    import numpy as np

    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    found: NDArray[np.float64] = (last - (count - 1) / 2)[place]
    return found
