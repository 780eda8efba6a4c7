"""Rows → verdicts: filters in order, batches in plan order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen.errors import QdcgenError
from qdcgen.parts import Tools
from qdcgen.rows import stream
from qdcgen.store import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from qdcgen.model.ask import Models
    from qdcgen.parts import Ask
    from qdcgen.recipe import Entry, Recipe
    from qdcgen.rows import Reply, Row, Verdict

__all__ = ["Judged", "judge", "labels", "tools"]


class Judged(NamedTuple):
    """One filter's verdict on one row."""

    row: str
    filter: str
    verdict: Verdict


def labels(filters: Sequence[Entry]) -> list[str]:
    """A name for each filter that no other has: its own, and `length#2` for the second of that name."""
    names = [entry.name for entry in filters]
    return [name if (n := names[:i].count(name)) == 0 else f"{name}#{n + 1}" for i, name in enumerate(names)]


def tools(
    recipe: Recipe,
    models: Models,
    label: str,
    *,
    scratch: dict[str, Any],
    kept: Callable[[], Iterable[Row]] = tuple,
) -> Tools:
    """What the filter `label` may do.

    Its calls are seeded by what they ask, so that the same question on another day is answered from the journal.
    """

    async def ask(
        alias: str,
        messages: Sequence[Mapping[str, str]],
        *,
        seed: str | None = None,
        counted: bool = True,  # noqa: ARG001  (a filter's calls are no row's)
        **settings: Any,
    ) -> Reply:
        number = stream(label, digest([dict(message) for message in messages]) if seed is None else seed) & 0x7FFFFFFF
        return await models.ask(alias, messages, seed=number, **settings)

    asking: Ask = ask
    return Tools(
        ask=asking,
        embed=recipe.measure.embedder.part.embed,
        kept=kept,
        scratch=scratch,
        fields=recipe.fields,
        taxonomies=recipe.taxonomies,
    )


async def judge(rows: Sequence[Row], filters: Sequence[Entry], give: Callable[[str], Tools]) -> list[Judged]:
    """Every verdict on one batch, filter by filter; a filter sees only what the ones before it kept.

    Rows that failed are judged by nobody. `give(label)` gives a filter its tools; they must be the same ones for every
    batch, in plan order.

    Raises:
        QdcgenError: a filter broke its contract (one verdict per row, a reason for every no).
    """
    standing = [row for row in rows if row.fault is None]
    found: list[Judged] = []
    for label, entry in zip(labels(filters), filters, strict=True):
        if not standing:
            break
        verdicts = await entry.part.judge(standing, give(label))
        if len(verdicts) != len(standing):
            raise QdcgenError(
                f"filter {label} gave {len(verdicts)} verdicts on {len(standing)} rows; expected one for each"
            )
        for row, verdict in zip(standing, verdicts, strict=True):
            if not verdict.kept and not verdict.reason:
                raise QdcgenError(f"filter {label} rejected row {row.id} without a reason")
            found.append(Judged(row.id, label, verdict))
        standing = [row for row, verdict in zip(standing, verdicts, strict=True) if verdict.kept]
    return found
