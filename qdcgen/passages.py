"""Texts that a recipe brings along: read from a file, made harmless for a prompt, cut to size, told apart.

A text of a file is data. It goes into prompts as it is, is never a template, and keeps its letters; only control
characters leave it, because some servers refuse a request that holds them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from qdcgen import likeness, tables
from qdcgen.errors import Fault, RecipeError, UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    import polars as pl

__all__ = ["ENDINGS", "Told", "clean", "cut", "pieces", "text_column", "texts", "unlike"]

ENDINGS = (".txt", ".md")
"""Files of plain text; every other ending is a table's."""
MAX_BYTES = 2**30
"""Larger files of plain text are refused: one is held whole while its texts are found."""
ROUNDED = 1e-5
"""What a cosine of two equal texts may lack of 1."""
LONG = 40
"""Letters of one word; longer runs without a space (base64, scripts that write none) count as several."""

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
_WORD = re.compile(rf"\S{{1,{LONG}}}")
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")


def clean(text: str) -> str:
    """Without control characters and halves of surrogate pairs; line ends are one newline, blanks at both ends go."""
    return _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def cut(text: str, words: int) -> str:
    """The first `words` words of a text, as they are spaced there."""
    for number, found in enumerate(_WORD.finditer(text), 1):
        if number == words:
            return text[: found.end()]
    return text


def pieces(text: str, words: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Where a text is cut: (first letter, end) of pieces of `words` words, each `overlap` words into the one before.

    The last piece is as long as the others and reaches as far back as it must; a text of fewer words is one piece.
    """
    spans = [found.span() for found in _WORD.finditer(text)]
    if not spans:
        return
    last = max(0, len(spans) - words)
    for start in (*range(0, last, words - overlap), last):
        yield spans[start][0], spans[min(start + words, len(spans)) - 1][1]


def texts(path: Path, column: str | None = None) -> pl.Series:
    """The texts of a file, in its order; null where a row has none.

    A table's are one column: `column`, else `text_column`'s choice. Those of a `.txt` or `.md` file stand between
    blank lines; where there are none, each line is a text.

    Raises:
        UsageError, RecipeError: the file cannot be read, or has no such column.
    """
    import polars as pl

    if path.suffix.lower() in ENDINGS:
        return pl.Series("text", _plain(path), dtype=pl.String)
    table = tables.read(path)
    return table[text_column(table, column, path)].cast(pl.String)


def text_column(table: pl.DataFrame, column: str | None, path: Path) -> str:
    """The column of a table to read: the one named; else `text`, else the only one that holds texts.

    Raises:
        UsageError: there is no such column, it holds no texts, or there are several to choose from.
    """
    import polars as pl

    held = [name for name, kind in table.schema.items() if kind == pl.String]
    if column is not None:
        if column not in table.columns:
            raise UsageError(f"{path}: no column {column!r}{nearest(column, table.columns)}")
        if column not in held:
            raise UsageError(f"{path}: the column {column!r} holds no texts but {table.schema[column]}")
        return column
    if "text" in held:
        return "text"
    if len(held) == 1:
        return held[0]
    found = f"several columns of texts ({', '.join(held[:8])})" if held else "no column of texts"
    raise UsageError(f"{path}: {found}; name one: text: COLUMN")


def _plain(path: Path) -> list[str]:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UsageError(f"{path}: {size / 2**30:.1f} GiB of plain text; expected at most 1 GiB, or a table")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: byte 0x{raw[error.start]:02x}; save the file as UTF-8"
        raise RecipeError(Fault(str(path), line, 0, message)) from None
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise RecipeError(Fault(str(path), 0, 0, "the file holds no text"))
    return _BLANK.split(text) if _BLANK.search(text) else text.split("\n")


class Told(NamedTuple):
    """A text that was left out, the one it is too much like, and how near it comes (letters or meaning, 0 … 1)."""

    text: str
    like: str
    similarity: float


def unlike(
    held: Sequence[str],
    new: Sequence[str],
    embed: Callable[[Sequence[str]], Any],
    *,
    letters: float,
    meaning: float,
) -> tuple[list[str], list[Told]]:
    """Those of `new` that are like none of `held` and none of `new` before them; and those left out.

    First by letters (exact repeats, then MinHash at `letters`), which costs nothing; what is left by the cosine of its
    embedding at `meaning`.
    """
    import numpy as np

    index: likeness.Index[str] = likeness.Index(letters)
    for text in held:
        index.add(text, text)
    fresh: list[str] = []
    dropped: list[Told] = []
    for text in new:
        if near := index.nearest(text):
            dropped.append(Told(text, near[0], round(near[1], 3)))
        else:
            index.add(text, text)
            fresh.append(text)
    if not fresh:
        return [], dropped
    kept = list(held)
    vectors = np.array(embed([*held, *fresh]))  # those that stay are moved to the front of it, one after another
    for place, text in enumerate(fresh, len(held)):
        scores = vectors[: len(kept)] @ vectors[place]
        best = int(scores.argmax()) if kept else -1
        if kept and scores[best] >= meaning - ROUNDED:
            dropped.append(Told(text, kept[best], round(float(scores[best]), 3)))
        else:
            vectors[len(kept)] = vectors[place]
            kept.append(text)
    return kept[len(held) :], dropped
