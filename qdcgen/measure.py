"""Rows → measures: one shared embedding pass, populations brought to equal size, then the metrics shelf. Pure."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from qdcgen.errors import UsageError, nearest
from qdcgen.intervals import FEW, Texts, canonical, evened
from qdcgen.landing import MOST_LEAVES, NOWHERE, Landing, Reader, Reading, places
from qdcgen.parts import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from qdcgen.bradley_terry import Ratings
    from qdcgen.parts import Embedder, Metric
    from qdcgen.rows import Measure, Taxonomy
    from qdcgen.same import Fitted, Pair

    Vectors = NDArray[np.float32]

__all__ = [
    "METRICS",
    "measure",
    "sample_of",
    "sample_of_file",
    "samples_of",
    "samples_of_file",
    "speaking_of",
    "text_of",
]

METRICS = (
    "nodes",
    "landed",
    "pairs",
    "positions",
    "real_support",
    "attributes",
    "lexical",
    "openings",
    "templates",
    "near_duplicates",
    "spread",
    "vendi",
    "facility",
    "effects",
    "clusters",
    "classes",
    "effective",
    "formats",
    "between_models",
    "tail",
    "structure",
    "bands",
    "asked",
    "harder",
    "rated",
    "passes",
    "surprisal",
    "ifd",
    "acceptance",
    "flips",
    "writers",
)
"""What is measured unless the recipe says otherwise, in the order of the report."""


def measure(samples: Sequence[Sample], metrics: Iterable[Metric]) -> list[Measure]:
    """Measures of every sample by every metric: metric by metric, and within one, sample by sample.

    With two or more populations, figures that depend on size are taken at the size of the smallest population of at
    least 20 texts, and at its mean words a text: `Sample.equal_n` and `equal_words` say so to the metrics, which draw
    seeded subsets. A population of fewer than 20 texts does not drag the others down: it is "too few" by itself.
    A measure that does not depend on the sample (acceptance) is given once.
    """
    import numpy as np  # noqa: F401  before the limit below, which reaches only what is loaded
    from threadpoolctl import threadpool_limits

    large = [sample for sample in samples if len(sample.texts) >= FEW]
    if len(large) > 1:
        equal_n = min(len(sample.texts) for sample in large)
        lengths = (_words(sample.texts) for sample in large)
        equal_words = min((length for length in lengths if length >= SHORT), default=None)
        samples = [replace(sample, equal_n=equal_n, equal_words=equal_words) for sample in samples]
    cut = _evened(samples)
    if cut is not samples:
        samples = [replace(sample, even=one) for sample, one in zip(samples, cut, strict=True)]
    note = f"; at {samples[0].equal_words:.1f} words a text" if cut is not samples else ""
    samples, cut = _together(samples), _together(cut)
    # One BLAS thread. Two of them on two cores, one busy, take 490 ms for the eigenvalues of a 256×256 matrix; one
    # takes 2 ms. And sums then have one order, so figures do not depend on how many cores a machine has.
    with threadpool_limits(limits=1):
        found: list[Measure] = []
        for metric in metrics:
            if metric.evened and note:
                told = (one for sample in cut for one in metric.measure(sample))
                found += [one if one.value is None else replace(one, note=f"{one.note}{note}") for one in told]
            else:
                found += [one for sample in samples for one in metric.measure(sample)]
    return list(dict.fromkeys(found))


def _together(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, each of which knows the others."""
    beside = {sample.of: sample for sample in samples}
    return [replace(sample, beside=beside) for sample in samples]


SHORT = 5
"""Words a text below which a population is no measure for others: cut to its length, distinct texts would be copies. It
is then compared as it is, as is one of a script without blanks."""
EVEN = 0.02
"""Share of words by which texts of one population may be longer before they are cut: raw and kept rows of one run
seldom differ by more, and then nothing is embedded twice."""
CUT = 10_000
"""Texts of a population that are cut and embedded again, at most, by seed: wordllama takes 1 s for them, bge 25."""


def _evened(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The samples as metrics see them whose figures move with length through the embedder: at equal words a text.

    The longest texts of each population are cut to one length, so that its mean is that of the shortest. Where one has
    to be cut, all are taken at no more than CUT texts. Samples without an embedder stay as they are.
    """
    words = samples[0].equal_words if samples else None
    if words is None or all(_words(sample.texts) <= words * (1 + EVEN) for sample in samples if sample.texts):
        return samples
    if any(sample.embed is None for sample in samples):
        return samples
    at = min(CUT, samples[0].equal_n or CUT)
    return [replace(_cut(sample, words), equal_n=at) for sample in samples]


def _cut(sample: Sample, words: float) -> Sample:
    import numpy as np

    order, n = canonical(sample.texts), len(sample.texts)
    rows = np.sort(order[np.random.default_rng(sample.seed).permutation(n)[:CUT]])
    split = [sample.texts[row].split() for row in rows.tolist()]
    kept = evened([len(one) for one in split], round(words * len(split)), [sample.texts[row] for row in rows.tolist()])
    texts = Texts(
        sample.texts[row] if most == len(one) else " ".join(one[:most])
        for row, one, most in zip(rows.tolist(), split, kept, strict=True)
    )
    embed: Any = sample.embed
    whole = all(most == len(one) for one, most in zip(split, kept, strict=True))
    vectors = cache(lambda: sample.vectors()[rows] if whole else embed(texts))
    return replace(sample, texts=texts, frame=sample.frame[rows], vectors=vectors, landing=lambda _: None)


def _words(texts: Sequence[str]) -> float:
    """Mean words of a text that has any, over at most 10,000 texts spread evenly over their order by content."""
    order = canonical(texts)
    counts = [len(texts[row].split()) for row in order[:: max(1, len(texts) // 10_000)].tolist()]
    some = [count for count in counts if count]
    return sum(some) / len(some) if some else 0.0


def samples_of(
    frames: Mapping[str, pl.DataFrame],
    text: str,
    embedder: Embedder,
    *,
    seed: int = 0,
    taxonomies: Mapping[str, Taxonomy] | None = None,
    layers: Sequence[str] = (),
    strategies: Sequence[Sequence[str]] = (),
    filters: Sequence[str] = (),
    attempts: pl.DataFrame | None = None,
    surprisal: Callable[[Sequence[str]], Sequence[tuple[float, int]]] | None = None,
    forbidden: Callable[[Mapping[str, str]], bool] = lambda _: False,
    reading: Reading | None = None,
    planned: pl.DataFrame | None = None,
    ratings: Ratings | None = None,
    pairs: Sequence[Pair] = (),
) -> list[Sample]:
    """One sample for each population (`raw`, `kept`, `anchor`, …), sharing one embedding pass.

    Every distinct text is embedded once, however many populations hold it, and not before a metric asks. Rows whose
    `text` is null are left out. With `reading`, `Sample.landing` says where the texts landed; with `pairs`,
    `Sample.alike` from which cosine on two texts say the same.

    Raises:
        UsageError: a frame has no column `text`, or it holds no text.
    """
    read: dict[int, tuple[pl.DataFrame, Texts]] = {}  # where everything made was kept, both are one frame
    taken = {
        of: read.get(id(frame)) or read.setdefault(id(frame), _texts(frame, text, of)) for of, frame in frames.items()
    }
    numbers = {of: id(texts) for of, (_, texts) in taken.items()}
    vectors = _Shared(embedder, {id(texts): texts for _, texts in taken.values()})
    landings = _Landings(taxonomies or {}, embedder, reading)
    alike = cache(partial(_fitted, pairs, embedder, seed))
    return [
        Sample(
            of=of,
            texts=texts,
            frame=frame,
            vectors=partial(vectors.of, numbers[of]),
            embedder=embedder.label,
            embed=embedder.embed,
            seed=seed,
            taxonomies=taxonomies or {},
            layers=layers,
            strategies=strategies,
            attempts=attempts,
            surprisal=surprisal,
            forbidden=forbidden,
            filters=filters,
            landing=landings.of(of, frame, texts, partial(vectors.of, numbers[of])),
            planned=planned,
            ratings=ratings if of == "kept" else None,
            alike=alike,
        )
        for of, (frame, texts) in taken.items()
    ]


def _fitted(pairs: Sequence[Pair], embedder: Embedder, seed: int) -> Fitted | None:
    from qdcgen.same import fitted

    return fitted(pairs, embedder.embed, seed) if pairs else None


def sample_of(frame: pl.DataFrame, text: str, embedder: Embedder, *, of: str = "kept", **more: Any) -> Sample:
    """The one sample of `samples_of({of: frame}, …)`; takes the same keywords and raises the same errors."""
    return samples_of({of: frame}, text, embedder, **more)[0]


def sample_of_file(
    frame: pl.DataFrame,
    text: str | None,
    embedder: Embedder,
    *,
    of: str,
    axes: Sequence[str] = (),
    seed: int = 0,
    taxonomies: Mapping[str, Taxonomy] | None = None,
    pairs: Sequence[Pair] = (),
) -> Sample:
    """The first sample of `samples_of_file`, without an anchor."""
    return samples_of_file(frame, text, embedder, of=of, axes=axes, seed=seed, taxonomies=taxonomies, pairs=pairs)[0]


def samples_of_file(
    frame: pl.DataFrame,
    text: str | None,
    embedder: Embedder,
    *,
    of: str,
    axes: Sequence[str] = (),
    seed: int = 0,
    taxonomies: Mapping[str, Taxonomy] | None = None,
    pairs: Sequence[Pair] = (),
    anchor: pl.DataFrame | None = None,
) -> list[Sample]:
    """A sample of a table that qdcgen did not make, then one of `anchor`, real rows whose texts are in `_text`.

    `axes` are columns to read as flat axes. `taxonomies`: column → the tree that its labels are of. Its texts are read,
    to say how well the reader agrees.

    Raises:
        UsageError: a column is not there, holds no text, or none is named and the choice is not clear.
    """
    import polars as pl

    for axis in axes:
        if axis not in frame.columns:
            message = f"{of}: no column {axis!r}{nearest(axis, frame.columns)}; it has {', '.join(frame.columns)}"
            raise UsageError(message)
    nested = (pl.List, pl.Array, pl.Struct, pl.Object, pl.Binary)
    if wrong := [axis for axis in axes if isinstance(frame.schema[axis], nested)]:
        message = f"{of}: the column {wrong[0]!r} holds {frame.schema[wrong[0]]}; an axis needs text, numbers or dates"
        raise UsageError(message)
    # Columns with names like ours that hold something else are not ours.
    frame = frame.drop(
        [name for name in frame.columns if name.startswith("_") and isinstance(frame.schema[name], nested)]
    )
    frames = {of: frame.with_columns(pl.col(axis).cast(pl.String) for axis in axes)}
    text = text or text_of(frame, of)
    for name, rows, column in ((of, frame, text), *([("anchor", anchor, "_text")] if anchor is not None else [])):
        if column in rows.columns and rows[column].null_count() == rows.height:
            raise UsageError(f"{name}: none of its {rows.height:,} rows has a text")
    if anchor is not None:
        shared = [axis for axis in axes if axis in anchor.columns and not isinstance(anchor.schema[axis], nested)]
        frames["anchor"] = anchor.with_columns(
            pl.col("_text").alias(text), *(pl.col(axis).cast(pl.String) for axis in shared)
        )
    return samples_of(
        frames,
        text,
        embedder,
        seed=seed,
        layers=tuple(axes),
        taxonomies=taxonomies,
        reading=Reading(known=frozenset(frames)) if taxonomies else None,
        pairs=pairs,
    )


def text_of(frame: pl.DataFrame, of: str = "the table", option: str = "--text") -> str:
    """The column of texts or turns: the only one, else the one whose values are far the longest (twice the next).

    `option` is what to type where it is not clear.

    Raises:
        UsageError: there is none, or two are of like length, or the longest has no more than a word a value; names the
            columns.
    """
    some = frame.head(1_000)
    found = {name: _worded(some[name]) for name in frame.columns if not name.startswith("_")}
    columns = {name: column for name, column in found.items() if column is not None}
    if not columns:
        message = f"{of}: no column holds text; it has {', '.join(frame.columns)}"
        raise UsageError(message)
    lengths = {name: float(column.str.len_chars().fill_null(0).sum()) for name, column in columns.items()}
    ranked = sorted(columns, key=lambda name: -lengths[name])
    best = columns[ranked[0]].drop_nulls()
    of_one_word = len(best) and best.str.contains(r"\S\s+\S").mean() == 0 and frame.width > 1
    if of_one_word or (len(ranked) > 1 and lengths[ranked[0]] < 2 * lengths[ranked[1]]):
        message = f"{of}: which column is the text? type {option} with one of {', '.join(columns)}"
        raise UsageError(message)
    return ranked[0]


def speaking_of(measures: Iterable[Measure], table: str, key: str, of: str = "kept") -> list[Measure]:
    """The measures that a gate's key speaks of: their name in lower case, words joined by underscores.

    Quality speaks of all that was made, so there `of` does not matter; `landed_leaves` is `leaves` of what landed.
    """
    return [
        found
        for found in measures
        if found.table == table
        and (
            ((found.of == of or table == "quality") and key == _key(found.name))
            or (found.of == "landed" and key == f"landed_{_key(found.name)}")
        )
    ]


def _key(name: str) -> str:
    return name.lower().replace(",", "").replace("-", " ").replace(" ", "_")


def _texts(frame: pl.DataFrame, text: str, of: str) -> tuple[pl.DataFrame, Texts]:
    """The frame without rows that have no text, and the texts. A list of turns is joined, one turn a line."""
    if text not in frame.columns:
        known = [name for name in frame.columns if not name.startswith("_")]
        message = f"{of}: no column {text!r}{nearest(text, known)}; it has {', '.join(known)}"
        raise UsageError(message)
    column = _worded(frame[text])
    if column is None:
        message = f"{of}: the column {text!r} holds {frame.schema[text]}, not text"
        raise UsageError(message)
    present = column.is_not_null()
    return (frame if present.all() else frame.filter(present)), Texts(column.drop_nulls())


TURN = ("content", "value", "text", "utterance")
"""What the words of a turn are called."""


def _worded(column: pl.Series) -> pl.Series | None:
    """The column as texts, a list of turns one turn a line; None where it holds none."""
    import polars as pl

    kind = column.dtype
    if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct):
        strings = [one.name for one in kind.inner.fields if one.dtype == pl.String]
        if said := [name for name in TURN if name in strings]:
            column = column.list.eval(pl.element().struct.field(said[0])).list.join("\n", ignore_nulls=True)
    elif kind == pl.List(pl.List(pl.String)):
        column = column.list.eval(pl.element().list.join("\n", ignore_nulls=True)).list.join("\n", ignore_nulls=True)
    elif kind == pl.List(pl.String):
        column = column.list.join("\n", ignore_nulls=True)
    elif isinstance(kind, (pl.Categorical, pl.Enum)) or kind == pl.Null:
        column = column.cast(pl.String)
    return column if column.dtype == pl.String else None


PART = 8_192
"""Texts embedded at once: their vectors go straight to where they stay, and are never all held twice."""


class _Shared:
    """Vectors of the texts of all populations, each distinct text embedded once, on first use."""

    def __init__(self, embedder: Embedder, populations: Mapping[int, Texts]) -> None:
        self.embedder = embedder
        self.populations = populations
        self.rows: dict[int, NDArray[np.int64] | None] = {}
        """Population → the row of each of its texts; None where they are the first rows, in order."""
        self.vectors: Vectors | None = None

    def of(self, number: int) -> Vectors:
        """(n, dim) float32, rows of unit length, in the order of that population's texts.

        Those of the largest are no copy, which would be 1 GB a million texts for every metric.
        """
        if self.vectors is None:
            self.vectors = self._embedded()
        rows = self.rows[number]
        return self.vectors[: len(self.populations[number])] if rows is None else self.vectors[rows]

    def _embedded(self) -> Vectors:
        import numpy as np

        order = sorted(self.populations, key=lambda number: -len(self.populations[number]))
        texts: list[str] = []
        known: dict[str, int] = {}
        """Text → its first row. Only here: for a million texts it takes 0.1 GB."""
        for number in order:
            mine = self.populations[number]
            for text in mine:
                if known.setdefault(text, len(texts)) == len(texts) or number == order[0]:
                    texts.append(text)
            found = np.fromiter(map(known.__getitem__, mine), dtype=np.int64, count=len(mine))
            self.rows[number] = None if number == order[0] else found
            if number != order[0]:  # one string where two populations hold a text: 0.4 GB less for a million
                mine[:] = map(texts.__getitem__, found.tolist())
        firsts = np.fromiter(known.values(), dtype=np.int64, count=len(known))
        source = np.fromiter(map(known.__getitem__, texts), dtype=np.int64, count=len(texts))
        del known
        vectors: Vectors | None = None
        for start in range(0, max(len(firsts), 1), PART):
            rows = firsts[start : start + PART]
            part = self.embedder.embed([texts[row] for row in rows.tolist()])
            if vectors is None:
                vectors = np.empty((len(texts), part.shape[1]), dtype=np.float32)
            vectors[rows] = part
        if vectors is None:
            raise AssertionError
        repeats = np.flatnonzero(source != np.arange(len(texts)))
        for start in range(0, len(repeats), PART):
            rows = repeats[start : start + PART]
            vectors[rows] = vectors[source[rows]]
        return vectors


class _Landings:
    """Where the texts of each population landed on each axis, read on first use and once."""

    def __init__(self, taxonomies: Mapping[str, Taxonomy], embedder: Embedder, reading: Reading | None) -> None:
        self.taxonomies = taxonomies
        self.embedder = embedder
        self.reading = reading
        self.readers: dict[str, Reader] = {}

    def of(
        self, of: str, frame: pl.DataFrame, texts: Sequence[str], vectors: Callable[[], Vectors]
    ) -> Callable[[str], Landing | None]:
        """Axis → where these texts landed; None without a reading, without the column, or with too many leaves."""
        return cache(lambda axis: self._read(of, axis, frame, texts, vectors))

    def _read(
        self, of: str, axis: str, frame: pl.DataFrame, texts: Sequence[str], vectors: Callable[[], Vectors]
    ) -> Landing | None:
        import numpy as np
        import polars as pl

        tree, how = self.taxonomies.get(axis), self.reading
        if how is None or tree is None or axis not in frame.columns or not texts:
            return None
        asked = places(frame[axis].cast(pl.String).to_list(), tree)
        if how.critic:
            placed = how.placed.get(axis, {})
            if any(text not in placed for text, place in zip(texts, asked.tolist(), strict=True) if place >= 0):
                return None
            found = np.fromiter((placed.get(text, NOWHERE) for text in texts), dtype=np.int64, count=len(texts))
            return Landing(asked, found, how.critic, of in how.known)
        if not 0 < len(tree.leaves) <= MOST_LEAVES:
            return None
        if axis not in self.readers:
            self.readers[axis] = Reader(tree, self.embedder.embed, how.threshold)
        found, _ = self.readers[axis].place(vectors())
        return Landing(asked, found, self.embedder.label, of in how.known)
