"""Semantic classes: counted right, by a threshold fitted on pairs, whose worth is told on pairs held out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qdcgen.embedders.wordllama import Wordllama
from qdcgen.errors import UsageError
from qdcgen.measure import measure, sample_of, samples_of
from qdcgen.metrics.classes import Classes
from qdcgen.parts import Embedder
from qdcgen.same import Pair, classes, fit, fitted, linked, numbered, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdcgen.rows import Measure

DATA = Path(__file__).parents[2] / "../shared/data/banking77"


class Topics(Embedder):
    """`cards 3` lies near all other texts about cards; the number moves it a little."""

    @property
    def label(self) -> str:
        return "topics"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        found = np.zeros((len(texts), 60), dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            topic, _, number = text.partition(" ")
            row[int(topic[1:]) % 40] = 1
            row[40 + int(number or 0) % 20] = 0.3
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def texts(topics: int, each: int) -> list[str]:
    return [f"t{topic} {number}" for number in range(each) for topic in range(topics)]


PAIRS = [Pair(f"t{i} {i}", f"t{i if i % 2 else i + 1} {i + 1}", i % 2 == 1) for i in range(40)]


def named(found: list[Measure]) -> dict[str, Measure]:
    return {one.name: one for one in found}


def of(written: list[str], pairs: Sequence[Pair] = PAIRS) -> dict[str, Measure]:
    frame = pl.DataFrame({"text": written}, schema={"text": pl.String})
    return named(measure([sample_of(frame, "text", Topics(), pairs=pairs)], [Classes()]))


# ── counting ────────────────────────────────────────────────────────────────────────────────────────────────────────


def spread_of(points: Sequence[Sequence[float]]) -> np.ndarray:
    found = np.array(points, dtype=np.float32).reshape(len(points), -1)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_classes_are_as_many_as_there_are_and_not_one_less() -> None:
    vectors = spread_of([[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1]])
    numbers = np.arange(4)
    assert classes(vectors, numbers, 0.9) == (3, 0.5)
    # The highest label, which counts from 0 in many libraries, is one too low there, and not always the count here.
    assert int(np.unique(linked(vectors, numbers, 0.9), return_inverse=True)[1].max()) == 2
    assert classes(vectors[:1], numbers[:1], 0.9) == (1, 1.0)
    assert classes(vectors[:0], numbers[:0], 0.9) == (0, 0.0)


def test_the_mean_cosine_of_two_groups_joins_them_and_a_chain_does_not() -> None:
    turn = np.linspace(0, np.pi / 2, 31)  # each 3 degrees from the next, the ends at right angles
    chain = np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)
    assert classes(chain, np.arange(31), 0.95)[0] > 1, "single linkage would make one class of them"
    assert classes(chain, np.arange(31), 0.5)[0] == 1


def test_average_linkage_agrees_with_a_count_by_hand() -> None:
    rng = np.random.default_rng(3)
    vectors = spread_of(rng.normal(size=(40, 4)) + 2 * np.eye(4)[rng.integers(0, 4, 40)])
    for threshold in (0.3, 0.6, 0.9):
        assert classes(vectors, np.arange(40), threshold)[0] == _by_hand(vectors, threshold)


def _by_hand(vectors: np.ndarray, threshold: float) -> int:
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    groups = [[i] for i in range(len(vectors))]
    while len(groups) > 1:
        near = [(cosines[np.ix_(one, other)].mean(), i, j) for i, one in enumerate(groups)
                for j, other in enumerate(groups[:i])]  # fmt: skip
        best, i, j = max(near)
        if best < threshold:
            break
        groups[j] += groups.pop(i)
    return len(groups)


cloud = st.lists(st.lists(st.integers(-2, 2), min_size=4, max_size=4).filter(any), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(cloud, st.sampled_from([0.3, 0.6, 0.9]), st.randoms(use_true_random=False))
def test_adding_a_distinct_text_adds_one_class_and_order_and_copies_do_nothing(
    points: list[list[int]], threshold: float, random: object
) -> None:
    points = [list(one) for one in dict.fromkeys(map(tuple, points))]
    vectors = spread_of([[*one, 0] for one in points])
    numbers = np.arange(len(points))
    count = classes(vectors, numbers, threshold)[0]
    assert 1 <= count <= len(points)
    new = spread_of([[0, 0, 0, 0, 1]])
    assert float((vectors @ new.T).max()) < threshold
    more = np.concatenate([vectors, new])
    assert classes(more, np.arange(len(more)), threshold)[0] == count + 1
    copied = np.concatenate([vectors, vectors])
    assert classes(copied, np.concatenate([numbers, numbers]), threshold)[0] == count
    turn = list(range(len(points)))
    random.shuffle(turn)  # type: ignore[attr-defined]
    # Ties between different merges are the one thing that an order decides: cosines of random numbers have none.
    distances = np.round((vectors @ vectors.T)[np.triu_indices(len(points), 1)], 6)
    assume(len(set(distances.tolist())) == len(distances))
    assert classes(vectors[turn], numbers[turn], threshold)[0] == count


def test_equal_texts_are_one_whatever_the_threshold() -> None:
    written = ["a", "b", "a", "c", "b"]
    order = np.array([0, 2, 1, 4, 3])
    assert numbered(written, order).tolist() == [1, 1, 2, 2, 3]
    assert numbered([], np.empty(0, dtype=np.int64)).tolist() == []
    vectors = spread_of(np.eye(3)[[0, 0, 1, 1, 2]].tolist())
    assert classes(vectors, numbered(written, order), 1.5) == (3, 0.4)


# ── the threshold ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_threshold_parts_what_can_be_parted_and_agreement_is_told_on_held_out_pairs() -> None:
    cosines = np.concatenate([np.repeat([0.1, 0.3, 0.4], 10), np.repeat([0.7, 0.9], 10)])
    same = np.arange(50) >= 30
    found = fit(cosines, same)
    assert 0.4 < found.threshold < 0.7
    assert (found.accuracy, found.balanced, found.kappa) == (1, 1, 1)
    assert found.between[0] <= found.threshold <= found.between[1]
    assert found.knows


def test_agreement_is_not_that_of_the_pairs_it_was_fitted_on() -> None:
    rng = np.random.default_rng(0)
    held, fitted_on = [], []
    for seed in range(40):
        cosines, same = rng.normal(size=24), np.arange(24) % 2 == 1  # knows nothing
        found = fit(cosines, same, seed)
        held.append(found.balanced)
        told = cosines >= found.threshold
        fitted_on.append((told[same].mean() + (~told[~same]).mean()) / 2)
    assert np.mean(fitted_on) > 0.6, "a threshold fitted on 24 pairs looks good on them"
    assert 0.42 < np.mean(held) < 0.54


def test_intervals_of_agreement_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    truth, hits = 0.8413, {"balanced": 0, "accuracy": 0, "kappa": 0}  # Φ(1): classes one deviation from the middle
    for seed in range(60):
        same = rng.random(200) < 0.5
        found = fit(rng.normal(np.where(same, 1.0, -1.0)), same, seed)
        hits["balanced"] += found.balanced_between[0] <= truth <= found.balanced_between[1]
        hits["accuracy"] += found.accuracy_between[0] <= truth <= found.accuracy_between[1]
        hits["kappa"] += found.kappa_between[0] <= 2 * truth - 1 <= found.kappa_between[1]
    assert all(count >= 51 for count in hits.values()), hits


def test_no_threshold_lies_beyond_what_was_met() -> None:
    """A threshold at or above every cosine makes n classes of n texts, whatever they say."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        cosines = rng.uniform(0.2, 0.6, 40)
        found = fit(cosines, rng.permutation(np.arange(40) % 2 == 1))
        assert cosines.min() < found.between[0] <= found.between[1] < cosines.max()
    assert fit(np.full(30, 0.5), np.arange(30) % 2 == 1).knows is False
    backwards = fit(np.linspace(0, 1, 40), np.arange(40) < 20)
    assert not backwards.knows


def test_neither_the_order_of_pairs_nor_that_of_their_texts_matters() -> None:
    turned = [Pair(other, one, same) for one, other, same in reversed(PAIRS)]
    assert fitted(PAIRS, Topics().embed, 3) == fitted(turned, Topics().embed, 3)


# ── the file of pairs ───────────────────────────────────────────────────────────────────────────────────────────────


def csv(path: Path, rows: Sequence[tuple[object, ...]], header: str = "text_a,text_b,same") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize("words", [("1", "0"), ("yes", "no"), ("true", "False"), (" YES", "0")])
def test_pairs_are_read_in_every_spelling(tmp_path: Path, words: tuple[str, str]) -> None:
    rows = [("a", "b", words[i % 2]) for i in range(20)]
    assert [pair.same for pair in read(csv(tmp_path / "p.csv", rows))] == [i % 2 == 0 for i in range(20)]


def test_what_is_wrong_with_a_file_of_pairs_is_said(tmp_path: Path) -> None:
    good = [("a", "b", i % 2) for i in range(30)]
    cases = [
        (good, "text_a,text_c,same", r"no column 'text_b'; did you mean 'text_c'\?; expected text_a, text_b, same"),
        ([*good, ("a", "b", "maybe")], "text_a,text_b,same", "pair 31: same is 'maybe'; expected 1, 0, yes or no"),
        ([*good, ("", "b", 1)], "text_a,text_b,same", "pair 31: text_a is empty"),
        (good[:12], "text_a,text_b,same", "6 pairs that are the same and 6 that are not; a threshold needs 10 of each"),
    ]
    for rows, header, message in cases:
        with pytest.raises(UsageError, match=message):
            read(csv(tmp_path / "p.csv", rows, header))


# ── the metric ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_metric_counts_topics_and_says_what_it_rests_on() -> None:
    found = of(texts(12, 25))
    one = found["semantic classes"]
    assert (one.value, one.n, one.range) == (12, 300, (1.0, 300.0))
    assert one.interval is not None
    assert one.interval[0] <= 12 <= one.interval[1]
    assert found["largest semantic class"].value == pytest.approx(1 / 12)
    told = found["same pairs told"]
    assert (told.table, told.value, told.n, told.control) == ("diversity", 1.0, 40, 0.5)
    assert re.match(r"at 300 of 300 texts; threshold 0\.\d{3} \(.*\), fitted on 40 pairs; of pairs held out", one.note)


def test_without_pairs_nothing_is_counted_and_without_sense_neither() -> None:
    assert of(texts(5, 10), ()) == {}
    assert of(["t1 1"] * 5)["semantic classes"].note == "too few: 5 texts, needs 30"
    turned = [pair._replace(same=not pair.same) for pair in PAIRS]
    blind = of(texts(5, 10), turned)["semantic classes"]
    assert blind.value is None
    assert blind.note.startswith("topics does not tell the pairs apart: threshold ")


def test_populations_are_compared_at_one_size_and_agreement_is_told_once() -> None:
    frames = {"raw": pl.DataFrame({"text": texts(30, 40)}), "kept": pl.DataFrame({"text": texts(30, 12)})}
    found = measure(samples_of(frames, "text", Topics(), pairs=PAIRS), [Classes()])
    assert [(one.of, one.name, one.n) for one in found] == [
        ("raw", "semantic classes", 300),
        ("raw", "largest semantic class", 300),
        ("raw", "same pairs told", 40),
        ("kept", "semantic classes", 300),
        ("kept", "largest semantic class", 300),
    ]


def test_agreement_is_not_told_again_for_an_anchor() -> None:
    frames = {"rows": pl.DataFrame({"text": texts(30, 40)}), "anchor": pl.DataFrame({"text": texts(30, 12)})}
    found = measure(samples_of(frames, "text", Topics(), pairs=PAIRS), [Classes()])
    assert [(one.of, one.table) for one in found if one.name == "same pairs told"] == [("rows", "diversity")]


def test_copies_in_place_of_texts_lower_the_count() -> None:
    counts = []
    for share in (0, 0.3, 0.6, 0.9):
        written = sorted(texts(36, 10))
        gone = round(share * len(written))
        written[:gone] = ["t0 0"] * gone
        counts.append(of(written)["semantic classes"].value)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 36
    assert len(set(counts)) > 2


def test_on_bank_messages_average_linkage_neither_chains_nor_shatters() -> None:
    if not DATA.exists():
        pytest.skip(f"no {DATA}")
    train, test = (pl.read_csv(DATA / f"{name}.csv") for name in ("train", "test"))
    rng = np.random.default_rng(0)
    rows = train.sample(1_200, seed=1)
    by = {label: part["text"].to_list() for (label,), part in rows.group_by("label", maintain_order=True)}
    names = list(by)
    pairs = []
    for number in range(600):
        one, other = names[int(rng.integers(len(names)))], names[int(rng.integers(len(names)))]
        other = one if number % 2 else other
        a, b = by[one][int(rng.integers(len(by[one])))], by[other][int(rng.integers(len(by[other])))]
        pairs.append(Pair(a, b, one == other))
    sample = sample_of(test, "text", Wordllama(), pairs=[pair for pair in pairs if pair.one != pair.other])
    found = named(measure([sample], [Classes()]))
    one = found["semantic classes"]
    assert one.value is not None
    assert 25 < one.value < 77, "of 77 intents; links by single pairs would give 2"
    assert 0.7 < (found["same pairs told"].value or 0) < 0.95


# ── where people type it ────────────────────────────────────────────────────────────────────────────────────────────


def pairs_file(path: Path) -> Path:
    subjects = ["my card was lost", "the transfer is pending", "please change my PIN", "what is the exchange rate"]
    rows = [
        (f"{one} {i}", f"{one if i % 2 else subjects[(subjects.index(one) + 1) % 4]} {i + 5}", i % 2)
        for i in range(10)
        for one in subjects
    ]
    return csv(path, rows)


def test_a_file_is_reported_with_pairs(tmp_path: Path, qdcgen) -> None:
    csv(tmp_path / "data.csv", [(f"my card was lost {i}",) for i in range(40)], "message")
    pairs_file(tmp_path / "pairs.csv")
    done = qdcgen("report", "data.csv", "--pairs", "pairs.csv", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    found = {one["name"]: one for one in said["measures"]}
    assert found["semantic classes"]["value"] == 1
    assert found["same pairs told"]["n"] == 40
    csv(tmp_path / "pairs.csv", [("a", "b", 1)])
    done = qdcgen("report", "data.csv", "--pairs", "pairs.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a threshold needs 10 of each" in done.stderr


def test_a_recipe_names_its_pairs_and_a_run_is_reported_with_others(tmp_path: Path, small: Path, qdcgen) -> None:
    pairs_file(tmp_path / "pairs.csv")
    small.write_text(
        small.read_text().replace("measure: {text: message}", "measure: {text: message, pairs: pairs.csv}")
    )
    done = qdcgen("run", "small.yaml", "--quiet")
    assert done.returncode in (0, 4), done.stderr
    said = json.loads(qdcgen("report", "runs/small", "--json").stdout)
    by = {(one["of"], one["name"]): one for one in said["measures"]}
    assert by["kept", "semantic classes"]["n"] == 30
    assert by["raw", "same pairs told"]["n"] == 40
    assert by["kept", "effective classes"]["value"] <= by["raw", "effective classes"]["value"] + 1e-9
    fewer = (tmp_path / "pairs.csv").read_text().splitlines()[:31]
    (tmp_path / "other.csv").write_text("\n".join(fewer) + "\n")
    again = json.loads(qdcgen("report", "runs/small", "--pairs", "other.csv", "--json").stdout)
    other = {(one["of"], one["name"]): one for one in again["measures"]}
    assert other["raw", "same pairs told"]["n"] == 30
    assert other["kept", "Vendi score"] == by["kept", "Vendi score"]
    assert set(other) == set(by)


def test_pairs_that_cannot_be_read_are_told_before_anything_is_spent(tmp_path: Path, small: Path, qdcgen) -> None:
    small.write_text(small.read_text().replace("{text: message}", "{text: message, pairs: pairs.csv}"))
    done = qdcgen("check", "small.yaml")
    assert done.returncode == 2
    assert "measure.pairs: no file 'pairs.csv'" in done.stderr
    csv(tmp_path / "pairs.csv", [("a", "b", 1)], "text_a,text_b,alike")
    done = qdcgen("check", "small.yaml")
    assert done.returncode == 2
    assert "measure.pairs: " in done.stderr
    assert "no column 'same'" in done.stderr
