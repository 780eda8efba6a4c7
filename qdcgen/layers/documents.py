"""The layer `documents`: the rows of a file as seeds."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field, model_validator

from qdcgen.deal import nth
from qdcgen.errors import UsageError, nearest
from qdcgen.parts import Layer, Position, Problem, Scene, Settings, Tools
from qdcgen.passages import ENDINGS, clean, pieces, text_column, texts
from qdcgen.rows import Node, Taxonomy

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

LONGEST = 2_000
"""Words of a document that no `chunk` cuts; what follows is left out. Some 3,000 tokens: less than a prompt holds."""


class Chunk(Settings):
    """How long documents are cut into pieces."""

    words: int = Field(default=200, ge=10, le=LONGEST)
    """Words of one piece."""
    overlap: int = Field(default=20, ge=0)
    """Words that a piece shares with the one before it."""

    @model_validator(mode="after")
    def _forward(self) -> Chunk:
        if self.overlap * 2 > self.words:
            raise ValueError(f"overlap {self.overlap} is more than half of words {self.words}")
        return self


class Documents(Layer):
    """A passage of a file as the seed of each row: `{documents: {file: articles.jsonl, text: body}}`.

    Any table (JSONL, JSON, CSV, TSV, Parquet) or plain text (`.txt`, `.md`: texts stand between blank lines, or one a
    line). Within a mix every passage is used once before any is used twice, in an order of the mix's own; another
    mix begins elsewhere, so that over a run of many small mixes some passages come twice before others come at all.
    `by` keeps a row to the documents of its own node. Texts are cut at word borders and are data: `{{ axis }}` prints
    one as it stands, and nothing in it is ever read as a template. `{{ axis.source }}` is its row in the file, or its
    `id` where the file has a column of that name, and `{{ axis.chunk }}` which piece of it.
    """

    short: ClassVar[str | None] = "file"

    file: str
    """The file, in the recipe's folder."""
    text: str | None = None
    """Column that holds the text; default: `text`, or the only column of texts."""
    chunk: Chunk | None = None
    """Cut long texts into pieces, each a seed: `{words: 200, overlap: 20}`; default: its first 2,000 words."""
    by: dict[str, str] = Field(default_factory=dict, max_length=1)
    """Taxonomy → column that names the node (id, path or label) each document belongs to."""

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """`by` names a taxonomy."""
        trees = [name for name, axis in scene.axes.items() if isinstance(axis, Taxonomy)]
        for axis in self.by:
            if axis not in trees:
                yield Problem(("by", axis), f"no taxonomy called {axis!r}{nearest(axis, trees)}")

    async def prepare(self, tools: Tools) -> Passages:
        """Read the file once; the texts stay in one column, not in Python's own strings.

        Raises:
            UsageError: no texts, no such column, or a leaf without documents.
            RecipeError: the file is broken.
        """
        path = tools.file(self.file)
        if path.suffix.lower() in ENDINGS:
            if self.by:
                raise UsageError(f"{path}: by: needs a column, and a file of plain text has none; make it a table")
            column, table = texts(path), None
        else:
            column, table = _table(path, self.text, list(self.by.values()))
        passages = _cut(column, self.chunk)
        if not len(passages.rows):
            raise UsageError(f"{path}: every text of {column.name!r} is empty")
        if table is not None:
            names = next((table[name] for name in ("id", "_id") if name in table.columns), None)
            passages = passages._replace(names=names)
            for axis, name in self.by.items():
                tree = tools.taxonomies.get(axis)
                if tree is not None:
                    passages = passages._replace(of=_by(passages, table[name], tree, f"{path}: column {name!r}"))
        return passages

    def draw(self, names: Mapping[str, Any], at: Position) -> dict[str, Any]:
        """The mix's next passage."""
        held: Passages | None = at.prepared
        if held is None:
            return {"text": "a document", "source": "", "chunk": 0}
        node = next((names.get(axis) for axis in self.by), None)
        own = held.of.get(node.id) if isinstance(node, Node) and held.of is not None else None
        place = nth(at.replicate, len(held.rows) if own is None else len(own), at.mix_seed)
        if own is not None:
            place = int(own[place])
        row = int(held.rows[place])
        text = clean(held.texts[row])[int(held.starts[place]) : int(held.ends[place])]
        source = str(held.names[row]) if held.names is not None else f"row {row + 1}"
        return {"text": text, "source": source, "chunk": int(held.chunks[place])}

    def column(self) -> Mapping[str, str]:
        """A struct: the passage, where it is from, and which piece it is, from 0."""
        return {"text": "String", "source": "String", "chunk": "Int64"}

    def remarks(self, prepared: Passages) -> Sequence[str]:
        """What a person may want to know of the file."""
        said = [f"{len(prepared.rows):,} passages of {len(prepared.texts):,} rows"]
        if prepared.empty:
            said.append(f"{prepared.empty:,} rows without a text are left out")
        if prepared.shortened:
            said.append(f"{prepared.shortened:,} texts are cut to {LONGEST:,} words; chunk: would use the rest")
        return ["; ".join(said)]


class Passages(NamedTuple):
    """Every passage of a file: which row it is of, and where in that row's text it begins and ends."""

    texts: pl.Series
    rows: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    chunks: NDArray[np.int32]
    empty: int
    shortened: int
    names: pl.Series | None = None
    of: Mapping[str, NDArray[np.int64]] | None = None
    """Leaf id → its passages."""


def _table(path: Any, text: str | None, more: Sequence[str]) -> tuple[pl.Series, pl.DataFrame]:
    """The texts, and the columns beside them that are needed; the others are let go."""
    import polars as pl

    from qdcgen import tables

    table = tables.read(path)
    column = text_column(table, text, path)
    for name in more:
        if name not in table.columns:
            raise UsageError(f"{path}: no column {name!r}{nearest(name, table.columns)}")
    beside = dict.fromkeys([*more, *(name for name in ("id", "_id") if name in table.columns)])
    return table[column].rechunk(), table.select(pl.col(list(beside)).cast(pl.String))


def _cut(column: pl.Series, chunk: Chunk | None) -> Passages:
    """Cut every text, one at a time: 100,000 documents of 200 words take 3 s."""
    import numpy as np

    words, overlap = (chunk.words, chunk.overlap) if chunk else (LONGEST, 0)
    rows, starts, ends, chunks = (array("i") for _ in range(4))
    empty = shortened = 0
    for row, text in enumerate(column):
        number = -1
        for number, (start, end) in enumerate(pieces(clean(text or ""), words, overlap)):
            if number and chunk is None:
                shortened += 1
                break
            rows.append(row)
            starts.append(start)
            ends.append(end)
            chunks.append(number)
        empty += number < 0

    def packed(numbers: array[int]) -> NDArray[np.int32]:
        return np.array(numbers, dtype=np.int32)

    return Passages(column, packed(rows), packed(starts), packed(ends), packed(chunks), empty, shortened)


def _by(passages: Passages, names: pl.Series, tree: Taxonomy, where: str) -> Mapping[str, NDArray[np.int64]]:
    """Leaf id → its passages: those that name the leaf, else those that name the nearest node above it.

    Raises:
        UsageError: leaves that rows are planned for have none.
    """
    import numpy as np

    found: dict[str, list[int]] = {}
    said = names.to_list()
    for place, row in enumerate(passages.rows):
        found.setdefault(said[row] or "", []).append(place)
    of: dict[str, NDArray[np.int64]] = {}
    bare: list[str] = []
    for leaf in tree.leaves:
        line = list(tree.line(leaf.id))
        known = (found.get(word) for node in line for word in dict.fromkeys((node.id, node.path, node.label)))
        own = next((places for places in known if places), None)
        if own is not None:
            of[leaf.id] = np.array(own, dtype=np.int64)
        elif all(node.weight > 0 for node in line):
            bare.append(leaf.path)
    if bare:
        shown = ", ".join(bare[:5]) + (f" and {len(bare) - 5} more" if len(bare) > 5 else "")  # noqa: PLR2004
        seen = ", ".join(sorted(found)[:5])
        raise UsageError(f"{where} names no document of {shown}; it holds {seen}: expected ids, paths or labels")
    return of
