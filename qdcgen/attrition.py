"""What each filter takes away: rows, regions, diversity, difficulty, and whom it turns down more than others. Pure.

Every figure is set against turning down as many rows at random. That loses rare regions too (counted exactly), and
leaves diversity and difficulty as they are, so that an interval of a change which holds 0 is chance.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen.effects import axes_of, holm
from qdcgen.intervals import FEW, T_19, Z, canonical, wilson
from qdcgen.parts import UNDECIDED
from qdcgen.report.contents import Attrition, Change, Loss, Sieve, Skew
from qdcgen.spectrum import vendi_of_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]
    Random = np.random.Generator

__all__ = ["attrition"]

SURE = 0.05
"""Adjusted p below which a loss or a skew is told."""
LEAST = 5
"""Rows of a value from which it is tested, and rows turned down from which a change has an interval."""
VALUES = 50
"""Most values of a layer or field that are tested one by one."""
NAMED = 5
READ = 50
"""Texts whose surprisal is read: those that the metric `surprisal` reads of all that was made, so none is read twice
(3 s each)."""
SIZES = (100, 30)
"""Rows that the Vendi score is taken at: the first of which twice as many went out."""
BLOCK = 2_048
DRAWN = 20_000_000
"""Weights that the bootstrap draws in all: 200 samples of 100,000 rows, 1,000 (the most) of 20,000."""
SUMMED = 8_000_000
"""Numbers that it holds at once: 32 MB."""


class _Pairs(NamedTuple):
    """Pairs of leaves that rows have, by number; there may be 100,000 of them."""

    one: Sequence[str]
    other: Sequence[str]
    met: Codes


class _Factor(NamedTuple):
    """An axis by values: counts by who turned the row down (the last line: nobody) and value."""

    axis: str
    values: Sequence[str]
    counts: Codes
    leaves: bool = False
    """Whether its values are leaves, of which those that are lost are counted."""
    pairs: _Pairs | None = None
    """Its values, where they are pairs: they are counted when lost, and not tested one by one."""
    below: Sequence[int] | None = None
    """For each leaf of the factor before this one, its place here, where this holds the nodes above it."""

    def name(self, place: int) -> str:
        """The value there, in words."""
        if self.pairs is None:
            return self.values[place]
        a, b = divmod(int(self.pairs.met[place]), len(self.pairs.other))
        return f"{self.pairs.one[a]} × {self.pairs.other[b]}"

    @property
    def came(self) -> Codes:
        """Rows by filter and value that came in; the last line is what all filters kept."""
        import numpy as np

        found: Codes = np.cumsum(self.counts[::-1], axis=0)[::-1]
        return found


def attrition(sample: Sample, whole: pl.DataFrame, fields: Sequence[str] = ()) -> Attrition | None:
    """The table; None where the recipe has no filter, or nothing was made.

    `sample` is everything made that has text, with the history of all candidates; `whole` has a row for each that
    neither failed nor was refused, with text or without. `fields` are columns with few values to look at like layers.
    """
    import polars as pl
    from threadpoolctl import threadpool_limits

    if sample.attempts is None or not sample.filters or sample.attempts.is_empty():
        return None
    history = sample.attempts.filter(pl.col("_state") != "retired")
    ended = history.filter(~pl.col("_state").is_in(["failed", "refused"]))
    places = {name: place for place, name in enumerate(sample.filters)}
    passed = pl.col("_state").is_in(["accepted", "surplus"])
    by = pl.col("_filter").replace_strict(places, default=None, return_dtype=pl.Int64)
    undecided = pl.col("_reason").str.starts_with(UNDECIDED).fill_null(value=False)
    # What filters of an earlier recipe said does not stand: such a row is not judged yet.
    judged = ended.select(
        "_id", pl.when(passed).then(len(places)).otherwise(by).alias("_by"), undecided.alias("_undecided")
    ).filter(pl.col("_by").is_not_null())
    axes = dict.fromkeys(["_id", *sample.taxonomies, *sample.layers, *fields, "_complexity"])
    rows = whole.select(name for name in axes if name in whole.columns)
    rows = rows.join(judged, on="_id", how="inner", maintain_order="left")
    if not judged.height or not rows.height:
        return None
    factors = list(_factors(sample, rows, fields, len(places)))
    losses, skews, tests = _claims(factors, sample.filters)
    with threadpool_limits(limits=1):  # as for all measures: sums have one order, and small matrices are quicker
        changes = _changes(sample, judged, len(places))
    counts = dict(judged.group_by("_by").len().iter_rows())
    unclear = dict(judged.filter("_undecided").group_by("_by").len().iter_rows())
    sieves, left = [], judged.height
    for place, name in enumerate(sample.filters):
        went = left - counts.get(place, 0)
        own = (tuple(losses[place]), tuple(changes[place]), tuple(skews[place]))
        sieves.append(Sieve(name, left, went, unclear.get(place, 0), *own))
        left = went
    return Attrition(
        made=history.height,
        whole=ended.height,
        unjudged=ended.height - judged.height,
        sieves=tuple(sieves),
        tests=tests,
        embedder=sample.embedder,
    )


# ── who is turned down ──────────────────────────────────────────────────────────────────────────────────────────────


def _factors(sample: Sample, rows: pl.DataFrame, fields: Sequence[str], filters: int) -> Iterator[_Factor]:
    """Leaves, nodes of the top level and pairs of leaves; layers, fields and asked difficulty with few values."""
    from itertools import combinations

    import numpy as np
    import polars as pl

    by = rows["_by"].to_numpy()
    leaves: dict[str, tuple[list[str], Codes]] = {}
    for axis, tree in sample.taxonomies.items():
        if axis not in rows.columns or rows[axis].null_count() == rows.height:
            continue
        values, codes = leaves[axis] = _coded(rows[axis])
        counts = _counted(by, codes, len(values), filters)
        yield _Factor(axis, values, counts, leaves=True)
        above = {node.path: list(tree.line(node.id))[-1].path for node in tree.nodes}
        tops = [above.get(path, path) for path in values]
        if tops != values:
            names = list(dict.fromkeys(tops))
            below = [names.index(top) for top in tops]
            summed = np.zeros((filters + 1, len(names)), dtype=np.int64)
            np.add.at(summed.T, below, counts.T)
            yield _Factor(axis, names, summed, below=below)
    for (one, (a, left)), (other, (b, right)) in combinations(leaves.items(), 2):
        both = (left >= 0) & (right >= 0)
        met, codes = np.unique((left * len(b) + right)[both], return_inverse=True)
        if len(met):
            counts = _counted(by[both], codes, len(met), filters)
            yield _Factor(f"{one} × {other}", (), counts, pairs=_Pairs(a, b, met))
    extra = [name for name in fields if name in rows.columns and name not in sample.layers]
    local = replace(sample, frame=rows, taxonomies={}, layers=[*sample.layers, *extra])
    for one_axis in axes_of(local):
        found, codes = _coded(pl.Series(one_axis.values, dtype=pl.String))
        if 1 < len(found) <= VALUES:
            yield _Factor(one_axis.name, found, _counted(by, codes, len(found), filters))
    if "_complexity" in rows.columns:
        asked = rows["_complexity"].cast(pl.String)
        if asked.null_count() < rows.height:
            found, codes = _coded(asked.fill_null("no difficulty"))
            if 1 < len(found) <= VALUES:
                yield _Factor("asked difficulty", found, _counted(by, codes, len(found), filters))


def _coded(column: pl.Series) -> tuple[list[str], Codes]:
    """Its values in order of the alphabet, and each row's place among them, -1 for none."""
    import numpy as np
    import polars as pl

    text = column.cast(pl.String)
    values = text.drop_nulls().unique().sort()
    codes = text.cast(pl.Enum(values)).to_physical().cast(pl.Int64).fill_null(-1)
    return values.to_list(), codes.to_numpy().astype(np.int64, copy=False)


def _counted(by: Codes, codes: Codes, values: int, filters: int) -> Codes:
    import numpy as np

    there = codes >= 0
    flat = np.bincount(by[there] * values + codes[there], minlength=(filters + 1) * values)
    return flat.reshape(filters + 1, values)


def _claims(factors: Sequence[_Factor], filters: Sequence[str]) -> tuple[list[list[Loss]], list[list[Skew]], int]:
    """Losses and skews of each filter, and how many tests were made in all; p is adjusted for all of them by Holm.

    Holm and not Benjamini–Hochberg: tests of one axis pull against each other (a row that one value lost, another did
    not), tests of a node and of its leaves go together, and Holm holds under any dependence. What is adjusted is the
    chance that a report says anything wrong, which is what a sentence that names a filter has to answer for.
    Which tests are made depends on the rows that came in, never on who was turned down.
    """
    import numpy as np

    most = max((int(factor.counts.sum()) for factor in factors), default=0)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 2)))])  # of factorials
    ps: list[float] = []
    lost: list[tuple[int, Loss]] = []
    tested: list[tuple[int, _Factor, int]] = []
    for factor in factors:
        if not (factor.leaves or factor.pairs):
            continue
        came = factor.came
        for place in range(len(filters)):
            n, left = int(came[place].sum()), int(came[place + 1].sum())
            if n >= FEW and 0 < left < n:
                loss, p = _loss(factor, came[place], came[place + 1], logs)
                lost.append((place, loss))
                ps.append(p)
    losses = len(ps)
    for factor in factors:
        if factor.pairs:
            continue
        r, came = factor.counts[:-1], factor.came[:-1]
        k, n = r.sum(axis=1, keepdims=True), came.sum(axis=1, keepdims=True)
        here = (came >= LEAST) & (came < n) & (n >= FEW) & (k > 0) & (k < n)
        at, values = np.nonzero(here)
        ps += _more(r[here], came[here], k[at, 0], n[at, 0], logs).tolist()
        tested += [(place, factor, value) for place, value in zip(at.tolist(), values.tolist(), strict=True)]
    adjusted = holm(ps)
    found: list[list[Loss]] = [[] for _ in filters]
    for (place, loss), p in zip(lost, adjusted[:losses], strict=True):
        found[place].append(replace(loss, p=p))
    sure = [(p, *test) for p, test in zip(adjusted[losses:], tested, strict=True) if p < SURE]
    skews: list[list[Skew]] = [[] for _ in filters]
    for p, place, factor, value in sorted(sure, key=lambda one: one[0]):
        skewed = {(at, of.axis, of.values[which]) for _, at, of, which in sure if of.below is None}
        if factor.below is None or not _through_leaves(factor, factors, place, value, skewed, logs):
            skews[place].append(_skew(factor, place, value, p))
    return found, skews, len(ps)


def _loss(factor: _Factor, came: Codes, went: Codes, logs: Array) -> tuple[Loss, float]:
    """What is lost, and how often as many rows turned down at random lose as many.

    A leaf of c rows among n loses all of them with probability C(n-c, k-c)/C(n, k) when k go. Leaves are then taken as
    independent; they are negatively associated, so that p is too large rather than too small.
    """
    import numpy as np

    n, k = int(came.sum()), int(came.sum() - went.sum())
    there = came[came > 0]
    able = there[there <= k]
    chances = np.exp(logs[n - able] + logs[k] - logs[k - able] - logs[n])
    gone = np.flatnonzero((came > 0) & (went == 0))
    ranked = gone[np.argsort(-came[gone], kind="stable")]
    loss = Loss(
        axis=factor.axis,
        pairs=factor.pairs is not None,
        lost=len(gone),
        of=len(there),
        chance=float(chances.sum()),
        p=1.0,
        names=tuple(factor.name(place) for place in ranked[:NAMED].tolist()),
        rows=int(came[gone].sum()),
    )
    return loss, _tail(chances, len(gone))


_EXACT = 2_000


def _tail(chances: Array, hits: int) -> float:
    """How often at least so many of these independent things happen.

    Exact up to 2,000 things. Above: normal where the variance is 25 at least, else Poisson, whose tail is heavier
    (Hoeffding 1956, Ann. Math. Stat. 27:713).
    """
    import numpy as np

    if hits == 0:
        return 1.0
    chances = chances[chances > 1e-15]  # noqa: PLR2004  (with 100,000 of them: 10⁻¹⁰)
    expected, variance = float(chances.sum()), float((chances * (1 - chances)).sum())
    if len(chances) <= _EXACT:
        below = np.zeros(hits)  # of exactly 0, 1, … hits - 1
        below[0] = 1.0
        for chance in chances.tolist():
            below[1:] = below[1:] * (1 - chance) + below[:-1] * chance
            below[0] *= 1 - chance
        return float(max(0.0, 1 - below.sum()))
    if variance >= 25:  # noqa: PLR2004  (as the docstring says)
        return 0.5 * math.erfc((hits - 0.5 - expected) / math.sqrt(2 * variance))
    terms = [math.exp(x * math.log(expected) - expected - math.lgamma(x + 1)) for x in range(hits)]
    return max(0.0, 1 - sum(terms))


def _more(r: Codes, c: Codes, k: Codes, n: Codes, logs: Array) -> Array:
    """Fisher's exact test, one-sided: how often at least r of c rows are among k of n that are drawn at random.

    1 where r is no more than its share. Else terms fall from the first on, and are added up until they no longer count.
    """
    import numpy as np

    p = np.ones(len(r))
    live = np.flatnonzero(r * n > c * k)
    x, c, k, n = r[live], c[live], k[live], n[live]

    def choose(a: Codes, b: Codes) -> Array:
        found: Array = logs[a] - logs[b] - logs[a - b]
        return found

    first = np.exp(choose(k, x) + choose(n - k, c - x) - choose(n, c))
    total, term, place = np.ones(len(live)), np.ones(len(live)), np.arange(len(live))
    while len(place):
        term = term * (c - x) * (k - x) / ((x + 1) * (n - c - k + x + 1))
        total[place] += term
        on = term > 1e-12 * total[place]
        place, term, x, c, k, n = place[on], term[on], x[on] + 1, c[on], k[on], n[on]
    p[live] = np.minimum(1.0, first * total)
    return p


def _through_leaves(
    factor: _Factor,
    factors: Sequence[_Factor],
    place: int,
    value: int,
    skewed: set[tuple[int, str, str]],
    logs: Array,
) -> bool:
    """Whether a node is turned down more only because of leaves below it that are told themselves."""
    import numpy as np

    leaves = next(one for one in factors if one.axis == factor.axis)
    rejected, came = leaves.counts[place], leaves.came[place]
    below = np.array(factor.below)
    told = np.array([(place, leaves.axis, name) in skewed for name in leaves.values]) & (below == value)
    if not told.any():
        return False
    rest = (below == value) & ~told
    r, c, k, n = (np.array([x.sum()]) for x in (rejected[rest], came[rest], rejected[~told], came[~told]))
    return bool(_more(r, c, k, n, logs)[0] >= SURE)


def _skew(factor: _Factor, place: int, value: int, p: float) -> Skew:
    rejected, came = factor.counts[place], factor.came[place]
    r, n = int(rejected[value]), int(came[value])
    others, others_n = int(rejected.sum()) - r, int(came.sum()) - n
    ratio = interval = None
    if others:
        ratio = r / n / (others / others_n)
        # Katz et al. 1978, Biometrics 34:469; it is not used where no other row was turned down
        spread = math.exp(Z * math.sqrt(1 / r - 1 / n + 1 / others - 1 / others_n))
        interval = (ratio / spread, ratio * spread)
    between = wilson(r, n) or (0.0, 1.0)
    return Skew(factor.axis, factor.values[value], n, r, between, others_n, others, ratio, interval, p)


# ── what changes among those that are left ──────────────────────────────────────────────────────────────────────────


def _changes(sample: Sample, judged: pl.DataFrame, filters: int) -> list[list[Change]]:
    """For each filter: distance, Vendi score, words, share of long words, asked difficulty, surprisal."""
    import numpy as np

    known = sample.frame.select("_id").join(judged, on="_id", how="left", maintain_order="left")
    by = known["_by"].fill_null(-1).to_numpy()
    there = by >= 0
    if not there.any():
        return [[] for _ in range(filters)]
    columns = dict(_columns(sample, there))
    vectors = sample.vectors()
    sums = _sums(vectors, by, np.column_stack(list(columns.values())), filters, sample.seed)
    found = []
    for place in range(filters):
        own = [sums.distance(place), _vendi(vectors, by, place, sample.seed)]
        own += [sums.column(place, name, at) for at, name in enumerate(columns)]
        found.append(own)
    return found


def _columns(sample: Sample, there: NDArray[np.bool_]) -> Iterator[tuple[str, Array]]:
    """A number for each text, NaN where there is none."""
    import numpy as np
    import polars as pl

    from qdcgen.surface import counted

    table = counted(sample.texts)
    for name in ("words", "long words"):
        yield name, table[name].cast(pl.Float64).to_numpy()
    if "_complexity" in sample.frame.columns:
        asked = sample.frame["_complexity"].cast(pl.String)
        met = set(asked.drop_nulls().unique())
        numbers = asked.cast(pl.Float64, strict=False)
        if met and numbers.null_count() == asked.null_count():
            yield "asked difficulty", numbers.fill_null(float("nan")).to_numpy()
        elif "hard" in met:
            yield "asked to be hard", (asked == "hard").fill_null(value=False).cast(pl.Float64).to_numpy()
    if sample.surprisal is not None:
        n = len(sample.texts)
        chosen = np.sort(np.random.default_rng(sample.seed).permutation(n)[:READ])
        rows = [row for row in canonical(sample.texts)[chosen].tolist() if there[row]]
        if len(rows) >= FEW:
            values = np.full(n, np.nan)
            for row, (nats, tokens) in zip(rows, sample.surprisal([sample.texts[row] for row in rows]), strict=True):
                values[row] = nats / tokens if tokens else np.nan
            yield "surprisal", values


class _Sums(NamedTuple):
    """Sums over the rows that reach each filter, by bootstrap sample; the first sample is the rows themselves.

    The last line of each is what all filters kept.
    """

    rows: Codes
    """(filters + 1,) rows that have a text."""
    weight: Array
    """(filters + 1, draws)"""
    squares: Array
    """Of the weights, (filters + 1, draws)."""
    length: Array
    """Squared length of the sum of the vectors, (filters + 1, draws)."""
    columns: Array
    """(filters + 1, draws, columns)"""
    weights: Array
    """Of the rows that have a number in the column, as `columns`."""

    def distance(self, place: int) -> Change:
        """Mean cosine distance over all pairs of different rows: of no size, so nothing has to be rarefied."""
        pairs = self.weight**2 - self.squares
        if not self._enough(int(self.rows[place]), int(self.rows[place + 1])):
            return Change("diversity", "distance", None, None)
        came, went = (1 - (self.length[at] - self.squares[at]) / pairs[at] for at in (place, place + 1))
        return _change("diversity", "distance", came, went, int(self.rows[place] - self.rows[place + 1]))

    def column(self, place: int, name: str, at: int) -> Change:
        """Mean of a column."""
        held = [round(float(self.weights[of, 0, at])) for of in (place, place + 1)]
        if not self._enough(*held):
            return Change("complexity", name, None, None)
        came, went = (self.columns[of, :, at] / self.weights[of, :, at] for of in (place, place + 1))
        return _change("complexity", name, came, went, held[0] - held[1])

    @staticmethod
    def _enough(came: int, went: int) -> bool:
        return came >= FEW and went >= FEW


def _change(table: str, name: str, came: Array, went: Array, rejected: int) -> Change:
    """The change and its bootstrap interval (normal, from the spread of the samples)."""
    drawn = went - came
    value = float(drawn[0]) if rejected else 0.0
    if rejected < LEAST:
        return Change(table, name, float(came[0]), value)
    spread = Z * float(drawn[1:].std(ddof=1))
    return Change(table, name, float(came[0]), value, (value - spread, value + spread))


def _sums(vectors: NDArray[np.float32], by: Codes, columns: Array, filters: int, seed: int) -> _Sums:
    """One pass over the rows, with weights from a Poisson distribution of mean 1 for each bootstrap sample.

    A row is never set against itself, however often it is drawn, so that repeats do not make texts look alike.
    """
    import numpy as np

    n, dim = vectors.shape
    draws = 1 + max(200, min(1_000, DRAWN // n, SUMMED // ((filters + 1) * dim)))
    # Weights by looking up 16 random bits: 5 times as fast as drawing them.
    shares = np.cumsum([math.exp(-1) / math.factorial(x) for x in range(12)])
    quantiles = np.searchsorted(shares, (np.arange(65_536) + 0.5) / 65_536).astype(np.float32)
    rng = np.random.default_rng([seed, 1])
    known = np.isfinite(columns)
    numbers = np.where(known, columns, 0.0)
    sums = np.zeros((filters + 1, draws, dim), dtype=np.float32)
    weight, squares = np.zeros((2, filters + 1, draws))
    told, weights = np.zeros((2, filters + 1, draws, columns.shape[1]))
    for start in range(0, n, BLOCK):
        part = by[start : start + BLOCK]
        drawn = quantiles[rng.integers(0, 65_536, (draws, len(part)), dtype=np.uint16)]
        drawn[0] = 1
        for place in np.unique(part[part >= 0]).tolist():
            at = np.flatnonzero(part == place)
            own = drawn[:, at]
            sums[place] += own @ vectors[start + at]
            weight[place] += own.sum(axis=1, dtype=np.float64)
            squares[place] += np.square(own).sum(axis=1, dtype=np.float64)
            told[place] += own @ numbers[start + at]
            weights[place] += own @ known[start + at].astype(np.float64)
    length = np.zeros((filters + 1, draws))
    reached = np.zeros((draws, dim), dtype=np.float64)
    for place in range(filters, -1, -1):
        reached += sums[place]
        length[place] = np.einsum("ij,ij->i", reached, reached)
    rows = np.bincount(by[by >= 0], minlength=filters + 1)

    def suffix(x: Any) -> Any:
        return np.cumsum(x[::-1], axis=0)[::-1]

    return _Sums(suffix(rows), suffix(weight), suffix(squares), length, suffix(told), suffix(weights))


DRAWS = 10
SUBSETS = 20


def _vendi(vectors: NDArray[np.float32], by: Codes, place: int, seed: int) -> Change:
    """Change of the Vendi score, both taken at as many rows; the interval by subsets without replacement.

    As `intervals.rarefied`: from the spread over 20 subsets of half of the rows (1,000 where that is enough), kept and
    turned down in their shares, less that of the draws, scaled to all rows; and the spread of the draws of the value.
    """
    import numpy as np

    kept, gone = np.flatnonzero(by > place), np.flatnonzero(by == place)
    size = next((size for size in SIZES if len(kept) >= 2 * size), 0)
    if not size:
        return Change("diversity", "Vendi", None, None)
    rng = np.random.default_rng([seed, 2, place])

    def scores(rows: Codes) -> tuple[float, float]:
        """Of the first rows that came in, and of the first that went out."""
        rows = rng.permutation(rows)
        return vendi_of_vectors(vectors[rows[:size]]), vendi_of_vectors(vectors[rows[by[rows] > place][:size]])

    drawn = np.array([scores(np.concatenate([kept, gone])) for _ in range(DRAWS)])
    came = float(drawn[:, 0].mean())
    if not len(gone):
        return Change("diversity", "Vendi", came, 0.0, at=size)
    differences = drawn[:, 1] - drawn[:, 0]
    value = float(differences.mean())
    if len(gone) < LEAST:
        return Change("diversity", "Vendi", came, value, at=size)
    n = len(kept) + len(gone)
    part = min(n // 2, max(1_000, math.ceil(size * n / len(kept))))
    held = min(max(size, round(part * len(kept) / n)), len(kept))
    left = min(max(1, part - held), len(gone))
    found = []
    for _ in range(SUBSETS):
        rows = np.concatenate([rng.choice(kept, held, replace=False), rng.choice(gone, left, replace=False)])
        found.append([went - came for came, went in (scores(rows), scores(rows))])
    two = np.array(found)
    drawing = float(np.square(two[:, 0] - two[:, 1]).mean()) / 2  # variance of one draw: half of it is in their mean
    unit = max(0.0, float(two.mean(axis=1).var(ddof=1)) - drawing / 2) / (1 / (held + left) - 1 / n)
    spread = T_19 * math.sqrt(unit / n + drawing / DRAWS)
    return Change("diversity", "Vendi", came, value, (value - spread, value + spread), at=size)
