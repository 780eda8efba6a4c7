"""The commands `qdcgen taxonomy …`: parse, call, print. Decides nothing; imports what it calls when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

app = typer.Typer(
    name="taxonomy",
    help="Grow, look at, compare, prune, convert and score taxonomies.",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write here instead of to stdout.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def _print(text: str) -> None:
    """Print words that may hold names from files, replies or the command line."""
    import sys

    from qdcgen.safe import printable

    sys.stdout.write(printable(text, lines=True).rstrip("\n") + "\n")


def _print_json(value: object) -> None:
    import sys

    from qdcgen.report.document import dumps

    sys.stdout.write(dumps(value).rstrip("\n") + "\n")


@app.callback()
def _main() -> None:
    pass


@app.command(
    epilog='Examples: qdcgen taxonomy grow "household appliances" --out axes/appliances.json; '
    "qdcgen taxonomy grow recipe.yaml"
)
def grow(
    what: Annotated[
        str, typer.Argument(metavar="DESCRIPTION|RECIPE", help="What to divide up, or a recipe with grow: axes.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|DIR",
            help="The file to write (default axes/<words>.json) or a folder for it, or a recipe's run folder.",
        ),
    ] = None,
    depth: Annotated[int | None, typer.Option("--depth", min=1, max=10, help="Levels of nodes. Default 3.")] = None,
    proposals: Annotated[
        int | None, typer.Option("--proposals", min=1, max=20, help="Independent proposals for each node. Default 3.")
    ] = None,
    children: Annotated[
        int | None, typer.Option("--children", min=1, max=100, help="Most children of one node. Default 8.")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option("--nodes", min=1, max=100_000, help="Most nodes in all. Default 300.")
    ] = None,
    calls: Annotated[
        int | None, typer.Option("--calls", min=1, max=1_000_000, help="Most model calls in all. Default 600.")
    ] = None,
    factors: Annotated[
        int | None,
        typer.Option("--factors", min=1, max=12, help="First find up to this many aspects; one file for each."),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option("--samples", metavar="FILE", help="Rows that show the model what the data is like.")
    ] = None,
    duplicates: Annotated[
        str | None,
        typer.Option("--duplicates", metavar="flag|merge", help="Labels that two branches have. Default flag."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="e.g. openai/gpt-5-mini. Default: embedded.")
    ] = None,
    api_base: Annotated[
        str | None, typer.Option("--api-base", metavar="URL", help="Address of an OpenAI-dialect server.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="VARIABLE", help="Environment variable that holds the key.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override one key of the recipe.")
    ] = None,
    allow_dir: Annotated[
        list[Path] | None, typer.Option("--allow-dir", metavar="DIR", help="Let the recipe read files from DIR too.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Grow anew, in the place of a tree that is there already.")
    ] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Ask a model for a taxonomy, level by level: several proposals for each node, one critic, one plan a level.

    Every reply is kept in a journal beside the file (or in the run folder): after any interruption the same command
    goes on where it was. A tree that is there is never grown over.
    """
    from qdcgen import growing

    bounds = {"depth": depth, "proposals": proposals, "children": children, "nodes": nodes, "calls": calls}
    said = {name: value for name, value in {**bounds, "duplicates": duplicates}.items() if value is not None}
    settings = {"model": model, "api_base": api_base, "key": key}
    settings = {name: value for name, value in settings.items() if value is not None}
    given = (tuple(overrides or ()), tuple(allow_dir or ()))
    request = growing.Asked(what, out, said, settings, factors, samples, *given)
    try:
        planted = growing.carried_out(request, replace=replace, say=(lambda _: None) if quiet else growing.to_stderr)
    except growing.Interrupted as stop:
        growing.to_stderr(str(stop))
        raise typer.Exit(128 + stop.number) from None
    if as_json:
        _print_json(growing.grown_document(planted))
    elif planted:
        _print(growing.grown_text(planted, _width()))


# ── looking, comparing, converting ──────────────────────────────────────────────────────────────────────────────────

Tree = Annotated[
    Path, typer.Argument(metavar="TREE", help="A taxonomy file, an artefact, a recipe or a run folder (see --axis).")
]
Axis = Annotated[
    str | None, typer.Option("--axis", metavar="AXIS", help="Which axis of a recipe or a run folder; of one, that one.")
]
NewFile = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="FILE", help="Where to write: .json .csv .tsv .yaml .ttl .rdf .jsonld say the format."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]


def _width() -> int:
    import sys
    from shutil import get_terminal_size

    return max(60, min(get_terminal_size((80, 24)).columns, 120)) if sys.stdout.isatty() else 80


def _note(lines: Iterable[str]) -> None:
    """Say on stderr what need not be acted on; the lines may hold names from files."""
    import sys

    from qdcgen.safe import printable

    for line in lines:
        sys.stderr.write(printable(f"note: {line}") + "\n")


@app.command(
    epilog="Examples: qdcgen taxonomy show topics.csv --depth 2; qdcgen taxonomy show recipe.yaml --axis topic; "
    "qdcgen taxonomy show runs/quickstart --counts"
)
def show(
    where: Tree,
    axis: Axis = None,
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="Levels to show. Default: all.")] = None,
    counts: Annotated[
        bool, typer.Option("--counts", help="Of a run: rows asked for and accepted, per node with those below it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print a taxonomy as a tree: of any file, of a recipe's axes, or of a run with what became of each node."""
    from qdcgen import taxonomy_open, taxonomy_show

    found = taxonomy_open.every(where, axis, counts=counts)
    if as_json:
        trees = [taxonomy_show.document(one.tree, depth=depth, counts=one.counts) for one in found]
        _print_json({"taxonomies": trees})
        return
    pages = [taxonomy_show.text(one.tree, width=_width(), depth=depth, counts=one.counts) for one in found]
    _print("\n\n".join(pages))
    for one in found:
        _note(one.notes)


@app.command(
    epilog="Examples: qdcgen taxonomy diff old.json new.json; "
    "qdcgen taxonomy diff runs/a runs/b --axis topic --exit-code"
)
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="What it was: a file, a recipe or a run folder.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="What it is now.")],
    axis: Axis = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 where they differ, as git does.")] = False,
    as_json: Json = False,
) -> None:
    """Say what changed from A to B: nodes added, removed, renamed or moved, other texts, weights or order.

    A node is recognised by its id; in a tree without ids of its own its path is its id.
    """
    from qdcgen import taxonomy_diff, taxonomy_open

    trees = [one.tree for one in taxonomy_open.several([before, after], axis)]
    found = taxonomy_diff.compared(*trees)
    if as_json:
        _print_json(found.document())
    else:
        _print(found.text())
    raise typer.Exit(1 if found and exit_code else 0)


@app.command(
    epilog="Examples: qdcgen taxonomy prune topics.json 'cards/**' -o small.json; "
    "qdcgen taxonomy prune topics.json '*' --keep cards -o cards.json"
)
def prune(
    tree: Tree,
    patterns: Annotated[
        list[str],
        typer.Argument(metavar="PATTERN...", help="Nodes to take out, with all below: cards/lost, 'cards/**'."),
    ],
    out: NewFile,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="PATTERN", help="Nodes that stay, with all below and above.")
    ] = None,
    axis: Axis = None,
    force: Force = False,
) -> None:
    """Take nodes out of a taxonomy, and write what is left. Ids stay, and so do the origins in an artefact.

    Patterns are those of a recipe: `lost` is an id or a label, `cards/*` one level below cards, `cards/**` all of it.
    """
    from qdcgen import taxonomy_diff, taxonomy_open

    opened = taxonomy_open.one(tree, axis)
    found = taxonomy_diff.pruned(opened.tree, patterns, keep or [])
    said = taxonomy_open.saved(opened._replace(tree=found.tree), out, force=force)
    _print(f"{found.text()}\n{said}")
    _note(opened.notes)


@app.command(
    "import",
    epilog="Examples: qdcgen taxonomy import mediatopics.jsonld --exclude retired=True -o topics.json; "
    "qdcgen taxonomy import naics.csv --id Code --label Title -o trade.json",
)
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, TSV, JSON, YAML; SKOS as .jsonld, .ttl or .rdf; an artefact.")
    ],
    out: NewFile,
    form: Annotated[
        str | None, typer.Option("--format", metavar="ENDING", help="Read as if the file ended so: csv, ttl, rdf, …")
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", metavar="COLUMN", help="Column of node ids.")] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="COLUMN", help="Column of parent ids, or '<prefix>' for codes.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="Column of names.")] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="COLUMN", help="Column of definitions.")] = None,
    weight: Annotated[str | None, typer.Option("--weight", metavar="COLUMN", help="Column of weights.")] = None,
    levels: Annotated[
        str | None, typer.Option("--levels", metavar="A,B,C", help="Columns that hold the path, root first.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="COLUMN=VALUE", help="Leave these rows out.")
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option("--root", metavar="NODE", help="Take only this node (id or path), with all below it."),
    ] = None,
    force: Force = False,
) -> None:
    """Read a taxonomy from a table, a tree or SKOS, check it, and write it, e.g. as an artefact for a recipe's file:.

    Columns that are not named are found by their usual names. Nothing is written where the file has a fault.
    """
    from qdcgen import taxonomy_open

    columns = {"id": id_, "parent": parent, "label": label, "text": text, "weight": weight}
    opened = taxonomy_open.brought_in(
        source, form=form, columns=columns, levels=levels, exclude=exclude or (), root=root or ()
    )
    _print(taxonomy_open.saved(opened, out, force=force))
    _note(opened.notes)


@app.command(
    epilog="Examples: qdcgen taxonomy export topics.json -o topics.ttl; "
    "qdcgen taxonomy export recipe.yaml --axis topic -o topic.csv"
)
def export(tree: Tree, out: NewFile, axis: Axis = None, force: Force = False) -> None:
    """Write a taxonomy as a table, a nested tree, SKOS or an artefact; it reads back as the same tree."""
    from qdcgen import taxonomy_open

    opened = taxonomy_open.one(tree, axis)
    _print(taxonomy_open.saved(opened, out, force=force))
    _note(opened.notes)


@app.command(
    epilog="Examples: qdcgen taxonomy score grown.json --reference mediatopics.csv; "
    "qdcgen taxonomy score grown.json --reference ref.csv --model openai/gpt-5-mini -o score.json"
)
def score(
    tree: Tree,
    reference: Annotated[Path, typer.Option("--reference", "-r", metavar="REF", help="The taxonomy to compare with.")],
    embedder: Annotated[
        str, typer.Option("--embedder", help="wordllama, bge, or any: qdcgen parts embedders.")
    ] = "wordllama",
    threshold: Annotated[
        float | None, typer.Option("--threshold", metavar="COSINE", help="Labels as near as this say the same.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Also ask this critic, e.g. openai/gpt-5-mini.")
    ] = None,
    api_base: Annotated[
        str | None, typer.Option("--api-base", metavar="URL", help="Address of an OpenAI-dialect server.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="VARIABLE", help="Environment variable that holds the key.")
    ] = None,
    axis: Axis = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also write the figures as JSON here.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    r"""Compare a taxonomy with a reference: four figures, each with its control.

        completeness  of the reference's nodes, the share that the tree has too
    soundness     of the tree's nodes, the share that belongs to the subject
    novelty       of the tree's nodes, those that belong and the reference lacks
    coverage      of all that belongs, on either side, what the tree has

    By embedding: labels of two nodes say the same where they are equal or as near as --threshold, whose default was
    measured on aliases of WordNet; a node belongs where it is nearer to some reference node than 95 % of 60 unrelated
    words are. The control is 60 other unrelated words in place of the tree: a figure close to it says nothing.

    By critic too, where --model names one; its replies are kept beside the output.
    """
    from qdcgen import taxonomy_open, taxonomy_score
    from qdcgen.taxonomy_export import free, write

    if api_base is not None and model is None:
        raise typer.BadParameter("goes with --model, e.g. --model openai/qwen3-8b", param_hint="--api-base")
    if out is not None:
        free(out, force=force)  # before a model is asked
    sides = taxonomy_open.several([tree, reference], axis)
    journal = (out or (tree if tree.is_file() else Path("taxonomy-score"))).with_suffix(".calls.sqlite")
    found = taxonomy_score.score(
        sides[0].tree,
        sides[1].tree,
        taxonomy_score.embedder_of(embedder),
        taxonomy_score.threshold_of(embedder.partition(":")[0], threshold),
        critic=taxonomy_score.critic_of(model, api_base, key) if model is not None else None,
        journal=journal,
    )
    document = taxonomy_score.scored_document(found)
    if out is not None:
        from qdcgen.report.document import dumps

        write(out, dumps(document).encode(), force=force)
    if as_json:
        _print_json(document)
    else:
        _print(taxonomy_score.scored_text(found, width=_width()))


@app.command(
    epilog="Examples: qdcgen taxonomy strategies recipe.yaml; "
    "qdcgen taxonomy strategies recipe.yaml --model critic -o suggested.yaml"
)
def strategies(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, e.g. recipe.yaml.")],
    model: Annotated[
        str, typer.Option("--model", metavar="ALIAS", help="Alias of the recipe to ask. Default: the first one.")
    ] = "",
    out: Out = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="The run folder. Default: runs/<name of the recipe>.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override one key of the recipe.")
    ] = None,
    allow_dir: Annotated[
        list[Path] | None, typer.Option("--allow-dir", metavar="DIR", help="Let the recipe read files from DIR too.")
    ] = None,
    force: Force = False,
) -> None:
    """Ask a model which taxonomies to draw together, what to forbid and what is more common; print it as YAML.

    At most 14 calls, kept in the journal of the run folder. Nothing is applied: edit it and put it into the recipe.
    """
    from qdcgen.recipe import load
    from qdcgen.suggest import suggest, suggested_text

    loaded = load(recipe, overrides=tuple(overrides or ()), allowed=tuple(allow_dir or ()), out=run)
    text = suggested_text(suggest(loaded, run or Path("runs") / loaded.name, model), loaded)
    if out is None:
        _print(text)
    else:
        from qdcgen.taxonomy_export import write

        write(out, text.encode(), force=force)
        _print(f"{out}: written. Nothing of it is applied: edit it and put it into {recipe}")
