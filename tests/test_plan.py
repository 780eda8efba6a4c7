"""One endless sequence of mixes: quotas hold at every prefix, pairs are covered fast, forbidden mixes never occur."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdcgen.errors import RecipeError
from qdcgen.plan import Plan, Strategy, refill
from qdcgen.rows import Taxonomy, mix_key, mix_of
from qdcgen.taxonomy import inline, shares, weighted

if TYPE_CHECKING:
    from collections.abc import Sequence

quick = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def flat(name: str, leaves: int, weights: Sequence[float] | None = None) -> Taxonomy:
    taxonomy = inline(name, [f"{name}{number}" for number in range(leaves)], "test")
    return weighted(taxonomy, {f"{name}{n}": w for n, w in enumerate(weights)}) if weights else taxonomy


def plan(*sizes: int, seed: int = 1, forbid: Sequence[dict[str, str]] = ()) -> Plan:
    return Plan({"abcdef"[n]: flat("abcdef"[n], size) for n, size in enumerate(sizes)}, forbid=forbid, seed=seed)


def off(values: pl.Series, parts: Sequence[Fraction | float]) -> float:
    """The largest distance of any count from its share, over all prefixes."""
    drawn = values.drop_nulls().to_numpy()
    rows = np.arange(1, len(drawn) + 1)
    total = float(sum(parts))
    worst = 0.0
    for number, part in enumerate(parts):
        worst = max(worst, float(np.abs(np.cumsum(drawn == number) - rows * (float(part) / total)).max(initial=0)))
    return worst


def worst_share(made: Plan, rows: int) -> float:
    frame = made.slots(0, rows)
    return max(off(frame[axis], shares(tree)) for axis, tree in made.taxonomies.items())


def pairs(frame: pl.DataFrame, one: str, two: str) -> int:
    return frame.select(one, two).drop_nulls().n_unique()


# ── quotas ──


@quick
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 400), st.integers(0, 2**63))
def test_each_leaf_has_its_share_to_within_a_row_at_every_prefix(sizes: list[int], rows: int, seed: int) -> None:
    assert worst_share(plan(*sizes, seed=seed), rows) < 1


weight = st.one_of(st.integers(0, 9), st.sampled_from([0.1, 0.25, 1.5, 300, 1e-3]))


@quick
@given(st.lists(st.lists(weight, min_size=1, max_size=12).filter(any), min_size=1, max_size=3), st.integers(1, 500))
def test_weighted_leaves_have_their_share_to_within_a_row_at_every_prefix(
    all_weights: list[list[float]], rows: int
) -> None:
    trees = {"abc"[n]: flat("abc"[n], len(weights), weights) for n, weights in enumerate(all_weights)}
    assert worst_share(Plan(trees, seed=rows), rows) < 1 + 1e-6


@pytest.mark.parametrize(("big", "tiny"), [(300, 300), (1000, 40), (1, 300)])
def test_one_big_leaf_beside_many_tiny_ones_keeps_its_quota(big: int, tiny: int) -> None:
    tree = flat("a", tiny + 1, [big, *[1] * tiny])
    assert worst_share(Plan({"a": tree}, seed=2), 3 * (big + tiny)) < 1
    assert worst_share(Plan({"a": tree, "b": flat("b", 17)}, seed=2), 3 * (big + tiny)) < 1


def test_shares_that_share_no_small_denominator_keep_their_quota() -> None:
    parts = [1 / 3, 0.123456789, 2.718281828, 1e-9, 77.7]
    assert worst_share(Plan({"a": flat("a", 5, parts)}), 20_000) < 1 + 1e-4


def test_a_weight_of_zero_is_never_drawn() -> None:
    made = Plan({"a": flat("a", 3, [0, 1, 2]), "b": flat("b", 4)})
    assert set(made.slots(0, 300)["a"]) == {1, 2}
    assert (made.mixes_total, made.coverage(1).all_pairs.total) == (8, 8)


@quick
@given(st.lists(st.tuples(st.sets(st.sampled_from("abc"), min_size=1), st.integers(1, 9)), min_size=1, max_size=4))
def test_strategies_and_their_leaves_keep_their_shares(drawn: list[tuple[set[str], int]]) -> None:
    strategies = [Strategy(tuple(sorted(axes)), weight) for axes, weight in drawn]
    trees = {"a": flat("a", 5), "b": flat("b", 7, [1, 2, 3, 1, 1, 1, 5]), "c": flat("c", 11)}
    made = Plan(trees, strategies, seed=5)
    frame = made.slots(0, 400)
    for axis, tree in trees.items():
        assert off(frame[axis], shares(tree)) < 1
    wanted: dict[frozenset[str], int] = {}
    for axes, weight in drawn:
        wanted[frozenset(axes)] = wanted.get(frozenset(axes), 0) + weight
    seen = [frozenset(axis for axis in "abc" if row[axis] is not None) for row in frame.iter_rows(named=True)]
    if len(wanted) == len(drawn):
        for group, share in wanted.items():
            counts = np.cumsum([one == group for one in seen])
            assert np.abs(counts - np.arange(1, 401) * share / sum(wanted.values())).max() < 1


# ── one sequence ──


WHOLE = plan(12, 9, 7).slots(0, 700)


@quick
@given(st.integers(1, 400), st.integers(0, 400), st.integers(1, 300))
def test_a_larger_target_extends_a_smaller_one(rows: int, start: int, length: int) -> None:
    again = plan(12, 9, 7)
    assert again.slots(0, rows).equals(WHOLE[:rows])
    assert again.slots(start, start + length).equals(WHOLE[start : start + length])


def test_slots_are_indices_with_nulls_where_an_axis_is_not_drawn() -> None:
    made = Plan({"a": flat("a", 3), "b": flat("b", 2), "c": flat("c", 2)}, [Strategy(("a", "b")), Strategy(("a",))])
    frame = made.slots(10, 16)
    assert frame.schema == {"slot": pl.UInt32, "a": pl.UInt32, "b": pl.UInt32, "c": pl.UInt32}
    assert frame["slot"].to_list() == list(range(10, 16))
    assert (frame["b"].null_count(), frame["c"].null_count()) == (3, 6)
    assert made.slots(4, 4).height == 0


SCRIPT = """
from hashlib import sha256
from qdcgen.plan import Plan, Strategy
from qdcgen.taxonomy import inline, weighted
t = {n: inline(n, [n + str(i) for i in range(k)], "x") for n, k in (("a", 9), ("b", 14), ("c", 5))}
t["b"] = weighted(t["b"], {"b1*": 2.5})
p = Plan(t, [Strategy(("a", "b", "c"), 2), Strategy(("a", "c"))], [{"a": "a1", "b": "b1*"}], 11)
print(sha256(p.slots(0, 700).write_csv().encode()).hexdigest()[:16])
"""


def test_the_same_seed_gives_the_same_sequence_in_every_process() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1", "4711")
    }
    assert told == {"ea92960d3a9eabdb"}


def test_another_seed_gives_another_order() -> None:
    for sizes in ((30,), (30, 20), (30, 20, 10)):
        assert not plan(*sizes, seed=1).slots(0, 30).equals(plan(*sizes, seed=2).slots(0, 30))


# ── pairs ──


@pytest.mark.parametrize(("a", "b"), [(4, 6), (5, 7), (12, 12), (1, 9), (30, 20)])
def test_two_axes_repeat_no_pair_before_all_are_seen(a: int, b: int) -> None:
    frame = plan(a, b).slots(0, a * b)
    assert pairs(frame, "a", "b") == a * b


@pytest.mark.parametrize(
    ("sizes", "rows", "least"),
    [
        ((30, 30, 30, 30), 90, 0.9990),
        ((30, 30, 30, 30), 900, 0.89),
        ((30, 30, 30, 30), 1500, 1.0),
        ((200, 200, 200), 20_000, 0.9990),
        ((200, 200, 200), 40_000, 0.94),
        ((30, 12, 50, 7), 750, 0.999),
    ],
)
def test_pairs_are_covered_almost_as_fast_as_can_be(sizes: tuple[int, ...], rows: int, least: float) -> None:
    made = plan(*sizes)
    most = sum(min(rows, a * b) for a, b in itertools.combinations(sizes, 2))
    covered = made.coverage(rows)
    assert covered.all_pairs.planned >= least * most
    assert covered.all_pairs.planned > covered.all_pairs.at_random


def test_weighted_axes_cover_as_many_pairs_as_their_quotas_allow() -> None:
    made = Plan({"a": flat("a", 101, [100, *[1] * 100]), "b": flat("b", 40)})
    frame = made.slots(0, 2000)
    assert pairs(frame, "a", "b") >= 0.97 * (40 + 1000)  # the big leaf has 1,000 rows for its 40 pairs


def test_pair_counts_stay_even_once_all_are_seen() -> None:
    frame = plan(10, 12, 8).slots(0, 9600)
    for one, two in (("a", "b"), ("a", "c"), ("b", "c")):
        counts = frame.group_by(one, two).len()["len"].to_numpy()
        assert counts.std() < 0.65 * np.sqrt(counts.mean())  # drawn at random: the whole root


def test_mixes_are_not_repeated_while_there_are_new_ones() -> None:
    assert plan(12, 12, 12).slots(0, 864).drop("slot").n_unique() > 0.97 * 864  # half of all; at random 0.79


# ── forbidden mixes ──

patterns = st.sampled_from(["*0", "*1*", "*2", "*3", "*"])
entry = st.dictionaries(st.sampled_from(["a", "b", "c"]), patterns, min_size=1, max_size=3)


@quick
@given(st.lists(entry, max_size=4), st.booleans())
def test_forbidden_mixes_never_occur_and_totals_are_exact(forbid: list[dict[str, str]], split: bool) -> None:
    strategies = [Strategy(("a", "b"), 2), Strategy(("a", "b", "c"))] if split else [Strategy(("a", "b", "c"))]
    trees = {"a": flat("a", 12), "b": flat("b", 5), "c": flat("c", 4)}

    def banned(mix: dict[str, str]) -> bool:
        return any(all(axis in mix and hits(said, mix[axis]) for axis, said in one.items()) for one in forbid)

    allowed = {
        mix_key(mix)
        for strategy in strategies
        for nodes in itertools.product(*(trees[axis].leaves for axis in strategy.axes))
        if not banned(mix := {axis: node.id for axis, node in zip(strategy.axes, nodes, strict=True)})
    }
    try:
        made = Plan(trees, strategies, forbid, seed=3)
    except RecipeError:
        for strategy in strategies:
            if not any(set(mix_of(key)) == set(strategy.axes) for key in allowed):
                return
        raise
    frame = made.slots(0, 250)
    assert {mix_key(mix_at(made, row)) for row in frame.iter_rows(named=True)} <= allowed
    assert made.mixes_total == len(allowed)
    together = {frozenset(pair) for key in allowed for pair in itertools.combinations(sorted(mix_of(key).items()), 2)}
    assert made.coverage(1).all_pairs.total == len(together)


def mix_at(made: Plan, row: dict[str, int | None]) -> dict[str, str]:
    return {axis: tree.leaves[row[axis]].id for axis, tree in made.taxonomies.items() if row[axis] is not None}


def hits(pattern: str, node: str) -> bool:
    if pattern == "*":
        return True
    if pattern == "*1*":
        return "1" in node
    return node.endswith(pattern[1:])


def test_quotas_hold_under_forbids_that_leave_room() -> None:
    made = plan(20, 15, 10, forbid=[{"a": "a1*", "b": "b1"}, {"b": "b2", "c": "c3"}, {"a": "a3", "b": "b4", "c": "c*"}])
    assert worst_share(made, 3000) < 1
    assert pairs(made.slots(0, 3000), "a", "b") == 300 - 11 - 1


def test_quotas_bend_only_a_little_under_forbids_that_leave_hardly_any_room() -> None:
    assert worst_share(plan(30, 20, forbid=[{"a": "a1*", "b": "b1*"}]), 5000) < 5


def test_an_entry_that_names_a_layer_is_left_to_others() -> None:
    assert plan(3, 3, forbid=[{"a": "a1", "mood": "calm"}]).mixes_total == 9


def test_forbids_that_leave_nothing_are_refused() -> None:
    with pytest.raises(RecipeError, match="leave nothing to draw"):
        plan(3, 3, forbid=[{"a": "*"}])
    with pytest.raises(RecipeError, match="leave nothing to draw"):
        plan(3, 3, forbid=[{"a": "a0", "b": "*"}, {"a": "a1"}, {"a": "a2", "b": "b*"}])


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (Strategy(("z",)), "no taxonomy"),
        (Strategy(()), "no axis"),
        (Strategy(("a", "a")), "twice"),
        (Strategy(("a",), 0), "above 0"),
        (Strategy(("a",), float("nan")), "above 0"),
    ],
)
def test_a_strategy_that_cannot_be_is_refused(strategy: Strategy, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Plan({"a": flat("a", 2)}, [strategy])


# ── figures ──


def test_expected_pairs_are_what_drawing_at_random_gives() -> None:
    trees = {"a": flat("a", 4, [5, 1, 1, 1]), "b": flat("b", 5), "c": flat("c", 3)}
    forbid = [{"a": "a0", "b": "b1"}, {"a": "a1", "b": "b2", "c": "c0"}]
    made = Plan(trees, [Strategy(("a", "b", "c"), 2), Strategy(("b", "c"))], forbid)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(3000):
        seen = set()
        for _ in range(12):
            axes = "abc" if rng.random() < 2 / 3 else "bc"
            while True:
                mix = {"a": rng.choice(4, p=[5 / 8, 1 / 8, 1 / 8, 1 / 8]), "b": rng.integers(5), "c": rng.integers(3)}
                if axes == "bc" or not ((mix["a"], mix["b"]) == (0, 1) or (mix["a"], mix["b"], mix["c"]) == (1, 2, 0)):
                    break
            seen |= {(one, two, mix[one], mix[two]) for one, two in itertools.combinations(axes, 2)}
        found.append(len(seen))
    expected = made.coverage(12).all_pairs.at_random
    assert expected == pytest.approx(np.mean(found), abs=4 * np.std(found) / np.sqrt(3000))
    assert made.coverage(0).all_pairs.at_random == 0
    many = made.coverage(10_000).all_pairs
    assert many.at_random == pytest.approx(many.total)


def test_coverage_counts_leaves_and_pairs_beside_chance() -> None:
    covered = plan(4, 6).coverage(12)
    assert list(covered.leaves["b"]) == [6, 6, pytest.approx(6 * (1 - (5 / 6) ** 12))]
    assert list(covered.pairs["a", "b"]) == [12, 24, pytest.approx(24 * (1 - (23 / 24) ** 12))]
    assert covered.all_pairs == covered.pairs["a", "b"]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_mixes_are_counted_exactly(sizes: list[int]) -> None:
    assert plan(*sizes).mixes_total == prod(sizes)


def test_mixes_are_counted_as_whole_numbers_beyond_any_machine_word() -> None:
    assert plan(*[10_000] * 6).mixes_total == 10**24


# ── names ──

names = st.text(alphabet="a;=%3BD", min_size=1, max_size=5)


@given(st.dictionaries(names, names, max_size=4), st.dictionaries(names, names, max_size=4))
def test_mix_keys_never_collide_and_can_be_read_back(one: dict[str, str], two: dict[str, str]) -> None:
    assert mix_of(mix_key(one)) == one
    assert (mix_key(one) == mix_key(two)) == (one == two)


# ── later rounds ──


def test_refill_owes_slots_without_a_row_until_their_candidates_are_spent() -> None:
    made = plan(3, 2)
    asked = pl.concat([made.slots(0, 5), made.slots(1, 4), made.slots(2, 4)])
    owed, given_up = refill(asked, pl.Series([0, 3]), candidates=3)
    assert owed["slot"].to_list() == [1, 4]
    assert given_up["slot"].to_list() == [2]
    assert owed.columns == asked.columns
    nothing, _ = refill(asked, pl.Series(range(5)), candidates=3)
    assert nothing.height == 0
