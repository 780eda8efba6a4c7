"""What `rated` says of the ratings of a critic whose noise is known."""

import numpy as np
import polars as pl
import pytest

from qdcgen.bradley_terry import FLAT, UNKNOWN, Batch, Ratings, schedule
from qdcgen.metrics.asked import Asked
from qdcgen.metrics.rated import Rated
from qdcgen.parts import Sample
from qdcgen.taxonomy import inline

TOPICS = ["cards/lost", "cards/declined", "transfers/pending", "transfers/wrong account"]


def scored(texts, truth, seed, *, appearances=5, anchors=None, noise=1.0):
    """Ratings by a critic for whom a logit of truth is a logit."""
    rng = np.random.default_rng(seed)
    held = [*texts, *(anchors or {})]
    batches = []
    for number, groups in enumerate(schedule(len(held), 5, appearances, seed)):
        for group in groups:
            said = np.array([truth[held[item]] for item in group]) + noise * rng.gumbel(size=len(group))
            batches.append(Batch(group, tuple(said.tolist()), number))
    return Ratings(held, batches, "critic", len(batches), anchors=anchors or {})


def sample_of(texts, ratings, **columns):
    frame = pl.DataFrame({"text": texts, **columns})
    nothing = np.zeros((len(texts), 2), dtype=np.float32)
    more = {"taxonomies": {"topic": inline("topic", TOPICS, "test")}} if "topic" in columns else {}
    layers = [name for name in columns if name not in ("topic", "_complexity")]
    return Sample("kept", texts, frame, lambda: nothing, "none", ratings=ratings, layers=layers, **more)


def figures(sample):
    return {(one.name, one.axis): one for one in Rated().measure(sample)}


def rows(n, seed, lift=1.0, spread=1.0, longer=0.0):
    """Texts of 20 to 40 words, a third of them hard: rated `lift` higher, and with `longer` times the words."""
    rng = np.random.default_rng(seed)
    hard = np.arange(n) % 3 == 0
    words = np.round(rng.uniform(20, 40, n) * (1 + longer * hard)).astype(int)
    texts = [f"t{number} " + "w " * (count - 1) for number, count in enumerate(words.tolist())]
    truth = rng.normal(0, spread, n) + lift * hard
    return texts, dict(zip(texts, truth.tolist(), strict=True)), ["hard" if one else "plain" for one in hard], words


def test_without_a_critic_nothing_is_said():
    assert Rated().measure(sample_of(["a", "b"], None)) == []


def test_the_difference_lies_in_its_interval_for_19_of_20_critics_and_runs():
    held, equal, values = 0, 0, []
    for seed in range(200):
        texts, truth, asked, _ = rows(60, seed)
        found = figures(sample_of(texts, scored(texts, truth, seed), _complexity=asked))
        if found["rated harder", ""].value is None:
            assert found["rating reliability", ""].value < 0.5
            continue
        low, high = found["rated harder", ""].interval
        held += low <= 1.0 <= high
        low, high = found["rated harder at equal length", ""].interval
        equal += low <= 1.0 <= high
        values.append(found["rated harder", ""].value)
    assert len(values) > 190
    assert 0.90 <= held / len(values) <= 0.99
    assert 0.90 <= equal / len(values) <= 0.99
    assert np.mean(values) == pytest.approx(1.0, abs=0.15)


def test_a_critic_that_goes_by_length_is_seen_through_at_equal_length():
    texts, _, asked, words = rows(200, 1, longer=0.4)
    truth = dict(zip(texts, (words / 8.0).tolist(), strict=True))
    found = figures(sample_of(texts, scored(texts, truth, 1), _complexity=asked))
    assert found["rated harder", ""].interval[0] > 0.5
    low, high = found["rated harder at equal length", ""].interval
    assert low < 0.35
    assert high < found["rated harder", ""].value
    assert abs(found["rated harder at equal length", ""].value) < 0.35


def test_rows_of_no_like_length_are_not_compared():
    texts, truth, asked, _ = rows(90, 2, longer=3.0)
    found = figures(sample_of(texts, scored(texts, truth, 2), _complexity=asked))
    assert found["rated harder", ""].value is not None
    equal = found["rated harder at equal length", ""]
    assert (equal.value, equal.interval, equal.control) == (None, None, None)
    assert equal.note.startswith("too few: 0 of 30 rows asked to be hard")


@pytest.mark.parametrize(("asked", "name"), [(["hard", None, None], "hard"), (["easy", "medium", "hard"], "hard")])
def test_the_hardest_that_was_asked_for_is_set_against_the_others(asked, name):
    texts, truth, _, _ = rows(60, 3)
    found = figures(sample_of(texts, scored(texts, truth, 3), _complexity=asked * 20))
    assert found["rated harder", ""].note == f"20 rows asked to be {name} against 40"


@pytest.mark.parametrize("asked", [["hard"], ["red", "blue"], [None]])
def test_where_nothing_was_asked_or_the_order_is_not_known_nothing_is_compared(asked):
    texts, truth, _, _ = rows(60, 3)
    column = pl.Series("_complexity", (asked * 60)[:60], dtype=pl.String)
    assert ("rated harder", "") not in figures(sample_of(texts, scored(texts, truth, 3), _complexity=column))


def test_the_order_of_rows_changes_nothing_and_a_repeat_of_a_row_adds_no_certainty():
    texts, truth, asked, _ = rows(60, 4)
    ratings = scored(texts, truth, 4)
    topics = [TOPICS[n % 4] for n in range(60)]
    one = figures(sample_of(texts, ratings, _complexity=asked, topic=topics))
    order = np.random.default_rng(0).permutation(60).tolist()
    mixed = [[column[at] for at in order] for column in (texts, asked, topics)]
    other = figures(sample_of(mixed[0], ratings, _complexity=mixed[1], topic=mixed[2]))
    assert list(one) == list(other)
    for key, measure in one.items():
        assert other[key].value == pytest.approx(measure.value, abs=1e-9)
        assert other[key].interval == pytest.approx(measure.interval, abs=1e-9)
    twice = figures(sample_of(texts * 5, ratings, _complexity=asked * 5))["rated harder", ""]
    assert twice.value == pytest.approx(one["rated harder", ""].value)
    assert twice.interval == pytest.approx(one["rated harder", ""].interval, abs=1e-9)


def test_an_axis_that_moves_ratings_is_named_with_its_ends_and_one_that_does_not_is_left_out():
    texts, truth, _, _ = rows(120, 5, lift=0.0)
    rng = np.random.default_rng(5)
    topics = [TOPICS[n % 4] for n in range(120)]
    words = rng.integers(1, 100, 120)
    moved = {
        text: value + 2.0 * (topic == TOPICS[3]) + word / 25
        for (text, value), topic, word in zip(truth.items(), topics, words.tolist(), strict=True)
    }
    moods = rng.choice(["calm", "angry"], 120).tolist()
    found = figures(sample_of(texts, scored(texts, moved, 5), topic=topics, words=words, mood=moods))
    assert found["rating explained", "topic"].note.startswith("highest transfers/wrong account (+")
    assert 0 < found["rating explained", "topic"].interval[0] < found["rating explained", "topic"].value < 0.7
    assert found["rating explained", "words"].note.startswith("highest 7")
    assert ("rating explained", "mood") not in found


def test_of_axes_that_do_nothing_few_are_named():
    named = 0
    for seed in range(60):
        texts, truth, _, _ = rows(60, seed, lift=0.0)
        moods = np.random.default_rng(seed + 1000).choice(["calm", "angry", "sad"], 60).tolist()
        named += ("rating explained", "mood") in figures(sample_of(texts, scored(texts, truth, seed), mood=moods))
    assert named <= 6


def test_too_few_texts_or_rounds_are_said_to_be_too_few():
    texts, truth, asked, _ = rows(15, 6)
    (only,) = Rated().measure(sample_of(texts, scored(texts, truth, 6), _complexity=asked))
    assert only.value is None
    assert only.note.startswith("too few: 15 texts, 15 calls to critic")
    texts, truth, asked, _ = rows(60, 6)
    (only,) = Rated().measure(sample_of(texts, scored(texts, truth, 6, appearances=1), _complexity=asked))
    assert only.value is None  # twelve batches that nothing joins
    assert only.note.startswith("too few: 5 texts, 12 calls to critic joined by comparisons")
    whole = Ratings(texts, [Batch(tuple(range(60)), tuple(map(float, range(60))))], "critic", 1)
    once = figures(sample_of(texts, whole, _complexity=asked))
    assert once["rating reliability", ""].value is None
    assert "compared once" in once["rating reliability", ""].note
    silent = Ratings(texts, [Batch((0, 1, 2), (None, None, None))], "critic", 1, 1)
    (only,) = Rated().measure(sample_of(texts, silent))
    assert only.value is None


def test_the_median_over_the_anchors_holds_over_two_hundred_runs_and_runs_compare():
    held, runs = 0, {0.0: [], 1.0: []}
    for seed in range(100):
        for lift, medians in runs.items():
            texts, truth, _, _ = rows(60, 1000 * seed + int(lift), lift=0.0)
            anchors = {f"anchor {n}": float(n) for n in range(20)}
            levels = {text: (level - 9.5) / 8 for text, level in anchors.items()}
            truth = {text: value + lift for text, value in truth.items()} | levels
            found = figures(sample_of(texts, scored(texts, truth, seed, anchors=anchors)))
            low, high = found["rating", ""].interval
            held += low <= lift <= high
            medians.append(found["rating", ""].value)
    assert 0.90 <= held / 200 <= 1.0
    assert np.mean(runs[1.0]) - np.mean(runs[0.0]) == pytest.approx(1.0, abs=0.15)
    assert found["rating against known levels", ""].value > 0.4
    assert found["rating", ""].note == "median, above the mean of 20 anchors"


def test_a_critic_that_gives_one_score_has_no_figure():
    texts, _, asked, _ = rows(60, 7)
    anchors = {f"anchor {n}": float(n) for n in range(30)}
    flat = scored(texts, dict.fromkeys([*texts, *anchors], 3.0), 7, anchors=anchors, noise=0.0)
    topics = [TOPICS[n % 4] for n in range(60)]
    sample = sample_of(texts, flat, _complexity=asked, topic=topics)
    found = figures(sample)
    names = {"rating reliability", "rating", "rating against known levels", "rated harder"}
    assert {name for name, _ in found} == names | {"rated harder at equal length"}
    assert {one.value for one in found.values()} == {None}
    assert all(one.note.startswith(FLAT) for one in found.values())
    rating = [one for one in Asked().measure(sample) if "rating" in one.name]
    assert [(one.value, one.note) for one in rating] == [(None, FLAT)] * 2


def test_a_critic_that_hardly_ever_tells_two_texts_apart_has_no_figure_of_what_was_asked():
    texts, _, asked, _ = rows(60, 7)
    groups = enumerate(schedule(60, 5, 5, 7))
    batches = [Batch(items, (1.0,) * 5, number) for number, some in groups for items in some]
    batches[0] = batches[0]._replace(scores=(2.0, 1.0, 1.0, 1.0, 1.0))
    found = figures(sample_of(texts, Ratings(texts, batches, "critic", 60), _complexity=asked))
    assert found["rating reliability", ""].note == f"{UNKNOWN}: 60 texts, 60 calls to critic"
    assert found["rated harder", ""].value is None
    assert found["rated harder", ""].note == UNKNOWN


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ([float(n) for n in range(12)] + [None] * 8, "too few: 12 of 20 anchors have a level and are joined to the r"),
        ([None] * 20, "too few: 0 of 20 anchors have a level"),
        ([4.0] * 20, "the levels or the ratings of 20 anchors are all alike"),
    ],
)
def test_anchors_without_levels_that_differ_say_why_nothing_is_known_of_them(levels, said):
    texts, truth, _, _ = rows(60, 8)
    anchors = {f"anchor {n}": level for n, level in enumerate(levels)}
    found = figures(sample_of(texts, scored(texts, truth | dict.fromkeys(anchors, 0.0), 8, anchors=anchors)))
    assert found["rating", ""].value is not None
    against = found["rating against known levels", ""]
    assert (against.value, against.interval) == (None, None)
    assert against.note.startswith(said)


def test_anchors_that_no_comparison_joins_are_told():
    texts, truth, _, _ = rows(60, 8)
    said = scored(texts, truth, 8)
    found = figures(sample_of(texts, Ratings([*texts, "anchor"], said.batches, "critic", 60, anchors={"anchor": 1.0})))
    for name in ("rating", "rating against known levels"):
        assert found[name, ""].value is None
        assert found[name, ""].note == "too few: comparisons join 0 of 1 anchor to the rows"


def test_one_text_is_not_one_texts():
    (only,) = Rated().measure(sample_of(["a"], Ratings(["a"], [], "critic", 1)))
    assert only.note.startswith("too few: 1 text, 1 call to critic")
