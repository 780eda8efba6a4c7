"""Replies against schemas: what is forgiven, what costs its row, and under which name."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdcgen.critics import _alone
from qdcgen.errors import ReplyFault
from qdcgen.model.replies import MAX_REPLY, checked, instructed
from qdcgen.rows import Reply

HOSTILE = Path(__file__).parents[2] / ".." / "shared" / "data" / "hostile_inputs" / "replies.jsonl"
SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string", "minLength": 1}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}
GOOD = {"question": "q", "answer": "a"}


def kind(text, schema=SCHEMA, finish="stop"):
    with pytest.raises(ReplyFault) as fault:
        checked(text, schema, finish)
    return fault.value.kind


@pytest.mark.parametrize(
    "text",
    [
        '{"question":"q","answer":"a"}',
        'Sure! Here it is:\n{"question":"q","answer":"a"}',
        'Here:\n```json\n{"question":"q","answer":"a"}\n```\nAnything else?',
        '\ufeff{"question":"q","answer":"a"}',
        '<think>{"question": hmm</think>{"question":"q","answer":"a"}',
        '{"question":"q","answer":"a",}',
        ' \n{"question":"q","answer":"a"}\n ',
    ],
)
def test_chatter_fences_marks_thoughts_and_trailing_commas_are_forgiven(text):
    assert checked(text, SCHEMA, "stop") == GOOD


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"question":"q","answer":"a"}{"question":"q2","answer":"b"}', "not JSON"),
        ("{'question':'q','answer':'a'}", "not JSON"),
        ("   \n", "not JSON"),
        ("", "not JSON"),
        ('{"question":"q","answer":"\\ud800"}', "not JSON"),
        ('{"question":"q","answer":"a","answer":"b"}', "not JSON"),
        ('{"question":"q","answer":NaN}', "not JSON"),
        ('{"question":"q","answer":1e999}', "not JSON"),
        ('{"question":"q","answer":1000000000000000000000000000000}', "not JSON"),
        ('{"question":"q","answer":' + "[" * 200 + "]" * 200 + "}", "not JSON"),
        ('{"question":"q","answer":null}', "schema"),
        ('{"question":"q","answer":{"text":"a"}}', "schema"),
        ('{"question":"q"}', "schema"),
        ('{"question":"","answer":"a"}', "schema"),
        ('{"question":"q","answer":"a","more":1}', "schema"),
        ('["q","a"]', "schema"),
        ('"text"', "schema"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("As an AI language model, I cannot do this.", "refused"),
        ("x" * (MAX_REPLY + 1), "too long"),
    ],
)
def test_what_does_not_fit_costs_its_row_under_a_name(text, said):
    assert kind(text) == said


def test_a_reply_cut_at_max_tokens_is_called_cut():
    assert kind('{"question":"q","answer":"a', finish="length") == "cut"
    assert checked('{"question":"q","answer":"a"}', SCHEMA, "length") == GOOD


def test_the_reason_says_what_was_found_and_where():
    with pytest.raises(ReplyFault, match=r'^reply does not fit: answer: 5 is not of type "string"$'):
        checked('{"question":"q","answer":5}', SCHEMA, "stop")


def test_two_keys_that_only_look_alike_inside_a_string_are_no_repeat():
    text = json.dumps({"question": 'say "answer": yes', "answer": '{"answer": 1, "answer": 2}'})
    assert checked(text, SCHEMA, "stop")["answer"] == '{"answer": 1, "answer": 2}'


def test_every_hostile_reply_fits_or_is_a_named_fault():
    if not HOSTILE.exists():
        pytest.skip("../shared/data/hostile_inputs is not here")
    ends = {}
    for line in HOSTILE.read_text().splitlines():
        case = json.loads(line)
        try:
            ends[case["kind"]] = checked(case["reply"], SCHEMA, "stop")
        except ReplyFault as fault:
            ends[case["kind"]] = fault.kind
    assert ends["plain"] == GOOD
    assert ends["refusal"] == "refused"
    assert ends["dup keys"] == ends["int 10^30"] == ends["1e999"] == "not JSON"
    assert ends["template"]["question"] == "{{ 7*7 }}"
    assert all(isinstance(end, dict) or end in {"not JSON", "schema", "refused", "cut"} for end in ends.values())


@settings(max_examples=1500, deadline=None)
@given(st.text() | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_any_text_at_all_fits_or_is_a_reply_fault(text):
    try:
        checked(text, SCHEMA, "stop")
    except ReplyFault as fault:
        assert fault.kind
        assert str(fault)


@settings(max_examples=500, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_json_at_all_fits_or_is_a_reply_fault(value):
    text = json.dumps(value)
    try:
        assert checked(text, {"type": "object"}, "stop") == value
    except ReplyFault as fault:
        assert fault.kind in {"not JSON", "schema", "refused"}


def test_a_server_without_schemas_is_told_in_words_and_the_messages_stay_as_they_were():
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    told = instructed(messages, SCHEMA)
    assert told[0] == messages[0]
    assert told[1]["content"].startswith("u\n\nReply with one JSON object")
    assert '"additionalProperties":false' in told[1]["content"]
    assert messages[1]["content"] == "u"


OBJECT = '{"question":"q","answer":"a"}'
WHOLE = MAX_REPLY - 100


@pytest.mark.parametrize(
    "text",
    [
        " " * WHOLE + "{",
        "```json" + "\n" * WHOLE,
        "```" + " \n" * (WHOLE // 2),
        "```json\n" * (WHOLE // 8),
        "{" + ", " * (WHOLE // 2) + "x}",
        "{," + " " * WHOLE + "x}",
        "!" * WHOLE + "x",
        "sorry" + ",. !" * (WHOLE // 4) + "x",
        "<think>" * (WHOLE // 7),
        "`" * WHOLE,
        "```json" + "\n" * (WHOLE // 2) + OBJECT + "\n" * (WHOLE // 2) + ".",
        "```json" + "\n" * (WHOLE // 2) + OBJECT + "\n" * (WHOLE // 2) + "```",
    ],
    ids=lambda text: f"{text[:8]!r}",
)
def test_the_longest_reply_is_read_in_a_moment_whatever_it_repeats(text):
    begun = time.process_time()
    try:
        checked(text, SCHEMA, "stop")
    except ReplyFault as fault:
        assert fault.kind == "not JSON"
    assert _alone(_reply(text)) is (OBJECT in text and text.endswith("```"))
    assert time.process_time() - begun < 0.5


def _reply(text):
    return Reply(text=text, parsed=GOOD, model="m", tokens_in=1, tokens_out=1, cost=None, finish="stop", seconds=0.0)


@pytest.mark.parametrize(
    "text", ["I'm sorry, but I can't do that.", " \n**Sorry! i cannot", "…As an AI model", "I won’t"]
)
def test_a_refusal_is_told_from_other_words(text):
    assert kind(text) == "refused"
    assert kind(f"Well, {text}") == "not JSON"


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        (OBJECT, True),
        (f"```json\n{OBJECT}\n```", True),
        (f"```\n\n {OBJECT} \n \n```", True),
        (f"<think>so</think>\n```JSON \n{OBJECT}\n```\n", True),
        (f"```json {OBJECT}\n```", False),
        (f"```json\n{OBJECT}```", False),
        (f"```json\n{OBJECT}\n```.", False),
        (f"As it says: {OBJECT}", False),
        ("```\n\n```", False),
        ("```json\n```", False),
        ("```", False),
    ],
)
def test_of_a_critic_the_object_alone_counts_fenced_or_not(text, alone):
    assert _alone(_reply(text)) is alone
