"""Ours beside real rows, and real rows beside real rows: precision, recall, regions reached, differences."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_limits

from qdcgen.beside import against, compares
from qdcgen.landing import Landing
from qdcgen.measure import measure, samples_of
from qdcgen.metrics.attributes import Attributes, divergence
from qdcgen.metrics.nodes import Nodes
from qdcgen.metrics.real_support import LEAST, RealSupport, grouped, reached
from qdcgen.parts import Sample
from qdcgen.rows import Measure, Node, Taxonomy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

DATA = Path(__file__).parents[2] / "../shared/data"
MODES = 20
DIM = 32

TREE = Taxonomy(
    "topic",
    (
        Node("cards", "cards", "cards", 0),
        Node("cards/lost", "lost", "cards/lost", 1, "cards"),
        Node("cards/pin", "pin", "cards/pin", 1, "cards"),
        Node("transfers", "transfers", "transfers", 0),
        Node("loans", "loans", "loans", 0),
    ),
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As `measure` has it: two threads on busy cores take ten times as long for small products."""
    with threadpool_limits(limits=1):
        yield


def unit(points: NDArray[np.float64]) -> Vectors:
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


CENTRES = unit(np.random.default_rng(99).normal(size=(MODES, DIM)))


def drawn(n: int, seed: int, modes: Sequence[int] = range(MODES), noise: float = 0.0) -> Vectors:
    """Points near some of 20 directions; `noise`: the share that lies anywhere."""
    rng = np.random.default_rng(seed)
    at = CENTRES[rng.choice(list(modes), n)] + 0.12 * rng.normal(size=(n, DIM))
    far = round(noise * n)
    at[:far] = rng.normal(size=(far, DIM))
    return unit(at)


def population(of: str, vectors: Vectors, **columns: Any) -> Sample:
    texts = [f"text {n:06d} of {of}" for n in range(len(vectors))]
    table = pl.DataFrame({"text": texts, **columns})
    return Sample(of, texts, table, lambda: vectors, "points 1")


def side_by_side(ours: Sample, real: Sample) -> Sample:
    return replace(ours, beside={ours.of: ours, "anchor": real})


def near(ours: Vectors, real: Vectors, texts: int = 400) -> dict[str, Measure]:
    found = RealSupport(texts=texts).measure(side_by_side(population("kept", ours), population("anchor", real)))
    return {one.name: one for one in found}


def number(one: Measure) -> float:
    assert one.value is not None, one
    return one.value


def holds(one: Measure, value: float | None) -> bool:
    assert one.interval is not None
    assert value is not None
    return one.interval[0] <= value <= one.interval[1]


# ── precision, recall, regions without labels ───────────────────────────────────────────────────────────────────────


def test_the_same_distribution_has_the_control_within_its_intervals() -> None:
    within = []
    for seed in range(10):
        found = near(drawn(300, seed), drawn(600, seed + 100))
        assert found["precision"].control_of == "real vs real"
        within += [holds(found[name], found[name].control) for name in ("precision", "recall")]
    assert sum(within) >= 18, within


def test_a_dropped_mode_lowers_recall_and_not_precision() -> None:
    real = drawn(2_000, 1)
    whole, *fewer = [near(drawn(1_000, 2, range(count)), real) for count in (20, 15, 10, 5)]
    for found in fewer:
        assert number(found["precision"]) == pytest.approx(number(whole["precision"]), abs=0.04)
    recalls = [number(found["recall"]) for found in (whole, *fewer)]
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[1] < recalls[0] - 0.1
    assert not holds(fewer[0]["recall"], fewer[0]["recall"].control)
    assert number(fewer[1]["real regions reached"]) == pytest.approx(0.5, abs=0.15)
    assert fewer[1]["real regions reached"].missing


def test_noise_lowers_precision_and_hardly_recall() -> None:
    real = drawn(2_000, 1)
    found = [near(drawn(1_000, 2, noise=noise), real) for noise in (0.0, 0.1, 0.3, 0.6)]
    precise = [number(one["precision"]) for one in found]
    for noise, value in zip((0.1, 0.3, 0.6), precise[1:], strict=True):
        assert value == pytest.approx(precise[0] * (1 - noise), abs=0.03)
    recalls = [number(one["recall"]) for one in found]
    assert recalls == sorted(recalls, reverse=True), "noise never adds to what is reached"
    assert recalls[1] > recalls[0] - 0.03


def test_texts_that_have_nothing_in_common_reach_nothing() -> None:
    """Kynkäänniemi's recall has balls round ours: scattered ones swallow what lies in their middle."""
    rng = np.random.default_rng(0)
    middle = unit(rng.normal(size=(1, 512)))
    real, ours = (unit(middle + width * rng.normal(size=(400, 512))) for width in (0.001, 0.14))
    found = near(ours, real)
    assert [number(found[name]) for name in ("precision", "recall", "real regions reached")] == [0, 0, 0]
    assert all(found[name].control for name in found)
    cosines = ours @ ours.T
    np.fill_diagonal(cosines, -np.inf)
    edge = np.sort(cosines, axis=1)[:, -5]
    assert (ours @ real.T >= edge[:, None]).any(axis=0).mean() == 1, "what the published recall says of them"


def test_real_support_by_hand() -> None:
    """Real texts at 0°, 10° and 20°, k = 1: every ball is 10° wide; ours at 5° lies in the balls of 0° and 10°."""
    from qdcgen.metrics.real_support import Near

    def at(*degrees: float) -> Vectors:
        radians = np.radians(degrees)
        return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)

    inside, held = Near(at(0, 10, 20), 1).of(at(5, 180))
    assert inside == 0.5
    assert held.tolist() == [True, True, False]
    inside, held = Near(at(0, 0, 0), 1).of(at(0, 1))
    assert (inside, held.tolist()) == (0.5, [True, True, True]), "equal texts are in each other's balls of no width"


def test_precision_and_recall_do_not_move_with_the_number_of_rows_given() -> None:
    """They are taken at as many as half the anchor: more of ours changes nothing but the interval."""
    real = drawn(1_000, 1)
    few, many = near(drawn(500, 2), real), near(drawn(5_000, 3), real)
    for name in ("precision", "recall"):
        assert (few[name].n, many[name].n) == (400, 400)
        assert number(few[name]) == pytest.approx(number(many[name]), abs=0.03)
        assert holds(few[name], number(many[name]))


def test_copies_of_few_texts_lower_recall_step_by_step() -> None:
    real = drawn(2_000, 1)
    ours = drawn(1_000, 2)
    recalls = [number(near(ours[np.arange(1_000) % left], real)["recall"]) for left in (1_000, 500, 200, 50, 5)]
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[-1] < 0.2


def test_the_order_of_rows_does_not_matter() -> None:
    ours, real = population("kept", drawn(400, 2)), population("anchor", drawn(500, 1))
    turned = []
    for sample, seed in ((ours, 5), (real, 6)):
        order = np.random.default_rng(seed).permutation(len(sample.texts))
        vectors = sample.vectors()[order]
        turned.append(
            replace(
                sample,
                texts=[sample.texts[i] for i in order],
                frame=sample.frame[order.tolist()],
                vectors=lambda vectors=vectors: vectors,
            )
        )
    for metric in (RealSupport(), Attributes()):
        one, other = metric.measure(side_by_side(ours, real)), metric.measure(side_by_side(*turned))
        for a, b in zip(one, other, strict=True):
            assert a.value == pytest.approx(b.value)
            assert (a.control, a.missing) == (pytest.approx(b.control), b.missing)


@pytest.mark.parametrize(("n", "real"), [(0, 0), (1, 1), (99, 500), (500, 199)])
def test_what_cannot_be_told_at_this_size_is_not(n: int, real: int) -> None:
    found = near(drawn(n, 1), drawn(real, 2))
    assert {one.value for one in found.values()} == {None}
    texts = "1 text" if n == 1 else f"{n} texts"
    assert all(one.note == f"too few: {texts} and {real} real ones, needs {LEAST} and 200" for one in found.values())


def test_all_texts_alike_are_precise_and_reach_all() -> None:
    same = np.repeat(drawn(1, 1), 400, axis=0)
    found = near(same, same)
    assert [one.value for one in found.values()] == [1, 1, 1]
    far = near(same, np.repeat(-drawn(1, 1), 400, axis=0))
    assert [one.value for one in far.values()] == [0, 0, 0]


def test_groups_do_not_depend_on_a_seed_of_their_own_and_have_no_gaps() -> None:
    vectors = drawn(500, 1)
    group = grouped(vectors, 20, 7)
    assert (group == grouped(vectors, 20, 7)).all()
    assert set(group.tolist()) == set(range(int(group.max()) + 1))
    assert int(grouped(np.repeat(vectors[:2], 50, axis=0), 20, 7).max()) == 1, "two texts are two groups at most"


def test_a_group_is_reached_where_half_of_its_texts_are_and_absent_ones_do_not_count() -> None:
    held = np.array([True, False, False, False, True, True])
    group = np.array([0, 0, 1, 1, 1, 3])
    assert reached(held, group, 4) == [2 / 3, 1, 0, 1, 1]


def test_nothing_is_said_of_the_anchor_itself_or_of_raw_beside_accepted_rows() -> None:
    kept, raw, real = (population(of, drawn(200, 1)) for of in ("kept", "raw", "anchor"))
    beside = {"kept": kept, "raw": raw, "anchor": real}
    for sample in (raw, real):
        assert compares(replace(sample, beside=beside)) is None
        assert not RealSupport().measure(replace(sample, beside=beside))
        assert not Attributes().measure(replace(sample, beside=beside))
    assert compares(replace(kept, beside=beside)) is real
    assert compares(replace(raw, beside={"raw": raw, "anchor": real})) is real


# ── intervals ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("ours", "real"), [(300, 300), (150, 3_000), (3_000, 150)])
def test_the_interval_of_a_difference_of_means_holds_what_it_says(ours: int, real: int) -> None:
    """Against a figure whose truth is known: the difference of two means, 0.5, over 200 pairs of samples."""
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        mine, theirs = rng.normal(0.5, 1, ours), rng.normal(0, 2, real)

        def figures(rows: NDArray[np.int64], mine: Any = mine, theirs: Any = theirs) -> Any:
            base = float(theirs[rows].mean())
            return lambda some, own: [float((mine if own else theirs)[some].mean()) - base]

        found = against(ours, real, min(ours, real // 2), figures, seed=seed)
        assert found.intervals[0] is not None
        low, high = found.intervals[0]
        hits += low <= 0.5 <= high
    assert 0.91 <= hits / 200 <= 0.99


def test_there_is_no_interval_where_subsets_would_have_fewer_than_five_rows() -> None:
    found = against(8, 16, 8, lambda _: lambda some, own: [float(len(some))], seed=0)
    assert found.intervals == [None]
    assert found.values == found.controls == [8.0]


# ── differences of attributes ───────────────────────────────────────────────────────────────────────────────────────


def test_divergence_is_nothing_for_equal_shares_and_one_bit_where_nothing_is_shared() -> None:
    assert divergence(np.array([1, 2, 0]), np.array([10, 20, 0])) == pytest.approx(0)
    assert divergence(np.array([5, 0]), np.array([0, 9])) == pytest.approx(1)
    p, q = np.array([0.75, 0.25]), np.array([0.25, 0.75])
    middle = 0.5
    wanted = sum(0.5 * (a * math.log2(a / middle) + b * math.log2(b / middle)) for a, b in zip(p, q, strict=True))
    assert divergence(np.array([3, 1]), np.array([1, 3])) == pytest.approx(wanted)
    from scipy.spatial.distance import jensenshannon

    one, other = np.random.default_rng(0).integers(0, 50, (2, 30))
    assert divergence(one, other) == pytest.approx(jensenshannon(one, other, base=2) ** 2)


def written(of: str, n: int, seed: int, words: tuple[int, int] = (5, 20), **columns: Any) -> Sample:
    rng = np.random.default_rng(seed)
    texts = [" ".join(f"w{rng.integers(900)}" for _ in range(rng.integers(*words))) for _ in range(n)]
    return Sample(of, texts, pl.DataFrame({"text": texts, **columns}), lambda: drawn(n, seed), "points 1")


def differences(ours: Sample, real: Sample) -> dict[tuple[str, str], Measure]:
    return {(one.axis, one.of): one for one in Attributes().measure(side_by_side(ours, real))}


def moods(n: int, angry: float, seed: int) -> list[str]:
    return np.where(np.random.default_rng(seed).random(n) < angry, "angry", "calm").tolist()


def test_equal_distributions_differ_by_as_much_as_the_control() -> None:
    within = []
    for seed in range(20):
        ours = written("kept", 300, seed, mood=moods(300, 0.5, seed))
        real = written("anchor", 900, seed + 50, mood=moods(900, 0.5, seed + 50))
        within += [holds(one, one.control) for one in differences(ours, real).values()]
    assert sum(within) >= 0.9 * len(within)


def test_a_shift_shows_in_its_own_attribute_and_the_note_names_what_shifted() -> None:
    ours = written("kept", 400, 1, mood=moods(400, 0.9, 1), stars=[n % 5 for n in range(400)])
    real = written("anchor", 800, 2, mood=moods(800, 0.5, 2), stars=[n % 5 for n in range(800)])
    found = differences(ours, real)
    assert set(found) == {("mood", "kept"), ("stars", "kept"), ("words", "kept"), ("form", "kept")}
    mood = found["mood", "kept"]
    assert mood.interval is not None
    assert mood.control is not None
    assert mood.interval[0] > mood.control
    assert mood.note.startswith(("angry: ", "calm: "))
    assert holds(found["stars", "kept"], found["stars", "kept"].control)
    assert not found["stars", "kept"].note


def test_lengths_and_forms_that_share_nothing_are_a_whole_bit_apart() -> None:
    ours = written("kept", 100, 1, words=(40, 60))
    real = written("anchor", 200, 2, words=(3, 9))
    found = differences(ours, real)["words", "kept"]
    assert found.value == pytest.approx(1)
    assert found.control is not None
    assert found.control < 0.1
    lists = population("kept", drawn(100, 1))
    lists = replace(lists, texts=[f"- one {n}\n- two\n- three" for n in range(100)])
    assert differences(lists, population("anchor", drawn(200, 2)))["form", "kept"].value == pytest.approx(1)


def test_columns_of_text_of_other_names_or_of_too_many_values_are_no_attributes() -> None:
    ours = written("kept", 100, 1, who=[f"person {n}" for n in range(100)], only=["a"] * 100, _mood=["x"] * 100)
    real = written("anchor", 200, 2, who=[f"person {n}" for n in range(200)], other=["b"] * 200, _mood=["y"] * 200)
    assert {axis for axis, _ in differences(ours, real)} == {"words", "form"}
    assert differences(
        written("kept", 100, 1, yes=[True, False] * 50), written("anchor", 200, 2, yes=["true", None] * 100)
    )["yes", "kept"].value == pytest.approx(0.311, abs=0.05), "a truth value is its word, and null is no value"


def test_too_few_labelled_rows_are_said_by_name() -> None:
    ours = written("kept", 100, 1, mood=["a", "b"] * 50)
    real = written("anchor", 200, 2, mood=["a", "b"] * 5 + [None] * 190)
    found = differences(ours, real)
    assert found["mood", "kept"].note == "too few: 100 rows and 10 real ones with mood, needs 20 and 40"
    assert found["words", "kept"].value is not None
    few = Attributes().measure(side_by_side(written("kept", 9, 1), real))
    assert [one.note for one in few] == ["too few: 9 texts and 200 real ones, needs 20 and 40"]


# ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def labelled(of: str, topics: Sequence[str | None], seed: int = 0, landed: Sequence[str] | None = None) -> Sample:
    places = {node.path: number for number, node in enumerate(TREE.nodes)}
    column = pl.Series("topic", topics, dtype=pl.String)
    sample = replace(population(of, drawn(len(topics), seed), topic=column), taxonomies={"topic": TREE})
    asked = np.array([-1 if one is None else places[one] for one in topics])
    if landed is None:
        return sample
    found = Landing(asked, np.array([places[one] for one in landed]), "points 1", of == "anchor")
    return replace(sample, landing=lambda axis: found if axis == "topic" else None)


REAL = ["cards/lost"] * 100 + ["cards/pin"] * 60 + ["transfers"] * 38 + ["loans"] * 2


def regions(ours: Sample, real: Sample) -> dict[str, Measure]:
    found = RealSupport().measure(side_by_side(ours, real))
    return {one.of: one for one in found if one.name == "real regions reached"}


def test_labelled_regions_are_counted_and_missing_ones_named_with_their_share_of_real_rows() -> None:
    ours = labelled("kept", ["cards/lost"] * 90 + ["transfers"] * 10)
    one = regions(ours, labelled("anchor", REAL))["kept"]
    assert one.value == pytest.approx(2 / 4)
    assert one.missing == ("cards/pin (30.0% of real rows)", "loans (1.0% of real rows)")
    assert (one.n, one.unit, one.axis, one.control_of) == (100, "of 4", "topic", "as many real rows")
    assert one.note == "what accepted rows were asked to be; those reached hold 69.0% of real rows"
    assert one.control == pytest.approx(sum(1 - (1 - share) ** 100 for share in (0.5, 0.3, 0.19, 0.01)) / 4), (
        "of as many real rows a few would miss the rarest too"
    )


def test_a_region_counts_by_where_texts_landed_not_by_what_was_asked() -> None:
    """A writer that answers every request with the same text has full marks for what was asked only."""
    ours = labelled("kept", ["cards/lost", "cards/pin", "transfers", "loans"] * 25, landed=["cards/pin"] * 100)
    real = labelled("anchor", REAL, landed=REAL)
    found = regions(ours, real)
    assert (found["kept"].value, found["landed"].value) == (1, 1 / 4)
    assert found["landed"].note.startswith("read by points 1")
    assert found["landed"].missing[0] == "cards/lost (50.0% of real rows)"
    both = {(one.axis, one.of): one.value for one in Attributes().measure(side_by_side(ours, real))}
    assert both["topic", "landed"] is not None
    assert both["topic", "kept"] is not None
    assert both["topic", "landed"] > both["topic", "kept"]


def test_a_row_below_a_labelled_node_reaches_it_and_a_row_above_does_not() -> None:
    """Ancestors not credited is a known fault of coverage figures."""
    below = regions(labelled("kept", ["cards/pin"] * 50), labelled("anchor", ["cards"] * 200))["kept"]
    assert (below.value, below.missing) == (1, ())
    above = regions(labelled("kept", ["cards"] * 50), labelled("anchor", ["cards/pin"] * 200))["kept"]
    assert (above.value, above.missing) == (0, ("cards/pin (100.0% of real rows)",))


def test_with_labels_there_are_no_nameless_regions_and_without_any_known_there_are() -> None:
    ours = labelled("kept", ["loans"] * 100)
    assert regions(ours, labelled("anchor", REAL))["kept"].axis == "topic"
    unknown = regions(ours, labelled("anchor", [None] * 200))["kept"]
    assert (unknown.axis, unknown.unit) == ("", "of 5")


def test_coverage_is_not_capped_below_one_nor_above_by_what_is_there() -> None:
    """A share that can never reach 1, or is 1 before all is reached, is a known fault: every leaf, then all but one."""
    leaves = [leaf.path for leaf in TREE.leaves]
    for missing in range(len(leaves)):
        rows = leaves[missing:] * 30
        found = {one.name: one for one in Nodes().measure(labelled("kept", rows))}
        assert found["leaves"].value == pytest.approx(1 - missing / 4)
        one = regions(labelled("kept", rows), labelled("anchor", leaves * 50))["kept"]
        assert one.value == pytest.approx(1 - missing / 4)
        assert len(one.missing) == missing


# ── real data, whole reports ────────────────────────────────────────────────────────────────────────────────────────


def test_bank_messages_reach_bank_messages_and_product_reviews_do_not() -> None:
    """Recall as published gives 0.48 to reviews."""
    bank, other = DATA / "banking77/train.csv", DATA / "sentiment_domains/sentiment.csv"
    if not (bank.exists() and other.exists()):
        pytest.skip(f"no {bank} or no {other}")
    from qdcgen.embedders.wordllama import Wordllama

    real = pl.read_csv(bank).select("text").sample(fraction=1.0, shuffle=True, seed=1)
    reviews = pl.read_csv(other).select("text").head(600)
    found = {}
    for name, ours, theirs in (
        ("bank", real.tail(1_000), real.head(2_000)),
        (
            "short bank",
            *(
                half.with_columns(pl.col("text").str.extract(r"^((?:\S+\s*){1,6})"))
                for half in (real.tail(1_000), real.head(2_000))
            ),
        ),
        ("reviews", reviews, real.head(2_000)),
    ):
        pair = samples_of({"kept": ours, "anchor": theirs}, "text", Wordllama())
        found[name] = {one.name: one for one in measure(pair, [RealSupport()]) if one.of == "kept"}
    for name in ("precision", "recall"):
        for of in ("bank", "short bank"):
            assert holds(found[of][name], found[of][name].control), (of, name)
    assert number(found["reviews"]["recall"]) < 0.02
    assert number(found["reviews"]["precision"]) < 0.1
