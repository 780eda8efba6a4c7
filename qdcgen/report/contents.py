"""What a report says, before it is text: the title, the facts, the measures, the ledger, the gates, the remarks.

Everything here is filled by whoever counted; the builders beside this file only set it in type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qdcgen.rows import Measure

__all__ = ["Calls", "Confusion", "GateResult", "LedgerLine", "Report"]


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
    """Of those: filter → rows it said no to, in the order of the filters. Duplicates are not here."""
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
