"""The table of attrition on its way to a page: one row per filter, what is lost and who is turned down more below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdcgen.report import figures
from qdcgen.report.sheets import Row, Sheet
from qdcgen.safe import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qdcgen.report.contents import Attrition, Change, Loss, Sieve, Skew
    from qdcgen.report.sheets import Cell

__all__ = ["QUESTION", "claims", "remarks", "sheet"]

QUESTION = "what each filter takes away: rows, regions, diversity, difficulty"
SURE = 0.05
"""Adjusted p below which something is told."""
TOLD = 4
"""Skews of a filter that a page tells; `--json` has all."""
_HEADERS = {"long words": "long\nwords", "asked difficulty": "asked\ndiffic.", "asked to be hard": "asked\nhard"}
_FRACTIONS = ("distance", "long words", "asked to be hard")


def sheet(attrition: Attrition, *, whole: bool = True) -> Sheet:
    """The figures: first what was made and is whole, then filter by filter.

    Not `whole`: no columns and notes for changes where no filter took a row.
    """
    idle = [sieve.name for sieve in attrition.sieves if sieve.came == sieve.went and not whole]
    at_work = [sieve for sieve in attrition.sieves if sieve.name not in idle]
    names = list(dict.fromkeys(change.name for sieve in at_work for change in sieve.changes))
    pairs = any(loss.pairs for sieve in attrition.sieves for loss in sieve.losses)
    unclear = any(sieve.undecided for sieve in attrition.sieves)
    lost = ["leaves\nlost", *(["pairs\nlost"] if pairs else [])]
    headers = ["in", "out", *(["no\nverdict"] if unclear else []), *lost]
    headers += [_HEADERS.get(name) or figures.clip(printable(name), 12) for name in names]
    made: list[Cell] = [(figures.count(attrition.made), ""), (figures.count(attrition.whole), "")]
    rows = [Row(0, "made", "made", (*made, *[("", "")] * (len(headers) - 2)))]
    for sieve in attrition.sieves:
        cells: list[Cell] = [(figures.count(sieve.came), ""), (figures.count(sieve.went), "")]
        if unclear:
            cells.append((figures.count(sieve.undecided), ""))
        cells += [_lost(sieve, pairs=False), *([_lost(sieve, pairs=True)] if pairs else [])]
        by = {change.name: change for change in sieve.changes}
        cells += [_change(by.get(name)) for name in names]
        rows.append(Row(0, sieve.name, sieve.name, tuple(cells)))
    legend, notes = tuple(_legend(attrition, names)), tuple(_notes(attrition, names, idle))
    return Sheet("", tuple(headers), tuple(rows), notes, legend, label="filter")


def _lost(sieve: Sieve, *, pairs: bool) -> Cell:
    of = [loss for loss in sieve.losses if loss.pairs == pairs]
    if not of:
        return (figures.BLANK, "") if sieve.came != sieve.went else ("0", "")
    expected = sum(loss.chance for loss in of)
    return figures.count(sum(loss.lost for loss in of)), _few(expected)


def _few(expected: float) -> str:
    """A count by chance: `0.3`, `12`."""
    return "<0.1" if 0 < expected < 0.05 else f"{expected:.1f}" if expected < 10 else figures.count(expected)  # noqa: PLR2004


def _change(change: Change | None) -> Cell:
    if change is None or change.change is None:
        return figures.BLANK, ""
    digits = 3 if change.name in _FRACTIONS else 2 if abs(change.change) < 10 else 1  # noqa: PLR2004
    large = abs(change.change) >= 1e6  # noqa: PLR2004
    value = f"{change.change:+.3g}" if large else f"{change.change:+,.{digits}f}" if change.change else "0"
    if change.interval is None:
        return value, ""
    low, high = change.interval
    return value, f"±{(high - low) / 2:.3g}" if large else f"±{(high - low) / 2:,.{digits}f}"


def _notes(attrition: Attrition, names: Sequence[str], idle: Sequence[str]) -> Iterator[str]:
    if attrition.made > attrition.whole:
        yield f"made: {figures.count(attrition.made - attrition.whole)} failed or were refused, and no filter saw them"
    if attrition.unjudged:
        yield f"{figures.plural(attrition.unjudged, 'row')} not judged yet, and in no other line"
    without: dict[str, list[str]] = {}
    for sieve in attrition.sieves if names else ():
        if sieve.name in idle:
            continue
        if untold := [change.name for change in sieve.changes if change.change is None]:
            without.setdefault(", ".join(untold), []).append(sieve.name)
    yield from (f"too few rows for {untold}: {', '.join(of)}" for untold, of in without.items())


def _legend(attrition: Attrition, names: Sequence[str]) -> Iterator[str]:
    yield (
        "lost: asked-for leaves, or pairs of them, that came in and did not go out; second figure: with as many rows "
        "at random"
    )
    if not names:
        return
    sizes: dict[str, list[str]] = {}
    for sieve in attrition.sieves:
        for change in sieve.changes:
            if change.at:
                sizes.setdefault(figures.count(change.at), []).append(sieve.name)
    at = ", ".join(f"{size} rows" + (f" ({', '.join(own)})" if len(sizes) > 1 else "") for size, own in sizes.items())
    vendi = f"; Vendi score at {at}" if at else ""
    yield (
        "then: figures of the rows that went out less those of the rows that came in, ± 95 % interval; one that "
        f"holds 0 is what chance does; means of rows; distance: mean cosine of all pairs{vendi}"
    )
    yield f"embedder: {attrition.embedder}"


# ── what is told in words ───────────────────────────────────────────────────────────────────────────────────────────


def claims(attrition: Attrition) -> list[str]:
    """What no chance explains, a sentence each: lost regions and skews, filter by filter; or that there are none."""
    found = []
    for sieve in attrition.sieves:
        found += [_loss(sieve.name, loss) for loss in sieve.losses if loss.lost and loss.p < SURE]
        found += [_skew(sieve.name, skew) for skew in sieve.skews[:TOLD]]
        if len(sieve.skews) > TOLD:
            found.append(f"{sieve.name} is skewed against {len(sieve.skews) - TOLD} more values: --json has them")
    tests = f"{figures.plural(attrition.tests, 'test')}, p < {SURE:g} adjusted for all of them (Holm)"
    if found:
        return [*found, f"of {tests}"]
    return [f"no filter loses or turns down any value more than chance does: {tests}"] if attrition.tests else []


def remarks(attrition: Attrition | None) -> list[str]:
    """One sentence for each filter that is skewed."""
    return [
        f"skewed: {_skew(sieve.name, sieve.skews[0])}"
        + (f"; and more of {figures.plural(len(sieve.skews) - 1, 'other value')}" if len(sieve.skews) > 1 else "")
        for sieve in (attrition.sieves if attrition else ())
        if sieve.skews
    ]


def _clipped(name: str) -> str:
    return figures.clip_left(printable(name), 60)


def _loss(name: str, loss: Loss) -> str:
    what = "pairs" if loss.pairs else "leaves"
    more = f" and {figures.count(loss.lost - len(loss.names))} more" if loss.lost > len(loss.names) else ""
    names = ", ".join(map(_clipped, loss.names))
    return (
        f"{name} loses {figures.count(loss.lost)} of {figures.count(loss.of)} {what} of {_clipped(loss.axis)}, "
        f"{_few(loss.chance)} by chance: {names}{more} ({figures.plural(loss.rows, 'row')})"
    )


def _skew(name: str, skew: Skew) -> str:
    low, high = (round(100 * x) for x in skew.interval)
    times = ""
    if skew.ratio is not None and skew.ratio_interval is not None:
        least, most = skew.ratio_interval
        times = f", {skew.ratio:.1f} times as many ({least:.1f}–{most:.1f})"
    return (
        f"{name} rejects {figures.per_cent(skew.rejected, skew.n)} ({low}–{high}, n {figures.count(skew.n)}) of "
        f"{_clipped(skew.axis)}={_clipped(skew.value)}, {figures.per_cent(skew.others_rejected, skew.others)} of the "
        f"rest (n {figures.count(skew.others)}){times}"
    )
