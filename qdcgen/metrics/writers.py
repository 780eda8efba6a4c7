"""Metric `writers`: what each of several writing models brought that no other did, and for how much."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import wilson
from qdcgen.likeness import groups
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from qdcgen.parts import Sample


class Writers(Metric):
    """For each writer of a layer `models`: rows accepted, rows accepted that no other writer made, the latter a dollar.

    Shares are of all rows that the writer made, failed ones included, with Wilson intervals. A row is unique when its
    text is in no group of near-duplicates (4-letter shingles, as in `near_duplicates`) with a row of another writer,
    accepted or not: a row that another writer made too is worth having only once, whoever came first. Dollars
    are those of the calls that made the writer's rows, its failed and rejected ones included, the filters' calls not;
    with one unknown price the figure is unknown. Nothing is printed where one model writes everything.

    What makes it lie: it sees letters, so two writers who say the same in other words are both unique. The more rows
    the others made, the fewer of a writer's are unique, so a writer of small weight looks better than it is. A call to
    another model in the row (a critic, say) is paid by the row's writer.

    Source: several writers, small ones included (arXiv 2504.12522); how alike models write (arXiv 2510.22954).
    """

    table: ClassVar[str] = "quality"
    gates: ClassVar[tuple[str, ...]] = ("accepted_by_writer", "unique_by_writer")
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(gates, ("a layer models",))
    short: ClassVar[str | None] = "similarity"

    similarity: float = Field(default=0.8, gt=0, le=1)
    """Similarity of letters from which two writers made the same row."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Three measures a writer, in the order of their names; counted once, over everything that was made."""
        history = sample.attempts
        if sample.of != "raw" or history is None or "_writer" not in history.columns:
            return []
        made = Counter(history["_writer"].drop_nulls())
        if len(made) < 2:  # noqa: PLR2004  (one writer has nobody to be compared with)
            return []
        kept: dict[str, set[str]] = defaultdict(set)
        for writer, row in history.filter("_kept").select("_writer", "_id").iter_rows():
            kept[writer].add(row)
        shared = self._shared(sample, history)
        found = []
        for writer in sorted(made):
            n, accepted, unique = made[writer], len(kept[writer]), len(kept[writer] - shared)
            found += [
                _share("accepted by writer", accepted, n, writer, "are accepted"),
                _share("unique by writer", unique, n, writer, "are accepted and like no row of another writer"),
                _a_dollar(unique, history.filter(history["_writer"] == writer)["_usd"], writer),
            ]
        return found

    def _shared(self, sample: Sample, history: pl.DataFrame) -> set[str]:
        """Ids of rows in a group of near-duplicates that two writers or more have rows in."""
        writer_of = dict(history.select("_id", "_writer").iter_rows())
        ids = sample.frame["_id"].to_list()
        together = groups(sample.texts, self.similarity)
        writers: dict[int, set[str | None]] = defaultdict(set)
        for row, group in zip(ids, together, strict=True):
            writers[group].add(writer_of.get(row))
        return {row for row, group in zip(ids, together, strict=True) if len(writers[group]) > 1}


def _share(name: str, hits: int, n: int, writer: str, what: str) -> Measure:
    note = f"{hits} of {n} rows made {what}"
    return Measure("quality", name, hits / n, n=n, interval=wilson(hits, n), of="raw", axis=writer, note=note)


def _a_dollar(unique: int, dollars: pl.Series, writer: str) -> Measure:
    value, interval, n = None, None, len(dollars)
    spent = float(dollars.sum())
    if dollars.null_count():
        note = "the price of its calls is unknown; name it under price:"
    elif not spent:
        note = f"{unique} rows, and its calls cost nothing"
    else:
        value, note = unique / spent, f"{unique} rows for ${spent:.4g}"
        low, high = wilson(unique, n) or (0.0, 1.0)
        interval = (low * n / spent, high * n / spent)
    return Measure(
        "quality",
        "unique accepted rows a dollar",
        value,
        unit="rows a dollar",
        range=(0.0, math.inf),
        n=n,
        interval=interval,
        of="raw",
        axis=writer,
        note=note,
    )
