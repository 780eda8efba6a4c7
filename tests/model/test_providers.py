"""The road by litellm against real servers on loopback: the same replies and the same errors as the direct road."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from qdcgen.errors import ModelRefused, RowFault, TryAgain, UsageError
from qdcgen.model.openai import OpenAI
from qdcgen.model.providers import NOISE, Provider, _litellm
from qdcgen.model.replies import checked
from qdcgen.rows import Request
from qdcgen.testing import Server

pytestmark = [
    # pytest puts its own filters before those that the module sets for its users, so they are said again: what pydantic
    # says of litellm's own records; and deprecations inside of litellm, which Python shows nobody by default.
    *(pytest.mark.filterwarnings(f"ignore:{words}:UserWarning") for words in NOISE),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:litellm"),
]

SCHEMA = {
    "type": "object",
    "properties": {"message": {"type": "string"}, "urgency": {"enum": ["low", "high"]}},
    "required": ["message", "urgency"],
    "additionalProperties": False,
}
KEYS = (
    "GOOGLE_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "OPENAI_ADMIN_KEY",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "MISTRAL_API_KEY",
    "GEMINI_API_KEY",
    "AZURE_API_KEY",
    "GROQ_API_KEY",
)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in (*KEYS, "OPENAI_API_BASE", "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


def alias(model="openai/x", **settings):
    defaults = {"api_base": None, "key": None, "price": None, "timeout": 20.0, "max_in_flight": 8}
    return SimpleNamespace(**{"model": model, **defaults, **settings})


def asked(schema=None, text="Say something kind.", model="openai/x"):
    return Request(model, [{"role": "user", "content": text}], schema, 0.8, 0.9, 200, 7)


async def one(way, request):
    try:
        return await way.ask(request)
    finally:
        await way.close()


def ask(settings, request=None, way=Provider):
    return asyncio.run(one(way(settings), request or asked()))


@asynccontextmanager
async def saying(head, body=b"", *, drip=False):
    """A server that answers each request with these bytes; gives its address and the requests that it saw."""
    seen = []

    async def answer(reader, writer):
        try:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"%b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), b"" if drip else body))
            for byte in body if drip else b"":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


# ── replies ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_both_roads_give_the_same_reply(server):
    server.answer = lambda body: orjson.dumps({"message": "ä " * body["seed"], "urgency": "low"}).decode()
    price = SimpleNamespace(input=1, output=2)
    settings = alias(api_base=server.url, price=price)
    for schema in (None, SCHEMA):
        here, there = ask(settings, asked(schema)), ask(settings, asked(schema), OpenAI)
        same = ("text", "model", "parsed", "tokens_in", "tokens_out", "cost", "finish", "journaled")
        assert [getattr(here, name) for name in same] == [getattr(there, name) for name in same]
        assert here.cost > 0
        assert 0 < here.seconds < 20
    assert checked(here.text, SCHEMA, here.finish) == {"message": "ä " * 7, "urgency": "low"}


def test_both_roads_ask_the_same(server):
    bodies = []
    server.answer = lambda body: bodies.append(body) or '{"message": "x", "urgency": "low"}'
    for way in (Provider, OpenAI):
        ask(alias(api_base=server.url), asked(SCHEMA), way)
    assert bodies[0] == bodies[1]


def test_a_server_that_takes_no_schemas_is_told_in_words_from_then_on(server):
    bodies = []

    def answer(body):
        bodies.append(body)
        if "response_format" in body:
            return 400
        return '{"message": "x", "urgency": "low"}'

    server.answer = answer
    settings = alias(api_base=server.url)

    async def twice():
        way = Provider(settings)
        # The loopback server's 400 says no more than its number, so this one says what vLLM says.
        head = b"HTTP/1.1 400 -\r\ncontent-type: application/json"
        async with saying(head, b'{"error": {"message": "response_format is not supported"}}') as (url, seen):
            way.api_base = url
            with pytest.raises(RowFault):
                await way.ask(asked(SCHEMA))
            assert len(seen) == 2
        way.api_base = server.url
        await way.ask(asked(SCHEMA))
        await way.close()

    asyncio.run(twice())
    assert len(bodies) == 1
    assert "response_format" not in bodies[0]
    assert '"urgency"' in bodies[0]["messages"][-1]["content"]


def test_an_unknown_price_stays_unknown_and_a_silent_server_used_unknown_tokens(server):
    assert ask(alias(api_base=server.url)).cost is None
    assert ask(alias("openai/gpt-4o-mini", api_base=server.url)).cost is None  # that name at another address
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "length"}
    server.answer = lambda _: orjson.dumps({"object": "chat.completion", "model": "x", "choices": [choice]})
    reply = ask(alias(api_base=server.url, price=SimpleNamespace(input=1, output=1)))
    assert (reply.text, reply.finish) == ("hi", "length")
    assert (reply.tokens_in, reply.tokens_out, reply.cost) == (None, None, None)


def test_a_known_price_is_litellms(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_BASE", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    reply = ask(alias("openai/gpt-4o-mini"))
    assert reply.cost == pytest.approx(reply.tokens_in * 0.15e-6 + reply.tokens_out * 0.6e-6)


def test_an_empty_reply_and_a_refusal_cost_their_row(server):
    for message, kind in (({"content": ""}, "empty"), ({"content": None, "refusal": "I will not"}, "refused")):
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
        server.answer = lambda _, said=choice: orjson.dumps({"model": "x", "choices": [said]})
        with pytest.raises(RowFault) as fault:
            ask(alias(api_base=server.url))
        assert fault.value.kind == kind


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_a_status_that_may_pass_is_one_try(server, status):
    server.answer = lambda _: status
    with pytest.raises(TryAgain, match=f"openai/x: {status}: asked to answer {status}") as fault:
        ask(alias(api_base=server.url))
    assert fault.value.kind == str(status)
    assert server.asked == 1


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_status_of_key_quota_or_permission_stops_the_run(server, status):
    server.answer = lambda _: status
    with pytest.raises(ModelRefused, match=f"openai/x refuses: {status}: asked"):
        ask(alias(api_base=server.url))
    assert server.asked == 1


@pytest.mark.parametrize("status", [400, 418])
def test_a_request_that_the_server_does_not_take_costs_its_row(server, status):
    server.answer = lambda _: status
    with pytest.raises(RowFault, match=f"openai/x: {status}: asked") as fault:
        ask(alias(api_base=server.url), asked(SCHEMA))
    assert fault.value.kind == "refused by server"
    assert server.asked == 1


def test_a_422_costs_its_row_although_litellm_forgets_it(server):
    server.answer = lambda _: 422
    with pytest.raises(RowFault, match="openai/x: 422") as fault:
        ask(alias(api_base=server.url), asked(SCHEMA))
    assert fault.value.kind == "refused by server"
    assert server.asked <= 2


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (429, {"message": "over", "code": "insufficient_quota", "type": "insufficient_quota"}, ModelRefused),
        (400, {"message": "Your credit balance is too low"}, ModelRefused),
        (400, {"message": "filtered", "code": "content_policy_violation"}, RowFault),
        (
            400,
            {"message": "This model's maximum context length is 10 tokens", "code": "context_length_exceeded"},
            RowFault,
        ),
    ],
)
def test_the_words_of_an_error_count_where_its_status_misleads(status, message, kind):
    async def go():
        body = orjson.dumps({"error": message})
        async with saying(b"HTTP/1.1 %d -\r\ncontent-type: application/json" % status, body) as (url, seen):
            with pytest.raises(kind):
                await one(Provider(alias(api_base=url)), asked())
            assert len(seen) == 1

    asyncio.run(go())


def test_retry_after_is_heard_in_seconds_and_as_a_date():
    async def go(said):
        head = b"HTTP/1.1 429 -\r\ncontent-type: application/json\r\nretry-after: " + said.encode()
        async with saying(head, b'{"error": {"message": "slowly"}}') as (url, _):
            with pytest.raises(TryAgain) as fault:
                await one(Provider(alias(api_base=url)), asked())
            return fault.value.after

    assert asyncio.run(go("7")) == 7
    assert asyncio.run(go("0.5")) == 0.5
    assert 25 < asyncio.run(go(formatdate(time.time() + 30, usegmt=True))) <= 30
    assert asyncio.run(go("soon")) == 0


def test_a_broken_connection_is_one_try_by_its_kind(server):
    server.answer = lambda _: None
    with pytest.raises(TryAgain) as fault:
        ask(alias(api_base=server.url))
    assert fault.value.kind == "reset"
    with pytest.raises(TryAgain) as fault:
        ask(alias(api_base="http://127.0.0.1:9/v1"))
    assert fault.value.kind == "connection"


def test_a_slow_server_and_a_dripping_one_time_out(server):
    server.latency = 5
    with pytest.raises(TryAgain, match=r"no answer within 0\.3 s") as fault:
        ask(alias(api_base=server.url, timeout=0.3))
    assert fault.value.kind == "timeout"

    async def go():
        async with saying(b"HTTP/1.1 200 -\r\ncontent-type: application/json", b" " * 200, drip=True) as (url, _):
            began = time.perf_counter()
            with pytest.raises(TryAgain) as fault:
                await one(Provider(alias(api_base=url, timeout=0.5)), asked())
            assert fault.value.kind == "timeout"
            assert time.perf_counter() - began < 2

    asyncio.run(go())


@pytest.mark.parametrize(
    "body", [b"<html>busy</html>", b'{"a": 1}', b'{"choices": []}', b'{"choices": [{}]}', b"[]", b""]
)
def test_a_body_that_is_no_completion_is_one_try(server, body):
    server.answer = lambda _: body
    with pytest.raises(TryAgain) as fault:
        ask(alias(api_base=server.url))
    assert fault.value.kind == "no completion"
    assert server.asked == 1


def test_an_unknown_provider_stops_the_run():
    with pytest.raises(ModelRefused, match="nowhere/x"):
        ask(alias("nowhere/x"), asked(model="nowhere/x"))


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "model", ["openai/x", "anthropic/x", "mistral/x", "gemini/x", "azure/x", "groq/x", "hosted_vllm/x"]
)
def test_an_address_without_a_key_gets_nobodys(server, monkeypatch, model):
    for name in KEYS:
        monkeypatch.setenv(name, f"sk-of-{name.lower()}")
    server.answer = lambda _: 400
    with suppress(RowFault, ModelRefused, TryAgain):
        ask(alias(model, api_base=server.url), asked(model=model))
    assert server.headers
    assert "sk-of" not in repr(server.headers)
    assert "none" in repr(server.headers[-1])


def test_the_recipes_key_goes_to_its_address_and_into_no_message(server, monkeypatch):
    monkeypatch.setenv("MY_THING", "sk-very-secret-1234")
    settings = alias(api_base=server.url, key="MY_THING")
    ask(settings)
    assert server.headers[-1]["authorization"] == "Bearer sk-very-secret-1234"

    async def go():
        body = orjson.dumps({"error": {"message": "wrong key sk-very-secret-1234 given " * 20}})
        async with saying(b"HTTP/1.1 401 -\r\ncontent-type: application/json", body) as (url, _):
            with pytest.raises(ModelRefused, match="wrong key … given") as fault:
                await one(Provider(alias(api_base=url, key="MY_THING")), asked())
            assert "sk-very" not in str(fault.value)

    asyncio.run(go())
    monkeypatch.delenv("MY_THING")
    with pytest.raises(ModelRefused, match="export MY_THING="):
        ask(settings)


@pytest.mark.parametrize("model", ["openai/x", "anthropic/x", "azure/x", "gemini/x"])
def test_no_redirect_is_followed(server, monkeypatch, model):
    monkeypatch.setenv("MY_THING", "sk-very-secret-1234")

    async def go():
        head = b"HTTP/1.1 307 -\r\nlocation: " + server.url.encode() + b"/chat/completions"
        async with saying(head) as (url, seen):
            with pytest.raises((RowFault, ModelRefused, TryAgain)):
                await one(Provider(alias(model, api_base=url, key="MY_THING")), asked(model=model))
            assert b"sk-very" in b"".join(seen)

    asyncio.run(go())
    assert not server.headers


def test_the_machines_own_credentials_do_not_go_to_an_address(monkeypatch):
    for model in ("vertex_ai/x", "databricks/x"):
        with pytest.raises(UsageError, match="credentials"):
            Provider(alias(model, api_base="http://localhost:1"))
    monkeypatch.setenv("AZURE_AD_TOKEN", "token")
    with pytest.raises(UsageError, match="credentials"):
        Provider(alias("azure/x", api_base="http://localhost:1"))
    Provider(alias("azure/x"))


@pytest.mark.parametrize("model", ["openai/x", "anthropic/x", "gemini/x"])
def test_a_missing_key_stops_the_run_and_says_which(model):
    with pytest.raises(ModelRefused, match=r"[A-Z]+_API_KEY") as fault:
        ask(alias(model), asked(model=model))
    assert "Traceback" not in str(fault.value)


# ── manners ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_prints_and_logs_nothing_good_or_bad(server, capfd):
    for answer in (None, lambda _: 429, lambda _: 400, lambda _: None, lambda _: b"junk", lambda _: 401):
        server.answer = answer
        with suppress(RowFault, ModelRefused, TryAgain):
            ask(alias(api_base=server.url), asked(SCHEMA))
    with suppress(ModelRefused):
        ask(alias("nowhere/x"))
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("LiteLLM").isEnabledFor(logging.CRITICAL)


def test_two_share_connections_and_a_new_loop_starts_afresh(server):
    async def go():
        first, second = Provider(alias(api_base=server.url)), Provider(alias("openai/y", api_base=server.url))
        await asyncio.gather(*(way.ask(asked(text=str(n))) for n in range(20) for way in (first, second)))
        await first.close()
        assert (await second.ask(asked())).text
        await second.close()
        await second.close()
        assert not _litellm().in_memory_llm_clients_cache.cache_dict

    for _ in range(3):
        asyncio.run(go())


def test_litellm_is_imported_at_the_first_call_offline_and_without_a_trace(tmp_path):
    """A process of its own: no .env is read, no warning is hidden, nothing is printed, not at exit either."""
    (tmp_path / ".env").write_text("FROM_DOTENV=1\n")
    probe = (
        "import asyncio, os, sys; from types import SimpleNamespace as S; from qdcgen.model.providers import Provider\n"
        "from qdcgen.rows import Request; from qdcgen.testing import Server\n"
        "async def main(url):\n"
        "    way = Provider(S(model='openai/x', api_base=url, key=None, price=None, timeout=9, max_in_flight=2))\n"
        "    before = 'litellm' in sys.modules\n"
        "    reply = await way.ask(Request('openai/x', [{'role': 'user', 'content': 'hi'}], None, 1, 1, 9, 1))\n"
        "    await way.close()\n"
        "    return before, 'litellm' in sys.modules, bool(reply.text), 'FROM_DOTENV' in os.environ\n"
        "with Server() as server: print(*asyncio.run(main(server.url)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "LITELLM_LOG": "DEBUG"}
    said = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert said.stdout.split() == ["False", "True", "True", "False"]
    assert said.stderr == ""


def test_the_server_is_the_one_that_plug_in_authors_use():
    with Server() as server:
        assert ask(alias(api_base=server.url)).text
