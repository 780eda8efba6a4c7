"""From which cosine on two texts say the same: a threshold fitted on pairs that people judged, and how right it is.

The threshold is where the share of same pairs at or above it less the share of different pairs at or above it is
largest (Youden 1950, Cancer 3:32: J); that does not depend on how many pairs of each kind there are. It lies between
two cosines that were met, so it can neither pass all pairs nor none. What it is worth is told on pairs that it was not
fitted on: ten folds, each judged by the threshold of the other nine.

What makes it lie: pairs are taken as independent, and pairs that share texts are not; pairs chosen because they are
plain make the threshold look better than it is; a threshold fitted on one subject or embedder is not another's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen.errors import UsageError, nearest
from qdcgen.intervals import clamp, wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.intervals import Interval

    Vectors = NDArray[np.float32]

__all__ = ["NAMES", "Fitted", "Pair", "classes", "fit", "fitted", "linked", "numbered", "read"]

NAMES = ("semantic classes", "largest semantic class", "effective classes", "same pairs told")
"""Measures that rest on pairs."""
COLUMNS = ("text_a", "text_b", "same")
WORDS = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}
LEAST = 10
"""Pairs of each kind without which nothing is fitted: each fold then has one."""
MOST = 100_000
FOLDS = 10
DRAWS = 200


class Pair(NamedTuple):
    """Two texts, and whether people say that they are the same."""

    one: str
    other: str
    same: bool


class Fitted(NamedTuple):
    """A threshold, and how often it says of held-out pairs what people said."""

    threshold: float
    between: Interval
    """Its bootstrap interval."""
    pairs: int
    same: int
    accuracy: float
    accuracy_between: Interval
    balanced: float
    """Mean of the shares of same and of different pairs that are told right; 0.5 is what a coin gets."""
    balanced_between: Interval
    kappa: float
    kappa_between: Interval

    @property
    def knows(self) -> bool:
        """Whether the embedder tells the two kinds apart at all."""
        return self.balanced_between[0] > 0.5  # noqa: PLR2004  (a coin)

    @property
    def words(self) -> str:
        """Threshold and agreement in words."""
        low, high = self.between
        worst, best = self.kappa_between
        return (
            f"threshold {self.threshold:.3f} ({low:.3f} – {high:.3f}), fitted on {self.pairs:,} pairs; of pairs held "
            f"out it tells {self.balanced:.2f} of each kind right (κ {self.kappa:.2f}, {worst:.2f} – {best:.2f})"
        )


def read(path: Path) -> list[Pair]:
    """The pairs of a table with the columns text_a, text_b and same (1, 0, yes, no, true or false).

    Raises:
        UsageError, RecipeError: it cannot be read, a column or value is not there, or there are too few of a kind.
    """
    import polars as pl

    from qdcgen import tables

    frame = tables.read(path)
    for name in COLUMNS:
        if name not in frame.columns:
            close = nearest(name, frame.columns)
            expected = ", ".join(COLUMNS)
            found = ", ".join(frame.columns)
            raise UsageError(f"{path}: no column {name!r}{close}; expected {expected}, found {found}")
        if frame[name].dtype.is_nested() or frame[name].dtype == pl.Binary:
            raise UsageError(f"{path}: the column {name!r} holds {frame[name].dtype}, not text")
    found_pairs = []
    told = [frame[name].cast(pl.String).to_list() for name in COLUMNS]
    for number, (one, other, same) in enumerate(zip(*told, strict=True), 1):
        said = WORDS.get((same or "").strip().lower().removesuffix(".0"))
        if said is None or one is None or other is None:
            empty = next((name for name, value in zip(COLUMNS, (one, other, same), strict=True) if value is None), "")
            what = f"{empty} is empty" if empty else f"same is {same!r}; expected 1, 0, yes or no"
            raise UsageError(f"{path}: pair {number}: {what}")
        found_pairs.append(Pair(one, other, said))
    same_pairs = sum(pair.same for pair in found_pairs)
    if min(same_pairs, len(found_pairs) - same_pairs) < LEAST:
        raise UsageError(
            f"{path}: {same_pairs} pairs that are the same and {len(found_pairs) - same_pairs} that are not; a "
            f"threshold needs {LEAST} of each"
        )
    return found_pairs


def fitted(pairs: Sequence[Pair], embed: Callable[[Sequence[str]], Vectors], seed: int) -> Fitted:
    """The threshold for vectors of unit length; does not depend on the order of the pairs, nor of a pair's texts."""
    import numpy as np

    ordered = sorted(Pair(min(one, other), max(one, other), same) for one, other, same in pairs)
    if len(ordered) > MOST:
        chosen = np.random.default_rng(seed).choice(len(ordered), MOST, replace=False)
        ordered = [ordered[place] for place in np.sort(chosen).tolist()]
    texts = list(dict.fromkeys(text for pair in ordered for text in (pair.one, pair.other)))
    places = {text: place for place, text in enumerate(texts)}
    vectors = embed(texts)
    cosines = np.empty(len(ordered))
    for start in range(0, len(ordered), 8_192):
        some = ordered[start : start + 8_192]
        one = vectors[[places[pair.one] for pair in some]].astype(np.float64)
        other = vectors[[places[pair.other] for pair in some]].astype(np.float64)
        cosines[start : start + len(some)] = np.einsum("ij,ij->i", one, other)
    return fit(cosines, np.array([pair.same for pair in ordered]), seed)


def fit(cosines: NDArray[np.float64], same: NDArray[np.bool_], seed: int = 0) -> Fitted:
    """The threshold for pairs of these cosines; at least two of each kind.

    Where no threshold does better than none, the figures say so (`knows`), and nothing should be built on it.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    levels, at = np.unique(cosines, return_inverse=True)
    threshold = _best(levels, at, same, np.ones(len(same)))
    draws = [
        _best(levels, at, same, rng.multinomial(len(same), np.full(len(same), 1 / len(same)))) for _ in range(DRAWS)
    ]
    between = (float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975)))
    folds = np.empty(len(same), dtype=np.int64)
    for kind in (True, False):  # each fold has its share of both kinds
        rows = np.flatnonzero(same == kind)
        folds[rng.permutation(rows)] = np.arange(len(rows)) % FOLDS
    said = np.zeros(len(same), dtype=bool)
    for fold in range(FOLDS):
        held = folds == fold
        said[held] = cosines[held] >= _best(levels, at, same, (~held).astype(np.float64))
    table = np.array([[int((said & same).sum()), int((~said & same).sum())],
                      [int((said & ~same).sum()), int((~said & ~same).sum())]])  # fmt: skip
    # A bootstrap of pairs is a draw of the four counts.
    drawn = rng.multinomial(len(same), table.ravel() / len(same), size=1_000).reshape(-1, 2, 2)
    balanced, kappa = _figures(table[None])
    spread = [np.quantile(values[np.isfinite(values)], (0.025, 0.975)) for values in _figures(drawn)]
    right = int(table[0, 0] + table[1, 1])
    return Fitted(
        threshold=threshold,
        between=(min(between[0], threshold), max(between[1], threshold)),
        pairs=len(same),
        same=int(same.sum()),
        accuracy=right / len(same),
        accuracy_between=wilson(right, len(same)) or (0.0, 1.0),
        balanced=float(balanced[0]),
        balanced_between=clamp(_around(spread[0], float(balanced[0])), 0.0, 1.0),
        kappa=float(kappa[0]),
        kappa_between=clamp(_around(spread[1], float(kappa[0])), -1.0, 1.0),
    )


def _around(ends: Any, value: float) -> Interval:
    return (min(float(ends[0]), value), max(float(ends[1]), value))


def _best(levels: NDArray[np.float64], at: NDArray[np.int64], same: NDArray[np.bool_], weight: Any) -> float:
    """The middle one of the thresholds with the largest J, each halfway between two neighbouring cosines."""
    import numpy as np

    if len(levels) == 1:
        return float(levels[0])
    ones, others = (np.bincount(at, weights=weight * kind, minlength=len(levels)) for kind in (same, ~same))
    # Shares below each midpoint; J = (different below) - (same below).
    gain = np.cumsum(others)[:-1] / max(others.sum(), 1e-300) - np.cumsum(ones)[:-1] / max(ones.sum(), 1e-300)
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    place = int(best[len(best) // 2])
    return float((levels[place] + levels[place + 1]) / 2)


def _figures(tables: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Balanced accuracy and Cohen's κ (1960) of (n, 2, 2) counts: people same or different, threshold same or not."""
    import numpy as np

    counts = tables.astype(np.float64)
    n = counts.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        balanced = (counts[:, 0, 0] / counts[:, 0].sum(axis=1) + counts[:, 1, 1] / counts[:, 1].sum(axis=1)) / 2
        agreed = (counts[:, 0, 0] + counts[:, 1, 1]) / n
        chance = (counts.sum(axis=2) * counts.sum(axis=1)).sum(axis=1) / n**2
        return balanced, np.where(chance < 1, (agreed - chance) / (1 - chance), 0.0)


# ── classes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def numbered(texts: Sequence[str], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each text in this order, the same for equal ones; `order` puts equal texts side by side."""
    import numpy as np

    same = [i > 0 and texts[row] == texts[order[i - 1]] for i, row in enumerate(order.tolist())]
    return np.cumsum(~np.array(same, dtype=bool)) if same else np.empty(0, dtype=np.int64)


def classes(vectors: Vectors, numbers: NDArray[np.int64], threshold: float) -> tuple[int, float]:
    """How many classes, and the share of rows in the largest. Rows with one number are equal texts."""
    import numpy as np

    if not len(vectors):
        return 0, 0.0
    labels = linked(vectors, numbers, threshold)
    sizes = np.unique(labels, return_counts=True)[1]  # what labels begin with does not matter
    return len(sizes), float(sizes.max() / len(labels))


def linked(vectors: Vectors, numbers: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """A label for each row, the same within a class: average linkage of the distinct texts.

    O(n²) cosines: 3,000 texts take 0.3 s and 100 MB. The order of the rows does not matter.
    """
    import numpy as np
    from scipy.cluster.hierarchy import fcluster, linkage

    _, first, back = np.unique(numbers, return_index=True, return_inverse=True)
    if len(first) == 1:
        return np.zeros(len(numbers), dtype=np.int64)
    distinct = vectors[first].astype(np.float64)
    distances = (1 - distinct @ distinct.T)[np.triu_indices(len(distinct), 1)]
    tree = linkage(np.clip(distances, 0.0, 2.0), "average")
    labels: NDArray[np.int64] = fcluster(tree, 1 - threshold, "distance")[back].astype(np.int64)
    return labels
