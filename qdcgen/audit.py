"""Critics put to the test before the main spend: rows known to be bad are planted, and each critic judges them.

Rows come from the run folder, or are made as `preview` makes them. Every question goes through the filter's own
`judge` and the run's journal: what was asked before is free, and what is asked now the run need not ask again.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen import __version__, generate, judge, labelled, plants, rounds, trials
from qdcgen.agree import made_from
from qdcgen.bands import Bands
from qdcgen.errors import RecipeError, RowFault, RunDiffers, Stopped, UsageError, nearest
from qdcgen.line import budget_of
from qdcgen.model.ask import Models, Used
from qdcgen.model.journal import Journal
from qdcgen.parts import UNDECIDED, Filter
from qdcgen.plants import KINDS, PLACES, Plant, Scene
from qdcgen.prepare import prepared
from qdcgen.preview import first_asked
from qdcgen.recipe import load, loads
from qdcgen.review import recipe_of
from qdcgen.rows import stream
from qdcgen.scrutiny import behind, writers
from qdcgen.stopping import on_signal
from qdcgen.store import Store, digest, dumps, rows_of
from qdcgen.trials import GOOD, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from qdcgen.parts import Tools
    from qdcgen.recipe import Entry, Recipe
    from qdcgen.rows import Reply, Row, Verdict

__all__ = ["FORMAT", "Interrupted", "audit", "opened"]

FORMAT = 1
FEWEST = 2
"""Good rows below which nothing can be planted: some faults are another row's text."""
WIDE = 0.2
"""Width of the interval of all false accepts from which a remark says that it is too wide to tell."""
PROBED = 3
"""Rows whose fields and layers are changed, one by one, to see what a critic is shown; no model is asked for it."""


class Interrupted(Stopped):
    """A signal ended the audit; every reply that came is journaled. The command line ends with 128 + `number`."""

    def __init__(self, number: int) -> None:
        """`number` of the signal."""
        super().__init__("interrupted; every reply that came is kept, run the audit again to go on")
        self.number = number


class _Good(NamedTuple):
    """The rows that are taken as good, and in words why."""

    rows: list[Row]
    source: str
    assumed: str
    prior: float | None = None
    """Share of good rows among what the critics are shown, where people's labels tell; None: unknown."""


def opened(
    where: Path, overrides: Sequence[str] = (), allowed: Sequence[Path] = (), out: Path | None = None
) -> tuple[Recipe, Path]:
    """The recipe and the run folder that a recipe's file, or a run's folder, stands for.

    Raises:
        UsageError, RecipeError: it is neither, or says something impossible.
    """
    from pathlib import Path

    if where.is_dir():
        store = Store(where).peek()
        said = store.read("run.json") or {}
        if "recipe.yaml" not in store.files:
            raise UsageError(f"{where}: no run here yet; name the recipe instead: qdcgen audit recipe.yaml")
        home = Path(said.get("recipe_folder") or where)
        if not overrides and not allowed:
            return recipe_of(store, home), where
        recipe = loads(
            store.bytes("recipe.yaml"),
            file=str(where / "recipe.yaml"),
            folder=home,
            overrides=(*said.get("overrides", ()), *overrides),
            allowed=(*(Path(folder) for folder in said.get("allowed", ())), *allowed),
            out=where,
        )
        return recipe, where
    if not where.exists():
        raise UsageError(f"{where}: no such file or folder; expected a recipe (*.yaml) or a run folder (runs/<name>)")
    recipe = load(where, overrides=tuple(overrides), allowed=tuple(allowed), out=out)
    return recipe, out or Path("runs") / recipe.name


def audit(
    recipe: Recipe,
    folder: Path,
    *,
    rows: int = 24,
    seed: int | None = None,
    filters: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Plant bad rows, have each critic judge them, and write what came of it as `audit.json`; gives that document.

    `rows`: good rows to plant in; `filters`: labels of the critics to audit, default all; `seed`: which rows and
    plants, default the recipe's.

    Raises:
        UsageError: no filter asks a model, or none of that name.
        RecipeError: a file that a filter reads cannot be read.
        RunDiffers: the folder holds rows of another recipe.
        Interrupted, Incomplete, ModelRefused: not everything was asked; every reply that came is journaled.
    """
    critics = _critics(recipe, filters)
    if batched := [alias for alias, settings in recipe.models.items() if settings.batch]:
        raise UsageError(f"{batched[0]} waits in batches; to audit at once add --set models.{batched[0]}.batch=false")
    seed = recipe.seed if seed is None else seed
    if found := judge.faults(recipe):
        raise RecipeError(found)  # a file of a filter that cannot be read is told before anything is paid for
    with Store(folder) as store:
        said = store.read("run.json")
        if said and store.names("raw") and said["made_from"] != made_from(recipe):
            raise RunDiffers(
                f"{folder} holds rows of another recipe than {recipe.file}; choose another folder with --out, "
                f"or audit what made them: qdcgen audit {folder}"
            )
        journal = Journal(folder / "calls.sqlite")
        try:
            document = _Session(recipe, store, journal, seed, say).run(critics, rows)
        finally:
            journal.close()
        by = digest([document["seed"], document["source"], [one["settings"] for one in document["critics"]]])
        store.commit({"audit.json": (dumps(document), None)}, by=by)
    return document


def _critics(recipe: Recipe, wanted: Sequence[str]) -> list[tuple[str, Entry]]:
    """The filters whose verdict is a model's opinion, in the order in which they see rows."""
    found = [(label, entry) for label, entry in recipe.judges if _is_critic(entry.part, recipe)]
    known = [label for label, _ in found]
    if not found:
        raise UsageError(
            f"{recipe.file}: no filter asks a model, so there is no critic to audit; add one under filters:, "
            "e.g. - double_critic (qdcgen parts filters lists them)"
        )
    for name in wanted:
        if name not in known:
            others = [label for label, _ in recipe.judges if label not in known]
            if name in others:
                raise UsageError(f"--filter {name}: it asks no model; the critics here are {', '.join(known)}")
            close = nearest(name, known) or f"; known here: {', '.join(known)}"
            raise UsageError(f"--filter {name}: no critic of that name{close}")
    return [one for one in found if not wanted or one[0] in wanted]


def _is_critic(part: Filter, recipe: Recipe) -> bool:
    return part.critic or (part.calls(len(recipe.taxonomies)) > 0 and not isinstance(part, Bands))


class _Session:
    """One event loop with models and signals around one audit."""

    def __init__(self, recipe: Recipe, store: Store, journal: Journal, seed: int, say: Callable[[str], None]) -> None:
        self.recipe, self.store, self.seed, self.say = recipe, store, seed, say
        self.stopped_by: int | None = None
        self.models = Models(
            recipe.models, journal, budget=budget_of(recipe), stopping=lambda: self.stopped_by is not None
        )

    def run(self, critics: Sequence[tuple[str, Entry]], count: int) -> dict[str, Any]:
        """The document. First signal: what is in flight comes in. Second: stop at once.

        Raises:
            Interrupted: a signal came.
        """
        try:
            return asyncio.run(self._whole(critics, count))
        except (Stopped, asyncio.CancelledError, KeyboardInterrupt):
            raise Interrupted(self.stopped_by or signal.SIGINT) from None

    def _stop(self, number: int) -> bool:
        first, self.stopped_by = self.stopped_by is None, self.stopped_by or number
        return first

    async def _whole(self, critics: Sequence[tuple[str, Entry]], count: int) -> dict[str, Any]:
        on_signal(self._stop, self.say)
        try:
            judges = ".".join(judge.chain(self.recipe))
            good = self._from_run(count) or await self._made(count)
            if len(good.rows) < FEWEST:
                typed = shlex.quote(self.recipe.file)
                raise UsageError(
                    f"{len(good.rows)} good rows ({good.source}), and an audit needs {FEWEST}; make some first "
                    f"(qdcgen run {typed}), or see what is wrong with them: qdcgen preview {typed}"
                )
            made = _spent(self.models.asked)
            found = [await self._critic(label, entry, good) for label, entry in critics]
        finally:
            await self.models.close()
        return {
            "format": FORMAT,
            "qdcgen": __version__,
            "recipe": self.recipe.name,
            "folder": str(self.store.folder),
            "judges": judges,
            "seed": self.seed,
            "rows": len(good.rows),
            "source": good.source,
            "assumed": good.assumed,
            "good_by_labels": good.prior,
            "critics": found,
            "cost": {"making_rows": made, "in_all": _spent(self.models.asked)},
            "remarks": _remarks(found, len(good.rows)),
        }

    # ── rows that are taken as good ─────────────────────────────────────────────────────────────────────────────────

    def _from_run(self, count: int) -> _Good | None:
        """Rows of the run that everybody but the critics kept, over all regions; None where there are none.

        Accepted rows alone would not do: the critic has said yes to each, so it would never turn a good one down.
        """
        import polars as pl

        if not self.store.names("raw"):
            return None
        critics = [label for label, entry in self.recipe.judges if _is_critic(entry.part, self.recipe)]
        kept, refused = pl.col("_state").is_in(["accepted", "surplus"]), pl.col("_filter").is_in(critics)
        stratum = pl.when(kept).then(pl.lit("")).otherwise(pl.col("_filter")).alias("stratum")
        tried = rounds.attempts(self.store, self.recipe).filter(kept | ((pl.col("_state") == "rejected") & refused))
        standing = {row: (mix, by) for row, mix, by in tried.select("_id", "_mix", stratum).iter_rows()}
        told = self._labels(set(standing))
        good = [row for row, said in told.items() if said]
        chosen = good if len(good) >= FEWEST else [row for row in standing if told.get(row, True)]
        if len(chosen) < FEWEST:
            return None
        ranked = sorted(chosen, key=lambda row: stream(f"{self.seed}/{row}", "audit"))
        seen: Counter[str] = Counter()
        turns = []
        for place, row in enumerate(ranked):  # the first of each region, then the second of each, …
            mix = standing[row][0]
            turns.append((seen[mix], place, row))
            seen[mix] += 1
        ids = [row for _, _, row in sorted(turns)[:count]]
        types = generate.column_types(self.recipe)
        fields, layers = ({name: types[name] for name in of} for of in (self.recipe.fields, self.recipe.layers))
        frame = rounds.made(self.store).filter(pl.col("_id").is_in(ids))
        regions = len({standing[row][0] for row in ids})
        source = f"{len(ids)} rows of the run, of {regions} regions"
        prior = _share_of_good({row: by for row, (_, by) in standing.items()}, told)
        if len(good) >= FEWEST:
            assumed = f"rows that people labelled good ({len(good)} of {len(told)} labelled)"
            return _Good(rows_of(frame, fields, layers), source, assumed, prior)
        assumed = (
            "rows that every other filter kept, whatever the critic said of them; some are bad, so the figure of "
            "false rejects is the most there can be. qdcgen label says which are good"
        )
        return _Good(rows_of(frame, fields, layers), source, assumed, prior)

    def _labels(self, standing: set[str]) -> dict[str, bool]:
        """What most people said of rows that still say the same; a draw says nothing."""
        labels = [one for one in labelled.load(self.store) if one.good is not None and one.row in standing]
        now = labelled.contents(self.store, self.recipe, {one.row for one in labels}) if labels else {}
        votes: Counter[str] = Counter()
        for one in labels:
            if now.get(one.row) == one.content:
                votes[one.row] += 1 if one.good else -1
        return {row: vote > 0 for row, vote in votes.items() if vote}

    async def _made(self, count: int) -> _Good:
        """The first rows of the plan, made as the run will make them, and judged by the filters that are no critics."""
        recipe = self.recipe
        self.say(f"audit: making up to {count} rows; the run will find them in the journal")
        ready = await prepared(recipe, self.models, self.store.folder)
        embed = recipe.measure.embedder.part.embed
        rows = await generate.rows(recipe, first_asked(recipe, count), self.models, prepared=ready, embed=embed)
        plain = [one for one in recipe.judges if not _is_critic(one[1].part, recipe)]
        scratch: dict[str, dict[str, Any]] = {}
        judged = await judge.judge(
            rows,
            plain,
            lambda label: judge.tools(recipe, self.models, label, scratch=scratch.setdefault(label, {})),
        )
        refused = {one.row for one in judged if not one.verdict.kept}
        good = [row for row in rows if row.fault is None and row.id not in refused]
        return _Good(
            good,
            f"{len(good)} of the first {len(rows)} rows of the plan, made for this",
            "rows that every filter that is no critic kept; some are bad, so the figure of false rejects is the most "
            "there can be",
        )

    # ── one critic ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _critic(self, label: str, entry: Entry, good: _Good) -> dict[str, Any]:
        before = _spent(self.models.asked)
        scene, aliases = await self._scene(label, entry, good.rows)
        groups, skipped = self._groups(scene, good.rows)
        trials_due = sum(len(one.plants) for one in groups)
        most = entry.part.calls(len(self.recipe.taxonomies))
        self.say(f"audit of {label}: {trials_due} rows to judge, up to {trials_due * most:,.0f} calls")
        asking = _Asking(self, label, entry)
        judged = await asking.all(groups)
        found: list[Trial] = []
        known = dict(judged[GOOD].values())
        for one in groups:
            told = judged[one.name]
            if one.name != GOOD and _unseen(told, known):
                skipped[one.name] = "what it is shown then is a good row's, and it says the same"
                continue
            found += [
                Trial(
                    plant.base,
                    one.name,
                    told[place][1].kept,
                    told[place][1].reason.startswith(UNDECIDED),
                    one.of,
                    str(plant.row.notes.get("planted", {}).get("what", "")) if one.varies else "",
                )
                for place, plant in enumerate(one.plants)
            ]
        numbers = trials.figures(found, list(KINDS), skipped, prior=good.prior, seed=self.seed)
        writing = writers(self.recipe)
        same = sorted({alias for alias in aliases if behind(self.recipe, alias) in writing})
        return {
            "filter": label,
            "settings": {entry.name: entry.part.model_dump(mode="json")},
            "models": {alias: self.recipe.models[alias].model for alias in sorted(aliases)},
            "same_as_writer": bool(same),
            "writes_too": same,
            "shown": {"fields": list(scene.seen), "layers": list(scene.layers)},
            "planted_in": {"text": scene.text, "answer": scene.answer},
            **numbers,
            "cost": _less(_spent(self.models.asked), before),
        }

    async def _scene(self, label: str, entry: Entry, good: Sequence[Row]) -> tuple[Scene, set[str]]:
        """What the critic is shown, found by changing one thing at a time; and the aliases that it asks."""
        recipe = self.recipe
        tools = judge.tools(recipe, self.models, label, scratch={})
        first = next(iter(recipe.models))
        sample = good[:PROBED]
        aliases: set[str] = set()
        plain = []
        for row in sample:
            shown = await _probe(entry, row, tools)
            aliases |= {alias or first for alias, _ in shown}
            plain.append(shown)

        async def changes(change: Callable[[Row], Row | None]) -> bool:
            for row, before in zip(sample, plain, strict=True):
                other = change(row)
                if other is not None and await _probe(entry, other, tools) != before:
                    return True
            return False

        def field(name: str) -> Callable[[Row], Row | None]:
            return lambda row: (
                replace(row, fields={**row.fields, name: plants.altered(row.fields[name])})
                if name in row.fields
                else None
            )

        def layer(axis: str) -> Callable[[Row], Row | None]:
            return lambda row: (
                replace(row, cell=replace(row.cell, values={**row.cell.values, axis: plants.altered(value)}))
                if (value := row.cell.values.get(axis)) is not None
                else None
            )

        seen = [name for name in recipe.fields if await changes(field(name))]
        layers = [axis for axis in recipe.layers if recipe.layers[axis].name != "models" and await changes(layer(axis))]
        text = plants.main_text(good, recipe.fields, seen, recipe.text_fields)
        own = getattr(entry.part, "answer", None)  # of a solver, which is not shown it
        answer = own if own in recipe.fields else plants.answer_of(good, recipe.fields, seen, text)
        return Scene(recipe.fields, recipe.taxonomies, seen, layers, text, answer), aliases

    def _groups(self, scene: Scene, good: Sequence[Row]) -> tuple[list[_Group], dict[str, str]]:
        """Everything that the critic is to judge, and why some things are not tried."""
        skipped: dict[str, str] = {}
        groups = [_Group(GOOD, [Plant(base, row) for base, row in enumerate(good)])]
        bad: _Group | None = None
        for kind in KINDS:
            made = plants.plants(kind, good, scene, self.seed)
            if isinstance(made, str):
                skipped[kind] = made
                continue
            groups.append(_Group(kind, made))
            if kind == "wrong answer" or (kind == "off-topic" and bad is None):
                bad = groups[-1]
        if scene.text is None:
            skipped |= dict.fromkeys(("steered to yes", "steered to no", "padded good", "padded bad", "flaw"), _NO_TEXT)
        else:
            rows = groups[0].plants
            groups.append(_Group("steered to no", plants.steered(rows, scene.text, keep=False), varies=True))
            groups.append(_Group("padded good", plants.padded(rows, scene.text, self.seed)))
            if bad is not None:
                groups.append(
                    _Group("steered to yes", plants.steered(bad.plants, scene.text, keep=True), bad.name, varies=True)
                )
                groups.append(_Group("padded bad", plants.padded(bad.plants, scene.text, self.seed), bad.name))
            groups += [_Group(place, list(plants.inserted(good, scene.text, place, self.seed))) for place in PLACES]
        if len(scene.seen) > 1:
            groups.append(_Group("order", groups[0].plants, reverse=True))
        else:
            skipped["order"] = "it is shown one field"
        return [one for one in groups if one.plants], skipped


_NO_TEXT = "it is shown no text"


class _Group(NamedTuple):
    """Rows that a critic judges under one name."""

    name: str
    plants: list[Plant]
    of: str = GOOD
    reverse: bool = False
    """Whether the fields are shown in reverse."""
    varies: bool = False
    """Whether the rows differ in which wording they got, which the figures tell apart."""


Shown = tuple[tuple[str, str], ...]
"""What a critic asked about one row: (alias, digest of the messages), sorted."""
Told = dict[int, tuple[Shown, "Verdict"]]


class _Asking:
    """One critic at its work, a row at a time, so that what it asks is known row by row."""

    def __init__(self, session: _Session, label: str, entry: Entry) -> None:
        self.session, self.label, self.entry = session, label, entry
        self.scratch: dict[str, Any] = {}

    async def all(self, groups: Sequence[_Group]) -> dict[str, Told]:
        """Every verdict; every row is answered before anything is raised, so that no reply paid for is lost."""
        due = [(one, place, plant.row) for one in groups for place, plant in enumerate(one.plants)]
        answers = await asyncio.gather(
            *(self._one(row, reverse=one.reverse) for one, _, row in due), return_exceptions=True
        )
        found: dict[str, Told] = {one.name: {} for one in groups}
        for (one, place, _), answer in zip(due, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            found[one.name][place] = answer
        return found

    async def _one(self, row: Row, *, reverse: bool) -> tuple[Shown, Verdict]:
        session, part = self.session, self.entry.part
        tools = judge.tools(session.recipe, session.models, self.label, scratch=self.scratch)
        if reverse:
            tools = replace(tools, fields={name: tools.fields[name] for name in reversed(list(tools.fields))})
            row = replace(row, fields={name: row.fields[name] for name in reversed(list(row.fields))})
            if named := getattr(part, "fields", ()):
                part = part.model_copy(update={"fields": tuple(reversed(named))})
        asked: list[tuple[str, str]] = []
        inner = tools.ask

        async def ask(alias: str, messages: Sequence[Mapping[str, str]], **settings: Any) -> Reply:
            asked.append((alias, digest([dict(message) for message in messages])))
            return await inner(alias, messages, **settings)

        verdicts = await part.judge([row], replace(tools, ask=ask))
        return tuple(sorted(asked)), verdicts[0]


async def _probe(entry: Entry, row: Row, tools: Tools) -> Shown:
    """What the critic would ask about a row, as far as its first questions; no model is asked."""
    asked: list[tuple[str, str]] = []

    async def ask(alias: str, messages: Sequence[Mapping[str, str]], **_: Any) -> Reply:
        asked.append((alias, digest([dict(message) for message in messages])))
        raise RowFault("not asked", "only to see what it would be asked")

    try:
        await entry.part.judge([row], replace(tools, ask=ask, scratch={}))
    except RowFault:  # a part may pass on that its question had no answer
        return tuple(sorted(asked))
    return tuple(sorted(asked))


def _unseen(told: Told, known: Mapping[Shown, Verdict]) -> bool:
    """Whether each row looked just like some good row, and was told just the same: the change reaches no critic."""
    return all(
        shown in known and (known[shown].kept, known[shown].reason) == (verdict.kept, verdict.reason)
        for shown, verdict in told.values()
    )


def _share_of_good(strata: Mapping[str, str], told: Mapping[str, bool]) -> float | None:
    """Share of good rows, each stratum weighed by its rows, as labels are not drawn evenly; None: one has no label."""
    sizes = Counter(strata.values())
    labels: dict[str, list[bool]] = {}
    for row, good in told.items():
        labels.setdefault(strata[row], []).append(good)
    if not sizes or set(sizes) - set(labels):
        return None
    whole = sum(n * sum(labels[name]) / len(labels[name]) for name, n in sizes.items())
    return whole / sum(sizes.values())


def _spent(used: Used) -> dict[str, Any]:
    return {
        "calls": used.calls,
        "from_journal": used.calls - used.asked,
        "tokens_in": used.tokens_in,
        "tokens_out": used.tokens_out,
        "usd": used.cost,
    }


def _less(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if value is None or before[key] is None else value - before[key] for key, value in after.items()}


def _remarks(critics: Sequence[Mapping[str, Any]], rows: int) -> list[str]:
    """What a reader must know of these figures."""
    said = []
    for one in critics:
        label = one["filter"]
        if one["same_as_writer"] and len(one["writes_too"]) < len(one["models"]):
            said.append(
                f"{label}: of the models that it asks, {', '.join(one['writes_too'])} writes rows too; it shares the "
                "writer's errors and finds them correct, which planted errors do not show. Name another model"
            )
        elif one["same_as_writer"]:
            said.append(
                f"{label}: critic and writer are the same model; it shares the writer's errors and finds them correct, "
                "which planted errors do not show. Name another model"
            )
        if one["use"] == "all":
            said.append(f"{label} is of no use here: it keeps everything, planted faults too")
        if one["use"] == "none":
            said.append(f"{label} is of no use here: it turns everything down, good rows too")
        if one["use"] == "unknown":
            said.append(f"{label}: not told from one that keeps good and bad rows alike")
        ends = one["false_accepts"]["interval"]
        if ends and ends[1] - ends[0] > WIDE:
            said.append(
                f"{label}: false accepts lie anywhere in {100 * ends[0]:.0f}–{100 * ends[1]:.0f} %, too wide to tell"
            )
        said += [
            f"{label}: {effect['name']} changes what it keeps ({effect['words']}), "
            f"{100 * effect['change']['value']:+.0f} points"
            for effect in one["effects"]
            if effect["found"]
        ]
    if (most := trials.enough()) > rows:
        none = trials.share(0, rows)["interval"][1]
        said.append(
            f"{rows} rows cannot show that fewer than {100 * none:.0f} % of a kind get through; --rows {most} can show "
            f"{100 * trials.SURE:.0f} %"
        )
    said.append("planted faults are plainer than those of writers: a critic finds fewer of the real ones than of these")
    return said
