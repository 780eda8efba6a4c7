"""Every command as a user runs it: what is on stdout, what is on stderr, and how it ends."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml

from qdcgen import cli, parts, reference
from qdcgen.schema import recipe_schema
from qdcgen.testing import Server

ROOT = Path(__file__).parent.parent
TERMINAL = ROOT.parent / "shared/data/hostile_inputs/terminal.jsonl"
KINDS = (
    "(kinds: layers, steps, filters, metrics, embedders, executors; qdcgen parts recipe explains every key of a recipe)"
)
ENDINGS = ".csv, .json, .jsonl, .ndjson, .parquet, .tsv"
LISTS = "(qdcgen parts filters lists them)"
COMMANDS = ["init", "check", "plan", "preview", "run", "status", "report", "parts", "schema", "verify"]
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with a finished run of 40 rows, made once for all who only look."""
    from .conftest import RECIPE  # noqa: TID252  (fixtures' own recipe)

    folder = tmp_path_factory.mktemp("done")
    with Server() as server:
        (folder / "small.yaml").write_text(RECIPE.format(url=server.url))
        ended = subprocess.run(
            [sys.executable, "-c", "from qdcgen.cli import main; main()", "run", "small.yaml", "--json"],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
    (folder / "said.json").write_text(ended.stdout)
    return folder


def table(folder):
    """Texts with a category, in every format that `report` reads."""
    chance = random.Random(1)
    rows = [
        {"text": " ".join(chance.choices("red green blue old new small large fish bird tree".split(), k=12)),  # noqa: SIM905
         "kind": "ab"[number % 2]}
        for number in range(40)
    ]  # fmt: skip
    frame = pl.DataFrame(rows)
    frame.write_ndjson(folder / "d.jsonl")
    frame.write_csv(folder / "d.csv")
    frame.write_parquet(folder / "d.parquet")


# ── help and usage ──


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(qdcgen, command):
    said = qdcgen(command, "--help")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"Usage: qdcgen {command}")
    assert f"qdcgen {command}" in said.stdout.split("Example", 1)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chek"], "No such command 'chek'. Did you mean 'check', 'schema'?\nhelp: qdcgen --help\n"),
        (["check"], "Missing argument 'RECIPE'.\nhelp: qdcgen check --help\n"),
        (["check", "--foo", "r.yaml"], "No such option: --foo\nhelp: qdcgen check --help\n"),
        (["check", "r.yaml", "--set"], "Option '--set' requires an argument.\nhelp: qdcgen check --help\n"),
        (["schema", "more"], "Got unexpected extra argument(s) (more)\nhelp: qdcgen schema --help\n"),
        (["check", "r.yaml"],
         "r.yaml: No such file or directory; expected a recipe (qdcgen init writes one to start from)\n"),
        (["check", "."], ".: Is a directory; expected a recipe (qdcgen init writes one to start from)\n"),
        (["label", "r", "--to"], "Option '--to' requires an argument.\nhelp: qdcgen label --help\n"),
        (["status", "none"], "none: no such folder; expected a run folder (runs/<name>) or a recipe (*.yaml)\n"),
        (["audit", "none"],
         "none: no such file or folder; expected a recipe (*.yaml) or a run folder (runs/<name>)\n"),
        (["report", "d.csv", "--json", "--markdown"],
         ("Invalid value for --markdown: one of the two: --json is a document, --markdown its tables\n"
          "help: qdcgen report --help\n")),
        (["parts", "length"], "'length' is no kind of part; type: qdcgen parts filters length\n"),
        (["parts", "measure", "solver"],
         "parts measure solver: a key of a recipe stands alone; type: qdcgen parts measure\n"),
        (["verify", "."], ".: no run here (no manifest.json); qdcgen run makes one\n"),
        (["status", "."], ".: no run here (no manifest.json); qdcgen run makes one\n"),
        (["report", "."], ".: no run here (no manifest.json); qdcgen run makes one\n"),
        (["report", "d.jsonl"],
         "d.jsonl: no such file or folder; expected a run folder, a recipe or a data file\n"),
        (["report", ".", "--text", "x"],
         ("--text, --axis, --label, --taxonomy, --model, --group, --anchor, --anchor-text and --embedder are for "
          "data files; a run is measured as its recipe says (measure:)\n")),
        (["parts", "filtres"],
         f"no kind of part called 'filtres'; did you mean 'filters'? {KINDS}\n"),
        (["parts", "filters", "lenght"],
         "no filter called 'lenght'; did you mean 'length'? (qdcgen parts filters lists them)\n"),
        (["init", "none/r.yaml"], "none/r.yaml: cannot be written: No such file or directory\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_usage_is_exit_2_with_one_message_and_nothing_on_stdout(qdcgen, tmp_path, arguments, said):
    ended = qdcgen(*arguments)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)
    assert not list(tmp_path.iterdir())


def test_a_number_out_of_range_is_wrong_usage(qdcgen, small):
    for wrong in ("0", "x", "101"):
        ended = qdcgen("preview", small, "-n", wrong)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith("Invalid value for '--rows' / '-n': ")


def test_no_arguments_print_the_help_and_end_with_2(qdcgen):
    ended = qdcgen()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Usage: qdcgen [OPTIONS] COMMAND [ARGS]...\n")
    assert all(f"\n  {command} " in ended.stderr for command in COMMANDS)


def test_the_version_is_on_stdout(qdcgen):
    ended = qdcgen("--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(r"qdcgen \d+\.\d+\.\d+\S*\n", ended.stdout)


# ── init, check, plan ──


def test_the_recipe_that_init_writes_passes_check_and_plan_and_is_never_overwritten(qdcgen, tmp_path):
    written = qdcgen("init")
    assert (written.returncode, written.stderr) == (0, "")
    assert written.stdout == (
        "recipe.yaml: written. Next: qdcgen check recipe.yaml; qdcgen plan recipe.yaml; qdcgen run recipe.yaml\n"
    )
    content = (tmp_path / "recipe.yaml").read_text()
    assert yaml.safe_load(content)["name"] == "recipe"
    checked = qdcgen("check", "recipe.yaml")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.startswith("recipe.yaml: ok\n  taxonomy  topic: 7 nodes, 5 leaves, 2 deep\n")
    assert qdcgen("plan", "recipe.yaml").returncode == 0
    again = qdcgen("init")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "recipe.yaml is there already; name another file: qdcgen init other.yaml\n"
    assert (tmp_path / "recipe.yaml").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize("name", ["my recipe.yaml", "été.yaml", "a\nb: {c.yaml", "...yaml", "x" * 200 + ".yaml"])
def test_init_writes_a_sound_recipe_under_any_name(qdcgen, name):
    written = qdcgen("init", "--", name)
    assert written.returncode == 0, written.stderr
    assert len(written.stdout.splitlines()) == (2 if "\n" in name else 1)
    assert qdcgen("check", "--", name).returncode == 0


def test_check_prints_each_fault_on_a_line_of_stderr_and_ends_with_2(qdcgen, small):
    small.write_text(small.read_text().replace("rows: 40", "rows: x").replace("- length", "- lenght"))
    ended = qdcgen("check", "small.yaml")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.splitlines() == [
        "small.yaml:18:5: filters.1: no filter called 'lenght'; did you mean 'length'? " + LISTS,
        "small.yaml:20:16: target.rows: expected a whole number, found 'x'",
    ]
    for command in ("plan", "preview", "run"):
        assert (qdcgen(command, "small.yaml").returncode, (small.parent / "runs").exists()) == (2, False)


def test_plan_spends_nothing_and_its_json_is_one_document(qdcgen, small, server, tmp_path):
    shown = qdcgen("plan", "small.yaml", "--set", "target.rows=1000000")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "1,000,000" in shown.stdout
    document = json.loads(qdcgen("plan", "small.yaml", "--json").stdout)
    assert document["rows"] == 40
    assert server.asked == 0
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


# ── preview, run, status, verify ──


def test_preview_asks_for_its_rows_and_a_later_run_does_not_ask_again(qdcgen, small, server):
    shown = qdcgen("preview", "small.yaml", "-n", "5", "--json")
    assert (shown.returncode, server.asked) == (0, 5)
    rows = json.loads(shown.stdout)
    keys = ["_id", "axes", "calls", "fault", "fields", "reason", "rejected_by", "tokens_in", "tokens_out", "usd"]
    assert [sorted(row) for row in rows] == [keys] * 5
    words = qdcgen("preview", "small.yaml", "-n", "5")
    assert server.asked == 5
    assert words.stdout.count("\n  message: ") == 5
    assert qdcgen("run", "small.yaml", "--set", "target.rows=5", "--quiet").returncode == 0
    kept = pl.read_parquet(small.parent / "runs/small/data/*.parquet")
    assert server.asked == 5 + sum(row["rejected_by"] is not None for row in rows)
    assert set(kept["_id"]) >= {row["_id"] for row in rows if row["rejected_by"] is None}


def test_run_prints_one_json_document_and_nothing_else_on_stdout(done):
    said = json.loads((done / "said.json").read_text())
    assert (said["exit_code"], said["rows"]["accepted"], said["rows"]["target"]) == (0, 40, 40)
    assert said == json.loads((done / "runs/small/run_results.json").read_text())


def test_status_verify_and_report_take_the_folder_or_its_recipe(qdcgen, done):
    for command in ("status", "verify", "report"):
        by_folder, by_recipe = qdcgen(command, "runs/small", cwd=done), qdcgen(command, "small.yaml", cwd=done)
        assert (by_folder.returncode, by_folder.stderr) == (0, "")
        assert (by_recipe.returncode, by_recipe.stdout) == (0, by_folder.stdout)
    assert json.loads(qdcgen("status", "runs/small", "--json", cwd=done).stdout)["rows"]["published"] == 40
    assert "40 of 40 accepted, 0 owed" in qdcgen("status", "runs/small", cwd=done).stdout
    said = json.loads((done / "runs/small/run_results.json").read_text())
    shown = qdcgen("status", "runs/small", cwd=done).stdout
    assert f"tried     {said['rows']['attempted']}: " in shown
    assert "40 accepted" in shown
    assert f"calls     {said['calls']['made']} by the last invocation, 0 from the journal" in shown
    assert "  cost      $" in shown
    assert "files as written" in qdcgen("verify", "runs/small", cwd=done).stdout


def test_the_exit_code_says_how_a_run_ended(qdcgen, small, server):
    def ended(*more):
        return qdcgen("run", "small.yaml", "--out", f"out{len(more)}{more[0][:3] if more else ''}", "-q",
                      *(word for one in more for word in ("--set", one))).returncode  # fmt: skip

    assert ended() == 0
    assert ended("gates.complexity.words='<= 1'") == 3
    assert ended("filters.1.length.min_words=500", "target.candidates=1") == 4
    assert ended("target.rows=no") == 2
    server.answer = lambda _body: 401
    assert ended("seed=9") == 5
    next((small.parent / "out0" / "raw").iterdir()).write_bytes(b"x")
    assert qdcgen("run", "small.yaml", "--out", "out0").returncode == 1


@pytest.mark.parametrize("arguments", [("preview", "-n", "9"), ("plan", "--estimate")])
def test_a_ctrl_c_is_never_silent(small, server, arguments):
    server.latency = 5
    command, *more = arguments
    process = subprocess.Popen(
        [sys.executable, "-c", "from qdcgen.cli import main; main()", command, str(small), *more], cwd=small.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not server.asked and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, ("", "interrupted\n"))


def test_a_ctrl_c_before_anything_is_done_says_so_too(monkeypatch, capsys):
    def interrupted(_kind, _name):
        raise KeyboardInterrupt

    monkeypatch.setattr("qdcgen.start.parts_text", interrupted)
    monkeypatch.setattr(sys, "argv", ["qdcgen", "parts"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "interrupted\n")


# ── report ──


def test_report_says_where_the_recipe_given_is_not_that_of_the_run(qdcgen, done):
    other = done / "other.yaml"
    other.write_text("# with a comment\n" + (done / "small.yaml").read_text())
    assert "made with" not in qdcgen("report", "other.yaml", cwd=done).stdout
    other.write_text((done / "small.yaml").read_text().replace("rows: 40", "rows: 50"))
    shown = " ".join(qdcgen("report", "other.yaml", cwd=done).stdout.split())
    assert "other.yaml has other target than the recipe that this run was made with, runs/small/recipe.yaml" in shown


def test_an_anchor_that_is_not_there_is_called_so(qdcgen, tmp_path):
    table(tmp_path)
    ended = qdcgen("report", "d.csv", "--anchor", "nofile")
    assert (ended.returncode, ended.stderr) == (2, "nofile: no such file\n")


def test_report_reads_any_table_in_three_forms(qdcgen, tmp_path):
    table(tmp_path)
    figures = []
    for name in ("d.jsonl", "d.csv", "d.parquet"):
        said = qdcgen("report", name, "--text", "text", "--axis", "kind", "--json")
        assert (said.returncode, said.stderr) == (0, "")
        figures.append([(one["table"], one["name"], one["value"]) for one in json.loads(said.stdout)["measures"]])
    assert figures[0] == figures[1] == figures[2]
    shown = qdcgen("report", "d.csv")
    assert (shown.returncode, "\ntext      text\n" in shown.stdout) == (0, True)
    assert "qdcgen report d.csv --notes says how" in shown.stdout
    noted = qdcgen("report", "d.csv", "--notes")
    assert (noted.returncode, "--notes" in noted.stdout) == (0, False)
    assert len(noted.stdout.splitlines()) > len(shown.stdout.splitlines())
    marked = qdcgen("report", "d.csv", "--markdown")
    assert marked.returncode == 0
    assert "| " in marked.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["d.csv", "--text", "txt"], "d.csv: no column 'txt'; did you mean 'text'? (columns: text, kind)\n"),
        (["d.csv", "--axis", "knd"], "d.csv: no column 'knd'; did you mean 'kind'? (columns: text, kind)\n"),
        (["d.csv", "--embedder", "wordlama"],
         "no embedder called 'wordlama'; did you mean 'wordllama'? (qdcgen parts embedders lists them)\n"),
        (["empty.jsonl"], "empty.jsonl: the file is empty\n"),
        (["empty.csv"], "empty.csv: the file is empty\n"),
        (["empty.parquet"], "empty.parquet: the file is empty\n"),
        (["d.txt"], f"d.txt: expected a run folder, a recipe, or a file ending in {ENDINGS}\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_table_that_cannot_be_measured_says_why(qdcgen, tmp_path, arguments, said):
    table(tmp_path)
    for name in ("empty.jsonl", "empty.csv", "empty.parquet", "d.txt"):
        (tmp_path / name).touch()
    ended = qdcgen("report", *arguments)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)


# ── parts, schema ──


def test_parts_lists_all_one_kind_or_one_part(qdcgen):
    everything = qdcgen("parts").stdout
    for word in ("layers\n", "steps\n", "filters\n", "metrics\n", "embedders\n", "  length ", "  write "):
        assert word in everything
    filters = qdcgen("parts", "filters").stdout
    assert filters.startswith("filters\n  agreement  ")
    assert "layers" not in filters
    one = qdcgen("parts", "filters", "length").stdout
    assert one.startswith("filter length\n\nKeeps rows whose field has between")
    assert "  min_words (default 1; the bare value)\n      Fewest words.\n" in one


def test_parts_explains_every_key_of_a_recipe(qdcgen):
    whole = qdcgen("parts", "recipe")
    assert (whole.returncode, whole.stderr) == (0, "")
    for words in (
        "\nbelow measure.solver: ", "\n  tries (whole number, at least 2, at most 64; default 8)\n",
        "\nbelow target.complexity: ", "\nbelow models.<alias>.price: ", "\nbelow taxonomy.<axis>.grow: ",
        "\n  from (text, at most 4,000 letters; required)\n", "\n    near_duplicates: near_duplicates, exact_repeats\n",
    ):  # fmt: skip
        assert words in whole.stdout
    one = qdcgen("parts", "target")
    assert one.stdout.startswith("target (mapping, below; required)\n    How many rows.\n\nbelow target: ")
    assert one.stdout == qdcgen("parts", "recipe", "target").stdout
    assert one.stdout.strip() in whole.stdout
    assert "\nexecutors\n" in (every := qdcgen("parts").stdout)
    assert "exporters" not in every


def test_the_reference_of_recipes_leaves_out_no_key_and_knows_every_gate():
    whole = "\n".join(reference.section(key) for key in reference.known())
    keys = [found[1] for found in re.finditer(r"^(?:  )?([a-z_]+) \(", whole, re.MULTILINE)]
    definitions = recipe_schema()["$defs"]
    records = ("Alias", "Price", "Source", "Growing", "Strategy", "Target", "Complexity", "Measuring", "Anchor",
               "Landing", "Rating", "Solver", "Instructed")  # fmt: skip
    expected = [key for name in records for key in definitions[name]["properties"]]
    assert sorted(keys) == sorted([*expected, *recipe_schema()["properties"]])
    gates = reference.section("gates")
    for name in parts.names("metrics"):
        assert all(re.search(rf"\b{gate}\b", gates) for gate in parts.find("metrics", name).gates)
    assert set(reference.SHORT) <= set(re.findall(r"[a-z_.<>]+", whole)) | {
        "taxonomy.<axis>.grow", "measure.text", "measure.solver.question", "measure.ifd.question", "gates",
    }  # fmt: skip


@pytest.mark.parametrize(
    "short",
    ["taxonomy.topic=[a, b]", "strategies=[[topic, tone]]", "measure.text=message", "measure.text=[message]",
     "measure.landing=writer", "measure.complexity=writer", "measure.anchor=d.jsonl",
     "measure.solver={model: writer, question: message, answer: urgency}", "taxonomy.topic={grow: kinds of trouble}"],
)  # fmt: skip
def test_short_forms_that_the_reference_tells_are_read(qdcgen, small, tmp_path, short):
    table(tmp_path)
    ended = qdcgen("check", small, "--set", short)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_schema_is_one_json_document_without_internal_keys(qdcgen):
    document = json.loads(qdcgen("schema").stdout)
    assert set(document["properties"]) == {
        "recipe", "name", "about", "seed", "models", "taxonomy", "strategies", "forbid", "layers", "generate",
        "filters", "filter_order", "target", "measure", "gates",
    }  # fmt: skip


# ── pipes, hostile texts, folders ──


@pytest.mark.parametrize("arguments", [["parts"], ["schema"], ["check", "small.yaml"], ["plan", "small.yaml"]])
def test_a_closed_pipe_is_quiet(small, arguments):
    ended = subprocess.run(
        f'"{sys.executable}" -c "from qdcgen.cli import main; main()" {" ".join(arguments)} | head -c 1 > /dev/null',
        shell=True, cwd=small.parent, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.stderr == ""


def hostile():
    if not TERMINAL.is_file():
        return ["\x1b[2J", "\x1b]52;c;cm0gLXJm\x07", "good\rbad", "\u202eabc", "\x9b31m", "\u200b"]
    return [json.loads(line)["text"] for line in TERMINAL.read_text().splitlines()]


def test_no_control_byte_of_a_reply_a_label_or_a_file_name_reaches_the_terminal(qdcgen, small, server):
    texts = hostile()
    replies = iter(range(10**6))
    server.answer = lambda _body: json.dumps(
        {"message": f"{texts[next(replies) % len(texts)]} some words {next(replies)}", "urgency": "low"}
    )
    small.write_text(small.read_text().replace("[polite, angry]", '["po\\e[31mlite", "an\\u202egry"]'))
    (small.parent / "t.csv").write_bytes(b"id,parent\na\x1b[2J,\nb,zz\x1b[5m\n")
    for arguments in (
        ["check", "small.yaml"], ["plan", "small.yaml"], ["preview", "small.yaml", "-n", "20"],
        ["preview", "small.yaml", "-n", "20", "--json"], ["run", "small.yaml", "--set", "target.candidates=1"],
        ["status", "small.yaml"], ["journal", "small.yaml"], ["report", "small.yaml"],
        ["report", "small.yaml", "--markdown"],
        ["report", "small.yaml", "--json"], ["check", "small.yaml", "--set", "taxonomy.tone=t.csv"],
        ["check", "no\x1b[2J.yaml"], ["\x1b[2J"], ["check", "--\x1b[2J"], ["parts", "\x1b[2J"], ["init", "a\x1bb.yaml"],
        ["check", "small.yaml", "--set", "\x1b[2J=1"], ["report", "small.yaml", "--axis", "\x1b[2J"],
    ):  # fmt: skip
        said = qdcgen(*arguments)
        assert said.stdout or said.stderr
        found = HARMFUL.search(said.stdout) or HARMFUL.search(said.stderr)
        assert found is None, (arguments, found)


def test_a_folder_that_cannot_be_written_to_says_so(qdcgen, tmp_path, small):
    (tmp_path / "file").write_text("")
    ended = qdcgen("run", "small.yaml", "--out", "file/out")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "file/out: cannot be written to: Not a directory\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_says_so(qdcgen, tmp_path, small):
    tmp_path.chmod(0o500)
    try:
        for arguments, target in ((["init"], "recipe.yaml"), (["run", "small.yaml"], "runs/small")):
            ended = qdcgen(*arguments)
            assert ended.returncode in {1, 2}
            assert ended.stderr.startswith(f"{target}: cannot be written")
    finally:
        tmp_path.chmod(0o700)
