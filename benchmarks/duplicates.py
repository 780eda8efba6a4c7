"""What the filter `duplicates` finds at which threshold, and how fast: `python -m benchmarks.duplicates`.

With `../shared/data/banking77` beside the project, 500 duplicates are planted among 10,003 real messages, 100 at each
of five distances, and the filter judges all of them. Recall: the share of plants that are dropped as repeats of a
message of their own intent. Precision, below it: such plants among themselves and the real messages that are dropped
as repeats of a message of another intent; many of these pairs do say the same, and were labelled differently. Real
messages dropped as repeats of one of the same intent are counted apart: people wrote them twice. Then 100,000 made
texts for time and memory, each stage in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import random
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from qdcgen import nearness
from qdcgen.errors import MissingExtra
from qdcgen.filters.duplicates import Duplicates
from qdcgen.intervals import wilson
from qdcgen.likeness import normal
from qdcgen.parts import Embedder, Tools, find
from qdcgen.rows import Cell, Row, Verdict

REAL = Path(__file__).parent.parent.parent / "shared" / "data" / "banking77" / "train.csv"
EACH = 100
LETTERS = (0.7, 0.8, 0.9)
MEANING = {"wordllama": (0.85, 0.9, 0.93, 0.95, 0.97), "bge": (0.93, 0.95, 0.96, 0.97, 0.98)}
DISTANCES = ("same", "typo", "word", "order", "phrase")

# ── plants ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SYNONYMS = {
    "card": "bank card", "money": "funds", "transfer": "payment", "transferred": "sent", "fee": "charge",
    "charged": "billed", "top up": "top-up", "top-up": "top up", "account": "bank account", "atm": "cash machine",
    "cash": "notes", "purchase": "payment", "payment": "transaction", "refund": "money back", "declined": "refused",
    "wrong": "incorrect", "get": "receive", "help": "assist", "need": "require", "want": "would like",
    "why": "how come", "lost": "misplaced", "stolen": "taken", "new": "fresh", "pending": "waiting",
    "verify": "confirm", "app": "application", "phone": "mobile", "currency": "money", "still": "even now",
    "exchange rate": "conversion rate", "not working": "broken", "long": "much time", "withdrawal": "cash withdrawal",
    "arrive": "come", "arrived": "come", "can": "could",
    "how do i": "what is the way to", "where": "at which place", "identity": "ID", "topped up": "added money to",
}  # fmt: skip
SHORTER = {
    "i am": "I'm", "it is": "it's", "do not": "don't", "does not": "doesn't", "did not": "didn't", "can not": "can't",
    "cannot": "can't", "what is": "what's", "i have": "I've", "is not": "isn't", "was not": "wasn't", "i would": "I'd",
    "has not": "hasn't", "have not": "haven't", "there is": "there's",
}  # fmt: skip
LONGER = {short.lower(): long for long, short in SHORTER.items()}
OPENINGS = (
    (r"^(how do i|how can i|how to) (.+?)\?*$", "I would like to know how to {1}."),
    (r"^(can|could) i (.+?)\?*$", "I want to know whether I may {1}."),
    (r"^(can|could) you (.+?)\?*$", "Please {1}."),
    (r"^(what is|what's|what are) (.+?)\?*$", "Tell me {1}, please."),
    (r"^why (.+?)\?*$", "I do not see the reason why {0}."),
    (r"^(i need|i want|i would like) (.+?)\.*$", "Could I have help? {0} {1}?"),
    (r"^(my .+?)\.*$", "Hello, there is a problem: {0}."),
    (r"^(.+?)\?+$", "I have a question: {0}."),
    (r"^(.+?)\.*$", "Hello, about this: {0}, can you help?"),
)


def swapped(text: str, table: dict[str, str], most: int, rng: random.Random) -> str:
    """The text with up to `most` of its words changed by a table."""
    there = [old for old in table if re.search(rf"\b{re.escape(old)}\b", text, re.IGNORECASE)]
    for old in rng.sample(there, min(most, len(there))):
        text = re.sub(rf"\b{re.escape(old)}\b", lambda _, new=table[old]: new, text, count=1, flags=re.IGNORECASE)
    return text


def same(text: str, rng: random.Random) -> str:
    """Other case, other spaces, or another full stop: only this last is not exact after normalising."""
    change = rng.randrange(3)
    if change == 0:
        return text.upper() if rng.random() < 0.5 else text.swapcase()
    return f"  {text.replace(' ', '  ')}\n" if change == 1 else f"{text}."


def typo(text: str, rng: random.Random) -> str:
    at = rng.choice([place for place, letter in enumerate(text) if letter.isalpha()])
    return rng.choice([text[:at] + text[at + 1 :], text[:at] + text[at] + text[at:], text[:at] + "x" + text[at + 1 :]])


def one_word(text: str, rng: random.Random) -> str:
    words = text.split()
    at = rng.randrange(len(words))
    words[at : at + 1] = rng.choice([[], ["please"], [words[at], "really"]])
    return " ".join(words)


def order(text: str, rng: random.Random) -> str:
    """Two neighbouring words or the two halves of the message change places, or one word gives way to a synonym."""
    if rng.random() < 0.5 and (changed := swapped(text, SYNONYMS, 1, rng)) != text:
        return changed
    words = text.rstrip("?.! ").split()
    if rng.random() < 0.5:
        half = len(words) // 2
        return " ".join(words[half:] + words[:half])
    at = rng.randrange(len(words) - 1)
    words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def phrase(text: str, rng: random.Random) -> str:
    """Question to statement or back, then contractions and up to three synonyms."""
    for pattern, made in OPENINGS:
        if found := re.match(pattern, text.strip().replace("\n", " "), re.IGNORECASE):
            text = made.format(*found.groups())
            break
    text = swapped(text, SYNONYMS, 3, rng)
    return swapped(swapped(text, LONGER, 1, rng), SHORTER, 1, rng)


RULES = {"same": same, "typo": typo, "word": one_word, "order": order, "phrase": phrase}


def planted() -> list[tuple[str, str, str]]:
    """(text, intent, distance) of every message, distance empty for a real one; plants last."""
    with REAL.open(newline="") as file:
        real = [(row["text"], row["label"], "") for row in csv.DictReader(file)]
    rng = random.Random(77)
    sources = rng.sample([one for one in real if len(one[0].split()) >= 5], EACH * len(DISTANCES))
    plants = [
        (RULES[distance](text, rng), label, distance)
        for number, distance in enumerate(DISTANCES)
        for text, label, _ in sources[number * EACH : (number + 1) * EACH]
    ]
    return real + plants


# ── what is found ───────────────────────────────────────────────────────────────────────────────────────────────────


def rows_of(texts: list[str]) -> list[Row]:
    return [Row(Cell(f"{number:016x}", {}, number, number), {"text": text}) for number, text in enumerate(texts)]


def judged(part: Duplicates, rows: list[Row], tools: Tools, batch: int = 100) -> list[Verdict]:
    async def all_of_them() -> list[Verdict]:
        found: list[Verdict] = []
        for start in range(0, len(rows), batch):
            found += await part.judge(rows[start : start + batch], tools)
        return found

    return asyncio.run(all_of_them())


class Looked:
    """An embedder that has embedded all texts already: only its name and its vectors matter here."""

    def __init__(self, part: Embedder, texts: list[str]) -> None:
        texts = sorted(set(map(normal, texts)))
        self.label = part.label
        one_by_one = nearness.alone(part.embed)
        begin = time.perf_counter()
        self.part, self.at = (
            part,
            dict(zip(texts, nearness.vectors(part.embed, texts, one_by_one=one_by_one), strict=True)),
        )
        took = time.perf_counter() - begin
        print(f"\n{self.label}: {len(texts):,} texts embedded {'one by one ' * one_by_one}in {took:.0f} s")

    def embed(self, texts: Any) -> Any:
        import numpy as np

        known = all(text in self.at for text in texts)
        return np.stack([self.at[text] for text in texts]) if known else self.part.embed(texts)


def share(hits: int, n: int) -> str:
    low, high = wilson(hits, n) or (0, 0)
    return f"{hits / n:.2f} {low:.2f}–{high:.2f}" if n else "–"


def line(name: str, part: Duplicates, all_of_them: list[tuple[str, str, str]], tools: Tools, listed: int = 0) -> None:
    verdicts = judged(part, rows_of([text for text, _, _ in all_of_them]), tools)
    found = dict.fromkeys(DISTANCES, 0)
    false, alike, elsewhere = [], [], 0
    for (text, label, distance), verdict in zip(all_of_them, verdicts, strict=True):
        if verdict.kept:
            continue
        other = all_of_them[int(verdict.reason.split()[2].rstrip(","), 16)]
        if distance:
            found[distance] += other[1] == label
            elsewhere += other[1] != label
        else:
            (alike if other[1] == label else false).append((verdict.score or 0, text, other[0]))
    hits = sum(found.values())
    recalls = "".join(f"{share(found[one], EACH):>16}" for one in DISTANCES)
    print(f"{name:<16}{recalls}{share(hits, hits + len(false) + elsewhere):>16}{len(false):>7}{len(alike):>7}")
    right = "".join(f"{share(found[one], found[one] + len(false)):>16}" for one in DISTANCES)
    print(f"  {'precision':<14}{right}")
    for kind, some in (("another intent", false), ("same intent", alike)):
        for score, text, other in random.Random(1).sample(some, min(listed, len(some))):
            print(f"    {kind}, {score:.2f}: {text.strip()[:80]!r} repeats {other.strip()[:80]!r}")


def truth(listed: int) -> None:
    if not REAL.is_file():
        print(f"recall and precision on bank messages: not measured, {REAL} is not there")
        return
    all_of_them = planted()
    texts = list(dict.fromkeys(text for text, _, _ in all_of_them))
    real = sum(not distance for _, _, distance in all_of_them)
    print(f"{real:,} real messages, {EACH} plants at each distance; shares with their 95 % intervals (Wilson)")
    print("false: real messages dropped as repeats of another intent; twice: of the same intent")
    head = f"{'stage':<16}" + "".join(f"{one:>16}" for one in DISTANCES) + f"{'precision':>16}{'false':>7}{'twice':>7}"
    print(head)
    line("exact", Duplicates(similarity=1), all_of_them, Tools())
    for threshold in LETTERS:
        line(
            f"letters {threshold}", Duplicates(similarity=threshold), all_of_them, Tools(), listed * (threshold == 0.8)
        )
    for name, thresholds in MEANING.items():
        part = find("embedders", name)()
        assert isinstance(part, Embedder)
        try:
            embedder = Looked(part, texts)
        except MissingExtra as error:
            print(f"{name}: {error}")
            continue
        print(head)
        for threshold in thresholds:
            some = listed * (threshold == thresholds[2])
            part_ = Duplicates(similarity=1, meaning=threshold)
            line(f"meaning {threshold}", part_, all_of_them, Tools(embed=embedder.embed), some)
        line("letters+meaning", Duplicates(meaning=thresholds[2]), all_of_them, Tools(embed=embedder.embed))


# ── how fast ────────────────────────────────────────────────────────────────────────────────────────────────────────


def made(n: int) -> list[str]:
    """Texts of 8 to 16 words from the vocabulary of the messages; every tenth nearly repeats one before it."""
    words = (
        REAL.read_text().lower().split()
        if REAL.is_file()
        else [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "nrst"]
    )
    known = sorted({word for word in words if word.isalpha()})
    rng = random.Random(5)
    texts: list[str] = []
    for number in range(n):
        if number % 10 == 9:
            texts.append(f"{rng.choice(texts)}.")
        else:
            texts.append(" ".join(rng.choices(known, k=rng.randint(8, 16))))
    return texts


def speed(stage: str, n: int, batch: int) -> None:
    rows = rows_of(made(n))
    spent = 0.0
    part = find("embedders", "wordllama")()
    assert isinstance(part, Embedder)

    def embed(texts: Any) -> Any:
        nonlocal spent
        begin = time.perf_counter()
        found = part.embed(texts)
        spent += time.perf_counter() - begin
        return found

    filter_ = {
        "exact": Duplicates(similarity=1),
        "letters": Duplicates(),
        "meaning": Duplicates(similarity=1, meaning=0.97),
        "all": Duplicates(meaning=0.97),
    }[stage]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin = time.perf_counter()
    verdicts = judged(filter_, rows, Tools(embed=embed), batch)
    took = time.perf_counter() - begin - spent
    begin = time.perf_counter()
    kept = [row for row, verdict in zip(rows, verdicts, strict=True) if verdict.kept]
    spent_before, spent = spent, 0.0
    judged(filter_, rows[:1], Tools(embed=embed, kept=lambda: kept))
    resumed = time.perf_counter() - begin - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    dropped = len(rows) - len(kept)
    print(
        f"{stage:<9}{batch:>7}{took:>9.1f}{spent_before:>11.1f}{resumed:>10.1f}{before:>9.0f}{peak:>9.0f}{dropped:>9,}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--listed", type=int, default=4)
    parser.add_argument("--stage", choices=["exact", "letters", "meaning", "all"])
    parser.add_argument("--batch", type=int, default=100)
    chosen = parser.parse_args()
    if chosen.stage:
        speed(chosen.stage, chosen.texts, chosen.batch)
        return
    truth(chosen.listed)
    print(f"\n{chosen.texts:,} made texts of 8 to 16 words, wordllama; times in s beyond embedding, memory in MiB")
    print(
        f"{'stage':<9}{'batch':>7}{'s':>9}{'embedding':>11}{'resuming':>10}{'before':>9}{'peak':>9}{'dropped':>9}",
        flush=True,
    )
    for stage, batch in (
        ("exact", 100),
        ("letters", 100),
        ("letters", 16),
        ("meaning", 100),
        ("meaning", 16),
        ("all", 16),
    ):
        command = [sys.executable, "-m", "benchmarks.duplicates", "--stage", stage]
        subprocess.run([*command, "--batch", str(batch), "--texts", str(chosen.texts)], check=True)


if __name__ == "__main__":
    main()
