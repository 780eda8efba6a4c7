"""Metric `effective`: diversity that counts only what was kept, over everything that was made."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field

from qdcgen.intervals import FEW, SIZES, canonical, clamp, jackknife, rarefied, wilson
from qdcgen.likeness import groups
from qdcgen.parts import Metric
from qdcgen.rows import Measure
from qdcgen.same import classes, numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.intervals import Interval
    from qdcgen.parts import Sample

    Rows = NDArray[np.int64]

ALIKE = 0.9
"""Similarity of letters from which two texts count once, as in the metric `near_duplicates`."""


class Effective(Metric):
    """Effective distance and effective texts: of all candidates made, those that were not kept count as nothing.

    Distance: the mean over all pairs of candidates of their cosine distance where both are in the population and 0
    elsewhere, K(K - 1)/(N(N - 1)) times the mean pairwise distance for K texts of N candidates; exact, interval by
    jackknife, in [0, 2]. Texts: near-duplicates once, a candidate, at a fixed number of candidates (30, 100, 300, …, up
    to `candidates`), in [0, 1]; interval by subsampling without replacement, never narrower than Wilson's. Classes: the
    same for semantic classes, where pairs are given. The column of raw leaves out only what failed, that of kept also
    what filters dropped: the step from one to the other is what filters took, and `mean pairwise distance` and
    `near-duplicates` are the figures among kept. Diversity among outputs that are good enough, over a budget of
    outputs: Shypula et al. 2025, arXiv 2504.12522.

    What makes it lie: it believes the filters, so a filter that keeps everything makes raw and kept agree; it counts
    candidates, not calls (see unique rows per 1,000 calls); it falls where a run is short of nothing but keeps little.
    """

    table: ClassVar[str] = "diversity"
    gates: ClassVar[tuple[str, ...]] = ("effective_distance", "effective_texts", "effective_classes")
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = {"effective_classes": ("measure.pairs",)}
    short: ClassVar[str | None] = "candidates"

    candidates: int = Field(default=3_000, ge=30, le=10_000)
    """Candidates that texts are counted among, at most; classes among 1,000."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Distance, texts, and classes where pairs are given; nothing where nothing was made or judged."""
        made = _made(sample)
        if made is None:
            return []
        fitted = sample.alike()
        knows = fitted is not None and fitted.knows
        names = ["effective distance", "effective texts", *(["effective classes"] if knows else [])]
        told: dict[str, Any] = {"of": sample.of}
        rested: dict[str, Any] = {**told, "embedder": sample.embedder}
        if made.candidates < FEW or len(sample.texts) < 3:  # noqa: PLR2004  (a pair less one leaves no pair)
            few, needs, what = made.candidates, FEW, "candidates"
            if made.candidates >= FEW:
                few, needs, what = len(sample.texts), 3, "texts"
            note = f"too few: {few} {what}, needs {needs}"
            return [Measure("diversity", name, None, n=made.candidates, note=note, **told) for name in names]
        of = f"{len(sample.texts)} texts of {made.candidates} candidates"
        texts = sample.even or sample
        distance, interval = effective_distance(texts.vectors(), made.candidates, len(sample.texts))
        found = [
            Measure(
                "diversity",
                names[0],
                distance,
                unit="cosine",
                range=(0.0, 2.0),
                n=made.candidates,
                interval=interval,
                note=f"all pairs, exact; {of}" + (f"; at {sample.equal_words:.1f} words a text" if sample.even else ""),
                **rested,
            )
        ]
        order = canonical(sample.texts)

        def distinct(texts: Rows) -> int:
            return len(set(groups([sample.texts[row] for row in order[texts].tolist()], ALIKE)))

        found.append(self._share(names[1], made, [distinct], self.candidates, sample.seed, of, told))
        if fitted is not None and knows:
            vectors, numbers = sample.vectors(), numbered(sample.texts, order)

            def counted(texts: Rows, threshold: float) -> int:
                return classes(vectors[order[texts]], numbers[texts], threshold)[0]

            counts = [partial(counted, threshold=at) for at in (fitted.threshold, *fitted.between)]
            most = min(1_000, self.candidates)
            found.append(self._share(names[2], made, counts, most, sample.seed, f"{of}; {fitted.words}", rested))
        return found

    @staticmethod
    def _share(
        name: str,
        made: Made,
        counts: Sequence[Callable[[Rows], int]],
        most: int,
        seed: int,
        of: str,
        told: dict[str, Any],
    ) -> Measure:
        """The first count over candidates; the others are what it could as well be, and widen the interval."""
        import numpy as np

        at = max((size for size in SIZES if size <= min(most, made.candidates)), default=0)
        if not at:
            note = f"too few: {made.candidates} candidates, needs {SIZES[0]}"
            return Measure("diversity", name, None, n=made.candidates, note=note, **told)

        def share(rows: Rows, count: Callable[[Rows], int]) -> list[float]:
            # Candidates with a text come first; where the text lies in order of content is their number.
            there = rows[rows < made.texts]
            return [count(there) / len(rows) if len(there) else 0.0]

        (value,), (interval,) = rarefied(made.candidates, at, partial(share, count=counts[0]), seed=seed, budget=10_000)
        ends: list[Interval] = [one for one in (interval, wilson(round(value * at), at)) if one is not None]
        rng = np.random.default_rng(seed)
        draws = [rng.permutation(made.candidates)[:at] for _ in range(2)]
        others = [float(np.mean([share(rows, count) for rows in draws])) for count in counts[1:]]
        ends += [(other, other) for other in others]
        return Measure(
            "diversity",
            name,
            value,
            n=at,
            interval=clamp((min(low for low, _ in ends), max(high for _, high in ends)), 0.0, 1.0),
            note=f"of {at} candidates; {of}",
            **told,
        )


class Made(NamedTuple):
    """How many candidates there were, and how many of them are texts of the population."""

    candidates: int
    texts: int


def _made(sample: Sample) -> Made | None:
    """None for what is no population of candidates, and where no filter has judged."""
    history = sample.attempts
    if history is None or history.is_empty() or not sample.filters or sample.of not in {"raw", "kept"}:
        return None
    if "_state" in history.columns:
        # Rows whose region is no longer wanted, and rows that nobody judged, are on neither side.
        history = history.filter(~history["_state"].is_in(["retired", "unjudged"]))
    return Made(max(history.height, len(sample.texts)), len(sample.texts))


def effective_distance(
    vectors: NDArray[np.float32], candidates: int, texts: int | None = None
) -> tuple[float, Interval | None]:
    """Mean over pairs of candidates of the cosine distance of those with a vector, 0 elsewhere; jackknife interval.

    `vectors` may be those of a part of the `texts`; the candidates then count in proportion. O(n·dim). Exact for unit
    vectors; at least 3 candidates.
    """
    import numpy as np

    k = len(vectors)
    candidates = max(k, 3, round(candidates * k / (texts or k or 1)))
    total = vectors.sum(axis=0, dtype=np.float64)
    norms = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    squares = float(norms.sum())
    # Over ordered pairs: k(k - 1) of them less the sum of their cosines.
    far = k * (k - 1) - (float(total @ total) - squares)
    value = min(max(far / (candidates * (candidates - 1)), 0.0), 2.0)
    along = np.concatenate([vectors[at : at + 8192].astype(np.float64) @ total for at in range(0, k, 8192)] or [norms])
    own = 2 * ((k - 1) - (along - norms))
    without = np.concatenate([far - own, np.full(candidates - k, far)]) / ((candidates - 1) * (candidates - 2))
    interval = jackknife(value, without)
    return value, clamp(interval, 0.0, 2.0) if interval else None
