"""Metric `labelled`: what labels by people say of rows and of filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import polars as pl

    from qdcgen.intervals import Interval
    from qdcgen.parts import Sample
    from qdcgen.worth import Estimate, Stratum

COMPARING = ("duplicates", "contamination", "complexity")
"""Filters that compare rows with others: a row that they drop may be good by itself."""


class _Told(NamedTuple):
    """One row on which people agree."""

    stratum: str
    good: bool
    drawn: Mapping[str, Any]
    score: float | None


class Labelled(Metric):
    """Share of good rows among the accepted and among all made, and what each filter is worth, by labels of people.

    Labels come from `qdcgen label`; where several people labelled a row most of them decide, and a tie decides nothing.
    Shares are given twice: by the labels alone (their weighted mean, Wilson interval), and corrected, where verdicts
    and, inside the accepted rows, the score of the last graded critic say the rest (prediction-powered, λ tuned). For
    each filter, over the rows that it saw: how often its no and its yes are right, the share of bad rows that it
    caught, and the gap: accuracy among what it kept less accuracy among what came in; `gap closed` is that as a share
    of what there was to gain. Where its interval holds 0 and is narrow (0.15 to either side), the filter has no
    measurable value; where it is wide, labels are too few to tell. A row on which a critic was undecided
    counts as one that it said no to. n are the labelled rows that a figure is a share of. Rows that every filter kept
    and that are not needed (surplus) count with the accepted ones. Nothing is printed without labels.

    Sources: generation-verification gap, arXiv 2412.02674; prediction-powered inference with a tuned λ, arXiv
    2311.01453, by strata, arXiv 2406.04291. Intervals come from Beta posteriors of the strata, seeded.

    What makes it lie: people who err. An error rate of 5 % among them caps every figure near 0.95, and makes a good
    filter look worse. Labels that people chose to give, not drawn by `qdcgen label`, are taken as drawn at random from
    the rows of the same fate. Rows made after the draw are taken to be like those before. Of filters that compare rows
    with each other (duplicates, contamination) labels of single rows say nothing, so they have no figures.
    """

    table: ClassVar[str] = "quality"
    gates: ClassVar[tuple[str, ...]] = (
        "good_among_accepted",
        "good_among_accepted_corrected",
        "good_among_made",
        "good_among_made_corrected",
        "kappa_of_people",
        "right_when_no",
        "right_when_yes",
        "bad_rows_caught",
        "gap",
        "gap_closed",
    )

    def measure(self, sample: Sample) -> list[Measure]:
        """Shares of good rows, agreement of people, and five figures for each filter."""
        history = sample.attempts
        if sample.of == "anchor" or history is None or "_said" not in history.columns or history.is_empty():
            return []
        return [*_shares(history, sample.seed), *_filters(history, sample.filters, sample.seed)]


def _shares(history: pl.DataFrame, seed: int) -> Iterator[Measure]:
    import polars as pl

    from qdcgen.worth import corrected, kappa, plain

    rows, tied = _told(history)
    strata = _strata(history, rows)
    accepted = [one for one in strata if not one.name]
    lost = int(history["_lost"][0])
    surplus = history.filter(pl.col("_state") == "surplus").height if "_state" in history.columns else 0
    asides = [f"{tied} rows on which people are split are left out"] if tied else []
    asides += [f"{lost} labels of rows that are gone or say something else are not counted"] if lost else []
    unlabelled = [f"rejected by {one.name}" if one.name else "accepted" for one in strata if not one.labels]
    for name, of in (("accepted", accepted), ("made", strata)):
        n = sum(one.labels for one in of)
        if not n:
            why = f"too few: no row {'that was accepted ' if name == 'accepted' else ''}is labelled"
            yield _measure(f"good among {name}", (None, None), 0, "; ".join([why, *asides]))
            continue
        count = sum(one.rows for one in of)
        beside = f", {surplus:,} of them surplus" if surplus and name == "accepted" else ""
        note = [f"by labels of people alone on {n:,} of {count:,} rows{beside}", *asides]
        yield _measure(f"good among {name}", plain(of), n, "; ".join(note))
        scored = any(one.score is not None for one in of)
        if name == "made" or scored:
            by = "verdicts" if name == "made" else ""
            said = f"prediction-powered, by {' and '.join(filter(None, [by, 'scores of a critic' if scored else '']))}"
            missing = f"; no labels yet of rows {' or '.join(unlabelled)}, taken as ½" if unlabelled else ""
            yield _measure(f"good among {name}, corrected", corrected(of, seed), n, said + missing)
    said_of = [
        [(one["by"], one["good"]) for one in of] for of in history["_said"].drop_nulls().to_list() if len(of) > 1
    ]
    if said_of:
        estimate, n, told = kappa(said_of, seed)
        yield _measure("kappa of people", estimate, n, told, bounds=(-1.0, 1.0))


def _filters(history: pl.DataFrame, filters: Sequence[str], seed: int) -> Iterator[Measure]:
    import math

    from qdcgen.worth import CLOSED, worth

    rows, _ = _told(history)
    for one in worth(_strata(history, rows), filters, seed):
        if one.filter.startswith(COMPARING):
            note = "it compares rows with each other, of which labels of single rows say nothing"
            yield _measure(CLOSED, (None, None), one.labels, note, axis=one.filter)
            continue
        if one.right_when_no[0] is None:
            yield _measure(CLOSED, (None, None), one.labels, one.note, axis=one.filter)
            continue
        figures = (
            ("right when no", one.right_when_no, one.said_no, (0.0, 1.0)),
            ("right when yes", one.right_when_yes, one.labels - one.said_no, (0.0, 1.0)),
            ("bad rows caught", one.caught, one.bad, (0.0, 1.0)),
            ("gap", one.gap, one.labels, (-1.0, 1.0)),
        )
        for name, estimate, n, bounds in figures:
            why = "" if estimate[0] is not None else one.note.partition(": ")[2]
            yield _measure(name, estimate, n, why, axis=one.filter, bounds=bounds)
        yield _measure(CLOSED, one.closed, one.labels, one.note, axis=one.filter, bounds=(-math.inf, 1.0))


def _measure(
    name: str, estimate: Estimate, n: int, note: str, *, axis: str = "", bounds: Interval = (0.0, 1.0)
) -> Measure:
    value, between = estimate
    return Measure("quality", name, value, range=bounds, n=n, interval=between, of="raw", axis=axis, note=note)


def _told(history: pl.DataFrame) -> tuple[list[_Told], int]:
    """The rows on which most people agree, and how many there are on which they are split."""
    import polars as pl

    found, tied = [], 0
    columns = history.filter(pl.col("_said").is_not_null()).select("_stratum", "_said", "_drawn", "_score")
    for stratum, said, drawn, score in columns.iter_rows():
        good = sum(one["good"] for one in said)
        if 2 * good == len(said):
            tied += 1
        else:
            found.append(_Told(stratum, 2 * good > len(said), drawn, score))
    return found, tied


def _strata(history: pl.DataFrame, rows: Sequence[_Told]) -> list[Stratum]:
    """The labelled rows in the strata of now, each with how many rows it stands for."""
    import numpy as np
    import polars as pl

    from qdcgen.worth import Stratum

    weights = _weights(rows)
    by: dict[str, list[int]] = {}
    for place, one in enumerate(rows):
        by.setdefault(one.stratum, []).append(place)
    sizes = (
        history.filter(pl.col("_stratum").is_not_null())
        .group_by("_stratum", maintain_order=True)
        .agg(pl.len(), pl.col("_score").null_count().alias("without"), pl.col("_score").mean().alias("mean"))
    )
    found = []
    for name, count, without, mean in sizes.iter_rows():
        places = by.get(name, [])
        scores = None if without else np.array([rows[place].score for place in places], dtype=np.float64)
        good = np.array([rows[place].good for place in places], dtype=np.float64)
        weight = np.array([weights[place] for place in places], dtype=np.float64)
        found.append(Stratum(name, count, good, weight, scores, mean or 0.0))
    return found


def _weights(rows: Sequence[_Told]) -> list[float]:
    """How many rows each labelled one was drawn for: rows over labels of its stratum, under the filters of then.

    Labels given under other filters are a sample of their own: its weights are brought to a mean of 1.
    """
    labels: dict[tuple[str, str], int] = {}
    sizes: dict[tuple[str, str], int] = {}
    for one in rows:
        key = (one.drawn["judges"], one.drawn["stratum"])
        labels[key] = labels.get(key, 0) + 1
        sizes[key] = max(sizes.get(key, 0), one.drawn["of"])
    means = {
        judges: sum(size for key, size in sizes.items() if key[0] == judges)
        / sum(count for key, count in labels.items() if key[0] == judges)
        for judges, _ in labels
    }
    keys = ((one.drawn["judges"], one.drawn["stratum"]) for one in rows)
    return [sizes[key] / labels[key] / means[key[0]] for key in keys]
