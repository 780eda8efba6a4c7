"""The error tree. Every message says what was found, what was expected and what to type.

QdcgenError                     exit 1   bare only where a plug-in breaks its contract
├── UsageError                  exit 2   the command line asks for something impossible
├── RecipeError                 exit 2   one or more Faults in a recipe or in a file it names; nothing was spent
├── RunError                    exit 1   a run folder cannot be used as it is
│   ├── RunLocked               exit 2   another process is writing to it
│   ├── RunDiffers              exit 2   it was made by another recipe; lists what differs
│   └── RunDamaged              exit 1   a committed file is missing or its bytes changed
├── RowFault                    (none)   costs one row, never its batch: becomes data in `raw/`
│   └── ReplyFault              (none)   the model answered, and the answer does not fit
├── ModelRefused                exit 5   key, quota or permission: stop the run, everything saved
├── TryAgain                    (none)   one try of one call failed and another may not; never leaves qdcgen/model/
├── Incomplete                  exit 4   shortfall, cap, outage or pending batch; run again to go on
│   ├── Stopped                 exit 4   asked to stop; the command line ends with 130 or 143
│   ├── CapReached              exit 4   the next call could exceed a cap of the recipe
│   └── Deferred                exit 4   this call waits in a provider's batch
├── MissingExtra                exit 2   an optional dependency is not installed; says what to type
└── UnknownPart                 exit 2   no part of that name (in qdcgen/parts.py)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = [
    "GO_ON",
    "CapReached",
    "Deferred",
    "Fault",
    "Incomplete",
    "MissingExtra",
    "ModelRefused",
    "QdcgenError",
    "RecipeError",
    "ReplyFault",
    "RowFault",
    "RunDamaged",
    "RunDiffers",
    "RunError",
    "RunLocked",
    "Stopped",
    "TryAgain",
    "UsageError",
    "nearest",
]

GO_ON = "What was answered is saved; run again to go on"
"""How a report's remark ends on figures that a model had to be asked for and was not asked for to the end."""


def nearest(word: str, known: list[str], least: float = 0.6) -> str:
    """`"; did you mean 'length'?"`, or the empty string when nothing known is close to `word`.

    What differs in nothing but case is nearest; else what has at least this share of letters in common (0 … 1).
    """
    from difflib import get_close_matches  # 9 ms, and only a user who mistyped pays it

    cased = [one for one in known if one.casefold() == str(word).casefold()]
    close = cased or get_close_matches(str(word), known, n=1, cutoff=least)
    return f"; did you mean {close[0]!r}?" if close else ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one place of a file. `line` and `column` count from 1; 0 means unknown."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        """`file:line:column: message`, the form that editors and CI turn into a link."""
        where = ":".join([self.file, *(str(n) for n in (self.line, self.column) if n)])
        return f"{where}: {self.message}"


class QdcgenError(Exception):
    """Root of the tree; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 1


class UsageError(QdcgenError):
    """The command line asks for something impossible."""

    exit_code = 2


class RecipeError(QdcgenError):
    """One or more faults in a recipe or in a file it names. Prints one line per fault."""

    exit_code = 2

    def __init__(self, faults: list[Fault] | Fault) -> None:
        """Keep the faults in file order, without repeats."""
        listed = [faults] if isinstance(faults, Fault) else faults
        self.faults = sorted(set(listed), key=lambda f: (f.file, f.line, f.column, f.message))
        super().__init__("\n".join(str(f) for f in self.faults))


class RunError(QdcgenError):
    """A run folder cannot be used as it is."""


class RunLocked(RunError):
    """Another process is writing to the folder."""

    exit_code = 2


class RunDiffers(RunError):
    """The folder was made by another recipe; the message lists each key that differs."""

    exit_code = 2


class RunDamaged(RunError):
    """A committed file is missing or its bytes changed; the message names it and the way out."""


class RowFault(QdcgenError):
    """Costs one row, never its batch. `kind` is a short word for tables, the message is the reason."""

    def __init__(self, kind: str, reason: str, *, raw: str | None = None, paid: Any = None) -> None:
        """`raw` is the reply as it came; `paid` the Reply that cannot be used and yet is paid for."""
        super().__init__(reason)
        self.kind = kind
        self.raw = raw
        self.paid = paid


class ReplyFault(RowFault):
    """The model answered, and the answer does not fit."""


class ModelRefused(QdcgenError):
    """Key, quota or permission: retrying cannot help. Everything finished is saved first."""

    exit_code = 5


class TryAgain(QdcgenError):
    """One try of one call failed, and another may not. `kind` is the HTTP status or a word, for the table of faults."""

    def __init__(self, kind: str, reason: str, after: float = 0.0) -> None:
        """`after`: seconds that the server asked to wait; 0 where it did not say."""
        super().__init__(reason)
        self.kind = kind
        self.after = after


class Incomplete(QdcgenError):
    """The run is short of its target or hit a cap or an outage; running again goes on from here."""

    exit_code = 4


class Stopped(Incomplete):
    """The run was asked to stop: what is in flight comes in, nothing new begins."""


class CapReached(Incomplete):
    """The next call could exceed a cap of the recipe; what is in flight is let come in."""


class Deferred(Incomplete):
    """This call waits in a provider's batch; a later invocation collects it."""


class MissingExtra(QdcgenError):
    """An optional dependency is not installed."""

    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        """`what` needs the extra named `extra`."""
        super().__init__(f"{what} needs an extra that is not installed; type: pip install 'qdcgen[{extra}]'")
