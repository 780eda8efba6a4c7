"""What a token costs: from the price map inside litellm's package, read as a file. No network, no import of litellm."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from qdcgen.errors import RunError

__all__ = ["price", "providers", "rates"]

PRICES, ENDPOINTS = "model_prices_and_context_window_backup.json", "provider_endpoints_support_backup.json"
"""Files of litellm's package: 3 MB of models (8 ms to read) and the list of its providers."""

TALKING = frozenset({"chat", "completion", "responses"})
"""Modes whose models answer in tokens; embeddings, images and searches are priced otherwise."""

OWN_MACHINE = frozenset({"ollama", "lemonade"})
"""Providers that run on the user's own machine: only theirs is a price of 0. The map also says 0 for previews, free
tiers, subscriptions and prices that nobody entered (2025: 106 of 3,235 models), which is to say that it is unknown."""

OTHER_WORDS = {"ollama_chat": "ollama"}
"""Provider as litellm spells a second way to it → as the map spells it."""

OWN_ADDRESS = frozenset({"azure", "azure_ai", "azure_text", "bedrock", "sagemaker", "databricks", "snowflake"})
"""Providers whose `api_base` is the customer's address at that provider, so that its prices hold there."""


@cache
def _file(name: str) -> Any:
    """A JSON file of litellm's package, parsed once.

    Raises:
        RunError: litellm is not installed, or carries no such file.
    """
    spec = find_spec("litellm")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / name).is_file():
        raise RunError(
            f"litellm's {name} is missing, so no price is known; type: pip install --force-reinstall litellm"
        )
    return orjson.loads((folder / name).read_bytes())


def price(model: str) -> tuple[float, float] | None:
    """US dollars per token, (input, output), of a name such as `openai/gpt-5-mini`; None where it is not known.

    The name must be spelled as the map spells it, dates included; its provider may stand before it where the map leaves
    it out. Never 0 for a price that nobody knows: 0 is for `embedded…` and for models of the map that run on the
    user's own machine. Models that cost a fee per call besides their tokens are unknown. The price is that of a plain
    call: no cache, no batch, and not the higher one that some models have beyond 128,000 tokens of prompt.
    """
    if model == "embedded" or model.startswith("embedded:"):
        return 0.0, 0.0
    found = _found(model)
    if found is None or found.get("mode") not in TALKING or _has_fee(model, found):
        return None
    given, made = found.get("input_cost_per_token"), found.get("output_cost_per_token")
    if not isinstance(given, int | float) or not isinstance(made, int | float):
        return None
    local = found["litellm_provider"] in OWN_MACHINE and not model.endswith("-cloud")  # those run at ollama.com
    return (float(given), float(made)) if (given > 0 and made > 0) or (local and given >= 0 and made >= 0) else None


def _found(model: str) -> dict[str, Any] | None:
    """The map's record of a name: under the name itself, else without its provider where that is the record's own."""
    prices = _file(PRICES)
    provider, slash, name = model.partition("/")
    provider = OTHER_WORDS.get(provider, provider)
    full = f"{provider}{slash}{name}"
    if full in prices:
        record = prices[full]
    else:
        record = prices.get(name)
        # `vertex_ai/gemini-2.5-pro` is the map's `gemini-2.5-pro` of `vertex_ai-language-models`.
        own = str(record.get("litellm_provider", "")) if record else ""
        if own != provider and not own.startswith((f"{provider}-", f"{provider}_")):
            return None
    return record if isinstance(record, dict) and "litellm_provider" in record else None


def _has_fee(model: str, found: dict[str, Any]) -> bool:
    """Whether each call costs something besides its tokens: a request, or the search that such models always make."""
    searches = found["litellm_provider"] == "perplexity" or "search" in model
    return "input_cost_per_request" in found or (searches and "search_context_cost_per_query" in found)


def rates(alias: Any) -> tuple[float, float] | None:
    """US dollars per token, (input, output), of an alias (fields of `recipe.Alias`); None where it is not known.

    The recipe's own price wins. A name at another address (`api_base`) is not the provider's model: what a server of
    one's own, or a reseller, takes for it is not known.
    """
    if alias.price:
        return alias.price.input / 1e6, alias.price.output / 1e6
    provider = alias.model.partition("/")[0]
    if alias.api_base and provider not in OWN_ADDRESS and OTHER_WORDS.get(provider, provider) not in OWN_MACHINE:
        return None
    return price(alias.model)


@cache
def providers() -> frozenset[str]:
    """Every provider that litellm knows, as the first word of a model's name: about 150."""
    listed = {name for name in _file(ENDPOINTS)["providers"] if "/" not in name}
    first = {name.partition("/")[0] for name, record in _file(PRICES).items() if _is_named_by_provider(name, record)}
    return frozenset(listed | first)


def _is_named_by_provider(name: str, record: dict[str, Any]) -> bool:
    return "/" in name and record.get("mode") in TALKING and name.partition("/")[0] == record.get("litellm_provider")
