"""A taxonomy as lines of text: one node a line, indented, with what is below it. Pure."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from qdcgen.safe import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qdcgen.rows import Node, Taxonomy

__all__ = ["clipped", "document", "leaves_below", "preorder", "text"]

_LONGEST = 400
"""Letters of a name that are looked at: more never fit on a line."""


def preorder(tree: Taxonomy) -> Iterator[Node]:
    """Every node, each before what is below it, siblings in their order."""
    waiting = [*reversed(tree.children.get(None, ()))]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(tree.children.get(node.id, ()))


def leaves_below(tree: Taxonomy) -> dict[str, int]:
    """Node id → how many leaves it holds; a leaf holds itself."""
    found = dict.fromkeys((node.id for node in tree.nodes), 0)
    for leaf in tree.leaves:
        found[leaf.id] = 1
    for node in reversed(list(preorder(tree))):
        if node.parent is not None:
            found[node.parent] += found[node.id]
    return found


def text(
    tree: Taxonomy,
    *,
    width: int = 80,
    depth: int | None = None,
    counts: Mapping[str, tuple[int, int]] | None = None,
) -> str:
    """The tree, at most `width` cells wide and `depth` levels deep; `counts`: node id → rows (asked, accepted).

    A node's line ends in how many leaves it holds, where it is none itself, and in its rows. An id that is not the
    path stands behind the label, a weight other than 1 as `×3`.
    """
    below = leaves_below(tree)
    heads = ["leaves", *(["asked", "accepted"] if counts is not None else [])]
    widths = [max(len(head), len(f"{len(tree.leaves):,}")) for head in heads]
    if counts is not None:
        most = [max((len(f"{one[at]:,}") for one in counts.values()), default=1) for at in (0, 1)]
        widths[1:] = [max(old, new) for old, new in zip(widths[1:], most, strict=True)]
    room = max(20, width - sum(widths) - 2 * len(widths))

    def line(label: str, cells: list[str]) -> str:
        columns = "".join(f"  {cell:>{size}}" for cell, size in zip(cells, widths, strict=True))
        return f"{_filled(label, room)}{columns}".rstrip()

    about = f"{_plural(len(tree.nodes), 'node')}, {_plural(len(tree.leaves), 'leaf', 'leaves')}, "
    about += _plural(tree.depth, "level")
    lines = [f"{clipped(printable(tree.name[:_LONGEST]), width - len(about) - 2)}  {about}", line("", heads)]
    cut = 0
    for node in preorder(tree):
        if depth is not None and node.depth >= depth:
            cut += 1
            continue
        rows = counts.get(node.id, (0, 0)) if counts is not None else ()
        leaves = f"{below[node.id]:,}" if node.id in tree.children else ""
        lines.append(line(_label(node, room), [leaves, *(f"{count:,}" for count in rows)]))
    if cut:
        lines.append(f"{_plural(cut, 'node')} below level {depth} not shown")
    return "\n".join(lines)


def _label(node: Node, room: int) -> str:
    """The node's name, moved right by its level: by half the line at most, from there the level is told in digits."""
    indent, most = 2 * node.depth, room // 2
    lead = " " * indent if indent <= most else f"{' ' * (most - 6)}({node.depth + 1}) "
    said = printable(node.label[:_LONGEST])
    if node.weight != 1:
        said += f"  ×{node.weight:g}"
    return lead + (f"{said}  [{printable(node.id[:_LONGEST])}]" if node.id not in (node.path, node.label) else said)


def _cells(said: str) -> int:
    """Columns that a text takes on a terminal: wide letters two, marks none."""
    if said.isascii():
        return len(said)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in said
    )


def clipped(said: str, most: int) -> str:
    """The text in at most `most` cells of a terminal; what is cut ends in an ellipsis."""
    if _cells(said) <= most:
        return said
    while said and _cells(said) > most - 1:
        said = said[: min(len(said) - 1, most - 1)]
    return said.rstrip() + "…"


def _filled(said: str, room: int) -> str:
    said = clipped(said, room)
    return said + " " * (room - _cells(said))


def _plural(count: int, word: str, more: str = "") -> str:
    return f"{count:,} {word if count == 1 else more or word + 's'}"


def document(
    tree: Taxonomy, *, depth: int | None = None, counts: Mapping[str, tuple[int, int]] | None = None
) -> dict[str, Any]:
    """The same as plain data for JSON, nodes before what is below them."""
    below = leaves_below(tree)
    nodes = []
    for node in preorder(tree):
        if depth is not None and node.depth >= depth:
            continue
        one: dict[str, Any] = {"id": node.id, "label": node.label, "path": node.path, "parent": node.parent}
        one |= {"level": node.depth + 1, "text": node.text, "weight": node.weight}
        one["leaves"] = below[node.id] if node.id in tree.children else 0
        if counts is not None:
            one["asked"], one["accepted"] = counts.get(node.id, (0, 0))
        nodes.append(one)
    size = {"nodes": len(tree.nodes), "leaves": len(tree.leaves), "levels": tree.depth}
    return {"taxonomy": tree.name, **size, "tree": nodes}
