"""Which filter sees which row: the order, what is not judged twice, and what a changed filter costs."""

import json
import os
import random
import shutil
import signal

import polars as pl
import pytest

from qdcgen.errors import QdcgenError, RecipeError
from qdcgen.filters.duplicates import Duplicates
from qdcgen.filters.length import Length
from qdcgen.filters.schema import Schema
from qdcgen.judge import chain
from qdcgen.recipe import load
from qdcgen.run import run
from qdcgen.store import Store

TIGHT = "filters.1.length.min_words=10"


def go(path, folder, *overrides):
    return run(load(path, overrides=overrides), folder, quiet=True)


def verdicts(folder):
    """What was said of the rows of the first round."""
    store = Store(folder).peek()
    names = [name for name in store.names("verdicts") if name.startswith("verdicts/000-")]
    return pl.concat([store.table(name) for name in names]).sort("_id", "filter")


@pytest.fixture
def seen(monkeypatch):
    """Filter → rows that it was shown, while it still judges them."""
    counts = {}

    def watch(kind):
        judge = kind.judge

        async def watched(self, rows, tools):
            counts[kind.__name__] = counts.get(kind.__name__, 0) + len(rows)
            return await judge(self, rows, tools)

        monkeypatch.setattr(kind, "judge", watched)

    for kind in (Schema, Length, Duplicates):
        watch(kind)
    return counts


def test_only_the_filter_that_changed_and_those_after_it_judge_again(small, tmp_path, server, seen):
    go(small, tmp_path / "out")
    asked, first = server.asked, dict(seen)
    assert first["Schema"] == 40
    seen.clear()
    outcome = go(small, tmp_path / "out", TIGHT)
    assert server.asked == asked
    assert any("no row was made" in words for words in outcome.remarks)
    assert "Schema" not in seen, "it stands before the change"
    assert seen["Length"] == 40
    assert 0 < seen["Duplicates"] < 40, "it sees what the tighter filter left"
    again = verdicts(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "verdicts")
    repaired = Store(tmp_path / "out")
    with repaired:
        repaired.commit({}, drop=tuple(repaired.names("verdicts")))
    go(small, tmp_path / "out", TIGHT)
    assert verdicts(tmp_path / "out").equals(again), "reused verdicts are those that judging all anew gives"
    assert "standing.parquet" not in Store(tmp_path / "out").peek().files


def test_kept_rows_that_are_not_in_data_are_explained_whether_the_run_is_full_or_short(small, tmp_path):
    assert go(small, tmp_path / "out", TIGHT).exit_code in (0, 4)  # rows are made again in place of short ones
    full = go(small, tmp_path / "out", "filters.1.length.min_words=1")
    assert full.results["rows"]["surplus"] > 0
    assert any("are not needed for this target; they stay in rejected/" in words for words in full.remarks)
    most = "filters.1.length={field: message, min_words: 1, max_words: 10}"
    short = go(small, tmp_path / "out", most)
    assert short.results["rows"]["surplus"] > 0
    assert short.results["rows"]["owed"] > 0
    assert any("stand in slots that other rows filled; they stay" in words for words in short.remarks)


def test_a_filter_taken_out_or_added_at_the_end_leaves_the_others_verdicts(small, tmp_path, seen):
    go(small, tmp_path / "out")
    seen.clear()
    text = small.read_text()
    small.write_text(text.replace("  - duplicates: {field: message, similarity: 0.9}\n", ""))
    go(small, tmp_path / "out")
    assert not seen
    small.write_text(text)
    outcome = go(small, tmp_path / "out")
    assert seen == {"Duplicates": 40}
    assert any("judged again by duplicates; " in words for words in outcome.remarks)


@pytest.mark.parametrize("then", [TIGHT, "filters.1.length.min_words=3", "filters.1.length.min_words=8"])
def test_judging_anew_that_is_stopped_goes_on_where_it_was_also_under_other_filters(
    small, tmp_path, server, seen, monkeypatch, then
):
    small.write_text(small.read_text().replace("rows: 40", "rows: 400"))
    go(small, tmp_path / "out")
    go(small, tmp_path / "fresh", then)
    asked = server.asked
    judge, left = Duplicates.judge, [9]

    async def stopping(self, rows, tools):
        left[0] -= 1
        if not left[0]:
            raise QdcgenError("stopped here")
        return await judge(self, rows, tools)

    monkeypatch.setattr(Duplicates, "judge", stopping)
    assert go(small, tmp_path / "out", TIGHT).exit_code == 1
    monkeypatch.setattr(Duplicates, "judge", judge)
    seen.clear()
    outcome = go(small, tmp_path / "out", then)
    assert server.asked == asked
    assert outcome.exit_code in (0, 4)
    assert seen.get("Schema", 0) == 0
    assert verdicts(tmp_path / "out").equals(verdicts(tmp_path / "fresh"))


CRITIC = "  - double_critic: {fields: [message]}\n"


def says(body):
    last = body["messages"][-1]["content"]
    if "correct" in last:
        return json.dumps({"finding": "so", "verdict": "no" if "incorrect" in last else "yes"})
    words = random.Random(json.dumps(body, sort_keys=True))
    return json.dumps(
        {"message": " ".join(words.choices("abcdefghijklmnop", k=words.randint(4, 16))), "urgency": "low"}
    )


@pytest.mark.parametrize("order", ["cheap_first", "written"])
def test_a_critic_sees_what_free_filters_left_unless_the_order_is_as_written(small, tmp_path, server, order):
    text = small.read_text().replace("filters:\n", f"filter_order: {order}\nfilters:\n{CRITIC}")
    small.write_text(text.replace("min_words: 3", "min_words: 10").replace("candidates: 3", "candidates: 1"))
    server.answer = says
    recipe = load(small)
    labels = [label for label, _ in recipe.judges]
    free = ["schema", "length", "duplicates"]
    assert labels == ([*free, "double_critic"] if order == "cheap_first" else ["double_critic", *free])
    go(small, tmp_path / "out")
    told = verdicts(tmp_path / "out")
    judged = told.filter(pl.col("filter") == "double_critic").height
    short = told.filter((pl.col("filter") == "length") & ~pl.col("kept")).height
    assert 0 < short < 40
    assert judged == (40 - short if order == "cheap_first" else 40)


def test_two_filters_of_one_name_keep_their_names_whatever_the_order(small):
    small.write_text(small.read_text().replace("  - schema\n", f"{CRITIC}{CRITIC}  - schema\n  - schema\n"))
    assert [label for label, _ in load(small).judges] == [
        "schema",
        "schema#2",
        "length",
        "duplicates",
        "double_critic",
        "double_critic#2",
    ]


def test_a_chain_parts_where_the_first_filter_differs(small):
    one, other = chain(load(small)), chain(load(small, overrides=(TIGHT,)))
    assert one[0] == other[0]
    assert one[1:] != other[1:]
    assert not set(one[1:]) & set(other[1:])


def test_an_order_that_is_none_is_refused(small):
    small.write_text(small.read_text().replace("filters:\n", "filter_order: cheap\nfilters:\n"))
    with pytest.raises(RecipeError, match="filter_order"):
        load(small)


def test_a_file_that_a_filter_cannot_read_is_told_before_a_row_is_paid_for(small, tmp_path, server):
    (tmp_path / "real.csv").write_text("a,b\n1,2\n3,4\n")
    against = "  - contamination: {against: [real.csv], text: said}\n"
    small.write_text(small.read_text().replace("  - schema\n", against))
    outcome = go(small, tmp_path / "out")
    assert (outcome.exit_code, server.asked) == (2, 0)
    assert any("real.csv" in words and "said" in words for words in outcome.remarks)


def test_judging_anew_that_is_interrupted_keeps_what_it_judged_and_data_as_it_was(small, tmp_path, server, qdcgen):
    small.write_text(small.read_text().replace("filters:\n", f"filters:\n{CRITIC}").replace("rows: 40", "rows: 400"))
    server.answer = says
    go(small, tmp_path / "out")
    whole = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")
    assert whole.height == 400
    first, asked = server.asked, [0]

    def stopping(body):
        if "correct" in body["messages"][-1]["content"]:
            asked[0] += 1
            if asked[0] == 200:
                os.kill(os.getpid(), signal.SIGINT)
        return says(body)

    server.answer = stopping
    text = small.read_text()
    small.write_text(text.replace("double_critic: {fields: [message]}", "double_critic: {fields: [urgency, message]}"))
    outcome = go(small, tmp_path / "out")
    assert outcome.exit_code == 130
    assert any("data/ and the report are still those of the filters before" in words for words in outcome.remarks)
    store = Store(tmp_path / "out").peek()
    judged = sum(name in store.files for name in store.names("verdicts"))
    assert 0 < judged < len(store.names("raw"))
    assert pl.read_parquet(tmp_path / "out" / "data" / "*.parquet").equals(whole)
    assert "data/ is of those before" in qdcgen("status", "out").stdout
    assert "figures are of before" in qdcgen("report", "out").stdout
    server.answer = says
    ended = go(small, tmp_path / "out")
    assert ended.exit_code == 0
    assert not {"rejudging.json", "standing.parquet"} & set(Store(tmp_path / "out").peek().files)
    assert "data/ is of those before" not in qdcgen("status", "out").stdout
    assert server.asked == first + 800, "two questions a row, each paid for once"
    assert pl.read_parquet(tmp_path / "out" / "data" / "*.parquet").height == 400


def test_a_fault_in_a_changed_filter_takes_no_verdict_out(small, tmp_path):
    go(small, tmp_path / "out")
    before = verdicts(tmp_path / "out")
    (tmp_path / "real.csv").write_text("a,b\n1,2\n3,4\n")
    against = "  - contamination: {against: [real.csv], text: said}\n"
    small.write_text(small.read_text().replace("  - schema\n", against))
    assert go(small, tmp_path / "out").exit_code == 2
    assert verdicts(tmp_path / "out").equals(before)


def test_a_critic_in_a_providers_batches_is_sent_all_rows_at_once(small, tmp_path, server):
    text = small.read_text().replace("filters:\n", "filters:\n  - double_critic: {model: critic, fields: [message]}\n")
    small.write_text(
        text.replace("rows: 40", "rows: 100").replace(
            "taxonomy:", f'  critic: {{model: openai/critic, api_base: "{server.url}", batch: true}}\ntaxonomy:'
        )
    )
    server.answer = says
    codes = []
    while not codes or (codes[-1] == 4 and len(codes) < 9):
        codes.append(go(small, tmp_path / "out", "target.candidates=1").exit_code)
        server.start_batches()
        server.finish_batches()
    assert codes == [4, 0], "one batch for all rows of the round"
    assert pl.read_parquet(tmp_path / "out" / "data" / "*.parquet").height == 100
