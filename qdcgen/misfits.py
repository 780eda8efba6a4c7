"""What does not fit: pydantic's errors in our words, each at the place in the YAML that it speaks of."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError

from qdcgen.errors import Fault, nearest
from qdcgen.parts import shown
from qdcgen.strict_yaml import Marked, Path, dotted

__all__ = ["known_keys", "misfits"]


def misfits(
    marked: Marked,
    error: ValidationError,
    model: type[BaseModel],
    above: Path,
    told: Collection[str] = (),
) -> list[Fault]:
    """Pydantic's errors in our words, each at its own place; none of the top-level keys whose faults are told."""
    found: dict[tuple[Path, bool], list[str]] = {}
    for one in error.errors(include_url=False):
        if not above and one["loc"][:1] and one["loc"][0] in told:
            continue
        kind, missing = one["type"], one["type"] == "missing"
        path = _written(marked.data, (*above, *one["loc"]), missing=missing)
        if kind == "extra_forbidden":
            known = known_keys(model, one["loc"][:-1])
            message = f"unknown key {dotted(path)!r}{nearest(str(path[-1]), known)}"
            if known and "did you mean" not in message:
                message += f"; expected one of {', '.join(known)}"
        elif missing:
            message = f"{dotted(path)} is missing"
        else:
            message = _in_our_words(one)
            if one["loc"][-1:] == ("[key]",):
                message = f"{dotted(path)}: {message}"
        at_key = kind == "extra_forbidden" or missing or one["loc"][-1:] == ("[key]",)
        said = found.setdefault((path[:-1] if missing else path, at_key), [])
        if message not in said:
            said.append(message)
    return [
        marked.fault(path, message if at_key else f"{dotted(path)}: {message}", at_key=at_key and len(path) > 0)
        for (path, at_key), messages in found.items()
        for message in (messages if at_key else [_either(messages)])
    ]


def _written(data: Any, path: Path, *, missing: bool) -> Path:
    """The part of a pydantic location that stands in the YAML: no tags of unions, no keys that short forms omit."""
    found: Path = ()
    for number, word in enumerate(path):
        inside_list = isinstance(data, list) and isinstance(word, int) and word < len(data)
        if inside_list or (isinstance(data, dict) and word in data):
            data = data[word]
            found = (*found, word)
        elif missing and number == len(path) - 1:
            found = (*found, word)
    return found


def _in_our_words(one: Any) -> str:
    """What was expected, and what was found."""
    kind, limits = one["type"], one.get("ctx", {})
    if kind == "value_error":
        return str(one["msg"]).removeprefix("Value error, ")
    said = _EXPECTED.get(kind) or str(one["msg"]).replace("Input should be", "expected").replace(
        "String should", "should"
    )
    if kind in _BOUNDS:
        limit = limits[next(iter(limits))]
        said = f"expected a number {_BOUNDS[kind]} {int(limit) if limit == int(limit) else limit:,}"
    if kind in {"too_short", "string_too_short"}:
        return f"expected at least {limits['min_length']} {'character' if kind[0] == 's' else 'entry'}, found none"
    return f"{said[0].lower()}{said[1:]}, found {shown(one['input'])}"


def _either(messages: list[str]) -> str:
    """One message for a value that fits none of several forms."""
    heads = [message.partition(", found ")[0].removeprefix("expected ") for message in messages]
    if len(messages) == 1 or not all(message.startswith("expected ") for message in messages):
        return messages[0]
    heads = [head for head in heads if not (head == "a whole number" and "a number" in heads)]
    return f"expected {' or '.join(heads)}, found {messages[0].partition(', found ')[2]}"


_EXPECTED = {
    **dict.fromkeys(("model_type", "dict_type", "model_attributes_type"), "expected a mapping"),
    **dict.fromkeys(("tuple_type", "list_type"), "expected a list"),
    "string_type": "expected text",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "expected a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "expected a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
}
_BOUNDS = {
    "greater_than": "above",
    "greater_than_equal": "of at least",
    "less_than": "below",
    "less_than_equal": "of at most",
}


def known_keys(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """Keys that the model at `loc` below `model` knows; internal ones left out."""
    current: Any = model
    for word in loc:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(word))
            current = field.annotation if field else None
        else:  # a mapping or list: its items are the last type argument that is a model, or holds one
            current = next((a for a in reversed(typing.get_args(current)) if a is not Ellipsis), None)
        while typing.get_origin(current) in (typing.Union, types.UnionType, Annotated):
            current = typing.get_args(current)[0]
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [field.alias or name for name, field in current.model_fields.items() if not field.exclude]
    return []
