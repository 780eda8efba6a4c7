"""How well a set of positions covers the unit cube: six figures, each blind to another way of covering badly. Pure.

`points` are (n, k): n positions on k axes, each in [0, 1]. The figures are those of arXiv 2602.03545; where the paper
leaves a constant open, the one that is taken here is said.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qdcgen import sobol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Points = NDArray[np.float64]

__all__ = ["closest", "empty_ball", "hull", "kl_to_sobol", "spread", "support_coverage"]

CALIBRATED = 0.99
"""Share of the cube that a Sobol set of as many points covers, on average, at the radius that is used."""
REFERENCES = 32
"""Sobol sets that the radius is calibrated on; their mean is known to 0.001 at 25 points."""
PROBES = 8192
"""Places of the cube that are looked at: a share of 0.98 has a standard error of 0.0015."""
HULL_AXES = 6
"""Most axes of a hull: the facets grow beyond use above."""
HULL_POINTS = 2000
"""Most points of a hull."""
NEAREST_AXES = 8
"""Corners are looked at one by one up to here: 256."""


def support_coverage(points: Any, seed: int = 0) -> float:
    """Share of the cube that lies within a calibrated radius of some point; 0 … 1, NaN without points.

    The radius is the one at which Sobol sets of the same size cover 99 % of the cube on average, so the figure means
    the same at every n and k: about 0.99 for a Sobol set, 0.92 to 0.95 for independent uniform points (n = 25, k = 2
    and 3). The share is counted on 8,192 uniform places of the cube, drawn by `seed`.
    """
    placed = _checked(points)
    if not len(placed):
        return float("nan")
    n, k = placed.shape
    return float((_to_nearest(placed, _probes(k, seed)) <= _radius(n, k)).mean())


def hull(points: Any) -> float:
    """Volume of the convex hull, as a share of the cube; 0 … 1.

    0 where the points lie in a plane of fewer axes. NaN above 6 axes; of more than 2,000 points the first 2,000 count.
    A ring of points has the hull of a full disc: read it beside the coverage.
    """
    import numpy as np

    placed = np.unique(_checked(points)[:HULL_POINTS], axis=0)
    n, k = placed.shape
    if k > HULL_AXES:
        return float("nan")
    if n <= k:
        return 0.0
    if k == 1:
        return float(placed.max() - placed.min())
    from scipy.spatial import ConvexHull, QhullError

    try:
        return float(ConvexHull(placed).volume)
    except QhullError:  # all in one plane
        return 0.0


def closest(points: Any) -> float:
    """Distance between the two points that lie nearest to each other; 0: some position is there twice. NaN below two.

    It falls with n by itself, so compare at equal n.
    """
    placed = _checked(points)
    if len(placed) < 2:  # noqa: PLR2004
        return float("nan")
    from scipy.spatial import KDTree

    return float(KDTree(placed).query(placed, k=2)[0][:, 1].min())


def spread(points: Any) -> float:
    """Mean distance over all pairs of points; NaN below two.

    Uniform points have 0.333, 0.521 and 0.662 on 1, 2 and 3 axes. Higher is not better: points at the corners alone
    have more.
    """
    import numpy as np

    placed = _checked(points)
    n = len(placed)
    if n < 2:  # noqa: PLR2004
        return float("nan")
    total = 0.0
    for start in range(0, n, 256):  # 256 × n distances at a time: 20 MiB at 10,000 points
        part = placed[start : start + 256]
        squares = (part**2).sum(1)[:, None] + (placed**2).sum(1)[None, :] - 2 * part @ placed.T
        total += float(np.sqrt(squares.clip(0)).sum())
    return total / (n * (n - 1))


def empty_ball(points: Any, seed: int = 0) -> float:
    """Radius of the largest ball, centred in the cube, that holds no point; NaN without points.

    Looked for at 8,192 uniform places drawn by `seed` and, up to 8 axes, at the cube's corners: the true one is larger
    by no more than the grain of the places, about 0.01 on 2 axes and 0.05 on 3.
    """
    import numpy as np

    placed = _checked(points)
    if not len(placed):
        return float("nan")
    k = placed.shape[1]
    places = _probes(k, seed)
    if k <= NEAREST_AXES:
        corners = np.array(np.meshgrid(*[[0.0, 1.0]] * k)).reshape(k, -1).T
        places = np.vstack([places, corners])
    return float(_to_nearest(placed, places).max())


def kl_to_sobol(points: Any, seed: int = 0) -> float:
    """Kullback-Leibler divergence, in nats, of the points' density from that of a Sobol set of the same size; 0 and up.

    Both densities are sums of Gaussian bumps of Scott's width for uniform points, 0.289 · n^(-1/(k+4)), compared at
    2,048 uniform places. Another Sobol set of 25 points has 0.02 and 0.07 on 2 and 3 axes, independent uniform points
    have 0.07 and 0.15, and 25 points in one half of a square have 0.38. NaN without points.
    """
    import numpy as np

    placed = _checked(points)
    if not len(placed):
        return float("nan")
    n, k = placed.shape
    width = 12**-0.5 * n ** (-1 / (k + 4))
    places = _probes(k, seed)[:2048]

    def density(of: Points) -> Points:
        found: Points = np.zeros(len(places))
        for start in range(0, len(of), 1024):
            part = of[start : start + 1024]
            squares = (places**2).sum(1)[:, None] + (part**2).sum(1)[None, :] - 2 * places @ part.T
            found += np.exp(-squares.clip(0) / (2 * width**2)).sum(1)
        found += 1e-12  # far from every point, both are nothing
        found /= found.sum()
        return found

    ours, theirs = density(placed), density(_sobol(n, k, seed))
    return max(0.0, float((ours * np.log(ours / theirs)).sum()))


def _checked(points: Any) -> Points:
    import numpy as np

    placed = np.asarray(points, dtype=np.float64)
    if placed.ndim != 2 or not placed.shape[1]:  # noqa: PLR2004
        raise ValueError(f"expected points of shape (n, k), found {placed.shape}")
    if len(placed) and not (placed.min() >= 0 and placed.max() <= 1):
        raise ValueError(f"expected positions from 0 to 1, found {placed.min()} to {placed.max()}")
    return placed


def _to_nearest(points: Points, places: Points) -> Points:
    """For each place, the distance to its nearest point."""
    from scipy.spatial import KDTree

    found: Points = KDTree(points).query(places)[0]
    return found


@lru_cache(maxsize=16)
def _probes(k: int, seed: int) -> Points:
    import numpy as np

    found: Points = np.random.default_rng([seed, k, PROBES]).random((PROBES, k))
    return found


def _sobol(n: int, k: int, seed: int) -> Points:
    """A Sobol set; from 10 axes up independent points, which is what a Sobol set of any size we meet is there."""
    import numpy as np

    if k > sobol.MOST:
        return np.random.default_rng([seed, n, k]).random((n, k))
    found: Points = np.array([sobol.point(index, k, seed) for index in range(n)])
    return found


@lru_cache(maxsize=256)
def _radius(n: int, k: int) -> float:
    """The radius at which Sobol sets of n points cover 99 % of the cube on average.

    Fewer sets at large n, whose coverage differs less: 32 up to 25 points, 2 from 400.
    """
    import numpy as np

    sets = max(2, min(REFERENCES, REFERENCES * 25 // n))
    distances = [_to_nearest(_sobol(n, k, number), _probes(k, 0)) for number in range(sets)]
    return float(np.quantile(np.concatenate(distances), CALIBRATED))
