"""One batch: slots → cells → drafts → steps → rows. A row that fails is data, not a crash."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen import template
from qdcgen.conditions import agrees
from qdcgen.errors import CapReached, Deferred, QdcgenError, RowFault, Stopped
from qdcgen.parts import Tools, position
from qdcgen.rows import Cell, Draft, Row, mix_key, row_id, stream
from qdcgen.taxonomy import match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from qdcgen.model.ask import Models
    from qdcgen.parts import Ask
    from qdcgen.recipe import Entry, Recipe
    from qdcgen.rows import Reply
    from qdcgen.store import Kind

__all__ = ["REDRAWS", "cells", "column_types", "rows"]

REDRAWS = 64
"""Times a layer is drawn again when its value is forbidden beside the axes above it; then the row fails, by name."""


class Asked(NamedTuple):
    """One planned row, as its round froze it."""

    slot: int
    replicate: int
    mix: Mapping[str, str]
    band: str | None = None
    """The band of difficulty that its round asks it for; None: the one that its slot draws, where there are bands."""


_BY_JSON = {"string": "String", "integer": "Int64", "number": "Float64", "boolean": "Boolean"}


def column_types(recipe: Recipe) -> dict[str, Kind]:
    """Type of each field's and each layer's column, fields first; see `Layer.column` and `store.Kind`."""
    return {
        **{name: _kind(schema) for name, schema in recipe.fields.items()},
        **{axis: entry.part.column() for axis, entry in recipe.layers.items()},
    }


def _kind(schema: Mapping[str, Any]) -> Kind:
    if "enum" in schema:
        kinds = frozenset(type(value) for value in schema["enum"])
        numbers = {frozenset({int}): "Int64", frozenset({float}): "Float64", frozenset({int, float}): "Float64"}
        return {**numbers, frozenset({str}): "String"}.get(kinds, "JSON")
    if schema.get("type") != "array":
        return _BY_JSON.get(schema.get("type", ""), "JSON")
    items = schema.get("items", {})
    if items.get("type") == "object" and items.get("properties"):
        return ({key: _BY_JSON.get(inner.get("type", ""), "JSON") for key, inner in items["properties"].items()},)
    return "List" if items.get("type", "string") == "string" else "JSON"


def cells(
    recipe: Recipe, asked: Iterable[Asked], prepared: Mapping[str, Any] | None = None
) -> Iterator[tuple[Cell, dict[str, Any], RowFault | None]]:
    """Each planned row's cell and what templates may name in it; about 10 µs a layer.

    `prepared`: layer → what its `prepare` gave. A row whose layers cannot be drawn without a forbidden combination
    comes with the fault that says so.
    """
    ready = prepared or {}
    absent = dict.fromkeys(recipe.taxonomies)
    for one in asked:
        key = mix_key(one.mix)
        identity = row_id(recipe.seed, one.mix, one.replicate)
        names: dict[str, Any] = {
            **absent,
            **{axis: recipe.taxonomies[axis].by_id[node] for axis, node in one.mix.items()},
        }
        values: dict[str, Any] = {}
        fault: RowFault | None = None
        for axis, entry in recipe.layers.items():
            for attempt in range(REDRAWS):
                stream_name = axis if attempt == 0 else f"{axis}#{attempt}"
                at = position(recipe.seed, key, identity, stream_name, one.replicate, ready.get(axis))
                try:
                    names[axis] = values[axis] = entry.part.draw(names, at)
                except RowFault as reason:
                    names[axis], values[axis], fault = None, None, reason
                    break
                if not _forbidden(recipe, axis, names):
                    break
            else:
                fault = RowFault("forbidden", f"no value of {axis} is allowed beside {key} after {REDRAWS} draws")
        if recipe.target.complexity is not None:
            names["complexity"] = recipe.target.complexity.band(one.band, one.slot)
        yield Cell(identity, one.mix, one.replicate, one.slot, values), names, fault


def _forbidden(recipe: Recipe, axis: str, names: Mapping[str, Any]) -> bool:
    """Whether the draw of `axis` completed a forbidden combination."""
    for entry in recipe.forbid:
        if axis not in entry:
            continue
        for other, pattern in entry.items():
            value = names.get(other)
            if value is None or not _fits(recipe, other, pattern, value):
                break
        else:
            return True
    return False


def _fits(recipe: Recipe, axis: str, pattern: str, value: Any) -> bool:
    """Whether a drawn value is what a pattern names; a pattern that names an inner node covers what is below it."""
    if (tree := recipe.taxonomies.get(axis)) is None:
        return agrees(pattern, value)
    return any(match(pattern, node) for node in tree.line(value.id))


async def rows(
    recipe: Recipe,
    asked: Sequence[Asked],
    models: Models,
    *,
    prepared: Mapping[str, Any] | None = None,
    round_: int = 0,
    near: Callable[[Cell], Row | None] = lambda _cell: None,
    embed: Callable[[Sequence[str]], Any] | None = None,
    done: Callable[[Row], None] = lambda _row: None,
) -> list[Row]:
    """Make every planned row, side by side; in the order of `asked`.

    `prepared`: see `cells`; `near` and `embed`: see `Tools`.

    Raises:
        ModelRefused, Incomplete: the run cannot go on; the other rows of the batch are given up, their replies kept.
        Deferred: calls of some rows wait in a provider's batch; every row got as far as it could.
        CapReached, Stopped: not every row was begun; what was in flight has come in and is journaled.
    """
    waiting: list[Deferred] = []
    steps = list(_named_apart(recipe.generate))
    given: dict[str, Any] = {"fields": recipe.fields, "taxonomies": recipe.taxonomies, "near": near}
    given |= {"embed": embed} if embed is not None else {}

    def asking(draft: Draft, step: str) -> Ask:
        return _ask(models, draft, step, recipe.seed)

    async def one(cell: Cell, names: dict[str, Any], fault: RowFault | None) -> Row | None:
        try:
            draft = Draft(cell, names, round=round_)
            if recipe.target.complexity is not None:
                draft.notes["complexity"] = str(names["complexity"])
            row = await _row(steps, given, draft, asking, fault)
        except Deferred as wait:
            waiting.append(wait)
            return None
        done(row)
        return row

    tasks = [asyncio.ensure_future(one(*drawn)) for drawn in cells(recipe, asked, prepared)]
    try:
        made = await asyncio.gather(*tasks)
        if waiting:
            raise waiting[0]
        return [row for row in made if row is not None]
    except (Stopped, CapReached):
        await asyncio.gather(*tasks, return_exceptions=True)  # what is in flight ends, and is journaled
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _row(
    steps: Sequence[tuple[str, Entry]],
    given: Mapping[str, Any],
    draft: Draft,
    asking: Callable[[Draft, str], Ask],
    fault: RowFault | None,
) -> Row:
    if fault is not None:
        return _finished(draft, fault.kind, str(fault))
    try:
        for name, entry in steps:
            if draft.whole and not entry.part.judges:
                continue
            tools = Tools(
                ask=asking(draft, name),
                render=template.render,
                rng=_rng(draft.cell.id, name),
                **given,
            )
            calls, tokens_in, tokens_out = draft.calls, draft.tokens_in, draft.tokens_out
            try:
                await entry.part.take(draft, tools)
            finally:
                used = (draft.calls - calls, draft.tokens_in - tokens_in, draft.tokens_out - tokens_out)
                draft.steps.append((name, *used))
    except RowFault as reason:
        return _finished(draft, reason.kind, str(reason))
    except QdcgenError:  # the run's business, not this row's
        raise
    except Exception as error:  # noqa: BLE001  (a step may be anybody's code: its fault costs its row, by name, not the run)
        return _finished(draft, "step failed", f"{type(error).__name__}: {error}")
    return _finished(draft, None, None)


def _named_apart(steps: Sequence[Entry]) -> Iterator[tuple[str, Entry]]:
    """Each step with its stream's name: its own, and `name#2` for the second of that name."""
    seen: dict[str, int] = {}
    for entry in steps:
        seen[entry.name] = seen.get(entry.name, 0) + 1
        yield (entry.name if seen[entry.name] == 1 else f"{entry.name}#{seen[entry.name]}"), entry


def _ask(models: Models, draft: Draft, step: str, recipe_seed: int) -> Ask:
    """The `ask` of one step of one row: its n-th call has its own seed and is counted on the draft; see `parts.Ask`."""
    count = 0

    async def ask(
        alias: str,
        messages: Sequence[Mapping[str, str]],
        *,
        seed: str | None = None,
        counted: bool = True,
        **settings: Any,
    ) -> Reply:
        nonlocal count
        if seed is None:
            number = stream(draft.cell.id, f"{step}/{count}")
            count += 1
        else:
            number = stream(f"{recipe_seed}/{mix_key(draft.cell.mix)}", f"{step}/{seed}")
        shared = seed is not None
        reply = await models.ask(
            alias, messages, seed=number & 0x7FFFFFFF, begins=not draft.calls, shared=shared, **settings
        )
        draft.models.add(reply.model)
        if not counted:
            return reply
        draft.calls += 1
        draft.tokens_in += reply.tokens_in or 0
        draft.tokens_out += reply.tokens_out or 0
        draft.cost = None if draft.cost is None or reply.cost is None else draft.cost + reply.cost
        return reply

    return ask


def _rng(row: str, step: str) -> Callable[[str], random.Random]:
    return lambda name: random.Random(stream(row, f"{step}/{name}"))


def _finished(draft: Draft, fault: str | None, reason: str | None) -> Row:
    return Row(
        cell=draft.cell,
        fields=draft.fields,
        notes=draft.notes,
        calls=draft.calls,
        tokens_in=draft.tokens_in,
        tokens_out=draft.tokens_out,
        cost=draft.cost,
        models=tuple(sorted(draft.models)),
        fault=fault,
        reason=reason[:2000] if reason else None,
        generation=draft.generation,
        steps=tuple(draft.steps),
    )
