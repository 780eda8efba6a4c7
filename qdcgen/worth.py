"""What labels by people say of filters: how often each is right, the gap that it closes, and the share of good rows.

Everything rests on strata: the accepted rows, and the rows that each filter said no to. How many rows lie in each is
known; of some of them people said whether they are good. So every figure is a function of one share per stratum, and
its interval comes from drawing these shares from their posterior under Jeffreys' prior (Beta(good + ½, bad + ½);
Brown, Cai and DasGupta 2001, Stat. Sci. 16:101): a bootstrap of 20 labels that are all good has no width at all, this
has. Seeded, two-sided, 95 %.

The gap is that of arXiv 2412.02674: accuracy among what a filter keeps less accuracy among all that came in, and,
relative, as a share of what there was to gain. The corrected shares are prediction-powered (arXiv 2311.01453 with the
tuned λ; arXiv 2406.04291 for strata): verdicts are the prediction where all rows are concerned, and inside a stratum
the score of a critic. As the labelled rows are some of those that were predicted, and not others, the tuned λ is that
of the regression estimator of survey sampling, Cov(label, score) / Var(score), without the factor 1/(1 + n/N).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from qdcgen.intervals import FEW, clamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.intervals import Interval
    from qdcgen.rows import Measure

    Vector = NDArray[np.float64]

__all__ = [
    "CLOSED",
    "ENOUGH",
    "NAMES",
    "Estimate",
    "Stratum",
    "Worth",
    "corrected",
    "kappa",
    "plain",
    "remarks",
    "worth",
]

DRAWS = 4_000
"""Draws from the posterior: the ends of an interval then lie within 0.3 points of where endless ones would."""
ENOUGH = 0.15
"""Half the width of an interval of the relative gap from which on "nothing" is a finding: a filter that closes a third
of the gap could no longer be overlooked."""
LIKE_NONE = 0.5
"""Weight of each side before any label: Jeffreys' prior."""
NAMES = (
    "good among accepted",
    "good among accepted, corrected",
    "good among made",
    "good among made, corrected",
    "kappa of people",
    "right when no",
    "right when yes",
    "bad rows caught",
    "gap",
    "gap closed",
)
"""Measures that rest on labels by people."""
CLOSED = "gap closed"
"""The measure whose note says what a filter is worth."""

Estimate = tuple[float | None, "Interval | None"]


class Stratum(NamedTuple):
    """Rows that shared one fate, and what people said of some of them."""

    name: str
    """The filter that said no; empty: accepted."""
    rows: int
    good: Vector
    """1 for good and 0 for bad, one for each labelled row."""
    weight: Vector
    """How many rows each labelled one stands for, relative to the others; all equal unless filters were changed."""
    score: Vector | None = None
    """A critic's score of each labelled row, where every row of the stratum has one."""
    mean_score: float = 0.0
    """The mean score over all its rows."""

    @property
    def labels(self) -> int:
        """How many of its rows are labelled."""
        return len(self.good)

    @property
    def share(self) -> float:
        """Share of good rows among the labelled; ½ where there are none."""
        if not self.labels:
            return LIKE_NONE
        if (self.good == self.good[0]).all():  # exactly: 1 less 2⁻⁵³ would be a bad row, and figures rest on it
            return float(self.good[0])
        return min(1.0, max(0.0, float(self.good @ self.weight / self.weight.sum())))

    @property
    def size(self) -> float:
        """As how many labels of equal weight its labels count (Kish 1965)."""
        return float(self.weight.sum() ** 2 / (self.weight @ self.weight)) if self.labels else 0.0


class Worth(NamedTuple):
    """What one filter is worth, over the rows that it saw."""

    filter: str
    labels: int
    """Labelled rows among those that it saw."""
    said_no: int
    """Of these: it said no to."""
    bad: int
    """Of these: bad, as people say."""
    right_when_no: Estimate
    right_when_yes: Estimate
    caught: Estimate
    """Share of the bad rows that it said no to."""
    gap: Estimate
    closed: Estimate
    note: str
    """What it is worth in words, or why nothing can be said."""


def _drawn(shares: Sequence[float], sizes: Sequence[float], rng: np.random.Generator) -> Vector:
    """(draws, strata) shares of good rows."""
    import numpy as np

    share, size = np.asarray(shares, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    drawn: Vector = rng.beta(share * size + LIKE_NONE, (1 - share) * size + LIKE_NONE, size=(DRAWS, len(share)))
    return drawn


def _between(values: Vector, low: float, high: float) -> Interval:
    import numpy as np

    bottom, top = np.quantile(values, (0.025, 0.975))
    return clamp((float(bottom), float(top)), low, high)


def _around(value: float, between: Interval) -> Interval:
    """The interval, widened to hold the value: draws never reach 0 or 1, where labels that all agree lie."""
    return min(between[0], value), max(between[1], value)


# ── filters ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def worth(strata: Sequence[Stratum], filters: Sequence[str], seed: int) -> list[Worth]:
    """What each of `filters`, in the order in which they saw rows, is worth.

    `strata` holds one for each filter that said no to some row, and that of the accepted ones (name: empty).
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    order = {name: place for place, name in enumerate(filters)}
    known = sorted(strata, key=lambda one: order.get(one.name, len(order)))
    sizes = np.array([one.rows for one in known], dtype=np.float64)
    shares = np.array([one.share for one in known])
    good = _drawn(list(shares), [one.size for one in known], rng)
    # That so many rows took each way is itself chance, which shows where nearly all rows are labelled.
    rows = rng.gamma(np.maximum(sizes, 1e-9), size=good.shape)
    places = [order.get(one.name, len(order)) for one in known]
    found = []
    for place, name in enumerate(filters):
        no = np.array([at == place for at in places], dtype=bool)
        seen = np.array([at >= place for at in places], dtype=bool)
        labels = sum(one.labels for one, there in zip(known, seen, strict=True) if there)
        said_no = sum(one.labels for one, there in zip(known, no, strict=True) if there)
        bad = sum(int((one.good == 0).sum()) for one, there in zip(known, seen, strict=True) if there)
        reason = _silent(known, no, seen)
        if reason:
            nothing: Estimate = (None, None)
            found.append(Worth(name, labels, said_no, bad, nothing, nothing, nothing, nothing, nothing, reason))
            continue
        of = _figures(shares[None, :], sizes[None, :], no, seen)
        drawn = _figures(good, rows, no, seen)
        figures: list[Estimate] = []
        for value, values, (low, high) in zip(of, drawn, _RANGES, strict=True):
            exact = min(high, max(low, float(value[0])))
            between = _between(values[np.isfinite(values)], low, high)
            figures.append((exact, _around(exact, between)) if np.isfinite(value[0]) else (None, None))
        no_right, yes_right, caught, gap, closed = figures
        said = {bool(one) for stratum, there in zip(known, seen, strict=True) if there for one in stratum.good}
        if len(said) == 1:  # a filter tells good from bad, and only one of them was met
            gap = closed = (None, None)
            caught = (None, None) if said == {True} else caught
            note = f"too few to tell: none of {labels} labelled rows is "
            note += "bad, so there was nothing to catch" if said == {True} else "good, so there was nothing to keep"
        else:
            note = _verdict(closed, labels, int(sizes[seen].sum()))
        found.append(Worth(name, labels, said_no, bad, no_right, yes_right, caught, gap, closed, note))
    return found


_RANGES = ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (-math.inf, 1.0))


def _figures(
    good: Vector, rows: Vector, no: NDArray[np.bool_], seen: NDArray[np.bool_]
) -> tuple[Vector, Vector, Vector, Vector, Vector]:
    """Right when no, right when yes, caught, gap, gap closed; one for each draw."""
    import numpy as np

    right, bad = good * rows, (1 - good) * rows
    yes = seen & ~no
    with np.errstate(divide="ignore", invalid="ignore"):
        right_no = bad[:, no].sum(1) / rows[:, no].sum(1)
        right_yes = right[:, yes].sum(1) / rows[:, yes].sum(1)
        caught = bad[:, no].sum(1) / bad[:, seen].sum(1)
        before = right[:, seen].sum(1) / rows[:, seen].sum(1)
        gap = right_yes - before
        left = 1 - before
        # What is left of sums of shares that are all 1 is no room for a filter.
        return right_no, right_yes, caught, gap, gap / np.where(left < 1e-9, np.nan, left)  # noqa: PLR2004


def _silent(known: Sequence[Stratum], no: NDArray[np.bool_], seen: NDArray[np.bool_]) -> str:
    """Why nothing can be said of a filter; empty where something can."""
    said_no = [one for one, there in zip(known, no, strict=True) if there]
    said_yes = [one for one, there in zip(known, seen & ~no, strict=True) if there]
    rejected = sum(one.rows for one in said_no)
    if not rejected:
        return "it said no to no row"
    if not sum(one.labels for one in said_no):
        return f"too few: none of the {rejected} rows that it said no to is labelled"
    if not sum(one.rows for one in said_yes):
        return "it said no to every row that it saw"
    if not sum(one.labels for one in said_yes):
        return "too few: no row that it kept is labelled"
    return ""


def _verdict(closed: Estimate, labels: int, rows: int) -> str:
    """What a filter that saw so many rows is worth in words."""
    value, between = closed
    if value is None or between is None:
        return f"too few to tell: hardly any of {labels} labelled rows is bad, so there was nothing to catch"
    low, high = between
    if low > 0:
        return "of value"
    if high < 0:
        return "does harm: it drops good rows more readily than bad ones"
    half = (high - low) / 2
    if half <= ENOUGH:
        return "no measurable value"
    more = math.ceil(labels * ((half / ENOUGH) ** 2 - 1))
    rounded = math.ceil(more / 10 ** max(0, len(str(more)) - 2)) * 10 ** max(0, len(str(more)) - 2)
    said = f"too few to tell: about {rounded:,} more labels would do"
    left = max(0, rows - labels)
    return said if more <= left else f"{said}, more than there are rows ({left:,} that it saw have none)"


# ── shares of good rows ─────────────────────────────────────────────────────────────────────────────────────────────


def plain(strata: Sequence[Stratum]) -> Estimate:
    """Share of good rows by labels alone: their weighted mean, and its Wilson interval at the size of Kish (1965).

    Every labelled row counts for as many as its stratum has rows a label; what was said of the others is not used.
    """
    from qdcgen.intervals import Z

    each = [(one.share, one.rows, one.rows**2 / one.size) for one in strata if one.labels]
    rows = sum(count for _, count, _ in each)
    if not rows:
        return None, None
    p = min(1.0, sum(share * count for share, count, _ in each) / rows)
    n = rows**2 / sum(square for *_, square in each)
    spread = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    middle, scale = p + Z * Z / (2 * n), 1 + Z * Z / n
    return p, _around(p, clamp(((middle - spread) / scale, (middle + spread) / scale), 0.0, 1.0))


def corrected(strata: Sequence[Stratum], seed: int) -> Estimate:
    """Share of good rows, prediction-powered: what people said, and what is known of all other rows besides.

    In each stratum the mean label plus λ times (mean score of all its rows less that of the labelled), λ tuned on at
    least 20 labels (0 below, where it would fit chance); then the strata in the sizes that they have. The interval is
    of these very rows: where all are labelled it has no width, and is None.
    """
    import numpy as np

    if not any(one.labels for one in strata):
        return None, None
    rows = np.array([one.rows for one in strata], dtype=np.float64)
    told = [_tuned(one) for one in strata]
    shares = [share for share, _ in told]
    value = min(1.0, float(rows @ np.array(shares) / rows.sum()))
    if all(one.labels >= one.rows for one in strata):
        return value, None
    # A stratum of which every row is labelled is known; of the others, that part is.
    left = [max(1 - one.labels / max(one.rows, 1), 1e-9) for one in strata]
    sizes = [size / part for (_, size), part in zip(told, left, strict=True)]
    drawn = _drawn(shares, sizes, np.random.default_rng(seed))
    return value, _around(value, _between(drawn @ rows / rows.sum(), 0.0, 1.0))


def _tuned(one: Stratum) -> tuple[float, float]:
    """Share of good rows in a stratum, and as how many labels it counts."""
    import numpy as np

    if one.score is None or one.labels < FEW:
        return one.share, one.size
    weight = one.weight / one.weight.sum()
    mean = float(weight @ one.score)
    off, error = one.score - mean, one.good - one.share
    spread, variance = float(weight @ off**2), float(weight @ error**2)
    if spread <= 0 or variance <= 0:
        return one.share, one.size
    tuned = float(weight @ (off * error)) / spread
    left = float(weight @ (error - tuned * off) ** 2)
    # One more label is spent on λ: unexplained variance over n - 2 beside variance over n - 1.
    ratio = left / variance * (one.labels - 1) / (one.labels - 2)
    if ratio >= 1:
        return one.share, one.size
    share = one.share + tuned * (one.mean_score - mean)
    return float(np.clip(share, 0.0, 1.0)), one.size / max(ratio, 1e-3)


# ── people ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def kappa(said: Sequence[Sequence[tuple[str, bool]]], seed: int) -> tuple[Estimate, int, str]:
    """(κ with its interval, rows that two or more people labelled, how many people) over rows of (who, good).

    Of two people Cohen's (1960, Educ. Psychol. Meas. 20:37), of more Fleiss's (1971, Psychol. Bull. 76:378) with as
    many labels a row as there are. The interval is a bootstrap over rows, from 20 rows on.
    """
    import numpy as np

    rows = [row for row in said if len(row) > 1]
    people = sorted({who for row in rows for who, _ in row})
    if not rows:
        return (None, None), 0, "no row is labelled by two people"
    told = f"{len(people)} people on {len(rows)} {'row' if len(rows) == 1 else 'rows'}"
    good = np.array([sum(is_good for _, is_good in row) for row in rows], dtype=np.float64)
    each = np.array([len(row) for row in rows], dtype=np.float64)
    first = np.array([dict(row).get(people[0], False) for row in rows], dtype=np.float64)

    def figure(at: NDArray[np.int64]) -> float:
        agreed = ((good * (good - 1) + (each - good) * (each - good - 1)) / (each * (each - 1)))[at].mean()
        if len(people) == 2:  # noqa: PLR2004  (Cohen's: each has a leaning of their own)
            one, other = first[at].mean(), (good - first)[at].mean()
            chance = one * other + (1 - one) * (1 - other)
        else:
            share = good[at].sum() / each[at].sum()
            chance = share**2 + (1 - share) ** 2
        return float((agreed - chance) / (1 - chance)) if chance < 1 else math.nan

    value = figure(np.arange(len(rows)))
    if math.isnan(value):
        return (None, None), len(rows), f"{told}: all said the same of every row, which chance explains too"
    if len(rows) < FEW:
        return (value, None), len(rows), f"{told}; too few rows for an interval, {FEW} would do"
    rng = np.random.default_rng(seed)
    drawn = np.array([figure(rng.integers(0, len(rows), len(rows))) for _ in range(1_000)])
    between = _between(drawn[np.isfinite(drawn)], -1.0, 1.0)
    return (value, _around(value, between)), len(rows), told


def remarks(measures: Sequence[Measure]) -> list[str]:
    """A sentence for each filter that labels found to be worth nothing, or less."""
    found = []
    for one in measures:
        if one.table == "quality" and one.name == CLOSED:
            word = one.note.partition(":")[0].partition(";")[0]
            if word in ("no measurable value", "does harm"):
                found.append(f"filter {one.axis}: {word}, by {one.n:,} labels of people on rows that it saw")
    return found
