"""The run folder: whole files only.

Every file is written under a temporary name, synced, renamed, and its folder synced; then the manifest, the same way,
takes it in with its rows and SHA-256. A file that the manifest does not list is not there: it is what a kill left
between the two steps, and the next run sweeps it away and makes it again from the journal. Files that are replaced are
first announced in the manifest as pending, all of one commit together: every instant is a folder that verifies, and the
next writer finishes a commit that was announced.

The one place that writes Parquet. Costs about 8 ms a file on these disks, nearly all of it in two fsyncs.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson

from qdcgen.errors import RunDamaged, RunError, RunLocked
from qdcgen.rows import Cell, Row, mix_key, mix_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

__all__ = [
    "FOLDERS",
    "FORMAT",
    "LABELS",
    "REJUDGING",
    "Kind",
    "Store",
    "digest",
    "dumps",
    "frame_of",
    "loads",
    "packed",
    "rows_of",
]

FORMAT = 1
"""Version of the folder's layout; a folder of another is refused by name."""

FOLDERS = ("axes", "plan", "raw", "verdicts", "data", "rejected")
REJUDGING = "rejudging.json"
"""There while rows are judged anew, because filters changed; says whether every planned row had been made."""
LABELS = "labels.json"
"""What people said of rows; no run takes it out."""
_SWEPT = frozenset(FOLDERS) - {"axes"}
"""Where a file that no manifest lists is a kill's; an axis may have been laid there by a person."""
_OURS = re.compile(
    r"(?:axes/[A-Za-z0-9_]+\.json|(?:plan|raw|verdicts|data|rejected)/[a-z0-9-]+\.parquet|[a-z_]+\.(?:json|md|parquet|yaml))\Z"
)
_TEMPORARY = re.compile(r".*\.[0-9]+\.tmp\Z")


@dataclass(frozen=True, slots=True)
class Kept:
    """What the manifest says of one file. `rows` is None for files that hold no table; `by` is who made it."""

    rows: int | None
    sha256: str
    by: str = ""


class Store:
    """One run folder, held by one writer at a time. `with Store(folder) as store:` takes the lock."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read or created yet."""
        self.folder = folder
        self.files: dict[str, Kept] = {}
        self._lock: int | None = None

    # ── opening ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Self:
        """Create the folder if needed, take the lock, sweep what a kill left.

        Raises:
            RunLocked: another process holds it; names host and process.
            RunDamaged: the manifest is unreadable or of another format.
        """
        try:
            for name in FOLDERS:
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunError(f"{self.folder}: cannot be written to: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._lock, 200, 0).decode("utf-8", "replace").strip() or "another process"
            os.close(self._lock)
            self._lock = None
            raise RunLocked(f"{self.folder}: {holder} is writing to it; wait for it, or choose another --out") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        try:
            self.files = self._read_manifest()
            self._sweep()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let the lock go; the kernel does so for a process that dies."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def peek(self) -> Store:
        """Read the manifest without the lock, for commands that only look.

        Raises:
            RunError: there is no run in this folder.
        """
        if not (self.folder / "manifest.json").is_file():
            raise RunError(f"{self.folder}: no run here (no manifest.json); qdcgen run makes one")
        self.files = self._read_manifest()
        return self

    def _read_manifest(self) -> dict[str, Kept]:
        path = self.folder / "manifest.json"
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror}") from None
        try:
            said = orjson.loads(text)
            if said["format"] != FORMAT:
                raise RunDamaged(f"{path}: folder of format {said['format']}; this qdcgen reads format {FORMAT}")
            files = {name: Kept(**entry) for name, entry in said["files"].items()}
            begun = said.get("pending") or {"process": 0, "files": {}, "gone": []}
            pending = {name: Kept(**entry) for name, entry in begun["files"].items()}
            process, gone = int(begun["process"]), [str(name) for name in begun["gone"]]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"{path}: no longer a readable manifest ({error}); restore it, or move the folder away"
            raise RunDamaged(message) from None
        if strange := [name for name in (*files, *pending) if not _OURS.match(name)]:
            raise RunDamaged(f"{path}: lists {strange[0]!r}, which is no file of a run; restore it from a copy")
        if self._lock is not None:  # only the one writer may finish what another began
            for name, entry in pending.items():
                temporary = self._temporary(name, process)
                if self._digest(name) != entry.sha256 and _digest_of(temporary) == entry.sha256:
                    temporary.replace(self.folder / name)
        placed = {name: entry for name, entry in pending.items() if self._digest(name) == entry.sha256}
        if len(placed) == len(pending):
            files = {name: entry for name, entry in files.items() if name not in gone}
        return files | placed

    def _sweep(self) -> None:
        """Remove what a kill left behind: temporary files, and finished files that no manifest lists."""
        for path in self._on_disk():
            name = path.relative_to(self.folder).as_posix()
            if _TEMPORARY.match(name) or (
                name not in self.files and name.split("/")[0] in _SWEPT and _OURS.match(name)
            ):
                path.unlink()

    def _on_disk(self) -> Iterator[Path]:
        for root in (self.folder, *(self.folder / name for name in FOLDERS)):
            if root.is_dir():
                yield from (path for path in sorted(root.iterdir()) if path.is_file())

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def commit(
        self, files: Mapping[str, tuple[bytes, int | None]], *, by: str = "", drop: tuple[str, ...] = ()
    ) -> None:
        """Put whole files in place, and take others out.

        After a kill at any instant the next `with Store(folder)` finds all old or all new: where files are replaced or
        taken out, the manifest first says so, and whoever opens the folder then finishes it. Files that are only added
        may be there in part; each is whole.

        `files`: name → (bytes, rows). Files that already stand with the same bytes are left alone. `by` is kept beside
        each, and says what it was made from.

        Raises:
            RunError: the disk refused a write or a sync; nothing is listed that is not whole.
        """
        new = {name: Kept(rows, sha256(content).hexdigest(), by) for name, (content, rows) in files.items()}
        changed = [
            name for name, entry in new.items() if self.files.get(name) != entry or not (self.folder / name).exists()
        ]
        gone = [name for name in drop if name in self.files]
        if not changed and not gone:
            return
        temporary = {name: self._temporary(name, os.getpid()) for name in changed}
        announced = False
        try:
            if len(temporary) > 1:
                with ThreadPoolExecutor(8) as pool:  # syncs wait for the disk, so they may wait together
                    list(pool.map(_write, temporary.values(), [files[name][0] for name in temporary]))
            else:
                for name, path in temporary.items():
                    _write(path, files[name][0])
            if gone or any(name in self.files for name in changed):
                # From here on it is done, even if this process is not: whoever opens the folder next goes on with it.
                self._write_manifest({"files": {name: new[name] for name in changed}, "gone": gone})
                announced = True
            for name, path in temporary.items():
                path.replace(self.folder / name)
            for parent in {path.parent for path in temporary.values()}:
                _sync_folder(parent)
            self.files = {name: entry for name, entry in self.files.items() if name not in gone}
            self.files.update({name: new[name] for name in changed})
            self._write_manifest()
            for name in gone:
                (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            for path in () if announced else temporary.values():
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            with contextlib.suppress(RunError):
                self.files = self._read_manifest()  # some of the pending files may be in place already
            what = f"{error.strerror or error} while writing {', '.join(changed[:3])}"
            raise RunError(f"{self.folder}: {what}; what was listed stands") from None

    def _temporary(self, name: str, process: int) -> Path:
        return self.folder / f"{name}.{process}.tmp"

    def _write_manifest(self, pending: Mapping[str, Any] | None = None) -> None:
        said: dict[str, Any] = {"format": FORMAT, "files": {name: _entry(e) for name, e in sorted(self.files.items())}}
        if pending:
            files = {name: _entry(entry) for name, entry in sorted(pending["files"].items())}
            said["pending"] = {"process": os.getpid(), "files": files, "gone": pending["gone"]}
        path = self.folder / f"manifest.json.{os.getpid()}.tmp"
        _write(path, dumps(said))
        path.replace(self.folder / "manifest.json")
        _sync_folder(self.folder)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def names(self, folder: str) -> list[str]:
        """Listed files of one folder, in order."""
        return sorted(name for name in self.files if name.startswith(f"{folder}/"))

    def table(self, name: str, columns: list[str] | None = None, *, leave: Sequence[str] = ()) -> pl.DataFrame:
        """One listed Parquet file, only `columns` of it when given, and none of `leave`.

        Raises:
            RunDamaged: it is gone, or its bytes changed.
        """
        import polars as pl

        content = io.BytesIO(self.bytes(name))
        if leave:
            columns = [column for column in columns or pl.read_parquet_schema(content) if column not in leave]
            content.seek(0)
        return pl.read_parquet(content, columns=columns)

    def bytes(self, name: str) -> bytes:
        """One listed file, its checksum compared on the way (2 GB/s)."""
        try:
            content = (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise RunDamaged(self._way_out(name, "is missing")) from None
        except OSError as error:
            raise RunError(f"{self.folder / name}: {error.strerror}") from None
        if sha256(content).hexdigest() != self.files[name].sha256:
            raise RunDamaged(self._way_out(name, "was changed after it was written"))
        return content

    def read(self, name: str) -> Any:
        """A listed JSON file as data, or None when it is not listed."""
        return loads(self.bytes(name)) if name in self.files else None

    def verify(self) -> list[str]:
        """Every way in which the folder differs from its manifest, one line each; none: each byte is as written."""
        found = []
        for name, entry in sorted(self.files.items()):
            digest = self._digest(name)
            if digest is None:
                found.append(f"{name}: missing")
            elif digest != entry.sha256:
                found.append(f"{name}: changed ({digest[:12]}…, written as {entry.sha256[:12]}…)")
        found += [
            f"{path.relative_to(self.folder).as_posix()}: not listed in the manifest"
            for path in self._on_disk()
            if path.relative_to(self.folder).as_posix() not in self.files and not _outside(path.name)
        ]
        return found

    def _way_out(self, name: str, what: str) -> str:
        return (
            f"{self.folder / name}: {what}; restore it from a copy, or type: qdcgen verify --repair {self.folder} "
            "(its replies are in the journal, nothing is paid twice)"
        )

    def _digest(self, name: str) -> str | None:
        return _digest_of(self.folder / name)


def _digest_of(path: Path) -> str | None:
    """SHA-256 of a file, None where it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = sha256()
            while block := file.read(2**20):
                digest.update(block)
            return digest.hexdigest()
    except OSError:
        return None


def _outside(name: str) -> bool:
    """Files of the root that the manifest does not hold: itself, the lock, the trace, and the journal."""
    return name in {"manifest.json", "lock"} or name.startswith("calls.sqlite") or name == "trace.jsonl"


def _entry(kept: Kept) -> dict[str, Any]:
    return {"rows": kept.rows, "sha256": kept.sha256, "by": kept.by}


def _write(path: Path, content: bytes) -> None:
    """Write and sync; a failed sync is an error, never retried: the kernel may have dropped the pages."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def packed(frame: pl.DataFrame) -> tuple[bytes, int]:
    """A table as Parquet bytes with its number of rows: what `commit` takes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    return buffer.getvalue(), frame.height


Kind = str | Mapping[str, str] | tuple[Mapping[str, str]]
"""Type of a column: a polars name, `JSON`, `List` (of strings), a type for each key of a struct, or that in a tuple of
one for a list of structs."""

_LABEL = {"field": "String", "drawn": "String", "read": "String"}
_STEP = {"step": "String", "calls": "Int64", "tokens_in": "Int64", "tokens_out": "Int64"}

_OWN = {
    "_id": "String",
    "_mix": "String",
    "_replicate": "Int64",
    "_slot": "Int64",
    "_round": "Int64",
    "_generation": "Int64",
    "_weight": "Float64",
    "_complexity": "String",
    "_labels": "",
    "_calls": "Int64",
    "_tokens_in": "Int64",
    "_tokens_out": "Int64",
    "_usd": "Float64",
    "_models": "String",
    "_notes": "String",
    "_steps": "",
    "_fault": "String",
    "_reason": "String",
}
"""qdcgen's own columns of `raw/`, after the fields and the axes."""


def frame_of(
    rows: Sequence[Row], round_: int, types: Mapping[str, Kind], paths: Mapping[str, Mapping[str, str]]
) -> pl.DataFrame:
    """Rows as a table, in order: fields, then axes, then qdcgen's own columns.

    `types`: field or layer → polars type name, `JSON` for what is kept as JSON text, or a type name for each key of a
    struct. `paths`: taxonomy → node id →
    path; the taxonomies' columns hold paths.
    """
    import polars as pl

    columns: dict[str, list[Any]] = {name: [] for name in (*types, *paths, *_OWN)}
    for row in rows:
        cell = row.cell
        for name in types:
            columns[name].append(_laid(types[name], row.fields.get(name, cell.values.get(name))))
        for axis, path in paths.items():
            columns[axis].append(path[cell.mix[axis]] if axis in cell.mix else None)
        complexity = row.notes.get("complexity")
        own = (
            row.id,
            mix_key(cell.mix),
            cell.replicate,
            cell.slot,
            round_,
            row.generation,
            None,
            complexity if isinstance(complexity, str) else None,
            _labels(row.notes),
            row.calls,
            row.tokens_in,
            row.tokens_out,
            row.cost,
            ",".join(row.models),
            orjson.dumps(row.notes, option=orjson.OPT_SORT_KEYS).decode(),
            [dict(zip(_STEP, step, strict=True)) for step in row.steps],
            row.fault,
            row.reason,
        )
        for name, said in zip(_OWN, own, strict=True):
            columns[name].append(said)
    schema = {name: _typed(kind) for name, kind in types.items()} | dict.fromkeys(paths, pl.String)
    own_types = {name: _typed(kind) for name, kind in _OWN.items() if kind}
    own_types["_steps"], own_types["_labels"] = pl.List(_typed(_STEP)), pl.List(_typed(_LABEL))
    return pl.DataFrame(columns, schema={**schema, **{name: own_types[name] for name in _OWN}})


def _labels(notes: Mapping[str, Any]) -> list[dict[str, str]] | None:
    """What each label was and what its blind reader said, as the step `correct` noted it; None: nobody read."""
    said = notes.get("correct")
    if not isinstance(said, dict):
        return None
    return [{"field": name, "drawn": str(one["drawn"]), "read": str(one["read"])} for name, one in said.items()]


def _typed(kind: Kind) -> Any:
    import polars as pl

    if isinstance(kind, tuple):
        return pl.List(_typed(kind[0]))
    if not isinstance(kind, str):
        return pl.Struct({key: _typed(inner) for key, inner in kind.items()})
    return {"JSON": pl.String, "List": pl.List(pl.String)}.get(kind) or getattr(pl, kind)


def _laid(kind: Kind, said: Any) -> Any:
    if said is None:
        return None
    if isinstance(kind, tuple):
        return [_laid(kind[0], one) for one in said]
    if not isinstance(kind, str):
        return {key: _laid(inner, said.get(key)) for key, inner in kind.items()}
    if kind == "JSON":
        return orjson.dumps(said).decode()
    if kind == "Int64" and isinstance(said, float):
        return int(said)  # JSON Schema calls 3.0 an integer, and so do we
    return said


def rows_of(frame: pl.DataFrame, fields: Mapping[str, Kind], layers: Mapping[str, Kind]) -> list[Row]:
    """The rows that `frame_of` laid out; `fields` and `layers`: name → type."""
    return [
        Row(
            cell=Cell(
                id=said["_id"],
                mix=mix_of(said["_mix"]),
                replicate=said["_replicate"],
                slot=said["_slot"],
                values={axis: _value(said[axis], type_) for axis, type_ in layers.items()},
            ),
            fields={name: _value(said[name], type_) for name, type_ in fields.items() if said[name] is not None},
            notes=orjson.loads(said["_notes"]),
            calls=said["_calls"],
            tokens_in=said["_tokens_in"],
            tokens_out=said["_tokens_out"],
            cost=said["_usd"],
            models=tuple(said["_models"].split(",")) if said["_models"] else (),
            generation=said["_generation"],
            steps=tuple(tuple(step.values()) for step in said["_steps"]),
            fault=said["_fault"],
            reason=said["_reason"],
        )
        for said in frame.iter_rows(named=True)
    ]


def _value(said: Any, kind: Kind) -> Any:
    if said is None:
        return None
    if isinstance(kind, tuple):
        return [_value(one, kind[0]) for one in said]
    if not isinstance(kind, str):
        return {key: _value(said[key], inner) for key, inner in kind.items()}
    return orjson.loads(said) if kind == "JSON" else said


def digest(value: Any) -> str:
    """16 hex digits that stand for plain data, whatever the order of its keys."""
    return sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def dumps(value: Any) -> bytes:
    """JSON for people and diffs: two spaces, a newline at the end."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def loads(content: bytes) -> Any:
    """The value that `dumps` wrote."""
    return orjson.loads(content)
