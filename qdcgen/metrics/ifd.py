"""Metric `ifd`: how much a question helps the embedded model to its answer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from qdcgen.hardness import instructed
from qdcgen.intervals import FEW, median
from qdcgen.parts import Metric
from qdcgen.report.figures import plural
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qdcgen.parts import Sample


class Ifd(Metric):
    """Instruction-following difficulty: loss of the answer given the question, over its loss alone.

    IFD = s(A|Q) / s(A), s the mean negative log-probability of the answer's tokens in nats under the embedded model;
    s(A|Q) from nats(Q + A) - nats(Q). From 0; below 1 the question helps, at 1 it does not, above 1 it misleads. Median
    over at most `measure.ifd.rows` accepted rows, interval between two order statistics.

    What makes it lie: the model is small and reads plain text, without the chat marks it was trained on. Short answers
    have high ratios whatever is asked, and an answer that repeats its question a low one. A high ratio is a hard row or
    a wrong one: the source takes rows below 1 only. An answer that this very model wrote is no surprise to it.

    Source: Li et al. (arXiv 2308.12032).
    """

    table: ClassVar[str] = "complexity"
    gates: ClassVar[tuple[str, ...]] = ("ifd",)
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(gates, ("measure.ifd", "an embedded model"))

    def measure(self, sample: Sample) -> list[Measure]:
        """One measure of accepted rows; none where the recipe names no question and answer."""
        if sample.of != "kept" or sample.solving is None:
            return []
        import numpy as np

        blank = Measure("complexity", "IFD", None, "ratio", (0.0, math.inf), of=sample.of)
        if sample.surprisal is None:
            return [replace(blank, note="read only where one of the recipe's models is the embedded one")]
        values = np.array(list(instructed(sample).values()), dtype=np.float64)
        n = len(values)
        if n < FEW:
            note = f"too few: {plural(n, 'row')} whose question and answer could be read, needs {FEW}"
            return [replace(blank, n=n, note=note)]
        middle, interval = median(values)
        note = f"median of {n} rows; {int((values > 1).sum())} of them above 1, where the question misleads"
        return [replace(blank, value=middle, n=n, interval=interval, note=note)]
