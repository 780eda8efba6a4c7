"""How a number is written: once, for every builder.

Shares and everything else between -1 and 1 have three decimals, other measured figures three significant digits,
counts all their digits. Rounding never finishes what is unfinished: 0.9999 is `>0.999`, not `1.000`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdcgen.rows import Measure

__all__ = [
    "BLANK",
    "bar",
    "clip",
    "closely",
    "count",
    "dollars",
    "duration",
    "interval",
    "number",
    "per_cent",
    "plural",
    "short",
    "value",
]

BLANK = "–"
"""Stands where there is no honest number."""

_LARGE = 1e15
_THOUSAND = 1_000
_MILLION = 1_000_000
_TINY = 0.001


def count(n: float) -> str:
    """A whole number with every digit: `12,431`."""
    return f"{round(n):,}"


def short(n: float) -> str:
    """A large count in little room: `987`, `12.3k`, `1.23M`, `4.56G`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size * 0.9995:
            return number(n / size if not (n / size).is_integer() else math.nextafter(n / size, 0)) + letter
    return count(n)


def plural(n: int, one: str, more: str = "") -> str:
    """`1 row`, `12,431 rows`."""
    return f"{count(n)} {one if n == 1 else more or one + 's'}"


def number(x: float | None, *, fraction: bool = False) -> str:
    """`x` for a table: `0.933` where it is a fraction, else `12,431` or `14.1`; `–` for None, infinity and NaN."""
    if x is None or not math.isfinite(x):
        return BLANK
    x += 0.0  # no negative zero
    if fraction:
        if 0 < abs(x) < _TINY / 2:
            return "<0.001" if x > 0 else ">-0.001"
        if 1 - _TINY / 2 <= abs(x) < 1:
            return ">0.999" if x > 0 else "<-0.999"
        return f"{x:.3f}"
    return _significant(x)


def _significant(x: float) -> str:
    if abs(x) >= _LARGE:
        return f"{x:.3g}"
    if float(x).is_integer():
        return count(x)
    if abs(float(f"{x:.3g}")) >= _THOUSAND:
        return count(float(f"{x:.3g}"))
    if abs(x) < _TINY / 10:
        return f"{x:.2g}"
    places = max(2 - math.floor(math.log10(abs(float(f"{x:.3g}")))), 0)
    return f"{x:.{places}f}"


def _is_fraction(measure: Measure, *written: float | None) -> bool:
    low, high = measure.range
    return low >= -1 and high <= 1 and all(x is None or not math.isfinite(x) or abs(x) <= 1 for x in written)


def value(measure: Measure, x: float | None) -> str:
    """`x`, the value or the control of `measure`: a fraction, a count where it has no interval, or an estimate."""
    fraction = _is_fraction(measure, x)
    if not fraction and measure.interval is not None and x is not None and 1 <= abs(x) < _THOUSAND:
        return _significant(math.nextafter(x, math.inf) if float(x).is_integer() else x)  # 48.0: not a count
    return number(x, fraction=fraction)


def interval(measure: Measure) -> str:
    """`0.880–0.962`, with spaces where a minus sign stands near the dash; empty where there is none."""
    if measure.interval is None:
        return ""
    fraction = _is_fraction(measure, *measure.interval)
    low, high = (_end(x, fraction=fraction) for x in measure.interval)
    return f"{low} – {high}" if "-" in low + high else f"{low}–{high}"


def _end(x: float, *, fraction: bool) -> str:
    """An end of an interval: plainly rounded, since `>0.999` beside a dash cannot be read."""
    if math.isinf(x):
        return "∞" if x > 0 else "-∞"
    return f"{x:.3f}".replace("-0.000", "0.000") if fraction and math.isfinite(x) else number(x)


def closely(x: float | None) -> str:
    """Six significant digits: a gate's figure must not look as if it held a bound that it misses."""
    return BLANK if x is None or not math.isfinite(x) else f"{x:,.0f}" if abs(x) >= _MILLION else f"{x + 0.0:.6g}"


def per_cent(part: float, whole: float) -> str:
    """`93 %`; never 0 or 100 unless it is exactly that. `–` of nothing."""
    if whole <= 0:
        return BLANK
    share = 100 * part / whole
    if 0 < share < 1:
        return "<1 %"
    if 99 < share < 100:  # noqa: PLR2004  per cent
        return ">99 %"
    return f"{share:.0f} %"


def dollars(usd: float | None) -> str:
    """`$4.21`, with more digits below a cent; `unknown` for None, which is not 0."""
    if usd is None or not math.isfinite(usd):
        return "unknown"
    if 0 < usd < 0.01:  # noqa: PLR2004  a cent
        return f"${usd:.4f}" if usd >= 0.0001 else "<$0.0001"  # noqa: PLR2004
    return f"${usd:,.2f}"


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3 h 05 min`, `2 d 04 h`."""
    minutes = round(seconds / 60)
    if seconds < 59.5:  # noqa: PLR2004
        return f"{max(seconds, 0):.0f} s"
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min"
    if minutes < 60 * 48:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60:02} h"


def clip(text: str, most: int) -> str:
    """At most `most` characters, the last one `…` where something was cut."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def clip_left(text: str, most: int) -> str:
    """The end of `text` in at most `most` characters: of a path, the end says more."""
    return text if len(text) <= most else "…" + text[len(text) - most + 1 :]


def bar(share: float, width: int) -> str:
    """`width` characters for a share of 0 … 1, in half steps; full only for 1, and never empty above 0."""
    halves = 2 * width if share >= 1 else min(max(int(share * 2 * width), int(share > 0)), 2 * width - 1)
    return ("━" * (halves // 2) + "╸" * (halves % 2)).ljust(width, "·")
