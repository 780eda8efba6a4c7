"""Which axes change the texts, which do nothing, which are copied: planted, by brute force, and on real dialogues."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from qdcgen import effects
from qdcgen.embedders.wordllama import Wordllama
from qdcgen.measure import measure, sample_of, sample_of_file, speaking_of
from qdcgen.metrics.effects import Effects
from qdcgen.metrics.positions import FIGURES, Positions
from qdcgen.parts import Sample
from qdcgen.recipe import load
from qdcgen.rows import Measure
from qdcgen.run import run
from qdcgen.spectrum import vendi_of_vectors
from qdcgen.taxonomy import inline

if TYPE_CHECKING:
    from collections.abc import Sequence

DIALOGUES = Path(__file__).parents[2] / "../shared/data/sgd/dialogues_1200.jsonl"


def by(found: list[Measure]) -> dict[tuple[str, str], Measure]:
    return {(one.axis, one.name): one for one in found}


def planted(seed: int, n: int = 60, mixes: int = 6, effect: float = 0.8, *, confounded: bool = False) -> Sample:
    """Vectors that the mix moves much and the mood somewhat; `idle` does nothing, or follows the mix's number."""
    rng = np.random.default_rng(seed)
    mix = np.arange(n) % mixes
    mood, idle = rng.integers(0, 3, n), rng.integers(0, 2, n)
    if confounded:
        idle = np.where(rng.random(n) < 0.7, mix % 2, 1 - mix % 2)
    vectors = 2 * rng.normal(size=(mixes, 16))[mix] + effect * rng.normal(size=(3, 16))[mood] + rng.normal(size=(n, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors.astype(np.float32)
    texts = ["".join(random.Random(f"{seed} {row}").choices("abcdefghij ", k=40)) for row in range(n)]
    frame = pl.DataFrame({
        "text": texts, "mood": [f"m{x}" for x in mood], "idle": [f"i{x}" for x in idle], "_mix": [f"t={x}" for x in mix]
    })  # fmt: skip
    return Sample("kept", texts, frame, lambda: unit, "planted", seed=seed, layers=["mood", "idle"])


# ── three kinds of axis ─────────────────────────────────────────────────────────────────────────────────────────────

PERSONAS = (
    "You keep every receipt in a tin and never buy before payday",
    "You decide within a minute and laugh about it when it fails",
    "You ask two neighbours before you sign anything at all",
)
MOODS = {
    "calm": "thank you kindly whenever suits there is no hurry at all",
    "angry": "this is outrageous unacceptable fix it now or I leave",
    "worried": "I am afraid something terrible happened please help me soon",
}
NOUNS = ["card", "account", "transfer", "loan", "payment", "branch", "statement", "fee", "limit", "cheque"]


def messages(seed: int, n: int = 120) -> Sample:
    """Texts that mood changes, that channel does not, and that copy a tenth of the personas."""
    rng = random.Random(seed)
    rows = []
    for row in range(n):
        mood, channel, persona = rng.choice(list(MOODS)), rng.choice(["chat", "mail"]), rng.choice(PERSONAS)
        words = rng.choices(MOODS[mood].split(), k=6) + rng.choices(NOUNS, k=8)
        rng.shuffle(words)
        copied = f" {persona.lower()}," if rng.random() < 0.1 else ""
        rows.append((f"{' '.join(words)}{copied} {row}", mood, channel, {"text": persona}))
    frame = pl.DataFrame(rows, schema={"text": pl.String, "mood": pl.String, "channel": pl.String,
                                       "persona": pl.Struct({"text": pl.String})}, orient="row")  # fmt: skip
    return sample_of(frame, "text", Wordllama(), seed=seed, layers=["mood", "channel", "persona"])


@pytest.mark.parametrize("seed", range(5))
def test_a_decorative_an_effective_and_a_leaking_axis_are_told_apart(seed: int) -> None:
    found = measure([messages(seed)], [Effects()])
    of = by(found)
    assert "mood is effective" in of["mood", "effect"].note
    assert "channel is decorative" in of["channel", "effect"].note
    assert "persona is leaking" in of["persona", "effect"].note
    leak = of["persona", "copied"]
    assert (leak.control, leak.value) == (0.0, pytest.approx(0.1, abs=0.07))
    assert "words of its value" in leak.note
    assert [of[axis, "copied"].value for axis in ("mood", "channel")] == [0.0, 0.0]
    read, chance = of["mood", "read back"].value, of["mood", "read back"].control
    assert read is not None
    assert chance is not None
    assert read > 0.8
    assert chance < 0.5
    frozen = of["mood", "lost when frozen"]
    assert frozen.interval is not None
    assert frozen.interval[0] > 0
    told = list(effects.remarks(found))
    assert any(one.startswith("decorative: channel: ") for one in told)
    assert told[-1].startswith("persona leaks: ")


def test_decorative_axes_are_seldom_called_effective() -> None:
    wrong = missed = outside = 0
    for seed in range(160):
        of = by(Effects().measure(planted(seed)))
        wrong += "effective" in of["idle", "effect"].note
        missed += "effective" not in of["mood", "effect"].note
        interval = of["idle", "share explained"].interval
        assert interval is not None
        outside += not interval[0] <= 0 <= interval[1]
    assert wrong <= 0.07 * 160
    assert outside <= 0.09 * 160
    assert missed <= 2


def test_what_the_mix_does_is_not_credited_to_a_layer_that_follows_it() -> None:
    wrong = 0
    for seed in range(40):
        sample = planted(seed, n=120, confounded=True)
        of = by(Effects().measure(sample))
        assert "shuffled within mixes" in of["idle", "effect"].note
        wrong += "effective" in of["idle", "effect"].note
    assert wrong <= 5
    blind = Sample("kept", sample.texts, sample.frame.drop("_mix"), sample.vectors, "planted", layers=["idle"])
    assert "effective" in by(Effects().measure(blind))["idle", "effect"].note


# ── by brute force ──────────────────────────────────────────────────────────────────────────────────────────────────


def regressed(vectors: Any, *factors: Any) -> float:
    """Sum of squares that is left after a linear model of these factors."""
    hot = np.hstack([np.eye(int(one.max()) + 1)[one] for one in factors])
    return float(np.square(vectors - hot @ np.linalg.lstsq(hot, vectors, rcond=None)[0]).sum())


@pytest.mark.parametrize("seed", range(3))
def test_the_share_explained_is_that_of_a_linear_model(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 90
    labels, strata, one = rng.integers(0, 4, n), rng.integers(0, 7, n), np.zeros(n, dtype=np.int64)
    vectors = rng.normal(size=(n, 5)) + np.eye(5)[labels] + np.eye(7, 5)[strata]
    total = regressed(vectors, one) / (n - 1)
    within, left = regressed(vectors, strata), regressed(vectors, strata, labels)
    beyond = (within - left) - 3 * left / (n - 7 - 3)
    assert effects.explained(vectors, labels, strata) == pytest.approx(beyond / (n - 7) / total)
    r2 = 1 - regressed(vectors, labels) / regressed(vectors, one)
    assert effects.explained(vectors, labels, one) == pytest.approx(1 - (1 - r2) * (n - 1) / (n - 4))


def test_the_share_explained_is_unbiased_and_its_interval_holds() -> None:
    rng = np.random.default_rng(1)
    topics, moods = 1.5 * rng.normal(size=(6, 12)), 0.6 * rng.normal(size=(3, 12))

    def draw(n: int) -> tuple[Any, Any, Any]:
        mix, mood = rng.integers(0, 6, n), rng.integers(0, 3, n)
        return topics[mix] + moods[mood] + rng.normal(size=(n, 12)), mood, mix

    truth = effects.explained(*draw(100_000))
    assert truth is not None
    values, held = [], 0
    for _ in range(100):
        vectors, labels, strata = draw(80)
        value = effects.explained(vectors, labels, strata)
        assert value is not None
        interval = effects.jackknife(
            80, lambda rows, of=(vectors, labels, strata): effects.explained(*(one[rows] for one in of)), value, rng
        )
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
        values.append(value)
    assert np.mean(values) == pytest.approx(truth, rel=0.08)
    assert 88 <= held <= 100


def test_shuffles_stay_in_their_strata_and_p_is_what_counting_gives() -> None:
    rng = np.random.default_rng(0)
    strata = np.array([0, 1, 0, 2, 1, 1, 0, 3])
    for _ in range(50):
        order = effects.shuffle(strata, rng)
        assert sorted(order.tolist()) == list(range(8))
        assert (strata[order] == strata).all()
    assert len({tuple(effects.shuffle(strata, rng).tolist()) for _ in range(400)}) == 6 * 6
    # 4 rows, two values: 2 of the 6 ways to choose a pair give as large a difference
    vectors = np.array([[0.0, 1], [0.1, 1], [5, 1], [5.2, 1]])
    found = effects.shuffled(vectors, np.array([0, 0, 1, 1]), np.zeros(4, dtype=np.int64), rng, 10_000)
    assert found.p == pytest.approx(1 / 3, abs=0.25)
    assert (found.hits, found.p) == (20, 20 / found.shuffles)
    assert effects.Shuffled(0, 999, 0.0).p == 0.001


def test_p_values_are_adjusted_as_holm_says() -> None:
    assert effects.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert effects.holm([0.9, 0.8]) == [1.0, 1.0]
    assert effects.holm([]) == []


def test_reading_back_holds_out_and_keeps_copies_in_one_fold() -> None:
    rng = np.random.default_rng(2)
    vectors, targets = rng.normal(size=(40, 6)), rng.normal(size=(40, 2))
    groups = [row // 2 for row in range(40)]
    fold = effects.folds(groups, rng)
    assert (fold[0::2] == fold[1::2]).all()
    assert set(fold.tolist()) == set(range(5))
    told = effects.read(vectors, targets, fold)
    for row in range(40):
        known = vectors[fold != fold[row]]
        said, middle = targets[fold != fold[row]], known.mean(axis=0)
        square = (known - middle).T @ (known - middle)
        weights = np.linalg.inv(square + effects.RIDGE * np.trace(square) / 6 * np.eye(6)) @ (known - middle).T
        expected = (vectors[row] - middle) @ weights @ (said - said.mean(axis=0)) + said.mean(axis=0)
        assert told[row] == pytest.approx(expected)


def test_freezing_compares_vendi_scores_at_equal_size() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(80, 4)).astype(np.float32)
    labels = np.repeat([0, 1], 40)
    vectors[labels == 0, 2:] = 0  # one value lives in a plane, the other in the other
    vectors[labels == 1, :2] = 0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = effects.frozen(vectors, labels, np.zeros(80, dtype=np.int64), rng)
    assert found is not None
    ones = [vendi_of_vectors(vectors[rng.choice(np.flatnonzero(labels == v), 20, replace=False)])
            for v in (0, 1) for _ in range(50)]  # fmt: skip
    whole = [vendi_of_vectors(vectors[rng.choice(80, 20, replace=False)]) for _ in range(100)]
    assert found.size == 20
    assert found.lost == pytest.approx(1 - np.mean(ones) / np.mean(whole), abs=0.02)
    assert found.lost == pytest.approx(0.5, abs=0.05)
    assert found.shuffled == pytest.approx(0, abs=0.05)
    assert found.interval[0] < found.lost < found.interval[1]
    assert effects.frozen(vectors[:30], np.repeat([0, 1], 15), np.zeros(30, dtype=np.int64), rng) is None


# ── copying ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def copied(axis: str, values: Sequence[Any], texts: Sequence[str], *, tree: bool = False) -> effects.Copies:
    found = effects.copies(axis, pl.Series(values, strict=False), texts, np.random.default_rng(0), tree=tree)
    assert found is not None
    return found


def test_a_name_counts_as_a_label_and_a_short_value_does_not_count() -> None:
    texts = [
        "Mood: angry. Fix it!",
        "I am angry",
        "**mood**: calm",
        "the mood here: is fine",
        "moody: no",
        "emotional_mood=x",
    ]
    found = copied("mood", ["angry", "angry", "calm", "calm", "calm", "calm"], texts)
    assert (found.hits, found.labels, found.words, found.n) == (2, 2, 0, 6)
    assert copied("user_mood", ["a"], ["User mood: a"]).labels == 1
    assert copied("of", ["a"], ["of: a"]).labels == 0
    leaf = copied(
        "topic", ["cards and accounts that were lost abroad"], ["my cards and accounts that were lost"], tree=True
    )
    assert leaf.hits == 0


def test_five_words_in_a_row_of_a_value_count_and_chance_is_what_others_values_share() -> None:
    values = [{"text": "you never pay a bill late"}, {"text": "you always pay a bill late, sadly"}] * 20
    texts = ["I know: You never PAY a bill!"] * 20 + ["pay a bill late"] * 20
    found = copied("persona", values, texts)
    assert (found.words, found.hits) == (10, 10)
    assert found.chance == pytest.approx(0.25, abs=0.12)
    only = copied("persona", [{"text": "you never pay a bill late"}] * 5, ["you never pay a bill late"] * 5)
    assert (only.hits, only.chance) == (5, 0.0)


def test_drawn_numbers_count_and_numbers_that_count_things_off_do_not() -> None:
    found = copied("length", [37, 38, 41, 55], ["in 37 words", "38.5 euros", "nothing", "a 55"])
    assert (found.numbers, found.hits) == (2, 2)
    scores = [{"text": "calm", "openness": 62.31}, {"text": "calm", "openness": 44.08}]
    assert copied("persona", scores, ["openness: 62", "my T-score is 44.1"]).numbers == 2
    places = [{"text": "calm", "risk": 0.73, "chunk": 3}] * 2
    assert copied("persona", places, ["0.73", "0.7 and 3"]).numbers == 1


# ── which axes there are ────────────────────────────────────────────────────────────────────────────────────────────


def test_trees_are_taken_where_rows_share_nodes_numbers_in_fifths_structs_part_by_part() -> None:
    tree = inline("topic", {"cards": [f"c{n}" for n in range(40)], "loans": [f"l{n}" for n in range(40)]}, "x")
    n = 80
    frame = pl.DataFrame({
        "text": [f"t{row}" for row in range(n)],
        "topic": [leaf.path for leaf in tree.leaves],
        "size": list(range(n)),
        "few": [row % 4 for row in range(n)],
        "format": [{"name": "list" if row % 2 else "note", "text": f"as {row}"} for row in range(n)],
        "person": [{"text": f"p{row}", "risk": row / n, "piece": row % 2} for row in range(n)],
        "situation": [{"text": f"s{row}", "medium": ["chat", "phone"][row % 2], "place": str(row)} for row in range(n)],
        "people": [{"text": f"p{row % 3}", "source": f"{row}"} for row in range(n)],
        "document": [{"text": f"d{row}", "source": f"{row}"} for row in range(n)],
    })  # fmt: skip
    layers = ["size", "few", "format", "person", "situation", "people", "document"]
    sample = sample_of(frame, "text", Wordllama(), taxonomies={"topic": tree}, layers=layers)
    axes = {axis.name: axis for axis in effects.axes_of(sample)}
    assert list(axes) == ["topic", "size", "few", "format", "person.risk", "situation.medium", "people", "document"]
    assert set(axes["topic"].values) == {"cards", "loans"}
    assert axes["topic"].note == "its nodes of level 1"
    assert [axes["size"].values.count(str(part)) for part in range(5)] == [16] * 5
    assert set(axes["few"].values) == {"0", "1", "2", "3"}
    of = by(Effects().measure(sample))
    unknown = of["document", "effect"]
    assert (unknown.value, unknown.note[:8]) == (None, "too few:")


def test_no_more_texts_than_stated_are_looked_at_and_every_key_finds_its_measure() -> None:
    sample = planted(0, n=3_000)
    found = Effects(texts=100).measure(sample)
    assert {one.n for one in found if one.name != "copied"} == {100}
    for key in Effects.gates:
        assert len(speaking_of(found, "diversity", key)) == 2, key
    few = Effects().measure(planted(0, n=12))
    assert all(one.value is None and one.note for one in few)


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def people(n: int = 300, *, read: bool = True, scores: bool = False) -> Sample:
    rng = np.random.default_rng(5)
    points = rng.random((n, 2))
    vectors = rng.normal(size=(n, 12)) * 0.3
    if read:
        vectors[:, :2] += 3 * points
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors.astype(np.float32)
    from statistics import NormalDist

    value = NormalDist(50, 10).inv_cdf if scores else float
    texts = [f"text {row} {'x' * (row % 7)}" for row in range(n)]
    frame = pl.DataFrame({
        "text": texts, "person": [{"text": "p", "risk": value(a), "pace": value(b)} for a, b in points.tolist()]
    })  # fmt: skip
    return Sample("kept", texts, frame, lambda: unit, "planted", layers=["person"])


def test_positions_are_covered_as_drawn_and_less_as_read() -> None:
    found = measure([people()], [Positions()])
    drawn = by([one for one in found if one.of == "kept"])
    read = by([one for one in found if one.of == "landed"])
    assert [name for _, name in drawn] == [name for name, *_ in FIGURES]
    for axis in ("person.risk", "person.pace"):
        r2 = read[axis, "position read back"]
        assert r2.value is not None
        assert r2.control is not None
        assert 0.5 < r2.value < 1
        assert r2.control <= 0
    for name in ("support coverage", "hull", "mean distance"):
        ours, theirs = drawn["person", name], read["person", name]
        assert ours.value is not None
        assert theirs.value is not None
        assert ours.control == pytest.approx(ours.value, abs=0.1)  # independent uniform points are the control
        assert theirs.value < ours.value
        assert theirs.control == ours.control
        assert theirs.interval is not None
    assert speaking_of(found, "coverage", "landed_support_coverage")


def test_scores_are_read_as_shares_of_people() -> None:
    (one,) = effects.fields_of(people(scores=True))
    (other,) = effects.fields_of(people())
    assert one.keys == ("risk", "pace")
    assert one.points == pytest.approx(other.points, abs=1e-6)


def test_positions_that_texts_do_not_tell_are_not_given_as_read() -> None:
    found = measure([people(read=False)], [Positions()])
    read = by([one for one in found if one.of == "landed"])
    r2 = read["person.risk", "position read back"]
    assert r2.value is not None
    assert r2.value <= 0.05
    coverage = read["person", "support coverage"]
    assert coverage.value is None
    assert coverage.note.startswith("the texts do not tell where they stand")


def test_a_layer_of_one_number_is_set_between_its_ends() -> None:
    frame = pl.DataFrame({"text": [f"number {n}" for n in range(40)], "size": [15 + n for n in range(40)]})
    sample = sample_of(frame, "text", Wordllama(), layers=["size"])
    (field,) = effects.fields_of(sample)
    assert field.points[:, 0].tolist() == pytest.approx([(n + 0.5) / 40 for n in range(40)])
    drawn = by([one for one in Positions().measure(sample) if one.of == "kept"])
    assert drawn["size", "support coverage"].value == pytest.approx(1, abs=0.03)
    assert drawn["size", "closest pair"].value == pytest.approx(1 / 40)
    again = sample_of(pl.concat([frame, frame]), "text", Wordllama(), layers=["size"])
    (field,) = effects.fields_of(again)  # the two rows of one number share its unit
    assert sorted(field.points[:, 0].tolist()) == pytest.approx([(n + 0.5) / 80 for n in range(80)])


# ── whole runs and real texts ───────────────────────────────────────────────────────────────────────────────────────


def test_a_run_says_which_layer_does_nothing(small: Path, tmp_path: Path, server: Any) -> None:
    def answer(body: Any) -> str:
        prompt = body["messages"][-1]["content"]
        words = random.Random(json.dumps(body, sort_keys=True)).choices(NOUNS, k=8)
        tone = MOODS["angry" if " angry " in prompt else "calm"]
        topic = "lost stolen missing" if "lost" in prompt else "money sent abroad"
        return json.dumps({"message": f"{' '.join(words)} {tone} {topic}", "urgency": "low"})

    server.answer = answer
    recipe = load(small, overrides=["target.rows=160", "filters.2.duplicates.similarity=1"])
    outcome = run(recipe, tmp_path / "out", quiet=True)
    assert outcome.report is not None
    of = {(one.axis, one.name): one for one in outcome.report.measures if one.of == "kept"}
    assert "tone is effective" in of["tone", "effect"].note
    assert "channel is decorative" in of["channel", "effect"].note
    assert "shuffled within mixes" in of["channel", "effect"].note
    assert of["words", "support coverage"].value is not None
    assert any(remark.startswith("decorative: ") and "channel" in remark for remark in outcome.report.remarks)
    assert not any(one.name == "effect" and one.of == "raw" for one in outcome.report.measures)


def test_a_file_qdcgen_did_not_make_shows_the_effect_of_its_columns(qdcgen: Any, tmp_path: Path) -> None:
    sample = messages(7)
    sample.frame.select("text", "mood", "channel").write_parquet(tmp_path / "rows.parquet")
    said = qdcgen("report", "rows.parquet", "--text", "text", "--axis", "mood", "--axis", "channel")
    assert said.returncode == 0, said.stderr
    assert "what each axis does to the text, n " in said.stdout
    assert re.search(r"\nmood +\S+ +\S+ +\S+ +\S+ +\S+ +\S+ +effective\n", said.stdout)
    assert "decorative: channel" in said.stdout


@pytest.mark.skipif(not DIALOGUES.is_file(), reason="../shared/data/sgd is not here")
def test_the_domain_of_real_dialogues_reads_back_far_above_chance() -> None:
    told = [json.loads(line) for line in DIALOGUES.read_text().splitlines()]
    coin = random.Random(1)
    frame = pl.DataFrame({
        "text": ["\n".join(turn["text"] for turn in one["turns"]) for one in told],
        "domain": [one["services"][0].split("_")[0] for one in told],
        "coin": [coin.choice("ab") for _ in told],
    })  # fmt: skip
    sample = sample_of_file(frame, "text", Wordllama(), of="rows", axes=["domain", "coin"])
    of = by(measure([sample], [Effects()]))
    read, chance = of["domain", "read back"].value, of["domain", "read back"].control
    assert read is not None
    assert chance is not None
    assert read > 0.8
    assert chance < 0.2
    assert "domain is effective" in of["domain", "effect"].note
    assert "coin is decorative" in of["coin", "effect"].note
