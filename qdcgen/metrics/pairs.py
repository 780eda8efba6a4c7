"""Metric `pairs`: which combinations of two axes have rows."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qdcgen.parts import Sample

LISTED = 1_000
"""Missing pairs listed by name; two taxonomies of 1,000 leaves have a million."""


class Pairs(Metric):
    """Distinct pairs of values of two axes over all pairs, for axes that are drawn together.

    For two taxonomies of a strategy: pairs of leaves. For a taxonomy and a layer with at most `values` values: leaves ×
    values met. Control: the expected share if the same n rows had been drawn uniformly over the N pairs, exactly
    1 - (1 - 1/N)^n. Shares are exact counts, so they have no interval.

    What makes it lie: a layer's value that no row has is not known
    here, so it is not missing either; and it counts what was asked for, not what the text became.
    """

    table: ClassVar[str] = "coverage"
    gates: ClassVar[tuple[str, ...]] = ("pairs",)

    values: int = Field(default=20, ge=2, le=1_000)
    """Most values a layer may have to be paired."""

    def measure(self, sample: Sample) -> list[Measure]:
        """One measure for each pair of axes; none where there is one axis."""
        trees = list(sample.taxonomies)
        together = [tuple(axes) for axes in sample.strategies] or [tuple(trees)]
        met = {pair for axes in together for pair in combinations([tree for tree in trees if tree in axes], 2)}
        leaves = {tree: [leaf.path for leaf in sample.taxonomies[tree].leaves] for tree in trees}
        found = [
            self._pair(sample, one, other, leaves[one], leaves[other])
            for one, other in sorted(met, key=lambda pair: (trees.index(pair[0]), trees.index(pair[1])))
        ]
        for layer in sample.layers:
            values = self._few(sample, layer)
            found += [self._pair(sample, tree, layer, leaves[tree], values) for tree in trees if values]
        return found

    def _few(self, sample: Sample, layer: str) -> list[str]:
        """The layer's values in order, or none where they are not texts or not few."""
        import polars as pl

        kinds = (pl.String, pl.Categorical, pl.Boolean)
        if layer not in sample.frame.columns or sample.frame[layer].dtype not in kinds:
            return []
        values = sample.frame[layer].drop_nulls().cast(pl.String).unique().sort().to_list()
        return values if len(values) <= self.values else []

    def _pair(self, sample: Sample, one: str, other: str, rows: Sequence[str], columns: Sequence[str]) -> Measure:
        import polars as pl

        axis = f"{one} × {other}"
        never = {(r, c) for r in rows for c in columns if sample.forbidden({one: r, other: c})}
        cells = len(rows) * len(columns) - len(never)
        name = "pairs"
        if not {one, other} <= set(sample.frame.columns) or not cells:
            return Measure("coverage", name, None, of=sample.of, axis=axis, note="too few: no rows carry both axes")
        both = sample.frame.select(pl.col(one, other).cast(pl.String)).drop_nulls()
        both = both.filter(pl.col(one).is_in(list(rows)) & pl.col(other).is_in(list(columns)))
        held = set(both.unique().iter_rows()) - never
        return Measure(
            "coverage",
            name,
            len(held) / cells,
            unit=f"of {cells}",
            n=both.height,
            control=1 - (1 - 1 / cells) ** both.height,
            control_of="uniform drawing",
            of=sample.of,
            axis=axis,
            note="what was asked for; landed: not measured"
            + (f"; the first {LISTED} missing are named" if cells - len(held) > LISTED else ""),
            missing=tuple(_missing(rows, columns, held | never)),
        )


def _missing(rows: Sequence[str], columns: Sequence[str], held: set[tuple[str, ...]]) -> Iterator[str]:
    listed = 0
    for row in rows:
        for column in columns:
            if (row, column) not in held:
                yield f"{row} × {column}"
                listed += 1
                if listed == LISTED:
                    return
