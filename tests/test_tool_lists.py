"""Tool lists of every dialect become one record; hostile ones are read or refused by place."""

import json
from pathlib import Path

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema_rs import validator_for

from qdcgen.errors import RecipeError, UsageError
from qdcgen.tool_lists import DEEP, WIDE, read, schema

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
SEARCH = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Where"}, "stars": {"type": "integer", "minimum": 1}},
    "required": ["city"],
}
BARE = {"name": "search", "description": "Find hotels", "parameters": SEARCH}


def listed(tmp_path, content, name="tools.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read(path).tools


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.json", [BARE]),
        ("t.json", BARE),
        ("t.jsonl", json.dumps(BARE) + "\n\n"),
        ("t.json", [{"type": "function", "function": BARE}]),
        ("t.json", {"functions": [BARE]}),
        ("t.json", {"tools": [{"name": "search", "description": "Find hotels", "inputSchema": SEARCH}]}),
        (
            "t.json",
            {
                "jsonrpc": "2.0",
                "id": 1,
                "result": {"tools": [{"name": "search", "title": "Find hotels", "inputSchema": SEARCH}]},
            },
        ),
        ("t.json", [{"name": "search", "description": "Find hotels", "input_schema": SEARCH}]),
        ("t.yaml", "tools:\n- name: search\n  description: Find hotels\n  parameters: " + json.dumps(SEARCH)),
        ("t.json", [{**BARE, "parameters": {**SEARCH, "type": "dict"}}]),
        ("t.json", "\ufeff" + json.dumps([BARE])),
    ],
)
def test_every_dialect_gives_the_same_tool(tmp_path, name, content):
    (tool,) = listed(tmp_path, content, name)
    assert tool.record() == BARE


def test_returns_are_read_where_they_are_told(tmp_path):
    for key in ("returns", "outputSchema", "response"):
        (tool,) = listed(tmp_path, [{**BARE, key: {"type": "dict", "properties": {"price": {"type": "float"}}}}])
        assert tool.record()["returns"]["properties"] == {"price": {"type": "number"}}
    (tool,) = listed(tmp_path, [{**BARE, "result_slots": ["city", "price"]}])
    assert tool.returns["properties"] == {"city": SEARCH["properties"]["city"], "price": {"type": "string"}}


OPENAPI = """
openapi: 3.0.3
info: {title: Shop, version: '1'}
paths:
  /items/{id}:
    parameters:
      - {name: id, in: path, required: true, description: Which item, schema: {type: integer}}
      - {name: X-Trace, in: header, schema: {type: string}}
    get:
      operationId: getItem
      summary: One item.
      description: Everything about it.
      responses:
        200:
          description: ok
          content: {application/json: {schema: {$ref: '#/components/schemas/Item'}}}
    put:
      summary: Change it
      requestBody: {$ref: '#/components/requestBodies/Change'}
      responses: {default: {description: nothing}}
  /items:
    post:
      operationId: addItems
      requestBody:
        required: true
        content: {application/json: {schema: {type: array, items: {$ref: '#/components/schemas/Item'}}}}
components:
  requestBodies:
    Change:
      content:
        text/plain: {schema: {type: string}}
        application/json:
          schema:
            allOf: [{$ref: '#/components/schemas/Item'}, {type: object, properties: {why: {type: string}}}]
  schemas:
    Item:
      type: object
      required: [name]
      properties:
        name: {type: string, nullable: true}
        parent: {$ref: '#/components/schemas/Item'}
        elsewhere: {$ref: 'https://example.org/x.json'}
"""


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_an_openapi_file_gives_a_tool_for_each_operation(tmp_path, ending):
    import yaml

    content = OPENAPI if ending == "yaml" else yaml.safe_load(OPENAPI)
    get, put, post = listed(tmp_path, content, f"shop.{ending}")
    assert get.name == "getItem"
    assert get.description == "One item. Everything about it"
    assert get.parameters == {
        "type": "object",
        "properties": {"id": {"type": "integer", "description": "Which item"}},
        "required": ["id"],
    }
    assert get.returns["properties"] == {"name": {"type": ["string", "null"]}, "parent": {}, "elsewhere": {}}
    assert put.name == "put_items_id"
    assert set(put.parameters["properties"]) == {"name", "parent", "elsewhere", "why", "id"}
    assert set(put.parameters["required"]) == {"id", "name"}
    assert put.returns is None
    assert post.parameters["required"] == ["body"]
    assert post.parameters["properties"]["body"]["type"] == "array"


def test_tools_of_one_name_are_kept_apart_and_repeats_are_one(tmp_path):
    other = {**BARE, "description": "Find flights"}
    path = tmp_path / "t.json"
    path.write_text(json.dumps([BARE, other, {**BARE, "name": "search_2"}, BARE, {**BARE, "description": "third"}]))
    found = read(path)
    assert [(tool.name, tool.twin) for tool in found.tools] == [
        ("search", ""),
        ("search_2", "search"),
        ("search_2_2", "search_2"),
        ("search_3", "search"),
    ]
    assert found.repeats == 1


def test_references_in_circles_end_and_schemas_stay_bounded():
    loop = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    from qdcgen.tool_lists import _Refs

    assert schema({"$ref": "#/$defs/a"}, _Refs(loop)) == {}
    wide = {"$defs": {str(n): {"properties": {k: {"$ref": f"#/$defs/{n + 1}"} for k in "abcdefgh"}} for n in range(40)}}
    made = schema({"$ref": "#/$defs/0"}, _Refs(wide))
    assert json.dumps(made).count("properties") <= WIDE
    deep = {}
    for _ in range(200):
        deep = {"type": "object", "properties": {"x": deep}}
    assert json.dumps(schema(deep)).count('"x"') <= DEEP


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ({"type": "HashMap"}, {"type": "object"}),
        ({"type": "any"}, {}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"type": "string", "pattern": "([", "minLength": -1}, {"type": "string"}),
        ({"type": "integer", "multipleOf": 0, "maximum": True}, {"type": "integer"}),
        ({"enum": ["a", "a", 1]}, {"enum": ["a", 1]}),
        ({"enum": "a"}, {}),
        (
            {"properties": {"a": {}}, "required": ["a", "b", "a"]},
            {"type": "object", "properties": {"a": {}}, "required": ["a"]},
        ),
        ({"properties": {"a": "text"}, "required": True}, {"type": "object", "properties": {"a": {}}, "required": []}),
        ("no schema", {}),
        ({"type": "string", "description": "a\x00b\x1b[0m\n c"}, {"type": "string", "description": "ab[0m c"}),
    ],
)
def test_what_no_validator_takes_is_left_out(said, made):
    assert schema(said) == made
    validator_for(made)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.json", "", "the file is empty"),
        ("t.json", "[]", "the file holds no tools"),
        ("t.json", "[1]", "tool 1: expected an object"),
        ("t.json", '[{"title": "x"}]', "tool 1: a tool without a name; it has 'title'"),
        ("t.json", '[{"name": "x", "parameters": [1]}]', "x: expected parameters as a JSON Schema"),
        ("t.jsonl", '{"name": "a"}\n{"name": \n', "not JSON"),
        ("t.json", '{"name": "a"}\n{"name": "b"}\n', "name the file .jsonl"),
        ("t.json", "7", "expected a list of tools"),
        ("t.json", '{"swagger": "2.0"}', "expected OpenAPI 3: convert it"),
        ("t.json", '{"openapi": "3.1.0"}', "paths: expected a mapping"),
        ("t.json", '[{"name": "x", "parameters": {"properties": {"a": {"minimum": NaN}}}}]', "not JSON: NaN"),
        ("t.json", '[{"name": "\\ud800"}]', "half a surrogate pair"),
        ("t.json", '[{"name": "\\u0000"}]', "tool 1: a tool without a name"),
        ("t.txt", "x", "cannot read .txt; expected .json"),
        ("t.json", "[" * 100_000, "nested too deeply|not JSON"),
    ],
)
def test_files_that_cannot_be_used_are_told_by_place(tmp_path, name, content, said):
    with pytest.raises((UsageError, RecipeError), match=said):
        listed(tmp_path, content, name)


def test_defaults_and_values_that_no_prompt_could_hold_are_left_out(tmp_path):
    odd = {"type": "integer", "default": 10**30, "enum": [1, "x" * 5000, 10**30], "const": [[[["x" * 9000]]]]}
    (tool,) = listed(tmp_path, [{"name": "odd", "parameters": {"properties": {"a": odd}}}])
    made = tool.parameters["properties"]["a"]
    assert made["enum"][0] == 1
    assert "const" not in made
    assert len(orjson.dumps(tool.record())) < 500


def test_a_tool_without_parameters_takes_none(tmp_path):
    for takes in ({}, {"parameters": None}, {"parameters": {}}, {"parameters": {"type": "object"}}):
        (tool,) = listed(tmp_path, [{"name": "now", **takes}])
        assert tool.record() == {
            "name": "now",
            "description": "",
            "parameters": {"type": "object", "properties": {}, "required": []},
        }


@pytest.mark.parametrize(("folder", "count", "repeats"), [("bfcl_tools", 2670, 4), ("sgd", 88, 0)])
def test_real_lists_are_read_whole(folder, count, repeats):
    path = SHARED / folder / "tools.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    found = read(path)
    assert (len(found.tools), found.repeats) == (count, repeats)
    assert len({tool.name for tool in found.tools}) == count


KEYS = st.sampled_from(
    [
        *("type", "properties", "items", "required", "enum", "$ref", "anyOf"),
        *("allOf", "additionalProperties", "pattern", "default", "const", "minimum", "minLength"),
        *("multipleOf", "nullable", "description", "title", "a"),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["string", "dict", "any", "object", "#/a", "#/properties/a", "([", "", "\x00"]),
)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5))


@settings(max_examples=200, deadline=None)
@given(JSON)
@example({"type": None, "minimum": 2**64})
def test_whatever_stands_where_a_schema_should_a_validator_takes_what_is_made_of_it(said):
    made = schema(said)
    validator_for(made)
    orjson.dumps(made)
