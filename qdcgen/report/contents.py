"""What a report says, before it is text: the title, the facts, the measures, the ledger, the gates, the remarks.

Everything here is filled by whoever counted; the builders beside this file only set it in type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qdcgen.rows import Measure

__all__ = [
    "ASIDE",
    "Attrition",
    "Calls",
    "Change",
    "Confusion",
    "Curve",
    "GateResult",
    "LedgerLine",
    "Loss",
    "ModelCalls",
    "Point",
    "Report",
    "Sieve",
    "Skew",
]

ASIDE = ("surplus", "retired")
"""What may stand among the filters of `LedgerLine.rejected` and is none: good rows beyond what was asked for, and rows
whose region the recipe no longer has."""


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """What became of the rows of one node, or of the whole run. All counts are rows, ≥ 0."""

    axis: str
    """The taxonomy that the node is of. Empty: this line is the whole run."""
    node: str
    """The node's path, e.g. `cards/lost`. Empty on the line of the whole run."""
    planned: int
    """Rows that are wanted accepted."""
    attempted: int
    """Rows that were begun, over all rounds."""
    failed: int
    """Of those: ended by an error or by a reply that did not fit."""
    refused: int
    """Of those: the model declined to write them."""
    rejected: Mapping[str, int]
    """Of those: filter → rows it said no to, in the order of the filters, and what `ASIDE` names. No duplicates."""
    duplicate: int
    """Of those: said too nearly what an accepted row says."""
    accepted: int
    """Of those: in `data/`."""
    owed: int
    """Rows still to be accepted: 0 in a finished run."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """One bound of the recipe and whether it holds."""

    table: str
    """coverage, diversity, complexity or quality."""
    measure: str
    """The measure's name as the recipe writes it."""
    bound: str
    """The bound as the recipe writes it: `>= 0.98`, `0.2..0.4`."""
    value: float | None
    """The figure held against it. None: it could not be computed, so the gate does not hold."""
    holds: bool
    file: str
    """The recipe that sets the bound."""
    line: int
    """Its line there, from 1; 0 means unknown."""
    message: str
    """Why it is broken and what to do, in words; may be empty where it holds."""


@dataclass(frozen=True, slots=True)
class ModelCalls:
    """What one model was asked over all invocations."""

    model: str
    """Its name; empty: replies that were pruned from the journal, whose model is not known."""
    replies: int
    tokens_in: int
    tokens_out: int
    usd: float | None
    """US dollars; None as soon as one price is unknown."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What the models were asked over all invocations."""

    replies: int
    """Replies that came, usable or not; each was paid for."""
    tokens_in: int
    tokens_out: int
    usd: float | None
    """US dollars; None as soon as one price is unknown, which is not 0."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """Kind → tries or replies that failed: HTTP status, `timeout`, `reset`, `not JSON`, `schema`, `cut`, …"""
    models: Sequence[ModelCalls] = ()
    """The same, model by model."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rows of one population that were asked for one node and landed in another."""

    axis: str
    of: str
    """The population: `kept`, `anchor`, `rows`."""
    asked: str
    """Path of the node that was asked for, or that people gave as the label."""
    landed: str
    """Path of the leaf where a blind reader places them; empty: nowhere."""
    rows: int
    total: int
    """All rows that were asked for it."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one threshold of a graded filter keeps."""

    threshold: float | None
    """None: one that every score reaches."""
    now: bool
    """Whether it is the recipe's own."""
    kept: int
    """Rows with a score that it keeps."""
    measures: Sequence[Measure]
    """Of these rows: the same figures in the same order at every threshold. A control is the figure of as many rows
    drawn at random; the note says where the value lies beyond what that gives."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What each threshold of one graded filter would keep, cover and vary."""

    filter: str
    keeps: str
    """`above`: scores from the threshold on; `below`: those below it."""
    threshold: float
    """The recipe's."""
    scored: int
    """Rows with a score."""
    undecided: int
    """Rows that it saw and gave none."""
    dropped: Mapping[str, int]
    """Filters before it → rows that they dropped."""
    equal_n: int | None
    """Texts that figures which depend on size are taken at; None where no threshold keeps enough."""
    points: Sequence[Point]
    """The laxest threshold first."""
    remarks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What one filter does to one figure of the rows: of those that went out, less that of those that came in."""

    table: str
    """diversity or complexity."""
    name: str
    came: float | None
    """The figure of the rows that came in, None where it could not be taken."""
    change: float | None
    interval: tuple[float, float] | None = None
    """Of the change, at 95 %; None where nothing was turned down, or too few for one."""
    at: int = 0
    """Rows that a figure which depends on size is taken at, in and out alike; 0: it does not."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Leaves of one taxonomy, or pairs of leaves of two, that came to a filter with rows and left it with none."""

    axis: str
    """`topic`, or `topic × tone`."""
    pairs: bool
    lost: int
    of: int
    """How many came in."""
    chance: float
    """How many turning down as many rows at random would lose, on average."""
    p: float
    """How often it would lose as many, adjusted for all tests of the report."""
    names: Sequence[str]
    """The first of them, those with most rows first."""
    rows: int
    """Rows that the lost ones came in with."""


@dataclass(frozen=True, slots=True)
class Skew:
    """A value that a filter turns down more often than the others of its axis."""

    axis: str
    value: str
    n: int
    """Rows with this value that came in."""
    rejected: int
    interval: tuple[float, float]
    """Of rejected/n, at 95 %."""
    others: int
    """Rows with another value that came in."""
    others_rejected: int
    ratio: float | None
    """Of the two shares; None where no other row was turned down."""
    ratio_interval: tuple[float, float] | None
    p: float
    """Adjusted for all tests of the report."""


@dataclass(frozen=True, slots=True)
class Sieve:
    """One filter, and what it does to the rows that reach it."""

    name: str
    came: int
    """Rows that came in."""
    went: int
    """Rows that went out: those it kept."""
    undecided: int
    """Of those turned down: a critic gave no verdict on them."""
    losses: Sequence[Loss] = ()
    changes: Sequence[Change] = ()
    skews: Sequence[Skew] = ()
    """Only those that chance does not give, the surest first."""


@dataclass(frozen=True, slots=True)
class Attrition:
    """What each filter takes away, in the order in which they see rows."""

    made: int
    """Candidates that were made, those of regions that left the recipe not counted."""
    whole: int
    """Of those: neither failed nor refused."""
    unjudged: int
    """Of those: not judged yet, and in no line below."""
    sieves: Sequence[Sieve]
    tests: int
    """Tests that every p here is adjusted for (Holm)."""
    embedder: str


@dataclass(frozen=True)
class Report:
    """Everything a reader is told about one run or one file."""

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    """Shown at the top in this order: `run`, `recipe`, `model`, `embedder`, versions, honest remarks on them. The fact
    `run` is also what the report tells the reader to type for more."""
    measures: Sequence[Measure] = ()
    """In the order to be shown. Measures that differ only in `of` stand side by side in one line."""
    ledger: Sequence[LedgerLine] = ()
    """The whole run first (empty axis), then nodes, in file order."""
    gates: Sequence[GateResult] = ()
    remarks: Sequence[str] = ()
    """Sentences for the end: what the figures cannot say, what to type next."""
    calls: Calls | None = None
    confused: Sequence[Confusion] = ()
    """The pairs of nodes that are most often confused, the most frequent first; population by population."""
    attrition: Attrition | None = None
    """None where nothing is filtered, and for data from elsewhere."""
    curve: Curve | None = None
    """Of one filter, in a report of that alone."""
