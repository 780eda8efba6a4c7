"""How often a solver that does not see the answer comes to it: accepted rows, several tries each.

The solver is asked through the run's journal, under the seeds that the filter `solvable` asks with, and its answers are
compared as that filter does: what the filter asked already is not paid for again.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from qdcgen.errors import GO_ON, Incomplete, ModelRefused
from qdcgen.hardness import solved_band
from qdcgen.intervals import wilson
from qdcgen.rows import Cell, Row
from qdcgen.store import packed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from qdcgen.recipe import Recipe
    from qdcgen.rows import Verdict
    from qdcgen.store import Store

__all__ = ["FILE", "chosen", "solved"]

FILE = "passes.parquet"
"""Each row that the solver was given: its rate over all tries, and the Wilson interval of that."""
AT_ONCE = 50
"""Rows asked about together; how many calls are in flight is the alias's matter."""


def chosen(frame: pl.DataFrame, fields: Sequence[str], answer: str, rows: int, seed: int) -> pl.DataFrame:
    """At most `rows` rows that say different things, by a digest of what they say: more rows change few of them.

    Of rows that say the same it is the one whose id comes first, whatever the order of the rows.
    """
    import polars as pl

    told = frame.select("_id", *fields, answer).drop_nulls(answer).sort("_id")
    told = told.filter(pl.any_horizontal(pl.col(fields).is_not_null()))
    ranked: dict[bytes, int] = {}
    for place, (_, *values) in enumerate(told.iter_rows()):
        content = "\x00".join(str(value) for value in (seed, *values))
        ranked.setdefault(sha256(content.encode("utf-8", "surrogatepass")).digest(), place)
    return told[[ranked[key] for key in sorted(ranked)[:rows]]]


def solved(
    store: Store, recipe: Recipe, frames: Mapping[str, pl.DataFrame], *, ask: bool
) -> tuple[pl.DataFrame | None, list[str]]:
    """`_id`, `_solved` (share of tries that came to the answer) and `_tries` of some accepted rows; and remarks.

    None where the recipe names no solver, where it was not asked, or stopped on the way; then the remarks say why. The
    solver is asked here and now where `ask` is true.
    """
    import polars as pl

    settings = recipe.measure.solver
    if settings is None or "kept" not in frames:
        return None, []
    if not ask:
        return None, [f"the solver {settings.model} is asked by qdcgen run only: there are no pass rates"]
    said = []
    filters = [label for label, entry in recipe.judges if entry.name == "solvable"]
    if filters:
        said.append(
            f"pass rates are of rows that {', '.join(filters)} kept, which were chosen for being solved, so too high"
        )
    part = settings.part()
    told = chosen(frames["kept"], part.question, part.answer, settings.rows, recipe.seed)
    rows = [
        Row(Cell(one.pop("_id"), {}, 0, 0), {name: value for name, value in one.items() if value is not None})
        for one in told.iter_rows(named=True)
    ]
    try:
        verdicts = asyncio.run(_asked(store, recipe, part, rows))
    except (Incomplete, ModelRefused) as error:
        return None, [f"rows were not all solved: {error}. {GO_ON}"]
    found = []
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict.score is not None:
            hits = round(verdict.score * part.tries)
            low, high = wilson(hits, part.tries) or (0.0, 1.0)
            found.append((row.id, verdict.score, part.tries, low, high, solved_band(hits, part.tries)))
    schema = {
        "_id": pl.String,
        "_solved": pl.Float64,
        "_tries": pl.Int64,
        "low": pl.Float64,
        "high": pl.Float64,
        "band": pl.String,
    }
    table = pl.DataFrame(found, schema=schema, orient="row")
    store.commit({FILE: packed(table)})
    if unanswered := len(rows) - len(found):
        said.append(f"{unanswered:,} of {len(rows):,} rows that the solver gave no usable answer on have no pass rate")
    return table.select("_id", "_solved", "_tries"), said


async def _asked(store: Store, recipe: Recipe, part: Any, rows: Sequence[Row]) -> list[Verdict]:
    """The filter's verdict on each row; its score is the share of tries that came to the answer."""
    from qdcgen.judge import tools
    from qdcgen.line import budget_of
    from qdcgen.model.ask import Models
    from qdcgen.model.journal import Journal

    journal = Journal(store.folder / "calls.sqlite")
    models = Models(recipe.models, journal, budget=budget_of(recipe))
    scratch: dict[str, Any] = {}
    try:
        found: list[Verdict] = []
        for start in range(0, len(rows), AT_ONCE):
            found += await part.judge(rows[start : start + AT_ONCE], tools(recipe, models, "solvable", scratch=scratch))
        return found
    finally:
        await models.close()
        journal.close()
