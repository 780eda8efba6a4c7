"""Bradley–Terry ratings against a direct fit of the likelihood, and against critics whose noise is known."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

from qdcgen.bradley_terry import (
    PRIOR,
    Batch,
    Pairs,
    compared,
    fit,
    largest,
    parts_of,
    reliability,
    schedule,
    stepped_up,
)


def critic(truth, seed, batch=5, appearances=5, noise="gumbel", scale=1.0):
    """Batches scored with noise; with Gumbel noise of scale 1 each pair is won with Bradley and Terry's probability."""
    rng = np.random.default_rng(seed)
    found = []
    for number, groups in enumerate(schedule(len(truth), batch, appearances, seed)):
        for group in groups:
            off = rng.gumbel(size=len(group)) if noise == "gumbel" else rng.normal(size=len(group))
            found.append(Batch(group, tuple((truth[list(group)] + scale * off).tolist()), number))
    return found


def levels(n, seed, spread=1.0):
    truth = np.random.default_rng(seed).normal(0, spread, n)
    return truth - truth.mean()


# ── the schedule ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("n", "batch", "appearances"), [(200, 5, 5), (203, 5, 5), (7, 5, 3), (3, 5, 4), (40, 8, 6)])
def test_every_item_stands_once_in_each_round_and_batches_are_of_like_size(n, batch, appearances):
    rounds = schedule(n, batch, appearances, seed=1)
    assert len(rounds) == appearances
    for groups in rounds:
        assert sorted(item for group in groups for item in group) == list(range(n))
        sizes = {len(group) for group in groups}
        assert max(sizes) <= batch
        assert max(sizes) - min(sizes) <= 1


def test_pairs_meet_as_evenly_as_can_be_and_all_are_joined():
    rounds = schedule(200, 5, 5, seed=3)
    met = [tuple(sorted(pair)) for groups in rounds for group in groups for pair in combinations(group, 2)]
    assert len(met) == len(set(met)) == 5 * 40 * 10  # nobody meets anybody twice
    few = schedule(25, 5, 5, seed=3)
    met = [tuple(sorted(pair)) for groups in few for group in groups for pair in combinations(group, 2)]
    assert max(met.count(pair) for pair in set(met)) <= 2  # 250 meetings, 300 pairs
    assert len(set(met)) >= 215
    batches = [Batch(group, tuple(range(len(group)))) for groups in rounds for group in groups]
    assert len(largest(200, compared(batches))[0]) == 200


def test_the_schedule_is_seeded_and_shuffles_the_places_within_a_batch():
    assert schedule(50, 5, 4, seed=1) == schedule(50, 5, 4, seed=1) != schedule(50, 5, 4, seed=2)
    places = [0.0] * 5
    for groups in schedule(500, 5, 4, seed=1):
        for group in groups:
            for place, item in enumerate(group):
                places[place] += item / 400
    assert max(places) - min(places) < 60  # mean number of the item at each place: no place gets the first ones
    assert schedule(1, 5, 5, seed=0) == []
    assert schedule(0, 5, 5, seed=0) == []


# ── comparisons ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_pairs_of_a_batch_count_not_only_neighbours():
    pairs = compared([Batch((4, 2, 0, 1, 3), (50, 10, 40, 20, 30))])
    assert len(pairs.first) == 10
    won = {(one, other): w for one, other, w in zip(pairs.first, pairs.second, pairs.won, strict=True)}
    assert won[4, 3] == 1.0
    assert won[2, 3] == 0.0
    # Neighbours alone would say that 4 beat 2 and 2 lost to 0: nothing of 4 against 0.
    assert won[4, 0] == 1.0


def test_missing_scores_are_missing_and_equal_ones_are_half_a_win():
    pairs = compared([Batch((0, 1, 2), (5, None, 5)), Batch((1, 3), (None, None)), Batch((2, 3), (0, 1))])
    assert pairs.first.tolist() == [0, 2]
    assert pairs.second.tolist() == [2, 3]
    assert pairs.won.tolist() == [0.5, 0.0]
    assert pairs.batch.tolist() == [0, 2]
    assert parts_of(4, pairs).tolist()[0] == parts_of(4, pairs).tolist()[3]
    assert largest(4, pairs)[0].tolist() == [0, 2, 3]  # 1 was never compared


def test_of_texts_that_comparisons_do_not_join_the_largest_part_is_rated():
    pairs = compared([Batch((0, 1), (1, 2)), Batch((2, 3, 4), (1, 2, 3)), Batch((4, 5), (1, 1))])
    held, inside = largest(7, pairs)
    assert held.tolist() == [2, 3, 4, 5]
    assert inside.first.tolist() == [0, 0, 1, 2]
    assert inside.second.tolist() == [1, 2, 2, 3]
    assert largest(0, compared([]))[0].tolist() == []


# ── the fit ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def direct(n, pairs, prior):
    """The same likelihood, maximised by a general-purpose method."""

    def loss(r):
        apart = r[pairs.first] - r[pairs.second]
        said = pairs.won * np.logaddexp(0, -apart) + (1 - pairs.won) * np.logaddexp(0, apart)
        return said.sum() + prior * (np.logaddexp(0, -r) + np.logaddexp(0, r)).sum()

    found = minimize(loss, np.zeros(n), method="BFGS", options={"gtol": 1e-9, "maxiter": 10_000}).x
    return found - found.mean()


@pytest.mark.parametrize("prior", [PRIOR, 0.01])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_fit_is_where_the_likelihood_is_greatest(seed, prior):
    truth = levels(30, seed, spread=2.0)
    batches = critic(truth, seed)
    rounded = [Batch(one.items, tuple(round(score) for score in one.scores), one.round) for one in batches]  # ties
    pairs = compared(rounded)
    assert fit(30, pairs, prior).ratings == pytest.approx(direct(30, pairs, prior), rel=1e-3, abs=1e-4)


def test_two_items_have_the_rating_that_can_be_worked_out_by_hand():
    wins, losses = 30, 10
    pairs = Pairs(
        np.zeros(40, dtype=np.int64), np.ones(40, dtype=np.int64), np.repeat([1.0, 0.0], [wins, losses]), np.arange(40)
    )
    ratings = fit(2, pairs, prior=1e-9).ratings
    assert ratings[0] - ratings[1] == pytest.approx(math.log(3), abs=1e-6)


def test_the_order_of_batches_and_of_texts_in_them_does_not_matter_as_it_does_for_elo():
    truth = levels(40, 4)
    batches = critic(truth, 4)
    rng = np.random.default_rng(0)
    mixed = []
    for at in rng.permutation(len(batches)):
        one = batches[at]
        order = rng.permutation(len(one.items))
        mixed.append(Batch(tuple(one.items[i] for i in order), tuple(one.scores[i] for i in order), one.round))
    one, other = fit(40, compared(batches)), fit(40, compared(mixed))
    assert one.ratings == pytest.approx(other.ratings, abs=1e-9)
    assert one.spreads == pytest.approx(other.spreads, abs=1e-9)
    renamed = rng.permutation(40)
    again = [Batch(tuple(int(renamed[i]) for i in one.items), one.scores, one.round) for one in batches]
    assert fit(40, compared(again)).ratings[renamed] == pytest.approx(one.ratings, abs=1e-9)


def test_all_ties_rate_all_alike_and_one_that_always_wins_stays_finite():
    groups = [group for groups in schedule(20, 5, 5, 0) for group in groups]
    tied = fit(20, compared([Batch(group, (3,) * len(group)) for group in groups]))
    assert tied.ratings == pytest.approx(np.zeros(20), abs=1e-9)
    best = fit(20, compared([Batch(group, tuple(float(item == 7) for item in group)) for group in groups]))
    assert np.isfinite(best.ratings).all()
    assert np.isfinite(best.spreads).all()
    assert best.ratings.argmax() == 7
    assert best.ratings[7] < 10
    assert fit(0, compared([])).ratings.tolist() == []
    alone = fit(3, compared([]))
    assert alone.ratings.tolist() == [0.0] * 3
    assert np.isinf(alone.spreads).all()


@pytest.mark.parametrize(("scale", "least", "most"), [(0.2, 0.97, 1.0), (1.0, 0.84, 0.94), (3.0, 0.4, 0.75)])
def test_ratings_recover_the_levels_as_far_as_the_critic_is_noisy(scale, least, most):
    found = []
    for seed in range(10):
        truth = levels(100, seed, spread=1.5)
        ratings = fit(100, compared(critic(truth, seed, noise="normal", scale=scale))).ratings
        found.append(np.corrcoef(ratings, truth)[0, 1])
    assert least < np.mean(found) < most


@pytest.mark.parametrize(("batch", "appearances", "spread"), [(5, 5, 1.0), (5, 5, 2.0), (3, 6, 1.0)])
def test_intervals_hold_what_they_say_over_200_critics_although_pairs_of_a_batch_depend(batch, appearances, spread):
    held, scale = [], []
    for seed in range(200):
        truth = levels(30, seed, spread)
        found = fit(30, compared(critic(truth, seed, batch, appearances)))
        held.append(float((np.abs(found.ratings - truth) <= found.spreads).mean()))
        scale.append(float(found.ratings @ truth / (truth @ truth)))
    assert 0.90 <= np.mean(held) <= 0.99
    assert 0.85 < np.mean(scale) < 1.2  # few comparisons put ratings too far apart, the prior too near


# ── reliability ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_reliability_is_the_share_of_the_scatter_that_is_not_noise(spread):
    found, true, inside = [], [], 0
    for seed in range(12):
        truth = levels(60, seed, spread)
        batches = critic(truth, seed)
        value, (low, high) = reliability(60, batches, seed)
        ratings = fit(60, compared(batches)).ratings
        true.append(np.corrcoef(ratings, truth)[0, 1] ** 2 if spread else 0.0)
        found.append(value)
        inside += low <= (np.mean(true) if spread else 0.0) <= high
        assert low <= value <= high
    assert np.mean(found) == pytest.approx(np.mean(true), abs=0.1)
    assert inside >= 9


def test_reliability_says_nothing_of_one_round_or_of_scores_that_are_all_missing():
    batches = critic(levels(20, 0), 0, appearances=1)
    assert reliability(20, batches, 0) is None
    assert reliability(20, [Batch((0, 1), (None, None), number) for number in range(4)], 0) is None


def test_stepping_up_is_that_of_spearman_and_brown_for_halves_of_one_length():
    assert stepped_up(0.5, 0.5) == pytest.approx(2 / 3)
    assert stepped_up(0.5, 0.4) > 2 / 3  # unequal halves correlate less
    assert stepped_up(-0.2, 0.4) == -0.2
    assert stepped_up(1.0, 0.4) == 1.0
