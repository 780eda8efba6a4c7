"""Metric `spread`: how far apart the texts lie, overall, within their mix, and from their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field

from qdcgen.intervals import FEW, T_19, Z, canonical, clamp, jackknife
from qdcgen.knn import by_torch, card, nearest
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

    Vectors = NDArray[np.float32]

ASKED = 2_000
"""Texts whose neighbours are looked for, among all, where there is no GPU. Exact and seeded: 2 s at 100,000 texts,
where an approximate index of all of them took 6.5 s and gave other digits on every run with two threads."""

PART = 1_000
MIXES = 50_000
"""Mixes whose texts are compared, at most: the sums of their vectors take 100 MB."""
BLOCK = 8_192


class Spread(Metric):
    """Mean cosine distance over all pairs (global), within the mix, and to the k nearest others (local).

    Global: 1 - (|Σv|² - n) / (n(n - 1)) for unit vectors v, exact over all pairs, in [0, 2]; it does not depend on n,
    and its interval is the jackknife's. Within a mix: mean over texts of the mean distance to the others that have the
    same node on every taxonomy (or the same values on the columns given as axes), texts that are alone left out; its
    control is the mean over pairs of different mixes. It says what layers and steps add where the taxonomy stands
    still. Local: mean over texts of the mean distance to the `neighbours` nearest other texts, exact for 2,000 of them
    (all, where there are fewer, or where torch finds a GPU) among all; it falls as n grows, so populations are
    compared at equal n; its interval joins the error of that sample and of 20 subsamples without replacement.

    What makes it lie: it is the embedder's view. A few far clusters of near-copies have a large global distance and a
    small local one, so read both; nonsense lies far from everything; length and language alone move all of them. A
    distance within mixes is of the mixes that have two texts, the large ones.
    """

    table: ClassVar[str] = "diversity"
    evened: ClassVar[bool] = True
    gates: ClassVar[tuple[str, ...]] = ("mean_pairwise_distance", "mean_distance_within_a_mix")

    neighbours: int = Field(default=5, ge=1, le=100)
    """k, the nearest others that count as local."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Mean pairwise distance, mean distance within a mix, mean k-nearest distance."""
        n = len(sample.texts)
        at = sample.equal_n or n
        names = ("mean pairwise distance", "mean distance within a mix", f"mean distance to {self.neighbours} nearest")
        told: dict[str, Any] = {
            "unit": "cosine",
            "range": (0.0, 2.0),
            "of": sample.of,
            "embedder": sample.embedder,
        }
        mixes = _mixes(sample)
        least = max(FEW, self.neighbours + 2)
        if n < least:
            note = f"too few: {plural(n, 'text')}, needs {least}"
            return [
                Measure("diversity", name, None, n=n, note=note, **told)
                for name in names
                if mixes is not None or name != names[1]
            ]
        vectors, order = sample.vectors(), canonical(sample.texts)
        overall, interval = pairwise(vectors)
        found = [Measure("diversity", names[0], overall, n=n, interval=interval, note="all pairs, exact", **told)]
        if mixes is not None:
            found.append(_within(names[1], vectors, mixes, sample.seed, told))
        if n < at:
            note = f"too few: {plural(n, 'text')}, needs {at}"
            return [*found, Measure("diversity", names[2], None, n=n, note=note, **told)]
        local, spread, asked = self._local(vectors, order, at, sample.seed)
        near = Measure(
            "diversity",
            names[2],
            local,
            n=at,
            interval=clamp((local - spread, local + spread), 0.0, 2.0) if spread is not None else None,
            note=f"{asked} texts among {at} of {n}, exact",
            **told,
        )
        return [*found, near]

    def _local(self, vectors: Vectors, order: NDArray[np.int64], at: int, seed: int) -> tuple[float, float | None, int]:
        """Value, half width of its interval, and how many texts were asked for their neighbours."""
        import numpy as np

        n = len(vectors)
        rng = np.random.default_rng(seed)
        # `order` makes the choice depend on the texts alone. Rows are looked up where they lie: a copy is 1 GB a
        # million.
        pool = order if at == n else order[rng.choice(n, at, replace=False)]
        device = card(vectors) if at > ASKED else None
        asked = np.arange(at) if at <= ASKED or device else rng.choice(at, ASKED, replace=False)
        if device:
            distances = by_torch(vectors, asked, self.neighbours, device, pool)
        else:
            distances = nearest(vectors, asked, self.neighbours, pool)
        value = float(distances.mean())
        part = min(at, n // 2, PART)
        if part <= self.neighbours + 1:
            return value, None, len(asked)
        means = []
        for _ in range(20):
            drawn = order[rng.choice(n, part, replace=False)]
            means.append(float(nearest(vectors, np.arange(part), self.neighbours, drawn).mean()))
        unit = float(np.var(means, ddof=1)) / (1 / part - 1 / n)
        among = (T_19**2) * unit / at
        within = Z**2 * float(distances.var(ddof=1)) / len(asked) * (1 - len(asked) / at)
        return value, (among + within) ** 0.5, len(asked)


class Mixes(NamedTuple):
    """Texts that share their mix with another one, mix by mix."""

    rows: NDArray[np.int64]
    """Their rows in the sample: never places within their mix."""
    mix: NDArray[np.int64]
    """The mix of each of them, 0, 1, 2, … without a gap, ascending."""
    names: tuple[str, ...]
    """The columns that make a mix."""


def _mixes(sample: Sample) -> Mixes | None:
    """Rows by mix; None where no column says what a mix is. A missing value is one like any other."""
    import numpy as np
    import polars as pl

    names = [name for name in sample.taxonomies if name in sample.frame.columns]
    if not names and not sample.taxonomies and sample.attempts is None:
        names = [name for name in sample.layers if name in sample.frame.columns]
    if not names:
        return None
    # A row that stands on no axis is in no mix. Mixes are numbered by their names, so that sums have one order.
    told = sample.frame.select(pl.any_horizontal(pl.col(names).is_not_null()).alias("_there"), *names)
    keys = [pl.col(name).cast(pl.String).fill_null("\x00") for name in names]
    numbers = (
        told.select("_there", pl.concat_str(keys, separator="\x1f").alias("_mix"))
        .with_row_index("_row")
        .filter("_there")
        .select("_row", pl.col("_mix").rank("dense"))
    )
    mix, rows = (numbers[name].to_numpy().astype(np.int64) for name in ("_mix", "_row"))
    together = np.bincount(mix)[mix] > 1
    rows, mix = rows[together], mix[together]
    turn = np.argsort(mix, kind="stable")
    _, dense = np.unique(mix[turn], return_inverse=True)
    return Mixes(rows[turn], dense.astype(np.int64), tuple(names))


def _within(name: str, vectors: Vectors, mixes: Mixes, seed: int, told: dict[str, Any]) -> Measure:
    import numpy as np

    rows, mix = mixes.rows, mixes.mix
    count = int(mix[-1]) + 1 if len(mix) else 0
    if len(rows) < FEW:
        note = f"too few: {plural(len(rows), 'text')} that share a mix, needs {FEW}"
        return Measure("diversity", name, None, n=len(rows), note=note, **told)
    note = f"{' × '.join(mixes.names)}: {len(rows)} texts in {count} mixes of two or more"
    if count > MIXES:
        chosen = np.zeros(count, dtype=bool)
        chosen[np.random.default_rng(seed).choice(count, MIXES, replace=False)] = True
        rows = rows[chosen[mix]]
        _, mix = np.unique(mix[chosen[mix]], return_inverse=True)
        note += f", {MIXES} of which were looked at"
    value, interval, across = within(vectors, rows, mix)
    return Measure(
        "diversity",
        name,
        value,
        n=len(rows),
        interval=clamp(interval, 0.0, 2.0) if interval else None,
        control=across,
        control_of="pairs of different mixes",
        note=note,
        **told,
    )


def within(
    vectors: Vectors, rows: NDArray[np.int64], mix: NDArray[np.int64]
) -> tuple[float, tuple[float, float] | None, float | None]:
    """Mean distance within a mix with its jackknife interval, and mean over pairs of different mixes (None: one mix).

    `rows` are rows of `vectors`, mix by mix, at least two a mix; `mix` is 0, 1, 2, …, ascending. The mean is over
    texts: mixes count by their size, not by its square. O(rows·dim).
    """
    import numpy as np

    n = len(rows)
    sizes = np.bincount(mix).astype(np.float64)
    sums = np.zeros((len(sizes), vectors.shape[1]), dtype=np.float64)
    norms = np.empty(n)
    for start in range(0, n, BLOCK):
        part = vectors[rows[start : start + BLOCK]].astype(np.float64)
        of = mix[start : start + BLOCK]
        starts = np.flatnonzero(np.r_[True, of[1:] != of[:-1]])
        sums[of[starts]] += np.add.reduceat(part, starts, axis=0)
        norms[start : start + BLOCK] = np.einsum("ij,ij->i", part, part)
    along = np.empty(n)
    for start in range(0, n, BLOCK):
        part = vectors[rows[start : start + BLOCK]].astype(np.float64)
        along[start : start + BLOCK] = np.einsum("ij,ij->i", part, sums[mix[start : start + BLOCK]])
    squares = np.einsum("ij,ij->i", sums, sums)
    alike = squares - np.bincount(mix, weights=norms)  # cosines over ordered pairs of a mix
    pairs = sizes * (sizes - 1)
    own = sizes * (1 - alike / pairs)
    total = float(own.sum())
    # Each text left out in turn; with it goes its mix where that had two.
    left = np.maximum(sizes - 2, 1)
    fewer = (sizes - 1)[mix] - (alike[mix] - 2 * (along - norms)) / left[mix]
    fewer = np.where(sizes[mix] > 2, fewer, 0.0)  # noqa: PLR2004  (as said)
    texts = n - np.where(sizes[mix] > 2, 1, 2)  # noqa: PLR2004
    interval = jackknife(total / n, (total - own[mix] + fewer) / np.maximum(texts, 1)) if n > 3 else None  # noqa: PLR2004
    value = min(max(total / n, 0.0), 2.0)
    if len(sizes) == 1:
        return value, interval, None
    whole = sums.sum(axis=0)
    across = 1 - (float(whole @ whole) - float(squares.sum())) / (n * n - float((sizes**2).sum()))
    return value, interval, min(max(across, 0.0), 2.0)


def pairwise(vectors: Vectors) -> tuple[float, tuple[float, float] | None]:
    """Mean cosine distance over all pairs of (n, dim) unit vectors, n ≥ 2, and its jackknife interval.

    O(n·dim): the sum of all n² inner products is the squared norm of the vectors' sum.
    """
    import numpy as np

    n = len(vectors)
    total = vectors.sum(axis=0, dtype=np.float64)
    norms = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    squares = float(norms.sum())
    value = 1 - (float(total @ total) - squares) / (n * (n - 1))
    value = min(max(value, 0.0), 2.0)
    if n < 3:  # noqa: PLR2004  (no pair is left when one is left out)
        return value, None
    # Block by block: at once it would copy all vectors to 64 bits, 200 MB for 100,000.
    blocks = [vectors[start : start + 8192].astype(np.float64) @ total for start in range(0, n, 8192)]
    along = np.concatenate(blocks)
    without = 1 - (float(total @ total) - 2 * along + norms - (squares - norms)) / ((n - 1) * (n - 2))
    interval = jackknife(value, without)
    return value, clamp(interval, 0.0, 2.0) if interval else None
