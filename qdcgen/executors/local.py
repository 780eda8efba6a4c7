"""The executor `local`: batches side by side in this process's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from pydantic import Field

from qdcgen.parts import Executor


class Local(Executor):
    """Runs up to `batches` batches at once in one event loop, so that one slow reply never idles the rest."""

    batches: int = Field(default=8, ge=1)
    """Batches at once; bounds memory together with the batch size."""

    async def run(
        self, batches: Iterable[Any], make: Callable[[Any], Awaitable[Any]], stop: Callable[[], bool]
    ) -> AsyncIterator[list[Any]]:
        """Yield what is done each time something is. When a batch raises, the others are cancelled."""
        waiting = iter(batches)
        running: set[asyncio.Task[Any]] = set()
        done: set[asyncio.Task[Any]] = set()

        def top_up() -> None:
            while len(running) < self.batches and not stop():
                batch = next(waiting, None)
                if batch is None:
                    return
                running.add(asyncio.ensure_future(make(batch)))

        try:
            top_up()
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                top_up()  # before the results are handed on: whoever takes them may be a while writing them down
                yield [task.result() for task in done]
                top_up()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, *done, return_exceptions=True)  # also those that failed beside the first
