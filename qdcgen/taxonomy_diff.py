"""What two taxonomies differ in, and a taxonomy without some of its nodes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qdcgen.errors import UsageError, nearest
from qdcgen.rows import Node, Taxonomy
from qdcgen.safe import printable
from qdcgen.taxonomy import match

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Difference", "Pruned", "compared", "pruned"]

_SHOWN = 50
"""Lines of one kind of difference that are printed; `--json` has all."""
_LONGEST = 120
"""Letters of a name or path that are printed."""


def _short(said: str) -> str:
    said = said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"
    return printable(said)


# ── diff ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from one tree to another; pairs are (before, after)."""

    by: str
    """What nodes were recognised by: `id`, or `path` where one of the trees has no ids but its paths."""
    same: int
    added: tuple[Node, ...]
    removed: tuple[Node, ...]
    renamed: tuple[tuple[Node, Node], ...]
    moved: tuple[tuple[Node, Node], ...]
    retold: tuple[tuple[Node, Node], ...]
    """The text (definition) differs."""
    reweighted: tuple[tuple[Node, Node], ...]
    reordered: tuple[str, ...]
    """Paths of nodes, `""` for the roots, whose children that are in both trees stand in another order."""

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return any((self.added, self.removed, self.renamed, self.moved, self.retold, self.reweighted, self.reordered))

    def text(self) -> str:
        """A count, then each difference on a line: `+` added, `-` removed, `~` changed."""
        if not self:
            return f"the same {self.same:,} nodes, by {self.by}"
        kinds: list[tuple[str, list[str]]] = [
            ("added", [f"+ {_short(node.path)}{more}" for node, more in _topmost(self.added)]),
            ("removed", [f"- {_short(node.path)}{more}" for node, more in _topmost(self.removed)]),
            ("renamed", [f"~ {_short(a.path)}: now {_short(b.label)!r}" for a, b in self.renamed]),
            ("moved", [f"~ {_short(a.path)}: now {_short(b.path)}" for a, b in self.moved]),
            ("text", [f"~ {_short(a.path)}: {_short(a.text)!r} → {_short(b.text)!r}" for a, b in self.retold]),
            ("weight", [f"~ {_short(a.path)}: {a.weight:g} → {b.weight:g}" for a, b in self.reweighted]),
            ("order", [f"~ {_short(path) or 'the roots'}: children in another order" for path in self.reordered]),
        ]
        counts = {"added": len(self.added), "removed": len(self.removed)}
        said = [f"{counts.get(kind, len(lines)):,} {kind}" for kind, lines in kinds if lines]
        found = [f"{', '.join(said)}; {self.same:,} as before; recognised by {self.by}"]
        for _, lines in kinds:
            found += lines[:_SHOWN]
            if len(lines) > _SHOWN:
                found.append(f"  and {len(lines) - _SHOWN:,} more; --json lists all")
        return "\n".join(found)

    def document(self) -> dict[str, Any]:
        """All of it as plain data for JSON."""
        pairs = {"renamed": self.renamed, "moved": self.moved, "text": self.retold, "weight": self.reweighted}
        told: dict[str, Callable[[Node], Any]] = {
            "renamed": lambda node: node.label,
            "moved": lambda node: node.path,
            "text": lambda node: node.text,
            "weight": lambda node: node.weight,
        }
        return {
            "differs": bool(self),
            "by": self.by,
            "same": self.same,
            "added": [{"id": node.id, "path": node.path} for node in self.added],
            "removed": [{"id": node.id, "path": node.path} for node in self.removed],
            **{
                kind: [{"id": a.id, "path": a.path, "before": told[kind](a), "after": told[kind](b)} for a, b in found]
                for kind, found in pairs.items()
            },
            "reordered": list(self.reordered),
        }


def _topmost(nodes: Sequence[Node]) -> list[tuple[Node, str]]:
    """Nodes with no other above them, each with how many are below it."""
    by_id = {node.id: node for node in nodes}
    top: dict[str, str] = {}
    found: dict[str, int] = {}
    for node in nodes:
        line, here = [], node
        while here.id not in top and here.parent in by_id:
            line.append(here.id)
            here = by_id[here.parent]
        head = top.setdefault(here.id, here.id)
        top.update(dict.fromkeys(line, head))
        found[head] = found.get(head, -1) + 1
    return [(by_id[head], f" and {below:,} below it" if below else "") for head, below in found.items()]


def _by_paths(tree: Taxonomy) -> bool:
    return all(node.id == node.path for node in tree.nodes)


def compared(before: Taxonomy, after: Taxonomy) -> Difference:
    """What changed from `before` to `after`, nodes recognised by id.

    Where only one of the trees has ids of its own (the other's are its paths), and where they share no id at all, nodes
    are recognised by path; of several nodes with one path, the first. In a tree whose ids are paths a renamed or moved
    node has another id: it is removed and added.
    """
    by_path = _by_paths(before) != _by_paths(after) or not set(before.by_id) & set(after.by_id)
    key: Callable[[Node], str] = (lambda node: node.path) if by_path else (lambda node: node.id)
    old: dict[str, Node] = {}
    new: dict[str, Node] = {}
    for into, tree in ((old, before), (new, after)):
        for node in tree.nodes:
            into.setdefault(key(node), node)
    both = [(old[name], new[name]) for name in old if name in new]

    def place(tree: Taxonomy, node: Node) -> str | None:
        return key(tree.by_id[node.parent]) if node.parent is not None else None

    renamed = tuple((a, b) for a, b in both if a.label != b.label)
    moved = tuple((a, b) for a, b in both if place(before, a) != place(after, b))
    retold = tuple((a, b) for a, b in both if a.text != b.text)
    reweighted = tuple((a, b) for a, b in both if a.weight != b.weight)
    changed = {key(a) for found in (renamed, moved, retold, reweighted) for a, _ in found}
    return Difference(
        by="path" if by_path else "id",
        same=len(both) - len(changed),
        added=tuple(node for name, node in new.items() if name not in old),
        removed=tuple(node for name, node in old.items() if name not in new),
        renamed=renamed,
        moved=moved,
        retold=retold,
        reweighted=reweighted,
        reordered=_reordered(before, after, key, new),
    )


def _reordered(before: Taxonomy, after: Taxonomy, key: Callable[[Node], str], new: dict[str, Node]) -> tuple[str, ...]:
    """Paths (of `before`) of the parents whose common children stand in another order."""
    found = []
    for parent, children in before.children.items():
        above = before.by_id[parent] if parent is not None else None
        twin = new.get(key(above)) if above is not None else None
        if above is not None and twin is None:
            continue
        others = after.children.get(twin.id if twin is not None else None, ())
        was, now = [key(child) for child in children], [key(child) for child in others]
        kept, known = set(now), set(was)
        if [name for name in was if name in kept] != [name for name in now if name in known]:
            found.append(above.path if above is not None else "")
    return tuple(found)


# ── prune ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Pruned:
    """A tree without some of its nodes, and how many went."""

    tree: Taxonomy
    nodes: int
    leaves: int
    """Leaves among the nodes that went."""
    bared: int
    """Inner nodes that lost all below them, and are leaves now."""

    def text(self) -> str:
        """What went and what is left, in a line or two."""
        left = self.tree
        said = f"{self.nodes:,} of {self.nodes + len(left.nodes):,} nodes went, {self.leaves:,} of them leaves; "
        said += f"{len(left.nodes):,} nodes and {len(left.leaves):,} leaves are left"
        if self.bared:
            said += f"\n{self.bared:,} inner {'node is a leaf' if self.bared == 1 else 'nodes are leaves'} now"
        return said


def pruned(tree: Taxonomy, patterns: Sequence[str], keep: Sequence[str] = ()) -> Pruned:
    """The tree without the nodes that a pattern names (see `taxonomy.match`) and without what lies below them.

    Nodes that `keep` names stay, with what lies below and above them. Ids, texts and weights are unchanged.

    Raises:
        UsageError: a pattern names no node, or none would be left.
    """

    def hit(asked: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for pattern in asked:
            named = {node.id for node in tree.nodes if match(pattern, node)}
            if not named:
                some = tree.nodes[:5_000]
                close = nearest(pattern, [*dict.fromkeys(said for node in some for said in (node.path, node.label))])
                raise UsageError(f"{_short(pattern)!r} names no node of {_short(tree.name)}{close}")
            found |= named
        return found

    cut, held = hit(patterns), hit(keep)
    gone, stays = _spread(tree, cut), _spread(tree, held)
    for name in held:
        stays |= {node.id for node in tree.line(name)}
    left = tuple(node for node in tree.nodes if node.id not in gone or node.id in stays)
    if not left:
        raise UsageError(f"nothing of {_short(tree.name)} would be left; name fewer nodes, or --keep some")
    small = replace(tree, nodes=left)
    inner = set(tree.children)
    leaves = len(tree.leaves) - sum(node.id not in inner for node in left)
    bared = sum(node.id in inner and node.id not in small.children for node in left)
    return Pruned(small, len(tree.nodes) - len(left), leaves, bared)


def _spread(tree: Taxonomy, start: set[str]) -> set[str]:
    """These nodes and all below them."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [child.id for child in tree.children.get(name, ())]
    return found
