"""Default measures of diversity move one way with planted collapse, and hold still where only n or length changes.

The fast version of `python -m docs.measures`, with its own code, on made-up texts; docs/measures.md has the rest.
"""

from __future__ import annotations

import random
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from xml.etree import ElementTree as ET

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdcgen.embedders.wordllama import Wordllama
from qdcgen.measure import METRICS, measure, samples_of
from qdcgen.parts import find

ROOT = Path(__file__).parents[2]


def _script():
    spec = spec_from_file_location("docs_measures", ROOT / "docs" / "measures.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["docs_measures"] = module
    spec.loader.exec_module(module)
    return module


shown = _script()

SYLLABLES = ["ba", "do", "fi", "gu", "ke", "lo", "mi", "nu", "pa", "re", "si", "to", "ve", "xa", "yo", "zu"]


def texts(n, seed=0, words=14):
    """Texts of one length that begin in one of 300 ways; half of their words are of one topic, half are common ones."""
    rng = random.Random(5)
    known = sorted({"".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(4_000)})
    rng.shuffle(known)
    often = [1 / (rank + 2) for rank in range(len(known))]
    topics = [rng.sample(known, 40) for _ in range(60)]
    starts = [" ".join(rng.choices(known, often, k=3)) for _ in range(300)]
    rng = random.Random(seed)
    found = []
    for _ in range(n):
        topic = rng.choice(topics)
        said = rng.choices(known, often, k=words - 3)
        rest = [rng.choice(topic) if rng.random() < 0.5 else word for word in said]
        found.append(" ".join([rng.choice(starts), *rest]) + ".")
    return found


def one_set(n=1_200, words=14):
    return shown.Set("made up", texts(n, words=words), {}, texts(300, seed=9, words=words))


@pytest.fixture(scope="module")
def collapse():
    return shown.by_collapse(one_set(), draws=1, size=300, shares=(0.0, 0.3, 0.6, 0.9))


@pytest.fixture(scope="module")
def by_size():
    return shown.by_size(one_set(3_000), draws=2, sizes=(250, 1_000, 3_000))


@pytest.fixture(scope="module")
def by_length():
    return shown.by_length(one_set(700, words=40), draws=2, lengths=(5, 10, 20), size=220)


NEED_MORE = {"mean distance within a mix", "semantic classes", "largest semantic class"}
"""What needs labels or pairs."""
DOUBTED = {name for name, faults in shown.KNOWN.items() if "copies" in faults}


def test_every_default_measure_of_diversity_is_looked_at(collapse) -> None:
    looked_at = {figure.metric for figure in shown.FIGURES}
    others = {"effects", "between_models"}  # of axes, and of models: docs/measures.md says why
    of_diversity = {name for name in METRICS if find("metrics", name).table == "diversity"}
    assert of_diversity - others == looked_at
    there = set(collapse["copies"][0.9][0])
    assert {figure.name for figure in shown.FIGURES} - NEED_MORE <= there


@pytest.mark.parametrize(
    "figure", [one for one in shown.FIGURES if one.name not in NEED_MORE], ids=lambda one: one.name
)
def test_copies_of_few_texts_move_a_figure_one_way(figure, collapse) -> None:
    way = shown.monotone(shown.course(collapse["copies"], figure.name), figure.more)
    assert way == "yes" or figure.name in DOUBTED, way


@pytest.mark.parametrize("kind", ["paraphrases", "templates"])
def test_collapse_that_letters_do_not_show_is_seen(kind, collapse) -> None:
    seen = {
        figure.name
        for figure in shown.FIGURES
        if shown.monotone(shown.course(collapse[kind], figure.name), figure.more) == "yes"
    }
    assert {"distinct 2-grams", "self-repetition", "compression ratio"} <= seen
    only = {"templates": {"templated texts", "distinct openings"}, "paraphrases": {"mean distance to 5 nearest"}}
    assert only[kind] <= seen


def test_repeats_of_letters_are_blind_to_templates(collapse) -> None:
    told = shown.course(collapse["templates"], "exact repeats")
    assert told[-1][0] < 0.05


WORDING = (
    "distinct 1-grams",
    "distinct 2-grams",
    "compression ratio",
    "expectation-adjusted distinct",
)


@pytest.mark.parametrize("name", [*WORDING, "distinct openings", "mean distance to 5 nearest", "Vendi score"])
def test_more_texts_of_one_kind_leave_it_within_its_interval_which_the_bare_formula_leaves(name, by_size) -> None:
    right, tried = shown.within([by_size], name)
    assert tried == 6
    assert right >= tried - 1
    first, last = by_size.before[250][name], by_size.before[3_000][name]
    gap, room = shown.apart(first, last)
    assert abs(gap) > room, "without a control it moves"


@pytest.mark.parametrize("name", WORDING)
def test_longer_texts_of_one_kind_leave_wording_within_its_interval(name, by_length) -> None:
    right, tried = shown.within([by_length], name)
    assert tried == 6
    assert right >= tried - 1
    gap, room = shown.apart(by_length.before[5][name], by_length.before[20][name])
    assert abs(gap) > room or name == "compression ratio", "without a control it moves"


# ── the script's own parts ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_planted_is_a_share_and_grows_by_adding() -> None:
    base = texts(100)
    for kind in shown.KINDS:
        some, back = shown.planted(base, kind, 0.3, seed=1)
        more, _ = shown.planted(base, kind, 0.6, seed=1)
        changed = {place for place in range(100) if some[place] != base[place]}
        assert changed <= {place for place in range(100) if more[place] != base[place]}
        assert 28 <= len(changed) <= 30
        assert len({back[place] for place in changed}) <= shown.FEW
    assert shown.planted(base, "copies", 0.0, seed=1) == (base, list(range(100)))


def test_a_paraphrase_is_another_text_of_like_words() -> None:
    text = "I want to know why the card that you sent is not working in the shop"
    made = {shown.paraphrase(text, random.Random(seed)) for seed in range(20)}
    assert text not in made
    assert len(made) >= 19
    assert all("card" in one for one in made)


def falling(*values, half=0.1):
    return [(value, value - half, value + half) for value in values]


def test_verdicts_on_curves() -> None:
    assert shown.monotone(falling(5, 4, 3, 2), 1) == "yes"
    assert shown.monotone(falling(5, 4, 4.1, 2), 1) == "yes", "a step back within the interval"
    assert shown.monotone(falling(5, 3, 4, 2), 1) == "not monotone"
    assert shown.monotone(falling(5, 4, 3, 2), -1) == "wrong way"
    assert shown.monotone(falling(5, 5.05, 5, 4.95), 1) == "blind"
    assert shown.monotone(falling(5, 7, 8, 5), 1) == "not monotone"
    assert shown.monotone([], 1) == ""
    assert shown.apart((1.0, 0.8, 1.1), (2.0, 1.0, 2.0)) == (1.0, pytest.approx((0.1**2 + 1) ** 0.5))


def test_a_plot_is_well_formed_and_the_same_each_time() -> None:
    lines = [shown.Line([0.0, 1.0], falling(1, 2), 0), shown.Line([0.0, 1.0], falling(3, 3), 1, plain=True)]
    panels = [("a < b & c", lines), ("flat", [shown.Line([0.0, 1.0], falling(1, 1, half=0), 0)])]
    svg = shown.plot(panels, ["one", "two"], ["0 %", "90 %"], "a note")
    assert svg == shown.plot(panels, ["one", "two"], ["0 %", "90 %"], "a note")
    root = ET.fromstring(svg)
    assert sum(element.tag.endswith("polyline") for element in root.iter()) == 3
    assert "nan" not in svg


def test_the_page_has_a_row_for_every_figure_and_names_every_fault() -> None:
    page = shown.PAGE.read_text(encoding="utf-8")
    assert page.count(shown.MARK) == 2
    for figure in shown.FIGURES:
        assert page.count(f"| {figure.name} |") == 2, figure.name
    for name in ("size", "length", *shown.KINDS):
        assert f"](measures/{name}.svg)" in page
        ET.parse(shown.TARGET / f"{name}.svg")


# ── properties ──────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_copies_in_place_of_texts_at_equal_n_never_raise_diversity(seed, copies) -> None:
    """All texts have as many words: a copy of a short text in place of a long one may raise shares of words."""
    base = texts(80, seed)
    rng = random.Random(seed)
    same = rng.choice(base)
    fewer = [same if place in set(rng.sample(range(80), copies)) else text for place, text in enumerate(base)]
    frames = {"all": pl.DataFrame({"text": base}), "copies": pl.DataFrame({"text": fewer})}
    names = ("openings", "near_duplicates", "vendi")
    found = measure(samples_of(frames, "text", Wordllama()), [find("metrics", name)() for name in names])
    of = {(one.of, one.name): one for one in found}
    for name, more in (("exact repeats", -1), ("near-duplicates", -1), ("distinct openings", 1), ("Vendi score", 1)):
        one, other = of["all", name], of["copies", name]
        gap, room = shown.apart((one.value, *one.interval), (other.value, *other.interval))
        assert more * gap <= room, name
