"""Measures → the lines of the four tables: one line per figure, one column per population, notes numbered below."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qdcgen.report import figures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qdcgen.rows import Measure

__all__ = [
    "ALIKE",
    "DOES",
    "LIES",
    "READ_BACK",
    "TABLES",
    "Grid",
    "Line",
    "Notes",
    "Untold",
    "empty",
    "grids",
    "population",
]

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
DOES = ("share explained", "read back", "lost when frozen", "effect", "copied")
"""Figures of the table of diversity that are told axis by axis."""
ALIKE = "alike"
"""A figure of the table of diversity that is told by pair of models."""
LIES = ("support coverage", "hull", "closest pair", "mean distance", "largest empty ball", "KL to Sobol")
READ_BACK = "position read back"
REAL = "real regions reached"
"""Figures of the table of coverage that are told layer by layer."""
_APART: Mapping[str, tuple[str, ...]] = {"diversity": (*DOES, ALIKE), "coverage": (*LIES, READ_BACK)}
_DEFINING = ("what ", "where ")
"""How a note begins that says what a column is, rather than what is particular to one figure in it."""
_WORDS = {"planned": "asked", "kept": "accepted"}
"""What these populations are called there."""
ASIDE: Mapping[str, re.Pattern[str]] = {
    "coverage": re.compile(r"nodes of level |evenness$|kappa$|(landed|kappa) at "),
    "diversity": re.compile(
        r"(distinct|repeated) \d-grams|compression ratio|distinct openings|templated texts|foreseen words|"
        r"exact repeats|Vendi score, q|mean distance to|largest |in no cluster|cluster evenness"
    ),
    "complexity": re.compile(
        r"sentences|words per sentence|brackets and quotes|word variety|harder in (long )?words|"
        r"(always solved|easy to solve|medium to solve|hard to solve)$"
    ),
    "quality": re.compile(r"rejected|failed|refused|right when yes|gap$|unique rows a dollar"),
}
"""Lines of which a page without footnotes tells only the figures, below the table: others of it say much the same."""
_SIZE = re.compile(r"\bat ([\d,]+) of ([\d,]+)(?: texts)?(?: of ([\d.]+) words)?")
"""How a note says on how many of the texts a figure is taken, cut to how many words each."""
_NEEDS = re.compile(r"too few: (?:all )?([\d,]+(?: of [\d,]+)?) ([^,;]+), needs ([\d,]+)$")

Untold = dict[str, dict[str, list[str]]]
"""Why lines have no figure → what they need (empty: not a matter of how many) → their names."""


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

    def asides(self, shown: Sequence[str], said: Mapping[str, str], control_of: str) -> Iterator[str]:
        """What a reader must know about this line that fits no column, one sentence each.

        `said` and `control_of` are told of the whole table: see `Grid.definitions` and `Grid.control_of`. Where columns
        are defined, which is where three populations have notes of their own, these are one sentence.
        """
        spoken = self.spokesman(shown)
        measures = [self.by[of] for of in shown if of in self.by]
        notes = {population(measure.table, measure.of): _particular(measure, said) for measure in measures}
        differing = {
            population(measure.table, measure.of): _differs(measure, spoken, control_of) for measure in measures
        }
        if len(set(notes.values())) == 1:
            yield from (note for note in set(notes.values()) if note)
            notes = dict.fromkeys(notes, "")
        by: dict[str, list[str]] = {}
        if said:
            for of, note in notes.items():
                by.setdefault(", ".join(filter(None, (note, differing.pop(of)))), []).append(of)
            if joined := "; ".join(f"{', '.join(of)}: {told}" for told, of in by.items() if told):
                yield joined
        else:
            yield from (f"{of}: {note}" for of, note in notes.items() if note)
        for embedder in dict.fromkeys(m.embedder for m in measures if m.embedder):
            yield f"embedder: {embedder}"
        yield from (f"{of}: {told}" for of, told in differing.items() if told)


def _says(line: Line, of: str) -> int:
    """Whose missing names are told first: people's labels are worth more than a reader's word, requests less."""
    order = ("landed", "kept") if "kept" in line.by else ("rows", "landed", "planned", "raw")
    return order.index(of) if of in order else len(order) + (of == "anchor")


def _differs(measure: Measure, spoken: Measure, control_of: str) -> str:
    """Its n and control, where those that stand in the line are not its own."""
    differs = [f"n {figures.count(measure.n)}"] if measure.n != spoken.n and measure.value is not None else []
    control = (measure.control, measure.control_of)
    if measure.control is not None and control != (spoken.control, spoken.control_of):
        of = f" ({measure.control_of})" if measure.control_of not in {"", control_of} else ""
        differs.append(f"control {figures.value(measure, measure.control)}{of}")
    return ", ".join(differs)


def _particular(measure: Measure, said: Mapping[str, str]) -> str:
    """Its note without what is told of the whole table."""
    defining, _, rest = _note(measure).partition("; ")
    return rest if _plain(defining) == _plain(said.get(measure.of, "")) else _note(measure)


def _plain(defining: str) -> str:
    return defining.replace("accepted rows", "rows")  # in the column of accepted rows both say the same


def _note(measure: Measure) -> str:
    return measure.note or ("" if measure.value is not None else "not computed; the metric does not say why")


@dataclass(slots=True)
class Grid:
    """One of the four tables."""

    table: str
    lines: list[Line] = field(default_factory=list)
    twin: bool = False
    """Whether raw rows are the kept ones, and have no column."""

    @property
    def populations(self) -> list[str]:
        """Every population of any line: planned, raw, kept, landed, anchor, then the others as they come.

        What a file's rows are called stands before where they landed.
        """
        found = dict.fromkeys(of for line in self.lines for of in line.by)
        others = [of for of in found if of not in _ORDER]
        order = (*_ORDER[:-1], *others, _ORDER[-1])
        if self.table == "coverage" and "landed" in found:
            order = (*COVERED[:2], *others, "landed", "raw", "anchor")
        return [of for of in order if of in found]

    def parted(self) -> tuple[Grid, Grid, Grid]:
        """What stands in the table, how far asked and landed agree, and what is told axis by axis (`sheets`).

        Coverage is not told of everything made (`raw`) beside accepted rows: what was asked says it better.
        """
        shown, agreeing, apart = (
            Grid(self.table, twin=self.twin and self.table != "coverage"),
            Grid(self.table),
            Grid(self.table),
        )
        for line in self.lines:
            if line.axis and line.name in _APART.get(self.table, ()):
                apart.lines.append(line)
            elif self.table == "coverage" and line.name.partition(" at ")[0] in _AGREEING:
                agreeing.lines.append(line)
            elif self.table == "coverage":
                by = {of: one for of, one in line.by.items() if of != "raw" or "kept" not in line.by}
                shown.lines.append(Line(line.name, line.axis, line.unit, by))
            else:
                shown.lines.append(line)
        return shown, agreeing, apart

    @property
    def definitions(self) -> dict[str, str]:
        """Population → what its column is, where the notes of all its lines in the table of coverage say the same."""
        found: dict[str, list[str]] = {}
        for line in self.lines if self.table == "coverage" else ():
            for of, measure in line.by.items():
                if measure.note.startswith(_DEFINING):
                    found.setdefault(of, []).append(measure.note.partition("; ")[0])
        return {of: max(said, key=len) for of, said in found.items() if len(set(map(_plain, said))) == 1}

    @property
    def control_of(self) -> str:
        """What every control of the table is of; empty where they differ, or only one line has any."""
        lines = [{m.control_of for m in line.by.values() if m.control is not None} for line in self.lines]
        found = set().union(*lines)
        return found.pop() if len(found) == 1 and sum(map(bool, lines)) > 1 else ""

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

    def without_figures(self) -> tuple[Grid, Untold]:
        """The grid without lines that have no figure at all, and their names by the reason: told below the table."""
        told: Untold = {}
        kept = Grid(self.table, twin=self.twin)
        for line in self.lines:
            if any(measure.value is not None for measure in line.by.values()):
                kept.lines.append(line)
                continue
            reasons = {of: _note(line.by[of]) for of in self.populations if of in line.by}
            reason, needed = _why({population(self.table, of): note for of, note in reasons.items()})
            name = f"{line.name} · {line.axis}" if line.axis else line.name
            told.setdefault(reason, {}).setdefault(needed, []).append(name)
        return kept, told

    def without_twin(self) -> Grid:
        """The grid without raw rows where they are the kept ones: every figure is the same."""
        twins = [
            (line.by["raw"], line.by.get("kept"))
            for line in self.lines
            if "raw" in line.by and (len(line.by) > 1 or line.by["raw"].value is not None)
        ]
        if not twins or any(
            kept is None or (raw.value, raw.n, raw.interval) != (kept.value, kept.n, kept.interval)
            for raw, kept in twins
        ):
            return self
        lines = [
            replace(line, by={of: one for of, one in line.by.items() if of != "raw"}) if len(line.by) > 1 else line
            for line in self.lines
        ]
        return Grid(self.table, lines, twin=True)

    def main_and_aside(self) -> tuple[Grid, Grid]:
        """The lines that a short page sets in a table, and those that it tells below."""
        main, aside = Grid(self.table), Grid(self.table)
        names = {(line.name, line.axis) for line in self.lines}
        for line in self.lines:
            said_better = (f"{line.name} at equal length", line.axis) in names
            form = self.table == "diversity" and line.axis == "form" and line.name != "effective forms"
            less = said_better or form or ASIDE[self.table].match(line.name)
            (aside if less else main).lines.append(line)
        return (main, aside) if main.lines else (aside, main)

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Population → the n of most of its figures, and of how many texts these are (0: of all, or unknown)."""
        found = {}
        for of in self.populations:
            measures = [line.by[of] for line in self.lines if of in line.by and line.by[of].value is not None]
            ns = Counter(measure.n for measure in measures if measure.n)
            if ns:
                n = ns.most_common(1)[0][0]
                sized = [
                    at
                    for measure in measures
                    if self.table != "coverage" and measure.n == n and (at := _SIZE.search(measure.note))
                ]
                wholes = Counter(_whole(at[2]) for at in sized if _whole(at[1]) == n)
                found[of] = (n, wholes.most_common(1)[0][0] if wholes else 0)
        return found

    @property
    def words(self) -> str:
        """To how many words texts are cut where length matters; empty where none are, or not to one length."""
        notes = [measure.note for line in self.lines for measure in line.by.values()]
        found = {at[3] for note in notes if (at := _SIZE.search(note)) and at[3]}
        return found.pop() if len(found) == 1 else ""

    @property
    def embedders(self) -> list[str]:
        """Every embedder that some figure of the table is taken by."""
        return list(dict.fromkeys(m.embedder for line in self.lines for m in line.by.values() if m.embedder))

    @property
    def missing(self) -> list[tuple[Line, Measure]]:
        """The lines that lack something by name, each with the measure that says so.

        That is what landed, else kept rows; of a file the rows by their labels, else what landed. Of the lines of one
        axis the one that names what real rows have comes first, then the one that lacks least: the highest level that
        lacks something, whose names say most; the others lack what is below those names, and more.
        """
        named = ((line, [m for m in line.by.values() if m.missing]) for line in self.lines)
        found = [(line, min(missing, key=lambda m: _says(line, m.of))) for line, missing in named if missing]
        axes = list(dict.fromkeys(line.axis for line, _ in found))
        return sorted(found, key=lambda pair: (axes.index(pair[0].axis), pair[0].name != REAL, len(pair[1].missing)))

    def told_missing(self) -> list[tuple[Line, Measure, str, str]]:
        """The first of `missing` for each axis, whose it is, and a clause on how many the axis's other lines lack.

        Where both what landed and accepted rows lack names, both are told: gates are of accepted rows.
        """
        by_axis: dict[str, list[tuple[Line, Measure]]] = {}
        for line, measure in self.missing:
            by_axis.setdefault(line.axis, []).append((line, measure))
        told = []
        for (line, measure), *rest in by_axis.values():
            others = ", ".join(f"{figures.count(len(m.missing))} of {other.name}" for other, m in rest)
            also = f"; also {others}" if others else ""
            where = ", landed" if measure.of == "landed" else ""
            kept = line.by.get("kept")
            if where and kept is not None and kept.missing:
                accepted = population(self.table, "kept")
                if set(kept.missing) == set(measure.missing):
                    where = f", {accepted} and landed"
                else:
                    told.append((line, kept, f", {accepted}", ""))
            told.append((line, measure, where, also))
        return told


def _whole(written: str) -> int:
    return int(written.replace(",", ""))


def _why(reasons: Mapping[str, str]) -> tuple[str, str]:
    """Why a line has no figure in any column, and how many it needs where that is why.

    Where columns differ each is named: `too few: raw 172, kept 50 texts` and `59`.
    """
    found = {of: _NEEDS.match(reason) for of, reason in reasons.items()}
    counts = {of: few[1] for of, few in found.items() if few}
    kinds = {(few[2], few[3]) for few in found.values() if few}
    if len(kinds) == 1 and len(counts) == len(reasons):
        what, needed = kinds.pop()
        same = len(set(counts.values())) == 1
        return f"too few: {next(iter(counts.values())) if same else _join(counts)} {what}", needed
    if len(set(reasons.values())) == 1:
        return next(iter(reasons.values())), ""
    by: dict[str, list[str]] = {}
    for of, reason in reasons.items():
        by.setdefault(reason, []).append(of)
    return "; ".join(f"{', '.join(of)}: {reason}" for reason, of in by.items()), ""


def _join(counts: Mapping[str, str]) -> str:
    return ", ".join(f"{of} {count}" for of, count in counts.items())


@dataclass(slots=True)
class Notes:
    """Footnotes of one table: equal sentences share a number."""

    numbers: dict[str, int] = field(default_factory=dict)
    definitions: Mapping[str, str] = field(default_factory=dict)
    control_of: str = ""
    """Both are told once for the whole table, without marks."""
    control_told: bool = False
    """Whether some control stands without its name beside it."""
    shown: bool = True
    """Whether footnotes are printed; else there are no marks either."""

    @property
    def of_all(self) -> list[str]:
        """What is told once for the whole table."""
        columns = [f"{population('coverage', of)}: {what}" for of, what in self.definitions.items()]
        return [*columns, f"control: {self.control_of}"] if self.control_told and self.control_of else columns

    def asides(self, line: Line, shown: Sequence[str]) -> Iterator[str]:
        """What else is particular to a line."""
        return line.asides(shown, self.definitions, self.control_of)

    def control(self, measure: Measure) -> list[str]:
        """What the control of a figure is of, where the table has more than one kind."""
        self.control_told = True
        return [f"control: {measure.control_of}"] if measure.control_of not in {"", self.control_of} else []

    def copy(self) -> Notes:
        """One to try a setting with."""
        return replace(self, numbers=dict(self.numbers))

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


def empty(measures: Sequence[Measure]) -> dict[str, str]:
    """Population → the commonest reason, of those with no figure in any table; empty where no other has one either."""
    reasons: dict[str, Counter[str]] = {}
    for measure in measures:
        reasons.setdefault(measure.of, Counter())[_note(measure)] += 1
    told = {measure.of for measure in measures if measure.value is not None}
    return {of: notes.most_common(1)[0][0] for of, notes in reasons.items() if of not in told} if told else {}
