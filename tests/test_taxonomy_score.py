"""A tree beside a reference: four figures that mean what they say, each with its control."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from qdcgen import parts
from qdcgen.errors import UsageError
from qdcgen.rows import Node, Taxonomy
from qdcgen.taxonomy import inline
from qdcgen.taxonomy_files import read
from qdcgen.taxonomy_score import _matched, critic_of, score, scored_document, scored_text, threshold_of
from qdcgen.testing import Server

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real taxonomies are not here ({DATA})")

REFERENCE = {
    "vehicle": {
        "car": ["taxi", "convertible", "race car"],
        "ship": ["ferry", "oil tanker", "sailing boat"],
        "aircraft": ["helicopter", "glider", "airliner"],
        "bicycle": ["tandem", "mountain bike", "electric bicycle"],
        "train": ["locomotive", "tram", "high-speed train"],
    }
}


@pytest.fixture(scope="module")
def embedder():
    return parts.find("embedders", "wordllama")()


def figures(scored, axis="by embedding"):
    return {one.name: one for one in scored.measures if one.axis == axis}


def test_a_reference_against_itself_is_complete_sound_and_adds_nothing(embedder):
    tree = inline("t", REFERENCE, "f")
    found = figures(score(tree, tree, embedder, 0.8))
    assert {name: one.value for name, one in found.items()} == {
        "completeness": 1.0,
        "soundness": 1.0,
        "novelty": 0.0,
        "coverage": 1.0,
    }
    low, high = found["completeness"].interval
    assert 0.8 < low < high == 1.0  # 21 of 21 is not certainty
    assert found["completeness"].missing == ()


def test_each_figure_counts_what_it_says(embedder):
    reference = inline("r", REFERENCE, "f")
    tree = inline("t", {"Car": ["Taxi", "van", "sports car"], "ship": ["ferry"], "grammar": ["pronoun"]}, "f")
    found = figures(score(tree, reference, embedder, 0.95))
    assert found["completeness"].value == 4 / 21
    assert found["completeness"].n == 21
    assert "vehicle/train" in found["completeness"].missing
    sound = found["soundness"].value * 8
    assert found["novelty"].value * 8 == pytest.approx(sound - 4)
    assert found["coverage"].value == pytest.approx(sound / (21 + sound - 4))
    assert found["soundness"].value > found["soundness"].control
    assert "8 nodes could reach 0.381 at most" in found["completeness"].note
    assert "at cosine 0.90:" in found["novelty"].note


def test_a_match_pairs_every_node_once():
    pairs = csr_array(np.array([[1.0, 0.9, 0], [1.0, 0, 0], [0.9, 0, 0]]))
    left, right = _matched(pairs, 0.85)
    assert (int(left.sum()), int(right.sum())) == (2, 2)
    same = inline("t", {f"branch {n}": ["fees"] for n in range(4)}, "f")
    one = inline("r", {"fees": []}, "f")
    found = figures(score(same, one, parts.find("embedders", "wordllama")(), 0.95))
    assert found["completeness"].value == 1.0
    assert found["soundness"].value >= 1 / 8


def test_small_trees_are_said_to_be_small_and_large_ones_refused(embedder):
    tree = inline("t", ["a", "b"], "f")
    assert "a tree of 2 nodes is small" in score(tree, tree, embedder, 0.8).remarks[0]
    with pytest.raises(UsageError, match="add --threshold"):
        threshold_of("sentence_transformers", None)
    with pytest.raises(UsageError, match="expected a cosine above 0"):
        threshold_of("wordllama", 1.5)
    assert threshold_of("wordllama", None) == 0.8


def test_figures_do_not_depend_on_the_order_of_nodes(embedder):
    reference = inline("r", REFERENCE, "f")
    tree = inline("t", {"cars": ["taxis", "racing"], "boats": ["ferries", "sailing"], "food": ["cake"]}, "f")
    turned = inline("t", {"food": ["cake"], "boats": ["sailing", "ferries"], "cars": ["racing", "taxis"]}, "f")
    here, there = (figures(score(one, reference, embedder, 0.7)) for one in (tree, turned))
    assert {n: m.value for n, m in here.items()} == {n: m.value for n, m in there.items()}


def test_the_page_is_eighty_columns_and_names_what_is_missing(embedder):
    found = score(inline("t", ["car", "boat"], "f"), inline("r", REFERENCE, "f"), embedder, 0.8)
    page = scored_text(found)
    assert max(map(len, page.splitlines())) <= 80
    assert "missing from completeness" in page
    assert len(scored_document(found)["measures"]) == 4


def test_missing_paths_are_told_apart_and_cut_at_a_slash(embedder):
    line = [f"step number {number}" for number in range(8)]
    deep = [Node("x", line[0], line[0], 0)]
    for at, word in enumerate(line[1:], 1):
        deep.append(Node(f"x{at}", word, "/".join(line[: at + 1]), at, deep[-1].id))
    twins = [Node("t1", "glass harp", "glass harp", 0), Node("t2", "glass harp", "glass harp", 0)]
    found = score(inline("t", ["boat"], "f"), Taxonomy("r", (*twins, *deep)), embedder, 0.99)
    missing = figures(found)["completeness"].missing
    assert missing[:2] == ("glass harp [t1]", "glass harp [t2]")
    assert missing[-1] == "/".join(line)
    page = " ".join(scored_text(found).split())
    assert "glass harp [t1]; glass harp [t2]" in page
    assert "…/step number" in page
    for name, means in (("completeness", "of the reference's nodes"), ("control", "other unrelated words")):
        assert name in page
        assert means in page


@real
def test_a_real_tree_stands_out_from_its_control(embedder):
    reference = read("sport", DATA / "tax_wordnet_subtrees/sport.csv")
    tree = read("iptc", DATA / "tax_iptc_mediatopics/mediatopics.csv")
    found = figures(score(tree, reference, embedder, 0.8))
    assert found["completeness"].interval[0] > found["completeness"].control + 0.1


# ── by critic ──


def judge(body):
    """Belongs unless it is one of the words from elsewhere; the same as a candidate with its last word."""
    asked = json.loads(body["messages"][-1]["content"])
    answers = []
    for one in asked:
        last = {mark: path.rpartition("/")[2] for mark, path in one["candidates"].items()}
        same = next((int(mark) for mark, label in last.items() if label == one["label"].lower()), 0)
        answers.append({"node": one["node"], "belongs": bool(re.search("car|van|ship|taxi", one["label"])) or same > 0})
        answers[-1]["same_as"] = same
    return json.dumps({"answers": answers})


def test_a_critic_is_asked_in_batches_and_its_replies_are_kept(tmp_path, embedder):
    reference = inline("r", REFERENCE, "f")
    tree = inline("t", {"Car": ["Taxi", "van"], "ship": ["ferry"], "grammar": ["pronoun"]}, "f")
    journal = tmp_path / "t.calls.sqlite"
    with Server(answer=judge) as server:
        alias = critic_of("openai/test", server.url, None)
        found = figures(score(tree, reference, embedder, 0.8, critic=alias, journal=journal), "by critic")
        asked = server.asked
        again = figures(score(tree, reference, embedder, 0.8, critic=alias, journal=journal), "by critic")
        assert (asked, server.asked) == (5, 5)  # 7 nodes, 20 words from elsewhere, 20 of the reference: 47 in tens
    assert again == found
    assert found["completeness"].value == 4 / 21
    assert found["soundness"].value == 5 / 7
    assert found["novelty"].value == 1 / 7
    assert found["coverage"].value == 5 / 22
    assert found["soundness"].control == 0.0
    assert "of 20 planted nodes of the reference the critic recognised 20" in found["completeness"].note


def test_a_critic_without_usable_answers_gives_no_figure(tmp_path, embedder):
    tree = inline("t", ["car"], "f")
    with Server(answer=lambda _: "no JSON") as server:
        alias = critic_of("openai/test", server.url, None)
        found = figures(score(tree, tree, embedder, 0.8, critic=alias, journal=tmp_path / "j.sqlite"), "by critic")
    assert {one.value for one in found.values()} == {None}
    assert "no usable answer" in found["soundness"].note


def test_a_critic_that_takes_everything_for_sound_gives_no_figure(tmp_path, embedder):
    def yes(body):
        asked = json.loads(body["messages"][-1]["content"])
        return json.dumps({"answers": [{"node": one["node"], "belongs": True, "same_as": 0} for one in asked]})

    tree = inline("t", REFERENCE, "f")
    with Server(answer=yes) as server:
        alias = critic_of("openai/test", server.url, None)
        found = figures(score(tree, tree, embedder, 0.8, critic=alias, journal=tmp_path / "j.sqlite"), "by critic")
    assert {one.value for one in found.values()} == {None}
    assert "recognised 0 of 20 planted nodes of the reference, and took 100% of 20 words" in found["soundness"].note


def test_a_model_without_a_provider_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"--model: .*openai/gpt-x"):
        critic_of("gpt-x", None, None)
