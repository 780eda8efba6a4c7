"""Which tools can follow which, and walks from tool to tool.

A tool can follow another where a parameter of it matches what the other returns, or one of the other's parameters
(ToolFlow, arXiv 2410.18447 §3.1): names and descriptions are compared by the cosine of their embeddings. Or a table
says so, with counts of how often it was seen.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen import tables
from qdcgen.errors import UsageError, nearest

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.tool_lists import Tool

    Links = Sequence[NDArray[np.int32]]
    Counts = Sequence[NDArray[np.float64]]

__all__ = ["Graph", "counted", "in_words", "linked", "matched", "walk"]

BLOCK = 512
"""Texts compared with all others at once: 512 × 8,000 cosines take 16 MB."""
DEEP = 2
"""Levels of a schema whose fields are compared: those of an object, and of the objects in it."""
LETTERS = 300
"""Letters of a field's name and description that are compared."""
ROUNDED = 1e-5
"""What a cosine of two equal texts may lack of 1."""
LOOKS = 2_000
"""Steps that one walk may try before it is content with the longest way that it found."""
WAYS = 128
"""Neighbours of a tool that one walk looks at."""
SHOWN = 40
"""Tools that a message names."""
GROUPS = 8
"""Components that a message tells apart."""


class Graph(NamedTuple):
    """Tools, and for each the tools that can follow it: `follow[i]` are positions in `tools`."""

    tools: Sequence[Tool]
    follow: Links
    counts: Counts | None
    """How often each of `follow` was seen; None where that is not known."""
    starts: Sequence[int]
    """Tools that something can follow."""
    components: Sequence[Sequence[int]]
    """Tools that hang together, in either direction, the largest first; isolated ones are not here."""
    isolated: Sequence[int]
    """Tools that follow none and that none follows."""


# ── what follows what ───────────────────────────────────────────────────────────────────────────────────────────────


def matched(tools: Sequence[Tool], embed: Callable[[Sequence[str]], Any], threshold: float) -> Links:
    """For each tool the tools with a parameter like one of its fields: cosine of name and description ≥ `threshold`.

    Two tools of one name, which a file may list many times, never follow each other. 2,674 tools: 0.6 s with static
    vectors.
    """
    import numpy as np
    from scipy.sparse import coo_array, csr_array

    texts: dict[str, int] = {}

    def known(text: str) -> int:
        return texts.setdefault(text, len(texts))

    takes = [sorted({known(text) for text in _fields(tool.parameters)}) for tool in tools]
    gives = [
        sorted({*mine, *(known(text) for text in _fields(tool.returns or {}))})
        for mine, tool in zip(takes, tools, strict=True)
    ]
    if not texts:
        return [np.empty(0, dtype=np.int32) for _ in tools]
    vectors = np.asarray(embed(list(texts)), dtype=np.float32)
    near: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for start in range(0, len(vectors), BLOCK):
        rows, columns = np.nonzero(vectors[start : start + BLOCK] @ vectors.T >= threshold - ROUNDED)
        near.append((rows + start, columns))
    rows, columns = (np.concatenate([pair[side] for pair in near]) for side in (0, 1))
    alike = coo_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=(len(texts), len(texts))).tocsr()

    def table(of: Sequence[Sequence[int]]) -> Any:
        ends = np.cumsum([0, *map(len, of)])
        places = np.fromiter((text for one in of for text in one), dtype=np.int32, count=int(ends[-1]))
        return csr_array((np.ones(len(places), dtype=np.int32), places, ends), shape=(len(of), len(texts)))

    reached = (table(gives) @ alike @ table(takes).T).tocsr()
    found: list[NDArray[np.int32]] = []
    for place, tool in enumerate(tools):
        mine = np.sort(reached.indices[reached.indptr[place] : reached.indptr[place + 1]]).astype(np.int32)
        own = _called(tool)
        found.append(np.array([other for other in mine if _called(tools[other]) != own], dtype=np.int32))
    return found


def _called(tool: Tool) -> str:
    return tool.twin or tool.name


def _fields(schema: Mapping[str, Any], deep: int = DEEP) -> Iterator[str]:
    """Name and description of each field of an object, of the objects in it, and of the items of a list."""
    items = schema.get("items")
    if isinstance(items, dict):
        yield from _fields(items, deep)
    for name, one in schema.get("properties", {}).items() if deep else ():
        words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", re.sub(r"[\W_]+", " ", name)).lower().strip()
        yield f"{words}: {one.get('description', '')}".strip(": ")[:LETTERS]
        yield from _fields(one, deep - 1)


def counted(path: Path, tools: Sequence[Tool]) -> tuple[Links, Counts]:
    """What follows what by a table with the columns `from`, `to` and, optionally, `count`; and the counts.

    A step of count 0 is no step. Lines of one pair are added up.

    Raises:
        UsageError: a column is missing, or a row names no tool or counts below 0.
        RecipeError: the table is broken.
    """
    import numpy as np
    import polars as pl

    table = tables.read(path)
    for column in ("from", "to"):
        if column not in table.columns:
            raise UsageError(f"{path}: no column {column!r}; expected from, to and, optionally, count")
    places = {tool.name: place for place, tool in enumerate(tools)}
    counts = table["count"].to_list() if "count" in table.columns else [1] * table.height
    steps: list[dict[int, float]] = [{} for _ in tools]
    ends = (table[column].cast(pl.String).to_list() for column in ("from", "to"))
    for number, (one, other, count) in enumerate(zip(*ends, counts, strict=True), 1):
        for name in (one, other):
            if name not in places:
                raise UsageError(f"{path}: row {number}: no tool called {name!r}{nearest(name or '', list(places))}")
        if not isinstance(count, (int, float)) or not 0 <= count < float("inf"):
            raise UsageError(f"{path}: row {number}: count is {count!r}; expected a number from 0 up")
        if count and one != other:
            step = steps[places[one]]
            step[places[other]] = step.get(places[other], 0) + count
    follow = [np.array(sorted(step), dtype=np.int32) for step in steps]
    seen = [np.array([step[other] for other in sorted(step)], dtype=np.float64) for step in steps]
    return follow, seen


def linked(tools: Sequence[Tool], follow: Links, counts: Counts | None = None) -> Graph:
    """The graph, its components and its isolated tools."""
    root = list(range(len(tools)))

    def top(place: int) -> int:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for place, others in enumerate(follow):
        for other in others:
            one, two = sorted((top(place), top(int(other))))
            root[two] = one
    groups: dict[int, list[int]] = {}
    for place in range(len(tools)):
        groups.setdefault(top(place), []).append(place)
    components = sorted((group for group in groups.values() if len(group) > 1), key=lambda group: (-len(group), group))
    isolated = [group[0] for group in groups.values() if len(group) == 1]
    return Graph(tools, follow, counts, [i for i, others in enumerate(follow) if len(others)], components, isolated)


# ── from tool to tool ───────────────────────────────────────────────────────────────────────────────────────────────


def walk(graph: Graph, start: int, length: int, rng: random.Random) -> list[int]:
    """A random way of `length` tools along edges, no name twice; the longest found where there is none that long.

    A dead end is walked back from, so that a short walk means that the graph has no longer one, or one in more than
    `LOOKS` steps. Where steps were counted, each is taken in proportion to its count.
    """
    best = way = [start]
    used = {_called(graph.tools[start])}
    open_ = [_ways(graph, start, rng)]
    looks = 0
    while open_ and len(best) < length and looks < LOOKS:
        looks += 1
        if not open_[-1]:
            open_.pop()
            used.discard(_called(graph.tools[way[-1]]))
            way = way[:-1]
            continue
        place = open_[-1].pop()
        if (name := _called(graph.tools[place])) in used:
            continue
        used.add(name)
        way = [*way, place]
        open_.append(_ways(graph, place, rng))
        best = max(best, way, key=len)
    return best


def _ways(graph: Graph, place: int, rng: random.Random) -> list[int]:
    """What can follow, in random order, the last to be tried first."""
    others = graph.follow[place]
    if graph.counts is None:
        return [int(others[i]) for i in rng.sample(range(len(others)), min(len(others), WAYS))]
    # Each gets a key of u^(1/count); by falling keys that is drawing without return, in proportion (Efraimidis 2006).
    keys = [rng.random() ** (1 / count) for count in graph.counts[place]]
    return [int(others[i]) for i in sorted(range(len(others)), key=lambda i: keys[i])[-WAYS:]]


def in_words(graph: Graph, length: int = 1) -> list[str]:
    """Tools, steps and components, with the tools that no walk reaches by name."""

    def named(places: Sequence[int], most: int = SHOWN) -> str:
        more = f" and {len(places) - most:,} more" if len(places) > most else ""
        return ", ".join(graph.tools[place].name for place in places[:most]) + more

    steps = sum(len(others) for others in graph.follow)
    twins = sum(bool(tool.twin) for tool in graph.tools)
    groups = graph.components
    said = [f"{len(graph.tools):,} tools, {steps:,} steps from one to another; {len(groups):,} components"]
    said += [f"component of {len(group):,} tools: {named(group, 5)}" for group in groups[:GROUPS]]
    if len(groups) > GROUPS:
        rest = [len(group) for group in groups[GROUPS:]]
        said.append(f"{len(rest):,} more components of {min(rest)} to {max(rest)} tools")
    if twins:
        said.append(f"{twins:,} tools share their name with one before them, and got a number behind it")
    small = [place for component in graph.components if len(component) < length for place in component]
    if small:
        said.append(f"too few hang together for a walk of {length}, so theirs are shorter: {named(small)}")
    if graph.isolated:
        idle = "" if length == 1 else ", and stand in no walk"
        count = len(graph.isolated)
        said.append(f"{count:,} isolated tools, that follow none and none follows{idle}: {named(graph.isolated)}")
    return said
