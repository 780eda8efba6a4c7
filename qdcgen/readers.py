"""Who reads where a run's texts landed, and which rows are known to be of which node.

The reader that is a model asks through the run's journal, under the seeds that the filter `landed` asks with: what the
filter asked already is not paid for again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from qdcgen.errors import GO_ON, Incomplete, ModelRefused, RowFault, UsageError, nearest
from qdcgen.intervals import FEW
from qdcgen.landing import MOST_LEAVES, NOWHERE, Reading, choose, confused, places, unmatched
from qdcgen.report.contents import Confusion
from qdcgen.report.figures import clip, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import polars as pl

    from qdcgen.parts import Sample
    from qdcgen.recipe import Recipe
    from qdcgen.rows import Reply, Taxonomy
    from qdcgen.store import Store

__all__ = ["confusions", "labelled", "named", "nowhere", "reading"]

AT_ONCE = 1_000
"""Texts that a model is asked about together; how many calls are in flight is its alias's matter."""
NAMED = 5
"""Labels without a node that a remark names."""
LONGEST = 60
"""Letters of such a label that it tells."""
MUCH = 0.2
"""Share of accepted rows placed nowhere from which a remark says so: on messages of banking77 it is 0.024 at most."""


def labelled(frame: pl.DataFrame, columns: Mapping[str, str], trees: Mapping[str, Taxonomy], of: str) -> pl.DataFrame:
    """The frame with a column of node paths for each axis, null where the label names no node.

    `columns`: axis → the column of labels, matched by id, path or label (see `landing.places`).

    Raises:
        UsageError: a column is not there.
    """
    import polars as pl

    found = []
    for axis, column in columns.items():
        if column not in frame.columns:
            close = nearest(column, frame.columns)
            raise UsageError(f"{of}: no column {column!r}{close}; it has {', '.join(frame.columns)}")
        nodes = trees[axis].nodes
        numbers = places(frame[column].cast(pl.String).to_list(), trees[axis]).tolist()
        paths = [nodes[number].path if number >= 0 else None for number in numbers]
        found.append(pl.Series(axis, paths, dtype=pl.String))
    return frame.with_columns(found)


def named(values: Sequence[str | None], tree: Taxonomy, column: str, of: str = "") -> tuple[str, bool]:
    """Which labels name no node of `of` (default: the tree's name), in words, and whether any label names one.

    The words are empty where every label does.
    """
    found, of = places(values, tree), of or tree.name
    apart = unmatched(values, found)
    if not apart:
        return "", bool((found >= 0).any())
    rows = sum(apart.values())
    if not (found >= 0).any():
        some = ", ".join(repr(clip(value, LONGEST)) for value in list(apart)[:NAMED])
        some += ", …" if len(apart) > NAMED else ""
        none = f"none of {plural(rows, 'label')} ({column}) names a node of {of}"
        return f"{none}: {some}; is this the right tree?", False
    some = ", ".join(f"{clip(value, LONGEST)!r} ({count:,})" for value, count in list(apart.items())[:NAMED])
    more = f" and {len(apart) - NAMED:,} more" if len(apart) > NAMED else ""
    are = "is" if rows == 1 else "are"
    return f"{plural(rows, 'row')} whose {column} names no node of {of} {are} left out: {some}{more}", True


def reading(
    store: Store, recipe: Recipe, frames: Mapping[str, pl.DataFrame], *, ask: bool
) -> tuple[Reading | None, list[str]]:
    """How the texts (column `_text`) of accepted and of labelled rows are read, and what is to be said about it.

    By the embedder, or by the model under `measure.landing`, which is asked here and now where `ask` is true. None
    where nothing could be read; then the remarks say why.
    """
    settings, known = recipe.measure.landing, frozenset({"anchor"})
    if settings.model is None:
        large = [axis for axis, tree in recipe.taxonomies.items() if len(tree.leaves) > MOST_LEAVES]
        said = [f"where texts landed on {axis} is not read: it has more than {MOST_LEAVES:,} leaves" for axis in large]
        return Reading(settings.threshold, known=known), said
    if not ask:
        return None, [f"where texts landed is not read: the model {settings.model} is asked by qdcgen run only"]
    texts = {
        axis: _texts((frames[of] for of in ("kept", "anchor") if of in frames), axis) for axis in recipe.taxonomies
    }
    try:
        placed, name, faults = asyncio.run(_asked(store, recipe, texts))
    except (Incomplete, ModelRefused) as error:
        return None, [f"where texts landed was not read: {error}. {GO_ON}"]
    said = [f"{faults:,} texts that {name} gave no usable answer on count as placed nowhere"] if faults else []
    return Reading(critic=name, placed=placed, known=known), said


def _texts(frames: Iterable[pl.DataFrame], axis: str) -> list[str]:
    """Distinct texts of the rows that this axis was drawn for, in order."""
    import polars as pl

    found: dict[str, None] = {}
    for frame in frames:
        if axis in frame.columns:
            wanted = frame.filter(pl.col(axis).is_not_null() & pl.col("_text").is_not_null())
            found |= dict.fromkeys(wanted["_text"].to_list())
    return list(found)


async def _asked(
    store: Store, recipe: Recipe, texts: Mapping[str, Sequence[str]]
) -> tuple[dict[str, dict[str, int]], str, int]:
    """Axis → text → place, the model's name, and how many texts it gave no usable answer on."""
    from qdcgen.line import budget_of
    from qdcgen.model.ask import Models
    from qdcgen.model.journal import Journal
    from qdcgen.rows import stream
    from qdcgen.store import digest

    alias = str(recipe.measure.landing.model)
    journal = Journal(store.folder / "calls.sqlite")
    models = Models(recipe.models, journal, budget=budget_of(recipe))

    async def ask(to: str, messages: Sequence[Mapping[str, str]], **settings: Any) -> Reply:
        seed = stream("landed", digest([dict(message) for message in messages])) & 0x7FFFFFFF
        return await models.ask(to, messages, seed=seed, **settings)

    placed: dict[str, dict[str, int]] = {}
    faults = 0
    try:
        for axis, wanted in texts.items():
            tree, of = recipe.taxonomies[axis], placed.setdefault(axis, {})
            for start in range(0, len(wanted), AT_ONCE):
                some = wanted[start : start + AT_ONCE]
                # Every one is answered before anything is raised: what was paid for is in the journal by then.
                answers = await asyncio.gather(
                    *(choose(text, tree, ask, alias) for text in some), return_exceptions=True
                )
                for text, answer in zip(some, answers, strict=True):
                    if isinstance(answer, RowFault):
                        of[text], faults = NOWHERE, faults + 1
                    elif isinstance(answer, BaseException):
                        raise answer
                    else:
                        of[text] = answer
        return placed, models.name(alias), faults
    finally:
        await models.close()
        journal.close()


def nowhere(samples: Iterable[Sample], recipe: Recipe) -> list[str]:
    """For each axis where more than a fifth of the accepted rows was placed nowhere: how many, and what to do."""
    landing = recipe.measure.landing
    sifted = [axis for one in recipe.filters if one.name == "landed" for axis in one.part.axes or recipe.taxonomies]
    found = []
    for sample in samples:
        for axis in sample.taxonomies if sample.of == "kept" else ():
            met = sample.landing(axis)
            asked = 0 if met is None else int((met.asked >= 0).sum())
            if met is None or asked < FEW:
                continue
            rows = int(((met.asked >= 0) & (met.landed == NOWHERE)).sum())
            if rows <= MUCH * asked:
                continue
            sifts = axis in sifted
            if landing.model is None:
                way = (
                    f"let a model read (measure.landing.model), lower measure.landing.threshold ({landing.threshold:g})"
                    ", or give the nodes definitions"
                )
            else:
                way = "give the nodes definitions"
            way += "; the filter has a model and a threshold of its own" if sifts and landing.model is None else ""
            kept = ", and the filter landed keeps such rows" if sifts else ""
            found.append(
                f"{axis}: {met.reader} placed {rows:,} of {asked:,} accepted rows nowhere{kept}: where they landed is "
                f"not known. Read some of them: they may be about nothing in the tree. Else {way}"
            )
    return found


def confusions(samples: Iterable[Sample]) -> list[Confusion]:
    """The ten most confused pairs of each axis: of accepted rows, and of rows whose labels people gave."""
    found = []
    for sample in samples:
        for axis, tree in sample.taxonomies.items() if sample.of != "raw" else ():
            landing = sample.landing(axis)
            if landing is not None and int((landing.asked >= 0).sum()) >= FEW:
                found += [Confusion(axis, sample.of, *pair) for pair in confused(landing, tree)]
    return found
