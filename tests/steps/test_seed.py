"""The step `seed`: one call, before anything is decided; a name for templates, or a field."""

import json

import pytest

from qdcgen.errors import RecipeError

from .conftest import keys_of, notes, question  # noqa: TID252


def answer(body):
    if keys_of(body) == ["seed"]:
        return json.dumps({"seed": f"premise {{{{ 7*7 }}}} of <{question(body)}>"})
    return json.dumps({"text": question(body)})


def test_a_seed_is_a_name_for_later_templates_and_is_noted_but_is_no_column(steps, server):
    server.answer = answer
    _, frame = steps(
        "- seed: 'A premise about {{ topic }}.'\n"
        "- write: {fields: {text: string}, prompt: 'From {{ seed }}, mood {{ mood }}'}",
        rows=4,
    )
    assert "seed" not in frame.columns
    said = [note["seed"]["seed"] for note in notes(frame)]
    assert set(said) == {f"premise {{{{ 7*7 }}}} of <A premise about {topic}.>" for topic in ("cards", "transfers")}
    for text, seed in zip(frame["text"], said, strict=True):
        assert text.startswith(f"From {seed}, mood "), "a seed is data, never a template"
    assert set(frame["_calls"]) == {2}


def test_a_seed_may_be_a_field_and_several_have_names(steps, server):
    server.answer = answer
    _, frame = steps(
        "- seed: {prompt: A premise., field: premise}\n"
        "- seed: {prompt: 'A place for {{ premise }}', name: place}\n"
        "- write: {fields: {text: string}, prompt: '{{ premise }} at {{ place }}'}",
        rows=2,
    )
    assert frame.columns[:2] == ["premise", "text"]
    assert set(frame["premise"]) == {"premise {{ 7*7 }} of <A premise.>"}
    assert all("place" in note["seed"] for note in notes(frame))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("{prompt: a, name: x, field: y}", "either name: "),
        ("{prompt: '{{ nothing }}'}", "is no axis and no earlier field"),
        ("{prompt: a, model: wrtier}", "did you mean 'writer'"),
        ("{}", "prompt"),
    ],
)
def test_settings_that_cannot_be_are_refused(steps, setting, said):
    with pytest.raises(RecipeError, match=said):
        steps(f"- seed: {setting}\n- write: {{fields: {{text: string}}, prompt: a}}")
