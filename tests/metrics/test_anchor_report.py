"""Real rows in a report: of a run whose recipe names an anchor, and of a file beside another."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from qdcgen.recipe import load
from qdcgen.report.grid import grids
from qdcgen.report.terminal import terminal
from qdcgen.review import of_file
from qdcgen.rows import Measure
from qdcgen.run import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Any]

SAID = {
    "lost": "my card is lost somewhere near the {} and I cannot find the card",
    "pin": "I forgot the secret number of my card when I paid for the {}",
    "pending": "the transfer for the {} is still pending since {}",
    "account": "I sent money for the {} to a wrong account on {}",
}
THINGS = ["train", "garden", "doctor", "school", "rent", "bicycle", "wedding", "library", "concert", "bakery"]
DAYS = ["Monday", "Tuesday", "Friday", "Easter", "payday", "the first", "Sunday night", "my birthday"]
NEW = ["Hello,", "Please help:", "Hi there,", "Good morning,", "Sorry,", "So,", "Well,", "Again:", "Listen,", "Hey,"]


def messages(topics: list[str], n: int, seed: int) -> list[dict[str, str]]:
    rng = random.Random(seed)
    rows = []
    for number in range(n):
        topic = topics[number % len(topics)]
        said = SAID[topic].format(rng.choice(THINGS), rng.choice(DAYS))
        mood = "angry" if number % 4 == 0 else "calm"
        rows.append({"text": f"{rng.choice(NEW)} {said} {number}", "topic": topic, "mood": mood})
    return rows


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def by_name(measures: list[Measure]) -> dict[tuple[str, str, str], Measure]:
    return {(one.name, one.axis, one.of): one for one in measures}


def test_a_file_is_set_against_real_rows(tmp_path: Path) -> None:
    made = write(tmp_path / "made.jsonl", messages(["lost", "pin", "pending"], 240, 1))
    real = write(tmp_path / "real.jsonl", messages(list(SAID), 480, 2))
    report = of_file(made, text=("text",), axes=("mood",), embedder=None, label="topic", anchor=real)
    found = by_name(list(report.measures))
    assert report.facts["anchor"] == f"{real}, 480 rows, column text"
    for name in ("precision", "recall"):
        one = found[name, "", "rows"]
        assert one.value is not None
        assert one.control is not None
        assert (one.n, one.control_of) == (240, "real vs real")
        assert (name, "", "anchor") not in found
    recall, precision = found["recall", "", "rows"], found["precision", "", "rows"]
    assert recall.value is not None
    assert recall.value < (recall.control or 0) - 0.15
    assert precision.value == pytest.approx(precision.control, abs=0.1)
    reached = found["real regions reached", "topic", "rows"]
    assert (reached.value, reached.missing) == (0.75, ("account (25.0% of real rows)",))
    assert found["leaves", "topic", "rows"].missing == ("account",), "the tree holds the labels of both"
    assert found["difference from anchor", "topic", "rows"].value == pytest.approx(0.138, abs=0.02)
    mood = found["difference from anchor", "mood", "rows"]
    assert mood.interval is not None
    assert mood.interval[0] <= (mood.control or 0) <= mood.interval[1]
    assert ("mean pairwise distance", "", "anchor") in found, "every other figure stands beside that of real rows"
    page = terminal(report, colour=False)
    assert "missing from real regions reached, topic: 1" in page
    assert "real vs real" in page
    assert max(map(len, page.splitlines())) <= 80


def test_the_column_of_real_texts_is_named_found_or_asked_for(tmp_path: Path, qdcgen: Command) -> None:
    write(tmp_path / "made.jsonl", messages(list(SAID), 60, 1))
    said = messages(list(SAID), 60, 2)
    write(tmp_path / "other.jsonl", [{"utterance": row["text"], "kind": row["topic"]} for row in said])
    write(tmp_path / "two.jsonl", [{"question": row["text"], "answer": row["text"]} for row in said])
    shown = qdcgen("report", "made.jsonl", "--text", "text", "--anchor", "other.jsonl", "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    report = json.loads(shown.stdout)
    assert report["facts"]["anchor"] == "other.jsonl, 60 rows, column utterance"
    assert {one["of"] for one in report["measures"]} >= {"rows", "anchor"}
    for arguments, why in (
        (["--anchor", "two.jsonl"],
         "two.jsonl: which column is the text? type --anchor-text with one of question, answer\n"),
        (["--anchor", "two.jsonl", "--anchor-text", "anser"],
         "two.jsonl: no column 'anser'; did you mean 'answer'? (columns: question, answer)\n"),
        (["--anchor-text", "question"], "--anchor-text needs --anchor FILE: the real rows whose column it is\n"),
    ):  # fmt: skip
        ended = qdcgen("report", "made.jsonl", "--text", "text", *arguments)
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", why)


def test_an_anchor_is_for_files_and_a_run_has_one_in_its_recipe(
    tmp_path: Path, small: Path, server: Any, qdcgen: Command
) -> None:
    write(tmp_path / "real.jsonl", messages(list(SAID), 300, 2))
    assert qdcgen("run", small).returncode == 0
    ended = qdcgen("report", "runs/small", "--anchor", "real.jsonl")
    assert ended.returncode == 2
    assert "--anchor" in ended.stderr
    assert "measured as its recipe says (measure:)" in ended.stderr
    curve = qdcgen("report", "runs/small", "--curve", "length", "--anchor", "real.jsonl")
    assert curve.returncode == 2


def test_a_run_is_set_against_its_anchor(tmp_path: Path, small: Path, server: Any) -> None:
    """Labels of a taxonomy, a field and a layer that the real rows have too; nothing of everything made."""
    rows = [
        {"said": row["text"], "intent": row["topic"], "urgency": ["low", "high"][number % 2], "channel": "chat"}
        for number, row in enumerate(messages(["lost", "pending"], 300, 2))
    ]
    write(tmp_path / "real.jsonl", rows)
    small.write_text(
        small.read_text()
        .replace("{text: message}", "{text: message, anchor: {file: real.jsonl, text: said, labels: {topic: intent}}}")
        .replace("rows: 40", "rows: 120")
    )
    outcome = run(load(small), tmp_path / "out", quiet=True)
    found = by_name(list(outcome.report.measures))
    differing = {axis: of for name, axis, of in found if name == "difference from anchor" and of == "kept"}
    assert set(differing) == {"topic", "urgency", "channel", "words", "form"}
    assert found["difference from anchor", "channel", "kept"].value is not None
    reached = found["real regions reached", "topic", "kept"]
    assert (reached.value, reached.unit) == (1.0, "of 2")
    assert found["real regions reached", "topic", "landed"].value is not None
    assert not any(of == "raw" for name, _, of in found if name in {"precision", "recall", "difference from anchor"})
    recall = found["recall", "", "kept"]
    assert recall.control is not None
    assert recall.value is not None
    assert recall.value < recall.control, "a model that makes up words is not what people write"
    assert not any("no real rows to compare with" in remark for remark in outcome.report.remarks)


def test_populations_of_a_file_stand_before_the_anchor() -> None:
    table = [Measure("diversity", "x", 0.5, n=9, of=of) for of in ("anchor", "rows", "kept")]
    assert next(grid for grid in grids(table) if grid.lines).populations == ["kept", "rows", "anchor"]


def test_bad_columns_of_real_rows_are_left_out(tmp_path: Path) -> None:
    """A label that is a list, an axis that is a struct, a column that is all null: what is there is measured."""
    rows = messages(list(SAID), 60, 1)
    write(tmp_path / "made.jsonl", rows)
    odd = pl.DataFrame(
        {
            "text": [row["text"] for row in messages(list(SAID), 60, 2)],
            "mood": [{"a": 1}] * 60,
            "topic": pl.Series([None] * 60, dtype=pl.String),
        }
    )
    odd.write_parquet(tmp_path / "odd.parquet")
    report = of_file(
        tmp_path / "made.jsonl",
        text=("text",),
        axes=("mood",),
        embedder=None,
        label="topic",
        anchor=tmp_path / "odd.parquet",
    )
    found = by_name(list(report.measures))
    assert ("difference from anchor", "mood", "rows") not in found
    assert found["difference from anchor", "words", "rows"].value is not None
