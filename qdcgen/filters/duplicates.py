"""Filter `duplicates`: drops rows that repeat, or nearly repeat, a row kept before."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.errors import nearest
from qdcgen.likeness import Index
from qdcgen.parts import Filter, Problem
from qdcgen.rows import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qdcgen.parts import Scene, Tools
    from qdcgen.rows import Row


class Duplicates(Filter):
    """Drops a row whose text is at least `similarity` like that of a row already kept. The first one stays.

    Similarity is the exact Jaccard similarity of 4-letter shingles after normalising case, width and spaces: a typo in
    12 words leaves 0.85, another full stop 0.97, one word changed among 60 about 0.95. It sees letters, not meaning: a
    paraphrase passes.
    """

    short: ClassVar[str | None] = "similarity"

    field: str | None = None
    """Field compared; without one, all text fields together."""

    similarity: float = Field(default=0.9, gt=0, le=1)
    """Jaccard similarity, 0 to 1, from which a row counts as a repeat; 1 drops exact repeats only."""

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The field must be one that the steps fill."""
        if self.field is not None and self.field not in scene.fields:
            known = list(scene.fields)
            listed = f" (fields: {', '.join(known)})" if known else ""
            yield Problem(("field",), f"no step fills {self.field!r}{nearest(self.field, known)}{listed}")

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """Keep what is new. A row without text is kept: whether a field may be absent is the schema filter's matter."""
        index: Index[str] | None = tools.scratch.get("index")
        if index is None:
            index = Index(self.similarity)
            for row in tools.kept():
                if (text := self._text(row)) is not None:
                    index.add(row.id, text)
            tools.scratch["index"] = index
        return [self._one(row, index) for row in rows]

    def _one(self, row: Row, index: Index[str]) -> Verdict:
        text = self._text(row)
        if text is None:
            return Verdict(kept=True, reason="no text to compare")
        found = index.nearest(text)
        if found is None:
            index.add(row.id, text)
            return Verdict(kept=True)
        other, alike = found
        if alike == 1.0:
            return Verdict(kept=False, reason=f"repeats row {other}", score=1.0)
        reason = f"repeats row {other}, similarity {alike:.2f}, at or above {self.similarity:.2f}"
        return Verdict(kept=False, reason=reason, score=alike)

    def _text(self, row: Row) -> str | None:
        """The text compared, or None where there is none."""
        if self.field is not None:
            value = row.fields.get(self.field)
            return value if isinstance(value, str) and value.strip() else None
        texts = [value for value in row.fields.values() if isinstance(value, str)]
        return "\n".join(texts) if any(text.strip() for text in texts) else None
