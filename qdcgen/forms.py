"""The surface form of a text: a list, a table, code, JSON, a letter, a question, one sentence, … Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

__all__ = ["FORMS", "forms"]

FORMS = (
    "blank",
    "JSON",
    "code",
    "table",
    "dialogue",
    "named fields",
    "headings",
    "letter",
    "numbered list",
    "list",
    "paragraphs",
    "lines",
    "question",
    "one sentence",
    "one paragraph",
)
"""Every form. A text has the first of them that fits, so what is told apart most surely comes first."""

PART = 8_192
"""Texts looked at at once."""
LONGEST = 4_000
"""Letters that are looked at: the form of a longer text shows by then, and one of a million letters costs no more."""

_LINE = r"(?m)^[^\S\n]*\S"
_FENCE = r"(?m)^[^\S\n]*(?:```|~~~)"
_CODE = (
    r"(?m)^[^\S\n]*(?:(?:def|class|function|func|fn|const|let|var|public|private|static|void|import|from|#include|"
    r"package|using|SELECT|INSERT|UPDATE|CREATE)\b[^.?\n]*[(){};:=<*\w]|(?:if|for|while|else|elif|switch|try)\b[^\n]*"
    r"[{:]|return\b[^.?\n]*;?|[^\n]*[;{}]|</?\w[^\n]*>|[\w.\[\]]+[^\S\n]*[+*-]?=[^\S\n]*[^\n]+|[\w.]+\([^\n]*\))"
    r"[^\S\n]*$"
)
"""A line of code. Prose has few that end in a semicolon or a brace, so half of the lines must look so."""
_PIPES = r"(?m)^[^\S\n]*\|[^\n]*\|[^\S\n]*$|^[^|\n]+\|[^|\n]+\|[^|\n]+[^\n]*$|^[^\S\n]*\|?[ :-]*-{3,}[ :-]*\|[ :|-]*$"
_TABS = r"(?m)^[^\t\n]+\t[^\n]*$"
_SPEAKER = r"(?m)^[^\S\n]*(?:\*\*|\[)?(?:\p{Lu}[\p{L}\p{N}'._-]{0,24}(?: [\p{L}\p{N}'._-]{1,16}){0,2})(?:\*\*|\])?:"
_ROLES = (
    r"(?mi)^[^\S\n]*(?:\*\*|\[)?(?:user|assistant|human|ai|bot|system|customer|client|agent|operator|q|a|question|answer"
    r"|interviewer|interviewee|student|teacher|tutor|doctor|patient|caller|me|you)(?:\*\*|\])?:"
)
_HEADING = r"(?m)^ {0,3}#{1,6}[^\S\n]+\S|^[^\S\n]*\*\*[^*\n]{1,80}\*\*:?[^\S\n]*$"
_NUMBERED = r"(?m)^[^\S\n]*\(?(?:\d{1,3}|[A-Za-z]|[ivx]{1,5})[.)][^\S\n]+\S"
_BULLET = r"(?m)^[^\S\n]*[-*+•–●▪][^\S\n]+\S"
_GREETING = (
    r"^\s*(?:Subject:[^\n]*\s+)?(?:(?:Dear|To whom)\b[^\n]{0,60}?[,:]|(?:Hi|Hello|Hey|Greetings|Good "
    r"(?:morning|afternoon|evening))\b[^\n]{0,40}?[,!:.]?[^\S\n]*\n)"
)
_CLOSING = (
    r"(?:Sincerely|Regards|Kind regards|Best regards|Best wishes|Warm regards|Yours (?:sincerely|faithfully|truly)|"
    r"Cheers|Many thanks|Thank you|Thanks|Best|Love),?\s*\n?[^\n]{0,60}\s*$"
)
_ENDS = r"[.!?…。！？]+[\"'”’)\]]*(?:\s|$)"


def forms(texts: Sequence[str]) -> NDArray[np.int8]:
    """The form of each text, as its place in `FORMS`."""
    import numpy as np

    parts = [_forms(texts[start : start + PART]) for start in range(0, len(texts), PART)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int8)


def _forms(texts: Sequence[str]) -> NDArray[np.int8]:
    import polars as pl

    cut = [one[:LONGEST] for one in texts]
    clean = [one if one.isascii() else one.encode("utf-8", "replace").decode() for one in cut]
    frame = pl.DataFrame({"text": pl.Series(clean, dtype=pl.String).str.strip_chars()})
    found = pl.when(pl.col("text") == "").then(FORMS.index("blank"))
    for form, fits in _tests().items():
        found = found.when(fits).then(FORMS.index(form))  # type: ignore[assignment]  # polars: Then, ChainedThen
    return frame.select(found.otherwise(FORMS.index("one paragraph")).cast(pl.Int8).alias("form"))["form"].to_numpy()


def _tests() -> dict[str, pl.Expr]:
    """Form → whether a text has it, for those that are neither blank nor one paragraph; in the order of `FORMS`."""
    import polars as pl

    text = pl.col("text")
    lines = text.str.count_matches(_LINE)
    labels = text.str.extract_all(_SPEAKER)
    labelled = (labels.list.len() >= 2) & (2 * labels.list.len() >= lines)  # noqa: PLR2004  (two turns, or two fields)
    roles = text.str.count_matches(_ROLES) >= 2  # noqa: PLR2004
    several = lines > 1

    def many(pattern: str, least: int = 2) -> pl.Expr:
        return text.str.count_matches(pattern) >= least

    return {
        "JSON": text.str.contains(r'(?s)^(?:\{\s*"[^"\n]*"\s*:.*\}|\[\s*(?:\{|\[|"|-?\d).*\])$'),
        "code": many(_FENCE, 1) | (several & (2 * text.str.count_matches(_CODE) > lines)),
        "table": many(_PIPES) | many(_TABS),
        "dialogue": labelled & (roles | (labels.list.n_unique() < labels.list.len())),
        "named fields": labelled & ~text.str.contains(r"^Subject:"),
        "headings": many(_HEADING, 1),
        "letter": text.str.contains(_GREETING) & (several | text.str.contains(_CLOSING)),
        "numbered list": many(_NUMBERED),
        "list": many(_BULLET),
        "paragraphs": text.str.contains(r"\n[^\S\n]*\n"),
        "lines": several,
        "question": text.str.contains(r"[?？][\"'”’)\]]*$"),
        "one sentence": text.str.count_matches(_ENDS) <= 1,
    }
