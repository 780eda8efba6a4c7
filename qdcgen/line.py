"""One invocation's way through the rounds: make what is missing, judge it in plan order, ask again for what is owed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import polars as pl

from qdcgen import bands, generate, ledger, parts, rounds
from qdcgen.errors import CapReached, Deferred, Incomplete, ModelRefused, RecipeError, Stopped
from qdcgen.judge import chain, faults, judge, tools
from qdcgen.model.ask import Models
from qdcgen.model.budget import Budget
from qdcgen.neighbours import Neighbours
from qdcgen.prepare import prepared, remarks
from qdcgen.report.live import Live, Progress
from qdcgen.rows import Verdict
from qdcgen.selection import Selection
from qdcgen.stopping import on_signal
from qdcgen.store import REJUDGING, dumps, frame_of, packed, rows_of
from qdcgen.vector_cache import remembering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from qdcgen.model.journal import Journal
    from qdcgen.parts import Tools
    from qdcgen.recipe import Entry, Recipe
    from qdcgen.refresh import Regions
    from qdcgen.rows import Cell, Row
    from qdcgen.store import Store

if TYPE_CHECKING:
    Judging = tuple[list[Row], Sequence[tuple[str, Entry]], Callable[[str], Tools], Mapping[tuple[str, str], Verdict]]

__all__ = ["GROUP", "LOG_EVERY", "Line", "budget_of"]

GROUP = 16
"""Batches whose verdicts are committed together: one manifest and one sync of the folder for all."""
STANDING = "standing.parquet"
"""There while rows are judged anew: verdicts of the filters that did not change, nor any before them."""
LOG_EVERY = 1.0
"""Seconds between progress events of `--log-format json`."""


def budget_of(recipe: Recipe) -> Budget:
    """The caps of a recipe, nothing spent yet."""
    target = recipe.target
    return Budget(usd=target.usd, calls=target.calls, tokens=target.tokens, minutes=target.minutes)


def _alike(one: list[str], other: list[str]) -> int:
    """How many of their first members are equal."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


class Line:
    """One invocation's way through the rounds: what it asks, commits, judges and shows."""

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        journal: Journal,
        *,
        quiet: bool,
        selection: Selection = Selection(),  # noqa: B008  (immutable)
        trace: Callable[[Mapping[str, Any]], None] | None = None,
        log: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        """Opens nothing; models connect or load at their first call. `log` takes the place of the display."""
        self.recipe = recipe = remembering(recipe, store.folder)
        self.store = store
        self.models = Models(
            recipe.models, journal, budget=budget_of(recipe), trace=trace, stopping=lambda: self.stopped_by is not None
        )
        self.quiet = quiet or log is not None
        self.selection = selection
        self.wanted = rounds.wanted(store, recipe)
        self.log = log
        self.types = generate.column_types(recipe)
        self.paths = {axis: {node.id: node.path for node in tree.nodes} for axis, tree in recipe.taxonomies.items()}
        self.judges = ".".join(chain(recipe))
        self.stopped_by: int | None = None
        self.capped: CapReached | None = None
        self.prepared: dict[str, Any] = {}
        self.owed: rounds.Owed | None = None
        self.exit_code = 0
        self.remarks: list[str] = []
        self.made_now = 0
        self.spent: float | None = 0.0
        """US dollars over all invocations; None when a price is unknown."""
        self._filled: set[int] = set()
        """Slots that have an accepted row."""
        self._regions: Regions | None = None
        self._deferred = False
        """Whether a filter's calls wait in a provider's batch: nothing more is judged by this invocation."""
        self._looked = False
        """Whether what the filters read was looked at."""
        self._asked_ahead: set[str] = set()
        """Verdict files of the batches whose critics' questions are with a provider already."""
        self._begun_rows = 0
        """Rows made or begun, over all invocations."""
        self._slots: set[int] = set()
        """The wanted slots, where they are not a range."""
        self._retired: set[str] = set()
        """Rows whose region left the recipe: no filter sees them."""
        self._near: dict[int, Neighbours] = {}
        self._scratch: dict[str, dict[str, Any]] = {}
        self.judged_anew = ""
        """The first filter, and what is said of it, from which on this invocation judged rows once more."""
        self._known: dict[str, pl.DataFrame] = {}
        """Verdict file → what of its verdicts still stands after filters were changed."""
        self._uncommitted: list[tuple[list[Row], set[tuple[str, str]]]] = []
        """Rows judged since the last commit, with (row, filter) of every yes."""
        self._begun = time.perf_counter()
        self._next_log = 0.0
        self._seen: dict[str, Any] = {"round": 0, "accepted": 0, "made": 0, "failed": 0, "rejected": {}}

    async def run(self) -> None:
        """Rounds until nothing is owed; then `exit_code` and `remarks` say how that went."""
        recipe, store = self.recipe, self.store
        on_signal(self._stop, self.say)
        self._drop_stale_verdicts()
        waiting: list[str] = []
        plan = rounds.plan_of(recipe)
        try:
            with Live(quiet=self.quiet) as live:
                self._live = live
                self.prepared = await prepared(recipe, self.models, store.folder, store)
                for words in remarks(recipe, self.prepared):
                    self.say(words)
                waiting = await self.models.collect()
                while self.stopped_by is None and not waiting:
                    await self._make_and_judge()
                    waiting = await self.models.submit()
                    if self.capped is not None:
                        raise self.capped
                    if self.stopped_by is not None or waiting:
                        break
                    tried = rounds.attempts(store, recipe)
                    self.owed = rounds.next_round(store, recipe, plan, tried, self.selection)
                    marker = store.read(REJUDGING) if REJUDGING in store.files else {}
                    rejudged = bool(marker.get("whole"))
                    store.commit({}, drop=(REJUDGING, STANDING))
                    if self.owed.slots.is_empty():
                        break
                    if rejudged:
                        self.exit_code, short = 4, self.wanted.rows - len(self._filled)
                        self.remarks.append(
                            f"judged again: {short} rows short of {self.wanted.rows}; no row was made. "
                            "Run again to make them."
                        )
                        return
                    rounds.freeze(store, recipe, self.owed.slots)
                    self.wanted = rounds.wanted(store, recipe)
        except (ModelRefused, Incomplete) as error:
            self.exit_code = error.exit_code
            if self.stopped_by is None or not isinstance(error, Stopped):  # that is said below
                self.remarks.append(f"{error}. Everything finished is saved; run again to go on.")
        finally:
            await self.models.close()
        if waiting:
            self.exit_code = 4
            self.remarks += [f"{words}; run again to collect" for words in waiting]
        elif self.stopped_by is not None:
            self.exit_code = 128 + self.stopped_by
            self.remarks.append("interrupted; everything finished is saved, run again to go on")
        elif self.exit_code == 0 and self.owed is not None:
            self._say_what_is_short(self.owed)

    @property
    def unjudged(self) -> int:
        """Batches that wait to be judged anew since filters changed; until there are none, `data/` stays as it is."""
        if REJUDGING not in self.store.files:
            return 0
        made = (batch for batch in rounds.batches(self.store) if batch.raw in self.store.files)
        return sum(batch.verdicts not in self.store.files for batch in made)

    def let_go(self) -> None:
        """Give up what only making rows needs: 20 MB of 100,000 rows, while they are measured."""
        self._filled, self._slots, self._retired = set(), set(), set()
        self._scratch, self._near, self._uncommitted = {}, {}, []

    def _say_what_is_short(self, owed: rounds.Owed) -> None:
        """A run that is not full says so, region by region, and ends with 4."""
        target = self.recipe.target
        if short := owed.given_up.height:
            self.exit_code = 4
            tried = rounds.attempts(self.store, self.recipe)
            bounds = f"{target.candidates} candidates each" + (
                f" and {target.attempts} in all" if target.attempts is not None else ""
            )
            regions = ledger.shortfall(owed.given_up, tried, self.recipe.taxonomies, candidates=target.candidates)
            fewer = ", fewer where none was kept" if any(", given up after " in words for words in regions) else ""
            self.remarks.append(f"{short} of {self.wanted.rows} rows short within {bounds}{fewer}:")
            self.remarks += [f"  {words}" for words in regions]
            more = rounds.short_of_bands(self.store, self.recipe, tried, self.wanted.rows)
            self.remarks += [f"  {words}" for words in more]
        if owed.left_out:
            self.exit_code = 4
            self.remarks.append(
                f"{owed.left_out} rows are owed outside what was selected; run without --select and --exclude for them"
            )

    async def _make_and_judge(self) -> None:
        """Make every batch that is missing, in any order, and judge each as soon as all before it are judged."""
        every = list(rounds.batches(self.store))
        missing = [batch for batch in every if batch.raw not in self.store.files]
        # Where all was drawn from the plan as it is, every region stands.
        self._regions = rounds.regions(self.recipe) if missing and self.wanted.slots is not None else None
        waiting = deque(batch for batch in every if batch.verdicts not in self.store.files)
        if waiting and not self._looked:
            if found := faults(self.recipe):
                raise RecipeError(found)  # a file that cannot be read is told before a row is paid for
            self._looked = True
        self._count_what_stands()
        flight = sum(alias.max_in_flight for alias in self.recipe.models.values())
        rows = max((batch.slots.height for batch in missing), default=1)
        local: Any = parts.find("executors", "local")
        executor = local(batches=max(3, 2 * flight // rows + 2))  # twice the calls in flight, and one to spare
        await self._judge_ready(waiting)
        gc.freeze()  # what stands by now stays for the run: looking through it again took 7 % of the speed
        running = executor.run(missing, self._make, lambda: bool(self.stopped_by or self.capped))
        async with contextlib.aclosing(running) as results:
            async for done in results:
                made = [(batch, rows) for batch, rows in done if rows is not None]
                if made:
                    await asyncio.to_thread(self._write, made)  # 20 ms of fsync and 5 of packing a batch, off the loop
                    await self._judge_ready(waiting)

    def _still_owed(self, batch: rounds.Batch) -> pl.DataFrame:
        """The slots of a planned batch that this invocation makes.

        What was planned earlier may have been overtaken: a region was taken out, the target lowered, a slot filled by
        another filter's leave, or other regions selected. Such a slot stays without a row, and is planned anew once it
        is owed again.
        """
        regions = self._regions
        standing = regions.standing(batch.slots) if regions is not None else batch.slots
        chosen = standing.filter(self.wanted.holds("slot") & self.selection.of(self.recipe))
        chosen = chosen.filter(~pl.col("slot").is_in(list(self._filled & set(chosen["slot"]))))
        most = self.recipe.target.attempts
        if most is not None:
            chosen = chosen.head(max(0, most - self._begun_rows))
        self._begun_rows += chosen.height
        return chosen

    async def _make(self, batch: rounds.Batch) -> tuple[rounds.Batch, list[Row] | None]:
        """The batch with its rows; without, when it was stopped or waits for a provider: its replies are journaled."""
        self._seen["round"] = max(self._seen["round"], batch.round)
        try:
            made = await generate.rows(
                self.recipe,
                batch.asked(self.recipe.taxonomies, self._still_owed(batch)),
                self.models,
                prepared=self.prepared,
                round_=batch.round,
                near=self._neighbours(batch.round),
                embed=self.recipe.measure.embedder.part.embed,
                done=self._note,
            )
        except (Stopped, Deferred):
            return batch, None
        except CapReached as cap:
            self.capped = cap
            return batch, None
        return batch, made

    def _neighbours(self, round_: int) -> Callable[[Cell], Row | None]:
        """`Tools.near` of one round: looks among what was accepted when it began, so that a resume sees the same."""
        if round_ not in self._near:
            self._near[round_] = Neighbours(lambda: rounds.accepted_before(self.store, self.recipe, self.types, round_))
        return self._near[round_].nearest

    def _write(self, made: list[tuple[rounds.Batch, list[Row]]]) -> None:
        tables = {batch.raw: frame_of(rows, batch.round, self.types, self.paths) for batch, rows in made}
        self.store.commit({name: packed(table) for name, table in tables.items()})

    def _read(self, batch: rounds.Batch) -> list[Row]:
        fields, layers = ({name: self.types[name] for name in of} for of in (self.recipe.fields, self.recipe.layers))
        return rows_of(self.store.table(batch.raw), fields, layers)

    async def _judge_ready(self, waiting: deque[rounds.Batch]) -> None:
        """Judge, in plan order, every batch whose turn has come; commit up to GROUP of them at once."""
        while waiting and waiting[0].raw in self.store.files and not self._deferred:
            files: dict[str, tuple[bytes, int]] = {}
            try:
                while waiting and waiting[0].raw in self.store.files and len(files) < GROUP:
                    batch = waiting[0]
                    try:
                        files[batch.verdicts] = packed(await self._judge(batch))
                    except Deferred:  # a critic's calls wait for a provider's batch; later rows wait for these
                        self._deferred = True  # for this invocation: filters have seen some of these rows
                        self._asked_ahead.add(batch.verdicts)
                        break
                    waiting.popleft()
            except BaseException:  # a stop, a cap, an outage: what was judged by then was paid for
                self.store.commit(files, by=self.judges)
                raise
            await asyncio.to_thread(self.store.commit, files, by=self.judges)
            self._uncommitted.clear()
        if self._deferred:
            await self._ask_ahead(waiting)

    async def _ask_ahead(self, waiting: deque[rounds.Batch]) -> None:
        """Let critics that wait for a provider's batch ask about later rows too, so that one batch takes all of them.

        Nothing is kept of what the filters say: these rows are judged by a later invocation, in their turn.
        """
        for batch in waiting:
            if batch.raw in self.store.files and batch.verdicts not in self._asked_ahead:
                self._asked_ahead.add(batch.verdicts)
                with contextlib.suppress(Deferred):
                    await judge(*await self._judging(batch))

    async def _judge(self, batch: rounds.Batch) -> pl.DataFrame:
        """Every verdict on one batch, as it lies in `verdicts/`."""
        shown = await self._judging(batch)
        rows, judged = shown[0], await judge(*shown)
        self._uncommitted.append((rows, {(one.row, one.filter) for one in judged if one.verdict.kept}))
        refused = {one.row: one.filter for one in judged if not one.verdict.kept}
        for by in refused.values():
            self._seen["rejected"][by] = self._seen["rejected"].get(by, 0) + 1
        for row in rows:
            slot = row.cell.slot
            if row.fault is None and row.id not in refused and self._is_wanted(slot):
                self._filled.add(slot)
        self._seen["accepted"] = len(self._filled)
        self._show()
        return rounds.verdict_table(judged)

    async def _judging(self, batch: rounds.Batch) -> Judging:
        """What `judge` takes to judge one batch."""
        rows = [row for row in await asyncio.to_thread(self._read, batch) if row.id not in self._retired]

        def kept(label: str) -> Iterator[Row]:
            yield from rounds.kept_by(self.store, self.recipe, label, self.types, until=batch.verdicts)
            for earlier, passed in self._uncommitted:
                yield from (row for row in earlier if (row.id, label) in passed)

        def given(label: str) -> Tools:
            scratch = self._scratch.setdefault(label, {})
            if label == bands.LABEL:  # what its bands hold comes from earlier verdicts: a grade is not asked for again
                if "held" not in scratch:
                    found = rounds.held(self.store, self.recipe, batch.verdicts)
                    scratch["held"] = {slot: band for slot, band in found.items() if self._is_wanted(slot)}
                scratch.update(rows=self.wanted.rows, wants=self._is_wanted)
            return tools(self.recipe, self.models, label, scratch=scratch, kept=lambda: kept(label))

        return rows, self.recipe.judges, given, self._known_of(batch.verdicts)

    def _is_wanted(self, slot: int) -> bool:
        return slot < self.wanted.rows if self.wanted.slots is None else slot in self._slots

    def _drop_stale_verdicts(self) -> None:
        """Take out what other filters said, and write down when a run that had been made whole is judged anew.

        What the filters before the first change said is kept aside: it is not asked for again. Both are written down,
        because judging anew may itself be stopped, and must still not go on to ask for rows by itself.
        """
        store, names = self.store, self.store.names("verdicts")
        kept = store.files.get(STANDING)
        ours = self.judges.split(".")
        told = [store.files[name].by.split(".") for name in names]
        aside = [] if kept is None else kept.by.split(".")
        if any(one != ours for one in told) or aside != ours[: len(aside)]:
            files: dict[str, tuple[bytes, int | None]] = {}
            said = [store.table(name).with_columns(pl.lit(name).alias("batch")) for name in names]
            if kept is not None:
                told.append(aside)
                said.append(store.table(STANDING).filter(~pl.col("batch").is_in(names)))
            alike = min(_alike(ours, one) for one in told)
            if alike:
                labels = [label for label, _ in self.recipe.judges[:alike]]
                files[STANDING] = packed(pl.concat(said).filter(pl.col("filter").is_in(labels)))
            if found := faults(self.recipe):
                raise RecipeError(found)  # before what stands is taken out
            before = store.read(REJUDGING) if REJUDGING in store.files else {}
            whole = bool(before.get("whole")) or all(batch.raw in store.files for batch in rounds.batches(store))
            files[REJUDGING] = (dumps({"by": self.judges, "whole": whole}), None)
            drop = [*names, *(name for name in (STANDING,) if name in store.files and name not in files)]
            store.commit(files, drop=tuple(drop), by=".".join(ours[:alike]))
            after = [label for label, _ in self.recipe.judges[alike:]]
            gone = max(len(one) for one in told) - alike
            taken = "a filter was taken out" if gone == 1 else f"{gone} filters were taken out"
            self.judged_anew = f"filters changed: judged again by {', '.join(after)}" if after else taken
            self.say(self.judged_anew)
        if STANDING in store.files:
            table = store.table(STANDING)
            self._known = {str(key[0]): one for key, one in table.partition_by("batch", as_dict=True).items()}

    def _known_of(self, name: str) -> dict[tuple[str, str], Verdict]:
        """What is known of the rows of one batch: (row, filter) → verdict."""
        table = self._known.get(name)
        if table is None:
            return {}
        return {
            (row, label): Verdict(kept, reason or "", score)
            for row, label, kept, reason, score in table.select("_id", "filter", "kept", "reason", "score").iter_rows()
        }

    # ── being stopped, and being watched ────────────────────────────────────────────────────────────────────────────

    def _stop(self, number: int) -> bool:
        """Begin nothing new. False when that was said before."""
        first, self.stopped_by = self.stopped_by is None, self.stopped_by or number
        return first

    def say(self, text: str) -> None:
        """A line of progress on stderr, unless the run is quiet."""
        if self.log is not None:
            self.log({"event": "note", "text": text})
        elif not self.quiet:
            sys.stderr.write(f"{text}\n")

    def _count_what_stands(self) -> None:
        tried = rounds.attempts(self.store, self.recipe)
        self._slots = set(self.wanted.slots if self.wanted.slots is not None else ())
        self._retired = set(rounds.retired(self.store)["_id"])
        counts = dict(tried.group_by("_state").len().iter_rows())
        said = tried.filter(tried["_state"].is_in(["rejected", "duplicate"])).group_by("_filter").len()
        self._filled = set(tried.filter(tried["_state"] == "accepted")["_slot"])
        self._begun_rows = tried.height
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
            rows_target=self.wanted.rows,
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
