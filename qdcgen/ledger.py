"""What became of everything that was planned: per row and per node. Pure.

Every candidate that was made ends in exactly one state, so that at any moment
attempted = failed + refused + rejected (by filter) + duplicate + surplus + accepted + unjudged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from qdcgen.report.contents import LedgerLine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qdcgen.rows import Taxonomy

__all__ = ["STATES", "attempts", "lines", "shortfall"]

STATES = ("failed", "refused", "rejected", "duplicate", "surplus", "accepted", "unjudged")
"""`refused`: the model declined; `surplus`: kept by every filter, but its slot was filled already (after filters were
changed) or lies beyond a target that was lowered; `unjudged`: not judged yet."""


def attempts(raw: pl.DataFrame, verdicts: pl.DataFrame, target: int) -> pl.DataFrame:
    """`raw` (one row per candidate, in plan order) with `_state`, `_filter` (who said no) and `_reason`.

    `raw` needs `_id`, `_slot`, `_round`, `_fault`, `_reason`; `verdicts` has `_id`, `filter`, `kept`, `reason`, one
    line per filter that saw the row. A slot is filled by its first candidate that every filter kept.
    """
    # No grouping of all rows: 106 MB for 100,000 of them, where the few that were turned down take next to nothing.
    refused = verdicts.filter(~pl.col("kept")).unique("_id", keep="first", maintain_order=True)
    joined = raw.with_columns(pl.col("_id").is_in(verdicts["_id"].implode()).alias("_judged")).join(
        refused.select("_id", pl.col("filter").alias("_by"), pl.col("reason").alias("_why")),
        on="_id",
        how="left",
        maintain_order="left",
    )
    standing = pl.col("_fault").is_null() & pl.col("_judged") & pl.col("_by").is_null()
    marked = joined.with_columns(
        (standing & (pl.col("_slot") < target)).alias("_standing"),
        (standing & (pl.col("_slot") >= target)).alias("_beyond"),
    )
    filled_by = pl.when(pl.col("_standing")).then(pl.col("_slot"))
    marked = marked.with_columns((pl.col("_standing") & filled_by.is_first_distinct()).alias("_first"))
    state = (
        pl.when(pl.col("_fault") == "refused")
        .then(pl.lit("refused"))
        .when(pl.col("_fault").is_not_null())
        .then(pl.lit("failed"))
        .when(pl.col("_by").str.starts_with("duplicates"))
        .then(pl.lit("duplicate"))
        .when(pl.col("_by").is_not_null())
        .then(pl.lit("rejected"))
        .when(pl.col("_first"))
        .then(pl.lit("accepted"))
        .when(pl.col("_standing") | pl.col("_beyond"))
        .then(pl.lit("surplus"))
        .otherwise(pl.lit("unjudged"))
        .alias("_state")
    )
    filled = pl.lit("its slot is filled by an earlier candidate")
    beyond = pl.format("beyond the target of {} rows", pl.lit(target))
    return (
        marked.with_columns(state)
        .with_columns(
            pl.when(pl.col("_fault").is_not_null())
            .then(pl.lit("fault"))
            .when(pl.col("_state") == "surplus")
            .then(pl.lit("surplus"))
            .otherwise(pl.col("_by"))
            .alias("_filter"),
            pl.when(pl.col("_fault").is_not_null())
            .then(pl.format("{}: {}", pl.col("_fault"), pl.col("_reason")))
            .when(pl.col("_beyond"))
            .then(beyond)
            .when(pl.col("_state") == "surplus")
            .then(filled)
            .otherwise(pl.col("_why"))
            .alias("_reason"),
        )
        .drop("_by", "_why", "_judged", "_standing", "_beyond", "_first")
    )


def shortfall(given_up: pl.DataFrame, taxonomies: Mapping[str, Taxonomy], most: int = 8) -> list[str]:
    """The regions that stayed short, worst first, in words: `cards/lost + angry: 3 rows short`."""
    if not given_up.height:
        return []
    axes = [axis for axis in taxonomies if axis in given_up.columns]
    counted = (
        given_up.group_by(axes, maintain_order=True).len("_short").sort("_short", descending=True, maintain_order=True)
    )
    found = []
    for row in counted.head(most).iter_rows(named=True):
        region = " + ".join(taxonomies[axis].by_id[row[axis]].path for axis in axes if row[axis] is not None)
        found.append(f"{region}: {row['_short']} {'row' if row['_short'] == 1 else 'rows'} short")
    if counted.height > most:
        found.append(f"and {counted.height - most} more regions")
    return found


def lines(
    planned: pl.DataFrame, tried: pl.DataFrame, taxonomies: Mapping[str, Taxonomy], filters: Sequence[str]
) -> list[LedgerLine]:
    """The ledger: the whole run, then each node of each taxonomy, a leaf's rows credited to its ancestors too.

    `planned` has node ids in the taxonomies' columns, `tried` has paths.
    """
    found = [_line("", "", planned.height, _tally(tried), filters)]
    for axis, tree in taxonomies.items():
        wanted = dict(planned.filter(pl.col(axis).is_not_null()).group_by(axis).len().iter_rows())
        made: dict[str, dict[tuple[str, str | None], int]] = {}
        for path, state, by, count in (
            tried.filter(pl.col(axis).is_not_null()).group_by(axis, "_state", "_filter").len().iter_rows()
        ):
            made.setdefault(path, {})[state, by] = count
        found += _tree_lines(axis, tree, wanted, made, filters)
    return found


def _tally(tried: pl.DataFrame) -> dict[tuple[str, str | None], int]:
    return {(state, by): count for state, by, count in tried.group_by("_state", "_filter").len().iter_rows()}


def _tree_lines(
    axis: str,
    tree: Taxonomy,
    wanted: Mapping[str, int],
    made: Mapping[str, Mapping[tuple[str, str | None], int]],
    filters: Sequence[str],
) -> Iterator[LedgerLine]:
    planned: dict[str, int] = {}
    counts: dict[str, dict[tuple[str, str | None], int]] = {}
    for leaf in tree.leaves:
        own = made.get(leaf.path, {})
        for node in tree.line(leaf.id):
            planned[node.id] = planned.get(node.id, 0) + wanted.get(leaf.id, 0)
            into = counts.setdefault(node.id, {})
            for key, count in own.items():
                into[key] = into.get(key, 0) + count
    for node in tree.nodes:
        yield _line(axis, node.path, planned.get(node.id, 0), counts.get(node.id, {}), filters)


def _line(
    axis: str, node: str, planned: int, counts: Mapping[tuple[str, str | None], int], filters: Sequence[str]
) -> LedgerLine:
    def total(state: str) -> int:
        return sum(count for (found, _), count in counts.items() if found == state)

    rejected = {name: counts.get(("rejected", name), 0) for name in filters if ("rejected", name) in counts}
    if total("surplus"):
        rejected["surplus"] = total("surplus")
    return LedgerLine(
        axis=axis,
        node=node,
        planned=planned,
        attempted=sum(counts.values()),
        failed=total("failed"),
        refused=total("refused"),
        rejected=rejected,
        duplicate=total("duplicate"),
        accepted=total("accepted"),
        owed=max(0, planned - total("accepted")),
    )
