"""A reply's text against the schema that was asked for. Pure; about 3 µs for a small reply."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from qdcgen.errors import ReplyFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["MAX_REPLY", "checked", "instructed", "schema_text"]

MAX_REPLY = 2**20
"""Characters; a longer reply costs its row unread."""
MAX_DEPTH = 64
"""Levels of nesting."""
LARGEST = 2**63
"""Whole numbers are below this, up and down: what a 64-bit column holds."""

# What repeats stands beside nothing that takes the same letters, or gives none back (*+): 20 s for 20,000 spaces else.
_FENCE = re.compile(r"```(?:json|JSON)?[^\S\n]*+\n(.*?)```", re.DOTALL)
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_REFUSAL = re.compile(
    r"\A\W*+(?:(?:i['’]?m sorry|sorry|i apologi[sz]e|unfortunately)[\s,.!]*+)?(?:but )?"
    r"(?:i (?:can(?:no|['’])t|cannot|am (?:not able|unable)|won['’]t|will not|must decline)|as an ai)",
    re.IGNORECASE,
)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")


def schema_text(schema: Mapping[str, Any]) -> str:
    """The schema as canonical JSON, for prompts and for keys."""
    return orjson.dumps(schema, option=orjson.OPT_SORT_KEYS).decode()


def instructed(messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any]) -> list[dict[str, str]]:
    """The messages with a last word on the form of the reply: for servers that take no JSON Schema."""
    form = f"Reply with one JSON object in a ```json block, and nothing else. Its JSON Schema:\n{schema_text(schema)}"
    *before, last = [dict(message) for message in messages]
    return [*before, {**last, "content": f"{last['content']}\n\n{form}"}]


@lru_cache(maxsize=256)
def _validator(schema: str) -> Callable[[Any], Any]:
    from jsonschema_rs import validator_for

    return validator_for(schema).iter_errors


def _loaded(text: str) -> Any:
    """The JSON value in a reply: the whole text, a fenced block, or the outermost braces, in that order.

    A leading byte-order mark and a leading `<think>` block are taken off; trailing commas are forgiven.

    Raises:
        ValueError: none of them is JSON, or holds what is no plain JSON here: lone surrogates, NaN, numbers beyond 64
            bits, a key twice, nesting deeper than 64.
    """
    text = _THOUGHT.sub("", text.removeprefix("\ufeff"), count=1)
    tries = [text]
    if block := _FENCE.search(text):
        tries.append(block[1].strip())
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end and "[" not in text[:start]:  # an object out of a list would be one of several answers
        tries.append(text[start : end + 1])
        tries.append(_TRAILING_COMMA.sub(r"\1", text[start : end + 1]))
    first: ValueError | None = None
    for one in tries:
        try:
            return _plain(orjson.loads(one), one)
        except ValueError as error:  # covers JSONDecodeError, and UnicodeEncodeError from lone surrogates
            first = first or error
    raise first or ValueError("empty")


def _plain(value: Any, text: str) -> Any:
    """The value, if it is one that every reader of our files reads alike.

    Raises:
        ValueError: a number beyond 64 bits, a key twice in one object, or nesting deeper than MAX_DEPTH.
    """
    keys = _walked(value, 0)
    if text.count('":') + text.count('" :') > keys:  # a string may hold such a thing too, so look closer
        json.loads(text, object_pairs_hook=_once)
    return value


def _walked(value: Any, depth: int) -> int:
    """Keys in all objects of the value."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        return len(value) + sum(_walked(item, depth + 1) for item in value.values())
    if isinstance(value, list):
        return sum(_walked(item, depth + 1) for item in value)
    if isinstance(value, float) and (abs(value) >= LARGEST or not math.isfinite(value)):
        raise ValueError("a number beyond 64 bits")
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise ValueError("a number beyond 64 bits")
    return 0


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice in one object")
    return found


def checked(text: str, schema: Mapping[str, Any], finish: str) -> Any:
    """The reply as data that fits `schema`.

    Raises:
        ReplyFault: kind `cut`, `refused`, `too long`, `not JSON` or `schema`; says what was found and expected.
    """
    if len(text) > MAX_REPLY:
        raise ReplyFault("too long", f"reply of {len(text):,} characters; at most {MAX_REPLY:,}", raw=text[:2000])
    try:
        value = _loaded(text)
    except ValueError as error:
        if _REFUSAL.match(text):
            raise ReplyFault("refused", f"the model declines: {text[:200]}", raw=text) from None
        if finish == "length":
            raise ReplyFault("cut", f"reply cut at max_tokens after {len(text):,} characters", raw=text) from None
        raise ReplyFault("not JSON", f"reply is not JSON: {error}", raw=text) from None
    for misfit in _validator(schema_text(schema))(value):
        where = "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in misfit.instance_path)
        message = f"reply does not fit: {where.lstrip('.') or 'reply'}: {misfit.message}"
        raise ReplyFault("schema", message[:400], raw=text)
    return value
