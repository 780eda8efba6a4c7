"""A report as GitHub-flavoured Markdown, for `report.md`, pull requests and step summaries.

Nothing from data is read as markup: names stand in code spans, sentences have every mark of Markdown and HTML escaped
and what GitHub would turn into a mention or a link broken by a zero-width space.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qdcgen.report import attrition, curves, figures
from qdcgen.report.contents import ASIDE
from qdcgen.report.grid import TABLES, Notes, grids, population
from qdcgen.report.sheets import sheets
from qdcgen.safe import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from qdcgen.report.contents import Calls, Confusion, Curve, GateResult, LedgerLine, Report
    from qdcgen.report.grid import Grid, Line
    from qdcgen.report.sheets import Sheet
    from qdcgen.rows import Measure

__all__ = ["markdown"]

_NAMED = 8
_MARKUP = re.compile(r"[\\`*_\[\]#|~$]|^[-+=]|(?:(?<=^\d)|(?<=^\d\d)|(?<=^\d\d\d))[.)](?=\s|$)")
"""What Markdown would read: anywhere in a line, or at its start (lists and underlined headings)."""
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_LINKS = re.compile(r"@|:(?=//)|\bwww(?=\.)|#(?=\d)|\bGH(?=-\d)|:(?=[\w+-]+:)", re.IGNORECASE)
"""What GitHub would turn into a mention, a link or an emoji."""
_BREAK = "&#8203;"


def _prose(text: str, most: int = 1200) -> str:
    """A sentence: what it says, and nothing that Markdown, HTML or GitHub reads in it."""
    plain = figures.clip(printable(text), most).translate(_ENTITIES)
    broken = _LINKS.sub(lambda found: found[0] + "\0", plain)  # no printable text holds a zero byte
    return _MARKUP.sub(r"\\\g<0>", broken).replace("\0", _BREAK)


def _code(text: str, most: int = 120) -> str:
    """A name, as a code span: a fence longer than any run of backticks inside, pipes escaped for a table's sake."""
    plain = figures.clip(printable(text), most).strip()
    if not plain:
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    gap = " " if "`" in plain else ""
    return f"{fence}{gap}{plain}{gap}{fence}".replace("\\|", "\\\\|").replace("|", "\\|")


def markdown(report: Report) -> str:
    """The report as Markdown: the same sections in the same order as on a terminal, ending with a newline."""
    blocks = [f"# {_prose(report.title)}"]
    if report.facts:
        blocks.append("\n".join(f"- {_prose(name)}: {_prose(text)}" for name, text in report.facts.items()))
    if report.ledger:
        blocks += _ledger(report.ledger)
    blocks += _tables(report) if report.curve is None else _curve(report.curve)
    if report.calls is not None:
        blocks += _calls(report.calls)
    if report.gates:
        blocks += _gates(report.gates)
    if report.remarks:
        blocks += ["## Remarks", "\n".join(f"- {_prose(remark)}" for remark in report.remarks)]
    return "\n\n".join(blocks) + "\n"


def _tables(report: Report) -> Iterator[str]:
    for grid in grids(report.measures):
        shown, agreeing, apart = grid.parted()
        yield f"## {grid.table.capitalize()}"
        if shown.lines or not (agreeing.lines or apart.lines):
            yield from _grid(shown, f"{TABLES[grid.table].capitalize()}.")
        for sheet in sheets(apart):
            yield from _sheet(sheet)
        if agreeing.lines:
            yield f"### {agreeing.agreement.capitalize()}"
            yield from _grid(agreeing)
        if grid.table == "coverage" and report.confused:
            yield from _confused(report.confused)
    if report.attrition is not None:
        yield "## Attrition"
        yield f"{attrition.QUESTION.capitalize()}."
        yield from _sheet(attrition.sheet(report.attrition))
        if said := attrition.claims(report.attrition):
            yield "\n".join(f"- {_prose(claim)}" for claim in said)


def _curve(curve: Curve) -> Iterator[str]:
    yield "## Curve"
    yield f"What another threshold of {_code(curve.filter)} would keep, cover and vary."
    for sheet in curves.sheets(curve):
        yield from _sheet(sheet)
    yield "\n".join(f"- {_prose(remark)}" for remark in curve.remarks)


def _table(headers: Sequence[str], right: Sequence[bool], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["--:" if side else ":--" for side in right], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _listed(names: Sequence[str], of: int) -> str:
    """The first of `of` names, set in type already, and how many there are besides."""
    more = f" and {figures.count(of - _NAMED)} more" if of > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _calls(calls: Calls) -> Iterator[str]:
    yield "## Calls"
    cost = "unknown" if calls.usd is None else figures.dollars(calls.usd)
    rows = [("replies", figures.count(calls.replies)), ("tokens in", figures.count(calls.tokens_in))]
    rows += [("tokens out", figures.count(calls.tokens_out)), ("cost", cost)]
    if len(calls.models) > 1:
        for one in calls.models:
            paid = "cost unknown" if one.usd is None else figures.dollars(one.usd)
            rows.append((f"replies of {_code(one.model) or 'models pruned'}, {paid}", figures.count(one.replies)))
    rows += [(f"failed: {_code(kind)}", figures.count(count)) for kind, count in calls.faults.items()]
    yield _table(("what", "n"), (False, True), rows)


def _ledger(ledger: Sequence[LedgerLine]) -> Iterator[str]:
    yield "## Ledger"
    for line in ledger:
        if not line.axis:
            rows = [
                ("attempted", line.attempted),
                ("failed", line.failed),
                ("refused", line.refused),
                *(
                    (name if name in ASIDE else f"rejected by {_code(name)}", rows)
                    for name, rows in line.rejected.items()
                ),
                ("duplicate", line.duplicate),
                ("accepted", line.accepted),
            ]
            cells = [(name, figures.count(n), _angles(figures.per_cent(n, line.attempted))) for name, n in rows]
            planned, owed = ("planned", figures.count(line.planned), ""), ("owed", figures.count(line.owed), "")
            yield _table(("rows", "n", "of attempted"), (False, True, True), [planned, *cells, owed])
    owing: dict[str, list[str]] = {}
    for line in ledger:
        if line.axis and line.owed:
            owing.setdefault(line.axis, []).append(f"{_code(line.node, 60)} ({figures.count(line.owed)})")
    if owing:
        yield "\n".join(f"- owed in {_code(axis)}: {_listed(nodes, len(nodes))}" for axis, nodes in owing.items())


def _grid(grid: Grid, question: str = "") -> Iterator[str]:
    if not grid.lines:
        yield "Nothing measured."
        return
    notes = Notes(definitions=grid.definitions, control_of=grid.control_of)
    shown = grid.populations
    rows = [_row(line, shown, notes) for _, lines in grid.groups for line in lines]
    headers = ["measure", "axis", *(f"{_code(population(grid.table, of), 60)} (95 %)" for of in shown), "n", "control"]
    if question:
        yield question
    yield _table(headers, [False, False, *([True] * len(shown)), True, True], rows)
    if grid.missing:
        yield "\n".join(_missing(*told) for told in grid.told_missing())
    below = [_prose(sentence) for sentence in notes.of_all]
    below += [f"<sup>{number}</sup> {_prose(note)}" for note, number in notes.numbers.items()]
    yield from _folded("<br>\n".join(below))


def _folded(below: str) -> Iterator[str]:
    """Footnotes, shown by a click; GitHub reads Markdown inside only after an empty line."""
    if below:
        yield f"<details><summary>Notes</summary>\n\n{below}\n\n</details>"


def _sheet(sheet: Sheet) -> Iterator[str]:
    if sheet.title:
        yield f"### {_prose(sheet.title[0].upper() + sheet.title[1:])}"
    if sheet.rows:
        rows = [
            [_code(row.name), *(_angles(f"{figure} ({below})" if below else figure) for figure, below in row.cells)]
            for row in sheet.rows
        ]
        headers = [sheet.label, *(_prose(header.replace("\n", " ")) for header in sheet.headers)]
        yield _table(headers, [False, *(place not in sheet.words for place in range(len(sheet.headers)))], rows)
    if sheet.notes:
        yield "\n".join(f"- {_prose(note)}" for note in sheet.notes)
    yield from _folded("<br>\n".join(map(_prose, sheet.legend)))


def _confused(confused: Sequence[Confusion]) -> Iterator[str]:
    yield "Most often confused: asked for (or labelled) one node, landed in another."
    rows = [
        (
            _code(pair.axis, 60),
            population("coverage", pair.of) if pair.of in {"kept", "anchor", "rows"} else _code(pair.of, 60),
            _code(pair.asked),
            _code(pair.landed) or "nowhere",
            figures.count(pair.rows),
            figures.count(pair.total),
        )
        for pair in confused
    ]
    yield _table(("axis", "rows", "asked", "landed", "n", "of"), (False, False, False, False, True, True), rows)


def _row(line: Line, shown: Sequence[str], notes: Notes) -> list[str]:
    def marks(sentences: Iterable[str]) -> str:
        numbers = sorted({notes.number(sentence) for sentence in sentences})
        return f" <sup>{', '.join(map(str, numbers))}</sup>" if numbers else ""

    spoken = line.spokesman(shown)
    unit = f", {_prose(line.unit, 40)}" if line.unit not in {"", "share", line.name} else ""
    cells = [_prose(line.name, 120) + unit + marks(notes.asides(line, shown)), _code(line.axis)]
    for of in shown:
        measure = line.by.get(of)
        bounds = "" if measure is None else figures.interval(measure)
        value = "" if measure is None else _angles(figures.value(measure, measure.value))
        cells.append(f"{value} ({bounds})" if bounds else value)
    control = "" if spoken.control is None else figures.value(spoken, spoken.control)
    of_what = marks(notes.control(spoken) if control else [])
    return [*cells, figures.count(spoken.n) if spoken.n else "", _angles(control) + of_what]


def _angles(figure: str) -> str:
    return figure.translate(_ENTITIES)


def _missing(line: Line, measure: Measure, where: str, others: str) -> str:
    axis = f" of {_code(line.axis)}" if line.axis else ""
    names = [_code(name, 60) for name in measure.missing[:_NAMED]]
    what = f"{_prose(line.name, 120)}{axis}{where}"
    return f"- missing from {what}: {_listed(names, len(measure.missing))}{_prose(others)}"


def _gates(gates: Sequence[GateResult]) -> Iterator[str]:
    yield "## Gates"
    rows = [
        (
            "pass" if gate.holds else "**FAIL**",
            _code(f"{gate.table}.{gate.measure}"),
            figures.closely(gate.value),
            _code(gate.bound, 60),
            "" if gate.holds else _prose(gate.message or "the bound is broken", 600),
            _code(f"{gate.file}:{gate.line}" if gate.line else gate.file),
        )
        for gate in gates
    ]
    yield _table(("", "gate", "value", "bound", "why", "where"), (False, False, True, False, False, False), rows)
