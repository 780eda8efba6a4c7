"""Write what the manual says of the code, from the code: `make docs`; `--check` fails when a file has drifted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import typer.main

from qdcgen import parts, reference
from qdcgen.cli import app
from qdcgen.rows import COLUMNS
from qdcgen.schema import recipe_schema
from qdcgen.start import part_text

ROOT = Path(__file__).parent.parent
NOTE = "<!-- Written by `make docs` from the code; edits here are overwritten. -->\n\n"


def commands() -> str:
    """Every command's help."""
    group = typer.main.get_command(app)
    lines = [NOTE + "# Commands\n"]
    with click.Context(group, info_name="qdcgen", terminal_width=90, max_content_width=90) as top:
        lines.append(f"```\n{group.get_help(top)}\n```\n")
        _add_commands(lines, group, top, "##")
    return "\n".join(lines)


def _add_commands(lines: list[str], group: Any, above: click.Context, level: str) -> None:
    """Each command of a group, and below one that is a group itself, those of it."""
    for name, command in group.commands.items():
        with click.Context(command, info_name=name, parent=above, terminal_width=90, max_content_width=90) as inner:
            lines.append(f"{level} {inner.command_path.partition(' ')[2]}\n\n```\n{command.get_help(inner)}\n```\n")
            if hasattr(command, "commands"):
                _add_commands(lines, command, inner, f"{level}#")


def shelves() -> str:
    """Every part with its settings."""
    lines = [NOTE + "# Parts\n"]
    for kind in parts.KINDS:
        known = parts.names(kind)
        if known:
            lines.append(f"## {kind}\n")
        lines += [f"### {name}\n\n```text\n{part_text(kind, name)}\n```\n" for name in known]
    return "\n".join(lines)


def recipe() -> str:
    """Every key of a recipe."""
    lines = [NOTE + "# Keys of a recipe\n", "Layers, steps and filters with their settings: [parts](parts.md).\n"]
    lines += [f"## {key}\n\n```text\n{reference.section(key)}\n```\n" for key in reference.known()]
    return "\n".join(lines)


def columns() -> str:
    """The table of Parquet columns."""
    lines = [NOTE + "# Columns of `data/` and `rejected/`\n"]
    lines += ["| column | type | unit | range | written by | what it is |", "|---|---|---|---|---|---|"]
    for column in COLUMNS:
        cells = (f"`{column.name}`", column.type, column.unit, column.range, column.writer, column.text)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## Columns of layers", ""]
    lines.append("A layer's column has the layer's name in the recipe; a struct's keys depend on its settings.")
    lines += ["", "| layer | column |", "|---|---|"]
    lines += [f"| `{name}` | {_typed(name)} |" for name in parts.names("layers")]
    return "\n".join(lines) + "\n"


LEAST = {
    "choice": {"values": ["a"]},
    "documents": {"file": "articles.jsonl"},
    "format": {"formats": ["an email"]},
    "label": {"field": "sentiment", "values": ["yes"]},
    "models": {"values": ["small"]},
    "people": {"pool": ["a nurse", "a baker"]},
    "persona": {"axes": {"risk": "attitude to risk", "pace": "how fast they decide"}},
    "range": {"min": 1, "max": 9},
    "subtopics": {"of": "topic"},
    "tool_graph": {"file": "tools.json"},
}
"""The fewest settings that each layer takes."""


def _typed(name: str) -> str:
    kind = parts.find("layers", name).model_validate(LEAST.get(name, {})).column()
    return kind if isinstance(kind, str) else "Struct: " + ", ".join(f"`{key}` {inner}" for key, inner in kind.items())


def main() -> int:
    """Write the files, or with `--check` say which differ."""
    files = {
        ROOT / "docs" / "commands.md": commands(),
        ROOT / "docs" / "parts.md": shelves(),
        ROOT / "docs" / "recipe.md": recipe(),
        ROOT / "docs" / "columns.md": columns(),
        ROOT / "recipes" / "recipe.schema.json": json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n",
    }
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} has drifted from the code; type: make docs\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
        sys.stderr.write(f"{path.relative_to(ROOT)} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
