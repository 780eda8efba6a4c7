"""Taxonomies, the files that are written: a tree as an artefact, a table, a nested tree or SKOS, chosen by the ending.

What is written reads back as the same tree: ids, labels, texts, weights, parents and the order of siblings. Where a
format cannot hold a node (a table loses spaces at the ends of a cell, XML has no U+0007), nothing is written and the
error names the node. No node's name is ever used as a file's.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape

from qdcgen import axes
from qdcgen.errors import UsageError, nearest
from qdcgen.taxonomy_skos import CONTEXT, NODE, WEIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from qdcgen.rows import Node, Taxonomy

__all__ = ["FORMS", "Origins", "form_of", "free", "origins", "rendered", "write"]

SCHEME = "urn:qdcgen:scheme"
"""IRI of the concept scheme of an exported tree."""

_LONGEST_KEY = 1000
"""Letters of a label that may be a YAML key; YAML itself ends at 1,024."""
_IRI = re.compile(r"https?://[A-Za-z0-9.-]+(?::\d+)?(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+(?:#[A-Za-z0-9._~-]+)?\Z")
"""Ids that are addresses already and that every reader leaves as they are."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLAIN_WORD = re.compile(r"[A-Za-z][A-Za-z0-9 _,.()&-]*\Z")
_YAML_WORDS = frozenset({"yes", "no", "true", "false", "null", "on", "off", "y", "n", "nan", "inf"})
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


class Origins(NamedTuple):
    """What an artefact says beyond the tree: how it came about, and where each node came from."""

    whole: Mapping[str, Any]
    nodes: Mapping[str, Mapping[str, Any]]


def origins(path: Path) -> Origins | None:
    """What an artefact says beyond the tree, so that pruning or copying it loses nothing; None for any other file."""
    import orjson

    if path.suffix.lower() != ".json":
        return None
    try:
        said = orjson.loads(path.read_bytes())
    except (OSError, ValueError):  # whoever reads the tree says what is wrong with the file
        return None
    if not (isinstance(said, dict) and {"format", "taxonomy", "nodes"} <= set(said)):
        return None
    own = {"id", "label", "parent", "text", "weight"}
    return Origins(
        {key: value for key, value in said.items() if key not in ("format", "taxonomy", "nodes")},
        {str(one["id"]): {key: value for key, value in one.items() if key not in own} for one in said["nodes"]},
    )


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def form_of(path: Path) -> str:
    """The format that a file's ending asks for, without its dot.

    Raises:
        UsageError: no format has this ending.
    """
    form = path.suffix.lower().lstrip(".")
    if form not in FORMS:
        raise UsageError(
            f"{path}: cannot write {path.suffix or 'a file without an ending'}{nearest(form, list(FORMS))}; "
            f"expected an ending among {', '.join('.' + known for known in FORMS)}"
        )
    return form


def rendered(tree: Taxonomy, form: str, *, origin: Origins | None = None) -> bytes:
    """The tree in one of `FORMS`, UTF-8, nodes in their order; `origin` goes into an artefact and nowhere else.

    Raises:
        UsageError: the format cannot hold one of the nodes; names it and a format that can.
    """
    for node in tree.nodes:
        for what, said in (("id", node.id), ("label", node.label), ("text", node.text)):
            if reason := _unfit(form, what, said):
                raise UsageError(f"the {what} of {_short(node.id)} {reason}")
    if form == "json":
        return _artefact(tree, origin)
    text = FORMS[form](tree)
    return text.encode()


def _unfit(form: str, what: str, said: str) -> str:
    """Why a format cannot hold a text as it is; empty where it can."""
    if not said.isascii():
        try:
            said.encode()
        except UnicodeEncodeError as error:
            return f"holds U+{ord(said[error.start]):04X}, half a character, which no file can hold; correct it"
    if form in ("csv", "tsv", "yaml", "yml"):
        if said != said.strip():
            return f"begins or ends with white space, which a .{form} file does not keep; export to .json or .ttl"
    elif form in ("rdf", "xml") and (found := _NOT_XML.search(said)):
        return f"holds U+{ord(found[0]):04X}, which XML has no way to write; export to .ttl or .json"
    if not said and what == "label" and form != "json":
        return f"is empty, and a .{form} file would give it its id; export to .json"
    return ""


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:79] + "…")  # noqa: PLR2004  (one line of a message)


def free(path: Path, *, force: bool) -> None:
    """Check that a file may be written there.

    Raises:
        UsageError: it is there already and `force` is not given, or it is a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; expected the name of a file to write")
    if path.exists() and not force:
        raise _taken(path)


def _taken(path: Path) -> UsageError:
    return UsageError(f"{path}: is there already; name another file, or add --force to replace it")


def write(path: Path, content: bytes, *, force: bool) -> None:
    """Write the file whole or not at all: a temporary name beside it, synced, then its own.

    Raises:
        UsageError: the file is there already and `force` is not given, or the folder cannot be written to.
    """
    free(path, force=force)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if force:
                temporary.replace(path)
            else:
                os.link(temporary, path)  # unlike a rename, this fails where another process was faster
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from None


# ── formats ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _artefact(tree: Taxonomy, origin: Origins | None) -> bytes:
    import orjson

    said = axes.document(tree, provenance=origin.nodes if origin else None)
    nodes = said.pop("nodes")
    return (
        orjson.dumps({**said, **(origin.whole if origin else {}), "nodes": nodes}, option=orjson.OPT_INDENT_2) + b"\n"
    )


def _records(tree: Taxonomy) -> tuple[list[str], Iterator[list[str]]]:
    """Columns and cells of the id-parent table; text and weight only where some node has one."""
    texts, weights = any(node.text for node in tree.nodes), any(node.weight != 1 for node in tree.nodes)
    columns = ["id", "parent", "label", *(["text"] if texts else []), *(["weight"] if weights else [])]

    def cells() -> Iterator[list[str]]:
        for node in tree.nodes:
            more = [node.text] if texts else []
            yield [node.id, node.parent or "", node.label, *more, *([_number(node.weight)] if weights else [])]

    return columns, cells()


def _number(weight: float) -> str:
    return str(int(weight)) if float(weight).is_integer() and weight < 1e15 else repr(float(weight))  # noqa: PLR2004


def _delimited(tree: Taxonomy, delimiter: str) -> str:
    columns, cells = _records(tree)
    out = io.StringIO(newline="")
    # A lone \r inside a cell is not quoted by the writer where lines end in \n, and would end the row.
    careful = any("\r" in said for node in tree.nodes for said in (node.id, node.label, node.text))
    writer = csv.writer(
        out, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL if careful else csv.QUOTE_MINIMAL
    )
    writer.writerow(columns)
    writer.writerows(cells)
    return out.getvalue()


def _yaml(tree: Taxonomy) -> str:
    """Nested names where that says everything, else a list of nodes with their ids."""
    bare = all(
        node.id == node.path and not node.text and node.weight == 1 and len(node.label) <= _LONGEST_KEY
        for node in tree.nodes
    )
    if bare:
        lines = []
        waiting = [*reversed(tree.children.get(None, ()))]
        while waiting:
            node = waiting.pop()
            lines.append(f"{'  ' * node.depth}{_yaml_word(node.label)}:\n")
            waiting += reversed(tree.children.get(node.id, ()))
        return "".join(lines)
    columns, cells = _records(tree)
    lines = ["nodes:\n"]
    for row in cells:
        said = [(column, cell) for column, cell in zip(columns, row, strict=True) if cell]
        lines += [f"{'  - ' if not at else '    '}{key}: {_yaml_word(cell)}\n" for at, (key, cell) in enumerate(said)]
    return "".join(lines)


def _yaml_word(said: str) -> str:
    """A scalar that every YAML reader takes for the text that it is: bare where it is plainly a word, else quoted."""
    if _PLAIN_WORD.match(said) and said.lower() not in _YAML_WORDS and said[-1] != " ":
        return said
    quoted = json.dumps(said, ensure_ascii=False)
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _iris(tree: Taxonomy) -> dict[str, str]:
    """Node id → IRI: the id itself where it is an address, else a URN that holds it percent-encoded."""
    return {node.id: node.id if _IRI.match(node.id) else NODE + quote(node.id, safe="") for node in tree.nodes}


def _turtle(tree: Taxonomy) -> str:
    iris = _iris(tree)
    lines = [
        "@prefix skos: <http://www.w3.org/2004/02/skos/core#> .\n\n",
        f"<{SCHEME}> a skos:ConceptScheme ; skos:prefLabel {_turtle_text(tree.name)} .\n\n",
    ]
    for node in tree.nodes:
        place = f"skos:broader <{iris[node.parent]}>" if node.parent is not None else f"skos:topConceptOf <{SCHEME}>"
        said = [
            f"<{iris[node.id]}> a skos:Concept",
            f"skos:inScheme <{SCHEME}>",
            f"skos:notation {_turtle_text(node.id)}",
            f"skos:prefLabel {_turtle_text(node.label)}",
            place,
        ]
        if node.text:
            said.append(f"skos:definition {_turtle_text(node.text)}")
        if node.weight != 1:
            said.append(f'<{WEIGHT}> "{_number(node.weight)}"')
        lines.append(" ;\n  ".join(said) + " .\n\n")
    return "".join(lines)


_TURTLE = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TURTLE_SPECIAL = re.compile(r'[\\"\x00-\x1f\x7f-\x9f]')


def _turtle_text(said: str) -> str:
    return '"' + _TURTLE_SPECIAL.sub(lambda m: _TURTLE.get(m[0]) or f"\\u{ord(m[0]):04X}", said) + '"'


def _xml(tree: Taxonomy) -> str:
    iris = _iris(tree)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>\n',
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"\n',
        '    xmlns:skos="http://www.w3.org/2004/02/skos/core#" xmlns:q="urn:qdcgen:">\n',
        f'<skos:ConceptScheme rdf:about="{SCHEME}">',
        f"<skos:prefLabel>{_xml_text(_NOT_XML.sub('?', tree.name))}</skos:prefLabel></skos:ConceptScheme>\n",
    ]
    for node in tree.nodes:
        place = (
            f'<skos:broader rdf:resource="{escape(iris[node.parent])}"/>'
            if node.parent is not None
            else f'<skos:topConceptOf rdf:resource="{SCHEME}"/>'
        )
        lines += [
            f'<skos:Concept rdf:about="{escape(iris[node.id])}">\n',
            f'  <skos:inScheme rdf:resource="{SCHEME}"/>\n',
            f"  <skos:notation>{_xml_text(node.id)}</skos:notation>\n",
            f"  <skos:prefLabel>{_xml_text(node.label)}</skos:prefLabel>\n",
            f"  {place}\n",
        ]
        if node.text:
            lines.append(f"  <skos:definition>{_xml_text(node.text)}</skos:definition>\n")
        if node.weight != 1:
            lines.append(f"  <q:weight>{_number(node.weight)}</q:weight>\n")
        lines.append("</skos:Concept>\n")
    lines.append("</rdf:RDF>\n")
    return "".join(lines)


def _xml_text(said: str) -> str:
    return escape(said, {"\r": "&#13;"})


def _linked(tree: Taxonomy) -> str:
    import orjson

    iris = _iris(tree)
    graph: list[dict[str, Any]] = [{"@id": SCHEME, "@type": "skos:ConceptScheme", "skos:prefLabel": tree.name}]
    graph += [_linked_node(node, iris) for node in tree.nodes]
    return orjson.dumps({"@context": CONTEXT, "@graph": graph}, option=orjson.OPT_INDENT_2).decode() + "\n"


def _linked_node(node: Node, iris: Mapping[str, str]) -> dict[str, Any]:
    if node.parent is not None:
        place: dict[str, Any] = {"skos:broader": {"@id": iris[node.parent]}}
    else:
        place = {"skos:topConceptOf": {"@id": SCHEME}}
    return {
        "@id": iris[node.id],
        "@type": "skos:Concept",
        "skos:inScheme": {"@id": SCHEME},
        "skos:notation": node.id,
        "skos:prefLabel": node.label,
        **place,
        **({"skos:definition": node.text} if node.text else {}),
        **({"weight": _number(node.weight)} if node.weight != 1 else {}),
    }


FORMS: Mapping[str, Callable[[Taxonomy], str]] = {
    "json": lambda tree: _artefact(tree, None).decode(),
    "csv": lambda tree: _delimited(tree, ","),
    "tsv": lambda tree: _delimited(tree, "\t"),
    "yaml": _yaml,
    "yml": _yaml,
    "ttl": _turtle,
    "rdf": _xml,
    "xml": _xml,
    "jsonld": _linked,
}
"""Ending → how the tree is written."""
