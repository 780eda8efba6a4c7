"""What labels say of filters, on runs whose truth is known."""

import math

import numpy as np
import polars as pl
import pytest

from qdcgen.metrics.labelled import Labelled
from qdcgen.parts import Sample
from qdcgen.worth import Stratum, corrected, kappa, plain, remarks, worth

RUNS = 200


def simulated(seed, labels, *, good=0.7, accepts=0.1, rejects=0.2, useless=False, told=None):
    """A critic's strata, which rows are good, which it said no to: 2,000 rows, half of the labels on each side."""
    rng = np.random.default_rng(seed)
    is_good = rng.random(2_000) < good
    chance = rng.random(2_000)
    no = chance < 0.3 if useless else np.where(is_good, chance < rejects, chance >= accepts)
    score = None if told is None else told * is_good + (1 - told) * rng.random(2_000)
    strata = []
    for name, rows in (("critic", np.flatnonzero(no)), ("", np.flatnonzero(~no))):
        at = rng.permutation(rows)[: labels // 2]
        of = (None, 0.0) if score is None else (score[at], float(score[rows].mean()))
        strata.append(Stratum(name, len(rows), is_good[at].astype(float), np.ones(len(at)), *of))
    return strata, is_good, no


def holds(interval, truth):
    return interval[0] <= truth <= interval[1]


@pytest.mark.parametrize("labels", [60, 200])
def test_a_critic_of_known_error_rates_is_found_out(labels):
    kept = 0.7 * 0.8 / (0.7 * 0.8 + 0.3 * 0.1)
    truth = {
        "right_when_no": 0.3 * 0.9 / (0.3 * 0.9 + 0.7 * 0.2),
        "right_when_yes": kept,
        "caught": 0.9,
        "gap": kept - 0.7,
        "closed": (kept - 0.7) / 0.3,
    }
    inside = dict.fromkeys(truth, 0)
    of_value = 0
    for seed in range(RUNS):
        found = worth(simulated(seed, labels)[0], ["critic"], seed)[0]
        of_value += found.note == "of value"
        for name, value in truth.items():
            inside[name] += holds(getattr(found, name)[1], value)
    assert all(hits >= 0.9 * RUNS for hits in inside.values()), inside
    assert of_value >= 0.98 * RUNS


def test_a_filter_that_knows_nothing_closes_nothing_and_is_called_so():
    inside, called, values = 0, 0, []
    for seed in range(RUNS):
        found = worth(simulated(seed, 600, useless=True)[0], ["critic"], seed)[0]
        values.append(found.closed[0])
        inside += holds(found.closed[1], 0.0)
        called += found.note == "no measurable value"
    assert abs(np.mean(values)) < 0.01
    assert 0.9 * RUNS <= inside <= 0.99 * RUNS
    assert called >= 0.9 * RUNS


def test_with_few_labels_nothing_is_claimed_and_it_says_how_many_would_do():
    notes = [worth(simulated(seed, 40, useless=True)[0], ["critic"], seed)[0].note for seed in range(RUNS)]
    too_few = [note for note in notes if note.startswith("too few to tell: about ")]
    assert len(too_few) >= 0.9 * RUNS
    more = [int(note.split("about ")[1].split()[0].replace(",", "")) for note in too_few]
    assert 60 < np.median(more) < 200
    halves = []
    for seed in range(40):
        low, high = worth(simulated(seed, 40 + int(np.median(more)), useless=True)[0], ["critic"], seed)[0].closed[1]
        halves.append((high - low) / 2)
    assert 0.1 < np.median(halves) < 0.18


@pytest.mark.parametrize("rejects", [0.2, 0.7])
def test_corrected_shares_cover_and_are_narrower_than_labels_alone(rejects):
    hits, plain_hits, narrower = 0, 0, []
    for seed in range(RUNS):
        strata, is_good, _ = simulated(seed, 120, rejects=rejects)
        _, alone = plain(strata)
        _, powered = corrected(strata, seed)
        hits += holds(powered, is_good.mean())
        plain_hits += holds(alone, is_good.mean())
        narrower.append((powered[1] - powered[0]) / (alone[1] - alone[0]))
    assert hits >= 0.91 * RUNS
    assert plain_hits >= 0.91 * RUNS
    assert np.mean(narrower) < (0.8 if rejects == 0.2 else 1.0)


@pytest.mark.parametrize(("told", "narrow"), [(0.0, 1.02), (0.6, 0.6)])
def test_a_critics_score_narrows_the_share_of_good_rows_among_the_accepted(told, narrow):
    hits, ratio = 0, []
    for seed in range(RUNS):
        strata, is_good, no = simulated(seed, 200, accepts=0.3, told=told)
        _, alone = plain(strata[1:])
        _, powered = corrected(strata[1:], seed)
        hits += holds(powered, is_good[~no].mean())
        ratio.append((powered[1] - powered[0]) / (alone[1] - alone[0]))
    assert hits >= 0.9 * RUNS
    assert np.mean(ratio) < narrow


def test_rows_drawn_with_unequal_chance_are_weighed():
    rng = np.random.default_rng(1)
    values = []
    for _ in range(RUNS):
        good = np.concatenate([rng.random(50) < 0.9, rng.random(50) < 0.3]).astype(float)
        values.append(plain([Stratum("", 1_000, good, np.repeat([9.0, 1.0], 50))])[0])
    assert np.mean(values) == pytest.approx(0.84, abs=0.01)


def test_where_everything_is_labelled_there_is_no_doubt_left():
    good = np.array([1.0, 0.0, 1.0, 1.0])
    assert corrected([Stratum("", 4, good, np.ones(4))], 0) == (0.75, None)


def strata(**counts):
    """name → (rows, good, bad)."""
    return [
        Stratum("" if name == "kept" else name, rows, np.array([1.0] * good + [0.0] * bad), np.ones(good + bad))
        for name, (rows, good, bad) in counts.items()
    ]


def test_a_filter_of_which_nothing_can_be_said_says_why():
    filters = ["a", "b", "c"]
    one, two, three = worth(strata(b=(20, 0, 0), kept=(80, 10, 10)), filters, 0)
    assert one.note == "it said no to no row"
    assert two.note == "too few: none of the 20 rows that it said no to is labelled"
    assert three.note == "it said no to no row"
    found = worth(strata(a=(20, 5, 0), kept=(80, 9, 0)), ["a"], 0)[0]
    assert "none of 14 labelled rows is bad" in found.note
    assert found.closed == (None, None)
    assert found.right_when_no[0] == 0
    assert worth(strata(a=(20, 5, 2)), ["a"], 0)[0].note == "it said no to every row that it saw"
    harmful = worth(strata(a=(300, 50, 0), kept=(700, 25, 25)), ["a"], 0)[0]
    assert harmful.note.startswith("does harm")


LIMITS = {"right_when_no": (0, 1), "right_when_yes": (0, 1), "caught": (0, 1), "gap": (-1, 1), "closed": (-math.inf, 1)}


@pytest.mark.parametrize("weights", [(1.4, 0.9, 0.7), (3.2, 1.1, 1.7), (320 / 300, 180 / 150, 100 / 150)])
def test_where_all_labels_agree_no_weight_makes_a_figure_of_it(weights):
    for said, word in ((1.0, "none of 60 labelled rows is bad"), (0.0, "none of 60 labelled rows is good")):
        counts = (("", 320, 30), ("judge", 180, 15), ("judge#2", 100, 15))
        strata_ = [
            Stratum(name, rows, np.full(n, said), np.full(n, weight))
            for (name, rows, n), weight in zip(counts, weights, strict=True)
        ]
        assert [one.share for one in strata_] == [said] * 3
        assert plain(strata_)[0] == corrected(strata_, 0)[0] == said
        first, second = worth(strata_, ["judge", "judge#2"], 0)
        assert word in first.note
        assert "none of 45 labelled" in second.note
        for one in (first, second):
            assert one.gap == one.closed == (None, None)
            assert one.right_when_yes[0] == said
            assert one.right_when_no[0] == 1 - said
            assert said == 0 or one.caught == (None, None)


def test_every_figure_lies_in_its_range_and_in_its_interval():
    for seed in range(150):
        rng = np.random.default_rng(seed)
        names = ["a", "b", "c"][: rng.integers(1, 4)]
        drawn = []
        for name in [*names, ""]:
            rows = int(rng.choice([1, 2, 5, 20, 300]))
            labels = int(rng.integers(0, min(rows, 40) + 1))
            good = (rng.random(labels) < rng.choice([0, 1, 0.5, 0.9, 0.1])).astype(float)
            weight = rng.uniform(0.05, 5, labels) if rng.random() < 0.6 else np.full(labels, rng.uniform(0.1, 5))
            score = rng.random(labels) if rng.random() < 0.4 else None
            drawn.append(Stratum(name, rows, good, weight, score, float(rng.random())))
        found = [(plain(drawn), (0, 1)), (corrected(drawn, seed), (0, 1))]
        found += [(getattr(one, name), ends) for one in worth(drawn, names, seed) for name, ends in LIMITS.items()]
        for (value, between), (low, high) in found:
            if value is not None:
                assert low <= value <= high, seed
                assert between is None or low <= between[0] <= value <= between[1] <= high, seed


def test_a_filter_is_judged_by_the_rows_that_it_saw():
    first, second = worth(strata(a=(500, 0, 50), b=(100, 10, 10), kept=(400, 30, 10)), ["a", "b"], 0)
    assert (first.labels, second.labels) == (110, 60)
    assert first.right_when_yes[0] == pytest.approx((100 * 0.5 + 400 * 0.75) / 500)
    assert second.gap[0] == pytest.approx(0.75 - (100 * 0.5 + 400 * 0.75) / 500)
    assert second.caught[0] == pytest.approx(50 / 150)


# ── people ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_kappa_is_that_of_the_books():
    # Cohen 1960: agreement 0.7, of which 0.5 by chance
    table = {(True, True): 20, (True, False): 5, (False, True): 10, (False, False): 15}
    said = [[("a", one), ("b", two)] for (one, two), count in table.items() for _ in range(count)]
    (value, between), rows, _ = kappa(said, 0)
    assert value == pytest.approx(0.4)
    assert rows == 50
    assert between[0] < 0.4 < between[1]
    # Fleiss: three people, two rows; each row's agreement is 1/3, by chance 1/2
    three = [[("a", True), ("b", True), ("c", False)], [("a", False), ("b", False), ("c", True)]]
    (value, between), _, note = kappa(three, 0)
    assert value == pytest.approx((1 / 3 - 1 / 2) / (1 - 1 / 2))
    assert between is None
    assert "too few rows" in note
    assert kappa([[("a", True)]], 0)[0] == (None, None)
    assert kappa([[("a", True), ("b", True)]] * 30, 0)[0] == (None, None)


# ── the metric ──────────────────────────────────────────────────────────────────────────────────────────────────────


def history(rows):
    """rows: (stratum, what people said or None, drawn as (stratum, of, judges), score)."""
    drawn = [dict(zip(("stratum", "of", "judges"), one, strict=True)) if one else None for _, _, one, _ in rows]
    return pl.DataFrame(
        {
            "_stratum": [one[0] for one in rows],
            "_said": [None if one[1] is None else [{"by": by, "good": good} for by, good in one[1]] for one in rows],
            "_drawn": drawn,
            "_score": [one[3] for one in rows],
            "_lost": [2] * len(rows),
        },
        schema_overrides={"_score": pl.Float64},
    )


def measured(rows, filters=("critic",)):
    sample = Sample("kept", [], pl.DataFrame(), lambda: None, "", attempts=history(rows), filters=filters)
    return {(one.name, one.axis): one for one in Labelled().measure(sample)}


def test_most_people_decide_and_a_tie_decides_nothing():
    where = ("", 100, "x")
    rows = [("", [("a", True), ("b", False), ("c", True)], where, None)] * 3
    rows += [("", [("a", True), ("b", False)], where, None), ("", [("a", False)], where, None)]
    rows += [("", None, None, None)] * 95
    found = measured(rows)
    assert found["good among accepted", ""].value == pytest.approx(0.75)
    assert found["good among accepted", ""].n == 4
    assert "1 rows on which people are split" in found["good among accepted", ""].note
    assert "2 labels of rows that are gone" in found["good among accepted", ""].note
    assert found["kappa of people", ""].n == 4


def test_labels_that_were_drawn_under_other_filters_keep_their_weight():
    # drawn when `old` had rejected 100 of 1,000, one label in 10 there and one in 90 elsewhere; all accepted now
    rows = [("", [("a", False)], ("old", 100, "then"), None)] * 10
    rows += [("", [("a", True)], ("", 900, "then"), None)] * 10
    rows += [("", None, None, None)] * 980
    assert measured(rows)["good among accepted", ""].value == pytest.approx(0.9)


def test_filters_that_compare_rows_are_not_judged_by_labels_of_single_rows():
    rows = [("duplicates", [("a", True)], ("duplicates", 10, "x"), None)] * 10
    rows += [("", [("a", False)], ("", 10, "x"), None)] * 10
    found = measured(rows, ["duplicates"])
    assert found["gap closed", "duplicates"].value is None
    assert "compares rows with each other" in found["gap closed", "duplicates"].note
    assert ("right when no", "duplicates") not in found


def test_each_figure_of_a_filter_has_the_number_of_labels_that_it_is_a_share_of():
    rows = [("critic", [("a", n % 4 == 0)], ("critic", 40, "x"), None) for n in range(8)]
    rows += [("", [("a", n % 5 > 0)], ("", 60, "x"), None) for n in range(20)] + [("", None, None, None)] * 40
    rows += [("critic", None, None, None)] * 32
    found = measured(rows)
    assert [found[name, "critic"].n for name in ("right when no", "right when yes", "bad rows caught", "gap")] == [
        8,
        20,
        10,
        28,
    ]
    assert found["right when no", "critic"].value == 0.75


def test_more_labels_than_there_are_rows_are_not_asked_for_in_silence():
    def told(rows):
        good = np.array([1.0, 0.0] * 10)
        strata = [Stratum(name, rows, good, np.ones(20)) for name in ("critic", "")]
        return worth(strata, ["critic"], 0)[0].note

    assert told(2_000).endswith(" more labels would do")
    assert told(30).endswith(" more labels would do, more than there are rows (20 that it saw have none)")


def test_surplus_rows_are_told_apart_from_accepted_ones():
    rows = [("", [("a", True)], ("", 62, "x"), None)] * 15 + [("", None, None, None)] * 47
    table = history(rows).with_columns(pl.Series("_state", ["accepted"] * 50 + ["surplus"] * 12))
    found = Labelled().measure(Sample("kept", [], pl.DataFrame(), lambda: None, "", attempts=table, filters=["critic"]))
    notes = {one.name: one.note for one in found}
    assert notes["good among accepted"].startswith("by labels of people alone on 15 of 62 rows, 12 of them surplus; ")
    assert notes["good among made"].startswith("by labels of people alone on 15 of 62 rows; ")


def test_a_remark_names_what_is_worth_nothing():
    rows = [("critic", [("a", n % 2 == 0)], ("critic", 300, "x"), None) for n in range(300)]
    rows += [("", [("a", n % 2 == 0)], ("", 300, "x"), None) for n in range(300)]
    found = list(measured(rows).values())
    assert remarks(found) == ["filter critic: no measurable value, by 600 labels of people on rows that it saw"]


def test_without_labels_nothing_is_printed():
    frame = pl.DataFrame({"_id": ["a"], "_kept": [True]})
    assert Labelled().measure(Sample("kept", [], frame, lambda: None, "", attempts=frame)) == []
