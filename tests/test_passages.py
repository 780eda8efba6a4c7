"""Texts of files come as they are, harmless and cut at word borders."""

import itertools

import pytest

from qdcgen.errors import RecipeError, UsageError
from qdcgen.parts import find
from qdcgen.passages import clean, cut, pieces, texts, unlike

EMBED = find("embedders", "wordllama")().embed


def test_control_characters_go_and_letters_stay():
    assert clean("\x00a\x1b[31m b\r\nc\u2028d\ud800 {{ 7*7 }}\t🦊 ") == "a[31m b\nc\u2028d {{ 7*7 }}\t🦊"


def test_texts_are_cut_between_words():
    assert cut("one  two\nthree four", 3) == "one  two\nthree"
    assert cut("one two", 3) == "one two"
    assert cut("", 3) == ""
    assert len(cut("x" * 1000, 3)) == 120  # a run without a space counts as words of 40 letters


@pytest.mark.parametrize(("words", "overlap"), [(10, 0), (10, 3), (7, 3), (200, 20)])
@pytest.mark.parametrize("length", [1, 9, 10, 11, 19, 20, 21, 100, 401])
def test_pieces_cover_everything_are_equally_long_and_overlap_as_asked(words, overlap, length):
    text = " ".join(f"w{number}" for number in range(length))
    found = [text[start:end].split() for start, end in pieces(text, words, overlap)]
    assert [word for word in text.split() if not any(word in piece for piece in found)] == []
    assert {len(piece) for piece in found} == {min(words, length)}
    for one, other in itertools.pairwise(found[:-1]):
        assert one[len(one) - overlap :] == other[:overlap]
    assert len({tuple(piece) for piece in found}) == len(found)
    assert len(found) == max(1, -(-(length - overlap) // (words - overlap)))


def test_a_text_without_words_has_no_piece():
    assert list(pieces(" \n\t", 10, 0)) == []


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("one\ntwo\r\nthree\n", ["one", "two", "three"]),
        ("one\ntwo\n\n \nthree\n", ["one\ntwo", "three"]),
        ("\ufeffone", ["one"]),
    ],
)
def test_plain_texts_stand_between_blank_lines_or_one_a_line(tmp_path, content, found):
    path = tmp_path / "texts.txt"
    path.write_text(content, encoding="utf-8", newline="")
    assert texts(path).to_list() == found


def test_a_table_gives_the_column_named_or_the_one_that_holds_texts(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("n,body\n1,first\n2,\n3,third\n")
    assert texts(path).to_list() == ["first", None, "third"]
    assert texts(path, "body").to_list() == ["first", None, "third"]
    with pytest.raises(UsageError, match=r"no column 'bode'; did you mean 'body'"):
        texts(path, "bode")
    with pytest.raises(UsageError, match="'n' holds no texts but Int64"):
        texts(path, "n")
    path.write_text("title,body\na,b\n")
    with pytest.raises(UsageError, match=r"several columns of texts \(title, body\); name one: text: COLUMN"):
        texts(path)
    path.write_text("title,text\na,b\n")
    assert texts(path).to_list() == ["b"]


@pytest.mark.parametrize("content", [b"", b" \n\n ", b"ok\nbad \xff"])
def test_plain_files_that_hold_no_text_are_told(tmp_path, content):
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"no text|not UTF-8"):
        texts(path)


def test_near_duplicates_are_left_out_with_what_they_are_like():
    held = ["A nurse who works at night in a hospital."]
    new = [
        "A NURSE who works at night in a  hospital.",
        "A baker with a small shop by the river.",
        "A baker, with a small shop by the river!",
        "At night, a nurse who works in a hospital.",
        "A retired judge who breeds pigeons.",
    ]
    kept, dropped = unlike(held, new, EMBED, letters=0.9, meaning=0.85)
    assert kept == [new[1], new[4]]
    assert [(one.text, one.like) for one in dropped] == [(new[0], held[0]), (new[2], new[1]), (new[3], held[0])]
    assert dropped[0].similarity == 1
    assert unlike([], [], EMBED, letters=0.9, meaning=0.85) == ([], [])
    assert unlike(held, held, EMBED, letters=0.9, meaning=0.85)[0] == []
