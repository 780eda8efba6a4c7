"""Surface forms: which text has which, how many there are, and what filters do to them."""

import numpy as np
import polars as pl
import pytest

from qdcgen.forms import FORMS, forms
from qdcgen.metrics.formats import Formats
from qdcgen.parts import Sample

EXAMPLES = {
    "blank": ["", " \n "],
    "JSON": ['{"a": 1, "b": [2]}', '[{"a": 1}]', '{\n  "name": "x"\n}'],
    "code": [
        "```python\nprint(1)\n```",
        "def f(x):\n    return x + 1",
        "Here is the code:\n```\nx = 1\n```\nIt sets x.",
        "for (int i = 0; i < 3; i++) {\n  run(i);\n}",
    ],
    "table": ["| a | b |\n|---|---|\n| 1 | 2 |", "name\tage\nAnna\t3", "Item | Number | Price\nShirt | 2 | 10"],
    "dialogue": ["User: hi\nAssistant: hello", "Anna: where is it?\nTom: here.\nAnna: thanks"],
    "named fields": ["Name: Anna\nCity: Paris", "Topic: rain\nDuration: 5 minutes"],
    "headings": ["# Plan\nWe begin.", "**Setup**\nDo this.\n**Run**\nDo that."],
    "letter": [
        "Dear Ms Holt,\n\nmy card was lost.\n\nKind regards,\nAnna",
        "Subject: leave\nDear all,\nI am away. Best, Tom",
        "Dear bank, my card was lost. Sincerely, Anna",
        "Hi Tom,\nsee you at nine.",
    ],
    "numbered list": ["1. flour\n2. eggs", "Steps:\n1) open\n2) close"],
    "list": ["- flour\n- eggs", "You need:\n* flour\n* eggs", "• a\n• b"],
    "paragraphs": ["The first paragraph.\n\nThe second one."],
    "lines": ["roses are red\nviolets are blue"],
    "question": ["Where is my card?", "My card is gone. What now?"],
    "one sentence": ["My card is gone.", "no full stop at all", "Hello, my card is gone."],
    "one paragraph": ["My card is gone. I want a new one."],
}


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in EXAMPLES.items() for text in texts])
def test_a_text_has_the_form_that_a_person_would_name(form, text):
    assert FORMS[forms([text])[0]] == form


def test_odd_texts_have_a_form_too_and_it_takes_no_time():
    odd = ["\x00\x1b[31m", "\u202e\u2066", "x" * 1_000_000, "\ud800 half", "{{ 7 * 7 }}", "|" * 5_000, "\n" * 9_999]
    assert len(forms(odd)) == len(odd)
    assert len(forms([])) == 0


def sample(texts, of="kept", **more):
    return Sample(of, texts, more.pop("frame", pl.DataFrame({"text": texts})), lambda: None, "none", **more)


def named(found):
    return {one.name: one for one in found}


def test_shares_hold_and_one_form_is_one():
    texts = ["- a\n- b", "Where is it?"] * 60
    found = named(Formats().measure(sample(texts)))
    assert found["effective forms"].value == pytest.approx(2)
    assert found["list"].value == found["question"].value == 0.5
    assert found["list"].interval[0] < 0.5 < found["list"].interval[1]
    alone = named(Formats().measure(sample([f"line {n}." for n in range(50)])))
    assert alone["effective forms"].value == 1
    assert list(alone) == ["effective forms", "one sentence"]


def test_populations_are_compared_at_equal_n_and_order_changes_nothing():
    rng = np.random.default_rng(0)
    kinds = [texts[-1] for texts in EXAMPLES.values()]
    texts = [kinds[place] for place in rng.choice(len(kinds), 2_000)]
    whole = Formats().measure(sample(texts))
    assert whole == Formats().measure(sample(texts[::-1]))
    few = named(Formats().measure(sample(texts, equal_n=100)))["effective forms"]
    assert few.n == 100
    assert few.value < named(whole)["effective forms"].value, "fewer texts show fewer forms"
    read = named(Formats(texts=500).measure(sample(texts)))
    assert read["list"].n == 500
    low, high = read["list"].interval
    assert low < named(whole)["list"].value < high


def test_what_a_filter_does_to_a_form_is_told_of_everything_made():
    texts = ["- a\n- b", "Where is it?"] * 50
    frame = pl.DataFrame({"_id": [str(n) for n in range(100)], "text": texts})
    history = pl.DataFrame({"_id": frame["_id"], "_kept": [n % 2 == 1 or n % 10 == 0 for n in range(100)]})
    history = history.sample(fraction=1, shuffle=True, seed=1)
    found = named(Formats().measure(sample(texts, "raw", frame=frame, attempts=history)))
    assert found["list, kept"].value == pytest.approx(0.2)
    assert found["question, kept"].value == 1
    assert found["list, kept"].control == pytest.approx(0.6)
    assert "question, kept" not in named(Formats().measure(sample(texts, "kept", frame=frame, attempts=history)))
    all_kept = history.with_columns(_kept=pl.lit(value=True))
    assert "list, kept" not in named(Formats().measure(sample(texts, "raw", frame=frame, attempts=all_kept)))


def test_few_texts_say_so():
    (found,) = Formats().measure(sample(["a"] * 19))
    assert (found.value, found.note) == (None, "too few: 19 texts, needs 20")
