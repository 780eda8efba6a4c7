"""Prices out of litellm's own file: known ones as it says, unknown ones never 0."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from qdcgen.model.prices import _file, price, providers, rates

MAP = _file("model_prices_and_context_window_backup.json")


def names(own, *, slash):
    """Names of the map's priced chat models of one provider, with or without its name before them."""
    return [
        name
        for name, record in MAP.items()
        if record.get("litellm_provider") == own
        and record.get("mode") == "chat"
        and ("/" in name) == slash
        and "search" not in name
        and record.get("input_cost_per_token")
        and record.get("output_cost_per_token")
    ]


def listed(name):
    return MAP[name]["input_cost_per_token"], MAP[name]["output_cost_per_token"]


def test_a_model_costs_what_is_on_its_makers_price_list():
    assert price("openai/gpt-4o-mini") == pytest.approx((0.15e-6, 0.6e-6))
    assert price("openai/gpt-4o-mini-2024-07-18") == pytest.approx((0.15e-6, 0.6e-6))
    assert price("gpt-5-mini") == pytest.approx((0.25e-6, 2e-6))


@pytest.mark.parametrize(
    ("provider", "own"),
    [
        ("openai", "openai"),
        ("anthropic", "anthropic"),
        ("bedrock", "bedrock"),
        ("bedrock", "bedrock_converse"),
        ("vertex_ai", "vertex_ai-language-models"),
        ("cohere", "cohere_chat"),
    ],
)
def test_a_provider_may_stand_before_a_name_that_the_map_spells_without(provider, own):
    found = [name for name in names(own, slash=False) if f"{provider}/{name}" not in MAP]
    assert found
    for name in found:
        assert price(f"{provider}/{name}") == price(name) == listed(name)


@pytest.mark.parametrize("provider", ["azure", "groq", "gemini", "mistral", "deepinfra"])
def test_a_name_that_the_map_spells_with_its_provider_needs_it(provider):
    found = names(provider, slash=True)
    assert found
    for name in found:
        assert price(name) == listed(name)


@pytest.mark.parametrize(
    "model",
    [
        "openai/no-such-model",
        "openai/gpt-4o-mini-2031-01-01",  # a date that the map does not spell is not guessed
        "anthropic/gpt-4o-mini",  # another provider's model
        "openai/gemini-2.5-pro",
        "mistral/gpt-4o-mini",
        "ollama/no-such-model",
        "ollama/gpt-oss:120b-cloud",  # runs at ollama.com on a subscription; the map says 0
        "sample_spec",  # the map's own description of itself: prices of 0
        "perplexity/sonar",  # a fee for each search besides
        "text-embedding-3-small",
        "dall-e-3",
        "openai/",
        "/",
        "",
    ],
)
def test_an_unknown_price_is_unknown(model):
    assert price(model) is None


@pytest.mark.parametrize(
    "model", ["embedded", "embedded:small", "embedded:/x.gguf", "ollama/llama3", "ollama_chat/llama3"]
)
def test_what_runs_on_the_users_own_machine_is_free(model):
    assert price(model) == (0.0, 0.0)


def test_no_price_is_0_unless_it_runs_on_the_users_own_machine():
    free = {name for name in MAP if (known := price(name)) and not all(known)}
    assert free
    assert {MAP[name]["litellm_provider"] for name in free} <= {"ollama", "lemonade"}


def test_most_talking_models_of_the_map_have_a_price():
    talking = [name for name, record in MAP.items() if record.get("mode") == "chat"]
    assert sum(price(name) is not None for name in talking) > 0.85 * len(talking)


def alias(model, **settings):
    return SimpleNamespace(**{"model": model, "api_base": None, "price": None, **settings})


def test_the_recipes_own_price_wins():
    assert rates(alias("openai/gpt-4o-mini", price=SimpleNamespace(input=3, output=4))) == (3e-6, 4e-6)


def test_a_known_name_at_another_address_has_no_known_price():
    assert rates(alias("openai/gpt-4o-mini")) == price("gpt-4o-mini")
    assert rates(alias("openai/gpt-4o-mini", api_base="http://localhost:8000/v1")) is None
    assert rates(alias("azure/gpt-5-mini", api_base="https://me.openai.azure.com")) == price("azure/gpt-5-mini")
    assert price("azure/gpt-5-mini")
    assert rates(alias("ollama/llama3", api_base="http://other:11434/v1")) == (0.0, 0.0)


def test_the_known_providers_are_first_words_of_names():
    assert {"openai", "anthropic", "gemini", "azure", "bedrock", "mistral", "groq", "openrouter"} <= providers()
    assert not any("/" in name or not name for name in providers())


def test_litellm_is_not_imported_for_a_price():
    probe = (
        "import sys; from qdcgen.model.prices import price, providers; "
        "print(price('openai/gpt-4o-mini') is not None, bool(providers()), 'litellm' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "True", "False"]
