"""What the rounds of a run folder hold: the rows each owes, the rows that were made, what was said of them.

The folder's tables as frames, and the one place that knows the names of their files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from qdcgen import bands, ledger
from qdcgen.errors import Fault, RecipeError, UsageError
from qdcgen.generate import Asked
from qdcgen.ledger import RETIRED, Wanted
from qdcgen.plan import Plan, refill
from qdcgen.plan import Strategy as Drawn
from qdcgen.refresh import Regions, drawn, reconciled
from qdcgen.rows import stream
from qdcgen.store import digest, packed, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qdcgen.judge import Judged
    from qdcgen.recipe import Recipe
    from qdcgen.rows import Row, Taxonomy
    from qdcgen.selection import Selection
    from qdcgen.store import Kind, Store

__all__ = [
    "BAND",
    "HOPELESS",
    "PROBES",
    "Batch",
    "Owed",
    "accepted_before",
    "attempts",
    "banded",
    "batch_rows",
    "batches",
    "check_selection",
    "drawn_from",
    "freeze",
    "held",
    "kept_by",
    "made",
    "named",
    "next_round",
    "plan_of",
    "planned",
    "regions",
    "regions_wanted",
    "retired",
    "short_of_bands",
    "standing_ids",
    "verdict_table",
    "wanted",
]


BAND = "_band"
"""Column of a frozen round: the band of difficulty that each row is asked for, where the target has bands."""


class Batch(NamedTuple):
    """One unit of commit and resume. `name` is its file's, below `raw/` and `verdicts/`."""

    round: int
    number: int
    slots: pl.DataFrame

    @property
    def name(self) -> str:
        """`000-000012`: round, then number; names sort in plan order."""
        return f"{self.round:03d}-{self.number:06d}"

    @property
    def raw(self) -> str:
        """The file of its rows."""
        return f"raw/{self.name}.parquet"

    @property
    def verdicts(self) -> str:
        """The file of what was said of them."""
        return f"verdicts/{self.name}.parquet"

    def asked(self, axes: Mapping[str, object], slots: pl.DataFrame) -> list[Asked]:
        """Some of its `slots` as generate takes them."""
        return [
            Asked(
                row["slot"],
                row["replicate"],
                {axis: row[axis] for axis in axes if row[axis] is not None},
                row.get(BAND),
            )
            for row in slots.iter_rows(named=True)
        ]


def batch_rows(rows: int) -> int:
    """Rows to a batch: about 32 batches a run, but 8 to 512 rows each.

    8 keeps a quickstart's commits minutes apart at most; 512 keeps the 16 ms of a commit below 0.1 % at 60 rows/s.
    """
    return max(8, min(512, rows // 32))


def planned(store: Store) -> pl.DataFrame:
    """Every row that any round owed: `round`, `batch`, `slot`, `replicate` and node ids by taxonomy; in plan order."""
    tables = [
        store.table(name, leave=(BAND,)).with_columns(pl.lit(number, dtype=pl.Int64).alias("round"))
        for number, name in enumerate(store.names("plan"))
    ]
    return pl.concat(tables) if tables else pl.DataFrame()


def regions_wanted(store: Store, recipe: Recipe) -> pl.DataFrame:
    """`slot` and node ids by taxonomy of every slot that is to be filled, asked for already or not; by slot."""
    before, want, plan = planned(store), wanted(store, recipe), plan_of(recipe)
    if before.is_empty():
        return named(plan.slots(0, recipe.target.rows), recipe)
    frozen = before.filter(want.holds("slot")).unique("slot", keep="first", maintain_order=True)
    fresh = _fresh(recipe, plan, before, want)
    return pl.concat([frozen.select(fresh.columns), fresh]).sort("slot")


def batches(store: Store) -> Iterator[Batch]:
    """Every batch of every frozen round, in plan order."""
    for number, name in enumerate(store.names("plan")):
        for part in store.table(name).partition_by("batch", maintain_order=True):
            yield Batch(number, part["batch"][0], part)


def freeze(store: Store, recipe: Recipe, slots: pl.DataFrame) -> None:
    """Write what the next round owes, batch by batch, and which plan it was drawn from."""
    size = batch_rows(slots.height)
    frame = slots.with_columns((pl.int_range(pl.len(), dtype=pl.Int64) // size).alias("batch"))
    by = f"{drawn_from(recipe)}/{recipe.target.rows}"
    store.commit({f"plan/{len(store.names('plan')):03d}.parquet": packed(frame)}, by=by)


def plan_of(recipe: Recipe) -> Plan:
    """The plan of a recipe: an endless, seeded sequence of mixes."""
    strategies = [Drawn(strategy.axes, strategy.weight) for strategy in recipe.drawn_together]
    try:
        return Plan(recipe.taxonomies, strategies, recipe.forbid, recipe.seed)
    except RecipeError as error:
        faults = [Fault(recipe.file, 0, 0, f"{fault.file}: {fault.message}") for fault in error.faults]
        raise RecipeError(faults) from None


def drawn_from(recipe: Recipe) -> str:
    """16 hex digits that stand for the plan's whole sequence of mixes."""
    return digest([recipe.seed, drawn(recipe.taxonomies, recipe.drawn_together, recipe.forbid)])


def regions(recipe: Recipe) -> Regions:
    """Which mixes can be drawn from the recipe as it is now."""
    return Regions(recipe.taxonomies, recipe.drawn_together, recipe.forbid)


def _of_one_plan(store: Store, recipe: Recipe) -> bool:
    """Whether every round was drawn from the plan as it is now."""
    now = drawn_from(recipe)
    return all(store.files[name].by.partition("/")[0] == now for name in store.names("plan"))


def wanted(store: Store, recipe: Recipe) -> Wanted:
    """Which slots are to be filled.

    Drawn from one plan: those below the target. Drawn from several, because regions were added or taken out on the
    way: all whose region can still be drawn, also beyond the target where a new leaf brought more; only when the target
    is lower than it was are they cut to it. With bands of difficulty a lower target keeps the share of each.
    """
    target = recipe.target.rows
    before = max((int(store.files[name].by.partition("/")[2]) for name in store.names("plan")), default=0)
    if recipe.target.complexity is not None and target < before:
        return Wanted(target, _by_bands(store, recipe, target))
    if _of_one_plan(store, recipe):
        return Wanted(target)
    valid = _valid(recipe, planned(store))
    if target < before and target < valid.height:  # as the plan shares them out, what it does not name in slot order
        axes = list(recipe.taxonomies)
        shared = named(plan_of(recipe).slots(0, target), recipe).group_by(axes).len("_want")
        nth = pl.int_range(pl.len(), dtype=pl.Int64).over(axes)
        marked = valid.join(shared, on=axes, how="left", nulls_equal=True, maintain_order="left").with_columns(
            (nth >= pl.col("_want").fill_null(0)).alias("_spare")
        )
        valid = marked.sort("_spare", "slot").head(target)
    return Wanted(max(target, valid.height), valid["slot"].sort())


def _by_bands(store: Store, recipe: Recipe, target: int) -> pl.Series:
    """The slots that a lower target keeps: each band's share of those that are filled, then what is owed, in order."""
    settings = recipe.target.complexity
    have = held(store, recipe, "~")
    room = settings.quota(target) if settings is not None else {}
    chosen, rest = [], []
    for slot in _valid(recipe, planned(store))["slot"].to_list():
        band = have.get(slot, "")
        if room.get(band, 0):
            room[band] -= 1
            chosen.append(slot)
        else:
            rest.append(slot)
    rest.sort(key=lambda slot: (slot in have, slot))
    return pl.Series("slot", sorted([*chosen, *rest[: max(0, target - len(chosen))]]), dtype=pl.Int64)


def _valid(recipe: Recipe, before: pl.DataFrame) -> pl.DataFrame:
    """The slots whose region can be drawn from the recipe as it is now; in slot order."""
    return regions(recipe).standing(before.unique("slot", keep="first")).sort("slot")


def retired(store: Store) -> pl.DataFrame:
    """Rows whose region left the recipe; see `refresh`."""
    return store.table("retired.parquet") if "retired.parquet" in store.files else pl.DataFrame(schema=RETIRED)


def made(store: Store, columns: list[str] | None = None, *, leave: Sequence[str] = ()) -> pl.DataFrame:
    """Every row that was made, in plan order; only `columns` when given, and none of `leave`."""
    tables = [store.table(name, columns, leave=leave) for name in store.names("raw")]
    return pl.concat(tables) if tables else pl.DataFrame()


_VERDICTS = {"_id": pl.String, "filter": pl.String, "kept": pl.Boolean, "reason": pl.String, "score": pl.Float64}


def verdict_table(judged: list[Judged]) -> pl.DataFrame:
    """Verdicts as they lie in `verdicts/`: one line per row and filter that saw it."""
    return pl.DataFrame(
        [(one.row, one.filter, one.verdict.kept, one.verdict.reason or None, one.verdict.score) for one in judged],
        schema=_VERDICTS,
        orient="row",
    )


def attempts(store: Store, recipe: Recipe) -> pl.DataFrame:
    """Every candidate with its state; see `ledger.attempts`."""
    return ledger.attempts(*_history(store, recipe), wanted(store, recipe), retired(store))


def _history(store: Store, recipe: Recipe) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Everything that was made and everything that was said of it."""
    columns = [
        "_id",
        "_slot",
        "_round",
        "_mix",
        *recipe.taxonomies,
        *recipe.layers,
        "_fault",
        "_reason",
        "_usd",
        "_labels",
    ]
    raw = made(store, columns)
    if raw.is_empty():
        schema = dict.fromkeys(columns, pl.String) | {"_slot": pl.Int64, "_round": pl.Int64, "_usd": pl.Float64}
        raw = pl.DataFrame(schema=schema)
    said = [store.table(name) for name in store.names("verdicts")]
    judged = {name.removeprefix("verdicts/") for name in store.names("verdicts")}
    verdicts = pl.concat(said) if said else pl.DataFrame(schema=_VERDICTS)
    if not recipe.judges:  # nobody judges, so a batch with an empty verdict file is judged
        ids = [store.table(f"raw/{name}", ["_id"]) for name in sorted(judged)]
        if ids:
            verdicts = pl.concat(ids).select(
                "_id",
                pl.lit("").alias("filter"),
                pl.lit(value=True).alias("kept"),
                pl.lit(None, dtype=pl.String).alias("reason"),
                pl.lit(None, dtype=pl.Float64).alias("score"),
            )
    return raw, verdicts


def standing_ids(store: Store, recipe: Recipe) -> pl.Series:
    """Ids of the rows that are accepted in some slot, whether or not its region can still be drawn."""
    raw, verdicts = _history(store, recipe)
    every = Wanted(0, planned(store)["slot"].unique())
    return ledger.attempts(raw, verdicts, every, retired(store)).filter(pl.col("_state") == "accepted")["_id"]


def kept_by(store: Store, recipe: Recipe, label: str, types: Mapping[str, Kind], until: str) -> Iterator[Row]:
    """Rows that the filter `label` let through in batches before `until`, in plan order."""
    layers, fields = ({name: types[name] for name in of} for of in (recipe.layers, recipe.fields))
    gone = retired(store)["_id"].implode()
    for name in store.names("verdicts"):
        if name >= until:
            return
        passed = store.table(name).filter((pl.col("filter") == label) & pl.col("kept"))["_id"]
        table = store.table(name.replace("verdicts/", "raw/"))
        standing = pl.col("_id").is_in(passed.implode()) & ~pl.col("_id").is_in(gone)
        yield from rows_of(table.filter(standing), fields, layers)


def accepted_before(
    store: Store, recipe: Recipe, types: Mapping[str, Kind], round_: int
) -> tuple[list[Row], Mapping[str, Taxonomy]]:
    """Accepted rows of the rounds before `round_`, in plan order, and the trees they lie in."""
    layers, fields = ({name: types[name] for name in of} for of in (recipe.layers, recipe.fields))
    tried = attempts(store, recipe)
    ids = tried.filter((pl.col("_state") == "accepted") & (pl.col("_round") < round_))["_id"]
    rows = made(store).filter(pl.col("_id").is_in(ids.implode()))
    return rows_of(rows, fields, layers), recipe.taxonomies


class Owed(NamedTuple):
    """What a round owes."""

    slots: pl.DataFrame
    """`slot`, `replicate` and node ids by taxonomy; empty: nothing is owed."""
    given_up: pl.DataFrame
    """Slots that stay empty: `slot` and node ids by taxonomy."""
    left_out: int = 0
    """Slots that are owed and were not selected."""


def next_round(store: Store, recipe: Recipe, plan: Plan, tried: pl.DataFrame, selection: Selection) -> Owed:
    """What the next round owes.

    Slots that were never asked for come from the plan; slots whose every candidate so far was turned down come again,
    with the next replicate of their mix, until they had `target.candidates` of them. Of the slots of a leaf that has
    been turned down throughout only a few come again, as probes, until one of them is kept (see `probed`).
    """
    before, axes, target = planned(store), list(recipe.taxonomies), recipe.target
    want = wanted(store, recipe)
    if before.is_empty():
        again = given_up = named(plan.slots(0, 0), recipe)
        fresh = named(plan.slots(0, target.rows), recipe)
    else:
        asked = before.filter(want.holds("slot")).select("slot", *axes).unique("slot", keep="first")
        filled = tried.filter(pl.col("_state").is_in(["accepted", "unjudged"]))["_slot"]
        had = tried.filter(~pl.col("_state").is_in(["retired", "surplus"]))["_slot"]
        again, given_up = refill(asked, filled, had, target.candidates)
        fresh = _fresh(recipe, plan, before, want)
    chosen = selection.of(recipe)
    left_out = again.height + fresh.height - again.filter(chosen).height - fresh.filter(chosen).height
    again, withheld, hopeless = probed(again.filter(chosen), tried, recipe)
    fresh = fresh.filter(chosen)
    if target.complexity is not None:
        again, waiting, lost = _aimed(store, recipe, tried, again, fresh, want.rows)
        withheld, hopeless = pl.concat([withheld, waiting]), pl.concat([hopeless, lost])
        aims = [target.complexity.aimed(slot) for slot in fresh["slot"].to_list()]
        fresh = fresh.with_columns(pl.Series(BAND, aims, dtype=pl.String))
    owed = pl.concat([again, fresh])
    if target.attempts is not None:
        room = max(0, target.attempts - tried.height)
        owed, unasked = owed.head(room), owed[room:]
        withheld = pl.concat([withheld, unasked.select(withheld.columns)])
    if owed.is_empty():  # nothing more is asked for, so what waited for a probe's outcome stays empty
        hopeless = pl.concat([hopeless, withheld])
    given_up = pl.concat([given_up, hopeless]).sort("slot")
    return Owed(_numbered(store, owed, axes), given_up, left_out)


def banded(store: Store, recipe: Recipe) -> pl.DataFrame:
    """The band of difficulty of every row that was placed in one: `_id`, `_figure` and `_measured`.

    A row has a figure, and no band, where its figure lies between two.
    """
    settings = recipe.target.complexity
    empty = pl.DataFrame(schema={"_id": pl.String, "_figure": pl.Float64, "_measured": pl.String})
    if settings is None or not store.names("verdicts"):
        return empty
    said = pl.concat([store.table(name, ["_id", "filter", "score"]) for name in store.names("verdicts")])
    scored = said.filter((pl.col("filter") == bands.LABEL) & pl.col("score").is_not_null())
    placed = [settings.of(figure) for figure in scored["score"].to_list()]
    return scored.select("_id", pl.col("score").alias("_figure"), pl.Series("_measured", placed, dtype=pl.String))


def held(store: Store, recipe: Recipe, until: str) -> dict[int, str]:
    """Slot → band of the row that fills it, of verdicts in files before `until`: what the bands hold so far."""
    settings = recipe.target.complexity
    found: dict[int, str] = {}
    gone = retired(store)["_id"].implode()
    for name in store.names("verdicts") if settings is not None else ():
        if name >= until:
            break
        passed = store.table(name, ["_id", "filter", "kept", "score"])
        passed = passed.filter((pl.col("filter") == bands.LABEL) & pl.col("kept") & ~pl.col("_id").is_in(gone))
        slots = store.table(name.replace("verdicts/", "raw/"), ["_id", "_slot"])
        for slot, figure in passed.join(slots, on="_id", maintain_order="left").select("_slot", "score").iter_rows():
            if settings is not None and (band := settings.of(figure)) is not None:
                found.setdefault(slot, band)
    return found


def _of_bands(store: Store, recipe: Recipe, tried: pl.DataFrame) -> pl.DataFrame:
    """What was tried, with the band that each row was asked for (`_asked`) and the one that it came out in."""
    told = made(store, ["_id", "_complexity"])
    if told.is_empty():
        told = pl.DataFrame(schema={"_id": pl.String, "_complexity": pl.String})
    asked = told.rename({"_complexity": "_asked"})
    return tried.join(asked, on="_id", how="left", maintain_order="left").join(
        banded(store, recipe), on="_id", how="left", maintain_order="left"
    )


def _aimed(
    store: Store, recipe: Recipe, tried: pl.DataFrame, again: pl.DataFrame, fresh: pl.DataFrame, rows: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(slots to ask for again, each with its band; slots that wait; slots given up early).

    What the bands lack, beyond what slots that are asked for the first time will be asked for, is shared out: a slot
    keeps the band that it draws where that lacks rows, and the others take what is left, in an order drawn by slot. A
    band of which nothing came out, of HOPELESS candidates or more that were asked for it, gets PROBES a round; once it
    was asked for in `target.candidates` rounds in vain, its slots are given up.
    """
    settings: Any = recipe.target.complexity
    told = _of_bands(store, recipe, tried)
    have = dict(told.filter(pl.col("_state") == "accepted").group_by("_measured").len().iter_rows())
    lack = {band: count - have.get(band, 0) for band, count in settings.quota(rows).items()}
    for slot in fresh["slot"].to_list():
        lack[settings.aimed(slot)] -= 1
    lack = {band: max(0, count) for band, count in lack.items()}
    slots = again["slot"].to_list()
    given: dict[int, str] = {}
    rest: list[int] = []
    for slot in slots:
        own = settings.aimed(slot)
        if lack[own]:
            lack[own] -= 1
            given[slot] = own
        else:
            rest.append(slot)
    left = [band for band, count in lack.items() for _ in range(count)]
    rest.sort(key=lambda slot: stream("complexity", str(slot)))
    for place, slot in enumerate(rest):  # what is lacked is never less than what is owed; of more, each in proportion
        given[slot] = left[place * len(left) // len(rest)]
    judged = told.filter(~pl.col("_state").is_in(["retired", "unjudged"]))
    met = set(judged["_measured"].drop_nulls())
    asked = judged.group_by("_asked").agg(pl.len(), pl.col("_round").n_unique().alias("rounds"))
    counts = {band: (n, times) for band, n, times in asked.iter_rows()}
    hopeless = {band for band in lack if band not in met and counts.get(band, (0, 0))[0] >= HOPELESS}
    over = {band for band in hopeless if counts[band][1] >= recipe.target.candidates}
    marked = again.with_columns(pl.Series(BAND, [given[slot] for slot in slots], dtype=pl.String))
    lost = pl.col(BAND).is_in(list(over))
    waits = pl.col(BAND).is_in(list(hopeless - over)) & (pl.int_range(pl.len()).over(BAND) >= PROBES)
    columns = again.columns
    return (
        marked.filter(~lost & ~waits),
        marked.filter(~lost & waits).select(columns),
        marked.filter(lost).select(columns),
    )


def short_of_bands(store: Store, recipe: Recipe, tried: pl.DataFrame, rows: int) -> list[str]:
    """The bands that lack rows: how many they have, and what became of the rows that were asked to be in them."""
    settings = recipe.target.complexity
    if settings is None:
        return []
    told = _of_bands(store, recipe, tried)
    have = dict(told.filter(pl.col("_state") == "accepted").group_by("_measured").len().iter_rows())
    found = []
    for band, quota in settings.quota(rows).items():
        if have.get(band, 0) < quota:
            asked = told.filter(pl.col("_asked") == band)
            hit = asked.filter(pl.col("_measured") == band).height
            seen = asked.filter(pl.col("_figure").is_not_null()).height
            found.append(
                f"band {band} ({settings.by.replace('_', ' ')} {settings.bands[band]}): {have.get(band, 0)} of {quota} "
                f"rows; {asked.height} candidates were asked to be in it, {seen} were placed, {hit} of them in it"
            )
    return found


def _numbered(store: Store, owed: pl.DataFrame, axes: list[str]) -> pl.DataFrame:
    """The slots with the next replicates of their mixes: those after the last one that was made."""
    occurrence = pl.int_range(pl.len(), dtype=pl.Int64).over(axes)
    numbered = owed.with_columns(occurrence.alias("replicate"), _key(axes).alias("_mix"))
    if owed.is_empty():  # as at the end of every run: nothing to number, and no row to read
        return numbered.drop("_mix")
    told = made(store, ["_mix", "_replicate"])
    if told.is_empty():
        return numbered.drop("_mix")
    counts = told.group_by("_mix").agg((pl.col("_replicate").max() + 1).alias("_made"))
    more = pl.col("replicate") + pl.col("_made").fill_null(0)
    joined = numbered.join(counts, on="_mix", how="left", maintain_order="left")
    return joined.with_columns(more.alias("replicate")).drop("_made", "_mix")


def _key(axes: list[str]) -> pl.Expr:
    """The name of a row's mix, as `rows.mix_key` writes it."""
    pairs = []
    for axis in sorted(axes):
        node = pl.col(axis)
        for plain, escaped in (("%", "%25"), (";", "%3B"), ("=", "%3D")):
            node = node.str.replace_all(plain, escaped, literal=True)
        pairs.append(pl.lit(f"{axis}=") + node)
    return pl.concat_str(pairs, separator=";", ignore_nulls=True)


def check_selection(recipe: Recipe, selection: Selection) -> None:
    """Raises UsageError when no planned row is selected."""
    slots = named(plan_of(recipe).slots(0, recipe.target.rows), recipe)
    if slots.filter(selection.of(recipe)).is_empty():
        said = [*(f"--select {one}" for one in selection.select), *(f"--exclude {one}" for one in selection.exclude)]
        raise UsageError(f"{' '.join(said)}: no planned row is left; take one of them out")


def _fresh(recipe: Recipe, plan: Plan, before: pl.DataFrame, want: Wanted) -> pl.DataFrame:
    """Slots that no round has asked for."""
    target = recipe.target.rows
    if want.slots is None:
        known = before["slot"]
        slots = plan.slots(0, target) if target > known.n_unique() else plan.slots(0, 0)
        slots = slots.with_columns(pl.col("slot").cast(pl.Int64))
        return named(slots.filter(~pl.col("slot").is_in(known.implode())), recipe)
    standing = _valid(recipe, before)
    first = int(before["slot"].max()) + 1  # type: ignore[arg-type]
    return reconciled(named(plan.slots(0, target), recipe), standing, list(recipe.taxonomies), first)


HOPELESS = 8
"""Candidates of one leaf, all turned down, from which only probes are sent: at a true rate of one in three, one leaf in
26 would look so by chance, and the probes find it out."""
PROBES = 4
"""Candidates that a hopeless leaf gets in a round."""


def probed(again: pl.DataFrame, tried: pl.DataFrame, recipe: Recipe) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(slots to ask for again, slots that wait, slots given up early): a leaf of which nothing was kept is probed.

    `again`: the slots that are owed one more candidate. A leaf with at least HOPELESS candidates and none kept gets
    PROBES a round, and its other slots wait; once it was asked for in `target.candidates` rounds in vain, all its slots
    are given up. As soon as one candidate is kept, its other slots are owed in full again.
    """
    judged = tried.filter(~pl.col("_state").is_in(["retired", "unjudged"]))
    kept = pl.col("_state").is_in(["accepted", "surplus"])
    hopeless: dict[str, list[str]] = {}
    lost = pl.lit(value=False)
    for axis, tree in recipe.taxonomies.items():
        ids = {node.path: node.id for node in tree.leaves}
        counts = judged.group_by(axis).agg(
            pl.len().alias("n"), kept.sum().alias("kept"), pl.col("_round").n_unique().alias("rounds")
        )
        counts = counts.filter((pl.col("kept") == 0) & (pl.col("n") >= HOPELESS) & pl.col(axis).is_not_null())
        over = counts.filter(pl.col("rounds") >= recipe.target.candidates)[axis]
        lost = lost | pl.col(axis).is_in([ids[path] for path in over if path in ids]).fill_null(value=False)
        hopeless[axis] = [ids[path] for path in counts[axis] if path in ids]
    given_up, again = again.filter(lost), again.filter(~lost)
    waits = pl.lit(value=False)
    for axis, leaves in hopeless.items():  # the first slot of all is the first of each of its leaves: one is asked
        nth = pl.int_range(pl.len()).over(axis)
        waits = waits | (pl.col(axis).is_in(leaves) & (nth >= PROBES)).fill_null(value=False)
    return again.filter(~waits), again.filter(waits), given_up


def named(slots: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """Plan slots with leaf numbers turned into node ids: what a round is frozen with, so that it outlives its tree."""
    ids = {
        axis: pl.Series([leaf.id for leaf in tree.leaves], dtype=pl.String) for axis, tree in recipe.taxonomies.items()
    }
    return slots.select(
        pl.col("slot").cast(pl.Int64),
        *(ids[axis].gather(slots[axis]).alias(axis) for axis in recipe.taxonomies),
    )
