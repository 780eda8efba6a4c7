"""Six figures of how well positions cover the unit cube, on sets whose cover is known."""

import numpy as np
import pytest

from qdcgen import sobol, support

SEEDS = 200


def sobol_set(n, k, seed):
    return np.array([sobol.point(index, k, seed) for index in range(n)])


def over(make, figure):
    return np.array([figure(make(seed)) for seed in range(SEEDS)])


@pytest.mark.parametrize("k", [2, 3])
def test_sobol_positions_cover_098_where_independent_ones_cover_092_to_095(k):
    even = over(lambda seed: sobol_set(25, k, 10_000 + seed), support.support_coverage)
    chance = over(lambda seed: np.random.default_rng(seed).random((25, k)), support.support_coverage)
    assert even.mean() >= 0.98
    assert np.mean(even >= 0.97) >= 0.98
    assert 0.92 <= round(chance.mean(), 2) <= 0.95
    assert np.mean(even > chance) > 0.9


@pytest.mark.parametrize("k", [2, 3])
def test_every_figure_tells_sobol_from_independent_positions(k):
    def both(figure):
        even = over(lambda seed: sobol_set(25, k, seed), figure)
        return even.mean(), over(lambda seed: np.random.default_rng(seed).random((25, k)), figure).mean()

    for figure in (support.hull, support.closest, support.spread):
        even, chance = both(figure)
        assert even > chance
    for figure in (support.empty_ball, support.kl_to_sobol):
        even, chance = both(figure)
        assert even < chance


def test_what_stands_in_one_place_covers_nothing():
    points = np.full((25, 2), 0.5)
    assert support.support_coverage(points) < 0.15
    assert support.hull(points) == 0
    assert support.closest(points) == 0
    assert support.spread(points) == pytest.approx(0, abs=1e-6)
    assert support.empty_ball(points) == pytest.approx(0.5**0.5)
    assert support.kl_to_sobol(points) > 0.4


def test_figures_on_shapes_that_are_known():
    square = [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert support.hull(square) == pytest.approx(1)
    assert support.closest(square) == pytest.approx(1)
    assert support.spread(square) == pytest.approx((4 + 2 * 2**0.5) / 6)
    assert support.empty_ball(square) == pytest.approx(0.5**0.5, abs=0.02)
    assert support.hull([[0.1], [0.9], [0.5]]) == pytest.approx(0.8)
    assert support.hull([[0.2, 0.2], [0.5, 0.5], [0.8, 0.8]]) == 0, "all on one line"
    uniform = np.random.default_rng(5).random((3000, 3))
    assert support.spread(uniform) == pytest.approx(0.662, abs=0.01)


def test_half_a_square_is_told_by_coverage_and_divergence():
    half = sobol_set(64, 2, 1) * [0.5, 1]
    assert support.support_coverage(half) < 0.75
    assert support.kl_to_sobol(half) > 0.3
    assert support.hull(half) < 0.5


def test_too_few_points_and_too_many_axes_give_no_number():
    none = np.empty((0, 2))
    for figure in (support.support_coverage, support.closest, support.spread, support.empty_ball, support.kl_to_sobol):
        assert np.isnan(figure(none))
    assert np.isnan(support.closest([[0.1, 0.2]]))
    assert support.hull([[0.1, 0.2]]) == 0
    assert np.isnan(support.hull(np.random.default_rng(1).random((40, 7))))
    assert 0 <= support.support_coverage(np.random.default_rng(1).random((40, 12))) <= 1


@pytest.mark.parametrize("points", [[0.1, 0.2], [[1.2, 0.1]], [[-0.1, 0.5]], [[float("nan"), 0.5]]])
def test_what_is_no_set_of_positions_is_refused(points):
    with pytest.raises(ValueError, match="expected p"):
        support.support_coverage(points)
