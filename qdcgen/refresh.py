"""When the regions of a recipe change: which rows still stand in them, which do not, and what is owed for the rest.

A row stands as long as each node of its mix is a leaf with the path and the definition that it had when the row was
made, no entry under `forbid:` rules the mix out, and a strategy draws these axes together. Other rows are *retired*:
they keep their place in the history, with the reason, and come back when their nodes do. Pure.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from qdcgen.rows import mix_of
from qdcgen.taxonomy import matching

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qdcgen.rows import Taxonomy

__all__ = ["Regions", "drawn", "prints", "reconciled"]


def prints(tree: Taxonomy) -> dict[str, str]:
    """Leaf id → 12 hex digits that stand for its path and definition: what rows of the leaf were told of it."""
    return {
        leaf.id: sha256(orjson.dumps([leaf.path, *(node.text for node in tree.line(leaf.id))])).hexdigest()[:12]
        for leaf in tree.leaves
    }


def drawn(
    taxonomies: Mapping[str, Taxonomy], strategies: Sequence[Any], forbid: Iterable[Mapping[str, str]]
) -> dict[str, Any]:
    """What decides which mixes are drawn besides the seed, as plain data; node weights are part of it.

    `forbid` entries that name a layer are left out: they change rows, not regions.
    """
    return {
        "taxonomy": {axis: tree.digest for axis, tree in taxonomies.items()},
        "strategies": [[list(strategy.axes), strategy.weight] for strategy in strategies],
        "forbid": [dict(entry) for entry in forbid if set(entry) <= set(taxonomies)],
    }


class Regions:
    """Which mixes can be drawn: by node ids, over the leaves of the taxonomies as they are now."""

    def __init__(
        self,
        taxonomies: Mapping[str, Taxonomy],
        strategies: Sequence[Any],
        forbid: Iterable[Mapping[str, str]],
    ) -> None:
        """`strategies` have `axes`; `forbid` entries that name a layer are passed over."""
        self.prints = {axis: prints(tree) for axis, tree in taxonomies.items()}
        self._drawn = {frozenset(strategy.axes) for strategy in strategies}
        self._forbid: list[tuple[Mapping[str, str], dict[str, set[str]]]] = []
        for entry in forbid:
            if set(entry) <= set(taxonomies):
                hit = {
                    axis: {
                        leaf.id
                        for leaf, named in zip(
                            taxonomies[axis].leaves, matching(pattern, taxonomies[axis]), strict=True
                        )
                        if named
                    }
                    for axis, pattern in entry.items()
                }
                self._forbid.append((entry, hit))

    def against(self, mix: Mapping[str, str], was: Mapping[str, str]) -> str | None:
        """Why rows of `mix` do not stand, in words; None when they do. `was`: axis → print of the mix's node then."""
        for axis, node in mix.items():
            now = self.prints.get(axis, {}).get(node)
            if now is None:
                return f"{node} is no longer a leaf of {axis}"
            if now != was.get(axis, now):
                return f"{node} of {axis} was renamed, moved or defined anew"
        if frozenset(mix) not in self._drawn:
            return f"no strategy draws {' and '.join(mix)} together any more"
        for entry, hit in self._forbid:
            if all(axis in mix and mix[axis] in nodes for axis, nodes in hit.items()):
                return f"forbidden now: {' with '.join(f'{axis} {pattern}' for axis, pattern in entry.items())}"
        return None

    def retired(self, made: pl.DataFrame, before: Mapping[str, Mapping[str, str]], gone: pl.DataFrame) -> pl.DataFrame:
        """The rows that do not stand: `_id`, `reason`, `was` (columns of `ledger.RETIRED`).

        `made`: `_id` and `_mix` of every row; `before`: axis → leaf id → print when the rows that stand were made;
        `gone`: the rows retired so far, which come back when all their nodes are as they were.
        """
        since = {id_: orjson.loads(was) for id_, was in gone.select("_id", "was").iter_rows()}
        found: list[tuple[str, str, str]] = []
        told: dict[tuple[str, str], str | None] = {}
        for id_, key in made.select("_id", "_mix").iter_rows():
            mix = mix_of(key)
            was = since.get(id_) or {
                axis: before[axis][node] for axis, node in mix.items() if node in before.get(axis, ())
            }
            known = orjson.dumps(was, option=orjson.OPT_SORT_KEYS).decode()
            if (key, known) not in told:
                told[key, known] = self.against(mix, was)
            if (reason := told[key, known]) is not None:
                found.append((id_, reason, known))
        return pl.DataFrame(found, schema={"_id": pl.String, "reason": pl.String, "was": pl.String}, orient="row")

    def standing(self, slots: pl.DataFrame) -> pl.DataFrame:
        """The rows of `slots` (node ids by axis, null where a strategy does not draw it) whose mix can be drawn now."""
        axes = [axis for axis in self.prints if axis in slots.columns]
        regions = slots.select(axes).unique(maintain_order=True)
        holds = [
            self.against({axis: node for axis, node in row.items() if node is not None}, {}) is None
            for row in regions.iter_rows(named=True)
        ]
        allowed = regions.filter(pl.Series(holds, dtype=pl.Boolean))
        return slots.join(allowed, on=axes, how="semi", nulls_equal=True, maintain_order="left")


def reconciled(planned: pl.DataFrame, standing: pl.DataFrame, axes: Sequence[str], first: int) -> pl.DataFrame:
    """Slots that a changed plan owes beside those that stand: `slot` (numbered from `first`) and `axes`; in plan order.

    `planned`: the changed plan's slots, as many as rows are wanted; `standing`: the slots of earlier plans whose region
    can still be drawn. A region of the changed plan is owed as often as it is planned beyond what stands there. Those
    with a leaf that nothing stands in are all owed, even beyond the target, so that a new leaf gets its share and no
    accepted row has to leave; the others only as far as the target leaves room.
    """
    counted = pl.int_range(pl.len(), dtype=pl.Int64).over(axes).alias("_nth")
    have = standing.group_by(axes).len("_have")
    lacking = (
        planned.with_columns(counted)
        .join(have, on=axes, how="left", nulls_equal=True, maintain_order="left")
        .filter(pl.col("_nth") >= pl.col("_have").fill_null(0))
    )
    fresh = pl.any_horizontal(
        [pl.col(axis).is_not_null() & ~pl.col(axis).is_in(standing[axis].drop_nulls().implode()) for axis in axes]
    )
    lacking = lacking.with_columns(fresh.alias("_new"))
    room = planned.height - standing.height - int(lacking["_new"].sum())
    others = (~pl.col("_new")).cum_sum() <= max(0, room)
    owed = lacking.filter(pl.col("_new") | others).select(axes)
    numbers = pl.Series("slot", range(first, first + owed.height), dtype=pl.Int64)
    return owed.select(numbers, *axes)
