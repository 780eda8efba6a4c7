"""Taxonomies, SKOS files: JSON-LD, Turtle and RDF/XML become one table of concepts (W3C SKOS Reference, 2009).

What a concept is called. Its id is its `notation` (IPTC: `qcode`) where every concept of the file has one and no two
are equal, else its IRI. Its label is the `prefLabel` in English, else the one without a language, else the first.

Where it hangs. `broader` in the order written, then whoever lists it under `narrower`; a parent that the file does not
describe is passed over where another is there. Siblings stand in the order in which the file first describes them.

Nothing is fetched and nothing else is opened: JSON-LD is read as plain JSON (a remote `@context` is a name, no more),
rdflib is given text and no address, and XML that declares an entity is refused before it is parsed.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from qdcgen.taxonomy import FileFaults

__all__ = ["COLUMNS", "CONTEXT", "NODE", "WEIGHT", "concepts", "is_skos", "linked", "turtle", "xml"]

COLUMNS = ("id", "uri", "parent", "label", "definition", "retired", "weight")
"""Columns of the table that `concepts` gives; `retired` is `True` or `False`, parents are joined by line breaks."""

NODE = "urn:qdcgen:node:"
"""Prefix of the IRI of a node whose id is no IRI; the id follows, percent-encoded."""
WEIGHT = "urn:qdcgen:weight"
"""Property that holds a prevalence weight: SKOS has none."""
CONTEXT = {
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "weight": WEIGHT,
}
"""The `@context` of JSON-LD that qdcgen writes."""

_BASE = "http://relative.invalid/"
"""What relative addresses are resolved against, and what is cut off again."""

_TEXTS = ("definition", "scopenote", "description", "comment")
_LABELS = ("preflabel", "label", "title", "altlabel")
_CODES = ("qcode", "notation")


class Said(NamedTuple):
    """One statement of a file: about whom, which property (its last word, lower case), what."""

    subject: str
    property: str
    value: str
    language: str | None
    """None where the value is an address, `""` where it is a text without a language."""


# ── statements → table ──────────────────────────────────────────────────────────────────────────────────────────────


class _Concept:
    """What is said of one subject, as far as it matters here."""

    __slots__ = ("above", "below", "codes", "concept", "labels", "retired", "texts", "weight")

    def __init__(self) -> None:
        self.concept: bool | None = None  # None: its type was not said
        self.codes: dict[str, str] = {}
        self.labels: dict[str, list[tuple[str, str]]] = {}
        self.texts: dict[str, list[tuple[str, str]]] = {}
        self.above: list[str] = []
        self.below: list[str] = []
        self.retired = False
        self.weight = ""


def concepts(said: Iterable[Said], faults: FileFaults, notes: list[str]) -> list[tuple[str, ...]]:
    """Rows of `COLUMNS`, one per concept, in the order in which the file first speaks of them.

    A concept is what is called one, or what has no other type and a label or a place. `notes` collects what a user may
    want to know. Whether the parents make a tree is not checked here.

    Raises:
        RecipeError: the file describes no concept.
    """
    met: dict[str, _Concept] = {}
    for statement in said:
        _keep(met.setdefault(statement.subject, _Concept()), statement)
    found = {
        uri: one
        for uri, one in met.items()
        if one.concept or (one.concept is None and (one.above or one.below or one.labels.get("preflabel")))
    }
    if not found:
        raise faults.stop("describes no skos:Concept; expected concepts with skos:prefLabel and skos:broader")
    codes = {uri: next((one.codes[key] for key in _CODES if key in one.codes), "") for uri, one in found.items()}
    coded = all(codes.values()) and len(set(codes.values())) == len(codes)
    ids = codes if coded else {uri: _plain(uri) for uri in found}
    if not coded and any(codes.values()):
        notes.append("some concepts have no notation of their own, so ids are their addresses")
    known = {**{code: uri for uri, code in codes.items() if code}, **{uri: uri for uri in found}}
    above = {uri: [known.get(parent, parent) for parent in one.above] for uri, one in found.items()}
    for uri, one in found.items():
        for child in one.below:
            if (at := known.get(child)) is not None:
                above[at].append(uri)
    foreign = 0
    rows: list[tuple[str, ...]] = []
    for uri, one in found.items():
        parents = list(dict.fromkeys(above[uri]))
        here = [parent for parent in parents if parent in found]
        foreign += len(parents) - len(here) if here else 0
        named = [ids[parent] for parent in here] or [_plain(parent) for parent in parents]
        label = _chosen(one.labels, _LABELS)
        rows.append((ids[uri], uri, "\n".join(named), label, _chosen(one.texts, _TEXTS), str(one.retired), one.weight))
    _note(found, foreign, notes)
    return rows


def _keep(one: _Concept, said: Said) -> None:
    """Take in one statement."""
    word, value = said.property, said.value
    if word == "type":
        one.concept = one.concept or value.rpartition("#")[2].rpartition("/")[2].rpartition(":")[2] == "Concept"
    elif word == "broader":
        one.above.append(value)
    elif word == "narrower":
        one.below.append(value)
    elif word in _CODES and said.language is not None:
        one.codes.setdefault(word, value)
    elif word in _LABELS and said.language is not None:
        one.labels.setdefault(word, []).append((said.language, value))
    elif word in _TEXTS and said.language is not None:
        one.texts.setdefault(word, []).append((said.language, value))
    elif word in ("deprecated", "retired"):
        one.retired = one.retired or value.strip().lower() not in ("", "false", "0")
    elif word == "weight":
        one.weight = value


def _chosen(said: Mapping[str, Sequence[tuple[str, str]]], words: Sequence[str]) -> str:
    """The text of the first of these properties that is there: English, else without a language, else the first."""
    texts = next((said[word] for word in words if word in said), ())
    english = (text for language, text in texts if language.lower().split("-")[0] == "en")
    plain = (text for language, text in texts if not language)
    return next(english, next(plain, texts[0][1] if texts else ""))


def _plain(uri: str) -> str:
    """The id that stands behind an address of ours, or the address itself."""
    return unquote(uri.removeprefix(NODE)) if uri.startswith(NODE) else uri.removeprefix(_BASE)


def _note(found: Mapping[str, _Concept], foreign: int, notes: list[str]) -> None:
    if foreign:
        notes.append(f"{foreign:,} broader concepts lie outside this file and were passed over")
    others: dict[str, int] = {}
    for one in found.values():
        spoken = [language for language, _ in next((one.labels[key] for key in _LABELS if key in one.labels), ())]
        if spoken and not any(not language or language.lower().split("-")[0] == "en" for language in spoken):
            others[spoken[0]] = others.get(spoken[0], 0) + 1
    for language, count in sorted(others.items()):
        notes.append(f"{count:,} concepts have no English label; theirs is in {language!r}")


# ── JSON-LD ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_skos(tree: Any) -> bool:
    """Whether parsed JSON is linked data rather than a table or a tree: it says `@context`, `@graph`, `@id` or so."""
    first = tree[0] if isinstance(tree, list) and tree else tree
    return isinstance(first, dict) and any(key in first for key in ("@context", "@graph", "@id", "conceptSet"))


def linked(tree: Any) -> Iterator[Said]:
    """The statements of JSON-LD, compacted or expanded, nested or flat, under a context of its own or a remote one.

    Properties are told by the last word of their name, after the names that an inline `@context` gives them. No
    context is ever fetched.
    """
    names: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    for item in tree if isinstance(tree, list) else [tree]:
        context = item.get("@context") if isinstance(item, dict) else None
        for part in context if isinstance(context, list) else [context]:
            for term, means in part.items() if isinstance(part, dict) else ():
                said = means.get("@id") if isinstance(means, dict) else means
                if isinstance(said, str):
                    names[term] = said
                    prefixes[term] = said
    yield from _Walk(names, prefixes).statements(tree)


class _Walk:
    """One pass over a JSON-LD document."""

    def __init__(self, names: Mapping[str, str], prefixes: Mapping[str, str]) -> None:
        self.names = names
        self.prefixes = prefixes
        self.blank = 0

    def statements(self, tree: Any) -> Iterator[Said]:
        """Those of every node in a document: alone, in a list, in a graph, or nested in another."""
        waiting = [tree]
        while waiting:
            item = waiting.pop()
            if isinstance(item, list):
                waiting += reversed(item)
            elif isinstance(item, dict):
                more: list[Any] = []
                yield from self._node(item, more)
                waiting += reversed(more)

    def _node(self, item: Mapping[str, Any], more: list[Any]) -> Iterator[Said]:
        subject = self._address(item)
        for key, value in item.items():
            word = _last(self.names.get(key, key)).lower()
            if key == "@graph" or word == "conceptset":
                more.append(value)
            elif key == "@context" or word in ("@id", "uri", "id"):
                continue
            else:
                word = "type" if word == "@type" else word
                for said, language in self._values(value, word, more):
                    yield Said(subject, word, said, language)

    def _address(self, item: Mapping[str, Any]) -> str:
        named = next(
            (item[key] for key in item if _last(self.names.get(key, key)).lower() in ("@id", "uri", "id")), None
        )
        if isinstance(named, str):
            return self._whole(named)
        self.blank += 1
        return f"_:{self.blank}"

    def _whole(self, address: str) -> str:
        """The address with a prefix of the context written out."""
        prefix, colon, rest = address.partition(":")
        return self.prefixes[prefix] + rest if colon and prefix in self.prefixes else address

    def _values(self, value: Any, word: str, more: list[Any]) -> Iterator[tuple[str, str | None]]:
        """(value, language or None for an address) of what one key holds."""
        if isinstance(value, list):
            for item in value:
                yield from self._values(item, word, more)
        elif isinstance(value, dict):
            if "@value" in value:
                yield _word(value["@value"]), str(value.get("@language", ""))
            elif "@list" in value or "@set" in value:
                yield from self._values(value.get("@list", value.get("@set")), word, more)
            elif (word in _LABELS or word in _TEXTS) and "@id" not in value:  # a language map
                for language, said in value.items():
                    for text in said if isinstance(said, list) else [said]:
                        yield _word(text), "" if language in ("@none", "und") else language
            else:
                address = self._address(value)
                if len(value) > 1 or not any(_last(key).lower() in ("@id", "uri", "id") for key in value):
                    # a nested node is described later, under the address that is given to it here
                    more.append({**value, "@id": address})
                yield address, None
        elif value is not None:
            text = _word(value)
            yield (self._whole(text), None) if word in ("broader", "narrower", "type") else (text, "")


def _last(name: str) -> str:
    """The last word of a property's name: `skos:broader`, `http://…/core#broader` → `broader`."""
    return name if name.startswith("@") else re.split(r"[#/:]", name)[-1]


def _word(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


# ── Turtle and RDF/XML ──────────────────────────────────────────────────────────────────────────────────────────────


def turtle(body: str, faults: FileFaults) -> list[Said]:
    """The statements of Turtle or N-Triples, in the order written (rdflib; 10^5 concepts of 6 statements take 7 s)."""
    return _parsed(body, "turtle", faults)


def xml(body: str, faults: FileFaults) -> list[Said]:
    """The statements of RDF/XML, in the order written (rdflib; 10^5 concepts of 6 statements take 12 s).

    Raises:
        RecipeError: no well-formed XML, another encoding than UTF-8, an entity or an external DTD, or no RDF.
    """
    _guard(body, faults)
    return _parsed(body, "xml", faults)


def _guard(body: str, faults: FileFaults) -> None:
    """Refuse what expands or points elsewhere, before anything builds on the document.

    rdflib's own reader would expand entities: ten lines that name each other make gigabytes.
    """
    from xml.parsers import expat

    declared = re.match(r"""\s*<\?xml[^>]*?encoding\s*=\s*["']([^"']+)""", body)
    if declared and declared[1].lower() not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise faults.stop(f"XML that says it is {declared[1]!r}; save the file as UTF-8, and say so in its first line")
    parser = expat.ParserCreate("utf-8")

    def entity(name: str, *_: Any) -> None:
        message = f"XML that declares the entity {name!r}; entities are not expanded: write them out, or save as Turtle"
        raise faults.stop(message, parser.CurrentLineNumber)

    def doctype(_name: str, system: str | None, _public: str | None, _internal: Any) -> None:
        if system:
            message = f"XML that points to a document type elsewhere ({system!r}); nothing is fetched: take it out"
            raise faults.stop(message, parser.CurrentLineNumber)

    parser.EntityDeclHandler = entity
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(body.encode("utf-8"), True)
    except expat.ExpatError as error:
        message = f"not well-formed XML: {expat.ErrorString(error.code)}"
        raise faults.stop(message, error.lineno, error.offset + 1) from None


def _parsed(body: str, form: str, faults: FileFaults) -> list[Said]:
    import rdflib
    from rdflib.plugins.stores.memory import Memory

    said: list[Said] = []
    words: dict[str, str] = {}

    blank: dict[str, str] = {}

    def named(term: Any) -> str:
        """The term as text; one without an address is numbered, since rdflib draws it a new name each time."""
        said = str(term)
        return blank.setdefault(said, f"_:{len(blank) + 1}") if isinstance(term, rdflib.BNode) else said

    class Listener(Memory):
        """Hears statements in the order of the file, and indexes none: an index would forget the order."""

        def add(self, triple: Any, context: Any, quoted: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
            subject, name, value = triple
            word = words.get(name)
            if word is None:
                word = words[name] = _last(str(name)).lower()
            language = (value.language or "") if isinstance(value, rdflib.Literal) else None
            said.append(Said(named(subject), word, named(value), language))

    with _hushed():
        graph = rdflib.Graph(store=Listener(), bind_namespaces="none")
        try:
            graph.parse(data=body, format=form, publicID=_BASE)
        except Exception as error:  # noqa: BLE001  (rdflib raises whatever its parsers stumble over)
            raise faults.stop(*_told(error, "Turtle" if form == "turtle" else "RDF/XML")) from None
    return said


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep literals as written ("01" is not 1), and rdflib's log off the terminal: it quotes the file unescaped."""
    import logging

    import rdflib

    log = logging.getLogger("rdflib")
    level, normal = log.level, rdflib.NORMALIZE_LITERALS
    log.setLevel(logging.CRITICAL + 1)
    rdflib.NORMALIZE_LITERALS = False
    try:
        yield
    finally:
        log.setLevel(level)
        rdflib.NORMALIZE_LITERALS = normal


def _told(error: Exception, what: str) -> tuple[str, int]:
    """What a parser complained about, in one line, and where."""
    why = getattr(error, "_why", None)  # rdflib's BadSyntax, whose own message quotes the file at length
    line = getattr(error, "lines", None)
    if isinstance(why, str):
        return f"not valid {what}: {why[:200]}", line + 1 if isinstance(line, int) else 0
    first = (str(error).splitlines() or [""])[0]
    return f"not usable {what}: {type(error).__name__}: {first[:200]}", 0
