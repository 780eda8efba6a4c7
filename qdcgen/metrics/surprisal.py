"""Metric `surprisal`: how unexpected the texts are to the embedded language model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.hardness import READ, read
from qdcgen.intervals import FEW, clamp, mean
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qdcgen.parts import Sample


class Surprisal(Metric):
    """Mean over texts of nats per token under the embedded model, -1/T Σ ln p(token | before); normal interval.

    Read on at most `texts` texts chosen by seed, for each takes a forward pass. From 0; a uniform guess over 50,000
    tokens is 10.8.

    What makes it lie: nonsense is the most surprising text of all, and short texts surprise more for each token; text
    that this very model wrote is unsurprising to it, however hard.
    """

    table: ClassVar[str] = "complexity"
    gates: ClassVar[tuple[str, ...]] = ("surprisal",)
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(gates, ("an embedded model",))
    short: ClassVar[str | None] = "texts"

    texts: int = Field(default=READ, ge=FEW, le=10_000)
    """Texts read, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """One measure."""
        import numpy as np

        def one(value: float | None, n: int, interval: tuple[float, float] | None, note: str) -> list[Measure]:
            return [
                Measure(
                    "complexity",
                    "surprisal",
                    value,
                    unit="nats/token",
                    range=(0.0, math.inf),
                    n=n,
                    interval=interval,
                    of=sample.of,
                    note=note,
                )
            ]

        n = len(sample.texts)
        if sample.surprisal is None:
            return one(None, 0, None, "read only where a recipe's rows come from the embedded model")
        if n < FEW:
            return one(None, n, None, f"too few: {plural(n, 'text')}, needs {FEW}")
        rates = list(read(sample, self.texts).values())
        if len(rates) < FEW:
            return one(None, len(rates), None, f"too few: {plural(len(rates), 'text')} with tokens, needs {FEW}")
        value, interval = mean(np.array(rates, dtype=np.float64))
        note = f"{len(rates)} of {n} texts read by the embedded model, which may have written them"
        return one(value, len(rates), clamp(interval, 0.0, math.inf) if interval else None, note)
