"""Metric `landed`: whether texts are about what was asked for, as a reader says that does not see the request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from qdcgen.intervals import FEW, wilson
from qdcgen.landing import agreement, levels
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qdcgen.landing import Landing, Level
    from qdcgen.parts import Sample


class Landed(Metric):
    """Share of rows that a blind reader places where they were asked to be, Cohen's κ, and the share placed nowhere.

    For each taxonomy, over the leaves and over each level above them. The reader is the model under `measure.landing`,
    or the recipe's embedder: see qdcgen/landing.py for how it reads. A row placed nowhere has not landed. Wilson
    intervals; κ (Cohen 1960) with the analytic interval of Fleiss, Cohen and Everitt 1969. Control: the same figure
    with the requests shuffled over the texts, in expectation, exactly; for κ that is 0. On rows whose labels people
    gave (an anchor with `labels:`, or `report --label`) the same figures say how good the reader is, and are called so.
    For everything made (`raw`) only the leaves are given, and only where filters dropped some of it.

    In a report these figures stand below the table of coverage, as the agreement of asked and landed.

    What makes it lie: the reader. It errs, so the share is below what a person would find where its errors are spread,
    and it cannot tell apart nodes whose names it cannot tell apart: read it beside the reader's own accuracy. A run
    that is filtered by the same reader (`landed`) agrees with it by construction; then only `raw` says something.
    """

    table: ClassVar[str] = "coverage"
    gates: ClassVar[tuple[str, ...]] = ("landed", "kappa", "placed_nowhere")

    def measure(self, sample: Sample) -> list[Measure]:
        """Per taxonomy: the share and κ over leaves and levels, and the share placed nowhere."""
        if sample.of == "raw" and len(sample.texts) == _kept(sample):
            return []
        return [
            one
            for axis, tree in sample.taxonomies.items()
            if (landing := sample.landing(axis)) is not None
            for level in levels(tree)[: 1 if sample.of == "raw" else None]
            for one in _figures(sample, axis, landing, level)
        ]


def _kept(sample: Sample) -> int:
    """How many candidates were accepted; -1 where that is not known."""
    if sample.attempts is None or "_kept" not in sample.attempts.columns:
        return -1
    return int(sample.attempts["_kept"].sum())


def _figures(sample: Sample, axis: str, landing: Landing, level: Level) -> Iterator[Measure]:
    found = agreement(landing, level)
    n, enough = found.n, found.n >= FEW
    share, kappa = ("reader accuracy", "reader kappa") if landing.known else ("landed", "kappa")
    at = "" if level.name == "leaves" else f" at {level.name}"
    note = f"read blind by {landing.reader}, over {level.nodes} {'nodes' if at else 'leaves'}"
    note += ", on rows whose labels people gave" if landing.known else ""
    told = note if enough else f"too few: {n} rows, needs {FEW}"
    blank = Measure("coverage", share + at, None, n=n, of=sample.of, axis=axis, note=told)
    shuffled = "shuffled labels" if landing.known else "shuffled requests"
    hits = replace(
        blank, value=found.hits / max(n, 1), interval=wilson(found.hits, n), control=found.chance, control_of=shuffled
    )
    yield hits if enough else blank
    blank = replace(blank, name=kappa + at, range=(-1.0, 1.0))
    if enough and found.kappa is None:
        blank = replace(blank, note=f"{note}; all were asked for one node and landed there: nothing to tell apart")
    elif enough:
        blank = replace(blank, value=found.kappa, interval=found.interval, control=0.0, control_of=shuffled)
    yield blank
    if level.name == "leaves" and sample.of != "raw":
        blank = Measure("coverage", "placed nowhere", None, n=n, of=sample.of, axis=axis, note=told)
        nowhere = replace(blank, value=found.nowhere / max(n, 1), interval=wilson(found.nowhere, n))
        yield nowhere if enough else blank
