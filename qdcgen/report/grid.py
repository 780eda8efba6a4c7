"""Measures → the lines of the four tables: one line per figure, one column per population, notes numbered below."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qdcgen.report import figures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qdcgen.rows import Measure

__all__ = ["TABLES", "Grid", "Line", "Notes", "grids", "population"]

TABLES: Mapping[str, str] = {
    "coverage": "which regions there are rows for",
    "diversity": "how far the texts are from saying the same",
    "complexity": "how hard the texts are",
    "quality": "how much of what was made is right",
}
"""The four tables, in the order they are always shown, and what each of them tells."""

_ORDER = ("planned", "raw", "kept", "landed", "anchor")
COVERED = ("planned", "kept", "landed")
"""In the table of coverage these stand side by side, before real rows."""
_AGREEING = ("landed", "kappa", "placed nowhere", "reader accuracy", "reader kappa")
"""Figures that set asked and landed against each other, over leaves or `at level 2`: they have a table of their own."""
_WORDS = {"planned": "asked", "kept": "accepted"}
"""What these populations are called there."""


def population(table: str, of: str) -> str:
    """What a population is called in a table."""
    return _WORDS.get(of, of) if table == "coverage" else of


@dataclass(frozen=True, slots=True)
class Line:
    """One figure, over the populations that it was taken on."""

    name: str
    axis: str
    unit: str
    by: Mapping[str, Measure]
    """Population → measure; a population that is not here was not measured."""

    def spokesman(self, shown: Sequence[str]) -> Measure:
        """The measure whose n and control stand in the line: that of kept rows where shown, else the first shown."""
        there = [of for of in shown if of in self.by]
        return self.by["kept" if "kept" in there else there[0]]

    def asides(self, shown: Sequence[str]) -> Iterator[str]:
        """What a reader must know about this line that fits no column, one sentence each."""
        spoken = self.spokesman(shown)
        measures = [self.by[of] for of in shown if of in self.by]
        notes = {population(measure.table, measure.of): _note(measure) for measure in measures}
        if len(set(notes.values())) == 1:
            yield from (note for note in set(notes.values()) if note)
        else:
            yield from (f"{of}: {note}" for of, note in notes.items() if note)
        for embedder in dict.fromkeys(m.embedder for m in measures if m.embedder):
            yield f"embedder: {embedder}"
        for measure in measures:
            differs = [f"n {figures.count(measure.n)}"] if measure.n != spoken.n else []
            control = (measure.control, measure.control_of)
            if measure.control is not None and control != (spoken.control, spoken.control_of):
                of = f" ({measure.control_of})" if measure.control_of else ""
                differs.append(f"control {figures.value(measure, measure.control)}{of}")
            if differs:
                yield f"{population(measure.table, measure.of)}: {', '.join(differs)}"


def _note(measure: Measure) -> str:
    return measure.note or ("" if measure.value is not None else "not computed; the metric does not say why")


@dataclass(slots=True)
class Grid:
    """One of the four tables."""

    table: str
    lines: list[Line] = field(default_factory=list)

    @property
    def populations(self) -> list[str]:
        """Every population of any line: planned, raw, kept, landed, anchor, then the others as they come.

        What a file's rows are called stands before where they landed.
        """
        found = dict.fromkeys(of for line in self.lines for of in line.by)
        others = [of for of in found if of not in _ORDER]
        order = (*_ORDER, *others)
        if self.table == "coverage" and "landed" in found:
            order = (*COVERED[:2], *others, "landed", "raw", "anchor")
        return [of for of in order if of in found]

    def parted(self) -> tuple[Grid, Grid]:
        """What is covered, and how far asked and landed agree; only of the table of coverage the second has lines.

        What is covered is not told of everything made (`raw`) beside accepted rows: what was asked says it better.
        """
        if self.table != "coverage":
            return self, Grid(self.table)
        covered, agreeing = Grid(self.table), Grid(self.table)
        for line in self.lines:
            if line.name.partition(" at ")[0] in _AGREEING:
                agreeing.lines.append(line)
            else:
                by = {of: one for of, one in line.by.items() if of != "raw" or "kept" not in line.by}
                covered.lines.append(Line(line.name, line.axis, line.unit, by))
        return covered, agreeing

    @property
    def agreement(self) -> str:
        """What the second of `parted` is called."""
        asked = any(line.name.startswith(("landed", "kappa")) for line in self.lines)
        return f"agreement of {'asked' if asked else 'labels'} and landed"

    @property
    def groups(self) -> list[tuple[str, list[Line]]]:
        """(axis, its lines), in order of first appearance; lines that are alone on their axis are groups of one."""
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            found.setdefault(line.axis, []).append(line)
        return list(found.items())

    def without_figures(self) -> tuple[Grid, dict[str, list[str]]]:
        """The grid without lines that have no figure at all, and their names by the reason: told below the table."""
        told: dict[str, list[str]] = {}
        kept = Grid(self.table)
        for line in self.lines:
            if any(measure.value is not None for measure in line.by.values()):
                kept.lines.append(line)
                continue
            reasons = dict.fromkeys(_note(measure) for measure in line.by.values())
            name = f"{line.name} · {line.axis}" if line.axis else line.name
            told.setdefault("; ".join(reasons), []).append(name)
        return kept, told

    @property
    def missing(self) -> list[tuple[Line, Measure]]:
        """The lines that lack something by name, each with the measure that says so: what landed, else kept rows.

        Of the lines of one axis the one that lacks least comes first: the highest level that lacks something, whose
        names say most; the others lack what is below those names, and more.
        """
        named = ((line, [m for m in line.by.values() if m.missing]) for line in self.lines)
        order = ("landed", "kept")
        found = [(line, min(ms, key=lambda m: order.index(m.of) if m.of in order else 2)) for line, ms in named if ms]
        axes = list(dict.fromkeys(line.axis for line, _ in found))
        return sorted(found, key=lambda pair: (axes.index(pair[0].axis), len(pair[1].missing)))

    def told_missing(self) -> list[tuple[Line, Measure, str]]:
        """The first of `missing` for each axis, with a clause on how many the axis's other lines lack."""
        by_axis: dict[str, list[tuple[Line, Measure]]] = {}
        for line, measure in self.missing:
            by_axis.setdefault(line.axis, []).append((line, measure))
        told = []
        for (line, measure), *rest in by_axis.values():
            others = ", ".join(f"{figures.count(len(m.missing))} of {other.name}" for other, m in rest)
            told.append((line, measure, f"; also {others}" if others else ""))
        return told


@dataclass(slots=True)
class Notes:
    """Footnotes of one table: equal sentences share a number."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, sentence: str) -> int:
        """The number of `sentence`, from 1, in order of first use."""
        return self.numbers.setdefault(sentence, len(self.numbers) + 1)


def grids(measures: Sequence[Measure]) -> list[Grid]:
    """All four tables, also the empty ones. No measure is dropped: a repeated one gets a line of its own."""
    found = {table: Grid(table) for table in TABLES}
    populations: dict[tuple[str, ...], dict[str, Measure]] = {}
    for measure in measures:
        key = (measure.table, measure.name, measure.axis, measure.unit, measure.embedder)
        by = populations.get(key)
        if by is None or measure.of in by:
            by = populations[key] = {}
            found[measure.table].lines.append(Line(measure.name, measure.axis, measure.unit, by))
        by[measure.of] = measure
    return list(found.values())
