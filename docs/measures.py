"""What moves each measure of diversity, shown: writes docs/measures/*.svg and the tables of docs/measures.md.

`python -m docs.measures`, on the sets of ../shared/data. Three experiments: more texts, longer texts, and planted
collapse; each before our controls (the formula on all the texts, as other tools apply it) and after them. It prints
what passes and what fails, and its exit code is 1 where more fails than docs/measures.md owns up to (`KNOWN`).
"""

from __future__ import annotations

import csv
import html
import json
import math
import random
import sys
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from qdcgen.embedders.wordllama import Wordllama
from qdcgen.measure import measure, samples_of
from qdcgen.parts import Metric, find
from qdcgen.same import Pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Told = tuple[float, float, float]
    """Value, and the ends of its interval."""
    Found = dict[str, Told]
    """Figure → value and interval."""

ROOT = Path(__file__).parent.parent
DATA = ROOT / "../shared/data"
TARGET = ROOT / "docs" / "measures"
PAGE = ROOT / "docs" / "measures.md"

SIZES = (100, 300, 1_000, 3_000, 10_000)
LENGTHS = (5, 10, 20, 40, 60)
SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
KINDS = ("copies", "paraphrases", "templates")
FEW = 5
"""Texts that the planted ones are copies or paraphrases of, or templates that they follow."""
PLANTED = 500
CUT = 300
"""Texts of a population in the experiment on length."""
DRAWS = 3
ENOUGH = 0.9
"""Share of trials within the interval that is called stable: of 60 trials at 95 % it is missed once in 20."""


class Figure(NamedTuple):
    """A figure of a default measure of diversity."""

    name: str
    metric: str
    more: int
    """1 where higher is more diverse, -1 where lower is."""
    moved: str
    """What moves it besides diversity."""
    control: str


_N, _N_WORDS = "equal n", "equal n and words"
_EYE = "n; length, through the embedder"
_STEPS = "one of six sizes, equal words"
FIGURES = (
    *(Figure(f"distinct {k}-grams", "lexical", 1, "n, length", _N_WORDS) for k in (1, 2, 3, 4)),
    Figure("repeated 4-grams", "lexical", -1, "n, length", _N_WORDS),
    Figure("self-repetition", "lexical", -1, "n, length", _N_WORDS),
    Figure("compression ratio", "lexical", -1, "n, length, a window of 32 KB", _N_WORDS),
    Figure("expectation-adjusted distinct", "lexical", 1, "n, length (less)", _N_WORDS),
    Figure("distinct openings", "openings", 1, "n", _N),
    Figure("commonest opening", "openings", -1, "n (little)", _N),
    Figure("templated texts", "templates", -1, "length", _N_WORDS),
    Figure("foreseen words", "templates", -1, "n, length", _N_WORDS),
    Figure("near-duplicates", "near_duplicates", -1, "n; length, where texts are cut short", _N),
    Figure("exact repeats", "near_duplicates", -1, "n; length, where texts are cut short", _N),
    Figure("mean pairwise distance", "spread", 1, "length, through the embedder", "equal words"),
    Figure("mean distance within a mix", "spread", 1, "length, through the embedder", "equal words"),
    Figure("mean distance to 5 nearest", "spread", 1, _EYE, _N_WORDS),
    Figure("Vendi score", "vendi", 1, _EYE, _STEPS),
    Figure("Vendi score, q=2", "vendi", 1, _EYE, _STEPS),
    Figure("Vendi score, q=∞", "vendi", 1, "length, through the embedder", _STEPS),
    Figure("facility location", "facility", -1, _EYE, _STEPS),
    Figure("facility location of an anchor", "facility", 1, _EYE, _STEPS),
    Figure("effective groups", "clusters", 1, _EYE, _N_WORDS),
    Figure("semantic classes", "classes", 1, _EYE, _STEPS),
    Figure("largest semantic class", "classes", -1, _EYE, _STEPS),
    Figure("effective distance", "effective", 1, "length, through the embedder", "candidates of one run"),
    Figure("effective texts", "effective", 1, "n; length, where texts are cut short", "one of six sizes"),
    Figure("effective forms", "formats", 1, "length: a cut list is a line", _N),
    Figure("rare words", "tail", 1, "n, length", _N_WORDS),
    Figure("rare regions", "tail", 1, _EYE, _N_WORDS),
)
ALONE = ("lexical", "openings", "templates", "near_duplicates", "spread", "vendi", "facility", "clusters", "classes",
         "formats")  # fmt: skip
WIDEST: dict[str, dict[str, int]] = {
    "lexical": {"texts": 100_000},
    "openings": {"texts": 100_000},
    "templates": {"texts": 10_000},
    "vendi": {"texts": 10_000},
    "facility": {"texts": 10_000},
    "clusters": {"texts": 10_000},
    "classes": {"texts": 3_000},
    "effective": {"candidates": 10_000},
}
"""The settings at which a measure takes all texts, up to 10,000: what it says without our controls."""

MARK = "<!-- written by python -m docs.measures -->"
KNOWN: dict[str, tuple[str, ...]] = {
    "effective forms": ("length", "copies"),
}
"""Figure → what it fails, as docs/measures.md says."""


# ── the data ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Set:
    """A set of real texts, repeats and all."""

    name: str
    texts: Sequence[str]
    labels: Mapping[str, str]
    anchor: Sequence[str] = ()
    """Other texts of the same kind; none, where the set is too small to spare them."""
    pairs: Sequence[Pair] = ()
    """Pairs of other texts, the same where people gave them one label."""


ANCHOR = 500


def sets(data: Path = DATA) -> list[Set]:
    """The four sets, in random order by seed."""
    bank, more = _csv(data / "banking77/train.csv"), _csv(data / "banking77/test.csv")
    labels = {row["text"].strip(): row["label"] for row in bank}
    reviews = _shuffled(row["text"] for row in _csv(data / "sentiment_domains/sentiment.csv"))
    outputs = _shuffled(row["output"] for row in _lines(data / "self_instruct/multi_model_outputs.jsonl"))
    pages = _shuffled(row["text"] for row in _lines(data / "c4_demo/c4_demo.jsonl"))
    others = _shuffled(row["text"] for row in more)
    return [
        Set("banking77", _shuffled(row["text"] for row in bank), labels, others[:ANCHOR], _pairs(more)),
        Set("sentiment_domains", reviews[ANCHOR:], {}, reviews[:ANCHOR]),
        Set("self_instruct", outputs[ANCHOR:], {}, outputs[:ANCHOR]),
        Set("c4_demo", pages, {}),
    ]


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _shuffled(texts: Iterable[str]) -> list[str]:
    found = [text.strip() for text in texts if text.strip()]
    random.Random(0).shuffle(found)
    return found


def _pairs(rows: Sequence[dict[str, str]], most: int = 500) -> list[Pair]:
    """As many pairs of one label as of two."""
    rng = random.Random(1)
    found: dict[bool, list[Pair]] = {True: [], False: []}
    by: dict[str, list[str]] = {}
    for row in rows:
        by.setdefault(row["label"], []).append(row["text"])
    names = sorted(by)
    while len(found[True]) < most:
        one, other = rng.sample(names, 2)
        first, second = rng.sample(by[one], 2)
        found[True].append(Pair(first, second, same=True))
        found[False].append(Pair(rng.choice(by[one]), rng.choice(by[other]), same=False))
    return found[True] + found[False]


# ── planted collapse ────────────────────────────────────────────────────────────────────────────────────────────────

_OPENERS = ("Please,", "Hello,", "Hi there,", "Well,", "So,", "Just asking:", "To be clear,", "As said,")
_CLOSERS = ("Thanks.", "Thank you.", "That is all.", "Please advise.", "Any idea?", "As I said.", "Right?", "Cheers.")
_SWAPS = {
    "the": "this", "a": "one", "an": "one", "i": "we", "my": "our", "is": "seems", "are": "seem", "can": "could",
    "will": "would", "do": "did", "does": "did", "to": "toward", "of": "about", "for": "regarding", "and": "plus",
    "in": "within", "on": "upon", "with": "having", "but": "yet", "not": "never", "it": "that", "was": "were",
    "what": "which", "how": "by what means", "why": "for what reason", "need": "want", "get": "obtain", "use": "employ",
    "have": "hold", "that": "which", "very": "quite", "good": "fine", "bad": "poor", "film": "movie", "at": "near",
}  # fmt: skip
_FRAMES = (
    "I wanted to ask about {} because {} did not work as it should",
    "Once again the {} was better than any {} that we had before",
    "Could somebody tell me where {} and {} are to be found today",
    "It is well known that {} leads to {} in the long run",
    "Last week my {} was mixed up with {} and nobody noticed it",
)


def paraphrase(text: str, rng: random.Random) -> str:
    """The text with half of its small words swapped, two neighbours turned round, and words before or after it."""
    words = [_SWAPS[word.lower()] if word.lower() in _SWAPS and rng.random() < 0.5 else word for word in text.split()]  # noqa: PLR2004
    if len(words) > 2:  # noqa: PLR2004
        at = rng.randrange(len(words) - 1)
        words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join([*rng.sample(_OPENERS, rng.randint(0, 1)), *words, *rng.sample(_CLOSERS, rng.randint(0, 1))])


def planted(texts: Sequence[str], kind: str, share: float, seed: int) -> tuple[list[str], list[int]]:
    """The texts, a share of which gave place to planted ones, and the place of the text that each goes back to.

    What is planted at a smaller share is planted at a larger one too, and what it is made of is never replaced.
    """
    rng = random.Random(seed)
    order = rng.sample(range(len(texts)), len(texts))
    few, rest = order[:FEW], order[FEW:]
    words = sorted({word for text in texts for word in text.split() if word.isalpha()})
    made = []
    for _ in rest:
        one, frame, slots = rng.choice(few), rng.choice(_FRAMES), rng.sample(words, 2)
        changed = paraphrase(texts[one], rng)
        new = {"copies": texts[one], "paraphrases": changed, "templates": frame.format(*slots)}[kind]
        made.append((new, one))
    found, back = list(texts), list(range(len(texts)))
    for place, (new, one) in list(zip(rest, made, strict=True))[: round(share * len(texts))]:
        found[place], back[place] = new, one
    return found, back


def collapsed(base: pl.DataFrame, kind: str, share: float, seed: int) -> pl.DataFrame:
    """The table with planted texts; a copy or a paraphrase has the label of its source, and a template none has."""
    texts, back = planted(base["text"].to_list(), kind, share, seed)
    found = base[back].with_columns(text=pl.Series(texts))
    return found.select("text") if kind == "templates" else found


# ── measuring ───────────────────────────────────────────────────────────────────────────────────────────────────────


def parts(names: Iterable[str], settings: Mapping[str, dict[str, int]] | None = None) -> list[Metric]:
    """The metrics of these names."""
    found = [find("metrics", name).model_validate((settings or {}).get(name, {})) for name in names]
    return [part for part in found if isinstance(part, Metric)]


def figures(
    frames: Mapping[str, pl.DataFrame],
    names: Sequence[str] = ALONE,
    *,
    settings: Mapping[str, dict[str, int]] | None = None,
    pairs: Sequence[Pair] = (),
    more: Mapping[str, Any] | None = None,
) -> dict[str, Found]:
    """Population → figure → value and interval, all populations compared with one another as a report does."""
    layers = [name for name in ("label",) if all(name in frame.columns for frame in frames.values())]
    samples = samples_of(frames, "text", Wordllama(), pairs=pairs, layers=layers, **(more or {}))
    found: dict[str, Found] = {of: {} for of in frames}
    for one in measure(samples, parts(names, settings)):
        if one.table == "diversity" and one.value is not None:
            name = one.name + (" of an anchor" if one.name == "facility location" and "anchor" in frames else "")
            low, high = one.interval or (one.value, one.value)
            found[one.of][name] = (one.value, low, high)
    return found


def everything(
    frames: Mapping[str, pl.DataFrame],
    anchor: pl.DataFrame | None,
    pairs: Sequence[Pair] = (),
    settings: Mapping[str, dict[str, int]] | None = None,
    candidates: int = 0,
    beside: pl.DataFrame | None = None,
) -> dict[str, Found]:
    """All figures of `FIGURES` that these populations have; effective ones at so many candidates (0: all of them).

    Effective figures are of the candidates of one run, so each population is measured by itself, or with `beside`.
    """
    found = figures(frames, settings=settings, pairs=pairs)
    sizes = {of: frame.height for of, frame in frames.items()}
    if min(sizes.values()) < 200 < max(sizes.values()):  # noqa: PLR2004  (clusters need as many: without the small ones)
        larger = {of: frame for of, frame in frames.items() if sizes[of] >= 200}  # noqa: PLR2004
        for of, those in figures(larger, ("clusters",), settings=settings).items():
            found[of] |= those
    if anchor is not None:
        larger = {of: frame.select("text") for of, frame in frames.items() if sizes[of] >= 200}  # noqa: PLR2004
        for of, those in figures({**larger, "anchor": anchor.select("text")}, ("tail", "facility")).items():
            if of != "anchor":
                found[of] |= those
    for of, frame in frames.items():
        made = {"attempts": pl.DataFrame({"_kept": [True] * frame.height}), "filters": ("duplicates",)}
        at = {"effective": {"candidates": candidates}} if candidates else {**(settings or {})}
        plain = {"kept": frame.select("text"), **({"raw": beside.select("text")} if beside is not None else {})}
        found[of] |= figures(plain, ("effective",), settings=at, more=made)["kept"]
    return found


def table(one: Set, texts: Sequence[str], cut: int = 0) -> pl.DataFrame:
    """Texts, cut to so many words, with their label where the set has them."""
    said = [" ".join(text.split()[:cut]) for text in texts] if cut else list(texts)
    return pl.DataFrame({"text": said, **({"label": [one.labels[text] for text in texts]} if one.labels else {})})


class Curves(NamedTuple):
    """One set: place on the axis (n, or words) → figures, before our controls and after, draw by draw."""

    before: dict[int, Found]
    after: list[dict[int, Found]]


def by_size(one: Set, draws: int = DRAWS, sizes: Sequence[int] = SIZES) -> Curves:
    """More and more texts of one set, each larger population with all texts of the smaller."""
    anchor = table(Set("", (), {}), one.anchor[:CUT]) if one.anchor else None
    here = [size for size in sizes if size <= len(one.texts)]
    before: dict[int, Found] = {}
    after = []
    for draw in range(draws):
        drawn = random.Random(draw).sample(list(one.texts), len(one.texts))
        frames = {str(size): table(one, drawn[:size]) for size in here}
        found = everything(frames, anchor, one.pairs, candidates=here[0])
        after.append({size: found[str(size)] for size in here})
        if not draw:
            for size in here:
                alone = everything({"all": frames[str(size)]}, None, one.pairs if size <= 3_000 else (), WIDEST)  # noqa: PLR2004
                before[size] = alone["all"]
    return Curves(before, after)


def _apart(texts: Iterable[str], words: int) -> list[str]:
    """The first text of each beginning of so many words: cut there, others would be repeats, and not only shorter."""
    return list({" ".join(text.casefold().split()[:words]): text for text in reversed(list(texts))}.values())


def by_length(one: Set, draws: int = DRAWS, lengths: Sequence[int] = LENGTHS, size: int = CUT) -> Curves:
    """Texts of the set that have the most words, cut to fewer and fewer; other texts each time."""
    enough = 200  # what clusters need
    for most in (len(lengths), 3):
        here = lengths[:most]
        long = _apart([text for text in one.texts if len(text.split()) >= here[-1]], here[0])
        if len(long) >= enough:
            break
    anchor = table(Set("", (), {}), one.anchor[:size]) if one.anchor else None
    before: dict[int, Found] = {}
    after = []
    for draw in range(draws):
        rng = random.Random(draw)
        frames = {str(cut): table(one, rng.sample(long, min(size, round(0.8 * len(long)))), cut) for cut in here}
        found = everything(frames, anchor, one.pairs, beside=frames[str(here[0])])
        after.append({cut: found[str(cut)] for cut in here})
        if not draw:
            before = {cut: everything({"all": frames[str(cut)]}, None, one.pairs, WIDEST)["all"] for cut in here}
    return Curves(before, after)


def by_collapse(
    one: Set, draws: int = 2, size: int = PLANTED, shares: Sequence[float] = SHARES, kinds: Sequence[str] = KINDS
) -> dict[str, dict[float, list[Found]]]:
    """Kind of collapse → share planted → figures of each draw."""
    size = min(size, len(one.texts))
    anchor = table(Set("", (), {}), one.anchor[:size], 60) if one.anchor else None
    found: dict[str, dict[float, list[Found]]] = {kind: {share: [] for share in shares} for kind in kinds}
    for draw in range(draws):
        base = table(one, random.Random(draw).sample(list(one.texts), size), 60)
        clean = everything({"kept": base}, anchor, one.pairs)["kept"]
        for kind in kinds:
            for share in shares:
                frame = collapsed(base, kind, share, draw)
                found[kind][share].append(everything({"kept": frame}, anchor, one.pairs)["kept"] if share else clean)
    return found


# ── verdicts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def apart(one: Told, other: Told) -> tuple[float, float]:
    """How much higher the other one is, and by how much they may differ: the sides of both intervals, as a root sum."""
    gap = other[0] - one[0]
    sides = (one[2] - one[0], other[0] - other[1]) if gap >= 0 else (one[0] - one[1], other[2] - other[0])
    return gap, math.hypot(*sides) + 1e-9


def within(curves: Iterable[Curves], name: str) -> tuple[int, int]:
    """Pairs of populations of one report that differ by no more than their intervals, and all pairs."""
    right = tried = 0
    for curve in curves:
        for draw in curve.after:
            have = [found[name] for found in draw.values() if name in found]
            pairs = [apart(one, other) for one, other in combinations(have, 2)]
            tried, right = tried + len(pairs), right + sum(abs(gap) <= room for gap, room in pairs)
    return right, tried


def course(found: Mapping[float, Sequence[Found]], name: str) -> list[Told]:
    """The mean over draws at each share, with the interval of a mean; empty where a draw has no figure."""
    told = []
    for share in sorted(found):
        draws = [one[name] for one in found[share] if name in one]
        if len(draws) < len(found[share]) or not draws:
            return []
        value = sum(one[0] for one in draws) / len(draws)
        low, high = (math.sqrt(sum((one[0] - one[end]) ** 2 for one in draws)) / len(draws) for end in (1, 2))
        told.append((value, value - low, value + high))
    return told


def monotone(told: Sequence[Told], more: int) -> str:
    """`yes`, `blind` where it never leaves its interval, `wrong way`, or `not monotone`; empty without figures."""
    if not told:
        return ""
    moves = [apart(told[0], one) for one in told[1:]]
    steps = [apart(one, other) for one, other in pairwise(told)]
    if all(abs(gap) <= room for gap, room in moves):
        return "blind"
    gap, room = moves[-1]
    if -more * gap <= room:
        return "wrong way" if more * gap > room else "not monotone"
    return "yes" if all(more * gap <= room for gap, room in steps) else "not monotone"


class Verdict(NamedTuple):
    """What is said of one figure."""

    figure: Figure
    by_n: tuple[int, int]
    by_words: tuple[int, int]
    ways: dict[str, dict[str, str]]
    """Kind of collapse → set → `monotone`."""

    @property
    def faults(self) -> list[str]:
        """What it fails, of: n, length, copies."""
        found = [
            what for what, (right, tried) in (("n", self.by_n), ("length", self.by_words))
            if tried and right < ENOUGH * tried
        ]  # fmt: skip
        return [*found, *(["copies"] if any(way != "yes" for way in self.ways["copies"].values()) else [])]


class Results(NamedTuple):
    """Set → what was found."""

    size: dict[str, Curves]
    length: dict[str, Curves]
    collapse: dict[str, dict[str, dict[float, list[Found]]]]


def verdicts(results: Results) -> list[Verdict]:
    """One for each figure that was measured."""
    found = []
    for figure in FIGURES:
        ways = {
            kind: {
                of: way
                for of, kinds in results.collapse.items()
                if (way := monotone(course(kinds[kind], figure.name), figure.more))
            }
            for kind in KINDS
        }
        by_n = within(results.size.values(), figure.name)
        by_words = within(results.length.values(), figure.name)
        if by_n[1] or by_words[1] or any(ways.values()):
            found.append(Verdict(figure, by_n, by_words, ways))
    return found


# ── plots ───────────────────────────────────────────────────────────────────────────────────────────────────────────

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito's: told apart by the colour-blind too."""
WIDE, HIGH, ACROSS = 212, 132, 5


class Line(NamedTuple):
    """A curve: places on the axis, values, and the ends of intervals where there are any."""

    at: Sequence[float]
    told: Sequence[Told]
    colour: int
    plain: bool = False
    """Dashed and without a band: before our controls."""


def plot(panels: Sequence[tuple[str, Sequence[Line]]], legend: Sequence[str], ticks: Sequence[str], note: str) -> str:
    """An SVG of small panels; places on the axis are 0, 1, 2, …, and `ticks` name them. Equal input, equal bytes."""
    rows = -(-len(panels) // ACROSS)
    width, height = ACROSS * WIDE, rows * HIGH + 40
    font = 'font-family="sans-serif" font-size="10"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font}>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    left = 10.0
    for place, name in enumerate(legend):
        out.append(f'<line x1="{left:.0f}" x2="{left + 18:.0f}" y1="14" y2="14" stroke="{COLOURS[place]}" '
                   f'stroke-width="2"/><text x="{left + 22:.0f}" y="18">{html.escape(name)}</text>')  # fmt: skip
        left += 40 + 6 * len(name)
    out.append(f'<text x="{left:.0f}" y="18" fill="#666">{html.escape(note)}</text>')
    for number, (title, lines) in enumerate(panels):
        x, y = number % ACROSS * WIDE + 40, number // ACROSS * HIGH + 44
        out += _panel(title, lines, ticks, x, y)
    return "\n".join([*out, "</svg>", ""])


def _panel(title: str, lines: Sequence[Line], ticks: Sequence[str], x: int, y: int) -> list[str]:
    across, down = WIDE - 52, HIGH - 48
    ends = [end for line in lines for one in line.told for end in (one[:1] if line.plain else one)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    if high - low < 1e-6:  # noqa: PLR2004  (a flat line stands in the middle)
        low, high = low - 0.5, high + 0.5

    def point(at: float, value: float) -> str:
        return f"{x + at / (len(ticks) - 1) * across:.1f},{y + (high - value) / (high - low) * down:.1f}"

    out = [
        f'<text x="{x}" y="{y - 6}" font-weight="bold">{html.escape(title)}</text>',
        f'<path d="M{x},{y}V{y + down}H{x + across}" fill="none" stroke="#bbb"/>',
        *(
            f'<text x="{x - 4}" y="{at}" text-anchor="end" fill="#666">{_short(value)}</text>'
            for value, at in ((high, y + 8), (low, y + down))
        ),
        *(
            f'<text x="{x + place / (len(ticks) - 1) * across:.1f}" y="{y + down + 12}" text-anchor="middle" '
            f'fill="#666">{tick}</text>'
            for place, tick in enumerate(ticks)
        ),
    ]
    for line in lines:
        colour = COLOURS[line.colour]
        if not line.plain:
            there = list(zip(line.at, line.told, strict=True))
            band = [point(at, one[2]) for at, one in there] + [point(at, one[1]) for at, one in reversed(there)]
            out.append(f'<polygon points="{" ".join(band)}" fill="{colour}" fill-opacity="0.15"/>')
        path = " ".join(point(at, one[0]) for at, one in zip(line.at, line.told, strict=True))
        dash = ' stroke-dasharray="4 3" stroke-opacity="0.7"' if line.plain else ""
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>')
    return out


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"  # noqa: PLR2004


def _before_and_after(curves: Mapping[str, Curves], places: Sequence[int], note: str) -> str:
    panels = []
    for figure in FIGURES:
        lines = []
        for colour, curve in enumerate(curves.values()):
            for plain, draw in ((True, curve.before), (False, curve.after[0])):
                have = [at for at in places if figure.name in draw.get(at, {})]
                if len(have) > 1:
                    told = [draw[at][figure.name] for at in have]
                    lines.append(Line([float(places.index(at)) for at in have], told, colour, plain))
        if lines:
            panels.append((figure.name, lines))
    return plot(panels, list(curves), [f"{at // 1000}k" if at >= 1_000 else str(at) for at in places], note)  # noqa: PLR2004


def _collapses(results: Results, kind: str) -> str:
    panels = []
    for figure in FIGURES:
        lines = []
        for colour, kinds in enumerate(results.collapse.values()):
            told = course(kinds[kind], figure.name)
            if told:
                lines.append(Line([float(place) for place in range(len(told))], told, colour))
        if lines:
            panels.append((figure.name, lines))
    ticks = [f"{share:.0%}" for share in SHARES]
    return plot(panels, list(results.collapse), ticks, f"share of texts that are {kind}; band: interval of the mean")


def plots(results: Results) -> dict[str, str]:
    """File name → SVG."""
    dashed = "dashed: the formula on all texts; line and band: after our controls, with its interval"
    return {
        "size.svg": _before_and_after(results.size, SIZES, f"texts; {dashed}"),
        "length.svg": _before_and_after(results.length, LENGTHS, f"words a text; {dashed}"),
        **{f"{kind}.svg": _collapses(results, kind) for kind in KINDS},
    }


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────


def begun(found: Mapping[int, Found], name: str) -> str:
    """`0.36 → 0.04`: the figure at the first place of the axis that has it, and at the last."""
    have = [at for at in found if name in found[at]]
    return f"{_short(found[have[0]][name][0])} → {_short(found[have[-1]][name][0])}" if len(have) > 1 else "–"


def said(way: Mapping[str, str]) -> str:
    """`yes`, or what it is in which sets."""
    kinds = dict.fromkeys(way.values())
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{kind} ({', '.join(of for of in way if way[of] == kind)})" for kind in kinds) or "–"


def stable(counts: tuple[int, int]) -> str:
    """`yes (57 of 60)`."""
    right, tried = counts
    return f"{'yes' if right >= ENOUGH * tried else '**no**'} ({right} of {tried})" if tried else "–"


def tables(results: Results, given: Sequence[Verdict]) -> str:
    """The two tables of docs/measures.md."""
    lines = [
        "| figure | what else moves it | our control | stable in n? | in length? | copies | paraphrases | templates |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in given:
        ways = [said(one.ways[kind]) for kind in KINDS]
        if "copies" in one.faults:
            ways[0] = f"**{ways[0]}**"
        cells = (one.figure.name, one.figure.moved, one.figure.control, stable(one.by_n), stable(one.by_words), *ways)
        lines.append(f"| {' | '.join(cells)} |")
    bank, web = results.size["banking77"], results.length["self_instruct"]
    lines += [
        "",
        f"| figure | {SIZES[0]} → {SIZES[-1]:,} texts | controlled | {LENGTHS[0]} → {LENGTHS[-1]} words | controlled |",
        "|---|---|---|---|---|",
    ]
    for one in given:
        name = one.figure.name
        cells = (name, begun(bank.before, name), begun(bank.after[0], name), begun(web.before, name),
                 begun(web.after[0], name))  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict_lines(given: Sequence[Verdict]) -> list[str]:
    """What is printed: PASS, or FAIL with what of, or KNOWN where docs/measures.md says so."""
    lines = []
    for one in given:
        new = sorted(set(one.faults) - set(KNOWN.get(one.figure.name, ())))
        word = "FAIL" if new else "KNOWN" if one.faults else "PASS"
        what = f"  fails: {', '.join(one.faults)}" if one.faults else ""
        (n, trials), (words, others) = one.by_n, one.by_words
        copies = said(one.ways["copies"])
        lines.append(f"{word:5}  {one.figure.name:32} n {n}/{trials}  length {words}/{others}  copies {copies}{what}")
    return lines


def collect(data: Path = DATA) -> Results:
    """Everything; some five minutes of one core."""
    found = Results({}, {}, {})
    for one in sets(data):
        for what, make in ((found.size, by_size), (found.length, by_length), (found.collapse, by_collapse)):
            what[one.name] = make(one)  # type: ignore[assignment]
            sys.stderr.write(f"{one.name}: {make.__name__} done\n")
    return found


def write(results: Results) -> int:
    """Write plots and tables, print the verdicts; 1 where one is new."""
    TARGET.mkdir(exist_ok=True)
    for name, svg in plots(results).items():
        (TARGET / name).write_text(svg, encoding="utf-8")
    given = verdicts(results)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    _, _, after = rest.partition(MARK)
    PAGE.write_text(f"{before}{MARK}\n{tables(results, given)}\n{MARK}{after}", encoding="utf-8")
    lines = verdict_lines(given)
    sys.stdout.write("\n".join(lines) + "\n")
    return int(any(line.startswith("FAIL") for line in lines))


def main() -> int:
    """Measure, write, judge."""
    if not DATA.exists():
        sys.stderr.write(f"no {DATA}: nothing to measure, nothing written\n")
        return 2
    return write(collect())


if __name__ == "__main__":
    sys.exit(main())
