"""Critics whose errors are known: the figures hold the truth, a bias is found, an honest one is not accused."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from qdcgen import trials
from qdcgen.audit import audit, opened
from qdcgen.errors import UsageError
from qdcgen.plants import FILLER, KINDS, OFF_TOPIC, STEER_NO, STEER_YES
from qdcgen.prompts import fenced
from qdcgen.recipe import load
from qdcgen.report.audit_text import audit_remarks, audit_text
from qdcgen.review import review
from qdcgen.run import run
from qdcgen.store import Store
from qdcgen.trials import Trial, figures

ROOT = Path(__file__).parent.parent

RECIPE = """\
recipe: 1
name: audited
seed: 3
models:
  writer: {{model: openai/writer, api_base: "{url}", price: {{input: 1, output: 2}}}}
  critic: {{model: openai/critic, api_base: "{url}", price: {{input: 1, output: 2}}}}
taxonomy:
  topic: {{tree: {{cards: [lost, declined], transfers: [pending, wrong account]}}}}
layers:
  channel: {{choice: {{chat: 1, email: 1}}}}
generate:
  - write:
      fields: {{message: {{type: string}}, urgency: [low, normal, high]}}
      prompt: "A {{{{ channel }}}} message about {{{{ topic.path }}}}"
filters: [schema, {filters}]
target: {{rows: {rows}, candidates: 3}}
measure: {{text: message}}
"""
URGENCY = ("low", "normal", "high")


def chance(*words):
    return int(sha256("/".join(map(str, words)).encode()).hexdigest()[:8], 16) / 2**32


def written(body):
    """A row whose right answer can be told from its text: the urgency is that of the code, modulo 3."""
    code = body["seed"]
    said = f"Hello, I write about case {code} of last week. It has been open for days. Could you look at it, please."
    return json.dumps({"message": said, "urgency": URGENCY[code % 3]})


def is_good(inner):
    """What a critic that knows everything would say; filler and steering texts are neither here nor there."""
    row = json.loads(inner)
    said = row["message"]
    if "case " not in said or "please." not in said or any(sentence in said for sentence in OFF_TOPIC):
        return False
    right = URGENCY[int(said.split("case ")[1].split()[0]) % 3]
    return row.get("urgency", right) == right


def critic(keeps):
    """An answer function: `keeps(inner, good)` says whether the row is kept."""

    def answer(body):
        said = body["messages"][-1]["content"]
        if "<data>" not in said:
            return written(body)
        inner = said.split("<data>\n")[1].split("\n</data>")[0]
        kept = keeps(inner, is_good(inner))
        correct = "incorrect:" not in said
        return json.dumps({"finding": "looked", "verdict": "yes" if kept == correct else "no"})

    return answer


def honest(accepts=0.1, rejects=0.05):
    return critic(lambda inner, good: chance("r", inner) >= rejects if good else chance("a", inner) < accepts)


@pytest.fixture
def recipe(tmp_path, server):
    def make(answer, filters="{double_critic: {model: critic}}", rows=60):
        server.answer = answer
        path = tmp_path / "r.yaml"
        path.write_text(RECIPE.format(url=server.url, filters=filters, rows=rows))
        return load(path)

    return make


def holds(share, truth):
    return share["interval"][0] <= truth <= share["interval"][1]


@pytest.mark.parametrize("accepts", [0.1, 0.3])
def test_a_critic_with_known_false_accepts_is_found_to_have_them(recipe, tmp_path, accepts):
    found = audit(recipe(honest(accepts)), tmp_path / "out", rows=48)
    one = found["critics"][0]
    assert one["false_accepts"]["n"] == 3 * 48
    assert holds(one["false_accepts"], accepts)
    assert holds(one["false_rejects"], 0.05)
    tried = {kind["kind"]: kind for kind in one["planted"] if not kind["skipped"]}
    assert set(tried) == {"wrong answer", "truncated", "off-topic"}
    assert all(holds(kind["false_accepts"], accepts) for kind in tried.values())
    assert {kind["kind"]: kind["skipped"] for kind in one["planted"]}["broken requirement"].startswith(
        "it is not shown"
    )
    assert not any(effect["found"] for effect in one["effects"])
    assert one["use"] == "some"
    assert not one["same_as_writer"]
    half = one["lift"][0]
    exact = 0.95 / (0.95 + accepts)
    assert half["accuracy_interval"][0] <= exact <= half["accuracy_interval"][1]
    assert half["lift"] == pytest.approx(half["accuracy"] - 0.5)


def test_a_critic_that_obeys_is_flipped_by_every_text(recipe, tmp_path):
    def says(inner, texts):
        said = json.loads(inner)["message"]
        return any(said.endswith(fenced(text)[len("<data>\n") : -len("\n</data>")]) for text in texts.values())

    def keeps(inner, good):
        return says(inner, STEER_YES) or (good and not says(inner, STEER_NO))

    one = audit(recipe(critic(keeps)), tmp_path / "out", rows=20)["critics"][0]
    assert one["false_accepts"]["hits"] == 0
    for way in ("to_keep", "to_drop"):
        assert one["steering"][way]["value"] == 1.0
        assert one["steering"][way]["n"] == 20
        assert len(one["steering"][way]["by"]) == 5
    assert {effect["name"] for effect in one["effects"] if effect["found"]} == {"told to keep", "told to drop"}


def test_a_critic_that_reads_only_the_end_and_one_that_likes_long_texts_are_found(recipe, tmp_path):
    def by_place(inner, good):
        said = json.loads(inner)["message"]
        flawed = any(sentence in said for sentence in OFF_TOPIC)
        return good or (flawed and "case" in said and not any(said.endswith(sentence) for sentence in OFF_TOPIC))

    one = audit(recipe(critic(by_place)), tmp_path / "one", rows=20)["critics"][0]
    moved = {effect["name"]: effect for effect in one["effects"] if effect["found"]}
    assert set(moved) == {"flaw at start → end", "flaw at middle → end"}
    assert moved["flaw at start → end"]["change"]["value"] == -1.0

    def by_length(inner, good):
        return good or any(sentence in inner for sentence in FILLER)

    found = audit(recipe(critic(by_length)), tmp_path / "two", rows=20)
    moved = {effect["name"]: effect for effect in found["critics"][0]["effects"] if effect["found"]}
    assert set(moved) == {"longer, bad"}
    assert holds(moved["longer, bad"]["change"], 1.0)
    assert any("longer, bad changes what it keeps" in remark for remark in found["remarks"])


@pytest.mark.parametrize("named", ["", ", fields: [message, urgency]"])
def test_the_order_of_the_fields_is_tried_and_a_bias_to_it_found(recipe, tmp_path, named):
    one = audit(
        recipe(
            critic(lambda inner, good: good and inner.index("message") < inner.index("urgency")),
            f"{{double_critic: {{model: critic{named}}}}}",
        ),
        tmp_path / "out",
        rows=16,
    )["critics"][0]
    assert [effect["name"] for effect in one["effects"] if effect["found"]] == ["order of fields"]


@pytest.mark.parametrize(
    ("kept", "use", "words"), [(True, "all", "keeps everything"), (False, "none", "turns everything")]
)
def test_a_critic_that_says_the_same_of_all_is_of_no_use(recipe, tmp_path, kept, use, words):
    found = audit(recipe(critic(lambda _, __: kept)), tmp_path / "out", rows=8)
    assert found["critics"][0]["use"] == use
    assert any("of no use here" in remark and words in remark for remark in found["remarks"])
    assert f"\n{found['critics'][0]['filter']}: of no use here: it {words}" in audit_text(found)


def test_a_critic_without_an_answer_is_undecided_which_keeps_nothing(recipe, tmp_path):
    def answer(body):
        return written(body) if "<data>" not in body["messages"][-1]["content"] else "I would rather not say."

    one = audit(recipe(answer), tmp_path / "out", rows=4)["critics"][0]
    assert one["undecided"]["value"] == 1.0
    assert one["use"] == "none"


def test_requirements_and_regions_are_broken_for_a_critic_that_is_shown_them(recipe, tmp_path):
    def keeps(body):
        said = body["messages"][-1]["content"]
        if "<data>" not in said:
            topic, channel = said.split(" about ")[1], said.split()[1]
            text = f"This is case {body['seed']} about {topic} and it was sent to you by {channel} today, please."
            return json.dumps({"message": text, "urgency": URGENCY[body["seed"] % 3]})
        inner = said.split("<data>\n")[1].split("\n</data>")[0]
        shown = json.loads(inner)
        text, asked = shown["example"]["message"], shown["asked for"]
        fits = "please." in text and asked["channel"] in text and asked["topic"].split(":")[0] in text
        return json.dumps({"finding": "looked", "verdict": "yes" if fits else "no"})

    filters = "{judge: {rubric: It is what was asked for., model: critic, shows: [channel, topic]}}"
    one = audit(recipe(keeps, filters), tmp_path / "out", rows=16)["critics"][0]
    assert one["shown"]["layers"] == ["channel"]
    tried = {kind["kind"]: kind["false_accepts"] for kind in one["planted"] if not kind["skipped"]}
    assert set(tried) == set(KINDS)
    for kind in ("wrong region", "broken requirement", "truncated", "off-topic"):
        assert tried[kind]["hits"] == 0, kind
    assert tried["wrong answer"]["hits"] == 16, "this critic does not look at it"


def test_rows_of_a_run_are_taken_whatever_the_critic_said_of_them(recipe, tmp_path):
    made = recipe(honest(0.1, 0.4))
    run(made, tmp_path / "out", quiet=True)
    found = audit(made, tmp_path / "out", rows=60)
    one = found["critics"][0]
    assert holds(one["false_rejects"], 0.4), "among accepted rows alone it would be 0"
    assert found["source"].startswith("60 rows of the run, of 4 regions")
    assert found["cost"]["in_all"]["from_journal"] >= 120, "the run has asked about these rows"
    again = audit(made, tmp_path / "out", rows=60)
    assert again["critics"][0]["false_accepts"] == one["false_accepts"]
    assert again["cost"]["in_all"]["calls"] == again["cost"]["in_all"]["from_journal"]


def test_labels_by_people_say_which_rows_are_good_and_how_many_come_in(recipe, tmp_path, qdcgen):
    import polars as pl

    made = recipe(honest(0.1, 0.5))
    run(made, tmp_path / "out", quiet=True)
    rows = pl.concat([pl.read_parquet(tmp_path / "out" / part).select("_id") for part in ("data/*", "rejected/*")])
    lines = [f"{row},{'bad' if place % 4 == 0 else 'good'}" for place, row in enumerate(rows["_id"])]
    (tmp_path / "labels.csv").write_text("_id,label\n" + "\n".join(lines))
    said = qdcgen("label", "out", "--from", "labels.csv")
    assert said.returncode == 0, said.stderr
    found = audit(made, tmp_path / "out", rows=30)
    assert "people labelled good" in found["assumed"]
    assert found["good_by_labels"] == pytest.approx(0.75, abs=0.03)
    assert [one["good"] for one in found["critics"][0]["lift"]] == [found["good_by_labels"]]


def test_what_was_made_for_an_audit_is_not_asked_again_by_the_run(recipe, tmp_path, server):
    made = recipe(honest())
    audit(made, tmp_path / "out", rows=10)
    asked = server.asked
    outcome = run(made, tmp_path / "out", quiet=True)
    assert outcome.exit_code == 0
    assert outcome.results["calls"]["from_journal"] >= 30
    assert max(server.seen.values()) == 1
    assert server.asked > asked


def test_the_same_model_as_critic_and_writer_is_warned_of(recipe, tmp_path):
    found = audit(recipe(honest(), "double_critic"), tmp_path / "out", rows=4)
    assert found["critics"][0]["same_as_writer"]
    assert "critic and writer are the same model" in found["remarks"][0]


def test_of_several_models_the_one_that_writes_rows_is_named(recipe, tmp_path):
    filters = "{agreement: {models: [writer, critic], rubric: Is it right?}}"
    found = audit(recipe(honest(), filters), tmp_path / "out", rows=4)
    assert "of the models that it asks, writer writes rows too" in found["remarks"][0]
    assert not any("critic and writer are the same model" in one for one in found["remarks"])


def test_a_file_that_a_filter_cannot_read_is_told_before_anything_is_asked(recipe, tmp_path, server, qdcgen):
    recipe(honest(), "{contamination: {against: [real.csv], text: message}}, {double_critic: {model: critic}}", rows=8)
    done = qdcgen("audit", "r.yaml", "--rows", 8, "--out", "out")
    assert done.returncode == 2
    assert "real.csv" in done.stderr
    assert server.asked == 0
    (tmp_path / "real.csv").write_text("message\nalpha beta gamma\n")
    run(load(tmp_path / "r.yaml"), tmp_path / "out", quiet=True)
    (tmp_path / "real.csv").unlink()
    before = server.asked
    done = qdcgen("audit", "out", "--rows", 8, "--seed", 9)
    assert done.returncode == 2
    assert "real.csv" in done.stderr
    assert server.asked == before


def test_two_critics_of_one_kind_are_audited_each_by_its_own_name(recipe, tmp_path):
    made = recipe(honest(), "{double_critic: {model: critic}}, {double_critic: {model: critic, fields: [message]}}")
    found = audit(made, tmp_path / "out", rows=6)
    assert [one["filter"] for one in found["critics"]] == ["double_critic", "double_critic#2"]
    assert [one["shown"]["fields"] for one in found["critics"]] == [["message", "urgency"], ["message"]]
    second = {kind["kind"]: kind["skipped"] for kind in found["critics"][1]["planted"]}
    assert second["wrong answer"] == "what it is shown then is a good row's, and it says the same"
    only = audit(made, tmp_path / "out", rows=6, filters=["double_critic#2"])
    assert [one["filter"] for one in only["critics"]] == ["double_critic#2"]


def test_what_cannot_be_audited_is_said(recipe, tmp_path):
    with pytest.raises(UsageError, match="no filter asks a model"):
        audit(recipe(honest(), "{length: {field: message, min_words: 2}}"), tmp_path / "out")
    made = recipe(honest())
    with pytest.raises(UsageError, match="did you mean 'double_critic'"):
        audit(made, tmp_path / "out", filters=["duoble_critic"])
    with pytest.raises(UsageError, match="asks no model; the critics here are double_critic"):
        audit(made, tmp_path / "out", filters=["schema"])


def test_the_command_prints_within_80_columns_and_the_report_remarks_on_it(recipe, tmp_path, qdcgen):
    made = recipe(honest(), rows=8)
    said = qdcgen("audit", "r.yaml", "--rows", 8, "--out", "out")
    assert said.returncode == 0, said.stderr
    assert max(map(len, said.stdout.splitlines())) <= 80
    for words in ("planted faults", "false accepts", "false rejects", "expected of filtering", "8 rows cannot show"):
        assert words in said.stdout
    with pytest.raises(UsageError, match="no run here yet"):
        review(tmp_path / "out", text=(), axes=(), embedder=None)
    run(made, tmp_path / "out", quiet=True)
    told = qdcgen("audit", "out", "--rows", 8, "--json", "-q")
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    assert document == json.loads((tmp_path / "out/audit.json").read_text())
    assert Store(tmp_path / "out").peek().verify() == []

    def remarks():
        return [one for one in review(tmp_path / "out", text=(), axes=(), embedder=None).remarks if "audit of" in one]

    assert remarks() == audit_remarks(document)
    run(
        load(tmp_path / "r.yaml", overrides=("filters.1.double_critic.fields=[message]",)), tmp_path / "out", quiet=True
    )
    assert remarks()[0].startswith("audit of double_critic, before the filters were changed: false accepts")


def test_a_cap_ends_it_with_4_and_another_recipe_is_refused_with_2(recipe, tmp_path, qdcgen):
    recipe(honest(), rows=8)
    capped = qdcgen("audit", "r.yaml", "--rows", 8, "--out", "out", "--set", "target.calls=30")
    assert capped.returncode == 4
    assert "target.calls reached" in capped.stderr
    run(load(tmp_path / "r.yaml"), tmp_path / "out", quiet=True)
    other = qdcgen("audit", "r.yaml", "--out", "out", "--set", "seed=4")
    assert other.returncode == 2
    assert "another recipe" in other.stderr


def test_an_interrupt_keeps_every_reply(recipe, tmp_path, server):
    recipe(honest())
    server.latency = 0.05
    process = subprocess.Popen(
        [sys.executable, "-c", "from qdcgen.cli import main; main()", "audit", "r.yaml", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while server.asked < 80 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "every reply that came is kept" in err
    assert not (tmp_path / "out/audit.json").exists()
    server.latency = 0.0
    found = audit(load(tmp_path / "r.yaml"), tmp_path / "out")
    assert max(server.seen.values()) == 1, "nothing is asked twice"
    assert found["cost"]["in_all"]["from_journal"] >= 80


def test_a_run_folder_and_a_recipe_open_to_the_same(recipe, tmp_path):
    made = recipe(honest())
    run(made, tmp_path / "out", quiet=True)
    assert opened(tmp_path / "out")[1] == tmp_path / "out"
    assert opened(tmp_path / "out", overrides=["target.rows=70"])[0].target.rows == 70
    assert opened(tmp_path / "r.yaml")[1] == Path("runs/audited")


# ── the figures, on audits that are simulated ───────────────────────────────────────────────────────────────────────

GROUPS = ("steered to yes", "steered to no", "padded good", "padded bad", "start", "middle", "end", "order")


def simulated(seed, accepts=0.1, rejects=0.1, n=24, likeness=0.0):
    """The trials of one honest critic; `likeness`: how much the rows' own chance of being kept differs (a beta)."""
    rng = random.Random(seed)
    found = []
    for base in range(n):
        own = accepts if not likeness else rng.betavariate(accepts / likeness, (1 - accepts) / likeness)
        bad = {kind: rng.random() < own for kind in KINDS}
        found.append(Trial(base, "good", rng.random() >= rejects))
        found += [Trial(base, kind, kept) for kind, kept in bad.items()]
        for group in GROUPS:
            flawed = group in ("steered to yes", "padded bad", "start", "middle", "end")
            of = "wrong answer" if group in ("steered to yes", "padded bad") else "good"
            kept = rng.random() < (own if flawed else 1 - rejects)
            found.append(Trial(base, group, kept, of=of))
    return found


@pytest.mark.parametrize(("accepts", "likeness"), [(0.1, 0.0), (0.3, 0.0), (0.1, 0.3), (0.3, 0.5)])
def test_intervals_hold_the_truth_in_90_to_99_of_100_simulated_audits(accepts, likeness):
    told = [figures(simulated(seed, accepts, likeness=likeness), list(KINDS), seed=seed) for seed in range(200)]
    exact = 0.7 * 0.9 / (0.7 * 0.9 + 0.3 * accepts)
    held = {
        "false accepts": [holds(one["false_accepts"], accepts) for one in told],
        "one kind": [holds(one["planted"][0]["false_accepts"], accepts) for one in told],
        "false rejects": [holds(one["false_rejects"], 0.1) for one in told],
        "accuracy": [
            one["lift"][1]["accuracy_interval"][0] <= exact <= one["lift"][1]["accuracy_interval"][1] for one in told
        ],
    }
    shares = {name: sum(one) / 200 for name, one in held.items()}
    assert all(0.9 <= share <= 0.995 for share in shares.values()), shares


def test_an_honest_critic_is_accused_of_something_in_at_most_5_of_100_audits():
    accused = sum(
        any(effect["found"] for effect in figures(simulated(seed), list(KINDS))["effects"]) for seed in range(200)
    )
    assert accused <= 17  # 200 x 0.05, and two standard deviations


def test_paired_changes_are_held_by_their_interval():
    rng = random.Random(1)
    held = 0
    for _ in range(400):
        gained = lost = 0
        for _ in range(40):
            u = rng.random()
            gained, lost = gained + (u < 0.2), lost + (u > 0.95)
        change = trials.paired(gained, lost, 40)
        held += change["interval"][0] <= 0.15 <= change["interval"][1]
    assert 0.92 <= held / 400 <= 0.99


def test_mcnemar_is_exact():
    assert trials.mcnemar(0, 0) == 1.0
    assert trials.mcnemar(0, 5) == pytest.approx(2 / 32)
    assert trials.mcnemar(1, 7) == pytest.approx(2 * 9 / 256)
    assert trials.mcnemar(3, 3) == 1.0


def test_the_lift_is_bayes_rule_with_its_ends_at_perfect_and_useless():
    perfect = trials.lift(trials.share(0, 1000), trials.share(0, 1000))
    assert [round(one["accuracy"], 3) for one in perfect] == [1.0, 1.0, 1.0]
    useless = trials.lift(trials.share(500, 1000), trials.share(500, 1000))
    for one in useless:
        assert one["lift"] == pytest.approx(0.0)
        assert one["lift_interval"][0] < 0 < one["lift_interval"][1]
        assert one["kept"] == pytest.approx(0.5)
    nothing = trials.lift(trials.share(0, 10), trials.share(10, 10))[0]
    assert nothing["accuracy"] is None
    assert trials.lift(trials.share(0, 0), trials.share(0, 3)) == []


def test_rows_enough_to_show_a_bound_are_enough():
    n = trials.enough(0.05)
    assert trials.share(0, n)["interval"][1] <= 0.05 < trials.share(0, n - 1)["interval"][1]
