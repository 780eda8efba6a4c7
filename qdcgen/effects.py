"""Does an axis matter? What its values explain of the texts, whether they can be read back, what is copied. Pure.

Everything here works on plain arrays: (n, d) vectors of the texts, a value's number for each row, and its stratum: the
mix of a layer, so that what the topic does is not credited to the mood; one stratum for an axis of the whole.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen.intervals import T_19, canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from qdcgen.parts import Sample
    from qdcgen.rows import Measure, Taxonomy

    Array = NDArray[np.float64]
    Vectors = NDArray[np.float32]
    Codes = NDArray[np.int64]
    Random = np.random.Generator

__all__ = [
    "Axis",
    "Copies",
    "Field",
    "Frozen",
    "Shuffled",
    "axes_of",
    "compact",
    "copies",
    "explained",
    "fields_of",
    "folds",
    "frozen",
    "holm",
    "jackknife",
    "narrowed",
    "read",
    "remarks",
    "shuffle",
    "shuffled",
]

LEAST = 5
"""Rows of a value below which it is left out: one row of five is what a fold holds out."""
DIMENSIONS = 512
"""Most numbers a vector keeps; longer ones are projected at random (seeded), which moves a sum of squares by 6 %."""
COMPONENTS = 64
"""Principal components of the texts that shuffles are compared on; they are chosen without looking at the axis."""
SHUFFLES = 999
ENOUGH = 20
"""Shuffles as good as the real values at which p is known well enough (Besag and Clifford 1991, Biometrika 78:301)."""
FOLDS = 5
RIDGE = 0.3
"""Ridge penalty over the mean eigenvalue. With wordllama 0.1, 0.3 and 1 read back 0.762, 0.761 and 0.750 of the 77
intents of 4,000 banking messages, 0.543, 0.560 and 0.547 of 300, and 0.62, 0.65 and 0.70 of 100 dialogues' services."""
BLOCKS = 20
GRAM = 5
"""Words in a row that must agree for a value's text to count as copied."""
TREES = 50
"""Most values a layer may have to be set against its mixes; above, its rows are one stratum."""
FREED = 8
"""Values that are frozen in turn: the commonest."""


# ── axes and fields ─────────────────────────────────────────────────────────────────────────────────────────────────


class Axis(NamedTuple):
    """An axis whose values can be listed: each row's value (None: not asked), and whether it is a layer."""

    name: str
    values: list[str | None]
    local: bool
    note: str = ""


class Field(NamedTuple):
    """Numbers that were drawn together: (n, k) positions in [0, 1] (NaN: not drawn), and the name of each column."""

    axis: str
    keys: tuple[str, ...]
    points: Array


def narrowed(sample: Sample, most: int) -> Sample:
    """The sample cut to `most` texts by seed, in an order that the order of its rows does not change."""
    import numpy as np

    order = canonical(sample.texts)
    if len(order) > most:
        order = order[np.sort(np.random.default_rng(sample.seed).choice(len(order), most, replace=False))]
    axes = [
        name for name in dict.fromkeys([*sample.taxonomies, *sample.layers, "_mix"]) if name in sample.frame.columns
    ]
    values = sample.frame[order.tolist()].select(axes).rows() if axes else [()] * len(order)
    keys = [(sample.texts[row], repr(value)) for row, value in zip(order.tolist(), values, strict=True)]
    rows = order[sorted(range(len(keys)), key=keys.__getitem__)] if keys else order
    return replace(
        sample,
        texts=[sample.texts[row] for row in rows.tolist()],
        frame=sample.frame[rows.tolist()],
        vectors=lambda: sample.vectors()[rows],
    )


def axes_of(sample: Sample) -> Iterator[Axis]:
    """Every axis with listable values, taxonomies first: numbers in fifths, the parts of a struct one by one."""
    for name, tree in sample.taxonomies.items():
        if name in sample.frame.columns:
            yield _level(name, tree, sample.frame[name])
    for name in sample.layers:
        if name in sample.frame.columns and name not in sample.taxonomies:
            yield from _parts(name, sample.frame[name])


def _level(name: str, tree: Taxonomy, column: pl.Series) -> Axis:
    """The axis at its deepest level where half of the rows lie in nodes that enough rows share."""
    import polars as pl

    paths: list[str | None] = column.cast(pl.String).to_list()
    known = {node.path: [met.path for met in tree.line(node.id)][::-1] for node in tree.nodes}
    lines = [known.get(path) if path is not None else None for path in paths]
    values: list[str | None] = []
    for depth in range(max(tree.depth, 1), 0, -1):
        values = [line[:depth][-1] if line else None for line in lines]
        counts = _counts(values)
        held = [count for count in counts.values() if count >= LEAST]
        if len(held) > 1 and 2 * sum(held) >= sum(counts.values()):
            return Axis(name, values, local=False, note="" if depth == tree.depth else f"its nodes of level {depth}")
    return Axis(name, values, local=False)


def _parts(name: str, column: pl.Series) -> Iterator[Axis]:
    import polars as pl

    if isinstance(column.dtype, pl.Struct):
        yield from _of_struct(name, column)
    elif column.drop_nulls().n_unique() > 10 and _numeric(column):  # noqa: PLR2004  (fifths of two values each)
        yield Axis(name, _fifths(column), local=True, note="in fifths, as many rows in each")
    elif column.dtype.is_numeric() or isinstance(column.dtype, (pl.String, pl.Categorical, pl.Enum, pl.Boolean)):
        yield Axis(name, column.cast(pl.String).to_list(), local=True)


def _of_struct(name: str, column: pl.Series) -> Iterator[Axis]:
    """By `name` where there is one; else by the text, where rows share it, and by each part that rows share.

    Whole numbers in a struct count things off (the third piece of a document), and are no axis.
    """
    import polars as pl

    table = column.struct.unnest()
    parts = [key for key in table.columns if not table[key].dtype.is_integer() and key not in {"name", "text"}]
    if "name" in table.columns:
        yield from _parts(name, table["name"])
        parts = [key for key in parts if table[key].dtype.is_float()]
        yield from (axis for key in parts for axis in _parts(f"{name}.{key}", table[key]))
        return
    whole = list(_parts(name, table["text"])) if "text" in table.columns else []
    found = list(whole)
    for key in parts:  # a source called "17" is no number
        part = table[key].cast(pl.Categorical) if table[key].dtype == pl.String else table[key]
        found += _parts(f"{name}.{key}", part)
    shared = [axis for axis in found if sum(count >= LEAST for count in _counts(axis.values).values()) > 1]
    yield from shared or whole


def _numeric(column: pl.Series) -> bool:
    """Whether these are numbers, or texts that are all numbers: a file's columns come as texts."""
    import polars as pl

    if column.dtype != pl.String:
        return column.dtype.is_numeric()
    return column.cast(pl.Float64, strict=False).null_count() == column.null_count()


def _fifths(column: pl.Series) -> list[str | None]:
    import numpy as np
    import polars as pl

    numbers = column.cast(pl.Float64).fill_nan(None)
    ends = np.quantile(numbers.drop_nulls().to_numpy(), [0.2, 0.4, 0.6, 0.8])
    return [None if x is None else str(int((x > ends).sum())) for x in numbers.to_list()]


def _counts(values: Sequence[str | None]) -> dict[str, int]:
    from collections import Counter

    return Counter(value for value in values if value is not None)


def fields_of(sample: Sample) -> Iterator[Field]:
    """The numeric layers: a struct's numbers together, any other alone; brought to [0, 1] each.

    Numbers in [0, 1] stay; a struct's numbers beyond are T-scores (mean 50, standard deviation 10) and become the share
    of people below; a layer's own numbers are set between the least and the greatest that was drawn.
    """
    import numpy as np
    import polars as pl

    for name in sample.layers:
        if name not in sample.frame.columns or name in sample.taxonomies:
            continue
        column = sample.frame[name]
        if isinstance(column.dtype, pl.Struct):
            table = column.struct.unnest()
            keys = tuple(key for key in table.columns if table[key].dtype.is_float())
            if keys:
                numbers = table.select(pl.col(keys).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
                yield Field(name, keys, _share_below(numbers) if np.nanmax(numbers, initial=0) > 1 else numbers)
        elif column.dtype.is_numeric() and column.drop_nulls().n_unique() > 10:  # noqa: PLR2004  (as in _parts)
            numbers = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
            if column.dtype.is_integer():
                numbers = _spread(numbers)
            low, high = np.nanmin(numbers), np.nanmax(numbers)
            if column.dtype.is_integer():
                low, high = np.floor(low), np.ceil(high)
            yield Field(name, (name,), ((numbers - low) / (high - low))[:, None])


def _spread(whole: Array) -> Array:
    """Whole numbers, each moved into the unit above it; the rows of one number are spread evenly over it.

    Else 200 rows on 16 numbers would be 16 points, and leave most of the line uncovered however well they are drawn.
    """
    import numpy as np

    found = whole.copy()
    for number in np.unique(whole[np.isfinite(whole)]):
        rows = np.flatnonzero(whole == number)
        found[rows] = number + (np.arange(len(rows)) + 0.5) / len(rows)
    return found


def _share_below(scores: Array) -> Array:
    import math

    import numpy as np

    below = np.vectorize(lambda t: 0.5 * (1 + math.erf((t - 50) / 10 / math.sqrt(2))), otypes=[float])
    found: Array = below(scores)
    return found


# ── what the values explain ─────────────────────────────────────────────────────────────────────────────────────────


def compact(vectors: Vectors, seed: int) -> Vectors:
    """The vectors with at most 512 numbers each."""
    import numpy as np

    size = vectors.shape[1]
    if size <= DIMENSIONS:
        return vectors
    turn = np.random.default_rng(seed).standard_normal((size, DIMENSIONS)).astype(np.float32)
    projected: Vectors = vectors @ turn / np.float32(DIMENSIONS**0.5)
    return projected


class _Design(NamedTuple):
    """What of a row's value is not said by its stratum, as weights that turn sums over values into a sum of squares."""

    order: Codes
    starts: Codes
    values: int
    degrees: int
    weights: Array
    """(values,) where there is one stratum, else (values, degrees)."""

    def squares(self, centred: NDArray[Any], order: Codes | None = None) -> float:
        """Sum of squares that the values explain of vectors whose strata have mean 0; `order` shuffles the rows."""
        import numpy as np

        sums = np.add.reduceat(centred[self.order if order is None else order], self.starts, axis=0)
        if self.weights.ndim == 1:
            return float(np.einsum("ij,ij,i->", sums, sums, self.weights))
        return float(np.square(self.weights.T @ sums).sum())


def _design(labels: Codes, strata: Codes) -> _Design:
    """Labels and strata are numbers from 0 without gaps."""
    import numpy as np

    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    if strata.max() == 0:
        return _Design(order, starts, len(sizes), len(sizes) - 1, 1.0 / sizes)
    values = len(sizes)
    table = np.bincount(strata * values + labels, minlength=(int(strata.max()) + 1) * values)
    table = table.reshape(-1, values).astype(np.float64)
    cross = np.diag(sizes.astype(np.float64)) - table.T @ (table / table.sum(axis=1, keepdims=True))
    found, axes = np.linalg.eigh(cross)
    held = found > 1e-9 * len(labels)  # rounding
    return _Design(order, starts, values, int(held.sum()), axes[:, held] / np.sqrt(found[held]))


def _centred(vectors: NDArray[Any], strata: Codes) -> Array:
    import numpy as np

    if strata.max() == 0:
        whole: Array = vectors - vectors.mean(axis=0, dtype=np.float64)
        return whole
    order = np.argsort(strata, kind="stable")
    sizes = np.bincount(strata)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    means = np.add.reduceat(vectors[order].astype(np.float64), starts, axis=0) / sizes[:, None]
    found: Array = vectors - means[strata]
    return found


def explained(vectors: NDArray[Any], labels: Codes, strata: Codes) -> float | None:
    """ε², the share of the texts' variation that the values explain beyond chance and beyond their strata.

    ((SS - df · MSE) / (n - strata)) / (total / (n - 1)), where SS is what the values add to a linear model of the
    strata, df its rank, and MSE the mean square of what both leave (Kelley 1935; in one stratum it is the adjusted R²).
    0 on average for values that do nothing. None where nothing varies, or nothing is left to set the values against.
    """
    import numpy as np

    _, labels = np.unique(labels, return_inverse=True)
    _, strata = np.unique(strata, return_inverse=True)
    design, centred = _design(labels, strata), _centred(vectors, strata)
    total, within = _total(vectors), float(np.square(centred).sum())
    if not design.degrees or total < 1e-9 * len(labels):  # rounding of 32-bit vectors
        return None
    return _share(design, design.squares(centred), within, total, strata)


def _total(vectors: NDArray[Any]) -> float:
    import numpy as np

    return float(np.square(vectors - vectors.mean(axis=0, dtype=np.float64)).sum())


def _share(design: _Design, squares: float, within: float, total: float, strata: Codes) -> float | None:
    """ε² of these sums of squares; None where no row is left to set the values against."""
    n, groups = len(strata), int(strata.max()) + 1
    rest = n - groups - design.degrees
    if rest < 1:
        return None
    beyond = squares - design.degrees * (within - squares) / rest
    return beyond / (n - groups) / (total / (n - 1))


class Shuffled(NamedTuple):
    """How often shuffled values explained as much as the real ones, and how much 95 of 100 shuffles stayed below."""

    hits: int
    shuffles: int
    bound: float

    @property
    def p(self) -> float:
        """Never below 1 / (shuffles + 1)."""
        return self.hits / self.shuffles if self.hits >= ENOUGH else (self.hits + 1) / (self.shuffles + 1)


def shuffled(vectors: NDArray[Any], labels: Codes, strata: Codes, rng: Random, shuffles: int = SHUFFLES) -> Shuffled:
    """The permutation test of `explained`, on the first 64 principal components, values shuffled within their strata.

    It ends early once 20 shuffles did as well. `bound` is in units of ε², on the components' own total.
    """
    import numpy as np

    centred = _centred(vectors, strata)
    _, axes = np.linalg.eigh(centred.T @ centred)
    points = (centred @ axes[:, -COMPONENTS:]).astype(np.float32)
    design = _design(labels, strata)
    real = design.squares(points)
    hits, drawn = 0, list[float]()
    while len(drawn) < shuffles and hits < ENOUGH:
        drawn.append(design.squares(points, shuffle(strata, rng)[design.order]))
        hits += drawn[-1] >= real * (1 - 1e-6)
    top = _share(design, float(np.quantile(drawn, 0.95)), float(np.square(points).sum()), _total(vectors), strata)
    return Shuffled(hits, len(drawn), max(0.0, top or 0.0))


def shuffle(strata: Codes, rng: Random) -> Codes:
    """A random order of the rows in which each lies in a place of its own stratum."""
    import numpy as np

    n = len(strata)
    if strata.max() == 0:
        return rng.permutation(n)
    found = np.empty(n, dtype=np.int64)
    found[np.argsort(strata, kind="stable")] = np.argsort(strata + rng.random(n))
    return found


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values adjusted for how many there are (Holm 1979, Scand. J. Stat. 6:65)."""
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = least
    return adjusted


def jackknife(
    n: int, statistic: Callable[[Codes], float | None], value: float, rng: Random
) -> tuple[float, float] | None:
    """Interval of a smooth figure from leaving out each of 20 random blocks of the rows in turn; None where too few."""
    import numpy as np

    blocks = np.arange(n) % min(BLOCKS, max(2, n // 2))
    rng.shuffle(blocks)
    found = [statistic(np.flatnonzero(blocks != block)) for block in range(int(blocks.max()) + 1)]
    left = np.array([one for one in found if one is not None])
    if len(left) < 5:  # noqa: PLR2004  (t on fewer than 4 degrees of freedom spans everything)
        return None
    spread = T_19 * float(np.sqrt((len(left) - 1) / len(left) * np.square(left - left.mean()).sum()))
    return value - spread, value + spread


# ── reading back ────────────────────────────────────────────────────────────────────────────────────────────────────


def folds(groups: Sequence[int] | Codes, rng: Random) -> Codes:
    """A fold from 0 to 4 for each row; rows of one group share it."""
    import numpy as np

    _, place = np.unique(np.asarray(groups), return_inverse=True)
    numbers = np.arange(int(place.max()) + 1) % FOLDS
    rng.shuffle(numbers)
    found: Codes = numbers[place]
    return found


BLOCK = 64
"""Targets that are read at once."""


def read(vectors: NDArray[Any], targets: NDArray[Any], fold: Codes) -> NDArray[np.float32]:
    """(n, t) targets as a ridge regression reads them from the vectors, each row by a model that did not see its fold.

    The penalty is the mean eigenvalue of the training vectors, set beforehand and not tuned: nothing is chosen by
    looking at what is held out.
    """
    import numpy as np

    found = np.empty(targets.shape, dtype=np.float32)
    for number in range(FOLDS):
        out, held = fold == number, fold != number
        if not out.any():
            continue
        known = vectors[held].astype(np.float64)
        if not len(known):
            found[out] = 0.0
            continue
        middle = known.mean(axis=0)
        known -= middle
        square = known.T @ known
        square[np.diag_indices_from(square)] += RIDGE * max(float(np.trace(square)) / len(square), 1e-9)
        inverse = np.linalg.inv(square)  # the ridge keeps it far from singular
        asked = vectors[out] - middle
        for start in range(0, targets.shape[1], BLOCK):  # at once, 4,000 rows of 550 targets took 77 MB
            said = targets[held, start : start + BLOCK].astype(np.float64)
            mean = said.mean(axis=0)
            found[out, start : start + BLOCK] = asked @ (inverse @ (known.T @ (said - mean))) + mean
    return found


# ── freezing ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Frozen(NamedTuple):
    """Share of the effective number of texts that is lost, the same for shuffled values, and the size it is at."""

    lost: float
    shuffled: float
    interval: tuple[float, float]
    size: int


def frozen(vectors: Vectors, labels: Codes, strata: Codes, rng: Random) -> Frozen | None:
    """1 - (Vendi score of m texts with one value of the axis) / (Vendi score of m texts of all values).

    m is the largest of 10, 20 and 50 that two values have twice as many rows as; mean over the values (the 8 commonest
    that have as many) and over draws without replacement. The interval is that of 20 halves of each value's rows
    (delete-d jackknife). None where fewer than two values have 20 rows.
    """
    import numpy as np

    sizes = np.bincount(labels)
    common = np.argsort(-sizes, kind="stable")[:FREED]
    size = max((m for m in (10, 20, 50) if (sizes[common] >= 2 * m).sum() > 1), default=0)
    if not size:
        return None
    common = common[sizes[common] >= 2 * size]
    draws = max(4, 32 // len(common))

    def lost(rows: Codes, now: Codes) -> float:
        places = [rows[now == value] for value in common.tolist()]
        picked = [rng.choice(place, size, replace=False) for place in places for _ in range(draws)]
        whole = [rng.choice(rows, size, replace=False) for _ in picked]
        return 1 - float(_effective(vectors, picked).mean() / _effective(vectors, whole).mean())

    every = np.arange(len(labels))
    value = float(np.mean([lost(every, labels) for _ in range(4)]))
    mixed = float(np.mean([lost(every, labels[shuffle(strata, rng)]) for _ in range(4)]))
    parts = []
    for _ in range(BLOCKS):
        order = rng.permutation(len(labels))
        rank = np.empty(len(labels), dtype=np.int64)  # of a row among those of its value, in random order
        for value_ in range(len(sizes)):
            mine = order[labels[order] == value_]
            rank[mine] = np.arange(len(mine))
        rows = np.flatnonzero(rank < (sizes[labels] + 1) // 2)
        parts.append(lost(rows, labels[rows]))
    spread = T_19 * float(np.std(parts, ddof=1))
    return Frozen(value, mixed, (value - spread, value + spread), size)


def _effective(vectors: Vectors, picked: Sequence[Codes]) -> Array:
    """The Vendi score of each of these sets of rows (see the metric `vendi`)."""
    import numpy as np

    chosen = vectors[np.stack(picked)].astype(np.float64)
    spectra = np.linalg.eigvalsh(chosen @ chosen.transpose(0, 2, 1) / chosen.shape[1]).clip(1e-12)
    spectra /= spectra.sum(axis=1, keepdims=True)
    scores: Array = np.exp(-(spectra * np.log(spectra)).sum(axis=1))
    return scores


# ── copying ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Copies(NamedTuple):
    """Which rows copy their axis, by what, and the share that would by chance."""

    hits: int
    n: int
    chance: float
    labels: int
    words: int
    numbers: int


_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SHORTEST = 3
"""Letters of an axis's name below which `q:` is a list item rather than a label."""


class _Trace(NamedTuple):
    """What of a value, or of a text, may be met in the other."""

    grams: frozenset[tuple[str, ...]]
    numbers: frozenset[str]

    def meets(self, other: _Trace) -> bool:
        return not (self.grams.isdisjoint(other.grams) and self.numbers.isdisjoint(other.numbers))


def copies(axis: str, column: pl.Series, texts: Sequence[str], rng: Random, *, tree: bool = False) -> Copies | None:
    """Rows whose text holds the axis's name as a label (`mood:`), five words in a row of its value, or its numbers.

    Of a taxonomy its name only, since a text may well name its topic; and a short value in a text (an angry customer
    who says "angry") is no copy either. Chance: the same for the values of other rows; a name has none. None where no
    row has a value.
    """
    values = column.to_list()
    rows = [row for row, value in enumerate(values) if value is not None]
    if not rows:
        return None
    label = _label([axis, *(values[rows[0]] if isinstance(values[rows[0]], dict) else ())])
    labelled = [bool(label and label.search(texts[row])) for row in rows]
    keys = [repr(values[row]) for row in rows]

    @lru_cache(maxsize=1_024)  # not all of them: passages of documents would take 0.1 MB each
    def trace(row: int) -> _Trace:
        return _left_by(None if tree else values[row])

    first = dict(zip(reversed(keys), reversed(rows), strict=True))
    long = any(trace(row).grams for row in list(first.values())[:1_024])
    rounds = max(1, min(5, 5_000 // len(rows)))
    others = [rng.permutation(len(rows)).tolist() for _ in range(rounds)]
    hits = words = numbers = met = tried = 0
    for place, (row, key) in enumerate(zip(rows, keys, strict=True)):
        heard = _Trace(_grams(texts[row]) if long else frozenset(), _numbers(texts[row]))
        mine = trace(first[key])
        worded, numbered = not mine.grams.isdisjoint(heard.grams), not mine.numbers.isdisjoint(heard.numbers)
        words, numbers, hits = words + worded, numbers + numbered, hits + (worded or numbered or labelled[place])
        for order in others:
            if keys[order[place]] != key:
                tried += 1
                met += trace(first[keys[order[place]]]).meets(heard)
    return Copies(hits, len(rows), met / tried if tried else 0.0, sum(labelled), words, numbers)


def _label(names: Sequence[str]) -> re.Pattern[str] | None:
    """Any of these names before a colon or an equals sign and a word; `text` and `name` are keys, not names."""
    told = [re.escape(name).replace("_", "[ _-]?") for name in names if name not in {"text", "name"}]
    told = [name for name in told if len(name) >= _SHORTEST]
    return re.compile(rf"(?<!\w)(?:{'|'.join(told)})[\"*]*\s*[:=]\s*\S", re.IGNORECASE) if told else None


def _left_by(value: Any) -> _Trace:
    """What a copied value would leave: runs of five words of its texts, and its numbers as people write them."""
    parts = [value]
    if isinstance(value, dict):  # what prompts get is its text; a list is of what was shown; whole numbers count off
        parts = [part for key, part in value.items() if key == "text" or isinstance(part, float)]
        parts += [said for part in value.values() if isinstance(part, list) for said in part]
    grams: set[tuple[str, ...]] = set()
    numbers: set[str] = set()
    for part in parts:
        if isinstance(part, str):
            grams |= _grams(part)
        elif isinstance(part, float) and part == part:  # noqa: PLR0124  (NaN)
            # Below 2 a single decimal is in half of all texts with prices; a T-score would be copied as a whole number.
            numbers |= {f"{part:.2f}"} if abs(part) < 2 else {f"{part:.0f}", f"{part:.1f}", f"{part:.2f}"}  # noqa: PLR2004
        elif isinstance(part, int) and not isinstance(part, bool):
            numbers.add(str(part))
    return _Trace(frozenset(grams), frozenset(numbers))


def _grams(text: str) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return frozenset(zip(*(words[start:] for start in range(GRAM)), strict=False))


def _numbers(text: str) -> frozenset[str]:
    return frozenset(_NUMBER.findall(text))


# ── in words ────────────────────────────────────────────────────────────────────────────────────────────────────────


def remarks(measures: Sequence[Measure]) -> Iterator[str]:
    """What the metric `effects` found that its reader should act on: axes that do nothing, axes that are copied."""
    ours = [one for one in measures if one.table == "diversity" and one.of != "anchor" and one.value is not None]
    idle = [one.axis for one in ours if one.name == "effect" and " is decorative;" in one.note]
    if idle:
        todo = "; say in the prompt what they change, or take them out" if any(m.of == "kept" for m in ours) else ""
        yield f"decorative: {', '.join(idle)}: shuffled values explain as much, and none can be read back{todo}"
    for one in ours:
        if one.name == "copied" and one.note.startswith("leaking"):
            yield (
                f"{one.axis} leaks: {one.value:.0%} of rows copy it ({one.control or 0:.0%} by chance): "
                f"{one.note.partition(': ')[2]}"
            )
