"""The whole line over a real server, real Parquet, real kills."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from qdcgen.errors import RunDiffers, RunLocked
from qdcgen.recipe import load
from qdcgen.run import run
from qdcgen.store import Store
from qdcgen.testing import Server

from .conftest import RECIPE, ROOT  # noqa: TID252  (fixtures' own recipe)


def rows(folder):
    return pl.read_parquet(Path(folder) / "data" / "*.parquet")


def journaled(folder):
    with sqlite3.connect(folder / "calls.sqlite") as connection:
        return connection.execute("SELECT COUNT(*) FROM calls").fetchone()[0]


def go(path, folder, *overrides, **options):
    return run(load(path, overrides=overrides), folder, quiet=True, **options)


def test_a_run_ends_with_exactly_the_rows_asked_for_and_four_tables(small, tmp_path):
    outcome = go(small, tmp_path / "out")
    assert outcome.exit_code == 0
    frame = rows(tmp_path / "out")
    assert frame.height == 40
    assert frame["_id"].n_unique() == 40
    assert frame.columns[:6] == ["message", "urgency", "channel", "words", "topic", "tone"]
    assert frame["_slot"].to_list() == list(range(40))
    assert set(frame["topic"]) == {"cards/lost", "cards/declined", "transfers/pending", "transfers/wrong account"}
    assert {measure.table for measure in outcome.report.measures} == {"coverage", "diversity", "complexity", "quality"}
    assert outcome.results["rows"]["accepted"] == 40
    assert outcome.results["usd"] == pytest.approx(
        (outcome.results["tokens"]["in"] * 1 + outcome.results["tokens"]["out"] * 2) / 1e6
    )
    assert not Store(tmp_path / "out").peek().verify()


def test_finished_work_is_a_no_op_that_says_so(small, tmp_path, server):
    go(small, tmp_path / "out")
    asked = server.asked
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.parquet")}
    outcome = go(small, tmp_path / "out")
    assert server.asked == asked
    assert outcome.exit_code == 0
    assert any("nothing to do, 40 of 40 rows" in remark for remark in outcome.remarks)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.parquet")} == files


def test_the_same_recipe_and_replies_give_the_same_bytes(small, tmp_path):
    for name in ("one", "two"):
        go(small, tmp_path / name)
    one, two = (Store(tmp_path / name).peek().files for name in ("one", "two"))
    tables = {name for name in one if name.endswith(".parquet")}
    assert tables
    assert {name: one[name] for name in tables} == {name: two[name] for name in tables}


def test_a_larger_target_extends_a_smaller_one(small, tmp_path, server):
    go(small, tmp_path / "out")
    before, asked = rows(tmp_path / "out"), server.asked
    outcome = go(small, tmp_path / "out", "target.rows=60")
    after = rows(tmp_path / "out")
    assert outcome.exit_code == 0
    assert after.height == 60
    assert after.head(40).drop("_round").equals(before.drop("_round"))
    assert server.asked - asked == 20
    assert after["_id"].n_unique() == 60


def test_a_smaller_target_keeps_what_it_asks_for_and_loses_nothing(small, tmp_path, server):
    go(small, tmp_path / "out")
    asked = server.asked
    assert go(small, tmp_path / "out", "target.rows=10").exit_code == 0
    assert rows(tmp_path / "out").height == 10
    assert pl.read_parquet(tmp_path / "out" / "rejected" / "*.parquet")["_reason"].unique().to_list() == [
        "beyond the target of 10 rows"
    ]
    assert go(small, tmp_path / "out").exit_code == 0
    assert rows(tmp_path / "out").height == 40
    assert server.asked == asked


def test_changing_only_a_filter_judges_again_and_asks_nothing(small, tmp_path, server):
    go(small, tmp_path / "out")
    asked = server.asked
    loose = go(small, tmp_path / "out", "filters.1.length.min_words=1")
    assert (loose.exit_code, server.asked) == (0, asked)
    tight = go(small, tmp_path / "out", "filters.1.length.min_words=10")
    assert tight.exit_code == 4
    assert server.asked == asked
    assert any("no row was made" in remark for remark in tight.remarks)
    kept = rows(tmp_path / "out")
    assert 0 < kept.height < 40
    assert all(len(text.split()) >= 10 for text in kept["message"])
    again = go(small, tmp_path / "out", "filters.1.length.min_words=10", "target.candidates=30")
    assert again.exit_code == 0
    assert rows(tmp_path / "out").height == 40
    assert server.asked > asked


def test_refills_stop_at_the_bound_and_the_shortfall_is_named(small, tmp_path, server):
    def never_about_lost_cards(body):
        prompt = body["messages"][-1]["content"]
        return '{"message": "no", "urgency": "low"}' if "cards/lost" in prompt else None or ask(body)

    def ask(body):
        words = random.Random(json.dumps(body, sort_keys=True))
        return json.dumps({"message": " ".join(words.choices("abcdefghijklmnop", k=12)), "urgency": "low"})

    server.answer = never_about_lost_cards
    outcome = go(small, tmp_path / "out")
    assert outcome.exit_code == 4
    assert any(remark.strip().startswith("cards/lost + ") and "rows short" in remark for remark in outcome.remarks)
    assert rows(tmp_path / "out").height == 30
    assert server.asked == 30 + 10 + 4 + 4, "a leaf of which nothing is kept is probed with 4 rows a round"
    whole = outcome.report.ledger[0]
    assert whole.attempted == whole.accepted + whole.failed + whole.refused + whole.duplicate + sum(
        whole.rejected.values()
    )
    assert (whole.planned, whole.owed) == (40, 10)
    asked = server.asked
    assert go(small, tmp_path / "out").exit_code == 4
    assert server.asked == asked


def test_a_bad_reply_costs_its_row_never_its_batch(small, tmp_path, server):
    seen = []

    def answer(body):
        seen.append(1)
        return "I would rather not." if len(seen) % 5 == 0 else default(body)

    plain = Server()

    def default(body):
        text = plain.reply(json.dumps(body).encode())[1]
        return json.loads(text)["choices"][0]["message"]["content"]

    server.answer = answer
    outcome = go(small, tmp_path / "out", "target.candidates=20")
    assert outcome.exit_code == 0
    assert rows(tmp_path / "out").height == 40


def test_a_refused_key_stops_the_run_with_everything_saved(small, tmp_path, server):
    count = []

    def answer(body):
        count.append(1)
        return (
            401
            if len(count) > 20
            else json.dumps({"message": f"a message number {len(count)} of its own", "urgency": "low"})
        )

    server.answer = answer
    outcome = go(small, tmp_path / "out", "models.writer.max_in_flight=4")
    assert outcome.exit_code == 5
    assert json.loads((tmp_path / "out" / "run_results.json").read_text())["exit_code"] == 5
    assert journaled(tmp_path / "out") == 20
    server.answer = None
    asked = server.asked
    assert go(small, tmp_path / "out", "models.writer.max_in_flight=4").exit_code == 0
    assert server.asked - asked <= 21


def test_an_outage_is_exit_4_and_resumable(small, tmp_path, monkeypatch):
    import qdcgen.model.lane as transport

    monkeypatch.setattr(transport, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(transport, "LONGEST_WAIT", 0.002)
    recipe_text = small.read_text()
    with Server(answer=lambda _body: 503) as down:
        small.write_text(RECIPE.format(url=down.url))
        outcome = go(small, tmp_path / "out")
    assert outcome.exit_code == 4
    assert any("run again to go on" in remark for remark in outcome.remarks)
    small.write_text(recipe_text)
    assert go(small, tmp_path / "out").exit_code == 0


def test_another_recipe_is_refused_with_each_key_that_differs(small, tmp_path, server):
    go(small, tmp_path / "out")
    with pytest.raises(RunDiffers) as refusal:
        go(small, tmp_path / "out", "seed=4", "models.writer.temperature=0.1", "layers.words.range.max=30")
    said = str(refusal.value)
    assert "seed: 3 there, 4 in" in said
    assert "models.writer.temperature: 0.8 there, 0.1 in" in said
    assert "layers.words.range.max: 20 there, 30 in" in said
    assert "--replace" in said
    assert "generate" not in said
    asked = server.asked
    assert go(small, tmp_path / "out", "seed=4", replace=True).exit_code == 0
    assert server.asked > asked
    back = server.asked
    assert go(small, tmp_path / "out", replace=True).exit_code == 0
    assert server.asked == back


def test_one_writer_to_a_folder(small, tmp_path):
    with Store(tmp_path / "out"), pytest.raises(RunLocked, match=r"process \d+ on .* is writing to it"):
        go(small, tmp_path / "out")
    assert go(small, tmp_path / "out").exit_code == 0


def test_a_damaged_file_is_refused_by_name_and_repaired_from_the_journal(small, tmp_path, server, qdcgen):
    go(small, tmp_path / "out")
    before, asked = rows(tmp_path / "out"), server.asked
    broken = sorted((tmp_path / "out" / "raw").iterdir())[1]
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    said = qdcgen("verify", "out")
    assert (said.returncode, said.stdout.splitlines()[0].split(" (")[0]) == (1, f"raw/{broken.name}: changed")
    refused = qdcgen("run", "small.yaml", "--out", "out")
    assert refused.returncode == 1
    assert f"out/raw/{broken.name}: was changed after it was written" in refused.stderr
    assert "qdcgen verify --repair out" in refused.stderr
    assert qdcgen("verify", "--repair", "out").returncode == 0
    assert qdcgen("run", "small.yaml", "--out", "out").returncode == 0
    assert server.asked == asked
    assert rows(tmp_path / "out").equals(before)
    assert qdcgen("verify", "out").returncode == 0


def started(small, folder):
    return subprocess.Popen(
        [sys.executable, "-c", "from qdcgen.cli import main; main()", "run", str(small), "--out", str(folder)],
        cwd=small.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_killed_at_random_moments_the_rows_are_those_of_an_uninterrupted_run(small, tmp_path, server):
    go(small, tmp_path / "whole", "target.rows=120")
    plain = dict(server.seen)
    server.seen.clear()
    server.latency = 0.05
    chance = random.Random(11)
    for _ in range(6):
        process = started_with(small, tmp_path / "killed", "target.rows=120", "models.writer.max_in_flight=4")
        goal = server.asked + chance.randint(1, 30)
        until(lambda: server.asked >= goal or process.poll() is not None)  # noqa: B023
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    server.latency = 0
    outcome = go(small, tmp_path / "killed", "target.rows=120", "models.writer.max_in_flight=4")
    assert outcome.exit_code == 0
    assert rows(tmp_path / "killed").equals(rows(tmp_path / "whole"))
    assert set(server.seen) == set(plain)
    assert sum(count - 1 for count in server.seen.values()) <= 6 * 4, "more repeats than calls in flight"
    assert not Store(tmp_path / "killed").peek().verify()


def started_with(small, folder, *overrides):
    sets = [word for override in overrides for word in ("--set", override)]
    return subprocess.Popen(
        [sys.executable, "-c", "from qdcgen.cli import main; main()", "run", str(small), "--out", str(folder), *sets],
        cwd=small.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_done_and_says_so(small, tmp_path, server, number, code):
    server.latency = 0.2
    process = started(small, tmp_path / "out")
    until(lambda: server.asked >= 10)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert b"interrupted; everything finished is saved, run again to go on" in said
    assert said.count(b"verything finished is saved") == 1
    assert json.loads((tmp_path / "out" / "run_results.json").read_text())["exit_code"] == code
    asked = server.asked
    assert journaled(tmp_path / "out") == asked, "a reply in flight at the signal was lost"
    server.latency = 0
    assert go(small, tmp_path / "out").exit_code == 0
    assert set(server.seen.values()) == {1}


def test_rows_that_repeat_earlier_ones_are_counted_as_duplicates(small, tmp_path, server):
    server.answer = lambda _body: json.dumps({"message": "always the same few words", "urgency": "low"})
    outcome = go(small, tmp_path / "out", "target.candidates=2")
    assert outcome.exit_code == 4
    whole = outcome.report.ledger[0]
    assert (whole.accepted, whole.duplicate) == (1, whole.attempted - 1)
    assert whole.attempted <= 1 + 39 * 2
    reasons = pl.read_parquet(tmp_path / "out" / "rejected" / "*.parquet")["_reason"]
    first = rows(tmp_path / "out")["_id"][0]
    assert all(first in reason for reason in reasons)


def test_forbidden_combinations_are_never_drawn(small, tmp_path):
    text = small.read_text().replace(
        "layers:", "forbid:\n  - {topic: cards/*, channel: chat}\n  - {tone: angry, topic: lost}\nlayers:"
    )
    small.write_text(text)
    assert go(small, tmp_path / "out").exit_code == 0
    frame = rows(tmp_path / "out")
    assert frame.filter(pl.col("topic").str.starts_with("cards/") & (pl.col("channel") == "chat")).is_empty()
    assert frame.filter((pl.col("topic") == "cards/lost") & (pl.col("tone") == "angry")).is_empty()
    assert frame.filter(pl.col("channel") == "chat").height > 0


def test_a_broken_gate_is_exit_3_with_its_line(small, tmp_path, qdcgen):
    small.write_text(small.read_text() + 'gates:\n  coverage: {leaves: ">= 1"}\n  complexity: {words: "<= 2"}\n')
    said = qdcgen("run", "small.yaml", "--out", "out")
    assert said.returncode == 3
    assert "small.yaml:24: gate broken: complexity.words is " in said.stderr
    assert "coverage.leaves" not in said.stderr
    assert "FAIL" in said.stdout


def test_the_key_goes_only_where_it_belongs_and_into_no_file(small, tmp_path, server, monkeypatch):
    secret = "sk-not-a-real-key-0123456789"
    monkeypatch.setenv("MY_KEY", secret)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another-0123456789")
    go(small, tmp_path / "without")
    assert all("authorization" not in headers for headers in server.headers)
    go(small, tmp_path / "with", "models.writer.key=MY_KEY")
    assert server.headers[-1]["authorization"] == f"Bearer {secret}"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes()


@pytest.mark.parametrize("filters", ["", "filters: [schema]\n"])
def test_a_repaired_batch_is_judged_again_with_every_later_one(small, tmp_path, server, qdcgen, filters):
    text = small.read_text()
    start, end = text.index("filters:"), text.index("target:")
    small.write_text(text[:start] + filters + text[end:])
    go(small, tmp_path / "out")
    before, asked = rows(tmp_path / "out"), server.asked
    sorted((tmp_path / "out" / "raw").iterdir())[1].unlink()
    assert qdcgen("verify", "out").returncode == 1
    assert qdcgen("verify", "--repair", "out").returncode == 0
    assert qdcgen("run", "small.yaml", "--out", "out").returncode == 0
    assert rows(tmp_path / "out").equals(before)
    assert server.asked == asked
    assert qdcgen("verify", "out").returncode == 0


def test_a_damaged_plan_or_journal_is_not_called_repaired(small, tmp_path, qdcgen):
    go(small, tmp_path / "out")
    (tmp_path / "out" / "plan" / "000.parquet").write_bytes(b"no parquet")
    said = qdcgen("verify", "--repair", "out")
    assert said.returncode == 1
    assert "plan/000.parquet says what was asked for and cannot be remade" in said.stdout
    go(small, tmp_path / "two")
    (tmp_path / "two" / "calls.sqlite").write_bytes(b"no database, but long enough to be looked at" * 100)
    said = qdcgen("verify", "--repair", "two")
    assert said.returncode == 1
    assert "move calls.sqlite away to ask everything again" in said.stdout


def test_a_manifest_that_lists_a_file_outside_the_folder_is_refused_and_touches_nothing(small, tmp_path, qdcgen):
    go(small, tmp_path / "out")
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    manifest["files"]["../victim.txt"] = {"rows": None, "sha256": "0" * 64, "by": ""}
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    said = qdcgen("verify", "--repair", "out")
    assert said.returncode == 1
    assert "lists '../victim.txt', which is no file of a run" in said.stderr
    assert victim.read_text() == "mine"


def test_numbers_of_every_kind_survive_the_whole_line(small, tmp_path, server):
    text = small.read_text()
    start, end = text.index("      fields:"), text.index("      prompt:")
    fields = "      fields: {message: string, n: integer, mixed: {enum: [0, 0.5, 1]}, kind: {enum: [1, a]}}\n"
    small.write_text(text[:start] + fields + text[end:])
    number = iter(range(10_000))
    server.answer = lambda body: json.dumps(
        {"message": f"{body['messages'][-1]['content']} {next(number)}", "n": 3.0, "mixed": 0.5, "kind": "a"}
    )
    outcome = go(small, tmp_path / "out", "filters.2.duplicates.similarity=1")
    assert outcome.exit_code == 0
    frame = rows(tmp_path / "out")
    assert frame["n"].to_list() == [3] * 40
    assert frame["mixed"].to_list() == [0.5] * 40
    assert set(frame["kind"]) == {'"a"'}


def test_the_order_of_aliases_is_part_of_what_rows_are_made_from(small, tmp_path):
    text = small.read_text()
    other = '  other: {model: openai/other, api_base: "http://127.0.0.1:9"}\n'
    go(small, tmp_path / "out")
    small.write_text(text.replace("models:\n", f"models:\n{other}"))
    with pytest.raises(RunDiffers, match=r'models.0: "writer" there, "other" in'):
        go(small, tmp_path / "out")


def test_after_a_signal_nothing_more_is_asked_and_the_run_ends_with_the_calls_in_flight(small, tmp_path, server):
    server.latency = 0.7
    process = started_with(small, tmp_path / "out", "target.rows=300", "models.writer.max_in_flight=4")
    until(lambda: server.asked >= 6)
    process.send_signal(signal.SIGINT)
    heard = time.monotonic()
    time.sleep(0.1)
    asked = server.asked
    assert process.wait(timeout=20) == 130
    assert time.monotonic() - heard < 8
    assert server.asked == asked
    assert journaled(tmp_path / "out") == asked


def test_damaged_labels_are_not_thrown_away_by_a_repair(small, tmp_path, qdcgen):
    go(small, tmp_path / "out")
    some = rows(tmp_path / "out")["_id"][:3]
    (tmp_path / "said.csv").write_text("_id,label\n" + "".join(f"{row},good\n" for row in some))
    assert qdcgen("label", "out", "--from", "said.csv").returncode == 0
    file = tmp_path / "out" / "labels.json"
    file.write_bytes(file.read_bytes() + b" ")
    said = qdcgen("verify", "--repair", "out")
    assert said.returncode == 1
    assert "labels.json holds what people said" in said.stdout + said.stderr
    assert file.exists()
    file.unlink()
    assert qdcgen("verify", "--repair", "out").returncode == 0
