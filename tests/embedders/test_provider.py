"""The provider embedder against a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qdcgen.embedders.provider import Provider
from qdcgen.errors import ModelRefused, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(find_spec("litellm") is None, reason="litellm is not installed"),
    pytest.mark.filterwarnings("ignore"),  # litellm and what it imports warn at will
]


class Host(BaseHTTPRequestHandler):
    """Answers each text with (letters, 1); what the key is decides the status."""

    asked: list[list[str]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = {"Bearer bad": 401, "Bearer broken": 400}.get(self.headers["Authorization"], 200)
        texts = body["input"]
        self.asked.append(texts)
        data = [{"object": "embedding", "index": i, "embedding": [len(t), 1.0]} for i, t in enumerate(texts)]
        said: dict[str, Any] = {
            "object": "list",
            "data": data[::-1],
            "model": "m",
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
        if status != 200:
            said = {"error": {"message": "no", "code": str(status)}}
        answer = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Stay quiet."""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Host]]:
    kind = type("OneHost", (Host,), {"asked": []})
    server = HTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_API_BASE", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "good")
    yield kind
    with suppress(RuntimeError):  # litellm opens an event loop in this thread and leaves it to the garbage collector
        asyncio.get_event_loop().close()
    asyncio.set_event_loop(None)
    server.shutdown()
    server.server_close()
    thread.join()


def test_batches_come_back_in_order_as_unit_rows(host: type[Host]) -> None:
    vectors = Provider(model="openai/m", batch=2).embed(["aaaa", "", "aaaaaaaa"])
    assert host.asked == [["aaaa", "."], ["aaaaaaaa"]]
    assert np.allclose(vectors, np.array([[4, 1], [1, 1], [8, 1]]) / np.sqrt([[17], [2], [65]]), atol=1e-5)


def test_a_refused_key_ends_the_run_and_a_bad_request_says_why(
    host: type[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "bad")
    with pytest.raises(ModelRefused, match="openai/m"):
        Provider(model="openai/m").embed(["a"])
    monkeypatch.setenv("OPENAI_API_KEY", "broken")
    with pytest.raises(RunError, match="no embeddings"):
        Provider(model="openai/m").embed(["a"])
    assert host.asked
