"""Metric `flips`: labels that a blind reader decided otherwise, label by label."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from qdcgen.intervals import wilson
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qdcgen.parts import Sample


class Flips(Metric):
    """Of the rows whose label the step `correct` had decided again, blind: the share that was read as another label.

    Counted over every candidate that was read, dropped or not; once for the field, then for each label as it was drawn,
    with what it was read as and how many rows each label had before and after. Wilson intervals. Nothing is printed
    where no row was read.

    What makes it lie: a flip says that writer and reader disagree, not which of them errs. A reader that prefers one
    label flips every other one towards it (its count after is then far above its count before), and a reader of the
    same model as the writer shares the writer's mistakes and flips too little.

    Source: the self-correction of TarGEN (arXiv 2310.17876, §3).
    """

    table: ClassVar[str] = "quality"
    gates: ClassVar[tuple[str, ...]] = ("flipped",)
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(gates, ("a step correct",))

    def measure(self, sample: Sample) -> list[Measure]:
        """One measure for each field, and one for each of its labels."""
        history = sample.attempts
        if sample.of != "kept" or history is None or "_labels" not in history.columns:
            return []
        pairs: dict[str, Counter[tuple[str, str]]] = {}
        for said in history["_labels"].drop_nulls().to_list():
            for one in said:
                pairs.setdefault(one["field"], Counter())[one["drawn"], one["read"]] += 1
        found = []
        for field, counts in pairs.items():
            before, after = Counter[str](), Counter[str]()
            for (drawn, read), count in counts.items():
                before[drawn] += count
                after[read] += count
            flipped = sum(count for (drawn, read), count in counts.items() if drawn != read)
            found.append(_share(field, flipped, before.total(), f"{flipped} of {before.total()} rows read blind"))
            for label in sorted(before | after):
                to = Counter({read: n for (drawn, read), n in counts.items() if drawn == label != read})
                note = f"{before[label]} before, {after[label]} after"
                if to:
                    ranked = sorted(to.items(), key=lambda pair: (-pair[1], pair[0]))
                    note += f"; read as {', '.join(f'{other} {n}' for other, n in ranked)}"
                found.append(_share(f"{field}={label}", to.total(), before[label], note))
        return found


def _share(axis: str, hits: int, n: int, note: str) -> Measure:
    if n == 0:
        return Measure("quality", "flipped", None, of="raw", axis=axis, note=f"never drawn; {note}")
    return Measure("quality", "flipped", hits / n, n=n, interval=wilson(hits, n), of="raw", axis=axis, note=note)
