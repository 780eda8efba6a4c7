"""`qdcgen taxonomy show, diff, prune, import, export, score`, as processes: what they print, write and exit with."""

import json
import sqlite3
import time

import pytest

TREE = (
    "id,parent,label,text,weight\n1,,cards,plastic,1\n2,1,lost,,3\n3,1,declined,,1\n4,,transfers,,1\n5,4,pending,,1\n"
)
HOSTILE = "id,parent,label\n../x,,../../etc/passwd\n/abs,../x,\x1b]0;gone\x07\n"


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "bank.csv"
    path.write_text(TREE)
    return path


def test_show_prints_the_tree_with_its_size(qdcgen, tree):
    ran = qdcgen("taxonomy", "show", tree)
    assert ran.returncode == 0
    lines = ran.stdout.splitlines()
    assert lines[0] == "bank  5 nodes, 3 leaves, 2 levels"
    assert lines[2].split() == ["cards", "[1]", "2"]
    assert lines[3].rstrip() == "  lost  ×3  [2]"
    assert qdcgen("taxonomy", "show", tree, "--depth", 1).stdout.splitlines()[-1] == "3 nodes below level 1 not shown"
    document = json.loads(qdcgen("taxonomy", "show", tree, "--json").stdout)["taxonomies"][0]
    assert (document["nodes"], document["tree"][1]["path"], document["tree"][1]["weight"]) == (5, "cards/lost", 3.0)


def test_show_takes_a_recipe_and_asks_which_axis_where_one_is_needed(qdcgen, small):
    ran = qdcgen("taxonomy", "show", small)
    assert "topic  6 nodes" in ran.stdout
    assert "tone  2 nodes" in ran.stdout
    ran = qdcgen("taxonomy", "export", small, "-o", "x.json")
    assert ran.returncode == 2
    assert "has 2 axes, topic, tone; add --axis topic, or another" in ran.stderr
    ran = qdcgen("taxonomy", "show", small, "--axis", "topc")
    assert "no axis 'topc'; did you mean 'topic'?; it has topic, tone" in ran.stderr
    assert qdcgen("taxonomy", "export", small, "--axis", "topic", "-o", "topic.json").returncode == 0
    assert qdcgen("taxonomy", "diff", small, "topic.json", "--axis", "topic", "--exit-code").returncode == 0


def test_show_counts_what_became_of_the_rows_of_a_run(qdcgen, small, tmp_path):
    assert qdcgen("run", small, "--quiet", "--out", "runs/small").returncode == 0
    ran = qdcgen("taxonomy", "show", "runs/small", "--axis", "topic", "--counts")
    lines = ran.stdout.splitlines()
    assert lines[1].split() == ["leaves", "asked", "accepted"]
    assert lines[2].split() == ["cards", "2", "20", "20"]
    assert lines[3].split() == ["lost", "10", "10"]
    document = json.loads(qdcgen("taxonomy", "show", "runs/small", "--counts", "--json").stdout)
    assert [sum(node["accepted"] for node in one["tree"] if node["level"] == 1) for one in document["taxonomies"]] == [
        40,
        40,
    ]
    ran = qdcgen("taxonomy", "show", small, "--counts")
    assert ran.returncode == 2
    assert "--counts needs a run folder" in ran.stderr


def test_import_writes_an_artefact_that_a_recipe_reads(qdcgen, tree, small, tmp_path):
    ran = qdcgen("taxonomy", "import", tree, "-o", "bank.json")
    assert (ran.returncode, ran.stdout) == (0, "bank.json: 5 nodes, 3 leaves, 2 levels\n")
    text = small.read_text().replace(
        "{tree: {cards: [lost, declined], transfers: [pending, wrong account]}}", "bank.json"
    )
    small.write_text(text)
    assert qdcgen("check", small).returncode == 0
    ran = qdcgen("taxonomy", "import", tree, "-o", "bank.json")
    assert ran.returncode == 2
    assert "bank.json: is there already" in ran.stderr
    assert qdcgen("taxonomy", "import", tree, "-o", "bank.json", "--force").returncode == 0


def test_import_names_columns_leaves_rows_out_and_takes_a_part(qdcgen, tmp_path):
    (tmp_path / "t.dat").write_text("Kode;Navn;Over;Brukt\nA;Alt;;ja\nB;Bit;A;ja\nC;Gammel;A;nei\nD;Del;B;ja\n")
    ran = qdcgen(
        *("taxonomy", "import", "t.dat", "--format", "csv", "--id", "Kode", "--label", "Navn", "--parent", "Over"),
        *("--exclude", "Brukt=nei", "--root", "B", "-o", "t.yaml"),
    )
    assert ran.returncode == 0, ran.stderr
    assert [
        node["id"]
        for node in json.loads(qdcgen("taxonomy", "show", "t.yaml", "--json").stdout)["taxonomies"][0]["tree"]
    ] == ["B", "D"]
    ran = qdcgen("taxonomy", "import", "t.dat", "-o", "x.json", "--exclude", "Brukt")
    assert "expected COLUMN=VALUE" in ran.stderr
    assert not (tmp_path / "x.json").exists()


def test_export_and_import_give_the_same_tree_in_every_format(qdcgen, tree):
    last = tree
    for ending in ("ttl", "rdf", "jsonld", "yaml", "tsv", "json"):
        assert qdcgen("taxonomy", "export", last, "-o", f"bank.{ending}").returncode == 0
        last = f"bank.{ending}"
    ran = qdcgen("taxonomy", "diff", tree, last, "--exit-code")
    assert (ran.returncode, ran.stdout) == (0, "the same 5 nodes, by id\n")
    ran = qdcgen("taxonomy", "export", tree, "-o", "bank.tt")
    assert ran.returncode == 2
    assert "cannot write .tt; did you mean 'ttl'?" in ran.stderr


def test_prune_writes_what_is_left_and_diff_tells_what_went(qdcgen, tree):
    ran = qdcgen("taxonomy", "prune", tree, "cards/**", "--keep", "lost", "-o", "small.json")
    assert ran.returncode == 0
    assert "1 of 5 nodes went, 1 of them leaves; 4 nodes and 2 leaves are left" in ran.stdout
    ran = qdcgen("taxonomy", "diff", tree, "small.json")
    assert ran.returncode == 0
    assert "- cards/declined" in ran.stdout
    assert qdcgen("taxonomy", "diff", tree, "small.json", "--exit-code").returncode == 1
    assert json.loads(qdcgen("taxonomy", "diff", tree, "small.json", "--json").stdout)["removed"][0]["id"] == "3"
    ran = qdcgen("taxonomy", "prune", tree, "crads", "-o", "x.json")
    assert ran.returncode == 2
    assert "did you mean 'cards'?" in ran.stderr
    ran = qdcgen("taxonomy", "prune", tree, "CARDS", "-o", "x.json")
    assert "did you mean 'cards'?" in ran.stderr


def test_score_prints_four_figures_and_asks_a_critic_only_when_named(qdcgen, tree, server, tmp_path):
    ran = qdcgen("taxonomy", "score", tree, "--reference", tree)
    assert ran.returncode == 0, ran.stderr
    for word in ("completeness", "soundness", "novelty", "coverage", "control: ", "a tree of 5 nodes is small"):
        assert word in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= 80
    assert server.asked == 0
    critic = ("--model", "openai/test", "--api-base", server.url)
    ran = qdcgen("taxonomy", "score", tree, "-r", tree, *critic, "-o", "score.json", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == json.loads((tmp_path / "score.json").read_text())
    assert sqlite3.connect(tmp_path / "score.calls.sqlite").execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    asked = server.asked
    assert asked >= 3
    ran = qdcgen("taxonomy", "score", tree, "-r", tree, *critic, "-o", "score.json")
    assert ran.returncode == 2
    assert "is there already" in ran.stderr
    assert server.asked == asked


@pytest.mark.parametrize("ending", ["csv", "json", "ttl", "jsonld", "yaml"])
def test_hostile_names_stay_names_and_reach_no_terminal(qdcgen, tmp_path, ending):
    (tmp_path / "t.csv").write_text(HOSTILE)
    if ending != "csv":
        ran = qdcgen("taxonomy", "export", "t.csv", "-o", f"t.{ending}")
        assert ran.returncode == 0, ran.stderr
    for command in (("show",), ("diff", "t.csv")):
        ran = qdcgen("taxonomy", *command, f"t.{ending}")
        assert ran.returncode == 0
        assert "\x1b" not in ran.stdout + ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"t.csv", f"t.{ending}"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,parent,label\na,b,x\nb,a,y\n", "a cycle of parents"),
        ("id,parent,label\na,gone,x\n", "parent 'gone' of 'a' is no row's id"),
        ("id,parent\n" + "".join(f"{n},{n - 1 if n else ''}\n" for n in range(70)), "more than 64 levels"),
    ],
)
def test_what_is_no_tree_is_told_with_its_line(qdcgen, tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    for command in (("show", "t.csv"), ("import", "t.csv", "-o", "x.json"), ("diff", "t.csv", "t.csv")):
        ran = qdcgen("taxonomy", *command)
        assert ran.returncode == 2
        assert words in ran.stderr
        assert "t.csv:" in ran.stderr
    assert not (tmp_path / "x.json").exists()


def test_a_hundred_thousand_nodes_are_shown_compared_and_written_in_seconds(qdcgen, tmp_path):
    rows = [f"{n},{(n - 1) // 3 if n else ''},n{n}\n" for n in range(100_000)]
    (tmp_path / "a.csv").write_text("id,parent,label\n" + "".join(rows))
    (tmp_path / "b.csv").write_text("id,parent,label\n" + "".join(rows[:-1]))
    for command in (("show", "a.csv"), ("diff", "a.csv", "b.csv"), ("export", "a.csv", "-o", "a.ttl")):
        start = time.monotonic()
        assert qdcgen("taxonomy", *command).returncode == 0
        assert time.monotonic() - start < 15  # 2 to 3 s here; room for a busy machine


def test_where_nothing_is_the_nearest_name_is_told(qdcgen, tree):
    ran = qdcgen("taxonomy", "show", "bnak.csv")
    assert ran.returncode == 2
    assert "bnak.csv: no such file or folder; did you mean 'bank.csv'?" in ran.stderr
    assert "no run here" in qdcgen("taxonomy", "show", ".").stderr


def test_every_command_teaches_with_an_example(qdcgen):
    for command in ("show", "diff", "prune", "import", "export", "score"):
        ran = qdcgen("taxonomy", command, "--help")
        assert f"qdcgen taxonomy {command}" in ran.stdout.partition("Example")[2]


def test_an_axis_that_is_not_grown_is_named_with_what_to_type(qdcgen, small):
    small.write_text(small.read_text().replace("tone: [polite, angry]", "tone: {grow: {from: tones of voice}}"))
    ran = qdcgen("taxonomy", "show", small)
    assert "topic  6 nodes" in ran.stdout
    assert f"tone is not grown yet; type: qdcgen taxonomy grow {small}" in ran.stderr
    ran = qdcgen("taxonomy", "export", small, "--axis", "tone", "-o", "x.csv")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "tone is not grown yet" in ran.stderr
