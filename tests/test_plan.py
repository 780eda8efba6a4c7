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
from qdcgen.taxonomy import Apportioned, apportioned, inline, shares, weighted

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


# ── quotas of sub-trees ──

branch = st.lists(st.integers(0, 4), min_size=1, max_size=9)


def never(path: tuple[str, ...], message: str) -> None:
    raise AssertionError(path, message)


def branched(sizes: list[list[int]], name: str = "q") -> Taxonomy:
    """Branches b0, b1, … whose leaves have these weights; at least one above 0 each."""
    tree = {f"b{n}": [f"{name}{n}x{m}" for m in range(len(one))] for n, one in enumerate(sizes)}
    weights = {f"{name}{n}x{m}": w or int(m == 0) for n, one in enumerate(sizes) for m, w in enumerate(one)}
    return weighted(inline(name, tree, "test"), weights)


@quick
@given(st.lists(branch, min_size=2, max_size=4), st.integers(60, 400), st.data(), st.integers(0, 99))
def test_each_sub_tree_has_its_quota_and_each_leaf_its_share_at_the_target(
    sizes: list[list[int]], rows: int, data: st.DataObject, seed: int
) -> None:
    left = rows - 1
    quotas: dict[str, str | int] = {}
    for number in range(len(sizes) - 1):
        if data.draw(st.booleans()):
            quotas[f"b{number}"] = count = data.draw(st.integers(1, max(1, left // 3)))
        else:
            per_cent = data.draw(st.integers(1, 25))
            quotas[f"b{number}/**"] = f"{per_cent}%"
            count = -(-rows * per_cent // 100)
        left -= count
        if left < len(sizes):
            return
    tree = apportioned(branched(sizes), rows, None, quotas, never)
    assert isinstance(tree, Apportioned)
    assert sum(band.share for band in tree.bands) == 1
    for others in ({}, {"b": flat("b", 7)}, {"b": tree}):
        drawn = Plan({"q": tree, **others}, seed=seed).slots(0, rows)["q"].to_numpy()
        for band in tree.bands:
            planned = int(np.isin(drawn, band.leaves).sum())
            assert abs(planned - band.share * rows) < 1  # so a whole number is met exactly
            for leaf, part in zip(band.leaves, band.parts, strict=True):
                assert abs(int((drawn == leaf).sum()) - part / band.share * planned) < 1


@quick
@given(st.lists(branch, min_size=1, max_size=4), st.integers(1, 6), st.integers(0, 300), st.integers(0, 99))
def test_every_leaf_gets_the_minimum_and_is_within_a_row_of_its_share(
    sizes: list[list[int]], minimum: int, more: int, seed: int
) -> None:
    before = branched(sizes)
    live = sum(part > 0 for part in shares(before))
    rows = minimum * live + more
    tree = apportioned(before, rows, minimum, {}, never)
    for others in ({}, {"b": flat("b", 5)}):
        drawn = Plan({"q": tree, **others}, seed=seed).slots(0, rows)["q"].to_numpy()
        counts = np.bincount(drawn, minlength=len(tree.leaves))
        assert counts.tolist() == [part * rows for part in shares(tree)]  # whole rows, exactly
        weights = [float(part) for part in shares(before)]
        assert all(count >= minimum if weight else not count for count, weight in zip(counts, weights, strict=True))
        lifted = {at for at, count in enumerate(counts) if count == minimum}
        free = [at for at, weight in enumerate(weights) if weight and at not in lifted]
        total, given_ = sum(weights[at] for at in free), sum(int(counts[at]) for at in free)
        assert all(abs(counts[at] - weights[at] / total * given_) < 1 for at in free)


def test_quotas_and_a_minimum_go_together() -> None:
    tree = branched([[1] * 5, [9, 1, 1], [1, 1]])
    made = apportioned(tree, 200, 4, {"b0": "25%", "b1/**": 100}, never)
    drawn = np.bincount(Plan({"q": made, "b": flat("b", 11)}).slots(0, 200)["q"].to_numpy(), minlength=10)
    assert drawn.tolist() == [10, 10, 10, 10, 10, 82, 9, 9, 25, 25]


def test_percentages_do_not_depend_on_the_target_and_counts_do() -> None:
    tree = branched([[1, 1], [1, 2]])
    by_part = [apportioned(tree, rows, None, {"b0": "30%"}, never).nodes for rows in (10, 1000)]
    by_count = [apportioned(tree, rows, None, {"b0": 5}, never).nodes for rows in (10, 1000)]
    assert by_part[0] == by_part[1]
    assert by_count[0] != by_count[1]
    assert apportioned(tree, 10, None, {}, never) is tree


def test_bands_of_two_axes_meet_and_pairs_are_covered() -> None:
    """Two quotas of 20 %, unshuffled, would always fall on the same rows: 0.68 of all pairs."""
    one = apportioned(branched([[1] * 4, [1] * 6], "q"), 400, None, {"b0": "20%"}, never)
    two = apportioned(branched([[1] * 3, [1] * 6], "r"), 400, None, {"b0": "20%"}, never)
    made = Plan({"q": one, "r": two, "s": flat("s", 5)}, seed=4)
    assert made.coverage(400).all_pairs.planned >= 0.98 * made.coverage(400).all_pairs.total
    frame = made.slots(0, 400).with_columns(a=pl.col("q") < 4, b=pl.col("r") < 3)
    assert 4 <= frame.filter(pl.col("a") & pl.col("b")).height <= 40  # 16 if drawn at random


def test_quotas_hold_at_any_slice_and_a_larger_target_extends_a_smaller_one() -> None:
    tree = apportioned(branched([[1] * 4, [1, 2, 3]]), 100, None, {"b0": "37.5%"}, never)
    for others in ({}, {"b": flat("b", 6)}):
        whole = Plan({"q": tree, **others}, seed=2).slots(0, 500)
        again = Plan({"q": tree, **others}, seed=2)
        assert again.slots(40, 90).equals(whole[40:90])
        assert again.slots(13, 333).equals(whole[13:333])
        part = (whole["q"].to_numpy() < 4).cumsum()
        assert np.abs(part - 0.375 * np.arange(1, 501)).max() < 1


def test_forbids_win_over_quotas() -> None:
    tree = apportioned(branched([[1] * 3, [1] * 3]), 60, None, {"b0": "50%"}, never)
    made = Plan({"q": tree, "b": flat("b", 4)}, forbid=[{"q": "b0", "b": "b1"}, {"q": "q1x0", "b": "b2"}], seed=1)
    frame = made.slots(0, 600)
    assert frame.filter((pl.col("q") < 3) & (pl.col("b") == 1)).is_empty()
    assert frame.filter((pl.col("q") == 3) & (pl.col("b") == 2)).is_empty()
    assert abs((frame["q"] < 3).sum() - 300) <= 3


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


# ── triples and saturation ──


@pytest.mark.parametrize(
    ("sizes", "rows", "margin"),
    [((30, 30, 30, 30), 81_000, 0.018), ((30, 30, 30, 30), 27_000, 0.08), ((12, 12, 12), 173, 0.003)],
)
def test_triples_beat_drawing_at_random_by_the_printed_margin(sizes: tuple[int, ...], rows: int, margin: float) -> None:
    """At 0.1 x mixes, 4 x 30 leaves have all pairs either way: triples are where the choice shows."""
    made = plan(*sizes)
    seen = list(made.triples(rows).values())
    assert len(seen) == len(list(itertools.combinations(sizes, 3)))
    planned, total, at_random = (sum(one[at] for one in seen) for at in range(3))
    assert planned / total - at_random / total >= margin
    if rows == 81_000:
        pairs_ = made.coverage(rows).all_pairs
        assert (pairs_.planned, round(pairs_.at_random)) == (5400, 5400)


def test_triples_of_axes_that_no_strategy_draws_together_are_not_counted() -> None:
    trees = {name: flat(name, 3) for name in "abcd"}
    made = Plan(trees, [Strategy(("a", "b", "c")), Strategy(("a", "d"))], [{"a": "a0", "b": "b0", "c": "c0"}])
    assert {axes: seen.total for axes, seen in made.triples(50).items()} == {("a", "b", "c"): 26}


@quick
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 60), st.integers(0, 99))
def test_saturation_is_what_counting_row_by_row_gives(sizes: list[int], rows: int, seed: int) -> None:
    made = plan(*sizes, seed=seed)
    most = 200
    found = made.saturation(rows, most)
    frame = made.slots(0, most)
    columns = {axis: frame[axis].to_list() for axis in made.taxonomies}
    groups = {
        "leaves": [(axis,) for axis in made.taxonomies],
        "pairs": list(itertools.combinations(made.taxonomies, 2)),
    }
    assert [one.what for one in found] == ["leaves", "pairs"][: 1 + (len(sizes) > 1)]
    for one in found:
        for level, planned in zip((50, 80, 95, 99), one.planned, strict=True):
            enough = [
                n
                for n in range(1, one.rows + 1)
                if 100 * sum(len(set(zip(*(columns[a][:n] for a in axes), strict=True))) for axes in groups[one.what])
                >= level * one.total
            ]
            assert planned == (enough[0] if enough else None)
        assert all(planned is not None for planned in one.planned) or one.rows == most
        assert all(n is not None for n in one.at_random)


def test_layers_are_counted_against_enumeration() -> None:
    trees = {"a": flat("a", 3), "b": flat("b", 2), "z": flat("z", 2)}
    forbid = [{"a": "a0", "m": "x"}, {"a": "a1", "b": "b1", "m": "y"}, {"m": "y", "n": "l"}]
    made = Plan(trees, [Strategy(("a", "b")), Strategy(("z",))], forbid)
    drawn = pl.DataFrame({"m": ["x", "y", None, "y"], "n": ["k", "k", "l", "k"]})
    found = made.layered(drawn, {"m": ["x", "y"], "n": ["k", "l"]}, forbid)
    totals = {"".join(axes): seen.total for axes, seen in found.items()}
    assert {axes: total for axes, total in totals.items() if len(axes) == 2} == {
        "am": 5, "an": 6, "bm": 4, "bn": 4, "zm": 4, "zn": 4, "mn": 3,
    }  # fmt: skip
    assert {axes: total for axes, total in totals.items() if len(axes) == 3} == {
        "abm": 9,  # 12, less a0 with x (twice), less a1 with b1 and y
        "abn": 12,
        "amn": 7,  # 12, less a0 with x (twice), less y with l (three times)
        "bmn": 6,
        "zmn": 6,
    }
    assert found["m", "n"].planned == 2  # x k, y k; the row without m is left out
    assert 0 < found["m", "n"].at_random <= 3


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
    asked, had = made.slots(0, 5), pl.Series([0, 1, 2, 3, 4, 1, 2, 3, 2])
    owed, given_up = refill(asked, pl.Series([0, 3]), had, candidates=3)
    assert owed["slot"].to_list() == [1, 4]
    assert given_up["slot"].to_list() == [2]
    assert owed.columns == asked.columns
    nothing, _ = refill(asked, pl.Series(range(5)), had, candidates=3)
    assert nothing.height == 0
