"""The loopback server does what it says: every fault seen from a client's side, every counter checked."""

import asyncio
import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest

from qdcgen.errors import ReplyFault, RowFault
from qdcgen.parts import Tools
from qdcgen.testing import FAULTS, Server, fault_known, scripted

ROOT = Path(__file__).parent.parent
SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "rank": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["text", "rank"],
    "additionalProperties": False,
}


def body(number=0, schema=SCHEMA):
    said = {"model": "test", "messages": [{"role": "user", "content": f"question {number}"}], "seed": number}
    if schema is not None:
        said["response_format"] = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
    return orjson.dumps(said)


def call(server, raw, timeout=5):
    """Status, headers and body of one chat call over a connection of its own."""
    at = urlsplit(server.url)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=timeout)
    try:
        connection.request("POST", f"{at.path}/chat/completions", raw, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def at_once(server, count):
    """Statuses of so many calls made at the same time."""
    found = []
    threads = [threading.Thread(target=lambda n=n: found.append(call(server, body(n))[0])) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(found)


def choice(raw):
    return json.loads(raw)["choices"][0]


def with_fault(kind, **settings):
    return Server(script=[kind], **settings)


# ── plain ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_reply_is_a_function_of_the_request_and_fits_its_schema(server):
    first, again, other = (call(server, body(number))[2] for number in (1, 1, 2))
    assert first == again != other
    value = json.loads(choice(first)["message"]["content"])
    assert set(value) == {"text", "rank"}
    assert 1 <= value["rank"] <= 5
    assert json.loads(first)["usage"]["prompt_tokens"] == 2
    assert (server.asked, sorted(server.seen.values()), server.statuses) == (3, [1, 2], {200: 3})


def test_only_the_headers_of_the_last_100_requests_are_kept(server):
    for number in range(103):
        call(server, body(number))
    assert len(server.headers) == 100
    assert server.headers[-1]["content-type"] == "application/json"


def test_latency_is_fixed_or_drawn_from_the_request():
    def quickest(server, number):
        """Of three calls: the machine has other work."""
        taken = []
        for _ in range(3):
            begin = time.perf_counter()
            call(server, body(number))
            taken.append(time.perf_counter() - begin)
        return min(taken)

    with Server(latency=0.05) as fixed:
        assert 0.05 <= quickest(fixed, 0) <= 0.15
    with Server(latency=(0.02, 0.12)) as drawn:
        found = [quickest(drawn, number) for number in range(4)]
    assert all(0.02 <= seconds <= 0.2 for seconds in found)
    assert max(found) - min(found) > 0.02


def test_requests_at_once_and_connections_are_counted():
    with Server(latency=0.2) as server:
        assert at_once(server, 7) == {200: 7}
        assert (server.peak, server.connections) == (7, 7)


def test_a_server_of_small_capacity_answers_429_above_it():
    with Server(latency=0.2, capacity=4) as server:
        assert at_once(server, 10) == {200: 4, 429: 6}
        assert server.faulted == {"429 capacity": 6}


def test_a_server_can_be_started_from_inside_a_coroutine():
    async def inside():
        with Server() as server:
            return await asyncio.to_thread(call, server, body())

    assert asyncio.run(inside())[0] == 200


def test_a_server_that_is_down_refuses_and_comes_back_on_its_port(server):
    url = server.url
    with server.down(), pytest.raises(ConnectionRefusedError):
        call(server, body())
    assert server.url == url
    assert call(server, body())[0] == 200


def test_a_taken_port_is_an_error_not_a_hang(server):
    with pytest.raises(OSError, match="in use"), Server(port=server.port):
        pass


def test_a_certificate_that_nobody_signed_is_refused_by_a_careful_client():
    with Server(tls=True) as server:
        at = urlsplit(server.url)
        connection = http.client.HTTPSConnection(at.hostname, at.port, timeout=5)
        with pytest.raises(ssl.SSLCertVerificationError):
            connection.request("GET", "/v1/models")
        connection.close()
        trusting = http.client.HTTPSConnection(
            at.hostname, at.port, timeout=5, context=ssl._create_unverified_context()
        )
        trusting.request("GET", "/v1/models")
        assert trusting.getresponse().status == 200
        trusting.close()


# ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_faults_by_rate_repeat_exactly_and_a_retry_draws_afresh():
    counts = []
    for _ in range(2):
        with Server(faults={"429": 0.2, "malformed": 0.1}, fault_seed=5) as server:
            said = [call(server, body(0)) for _ in range(300)]
            counts.append(dict(server.faulted))
            assert Counter(status for status, _, _ in said) == server.statuses
            assert server.statuses[429] == server.faulted["429"]
            prose = [raw for status, _, raw in said if status == 200 and b"not quite" in raw]
            assert len(prose) == server.faulted["malformed"]
    assert counts[0] == counts[1]
    assert 35 <= counts[0]["429"] <= 85
    assert 12 <= counts[0]["malformed"] <= 50


def test_faults_by_position_come_first():
    with Server(script=["500", None, "503"], faults={"422": 1.0}) as server:
        assert [call(server, body())[0] for _ in range(5)] == [500, 200, 503, 422, 422]
        assert server.faulted == {"500": 1, "503": 1, "422": 2}


def test_a_fault_that_is_not_known_is_refused_at_once():
    with pytest.raises(ValueError, match="no such fault: 'malfromed'"):
        Server(faults={"malfromed": 0.1})
    with pytest.raises(ValueError, match="'429 sometimes'"):
        Server(script=["429 sometimes"])
    with pytest.raises(ValueError, match=r"1\.2 together"):
        Server(faults={"429": 0.6, "500": 0.6})


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 409, 422, 425, 429, 500, 502, 503, 504, 529])
def test_every_status_is_a_fault(status):
    with with_fault(str(status)) as server:
        found, headers, raw = call(server, body())
        assert found == status
        assert "retry-after" not in headers
        assert json.loads(raw)["error"]["message"]


def test_retry_after_comes_in_every_form():
    with Server(script=["429 seconds", "429 date", "429 past", "429 day", "503 nonsense"], retry_after=3) as server:
        seconds, date, past, day, nonsense = (call(server, body())[1]["retry-after"] for _ in range(5))
    assert (seconds, day, nonsense) == ("3", "86400", "soon")
    assert 2 <= parsedate_to_datetime(date).timestamp() - time.time() <= 5
    assert parsedate_to_datetime(past).timestamp() < time.time()


@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        ("reset", ConnectionResetError),
        ("close", http.client.RemoteDisconnected),
        ("cut", http.client.IncompleteRead),
        ("silent", TimeoutError),
        ("stall", TimeoutError),
        ("stall body", TimeoutError),
    ],
)
def test_faults_of_the_wire_reach_the_client(kind, raised):
    with with_fault(kind) as server:
        with pytest.raises(raised) as caught:
            call(server, body(), timeout=0.3)
        assert type(caught.value) is raised
        assert server.faulted == {kind: 1}
        assert call(server, body())[0] == 200


def test_a_reply_may_be_cut_in_its_head():
    with with_fault("cut head") as server, socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain:
        raw = body()
        plain.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(raw), raw))
        assert len(b"".join(iter(lambda: plain.recv(100), b""))) == 20


def test_a_slow_reply_is_whole_in_the_end():
    with with_fault("slow", slow=0.3) as server:
        begin = time.perf_counter()
        slow = call(server, body())[2]
        assert time.perf_counter() - begin > 0.25
        assert slow == call(server, body())[2]


def test_bodies_that_are_no_reply():
    with Server(script=["not json", "html", "502 html", "400 context", "no schema"]) as server:
        broken, page, gateway, context, unsupported = (call(server, body()) for _ in range(5))
    with pytest.raises(ValueError):
        json.loads(broken[2])
    assert (page[0], page[2][:6], page[1]["content-type"]) == (200, b"<html>", "text/html")
    assert (gateway[0], gateway[2]) == (502, b"<html>")
    assert (context[0], json.loads(context[2])["error"]["code"]) == (400, "context_length_exceeded")
    assert unsupported[0] == 400
    assert b"response_format" in unsupported[2]


def test_a_bomb_is_a_mebibyte_that_inflates_to_a_gibibyte():
    with with_fault("bomb") as server:
        status, headers, raw = call(server, body())
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert len(raw) < 2 * 2**20
    stream, size, rest = zlib.decompressobj(31), 0, raw
    while rest:
        size += len(stream.decompress(rest, 2**24))
        rest = stream.unconsumed_tail
    assert (size, stream.eof) == (2**30, True)


def test_redirects_lead_elsewhere_and_who_follows_is_counted():
    with Server(script=["redirect", "redirect 302", "redirect metadata"]) as server:
        found = [call(server, body()) for _ in range(3)]
        assert [status for status, _, _ in found] == [307, 302, 307]
        here, attacker, metadata = (headers["location"] for _, headers, _ in found)
        assert (attacker, metadata) == ("http://attacker.example/", "http://169.254.169.254/")
        assert server.strayed == 0
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("POST", urlsplit(here).path, body())
        assert connection.getresponse().status == 200
        connection.close()
        assert (urlsplit(here).hostname, server.strayed) == ("localhost", 1)


def test_completions_that_cannot_be_used():
    kinds = ["malformed", "misfit", "fenced", "truncated", "filtered", "empty", "null", "refusal", "huge"]
    with Server(script=kinds) as server:
        said = {kind: choice(call(server, body())[2]) for kind in kinds}
        right = choice(call(server, body())[2])
    text = {kind: found["message"]["content"] for kind, found in said.items()}
    with pytest.raises(ValueError):
        json.loads(text["malformed"])
    assert json.loads(text["misfit"]) == {"unexpected": [True]}
    assert right["message"]["content"] in text["fenced"]
    assert right["message"]["content"].startswith(text["truncated"])
    assert said["truncated"]["finish_reason"] == "length"
    assert (text["filtered"], said["filtered"]["finish_reason"]) == (right["message"]["content"], "content_filter")
    assert (text["empty"], text["null"], text["refusal"]) == ("", None, None)
    assert said["refusal"]["message"]["refusal"]
    assert len(text["huge"]) > 2_000_000


def test_replies_with_something_wrong_about_them():
    kinds = ["wrong model", "no usage", "negative usage", "no choices", "constant", "constant", "surrogate"]
    with Server(script=kinds) as server:
        raw = [call(server, body(number))[2] for number in range(len(kinds))]
    model, usage, negative, choices, one, two, surrogate = map(json.loads, raw)
    assert model["model"] == "another-model"
    assert "usage" not in usage
    assert negative["usage"]["prompt_tokens"] == -5
    assert choices["choices"] == []
    assert one["choices"] == two["choices"]
    with pytest.raises(UnicodeEncodeError):
        surrogate["choices"][0]["message"]["content"].encode()


def test_a_server_without_json_schema_says_so_and_answers_plain_questions():
    with Server(json_schema=False) as server:
        assert call(server, body())[0] == 400
        assert call(server, body(schema=None))[0] == 200
        assert server.faulted == {"no schema": 1}


def test_every_fault_by_name_is_tested_here():
    text = Path(__file__).read_text()
    assert [kind for kind in FAULTS if f'"{kind}"' not in text] == []
    assert fault_known("418")
    assert not fault_known("200")


# ── files and batches ───────────────────────────────────────────────────────────────────────────────────────────────


def ask(server, method, path, raw=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, f"/v1{path}", raw, headers or {})
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, said
    finally:
        connection.close()


def upload(server, lines, name="in.jsonl"):
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    parts = (
        b'--edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n--edge--\r\n'
    ) % (name.encode(), content)
    status, said = ask(server, "POST", "/files", parts, {"Content-Type": "multipart/form-data; boundary=edge"})
    assert status == 200, said
    return json.loads(said)


def batch(server, count, metadata=None):
    lines = [{"custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions", "body": json.loads(body(n))}
             for n in range(count)]  # fmt: skip
    told = {"input_file_id": upload(server, lines)["id"], "endpoint": "/v1/chat/completions",
            "completion_window": "24h", "metadata": metadata}  # fmt: skip
    status, said = ask(server, "POST", "/batches", json.dumps(told))
    assert status == 200, said
    return json.loads(said)["id"]


def poll(server, name):
    return json.loads(ask(server, "GET", f"/batches/{name}")[1])


def content(server, file):
    return [json.loads(line) for line in ask(server, "GET", f"/files/{file}/content")[1].splitlines()]


def test_a_batch_goes_from_validating_to_its_replies(server):
    name = batch(server, 20, {"token": "t"})
    assert poll(server, name)["status"] == "validating"
    server.start_batches(0.5)
    assert poll(server, name)["status"] == "in_progress"
    assert poll(server, name)["request_counts"] == {"total": 20, "completed": 10, "failed": 0}
    server.finish_batches()
    done = poll(server, name)
    assert (done["status"], done["error_file_id"], done["metadata"]) == ("completed", None, {"token": "t"})
    lines = {line["custom_id"]: line["response"] for line in content(server, done["output_file_id"])}
    assert {line["status_code"] for line in lines.values()} == {200}
    assert len(lines) == 20
    assert json.dumps(lines["r3"]["body"]) == json.dumps(json.loads(call(server, body(3))[2]))
    assert (server.asked, set(server.lines.values())) == (1, {1})


def test_a_share_of_a_batch_fails_and_another_runs_out_of_time(server):
    name = batch(server, 200)
    server.finish_batches("expired", failed=0.2, failure=429, unfinished=0.3)
    done = poll(server, name)
    good, bad = content(server, done["output_file_id"]), content(server, done["error_file_id"])
    late = [line for line in bad if line["error"] and line["error"]["code"] == "batch_expired"]
    failed = [line for line in bad if line["response"] and line["response"]["status_code"] == 429]
    assert len(good) + len(late) + len(failed) == 200
    assert 35 <= len(late) <= 85
    assert 12 <= len(failed) <= 50
    assert done["request_counts"]["completed"] == len(good)


def test_a_batch_that_fails_validation_or_is_cancelled_has_no_replies(server):
    failed, cancelled = batch(server, 3), batch(server, 3)
    ask(server, "POST", f"/batches/{cancelled}/cancel")
    assert poll(server, cancelled)["status"] == "cancelling"
    server.finish_batches("failed")
    assert poll(server, failed)["errors"]["data"][0]["message"]
    assert (poll(server, failed)["status"], poll(server, cancelled)["status"]) == ("failed", "cancelled")


def test_too_many_lines_or_two_of_one_name_fail_the_batch():
    with Server(batch_limit=5) as server:
        assert poll(server, batch(server, 6))["status"] == "failed"
        assert poll(server, batch(server, 5))["status"] == "validating"


def test_a_batch_may_finish_by_itself_at_a_poll():
    with Server(finish_after=2) as server:
        name = batch(server, 2)
        assert [poll(server, name)["status"] for _ in range(2)] == ["validating", "completed"]


def test_lists_are_paged_newest_first(server):
    names = [batch(server, 1) for _ in range(5)]
    first = json.loads(ask(server, "GET", "/batches?limit=2")[1])
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (names[:2:-1], True)
    rest = json.loads(ask(server, "GET", f"/batches?limit=9&after={first['last_id']}")[1])
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (names[2::-1], False)
    assert [one["filename"] for one in json.loads(ask(server, "GET", "/files")[1])["data"]] == ["in.jsonl"] * 5


def test_what_is_not_there_is_404_and_what_is_not_right_400(server):
    assert ask(server, "GET", "/batches/batch_9")[0] == 404
    assert ask(server, "GET", "/files/file-9/content")[0] == 404
    assert ask(server, "GET", "/nothing")[0] == 404
    assert ask(server, "POST", "/batches", "{}")[0] == 400
    assert ask(server, "POST", "/files", "x")[0] == 400
    assert ask(server, "POST", "/chat/completions", "no json")[0] == 400


def test_faults_of_the_batch_road_are_set_by_route(server):
    server.routes = {"GET /v1/batches": "503", "POST /v1/files": "cut head"}
    assert ask(server, "GET", "/batches")[0] == 503
    with pytest.raises(ValueError):  # http.client takes 20 bytes of a reply for one without a body
        upload(server, [])
    assert len(server.uploads) == 1
    assert server.faulted == {"503": 1, "cut head": 1}


# ── by itself ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_serves_by_itself_until_interrupted_and_then_tells_what_it_saw():
    command = [sys.executable, "-m", "qdcgen.testing", "--latency", "0", "0.01", "--fault", "500=1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    url = urlsplit(process.stdout.readline().strip())
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=5)
    connection.request("POST", f"{url.path}/chat/completions", body())
    assert connection.getresponse().status == 500
    connection.close()
    process.send_signal(signal.SIGINT)
    said = json.loads(process.communicate(timeout=10)[0])
    assert process.returncode == 0
    assert (said["asked"], said["faulted"]) == (1, {"500": 1})


def test_a_wrong_fault_on_the_command_line_is_told():
    command = [sys.executable, "-m", "qdcgen.testing", "--fault", "5oo=1"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=20)
    assert said.returncode == 2
    assert "'5oo'" in said.stderr


def test_it_answers_3000_requests_a_second():
    command = [sys.executable, "-m", "qdcgen.testing"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    url = urlsplit(process.stdout.readline().strip())
    raw = [body(number) for number in range(64)]
    request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
    calls = 6_000

    async def talk(numbers):
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        for number in numbers:
            writer.write(request % (len(raw[number % 64]), raw[number % 64]))
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.rpartition(b": ")[2]))
        writer.close()

    async def go():
        numbers = iter(range(calls))
        await asyncio.gather(*(talk(numbers) for _ in range(32)))

    best = 0.0
    for _ in range(3):  # the best of three: the machine has other work
        begin = time.perf_counter()
        asyncio.run(go())
        best = max(best, calls / (time.perf_counter() - begin))
    process.terminate()
    process.communicate(timeout=10)
    assert best >= 3_000


# ── a scripted model ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_scripted_model_plays_its_replies_in_order():
    model = scripted("plain words", {"text": "a", "rank": 2}, RowFault("down", "not today"), '{"text": 1}')
    tools = Tools(ask=model)

    async def go():
        messages = [{"role": "user", "content": "hello there"}]
        first = await tools.ask("writer", messages)
        assert (first.text, first.parsed, first.tokens_in) == ("plain words", None, 2)
        assert (await tools.ask("writer", messages, schema=SCHEMA)).parsed == {"text": "a", "rank": 2}
        with pytest.raises(RowFault, match="not today"):
            await tools.ask("critic", messages)
        with pytest.raises(ReplyFault, match="rank"):
            await tools.ask("writer", messages, schema=SCHEMA)
        with pytest.raises(AssertionError, match="asked 5 times"):
            await tools.ask("writer", messages)

    asyncio.run(go())
    assert [one["alias"] for one in model.asked] == ["writer", "writer", "critic", "writer", "writer"]
