"""What asking for difficulty does: beside the words, at equal length, by a solver, and under the embedded model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from qdcgen.hardness import (
    SOLVED,
    Compared,
    apart,
    compared,
    instructed,
    matched,
    partial,
    ratio,
    read,
    remarks,
    solved_band,
)
from qdcgen.measure import sample_of
from qdcgen.metrics.asked import Asked
from qdcgen.metrics.bands import Bands
from qdcgen.metrics.harder import Harder
from qdcgen.metrics.ifd import Ifd
from qdcgen.metrics.passes import Passes
from qdcgen.metrics.surprisal import Surprisal
from qdcgen.parts import Embedder, Sample
from qdcgen.rows import Node, Taxonomy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdcgen.rows import Measure

TREE = Taxonomy("topic", (Node("a", "a", "a", 0), Node("b", "b", "b", 0)))


class Nowhere(Embedder):
    """Asked for nothing here."""

    @property
    def label(self) -> str:
        return "none"


def sample(**columns: object) -> Sample:
    return sample_of(pl.DataFrame(columns), "text", Nowhere(), of="kept", taxonomies={"topic": TREE})


def named(found: list[Measure]) -> dict[str, Measure]:
    return {one.name: one for one in found}


def texts(rng: np.random.Generator, words: Sequence[int], long: Sequence[float]) -> list[str]:
    """Texts of so many words, of which a share is long, in sentences of 5 to 12 words."""
    found = []
    for n, share in zip(words, long, strict=True):
        drawn = ["elaborate" if rng.random() < share else "word" for _ in range(n)]
        sentence = int(rng.integers(5, 13))
        found.append(
            " ".join(w + ("." if at % sentence == sentence - 1 else "") for at, w in enumerate(drawn)) + " end."
        )
    return found


def population(n: int, seed: int, *, longer: float, rarer: float) -> Sample:
    """Three rows of ten asked to be hard: so much longer, and with so much more of long words."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.3
    words = (np.exp(rng.normal(3.2, 0.35, n)) * np.where(hard, longer, 1)).astype(int)
    # Long words also come with length, in both kinds alike: what a comparison at any length would count as difficulty.
    share = 0.1 + 0.004 * words + rarer * hard
    told = texts(rng, words.tolist(), share.clip(0, 1).tolist())
    return sample(
        text=told, _complexity=["hard" if one else "plain" for one in hard], topic=rng.choice(["a", "b"], n).tolist()
    )


def test_only_longer_is_said_to_be_only_longer() -> None:
    measures = Harder().measure(population(900, 1, longer=1.38, rarer=0.0))
    found = named(measures)
    words = found["harder in words"]
    assert words.value is not None
    assert words.value > 0.5
    assert "% longer (" in words.note
    rare = found["harder in long words"]
    assert rare.control is not None
    assert rare.control > 0.2, "at any length they have more of them"
    assert rare.interval is not None
    assert rare.interval[0] < 0 < rare.interval[1], "at equal length they do not"
    assert "pairs of one leaf" in rare.note
    (said,) = remarks(measures, "complexify")
    assert said.startswith("complexify makes rows ")
    assert said.endswith("at equal length nothing else rises (words per sentence, long words)")


def test_what_is_harder_beyond_length_is_found() -> None:
    measures = Harder().measure(population(900, 2, longer=1.2, rarer=0.15))
    assert (named(measures)["harder in long words"].interval or (0, 0))[0] > 0
    (said,) = remarks(measures)
    assert "at equal length they are also harder by long words" in said


def test_intervals_at_equal_length_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    inside = [0, 0]
    rounds = 300
    for _ in range(rounds):
        n = 240
        hard = rng.random(n) < 0.4
        words = np.exp(rng.normal(3, 0.4, n)) * np.where(hard, 1.25, 1)
        for place, effect in enumerate((0.0, 0.5)):
            values = np.log(words) + rng.normal(0, 1, n) + effect * hard
            told = Compared(
                np.arange(n), hard.astype(np.float64), hard, words, {}, ["ab"[one] for one in rng.integers(0, 2, n)], ""
            )
            found = matched(told, values)
            assert found is not None
            assert found.interval is not None
            low, high = (end * values.std(ddof=1) for end in found.interval)
            inside[place] += low <= effect <= high
    assert all(0.91 * rounds <= count <= 0.99 * rounds for count in inside), inside


def test_pairs_are_of_one_leaf_and_of_like_length_and_no_row_is_in_two() -> None:
    hard = np.array([True] * 30 + [False] * 60)
    words = np.array([20.0] * 30 + [21.0] * 25 + [30.0] * 35)
    leaves = ["a"] * 30 + ["a"] * 25 + ["b"] * 35
    values = np.arange(90.0)
    told = Compared(np.arange(90), hard * 1.0, hard, words, {}, leaves, "")
    found = matched(told, values)
    assert found is not None
    assert found.n == 25
    assert "-1 words apart" in found.note
    assert matched(told._replace(leaves=["a"] * 30 + ["b"] * 60), values) is None
    assert matched(told._replace(words=np.where(hard, 20.0, 23.0)), values) is None


def test_apart_is_in_standard_deviations_of_all_rows() -> None:
    values, hard = np.array([1.0, 2.0, 3.0] * 20), np.array([True] * 30 + [False] * 30)
    found = apart(values + hard, hard)
    assert found is not None
    assert found.value == pytest.approx(1 / np.std(values + hard, ddof=1))
    assert apart(values, hard & (np.arange(60) < 5)) is None, "too few on one side"
    assert apart(np.ones(60), hard) is None


def test_partial_rank_correlation_against_its_definition() -> None:
    rng = np.random.default_rng(3)
    x, z = rng.normal(size=(2, 500))
    y = x + z
    from scipy.stats import spearmanr

    rho = spearmanr(np.column_stack([x, y, z])).statistic
    wanted = -np.linalg.inv(rho)[0, 1] / math.sqrt(np.linalg.inv(rho)[0, 0] * np.linalg.inv(rho)[1, 1])
    assert partial(x, y, z) == pytest.approx(wanted)


def test_the_order_of_rows_changes_nothing() -> None:
    one = population(300, 4, longer=1.3, rarer=0.1)
    turned = one.frame.sample(fraction=1, shuffle=True, seed=1)
    other = replace(one, frame=turned, texts=turned["text"].to_list())
    for metric in (Asked(), Harder(), Bands()):
        assert metric.measure(one) == metric.measure(other)


def test_bands_of_the_target_give_the_order_of_words_that_have_none() -> None:
    text = [" ".join(["w"] * (i + 1)) for i in range(60)]
    asked = ["dull"] * 30 + ["keen"] * 30
    table = sample(text=text, _complexity=asked)
    assert compared(table, 100) == "no known order of dull, keen"
    told = compared(replace(table, bands={"keen": 0.5, "dull": 0.5}), 100)
    assert not isinstance(told, str)
    assert {asked[row] for row in told.rows[told.hardest].tolist()} == {"dull"}


@pytest.mark.parametrize("columns", [{}, {"_complexity": ["hard"] * 3}, {"_complexity": [None, None, "hard"]}])
def test_where_there_is_nothing_to_compare_nothing_is_claimed(columns: dict[str, object]) -> None:
    table = sample(text=["a b", "c", "d"], **columns)
    assert all(one.value is None for one in [*Asked().measure(table), *Harder().measure(table)])
    assert list(remarks(Harder().measure(table))) == []


def test_rows_of_one_length_are_compared_all_the_same() -> None:
    hard = ["hard", "plain"] * 40
    table = sample(text=[f"one two {n}" for n in range(80)], _complexity=hard, _solved=[0.25, 0.75] * 39 + [0.5] * 2)
    found = Harder().measure(table)
    assert named(found)["harder in words"].value == 0
    (said,) = remarks(found)
    assert said.startswith("asking for harder rows makes rows no longer")
    assert "also harder by pass rate" in said


# ── shares ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_shares_of_bands_stand_beside_their_target_and_what_was_asked() -> None:
    measured = ["easy"] * 6 + ["hard"] * 3 + [None]
    table = sample(
        text=[f"t{n}" for n in range(10)],
        _measured=measured,
        _figure=[1.0] * 10,
        _complexity=["easy"] * 4 + ["hard"] * 6,
    )
    found = named(Bands().measure(replace(table, bands={"easy": 0.5, "hard": 0.5})))
    assert list(found) == ["easy", "hard"]
    assert (found["hard"].value, found["hard"].control, found["hard"].n) == (0.3, 0.5, 10)
    assert found["hard"].note == "3 of 10 rows; of 6 asked to be hard, 3 came out so"
    assert found["hard"].interval == pytest.approx((0.1078, 0.6032), abs=1e-3)
    plain = named(Bands().measure(table))
    assert plain["hard"].value == 0.6
    assert plain["hard"].note.startswith("asked for, not measured")


# ── a solver ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_none_of_eight_is_unknown_and_all_of_eight_are_always() -> None:
    told = [solved_band(hits, 8) for hits in range(9)]
    assert told == [
        "never solved",
        *["hard to solve"] * 2,
        *["medium to solve"] * 3,
        *["easy to solve"] * 2,
        "always solved",
    ]


def test_pass_rates_by_band() -> None:
    rates = [0.0] * 5 + [0.125] * 5 + [0.5] * 20 + [1.0] * 10
    table = sample(text=[f"t{n}" for n in range(40)], _solved=rates, _tries=[8] * 40)
    found = named(Passes().measure(table))
    assert found["pass rate"].value == 0.5
    assert found["never solved"].value == 0.125
    assert "wrong key" in found["never solved"].note
    assert sum(one.value or 0 for name, one in found.items() if name != "pass rate") == pytest.approx(1)
    assert "easy to solve" not in named(Passes().measure(sample(text=["t"] * 20, _solved=[0.5] * 20, _tries=[2] * 20)))
    few, *others = Passes().measure(sample(text=["t"], _solved=[0.5], _tries=[8]))
    assert few.note == "too few: 1 row with a usable try, needs 20"
    assert [one.name for one in others] == list(SOLVED)
    assert {one.value for one in others} == {None}
    assert few.value is None


def test_asked_and_harder_look_at_pass_rates_where_there_are_some() -> None:
    rng = np.random.default_rng(0)
    one = population(400, 7, longer=1.1, rarer=0.0)
    hard = (one.frame["_complexity"] == "hard").to_numpy()
    rates = (rng.binomial(8, np.where(hard, 0.3, 0.7)) / 8).astype(float)
    one = replace(one, frame=one.frame.with_columns(pl.Series("_solved", rates)))
    found = named([*Asked().measure(one), *Harder().measure(one)])
    assert (found["asked against pass rate at equal length"].interval or (0, 0))[1] < -0.4
    assert (found["harder in pass rate"].interval or (0, 0))[1] < -0.5
    (said,) = remarks(Harder().measure(one))
    assert "also harder by pass rate" in said


# ── the embedded model ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_ratio_is_of_losses_a_token() -> None:
    assert ratio((10.0, 5), (16.0, 8), (12.0, 3)) == pytest.approx((6 / 3) / (12 / 3))
    assert ratio((10.0, 5), (9.9, 8), (12.0, 3)) == 0.0, "rounding gives no negative loss"
    assert ratio((0.0, 0), (16.0, 8), (12.0, 3)) is None
    assert ratio((10.0, 5), (16.0, 5), (12.0, 3)) is None
    assert ratio((10.0, 5), (16.0, 8), (0.0, 3)) is None


def halves(some: Sequence[str]) -> list[tuple[float, int]]:
    """A model to which every word costs 2 nats, and 1 where a question mark came before it."""
    return [
        (sum(1.0 if "?" in " ".join(t.split()[:at]) else 2.0 for at in range(len(t.split()))), len(t.split()))
        for t in some
    ]


def test_ifd_is_the_median_over_questions_and_answers_that_could_be_read() -> None:
    rows = 40
    table = sample(
        text=[f"t{n}" for n in range(rows)],
        q=[f"what is {n} ?" for n in range(rows)],
        a=[f"it is {n}" if n % 8 else None for n in range(rows)],
    )
    ready = replace(table, surprisal=halves, solving=(("q",), "a"), reading=30)
    (one,) = Ifd().measure(ready)
    assert (one.value, one.n) == (0.5, 30)
    assert len(instructed(ready)) == 30
    more = pl.concat([table.frame, table.frame.with_columns(a=pl.lit("it is more"))])
    again = instructed(replace(ready, frame=more, texts=more["text"].to_list()))
    assert {row for row in again if row < rows} <= set(instructed(ready)), "more rows push some out, and bring none in"
    assert Ifd().measure(table) == []
    (none,) = Ifd().measure(replace(table, solving=(("q",), "a"), reading=30))
    assert "embedded" in none.note


def test_of_rows_that_say_the_same_ifd_is_that_of_the_first_by_id() -> None:
    rows = 40
    table = sample(
        text=["t"] * rows, q=["what is it ?"] * rows, a=["it is 1"] * rows, _id=[f"{n:03}" for n in range(rows)]
    )
    for order in (range(rows), range(rows - 1, -1, -1), [*range(7, rows), *range(7)]):
        frame = table.frame[list(order)]
        ready = replace(table, frame=frame, surprisal=halves, solving=(("q",), "a"), reading=30)
        (row,) = instructed(ready)
        assert frame["_id"][row] == "000"


def test_surprisal_is_read_of_the_same_texts_whoever_asks() -> None:
    one = population(200, 9, longer=1.3, rarer=0.0)
    seen: list[str] = []

    def reading(some: Sequence[str]) -> list[tuple[float, int]]:
        seen.extend(some)
        return [(float(len(text)), len(text.split())) for text in some]

    one = replace(one, surprisal=reading)
    (alone,) = Surprisal().measure(one)
    found = named(Asked().measure(one))
    assert len(set(seen)) == 50
    assert (alone.n, found["asked against surprisal"].n) == (50, 50)
    assert list(read(one).values()) == list(read(one).values())
