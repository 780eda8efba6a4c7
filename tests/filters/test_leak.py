"""The filter `leak`: what only the prompt knew does not stand in the text; a plain word that is a label is no leak."""

from __future__ import annotations

import asyncio
import csv
import time
from pathlib import Path

import pytest

from qdcgen.filters.leak import Leak
from qdcgen.parts import Scene, Tools
from qdcgen.rows import Cell, Node, Row, Taxonomy

DATA = Path(__file__).parents[3] / "shared" / "data"
TOPIC = Taxonomy(
    "topic",
    (
        Node("cards", "cards", "cards", 0),
        Node("cards/lost", "lost", "cards/lost", 1, "cards"),
        Node("pin", "pin", "cards/pin", 1, "cards"),
        Node("transfers", "transfers", "transfers", 0),
        Node("med:20000", "wrong account", "transfers/wrong account", 1, "transfers"),
        Node("karten", "卡片", "卡片", 0),
        Node("verloren", "丢失", "卡片/丢失", 1, "karten"),
    ),
)
RISK = Taxonomy("risk_level", (Node("low_risk", "low", "low", 0), Node("b", "serious harm", "serious harm", 0)))
FIELDS = {"message": {"type": "string"}, "urgency": {"enum": ["low", "normal", "high"]}, "stars": {"type": "integer"}}
VALUES = {
    "mood": "angry",
    "length": 40,
    "persona": {"text": "You are careful with money", "risk": 0.8123, "openness": 63.2},
    "situation": {"text": "A call.", "formality": "formal", "age_and_gender": "young"},
}


def judged(*texts, part=None, fields=None, mix=None, values=VALUES):
    rows = [
        Row(
            Cell(
                f"abcdef{number:010x}", mix or {"topic": "cards/lost", "risk_level": "low_risk"}, number, number, values
            ),
            one if isinstance(one, dict) else {"message": one, "urgency": "high", "stars": 4},
        )
        for number, one in enumerate(texts)
    ]
    tools = Tools(fields=fields or FIELDS, taxonomies={"topic": TOPIC, "risk_level": RISK})
    return [verdict.reason for verdict in asyncio.run((part or Leak()).judge(rows, tools))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("topic: cards/lost", "a label"),
        ("I write (urgency = high) about it", "a label"),
        ("Mood: angry. Where is it?", "a label"),
        ("**Topic:** wrong account. Hello", "a label"),
        ("Risk level: serious harm", "a label"),
        ("主题 topic：卡片。", "a label"),
        ("persona: You are careful with money and time", "a label"),
        ("risk: 0.81", "a label"),
        ("formality = formal", "a label"),
        ("length: 40 words", "a label"),
        ("Urgency → normal", "a label"),
        ("stars: 4", "a label"),
        ("It is about cards/lost, as asked", "a node's path"),
        ("It is about Transfers/Wrong Account.", "a node's path"),
        ("see (cards/pin)", "a node's path"),
        ("my risk_level says so", "a name of the recipe"),
        ("LOW_RISK for me", "a name of the recipe"),
        ("of age_and_gender young", "a name of the recipe"),
        ("my code is MED:20000.", "a node's id"),
        ("Extraversion: 41", "a trait's score"),
        ("my neuroticism score is 41", "a trait's score"),
        ("I have a high T-score", "a trait's score"),
        ('{"message": "Hello"}', "a field's name as JSON"),
        ("Hello', 'urgency': 1", "a field's name as JSON"),
        ("Message: Hello", "the field's own name"),
        ("**Message**: Hello", "the field's own name"),
        ("replicate: 3", "a word of the plan"),
        ("taxonomy node: x", "a word of the plan"),
        ("row: 12", "a word of the plan"),
        ("I am abcdef0000000000", "the row's id"),
    ],
)
def test_each_leak_is_named_and_quoted(text, said):
    (reason,) = judged(text)
    assert reason.startswith(f"{said}: "), reason
    assert len(reason) < 100


@pytest.mark.parametrize(
    "text",
    [
        "I lost my pin and my cards",
        "my cards/lost-property",
        "The topic is my lost card",
        "It is urgent, high priority, and I am angry",
        "He said: high fees",
        "Message from my bank: card blocked",
        "and/or, 24/7, 12/10/2020, http://bank.com/lost/cards",
        "Row: 12, Seat: 4",
        "Cell: 555 1234",
        "length: 400 words",
        "I am open, formal and 63 years old",
        "urgency: none",
        "trapped won't score points",
        "time: 14:30",
        "snake_case and __init__ are words of code",
        "",
    ],
)
def test_plain_words_are_no_leak(text):
    assert judged(text) == [""]


def test_without_traits_a_t_score_may_be_spoken_of():
    assert judged("I have a high T-score", values={}) == [""]
    assert judged("a T-score of 63", values={})[0].startswith("a trait's score")


def test_a_path_in_a_script_without_spaces_is_found():
    mix = {"topic": "verloren"}
    assert judged("我的卡片/丢失了", "我的卡片丢失了", mix=mix) == ['a node\'s path: "卡片/丢失"', ""]


def test_turns_are_looked_at_and_their_arguments_may_be_json():
    fields = {"turns": {"type": "array"}, "message": {"type": "string"}}
    turns = [{"role": "tool", "content": '{"message": "hi"}'}, {"role": "user", "content": "topic: pin"}]
    assert judged({"turns": turns[:1]}, {"turns": turns}, fields=fields) == ["", 'a label: "topic: pin"']


def test_one_field_can_be_meant():
    rows = [{"message": "mood: angry", "reply": "x"}, {"message": "x", "reply": "mood: angry"}]
    assert [bool(reason) for reason in judged(*rows, part=Leak(field="message"))] == [True, False]
    scene = Scene({}, {"message": {}}, [], lambda _: set())
    assert "did you mean 'message'" in next(Leak(field="mesage").problems(scene)).message


@pytest.mark.parametrize("piece", ["/", "a/", "_", "a_", ":", "a:", "topic: ", "\n", "1", "row ", '{"', "openness"])
def test_no_text_makes_it_slow(piece):
    start = time.perf_counter()
    judged(piece * 20_000)
    assert time.perf_counter() - start < 2


def test_no_false_alarm_among_real_messages_with_their_intents_as_a_taxonomy():
    if not DATA.is_dir():
        pytest.skip("../shared/data is not here")
    said = list(csv.DictReader((DATA / "banking77/test.csv").read_text().splitlines()))
    tree = Taxonomy("topic", tuple(Node(name, name, name, 0) for name in sorted({row["label"] for row in said})))
    rows = [Row(Cell(f"{n:016x}", {"topic": r["label"]}, n, n), {"message": r["text"]}) for n, r in enumerate(said)]
    tools = Tools(fields=FIELDS, taxonomies={"topic": tree})
    assert [v.reason for v in asyncio.run(Leak().judge(rows, tools)) if not v.kept] == []
