"""The step `write` asks once, with a prompt and a schema, and takes what comes into the row."""

from __future__ import annotations

import asyncio

import pytest
from jsonschema_rs import validator_for

from qdcgen.errors import ReplyFault, RowFault
from qdcgen.parts import Scene, Tools
from qdcgen.rows import Cell, Draft, Node, Reply
from qdcgen.steps.write import Write
from qdcgen.template import names_in, render

TOPIC = Node("cards/lost", "lost", "cards/lost", 1, "cards")


def draft(**fields):
    return Draft(Cell("0" * 16, {"topic": "cards/lost"}, 0, 0), {"topic": TOPIC, "mood": "calm"}, dict(fields))


def taken(part, made=None, parsed=None):
    """The draft after the step, and what was asked."""
    asked = []

    async def ask(alias, messages, **options):
        asked.append((alias, messages, options))
        return Reply("", "test", parsed or {"m": "hello"})

    made = made or draft()
    asyncio.run(part.take(made, Tools(ask=ask, render=render)))
    return made, asked


def write(**more):
    return Write.model_validate({"fields": {"m": "string"}, "prompt": "About {{ topic.path }}, {{ mood }}", **more})


def test_one_call_with_the_filled_prompt_and_the_schema():
    made, asked = taken(write())
    assert made.fields == {"m": "hello"}
    assert asked == [
        (
            "",
            [{"role": "user", "content": "About cards/lost, calm"}],
            {
                "schema": {
                    "type": "object",
                    "properties": {"m": {"type": "string", "minLength": 1}},
                    "required": ["m"],
                    "additionalProperties": False,
                },
                "temperature": None,
                "max_tokens": None,
            },
        )
    ]


def test_the_system_message_comes_first_and_settings_are_passed_on():
    part = write(system="You are {{ mood }}.", model="critic", temperature=0.0, max_tokens=9)
    _, [(alias, messages, options)] = taken(part)
    assert alias == "critic"
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[0]["content"] == "You are calm."
    assert (options["temperature"], options["max_tokens"]) == (0.0, 9)


def test_earlier_fields_are_names_and_stay_unless_filled_again():
    part = write(prompt="{{ mood }}: {{ title }}")
    made, [(_, messages, _)] = taken(part, draft(title="{{ topic }}", m="old"))
    assert messages[0]["content"] == "calm: {{ topic }}", "a field is data, never a template"
    assert made.fields == {"title": "{{ topic }}", "m": "hello"}


def test_a_fault_of_the_model_or_the_template_leaves_the_draft_as_it_was():
    async def refuse(*_, **__):
        raise ReplyFault("reply", "not JSON")

    made = draft(title="a")
    with pytest.raises(ReplyFault, match="not JSON"):
        asyncio.run(write().take(made, Tools(ask=refuse, render=render)))
    with pytest.raises(RowFault, match="'nothing' is undefined"):
        taken(write(prompt="{{ nothing }}"), made)
    assert made.fields == {"title": "a"}


@pytest.mark.parametrize(
    ("said", "schema"),
    [
        ("string", {"type": "string", "minLength": 1}),
        ({}, {"type": "string", "minLength": 1}),
        ({"minLength": 0}, {"type": "string", "minLength": 0}),
        ({"pattern": "[a-z]+"}, {"type": "string", "pattern": "^(?:[a-z]+)$"}),
        ({"maxLength": 9, "description": "short"},
         {"type": "string", "description": "short", "maxLength": 9, "minLength": 1}),
        ("integer", {"type": "integer"}),
        ({"type": "integer", "minimum": 1, "maximum": 5}, {"type": "integer", "minimum": 1, "maximum": 5}),
        ("boolean", {"type": "boolean"}),
        ("array", {"type": "array", "items": {"type": "string"}}),
        (["low", "high"], {"enum": ["low", "high"]}),
        ([1, 2.5], {"enum": [1, 2.5]}),
    ],
    ids=str,
)  # fmt: skip
def test_a_field_may_be_said_in_short(said, schema):
    assert write(fields={"m": said}).fills() == {"m": schema}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "at least 1 item"),
        ({"m": "strin"}, "'string', 'integer'"),
        ({"m": []}, "at least 1 item"),
        ({"m": {"minLength": 9, "maxLength": 3}}, "minLength 9 is above maxLength 3"),
        ({"m": {"minimum": 9, "maximum": 3}}, "minimum 9.0 is above maximum 3.0"),
        ({"m": {"items": {}}}, "Extra inputs"),
        ({"m": {"pattern": "("}}, r"expected a regular expression, found '\('"),
        ({"m": {"pattern": "a)|(b"}}, "expected a regular expression"),
        ({"m": {"pattern": "[z-a]"}}, "expected a regular expression"),
        ({"m": {"maxLength": "9"}}, "expected a whole number, found '9'"),
    ],
)
def test_a_field_that_cannot_be_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        write(fields=fields)


@pytest.mark.parametrize(
    ("pattern", "sent", "fits", "misfits"),
    [
        ("[0-9]+", "^(?:[0-9]+)$", ["7", "12"], ["abc1", "1a", "", "1\n"]),
        ("a|b", "^(?:a|b)$", ["a", "b"], ["ab", "ax", "xb"]),
        ("^[A-Z]{2}$", "^(?:[A-Z]{2})$", ["AB"], ["ABC", "xAB"]),
        (r"[0-9]+\$", r"^(?:[0-9]+\$)$", ["5$"], ["5", "5$5"]),
        (r"a\\$", r"^(?:a\\)$", ["a\\"], ["a\\$"]),
    ],
)
def test_a_pattern_is_for_the_whole_string(pattern, sent, fits, misfits):
    schema = write(fields={"m": {"pattern": pattern}}).fills()["m"]
    assert schema["pattern"] == sent
    check = validator_for(dict(schema))
    assert [text for text in (*fits, *misfits) if check.is_valid(text)] == fits


def test_one_call_is_expected_and_at_most():
    assert write().calls() == (1.0, 1.0)


def test_problems_name_the_setting_and_what_was_meant():
    scene = Scene({"topic": TOPIC, "mood": "calm"}, {"title": {}}, ["writer"], lambda source: set(names_in(source)))
    part = write(prompt="{{ moood }} {{ title }}", system="{{ m }}", model="writter")
    assert list(part.problems(scene)) == [
        (("model",), "no model called 'writter'; did you mean 'writer'?"),
        (("prompt",), "{{ moood }} is no axis and no earlier field; did you mean 'mood'?"),
        (("system",), "{{ m }} is no axis and no earlier field; known here: mood, title, topic"),
    ]
    assert list(write().problems(scene)) == []
    (problem,) = write(prompt="{% include 'x' %}").problems(scene)
    assert problem == (("prompt",), "line 1 of the template: include is not allowed")
