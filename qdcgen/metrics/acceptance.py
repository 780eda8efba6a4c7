"""Metric `acceptance`: what the filters let through, and what each one stopped."""

from __future__ import annotations

import re
from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import wilson
from qdcgen.parts import UNDECIDED, Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from qdcgen.parts import Sample

SHOWN = 70
"""Letters of a reason that a note shows."""


class Acceptance(Metric):
    """Accepted over attempted; for each filter, rejected over rows that reached it; failed over attempted, by kind.

    Counts every candidate ever made but those of regions that left the recipe. Wilson intervals. Rows reach a filter
    when all that see rows before it said yes. Rows that were good but no longer needed (`surplus`) reached and passed
    all of them. A row that a critic gave no verdict on is rejected, and counted in the note (`undecided`).

    What makes it lie: acceptance is not quality. A filter that lets everything through has the best share of all, and
    candidates of one region are not independent, so intervals are too narrow where regions differ.
    """

    table: ClassVar[str] = "quality"
    gates: ClassVar[tuple[str, ...]] = ("accepted", "failed", "rejected")

    reasons: int = Field(default=3, ge=0, le=20)
    """Most common reasons that a note names."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Accepted, failed (all and by kind), surplus, and one measure for each filter; of all that was made."""
        import polars as pl

        history = sample.attempts
        if history is None or "_kept" not in history.columns or history.height == 0:
            why = "too few: nothing was attempted" if history is not None else "no history of candidates is at hand"
            return [Measure("quality", "accepted", None, of="raw", note=why)]
        waiting = 0
        if "_state" in history.columns:
            history = history.filter(pl.col("_state") != "retired")
            waiting = history.filter(pl.col("_state") == "unjudged").height
            history = history.filter(pl.col("_state") != "unjudged")
        n = history.height + waiting
        blank = pl.lit(None, dtype=pl.String)
        columns = [pl.col(name) if name in history.columns else blank.alias(name) for name in ("_filter", "_reason")]
        said = history.select(pl.col("_kept").fill_null(value=False), *columns)
        kept = int(said["_kept"].sum())
        refused = said.filter(~pl.col("_kept"))
        by: dict[str, list[str]] = {}
        for name, reason in refused.select("_filter", "_reason").iter_rows():
            by.setdefault(name or "unknown", []).append(reason or "")
        failed, surplus = by.pop("fault", []), by.pop("surplus", [])
        found = [_share("accepted", kept, n, f"{kept} of {n} candidates")]
        if failed or not by:
            found.append(_share("failed", len(failed), n, _common(failed, self.reasons)))
        kinds = Counter(reason.partition(":")[0].strip()[:SHOWN] or "no reason given" for reason in failed)
        found += [
            _share("failed", count, n, "", axis=kind)
            for kind, count in sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))[: self.reasons]
            if len(kinds) > 1
        ]
        if surplus:
            found.append(_share("surplus", len(surplus), n, "good, and more than was asked for"))
        if waiting:
            found.append(_share("not judged yet", waiting, n, ""))
        reached = history.height - len(failed)
        for name in _order(sample.filters, by):
            reasons = by.get(name, [])
            unclear = sum(reason.startswith(UNDECIDED) for reason in reasons)
            clear = [reason for reason in reasons if not reason.startswith(UNDECIDED)]
            note = "; ".join(filter(None, (f"{unclear} undecided" * bool(unclear), _common(clear, self.reasons))))
            found.append(_share("rejected", len(reasons), reached, note, axis=name))
            reached -= len(reasons)
        return found


def _order(filters: Sequence[str], by: Mapping[str, Sequence[str]]) -> list[str]:
    """The order in which they see rows, then filters that only the history knows (of an earlier recipe)."""
    return [*dict.fromkeys(filters), *(name for name in by if name not in filters)]


def _share(name: str, hits: int, n: int, note: str, axis: str = "") -> Measure:
    if n == 0:
        return Measure("quality", name, None, of="raw", axis=axis, note="too few: no row got this far")
    return Measure("quality", name, hits / n, n=n, interval=wilson(hits, n), of="raw", axis=axis, note=note)


NAMED = re.compile(r'\b[0-9a-f]{16}\b|"[^"]*(?:"|$)|(?<!\w)\'[^\']*\'(?!\w)')
"""Names of rows and quoted words: no two reasons share them."""
FIGURE = re.compile(r"\d+(?:\.\d+)?")
FORMS = 3
"""Reasons that differ in figures alone are told one by one up to so many of them, and together beyond."""
TOLD = re.compile(r"; |: ")


def _common(reasons: Sequence[str], most: int) -> str:
    """The most common reasons with counts: what only one row is about is left out, so that alike ones add up.

    Of reasons with one beginning, up to the first colon or semicolon, the rest is left out where it is another on most
    rows: there critics write what they found. Reasons that are all different are told by an example.
    """
    found: Counter[str] = Counter()
    for shapes in _grouped(NAMED.sub("…", reason) for reason in reasons if reason).values():
        found.update(shapes)
    ranked = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    if ranked and ranked[0][1] == 1 and len(found) > most:
        return f"{len(found)} reasons, each another, e.g. {_clipped(ranked[0][0])}" if most else ""
    return "; ".join(f"{count} × {_clipped(shape)}" for shape, count in ranked)


def _grouped(reasons: Iterable[str]) -> dict[str, Counter[str]]:
    """Beginning, without its figures → the reasons that begin so, as they are told, and how many of each."""
    begun: dict[str, list[str]] = {}
    for reason in reasons:
        begun.setdefault(FIGURE.sub("#", TOLD.split(reason, maxsplit=1)[0]), []).append(reason)
    return {head: Counter(_merged(list(map(_shortened, of)) if _differs(of) else of)) for head, of in begun.items()}


def _differs(reasons: Sequence[str]) -> bool:
    """Whether most of them go on in their own way after the beginning; after a semicolon figures count too."""
    rest = [(TOLD.search(reason), reason) for reason in reasons]
    ends = [reason[at.end() :] if at[0] == "; " else FIGURE.sub("#", reason[at.end() :]) for at, reason in rest if at]
    return len(ends) > 1 and 2 * len(set(ends)) > len(ends)


def _shortened(reason: str) -> str:
    at = TOLD.search(reason)
    return f"{reason[: at.end()]}…" if at else reason


def _merged(reasons: Sequence[str]) -> Iterator[str]:
    """Each reason, but where many differ in figures alone, with the span of those that differ: `3 to 19 words`."""
    alike: dict[str, list[str]] = {}
    for reason in reasons:
        alike.setdefault(FIGURE.sub("#", reason), []).append(reason)
    for of in alike.values():
        if len(set(of)) <= FORMS:
            yield from of
            continue
        figures = [sorted(set(said), key=float) for said in zip(*map(FIGURE.findall, of), strict=True)]
        spans = [f"{said[0]} to {said[-1]}" if len(said) > 1 else said[0] for said in figures]
        whole = "".join(map("".join, zip_longest(FIGURE.split(of[0]), spans, fillvalue="")))
        yield from [whole] * len(of)


def _clipped(shape: str) -> str:
    return shape if len(shape) <= SHOWN else f"{shape[: SHOWN - 1]}…"
