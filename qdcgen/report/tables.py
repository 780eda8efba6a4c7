"""Sets one of the four tables on a page: label, one column per population, interval, n, control, footnotes below."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from textwrap import wrap
from typing import TYPE_CHECKING

from qdcgen.report import figures
from qdcgen.report.grid import COVERED, Grid, Notes, population
from qdcgen.report.page import NAMED, hanging, indented, listed, quiet_table, superscript, words
from qdcgen.safe import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.table import Table
    from rich.text import Text

    from qdcgen.report.contents import Confusion
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


def add_grid(page: Page, grid: Grid, more: str, *, footnotes: bool, embedder: str = "") -> None:
    """Add the table to the page. `more` is what to type to see every missing name; `embedder`: named above already.

    Without `footnotes` one line above says what most figures have in common, intervals stand beside their figures
    where that takes fewer lines, and reasons for lines without figures are clipped.
    """
    grid, silent = grid.without_figures()
    if not grid.lines and not silent:
        page.add(words("nothing measured", "dim"))
    main, aside = (grid, Grid(grid.table)) if footnotes else grid.main_and_aside()
    notes = Notes(definitions=grid.definitions, control_of=main.control_of, shown=footnotes)
    if not footnotes and (common := _common(grid, main, embedder)):
        page.add(words(common, "dim", most=600))
    for shown in _side_by_side(main, page.width, notes):
        page.add(_set(main, shown, page.width, notes))
    for columns, told in _also(aside).items():
        page.add(hanging("·", words(f"also, {columns}: {told}", most=1200)))
    for line, measure, where, others in grid.told_missing():
        axis = f", {line.axis}" if line.axis else ""
        heading = f"missing from {line.name}{axis}{where}: {figures.count(len(measure.missing))}{others}"
        most = _PAIRS if not footnotes and " × " in line.axis else NAMED
        page.add(_missing(heading, listed(measure.missing, more, most)))
    if footnotes:
        for sentence in notes.of_all:
            page.add(hanging("·", words(sentence, "dim", most=600)))
        for sentence, number in notes.numbers.items():
            page.add(hanging(superscript(number), words(sentence, "dim", most=600)))
    else:
        for kind, told in _controls(main, notes).items():
            page.add(hanging("·", words(f"control, {kind}: {told}", "dim", most=600)))
    untold = [_untold(reason, needs, whole=footnotes) for reason, needs in silent.items()]
    for sentence in untold if footnotes else [" – ".join(untold)] if untold else []:
        page.add(hanging("–", words(sentence, "dim", most=1200)))


_NAMED = 4
"""Lines without figures that a short page names for each reason."""
_PAIRS = 2
"""Missing pairs that it names: each is two names long, and most of them are missing in a small run."""
_LONGEST_REASON = 160


def _untold(reason: str, needs: Mapping[str, Sequence[str]], *, whole: bool) -> str:
    """`too few: 6 texts; needs 20: …; needs 200: …`."""
    told = []
    for needed, names in needs.items():
        listing = _first(names, len(names) if whole else _NAMED)
        told.append(f"needs {needed}: {listing}" if needed else listing)
    said = printable(reason)
    return (
        f"{said if whole else figures.clip(said, _LONGEST_REASON)}{'; ' if '' not in needs else ': '}{'; '.join(told)}"
    )


def _first(names: Sequence[str], most: int) -> str:
    shown = names if len(names) <= most + 1 else names[:most]
    left = len(names) - len(shown)
    return ", ".join(map(printable, shown)) + (f" and {left} more" if left else "")


def _missing(heading: str, names: str) -> Table:
    """What is missing and its names, with the lines below the first one indented."""
    text = words(heading, "yellow", most=3 * _LONGEST_LABEL)
    return hanging("·", text.append_text(words(f" – {names}", "not yellow", most=1200)))


def _also(grid: Grid) -> dict[str, str]:
    """Columns → the figures of every line that has these, without intervals: those of raw rows where alone."""
    found: dict[str, list[str]] = {}
    for line in grid.lines:
        shown = [of for of in grid.populations if of in line.by and (of != "raw" or "kept" not in line.by)]
        name = f"{line.name} · {line.axis}" if line.axis else line.name
        told = " / ".join(figures.value(line.by[of], line.by[of].value) for of in shown)
        columns = " / ".join(population(grid.table, of) for of in shown)
        found.setdefault(columns, []).append(f"{printable(name)} {told}")
    return {columns: ", ".join(told) for columns, told in found.items()}


def _common(grid: Grid, main: Grid, embedder: str) -> str:
    """What most figures of the table have in common: sizes, lengths, embedder, what columns and controls are."""
    told = []
    sizes = grid.sizes
    if len(sizes) > 1 or any(whole for _, whole in sizes.values()) or grid.twin or (sizes and _alike(main)):
        each = [
            f"{population(grid.table, of)} {figures.count(n)}{f' of {figures.count(whole)}' if whole else ''}"
            for of, (n, whole) in sizes.items()
        ]
        told.append(f"n: {', '.join(each)}{' (raw: the same rows)' if grid.twin else ''}")
    if grid.words:
        told.append(f"{grid.words} words a text where length matters")
    told += [
        f"{population(grid.table, of)}: {what}"
        for of, what in grid.definitions.items()
        if of not in {"planned", "kept"}
    ]
    if grid.embedders and not (grid.embedders == [embedder] and grid.table != "diversity"):
        told.append(f"embedder: {', '.join(grid.embedders)}")
    if main.control_of:
        told.append(f"control: {main.control_of}")
    return "; ".join(told)


def _controls(grid: Grid, notes: Notes) -> dict[str, str]:
    """Kind of control → each figure's, where no column of the page's tables has them."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in grid.lines if _controls_apart(grid, notes) else ():
        spoken = line.spokesman(grid.populations)
        if spoken.control is not None:
            name = f"{line.name} · {line.axis}" if line.axis else line.name
            figure = figures.value(spoken, spoken.control)
            found.setdefault(spoken.control_of or "of its own kind", {}).setdefault(figure, []).append(name)
    told = {}
    for kind, by in found.items():
        told[kind] = "; ".join(f"{figure} for {_first(names, _NAMED)}" for figure, names in by.items())
        if len(by) > _NAMED:
            names = [name for those in by.values() for name in those]
            least, *_, most = sorted(by, key=lambda figure: float(figure.lstrip("<>").replace(",", "")))
            told[kind] = f"{least} to {most} for {_first(names, _NAMED)}"
    return told


def _controls_apart(grid: Grid, notes: Notes) -> bool:
    """Whether controls are told below: in a column those of several kinds need marks, and there are none."""
    return not notes.shown and not grid.control_of


def add_sheet(page: Page, sheet: Sheet, *, footnotes: bool) -> None:
    """Add a table of one row per axis to the page; columns that do not fit are set below, as a table of their own."""
    if sheet.title:
        page.add("", words(sheet.title, most=_LONGEST_LABEL))
    if not footnotes:
        sheet = sheet.short()
        if sheet.told:
            for sentence in sheet.sentences():
                page.add(hanging("·", words(sentence, most=600)))
            sheet = replace(sheet, rows=())
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
        page.add(setting.table(page.width, "", rule=footnotes))
    for note in (*(sheet.legend if footnotes else ()), *sheet.notes):
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


_CONFUSED = 5
"""Pairs of confused nodes that a page without footnotes shows of each axis."""


def add_confused(page: Page, confused: Sequence[Confusion], *, footnotes: bool) -> None:
    """Below the table of coverage: the pairs of nodes that are most often confused, axis by axis."""
    by: dict[tuple[str, str], list[Confusion]] = {}
    for pair in confused:
        by.setdefault((pair.axis, pair.of), []).append(pair)
    for (axis, of), pairs in by.items():
        met = pairs if footnotes else [pair for pair in pairs if pair.landed]
        shown = met if footnotes or len(met) <= _CONFUSED + 1 else met[:_CONFUSED]
        if not shown:
            continue  # the share of those that landed nowhere stands in the table above
        few = f", {len(shown)} of {len(met)} pairs" if len(shown) < len(met) else ""
        nowhere = sum(pair.rows for pair in pairs) - sum(pair.rows for pair in met)
        lost = f"; besides, {figures.count(nowhere)} rows of these leaves nowhere" if nowhere else ""
        heading = f"most often confused in {axis} ({population('coverage', of)}){few}{lost}"
        page.add(words(heading, most=2 * _LONGEST_LABEL))
        room = (page.width - 18) // 2
        said = "asked" if of == "kept" else "labelled"
        headers = ((said, "left"), ("landed", "left"), ("rows", "right"), ("of", "right"))
        table = quiet_table(*headers, rule=footnotes)
        for pair in shown:
            table.add_row(
                words(figures.clip_left(printable(pair.asked), room)),
                words(figures.clip_left(printable(pair.landed), room)) if pair.landed else words("nowhere", "dim"),
                words(figures.count(pair.rows)),
                words(figures.count(pair.total), "dim"),
            )
        page.add(table)


def _side_by_side(grid: Grid, width: int, notes: Notes) -> Iterator[list[str]]:
    """Populations that fit beside each other; the rest is set below, as a table of its own."""
    room = width - _NARROWEST_LABEL
    if notes.shown:
        room -= 2 * _GAP + 7 + 10  # beside n up to 999,999 and a control with its mark
    else:
        room -= (0 if _alike(grid) else _GAP + 7) + (_GAP + 7 if grid.control_of else 0)
    left = room
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
    beside: bool = False
    """Whether the second line stands to the right of the first instead."""

    @property
    def width(self) -> int:
        """Cells that the widest line takes."""
        from rich.cells import cell_len

        header = max(map(cell_len, self.header.split("\n")))
        if self.beside:
            return max(header, sum(self.halves))
        return max(header, *(cell_len(text) for cell in self.cells for text in cell), 0)

    @property
    def halves(self) -> tuple[int, int]:
        """Cells that the figure takes, and what stands right of it with the space between."""
        from rich.cells import cell_len

        first = max((cell_len(cell[0]) for cell in self.cells if cell), default=0)
        second = max((cell_len(cell[1]) for cell in self.cells if len(cell) > 1), default=0)
        return first, second and second + 1

    def text(self, row: int) -> Text:
        """The cell of a row."""
        if self.beside:
            figure, *more = self.cells[row] or ("",)
            interval = more[0] if more else ""
            return words(figure, self.style).append_text(words(f"{interval:>{self.halves[1]}}", "dim"))
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
    bare: list[str] = field(default_factory=list)
    """Each label without its unit, and of what begins like the line above only the rest; where labels may be short."""
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

    def shorten(self, width: int) -> None:
        """Shorten the labels that do not fit."""
        room = self.room(width)
        for place, (indent, label) in enumerate(self.labels):
            if indent + len(label) > room:
                self.labels[place] = (indent, self.bare[place])

    def height(self, width: int) -> int:
        """Lines that the rows take, about: a label too long for its column wraps."""
        room = max(self.room(width), 1)
        lines = 0
        for place, (indent, label) in enumerate(self.labels):
            wrapped = len(wrap(label, max(room - indent, 1)))
            cells = (sum(map(bool, column.cells[place])) for column in self.columns if not column.beside)
            lines += max(wrapped, *cells, 1)
        return lines

    def table(self, width: int, header: str, *, rule: bool = True) -> Table:
        """The table, `width` cells wide at most."""
        label_width = min(self.label_width(), self.room(width))
        label_width = max(label_width, min(len(header), self.room(width)), _LEAST_LABEL)
        table = quiet_table(
            (header, "left"),
            *((column.header, column.side) for column in self.columns),
            widths=(label_width, *(column.width for column in self.columns)),
            rule=rule,
        )
        table.padding = (0, self.gap - rule, 0, 0)  # the rule's box adds one
        for place, (indent, label) in enumerate(self.labels):
            style = "dim" if place in self.headings else ""
            cells = [column.text(place) for column in self.columns]
            table.add_row(indented(words(label, style, most=2 * _LONGEST_LABEL), indent), *cells)
        return table


def _set(grid: Grid, shown: Sequence[str], width: int, notes: Notes) -> Table:
    """The widest setting that leaves its labels whole; failing that the narrowest, with labels that wrap.

    Without footnotes, of several populations: intervals beside their figures where that takes fewer lines.
    """
    alone = len(shown) == 1
    for inline, barred in ((True, True), (False, True), (False, False)):
        tried = notes.copy()
        setting = _setting(grid, shown, tried, inline=inline, barred=barred)
        if not notes.shown:
            setting.shorten(width)
        if setting.label_width() <= setting.room(width):
            break
    if not (alone or notes.shown):
        beside = _setting(grid, shown, tried, inline=False, barred=False, beside=True)
        beside.shorten(width)
        if beside.room(width) >= _LEAST_LABEL and beside.height(width) < setting.height(width):
            return beside.table(width, "95 % beside", rule=False)
    notes.numbers.update(tried.numbers)
    notes.control_told |= tried.control_told
    bare = alone or not any(len(cell) > 1 and cell[1] for column in setting.columns for cell in column.cells)
    return setting.table(width, "" if bare else "95 % interval below", rule=notes.shown)


def _alike(grid: Grid) -> bool:
    """Whether every figure has the n that `_common` says, so that no column has to."""
    sizes = grid.sizes
    return all(
        measure.n == sizes[of][0]
        for line in grid.lines
        for of, measure in line.by.items()
        if measure.value is not None and measure.n
    )


def _setting(
    grid: Grid, shown: Sequence[str], notes: Notes, *, inline: bool, barred: bool, beside: bool = False
) -> _Setting:
    """Fill the columns row by row, so that footnotes are numbered in reading order."""
    inline = inline and not notes.control_of  # told once below the table
    values = {of: _Column(_header(population(grid.table, of), notes), "right", beside=beside) for of in shown}
    bars = _Column("", "left", style="cyan")
    intervals = _Column("95 %", "right", style="dim")
    sizes = _Column("n", "right", style="dim")
    controls = _Column("control", "left" if inline else "right")
    setting = _Setting()
    widest = max(len(figures.value(m, m.control)) for line in grid.lines for m in line.by.values())
    for axis, group in grid.groups:
        lines = [line for line in group if any(of in line.by for of in shown)]
        headed = bool(axis) and len(lines) > (1 if notes.shown else 2)
        if headed:
            setting.headings.add(len(setting.labels))
            setting.labels.append((0, _clipped(axis)))
            setting.bare.append(_clipped(axis))
            for column in (*values.values(), bars, intervals, sizes, controls):
                column.cells.append(())
        above = ""
        for line in lines:
            spoken = line.spokesman(shown)
            begun = above and line.name.startswith(f"{above} at ")
            setting.bare.append(
                f"… {_clipped(line.name.removeprefix(above).strip())}" if begun else _clipped(line.name)
            )
            if line.axis and not headed:
                setting.bare[-1] += f" · {_clipped(line.axis)}"
            above = line.name
            name = _clipped(line.name) + (f" · {_clipped(line.axis)}" if line.axis and not headed else "")
            unit = f", {_clipped(line.unit)}" if line.unit not in {"", "share", line.name} else ""
            setting.labels.append((2 if headed else 0, name + unit + _marks(notes.asides(line, shown), notes)))
            for of, column in values.items():
                column.cells.append(_value(line.by.get(of), alone=len(shown) == 1, tight=beside))
            bars.cells.append(_bar(spoken))
            intervals.cells.append((figures.interval(spoken),))
            sizes.cells.append((figures.count(spoken.n),) if spoken.n else ())
            controls.cells.append(_control(spoken, notes, widest if inline else 0))
    alone = len(shown) == 1
    setting.columns = [*values.values()]
    if alone and barred and grid.table in _BARRED and any(bars.cells):
        setting.columns.append(bars)
    setting.columns += [column for column in (intervals,) if alone]
    setting.columns += [sizes] if notes.shown or not _alike(grid) else []
    setting.columns += [controls] if any(controls.cells) and not _controls_apart(grid, notes) else []
    return setting


def _clipped(text: str) -> str:
    return figures.clip(printable(text), _LONGEST_LABEL)


def _header(of: str, notes: Notes) -> str:
    """A population's name; of a long one its end, which tells two files apart, with a footnote."""
    of = printable(of)
    if len(of) <= _LONGEST_POPULATION or not notes.shown:
        return figures.clip_left(of, _LONGEST_POPULATION)
    mark = f" {superscript(notes.number(of))}"
    return "…" + of[len(mark) + 1 - _LONGEST_POPULATION :] + mark


def _marks(sentences: Iterable[str], notes: Notes) -> str:
    if not notes.shown:
        return ""
    return "".join(f" {superscript(number)}" for number in sorted(set(map(notes.number, sentences))))


def _value(measure: Measure | None, *, alone: bool, tight: bool) -> tuple[str, ...]:
    if measure is None:
        return ()
    value = figures.value(measure, measure.value)
    interval = figures.interval(measure)
    return (value,) if alone else (value, _tight(interval) if tight else interval)


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
