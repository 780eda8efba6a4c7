"""How far ratings of complexity follow levels that people gave: `python -m benchmarks.levels`.

On the problems of `../shared/data/math_levels` (MATH-500: levels 1 to 5; a ladder of 7 rungs from primary school to
competitions) a critic is simulated at stated noise: its score of a problem is the level + N(0, σ). One critic means the
same by a score in every call; another's idea of the middle moves from call to call by N(0, 2). Printed is Spearman's ρ
of what each method makes of the scores with the level: the mean over several critics, and the 2.5th and 97.5th
percentiles of it over problems and critics. Beside them what needs no critic: length, structure, and with `--embedded
N` surprisal and instruction-following difficulty under the embedded model on N problems (about 20 s of a core each).
"""

from __future__ import annotations

import argparse
import asyncio
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qdcgen.bradley_terry import Batch, compared, fitted, reliability, schedule
from qdcgen.intervals import ranks, spearman
from qdcgen.surface import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "math_levels"
SIGMAS = (0.0, 0.5, 1.0, 2.0, 4.0)
SHIFTS = {"a critic with one scale for all calls": 0.0, "a critic whose scale moves by N(0, 2) a call": 2.0}
K = 32.0


def absolute(level: Array, sigma: float, shift: float, rng: np.random.Generator) -> Array:
    """One score a problem, each in a call of its own."""
    return level + sigma * rng.normal(size=len(level)) + shift * rng.normal(size=len(level))


def mean_of(n: int, batches: Sequence[Batch]) -> Array:
    """Mean score over the batches of a problem."""
    total, count = np.zeros(n), np.zeros(n)
    for batch in batches:
        total[list(batch.items)] += [score or 0.0 for score in batch.scores]
        count[list(batch.items)] += 1
    return total / count


def elo(n: int, batches: Sequence[Batch]) -> Array:
    """Elo over neighbours of each batch when it is sorted by score, batch after batch: what others do."""
    ratings = np.zeros(n)
    for batch in batches:
        order = sorted(range(len(batch.items)), key=lambda at: -(batch.scores[at] or 0.0))
        for high, low in pairwise(order):
            one, other = batch.items[high], batch.items[low]
            moved = K * (1 - 1 / (1 + 10 ** ((ratings[other] - ratings[one]) / 400)))
            ratings[one] += moved
            ratings[other] -= moved
    return ratings


def bradley_terry(n: int, batches: Sequence[Batch]) -> Array:
    return fitted(n, compared(batches))


def critic(level: Array, sigma: float, shift: float, rng: np.random.Generator, appearances: int) -> list[Batch]:
    found = []
    for number, groups in enumerate(schedule(len(level), 5, appearances, int(rng.integers(2**31)))):
        for group in groups:
            said = level[list(group)] + sigma * rng.normal(size=len(group)) + shift * rng.normal()
            found.append(Batch(group, tuple(said.tolist()), number))
    return found


def interval(level: Array, values: Sequence[Array], rng: np.random.Generator) -> tuple[float, float, float]:
    """Mean ρ over critics, and percentiles over critics and problems drawn anew."""
    n, found = len(level), []
    for each in values:
        a, b = ranks(level), ranks(each)
        for _ in range(1000 // len(values)):
            at = rng.integers(0, n, n)
            found.append(np.corrcoef(a[at], b[at])[0, 1])
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(np.mean([spearman(level, each) or 0.0 for each in values])), float(low), float(high)


def partial(x: Array, y: Array, given: Array) -> float:
    """Spearman's ρ of x and y with a third held fixed."""
    direct, one, other = (spearman(*pair) or 0.0 for pair in ((x, y), (x, given), (y, given)))
    return (direct - one * other) / max(1e-9, (1 - one**2) * (1 - other**2)) ** 0.5


def told(value: tuple[float, float, float]) -> str:
    return f"{value[0]:.2f} ({value[1]:.2f}–{value[2]:.2f})"


def simulated(name: str, level: Array, shift: float, critics: int, appearances: int) -> None:
    n = len(level)
    print(f"\n{name}\n{n} problems, {critics} critics at each noise, {appearances} appearances in batches of 5")
    print(f"{'':<8}{'one score':>20}{'batch mean':>20}{'Elo, neighbours':>20}{'Bradley–Terry':>20}{'reliability':>13}")
    methods: tuple[Callable[[int, Sequence[Batch]], Array], ...] = (mean_of, elo, bradley_terry)
    for sigma in SIGMAS:
        rng = np.random.default_rng([7, int(10 * sigma)])
        given = [critic(level, sigma, shift, rng, appearances) for _ in range(critics)]
        columns = [[absolute(level, sigma, shift, rng) for _ in range(critics)]]
        columns += [[method(n, batches) for batches in given] for method in methods]
        sure = np.mean([(reliability(n, batches, 0) or (np.nan,))[0] for batches in given[:2]])
        line = "".join(f"{told(interval(level, one, rng)):>20}" for one in columns)
        print(f"σ = {sigma:<4g}{line}{sure:>13.2f}", flush=True)


def counts(name: str, level: Array, texts: Sequence[str]) -> None:
    rng = np.random.default_rng(7)
    table = counted(texts)
    words = table["words"].cast(float).to_numpy()
    print(f"\n{name}: {len(texts)} problems, without a critic")
    print(f"{'':<28}{'ρ with the level':>22}{'words held fixed':>20}")
    print(f"{'words':<28}{told(interval(level, [words], rng)):>22}{'–':>20}")
    for column in ("words per sentence", "long words"):
        values = table[column].to_numpy()
        print(f"{column:<28}{told(interval(level, [values], rng)):>22}{partial(level, values, words):>20.2f}")


async def read(pairs: Sequence[tuple[str, str]]) -> list[tuple[float, float, int]]:
    """Nats a token of each problem; nats of its answer behind it over nats of the answer alone; words."""
    from qdcgen.errors import RowFault
    from qdcgen.model.embedded import Embedded

    way = Embedded("embedded")
    found: list[tuple[float, float, int]] = []
    try:
        for problem, answer in pairs:
            try:
                asked, tokens = await way.surprisal(problem + "\n")
                both, _ = await way.surprisal(f"{problem}\n{answer}")
                alone, _ = await way.surprisal(answer)
            except RowFault:
                found.append((np.nan, np.nan, len(problem.split())))
                continue
            found.append((asked / tokens, (both - asked) / alone, len(problem.split())))
    finally:
        await way.close()
    return found


def embedded(name: str, level: Array, texts: Sequence[str], answers: Sequence[str], most: int) -> None:
    rng = np.random.default_rng(7)
    at = rng.permutation(len(texts))[:most]
    read_as = np.array(asyncio.run(read([(texts[i], answers[i]) for i in at.tolist()])))
    held = np.isfinite(read_as).all(axis=1)
    mine, figures = level[at][held], read_as[held]
    print(f"\n{name}: {int(held.sum())} of {most} problems that the embedded model could read")
    print(f"{'':<28}{'ρ with the level':>22}{'words held fixed':>20}")
    print(f"{'words of these':<28}{told(interval(mine, [figures[:, 2]], rng)):>22}{'–':>20}")
    for place, column in enumerate(("surprisal", "IFD of the solution")):
        values = figures[:, place]
        print(f"{column:<28}{told(interval(mine, [values], rng)):>22}{partial(mine, values, figures[:, 2]):>20.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--critics", type=int, default=10, help="critics simulated at each noise")
    parser.add_argument("--rows", type=int, default=200, help="problems of each set, at most")
    parser.add_argument("--appearances", type=int, default=5)
    parser.add_argument("--embedded", type=int, default=0, help="problems of MATH-500 that the embedded model reads")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(f"complexity on levels that people gave: not measured, {DATA} is not there")
        return
    import polars as pl

    math, ladder = (pl.read_ndjson(DATA / name) for name in ("math500.jsonl", "ladder_7rungs.jsonl"))
    sets: dict[str, tuple[pl.DataFrame, str, str]] = {
        "MATH-500, levels 1 to 5": (math, "level", "problem"),
        "ladder of 7 rungs": (ladder, "rung", "question"),
    }
    for name, (frame, level, text) in sets.items():
        some: Any = frame.sample(min(options.rows, frame.height), seed=7)
        for which, shift in SHIFTS.items():
            title = f"{name}, {which}"
            simulated(title, some[level].cast(float).to_numpy(), shift, options.critics, options.appearances)
        counts(name, frame[level].cast(float).to_numpy(), frame[text].to_list())
    if options.embedded:
        solutions = [" ".join(one.split()[:40]) for one in math["solution"].to_list()]
        level = math["level"].cast(float).to_numpy()
        embedded("MATH-500", level, math["problem"].to_list(), solutions, options.embedded)


if __name__ == "__main__":
    main()
