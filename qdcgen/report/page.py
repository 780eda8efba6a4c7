"""A page of text at a fixed width: headings, quiet tables, bars. What the terminal builders have in common.

Data enters only as `rich.text.Text` made by `words`, so nothing in it is read as markup or as a control sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qdcgen.report import figures
from qdcgen.safe import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "NAMED",
    "NARROWEST",
    "Page",
    "columns",
    "hanging",
    "indented",
    "listed",
    "quiet_table",
    "superscript",
    "words",
]

NARROWEST = 60
"""Columns that a page takes at least; a narrower terminal wraps it."""

NAMED = 8
"""Names of missing or owed nodes that a page lists in one place; `--json` has them all."""

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def superscript(n: int) -> str:
    """The number of a footnote: `¹²`."""
    return str(n).translate(_SUPERSCRIPTS)


def words(text: str, style: str = "", *, most: int = 400) -> Text:
    """Text from data: one line, without control characters, at most `most` characters."""
    from rich.text import Text  # 60 ms: only for a command that prints a page

    return Text(figures.clip(printable(text), most), style)


def indented(inside: RenderableType, by: int) -> RenderableType:
    """`inside`, moved right by `by` columns in each of its lines."""
    from rich.padding import Padding

    return Padding(inside, (0, 0, 0, by)) if by else inside


def quiet_table(
    *headers: tuple[str, str], widths: Sequence[int | None] = (), rule: bool = True, headed: bool = True
) -> Table:
    """A table with nothing but a rule under its header, or without `rule` and, where not `headed`, without a header.

    `headers` are (text, `left` or `right`); two columns apart.

    A line break in a header, which is never of data, is one on the page.

    Columns right of the first neither wrap nor shrink where `widths` gives their width.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shape = Table(
        box=SIMPLE_HEAD if rule else None,
        show_edge=False,
        show_header=rule or headed,
        pad_edge=False,
        padding=(0, 1, 0, 0) if rule else (0, 2, 0, 0),
        header_style="dim",
        border_style="dim",
    )
    for place, (text, side) in enumerate(headers):
        width = widths[place] if place < len(widths) else None
        shape.add_column(
            Text("\n").join(map(words, text.split("\n"))),
            justify="right" if side == "right" else "left",
            width=width,
            no_wrap=bool(place and width),
            overflow="fold",
        )
    return shape


def hanging(mark: str, text: Text) -> Table:
    """A mark, and a text that wraps beside it."""
    table = quiet_table(("", "left"), ("", "left"), rule=False, headed=False, widths=(len(mark),))
    table.padding = (0, 1, 0, 0)
    table.add_row(words(mark, "dim"), text)
    return table


def listed(names: Sequence[str], more: str, most: int = NAMED) -> str:
    """The first names, then how many there are besides and what to type to see them."""
    shown = "; ".join(figures.clip_left(printable(name), 60) for name in names[:most])
    return f"{shown}; and {figures.count(len(names) - most)} more: {more}" if len(names) > most else shown


def columns(pairs: Mapping[str, str]) -> Table:
    """Names and what they stand for, in two columns; the second wraps."""
    table = quiet_table(("", "left"), ("", "left"), rule=False, headed=False)
    for name, text in pairs.items():
        table.add_row(words(name, "dim", most=24), words(text))
    return table


@dataclass
class Page:
    """Blocks from top to bottom, and how they become text."""

    width: int
    blocks: list[RenderableType] = field(default_factory=list)

    def __post_init__(self) -> None:
        """No page is narrower than `NARROWEST`."""
        self.width = max(self.width, NARROWEST)

    def add(self, *blocks: RenderableType) -> None:
        """Put blocks below what is there."""
        self.blocks += blocks

    def heading(self, name: str, question: str = "") -> None:
        """A blank line, then a section's name with what it asks."""
        text = words(name, "bold")
        if question:
            text.append("  ").append_text(words(question, "not bold dim"))
        self.blocks += ["", text] if self.blocks else [text]

    def text(self, *, colour: bool) -> str:
        """The page; every line is at most `width` cells wide and has no space at its end."""
        from io import StringIO

        from rich.console import Console

        console = Console(
            file=StringIO(),
            width=self.width,
            force_terminal=colour,
            color_system="standard" if colour else None,
            no_color=not colour,
            legacy_windows=False,
            highlight=False,
            markup=False,
            emoji=False,
            _environ={},  # else COLUMNS or NO_COLOR of whoever runs this would change the page
        )
        with console.capture() as written:
            for block in self.blocks:
                console.print(block)
        return "\n".join(line.rstrip() for line in written.get().splitlines()) + "\n"
