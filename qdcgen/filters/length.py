"""The filter `length`: not too short, not too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, model_validator

from qdcgen.errors import nearest
from qdcgen.parts import Filter, Problem, Scene, Tools, is_text
from qdcgen.rows import Row, Verdict


class Length(Filter):
    """Keeps rows whose field has between `min_words` and `max_words` words (runs of non-space characters).

    Without `field`, the words of all text fields are counted together. The score is the number of words.
    """

    short: ClassVar[str | None] = "min_words"

    field: str | None = None
    """Field to look at; default: all text fields together."""
    min_words: int = Field(default=1, ge=0)
    """Fewest words."""
    max_words: int | None = Field(default=None, ge=1)
    """Most words."""

    @model_validator(mode="after")
    def _possible(self) -> Length:
        if self.max_words is not None and self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}; no row could pass")
        return self

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:  # noqa: ARG002  (needs nothing of the world)
        """Counts words; the reason says found and expected."""

        def one(row: Row) -> Verdict:
            texts = [row.fields.get(self.field)] if self.field else list(row.fields.values())
            found = sum(len(text.split()) for text in texts if isinstance(text, str))
            if found < self.min_words:
                return Verdict(kept=False, reason=f"{found} words, fewer than {self.min_words}", score=found)
            if self.max_words is not None and found > self.max_words:
                return Verdict(kept=False, reason=f"{found} words, more than {self.max_words}", score=found)
            return Verdict(kept=True, score=found)

        return [one(row) for row in rows]

    def problems(self, scene: Scene) -> Any:
        """The field exists and holds text."""
        if self.field is None:
            return
        if self.field not in scene.fields:
            yield Problem(("field",), f"no field called {self.field!r}{nearest(self.field, list(scene.fields))}")
        elif not is_text(scene.fields[self.field]):
            yield Problem(("field",), f"field {self.field!r} holds no text, so it has no words to count")
