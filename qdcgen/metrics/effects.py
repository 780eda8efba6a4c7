"""Metric `effects`: which axes change the texts, which are decorative, which are copied into them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar
from zlib import crc32

from pydantic import Field

from qdcgen import effects
from qdcgen.intervals import FEW, clamp, wilson
from qdcgen.likeness import groups
from qdcgen.parts import Metric
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from qdcgen.effects import Axis, Copies, Shuffled
    from qdcgen.parts import Sample

    Codes = NDArray[np.int64]

LEVEL = 0.05
LEAKS = 0.01
"""Share of rows, beyond chance, from which an axis is called leaking: one row in a hundred is seen by whoever reads."""
NAMES = ("share explained", "read back", "lost when frozen", "effect")


class Effects(Metric):
    """What each axis does to the texts, from the rows at hand: four figures, what is copied, and a verdict in words.

    Share explained: ε² on the texts' vectors, the share of their variation that the axis's values explain beyond chance
    (for a layer: beyond its mix too). Effect: the p of shuffling the values (of a layer within its mixes, so that the
    topic is not credited to it), 999 times at most, never below 1/1000, adjusted for the number of axes (Holm). Read
    back: held-out accuracy of a ridge regression, 5 folds, near-duplicates in one fold; its control is the better of
    the commonest value's share and the accuracy on shuffled values. Lost when frozen: the share of the Vendi score that
    equally many rows with one value lack. Copied: rows with the axis's name as a label (`mood:`), five words in a row
    of a layer's value, or its drawn numbers; its control is the same with the values of other rows.

    *Decorative*: adjusted p above 0.05, and read back no better than chance. *Effective*: adjusted p of 0.05 at most.
    *Leaking*: copied by 1 % of rows more than chance, and surely so. Trees are taken at the deepest level where half
    of the rows lie in nodes that 5 rows share, numbers in fifths, structs part by part. Rows made and not kept are not
    looked at where kept ones are.

    What makes it lie: an axis may be kept in ways the embedder does not see (a style, a number), and a decorative
    verdict on 50 rows says little; layers that depend on each other share their effect; a copied value has an effect,
    too, so read *leaking* first; passages that are meant to be quoted count as copied, and so does `date:` in a mail.
    """

    table: ClassVar[str] = "diversity"
    gates: ClassVar[tuple[str, ...]] = ("share_explained", "read_back", "lost_when_frozen", "copied", "effect")
    short: ClassVar[str | None] = "texts"

    texts: int = Field(default=4_000, ge=FEW, le=20_000)
    """Texts that are looked at, at most."""

    def measure(self, sample: Sample) -> list[Measure]:
        """Per axis: share explained, read back, lost when frozen, effect; per axis or struct: copied."""
        if sample.of == "raw" and sample.planned is not None:
            return []
        sample = effects.narrowed(sample, self.texts)
        copied = dict(_copies(sample))
        looks = list(_looks(sample))
        tests = [look.test for look in looks if look.test is not None]
        adjusted = iter(effects.holm([test.p for test in tests]))
        found: list[Measure] = []
        for look in looks:
            whole = look.axis.partition(".")[0] if look.axis not in copied else look.axis
            found += look.measures
            if look.test is not None:
                found.append(_effect(sample, look, next(adjusted), len(tests), copied.get(whole)))
        found += [_copied(sample, axis, one) for axis, one in copied.items()]
        order = list(dict.fromkeys(one.axis for one in found))
        return sorted(found, key=lambda one: order.index(one.axis))


def _copies(sample: Sample) -> Iterator[tuple[str, Copies]]:
    for axis in dict.fromkeys([*sample.taxonomies, *sample.layers]):
        if axis in sample.frame.columns and len(sample.texts) >= FEW:
            tree = axis in sample.taxonomies
            if one := effects.copies(axis, sample.frame[axis], sample.texts, _rng(sample, axis), tree=tree):
                yield axis, one


def _looks(sample: Sample) -> Iterator[_Look]:
    """Each axis with its figures so far; vectors are asked for only where some axis can be measured."""
    import numpy as np

    alike: Codes | None = None
    for axis in effects.axes_of(sample):
        held, note = _held(axis.values)
        if note:
            yield _Look(axis.name, _unknown(sample, axis.name, len(axis.values), note))
            continue
        if alike is None:
            vectors = effects.compact(sample.vectors(), sample.seed)
            alike = np.array(groups(sample.texts, 0.9), dtype=np.int64)
        names, labels = np.unique([str(axis.values[place]) for place in held.tolist()], return_inverse=True)
        strata, within = _strata(sample, axis, held, labels)
        within = f"{len(names)} values{f', {axis.note}' if axis.note else ''}, {within}"
        yield _Looking(sample, axis.name, vectors[held], labels, strata, alike[held], axis.note, within).look()


@dataclass(frozen=True)
class _Look:
    """What was found of one axis, before its p is set beside those of the others."""

    axis: str
    measures: list[Measure]
    test: Shuffled | None = None
    readable: bool = False
    n: int = 0
    note: str = ""


@dataclass(frozen=True)
class _Looking:
    """One axis on its way to figures."""

    sample: Sample
    axis: str
    vectors: Any
    labels: Codes
    strata: Codes
    alike: Codes
    note: str
    within: str
    """How many values, of what kind, and what they are shuffled within."""

    def look(self) -> _Look:
        """The first three figures and the test."""
        rng = _rng(self.sample, self.axis)
        value = effects.explained(self.vectors, self.labels, self.strata)
        if value is None:
            why = "every text is alike, or each mix has one value only: there is nothing to set the values against"
            return _Look(self.axis, _unknown(self.sample, self.axis, len(self.labels), why))
        test = effects.shuffled(self.vectors, self.labels, self.strata, rng)
        readable, read = self._read(rng)
        found = [self._explained(value, test, rng), read, self._frozen(rng)]
        return _Look(self.axis, found, test, readable, len(self.labels), self.within)

    def _figure(self, name: str, value: float | None, interval: tuple[float, float] | None, low: float) -> Measure:
        span = (low, 1.0)
        if value is not None and interval is not None:
            interval = clamp((min(interval[0], value), max(interval[1], value)), *span)
        return Measure(
            "diversity",
            name,
            value if value is None else min(max(value, low), 1.0),
            range=span,
            n=len(self.labels),
            interval=interval,
            of=self.sample.of,
            axis=self.axis,
            embedder=self.sample.embedder,
            note=self.note,
        )

    def _explained(self, value: float, test: Shuffled, rng: np.random.Generator) -> Measure:
        def without(rows: Codes) -> float | None:
            return effects.explained(self.vectors[rows], self.labels[rows], self.strata[rows])

        interval = effects.jackknife(len(self.labels), without, value, rng) or (-1.0, 1.0)
        found = self._figure("share explained", value, interval, -1.0)
        return replace(found, unit="ε²", control=min(test.bound, 1.0), control_of="19 of 20 shuffles stay below")

    def _read(self, rng: np.random.Generator) -> tuple[bool, Measure]:
        """Whether it is read better than by chance, and how well."""
        import numpy as np

        values, n = int(self.labels.max()) + 1, len(self.labels)
        shuffles = max(1, min(10, 1_000 // values))
        orders = [np.arange(n), *(effects.shuffle(self.strata, rng) for _ in range(shuffles))]
        targets = np.zeros((n, values * len(orders)), dtype=np.float32)
        for place, order in enumerate(orders):
            targets[np.arange(n), place * values + self.labels[order]] = 1
        told = effects.read(self.vectors, targets, effects.folds(self.alike, rng)).reshape(n, len(orders), values)
        right = [float((told[:, place].argmax(axis=1) == self.labels[o]).mean()) for place, o in enumerate(orders)]
        shares = np.bincount(self.labels) / n
        chance = max(float(shares.max()), float(np.mean(right[1:])))
        different = len(np.unique(self.alike))  # rows that repeat each other are one reading, not several
        interval = wilson(round(right[0] * different), different) or (0.0, 1.0)
        of = "commonest value" if chance == shares.max() else "shuffled values"
        note = f"held out; drawing values by their shares would get {float(np.square(shares).sum()):.3f}"
        found = replace(self._figure("read back", right[0], interval, 0.0), control=chance, control_of=of, note=note)
        return interval[0] > chance, found

    def _frozen(self, rng: np.random.Generator) -> Measure:
        lost = effects.frozen(self.vectors, self.labels, self.strata, rng)
        if lost is None:
            found = self._figure("lost when frozen", None, None, -1.0)
            return replace(found, note="too few: needs two values with 20 rows each")
        found = self._figure("lost when frozen", lost.lost, lost.interval, -1.0)
        note = f"share of the Vendi score at {lost.size} texts"
        return replace(found, control=max(lost.shuffled, -1.0), control_of="shuffled values", note=note)


def _rng(sample: Sample, axis: str) -> np.random.Generator:
    import numpy as np

    return np.random.default_rng([sample.seed, crc32(axis.encode("utf-8", "surrogatepass"))])


def _held(values: list[str | None]) -> tuple[Codes, str]:
    """Rows whose value has enough rows, or why there is nothing to measure."""
    from collections import Counter

    import numpy as np

    counts = Counter(value for value in values if value is not None)
    common = {value for value, count in counts.items() if count >= effects.LEAST}
    held = np.array([place for place, value in enumerate(values) if value in common], dtype=np.int64)
    if len(counts) == 1:
        return held, "one value only: nothing to compare"
    if len(common) > 1 and len(held) >= FEW:
        return held, ""
    rows = f"{len(counts):,} values over {sum(counts.values()):,} rows"
    return held, f"too few: {rows}, needs two values with {effects.LEAST} rows and {FEW} rows in all"


def _strata(sample: Sample, axis: Axis, rows: Codes, labels: Codes) -> tuple[Codes, str]:
    """The mix of each row where the axis is a layer and mixes have rows enough, and what values are shuffled within."""
    import numpy as np

    n, values = len(rows), int(labels.max()) + 1
    if not axis.local or "_mix" not in sample.frame.columns:
        return np.zeros(n, dtype=np.int64), "shuffled over all rows"
    found = sample.frame["_mix"].fill_null("").to_numpy()[rows]
    mixes, strata = np.unique(found.astype(str), return_inverse=True)
    if values > effects.TREES or n - len(mixes) - (values - 1) < FEW:
        return np.zeros(n, dtype=np.int64), "shuffled over all rows: too few rows a mix, so a topic may be part of it"
    return strata.astype(np.int64), "shuffled within mixes"


def _unknown(sample: Sample, axis: str, n: int, note: str) -> list[Measure]:
    made = Measure("diversity", "", None, n=n, of=sample.of, axis=axis, embedder=sample.embedder, note=note)
    return [replace(made, name=name) for name in NAMES]


def _effect(sample: Sample, look: _Look, p: float, axes: int, copied: Copies | None) -> Measure:
    """The adjusted p, with the verdict in its note."""
    test = look.test
    if test is None:
        raise ValueError(look.axis)
    low, high = wilson(test.hits, test.shuffles) or (0.0, 1.0)
    times = p / test.p
    verdict = _verdict(p, readable=look.readable)
    if copied is not None and leaks(copied):
        verdict = (
            f"leaking: {copied.hits / copied.n:.0%} of rows copy it, {copied.chance:.0%} by chance; otherwise {verdict}"
        )
    adjusted = f", adjusted for {axes} axes" if axes > 1 else ""
    bound = "≤ " if test.hits == 0 else ""
    return Measure(
        "diversity",
        "effect",
        min(1.0, p),
        unit="adjusted p" if axes > 1 else "p",
        n=look.n,
        interval=(min(low * times, p), min(1.0, max(high * times, p))),
        control=LEVEL,
        control_of="decorative above",
        of=sample.of,
        axis=look.axis,
        embedder=sample.embedder,
        note=f"{look.axis} is {verdict}; p {bound}{test.p:.3f} of {test.shuffles} shuffles{adjusted}; {look.note}",
    )


def _verdict(p: float, *, readable: bool) -> str:
    if p <= LEVEL:
        return "effective"
    if readable:
        return "unclear (its value can be read back, but shuffled values explain as much)"
    return "decorative"


def leaks(copied: Copies) -> bool:
    """Whether surely more rows copy their axis than chance explains, and 1 % more of them."""
    low, _ = wilson(copied.hits, copied.n) or (0.0, 1.0)
    return low > copied.chance and copied.hits / copied.n - copied.chance >= LEAKS


def _copied(sample: Sample, axis: str, one: Copies) -> Measure:
    parts = {"its name as a label": one.labels, "words of its value": one.words, "its numbers": one.numbers}
    told = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
    return Measure(
        "diversity",
        "copied",
        one.hits / one.n,
        n=one.n,
        interval=wilson(one.hits, one.n) or (0.0, 1.0),
        control=one.chance,
        control_of="values of other rows",
        of=sample.of,
        axis=axis,
        note=told and ("leaking: " if leaks(one) else "no more than chance: ") + told,
    )
