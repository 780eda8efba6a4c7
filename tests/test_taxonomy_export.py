"""What is written reads back as the same tree, in every format; what a format cannot hold is refused by name."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdcgen import axes
from qdcgen.errors import UsageError
from qdcgen.rows import Node, Taxonomy
from qdcgen.taxonomy import escaped, inline
from qdcgen.taxonomy_export import FORMS, origins, rendered, write
from qdcgen.taxonomy_files import read
from qdcgen.taxonomy_show import preorder

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real taxonomies are not here ({DATA})")
REAL = [
    "tax_iptc_mediatopics/mediatopics.csv",
    "tax_mitre_attack/techniques.csv",
    *(
        f"tax_wordnet_subtrees/{name}.csv"
        for name in ("beverage", "crime", "disease", "emotion", "musical_instrument", "sport", "vehicle")
    ),
]
HOSTILE = {
    "../x": ["/abs", "a/b", "%2F", "~"],
    "cards": ["no", "12:30", "x: y #z", "- a", "'\"", "lost, or stolen", "a|b", "=1+1", "\u202eabc", "日本語", "😀"],
    "nodes": ["id"],
    "name": ["children"],
    "@id": {"@context": None, "children": ["x"]},
}


def said(tree):
    """All that makes a tree, nodes before what is below them."""
    return [
        (node.id, node.label, node.parent, node.path, node.depth, node.text, node.weight) for node in preorder(tree)
    ]


def planted(parts):
    """A tree from (label, text, weight, place of the parent or None); ids are made of labels and so are unusual."""
    nodes = []
    for number, (label, text, weight, parent) in enumerate(parts):
        above = nodes[parent % len(nodes)] if nodes and parent is not None else None
        path = f"{above.path}/{escaped(label)}" if above else escaped(label)
        depth = above.depth + 1 if above else 0
        nodes.append(
            Node(f"{number}{label}", label, path, depth, above.id if above else None, text, float(weight), "f")
        )
    return Taxonomy("t", tuple(nodes))


@real
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", REAL)
def test_real_trees_read_back_the_same(tmp_path, name, form):
    tree = read("t", DATA / name)
    path = tmp_path / f"t.{form}"
    path.write_bytes(rendered(tree, form))
    assert said(read("t", path)) == said(tree)


@pytest.mark.parametrize("form", FORMS)
def test_hostile_names_are_names_in_every_format(tmp_path, form):
    tree = inline("t", HOSTILE, "f")
    path = tmp_path / f"t.{form}"
    path.write_bytes(rendered(tree, form))
    assert said(read("t", path)) == said(tree)
    assert [file.name for file in tmp_path.iterdir()] == [f"t.{form}"]


LETTERS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
PARTS = st.lists(
    st.tuples(
        LETTERS,
        st.one_of(st.just(""), LETTERS),
        st.sampled_from([1, 1, 0, 2.5, 1e-9]),
        st.one_of(st.none(), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("yml", "xml")])
@settings(max_examples=60, deadline=None)
@given(parts=PARTS)
def test_any_tree_reads_back_the_same_or_is_refused(tmp_path_factory, form, parts):
    tree = planted(parts)
    try:
        content = rendered(tree, form)
    except UsageError as refusal:
        assert form in ("csv", "tsv", "yaml", "rdf")
        assert "which" in str(refusal)
        return
    path = tmp_path_factory.getbasetemp() / f"any.{form}"
    path.write_bytes(content)
    assert said(read("t", path)) == said(tree)


@pytest.mark.parametrize(
    ("form", "label", "words"),
    [
        ("csv", " x", "begins or ends with white space"),
        ("yaml", "x\t", "begins or ends with white space"),
        ("rdf", "x\x07", "holds U+0007, which XML has no way to write"),
        ("json", "x\ud800", "holds U+D800, half a character"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_by_name(form, label, words):
    tree = Taxonomy("t", (Node("n", label, label, 0),))
    with pytest.raises(UsageError, match="label of 'n'") as caught:
        rendered(tree, form)
    assert words in str(caught.value).encode("ascii", "backslashreplace").decode()


def test_a_label_of_three_megabytes_reads_back_in_every_format(tmp_path):
    tree = Taxonomy("t", (Node("n", "x" * 3_000_000, "x" * 3_000_000, 0),))
    for form in FORMS:
        path = tmp_path / f"t.{form}"
        path.write_bytes(rendered(tree, form))
        assert said(read("t", path)) == said(tree)


def test_an_artefact_keeps_where_its_nodes_came_from(tmp_path):
    tree = inline("t", {"a": ["b"]}, "f")
    path = tmp_path / "t.json"
    document = axes.document(tree, provenance={"a/b": {"by": "critic"}}, grown={"from": "letters"})
    path.write_text(json.dumps(document))
    again = json.loads(rendered(read("t", path), "json", origin=origins(path)))
    assert again == document


def test_a_file_is_never_overwritten_without_force(tmp_path):
    path = tmp_path / "t.csv"
    write(path, b"one", force=False)
    with pytest.raises(UsageError, match="is there already; name another file, or add --force"):
        write(path, b"two", force=False)
    assert path.read_bytes() == b"one"
    write(path, b"two", force=True)
    assert path.read_bytes() == b"two"
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        write(tmp_path / "no" / "t.csv", b"", force=False)
    with pytest.raises(UsageError, match="is a folder"):
        write(tmp_path, b"", force=True)
