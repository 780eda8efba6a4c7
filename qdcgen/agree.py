"""Whether a run folder is of this recipe: what its rows were made from, key by key, and which of them still stand.

A change of regions (taxonomies, strategies, what is forbidden) refuses nothing: rows whose region is as it was stay as
they are, byte for byte, and only what is new is owed (see `refresh`). Where accepted rows would have to leave `data/`,
it takes `--replace`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from qdcgen import axes, rounds
from qdcgen.errors import RunDiffers
from qdcgen.prepare import contents
from qdcgen.store import LABELS, dumps, packed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qdcgen.recipe import Recipe
    from qdcgen.store import Store

__all__ = ["agree", "made_from"]

LONGEST = 60
"""Characters of a value that a refusal shows."""
MOST = 12
"""Regions that are named."""


def made_from(recipe: Recipe) -> dict[str, Any]:
    """Everything in a recipe that the rows depend on, by dotted key: two runs agree where these agree."""
    said = recipe.resolved()
    found: dict[str, Any] = {"seed": said["seed"]}
    found["models"] = list(said["models"])  # the first one is the default, so their order matters
    keys = ("model", "temperature", "top_p", "max_tokens")  # not the address: servers move
    for alias, settings in said["models"].items():
        found |= {f"models.{alias}.{key}": settings[key] for key in keys}
    found["taxonomy"], found["layers"] = list(said["taxonomy"]), list(said["layers"])
    found["forbid"] = [entry for entry in said["forbid"] if not set(entry) <= set(said["taxonomy"])]  # of layers
    found |= {f"layers.{axis}": settings for axis, settings in said["layers"].items()}
    found |= {f"layers.{axis}.contents": told for axis in recipe.layers if (told := contents(recipe, axis))}
    found |= {f"generate.{number}": settings for number, settings in enumerate(said["generate"])}
    return dict(_leaves("", orjson.loads(orjson.dumps(found))))


def _leaves(above: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value that holds no other, by dotted key, so that a refusal names the very key that differs."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [pair for key, inner in items for pair in _leaves(f"{above}.{key}" if above else str(key), inner)]
    yield from below or [(above, value)]


def agree(store: Store, recipe: Recipe, *, replace: bool) -> list[str]:
    """Make sure that the folder is of this recipe; with `replace`, make it so. Gives remarks on what that took.

    Raises:
        RunDiffers: rows would be made differently, or accepted rows would leave `data/`; names each key or region.
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
    remarks: list[str] = []
    drop: tuple[str, ...] = ()
    files: dict[str, tuple[bytes, int | None]] = {}
    if differing:
        # What a model was asked for is not asked again, unless it was for a layer that is another one now.
        other = {f"axes/{key.split('.')[1]}.json" for key in differing if key.startswith("layers.")}
        # Labels by people stay too: each knows what its row said, and counts only while the row says it.
        kept = {"run.json", LABELS, *store.names("axes")} - other
        store.commit({}, drop=tuple(name for name in store.files if name not in kept))
    elif said:
        files, drop, remarks = _refreshed(store, recipe, said.get("drawn_from"), replace=replace)
    invocations = said["invocations"] if said and not differing else []
    home = str(recipe.folder)
    told = {
        "format": 1,
        "recipe_folder": home,
        "overrides": list(recipe.overrides),
        "allowed": [str(folder.resolve()) for folder in recipe.allowed],
        "made_from": now,
        "drawn_from": rounds.drawn_from(recipe),
        "invocations": invocations,
    }
    for axis, tree in recipe.taxonomies.items():
        if recipe.taxonomy[axis].grow is None:
            files[f"axes/{axis}.json"] = (dumps(axes.document(tree)), None)
            remarks += _edited(store, f"axes/{axis}.json", files[f"axes/{axis}.json"][0], recipe.file)
    files["prints.parquet"] = packed(_prints(rounds.regions(recipe).prints))
    files |= {"recipe.yaml": (recipe.source.encode(), None), "run.json": (dumps(told), None)}
    store.commit(files, drop=drop)
    return remarks


def _refreshed(
    store: Store, recipe: Recipe, before: str | None, *, replace: bool
) -> tuple[dict[str, tuple[bytes, int | None]], tuple[str, ...], list[str]]:
    """Files that write down which rows no longer stand, verdicts to take out, and what to say of it."""
    if before == rounds.drawn_from(recipe):
        return {}, (), []
    gone = rounds.retired(store)
    made = rounds.made(store, ["_id", "_mix"])
    if made.is_empty():
        return {}, (), []
    prints: dict[str, dict[str, str]] = {}
    if "prints.parquet" in store.files:
        for axis, leaf, told in store.table("prints.parquet").iter_rows():
            prints.setdefault(axis, {})[leaf] = told
    now = rounds.regions(recipe).retired(made, prints, gone)
    back = gone.filter(~pl.col("_id").is_in(now["_id"].implode()))
    leaving = now.filter(~pl.col("_id").is_in(gone["_id"].implode()))
    dropped = leaving.filter(pl.col("_id").is_in(rounds.standing_ids(store, recipe).implode()))
    counts = [
        f"  {reason}: {count} {'row' if count == 1 else 'rows'}"
        for reason, count in dropped.group_by("reason", maintain_order=True).len().iter_rows()
    ]
    more = [f"  and {len(counts) - MOST} more regions"] if len(counts) > MOST else []
    if dropped.height and not replace:
        lines = [f"{store.folder}: {dropped.height} accepted rows are in regions that {recipe.file} no longer has:"]
        lines += [*counts[:MOST], *more]
        lines.append("--replace moves them to rejected/ with the reason, all other rows stay as they are;")
        lines.append("or choose another folder with --out")
        raise RunDiffers("\n".join(lines))
    remarks = []
    if dropped.height:
        remarks += [f"{dropped.height} accepted rows moved to rejected/:", *counts[:MOST], *more]
    if back.height:
        remarks.append(f"{back.height} rows came back: their regions are as they were")
    if not now.height and not gone.height:
        return {}, (), remarks
    return {"retired.parquet": packed(now)}, _unjudged(store, back["_id"]), remarks


def _unjudged(store: Store, back: pl.Series) -> tuple[str, ...]:
    """Verdicts to take out because rows came back that no filter has compared with what was made meanwhile."""
    if back.is_empty():
        return ()
    for name in store.names("raw"):
        if store.table(name, ["_id"])["_id"].is_in(back.implode()).any():
            first = name.replace("raw/", "verdicts/")
            return tuple(verdicts for verdicts in store.names("verdicts") if verdicts >= first)
    return ()


def _edited(store: Store, name: str, content: bytes, recipe: str) -> list[str]:
    """Put back an axis that was edited where the recipe's own tree counts, and say so."""
    path = store.folder / name
    if name not in store.files or not path.exists() or path.read_bytes() == content:
        return []
    if store.files[name].sha256 != sha256(content).hexdigest():
        return []  # the recipe's tree changed; this is the old one
    path.unlink()
    return [f"{path} was edited and is put back: the tree in {recipe} is what counts; edit it there"]


def _prints(prints: Mapping[str, Mapping[str, str]]) -> pl.DataFrame:
    """What the rows that stand were told of their leaves: `axis`, `leaf`, `print`; see `refresh.prints`."""
    rows = [(axis, leaf, told) for axis, of in prints.items() for leaf, told in of.items()]
    return pl.DataFrame(rows, schema={"axis": pl.String, "leaf": pl.String, "print": pl.String}, orient="row")


def _short(value: Any) -> str:
    said = "nothing" if value is None else orjson.dumps(value).decode()
    return said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"
