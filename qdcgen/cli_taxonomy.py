"""The commands `qdcgen taxonomy …`: parse, call, print. Decides nothing; imports what it calls when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
