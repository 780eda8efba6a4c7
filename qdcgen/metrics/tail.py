"""Metric `tail`: how much of what is rare in real rows the texts have too."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import T_19, canonical, clamp
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

    Codes = NDArray[np.int64]
    Array = NDArray[np.float64]
    Vectors = NDArray[np.float32]
    Split = tuple[Codes, Codes, Codes]
    """Rows of the anchor to find again, as many others of it, and as many of the sample."""

SPLITS = 20
LEAST = 100
"""Texts a side. Of fewer, what two of them share is not rare."""
RARE = 30
"""Rare words, and `LEAVES` rare leaves, without which a share would be a matter of single ones."""
LEAVES = 5
WORD = re.compile(r"[^\W\d_]{2,}")
REGIONS = 500
"""Texts a side that regions are sought in: with 1,000 the figure is as sure and takes four times as long."""
SIZE = 5
"""Texts a cluster, on average; the smaller half have 2 or 3."""
STARTS = 4
"""Clusterings of each draw that are averaged: which clusters come out is chance, and no property of the texts."""
ROUNDS = 5
"""Of k-means: the centres hardly move after that, and regions need no better ones."""
FAR = 0.01
"""Share of real texts that count as lying in no region."""


class Tail(Metric):
    """Share of the anchor's rare words, and of its rare regions, found in as many texts and words; real vs real beside.

    The anchor is cut into halves at random, 20 times. Rare words: those in 2 texts of one half, or up to 1 % of its
    texts; the value is the share of them in as many texts of the sample, the control in those of the other half, both
    cut to equal words. Rare regions: where the anchor has labels, the quarter of its leaves with fewest rows, reached
    where the reader of `landed` places a text; else the smaller half of k-means clusters (5 texts a cluster), reached
    where one is the nearest to a text and no farther from it than 99 % of real texts are. In [0, 1]; as good as
    real where the value is the control. At half the smaller population, 1,000 texts at most; interval by the
    splits, which are halves without replacement.

    What makes it lie: rare words are names and slips of the pen too, which nobody needs again; nonsense with a large
    vocabulary finds rare words; words are runs of letters, so scripts without spaces have few. A control near 0 says
    that the anchor is too small for what it holds.

    Source: the tail of real data is what is lost first when models learn from models (Shumailov et al. 2024, Nature
    631:755); the estimator is ours.
    """

    table: ClassVar[str] = "diversity"
    evened: ClassVar[bool] = True
    gates: ClassVar[tuple[str, ...]] = ("rare_words", "rare_regions", "rare_leaves")
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rare_words": ("measure.anchor",),
        "rare_regions": ("measure.anchor",),
        "rare_leaves": ("measure.anchor.labels",),
    }
    short: ClassVar[str | None] = "texts"

    texts: int = Field(default=1_000, ge=LEAST, le=20_000)
    """Texts a side, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Rare words, and rare regions or rare leaves; nothing without an anchor, or of it."""
        import numpy as np

        anchor = sample.beside.get("anchor")
        if anchor is None or sample.of == "anchor":
            return []
        smaller = min(len(sample.texts), len(anchor.texts), sample.equal_n or len(anchor.texts))
        at = min(self.texts, smaller // 2)
        if at < LEAST:
            note = f"too few: {plural(smaller, 'text')} on the smaller side, needs {2 * LEAST}"
            return [_measured(sample, name, None, at, note) for name in ("rare words", "rare regions")]
        rng = np.random.default_rng(sample.seed)
        ours, real = canonical(sample.texts), canonical(anchor.texts)
        splits = []
        for _ in range(SPLITS):
            halves = real[rng.permutation(len(real))[: 2 * at]]
            splits.append((halves[:at], halves[at:], ours[rng.permutation(len(ours))[:at]]))
        return [_words(sample, anchor, splits), *_regions(sample, anchor, splits)]


@dataclass(frozen=True)
class _Found:
    """What was found of what is rare, over draws."""

    ours: Array
    """(draws of the anchor, draws of the sample): each half of the anchor sought in each half of the sample."""
    real: Array
    """(draws of the anchor,): each half sought in the other."""


def _measured(
    sample: Sample, name: str, found: _Found | None, at: int, note: str, *, axis: str = "", embedder: str = ""
) -> Measure:
    """The mean over draws, and its interval; `note` is completed with how much is lost, and how sure that is.

    Draws are halves without replacement, so what they differ by, taken over the draws of the other side, is what the
    whole would; less where they are less than halves. Twenty draws have a mean that is itself off by a twentieth.
    """
    if found is None:
        return Measure("diversity", name, None, n=at, of=sample.of, axis=axis, embedder=embedder, note=note)
    anchor = sample.beside["anchor"]
    value, real = float(found.ours.mean()), float(found.real.mean())

    def half(by_anchor: Array) -> float:
        spread = 0.0
        for draws, side in ((by_anchor, anchor), (found.ours.mean(axis=0), sample)):
            whole = at / max(len(side.texts) - at, at)
            spread += float(draws.var(ddof=1)) * (whole + 1 / SPLITS)
        return T_19 * math.sqrt(spread)

    by_anchor = found.ours.mean(axis=1)
    spread, off, less = half(by_anchor), half(found.real - by_anchor), real - value
    return Measure(
        "diversity",
        name,
        value,
        n=at,
        interval=clamp((value - spread, value + spread), 0.0, 1.0),
        control=real,
        control_of="real vs real",
        of=sample.of,
        axis=axis,
        embedder=embedder,
        note=f"{note}; {less:+.3f} ({less - off:+.3f} – {less + off:+.3f}) lost",
    )


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _words(sample: Sample, anchor: Sample, splits: Sequence[Split]) -> Measure:
    import numpy as np

    at = len(splits[0][0])
    often = max(2, at // 100)
    others, mine = ([[_read(of.texts[row]) for row in rows.tolist()] for rows in draws] for of, draws in (
        (anchor, [split[1] for split in splits]), (sample, [split[2] for split in splits])
    ))  # fmt: skip
    lengths = [sum(map(len, texts)) for texts in (*others, *mine)]
    most = min(*lengths, *([int(at * sample.equal_words)] if sample.equal_words else []))
    theirs, ours = ([_first(texts, most) for texts in draws] for draws in (others, mine))
    rare = []
    for known, _, _ in splits:
        met = Counter(word for row in known.tolist() for word in set(_read(anchor.texts[row])))
        rare.append({word for word, texts in met.items() if 2 <= texts <= often})  # noqa: PLR2004  (one may be a slip)
        if len(rare[-1]) < RARE:
            note = f"too few: {len(rare[-1])} rare words in {at} real texts, needs {RARE}"
            return _measured(sample, "rare words", None, at, note)
    found = _Found(
        np.array([[len(words & met) / len(words) for met in ours] for words in rare]),
        np.array([len(words & met) / len(words) for words, met in zip(rare, theirs, strict=True)]),
    )
    texts = "2" if often == 2 else f"2 to {often}"  # noqa: PLR2004
    some = sum(map(len, rare)) // SPLITS
    note = f"{some} words that are in {texts} of {at} real texts, sought in {at} texts and {most:,} words"
    return _measured(sample, "rare words", found, at, note)


def _read(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _first(texts: Sequence[Sequence[str]], most: int) -> set[str]:
    """The different words among the first `most`."""
    met: set[str] = set()
    for words in texts:
        met.update(words[:most])
        most -= len(words)
        if most <= 0:
            break
    return met


# ── regions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _regions(sample: Sample, anchor: Sample, splits: Sequence[Split]) -> Iterator[Measure]:
    """One measure for each labelled axis with enough leaves; where there is none, one over clusters."""
    labelled = False
    for axis, tree in sample.taxonomies.items():
        ours, real = sample.landing(axis), anchor.landing(axis)
        if ours is None or real is None or not real.known:
            continue
        leaf = {node.id for node in tree.leaves}
        leaves = {place for place, node in enumerate(tree.nodes) if node.id in leaf}
        rare = [_rarest([row for row in real.asked[known].tolist() if row in leaves], 4) for known, _, _ in splits]
        if min(map(len, rare)) < LEAVES:
            continue
        labelled = True
        at = len(splits[0][0])
        mine = [set(ours.landed[own].tolist()) for _, _, own in splits]
        theirs = [set(real.landed[other].tolist()) for _, other, _ in splits]
        note = (
            f"the {len(rare[0])} leaves with fewest of {at} real rows, sought in {at} texts as {ours.reader} reads them"
        )
        yield _measured(sample, "rare leaves", _found(rare, mine, theirs), at, note, axis=axis)
    if not labelled:
        yield _clusters(sample, anchor, splits)


def _found(rare: Sequence[set[int]], ours: Sequence[set[int]], real: Sequence[set[int]]) -> _Found:
    import numpy as np

    return _Found(
        np.array([[len(wanted & met) / len(wanted) for met in ours] for wanted in rare]),
        np.array([len(wanted & met) / len(wanted) for wanted, met in zip(rare, real, strict=True)]),
    )


def _rarest(places: Sequence[int], parts: int) -> set[int]:
    """The quarter (half, …) of the places that occur least, in order of place where they are alike."""
    counts = Counter(places)
    ranked = sorted(counts, key=lambda place: (counts[place], place))
    return set(ranked[: len(ranked) // parts])


def _clusters(sample: Sample, anchor: Sample, splits: Sequence[Split]) -> Measure:
    import numpy as np

    at = min(REGIONS, len(splits[0][0]))
    k = at // SIZE
    mine, theirs = sample.vectors(), anchor.vectors()
    drawn = np.concatenate([own[:at] for _, _, own in splits])
    used, back = np.unique(drawn, return_inverse=True)
    held = mine[used]  # what 20 draws hold: 10,000 rows at most
    ours, real = np.zeros((SPLITS, SPLITS)), np.zeros(SPLITS)
    for turn, start in product(range(SPLITS), range(STARTS)):
        known, other, _ = splits[turn]
        centres, members = _centres(theirs[known[:at]], k, np.random.default_rng([sample.seed, turn, start]))
        rare = _rarest(members.tolist(), 2)
        places, near = _nearest(theirs[other[:at]], centres)
        cut = float(np.quantile(near, FAR))
        real[turn] += len(rare & set(places[near >= cut].tolist())) / len(rare) / STARTS
        places, near = _nearest(held, centres)
        places = np.where(near >= cut, places, -1)[back].reshape(SPLITS, at)
        ours[turn] += [len(rare & set(row)) / len(rare) / STARTS for row in places.tolist()]
    note = f"the smaller half of {k} clusters of {at} real texts, sought in {at} texts"
    return _measured(sample, "rare regions", _Found(ours, real), at, note, embedder=sample.embedder)


def _centres(vectors: Vectors, k: int, rng: np.random.Generator) -> tuple[Vectors, Codes]:
    """Spherical k-means from k rows drawn at random: centres of unit length, and each row's."""
    import numpy as np

    centres = vectors[rng.permutation(len(vectors))[:k]]
    for _ in range(ROUNDS):
        places, _ = _nearest(vectors, centres)
        sums = np.zeros_like(centres)
        np.add.at(sums, places, vectors)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, np.finfo(np.float32).tiny), centres)
    return centres, _nearest(vectors, centres)[0]


def _nearest(vectors: Vectors, centres: Vectors) -> tuple[Codes, Vectors]:
    """The nearest centre of each row, and its cosine."""
    import numpy as np

    cosines = vectors @ centres.T
    places = cosines.argmax(axis=1)
    return places, cosines[np.arange(len(places)), places]
