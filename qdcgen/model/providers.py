"""The transport for every provider that litellm knows: one call of litellm is one try, and its errors become ours."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from qdcgen.errors import ModelRefused, QdcgenError, RowFault, TryAgain, UsageError
from qdcgen.model.openai import AGAIN, STOP, _is_about_schemas, _seconds
from qdcgen.model.prices import rates
from qdcgen.model.replies import instructed, schema_text
from qdcgen.rows import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qdcgen.rows import Request

__all__ = ["Provider"]

SPEAKS_OPENAI = frozenset({"openai", "hosted_vllm", "lm_studio", "llamafile", "ollama", "ollama_chat"})
"""Providers that are tried with a JSON Schema first: litellm knows nothing of the models behind their addresses."""

MACHINES_KEY = frozenset(
    {"chatgpt", "databricks", "github_copilot", "gigachat", "vertex_ai", "vertex_ai_beta", "watsonx"}
)
"""Providers whose tokens litellm takes from the machine whatever key it is given, and sends to any `api_base`."""

MACHINES_TOKENS = (
    "azure",
    "AZURE_AD_TOKEN",
    "AZURE_OPENAI_AD_TOKEN",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_USERNAME",
)
"""First words of providers, and the variables that make litellm send a machine's token besides the given key."""

NO_KEY = "none"
"""What goes to an address for which the recipe names no key: given nothing, litellm would take OPENAI_API_KEY."""

STOPPING = ("insufficient_quota", "credit balance is too low", "billing_hard_limit", "LLM Provider NOT provided")
"""Words of a 429 or a 400 that neither waiting nor another row helps against; the last are litellm's own."""

SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)\Z", re.IGNORECASE)
"""Names of variables whose values never stand in a message."""
SHORTEST_SECRET = 6
"""Letters; shorter values (`none`, `true`) are no secrets and would blank out words."""

NOISE = (r"Items? '.*' on TypedDict class .* `ReadOnly`", "Pydantic serializer warnings")
"""What pydantic says of litellm's own records, at the first call and at replies with fields of a provider's own."""

_NO_KEY_FOUND = re.compile(r"missing[\w ]{0,40}(key|credentials)", re.IGNORECASE)
"""How litellm words, under a status of 500 that it makes up, that it found no key."""
_PREFIX = re.compile(r"\A(?:(?:litellm\.\w+|\w+ ?Error): |\w+Exception(?: \w+)? - )*")


@cache
def _litellm() -> Any:
    """The module, imported once and made quiet: 1.5 to 4 s of CPU, which only a recipe that needs it pays."""
    # Before the import, which otherwise fetches its price list from the network, and reads a .env file into the
    # environment: a key that the user did not export must not be sent, and a recipe's folder is data.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = "True"
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    import logging
    import warnings

    with warnings.catch_warnings():
        # What it and its dependencies say of their own coming versions; ours to change nothing about.
        warnings.simplefilter("ignore", DeprecationWarning)
        import litellm

    for words in NOISE:
        warnings.filterwarnings("ignore", words, UserWarning)
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # it logs whole requests, and to stdout
    litellm.telemetry = False
    litellm.suppress_debug_info = True  # "Give Feedback / Get Help", printed at each error
    litellm.drop_params = True
    litellm.num_retries = None
    litellm.cache = None
    _keep_keys_home(litellm.in_memory_llm_clients_cache)
    return litellm


def _keep_keys_home(clients: Any) -> None:
    """Make every HTTP client that litellm makes from now on follow no redirect.

    It follows them by default; httpx then takes `Authorization` off at another host, but not `x-api-key`, `api-key` or
    `x-goog-api-key`. All its async clients come by its cache before their first request.
    """
    keep = clients.set_cache

    def straight(key: str, value: object, *rest: Any, **named: Any) -> None:
        for client in (value, getattr(value, "_client", None), getattr(value, "client", None)):
            if hasattr(client, "follow_redirects"):
                client.follow_redirects = False
        keep(key, value, *rest, **named)

    clients.set_cache = straight


_asking: set[Provider] = set()
"""Those whose connections are open. litellm pools the connections of all of them; the last one to close closes them."""


class Provider:
    """One provider's model under one alias, by litellm: 2.4 ms of CPU a call, the direct road takes 0.1 to 0.2."""

    def __init__(self, alias: Any) -> None:
        """`alias` has the fields of `recipe.Alias`. Imports and connects at the first call.

        Raises:
            UsageError: an address with a provider whose credentials are the machine's, which would go there.
        """
        self.name: str = alias.model
        self.in_flight: int = alias.max_in_flight
        self.timeout: float = alias.timeout
        self.api_base: str | None = alias.api_base
        self.variable: str = alias.key or ""
        self.own_price = bool(alias.price)
        self.price = rates(alias)
        self.provider = alias.model.partition("/")[0]
        if self.api_base and (self.provider in MACHINES_KEY or self._has_machines_token()):
            raise UsageError(
                f"{self.name}: api_base {self.api_base}: this machine's own credentials for {self.provider} would be "
                "sent to that address; leave api_base out"
            )
        self._schemas: bool | None = None
        """Whether the model takes JSON Schemas; None until the first request that has one."""

    def _has_machines_token(self) -> bool:
        first, *variables = MACHINES_TOKENS
        return self.provider.startswith(first) and any(os.environ.get(name) for name in variables)

    async def ask(self, request: Request) -> Reply:
        """One try.

        Raises:
            TryAgain: 408, 409, 425, 429, 5xx, no answer in time, a connection that broke, a body that is no completion.
            RowFault: the provider refuses this one request (other 4xx), or its reply is empty or a refusal.
            ModelRefused: 401, 402, 403, 404, a quota that is used up, or no key.
        """
        litellm = _litellm()
        _asking.add(self)
        settings = self._settings(litellm, request)
        began = time.perf_counter()
        try:
            # litellm's own limit is for each read of a socket; a server that sends a byte now and then outlives it.
            async with asyncio.timeout(self.timeout):
                said = await litellm.acompletion(**settings)
        except TimeoutError:
            raise TryAgain("timeout", f"{self.name}: no answer within {self.timeout:g} s") from None
        except Exception as error:  # noqa: BLE001 - litellm lets through whatever a provider's code raises
            if settings.get("response_format") and _is_about_schemas(str(error).encode()):
                self._schemas = False  # found out once a run: from now on the prompt says how the reply must look
                return await self.ask(request)
            raise self._ours(litellm, error) from None
        if said is None:  # at a 422 litellm leaves settings out, asks once more, and then forgets what the server said
            raise RowFault("refused by server", f"{self.name}: 422: the server does not take such a request")
        return self._reply(said, time.perf_counter() - began)

    def _settings(self, litellm: Any, request: Request) -> dict[str, Any]:
        """Arguments of `litellm.acompletion`."""
        settings: dict[str, Any] = {
            "model": self.name,
            "messages": [dict(message) for message in request.messages],
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
            "seed": request.seed,
            "timeout": self.timeout,
            "num_retries": 0,
            "max_retries": 0,
            "caching": False,
        }
        if "claude" in self.name:
            del settings["top_p"]  # from 4.1 on they refuse a request that has both
        if self.api_base:
            settings["api_base"] = self.api_base
        if key := self._key():
            settings["api_key"] = key
        if request.schema is not None:
            if self._takes_schemas(litellm):
                form = {"name": "reply", "strict": True, "schema": orjson.loads(schema_text(request.schema))}
                settings["response_format"] = {"type": "json_schema", "json_schema": form}
            else:
                settings["messages"] = instructed(request.messages, request.schema)
        return settings

    def _key(self) -> str:
        """The key to send; empty where litellm is to take the provider's own from its own variable.

        Raises:
            ModelRefused: the variable that the recipe names is empty.
        """
        if self.variable:
            if not (secret := os.environ.get(self.variable, "").strip()):
                raise ModelRefused(f"{self.name}: no key; type: export {self.variable}=…")
            return secret
        return NO_KEY if self.api_base else ""

    def _takes_schemas(self, litellm: Any) -> bool:
        if self._schemas is None:
            self._schemas = self.provider in SPEAKS_OPENAI or bool(litellm.supports_response_schema(model=self.name))
        return self._schemas

    def _reply(self, said: Any, seconds: float) -> Reply:
        try:
            choice = said.choices[0]
            text, finish = choice.message.content, str(choice.finish_reason or "stop")
        except (AttributeError, LookupError, TypeError):
            raise TryAgain("no completion", f"{self.name} sent no chat completion: {self._plain(str(said))}") from None
        # litellm writes 0 where the provider says nothing, and neither a prompt nor a text has 0 tokens.
        usage = getattr(said, "usage", None)
        tokens_in = getattr(usage, "prompt_tokens", None) or None
        tokens_out = getattr(usage, "completion_tokens", None) or None
        clean = text.encode("utf-8", "replace").decode() if isinstance(text, str) else ""
        cost = self._cost(said, tokens_in, tokens_out)
        reply = Reply(clean, self.name, None, tokens_in, tokens_out, cost, finish, seconds)
        if not clean:
            fields = getattr(choice.message, "provider_specific_fields", None) or {}
            refusal = fields.get("refusal") or (finish == "content_filter" and "the provider's filter took the reply")
            why = refusal or "the reply is empty"
            raise RowFault("refused" if refusal else "empty", f"{self.name}: {self._plain(str(why))}", paid=reply)
        return reply

    def _cost(self, said: Any, tokens_in: int | None, tokens_out: int | None) -> float | None:
        """US dollars: at the recipe's price, else as litellm counts (caches and tiers included), else at the map's."""
        # Its 0 stands for an unknown price as well, and at another address it goes by a name that means nothing there.
        if not self.own_price and self.price is not None:
            counted = getattr(said, "_hidden_params", {}).get("response_cost")
            if isinstance(counted, float) and counted > 0:
                return counted
        if self.price is None or tokens_in is None or tokens_out is None:
            return None
        return tokens_in * self.price[0] + tokens_out * self.price[1]

    def _ours(self, litellm: Any, error: Exception) -> QdcgenError:
        """The error as one of ours: by what the network said, then by the HTTP status, then by its class."""
        behind = list(_behind(error))
        if kind := _broken(behind):
            what = {"timeout": f"no answer within {self.timeout:g} s"}.get(kind, self._plain(str(error)))
            return TryAgain(kind, f"{self.name}: {what}")
        status, headers = _answered(behind)
        text = str(error)
        everything = " ".join(str(one) for one in behind)
        invented = status is None
        if status is None:
            if missing := next((one for one in behind if isinstance(one, ImportError)), None):
                return ModelRefused(f"{self.name}: litellm lacks a package: {self._plain(str(missing))}")
            if _NO_KEY_FOUND.search(text):
                return ModelRefused(f"{self.name}: {self._plain(text)}")
            status = int(getattr(error, "status_code", 0) or 0)
        said = f"{status}: {self._plain(text)}" if status else self._plain(text)
        if status in STOP or any(word in everything for word in STOPPING):
            return ModelRefused(f"{self.name} refuses: {said}")
        if isinstance(error, litellm.exceptions.ContentPolicyViolationError):
            return RowFault("refused", f"{self.name}: {said}")
        if invented and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return TryAgain("no completion", f"{self.name} sent no chat completion: {self._plain(text)}")
        if status in AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return TryAgain(str(status), f"{self.name}: {said}", _seconds(headers.get("retry-after")))
        return RowFault("refused by server", f"{self.name}: {said}")

    def _plain(self, text: str) -> str:
        """A provider's words without litellm's, without any key, on one line of at most 300 letters."""
        for name, value in os.environ.items():
            if len(value) >= SHORTEST_SECRET and (name == self.variable or SECRET.search(name)):
                text = text.replace(value, "…")
        words = text.partition("Traceback (most recent call last)")[0].split()
        return _PREFIX.sub("", " ".join(words))[:300]

    async def close(self) -> None:
        """Close the connections, once nobody else is asking."""
        if self not in _asking:
            return
        _asking.discard(self)
        if _asking:
            return
        litellm = _litellm()
        # What it does after each call, with no callbacks set nothing but bookkeeping, waits in a queue of this loop.
        worker = getattr(sys.modules.get("litellm.litellm_core_utils.logging_worker"), "GLOBAL_LOGGING_WORKER", None)
        if worker is not None:
            await worker.flush()
            await worker.stop()
        await litellm.close_litellm_async_clients()
        # Clients are kept by the loop's address, which the next loop may have: it would be given closed ones.
        litellm.in_memory_llm_clients_cache.flush_cache()


def _behind(error: BaseException) -> Iterator[BaseException]:
    """The error and those that led to it, newest first."""
    seen: set[int] = set()
    now: BaseException | None = error
    while now is not None and id(now) not in seen:
        seen.add(id(now))
        yield now
        now = now.__cause__ or now.__context__


def _broken(behind: list[BaseException]) -> str | None:
    """`timeout`, `connection` or `reset` where the network failed; None where there was an answer."""
    import aiohttp
    import httpx

    for one in reversed(behind):  # the oldest knows best: litellm calls a reset connection an internal server error
        if isinstance(one, TimeoutError | httpx.TimeoutException):
            return "timeout"
        if isinstance(one, aiohttp.ClientConnectorError | ConnectionRefusedError):
            return "connection"
        if isinstance(one, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | ConnectionError):
            return "reset"
        if isinstance(one, httpx.TransportError):
            return "connection" if isinstance(one, httpx.ConnectError | httpx.ProxyError) else "reset"
    return None


def _answered(behind: list[BaseException]) -> tuple[int | None, dict[str, str]]:
    """Status and headers (names in lower case) of a provider's answer; None where litellm made the status up."""
    for one in behind:
        response = getattr(one, "response", None)
        headers = getattr(one, "litellm_response_headers", None) or getattr(response, "headers", None)
        status = getattr(one, "status_code", None) or getattr(response, "status_code", None)
        if headers and isinstance(status, int):
            return status, {str(name).lower(): str(value) for name, value in dict(headers).items()}
    return None, {}
