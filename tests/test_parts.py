"""The contract over every part on every shelf, and what it takes to add one."""

import asyncio
import inspect
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from qdcgen import parts
from qdcgen.errors import RowFault
from qdcgen.parts import Filter, Layer, Metric, Sample, Tools, UnknownPart, position
from qdcgen.recipe import settings_of
from qdcgen.rows import Cell, Row

ROOT = Path(__file__).parent.parent
ALL = [(kind, name) for kind in parts.KINDS for name in parts.names(kind)]
REQUIRED = {
    "choice": {"values": {"a": 1.0, "b": 2.0}},
    "range": {"min": 1, "max": 9},
    "documents": {"file": "articles.jsonl"},
    "format": {"formats": {"email": {"text": "an email"}, "chat": {"text": "a chat message"}}},
    "label": {"field": "sentiment", "values": {"yes": 1.0, "no": 1.0}},
    "models": {"values": {"small": 3.0, "large": 1.0}},
    "persona": {"axes": {"risk": "attitude to financial risk", "pace": "how fast they decide"}},
    "people": {"pool": ["a nurse", "a baker"]},
    "subtopics": {"of": "topic"},
    "tool_graph": {"file": "tools.json"},
    "code": {"field": "text", "language": "python"},
    "contamination": {"against": ["test.jsonl"]},
    "write": {"fields": {"text": "string"}, "prompt": "Write."},
    "seed": {"prompt": "A premise."},
    "outline": {"prompt": "A plan."},
    "correct": {"field": "label"},
    "language": {"is": "en"},
    "pattern": {"must": ["."]},
    "judge": {"rubric": "Every sentence is clear."},
    "agreement": {"models": ["one", "other"], "rubric": "Every sentence is clear."},
    "solvable": {"question": ["text"], "answer": "answer"},
    "sentence_transformers": {"name": "none"},
    "provider": {"model": "openai/none"},
}


def made(kind, name):
    part = parts.find(kind, name)
    return part.model_validate(REQUIRED.get(name, {}))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_part_explains_itself_and_each_setting(kind, name):
    part = parts.find(kind, name)
    assert part.__doc__
    assert inspect.cleandoc(part.__doc__).split("\n\n")[0].endswith((".", "`."))
    for key, field in part.model_fields.items():
        assert field.description, f"{kind}/{name}.{key} has no docstring"


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_part_is_frozen_strict_and_survives_a_round_trip(kind, name):
    part = made(kind, name)
    assert type(part).model_validate(part.model_dump(by_alias=True)) == part
    with pytest.raises(ValueError, match="frozen"):
        part.nothing_of_that_name = 1
    with pytest.raises(ValueError, match="xtra"):
        type(part).model_validate({**REQUIRED.get(name, {}), "nothing_of_that_name": 1})


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_bare_value_sets_the_field_that_short_names(kind, name):
    part = parts.find(kind, name)
    if part.short is None:
        pytest.skip("has no short form")
    assert part.short in part.model_fields
    assert set(settings_of(part, "anything")) == {part.short}


TEXTS = {
    "none": [],
    "one": ["a single text of a few words"],
    "all equal": ["the same words again and again"] * 7,
    "hostile": ["", " ", "\x00\x1b[31m", "\u202e\u2066", "x" * 20_000, "🦊" * 50, "{{ 7 * 7 }}"],
    "plain": [f"text number {n} speaks of {n * 7 % 11} things and {n % 3} more" for n in range(40)],
}


def rows_with(texts):
    return [Row(Cell(f"{n:016x}", {"topic": "a"}, n, n), {"text": text}) for n, text in enumerate(texts)]


@pytest.mark.parametrize("name", parts.names("filters"))
@pytest.mark.parametrize("texts", TEXTS)
def test_a_filter_gives_one_verdict_per_row_and_a_reason_for_every_no(name, texts, tmp_path):
    part = made("filters", name)
    assert isinstance(part, Filter)
    rows = rows_with(TEXTS[texts])

    async def refusing(_alias, _messages, **_settings):
        raise RowFault("refused", "this model says nothing")

    file = tmp_path / "test.jsonl"
    file.write_text('{"text": "a text that no row has"}\n')
    tools = Tools(fields={"text": {"type": "string", "minLength": 1}}, ask=refusing, file=lambda _: file)
    verdicts = asyncio.run(part.judge(rows, tools))
    assert len(verdicts) == len(rows)
    assert all(verdict.kept or verdict.reason for verdict in verdicts)


@pytest.mark.parametrize("name", parts.names("layers"))
def test_a_layer_draws_the_same_value_at_the_same_place_and_only_what_it_supports(name):
    part = made("layers", name)
    assert isinstance(part, Layer)
    drawn = [part.draw({}, position(7, "topic=a", f"{n:016x}", name, n)) for n in range(64)]
    assert drawn == [part.draw({}, position(7, "topic=a", f"{n:016x}", name, n)) for n in range(64)]
    if (support := part.support()) is not None:
        assert {parts.word(value) for value in drawn} == {parts.word(value) for value in support}


@pytest.mark.parametrize("name", parts.names("metrics"))
@pytest.mark.parametrize("texts", TEXTS)
def test_a_metric_stays_in_its_range_and_says_too_few_rather_than_guess(name, texts):
    import numpy as np
    import polars as pl

    part = made("metrics", name)
    assert isinstance(part, Metric)
    listed = TEXTS[texts]
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(listed), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    frame = pl.DataFrame({"text": listed, "topic": ["a"] * len(listed)}, schema={"text": pl.String, "topic": pl.String})
    sample = Sample("kept", listed, frame, lambda: vectors, "test vectors 8d", layers=["topic"])
    for measure in part.measure(sample):
        assert measure.table == part.table
        low, high = measure.range
        if measure.value is None:
            assert measure.note
        else:
            assert low - 1e-9 <= measure.value <= high + 1e-9, measure
        if measure.interval:
            assert measure.interval[0] <= measure.interval[1]


def test_an_unknown_part_names_the_nearest_and_how_to_list_them():
    with pytest.raises(
        UnknownPart, match=r"no filter called 'lenght'; did you mean 'length'\? \(qdcgen parts filters lists"
    ):
        parts.find("filters", "lenght")


TOYS = {
    "filters/shouting.py": '''
        """Toy."""
        from qdcgen.parts import Filter
        from qdcgen.rows import Verdict

        class Shouting(Filter):
            """Keeps what is not in capitals."""

            async def judge(self, rows, tools):
                return [Verdict(kept=not row.fields["text"].isupper(), reason="in capitals") for row in rows]
    ''',
    "layers/coin.py": '''
        """Toy."""
        from qdcgen.parts import Layer

        class Coin(Layer):
            """Heads or tails."""

            def draw(self, names, at):
                return "heads" if at.u < 0.5 else "tails"
    ''',
    "metrics/vowels.py": '''
        """Toy."""
        from typing import ClassVar
        from qdcgen.parts import Metric
        from qdcgen.rows import Measure

        class Vowels(Metric):
            """Share of vowels."""

            table: ClassVar[str] = "complexity"

            def measure(self, sample):
                text = "".join(sample.texts)
                share = sum(c in "aeiou" for c in text) / len(text) if text else None
                return [Measure("complexity", "vowels", share, n=len(sample.texts), of=sample.of, note="toy")]
    ''',
    "steps/echo.py": '''
        """Toy."""
        from qdcgen.parts import Step

        class Echo(Step):
            """Writes its cell as text."""

            async def take(self, draft, tools):
                draft.fields["text"] = tools.render("a text of {{ topic }} with {{ coin }}, number {{ n }}",
                                                    {**draft.names, "n": draft.cell.slot})

            def fills(self):
                return {"text": {"type": "string"}}
    ''',
}

TOY_RECIPE = """
recipe: 1
name: toys
models: {writer: {model: openai/none, api_base: "http://127.0.0.1:9"}}
taxonomy: {topic: [a, b]}
layers: {coin: coin}
generate: [echo]
filters: [shouting]
target: {rows: 12}
"""


def test_a_new_filter_layer_metric_and_step_are_one_file_each_and_no_edit_elsewhere(tmp_path):
    shutil.copytree(ROOT / "qdcgen", tmp_path / "qdcgen", ignore=shutil.ignore_patterns("__pycache__"))
    before = {path: path.read_bytes() for path in (tmp_path / "qdcgen").rglob("*.py")}
    for name, source in TOYS.items():
        (tmp_path / "qdcgen" / name).write_text(textwrap.dedent(source).lstrip())
    (tmp_path / "toys.yaml").write_text(TOY_RECIPE)
    said = subprocess.run(
        [sys.executable, "-c", "from qdcgen.cli import main; main()", "run", "toys.yaml", "--out", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        timeout=120,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert "vowels" in said.stdout
    assert "rejected · shouting" in said.stdout
    assert all(path.read_bytes() == content for path, content in before.items())


def test_chance_is_the_rows_own_and_does_not_move_when_a_layer_is_added():
    one = position(7, "topic=a", "00aa", "mood", 3)
    assert one == position(7, "topic=a", "00aa", "mood", 3)
    assert one != position(7, "topic=a", "00aa", "length", 3)
    assert random.Random(one.row_seed).random() == one.rng.random()
