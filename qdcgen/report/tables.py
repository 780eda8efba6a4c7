"""Sets one of the four tables on a page: label, one column per population, interval, n, control, footnotes below."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qdcgen.report import figures
from qdcgen.report.grid import COVERED, Notes, population
from qdcgen.report.page import hanging, indented, listed, quiet_table, superscript, words
from qdcgen.safe import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.table import Table
    from rich.text import Text

    from qdcgen.report.contents import Confusion
    from qdcgen.report.grid import Grid
    from qdcgen.report.page import Page
    from qdcgen.report.sheets import Sheet
    from qdcgen.rows import Measure

__all__ = ["add_confused", "add_grid", "add_sheet"]

_BARRED = ("coverage", "quality")
"""Tables in which a share is a part of something, so that a bar says what its figure says."""
_BAR = 8
_GAP = 2
_NARROWEST_LABEL = 20
_LEAST_LABEL = 8
"""Where asked, accepted and landed would not stand beside each other otherwise: three intervals of 15 fit in 80."""
_LONGEST_LABEL = 120
_LONGEST_POPULATION = 14


def add_grid(page: Page, grid: Grid, more: str) -> None:
    """Add the table to the page. `more` is what to type to see every missing name."""
    grid, silent = grid.without_figures()
    if not grid.lines and not silent:
        page.add(words("nothing measured", "dim"))
    notes = Notes(definitions=grid.definitions, control_of=grid.control_of)
    for shown in _side_by_side(grid, page.width):
        page.add(_set(grid, shown, page.width, notes))
    for line, measure, others in grid.told_missing():
        axis = f", {line.axis}" if line.axis else ""
        landed = ", landed" if measure.of == "landed" else ""
        heading = f"missing from {line.name}{axis}{landed}: {figures.count(len(measure.missing))}{others}"
        names = words(listed(measure.missing, more), most=1200)
        page.add(words(heading, "yellow", most=3 * _LONGEST_LABEL), indented(names, 2))
    for sentence in notes.of_all:
        page.add(hanging("·", words(sentence, "dim", most=600)))
    for sentence, number in notes.numbers.items():
        page.add(hanging(superscript(number), words(sentence, "dim", most=600)))
    for reason, untold in silent.items():
        page.add(hanging("–", words(f"{', '.join(map(printable, untold))}: {reason}", "dim", most=600)))


def add_sheet(page: Page, sheet: Sheet) -> None:
    """Add a table of one row per axis to the page; columns that do not fit are set below, as a table of their own."""
    if sheet.title:
        page.add("", words(sheet.title, most=_LONGEST_LABEL))
    labels = [(2 * row.depth, row.label) for row in sheet.rows]
    for spare, gap in ((True, _GAP), (False, _GAP), (False, 1)):
        setting = _Setting(labels, columns=_sheet_columns(sheet, spare=spare), gap=gap)
        if not labels or setting.label_width() <= setting.room(page.width):
            break
    left = setting.columns if labels else []
    while left:
        setting.columns, left = left, []
        while len(setting.columns) > 1 and setting.room(page.width) < _LEAST_LABEL:
            left.insert(0, setting.columns.pop())
        page.add(setting.table(page.width, ""))
    for note in sheet.notes:
        page.add(hanging("·", words(note, "dim", most=1200)))


def _sheet_columns(sheet: Sheet, *, spare: bool) -> list[_Column]:
    high = max(header.count("\n") for header in sheet.headers)
    columns = []
    for place, header in enumerate(sheet.headers):
        said = place in sheet.words
        column = _Column("\n" * (high - header.count("\n")) + header, "left" if said else "right")
        for row in sheet.rows:
            figure, below = row.cells[place]
            column.cells.append((figure, _tight(below) if spare or place not in sheet.spare else ""))
        columns.append(column)
    return columns


def _tight(interval: str) -> str:
    """`0.168–0.282` as `.168–.282`: of six intervals in a row every cell counts."""
    return re.sub(r"(?<![\d.])0(?=\.\d)", "", interval.replace(" – ", "–")) if "–" in interval else interval


def add_confused(page: Page, confused: Sequence[Confusion]) -> None:
    """Below the table of coverage: the pairs of nodes that are most often confused, axis by axis."""
    by: dict[tuple[str, str], list[Confusion]] = {}
    for pair in confused:
        by.setdefault((pair.axis, pair.of), []).append(pair)
    for (axis, of), pairs in by.items():
        page.add(words(f"most often confused in {axis} ({population('coverage', of)})", most=_LONGEST_LABEL))
        room = (page.width - 18) // 2
        said = "asked" if of == "kept" else "labelled"
        table = quiet_table((said, "left"), ("landed", "left"), ("rows", "right"), ("of", "right"))
        for pair in pairs:
            table.add_row(
                words(figures.clip_left(printable(pair.asked), room)),
                words(figures.clip_left(printable(pair.landed), room)) if pair.landed else words("nowhere", "dim"),
                words(figures.count(pair.rows)),
                words(figures.count(pair.total), "dim"),
            )
        page.add(table)


def _side_by_side(grid: Grid, width: int) -> Iterator[list[str]]:
    """Populations that fit beside each other; the rest is set below, as a table of its own."""
    room = left = width - _NARROWEST_LABEL - 2 * _GAP - 7 - 10  # beside n up to 999,999 and a control with its mark
    chunk: list[str] = []
    for of in grid.populations:
        measures = [line.by[of] for line in grid.lines if of in line.by]
        widest = max(max(len(figures.value(m, m.value)), len(figures.interval(m))) for m in measures)
        needed = _GAP + max(widest, min(len(of), _LONGEST_POPULATION))
        # That three columns can be compared is worth more than whole labels.
        held = grid.table == "coverage" and of in COVERED and chunk and chunk[-1] in COVERED
        if chunk and needed > left + (_NARROWEST_LABEL - _LEAST_LABEL if held else 0):
            yield chunk
            chunk, left = [], room
        chunk.append(of)
        left -= needed
    if chunk:
        yield chunk


@dataclass(slots=True)
class _Column:
    """One column before it is set; a cell is nothing, one line, or two of which the second is dim."""

    header: str
    side: str
    style: str = ""
    cells: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Cells that the widest line takes."""
        from rich.cells import cell_len

        return max(
            cell_len(text) for text in [*self.header.split("\n"), *(text for cell in self.cells for text in cell)]
        )

    def text(self, row: int) -> Text:
        """The cell of a row."""
        cell = [line for line in self.cells[row] if line]
        text = words(cell[0] if cell else "", self.style)
        for line in cell[1:]:
            text.append("\n").append_text(words(line, "dim"))
        return text


@dataclass(slots=True)
class _Setting:
    """A grid, or the populations of it that fit, on its way to a table."""

    labels: list[tuple[int, str]] = field(default_factory=list)
    """(indent, label) of each row."""
    headings: set[int] = field(default_factory=set)
    """Rows that are only the name of an axis."""
    columns: list[_Column] = field(default_factory=list)
    gap: int = _GAP

    def label_width(self) -> int:
        """Cells that the widest label takes with its indent."""
        from rich.cells import cell_len

        return max(indent + cell_len(label) for indent, label in self.labels)

    def room(self, width: int) -> int:
        """Cells that the columns leave for the label."""
        return width - sum(self.gap + column.width for column in self.columns)

    def table(self, width: int, header: str) -> Table:
        """The table, `width` cells wide at most."""
        label_width = min(self.label_width(), self.room(width))
        label_width = max(label_width, min(len(header), self.room(width)), _LEAST_LABEL)
        table = quiet_table(
            (header, "left"),
            *((column.header, column.side) for column in self.columns),
            widths=(label_width, *(column.width for column in self.columns)),
        )
        table.padding = (0, self.gap - 1, 0, 0)  # the rule's box adds one
        for place, (indent, label) in enumerate(self.labels):
            style = "dim" if place in self.headings else ""
            cells = [column.text(place) for column in self.columns]
            table.add_row(indented(words(label, style, most=2 * _LONGEST_LABEL), indent), *cells)
        return table


def _set(grid: Grid, shown: Sequence[str], width: int, notes: Notes) -> Table:
    """The widest setting that leaves its labels whole; failing that the narrowest, with labels that wrap."""
    for inline, barred in ((True, True), (False, True), (False, False)):
        tried = notes.copy()
        setting = _setting(grid, shown, tried, inline=inline, barred=barred)
        if setting.label_width() <= setting.room(width):
            break
    notes.numbers.update(tried.numbers)
    notes.control_told |= tried.control_told
    return setting.table(width, "" if len(shown) == 1 else "95 % interval below")


def _setting(grid: Grid, shown: Sequence[str], notes: Notes, *, inline: bool, barred: bool) -> _Setting:
    """Fill the columns row by row, so that footnotes are numbered in reading order."""
    inline = inline and not notes.control_of  # told once below the table
    values = {of: _Column(_header(population(grid.table, of), notes), "right") for of in shown}
    bars = _Column("", "left", style="cyan")
    intervals = _Column("95 %", "right", style="dim")
    sizes = _Column("n", "right", style="dim")
    controls = _Column("control", "left" if inline else "right")
    setting = _Setting()
    widest = max(len(figures.value(m, m.control)) for line in grid.lines for m in line.by.values())
    for axis, group in grid.groups:
        lines = [line for line in group if any(of in line.by for of in shown)]
        headed = bool(axis) and len(lines) > 1
        if headed:
            setting.headings.add(len(setting.labels))
            setting.labels.append((0, _clipped(axis)))
            for column in (*values.values(), bars, intervals, sizes, controls):
                column.cells.append(())
        for line in lines:
            spoken = line.spokesman(shown)
            name = _clipped(line.name) + (f" · {_clipped(line.axis)}" if line.axis and not headed else "")
            unit = f", {_clipped(line.unit)}" if line.unit not in {"", "share", line.name} else ""
            setting.labels.append((2 if headed else 0, name + unit + _marks(notes.asides(line, shown), notes)))
            for of, column in values.items():
                column.cells.append(_value(line.by.get(of), alone=len(shown) == 1))
            bars.cells.append(_bar(spoken))
            intervals.cells.append((figures.interval(spoken),))
            sizes.cells.append((figures.count(spoken.n),) if spoken.n else ())
            controls.cells.append(_control(spoken, notes, widest if inline else 0))
    alone = len(shown) == 1
    setting.columns = [*values.values()]
    if alone and barred and grid.table in _BARRED and any(bars.cells):
        setting.columns.append(bars)
    setting.columns += [column for column in (intervals,) if alone]
    setting.columns += [sizes, controls] if any(controls.cells) else [sizes]
    return setting


def _clipped(text: str) -> str:
    return figures.clip(printable(text), _LONGEST_LABEL)


def _header(of: str, notes: Notes) -> str:
    """A population's name; of a long one its end, which tells two files apart, with a footnote."""
    of = printable(of)
    if len(of) <= _LONGEST_POPULATION:
        return of
    mark = f" {superscript(notes.number(of))}"
    return "…" + of[len(mark) + 1 - _LONGEST_POPULATION :] + mark


def _marks(sentences: Iterable[str], notes: Notes) -> str:
    return "".join(f" {superscript(number)}" for number in sorted(set(map(notes.number, sentences))))


def _value(measure: Measure | None, *, alone: bool) -> tuple[str, ...]:
    if measure is None:
        return ()
    value = figures.value(measure, measure.value)
    return (value,) if alone else (value, figures.interval(measure))


def _bar(measure: Measure) -> tuple[str, ...]:
    share = measure.value is not None and measure.range == (0, 1) and 0 <= measure.value <= 1
    return (figures.bar(measure.value or 0, _BAR),) if share else ()


def _control(measure: Measure, notes: Notes, inline: int) -> tuple[str, ...]:
    """The control and what it is of: in words where there is room (`inline`: width of the figure), else by a mark."""
    if measure.control is None:
        return ()
    figure = figures.value(measure, measure.control)
    if inline:
        return (f"{figure:>{inline}}  {figures.clip(printable(measure.control_of), 40)}".rstrip(),)
    return (figure + _marks(notes.control(measure), notes),)
