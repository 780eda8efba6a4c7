"""Trees become taxonomies; weights, shares and patterns over their nodes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdcgen.errors import RecipeError
from qdcgen.rows import Node
from qdcgen.taxonomy import MAX_DEPTH, inline, match, matching, shares, weighted

BANK = {"cards": ["lost", "declined", "pin"], "transfers": {"pending": None, "wrong account": ["a", "b"]}}


# ── trees in the recipe ──


def test_mappings_lists_and_names_make_a_tree() -> None:
    topic = inline("topic", BANK, "r.yaml:4")
    assert [node.id for node in topic.nodes] == [
        "cards",
        "cards/lost",
        "cards/declined",
        "cards/pin",
        "transfers",
        "transfers/pending",
        "transfers/wrong account",
        "transfers/wrong account/a",
        "transfers/wrong account/b",
    ]
    assert [leaf.label for leaf in topic.leaves] == ["lost", "declined", "pin", "pending", "a", "b"]
    assert topic.depth == 3
    assert topic.nodes[1].where == "r.yaml:4"


def test_a_slash_in_a_label_is_no_level() -> None:
    topic = inline("t", {"a/b": ["c"], "a": ["b"]}, "r.yaml")
    assert [node.path for node in topic.nodes] == ["a%2Fb", "a%2Fb/c", "a", "a/b"]
    assert topic.nodes[0].label == "a/b"


@given(st.lists(st.text(alphabet="a/%25F", min_size=1, max_size=7).filter(str.strip), unique=True, max_size=30))
def test_different_labels_never_share_an_id(labels: list[str]) -> None:
    if labels:
        assert len({node.id for node in inline("t", labels, "r").nodes}) == len(labels)


def test_numbers_are_labels() -> None:
    assert [node.id for node in inline("t", [2020, "010", 1.5], "r").nodes] == ["2020", "010", "1.5"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (["a", "a"], "stands twice"),
        ({"x": ["a", "b", "a"]}, "'a' stands twice under 'x'"),
        (["a", " "], "an empty name"),
        (["a", ["b"]], "a list where a name belongs"),
        ([None], "nothing where a name belongs"),
        ({}, "an empty tree"),
        (None, "an empty tree"),
        ([], "an empty tree"),
    ],
)
def test_a_tree_that_is_no_tree_is_refused(bad: object, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        inline("t", bad, "r.yaml:9")
    assert (caught.value.faults[0].file, caught.value.faults[0].line) == ("r.yaml", 9)


def test_too_deep_a_tree_is_refused() -> None:
    deep: object = "leaf"
    for number in range(MAX_DEPTH):
        deep = {f"n{number}": deep}
    with pytest.raises(RecipeError, match="more than 64 levels"):
        inline("t", deep, "r")


# ── weights ──


def test_every_leaf_has_the_same_share_until_a_weight_multiplies_it() -> None:
    topic = inline("t", BANK, "r")
    assert shares(topic) == [1] * 6
    heavier = weighted(topic, {"cards": 2, "cards/pin": 0.1, "transfers/**": 0})
    assert [str(share) for share in shares(heavier)] == ["2", "2", "1/5", "0", "0", "0"]


def test_the_last_pattern_that_matches_sets_the_weight() -> None:
    assert [float(share) for share in shares(weighted(inline("t", ["a", "b"], "r"), {"*": 3, "a": 1}))] == [1, 3]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"crads/*": 2}, "matches no node of t; did you mean 'cards"),
        ({"cards": -1}, "a number of 0 or more"),
        ({"cards": float("nan")}, "a number of 0 or more"),
        ({"cards": float("inf")}, "a number of 0 or more"),
        ({"cards/*": 0}, "every leaf of t has weight 0"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights: dict[str, float], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        weighted(inline("t", {"cards": ["x"]}, "r"), weights)


# ── patterns ──


@pytest.mark.parametrize(
    ("pattern", "path", "hit"),
    [
        ("cards/*", "cards/lost", True),
        ("cards/*", "cards/lost/abroad", False),
        ("cards/*", "cards", False),
        ("cards/**", "cards/lost/abroad", True),
        ("cards/**", "cards", False),
        ("**/abroad", "cards/lost/abroad", True),
        ("**/abroad", "abroad", True),
        ("cards/**/abroad", "cards/abroad", True),
        ("*/lo*", "cards/lost", True),
        ("lost", "cards/lost", True),
        ("los*", "cards/lost", True),
        ("Lost", "cards/lost", False),
        ("cards", "cards/lost", False),
        ("c.rds/*", "cards/lost", False),
        ("a[b]", "a[b]", True),
        ("*", "cards/lost", True),
    ],
)
def test_patterns_match_whole_names_or_whole_paths(pattern: str, path: str, hit: bool) -> None:
    node = Node(id=path, label=path.rsplit("/", 1)[-1], path=path, depth=path.count("/"))
    assert match(pattern, node) is hit


def test_an_exact_id_matches_whatever_it_contains() -> None:
    assert match("http://x/1", Node(id="http://x/1", label="one", path="one", depth=0))


def test_a_forbidden_inner_node_covers_its_leaves() -> None:
    assert matching("cards", inline("t", BANK, "r")) == [True, True, True, False, False, False]


def test_importing_taxonomies_does_not_load_polars() -> None:
    code = "import sys, qdcgen.taxonomy; print(sorted({'polars', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
