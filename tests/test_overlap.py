"""Runs of words shared with other texts: against a plain search, and where hashes lie."""

import random

import polars as pl
import pytest

from qdcgen import overlap
from qdcgen.overlap import Overlap, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,  World!", ["hello", "world"]),
        ("don’t — 3.14 (ＡＢＣ)", ["don", "t", "3", "14", "abc"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("今天天气好", list("今天天气好")),
        ("カード を lost", ["カ", "ー", "ド", "を", "lost"]),
        ("카드 분실", ["카드", "분실"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("snake_case\x00\x1b[31m", ["snake", "case", "31m"]),
        ("?! …", []),
        ("\ud800 a", ["a"]),
    ],
)
def test_words_are_what_is_compared(text, expected):
    assert words(text) == expected


def shared(one, other, n):
    held = [tuple(other[i : i + n]) for i in range(len(other) - n + 1)]
    return any(tuple(one[i : i + n]) in held for i in range(len(one) - n + 1))


def plainly(row, tests, n):
    row = words(row)
    for test in filter(None, map(words, tests)):
        size = min(n, len(test))
        if size < n and size < min(n, overlap.SHORT):
            if row == test:
                return True
        elif shared(row, test, size):
            return True
    return False


@pytest.mark.parametrize("n", [2, 5, 9, 13])
def test_hits_are_those_of_a_plain_search(n):
    rng = random.Random(n)
    letters = "ab" if n > 2 else "abcdefgh"

    def text(most):
        return " ".join(rng.choices(letters, k=rng.randint(0, most)))

    tests = [text(20) for _ in range(60)]
    found = Overlap([tests[:25], pl.Series(tests[25:])], n)
    rows = [text(24) for _ in range(400)] + [*tests]
    hits = [found.hit(row) for row in rows]
    assert [hit is not None for hit in hits] == [plainly(row, tests, n) for row in rows]
    assert 0 < sum(hit is not None for hit in hits) < len(rows)
    for row, hit in zip(rows, hits, strict=True):
        if hit is not None:
            assert f" {' '.join(hit.shared)} " in f" {' '.join(words(tests[hit.text]))} "
            assert f" {' '.join(hit.shared)} " in f" {' '.join(words(row))} "
            assert 0 < hit.share <= 1


def test_equal_hashes_of_other_words_are_no_hit(monkeypatch):
    monkeypatch.setattr(overlap, "_hashed", all_alike)
    tests = ["one two three four", "five six seven eight", "nine ten eleven twelve"]
    found = Overlap([tests], 3)
    assert found.hit("a b c d e") is None
    assert found.hit("zero six seven eight").text == 1


def all_alike(texts):
    import numpy as np

    return np.ones(sum(len(text) for text in texts), dtype=np.uint64)


def test_runs_do_not_cross_from_one_text_to_the_next():
    found = Overlap([["one two", "three four", "five six"]], 4)
    assert found.hit("one two three four five six") is None


def test_chunks_number_texts_through(monkeypatch):
    monkeypatch.setattr(overlap, "CHUNK", 2)
    tests = [f"word{n} and more of them {n}" for n in range(7)]
    found = Overlap([tests[:3], tests[3:]], 3)
    assert [found.hit(test).text for test in tests] == list(range(7))


def test_nothing_to_compare_with_or_to_compare():
    assert Overlap([[None, "", "?!"]], 3).hit("a b c d") is None
    assert Overlap([["a b c"]], 3).hit("") is None
