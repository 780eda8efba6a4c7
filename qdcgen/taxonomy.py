"""Taxonomies, the words: trees written in the recipe; weights, shares and patterns over the nodes.

Files are read by `qdcgen.taxonomy_files`, which plants its trees here.

Ids. A node of a tree is named by the slash path of labels, in which a literal `/` of a label is written `%2F` (and a
literal `%2F` or `%25` is written `%252F` or `%2525`), so that two nodes never share an id. Labels are text and nothing
else: `../x` is a label, never a path on disk.

Shares. Every leaf has the same share of the rows; a weight multiplies the share of its leaf, or of every leaf below its
inner node (see `shares`). Quotas give sub-trees a share of their own, and a minimum lifts the smallest leaves (see
`apportioned`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen.errors import Fault, RecipeError, nearest
from qdcgen.rows import Node, Taxonomy
from qdcgen.strict_yaml import Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "MAX_DEPTH",
    "MAX_FAULTS",
    "MAX_LETTERS",
    "MAX_NODES",
    "TEXTS",
    "Apportioned",
    "Band",
    "FileFaults",
    "apportioned",
    "covers",
    "escaped",
    "inline",
    "match",
    "matching",
    "plant",
    "shares",
    "weight_of",
    "weighted",
    "word",
]

MAX_NODES = 2_000_000
"""A tree with more nodes is refused; the largest public code table we know, SNOMED CT, has 360,000."""
MAX_DEPTH = 64
"""More levels are refused; WordNet's deepest noun has 20."""
MAX_LETTERS = 256 * 2**20
"""Letters of all paths together; 360,000 nodes of SNOMED CT take a tenth of it."""
MAX_FAULTS = 20
"""Faults listed per file; the rest is counted."""
_HELD = 10_000
"""Faults held before sorting: 2,000,000 bad rows must not cost a gigabyte of messages."""
TEXTS = ("definition", "description", "gloss", "text", "scope_note")
"""Usual names of a node's definition, in a table or an object."""


class FileFaults:
    """Faults of one file, told all at once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.listed: list[Fault] = []
        self.more = 0
        self.letters = 0

    def spell(self, path: str) -> str:
        """The path, counted: a label of 3 MB above 1,000 nodes would make paths of 3 GB.

        Raises:
            RecipeError: the paths of this file together pass MAX_LETTERS.
        """
        self.letters += len(path)
        if self.letters > MAX_LETTERS:
            message = f"labels so long that paths pass {MAX_LETTERS:,} letters"
            raise self.stop(f"{message}; shorten them, and put what explains a node in its text")
        return path

    def add(self, message: str, line: int = 0, column: int = 0) -> None:
        """Keep a fault, or count it where too many are held."""
        message = message.removeprefix(f"line {line}: ")  # the fault's own place says so already
        if len(self.listed) < _HELD:
            self.listed.append(Fault(self.file, line, column, message))
        else:
            self.more += 1

    def stop(self, message: str, line: int = 0, column: int = 0) -> RecipeError:
        """The error to raise when reading cannot go on after this fault."""
        self.add(message, line, column)
        return self.error()

    def error(self) -> RecipeError:
        """The first faults in file order, and how many more there are."""
        listed = RecipeError(self.listed).faults
        more = self.more + len(listed[MAX_FAULTS:])
        listed = listed[:MAX_FAULTS]
        if more:
            listed.append(replace(listed[-1], message=f"\N{HORIZONTAL ELLIPSIS} and {more:,} more faults in this file"))
        return RecipeError(listed)

    def check(self, since: int = 0) -> None:
        """Raises RecipeError when anything was added (after the first `since` faults)."""
        if len(self.listed) > since:
            raise self.error()


# ── trees ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def inline(name: str, tree: Any, where: str) -> Taxonomy:
    """The taxonomy written as nested mappings, lists and names, e.g. `{cards: [lost, pin], transfers: {pending: }}`.

    `where` is `file` or `file:line`, for messages. Numbers and booleans count as labels; None, an empty string, list or
    mapping below a label makes it a leaf.

    Raises:
        RecipeError: an empty or duplicate label, a label that is a list or mapping, no node at all, too deep or large.
    """
    file, line = _place(where)
    faults = FileFaults(file)
    nodes = plant(tree, faults, line, objects=False)
    faults.check()
    return Taxonomy(name, tuple(nodes))


def _place(where: str) -> tuple[str, int]:
    """`file:12` or `file:12:5` → file, 12; anything else → itself, 0."""
    found = re.match(r"(.+?):(\d+)(?::\d+)?\Z", where, re.DOTALL)
    return (found[1], int(found[2])) if found else (where, 0)


def escaped(label: str) -> str:
    """The label as one segment of a slash path; injective."""
    if "/" not in label and "%2" not in label:
        return label
    return label.replace("%25", "%2525").replace("%2F", "%252F").replace("/", "%2F")


def plant(tree: Any, faults: FileFaults, line: int, *, objects: bool) -> list[Node]:
    """Nodes of a nested tree in the order written. `objects`: `{name: …, children: […]}` is one node, as D3 has it."""
    nodes: list[Node] = []
    _grow(tree, None, nodes, faults, line, objects)
    if not nodes and not faults.listed:
        faults.add("an empty tree; expected names, e.g. {cards: [lost, pin], transfers: [pending]}", line)
    return nodes


def _grow(
    tree: Any,
    above: Node | None,
    nodes: list[Node],
    faults: FileFaults,
    line: int,
    objects: bool,  # noqa: FBT001 - private
) -> None:
    """Append the nodes below `above`; recursion is at most MAX_DEPTH deep."""
    depth = above.depth + 1 if above else 0
    under = f" under {above.path!r}" if above else ""
    seen: dict[str, int] = {}
    for said, below, extra in _entries(tree, objects):
        at, column = (said.line, said.column) if isinstance(said, Word) else (line, 0)
        if isinstance(said, (dict, list)) or said is None:
            kind = "nothing" if said is None else "a mapping" if isinstance(said, dict) else "a list"
            faults.add(f"{kind}{under} where a name belongs; write names, or name: [names]", at, column)
            continue
        label = ("true" if said else "false") if isinstance(said, bool) else str(said)
        if not label.strip():
            faults.add(f"an empty name{under}; give the node a name, or take it out", at, column)
            continue
        if label in seen:
            first = f" (first on line {seen[label]})" if seen[label] and seen[label] != at else ""
            faults.add(f"{label!r} stands twice{under}{first}; rename or remove one", at, column)
            continue
        seen[label] = at
        if depth >= MAX_DEPTH:
            faults.add(f"{label!r} lies more than {MAX_DEPTH} levels deep; flatten the tree", at, column)
            continue
        if len(nodes) >= MAX_NODES:
            raise faults.stop(f"more than {MAX_NODES:,} nodes; use fewer, or take a part with root:", at, column)
        path = faults.spell(f"{above.path}/{escaped(label)}" if above else escaped(label))
        node = Node(
            id=path,
            label=str(label),
            path=path,
            depth=depth,
            parent=above.id if above else None,
            text=word(extra.get("text") or extra.get("definition") or extra.get("description")),
            weight=weight_of(extra["weight"], f"{path!r}", faults, at) if extra.get("weight") is not None else 1.0,
            where=f"{faults.file}:{at}" if at else faults.file,
        )
        nodes.append(node)
        if isinstance(below, (int, float)):  # what `choice` takes, and a tree would read as a node called 3
            said_so = f"{path!r}: found {word(below)} where the nodes below it belong"
            faults.add(f"{said_so}; weights go under weights: {{{path}: {word(below)}}}", at, column)
        elif below is not None and below != "":
            _grow(below, node, nodes, faults, at, objects)


def _entries(tree: Any, objects: bool) -> Iterator[tuple[Any, Any, Mapping[str, Any]]]:  # noqa: FBT001 - private
    """(label, what is below it, what else was said of it) of each node at the top of `tree`."""
    if objects and (label := _object_label(tree)) is not None:
        yield label, tree.get("children"), tree
    elif isinstance(tree, dict):
        for label, below in tree.items():
            yield label, below, {}
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            if isinstance(item, dict) and item:
                yield from _entries(item, objects)
            else:
                yield item, None, {}
    elif tree is not None:
        yield tree, None, {}


def _object_label(tree: Any) -> Any:
    """The label of a node written as an object with children, or None where `tree` is no such object."""
    if not isinstance(tree, dict):
        return None
    named = next((tree[key] for key in ("label", "name", "title") if isinstance(tree.get(key), str)), None)
    if named is None or set(tree) - {"label", "name", "title", "children", *TEXTS, "weight", "id", "size", "value"}:
        return None
    return named if isinstance(tree.get("children", []), list) and ("children" in tree or len(tree) > 1) else None


def word(value: Any) -> str:
    """A cell as text: None is empty, a list is joined by `|`, a language map gives English or its first language."""
    if value is None:
        return ""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, dict):
        value = value.get("@id") or value.get("@value") or _english(value)
        return word(value)
    if isinstance(value, (list, tuple)):
        return "|".join(word(item) for item in value)
    return str(value)


def _english(value: Mapping[str, Any]) -> Any:
    return next(
        (said for key, said in value.items() if str(key).lower().startswith("en")), next(iter(value.values()), "")
    )


def weight_of(value: Any, whose: str, faults: FileFaults, line: int) -> float:
    """A weight, finite and ≥ 0; an empty cell is 1."""
    said = word(value).strip()
    if not said:
        return 1.0
    try:
        number = float(said)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        faults.add(f"weight {said!r} of {whose}; expected a number of 0 or more", line)
        return 1.0
    return number


# ── weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def weighted(taxonomy: Taxonomy, weights: Mapping[str, float], where: str = "weights") -> Taxonomy:
    """The taxonomy with weights set by pattern (see `match`); where several match a node, the last one written wins.

    Of the nodes that one pattern matches, only those with none above them get its weight: `cards/**` weighs what is
    below cards once, not once a level.

    Raises:
        RecipeError: a pattern that matches nothing, a weight that is negative or not finite, or no share left at all.
    """
    file, line = _place(where)
    faults = FileFaults(file)
    new: dict[str, float] = {}
    for pattern, weight in weights.items():
        value = weight_of(weight, f"pattern {pattern!r}", faults, line)
        matched = {node.id for node in taxonomy.nodes if match(pattern, node)}
        found = [id_ for id_ in matched if not any(node.id in matched for node in _above(taxonomy, id_))]
        if not found:
            names = [node.path for node in taxonomy.nodes[:5_000]]
            faults.add(f"weights: {pattern!r} matches no node of {taxonomy.name}{nearest(pattern, names)}", line)
        new.update(dict.fromkeys(found, value))
    faults.check()
    changed = Taxonomy(
        taxonomy.name,
        tuple(replace(node, weight=new[node.id]) if node.id in new else node for node in taxonomy.nodes),
    )
    if not any(shares(changed)):
        raise faults.stop(f"weights: every leaf of {taxonomy.name} has weight 0; give one a weight above 0", line)
    return changed


def _above(taxonomy: Taxonomy, node: str) -> Iterator[Node]:
    line = taxonomy.line(node)
    next(line)
    return line


def shares(taxonomy: Taxonomy) -> list[Fraction]:
    """Each leaf's weight against the other leaves, in the order of `leaves`: the exact product of those on its line.

    Not yet divided by their sum; all 1 where nothing is weighted, so that every leaf gets the same share of the rows.
    A weight is read as the decimal it prints as (0.1 is one tenth), so shares are the same on every platform. Those of
    an `Apportioned` taxonomy are the ones it was given.
    """
    if isinstance(taxonomy, Apportioned):
        given = {at: part for band in taxonomy.bands for at, part in zip(band.leaves, band.parts, strict=True)}
        if len(given) == len(taxonomy.leaves):  # else someone took nodes out, and the weights still tell
            return [given[at] for at in range(len(given))]
    if all(node.weight == 1 for node in taxonomy.nodes):
        return [Fraction(1)] * len(taxonomy.leaves)
    product: dict[str, Fraction] = {}
    for leaf in taxonomy.leaves:
        line = list(taxonomy.line(leaf.id))
        for node in reversed(line):
            if node.id not in product:
                above = product[node.parent] if node.parent is not None else Fraction(1)
                product[node.id] = above if node.weight == 1 else above * Fraction(repr(float(node.weight)))
    return [product[leaf.id] for leaf in taxonomy.leaves]


# ── quotas ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Band(NamedTuple):
    """Leaves that share a quota, or (with pattern "") those that share what the quotas leave."""

    pattern: str
    share: Fraction
    """Of the rows that draw the axis; 0 … 1."""
    leaves: tuple[int, ...]
    """Places in `taxonomy.leaves`."""
    parts: tuple[Fraction, ...]
    """Share of each of those leaves, among all rows that draw the axis; they add up to `share`."""


@dataclass(frozen=True)
class Apportioned(Taxonomy):
    """A taxonomy whose leaves have exact shares: every leaf stands in one band.

    Its leaves also carry weights (1 is an equal share), which name the taxonomy in digests and tell the shares, rounded
    to a float, to whoever rebuilds the tree without its bands; inner nodes have weight 1.
    """

    bands: tuple[Band, ...] = ()


def apportioned(
    taxonomy: Taxonomy,
    rows: int,
    minimum: int | None,
    quotas: Mapping[str, str | int],
    problem: Callable[[tuple[str, ...], str], None],
) -> Taxonomy:
    """The taxonomy with exact shares of `rows`, the whole rows that draw it at the target.

    `quotas`: pattern (see `matching`) → `20%` of the rows, or a count of rows; all other leaves share the rest. Inside
    a band, leaves share by their weights. With `minimum`, each leaf gets at least that many rows: leaves below it are
    lifted, those above it share what is left by their weights, and rows are made whole by largest remainder, so that
    at the target each leaf has exactly its rows, less than one row off its share. A leaf of weight 0 gets none.

    Shares of percentages do not depend on `rows`; those of counts and of a minimum do.

    `problem(path below the taxonomy, message)` is told of everything that cannot be; the taxonomy is then returned as
    it came.
    """
    if not quotas and minimum is None:
        return taxonomy
    weights = shares(taxonomy)
    wrong = False

    def fault(path: tuple[str, ...], message: str) -> None:
        nonlocal wrong
        wrong = True
        problem(path, message)

    groups = _groups(taxonomy, weights, quotas, rows, fault)
    live = sum(weight > 0 for weight in weights)
    if minimum is not None and minimum * live > rows:
        most = f"minimum: {rows // live:,} or less" if rows >= live else "no minimum"
        fault(
            ("minimum",),
            f"minimum: {minimum:,} rows for each of {live:,} leaves are {minimum * live:,} rows, and {rows:,} of the "
            f"target's draw {taxonomy.name}; write {most}, or a larger target.rows",
        )
    if wrong:
        return taxonomy
    bands = []
    whole = _rounded([share * rows for _, share, _ in groups]) if minimum is not None else []
    for number, (pattern, share, leaves) in enumerate(groups):
        mine = [weights[at] for at in leaves]
        if minimum is None:
            total = sum(mine, Fraction(0)) or Fraction(1)
            bands.append(Band(pattern, share, leaves, tuple(share * weight / total for weight in mine)))
            continue
        needed = minimum * sum(weight > 0 for weight in mine)
        if needed > whole[number]:
            where = f"quotas: {pattern!r} has" if pattern else "the leaves without a quota have"
            fault(
                ("quotas", pattern) if pattern else ("minimum",),
                f"{where} {whole[number]:,} rows, and minimum: {minimum:,} asks for {needed:,} there; "
                f"{'raise the quota' if pattern else 'lower the quotas'}, or lower the minimum",
            )
            continue
        counts = _rounded(_lifted(mine, whole[number], minimum))
        bands.append(
            Band(pattern, Fraction(whole[number], rows), leaves, tuple(Fraction(count, rows) for count in counts))
        )
    if wrong:
        return taxonomy
    part = {at: one for band in bands for at, one in zip(band.leaves, band.parts, strict=True)}
    weight = {leaf.id: float(part[at] * live) for at, leaf in enumerate(taxonomy.leaves)}
    nodes = tuple(
        node if node.weight == weight.get(node.id, 1.0) else replace(node, weight=weight.get(node.id, 1.0))
        for node in taxonomy.nodes
    )
    return Apportioned(taxonomy.name, nodes, tuple(bands))


_Group = tuple[str, Fraction, tuple[int, ...]]
"""Pattern, share of the rows, and places of the leaves."""


def _groups(
    taxonomy: Taxonomy,
    weights: Sequence[Fraction],
    quotas: Mapping[str, str | int],
    rows: int,
    fault: Callable[[tuple[str, ...], str], None],
) -> list[_Group]:
    """The quotas' groups of leaves and the rest, as far as they can be."""
    taken: dict[int, str] = {}
    groups: list[_Group] = []
    sound = True
    for pattern, said in quotas.items():
        path = ("quotas", pattern)
        leaves = tuple(at for at, hit in enumerate(matching(pattern, taxonomy)) if hit)
        if not leaves:
            near = nearest(pattern, [node.path for node in taxonomy.nodes[:5_000]])
            fault(path, f"quotas: {pattern!r} matches no node of {taxonomy.name}{near}")
        elif (twice := next((at for at in leaves if at in taken), None)) is not None:
            fault(
                path,
                f"quotas: {pattern!r} and {taken[twice]!r} both cover {taxonomy.leaves[twice].path!r}; a leaf has one "
                "quota, so narrow one of the patterns",
            )
        elif not any(weights[at] for at in leaves):
            fault(path, f"quotas: every leaf that {pattern!r} covers has weight 0; give one a weight, or no quota")
        elif isinstance(said, int) and said > rows:
            fault(path, f"quotas: {pattern!r} asks for {said:,} rows, and {rows:,} of the target's draw "
                        f"{taxonomy.name}; write {rows:,} or less, or a larger target.rows")  # fmt: skip
        else:
            share = Fraction(said, rows) if isinstance(said, int) else Fraction(said.rstrip("% ")) / 100
            groups.append((pattern, share, leaves))
            taken.update(dict.fromkeys(leaves, pattern))
            continue
        sound = False
    if not sound:
        return groups
    total = sum((share for _, share, _ in groups), Fraction(0))
    rest = tuple(at for at in range(len(weights)) if at not in taken)
    needy = [at for at in rest if weights[at]]
    added = f"quotas add up to {_per_cent(total)} of the {rows:,} rows that draw {taxonomy.name}"
    if total > 1:
        fault(("quotas",), f"{added}; lower them to 100 % or less")
    elif total == 1 and needy:
        left = taxonomy.leaves[needy[0]].path
        fault(("quotas",), f"{added} and leave none for {len(needy):,} more leaves, e.g. {left!r}; lower them, or give "
                           f"those leaves weight 0: weights: {{{left}: 0}}")  # fmt: skip
    elif total < 1 and groups and not needy:
        fault(("quotas",), f"{added}, and no leaf is left for the rest; raise them to 100 %")
    if rest:
        groups.append(("", 1 - total, rest))
    return groups


def _per_cent(share: Fraction) -> str:
    """`120 %`, `99.95 %`; as many decimals as tell it from 100."""
    said = f"{float(100 * share):.2f}".rstrip("0").rstrip(".")
    return f"{'a little over ' if said == '100' and share > 1 else ''}{said} %"


def _lifted(weights: Sequence[Fraction], rows: int, minimum: int) -> list[Fraction]:
    """Rows by weight, none (of weight above 0) below `minimum`: the smallest are lifted, the others share the rest."""
    left, total = Fraction(rows), sum(weights, Fraction(0))
    found = [Fraction(0)] * len(weights)
    order = sorted((at for at, weight in enumerate(weights) if weight), key=weights.__getitem__)
    for place, at in enumerate(order):
        if weights[at] * left >= minimum * total:  # and so has every heavier leaf
            for other in order[place:]:
                found[other] = left * weights[other] / total
            break
        found[at] = Fraction(minimum)
        left -= minimum
        total -= weights[at]
    return found


def _rounded(amounts: Sequence[Fraction]) -> list[int]:
    """Whole numbers of the same sum, each less than one off: the largest remainders are rounded up."""
    whole = [int(amount) for amount in amounts]
    short = int(sum(amounts, Fraction(0))) - sum(whole)
    by = sorted(range(len(amounts)), key=lambda at: (whole[at] - amounts[at], at))
    for at in by[:short]:
        whole[at] += 1
    return whole


# ── patterns ────────────────────────────────────────────────────────────────────────────────────────────────────────


def match(pattern: str, node: Node) -> bool:
    """Whether a pattern names a node; upper and lower case differ.

    Without a slash it is compared with the id, the label and the path as a whole: `lost`, `T10*`. With a slash it is
    compared with the path, segment by segment: `cards/*` is one level below cards, `cards/**` everything below it,
    `**/lost` any node called lost. `*` stands for any characters, in a path for none but `/`. An exact id always
    matches, whatever it contains.
    """
    if pattern == node.id:
        return True
    if "/" in pattern:
        return _path_pattern(pattern).fullmatch(node.path) is not None
    word = _word_pattern(pattern)
    return any(word.fullmatch(said) is not None for said in (node.id, node.label, node.path))


def covers(pattern: str, node: Node) -> bool:
    """Whether the pattern names the node or one above it, told from the node's path alone.

    Nodes above it are known by path and label here, not by a table's own ids; `matching` knows those too.
    """
    if match(pattern, node):
        return True
    above, slash, _ = node.path.rpartition("/")
    label = above.rpartition("/")[2].replace("%2F", "/")
    return bool(slash) and covers(pattern, Node(above, label, above, node.depth - 1))


def matching(pattern: str, taxonomy: Taxonomy) -> list[bool]:
    """For each leaf, whether the pattern names it or a node above it: what a `forbid` entry covers."""
    hit = {node.id for node in taxonomy.nodes if match(pattern, node)}
    if not hit:
        return [False] * len(taxonomy.leaves)
    return [any(node.id in hit for node in taxonomy.line(leaf.id)) for leaf in taxonomy.leaves]


@lru_cache(maxsize=256)
def _word_pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in re.split(r"\*+", pattern)), re.DOTALL)


@lru_cache(maxsize=256)
def _path_pattern(pattern: str) -> re.Pattern[str]:
    said = ""
    for number, segment in enumerate(pattern.split("/")):
        if segment == "**":
            said += ".+" if number == pattern.count("/") else "(?:[^/]+/)*"
        else:
            said += "[^/]*".join(re.escape(part) for part in re.split(r"\*+", segment))
            said += "/" if number < pattern.count("/") else ""
    return re.compile(said, re.DOTALL)
