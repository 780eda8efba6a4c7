"""The plan: which region each row is asked for, before anything is asked. Pure: no disk, clock or print.

A plan is ONE INFINITE SEQUENCE of mixes, fixed by taxonomies, strategies, forbidden mixes and seed. A target of N rows
takes its first N ("slots" 0 … N-1), so a larger target extends a smaller one and any batch is a slice. What holds for
every N:

- Quota. Each strategy, and each leaf among the rows that draw its axis, has its share of the rows to less than one row.
  The m-th row of a leaf with share p may stand anywhere in its window ⌊(m-1)/p⌋ … ⌈m/p⌉-1, and that is exactly what
  "less than one row off, always" means. Earliest deadline first always finds a sequence inside all windows (Steiner &
  Yeomans 1993, "Level schedules for mixed-model, just-in-time processes"; the bound is Tijdeman's, 1980). With equal
  shares the windows are whole cycles: any permutation in each.
- Pairs. The rows of one axis may be swapped inside their windows without touching quotas. Axis by axis, rows whose
  pairs of leaves were seen before swap leaves where that gains unseen pairs, then evens the counts out. Two axes with
  equal shares need no search: i mod a beside (i + i div lcm(a, b)) mod b repeats no pair before all are seen.
- Quotas of sub-trees. A taxonomy with bands (`taxonomy.Apportioned`) draws the band first and a leaf of it second,
  each by its own sequence: a band has its share of the axis's rows, and a leaf its share of its band's rows, to less
  than one row. Rows swap leaves inside a band only, and bands are shuffled inside their own windows first.
- Forbidden mixes never occur. The leaves of an axis fall into few classes (which entries they match), so whether a
  row can still be completed is read from a small table, exactly. Where forbids and quotas exclude each other, forbids
  win and the leaf that is furthest behind is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, reduce
from hashlib import sha256
from heapq import heappop, heappush, heappushpop
from itertools import combinations
from math import gcd, lcm, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from qdcgen.errors import Fault, RecipeError
from qdcgen.taxonomy import Apportioned, matching, shares
from qdcgen.tway import Odds, first_rows, grouped, numbered, rows_expected, rows_needed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from qdcgen.rows import Taxonomy

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

__all__ = [
    "Coverage",
    "Plan",
    "Saturation",
    "Seen",
    "Strategy",
    "refill",
]

MAX_ROWS = 2**32 - 1
"""Slots are UInt32."""
_GRAIN = 2**31
"""Shares are whole numbers of this many parts at most; beyond, they are rounded (a row in 4·10⁹)."""
_TABLE = 2**23
"""Cells of a table of pair counts (32 MiB); pairs of larger products share cells, which only costs choice."""
_CHUNK = 8192
"""Rows searched at once at most."""
_STATES = 20_000
"""States of partly drawn mixes that forbid entries may give rise to."""
_TRIES = 12
"""Partners tried per row and pass."""
_PASSES = 24
"""Passes over the rows whose pairs are not new."""


@dataclass(frozen=True)
class Strategy:
    """Taxonomies that are drawn together, and their weight against the other strategies (> 0)."""

    axes: tuple[str, ...]
    weight: float = 1.0


class Seen(NamedTuple):
    """How much of something `n` planned rows reach, beside what as many rows drawn at random are expected to."""

    planned: int
    total: int
    at_random: float


@dataclass(frozen=True)
class Coverage:
    """What the first `rows` slots reach: leaves by axis, pairs of leaves by pair of axes, and all pairs together."""

    rows: int
    leaves: Mapping[str, Seen]
    pairs: Mapping[tuple[str, str], Seen]
    all_pairs: Seen


class Saturation(NamedTuple):
    """Rows until 50, 80, 95 and 99 % of something is reached: by the plan's own sequence, and expected at random.

    `planned` is None where `rows`, the rows that were looked at, do not get there.
    """

    what: str
    total: int
    rows: int
    planned: tuple[int | None, ...]
    at_random: tuple[int | None, ...]


# ── chance without a generator ──────────────────────────────────────────────────────────────────────────────────────


def _key(seed: int, name: str) -> int:
    """64 bits that depend on seed and name alone."""
    return int.from_bytes(sha256(f"{seed}/{name}".encode()).digest()[:8], "big")


def _hash(key: int, numbers: Ints) -> NDArray[np.uint64]:
    """A 64-bit hash of each number under the key: splitmix64's finaliser (Steele et al. 2014).

    numpy's generators may change their streams between releases; these bits may not.
    """
    x = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


# ── quotas ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _whole(parts: Sequence[Fraction]) -> list[int]:
    """The shares as whole numbers with the same proportions, of at most _GRAIN in all (then rounded, none to 0)."""
    scale = lcm(*(part.denominator for part in parts))
    whole = [int(part * scale) for part in parts]
    common = gcd(*whole) or 1
    whole = [part // common for part in whole]
    if (total := sum(whole)) > _GRAIN:
        whole = [max(1, part * (_GRAIN - len(whole)) // total) if part else 0 for part in whole]
    return whole


class _Quota:
    """An endless sequence of the numbers 0 … k-1 with given whole weights, at every prefix less than one off its share.

    `take` also gives each position's window: swapping two positions inside each other's windows keeps that promise.
    """

    def __init__(self, weights: Sequence[int], key: int) -> None:
        self.key = key
        self.weights = np.asarray(weights, dtype=np.int64)
        self.live = np.flatnonzero(self.weights)
        self.total = int(self.weights.sum())
        self.uniform = bool((self.weights[self.live] == self.weights[self.live[0]]).all())
        order = self.live[np.argsort(_hash(key, self.live), kind="stable")]
        self.order = order
        self._rank = np.argsort(order, kind="stable")
        self.cycle = len(self.live)
        self._heap: list[int] = []
        self._made = np.empty(0, dtype=np.int64)  # the sequence so far, as ranks in self.order

    def take(self, start: int, stop: int) -> tuple[Ints, Ints, Ints]:
        """(number, first position allowed, last position allowed) for positions start … stop-1; int64 each."""
        at = np.arange(start, stop, dtype=np.int64)
        if self.uniform:
            k = len(self.live)
            first = at - at % k
            return self.order[at % k], first, first + (k - 1)
        self._extend(min(stop, self.total))
        cycle, inside = np.divmod(at, self.total)
        numbers = self.order[self._made[inside]]
        nth = self._nth[inside]
        weight = self.weights[numbers]
        first = cycle * self.total + nth * self.total // weight
        last = cycle * self.total - (-(nth + 1) * self.total // weight) - 1
        return numbers, first, last

    def _extend(self, stop: int) -> None:
        """Make the sequence up to `stop` by earliest deadline first: 0.5 s per million."""
        begin = len(self._made)
        if begin >= stop:
            return
        stop = min(self.total, max(stop, 2 * begin, 1 << 14))
        weight = self.weights[self.order]
        low = -(-begin * weight // self.total)  # jobs released before `begin`
        high = -(-stop * weight // self.total)
        rank = np.repeat(np.arange(len(weight)), high - low)
        nth = np.arange(len(rank)) - np.repeat(np.cumsum(high - low) - (high - low), high - low) + low[rank]
        release = nth * self.total // weight[rank]
        due = -(-(nth + 1) * self.total // weight[rank]) - 1
        by = np.argsort(release, kind="stable")
        jobs = (due * len(weight) + rank)[by].tolist()
        counts = np.bincount(release - begin, minlength=stop - begin).tolist()
        heap, made, at = self._heap, [], 0
        for count in counts:
            if count == 1:
                made.append(heappushpop(heap, jobs[at]))
                at += 1
                continue
            for job in jobs[at : at + count]:
                heappush(heap, job)
            at += count
            made.append(heappop(heap))
        fresh = np.asarray(made, dtype=np.int64) % len(weight)
        self._made = np.concatenate([self._made, fresh])
        self._nth = _occurrence(self._made)

    _nth: Ints = np.empty(0, dtype=np.int64)


class _Banded(_Quota):
    """A quota over bands of numbers, and inside each band one over its numbers.

    `shares` are the bands' exact shares, `parts` the numbers' inside each, `members` the numbers. Windows of `take` are
    those inside a band, as positions: two positions may swap where both lie in one band and in each
    other's windows.
    """

    def __init__(
        self,
        weights: Sequence[int],
        shares: Sequence[Fraction],
        members: Sequence[Sequence[int]],
        parts: Sequence[Sequence[Fraction]],
        key: int,
    ) -> None:
        super().__init__(weights, key)
        self.uniform = False
        self._turns = _Quota(_whole(shares), key)
        self._inside = [_Quota(_whole(mine), _key(key, f"band/{number}")) for number, mine in enumerate(parts)]
        self._members = [np.asarray(mine, dtype=np.int64) for mine in members]
        # in the slowest band a leaf that comes once in a chunk has no other to swap rows with
        self.cycle = max(-(-2 * len(mine) // share) for mine, share in zip(members, shares, strict=True))
        self.even = np.asarray([inside.uniform for inside in self._inside])
        self._counted = (0, np.zeros(len(shares), dtype=np.int64))

    def take(self, start: int, stop: int) -> tuple[Ints, Ints, Ints]:
        """As `_Quota.take`; windows are clipped to these positions."""
        return self.rows(start, stop, None)[:3]

    def rows(self, start: int, stop: int, key: int | None) -> tuple[Ints, Ints, Ints, Ints]:
        """As `take`, and the band of each position. With a key, bands are shuffled inside their windows first.

        Unshuffled, two axes with a quota of 20 % each would give it to the same rows, or never to the same.
        """
        band, earliest, latest = self._turns.take(start, stop)
        if self._counted[0] != start:
            before = self._turns.take(0, start)[0]
            self._counted = (start, np.bincount(before, minlength=len(self._inside)))
        before = self._counted[1]
        self._counted = (stop, before + np.bincount(band, minlength=len(self._inside)))
        if key is not None:
            band = band.copy()
            _shuffle(band, np.maximum(earliest - start, 0), np.minimum(latest - start, len(band) - 1), key)
        number, first, last = (np.empty(len(band), dtype=np.int64) for _ in range(3))
        for at, (inside, members) in enumerate(zip(self._inside, self._members, strict=True)):
            rows = np.flatnonzero(band == at)
            if len(rows):
                low = int(before[at])
                mine, earliest, latest = inside.take(low, low + len(rows))
                number[rows] = members[mine]
                first[rows] = start + rows[np.maximum(earliest - low, 0)]
                last[rows] = start + rows[np.minimum(latest - low, len(rows) - 1)]
        return number, first, last, band


def _shuffle(numbers: Ints, first: Ints, last: Ints, key: int) -> None:
    """Swap numbers at random, in place, where both stay inside their windows; eight times over."""
    at = np.arange(len(numbers))
    for turn in range(8):
        draw = (_hash(key + turn, at) >> np.uint64(32)).astype(np.int64)
        partner = first + (draw * (last - first + 1) >> 32)
        good = np.flatnonzero((first[partner] <= at) & (last[partner] >= at) & (numbers[partner] != numbers))
        a, b = _sole(good, partner[good], len(numbers))
        for array in (numbers, first, last):
            array[a], array[b] = array[b], array[a].copy()


def _sole(a: Ints, b: Ints, size: int) -> tuple[Ints, Ints]:
    """Those of the swaps a ↔ b in which no position takes part that an earlier one of them claims."""
    claim = np.full(size, len(a), dtype=np.int64)
    turn = np.arange(len(a))
    np.minimum.at(claim, a, turn)
    np.minimum.at(claim, b, turn)
    sole = (claim[a] == turn) & (claim[b] == turn)
    return a[sole], b[sole]


def _occurrence(numbers: Ints) -> Ints:
    """For each position, how often its number stood before it."""
    by = np.argsort(numbers, kind="stable")
    held = numbers[by]
    first = np.flatnonzero(np.r_[True, held[1:] != held[:-1]]) if len(held) else np.empty(0, dtype=np.int64)
    found = np.empty(len(numbers), dtype=np.int64)
    found[by] = np.arange(len(numbers)) - np.repeat(first, np.diff(np.r_[first, len(numbers)]))
    return found


# ── forbidden mixes ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Forbids:
    """Which mixes are forbidden, by classes of leaves.

    `kinds[axis][leaf]` is the leaf's class and `marks[axis][class]` its bit set: bit e is set where entry e matches the
    leaf or does not speak of the axis. A mix is forbidden when the AND of its leaves' bit sets has a bit left among the
    entries whose axes its strategy all draws.
    """

    def __init__(self, sizes: Mapping[str, int], entries: Sequence[Mapping[str, Bools]]) -> None:
        self.kinds: dict[str, Ints] = {}
        self.marks: dict[str, list[int]] = {}
        self.spoken = [frozenset(entry) for entry in entries]
        every = (1 << len(entries)) - 1
        for axis, size in sizes.items():
            about = [number for number, entry in enumerate(entries) if axis in entry]
            silent = every & ~sum(1 << number for number in about)
            if not about:
                self.kinds[axis], self.marks[axis] = np.zeros(size, dtype=np.int64), [silent]
                continue
            table = np.stack([entries[number][axis] for number in about], axis=1)
            distinct, kinds = np.unique(table, axis=0, return_inverse=True)
            self.kinds[axis] = kinds.reshape(-1).astype(np.int64)
            self.marks[axis] = [
                silent | sum(1 << number for number, hit in zip(about, row, strict=True) if hit) for row in distinct
            ]

    def active(self, axes: Sequence[str]) -> int:
        """The entries that speak of no axis but these."""
        return sum(1 << number for number, spoken in enumerate(self.spoken) if spoken <= set(axes))

    def joint(self, axes: Sequence[str], amounts: Mapping[str, Sequence[float]], active: int) -> dict[int, Any]:
        """AND of bit sets over one leaf of each axis → the amount of such combinations (counts, or probabilities).

        Combinations that an entry over these axes alone forbids are left out.
        """
        found: dict[int, Any] = {active: 1}
        for number, axis in enumerate(axes):
            done = self.active(axes[: number + 1])
            wider: dict[int, Any] = {}
            for alive, amount in found.items():
                for mark, more in zip(self.marks[axis], amounts[axis], strict=True):
                    if more and not alive & mark & done:
                        wider[alive & mark] = wider.get(alive & mark, 0) + amount * more
            found = wider
            if len(found) > _STATES:
                message = f"more than {_STATES:,} ways to overlap; merge entries that forbid much the same"
                raise RecipeError(Fault("forbid", 0, 0, message))
        return found


class _Gate(NamedTuple):
    """What one axis may add to a partly drawn mix: tables over (state of the mix, class of the leaf)."""

    bad: Bools
    after: Ints
    kinds: Ints


def _gates(
    forbids: _Forbids, order: Sequence[str], strategies: Sequence[Strategy], live: Mapping[str, Bools]
) -> tuple[dict[str, _Gate], Ints]:
    """The gates of all axes, and each strategy's first state; `order` is the order in which axes are drawn."""
    ids: dict[tuple[int, int, int], int] = {}

    def state(strategy: int, stage: int, alive: int) -> int:
        return ids.setdefault((strategy, stage, alive), len(ids))

    used = {
        axis: [bool(live[axis][forbids.kinds[axis] == kind].any()) for kind in range(len(marks))]
        for axis, marks in forbids.marks.items()
    }
    moves: dict[str, list[tuple[int, int, int, bool]]] = {axis: [] for axis in order}
    first = []
    for number, strategy in enumerate(strategies):
        axes = [axis for axis in order if axis in strategy.axes]
        active = forbids.active(axes)
        later: list[set[int]] = [{active}]
        for axis in reversed(axes):
            done = forbids.active(axes[axes.index(axis) :])
            marks = [mark for mark, found in zip(forbids.marks[axis], used[axis], strict=True) if found]
            reach = {alive & mark for alive in later[0] for mark in marks}
            later.insert(0, _least({alive for alive in reach if not alive & done}))
        first.append(state(number, 0, active))
        now = {active}
        for stage, axis in enumerate(axes):
            then = set()
            for alive in sorted(now):
                for kind, mark in enumerate(forbids.marks[axis]):
                    left = alive & mark
                    good = used[axis][kind] and any(left & rest == 0 for rest in later[stage + 1])
                    if good:
                        then.add(left)
                    target = state(number, stage + 1, left) if good else 0
                    moves[axis].append((state(number, stage, alive), kind, target, not good))
            now = then
            if len(ids) > _STATES:
                message = f"more than {_STATES:,} ways to overlap; merge entries that forbid much the same"
                raise RecipeError(Fault("forbid", 0, 0, message))
    gates = {}
    for axis in order:
        bad = np.zeros((len(ids), len(forbids.marks[axis])), dtype=np.bool_)
        after = np.zeros(bad.shape, dtype=np.int64)
        for here, kind, target, is_bad in moves[axis]:
            bad[here, kind], after[here, kind] = is_bad, target
        gates[axis] = _Gate(bad, after, forbids.kinds[axis])
    return gates, np.asarray(first, dtype=np.int64)


def _least(sets: set[int]) -> set[int]:
    """The bit sets that contain no other: the only ones that decide whether something can be completed."""
    if 0 in sets:
        return {0}
    found: list[int] = []
    for one in sorted(sets, key=int.bit_count):
        if not any(one & other == other for other in found):
            found.append(one)
    return set(found)


# ── pairs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Pairs:
    """How often each pair of leaves of two axes was planned together."""

    def __init__(self, rows: int, columns: int, pairs: int) -> None:
        self.columns = columns
        self.left = pairs
        self.exact = (rows + 1) * columns <= _TABLE
        self.counts = np.zeros((rows + 1) * columns if self.exact else _TABLE, dtype=np.int32)
        self.rows = 0

    def cell(self, row: Ints, column: Ints) -> Ints:
        """Where the pair is counted; pairs of very large axes share cells by hash."""
        cell = row * self.columns + column
        return cell if self.exact else (_hash(0, cell) >> np.uint64(41)).astype(np.int64)

    @property
    def full(self) -> bool:
        """Whether every pair of leaves that can stand together was seen."""
        if self.left and int(np.count_nonzero(self.counts)) >= self.left:
            self.left = 0
        return self.left == 0

    def add(self, cells: Ints, amount: int) -> None:
        np.add.at(self.counts, cells, amount)


class _Beside(NamedTuple):
    """One axis drawn before, as the search sees it: its leaves in these rows, and what a repeated pair costs."""

    leaves: Ints
    pairs: _Pairs
    here: Bools | None
    """Rows in which that axis is drawn; None means all."""
    left: Floats
    """1/share of each of its leaves (0 for no leaf)."""
    right: Floats
    """1/share of each leaf of the axis that is being placed."""
    scale: float
    weight: float

    def cost(self, rows: Ints, leaf: Ints, own: int) -> Floats:
        """Cost of these leaves at these rows; `own` = 1 when the rows are counted with these leaves already."""
        before = self.leaves[rows]
        count = self.pairs.counts[self.pairs.cell(before, leaf)] - own
        cost: Floats = (count > 0) * np.float64(self.weight)
        if self.scale:
            cost += count * (self.left[before] * self.right[leaf] * self.scale)
        return cost if self.here is None else cost * self.here[rows]


def _settle(  # noqa: C901 - one pass, told in order; split, it would hand ten arrays around
    leaf: Ints,
    first: Ints,
    last: Ints,
    band: Ints | None,
    beside: Sequence[_Beside],
    gate: _Gate,
    states: Ints,
    key: int,
    passes: int,
) -> None:
    """Swap leaves between rows, in place, where both stay inside their windows and the total cost falls.

    Positions count from 0 in this chunk; windows are clipped to it. With bands, rows swap inside their band only, but
    for those whose leaf is forbidden. These cost most, then rows whose pairs were seen before, then rows whose pairs
    were seen more often than their share.
    """
    size = len(leaf)
    gated = bool(gate.bad.any())

    def cost(rows: Ints, leaves: Ints, own: int) -> Floats:
        total = np.zeros(np.broadcast(rows, leaves).shape)
        for other in beside:
            total += other.cost(rows, leaves, own)
        if gated:
            total += _BANNED * gate.bad[states[rows], gate.kinds[leaves]]
        return total

    every = np.arange(size)
    idle = 0
    for number in range(passes + (_LONG if gated else 0)):
        own = cost(every, leaf, 1)
        worst = np.flatnonzero(own >= _BANNED)
        if number < passes:
            level = 0.999  # rows that repeat a pair; in every second pass, once all do, those over their share
            if number % 2 and own.min() >= _SEEN:
                # rounded to whole numbers first: every machine and numpy adds those alike, in any order
                level = float(np.rint(own * 2**20).sum()) / 2**20 / size
            worst = np.flatnonzero(own > level)
        if not len(worst):
            return
        if len(worst) > _BUSY:
            jitter = (_hash(key + number, worst) >> np.uint64(40)).astype(np.int64) / 2.0**24
            worst = worst[np.argsort(-(own[worst] + jitter), kind="stable")[:_BUSY]]
        draw = _hash(key + 7919 * (number + 1), np.arange(len(worst) * _TRIES)).reshape(len(worst), _TRIES)
        low, span = first[worst, None], (last - first)[worst, None] + 1
        partner = low + ((draw >> np.uint64(32)).astype(np.int64) * span >> 32)
        mine = leaf[worst, None]
        theirs = leaf[partner]
        fits = (first[partner] <= worst[:, None]) & (last[partner] >= worst[:, None]) & (mine != theirs)
        if band is not None:
            fits &= (band[partner] == band[worst, None]) | (own[worst, None] >= _BANNED)
        gain = own[worst, None] + own[partner]
        gain -= cost(np.broadcast_to(worst[:, None], partner.shape), theirs, 0)
        gain -= cost(partner, np.broadcast_to(mine, partner.shape), 0)
        gain[~fits] = -1.0
        best = gain.argmax(axis=1)
        take = np.arange(len(worst))
        good = gain[take, best] > _GAIN
        a, b = worst[good], partner[take, best][good]
        idle = 0 if len(a) else idle + 1
        if idle == _PASSES:  # each row was tried with 288 partners, and nothing has changed since
            return
        if not len(a):
            continue
        a, b = _sole(a, b, size)  # a row takes part in one swap per pass: the first claims it
        both = np.concatenate([a, b])
        for other in beside:
            held = both if other.here is None else both[other.here[both]]
            other.pairs.add(other.pairs.cell(other.leaves[held], leaf[held]), -1)
        for array in (leaf, first, last) if band is None else (leaf, first, last, band):
            array[a], array[b] = array[b], array[a].copy()
        for other in beside:
            held = both if other.here is None else both[other.here[both]]
            other.pairs.add(other.pairs.cell(other.leaves[held], leaf[held]), 1)


_LONG = 200
"""Passes over short chunks, where they cost little: 4 x 30 leaves, 900 rows: see benchmarks/plan.py."""
_CATCH_UP = 64
"""Leaves behind their share that one chunk helps, where forbids put them behind."""
_FRESH = 0.01
"""Share of rows that pair up anew by chance, below which few unseen pairs are left within reach."""
_EVENING = 8
"""Passes once every pair was seen, to keep counts even."""
_BUSY = 2048
"""Rows that one pass tries to better."""


# ── the plan ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Plan:
    """The endless sequence of mixes of a recipe; see the module's docstring for what holds of it.

    `taxonomies`: axis → taxonomy. `strategies`: taxonomies drawn together; none means all of them. `forbid`: entries
    of axis → pattern (see `taxonomy.match`; a pattern that names an inner node covers the leaves below it). Entries
    that name anything but taxonomies are left to whoever draws the other axes.

    Raises:
        RecipeError: an axis without leaves, an unknown axis, a weight that is not above 0, or forbids that leave a
            strategy nothing to draw.
    """

    def __init__(
        self,
        taxonomies: Mapping[str, Taxonomy],
        strategies: Sequence[Strategy] = (),
        forbid: Sequence[Mapping[str, str]] = (),
        seed: int = 0,
    ) -> None:
        """Check what is given; nothing is drawn yet."""
        self.taxonomies = dict(taxonomies)
        self.strategies = tuple(strategies) or (Strategy(tuple(self.taxonomies)),)
        self.seed = seed
        self._check()
        self._sizes = {axis: len(tree.leaves) for axis, tree in self.taxonomies.items()}
        entries = [
            {
                axis: np.asarray(matching(pattern, self.taxonomies[axis]), dtype=np.bool_)
                for axis, pattern in entry.items()
            }
            for entry in forbid
            if entry and set(entry) <= set(self.taxonomies)
        ]
        entries = [entry for entry in entries if all(hit.any() for hit in entry.values())]
        self._forbids = _Forbids(self._sizes, entries)
        self._parts = {axis: shares(tree) for axis, tree in self.taxonomies.items()}
        self._live = {axis: np.asarray([part > 0 for part in parts]) for axis, parts in self._parts.items()}
        drawn = [axis for axis in self.taxonomies if any(axis in strategy.axes for strategy in self.strategies)]
        self._drop_dead(drawn)
        whole = {
            axis: _whole(
                [
                    part if alive else Fraction(0)
                    for part, alive in zip(self._parts[axis], self._live[axis], strict=True)
                ]
            )
            for axis in drawn
        }
        self._axes = sorted(drawn, key=lambda axis: int(self._live[axis].sum()))  # small cycles first: they bend least
        self._quota = {axis: self._quota_of(axis, whole[axis]) for axis in self._axes}
        self._banded = any(isinstance(quota, _Banded) for quota in self._quota.values())
        weights = _whole([Fraction(repr(float(strategy.weight))) for strategy in self.strategies])
        self._turns = _Quota(weights, _key(seed, "strategies"))
        self._uses = {axis: np.asarray([axis in s.axes for s in self.strategies]) for axis in self._axes}
        self._gates, self._first = _gates(self._forbids, self._axes, self.strategies, self._live)
        self._free = not any(gate.bad.any() for gate in self._gates.values())
        self._made = 0
        self._values = {axis: np.empty(0, dtype=np.uint32) for axis in self._axes}
        self._used = dict.fromkeys(self._axes, 0)
        self._had = {axis: np.zeros(self._sizes[axis], dtype=np.int64) for axis in self._axes}
        self._pairs: dict[tuple[str, str], _Pairs] = {}

    def _quota_of(self, axis: str, whole: Sequence[int]) -> _Quota:
        """The sequence of the axis's leaves: by band first where its taxonomy has several."""
        tree, key, live = self.taxonomies[axis], _key(self.seed, f"axis/{axis}"), self._live[axis]
        bands = [] if not isinstance(tree, Apportioned) else tree.bands
        kept = []
        for band in bands:
            alive = [(at, part) for at, part in zip(band.leaves, band.parts, strict=True) if part and live[at]]
            if alive:
                kept.append((band.share, [at for at, _ in alive], [part for _, part in alive]))
        if len(kept) < 2:  # noqa: PLR2004 - one band is none
            return _Quota(whole, key)
        shared, members, parts = zip(*kept, strict=True)
        return _Banded(whole, shared, members, parts, key)

    def _check(self) -> None:
        faults = []
        for axis, tree in self.taxonomies.items():
            if not tree.leaves:
                faults.append(f"taxonomy {axis!r} has no leaves; give it at least one node")
        for strategy in self.strategies:
            if unknown := [axis for axis in strategy.axes if axis not in self.taxonomies]:
                faults.append(
                    f"a strategy draws {unknown[0]!r}, which is no taxonomy; expected {', '.join(self.taxonomies)}"
                )
            if not strategy.axes or len(set(strategy.axes)) < len(strategy.axes):
                faults.append("a strategy draws no axis, or one axis twice; name each axis once")
            if not (strategy.weight > 0 and strategy.weight < float("inf")):
                faults.append(f"a strategy has weight {strategy.weight}; expected a number above 0")
        if faults:
            raise RecipeError([Fault("strategies", 0, 0, fault) for fault in faults])

    def _drop_dead(self, drawn: Sequence[str]) -> None:
        """Take out the leaves that no strategy can draw, and refuse a strategy that can draw nothing."""
        alive = {axis: np.zeros(self._sizes[axis], dtype=np.bool_) for axis in drawn}
        for strategy in self.strategies:
            active = self._forbids.active(strategy.axes)
            amounts = {axis: self._amounts(axis) for axis in strategy.axes}
            for axis in strategy.axes:
                rest = self._forbids.joint([other for other in strategy.axes if other != axis], amounts, active)
                possible = [any(mark & bits == 0 for bits in rest) for mark in self._forbids.marks[axis]]
                alive[axis] |= np.asarray(possible)[self._forbids.kinds[axis]]
                if not (np.asarray(possible)[self._forbids.kinds[axis]] & self._live[axis]).any():
                    together = ", ".join(strategy.axes)
                    message = f"the entries leave nothing to draw of [{together}] together; take one out"
                    raise RecipeError(Fault("forbid", 0, 0, message))
        for axis in drawn:
            self._live[axis] &= alive[axis]

    def _amounts(self, axis: str) -> list[int]:
        """How many leaves of each class can be drawn."""
        kinds = self._forbids.kinds[axis][self._live[axis]]
        return [int(count) for count in np.bincount(kinds, minlength=len(self._forbids.marks[axis]))]

    # ── the sequence ──

    def slots(self, start: int, stop: int) -> pl.DataFrame:
        """The planned rows start … stop-1: `slot` and, per taxonomy, the index of its leaf (null: not drawn); UInt32.

        The index counts `taxonomy.leaves`.
        """
        if not 0 <= start <= stop <= MAX_ROWS:
            message = f"slots {start} to {stop}; expected 0 <= start <= stop <= {MAX_ROWS:,}"
            raise ValueError(message)
        columns: dict[str, pl.Series] = {"slot": pl.Series(np.arange(start, stop, dtype=np.uint32))}
        simple = self._closed(start, stop)
        if simple is None:
            self._extend(stop)
        for axis, size in self._sizes.items():
            if axis not in self._quota:
                columns[axis] = pl.Series([None] * (stop - start), dtype=pl.UInt32)
                continue
            values = simple[axis] if simple is not None else self._values[axis][start:stop]
            series = pl.Series(values.astype(np.uint32))
            columns[axis] = series if bool(self._uses[axis].all()) else series.set(series == size, None)
        return pl.DataFrame(columns)

    def _closed(self, start: int, stop: int) -> dict[str, Ints] | None:
        """The rows in closed form: one axis, or two with equal shares, one strategy, nothing forbidden; else None."""
        if len(self.strategies) > 1 or not self._free or len(self._axes) > 2:  # noqa: PLR2004 - see the docstring
            return None
        if len(self._axes) == 1:
            axis = self._axes[0]
            return {axis: self._quota[axis].take(start, stop)[0]}
        one, two = (self._quota[axis] for axis in self._axes)
        if not (one.uniform and two.uniform):
            return None
        at = np.arange(start, stop, dtype=np.int64)
        a, b = len(one.live), len(two.live)
        return {self._axes[0]: one.order[at % a], self._axes[1]: two.order[(at + at // lcm(a, b)) % b]}

    def _extend(self, stop: int) -> None:
        """Make the sequence up to `stop` at least, chunk by chunk; where chunks end depends on nothing asked."""
        while self._made < stop:
            step = min(_CHUNK, max(self._quota[axis].cycle for axis in self._axes))  # whole cycles, where short
            size = min(_CHUNK, max(step, self._made // 8))
            self._chunk(self._made, self._made + -(-size // step) * step)

    def _chunk(self, start: int, stop: int) -> None:
        turn = self._turns.take(start, stop)[0]
        states = self._first[turn]
        room = len(next(iter(self._values.values())))
        if room < stop:
            for axis in self._axes:
                wider = np.full(max(stop, 2 * room), self._sizes[axis], dtype=np.uint32)
                wider[:start] = self._values[axis][:start]
                self._values[axis] = wider
        mixed = _hash(_key(self.seed, "mixes"), turn)
        for number, axis in enumerate(self._axes):
            rows = np.flatnonzero(self._uses[axis][turn])
            if not len(rows):
                continue
            leaf = self._place(number, axis, start, rows, states[rows], mixed[rows])
            self._values[axis][start + rows] = leaf
            states[rows] = self._gates[axis].after[states[rows], self._gates[axis].kinds[leaf]]
            mixed[rows] = _hash(_key(self.seed, axis), (mixed[rows] ^ leaf.astype(np.uint64)).view(np.int64))
        self._made = stop

    def _place(self, number: int, axis: str, start: int, rows: Ints, states: Ints, mixed: NDArray[np.uint64]) -> Ints:
        """The leaf of one axis in each of these rows of the chunk, given the axes before it."""
        quota, gate, key = self._quota[axis], self._gates[axis], _key(self.seed, f"{axis}/{start}")
        begin = self._used[axis]
        band = None
        if isinstance(quota, _Banded):
            leaf, first, last, band = quota.rows(begin, begin + len(rows), key)
        else:
            leaf, first, last = quota.take(begin, begin + len(rows))
        self._used[axis] = begin + len(rows)
        beside = []
        right = self._inverse(axis)
        before = [other for other in self._axes[:number] if (self._uses[other] & self._uses[axis]).any()]
        if quota.uniform and (before or self._banded):
            by = np.lexsort((_hash(key, np.arange(len(rows))), first))  # a fresh permutation of every cycle
            leaf = leaf[by]
        elif isinstance(quota, _Banded) and before:
            even = np.flatnonzero(quota.even[band])  # what has one window is a cycle of a band of equal shares
            by = np.lexsort((_hash(key, even), first[even]))
            leaf[even[np.argsort(first[even], kind="stable")]] = leaf[even[by]]
        for other in before:
            held = self._values[other][start + rows].astype(np.int64)
            here = held < self._sizes[other]
            if (pairs := self._pairs.get((other, axis))) is None:
                pairs = _Pairs(self._sizes[other], self._sizes[axis], self._together(other, axis))
                self._pairs[other, axis] = pairs
            pairs.rows += int(here.sum())
            scale = _EVEN / max(1, pairs.rows)
            beside.append(_Beside(held, pairs, None if here.all() else here, self._inverse(other), right, scale, 1.0))
        if len(before) > 1:
            if (pairs := self._pairs.get(("", axis))) is None:
                pairs = self._pairs["", axis] = _Pairs(_TABLE, self._sizes[axis], 0)
            none = np.zeros(1)
            beside.append(_Beside((mixed >> np.uint64(24)).astype(np.int64), pairs, None, none, none, 0.0, _MIX))
        unseen = False
        for side in beside:
            counted = np.arange(len(rows)) if side.here is None else np.flatnonzero(side.here)
            cells = side.pairs.cell(side.leaves[counted], leaf[counted])
            side.pairs.add(cells, 1)
            if side.scale and not side.pairs.full:  # else nothing is left to find, and the search need only even out
                unseen |= int((side.pairs.counts[cells] == 1).sum()) >= _FRESH * len(rows)
        if beside or gate.bad.any():
            first, last = np.maximum(first - begin, 0), np.minimum(last - begin, len(rows) - 1)
            passes = max(_PASSES, min(_LONG, 100_000 // len(rows))) if unseen else _EVENING
            _settle(leaf, first, last, band, beside, gate, states, key, passes)
        if gate.bad.any():
            self._mend(axis, leaf, beside, states)
        self._had[axis] += np.bincount(leaf, minlength=self._sizes[axis])
        return leaf

    def _together(self, one: str, two: str) -> int:
        """How many pairs of leaves of two axes stand together in some mix."""
        return self._odds[one, two].total if (one, two) in self._odds else self._odds[two, one].total

    def _inverse(self, axis: str) -> Floats:
        """1/share of each leaf among the leaves; 0 for those never drawn, and one 0 more for "no leaf"."""
        weights = self._quota[axis].weights
        out = np.zeros(len(weights) + 1)
        np.divide(self._quota[axis].total, weights, out=out[:-1], where=weights > 0)
        return out

    def _mend(self, axis: str, leaf: Ints, beside: Sequence[_Beside], states: Ints) -> None:
        """Give rows that no swap could help the allowed leaf that is furthest behind, then let such leaves catch up."""
        gate, quota = self._gates[axis], self._quota[axis]
        count = self._had[axis] + np.bincount(leaf, minlength=len(quota.weights))
        behind = quota.weights * (self._used[axis] / quota.total) - count

        def change(row: int, chosen: int) -> None:
            for other in beside:
                if other.here is None or other.here[row]:
                    cells = other.pairs.cell(other.leaves[[row, row]], np.asarray([leaf[row], chosen]))
                    other.pairs.add(cells[:1], -1)
                    other.pairs.add(cells[1:], 1)
            behind[leaf[row]] += 1
            behind[chosen] -= 1
            leaf[row] = chosen

        for row in np.flatnonzero(gate.bad[states, gate.kinds[leaf]]).tolist():
            allowed = ~gate.bad[states[row]][gate.kinds] & (quota.weights > 0)
            change(row, int(np.argmax(np.where(allowed, behind, -np.inf))))
        for chosen in np.argsort(-behind, kind="stable")[:_CATCH_UP].tolist():
            if behind[chosen] < 1:
                return
            open_ = ~gate.bad[states, gate.kinds[chosen]]
            ahead = np.where(open_, -behind[leaf], -np.inf)
            row = int(np.argmax(ahead))
            if ahead[row] > 0:
                change(row, chosen)

    # ── figures ──

    @cached_property
    def mixes_total(self) -> int:
        """How many different mixes can be drawn; exact, forbidden ones taken off."""
        total = 0
        for axes in {frozenset(strategy.axes) for strategy in self.strategies}:
            found = self._forbids.joint(
                sorted(axes), {axis: self._amounts(axis) for axis in axes}, self._forbids.active(list(axes))
            )
            total += found.get(0, 0)
        return total

    def coverage(self, rows: int) -> Coverage:
        """What the first `rows` slots reach, beside what drawing at random is expected to reach."""
        frame = self.slots(0, rows)
        leaves, pairs = {}, {}
        for axis in self._quota:
            odds = self._chances((axis,))
            leaves[axis] = Seen(frame[axis].drop_nulls().n_unique(), odds.total, odds.expected(rows))
        for (one, two), odds in self._odds.items():
            both = frame.select(one, two).drop_nulls()
            cells = numbered([both[one].to_numpy(), both[two].to_numpy()], [self._sizes[one], self._sizes[two]])
            pairs[one, two] = Seen(
                _distinct(cells, self._sizes[one] * self._sizes[two]), odds.total, odds.expected(rows)
            )
        every = Seen(
            sum(seen.planned for seen in pairs.values()),
            sum(seen.total for seen in pairs.values()),
            sum(seen.at_random for seen in pairs.values()),
        )
        return Coverage(rows, leaves, pairs, every)

    def triples(self, rows: int) -> dict[tuple[str, str, str], Seen]:
        """Triples of leaves in the first `rows` slots, by triple of axes that a strategy draws together.

        The expectation takes leaves of like share together where an axis has more than 64 different shares.
        """
        frame = self.slots(0, rows)
        drawn = [axis for axis in self.taxonomies if axis in self._quota]
        found: dict[tuple[str, str, str], Seen] = {}
        for one, two, three in combinations(drawn, 3):
            if not (self._uses[one] & self._uses[two] & self._uses[three]).any():
                continue
            held = frame.select(one, two, three).drop_nulls()
            sizes = [self._sizes[axis] for axis in (one, two, three)]
            cells = numbered([held[axis].to_numpy() for axis in (one, two, three)], sizes)
            odds = self._chances((one, two, three)).coarse()
            found[one, two, three] = Seen(_distinct(cells, prod(sizes)), odds.total, odds.expected(rows))
        return found

    def layered(
        self, drawn: pl.DataFrame, values: Mapping[str, Sequence[str]], forbid: Sequence[Mapping[str, str]]
    ) -> dict[tuple[str, ...], Seen]:
        """Pairs and triples of axes with at least one layer in them: what the first rows reach.

        `drawn`: for each of the first slots the value of each layer, as text, null where it has none. `values`: every
        value a layer can have. `forbid`: all entries of the recipe. At random: as many rows, each axis drawn by its
        share of these rows and by itself. Values that a layer cannot draw beside a leaf count as missing, unless an
        entry forbids them together.
        """
        frame = self.slots(0, drawn.height)
        trees = [axis for axis in self.taxonomies if axis in self._quota]
        sizes = {axis: self._sizes[axis] for axis in trees} | {layer: len(known) for layer, known in values.items()}
        entries = [
            {
                axis: np.asarray(
                    [value == pattern for value in values[axis]]
                    if axis in values
                    else matching(pattern, self.taxonomies[axis]),
                    dtype=np.bool_,
                )
                for axis, pattern in entry.items()
            }
            for entry in forbid
            if entry and set(entry) <= set(sizes)
        ]
        forbids = _Forbids(sizes, entries)
        columns = {axis: frame[axis].cast(pl.Int64).fill_null(-1).to_numpy() for axis in trees}
        for layer, known in values.items():
            places = pl.DataFrame({layer: known}, schema={layer: pl.String}).with_row_index("place")
            found = drawn.select(layer).join(places, on=layer, how="left", maintain_order="left")["place"]
            columns[layer] = found.cast(pl.Int64).fill_null(-1).to_numpy()
        live = {axis: np.flatnonzero(self._quota[axis].weights) for axis in trees}
        live |= {layer: np.arange(len(known)) for layer, known in values.items()}
        told: dict[tuple[str, ...], Seen] = {}
        for axes in (*combinations(sizes, 2), *combinations(sizes, 3)):
            in_trees = [self._uses[axis] for axis in axes if axis in self._uses]
            if len(in_trees) == len(axes) or (in_trees and not reduce(np.logical_and, in_trees).any()):
                continue
            rows = np.flatnonzero(reduce(np.logical_and, [columns[axis] >= 0 for axis in axes]))
            held = [columns[axis][rows] for axis in axes]
            active = forbids.active(axes)
            marks = [np.asarray(forbids.marks[axis], dtype=object) for axis in axes]
            rate = (reduce(np.bitwise_and.outer, marks) & active == 0).astype(np.float64)
            shared = [
                np.bincount(one, minlength=sizes[axis]) / max(1, len(rows))
                for axis, one in zip(axes, held, strict=True)
            ]
            mass = [
                np.bincount(forbids.kinds[axis], weights=share, minlength=len(mark))
                for axis, share, mark in zip(axes, shared, marks, strict=True)
            ]
            allowed = float((reduce(np.multiply.outer, mass) * rate).sum())
            odds = Odds(
                [
                    grouped(forbids.kinds[axis][live[axis]], share[live[axis]])
                    for axis, share in zip(axes, shared, strict=True)
                ],
                rate / allowed if allowed else rate,
            ).coarse()
            size = [sizes[axis] for axis in axes]
            told[axes] = Seen(_distinct(numbered(held, size), prod(size)), odds.total, odds.expected(len(rows)))
        return told

    def saturation(self, rows: int, most: int) -> list[Saturation]:
        """Rows that leaves, and pairs of leaves, take to be reached, all axes together; from the plan's own sequence.

        Looks at `rows` slots, and at twice as many again and again up to `most` while 99 % was not reached.
        """
        leaves = [self._chances((axis,)) for axis in self._quota]
        pairs = list(self._odds.values())
        wanted: list[tuple[str, list[tuple[str, ...]], list[Odds]]] = [
            ("leaves", [(axis,) for axis in self._quota], leaves)
        ]
        if pairs:
            wanted.append(("pairs", [*self._odds], pairs))
        while True:
            frame = self.slots(0, rows)
            found = []
            for what, groups, odds in wanted:
                firsts = [_firsts(frame, axes, [self._sizes[axis] for axis in axes]) for axes in groups]
                total = sum(one.total for one in odds)
                found.append((what, total, rows_needed(np.sort(np.concatenate(firsts)), total), odds))
            if rows >= most or all(needed[-1] for _, total, needed, _ in found if total):
                break
            rows = min(most, 2 * max(1, rows))
        return [
            Saturation(what, total, rows, tuple(needed), tuple(rows_expected(odds)))
            for what, total, needed, odds in found
        ]

    @cached_property
    def _odds(self) -> dict[tuple[str, str], Odds]:
        """The chance of each pair of leaves in one random row, by pair of axes, in the order of the taxonomies."""
        drawn = [axis for axis in self.taxonomies if axis in self._quota]
        together = [(one, two) for number, one in enumerate(drawn) for two in drawn[number + 1 :]]
        return {
            (one, two): self._chances((one, two)) for one, two in together if (self._uses[one] & self._uses[two]).any()
        }

    def _chances(self, axes: tuple[str, ...]) -> Odds:
        """The chance in one random row of each leaf of one axis, or of each combination of leaves of several."""
        sides = []
        for axis in axes:
            quota = self._quota[axis]
            sides.append(grouped(self._forbids.kinds[axis][quota.live], quota.weights[quota.live] / quota.total))
        marks = [np.asarray(self._forbids.marks[axis], dtype=object) for axis in axes]
        both = reduce(np.bitwise_and.outer, marks)
        rate = np.zeros(both.shape)
        for weight, strategy in zip(self._turns.weights.tolist(), self.strategies, strict=True):
            if not set(axes) <= set(strategy.axes):
                continue
            active = self._forbids.active(strategy.axes)
            masses = {axis: self._masses(axis) for axis in strategy.axes}
            allowed = self._forbids.joint(strategy.axes, masses, active)[0]
            rest = self._forbids.joint([axis for axis in strategy.axes if axis not in axes], masses, active)
            known = {mark: sum(odds for bits, odds in rest.items() if bits & mark == 0) for mark in set(both.flat)}
            rate += weight / self._turns.total / allowed * np.vectorize(known.__getitem__, otypes=[float])(both)
        return Odds(sides, rate)

    def _masses(self, axis: str) -> list[float]:
        """The share of each class of leaves."""
        quota, kinds = self._quota[axis], self._forbids.kinds[axis]
        mass = np.bincount(kinds, weights=quota.weights / quota.total, minlength=len(self._forbids.marks[axis]))
        return [float(one) for one in mass]


_GAIN = 1e-9
"""Smaller gains are rounding."""
_SEEN = 0.5
"""Below: a row without repeats."""
_BANNED = 1000.0
"""What a forbidden leaf costs, beside 1 for repeating a pair."""
_EVEN = 0.25
"""What a pair seen as often as its share costs, beside 1 for having been seen at all."""
_MIX = 0.5
"""What repeating a whole mix costs, beside 1 for repeating a pair."""


# ── later rounds ────────────────────────────────────────────────────────────────────────────────────────────────────


def refill(
    asked: pl.DataFrame, accepted: pl.Series, had: pl.Series, candidates: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(slots that are owed one more candidate, slots given up), each in slot order with the columns of `asked`.

    `asked`: the slots that were asked for, one row each (column `slot`, and what goes with it). `accepted`: numbers of
    the slots that have an accepted row; `had`: a slot's number once for each candidate that counts. A slot is given up
    at `candidates` candidates.
    """
    taken = pl.Series("slot", accepted).cast(asked.schema["slot"]).unique()
    lacking = asked.join(pl.DataFrame({"slot": taken}), on="slot", how="anti").sort("slot")
    counts = pl.DataFrame({"slot": pl.Series("slot", had).cast(asked.schema["slot"])}).group_by("slot").len("_had")
    counted = lacking.join(counts, on="slot", how="left", maintain_order="left")
    more = pl.col("_had").fill_null(0) < candidates
    return counted.filter(more).drop("_had"), counted.filter(~more).drop("_had")


def _firsts(frame: pl.DataFrame, axes: Sequence[str], sizes: Sequence[int]) -> Ints:
    """Rows of the frame in which a combination of leaves of these axes stands for the first time."""
    held = frame.select("slot", *axes).drop_nulls()
    cells = numbered([held[axis].to_numpy() for axis in axes], sizes)
    return held["slot"].to_numpy().astype(np.int64)[first_rows(cells, prod(sizes))]


def _distinct(cells: Ints, room: int) -> int:
    """How many different numbers below `room`."""
    if room <= 2**27:
        seen = np.zeros(room, dtype=np.bool_)
        seen[cells] = True
        return int(np.count_nonzero(seen))
    return len(np.unique(cells))
