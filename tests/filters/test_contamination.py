"""The filter `contamination`: what repeats a test set goes, and says which text it repeats."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from qdcgen import parts
from qdcgen.errors import UsageError
from qdcgen.filters.contamination import Contamination
from qdcgen.parts import Scene, Tools
from qdcgen.rows import Cell, Row, Verdict

BANKING = Path(__file__).parents[2].parent / "shared" / "data" / "banking77"
LONG = "My card has still not arrived although you said that it would be here by Monday at the latest"
FIELDS = {"message": {"type": "string"}, "tone": {"enum": ["calm", "angry"]}, "reply": {"type": "string"}}


def row(number: int, **fields: Any) -> Row:
    return Row(Cell(f"{number:016x}", {}, number, number), fields)


def tools(folder: Path, **more: Any) -> Tools:
    return Tools(file=lambda name: folder / name, fields=FIELDS, **more)


def judged(part: Contamination, folder: Path, *rows: Row, **more: Any) -> list[Verdict]:
    return asyncio.run(part.judge(rows, tools(folder, **more)))


def part(**settings: Any) -> Contamination:
    return Contamination.model_validate({"against": "test.jsonl", **settings})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [
        {"id": "q1", "message": "Short one"},
        {"id": "q2", "message": LONG},
        {"id": "q3", "message": None},
        {"id": "q4", "message": "how do I get a new card in France"},
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_a_shared_run_names_the_file_the_row_and_the_words(folder: Path) -> None:
    words = LONG.split()
    text = "well, " + " ".join(words[:13]).upper() + " in May!"
    (verdict,) = judged(part(), folder, row(1, message=text))
    shown = "my card has still not arrived although you said that it would be"
    assert verdict == Verdict(
        kept=False, reason=f'has 13 words in a row of row 2 of test.jsonl: "{shown}"', score=verdict.score
    )
    assert verdict.score == pytest.approx(13 / 16)
    assert judged(part(), folder, row(1, message=" ".join(words[:12]) + " in May"))[0] == Verdict(kept=True)
    assert not judged(part(ngram=12), folder, row(1, message=" ".join(words[:12]) + " in May"))[0].kept


def test_a_text_shorter_than_the_run_counts_as_a_whole(folder: Path) -> None:
    said = judged(
        part(),
        folder,
        row(1, message="SHORT one."),
        row(2, message="a short one"),
        row(3, message="Hello! How do I get a new card in France? Thanks."),
        row(4, message="how do I get a new card"),
    )
    assert [v.kept for v in said] == [False, True, False, True]
    assert said[0].reason == 'has all 2 words of row 1 of test.jsonl: "short one"'
    assert said[2].reason.startswith("has all 9 words of row 4 of test.jsonl: ")


def test_rows_without_words_are_kept_and_say_so(folder: Path) -> None:
    for text in ("", " ", "?!", None, 4):
        assert judged(part(), folder, row(1, message=text)) == [Verdict(kept=True, reason="no words to compare")]


def test_share_is_of_the_rows_own_words(folder: Path) -> None:
    text = LONG + " and much more " * 10
    assert not judged(part(), folder, row(1, message=text))[0].kept
    assert judged(part(share=0.5), folder, row(1, message=text))[0].kept
    (verdict,) = judged(part(share=0.9), folder, row(1, message=LONG + " now"))
    assert "(95% of its words are shared)" in verdict.reason


def test_all_text_fields_are_looked_at_together_and_labels_are_not(folder: Path) -> None:
    assert not judged(part(), folder, row(1, message="Well", tone="calm", reply=LONG))[0].kept
    assert judged(part(field="message"), folder, row(1, message="Well", reply=LONG))[0].kept
    assert judged(part(), folder, row(1, message="", tone="Short one"))[0].kept


def test_the_column_is_named_or_found_or_asked_for(folder: Path) -> None:
    (folder / "odd.csv").write_text(f"question,answer\n{LONG},yes\n")
    assert not judged(part(against=["odd.csv"], text="question"), folder, row(1, message=LONG))[0].kept
    with pytest.raises(UsageError, match=r"several columns of texts \(question, answer\); name one: text: COLUMN"):
        part(against=["odd.csv"]).read(tools(folder))
    with pytest.raises(UsageError, match="no column 'questio'; did you mean 'question'"):
        part(against=["odd.csv"], text="questio").read(tools(folder))
    (folder / "empty.jsonl").write_text('{"text": ""}\n{"text": null}\n')
    with pytest.raises(UsageError, match=r"empty\.jsonl: every text is empty"):
        part(against=["empty.jsonl"]).read(tools(folder))


def test_a_run_is_read_through_its_accepted_rows_part_by_part(folder: Path) -> None:
    run = folder / "runs" / "earlier"
    with pytest.raises(UsageError, match="runs/earlier: a run without accepted rows"):
        part(against=["runs/earlier"]).read(tools(folder))
    (run / "data").mkdir(parents=True)
    pl.DataFrame({"message": ["one thing"], "_id": ["a"]}).write_parquet(run / "data" / "part-00000.parquet")
    pl.DataFrame({"message": [LONG], "_id": ["b"]}).write_parquet(run / "data" / "part-00001.parquet")
    (verdict,) = judged(part(against=["test.jsonl", "runs/earlier"]), folder, row(1, message=LONG))
    assert "row 2 of test.jsonl" in verdict.reason
    (verdict,) = judged(part(against=["runs/earlier"]), folder, row(1, message=LONG))
    assert "row 2 of runs/earlier" in verdict.reason


def test_similarity_is_the_embedders_and_off_by_default(folder: Path) -> None:
    asked: list[int] = []

    def embed(texts: Any) -> Any:
        asked.append(len(texts))
        angle = np.array([len(text) / 100 for text in texts], dtype=np.float32)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)

    rows = [row(1, message="x" * 9), row(2, message="x " * 60), row(3, message="?"), row(4, message=LONG)]
    assert [v.kept for v in judged(part(), folder, *rows, embed=embed)] == [True, True, True, False]
    assert asked == []
    said = judged(part(similarity=0.999), folder, *rows, embed=embed)
    assert [v.kept for v in said] == [False, True, True, False]
    assert said[0].reason == "as near as 1.000 to row 1 of test.jsonl, at or above 0.999"
    assert said[0].score == pytest.approx(1.0)
    assert asked == [3, 2]  # the file's texts but for the null, then the rows that share no words and have some


def test_problems_name_what_is_near() -> None:
    scene = Scene({}, {"message": {"type": "string"}, "n": {"type": "integer"}}, [], lambda _: set())
    (problem,) = part(field="mesage").problems(scene)
    assert problem.message == "no field called 'mesage'; did you mean 'message'?"
    assert len(list(part(field="n").problems(scene))) == 1
    assert list(part(field="message").problems(scene)) == []
    assert part(against="a.csv").files() == ("a.csv",)


def test_check_tells_a_missing_file_and_column_and_a_run_drops_what_is_shared(
    small: Path, qdcgen: Any, tmp_path: Path
) -> None:
    recipe = small.read_text().replace(
        "  - schema\n", "  - schema\n  - contamination: {against: [seen.csv], text: message}\n"
    )
    small.write_text(recipe)
    said = qdcgen("check", "small.yaml")
    assert said.returncode == 2
    assert "no file 'seen.csv'" in said.stderr + said.stdout
    (tmp_path / "seen.csv").write_text("mesage\nsomething\n")
    said = qdcgen("check", "small.yaml")
    assert said.returncode == 2
    assert "no column 'message'; did you mean 'mesage'" in said.stderr + said.stdout
    (tmp_path / "seen.csv").write_text("message\nsomething that no row has in it\n")
    assert qdcgen("run", "small.yaml", "--out", "out", "--quiet").returncode == 0
    kept = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")
    seen = kept["message"][0]
    with (tmp_path / "seen.csv").open("w") as file:
        csv.writer(file).writerows([["message"], [seen]])
    said = qdcgen("run", "small.yaml", "--out", "out", "--quiet")
    assert said.returncode in {0, 4}, said.stderr
    rejected = pl.read_parquet(tmp_path / "out" / "rejected" / "*.parquet")
    reasons = rejected.filter(pl.col("_filter") == "contamination")["_reason"].to_list()
    assert any("row 1 of seen.csv" in reason for reason in reasons)


@pytest.mark.skipif(not BANKING.is_dir(), reason="needs ../shared/data/banking77")
def test_planted_copies_of_a_real_test_set_are_found_and_few_others() -> None:
    held = pl.read_csv(BANKING / "test.csv")["text"].to_list()
    train = pl.read_csv(BANKING / "train.csv")["text"].to_list()
    rows = [row(n, message=text) for n, text in enumerate(train)]
    copies = [text for text in held if len(text.split()) >= 9][:300]
    rows += [row(20_000 + n, message=f"Hello there! {text.upper()}") for n, text in enumerate(copies)]
    said = judged(part(against=["test.csv"], text="text"), BANKING, *rows)
    dropped = [verdict for verdict in said if not verdict.kept]
    assert all(not verdict.kept for verdict in said[len(train) :])
    assert len(dropped) - len(copies) < 0.02 * len(train)  # 84: people do send the same message twice


@pytest.mark.skipif(not BANKING.is_dir(), reason="needs ../shared/data/banking77")
def test_the_second_look_costs_what_the_docstring_says() -> None:
    embedder: Any = parts.find("embedders", "wordllama")()
    train = [row(n, message=text) for n, text in enumerate(pl.read_csv(BANKING / "train.csv")["text"])]
    whole = judged(part(against=["test.csv"], text="text", similarity=0.95), BANKING, *train, embed=embedder.embed)
    assert 700 < sum(not verdict.kept for verdict in whole) < 850
