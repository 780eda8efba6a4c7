"""The embedded model: its words without the weights, its promises with them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from qdcgen.errors import MissingExtra, RowFault, UsageError
from qdcgen.model import embedded, weights
from qdcgen.model.embedded import Embedded
from qdcgen.rows import Request

ROOT = Path(__file__).parents[2]
SCHEMA = {
    "type": "object",
    "properties": {
        "message": {"type": "string", "minLength": 10, "maxLength": 90},
        "urgency": {"enum": ["low", "high"]},
        "age": {"type": "integer", "minimum": 18, "maximum": 80},
    },
    "required": ["message", "urgency", "age"],
}
ENDLESS = {"type": "object", "properties": {"a": {"type": "string", "minLength": 9000}}, "required": ["a"]}
SYSTEMS = (
    "You write realistic data for testing a bank's customer support. Vary names, wording, openings and details.",
    "You write realistic data for testing a hospital's front desk. Be concrete about what happened and to whom.",
    "",
)


def _request(number: int, *, tokens: int = 60, schema: dict[str, Any] | None = SCHEMA) -> Request:
    """One of many requests, of three kinds: two shared system messages, and none."""
    system = SYSTEMS[number % 3]
    messages = [{"role": "system", "content": system}] if system else []
    messages.append(
        {"role": "user", "content": f"Write message {number} about {'late or ' * (number % 4)}lost things."}
    )
    return Request("writer", messages, schema, 0.8, 0.95, tokens, number)


# ── without weights ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_importing_and_naming_load_nothing() -> None:
    code = "import sys; from qdcgen.model.embedded import Embedded; Embedded(); print('xllamacpp' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("QDCGEN_EMBEDDED_MODEL", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_names_are_stable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QDCGEN_EMBEDDED_MODEL", raising=False)
    assert Embedded().name == "embedded:qwen2.5-coder-1.5b-instruct-q4_k_m"
    assert Embedded("embedded:small").name == "embedded:qwen2.5-coder-0.5b-instruct-q4_k_m"
    assert Embedded(servers=3).in_flight == 3
    file = tmp_path / "own.gguf"
    file.write_bytes(b"GGUF" + b"a" * 3_000_000)
    own = Embedded(f"embedded:{file}").name
    assert own.startswith("embedded:own.gguf:")
    monkeypatch.setenv("QDCGEN_EMBEDDED_MODEL", str(file))
    assert Embedded().name == own
    assert Embedded("embedded:small").name == "embedded:qwen2.5-coder-0.5b-instruct-q4_k_m"
    file.write_bytes(b"GGUF" + b"a" * 2_999_999 + b"b")
    assert Embedded().name != own


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.gguf: cannot read the model"):
        Embedded(f"embedded:{tmp_path / 'nowhere.gguf'}")
    other = tmp_path / "page.gguf"
    other.write_text("<html>")
    with pytest.raises(UsageError, match=r'page\.gguf: not a model file: found "<htm" at its start, expected "GGUF"'):
        Embedded(f"embedded:{other}")


def test_a_missing_runtime_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'qdcgen\[embedded\]'"):
        asyncio.run(Embedded(f"embedded:{file}").ask(_request(0)))


def test_the_grammar_holds_only_what_it_can() -> None:
    schema = {
        "type": "object",
        "title": "x",
        "properties": {"a": {"type": "string", "pattern": "^(?!x)"}, "b": {"type": "string", "pattern": "^x$"}},
    }
    bounded = embedded._bounded(schema)
    assert bounded["properties"] == {"a": {"type": "string"}, "b": {"type": "string", "pattern": "^x$"}}
    assert bounded["additionalProperties"] is False
    assert "title" not in bounded
    assert "pattern" in schema["properties"]["a"], "the caller's schema is left alone"  # type: ignore[index]


# ── with weights ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def model() -> str:
    """The smallest real model here."""
    pytest.importorskip("xllamacpp", reason="the runtime xllamacpp is not installed")
    faults = []
    for word, kind in (("embedded:small", weights.SMALL), ("embedded", weights.LARGE)):
        try:
            weights.joined(kind)
        except (MissingExtra, UsageError) as fault:
            faults.append(str(fault))
        else:
            return word
    return pytest.skip("; ".join(faults))


async def _replies(model: str, order: Sequence[int], servers: int, tokens: int = 8) -> dict[int, str]:
    asked = Embedded(model, servers=servers)
    replies = await asyncio.gather(*(asked.ask(_request(number, tokens=tokens)) for number in order))
    await asked.close()
    return {number: reply.text for number, reply in zip(order, replies, strict=True)}


def _status() -> str:
    return Path("/proc/self/status").read_text() if sys.platform == "linux" else ""


@pytest.mark.embedded
def test_replies_are_json_of_the_schema(model: str) -> None:
    async def ask() -> None:
        asked = Embedded(model, servers=1)
        before = _status()
        reply = await asked.ask(_request(0, tokens=120))
        found = json.loads(reply.text)
        assert list(found) == ["message", "urgency", "age"]
        assert found["urgency"] in {"low", "high"}
        assert 18 <= found["age"] <= 80
        assert (reply.finish, reply.cost, reply.model) == ("stop", 0.0, asked.name)
        assert reply.tokens_in is not None
        assert reply.tokens_out is not None
        assert 30 < reply.tokens_in < 80
        assert 5 < reply.tokens_out < 120
        cut = await asked.ask(_request(1, tokens=3))
        assert (cut.finish, cut.tokens_out) == ("length", 3)
        with pytest.raises(RowFault, match=r"the prompt has 5,\d{3} tokens.* takes 4,096"):
            await asked.ask(Request("w", [{"role": "user", "content": "hi " * 5000}], None, 0.8, 1.0, 5, 1))
        assert (await asked.ask(_request(0, tokens=120))).text == reply.text, "a refused request leaves no trace"
        if before:  # signals stay Python's
            line = next(x for x in before.splitlines() if x.startswith("SigCgt"))
            assert line in _status()
        await asked.close()
        with pytest.raises(RuntimeError, match="closed"):
            await asked.ask(_request(0))

    asyncio.run(ask())


@pytest.mark.embedded
def test_a_reply_depends_on_its_request_alone(model: str) -> None:
    order = list(range(6))
    alone = asyncio.run(_replies(model, order, servers=1))
    random.Random(5).shuffle(order)
    assert asyncio.run(_replies(model, order, servers=2)) == alone
    rest = order[3:]  # a resumed run: other servers, other history
    assert asyncio.run(_replies(model, rest, servers=1)) == {number: alone[number] for number in rest}


@pytest.mark.embedded
def test_a_cancelled_reply_stops_and_changes_nothing(model: str) -> None:
    async def ask() -> None:
        asked = Embedded(model, servers=1)
        first = await asked.ask(_request(0, tokens=15))
        long = Request("w", [{"role": "user", "content": "Count to a million in words."}], ENDLESS, 0.8, 1.0, 3000, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asked.ask(long), 1.0)
        began = time.monotonic()
        again = await asked.ask(_request(0, tokens=15))
        assert again.text == first.text
        assert time.monotonic() - began < 10
        await asked.close()

    asyncio.run(ask())


@pytest.mark.embedded
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (None, 0)])
def test_leaving_while_it_writes_is_prompt_and_clean(model: str, number: signal.Signals | None, code: int) -> None:
    script = f"""
import asyncio, sys
from qdcgen.model.embedded import Embedded
from qdcgen.rows import Request
async def main():
    asked = Embedded({model!r}, servers=2)
    def ask(n): return asked.ask(Request("w", [{{"role": "user", "content": "Count."}}], {ENDLESS!r}, .8, 1., n, 1))
    await ask(1)
    print("ready", flush=True)
    run = [asyncio.create_task(ask(3000)) for _ in range(2)]
    await asyncio.sleep(1)
    if {number is not None}:
        await asyncio.gather(*run)
try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(130)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.7)
    began = time.monotonic()
    if number is not None:
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, b"", b"")
    assert time.monotonic() - began < 8


@pytest.mark.embedded
def test_surprisal_is_of_the_texts_own_tokens(model: str) -> None:
    async def ask() -> None:
        asked = Embedded(model, servers=1)
        plain, tokens = await asked.surprisal("I lost my card yesterday.")
        odd, _ = await asked.surprisal("I lost my zebra sideways.")
        assert tokens == 6
        assert 0 < plain < odd
        assert await asked.surprisal("I lost my card yesterday.") == (plain, tokens)
        with pytest.raises(RowFault):
            await asked.surprisal("<|im_start|>user")
        await asked.close()

    asyncio.run(ask())
