"""The quality-diversity curve: planted scores, planted losses, and what chance alone would show."""

import hashlib
import json
import math
import random

import numpy as np
import polars as pl
import pytest

from qdcgen.curve import Scored, curve
from qdcgen.errors import UsageError
from qdcgen.intervals import wilson
from qdcgen.parts import Graded
from qdcgen.report.contents import Report
from qdcgen.report.document import document, dumps, from_document
from qdcgen.report.markdown import markdown
from qdcgen.report.terminal import terminal
from qdcgen.taxonomy import inline

LEAVES = [f"leaf{n}" for n in range(20)]
TREES = {"topic": inline("topic", LEAVES, "r:1"), "tone": inline("tone", ["calm", "angry"], "r:2")}
GRADED = Graded(3.0)


def scored(scores, topics=None, words=None, hard=None, **more):
    n = len(scores)
    frame = pl.DataFrame(
        {
            "_score": [float(one) for one in scores],
            "_text": [f"text {i} " + "word " * (words[i] if words else 3) for i in range(n)],
            "topic": topics or [LEAVES[i % 20] for i in range(n)],
            "tone": ["calm" if i % 3 else "angry" for i in range(n)],
            "_complexity": ["hard" if one else "plain" for one in (hard or [False] * n)],
        }
    )
    return Scored(frame, more.pop("undecided", 0), more.pop("dropped", {}), **more)


def embedding(groups, seed=0, width=0.6):
    """Text → unit vector near the centre of its group; `groups` by the text's number."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(groups) + 1, 16))
    noise = rng.standard_normal((len(groups), 16))

    def embed(texts):
        numbers = [int(text.split()[1]) for text in texts]
        vectors = np.array([centres[groups[i]] + width * noise[i] for i in numbers])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return embed


def drawn(scores, how=GRADED, groups=None, **more):
    embed = embedding(groups or [i % 5 for i in range(len(scores))], seed=more.pop("seed", 0))
    return curve(scored(scores, **more), "judge", how, embed, embedder="planted", seed=1, taxonomies=TREES)


def of(point, name, axis=""):
    return next(one for one in point.measures if (one.name, one.axis) == (name, axis))


def marked(found):
    return {(p.threshold, m.name, m.axis) for p in found.points for m in p.measures if m.note.endswith("by chance")}


def test_kept_shares_are_those_of_the_scores_and_undecided_rows_are_never_kept():
    scores = [1] * 10 + [2] * 20 + [3] * 30 + [5] * 30
    random.Random(1).shuffle(scores)
    found = drawn(scores, undecided=10, dropped={"length": 7})
    assert [(p.threshold, p.kept, p.now) for p in found.points] == [
        (1.0, 90, False),
        (2.0, 80, False),
        (3.0, 60, True),
        (5.0, 30, False),
    ]
    share = of(found.points[2], "kept")
    assert (share.value, share.n, share.interval) == (0.6, 100, wilson(60, 100))
    assert any("7 by length" in remark for remark in found.remarks)
    assert any("10 rows undecided" in remark for remark in found.remarks)
    assert "from ≥ 3 to ≥ 5: keeps 30 % instead of 60 %" in found.remarks[0]
    assert "from ≥ 3 to ≥ 2: keeps 80 % instead of 60 %" in found.remarks[1]


def test_a_filter_that_keeps_what_lies_below_is_read_the_other_way():
    found = drawn([0.1, 0.5, 0.95, 0.99] * 10, how=Graded(0.9, "below"))
    assert [(p.threshold, p.kept, p.now) for p in found.points] == [
        (None, 40, False),
        (0.99, 30, False),
        (0.9, 20, True),
        (0.5, 10, False),
    ]


def test_rows_that_are_kept_whatever_the_threshold_are_in_every_set():
    found = drawn([math.inf] * 30 + [0.2] * 30 + [0.8] * 40, how=Graded(0.5))
    assert [(p.threshold, p.kept, p.now) for p in found.points] == [(0.2, 100, False), (0.5, 70, True)]
    assert "30 rows kept at every threshold: the filter compares nothing of them" in found.remarks


def test_a_filter_that_scores_all_alike_is_said_to_tell_nothing():
    assert drawn([4] * 30).remarks[0] == "all rows have one score (4): judge tells none of them apart"


@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_few_rows_say_so_and_break_nothing(n):
    for how in (Graded(1.0), Graded(1.0, "below"), Graded(9.0)):
        found = drawn([one % 3 for one in range(n)], how=how)
        assert terminal(Report("r", curve=found), colour=False)
        assert of(found.points[0], "words").value is None or n == 20


def test_many_scores_become_quantiles_that_a_person_can_type_and_the_recipes_own_stands_among_them():
    scores = np.random.default_rng(0).random(500)
    found = drawn(scores.tolist(), how=Graded(0.7))
    assert 10 <= len(found.points) <= 14
    assert [p.threshold for p in found.points if p.now] == [0.7]
    for point in found.points:
        limit = -1 if point.threshold is None else point.threshold
        assert point.kept == int((scores >= limit).sum())
        assert point.threshold is None or float(f"{point.threshold:.3g}") == point.threshold


def test_a_recipes_threshold_between_two_scores_or_above_all():
    assert [(p.threshold, p.now) for p in drawn([1, 2, 5] * 10, how=Graded(3.5)).points][-1] == (3.5, True)
    none = drawn([1, 2] * 20, how=Graded(4))
    assert not any(p.now for p in none.points)
    assert none.remarks[0] == "the recipe's judge ≥ 4 keeps none of the rows with a score"


def test_random_scores_move_nothing_and_marks_by_chance_alone_are_rare():
    pages, moved = 0, []
    for seed in range(40):
        scores = np.random.default_rng(seed).integers(1, 6, 200).tolist()
        hard = [i % 4 == 0 for i in range(200)]
        lengths = np.random.default_rng(seed + 99).integers(1, 40, 200).tolist()
        found = drawn(scores, seed=seed, words=lengths, hard=hard)
        pages += bool(marked(found))
        whole, last = (of(p, "mean pairwise distance") for p in (found.points[0], found.points[-1]))
        moved.append(last.value - whole.value)
    assert pages <= 5, "5 % of 40 pages, and noise"
    assert abs(np.mean(moved)) < 0.005


def test_scores_that_prefer_one_kind_of_text_are_seen_to_narrow_and_others_to_widen():
    groups = [i % 5 for i in range(300)]
    narrow = drawn([5 if group == 0 else 2 for group in groups], groups=groups)
    assert (3.0, "mean pairwise distance", "") in marked(narrow)
    lax, strict = narrow.points
    for name in ("mean pairwise distance", "Vendi score"):
        assert of(strict, name).interval[1] < of(lax, name).interval[0]
    groups = [0 if i % 3 else i % 5 for i in range(300)]
    wide = drawn([5 if i % 3 == 0 else 2 for i in range(300)], groups=groups)
    assert of(wide.points[1], "mean pairwise distance").note == "more than by chance"


def test_diversity_is_taken_at_the_size_of_the_smallest_set_of_twenty():
    found = drawn([1] * 100 + [3] * 60 + [4] * 35 + [5] * 5)
    assert found.equal_n == 40
    assert {of(p, "Vendi score").n for p in found.points[:3]} == {40}
    last = of(found.points[3], "Vendi score")
    assert last.value is None
    assert last.note == "too few: 5 texts, needs 20"


def test_near_duplicates_among_the_best_are_seen():
    texts = [f"text {i} {hashlib.md5(str(i).encode()).hexdigest()}" for i in range(60)]
    texts += ["text 60 the very same words over and over again"] * 60
    frame = pl.DataFrame({"_score": [2.0] * 60 + [5.0] * 60, "_text": texts})
    found = curve(Scored(frame, 0, {}), "judge", GRADED, embedding([0] * 61), embedder="planted")
    lax, strict = (of(p, "distinct") for p in found.points)
    assert strict.value == pytest.approx(1 / 60)
    assert 0.4 < lax.value < 0.65, "61 of 120, at 60 of them"
    assert strict.interval[1] < lax.interval[0]


def test_a_leaf_that_the_scores_kill_is_named_beside_what_chance_would_lose():
    topics = [LEAVES[i % 20] for i in range(400)]
    found = drawn([1 if topic in {"leaf3", "leaf7"} else 4 for topic in topics], topics=topics)
    leaves = of(found.points[1], "leaves", "topic")
    assert leaves.value == 0.9
    assert set(leaves.missing) == {"leaf3", "leaf7"}
    assert leaves.control == pytest.approx(1.0, abs=1e-9)
    assert leaves.note == "fewer than by chance"
    assert "gains topic: leaf3, leaf7" in found.remarks[0]
    pairs = of(found.points[1], "pairs", "topic × tone")
    assert pairs.value == 36 / 40
    few = drawn([1] * 380 + [5] * 20, topics=random.Random(3).sample(topics, 400))
    one = of(few.points[1], "leaves", "topic")
    assert one.note == ""
    # Twenty cells of twenty rows, twenty rows drawn of four hundred: C(380, 20) / C(400, 20) of each is missed.
    missed = np.prod([(380 - i) / (400 - i) for i in range(20)])
    assert one.control == pytest.approx(1 - missed)


def test_length_and_difficulty_of_what_is_kept():
    words = [5 if i % 2 else 45 for i in range(200)]
    hard = [i % 2 == 0 for i in range(200)]
    found = drawn([4 if i % 2 else 2 for i in range(200)], words=words, hard=hard)
    lax, strict = found.points
    assert (of(lax, "words").value, of(strict, "words").value) == (27.0, 7.0)
    assert (of(lax, "asked to be hard").value, of(strict, "asked to be hard").value) == (0.5, 0.0)
    assert {(3.0, "words", ""), (3.0, "asked to be hard", "")} <= marked(found)


def test_the_curve_does_not_depend_on_the_order_of_the_rows():
    scores = np.random.default_rng(5).integers(1, 6, 120).tolist()
    rows = scored(scores)
    embed = embedding([i % 5 for i in range(120)])
    one, other = (
        curve(rows._replace(frame=frame), "judge", GRADED, embed, embedder="planted", taxonomies=TREES)
        for frame in (rows.frame, rows.frame.sample(fraction=1, shuffle=True, seed=2))
    )
    for a, b in zip(one.points, other.points, strict=True):
        for m, o in zip(a.measures, b.measures, strict=True):
            assert m.value == pytest.approx(o.value)
            assert set(m.missing) == set(o.missing)


def test_pages_fit_and_the_document_comes_back():
    scores = np.random.default_rng(5).random(300).tolist()
    found = Report("bank: curve of judge", {"run": "runs/bank"}, curve=drawn(scores, how=Graded(0.5), undecided=3))
    page = terminal(found, width=80, colour=False)
    assert max(map(len, page.splitlines())) <= 80
    assert "≥ 0.5 (recipe)" in page
    assert "topic ×" in page
    assert "nothing measured" not in page
    assert from_document(json.loads(dumps(document(found)))) == from_document(document(found))
    assert from_document(document(found)).curve.points[0].kept == 300
    text = markdown(found)
    assert "| threshold |" in text
    assert "## Curve" in text


def test_no_score_at_all_is_said():
    with pytest.raises(UsageError, match=r"no row of this run has a score of judge \(4 undecided, 9 were dropped by"):
        curve(
            Scored(pl.DataFrame(schema={"_score": pl.Float64, "_text": pl.String}), 4, {"length": 9}),
            "judge",
            GRADED,
            embedding([0]),
            embedder="planted",
        )


# ── a run ───────────────────────────────────────────────────────────────────────────────────────────────────────────

RECIPE = """\
recipe: 1
name: bank
models: {{writer: {{model: openai/test, api_base: "{url}", price: {{input: 1, output: 2}}}}}}
taxonomy:
  topic: [lost, declined, pending, pin, fees, limits]
  tone: [polite, angry]
generate:
  - write: {{fields: {{message: string}}, prompt: "A {{{{ tone }}}} message about {{{{ topic }}}}"}}
filters:
  - judge: {{items: {{clear: {{text: "It is clear.", at_least: 3}}}}}}
  - length: {{field: message, max_words: 30}}
target: {{rows: 60, candidates: 2}}
measure: {{text: message}}
"""


@pytest.fixture
def grading(server):
    """A critic whose grade is planted in the text that it sees: 2 for fees, 3 for pin, else 4 or 5."""

    def answer(body):
        said = body["messages"][-1]["content"]
        if "grades" not in json.dumps(body.get("response_format", {})):
            filler = "and more " * (20 if body["seed"] % 5 == 0 else 2)
            return json.dumps({"message": f"{said} number {body['seed']} {filler}"})
        grade = 2 if "fees" in said else 3 if "pin" in said else 4 + said.count("angry")
        return json.dumps({"finding": "looked", "grades": {"clear": grade}})

    server.answer = answer
    return server


def test_the_command_prints_the_curve_of_a_run(tmp_path, grading, qdcgen):
    (tmp_path / "bank.yaml").write_text(RECIPE.format(url=grading.url))
    assert qdcgen("run", "bank.yaml", "--quiet").returncode == 4
    asked = grading.asked
    said = qdcgen("report", "runs/bank", "--curve", "judge")
    assert said.returncode == 0, said.stderr
    assert "≥ 3 (recipe)" in said.stdout
    assert "from ≥ 3 to ≥ 4" in said.stdout
    assert "loses topic: pin" in " ".join(said.stdout.split())
    assert max(map(len, said.stdout.splitlines())) <= 80
    told = json.loads(qdcgen("report", "bank.yaml", "--curve", "judge", "--json").stdout)["curve"]
    assert [(p["threshold"], p["now"]) for p in told["points"]] == [(2, False), (3, True), (4, False), (5, False)]
    store = [pl.read_parquet(f) for f in sorted((tmp_path / "runs/bank/verdicts").glob("*.parquet"))]
    grades = pl.concat(store).filter(pl.col("filter") == "judge")["score"]
    assert [p["kept"] for p in told["points"]] == [int((grades >= one).sum()) for one in (2, 3, 4, 5)]
    assert told["dropped"]["length"] > 0, "cheap filters come first"
    assert "## Curve" in qdcgen("report", "runs/bank", "--curve", "judge", "--markdown").stdout
    assert grading.asked == asked


def test_a_filter_without_a_curve_names_those_that_have_one(tmp_path, grading, qdcgen):
    (tmp_path / "bank.yaml").write_text(RECIPE.format(url=grading.url))
    qdcgen("run", "bank.yaml", "--quiet")
    for name, words in {"jugde": "no filter called 'jugde'", "length": "the filter length is not graded"}.items():
        said = qdcgen("report", "runs/bank", "--curve", name)
        assert said.returncode == 2
        assert words in said.stderr
        assert "graded filters of this recipe: judge" in said.stderr
    (tmp_path / "x.csv").write_text("text\na\n")
    assert "is for a run" in qdcgen("report", "x.csv", "--curve", "judge").stderr
    assert "not with" in qdcgen("report", "runs/bank", "--curve", "judge", "--text", "message").stderr
