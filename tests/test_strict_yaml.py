"""YAML without surprises: words stay words, and whatever else is a fault has its exact place."""

from __future__ import annotations

import contextlib
import math
import random
import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from qdcgen.errors import RecipeError
from qdcgen.strict_yaml import MAX_BYTES, MAX_DEPTH, Word, parse

TAGS = "tags are not allowed, a recipe is plain data"
TABS = "r.yaml:2:1: not valid YAML: a tab; indent with spaces"
RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))


def faults(text, **options):
    with pytest.raises(RecipeError) as caught:
        parse(text, "r.yaml", **options)
    return [str(fault) for fault in caught.value.faults]


# ── what a scalar means ──


@pytest.mark.parametrize(
    "word",
    [
        "no",
        "No",
        "NO",
        "yes",
        "on",
        "off",
        "y",
        "n",
        "True",
        "TRUE",
        "False",
        "Null",
        "NULL",
        "010",
        "0o10",
        "0x1F",
        "0b11",
        "1_000",
        "+.inf",
        ".inf",
        "-.INF",
        ".nan",
        "12:30",
        "12:30:45",
        "2026-11-20",
        "2026-11-20T10:00:00Z",
        "1.",
        ".5",
        "1e",
        "1e400",
        "--",
        "-",
        "1,5",
        "½",
        "١٢",
        "9999999999999999999",
        "1" * 5000,
    ],
)
def test_what_other_readers_change_stays_a_word(word):
    text = f"a: {word}\n" if word != "-" else "a: '-'\n"
    assert parse(text, "r").data == {"a": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("123456789012345678", 123456789012345678),
        ("0.5", 0.5),
        ("-0.25", -0.25),
        ("1e3", 1000.0),
        ("2.5E-2", 0.025),
    ],
)
def test_plain_numbers_and_three_words_are_what_they_look_like(text, value):
    found = parse(f"a: {text}\n", "r").data["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["'1'", '"1"', "|-\n  1", ">-\n  1"])
def test_quoted_and_block_scalars_are_text(text):
    assert parse(f"a: {text}\n", "r").data == {"a": "1"}


def test_keys_are_always_words():
    assert parse("{1: a, true: b, null: c, 010: d, '': e}", "r").data == {
        "1": "a",
        "true": "b",
        "null": "c",
        "010": "d",
        "": "e",
    }


def test_plain_keeps_every_scalar_as_written_with_its_place():
    found = parse("1: [true, 010, ~, '', null]\nb:\n", "r", plain=True)
    assert found.data == {"1": ["true", "010", None, "", None], "b": None}
    (key, values), (second, _) = found.data.items()
    assert [(type(word), word.line, word.column) for word in (key, values[0], values[1], second)] == [
        (Word, 1, 1),
        (Word, 1, 5),
        (Word, 1, 11),
        (Word, 2, 1),
    ]
    assert (found.keys, found.values) == ({}, {})


@pytest.mark.parametrize("text", ["", "# nothing\n# at all\n", "---\n", "\n\n", "\ufeff", b"\xef\xbb\xbf"])
def test_nothing_is_none(text):
    assert parse(text, "r").data is None


# ── places ──


def test_every_key_and_value_knows_its_place():
    found = parse("a:\n  - x\n  -   {b: 1, é: zwei}\nc: |\n  text\n", "r.yaml")
    assert found.keys == {
        ("a",): (1, 1),
        ("a", 0): (2, 5),
        ("a", 1): (3, 7),
        ("a", 1, "b"): (3, 8),
        ("a", 1, "é"): (3, 14),
        ("c",): (4, 1),
    }
    assert found.values == {
        (): (1, 1),
        ("a",): (2, 3),
        ("a", 0): (2, 5),
        ("a", 1): (3, 7),
        ("a", 1, "b"): (3, 11),
        ("a", 1, "é"): (3, 17),
        ("c",): (4, 4),
    }


def test_a_fault_without_a_place_stands_at_its_nearest_ancestor():
    marked = parse("a:\n  b: 1\n", "r.yaml")
    assert str(marked.fault(("a", "b", "c", 0), "x")) == "r.yaml:2:6: x"
    assert str(marked.fault(("a", "zz"), "x", at_key=True)) == "r.yaml:1:1: x"
    assert str(marked.fault((), "x")) == "r.yaml:1:1: x"
    marked.origins["a",] = "--set a"
    assert str(marked.fault(("a", "b"), "x")) == "--set a: x"


def test_a_byte_order_mark_and_windows_line_ends_shift_nothing():
    found = parse(b"\xef\xbb\xbfa: 1\r\nb: [2]\r\n", "r")
    assert found.data == {"a": 1, "b": [2]}
    assert found.keys["b",] == (2, 1)


# ── faults ──


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x 1\n", "r.yaml:1:4: anchor &x; anchors are not allowed, write the value out"),
        ("a: &x [1]\nb: *x\n", "r.yaml:1:4: anchor &x; anchors are not allowed, write the value out"),
        ("b:\n  - *x\n", "r.yaml:2:5: alias *x; aliases are not allowed, write the value out"),
        ("&k a: 1\n", "r.yaml:1:1: anchor &k; anchors are not allowed, write the value out"),
        ("a: !!python/name:os.x [x]\n", "r.yaml:1:4: tag tag:yaml.org,2002:python/name:os.x; " + TAGS),
        ("a: ! 1\n", "r.yaml:1:4: tag !; tags are not allowed, a recipe is plain data"),
        ("a: !!str 1\n", "r.yaml:1:4: tag tag:yaml.org,2002:str; tags are not allowed, a recipe is plain data"),
        ("a: !mine 1\n", "r.yaml:1:4: tag !mine; tags are not allowed, a recipe is plain data"),
        ("a:\n  <<: {b: 1}\n", "r.yaml:2:3: merge key <<; merging is not allowed, write the keys out"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2:1: a second document (---); expected one per file"),
        ("a: 1\n...\n---\nb\n", "r.yaml:3:1: a second document (---); expected one per file"),
        ("? [a]\n: 1\n", "r.yaml:1:3: a mapping or list as a key; expected a word"),
        ("{a: 1}: 1\n", "r.yaml:1:1: a mapping or list as a key; expected a word"),
        ("a:\n\t- b\n", TABS),
        ("a: [1\n", "r.yaml:2:1: not valid YAML: did not find expected ',' or ']' (while parsing a flow sequence)"),
        ("a: 'x\n", "r.yaml:2:1: not valid YAML: found unexpected end of stream (while scanning a quoted scalar)"),
        ("a: b: c\n", "r.yaml:1:5: not valid YAML: mapping values are not allowed in this context"),
        ("é: \x07\n", "r.yaml:1:4: character U+0007 is not allowed in YAML"),
        ("a: 1\nüü: x\x00\n", "r.yaml:2:6: character U+0000 is not allowed in YAML"),
        ("a: \x1b[2J\n", "r.yaml:1:4: character U+001B is not allowed in YAML"),
        ("a: \x9f\n", "r.yaml:1:4: character U+009F is not allowed in YAML"),
        ("a: \udcff\n", "r.yaml:1:4: character U+DCFF is not allowed in YAML"),
        ("a: \uffff\n", "r.yaml:1:4: character U+FFFF is not allowed in YAML"),
        (b"a: 1\nb: \xff\n", "r.yaml:2: not UTF-8: byte 0xff; save the file as UTF-8"),
        (b"\xff\xfea\x00", "r.yaml:1: not UTF-8: byte 0xff; save the file as UTF-8"),
        ("[" * 3000, f"r.yaml:1:{MAX_DEPTH + 1}: nested more than {MAX_DEPTH} deep"),
        ("- " * 3000, f"r.yaml:1:{2 * MAX_DEPTH + 1}: nested more than {MAX_DEPTH} deep"),
    ],
    ids=str,
)
def test_a_surprise_is_one_fault_at_its_place(text, said):
    assert faults(text) == [said]


def test_keys_that_stand_twice_are_told_all_at_once_with_both_lines():
    said = [
        "r.yaml:3:1: key 'a' again; it is already on line 1",
        "r.yaml:4:8: key 'b' again; it is already on line 4",
        "r.yaml:5:1: key 'a' again; it is already on line 1",
    ]
    text = "a: 1\nc: 2\na: 3\nd: {b, b}\na: 4\n"
    assert faults(text) == said
    assert faults(text, plain=True) == said
    assert faults(text + "e: *x\n") == [*said, "r.yaml:6:4: alias *x; aliases are not allowed, write the value out"]


def test_no_more_than_twenty_repeated_keys_are_listed():
    assert len(faults("a: 1\n" * 1000)) == 20


def test_a_merge_key_in_quotes_is_a_word():
    assert parse("'<<': 1\n", "r").data == {"<<": 1}


def test_a_billion_laughs_are_refused_at_the_first_anchor():
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]\n" for n in range(1, 40))
    assert faults(text) == ["r.yaml:1:5: anchor &a0; anchors are not allowed, write the value out"]


def test_too_large_a_file_is_refused_undecoded():
    assert faults(b"\xff" * (MAX_BYTES + 1)) == ["r.yaml: 67,108,865 bytes; expected at most 67,108,864"]


# ── whatever is written ──

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15).map(lambda x: round(x, 6))
    | st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\uffff\ufffe"), max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(string.printable[:95], max_size=9), inner),
    max_leaves=20,
)


@given(PLAIN, st.booleans())
@settings(max_examples=400, deadline=None)
def test_plain_data_survives_being_written_and_read(data, flow):
    def quoted(value):  # a careful writer's YAML: every text and key in quotes
        return yaml.dump(value, default_style='"' if isinstance(value, str) else None, allow_unicode=True).strip()

    def written(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{quoted(key)}: {written(item)}" for key, item in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(written, value)) + "]"
        if isinstance(value, float):
            return f"{value:.6f}"
        return quoted(value).removesuffix("...").strip()

    found = parse(written(data) if flow else f"k: {written(data)}", "r").data
    assert (found if flow else found["k"]) == data


@given(st.text(max_size=200) | st.text("-:[]{}#&*!|>'\"%@`?,\n\t ab0.<~", max_size=80) | st.binary(max_size=200))
@settings(max_examples=2500, deadline=None)
def test_no_text_raises_anything_but_a_recipe_error(text):
    for plain in (False, True):
        with contextlib.suppress(RecipeError):
            parse(text, "r", plain=plain)


def mutated(text, seed):
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text))
        end = at + chance.choice([0, 1, 1, 5, 40])
        text = (
            text[:at] + chance.choice(["", "", *"\t\n :[]{}'\"&*!|-\x00é", text[: chance.randrange(60)]]) + text[end:]
        )
    return text


def test_a_mutated_recipe_raises_nothing_but_a_recipe_error():
    source = RECIPES[0].read_text()
    refused = []
    for seed in range(600):
        try:
            parse(mutated(source, seed), "r")
        except RecipeError as error:
            refused.append(error)
    assert 100 < len(refused) < 600
    assert all(fault.line > 0 for error in refused for fault in error.faults)


def test_numbers_are_finite():
    found = parse("- 1e99\n- -1e99\n- 123456789012345678.5e99\n", "r").data
    assert all(math.isfinite(number) for number in found)
