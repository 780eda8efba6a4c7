"""Published and golden values come out of our own code."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from qdcgen.metrics.lexical import compression_ratio, distinct
from qdcgen.metrics.vendi import vendi, vendi_of_vectors

DATA = Path(__file__).parents[2] / "../shared/data"
GOLDEN = DATA / "metric_reference/golden.json"

INNER = {
    "identical_8": (["the cat sat on the mat today"] * 8, 0.10714, 0.125, 6.4167, 1.0),
    "two_clusters_8": (
        ["the cat sat on the mat today"] * 4 + ["stock prices fell sharply after the report"] * 4,
        0.21429,
        0.25,
        3.8784,
        1.9368,
    ),
}


def unigrams(texts: list[str]) -> Any:
    from sklearn.feature_extraction.text import CountVectorizer

    counts = CountVectorizer(token_pattern=r"\S+").fit_transform(texts).toarray().astype(float)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def inputs(name: str) -> list[str]:
    if not GOLDEN.exists():
        pytest.skip(f"no {GOLDEN}")
    given = json.loads(GOLDEN.read_text())["inputs"][name]
    if isinstance(given, list):
        return [str(text) for text in given]
    if name.startswith("c4"):
        texts = pl.read_ndjson(DATA / "c4_demo/c4_demo.jsonl")["text"].to_list()
        return [text[:1500] for text in texts[:200]]
    texts = pl.read_csv(DATA / "banking77/train.csv")["text"].to_list()
    return texts[:200] if name.endswith("first200") else texts[::50][:200]


NAMES = [
    "identical_8",
    "disjoint_8",
    "diversity_readme_3",
    "two_clusters_8",
    "banking77_train_first200",
    "banking77_train_spread200",
    "c4_demo_first200",
]


@pytest.mark.parametrize("name", INNER)
def test_values_held_here_come_out(name: str) -> None:
    texts, one, two, ratio, score = INNER[name]
    assert distinct(texts, 1) == pytest.approx(one, abs=1e-5)
    assert distinct(texts, 2) == pytest.approx(two, abs=1e-5)
    assert compression_ratio(texts) == pytest.approx(ratio, abs=1e-4)
    assert vendi_of_vectors(unigrams(texts)) == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_golden_wording_figures_come_out(name: str) -> None:
    texts = inputs(name)
    values = json.loads(GOLDEN.read_text())["values"][name]
    assert distinct(texts, 1) == pytest.approx(values["distinct_1"], abs=1e-5)
    assert distinct(texts, 2) == pytest.approx(values["distinct_2"], abs=1e-5)
    assert compression_ratio(texts) == pytest.approx(values["zlib9_single_pass"], abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_golden_vendi_scores_come_out_for_every_order(name: str) -> None:
    vectors = unigrams(inputs(name))
    values = json.loads(GOLDEN.read_text())["values"][name]
    for order, key in ((1.0, "vendi_unigram_q1"), (2.0, "vendi_unigram_q2"), (math.inf, "vendi_unigram_qinf")):
        assert vendi_of_vectors(vectors, order) == pytest.approx(values[key], abs=1e-4)
        assert vendi(vectors @ vectors.T, order) == pytest.approx(values[key], abs=1e-4)


def test_published_vendi_scores_come_out() -> None:
    points = np.array([0, 0, 10, 10, 20, 20], dtype=float)
    kernel = np.exp(-abs(points[:, None] - points[None]))
    assert vendi(kernel) == pytest.approx(2.9999, abs=1e-4)
    three = [[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]]
    assert vendi(three) == pytest.approx(2.1573, abs=1e-4)
    assert vendi(three, 2) == pytest.approx(1.9481, abs=1e-4)
    assert vendi(three, math.inf) == pytest.approx(1.5789, abs=1e-4)
    assert vendi(np.eye(5)) == pytest.approx(5)
    assert vendi(np.ones((5, 5))) == pytest.approx(1)


@pytest.mark.parametrize("kernel", [[], [[1, 2]], [[1, 0.5], [0.4, 1]], [[2, 0], [0, 2]]])
def test_what_is_no_similarity_matrix_is_refused(kernel: Any) -> None:
    with pytest.raises(ValueError, match="ones on its diagonal"):
        vendi(kernel)
