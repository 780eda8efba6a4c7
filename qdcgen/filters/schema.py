"""The filter `schema`: fields are what they were declared to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdcgen.parts import Filter, Tools
from qdcgen.rows import Row, Verdict


class Schema(Filter):
    """Keeps rows whose every declared field is present and fits its declared JSON Schema.

    Replies are checked when they arrive; this filter checks the finished row, after every step has had its way.
    """

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """Names the first field that does not fit, what was found and what was expected."""
        from jsonschema_rs import validator_for

        checks: dict[str, Any] = {name: validator_for(dict(schema)) for name, schema in tools.fields.items()}

        def one(row: Row) -> Verdict:
            for name, check in checks.items():
                if row.fields.get(name) is None:
                    return Verdict(kept=False, reason=f"{name} is missing")
                for error in check.iter_errors(row.fields[name]):
                    return Verdict(kept=False, reason=f"{name}: {error.message}"[:300])
            return Verdict(kept=True)

        return [one(row) for row in rows]
