"""What changed between two trees, told by id; and trees without some of their nodes."""

from dataclasses import replace

import pytest

from qdcgen.errors import UsageError
from qdcgen.rows import Taxonomy
from qdcgen.taxonomy import inline
from qdcgen.taxonomy_diff import compared, pruned
from qdcgen.taxonomy_files import read

TABLE = "id,parent,label,text,weight\n1,,all,,1\n2,1,cards,plastic,1\n3,2,lost,,1\n4,2,pin,,1\n5,1,loans,,1\n"


def table(folder, text):
    path = folder / f"{len(list(folder.iterdir()))}.csv"
    path.write_text(text)
    return read("t", path)


def test_the_same_tree_has_no_difference(tmp_path):
    found = compared(table(tmp_path, TABLE), table(tmp_path, TABLE))
    assert not found
    assert found.text() == "the same 5 nodes, by id"
    assert found.document()["differs"] is False


def test_each_kind_of_change_is_told_once_by_id(tmp_path):
    after = (
        "id,parent,label,text,weight\n1,,all,,1\n5,1,loans,,2\n2,1,credit cards,of plastic,1\n3,5,lost,,1\n6,2,new,,1\n"
    )
    found = compared(table(tmp_path, TABLE), table(tmp_path, after))
    assert [node.id for node in found.added] == ["6"]
    assert [node.id for node in found.removed] == ["4"]
    for pairs, name in ((found.renamed, "2"), (found.moved, "3"), (found.retold, "2"), (found.reweighted, "5")):
        assert [before.id for before, _ in pairs] == [name]
    assert found.reordered == ("all",)
    assert found.same == 1
    lines = found.text().splitlines()
    assert lines[0].startswith("1 added, 1 removed, 1 renamed, 1 moved, 1 text, 1 weight, 1 order; 1 as before")
    assert "~ all/cards/lost: now all/loans/lost" in lines
    assert found.document()["moved"] == [
        {"id": "3", "path": "all/cards/lost", "before": "all/cards/lost", "after": "all/loans/lost"}
    ]


def test_a_tree_of_paths_is_compared_by_path_with_a_table_of_ids(tmp_path):
    found = compared(table(tmp_path, TABLE), inline("t", {"all": {"cards": ["lost", "pin"], "loans": []}}, "f"))
    assert found.by == "path"
    assert (found.added, found.removed, found.moved) == ((), (), ())


def test_what_lies_below_an_added_node_is_counted_not_listed():
    before, after = inline("t", ["a"], "f"), inline("t", {"a": [], "b": {"c": ["d", "e"]}}, "f")
    assert compared(before, after).text().splitlines()[1:] == ["+ b and 3 below it"]
    many = compared(before, inline("t", ["a", *map(str, range(80))], "f")).text().splitlines()
    assert many[-1] == "  and 30 more; --json lists all"


def test_names_cannot_write_to_the_terminal():
    before, after = inline("t", ["a"], "f"), inline("t", ["a", "\x1b[2J" + "x" * 3_000_000], "f")
    text = compared(before, after).text()
    assert "\x1b" not in text
    assert len(text) < 400


# ── prune ──

TREE = {"cards": {"lost": ["at home", "abroad"], "pin": []}, "transfers": ["pending", "lost"]}
TRANSFERS = ["transfers", "transfers/pending", "transfers/lost"]


@pytest.mark.parametrize(
    ("patterns", "keep", "left"),
    [
        (["cards/lost"], [], ["cards", "cards/pin", "transfers", "transfers/pending", "transfers/lost"]),
        (["lost"], [], ["cards", "cards/pin", "transfers", "transfers/pending"]),
        (["cards/**"], [], ["cards", "transfers", "transfers/pending", "transfers/lost"]),
        (["*"], ["cards/lost"], ["cards", "cards/lost", "cards/lost/at home", "cards/lost/abroad"]),
        (["cards"], ["abroad"], ["cards", "cards/lost", "cards/lost/abroad", *TRANSFERS]),
    ],
)
def test_a_pattern_takes_a_node_and_what_is_below_it(patterns, keep, left):
    found = pruned(inline("t", TREE, "f"), patterns, keep)
    assert [node.id for node in found.tree.nodes] == left
    assert found.nodes == 8 - len(left)


def test_pruning_says_how_much_went_and_what_became_a_leaf():
    found = pruned(inline("t", TREE, "f"), ["cards/*"])
    assert (found.nodes, found.leaves, found.bared) == (4, 3, 1)
    assert "4 of 8 nodes went, 3 of them leaves; 4 nodes and 3 leaves are left" in found.text()


def test_a_pattern_that_names_nothing_tells_the_nearest():
    with pytest.raises(UsageError, match=r"'cards/lots' names no node of t; did you mean 'cards/lost'\?"):
        pruned(inline("t", TREE, "f"), ["cards/lots"])
    with pytest.raises(UsageError, match="names no node"):
        pruned(inline("t", TREE, "f"), ["cards"], ["crads"])
    with pytest.raises(UsageError, match="nothing of t would be left"):
        pruned(inline("t", TREE, "f"), ["*"])


def test_ids_of_what_is_left_stay(tmp_path):
    tree = table(tmp_path, TABLE)
    small = pruned(tree, ["pin"]).tree
    assert [node for node in tree.nodes if node.label != "pin"] == list(small.nodes)
    assert compared(tree, replace(small)).removed[0].id == "4"
    assert isinstance(small, Taxonomy)
