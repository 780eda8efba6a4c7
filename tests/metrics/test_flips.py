"""Flips are counted by field and by the label that was drawn, with both distributions."""

import polars as pl
import pytest

from qdcgen.metrics.flips import Flips
from qdcgen.parts import Sample

SCHEMA = {"_labels": pl.List(pl.Struct({"field": pl.String, "drawn": pl.String, "read": pl.String}))}


def measured(*pairs, of="kept"):
    said = [None if pair is None else [{"field": "label", "drawn": pair[0], "read": pair[1]}] for pair in pairs]
    history = pl.DataFrame({"_labels": said}, schema=SCHEMA)
    sample = Sample(of, [], pl.DataFrame(), lambda: None, "none", attempts=history)
    return {measure.axis: measure for measure in Flips().measure(sample)}


def test_flips_by_label_with_the_distribution_before_and_after():
    found = measured(*[("good", "good")] * 6, *[("good", "bad")] * 3, ("good", "odd"), *[("bad", "bad")] * 10, None)
    assert {axis: (one.value, one.n) for axis, one in found.items()} == {
        "label": (0.2, 20),
        "label=bad": (0.0, 10),
        "label=good": (0.4, 10),
        "label=odd": (None, 0),
    }
    assert found["label=good"].note == "10 before, 6 after; read as bad 3, odd 1"
    assert found["label=bad"].note == "10 before, 13 after"
    assert found["label=odd"].note == "never drawn; 0 before, 1 after"
    low, high = found["label=good"].interval
    assert low == pytest.approx(0.1682, abs=1e-3)
    assert high == pytest.approx(0.6873, abs=1e-3)


def test_nothing_is_said_where_nothing_was_read():
    assert measured(None, None) == {}
    assert measured() == {}
    assert measured(("a", "b"), of="raw") == {}, "once, not for each population"
    for history in (None, pl.DataFrame({"_id": ["a"]})):
        sample = Sample("kept", [], pl.DataFrame(), lambda: None, "none", attempts=history)
        assert Flips().measure(sample) == []
