"""Signals of a run: the first one lets what is in flight end, the second stops at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["on_signal"]


def on_signal(first: Callable[[int], bool], say: Callable[[str], None]) -> None:
    """Have the running loop listen to SIGINT and SIGTERM.

    `first(number)` notes the signal and tells whether it is the first one; the second cancels the task that called
    this.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def heard(number: int) -> None:
        if first(number):
            say("stopping: waiting for the calls in flight; once more to stop at once")
        elif task is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # not in the main thread
            loop.add_signal_handler(number, heard, number)
