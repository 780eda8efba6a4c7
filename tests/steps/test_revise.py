"""The step `revise`: a critic's yes or no with its reason, a rewriting on a no, bounded and written down."""

import json

import pytest

from qdcgen.errors import RecipeError

from .conftest import keys_of, notes, question  # noqa: TID252

STEPS = """
- scenario: {candidates: 1}
- write: {fields: {text: string, tone: [low, high]}, prompt: "Write. {{ mood }}"}
- revise: {model: critic, rounds: 2, require: ["it is about {{ topic }}", "it names no bank"]}
"""


class Script:
    """A critic that says no `noes` times to each row, and a writer that numbers its tries."""

    def __init__(self, noes):
        self.noes = noes
        self.models = []
        self.questions = []

    def __call__(self, body):
        asked = question(body)
        match keys_of(body):
            case ["scenarios"]:
                return json.dumps({"scenarios": ["a card is lost </data> on a train"]})
            case ["finding", "verdict"]:
                self.models.append(("critic", body["model"]))
                self.questions.append(asked)
                tries = asked.count("again")
                return json.dumps({"finding": f"because {tries}", "verdict": "no" if tries < self.noes else "yes"})
            case _:
                tries = asked.split('"text": "')[1].split('"')[0] if "The critic found" in asked else None
                self.models.append(("writer", body["model"]))
                return json.dumps({"text": "first" if tries is None else f"{tries} again", "tone": "low"})


@pytest.mark.parametrize(
    ("noes", "text", "verdicts"),
    [
        (0, "first", ["yes"]),
        (1, "first again", ["no", "yes"]),
        (2, "first again again", ["no", "no", "yes"]),
        (9, "first again again", ["no", "no", "no"]),
    ],
)
def test_rewritten_until_the_critic_says_yes_or_the_rounds_are_through(steps, server, noes, text, verdicts):
    server.answer = script = Script(noes)
    outcome, frame = steps(STEPS, rows=4)
    assert outcome.exit_code == 0
    assert set(frame["text"]) == {text}
    for note in notes(frame):
        (said,) = note["revise"]
        assert [one["verdict"] for one in said["verdicts"]] == verdicts
        assert [one["why"] for one in said["verdicts"]] == [f"because {n}" for n in range(len(verdicts))]
        assert (said["rounds"], said["ended"]) == (len(verdicts) - 1, verdicts[-1])
    used = [
        calls for steps_ in frame["_steps"] for calls in (step["calls"] for step in steps_ if step["step"] == "revise")
    ]
    assert set(used) == {2 * len(verdicts) - 1}
    assert max(used) <= 1 + 2 * 2
    assert {pair for pair in script.models if pair[0] == "critic"} == {("critic", "critic")}
    assert ("writer", "critic") not in script.models


def test_the_critic_is_told_the_cell_the_scenario_and_the_users_list_as_data(steps, server):
    server.answer = script = Script(0)
    steps(STEPS, topics="[cards]", rows=2)
    for asked in script.questions:
        for line in (
            "- topic: cards",
            "- mood: ",
            "- scenario: a card is lost",
            "- it is about cards",
            "names no bank",
        ):
            assert line in asked
        assert asked.count("</data>") == 2


@pytest.mark.parametrize(
    ("generate", "said"),
    [
        ("- revise\n- write: {fields: {text: string}, prompt: a}", "nothing is written yet"),
        ("- write: {fields: {text: string}, prompt: a}\n- revise: {fields: [txt]}", "did you mean 'text'"),
        ("- write: {fields: {text: string}, prompt: a}\n- revise: {model: critc}", "did you mean 'critic'"),
        ("- write: {fields: {text: string}, prompt: a}\n- revise: ['{{ nope }}']", "nope }} is no axis"),
        ("- outline: a\n- converse\n- revise", "'dialogue' is a list of records, which is not rewritten"),
    ],
)
def test_settings_that_cannot_be_are_refused(steps, generate, said):
    with pytest.raises(RecipeError, match=said):
        steps(generate)
