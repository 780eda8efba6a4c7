"""Before money is spent: what a run would ask for, and what its first rows look like."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qdcgen import generate, rounds, template
from qdcgen.generate import Asked
from qdcgen.judge import judge
from qdcgen.line import plan_of
from qdcgen.model.ask import Models
from qdcgen.model.journal import Journal
from qdcgen.parts import Tools
from qdcgen.report.plan_text import AxisPlan, PairPlan, PlanSummary
from qdcgen.safe import printable
from qdcgen.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from qdcgen.recipe import Recipe

__all__ = ["estimated", "plan_summary", "preview_rows", "preview_text"]

SAMPLE = 200
"""Rows whose prompts are rendered to estimate tokens."""
CHARACTERS = (3.0, 5.0)
"""Characters per token, low and high, of English prose under common tokenizers; code and other scripts take more."""


def _first(recipe: Recipe, count: int) -> list[Asked]:
    plan = plan_of(recipe)
    slots = rounds.named(plan.slots(0, min(count, recipe.target.rows)), recipe)
    return [
        Asked(row["slot"], 0, {axis: row[axis] for axis in recipe.taxonomies if row[axis] is not None})
        for row in slots.iter_rows(named=True)
    ]


def plan_summary(recipe: Recipe) -> PlanSummary:
    """Mixes, leaves and pairs that the plan covers, beside drawing at random; calls, tokens, batches."""
    plan = plan_of(recipe)
    rows = recipe.target.rows
    coverage = plan.coverage(rows)
    slots = plan.slots(0, rows).drop("slot")
    counts = {axis: _counts(slots[axis], seen.total) for axis, seen in coverage.leaves.items()}
    calls = [entry.part.calls() for entry in recipe.generate]
    size = rounds.batch_rows(rows)
    examples = []
    for cell, names, _ in generate.cells(recipe, _first(recipe, 3)):
        shown = {axis: names[axis].path for axis in cell.mix} | {
            axis: str(value) for axis, value in cell.values.items()
        }
        examples.append(shown)
    tokens_in, tokens_out = _tokens(recipe)
    more = recipe.target.candidates - 1
    return PlanSummary(
        recipe=recipe.file,
        rows=rows,
        mixes_total=plan.mixes_total,
        mixes_planned=slots.n_unique(),
        axes=[AxisPlan(axis, seen.total, seen.planned, *counts[axis]) for axis, seen in coverage.leaves.items()],
        pairs=[
            PairPlan(left, right, seen.total, seen.planned, seen.at_random)
            for (left, right), seen in coverage.pairs.items()
        ],
        batches=-(-rows // size),
        batch_rows=size,
        calls_expected=rows * sum(expected for expected, _ in calls),
        calls_most=rows * recipe.target.candidates * sum(most for _, most in calls),
        tokens_in_expected=tokens_in,
        tokens_out_expected=tokens_out,
        usd=_cost(recipe, tokens_in, tokens_out),
        examples=examples,
        remarks=[
            f"tokens and cost are for one candidate a row; a rejected one is followed by up to {more} more",
            *recipe.notes,
        ],
    )


def estimated(recipe: Recipe, folder: Path, count: int = 8) -> PlanSummary:
    """The plan with calls, tokens and cost measured on its first rows, which are made (and journaled) for it.

    Each figure is the mean of those rows times the target, with a 95 % Student interval; retries of rejected rows are
    not in it, and the remark says how many of the sample were kept.
    """
    made = preview_rows(recipe, folder, count)
    rows = recipe.target.rows

    def scaled(key: str) -> tuple[float, float] | None:
        values = [row[key] for row in made]
        return None if len(values) < 2 or None in values else _interval(values, rows)  # noqa: PLR2004

    kept = sum(row["fault"] is None and row["rejected_by"] is None for row in made)
    calls = [row["calls"] for row in made]
    summary = plan_summary(recipe)
    return replace(
        summary,
        calls_expected=sum(calls) / len(calls) * rows,
        tokens_in_expected=scaled("tokens_in"),
        tokens_out_expected=scaled("tokens_out"),
        usd=scaled("usd"),
        remarks=[
            f"estimated from {len(made)} rows made for it, with 95 % intervals; {kept} were kept, the rest tried again",
            *summary.remarks[1:],
        ],
    )


def _interval(values: list[float], rows: int) -> tuple[float, float]:
    """The total over `rows` rows: 95 % Student interval of the mean, times rows; from 0 up."""
    import numpy as np
    from scipy.stats import t

    n = len(values)
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, n - 1)) * spread / n**0.5
    return max(0.0, mean - half) * rows, (mean + half) * rows


def _counts(leaves: pl.Series, total: int) -> tuple[int, int]:
    """Rows of the leaf with the fewest and of the leaf with the most; a leaf without rows has 0."""
    found = leaves.drop_nulls().value_counts()["count"]
    most = found.max() or 0
    return (found.min() if found.len() >= total else 0), most  # type: ignore[return-value]


def _tokens(recipe: Recipe) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Prompt tokens from rendered prompts of the first rows; reply tokens are unknown before a model was asked."""
    sources = [
        [getattr(entry.part, key) for key in ("system", "prompt") if getattr(entry.part, key, None)]
        for entry in recipe.generate
    ]
    fields = dict.fromkeys(recipe.fields, "")
    sizes = []
    for _, names, fault in generate.cells(recipe, _first(recipe, SAMPLE)):
        if fault is None:
            sizes.append(sum(len(template.render(source, {**names, **fields})) for step in sources for source in step))
    if not sizes or not any(sizes):
        return None, None
    mean = sum(sizes) / len(sizes) * recipe.target.rows
    return (mean / CHARACTERS[1], mean / CHARACTERS[0]), None


def _cost(
    recipe: Recipe, tokens_in: tuple[float, float] | None, tokens_out: tuple[float, float] | None
) -> tuple[float, float] | None:
    if all(alias.model.startswith("embedded") for alias in recipe.models.values()):
        return (0.0, 0.0)
    prices = [alias.price for alias in recipe.models.values()]
    if tokens_in is None or tokens_out is None or any(price is None for price in prices):
        return None
    low = min(p.input for p in prices if p) * tokens_in[0] + min(p.output for p in prices if p) * tokens_out[0]
    high = max(p.input for p in prices if p) * tokens_in[1] + max(p.output for p in prices if p) * tokens_out[1]
    return (low / 1e6, high / 1e6)


def preview_rows(recipe: Recipe, folder: Path, count: int) -> list[dict[str, Any]]:
    """Make and judge the first rows; nothing but the journal is written."""

    async def make() -> list[dict[str, Any]]:
        models = Models(recipe.models, journal)
        try:
            rows = await generate.rows(recipe, _first(recipe, count), models)
        finally:
            await models.close()
        scratch: dict[str, dict[str, Any]] = {}
        judged = await judge(
            rows, recipe.filters, lambda label: Tools(fields=recipe.fields, scratch=scratch.setdefault(label, {}))
        )
        said = {one.row: (one.filter, one.verdict.reason) for one in judged if not one.verdict.kept}
        return [
            {
                "_id": row.id,
                "axes": {axis: recipe.taxonomies[axis].by_id[node].path for axis, node in row.cell.mix.items()}
                | dict(row.cell.values),
                "fields": dict(row.fields),
                "fault": row.fault,
                "calls": row.calls,
                "tokens_in": row.tokens_in,
                "tokens_out": row.tokens_out,
                "usd": row.cost,
                "rejected_by": said.get(row.id, (None, row.reason))[0],
                "reason": said.get(row.id, (None, row.reason))[1],
            }
            for row in rows
        ]

    with Store(folder):
        journal = Journal(folder / "calls.sqlite")
        try:
            return asyncio.run(make())
        finally:
            journal.close()


def preview_text(made: list[dict[str, Any]]) -> str:
    """Rows one after another: what was asked, what came, what the filters said."""
    lines: list[str] = []
    for row in made:
        lines.append("  ".join(f"{axis}={printable(str(value))}" for axis, value in row["axes"].items()))
        lines += [f"  {name}: {printable(str(value))}" for name, value in row["fields"].items()]
        if row["fault"]:
            lines.append(f"  failed ({row['fault']}): {printable(str(row['reason']))}")
        elif row["rejected_by"]:
            lines.append(f"  rejected by {row['rejected_by']}: {printable(str(row['reason']))}")
        else:
            lines.append("  kept")
        lines.append("")
    return "\n".join(lines)
