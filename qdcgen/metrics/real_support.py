"""Metric `real_support`: how much lies where real texts lie, and how much of that is reached."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from qdcgen.beside import CONTROL, against, compares
from qdcgen.intervals import canonical, clamp
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.landing import Landing
    from qdcgen.parts import Sample
    from qdcgen.rows import Taxonomy

    Rows = NDArray[np.int64]
    Vectors = NDArray[np.float32]

NAMES = ("precision", "recall")
REGIONS = "real regions reached"

LEAST = 100
"""Below 100 texts the fifth nearest is far off: at 100, balls round bank messages hold 5 % of product reviews, at 1,000
1 %."""
EACH = 20
"""Real texts of a region in every split, about; more where that would make more than `MOST` regions."""
MOST = 50
ROUNDS = 25
SLACK = 1e-6
"""Rounding of a cosine of 32-bit vectors: an equal text is no farther than an equal text."""
_ASKED = {"kept": "what accepted rows were asked to be", "raw": "what rows were asked to be"}
TELLING = 3
"""Words that name a region."""
LONGEST = 24


class RealSupport(Metric):
    """Precision and recall against the anchor, and the share of the real texts' regions that is reached.

    Every real text has a ball that reaches to its k-th nearest real other. Precision = share of our texts that lie in
    some real text's ball (Kynkäänniemi et al. 2019, arXiv 1904.06991, §2). Recall = share of real texts whose ball
    holds one of ours: what Naeem et al. (2020, arXiv 2002.09797, §3.2) call coverage. Balls are always round real
    texts: round ours, as in the recall of the former, scattered texts reach far, and 2,000 product reviews recall 0.48
    of as many bank messages (banking77, wordllama), with balls round real texts 0.003. k = 5, in [0, 1], as many of
    ours as of the anchor: half of it, at most `texts`; mean of 10 splits, intervals by subsampling both without
    replacement. Control: the other half of the anchor in place of ours.

    Real regions: with labelled real rows, the nodes that any has as its label; reached where a row of ours is or
    landed there or below, control as many real rows drawn at random, in expectation and read by the same reader;
    exact, so without interval. Without labels, groups of the real texts' vectors (k-means on the sphere, one for 20
    texts, at most 50); reached where the balls of half of its texts or more hold one of ours. The missing ones are
    named with their share of the real rows.

    On banking77 at 2,000 texts, control 0.92 and 0.97: without a quarter, half, three quarters of the intents recall is
    0.85, 0.71, 0.52 and precision unchanged; with 10, 30, 60 % product reviews precision is 0.83, 0.65, 0.37 and recall
    0.96, 0.93, 0.82, as texts that are no messages are missing from them.

    What makes it lie: it is the embedder's view, and texts of another length or style lie elsewhere though they say the
    same. Copies of real texts are perfectly precise. A few real texts far out have balls that hold much.
    """

    table: ClassVar[str] = "coverage"
    gates: ClassVar[tuple[str, ...]] = ("precision", "recall", "real_regions_reached", "landed_real_regions_reached")
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(gates, ("measure.anchor",)) | {
        "landed_real_regions_reached": ("measure.anchor.labels",)
    }
    short: ClassVar[str | None] = "texts"

    texts: int = Field(default=2_000, ge=LEAST, le=10_000)
    """Texts of each side that are compared, at most."""
    neighbours: int = Field(default=5, ge=1, le=20)
    """k: a real text's ball reaches to its k-th nearest real other."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Precision, recall, real regions reached; nothing without an anchor."""
        anchor = compares(sample)
        if anchor is None:
            return []
        trees = {axis: tree for axis, tree in sample.taxonomies.items() if counts(anchor, axis)}
        labelled = [one for axis, tree in trees.items() for one in _labelled(sample, anchor, axis, tree)]
        return [*self._near(sample, anchor, regions=not labelled), *labelled]

    def _near(self, sample: Sample, anchor: Sample, *, regions: bool) -> Iterator[Measure]:
        names = (*NAMES, REGIONS) if regions else NAMES
        n, real = len(sample.texts), len(anchor.texts)
        at = min(n, real // 2, self.texts)
        if at < LEAST:
            note = f"too few: {plural(n, 'text')} and {real} real ones, needs {LEAST} and {2 * LEAST}"
            for name in names:
                yield Measure("coverage", name, None, n=n, of=sample.of, embedder=sample.embedder, note=note)
            return
        vectors, others, order = sample.vectors(), anchor.vectors(), canonical(sample.texts)
        chosen = _pool(anchor.texts, 2 * self.texts, sample.seed)
        theirs = others[chosen]
        group = grouped(theirs, min(MOST, at // EACH) if regions else 1, sample.seed)
        groups = int(group.max()) + 1

        def figures(rows: Rows) -> Callable[[Rows, bool], list[float]]:
            near = Near(theirs[rows], self.neighbours)

            def of(drawn: Rows, own: bool) -> list[float]:  # noqa: FBT001  (as `beside.against` wants it)
                inside, held = near.of(vectors[order[drawn]] if own else theirs[drawn])
                return [inside, float(held.mean()), *reached(held, group[rows], groups)]

            return of

        grain = [1 / at, 1 / at, *[1 / groups] * (groups + 1)]
        shares = [n, len(theirs), *[math.inf] * (groups + 1)]
        found = against(n, len(theirs), at, figures, seed=sample.seed, grain=grain, shares=shares)
        note = f"at {at} of {n} texts and {real} real ones"
        missing = _untold(found.values[len(NAMES) + 1 :], group, [anchor.texts[i] for i in chosen.tolist()])
        means = "; a mean of splits: named are the regions that most of them do not reach"
        for place, name in enumerate(names):
            interval = found.intervals[place]
            yield Measure(
                "coverage",
                name,
                found.values[place],
                unit=f"of {groups}" if name == REGIONS else "",
                n=at,
                interval=clamp(interval, 0.0, 1.0) if interval else None,
                control=found.controls[place],
                control_of=CONTROL,
                of=sample.of,
                embedder=sample.embedder,
                note=note + means * (name == REGIONS),
                missing=missing if name == REGIONS else (),
            )


class Near:
    """Balls round real texts, each as wide as its k-th nearest real other is far."""

    def __init__(self, real: Vectors, k: int) -> None:
        """`real`: (n, dim) unit rows, n > k."""
        import numpy as np

        self.real = real
        cosines = real @ real.T
        np.fill_diagonal(cosines, -np.inf)
        cosines.partition(len(real) - k, axis=1)
        self.edge = cosines[:, len(real) - k] - SLACK

    def of(self, vectors: Vectors) -> tuple[float, NDArray[Any]]:
        """Share of these that lie in some ball, and for each ball whether one of these lies in it."""
        import numpy as np

        inside: NDArray[Any] = vectors @ self.real.T >= self.edge
        return float(inside.any(axis=1).mean()), np.asarray(inside.any(axis=0))


def reached(held: NDArray[Any], group: Rows, groups: int) -> list[float]:
    """Share of the groups met that are reached, then for each 1 or 0: whether half of its texts or more are held.

    A group that no text is of counts as reached in the list, and does not count in the share.
    """
    import numpy as np

    sizes = np.bincount(group, minlength=groups)
    each = 2 * np.bincount(group, weights=held, minlength=groups) >= sizes
    return [float(each[sizes > 0].mean()), *each.astype(float).tolist()]


def grouped(vectors: Vectors, groups: int, seed: int) -> Rows:
    """Number of each unit row's group, from 0 without gaps: k-means by cosine, started by k-means++ (Arthur 2007)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    centres = vectors[rng.integers(len(vectors), size=1)]
    far = 1 - vectors @ centres[0]
    for _ in range(groups - 1):
        weight = np.clip(far, 0.0, None).astype(np.float64)
        if weight.sum() < SLACK * len(vectors):  # no text is left that is not some centre
            break
        centres = np.vstack([centres, vectors[rng.choice(len(vectors), p=weight / weight.sum())]])
        far = np.minimum(far, 1 - vectors @ centres[-1])
    for _ in range(ROUNDS):
        group = (vectors @ centres.T).argmax(axis=1)
        total = np.zeros_like(centres)
        np.add.at(total, group, vectors)
        length = np.linalg.norm(total, axis=1, keepdims=True)
        centres = np.where(length > SLACK, total / np.maximum(length, SLACK), centres)
    found: Rows = np.unique((vectors @ centres.T).argmax(axis=1), return_inverse=True)[1].astype(np.int64)
    return found


def _pool(texts: Sequence[str], most: int, seed: int) -> Rows:
    """At most so many texts, chosen by seed and by what they say."""
    import numpy as np

    order = canonical(texts)
    return order if len(order) <= most else order[np.random.default_rng(seed).choice(len(order), most, replace=False)]


def _untold(shares: Sequence[float], group: Rows, texts: Sequence[str]) -> tuple[str, ...]:
    """Names of the groups that most splits did not reach, the largest first."""
    import numpy as np

    sizes = np.bincount(group)
    missed = [one for one, share in enumerate(shares) if share < 0.5]  # noqa: PLR2004
    words = [_words(text) for text in texts]
    return tuple(
        f"{', '.join(_telling(words, group == one))} ({sizes[one] / len(texts):.1%} of real rows)"
        for one in sorted(missed, key=lambda one: (-sizes[one], one))
    )


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"[^\W\d_]{3,}", text.lower()[: LONGEST * 100]) if len(word) <= LONGEST}


def _telling(words: Sequence[set[str]], inside: NDArray[Any]) -> list[str]:
    """The words that texts of a group have more than others by most: p·ln(p/q) over the shares p here and q there."""
    here, there = Counter[str](), Counter[str]()
    for held, own in zip(words, inside.tolist(), strict=True):
        (here if own else there).update(held)
    own, others = int(inside.sum()), int((~inside).sum())

    def lift(word: str) -> float:
        p, q = here[word] / own, (there[word] + 0.5) / (others + 1)
        return p * math.log(p / q)

    return sorted(here, key=lambda word: (-lift(word), word))[:TELLING] or ["no words"]


# ── with labels ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _labelled(sample: Sample, anchor: Sample, axis: str, tree: Taxonomy) -> Iterator[Measure]:
    """The nodes that real rows are labelled with: where rows of ours were asked to be, and where they landed."""
    said = counts(anchor, axis)
    real = {node.path: said[node.path] for node in tree.nodes if node.path in said}
    if not real:
        return
    if axis in sample.frame.columns:
        drawn = _shares(tree, real, real)
        yield _reached(sample, axis, real, drawn, counts(sample, axis), tree, _ASKED.get(sample.of, "by their labels"))
    landing, read = sample.landing(axis), anchor.landing(axis)
    if landing is not None and read is not None:
        drawn = _shares(tree, real, _landed(tree, read), int((read.asked >= 0).sum()))
        note = f"read by {landing.reader}"
        yield _reached(replace(sample, of="landed"), axis, real, drawn, _landed(tree, landing), tree, note)


def counts(sample: Sample, axis: str) -> Mapping[str, int]:
    """Rows for each value of an axis, nulls left out; empty when there is no such column."""
    import polars as pl

    if axis not in sample.frame.columns:
        return {}
    return dict(sample.frame[axis].drop_nulls().cast(pl.String).value_counts().iter_rows())


def _shares(tree: Taxonomy, real: Mapping[str, int], rows: Mapping[str, int], n: int = 0) -> list[float]:
    """Of each node of `real` the share of `n` rows, all without it, that are there or below."""
    under = _under(tree, rows)
    return [under.get(path, 0) / (n or sum(rows.values())) for path in real]


def _reached(
    sample: Sample,
    axis: str,
    real: Mapping[str, int],
    drawn: Sequence[float],
    ours: Mapping[str, int],
    tree: Taxonomy,
    note: str,
) -> Measure:
    """`real`: node → real rows with it as their label; `drawn`: the share of real rows that would fall there."""
    rows, n, total = _under(tree, ours), sum(ours.values()), sum(real.values())
    missed = sorted((path for path in real if not rows.get(path)), key=lambda path: -real[path])
    held = 1 - sum(real[path] for path in missed) / total
    return Measure(
        "coverage",
        REGIONS,
        1 - len(missed) / len(real),
        unit=f"of {len(real)}",
        n=n,
        control=sum(1 - (1 - share) ** n for share in drawn) / len(real),
        control_of="as many real rows",
        of=sample.of,
        axis=axis,
        note=f"{note}; those reached hold {held:.1%} of real rows",
        missing=tuple(f"{path} ({real[path] / total:.1%} of real rows)" for path in missed),
    )


def _landed(tree: Taxonomy, landing: Landing) -> Mapping[str, int]:
    """Rows by the node where they landed; a text that nobody asked for on this axis does not count."""
    import numpy as np

    rows = np.bincount(landing.landed[(landing.asked >= 0) & (landing.landed >= 0)], minlength=len(tree.nodes))
    return {node.path: count for node, count in zip(tree.nodes, rows.tolist(), strict=True) if count}


def _under(tree: Taxonomy, rows: Mapping[str, int]) -> Mapping[str, int]:
    """Rows of each node and of all below it, by path."""
    places = {node.path: node for node in tree.nodes}
    found = Counter[str]()
    for path, count in rows.items():
        node = places.get(path) or tree.by_id.get(path)
        for met in tree.line(node.id) if node else ():
            found[met.path] += count
    return found
