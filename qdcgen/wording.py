"""The words of a row, as filters look at them: each text it holds, regular expressions, a quoted piece. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["first_matches", "quoted", "regex_fault", "texts"]


def texts(fields: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Every text of `fields` with the field's name, those inside lists and mappings too; no word out of a list."""
    for name, value in fields.items():
        if "enum" in schemas.get(name, {}):
            continue
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str):
                yield name, one
            elif isinstance(one, dict):
                waiting += reversed(list(one.values()))
            elif isinstance(one, (list, tuple)):
                waiting += reversed(one)


def quoted(text: str, most: int = 60, mark: str = '"') -> str:
    """A piece of a row between marks and on one line, cut to `most` characters."""
    # Marks inside would end it early for who adds reasons up without what they quote.
    line = re.sub(r"\s+", " ", text[: 4 * most]).strip().replace('"', "'")
    return f"{mark}{line}{mark}" if len(line) <= most else f"{mark}{line[: most - 1].rstrip()}…{mark}"


def regex_fault(pattern: str) -> str | None:
    """What is wrong with a regular expression of Rust's kind, whose time is linear in the text; None: nothing."""
    import polars as pl
    from polars.exceptions import ComputeError

    shown = quoted(pattern, mark="/")
    try:
        pl.Series([""]).str.contains(_safe(pattern), strict=True)
    except ComputeError as error:
        said = str(error)
        if "exceeds size limit" in said:
            return f"the regular expression {shown} is too large once its repetitions are written out; repeat less"
        lines = [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")]
        return f"{shown} is no regular expression (Rust's syntax): {lines[0] if lines else 'cannot be read'}"
    return None


def first_matches(found: Sequence[str], pattern: str) -> list[str | None]:
    """The first match of `pattern` in each text, None where there is none."""
    import polars as pl

    series = pl.Series([_safe(text) for text in found], dtype=pl.String)
    matches: list[str | None] = series.str.extract(_safe(pattern), 0).to_list()
    return matches


def _safe(text: str) -> str:
    """Without halves of surrogate pairs, which a reply can hold and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
