"""Metric `between_models`: how alike the texts of one model are, and those of two, beside texts of other mixes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import FEW, canonical, clamp
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]
    Vectors = NDArray[np.float32]

LEAST = 10
"""Mixes that a model, or a pair of models, must have texts in to be spoken of."""
MODELS = 30
"""Models compared, those with most texts: 465 pairs."""
NUMBERS = 10_000_000
"""Numbers held at once, in vectors and in cosines: 40 MB each."""
SLOTS = 64
"""Texts of one model in one mix that are compared, at most."""
ROUNDS = 400
"""Times that the mixes are drawn again."""
DRAWN = 20_000
"""Random pairs that the 95th percentile is taken from: sure to 0.3 percentage points."""
ALIKE = 0.05

NAMES = (
    "alike between models",
    "alike within models",
    "alike between models, other mixes",
    "alike within models, other mixes",
    "mixes alike between models",
)
RANDOM = "two models, other mixes"


class BetweenModels(Metric):
    """Mean cosine of two texts of one mix by two models, and by one, beside texts of other mixes; by pair of models.

    Every pair of models counts once, in it every mix once, in that every pair of texts once; so neither busy models nor
    full mixes weigh more. The random pair of this embedder, which is the control: two models, two mixes. One model, two
    mixes less that is the model's own style. "Mixes alike between models": draw two models, a mix and a text of each;
    how often their cosine lies above the 95th percentile of random pairs (0.05 if the mix made no difference).
    Cosines in [-1, 1], share in [0, 1]. Intervals draw whole mixes again, 400 times; copies of one mix are never taken
    for two. Read on at most `mixes` mixes and 64 texts a model and mix, fewer where there are many models. Blank texts
    are left out, and everything made is where enough was kept. The figure of each pair of models, and of each with
    itself, is in `--json` (`alike`).

    What makes it lie: a mix that fixes the answer ("the capital of France") makes all models alike; short texts and
    texts of like length are alike. Where a model has one text a mix there is no figure within models but their style.

    Source: repetition within and homogeneity between models, against random pairs (arXiv 2510.22954); estimator ours.
    """

    table: ClassVar[str] = "diversity"
    gates: ClassVar[tuple[str, ...]] = ("alike_between_models", "alike_within_models", "mixes_alike_between_models")
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(gates, ("a layer models",))
    short: ClassVar[str | None] = "mixes"

    mixes: int = Field(default=2_000, ge=FEW, le=100_000)
    """Mixes that are read, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Five figures and one for each pair of models; nothing where one model wrote all, or mixes are not known."""
        kept = sample.beside.get("kept")
        table = _table(sample)
        # How alike models write is a matter of the models: the same figures of what filters left and of what they saw.
        if table is None or (sample.of == "raw" and kept is not None and len(kept.texts) >= FEW):
            return []
        mixes = table["mix"].n_unique()
        models = _models(table)
        if len(models) < 2 or mixes < FEW:  # noqa: PLR2004  (a model is compared with another)
            if table["who"].n_unique() < 2:  # noqa: PLR2004
                return []
            few = f"{mixes} mixes, needs {FEW}" if mixes < FEW else f"{len(models)} models with {LEAST} mixes, needs 2"
            return [_blank(sample, name, mixes, f"too few: {few}") for name in NAMES]
        return _figures(sample, _Cells.of(sample, table, models, self.mixes))


def _table(sample: Sample) -> pl.DataFrame | None:
    """`mix`, `who` and place (`row`) of every text that is not blank; None where mixes or writers are not known."""
    import polars as pl

    frame = sample.frame
    if "_mix" not in frame.columns or not sample.texts:
        return None
    if "_writer" in frame.columns:
        who = frame["_writer"]
    elif sample.attempts is not None and {"_id", "_writer"} <= set(sample.attempts.columns) and "_id" in frame.columns:
        history = sample.attempts.select("_id", "_writer")
        who = frame.select("_id").join(history, on="_id", how="left", maintain_order="left")["_writer"]
    else:
        return None
    written = pl.Series([bool(text.strip()) for text in sample.texts])
    table = pl.DataFrame({"mix": frame["_mix"].cast(pl.String), "who": who.cast(pl.String), "written": written})
    return table.with_row_index("row").filter("written").drop_nulls().select("mix", "who", "row")


def _models(table: pl.DataFrame) -> list[str]:
    """Models with texts in enough mixes, by name; where there are many, those with most texts."""
    import polars as pl

    by = table.group_by("who").agg(pl.len().alias("texts"), pl.col("mix").n_unique().alias("mixes"))
    by = by.filter(pl.col("mixes") >= LEAST).sort(["texts", "who"], descending=[True, False])
    return sorted(by["who"].head(MODELS).to_list())


@dataclass(frozen=True)
class _Cells:
    """Texts by mix, model and slot, and the cosines between all texts of a mix."""

    models: Sequence[str]
    vectors: Vectors
    """(mixes, models, slots, dim); 0 where there is no text."""
    counts: Codes
    """(mixes, models)"""
    pairs: Sequence[tuple[int, int]]
    """Every two models, then each model with itself."""
    blocks: Sequence[Sequence[NDArray[np.float32]]]
    """Pair of models → mix → cosines of their texts there; empty where there are none."""
    note: str

    @classmethod
    def of(cls, sample: Sample, table: pl.DataFrame, models: Sequence[str], most: int) -> _Cells:
        """Draw mixes and texts by seed, and compare."""
        import numpy as np
        import polars as pl

        rng = np.random.default_rng(sample.seed)
        # Equal texts are told apart by what they are of, not by their place in the table.
        place = np.empty(len(sample.texts), dtype=np.int64)
        order = canonical(sample.texts)
        same = (sample.texts[a] == sample.texts[b] for a, b in pairwise(order.tolist()))
        place[order] = np.cumsum([0, *(not one for one in same)])
        dealt = table.with_columns(place=pl.Series(place)[table["row"]]).sort("place", "mix", "who")
        dealt = dealt.with_columns(key=pl.Series(rng.random(dealt.height)))
        there = dealt.filter(pl.col("who").is_in(list(models)))
        cells = there.group_by("mix", "who").len()
        # A mix in which nothing meets says only what texts of other mixes say; where enough meets, it is not read.
        met = cells.group_by("mix").agg((pl.len() > 1).alias("two"), (pl.col("len") > 1).any().alias("again"))
        meeting = met.filter(pl.col("two") | pl.col("again"))["mix"]
        mixes = (meeting if len(meeting) >= FEW else met["mix"]).sort()
        deepest = int(cells["len"].max())  # type: ignore[arg-type]  # polars: the widest type
        dim = sample.vectors().shape[1]
        room = NUMBERS // dim
        width = len(models)
        chosen = min(len(mixes), most, max(FEW, room // (width * min(deepest, 4))))
        slots = max(1, min(deepest, SLOTS, room // (chosen * width), int((NUMBERS / chosen) ** 0.5) // width))
        mixes = mixes[np.sort(rng.permutation(len(mixes))[:chosen])]
        taken = (
            there.filter(pl.col("mix").is_in(mixes.implode()))
            .sort("mix", "who", "key")
            .group_by("mix", "who", maintain_order=True)
            .head(slots)
            .with_columns(pl.int_range(pl.len()).over("mix", "who").alias("slot"))
        )
        at = taken.select(
            pl.col("mix").replace_strict(mixes, pl.Series(range(chosen)), return_dtype=pl.Int64).alias("g"),
            pl.col("who").replace_strict(list(models), list(range(width)), return_dtype=pl.Int64).alias("m"),
            pl.col("slot").cast(pl.Int64),
        ).to_numpy()
        vectors = np.zeros((chosen, width, slots, dim), dtype=np.float32)
        vectors[at[:, 0], at[:, 1], at[:, 2]] = sample.vectors()[taken["row"].to_numpy()]
        counts = np.zeros((chosen, width), dtype=np.int64)
        np.add.at(counts, (at[:, 0], at[:, 1]), 1)
        pairs = [(a, b) for a in range(width) for b in range(a + 1, width)] + [(a, a) for a in range(width)]
        note = f"{len(models)} models, {len(taken):,} texts of {chosen:,} mixes"
        if (left := table["who"].n_unique() - width) > 0:
            note += f"; {left} models with fewer texts left out"
        if (blank := len(sample.texts) - len(table)) > 0:
            note += f"; {blank:,} blank texts, or of no known model and mix, left out"
        return cls(models, vectors, counts, pairs, _blocks(vectors, counts, pairs), note)


def _blocks(vectors: Vectors, counts: Codes, pairs: Sequence[tuple[int, int]]) -> list[list[NDArray[np.float32]]]:
    import numpy as np

    mixes, width, slots, dim = vectors.shape
    found: list[list[NDArray[np.float32]]] = [[] for _ in pairs]
    above = np.triu_indices(slots, 1)
    for mix in range(mixes):
        flat = vectors[mix].reshape(width * slots, dim)
        cosines = (flat @ flat.T).reshape(width, slots, width, slots)
        held = counts[mix].tolist()
        for place, (a, b) in enumerate(pairs):
            if a != b:
                found[place].append(cosines[a, : held[a], b, : held[b]].ravel())
            else:
                own = cosines[a, :, a][above]
                found[place].append(own[(above[0] < held[a]) & (above[1] < held[a])])
    return found


def _figures(sample: Sample, cells: _Cells) -> list[Measure]:
    import numpy as np

    rng = np.random.default_rng([sample.seed, 1])
    mixes = len(cells.counts)
    # The first line is the mixes as they are, so that figures and their intervals come from one piece of code.
    weights = np.vstack([np.ones(mixes), rng.multinomial(mixes, np.full(mixes, 1 / mixes), size=ROUNDS)])
    near = _near(cells, weights)
    far = _far(cells, weights)
    width = len(cells.models)
    two = np.arange(len(cells.pairs)) < len(cells.pairs) - width
    sizes = np.array([[block.size > 0 for block in blocks] for blocks in cells.blocks]).sum(axis=1)
    met, own = two & (sizes >= LEAST), ~two & (sizes >= LEAST)
    found = []

    def add(name: str, draws: Array | None, control: Array | None, note: str, n: int, low: float = -1.0) -> None:
        if draws is None or not np.isfinite(draws[0]):
            found.append(_blank(sample, name, n, note))
            return
        if control is not None and low < 0:
            note = f"{_signed(draws - control)} above {RANDOM}"
        found.append(
            Measure(
                "diversity",
                name,
                float(draws[0]),
                unit="cosine" if low < 0 else "",
                range=(low, 1.0),
                n=n,
                interval=_interval(draws, low),
                control=float(control[0]) if control is not None else None,
                control_of=RANDOM if low < 0 else "random pairs",
                of=sample.of,
                embedder=sample.embedder,
                note=note,
            )
        )

    between = int(max(sizes[two].max(initial=0), 0))
    within = int(max(sizes[~two].max(initial=0), 0))
    shared = f"too few: two models meet in {between or 'no'} mixes, needs {FEW}"
    once = (
        f"too few: a model has two texts of one mix in {within or 'no'} mixes, needs {FEW}; its "
        "style, over other mixes, has a line of its own"
    )
    enough = between >= FEW and bool(met.any())
    again = within >= FEW and bool(own.any())
    random = _mean(far[:, met]) if enough else _mean(far[:, two])
    add(NAMES[0], _mean(near[:, met]) if enough else None, random, "" if enough else shared, between)
    add(NAMES[1], _mean(near[:, own]) if again else None, random, "" if again else once, within)
    add(NAMES[2], _mean(far[:, two]), None, cells.note, mixes)
    own_far, two_far = _mean(far[:, ~two]), _mean(far[:, two])
    add(NAMES[3], own_far, two_far, f"own style: {_signed(own_far - two_far)} above {RANDOM}", mixes)
    if enough:
        share, cut = _above(cells, weights, np.flatnonzero(met), rng)
        note = f"the 95th percentile of random pairs is {cut:.3f}"
        add(NAMES[4], share, np.full(1, ALIKE), note, between, 0.0)
    else:
        add(NAMES[4], None, None, shared, between, 0.0)
    return [*found, *_matrix(sample, cells, near, far, sizes)]


def _matrix(sample: Sample, cells: _Cells, near: Array, far: Array, sizes: Codes) -> list[Measure]:
    """One measure for each pair of models: alike in one mix, and beside it alike in other mixes."""
    import numpy as np

    found = []
    for place, (a, b) in enumerate(cells.pairs):
        n, axis = int(sizes[place]), f"{cells.models[a]} × {cells.models[b]}"
        other = float(far[0, place])
        what = "two texts of it" if a == b else "texts of both"
        enough = n >= LEAST
        found.append(
            Measure(
                "diversity",
                "alike",
                float(near[0, place]) if enough else None,
                unit="cosine",
                range=(-1.0, 1.0),
                n=n,
                interval=_interval(near[:, place], -1.0) if enough else None,
                control=other if np.isfinite(other) else None,
                control_of="other mixes",
                of=sample.of,
                axis=axis,
                embedder=sample.embedder,
                note="" if enough else f"too few: {n} mixes with {what}, needs {LEAST}",
            )
        )
    return found


# ── what is counted ─────────────────────────────────────────────────────────────────────────────────────────────────


def _near(cells: _Cells, weights: Array) -> Array:
    """(draws, pairs): mean over mixes of the mean cosine of two texts of one mix; NaN where no mix has any."""
    import numpy as np

    there = np.array([[block.size > 0 for block in blocks] for blocks in cells.blocks], dtype=np.float64)
    means = np.array([[float(one.mean()) if one.size else 0.0 for one in blocks] for blocks in cells.blocks])
    return _ratio(weights @ means.T, weights @ there.T)


def _far(cells: _Cells, weights: Array) -> Array:
    """(draws, pairs): mean cosine of two texts of different mixes, every two mixes alike.

    A mix drawn twice is still one mix: all that its copies would add, w² times its own product, is taken off.
    """
    import numpy as np

    there = (cells.counts > 0).astype(np.float64)
    means = cells.vectors.sum(axis=2, dtype=np.float64) / np.maximum(cells.counts, 1)[:, :, None]
    totals = [weights @ means[:, m] for m in range(len(cells.models))]
    mixes, squares = weights @ there, weights**2
    found = np.empty((len(weights), len(cells.pairs)))
    for place, (a, b) in enumerate(cells.pairs):
        own = squares @ np.einsum("gd,gd->g", means[:, a], means[:, b])
        both = squares @ (there[:, a] * there[:, b])
        top = np.einsum("rd,rd->r", totals[a], totals[b]) - own
        found[:, place] = _ratio(top, mixes[:, a] * mixes[:, b] - both)
    return found


def _above(cells: _Cells, weights: Array, pairs: Codes, rng: np.random.Generator) -> tuple[Array, float]:
    """(draws,): the share of mixes in which a pair of texts is above 95 % of random pairs; and that percentile."""
    import numpy as np

    one, other, cosines = _random_pairs(cells, pairs, rng)
    order = np.argsort(cosines, kind="stable")
    cosines = cosines[order]
    cuts = np.empty(len(weights))
    for draw, weight in enumerate(weights):
        mass = np.cumsum((weight[one] * weight[other])[order])
        cuts[draw] = cosines[min(int(np.searchsorted(mass, (1 - ALIKE) * mass[-1])), len(cosines) - 1)]
    cut = float(cuts[0])
    there = np.array([[block.size > 0 for block in cells.blocks[p]] for p in pairs], dtype=np.float64)
    shares = np.array([[float((one > cut).mean()) if one.size else 0.0 for one in cells.blocks[p]] for p in pairs])
    drawn = _mean(_ratio(weights @ shares.T, weights @ there.T))
    # The percentile is drawn again too: by how much the share of all mixes moves with it.
    flat = np.concatenate([block for p in pairs for block in cells.blocks[p]])
    worth = np.concatenate(
        [np.full(one.size, 1 / one.size / met) for p, met in zip(pairs, there.sum(axis=1), strict=True)
         for one in cells.blocks[p] if one.size]
    )  # fmt: skip
    order = np.argsort(flat, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(worth[order])]) / len(pairs)
    at = below[np.searchsorted(flat[order], cuts, side="right")]
    return np.clip(drawn + (at[0] - at), 0.0, 1.0), cut


def _random_pairs(cells: _Cells, pairs: Codes, rng: np.random.Generator) -> tuple[Codes, Codes, Array]:
    """Mix, other mix and cosine of pairs of texts by two models: models, mixes and texts drawn evenly."""
    import numpy as np

    mixes = len(cells.counts)
    drawn = pairs[rng.integers(len(pairs), size=DRAWN)]
    sides = np.array(cells.pairs)[drawn]
    one, other = rng.integers(mixes, size=(2, DRAWN))
    left, right = cells.counts[one, sides[:, 0]], cells.counts[other, sides[:, 1]]
    slots = (rng.random((2, DRAWN)) * np.maximum([left, right], 1)).astype(np.int64)
    fits = (one != other) & (left > 0) & (right > 0)
    one, other, sides, slots = one[fits], other[fits], sides[fits], slots[:, fits]
    parts = [
        np.einsum(
            "nd,nd->n",
            cells.vectors[one[at], sides[at, 0], slots[0, at]],
            cells.vectors[other[at], sides[at, 1], slots[1, at]],
            dtype=np.float64,
        )
        for at in np.array_split(np.arange(len(one)), 10)
    ]
    return one, other, np.concatenate(parts)


def _mean(draws: Array) -> Array:
    """(draws,): the mean over pairs of models that a draw has."""
    import numpy as np

    there = np.isfinite(draws)
    return _ratio(np.where(there, draws, 0.0).sum(axis=1), there.sum(axis=1))


def _ratio(top: Array, bottom: Array) -> Array:
    import numpy as np

    found: Array = np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=np.asarray(bottom) > 0)
    return found


def _interval(draws: Array, low: float) -> tuple[float, float] | None:
    import numpy as np

    again = draws[1:][np.isfinite(draws[1:])]
    if not len(again):
        return None
    bounds = np.quantile(again, [0.025, 0.975])
    return clamp((float(bounds[0]), float(bounds[1])), low, 1.0)


def _signed(draws: Array) -> str:
    interval = _interval(draws, -2.0)
    told = f" ({interval[0]:.3f} – {interval[1]:.3f})" if interval else ""
    return f"{float(draws[0]):.3f}{told}"


def _blank(sample: Sample, name: str, n: int, note: str) -> Measure:
    share = name == NAMES[4]
    return Measure(
        "diversity",
        name,
        None,
        unit="" if share else "cosine",
        range=(0.0 if share else -1.0, 1.0),
        n=n,
        of=sample.of,
        embedder=sample.embedder,
        note=note,
    )
