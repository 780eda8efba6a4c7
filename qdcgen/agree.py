"""Whether a run folder is of this recipe: what its rows were made from, key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from qdcgen.errors import RunDiffers
from qdcgen.store import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qdcgen.recipe import Recipe
    from qdcgen.store import Store

__all__ = ["agree", "made_from"]

LONGEST = 60
"""Characters of a value that a refusal shows."""


def made_from(recipe: Recipe) -> dict[str, Any]:
    """Everything in a recipe that the rows depend on, by dotted key: two runs agree where these agree."""
    said = recipe.resolved()
    found: dict[str, Any] = {"seed": said["seed"]}
    found["models"] = list(said["models"])  # the first one is the default, so their order matters
    keys = ("model", "temperature", "top_p", "max_tokens")  # not the address: servers move
    for alias, settings in said["models"].items():
        found |= {f"models.{alias}.{key}": settings[key] for key in keys}
    found |= {f"taxonomy.{axis}": digest[:16] for axis, digest in said["taxonomy"].items()}
    found["taxonomy"], found["layers"] = list(said["taxonomy"]), list(said["layers"])
    found["strategies"] = said["strategies"]
    found["forbid"] = said["forbid"]
    found |= {f"layers.{axis}": settings for axis, settings in said["layers"].items()}
    found |= {f"generate.{number}": settings for number, settings in enumerate(said["generate"])}
    return dict(_leaves("", orjson.loads(orjson.dumps(found))))


def _leaves(above: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value that holds no other, by dotted key, so that a refusal names the very key that differs."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [pair for key, inner in items for pair in _leaves(f"{above}.{key}" if above else str(key), inner)]
    yield from below or [(above, value)]


def agree(store: Store, recipe: Recipe, *, replace: bool) -> None:
    """Make sure that the folder is of this recipe; with `replace`, make it so.

    Raises:
        RunDiffers: rows would be made differently; names each key with both values.
    """
    now = made_from(recipe)
    said = store.read("run.json")
    before = said["made_from"] if said else now
    differing = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
    if differing and not replace:
        lines = [f"{store.folder} was made by another recipe:"]
        lines += [
            f"  {key}: {_short(before.get(key))} there, {_short(now.get(key))} in {recipe.file}" for key in differing
        ]
        lines.append(
            "choose another folder with --out, or start this one over with --replace (replies are kept and reused)"
        )
        raise RunDiffers("\n".join(lines))
    if differing:
        store.commit({}, drop=tuple(name for name in store.files if name != "run.json"))
    invocations = said["invocations"] if said and not differing else []
    home = str(recipe.folder)
    store.commit(
        {
            "recipe.yaml": (recipe.source.encode(), None),
            "run.json": (
                dumps({"format": 1, "recipe_folder": home, "made_from": now, "invocations": invocations}),
                None,
            ),
        }
    )


def _short(value: Any) -> str:
    said = "nothing" if value is None else orjson.dumps(value).decode()
    return said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"
