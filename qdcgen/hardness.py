"""What was asked to be harder against what is: figures of single rows, correlations, and pairs of like length. Pure.

"Harder" is easily only "longer". So each figure is compared at any length and at equal length, in two ways: the rank
correlation given the words, which uses all rows and takes the relation to length as monotone, and pairs of one leaf
that are of like length, which assume nothing and use fewer rows.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from hashlib import sha256
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

from qdcgen.intervals import FEW, Z, canonical, mean, spearman
from qdcgen.surface import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.intervals import Interval
    from qdcgen.parts import Sample
    from qdcgen.rows import Measure

    Array = NDArray[np.float64]
    Places = NDArray[np.int64]

__all__ = [
    "ASKED",
    "DOWN",
    "ENOUGH",
    "HARDER",
    "NEAR",
    "READ",
    "SOLVED",
    "Apart",
    "Compared",
    "apart",
    "compared",
    "instructed",
    "levels",
    "matched",
    "partial",
    "ratio",
    "read",
    "remarks",
    "solved_band",
]

SCALE = (
    "trivial",
    "very easy",
    "easy",
    "low",
    "simple",
    "plain",
    "medium",
    "normal",
    "moderate",
    "hard",
    "high",
    "difficult",
    "complex",
    "very hard",
    "expert",
)
"""Words for difficulty, easiest first; other words have no order that could be known."""
TINY = 1e-9
ENOUGH = 10
"""Rows that each side of a comparison needs."""
NEAR = 0.1
"""Two rows are of like length where neither has more than this share of words more than the row asked to be harder."""
READ = 50
"""Texts whose surprisal is read: 60 tokens take 3 s of a core."""
HARDER = "harder in "
"""How the names of measures begin that set rows asked to be harder against the others."""
ASKED = "a step complexify or target.complexity"
"""What asks for difficulty: the gates that need it."""
DOWN = frozenset({"pass rate"})
"""Figures that fall where rows are harder."""


class Compared(NamedTuple):
    """Rows whose asked-for difficulty is known, in an order that the order of the rows does not change."""

    rows: Places
    """Their places in the sample."""
    asked: Array
    """The difficulty that was asked for, as a number."""
    hardest: NDArray[np.bool_]
    """Whether the row was asked for the highest difficulty that any was asked for."""
    words: Array
    figures: dict[str, Array]
    """What is known of each row, by name; NaN where it is not."""
    leaves: list[str]
    """The region of each row: pairs are made within one."""
    note: str
    noise: str = ""
    """Why the ratings say nothing; empty where they may."""


def compared(sample: Sample, most: int) -> Compared | str:
    """At most `most` rows, spread evenly over the sample's texts; or why there is nothing to compare."""
    import numpy as np

    asked, note = levels(sample)
    if asked is None:
        return note
    order = canonical(sample.texts).tolist()
    order.sort(key=lambda row: (sample.texts[row], asked[row]))  # equal texts may have been asked differently
    held = np.array([row for row in order if math.isfinite(asked[row])], dtype=np.int64)
    held = held[:: -(-len(held) // most)] if len(held) else held
    # Shuffled: of two rows of one length the first is taken into a pair, and the alphabet is no fair order. Texts that
    # began with a long word came first, and a difference of 0 in long words was found to be -0.15 sd.
    held = np.random.default_rng(sample.seed).permutation(held)
    texts = [sample.texts[row] for row in held.tolist()]
    table = counted(texts)
    figures = {name: table[name].cast(float).to_numpy() for name in ("words per sentence", "long words")}
    if "_solved" in sample.frame.columns and sample.of != "raw":  # only accepted rows are solved
        figures["pass rate"] = sample.frame["_solved"].fill_null(math.nan).to_numpy()[held].astype(np.float64)
    for name, known in (("rating", _rated(sample)), ("surprisal", read(sample)), ("IFD", instructed(sample))):
        if known:
            figures[name] = np.array([known.get(row, math.nan) for row in held.tolist()])
    own, words = asked[held], table["words"].cast(float).to_numpy()
    hardest = own == own.max(initial=-math.inf)
    noise = sample.ratings.noise(sample.seed) if sample.ratings is not None and "rating" in figures else ""
    return Compared(held, own, hardest, words, figures, _leaves(sample, held), note, noise)


def _leaves(sample: Sample, rows: Places) -> list[str]:
    """The region of each row, as far as the sample tells."""
    import polars as pl

    axes = [axis for axis in sample.taxonomies if axis in sample.frame.columns]
    if not axes:
        return [""] * len(rows)
    told = sample.frame[rows.tolist()].select(pl.col(axes).cast(pl.String).fill_null(""))
    return ["\n".join(values) for values in told.iter_rows()]


def levels(sample: Sample) -> tuple[Array | None, str]:
    """Difficulty asked of each row as a number, NaN where unknown; or None, and why."""
    import numpy as np
    import polars as pl

    if "_complexity" not in sample.frame.columns or sample.frame["_complexity"].drop_nulls().is_empty():
        return None, "no row was asked for a difficulty"
    asked: Sequence[str | None] = sample.frame["_complexity"].cast(pl.String).to_list()
    met = sorted({value for value in asked if value is not None})
    if len(met) == 1:
        if None not in asked:
            return None, f"every row was asked to be {met[0]}: nothing to compare"
        return np.array([float(value is not None) for value in asked]), f"rows asked to be {met[0]} against the others"
    order = list(sample.bands)
    if set(met) <= set(order):
        place = {value: float(order.index(value)) for value in met}
    else:
        place = {value: rank for value in met if (rank := _rank(value)) is not None}
    if len(place) < 2:  # noqa: PLR2004  (one level has no order)
        return None, f"no known order of {', '.join(met[:5])}"
    numbers = [place.get(value, np.nan) if value is not None else np.nan for value in asked]
    ranked = sorted(place, key=place.__getitem__)
    return np.array(numbers, dtype=np.float64), f"from {ranked[0]} to {ranked[-1]}"


def _rank(value: str) -> float | None:
    word = value.strip().lower()
    if word in SCALE:
        return float(SCALE.index(word))
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# ── figures of single rows ──────────────────────────────────────────────────────────────────────────────────────────


def _rated(sample: Sample) -> dict[int, float]:
    """Row → its rating by the critic that was asked, in logits."""
    if sample.ratings is None:
        return {}
    from qdcgen import bradley_terry

    said = sample.ratings
    held, pairs = bradley_terry.largest(len(said.texts), bradley_terry.compared(said.batches))
    if len(held) < FEW:
        return {}
    ratings, _ = bradley_terry.fit(len(held), pairs)
    known = {said.texts[item]: float(rating) for item, rating in zip(held.tolist(), ratings, strict=True)}
    return {row: known[text] for row, text in enumerate(sample.texts) if text in known and text not in said.anchors}


def read(sample: Sample, most: int = READ) -> dict[int, float]:
    """Row → nats per token under the embedded model, of at most `most` rows chosen by seed; empty where none is read.

    The same rows whoever asks, so none is read twice.
    """
    import numpy as np

    n = len(sample.texts)
    if sample.surprisal is None or n < FEW:
        return {}
    chosen = np.sort(np.random.default_rng(sample.seed).permutation(n)[:most])
    rows = canonical(sample.texts)[chosen].tolist()
    said = sample.surprisal([sample.texts[row] for row in rows])
    return {
        row: nats / tokens for row, (nats, tokens) in zip(rows, said, strict=True) if tokens > 0 and math.isfinite(nats)
    }


def instructed(sample: Sample) -> dict[int, float]:
    """Row → loss of its answer given its question, over its loss alone; of at most `sample.reading` accepted rows.

    Rows are chosen by a digest of what they say, so that more rows change few of them; of equal ones by id. A row is
    left out where the embedded model cannot read it (too long, rare scripts) or its answer costs nothing.
    """
    if sample.surprisal is None or sample.solving is None or sample.of != "kept":
        return {}
    fields, answer = sample.solving
    if not {*fields, answer} <= set(sample.frame.columns):
        return {}
    told: dict[tuple[str, str], int] = {}
    ids = sample.frame["_id"].to_list() if "_id" in sample.frame.columns else [""] * len(sample.texts)
    rows = list(sample.frame.select(*fields, answer).iter_rows())
    for row in sorted(range(len(rows)), key=lambda row: (sample.texts[row], str(ids[row]))):
        values = rows[row]
        if values[-1] is not None and any(value is not None for value in values[:-1]):
            # One line break between them: tokenizers cut there, so the question's own tokens stay what they are.
            question = "\n".join(str(value) for value in values[:-1] if value is not None).rstrip() + "\n"
            told.setdefault((question, str(values[-1]).strip()), row)
    pairs = [pair for pair in told if pair[0].strip() and pair[1]]
    pairs = sorted(pairs, key=lambda pair: _digest(sample.seed, *pair))[: sample.reading]
    said = sample.surprisal([text for question, one in pairs for text in (question, question + one, one)])
    found = {}
    for place, pair in enumerate(pairs):
        value = ratio(*said[3 * place : 3 * place + 3])
        if value is not None:
            found[told[pair]] = value
    return found


def ratio(question: tuple[float, int], both: tuple[float, int], alone: tuple[float, int]) -> float | None:
    """Nats a token of an answer behind its question, over those of the answer alone: from (nats, tokens) of the three.

    None where one of them was not read.
    """
    tokens = both[1] - question[1]
    if min(question[1], both[1], alone[1], tokens) <= 0 or alone[0] <= 0 or not math.isfinite(both[0]):
        return None
    return max(0.0, both[0] - question[0]) / tokens / (alone[0] / alone[1])


def _digest(seed: int, *said: str) -> bytes:
    return sha256("\x00".join((str(seed), *said)).encode("utf-8", "surrogatepass")).digest()


SOLVED = ("always solved", "easy to solve", "medium to solve", "hard to solve", "never solved")
"""Bands of a pass rate."""


def solved_band(hits: int, tries: int) -> str:
    """`always solved`: all tries; `never solved`: none, which may be a wrong key; between them by thirds."""
    if hits in (0, tries):
        return SOLVED[0] if hits else SOLVED[-1]
    return SOLVED[1] if 3 * hits >= 2 * tries else SOLVED[2] if 3 * hits >= tries else SOLVED[3]


# ── comparing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def partial(x: Array, y: Array, given: Array | None) -> float | None:
    """Spearman's ρ of x and y, given a third where there is one: (ρxy - ρxz ρyz) / √((1 - ρxz²)(1 - ρyz²))."""
    direct = spearman(x, y)
    if given is None or direct is None:
        return direct
    one, other = spearman(x, given), spearman(y, given)
    if one is None or other is None:
        return direct
    scale = (1 - one**2) * (1 - other**2)
    if scale < TINY:
        return None  # one of them *is* the length: nothing is left to compare
    return float(min(1.0, max(-1.0, (direct - one * other) / scale**0.5)))


class Apart(NamedTuple):
    """A difference in standard deviations of the figure over all rows, and its interval."""

    value: float
    interval: Interval | None
    n: int
    note: str


def apart(values: Array, hardest: NDArray[np.bool_]) -> Apart | None:
    """Mean of the hardest minus mean of the others, with Welch's interval; None where a side has too few, or none vary.

    The standard deviation is taken as known, which it is to some 7 % at 100 rows.
    """
    import numpy as np

    known = np.isfinite(values)
    one, other = values[known & hardest], values[known & ~hardest]
    if min(len(one), len(other)) < ENOUGH or (scale := float(values[known].std(ddof=1))) < TINY:
        return None
    value = float(one.mean() - other.mean())
    spread = Z * math.sqrt(float(one.var(ddof=1)) / len(one) + float(other.var(ddof=1)) / len(other))
    note = f"mean {one.mean():.3g} against {other.mean():.3g}"
    return Apart(value / scale, ((value - spread) / scale, (value + spread) / scale), len(one) + len(other), note)


def matched(told: Compared, values: Array) -> Apart | None:
    """Mean difference over pairs of like length, one of them asked to be harder, in one leaf; None below FEW pairs.

    Each row stands in one pair at most: the row asked to be harder with the other one whose words are nearest.
    """
    import numpy as np

    known = np.isfinite(values)
    others: dict[str, list[tuple[float, int]]] = {}
    for row in np.flatnonzero(known & ~told.hardest).tolist():
        others.setdefault(told.leaves[row], []).append((float(told.words[row]), row))
    for of in others.values():
        of.sort()
    pairs: list[tuple[int, int]] = []
    for row in np.flatnonzero(known & told.hardest).tolist():
        of, words = others.get(told.leaves[row], []), float(told.words[row])
        at = bisect_left(of, (words, -1))
        near = [place for place in (at - 1, at) if 0 <= place < len(of) and abs(of[place][0] - words) <= NEAR * words]
        if near:
            pairs.append((row, of.pop(min(near, key=lambda place: abs(of[place][0] - words)))[1]))
    scale = float(values[known].std(ddof=1)) if known.sum() > 1 else 0.0
    if len(pairs) < FEW or scale < TINY:
        return None
    one, other = np.array(pairs).T
    value, interval = mean(values[one] - values[other])
    longer = float((told.words[one] - told.words[other]).mean())
    note = f"{len(pairs)} pairs of one leaf, words within {NEAR:.0%} ({longer:+.2g} words apart on average)"
    ends = None if interval is None else (interval[0] / scale, interval[1] / scale)
    return Apart(value / scale, ends, len(pairs), note)


# ── in a sentence ───────────────────────────────────────────────────────────────────────────────────────────────────


def remarks(measures: Sequence[Measure], what: str = "asking for harder rows") -> Iterator[str]:
    """What asking for difficulty did to the rows, in one sentence: their length, and what else rose at equal length."""
    for of in ("kept", "rows"):
        ours = {one.name: one for one in measures if one.of == of and one.table == "complexity"}
        words = ours.get(f"{HARDER}words")
        if words is None or words.value is None or words.interval is None:
            continue
        said = words.note.partition(";")[0] if _sure(words) else "no longer and no shorter than the others"
        rated = ours.get("rated harder at equal length")
        others = [one for name, one in ours.items() if name.startswith(HARDER) and one is not words]
        others += [rated] if rated is not None else []
        known = {_short(one.name): one for one in others if one.value is not None}
        moved = {name: _sure(one, len(known)) * (-1 if name in DOWN else 1) for name, one in known.items()}
        rose, fell = ([name for name, way in moved.items() if way == one] for one in (1, -1))
        if not known:
            then = "too few pairs of like length to tell what else changed"
        elif rose:
            then = f"at equal length they are also harder by {', '.join(rose)}"
        else:
            then = f"at equal length nothing else rises ({', '.join(known)})"
        then += f"; easier by {', '.join(fell)}" if fell else ""
        yield f"{what} makes rows {said}; {then}"


def _short(name: str) -> str:
    return "the critic's rating" if name.startswith("rated") else name.removeprefix(HARDER)


def _sure(measure: Measure, among: int = 1) -> int:
    """1 where the interval lies above 0, -1 below, 0 where it holds 0; wider for one of several (Bonferroni)."""
    value, (low, high) = measure.value or 0.0, measure.interval or (-math.inf, math.inf)
    wider = NormalDist().inv_cdf(1 - 0.025 / among) / Z
    return 1 if value - wider * (value - low) > 0 else -1 if value + wider * (high - value) < 0 else 0
