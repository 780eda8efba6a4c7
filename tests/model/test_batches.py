"""The Batch road over a real server: nothing is submitted twice, nothing is lost, real kills at every step."""

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from qdcgen.errors import Incomplete, ModelRefused, UsageError
from qdcgen.model import batches as road
from qdcgen.model.batches import Batches
from qdcgen.model.journal import Journal, key
from qdcgen.rows import Request
from qdcgen.testing import Server

ROOT = Path(__file__).parents[2]
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NAME = "openai/test"


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch):
    """A loopback server lists what it has at once, and need not be spared."""
    monkeypatch.setattr(road, "SETTLE", 0.05)
    monkeypatch.setattr(road, "_pause", lambda _attempt: 0.01)


def alias(server, **more):
    price = SimpleNamespace(input=1.0, output=2.0)
    return SimpleNamespace(model=NAME, api_base=server.url, key=None, timeout=10, price=price, **more)


def request(number):
    asked = [{"role": "user", "content": f"question {number}"}]
    return Request(NAME, asked, SCHEMA, 0.8, 0.95, 100, number)


def invocation(folder, settings, count):
    """What one `qdcgen run` does: collect, defer what the journal lacks, submit. Gives words, faults and replies."""

    async def go():
        journal = Journal(folder / "journal.sqlite")
        batches = Batches(settings, journal, name=NAME)
        try:
            pending = await batches.collect()
            faults, replies = {}, {}
            for number in range(count):
                asked = request(number)
                reply, fault = journal.get(key(asked)), batches.fault(key(asked))
                if reply is not None:
                    replies[number] = reply
                elif fault is not None:
                    faults[number] = fault
                else:
                    batches.defer(key(asked), asked)
                    batches.defer(key(asked), asked)
            return SimpleNamespace(pending=pending, sent=await batches.submit(), faults=faults, replies=replies)
        finally:
            await batches.close()
            journal.close()

    return asyncio.run(go())


def rows(folder, query):
    connection = sqlite3.connect(folder / "journal.sqlite")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def plain(server, number):
    """The text that the server answers to a request."""
    body = {
        "model": "test",
        "messages": [{"role": "user", "content": f"question {number}"}],
        "temperature": 0.8,
        "top_p": 0.95,
        "max_tokens": 100,
        "seed": number,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "reply", "strict": True, "schema": {k: SCHEMA[k] for k in sorted(SCHEMA)}},
        },
    }
    said = server.reply(json.dumps(body, separators=(",", ":")).encode())[1]
    return json.loads(said)["choices"][0]["message"]["content"]


# ── the way through ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_round_is_submitted_waited_for_and_collected(server, tmp_path):
    first = invocation(tmp_path, alias(server), 30)
    assert (first.pending, first.sent) == (None, "batch batch_1 submitted, 30 requests")
    server.start_batches(0.4)
    second = invocation(tmp_path, alias(server), 30)
    assert (second.pending, second.sent) == ("batch batch_1 in_progress, 12 of 30 done", None)
    server.finish_batches()
    third = invocation(tmp_path, alias(server), 30)
    assert (third.pending, third.sent, third.faults) == (None, None, {})
    assert {number: reply.text for number, reply in third.replies.items()} == {n: plain(server, n) for n in range(30)}
    assert set(server.lines.values()) == {1}
    assert rows(tmp_path, "SELECT * FROM batches") == rows(tmp_path, "SELECT * FROM batch_lines") == []


def test_a_batched_reply_costs_half(server, tmp_path):
    invocation(tmp_path, alias(server), 1)
    server.finish_batches()
    reply = invocation(tmp_path, alias(server), 1).replies[0]
    assert reply.tokens_in == 2
    assert reply.cost == pytest.approx(0.5 * (reply.tokens_in * 1e-6 + reply.tokens_out * 2e-6))
    unpriced = SimpleNamespace(**{**vars(alias(server)), "price": None})
    invocation(tmp_path, unpriced, 2)
    server.finish_batches()
    assert invocation(tmp_path, unpriced, 2).replies[1].cost is None


def test_nothing_queued_asks_nobody(tmp_path):
    nowhere = SimpleNamespace(model=NAME, api_base="http://127.0.0.1:9/v1", key=None, timeout=1, price=None)
    found = invocation(tmp_path, nowhere, 0)
    assert (found.pending, found.sent) == (None, None)


def test_requests_added_while_a_batch_is_pending_go_into_the_next_one(server, tmp_path):
    invocation(tmp_path, alias(server), 10)
    more = invocation(tmp_path, alias(server), 15)
    assert more.pending == "batch batch_1 validating, 0 of 10 done"
    assert more.sent == "batch batch_2 submitted, 5 requests"
    server.finish_batches()
    assert len(invocation(tmp_path, alias(server), 15).replies) == 15
    assert set(server.lines.values()) == {1}


def test_too_much_for_one_batch_becomes_several(server, tmp_path, monkeypatch):
    monkeypatch.setattr(road, "MAX_REQUESTS", 10)
    assert invocation(tmp_path, alias(server), 25).sent.count("submitted") == 3
    monkeypatch.setattr(road, "MAX_BYTES", 2_000)
    monkeypatch.setattr(road, "MAX_REQUESTS", 50_000)
    invocation(tmp_path, alias(server), 45)
    assert all(file["bytes"] <= 2_000 for file in list(server.uploads.values())[3:])
    server.finish_batches()
    assert len(invocation(tmp_path, alias(server), 45).replies) == 45
    assert set(server.lines.values()) == {1}


def test_replies_longer_than_one_read_and_one_group_arrive_whole(server, tmp_path, monkeypatch):
    monkeypatch.setattr(road, "GROUP", 7)
    server.answer = lambda body: json.dumps({"text": body["messages"][0]["content"] * 20_000})
    invocation(tmp_path, alias(server), 20)
    server.finish_batches()
    replies = invocation(tmp_path, alias(server), 20).replies
    assert all(json.loads(reply.text)["text"] == f"question {n}" * 20_000 for n, reply in replies.items())
    assert len(replies) == 20


def test_a_model_without_an_address_is_told_apart(tmp_path):
    settings = SimpleNamespace(model="anthropic/claude", api_base=None, key=None, timeout=1, price=None)
    journal = Journal(tmp_path / "journal.sqlite")
    with pytest.raises(UsageError, match="found 'anthropic/claude'"):
        Batches(settings, journal, name=settings.model)
    journal.close()


# ── partial failure and expiry ──────────────────────────────────────────────────────────────────────────────────────


def test_a_line_that_the_provider_refuses_becomes_a_fault_and_is_not_sent_again(server, tmp_path):
    invocation(tmp_path, alias(server), 40)
    server.finish_batches(failed=0.3, failure=422)
    found = invocation(tmp_path, alias(server), 40)
    assert (found.pending, found.sent) == (None, None)
    assert 4 <= len(found.faults) <= 20
    assert len(found.replies) + len(found.faults) == 40
    assert {fault.kind for fault in found.faults.values()} == {"refused by server"}
    assert "asked to answer 422" in str(next(iter(found.faults.values())))
    assert rows(tmp_path, "SELECT * FROM faults") == [("refused by server", len(found.faults))]


@pytest.mark.parametrize("failure", [429, 500])
def test_a_line_that_failed_by_no_fault_of_its_own_is_sent_again_three_times_at_most(server, tmp_path, failure):
    server.answer = lambda body: failure if body["seed"] == 3 else json.dumps({"text": "fine"})
    sent = []
    for _ in range(4):
        found = invocation(tmp_path, alias(server), 5)
        sent.append(found.sent)
        server.finish_batches()
    assert sent == [
        "batch batch_1 submitted, 5 requests",
        "batch batch_2 submitted, 1 request",
        "batch batch_3 submitted, 1 request",
        None,
    ]
    assert {number: fault.kind for number, fault in found.faults.items()} == {3: str(failure)}
    assert len(found.replies) == 4


def test_what_an_expired_batch_finished_is_kept_and_the_rest_is_sent_again(server, tmp_path):
    invocation(tmp_path, alias(server), 60)
    server.finish_batches("expired", unfinished=0.5)
    done = server.batches["batch_1"]["request_counts"]["completed"]
    assert 10 < done < 50
    found = invocation(tmp_path, alias(server), 60)
    assert (len(found.replies), found.faults) == (done, {})
    assert found.sent == f"batch batch_2 submitted, {60 - done} requests"
    server.finish_batches()
    assert len(invocation(tmp_path, alias(server), 60).replies) == 60
    assert sum(server.lines.values()) == 60 + 60 - done
    assert dict(rows(tmp_path, "SELECT * FROM faults")) == {"expired": 60 - done}


def test_a_cancelled_batch_and_one_that_forgot_lines_are_sent_again(server, tmp_path):
    invocation(tmp_path, alias(server), 20)
    server.finish_batches("cancelled", unfinished=1.0)
    assert invocation(tmp_path, alias(server), 20).sent == "batch batch_2 submitted, 20 requests"
    server.finish_batches("completed", unfinished=0.5)  # no word on half of them
    found = invocation(tmp_path, alias(server), 20)
    assert 0 < len(found.replies) < 20
    assert "submitted" in found.sent


def test_output_that_the_provider_has_deleted_is_asked_for_again(server, tmp_path):
    invocation(tmp_path, alias(server), 5)
    server.finish_batches()
    del server.uploads[server.batches["batch_1"]["output_file_id"]]
    assert invocation(tmp_path, alias(server), 5).sent == "batch batch_2 submitted, 5 requests"


def test_a_batch_that_fails_validation_stops_with_the_providers_words(server, tmp_path):
    invocation(tmp_path, alias(server), 5)
    server.finish_batches("failed")
    with pytest.raises(ModelRefused, match="did not take batch batch_1: invalid_json_line: asked to fail"):
        invocation(tmp_path, alias(server), 5)
    assert invocation(tmp_path, alias(server), 5).sent == "batch batch_2 submitted, 5 requests"


def test_a_full_queue_at_the_provider_is_only_waited_for(server, tmp_path):
    invocation(tmp_path, alias(server), 5)
    full = {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]}
    server.batches["batch_1"] |= {"status": "failed", "errors": full}
    assert invocation(tmp_path, alias(server), 5).sent == "batch batch_2 submitted, 5 requests"


@pytest.mark.parametrize("status", [401, 404])
def test_lines_refused_for_key_or_model_stop_the_run_with_the_rest_collected(server, tmp_path, status):
    invocation(tmp_path, alias(server), 40)
    server.finish_batches(failed=0.5, failure=status)
    with pytest.raises(ModelRefused, match=f"refuses: {status}"):
        invocation(tmp_path, alias(server), 40)
    found = invocation(tmp_path, alias(server), 40)
    assert found.faults == {}
    assert len(found.replies) == server.batches["batch_1"]["request_counts"]["completed"]


def test_empty_refused_and_filtered_replies_are_faults_that_cost_money(server, tmp_path):
    def completion(message, finish="stop"):
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        return json.dumps({"choices": [{"message": message, "finish_reason": finish}], "usage": usage}).encode()

    said = [
        completion({"content": ""}),
        completion({"content": None, "refusal": "I will not"}),
        completion({"content": '{"text": "hm"}'}, "content_filter"),
        completion({"content": '{"text": "ha'}, "length"),
        b'{"choices": []}',
    ]
    server.answer = lambda body: said[body["seed"]]
    invocation(tmp_path, alias(server), 5)
    server.finish_batches()
    found = invocation(tmp_path, alias(server), 5)
    assert {number: fault.kind for number, fault in found.faults.items()} == {0: "empty", 1: "refused", 2: "refused"}
    assert "I will not" in str(found.faults[1])
    assert (found.replies[3].finish, found.sent) == ("length", "batch batch_2 submitted, 1 request")
    journal = Journal(tmp_path / "journal.sqlite")
    totals = journal.totals()
    journal.close()
    assert (totals.calls, totals.cost) == (4, pytest.approx(4 * 0.5 * 120e-6))


def test_lines_about_other_requests_and_lines_that_are_none_are_passed_over(server, tmp_path, monkeypatch):
    monkeypatch.setattr(road, "MAX_LINE", 50_000)
    invocation(tmp_path, alias(server), 3)
    server.finish_batches()
    output = server.batches["batch_1"]["output_file_id"]
    good = server._contents[output]
    stranger = re.sub(rb'"custom_id":"[0-9a-f]+"', b'"custom_id":"%b"' % (b"ab" * 16), good.splitlines()[0])
    deep = b"[" * 20_000
    wrong = [b"", b"null", b"[]", b'{"custom_id": 7}', b'{"custom_id": "zz"}', b"\xff\xfe", deep, b"x" * 200_000]
    server._contents[output] = b"\n".join([stranger, *wrong, good])
    assert len(invocation(tmp_path, alias(server), 3).replies) == 3
    assert rows(tmp_path, "SELECT COUNT(*) FROM calls") == [(3,)]


# ── kills ───────────────────────────────────────────────────────────────────────────────────────────────────────────

CHILD = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
sys.path[:0] = [{root!r}, {here!r}]
import test_batches
from qdcgen.model import batches as road
from qdcgen.model.batches import Batches

road.SETTLE = 0.05
where, name = sys.argv[1].split(" ", 1)
whole = getattr(Batches, name)

def killed(*given, **named):
    if where == "before" and (name != "_call" or given[1:3] == ("POST", "/batches")):
        os.kill(os.getpid(), signal.SIGKILL)
    done = whole(*given, **named)
    if where == "before" or (name == "_call" and given[1:3] != ("POST", "/batches")):
        return done

    async def finish():
        await done
        os.kill(os.getpid(), signal.SIGKILL)

    return finish()

setattr(Batches, name, killed)
settings = SimpleNamespace(model=test_batches.NAME, api_base=sys.argv[3], key=None, timeout=10, price=None)
test_batches.invocation(Path(sys.argv[2]), settings, 25)
"""


def killed(folder, server, point):
    """Run one invocation in a process that kills itself at `point`."""
    program = CHILD.format(root=str(ROOT), here=str(Path(__file__).parent))
    said = subprocess.run(
        [sys.executable, "-c", program, point, str(folder), server.url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert said.returncode == -signal.SIGKILL, said.stderr


@pytest.mark.parametrize(
    ("point", "uploaded", "created"),
    [
        ("before _upload", 0, 0),  # only the intent is written
        ("after _upload", 1, 0),  # the server has the file, and nobody wrote it down
        ("before _create", 1, 0),  # the file is written down
        ("after _call", 1, 1),  # the server has the batch, and nobody wrote it down
        ("after _create", 1, 1),  # all is written down
    ],
)
def test_killed_while_submitting_nothing_is_submitted_twice(server, tmp_path, point, uploaded, created):
    killed(tmp_path, server, point)
    assert (len(server.uploads), len(server.batches)) == (uploaded, created)
    intent = rows(tmp_path, "SELECT token FROM batches")
    again = invocation(tmp_path, alias(server), 25)
    if uploaded:
        assert (again.pending, again.sent) == ("batch batch_1 validating, 0 of 25 done", None)
    else:
        assert (again.pending, again.sent) == (None, "batch batch_1 submitted, 25 requests")
    assert rows(tmp_path, "SELECT token FROM batches") == intent
    assert server.batches["batch_1"]["metadata"] == {"qdcgen_token": intent[0][0]}
    assert [file["filename"] for file in server.uploads.values()] == [f"qdcgen-{intent[0][0]}.jsonl"]
    server.finish_batches()
    assert len(invocation(tmp_path, alias(server), 25).replies) == 25
    assert (len(server.batches), set(server.lines.values()), len(server.lines)) == (1, {1}, 25)


@pytest.mark.parametrize("point", ["after _put", "before _close_batch"])
def test_killed_while_collecting_the_next_run_collects_the_same(server, tmp_path, point):
    invocation(tmp_path, alias(server), 25)
    server.finish_batches(failed=0.3, failure=422)
    killed(tmp_path, server, point)
    found = invocation(tmp_path, alias(server), 25)
    assert (found.pending, found.sent) == (None, None)
    assert len(found.replies) + len(found.faults) == 25
    assert rows(tmp_path, "SELECT count FROM faults") == [(len(found.faults),)]
    assert set(server.lines.values()) == {1}


def test_a_kill_leaves_no_file_of_requests_behind(server, tmp_path):
    killed(tmp_path, server, "before _upload")
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} <= {"journal.sqlite"}


def test_a_part_of_a_file_that_arrived_is_not_taken_for_the_whole(server, tmp_path):
    killed(tmp_path, server, "after _upload")
    server.uploads["file-1"]["bytes"] -= 1
    assert invocation(tmp_path, alias(server), 25).sent == "batch batch_1 submitted, 25 requests"
    assert server.batches["batch_1"]["input_file_id"] == "file-2"


def test_a_batch_that_the_provider_lists_late_is_waited_for(server, tmp_path, monkeypatch):
    monkeypatch.setattr(road, "SETTLE", 2.0)
    killed(tmp_path, server, "after _upload")
    token = rows(tmp_path, "SELECT token FROM batches")[0][0]
    told = {"input_file_id": "file-1", "endpoint": "e", "completion_window": "24h", "metadata": {"qdcgen_token": token}}
    late = threading.Timer(0.3, server._create, [json.dumps(told).encode()])
    late.start()
    assert invocation(tmp_path, alias(server), 25).pending == "batch batch_1 validating, 0 of 25 done"
    late.join()
    assert len(server.batches) == 1


def test_a_batch_is_found_by_its_file_where_metadata_is_dropped_and_behind_many_others(server, tmp_path):
    killed(tmp_path, server, "after _call")
    mine = server.batches["batch_1"] | {"metadata": None}
    others = {f"batch_x{n}": {**mine, "id": f"batch_x{n}", "input_file_id": "file-x"} for n in range(250)}
    server.batches.update({"batch_1": mine} | others)
    assert invocation(tmp_path, alias(server), 25).pending == "batch batch_1 validating, 0 of 25 done"


# ── a provider that says no, or nothing ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("route", ["POST /v1/files", "POST /v1/batches"])
@pytest.mark.parametrize("kind", ["cut head", "reset", "500", "not json"])
def test_an_answer_that_is_lost_does_not_submit_twice(server, tmp_path, route, kind):
    server.routes = {route: kind}
    with pytest.raises(Incomplete):
        invocation(tmp_path, alias(server), 5)
    server.routes = {}
    invocation(tmp_path, alias(server), 5)
    server.finish_batches()
    assert len(invocation(tmp_path, alias(server), 5).replies) == 5
    assert (len(server.batches), len(server.uploads)) == (1, 2)  # the upload and the output
    assert set(server.lines.values()) == {1}


@pytest.mark.parametrize("route", ["POST /v1/files", "POST /v1/batches"])
@pytest.mark.parametrize("kind", ["401", "403", "404", "400", "redirect"])
def test_a_definite_no_stops_the_run_and_leaves_no_intent(server, tmp_path, route, kind):
    server.routes = {route: kind}
    with pytest.raises(ModelRefused, match="307" if kind == "redirect" else kind):
        invocation(tmp_path, alias(server), 5)
    assert rows(tmp_path, "SELECT * FROM batches") == []
    assert server.strayed == 0


def test_a_provider_whose_queue_is_full_keeps_the_file_for_the_next_try(server, tmp_path):
    server.routes = {"POST /v1/batches": "429"}
    with pytest.raises(Incomplete, match="429"):
        invocation(tmp_path, alias(server), 5)
    server.routes = {}
    assert invocation(tmp_path, alias(server), 5).pending == "batch batch_1 validating, 0 of 5 done"
    assert len(server.uploads) == 1


def test_a_poll_that_fails_is_tried_again_and_then_says_so(server, tmp_path):
    invocation(tmp_path, alias(server), 5)
    server.routes = {"GET /v1/batches/": "503"}
    with pytest.raises(Incomplete, match="503"):
        invocation(tmp_path, alias(server), 5)
    assert server.faulted["503"] == 3
    server.routes = {"GET /v1/batches/": "404"}
    with pytest.raises(ModelRefused, match="another account's, or it is gone"):
        invocation(tmp_path, alias(server), 5)
    server.routes = {}
    assert invocation(tmp_path, alias(server), 5).pending


@pytest.mark.parametrize("kind", ["cut", "500", "reset"])
def test_a_download_that_breaks_loses_nothing(server, tmp_path, kind):
    invocation(tmp_path, alias(server), 50)
    server.finish_batches()
    server.routes = {"GET /v1/files/": kind}
    with pytest.raises(Incomplete):
        invocation(tmp_path, alias(server), 50)
    if kind == "cut":
        assert 0 < rows(tmp_path, "SELECT COUNT(*) FROM calls")[0][0] < 50
    server.routes = {}
    assert len(invocation(tmp_path, alias(server), 50).replies) == 50
    assert set(server.lines.values()) == {1}


def test_an_id_that_would_lead_elsewhere_is_not_followed(server, tmp_path):
    invocation(tmp_path, alias(server), 5)
    server.finish_batches()
    server.batches["batch_1"]["output_file_id"] = "../../chat/completions?"
    with pytest.raises(Incomplete, match="no output_file_id"):
        invocation(tmp_path, alias(server), 5)


def test_two_accounts_of_one_model_keep_their_batches_apart(tmp_path):
    with Server() as one, Server() as other:
        invocation(tmp_path, alias(one), 5)
        assert invocation(tmp_path, alias(other), 5).sent == "batch batch_1 submitted, 5 requests"
        one.finish_batches()
        assert len(invocation(tmp_path, alias(one), 5).replies) == 5
        assert len(other.lines) == 5


# ── the key ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_is_sent_and_stored_nowhere(server, tmp_path, monkeypatch):
    secret = "sk-not-to-be-seen-4711"
    monkeypatch.setenv("BATCH_KEY", secret)
    settings = SimpleNamespace(**{**vars(alias(server)), "key": "BATCH_KEY"})
    echo = json.dumps({"error": {"message": f"Incorrect API key provided: {secret}"}}).encode()
    invocation(tmp_path, settings, 40)
    assert all(headers["authorization"] == f"Bearer {secret}" for headers in server.headers)
    server.finish_batches(failed=0.5, failure=422)
    errors = server.batches["batch_1"]["error_file_id"]
    server._contents[errors] = server._contents[errors].replace(b'{"error":{"message":"asked to answer 422"}}', echo)
    found = invocation(tmp_path, settings, 40)
    assert "Incorrect API key provided: …" in str(next(iter(found.faults.values())))
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir()) + b"".join(server._contents.values())
    assert stored.count(secret.encode()) == server._contents[errors].count(secret.encode()) > 0


def test_a_missing_key_is_told_before_anything_is_written(server, tmp_path, monkeypatch):
    monkeypatch.delenv("BATCH_KEY", raising=False)
    settings = SimpleNamespace(**{**vars(alias(server)), "key": "BATCH_KEY"})
    with pytest.raises(ModelRefused, match="export BATCH_KEY"):
        invocation(tmp_path, settings, 5)
    assert rows(tmp_path, "SELECT * FROM batches") == []
    assert os.listdir(tmp_path) == ["journal.sqlite"]  # noqa: PTH208
