"""Metric `positions`: how well numeric layers cover their space, as drawn and as the texts read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar
from zlib import crc32

from pydantic import Field

from qdcgen import effects, support
from qdcgen.intervals import FEW, clamp
from qdcgen.likeness import groups
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.parts import Sample

    Array = NDArray[np.float64]
    Codes = NDArray[np.int64]

UNIFORM = 4
"""Uniform drawings that the control is the mean of."""

FIGURES: tuple[tuple[str, str, Callable[[Array], float]], ...] = (
    ("support coverage", "", support.support_coverage),
    ("hull", "", support.hull),
    ("closest pair", "distance", support.closest),
    ("mean distance", "distance", support.spread),
    ("largest empty ball", "radius", support.empty_ball),
    ("KL to Sobol", "nats", support.kl_to_sobol),
)


class Positions(Metric):
    """How well the positions on numeric layers cover the unit cube: as drawn (accepted), and as texts read (landed).

    Per layer: a struct's numbers together (T-scores as the share of people below), any other by itself between the
    least and the greatest drawn (the rows of a whole number spread over its unit). Six figures of arXiv 2602.03545 (see
    qdcgen/support.py): support coverage at a calibrated radius, volume of the hull, the closest pair, mean distance,
    the largest empty ball, the divergence from a Sobol set. Control: as many uniform positions. What texts read as: a
    ridge regression from their vectors to each position, 5 folds, every text read by a model that did not see it; R²
    out of fold says how well, and its control is positions shuffled (within mixes). Taken at 500 positions at most,
    seeded: most of the figures depend on how many.

    What makes it lie: a regression draws what it reads to the middle, so the cover of what was read is a lower bound,
    and with R² near 0 it says nothing: it is then not given. A reader that is good at one axis and blind to another
    flattens the cloud. Intervals leave out blocks of rows in turn and are rough for the hull and the empty ball.
    """

    table: ClassVar[str] = "coverage"
    gates: ClassVar[tuple[str, ...]] = (
        "support_coverage",
        "hull",
        "largest_empty_ball",
        "landed_support_coverage",
        "landed_hull",
        "landed_position_read_back",
    )
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(gates, ("a layer of numbers",))
    short: ClassVar[str | None] = "texts"

    texts: int = Field(default=500, ge=FEW, le=5_000)
    """Positions that are looked at, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Per numeric layer: six figures as drawn, R² per number, six figures as read."""
        if sample.of == "raw" and sample.planned is not None:
            return []
        sample = effects.narrowed(sample, self.texts)
        return [one for field in effects.fields_of(sample) for one in _of(sample, field)]


def _of(sample: Sample, field: effects.Field) -> list[Measure]:
    import numpy as np

    rng = np.random.default_rng([sample.seed, crc32(field.axis.encode("utf-8", "surrogatepass"))])
    rows = np.flatnonzero(np.isfinite(field.points).all(axis=1))
    n = len(rows)
    if n < FEW:
        note = f"too few: {n} positions, needs {FEW}"
        return [Measure("coverage", name, None, n=n, of=sample.of, axis=field.axis, note=note) for name, *_ in FIGURES]
    points = field.points[rows].clip(0, 1)
    keys = "" if len(field.keys) == 1 else f" in {len(field.keys)} dimensions: {', '.join(field.keys)}"
    drawn = [_finite(of, points) for *_, of in FIGURES]
    uniform = [rng.random(points.shape) for _ in range(UNIFORM)]
    controls = [_mean([_finite(of, one) for one in uniform]) for *_, of in FIGURES]
    found = [
        _measure(
            sample, field, place, value, n, f"{n:,} positions{keys}", control=control, control_of="uniform drawing"
        )
        for place, (value, control) in enumerate(zip(drawn, controls, strict=True))
    ]
    return found + _read(sample, field, rows, points, controls, rng)


def _read(
    sample: Sample,
    field: effects.Field,
    rows: Codes,
    points: Array,
    controls: list[float | None],
    rng: np.random.Generator,
) -> list[Measure]:
    """R² of each number, and the six figures of where the texts read, where they can be read."""
    import numpy as np

    n = len(rows)
    vectors = effects.compact(sample.vectors()[rows], sample.seed)
    folds = effects.folds(groups([sample.texts[row] for row in rows.tolist()], 0.9), rng)
    strata = np.zeros(n, dtype=np.int64)
    if "_mix" in sample.frame.columns:
        mixes = sample.frame["_mix"].fill_null("").to_numpy()[rows].astype(str)
        names, found_in = np.unique(mixes, return_inverse=True)
        if n - len(names) >= FEW:
            strata = found_in.astype(np.int64)
    mixed = [points[effects.shuffle(strata, rng)] for _ in range(UNIFORM)]
    told = effects.read(vectors, np.hstack([points, *mixed]), folds).astype(np.float64)
    told, chance = told[:, : points.shape[1]], told[:, points.shape[1] :]
    found, sure = [], False
    for number, key in enumerate(field.keys):
        asked, read = points[:, number], told[:, number]
        value = _r2(asked, read)
        axis = field.axis if len(field.keys) == 1 else f"{field.axis}.{key}"
        interval = None
        control = None
        if value is not None:
            shuffled = [_r2(one[:, number], chance[:, at * len(field.keys) + number]) for at, one in enumerate(mixed)]
            control = _mean(shuffled)

            def without(held: Codes, asked: Array = asked, read: Array = read) -> float | None:
                return _r2(asked[held], read[held])

            interval = effects.jackknife(n, without, value, rng)
            sure = sure or (interval is not None and interval[0] > max(0.0, control or 0.0))
        found.append(
            Measure(
                "coverage",
                "position read back",
                value,
                unit="R²",
                range=(-math.inf, 1.0),
                n=n,
                interval=clamp(interval, -math.inf, 1.0) if interval else None,
                control=control,
                control_of="" if control is None else "shuffled positions",
                of="landed" if sample.of == "kept" else sample.of,
                axis=axis,
                embedder=sample.embedder,
                note="every position is the same" if value is None else _said(value),
            )
        )
    if not sure:
        why = "the texts do not tell where they stand: no position is read back better than by chance"
        return found + [_measure(sample, field, place, None, n, why, landed=True) for place in range(len(FIGURES))]
    told = told.clip(0, 1)
    why = f"read from the texts by {sample.embedder}, which draws them to the middle: a lower bound of the cover"
    for place, (name, _, of) in enumerate(FIGURES):
        value = _finite(of, told)
        interval = None
        if value is not None and name != "closest pair":  # not smooth at all
            interval = effects.jackknife(n, lambda held, of=of: _finite(of, told[held]), value, rng)  # type: ignore[misc]
        found.append(
            _measure(
                sample, field, place, value, n, why,
                interval=interval, control=controls[place], control_of="uniform drawing", landed=True,
            )
        )  # fmt: skip
    return found


def _said(value: float) -> str:
    return "held out, 5 folds" if value > 0 else "held out, 5 folds; not above 0: the mean would have read it as well"


def _r2(asked: Array, read: Array) -> float | None:
    import numpy as np

    total = float(np.square(asked - asked.mean()).sum())
    return 1 - float(np.square(asked - read).sum()) / total if total > 1e-12 else None  # noqa: PLR2004  (rounding)


def _finite(of: Callable[[Array], float], points: Array) -> float | None:
    value = of(points)
    return value if math.isfinite(value) else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _measure(
    sample: Sample,
    field: effects.Field,
    place: int,
    value: float | None,
    n: int,
    note: str,
    *,
    interval: tuple[float, float] | None = None,
    landed: bool = False,
    **control: Any,
) -> Measure:
    name, unit, _ = FIGURES[place]
    span = (0.0, 1.0) if not unit else (0.0, math.inf)
    return Measure(
        "coverage",
        name,
        value,
        unit=unit,
        range=span,
        n=n,
        interval=clamp(interval, *span) if interval else None,
        of="landed" if landed and sample.of == "kept" else sample.of,
        axis=field.axis,
        note=note if value is not None or landed else f"not known in {len(field.keys)} dimensions",
        **(control if value is not None and control.get("control") is not None else {}),
    )
