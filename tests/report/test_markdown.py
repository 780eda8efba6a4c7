"""A report as Markdown: whole pages compared, and a parser that finds no markup in what came from data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from qdcgen.report.contents import Report
from qdcgen.report.markdown import markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from markdown_it.token import Token

OURS = {"<sup>", "</sup>", "<br>"}
FOLDS = {"<details><summary>Notes</summary>\n", "</details>\n", "</details>"}


def flat(tokens: list[Token]) -> Iterator[Token]:
    """Every token, also the inline ones."""
    for token in tokens:
        yield token
        yield from flat(token.children or [])


def test_a_whole_report(bank: Report, snapshot: Callable[[str, str], None]) -> None:
    snapshot("bank.md", markdown(bank))


def test_footnotes_stand_in_one_fold_below_each_table(bank: Report) -> None:
    page = markdown(bank)
    inside = [part.partition("</details>")[0] for part in page.split("<details>")[1:]]
    outside = page.split("<details>")[0] + "".join(part.partition("</details>")[2] for part in page.split("<details>"))
    assert "\n<sup>1</sup> " not in outside
    assert any("\n<sup>1</sup> " in part for part in inside)
    assert all(part.startswith("<summary>Notes</summary>\n\n") for part in inside), "GitHub reads no Markdown else"
    assert page.count("explained: share of the texts") == 1


def test_an_empty_report(snapshot: Callable[[str, str], None]) -> None:
    snapshot("empty.md", markdown(Report("nothing")))


def test_hostile_text_in_every_field(hostile: Report, snapshot: Callable[[str, str], None]) -> None:
    page = markdown(hostile)
    snapshot("hostile.md", page)
    found = list(flat(MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)))
    assert {token.type for token in found} & {"link_open", "image", "em_open", "s_open"} == set()
    assert {token.content for token in found if token.type == "html_block"} <= FOLDS
    assert {token.content for token in found if token.type == "html_inline"} <= OURS
    bold = [at for at, token in enumerate(found) if token.type == "strong_open"]
    assert [found[at + 1].content for at in bold] == ["FAIL"]
    for token in found:
        if token.type == "text":  # what GitHub looks for mentions and links in
            assert not any(trick in token.content for trick in ("@o", "#1", "GH-2", "http://", "www."))


def test_every_row_of_a_table_has_the_cells_of_its_header(hostile: Report) -> None:
    found = list(flat(MarkdownIt("commonmark").enable("table").parse(markdown(hostile))))
    rows: list[int] = []
    for token in found:
        if token.type == "tr_open":
            rows.append(0)
        rows[-1:] = [rows[-1] + (token.type in {"th_open", "td_open"})] if rows else []
    assert rows, "no table was read as one"
    tables = sum(token.type == "thead_open" for token in found)
    assert markdown(hostile).count("\n| ") == len(rows) + tables, "every row, and the rule below each header"
