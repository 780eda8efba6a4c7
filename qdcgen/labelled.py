"""Labels by people: how they lie in a run folder, which rows are worth a label, and how they reach the report.

A label is of what a row said, not of its name: it holds a digest of the row's fields, so that a row which was made anew
under the same name, with other words, has none. It also holds the stratum that the row was drawn from and how many rows
were in it, so that rows drawn with unequal chance can be weighed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from qdcgen.store import LABELS, digest, dumps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qdcgen.recipe import Recipe
    from qdcgen.store import Store

__all__ = ["Label", "Place", "attached", "contents", "load", "order", "places", "save"]

FORMAT = 1
BLOCK = 12
"""Rows that are shuffled together: no order gives away which filter said no, and each block has every stratum."""

_STATES = ("accepted", "surplus", "rejected", "duplicate")
"""What becomes of rows that every filter in turn has judged."""


@dataclass(frozen=True, slots=True)
class Label:
    """What one person said of one row."""

    row: str
    by: str
    good: bool | None
    """None: passed over, so that the row is not shown again."""
    content: str
    """Digest of the row's fields."""
    stratum: str
    """The filter that had said no when the row was drawn; empty: none."""
    of: int
    """Rows in that stratum then."""
    judges: str
    """The filters of then."""
    how: str
    """`keys` or `file`."""


class Place(NamedTuple):
    """Where a row stands: its stratum, and how many rows are in it."""

    stratum: str
    of: int
    judges: str


def load(store: Store) -> list[Label]:
    """Every label, in the order in which they were given."""
    said = store.read(LABELS)
    return [Label(**one) for one in said["labels"]] if said else []


def save(store: Store, labels: Sequence[Label]) -> None:
    """Put all labels in place of what stood; after a kill the folder has all of the old or all of the new."""
    told = {"format": FORMAT, "labels": [asdict(one) for one in labels]}
    store.commit({LABELS: (dumps(told), len(labels))})


def contents(store: Store, recipe: Recipe, rows: Iterable[str]) -> dict[str, str]:
    """Row → digest of its fields, for those of `rows` that were made."""
    wanted = pl.Series(list(rows), dtype=pl.String).implode()
    found: dict[str, str] = {}
    for name in store.names("raw"):
        table = store.table(name, ["_id", *recipe.fields]).filter(pl.col("_id").is_in(wanted))
        found |= {said.pop("_id"): digest(said) for said in table.iter_rows(named=True)}
    return found


# ── which rows ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _strata(tried: pl.DataFrame) -> pl.DataFrame:
    """`_id` and `stratum` of every row that was judged and stands, in plan order."""
    said_no = pl.when(pl.col("_state").is_in(["accepted", "surplus"])).then(pl.lit("")).otherwise(pl.col("_filter"))
    return tried.filter(pl.col("_state").is_in(_STATES)).select("_id", said_no.alias("stratum"))


def places(store: Store, tried: pl.DataFrame) -> dict[str, Place]:
    """Row → where it stands now, for all that were judged; in plan order."""
    judges = digest(sorted({store.files[name].by for name in store.names("verdicts")}))
    table = _strata(tried).with_columns(pl.len().over("stratum").alias("of"))
    return {row: Place(stratum, of, judges) for row, stratum, of in table.iter_rows()}


def order(standing: Mapping[str, Place], filters: Sequence[str], seed: int) -> list[str]:
    """All rows in the order in which labels are worth most: half of them accepted, half shared by the filters' noes.

    Fewer, from the start, are a sample just as well, and more only go on. Inside a stratum rows come by the digest of
    seed and name, so that rows which are made later change nothing about the order of the others.
    """
    strata: dict[str, list[str]] = {name: [] for name in ("", *filters)}
    for row, place in standing.items():
        strata.setdefault(place.stratum, []).append(row)
    queues = {
        name: sorted(rows, key=lambda row: sha256(f"{seed}/{row}".encode()).digest(), reverse=True)
        for name, rows in strata.items()
        if rows
    }
    others = sum(1 for name in queues if name)
    share = {name: 0.5 / others if name and "" in queues else 0.5 if not name else 1 / others for name in queues}
    found: list[str] = []
    taken = dict.fromkeys(queues, 0)
    chance = Random(f"{seed}/order")
    while queues:
        block: list[str] = []
        while queues and len(block) < BLOCK:
            step = len(found) + len(block) + 1
            name = max(queues, key=lambda one: share[one] * step - taken[one])
            taken[name] += 1
            block.append(queues[name].pop())
            if not queues[name]:
                del queues[name]
        chance.shuffle(block)
        found += block
    return found


# ── what the report is given ────────────────────────────────────────────────────────────────────────────────────────


def attached(tried: pl.DataFrame, store: Store, recipe: Recipe) -> pl.DataFrame:
    """The history of candidates with what people said, where anybody did.

    Adds `_said` (who and whether good, of people who told), `_drawn` (stratum, rows in it, filters of then), `_stratum`
    (as of now), `_score` (of the last critic whose score decides) and `_lost`, the same on all rows: how many labels
    are of rows that are gone, out of the recipe, or that say something else by now.
    """
    labels = [one for one in load(store) if one.good is not None]
    if not labels:
        return tried
    now = contents(store, recipe, {one.row for one in labels})
    standing = _strata(tried)
    judged = set(standing["_id"])
    valid = [one for one in labels if now.get(one.row) == one.content and one.row in judged]
    by_row: dict[str, list[Label]] = {}
    for one in valid:
        by_row.setdefault(one.row, []).append(one)
    said = pl.DataFrame(
        [
            {
                "_id": row,
                "_said": [{"by": one.by, "good": one.good} for one in of],
                "_drawn": {"stratum": of[0].stratum, "of": of[0].of, "judges": of[0].judges},
            }
            for row, of in by_row.items()
        ],
        schema=_SAID,
    )
    marked = tried.join(standing.rename({"stratum": "_stratum"}), on="_id", how="left", maintain_order="left")
    marked = marked.join(said, on="_id", how="left", maintain_order="left")
    marked = marked.join(_scores(store, recipe), on="_id", how="left", maintain_order="left")
    return marked.with_columns(pl.lit(len(labels) - len(valid), dtype=pl.Int64).alias("_lost"))


_SAID: dict[str, Any] = {
    "_id": pl.String,
    "_said": pl.List(pl.Struct({"by": pl.String, "good": pl.Boolean})),
    "_drawn": pl.Struct({"stratum": pl.String, "of": pl.Int64, "judges": pl.String}),
}


def _scores(store: Store, recipe: Recipe) -> pl.DataFrame:
    """`_id` and `_score`, of the last filter that is a critic and graded: it has seen every accepted row."""
    critic = next(
        (label for label, entry in reversed(recipe.judges) if entry.part.critic and entry.part.graded() is not None),
        None,
    )
    tables = [
        store.table(name, ["_id", "filter", "score"])
        .filter(pl.col("filter") == critic)
        .select("_id", pl.col("score").alias("_score"))
        for name in (store.names("verdicts") if critic is not None else ())
    ]
    return pl.concat(tables) if tables else pl.DataFrame(schema={"_id": pl.String, "_score": pl.Float64})
