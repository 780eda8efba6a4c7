"""Taxonomies, the files: a table (CSV, TSV, JSON), a nested tree (YAML, JSON), SKOS or an artefact → a `Taxonomy`.

Where a node's id comes from. A table with an id column keeps its own ids. A tree, and a table of path columns, is named
by the slash path of labels (see `qdcgen.taxonomy`).

Several parents. A row may name more than one parent (`a|b`). The first is its place in the tree, and a note says how
many rows that concerned; nothing is planned twice.
"""

from __future__ import annotations

import csv
import gc
import io
import json
import re
import shlex
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from qdcgen import axes, strict_yaml, taxonomy_skos
from qdcgen.errors import RecipeError, nearest
from qdcgen.rows import Node, Taxonomy
from qdcgen.taxonomy import MAX_DEPTH, MAX_FAULTS, MAX_NODES, TEXTS, FileFaults, escaped, plant, weight_of, word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["ENDINGS", "MAX_BYTES", "PREFIX", "read"]

MAX_BYTES = 512 * 2**20
"""Larger files are refused unread."""
ENDINGS = ".csv, .tsv, .json, .jsonl, .jsonld, .yaml, .yml, .ttl, .nt, .rdf or .xml"
"""Endings of the files that can be read, in words."""
_CLOSE = 0.65
"""How near a column must be to be suggested: at the usual 0.6, `text` was, for `intent`."""
_RING = 6
"""Members of a cycle that are named."""

_IDS = ("id", "code", "synset", "synset_id", "key", "node_id", "node", "identifier", "notation", "qcode", "uri", "@id")
_PARENTS = (
    *("parent", "parents", "parent_id", "parent_ids", "parentid", "parent_code", "parent_technique", "broader"),
    *("hypernym", "hypernyms"),
)
_LABELS = ("label", "name", "title", "preflabel", "pref_label", "term", "lemma", "lemmas", "slug")
_WEIGHTS = ("weight", "weights")
_RETIRED = ("retired", "deprecated", "obsolete", "withdrawn", "revoked")
_YES = ("true", "yes", "y", "1")
"""`retired` with a cell of `_YES`, or `status` with a cell of `_RETIRED`: rows that a user may want to leave out."""
_VALUES = 5
"""Values of a column that are named."""
_LEVEL = re.compile(r"(?:level|lvl|l|tier)_?\d+\Z")

Speaking = Literal["recipe", "import", "show"]
"""Who has the file read: a recipe, `qdcgen taxonomy import`, or another command, which has no such options."""
_BY_IMPORT = {"import": "", "show": "qdcgen taxonomy import … "}


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector: reading makes no cycles, and it looked at every row again and again (×2 in time)."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Faults(FileFaults):
    """Faults of one file, in the words of whoever had it read."""

    def __init__(self, file: str, speaking: Speaking) -> None:
        super().__init__(file)
        self.speaking = speaking

    def key(self, name: str) -> str:
        """A setting as it is typed there: `parent:` in a recipe, `--parent` in a command."""
        return f"{name}:" if self.speaking == "recipe" else f"--{name}"

    def leaving_out(self, column: str, value: str) -> str:
        """What to type so that the rows with this value are left out."""
        if self.speaking == "recipe":
            return f"exclude: {{{column}: {value!r}}}"
        return f"{_BY_IMPORT[self.speaking]}--exclude {shlex.quote(f'{column}={value}')}"


class _Row(NamedTuple):
    """One row of a table as a node: `line` is 0 in JSON, `at` says the place in words."""

    id: str
    label: str
    parents: tuple[str, ...]
    text: str
    weight: float
    line: int
    at: str


class _Table(NamedTuple):
    """Records of a table: each with its line (0 where unknown), its place in words and its cells by column."""

    columns: list[str]
    records: list[tuple[int, str, Sequence[str]]]
    separators: str
    """What may stand between several parents in one cell."""
    exact: bool = False
    """Whether spaces at the ends of a cell belong to it."""


def read(
    name: str,
    path: Path | str,
    *,
    id: str | None = None,  # noqa: A002 - the recipe's own word
    parent: str | None = None,
    label: str | None = None,
    text: str | None = None,
    weight: str | None = None,
    levels: Sequence[str] | None = None,
    exclude: Mapping[str, str | Sequence[str]] | None = None,
    root: str | Sequence[str] | None = None,
    notes: list[str] | None = None,
    form: str | None = None,
    speaking: Speaking = "recipe",
) -> Taxonomy:
    """The taxonomy in a file, told by its ending (or by `form`, an ending without its dot).

    `.yaml`/`.yml`/`.json` trees, `.csv`/`.tsv`/`.json`/`.jsonl` tables, SKOS in `.jsonld`/`.json`, `.ttl`/`.nt` or
    `.rdf`/`.xml`/`.owl` (see `qdcgen.taxonomy_skos`), and `.json` artefacts (see `qdcgen.axes`).

    A table has path columns (`levels`, root first; a row may end early) or an id column and, unless it is flat, a
    parent column. Columns that are not named are looked for by their usual names. `parent: <prefix>` makes each node a
    child of the longest other id that its own id begins with (`1111` under `111`; `31-33` holds 31, 32, 33), which is
    how industry and disease codes are printed; a table of such codes without a parent column is read that way.

    `exclude` leaves out the rows whose cell equals a value (column → value or values), of which each must be there; a
    kept node whose parent was left out hangs on its nearest kept ancestor. `root` keeps only the nodes with these ids
    or paths and what lies below them; they become the roots and ids stay. `notes` collects what a user may want to know
    but need not act on; `speaking` is whose words advice is given in.

    Raises:
        RecipeError: every fault of the file at once, each with its line (or element), at most MAX_FAULTS and a count.
    """
    settings = {"id": id, "parent": parent, "label": label, "text": text, "weight": weight}
    with _collector_paused():
        roots = [root] if isinstance(root, str) else root
        faults = _Faults(str(path), speaking)
        nodes = _nodes(Path(path), form, settings, levels, exclude, roots, notes, faults)
    return Taxonomy(name, tuple(nodes))


def _nodes(
    path: Path,
    form: str | None,
    settings: Mapping[str, str | None],
    levels: Sequence[str] | None,
    exclude: Mapping[str, str | Sequence[str]] | None,
    roots: Sequence[str] | None,
    notes: list[str] | None,
    faults: _Faults,
) -> list[Node]:
    said = [] if notes is None else notes
    body = _decoded(path, faults)
    suffix = f".{form.lower().lstrip('.')}" if form else path.suffix.lower()
    asked = [key for key, value in {**settings, "levels": levels}.items() if value]
    tree, table = _opened(body, suffix, faults, said, bare=not asked)
    refused = [*asked, *(["exclude"] if exclude else [])]
    if table is None and refused:
        raise faults.stop(f"a nested tree has no columns; take out {', '.join(map(faults.key, refused))}")
    if isinstance(tree, Taxonomy):
        nodes = list(tree.nodes)
    elif table is None:
        nodes = plant(tree, faults, 0, objects=True)
    else:
        if table.exact and asked:
            raise faults.stop(f"SKOS has no columns to choose; take out {', '.join(map(faults.key, asked))}")
        found = _SKOS if table.exact else _columns(table, faults, settings, levels or ())
        table, gone = _excluded(table, exclude, faults)
        rows = _path_rows(table, found, faults) if found.levels else _id_rows(table, found, faults)
        left_out = {} if found.levels else {row.id: row for row in _id_rows(gone, found, _Faults("", "recipe"))}
        if found.parent == PREFIX:
            rows = _by_prefix(rows)
            if settings["parent"] is None:
                said.append(f"{path.name}: no parent column, so the tree was read from code prefixes")
        nodes = _assembled(rows, left_out, faults, said)
    faults.check()
    if roots:
        nodes = _rooted(nodes, roots, faults)
        faults.check()
    if table is not None:
        ids = None if found.levels else {node.id for node in nodes}
        said += _retired(table, found, ids, faults)
    return nodes


def _retired(table: _Table, found: _Columns, ids: set[str] | None, faults: _Faults) -> list[str]:
    """What to say where rows that were kept (those of `ids`) call themselves retired, deprecated or so."""
    said: list[str] = []
    id_at = table.columns.index(found.id) if found.id is not None else -1
    for at, column in enumerate(table.columns):
        plain = _plain(column)
        telling = _RETIRED if plain == "status" else _YES if plain in _RETIRED else ()
        counts = Counter(
            cells[at].strip()
            for _, _, cells in (table.records if telling else ())
            if cells[at].strip().lower() in telling
            and (ids is None or (cells[id_at] if table.exact else cells[id_at].strip()) in ids)
        )
        what = "concept" if table.exact else "row"
        for value, count in counts.most_common():
            which = value.lower() if plain == "status" else plain
            said.append(
                f"{Path(faults.file).name}: {count:,} {f'{what} is' if count == 1 else f'{what}s are'} {which}; "
                f"{faults.leaving_out(column, value)} leaves {'it' if count == 1 else 'them'} out"
            )
    return said


def _opened(body: str, suffix: str, faults: FileFaults, notes: list[str], *, bare: bool) -> tuple[Any, _Table | None]:
    """The file as a nested tree, or a Taxonomy where it is an artefact; and as a table, None where it is none.

    `bare`: no column was named. Where one was, linked data in JSON is a table like any other.
    """
    if suffix in {".yaml", ".yml"}:
        tree = _composed(body, faults)
        return tree, _objects(tree, faults)
    if suffix in {".json", ".jsonld", ".jsonl", ".ndjson"}:
        lines = suffix in {".jsonl", ".ndjson"}
        tree = _parsed(body, faults, lines=lines)
        if isinstance(tree, dict) and {"format", "taxonomy", "nodes"} <= set(tree):
            faults.check()
            return axes.loads(body.encode(), "", faults.file), None
        if bare and not lines and taxonomy_skos.is_skos(tree):
            return tree, _concepts(taxonomy_skos.linked(tree), faults, notes)
        return tree, _objects(tree, faults, lines=lines)
    if suffix in {".ttl", ".turtle", ".nt"}:
        return None, _concepts(taxonomy_skos.turtle(body, faults), faults, notes)
    if suffix in {".rdf", ".xml", ".owl", ".skos"}:
        return None, _concepts(taxonomy_skos.xml(body, faults), faults, notes)
    if suffix in {".csv", ".tsv", ".tab", ".txt"}:
        return None, _records(body, faults, tab=suffix in {".tsv", ".tab"})
    raise faults.stop(f"a {suffix or 'nameless'} file; expected {ENDINGS}")


def _concepts(said: Iterable[taxonomy_skos.Said], faults: FileFaults, notes: list[str]) -> _Table:
    told: list[str] = []
    rows = taxonomy_skos.concepts(said, faults, told)
    notes += [f"{Path(faults.file).name}: {note}" for note in told]
    records: list[tuple[int, str, Sequence[str]]] = [
        (0, f"concept {number}", row) for number, row in enumerate(rows, 1)
    ]
    return _Table(list(taxonomy_skos.COLUMNS), records, "\n", exact=True)


PREFIX = "<prefix>"
"""`parent: <prefix>`: a node hangs below the longest other id that its id begins with."""


def _decoded(path: Path, faults: FileFaults) -> str:
    """The file's text; UTF-8 with or without a byte order mark."""
    try:
        if path.exists() and not path.is_file():
            raise faults.stop("not a regular file; expected a table or a tree")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise faults.stop(f"{size:,} bytes; expected at most {MAX_BYTES:,}")
        raw = path.read_bytes()
    except OSError as error:
        raise faults.stop(f"cannot be read: {error.strerror or error}; check the path and its permissions") from None
    if raw[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise faults.stop("UTF-16 text; save the file as UTF-8", 1)
    try:
        body = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # error.object lacks the byte order mark, so lines are counted where the offset was counted
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise faults.stop(f"not UTF-8: byte {byte:#04x}; save the file as UTF-8", line) from None
    if not body.strip():
        raise faults.stop("an empty file; expected a table with a header, or a tree", 1)
    return body


def _records(body: str, faults: FileFaults, *, tab: bool) -> _Table:
    """Records of a CSV or TSV table with the line that each begins on."""
    delimiter = "\t" if tab else _delimiter(body)
    columns: list[str] = []
    records: list[tuple[int, str, Sequence[str]]] = []
    begin = 1
    csv.field_size_limit(MAX_BYTES)  # by itself it stops at 131,072 letters, and a definition may be longer
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True)
    try:
        for record in reader:
            line, begin = begin, reader.line_num + 1  # line_num is the record's LAST line; quoted cells may span lines
            if not any(cell.strip() for cell in record):
                continue
            if not columns:
                columns = [cell.strip() for cell in record]
                while columns and not columns[-1]:
                    columns.pop()
                for column in {column for column in columns if column and columns.count(column) > 1}:
                    faults.add(f"two columns are called {column!r}; rename one", line)
                continue
            while len(record) > len(columns) and not record[-1].strip():
                record.pop()  # a trailing delimiter
            if len(record) != len(columns):
                message = (
                    f"{len(record)} fields, and the header has {len(columns)}; quote cells that hold {delimiter!r}"
                )
                faults.add(message, line)
                continue
            if len(records) >= MAX_NODES:
                raise faults.stop(f"more than {MAX_NODES:,} rows; split the table, or take a smaller one", line)
            records.append((line, f"line {line}", record))
    except csv.Error as error:
        raise faults.stop(f"the row that begins here is not valid CSV: {error}; check its quotes", begin) from None
    if columns and not records and not faults.listed:
        raise faults.stop(f"a header ({', '.join(columns)}) without rows; expected one row per node", 1)
    return _Table(columns, records, "".join(mark for mark in "|;," if mark != delimiter))


def _delimiter(body: str) -> str:
    """The delimiter of the header: the one of `,` tab `;` `|` that gives most columns, earlier ones first on a tie."""
    line = next((line for line in io.StringIO(body) if line.strip()), "")
    unquoted = re.sub(r'"[^"]*"', "", line)
    return max(",\t;|", key=unquoted.count)


def _parsed(body: str, faults: FileFaults, *, lines: bool) -> Any:
    """Plain data from JSON, or one value per line; duplicate keys are faults."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            faults.add(f"key {twice!r} stands twice in one object; keep one")
        return found

    if not lines:
        try:
            return json.loads(body, object_pairs_hook=once)
        except json.JSONDecodeError as error:
            raise faults.stop(f"not valid JSON: {error.msg}", error.lineno, error.colno) from None
        except RecursionError:
            raise faults.stop(f"nested too deep; expected at most {MAX_DEPTH} levels") from None
        except ValueError as error:  # an integer of more than 4,300 digits
            raise faults.stop(f"not usable JSON: {error}") from None
    values = []
    for number, line in enumerate(body.split("\n"), 1):
        if line.strip():
            try:
                values.append((number, json.loads(line, object_pairs_hook=once)))
            except (ValueError, RecursionError) as error:
                faults.add(f"not valid JSON: {error}", number)
    return values


def _composed(body: str, faults: FileFaults) -> Any:
    """Plain data from YAML: every scalar is a word as written, that knows its place; only an empty one is None."""
    try:
        return strict_yaml.parse(body, faults.file, plain=True).data
    except RecipeError as error:
        faults.listed += error.faults
        raise faults.error() from None


def _objects(tree: Any, faults: FileFaults, *, lines: bool = False) -> _Table | None:
    """The array of objects in `tree` as a table, or None where it is a nested tree of names."""
    first = 1
    if lines:
        places = [number for number, _ in tree]
        items: Any = [value for _, value in tree]
    else:
        items = tree
        if isinstance(tree, dict):  # {"nodes": […]}, JSON-LD's @graph, IPTC's conceptSet
            held = [key for key in ("nodes", "@graph", "conceptSet", "concepts") if _is_table(tree.get(key))]
            items = tree[held[0]] if len(held) == 1 else None
        if not _is_table(items):
            return None
        places = [0] * len(items)
    columns: dict[str, int] = {}
    for item in items:
        for key in item if isinstance(item, dict) else ():
            columns.setdefault(str(key), len(columns))
    if not columns:
        raise faults.stop("no objects; expected one object per node, with its id and its parent's")
    records: list[tuple[int, str, Sequence[str]]] = []
    for number, (line, item) in enumerate(zip(places, items, strict=True), first):
        at = f"line {line}" if line else f"element {number}"
        if not isinstance(item, dict):
            faults.add(f"{at} is not an object; expected one object per node", line)
        elif len(records) >= MAX_NODES:
            raise faults.stop(f"more than {MAX_NODES:,} elements; split the table, or take a smaller one", line)
        else:
            records.append((line, at, [word(item.get(column)) for column in columns]))
    return _Table(list(columns), records, "|;,")


def _is_table(items: Any) -> bool:
    """Whether this is a list of objects that name their own ids, rather than a tree of names."""
    if not isinstance(items, list) or not items or not isinstance(items[0], dict):
        return False
    known = {_plain(str(key)) for item in items[:20] if isinstance(item, dict) for key in item}
    nested = any(isinstance(item, dict) and "children" in item for item in items)
    return not nested and bool(known & {*_IDS, *_LABELS}) and (len(known) > 1 or len(items) > 1)


# ── which column is which ───────────────────────────────────────────────────────────────────────────────────────────


class _Columns(NamedTuple):
    """Names of the columns to use; None where there is none."""

    id: str | None
    parent: str | None
    label: str | None
    text: str | None
    weight: str | None
    levels: tuple[str, ...]


_SKOS = _Columns("id", "parent", "label", "definition", "weight", ())
"""The columns of `taxonomy_skos.COLUMNS`."""


def _plain(column: str) -> str:
    """A column name for comparison: `Parent ID` → `parent_id`."""
    return re.sub(r"[\s\-.]+", "_", column.strip().lower())


def _columns(table: _Table, faults: _Faults, settings: Mapping[str, str | None], levels: Sequence[str]) -> _Columns:
    """The columns as set, else as their names tell.

    Raises:
        RecipeError: a named column is not there, or it cannot be told which column is the id.
    """
    known, before = table.columns, len(faults.listed)
    asked = [*settings.items(), *(("levels", level) for level in levels)]
    for key, column in asked:
        if column is not None and column not in known and not (key == "parent" and column == PREFIX):
            near = nearest(column, known, _CLOSE)
            faults.add(f"{faults.key(key)} no column called {column!r}{near}; {_found(known)}")
    faults.check(before)
    own, parent, label = settings["id"], settings["parent"], settings["label"]
    free = [column for column in known if column not in {column for _, column in asked}]
    parent = parent or (None if levels else _usual(free, _PARENTS, starts="parent"))
    chosen = _Columns(
        id=own or (_usual(free, _IDS) if levels else _id_column(table, free, parent)),
        parent=parent,
        label=label or _usual(free, _LABELS, ends=("_title", "_name", "_label")),
        text=settings["text"] or _usual(free, TEXTS),
        weight=settings["weight"] or _usual(free, _WEIGHTS),
        levels=tuple(levels),
    )
    if chosen.levels:
        return chosen
    if chosen.id is None and chosen.parent is None:
        numbered = [column for column in known if _LEVEL.match(_plain(column))]
        if numbered:
            return chosen._replace(levels=tuple(numbered))
    if chosen.id is None:
        if chosen.label is None or (chosen.parent is None and len(known) > 1):
            ways = {
                "recipe": "write id: and parent:, or levels: [root, …]",
                "import": "add --id and --parent, or --levels ROOT,…",
                "show": "bring it in first: qdcgen taxonomy import, with --id and --parent, or --levels ROOT,…",
            }
            message = f"cannot tell which column is the id; {_found(known)}; {ways[faults.speaking]}"
            raise faults.stop(message, 1 if table.records and table.records[0][0] else 0)
        chosen = chosen._replace(id=chosen.label)  # `name,parent`: parents are named, so names are the ids
    if chosen.label == chosen.id and not label:
        chosen = chosen._replace(label=None)
    if chosen.parent is None and _is_prefix_coded(table, chosen.id):
        chosen = chosen._replace(parent=PREFIX)
    return chosen


def _found(known: Sequence[str]) -> str:
    return f"the columns are {', '.join(known[:30])}"


def _usual(known: Sequence[str], usual: Sequence[str], *, starts: str = "", ends: tuple[str, ...] = ()) -> str | None:
    """The column with a usual name, earlier names first; else the only one that starts or ends so."""
    plain = {_plain(column): column for column in reversed(known)}
    for name in usual:
        if name in plain:
            return plain[name]
    loose = [
        column for key, column in plain.items() if (starts and key.startswith(starts)) or (ends and key.endswith(ends))
    ]
    return loose[0] if len(loose) == 1 else None


def _id_column(table: _Table, free: Sequence[str], parent: str | None) -> str | None:
    """The id column; where several have a usual name, the one that the parent cells speak of."""
    plain = {_plain(column): column for column in free}
    named = [plain[name] for name in _IDS if name in plain]
    if not named:
        return _usual(free, (), ends=("_code", "_id"))
    if len(named) == 1 or parent not in table.columns:
        return named[0]
    at = table.columns.index(parent)
    asked = {cells[at].split("|")[0] for _, _, cells in table.records if cells[at]}
    held = {column: {cells[table.columns.index(column)] for _, _, cells in table.records} for column in named}
    return max(named, key=lambda column: len(asked & held[column]))  # the first of equals: exact names lead


def _is_prefix_coded(table: _Table, column: str | None) -> bool:
    """Whether ids are codes whose prefixes are ids: digits (or a letter and digits), and most longer ones have one.

    Only in a column that is called a code: among running numbers 1 … 20, too, 1 begins 10 to 19.
    """
    if column is None or not re.search(r"code|notation|class", _plain(column)):
        return False
    at = table.columns.index(column)
    ids = [cells[at].strip() for _, _, cells in table.records]
    lengths = {len(code) for code in ids}
    if len(lengths) == 1 or not all(re.fullmatch(r"[A-Za-z]?\d+(?:[-.]\d+)*", code) for code in ids):
        return False
    placed = _prefixes(ids)
    longer = [code for code in ids if len(code) > min(lengths) and "-" not in code]
    return bool(longer) and sum(placed[code] is not None for code in longer) >= 0.9 * len(longer)


def _prefixes(ids: Sequence[str]) -> dict[str, str | None]:
    """Each id's longest proper prefix among the ids; a range such as `31-33` stands for its members."""
    stands = {code: code for code in ids}
    for code in ids:
        if span := re.fullmatch(r"(\d{1,4})-(\d{1,4})", code):
            for number in range(int(span[1]), min(int(span[2]), int(span[1]) + 99) + 1):
                stands.setdefault(str(number).zfill(len(span[1])), code)
    found: dict[str, str | None] = {}
    for code in ids:
        cuts = (code[:length].rstrip(".-") for length in range(len(code) - 1, 0, -1))
        found[code] = next((stands[cut] for cut in cuts if cut in stands and stands[cut] != code), None)
    return found


# ── rows to nodes ───────────────────────────────────────────────────────────────────────────────────────────────────


def _excluded(
    table: _Table, exclude: Mapping[str, str | Sequence[str]] | None, faults: _Faults
) -> tuple[_Table, _Table]:
    """The table without the rows left out, and those rows."""
    tests: list[tuple[int, set[str]]] = []
    before = len(faults.listed)
    for column, values in (exclude or {}).items():
        if column not in table.columns:
            near = nearest(column, table.columns, _CLOSE)
            faults.add(f"{faults.key('exclude')} no column called {column!r}{near}; {_found(table.columns)}")
            continue
        at = table.columns.index(column)
        wanted = {word(value) for value in ([values] if isinstance(values, (str, int, float)) else values)}
        tests.append((at, wanted))
        there = Counter(cells[at].strip() for _, _, cells in table.records)
        for value in sorted(wanted - set(there)):
            near = nearest(value, [cell for cell in list(there)[:5_000] if cell])
            some = ", ".join(repr(cell[:40]) if not cell else cell[:40] for cell, _ in there.most_common(_VALUES))
            more = f" and {len(there) - _VALUES:,} more" if len(there) > _VALUES else ""
            faults.add(f"{faults.key('exclude')} no row has {column} = {value!r}{near}; its values are {some}{more}")
    faults.check(before)
    kept: list[tuple[int, str, Sequence[str]]] = []
    gone: list[tuple[int, str, Sequence[str]]] = []
    for record in table.records:
        (gone if any(record[2][at].strip() in values for at, values in tests) else kept).append(record)
    if table.records and not kept:
        raise faults.stop(f"{faults.key('exclude')} leaves no row; check its values")
    return table._replace(records=kept), table._replace(records=gone)


def _id_rows(table: _Table, found: _Columns, faults: FileFaults) -> list[_Row]:
    """Rows of a table with an id column."""
    at = {name: table.columns.index(name) for name in table.columns}
    id_at = at[str(found.id)]
    parent_at = at.get(found.parent or "", -1) if found.parent != PREFIX else -1
    label_at, text_at, weight_at = (at[name] if name else -1 for name in (found.label, found.text, found.weight))
    clean: Callable[[str], str] = str if table.exact else str.strip
    known = {clean(cells[id_at]) for _, _, cells in table.records}
    rows: list[_Row] = []
    for line, place, cells in table.records:
        key = clean(cells[id_at])
        if not key:
            faults.add(f"{place}: an empty {found.id}; give the node an id, or remove the row", line)
            continue
        named = clean(cells[parent_at]) if parent_at >= 0 else ""
        rows.append(
            _Row(
                id=key,
                label=(clean(cells[label_at]) if label_at >= 0 else "") or key,
                parents=_several(named, known, table.separators) if named else (),
                text=clean(cells[text_at]) if text_at >= 0 else "",
                weight=weight_of(cells[weight_at], f"{key!r}", faults, line) if weight_at >= 0 else 1.0,
                line=line,
                at=place,
            )
        )
    return rows


def _several(named: str, known: set[str], separators: str) -> tuple[str, ...]:
    """The parents in one cell: an id that contains a separator stays whole; `;` and `,` split only known ids."""
    if named in known:
        return (named,)
    for mark in separators:
        if mark in named:
            strip = None if mark != "\n" else ""
            parts = tuple(dict.fromkeys(part.strip(strip) for part in named.split(mark) if part.strip(strip)))
            if mark == "|" or all(part in known for part in parts):
                return parts
    return (named,)


def _by_prefix(rows: Sequence[_Row]) -> list[_Row]:
    placed = _prefixes([row.id for row in rows])
    return [row._replace(parents=(above,) if (above := placed[row.id]) else ()) for row in rows]


def _path_rows(table: _Table, found: _Columns, faults: FileFaults) -> list[_Row]:
    """One row per node of a table of path columns: inner nodes appear with the first row that names them."""
    at = {name: table.columns.index(name) for name in table.columns}
    rows: dict[str, _Row] = {}
    own: dict[str, str] = {}  # path → where a row of its own declared it
    for line, place, cells in table.records:
        steps = [cells[at[level]].strip() for level in found.levels]
        while steps and not steps[-1]:
            steps.pop()
        if not steps or not all(steps):
            gap = next((level for level, step in zip(found.levels, steps, strict=False) if not step), found.levels[0])
            faults.add(f"{place}: an empty {gap}; fill the path from the left, without gaps", line)
            continue
        path = ""
        for step in steps:
            above, path = path, f"{path}/{escaped(step)}" if path else escaped(step)
            rows.setdefault(path, _Row(path, step, (above,) if above else (), "", 1.0, line, place))
        if path in own:
            faults.add(f"{place}: {path!r} is on {own[path]} already; keep one", line)
            continue
        own[path] = place
        rows[path] = rows[path]._replace(
            text=cells[at[found.text]].strip() if found.text else "",
            weight=weight_of(cells[at[found.weight]], f"{path!r}", faults, line) if found.weight else 1.0,
            line=line,
            at=place,
        )
    return list(rows.values())


def _assembled(rows: Sequence[_Row], gone: Mapping[str, _Row], faults: _Faults, notes: list[str]) -> list[Node]:
    """Nodes from rows: unique ids, parents that exist, no cycle; in the order of the file."""
    by_id: dict[str, _Row] = {}
    for row in rows:
        if row.id in by_id:
            faults.add(f"id {row.id!r} on {row.at} is taken by {by_id[row.id].at}; ids must differ", row.line)
        else:
            by_id[row.id] = row
    above = {row.id: _above(row, by_id, gone, faults) for row in by_id.values()}
    depths = _depths(above, by_id, faults)
    faults.check()
    if several := [row for row in by_id.values() if len(row.parents) > 1]:
        notes.append(
            f"{Path(faults.file).name}: {len(several):,} rows name several parents (first: {several[0].id!r},"
            f" {several[0].at}); each is placed under the first it names"
        )
    if moved := sum(bool(row.parents) and row.parents[0] in gone for row in by_id.values()):
        notes.append(
            f"{Path(faults.file).name}: {moved:,} nodes hang on a higher node, because {faults.key('exclude')} took "
            "their parent"
        )
    paths: dict[str, str] = {}
    for key in sorted(by_id, key=depths.__getitem__):
        up = above[key]
        segment = escaped(by_id[key].label)
        paths[key] = faults.spell(segment if up is None else f"{paths[up]}/{segment}")
    if twins := len(paths) - len(set(paths.values())):
        notes.append(f"{Path(faults.file).name}: {twins:,} nodes share their label with a sibling; ids tell them apart")
    return [
        Node(
            id=row.id,
            label=row.label,
            path=paths[row.id],
            depth=depths[row.id],
            parent=above[row.id],
            text=row.text,
            weight=row.weight,
            where=f"{faults.file}:{row.line}" if row.line else f"{faults.file} ({row.at})",
        )
        for row in by_id.values()
    ]


def _above(row: _Row, by_id: Mapping[str, _Row], gone: Mapping[str, _Row], faults: _Faults) -> str | None:
    """The id of the node's place in the tree, or None for a root."""
    for named in row.parents:
        if named == row.id:
            faults.add(f"{row.at}: {row.id!r} is its own parent; leave the cell empty for a root", row.line)
            return None
        if named not in by_id and named not in gone:
            # a near name costs 10 ms among 5,000: only for the faults that will be listed
            close = nearest(named, list(islice(by_id, 5_000))) if len(faults.listed) < MAX_FAULTS else ""
            message = (
                f"{row.at}: parent {named!r} of {row.id!r} is no row's id{close}; add its row, or leave the cell empty"
            )
            faults.add(message, row.line)
            return None
    up = row.parents[0] if row.parents else None
    passed = set()
    while up is not None and up not in by_id:
        if up in passed:
            return None
        passed.add(up)
        higher = gone[up].parents if up in gone else ()
        up = higher[0] if higher else None
    if up == row.id:
        faults.add(
            f"{row.at}: {row.id!r} lies below itself, through rows that {faults.key('exclude')} takes out", row.line
        )
        return None
    return up


def _depths(above: Mapping[str, str | None], by_id: Mapping[str, _Row], faults: FileFaults) -> dict[str, int]:
    """Each node's level from 0; a cycle is a fault that names its members."""
    depths: dict[str, int] = {}
    for start in above:
        line: list[str] = []
        on_line: set[str] = set()
        here: str | None = start
        while here is not None and here not in depths and here not in on_line:
            line.append(here)
            on_line.add(here)
            here = above[here]
        if here is not None and here in on_line:
            ring = line[line.index(here) :]
            told = " → ".join(f"{key!r} ({by_id[key].at})" for key in ring[:_RING]) + (
                " → …" if len(ring) > _RING else ""
            )
            first = min((by_id[key] for key in ring), key=lambda row: row.line)
            faults.add(f"a cycle of parents: {told} → {here!r}; one of them needs an empty parent", first.line)
            depths.update(dict.fromkeys(line, 0))
            continue
        depth = depths[here] if here is not None else -1
        for key in reversed(line):
            depth += 1
            depths[key] = depth
            if depth == MAX_DEPTH:
                row = by_id[key]
                faults.add(f"{row.at}: {key!r} lies more than {MAX_DEPTH} levels deep; flatten the tree", row.line)
    return depths


def _rooted(nodes: Sequence[Node], roots: Iterable[str], faults: _Faults) -> list[Node]:
    """The nodes with these ids or paths, and all below them; depth and path start anew, ids stay."""
    ids = {node.id: node.id for node in nodes}
    by_path: dict[str, list[str]] = {}
    for node in nodes:
        by_path.setdefault(node.path, []).append(node.id)
    wanted: set[str] = set()
    for root in roots:
        found = [ids[root]] if root in ids else by_path.get(root, [])
        if len(found) != 1:
            why = f"names {len(found)} nodes; give an id" if found else "is no node's id or path"
            close = "" if found else nearest(root, [*list(ids)[:5_000], *list(by_path)[:5_000]])
            faults.add(f"{faults.key('root')} {root!r} {why}{close}")
        wanted.update(found[:1])
    by_id = {node.id: node for node in nodes}
    base: dict[str, str | None] = {}
    for start in nodes:  # each node's topmost wanted ancestor, walked once per node
        line = []
        here: str | None = start.id
        while here is not None and here not in base:
            line.append(here)
            here = by_id[here].parent
        held = base[here] if here is not None else None
        for key in reversed(line):
            held = held if held is not None else (key if key in wanted else None)
            base[key] = held
    kept = []
    for node in nodes:
        top_id = base[node.id]
        if top_id is None:
            continue
        top = by_id[top_id]
        lost = len(top.path) - len(escaped(top.label))
        parent = None if node.id == top_id else node.parent
        kept.append(replace(node, path=node.path[lost:], depth=node.depth - top.depth, parent=parent))
    return kept
