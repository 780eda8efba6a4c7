"""A reply's text against the schema that was asked for. Pure; about 3 µs for a small reply."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from qdcgen.errors import ReplyFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MAX_REPLY", "checked", "schema_text"]

MAX_REPLY = 2**20
"""Characters; a longer reply costs its row unread."""

_FENCE = re.compile(r"```(?:json|JSON)?\s*\n(.*?)```", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")


def schema_text(schema: Mapping[str, Any]) -> str:
    """The schema as canonical JSON, for prompts and for keys."""
    return orjson.dumps(schema, option=orjson.OPT_SORT_KEYS).decode()


@lru_cache(maxsize=256)
def _validator(schema: str) -> Callable[[Any], Any]:
    from jsonschema_rs import validator_for

    return validator_for(schema).iter_errors


def _loaded(text: str) -> Any:
    """The JSON value in a reply: the whole text, a fenced block, or the outermost braces, in that order.

    Raises:
        ValueError: none of them is JSON. Lone surrogates, NaN and integers over 64 bits are not JSON here.
    """
    tries = [text]
    tries += _FENCE.findall(text)[:1]
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end:
        tries.append(text[start : end + 1])
        tries.append(_TRAILING_COMMA.sub(r"\1", text[start : end + 1]))
    first: ValueError | None = None
    for one in tries:
        try:
            return orjson.loads(one)
        except ValueError as error:  # covers JSONDecodeError, and UnicodeEncodeError from lone surrogates
            first = first or error
    raise first or ValueError("empty")


def checked(text: str, schema: Mapping[str, Any], finish: str) -> Any:
    """The reply as data that fits `schema`.

    Raises:
        ReplyFault: kind `cut`, `too long`, `not JSON`, or `schema`; the message says what was found and expected.
    """
    if len(text) > MAX_REPLY:
        raise ReplyFault("too long", f"reply of {len(text):,} characters; at most {MAX_REPLY:,}", raw=text[:2000])
    try:
        value = _loaded(text)
    except ValueError as error:
        if finish == "length":
            raise ReplyFault("cut", f"reply cut at max_tokens after {len(text):,} characters", raw=text) from None
        raise ReplyFault("not JSON", f"reply is not JSON: {error}", raw=text) from None
    for misfit in _validator(schema_text(schema))(value):
        where = "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in misfit.instance_path)
        message = f"reply does not fit: {where.lstrip('.') or 'reply'}: {misfit.message}"
        raise ReplyFault("schema", message[:400], raw=text)
    return value
