"""The published JSON Schema of the recipe: what editors complete and check while a recipe is typed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from qdcgen import parts
from qdcgen.recipe import Recipe

__all__ = ["recipe_schema"]


def recipe_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe, with every part on the shelves in all its short forms."""
    schema = Recipe.model_json_schema(by_alias=True)
    internal = {key for key, field in Recipe.model_fields.items() if field.exclude}
    found = schema["properties"] = {key: value for key, value in schema["properties"].items() if key not in internal}
    definitions = schema["$defs"]
    for key, kind in {"layers": "layers", "generate": "steps", "filters": "filters"}.items():
        one = _one_of(kind, definitions)
        if key == "layers":
            found[key] = {**_kept(found[key]), "type": "object", "additionalProperties": one}
        else:
            found[key] = {**_kept(found[key]), "type": "array", "items": one}
    found["generate"]["minItems"] = 1
    definitions["Measuring"]["properties"]["embedder"] = _one_of("embedders", definitions)
    text = definitions["Measuring"]["properties"]["text"]
    definitions["Measuring"]["properties"]["text"] = {"anyOf": [{"type": "string"}, _kept(text, whole=True)]}
    for record in ("Solver", "Instructed"):
        question = definitions[record]["properties"]["question"]
        definitions[record]["properties"]["question"] = {"anyOf": [{"type": "string"}, _kept(question, whole=True)]}
    anchor = definitions["Measuring"]["properties"]["anchor"]
    anchor["anyOf"] = [{"type": "string"}, *anchor["anyOf"]]
    landing = definitions["Measuring"]["properties"]["landing"]
    definitions["Measuring"]["properties"]["landing"] = {
        "anyOf": [{"type": "string"}, {"$ref": "#/$defs/Landing"}],
        "description": landing["description"],
    }
    rating = definitions["Measuring"]["properties"]["complexity"]
    rating["anyOf"] = [{"type": "string"}, *rating["anyOf"]]
    grow = definitions["Source"]["properties"]["grow"]
    grow["anyOf"] = [{"type": "string"}, *grow["anyOf"]]
    source = found["taxonomy"]["additionalProperties"]
    found["taxonomy"]["additionalProperties"] = {
        "anyOf": [source, {"type": "string"}, {"type": "array"}],
        "description": "A mapping with tree:, file: or grow:; a file name; or a list of names.",
    }
    strategy = found["strategies"]["items"]
    found["strategies"]["items"] = {"anyOf": [strategy, {"type": "array", "items": {"type": "string"}}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_bounded(schema)}


_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}


def _bounded(said: Any, *, names: bool = False) -> Any:
    """The schema with bounds under the names that validators know: pydantic leaves its own beside a validator.

    `names`: the keys of `said` are names of fields or definitions, which may be called `le`.
    """
    if isinstance(said, list):
        return [_bounded(one) for one in said]
    if not isinstance(said, dict):
        return said
    return {
        key if names else _BOUNDS.get(key, key): value
        if key in ("default", "examples", "const", "enum") and not names
        else _bounded(value, names=key in ("properties", "$defs", "patternProperties") and not names)
        for key, value in said.items()
    }


def _kept(said: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
    return (
        dict(said)
        if whole
        else {key: value for key, value in said.items() if key in ("description", "title", "default")}
    )


def _one_of(kind: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """One part of a kind: its bare name where nothing is required, or `{name: settings}` in each form."""
    bare: list[str] = []
    properties: dict[str, Any] = {}
    for name in parts.names(kind):
        part = parts.find(kind, name)
        inner = part.model_json_schema(by_alias=True)
        definitions.update(inner.pop("$defs", {}))
        inner["title"] = name
        inner["description"] = inspect.cleandoc(part.__doc__ or "")
        forms: list[Any] = [inner]
        if part.short is not None:
            short = dict(inner["properties"][part.model_fields[part.short].alias or part.short])
            forms.insert(0, {**short, "title": f"{name}: {part.short}"})
        if not inner.get("required"):
            bare.append(name)
            forms.append({"type": "null"})
        properties[name] = {"anyOf": forms} if len(forms) > 1 else inner
    one = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"anyOf": [one, {"enum": bare}]} if bare else one
