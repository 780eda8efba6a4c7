"""The nearest vector is exact, and the same whatever it is looked up with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qdcgen.embedders.bge import Bge
from qdcgen.embedders.wordllama import Wordllama
from qdcgen.errors import MissingExtra
from qdcgen.nearness import BLOCK, Near, alone, label, vectors


def unit(n: int, width: int = 16, seed: int = 0) -> Any:
    found = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def held(some: Any) -> Near:
    near = Near()
    near.add(some)
    return near


def test_it_finds_what_comparing_all_with_all_finds_across_blocks() -> None:
    some, asked = unit(2 * BLOCK + 5), unit(300, seed=1)
    exact = np.round(asked.astype(np.float64) @ some.astype(np.float64).T, 4)
    expected = list(zip(exact.argmax(axis=1).tolist(), exact.max(axis=1).tolist(), strict=True))
    assert held(some).best(asked) == expected
    assert [one for vector in asked for one in held(some).best(vector[None])] == expected


def test_growing_bit_by_bit_changes_nothing() -> None:
    some, asked = unit(BLOCK + 100), unit(20, seed=1)
    near = Near()
    for start in range(0, len(some), 777):
        near.add(some[start : start + 777])
    assert len(near) == len(some)
    assert near.best(asked) == held(some).best(asked)


def test_of_equals_the_earliest_is_named_and_equal_means_to_four_decimals() -> None:
    one = unit(1)
    nudged = one + np.float32(1e-6)
    assert held(np.concatenate([unit(3, seed=2), nudged, one, one])).best(one) == [(3, 1.0)]


def test_since_leaves_out_what_was_held_before() -> None:
    one = unit(1)
    near = held(np.concatenate([one, unit(BLOCK, seed=3), one]))
    assert near.best(one, since=1) == [(BLOCK + 1, 1.0)]
    assert near.best(one, since=len(near)) == [None]
    assert Near().best(one) == [None]


def test_wordllama_may_be_asked_for_many_texts_at_once() -> None:
    assert not alone(Wordllama().embed)
    assert label(Wordllama().embed) == Wordllama().label
    assert label(lambda texts: unit(len(texts))) == "the embedder"


def test_bge_moves_with_the_batch_and_one_by_one_it_does_not() -> None:
    embed = Bge().embed
    try:
        assert alone(embed)
    except MissingExtra as error:
        pytest.skip(str(error))
    texts = ["Where is my card?", "My transfer to a friend has been pending for two days now", "hello"]
    one = vectors(embed, texts, one_by_one=True)
    assert (one == vectors(embed, texts[::-1], one_by_one=True)[::-1]).all()
    assert np.abs(one - vectors(embed, texts, one_by_one=False)).max() > 1e-3
