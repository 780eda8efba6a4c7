"""A run, top to bottom: agree on the folder, go through the rounds, publish, measure, say how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import signal
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from qdcgen import __version__, ledger, review, rounds, thrift
from qdcgen.agree import agree
from qdcgen.errors import GO_ON, Incomplete, ModelRefused, QdcgenError
from qdcgen.growing import Interrupted, grow_axes, to_stderr
from qdcgen.line import Line, budget_of
from qdcgen.model.ask import Used
from qdcgen.model.journal import Journal
from qdcgen.publish import publish, state
from qdcgen.recipe import outgrown
from qdcgen.report.document import document
from qdcgen.report.markdown import markdown
from qdcgen.scrutiny import own_critics
from qdcgen.selection import Selection
from qdcgen.store import LABELS, Store, digest, dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from qdcgen.recipe import Recipe
    from qdcgen.report.contents import Report

__all__ = ["Outcome", "run"]


@dataclass
class Outcome:
    """How an invocation ended. `results` is what `run_results.json` says."""

    exit_code: int = 0
    report: Report | None = None
    results: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    """Lines for stderr: what happened, and what to type next."""


def run(
    recipe: Recipe,
    folder: Path,
    *,
    replace: bool = False,
    selection: Selection = Selection(),  # noqa: B008  (immutable)
    quiet: bool = False,
    trace: bool = False,
    log: Callable[[Mapping[str, Any]], None] | None = None,
) -> Outcome:
    """Bring the run in `folder` to its target, or as far as it gets, then measure it.

    `selection` says which regions this invocation makes; the others stay owed. `trace` writes every call to
    `trace.jsonl` in the folder; `log` is given events instead of a display on stderr.

    Raises:
        RunLocked, RunDiffers, RunDamaged, RunError: before anything is asked.
    """
    began = datetime.now(UTC)
    clock = time.perf_counter()
    with Store(folder) as store:
        asked, say = Used(), _saying(log, quiet=quiet)
        try:
            recipe, remarks = _with_axes(recipe, store, asked, replace=replace, trace=trace, say=say)
        except (Incomplete, ModelRefused) as error:
            return _ended_growing(recipe, store, asked, error, began=began, seconds=time.perf_counter() - clock)
        if selection != Selection():
            rounds.check_selection(recipe, selection)
        remarks += agree(store, recipe, replace=replace)
        remarks += own_critics(recipe)
        journal = Journal(folder / "calls.sqlite")
        tracing = Trace(folder / "trace.jsonl") if trace else None
        line = Line(recipe, store, journal, quiet=quiet, selection=selection, trace=tracing, log=log)
        line.models.asked = asked  # what growing used counts with the rest
        outcome = Outcome(remarks=remarks)
        try:
            before = state(store)
            asyncio.run(line.run())
            outcome.exit_code = line.exit_code
            outcome.remarks += line.remarks
            line.let_go()
            if left := line.unjudged:
                outcome.remarks.append(
                    f"filters changed, and {left} of {len(store.names('raw'))} batches are not judged by them yet: "
                    "data/ and the report are still those of the filters before; run again to go on"
                )
            else:
                publish(store, recipe)
            if outcome.exit_code in (0, 4) and not left:
                outcome.report, gates_hold = _measured(store, recipe, line, before=before)
                outcome.remarks += _unfinished(outcome.report)
                if not gates_hold and outcome.exit_code == 0:
                    outcome.exit_code = 3
        except QdcgenError as error:
            outcome.exit_code = error.exit_code
            outcome.remarks.append(str(error))
        except (asyncio.CancelledError, KeyboardInterrupt):  # a second signal, or one while measuring
            outcome.exit_code = 128 + (line.stopped_by or signal.SIGINT)
            outcome.remarks.append("stopped at once; everything finished is saved, run again to go on")
        except Exception as error:
            outcome.exit_code = 1
            outcome.remarks.append(f"unexpected error: {type(error).__name__}: {error}")
            raise
        finally:
            line.spent = journal.totals().cost
            journal.close()
            if tracing is not None:
                tracing.close()
            _conclude(store, recipe, line, outcome, began=began, seconds=time.perf_counter() - clock)
    return outcome


def _saying(log: Callable[[Mapping[str, Any]], None] | None, *, quiet: bool) -> Callable[[str], None]:
    """Where lines of progress go before the line itself can say them."""
    if log is not None:
        return lambda text: log({"event": "note", "text": text})
    return (lambda _: None) if quiet else to_stderr


def _with_axes(
    recipe: Recipe, store: Store, asked: Used, *, replace: bool, trace: bool, say: Callable[[str], None]
) -> tuple[Recipe, list[str]]:
    """The recipe with the axes that a model is asked for, grown now where the folder holds none; and what to remark."""
    if all(source.grow is None for source in recipe.taxonomy.values()):
        return recipe, []
    with contextlib.ExitStack() as opened:
        journal = opened.enter_context(contextlib.closing(Journal(store.folder / "calls.sqlite")))
        tracing = opened.enter_context(contextlib.closing(Trace(store.folder / "trace.jsonl"))) if trace else None
        recipe, planted = grow_axes(
            recipe, store, journal, budget=budget_of(recipe), replace=replace, trace=tracing, asked=asked, say=say
        )
    remarks = []
    for axis, source in recipe.taxonomy.items():
        if source.grow is not None:
            file = store.folder / "axes" / f"{axis}.json"
            remarks += outgrown(axis, source.grow, file.read_bytes(), file)
    for one in planted:
        tree, calls = one.grown.tree, one.grown.about["calls"]
        said = f"taxonomy {tree.name}: {len(tree.leaves)} leaves grown in {calls} calls, kept in {one.file}"
        remarks.append(f"{said}; look at it before you trust its coverage")
    return recipe, remarks


def _ended_growing(
    recipe: Recipe, store: Store, asked: Used, error: QdcgenError, *, began: datetime, seconds: float
) -> Outcome:
    """How a run ends whose axes are not all grown: nothing was planned yet."""
    code = 128 + error.number if isinstance(error, Interrupted) else error.exit_code
    outcome = Outcome(exit_code=code, remarks=[f"{error}"])
    outcome.results = {
        "format": 1,
        "qdcgen": __version__,
        "recipe": recipe.name,
        "folder": str(store.folder),
        "exit_code": code,
        "began": began.isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "rows": {"target": recipe.target.rows, "attempted": 0, **dict.fromkeys(ledger.STATES, 0)}
        | {"owed": recipe.target.rows},
        **_used(asked),
        "usd_in_all": _spent(store),
        "gates": [],
        "remarks": list(outcome.remarks),
    }
    store.commit({"run_results.json": (dumps(outcome.results), None)})
    return outcome


def _used(asked: Used) -> dict[str, Any]:
    return {
        "calls": {"made": asked.asked, "from_journal": asked.calls - asked.asked},
        "tokens": {"in": asked.tokens_in, "out": asked.tokens_out},
        "usd": asked.cost,
    }


def _spent(store: Store) -> float | None:
    """US dollars over all invocations; None when a price is unknown."""
    with contextlib.closing(Journal(store.folder / "calls.sqlite")) as journal:
        return journal.totals().cost


def _measured(store: Store, recipe: Recipe, line: Line, *, before: str) -> tuple[Report, bool]:
    """The report, and whether every gate holds.

    Measured again only when rows, verdicts or what is measured changed, or a model was not asked to the end.
    """
    told = recipe.resolved()
    wanted = digest(
        [told["measure"], told["gates"], told["target"], told["filters"], rounds.drawn_from(recipe), __version__]
        + [store.files[name].sha256 for name in (LABELS,) if name in store.files]
    )
    now = state(store)
    by = f"{now}-{wanted}"
    said = store.files.get("measures.json")
    report = review.stored(store) if said is not None and said.by == by and before == now else None
    if report is None or _unfinished(report):
        line.say(f"measuring {store.folder}")
        report = review.of_run(store, recipe, line.models.name())
        store.commit(
            {
                "measures.json": (dumps(document(report)), None),
                "report.md": (markdown(report).encode(), None),
            },
            by=by,
        )
    return report, all(gate.holds for gate in report.gates)


def _unfinished(report: Report) -> list[str]:
    """What the report says of figures for which a model was not asked to the end: they go on where the run does."""
    return [said for said in report.remarks if said.endswith(GO_ON)]


def _conclude(store: Store, recipe: Recipe, line: Line, outcome: Outcome, *, began: datetime, seconds: float) -> None:
    """Write `run_results.json` and this invocation's line in `run.json`; say how it ended."""
    tried = rounds.attempts(store, recipe)
    counts = dict(tried.group_by("_state").len().iter_rows())
    asked = line.models.asked
    accepted, target = counts.get("accepted", 0), rounds.wanted(store, recipe).rows
    outcome.results = {
        "format": 1,
        "qdcgen": __version__,
        "recipe": recipe.name,
        "folder": str(store.folder),
        "exit_code": outcome.exit_code,
        "began": began.isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "rows": {"target": target, "attempted": tried.height}
        | {state: counts.get(state, 0) for state in ledger.STATES}
        | {"owed": target - accepted},
        **_used(asked),
        "usd_in_all": line.spent,
        "critic_calls": thrift.totals(thrift.saved(store, recipe)),
        "gates": [
            {"table": g.table, "measure": g.measure, "bound": g.bound, "value": g.value, "holds": g.holds}
            for g in (outcome.report.gates if outcome.report else ())
        ],
        "remarks": list(outcome.remarks),
    }
    if target > recipe.target.rows:
        outcome.remarks.append(
            f"{target - recipe.target.rows} rows more than target.rows: regions were added, and no accepted row leaves"
        )
    if surplus := counts.get("surplus", 0):
        why = "stand in slots that other rows filled" if accepted < target else "are not needed for this target"
        outcome.remarks.append(f"{surplus} rows that were kept {why}; they stay in rejected/")
    if outcome.exit_code in (0, 3) and not line.made_now and line.judged_anew:
        outcome.remarks.append(f"{line.judged_anew}; {store.folder}/data: {accepted} of {target} rows accepted")
    elif outcome.exit_code in (0, 3) and not line.made_now:
        outcome.remarks.append(f"{store.folder}: nothing to do, {accepted} of {target} rows accepted already")
    elif outcome.exit_code in (0, 3):
        outcome.remarks.append(f"{store.folder}/data: {accepted} rows accepted, of {tried.height} made")
    for gate in outcome.report.gates if outcome.report else ():
        if not gate.holds:
            outcome.remarks.append(f"{gate.file}:{gate.line}: gate broken: {gate.message}")
    said = store.read("run.json")
    said["invocations"].append(
        {
            "began": outcome.results["began"],
            "seconds": outcome.results["seconds"],
            "exit_code": outcome.exit_code,
            "calls": outcome.results["calls"],
            "python": platform.python_version(),
            "qdcgen": __version__,
        }
    )
    store.commit({"run_results.json": (dumps(outcome.results), None), "run.json": (dumps(said), None)})


class Trace:
    """One JSON line for each model call, as it ends."""

    def __init__(self, path: Path) -> None:
        """Appends to `path`."""
        self._file = path.open("ab")

    def __call__(self, said: Mapping[str, Any]) -> None:
        """Write one line."""
        self._file.write(orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
