"""What is told axis by axis instead of figure by figure: what each axis does to the text, where numbers of a layer lie.

Five figures an axis and six a layer would be sixty lines of a table in which populations stand side by side: here each
axis has one row, what holds for all of them is said once below, and intervals or controls are a second, dim line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qdcgen.report import figures
from qdcgen.report.grid import ALIKE, DOES, LIES, READ_BACK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qdcgen.report.grid import Grid
    from qdcgen.rows import Measure

__all__ = ["Cell", "Row", "Sheet", "sheets"]

_FEW = 2
Cell = tuple[str, str]
"""A figure, and its interval or control; both may be empty."""

_EXPLAINED, _READ, _LOST, _EFFECT, _COPIED = DOES
_VERDICT = re.compile(r"effective|unclear|decorative")
_SHUFFLES = re.compile(r" of (\d+) shuffles")
_WITHIN = re.compile(r"shuffled ((?:over all rows|within mixes).*)$")


@dataclass(frozen=True, slots=True)
class Row:
    """One axis, layer, or part of a struct."""

    depth: int
    """0, or 1 for a part that stands below its struct."""
    label: str
    name: str
    """The label where nothing stands above it: with its struct."""
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of its own with one row per axis."""

    title: str
    """Empty where the section's own name says it."""
    headers: tuple[str, ...]
    """Of the columns beside the label; a line break where a header may take two lines."""
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    """Sentences for below the table, each of all rows or naming those that it is of."""
    legend: tuple[str, ...] = ()
    """Sentences on what the columns are and how they are taken: footnotes."""
    words: frozenset[int] = frozenset()
    """Columns of words, set left; those of figures are set right."""
    spare: frozenset[int] = frozenset()
    """Columns whose second line is the first to go where there is little room."""
    label: str = "axis"
    """What the labels of the rows are, in Markdown."""

    tight: bool = False
    """Whether a short page shows the figures alone; else intervals or controls stay below them."""

    told: bool = False
    """Whether a short page tells two rows or fewer in a sentence each."""

    def sentences(self) -> list[str]:
        """Each row in words."""
        said = []
        for row in self.rows:
            told = [
                figure if place in self.words else f"{header} {figure}"
                for place, (header, (figure, _)) in enumerate(zip(self.headers, row.cells, strict=True))
                if figure
            ]
            said.append(f"{row.name}: {', '.join(told)}".replace("\n", " "))
        return said

    def short(self) -> Sheet:
        """The sheet for a page without footnotes: no column without a figure."""
        if not self.rows:
            return self
        blank = {
            place
            for place in range(len(self.headers))
            if all(row.cells[place][0] in {"", figures.BLANK} for row in self.rows)
        }
        left = [place for place in range(len(self.headers)) if place not in blank]
        return replace(
            self,
            told=self.told and len(self.rows) <= _FEW,
            headers=tuple(self.headers[place] for place in left),
            rows=tuple(
                replace(row, cells=tuple(self._shortened(row.cells[place], place) for place in left))
                for row in self.rows
            ),
            words=frozenset(left.index(place) for place in self.words if place in left),
            spare=frozenset(left.index(place) for place in self.spare if place in left),
        )

    def _shortened(self, cell: Cell, place: int) -> Cell:
        if not self.tight:
            return cell
        return cell if place in self.words else (cell[0], "")


def sheets(grid: Grid) -> list[Sheet]:
    """One sheet per population of what `Grid.parted` splits off as told axis by axis."""
    found: dict[str, list[Measure]] = {}
    models: dict[str, list[Measure]] = {}
    for line in grid.lines:
        if line.name == ALIKE:
            for of, measure in line.by.items():
                models.setdefault(of, []).append(measure)
            continue
        for of, measure in line.by.items():
            # where the texts of accepted rows lie is a population of its own; of a file it is not
            found.setdefault("kept" if of == "landed" else of, []).append(measure)
    told: list[Sheet] = []
    for of, measures in found.items():
        which = "" if of == "kept" or len(found) == 1 else f" ({of})"
        explained = any(sheet.rows for sheet in told)  # what the columns are is told once
        told.append(
            _does(measures, which, explained=explained) if grid.table == "diversity" else _lies(measures, which)
        )
    # Which models are alike is a matter of the models: filters hardly change it, and the rest is in the JSON.
    met = [one for one in (models.get("kept") or next(iter(models.values()), [])) if one.value is not None]
    return [*told, _alike(met)] if len(met) > 1 else told


# ── which models write alike ────────────────────────────────────────────────────────────────────────────────────────


def _alike(measures: Sequence[Measure]) -> Sheet:
    """The pairs of models most and least alike, and each model with itself where that is known."""
    ranked = sorted(measures, key=lambda measure: -(measure.value or 0.0))
    shown = ranked if len(ranked) <= 2 * _PAIRS else [*ranked[:_PAIRS], *ranked[-_PAIRS:]]
    rows = tuple(
        Row(0, one.axis, one.axis, (_cell(one), (_control(one), ""), (figures.count(one.n), ""))) for one in shown
    )
    left = len(ranked) - len(shown)
    note = "cosine of two texts of one mix, beside that of two texts of different mixes"
    return Sheet(
        "models most and least alike",
        ("one\nmix", "other\nmixes", "mixes"),
        rows,
        (f"{note}; {left} more pairs in --json" if left else note,),
        label="models",
    )


_PAIRS = 3


# ── what each axis does to the text ─────────────────────────────────────────────────────────────────────────────────


def _does(measures: Sequence[Measure], of: str, *, explained: bool) -> Sheet:
    by: dict[str, dict[str, Measure]] = {}
    for measure in measures:
        by.setdefault(measure.axis, {})[measure.name] = measure
    silent = {axis for axis, own in by.items() if _EXPLAINED in own and own[_EXPLAINED].value is None}
    structs: dict[str, list[str]] = {}
    for axis in by:
        whole = axis.partition(".")[0]
        structs.setdefault(whole, []).extend([] if axis == whole else [axis])
    rows = []
    for whole, parts in structs.items():
        shown = [part for part in parts if part not in silent]
        if shown or (not parts and whole not in silent):
            rows.append(Row(0, whole, whole, _does_cells(by.get(whole, {}))))
        rows += [Row(1, part.partition(".")[2], part, _does_cells(by[part])) for part in shown]
    return Sheet(
        f"what each axis does to the text{of}{_rows(own[_EXPLAINED] for own in by.values() if _EXPLAINED in own)}",
        ("explained\nε²", "read\nback", "by\nchance", "lost when\nfrozen", "p", "copied", "verdict"),
        tuple(rows),
        tuple(_does_notes(by) if rows else _grouped(by, _EXPLAINED)),
        tuple([*(() if explained else _DOES_LEGEND), *_does_legend(by, silent)] if rows else ()),
        words=frozenset({6}),
        spare=frozenset({4, 5}),
        tight=True,
    )


def _does_cells(own: Mapping[str, Measure]) -> tuple[Cell, ...]:
    explained, read, lost, effect, copied = (_cell(own.get(name)) for name in DOES)
    chance = (_control(own.get(_READ)), "")
    told = own[_EFFECT].note.removeprefix(f"{own[_EFFECT].axis} is ") if _EFFECT in own else ""
    word = _VERDICT.search(told)
    leaking = "leaking" if _leaks(own) else ""
    verdict = (word[0], leaking) if word else (leaking, "")
    return (explained, read, chance, lost, effect, copied, verdict)


_DOES_LEGEND = (
    "explained: share of the texts' variation beyond chance, of a layer beyond its mix too; intervals: 95 %",
    "read back: held out; by chance: the commonest value or shuffled values, whichever is better",
    "lost when frozen: share of the Vendi score that as many rows with one value lack",
    "copied: rows with its name as a label, five words of its value or its drawn numbers",
    "effective: p of 0.05 at most; unclear: more, but read back surely better than by chance; decorative: neither",
    "leaking: surely copied by 1 % of rows more than by chance",
)


def _does_legend(by: Mapping[str, Mapping[str, Measure]], silent: set[str]) -> Iterable[str]:
    def controls(name: str) -> str:
        found = [m for own in by.values() if (m := own.get(name)) is not None and m.control is not None]
        return _span(figures.value(m, m.control) for m in sorted(found, key=lambda m: m.control or 0))

    effects = [own[_EFFECT] for own in by.values() if _EFFECT in own and own[_EFFECT].value is not None]
    least = min((int(n[1]) for one in effects if (n := _SHUFFLES.search(one.note))), default=0)
    adjusted = f", adjusted for {len(effects)} axes" if len(effects) > 1 else ""
    shuffled: dict[str, list[str]] = {}
    for one in effects:
        if within := _WITHIN.search(one.note):
            shuffled.setdefault(within[1], []).append(one.axis)
    chance = (
        ("explained, 19 of 20 shuffles stay below", controls(_EXPLAINED)),
        ("lost when frozen, shuffled values", controls(_LOST)),
        ("copied, values of other rows", controls(_COPIED)),
    )
    if said := "; ".join(f"{what}: {figure}" for what, figure in chance if figure):
        yield f"by chance: {said}"
    yield (
        f"p: {f'{least} shuffles at least' if least else 'of shuffled values'}{adjusted}"
        + "".join(f"; shuffled {within}{axes}" for within, axes in _few(shuffled))
    )
    kinds: dict[str, list[str]] = {}
    for axis, own in by.items():
        if axis not in silent and _EXPLAINED in own and own[_EXPLAINED].note:
            kinds.setdefault(own[_EXPLAINED].note, []).append(axis)
    yield from (f"{kind}: {', '.join(axes)}" for kind, axes in kinds.items())
    yield from (
        f"lost when frozen, {line}"
        for line in _grouped({axis: own for axis, own in by.items() if axis not in silent}, _LOST)
    )
    yield from _embedders(one for own in by.values() for one in own.values())


def _does_notes(by: Mapping[str, Mapping[str, Measure]]) -> Iterable[str]:
    yield from (f"{axis}, {own[_COPIED].note}" for axis, own in by.items() if _leaks(own))
    yield from _grouped(by, _EXPLAINED)


def _few(kinds: Mapping[str, Sequence[str]]) -> Iterable[tuple[str, str]]:
    """Each kind with its axes by name; of the most frequent one, the last, that it is all the others."""
    first, *rest = sorted(kinds, key=lambda kind: -len(kinds[kind])) or [""]
    yield from ((kind, f": {', '.join(kinds[kind])}") for kind in rest)
    if first:
        yield first, ": all others" if rest else ""


def _leaks(own: Mapping[str, Measure]) -> bool:
    return _COPIED in own and own[_COPIED].note.startswith("leaking")


# ── where the numbers of a layer lie ────────────────────────────────────────────────────────────────────────────────


def _lies(measures: Sequence[Measure], of: str) -> Sheet:
    drawn: dict[str, dict[str, Measure]] = {}
    read: dict[str, dict[str, Measure]] = {}
    told = [one for one in measures if one.name == READ_BACK]
    for one in measures:
        if one.name != READ_BACK:
            first = drawn.setdefault(one.axis, {})
            # of a file both have its name: what was drawn comes first
            (read.setdefault(one.axis, {}) if one.of == "landed" or one.name in first else first)[one.name] = one
    rows = []
    for axis, own in drawn.items():
        known = [
            (source, figures_of)
            for source, figures_of in (("drawn", own), ("read", read.get(axis, {})))
            if any(one.value is not None for one in figures_of.values())
        ]
        for source, figures_of in known:
            label = axis if source == known[0][0] else ""
            rows.append(Row(0, label, axis, ((source, ""), *(_beside(figures_of.get(name)) for name in LIES))))
    return Sheet(
        f"where the numbers of a layer lie{of}{_rows(one for own in drawn.values() for one in own.values())}",
        (
            "from",
            "support\ncoverage",
            "hull",
            "closest\npair",
            "mean\ndistance",
            "largest\nempty\nball",
            "KL to\nSobol",
        ),
        tuple(rows),
        tuple(_lies_notes(drawn, read, told)),
        tuple(_lies_legend(drawn, read, told)),
        words=frozenset({0}),
        tight=True,
        told=True,
    )


def _lies_notes(
    drawn: Mapping[str, Mapping[str, Measure]], read: Mapping[str, Mapping[str, Measure]], told: Sequence[Measure]
) -> Iterable[str]:
    known = [one for one in told if one.value is not None]
    if known:
        each = (
            f"{one.axis} {figures.value(one, one.value)}{f' ({between})' if (between := figures.interval(one)) else ''}"
            for one in known
        )
        yield f"R² of positions read back, held out: {', '.join(each)}"
    yield from _grouped({one.axis: {READ_BACK: one} for one in told}, READ_BACK)
    yield from _grouped(drawn, *LIES)
    # where nothing was drawn, or no position is read back, that says it all
    axes = {one.axis for one in known}
    yield from _grouped(
        {axis: own for axis, own in read.items() if axis in drawn and axis not in axes}, *LIES, of="read, "
    )


def _lies_legend(
    drawn: Mapping[str, Mapping[str, Measure]], read: Mapping[str, Mapping[str, Measure]], told: Sequence[Measure]
) -> Iterable[str]:
    some = any(one.value is not None for own in read.values() for one in own.values())
    controls = dict.fromkeys(one.control_of for own in drawn.values() for one in own.values() if one.control_of)
    if controls:
        lower = "; read: drawn to the middle, so a lower bound of the cover" if some else ""
        yield f"second figure: {', '.join(controls)} of as many; closest pair and mean: distance{lower}"
    for axis, own in drawn.items():
        if dimensions := next((one.note for one in own.values() if one.value is not None and " in " in one.note), ""):
            yield f"{axis}: {dimensions}"
    known = [one for one in told if one.value is not None]
    if known:
        chance = _span(figures.value(one, one.control) for one in known if one.control is not None)
        yield f"R² of 0 or less: no better than their mean{f'; shuffled positions: {chance}' if chance else ''}"
    axes = {one.axis for one in known}
    yield from _grouped({axis: own for axis, own in read.items() if axis in drawn and axis in axes}, *LIES, of="read, ")
    yield from _embedders(told)


# ── both ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _cell(measure: Measure | None) -> Cell:
    return ("", "") if measure is None else (figures.value(measure, measure.value), figures.interval(measure))


def _control(measure: Measure | None) -> str:
    return "" if measure is None or measure.control is None else figures.value(measure, measure.control)


def _beside(measure: Measure | None) -> Cell:
    return ("", "") if measure is None else (figures.value(measure, measure.value), _control(measure))


def _rows(measures: Iterable[Measure]) -> str:
    """`, n 200`, or from the least to the most."""
    counts = sorted({measure.n for measure in measures if measure.value is not None})
    return f", n {_span(map(figures.count, counts))}" if counts else ""


def _span(written: Iterable[str]) -> str:
    found = list(dict.fromkeys(written))
    return f"{found[0]} to {found[-1]}" if len(found) > 1 else "".join(found)


def _embedders(measures: Iterable[Measure]) -> Iterable[str]:
    yield from (f"embedder: {name}" for name in dict.fromkeys(one.embedder for one in measures if one.embedder))


def _grouped(by: Mapping[str, Mapping[str, Measure]], *names: str, of: str = "") -> list[str]:
    """Why these figures are missing: once for all the axes that lack them for one reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for axis, own in by.items():
        lacking = [own[name] for name in names if name in own and own[name].value is None]
        for reason in dict.fromkeys(one.note or "not computed; the metric does not say why" for one in lacking):
            these = [one.name for one in lacking if one.note == reason or not one.note]
            which = f"{', '.join(these)}, " if len(these) < sum(name in own for name in names) else ""
            found.setdefault((which, reason), []).append(axis)
    return [f"{of}{which}{', '.join(axes)}: {reason}" for (which, reason), axes in found.items()]
