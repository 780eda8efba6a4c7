"""Metric `pairs`: which combinations of two axes have rows, and which of three."""

from __future__ import annotations

from itertools import combinations, islice, product
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qdcgen.parts import Sample

LISTED = 1_000
"""Missing pairs or triples listed by name; two taxonomies of 1,000 leaves have a million pairs."""
LOOKED_UP = 200_000
"""Triples up to which each is looked up in the recipe's forbid entries: 1 to 5 µs apiece."""


class Pairs(Metric):
    """Distinct pairs, and triples, of values of two and three axes over all of them, for axes that rows have together.

    Taxonomies of one strategy with each other: leaves. Layers with at most `values` values, with taxonomies and with
    each other: the values met. Triples of taxonomies have a line each; those with layers in them have one line for all,
    the sum of all met over the sum of all. Control: the expected share if the same n rows had been drawn uniformly over
    the N combinations, exactly 1 - (1 - 1/N)^n. Shares are exact counts, so they have no interval.

    What makes it lie: a layer's value that no row has is not known here, so it is not missing either; and it counts
    what rows were asked to be, not what the text became. Of more than 200,000 triples of three axes, those
    that only an entry over all three forbids are not taken off.
    """

    table: ClassVar[str] = "coverage"
    gates: ClassVar[tuple[str, ...]] = ("pairs", "triples")
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = {"pairs": ("a second axis",), "triples": ("a third axis",)}

    values: int = Field(default=20, ge=2, le=1_000)
    """Most values a layer may have to be combined."""

    def measure(self, sample: Sample) -> list[Measure]:
        """One measure for each pair of axes, then the triples; none where there is one axis."""
        trees = list(sample.taxonomies)
        together = [set(axes) for axes in sample.strategies] or [set(trees)]
        names: dict[str, Sequence[str]] = {
            tree: [leaf.path for leaf in sample.taxonomies[tree].leaves] for tree in trees
        }
        names |= {layer: values for layer in sample.layers if (values := self._few(sample, layer))}
        never: dict[tuple[str, str], set[tuple[str, str]]] = {}
        found: list[Measure] = []
        for one, other in combinations(names, 2):
            if _drawn((one, other), trees, together):
                never[one, other] = {
                    (r, c)
                    for r in names[one]
                    for c in names[other]
                    if sample.forbidden({one: r, other: c})  # 0.1 µs where nothing is forbidden
                }
                found.append(_pair(sample, one, other, names, never[one, other]))
        return found + list(_triples(sample, names, trees, together, never))

    def _few(self, sample: Sample, layer: str) -> list[str]:
        """The layer's values in order, or none where they are not texts or not few."""
        import polars as pl

        kinds = (pl.String, pl.Categorical, pl.Boolean)
        if layer not in sample.frame.columns or sample.frame[layer].dtype not in kinds:
            return []
        values = sample.frame[layer].drop_nulls().cast(pl.String).unique().sort().to_list()
        return values if len(values) <= self.values else []


def _drawn(axes: Sequence[str], trees: Sequence[str], together: Sequence[set[str]]) -> bool:
    """Whether rows have all these axes: layers are always there, taxonomies where a strategy draws them."""
    mine = {axis for axis in axes if axis in trees}
    return any(mine <= strategy for strategy in together)


def _held(sample: Sample, axes: Sequence[str], names: Mapping[str, Sequence[str]]) -> tuple[int, set[tuple[str, ...]]]:
    """Rows with a known name on each of these axes, and the different combinations among them."""
    import polars as pl

    if not set(axes) <= set(sample.frame.columns):
        return 0, set()
    rows = sample.frame.select(pl.col(list(axes)).cast(pl.String)).drop_nulls()
    rows = rows.filter(pl.all_horizontal([pl.col(axis).is_in(list(names[axis])) for axis in axes]))
    return rows.height, set(rows.unique().iter_rows())


def _pair(
    sample: Sample, one: str, other: str, names: Mapping[str, Sequence[str]], never: set[tuple[str, str]]
) -> Measure:
    n, held = _held(sample, (one, other), names)
    cells = len(names[one]) * len(names[other]) - len(never)
    held -= never
    missing = ((r, c) for r in names[one] for c in names[other] if (r, c) not in held and (r, c) not in never)
    return _measure(sample, "pairs", f"{one} × {other}", (len(held), cells, n), missing)


def _triples(
    sample: Sample,
    names: Mapping[str, Sequence[str]],
    trees: Sequence[str],
    together: Sequence[set[str]],
    never: Mapping[tuple[str, str], set[tuple[str, str]]],
) -> Iterator[Measure]:
    """A measure for each triple of taxonomies, and one for all triples with a layer in them."""
    met = of = most = 0
    expected = 0.0
    for axes in combinations(names, 3):
        if not _drawn(axes, trees, together):
            continue
        n, held = _held(sample, axes, names)
        size = len(names[axes[0]]) * len(names[axes[1]]) * len(names[axes[2]])
        if size <= LOOKED_UP:
            cells = size - sum(
                sample.forbidden(dict(zip(axes, cell, strict=True)))
                for cell in product(*(names[axis] for axis in axes))
            )
        else:
            cells = _possible(axes, names, never)
        held = {cell for cell in held if not sample.forbidden(dict(zip(axes, cell, strict=True)))}
        if all(axis in trees for axis in axes):
            yield _measure(
                sample, "triples", " × ".join(axes), (len(held), cells, n), _absent(sample, axes, names, held)
            )
        elif cells:
            met, of, most = met + len(held), of + cells, max(most, n)
            expected += cells * (1 - (1 - 1 / cells) ** n)
    if of:
        yield Measure(
            "coverage",
            "triples",
            met / of,
            unit=f"of {of}",
            n=most,
            control=expected / of,
            control_of="uniform drawing",
            of=sample.of,
            axis="with layers",
            note="what rows were asked to be",
        )


def _possible(
    axes: tuple[str, ...], names: Mapping[str, Sequence[str]], never: Mapping[tuple[str, str], set[tuple[str, str]]]
) -> int:
    """Triples of which no two are forbidden together."""
    import numpy as np

    def allowed(one: str, other: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        table = np.ones((len(names[one]), len(names[other])))
        rows, columns = ({name: at for at, name in enumerate(names[axis])} for axis in (one, other))
        for r, c in never[one, other]:
            table[rows[r], columns[c]] = 0.0
        return table

    one, two, three = axes
    return round(float((allowed(one, two) * (allowed(one, three) @ allowed(two, three).T)).sum()))


def _absent(
    sample: Sample, axes: Sequence[str], names: Mapping[str, Sequence[str]], held: set[tuple[str, ...]]
) -> Iterator[tuple[str, ...]]:
    for cell in product(*(names[axis] for axis in axes)):
        if cell not in held and not sample.forbidden(dict(zip(axes, cell, strict=True))):
            yield cell


def _measure(
    sample: Sample, name: str, axis: str, counts: tuple[int, int, int], missing: Iterator[tuple[str, ...]]
) -> Measure:
    """`counts`: combinations met, combinations that are allowed, rows."""
    held, cells, n = counts
    if not n or not cells:
        return Measure("coverage", name, None, of=sample.of, axis=axis, note="too few: no rows carry these axes")
    return Measure(
        "coverage",
        name,
        held / cells,
        unit=f"of {cells}",
        n=n,
        control=1 - (1 - 1 / cells) ** n,
        control_of="uniform drawing",
        of=sample.of,
        axis=axis,
        note="what rows were asked to be"
        + (f"; the first {LISTED} missing are named" if cells - held > LISTED else ""),
        missing=tuple(" × ".join(cell) for cell in islice(missing, LISTED)),
    )
