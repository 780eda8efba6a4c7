"""Text from data, made harmless."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdcgen.safe import printable, printable_json

ROOT = Path(__file__).parents[1]
SHARED = [folder / "shared/data/hostile_inputs/terminal.jsonl" for folder in (ROOT, ROOT.parent)]
CONTROLS = {chr(code) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))}
DIRECTIONS = {chr(code) for code in (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\r\n\tb\0", r"a\r\n\tb\x00"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("a\u200bb\u200d \ufeff", r"a\u200bb\u200d \ufeff"),
        ("\ud83d!", r"\ud83d!"),
        ("one\u2028two", r"one\u2028two"),
        ("hidden\U000e0068", r"hidden\U000e0068"),
        ("e" + "\u0301" * 10, "e" + "\u0301" * 8 + r"\u0301\u0301"),
        ("x\U000e0101\ufe0f\ufe0f", "x\\U000e0101\ufe0f\\ufe0f"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A plain line, with ünïcödé – and “quotes”…",
        "Привет, 你好, สวัสดี ที่นี่, שָׁלוֹם, नमस्ते",
        "e\u0301 decomposed",
        "می\u200cخواهم",
        "क्\u200dष",
        "👩\u200d👩\u200d👧 ❤\ufe0f\u200d🔥 👍🏽 🇫🇷",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        "葛\U000e0100",
        "[red] [/nope] 100%|",
    ],
)
def test_what_can_be_seen_stays(text: str) -> None:
    assert printable(text) == text


def test_lines_keeps_newlines_and_tabs_only() -> None:
    assert printable("a\n\tb\r\n\x1b", lines=True) == "a\n\tb\\r\n\\x1b"


@given(st.text(st.characters(), max_size=40))
def test_nothing_harmful_is_left_and_nothing_changes_twice(text: str) -> None:
    shown = printable(text)
    assert not set(shown) & (CONTROLS | DIRECTIONS)
    shown.encode()  # a lone surrogate would raise here
    assert printable(shown) == shown


@given(st.lists(st.text(st.characters(), max_size=20)))
def test_json_keeps_its_values(texts: list[str]) -> None:
    safe = printable_json(json.dumps(texts, ensure_ascii=False, indent=2))
    assert json.loads(safe) == texts
    assert not set(safe) & (CONTROLS - {"\n"} | DIRECTIONS)


def test_the_shared_hostile_texts() -> None:
    file = next((file for file in SHARED if file.exists()), None)
    if file is None:
        pytest.skip("shared/data/hostile_inputs/terminal.jsonl is not here")
    for line in file.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        for shown in (printable(entry["text"]), printable_json(json.dumps(entry["text"], ensure_ascii=False))):
            assert not set(shown) & CONTROLS, entry["id"]
        assert not set(printable(entry["text"], lines=True)) & (CONTROLS - {"\n", "\t"}), entry["id"]


def test_plain_text_costs_one_search() -> None:
    text = "A plain customer message about a lost card. " * 20_000
    start = time.perf_counter()
    assert printable(text) is text
    assert time.perf_counter() - start < 1, "0.9 MB took 8 ms when this was written"
