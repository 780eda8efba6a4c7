"""Coverage, complexity and quality figures against worked examples."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from qdcgen.intervals import mean, median, rarefied, spearman, wilson
from qdcgen.measure import sample_of
from qdcgen.metrics.acceptance import Acceptance
from qdcgen.metrics.asked import Asked
from qdcgen.metrics.clusters import effective, summary
from qdcgen.metrics.nodes import Nodes
from qdcgen.metrics.pairs import Pairs
from qdcgen.metrics.spread import nearest, pairwise
from qdcgen.metrics.structure import Structure
from qdcgen.metrics.surprisal import Surprisal
from qdcgen.parts import Embedder, Sample
from qdcgen.rows import Measure, Node, Taxonomy
from qdcgen.surface import counted, variety

if TYPE_CHECKING:
    from numpy.typing import NDArray

TREE = Taxonomy(
    "topic",
    (
        Node("1", "cards", "cards", 0),
        Node("11", "lost", "cards/lost", 1, "1"),
        Node("12", "pin", "cards/pin", 1, "1"),
        Node("2", "loans", "loans", 0),
    ),
)
FLAT = Taxonomy("risk", (Node("a", "a", "a", 0), Node("b", "b", "b", 0)))


def mean_of(values: NDArray[np.float64], rows: NDArray[np.int64]) -> list[float]:
    return [float(values[rows].mean())]


class Nowhere(Embedder):
    """Asked for nothing here."""

    @property
    def label(self) -> str:
        return "none"


def sample(of: str = "kept", **columns: object) -> Sample:
    table = pl.DataFrame(columns)
    if "text" not in table.columns:
        table = table.with_columns(text=pl.lit("x"))
    trees = {name: tree for name, tree in (("topic", TREE), ("risk", FLAT)) if name in table.columns}
    layers = [name for name in table.columns if name not in {"text", *trees} and not name.startswith("_")]
    return sample_of(table, "text", Nowhere(), of=of, taxonomies=trees, layers=layers)


def named(found: list[Measure]) -> dict[str, Measure]:
    return {one.name: one for one in found}


def test_leaves_credit_their_ancestors_and_missing_ones_are_named_in_file_order() -> None:
    found = named(Nodes().measure(sample(topic=["cards/pin", "cards/pin", None, "elsewhere"])))
    leaves = found["leaves"]
    assert leaves.value == pytest.approx(1 / 3)
    assert (leaves.n, leaves.missing) == (2, ("cards/lost", "loans"))
    assert leaves.control == pytest.approx(1 - (2 / 3) ** 2)
    assert leaves.interval is None
    top = found["nodes of level 1"]
    assert (top.value, top.missing) == (0.5, ("loans",))
    assert top.control == pytest.approx(((1 - (1 / 3) ** 2) + (1 - (2 / 3) ** 2)) / 2)
    assert leaves.note == "what accepted rows were asked to be"


def test_what_was_made_and_not_kept_is_not_called_kept() -> None:
    assert "leaves" in named(Nodes().measure(sample(of="raw", topic=["loans"])))


def test_evenness_is_one_for_equal_shares_and_none_without_rows() -> None:
    even = named(Nodes().measure(sample(topic=["cards/pin", "cards/lost", "loans"] * 20)))["evenness"]
    assert even.value == pytest.approx(1)
    assert even.interval is not None
    assert even.interval[0] < 1
    assert even.control is not None
    assert 0.95 < even.control < 1
    lone = named(Nodes().measure(sample(topic=["loans"] * 9)))["evenness"]
    assert math.copysign(1, lone.value or 0.0) == 1, "a negative zero"
    assert lone.value == 0
    assert named(Nodes().measure(sample(topic=pl.Series([None], dtype=pl.String))))["evenness"].value is None


def test_pairs_are_counted_over_all_pairs_of_leaves() -> None:
    table = sample(topic=["loans", "loans", "cards/pin"], risk=["a", "a", "b"], mood=["x", "y", "x"])
    first, *more = Pairs().measure(table)
    assert first.value == pytest.approx(2 / 6)
    assert (first.axis, first.n) == ("topic × risk", 3)
    assert first.control == pytest.approx(1 - (5 / 6) ** 3)
    assert first.missing == ("cards/lost × a", "cards/lost × b", "cards/pin × a", "loans × b")
    assert [(one.name, one.axis, one.unit) for one in more] == [
        ("pairs", "topic × mood", "of 6"),
        ("pairs", "risk × mood", "of 4"),
        ("triples", "with layers", "of 12"),
    ]
    assert (more[-1].value, more[-1].control) == (pytest.approx(3 / 12), pytest.approx(1 - (11 / 12) ** 3))


def test_layers_are_paired_with_each_other_and_triples_of_taxonomies_have_their_own_line() -> None:
    from dataclasses import replace

    tone = Taxonomy("tone", (Node("p", "p", "p", 0), Node("q", "q", "q", 0)))
    table = sample(topic=["loans", "cards/pin"], risk=["a", "b"], mood=["x", "y"], channel=["k", "l"], tone=["p", "q"])
    table = replace(
        table,
        taxonomies={**table.taxonomies, "tone": tone},
        layers=["mood", "channel"],
        strategies=[["topic", "risk"], ["risk", "tone", "topic"]],
        forbidden=lambda cell: {**cell, "topic": "loans", "tone": "q"} == cell,
    )
    found = Pairs().measure(table)
    assert [(one.axis, one.unit) for one in found if one.name == "pairs"] == [
        ("topic × risk", "of 6"),
        ("topic × tone", "of 5"),
        ("topic × mood", "of 6"),
        ("topic × channel", "of 6"),
        ("risk × tone", "of 4"),
        ("risk × mood", "of 4"),
        ("risk × channel", "of 4"),
        ("tone × mood", "of 4"),
        ("tone × channel", "of 4"),
        ("mood × channel", "of 4"),
    ]
    trees, layered = [one for one in found if one.name == "triples"]
    assert (trees.axis, trees.unit, trees.value) == ("topic × risk × tone", "of 10", 0.2)
    assert (len(trees.missing), trees.missing[0]) == (8, "cards/lost × a × p")
    # topic×risk, topic×tone (5 of 6), risk×tone: each with 2 values of 2 layers; each taxonomy with both layers
    assert layered.unit == f"of {2 * (12 + 10 + 8) + 4 * (3 + 2 + 2)}"


def test_triples_too_many_to_look_up_one_by_one_are_counted_without_forbidden_pairs() -> None:
    from dataclasses import replace

    trees = {
        name: Taxonomy(name, tuple(Node(f"{name}{n}", f"{name}{n}", f"{name}{n}", 0) for n in range(60)))
        for name in "abc"
    }
    table = replace(
        sample(a=["a0", "a1"], b=["b1", "b1"], c=["c2", "c3"]),
        taxonomies=trees,
        layers=[],
        strategies=[],
        forbidden=lambda cell: cell.get("a") == "a0" and cell.get("b") == "b0",
    )
    (triples,) = [one for one in Pairs().measure(table) if one.name == "triples"]
    assert (triples.unit, triples.value) == (f"of {60**3 - 60}", pytest.approx(2 / (60**3 - 60)))
    assert len(triples.missing) == 1000


def test_only_taxonomies_that_a_strategy_draws_together_are_paired() -> None:
    from dataclasses import replace

    table = sample(topic=["loans"], risk=["a"])
    assert Pairs().measure(replace(table, strategies=[["topic"], ["risk"]])) == []
    assert len(Pairs().measure(replace(table, strategies=[["risk", "topic"], ["topic", "risk"]]))) == 1


def test_acceptance_counts_rows_that_reach_each_filter_in_the_recipes_order() -> None:
    from dataclasses import replace

    said = [("fault", "no_json: cut"), ("length", "7 words, fewer than 8"), ("length", "3 words, fewer than 8"),
            ("duplicates", "repeats row 00aa00aa00aa00aa"), ("surplus", None), (None, None), (None, None)]  # fmt: skip
    history = pl.DataFrame(
        {"_kept": [name is None for name, _ in said], "_filter": [n for n, _ in said], "_reason": [r for _, r in said]}
    )
    found = Acceptance().measure(replace(sample(), attempts=history, filters=["length", "duplicates", "schema"]))
    assert [(one.name, one.axis, one.value, one.n) for one in found] == [
        ("accepted", "", 2 / 7, 7),
        ("failed", "", 1 / 7, 7),
        ("surplus", "", 1 / 7, 7),
        ("rejected", "length", 2 / 6, 6),
        ("rejected", "duplicates", 1 / 4, 4),
        ("rejected", "schema", 0.0, 3),
    ]
    assert found[3].note == "1 × 3 words, fewer than 8; 1 × 7 words, fewer than 8"
    assert found[5].interval == wilson(0, 3)


def test_acceptance_leaves_out_what_nobody_judged_and_tells_what_no_verdict_was_given_on() -> None:
    from dataclasses import replace

    said = [("retired", "retired", "gone"), (None, "unjudged", None), (None, "accepted", None),
            ("judge", "rejected", "undecided: says maybe"), ("judge", "rejected", "dull")]  # fmt: skip
    history = pl.DataFrame(
        {"_filter": [f for f, _, _ in said], "_state": [s for _, s, _ in said], "_reason": [r for _, _, r in said]}
    ).with_columns((pl.col("_state") == "accepted").alias("_kept"))
    found = Acceptance().measure(replace(sample(), attempts=history, filters=["judge"]))
    assert [(one.name, one.axis, one.value, one.n) for one in found] == [
        ("accepted", "", 1 / 4, 4),
        ("not judged yet", "", 1 / 4, 4),
        ("rejected", "judge", 2 / 3, 3),
    ]
    assert found[2].note == "1 undecided; 1 × dull"


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        (["band medium is full: 47 of 47"] * 47, "47 × band medium is full: 47 of 47"),
        ([f"{n} words, fewer than 20" for n in (3, 5, 11, 19, 19)], "5 × 3 to 19 words, fewer than 20"),
        (
            [f"{n % 2} of 3 tries agree, 2 wanted; solver: {n}, row: {n + 1}" for n in range(7)],
            "4 × 0 of 3 tries agree, 2 wanted; …; 3 × 1 of 3 tries agree, 2 wanted; …",
        ),
        (
            [f"clear {1 + n % 2} of at least 3: it says nothing of {word}" for n, word in enumerate("abcde")],
            "3 × clear 1 of at least 3: …; 2 × clear 2 of at least 3: …",
        ),
        (
            ["topic: asked a/b, landed a/c"] * 3 + ["topic: asked a/b, landed d"],
            "3 × topic: asked a/b, landed a/c; 1 × topic: asked a/b, landed d",
        ),
        (
            [f"repeats row {n:016x}, letters 0.9{n}, at or above 0.90" for n in range(1, 9)],
            "8 × repeats row …, letters 0.91 to 0.98, at or above 0.90",
        ),
        (['has "amber" of a file', 'has "needle" of a file'], "2 × has … of a file"),
        ([f"{word} is missed" for word in "dcba"], "4 reasons, each another, e.g. a is missed"),
    ],
)
def test_reasons_that_say_the_same_add_up_and_say_something(reasons: list[str], said: str) -> None:
    from dataclasses import replace

    history = pl.DataFrame({"_kept": False, "_filter": "one", "_reason": reasons})
    found = Acceptance().measure(replace(sample(), attempts=history, filters=["one"]))
    assert next(one.note for one in found if one.name == "rejected") == said


def test_nobody_asked_for_real_rows() -> None:
    assert Asked().measure(sample(of="anchor")) == []
    (one,) = Asked().measure(sample())
    assert one.note == "no row was asked for a difficulty"


def test_without_a_history_acceptance_says_so() -> None:
    (one,) = Acceptance().measure(sample())
    assert (one.value, one.note) == (None, "no history of candidates is at hand")


def test_structure_counts_what_a_reader_counts() -> None:
    text = 'One short sentence. "Is this (perhaps) another?" Yes! Version 3.5 is out'
    row = counted([text, "", "日本語。"]).to_dicts()
    assert (row[0]["words"], row[0]["sentences"]) == (12, 3)
    assert row[0]["long words"] == pytest.approx(4 / 12)
    assert (row[1]["words"], row[1]["sentences"], row[1]["words per sentence"]) == (0, 0, 0)
    assert row[2]["sentences"] == 1
    assert variety(list("aab"), 2) == pytest.approx(0.75)
    assert variety(["a"], 2) is None


def test_variety_needs_texts_of_the_window() -> None:
    found = named(Structure().measure(sample(text=["a b c"] * 30)))
    assert found["words"].value == 3
    assert found["word variety"].value is None
    assert found["word variety"].note == "too few: 0 of 30 texts read have 50 words, needs 6"


def test_harder_that_is_only_longer_vanishes_when_length_is_held_fixed() -> None:
    rng = np.random.default_rng(0)
    hard = [bool(x) for x in rng.integers(0, 2, 400)]
    text = [" ".join(["word"] * int(rng.integers(5, 20) + 15 * h)) + "." for h in hard]
    found = named(Asked().measure(sample(text=text, _complexity=["hard" if h else None for h in hard])))
    length = found["asked against words"]
    assert length.value is not None
    assert length.interval is not None
    assert length.value > 0.7
    assert length.interval[0] > 0.6
    assert length.control == 0.0
    assert found["asked against words per sentence at equal length"].value is None
    assert found["asked against long words"].note == "one side never varies"


def test_difficulty_words_have_an_order_and_unknown_ones_do_not() -> None:
    text = [" ".join(["w"] * (i + 1)) for i in range(30)]
    levels = ["easy", "medium", "hard"]
    found = named(Asked().measure(sample(text=text, _complexity=[levels[i // 10] for i in range(30)])))
    assert found["asked against words"].value == pytest.approx(0.94, abs=0.02)
    (one,) = Asked().measure(sample(text=["a", "b"], _complexity=["blue", "green"]))
    assert one.note == "no known order of blue, green"
    (one,) = Asked().measure(sample(text=["a"]))
    assert one.note == "no row was asked for a difficulty"


def test_surprisal_is_nats_per_token_over_at_most_the_texts_asked_for() -> None:
    from dataclasses import replace

    table = sample(text=[f"text {i}" for i in range(80)])
    (one,) = Surprisal().measure(replace(table, surprisal=lambda some: [(6.0, 3)] * len(some)))
    assert (one.value, one.n, one.interval) == (2.0, 50, (2.0, 2.0))
    (one,) = Surprisal().measure(table)
    assert (one.value, one.note) == (None, "read only where a recipe's rows come from the embedded model")
    (one,) = Surprisal().measure(replace(table, surprisal=lambda some: [(0.0, 0)] * len(some)))
    assert one.value is None


def test_pairwise_distance_and_its_jackknife_agree_with_brute_force() -> None:
    rng = np.random.default_rng(1)
    v = rng.normal(size=(40, 8)).astype(np.float32)
    v /= np.linalg.norm(v, axis=1, keepdims=True)

    def brute(w: object) -> float:
        u = np.asarray(w, dtype=np.float64)
        return float(1 - (u @ u.T)[np.triu_indices(len(u), 1)].mean())

    value, interval = pairwise(v)
    assert value == pytest.approx(brute(v), abs=1e-6)
    without = np.array([brute(np.delete(v, i, axis=0)) for i in range(40)])
    spread = 1.959964 * math.sqrt(39 * without.var())
    assert interval == pytest.approx((value - spread, value + spread), abs=1e-5)
    distances = np.sort(1 - v @ v.T + 9 * np.eye(40), axis=1)[:, :5].mean(axis=1)
    assert nearest(v, np.arange(40), 5) == pytest.approx(distances, abs=1e-5)


def test_cluster_figures_of_known_labels() -> None:
    assert summary(np.array([0, 0, 1, 1, -1])) == (2, 0.4, 0.2)
    assert summary(np.array([-1, -2])) == (0, 0.0, 1.0)
    assert effective(np.array([0, 0, 1, 1])) == pytest.approx(2)
    assert effective(np.array([0, -1, -2, -3])) == pytest.approx(4)
    assert effective(np.array([0, 0, 0, -5])) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_wilson_of_none_in_eight_is_not_nothing() -> None:
    found = wilson(0, 8)
    assert found is not None
    assert found == pytest.approx((0, 0.3244), abs=1e-4)
    assert wilson(0, 0) is None


@pytest.mark.parametrize("n", [30, 200])
def test_intervals_hold_the_truth_about_as_often_as_they_say(n: int) -> None:
    rng = np.random.default_rng(2)
    hits = {"median": 0, "mean": 0, "rarefied": 0}
    for _ in range(200):
        values = rng.exponential(size=n)
        for name, (_, interval) in (("median", median(values)), ("mean", mean(values))):
            assert interval is not None
            hits[name] += interval[0] <= (math.log(2) if name == "median" else 1.0) <= interval[1]
        _, (interval,) = rarefied(n, n, partial(mean_of, values), seed=3)
        assert interval is not None
        hits["rarefied"] += interval[0] <= 1.0 <= interval[1]
    assert all(174 <= count <= 200 for count in hits.values()), hits


def test_rank_correlation_handles_ties_and_constants() -> None:
    assert spearman(np.array([1.0, 2, 3]), np.array([10.0, 20, 30])) == pytest.approx(1)
    assert spearman(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])) is None
    assert spearman(np.array([1.0, 1, 2, 2]), np.array([1.0, 2, 3, 4])) == pytest.approx(0.8944, abs=1e-4)
