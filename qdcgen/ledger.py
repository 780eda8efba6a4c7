"""What became of everything that was planned: per row and per node. Pure.

Every candidate that was made ends in exactly one state, so that at any moment
attempted = failed + refused + rejected (by filter) + duplicate + surplus + retired + accepted + unjudged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from qdcgen.report.contents import ASIDE, LedgerLine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qdcgen.rows import Taxonomy

__all__ = ["RETIRED", "STATES", "Wanted", "attempts", "lines", "shortfall"]

STATES = ("failed", "refused", "rejected", "duplicate", "surplus", "retired", "accepted", "unjudged")
"""`refused`: the model declined; `surplus`: kept by every filter, but its slot was filled already (after filters were
changed) or lies beyond a target that was lowered; `retired`: its region is no longer in the recipe; `unjudged`: not
judged yet."""

RETIRED = {"_id": pl.String, "reason": pl.String, "was": pl.String}
"""Rows whose region left the recipe: why, and what its nodes were then (JSON: axis → print of the node)."""


class Wanted(NamedTuple):
    """Which slots are to be filled: those below `rows`, or `slots` where the run was drawn from several plans."""

    rows: int
    """Accepted rows to end with."""
    slots: pl.Series | None = None

    def holds(self, column: str = "_slot") -> pl.Expr:
        """Whether the slot in `column` is to be filled."""
        return pl.col(column) < self.rows if self.slots is None else pl.col(column).is_in(self.slots.implode())


def attempts(
    raw: pl.DataFrame, verdicts: pl.DataFrame, wanted: Wanted, retired: pl.DataFrame | None = None
) -> pl.DataFrame:
    """`raw` (one row per candidate, in plan order) with `_state`, `_filter` (who said no) and `_reason`.

    `raw` needs `_id`, `_slot`, `_round`, `_fault`, `_reason`; `verdicts` has `_id`, `filter`, `kept`, `reason`, one
    line per filter that saw the row; `retired` has the columns of RETIRED. A slot is filled by its first candidate that
    every filter kept and that is not retired.
    """
    # No grouping of all rows: 106 MB for 100,000 of them, where the few that were turned down take next to nothing.
    refused = verdicts.filter(~pl.col("kept")).unique("_id", keep="first", maintain_order=True)
    joined = raw.with_columns(pl.col("_id").is_in(verdicts["_id"].implode()).alias("_judged")).join(
        refused.select("_id", pl.col("filter").alias("_by"), pl.col("reason").alias("_why")),
        on="_id",
        how="left",
        maintain_order="left",
    )
    if retired is None or retired.is_empty():  # a join with nothing would copy all there is: 20 MB of 100,000 rows
        joined = joined.with_columns(pl.lit(None, dtype=pl.String).alias("_gone"))
    else:
        gone = retired.select("_id", pl.col("reason").alias("_gone"))
        joined = joined.join(gone, on="_id", how="left", maintain_order="left")
    standing = pl.col("_fault").is_null() & pl.col("_judged") & pl.col("_by").is_null() & pl.col("_gone").is_null()
    asked = wanted.holds()
    marked = joined.with_columns((standing & asked).alias("_standing"), (standing & ~asked).alias("_beyond"))
    filled_by = pl.when(pl.col("_standing")).then(pl.col("_slot"))
    marked = marked.with_columns((pl.col("_standing") & filled_by.is_first_distinct()).alias("_first"))
    state = (
        pl.when(pl.col("_gone").is_not_null())
        .then(pl.lit("retired"))
        .when(pl.col("_fault") == "refused")
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
    beyond = pl.format("beyond the target of {} rows", pl.lit(wanted.rows))
    return (
        marked.with_columns(state)
        .with_columns(
            pl.when(pl.col("_state") == "retired")
            .then(pl.lit("retired"))
            .when(pl.col("_fault").is_not_null())
            .then(pl.lit("fault"))
            .when(pl.col("_state") == "surplus")
            .then(pl.lit("surplus"))
            .otherwise(pl.col("_by"))
            .alias("_filter"),
            pl.when(pl.col("_state") == "retired")
            .then(pl.col("_gone"))
            .when(pl.col("_fault").is_not_null())
            .then(pl.format("{}: {}", pl.col("_fault"), pl.col("_reason")))
            .when(pl.col("_beyond"))
            .then(beyond)
            .when(pl.col("_state") == "surplus")
            .then(filled)
            .otherwise(pl.col("_why"))
            .alias("_reason"),
        )
        .drop("_by", "_why", "_gone", "_judged", "_standing", "_beyond", "_first")
    )


def shortfall(
    given_up: pl.DataFrame,
    tried: pl.DataFrame,
    taxonomies: Mapping[str, Taxonomy],
    most: int = 8,
    *,
    candidates: int | None = None,
) -> list[str]:
    """The regions that stayed short, worst first, and what became of their candidates, in words.

    `cards/lost + angry: 3 rows short; of 9 candidates 8 rejected by landed, 1 failed`. `given_up` has node ids in the
    taxonomies' columns, `tried` has paths. `candidates` is how many each row may have: where fewer were made of a
    region, and none kept, it says that it was given up.
    """
    if not given_up.height:
        return []
    axes = [axis for axis in taxonomies if axis in given_up.columns]
    counted = (
        given_up.group_by(axes, maintain_order=True).len("_short").sort("_short", descending=True, maintain_order=True)
    )
    found = []
    for row in counted.head(most).iter_rows(named=True):
        paths = {axis: taxonomies[axis].by_id[row[axis]].path for axis in axes if row[axis] is not None}
        here = tried.filter([pl.col(axis) == path for axis, path in paths.items()])
        rows = "row" if row["_short"] == 1 else "rows"
        early = candidates is not None and 0 < here.height < candidates * row["_short"]
        early = early and here.filter(pl.col("_state").is_in(["accepted", "surplus"])).is_empty()
        found.append(f"{' + '.join(paths.values())}: {row['_short']} {rows} short{_fates(here, early=early)}")
    if counted.height > most:
        found.append(f"and {counted.height - most} more regions")
    return found


def _fates(tried: pl.DataFrame, *, early: bool) -> str:
    """`; of 9 candidates 8 rejected by landed, 1 failed`, or `, given up after 9 candidates, none kept: 9 failed`."""
    if tried.is_empty():
        return "; never asked for"
    said = []
    for state, by, count in (
        tried.group_by("_state", "_filter").len().sort("len", "_state", descending=[True, False]).iter_rows()
    ):
        said.append(f"{count} rejected by {by}" if state in ("rejected", "duplicate") else f"{count} {state}")
    candidates = "candidate" if tried.height == 1 else "candidates"
    what = f", given up after {tried.height} {candidates}, none kept:" if early else f"; of {tried.height} {candidates}"
    return f"{what} {', '.join(said)}"


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
    for state in ASIDE:
        if total(state):
            rejected[state] = total(state)
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
