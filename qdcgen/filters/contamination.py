"""The filter `contamination`: rows that repeat what they will be tested on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field, field_validator

from qdcgen.errors import UsageError, nearest
from qdcgen.overlap import Overlap, words
from qdcgen.parts import Filter, Problem, is_text
from qdcgen.passages import text_column
from qdcgen.rows import Row, Verdict
from qdcgen.safe import printable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from qdcgen.parts import Scene, Tools

    Vectors = NDArray[np.float32]

SHOWN = 80
"""Letters of the shared words that a reason shows."""
BLOCK = 8_192
"""Texts embedded, or compared, at once."""


class Contamination(Filter):
    """Drops rows that share `ngram` words in a row with a text of a named file: a test set, anchors, an earlier run.

    `{contamination: {against: [test.jsonl, runs/earlier], text: question}}`. Words are compared without case, width
    and punctuation; in scripts without spaces each character is a word. A file's text of fewer words counts where a row
    is just these words, or holds them all and they are 8 or more; a short row that is a piece of a longer text passes.
    13 words are what GPT-3 was checked with (arXiv 2005.14165, appendix C): a paraphrase passes, and so does a text
    with a word changed in every 13. Each hit is verified word by word, so no row is dropped for equal hashes.

    `similarity` adds a second look, by the recipe's embedder: a row as near as that to any of the texts is dropped,
    too. It is off by default, since people who ask one thing ask it alike: of 10,003 real train messages of banking77
    it drops 765 (8 %) at 0.95 against the test messages, and 375 at 0.97, where shared words drop 84. What is named is
    held in memory: 1,000,000 texts of 60 words take 1.5 GB and half a minute, and 0.4 ms a row.
    """

    short: ClassVar[str | None] = "against"
    embeds: ClassVar[bool] = True

    against: tuple[str, ...] = Field(min_length=1)
    """Files (JSONL, JSON, CSV, TSV, Parquet) and run folders, in the recipe's folder or an allowed one."""
    text: str | None = None
    """Column of these files that holds the text; default: those called like the row's fields, else `text`, else the
    only one that holds texts."""
    field: str | None = None
    """Field that is looked at; default: all text fields together."""
    ngram: int = Field(default=13, ge=2, le=50)
    """Words in a row that must be shared."""
    share: float = Field(default=0.0, ge=0, le=1)
    """Least share of a row's words that stand in shared runs; 0: one run is enough."""
    similarity: float | None = Field(default=None, gt=0, le=1)
    """Cosine from which a row is too near to a text; default: nothing is embedded."""

    @field_validator("against", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The field exists and holds text."""
        if self.field is None:
            return
        if self.field not in scene.fields:
            yield Problem(("field",), f"no field called {self.field!r}{nearest(self.field, list(scene.fields))}")
        elif not is_text(scene.fields[self.field]):
            yield Problem(("field",), f"field {self.field!r} holds no text, so it has no words to compare")

    def files(self) -> Sequence[str]:
        """All that rows are compared with."""
        return self.against

    def read(self, tools: Tools) -> Texts:
        """The texts of every file.

        Raises:
            UsageError, RecipeError: a file cannot be read, has no such column, or holds no texts.
        """
        import polars as pl

        columns = []
        for name in self.against:
            parts = [self._column(path, tools.fields) for path in _tables(tools.file(name), name)]
            column = pl.concat(parts, rechunk=True)
            if column.null_count() == len(column):
                raise UsageError(f"{name}: every text is empty; expected texts to compare rows with")
            columns.append(column)
        return Texts(self.against, columns)

    def _column(self, path: Path, fields: Mapping[str, Mapping[str, Any]]) -> pl.Series:
        """The texts of one table, those of several fields joined as a row's are; null where there is none."""
        import polars as pl

        from qdcgen import tables

        table = tables.read(path)
        held = [name for name, kind in table.schema.items() if kind == pl.String]
        own = [name for name in ([self.field] if self.field else _texts(fields)) if name in held]
        if self.text is not None or not own:
            own = [text_column(table, self.text, path)]
        joined = pl.concat_str(own, separator="\n", ignore_nulls=True)
        return table.select(pl.when(joined.str.strip_chars() != "").then(joined).alias("text"))["text"]

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """One verdict a row; the first file, in the recipe's order, that it shares words with is the reason."""
        held: Texts | None = tools.scratch.get("texts")
        if held is None:
            held = tools.scratch["texts"] = await asyncio.to_thread(self.read, tools)
            tools.scratch["overlap"] = await asyncio.to_thread(Overlap, held.columns, self.ngram)
        names = [self.field] if self.field else _texts(tools.fields)
        texts = ["\n".join(v for name in names if isinstance(v := row.fields.get(name), str)) for row in rows]
        said = [self._shared(text, tools.scratch["overlap"], held) for text in texts]
        if self.similarity is not None:
            open_ = [place for place, verdict in enumerate(said) if verdict.kept and not verdict.reason]
            nearest_ = self._nearest([texts[place] for place in open_], held, tools) if open_ else []
            for place, (number, cosine) in zip(open_, nearest_, strict=True):
                if cosine >= self.similarity:
                    reason = f"as near as {cosine:.3f} to {held.place(number)}, at or above {self.similarity:g}"
                    said[place] = Verdict(kept=False, reason=reason, score=cosine)
        return said

    def _shared(self, text: str, overlap: Overlap, held: Texts) -> Verdict:
        if not words(text):
            return Verdict(kept=True, reason="no words to compare")
        hit = overlap.hit(text)
        if hit is None or hit.share < self.share:
            return Verdict(kept=True)
        shared = " ".join(hit.shared)
        shown = printable(shared if len(shared) <= SHOWN else shared[: SHOWN - 1] + "…")
        what = f"all {len(hit.shared)} words of" if hit.whole else f"{len(hit.shared)} words in a row of"
        much = f" ({hit.share:.0%} of its words are shared)" if self.share else ""
        return Verdict(kept=False, reason=f'has {what} {held.place(hit.text)}: "{shown}"{much}', score=hit.share)

    def _nearest(self, texts: Sequence[str], held: Texts, tools: Tools) -> list[tuple[int, float]]:
        """For each text, the number of the nearest of the files' texts, and its cosine."""
        import numpy as np

        if "vectors" not in tools.scratch:
            numbers = [number for number, text in enumerate(held.all()) if text]
            found = [
                tools.embed([held.of(number) for number in numbers[begin : begin + BLOCK]])
                for begin in range(0, len(numbers), BLOCK)
            ]
            tools.scratch["vectors"] = np.concatenate(found)
            tools.scratch["numbers"] = numbers
        vectors: Vectors = tools.scratch["vectors"]
        numbers = tools.scratch["numbers"]
        own = np.asarray(tools.embed(texts))
        best = np.zeros(len(own), dtype=np.int64)
        score = np.full(len(own), -1.0, dtype=np.float32)
        for begin in range(0, len(vectors), BLOCK):
            cosines = own @ vectors[begin : begin + BLOCK].T
            place = cosines.argmax(axis=1)
            here = cosines[np.arange(len(own)), place]
            best = np.where(here > score, place + begin, best)
            score = np.maximum(score, here)
        return [(numbers[place], float(cosine)) for place, cosine in zip(best.tolist(), score.tolist(), strict=True)]


class Texts(NamedTuple):
    """The texts of all files, numbered through from 0."""

    names: Sequence[str]
    columns: Sequence[pl.Series]

    def all(self) -> Iterator[str | None]:
        """Every text, in order."""
        for column in self.columns:
            yield from column

    def at(self, number: int) -> tuple[int, int]:
        """Which file the text of this number is of, and where in it, both from 0."""
        file = 0
        while number >= len(self.columns[file]):
            number -= len(self.columns[file])
            file += 1
        return file, number

    def of(self, number: int) -> str:
        """The text of this number."""
        file, row = self.at(number)
        return str(self.columns[file][row])

    def place(self, number: int) -> str:
        """Where it stands, for a reason: rows are counted from 1."""
        file, row = self.at(number)
        return f"row {row + 1} of {self.names[file]}"


def _tables(path: Path, name: str) -> list[Path]:
    """The file itself; of a run, the parts of its accepted rows.

    Raises:
        UsageError: the run has none yet.
    """
    if path.is_file():
        return [path]
    parts = sorted((path / "data").glob("*.parquet"))
    if not parts:
        raise UsageError(f"{name}: a run without accepted rows; finish it first, or leave it out")
    return parts


def _texts(fields: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Fields with text of their own, not one of a list of words."""
    return [name for name, schema in fields.items() if is_text(schema) and "enum" not in schema]
