"""What layers need before the first row: read, worked out or asked for once, and frozen where a model was asked."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from qdcgen.errors import RunError, UsageError
from qdcgen.parts import Layer, Tools
from qdcgen.recipe import inside
from qdcgen.rows import stream
from qdcgen.store import digest, dumps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from qdcgen.errors import Fault
    from qdcgen.model.ask import Models
    from qdcgen.parts import Ask
    from qdcgen.recipe import Recipe
    from qdcgen.rows import Reply
    from qdcgen.store import Store

__all__ = ["contents", "faults", "prepared", "remarks", "unprepared"]

FORMAT = 1


def unprepared(recipe: Recipe) -> list[str]:
    """Layers that a model is asked for before anything can be drawn."""
    return [axis for axis, entry in recipe.layers.items() if entry.part.preparing()]


async def prepared(recipe: Recipe, models: Models | None, folder: Path, store: Store | None = None) -> dict[str, Any]:
    """Layer → what its `prepare` gave. What is frozen in the run folder is read; with `store`, what is new is written.

    Without `models`, layers that would ask one, and are not frozen yet, are left out.

    Raises:
        UsageError: a file of a layer cannot be read.
        RunError: a frozen axis is no longer readable.
        As `Models.ask`.
    """
    found: dict[str, Any] = {}
    # Files first: one that cannot be read must be told before a model is paid.
    for axis, entry in sorted(recipe.layers.items(), key=lambda one: bool(one[1].part.preparing())):
        part: Layer = entry.part
        if type(part).prepare is Layer.prepare:
            continue
        if not part.preparing():
            found[axis] = await part.prepare(_tools(recipe, models, axis))
            continue
        file = folder / f"axes/{axis}.json"
        if file.is_file():
            frozen = found[axis] = _thawed(file, recipe, axis)
            if models is not None:
                found[axis] = await part.mend(frozen, _tools(recipe, models, axis))
            if store is not None and found[axis] != frozen:
                store.commit({f"axes/{axis}.json": (_document(recipe, axis, found[axis]), None)})
            elif store is not None:  # as it lies there: a person may have edited it, and then it is part of the run
                store.commit({f"axes/{axis}.json": (file.read_bytes(), None)})
        elif models is not None:
            found[axis] = await part.prepare(_tools(recipe, models, axis))
            if store is not None:
                store.commit({f"axes/{axis}.json": (_document(recipe, axis, found[axis]), None)})
    return found


def remarks(recipe: Recipe, found: Mapping[str, Any]) -> list[str]:
    """What the layers have to tell of what was prepared, a line each."""
    return [
        f"{axis}: {said}"
        for axis, entry in recipe.layers.items()
        if axis in found
        for said in entry.part.remarks(found[axis])
    ]


def _document(recipe: Recipe, axis: str, value: Any) -> bytes:
    return dumps(
        {"format": FORMAT, "layer": recipe.layers[axis].name, "settings": _print(recipe, axis), "prepared": value}
    )


def contents(recipe: Recipe, axis: str) -> dict[str, str]:
    """File of a layer → 16 hex digits of its bytes' SHA-256, so that a changed file is noticed; 0.5 s a gigabyte."""
    told = recipe.layers[axis].part.model_dump(mode="json")
    named = [told.get("file"), told.get("transitions"), (told.get("demonstrations") or {}).get("file")]
    found = {}
    for name in named:
        if isinstance(name, str):
            with _path(recipe, axis, name).open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return found


async def faults(recipe: Recipe) -> list[Fault]:
    """What is wrong with the files of layers, as `check` tells it; no model is asked."""
    found = []
    for axis, entry in recipe.layers.items():
        try:
            contents(recipe, axis)
            if type(entry.part).prepare is not Layer.prepare and not entry.part.preparing():
                await entry.part.prepare(_tools(recipe, None, axis))
        except UsageError as error:
            words = str(error) if str(error).startswith(f"layers.{axis}") else f"layers.{axis}: {error}"
            found.append(recipe.marked.fault(("layers", axis), words))
    return found


def _path(recipe: Recipe, axis: str, name: str) -> Path:
    try:
        return inside(recipe.folder, name, recipe.allowed)
    except ValueError as error:
        raise UsageError(f"layers.{axis}: {error}") from None


def _print(recipe: Recipe, axis: str) -> str:
    """What a frozen layer was asked for: its settings, and the files they name."""
    entry = recipe.layers[axis]
    return digest({entry.name: entry.part.model_dump(mode="json"), "contents": contents(recipe, axis)})


def _thawed(file: Path, recipe: Recipe, axis: str) -> Any:
    """What was frozen; a person may have edited it."""
    try:
        said = orjson.loads(file.read_bytes())
        layer, settings, value = said["layer"], said["settings"], said["prepared"]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise RunError(
            f"{file}: not a frozen layer ({error}); mend it, or remove it to have it asked for again"
        ) from None
    if layer != recipe.layers[axis].name or settings != _print(recipe, axis):
        raise RunError(
            f"{file}: frozen for other settings, or another file, of {layer}; remove it to have it "
            "asked for again, or restore them"
        )
    return value


def _tools(recipe: Recipe, models: Models | None, axis: str) -> Tools:
    """What `prepare` may do. Its calls are seeded by what they ask and by the recipe's seed."""
    given: dict[str, Any] = {}
    if models is not None:

        async def ask(
            alias: str,
            messages: Sequence[Mapping[str, str]],
            *,
            seed: str | None = None,
            counted: bool = True,  # noqa: ARG001  (what is prepared belongs to no row)
            **settings: Any,
        ) -> Reply:
            told = digest([recipe.seed, [dict(message) for message in messages] if seed is None else seed])
            return await models.ask(alias, messages, seed=stream(axis, told) & 0x7FFFFFFF, **settings)

        asking: Ask = ask
        given["ask"] = asking

    def file(name: str) -> Path:
        return _path(recipe, axis, name)

    return Tools(embed=recipe.measure.embedder.part.embed, taxonomies=recipe.taxonomies, file=file, **given)
