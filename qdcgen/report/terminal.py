"""A report for a terminal: facts, ledger, the four tables, gates, remarks, in 80 columns."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from qdcgen.report import attrition, curves, figures
from qdcgen.report.contents import ASIDE
from qdcgen.report.grid import TABLES, empty, grids
from qdcgen.report.page import Page, columns, hanging, indented, listed, quiet_table, words
from qdcgen.report.sheets import sheets
from qdcgen.report.tables import add_confused, add_grid, add_sheet
from qdcgen.safe import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdcgen.report.contents import Calls, Curve, GateResult, LedgerLine, ModelCalls, Report

__all__ = ["terminal"]


def terminal(report: Report, *, width: int = 80, colour: bool, notes: bool = False) -> str:
    """The report as text, at most `width` cells wide (60 at least). With `colour` it has ANSI codes, else none.

    `notes`: with footnotes on how each figure is taken, its own n and control, and a name for every line without one.
    """
    page = Page(width)
    page.add(words(report.title, "bold"))
    if report.facts:
        page.add(columns(report.facts))
    where = report.facts.get("run") or report.facts.get("file")
    command = f"qdcgen report {shlex.quote(where) if where else 'RUN'}"
    more = f"{command} --json"
    untold: dict[str, str] = {}
    if not notes:
        untold = empty(report.measures)
        report = replace(report, measures=[measure for measure in report.measures if measure.of not in untold])
    if report.ledger:
        _add_ledger(page, report.ledger, more, footnotes=notes)
    if report.calls is not None:
        _add_calls(page, report.calls)
    if report.curve is not None:
        _add_curve(page, report.curve)
    else:
        _add_tables(page, report, more, footnotes=notes)
    if report.gates:
        _add_gates(page, report.gates, rule=notes)
    remarks = [
        *(report.remarks if notes else _joined(report.remarks)),
        *(f"{of}: no figure in any table: {reason}" for of, reason in untold.items()),
    ]
    if report.measures and not notes:
        remarks.append(f"{command} --notes says how each figure is taken")
    if remarks:
        page.heading("remarks")
        for remark in remarks:
            page.add(hanging("·", words(remark, most=1200)))
    return page.text(colour=colour)


def _joined(remarks: Sequence[str]) -> list[str]:
    """Remarks that say the same of several axes, once: `topic, tone: …`."""
    found: dict[str, list[str]] = {}
    for remark in remarks:
        subject, colon, rest = remark.partition(": ")
        found.setdefault(rest if colon else remark, []).extend([subject] if colon else [])
    return [f"{', '.join(dict.fromkeys(of))}: {said}" if of else said for said, of in found.items()]


def _add_tables(page: Page, report: Report, more: str, *, footnotes: bool) -> None:
    embedder = report.facts.get("embedder", "")
    for whole in grids(report.measures):
        grid = whole if footnotes else whole.without_twin()
        page.heading(grid.table, TABLES[grid.table])
        shown, agreeing, apart = grid.parted()
        if not footnotes and not agreeing.without_figures()[0].lines:
            shown.lines += agreeing.lines  # all that is said of them is why there are none
            agreeing.lines.clear()
        if shown.lines or not (agreeing.lines or apart.lines):
            add_grid(page, shown, more, footnotes=footnotes, embedder=embedder)
        for sheet in sheets(apart):
            add_sheet(page, sheet, footnotes=footnotes)
        if agreeing.lines:
            page.add("", words(agreeing.agreement))
            add_grid(page, agreeing, more, footnotes=footnotes, embedder=embedder)
        if grid.table == "coverage":
            add_confused(page, report.confused, footnotes=footnotes)
    if report.attrition is not None:
        page.heading("attrition", attrition.QUESTION)
        add_sheet(page, attrition.sheet(report.attrition, whole=footnotes), footnotes=footnotes)
        for claim in attrition.claims(report.attrition):
            page.add(hanging("·", words(claim, most=1200)))


def _add_curve(page: Page, curve: Curve) -> None:
    page.heading("curve", f"what another threshold of {curve.filter} would keep, cover and vary")
    for sheet in curves.sheets(curve):
        add_sheet(page, sheet, footnotes=True)
    page.heading("remarks")
    for remark in curve.remarks:
        page.add(hanging("·", words(remark, most=1200)))


# ── the ledger ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _add_ledger(page: Page, ledger: Sequence[LedgerLine], more: str, *, footnotes: bool) -> None:
    page.heading("ledger", "what became of everything that was planned")
    for line in ledger:
        if not line.axis:
            _add_whole(page, line, whole=footnotes)
    owing: dict[str, list[str]] = {}
    for line in ledger:
        if line.axis and line.owed:
            name = figures.clip(printable(line.node), 60)
            owing.setdefault(line.axis, []).append(f"{name} ({figures.count(line.owed)})")
    for axis, names in owing.items():
        page.add(words(f"owed in {axis}", "yellow", most=60), indented(words(listed(names, more), most=1200), 2))


def _add_whole(page: Page, line: LedgerLine, *, whole: bool) -> None:
    table = quiet_table(("", "left"), ("", "right"), ("", "left"), ("", "right"), rule=False, headed=False)

    nothing = []

    def add(name: str, rows: int, depth: int, *, share: bool = True, style: str = "") -> None:
        if depth and not rows and not whole and name != "accepted":
            nothing.append(name.removeprefix("rejected by "))
            return
        label = indented(words(name, style, most=40), depth)
        if share and line.attempted > 0:
            bar = words(figures.bar(rows / line.attempted, 12), "cyan")
            table.add_row(label, words(figures.count(rows), style), bar, words(figures.per_cent(rows, line.attempted)))
        else:
            table.add_row(label, words(figures.count(rows), style))

    add("planned", line.planned, 0, share=False)
    add("attempted", line.attempted, 0, share=False)
    add("failed", line.failed, 2)
    add("refused", line.refused, 2)
    for name, rows in line.rejected.items():
        add(name if name in ASIDE else f"rejected by {name}", rows, 2)
    add("duplicate", line.duplicate, 2)
    ended = line.failed + line.refused + sum(line.rejected.values()) + line.duplicate + line.accepted
    if ended < line.attempted:
        add("not judged yet", line.attempted - ended, 2)
    add("accepted", line.accepted, 2, style="bold")
    if nothing:
        table.add_row(indented(words(", ".join(nothing), most=60), 2), words("0"))
    add("owed", line.owed, 0, share=False, style="yellow" if line.owed else "")
    page.add(table)


def _tokens(spent: Calls | ModelCalls) -> str:
    return f"{figures.count(spent.tokens_in)} tokens in, {figures.count(spent.tokens_out)} out"


def _add_calls(page: Page, calls: Calls) -> None:
    page.heading("calls", "what the models were asked, over all invocations")
    table = quiet_table(("", "left"), ("", "right"), ("", "left"), rule=False, headed=False)
    cost = "cost unknown" if calls.usd is None else figures.dollars(calls.usd)
    table.add_row(words("replies"), words(figures.count(calls.replies)), words(f"{_tokens(calls)}, {cost}"))
    for one in calls.models if len(calls.models) > 1 else ():
        paid = "cost unknown" if one.usd is None else figures.dollars(one.usd)
        of = indented(words(one.model or "pruned", most=40), 2)
        table.add_row(of, words(figures.count(one.replies)), words(_tokens(one) + f", {paid}"))
    for kind, count in calls.faults.items():
        table.add_row(indented(words(kind, most=40), 2), words(figures.count(count)), words("failed", "dim"))
    page.add(table)


# ── gates ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _add_gates(page: Page, gates: Sequence[GateResult], *, rule: bool) -> None:
    held = sum(gate.holds for gate in gates)
    page.heading("gates", f"{held} of {len(gates)} held")
    table = quiet_table(("", "left"), ("gate", "left"), ("value", "right"), ("bound", "left"), widths=(4,), rule=rule)
    for gate in gates:
        table.add_row(
            words("pass", "green") if gate.holds else words("FAIL", "bold red"),
            words(f"{gate.table}.{gate.measure}", most=120),
            words(figures.closely(gate.value)),
            words(gate.bound, most=60),
        )
    page.add(table)
    for gate in gates:
        if not gate.holds:
            where = f"{gate.file}:{gate.line}" if gate.line else gate.file
            page.add(words(f"{where}: {gate.message or 'the bound is broken'}", most=600))
