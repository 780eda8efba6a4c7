"""A changed recipe over a finished run: what stands stays byte for byte, and only what is new is made."""

import json
import random

import polars as pl
import pytest

from qdcgen.errors import RunDiffers, UsageError
from qdcgen.recipe import load
from qdcgen.review import review
from qdcgen.run import run
from qdcgen.selection import Selection
from qdcgen.store import Store

LEAVES = ["lost", "declined", "pin", "fees", "limits"]

RECIPE = """\
recipe: 1
name: refresh
models: {{writer: {{model: openai/test, api_base: "{url}", max_in_flight: 16}}}}
taxonomy:
  topic: {{tree: {tree}}}
generate:
  - write: {{fields: {{message: string}}, prompt: "About {{{{ topic.path }}}}"}}
target: {{rows: {rows}, candidates: {candidates}}}
{more}
"""


@pytest.fixture
def recipe(tmp_path, server):
    """Write a recipe over these leaves; gives its path."""

    def written(leaves=LEAVES, rows=100, candidates=3, more=""):
        path = tmp_path / "recipe.yaml"
        tree = json.dumps(leaves)
        path.write_text(RECIPE.format(url=server.url, tree=tree, rows=rows, candidates=candidates, more=more))
        return path

    return written


def go(path, folder, *overrides, **options):
    return run(load(path, overrides=overrides), folder, quiet=True, **options)


def data(folder):
    return pl.read_parquet(folder / "data" / "*.parquet")


def rejected(folder):
    return pl.read_parquet(folder / "rejected" / "*.parquet")


def test_adding_a_leaf_to_a_finished_run_makes_that_leafs_rows_and_nothing_else(recipe, tmp_path, server):
    out = tmp_path / "out"
    leaves = [f"leaf {number}" for number in range(20)]
    assert go(recipe(leaves, rows=1000), out).exit_code == 0
    before, asked, raw = data(out), server.asked, {p: p.read_bytes() for p in (out / "raw").iterdir()}
    outcome = go(recipe([*leaves[:7], "a new leaf", *leaves[7:]], rows=1000), out)
    assert outcome.exit_code == 0
    after = data(out)
    added = after.filter(pl.col("topic") == "a new leaf")
    assert added.height in (47, 48)
    assert server.asked - asked == added.height
    assert after.filter(pl.col("topic") != "a new leaf").equals(before)
    assert {path: path.read_bytes() for path in raw} == raw
    assert any(f"{added.height} rows more than target.rows" in remark for remark in outcome.remarks)
    again = go(recipe([*leaves[:7], "a new leaf", *leaves[7:]], rows=1000), out)
    assert (again.exit_code, server.asked - asked) == (0, added.height)
    assert data(out).equals(after)


def test_a_removed_leaf_is_named_and_needs_replace_and_its_rows_come_back_with_it(recipe, tmp_path, server):
    out = tmp_path / "out"
    go(recipe(), out)
    before, asked = data(out), server.asked
    with pytest.raises(RunDiffers, match=r"20 accepted rows .*\n.*pin is no longer a leaf of topic: 20 rows"):
        go(recipe([leaf for leaf in LEAVES if leaf != "pin"]), out)
    assert data(out).equals(before)
    outcome = go(recipe([leaf for leaf in LEAVES if leaf != "pin"]), out, replace=True)
    assert outcome.exit_code == 0
    after = data(out)
    assert after.height == 100
    assert server.asked - asked == 20
    assert dict(after["topic"].value_counts().iter_rows()) == dict.fromkeys(["lost", "declined", "fees", "limits"], 25)
    kept = before.filter(pl.col("topic") != "pin")
    assert after.filter(pl.col("_id").is_in(kept["_id"].implode())).equals(kept)
    gone = rejected(out)
    assert gone["_reason"].unique().to_list() == ["pin is no longer a leaf of topic"]
    assert sorted(gone["_id"]) == sorted(before.filter(pl.col("topic") == "pin")["_id"])
    whole = outcome.report.ledger[0]
    assert whole.attempted == 120
    assert whole.rejected == {"retired": 20}
    asked = server.asked
    back = go(recipe(), out)
    assert (back.exit_code, server.asked) == (0, asked), "what was paid for is not paid for again"
    assert set(before["_id"]) <= set(data(out)["_id"])
    assert "20 rows came back: their regions are as they were" in back.remarks


def test_a_leaf_that_is_renamed_or_split_is_made_anew(recipe, tmp_path, server):
    out = tmp_path / "out"
    go(recipe(), out)
    asked = server.asked
    split = {"lost": {"card": None, "phone": None}, "declined": None, "pin": None, "fees": None, "limits": None}
    with pytest.raises(RunDiffers, match="lost is no longer a leaf of topic: 20 rows"):
        go(recipe(split), out)
    assert go(recipe(split), out, replace=True).exit_code == 0
    counts = dict(data(out)["topic"].value_counts().iter_rows())
    assert {"lost/card", "lost/phone"} < set(counts)
    assert "lost" not in counts
    assert server.asked - asked == counts["lost/card"] + counts["lost/phone"]
    assert all(counts[leaf] == 20 for leaf in LEAVES[1:])


def test_what_is_forbidden_later_leaves_with_its_reason(recipe, tmp_path):
    out = tmp_path / "out"
    path = recipe()
    path.write_text(path.read_text().replace("taxonomy:", "taxonomy:\n  tone: [calm, angry]"))
    go(path, out)
    before = data(out)
    path.write_text(path.read_text() + "forbid: [{topic: pin, tone: angry}]\n")
    with pytest.raises(RunDiffers, match="forbidden now: topic pin with tone angry: 10 rows"):
        go(path, out)
    assert go(path, out, replace=True).exit_code == 0
    after = data(out)
    assert after.height == 100
    assert after.filter((pl.col("topic") == "pin") & (pl.col("tone") == "angry")).is_empty()
    kept = before.filter(~((pl.col("topic") == "pin") & (pl.col("tone") == "angry")))
    assert after.filter(pl.col("_id").is_in(kept["_id"].implode())).equals(kept)


def test_a_leaf_and_a_larger_target_at_once_then_a_smaller_one(recipe, tmp_path, server):
    out = tmp_path / "out"
    go(recipe(), out)
    before = data(out)
    assert go(recipe([*LEAVES, "new"], rows=240), out).exit_code == 0
    after = data(out)
    assert after.height == 240
    assert dict(after["topic"].value_counts().iter_rows()) == dict.fromkeys([*LEAVES, "new"], 40)
    assert after.filter(pl.col("_id").is_in(before["_id"].implode())).equals(before)
    asked = server.asked
    assert go(recipe([*LEAVES, "new"], rows=50), out).exit_code == 0
    assert data(out).height == 50
    assert go(recipe([*LEAVES, "new"], rows=240), out).exit_code == 0
    assert data(out).equals(after)
    assert server.asked == asked


def test_only_selected_regions_are_made_and_the_rest_stays_owed(recipe, tmp_path, server):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    path = recipe({"cards": ["lost", "pin"], "transfers": ["pending"]}, rows=90)
    go(path, whole)
    asked = server.asked
    outcome = go(path, parts, selection=Selection(("topic:cards/**",), ("topic:pin",)))
    assert outcome.exit_code == 4
    assert server.asked - asked == 30
    assert data(parts)["topic"].unique().to_list() == ["cards/lost"]
    assert any("60 rows are owed outside what was selected" in remark for remark in outcome.remarks)
    assert outcome.results["rows"]["owed"] == 60
    assert go(path, parts, selection=Selection((), ("topic:lost",))).exit_code == 0
    assert sorted(data(parts)["_id"]) == sorted(data(whole)["_id"])
    assert server.asked - asked == 90
    for wrong, said in [("cards", "expected AXIS:PATTERN"), ("tpic:x", "did you mean"), ("topic:crads", "matches no")]:
        with pytest.raises(UsageError, match=said):
            go(path, parts, selection=Selection((wrong,)))


def failing(leaf, until):
    """Answers of which none about `leaf` is long enough before the `until`-th that was asked for."""
    seen = []

    def answer(body):
        prompt = body["messages"][-1]["content"]
        words = random.Random(json.dumps(body, sort_keys=True)).choices("abcdefghijklmnopqrstuvwxyz", k=12)
        if leaf in prompt:
            seen.append(1)
            if len(seen) < until:
                words = ["no"]
        return json.dumps({"message": " ".join(words)})

    return answer


FILTER = "filters: [{length: {field: message, min_words: 3}}]"


def test_leaves_that_never_land_are_named_and_cost_no_more_than_the_bound(recipe, tmp_path, server):
    server.answer = failing("a", 10**9)
    path = recipe(["pay a", "pin a", "fee a", "ok", "hot"], rows=100, candidates=10, more=FILTER)
    outcome = go(path, tmp_path / "out")
    assert outcome.exit_code == 4
    assert data(tmp_path / "out").height == 40
    said = "\n".join(outcome.remarks)
    for leaf in ("pay a", "pin a", "fee a"):
        assert f"{leaf}: 20 rows short, given up after 56 candidates, none kept: 56 rejected by length" in said
    assert server.asked == 40 + 3 * (20 + 9 * 4), "20 at first, then 4 probes in each of 9 rounds"


def test_a_leaf_that_lands_late_is_refilled_to_the_target(recipe, tmp_path, server):
    server.answer = failing("pin", 30)
    outcome = go(recipe(rows=100, candidates=5, more=FILTER), tmp_path / "out")
    assert outcome.exit_code == 0
    assert dict(data(tmp_path / "out")["topic"].value_counts().iter_rows()) == dict.fromkeys(LEAVES, 20)


def test_candidates_in_all_are_bounded(recipe, tmp_path, server):
    server.answer = failing("pin", 10**9)
    path = recipe(rows=100, candidates=5, more=FILTER)
    outcome = go(path, tmp_path / "out", "target.attempts=103")
    assert outcome.exit_code == 4
    assert server.asked == 103
    assert any("within 5 candidates each and 103 in all" in remark for remark in outcome.remarks)


def test_evolve_rewrites_the_nearest_accepted_row_in_refills_only(recipe, tmp_path, server):
    prompts = []

    def answer(body):
        prompt = body["messages"][-1]["content"]
        words = random.Random(json.dumps(body, sort_keys=True)).choices("abcdefghijklmnopqrstuvwxyz", k=12)
        if "The accepted example" in prompt:
            prompts.append(prompt)
        elif "cards/pin" in prompt:
            words = ["no"]
        return json.dumps({"message": " ".join(words)})

    server.answer = answer
    tree = {"cards": ["lost", "pin"], "transfers": ["pending"]}
    path = recipe(tree, rows=60, candidates=3, more=FILTER)
    path.write_text(path.read_text().replace("generate:\n", "generate:\n  - evolve\n"))
    outcome = go(path, tmp_path / "out")
    assert outcome.exit_code == 0
    frame = data(tmp_path / "out")
    assert dict(frame["topic"].value_counts().iter_rows()) == {
        "cards/lost": 20,
        "cards/pin": 20,
        "transfers/pending": 20,
    }
    evolved = frame.filter(pl.col("_generation") > 1)
    assert evolved["topic"].unique().to_list() == ["cards/pin"]
    assert evolved.height == 20
    sources = {json.loads(notes)["evolve"]["from"] for notes in evolved["_notes"]}
    assert set(frame.filter(pl.col("_id").is_in(list(sources)))["topic"]) == {"cards/lost", "cards/pin"}
    assert len(sources) > 5, "cells of one region do not all start from one text"
    assert all("topic: cards/pin" in prompt for prompt in prompts)


def test_a_selection_that_leaves_nothing_is_refused_and_writes_nothing(recipe, tmp_path):
    path = recipe({"cards": ["lost", "pin"], "transfers": ["pending"]})
    with pytest.raises(UsageError, match=r"--select topic:cards --exclude topic:cards/\*\*: no planned row is left"):
        go(path, tmp_path / "out", selection=Selection(("topic:cards",), ("topic:cards/**",)))
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_the_report_of_a_short_run_says_what_is_owed(recipe, tmp_path):
    for settings in ({"selection": Selection(("topic:pin",))}, {}):
        overrides = () if settings else ("target.attempts=60",)
        outcome = go(recipe(), tmp_path / f"out{len(settings)}", *overrides, **settings)
        assert outcome.exit_code == 4
        whole = outcome.report.ledger[0]
        assert whole.planned == 100
        assert whole.owed == 100 - whole.accepted > 0
        assert any(f"{whole.owed} of 100 rows are owed" in remark for remark in outcome.report.remarks)


def test_what_was_planned_and_overtaken_is_not_made(recipe, tmp_path, server):
    out = tmp_path / "out"
    assert go(recipe(), out, "target.calls=44", "models.writer.max_in_flight=1").exit_code == 4
    assert server.asked == 44
    lowered = go(recipe(rows=40), out)
    assert (lowered.exit_code, data(out).height) == (0, 40)
    assert server.asked <= 50, "replies that were paid may be used; rows beyond the target are not asked for"


def test_a_leaf_may_go_while_its_rows_are_still_owed(recipe, tmp_path, server):
    out = tmp_path / "out"
    go(recipe(), out, "target.calls=30")
    outcome = go(recipe([leaf for leaf in LEAVES if leaf != "pin"]), out, replace=True)
    assert outcome.exit_code == 0
    assert dict(data(out)["topic"].value_counts().iter_rows()) == dict.fromkeys(
        ["lost", "declined", "fees", "limits"], 25
    )


def test_selecting_after_an_interruption_asks_for_the_selected_rows_once(recipe, tmp_path, server):
    out = tmp_path / "out"
    go(recipe(), out, "target.calls=30")
    asked, had = server.asked, data(out).filter(pl.col("topic") == "pin").height
    for _ in range(2):
        outcome = go(recipe(), out, selection=Selection(("topic:pin",)))
        assert outcome.exit_code == 4
        assert data(out).filter(pl.col("topic") == "pin").height == 20
        assert server.asked - asked <= 20 - had
    assert go(recipe(), out).exit_code == 0
    assert data(out).height == 100
    assert server.asked <= 101


def test_rows_that_come_back_are_compared_with_what_was_made_meanwhile(recipe, tmp_path, server):
    seen = []

    def answer(body):
        seen.append(1)
        word = "card" if "pin" in body["messages"][-1]["content"] else "other"
        return json.dumps({"message": f"about the {word} number {len(seen)}"})

    server.answer = answer
    out, more = tmp_path / "out", "filters: [{duplicates: {field: message, similarity: 1}}]"
    go(recipe(["lost", "pin"], rows=20, more=more), out)
    seen.clear()
    go(recipe(["lost", "pin code"], rows=20, more=more), out, replace=True)
    go(recipe(["lost", "pin", "pin code"], rows=20, more=more), out)
    assert data(out)["message"].is_unique().all()


def test_an_edited_definition_forgives_what_failed_before(recipe, tmp_path, server):
    server.answer = failing("pin old", 10**9)
    out = tmp_path / "out"
    path = recipe(rows=60, more=FILTER)
    told = path.read_text().replace("{{ topic.path }}", "{{ topic.path }} {{ topic.text }}")
    tree = "id,label,text\npin,pin,old\nlost,lost,x\nfee,fee,x\n"
    (tmp_path / "topics.csv").write_text(tree)
    path.write_text(told.replace(f"tree: {json.dumps(LEAVES)}", "file: topics.csv"))
    assert go(path, out).exit_code == 4
    (tmp_path / "topics.csv").write_text(tree.replace("old", "new"))
    assert go(path, out, replace=True).exit_code == 0
    assert dict(data(out)["topic"].value_counts().iter_rows()) == {"pin": 20, "lost": 20, "fee": 20}


def test_an_edited_copy_of_the_recipes_tree_is_put_back_and_said(recipe, tmp_path):
    out = tmp_path / "out"
    go(recipe(), out)
    copy = out / "axes" / "topic.json"
    told = copy.read_text()
    copy.write_text(told.replace("lost", "found"))
    outcome = go(recipe(), out)
    assert outcome.exit_code == 0
    assert any("was edited and is put back" in remark for remark in outcome.remarks)
    assert copy.read_text() == told


def test_the_report_of_an_interrupted_run_keeps_to_what_was_overridden(recipe, tmp_path):
    out = tmp_path / "out"
    path = recipe(rows=20)
    go(path, out, "target.rows=60", "target.calls=30")
    with Store(out) as store:
        store.commit({}, drop=("measures.json",))
    found = review(out, text=(), axes=(), embedder=None)
    whole = found.ledger[0]
    assert (whole.planned, whole.owed) == (60, 60 - whole.accepted)
    assert any(f"{whole.owed} of 60 rows are owed" in remark for remark in found.remarks)
