"""How numbers are written."""

from __future__ import annotations

import math

import pytest

from qdcgen.report import figures
from qdcgen.rows import Measure


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (0, "0"),
        (1234567, "1,234,567"),
        (14.14, "14.1"),
        (999.6, "1,000"),
        (9.996, "10.0"),
        (12431.7, "12,400"),
        (0.0456, "0.0456"),
        (0.00012, "0.000120"),
        (0.00001234, "1.2e-05"),
        (-3.14159, "-3.14"),
        (1e300, "1e+300"),
    ],
)
def test_numbers_have_three_significant_digits_and_counts_all(x: float | None, text: str) -> None:
    assert figures.number(x) == text


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (1.0, "1.000"),
        (0.9999, ">0.999"),
        (0.0002, "<0.001"),
        (0.93, "0.930"),
        (-0.0002, ">-0.001"),
        (-0.9999, "<-0.999"),
    ],
)
def test_shares_have_three_decimals_and_never_round_to_the_end(x: float, text: str) -> None:
    assert figures.number(x, fraction=True) == text


@pytest.mark.parametrize(
    ("bounds", "interval", "text"),
    [
        ((0, 1), (0.9, 0.95), "0.900–0.950"),
        ((-1, 1), (-0.1, 0.2), "-0.100 – 0.200"),
        ((-1, 1), (-0.0002, 0.2), "0.000–0.200"),
        ((0, math.inf), (39.91, 42.8), "39.9–42.8"),
        ((0, math.inf), (3.0, math.inf), "3–∞"),
        ((0, 1), None, ""),
    ],
)
def test_intervals(bounds: tuple[float, float], interval: tuple[float, float] | None, text: str) -> None:
    assert figures.interval(Measure("quality", "x", 0.5, range=bounds, interval=interval)) == text


def test_an_estimate_is_not_written_as_a_count() -> None:
    words = Measure("complexity", "words", 48.0, range=(0, math.inf), interval=(47.2, 48.9))
    assert figures.value(words, words.value) == "48.0"


@pytest.mark.parametrize(
    ("x", "text"), [(0.97996, "0.97996"), (None, "–"), (math.nan, "–"), (12345678.0, "12,345,678")]
)
def test_a_gate_shows_what_misses_the_bound(x: float | None, text: str) -> None:
    assert figures.closely(x) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 9, "0 %"), (1, 900, "<1 %"), (899, 900, ">99 %"), (9, 9, "100 %"), (1, 0, "–"), (1, 2, "50 %")],
)
def test_per_cent(part: int, whole: int, text: str) -> None:
    assert figures.per_cent(part, whole) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [(None, "unknown"), (0.0, "$0.00"), (0.0042, "$0.0042"), (0.00001, "<$0.0001"), (1234.5, "$1,234.50")],
)
def test_dollars(usd: float | None, text: str) -> None:
    assert figures.dollars(usd) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.4, "59 s"), (59.9, "1 min"), (3599, "1 h 00 min"), (11100, "3 h 05 min"), (200000, "2 d 07 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "········"),
        (0.001, "╸·······"),
        (0.5, "━━━━····"),
        (0.9999, "━━━━━━━╸"),
        (1.0, "━━━━━━━━"),
        (7.0, "━━━━━━━━"),
    ],
)
def test_bars_are_full_only_at_one_and_empty_only_at_nothing(share: float, text: str) -> None:
    assert figures.bar(share, 8) == text


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0"), (987, "987"), (1000, "1.00k"), (12345, "12.3k"), (999999, "1.00M"), (4.56e9, "4.56G")]
)
def test_short_counts(n: float, text: str) -> None:
    assert figures.short(n) == text
