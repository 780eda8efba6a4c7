"""The model loop under fire: faults, keys, caps, roads and traces, over real HTTP on loopback."""

import json
import sqlite3
from pathlib import Path

import polars as pl
import pytest

from qdcgen.model import lane as lanes
from qdcgen.recipe import load
from qdcgen.run import run
from qdcgen.testing import Server

from .conftest import RECIPE  # noqa: TID252  (fixtures' own recipe)


def rows(folder):
    return pl.read_parquet(Path(folder) / "data" / "*.parquet")


def go(path, folder, *overrides, **options):
    return run(load(path, overrides=overrides), folder, quiet=True, **options)


@pytest.fixture
def quick(monkeypatch):
    """Waits between tries in milliseconds."""
    monkeypatch.setattr(lanes, "FIRST_WAIT", 0.005)
    monkeypatch.setattr(lanes, "LONGEST_WAIT", 0.02)


def faults_of(outcome):
    return dict(outcome.report.calls.faults)


def test_a_thousand_rows_under_every_common_fault_lose_none_and_count_each(small, tmp_path, server, quick):
    server.faults = {"429": 0.05, "500": 0.02, "malformed": 0.02, "reset": 0.01, "silent": 0.01}
    server.latency = 0.002
    outcome = go(small, tmp_path / "out", "target.rows=1000", "models.writer.timeout=1.5")
    assert outcome.exit_code == 0
    frame = rows(tmp_path / "out")
    assert frame.height == 1000
    assert frame["_slot"].to_list() == list(range(1000))
    ours = faults_of(outcome)
    theirs = server.faulted
    assert ours["429"] == theirs["429"]
    assert ours["500"] == theirs["500"]
    assert ours["not JSON"] == theirs["malformed"]
    assert ours["timeout"] == theirs["silent"]
    assert ours["reset"] == theirs["reset"]
    whole = outcome.report.ledger[0]
    ends = whole.accepted + whole.failed + whole.refused + whole.duplicate + sum(whole.rejected.values())
    assert whole.attempted == ends


@pytest.mark.parametrize("form", ["429 seconds", "429 date", "429 nonsense", "429"])
def test_every_form_of_retry_after_is_obeyed_or_ignored_and_nothing_is_dropped(small, tmp_path, server, quick, form):
    server.script = [form] * 6
    server.retry_after = 1.0
    outcome = go(small, tmp_path / "out", "target.rows=10")
    assert outcome.exit_code == 0
    assert faults_of(outcome) == {"429": 6}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("503", "503"),
        ("502 html", "502"),
        ("408", "408"),
        ("reset", "reset"),
        ("close", "reset"),
        ("cut", "reset"),
        ("not json", "no completion"),
        ("html", "no completion"),
        ("bomb", "no completion"),
        ("no choices", "no completion"),
        ("redirect", "307"),
        ("redirect metadata", "307"),
        ("stall", "timeout"),
        ("stall body", "timeout"),
        ("silent", "timeout"),
        ("malformed", "not JSON"),
        ("misfit", "schema"),
        ("surrogate", "no completion"),
    ],
)
def test_a_fault_that_passes_is_tried_again_and_named(small, tmp_path, server, quick, fault, kind):
    server.script = [fault]
    outcome = go(small, tmp_path / "out", "target.rows=8", "models.writer.timeout=1", "target.candidates=1")
    assert outcome.exit_code == 0
    assert faults_of(outcome) == {kind: 1}
    assert server.strayed == 0
    assert rows(tmp_path / "out").height == 8


@pytest.mark.parametrize(
    ("fault", "state", "kind"),
    [
        ("refusal", "refused", "refused"),
        ("filtered", "refused", "refused"),
        ("empty", "failed", "empty"),
        ("null", "failed", "empty"),
        ("422", "failed", "refused by server"),
        ("400 context", "failed", "refused by server"),
        ("truncated", "failed", "cut"),
        ("huge", "failed", "too long"),
    ],
)
def test_a_fault_of_one_request_costs_its_row_and_no_other(small, tmp_path, server, quick, fault, state, kind):
    server.script = [fault]
    outcome = go(small, tmp_path / "out", "target.rows=8", "target.candidates=1")
    assert outcome.exit_code == 4
    assert outcome.results["rows"][state] == 1
    assert outcome.results["rows"]["accepted"] == 7
    reason = pl.read_parquet(tmp_path / "out" / "rejected" / "*.parquet")["_reason"][0]
    assert reason.startswith(f"{kind}: ")


@pytest.mark.parametrize("fault", ["wrong model", "no usage", "negative usage", "fenced", "slow"])
def test_a_harmless_oddity_costs_nothing(small, tmp_path, server, quick, fault):
    server.slow = 0.1
    server.script = [fault]
    outcome = go(small, tmp_path / "out", "target.rows=8", "target.candidates=1")
    assert outcome.exit_code == 0
    assert faults_of(outcome) == {}
    if "usage" in fault:
        assert outcome.results["usd"] is None, "unknown is not 0"


@pytest.mark.parametrize("status", ["401", "402", "403", "404"])
def test_key_quota_and_permission_stop_the_run_with_exit_5(small, tmp_path, server, quick, status):
    server.script = [None] * 10 + [status] * 100
    outcome = go(small, tmp_path / "out", "models.writer.max_in_flight=1")
    assert outcome.exit_code == 5
    assert server.asked == 11
    with sqlite3.connect(tmp_path / "out" / "calls.sqlite") as connection:
        assert connection.execute("SELECT COUNT(*) FROM calls").fetchone()[0] == 10


def test_a_server_without_json_schema_is_told_in_words_once_found_out(small, tmp_path, server, quick):
    server.json_schema = False
    outcome = go(small, tmp_path / "out", "target.rows=10", "target.candidates=1")
    with_words = server.asked - server.statuses[400]
    assert outcome.results["rows"]["attempted"] == 10
    assert server.statuses[400] <= 10
    assert with_words >= 10


def test_a_budget_is_never_exceeded_and_the_run_goes_on_when_it_is_raised(small, tmp_path, server):
    capped = go(
        small, tmp_path / "out", "target.usd=0.01", "models.writer.price.output=50", "models.writer.max_tokens=40"
    )
    assert capped.exit_code == 4
    assert any("target.usd reached" in remark for remark in capped.remarks)
    spent = capped.results["tokens"]["in"] * 1e-6 + capped.results["tokens"]["out"] * 50e-6
    assert 0 < spent <= 0.01
    more = ["models.writer.price.output=50", "models.writer.max_tokens=40"]
    again = go(small, tmp_path / "out", "target.usd=0.01", *more)
    assert again.exit_code == 4
    assert go(small, tmp_path / "out", "target.usd=1", *more).exit_code == 0
    assert set(server.seen.values()) == {1}


def test_a_cap_in_dollars_without_a_price_is_refused_before_anything_is_asked(small, tmp_path, server):
    small.write_text(small.read_text().replace(", price: {input: 1, output: 2}", ""))
    outcome = go(small, tmp_path / "out", "target.usd=1")
    assert outcome.exit_code == 2
    assert "target.usd needs a price" in outcome.remarks[0]
    assert server.asked == 0


@pytest.mark.parametrize("cap", ["calls=7", "tokens=900"])
def test_caps_on_calls_and_tokens_hold(small, tmp_path, server, cap):
    outcome = go(
        small, tmp_path / "out", f"target.{cap}", "models.writer.max_tokens=40", "models.writer.max_in_flight=2"
    )
    assert outcome.exit_code == 4
    used = server.asked if cap.startswith("calls") else sum(outcome.results["tokens"].values())
    assert 0 < used <= int(cap.split("=")[1])


def test_the_connection_pool_is_as_large_as_the_calls_in_flight(small, tmp_path, server):
    server.latency = 0.1
    go(small, tmp_path / "out", "target.rows=150", "models.writer.max_in_flight=100")
    assert server.peak == 100
    assert server.connections <= 100


def test_two_aliases_of_one_model_share_its_replies_and_do_not_starve_each_other(small, tmp_path, server):
    text = small.read_text()
    second = text.replace("models:\n  writer:", "models:\n  critic:").split("models:\n")[1].split("\ntaxonomy")[0]
    text = text.replace("\ntaxonomy", f"\n{second}\ntaxonomy", 1).replace(
        "filters:", '  - write: {model: critic, fields: {note: string}, prompt: "Note on {{ message }}"}\nfilters:', 1
    )
    small.write_text(text)
    outcome = go(small, tmp_path / "out")
    assert outcome.exit_code == 0
    assert server.asked == 80
    assert rows(tmp_path / "out")["note"].null_count() == 0


def test_litellm_and_the_direct_road_give_the_same_rows(small, tmp_path):
    texts = {}
    for road in ("direct", "litellm"):
        with Server() as server:
            small.write_text(RECIPE.format(url=server.url))
            server.answer = lambda body: json.dumps(
                {"message": f"on {body['messages'][-1]['content'][2:60]}", "urgency": ["low", "high"][body["seed"] % 2]}
            )
            via = [] if road == "direct" else ["models.writer.via=litellm"]
            outcome = go(small, tmp_path / road, "target.rows=12", *via)
            assert outcome.exit_code == 0, outcome.remarks
        texts[road] = rows(tmp_path / road).drop("_usd", "_models")
    assert texts["direct"].equals(texts["litellm"])


def test_a_trace_has_one_line_a_call_and_no_key(small, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret-0123456789")
    go(small, tmp_path / "out", "models.writer.key=MY_KEY", "target.rows=10", trace=True)
    text = (tmp_path / "out" / "trace.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 10
    assert {"at", "alias", "model", "key", "seconds", "tokens_in", "messages", "text"} <= set(lines[0])
    assert "sk-secret" not in text


def test_log_events_are_one_json_line_each(small, tmp_path, qdcgen):
    said = qdcgen("run", "small.yaml", "--out", "out", "--log-format", "json", "--json")
    assert said.returncode == 0
    events = [json.loads(line) for line in said.stderr.splitlines()]
    assert events[0]["event"] == "progress"
    assert (events[-1]["event"], events[-1]["exit_code"], events[-1]["accepted"]) == ("end", 0, 40)
    assert json.loads(said.stdout)["rows"]["accepted"] == 40


def test_the_journal_command_shows_and_prunes(small, tmp_path, qdcgen):
    go(small, tmp_path / "out")
    said = qdcgen("journal", "out")
    assert said.returncode == 0
    assert "replies   40 in" in said.stdout
    found = json.loads(qdcgen("journal", "out", "--prune", "0", "--json").stdout)
    assert (found["replies"], found["dropped"]) == (0, 40)


def test_finished_rows_count_in_progress_on_resume(small, tmp_path, server):
    go(small, tmp_path / "out", "target.rows=40")
    told = []
    go(small, tmp_path / "out", "target.rows=60", log=told.append)
    progress = [event for event in told if event["event"] == "progress"]
    assert progress[0]["accepted"] == 40
    assert progress[0]["made"] >= 40


def test_the_batch_road_submits_waits_and_collects_without_asking_twice(small, tmp_path, server):
    batch = "models.writer.batch=true"
    first = go(small, tmp_path / "out", batch)
    assert first.exit_code == 4
    assert any("run again to collect" in remark for remark in first.remarks)
    assert len(server.batches) == 1
    waiting = go(small, tmp_path / "out", batch)
    assert waiting.exit_code == 4
    assert len(server.batches) == 1, "the same requests were submitted again"
    server.finish_batches()
    done = go(small, tmp_path / "out", batch)
    assert done.exit_code == 0
    assert rows(tmp_path / "out").height == 40
    assert set(server.lines.values()) == {1}


def test_a_batch_that_fails_in_part_or_expires_is_finished_by_a_later_one(small, tmp_path, server):
    batch = "models.writer.batch=true"
    go(small, tmp_path / "out", batch)
    server.finish_batches(failed=0.2, failure=500)
    second = go(small, tmp_path / "out", batch)
    assert second.exit_code == 4
    server.finish_batches("expired", unfinished=0.5)
    for _ in range(6):
        outcome = go(small, tmp_path / "out", batch)
        if outcome.exit_code == 0:
            break
        server.finish_batches()
    assert outcome.exit_code == 0
    assert rows(tmp_path / "out").height == 40


def test_rows_of_two_steps_take_two_batches(small, tmp_path, server):
    small.write_text(
        small.read_text().replace(
            "filters:", '  - write: {fields: {note: string}, prompt: "Note on {{ message }}"}\nfilters:', 1
        )
    )
    for _ in range(2):
        assert go(small, tmp_path / "out", "models.writer.batch=true").exit_code == 4
        server.finish_batches()
    assert go(small, tmp_path / "out", "models.writer.batch=true").exit_code == 0
    assert len(server.batches) == 2


def test_killed_twenty_times_under_load_no_more_is_repeated_than_was_in_flight(small, tmp_path, server):
    import random
    import signal
    import time

    from .test_run import started_with, until  # noqa: TID252

    whole = go(small, tmp_path / "whole", "target.rows=600")
    assert whole.exit_code == 0
    before = server.asked
    server.seen.clear()
    server.latency = (0.02, 0.08)
    chance = random.Random(5)
    settings = ("target.rows=600", "models.writer.max_in_flight=8")
    for _ in range(20):
        process = started_with(small, tmp_path / "killed", *settings)
        begun = server.asked
        goal = begun + chance.randint(1, 40)
        until(lambda: server.asked >= goal or process.poll() is not None)  # noqa: B023
        time.sleep(chance.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        process.wait()
    server.latency = 0.0
    outcome = go(small, tmp_path / "killed", *settings)
    assert outcome.exit_code == 0
    assert rows(tmp_path / "killed").equals(rows(tmp_path / "whole"))
    assert server.asked - before - 600 <= 20 * 8


def test_an_estimate_has_an_interval_and_its_rows_are_not_asked_again(small, tmp_path, server, qdcgen):
    said = qdcgen("plan", "small.yaml", "--out", "out", "--estimate", "--json")
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert found["calls_expected"] == 40
    low, high = found["usd"]
    assert 0 < low < high
    assert server.asked == 8
    outcome = go(small, tmp_path / "out")
    assert server.asked == 40
    assert low * 0.5 < outcome.results["usd_in_all"] < high * 2


def test_a_server_that_repeats_the_key_in_its_refusal_puts_it_nowhere(small, tmp_path, server, monkeypatch, quick):
    secret = "sk-repeated-by-the-server-0123456789"
    monkeypatch.setenv("MY_KEY", secret)
    for status, code in ((401, 5), (400, 4), (500, 4)):
        server.answer = None
        server.routes = {}
        body = json.dumps({"error": {"message": f"bad key {secret}"}}).encode()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(server), "_status", lambda _self, number, _word, body=body: _answer(number, body))
            server.script = [str(status)] * 1000
            outcome = go(small, tmp_path / str(status), "models.writer.key=MY_KEY", "target.candidates=1")
        assert outcome.exit_code == code
        assert not any(secret in remark for remark in outcome.remarks)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def _answer(status, body):
    from qdcgen.testing import _Answer

    return _Answer(status, body)


def test_refusals_and_empty_replies_count_as_spent(small, tmp_path, server):
    server.script = ["refusal"] * 5 + ["empty"] * 5
    outcome = go(small, tmp_path / "out", "target.rows=20", "target.candidates=1")
    assert outcome.report.calls.replies == 20
    assert outcome.results["tokens"]["in"] > 0


def test_pruning_the_journal_does_not_forget_what_was_spent(small, tmp_path, qdcgen):
    spent = go(small, tmp_path / "out").results["usd_in_all"]
    assert qdcgen("journal", "out", "--prune", "0").returncode == 0
    assert go(small, tmp_path / "out").results["usd_in_all"] == pytest.approx(spent)


def test_a_cap_in_dollars_needs_a_price_on_the_litellm_road_too(small, tmp_path, server):
    small.write_text(small.read_text().replace(", price: {input: 1, output: 2}", ""))
    outcome = go(small, tmp_path / "out", "target.usd=1", "models.writer.via=litellm")
    assert outcome.exit_code == 2
    assert "target.usd needs a price" in outcome.remarks[0]


def test_preview_and_estimate_keep_to_the_caps_and_do_not_wait_in_batches(small, tmp_path, server, qdcgen):
    capped = qdcgen("preview", "small.yaml", "--out", "out", "-n", "5", "--set", "target.calls=2")
    assert capped.returncode == 4
    assert "target.calls reached" in capped.stderr
    assert server.asked <= 2
    batched = qdcgen("plan", "small.yaml", "--out", "out", "--estimate", "--set", "models.writer.batch=true")
    assert batched.returncode == 2
    assert "add --set models.writer.batch=false" in batched.stderr
