"""The filter `code`: what parses stays, and what does not says where; nothing is run unless it is asked for."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from qdcgen.errors import UsageError
from qdcgen.filters.code import Code, unfenced
from qdcgen.parts import Scene, Tools
from qdcgen.rows import Cell, Row, Verdict
from qdcgen.sandbox import processes
from qdcgen.testing import Server

linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}, reason="programs are locked in on Linux"
)


def part(**settings: Any) -> Code:
    return Code.model_validate({"field": "code", **settings})


def judged(filter_: Code, *codes: Any, **more: Any) -> list[Verdict]:
    rows = [Row(Cell(f"{n:016x}", {}, n, n), {"code": code, **more}) for n, code in enumerate(codes)]
    return asyncio.run(filter_.judge(rows, Tools()))


def reason(filter_: Code, code: Any, **more: Any) -> str:
    return judged(filter_, code, **more)[0].reason


@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("python", "x = 1\n", ""),
        ("python", "```python\nx = 1\n```\n", ""),
        ("python", "~~~\ndef f(): ...\n~~~", ""),
        ("python", "return 1", ""),
        ("python", "x = '\\d' is 1", ""),
        ("python", "x = = 1", "code is not Python: line 1: invalid syntax"),
        ("python", "Here it is:\n```python\nx = 1\n```", "code is not Python: line 1: invalid syntax"),
        ("python", "# only words", "code is not Python: nothing but comments"),
        ("python", "x\0", "code is not Python: source code string cannot contain null bytes"),
        ("python", "(" * 5_000, "code is not Python: line 1: too many nested parentheses"),
        ("python", "a" + ".b" * 100_000, "code is not Python: nested too deeply"),
        ("python", " \n", "code is empty"),
        ("python", "```\n```", "code is empty"),
        ("python", None, "code holds no text"),
        ("python", "x=1;" * 300_000, "code has 1,200,000 bytes, more than the 1,048,576 that are looked at"),
        ("json", '{"a": [1, 2.5e3, null, "x"]}', ""),
        ("json", "```json\n[]\n```", ""),
        ("json", "9" * 100_000, ""),
        ("json", '{"a": 1, "b": {"c": 1, "c": 2}}', "code is not JSON: the key 'c' twice in one object"),
        ("json", '{"a": NaN}', "code is not JSON: NaN is no JSON"),
        ("json", "[-Infinity]", "code is not JSON: -Infinity is no JSON"),
        ("json", '{"a": 1} x', "code is not JSON: line 1: Extra data"),
        ("json", "{'a': 1}", "code is not JSON: line 1: Expecting property name enclosed in double quotes"),
        ("json", "[" * 500_000, "code is not JSON: nested too deeply"),
        ("json", '"\x01"', "code is not JSON: line 1: Invalid control character at"),
        ("sql", "SELECT a, COUNT(*) FROM t WHERE b = 'x' GROUP BY a; SELECT 2", ""),
        ("sql", "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1);", ""),
        ("sql", "WITH a AS (SELECT 1 AS x) UPDATE t SET y = 2 WHERE z IN (SELECT x FROM a)", ""),
        ("sql", "(SELECT 1) UNION SELECT 2", ""),
        ("sql", "BEGIN; DROP TABLE t; COMMIT", ""),
        ("sql", "hello", "code is not SQL: an expression (column), expected a statement"),
        ("sql", "1 + 1", "code is not SQL: an expression (add), expected a statement"),
        ("sql", "-- nothing", "code is not SQL: nothing but comments"),
        ("sql", "SELECT 'abc", "code is not SQL: Error tokenizing 'SELECT 'ab'"),
        ("sql", "SELECT 1, " * 20_000, "code has 200,000 bytes, more than the 100,000 that are looked at"),
        ("sql", "SELECT " + "(" * 3_000, "code is not SQL: nested too deeply"),
    ],
)
def test_what_parses_is_kept_and_what_does_not_says_why(language: str, code: Any, expected: str) -> None:
    (verdict,) = judged(part(language=language), code)
    assert verdict.reason == expected
    assert verdict.kept == (not expected)


def test_a_dialect_decides_what_is_sql() -> None:
    assert reason(part(language="sql", dialect="mysql"), "SELECT `a` FROM t") == ""
    assert reason(part(language="sql", dialect="postgres"), "SELECT `a` FROM t") != ""


def test_compiling_finds_more_and_runs_nothing() -> None:
    assert reason(part(), "return 1") == ""
    assert reason(part(compile=True), "return 1") == "code is not Python: line 1: 'return' outside function"
    assert reason(part(compile=True), "1 / 0") == ""


def test_only_a_whole_block_loses_its_fence() -> None:
    assert unfenced("```py\na\n```") == "a"
    assert unfenced("````\n```\na\n```\n````") == "```\na\n```"
    assert unfenced("```\na\n```\nand\n```\nb\n```") == "```\na\n```\nand\n```\nb\n```"
    assert unfenced("a\n```\nb\n```") == "a\n```\nb\n```"
    assert unfenced("```\r\na\r\n```") == "a\r"
    assert unfenced("```\na\n  ````\n") == "a"
    assert unfenced("```sql\nSELECT `a````") == "SELECT `a`"
    assert unfenced("~~~~\na\n~~~") == "~~~~\na\n~~~"
    assert unfenced("```a`\nb\n```") == "```a`\nb\n```"
    begun = time.monotonic()
    unfenced("```\n" + "`" * 200_000)
    unfenced("`" * 500_000)
    unfenced("```\n" + "\n ```" * 200_000 + "x")
    unfenced(" " * 500_000 + "x")
    for repeated in ("~", "~~~\n", "`", " \n", "~\n", "\n"):
        unfenced(repeated * (1_000_000 // len(repeated)) + "\n")
        unfenced("~~~\n" + repeated * (1_000_000 // len(repeated)) + "~~~")
    assert time.monotonic() - begun < 2


def test_one_text_that_crashes_a_parser_costs_only_its_own_row() -> None:
    said = judged(part(compile=True), "x = 1", "-" * 200_000 + "1", "y = 2")
    assert [verdict.kept for verdict in said] == [True, False, True]


@linux
def test_programs_are_run_when_asked_and_their_last_line_is_the_reason() -> None:
    running = part(run={"seconds": 5})
    said = judged(running, "print('fine')", "raise ValueError('no')", "x = = 1", "open('/etc/passwd')")
    assert [verdict.reason for verdict in said] == [
        "",
        "code does not run: ValueError: no",
        "code is not Python: line 1: invalid syntax",
        "code does not run: PermissionError: [Errno 13] Permission denied: '/etc/passwd'",
    ]


@linux
def test_a_test_of_the_row_decides() -> None:
    running = part(run={"seconds": 5, "test": "test"})
    good = "def double(x):\n    return 2 * x"
    assert reason(running, good, test="```python\nassert double(3) == 6\n```") == ""
    assert reason(running, good, test="assert double(3) == 7") == "test does not run: AssertionError"
    assert reason(running, "import os; os._exit(0)", test="assert 0") == "code ends before test is run"
    assert reason(running, "1 / 0", test="assert 1") == "code does not run: ZeroDivisionError: division by zero"
    assert reason(running, good, test=" ") == "test holds no test"


@linux
def test_many_programs_run_at_once_and_keep_their_order() -> None:
    codes = [f"import sys; sys.exit({n % 3})" for n in range(12)]
    said = judged(part(run={"seconds": 20}), *codes)
    assert [verdict.kept for verdict in said] == [n % 3 == 0 for n in range(12)]


def test_where_nothing_can_be_locked_in_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UsageError("this machine cannot lock a program in")

    monkeypatch.setattr("qdcgen.filters.code.check", refuse)
    monkeypatch.setattr("qdcgen.filters.code.run", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises(UsageError, match="cannot lock"):
        part(run={}).read(Tools())
    with pytest.raises(UsageError, match="cannot lock"):
        judged(part(run={}), "x = 1")
    assert judged(part(), "x = 1")[0].kept
    part().read(Tools())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"language": "json", "run": {}}, "run is for language: python, found json"),
        ({"language": "sql", "compile": True}, "compile is for language: python, found sql"),
        ({"dialect": "mysql"}, "dialect is for language: sql, found python"),
        ({"run": {"seconds": 0}}, "greater than 0"),
        ({"run": {"memory_mb": 8}}, "greater than or equal to 64"),
        ({"language": "rust"}, "'python', 'json' or 'sql'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        part(**settings)


def test_problems_name_what_is_near() -> None:
    scene = Scene({}, {"code": {"type": "string"}, "n": {"type": "integer"}}, [], lambda _: set())
    assert [p.message for p in part(field="cod").problems(scene)] == ["no field called 'cod'; did you mean 'code'?"]
    assert [p.path for p in part(run={"test": "tests"}).problems(scene)] == [("run", "test")]
    assert len(list(part(field="n").problems(scene))) == 1
    (problem,) = part(language="sql", dialect="postgress").problems(scene)
    assert problem.message == "sqlglot knows no dialect 'postgress'; did you mean 'postgres'?"
    assert list(part(language="sql", dialect="sqlite").problems(scene)) == []


@linux
def test_check_asks_whether_programs_can_be_locked_in() -> None:
    processes.check()
    part(run={}).read(Tools())


RECIPE = """\
recipe: 1
name: snippets
seed: 5
models: {{writer: {{model: openai/test, api_base: "{url}"}}}}
taxonomy: {{topic: [sums, lists]}}
generate:
  - write:
      fields: {{code: {{type: string}}, test: {{type: string}}}}
      prompt: "Python and its test about {{{{ topic }}}}"
filters:
  - code: {{field: code, run: {{seconds: 10, test: test}}}}
target: {{rows: 8, candidates: 3}}
measure: {{text: code}}
"""


@linux
def test_a_run_keeps_programs_that_pass_their_tests_and_says_of_the_others_why(tmp_path: Path, qdcgen: Any) -> None:
    def answer(body: Any) -> str:
        return json.dumps({"code": f"x = {body['seed'] % 1000}", "test": "assert x % 4, 'a fourth'"})

    with Server(answer=answer) as server:
        (tmp_path / "snippets.yaml").write_text(RECIPE.format(url=server.url))
        said = qdcgen("check", "snippets.yaml")
        assert said.returncode == 0, said.stderr
        said = qdcgen("run", "snippets.yaml", "--out", "out", "--quiet")
        assert said.returncode == 0, said.stderr
    kept = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")
    dropped = pl.read_parquet(tmp_path / "out" / "rejected" / "*.parquet")
    assert len(kept) == 8
    assert all(int(code.removeprefix("x = ")) % 4 for code in kept["code"])
    reasons = set(dropped.filter(pl.col("_filter") == "code")["_reason"])
    assert reasons <= {"test does not run: AssertionError: a fourth"}
