"""Points of the scrambled Sobol sequence: the published directions, even cover, no two seeds alike."""

import numpy as np
import pytest
from scipy.stats import qmc

from qdcgen import sobol


def points(count, dims, seed):
    return np.array([sobol.point(index, dims, seed) for index in range(count)])


def test_unscrambled_it_is_the_sequence_of_joe_and_kuo(monkeypatch):
    monkeypatch.setattr(sobol, "scramble", lambda x, _: x)
    index = np.arange(256)
    gray = index ^ (index >> 1)  # scipy walks in Gray-code order
    assert np.array_equal(points(256, sobol.MOST, 0)[gray], qmc.Sobol(sobol.MOST, scramble=False).random(256))


@pytest.mark.parametrize("seed", range(20))
def test_the_first_points_fall_one_into_each_part_of_every_axis(seed):
    for count in (2, 8, 32, 128):
        cells = np.sort((points(count, 10, seed) * count).astype(int), axis=0)
        assert np.array_equal(cells, np.tile(np.arange(count)[:, None], 10))


@pytest.mark.parametrize("seed", range(20))
def test_sixteen_points_fall_one_into_each_box_of_the_first_two_axes(seed):
    found = points(16, 2, seed)
    for across in (1, 2, 4, 8, 16):
        boxes = {(int(x * across), int(y * 16 / across)) for x, y in found}
        assert len(boxes) == 16


def test_seeds_differ_and_each_repeats():
    assert np.array_equal(points(9, 5, 3), points(9, 5, 3))
    firsts = {sobol.point(0, 5, seed) for seed in range(500)}
    assert len(firsts) == 500
    assert abs(np.array(list(firsts)).mean() - 0.5) < 0.02


def test_two_layers_of_one_mix_do_not_move_together():
    alike = [abs(np.corrcoef(points(64, 1, seed)[:, 0], points(64, 1, seed + 1000)[:, 0])[0, 1]) for seed in range(100)]
    assert np.mean(alike) < 0.15


@pytest.mark.parametrize("dims", [0, 11])
def test_more_axes_than_it_knows_are_refused(dims):
    with pytest.raises(ValueError, match="expected 1 to 10 dimensions"):
        sobol.point(0, dims, 0)
