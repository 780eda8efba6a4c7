"""The command line: parse, call, print, exit code. Decides nothing; imports everything it calls when it is called.

stdout carries the result, stderr the progress and the errors.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import typer.core

from qdcgen import __version__
from qdcgen.cli_taxonomy import app as taxonomy_app

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qdcgen.recipe import Recipe


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run the command. A Ctrl-C that it is not ready for leaves as an error: typer would end without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Abort from None


app = typer.Typer(
    name="qdcgen",
    cls=_Commands,
    help="Synthetic text data with separate controls, and separate numbers, for coverage, diversity, complexity\n"
    "and quality.",
    epilog="Start with: qdcgen init, then qdcgen run recipe.yaml. The manual is README.md; every part: qdcgen parts.",
    rich_markup_mode=None,  # rich costs 150 ms at start-up
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(taxonomy_app, name="taxonomy")

RecipeArgument = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, e.g. recipe.yaml.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override one key of the recipe, e.g. --set target.rows=50."),
]
AllowDir = Annotated[
    list[Path] | None,
    typer.Option(
        "--allow-dir", metavar="DIR", help="Let the recipe read files from DIR as well as from its own folder."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The run folder. Default: runs/<name of the recipe>.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


def _loaded(path: Path, overrides: list[str] | None, allowed: list[Path] | None, out: Path | None = None) -> Recipe:
    from qdcgen.recipe import load

    return load(path, overrides=tuple(overrides or ()), allowed=tuple(allowed or ()), out=out)


def _print(text: str) -> None:
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    """Print words that may hold names from files, replies or the command line."""
    from qdcgen.safe import printable

    _print(printable(text, lines=True))


def _print_json(value: Any) -> None:
    from qdcgen.report.document import dumps

    _print(dumps(value))


def _width() -> int:
    from shutil import get_terminal_size

    return max(60, min(get_terminal_size((80, 24)).columns, 120)) if sys.stdout.isatty() else 80


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


@app.command(epilog="Example: qdcgen init recipe.yaml && qdcgen check recipe.yaml")
def init(
    path: Annotated[Path, typer.Argument(metavar="[RECIPE]", help="Where to write it.")] = Path("recipe.yaml"),
) -> None:
    """Write a small recipe to start from. It runs as it is on the model in the install."""
    from qdcgen.start import write_starter

    _say(write_starter(path))


@app.command(epilog="Example: qdcgen check recipe.yaml --set target.rows=50")
def check(recipe: RecipeArgument, overrides: Set = None, allow_dir: AllowDir = None) -> None:
    """Read a recipe and every file it names; print each fault with file, line and column. Asks no model."""
    from qdcgen.start import checked_in_words, read_files

    loaded = _loaded(recipe, overrides, allow_dir)
    read_files(loaded)
    _say(checked_in_words(loaded))


@app.command(epilog="Example: qdcgen plan recipe.yaml --set target.rows=1000000")
def plan(
    recipe: RecipeArgument,
    overrides: Set = None,
    allow_dir: AllowDir = None,
    out: Out = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Make 8 rows, kept for the run, to measure calls, tokens and cost.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print what a run would ask for: mixes, leaf and pair coverage, calls and tokens. Spends nothing by itself."""
    from qdcgen.preview import estimated, plan_summary
    from qdcgen.report.plan_text import plan_document, plan_terminal

    loaded = _loaded(recipe, overrides, allow_dir, out)
    summary = estimated(loaded, out or Path("runs") / loaded.name) if estimate else plan_summary(loaded, out)
    if as_json:
        _print_json(plan_document(summary))
    else:
        _print(plan_terminal(summary, width=_width(), colour=_colour()))


@app.command(epilog="Example: qdcgen preview recipe.yaml -n 2")
def preview(
    recipe: RecipeArgument,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=100, help="How many rows to make.")] = 3,
    overrides: Set = None,
    allow_dir: AllowDir = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Make the first few rows and print them with what each was asked to be and what the filters said.

    The replies are kept in the run's journal, so a later run does not ask for them again.
    """
    from qdcgen.preview import preview_rows, preview_text

    loaded = _loaded(recipe, overrides, allow_dir, out)
    made = preview_rows(loaded, out or Path("runs") / loaded.name, rows)
    if as_json:
        _print_json(made)
    else:
        _say(preview_text(made))


@app.command(epilog="Example: qdcgen run recipe.yaml --set target.rows=200 --out runs/big")
def run(
    recipe: RecipeArgument,
    overrides: Set = None,
    allow_dir: AllowDir = None,
    out: Out = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Let rows go that a changed recipe no longer asks for, or start over where it asks differently; "
            "unchanged requests cost nothing.",
        ),
    ] = False,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", metavar="AXIS:PATTERN", help="Make only these regions now, e.g. topic:cards/**."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="AXIS:PATTERN", help="Leave these regions for later.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log_format: Annotated[
        str, typer.Option("--log-format", metavar="text|json", help="json: one JSON event a line on stderr.")
    ] = "text",
    trace: Annotated[
        bool, typer.Option("--trace", help="Write every call, without keys, to trace.jsonl in the folder.")
    ] = False,
) -> None:
    """Generate until the target is met, then measure. Run it again to go on after any interruption.

    Exit codes: 0 done, 2 invalid, 3 a gate is broken, 4 incomplete but resumable, 5 refused by a provider,
    130 interrupted.
    """
    from qdcgen.run import run as run_recipe
    from qdcgen.selection import Selection

    loaded = _loaded(recipe, overrides, allow_dir, out)
    if log_format not in ("text", "json"):
        raise typer.BadParameter(f"expected text or json, found {log_format!r}", param_hint="--log-format")
    log = _log_json if log_format == "json" else None
    folder = out or Path("runs") / loaded.name
    outcome = run_recipe(
        loaded,
        folder,
        replace=replace,
        selection=Selection(tuple(select or ()), tuple(exclude or ())),
        quiet=quiet,
        trace=trace,
        log=log,
    )
    if as_json:
        _print_json(outcome.results)
    elif outcome.report is not None:
        from qdcgen.report.terminal import terminal

        _print(terminal(outcome.report, width=_width(), colour=_colour()))
    if log is not None:
        log({"event": "end", "exit_code": outcome.exit_code, "remarks": outcome.remarks, **outcome.results["rows"]})
    else:
        _complain("\n".join(outcome.remarks))
    raise typer.Exit(outcome.exit_code)


def _log_json(event: Mapping[str, Any]) -> None:
    import json
    import time

    sys.stderr.write(json.dumps({"at": round(time.time(), 3), **event}) + "\n")
    sys.stderr.flush()


@app.command(epilog="Examples: qdcgen journal runs/quickstart; qdcgen journal runs/quickstart --prune 30")
def journal(
    where: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder or its recipe.")],
    prune: Annotated[
        float | None, typer.Option("--prune", metavar="DAYS", min=0, help="Drop replies not made or used in DAYS days.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what the journal of a run holds: replies, size, how often they were used again; prune it."""
    from qdcgen.review import journal_of, journal_text, run_folder

    found = journal_of(run_folder(where), prune)
    if as_json:
        _print_json(found)
    else:
        _say(journal_text(found))


@app.command(epilog="Example: qdcgen status runs/quickstart")
def status(
    where: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder or its recipe.")], as_json: Json = False
) -> None:
    """Say how far a run is: accepted, owed, rejected and failed rows, calls, cost, and how it last ended."""
    from qdcgen.review import run_folder, status_of, status_text

    found = status_of(run_folder(where))
    if as_json:
        _print_json(found)
    else:
        _say(status_text(found))


@app.command(
    epilog="Examples: qdcgen report runs/quickstart; qdcgen report data.jsonl --text instruction --axis category; "
    "qdcgen report real.csv --text message --label intent --embedder bge; qdcgen report replies.jsonl --text reply "
    "--model model --group prompt; qdcgen report made.jsonl --anchor real.csv; qdcgen report runs/mine --curve judge"
)
def report(
    where: Annotated[
        Path, typer.Argument(metavar="RUN|RECIPE|FILE", help="A run folder, its recipe, or any data file.")
    ],
    text: Annotated[list[str] | None, typer.Option("--text", help="Column to measure, for a data file.")] = None,
    axis: Annotated[
        list[str] | None, typer.Option("--axis", help="Column to report coverage of, for a data file.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", help="Column in which people say what a text is: how well does the embedder read it?"),
    ] = None,
    taxonomy: Annotated[
        Path | None, typer.Option("--taxonomy", metavar="TREE", help="File of the tree that --label is of.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Column that says which model wrote a text: how alike do models write? An --axis called model is read "
            "so too.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            help="Column that says which prompt a text answers, for --model; default: the one whose values every model "
            "has texts for.",
        ),
    ] = None,
    anchor: Annotated[
        Path | None,
        typer.Option(
            "--anchor",
            metavar="FILE",
            help="Real rows to set a data file against: figures beside theirs, precision and recall, what differs.",
        ),
    ] = None,
    anchor_text: Annotated[
        str | None, typer.Option("--anchor-text", help="Their column of texts; default: that of --text.")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option("--embedder", help="wordllama, bge, or any: qdcgen parts embedders.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            metavar="FILE",
            help="Pairs of texts (text_a, text_b) that people judged the same or not (same: 1, 0, yes, no): count "
            "semantic classes by a threshold fitted on them, and say how right it is.",
        ),
    ] = None,
    curve: Annotated[
        str | None,
        typer.Option(
            "--curve",
            metavar="FILTER",
            help="What other thresholds of a graded filter would keep, cover and vary, instead of the tables.",
        ),
    ] = None,
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables, for pull requests.")] = False,
    notes: Annotated[
        bool, typer.Option("--notes", help="With footnotes: how each figure is taken, its own n and control.")
    ] = False,
) -> None:
    """Print coverage, diversity, complexity and quality tables of a run, or of any Parquet, JSONL or CSV file."""
    from qdcgen.review import curve_of, review

    if as_json and markdown:
        raise typer.BadParameter("one of the two: --json is a document, --markdown its tables", param_hint="--markdown")
    others = (text, axis, embedder, label, taxonomy, pairs, model, group, anchor, anchor_text)
    if curve is not None and any(others):
        raise typer.BadParameter(
            "is of a run: not with --text, --axis, --label, --taxonomy, --model, --group, --anchor, --anchor-text, "
            "--embedder or --pairs",
            param_hint="--curve",
        )
    if curve is not None:
        found = curve_of(where, curve)
    else:
        found = review(
            where,
            text=tuple(text or ()),
            axes=tuple(axis or ()),
            embedder=embedder,
            label=label,
            taxonomy=taxonomy,
            pairs=pairs,
            model=model,
            group=group,
            anchor=anchor,
            anchor_text=anchor_text,
        )
    if as_json:
        from qdcgen.report.document import document

        _print_json(document(found))
    elif markdown:
        from qdcgen.report.markdown import markdown as in_markdown

        _print(in_markdown(found))
    else:
        from qdcgen.report.terminal import terminal

        _print(terminal(found, width=_width(), colour=_colour(), notes=notes))


@app.command(epilog="Examples: qdcgen parts; qdcgen parts filters; qdcgen parts filters length")
def parts(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="layers, steps, filters, metrics, …")] = None,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One part, in full.")] = None,
) -> None:
    """List the parts a recipe can name, or explain one with its settings."""
    from qdcgen.start import parts_text

    _print(parts_text(kind, name))


@app.command(epilog="Example: qdcgen schema > recipe.schema.json")
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from qdcgen.schema import recipe_schema

    _print_json(recipe_schema())


@app.command(epilog="Example: qdcgen verify runs/quickstart")
def verify(
    where: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder or its recipe.")],
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Take damaged files out, so that the next run makes them again from the journal."
        ),
    ] = False,
) -> None:
    """Compare every file of a run with its checksum. Exit code 1 when a byte differs."""
    from qdcgen.review import run_folder, verify_text

    sound, said = verify_text(run_folder(where), repair=repair)
    _say(said)
    raise typer.Exit(0 if sound else 1)


@app.command(
    epilog="Examples: qdcgen audit recipe.yaml --rows 6; qdcgen audit runs/quickstart --filter double_critic --rows 73"
)
def audit(
    where: Annotated[Path, typer.Argument(metavar="RECIPE|RUN", help="A recipe, or a run folder.")],
    rows: Annotated[int, typer.Option("--rows", "-n", min=2, max=5000, help="Good rows to plant faults in.")] = 24,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Which rows and faults; default: the recipe's seed.")
    ] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="NAME", help="Audit this critic only; may be repeated.")
    ] = None,
    overrides: Set = None,
    allow_dir: AllowDir = None,
    out: Out = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Plant rows known to be bad and see which of them each critic lets through, before the main spend.

    Each row is judged some 14 times, by every filter that asks a model. The replies are kept in the run's journal, so a
    second audit is free. Before there is a run, the first rows of its plan are made for it, and kept for it too.
    """
    from qdcgen.audit import Interrupted, opened
    from qdcgen.audit import audit as audit_critics
    from qdcgen.report.audit_text import audit_text

    recipe, folder = opened(where, overrides or (), allow_dir or (), out)
    say: Callable[[str], None] = (lambda _: None) if quiet else _complain
    try:
        document = audit_critics(recipe, folder, rows=rows, seed=seed, filters=filters or (), say=say)
    except Interrupted as stop:
        _complain(str(stop))
        raise typer.Exit(128 + stop.number) from None
    if as_json:
        _print_json(document)
    else:
        _print(audit_text(document))


@app.command(
    epilog="Examples: qdcgen label runs/quickstart; qdcgen label runs/quickstart --to todo.csv; "
    "qdcgen label runs/quickstart --from todo.csv --by anna"
)
def label(
    where: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder or its recipe.")],
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=100_000, help="Rows to label in all.")] = 50,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another number draws other rows.")] = 0,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Take labels from a CSV, JSONL or Parquet file: _id, label, by."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="CSV", help="Write the rows to a file, to be labelled elsewhere.")
    ] = None,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Whose labels these are.")] = "me",
    as_json: Json = False,
) -> None:
    """Say of rows, one at a time, whether they are good: y, n, s to skip, u to undo, q to leave and go on later.

    Rows are drawn from the accepted ones and from those that each filter rejected, and shown without saying which. The
    report then says how often each filter is right, and what share of the rows is good.
    """
    from qdcgen.label import label as label_rows
    from qdcgen.label import label_text

    try:
        found = label_rows(where, rows=rows, seed=seed, by=by, source=source, to=to)
    except SystemExit as stop:  # a signal while keys are read
        if stop.code != _HUNG_UP:
            _complain("interrupted; every label given so far is saved, and qdcgen label goes on from there")
        raise
    if as_json:
        _print_json(found)
    else:
        _say(label_text(found))


_HUNG_UP = 129
"""Exit code after SIGHUP: the terminal is gone, and nobody is told anything."""


def _version(wanted: bool) -> None:
    if wanted:
        _print(f"qdcgen {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Entry point: every error becomes one message on stderr and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # tables need more than ASCII in any locale
    # Read when polars loads: pages that it freed go back to the system at once. Measured on 100,000 rows of two calls,
    # where a peak of 610 MiB became 585, at the same speed.
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
    sys.exit(_guarded(lambda: app(standalone_mode=False, prog_name="qdcgen")))


def _guarded(command: Callable[[], Any]) -> int:
    from qdcgen.errors import QdcgenError

    # Some releases of typer carry a click of their own, whose errors are not those of the package click.
    wrong_usage: type[Exception] = next(
        kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
    )
    try:
        code = command()
    except QdcgenError as error:
        _complain(str(error))
        return error.exit_code
    except typer.Exit as stop:
        return int(stop.exit_code)
    except wrong_usage as error:
        _complain(_usage(error))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's own flush is quiet
        return 141
    except Exception as error:
        if os.environ.get("QDCGEN_TRACEBACK"):
            raise
        _complain(
            f"unexpected error: {type(error).__name__}: {error} (QDCGEN_TRACEBACK=1 shows where; please report it)"
        )
        return 1
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> str:
    """What is wrong with the command line, and where its help is; the help itself where nothing was typed."""
    said = str(error.format_message()).strip()
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return said
    return f"{said}\nhelp: {context.command_path if context else _typed()} --help"


def _typed() -> str:
    """The command that was typed, as far as it is one: typer does not say where an option lacks its value."""
    found: Any = typer.main.get_command(app)
    words = ["qdcgen"]
    for word in sys.argv[1:]:
        if word not in getattr(found, "commands", {}):
            break
        found = found.commands[word]
        words.append(word)
    return " ".join(words)


def _complain(message: str) -> None:
    from qdcgen.safe import printable

    for line in message.splitlines() or [""]:
        sys.stderr.write(printable(line) + "\n")
    sys.stderr.flush()
