"""The accepted row whose region lies nearest to a cell's. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdcgen.rows import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qdcgen.rows import Cell, Row, Taxonomy

__all__ = ["Neighbours"]


class Neighbours:
    """Looks for the nearest row among those that `rows` gives with their taxonomies, read at the first question."""

    def __init__(self, read: Callable[[], tuple[Sequence[Row], Mapping[str, Taxonomy]]]) -> None:
        """Reads nothing yet."""
        self._read = read
        self._rows: dict[tuple[tuple[str, str], ...], list[Row]] | None = None
        self._trees: Mapping[str, Taxonomy] = {}
        self._found: dict[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...] | None] = {}

    def nearest(self, cell: Cell) -> Row | None:
        """One row of the nearest region, None where there is no row.

        Near: on each axis the share of the path from the root that both nodes have in common, summed over axes. Of
        several regions as near the first in plan order; of its rows one drawn by the cell's own name, so that the cells
        of one region do not all start from the same text.
        """
        if self._rows is None:
            rows, self._trees = self._read()
            self._rows = {}
            for row in rows:
                self._rows.setdefault(tuple(sorted(row.cell.mix.items())), []).append(row)
        key = tuple(sorted(cell.mix.items()))
        if key not in self._found:
            self._found[key] = max(self._rows, key=lambda other: self._alike(cell.mix, dict(other)), default=None)
        place = self._found[key]
        if place is None:
            return None
        rows = self._rows[place]
        return rows[stream(cell.id, "near") % len(rows)]

    def _alike(self, one: Mapping[str, str], other: Mapping[str, str]) -> float:
        return sum(self._along(axis, node, other[axis]) for axis, node in one.items() if axis in other)

    def _along(self, axis: str, one: str, other: str) -> float:
        tree = self._trees[axis]
        if one not in tree.by_id or other not in tree.by_id:
            return 0.0
        mine, theirs = [node.id for node in tree.line(one)], [node.id for node in tree.line(other)]
        return 2 * len(set(mine) & set(theirs)) / (len(mine) + len(theirs))
