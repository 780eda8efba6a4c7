"""A report as one JSON document, `measures.json` and `--json`, and back.

Keys come in the order of the fields, every number is finite, None stands for what is missing, and an infinite bound of
a range or an interval is None too. The texts are kept as they are: `dumps` writes them so that they are harmless.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, get_args

from qdcgen.errors import UsageError
from qdcgen.report.contents import (
    Attrition,
    Calls,
    Change,
    Confusion,
    Curve,
    GateResult,
    LedgerLine,
    Loss,
    ModelCalls,
    Point,
    Report,
    Sieve,
    Skew,
)
from qdcgen.rows import Measure, Table
from qdcgen.safe import printable_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FORMAT", "document", "dumps", "from_document"]

FORMAT = 1
"""Version of the document; raised when a key changes its meaning or goes."""


def dumps(document: Any) -> str:
    """Indented JSON that holds no control character, direction mark or lone surrogate unescaped; ends with a newline.

    Raises:
        ValueError: a number is not finite.
    """
    return printable_json(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2)) + "\n"


def document(report: Report) -> dict[str, Any]:
    """The report as plain data for JSON. `from_document` gives an equal report, but NaN and infinite values as None."""
    return {
        "format": FORMAT,
        "title": report.title,
        "facts": dict(report.facts),
        "measures": [_measure(measure) for measure in report.measures],
        "ledger": [
            {
                "axis": line.axis,
                "node": line.node,
                "planned": line.planned,
                "attempted": line.attempted,
                "failed": line.failed,
                "refused": line.refused,
                "rejected": dict(line.rejected),
                "duplicate": line.duplicate,
                "accepted": line.accepted,
                "owed": line.owed,
            }
            for line in report.ledger
        ],
        "gates": [
            {
                "table": gate.table,
                "measure": gate.measure,
                "bound": gate.bound,
                "value": _finite(gate.value),
                "holds": gate.holds,
                "file": gate.file,
                "line": gate.line,
                "message": gate.message,
            }
            for gate in report.gates
        ],
        "remarks": list(report.remarks),
        "calls": None
        if report.calls is None
        else {
            "replies": report.calls.replies,
            "tokens_in": report.calls.tokens_in,
            "tokens_out": report.calls.tokens_out,
            "usd": _finite(report.calls.usd),
            "faults": dict(report.calls.faults),
            "models": [{**asdict(one), "usd": _finite(one.usd)} for one in report.calls.models],
        },
        "confused": [asdict(pair) for pair in report.confused],
        "attrition": None if report.attrition is None else _strict(asdict(report.attrition)),
        **({"curve": _curve(report.curve)} if report.curve is not None else {}),
    }


def _strict(data: Any) -> Any:
    """The same with no number that is not finite, and lists for tuples."""
    if isinstance(data, dict):
        return {key: _strict(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_strict(value) for value in data]
    return _finite(data) if isinstance(data, float) else data


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "filter": curve.filter,
        "keeps": curve.keeps,
        "threshold": curve.threshold,
        "scored": curve.scored,
        "undecided": curve.undecided,
        "dropped": dict(curve.dropped),
        "equal_n": curve.equal_n,
        "points": [
            {
                "threshold": point.threshold,
                "now": point.now,
                "kept": point.kept,
                "measures": [_measure(measure) for measure in point.measures],
            }
            for point in curve.points
        ],
        "remarks": list(curve.remarks),
    }


def _measure(measure: Measure) -> dict[str, Any]:
    bounds = measure.interval
    return {
        "table": measure.table,
        "name": measure.name,
        "axis": measure.axis,
        "of": measure.of,
        "value": _finite(measure.value),
        "unit": measure.unit,
        "range": [_finite(bound) for bound in measure.range],
        "n": measure.n,
        "interval": None if bounds is None or any(map(math.isnan, bounds)) else [_finite(bound) for bound in bounds],
        "control": _finite(measure.control),
        "control_of": measure.control_of,
        "embedder": measure.embedder,
        "note": measure.note,
        "missing": list(measure.missing),
    }


def _finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None


def from_document(data: Mapping[str, Any]) -> Report:
    """The report that `document` made `data` of.

    Raises:
        UsageError: it is of another format, or not such a document.
    """
    if data.get("format") != FORMAT:
        message = f"a report of format {data.get('format')!r}; this qdcgen reads format {FORMAT}: report the run again"
        raise UsageError(message)
    try:
        return Report(
            title=data["title"],
            facts=dict(data["facts"]),
            measures=tuple(_measured(entry) for entry in data["measures"]),
            ledger=tuple(LedgerLine(**entry) for entry in data["ledger"]),
            gates=tuple(GateResult(**entry) for entry in data["gates"]),
            calls=_called(data["calls"]) if data.get("calls") else None,
            remarks=tuple(data["remarks"]),
            confused=tuple(Confusion(**entry) for entry in data.get("confused", ())),
            attrition=_sieved(data["attrition"]) if data.get("attrition") else None,
            curve=_curved(data["curve"]) if data.get("curve") else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"not a report that qdcgen wrote ({error!r}): report the run again"
        raise UsageError(message) from error


def _sieved(entry: Mapping[str, Any]) -> Attrition:
    def pair(bounds: Any) -> tuple[float, float] | None:
        return None if bounds is None else _bounds(bounds)

    def sieve(one: Mapping[str, Any]) -> Sieve:
        losses = tuple(Loss(**{**loss, "names": tuple(loss["names"])}) for loss in one["losses"])
        changes = tuple(Change(**{**change, "interval": pair(change["interval"])}) for change in one["changes"])
        skews = tuple(
            Skew(**{**skew, "interval": _bounds(skew["interval"]), "ratio_interval": pair(skew["ratio_interval"])})
            for skew in one["skews"]
        )
        return Sieve(**{**one, "losses": losses, "changes": changes, "skews": skews})

    return Attrition(**{**entry, "sieves": tuple(map(sieve, entry["sieves"]))})


def _called(entry: Mapping[str, Any]) -> Calls:
    return Calls(**{**entry, "models": tuple(ModelCalls(**one) for one in entry.get("models", ()))})


def _curved(entry: Mapping[str, Any]) -> Curve:
    points = (Point(**{**one, "measures": tuple(map(_measured, one["measures"]))}) for one in entry["points"])
    return Curve(**{**entry, "points": tuple(points), "remarks": tuple(entry["remarks"])})


def _measured(entry: Mapping[str, Any]) -> Measure:
    if entry["table"] not in get_args(Table):
        message = f"no table is called {entry['table']!r}"
        raise ValueError(message)
    interval = entry["interval"]
    return Measure(
        **{
            **entry,
            "range": _bounds(entry["range"]),
            "interval": None if interval is None else _bounds(interval),
            "missing": tuple(entry["missing"]),
        }
    )


def _bounds(pair: Sequence[float | None]) -> tuple[float, float]:
    low, high = pair
    return (-math.inf if low is None else low, math.inf if high is None else high)
