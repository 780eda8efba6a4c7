"""Rows → verdicts: filters in order, batches in plan order."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen.errors import QdcgenError, UsageError
from qdcgen.parts import Filter, Tools
from qdcgen.recipe import inside
from qdcgen.rows import stream
from qdcgen.store import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from qdcgen.errors import Fault
    from qdcgen.model.ask import Models
    from qdcgen.parts import Ask
    from qdcgen.recipe import Entry, Recipe
    from qdcgen.rows import Reply, Row, Verdict

__all__ = ["Judged", "chain", "faults", "judge", "tools"]


class Judged(NamedTuple):
    """One filter's verdict on one row."""

    row: str
    filter: str
    verdict: Verdict


def chain(recipe: Recipe) -> list[str]:
    """For each filter in order, 12 hex digits of it and of all before it, the files they read included.

    Two recipes whose chains begin alike judge alike as far as that.
    """
    found: list[str] = []
    for label, entry in recipe.judges:
        part: Filter = entry.part
        files = {name: _contents(_path(recipe, label, name)) for name in part.files()}
        said = [found[-1:], label, {entry.name: part.model_dump(mode="json")}, files]
        if part.calls(len(recipe.taxonomies)):
            said.append({name: alias.model for name, alias in recipe.models.items()})
        if part.embeds:
            said.append(str(recipe.measure.embedder))
        found.append(digest(said)[:12])
    return found


def _contents(path: Path) -> str:
    """SHA-256 of a file; of a run, of its manifest, which has that of every file."""
    with (path if path.is_file() else path / "manifest.json").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _path(recipe: Recipe, label: str, name: str) -> Path:
    try:
        return inside(recipe.folder, name, recipe.allowed, runs=True)
    except ValueError as error:
        raise UsageError(f"filters: {label}: {error}") from None


def faults(recipe: Recipe) -> list[Fault]:
    """What is wrong with the files of filters, as `check` tells it; no model is asked."""
    found = []
    for entry in recipe.filters:
        number = entry.at
        if type(entry.part).read is Filter.read:
            continue
        try:
            for name in entry.part.files():
                _path(recipe, entry.name, name)
            entry.part.read(_reading(recipe, entry.name))
        except QdcgenError as error:
            words = str(error) if str(error).startswith("filters") else f"filters.{number}.{entry.name}: {error}"
            found.append(recipe.marked.fault(("filters", number, entry.name), words))
    return found


def _reading(recipe: Recipe, label: str) -> Tools:
    """What a filter may do without a model."""
    return Tools(
        embed=recipe.measure.embedder.part.embed,
        fields=recipe.fields,
        taxonomies=recipe.taxonomies,
        file=lambda name: _path(recipe, label, name),
    )


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
    return replace(_reading(recipe, label), ask=asking, kept=kept, scratch=scratch)


async def judge(
    rows: Sequence[Row],
    filters: Sequence[tuple[str, Entry]],
    give: Callable[[str], Tools],
    known: Mapping[tuple[str, str], Verdict] | None = None,
) -> list[Judged]:
    """Every verdict on one batch, filter by filter; a filter sees only what the ones before it kept.

    Rows that failed are judged by nobody. `give(label)` gives a filter its tools; they must be the same ones for every
    batch, in plan order. `known`: verdicts by row and filter that still stand; such a row is not judged again.

    Raises:
        QdcgenError: a filter broke its contract (one verdict per row, a reason for every no).
    """
    standing = [row for row in rows if row.fault is None]
    found: list[Judged] = []
    for label, entry in filters:
        if not standing:
            break
        said = {row.id: known[row.id, label] for row in standing if (row.id, label) in known} if known else {}
        unjudged = [row for row in standing if row.id not in said]
        if unjudged:
            verdicts = await entry.part.judge(unjudged, give(label))
            if len(verdicts) != len(unjudged):
                raise QdcgenError(
                    f"filter {label} gave {len(verdicts)} verdicts on {len(unjudged)} rows; expected one for each"
                )
            said |= {row.id: verdict for row, verdict in zip(unjudged, verdicts, strict=True)}
        for row in standing:
            verdict = said[row.id]
            if not verdict.kept and not verdict.reason:
                raise QdcgenError(f"filter {label} rejected row {row.id} without a reason")
            found.append(Judged(row.id, label, verdict))
        standing = [row for row in standing if said[row.id].kept]
    return found
