"""Filter `duplicates`: drops rows that repeat, or nearly repeat, a row kept before."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field, model_validator

from qdcgen import nearness, tables
from qdcgen.errors import UsageError, nearest
from qdcgen.likeness import Index
from qdcgen.nearness import Near
from qdcgen.parts import Filter, Problem, is_text
from qdcgen.rows import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import polars as pl

    from qdcgen.likeness import Signed
    from qdcgen.parts import Scene, Tools, Vectors
    from qdcgen.rows import Row

AT_ONCE = 4_000
"""Rows kept before that are signed and embedded at once."""


class Known(NamedTuple):
    """A text that counts as kept, and the words that name its row in a reason."""

    name: str
    text: str


@dataclass
class Held:
    """Everything kept so far, by letters and, where meaning counts, by vector; places in both are the same."""

    index: Index[str]
    near: Near = field(default_factory=Near)
    names: list[str] = field(default_factory=list)
    one_by_one: bool = False


class Duplicates(Filter):
    """Drops a row whose text repeats that of a row already kept, in its letters or its meaning. The first one stays.

    Three stages, cheapest first; the reason names the row that is repeated, the stage and the similarity, and the
    score is that similarity. (1) The same letters after normalising case, width and spaces. (2) `similarity`: exact
    Jaccard similarity of 4-letter shingles (candidates by MinHash, Broder 1997): a typo in 12 words leaves 0.85,
    another full stop 0.97, one word changed among 60 about 0.95; a paraphrase passes. (3) `meaning`, off by default:
    cosine to the nearest of all rows kept, by the recipe's embedder (measure.embedder); a kept row then has its cosine
    as score. Rows of `earlier` runs and files count as kept before the first.

    What makes it lie: letters see no meaning, and meaning sees little of what matters. "I was charged" and "I was not
    charged" in a sentence of eight words have a cosine of 0.98 by wordllama and 0.94 by bge, two amounts 0.98 and 0.90,
    "the dog bites the man" and the reverse 1.00 and 0.98; a free paraphrase 0.54 and 0.89. So no threshold finds
    paraphrases without dropping what differs in a name or a "not": of 10,003 real bank messages, 0.97 (wordllama) drops
    529 and 0.98 (bge) 1,031, most of them real repeats, and finds 1 % and 4 % of planted paraphrases, 31 to 57 % of the
    messages with a word or the order changed. On such short texts `similarity: 0.8` finds 46 to 50 % of these and drops
    182 real ones. Meaning is for repeats that letters cannot see, where rows are plenty and losing some does no harm.
    Cosines of two embedders do not compare; bge reads the first 512 tokens only; an embedder behind an API may answer
    otherwise on another day, and is paid for each row. Choose on your own texts: `python -m benchmarks.duplicates`.
    """

    short: ClassVar[str | None] = "similarity"

    field: str | None = None
    """Field compared; without one, all text fields together."""
    similarity: float = Field(default=0.9, gt=0, le=1)
    """Jaccard similarity, 0 to 1, from which a row counts as a repeat; 1 drops exact repeats only."""
    meaning: float | None = Field(default=None, gt=0, le=1)
    """Cosine of the embedder, 0 to 1, from which a row counts as a repeat; default: meaning is not compared."""
    earlier: tuple[str, ...] = ()
    """Folders of earlier runs (their accepted rows) and data files whose texts count as kept before."""
    text_column: str | None = None
    """Column of `earlier` that holds the text; default: the columns named like the fields compared."""

    @property
    def embeds(self) -> bool:  # type: ignore[override]  # a class says yes or no; here a setting does
        """Whether meaning counts."""
        return self.meaning is not None

    @model_validator(mode="after")
    def _of_earlier(self) -> Duplicates:
        if self.text_column is not None and not self.earlier:
            raise ValueError("text_column is a column of `earlier`, which is not given; name files, or leave it out")
        return self

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The field must be one that the steps fill, and hold text."""
        if self.field is None:
            return
        if self.field not in scene.fields:
            known = list(scene.fields)
            listed = f" (fields: {', '.join(known)})" if known else ""
            yield Problem(("field",), f"no step fills {self.field!r}{nearest(self.field, known)}{listed}")
        elif not is_text(scene.fields[self.field]):
            yield Problem(("field",), f"field {self.field!r} holds no text, so there is nothing to compare")

    def files(self) -> Sequence[str]:
        """The runs and files of `earlier`."""
        return self.earlier

    def read(self, tools: Tools) -> list[Known]:
        """The texts of `earlier`, in the order given.

        Raises:
            UsageError, RecipeError: a file cannot be read, or lacks the column.
        """
        return [known for name in self.earlier for known in self._texts_of(name, tools)]

    def _texts_of(self, name: str, tools: Tools) -> Iterator[Known]:
        path = tools.file(name)
        files = sorted((path / "data").glob("*.parquet")) if path.is_dir() else [path]
        if not files:
            raise UsageError(f"earlier: {name}: this run has no accepted rows; let it finish, or leave it out")
        number = 0
        for file in files:
            table = tables.read(file)
            columns = [table[column] for column in self._columns(name, table, tools)]
            ids = table["_id"] if path.is_dir() and "_id" in table.columns else None
            for at, values in enumerate(zip(*columns, strict=True)):
                number += 1
                text = "\n".join(value for value in values if value is not None)
                if text.strip():
                    yield Known(f"row {number if ids is None else ids[at]} of {name}", text)

    def _columns(self, name: str, table: pl.DataFrame, tools: Tools) -> list[str]:
        """The columns that together are the text compared."""
        import polars as pl

        one = self.text_column or self.field
        wanted = [one] if one else [known for known, schema in tools.fields.items() if is_text(schema)]
        for column in wanted:
            if column not in table.columns:
                known = [other for other in table.columns if not other.startswith("_")]
                raise UsageError(
                    f"earlier: {name} has no column {column!r}{nearest(column, known)} (columns: {', '.join(known)}); "
                    "name the one that holds the text: text_column: …"
                )
            if table.schema[column] not in (pl.String, pl.Null):
                raise UsageError(f"earlier: column {column!r} of {name} holds {table.schema[column]}; expected text")
        return wanted

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """Keep what is new. A row without text is kept: whether a field may be absent is the schema filter's matter."""
        # In a thread: what was kept before may take seconds to embed, and calls are in flight meanwhile.
        return await asyncio.to_thread(self._judged, rows, tools)

    def _judged(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        held: Held | None = tools.scratch.get("held")
        if held is None:
            held = tools.scratch["held"] = self._held(tools)
        texts = [self._text(row) for row in rows]
        given = [text for text in texts if text is not None]
        signed = held.index.sign(given)
        vectors = self._vectors(signed, held, tools)
        before = len(held.near)
        places = iter(range(len(given)))
        verdicts = []
        for row, text in zip(rows, texts, strict=True):
            if text is None:
                verdicts.append(Verdict(kept=True, reason="no text to compare"))
                continue
            place = next(places)
            verdict = self._by_letters(signed[place], held)
            if verdict is None and place in vectors:
                verdict = self._by_meaning(*vectors[place], held, before, tools)
            if verdict is None or verdict.kept:
                self._hold(held, Known(f"row {row.id}", text), signed[place], vectors.get(place, (None,))[0])
            verdicts.append(verdict or Verdict(kept=True))
        return verdicts

    def _by_letters(self, signed: Signed, held: Held) -> Verdict | None:
        """A no, or None where no letters are repeated."""
        found = held.index.nearest(signed)
        if found is None:
            return None
        other, alike = found
        if alike == 1.0:
            return Verdict(kept=False, reason=f"repeats {other}, same letters", score=1.0)
        reason = f"repeats {other}, letters {alike:.2f}, at or above {self.similarity:.2f}"
        return Verdict(kept=False, reason=reason, score=alike)

    def _by_meaning(
        self, vector: Vectors, found: tuple[int, float] | None, held: Held, before: int, tools: Tools
    ) -> Verdict | None:
        """What the nearest says: the one `found` among rows of earlier batches, or one kept since."""
        best = max(
            (one for one in (found, *held.near.best(vector, before)) if one), key=lambda one: one[1], default=None
        )
        if best is None or self.meaning is None:
            return None
        place, alike = best
        if alike < self.meaning:
            return Verdict(kept=True, score=alike)
        said = f"meaning {alike:.2f}, at or above {self.meaning:.2f} ({nearness.label(tools.embed)})"
        return Verdict(kept=False, reason=f"repeats {held.names[place]}, {said}", score=alike)

    def _vectors(
        self, signed: Sequence[Signed], held: Held, tools: Tools
    ) -> dict[int, tuple[Vectors, tuple[int, float] | None]]:
        """Place → its vector and the nearest kept before, for texts that no letters before this batch are like.

        What is embedded is the normal form: wordllama puts "My card" and "MY CARD" far apart.
        """
        if self.meaning is None:
            return {}
        places = [place for place, one in enumerate(signed) if held.index.nearest(one) is None]
        if not places:
            return {}
        forms = [signed[place].form for place in places]
        found = nearness.vectors(tools.embed, forms, one_by_one=held.one_by_one)
        best = held.near.best(found)
        return {place: (found[at : at + 1], best[at]) for at, place in enumerate(places)}

    def _held(self, tools: Tools) -> Held:
        """What was kept before this invocation: `earlier` first, then the run's own rows in plan order."""
        held = Held(Index(self.similarity), one_by_one=self.meaning is not None and nearness.alone(tools.embed))
        own = ((f"row {row.id}", self._text(row)) for row in tools.kept())
        self._hold_all(held, self.read(tools), tools)
        self._hold_all(held, (Known(name, text) for name, text in own if text is not None), tools)
        return held

    def _hold_all(self, held: Held, known: Iterable[Known], tools: Tools) -> None:
        some = iter(known)
        while now := list(islice(some, AT_ONCE)):
            signed = held.index.sign([one.text for one in now])
            new = [by.form for one, by in zip(now, signed, strict=True) if self._hold(held, one, by, None)]
            if self.meaning is not None and new:
                held.near.add(nearness.vectors(tools.embed, new, one_by_one=held.one_by_one))

    def _hold(self, held: Held, known: Known, signed: Signed, vector: Vectors | None) -> bool:
        """Remember a text; whether it is new."""
        if not held.index.add(known.name, signed):
            return False
        held.names.append(known.name)
        if vector is not None:
            held.near.add(vector)
        return True

    def _text(self, row: Row) -> str | None:
        """The text compared, or None where there is none."""
        if self.field is not None:
            value: Any = row.fields.get(self.field)
            return value if isinstance(value, str) and value.strip() else None
        texts = [value for value in row.fields.values() if isinstance(value, str)]
        return "\n".join(texts) if any(text.strip() for text in texts) else None
