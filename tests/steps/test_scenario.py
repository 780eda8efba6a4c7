"""The step `scenario`: one call for every K rows of a mix, one kept by each, later calls shown earlier ones."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from qdcgen.errors import RecipeError
from qdcgen.steps.scenario import CHAIN, SHOWN, _line
from qdcgen.testing import value_for

from .conftest import keys_of, notes, question, schema_of  # noqa: TID252

STEPS = """
- scenario: {candidates: 4, about: "letters about {{ topic.path }}"}
- write:
    fields: {text: string}
    prompt: "{{ scenario }} Mood: {{ mood }}."
"""


class Script:
    """Numbers its scenarios, and remembers every call by what it asked for."""

    def __init__(self, broken=()):
        self.calls = Counter()
        self.shown = []
        self.broken = broken
        self.failures = 0

    def __call__(self, body):
        if keys_of(body) != ["scenarios"]:
            return json.dumps({"text": f"text of {question(body)}"})
        call = self.calls[question(body)]
        self.calls[question(body)] += 1
        number = len(self.calls) - 1
        if call == 0:
            self.shown.append(question(body))
        if any(word in str(body["messages"]) for word in self.broken):
            self.failures += 1
            return "no list at all"
        return json.dumps({"scenarios": [f"scenario {number}.{n} takes place" for n in range(4)]})


def test_k_candidates_in_one_call_one_kept_by_each_row_and_later_calls_are_shown_earlier_ones(steps, server):
    server.answer = script = Script()
    outcome, frame = steps(STEPS, topics="[cards]", rows=10)
    assert outcome.exit_code == 0
    assert sum(script.calls.values()) == len(script.calls) == 3, "10 rows of one mix take three calls of four"
    said = [note["scenario"] for note in notes(frame)]
    assert [one["call"] for one in said] == [0] * 4 + [1] * 4 + [2] * 2
    assert [one["shown"] for one in said] == [0] * 4 + [4] * 4 + [8] * 2
    assert {one["of"] for one in said} == {4}
    assert len({one["text"] for one in said}) == 10, "no candidate is used twice"
    assert "exist already" not in script.shown[0]
    assert [word in script.shown[1] for word in ("scenario 0.0", "scenario 0.3", "scenario 1.0")] == [True, True, False]
    assert [word in script.shown[2] for word in ("scenario 0.0", "scenario 1.3")] == [True, True]
    assert all("letters about cards" in asked and "mood" not in asked for asked in script.shown)
    for one, text in zip(said, frame["text"], strict=True):
        assert text == f"text of {one['text']} Mood: {text.split('Mood: ')[1]}"
    assert "scenario" not in frame.columns


def test_a_shared_call_is_counted_on_one_row(steps, server):
    server.answer = script = Script()
    _, frame = steps(STEPS, topics="[cards, transfers]", rows=16)
    assert frame["_calls"].sum() == 16 + sum(script.calls.values()) == server.asked
    assert frame["_calls"].to_list() == [1 + (replicate % 4 == 0) for replicate in frame["_replicate"]]
    assert frame["_usd"].sum() == pytest.approx((frame["_tokens_in"].sum() + 2 * frame["_tokens_out"].sum()) / 1e6)


def test_which_candidate_comes_first_is_drawn_by_the_mix(steps, server):
    server.answer = Script()
    _, frame = steps(STEPS, topics=str([f"t{n}" for n in range(40)]), rows=40)
    firsts = Counter(note["scenario"]["candidate"] for note in notes(frame))
    assert set(firsts) == {0, 1, 2, 3}


def test_a_call_that_gives_nothing_costs_its_own_rows_and_is_not_repeated_by_others(steps, server):
    server.answer = script = Script(broken=["about cards"])
    outcome, frame = steps(STEPS, topics="[cards, transfers]", rows=24)
    assert outcome.exit_code == 4
    failed = frame.filter(frame["_fault"].is_not_null())
    assert set(failed["topic"]) == {"cards"}
    assert failed.height == 12
    assert script.failures == 2 * 3, "three calls, each with one repair, however many rows wait for them"


def test_nothing_is_paid_for_twice_after_a_kill(steps, server, tmp_path):
    server.answer = lambda body: json.dumps(value_for(schema_of(body), random.Random(question(body))))
    _, whole = steps(STEPS, rows=64, folder="whole")
    plain = dict(server.seen)
    server.seen.clear()
    server.latency = 0.05
    words = ["run", str(steps.path), "--out", str(tmp_path / "killed"), "--quiet"]
    for goal in (7, 30):
        end = goal + server.asked
        process = subprocess.Popen([sys.executable, "-c", "from qdcgen.cli import main; main()", *words])
        while server.asked < end and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    server.latency = 0
    _, killed = steps(STEPS, rows=64, folder="killed")
    assert killed.equals(whole)
    assert set(server.seen) == set(plain)
    assert max(plain.values()) == 1, "rows that share a call do not ask it side by side"
    assert sum(count - 1 for count in server.seen.values()) <= 2 * 64


def test_a_later_call_follows_few_others():
    assert _line(0) == [0]
    assert _line(3) == [0, 1, 2, 3]
    assert _line(CHAIN) == list(range(CHAIN + 1))
    assert _line(1000)[-3:] == [250, 500, 1000]
    assert all(len(_line(block)) <= CHAIN + 1 + block.bit_length() for block in range(5000))
    assert all(_line(block) == sorted(set(_line(block))) for block in range(500))


def test_what_a_call_is_shown_is_bounded(steps, server):
    server.answer = script = Script()
    steps(STEPS, topics="[cards]", rows=100)
    assert max(asked.count("scenario ") for asked in script.shown) <= SHOWN


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("about: '{{ mood }}'", "mood }} is no taxonomy, and a scenario is of its mix alone"),
        ("model: wrtier", "did you mean 'writer'"),
        ("candidates: 0", "a number of at least 1, found 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(steps, setting, said):
    with pytest.raises(RecipeError, match=said.replace("{", r"\{")):
        steps(STEPS.replace('candidates: 4, about: "letters about {{ topic.path }}"', setting))


def test_a_name_that_a_step_adds_may_not_be_an_axis(steps):
    with pytest.raises(RecipeError, match="it adds the name 'mood', which is an axis or a field"):
        steps("- seed: {prompt: a, name: mood}\n- write: {fields: {text: string}, prompt: a}")
    with pytest.raises(RecipeError, match=r"\{\{ scenario \}\} is no axis"):
        steps("- write: {fields: {text: string}, prompt: '{{ scenario }}'}\n- scenario")


def test_a_plan_counts_calls_and_fills_prompts_that_name_what_steps_add(steps, server):
    from qdcgen.preview import plan_summary
    from qdcgen.recipe import load

    server.answer = Script()
    steps(
        "- scenario\n- complexify: 0.5\n- outline: '{{ scenario }}'\n"
        "- write: {fields: {text: string}, prompt: '{{ scenario }} {{ outline.points[0] }}'}",
        rows=2,
    )
    said = plan_summary(load(steps.path))
    assert said.calls_expected == 2 * 3.5
    assert said.calls_most == 2 * 5
    assert said.tokens_in_expected is not None
    assert any("without those of scenario, complexify; plan --estimate" in remark for remark in said.remarks)
