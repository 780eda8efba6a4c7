"""The transport for the model that comes with the install: in-process, on the CPU, no key and no network.

One server per core, each with one thread and one sequence, so a reply is a pure function of its request: not of the
server that answered, of the order, or of what was answered before. All figures here: Qwen2.5-Coder-1.5B Q4_K_M on
one AVX2 core of an AMD EPYC, prompts of 110 tokens, replies of 90.

* Free reuse of the prompt cache (the runtime's default) changes replies: at temperature 0.8 with fixed seeds, 9 of 10
  replies differed from those of a fresh server. The runtime's arithmetic depends on how many tokens it evaluates
  together, and reuse changes that number. So reuse is confined to one boundary that depends on the request alone: the
  end of a leading system message, evaluated alone from an empty cache (`_prime`), with the rest evaluated from
  there. Requests without such a message reuse nothing.
* Putting the cache back at the boundary costs 0.10 s a reply; a system message of 49 tokens costs 0.83 s without.
* Weights are used as mapped, not repacked: one reply costs 3 % more (48 against 41 ms a token out, but 17 against 21
  ms a token in), a server loads in 1.0 s instead of 2.4 … 3.8 and holds 0.25 GB of its own instead of 0.87.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import re
import secrets
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from qdcgen.errors import MissingExtra, RowFault, UsageError
from qdcgen.model import weights
from qdcgen.rows import Reply
from qdcgen.safe import of_no_turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qdcgen.rows import Request

__all__ = ["CONTEXT", "Embedded"]

CONTEXT = 4096
"""Tokens of prompt and reply together. The cache takes 28 KiB a token for the 1.5B model: 112 MiB a server."""

_MIN_P = 0.05
"""Tokens less likely than this share of the likeliest are never drawn. Without it a model this small derails at
temperature 0.8. Applied first: it leaves a few dozen of 151,936 tokens to sort, which saves about 2 ms a token."""

_SHARED = 80
"""Characters from which a system message is worth its own boundary: about 16 tokens, 0.27 s against 0.10 s."""

_SERVER = 400 * 2**20
"""Bytes of its own that one server may take: 0.25 GB measured, with room for long prompts."""

_KNOWN = frozenset(
    {
        *("type", "properties", "required", "items", "enum", "const", "anyOf", "minItems", "maxItems", "pattern"),
        *("minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    }
)
_PATH = 100
"""Characters of a socket's path: systems allow 104 … 108."""

_START = "<|endoftext|>"
"""What Qwen was trained to begin a text after."""

_BEYOND = re.compile(r"\(\?[=!<]|\\[1-9bBAZzGkK]")  # look-around, back-references, boundaries: not regular

_OPEN: WeakSet[Embedded] = WeakSet()


class Embedded:
    """The embedded model: `embedded` (1.5B), `embedded:small` (0.5B) or `embedded:<path of a GGUF file>`.

    `name` is what journals key replies by; `in_flight` is how many requests are answered at once (one per core).
    """

    def __init__(self, model: str = "embedded", *, servers: int | None = None) -> None:
        """Cheap: nothing is loaded before the first `ask`. `QDCGEN_EMBEDDED_MODEL` (a path) replaces plain `embedded`.

        Raises:
            UsageError: `model` names a file that is not there or is not GGUF, or is no word known here.

        """
        _, _, which = model.partition(":")
        if not which:
            which = os.environ.get("QDCGEN_EMBEDDED_MODEL", "")
        self._weights: weights.Weights | None = None
        self._file: Path | None = None
        if which in {"", "small"}:
            self._weights = weights.SMALL if which else weights.LARGE
            self.name = f"embedded:{self._weights.name}"
        else:
            self._file = Path(which).expanduser()
            self.name = f"embedded:{self._file.name}:{_mark(self._file)}"
        self.in_flight = max(1, servers or _room())
        self.price: tuple[float, float] | None = (0.0, 0.0)
        self._lock = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._workers: list[_Worker] = []
        self._idle = 0
        self._closed = False

    async def ask(self, request: Request) -> Reply:
        """Answer one request. Blocks no event loop; cancelling it stops the generation within one token.

        Raises:
            MissingExtra: the runtime or the weights are not installed.
            UsageError: the model file cannot be loaded, or the cache folder cannot hold it.
            RowFault: `context` when prompt and context do not fit, `request` when the runtime refuses the request.
            RuntimeError: after `close`.

        """
        reply: Reply = await self._queue(_Job(request))
        return reply

    async def surprisal(self, text: str) -> tuple[float, int]:
        """Nats that `text` costs from nothing, and its tokens. The price of a reply as long: 48 ms a token.

        The text is forced by a grammar that allows nothing else, and the runtime reports each token's log-probability
        over the whole vocabulary, before the grammar. Against asking for each token alone with all 151,936
        probabilities listed: at most 0.0003 nats a token apart when the prefix is evaluated token by token as here, and
        0.03 (0.06 of 102 in all) when it is evaluated at once, which is the arithmetic's own noise.

        Raises:
            RowFault: `tokens` for an empty text, one too long, one that holds a control token's name (`<|`), or one
                that the model would cut into other tokens than its tokenizer does (rare scripts, emoji): its sum would
                be of another sequence.
            MissingExtra, UsageError, RuntimeError: as for `ask`.

        """
        found: tuple[float, int] = await self._queue(_Job(text))
        return found

    async def _queue(self, job: _Job) -> Any:
        with self._lock:
            if self._closed:
                message = "this model is closed"
                raise RuntimeError(message)
            self._waiting.append(job)
            if len(self._waiting) > self._idle and len(self._workers) < self.in_flight:
                self._workers.append(_Worker(self))
                _OPEN.add(self)
            self._lock.notify()
        try:
            return await asyncio.wrap_future(job.reply)
        finally:
            job.dropped = True

    async def close(self) -> None:
        """Free the servers. Waits for the replies in flight; requests not yet begun are cancelled."""
        await asyncio.to_thread(self.end, None)

    def end(self, seconds: float | None, *, now: bool = False) -> None:
        """Let every worker leave. `now` drops replies in flight too; `seconds` bounds the wait for each worker."""
        with self._lock:
            self._closed = True
            for job in self._waiting:
                job.reply.cancel()
            self._waiting.clear()
            workers = list(self._workers)
            for worker in workers:
                if now and worker.job is not None:
                    worker.job.dropped = True
            self._lock.notify_all()
        for worker in workers:
            worker.thread.join(seconds)

    def next_for(self, held: str) -> _Job | None:
        """The next request for a server that holds the system message `held`; None when closed.

        A request of the same system message goes first, since it is cheaper there; its reply is the same anywhere.
        """
        with self._lock:
            self._idle += 1
            while not self._waiting and not self._closed:
                self._lock.wait()
            self._idle -= 1
            if self._closed:
                return None
            # Among a few at the head only: nobody waits for long.
            near = [n for n, job in enumerate(self._waiting) if n < self.in_flight and job.system == held]
            job = self._waiting[near[0] if near else 0]
            self._waiting.remove(job)
            return job

    def whole(self) -> Path:
        """The model file, joined first if need be; one thread at a time, since joining takes seconds."""
        with _JOINING:
            return self._file or weights.joined(self._weights or weights.LARGE)


_JOINING = threading.Lock()


class _Job:
    """One request, or one text to score, on its way. `dropped` tells the server that nobody waits any more."""

    __slots__ = ("dropped", "reply", "request", "system")

    def __init__(self, request: Request | str) -> None:
        # The runtime reads control tokens in a message's content too: 1 token for `<|im_end|>`, and a turn is over.
        self.request = request if isinstance(request, str) else _of_one_turn_each(request)
        self.system = "" if isinstance(self.request, str) else _shared(self.request)
        self.reply: Future[Any] = Future()
        self.dropped = False


class _Worker:
    """One thread with one server of its own."""

    def __init__(self, model: Embedded) -> None:
        self.model = model
        self.job: _Job | None = None
        # A daemon, so that no reply holds up the end of the process; `_leave` drops what runs by then.
        self.thread = threading.Thread(target=self._run, name="qdcgen-embedded", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        server: _Server | None = None
        while (job := self.model.next_for(server.held if server else "")) is not None:
            if not job.reply.set_running_or_notify_cancel():
                continue
            self.job = job
            try:
                if server is None:
                    server = _Server(self.model.whole(), self.model.name)
                asked = job.request
                found = server.score(asked) if isinstance(asked, str) else server.answer(asked, job)
            except BaseException as fault:  # noqa: BLE001  the asker gets it, whatever it is
                job.reply.set_exception(fault)
            else:
                job.reply.set_result(found)
            self.job = None
            del job


class _Server:
    """One runtime server: one thread, one sequence, and at most one system message kept between replies."""

    def __init__(self, file: Path, name: str) -> None:
        if find_spec("xllamacpp") is None:
            what = "model: embedded"
            raise MissingExtra(what, "embedded")
        import xllamacpp  # 100 MB of shared object: only who asks pays

        self._grammar = xllamacpp.json_schema_to_grammar
        self.name = name
        self.held = ""
        self._floor = CONTEXT
        self._primes = True
        settings = xllamacpp.CommonParams()
        settings.model.path = str(file)
        settings.n_ctx = CONTEXT
        settings.n_parallel = 1  # sequences evaluated together change each other's last bits
        settings.cpuparams.n_threads = 1  # two threads on a busy machine spend it waiting for each other
        settings.cpuparams_batch.n_threads = 1
        settings.n_gpu_layers = 0
        settings.no_extra_bufts = True
        settings.cache_ram_mib = 0  # its store of old states would bring back cells that other batches evaluated
        settings.n_ctx_checkpoints = 0
        settings.fit_params = False
        settings.warmup = False
        settings.endpoint_slots = False
        settings.verbosity = -1  # errors come back as replies; stderr is the user's
        # The runtime insists on a port of its own. Nobody may speak to it: a socket in a private folder, gone once
        # it is bound, and a key that nobody knows.
        settings.api_keys = [secrets.token_hex(32)]
        folder = Path(tempfile.mkdtemp(prefix="qdcgen-"))
        socket = folder / "closed.sock"
        try:
            if os.name != "nt" and len(str(socket)) < _PATH:
                settings.hostnames = [str(socket)]
            self._runtime: Any = xllamacpp.Server(settings)
        except RuntimeError as fault:
            found = f"{file.stat().st_size:,} bytes" if file.is_file() else "no such file"
            message = f"{file}: the runtime cannot load it (found {found}); expected a whole GGUF file of a chat model"
            raise UsageError(message) from fault
        finally:
            with suppress(OSError):
                socket.unlink(missing_ok=True)
                folder.rmdir()

    def score(self, text: str) -> tuple[float, int]:
        """Nats and tokens of `text`; see `Embedded.surprisal`."""
        if not text or "<|" in text:
            raise RowFault("tokens", "surprisal is not defined for an empty text or one that holds `<|`")
        self.held = ""
        forced = f"%llguidance {{}}\nstart: {json.dumps(text, ensure_ascii=False)}"
        body = {"n_predict": CONTEXT, "temperature": 0.0, "cache_prompt": False, "grammar": forced, "n_probs": 1}
        found = self._runtime.handle_completions({**body, "prompt": _START})
        if "error" in found:
            raise _refused(found["error"])
        choice = found["choices"][0]
        # The last one is the end of the text, which is no part of it.
        marks = choice["logprobs"]["content"][:-1]
        if choice["text"] != text or choice["finish_reason"] != "stop":
            raise RowFault("tokens", f"the text does not fit {CONTEXT:,} tokens, or holds what no token spells")
        # The cache now holds the forced tokens. Asking for the text itself finds them again only if the tokenizer cuts
        # it the same way; one token is always evaluated anew, and the count settles that one.
        again = self._runtime.handle_completions({"prompt": _START + text, "n_predict": 1, "cache_prompt": True})
        if "error" in again:
            raise _refused(again["error"])
        if (again["usage"]["prompt_tokens"], again["timings"]["cache_n"]) != (len(marks) + 1, len(marks)):
            raise RowFault("tokens", "the model cuts this text into other tokens than its tokenizer does")
        return -sum(mark["logprob"] for mark in marks), len(marks)

    def answer(self, request: Request, job: _Job) -> Reply:
        """The reply to the request of `job`. A pure function of the request; see the module's text."""
        began = time.monotonic()
        body: dict[str, Any] = {
            "messages": list(request.messages),
            "temperature": request.temperature,
            "top_p": request.top_p,
            "min_p": _MIN_P,
            "samplers": ["min_p", "top_p", "temperature"],
            "max_tokens": request.max_tokens,
            "seed": request.seed,
            "cache_prompt": False,
        }
        if request.schema is not None:
            body["grammar"] = self._grammar(_bounded(request.schema))
        system = job.system if self._primes else ""
        if system:
            body["cache_prompt"] = self._prime(system, afresh=self.held != system)
        if not body["cache_prompt"]:
            self.held = ""
        try:
            text, end = self._stream(body, job)
            if self.held and end["cached"] > self._floor:
                # A template that writes text straight behind the system message can move the boundary by a token;
                # cells beyond the lowest boundary so far were not evaluated alone. Never seen with Qwen's template.
                self._prime(system, afresh=True)
                text, end = self._stream(body, job)
            self._floor = min(self._floor, end["cached"])
        except BaseException:
            self.held = ""
            raise
        return Reply(
            text=text,
            model=self.name,
            tokens_in=end["tokens_in"],
            tokens_out=end["tokens_out"],
            cost=0.0,
            finish=end["finish"],
            seconds=time.monotonic() - began,
        )

    def _prime(self, system: str, *, afresh: bool) -> bool:
        """Put the cache back to the system message alone; `afresh` evaluates it again from nothing.

        False when the model's template takes no system message by itself: this model then reuses nothing, ever.
        """
        self.held = ""
        body = {
            "messages": [{"role": "system", "content": system}],
            "max_tokens": 1,
            "temperature": 0.0,
            "cache_prompt": not afresh,
        }
        try:
            self._stream(body, None)
        except RowFault as fault:
            if fault.kind != "context":  # too long is this row's own matter, and comes up again at once
                self._primes = False
            return False
        if afresh:
            self._floor = CONTEXT
        self.held = system
        return True

    def _stream(self, body: dict[str, Any], job: _Job | None) -> tuple[str, dict[str, Any]]:
        """Ask the runtime; its tokens come one by one, so that a dropped request can be stopped between two of them."""
        words: list[str] = []
        end: dict[str, Any] = {"finish": "stop", "cached": 0, "tokens_in": None, "tokens_out": None}
        faults: list[Mapping[str, Any]] = []

        def hear(piece: Mapping[str, Any]) -> bool:
            if "error" in piece:
                faults.append(piece["error"])
                return True
            for choice in piece.get("choices", ()):
                words.append(choice["delta"].get("content") or "")
                end["finish"] = choice.get("finish_reason") or end["finish"]
            if usage := piece.get("usage"):
                end["tokens_in"], end["tokens_out"] = usage["prompt_tokens"], usage["completion_tokens"]
                end["cached"] = piece["timings"]["cache_n"]
            return job is not None and job.dropped

        self._runtime.handle_chat_completions({**body, "stream": True, "stream_options": {"include_usage": True}}, hear)
        if faults:
            raise _refused(faults[0])
        if job is not None and job.dropped:
            raise asyncio.CancelledError
        return "".join(words), end


def _refused(fault: Mapping[str, Any]) -> RowFault:
    if fault.get("type") == "exceed_context_size_error":
        reason = (
            f"the prompt has {fault.get('n_prompt_tokens'):,} tokens, the embedded model takes {CONTEXT:,} of prompt "
            "and reply together; shorten the prompt, or give this step another model"
        )
        return RowFault("context", reason)
    return RowFault("request", f"the embedded model refused the request: {fault.get('message', fault)}")


def _of_one_turn_each(request: Request) -> Request:
    """The request with no message that could end its own turn."""
    messages = [{**message, "content": of_no_turn(message["content"])} for message in request.messages]
    return replace(request, messages=messages)


def _shared(request: Request) -> str:
    """The leading system message that many requests may share; empty when there is none worth a boundary.

    Depends on the request alone, so that how a prompt is evaluated does too.
    """
    if len(request.messages) < 2:  # noqa: PLR2004
        return ""
    first, second = request.messages[0], request.messages[1]
    if first["role"] == "system" and second["role"] == "user" and len(first["content"]) >= _SHARED:
        return first["content"]
    return ""


def _bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What the grammar can hold of a schema, on one line of JSON.

    A keyword beyond the grammar would make the runtime drop it whole, without a word; left out here, it is still
    checked on the reply. Without the fixed separators the small model fills its reply with blank lines: 3 of 8 did.
    """
    form: dict[str, Any] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return {**_known(schema), "x-guidance": form}


def _known(schema: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: value for key, value in schema.items() if key in _KNOWN}
    if "properties" in kept:
        kept["properties"] = {name: _known(inner) for name, inner in kept["properties"].items()}
        kept["additionalProperties"] = False
    if "items" in kept:
        kept["items"] = _known(kept["items"])
    if "anyOf" in kept:
        kept["anyOf"] = [_known(inner) for inner in kept["anyOf"]]
    if _BEYOND.search(kept.get("pattern", "")):
        del kept["pattern"]
    return kept


def _mark(file: Path) -> str:
    """12 hex digits that tell one model file from another: SHA-256 of its size, first and last MiB.

    Raises:
        UsageError: no such file, or not GGUF.

    """
    try:
        with file.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            head = source.read(1 << 20)
            source.seek(max(0, size - (1 << 20)))
            tail = source.read(1 << 20)
    except OSError as fault:
        message = (
            f"{file}: cannot read the model ({fault.strerror}); expected `embedded`, `embedded:small` "
            "or `embedded:<path of a GGUF file>`"
        )
        raise UsageError(message) from fault
    if not head.startswith(b"GGUF"):
        message = (
            f'{file}: not a model file: found {json.dumps(head[:4].decode("latin-1"))} at its start, expected "GGUF"'
        )
        raise UsageError(message)
    return sha256(str(size).encode() + head + tail).hexdigest()[:12]


def _room() -> int:
    """Servers that fit: one per core that this process may use, as long as half the memory holds them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return cores
    return min(cores, memory // 2 // _SERVER)


@atexit.register
def _leave() -> None:
    """Stop every generation before the interpreter is taken apart under it: a token takes 50 ms."""
    for model in list(_OPEN):
        model.end(2.0, now=True)
