"""For a newcomer: a recipe to start from, what a recipe says in words, and the list of parts."""

from __future__ import annotations

import inspect
import shlex
from typing import TYPE_CHECKING, Any

from qdcgen import parts
from qdcgen.errors import UsageError, nearest
from qdcgen.safe import printable

if TYPE_CHECKING:
    from pathlib import Path

    from qdcgen.errors import Fault
    from qdcgen.recipe import Recipe

__all__ = ["STARTER", "checked_in_words", "part_text", "parts_text", "write_starter"]

STARTER = """\
# A recipe. Check it: qdcgen check {file}   See what it would ask: qdcgen plan {file}   Run it: qdcgen run {file}
recipe: 1
name: {name}
about: Questions that visitors put to a city library, each with the right answer.
seed: 1

models:
  writer: {{model: embedded, max_tokens: 200}}   # no key, no download; later e.g. openai/<model>

taxonomy:                       # what regions must be covered
  topic:
    tree:
      borrowing: [renewing a book, late fees, lost card]
      rooms: [booking a study room, opening hours]
  visitor: [student, parent, pensioner]

layers:                         # how rows inside a region vary
  mood: {{choice: {{friendly: 2, in a hurry: 1}}}}
  words: {{range: {{min: 8, max: 25, unit: words}}}}

generate:                       # how a row is made
  - write:
      fields:
        question: {{type: string, maxLength: 200}}
        answer: {{type: string, maxLength: 200}}
      prompt: >
        Write a question of about {{{{ words }}}} words that a {{{{ visitor }}}}, {{{{ mood }}}}, asks at a
        city library, and the right answer. The question is about: {{{{ topic }}}}.

filters:                        # what is kept
  - schema
  - length: {{field: question, min_words: 4}}
  - duplicates: {{field: question, similarity: 0.8}}

target: {{rows: 15}}
measure: {{text: question}}
gates:
  coverage: {{leaves: ">= 1"}}
"""


def write_starter(path: Path) -> str:
    """Write the starter recipe; gives what to type next.

    Raises:
        UsageError: the file is there already, or cannot be written.
    """
    plain = "".join(c if (c.isascii() and c.isalnum()) or c in "-_" else "-" for c in path.stem)
    name = plain.strip("-_")[:100] or "first"
    typed = shlex.quote(printable(str(path)))  # stands in a comment of the recipe, where a line break would end it
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(STARTER.format(file=typed, name=name))
    except FileExistsError:
        raise UsageError(f"{path} is there already; name another file: qdcgen init other.yaml") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    return f"{path}: written. Next: qdcgen check {typed}; qdcgen plan {typed}; qdcgen run {typed}"


def checked_in_words(recipe: Recipe) -> str:
    """One line per axis and step of a recipe that passed every check."""
    lines = [f"{recipe.file}: ok"]
    for axis, tree in recipe.taxonomies.items():
        lines.append(f"  taxonomy  {axis}: {len(tree.nodes):,} nodes, {len(tree.leaves):,} leaves, {tree.depth} deep")
    lines += [f"  layer     {axis}: {entry.name}" for axis, entry in recipe.layers.items()]
    for entry in recipe.generate:
        filled = ", ".join(entry.part.fills())
        lines.append(f"  step      {entry.name}{f' fills {filled}' if filled else ''}")
    lines += [f"  filter    {label}{_calls(entry.part, recipe)}" for label, entry in recipe.judges]
    lines.append(f"  target    {recipe.target.rows:,} rows, at most {recipe.target.candidates} candidates each")
    lines += [f"  gate      {gate.table}.{gate.measure} {gate.bound.text}" for gate in recipe.bounds]
    lines += [f"  note      {note}" for note in recipe.notes]
    return "\n".join(lines)


def _calls(part: Any, recipe: Recipe) -> str:
    """`: up to 2 calls a row`; empty for a filter that asks no model."""
    calls = float(part.calls(len(recipe.taxonomy)))
    return f": up to {calls:g} call{'' if calls == 1 else 's'} a row" if calls else ""


RECIPE = "recipe"
"""What stands for all the keys of a recipe together, where a kind of part may be named."""


def parts_text(kind: str | None, name: str | None) -> str:
    """Every part with the first line of its docstring; one kind; one part in full; or the keys of a recipe, or one.

    Raises:
        UsageError, UnknownPart: there is no such kind, part or key.
    """
    kinds = [one for one in parts.KINDS if parts.names(one)]
    if kind is not None and kind not in kinds:
        return _key_text(kind, name, kinds)
    if kind is not None and name is not None:
        return part_text(kind, name)
    lines: list[str] = []
    for shelf in [kind] if kind else kinds:
        known = parts.names(shelf)
        width = max(len(one) for one in known)
        lines.append(shelf)
        lines += [f"  {one:<{width}}  {_summary(shelf, one)}" for one in known]
    lines.append("\nqdcgen parts KIND NAME explains one; qdcgen parts recipe explains every key of a recipe")
    return "\n".join(lines)


def _key_text(said: str, below: str | None, kinds: list[str]) -> str:
    """`recipe`: every key; `recipe measure` or `measure`: one of them."""
    from qdcgen import reference

    keys = reference.known()
    if said == RECIPE and below is None:
        return "\n\n".join(reference.section(key) for key in keys)
    key = below if said == RECIPE and below is not None else said
    if key in keys and (below is None or said == RECIPE):
        return reference.section(key)
    if key in keys:
        raise UsageError(f"parts {key} {below}: a key of a recipe stands alone; type: qdcgen parts {key}")
    if said == RECIPE:
        raise UsageError(f"no key of a recipe called {key!r}{nearest(key, keys)} (keys: {', '.join(keys)})")
    if homes := [kind for kind in kinds if said in parts.names(kind)]:
        raise UsageError(f"{said!r} is no kind of part; type: {' or '.join(f'qdcgen parts {k} {said}' for k in homes)}")
    raise UsageError(
        f"no kind of part called {said!r}{nearest(said, [*kinds, RECIPE, *keys])} (kinds: {', '.join(kinds)}; "
        "qdcgen parts recipe explains every key of a recipe)"
    )


def _summary(kind: str, name: str) -> str:
    return inspect.cleandoc(parts.find(kind, name).__doc__ or "").split("\n\n")[0].replace("\n", " ")


def part_text(kind: str, name: str) -> str:
    """One part: its docstring, then each setting with type, default and meaning."""
    from qdcgen.reference import plain

    part = parts.find(kind, name)
    lines = [f"{kind[:-1]} {name}", "", inspect.cleandoc(part.__doc__ or "")]
    if part.model_fields:
        lines += ["", "settings"]
    for key, field in part.model_fields.items():
        default = (
            "required" if field.is_required() else f"default {plain(field.get_default(call_default_factory=True))}"
        )
        short = "; the bare value" if key == part.short else ""
        lines.append(f"  {field.alias or key} ({default}{short})")
        lines.append(f"      {field.description or ''}")
    return "\n".join(lines)


def read_files(recipe: Recipe) -> None:
    """Read every file that a layer or a filter names.

    Raises:
        RecipeError: what is wrong with them, each with the part's place.
    """
    from qdcgen.parts import Filter, Layer

    found: list[Fault] = []
    if any(type(entry.part).prepare is not Layer.prepare for entry in recipe.layers.values()):
        import asyncio  # 25 ms: only where a layer has a file

        from qdcgen.prepare import faults

        found += asyncio.run(faults(recipe))
    if any(type(entry.part).read is not Filter.read for entry in recipe.filters):
        from qdcgen.judge import faults as of_filters

        found += of_filters(recipe)
    if found:
        from qdcgen.errors import RecipeError

        raise RecipeError(found)
