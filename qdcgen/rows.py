"""The words of the line: Node, Taxonomy, Cell, Draft, Row, Verdict, Reply, Measure, and the Parquet columns.

Everything here is a small record without behaviour beyond its own fields. The record that travels the whole line is
the Draft, which ends as a Row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "COLUMNS",
    "Cell",
    "Column",
    "Draft",
    "Measure",
    "Message",
    "Node",
    "Reply",
    "Request",
    "Row",
    "Taxonomy",
    "Verdict",
    "mix_key",
    "mix_of",
    "row_id",
    "stream",
]

Message = dict[str, str]
"""One chat message: `{"role": "system" | "user" | "assistant", "content": …}`."""


# ── axes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a taxonomy.

    `id` is what rows are named by: the table's own id, or the slash path of labels for an inline tree. `path` is
    always the slash path of labels from the root, e.g. `cards/lost`, and is what patterns such as `cards/*` match.
    `weight` (≥ 0) multiplies the share of every leaf at or below the node.
    """

    id: str
    label: str
    path: str
    depth: int
    parent: str | None = None
    text: str = ""
    weight: float = 1.0
    where: str = ""
    """`file:line` that declared it, for messages."""

    def __str__(self) -> str:
        """The label: what `{{ topic }}` prints in a prompt."""
        return self.label


@dataclass(frozen=True)
class Taxonomy:
    """A tree (or forest) of nodes, in the order of the file: global coverage."""

    name: str
    nodes: tuple[Node, ...]

    @cached_property
    def by_id(self) -> Mapping[str, Node]:
        """Node id → node."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def children(self) -> Mapping[str | None, tuple[Node, ...]]:
        """Parent id (None for the roots) → its children, in file order."""
        found: dict[str | None, list[Node]] = {}
        for node in self.nodes:
            found.setdefault(node.parent, []).append(node)
        return {parent: tuple(nodes) for parent, nodes in found.items()}

    @cached_property
    def leaves(self) -> tuple[Node, ...]:
        """Nodes without children, in file order: what rows are planned over."""
        return tuple(node for node in self.nodes if node.id not in self.children)

    @cached_property
    def depth(self) -> int:
        """Levels in the tree; a flat list has 1, an empty taxonomy 0."""
        return 1 + max((node.depth for node in self.nodes), default=-1)

    @cached_property
    def digest(self) -> str:
        """16 hex digits that stand for all nodes: ids, places, labels, definitions and weights."""
        told = "\n".join(f"{n.id}\t{n.parent}\t{n.label}\t{n.text}\t{n.weight}" for n in self.nodes)
        return sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def line(self, node_id: str) -> Iterator[Node]:
        """The node itself, then its ancestors up to the root."""
        node: Node | None = self.by_id[node_id]
        while node is not None:
            yield node
            node = self.by_id[node.parent] if node.parent is not None else None


# ── the line ────────────────────────────────────────────────────────────────────────────────────────────────────────


def row_id(seed: int, mix: Mapping[str, str], replicate: int) -> str:
    """First 16 hex digits of SHA-256 over recipe seed, sorted axis=node pairs and replicate number.

    Every part is length-prefixed, so no choice of axis or node names can make two different mixes collide by
    concatenation.
    """
    words = [str(seed), str(replicate)]
    for axis in sorted(mix):
        words += [axis, mix[axis]]
    return sha256("".join(f"{len(word)}:{word}" for word in words).encode()).hexdigest()[:16]


def mix_key(mix: Mapping[str, str]) -> str:
    """A mix as one word, `axis=node;axis=node` by axis; `%`, `;` and `=` of a name are percent-escaped."""
    return ";".join(f"{_escaped(axis)}={_escaped(mix[axis])}" for axis in sorted(mix))


def mix_of(key: str) -> dict[str, str]:
    """The mix that `mix_key` wrote."""
    pairs = (pair.split("=", 1) for pair in key.split(";")) if key else ()
    return {_plain(axis): _plain(node) for axis, node in pairs}


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace(";", "%3B").replace("=", "%3D")


def _plain(word: str) -> str:
    return word.replace("%3D", "=").replace("%3B", ";").replace("%25", "%")


def stream(row: str, name: str) -> int:
    """Seed (64 bits) of the random stream that one axis or step of one row draws from.

    Streams are keyed by name, so adding an axis or a step shifts no other.
    """
    return int.from_bytes(sha256(f"{row}/{name}".encode()).digest()[:8], "big")


@dataclass(frozen=True, slots=True)
class Cell:
    """Everything one row was asked to be.

    `mix`: taxonomy axis → node id, the region. `values`: layer axis → drawn value. `replicate` counts the rows of
    one mix from 0; `slot` is the planned row (of round 0) that this row is to fill: refills of a slot share it.
    """

    id: str
    mix: Mapping[str, str]
    replicate: int
    slot: int
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Draft:
    """A row being made: its cell, the fields so far, what its steps recorded and what its calls used."""

    cell: Cell
    names: Mapping[str, Any]
    """What a template may name: axis → Node or layer value."""
    fields: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    """What steps recorded about themselves, by step name; lands in the `_notes` column as JSON."""
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0
    """US dollars so far; None as soon as one call's price is unknown."""
    models: set[str] = field(default_factory=set)
    round: int = 0
    """The round that makes it; rounds after 0 are refills."""
    generation: int = 1
    """1: made from no rows; g+1: made from rows of generation g."""
    whole: bool = False
    """A step set it because every field is filled: the steps after it that make rows are passed over."""
    steps: list[tuple[str, int, int, int]] = field(default_factory=list)
    """Steps taken so far: name, calls, prompt tokens, reply tokens."""


@dataclass(frozen=True, slots=True)
class Row:
    """A finished draft. `fault` is None, or the kind of what went wrong; then `reason` says it in words."""

    cell: Cell
    fields: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0
    models: tuple[str, ...] = ()
    fault: str | None = None
    reason: str | None = None
    generation: int = 1
    steps: tuple[tuple[str, int, int, int], ...] = ()
    """Steps taken: name, calls, prompt tokens, reply tokens."""

    @property
    def id(self) -> str:
        """16 hex digits; see `row_id`."""
        return self.cell.id


@dataclass(frozen=True, slots=True)
class Verdict:
    """One filter's word on one row. A "no" always carries its reason; `score` is the figure compared, if any."""

    kept: bool
    reason: str = ""
    score: float | None = None


# ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Request:
    """One question for a model. Equal requests have equal replies: its digest is the journal's key.

    `schema`: JSON Schema that the reply must satisfy, or None for free text. `seed` (0 … 2³¹-1) comes from the row's
    own stream, so two rows never share a reply by accident.
    """

    model: str
    messages: Sequence[Message]
    schema: Mapping[str, Any] | None
    temperature: float
    top_p: float
    max_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered. `parsed` is the checked JSON value when the request had a schema, else None."""

    text: str
    model: str
    parsed: Any = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    """US dollars; None means the price is not known, which is not 0."""
    finish: str = "stop"
    """`stop`, `length` (cut at max_tokens), or the provider's own word."""
    seconds: float = 0.0
    journaled: bool = False
    """True when this reply was read from the journal, not asked."""


# ── measures ────────────────────────────────────────────────────────────────────────────────────────────────────────

Table = Literal["coverage", "diversity", "complexity", "quality"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that can be defended: what it counts, over how many, how sure, and beside what.

    `value` None means it cannot be computed honestly here; `note` then says why ("too few: 3 texts, needs 20").
    `interval` is a 95 % interval, None only where the figure is an exact count of everything there is.
    `control` is the same figure on the reference that `control_of` names (uniform drawing, shuffled rows, real rows).
    `of` names the population: `raw` (all made), `kept` (accepted), `planned`, `anchor`, or a file.
    """

    table: Table
    name: str
    value: float | None
    unit: str = ""
    range: tuple[float, float] = (0.0, 1.0)
    n: int = 0
    interval: tuple[float, float] | None = None
    control: float | None = None
    control_of: str = ""
    of: str = "kept"
    axis: str = ""
    """The taxonomy, level or field that it speaks of; empty for the whole."""
    embedder: str = ""
    note: str = ""
    missing: tuple[str, ...] = ()
    """Names that the figure lacks, e.g. uncovered nodes, in file order."""


# ── columns ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `data/` and `rejected/`: the contract with whoever loads the files."""

    name: str
    type: str
    unit: str
    range: str
    writer: str
    text: str


COLUMNS: tuple[Column, ...] = (
    Column("<field>", "per schema", "–", "per schema", "steps", "One column per field that the steps fill."),
    Column("<axis>", "String", "–", "a node's path or a layer's value", "plan", "What the row was asked to be."),
    Column("_id", "String", "–", "16 hex digits", "plan", "The row's name; stable across reruns and larger targets."),
    Column("_mix", "String", "–", "axis=node;…", "plan", "The region: sorted axis=node-id pairs."),
    Column("_replicate", "Int64", "–", "0 …", "plan", "Which row of its mix this is."),
    Column("_slot", "Int64", "–", "0 …", "plan", "The planned row that this one fills; refills share it."),
    Column("_round", "Int64", "–", "0 …", "plan", "The round that made it; rounds after 0 are refills."),
    Column("_generation", "Int64", "–", "0 …", "generate", "1: made from no rows; g+1: seeded by rows of g."),
    Column(
        "_weight", "Float64", "λ", "0 … 1, null = unknown", "trust", "Weight the row has earned; null until measured."
    ),
    Column(
        "_complexity",
        "String",
        "–",
        "null = not asked",
        "generate",
        "The difficulty, or the band of difficulty, that the row was asked to have.",
    ),
    Column(
        "_labels",
        "List(Struct)",
        "–",
        "field, drawn, read; null = not read",
        "steps",
        "Labels that a blind reader decided again (step `correct`): as drawn, and as read.",
    ),
    Column("_calls", "Int64", "calls", "0 …", "generate", "Model calls that the row took."),
    Column("_tokens_in", "Int64", "tokens", "0 …", "generate", "Prompt tokens over those calls."),
    Column("_tokens_out", "Int64", "tokens", "0 …", "generate", "Reply tokens over those calls."),
    Column("_usd", "Float64", "US dollars", "0 …, null = unknown", "generate", "Cost of those calls."),
    Column("_models", "String", "–", "comma-separated", "generate", "Models that answered."),
    Column("_notes", "String", "–", "JSON", "steps", "What each step recorded about this row."),
    Column(
        "_steps",
        "List(Struct)",
        "–",
        "step, calls, tokens_in, tokens_out",
        "generate",
        "The steps that the row took, in order, with what each asked for.",
    ),
    Column("_filter", "String", "–", "rejected/ only", "judge", "Who said no: a filter's name, `fault` or `surplus`."),
    Column("_reason", "String", "–", "rejected/ only", "judge", "Why, in words."),
)
