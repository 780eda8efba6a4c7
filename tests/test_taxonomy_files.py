"""Tables and trees in files become taxonomies; whatever is wrong with a file is told at once, with its line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from qdcgen import axes
from qdcgen.errors import RecipeError
from qdcgen.rows import Taxonomy
from qdcgen.taxonomy_files import read

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real tables are not here ({DATA})")

BANK = {"cards": ["lost", "declined", "pin"], "transfers": {"pending": None, "wrong account": ["a", "b"]}}


def table(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def faults(folder: Path, text: str | bytes, name: str = "t.csv", **settings: object) -> list[tuple[int, str]]:
    with pytest.raises(RecipeError) as caught:
        read("t", table(folder, text, name), **settings)  # type: ignore[arg-type]
    return [(fault.line, fault.message) for fault in caught.value.faults]


def tree(taxonomy: Taxonomy) -> dict[str, str | None]:
    return {node.id: node.parent for node in taxonomy.nodes}


# ── trees in files ──


def test_yaml_words_stay_words_and_know_their_line(tmp_path: Path) -> None:
    found = read("t", table(tmp_path, "no:\n  - 010\n  - 12:30\n  - true\nyes:\n", "t.yaml"))
    assert [node.path for node in found.nodes] == ["no", "no/010", "no/12:30", "no/true", "yes"]
    assert found.nodes[2].where.endswith("t.yaml:3")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: &x [b]\nc: *x\n", 1, "anchor &x"),
        ("a: [b]\nc: !!python/object:os.system x\n", 2, "tag tag:yaml.org,2002:python/object:os.system"),
        ("a: [b]\na: [c]\n", 2, "key 'a' again; it is already on line 1"),
        ("a: [b, c]\nd: [e, e]\n", 2, "'e' stands twice under 'd'"),
        ("a: [b\n", 2, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("[" * 3000, 1, "nested more than 160 deep"),
        ("a: \x07\n", 1, "character U+0007 is not allowed in YAML"),
    ],
)
def test_yaml_surprises_are_faults_with_their_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    found = faults(tmp_path, text, "t.yaml")
    assert found[0][0] == line
    assert said in found[0][1]


def test_json_trees_of_names_and_of_objects_are_read(tmp_path: Path) -> None:
    names = read("t", table(tmp_path, json.dumps(BANK), "t.json"))
    assert len(names.leaves) == 6
    objects = {
        "name": "all",
        "children": [{"name": "a", "children": [{"name": "b", "value": 3}]}, {"name": "c", "value": 1}],
    }
    found = read("t", table(tmp_path, json.dumps(objects), "o.json"))
    assert [node.path for node in found.nodes] == ["all", "all/a", "all/a/b", "all/c"]


def test_broken_json_names_line_and_column(tmp_path: Path) -> None:
    assert faults(tmp_path, '{"a":\n ["b",]}', "t.json")[0][0] == 2
    assert "stands twice" in faults(tmp_path, '{"a": ["b"], "a": []}', "t.json")[0][1]
    assert "deep" in faults(tmp_path, "[" * 100_000, "t.json")[0][1]


# ── tables ──


def test_id_and_parent_columns_are_found_by_their_usual_names(tmp_path: Path) -> None:
    found = read("t", table(tmp_path, "synset,label,parent,gloss\n2,dog,1,a canine\n1,animal,,living\n"))
    assert tree(found) == {"2": "1", "1": None}
    assert (found.by_id["2"].path, found.by_id["2"].text, found.by_id["2"].depth) == ("animal/dog", "a canine", 1)


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = table(tmp_path, "Kode;Navn;Over;Vekt\nA;Alt;;2\nB;Bit;A;0.5\n")
    found = read("t", path, id="Kode", parent="Over", label="Navn", weight="Vekt")
    assert tree(found) == {"A": None, "B": "A"}
    assert found.by_id["B"].weight == 0.5


def test_names_serve_as_ids_where_parents_are_named(tmp_path: Path) -> None:
    assert tree(read("t", table(tmp_path, "name\tparent\nx\t\ny\tx\n", "t.tsv"))) == {"x": None, "y": "x"}


def test_industry_codes_are_read_by_their_prefixes(tmp_path: Path) -> None:
    text = "2022 NAICS US   Code,2022 NAICS US Title\n"
    text += "11,Farming\n111,Crops\n1111,Oilseed\n31-33,Making\n311,Food\n3111,Feed\n"
    notes: list[str] = []
    found = read("t", table(tmp_path, text), notes=notes)
    assert tree(found) == {"11": None, "111": "11", "1111": "111", "31-33": None, "311": "31-33", "3111": "311"}
    assert found.by_id["1111"].label == "Oilseed"
    assert "prefixes" in notes[0]


def test_running_numbers_stay_a_flat_list(tmp_path: Path) -> None:
    text = "id,label\n" + "".join(f"{number},n{number}\n" for number in range(1, 25))
    assert read("t", table(tmp_path, text)).depth == 1
    assert read("t", table(tmp_path, text), parent="<prefix>").depth == 2


def test_path_columns_make_inner_nodes(tmp_path: Path) -> None:
    text = "sector,group,industry\nFarm,Crops,Wheat\nFarm,Crops,Rice\nFarm,Fish,\nMining,,\n"
    found = read("t", table(tmp_path, text), levels=["sector", "group", "industry"])
    assert [leaf.path for leaf in found.leaves] == ["Farm/Crops/Wheat", "Farm/Crops/Rice", "Farm/Fish", "Mining"]
    assert read("t", table(tmp_path, "level_1,level_2\na,b\n")).leaves[0].id == "a/b"


def test_path_columns_with_gaps_or_repeats_are_faults(tmp_path: Path) -> None:
    found = faults(tmp_path, "a,b\nx,y\n,z\nx,y\n", levels=["a", "b"])
    assert [line for line, _ in found] == [3, 4]
    assert "line 2" in found[1][1]


def test_byte_order_mark_crlf_and_quoted_newlines_keep_lines_right(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbfid,parent,label\r\na,,"two\r\nlines"\r\n\r\nb,a,"x ""y"""\r\nc,zz,z\r\n'
    assert [line for line, _ in faults(tmp_path, text)] == [6]
    found = read("t", table(tmp_path, text.replace(b"zz", b"a")))
    assert (found.by_id["b"].label, found.by_id["b"].where[-2:]) == ('x "y"', ":5")


def test_the_first_of_several_parents_is_the_place_and_a_note_says_so(tmp_path: Path) -> None:
    notes: list[str] = []
    found = read("t", table(tmp_path, "id,parents\na,\nb,\nc,b|a\n"), notes=notes)
    assert tree(found)["c"] == "b"
    assert "1 rows name several parents" in notes[0]


def test_two_siblings_with_one_label_keep_their_own_ids(tmp_path: Path) -> None:
    notes: list[str] = []
    found = read("t", table(tmp_path, "id,parent,label\n1,,a\n2,1,b\n3,1,b\n"), notes=notes)
    assert [leaf.id for leaf in found.leaves] == ["2", "3"]
    assert "share their label" in notes[0]


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = 'id,parent,label\na,b,"x\ny"\nb,a,z\na,,q\n,,r\nc,zz,t\nd,d,t\ne,t\n'
    found = faults(tmp_path, text)
    assert [line for line, _ in found] == [2, 5, 6, 7, 8, 9]
    told = " ".join(message for _, message in found)
    for said in (
        "'a' (line 2) → 'b' (line 4) → 'a'",
        "taken by line 2",
        "an empty id",
        "'zz'",
        "its own parent",
        "2 fields",
    ):
        assert said in told


def test_the_twenty_first_fault_is_counted(tmp_path: Path) -> None:
    found = faults(tmp_path, "id,parent\n" + "".join(f"n{number},gone\n" for number in range(50)))
    assert len(found) == 21
    assert "and 30 more" in found[-1][1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty file"),
        (" \n\n", "an empty file"),
        ("id,parent\n", "without rows"),
        (b"\xff\xfei\x00d\x00", "UTF-16"),
        (b"id,parent\na,\nb\xe9,a\n", "not UTF-8: byte 0xe9"),
        ('id,parent\na,"b\n', "not valid CSV"),
        ("colour,size\nred,1\n", "the columns are colour, size; write id:"),
        ("id,id\na,b\n", "two columns are called 'id'"),
        ("id,parent,weight\na,,-1\n", "a number of 0 or more"),
        ("id,parent,weight\na,,nan\n", "a number of 0 or more"),
    ],
)
def test_hostile_tables_are_refused_with_a_reason(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert said in faults(tmp_path, text)[0][1]


def test_a_column_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    found = faults(tmp_path, "id,parent,label\na,,b\n", label="lable", exclude=None)
    assert "no column called 'lable'; did you mean 'label'?" in found[0][1]
    assert "exclude: no column" in faults(tmp_path, "id,parent\na,\n", exclude={"retird": "x"})[0][1]


def test_a_node_whose_parent_was_left_out_hangs_on_the_nearest_kept_one(tmp_path: Path) -> None:
    path = table(tmp_path, "id,parent,retired\na,,no\nb,a,yes\nc,b,yes\nd,c,no\ne,,yes\nf,e,no\n")
    found = read("t", path, exclude={"retired": ["yes"]})
    assert tree(found) == {"a": None, "d": "a", "f": None}


def test_a_value_that_no_row_has_is_a_fault_and_names_what_is_there(tmp_path: Path) -> None:
    rows = "id,parent,retired\na,,False\nb,a,True\nc,a,False\n"
    for wrong in ("true", "TRUE"):
        found = faults(tmp_path, rows, exclude={"retired": wrong})[0][1]
        assert found == f"exclude: no row has retired = {wrong!r}; did you mean 'True'?; its values are False, True"
    many = "id,kind\n" + "".join(f"n{number},k{number}\n" for number in range(9))
    found = faults(tmp_path, many, exclude={"kind": ["k1", "other"]})[0][1]
    assert found == "exclude: no row has kind = 'other'; its values are k0, k1, k2, k3, k4 and 4 more"


def test_rows_that_are_retired_are_told_while_they_are_kept_in_the_words_of_whoever_reads(tmp_path: Path) -> None:
    path = table(tmp_path, "id,parent,label,Deprecated,status\na,,a,no,\nb,a,b,yes,revoked\nc,a,c,yes,active\n")
    notes: list[str] = []
    read("t", path, notes=notes)
    assert notes[0] == "t.csv: 2 rows are deprecated; exclude: {Deprecated: 'yes'} leaves them out"
    assert notes[1] == "t.csv: 1 row is revoked; exclude: {status: 'revoked'} leaves it out"
    notes.clear()
    read("t", path, notes=notes, exclude={"status": "revoked"}, speaking="import")
    assert notes == ["t.csv: 1 row is deprecated; --exclude Deprecated=yes leaves it out"]
    notes.clear()
    read("t", path, notes=notes, exclude={"Deprecated": "yes"})
    assert notes == []
    read("t", path, notes=notes, root="b", speaking="show")
    assert notes[0] == "t.csv: 1 row is deprecated; qdcgen taxonomy import … --exclude Deprecated=yes leaves it out"


def test_a_column_that_is_far_from_every_name_gets_no_suggestion(tmp_path: Path) -> None:
    found = faults(tmp_path, "text,label\na,b\n", levels=["intent"], speaking="import")[0][1]
    assert found == "--levels no column called 'intent'; the columns are text, label"
    found = faults(tmp_path, "text,label\na,b\n", speaking="import")[0][1]
    assert found.endswith("add --id and --parent, or --levels ROOT,…")


def test_an_artefact_of_a_table_keeps_its_order_where_parents_come_first(tmp_path: Path) -> None:
    path = table(tmp_path, "id,parent\na,\nb,\nb1,b\na1,a\nb2,b\na2,a\n")
    tree = read("t", path)
    again = axes.loads(json.dumps(axes.document(tree)).encode(), "t", "t.json")
    assert [leaf.id for leaf in again.leaves] == [leaf.id for leaf in tree.leaves] == ["b1", "a1", "b2", "a2"]
    mixed = axes.document(read("t", table(tmp_path, "id,parent\na1,a\na,\nb,\n")))
    assert [node.id for node in axes.loads(json.dumps(mixed).encode(), "t", "t.json").nodes] == ["a", "a1", "b"]


def test_root_takes_a_subtree_by_id_or_path(tmp_path: Path) -> None:
    path = table(tmp_path, "id,parent,label\n1,,all\n2,1,left\n3,2,deep\n4,1,right\n")
    for root in ("2", "all/left"):
        found = read("t", path, root=root)
        assert tree(found) == {"2": None, "3": "2"}
        assert [(node.path, node.depth) for node in found.nodes] == [("left", 0), ("left/deep", 1)]
    assert [node.id for node in read("t", path, root=["2", "4"]).nodes] == ["2", "3", "4"]
    with pytest.raises(RecipeError, match="no node's id or path; did you mean 'all/left'"):
        read("t", path, root="all/lefd")


def test_json_elements_are_named_by_their_index(tmp_path: Path) -> None:
    rows = [{"id": 1, "label": "a"}, {"id": 2, "parent": 9}, 7, {"id": 1}]
    told = " ".join(message for _, message in faults(tmp_path, json.dumps(rows), "t.json"))
    assert "element 2: parent '9'" in told
    assert "element 3 is not an object" in told
    assert "element 4 is taken by element 1" in told


def test_a_label_that_looks_like_a_path_is_a_label(tmp_path: Path) -> None:
    found = read("t", table(tmp_path, "id,parent,label\n../x,,../../etc/passwd\n/abs,../x,~\n"))
    assert [node.id for node in found.nodes] == ["../x", "/abs"]
    assert found.nodes[0].path == "..%2F..%2Fetc%2Fpasswd"


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "no.csv", "No such file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "x.bin", ""),
    ):
        if path.suffix == ".bin":
            path.write_text("x")
        with pytest.raises(RecipeError, match=said or "expected .csv"):
            read("t", path)


def test_too_long_a_line_of_parents_is_refused(tmp_path: Path) -> None:
    text = "id,parent\n0,\n" + "".join(f"{number},{number - 1}\n" for number in range(1, 70))
    assert "more than 64 levels" in faults(tmp_path, text)[0][1]


def test_a_hundred_thousand_nodes_load_in_two_seconds(tmp_path: Path) -> None:
    text = "id,parent,label\n" + "".join(f"{n},{(n - 1) // 3 if n else ''},n{n}\n" for n in range(100_000))
    path = table(tmp_path, text)
    start = time.process_time()
    assert len(read("t", path).nodes) == 100_000
    assert time.process_time() - start < 4  # 0.9 s here; twice the promise, for a busy machine


# ── real tables ──


@real
def test_media_topics_load_without_their_retired_ones() -> None:
    found = read("t", DATA / "tax_iptc_mediatopics/mediatopics.csv", exclude={"retired": "True"})
    assert (len(found.nodes), len(found.children[None])) == (1133, 17)
    assert len(read("t", DATA / "tax_iptc_mediatopics/mediatopics.jsonld").nodes) == 1286


@real
@pytest.mark.parametrize("name", ["beverage", "crime", "disease", "emotion", "musical_instrument", "sport", "vehicle"])
def test_wordnet_subtrees_load_with_one_root(name: str) -> None:
    found = read("t", DATA / f"tax_wordnet_subtrees/{name}.csv")
    assert [root.label for root in found.children[None]] == [name.replace("_", " ")]
    assert all(node.text for node in found.nodes)


@real
def test_attack_techniques_and_tactics_load() -> None:
    found = read("t", DATA / "tax_mitre_attack/techniques.csv")
    assert (len(found.nodes), found.by_id["T1001.001"].path) == (665, "Data Obfuscation/Junk Data")
    assert read("t", DATA / "tax_mitre_attack/tactics.csv").leaves[0].label == "initial-access"


# ── artefacts and other files ──


def test_an_artefact_is_read_like_any_tree(tmp_path: Path) -> None:
    nodes = [{"id": "1", "label": "all", "parent": None}, {"id": "2", "label": "left", "parent": "1", "weight": 2}]
    artefact = {"format": 1, "taxonomy": "t", "grown": {"from": "x"}, "nodes": nodes}
    path = table(tmp_path, json.dumps(artefact), "t.json")
    found = read("t", path)
    assert tree(found) == {"1": None, "2": "1"}
    assert found.nodes[1].weight == 2.0
    assert tree(read("t", path, root="all/left")) == {"2": None}
    artefact["format"] = 9
    assert "this qdcgen reads format 1" in faults(tmp_path, json.dumps(artefact), "t.json")[0][1]


def test_a_wordnet_table_with_hypernyms_and_lemmas_is_read(tmp_path: Path) -> None:
    found = read(
        "t", table(tmp_path, "synset_id\tlemmas\thypernyms\tgloss\nn1\tthing\t\tall\nn2\tdog|hound\tn1\tx\n", "t.tsv")
    )
    assert tree(found) == {"n1": None, "n2": "n1"}
    assert found.nodes[1].text == "x"


def test_labels_that_would_make_gigabytes_of_paths_are_refused(tmp_path: Path) -> None:
    long = "x" * 3_000_000
    rows = "id,parent,label\nroot,," + long + "\n" + "".join(f"n{n},root,n{n}\n" for n in range(200))
    assert "labels so long that paths pass" in faults(tmp_path, rows)[0][1]
    assert "labels so long" in faults(tmp_path, json.dumps({long: [f"n{n}" for n in range(200)]}), "t.json")[0][1]
    nodes = [
        {"id": "r", "label": long, "parent": None},
        *({"id": str(n), "label": "n", "parent": "r"} for n in range(200)),
    ]
    artefact = {"format": 1, "taxonomy": "t", "nodes": nodes}
    assert "labels so long" in faults(tmp_path, json.dumps(artefact), "t.json")[0][1]


def test_a_file_may_be_read_by_another_ending(tmp_path: Path) -> None:
    assert tree(read("t", table(tmp_path, "id,parent\na,\nb,a\n", "t.dat"), form="csv")) == {"a": None, "b": "a"}
    assert "expected .csv, .tsv" in faults(tmp_path, "x", "t.dat")[0][1]
