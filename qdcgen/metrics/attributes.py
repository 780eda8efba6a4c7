"""Metric `attributes`: how differently labels, lengths and forms are distributed here and in the anchor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import Field

from qdcgen.beside import CONTROL, against, compares
from qdcgen.forms import FORMS, forms
from qdcgen.intervals import FEW, canonical, clamp
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

    Codes = NDArray[np.int64]

NAME = "difference from anchor"

BANDS = 10
"""Bands of length, each with a tenth of the texts of both together."""

MOST = 50
"""Different values of a column of labels: one with more is text, or names of things."""
EACH = 5
"""Rows a value, on average, below which a column says little but how small the samples are."""


class Pair(NamedTuple):
    """One attribute of two populations: the number of each row's value, and what the values are called."""

    name: str
    ours: Codes
    real: Codes
    values: Sequence[str]
    of: str
    note: str = ""


class Attributes(Metric):
    """Jensen-Shannon divergence, in bits, between the values of an attribute here and in the anchor.

    JSD = H((p + q)/2) - (H(p) + H(q))/2 over the shares p and q of an attribute's values (Lin 1991, IEEE Trans. Inf.
    Theory 37:145), logarithms to base 2: 0 where the shares are equal, 1 where no value is in both. Attributes are
    what both have: the leaves of taxonomies that the anchor has labels of (what rows were asked to be, and where they
    landed against where the same reader places the anchor), columns of the same name with 50 different values at most,
    words a text in ten bands with equally many texts of both, and the form (list, letter, question, …, as the metric
    `formats` tells it). Taken of as many of ours as of half the anchor, `texts` at most; mean of 10 splits, intervals
    by subsampling without replacement. The note names the
    value whose share differs most, where the interval lies above the control.

    What makes it lie: equal distributions do not give 0 but about (values - 1) / (2.8 · texts), and nothing is taken
    off: the control, one half of the anchor against the other at the same size, has as much. One number says neither
    which way nor whether it matters; the order of values is ignored.
    """

    table: ClassVar[str] = "coverage"
    gates: ClassVar[tuple[str, ...]] = ("difference_from_anchor", "landed_difference_from_anchor")
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "difference_from_anchor": ("measure.anchor",),
        "landed_difference_from_anchor": ("measure.anchor.labels",),
    }
    short: ClassVar[str | None] = "texts"

    texts: int = Field(default=10_000, ge=FEW, le=1_000_000)
    """Texts of each side that are compared, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """One figure for each attribute that both have; nothing without an anchor."""
        anchor = compares(sample)
        if anchor is None:
            return []
        n, real = len(sample.texts), len(anchor.texts)
        if min(n, real // 2) < FEW:
            note = f"too few: {plural(n, 'text')} and {real} real ones, needs {FEW} and {2 * FEW}"
            return [Measure("coverage", NAME, None, unit="bits", n=n, of=sample.of, axis="words", note=note)]
        ours = _some(canonical(sample.texts), self.texts, sample.seed)
        theirs = _some(canonical(anchor.texts), 2 * self.texts, sample.seed)
        return [
            _divergence(sample, pair, self.texts)
            for pair in (
                *_trees(sample, anchor, ours, theirs),
                *_columns(sample, anchor, ours, theirs),
                *_surface(sample, anchor, ours, theirs),
            )
        ]


def _some(order: Codes, most: int, seed: int) -> Codes:
    import numpy as np

    return order if len(order) <= most else order[np.random.default_rng(seed).choice(len(order), most, replace=False)]


# ── attributes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _trees(sample: Sample, anchor: Sample, ours: Codes, theirs: Codes) -> Iterator[Pair]:
    for axis, tree in sample.taxonomies.items():
        if axis not in anchor.frame.columns:
            continue
        if axis in sample.frame.columns:
            yield _coded(axis, _said(sample, axis, ours), _said(anchor, axis, theirs), sample.of)
        landing, read = sample.landing(axis), anchor.landing(axis)
        if landing is not None and read is not None:
            note = f"both read by {landing.reader}"
            yield _coded(axis, _placed(tree, landing, ours), _placed(tree, read, theirs), "landed", note)


def _placed(tree: Taxonomy, landing: Landing, rows: Codes) -> list[str | None]:
    """The leaf where each of these rows landed, `nowhere` for those that did not; None where nobody asked."""
    asked, landed = landing.asked[rows].tolist(), landing.landed[rows].tolist()
    return [None if a < 0 else tree.nodes[b].path if b >= 0 else "nowhere" for a, b in zip(asked, landed, strict=True)]


def _said(sample: Sample, column: str, rows: Codes) -> list[str | None]:
    import polars as pl

    return sample.frame[column].gather(rows).cast(pl.String).to_list()


def _columns(sample: Sample, anchor: Sample, ours: Codes, theirs: Codes) -> Iterator[Pair]:
    """Columns of labels, of the same name: text, whole numbers or truth values, but few different ones."""
    for name in sample.frame.columns:
        if name in sample.taxonomies or name.startswith("_") or not (_listed(sample, name) and _listed(anchor, name)):
            continue
        pair = _coded(name, _said(sample, name, ours), _said(anchor, name, theirs), sample.of)
        if 1 < len(pair.values) <= min(MOST, (len(pair.ours) + len(pair.real)) // EACH):
            yield pair


def _listed(sample: Sample, name: str) -> bool:
    import polars as pl

    kind = sample.frame.schema.get(name)
    return kind is not None and (
        kind.is_integer() or isinstance(kind, (pl.String, pl.Categorical, pl.Enum, pl.Boolean))
    )


def _surface(sample: Sample, anchor: Sample, ours: Codes, theirs: Codes) -> Iterator[Pair]:
    import numpy as np

    texts = [sample.texts[i] for i in ours.tolist()]
    real = [anchor.texts[i] for i in theirs.tolist()]
    lengths = [np.array([len(text.split()) for text in some]) for some in (texts, real)]
    # Equally many of both, or a large population would have all the bands to itself.
    even = min(map(len, lengths))
    pooled = np.concatenate([one[np.linspace(0, len(one) - 1, even).astype(int)] for one in map(np.sort, lengths)])
    edges = np.unique(np.quantile(pooled, np.arange(1, BANDS) / BANDS, method="higher"))
    low, high = [0, *edges.tolist()], [*(edges - 1).tolist(), math.inf]
    names = [
        f"{a:g} to {b:g} words" if b < math.inf else f"{a:g} words or more" for a, b in zip(low, high, strict=True)
    ]
    bands = [np.searchsorted(edges, one, side="right").astype(np.int64) for one in lengths]
    yield Pair("words", bands[0], bands[1], names, sample.of)
    yield Pair("form", forms(texts).astype(np.int64), forms(real).astype(np.int64), FORMS, sample.of)


def _band(low: float, high: float) -> str:
    if high == math.inf:
        return f"{low:g} words or more"
    return f"{low:g} to {high:g} words" if low < high else f"{low:g} words"


def _coded(name: str, ours: Sequence[str | None], real: Sequence[str | None], of: str, note: str = "") -> Pair:
    """Rows without a value are left out."""
    import numpy as np

    values = sorted({value for value in (*ours, *real) if value is not None})
    place = {value: number for number, value in enumerate(values)}
    coded = [np.array([place[one] for one in some if one is not None], dtype=np.int64) for some in (ours, real)]
    return Pair(name, coded[0], coded[1], values, of, note)


# ── the figure ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _divergence(sample: Sample, pair: Pair, most: int) -> Measure:
    import numpy as np

    n, real = len(pair.ours), len(pair.real)
    at = min(n, real // 2, most)
    blank = Measure("coverage", NAME, None, unit="bits", n=n, of=pair.of, axis=pair.name)
    if at < FEW:
        from dataclasses import replace

        return replace(
            blank, note=f"too few: {n} rows and {real} real ones with {pair.name}, needs {FEW} and {2 * FEW}"
        )
    ours, theirs = np.sort(pair.ours), np.sort(pair.real)  # by value: the order of the rows must not matter
    kinds = len(pair.values)

    def figures(rows: Codes) -> Callable[[Codes, bool], list[float]]:
        against_these = np.bincount(theirs[rows], minlength=kinds)

        def of(drawn: Codes, own: bool) -> list[float]:  # noqa: FBT001  (as `beside.against` wants it)
            return [divergence(np.bincount((ours if own else theirs)[drawn], minlength=kinds), against_these)]

        return of

    found = against(n, real, at, figures, seed=sample.seed, most=at)
    low = found.intervals[0][0] if found.intervals[0] else found.values[0]
    told = _most(pair) if low > found.controls[0] else ""  # else it would be the largest of chance differences
    return Measure(
        "coverage",
        NAME,
        found.values[0],
        unit="bits",
        n=at,
        interval=clamp(found.intervals[0], 0.0, 1.0) if found.intervals[0] else None,
        control=found.controls[0],
        control_of=CONTROL,
        of=pair.of,
        axis=pair.name,
        note="; ".join(filter(None, (pair.note, told))),
    )


def _most(pair: Pair) -> str:
    """The value whose shares differ most."""
    import numpy as np

    shares = [np.bincount(one, minlength=len(pair.values)) / len(one) for one in (pair.ours, pair.real)]
    if not (np.minimum(*shares) > 0).any():
        return "no value is in both"
    place = int(np.abs(shares[0] - shares[1]).argmax())
    return f"{pair.values[place]}: {shares[0][place]:.1%} here, {shares[1][place]:.1%} of real rows"


def divergence(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Jensen-Shannon divergence of two lists of counts, in bits, in [0, 1]."""
    import numpy as np

    p, q = one / one.sum(), other / other.sum()

    def entropy(shares: NDArray[np.float64]) -> float:
        some = shares[shares > 0]
        return float(-(some * np.log2(some)).sum())

    return min(1.0, max(0.0, entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2))
