"""What a run says while it works."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from io import StringIO

import pytest

from qdcgen.report.live import Live, Progress


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


class Clock:
    """Time that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def progress(seconds: float, accepted: int = 0, *, usd: float | None = 0.42) -> Progress:
    """A state of a run of 2,000 rows."""
    rejected = {"length": 3, "dup\x1b[2J": 12, "never": 0}
    return Progress(1, 2000, accepted, accepted + 15, rejected, 2, 1204, 12, 1234567, 340000, usd, seconds)


def play(stream: StringIO, environ: dict[str, str], *, quiet: bool = False) -> str:
    """A minute of a run, a state a second, ten rows accepted in each."""
    clock = Clock()
    with Live(stream, quiet=quiet, environ=environ, clock=clock) as live:
        for second in range(61):
            live.update(progress(second, 10 * second))
            clock.now += 1
    return stream.getvalue()


def test_plain_lines_come_first_at_once_then_every_five_seconds_and_last_always() -> None:
    lines = play(StringIO(), {}).splitlines()
    assert [re.findall(r"^\[(.*?)\]", line)[0] for line in lines[:3]] == ["0 s", "5 s", "10 s"]
    assert len(lines) == 13
    clock = Clock()
    stream = StringIO()
    with Live(stream, environ={}, clock=clock) as live:
        live.update(progress(0))
        live.update(progress(1, 7))
    assert [" 7 of " in line for line in stream.getvalue().splitlines()] == [False, True]


def test_a_whole_plain_line() -> None:
    assert play(StringIO(), {}).splitlines()[1] == (
        "[5 s] round 1: 50 of 2,000 rows accepted; 600 rows/min; 3 min left; 65 made, 2 failed, "
        r"15 rejected (dup\x1b[2J 12, length 3); $0.42 spent; 1,204 calls (12 from the journal); "
        "1.23M tokens in, 340k out"
    )


def test_time_left_is_unknown_until_two_rows_came_while_looking_on() -> None:
    stream, clock = StringIO(), Clock()
    with Live(stream, every=0, environ={}, clock=clock) as live:
        for second, accepted in enumerate((1500, 1501, 1502)):
            live.update(progress(second, accepted))
    assert ["time left unknown" in line for line in stream.getvalue().splitlines()] == [True, True, False]


def test_judging_what_was_made_before_gives_no_rate() -> None:
    stream, clock = StringIO(), Clock()
    with Live(stream, every=0, environ={}, clock=clock) as live:
        for second, accepted in enumerate((0, 500, 1500)):
            live.update(replace(progress(second, accepted), made=2000))
        live.update(replace(progress(3, 1500), made=2001))
        live.update(replace(progress(63, 1510), made=2040))
    lines = stream.getvalue().splitlines()
    assert ["rows/min" in line for line in lines] == [False, False, False, False, True]
    assert "; 9.84 rows/min; 50 min left; " in lines[-1]


def test_the_rate_forgets_a_fast_start_from_the_journal() -> None:
    stream, clock = StringIO(), Clock()
    with Live(stream, every=0, environ={}, clock=clock) as live:
        live.update(progress(0, 0))
        live.update(progress(1, 1000))
        for minute in range(1, 6):
            live.update(progress(60 * minute, 1000 + 2 * minute))
    assert "; 2 rows/min; 8 h 15 min left;" in stream.getvalue().splitlines()[-1]


def test_an_unknown_price_is_unknown() -> None:
    stream = StringIO()
    with Live(stream, environ={}, clock=Clock()) as live:
        live.update(progress(1, usd=None))
    assert stream.getvalue().endswith("; cost unknown; 1,204 calls (12 from the journal); 1.23M tokens in, 340k out\n")


def test_quiet_says_nothing() -> None:
    for stream in (StringIO(), Terminal()):
        assert play(stream, {}, quiet=True) == ""
        with Live(stream, quiet=True, environ={}) as live:
            live.note("no")
        assert stream.getvalue() == ""


@pytest.mark.parametrize("environ", [{"CI": "true"}, {"TERM": "dumb"}])
def test_ci_and_dumb_terminals_get_plain_lines(environ: dict[str, str]) -> None:
    assert play(Terminal(), environ) == play(StringIO(), {})


def test_a_terminal_gets_a_display_and_its_cursor_back() -> None:
    written = play(Terminal(), {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"})
    assert written.count("\x1b[?25l") == 1
    assert written.rstrip().endswith("\x1b[?25h")
    assert "\x1b[2J" not in written
    assert "600/2,000 rows" in written
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split("[\r\n]", written)]
    assert max(map(len, plain)) <= 80


def test_no_color_keeps_the_display() -> None:
    written = play(Terminal(), {"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert "\x1b[?25l" in written
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", written)


def test_a_display_changes_four_times_a_second_at_most() -> None:
    stream, clock = Terminal(), Clock()
    with Live(stream, environ={"TERM": "xterm"}, clock=clock) as live:
        for tick in range(101):
            live.update(progress(tick / 100, tick))
            clock.now = 100 + tick / 100
    assert 4 <= stream.getvalue().count("round 1") <= 6


def test_a_note_stays_and_an_error_still_closes() -> None:
    stream = Terminal()
    live = Live(stream, environ={"TERM": "xterm"}, clock=Clock())

    def broken_run() -> None:
        with live:
            live.update(progress(1))
            live.note("waits 30 s: 429 from \x1b]52;host [red]")
            message = "stop"
            raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="stop"):
        broken_run()
    assert r"waits 30 s: 429 from \x1b]52;host [red]" in stream.getvalue()
    live.close()
    assert stream.getvalue().count("\x1b[?25h") == 1


def test_importing_the_report_imports_no_rich() -> None:
    code = (
        "import sys\n"
        "from qdcgen.report import document, live, markdown, plan_text, terminal\n"
        "print(sorted({'rich', 'numpy', 'polars', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
