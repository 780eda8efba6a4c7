"""What the calls were worth: critics' calls that were not needed, and unique accepted rows a call and a dollar."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen import rounds
from qdcgen.intervals import Z, clamp, wilson
from qdcgen.likeness import groups
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from qdcgen.recipe import Recipe
    from qdcgen.report.contents import Calls
    from qdcgen.store import Store

    Floats = NDArray[np.float64]

__all__ = ["Saved", "measures", "saved", "totals"]

ALIKE = 0.9
"""Similarity of letters from which two accepted rows are worth one, as in the metric `near_duplicates`."""
PER_CALLS = "unique rows per 1,000 calls"
A_DOLLAR = "unique rows a dollar"


class Saved(NamedTuple):
    """Calls of one filter that asks models, over all whole rows that were judged."""

    filter: str
    calls: float
    """Most calls that it takes for a row."""
    rows: int
    """Whole rows that were judged."""
    unseen: int
    """Those of them that a filter before it dropped, so that it has no verdict on them."""


def saved(store: Store, recipe: Recipe) -> list[Saved]:
    """For each filter that asks models: the rows that it did not have to see. Exact, from the verdicts that stand."""
    import polars as pl

    asking = {label: entry.part.calls(len(recipe.taxonomies)) for label, entry in recipe.judges}
    asking = {label: calls for label, calls in asking.items() if calls}
    names = store.names("verdicts")
    if not asking or not names:
        return []
    gone = rounds.retired(store)["_id"].implode()
    standing = ~pl.col("_id").is_in(gone)
    rows, seen = 0, dict.fromkeys(asking, 0)
    for name in names:
        whole = store.table(name.replace("verdicts/", "raw/"), ["_id", "_fault"])
        rows += whole.filter(pl.col("_fault").is_null() & standing).height
        said = store.table(name, ["_id", "filter"]).filter(standing & pl.col("filter").is_in(list(asking)))
        for label, count in said.group_by("filter").len().iter_rows():
            seen[label] += count
    return [Saved(label, calls, rows, rows - seen[label]) for label, calls in asking.items()]


def totals(found: Sequence[Saved]) -> dict[str, int]:
    """`saved` and `of`: calls that were not needed, and those that showing every critic every whole row would take."""
    return {
        "saved": round(sum(one.unseen * one.calls for one in found)),
        "of": round(sum(one.rows * one.calls for one in found)),
    }


def measures(recipe: Recipe, rows: pl.DataFrame, found: Sequence[Saved], spent: Calls) -> list[Measure]:
    """For the table of quality: calls saved, and unique accepted rows per 1,000 calls and a dollar.

    What makes them lie: uniqueness is of letters, and falls as rows are added, so runs of one size compare; a reply
    that an earlier recipe left in the journal was paid for here too; a writer's own calls leave out the critics that
    its rows were shown to.

    `rows` are all candidates: `_kept`, `_text`, `_calls`, `_usd`, `_models`, and `_writer` where a layer names it.
    `spent` is what the whole run paid, critics and failed rows included.
    """
    return [*_saved(recipe, found), *_unique(rows, spent)]


def _saved(recipe: Recipe, found: Sequence[Saved]) -> Iterator[Measure]:
    order = "cheap filters first" if recipe.filter_order == "cheap_first" else "filters as written"
    several = len(found) > 1
    for axis, of in [("", found), *((one.filter, [one]) for one in (found if several else ()))]:
        calls = totals(of)
        if calls["of"]:
            share = calls["saved"] / calls["of"]
            critic = "critic calls" if not axis else f"calls of {axis}"
            yield Measure(
                "quality",
                "critic calls saved",
                share,
                n=calls["of"],
                of="raw",
                axis=axis,
                note=f"{order} saved {calls['saved']:,} of {calls['of']:,} {critic} ({100 * share:.0f} %), as if every "
                "one saw every whole row",
            )


def _unique(rows: pl.DataFrame, spent: Calls) -> Iterator[Measure]:
    import numpy as np

    if rows.is_empty():
        return
    kept = rows["_kept"].to_numpy()
    worth: Floats = np.zeros(rows.height)
    worth[kept] = _worth(rows["_text"].fill_null("").filter(rows["_kept"]).to_list())
    own: Floats = rows["_calls"].fill_null(0).cast(float).to_numpy()
    usd: Floats = rows["_usd"].cast(float).to_numpy()  # null: NaN
    told = f"near-duplicates ({ALIKE:g}) count once; "
    whole = "all of the run is paid for, critics and failed rows too"
    yield _rate(PER_CALLS, worth, own, float(spent.replies), 1_000, note=told + whole)
    yield _rate(A_DOLLAR, worth, np.nan_to_num(usd), spent.usd, 1, note=told + whole)
    by = "_writer" if "_writer" in rows.columns else "_models"
    makers = rows[by].cast(str).fill_null("").to_numpy()
    for maker in sorted(name for name in set(makers.tolist()) if name) if len(set(makers.tolist()) - {""}) > 1 else ():
        mine = makers == maker
        axis = maker.replace(",", " + ")
        note = told + "only the calls that made its rows, no filter's"
        yield _rate(PER_CALLS, worth[mine], own[mine], float(own[mine].sum()), 1_000, axis=axis, note=note)
        if by == "_models":  # what a writer's rows cost is told by the metric `writers`
            paid = usd[mine]
            total = None if np.isnan(paid).any() else float(paid.sum())
            yield _rate(A_DOLLAR, worth[mine], np.nan_to_num(paid), total, 1, axis=axis, note=note)


def _worth(texts: Sequence[str]) -> list[float]:
    """What each accepted row is worth: 1, or its share of a group of near-duplicates. Their sum counts the groups."""
    from collections import Counter

    together = groups(texts, ALIKE)
    size = Counter(together)
    return [1 / size[group] for group in together]


def _rate(
    name: str, worth: Floats, each: Floats, total: float | None, per: int, *, note: str, axis: str = ""
) -> Measure:
    """Worth over `total`, which is what all these rows cost; `each`: what is known of each row's own share of it."""
    n = len(worth)
    told: dict[str, Any] = {"range": (0.0, math.inf), "n": n, "of": "raw", "axis": axis}
    if total is None:
        return Measure("quality", name, None, note="the price of its calls is unknown; name it under price:", **told)
    if total <= 0:
        free = "its calls cost nothing" if per == 1 else "no call of it is known"
        return Measure("quality", name, None, note=free, **told)
    unique = float(worth.sum())
    value = unique / total
    low, high = _around(worth, each, total)
    note = f"{unique:,.0f} accepted rows for {f'{total:,.0f} calls' if per > 1 else f'${total:.4g}'}; {note}"
    return Measure("quality", name, per * value, interval=(per * low, per * high), note=note, **told)


def _around(worth: Floats, each: Floats, total: float) -> tuple[float, float]:
    """Interval of Σworth / total: that of a ratio estimator over rows (Cochran 1977, ch. 6).

    Never narrower than Wilson's of the share that is worth something: rows that are all unique here are not always.
    """
    import numpy as np

    n = len(worth)
    unique = float(worth.sum())
    own = float(each.sum())
    costs = each * (total / own) if own > 0 else np.full(n, total / n)
    rest = worth - unique / total * costs
    spread = Z * math.sqrt(float((rest**2).sum()) * n / (n - 1)) / total if n > 1 else 0.0
    low, high = wilson(min(n, round(unique)), n) or (0.0, 1.0)
    return clamp(
        (min(unique / total - spread, low * n / total), max(unique / total + spread, high * n / total)), 0.0, math.inf
    )
