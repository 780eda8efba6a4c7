"""Templates: silent on what people write, loud on planted frames; the adaptive model against a plain loop."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdcgen.metrics.templates import NEW, Templates, costs, frames, numbered
from qdcgen.parts import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdcgen.rows import Measure

DATA = Path(__file__).parents[2] / "../shared/data"
SYLLABLES = ["ba", "do", "fi", "gu", "ke", "lo", "mi", "nu", "pa", "re", "si", "to"]
SHAPES = [
    "Write a short poem about {} in the style of {} for {}.",
    "Explain how {} can be used to {} at home.",
    "I have a problem with my {} because it {} since {}.",
    "List five reasons why {} is better than {}.",
]


def measured(texts: Sequence[str], **more: object) -> dict[str, Measure]:
    frame = pl.DataFrame({"text": list(texts)}, schema={"text": pl.String})
    sample = Sample("kept", texts, frame, lambda: np.zeros((0, 1), dtype=np.float32), "none", **more)  # type: ignore[arg-type]
    return {one.name: one for one in Templates().measure(sample)}


def free(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(600)]
    weights = [1 / (1 + place) for place in range(600)]
    return [" ".join(rng.choices(words, weights, k=rng.randint(6, 16))) for _ in range(n)]


def planted(texts: Sequence[str], share: float, shapes: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)

    def slot() -> str:
        return " ".join("".join(rng.choices(SYLLABLES, k=2)) for _ in range(rng.randint(1, 3)))

    def fill() -> str:
        return rng.choice(SHAPES[:shapes]).format(slot(), slot(), slot())

    return [fill() if place < share * len(texts) else text for place, text in enumerate(texts)]


def real(name: str) -> list[str]:
    if not DATA.exists():
        pytest.skip(f"no {DATA}")
    if name == "banking77":
        return pl.read_csv(DATA / "banking77/train.csv")["text"].to_list()
    if name == "c4_demo":
        return pl.read_ndjson(DATA / "c4_demo/c4_demo.jsonl")["text"].to_list()
    return pl.read_ndjson(DATA / "self_instruct/multi_model_outputs.jsonl")["output"].drop_nulls().to_list()


@pytest.mark.parametrize("name", ["banking77", "c4_demo", "self_instruct"])
def test_what_people_and_models_freely_write_raises_no_alarm(name: str) -> None:
    found = measured(real(name))
    assert found["templated texts"].value == 0
    assert (found["foreseen words"].value or 1) < 0.25
    assert not any(one.note.startswith("alarm") for one in found.values())


@pytest.mark.parametrize("shapes", [1, 4])
@pytest.mark.parametrize("share", [0.38, 0.7, 1.0])
@pytest.mark.parametrize("name", ["free", "banking77"])
def test_planted_templates_are_found_counted_and_named(name: str, share: float, shapes: int) -> None:
    texts = planted(free(600) if name == "free" else real(name)[::16][:600], share, shapes)
    found = measured(texts)["templated texts"]
    assert found.value == pytest.approx(share, abs=0.02)
    assert found.control == 0
    assert found.note.startswith(f"alarm: texts follow {'a template' if shapes == 1 else 'few templates'}; ")
    pieces = [shape.split("{}")[0].strip() for shape in SHAPES[:shapes]]
    assert any(f'the commonest: "{piece}' in found.note for piece in pieces), found.note
    assert "…" in found.note


def test_one_template_of_a_third_is_told_as_its_shape() -> None:
    note = measured(planted(free(500), 0.38, 1))["templated texts"].note
    said = 'alarm: texts follow a template; the commonest: "Write a short poem about … in the style of …'
    assert note.startswith(said)
    assert note.endswith("38% of texts")


def test_more_templated_texts_foretell_more_words() -> None:
    texts = free(400)
    shares = [measured(planted(texts, share, 2))["foreseen words"].value for share in (0.0, 0.3, 0.6, 1.0)]
    assert shares == sorted(shares, key=lambda share: share or 0)
    assert (shares[-1] or 0) > 0.4
    assert (shares[0] or 1) < 0.1


def test_repeats_of_a_text_are_a_template_without_slots() -> None:
    found = measured(free(60) + ["the same seven words again and again"] * 40)["templated texts"]
    assert found.value == pytest.approx(0.4)
    assert '"the same seven words again and again", 40% of texts' in found.note


def test_a_handful_alike_is_no_template() -> None:
    assert measured(free(91) + planted(free(9), 1, 1))["templated texts"].value == 0
    assert measured(free(40) + planted(free(9), 1, 1))["templated texts"].value == 0


def test_texts_that_follow_two_templates_count_once() -> None:
    split = [f"one two three four {n} five six seven eight".split() for n in range(30)]
    split += [f"one two three four w{n}".split() for n in range(30)]
    assert sum(frame.texts for frame in frames(split)) == 60
    assert frames([]) == frames([["word"]] * 50) == []


# ── the adaptive model ──────────────────────────────────────────────────────────────────────────────────────────────


def plain(split: Sequence[Sequence[str]]) -> list[float]:
    """The same model word by word, with dictionaries."""
    counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    bits = []
    for text in split:
        padded = ["", "", *text]
        for place in range(2, len(padded)):
            chance = 2.0**-NEW
            for k in range(3):
                met = counts[k, *padded[place - k : place]]  # type: ignore[index]
                if met:
                    chance = (met[padded[place]] + len(met) * chance) / (met.total() + len(met))
            bits.append(-math.log2(chance))
        for place in range(2, len(padded)):
            for k in range(3):
                counts[k, *padded[place - k : place]][padded[place]] += 1  # type: ignore[index]
    return bits


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=7), max_size=14))
def test_costs_are_those_of_a_plain_loop(split: list[list[str]]) -> None:
    words, owner = numbered(split)
    if len(words):
        assert costs(words, owner) == pytest.approx(plain(split))


def test_a_text_teaches_nothing_about_itself() -> None:
    words, owner = numbered([["a"] * 5, ["a"] * 5])
    bits = costs(words, owner)
    assert bits[:5].tolist() == [NEW] * 5
    assert max(bits[5:]) < 1


# ── any size ────────────────────────────────────────────────────────────────────────────────────────────────────────

ODD = st.sampled_from(
    ["", " ", "a", "a b", "one two three four five", "\x00 \x1b[31m", "\u202e rtl", "🦊 " * 9, "x" * 500]
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ODD, max_size=45), st.sampled_from([None, 20]), st.sampled_from([None, 0.5, 3.0]))
def test_figures_of_odd_texts_stay_in_range(texts: list[str], equal_n: int | None, equal_words: float | None) -> None:
    for one in measured(texts, equal_n=equal_n, equal_words=equal_words).values():
        if one.value is None:
            assert one.note.startswith("too few: ")
            continue
        assert one.interval is not None
        assert 0 <= one.interval[0] <= one.value + 1e-9
        assert one.value - 1e-9 <= one.interval[1] <= 1


def test_the_order_of_texts_changes_nothing() -> None:
    texts = planted(free(120), 0.4, 2)
    mixed = random.Random(1).sample(texts, len(texts))
    for more in ({}, {"equal_n": 60, "equal_words": 7.0}):
        assert measured(texts, **more) == measured(mixed, **more)


def test_a_report_on_a_file_of_templates_says_so(qdcgen: Any, tmp_path: Path) -> None:
    rows = planted(free(200), 0.5, 2)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    said = qdcgen("report", "rows.jsonl", "--text", "text", "--json")
    assert said.returncode == 0, said.stderr
    found = [one for one in json.loads(said.stdout)["measures"] if one["name"] == "templated texts"]
    assert [one["value"] for one in found] == [pytest.approx(0.5, abs=0.02)]
    assert found[0]["note"].startswith("alarm: texts follow few templates")
