"""What each threshold of a graded filter would keep, cover and vary: the quality-diversity curve. Pure.

A filter's score decides alone, so the rows that a threshold keeps are the first k in the order of the scores, and the
sets of two thresholds lie one in the other. Dropping rows loses rare leaves and pairs whoever drops them: every figure
therefore stands beside the same figure of k rows drawn at random among all that have a score.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen.effects import compact
from qdcgen.errors import UsageError, nearest
from qdcgen.intervals import FEW, clamp, jackknife, mean, rarefied, wilson
from qdcgen.likeness import groups
from qdcgen.report.contents import Curve, Point
from qdcgen.report.curves import threshold
from qdcgen.report.figures import BLANK, clip, per_cent, plural
from qdcgen.report.figures import value as figure
from qdcgen.rows import Measure
from qdcgen.spectrum import vendi_of_vectors
from qdcgen.surface import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from qdcgen.parts import Graded
    from qdcgen.recipe import Recipe
    from qdcgen.rows import Taxonomy

    Vectors = NDArray[np.float32]
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["Scored", "curve", "graded"]

THRESHOLDS = 12
"""Distinct scores up to which each is a threshold; of more, as many quantiles."""
MOST = 2_000
"""Texts that figures which depend on size are taken at, at most: 0.1 s for 12 thresholds of 100,000 rows."""
ALIKE = 0.9
"""Similarity of letters from which two texts are near-duplicates, as in the metric `near_duplicates`."""
SURE = 0.05
"""Chance that any figure of the page is marked although the scores have nothing to do with it."""
NAMED = 5
"""Leaves that a remark names."""
MOVED = {"mean pairwise distance": "distance", "words": "words", "asked to be hard": "asked to be hard"}
"""Figures whose change from one threshold to the next a remark tells."""
RANDOM = "as many rows drawn at random"
LARGE = 500
"""Expected count from which a Poisson variable is taken as normal: e to its power would be lost to rounding."""


class Scored(NamedTuple):
    """The rows that a filter saw, and what it said of them."""

    frame: pl.DataFrame
    """Rows with a score, in plan order: `_text`, `_score`, a column of paths for each taxonomy, `_complexity`. An
    infinite score is that of a row which is kept at every threshold."""
    undecided: int
    """Rows that it saw and gave no score."""
    dropped: Mapping[str, int]
    """Filters before it → rows that they dropped: these have no score."""
    refilled: int = 0
    """Of the rows with a score: made for slots whose first row was turned down."""


def graded(recipe: Recipe, label: str) -> Graded:
    """How the score of the filter `label` decides.

    Raises:
        UsageError: there is no such filter, or no score alone decides; names those that have a curve.
    """
    kinds = {name: entry.part.graded() for name, entry in recipe.judges}
    able = [name for name, how in kinds.items() if how is not None]
    there = f"graded filters of this recipe: {', '.join(able)}" if able else "no filter of this recipe is graded"
    what = "a filter is graded when a score against a threshold decides alone, as that of judge with `items`"
    if label not in kinds:
        raise UsageError(f"--curve {label}: no filter called {label!r}{nearest(label, list(kinds))}; {there}; {what}")
    found: Graded | None = kinds[label]
    if found is None:
        raise UsageError(f"--curve {label}: the filter {label} is not graded; {there}; {what}")
    return found


def curve(
    scored: Scored,
    label: str,
    how: Graded,
    embed: Callable[[Sequence[str]], Vectors],
    *,
    embedder: str,
    seed: int = 0,
    taxonomies: Mapping[str, Taxonomy] | None = None,
    together: Sequence[Sequence[str]] = (),
    forbidden: Callable[[Mapping[str, str]], bool] = lambda _: False,
) -> Curve:
    """The curve of the filter `label`; `together`: the taxonomies of each strategy, whose pairs count.

    Raises:
        UsageError: no row has a score.
    """
    import numpy as np  # noqa: F401  before the limit below, which reaches only what is loaded
    from threadpoolctl import threadpool_limits

    n = scored.frame.height
    if not n:
        dropped = "".join(f", {count:,} were dropped by {name} before" for name, count in scored.dropped.items())
        raise UsageError(
            f"--curve {label}: no row of this run has a score of {label} ({scored.undecided:,} undecided{dropped})"
        )
    with threadpool_limits(limits=1):
        found = _Curve(scored, label, how, embed, embedder, seed)
        found.counted = list(_coverage(found.frame, taxonomies or {}, together, forbidden))
        return found.made()


class _Curve:
    """The rows in the order of their scores, the best first, so that what a threshold keeps is a beginning of them."""

    def __init__(
        self,
        scored: Scored,
        label: str,
        how: Graded,
        embed: Callable[[Sequence[str]], Vectors],
        embedder: str,
        seed: int,
    ) -> None:
        import polars as pl

        self.scored, self.label, self.how, self.seed, self.embedder = scored, label, how, seed, embedder
        # Rows of one score by their texts: what is drawn then depends on the texts alone, not on their order.
        self.frame = scored.frame.sort("_score", "_text", descending=[how.keeps == "above", False])
        self.scores: Floats = self.frame["_score"].to_numpy()
        self.n = self.frame.height
        self.texts = self.frame["_text"].to_list()
        self.vectors = embed(self.texts)
        self.narrow = compact(self.vectors, seed)
        self.words: Floats = counted(self.texts)["words"].cast(pl.Float64).to_numpy()
        self.hard = _asked_hard(self.frame)
        self.chance = _Chance(self.n)
        self.apart = _distances(self.vectors)
        self.counted: list[_Counted] = []

    def made(self) -> Curve:
        """Every threshold, the laxest first, with its figures."""
        cuts = self._cuts()
        large = [kept for _, kept in cuts if kept >= FEW]
        at = min(min(large, default=0), MOST)
        # Every figure of the page has its chance to be marked by mere chance: they share it (Bonferroni).
        tests = sum(kept < self.n for _, kept in cuts) * (len(self.counted) + 2 + (self.hard is not None))
        sure = SURE / max(1, tests)
        points = [
            Point(
                threshold,
                now=threshold == self.how.threshold,
                kept=kept,
                measures=tuple(self._measures(kept, at, sure)),
            )
            for threshold, kept in cuts
        ]
        return Curve(
            self.label,
            keeps=self.how.keeps,
            threshold=self.how.threshold,
            scored=self.n,
            undecided=self.scored.undecided,
            dropped=dict(self.scored.dropped),
            equal_n=at or None,
            points=tuple(points),
            remarks=tuple(self._remarks(points)),
        )

    # ── thresholds ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _cuts(self) -> list[tuple[float | None, int]]:
        """(threshold, rows that it keeps), the laxest first; None keeps every row with a score.

        Of two thresholds that keep the same rows only one stands here, the recipe's own where it is one of them.
        """
        import numpy as np

        met = np.unique(self.scores[np.isfinite(self.scores)])
        if len(met) > THRESHOLDS:  # three digits: what a person would type keeps just these rows
            met = np.unique([float(f"{one:.3g}") for one in np.quantile(met, np.linspace(0, 1, THRESHOLDS))])
        found: dict[int, float | None] = {self.n: None}
        for one in [*met.tolist(), float(self.how.threshold)]:
            found[self._kept(one)] = one
        return [(found[kept], kept) for kept in sorted(found, reverse=True) if kept]

    def _kept(self, threshold: float) -> int:
        passed = self.scores >= threshold if self.how.keeps == "above" else self.scores < threshold
        return int(passed.sum())

    # ── figures ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _measures(self, k: int, at: int, sure: float) -> Iterator[Measure]:
        reached = self.n + self.scored.undecided
        yield Measure("quality", "kept", k / reached, n=reached, interval=wilson(k, reached), note="of rows it saw")
        for one in self.counted:
            yield self._covered(one, k, sure)
        yield from self._varied(k, at, sure)
        yield self._mean_words(k, sure)
        if self.hard is not None:
            yield self._hard(self.hard, k, sure)

    def _covered(self, one: _Counted, k: int, sure: float) -> Measure:
        held = int((one.first < k).sum())
        lost = [name for name, first in zip(one.names, one.first.tolist(), strict=True) if first >= k]
        absent = self.chance.absent(one.rows, k)
        beyond = k < self.n and _poisson_at_least(len(lost), absent) < sure
        return Measure(
            "coverage",
            one.name,
            held / one.of,
            unit=f"of {one.of}",
            n=k,
            control=(len(one.names) - absent) / one.of,
            control_of=RANDOM,
            axis=one.axis,
            note="fewer than by chance" if beyond else "",
            missing=tuple(lost),
        )

    def _varied(self, k: int, at: int, sure: float) -> Iterator[Measure]:
        """Mean pairwise distance, which does not depend on n, of all rows kept; the others at equal n."""
        told: dict[str, Any] = {"embedder": self.embedder}
        if k < FEW:
            few = f"too few: {plural(k, 'text')}, needs {FEW}"
            yield Measure("diversity", "mean pairwise distance", None, "cosine", (0.0, 2.0), k, note=few, **told)
            yield Measure("diversity", "Vendi score", None, "texts", (1.0, math.inf), k, note=few, **told)
            yield Measure("diversity", "distinct", None, n=k, note=few)
            return
        kept = _distances(self.vectors[:k])
        yield Measure(
            "diversity",
            "mean pairwise distance",
            kept.mean,
            unit="cosine",
            range=(0.0, 2.0),
            n=k,
            interval=kept.interval,
            control=self.apart.mean,
            control_of=RANDOM,
            note=_beside(kept.mean - self.apart.mean, self.apart.spread(k), sure),
            **told,
        )

        def figures(rows: Ints) -> list[float]:
            drawn = [self.texts[row] for row in rows.tolist()]
            return [vendi_of_vectors(self.narrow[rows]), len(set(groups(drawn, ALIKE))) / len(drawn)]

        (vendi, distinct), (around, between) = rarefied(k, at, figures, seed=self.seed, draws=5, most=MOST)
        yield Measure(
            "diversity",
            "Vendi score",
            vendi,
            unit="texts",
            range=(1.0, float(at)),
            n=at,
            interval=clamp(around, 1.0, float(at)) if around else None,
            **told,
        )
        share = wilson(round(distinct * at), at) or (0.0, 1.0)
        low, high = between or share
        yield Measure(
            "diversity",
            "distinct",
            distinct,
            n=at,
            interval=clamp((min(low, share[0]), max(high, share[1])), 0.0, 1.0),
        )

    def _mean_words(self, k: int, sure: float) -> Measure:
        value, interval = mean(self.words[:k])
        overall = float(self.words.mean())
        spread = float(self.words.std(ddof=1)) * self.chance.among(k) if self.n > 1 else 0.0
        return Measure(
            "complexity",
            "words",
            value if k >= FEW else None,
            unit="words",
            range=(0.0, math.inf),
            n=k,
            interval=clamp(interval, 0.0, math.inf) if interval and k >= FEW else None,
            control=overall if k >= FEW else None,
            control_of=RANDOM if k >= FEW else "",
            note=_beside(value - overall, spread, sure) if k >= FEW else f"too few: {plural(k, 'text')}, needs {FEW}",
        )

    def _hard(self, hard: NDArray[np.bool_], k: int, sure: float) -> Measure:
        hits, every = int(hard[:k].sum()), int(hard.sum())
        below, above = self.chance.tails(hits, k, every)
        word = "less than by chance" if below <= above else "more than by chance"
        return Measure(
            "complexity",
            "asked to be hard",
            hits / k,
            n=k,
            interval=wilson(hits, k),
            control=every / self.n,
            control_of=RANDOM,
            note=word if k < self.n and 2 * min(below, above) < sure else "",
        )

    # ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _remarks(self, points: Sequence[Point]) -> Iterator[str]:
        """What the next threshold on either side would change, then what the figures are of."""
        name = f"{self.label} {self.threshold(self.how.threshold)}"
        own = next((place for place, point in enumerate(points) if point.now), None)
        if own is None:
            yield f"the recipe's {name} keeps none of the rows with a score"
        else:
            yield from (self._change(points[own], points[to]) for to in (own + 1, own - 1) if 0 <= to < len(points))
        met = set(self.scores.tolist())
        if len(met) == 1 and self.n > 1:
            yield f"all rows have one score ({met.pop():.4g}): {self.label} tells none of them apart"
        dropped = ", ".join(f"{count:,} by {by}" for by, count in self.scored.dropped.items() if count)
        if dropped:
            yield f"rows that earlier filters dropped have no score and are in no figure here: {dropped}"
        if self.scored.undecided:
            undecided = plural(self.scored.undecided, "row")
            yield f"{undecided} undecided: no score, kept at no threshold, and counted among the rows that it saw"
        if always := self.n - sum(map(math.isfinite, self.scores.tolist())):
            yield f"{plural(always, 'row')} kept at every threshold: the filter compares nothing of them"
        yield (
            "every row was scored before it was kept or dropped, so laxer thresholds than the recipe's can be read off "
            "too; what later filters drop is not taken off"
        )
        if self.scored.refilled:
            yield (
                f"{self.scored.refilled:,} of {plural(self.n, 'row')} with a score stand in for rows that were turned "
                "down: regions that fall short at the recipe's threshold have more rows here than in the plan, and "
                "another threshold would have had other refills"
            )

    def threshold(self, value: float | None) -> str:
        """`≥ 3`, `< 0.9`, `all`."""
        return threshold(value, self.how.keeps)

    def _change(self, now: Point, then: Point) -> str:
        """`from ≥ 3 to ≥ 4: keeps 41 % instead of 78 %; loses topic: cards/pin, … (3; at random 0.2)`."""
        reached = self.n + self.scored.undecided
        shares = f"keeps {per_cent(then.kept, reached)} instead of {per_cent(now.kept, reached)}"
        said = [f"from {self.threshold(now.threshold)} to {self.threshold(then.threshold)}: {shares}"]
        word, more, fewer = ("loses", then, now) if then.kept < now.kept else ("gains", now, then)
        for one, other in zip(more.measures, fewer.measures, strict=True):
            if one.name == "leaves":
                known = set(other.missing)
                names = [name for name in one.missing if name not in known]
                if names:
                    some = ", ".join(clip(name, 60) for name in names[:NAMED])
                    some += f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
                    said.append(f"{word} {one.axis}: {some}")
        for one, other in zip(now.measures, then.measures, strict=True):
            before, after = figure(one, one.value), figure(other, other.value)
            if one.name in MOVED and before != after and BLANK not in (before, after):
                said.append(f"{MOVED[one.name]} {before} → {after}")
        return "; ".join(said)


# ── coverage ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Counted(NamedTuple):
    """Cells (leaves, or pairs of them) that rows with a score lie in."""

    name: str
    axis: str
    of: int
    """Cells that there could be."""
    names: Sequence[str]
    first: Ints
    """Place of the first row of each, in the order of the scores."""
    rows: Ints


def _coverage(
    frame: pl.DataFrame,
    taxonomies: Mapping[str, Taxonomy],
    together: Sequence[Sequence[str]],
    forbidden: Callable[[Mapping[str, str]], bool],
) -> Iterator[_Counted]:
    """Leaves of each taxonomy, and pairs of leaves of each two that a strategy draws together."""
    from itertools import combinations

    drawn = [set(axes) for axes in together] or [set(taxonomies)]
    leaves = {axis: frozenset(leaf.path for leaf in tree.leaves) for axis, tree in taxonomies.items()}
    leaves = {axis: of for axis, of in leaves.items() if of and axis in frame.columns}
    for axis, of in leaves.items():
        yield _counted(frame, "leaves", leaves, (axis,), len(of))
    for one, other in combinations(leaves, 2):
        if any({one, other} <= axes for axes in drawn):
            never = sum(forbidden({one: a, other: b}) for a in leaves[one] for b in leaves[other])
            yield _counted(frame, "pairs", leaves, (one, other), len(leaves[one]) * len(leaves[other]) - never)


def _counted(
    frame: pl.DataFrame, name: str, leaves: Mapping[str, frozenset[str]], axes: tuple[str, ...], of: int
) -> _Counted:
    import polars as pl

    met = (
        frame.select(pl.col(list(axes)).cast(pl.String))
        .with_row_index("_place")
        .filter(pl.all_horizontal([pl.col(axis).is_in(list(leaves[axis])) for axis in axes]))
        .group_by(axes)
        .agg(pl.col("_place").min().cast(pl.Int64), pl.len().cast(pl.Int64).alias("_rows"))
        .sort("_place")
    )
    names = [" × ".join(cell) for cell in met.select(axes).iter_rows()]
    # A cell that the recipe forbids by now may still have rows: there are then as many cells as were met.
    most = max(of, met.height)
    return _Counted(name, " × ".join(axes), most, names, met["_place"].to_numpy(), met["_rows"].to_numpy())


# ── chance ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Chance:
    """What k of n rows give that are drawn at random, without replacement."""

    def __init__(self, n: int) -> None:
        import numpy as np

        self.n = n
        self.log = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
        """Place i: the logarithm of i!."""

    def absent(self, rows: Ints, k: int) -> float:
        """How many of the cells with so many rows each are expected to have none among the k; exact."""
        import numpy as np

        sizes, count = np.unique(rows, return_counts=True)
        rest = self.n - sizes
        possible = rest >= k
        sizes, count, rest = sizes[possible], count[possible], rest[possible]
        odds = np.exp(self.log[rest] + self.log[self.n - k] - self.log[rest - k] - self.log[self.n])
        return float((odds * count).sum())

    def among(self, k: int) -> float:
        """Standard error of a mean of k rows, per standard deviation of a row."""
        return math.sqrt(1 / k - 1 / self.n)

    def tails(self, hits: int, k: int, every: int) -> tuple[float, float]:
        """Chances of at most, and of at least, `hits` of `every` rows among the k; exact (hypergeometric)."""
        import numpy as np

        n, log = self.n, self.log
        x = np.arange(max(0, k - (n - every)), min(k, every) + 1)
        odds = np.exp(
            (log[every] - log[x] - log[every - x])
            + (log[n - every] - log[k - x] - log[n - every - k + x])
            - (log[n] - log[k] - log[n - k])
        )
        return float(odds[x <= hits].sum()), float(odds[x >= hits].sum())


def _poisson_at_least(count: int, expected: float) -> float:
    """P(X ≥ count) of a Poisson variable.

    Cells of a draw without replacement are empty together less often than independent ones, and independent rare
    events less often than a Poisson variable says: never too small.
    """
    if expected > LARGE:
        return 1 - NormalDist(expected, math.sqrt(expected)).cdf(count - 0.5)
    term = total = math.exp(-expected)
    for one in range(1, count):
        term *= expected / one
        total += term
    return max(0.0, 1 - total) if count else 1.0


def _beside(difference: float, spread: float, sure: float) -> str:
    """Whether a mean lies beyond what as many rows drawn at random give."""
    if spread <= 0 or abs(difference) <= NormalDist().inv_cdf(1 - sure / 2) * spread:
        return ""
    return f"{'more' if difference > 0 else 'less'} than by chance"


# ── vectors ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Distances(NamedTuple):
    """Cosine distances between all pairs of n vectors."""

    n: int
    mean: float
    interval: tuple[float, float] | None
    of_rows: float
    """Variance of a row's mean distance to the others."""
    of_pairs: float
    """Variance over pairs."""

    def spread(self, k: int) -> float:
        """Standard deviation of the mean over all pairs of k of these rows, drawn at random (Hoeffding 1948)."""
        if k < 2:  # noqa: PLR2004  (one row has no pair)
            return 0.0
        variance = (4 * (k - 2) * self.of_rows + 2 * self.of_pairs) / (k * (k - 1))
        return math.sqrt(max(0.0, variance * (1 - k / self.n)))


def _distances(vectors: Vectors) -> _Distances:
    """Exact, in O(n·dim²), of unit vectors; the interval of the mean is the jackknife's."""
    import numpy as np

    n = len(vectors)
    if n < 2:  # noqa: PLR2004
        return _Distances(n, 0.0, None, 0.0, 0.0)
    total = vectors.sum(axis=0, dtype=np.float64)
    # Block by block: at once it would copy all vectors to 64 bits, 200 MB for 100,000.
    along = np.concatenate([vectors[start : start + 8192].astype(np.float64) @ total for start in range(0, n, 8192)])
    means = 1 - (along - 1) / (n - 1)
    value = min(max(float(means.mean()), 0.0), 2.0)
    gram = vectors.T @ vectors
    squares = (float(np.square(gram, dtype=np.float64).sum()) - n) / (n * (n - 1))
    interval = jackknife(value, (n * value - 2 * means) / (n - 2)) if n > 2 else None  # noqa: PLR2004
    return _Distances(
        n,
        value,
        clamp(interval, 0.0, 2.0) if interval else None,
        float(means.var()),
        max(0.0, squares - (1 - value) ** 2),
    )


def _asked_hard(frame: pl.DataFrame) -> NDArray[np.bool_] | None:
    """Which rows were asked to be hard; None where none were, or all."""
    import polars as pl

    if "_complexity" not in frame.columns:
        return None
    hard = (frame["_complexity"].cast(pl.String) == "hard").fill_null(value=False).to_numpy()
    return hard if hard.any() and not hard.all() else None
