"""Published and golden values come out of our own code."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from qdcgen.metrics.lexical import compression_ratio, distinct, grams, self_repetition
from qdcgen.spectrum import vendi, vendi_of_vectors

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


def unigrams(texts: list[str], words: int = 1) -> Any:
    from sklearn.feature_extraction.text import CountVectorizer

    reader = CountVectorizer(token_pattern=r"\S+", ngram_range=(words, words))
    counts = reader.fit_transform(texts).toarray().astype(float)
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
def test_golden_self_repetition_scores_come_out(name: str) -> None:
    texts = inputs(name)
    values = json.loads(GOLDEN.read_text())["values"][name]
    share, score = self_repetition(texts)
    assert score == pytest.approx(values["diversity.self_repetition_score_4"], abs=1e-4)
    assert 0 <= share <= 1
    assert (share == 0) == (score == 0)


@pytest.mark.parametrize("name", NAMES)
def test_golden_ngram_diversity_is_ours_only_once_runs_cross_texts(name: str) -> None:
    texts = inputs(name)
    values = json.loads(GOLDEN.read_text())["values"][name]
    blanks = " ".join(
        re.sub(r"\s", "_", word) or "_" for word in " ".join(texts).split(" ")
    )  # they split at blanks only
    theirs = sum(distinct([blanks], k) for k in (1, 2, 3, 4))
    assert theirs == pytest.approx(values["diversity.ngram_diversity_score_4"], abs=1e-3)
    assert len(grams(texts, 4)[3][0]) < len(grams([" ".join(texts)], 4)[3][0])


@pytest.mark.parametrize("name", NAMES)
def test_golden_compression_that_packs_twice_is_not_ours(name: str) -> None:
    texts = inputs(name)
    values = json.loads(GOLDEN.read_text())["values"][name]
    joined = " ".join(texts).encode()
    file_name = len("compressed") + 1  # gzip's header holds it when it writes a file
    twice = len(joined) / (len(gzip.compress(gzip.compress(joined))) + file_name)
    assert twice == pytest.approx(values["diversity.compression_ratio_gzip (double gzip, as shipped)"], rel=0.01)
    assert compression_ratio(texts) > twice


def test_golden_homogenization_of_disjoint_texts_is_a_ceiling_that_ours_has_not() -> None:
    texts = inputs("disjoint_8")
    assert json.loads(GOLDEN.read_text())["values"]["disjoint_8"]["diversity.homogenization_rougel_first30"] == 1.0
    assert self_repetition(texts) == (0.0, 0.0)


def test_baseline_bigrams_of_calls_come_out() -> None:
    file = DATA / "bfcl_tools/multi_turn_base.jsonl"
    if not file.exists():
        pytest.skip(f"no {file}")
    said = json.loads((DATA / "metric_reference/baselines.json").read_text())["bfcl_multi_turn_call_bigrams"]
    tasks = [json.loads(line)["calls"] for line in file.read_text().splitlines()]
    texts = [" ".join(call.partition("(")[0] for turn in task for call in turn) for task in tasks]
    numbers, _ = grams(texts, 2)[1]
    assert (len(np.unique(numbers)), len(numbers)) == (said["distinct"], said["total"])
    assert distinct(texts, 2) == said["distinct"] / said["total"]
    assert int(np.bincount(numbers).max()) == said["top"][0][1]


@pytest.mark.parametrize("name", NAMES)
def test_golden_vendi_scores_come_out_for_every_order(name: str) -> None:
    vectors = unigrams(inputs(name))
    values = json.loads(GOLDEN.read_text())["values"][name]
    for order, key in ((1.0, "vendi_unigram_q1"), (2.0, "vendi_unigram_q2"), (math.inf, "vendi_unigram_qinf")):
        assert vendi_of_vectors(vectors, order) == pytest.approx(values[key], abs=1e-4)
        assert vendi(vectors @ vectors.T, order) == pytest.approx(values[key], abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_golden_vendi_scores_of_pairs_of_words_come_out(name: str) -> None:
    vectors = unigrams(inputs(name), 2)
    values = json.loads(GOLDEN.read_text())["values"][name]
    assert vendi_of_vectors(vectors) == pytest.approx(values["vendi_bigram_q1"], abs=1e-4)


OURS = {
    "distinct_1",
    "distinct_2",
    "zlib9_single_pass",
    "diversity.self_repetition_score_4",
    "diversity.ngram_diversity_score_4",
    "diversity.compression_ratio_gzip (double gzip, as shipped)",
    "diversity.homogenization_rougel_first30",
    *(f"vendi_unigram_q{order}" for order in ("1", "2", "inf")),
    "vendi_bigram_q1",
}
"""What is compared above."""
NOT_OURS = {
    "n",
    "chars",
    "diversity.compression_ratio_xz",  # zlib does; xz is another compressor with the same meaning
    "nltk_self_bleu4_method1_first30",  # quadratic, and self-repetition of 4-grams says the same
}


def test_every_golden_value_is_compared_or_named_as_none_of_ours() -> None:
    if not GOLDEN.exists():
        pytest.skip(f"no {GOLDEN}")
    golden = json.loads(GOLDEN.read_text())
    assert set(golden["values"]) == set(golden["inputs"]) == set(NAMES)
    for values in golden["values"].values():
        assert set(values) == OURS | NOT_OURS


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
