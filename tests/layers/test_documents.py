"""The rows of a file as seeds: used evenly, cut at word borders, never a template."""

import asyncio
import csv
import json
from collections import Counter

import polars as pl
import pytest

from qdcgen import template
from qdcgen.errors import RecipeError, UsageError
from qdcgen.layers.documents import LONGEST, Documents
from qdcgen.parts import Scene, Tools, position
from qdcgen.taxonomy import inline

TREE = inline("topic", {"cards": ["lost", "declined"], "loans": ["rates"]}, "test")


def ready(part, folder, **given):
    return asyncio.run(part.prepare(Tools(file=lambda name: folder / name, **given)))


def drawn(part, held, rows, mix="topic=a", names=None):
    return [part.draw(names or {}, position(7, mix, f"row {n}", "seed", n, held)) for n in range(rows)]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_every_document_is_used_once_before_any_is_used_twice(tmp_path):
    lines(tmp_path / "a.jsonl", [{"body": f"document {n}"} for n in range(37)])
    part = Documents(file="a.jsonl")
    held = ready(part, tmp_path)
    for mix in ("topic=a", "topic=b"):
        found = [one["text"] for one in drawn(part, held, 111, mix)]
        for turn in range(3):
            assert len(set(found[37 * turn : 37 * (turn + 1)])) == 37
    assert drawn(part, held, 37, "topic=a") != drawn(part, held, 37, "topic=b")
    assert drawn(part, held, 3)[0]["source"].startswith("row ")


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "txt"])
def test_every_kind_of_file_gives_the_same_documents(tmp_path, kind):
    rows = ["first document", "second, with a comma", "third"]
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["text"], *([row] for row in rows)])
    elif kind == "parquet":
        pl.DataFrame({"text": rows}).write_parquet(path)
    elif kind == "jsonl":
        lines(path, [{"text": row} for row in rows])
    else:
        path.write_text("\n".join(rows))
    part = Documents(file=path.name)
    found = drawn(part, ready(part, tmp_path), 3)
    assert {(one["text"], one["source"]) for one in found} == {(row, f"row {n}") for n, row in enumerate(rows, 1)}


def test_a_document_with_braces_is_data_and_never_a_template(tmp_path):
    lines(tmp_path / "a.jsonl", [{"text": "{{ 7*7 }} {% for x in range(9) %}\x00\x1b[31m", "id": "d1"}])
    part = Documents(file="a.jsonl")
    (value,) = drawn(part, ready(part, tmp_path), 1)
    assert value == {"text": "{{ 7*7 }} {% for x in range(9) %}[31m", "source": "d1", "chunk": 0}
    assert template.render("Seed: {{ doc.text }}", {"doc": value}) == f"Seed: {value['text']}"


def test_long_documents_are_cut_at_word_borders(tmp_path):
    long = " ".join(f"w{n}" for n in range(5000))
    lines(tmp_path / "a.jsonl", [{"text": long}, {"text": "short"}, {"text": "x" * 200_000}, {"text": " "}])
    whole = Documents(file="a.jsonl")
    held = ready(whole, tmp_path)
    found = {one["source"]: one["text"] for one in drawn(whole, held, 3)}
    assert found["row 1"] == " ".join(f"w{n}" for n in range(LONGEST))
    assert found["row 2"] == "short"
    assert len(found["row 3"]) <= LONGEST * 40
    (said,) = whole.remarks(held)
    assert said.startswith("3 passages of 4 rows; 1 rows without a text are left out; 2 texts are cut to 2,000 words")
    cut = Documents(file="a.jsonl", chunk={"words": 200, "overlap": 20})
    held = ready(cut, tmp_path)
    found = drawn(cut, held, len(held.rows))
    first = sorted((one for one in found if one["source"] == "row 1"), key=lambda one: one["chunk"])
    assert [one["chunk"] for one in first] == list(range(28))
    assert all(len(one["text"].split()) == 200 for one in first)
    assert first[0]["text"].split()[-20:] == first[1]["text"].split()[:20]
    assert first[-1]["text"].endswith("w4999")


def test_a_row_gets_a_document_of_its_own_node(tmp_path):
    rows = [
        {"text": "lost 1", "about": "cards/lost"},
        {"text": "lost 2", "about": "lost"},
        {"text": "cards", "about": "cards"},
        {"text": "rates", "about": "loans/rates"},
    ]
    lines(tmp_path / "a.jsonl", rows)
    part = Documents(file="a.jsonl", text="text", by={"topic": "about"})
    held = ready(part, tmp_path, taxonomies={"topic": TREE})

    def of(leaf):
        node = next(node for node in TREE.leaves if node.label == leaf)
        return Counter(one["text"] for one in drawn(part, held, 12, names={"topic": node}))

    assert of("lost") == {"lost 1": 12}  # by its path, before its label
    assert of("declined") == {"cards": 12}  # no document of its own: the node's above
    assert of("rates") == {"rates": 12}
    assert len({one["text"] for one in drawn(part, held, 4, names={"topic": None})}) == 4


def test_a_leaf_without_documents_is_named_before_anything_is_spent(tmp_path):
    lines(tmp_path / "a.jsonl", [{"text": "one", "about": "cards"}])
    part = Documents(file="a.jsonl", text="text", by={"topic": "about"})
    with pytest.raises(UsageError, match=r"column 'about' names no document of loans/rates; it holds cards"):
        ready(part, tmp_path, taxonomies={"topic": TREE})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", "", "the file is empty"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', "expected an object, found an array|expected an object, found"),
        ("a.jsonl", '{"text": " "}\n', "every text of 'text' is empty"),
        ("a.csv", "n\n1\n", "no column of texts"),
        ("a.pdf", "x", "cannot read .pdf"),
        ("a.txt", "", "no text"),
    ],
)
def test_files_that_cannot_be_used_are_told_by_name(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises((UsageError, RecipeError), match=said):
        ready(Documents(file=name), tmp_path)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="overlap 150 is more than half of words 200"):
        Documents(file="a", chunk={"words": 200, "overlap": 150})
    scene = Scene({"topic": TREE}, {}, [], lambda _: set())
    (problem,) = Documents(file="a", by={"topik": "c"}).problems(scene)
    assert problem.path == ("by", "topik")
    assert "did you mean 'topic'" in problem.message


def test_a_hundred_thousand_documents_are_read_in_seconds_and_held_in_columns(tmp_path):
    text = " ".join(f"word{n}" for n in range(60))
    pl.DataFrame({"text": [f"{n} {text}" for n in range(100_000)]}).write_parquet(tmp_path / "a.parquet")
    part = Documents(file="a.parquet")
    held = ready(part, tmp_path)
    assert len(held.rows) == 100_000
    assert isinstance(held.texts, pl.Series)
    found = drawn(part, held, 1000)
    assert len({one["text"] for one in found}) == 1000
