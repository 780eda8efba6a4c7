"""Metric `nodes`: which nodes of each taxonomy have rows, and how evenly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from qdcgen.intervals import Z, clamp
from qdcgen.parts import Metric
from qdcgen.rows import Measure, Node, Taxonomy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qdcgen.landing import Landing
    from qdcgen.parts import Sample

SIMULATED = 2_000_000
"""Leaf counts drawn to find the evenness of uniform drawing: 200 draws up to 10,000 leaves, fewer above."""

_ASKED = {
    "planned": "what is wanted",
    "kept": "what accepted rows were asked to be",
    "raw": "what rows were asked to be",
}


class Nodes(Metric):
    """Nodes with at least one row over all nodes, for the leaves and for each level, and evenness over leaves.

    A row credits its leaf and every ancestor. Control: the expected share if the same n rows had been drawn uniformly
    over the leaves, exactly: mean over nodes of 1 - (1 - leaves below / all leaves)^n. Shares are exact counts, so they
    have no interval. Evenness = H / ln L, H the entropy of rows over the L leaves, in [0, 1]; its interval is
    H ± 1.96·√((Σ p ln² p - H²)/n + (L-1)/2n²) (Basharin 1959), its control the mean of 20-200 uniform drawings.

    For data from elsewhere each `--axis` column is a flat axis: the values present, and evenness over those.

    Taken of three populations where all are at hand: `planned`, what is wanted; `kept`, accepted rows by what they were
    asked to be; `landed`, the same rows by where a blind reader places them, whatever they were asked to be (see the
    metric `landed`). `landed_leaves` and `landed_evenness` gate the last.

    What makes it lie: what rows were *asked* to be is full marks for a model that answers every request with the same
    text; what landed rests on the reader, whose errors put rows in leaves that nobody wrote about: beside it stands how
    many leaves a row that was asked for them landed in. Evenness is against equal shares, whatever weights say.
    """

    table: ClassVar[str] = "coverage"
    gates: ClassVar[tuple[str, ...]] = (
        "leaves",
        "evenness",
        "values_present",
        "landed_leaves",
        "landed_evenness",
    )

    def measure(self, sample: Sample) -> list[Measure]:
        """Per taxonomy: leaves, each level, evenness. Per flat axis: values present, evenness."""
        found: list[Measure] = []
        for name, taxonomy in sample.taxonomies.items():
            if name not in sample.frame.columns or (sample.planned is not None and sample.of == "raw"):
                continue
            planned = sample.planned if sample.of == "kept" else None
            if planned is not None and name in planned.columns:
                found += self._tree(replace(sample, of="planned", frame=planned), name, taxonomy)
            found += self._tree(sample, name, taxonomy)
            landing = sample.landing(name)
            if landing is not None and sample.of != "anchor":
                found += self._landed(sample, name, taxonomy, landing)
        if not sample.taxonomies:
            for name in sample.layers:
                if flat(sample, name):
                    found += self._flat(sample, name)
        return found

    def _landed(self, sample: Sample, name: str, taxonomy: Taxonomy, landing: Landing) -> list[Measure]:
        """The same figures of where the texts landed; a text that nobody asked for on this axis does not count."""
        import polars as pl

        asked, landed = landing.asked.tolist(), landing.landed.tolist()
        nodes = taxonomy.nodes
        paths = [nodes[b].path if a >= 0 and b >= 0 else None for a, b in zip(asked, landed, strict=True)]
        agreed = {b for a, b in zip(asked, landed, strict=True) if a == b and a >= 0}
        frame = pl.DataFrame({name: paths}, schema={name: pl.String})
        what = "where people's rows" if landing.known else "where accepted rows"
        note = f"{what} landed, read blind by {landing.reader}"
        found = self._tree(replace(sample, of="landed", frame=frame), name, taxonomy, note)
        hold = "1 leaf holds" if len(agreed) == 1 else f"{len(agreed)} leaves hold"
        of = f"; {hold} a row that was {'labelled so' if landing.known else 'asked for there'}"
        return [replace(one, note=f"{one.note}{of}") if one.name == "leaves" else one for one in found]

    def _tree(self, sample: Sample, name: str, taxonomy: Taxonomy, note: str = "") -> list[Measure]:
        places = {node.path: node for node in taxonomy.nodes}
        rows: dict[str, int] = {}
        for path, count in counts(sample, name).items():
            node = places.get(path) or taxonomy.by_id.get(path)
            for met in taxonomy.line(node.id) if node else ():
                rows[met.id] = rows.get(met.id, 0) + count
        leaves = taxonomy.leaves
        n = sum(rows.get(node.id, 0) for node in taxonomy.nodes if node.parent is None)
        below = dict.fromkeys((node.id for node in taxonomy.nodes), 0)
        for leaf in leaves:
            for node in taxonomy.line(leaf.id):
                below[node.id] += 1
        levels: list[tuple[str, Sequence[Node]]] = [("leaves", leaves)]
        if taxonomy.depth > 1:
            levels += [
                (f"nodes of level {level + 1}", [node for node in taxonomy.nodes if node.depth == level])
                for level in range(taxonomy.depth)
            ]
        found: list[Measure] = []
        for word, nodes in levels:
            if not nodes:
                found.append(Measure("coverage", word, None, of=sample.of, axis=name, note="no nodes"))
                continue
            missing = tuple(node.path for node in nodes if not rows.get(node.id))
            expected = sum(1 - (1 - below[node.id] / len(leaves)) ** n for node in nodes) / len(nodes)
            found.append(
                Measure(
                    "coverage",
                    word,
                    (len(nodes) - len(missing)) / len(nodes),
                    unit=f"of {len(nodes)}",
                    n=n,
                    control=expected,
                    control_of="uniform drawing",
                    of=sample.of,
                    axis=name,
                    note=note or _ASKED.get(sample.of, ""),
                    missing=missing,
                )
            )
        found.append(evenness(sample, name, [rows.get(leaf.id, 0) for leaf in leaves], "leaves"))
        return found

    def _flat(self, sample: Sample, name: str) -> list[Measure]:
        met = counts(sample, name)
        n = sum(met.values())
        present = Measure(
            "coverage",
            "values present",
            float(len(met)),
            unit="values",
            range=(0.0, math.inf),
            n=n,
            of=sample.of,
            axis=name,
            note="no list of all values was given, so none can be missing",
        )
        return [present, evenness(sample, name, list(met.values()), "values present")]


def flat(sample: Sample, axis: str) -> bool:
    """Whether the axis has values that can be listed: a layer of numbers or records has as many as rows."""
    import polars as pl

    kind = sample.frame.schema.get(axis)
    return kind is not None and isinstance(kind, (pl.String, pl.Categorical, pl.Enum, pl.Boolean))


def counts(sample: Sample, axis: str) -> Mapping[str, int]:
    """Rows for each value of an axis, nulls left out, by value; empty when the frame has no such column."""
    import polars as pl

    if axis not in sample.frame.columns:
        return {}
    column = sample.frame[axis].drop_nulls().cast(pl.String).rename("value")
    table = column.value_counts(name="rows").sort("value")
    return dict(zip(table["value"].to_list(), table["rows"].to_list(), strict=True))


def evenness(sample: Sample, axis: str, rows: Sequence[int], over: str) -> Measure:
    """Normalised entropy of rows over `over`, with interval and the value of uniform drawing."""
    import numpy as np

    kinds, n = len(rows), sum(rows)
    value, interval, control, note = None, None, None, f"over {kinds} {over}"
    if n == 0:
        note = "too few: no rows"
    elif kinds < 2:  # noqa: PLR2004
        note = f"one of the {over} only: nothing to be even over"
    else:
        entropy, squared = _entropy(rows)
        top = math.log(kinds)
        spread = Z * math.sqrt(max(0.0, squared - entropy**2) / n + (kinds - 1) / (2 * n * n)) / top
        value = min(1.0, max(0.0, entropy / top))  # rows of one leaf have -0.0
        interval = clamp((value - spread, value + spread), 0.0, 1.0)
        draws = max(20, min(200, SIMULATED // kinds))
        drawn = np.random.default_rng(sample.seed).multinomial(n, np.full(kinds, 1 / kinds), size=draws) / n
        control = float(-(drawn * np.log(np.where(drawn > 0, drawn, 1.0))).sum(axis=1).mean() / top)
    return Measure(
        "coverage",
        "evenness",
        value,
        n=n,
        interval=interval,
        control=control,
        control_of="uniform drawing" if control is not None else "",
        of=sample.of,
        axis=axis,
        note=note,
    )


def _entropy(rows: Sequence[int]) -> tuple[float, float]:
    """Σ -p ln p and Σ p ln² p."""
    n = sum(rows)
    logs = [(row / n, math.log(row / n)) for row in rows if row]
    return -sum(p * log for p, log in logs), sum(p * log * log for p, log in logs)
