"""The filter `leak`: the text does not say what only the prompt knew."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from qdcgen.errors import nearest
from qdcgen.parts import Filter, Problem, Scene, Tools, is_text, word
from qdcgen.rows import Row, Verdict
from qdcgen.wording import quoted, texts

LONGEST = 60
"""Characters of a value that are compared: a persona's text may be a page."""
_EVERYDAY = {"text", "name", "id", "source", "number", "kind", "type"}
"""Keys of a layer's mapping that stand before a colon in any text."""
_TRAIT_NAMES = {"openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism"}

_TRAITS = re.compile(
    r"\b(?:openness|conscientiousness|extra?[ov]ersion|agreeableness|neuroticism)\b[\"']?\s{0,3}"
    r"(?:[:：=(]|score[sd]?(?: of| is|:)?|is|at|of)\s{0,3}\d{1,3}\b"
    r"|(?<![\w'’])(?:big[- ]five|trait|t)[- ]scores?\b(?:\s{0,3}(?:of|is|are|[:=]))?\s{0,3}\d{0,3}",
    re.IGNORECASE,
)
_PLANNED = re.compile(
    r"^[^\w\n]{0,9}row ?(?:id|number|no\.?)?\s?[:=#]\s?\d(?![^\n]{0,20}\bseat)"
    r"|\b(?:row|taxonomy|node|mix)[ _](?:id|node|path|key)s?\s?[:=#]\s?[\w\"'/]"
    r"|\b(?:replicate|taxonomy)\s?[:=#]\s?[\w\"'/]|\bmeta-?prompt\s?[:=]",
    re.IGNORECASE | re.MULTILINE,
)
"""Words of the plan in front of what would be their value. A signature says `cell:`, a ticket `Row: 12, Seat: 4`."""

_SIGNS = re.compile(r"[:：=/_#→]|->|\bis set to\b|\d|score", re.IGNORECASE)
"""Without one of these there is nothing to look for."""
_LABEL = r"[\"'*`]{0,3}\s{0,3}(?:[:：=→]|->|\bis set to\b)\s{0,3}[\"'*`(\[]{0,3}"
_TOKEN = re.compile(r"\w+")
_PREFIXED = re.compile(r"\b[a-z][\w.-]{0,30}:[\w.-]+", re.IGNORECASE)
_AROUND = re.compile(r"(?<![^\s/])(?=(?P<before>[^\s/]{1,80})/(?P<after>[^\s/]+))")
"""The words on both sides of a slash; looked ahead for, so that in a/b/c both slashes are found."""
_EDGES = " \t\n.,;:!?\"'*`()[]{}…。，、！？；："


@dataclass
class _Known:
    """What no text may say, whatever its row: worked out once for all rows."""

    joined: set[str] = field(default_factory=set)
    """Names and node ids with an underscore, in lower case."""
    prefixed: set[str] = field(default_factory=set)
    """Node ids with a colon."""
    paths: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """The words around a path's first slash → such paths."""
    asked: dict[tuple[str, str], str] = field(default_factory=dict)
    """Axis and node id → path, of nodes that have one with a slash."""
    values: dict[str, set[str]] = field(default_factory=dict)
    """Axis or field → values that it can have."""
    keys: re.Pattern[str] | None = None
    """A field's name as JSON has it."""
    labels: dict[tuple[str, ...], re.Pattern[str]] = field(default_factory=dict)
    """Names → any of them as a label; rows differ in their axes only by strategy."""


class Leak(Filter):
    """Drops rows whose text says what only the prompt knew: labels, paths, scores, pieces of the requested JSON.

    It looks for the name of an axis, a field or a part of a layer's value in front of a value that it can have
    ("topic: cards/lost", "urgency = high"); paths of nodes ("cards/lost"); names and node ids with an underscore
    ("risk_level"); scores of traits ("openness: 63", "T-score 41"); a field's name as JSON has it (`"message":`) or at
    the start of that field ("Message: …"); and the plan's own words as labels ("replicate: 3"). A word alone is no
    leak: a message about `pin` says pin.

    Of 13,083 real bank messages, judged with their 77 intents as a taxonomy, it drops none, nor any of 20,670 turns of
    real dialogues, 12,631 film reviews and 300 web texts. It goes by form: a value told in prose ("I am calm") passes,
    as the report's table of what each axis does to the text shows; and a form ("Product: credit card") or code with a
    variable of a field's name is dropped. Where those are wanted, name the `field` that holds prose.
    """

    short: ClassVar[str | None] = "field"

    field: str | None = None
    """Field to look at; default: every text field, each by itself."""

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The field exists."""
        if self.field is not None and self.field not in scene.fields:
            yield Problem(("field",), f"no field called {self.field!r}{nearest(self.field, list(scene.fields))}")

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """The first leak of a row, and what it is."""
        known: _Known | None = tools.scratch.get("known")
        if known is None:
            known = tools.scratch["known"] = _knowledge(tools)
        reasons = [next(self._leaks(row, known, tools), "") for row in rows]
        return [Verdict(kept=not reason, reason=reason) for reason in reasons]

    def _leaks(self, row: Row, known: _Known, tools: Tools) -> Iterator[str]:
        fields = row.fields if self.field is None else {self.field: row.fields.get(self.field)}
        mine = _values(row, tools)
        for name, text in texts(fields, tools.fields):
            if not _SIGNS.search(text):
                continue
            if isinstance(fields[name], str):
                yield from _of_fields(name, text, known)
            yield from _labelled(text, mine, known)
            yield from _named(text, row, known)
            traits = _TRAITS.search(text)
            if traits is not None and (any(map(str.isdigit, traits[0])) or _has_traits(row)):
                yield f"a trait's score: {quoted(traits[0])}"
            if (found := _PLANNED.search(text)) is not None:
                yield f"a word of the plan: {quoted(found[0])}"


# ── what is known ───────────────────────────────────────────────────────────────────────────────────────────────────


def _knowledge(tools: Tools) -> _Known:
    known = _Known()
    names = [*tools.fields, *tools.taxonomies]
    for axis, tree in tools.taxonomies.items():
        values = known.values.setdefault(_name(axis), set())
        for node in tree.nodes:
            names += [node.id, node.label]
            values |= {_plain(node.id), _plain(node.label), _plain(node.path)}
            if ":" in node.id:
                known.prefixed.add(node.id.lower())
            if "/" in node.path:
                known.asked[axis, node.id] = node.path.lower()
            for path in {node.path, node.id}:
                if (found := _AROUND.search(path.lower())) is not None:
                    known.paths.setdefault((found["before"], found["after"]), []).append(path.lower())
    known.joined = {name.lower() for name in names if "_" in name.strip("_") and _TOKEN.fullmatch(name)}
    for name, schema in tools.fields.items():
        if "enum" in schema:
            known.values.setdefault(_name(name), set()).update(_plain(value) for value in schema["enum"])
    for values in known.values.values():
        values.discard("")
    if tools.fields:
        known.keys = re.compile(rf"[\"'](?:{'|'.join(map(re.escape, tools.fields))})[\"']\s{{0,3}}:")
    return known


def _values(row: Row, tools: Tools) -> dict[str, list[str]]:
    """Name → what this row has there: its layers, the parts of their values, and its fields that are no text."""
    found: dict[str, list[str]] = {_name(axis): [_plain(node)] for axis, node in row.cell.mix.items()}
    for axis, value in row.cell.values.items():
        if isinstance(value, dict):
            said = [value[key] for key in ("name", "text") if key in value]
            found[_name(axis)] = [shape for one in said for shape in _shapes(one)]
            for key, part in value.items():
                if key not in _EVERYDAY:
                    found.setdefault(_name(key), []).extend(_shapes(part))
        else:
            found[_name(axis)] = _shapes(value)
    for name, value in row.fields.items():
        schema = tools.fields.get(name, {})
        if "enum" in schema or not is_text(schema):
            found.setdefault(_name(name), []).extend(_shapes(value))
    return found


def _shapes(value: Any) -> list[str]:
    """A value as a text may write it."""
    if isinstance(value, bool) or value is None or isinstance(value, (dict, list, tuple)):
        return []
    if isinstance(value, (int, float)):
        return list(dict.fromkeys([str(value), f"{value:g}", f"{value:.0f}", f"{value:.1f}", f"{value:.2f}"]))
    return [_plain(word(value))]


def _name(said: str) -> str:
    """A name as a text may write it too: `Risk level` and `risk-level` for `risk_level`."""
    return re.sub(r"[ -]", "_", said.lower())


def _plain(value: Any) -> str:
    return " ".join(str(value).lower().split())[:LONGEST].strip(_EDGES)


def _has_traits(row: Row) -> bool:
    return any(isinstance(value, dict) and _TRAIT_NAMES & value.keys() for value in row.cell.values.values())


# ── what is looked for ──────────────────────────────────────────────────────────────────────────────────────────────


def _of_fields(name: str, text: str, known: _Known) -> Iterator[str]:
    """A field's name as JSON has it, or its own name in front of it."""
    if known.keys is not None and (key := known.keys.search(text)) is not None:
        yield f"a field's name as JSON: {quoted(text[key.start() :], 40)}"
    start = text[: len(name) + 20].lstrip(" \t\n\"'*_#`>{").lower()
    for said in {name.lower(), name.lower().replace("_", " ")}:
        if start.startswith(said) and re.match(r"[\"'*_` ]{0,4}[:：]", start[len(said) :]):
            yield f"the field's own name: {quoted(text, 40)}"


def _labelled(text: str, mine: Mapping[str, Sequence[str]], known: _Known) -> Iterator[str]:
    """A name in front of a value that it has in this row, or can have in another."""
    names = tuple(sorted({*mine, *known.values}))
    for label in _labels(names, known).finditer(text):
        after = text[label.end() : label.end() + 2 * LONGEST].lower().lstrip()
        name = _name(label["name"])
        own = mine.get(name, ())
        can: Container[str] = known.values.get(name, ())
        if any(_begins(after, value) for value in own) or any(one in can for one in _beginnings(after)):
            yield f"a label: {quoted(text[label.start() :], 40)}"


def _labels(names: tuple[str, ...], known: _Known) -> re.Pattern[str]:
    if names not in known.labels:
        said = ("[ _-]".join(map(re.escape, name.split("_"))) for name in sorted(names, key=len, reverse=True))
        any_of = "|".join(said) or r"\b\B"
        known.labels[names] = re.compile(rf"(?<![\w/])(?P<name>{any_of}){_LABEL}", re.IGNORECASE)
    return known.labels[names]


def _begins(text: str, value: str) -> bool:
    """Whether `text` begins with the whole word or words `value`."""
    if not value or not text.startswith(value):
        return False
    after = text[len(value) : len(value) + 1]
    return len(value) >= LONGEST - len(_EDGES) or not after.isalnum() or not value.isascii()


def _beginnings(text: str) -> Iterator[str]:
    """The first word, the first two, and so on to the eighth."""
    said = ""
    for piece in text.split()[:8]:
        said = f"{said} {piece}".lstrip()
        yield said.strip(_EDGES)


def _named(text: str, row: Row, known: _Known) -> Iterator[str]:
    """Names and ids that nobody writes in prose, paths, and the row's own name."""
    lower = text.lower()
    if "_" in lower:
        own = {name.lower() for name in _keys(row) if "_" in name}
        for found in _TOKEN.finditer(lower):
            if "_" in found[0] and (found[0] in known.joined or found[0] in own):
                yield f"a name of the recipe: {quoted(text[found.start() : found.end()])}"
    if known.prefixed:
        for found in _PREFIXED.finditer(lower):
            if found[0].rstrip(".-") in known.prefixed:
                yield f"a node's id: {quoted(text[found.start() : found.end()])}"
    if known.paths and "/" in lower:
        for found in _AROUND.finditer(lower):
            yield from _path_at(lower, found, known)
    for axis, node in row.cell.mix.items():
        # Scripts without spaces have no words to look paths up by.
        path = known.asked.get((axis, node), "")
        if path and not path.isascii() and path in lower:
            yield f"a node's path: {quoted(path)}"
    if row.id in lower:
        yield f"the row's id: {quoted(row.id)}"


def _keys(row: Row) -> Iterable[str]:
    for axis, value in row.cell.values.items():
        yield axis
        if isinstance(value, dict):
            yield from value
    yield from row.cell.mix


def _path_at(lower: str, slash: re.Match[str], known: _Known) -> Iterator[str]:
    before, after = slash["before"].lstrip(_EDGES), slash["after"].rstrip(_EDGES)
    for path in known.paths.get((before, after), ()):
        start = lower.find(path, max(0, slash.start() - len(path)))
        if 0 <= start <= slash.end("before") and not lower[start + len(path) : start + len(path) + 1].isalnum():
            yield f"a node's path: {quoted(lower[start : start + len(path)])}"
