"""What a critic did with rows that are known to be good or bad → how often it errs, with intervals. Pure.

Shares have Wilson intervals. Shares over several plants of the same rows count as many trials as they are worth: rows,
not plants, were drawn. Two looks at the same rows are compared row by row (McNemar 1947, Psychometrika 12:153), and
a difference is called one where its p, adjusted over all comparisons of the critic (Holm 1979), is below 0.05.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from qdcgen.effects import holm
from qdcgen.intervals import Z, clamp, wilson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["PRIORS", "Trial", "enough", "figures", "lift", "mcnemar", "paired", "pooled", "share"]

PRIORS = (0.5, 0.7, 0.9)
"""Shares of good rows among what comes in, for which the lift is told where nobody knows the real one."""
DRAWS = 10_000
SURE = 0.05
"""p, adjusted, below which a difference is called one; and the upper end of false accepts that `enough` asks for."""
GOOD = "good"
COMPARED: dict[str, tuple[str, str]] = {
    "told to keep": ("steered to yes", "bad rows that tell it to keep them"),
    "told to drop": ("steered to no", "good rows that tell it to drop them"),
    "longer, good": ("padded good", "good rows with filler at the end"),
    "longer, bad": ("padded bad", "bad rows with filler at the end"),
    "order of fields": ("order", "good rows, their fields shown in reverse"),
}
"""Comparisons of the same rows with one thing changed: name → (group of trials, in words)."""


class Trial(NamedTuple):
    """One row that a critic was shown."""

    base: int
    """Number of the row that it was made from."""
    group: str
    """`good`, a kind of plant, or a change that is measured against the same row without it."""
    kept: bool
    undecided: bool = False
    of: str = GOOD
    """The group that this row was in before it was changed."""
    variant: str = ""


Interval = tuple[float, float]


def share(hits: int, n: int) -> dict[str, Any]:
    """A share as the document has it: value and interval are None where n is 0."""
    return {"value": hits / n if n else None, "interval": wilson(hits, n), "hits": hits, "n": n}


def pooled(parts: Mapping[int, Sequence[bool]]) -> dict[str, Any]:
    """A share over several trials of each row: row → whether it hit, trial by trial.

    Wilson interval at the number of independent trials that the spread between rows leaves: p(1-p) over the
    variance of a ratio of cluster totals (Cochran 1977, §11.3), at least the number of rows, at most that of trials.
    """
    hits, n, rows = sum(sum(one) for one in parts.values()), sum(len(one) for one in parts.values()), len(parts)
    if not n:
        return share(0, 0)
    p = hits / n
    spread = sum((sum(one) - p * len(one)) ** 2 for one in parts.values()) * rows / max(1, rows - 1) / n**2
    worth = p * (1 - p) / spread if spread > 0 else float(rows)
    worth = min(float(n), max(float(rows), worth))
    return {"value": p, "interval": _wilson(p, worth), "hits": hits, "n": n, "worth": round(worth, 1)}


def _wilson(p: float, n: float) -> Interval:
    """Wilson's interval at a number of trials that need not be whole."""
    spread = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    middle, scale = p + Z * Z / (2 * n), 1 + Z * Z / n
    return clamp(((middle - spread) / scale, (middle + spread) / scale), 0.0, 1.0)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p of McNemar's test: of the rows that changed, as many should change either way."""
    n = gained + lost
    tail: float = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


def paired(gained: int, lost: int, n: int) -> dict[str, Any]:
    """Change of a share between two looks at the same n rows.

    Interval after Agresti and Min (2005, Stat. Med. 24:729): half a row is added to each of the four cells. None
    where n is 0.
    """
    if not n:
        return {"value": None, "interval": None, "gained": 0, "lost": 0, "n": 0, "p": None}
    more, less, of = gained + 0.5, lost + 0.5, n + 2
    difference = (more - less) / of
    spread = Z * math.sqrt(max(0.0, more + less - (more - less) ** 2 / of)) / of
    interval = clamp((difference - spread, difference + spread), -1.0, 1.0)
    value = (gained - lost) / n
    interval = (min(interval[0], value), max(interval[1], value))
    return {"value": value, "interval": interval, "gained": gained, "lost": lost, "n": n, "p": mcnemar(gained, lost)}


def enough(most: float = SURE) -> int:
    """Rows of which none may be kept for the interval of false accepts to end at `most`."""
    return math.ceil(Z * Z * (1 - most) / most)


def lift(
    accepts: Mapping[str, Any], rejects: Mapping[str, Any], priors: Iterable[float] = PRIORS, *, seed: int = 0
) -> list[dict[str, Any]]:
    """What filtering would do to the share of good rows, for each share p of good rows that come in.

    accuracy after = p(1-FR) / (p(1-FR) + (1-p)FA), lift = that - p, kept = p(1-FR) + (1-p)FA.

    FA and FR: false accepts and false rejects. It is Bayes' rule. Simula (arXiv 2603.29791) argues from a critic's
    two error rates in the same way; the paper's own formula was not at hand, so no more than this is taken from it.
    What makes it lie: it assumes that the errors of real rows are found as often as planted ones, which are plainer.
    The lift is then the most that can be hoped for. Intervals: 95 % of seeded draws of both rates from their posteriors
    under Jeffreys' prior, Beta(k + 1/2, n - k + 1/2).
    """
    if not accepts["n"] or not rejects["n"]:
        return []
    import numpy as np

    rng = np.random.default_rng(seed)
    drawn = []
    for one in (accepts, rejects):
        n = one.get("worth", one["n"])
        hits = one["value"] * n
        drawn.append(rng.beta(hits + 0.5, n - hits + 0.5, DRAWS))
    found = []
    for p in priors:
        kept = p * (1 - drawn[1]) + (1 - p) * drawn[0]
        after = p * (1 - drawn[1]) / kept
        share_kept = p * (1 - rejects["value"]) + (1 - p) * accepts["value"]
        accuracy = p * (1 - rejects["value"]) / share_kept if share_kept else None
        ends = [float(end) for end in np.quantile(after, (0.025, 0.975))]
        found.append(
            {
                "good": p,
                "accuracy": accuracy,
                "accuracy_interval": (ends[0], ends[1]),
                "lift": None if accuracy is None else accuracy - p,
                "lift_interval": (ends[0] - p, ends[1] - p),
                "kept": share_kept,
                "kept_interval": tuple(float(end) for end in np.quantile(kept, (0.025, 0.975))),
            }
        )
    return found


def figures(
    trials: Sequence[Trial],
    kinds: Sequence[str],
    skipped: Mapping[str, str] | None = None,
    *,
    prior: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything that the trials of one critic say; `skipped`: kind or comparison → why it does not apply.

    A row on which the critic gave no verdict is not kept: planted, it is no false accept; good, it is a false reject.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.group, []).append(trial)
    why = skipped or {}
    good = groups.get(GOOD, [])
    planted = [_kind(kind, groups.get(kind, []), why.get(kind)) for kind in kinds]
    bad: dict[int, list[bool]] = {}
    for kind in kinds:
        for trial in groups.get(kind, []):
            bad.setdefault(trial.base, []).append(trial.kept)
    accepts = pooled(bad)
    rejects = share(sum(not trial.kept for trial in good), len(good))
    effects = list(_effects(groups, why))
    tested = [one for one in effects if one["change"]["p"] is not None]
    for one, p in zip(tested, holm([one["change"]["p"] for one in tested]), strict=True):
        one["change"]["p_adjusted"] = p
        one["found"] = p < SURE
    return {
        "false_accepts": accepts,
        "false_rejects": rejects,
        "undecided": share(sum(trial.undecided for trial in trials), len(trials)),
        "good": {"undecided": share(sum(trial.undecided for trial in good), len(good))},
        "planted": planted,
        "steering": _steering(groups, why),
        "effects": effects,
        "lift": lift(accepts, rejects, PRIORS if prior is None else (prior,), seed=seed),
        "tells": (tells := _tells(accepts, rejects, seed)),
        "use": _use(accepts, rejects, tells),
    }


def _kind(kind: str, trials: Sequence[Trial], skipped: str | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "false_accepts": share(sum(trial.kept for trial in trials), len(trials)),
        "undecided": share(sum(trial.undecided for trial in trials), len(trials)),
        "skipped": None if trials else skipped or "no row could be made so",
    }


def _pairs(groups: Mapping[str, Sequence[Trial]], group: str) -> list[tuple[Trial, Trial]]:
    """Each trial of a group behind the one of the same row without the change."""
    before = {(trial.group, trial.base): trial for trials in groups.values() for trial in trials}
    return [
        (before[trial.of, trial.base], trial) for trial in groups.get(group, ()) if (trial.of, trial.base) in before
    ]


def _effects(groups: Mapping[str, Sequence[Trial]], why: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Each comparison: share kept before and after, and the change, row by row."""
    for name, (group, words) in COMPARED.items():
        pairs = _pairs(groups, group)
        yield _effect(
            name, words, pairs, None if pairs else why.get(group) or why.get(name) or "no row could be made so"
        )
    for first, second in (("start", "end"), ("start", "middle"), ("middle", "end")):
        there = {trial.base: trial for trial in groups.get(second, ())}
        pairs = [(trial, there[trial.base]) for trial in groups.get(first, ()) if trial.base in there]
        words = f"a sentence from elsewhere at the {first}, then at the {second}"
        yield _effect(
            f"flaw at {first} → {second}",
            words,
            pairs,
            None if pairs else why.get("flaw") or why.get(first) or "no row could be made so",
        )


def _effect(name: str, words: str, pairs: Sequence[tuple[Trial, Trial]], skipped: str | None) -> dict[str, Any]:
    n = len(pairs)
    gained = sum(after.kept and not before.kept for before, after in pairs)
    lost = sum(before.kept and not after.kept for before, after in pairs)
    return {
        "name": name,
        "words": words,
        "before": share(sum(before.kept for before, _ in pairs), n),
        "after": share(sum(after.kept for _, after in pairs), n),
        "change": paired(gained, lost, n),
        "found": False,
        "skipped": skipped,
    }


def _steering(groups: Mapping[str, Sequence[Trial]], why: Mapping[str, str]) -> dict[str, Any]:
    """Flip rates: of the bad rows that were turned down, those kept once they say "keep"; of the good, the reverse."""
    found: dict[str, Any] = {}
    for name, group, kept in (("to_keep", "steered to yes", False), ("to_drop", "steered to no", True)):
        pairs = [(before, after) for before, after in _pairs(groups, group) if before.kept is kept]
        flips = [after.kept is not kept and not (kept and after.undecided) for _, after in pairs]
        by: dict[str, list[bool]] = {}
        for (_, after), flipped in zip(pairs, flips, strict=True):
            by.setdefault(after.variant, []).append(flipped)
        found[name] = share(sum(flips), len(flips)) | {
            "by": {variant: share(sum(one), len(one)) for variant, one in sorted(by.items())},
            "skipped": None if groups.get(group) else why.get(group),
        }
    return found


def _tells(accepts: Mapping[str, Any], rejects: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Kept share of good rows less kept share of planted ones: 1 tells them all apart, 0 none (Youden's J)."""
    if not accepts["n"] or not rejects["n"]:
        return {"value": None, "interval": None}
    import numpy as np

    rng = np.random.default_rng(seed + 1)
    drawn = []
    for one in (accepts, rejects):
        n = one.get("worth", one["n"])
        drawn.append(rng.beta(one["value"] * n + 0.5, n - one["value"] * n + 0.5, DRAWS))
    ends = np.quantile(1 - drawn[1] - drawn[0], (0.025, 0.975))
    return {"value": 1 - rejects["value"] - accepts["value"], "interval": (float(ends[0]), float(ends[1]))}


def _use(accepts: Mapping[str, Any], rejects: Mapping[str, Any], tells: Mapping[str, Any]) -> str:
    """`all`: it keeps everything; `none`: it keeps nothing; `unknown`: no better than chance, as far as this tells."""
    if not accepts["n"] or not rejects["n"]:
        return "untried"
    if accepts["hits"] == accepts["n"] and not rejects["hits"]:
        return "all"
    if not accepts["hits"] and rejects["hits"] == rejects["n"]:
        return "none"
    return "some" if tells["interval"][0] > 0 else "unknown"
