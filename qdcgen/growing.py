"""Growing for real: models, journal and artefact around `qdcgen.grow`, for a run folder or for a file of its own.

Every reply is journaled under the name of its node and call, so a growth that was killed goes on where it was: nothing
that was answered is asked again, and the tree is the same to the byte. A tree that stands is never grown over.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from qdcgen import axes
from qdcgen.errors import RunDiffers, Stopped, UsageError
from qdcgen.grow import SAMPLES, Grown, Wanted, factors, grow, most_calls
from qdcgen.model.ask import Models, Used
from qdcgen.model.journal import Journal
from qdcgen.recipe import outgrown, rooted
from qdcgen.rows import stream
from qdcgen.safe import printable
from qdcgen.stopping import on_signal
from qdcgen.store import Store, dumps
from qdcgen.tables import read
from qdcgen.taxonomy_show import clipped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from qdcgen.model.budget import Budget
    from qdcgen.parts import Ask
    from qdcgen.recipe import Recipe
    from qdcgen.rows import Reply

__all__ = ["Interrupted", "Planted", "grow_axes", "grow_file", "grow_recipe", "grown_text", "journal_beside"]
__all__ += ["samples_of", "slug", "to_stderr"]

T = TypeVar("T")

NAME = 40
"""Characters of a name made of words; only a word longer than that is cut."""
SAY_EVERY = 2.0
"""Seconds between lines of progress that are not the end of a level."""


class Interrupted(Stopped):
    """A signal ended the growth; every reply that came is journaled. The command line ends with 128 + `number`."""

    def __init__(self, number: int) -> None:
        """`number` of the signal."""
        super().__init__("interrupted; every reply that came is kept, run again to go on")
        self.number = number


class Planted(NamedTuple):
    """One artefact as it was written."""

    file: Path
    grown: Grown


class _Session:
    """One event loop with models, a journal and signals around some growths."""

    def __init__(
        self,
        aliases: Mapping[str, Any],
        journal: Journal,
        say: Callable[[str], None],
        *,
        budget: Budget | None = None,
        trace: Callable[[Mapping[str, Any]], None] | None = None,
        asked: Used | None = None,
    ) -> None:
        self.stopped_by: int | None = None
        self.say = say
        self.models = Models(aliases, journal, budget=budget, trace=trace, stopping=lambda: self.stopped_by is not None)
        self.models.asked = asked or self.models.asked
        self._next = 0.0
        self._calls = 0

    def run(self, work: Awaitable[T]) -> T:
        """The result of `work`. First signal: nothing new is asked, what is in flight comes in. Second: stop at once.

        Raises:
            Interrupted: a signal came.
        """
        try:
            return asyncio.run(self._listening(work))
        except (Stopped, asyncio.CancelledError, KeyboardInterrupt):
            raise Interrupted(self.stopped_by or signal.SIGINT) from None

    async def _listening(self, work: Awaitable[T]) -> T:
        on_signal(self._stop, self.say)
        try:
            return await work
        finally:
            await self.models.close()

    def _stop(self, number: int) -> bool:
        """Begin nothing new. False when that was said before."""
        first, self.stopped_by = self.stopped_by is None, self.stopped_by or number
        return first

    def asking(self, growth: str) -> Callable[[str], Ask]:
        """The `ask` of each call of one growth: its seed comes from the growth's name and the call's."""

        def of(call: str) -> Ask:
            async def ask(alias: str, messages: Sequence[Mapping[str, str]], **settings: Any) -> Reply:
                seed = stream(growth, call) & 0x7FFFFFFF
                reply = await self.models.ask(alias, messages, seed=seed, **settings)
                self._calls += 1
                if (now := time.monotonic()) >= self._next:
                    self._next = now + SAY_EVERY
                    name = growth.rpartition("/")[2]
                    self.say(f"growing {name}: {self._calls} {'reply' if self._calls == 1 else 'replies'}")
                return reply

            return ask

        return of

    async def grow(self, name: str, wanted: Wanted, seed: int, embedder: Any) -> Grown:
        """One tree. The recipe's seed is part of the growth's name, and so of every call's seed."""
        return await grow(
            name,
            wanted,
            asking=self.asking(f"{seed}/{name}" if seed else name),
            embed=embedder.embed,
            model=self.models.name(wanted.alias),
            embedder=embedder.label,
            told=lambda line: self.say(f"growing {name}: {line}"),
        )


# ── the axes of a recipe ────────────────────────────────────────────────────────────────────────────────────────────


def grow_axes(
    recipe: Recipe,
    store: Store,
    journal: Journal,
    *,
    budget: Budget | None = None,
    anew: bool = False,
    replace: bool = False,
    trace: Callable[[Mapping[str, Any]], None] | None = None,
    asked: Used | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Recipe, list[Planted]]:
    """The recipe with every axis of its run folder, and the axes that were grown for it now (all with `anew`).

    `replace`: the folder may be started over for another recipe; without it, a run that has rows and no such axis is
    refused before a model is asked. What the calls used is added to `asked`.

    A file that lies in `axes/` is used as it is, whoever put it there or changed it; it is then part of the run. Each
    tree is committed as soon as it is whole.

    Raises:
        Interrupted, CapReached, Incomplete, ModelRefused: not everything is grown; what is, is committed.
        RecipeError: a file in `axes/` is no tree, or a pattern of the recipe names nothing that grew.
        RunDiffers, RunError: the folder is another recipe's, or cannot be written to.
    """
    trees: dict[str, Any] = {}
    planted: list[Planted] = []
    for axis, source in recipe.taxonomy.items():
        if source.grow is None:
            continue
        name = f"axes/{axis}.json"
        file = store.folder / name
        if not file.is_file() or anew:
            if not replace and _is_strange(store, axis):
                raise RunDiffers(
                    f"{store.folder} was made without the taxonomy {axis}, which {recipe.file} grows; choose another "
                    "folder with --out, or start this one over with qdcgen run --replace"
                )
            shown = samples_of(recipe.samples[axis]) if axis in recipe.samples else ()
            wanted = source.grow.wanted(shown)
            session = _Session(recipe.models, journal, say, budget=budget, trace=trace, asked=asked)
            grown = session.run(session.grow(axis, wanted, recipe.seed, recipe.measure.embedder.part))
            store.commit({name: (dumps(grown.document()), None)})
            planted.append(Planted(file, grown))
        content = file.read_bytes()
        trees[axis] = axes.loads(content, axis, str(file))
        store.commit({name: (content, None)})
    return rooted(recipe, trees), planted


def grow_recipe(
    recipe: Recipe, folder: Path, *, anew: bool = False, say: Callable[[str], None] = lambda _: None
) -> list[Planted]:
    """Grow the axes of a recipe that its run folder does not hold yet (all with `anew`), within the recipe's caps.

    Raises:
        UsageError: the recipe grows nothing.
        As `grow_axes`, and RunLocked: another process writes to the folder.
    """
    from qdcgen.line import budget_of

    if all(source.grow is None for source in recipe.taxonomy.values()):
        raise UsageError(f"{recipe.file}: no taxonomy is to be grown; write taxonomy: {{axis: {{grow: {{from: …}}}}}}")
    with Store(folder) as store:
        journal = Journal(folder / "calls.sqlite")
        try:
            return grow_axes(recipe, store, journal, budget=budget_of(recipe), anew=anew, say=say)[1]
        finally:
            journal.close()


def _is_strange(store: Store, axis: str) -> bool:
    """Whether the folder's rows were made by a recipe without this axis."""
    made: dict[str, Any] = (store.read("run.json") or {}).get("made_from") or {}
    return bool(made) and axis not in [value for key, value in made.items() if key.startswith("taxonomy.")]


def samples_of(file: Path) -> tuple[str, ...]:
    """Up to 12 rows of a table, evenly spaced, each as `column: value` for its columns of text.

    Raises:
        UsageError, RecipeError: it cannot be read, or holds no text.
    """
    import polars as pl

    table = read(file).select(pl.selectors.string())
    if table.width == 0:
        raise UsageError(f"{file}: no column of text to show; expected rows such as those you want to make")
    table = table.gather_every(max(1, -(-table.height // SAMPLES)))
    return tuple(
        "; ".join(f"{column}: {value}" for column, value in row.items() if value is not None)
        for row in table.iter_rows(named=True)
    )


# ── a file of its own ───────────────────────────────────────────────────────────────────────────────────────────────


def journal_beside(file: Path) -> Path:
    """Where the replies of a growth are kept: `axes/appliances.calls.sqlite` for `axes/appliances.json`."""
    return file.with_suffix(".calls.sqlite")


def grow_file(
    wanted: Wanted,
    file: Path,
    *,
    model: Mapping[str, Any],
    count: int | None = None,
    replace: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Planted]:
    """Grow a description into `file`; with `count`, into one file for each of up to that many factors.

    `model`: settings of one alias, as a recipe has them. The file of a factor is called after `file` and the factor.

    Raises:
        UsageError: a file is there already and `replace` was not said, the folder cannot be written to, or the model's
            settings are wrong.
        Interrupted, Incomplete, ModelRefused: run again to go on; what came is in the journal beside the file.
    """
    from pydantic import ValidationError

    from qdcgen.parts import find
    from qdcgen.recipe import Alias

    try:
        aliases = {"grower": Alias.model_validate(model)}
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(f"--{'-'.join(map(str, first['loc'])).replace('_', '-') or 'model'}: {message}") from None
    if count is None:
        _free(file, replace=replace)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{file.parent}: cannot be made: {error.strerror}") from None
    journal = Journal(journal_beside(file))
    part: Any = find("embedders", "wordllama")
    planted: list[Planted] = []
    try:
        named = _named(wanted, file, count, aliases, journal, say)
        if all(to.exists() for _, _, to in named):
            _free(named[0][2], replace=replace)
        for name, one, to in named:
            if to.exists() and not replace:  # one of several factors, grown before an interruption
                say(f"{to} is there already, and is left as it is")
                continue
            session = _Session(aliases, journal, say)
            grown = session.run(session.grow(name, one, 0, part()))
            _put(to, dumps(grown.document()))
            planted.append(Planted(to, grown))
    finally:
        journal.close()
    return planted


def _named(
    wanted: Wanted,
    file: Path,
    count: int | None,
    aliases: Mapping[str, Any],
    journal: Journal,
    say: Callable[[str], None],
) -> list[tuple[str, Wanted, Path]]:
    """Each tree to grow: its name, what is wanted, and its file."""
    from dataclasses import replace as changed

    if count is None:
        return [(slug(file.stem), wanted, file)]
    session = _Session(aliases, journal, say)
    found = session.run(
        factors(wanted.description, count, asking=session.asking(slug(file.stem)), samples=wanted.samples)
    )
    say(f"factors: {', '.join(one.name for one in found)}")
    listed: dict[str, tuple[str, Wanted, Path]] = {}
    for one in found:
        name = slug(one.name)
        words = f"{wanted.description}; of this only one aspect: {one.name}{f' ({one.what})' if one.what else ''}"
        to = file.with_name(f"{file.stem}-{name}{file.suffix}")
        listed.setdefault(name, (name, changed(wanted, description=words), to))
    return list(listed.values())


def slug(words: str) -> str:
    """A name for an axis and a file: letters, digits and `_`, a letter first, whole words up to 40 characters."""
    plain = re.sub(r"[^a-z0-9]+", "_", words.casefold()).strip("_")
    if len(plain) > NAME:
        plain = (plain[: NAME + 1].rpartition("_")[0] or plain[:NAME]).strip("_")
    return plain if plain[:1].isalpha() else f"axis_{plain}".rstrip("_")


def _free(file: Path, *, replace: bool) -> None:
    if file.exists() and not replace:
        raise UsageError(
            f"{file} is there already, and a grown tree is never grown over; type --replace to put a new one in its "
            f"place, or name another file: --out {shlex.quote(str(file.with_stem(file.stem + '-2')))}"
        )


def _put(file: Path, content: bytes) -> None:
    """The whole file or none of it: written beside its place, synced, renamed."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{file}: cannot be written: {error.strerror}") from None


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────────


class Asked(NamedTuple):
    """`qdcgen taxonomy grow` as it was typed; only what was typed is in `bounds` and `model`."""

    what: str
    out: Path | None = None
    bounds: Mapping[str, Any] = {}
    model: Mapping[str, Any] = {}
    factors: int | None = None
    samples: Path | None = None
    overrides: tuple[str, ...] = ()
    allowed: tuple[Path, ...] = ()


def carried_out(asked: Asked, *, replace: bool, say: Callable[[str], None]) -> list[Planted]:
    """Grow the axes of a recipe, or a description.

    Raises:
        UsageError: the options do not go together, or name something impossible.
        As `grow_recipe` and `grow_file`.
    """
    if asked.what.lower().endswith((".yaml", ".yml")):
        return _of_recipe(asked, replace=replace, say=say)
    if asked.overrides or asked.allowed:
        raise UsageError(f"--set and --allow-dir are for recipes (*.yaml), and {asked.what!r} is a description")
    if not asked.what.strip():
        raise UsageError('an empty description; type e.g.: qdcgen taxonomy grow "household appliances"')
    duplicates = asked.bounds.get("duplicates", "flag")
    if duplicates not in ("flag", "merge"):
        raise UsageError(f"--duplicates: expected flag or merge, found {duplicates!r}")
    wanted = Wanted(
        asked.what.strip(), samples=samples_of(asked.samples) if asked.samples else (), **dict(asked.bounds)
    )
    file = asked.out or Path("axes")
    if asked.out is None or file.is_dir() or (asked.factors and not file.suffix):
        file /= f"{slug(asked.what).replace('_', '-')}.json"
    if file.suffix != ".json":
        raise UsageError(f"--out {file}: expected a name that ends in .json, or a folder that is there")
    model = {"model": "embedded", **asked.model}
    say(
        f"growing {asked.what.strip()!r} with {model['model']}, at most {most_calls(wanted):,} calls a tree; replies "
        f"are kept in {journal_beside(file)}"
    )
    return grow_file(wanted, file, model=model, count=asked.factors, replace=replace, say=say)


def _of_recipe(asked: Asked, *, replace: bool, say: Callable[[str], None]) -> list[Planted]:
    from qdcgen.recipe import load

    typed = [f"--{name.replace('_', '-')}" for name in (*asked.bounds, *asked.model)]
    typed += ["--factors"] if asked.factors else []
    typed += ["--samples"] if asked.samples else []
    if typed:
        raise UsageError(
            f"{', '.join(typed)}: a recipe says this itself, under taxonomy.<axis>.grow and models; "
            f"write it there, or use --set"
        )
    recipe = load(asked.what, overrides=asked.overrides, allowed=asked.allowed, out=asked.out)
    folder = asked.out or Path("runs") / recipe.name
    planted = grow_recipe(recipe, folder, anew=replace, say=say)
    if not planted:
        changed = [
            note
            for axis, source in recipe.taxonomy.items()
            if source.grow is not None and (file := folder / "axes" / f"{axis}.json").is_file()
            for note in outgrown(axis, source.grow, file.read_bytes(), file)
        ]
        for line in changed or [f"{folder}/axes: grown already, nothing to do; --replace grows it anew"]:
            say(line)
    return planted


# ── in words ────────────────────────────────────────────────────────────────────────────────────────────────────────


def grown_text(planted: Sequence[Planted], width: int = 80) -> str:
    """Where each tree lies, its first levels, what was cut, and what its figures say; `width` cells wide at most."""
    lines: list[str] = []

    def wrapped(text: str) -> None:
        lines.extend(textwrap.wrap(printable(text), width, initial_indent="  ", subsequent_indent="    "))

    for one in planted:
        tree, about = one.grown.tree, one.grown.about
        lines.append(
            f"{one.file}: {len(tree.nodes):,} nodes, {len(tree.leaves):,} leaves, {tree.depth} deep; "
            f"{about['calls']:,} calls of {about['model']}"
        )
        lines += [clipped(f"  {'  ' * node.depth}{printable(node.label)}", width) for node in tree.nodes[:SHOWN]]
        if len(tree.nodes) > SHOWN:
            lines.append(f"  … and {len(tree.nodes) - SHOWN:,} more")
        if about["cut"]:
            cut = ", ".join(f"{count:,} {what}" for what, count in about["cut"].items())
            wrapped(f"cut by the bounds: {cut}")
        for name, said, all_said in (
            ("copies", "says the same as a topic above it", "say the same as a topic above them"),
            ("near_duplicates", "is alike in another branch", "are alike in other branches"),
        ):
            for pair in about[name][:ALIKE_SHOWN]:
                wrapped(f"{said}: {pair['one']} and {pair['other']} ({pair['cosine']:.2f})")
            if (more := len(about[name]) - ALIKE_SHOWN) > 0:
                lines.append(f"  … and {more:,} more that {all_said}")
        wrapped(about["quality"]["remark"])
    return "\n".join(lines)


def grown_document(planted: Sequence[Planted]) -> dict[str, Any]:
    """The same for a program: of each tree its file, its size and how it came about."""
    return {
        "grown": [
            {
                "file": str(one.file),
                "nodes": len(one.grown.tree.nodes),
                "leaves": len(one.grown.tree.leaves),
                "depth": one.grown.tree.depth,
                **one.grown.about,
            }
            for one in planted
        ]
    }


SHOWN, ALIKE_SHOWN = 60, 10
"""Nodes and near-duplicates that are printed."""


def to_stderr(text: str) -> None:
    """One line of progress, made harmless."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()
