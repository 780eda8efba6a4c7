"""Every key of a recipe in words, from the classes that check it: what it takes, its default, what it means."""

from __future__ import annotations

import inspect
import textwrap
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic.fields import FieldInfo

from qdcgen import parts
from qdcgen.parts import Settings, Weight
from qdcgen.recipe import Quota, Recipe

__all__ = ["SHORT", "known", "plain", "section"]

SHELVED = {"layers": "layers", "generate": "steps", "filters": "filters", "embedder": "embedders"}
"""Key → the kind of part that stands under it."""
TABLES = ("coverage", "diversity", "complexity", "quality")


def known() -> list[str]:
    """Every key at the top of a recipe, in the order in which one is written."""
    return [key for key, field in Recipe.model_fields.items() if not field.exclude]


def section(key: str) -> str:
    """One key of a recipe with all that may stand below it."""
    field = Recipe.model_fields[key]
    lines = [*_headed(key, key, field), *_indented(field.description or "", "    ")]
    if key == "gates":
        lines += ["", *_gates()]
    for place, model in _below(field, key):
        lines += ["", *_wrapped(f"below {place}: {_said(model)}", "  ")]
        for name, inner in model.model_fields.items():
            told = inner.alias or name
            lines += [f"  {line}" for line in _headed(told, f"{place}.{told}", inner)]
            lines += _indented(inner.description or "", "      ")
    return "\n".join(lines)


def _headed(key: str, place: str, field: FieldInfo) -> list[str]:
    return _wrapped(f"{key} ({_type(field, place)}; {_default(field)})", "    ")


def _wrapped(text: str, by: str) -> list[str]:
    """Lines of at most 118 characters, all but the first of them indented."""
    return textwrap.wrap(text, 118, subsequent_indent=by, break_long_words=False, break_on_hyphens=False)


def plain(value: Any) -> str:
    """A default as a recipe would have it."""
    if isinstance(value, bool):  # asked first: 1 equals True
        return "true" if value else "false"
    return "none" if value is None or value in ("", (), {}) else str(value)


def _said(model: type[Settings]) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").split())


def _indented(text: str, by: str) -> list[str]:
    return [by + line for line in text.splitlines()]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "default: as below" if isinstance(value, Settings) else f"default {plain(value)}"


def _gates() -> list[str]:
    """The figures of each table that a gate may bound, by the metric that explains them."""
    lines = ["  Table → figure → bound: `>= 0.98`, `<= 0.02`, `> 1`, `< 2` or `0.2..0.4`. A figure that could not be"]
    lines.append(
        "  computed breaks its gate. Each figure stands behind the metric that gives it: qdcgen parts metrics NAME."
    )
    for table in TABLES:
        lines += ["", f"  {table}"]
        for name in parts.names("metrics"):
            metric: Any = parts.find("metrics", name)
            if metric.table == table and metric.gates:
                lines += [f"    {line}" for line in _wrapped(f"{name}: {', '.join(metric.gates)}", "    ")]
        if table == "complexity":
            lines.append("    and each band of `target.complexity` by its name: its share of the rows")
    return lines


# ── types in words ──────────────────────────────────────────────────────────────────────────────────────────────────


def _below(field: FieldInfo, place: str) -> list[tuple[str, type[Settings]]]:
    """Every record that may stand at a key or deeper, each under the path that leads to it, outer ones first."""
    found: list[tuple[str, type[Settings]]] = []
    for here, model in _records(field.annotation, place):
        found.append((here, model))
        for name, inner in model.model_fields.items():
            found += _below(inner, f"{here}.{inner.alias or name}")
    return found


NAMES = {"models": "<alias>", "taxonomy": "<axis>"}
"""Key of a mapping → what its own keys are."""


def _records(annotation: Any, place: str) -> list[tuple[str, type[Settings]]]:
    if inspect.isclass(annotation) and issubclass(annotation, Settings):
        return [(place, annotation)]
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (dict, Mapping):
        return _records(inner[1], f"{place}.{NAMES.get(place, '<name>')}")
    if origin is tuple:
        return _records(inner[0], f"{place}.<number>")
    return [found for one in inner for found in _records(one, place)]


SHORT = {
    "taxonomy": "mapping of axes to a file name, a list of names, or a mapping, below",
    "taxonomy.<axis>.grow": "text, or a mapping, below",
    "strategies": "list, each a list of taxonomies, or a mapping, below",
    "measure.text": "text or list of text",
    "measure.anchor": "a file name, or a mapping, below",
    "measure.landing": "an alias, or a mapping, below",
    "measure.complexity": "an alias, or a mapping, below",
    "measure.solver.question": "text or list of text",
    "measure.ifd.question": "text or list of text",
    "gates": "mapping of tables to figures and their bounds",
}
"""Key → what it takes, where a short form is read that the type of the field does not show."""


def _type(field: FieldInfo, place: str) -> str:
    """What may stand at a key, with its bounds, in words."""
    if place in SHORT:
        return SHORT[place]
    last = place.rpartition(".")[2]
    if last in SHELVED:
        kind = SHELVED[last]
        one = f"one of {', '.join(parts.names(kind))} (qdcgen parts {kind} NAME)"
        return {"layers": f"mapping of an axis to a layer: {one}", "embedder": one}.get(last, f"list, each {one}")
    return _words(field.annotation, field.metadata)


def _words(annotation: Any, bounds: typing.Sequence[Any] = ()) -> str:
    if annotation == Quota:
        return "a percentage such as 20%, or a number of rows"
    if annotation == Weight:
        return "number, at least 0"
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        metadata = [one for extra in inner[1:] for one in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]
        return _words(inner[0], [*metadata, *bounds])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(one, bounds) for one in inner if one is not type(None))
    if origin is Literal:
        return " | ".join(str(one) for one in inner)
    if origin in (dict, Mapping):
        inside = _words(inner[1])
        return f"mapping of names to {'mappings, below' if inside == 'mapping, below' else inside}"
    if origin in (tuple, list):
        return f"list of {_words(inner[0])}"
    if inspect.isclass(annotation) and issubclass(annotation, Settings):
        return "mapping, below"
    return _KINDS.get(annotation, "any value") + _bounds(bounds)


_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def _bounds(found: typing.Sequence[Any]) -> str:
    said = ""
    for one in found:
        match one:
            case Ge(ge=least):
                said += f", at least {least:,}"
            case Gt(gt=least):
                said += f", above {least:,}"
            case Le(le=most):
                said += f", at most {most:,}"
            case Lt(lt=most):
                said += f", below {most:,}"
            case MaxLen(max_length=most):
                said += f", at most {most:,} letters"
            case _:  # patterns and validators say what they expect when it is not there
                pass
    return said.removesuffix(".0")
