"""The filter `pattern`: the text matches what it must, and nothing that it must not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from qdcgen.errors import nearest
from qdcgen.parts import Filter, Problem, Scene, Tools, is_text
from qdcgen.rows import Row, Verdict
from qdcgen.wording import first_matches, quoted, regex_fault


class Pattern(Filter):
    """Keeps rows whose text matches every regular expression under `must` and none under `must_not`.

    A pattern matches anywhere in the text, unless `^` or `$` tie it to its start or end; `(?i)` at its start ignores
    case, `(?m)` makes `^` and `$` speak of lines. The syntax is Rust's: no look-around and no backreferences, and in
    return no pattern and no text can make it slow. A field that is missing counts as an empty text.
    """

    short: ClassVar[str | None] = "must"

    field: str | None = None
    """Field to look at; default: all text fields together, one below the other."""
    must: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Regular expressions that must all be found."""
    must_not: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Regular expressions of which none may be found."""

    @field_validator("must", "must_not", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _something(self) -> Pattern:
        if not self.must and not self.must_not:
            raise ValueError("nothing to look for; give regular expressions under must, must_not or both")
        return self

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """Each pattern can be compiled; the field exists and holds text."""
        for key in ("must", "must_not"):
            for place, pattern in enumerate(getattr(self, key)):
                if (fault := regex_fault(pattern)) is not None:
                    yield Problem((key, place), fault)
        if self.field is None:
            return
        if self.field not in scene.fields:
            yield Problem(("field",), f"no field called {self.field!r}{nearest(self.field, list(scene.fields))}")
        elif not is_text(scene.fields[self.field]):
            yield Problem(("field",), f"field {self.field!r} holds no text, so no pattern can match it")

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:  # noqa: ARG002  (needs nothing of the world)
        """Names the first pattern that decides, and what it matched."""
        texts = [self._text(row) for row in rows]
        reasons: list[str] = [""] * len(rows)
        for pattern in self.must:
            for place, match in enumerate(first_matches(texts, pattern)):
                if match is None:
                    reasons[place] = reasons[place] or f"nothing matches {quoted(pattern, mark='/')}"
        for pattern in self.must_not:
            for place, match in enumerate(first_matches(texts, pattern)):
                if match is not None:
                    reasons[place] = reasons[place] or f"{quoted(match)} matches {quoted(pattern, mark='/')}"
        return [Verdict(kept=not reason, reason=reason) for reason in reasons]

    def _text(self, row: Row) -> str:
        values = [row.fields.get(self.field)] if self.field else list(row.fields.values())
        return "\n".join(value for value in values if isinstance(value, str))
