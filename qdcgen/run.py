"""The line: recipe → plan → rounds of generate and judge → publish → measure → gates.

`run` reads like the sentence in the README; what is underneath it is in the modules it names.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from qdcgen import __version__, generate, ledger, parts, review, rounds
from qdcgen.errors import CapReached, Deferred, Fault, Incomplete, ModelRefused, QdcgenError, RecipeError, RunDiffers
from qdcgen.judge import judge
from qdcgen.model.ask import Models
from qdcgen.model.budget import Budget
from qdcgen.model.journal import Journal
from qdcgen.parts import Tools
from qdcgen.plan import Plan
from qdcgen.plan import Strategy as Drawn
from qdcgen.report.document import document
from qdcgen.report.live import Live, Progress
from qdcgen.report.markdown import markdown
from qdcgen.store import Store, dumps, frame_of, packed, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import polars as pl

    from qdcgen.recipe import Recipe
    from qdcgen.report.contents import Report
    from qdcgen.rows import Row

__all__ = ["Outcome", "made_from", "plan_of", "run"]

LONGEST = 60
"""Characters of a value that a refusal shows."""
LOG_EVERY = 1.0
"""Seconds between progress events of `--log-format json`."""
PART_ROWS = 100_000
"""Rows in one file of `data/`: about 30 MB of short texts."""


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
    quiet: bool = False,
    trace: bool = False,
    log: Callable[[Mapping[str, Any]], None] | None = None,
) -> Outcome:
    """Bring the run in `folder` to its target, or as far as it gets, then measure it.

    `trace` writes every call to `trace.jsonl` in the folder; `log` is given events instead of a display on stderr.

    Raises:
        RunLocked, RunDiffers, RunDamaged, RunError: before anything is asked.
    """
    began = datetime.now(UTC)
    clock = time.perf_counter()
    with Store(folder) as store:
        agree(store, recipe, replace=replace)
        journal = Journal(folder / "calls.sqlite")
        tracing = Trace(folder / "trace.jsonl") if trace else None
        line = Line(recipe, store, journal, quiet=quiet, trace=tracing, log=log)
        outcome = Outcome()
        try:
            before = _state(store)
            asyncio.run(line.run(outcome))
            _publish(store, recipe)
            if outcome.exit_code in (0, 4):
                outcome.report, gates_hold = _measured(store, recipe, line, before=before)
                if not gates_hold and outcome.exit_code == 0:
                    outcome.exit_code = 3
        except QdcgenError as error:
            outcome.exit_code = error.exit_code
            outcome.remarks.append(str(error))
        except asyncio.CancelledError:  # a second signal
            outcome.exit_code = 128 + (line.stopped_by or signal.SIGINT)
            outcome.remarks.append("stopped at once; everything finished is saved, run again to go on")
        except BaseException as error:
            outcome.exit_code = 1
            outcome.remarks.append(f"unexpected error: {type(error).__name__}: {error}")
            _conclude(store, recipe, line, outcome, began=began, seconds=time.perf_counter() - clock)
            raise
        finally:
            line.spent = journal.totals().cost
            journal.close()
            if tracing is not None:
                tracing.close()
        _conclude(store, recipe, line, outcome, began=began, seconds=time.perf_counter() - clock)
    return outcome


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


# ── the rounds ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Line:
    """One invocation's way through the rounds: what it asks, commits, judges and shows."""

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        journal: Journal,
        *,
        quiet: bool,
        trace: Callable[[Mapping[str, Any]], None] | None = None,
        log: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        """Opens nothing; models connect or load at their first call. `log` takes the place of the display."""
        self.recipe = recipe
        self.store = store
        target = recipe.target
        budget = Budget(usd=target.usd, calls=target.calls, tokens=target.tokens, minutes=target.minutes)
        self.models = Models(recipe.models, journal, budget=budget, trace=trace)
        self.journal = journal
        self.quiet = quiet or log is not None
        self.log = log
        self.types = generate.column_types(recipe)
        self.paths = {axis: {node.id: node.path for node in tree.nodes} for axis, tree in recipe.taxonomies.items()}
        self.judges = _digest([{entry.name: entry.part.model_dump(mode="json")} for entry in recipe.filters])
        self.stopped_by: int | None = None
        self.capped: CapReached | None = None
        self.given_up: pl.DataFrame | None = None
        self.made_now = 0
        self.spent: float | None = 0.0
        """US dollars over all invocations; None when a price is unknown."""
        self._scratch: dict[str, dict[str, Any]] = {}
        self._begun = time.perf_counter()
        self._next_log = 0.0
        self._seen: dict[str, Any] = {"round": 0, "accepted": 0, "made": 0, "failed": 0, "rejected": {}}

    async def run(self, outcome: Outcome) -> None:
        """Rounds until nothing is owed; fills `outcome.exit_code` and its remarks."""
        recipe, store = self.recipe, self.store
        self._listen()
        rejudged = self._drop_stale_verdicts()
        waiting: list[str] = []
        plan = plan_of(recipe)
        try:
            with Live(quiet=self.quiet) as live:
                self._live = live
                waiting = await self.models.collect()
                while self.stopped_by is None and not waiting:
                    await self._make_and_judge()
                    waiting = await self.models.submit()
                    if self.capped is not None:
                        raise self.capped
                    if self.stopped_by is not None or waiting:
                        break
                    tried = rounds.attempts(store, recipe)
                    owed, self.given_up = rounds.next_round(store, recipe, plan, tried)
                    if owed.is_empty():
                        break
                    if rejudged:
                        outcome.exit_code = 4
                        outcome.remarks.append(
                            f"judged again by the changed filters: {owed.height} rows short of {recipe.target.rows}; "
                            "no model was asked. Run again to make them."
                        )
                        return
                    rounds.freeze(store, len(store.names("plan")), owed)
        except (ModelRefused, Incomplete) as error:
            outcome.exit_code = error.exit_code
            outcome.remarks.append(f"{error}. Everything finished is saved; run again to go on.")
        finally:
            await self.models.close()
        if waiting:
            outcome.exit_code = 4
            outcome.remarks += [f"{words}; run again to collect" for words in waiting]
        elif self.stopped_by is not None:
            outcome.exit_code = 128 + self.stopped_by
            outcome.remarks.append("interrupted; everything finished is saved, run again to go on")
        elif outcome.exit_code == 0 and self.given_up is not None and self.given_up.height:
            outcome.exit_code = 4
            short, most = self.given_up.height, recipe.target.candidates
            outcome.remarks.append(f"{short} of {recipe.target.rows} rows short after {most} candidates each:")
            outcome.remarks += [f"  {words}" for words in ledger.shortfall(self.given_up, recipe.taxonomies)]

    async def _make_and_judge(self) -> None:
        """Make every batch that is missing, in any order, and judge each as soon as all before it are judged."""
        every = list(rounds.batches(self.store))
        missing = [batch for batch in every if batch.raw not in self.store.files]
        waiting = iter([batch for batch in every if batch.verdicts not in self.store.files])
        turn = next(waiting, None)
        self._count_what_stands()
        flight = sum(alias.max_in_flight for alias in self.recipe.models.values())
        rows = max((batch.slots.height for batch in missing), default=1)
        local: Any = parts.find("executors", "local")
        executor = local(batches=max(8, 2 * flight // rows + 1))
        results = executor.run(missing, self._make, lambda: self.stopped_by is not None or self.capped is not None)
        while True:
            while turn is not None and turn.raw in self.store.files:
                await self._judge(turn)
                turn = next(waiting, None)
            try:
                batch, rows = await anext(results)
            except StopAsyncIteration:
                break
            if rows is not None:
                await asyncio.to_thread(self._write, batch, rows)  # 20 ms of fsync and 5 of packing, off the loop

    async def _make(self, batch: rounds.Batch) -> tuple[rounds.Batch, list[Row] | None]:
        """The batch with its rows; without, when it was stopped or waits for a provider: its replies are journaled."""
        self._seen["round"] = max(self._seen["round"], batch.round)
        try:
            made = await generate.rows(
                self.recipe,
                batch.asked(self.recipe.taxonomies),
                self.models,
                stopping=lambda: self.stopped_by is not None,
                done=self._note,
            )
        except (generate.Stopped, Deferred):
            return batch, None
        except CapReached as cap:
            self.capped = cap
            return batch, None
        return batch, made

    def _write(self, batch: rounds.Batch, rows: list[Row]) -> None:
        table = frame_of(rows, batch.round, self.types, self.paths)
        self.store.commit({batch.raw: packed(table)})

    def _read(self, batch: rounds.Batch) -> list[Row]:
        layers = {axis: self.types[axis] for axis in self.recipe.layers}
        return rows_of(self.store.table(batch.raw), list(self.recipe.fields), layers)

    async def _judge(self, batch: rounds.Batch) -> None:
        rows = await asyncio.to_thread(self._read, batch)

        def tools(label: str) -> Tools:
            return Tools(
                kept=lambda: rounds.kept_by(self.store, self.recipe, label, self.types, until=batch.verdicts),
                scratch=self._scratch.setdefault(label, {}),
                fields=self.recipe.fields,
            )

        judged = await judge(rows, self.recipe.filters, tools)
        files = {batch.verdicts: packed(rounds.verdict_table(judged))}
        await asyncio.to_thread(self.store.commit, files, by=self.judges)
        refused = {one.row: one.filter for one in judged if not one.verdict.kept}
        for by in refused.values():
            self._seen["rejected"][by] = self._seen["rejected"].get(by, 0) + 1
        self._seen["accepted"] += sum(row.fault is None for row in rows) - len(refused)
        self._show()

    def _drop_stale_verdicts(self) -> bool:
        """Take out what other filters said. True when a run that had been made whole is judged anew."""
        stale = [name for name in self.store.names("verdicts") if self.store.files[name].by != self.judges]
        if not stale:
            return False
        whole = all(batch.raw in self.store.files for batch in rounds.batches(self.store))
        self.store.commit({}, drop=tuple(self.store.names("verdicts")))
        return whole

    # ── being stopped, and being watched ────────────────────────────────────────────────────────────────────────────

    def _listen(self) -> None:
        """First signal: begin nothing new, let what is in flight end. Second: stop at once."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()

        def heard(number: int) -> None:
            if self.stopped_by is None:
                self.stopped_by = number
                sys.stderr.write("\nstopping: waiting for the calls in flight; once more to stop at once\n")
            elif task is not None:
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # not in the main thread
                loop.add_signal_handler(number, heard, number)

    def say(self, text: str) -> None:
        """A line of progress on stderr, unless the run is quiet."""
        if self.log is not None:
            self.log({"event": "note", "text": text})
        elif not self.quiet:
            sys.stderr.write(f"{text}\n")

    def _count_what_stands(self) -> None:
        tried = rounds.attempts(self.store, self.recipe)
        counts = dict(tried.group_by("_state").len().iter_rows())
        said = tried.filter(tried["_state"].is_in(["rejected", "duplicate"])).group_by("_filter").len()
        self._seen.update(
            accepted=counts.get("accepted", 0),
            made=tried.height,
            failed=counts.get("failed", 0) + counts.get("refused", 0),
            rejected=dict(said.iter_rows()),
        )

    def _note(self, row: Row) -> None:
        self.made_now += 1
        self._seen["made"] += 1
        self._seen["failed"] += row.fault is not None
        self._show()

    def _show(self) -> None:
        asked = self.models.asked
        progress = Progress(
            rows_target=self.recipe.target.rows,
            calls=asked.calls,
            journaled=asked.calls - asked.asked,
            tokens_in=asked.tokens_in,
            tokens_out=asked.tokens_out,
            usd=asked.cost,
            seconds=time.perf_counter() - self._begun,
            **{**self._seen, "rejected": dict(self._seen["rejected"])},
        )
        self._live.update(progress)
        if self.log is not None and progress.seconds >= self._next_log:
            self._next_log = progress.seconds + LOG_EVERY
            self.log({"event": "progress", **asdict(progress)})


def plan_of(recipe: Recipe) -> Plan:
    """The plan of a recipe: an endless, seeded sequence of mixes."""
    strategies = [Drawn(strategy.axes, strategy.weight) for strategy in recipe.drawn_together]
    try:
        return Plan(recipe.taxonomies, strategies, recipe.forbid, recipe.seed)
    except RecipeError as error:
        faults = [Fault(recipe.file, 0, 0, f"{fault.file}: {fault.message}") for fault in error.faults]
        raise RecipeError(faults) from None


# ── the folder and the recipe ───────────────────────────────────────────────────────────────────────────────────────


def made_from(recipe: Recipe) -> dict[str, Any]:
    """Everything in a recipe that the rows depend on, by dotted key: two runs agree where these agree."""
    said = recipe.resolved()
    found: dict[str, Any] = {"seed": said["seed"]}
    for alias, settings in said["models"].items():
        found |= {f"models.{alias}.{key}": settings[key] for key in ("model", "temperature", "top_p", "max_tokens")}
    found |= {f"taxonomy.{axis}": digest[:16] for axis, digest in said["taxonomy"].items()}
    found["strategies"] = said["strategies"]
    found["forbid"] = said["forbid"]
    found |= {f"layers.{axis}": settings for axis, settings in said["layers"].items()}
    found |= {f"generate.{number}": settings for number, settings in enumerate(said["generate"])}
    plain: dict[str, Any] = orjson.loads(orjson.dumps(found))
    return plain


def agree(store: Store, recipe: Recipe, *, replace: bool) -> None:
    """Make sure that the folder is of this recipe; with `replace`, make it so.

    Raises:
        RunDiffers: rows would be made differently; names each key with both values.
    """
    now = made_from(recipe)
    said = store.read("run.json")
    before = said["made_from"] if said else now
    differing = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
    if differing and not replace:
        lines = [f"{store.folder} was made by another recipe:"]
        lines += [
            f"  {key}: {_short(before.get(key))} there, {_short(now.get(key))} in {recipe.file}" for key in differing
        ]
        lines.append(
            "choose another folder with --out, or start this one over with --replace (replies are kept and reused)"
        )
        raise RunDiffers("\n".join(lines))
    if differing:
        store.commit({}, drop=tuple(name for name in store.files if name != "run.json"))
    invocations = said["invocations"] if said and not differing else []
    home = str(recipe.folder)
    store.commit(
        {
            "recipe.yaml": (recipe.source.encode(), None),
            "run.json": (
                dumps({"format": 1, "recipe_folder": home, "made_from": now, "invocations": invocations}),
                None,
            ),
        }
    )


def _short(value: Any) -> str:
    said = "nothing" if value is None else orjson.dumps(value).decode()
    return said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"


def _digest(value: Any) -> str:
    return sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _state(store: Store) -> str:
    """Changes when, and only when, rows or verdicts do."""
    return _digest(
        [(name, entry.sha256) for name, entry in sorted(store.files.items()) if name.startswith(("raw", "verd"))]
    )


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _publish(store: Store, recipe: Recipe) -> None:
    """Write `data/` and `rejected/`: what users load, in plan order."""
    import polars as pl

    by = f"{_state(store)}-{recipe.target.rows}"
    published = [*store.names("data"), *store.names("rejected")]
    if published and all(store.files[name].by == by for name in published):
        return
    tried = rounds.attempts(store, recipe)
    if tried.is_empty():
        return
    whole = rounds.made(store).drop("_fault", "_reason")
    told = whole.join(tried.select("_id", "_state", "_filter", "_reason"), on="_id", maintain_order="left")
    accepted = told.filter(pl.col("_state") == "accepted").drop("_state", "_filter", "_reason").sort("_slot")
    rest = told.filter(~pl.col("_state").is_in(["accepted", "unjudged"])).drop("_state").sort("_slot", "_round")
    files = {}
    for folder, frame in (("data", accepted), ("rejected", rest)):
        for number, start in enumerate(range(0, frame.height, PART_ROWS)):
            files[f"{folder}/part-{number:05d}.parquet"] = packed(frame[start : start + PART_ROWS])
    store.commit(files, by=by, drop=tuple(name for name in published if name not in files))


def _measured(store: Store, recipe: Recipe, line: Line, *, before: str) -> tuple[Report, bool]:
    """The report, and whether every gate holds. Measured again only when rows, verdicts or what is measured changed."""
    told = recipe.resolved()
    wanted = _digest([told["measure"], told["gates"], told["target"], told["filters"], __version__])
    now = _state(store)
    by = f"{now}-{wanted}"
    said = store.files.get("measures.json")
    if said is not None and said.by == by and before == now:
        report = review.stored(store)
    else:
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


def _conclude(store: Store, recipe: Recipe, line: Line, outcome: Outcome, *, began: datetime, seconds: float) -> None:
    """Write `run_results.json` and this invocation's line in `run.json`; say how it ended."""
    tried = rounds.attempts(store, recipe)
    counts = dict(tried.group_by("_state").len().iter_rows())
    asked = line.models.asked
    accepted = counts.get("accepted", 0)
    outcome.results = {
        "format": 1,
        "qdcgen": __version__,
        "recipe": recipe.name,
        "folder": str(store.folder),
        "exit_code": outcome.exit_code,
        "began": began.isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "rows": {"target": recipe.target.rows, "attempted": tried.height}
        | {state: counts.get(state, 0) for state in ledger.STATES}
        | {"owed": recipe.target.rows - accepted},
        "calls": {"made": asked.asked, "from_journal": asked.calls - asked.asked},
        "tokens": {"in": asked.tokens_in, "out": asked.tokens_out},
        "usd": asked.cost,
        "usd_in_all": line.spent,
        "gates": [
            {"table": g.table, "measure": g.measure, "bound": g.bound, "value": g.value, "holds": g.holds}
            for g in (outcome.report.gates if outcome.report else ())
        ],
        "remarks": list(outcome.remarks),
    }
    if outcome.exit_code in (0, 3) and not line.made_now:
        outcome.remarks.append(
            f"{store.folder}: nothing to do, {accepted} of {recipe.target.rows} rows accepted already"
        )
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
