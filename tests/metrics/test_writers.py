"""What each writer brought that no other did: counted over all that was made, and for each dollar."""

import polars as pl
import pytest

from qdcgen.metrics.writers import Writers
from qdcgen.parts import Sample

OWN = ["turn the pot a little every day", "roll your shirts up", "soak the rice for an hour", "leave the phone outside"]


def measured(rows, of="raw"):
    """`rows` are (writer, text or None for a failed one, kept, dollars)."""
    history = pl.DataFrame(
        [(str(n), writer, kept, dollars) for n, (writer, _, kept, dollars) in enumerate(rows)],
        schema={"_id": pl.String, "_writer": pl.String, "_kept": pl.Boolean, "_usd": pl.Float64},
        orient="row",
    )
    texts = [(str(n), text) for n, (_, text, _, _) in enumerate(rows) if text is not None]
    frame = pl.DataFrame(texts, schema={"_id": pl.String, "text": pl.String}, orient="row")
    sample = Sample(of, frame["text"].to_list(), frame, lambda: None, "none", attempts=history)
    return {(measure.name, measure.axis): measure for measure in Writers().measure(sample)}


def test_a_row_that_two_writers_made_is_unique_to_neither_whoever_was_kept():
    found = measured(
        [
            ("large", OWN[0], True, 0.02),
            ("large", OWN[1], True, 0.02),
            ("small", OWN[1] + "!", False, 0.001),
            ("small", OWN[2], True, 0.001),
            ("small", OWN[3], True, 0.001),
            ("small", None, False, 0.001),
        ]
    )
    assert {writer: found["accepted by writer", writer].value for writer in ("large", "small")} == {
        "large": 1.0,
        "small": 0.5,
    }
    unique = {writer: found["unique by writer", writer] for writer in ("large", "small")}
    assert {writer: (one.value, one.n) for writer, one in unique.items()} == {"large": (0.5, 2), "small": (0.5, 4)}
    assert unique["small"].note == "2 of 4 rows made are accepted and like no row of another writer"
    assert all(one.interval[0] < one.value < one.interval[1] for one in unique.values())
    dollars = {writer: found["unique accepted rows a dollar", writer] for writer in ("large", "small")}
    assert dollars["large"].value == pytest.approx(1 / 0.04)
    assert dollars["small"].value == pytest.approx(2 / 0.004), "what failed was paid for too"


def test_a_writer_that_repeats_itself_repeats_nobody_else():
    found = measured([("a", OWN[0], True, 0.1), ("a", OWN[0], True, 0.1), ("b", OWN[1], True, 0.1)])
    assert found["unique by writer", "a"].value == 1.0


@pytest.mark.parametrize(
    ("dollars", "said"), [(None, "unknown; name it under price:"), (0.0, "1 rows, and its calls cost nothing")]
)
def test_without_a_price_there_is_no_figure_a_dollar(dollars, said):
    found = measured([("a", OWN[0], True, dollars), ("b", OWN[1], True, 0.1)])
    one = found["unique accepted rows a dollar", "a"]
    assert one.value is None
    assert said in one.note
    assert found["unique accepted rows a dollar", "b"].value == 10


def test_nothing_is_said_of_one_writer_or_of_data_from_elsewhere():
    assert measured([("a", OWN[0], True, 0.1)]) == {}
    assert measured([("a", OWN[0], True, 0.1), ("b", OWN[1], True, 0.1)], of="kept") == {}
    bare = Sample("raw", OWN, pl.DataFrame({"text": OWN}), lambda: None, "none")
    assert Writers().measure(bare) == []
