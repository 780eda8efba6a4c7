"""Write `data/` and `rejected/`: what users load, in plan order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from qdcgen import rounds
from qdcgen.store import digest, packed

if TYPE_CHECKING:
    from qdcgen.recipe import Recipe
    from qdcgen.store import Store

__all__ = ["PART_ROWS", "publish", "state"]

PART_ROWS = 100_000
"""Rows in one file of `data/`: about 30 MB of short texts."""


def state(store: Store) -> str:
    """Changes when, and only when, rows or verdicts do, or which rows still stand."""
    told = ("raw/", "verdicts/", "retired.")
    return digest([(name, entry.sha256) for name, entry in sorted(store.files.items()) if name.startswith(told)])


def publish(store: Store, recipe: Recipe) -> None:
    """Write `data/` and `rejected/`: what users load, in plan order."""
    want = rounds.wanted(store, recipe)
    slots = want.slots.to_list() if want.slots is not None else None
    by = digest([state(store), want.rows, slots])
    published = [*store.names("data"), *store.names("rejected")]
    if published and all(store.files[name].by == by for name in published):
        return
    tried = rounds.attempts(store, recipe)
    if tried.is_empty():
        return
    whole = rounds.made(store)
    said = tried.select("_slot", "_round", "_state", "_filter", "_reason").with_row_index("_at")
    accepted = said.filter(pl.col("_state") == "accepted").sort("_slot")
    rest = said.filter(~pl.col("_state").is_in(["accepted", "unjudged"])).sort("_slot", "_round")
    files = {}
    for folder, frame in (("data", accepted), ("rejected", rest)):
        why = ["_filter", "_reason"] if folder == "rejected" else []
        for number, start in enumerate(range(0, frame.height, PART_ROWS)):
            part = frame[
                start : start + PART_ROWS
            ]  # one part at a time is gathered: the rows are held twice, not thrice
            rows = whole[part["_at"]].drop("_fault", "_reason").hstack(part.select(why))
            files[f"{folder}/part-{number:05d}.parquet"] = packed(rows)
    store.commit(files, by=by, drop=tuple(name for name in published if name not in files))
