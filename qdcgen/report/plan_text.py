"""What a run would do, as text: rows, mixes, calls, tokens, cost, and how the axes and their pairs are covered."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qdcgen.report import figures
from qdcgen.report.document import FORMAT
from qdcgen.report.page import Page, columns, hanging, quiet_table, words
from qdcgen.safe import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["AxisPlan", "PairPlan", "PlanSummary", "plan_document", "plan_terminal"]


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """How the rows spread over the leaves of one taxonomy."""

    name: str
    leaves: int
    """Leaves there are."""
    leaves_planned: int
    """Leaves with at least one row."""
    fewest: int
    """Rows of the leaf with the fewest, over all leaves; 0 where a leaf has none."""
    most: int
    """Rows of the leaf with the most."""


@dataclass(frozen=True, slots=True)
class PairPlan:
    """How many pairs of leaves, one from each of two taxonomies that a strategy draws together, have a row."""

    left: str
    right: str
    all: int
    """Pairs that are allowed."""
    planned: int
    """Pairs with at least one row."""
    uniform_expected: float
    """Pairs that as many rows drawn uniformly at random would cover, expected."""


@dataclass(frozen=True)
class PlanSummary:
    """What `qdcgen plan` tells. None where a figure is unknown, which is never 0."""

    recipe: str
    """The recipe's file or name."""
    rows: int
    """Accepted rows that are asked for."""
    mixes_total: int
    """Mixes that the strategies allow."""
    mixes_planned: int
    """Mixes with at least one row."""
    axes: Sequence[AxisPlan] = ()
    pairs: Sequence[PairPlan] = ()
    batches: int = 0
    batch_rows: int = 0
    """Rows in a full batch."""
    calls_expected: float = 0
    calls_most: float = 0
    """Model calls if every row takes its most attempts; infinite where nothing bounds it."""
    tokens_in_expected: tuple[float, float] | None = None
    """Prompt tokens, low and high."""
    tokens_out_expected: tuple[float, float] | None = None
    usd: tuple[float, float] | None = None
    """Cost in US dollars, low and high; None as soon as one price is unknown."""
    examples: Sequence[Mapping[str, str]] = field(default_factory=tuple)
    """The first few cells: axis → what stands there."""
    remarks: Sequence[str] = ()


def plan_terminal(summary: PlanSummary, *, width: int = 80, colour: bool) -> str:
    """The summary as text, at most `width` cells wide (60 at least). With `colour` it has ANSI codes, else none."""
    page = Page(width)
    page.heading(f"plan of {summary.recipe}", "nothing is spent")
    page.add(columns(_facts(summary)))
    if summary.axes:
        page.heading("axes")
        page.add(_axes(summary.axes))
    if summary.pairs:
        page.heading("pairs", "covered by this plan, and by drawing as many rows at random")
        page.add(_pairs(summary.pairs))
    if summary.examples:
        page.heading("first rows")
        for place, cell in enumerate(summary.examples, 1):
            cells = "  ".join(f"{printable(axis)}={figures.clip(printable(text), 60)}" for axis, text in cell.items())
            page.add(hanging(str(place), words(cells, most=1200)))
    if summary.remarks:
        page.heading("remarks")
        for remark in summary.remarks:
            page.add(hanging("·", words(remark, most=1200)))
    return page.text(colour=colour)


def _facts(summary: PlanSummary) -> dict[str, str]:
    batches = f"{figures.plural(summary.batches, 'batch', 'batches')} of {figures.count(summary.batch_rows)}"
    return {
        "rows": f"{figures.count(summary.rows)}, in {batches}",
        "mixes": f"{figures.count(summary.mixes_planned)} of {figures.count(summary.mixes_total)}",
        "calls": f"{_amount(summary.calls_expected)} expected, {_amount(summary.calls_most)} at most",
        "tokens in": _span(summary.tokens_in_expected),
        "tokens out": _span(summary.tokens_out_expected),
        "cost": "unknown" if summary.usd is None else _between(*map(figures.dollars, summary.usd)),
    }


def _amount(x: float) -> str:
    return figures.count(x) if math.isfinite(x) else "unknown"


def _span(pair: tuple[float, float] | None) -> str:
    return "unknown" if pair is None else _between(*map(_amount, pair))


def _between(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _axes(axes: Sequence[AxisPlan]) -> Any:
    table = quiet_table(
        ("axis", "left"), ("leaves", "right"), ("planned", "right"), ("", "left"), ("rows a leaf", "right")
    )
    for axis in axes:
        share = axis.leaves_planned / axis.leaves if axis.leaves else 0.0
        table.add_row(
            words(axis.name, most=120),
            words(figures.count(axis.leaves)),
            words(figures.count(axis.leaves_planned)),
            words(figures.bar(share, 8), "cyan"),
            words(_between(figures.count(axis.fewest), figures.count(axis.most))),
        )
    return table


def _pairs(pairs: Sequence[PairPlan]) -> Any:
    names = (
        ("pair", "left"),
        ("all", "right"),
        ("planned", "right"),
        ("", "left"),
        ("share", "right"),
        ("random", "right"),
    )
    table = quiet_table(*names)
    for pair in pairs:
        share = pair.planned / pair.all if pair.all else 0.0
        table.add_row(
            words(f"{pair.left} × {pair.right}", most=120),
            words(figures.count(pair.all)),
            words(figures.count(pair.planned)),
            words(figures.bar(share, 8), "cyan"),
            words(figures.per_cent(pair.planned, pair.all)),
            words(figures.per_cent(pair.uniform_expected, pair.all)),
        )
    return table


def plan_document(summary: PlanSummary) -> dict[str, Any]:
    """The summary as plain data for JSON, in the order of its fields; unknown and infinite are None."""
    return {
        "format": FORMAT,
        "recipe": summary.recipe,
        "rows": summary.rows,
        "mixes_total": summary.mixes_total,
        "mixes_planned": summary.mixes_planned,
        "axes": [
            {
                "name": axis.name,
                "leaves": axis.leaves,
                "leaves_planned": axis.leaves_planned,
                "fewest": axis.fewest,
                "most": axis.most,
            }
            for axis in summary.axes
        ],
        "pairs": [
            {
                "left": pair.left,
                "right": pair.right,
                "all": pair.all,
                "planned": pair.planned,
                "uniform_expected": _finite(pair.uniform_expected),
            }
            for pair in summary.pairs
        ],
        "batches": summary.batches,
        "batch_rows": summary.batch_rows,
        "calls_expected": _finite(summary.calls_expected),
        "calls_most": _finite(summary.calls_most),
        "tokens_in_expected": _finite_pair(summary.tokens_in_expected),
        "tokens_out_expected": _finite_pair(summary.tokens_out_expected),
        "usd": _finite_pair(summary.usd),
        "examples": [dict(cell) for cell in summary.examples],
        "remarks": list(summary.remarks),
    }


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _finite_pair(pair: tuple[float, float] | None) -> list[float | None] | None:
    return None if pair is None else [_finite(x) for x in pair]
