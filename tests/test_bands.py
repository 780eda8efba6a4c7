"""Bands of difficulty: what is asked for, what is kept, and how rounds steer to the shares."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import polars as pl
import pytest

from qdcgen.bands import Complexity, drawn, quotas
from qdcgen.errors import RecipeError
from qdcgen.recipe import load
from qdcgen.run import run

ROOT = Path(__file__).parent.parent

RECIPE = """\
recipe: 1
name: banded
seed: 5
models:
  writer: {{model: openai/test, api_base: "{url}", price: {{input: 1, output: 2}}}}
  critic: {{model: openai/critic, api_base: "{url}", price: {{input: 1, output: 2}}}}
taxonomy:
  topic: [cards, transfers, loans]
generate:
  - write: {{fields: {{text: string}}, prompt: "A {{{{ complexity }}}} text about {{{{ topic }}}}."}}
target:
  rows: {rows}
  candidates: 6
  complexity:
    by: words
    bands: {{hard: "> 40", easy: "< 20", medium: "20..40"}}
    shares: {{easy: 0.3, medium: 0.5, hard: 0.2}}
gates:
  complexity: {{hard: "0.19..0.21"}}
"""
LENGTHS = {"easy": (5, 19), "medium": (20, 40), "hard": (41, 60)}


def question(body):
    return body["messages"][-1]["content"]


def asked_band(body):
    return next(band for band in LENGTHS if f"A {band} text" in question(body))


def text_of(body, band):
    """Words of the band's length, the same for the same request."""
    chance = random.Random(json.dumps(body, sort_keys=True))
    return " ".join(f"w{chance.randrange(10_000)}" for _ in range(chance.randint(*LENGTHS[band])))


def obeying(body):
    return json.dumps({"text": text_of(body, asked_band(body))})


def careless(body):
    """Four texts of ten come out easy, whatever was asked for."""
    missed = random.Random(f"missed {json.dumps(body, sort_keys=True)}").random() < 0.4
    return json.dumps({"text": text_of(body, "easy" if missed else asked_band(body))})


@pytest.fixture
def banded(tmp_path, server):
    """`banded(rows=40)` runs the recipe; gives the outcome and the accepted rows."""

    def go(*overrides, rows=40, folder="out", change=lambda text: text):
        path = tmp_path / "banded.yaml"
        path.write_text(change(RECIPE.format(url=server.url, rows=rows)))
        outcome = run(load(path, overrides=overrides), tmp_path / folder, quiet=True)
        files = sorted((tmp_path / folder / "data").glob("*.parquet"))
        return outcome, pl.concat([pl.read_parquet(file) for file in files]) if files else pl.DataFrame()

    return go


def bands_of(data):
    lengths = [len(text.split()) for text in data["text"]]
    return Counter("easy" if n < 20 else "medium" if n <= 40 else "hard" for n in lengths)


# ── what is drawn ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shares", [(3, 5, 2), (1, 1), (0, 1, 0), (1, 0), (7, 1, 1, 1), (1, 98, 1)])
def test_each_band_has_its_share_of_the_first_rows_at_any_number_of_them(shares):
    exact = [Fraction(share, sum(shares)) for share in shares]
    counts = [0] * len(shares)
    for slot in range(1500):
        counts[drawn(slot, exact)] += 1
        for count, share in zip(counts, exact, strict=True):
            assert abs(count - share * (slot + 1)) <= len(shares)
    assert all(count == 0 for count, share in zip(counts, exact, strict=True) if not share)


def test_rows_that_take_turns_are_asked_for_all_bands_alike():
    exact = [Fraction(3, 10), Fraction(5, 10), Fraction(2, 10)]
    counts = Counter(drawn(slot, exact) for slot in range(0, 6000, 3))
    assert 540 < counts[0] < 660
    assert 340 < counts[2] < 460


def test_quotas_are_by_largest_remainder():
    assert quotas([Fraction(1, 3)] * 3, 100) == [34, 33, 33]
    assert quotas([Fraction(3, 10), Fraction(1, 2), Fraction(1, 5)], 7) == [2, 4, 1]
    assert sum(quotas([Fraction(1, 7)] * 7, 1000)) == 1000


def test_the_order_of_bands_is_that_of_their_bounds():
    settings = Complexity(by="words", bands={"b": "> 40", "a": "< 20", "m": "20..40"}, shares={"a": 3, "m": 5, "b": 2})
    assert settings.order == ("a", "m", "b")
    assert list(settings.target.values()) == [0.3, 0.5, 0.2]
    assert [settings.of(figure) for figure in (19, 20, 40, 41)] == ["a", "m", "m", "b"]
    assert [settings.band(name, 0).harder for name in settings.order] == [False, False, True]


@pytest.mark.parametrize(
    ("by", "low", "high", "gaps"),
    [
        ("words", "< 20", ">= 20", ()),
        ("words", "< 20", "> 20", ("20",)),
        ("words", "<= 20", "21..40", ()),
        ("words", "1..20", "> 30", ("21 to 30",)),
        ("words_per_sentence", "< 20", "> 20", ("of 20",)),
        ("words_per_sentence", "<= 12.5", "20..40", ("12.5 to 20",)),
        ("grade", "< 3", ">= 7", ("3", "4", "5", "6")),
        ("grade", "2..6", "7..9", ("1", "10")),
    ],
)
def test_figures_between_two_bands_are_known(by, low, high, gaps):
    assert Complexity(by=by, bands={"easy": low, "hard": high}, shares={"easy": 1, "hard": 1}).gaps == gaps


def test_check_says_that_rows_between_two_bands_are_of_no_use(tmp_path, qdcgen):
    said = "target.complexity: a row with words 20 to 29 is in no band, and will be turned down"
    for old, new, told in (('"20..40"', '"20..40"', False), ('"20..40"', '"30..40"', True)):
        (tmp_path / "banded.yaml").write_text(RECIPE.format(url="http://127.0.0.1:1", rows=40).replace(old, new))
        done = qdcgen("check", "banded.yaml")
        assert done.returncode == 0, done.stderr
        assert (said in done.stdout + done.stderr) is told


def test_shares_may_be_written_as_percentages():
    bands = {"easy": "< 20", "medium": "20..40", "hard": "> 40"}
    one = Complexity(by="words", bands=bands, shares={"easy": "30%", "medium": "33.3 %", "hard": 0.367})
    assert one.shares == {"easy": 0.3, "medium": 0.333, "hard": 0.367}
    assert one.quota(1_000) == {"easy": 300, "medium": 333, "hard": 367}
    with pytest.raises(ValueError, match="expected a number, found '30'"):
        Complexity(by="words", bands=bands, shares={"easy": "30", "medium": 1, "hard": 1})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"< 20"', '"< 21"', r"bands easy \(< 21\) and medium \(20..40\) overlap"),
        ('"< 20"', "20", "easy"),
        ('"< 20"', "few", "expected a bound"),
        ("easy: 0.3, ", "", "only one of them has easy"),
        ("easy: 0.3, medium: 0.5, hard: 0.2", "easy: 0, medium: 0, hard: 0", "every share is 0"),
        ("by: words", "by: length", "by"),
        ("by: words\n", "by: words\n    model: critic\n", "asks nobody"),
        (
            'by: words\n    bands: {hard: "> 40", easy: "< 20", medium: "20..40"}',
            'by: grade\n    model: crtic\n    bands: {hard: ">= 7", easy: "<= 3", medium: "4..6"}',
            "did you mean 'critic'",
        ),
        ("by: words\n", "by: grade\n", "no grade from 1 to 10 is > 40"),
        ("taxonomy:\n", "taxonomy:\n  complexity: [a, b]\n", "give this axis another name"),
        ("text: string", "text: string, complexity: string", "rename the field"),
        ("hard", "words", "is a figure of the report"),
        ('complexity: {hard: "0', 'complexity: {hrd: "0', "did you mean 'hard'"),
    ],
)
def test_bands_that_cannot_be_are_refused(banded, old, new, said):
    with pytest.raises(RecipeError, match=said):
        banded(change=lambda text: text.replace(old, new))


def test_without_bands_templates_have_no_such_name(banded):
    with pytest.raises(RecipeError, match="complexity"):
        banded(change=lambda text: text.partition("  complexity:\n")[0])


# ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_accepted_rows_have_the_shares_and_rounds_ask_for_what_is_missing(banded, server, tmp_path):
    server.answer = careless
    outcome, data = banded(rows=60)
    assert bands_of(data) == {"easy": 18, "medium": 30, "hard": 12}
    assert outcome.exit_code == 0, outcome.remarks
    plan = pl.read_parquet(tmp_path / "out" / "plan" / "000.parquet")
    assert dict(plan["_band"].value_counts().iter_rows()) == {"easy": 18, "medium": 30, "hard": 12}
    again = pl.read_parquet(tmp_path / "out" / "plan" / "001.parquet")
    assert set(again["_band"]) <= {"medium", "hard"}, "the easy ones are there"
    rejected = pl.concat(pl.read_parquet(file) for file in (tmp_path / "out" / "rejected").glob("*.parquet"))
    assert set(rejected["_filter"]) == {"complexity"}
    assert set(rejected["_reason"]) == {"band easy is full: 18 of 18"}
    shares = {one.name: one for one in outcome.report.measures if one.name in LENGTHS and one.of == "kept"}
    assert [shares[band].value for band in LENGTHS] == [0.3, 0.5, 0.2]
    assert shares["hard"].control == 0.2
    assert [gate.holds for gate in outcome.report.gates] == [True]


def test_all_leaves_get_rows_of_all_bands(banded, server):
    server.answer = careless
    _, data = banded(rows=90)
    for topic in data["topic"].unique():
        assert len(bands_of(data.filter(data["topic"] == topic))) == 3


def test_a_band_that_never_comes_out_is_named_and_only_probed(banded, server):
    server.answer = lambda body: json.dumps(
        {"text": text_of(body, {"hard": "medium"}.get(asked_band(body), asked_band(body)))}
    )
    outcome, data = banded(rows=100)
    assert outcome.exit_code == 4
    assert bands_of(data) == {"easy": 30, "medium": 50}
    (short,) = [words for words in outcome.remarks if "band hard" in words]
    assert "(words > 40): 0 of 20 rows" in short
    assert "0 of them in it" in short
    assert server.asked <= 100 + 5 * 4, "20 rows in the first round, then probes"


def test_stopped_anywhere_and_run_again_it_ends_with_the_same_rows(banded, server, tmp_path):
    server.answer = careless
    _, whole = banded(rows=60, folder="whole")
    for calls in (20, 50, 70, 90):
        outcome, _ = banded(f"target.calls={calls}", rows=60)
        assert outcome.exit_code == 4
    outcome, data = banded(rows=60)
    assert outcome.exit_code == 0
    assert data.equals(whole)
    for name in ("000", "001"):
        same = [(tmp_path / folder / "plan" / f"{name}.parquet").read_bytes() for folder in ("whole", "out")]
        assert same[0] == same[1]


@pytest.mark.parametrize("calls", [30, 66])
def test_killed_in_a_round_it_asks_for_the_same_bands_again(banded, server, tmp_path, calls):
    server.answer = careless
    _, whole = banded(rows=60, folder="whole")
    server.latency, begun = 0.02, server.asked
    code = "from qdcgen.cli import main; main()"
    arguments = ["run", "banded.yaml", "--out", "out", "--quiet"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as running:
        while server.asked - begun < calls and running.poll() is None:
            time.sleep(0.005)
        running.kill()
    server.latency = 0
    _, data = banded(rows=60)
    assert data.equals(whole)


def test_a_larger_target_keeps_every_row_and_ends_with_its_own_shares(banded, server):
    server.answer = careless
    _, small = banded(rows=40)
    assert bands_of(small) == {"easy": 12, "medium": 20, "hard": 8}
    asked = server.asked
    outcome, large = banded(rows=100)
    assert outcome.exit_code == 0, outcome.remarks
    assert bands_of(large) == {"easy": 30, "medium": 50, "hard": 20}
    assert large.head(40).equals(small)
    assert server.asked - asked < 60 * 2.5


def test_a_writer_that_obeys_makes_the_same_rows_at_once_or_in_two_goes(banded, server):
    server.answer = obeying
    banded(rows=40)
    _, twice = banded(rows=100)
    _, once = banded(rows=100, folder="once")
    ids = [set(frame["_id"]) for frame in (twice, once)]
    assert len(ids[0] & ids[1]) >= 95, "all but what the last row of a share is for"


def test_a_smaller_target_then_the_larger_one_again(banded, server):
    server.answer = careless
    _, large = banded(rows=60)
    _, small = banded(rows=30)
    assert bands_of(small) == {"easy": 9, "medium": 15, "hard": 6}
    assert set(small["_id"]) <= set(large["_id"])
    asked = server.asked
    outcome, again = banded(rows=60)
    assert outcome.exit_code == 0
    assert again.equals(large)
    assert server.asked == asked


def test_other_shares_judge_again_and_ask_for_the_rest(banded, server):
    server.answer = careless
    banded(rows=40)
    asked = server.asked

    def change(text):
        shares = text.replace("easy: 0.3, medium: 0.5", "easy: 0.4, medium: 0.4")
        return shares.replace("candidates: 6", "candidates: 12")

    outcome, _ = banded(rows=40, change=change)
    assert server.asked == asked
    outcome, data = banded(rows=40, change=change)
    assert outcome.exit_code == 0, "\n".join(outcome.remarks)
    assert bands_of(data) == {"easy": 16, "medium": 16, "hard": 8}


# ── grades, and what uses the band ──────────────────────────────────────────────────────────────────────────────────

GRADES = (
    'by: words\n    bands: {hard: "> 40", easy: "< 20", medium: "20..40"}',
    'by: grade\n    model: critic\n    bands: {hard: ">= 7", easy: "<= 3", medium: "4..6"}',
)


def test_a_critic_grades_and_a_row_without_a_grade_is_undecided(banded, server, tmp_path):
    seen = []

    def answer(body):
        if "grade" not in body["response_format"]["json_schema"]["schema"]["properties"]:
            return careless(body)
        seen.append(question(body))
        words = len(re.findall(r"w[0-9]+", question(body)))
        if words % 11 == 0:
            return "I cannot say."
        return json.dumps({"finding": "it has words", "grade": 2 if words < 20 else 5 if words <= 40 else 8})

    server.answer = answer
    outcome, data = banded(rows=40, change=lambda text: text.replace(*GRADES))
    assert outcome.exit_code == 0, outcome.remarks
    assert bands_of(data) == {"easy": 12, "medium": 20, "hard": 8}
    rejected = pl.concat(pl.read_parquet(file) for file in (tmp_path / "out" / "rejected").glob("*.parquet"))
    assert any(reason.startswith("undecided: ") for reason in rejected["_reason"])
    assert not any("easy" in asked or "medium" in asked for asked in seen), "what was asked for is not told"
    graded = {asked for asked in seen if "cannot be used" not in asked}
    seen.clear()
    outcome, data = banded(rows=60, change=lambda text: text.replace(*GRADES))
    assert outcome.exit_code == 0, outcome.remarks
    assert bands_of(data) == {"easy": 18, "medium": 30, "hard": 12}
    assert not graded & set(seen), "no row is graded twice"


def test_complexify_is_for_rows_asked_to_be_above_the_middle(banded, server, tmp_path):
    def answer(body):
        if "harder" in body["response_format"]["json_schema"]["schema"]["properties"]:
            return json.dumps({"harder": text_of(body, "hard")})
        return json.dumps({"text": text_of(body, {"hard": "medium"}.get(asked_band(body), asked_band(body)))})

    server.answer = answer
    steps = '  - write: {fields: {text: string}, prompt: "A {{ complexity }} text about {{ topic }}."}\n'
    outcome, data = banded(
        rows=40, change=lambda text: text.replace(steps, f"{steps}  - complexify: {{of: text, longer: 4}}\n")
    )
    assert outcome.exit_code == 0, outcome.remarks
    assert bands_of(data) == {"easy": 12, "medium": 20, "hard": 8}
    noted = data.filter(data["_notes"].str.contains("complexify"))
    assert set(noted["_complexity"]) == {"hard"}
    assert dict(data["_complexity"].value_counts().iter_rows()) == {"easy": 12, "medium": 20, "hard": 8}


def test_without_bands_a_round_is_frozen_as_it_was(small, tmp_path):
    run(load(small), tmp_path / "out", quiet=True)
    assert pl.read_parquet(tmp_path / "out" / "plan" / "000.parquet").columns == [
        "slot",
        "topic",
        "tone",
        "replicate",
        "batch",
    ]


def test_a_leaf_that_is_added_gets_rows_and_the_bands_keep_their_shares(banded, server):
    server.answer = careless
    _, before = banded(rows=40)
    outcome, data = banded(rows=60, change=lambda text: text.replace("[cards,", "[pins, cards,"))
    assert outcome.exit_code == 0, outcome.remarks
    assert set(before["_id"]) <= set(data["_id"])
    assert "pins" in set(data["topic"])
    counts = bands_of(data)
    assert abs(counts["hard"] - 0.2 * data.height) <= 1
    assert abs(counts["easy"] - 0.3 * data.height) <= 1


def test_rows_are_shown_before_a_run_and_counted_in_the_plan(server, tmp_path, qdcgen):
    recipe = RECIPE.format(url=server.url, rows=40)
    (tmp_path / "banded.yaml").write_text(recipe.replace(*GRADES))
    said = qdcgen("check", "banded.yaml")
    assert "complexity: up to 1 call a row" in said.stdout, said.stderr
    planned = json.loads(qdcgen("plan", "banded.yaml", "--json").stdout)
    assert planned["calls_expected"] == 80
    server.answer = obeying
    (tmp_path / "banded.yaml").write_text(recipe)
    assert "text: w" in qdcgen("preview", "banded.yaml", "--rows", "2").stdout
