"""Metric `structure`: what can be counted in the texts: length, sentences, long words, variety, nesting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from qdcgen.intervals import canonical, clamp, median
from qdcgen.parts import Metric
from qdcgen.rows import Measure
from qdcgen.surface import counted, variety

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdcgen.parts import Sample

LEAST = 6
"""Values of which a median has an interval at 95 %."""

READ = 2_000
"""Texts whose word variety is worked out; one of 1,000 words takes 0.1 ms."""

COUNTED = (
    ("words", "words", math.inf),
    ("sentences", "sentences", math.inf),
    ("words per sentence", "words", math.inf),
    ("long words", "", 1.0),
    ("brackets and quotes", "per 100 words", math.inf),
)


class Structure(Metric):
    """Medians over texts of: words, sentences, words per sentence, share of long words, brackets and quotes, variety.

    Words are runs of non-blank characters. A sentence ends at . ! ? … or 。！？ before a blank or the end; a text with
    words has at least one. Long: 7 letters or more. Variety is MATTR: the mean share of different words over every
    window of `window` words (Covington and McFall 2010, J. Quant. Linguistics 17:94), for texts that are that long. The
    interval lies between two order statistics and assumes nothing of the distribution. No control: there is no length
    that random drawing would give.

    What makes it lie: length and rare words are not difficulty; scripts without spaces have one word a text; code and
    lists have few "sentences".
    """

    table: ClassVar[str] = "complexity"
    gates: ClassVar[tuple[str, ...]] = (
        "words",
        "sentences",
        "words_per_sentence",
        "long_words",
        "brackets_and_quotes",
        "word_variety",
    )

    window: int = Field(default=50, ge=5, le=1_000)
    """Words of the window over which word variety is taken."""

    def measure(self, sample: Sample) -> list[Measure]:
        """The six medians."""
        table = counted(sample.texts)
        found = [
            _median(sample, name, table[name].to_list(), f"all {len(sample.texts)} texts", unit=unit, top=top)
            for name, unit, top in COUNTED
        ]
        order = canonical(sample.texts)
        chosen = order if len(order) <= READ else order[:: -(-len(order) // READ)]
        read = (variety(sample.texts[i].lower().split(), self.window) for i in chosen.tolist())
        varied = [value for value in read if value is not None]
        note = f"{len(varied)} of {len(chosen)} texts read have {self.window} words"
        return [*found, _median(sample, "word variety", varied, note, unit="MATTR", top=1.0)]


def _median(sample: Sample, name: str, values: Sequence[float], note: str, *, unit: str, top: float) -> Measure:
    import numpy as np

    if len(values) < LEAST:
        note = f"too few: {note}, needs {LEAST}" if sample.texts else "too few: no texts"
        return Measure("complexity", name, None, unit=unit, range=(0.0, top), of=sample.of, note=note)
    value, interval = median(np.array(values, dtype=np.float64))
    return Measure(
        "complexity",
        name,
        value,
        unit=unit,
        range=(0.0, top),
        n=len(values),
        interval=clamp(interval, 0.0, top) if interval else None,
        of=sample.of,
        note=f"median; {note}",
    )
