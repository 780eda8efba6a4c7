"""A run folder, or a file qdcgen did not make → a Report; also status and verify."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdcgen import __version__, parts
from qdcgen.errors import UsageError, nearest
from qdcgen.report.contents import Calls, GateResult, ModelCalls, Report
from qdcgen.store import LABELS, REJUDGING, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import polars as pl

    from qdcgen.curve import Scored
    from qdcgen.parts import Graded, Sample
    from qdcgen.recipe import Recipe
    from qdcgen.rows import Measure, Taxonomy

__all__ = [
    "curve_of",
    "journal_of",
    "journal_text",
    "of_file",
    "of_run",
    "recipe_at",
    "review",
    "run_folder",
    "status_of",
    "status_text",
    "stored",
    "verify_text",
]

DATA_ENDINGS = {".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv"}
TOY = "the embedded model is for trying qdcgen, not for making training data"


def run_folder(where: Path) -> Path:
    """The run folder that a folder, or a recipe's file, stands for.

    Raises:
        UsageError: there is none.
    """
    folder = where
    if where.suffix in {".yaml", ".yml"} and where.is_file():
        from qdcgen.recipe import load

        folder = Path("runs") / load(where).name
    elif not where.exists():
        raise UsageError(f"{where}: no such folder; expected a run folder (runs/<name>) or a recipe (*.yaml)")
    elif not where.is_dir():
        raise UsageError(f"{where}: expected a run folder (runs/<name>) or a recipe (*.yaml)")
    if not (folder / "manifest.json").is_file():
        raise UsageError(f"{folder}: no run here (no manifest.json); qdcgen run makes one")
    return folder


def review(
    where: Path,
    *,
    text: tuple[str, ...],
    axes: tuple[str, ...],
    embedder: str | None,
    label: str | None = None,
    taxonomy: Path | None = None,
    model: str | None = None,
    group: str | None = None,
    pairs: Path | None = None,
    anchor: Path | None = None,
    anchor_text: str | None = None,
) -> Report:
    """The report on a run folder, on the run of a recipe, or on a data file; see `of_file` for its options.

    Raises:
        UsageError, RunError: `where` is none of these, or the options do not go with it.
    """
    if where.is_file() and where.suffix in DATA_ENDINGS:
        return of_file(
            where,
            text=text,
            axes=axes,
            embedder=embedder,
            label=label,
            taxonomy=taxonomy,
            pairs=pairs,
            model=model,
            group=group,
            anchor=anchor,
            anchor_text=anchor_text,
        )
    if not where.exists():
        raise UsageError(f"{where}: no such file or folder; expected a run folder, a recipe or a data file")
    if where.is_file() and where.suffix not in {".yaml", ".yml"}:
        raise UsageError(
            f"{where}: expected a run folder, a recipe, or a file ending in {', '.join(sorted(DATA_ENDINGS))}"
        )
    if any((text, axes, embedder, label, taxonomy, model, group, anchor, anchor_text)):
        raise UsageError(
            "--text, --axis, --label, --taxonomy, --model, --group, --anchor, --anchor-text and --embedder are for "
            "data files; a run is measured as its recipe says (measure:)"
        )
    store = Store(run_folder(where)).peek()
    if "measures.json" in store.files:
        report = _labelled(store, recipe_at(store, where)) if LABELS in store.files else stored(store)
    else:
        report = of_run(store, recipe_at(store, where), "", ask=False)
    if differing := _differing(store, where):
        said = f"{where} has other {differing} than the recipe that this run was made with, {store.folder}/recipe.yaml"
        report = replace(report, remarks=[f"{said}: these figures are of the latter", *report.remarks])
    if REJUDGING in store.files:
        said = "filters changed and rows are being judged again: these figures are of before; qdcgen run goes on"
        report = replace(report, remarks=[said, *report.remarks])
    if pairs is not None:
        report = _with_classes(report, store, recipe_at(store, where), pairs)
    return _with_audit(report, store)


def _differing(store: Store, where: Path) -> str:
    """The keys in which a recipe's file says something else than the recipe that the run was made with, in words."""
    if not where.is_file() or "recipe.yaml" not in store.files:
        return ""
    from qdcgen import strict_yaml

    here = strict_yaml.parse(where.read_bytes(), str(where)).data
    made = strict_yaml.parse(store.bytes("recipe.yaml"), str(store.folder / "recipe.yaml")).data
    return ", ".join(key for key in {**here, **made} if here.get(key) != made.get(key))


def recipe_at(store: Store, where: Path) -> Recipe:
    """The recipe of a run, its files looked up where it was given from."""
    return recipe_of(store, _home(store, where))


def _with_classes(report: Report, store: Store, recipe: Recipe, file: Path) -> Report:
    """The report with semantic classes, counted by these pairs instead of the recipe's. All else stays as it is."""
    import polars as pl

    from qdcgen import rounds, same
    from qdcgen.measure import measure, samples_of
    from qdcgen.vector_cache import remembering

    pairs = same.read(file)
    tried = rounds.attempts(store, recipe)
    frames = _populations(recipe, tried, rounds.made(store, ["_id", "_fault", *recipe.text_fields]))
    samples = samples_of(
        frames,
        "_text",
        remembering(recipe, store.folder).measure.embedder.part,
        seed=recipe.seed,
        filters=[label for label, _ in recipe.judges],
        attempts=tried.with_columns((pl.col("_state") == "accepted").alias("_kept")),
        pairs=pairs,
    )
    metrics: list[Any] = [parts.find("metrics", name)() for name in ("classes", "effective")]
    found = [one for one in measure(samples, metrics) if one.name in same.NAMES]
    measures = [*(one for one in report.measures if one.name not in same.NAMES), *found]
    facts = {**report.facts, "pairs": str(file)}
    return replace(report, facts=facts, measures=measures, gates=list(_gates(recipe, measures)))


def _with_audit(report: Report, store: Store) -> Report:
    """The report with a line for each critic that was audited. It is measured without: an audit changes no figure."""
    said = store.read("audit.json")
    if said is None:
        return report
    from dataclasses import replace

    from qdcgen.report.audit_text import audit_remarks

    changed = any(store.files[name].by != said["judges"] for name in store.names("verdicts"))
    return replace(report, remarks=[*report.remarks, *audit_remarks(said, changed=changed)])


def curve_of(where: Path, label: str) -> Report:
    """What each threshold of the graded filter `label` of a run would keep, cover and vary.

    Raises:
        UsageError, RunError: `where` is no run; there is no such filter, it is not graded, or gave no score.
    """
    from qdcgen.curve import curve, graded
    from qdcgen.vector_cache import remembering

    if where.is_file() and where.suffix in DATA_ENDINGS:
        raise UsageError("--curve is for a run: the filters of a recipe gave the scores")
    store = Store(run_folder(where)).peek()
    recipe = remembering(recipe_of(store, _home(store, where)), store.folder)
    how = graded(recipe, label)
    embedder = recipe.measure.embedder.part
    found = curve(
        _scored(store, recipe, label, how),
        label,
        how,
        embedder.embed,
        embedder=embedder.label,
        seed=recipe.seed,
        taxonomies=recipe.taxonomies,
        together=[strategy.axes for strategy in recipe.drawn_together],
        forbidden=_forbidden(recipe),
    )
    facts = {"run": str(store.folder), "recipe": recipe.file, "version": f"qdcgen {__version__}"}
    return Report(title=f"{recipe.name}: curve of {label}", facts=facts, curve=found)


def _scored(store: Store, recipe: Recipe, label: str, how: Graded) -> Scored:
    import math

    import polars as pl

    from qdcgen import rounds
    from qdcgen.curve import Scored

    before = [name for name, _ in recipe.judges]
    before = before[: before.index(label)]
    standing = ~pl.col("_id").is_in(rounds.retired(store)["_id"].implode())
    said = [store.table(name).filter(standing) for name in store.names("verdicts")]
    if not said:
        return Scored(pl.DataFrame(), 0, {})
    verdicts = pl.concat(said)
    seen = verdicts.filter(pl.col("filter") == label)
    # Kept although nothing could be compared (too short to tell its language, say): kept at every threshold.
    always = pl.when(pl.col("kept")).then(math.inf if how.keeps == "above" else -math.inf)
    scores = seen.select("_id", pl.col("score").fill_nan(None).fill_null(always).alias("_score")).drop_nulls()
    rows = rounds.made(store, ["_id", "_slot", "_complexity", *recipe.taxonomies, *recipe.text_fields])
    rows = rows.with_columns((~pl.col("_slot").is_first_distinct()).alias("_refill"))
    frame = rows.join(scores, on="_id", how="inner", maintain_order="left").with_columns(_text(recipe).fill_null(""))
    dropped = {name: verdicts.filter((pl.col("filter") == name) & ~pl.col("kept")).height for name in before}
    return Scored(frame, seen.height - frame.height, dropped, int(frame["_refill"].sum()))


def recipe_of(store: Store, home: Path) -> Recipe:
    """The recipe as the last invocation took it, `--set` and `--allow-dir` included."""
    from qdcgen.recipe import loads

    if "recipe.yaml" not in store.files:
        raise UsageError(f"{store.folder}: no run here yet; qdcgen run makes one")
    said = store.read("run.json") or {}
    return loads(
        store.bytes("recipe.yaml"),
        file=str(store.folder / "recipe.yaml"),
        folder=home,
        overrides=tuple(said.get("overrides", ())),
        allowed=tuple(Path(folder) for folder in said.get("allowed", ())),
        out=store.folder,
    )


def _home(store: Store, where: Path) -> Path:
    """The folder that the recipe's files are looked up in: where the recipe was given from, if that is known."""
    said = store.read("run.json") or {}
    return Path(said.get("recipe_folder") or (where.parent if where.is_file() else store.folder))


def stored(store: Store) -> Report:
    """The report as the run wrote it."""
    from qdcgen.report.document import from_document

    return from_document(store.read("measures.json"))


def _labelled(store: Store, recipe: Recipe) -> Report:
    """The report as the run wrote it, but with what labels by people say by now."""
    import numpy as np
    import polars as pl

    from qdcgen import labelled, rounds, worth

    report = stored(store)
    history = labelled.attached(rounds.attempts(store, recipe), store, recipe)
    judges = [label for label, _ in recipe.judges]
    nothing = np.empty((0, 1), dtype=np.float32)
    sample = parts.Sample(
        "kept", (), pl.DataFrame(), lambda: nothing, "", seed=recipe.seed, attempts=history, filters=judges
    )
    metric: Any = parts.find("metrics", "labelled")()
    others = [one for one in report.measures if one.table != "quality" or one.name not in worth.NAMES]
    measures = [*others, *metric.measure(sample)]
    before = worth.remarks(report.measures)
    remarks = [*(one for one in report.remarks if one not in before), *worth.remarks(measures)]
    return replace(report, measures=measures, gates=list(_gates(recipe, measures)), remarks=remarks)


# ── measuring ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _metrics() -> list[Any]:
    """Every metric on the shelf, the report's own order first, then plug-ins by name."""
    from qdcgen.measure import METRICS

    known = parts.names("metrics")
    ordered = [name for name in METRICS if name in known] + [name for name in known if name not in METRICS]
    return [parts.find("metrics", name)() for name in ordered]


def of_run(store: Store, recipe: Recipe, model: str, *, ask: bool = True) -> Report:
    """Measure a run: everything made beside what was kept, and beside the anchor where the recipe names one.

    Where the recipe names a model that reads where texts landed, it is asked if `ask` is true.
    """
    import polars as pl

    from qdcgen import effects, labelled, ledger, readers, rounds, same, worth
    from qdcgen.attrition import attrition
    from qdcgen.measure import measure, samples_of
    from qdcgen.model.ask import surprisal
    from qdcgen.ratings import rated
    from qdcgen.report.attrition import remarks as skewed
    from qdcgen.solver import solved
    from qdcgen.vector_cache import remembering

    recipe = remembering(recipe, store.folder)
    tried = rounds.attempts(store, recipe)
    # Without what the steps noted: the longest column of all, and no metric reads it.
    made = rounds.made(store, leave=("_notes", "_steps", "_reason", "_tokens_in", "_tokens_out", "_usd"))
    frames = _populations(recipe, tried, made)
    filters = [label for label, _ in recipe.judges]
    history = labelled.attached(tried, store, recipe)
    history = history.with_columns((pl.col("_state") == "accepted").alias("_kept"), *_writer(recipe))
    wanted = rounds.regions_wanted(store, recipe)
    owed = wanted.height - tried.filter(pl.col("_state") == "accepted").height
    reading, said = readers.reading(store, recipe, frames, ask=ask)
    passes, told = solved(store, recipe, frames, ask=ask)
    said += told
    banded = rounds.banded(store, recipe) if recipe.target.complexity is not None else None
    frames = _with_figures(frames, [passes, banded])
    texts = frames["kept"]["_text"].drop_nulls().to_list() if recipe.measure.complexity and "kept" in frames else ()
    ratings, told = rated(store, recipe, texts, ask=ask)
    said += told
    calls = _calls(store)
    spared = _spared(store, recipe, history, made, frames["raw"], calls) if "raw" in frames else []
    if made.height and not model:
        model = ", ".join(sorted({name for said in made["_models"].unique() for name in said.split(",") if name}))
    del made  # before vectors: both hold 1 GB of a million rows
    samples = samples_of(
        frames,
        "_text",
        recipe.measure.embedder.part,
        seed=recipe.seed,
        taxonomies=recipe.taxonomies,
        layers=list(recipe.layers),
        strategies=[strategy.axes for strategy in recipe.drawn_together],
        filters=filters,
        attempts=history,
        surprisal=surprisal(recipe.models),
        forbidden=_forbidden(recipe),
        reading=reading,
        planned=wanted,
        ratings=ratings,
        pairs=same.read(recipe.pairs) if recipe.pairs else (),
    )
    bands = recipe.target.complexity.target if recipe.target.complexity is not None else {}
    how = recipe.measure.ifd
    samples = [
        replace(one, bands=bands, solving=recipe.measure.solving, reading=how.rows if how is not None else 0)
        for one in samples
    ]
    measures = measure(samples, _metrics()) if samples else []
    thinned = attrition(samples[0], frames["raw"], _listed(recipe)) if "raw" in frames else None
    measures += spared
    facts = {
        "run": str(store.folder),
        "recipe": recipe.file,
        "model": model,
        "embedder": recipe.measure.embedder.part.label,
        "version": f"qdcgen {__version__}",
    }
    if "embedded" in model:
        facts["remember"] = TOY
    return Report(
        title=recipe.name,
        facts=facts,
        measures=measures,
        ledger=ledger.lines(wanted, tried, recipe.taxonomies, filters),
        gates=list(_gates(recipe, measures)),
        calls=calls,
        remarks=[
            *_short(owed, wanted.height),
            *skewed(thinned),
            *_remarks(recipe, samples, measures),
            *said,
            *effects.remarks(measures),
            *_alarms(measures),
            *worth.remarks(measures),
        ],
        confused=readers.confusions(samples),
        attrition=thinned,
    )


def _alarms(measures: Sequence[Measure]) -> Iterator[str]:
    """What the metric `templates` warns of, about rows that are kept or from elsewhere; and readings of no worth."""
    from qdcgen.bradley_terry import NOISY

    for one in measures:
        if one.name == "rating reliability" and one.value is not None and one.value < NOISY:
            yield (
                f"the critic's ratings agree with themselves at ρ = {one.value:.2f}, which is too noisy to use: what "
                "rests on them is left out; raise measure.complexity.appearances, or name another model"
            )
        if one.name == "reader accuracy" and one.value is not None and one.interval and one.control is not None:
            said = f"the reader tells the nodes of {one.axis} right on {one.value:.1%} of rows, by chance"
            if one.interval[0] <= one.control:
                yield f"{said} {one.control:.1%}: it is no better than chance, and where texts landed says nothing"
        if one.name in {"templated texts", "foreseen words"} and one.of not in {"raw", "anchor"}:
            said = one.note.removeprefix("alarm: ")
            if said != one.note:
                yield said


def _populations(recipe: Recipe, tried: pl.DataFrame, made: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Everything made (raw) beside what was accepted (kept), and beside the anchor, each with its `_text`."""
    import polars as pl

    frames: dict[str, pl.DataFrame] = {}
    if not made.is_empty():
        whole = made.filter(pl.col("_fault").is_null())
        accepted = tried.filter(pl.col("_state") == "accepted")["_id"]
        kept = whole.filter(pl.col("_id").is_in(accepted.implode())) if accepted.len() != whole.height else None
        raw = whole.with_columns(_text(recipe))
        frames = {"raw": raw, "kept": raw if kept is None else kept.with_columns(_text(recipe))}
    if recipe.measure.anchor is not None:
        frames["anchor"] = _anchor(recipe)
    return frames


def _with_figures(frames: dict[str, pl.DataFrame], tables: Sequence[pl.DataFrame | None]) -> dict[str, pl.DataFrame]:
    """The run's frames with what is known of single rows besides, by `_id`; frames that were one stay one."""
    known: dict[int, pl.DataFrame] = {}
    for of in ("raw", "kept"):
        if of in frames and id(frames[of]) not in known:
            frame = frames[of]
            for table in tables:
                if table is not None:  # an empty one too: then nothing is known of any row, and that is told
                    frame = frame.join(table, on="_id", how="left", maintain_order="left")
            known[id(frames[of])] = frame
    return {of: known.get(id(frame), frame) for of, frame in frames.items()}


def _hardened(recipe: Recipe) -> str:
    """What made some rows harder than others, for a remark on it."""
    return "complexify" if any(entry.name == "complexify" for entry in recipe.generate) else "asking for harder rows"


def _spared(
    store: Store, recipe: Recipe, history: pl.DataFrame, made: pl.DataFrame, raw: pl.DataFrame, calls: Calls
) -> list[Measure]:
    """What calls brought, and which were spared."""
    import polars as pl

    from qdcgen import thrift

    each = history.select(pl.col("_id", "_kept", "_usd"), pl.col("^_writer$"))
    for more in (made.select("_id", "_calls", "_models"), raw.select("_id", "_text")):
        each = each.join(more, on="_id", how="left", maintain_order="left")
    return thrift.measures(recipe, each, thrift.saved(store, recipe), calls)


def _listed(recipe: Recipe) -> list[str]:
    """Fields with few values by their schema, which filters may turn down more or less."""
    return [name for name, schema in recipe.fields.items() if "enum" in schema or schema.get("type") == "boolean"]


def _writer(recipe: Recipe) -> Iterator[pl.Expr]:
    """The alias that wrote the row, where a layer says so."""
    import polars as pl

    for axis, entry in recipe.layers.items():
        if entry.name == "models":
            yield pl.col(axis).alias("_writer")


def _short(owed: int, wanted: int) -> list[str]:
    """A short run never looks like a full one."""
    return [f"{owed:,} of {wanted:,} rows are owed: these figures are of an unfinished run"] if owed > 0 else []


def _calls(store: Store) -> Calls:
    from qdcgen.model.journal import Journal

    journal = Journal(store.folder / "calls.sqlite")
    try:
        spent = journal.totals()
        by = tuple(ModelCalls(name, *one[:4]) for name, one in journal.by_model().items())
    finally:
        journal.close()
    return Calls(spent.calls, spent.tokens_in, spent.tokens_out, spent.cost, spent.faults, by)


def _forbidden(recipe: Recipe) -> Callable[[Mapping[str, str]], bool]:
    """Whether an entry under `forbid:` that names no other axis rules this pair out."""
    from qdcgen.taxonomy import match

    lines = {axis: {leaf.path: tree.line(leaf.id) for leaf in tree.leaves} for axis, tree in recipe.taxonomies.items()}
    above = {axis: {path: tuple(line) for path, line in of.items()} for axis, of in lines.items()}

    def fits(axis: str, pattern: str, value: str) -> bool:
        if axis not in above:
            return value == pattern
        return any(match(pattern, node) for node in above[axis].get(value, ()))

    def answer(pair: Mapping[str, str]) -> bool:
        return any(
            set(entry) <= set(pair) and all(fits(axis, pattern, pair[axis]) for axis, pattern in entry.items())
            for entry in recipe.forbid
        )

    return answer if recipe.forbid else lambda _: False


def _text(recipe: Recipe) -> pl.Expr:
    """The measured text: its fields, a line break between, fields that are missing left out; null where all are."""
    import polars as pl

    fields = [pl.col(name).cast(pl.String) for name in recipe.text_fields]
    if len(fields) == 1:  # no copy of all texts, 0.4 GB for a million
        return fields[0].alias("_text")
    joined = pl.concat_str(fields, separator="\n", ignore_nulls=True) if fields else pl.lit("")
    return (
        pl.when(pl.any_horizontal([field.is_not_null() for field in fields] or [pl.lit(value=True)]))
        .then(joined)
        .alias("_text")
    )


def _anchor_rows(recipe: Recipe) -> pl.DataFrame:
    from qdcgen.tables import read

    anchor: Any = recipe.measure.anchor
    return read(recipe.anchor or recipe.folder / anchor.file)


def _anchor(recipe: Recipe) -> pl.DataFrame:
    """The real rows: `_text`, each labelled taxonomy's column of node paths, and what else the recipe has by name.

    That is fields that are not the measured text, and layers whose values are words, each as text.
    """
    import polars as pl

    from qdcgen import readers
    from qdcgen.measure import text_of

    anchor: Any = recipe.measure.anchor
    labels, trees = anchor.labels, recipe.taxonomies
    frame = _anchor_rows(recipe)
    column = anchor.text or (
        recipe.text_fields[0] if recipe.text_fields[0] in frame.columns else text_of(frame, anchor.file)
    )
    if column not in frame.columns:
        raise UsageError(f"anchor {anchor.file}: no column {column!r}; it has {', '.join(frame.columns)}")
    of = f"anchor {anchor.file}"
    worded = [axis for axis, layer in recipe.layers.items() if layer.part.column() == "String"]
    known = {*labels, *trees, *recipe.text_fields, column}
    shared = [
        name
        for name in (*recipe.fields, *worded)
        if name in frame.columns and name not in known and not frame.schema[name].is_nested()
    ]
    frame = frame.with_columns(
        pl.col(column).cast(pl.String).alias("_text"), *(pl.col(name).cast(pl.String) for name in shared)
    )
    return readers.labelled(frame, labels, trees, of).select("_text", *labels, *shared)


def _remarks(recipe: Recipe, samples: Sequence[Sample], measures: Sequence[Measure]) -> list[str]:
    """What the figures cannot say, and what to type for it."""
    import polars as pl

    from qdcgen.readers import named, nowhere

    said = nowhere(samples, recipe)
    read = {axis for axis in recipe.taxonomies if any(one.of == "kept" and one.landing(axis) for one in samples)}
    anchor = recipe.measure.anchor
    blind = [axis for axis in recipe.taxonomies if axis in read and not (anchor and axis in anchor.labels)]
    if blind:
        said.append(
            f"landed rests on its reader, and how well it tells the nodes of {', '.join(blind)} apart is unknown: name "
            "rows whose nodes people know under measure.anchor.labels"
        )
    model = recipe.measure.landing.model
    if read and any(one.name == "landed" and one.part.model == model for one in recipe.filters):
        raw = any(one.name == "landed" and one.of == "raw" for one in measures)
        said.append(
            "the filter landed kept the rows that this same reader agrees with, so landed says nothing new about "
            f"accepted rows{'; it does about raw' if raw else ''}"
        )
    if anchor is None:
        said.append(
            "no real rows to compare with: name some under measure.anchor; the weight of these rows (λ) is unknown"
        )
    elif anchor.labels:
        frame = _anchor_rows(recipe)
        told = [
            named(frame[of].cast(pl.String).to_list(), recipe.taxonomies[axis], of)[0]
            for axis, of in anchor.labels.items()
        ]
        said = [*(f"anchor {anchor.file}: {words}" for words in told if words), *said]
    return said


def _gates(recipe: Recipe, measures: Sequence[Measure]) -> Iterator[GateResult]:
    from qdcgen.measure import speaking_of

    for gate in recipe.bounds:
        found = speaking_of(measures, gate.table, gate.measure)
        values = [one.value for one in found]
        broken = [one for one in found if not gate.bound.holds(one.value)]
        worst = broken[0] if broken else (found[0] if found else None)
        value = worst.value if worst else None
        holds = bool(values) and not broken
        yield GateResult(
            gate.table,
            gate.measure,
            gate.bound.text,
            value,
            holds,
            gate.file,
            gate.line,
            "" if holds else _why(gate, worst),
        )


def _why(gate: Any, worst: Measure | None) -> str:
    name = f"{gate.table}.{gate.measure}"
    if worst is None:
        return f"{name} was not measured; expected {gate.bound.text}"
    where = f" of {worst.axis}" if worst.axis else ""
    if worst.value is None:
        return f"{name}{where} could not be measured ({worst.note}); expected {gate.bound.text}"
    missing = f"; missing: {', '.join(worst.missing[:5])}" if worst.missing else ""
    return f"{name}{where} is {worst.value:.6g}, expected {gate.bound.text}{missing}"


def of_file(
    path: Path,
    *,
    text: tuple[str, ...],
    axes: tuple[str, ...],
    embedder: str | None,
    label: str | None = None,
    taxonomy: Path | None = None,
    pairs: Path | None = None,
    model: str | None = None,
    group: str | None = None,
    anchor: Path | None = None,
    anchor_text: str | None = None,
) -> Report:
    """Measure any table of texts.

    `label` is a column in which people say what each text is, as nodes of the tree in the file `taxonomy` (by id, path
    or label), or, without one, as a flat list of its own values. The embedder then reads each text blind, and the
    report says how often the two agree. `pairs` is a file of pairs of which people said whether they say the same:
    semantic classes are counted by a threshold fitted on them. `model` is a column that says who wrote each text,
    `group` one that says which prompt it answers: models are then compared within prompts; see `foreign.written`.
    `anchor` is a file of real rows, `anchor_text` their column of texts: they are measured beside the others, and the
    others against them, by the same `label` and `axes` where they have such columns.
    """
    from qdcgen import effects, foreign, readers, same
    from qdcgen.measure import measure, samples_of_file, text_of
    from qdcgen.recipe import settings_of
    from qdcgen.tables import read

    if taxonomy is not None and label is None:
        raise UsageError("--taxonomy needs --label COLUMN: the column that says which node each text is of")
    if label is not None and label in text:
        raise UsageError(f"--label {label}: that is the text itself; name the column that says what each text is")
    if anchor_text is not None and anchor is None:
        raise UsageError("--anchor-text needs --anchor FILE: the real rows whose column it is")
    frame = read(path)
    for name in (*text, *axes, *((label,) if label else ())):
        if name not in frame.columns:
            close = nearest(name, frame.columns)
            raise UsageError(f"{path}: no column {name!r}{close} (columns: {', '.join(frame.columns)})")
    real, real_text = (None, "") if anchor is None else _real(anchor, anchor_text, text)
    text = text or (text_of(frame, str(path)),)
    column = text[0]
    if len(text) > 1:
        frame, column = _joined(frame, text), "_text"
    frame, models, unknown = foreign.written(frame, str(path), model=model, group=group, axes=axes, text=text)
    name, _, setting = (embedder or "wordllama").partition(":")
    kind: Any = parts.find("embedders", name)
    part = kind.model_validate(settings_of(kind, setting or None))
    trees: dict[str, Taxonomy] = {}
    remarks: list[str] = []
    if label is not None:
        trees = {label: _tree_of(frame, label, taxonomy, real)}
        frame, remarks = _placed(frame, trees, str(path), taxonomy)
        real = None if real is None else _placed(real, trees, str(anchor), taxonomy)[0]
    judged = same.read(pairs) if pairs is not None else []
    samples = samples_of_file(frame, column, part, of="rows", axes=axes, taxonomies=trees, pairs=judged, anchor=real)
    facts = {"file": str(path), "rows": f"{frame.height:,}", "text": " + ".join(text)}
    if taxonomy is not None:
        facts["label"] = f"{label}, nodes of {taxonomy}"
    if real is not None:
        facts["anchor"] = f"{anchor}, {real.height:,} rows, column {real_text}"
    facts |= {"pairs": str(pairs)} if pairs is not None else {}
    facts |= {**models, "embedder": part.label, "version": f"qdcgen {__version__}"}
    measures = measure(samples, _metrics())
    remarks += [*unknown, *effects.remarks(measures), *_alarms(measures)]
    if label is not None and samples[0].texts and samples[0].landing(label) is None:
        remarks.append(f"{label} has {len(trees[label].leaves):,} leaves, too many to read the texts by")
    confused = readers.confusions(samples)
    return Report(title=path.name, facts=facts, measures=measures, remarks=remarks, confused=confused)


def _joined(frame: pl.DataFrame, text: tuple[str, ...]) -> pl.DataFrame:
    """The frame with these columns joined, a line break between, in `_text`."""
    import polars as pl

    columns = [pl.col(name).cast(pl.String) for name in text]
    return frame.with_columns(pl.concat_str(columns, separator="\n", ignore_nulls=True).alias("_text"))


def _placed(
    frame: pl.DataFrame, trees: Mapping[str, Taxonomy], file: str, taxonomy: Path | None
) -> tuple[pl.DataFrame, list[str]]:
    """The frame with its labels as paths of nodes, where it has the column; and what is to be said of the others."""
    import polars as pl

    from qdcgen import readers

    said = []
    for label, tree in trees.items():
        if label not in frame.columns:
            continue
        of = label if taxonomy is None else taxonomy.stem
        apart, some = readers.named(frame[label].cast(pl.String).to_list(), tree, label, of)
        if apart and not some:
            raise UsageError(f"{file}: {apart}")
        said += [apart] if apart else []
        frame = readers.labelled(frame, {label: label}, trees, file)
    return frame, said


def _real(file: Path, column: str | None, text: tuple[str, ...]) -> tuple[pl.DataFrame, str]:
    """The real rows with their texts in `_text`, and the name of the column that these are from.

    The column is the one named, else the rows' own where the file has it, else the only one that can be.
    """
    import polars as pl

    from qdcgen.measure import text_of
    from qdcgen.tables import read

    frame = read(file)
    if column is not None and column not in frame.columns:
        close = nearest(column, frame.columns)
        raise UsageError(f"{file}: no column {column!r}{close} (columns: {', '.join(frame.columns)})")
    own = text[0] if len(text) == 1 and text[0] in frame.columns else None
    column = column or own or text_of(frame, str(file), option="--anchor-text")
    return frame.with_columns(pl.col(column).alias("_text")), column


def _tree_of(frame: pl.DataFrame, label: str, file: Path | None, real: pl.DataFrame | None = None) -> Taxonomy:
    """The tree in the file, or a flat one of the column's own values and the real rows', in order of the alphabet."""
    import polars as pl

    from qdcgen import taxonomy_files
    from qdcgen.taxonomy import inline

    if frame[label].dtype.is_nested() or frame[label].dtype == pl.Binary:
        raise UsageError(f"--label {label}: the column holds {frame[label].dtype}; a label is text or a number")
    column = frame[label].drop_nulls().cast(pl.String)
    if not any(value.strip() for value in column.unique().to_list()):
        raise UsageError(f"--label {label}: the column is empty; expected the node of each text")
    if file is not None:
        return taxonomy_files.read(label, file)
    if real is not None and label in real.columns and not real[label].dtype.is_nested():
        column = pl.concat([column, real[label].drop_nulls().cast(pl.String)])
    values = [value for value in column.unique().sort().to_list() if value.strip()]
    return inline(label, values, f"--label {label}")


# ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def status_of(folder: Path) -> dict[str, Any]:
    """Where a run stands, from what is committed; works while it runs."""
    store = Store(folder).peek()
    said = store.read("run_results.json")
    found: dict[str, Any] = {
        "folder": str(folder),
        "batches": {"planned": 0, "made": len(store.names("raw")), "judged": len(store.names("verdicts"))},
        "rows": {"made": sum(store.files[name].rows or 0 for name in store.names("raw"))},
        "last": said,
    }
    for name in store.names("plan"):
        table = store.table(name)
        found["batches"]["planned"] += int(table["batch"].n_unique())
    found["judged_anew"] = REJUDGING in store.files
    found["rows"]["published"] = sum(store.files[name].rows or 0 for name in store.names("data"))
    return found


def status_text(found: dict[str, Any]) -> str:
    """Status in a few lines."""
    from qdcgen.ledger import STATES
    from qdcgen.report.figures import dollars

    batches, rows, last = found["batches"], found["rows"], found["last"]
    lines = [
        found["folder"],
        f"  batches   {batches['made']} of {batches['planned']} made, {batches['judged']} judged"
        + (" by the filters as they are now; data/ is of those before" if found["judged_anew"] else ""),
        f"  rows      {rows['made']} made, {rows['published']} in data/",
    ]
    if last is None:
        lines.append("  last      no invocation has ended yet")
    else:
        target = last["rows"]
        accepted = f"{target['accepted']} of {target['target']} accepted, {target['owed']} owed"
        lines.append(f"  last      exit {last['exit_code']}: {accepted}")
        others = [f"{count:,} {state}" for state, count in target.items() if state in STATES and count]
        lines.append(f"  tried     {target['attempted']:,}: {', '.join(others) or 'nothing'}")
        calls, cost = last["calls"], last["usd_in_all"]
        lines.append(
            f"  calls     {calls['made']:,} by the last invocation, {calls['from_journal']:,} from the journal"
        )
        lines.append(f"  cost      {'unknown' if cost is None else dollars(cost)} in all")
        lines += [f"            {remark}" for remark in last["remarks"]]
    return "\n".join(lines)


def journal_of(folder: Path, prune: float | None) -> dict[str, Any]:
    """What the journal holds; with `prune`, after dropping replies not made or used in so many days.

    Raises:
        RunError: there is no run in the folder.
        RunLocked: it is to be pruned, and a run is writing to it.
    """
    from contextlib import nullcontext

    from qdcgen.model.journal import Journal

    store = Store(folder).peek()
    with store if prune is not None else nullcontext():
        journal = Journal(folder / "calls.sqlite")
        try:
            dropped = journal.prune(prune) if prune is not None else None
            return {**journal.about(), "dropped": dropped}
        finally:
            journal.close()


def journal_text(found: dict[str, Any]) -> str:
    """The journal in a few lines."""
    from datetime import UTC, datetime

    lines = [found["file"], f"  replies   {found['replies']:,} in {found['bytes'] / 1e6:.1f} MB"]
    lines += [f"            {count:,} of {model}" for model, count in found["models"].items()]
    lines.append(f"  hits      {found['hits']:,} times a reply was used again instead of asked for")
    lines.append(f"  unusable  {found['unusable']:,} replies that did not fit, kept for a look and never served")
    if found["oldest"] is not None:
        days = [datetime.fromtimestamp(found[key], UTC).date().isoformat() for key in ("oldest", "newest")]
        lines.append(f"  made      {days[0]} to {days[1]}")
    if found["dropped"] is not None:
        lines.append(f"  dropped   {found['dropped']:,} replies")
    return "\n".join(lines)


def verify_text(folder: Path, *, repair: bool) -> tuple[bool, str]:
    """Whether every file is as it was written, and what to say; `repair` takes what is damaged out of the run."""
    from qdcgen.model.journal import damage

    store = Store(folder).peek()
    found = store.verify()
    found += damage(folder / "calls.sqlite")
    if repair and found:
        return _repaired(folder, found)
    if found:
        return False, "\n".join([*found, f"{folder}: {len(found)} faults; --repair takes the damaged files out"])
    return True, f"{folder}: {len(store.files)} files as written"


def _repaired(folder: Path, found: list[str]) -> tuple[bool, str]:
    """Take damaged files out; a batch goes with its verdicts and those of every later one, which rest on it."""
    from qdcgen.model.journal import damage

    with Store(folder) as held:
        broken = {name for name in held.files if any(line.startswith(f"{name}:") for line in found)}
        if plans := sorted(name for name in broken if name.startswith("plan/")):
            way = "restore it from a copy, or start over with qdcgen run --replace (replies are kept)"
            return False, "\n".join(
                [*found, f"{folder}: {plans[0]} says what was asked for and cannot be remade; {way}"]
            )
        if LABELS in broken and (folder / LABELS).exists():
            way = "restore it from a copy, or remove it and repair again"
            return False, "\n".join(
                [*found, f"{folder}: {LABELS} holds what people said and cannot be made again; {way}"]
            )
        first = min((name.partition("/")[2] for name in broken if name.startswith(("raw/", "verdicts/"))), default=None)
        if first is not None:
            broken |= {name for name in held.names("verdicts") if name.partition("/")[2] >= first}
        held.commit({}, drop=tuple(sorted(broken)))
        left = held.verify() + damage(folder / "calls.sqlite")
    said = f"{folder}: {len(broken)} files taken out; run the recipe again to make them from the journal"
    if left:
        journal = "move calls.sqlite away to ask everything again, or restore it from a copy"
        return False, "\n".join([*found, said, *left, f"{folder}: not repaired; {journal}"])
    return True, "\n".join([*found, said])
