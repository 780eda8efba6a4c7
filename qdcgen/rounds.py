"""What the rounds of a run folder hold: the rows each owes, the rows that were made, what was said of them.

The folder's tables as frames, and the one place that knows the names of their files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from qdcgen import ledger
from qdcgen.generate import Asked
from qdcgen.plan import refill
from qdcgen.store import packed, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qdcgen.judge import Judged
    from qdcgen.plan import Plan
    from qdcgen.recipe import Recipe
    from qdcgen.rows import Row
    from qdcgen.store import Store

__all__ = [
    "Batch",
    "attempts",
    "batch_rows",
    "batches",
    "freeze",
    "kept_by",
    "made",
    "next_round",
    "planned",
    "verdict_table",
]


class Batch(NamedTuple):
    """One unit of commit and resume. `name` is its file's, below `raw/` and `verdicts/`."""

    round: int
    number: int
    slots: pl.DataFrame

    @property
    def name(self) -> str:
        """`000-000012`: round, then number; names sort in plan order."""
        return f"{self.round:03d}-{self.number:06d}"

    @property
    def raw(self) -> str:
        """The file of its rows."""
        return f"raw/{self.name}.parquet"

    @property
    def verdicts(self) -> str:
        """The file of what was said of them."""
        return f"verdicts/{self.name}.parquet"

    def asked(self, axes: Mapping[str, object]) -> list[Asked]:
        """Its rows as generate takes them."""
        return [
            Asked(row["slot"], row["replicate"], {axis: row[axis] for axis in axes if row[axis] is not None})
            for row in self.slots.iter_rows(named=True)
        ]


def batch_rows(rows: int) -> int:
    """Rows to a batch: about 32 batches a run, but 8 to 512 rows each.

    8 keeps a quickstart's commits minutes apart at most; 512 keeps the 16 ms of a commit below 0.1 % at 60 rows/s.
    """
    return max(8, min(512, rows // 32))


def planned(store: Store) -> pl.DataFrame:
    """Every row that any round owed: `round`, `batch`, `slot`, `replicate` and node ids by taxonomy; in plan order."""
    tables = [
        store.table(name).with_columns(pl.lit(number, dtype=pl.Int64).alias("round"))
        for number, name in enumerate(store.names("plan"))
    ]
    return pl.concat(tables) if tables else pl.DataFrame()


def batches(store: Store) -> Iterator[Batch]:
    """Every batch of every frozen round, in plan order."""
    for number, name in enumerate(store.names("plan")):
        for part in store.table(name).partition_by("batch", maintain_order=True):
            yield Batch(number, part["batch"][0], part)


def freeze(store: Store, number: int, slots: pl.DataFrame) -> None:
    """Write what round `number` owes, batch by batch."""
    size = batch_rows(slots.height)
    frame = slots.with_columns((pl.int_range(pl.len(), dtype=pl.Int64) // size).alias("batch"))
    store.commit({f"plan/{number:03d}.parquet": packed(frame)})


def made(store: Store, columns: list[str] | None = None, *, leave: Sequence[str] = ()) -> pl.DataFrame:
    """Every row that was made, in plan order; only `columns` when given, and none of `leave`."""
    tables = [store.table(name, columns).drop(leave) for name in store.names("raw")]
    return pl.concat(tables) if tables else pl.DataFrame()


_VERDICTS = {"_id": pl.String, "filter": pl.String, "kept": pl.Boolean, "reason": pl.String, "score": pl.Float64}


def verdict_table(judged: list[Judged]) -> pl.DataFrame:
    """Verdicts as they lie in `verdicts/`: one line per row and filter that saw it."""
    return pl.DataFrame(
        [(one.row, one.filter, one.verdict.kept, one.verdict.reason or None, one.verdict.score) for one in judged],
        schema=_VERDICTS,
        orient="row",
    )


def attempts(store: Store, recipe: Recipe) -> pl.DataFrame:
    """Every candidate with its state; see `ledger.attempts`."""
    columns = ["_id", "_slot", "_round", "_mix", *recipe.taxonomies, *recipe.layers, "_fault", "_reason"]
    raw = made(store, columns)
    if raw.is_empty():
        schema = dict.fromkeys(columns, pl.String) | {"_slot": pl.Int64, "_round": pl.Int64}
        raw = pl.DataFrame(schema=schema)
    said = [store.table(name) for name in store.names("verdicts")]
    judged = {name.removeprefix("verdicts/") for name in store.names("verdicts")}
    verdicts = pl.concat(said) if said else pl.DataFrame(schema=_VERDICTS)
    if not recipe.filters:  # nobody judges, so a batch with an empty verdict file is judged
        ids = [store.table(f"raw/{name}", ["_id"]) for name in sorted(judged)]
        if ids:
            verdicts = pl.concat(ids).select(
                "_id",
                pl.lit("").alias("filter"),
                pl.lit(value=True).alias("kept"),
                pl.lit(None, dtype=pl.String).alias("reason"),
                pl.lit(None, dtype=pl.Float64).alias("score"),
            )
    return ledger.attempts(raw, verdicts, recipe.target.rows)


def kept_by(store: Store, recipe: Recipe, label: str, types: Mapping[str, str], until: str) -> Iterator[Row]:
    """Rows that the filter `label` let through in batches before `until`, in plan order."""
    layers, fields = ({name: types[name] for name in of} for of in (recipe.layers, recipe.fields))
    for name in store.names("verdicts"):
        if name >= until:
            return
        passed = store.table(name).filter((pl.col("filter") == label) & pl.col("kept"))["_id"]
        table = store.table(name.replace("verdicts/", "raw/"))
        yield from rows_of(table.filter(pl.col("_id").is_in(passed.implode())), fields, layers)


def next_round(store: Store, recipe: Recipe, plan: Plan, tried: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What the next round owes (empty: nothing), and the slots that were given up.

    Slots beyond those of earlier rounds come first time round from the plan; slots whose every candidate so far was
    turned down come again, with the next replicate of their mix, until they had `target.candidates` of them.
    """
    before = planned(store)
    axes = list(recipe.taxonomies)
    known = 0 if before.is_empty() else int(before["slot"].max()) + 1  # type: ignore[arg-type]
    fresh = named(plan.slots(min(known, recipe.target.rows), recipe.target.rows), recipe)
    if before.is_empty():
        again = given_up = fresh.clear()
        counts: pl.DataFrame | None = None
    else:
        filled = tried.filter(pl.col("_state") == "accepted")["_slot"]
        asked = before.filter(pl.col("slot") < recipe.target.rows).select("slot", *axes)
        again, given_up = refill(asked, filled, recipe.target.candidates)
        counts = before.group_by(axes).len("_made")
    frame = pl.concat([again, fresh])
    occurrence = pl.int_range(pl.len(), dtype=pl.Int64).over(axes)
    if counts is None:
        return frame.with_columns(occurrence.alias("replicate")), given_up
    numbered = frame.with_columns(occurrence.alias("replicate")).join(
        counts, on=axes, how="left", nulls_equal=True, maintain_order="left"
    )
    more = pl.col("replicate") + pl.col("_made").fill_null(0).cast(pl.Int64)
    return numbered.with_columns(more.alias("replicate")).drop("_made"), given_up


def named(slots: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """Plan slots with leaf numbers turned into node ids: what a round is frozen with, so that it outlives its tree."""
    ids = {
        axis: pl.Series([leaf.id for leaf in tree.leaves], dtype=pl.String) for axis, tree in recipe.taxonomies.items()
    }
    return slots.select(
        pl.col("slot").cast(pl.Int64),
        *(_looked_up(slots[axis], ids[axis]).alias(axis) for axis in recipe.taxonomies),
    )


def _looked_up(numbers: pl.Series, ids: pl.Series) -> pl.Series:
    return ids.gather(numbers)
