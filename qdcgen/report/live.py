"""What a run says of itself while it works: a live display on a terminal, now and then a plain line elsewhere.

Both go to stderr only, so that stdout stays the result. Nothing here has a thread: what is shown is as old as the last
`update`, and nothing is left behind if the process is killed but a cursor that the shell shows again.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TextIO

from qdcgen.report import figures
from qdcgen.safe import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from rich.live import Live as RichLive
    from rich.table import Table

__all__ = ["Live", "Progress"]

_REFRESHES = 4
"""Times a second that the display may change."""
_WINDOW = 120.0
"""Seconds that the rate looks back: replies from the journal come a thousand times faster than asked ones, and an
average since the start would promise an end that never comes."""
_ROWS_FOR_RATE = 2


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. Counts are of the whole run folder but for `seconds`, which is of this invocation."""

    round: int
    rows_target: int
    accepted: int
    made: int
    """Rows begun and ended, whatever became of them."""
    rejected: Mapping[str, int]
    """Filter → rows it said no to."""
    failed: int
    calls: int
    """Model calls answered, those from the journal among them."""
    journaled: int
    tokens_in: int
    tokens_out: int
    usd: float | None
    """US dollars; None as soon as one call's price is unknown."""
    seconds: float


class Live:
    """Shows each `Progress` it is given; a context manager, so that the last one is always shown.

    On a terminal a display of three lines, redrawn at most four times a second. Elsewhere, under `CI` and on a `dumb`
    terminal: plain lines, the first at once, then at most one every `every` seconds, the last on leaving. With `quiet`
    nothing. `NO_COLOR` takes the colours and leaves the rest. Not for use from several threads.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
        every: float = 5.0,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stream` is stderr unless a test passes another; `clock` gives seconds from any start."""
        self._stream = sys.stderr if stream is None else stream
        self._environ = os.environ if environ is None else environ
        self._quiet = quiet
        self._every = every
        self._clock = clock
        self._next = clock()
        self._unshown: Progress | None = None
        self._seen: deque[tuple[float, int]] = deque()
        self._first_made: int | None = None
        self._display: RichLive | None = None

    @property
    def drawn(self) -> bool:
        """Whether the stream is a terminal that a display may be drawn on."""
        plain = self._environ.get("CI") or self._environ.get("TERM") in {"dumb", "unknown"}
        unicode = (getattr(self._stream, "encoding", None) or "utf-8").lower().startswith("utf")
        return not self._quiet and not plain and unicode and self._stream.isatty()

    def update(self, state: Progress) -> None:
        """Take note of `state`, and show it if it is time."""
        if self._quiet:
            return
        if self._first_made is None:
            self._first_made = state.made
        if state.made == self._first_made:
            self._seen.clear()  # what was made before is only judged so far: thousands a minute, until it is through
        self._seen.append((state.seconds, state.accepted))
        while len(self._seen) > _ROWS_FOR_RATE and self._seen[1][0] <= state.seconds - _WINDOW:
            self._seen.popleft()
        self._unshown = state
        now = self._clock()
        if now >= self._next:
            self._next = now + (1 / _REFRESHES if self.drawn else self._every)
            self._show(state)

    def note(self, text: str) -> None:
        """A line that stays, above the display if there is one: a pause, a warning. Nothing if quiet."""
        if self._quiet:
            return
        if self._display is not None:
            from rich.text import Text

            self._display.console.print(Text(printable(text)), soft_wrap=True)
        else:
            self._line(printable(text))

    def close(self) -> None:
        """Show the last state if it was not, and give the terminal back. May be called again."""
        try:
            if self._unshown is not None:
                self._show(self._unshown)
        finally:
            if self._display is not None:
                display, self._display = self._display, None
                display.stop()

    def __enter__(self) -> Self:
        """Nothing is shown before the first update."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close, whatever happened."""
        self.close()

    @property
    def rate(self) -> float | None:
        """Accepted rows a minute over the last two minutes; None until two were accepted since rows are being made."""
        if not self._seen:
            return None
        (start, before), (end, after) = self._seen[0], self._seen[-1]
        return 60 * (after - before) / (end - start) if after - before >= _ROWS_FOR_RATE and end > start else None

    def _left(self, state: Progress) -> str:
        if state.accepted >= state.rows_target:
            return ""
        rate = self.rate
        return (
            figures.duration(60 * (state.rows_target - state.accepted) / rate) + " left"
            if rate
            else "time left unknown"
        )

    def _show(self, state: Progress) -> None:
        self._unshown = None
        if not self.drawn:
            self._line(self._sentence(state))
            return
        if self._display is None:
            self._display = self._start()
        self._display.update(self._picture(state), refresh=True)

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def _parts(self, state: Progress) -> list[str]:
        """Made, failed, rejected; spent; calls; tokens: what may be cut off at the edge of a terminal comes last."""
        made = f"{figures.count(state.made)} made"
        counts = sorted(state.rejected.items(), key=lambda item: -item[1])
        by = ", ".join(f"{figures.clip(printable(name), 24)} {figures.count(rows)}" for name, rows in counts if rows)
        rejected = f", {figures.count(sum(state.rejected.values()))} rejected ({by})" if by else ""
        failed = f", {figures.count(state.failed)} failed" if state.failed else ""
        journaled = f" ({figures.count(state.journaled)} from the journal)" if state.journaled else ""
        return [
            made + failed + rejected,
            "cost unknown" if state.usd is None else f"{figures.dollars(state.usd)} spent",
            figures.plural(state.calls, "call") + journaled,
            f"{figures.short(state.tokens_in)} tokens in, {figures.short(state.tokens_out)} out",
        ]

    def _sentence(self, state: Progress) -> str:
        rate = self.rate
        pace = [] if rate is None else [f"{figures.number(rate)} rows/min"]
        left = self._left(state)
        rows = f"{figures.count(state.accepted)} of {figures.plural(state.rows_target, 'row')} accepted"
        parts = [rows, *pace, *([left] if left else []), *self._parts(state)]
        return f"[{figures.duration(state.seconds)}] round {state.round}: " + "; ".join(parts)

    def _start(self) -> RichLive:
        from rich.console import Console  # 60 ms, and only where something is drawn
        from rich.live import Live as RichLive

        console = Console(
            file=self._stream,
            force_terminal=True,
            no_color="NO_COLOR" in self._environ,
            highlight=False,
            markup=False,
            emoji=False,
            _environ=dict(self._environ),
        )
        display = RichLive(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        display.start()
        return display

    def _picture(self, state: Progress) -> Table:
        """Three lines: how far, what became of the rows, what was asked and spent. None wraps."""
        from rich.table import Table
        from rich.text import Text

        share = state.accepted / state.rows_target if state.rows_target > 0 else 1.0
        bar = figures.bar(share, 24)
        first = Text(f"round {state.round}  ")
        first.append(bar.rstrip("·"), "cyan").append("·" * (24 - len(bar.rstrip("·"))), "dim")
        rate = self.rate
        pace = "" if rate is None else f"  {figures.number(rate)} rows/min"
        first.append(f"  {figures.count(state.accepted)}/{figures.count(state.rows_target)} rows{pace}")
        first.append(f"  {self._left(state)}", "dim")
        made, *asked = self._parts(state)
        grid = Table.grid()
        grid.add_column(no_wrap=True, overflow="ellipsis")
        for line in (first, Text(made, "dim"), Text("; ".join([figures.duration(state.seconds), *asked]), "dim")):
            grid.add_row(line)
        return grid
