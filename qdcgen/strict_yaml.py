"""YAML without surprises: text → plain data, plus where each key and value stands.

Words stay words: `no`, `010`, `12:30`, `.inf` and `2026-11-20` are strings; only `true`, `false`, `null`, `~`, plain
decimal integers and plain decimal fractions are anything else. Aliases, tags, merge keys, duplicate keys and second
documents are faults. Built straight from libyaml's events, so a billion-laughs file is refused at its first alias.

`plain` is for trees of names: there every scalar is a word as it was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from qdcgen.errors import Fault, RecipeError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Marked", "Path", "Word", "dotted", "parse", "scalar"]

MAX_BYTES = 64 * 2**20
"""Larger files are refused unread."""
MAX_DEPTH = 160
"""Deeper nesting is refused. A taxonomy of 64 levels, written `- a: [- b: [ … ]]`, opens two containers per level."""
MAX_FAULTS = 20
"""Repeated keys that are told at once."""

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML 1.2 calls not printable (§5.1). Looked for here, because libyaml tells its place in bytes, not columns."""
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\Z")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,2})?\Z")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str | int, ...]
"""Keys and list indices from the root to a value."""


def dotted(path: Path) -> str:
    """A key path as `--set` takes it: `target.rows`."""
    return ".".join(str(word) for word in path)


class Word(str):
    """A scalar as it was written, that knows its line and column (from 1)."""

    __slots__ = ("column", "line")
    line: int
    column: int


def _word(event: Any) -> Word:
    word = Word(event.value)
    word.line, word.column = event.start_mark.line + 1, event.start_mark.column + 1
    return word


def scalar(text: str) -> Any:
    """What an unquoted scalar means: a bool, None, int, float, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text


@dataclass
class Marked:
    """Parsed data with the place of every key (or list item) and value, by key path from the root."""

    file: str
    data: Any = None
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)
    """Where a value came from that does not stand in the file: key path → `--set target.rows`."""

    def fault(self, path: Path, message: str, *, at_key: bool = False) -> Fault:
        """A Fault at the place of `path`, or of its nearest ancestor that stands in the file."""
        for end in range(len(path), 0, -1):
            if origin := self.origins.get(path[:end]):
                return Fault(origin, 0, 0, message)
        where = self.keys if at_key else self.values
        for end in range(len(path), -1, -1):
            if place := where.get(path[:end]) or self.values.get(path[:end]):
                return Fault(self.file, *place, message)
        return Fault(self.file, 1, 1, message)


def parse(text: str | bytes, file: str, *, plain: bool = False) -> Marked:
    """Parse one YAML document.

    With `plain`, every key and scalar is a `Word` as written, only an empty one, `~` or `null` is None, and the places
    are in the words: `keys` and `values` stay empty, which a tree of two million names needs.

    Raises:
        RecipeError: with `file:line:column` for every kind of fault named in the module docstring.
    """
    if isinstance(text, bytes):
        if len(text) > MAX_BYTES:
            raise RecipeError(Fault(file, 0, 0, f"{len(text):,} bytes; expected at most {MAX_BYTES:,}"))
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            message = f"not UTF-8: byte {error.object[error.start]:#04x}; save the file as UTF-8"
            raise RecipeError(Fault(file, line, 0, message)) from None
    if found := _FORBIDDEN.search(text):
        before = text[: found.start()]
        line, column = before.count("\n") + 1, found.start() - before.rfind("\n")
        raise RecipeError(Fault(file, line, column, f"character U+{ord(found[0]):04X} is not allowed in YAML"))
    marked = Marked(file)
    builder = _Builder(marked, plain=plain)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        said = f"{error.problem or 'cannot be read'}" + (f" ({error.context})" if error.context else "")
        if (
            mark
            and text.splitlines()[mark.line : mark.line + 1]
            and "\t" in text.splitlines()[mark.line][: mark.column + 1]
        ):
            said = "a tab; indent with spaces"
        raise RecipeError([*builder.again, Fault(file, *place, f"not valid YAML: {said}")]) from None
    except RecipeError as error:
        raise RecipeError([*builder.again, *error.faults]) from None
    if builder.again:
        raise RecipeError(builder.again)
    return marked


class _Builder:
    """Fills `marked` from events; keeps its own stack, so nesting costs no Python stack."""

    def __init__(self, marked: Marked, *, plain: bool) -> None:
        self.marked = marked
        self.plain = plain
        self.again: list[Fault] = []
        """Keys that stand twice; reading goes on, so that all are told."""
        self.stack: list[tuple[Any, Path]] = []  # open containers with their paths
        self.pending: list[str | None] = []  # for each open container, the key waiting for its value
        self.documents = 0

    def take(self, event: Any) -> None:
        """The next event.

        Raises:
            RecipeError: it is one that a recipe must not hold.
        """
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise self.stop(event, "a second document (---); expected one per file")
        elif isinstance(event, yaml.AliasEvent):
            raise self.stop(event, f"alias *{event.anchor}; aliases are not allowed, write the value out")
        elif isinstance(event, yaml.ScalarEvent):
            self.refuse_decoration(event)
            if self.awaits_key:
                self.open_key(event)
            else:
                self.place(event, self.meaning(event))
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self.refuse_decoration(event)
            if self.awaits_key:
                raise self.stop(event, "a mapping or list as a key; expected a word")
            if len(self.stack) >= MAX_DEPTH:
                raise self.stop(event, f"nested more than {MAX_DEPTH} deep")
            holder: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            path = self.place(event, holder)
            self.stack.append((holder, path))
            self.pending.append(None)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self.stack.pop()
            self.pending.pop()

    @property
    def awaits_key(self) -> bool:
        """Whether the next scalar is a key."""
        return bool(self.stack) and isinstance(self.stack[-1][0], dict) and self.pending[-1] is None

    def meaning(self, event: Any) -> Any:
        """What a scalar that is no key means."""
        if not self.plain:
            return scalar(event.value) if event.implicit[0] else event.value
        return None if event.implicit[0] and event.value in {"", "~", "null"} else _word(event)

    def place(self, event: Any, value: Any) -> Path:
        """Put a value where it belongs; gives its path, which is empty where no places are kept."""
        path: Path = ()
        if not self.stack:
            self.marked.data = value
        else:
            holder, above = self.stack[-1]
            key: str | int = len(holder)
            if isinstance(holder, dict):
                key, self.pending[-1] = self.pending[-1] or "", None
                holder[key] = value
            else:
                holder.append(value)
            path = (*above, key)
        if self.plain:
            return ()
        spot = (event.start_mark.line + 1, event.start_mark.column + 1)
        self.marked.values[path] = spot
        if path and isinstance(path[-1], int):
            self.marked.keys[path] = spot
        return path

    def open_key(self, event: Any) -> None:
        """Keep the key until its value comes."""
        holder, above = self.stack[-1]
        key = _word(event) if self.plain else event.value
        if key == "<<" and event.implicit[0]:
            raise self.stop(event, "merge key <<; merging is not allowed, write the keys out")
        if key in holder:
            line = next(one.line for one in holder if one == key) if self.plain else self.marked.keys[*above, key][0]
            self.again.append(self.fault(event, f"key {str(key)!r} again; it is already on line {line}"))
            if len(self.again) >= MAX_FAULTS:
                raise RecipeError(self.again)
        elif not self.plain:
            self.marked.keys[*above, key] = (event.start_mark.line + 1, event.start_mark.column + 1)
        self.pending[-1] = key

    def refuse_decoration(self, event: Any) -> None:
        """Tags and anchors are faults."""
        if event.tag is not None:
            raise self.stop(event, f"tag {event.tag}; tags are not allowed, a recipe is plain data")
        if event.anchor is not None:
            raise self.stop(event, f"anchor &{event.anchor}; anchors are not allowed, write the value out")

    def fault(self, event: Any, message: str) -> Fault:
        """The fault at an event."""
        return Fault(self.marked.file, event.start_mark.line + 1, event.start_mark.column + 1, message)

    def stop(self, event: Any, message: str) -> RecipeError:
        """The error to raise when nothing after the event can be trusted."""
        return RecipeError(self.fault(event, message))
