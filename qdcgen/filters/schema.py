"""The filter `schema`: fields are what they were declared to be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qdcgen.parts import Filter, Tools
from qdcgen.rows import Row, Verdict

LONGEST = 300
"""Characters of a reason: a message of the validator holds the whole value."""


class Schema(Filter):
    """Keeps rows whose every declared field is present and fits its declared JSON Schema, `format` included.

    Replies are checked when they arrive; this filter checks the finished row, after every step has had its way. Figures
    that JSON cannot hold (infinite, not a number) and halves of characters fit no schema.
    """

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """Names the first field that does not fit, what was found and what was expected."""
        checks: dict[str, Any] | None = tools.scratch.get("checks")
        if checks is None:
            checks = tools.scratch["checks"] = _checks(tools.fields)
        return [_one(row, checks) for row in rows]


def _checks(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Field → what gives its faults; compiled once, not once a batch."""
    from jsonschema_rs import validator_for

    return {name: validator_for(dict(schema), validate_formats=True) for name, schema in fields.items()}


def _one(row: Row, checks: Mapping[str, Any]) -> Verdict:
    for name, check in checks.items():
        value = row.fields.get(name)
        if value is None:
            return Verdict(kept=False, reason=f"{name} is missing")
        if odd := _odd(value):
            return Verdict(kept=False, reason=f"{name}: {odd}")
        for error in check.iter_errors(value):
            return Verdict(kept=False, reason=f"{name}: {error.message}"[:LONGEST])
    return Verdict(kept=True)


def _odd(value: Any) -> str:
    """What of a value is no JSON: the validator raises on the one and passes the other by."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float) and not math.isfinite(one):
            return f"{one} is no number that JSON can hold"
        if isinstance(one, str) and not one.isascii():
            try:
                one.encode()
            except UnicodeEncodeError as error:
                return f"half of a character (a lone surrogate) at position {error.start}"
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple)):
            waiting += one
    return ""
