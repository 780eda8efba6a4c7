"""The quality-diversity curve as tables: one row a threshold, the laxest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdcgen.report import figures
from qdcgen.report.sheets import Row, Sheet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qdcgen.report.contents import Curve, Point
    from qdcgen.report.sheets import Cell
    from qdcgen.rows import Measure

__all__ = ["sheets", "threshold"]

_BAR = 10
_SHORT = {"mean pairwise distance": "distance", "Vendi score": "Vendi\nscore", "asked to be hard": "asked\nhard"}


def threshold(value: float | None, keeps: str) -> str:
    """`≥ 3`, `< 0.9`, `all`: what is kept at a threshold; None is one that every score reaches."""
    return "all" if value is None else f"{'≥' if keeps == 'above' else '<'} {value:.4g}"


def sheets(curve: Curve) -> list[Sheet]:
    """What is kept and covered, and how varied and hard it is."""
    marked = any(_mark(one) for point in curve.points for one in point.measures)
    regions = any(one.table == "coverage" for point in curve.points for one in point.measures)
    rows_seen = f"{figures.count(curve.scored + curve.undecided)} rows that {curve.filter} saw"
    return [
        Sheet(
            "what is kept, and which regions are left",
            ("", "rows", f"share of\n{figures.count(curve.scored + curve.undecided)}", *_headers(curve, "coverage")),
            tuple(_row(curve, point, _kept(point)) for point in curve.points),
            tuple(_kept_notes(rows_seen, regions=regions, marked=marked)),
            words=frozenset({0}),
            label="threshold",
        ),
        Sheet(
            "how varied and how hard the rows kept are",
            _headers(curve, "diversity", "complexity"),
            tuple(_row(curve, point, _varied(point)) for point in curve.points),
            tuple(_varied_notes(curve)),
            label="threshold",
        ),
    ]


def _row(curve: Curve, point: Point, cells: Iterable[Cell]) -> Row:
    name = threshold(point.threshold, curve.keeps) + (" (recipe)" if point.now else "")
    return Row(0, name, name, tuple(cells))


def _headers(curve: Curve, *tables: str) -> tuple[str, ...]:
    """Of the figures of these tables, the axis above the name."""
    first = curve.points[0].measures if curve.points else ()
    found = []
    for one in first:
        if one.table in tables:
            name = _SHORT.get(one.name, one.name)
            found.append("\n".join([*(figures.clip(part, 12) for part in _parted(one.axis)), name]))
    return tuple(found)


def _parted(axis: str) -> list[str]:
    one, times, other = axis.partition(" × ")
    return [f"{one} ×", other] if times else [one] if one else []


def _kept(point: Point) -> Iterator[Cell]:
    for one in point.measures:
        if one.name == "kept":
            yield figures.bar(one.value or 0.0, _BAR), ""
            yield figures.count(point.kept), ""
            yield figures.value(one, one.value), figures.interval(one)
        elif one.table == "coverage":
            cells = int(one.unit.removeprefix("of "))
            expected = f"{(one.control or 0) * cells:.1f}"
            yield f"{round((one.value or 0) * cells):,}/{cells:,}{_mark(one)}", expected


def _varied(point: Point) -> Iterator[Cell]:
    for one in point.measures:
        if one.table in {"diversity", "complexity"}:
            mark = _mark(one) if one.value is not None else ""
            yield figures.value(one, one.value) + mark, figures.interval(one)


def _mark(one: Measure) -> str:
    if one.value is None or not one.note.endswith("than by chance"):
        return ""
    return "▴" if one.note.startswith("more") else "▾"


def _kept_notes(seen: str, *, regions: bool, marked: bool) -> Iterator[str]:
    yield f"share of the {seen}; below it, as below all that follows: 95 % interval"
    if regions:
        yield "below leaves and pairs: expected of as many rows drawn at random"
    if marked:
        yield "▾ ▴: less, or more, than as many rows drawn at random give; chance alone marks 1 page in 20 at most"


def _varied_notes(curve: Curve) -> Iterator[str]:
    measures = [one for point in curve.points for one in point.measures]
    controls = {
        one.name: one for one in measures if one.control is not None and one.table in {"diversity", "complexity"}
    }
    if controls:
        said = (f"{_SHORT.get(name, name)} {figures.value(one, one.control)}" for name, one in controls.items())
        yield f"as many rows drawn at random: {', '.join(said).replace(chr(10), ' ')}"
    yield "distance: mean cosine distance over all pairs of the rows kept; it does not depend on n"
    if curve.equal_n is not None:
        at = f"at equal n {figures.count(curve.equal_n)} for every threshold"
        yield f"Vendi score, and distinct (share left when each group of near-duplicates keeps one): {at}"
    yield from (f"embedder: {name}" for name in dict.fromkeys(one.embedder for one in measures if one.embedder))
    if few := [
        threshold(point.threshold, curve.keeps)
        for point in curve.points
        if any(one.value is None for one in point.measures)
    ]:
        yield f"{', '.join(few)}: too few rows for figures that depend on size"
