"""Tables that someone else made: Parquet, JSON Lines, JSON, CSV and TSV files, read with one clear error or none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qdcgen.errors import Fault, RecipeError, UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import polars as pl

__all__ = ["ENDINGS", "MAX_BYTES", "read"]

MAX_BYTES = 8 * 2**30
"""Larger files are refused: a table is held in memory, and 8 GiB of JSON takes some 12 GiB there."""

SHOWN = 60
"""Letters of an offending line that a message shows."""


def read(path: Path) -> pl.DataFrame:
    """Every row of a table, columns in the file's order.

    By the file's ending: `.parquet`, `.jsonl` or `.ndjson` (one object a line; keys may differ from line to line,
    what a line lacks is null; blank lines are skipped), `.json` (an array of objects), `.csv` and `.tsv` (a header
    line, quotes as in RFC 4180). Text is UTF-8, with or without a byte-order mark. CSV cells stay text unless a whole
    column reads as numbers or booleans; an empty cell is null.

    Raises:
        UsageError: the file is missing, is a folder, has an unknown ending, or is larger than 8 GiB.
        RecipeError: what it holds is broken; says the line where one can be named.
    """
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": _parquet,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json_array,
        ".csv": _commas,
        ".tsv": _tabs,
    }
    if not path.exists():
        near = nearest(path.name, sorted(p.name for p in path.parent.iterdir())) if path.parent.is_dir() else ""
        message = f"{path}: no such file{near}"
        raise UsageError(message)
    if path.is_dir():
        message = f"{path}: is a folder; name one file in it"
        raise UsageError(message)
    ending = path.suffix.lower()
    if ending not in readers:
        message = f"{path}: cannot read {ending or 'a file without an ending'}; expected one of {', '.join(readers)}"
        raise UsageError(message + nearest(ending, list(readers)))
    size = path.stat().st_size
    if size > MAX_BYTES:
        message = f"{path}: {size / 2**30:.1f} GiB, and at most {MAX_BYTES // 2**30} GiB are read at once; split it"
        raise UsageError(message)
    if size == 0:
        raise _broken(path, 0, "the file is empty")
    table = readers[ending](path)
    if table.width == 0 or table.height == 0:
        raise _broken(path, 0, "the file holds no rows")
    return table


ENDINGS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")


def _broken(path: Path, line: int, message: str, column: int = 0) -> RecipeError:
    return RecipeError(Fault(str(path), line, column, message))


def _parquet(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _broken(path, 0, f"not a whole Parquet file: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _checked_utf8(path: Path) -> None:
    """Raise, naming line and column, where the file is not UTF-8. polars names no line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                bad = line[error.start]
                message = f"not UTF-8: byte 0x{bad:02x}; save the file as UTF-8"
                if number == 1 and line[:2] in {b"\xff\xfe", b"\xfe\xff"}:
                    message = "not UTF-8: this looks like UTF-16; save the file as UTF-8"
                raise _broken(path, number, message, error.start + 1) from None


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _json_lines(path: Path) -> pl.DataFrame:
    """Checked line by line, then read by polars: by itself it turns {"a": 1} beside "x" into text, and names no line.

    The check takes 5 s for a million lines of 400 bytes and holds one line at a time.
    """
    import polars as pl

    met = 0
    for _ in _alike(path, _lines(path)):
        met += 1
    if not met:
        raise _broken(path, 0, "the file holds no rows")
    try:
        # The whole file decides the columns: a key that first appears on the last line is a column too.
        return pl.read_ndjson(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError):  # a byte-order mark, NaN, a number beyond 64 bits: Python reads them
        return _table(path, _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                message = f"not UTF-8: byte 0x{raw[error.start]:02x}; save the file as UTF-8"
                raise _broken(path, number, message, error.start + 1) from None
            if not line.strip():
                continue
            yield number, _object(path, number, line)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg}: {line.strip()[:SHOWN]!r}"
        raise _broken(path, number, message, error.colno) from None
    except RecursionError:
        raise _broken(path, number, "nested too deeply") from None
    if not isinstance(value, dict):
        raise _broken(path, number, f"expected an object, found {_kind(value)}: {line.strip()[:SHOWN]!r}")
    return value


def _json_array(path: Path) -> pl.DataFrame:
    try:
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        _checked_utf8(path)
        raise _broken(path, 0, "not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        hint = "; for one object a line, name the file .jsonl" if error.msg == "Extra data" else ""
        raise _broken(path, error.lineno, f"not JSON: {error.msg}{hint}", error.colno) from None
    except RecursionError:
        raise _broken(path, 0, "nested too deeply") from None
    if not isinstance(value, list):
        raise _broken(path, 1, f"expected an array of objects, found {_kind(value)}")
    for number, item in enumerate(value, 1):
        if not isinstance(item, dict):
            raise _broken(path, 0, f"item {number}: expected an object, found {_kind(item)}")
    return _table(path, ((0, item) for item in value))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a text", bool: "true or false", int: "a number"}
    return "null" if value is None else names.get(type(value), "a number")


def _alike(path: Path, rows: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The objects; a column whose values are of two kinds is refused by name and line."""
    met: dict[str, tuple[str, int]] = {}
    for position, (line, row) in enumerate(rows, 1):
        for name, value in row.items():
            kind = _kind(value)
            before, where = met.setdefault(name, (kind, line or position)) if value is not None else (kind, 0)
            if kind != before:
                place = "line" if line else "item"
                message = f"{name!r} is {kind} in {place} {line or position} and {before} in {place} {where}"
                raise _broken(path, line, message)
        yield row


def _table(path: Path, rows: Iterable[tuple[int, dict[str, Any]]]) -> pl.DataFrame:
    """A table of ragged objects, columns in the order in which they are first met."""
    import polars as pl

    held = list(_alike(path, rows))
    if not held:
        raise _broken(path, 0, "the file holds no rows")
    names = dict.fromkeys(name for row in held for name in row)
    try:
        return pl.DataFrame([pl.Series(name, [row.get(name) for row in held], strict=False) for name in names])
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise _broken(path, 0, f"values that fit no column: {_first_line(error)}") from None


# ── delimited ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _commas(path: Path) -> pl.DataFrame:
    return _delimited(path, ",")


def _tabs(path: Path) -> pl.DataFrame:
    return _delimited(path, "\t")


def _delimited(path: Path, separator: str) -> pl.DataFrame:
    import polars as pl

    _checked_utf8(path)
    try:
        return pl.read_csv(path, separator=separator, infer_schema_length=None, encoding="utf8")
    except pl.exceptions.NoDataError:
        raise _broken(path, 0, "the file is empty") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        line, message = _ragged(path, separator)
        raise _broken(path, line, message or f"not a table: {_first_line(error)}") from None


def _ragged(path: Path, separator: str) -> tuple[int, str]:
    """Line and message of the first row whose cell count differs from the header's; (0, "") when none does."""
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        try:
            width = len(next(reader, []))
            for row in reader:
                if row and len(row) != width:
                    return reader.line_num, f"{len(row)} cells where the header has {width}; quote what holds commas"
        except csv.Error as error:
            return reader.line_num, f"not a table: {error}"
    return 0, ""
