"""Several calls at once, none left behind when one of them ends the run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from qdcgen.errors import CapReached, Stopped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

__all__ = ["together"]

Result = TypeVar("Result")


async def together(works: Iterable[Awaitable[Result]]) -> list[Result]:
    """Every result, in order. When one raises, what a stop or a cap leaves in flight comes in; the rest is given up."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    except (Stopped, CapReached):
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
