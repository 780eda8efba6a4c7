"""`qdcgen label`: people say of rows, one at a time and blind, whether they are good; or a file says it for them."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import select
import signal
import sys
import termios
import tty
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from qdcgen import labelled, parts, review, rounds, tables
from qdcgen.errors import UsageError
from qdcgen.generate import column_types
from qdcgen.labelled import Label
from qdcgen.report.figures import number, plural
from qdcgen.safe import printable
from qdcgen.store import Store, dumps, rows_of
from qdcgen.worth import kappa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from qdcgen.labelled import Place
    from qdcgen.recipe import Recipe

__all__ = ["label", "label_text"]

GOOD = frozenset({"good", "yes", "y", "1", "1.0", "true"})
BAD = frozenset({"bad", "no", "n", "0", "0.0", "false"})
SKIP = frozenset({"skip", "s"})

SHOWN = 10
"""Faults of a file that a message names."""

HELP = """\
y   good: you would want this row in the data
n   bad: it is wrong, or not what was asked for
s   skip: you cannot tell; it is not shown again
u   undo: back to the row before, its label taken away
space, ↓   more of a long row; b, ↑   back
q   quit; every key has been saved already

You see neither what the filters said nor how rows were
chosen: some were accepted, some rejected by some filter."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A row as people see it: what it was asked to be, and what came."""

    asked: Mapping[str, str]
    fields: Mapping[str, str]


def label(
    where: Path, *, rows: int, seed: int, by: str, source: Path | None = None, to: Path | None = None
) -> dict[str, Any]:
    """Label rows of a run at the terminal; or take labels from the file `source`; or write rows to label to `to`.

    Gives what `label_text` says and `--json` prints.

    Raises:
        UsageError: there is no terminal, the file's labels cannot be used, or there is nothing to label.
        RunLocked: a run is writing to the folder.
    """
    if source is not None and to is not None:
        raise UsageError("--from and --to: one at a time; write rows with --to, label them, then read them with --from")
    if not by.strip():
        raise UsageError("--by: expected a name, found nothing")
    folder = review.run_folder(where)
    if source is None and to is None and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "label shows rows and reads keys, and here is no terminal; "
            f"type: qdcgen label {folder} --to todo.csv, fill in its column label, then: qdcgen label {folder} "
            "--from todo.csv"
        )
    with Store(folder) as store:
        recipe = review.recipe_at(store, where)
        tried = rounds.attempts(store, recipe)
        standing = labelled.places(store, tried)
        if not standing:
            raise UsageError(f"{folder}: no row has been made and judged yet, so there is nothing to label")
        work = _Work(store, recipe, standing, rows, seed, by, labelled.load(store))
        did: dict[str, Any] = {}
        if source is not None:
            did = _taken(work, source)
        elif to is not None:
            did = _written(work, to)
        elif work.todo():
            _Session(work).run()
        return {"folder": str(folder), "by": by, "seed": seed, "rows": rows, **did, **_counts(work)}


@dataclass
class _Work:
    """The run, its rows in the order to be labelled, and the labels so far."""

    store: Store
    recipe: Recipe
    standing: Mapping[str, Place]
    rows: int
    seed: int
    by: str
    labels: list[Label]
    order: list[str] = field(init=False)
    contents: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Draw the order; labels of rows that say something else by now do not count."""
        filters = [name for name, _ in self.recipe.judges]
        self.order = labelled.order(self.standing, filters, self.seed)
        drawn = self.order[: self.rows + len(self.labels)]
        self.contents = labelled.contents(self.store, self.recipe, {*drawn, *(one.row for one in self.labels)})

    def counts(self, one: Label) -> bool:
        """Whether the label is of a row that stands, and says what it said."""
        return one.row in self.standing and self.contents.get(one.row) == one.content

    def mine(self) -> list[Label]:
        """This person's labels that count, passed rows among them."""
        return [one for one in self.labels if one.by == self.by and self.counts(one)]

    def todo(self) -> list[str]:
        """Rows that this person is still to see."""
        seen = {one.row for one in self.mine()}
        return [row for row in self.order if row not in seen][: max(0, self.rows - len(seen))]

    def made(self, row: str, good: bool | None, *, by: str = "", how: str = "keys") -> Label:  # noqa: FBT001
        """A label of a row as it is now."""
        place = self.standing[row]
        return Label(row, by or self.by, good, self.contents[row], place.stratum, place.of, place.judges, how)

    def save(self) -> None:
        """Write all labels down."""
        labelled.save(self.store, self.labels)

    def shown(self, rows: Sequence[str]) -> dict[str, Shown]:
        """What people see of these rows."""
        recipe, types = self.recipe, column_types(self.recipe)
        fields, layers = ({name: types[name] for name in of} for of in (recipe.fields, recipe.layers))
        wanted = pl.Series(list(rows), dtype=pl.String).implode()
        found: dict[str, Shown] = {}
        for name in self.store.names("raw"):
            frame = self.store.table(name).filter(pl.col("_id").is_in(wanted))
            for row, said in zip(rows_of(frame, fields, layers), frame.iter_rows(named=True), strict=True):
                asked = {axis: said[axis] for axis in recipe.taxonomies if said[axis] is not None}
                asked |= {axis: _asked(value) for axis, value in row.cell.values.items() if value is not None}
                found[row.id] = Shown(asked, {of: _text(value) for of, value in row.fields.items()})
        return found


def _asked(value: Any) -> str:
    return str(value["text"]) if isinstance(value, dict) and "text" in value else parts.word(value)


def _text(value: Any) -> str:
    """A field for people: text as it is, turns one after another, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, dict) and set(one) == _TURN for one in value):
        return "\n".join(f"{one['role']}: {one['content']}" for one in value)
    return dumps(value).decode().rstrip("\n")


_TURN = {"role", "content"}


# ── at the terminal ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Session:
    """Shows one row after another and reads keys. Each key is saved before the next row is shown."""

    def __init__(self, work: _Work) -> None:
        self.work = work
        self.rows = work.todo()
        self.shown = work.shown(self.rows)
        self.at = 0
        self.top = 0
        self.page = 1
        self.helping = False
        self.signals = -1
        self.keyboard, self.screen = sys.stdin.fileno(), sys.stderr.fileno()

    def run(self) -> None:
        """Until every row has its label, or the person leaves. The terminal is left as it was found."""
        before = termios.tcgetattr(self.keyboard)

        def again(_number: int, _frame: object) -> None:  # back from the background, or another size
            tty.setcbreak(self.keyboard)
            self.draw()

        def leave(number: int, _frame: object) -> None:
            sys.exit(128 + number)

        heard: dict[int, Callable[[int, object], None]] = {signal.SIGCONT: again, signal.SIGWINCH: again}
        # Also of SIGINT: who was started in the background of a script inherits that it is ignored.
        heard |= dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), leave)
        handlers = {number: signal.signal(number, handler) for number, handler in heard.items()}
        # A signal that comes just before a read would wait for the next key: its number in a pipe ends the wait.
        self.signals, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told)
        try:
            tty.setcbreak(self.keyboard)
            while self.at < len(self.rows):
                self.draw()
                if not self.press(self.key()):
                    break
        finally:
            signal.set_wakeup_fd(-1)
            os.close(told)
            os.close(self.signals)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            with contextlib.suppress(termios.error):  # the terminal itself is gone
                termios.tcflush(self.keyboard, termios.TCIFLUSH)  # keys too many are not for the shell
                termios.tcsetattr(self.keyboard, termios.TCSANOW, before)
            with contextlib.suppress(OSError):
                self.write("\n")

    def key(self) -> str:
        """One key; empty where the terminal is gone."""
        while self.keyboard not in (ready := select.select([self.keyboard, self.signals], [], [])[0]):
            os.read(self.signals, len(ready))
        try:
            read = os.read(self.keyboard, 1)
        except OSError:
            return ""
        if read != b"\x1b":
            return read.decode("ascii", "replace").lower()
        rest = b""
        while select.select([self.keyboard], [], [], 0.02)[0] and (more := os.read(self.keyboard, 1)):
            rest += more  # an arrow is three bytes or more, none of which is a label
        return _ARROWS.get(rest, "\x1b")

    def press(self, key: str) -> bool:
        """Do what the key says. False: leave."""
        if key in ("", "q", "\x04"):
            return False
        if self.helping or key == "?":
            self.helping = not self.helping
            return True
        if key in _LABELS:
            work = self.work
            work.labels.append(work.made(self.rows[self.at], _LABELS[key]))
            work.save()
            self.at, self.top = self.at + 1, 0
        elif key == "u":
            self.undo()
        elif key in (" ", "b"):
            self.top = max(0, self.top + (self.page if key == " " else -self.page))
        return True

    def undo(self) -> None:
        """Back to the row that this person labelled last by a key, in this session or an earlier one."""
        work = self.work
        last = next((one for one in reversed(work.mine()) if one.how == "keys"), None)
        if last is None:
            return
        work.labels.remove(last)
        work.save()
        if self.at and self.rows[self.at - 1] == last.row:
            self.at -= 1
        else:
            self.rows.insert(self.at, last.row)
            self.shown |= work.shown([last.row])
        self.top = 0

    def draw(self) -> None:
        """The row on the screen, from `top` on."""
        if self.at >= len(self.rows):
            return
        width, height = _size(self.screen)
        mine = self.work.mine()
        done = len(mine)
        good, bad = (sum(one.good is said for one in mine) for said in (True, False))
        title = (
            f"{self.work.recipe.name} · row {done + 1} of {done + len(self.rows) - self.at} · {good} good, {bad} bad"
        )
        keys = "y good · n bad · s skip · u undo · q quit · ? help"
        head = [*_wrapped(title, width), ""]
        foot = _wrapped(keys, width)
        body = HELP.split("\n") if self.helping else _body(self.shown[self.rows[self.at]], width)
        if self.helping:
            body, foot = [line for one in body for line in _wrapped(one, width)], ["any key: back to the row"]
        room = max(1, height - len(head) - len(foot) - 3)
        self.page = max(1, room - 1)
        self.top = min(self.top, max(0, len(body) - room))
        shown = body[self.top : self.top + room]
        more = ""
        if len(body) > room:
            more = f"lines {self.top + 1}–{self.top + len(shown)} of {len(body)} · space more · b back"
        clear = "" if os.environ.get("TERM", "dumb") == "dumb" else "\x1b[H\x1b[2J"
        self.write(clear + "\n".join([*head, *shown, "", *_wrapped(more, width), *foot, "> "]))

    def write(self, text: str) -> None:
        """All of it to the screen. `text` holds no control byte of any data."""
        left = text.encode("utf-8", "replace")
        while left:
            left = left[os.write(self.screen, left) :]


_LABELS: dict[str, bool | None] = {"y": True, "n": False, "s": None}
_ARROWS = {b"[A": "b", b"[B": " ", b"[5~": "b", b"[6~": " "}


def _size(screen: int) -> tuple[int, int]:
    """Columns and lines; a terminal that does not say has 80 by 24."""
    with contextlib.suppress(OSError):
        columns, lines = os.get_terminal_size(screen)
        if columns and lines:
            return max(columns, _NARROWEST), max(lines, _LOWEST)
    return 80, 24


_NARROWEST, _LOWEST = 20, 8


def _body(row: Shown, width: int) -> list[str]:
    """A row set in lines: what it was asked to be, then its fields."""
    lines = ["asked for"]
    for axis, value in row.asked.items():
        lines += [f"  {line}" for line in _wrapped(f"{axis}: {value}", width - 2)]
    for name, text in row.fields.items():
        lines += ["", *_wrapped(name, width), *(f"  {line}" for line in _wrapped(text, width - 2))]
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells, without any control character."""
    from rich.cells import cell_len, chop_cells

    found: list[str] = []
    for line in printable(text, lines=True).expandtabs(4).split("\n"):
        now = ""
        for word in line.split(" "):
            longer = f"{now} {word}" if now else word
            if cell_len(longer) <= width:
                now = longer
                continue
            if now:
                found.append(now)
            *whole, now = chop_cells(word, width) or [""]
            found += whole
        found.append(now)
    return found


# ── from and to files ───────────────────────────────────────────────────────────────────────────────────────────────


def _written(work: _Work, to: Path) -> dict[str, Any]:
    """Write the rows that this person is still to label to a CSV file, without what filters said."""
    if to.suffix.lower() != ".csv":
        raise UsageError(f"--to {to}: expected a file ending in .csv")
    rows = work.todo()
    if not rows:
        return {"written": 0, "to": str(to)}
    shown = work.shown(rows)
    axes, fields = ([*dict.fromkeys(name for row in rows for name in of(shown[row]))] for of in (_axes, _fields))
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\r\n")  # so that a bare \r is quoted, at which readers break lines too
    sheet.writerow(["_id", "label", *map(_cell, axes), *map(_cell, fields), "_content"])
    for row in rows:
        asked, said = shown[row].asked, shown[row].fields
        cells = [*(asked.get(axis, "") for axis in axes), *(said.get(name, "") for name in fields)]
        sheet.writerow([row, "", *map(_cell, cells), work.contents[row]])
    try:
        with to.open("x", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
    except FileExistsError:
        raise UsageError(f"--to {to}: there is such a file already, perhaps with labels in it; name another") from None
    except (OSError, UnicodeEncodeError) as error:
        raise UsageError(f"--to {to}: cannot be written: {error}") from None
    return {"written": len(rows), "to": str(to)}


def _axes(row: Shown) -> Mapping[str, str]:
    return row.asked


def _fields(row: Shown) -> Mapping[str, str]:
    return row.fields


def _cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: one that begins like it gets a ' before it."""
    return f"'{text}" if text[:1] in set("=+-@\t\r") else text


def _taken(work: _Work, source: Path) -> dict[str, Any]:
    """Take every label of the file, or, where one cannot be used, none."""
    found = list(_read(source))
    table = {(one.row, one.by or work.by): one for one in found}
    work.contents |= labelled.contents(work.store, work.recipe, {one.row for one in found} - set(work.contents))
    faults = [*_faults(found, work)]
    if faults:
        more = f"\nand {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UsageError(f"{source}: no label was taken:\n" + "\n".join(faults[:SHOWN]) + more)
    said = {key: one.good for key, one in table.items() if one.told}
    before = {(one.row, one.by): one.good for one in work.labels if work.counts(one)}
    changed = sum(1 for key, good in said.items() if key in before and before[key] is not good)
    same = {key for key, good in said.items() if key in before and before[key] is good}
    work.labels = [one for one in work.labels if (one.row, one.by) not in said or (one.row, one.by) in same]
    work.labels += [
        work.made(row, good, by=by, how="file") for (row, by), good in said.items() if (row, by) not in same
    ]
    work.save()
    return {"taken": len(said), "changed": changed, "empty": len(found) - sum(one.told for one in found)}


@dataclass(frozen=True, slots=True)
class _Line:
    """One row of a file of labels."""

    number: int
    row: str
    by: str
    said: str
    content: str

    @property
    def told(self) -> bool:
        """Whether there is a label at all."""
        return bool(self.said)

    @property
    def good(self) -> bool | None:
        """What it says."""
        return True if self.said in GOOD else False if self.said in BAD else None


def _read(source: Path) -> Iterator[_Line]:
    frame = tables.read(source)
    ids = next((name for name in ("_id", "id") if name in frame.columns), None)
    if ids is None or "label" not in frame.columns:
        raise UsageError(
            f"{source}: expected the columns _id (or id) and label, found {', '.join(frame.columns)}; "
            "qdcgen label RUN --to todo.csv writes such a file"
        )
    for number_, cells in enumerate(frame.iter_rows(named=True), 1):

        def cell(name: str, cells: Mapping[str, Any] = cells) -> str:
            value = cells.get(name)
            return "" if value is None else str(value).strip()

        # Names are hexadecimal: one that has no letters reads as a number, without its first zeros.
        row, content = (
            cell(name).zfill(_DIGITS) if isinstance(cells.get(name), int) else cell(name) for name in (ids, "_content")
        )
        yield _Line(number_, row, cell("by"), cell("label").lower(), content)


_DIGITS = 16


def _faults(found: Sequence[_Line], work: _Work) -> Iterator[str]:
    """What keeps the labels from being taken, by row of the file."""
    first: dict[tuple[str, str], _Line] = {}
    for one in found:
        if one.row not in work.standing:
            made = (
                "was made, and is not in the run as it is now" if one.row in work.contents else "is no row of this run"
            )
            yield f"  row {one.number}: {one.row[:40]!r} {made}"
        elif one.content and one.content != work.contents[one.row]:
            yield f"  row {one.number}: {one.row!r} says something else by now; write it out again with --to"
        elif one.told and one.said not in GOOD | BAD | SKIP:
            said = one.said[:40]
            yield f"  row {one.number}: the label {said!r}; expected good or bad, yes or no, 1 or 0, or nothing"
        elif one.told:
            before = first.setdefault((one.row, one.by or work.by), one)
            if before.good is not one.good:
                yield f"  rows {before.number} and {one.number}: {one.row!r} is {before.said!r} and {one.said!r}"


# ── what came of it ─────────────────────────────────────────────────────────────────────────────────────────────────


def _counts(work: _Work) -> dict[str, Any]:
    """How many labels there are, whose, and how far people agree."""
    valid = [one for one in work.labels if work.counts(one)]
    told = [one for one in valid if one.good is not None]
    people: dict[str, dict[str, int]] = {}
    by_row: dict[str, list[tuple[str, bool]]] = {}
    for one in valid:
        mine = people.setdefault(one.by, {"good": 0, "bad": 0, "skipped": 0})
        mine["skipped" if one.good is None else "good" if one.good else "bad"] += 1
    for one in told:
        by_row.setdefault(one.row, []).append((one.by, bool(one.good)))
    (value, between), rows, note = kappa(list(by_row.values()), work.seed)
    agreement = {"kappa": value, "interval": between, "rows": rows, "note": note} if rows else None
    return {
        "people": people,
        "labelled": len(by_row),
        "left": len(work.todo()),
        "judged": len(work.standing),
        "ignored": len(work.labels) - len(valid),
        "agreement": agreement,
    }


def label_text(found: Mapping[str, Any]) -> str:
    """What was done and what to type next, in a few lines."""
    folder, lines = found["folder"], []
    if "written" in found:
        if found["written"]:
            lines.append(
                f"{plural(found['written'], 'row')} to label in {found['to']}; fill in the column label (good or bad), "
                f"then: qdcgen label {folder} --from {found['to']}"
            )
        else:
            lines.append(f"nothing written: {_all(found)}")
    if "taken" in found:
        more = f", {found['changed']} of them other than before" if found["changed"] else ""
        empty = f"; {plural(found['empty'], 'row')} without a label" if found["empty"] else ""
        lines.append(f"{plural(found['taken'], 'label')} taken{more}{empty}")
    for who, counts in found["people"].items():
        lines.append(f"{who}: {counts['good']} good, {counts['bad']} bad, {counts['skipped']} skipped")
    if agreed := found["agreement"]:
        value, between = agreed["kappa"], agreed["interval"]
        span = f" ({number(between[0], fraction=True)} to {number(between[1], fraction=True)})" if between else ""
        lines.append(f"agreement: κ {number(value, fraction=True)}{span}; {agreed['note']}")
    if found["ignored"]:
        lines.append(f"{plural(found['ignored'], 'label')} of rows that are gone or say something else: not counted")
    if "written" not in found:
        go_on = f"qdcgen label {folder}{_options(found)}"
        lines.append(f"{found['left']} left; go on with: {go_on}" if found["left"] else _all(found))
    if found["labelled"]:
        lines.append(f"what they say of the filters: qdcgen report {folder}")
    return "\n".join(lines)


def _all(found: Mapping[str, Any]) -> str:
    """Why nothing is left, and what to type for more."""
    said = sum(sum(counts.values()) for who, counts in found["people"].items() if who == found["by"])
    if said >= found["judged"]:
        return f"all {found['judged']} rows of this run are labelled by {found['by']}"
    rows = min(found["judged"], said + found["rows"])
    so_far = f"{said} of {found['rows']} rows" if said <= found["rows"] else plural(said, "row")
    more = f"qdcgen label {found['folder']}{_options({**found, 'rows': rows})}"
    return f"{so_far} are labelled by {found['by']}; for more: {more}"


def _options(found: Mapping[str, Any]) -> str:
    """What was typed, where it is not what goes without saying."""
    said = "" if found["rows"] == ROWS else f" --rows {found['rows']}"
    said += "" if found["by"] == BY else f" --by {found['by']}"
    return said + (f" --seed {found['seed']}" if found["seed"] else "")


ROWS = 50
BY = "me"
