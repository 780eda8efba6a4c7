"""The filter `pattern`: what must be found and what must not, in time that no pattern can stretch."""

from __future__ import annotations

import asyncio
import time

import pytest

from qdcgen.filters.pattern import Pattern
from qdcgen.parts import Scene, Tools
from qdcgen.rows import Cell, Row


def judged(part, *fields):
    rows = [Row(Cell(f"{number:016x}", {}, number, number), one) for number, one in enumerate(fields)]
    return [verdict.reason for verdict in asyncio.run(part.judge(rows, Tools()))]


def test_every_must_and_no_must_not():
    part = Pattern(field="m", must=[r"\d", "card"], must_not="(?i)password")
    assert judged(part, {"m": "card 7"}, {"m": "card"}, {"m": "7"}, {"m": "card 7 PassWord"}, {}, {"m": 7}) == [
        "",
        r"nothing matches /\d/",
        "nothing matches /card/",
        '"PassWord" matches /(?i)password/',
        r"nothing matches /\d/",
        r"nothing matches /\d/",
    ]


def test_without_a_field_all_texts_count_and_lines_can_be_meant():
    assert judged(Pattern(must=["(?m)^b$"]), {"x": "a", "y": "b"}, {"x": "ab"}) == ["", "nothing matches /(?m)^b$/"]


def test_reasons_are_short_and_on_one_line():
    (reason,) = judged(Pattern(must_not=["(?s)a.*"]), {"m": 'a"\n' * 10_000})
    assert len(reason) < 100
    assert "\n" not in reason
    assert reason.count('"') == 2


def test_a_pattern_that_would_hang_elsewhere_does_not_and_odd_texts_are_fine():
    start = time.perf_counter()
    assert judged(Pattern(must_not=["^(a+)+$"]), {"m": "a" * 200_000 + "b"}, {"m": "\ud800\x00"}) == ["", ""]
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "/(/ is no regular expression (Rust's syntax): unclosed group"),
        ("(?<=x)y", "look-around, including look-ahead and look-behind, is not supported"),
        (r"(a)\1", "backreferences are not supported"),
        ("(a{1000}){1000}", "/(a{1000}){1000}/ is too large once its repetitions are written out"),
    ],
)
def test_a_bad_pattern_is_a_problem_where_it_stands(pattern, said):
    (problem,) = Pattern(must=["ok"], must_not=["ok", pattern]).problems(Scene({}, {}, [], lambda _: set()))
    assert problem.path == ("must_not", 1)
    assert said in problem.message


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="nothing to look for"):
        Pattern()
    with pytest.raises(ValueError, match="at least 1"):
        Pattern(must=[""])
    scene = Scene({}, {"message": {}, "n": {"type": "integer"}}, [], lambda _: set())
    assert "did you mean 'message'" in next(Pattern(must="a", field="mesage").problems(scene)).message
    assert "holds no text" in next(Pattern(must="a", field="n").problems(scene)).message
