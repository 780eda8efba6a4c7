"""Tables from elsewhere are read whole, or refused with a place and a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from qdcgen import tables
from qdcgen.errors import RecipeError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = pl.DataFrame({"text": ["one, two", 'said "hi"', "drei\nvier"], "label": ["a", None, "b"]})


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_ending_gives_the_same_rows(tmp_path: Path) -> None:
    ROWS.write_parquet(tmp_path / "a.parquet")
    ROWS.write_ndjson(tmp_path / "a.jsonl")
    ROWS.write_ndjson(tmp_path / "a.ndjson")
    ROWS.write_json(tmp_path / "a.json")
    ROWS.write_csv(tmp_path / "a.csv")
    ROWS.write_csv(tmp_path / "a.tsv", separator="\t")
    for ending in tables.ENDINGS:
        assert tables.read(tmp_path / f"a{ending}").equals(ROWS), ending


def test_json_lines_with_ragged_keys_and_blank_lines_load(tmp_path: Path) -> None:
    lines = ['{"a": 1}'] * 2_000 + ["", '{"a": 2, "late": "x"}', '{"late": "y"}']
    table = tables.read(written(tmp_path / "r.jsonl", "\n".join(lines)))
    assert table.columns == ["a", "late"]
    assert table.height == 2_002
    assert table["late"].to_list()[-2:] == ["x", "y"]
    assert table["a"].to_list()[-1] is None


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    for name, content in {
        "b.csv": "text,n\nx,1\n",
        "b.jsonl": '{"text": "x", "n": 1}\n',
        "b.json": '[{"text": "x", "n": 1}]',
    }.items():
        table = tables.read(written(tmp_path / name, b"\xef\xbb\xbf" + content.encode()))
        assert table.to_dicts() == [{"text": "x", "n": 1}], name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.jsonl", '{"a": 1}\n{"a": \n', "x.jsonl:2:"),
        ("x.jsonl", '{"a": 1}\n[1, 2]\n', "x.jsonl:2: expected an object, found an array"),
        ("x.jsonl", '{"a": "t"}\n{"a": {"b": 1}}\n', "'a' is an object in line 2 and a text in line 1"),
        ("x.jsonl", b'{"a": "t"}\n{"a": "\xe9"}\n', "x.jsonl:2:8: not UTF-8: byte 0xe9"),
        ("x.jsonl", "\n\n", "the file holds no rows"),
        ("x.json", '{"a": 1}\n', "expected an array of objects, found an object"),
        ("x.json", '{"a": 1}\n{"a": 2}\n', "name the file .jsonl"),
        ("x.json", "[1]", "item 1: expected an object, found a number"),
        ("x.json", "[]", "the file holds no rows"),
        ("x.json", "[" * 100_000, "nested too deeply"),
        ("x.csv", "a,b\n1,2\n1,2,3\n", "x.csv:3: 3 cells where the header has 2"),
        ("x.csv", b"a,b\n1,\xff\n", "x.csv:2:3: not UTF-8: byte 0xff"),
        ("x.csv", b"\xff\xfea\x00,\x00", "looks like UTF-16"),
        ("x.csv", "a,b\n", "the file holds no rows"),
        ("x.csv", "", "the file is empty"),
        ("x.parquet", "PAR1 not", "not a whole Parquet file"),
    ],
)
def test_what_is_broken_is_named_with_its_place(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        tables.read(written(tmp_path / name, content))
    assert said in str(caught.value)


def test_a_missing_file_an_unknown_ending_and_a_folder_are_usage_errors(tmp_path: Path) -> None:
    written(tmp_path / "data.jsonl", '{"a": 1}\n')
    with pytest.raises(UsageError, match=r"no such file; did you mean 'data\.jsonl'"):
        tables.read(tmp_path / "dta.jsonl")
    written(tmp_path / "data.xlsx", "PK")
    with pytest.raises(UsageError, match=r"cannot read \.xlsx; expected one of \.parquet"):
        tables.read(tmp_path / "data.xlsx")
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        tables.read(tmp_path / "f.csv")


def test_a_missing_file_without_an_ending_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none: no such file$"):
        tables.read(tmp_path / "none")


def test_mixed_numbers_load(tmp_path: Path) -> None:
    table = tables.read(written(tmp_path / "n.jsonl", '{"a": 1}\n{"a": 1.5}\n{"a": null}\n'))
    assert table["a"].to_list() == [1.0, 1.5, None]


def test_json_that_polars_cannot_read_and_python_can_still_loads(tmp_path: Path) -> None:
    table = tables.read(written(tmp_path / "n.jsonl", '\ufeff{"a": NaN, "t": "x"}\n{"a": 2.5, "late": [1]}\n'))
    assert table.columns == ["a", "t", "late"]
    assert table["a"].to_list()[1] == 2.5
