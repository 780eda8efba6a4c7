"""Taxonomies, where they are: a file, an axis of a recipe, or an axis of a run with what became of its nodes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen import axes, taxonomy_files
from qdcgen.errors import UsageError, nearest
from qdcgen.rows import Taxonomy, mix_of
from qdcgen.taxonomy_export import Origins, form_of, origins, rendered, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qdcgen.store import Store

__all__ = ["Counts", "Opened", "brought_in", "every", "one", "saved", "several"]

_RECIPE = re.compile(r"^recipe\s*:", re.MULTILINE)


class Counts(NamedTuple):
    """What became of a node's rows, those of the nodes below it included."""

    asked: int
    """Rows that were planned for it."""
    accepted: int
    """Rows among them that every filter kept."""


class Opened(NamedTuple):
    """A taxonomy and what is known of it."""

    tree: Taxonomy
    notes: Sequence[str] = ()
    origin: Origins | None = None
    counts: Mapping[str, Counts] | None = None
    """Node id → counts; None where the tree comes from no run."""


def one(where: Path, axis: str | None = None, *, form: str | None = None) -> Opened:
    """The taxonomy at `where`; `axis` names one where a recipe or a run has several.

    Raises:
        UsageError: nothing is there, or it has several axes and none is named, or none of that name.
        RecipeError: the file is no tree.
    """
    found = every(where, axis, form=form)
    if len(found) > 1:
        names = [opened.tree.name for opened in found]
        raise UsageError(f"{where}: has {len(names)} axes, {', '.join(names)}; add --axis {names[0]}, or another")
    return found[0]


def several(places: Sequence[Path], axis: str | None = None) -> list[Opened]:
    """The taxonomy at each place; `axis` is for those among them that have axes.

    Raises:
        UsageError, RecipeError: as `one`.
    """
    having = [where.is_dir() or _is_recipe(where) for where in places]
    return [one(where, axis if has or not any(having) else None) for where, has in zip(places, having, strict=True)]


def every(where: Path, axis: str | None = None, *, form: str | None = None, counts: bool = False) -> list[Opened]:
    """Every taxonomy at `where`: one of a file, each axis of a recipe (`recipe.yaml`) or a run folder.

    `form` is the ending to read a file by, `counts` adds what became of each node, where `where` is a run.

    Raises:
        UsageError: nothing is there, no axis has that name, or `counts` of what is no run.
        RecipeError: the file is no tree, or no recipe.
    """
    if where.is_dir():
        return _of_run(where, axis, counts=counts)
    if counts:
        raise UsageError(f"{where}: --counts needs a run folder, e.g. qdcgen taxonomy show runs/quickstart --counts")
    if form is None and _is_recipe(where):
        from qdcgen.recipe import load

        recipe = load(where)
        if recipe.ungrown and (axis in recipe.ungrown or not recipe.taxonomies):
            named = axis or recipe.ungrown[0]
            raise UsageError(f"{where}: {named} is not grown yet; type: qdcgen taxonomy grow {where}")
        waiting = [f"{name} is not grown yet; type: qdcgen taxonomy grow {where}" for name in recipe.ungrown]
        found = []
        for tree in _named(recipe.taxonomies, axis, where):
            notes = [note for note in recipe.notes if note.startswith(f"taxonomy {tree.name}:")]
            found.append(Opened(tree, [*notes, *waiting]))
            waiting = []
        return found
    if not where.exists():
        near = (
            nearest(where.name, [path.name for path in where.parent.glob("*")][:1000]) if where.parent.is_dir() else ""
        )
        raise UsageError(f"{where}: no such file or folder{near}; expected a taxonomy, a recipe or a run folder")
    if axis is not None:
        raise UsageError(f"{where}: is one tree; --axis is for recipes and run folders")
    said: list[str] = []
    tree = taxonomy_files.read(where.stem, where, notes=said, form=form, speaking="show")
    origin = origins(where) if form is None else None
    return [Opened(tree, said, origin)]


def _is_recipe(where: Path) -> bool:
    """Whether a YAML file says `recipe:` at its left margin, as every recipe does near its top."""
    if where.suffix.lower() not in {".yaml", ".yml"} or not where.is_file():
        return False
    with where.open("rb") as file:
        return _RECIPE.search(file.read(65_536).decode("utf-8", "replace")) is not None


def _named(trees: Mapping[str, Taxonomy], axis: str | None, where: Path) -> list[Taxonomy]:
    if axis is None:
        return list(trees.values())
    if axis not in trees:
        raise UsageError(f"{where}: no axis {axis!r}{nearest(axis, list(trees))}; it has {', '.join(trees)}")
    return [trees[axis]]


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_run(folder: Path, axis: str | None, *, counts: bool) -> list[Opened]:
    """The axes of a run as it froze them, or as its recipe says where it froze none."""
    from qdcgen.store import Store

    store = Store(folder).peek()
    frozen = [name for name in store.files if name.startswith("axes/")]
    if frozen:
        trees = {}
        for name in frozen:
            stem = Path(name).stem
            content = (folder / name).read_bytes()  # a person may have edited it since
            if not axes.is_layer(content):
                trees[stem] = axes.loads(content, stem, str(folder / name))
    else:
        trees = dict(_recipe_of(store).taxonomies)
    found = []
    for tree in _named(trees, axis, folder):
        path = folder / "axes" / f"{tree.name}.json"
        origin = origins(path) if frozen else None
        found.append(Opened(tree, (), origin, _counts(store, tree, trees) if counts else None))
    return found


def _recipe_of(store: Store) -> Any:
    from qdcgen.review import recipe_of

    said = store.read("run.json") or {}
    return recipe_of(store, Path(said.get("recipe_folder") or store.folder))


def _counts(store: Store, tree: Taxonomy, trees: Mapping[str, Taxonomy]) -> dict[str, Counts]:
    """Node id → counts, each row credited to its leaf and to all above it."""
    import polars as pl

    from qdcgen import rounds

    planned = rounds.planned(store)
    asked: dict[str, int] = {}
    accepted: dict[str, int] = {}
    if not planned.is_empty() and tree.name in planned.columns:
        slots = planned.unique("slot", keep="last").filter(pl.col(tree.name).is_not_null())
        asked = _credited(tree, dict(slots.group_by(tree.name).len().iter_rows()))
        recipe = _recipe_of(store)
        recipe = recipe.model_copy(update={"taxonomies": {**trees, **recipe.taxonomies}})
        tried = rounds.attempts(store, recipe).filter(pl.col("_state") == "accepted")
        own: dict[str, int] = {}
        for mix, count in tried.group_by("_mix").len().iter_rows():
            leaf = mix_of(mix).get(tree.name)
            if leaf is not None:
                own[leaf] = own.get(leaf, 0) + count
        accepted = _credited(tree, own)
    return {node.id: Counts(asked.get(node.id, 0), accepted.get(node.id, 0)) for node in tree.nodes}


def _credited(tree: Taxonomy, own: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for leaf, count in own.items():
        if leaf in tree.by_id:
            for node in tree.line(leaf):
                found[node.id] = found.get(node.id, 0) + count
    return found


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def brought_in(
    source: Path,
    *,
    form: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    levels: str | None = None,
    exclude: Sequence[str] = (),
    root: Sequence[str] = (),
) -> Opened:
    """The taxonomy in a file of any known kind; `columns`, `levels` (`a,b,c`) and `exclude` (`column=value`) say how.

    Raises:
        UsageError: the file is not there, or an entry of `exclude` is not `column=value`.
        RecipeError: every fault of the file.
    """
    left_out: dict[str, list[str]] = {}
    for entry in exclude:
        column, sign, value = entry.partition("=")
        if not sign or not column:
            raise UsageError(f"--exclude {entry!r}: expected COLUMN=VALUE, e.g. --exclude retired=True")
        left_out.setdefault(column, []).append(value)
    if not source.exists():
        return every(source)[0]  # which says so, and what is near
    notes: list[str] = []
    tree = taxonomy_files.read(
        source.stem,
        source,
        **(columns or {}),
        levels=[level.strip() for level in levels.split(",")] if levels else None,
        exclude=left_out or None,
        root=list(root) or None,
        notes=notes,
        form=form,
        speaking="import",
    )
    return Opened(tree, notes, origins(source) if form is None else None)


def saved(opened: Opened, out: Path, *, force: bool) -> str:
    """Write a taxonomy in the format that `out` ends in, named after it; says what was written.

    Raises:
        UsageError: no such format, it cannot hold this tree, or the file is there already and `force` is not given.
    """
    form = form_of(out)
    tree = Taxonomy(out.stem, opened.tree.nodes)
    write(out, rendered(tree, form, origin=opened.origin), force=force)
    said = f"{out}: {len(tree.nodes):,} nodes, {len(tree.leaves):,} leaves, {tree.depth} levels"
    if form != "json" and opened.origin is not None and any(opened.origin.nodes.values()):
        said += f"\nwho proposed each node and why is not in a .{form} file; keep the artefact"
    return said
