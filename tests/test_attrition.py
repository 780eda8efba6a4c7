"""The table of attrition on planted data: what is known to be taken away is found, and nothing else is."""

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from qdcgen.attrition import attrition
from qdcgen.parts import UNDECIDED, Sample
from qdcgen.recipe import load
from qdcgen.report.attrition import claims, remarks, sheet
from qdcgen.report.terminal import terminal
from qdcgen.review import stored
from qdcgen.run import run
from qdcgen.store import Store
from qdcgen.taxonomy import inline

QUICKSTART = Path(__file__).parent.parent / "recipes" / "quickstart.yaml"

TREE = {
    "cards": ["lost", "declined", "pin"],
    "transfers": ["pending", "wrong account", "limits"],
    "account": ["closing it", "changed address"],
}
LEAVES = [f"{top}/{leaf}" for top, leaves in TREE.items() for leaf in leaves]
TONES = ["polite", "angry", "confused"]
LABELS = ["low", "normal", "high", "urgent"]


def rows(n, seed=0, words=(5, 40)):
    """`n` rows in every region, and unit vectors: one cluster for each top node, spread about it."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, len(LEAVES), n)
    centres = rng.standard_normal((len(TREE), 32))
    tops = np.array([list(TREE).index(leaf.split("/")[0]) for leaf in LEAVES])[topic]
    vectors = (centres[tops] + rng.standard_normal((n, 32))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths = rng.integers(*words, n)
    frame = pl.DataFrame(
        {
            "_id": [f"{i:016x}" for i in range(n)],
            "topic": [LEAVES[i] for i in topic],
            "tone": [TONES[i] for i in rng.integers(0, len(TONES), n)],
            "label": [LABELS[i] for i in rng.integers(0, len(LABELS), n)],
            "_complexity": ["hard" if hard else "plain" for hard in rng.random(n) < 0.3],
            "_text": [f"{i} " + "word " * int(m - 1) for i, m in enumerate(lengths)],
        }
    )
    return frame, vectors


def judged(frame, vectors, said, *, reason="no", failed=0, trees=None, **more):
    """The table after filters that turn down the rows of these masks, in this order."""
    by = np.full(frame.height, None, dtype=object)
    for name, mask in said.items():
        by[mask & (by == None)] = name  # noqa: E711
    history = frame.select("_id").with_columns(
        pl.Series("_filter", list(by), dtype=pl.String),
        pl.Series("_state", ["accepted" if one is None else "rejected" for one in by]),
        pl.Series("_reason", [None if one is None else reason for one in by], dtype=pl.String),
    )
    if failed:
        ids = [f"f{i}" for i in range(failed)]
        gone = pl.DataFrame({"_id": ids, "_filter": "fault", "_state": "failed", "_reason": "x"})
        history = pl.concat([history, gone])
    trees = trees or {"topic": inline("topic", TREE, "t"), "tone": inline("tone", TONES, "t")}
    sample = Sample(
        "raw",
        frame["_text"].to_list(),
        frame,
        lambda: vectors,
        "planted 32d",
        seed=3,
        taxonomies=trees,
        layers=["label"],
        attempts=history,
        filters=list(said),
        **more,
    )
    return attrition(sample, frame)


def change(found, name, place=0):
    return next(one for one in found.sieves[place].changes if one.name == name)


def test_a_filter_that_kills_one_leaf_is_said_to_lose_it():
    frame, vectors = rows(800)
    killed = (frame["topic"] == "cards/lost").to_numpy()
    found = judged(frame, vectors, {"judge": killed}, failed=7)
    assert (found.made, found.whole, found.unjudged) == (807, 800, 0)
    (sieve,) = found.sieves
    assert (sieve.came, sieve.went) == (800, 800 - killed.sum())
    (leaves, tones, pairs) = sieve.losses
    assert (leaves.lost, leaves.of, tuple(leaves.names), leaves.rows) == (1, 8, ("cards/lost",), killed.sum())
    assert leaves.chance < 1e-9
    assert leaves.p < 1e-9
    assert (tones.lost, tones.p) == (0, 1.0)
    assert (pairs.lost, pairs.of) == (3, 24)
    assert pairs.p < 0.05
    assert [(skew.axis, skew.value, skew.rejected, skew.others_rejected) for skew in sieve.skews] == [
        ("topic", "cards/lost", killed.sum(), 0)
    ], "that cards is skewed too is only because of this leaf"
    said = claims(found)
    assert any(one.startswith("judge loses 1 of 8 leaves of topic, <0.1 by chance: cards/lost") for one in said)
    assert remarks(found)[0].startswith("skewed: judge rejects 100 % (")


def test_rare_leaves_that_chance_would_lose_too_are_no_claim():
    frame, vectors = rows(400)
    tree = {"many": [f"leaf{i}" for i in range(150)]}
    rng = np.random.default_rng(1)
    frame = frame.with_columns(
        pl.Series("topic", [f"many/leaf{i}" for i in rng.integers(0, 150, 400)], dtype=pl.String)
    )
    trees = {"topic": inline("topic", tree, "t")}
    dropped = rng.permutation(400) < 200
    found = judged(frame, vectors, {"judge": dropped}, trees=trees)
    (loss,) = found.sieves[0].losses
    assert 10 < loss.lost < 50
    assert loss.chance == pytest.approx(loss.lost, rel=0.4)
    draws = []
    for _ in range(300):
        left = frame["topic"].to_numpy()[rng.permutation(400) < 200]
        draws.append(loss.of - len(set(left)))
    assert loss.chance == pytest.approx(np.mean(draws), rel=0.05), "exact, as simulation has it"
    assert loss.p > 0.05
    assert found.sieves[0].skews == ()


def test_a_critic_that_rejects_one_label_three_times_as_often_is_skewed():
    held = 0
    for seed in range(40):
        frame, vectors = rows(1_500, seed)
        rng = np.random.default_rng(seed + 1_000)
        hit = (frame["label"] == "urgent").to_numpy()
        found = judged(frame, vectors, {"judge": rng.random(1_500) < np.where(hit, 0.36, 0.12)})
        (skew, *others) = found.sieves[0].skews
        assert (skew.axis, skew.value, others) == ("label", "urgent", [])
        held += skew.interval[0] <= 0.36 <= skew.interval[1] and skew.ratio_interval[0] <= 3 <= skew.ratio_interval[1]
    assert held >= 34
    assert remarks(found)[0].startswith(f"skewed: judge rejects {100 * skew.rejected / skew.n:.0f} % (")
    assert "of label=urgent" in remarks(found)[0]


def test_of_200_runs_where_nothing_is_skewed_at_most_one_in_twenty_says_so():
    from qdcgen.attrition import _claims, _factors

    named = 0
    tree = {"topic": inline("topic", TREE, "t"), "tone": inline("tone", TONES, "t")}
    for seed in range(200):
        frame, _ = rows(400, seed)
        rng = np.random.default_rng(seed + 5_000)
        by = np.where(rng.random(400) < 0.2, 0, np.where(rng.random(400) < 0.3, 1, 2))
        frame = frame.with_columns(pl.Series("_by", by))
        sample = Sample("raw", [], frame, lambda: None, "", taxonomies=tree, layers=["label"])
        losses, skews, tests = _claims(list(_factors(sample, frame, (), 2)), ["a", "b"])
        assert tests > 30
        named += any(skews) or any(one.lost and one.p < 0.05 for of in losses for one in of)
    assert named <= 18, "5 % of 200, and what chance adds (99 %)"


def test_a_filter_that_drops_at_random_is_charged_with_nothing():
    held = {"distance": 0, "Vendi": 0, "words": 0, "long words": 0, "asked to be hard": 0}
    wrong = 0
    for seed in range(40):
        frame, vectors = rows(400, seed)
        found = judged(frame, vectors, {"judge": np.random.default_rng(seed + 90).random(400) < 0.3})
        wrong += not claims(found)[0].startswith("no filter loses or turns down any value more than chance does: ")
        for name in held:
            low, high = change(found, name).interval
            held[name] += low <= 0 <= high
    assert wrong <= 6, "5 % of 40, and what chance adds (99 %)"
    assert all(hits >= 34 for hits in held.values()), held


def test_a_filter_that_drops_what_is_long_and_hard_lowers_complexity():
    held = 0
    for seed in range(30):
        frame, vectors = rows(600, seed)
        long = frame["_text"].str.count_matches(r"\S+").to_numpy() >= 30
        hard = (frame["_complexity"] == "hard").to_numpy()
        found = judged(frame, vectors, {"judge": long | (hard & (np.random.default_rng(seed).random(600) < 0.5))})
        words = change(found, "words")
        # of all: 5 … 39 evenly; of those that go out 5 … 29
        held += words.interval[0] <= 17 - 22 <= words.interval[1]
        assert words.interval[1] < 0
        asked = change(found, "asked to be hard")
        assert asked.interval[1] < 0
        assert (asked.came, asked.came + asked.change) == (pytest.approx(0.3, abs=0.06), pytest.approx(0.176, abs=0.06))
    assert held >= 25
    assert any(skew.axis == "asked difficulty" and skew.value == "hard" for skew in found.sieves[0].skews)


def test_a_filter_that_drops_a_cluster_lowers_diversity():
    frame, vectors = rows(900)
    cluster = frame["topic"].str.starts_with("cards/").to_numpy()
    drops = {"length": np.random.default_rng(8).random(900) < 0.2, "judge": cluster}
    found = judged(frame, vectors, drops)
    for name in ("distance", "Vendi"):
        low, high = change(found, name).interval
        assert low <= 0 <= high, "at random"
        one = change(found, name, 1)
        assert one.change < 0
        assert one.interval[1] < 0
    left = ~drops["length"] & ~cluster
    cosines = vectors[left] @ vectors[left].T
    apart = 1 - (cosines.sum() - left.sum()) / (left.sum() * (left.sum() - 1))
    distance = change(found, "distance", 1)
    assert distance.came + distance.change == pytest.approx(apart, abs=1e-5)
    big, big_vectors = rows(20_000)  # what it is of very many rows of the same kind lies in the interval
    at = big["topic"].str.starts_with("cards/").to_numpy()
    true = change(judged(big, big_vectors, {"judge": at}), "distance").change
    assert distance.interval[0] <= true <= distance.interval[1]


def test_undecided_rows_are_counted_apart_and_surplus_and_retired_ones_are_nobodys_doing():
    frame, vectors = rows(300)
    found = judged(frame, vectors, {"judge": np.arange(300) < 60}, reason=f"{UNDECIDED}no verdict")
    assert found.sieves[0].undecided == 60
    assert "no\nverdict" in sheet(found).headers
    history = pl.DataFrame(
        {
            "_id": frame["_id"],
            "_filter": ["gone"] * 50 + ["surplus"] * 50 + ["retired"] * 50 + [None] * 50 + ["judge"] * 100,
            "_state": ["rejected"] * 50 + ["surplus"] * 50 + ["retired"] * 50 + ["unjudged"] * 50 + ["duplicate"] * 100,
            "_reason": "so",
        }
    )
    sample = Sample("raw", frame["_text"].to_list(), frame, lambda: vectors, "", attempts=history, filters=["judge"])
    found = attrition(sample, frame)
    assert (found.made, found.whole, found.unjudged) == (250, 250, 100), "what a filter no longer named said is void"
    assert (found.sieves[0].came, found.sieves[0].went) == (150, 50)


def test_too_few_rows_have_no_figures_and_no_claims():
    frame, vectors = rows(30)
    at = np.arange(30)
    found = judged(frame, vectors, {"length": at < 15, "judge": at < 20, "schema": at < 0})
    assert [(one.came, one.went) for one in found.sieves] == [(30, 15), (15, 10), (10, 10)]
    assert all(one.change is None for one in found.sieves[0].changes)
    assert found.sieves[1].losses == ()
    assert any(note.startswith("too few rows for distance, Vendi, words") for note in sheet(found).notes)


def test_without_filters_or_rows_there_is_no_table():
    frame, vectors = rows(30)
    assert judged(frame, vectors, {}) is None
    sample = Sample("raw", [], frame, lambda: vectors, "", filters=["judge"])
    assert attrition(sample, frame) is None


def test_numbers_agree_with_scipy():
    from scipy import stats

    from qdcgen.attrition import _more, _tail

    rng = np.random.default_rng(4)
    n = rng.integers(20, 3_000, 500)
    k, c = (rng.integers(1, n) for _ in range(2))
    r = np.minimum(np.minimum(k, c), rng.hypergeometric(c, n - c, k) + rng.integers(0, 6, 500))
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 3_001)))])
    more = r * n > c * k
    expected = stats.hypergeom.sf(r - 1, n, c, k)
    assert _more(r, c, k, n, logs)[more] == pytest.approx(expected[more], rel=1e-6, abs=1e-12)
    chances = rng.random(60) * 0.3
    drawn = (rng.random((40_000, 60)) < chances).sum(axis=1)
    for hits in (3, 9, 14):
        assert _tail(chances, hits) == pytest.approx((drawn >= hits).mean(), abs=0.01)
    many = np.full(5_000, 0.001)
    assert _tail(many, 10) == pytest.approx(stats.binom.sf(9, 5_000, 0.001), rel=0.02)
    assert _tail(np.full(5_000, 0.4), 2_080) == pytest.approx(stats.binom.sf(2_079, 5_000, 0.4), rel=0.02)


def test_a_thousand_leaves_and_eight_filters_over_100_000_rows_are_quick():
    from qdcgen.attrition import _claims, _factors

    n = 100_000
    rng = np.random.default_rng(0)
    tree = {f"top{i}": [f"leaf{j}" for j in range(50)] for i in range(20)}
    names = [f"top{i}/leaf{j}" for i in range(20) for j in range(50)]
    frame = pl.DataFrame(
        {
            "topic": pl.Series(names).gather(rng.integers(0, 1_000, n)),
            "trade": pl.Series([f"t{i}" for i in range(100)]).gather(rng.integers(0, 100, n)),
            "label": pl.Series(LABELS).gather(rng.integers(0, 4, n)),
            "_by": rng.integers(0, 12, n).clip(0, 8),
        }
    )
    trees = {"topic": inline("topic", tree, "t"), "trade": inline("trade", [f"t{i}" for i in range(100)], "t")}
    sample = Sample("raw", [], frame, lambda: None, "", taxonomies=trees, layers=["label"])
    start = time.perf_counter()
    _, skews, tests = _claims(list(_factors(sample, frame, (), 8)), [str(i) for i in range(8)])
    took = time.perf_counter() - start
    assert tests > 8_000
    assert sum(map(len, skews)) <= 1
    assert took < 6, f"{took:.1f} s; 2 s expected on an idle machine"


# ── real runs ───────────────────────────────────────────────────────────────────────────────────────────────────────

RECIPE = """\
recipe: 1
name: thinned
seed: 3
models: {{writer: {{model: openai/test, api_base: "{url}"}}}}
taxonomy:
  topic: {{tree: {{cards: [lost, pin], transfers: [pending, limits]}}}}
  tone: [polite, angry]
layers:
  mood: {{choice: {{calm: 1, worried: 1}}}}
generate:
  - write:
      fields: {{message: string, urgency: [low, high]}}
      prompt: "{{{{ topic.path }}}} {{{{ tone }}}} {{{{ mood }}}}"
filters: {filters}
target: {{rows: 120, candidates: 1}}
measure: {{text: message}}
"""


@pytest.fixture
def thinned(tmp_path, server):
    """Run the recipe with these filters, in one folder; gives the report. Messages on lost cards have two words."""

    def answer(body):
        said = body["messages"][-1]["content"]
        if "<data>" in said:
            wrong = "yes" if "incorrect:" in said else "no"
            return json.dumps({"finding": "looked at it", "verdict": wrong if "worried" in said else "no"})
        number = hashlib.sha256(json.dumps(body).encode()).hexdigest()
        long = " ".join(f"{said} w{number[place : place + 3]}" for place in range(0, 24, 3))
        return json.dumps({"message": f"x{number[:9]} x" if "cards/lost" in said else long, "urgency": "low"})

    server.answer = answer

    def go(filters):
        path = tmp_path / "r.yaml"
        path.write_text(RECIPE.format(url=server.url, filters=filters))
        run(load(path), tmp_path / "out", quiet=True)
        return stored(Store(tmp_path / "out").peek())

    return go


def test_a_run_tells_what_its_filters_took_away(thinned, tmp_path, qdcgen):
    report = thinned("[schema, {length: {field: message, min_words: 5}}]")
    table = report.attrition
    assert [(one.name, one.came, one.went) for one in table.sieves] == [("schema", 120, 120), ("length", 120, 90)]
    assert [(one.axis, one.lost, tuple(one.names)) for one in table.sieves[1].losses] == [
        ("topic", 1, ("cards/lost",)),
        ("tone", 0, ()),
        ("topic × tone", 2, ("cards/lost × angry", "cards/lost × polite")),
    ]
    assert [(one.axis, one.value) for one in table.sieves[1].skews] == [("topic", "cards/lost")]
    assert change(table, "words", 1).interval[0] > 0
    said = "skewed: length rejects 100 % (89–100, n 30) of topic=cards/lost, 0 % of the rest (n 90)"
    assert said in report.remarks
    page = qdcgen("report", "out").stdout
    assert "attrition  what each filter takes away" in page
    assert "length loses 1 of 4 leaves of topic" in page
    assert "## Attrition" in (tmp_path / "out/report.md").read_text()


def test_filters_that_were_changed_leave_only_what_stands(thinned):
    thinned("[schema, {length: {field: message, min_words: 5}}]")
    table = thinned("[schema, {length: {field: message, min_words: 1}}]").attrition
    assert [(one.name, one.came, one.went) for one in table.sieves] == [("schema", 120, 120), ("length", 120, 120)]
    assert all(not one.skews and not any(loss.lost for loss in one.losses) for one in table.sieves)
    assert thinned("[]").attrition is None


def test_a_critic_without_a_verdict_is_counted_apart_and_last(thinned):
    table = thinned("[double_critic, {length: {field: message, min_words: 5}}]").attrition
    length, critic = table.sieves
    assert (length.name, length.undecided, critic.name) == ("length", 0, "double_critic"), "cheap ones first"
    assert (critic.came, critic.went) == (90, 0)
    assert 0 < critic.undecided < 90
    assert critic.losses == (), "nothing is lost beyond chance where nothing is left"


def test_the_quickstart_shows_it(server, tmp_path):
    there = [f"models.writer.{key}" for key in ("model=openai/test", f"api_base={server.url}")]
    recipe = load(QUICKSTART, overrides=there, out=tmp_path / "out")
    run(recipe, tmp_path / "out", quiet=True)
    page = terminal(stored(Store(tmp_path / "out").peek()), colour=False, notes=True)
    assert "\nattrition  what each filter takes away: rows, regions, diversity, difficulty\n" in page
    assert "\nschema " in page
    assert max(map(len, page.splitlines())) <= 80
