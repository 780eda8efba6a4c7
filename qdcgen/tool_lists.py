"""Tools as one record, from whatever list describes them: OpenAI functions, MCP, OpenAPI 3, benchmark files.

Files are other people's: names repeat, types are called `dict` and `HashMap`, references go in circles. What a reader
can mean by them is kept, as JSON Schema that a validator takes; the rest is left out. Nothing is fetched: a reference
that leaves the file stands for anything.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from qdcgen import strict_yaml
from qdcgen.errors import Fault, RecipeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["ENDINGS", "MOST", "Listed", "Tool", "read", "schema"]

ENDINGS = (".json", ".jsonl", ".ndjson", ".yaml", ".yml")
MOST = 10_000
"""Tools in one list."""
MAX_BYTES = 64 * 2**20
"""Larger files are refused: the largest published OpenAPI files have 12 MB."""
DEEP = 12
"""Levels of a schema that are kept; below them anything fits. Real ones have up to 8."""
WIDE = 500
"""Schemas inside one tool's; an OpenAPI file whose references multiply reaches millions without a bound."""
NAME = 128
"""Letters of a name."""
TEXT = 2_000
"""Letters of a description."""

_TYPES = {
    **{name: name for name in ("string", "integer", "number", "boolean", "array", "object", "null")},
    **dict.fromkeys(("dict", "map", "hashmap", "hash", "struct", "record"), "object"),
    **dict.fromkeys(("float", "double", "decimal"), "number"),
    **dict.fromkeys(("int", "long", "short", "byte", "bigint"), "integer"),
    **dict.fromkeys(("list", "tuple", "set", "arraylist", "vector"), "array"),
    **dict.fromkeys(("str", "char", "text", "date", "datetime", "file"), "string"),
    **dict.fromkeys(("bool",), "boolean"),
    **dict.fromkeys(("none", "void"), "null"),
}
"""Names of types, in lower case → JSON Schema's; one that is not here (`any`) says nothing."""
_NUMBERS = ("minimum", "maximum", "multipleOf")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_GIVEN = ("parameters", "inputSchema", "input_schema")
_RETURNED = ("returns", "outputSchema", "output_schema", "response", "result", "return")
_METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")


class Tool(NamedTuple):
    """One tool. `parameters` is the JSON Schema of an object; `returns` of what it gives, None where unknown."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    returns: Mapping[str, Any] | None = None
    twin: str = ""
    """Its name in the file, where that repeats there and another number was put behind it."""

    def record(self) -> dict[str, Any]:
        """Plain data: what a prompt shows, a row holds and a call is checked against."""
        said = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return said if self.returns is None else {**said, "returns": self.returns}


class Listed(NamedTuple):
    """The tools of a file, and how many more stood there that were one of them again."""

    tools: list[Tool]
    repeats: int


def read(path: Path) -> Listed:
    """Every tool of a file, in its order, told by its content: a list of tools, or an OpenAPI 3 document.

    A tool that stands twice with the same schema is one. Two of one name and different schemas are kept apart: the
    later is called `name_2`, its `twin` says what it was.

    Raises:
        UsageError: the file is of no kind that is known, or too large.
        RecipeError: what it holds is broken; names the place.
    """
    found: dict[str, Tool] = {}
    numbers: dict[str, int] = {}
    met: set[bytes] = set()
    repeats = 0
    for place, one in _tools(path):
        tool = one if isinstance(one, Tool) else _tool(one, path, place)
        told = orjson.dumps(tool.record(), option=orjson.OPT_SORT_KEYS)
        if told in met:
            repeats += 1
            continue
        met.add(told)
        _checked(tool, path, place)
        name = tool.name
        while name in found:
            numbers[tool.name] = numbers.get(tool.name, 1) + 1
            name = f"{tool.name}_{numbers[tool.name]}"
        found[name] = tool if name == tool.name else tool._replace(name=name, twin=tool.name)
        if len(found) > MOST:
            raise UsageError(f"{path}: more than {MOST:,} tools; split the file")
    if not found:
        raise _broken(path, "", "the file holds no tools")
    return Listed(list(found.values()), repeats)


def _broken(path: Path, place: str, message: str, line: int = 0, column: int = 0) -> RecipeError:
    return RecipeError(Fault(str(path), line, column, f"{place}: {message}" if place else message))


# ── what kind of file it is ─────────────────────────────────────────────────────────────────────────────────────────


def _text(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(f"{path}: cannot read {ending or 'a file without an ending'}; expected {', '.join(ENDINGS)}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UsageError(f"{path}: {size / 2**20:.0f} MiB; expected at most {MAX_BYTES // 2**20}; split it")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _broken(path, "", f"not UTF-8: byte 0x{raw[error.start]:02x}; save the file as UTF-8", line) from None
    if not text.strip():
        raise _broken(path, "", "the file is empty")
    return text


def _tools(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, tool or what one is made from)."""
    text, ending = _text(path), path.suffix.lower()
    if ending in {".jsonl", ".ndjson"}:
        for number, record in enumerate(text.split("\n"), 1):
            if record.strip():
                yield f"line {number}", _json(path, record, number)
        return
    said = strict_yaml.parse(text, str(path)).data if ending in {".yaml", ".yml"} else _json(path, text)
    if isinstance(said, dict) and isinstance(said.get("result"), dict):
        said = said["result"]  # a JSON-RPC reply to tools/list
    if isinstance(said, dict) and "swagger" in said:
        raise UsageError(f"{path}: OpenAPI 2 (Swagger); expected OpenAPI 3: convert it")
    if isinstance(said, dict) and "openapi" in said:
        yield from _operations(said, path)
        return
    if isinstance(said, dict):
        said = next((said[key] for key in ("tools", "functions") if isinstance(said.get(key), list)), [said])
    if not isinstance(said, list):
        raise _broken(path, "", "expected a list of tools, an MCP tools/list reply or an OpenAPI 3 document")
    for number, one in enumerate(said, 1):
        yield f"tool {number}", one


def _json(path: Path, text: str, line: int = 0) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass  # what Python's own reader says of it is clearer
    try:
        json.loads(text)
        raise _broken(path, "", "not JSON: NaN, Infinity, half a surrogate pair, or nested too deeply", line)
    except json.JSONDecodeError as error:
        hint = "; for one tool a line, name the file .jsonl" if error.msg == "Extra data" and not line else ""
        raise _broken(path, "", f"not JSON: {error.msg}{hint}", line or error.lineno, error.colno) from None
    except RecursionError:
        raise _broken(path, "", "nested too deeply", line) from None


# ── one tool ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tool(said: Any, path: Path, place: str) -> Tool:
    """A tool in any of the dialects: OpenAI's (bare, or under `function`), MCP's, Anthropic's, BFCL's, SGD's."""
    if isinstance(said, dict) and isinstance(said.get("function"), dict):
        said = said["function"]
    if not isinstance(said, dict):
        raise _broken(path, place, "expected an object that describes a tool")
    name = _line(said["name"]) if isinstance(said.get("name"), str) else ""
    if not name:
        raise _broken(path, place, f"a tool without a name; it has {', '.join(map(repr, list(said)[:6])) or 'nothing'}")
    given: Any = next((said[key] for key in _GIVEN if said.get(key) is not None), {})
    if not isinstance(given, dict):
        raise _broken(path, place, f"{name}: expected parameters as a JSON Schema (an object)")
    returned: Any = next((said[key] for key in _RETURNED if isinstance(said.get(key), dict)), None)
    if returned is None and isinstance(slots := said.get("result_slots"), list):
        known = given["properties"] if isinstance(given.get("properties"), dict) else {}
        returned = {"type": "object", "properties": {str(slot): known.get(slot, {"type": "string"}) for slot in slots}}
    return Tool(
        name[:NAME],
        _line(said.get("description") or said.get("title") or "")[:TEXT],
        _object(given),
        None if returned is None else schema(returned, _Refs(returned)),
    )


def _line(text: Any) -> str:
    return " ".join(re.sub("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "", str(text)).split())


def _object(said: Mapping[str, Any]) -> dict[str, Any]:
    made = schema(said, _Refs(said))
    return {"type": "object", "properties": made.get("properties", {}), "required": made.get("required", [])}


def _checked(tool: Tool, path: Path, place: str) -> None:
    """A schema that no call could be checked against must be told before a call is paid for."""
    from jsonschema_rs import ValidationError, validator_for

    for made in (tool.parameters, tool.returns or {}):
        try:
            validator_for(dict(made))
        except (ValidationError, ValueError) as error:
            said = str(error).splitlines()[0][:200]
            raise _broken(path, place, f"{tool.name}: not a JSON Schema: {said}") from None


# ── schemas ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Refs:
    """What `$ref` may point at, and how much of it was laid out in one schema."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = dict(root)
        self.laid = 0

    def at(self, pointer: Any) -> Any:
        """What stands at `#/a/b`; nothing for what is elsewhere."""
        if not isinstance(pointer, str) or not pointer.startswith("#/"):
            return {}
        found: Any = self.root
        for word in pointer[2:].split("/"):
            key = word.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}


def schema(said: Any, refs: _Refs | None = None) -> dict[str, Any]:
    """A JSON Schema of the same meaning, as plain as a validator and a model need it.

    References are laid out where they stand; one that comes back to itself, and what lies deeper than `DEEP` levels,
    fits anything. Keys that are no part of what is listed here are left out.
    """
    refs = refs or _Refs({})
    refs.laid = 0
    return _plain(said, refs, DEEP, ())


def _plain(said: Any, refs: _Refs, deep: int, above: tuple[str, ...]) -> dict[str, Any]:
    refs.laid += 1
    if not isinstance(said, dict) or deep == 0 or refs.laid > WIDE:
        return {}
    if "$ref" in said:
        pointer = str(said["$ref"])
        if pointer in above:
            return {}
        beside = {key: value for key, value in said.items() if key != "$ref"}
        found = refs.at(pointer)
        return _plain({**found, **beside}, refs, deep - 1, (*above, pointer)) if found or beside else {}

    def inner(one: Any) -> dict[str, Any]:
        return _plain(one, refs, deep - 1, above)

    made = _about(said)
    if isinstance(said.get("properties"), dict):
        made["properties"] = {str(name): inner(one) for name, one in said["properties"].items()}
        made["required"] = [name for name in made["properties"] if name in _listed(said.get("required"))]
    for key in ("items", "additionalProperties"):
        if isinstance(said.get(key), dict):
            made[key] = inner(said[key])
    if isinstance(said.get("additionalProperties"), bool):
        made["additionalProperties"] = said["additionalProperties"]
    for key in ("anyOf", "oneOf", "allOf"):
        if parts := _listed(said.get(key)):
            made[key] = [inner(one) for one in parts]
    _bounds(said, made)
    return _merged(made)


def _about(said: Mapping[str, Any]) -> dict[str, Any]:
    """Type, description and values."""
    made: dict[str, Any] = {}
    if kind := _type(said):
        made["type"] = kind
    if text := _line(said.get("description") or said.get("title") or ""):
        made["description"] = text[:TEXT]
    if values := {found: value for value in _listed(said.get("enum")) if (found := _short(value))}:
        made["enum"] = list(values.values())
    return made


def _type(said: Mapping[str, Any]) -> str | list[str] | None:
    listed = said.get("type")
    words = listed if isinstance(listed, list) else [listed]
    kinds = list(dict.fromkeys(_TYPES[w.lower()] for w in words if isinstance(w, str) and w.lower() in _TYPES))
    if kinds and said.get("nullable") is True and "null" not in kinds:  # OpenAPI 3.0's way
        kinds.append("null")
    if not kinds and isinstance(said.get("properties"), dict):
        return "object"
    return kinds[0] if len(kinds) == 1 else kinds or None


def _bounds(said: Mapping[str, Any], made: dict[str, Any]) -> None:
    for key in (*_NUMBERS, *_COUNTS):
        value = said.get(key)
        number = isinstance(value, int if key in _COUNTS else (int, float)) and not isinstance(value, bool)
        if number and _short(value):  # an integer beyond 64 bits cannot be written
            made[key] = value
    for key, kind in (("pattern", str), ("format", str)):
        if isinstance(said.get(key), kind):
            made[key] = said[key]
    for key in ("const", "default"):
        if said.get(key) is not None and _short(said[key]):
            made[key] = said[key]
    if made.get("multipleOf", 1) <= 0:
        del made["multipleOf"]
    for key in _COUNTS:
        if made.get(key, 0) < 0:
            del made[key]
    if "pattern" in made and not _readable(made["pattern"]):
        del made["pattern"]


def _short(value: Any) -> bytes:
    """The value as JSON, or nothing where it is too long or too deep for a prompt and a row."""
    try:
        said = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, RecursionError):
        return b""
    return said if len(said) <= TEXT else b""


def _readable(pattern: str) -> bool:
    from jsonschema_rs import ValidationError, validator_for

    try:
        validator_for({"type": "string", "pattern": pattern})
    except (ValidationError, ValueError):
        return False
    return True


def _merged(made: dict[str, Any]) -> dict[str, Any]:
    """`allOf` of objects, OpenAPI's way to inherit, as one object, so that its parameters can be seen."""
    parts = made.get("allOf")
    if not parts or not all(part.get("type") == "object" and "properties" in part for part in parts):
        return made
    whole = [*parts, made]
    rest = {key: value for key, value in made.items() if key != "allOf"}
    properties = {name: one for part in whole for name, one in part.get("properties", {}).items()}
    required = dict.fromkeys(name for part in whole for name in part.get("required", ()))
    return {**rest, "type": "object", "properties": properties, "required": list(required)}


# ── OpenAPI ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _operations(said: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Tool]]:
    """Each operation as a tool: its parameters and the fields of its JSON body side by side."""
    if not str(said["openapi"]).startswith("3"):
        raise UsageError(f"{path}: OpenAPI {said['openapi']}; expected OpenAPI 3")
    paths = said.get("paths")
    if not isinstance(paths, dict):
        raise _broken(path, "paths", "expected a mapping of paths")
    for route, item in paths.items():
        resolved = _resolved(item, said)
        for method in _METHODS:
            operation = resolved.get(method)
            if isinstance(operation, dict):
                yield f"{method.upper()} {route}", _operation(str(route), method, operation, resolved, said)


def _resolved(one: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object, or what it refers to; a few steps, for references may go in a circle."""
    refs = _Refs(root)
    for _ in range(DEEP):
        if not isinstance(one, dict):
            return {}
        if "$ref" not in one:
            return one
        one = refs.at(one["$ref"])
    return {}


def _operation(
    route: str, method: str, operation: Mapping[str, Any], item: Mapping[str, Any], root: Mapping[str, Any]
) -> Tool:
    properties: dict[str, Any] = {}
    required: dict[str, None] = {}
    for one in (*_listed(item.get("parameters")), *_listed(operation.get("parameters"))):
        parameter = _resolved(one, root)
        name = parameter.get("name")
        if not isinstance(name, str) or parameter.get("in") in {"header", "cookie"}:
            continue
        made = schema(parameter.get("schema") or _of_content(parameter, root), _Refs(root))
        if text := _line(parameter.get("description") or ""):
            made = {**made, "description": text[:TEXT]}
        properties[name] = made
        if parameter.get("required") is True:
            required[name] = None
    request = _resolved(operation.get("requestBody"), root)
    body = schema(_of_content(request, root), _Refs(root))
    if "properties" in body:
        properties = {**body["properties"], **properties}
        required.update(dict.fromkeys(body.get("required", ())))
    elif body:
        properties["body"] = body
        required.update({"body": None} if request.get("required") is True else {})
    said = operation.get("operationId")
    name = said if isinstance(said, str) and said.strip() else f"{method} {route}"
    told = [_line(operation.get(key) or "") for key in ("summary", "description")]
    return Tool(
        re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_")[:NAME] or method,
        ". ".join(dict.fromkeys(text.rstrip(".") for text in told if text))[:TEXT],
        {"type": "object", "properties": properties, "required": [name for name in required if name in properties]},
        _returned(operation, root),
    )


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _of_content(said: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """The schema under `content`: JSON's, else the first one."""
    content = said.get("content")
    if not isinstance(content, dict) or not content:
        return {}
    json_first: Callable[[str], bool] = lambda kind: "json" not in kind  # noqa: E731
    return _resolved(content[min(content, key=json_first)], root).get("schema") or {}


def _returned(operation: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any] | None:
    responses = operation.get("responses")
    for code, response in responses.items() if isinstance(responses, dict) else ():
        if str(code).startswith("2"):
            made = schema(_of_content(_resolved(response, root), root), _Refs(root))
            return made or None
    return None
