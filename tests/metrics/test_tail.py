"""What is rare in real rows: real against real loses nothing, a head without a tail does."""

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from qdcgen.embedders.wordllama import Wordllama
from qdcgen.landing import Landing
from qdcgen.measure import measure, samples_of
from qdcgen.metrics.tail import Tail
from qdcgen.parts import Sample
from qdcgen.rows import Node, Taxonomy

TRAIN = Path(__file__).parents[2] / "../shared/data/banking77/train.csv"


def zipf(n, seed, words=2_000, most=None, longest=14):
    """Texts whose words are drawn by rank, the commonest `most` only."""
    rng = np.random.default_rng(seed)
    shares = 1 / (10 + np.arange(words))
    shares[most or words :] = 0
    shares /= shares.sum()
    drawn = rng.choice(words, size=(n, longest), p=shares)
    letters = np.array(list("abcdefghij"))
    return [" ".join("w" + "".join(letters[list(map(int, str(one)))]) for one in row) for row in drawn]


def side(texts):
    return pl.DataFrame({"_text": texts})


class Hashed(Wordllama):
    """Random vectors by text: what regions there are does not matter here."""

    @property
    def label(self):
        return "hashed"

    def embed(self, texts):
        import zlib

        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=16) for text in texts]
        found = np.array(rows, dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def measured(kept, anchor, embedder=None, **more):
    found = measure(
        samples_of({"kept": side(kept), "anchor": side(anchor)}, "_text", embedder or Hashed(), **more), [Tail()]
    )
    return {one.name: one for one in found}


def lost(one):
    from re import search

    return tuple(
        float(part) for part in search(r"([+-][\d.]+) \(([+-][\d.]+) – ([+-][\d.]+)\) lost", one.note).groups()
    )


def test_more_of_the_same_loses_nothing():
    found = measured(zipf(800, 1), zipf(800, 2))
    for name in ("rare words", "rare regions"):
        _, low, high = lost(found[name])
        assert low < 0 < high
        assert found[name].control_of == "real vs real"
        assert 0 < found[name].control < 1
        assert found[name].interval[0] < found[name].control < found[name].interval[1]


def test_a_head_without_a_tail_loses_rare_words_however_many_texts_it_has():
    few, many = (measured(zipf(n, 3, most=300), zipf(800, 2))["rare words"] for n in (800, 3_000))
    for one in (few, many):
        assert lost(one)[1] > 0.05
        assert one.interval[1] < one.control
    assert few.n == many.n == 400, "at equal n"
    assert few.value == pytest.approx(many.value, abs=0.05)


def test_longer_texts_find_no_more():
    plain = measured(zipf(600, 4), zipf(600, 5))["rare words"]
    long = measured(zipf(600, 4, longest=42), zipf(600, 5))["rare words"]
    assert long.value == pytest.approx(plain.value, abs=0.06)


def test_collapse_loses_more_and_more():
    texts = zipf(800, 6)
    values = []
    for share in (0.0, 0.3, 0.6, 0.9):
        copied = int(800 * share)
        kept = [*texts[: 800 - copied], *([texts[0]] * copied)]
        found = measured(kept, zipf(800, 7))
        values.append((found["rare words"].value, found["rare regions"].value))
    for column in zip(*values, strict=True):
        assert sorted(column, reverse=True) == list(column)


def test_the_order_of_the_rows_changes_nothing():
    kept, anchor = zipf(300, 8), zipf(400, 9)
    assert measured(kept, anchor) == measured(kept[::-1], anchor[::-1])


def test_few_texts_say_so_and_no_anchor_says_nothing():
    found = measured(zipf(150, 1), zipf(800, 2))
    assert {one.note for one in found.values()} == {"too few: 150 texts on the smaller side, needs 200"}
    alone = samples_of({"kept": side(zipf(300, 1))}, "_text", Hashed())
    assert measure(alone, [Tail()]) == []
    same = ["just the same few words"] * 400
    assert "0 rare words" in measured(same, same)["rare words"].note


def test_where_the_anchor_has_labels_regions_are_its_rarest_leaves():
    tree = Taxonomy("topic", tuple(Node(str(n), str(n), str(n), 0) for n in range(40)))
    rng = np.random.default_rng(0)
    shares = 1 / (3 + np.arange(40))
    asked = rng.choice(40, size=800, p=shares / shares.sum())
    kept = np.where(rng.random(800) < 0.9, rng.choice(10, size=800), rng.choice(40, size=800))
    texts = {"anchor": zipf(800, 1), "kept": zipf(800, 2)}
    landing = {"anchor": Landing(asked, asked, "a reader", known=True), "kept": Landing(kept, kept, "a reader")}
    vectors = {of: Hashed().embed(found) for of, found in texts.items()}
    samples = [
        Sample(
            of,
            texts[of],
            side(texts[of]),
            lambda of=of: vectors[of],
            "hashed",
            taxonomies={"topic": tree},
            landing=lambda _, of=of: landing[of],
        )
        for of in texts
    ]
    found = {one.name: one for one in measure(samples, [Tail()])}
    assert set(found) == {"rare words", "rare leaves"}
    assert found["rare leaves"].axis == "topic"
    assert found["rare leaves"].control > 0.8
    assert lost(found["rare leaves"])[1] > 0


def test_real_messages_of_the_commonest_intents_have_lost_the_tail_of_all_of_them():
    if not TRAIN.exists():
        pytest.skip(f"no {TRAIN}")
    with TRAIN.open() as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    rng = np.random.default_rng(0)
    rows = [rows[place] for place in rng.permutation(len(rows))]
    anchor, held = rows[:1_200], rows[1_200:]
    some = {label for _, label in rows[:200][::8]}
    real = measured([text for text, _ in held[:1_200]], [text for text, _ in anchor], Wordllama())
    head = [text for text, label in held if label in some][:1_200]
    gone = measured(head, [text for text, _ in anchor], Wordllama())
    for name in ("rare words", "rare regions"):
        assert lost(real[name])[1] < 0 < lost(real[name])[2]
        assert lost(gone[name])[1] > 0
