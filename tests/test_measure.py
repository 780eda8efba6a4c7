"""Populations share one embedding pass and are compared at equal size; every number can be defended."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from qdcgen.embedders.wordllama import Wordllama
from qdcgen.errors import UsageError
from qdcgen.landing import Reading
from qdcgen.measure import (
    METRICS,
    measure,
    sample_of,
    sample_of_file,
    samples_of,
    samples_of_file,
    speaking_of,
    text_of,
)
from qdcgen.parts import Embedder, Metric, Sample, find
from qdcgen.rows import Measure, Node, Taxonomy
from qdcgen.same import Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SYLLABLES = ["ba", "do", "fi", "gu", "ke", "lo", "mi", "nu", "pa", "re", "si", "to"]


class Counting(Embedder):
    """Letters counted, and every text asked for written down."""

    @property
    def label(self) -> str:
        return "letters 1"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        ASKED.extend(texts)
        vectors = np.array(
            [[1 + text.count(letter) for letter in "abcdefgimnoprst"] for text in texts], dtype=np.float32
        )
        vectors = vectors.reshape(len(texts), 15)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


ASKED: list[str] = []


def texts(n: int, seed: int = 0, words: int = 14) -> list[str]:
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(400)]
    return [" ".join(rng.choices(vocabulary, k=words)) + "." for _ in range(n)]


def frame(n: int, seed: int = 0) -> pl.DataFrame:
    rng = random.Random(seed)
    return pl.DataFrame({
        "text": texts(n, seed),
        "topic": [rng.choice(["cards/lost", "cards/pin", "transfers"]) for _ in range(n)],
        "mood": [rng.choice(["calm", "angry"]) for _ in range(n)],
        "_complexity": [rng.choice([None, "hard"]) for _ in range(n)],
    }, schema={"text": pl.String, "topic": pl.String, "mood": pl.String, "_complexity": pl.String})  # fmt: skip


TOPIC = Taxonomy(
    "topic",
    (
        Node("cards", "cards", "cards", 0),
        Node("cards/lost", "lost", "cards/lost", 1, "cards"),
        Node("cards/pin", "pin", "cards/pin", 1, "cards"),
        Node("transfers", "transfers", "transfers", 0),
        Node("loans", "loans", "loans", 0),
    ),
)


ELSEWHERE = (
    "by_writer",
    "rejected",
    "rated",
    "rating",
    "pass_rate",
    "solve",
    "ifd",
    "alike",
    "plain",
    "easy",
    "medium",
    "rare_leaves",
)
"""Parts of gate keys that need what is not here: several writers, what a critic or a solver answered, bands."""


def every_metric() -> list[Metric]:
    found = [find("metrics", name)() for name in METRICS]
    return [part for part in found if isinstance(part, Metric)]


def defended(found: list[Measure]) -> None:
    for one in found:
        numbers = [one.value, one.control, *(one.interval or ())]
        assert all(x is None or math.isfinite(x) for x in numbers), one
        if one.value is None:
            assert one.note, one
            continue
        low, high = one.range
        assert low <= one.value <= high, one
        if one.interval is not None:
            assert low <= one.interval[0] <= one.value + 1e-9, one
            assert one.value - 1e-9 <= one.interval[1] <= high, one
        else:
            asked = one.note.startswith("asked for, not measured")  # an exact count, as in the table of coverage
            assert one.table == "coverage" or asked, one


def full(table: pl.DataFrame, of: str = "kept") -> Sample:
    read = {"field": "mood", "drawn": "calm", "read": "angry"}
    attempts = table.select(_kept=pl.lit(value=True), _labels=pl.lit([read])) if table.height else None
    return sample_of(
        table,
        "text",
        Wordllama(),
        of=of,
        taxonomies={"topic": TOPIC},
        layers=["mood"],
        attempts=attempts,
        surprisal=lambda some: [(2.0 * len(text), len(text)) for text in some],
    )


@pytest.mark.parametrize("n", [0, 1, 2, 5, 6, 19, 20, 29, 30, 199, 200, 400])
def test_every_measure_of_any_size_is_finite_in_range_and_sure(n: int) -> None:
    found = measure([full(frame(n))], every_metric())
    defended(found)
    assert {one.table for one in found} == {"coverage", "diversity", "complexity", "quality"}
    assert all(one.embedder for one in found if one.name.startswith(("Vendi", "mean", "effective groups")))


@pytest.mark.parametrize("text", ["", "the same text every time, again and again"])
def test_texts_that_are_all_equal_give_the_least_of_everything(text: str) -> None:
    table = frame(250).with_columns(text=pl.lit(text))
    found = measure([full(table)], every_metric())
    defended(found)
    said = {one.name: one.value for one in found}
    assert said["mean pairwise distance"] == pytest.approx(0, abs=1e-6)
    assert said["Vendi score"] == pytest.approx(1)
    assert said["near-duplicates"] == pytest.approx(249 / 250)
    assert said["effective groups"] == 1


def test_the_order_of_rows_changes_nothing() -> None:
    table = frame(300)
    one = measure([full(table)], every_metric())
    other = measure([full(table.sample(fraction=1.0, shuffle=True, seed=5))], every_metric())
    for a, b in zip(one, other, strict=True):
        assert (a.name, a.axis, a.n, a.missing) == (b.name, b.axis, b.n, b.missing)
        assert (a.value is None) == (b.value is None)
        if a.value is not None and b.value is not None:
            assert a.value == pytest.approx(b.value, rel=1e-5), a.name


def test_the_same_sample_gives_the_same_measures() -> None:
    sample = full(frame(300))
    assert measure([sample], every_metric()) == measure([sample], every_metric())


def test_every_distinct_text_is_embedded_once_for_all_populations() -> None:
    ASKED.clear()
    raw = pl.concat([frame(60), frame(60)])
    samples = samples_of({"raw": raw, "kept": raw.head(40)}, "text", Counting())
    assert ASKED == []
    measure(samples, every_metric())
    assert sorted(ASKED) == sorted(set(raw["text"]))
    direct = Counting().embed(raw["text"].to_list())
    assert np.array_equal(samples[0].vectors(), direct)
    assert np.array_equal(samples[1].vectors(), direct[:40])


def test_populations_are_compared_at_the_size_of_the_smallest_large_enough() -> None:
    raw = frame(400)
    samples = samples_of({"raw": raw, "kept": raw.head(150), "anchor": raw.head(7)}, "text", Wordllama())
    found = measure(samples, every_metric())
    sized = {(one.of, one.name): one.n for one in found}
    assert sized["raw", "near-duplicates"] == sized["kept", "near-duplicates"] == 150
    assert sized["raw", "Vendi score"] == sized["kept", "Vendi score"] == 100
    small = next(one for one in found if one.of == "anchor" and one.name == "near-duplicates")
    assert small.value is None
    assert small.note == "too few: 7 texts, needs 150"


def test_longer_texts_do_not_look_more_repetitive_than_shorter_ones() -> None:
    short, long = (pl.DataFrame({"text": [one.strip(".") for one in texts(200, 1, words)]}) for words in (10, 60))
    samples = samples_of({"raw": long, "kept": short}, "text", Wordllama())
    found = {(one.of, one.name): one.value for one in measure(samples, every_metric())}
    assert found["raw", "distinct 1-grams"] == pytest.approx(found["kept", "distinct 1-grams"], rel=0.05)


def test_repeats_at_the_same_size_never_raise_diversity() -> None:
    fresh = texts(300)
    repeated = fresh[:150] * 2
    one, other = (
        {m.name: m.value for m in measure([sample_of(pl.DataFrame({"text": t}), "text", Wordllama())], every_metric())}
        for t in (fresh, repeated)
    )
    for name in ("distinct 1-grams", "distinct 2-grams", "Vendi score", "mean distance to 5 nearest"):
        a, b = one[name], other[name]
        assert a is not None
        assert b is not None
        assert b <= a, name
    assert other["near-duplicates"] == pytest.approx(0.5, abs=0.01)


def test_a_gate_key_finds_its_measures() -> None:
    found = measure([full(frame(100))], every_metric())
    assert [one.name for one in speaking_of(found, "coverage", "leaves")] == ["leaves"]
    assert [one.name for one in speaking_of(found, "diversity", "near_duplicates")] == ["near-duplicates"]
    assert [one.of for one in speaking_of(found, "quality", "accepted")] == ["raw"]
    assert speaking_of(found, "diversity", "leaves") == []


def test_every_gate_key_that_a_metric_offers_finds_a_measure_of_it() -> None:
    for part in every_metric():
        found = measure([full(frame(300))], [part])
        found += measure([replace(full(frame(300)), taxonomies={})], [part])
        three = frame(300).with_columns(tone=pl.col("mood"), size=pl.int_range(300))
        more = {"taxonomies": {"topic": TOPIC}, "layers": ["mood", "tone", "size"], "reading": Reading()}
        found += measure([sample_of(three, "text", Wordllama(), **more)], [part])
        pairs = [Pair(text, text.upper() if i % 2 else "nothing of it", i % 2 == 1) for i, text in enumerate(texts(40))]
        tried = three.select(_kept=pl.lit(value=True), _filter=pl.lit("x"), _state=pl.lit("accepted"), _reason=None)
        more = {"pairs": pairs, "attempts": tried, "filters": ["length"]}
        found += measure([sample_of(three, "text", Wordllama(), **more)], [part])
        beside = {"kept": three, "anchor": three.head(250)}
        more = {"taxonomies": {"topic": TOPIC}, "reading": Reading()}
        found += measure(samples_of(beside, "text", Wordllama(), **more), [part])
        keys = {key for key in type(part).gates if not any(word in key for word in ELSEWHERE)}
        if part == find("metrics", "formats")():  # a form that no text has gets no line
            keys = {"effective_forms"}
        for key in keys:
            assert speaking_of(found, type(part).table, key), key


def test_a_foreign_table_is_measured_on_its_own_columns() -> None:
    table = frame(60).rename({"text": "instruction", "topic": "kind"}).with_columns(year=pl.Series([2020, None] * 30))
    sample = sample_of_file(table, None, Wordllama(), of="data.jsonl", axes=["kind", "year"])
    found = measure([sample], every_metric())
    defended(found)
    assert [(one.axis, one.value, one.n) for one in found if one.name == "values present"] == [
        ("kind", 3.0, 60),
        ("year", 1.0, 30),
    ]


def test_rows_without_text_are_left_out_and_turns_are_joined() -> None:
    table = pl.DataFrame({"text": ["a", None, "b"], "n": [1, 2, 3]})
    sample = sample_of(table, "text", Wordllama())
    assert list(sample.texts) == ["a", "b"]
    assert sample.frame["n"].to_list() == [1, 3]
    turns = pl.DataFrame({"messages": [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]]})
    assert list(sample_of(turns, "messages", Wordllama()).texts) == ["hi\nyes"]


def test_a_column_that_cannot_be_measured_is_named() -> None:
    table = frame(3).with_columns(n=pl.lit(1))
    with pytest.raises(UsageError, match="no column 'txt'; did you mean 'text'"):
        sample_of(table, "txt", Wordllama())
    with pytest.raises(UsageError, match="the column 'n' holds Int32, not text"):
        sample_of(table, "n", Wordllama())
    with pytest.raises(UsageError, match="no column 'moood'; did you mean 'mood'"):
        sample_of_file(table, "text", Wordllama(), of="x", axes=["moood"])
    assert text_of(table) == "text"
    with pytest.raises(UsageError, match="which column is the text"):
        text_of(pl.DataFrame({"a": ["one two"], "b": ["two one"]}))
    with pytest.raises(UsageError, match="no column holds text"):
        text_of(pl.DataFrame({"a": [1]}))


def test_figures_at_equal_size_are_drawn_by_seed() -> None:
    sample = replace(full(frame(300)), equal_n=100)
    assert measure([sample], every_metric()) != measure([replace(sample, seed=1)], every_metric())


# ── equal words for what moves with length through the embedder ─────────────────────────────────────────────────────


class Watched(Embedder):
    """wordllama, which writes down how many texts it was given."""

    @property
    def label(self) -> str:
        return Wordllama().label

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        ASKED.extend(texts)
        return Wordllama().embed(texts)


def of_lengths(*lengths: int, n: int = 300) -> list[Sample]:
    rng = random.Random(5)
    words = [f"{a}{b}" for a in ("card", "loan", "pin", "rate", "fee") for b in "abcdefghijklmnop"]
    made = [" ".join(rng.choices(words, k=40)) for _ in range(n * len(lengths))]
    frames = {
        f"{place} of {length}": pl.DataFrame(
            {"text": [" ".join(text.split()[:length]) for text in made[place :: len(lengths)]]}
        )
        for place, length in enumerate(lengths)
    }
    return samples_of(frames, "text", Watched())


def made(name: str) -> Metric:
    part = find("metrics", name)()
    assert isinstance(part, Metric)
    return part


def test_populations_of_other_lengths_are_compared_at_equal_words() -> None:
    names = [name for name in METRICS if made(name).evened]
    assert {"spread", "vendi", "clusters", "facility"} <= set(names)
    told: dict[str, list[Measure]] = {}
    for one in measure(of_lengths(6, 30), [made(name) for name in names]):
        if one.value is not None:
            assert one.note.endswith("; at 6.0 words a text")
            told.setdefault(one.name, []).append(one)
    assert {"Vendi score", "mean pairwise distance", "mean distance to 5 nearest"} <= set(told)
    for name, (one, other) in told.items():
        assert one.value is not None
        assert other.value is not None
        widths = [(high - low) / 2 for low, high in (one.interval or (0, 0), other.interval or (0, 0))]
        assert abs(one.value - other.value) <= 1.5 * math.hypot(*widths), name
    uncut = measure(of_lengths(30), [made("spread")])[0].value
    equal = told["mean pairwise distance"][0].value
    assert uncut is not None
    assert equal is not None
    assert uncut < equal - 0.02, "uncut, longer texts lie nearer"


def test_populations_of_like_length_are_embedded_once() -> None:
    ASKED.clear()
    measure(of_lengths(30, 30), [made("spread"), made("vendi")])
    assert len(ASKED) == 600


@pytest.mark.parametrize("other", ["a card of mine", "https://example.org/somewhere", " "])
def test_distinct_texts_are_no_copies_beside_a_shorter_population(other: str) -> None:
    opening = "the customer writes to us about one of the many things that"
    rows = pl.DataFrame({"text": [f"{opening} {text}" for text in texts(200)]})
    short = pl.DataFrame({"text": [f"{other}{n % 9}".strip() if other.strip() else other for n in range(200)]})
    samples = samples_of({"rows": rows, "anchor": short}, "text", Watched())
    found = {(one.of, one.name): one.value for one in measure(samples, [made("near_duplicates"), made("spread")])}
    assert found["rows", "exact repeats"] == 0
    if other != "a card of mine":  # too short to cut others to
        alone = measure(samples_of({"rows": rows}, "text", Watched()), [made("spread")])
        assert found["rows", "mean pairwise distance"] == alone[0].value


def test_equal_texts_are_cut_alike_whatever_the_order() -> None:
    long = texts(100, words=40)
    anchor = pl.DataFrame({"text": texts(300, seed=4, words=11) + texts(300, seed=5, words=12)})
    told = []
    for rows in (long + long, [text for text in long for _ in range(2)]):
        samples = samples_of({"rows": pl.DataFrame({"text": rows}), "anchor": anchor}, "text", Watched())
        told.append(
            [one for one in measure(samples, [made("vendi"), made("spread"), made("lexical")]) if one.of == "rows"]
        )
    assert [one.value for one in told[0]] == pytest.approx([one.value for one in told[1]], rel=1e-6)
    lexical = {one.name: one.value for one in told[0]}
    assert lexical["self-repetition"] == pytest.approx(1, abs=0.01), "each text stands there twice"


def test_turns_are_texts_and_ids_are_none() -> None:
    turns = pl.DataFrame(
        {
            "dialogue_id": [f"dev/{n}" for n in range(30)],
            "turns": [
                [{"who": "a", "utterance": f"hello number {n}"}, {"who": "b", "utterance": "good day"}]
                for n in range(30)
            ],
        }
    )
    (sample,) = samples_of_file(turns, None, Watched(), of="file")
    assert sample.texts[3] == "hello number 3\ngood day"
    nested = pl.DataFrame({"said": [[["one thing", "and another"], ["a third"]]] * 25})
    assert samples_of_file(nested, None, Watched(), of="file")[0].texts[0] == "one thing\nand another\na third"
    with pytest.raises(UsageError, match="which column is the text"):
        text_of(turns.drop("turns").with_columns(other=pl.Series(range(30))))
    with pytest.raises(UsageError, match="none of its 30 rows has a text"):
        samples_of_file(pl.DataFrame({"text": [None] * 30}, schema={"text": pl.String}), "text", Watched(), of="file")
    odd = pl.DataFrame({"text": texts(30), "_mix": [[1]] * 30, "_writer": [{"a": 1}] * 30})
    assert "_mix" not in samples_of_file(odd, "text", Watched(), of="file")[0].frame.columns
