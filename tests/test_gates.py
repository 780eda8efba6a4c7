"""A gate that nothing in the recipe measures is told by `check`, before any call is paid for."""

import pytest

from qdcgen import parts, scrutiny
from qdcgen.errors import RecipeError
from qdcgen.recipe import loads

BARE = """\
recipe: 1
name: bare
models:
  writer: {model: openai/test}
taxonomy:
  topic: [cards, transfers]
generate:
  - write: {fields: {question: string, answer: string, kind: [yes, no]}, prompt: "{{ topic }}"}
target: {rows: 40}
"""
RICH = """\
recipe: 1
name: rich
models:
  writer: {model: openai/test}
  small: {model: embedded}
taxonomy:
  topic: [cards, transfers]
layers:
  who: {models: [writer, small]}
  length: {range: {min: 5, max: 20}}
generate:
  - write: {fields: {question: string, answer: string, kind: [yes, no]}, prompt: "{{ topic }}"}
  - complexify: {of: question}
  - correct: kind
target:
  rows: 40
  complexity:
    {by: words, bands: {plain: "< 5", easy: "5..9", medium: "9.5..20", hard: "> 20"},
     shares: {plain: 1, easy: 1, medium: 1, hard: 1}}
measure:
  text: question
  anchor: {file: real.csv, labels: {topic: label}}
  pairs: pairs.csv
  complexity: {model: writer, anchors: real.csv}
  solver: {model: writer, question: question, answer: answer}
  ifd: {question: question, answer: answer}
"""
BANDS = RICH[RICH.index("  complexity:\n") : RICH.index("measure:")]
ASKED = "a step complexify or target.complexity"
WITHOUT = {
    "measure.solver": [("  solver: {model: writer, question: question, answer: answer}\n", "")],
    "measure.complexity": [("  complexity: {model: writer, anchors: real.csv}\n", "")],
    "measure.complexity.anchors": [(", anchors: real.csv", "")],
    "measure.ifd": [("  ifd: {question: question, answer: answer}\n", "")],
    "measure.pairs": [("  pairs: pairs.csv\n", "")],
    "measure.anchor": [("  anchor: {file: real.csv, labels: {topic: label}}\n", "")],
    "measure.anchor.labels": [(", labels: {topic: label}", "")],
    "target.complexity": [(BANDS, "")],
    ASKED: [(BANDS, ""), ("  - complexify: {of: question}\n", "")],
    "an embedded model": [("embedded", "openai/small")],
    "a step correct": [("  - correct: kind\n", "")],
    "a layer models": [("  who: {models: [writer, small]}\n", "")],
    "a layer of numbers": [("  length: {range: {min: 5, max: 20}}\n", "")],
    "a second axis": [],
    "a third axis": [],
}
"""What a gate may need → how RICH is written without it; nothing where other things go with it."""
METRICS = {name: parts.find("metrics", name) for name in parts.names("metrics")}


def told(text, folder, table, gates):
    """Gate → what is said of it, and the line that is named; the recipe has no other fault."""
    head = text + f"gates:\n  {table}:\n"
    text = head + "".join(f'    {gate}: ">= 0"\n' for gate in gates)
    try:
        loads(text, file="r.yaml", folder=folder)
    except RecipeError as error:
        found = {}
        for fault in error.faults:
            gate, said = fault.message.removeprefix(f"gates.{table}.").split(": ", 1)
            assert fault.line == head.count("\n") + 1 + gates.index(gate)
            assert said.startswith("nothing measures it: ")
            found[gate] = said
        return found
    return {}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "real.csv").write_text("question,label\n" + "".join(f"text {n},cards\n" for n in range(30)))
    pairs = "".join(f"a{n},b{n},{n % 2}\n" for n in range(60))
    (tmp_path / "pairs.csv").write_text("text_a,text_b,same\n" + pairs)
    return tmp_path


@pytest.mark.parametrize("name", METRICS)
def test_a_gate_is_told_where_the_recipe_lacks_what_measures_it_and_only_there(name, folder):
    metric = METRICS[name]
    gates, needs = list(metric.gates), metric.needs
    assert set(needs) <= set(gates)
    assert told(RICH, folder, metric.table, gates) == {}
    poor = told(BARE, folder, metric.table, gates)
    assert poor == {gate: f"nothing measures it: add {' and '.join(needs[gate])}" for gate in gates if gate in needs}


@pytest.mark.parametrize("need", WITHOUT)
def test_each_need_is_told_by_itself(need, folder):
    text = RICH
    for old, new in WITHOUT[need]:
        assert old in text
        text = text.replace(old, new)
    for metric in METRICS.values():
        gates = [gate for gate in metric.gates if need in metric.needs.get(gate, ())]
        if gates and WITHOUT[need]:
            said = told(text, folder, metric.table, gates)
            assert set(said) == set(gates)
            assert all(need in one for one in said.values())


def test_every_need_is_one_that_a_recipe_can_have_and_is_tried_here():
    used = {need for metric in METRICS.values() for needs in metric.needs.values() for need in needs}
    assert used == set(WITHOUT)
    assert {one for need in used for one in need.split(" or ") if not one.startswith(("measure.", "target."))} == set(
        scrutiny.NEEDED
    )


def test_axes_that_are_written_make_pairs_and_triples(folder):
    two = BARE.replace("topic: [cards, transfers]", "topic: [cards, transfers]\n  tone: [calm, angry]")
    assert told(two, folder, "coverage", ["pairs", "triples"]) == {"triples": "nothing measures it: add a third axis"}


def test_a_band_that_the_target_does_not_have_is_told(folder):
    text = RICH.replace('plain: "< 5", ', "").replace("plain: 1, ", "")
    assert told(text, folder, "complexity", ["plain", "easy"]) == {
        "plain": "nothing measures it: target.complexity has the bands easy, medium, hard"
    }


def test_a_gate_is_not_said_to_lack_what_could_not_be_read(folder):
    text = RICH.replace("question: question, answer: answer}\n  ifd", "qestion: x}\n  ifd")
    with pytest.raises(RecipeError) as caught:
        loads(f'{text}gates:\n  complexity: {{pass_rate: ">= 0"}}\n', file="r.yaml", folder=folder)
    assert not any("nothing measures" in one.message for one in caught.value.faults)
