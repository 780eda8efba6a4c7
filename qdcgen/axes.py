"""The artefact `axes/<name>.json`: a taxonomy's nodes, frozen, with who proposed and who kept each.

A person may look at it, prune it, commit it and give it to a recipe as `file:`; nothing is ever regrown over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from qdcgen.errors import RecipeError
from qdcgen.rows import Node, Taxonomy
from qdcgen.taxonomy import FileFaults, escaped

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMAT", "document", "is_layer", "loads"]

FORMAT = 1


def document(
    tree: Taxonomy,
    *,
    provenance: Mapping[str, Mapping[str, Any]] | None = None,
    grown: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The artefact as plain data, nodes in file order (parents first).

    `provenance`: node id → what is known of its origin (`by`, `why`, …), laid beside the node's own keys. `grown`: how
    the whole came about (description, model, bounds, calls, …).
    """
    said = provenance or {}
    return {
        "format": FORMAT,
        "taxonomy": tree.name,
        **({"grown": dict(grown)} if grown else {}),
        "nodes": [
            {
                "id": node.id,
                "label": node.label,
                "parent": node.parent,
                **({"text": node.text} if node.text else {}),
                **({"weight": node.weight} if node.weight != 1 else {}),
                **said.get(node.id, {}),
            }
            for node in tree.nodes
        ],
    }


def is_layer(content: bytes) -> bool:
    """Whether a file of `axes/` is a layer that was frozen (see `prepare`), and no taxonomy."""
    try:
        return "layer" in orjson.loads(content)
    except ValueError:
        return False


def loads(content: bytes, name: str, file: str) -> Taxonomy:
    """The taxonomy in an artefact, in its order where parents stand before their children; else parents are put first.

    A table may be written level by level, and the order of its leaves decides which rows a plan gives each of them: an
    artefact made of it must not read back in another.

    Raises:
        RecipeError: no artefact, or one of another format, or its nodes are no tree; names `file`.
    """
    faults = FileFaults(file)
    try:
        said = orjson.loads(content)
        if said["format"] != FORMAT:
            raise faults.stop(f"an axis of format {said['format']}; this qdcgen reads format {FORMAT}")
        records = [
            (
                str(one["id"]),
                str(one["label"]),
                one.get("parent"),
                str(one.get("text", "")),
                float(one.get("weight", 1)),
            )
            for one in said["nodes"]
        ]
    except RecipeError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise faults.stop(f"no axis as qdcgen freezes it ({type(error).__name__}: {error})") from None
    below: dict[str | None, list[tuple[str, str, str | None, str, float]]] = {}
    known = {record[0] for record in records}
    for record in records:
        if record[2] is not None and record[2] not in known:
            faults.add(f"the parent {record[2]!r} of {record[0]!r} is no node")
        below.setdefault(record[2], []).append(record)
    if len(known) < len(records):
        faults.add("an id stands twice")
    faults.check()
    nodes: list[Node] = []
    waiting: list[tuple[Node | None, tuple[str, str, str | None, str, float]]] = [
        (None, record) for record in reversed(below.get(None, []))
    ]
    while waiting:
        above, (id_, label, parent, text, weight) = waiting.pop()
        path = faults.spell(f"{above.path}/{escaped(label)}" if above else escaped(label))
        node = Node(id_, label, path, above.depth + 1 if above else 0, parent, text, weight, file)
        nodes.append(node)
        waiting += [(node, record) for record in reversed(below.get(id_, []))]
    if len(nodes) < len(records):
        raise faults.stop("some nodes are their own ancestors")
    if not nodes:
        raise faults.stop("an axis without nodes")
    place = {record[0]: at for at, record in enumerate(records)}
    if all(node.parent is None or place[node.parent] < place[node.id] for node in nodes):
        nodes.sort(key=lambda node: place[node.id])
    return Taxonomy(name, tuple(nodes))
