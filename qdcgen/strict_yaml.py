"""YAML without surprises: text → plain data, plus where each key and value stands.

Words stay words: `no`, `010`, `12:30`, `.inf` and `2026-11-20` are strings; only `true`, `false`, `null`, `~`, plain
decimal integers and plain decimal fractions are anything else. Aliases, tags, merge keys, duplicate keys and second
documents are faults. Built straight from libyaml's events, so a billion-laughs file is refused at its first alias.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from qdcgen.errors import Fault, RecipeError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Marked", "parse", "scalar"]

MAX_BYTES = 64 * 2**20
"""Larger files are refused unread."""
MAX_DEPTH = 80
"""Deeper nesting is refused; the deepest shipped recipe has 9 levels."""

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\Z")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,2})?\Z")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str | int, ...]


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

    def fault(self, path: Path, message: str, *, at_key: bool = False) -> Fault:
        """A Fault at the place of `path`, or of its nearest ancestor that stands in the file."""
        where = self.keys if at_key else self.values
        for end in range(len(path), -1, -1):
            if place := where.get(path[:end]) or self.values.get(path[:end]):
                return Fault(self.file, *place, message)
        return Fault(self.file, 1, 1, message)


def parse(text: str | bytes, file: str) -> Marked:
    """Parse one YAML document.

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
    marked = Marked(file)
    try:
        _build(text, marked)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        said = f"{error.problem or 'cannot be read'}" + (f" ({error.context})" if error.context else "")
        raise RecipeError(Fault(file, *place, f"not valid YAML: {said}")) from None
    except yaml.reader.ReaderError as error:
        character = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
        line = text[: error.position].count("\n") + 1
        raise RecipeError(Fault(file, line, 0, f"character U+{character:04X} is not allowed in YAML")) from None
    return marked


def _build(text: str, marked: Marked) -> None:  # noqa: C901  (one branch per kind of event)
    """Fill `marked` from the event stream; iterative, so nesting costs no Python stack."""
    stack: list[tuple[Any, Path]] = []  # open containers with their paths
    pending: list[str | None] = []  # for each open mapping, the key waiting for its value
    documents = 0

    def stop(event: Any, message: str) -> RecipeError:
        mark = event.start_mark
        return RecipeError(Fault(marked.file, mark.line + 1, mark.column + 1, message))

    def place(event: Any, value: Any) -> Path:
        """Put a value where it belongs; gives its path."""
        spot = (event.start_mark.line + 1, event.start_mark.column + 1)
        path: Path = ()
        if not stack:
            marked.data = value
        else:
            holder, above = stack[-1]
            if isinstance(holder, dict):
                key = pending[-1]
                pending[-1] = None
                path = (*above, str(key))
                holder[key] = value
            else:
                path = (*above, len(holder))
                holder.append(value)
                marked.keys[path] = spot
        marked.values[path] = spot
        return path

    def is_key() -> bool:
        return bool(stack) and isinstance(stack[-1][0], dict) and pending[-1] is None

    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise stop(event, "a second document (---); expected one recipe per file")
        elif isinstance(event, yaml.AliasEvent):
            raise stop(event, f"alias *{event.anchor}; aliases are not allowed, write the value out")
        elif isinstance(event, yaml.ScalarEvent):
            _refuse_decoration(event, stop)
            if is_key():
                _open_key(event, stack, pending, marked, stop)
            else:
                place(event, scalar(event.value) if event.implicit[0] else event.value)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            _refuse_decoration(event, stop)
            if is_key():
                raise stop(event, "a mapping or list as a key; expected a word")
            if len(stack) >= MAX_DEPTH:
                raise stop(event, f"nested more than {MAX_DEPTH} deep")
            holder: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            path = place(event, holder)
            stack.append((holder, path))
            pending.append(None)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            stack.pop()
            pending.pop()


def _refuse_decoration(event: Any, stop: Any) -> None:
    if event.tag is not None and event.tag != "!":
        raise stop(event, f"tag {event.tag}; tags are not allowed, a recipe is plain data")
    if event.anchor is not None:
        raise stop(event, f"anchor &{event.anchor}; anchors are not allowed, write the value out")


def _open_key(event: Any, stack: Any, pending: list[str | None], marked: Marked, stop: Any) -> None:
    holder, above = stack[-1]
    key = event.value
    if key == "<<" and event.implicit[0]:
        raise stop(event, "merge key <<; merging is not allowed, write the keys out")
    if key in holder:
        line = marked.keys[(*above, key)][0]
        raise stop(event, f"key {key!r} again; it is already on line {line}")
    pending[-1] = key
    marked.keys[(*above, key)] = (event.start_mark.line + 1, event.start_mark.column + 1)
