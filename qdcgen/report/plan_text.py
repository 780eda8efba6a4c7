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

__all__ = [
    "AxisPlan",
    "NeededPlan",
    "PairPlan",
    "PlanSummary",
    "QuotaPlan",
    "TriplePlan",
    "plan_document",
    "plan_terminal",
]

_LISTED = 60
"""Lines of pairs, and of triples, that the text lists; the sums below count all."""


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
    """How many pairs of leaves or values, one from each of two axes that rows have together, have a row."""

    left: str
    right: str
    all: int
    """Pairs that are allowed."""
    planned: int
    """Pairs with at least one row."""
    uniform_expected: float
    """Pairs that as many rows drawn at random, by the same shares, would cover, expected."""
    of_rows: int | None = None
    """The first rows that were looked at, where a layer is one of the two; None means all rows."""


@dataclass(frozen=True, slots=True)
class TriplePlan:
    """The same for three axes."""

    axes: tuple[str, str, str]
    all: int
    planned: int
    uniform_expected: float
    of_rows: int | None = None


@dataclass(frozen=True, slots=True)
class QuotaPlan:
    """What a sub-tree with a quota gets."""

    axis: str
    pattern: str
    """Which leaves, as the recipe says; empty for those that share the rest."""
    leaves: int
    share: float
    """Of the rows that draw the axis, wanted."""
    rows: int
    """Rows that the plan gives it."""


@dataclass(frozen=True, slots=True)
class NeededPlan:
    """Rows until 50, 80, 95 and 99 % of something has a row."""

    what: str
    """`leaves`, or `pairs`: of leaves."""
    all: int
    looked_at: int
    """Rows of the plan that were looked at."""
    planned: tuple[int | None, ...]
    """None: more than were looked at."""
    uniform_expected: tuple[int | None, ...]
    """None: more than 10^12, or there is nothing to reach."""


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
    triples: Sequence[TriplePlan] = ()
    quotas: Sequence[QuotaPlan] = ()
    needed: Sequence[NeededPlan] = ()
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
    measured: bool = False
    """Whether calls, tokens and cost were measured on rows that were made for it."""


def plan_terminal(summary: PlanSummary, *, width: int = 80, colour: bool) -> str:
    """The summary as text, at most `width` cells wide (60 at least). With `colour` it has ANSI codes, else none."""
    page = Page(width)
    page.heading(f"plan of {summary.recipe}", "measured on its first rows" if summary.measured else "nothing is spent")
    page.add(columns(_facts(summary)))
    if summary.axes:
        page.heading("axes")
        page.add(_axes(summary.axes))
    if summary.quotas:
        page.heading("quotas")
        page.add(_quotas(summary.quotas))
    if summary.pairs:
        page.heading("pairs", "covered by this plan, and by drawing as many rows at random")
        page.add(_combined([((pair.left, pair.right), pair) for pair in summary.pairs], "pair"))
    if summary.triples:
        page.heading("triples", "covered by this plan, and by drawing as many rows at random")
        page.add(_combined([(triple.axes, triple) for triple in summary.triples], "triple"))
    if sums := _sums(summary):
        page.heading("together")
        page.add(columns(sums))
    if summary.needed:
        page.heading("rows needed", "by this plan, and expected of drawing at random, to reach a share of all")
        page.add(_needed(summary.needed))
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
        "calls": f"{_amount(summary.calls_expected)} expected{_a_row(summary)}, {_amount(summary.calls_most)} at most",
        "tokens in": _span(summary.tokens_in_expected),
        "tokens out": _span(summary.tokens_out_expected),
        "cost": "unknown" if summary.usd is None else _between(*map(figures.dollars, summary.usd)),
    }


def _a_row(summary: PlanSummary) -> str:
    """` (4.3 a row)`, of one candidate; nothing where there is no row."""
    if not summary.rows or not math.isfinite(summary.calls_expected):
        return ""
    return f" ({summary.calls_expected / summary.rows:,.3g} a row)"


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


def _combined(found: Sequence[tuple[tuple[str, ...], PairPlan | TriplePlan]], word: str) -> Any:
    names = (
        (word, "left"),
        ("all", "right"),
        ("planned", "right"),
        ("", "left"),
        ("share", "right"),
        ("random", "right"),
        ("margin", "right"),
    )
    table = quiet_table(*names)
    for axes, one in found[:_LISTED]:
        share = one.planned / one.all if one.all else 0.0
        table.add_row(
            words(" × ".join(axes), most=120),
            words(figures.count(one.all)),
            words(figures.count(one.planned)),
            words(figures.bar(share, 8), "cyan"),
            words(figures.per_cent(one.planned, one.all)),
            words(figures.per_cent(one.uniform_expected, one.all)),
            words(_margin(one.planned, one.uniform_expected, one.all)),
        )
    return table


def _margin(planned: float, at_random: float, all_: float) -> str:
    """Points above what drawing at random is expected to cover: `+2.8`."""
    if not all_ or not math.isfinite(at_random):
        return figures.BLANK
    points = round(100 * (planned - at_random) / all_, 1)
    return f"{points + 0.0:+.1f}" if points else "0.0"


def _sums(summary: PlanSummary) -> dict[str, str]:
    """`812 of 3,600 (22.6 %), at random 19.8 %, margin +2.8 points`, for pairs and triples, leaves and layers apart."""
    said = {}
    for word, found in (("pairs", summary.pairs), ("triples", summary.triples)):
        for layered in (False, True):
            some = [
                one for one in found if (one.of_rows is not None) == layered and math.isfinite(one.uniform_expected)
            ]
            every = sum(one.all for one in some)
            if not every:
                continue
            planned, at_random = sum(one.planned for one in some), sum(one.uniform_expected for one in some)
            line = f"{figures.count(planned)} of {figures.count(every)} ({_closely(planned, every)}), "
            line += f"at random {_closely(at_random, every)}, margin {_margin(planned, at_random, every)} points"
            of = some[0].of_rows
            if of is not None and of < summary.rows:
                line += f", in the first {figures.count(of)} rows"
            said[f"{word} {'with layers' if layered else 'of leaves'}"] = line
    return said


def _closely(part: float, whole: float) -> str:
    """Per cent with one decimal; 0 and 100 only where it is exactly that."""
    share = 100 * part / whole
    if 0 < share < 0.1:  # noqa: PLR2004  the decimal shown
        return "<0.1 %"
    return ">99.9 %" if 99.9 < share < 100 else f"{share:.1f} %"  # noqa: PLR2004  the decimal shown


def _quotas(quotas: Sequence[QuotaPlan]) -> Any:
    table = quiet_table(
        ("axis", "left"), ("sub-tree", "left"), ("leaves", "right"), ("share", "right"), ("rows", "right")
    )
    for quota in quotas:
        table.add_row(
            words(quota.axis, most=120),
            words(quota.pattern or "the rest", most=120),
            words(figures.count(quota.leaves)),
            words(_closely(quota.share, 1.0)),
            words(figures.count(quota.rows)),
        )
    return table


def _needed(needed: Sequence[NeededPlan]) -> Any:
    table = quiet_table(("", "left"), *((f"{round(100 * level)} %", "right") for level in LEVELS))
    for one in needed:
        more = f"> {figures.count(one.looked_at)}"
        far = figures.BLANK
        table.add_row(
            words(f"{one.what}, planned"), *(words(more if n is None else figures.count(n)) for n in one.planned)
        )
        table.add_row(
            words(f"{one.what}, random"),
            *(words(far if n is None else figures.closely(float(f"{n:.3g}"))) for n in one.uniform_expected),
        )
    return table


LEVELS = (0.5, 0.8, 0.95, 0.99)
"""Shares that `NeededPlan` is told for."""


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
                "rows": summary.rows if pair.of_rows is None else pair.of_rows,
            }
            for pair in summary.pairs
        ],
        "triples": [
            {
                "axes": list(triple.axes),
                "all": triple.all,
                "planned": triple.planned,
                "uniform_expected": _finite(triple.uniform_expected),
                "rows": summary.rows if triple.of_rows is None else triple.of_rows,
            }
            for triple in summary.triples
        ],
        "quotas": [
            {
                "axis": quota.axis,
                "pattern": quota.pattern,
                "leaves": quota.leaves,
                "share": quota.share,
                "rows": quota.rows,
            }
            for quota in summary.quotas
        ],
        "rows_needed": [
            {
                "what": one.what,
                "all": one.all,
                "looked_at": one.looked_at,
                "levels": list(LEVELS),
                "planned": list(one.planned),
                "uniform_expected": list(one.uniform_expected),
            }
            for one in summary.needed
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
