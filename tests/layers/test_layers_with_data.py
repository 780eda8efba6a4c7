"""Layers that read files or ask a model first, in whole runs against a loopback model."""

import json

import orjson
import polars as pl
import pytest

from qdcgen.errors import RecipeError, RunDiffers
from qdcgen.recipe import load
from qdcgen.run import run
from qdcgen.start import read_files

RECIPE = """\
recipe: 1
name: seeded
seed: 5
models: {{writer: {{model: openai/test, api_base: "{url}"}}}}
taxonomy: {{topic: {{tree: {{cards: [lost, declined], loans: [rates]}}}}}}
layers:
  who: {{people: {{file: people.txt, grow: 8, pairs: true}}}}
  sub: {{subtopics: {{of: topic, count: 3}}}}
  doc: {{documents: {{file: docs.jsonl, text: body, by: {{topic: about}}}}}}
  tools: {{tool_graph: {{file: tools.json, walk: 2}}}}
generate:
  - write:
      fields: {{message: string}}
      prompt: "{{{{ who }}}} | {{{{ sub }}}} | {{{{ doc }}}} | {{{{ doc.source }}}} | {{{{ tools }}}}"
target: {{rows: {rows}}}
"""
WORDS = {
    "people": [
        ["A retired judge who breeds pigeons.", "A pupil who hates maths.", "A sailor home for the winter."],
        ["A locksmith with a van.", "A lecturer in rhetoric.", "A food inspector."],
        ["A porter who sings.", "A widow learning to drive.", "A clerk with a loud laugh."],
    ],
    "subtopics": [["stolen abroad", "left in a taxi", "lost in the post"]],
}


@pytest.fixture
def recipe(tmp_path, server):
    asked = []

    def answer(body):
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        (key,) = schema.get("properties", {"": 0})
        asked.append((key, body["messages"][-1]["content"]))
        if key in WORDS:
            turn = sum(one == key for one, _ in asked) - 1
            return json.dumps({key: WORDS[key][turn % len(WORDS[key])]})
        return json.dumps({"message": f"message number {len(asked)} of its own kind"})

    server.answer = answer
    (tmp_path / "people.txt").write_text("A nurse on a night shift.\nA baker who opens at four.\n")
    docs = [
        {"body": f"{{{{ 7*7 }}}} about {topic} {n}", "about": topic} for n in range(4) for topic in ("cards", "loans")
    ]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    (tmp_path / "tools.json").write_text(json.dumps([{"name": n, "parameters": parameters} for n in ("hotel", "bus")]))

    def write(rows):
        path = tmp_path / "seeded.yaml"
        path.write_text(RECIPE.format(url=server.url, rows=rows))
        return path

    write.asked = asked
    return write


def test_rows_carry_what_was_drawn_and_preparing_is_paid_for_once(tmp_path, qdcgen, recipe):
    path = recipe(12)
    first = qdcgen("run", path, "--quiet")
    assert first.returncode == 0, first.stderr
    kinds = [kind for kind, _ in recipe.asked]
    assert kinds.count("people") == 2
    assert kinds.count("subtopics") == 3
    assert kinds.count("message") == 12
    frame = pl.concat([pl.read_parquet(one) for one in sorted((tmp_path / "runs/seeded/data").glob("*.parquet"))])
    assert [field.name for field in frame.schema["who"].fields] == ["text", "first", "second"]
    assert len({frozenset((one["first"], one["second"])) for one in frame["who"]}) > 6
    assert {one["text"] for one in frame["sub"]} == set(WORDS["subtopics"][0])
    for one, topic in zip(frame["doc"], frame["topic"], strict=True):
        assert topic.split("/")[0] in one["text"]
        assert one["text"].startswith("{{ 7*7 }} about")
    assert all([tool["name"] for tool in orjson.loads(one["tools"])] == one["names"] for one in frame["tools"])
    prompt = next(text for kind, text in recipe.asked if kind == "message")
    assert prompt.startswith("First person: ")
    assert "| {{ 7*7 }} about" in prompt
    assert '{"name":"hotel","description":"","parameters"' in prompt
    assert "49" not in prompt

    frozen = orjson.loads((tmp_path / "runs/seeded/axes/who.json").read_bytes())
    assert len(frozen["prepared"]["people"]) == 8
    recipe.asked.clear()
    more = qdcgen("run", recipe(18), "--quiet")
    assert more.returncode == 0, more.stderr
    assert [kind for kind, _ in recipe.asked] == ["message"] * 6


def test_a_frozen_layer_is_a_file_that_a_person_may_prune(tmp_path, qdcgen, recipe):
    assert qdcgen("run", recipe(3), "--quiet").returncode == 0
    path = tmp_path / "runs/seeded/axes/sub.json"
    frozen = orjson.loads(path.read_bytes())
    for leaf in frozen["prepared"]["leaves"].values():
        leaf["subtopics"] = ["only this"]
    path.write_bytes(orjson.dumps(frozen))
    recipe.asked.clear()
    assert qdcgen("run", recipe(9), "--quiet").returncode == 0
    said = [text for kind, text in recipe.asked if kind == "message"]
    assert said
    assert all("| only this |" in text for text in said)


def test_a_file_that_cannot_be_used_is_a_fault_of_the_recipe(tmp_path, qdcgen, recipe):
    path = recipe(3)
    (tmp_path / "tools.json").write_text('[{"title": "x"}]')
    said = qdcgen("run", path)
    assert said.returncode == 2
    assert "tool 1: a tool without a name" in said.stderr
    (tmp_path / "tools.json").unlink()
    said = qdcgen("plan", path)
    assert said.returncode == 2
    assert "no file 'tools.json'" in said.stderr


def test_plan_and_run_name_components_and_isolated_tools(tmp_path, qdcgen, recipe):
    path = recipe(3)
    said = qdcgen("plan", path)
    assert "tools: 2 tools, 2 steps from one to another; 1 components" in said.stdout
    assert "doc: 8 passages of 8 rows" in said.stdout
    said = qdcgen("run", path)
    assert said.returncode == 0, said.stderr
    assert "tools: component of 2 tools: hotel, bus" in said.stderr
    assert "who: 8 people (2 calls, 0 near-duplicates left out)" in said.stderr
    assert "sub: 9 subtopics of 3 leaves" in said.stderr


def test_a_leaf_that_is_new_gets_subtopics_and_the_others_keep_theirs(tmp_path, qdcgen, recipe):
    path = recipe(6)
    assert qdcgen("run", path, "--quiet").returncode == 0
    path.write_text(path.read_text().replace("loans: [rates]", "loans: [rates, early repayment]"))
    recipe.asked.clear()
    said = qdcgen("run", path, "--quiet")
    assert said.returncode == 0, said.stderr
    assert [kind for kind, _ in recipe.asked].count("subtopics") == 1
    frozen = orjson.loads((tmp_path / "runs/seeded/axes/sub.json").read_bytes())
    assert [leaf["path"] for leaf in frozen["prepared"]["leaves"].values()][-1] == "loans/early repayment"


def test_files_are_read_before_a_model_is_paid(tmp_path, qdcgen, recipe):
    path = recipe(3)
    (tmp_path / "tools.json").write_text('[{"title": "x"}]')
    assert qdcgen("run", path).returncode == 2
    assert recipe.asked == []


def test_check_reads_the_files_of_layers_and_a_changed_one_is_noticed(tmp_path, server):
    path = tmp_path / "docs.yaml"
    path.write_text(
        "recipe: 1\nname: docs\n"
        f"models: {{w: {{model: openai/test, api_base: '{server.url}'}}}}\n"
        "taxonomy: {topic: [a, b]}\n"
        "layers: {doc: {documents: texts.txt}}\n"
        "generate:\n  - write: {fields: {text: string}, prompt: '{{ topic }} {{ doc }}'}\n"
        "target: {rows: 4}\n"
    )
    with pytest.raises(RecipeError, match=r"docs.yaml:5:\d+: layers.doc: no file 'texts.txt'"):
        read_files(load(path))
    (tmp_path / "texts.txt").write_text("One text.\n\nTwo texts.\n")
    read_files(load(path))
    assert run(load(path), tmp_path / "out", quiet=True).exit_code == 0
    (tmp_path / "texts.txt").write_text("One text.\n\nOther texts.\n")
    with pytest.raises(RunDiffers, match=r"layers\.doc\.contents"):
        run(load(path), tmp_path / "out", quiet=True)
    wrong = path.read_text().replace("{{ doc }}", "{{ doc.src }} {{ topic.pth }}")
    path.write_text(wrong)
    with pytest.raises(RecipeError, match=r"doc.src.*: doc has text, source, chunk"):
        load(path)


def test_a_frozen_layer_with_other_settings_is_asked_for_anew_with_replace(tmp_path, server):
    path = tmp_path / "sub.yaml"
    path.write_text(
        "recipe: 1\nname: sub\n"
        f"models: {{w: {{model: openai/test, api_base: '{server.url}'}}}}\n"
        "taxonomy: {topic: [a, b]}\n"
        "layers: {sub: {subtopics: {of: topic, count: 2}}}\n"
        "generate:\n  - write: {fields: {text: string}, prompt: '{{ topic }} {{ sub }}'}\n"
        "target: {rows: 4}\n"
    )
    assert run(load(path), tmp_path / "out", quiet=True).exit_code == 0
    other = load(path, overrides=("layers.sub.subtopics.count=3",))
    with pytest.raises(RunDiffers, match=r"layers\.sub\.subtopics\.count"):
        run(other, tmp_path / "out", quiet=True)
    assert run(other, tmp_path / "out", quiet=True, replace=True).exit_code == 0
