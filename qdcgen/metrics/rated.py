"""Metric `rated`: how complex a critic finds the accepted rows, compared a few at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from qdcgen.bradley_terry import FLAT, NOISY, UNKNOWN, compared, fit, largest
from qdcgen.hardness import ASKED
from qdcgen.intervals import FEW, jackknife, median, spearman
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from qdcgen.bradley_terry import Ratings
    from qdcgen.parts import Sample
    from qdcgen.rows import Taxonomy

    Array = NDArray[np.float64]
    Places = NDArray[np.int64]

ENOUGH = 10
"""Rows that each side of a comparison needs."""
ALIKE = 0.1
"""Two texts are of like length when the longer has at most this share of words more."""
VALUE = 5
"""Rows that a value of an axis needs to be compared with the others."""
BINS = 4
DRAWS = 500
ORDER = ("plain", "easy", "medium", "hard")
"""Words for what a row was asked to be, easiest first, where the recipe's target gives no bands of its own."""
LOGITS = (-math.inf, math.inf)


class Rated(Metric):
    """How complex the critic under `measure.complexity` finds accepted rows, compared in batches.

    Each text stands in several seeded batches and gets a score against the others of each. All comparisons within
    batches together give ratings in logits, by Bradley and Terry's model (see qdcgen/bradley_terry.py): a text rated 1
    higher is found more complex in 73 of 100 comparisons. After the batch-wise scoring of Simula (arXiv 2603.29791).

    Rating reliability, in [-1, 1]: Spearman's ρ between ratings by two halves of the batches, stepped up to the whole
    (Spearman and Brown); the interval draws texts anew. Below 0.5, or where all scores are alike, no figure of what was
    asked is given. Rated harder:
    mean rating of rows that were asked to be the hardest minus that of the others, in logits; and the same between rows
    of like length (each harder row against the mean of the others with at most 10 % more or fewer words; rows without
    any are left out). Intervals draw texts anew, 500 times, and percentiles. Rating explained: for each axis whose
    values differ beyond their interval, the share of the scatter of ratings that lies between them, ε² (Kelley 1935),
    at most 1, 0 on average where an axis does nothing; jackknife. Numbers go in four equal groups, taxonomies by leaf,
    or by root where leaves hold fewer than 5 rows. With `anchors`: the median rating over the mean of the anchors,
    which two runs have in common, with the interval of the median and the anchors' noise; and ρ of their ratings with
    their levels.

    What makes it lie: the critic. One that goes by length or by the subject agrees with itself and is wrong. A logit
    is worth as much as the critic is sure: ratings of two critics, or without anchors of two runs, do not compare. Few
    comparisons put ratings some 10 % too far apart.
    """

    table: ClassVar[str] = "complexity"
    gates: ClassVar[tuple[str, ...]] = (
        "rating",
        "rating_reliability",
        "rated_harder",
        "rated_harder_at_equal_length",
        "rating_against_known_levels",
    )
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rating": ("measure.complexity.anchors",),
        "rating_reliability": ("measure.complexity",),
        "rated_harder": ("measure.complexity", ASKED),
        "rated_harder_at_equal_length": ("measure.complexity", ASKED),
        "rating_against_known_levels": ("measure.complexity.anchors",),
    }

    def measure(self, sample: Sample) -> list[Measure]:
        """The figures of accepted rows; none where no critic was asked."""
        return list(_figures(sample, sample.ratings)) if sample.ratings is not None else []


class _Rows(NamedTuple):
    """The rows whose text has a rating, in the order of their texts: the order of the rows changes no figure."""

    texts: list[str]
    ratings: Array
    code: Places
    """Which of the distinct texts each is: what intervals draw."""
    frame: pl.DataFrame


def _figures(sample: Sample, said: Ratings) -> Iterator[Measure]:
    held, pairs = largest(len(said.texts), compared(said.batches))
    place = {said.texts[item]: at for at, item in enumerate(held.tolist())}
    own = {text: at for text, at in place.items() if text not in said.anchors}
    blank = Measure("complexity", "rating reliability", None, "ρ", (-1.0, 1.0), len(own), of=sample.of)
    note = f"{plural(len(own), 'text')}, {plural(said.calls, 'call')} to {said.critic}"
    if len(own) < FEW:
        yield replace(blank, note=f"too few: {note} joined by comparisons; needs {FEW} texts")
        return
    found = said.reliability(sample.seed)
    if found is None:
        once = len({batch.round for batch in said.batches}) < 2  # noqa: PLR2004  (halves need two rounds)
        why = FLAT if said.flat else UNKNOWN
        yield replace(blank, note=f"too few: {note}, each compared once" if once else f"{why}: {note}")
    else:
        noisy = f"this critic's ratings agree with themselves at ρ = {found[0]:.2f}: too noisy to use; "
        note = noisy + note if found[0] < NOISY else note
        yield replace(blank, value=found[0], interval=found[1], note=note)
    ratings, spreads = fit(len(held), pairs)
    yield from _anchored(blank, said, place, ratings, spreads)
    row_of = sorted((row for row, text in enumerate(sample.texts) if text in own), key=sample.texts.__getitem__)
    texts = [sample.texts[row] for row in row_of]
    rows = _Rows(texts, ratings[[own[text] for text in texts]], _codes(texts), sample.frame[row_of])
    yield from _harder(
        replace(blank, unit="logits", range=LOGITS), rows, list(sample.bands), noise=said.noise(sample.seed)
    )
    yield from _explained(replace(blank, unit="ε²"), rows, [*sample.taxonomies, *sample.layers], sample.taxonomies)


def _codes(values: Sequence[str]) -> Places:
    """Equal values have equal numbers, from 0 in order of the alphabet."""
    import numpy as np

    number = {value: at for at, value in enumerate(sorted(set(values)))}
    return np.array([number[value] for value in values], dtype=np.int64)


# ── on the scale of the anchors ─────────────────────────────────────────────────────────────────────────────────────


def _anchored(
    blank: Measure, said: Ratings, place: Mapping[str, int], ratings: Array, spreads: Array
) -> Iterator[Measure]:
    import numpy as np

    if not said.anchors:
        return
    anchors = [place[text] for text in said.anchors if text in place]
    rating = replace(blank, name="rating", unit="logits", range=LOGITS)
    against = replace(blank, name="rating against known levels", unit="Spearman ρ")
    if said.flat or not anchors:
        none = f"too few: comparisons join 0 of {plural(len(said.anchors), 'anchor')} to the rows"
        yield from (replace(one, note=FLAT if said.flat else none) for one in (rating, against))
        return
    own = [at for text, at in place.items() if text not in said.anchors]
    base = float(ratings[anchors].mean())
    value, interval = median(ratings[own] - base)
    if interval is not None:
        # The anchors are fixed, their ratings are not: their mean is off by as much as means of so many are.
        off = float(np.sqrt((spreads[anchors] ** 2).sum())) / len(anchors)
        interval = (value - math.hypot(value - interval[0], off), value + math.hypot(interval[1] - value, off))
    note = f"median, above the mean of {len(anchors)} anchors"
    yield replace(rating, value=value, interval=interval, note=note)
    levels = [(place[text], level) for text, level in said.anchors.items() if text in place and level is not None]
    against = replace(against, n=len(levels))
    if len(levels) < FEW:
        few = f"too few: {len(levels)} of {plural(len(said.anchors), 'anchor')} have a level"
        yield replace(against, note=f"{few} and are joined to the rows; needs {FEW}")
        return
    known = np.array([level for _, level in levels])
    given = ratings[[at for at, _ in levels]]
    rho = spearman(known, given)
    if rho is None:
        yield replace(against, note=f"the levels or the ratings of {len(levels)} anchors are all alike")
    else:
        rng = np.random.default_rng(len(levels))
        draws = [rng.integers(0, len(levels), len(levels)) for _ in range(DRAWS)]
        drawn = [one for at in draws if (one := spearman(known[at], given[at])) is not None]
        low, high = np.percentile(drawn, [2.5, 97.5])
        yield replace(
            against,
            value=rho,
            interval=(min(float(low), rho), max(float(high), rho)),
            control=0.0,
            control_of="shuffled levels",
            note="of the anchors: how far this critic finds complex what people do",
        )


# ── asked to be harder ──────────────────────────────────────────────────────────────────────────────────────────────


def _harder(blank: Measure, rows: _Rows, bands: Sequence[str], *, noise: str) -> Iterator[Measure]:
    """The difference in rating of the rows asked to be the hardest from the others; and at equal length."""
    import numpy as np

    asked = _asked(rows.frame, bands)
    if asked is None:
        return
    if noise:
        for name in ("rated harder", "rated harder at equal length"):
            yield replace(blank, name=name, note=noise)
        return
    hard, name = asked
    rng = np.random.default_rng(blank.n)
    count = int(rows.code.max()) + 1
    # Row 0 is the sample as it is; each other one draws the texts anew.
    drawn = np.vstack([np.ones(count), rng.multinomial(count, np.full(count, 1 / count), DRAWS)])[:, rows.code]
    words = np.array([len(text.split()) for text in rows.texts], dtype=np.float64)
    one, other = np.flatnonzero(hard), np.flatnonzero(~hard)
    longer = np.maximum(words[one][:, None], words[other]) <= (1 + ALIKE) * np.minimum(
        words[one][:, None], words[other]
    )
    blank = replace(blank, control=0.0, control_of="shuffled requests")
    said = f"{len(one):,} rows asked to be {name} against {len(other):,}"
    yield _differing(replace(blank, name="rated harder", n=len(hard)), rows, one, other, drawn, None, said)
    met = longer.any(axis=1)
    said = f"{int(met.sum()):,} of {len(one):,} rows asked to be {name} against those of as many words, ±10 %"
    n = int(met.sum()) + int(longer.any(axis=0).sum())
    name = "rated harder at equal length"
    yield _differing(replace(blank, name=name, n=n), rows, one[met], other, drawn, longer[met], said)


def _asked(frame: pl.DataFrame, bands: Sequence[str]) -> tuple[NDArray[np.bool_], str] | None:
    """Which rows were asked to be the hardest, and how that is called. None where nothing was asked, or of no order."""
    import polars as pl

    if "_complexity" not in frame.columns:
        return None
    asked = frame["_complexity"].cast(pl.String)
    met = set(asked.drop_nulls().to_list())
    order = [*bands] if met <= {*bands} else [*ORDER]
    if len(met) == 1 and asked.null_count():
        order = [*met]  # some rows carry one value, the others none
    elif len(met) < 2 or not met <= {*order}:  # noqa: PLR2004  (one level has no order)
        return None
    hardest = max(met, key=order.index)
    return (asked == hardest).fill_null(value=False).to_numpy(), hardest


def _differing(
    blank: Measure,
    rows: _Rows,
    one: Places,
    other: Places,
    drawn: Array,
    like: NDArray[np.bool_] | None,
    note: str,
) -> Measure:
    """Mean rating of `one` minus that of `other`; with `like`, each of `one` minus the mean of the others like it."""
    import numpy as np

    near = other if like is None else other[like.any(axis=0)]
    if min(len(np.unique(rows.code[one])), len(np.unique(rows.code[near]))) < ENOUGH:
        return replace(blank, value=None, control=None, control_of="", note=f"too few: {note}; needs {ENOUGH} of each")
    hard, plain = drawn[:, one], drawn[:, other]
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may lack all that a row is set against
        if like is None:
            against = (plain @ rows.ratings[other] / plain.sum(axis=1))[:, None]
        else:
            against = ((plain * rows.ratings[other]) @ like.T) / (plain @ like.T)
        apart = rows.ratings[one] - against
        hard = np.where(np.isfinite(apart), hard, 0.0)
        found = (hard * np.nan_to_num(apart)).sum(axis=1) / hard.sum(axis=1)
    value = float(found[0])
    low, high = np.nanpercentile(found[1:], [2.5, 97.5])
    return replace(blank, value=value, interval=(min(float(low), value), max(float(high), value)), note=note)


# ── by axis ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _explained(blank: Measure, rows: _Rows, axes: Sequence[str], trees: Mapping[str, Taxonomy]) -> Iterator[Measure]:
    """For each axis whose values differ in rating beyond the interval: how much of the scatter lies between them."""
    import numpy as np

    for axis in axes:
        values = _values(rows.frame, axis, tree=axis in trees)
        if values is None:
            continue
        counts: dict[str, set[int]] = {}
        for value, code in zip(values, rows.code.tolist(), strict=True):
            if value is not None:
                counts.setdefault(value, set()).add(code)
        names = sorted(value for value, codes in counts.items() if len(codes) >= VALUE)
        held = np.array([row for row, value in enumerate(values) if value in names], dtype=np.int64)
        if len(names) < 2 or len(np.unique(rows.code[held])) < FEW:  # noqa: PLR2004  (one value differs from nothing)
            continue
        group = np.array([names.index(str(values[row])) for row in held.tolist()], dtype=np.int64)
        ratings, code = rows.ratings[held], rows.code[held]
        share = _between(ratings, group)
        without = np.array([_between(ratings[code != one], group[code != one]) for one in np.unique(code)])
        interval = jackknife(share, without)
        if interval is None or interval[0] <= 0:
            continue
        means = np.bincount(group, ratings) / np.bincount(group)
        ends = [f"{names[at]} ({means[at]:+.2f})" for at in (int(means.argmax()), int(means.argmin()))]
        yield replace(
            blank,
            name="rating explained",
            axis=axis,
            value=share,
            n=len(held),
            interval=(interval[0], min(interval[1], 1.0)),
            control=0.0,
            control_of="shuffled rows",
            note=f"highest {ends[0]}, lowest {ends[1]}",
        )


def _between(ratings: Array, group: Places) -> float:
    """ε² = 1 - (within / (n - k)) / (all / (n - 1)), k the groups that are there; 0 where nothing varies."""
    import numpy as np

    counts = np.bincount(group)
    sums = np.bincount(group, ratings)
    n, k = len(ratings), int((counts > 0).sum())
    total = float(((ratings - ratings.mean()) ** 2).sum())
    between = float((sums**2 / np.maximum(counts, 1)).sum()) - n * float(ratings.mean()) ** 2
    if total <= 0 or n <= k:
        return 0.0
    return 1 - ((total - between) / (n - k)) / (total / (n - 1))


def _values(frame: pl.DataFrame, axis: str, *, tree: bool) -> list[str | None] | None:
    """The axis's value of each row as a word; None where it has no words or numbers, or only one."""
    import polars as pl

    if axis not in frame.columns or frame[axis].dtype.is_nested() or frame[axis].n_unique() < 2:  # noqa: PLR2004
        return None
    column = frame[axis]
    if column.dtype.is_numeric() and column.n_unique() > BINS:
        ranks = column.rank("average")
        number = ((ranks - 1) * BINS / max(1, column.count())).floor().clip(0, BINS - 1).cast(pl.Int64)
        ends = [(column.filter(number == at).min(), column.filter(number == at).max()) for at in range(BINS)]
        told = [f"{low:g} to {high:g}" if low is not None else "" for low, high in ends]  # type: ignore[str-bytes-safe]
        return [None if at is None else told[at] for at in number.to_list()]
    words: list[str | None] = column.cast(pl.String).to_list()
    if tree and len(set(words)) * VALUE > len(words):
        words = [None if word is None else word.partition("/")[0] for word in words]
    return words
