"""Before money is spent: what a run would ask for, and what its first rows look like."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from qdcgen import generate, rounds, template
from qdcgen.errors import RowFault, UsageError
from qdcgen.generate import Asked
from qdcgen.judge import judge, tools
from qdcgen.line import budget_of
from qdcgen.model.ask import Models
from qdcgen.model.journal import Journal
from qdcgen.parts import word
from qdcgen.prepare import prepared, remarks, unprepared
from qdcgen.ratings import most_calls
from qdcgen.report.plan_text import AxisPlan, NeededPlan, PairPlan, PlanSummary, QuotaPlan, TriplePlan
from qdcgen.rounds import plan_of
from qdcgen.safe import printable
from qdcgen.store import Store
from qdcgen.taxonomy import Apportioned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qdcgen.plan import Plan, Seen
    from qdcgen.recipe import Recipe

__all__ = ["estimated", "plan_summary", "preview_rows", "preview_text"]

SAMPLE = 200
"""Rows whose prompts are rendered to estimate tokens."""
DRAWN = 10_000
"""Rows whose layers are drawn to count pairs and triples with layers: 30 to 60 µs a row."""
LISTABLE = 100
"""Most values of a layer that is counted in pairs and triples."""
PLAIN = frozenset({"String", "Boolean", "Int64"})
"""Types of a layer's column whose values are named by what they print as."""
LOOKED_AT = 20_000
"""Rows of the plan that are looked at for saturation, where the target is less and 99 % was not reached."""
CHARACTERS = (3.0, 5.0)
"""Characters per token, low and high, of English prose under common tokenizers; code and other scripts take more."""


def first_asked(recipe: Recipe, count: int) -> list[Asked]:
    plan = plan_of(recipe)
    slots = rounds.named(plan.slots(0, min(count, recipe.target.rows)), recipe)
    numbered = slots.with_columns(pl.int_range(pl.len()).over(list(recipe.taxonomies)).alias("replicate"))
    return [
        Asked(row["slot"], row["replicate"], {axis: row[axis] for axis in recipe.taxonomies if row[axis] is not None})
        for row in numbered.iter_rows(named=True)
    ]


def plan_summary(recipe: Recipe, folder: Path | None = None) -> PlanSummary:
    """Mixes, leaves and pairs that the plan covers, beside drawing at random; calls, tokens, batches.

    `folder`: the run's, where layers that a model was asked for are frozen; default: `runs/<name>`. While one is not,
    no layer is drawn, and a remark says so.
    """
    ready = asyncio.run(prepared(recipe, None, folder or Path("runs") / recipe.name))
    missing = [axis for axis in unprepared(recipe) if axis not in ready]
    plan = plan_of(recipe)
    rows = recipe.target.rows
    coverage = plan.coverage(rows)
    slots = plan.slots(0, rows).drop("slot")
    counts = {axis: _counts(slots[axis], seen.total) for axis, seen in coverage.leaves.items()}
    calls = [entry.part.calls() for entry in recipe.generate]
    judging = _judging(recipe)
    size = rounds.batch_rows(rows)
    examples = []
    for cell, names, _ in () if missing else generate.cells(recipe, first_asked(recipe, 3), ready):
        shown = {axis: names[axis].path for axis in cell.mix} | {
            axis: word(value) for axis, value in cell.values.items()
        }
        examples.append(shown)
    tokens_in, unfilled = (None, _waits(missing)) if missing else _tokens(recipe, ready)
    pairs = [PairPlan(*axes, seen.total, seen.planned, seen.at_random) for axes, seen in coverage.pairs.items()]
    triples = [TriplePlan(axes, seen.total, seen.planned, seen.at_random) for axes, seen in plan.triples(rows).items()]
    of, layered = (0, {}) if missing else _layered(recipe, plan, ready)
    for axes, seen in layered.items():
        if len(axes) == 2:  # noqa: PLR2004  a pair
            pairs.append(PairPlan(axes[0], axes[1], seen.total, seen.planned, seen.at_random, of))
        else:
            triples.append(TriplePlan((axes[0], axes[1], axes[2]), seen.total, seen.planned, seen.at_random, of))
    free = all(alias.model.startswith("embedded") for alias in recipe.models.values())
    return PlanSummary(
        recipe=recipe.file,
        rows=rows,
        mixes_total=plan.mixes_total,
        mixes_planned=slots.n_unique(),
        axes=[AxisPlan(axis, seen.total, seen.planned, *counts[axis]) for axis, seen in coverage.leaves.items()],
        pairs=pairs,
        triples=triples,
        quotas=list(_quotas(recipe, slots)),
        needed=[
            NeededPlan(one.what, one.total, one.rows, one.planned, one.at_random)
            for one in plan.saturation(rows, max(rows, LOOKED_AT))
        ],
        batches=-(-rows // size),
        batch_rows=size,
        calls_expected=rows * (sum(expected for expected, _ in calls) + judging + _landing(recipe)) + _rating(recipe),
        calls_most=rows * (recipe.target.candidates * (sum(most for _, most in calls) + judging) + _landing(recipe))
        + _rating(recipe),
        tokens_in_expected=tokens_in,
        usd=(0.0, 0.0) if free else None,
        examples=examples,
        remarks=[
            *_remarks(recipe, free=free),
            *([unfilled] if unfilled else []),
            *recipe.notes,
            *remarks(recipe, ready),
        ],
    )


def _waits(layers: list[str]) -> str:
    return (
        f"{', '.join(layers)}: a model is asked for it before the first row; until then no layer is drawn here and "
        "tokens in are unknown. qdcgen preview shows rows"
    )


def _layered(recipe: Recipe, plan: Plan, ready: Mapping[str, Any]) -> tuple[int, Mapping[tuple[str, ...], Seen]]:
    """Rows whose layers were drawn, and what they reach of pairs and triples with a listable layer in them."""
    values = {
        axis: [word(value) for value in known]
        for axis, entry in recipe.layers.items()
        if _is_named(entry.part.column()) and (known := entry.part.support()) is not None and len(known) <= LISTABLE
    }
    if not values:
        return 0, {}
    count = min(recipe.target.rows, DRAWN)
    drawn: dict[str, list[str | None]] = {axis: [] for axis in values}
    for cell, _, fault in generate.cells(recipe, first_asked(recipe, count), ready):
        for axis, column in drawn.items():
            column.append(word(cell.values[axis]) if fault is None and axis in cell.values else None)
    frame = pl.DataFrame(drawn, schema=dict.fromkeys(values, pl.String))
    return count, plan.layered(frame, values, recipe.forbid)


def _quotas(recipe: Recipe, slots: pl.DataFrame) -> Iterator[QuotaPlan]:
    """Each sub-tree with a quota, and the leaves that share the rest, with the rows that these slots give it."""
    for axis, tree in recipe.taxonomies.items():
        if isinstance(tree, Apportioned) and len(tree.bands) + bool(tree.bands and tree.bands[0].pattern) > 1:
            for band in tree.bands:
                rows = int(slots[axis].is_in(list(band.leaves)).sum())
                yield QuotaPlan(axis, band.pattern, len(band.leaves), float(band.share), rows)


def _judging(recipe: Recipe) -> float:
    """Calls that the filters take for one row."""
    return sum(float(entry.part.calls(len(recipe.taxonomies))) for _, entry in recipe.judges)


def _landing(recipe: Recipe) -> float:
    """Calls that the report takes for one accepted row, where a model reads where it landed."""
    return float(len(recipe.taxonomies)) if recipe.measure.landing.model is not None else 0.0


def _rating(recipe: Recipe) -> float:
    """Calls that the report takes in all, where a critic rates how complex accepted rows are or a solver tries them."""
    how, solver = recipe.measure.complexity, recipe.measure.solver
    calls = 0 if solver is None else solver.tries * min(solver.rows, recipe.target.rows)
    if how is not None:
        calls += most_calls(min(how.rows, recipe.target.rows), len(recipe.levels), how.batch, how.appearances)
    return float(calls)


def _remarks(recipe: Recipe, *, free: bool) -> Iterator[str]:
    more = recipe.target.candidates - 1
    yield "calls are those of steps, filters and the report; a reply that does not fit is asked for once more"
    if first := unprepared(recipe):
        yield f"not counted either: what {', '.join(first)} is asked for once, before the first row"
    yield f"tokens and cost are for one candidate a row; a rejected one is followed by up to {more} more"
    if not free:
        yield "cost is unknown before a model was asked; plan --estimate makes a few rows and measures it"


def _begun(recipe: Recipe, folder: Path) -> Iterator[str]:
    """What the run folder holds already: the plan is of the whole."""
    if not (folder / "manifest.json").is_file():
        return
    store = Store(folder).peek()
    accepted = sum(store.files[name].rows or 0 for name in store.names("data"))
    if accepted:
        yield (
            f"{folder} holds {accepted:,} accepted rows already: a run makes only what is owed beside them "
            f"(of this plan of {recipe.target.rows:,})"
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
    summary = plan_summary(recipe, folder)
    return replace(
        summary,
        calls_expected=sum(calls) / len(calls) * rows + rows * (_judging(recipe) + _landing(recipe)) + _rating(recipe),
        measured=True,
        tokens_in_expected=scaled("tokens_in"),
        tokens_out_expected=scaled("tokens_out"),
        usd=scaled("usd"),
        remarks=[
            f"estimated from {len(made)} rows made for it, with 95 % intervals; {kept} were kept",
            f"a rejected row is followed by up to {recipe.target.candidates - 1} more candidates, not counted here",
            *(
                ["tokens and cost are those of the steps; what filters and the report ask a model comes on top"]
                if _judging(recipe) + _landing(recipe) + _rating(recipe)
                else []
            ),
            *recipe.notes,
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


def _is_named(kind: str | Mapping[str, str]) -> bool:
    """Whether a layer's values are told apart by one word: what they print as, or a mapping's `name`."""
    return kind in PLAIN if isinstance(kind, str) else "name" in kind


def _counts(leaves: pl.Series, total: int) -> tuple[int, int]:
    """Rows of the leaf with the fewest and of the leaf with the most; a leaf without rows has 0."""
    found = leaves.drop_nulls().value_counts()["count"]
    most = found.max() or 0
    return (found.min() if found.len() >= total else 0), most  # type: ignore[return-value]


def _tokens(recipe: Recipe, ready: Mapping[str, Any]) -> tuple[tuple[float, float] | None, str | None]:
    """Prompt tokens, low and high, from rendered prompts of the first rows; and what to remark on them.

    Fields that a step would have filled by then hold a sample of what their JSON Schema allows.
    """
    sources = [
        source
        for entry in recipe.generate
        for key in ("system", "prompt")
        if (source := getattr(entry.part, key, None))
    ]
    if not sources:
        return None, None
    fields = {name: _sample(schema) for name, schema in recipe.fields.items()}
    for entry in recipe.generate:
        fields |= entry.part.names()
    sizes, faults = [], []
    for _, names, fault in generate.cells(recipe, first_asked(recipe, SAMPLE), ready):
        try:
            if fault is not None:
                raise fault
            sizes.append(sum(len(template.render(source, {**names, **fields})) for source in sources))
        except RowFault as reason:  # on sample values: the row itself may well be made
            faults.append(str(reason))
    remark = None
    if faults:
        remark = f"prompts of {len(faults)} of the first {len(faults) + len(sizes)} rows could not be filled with "
        remark += f"sample values ({faults[0]}); {'tokens in are told without them' if sizes else 'tokens in: unknown'}"
    elif silent := [entry.name for entry in recipe.generate if _is_silent(entry.part)]:
        remark = f"tokens in are told without those of {', '.join(silent)}; plan --estimate measures them"
    if not sizes:
        return None, remark
    mean = sum(sizes) / len(sizes) * recipe.target.rows
    return (mean / CHARACTERS[1], mean / CHARACTERS[0]), remark


def _is_silent(step: Any) -> bool:
    """Whether a step asks a model in words of its own, which no template shows."""
    return bool(step.calls()[0]) and not getattr(step, "prompt", None)


def _sample(schema: Mapping[str, Any]) -> Any:
    """A plain value that fits the JSON Schema of a field, as far as steps can say it."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind in ("integer", "number"):
        number = schema["minimum"] if "minimum" in schema else min(1, schema.get("maximum", 1))
        return math.ceil(number) if kind == "integer" else float(number)
    if kind == "boolean":
        return True
    if kind == "array":
        return ["word word"] * schema.get("minItems", 0)
    return "word word"


def preview_rows(recipe: Recipe, folder: Path, count: int) -> list[dict[str, Any]]:
    """Make and judge the first rows; nothing but the journal is written."""

    async def make() -> list[dict[str, Any]]:
        models = Models(recipe.models, journal, budget=budget_of(recipe))
        scratch: dict[str, dict[str, Any]] = {}
        try:
            ready = await prepared(recipe, models, folder)
            embed = recipe.measure.embedder.part.embed
            rows = await generate.rows(recipe, first_asked(recipe, count), models, prepared=ready, embed=embed)
            judged = await judge(
                rows,
                recipe.judges,
                lambda label: tools(recipe, models, label, scratch=scratch.setdefault(label, {})),
            )
        finally:
            await models.close()
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

    if batched := [alias for alias, settings in recipe.models.items() if settings.batch]:
        raise UsageError(
            f"{batched[0]} waits in batches; to see rows at once add --set models.{batched[0]}.batch=false"
        )
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
        lines.append("  ".join(f"{axis}={printable(word(value))}" for axis, value in row["axes"].items()))
        lines += [f"  {name}: {printable(str(value))}" for name, value in row["fields"].items()]
        if row["fault"]:
            lines.append(f"  failed ({row['fault']}): {printable(str(row['reason']))}")
        elif row["rejected_by"]:
            lines.append(f"  rejected by {row['rejected_by']}: {printable(str(row['reason']))}")
        else:
            lines.append("  kept")
        lines.append("")
    return "\n".join(lines)
