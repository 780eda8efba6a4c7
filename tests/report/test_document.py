"""The JSON document: what goes in comes out."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdcgen.errors import UsageError
from qdcgen.report.contents import Confusion, GateResult, LedgerLine, Report
from qdcgen.report.document import document, dumps, from_document
from qdcgen.rows import Measure

HARMFUL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

finite = st.floats(allow_nan=False, allow_infinity=False)
pairs = st.tuples(finite, finite)
texts = st.text(max_size=20)
counts = st.integers(0, 10**12)
reports = st.builds(
    Report,
    title=texts,
    facts=st.dictionaries(texts, texts, max_size=3),
    measures=st.lists(
        st.builds(
            Measure,
            table=st.sampled_from(["coverage", "diversity", "complexity", "quality"]),
            name=texts,
            value=st.none() | finite,
            unit=texts,
            range=pairs | st.just((0.0, math.inf)) | st.just((-math.inf, math.inf)),
            n=counts,
            interval=st.none() | pairs,
            control=st.none() | finite,
            note=texts,
            missing=st.lists(texts, max_size=3).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    ledger=st.lists(
        st.builds(
            LedgerLine,
            texts,
            texts,
            counts,
            counts,
            counts,
            counts,
            st.dictionaries(texts, counts),
            counts,
            counts,
            counts,
        ),
        max_size=2,
    ).map(tuple),
    gates=st.lists(
        st.builds(GateResult, texts, texts, texts, st.none() | finite, st.booleans(), texts, counts, texts), max_size=2
    ).map(tuple),
    remarks=st.lists(texts, max_size=2).map(tuple),
    confused=st.lists(st.builds(Confusion, texts, texts, texts, texts, counts, counts), max_size=2).map(tuple),
)


@given(reports)
def test_round_trip(report: Report) -> None:
    assert from_document(json.loads(dumps(document(report)))) == report


def test_hostile_text_is_kept_and_harmless(hostile: Report) -> None:
    text = dumps(document(hostile))
    assert not HARMFUL.search(text)
    assert json.loads(text)["title"] == hostile.title
    assert document(from_document(json.loads(text))) == document(hostile)


def test_figures_are_finite_or_none(hostile: Report) -> None:
    def check(_: str) -> float:
        pytest.fail("a number that JSON does not have")

    json.loads(dumps(document(hostile)), parse_constant=check)


def test_keys_are_in_the_order_of_the_fields(bank: Report) -> None:
    keys = ["format", "title", "facts", "measures", "ledger", "gates", "remarks", "calls", "confused", "attrition"]
    assert list(document(bank)) == keys
    assert list(document(bank)["confused"][0]) == list(Confusion.__dataclass_fields__)
    assert list(document(bank)["ledger"][0]) == list(LedgerLine.__dataclass_fields__)
    assert list(document(bank)["gates"][0]) == list(GateResult.__dataclass_fields__)
    assert set(document(bank)["measures"][0]) == set(Measure.__dataclass_fields__)


def test_the_table_of_attrition_comes_back_as_it_was(bank: Report) -> None:
    back = from_document(json.loads(dumps(document(bank))))
    assert back.attrition == bank.attrition
    before = document(bank)
    del before["attrition"]
    assert from_document(before).attrition is None


def test_a_report_written_before_confusions_were_told_is_still_read(bank: Report) -> None:
    before = document(bank)
    del before["confused"]
    assert from_document(before).confused == ()


def test_another_format_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="a report of format 9; this qdcgen reads format 1"):
        from_document({"format": 9})


@pytest.mark.parametrize("change", [{"title": None}, {"measures": [{}]}, {"ledger": [{"axis": 1}]}, {"gates": 3}])
def test_a_document_of_another_shape_is_refused(bank: Report, change: dict[str, object]) -> None:
    broken = {**document(bank), **change}
    if change == {"title": None}:
        del broken["title"]
    with pytest.raises(UsageError, match="not a report that qdcgen wrote"):
        from_document(broken)


def test_a_table_that_does_not_exist_is_refused(bank: Report) -> None:
    broken = document(bank)
    broken["measures"][0]["table"] = "score"
    with pytest.raises(UsageError, match="no table is called 'score'"):
        from_document(broken)
