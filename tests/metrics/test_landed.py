"""Metric `landed`: shares, κ and nowhere, by axis and level; nothing where nobody read, or too few."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from qdcgen.embedders.wordllama import Wordllama
from qdcgen.landing import MOST_LEAVES, Reading
from qdcgen.measure import measure, sample_of, samples_of, speaking_of
from qdcgen.metrics.landed import Landed
from qdcgen.metrics.nodes import Nodes
from qdcgen.rows import Node, Taxonomy
from qdcgen.taxonomy import inline

if TYPE_CHECKING:
    from qdcgen.parts import Sample
    from qdcgen.rows import Measure

TREE = inline("topic", {"cards": ["lost card", "forgotten pin"], "loans": None}, "x")
LOST, PIN, LOAN = "my card is lost, I lost my card", "I forgot the pin number", "a loan for a house, please"


def table(*pairs: tuple[str, str | None]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema={"text": pl.String, "topic": pl.String}, orient="row")


def read(frame: pl.DataFrame, of: str = "kept", reading: Reading | None = None, **more: object) -> Sample:
    more = {"taxonomies": {"topic": TREE}, **more}
    return sample_of(frame, "text", Wordllama(), of=of, reading=reading or Reading(), **more)


def named(found: list[Measure]) -> dict[str, Measure]:
    return {one.name: one for one in found}


HONEST = [(LOST, "cards/lost card")] * 10 + [(PIN, "cards/forgotten pin")] * 10 + [(LOAN, "loans")] * 10


def test_rows_that_landed_where_they_were_asked_and_one_region_that_is_another() -> None:
    swapped = [(text, "cards/lost card" if path == "cards/forgotten pin" else path) for text, path in HONEST]
    found = named(measure([read(table(*swapped))], [Landed()]))
    assert list(found) == ["landed", "kappa", "placed nowhere", "landed at level 1", "kappa at level 1"]
    assert found["landed"].value == pytest.approx(2 / 3)
    assert found["landed"].control == pytest.approx((20 * 10 + 10 * 10) / 900)
    assert found["landed at level 1"].value == 1.0
    assert found["kappa"].value == pytest.approx((2 / 3 - 1 / 3) / (1 - 1 / 3))
    assert all(one.n == 30 and one.interval is not None for one in found.values())


def test_too_few_rows_give_no_figure_and_no_reading_gives_no_measure() -> None:
    few = measure([read(table(*HONEST[:12]))], [Landed()])
    assert {one.value for one in few} == {None}
    assert {one.note for one in few} == {"too few: 12 rows, needs 20"}
    assert measure([sample_of(table(*HONEST), "text", Wordllama(), taxonomies={"topic": TREE})], [Landed()]) == []
    wide = Taxonomy("topic", tuple(Node(str(n), str(n), str(n), 0) for n in range(MOST_LEAVES + 1)))
    assert measure([read(table(*HONEST), taxonomies={"topic": wide})], [Landed()]) == []


def test_everything_made_is_read_only_where_some_of_it_was_dropped() -> None:
    raw, attempts = table(*HONEST), pl.DataFrame({"_kept": [True] * 20 + [False] * 10})
    frames = {"raw": raw, "kept": raw.head(20)}
    more = {"taxonomies": {"topic": TREE}, "reading": Reading()}
    dropped = measure(samples_of(frames, "text", Wordllama(), attempts=attempts, **more), [Landed()])
    assert [one.name for one in dropped if one.of == "raw"] == ["landed", "kappa"]
    whole = samples_of(
        {"raw": raw, "kept": raw}, "text", Wordllama(), attempts=attempts.with_columns(_kept=True), **more
    )
    assert {one.of for one in measure(whole, [Landed()])} == {"kept"}


def test_what_a_model_has_placed_is_taken_and_a_text_it_was_not_asked_about_leaves_the_axis_unread() -> None:
    placed = {"topic": {LOST: 1, PIN: 1, LOAN: -1}}
    found = named(measure([read(table(*HONEST), reading=Reading(critic="m", placed=placed))], [Landed()]))
    assert found["landed"].value == pytest.approx(1 / 3)
    assert found["placed nowhere"].value == pytest.approx(1 / 3)
    assert "read blind by m" in found["landed"].note
    del placed["topic"][PIN]
    assert measure([read(table(*HONEST), reading=Reading(critic="m", placed=placed))], [Landed()]) == []


def test_nodes_stand_in_three_columns_and_gates_reach_what_landed() -> None:
    planned = pl.DataFrame({"topic": ["cards/lost card", "cards/forgotten pin", "loans"]})
    asked = [(LOST, path) for _, path in HONEST] + [(LOAN, None)] * 5
    found = measure([read(table(*asked), planned=planned)], [Nodes()])
    leaves = {one.of: one for one in found if one.name == "leaves"}
    assert {of: one.value for of, one in leaves.items()} == {
        "planned": 1.0,
        "kept": 1.0,
        "landed": pytest.approx(1 / 3),
    }
    assert leaves["landed"].missing == ("cards/forgotten pin", "loans")  # a text nobody asked for there does not count
    assert "1 leaf holds a row that was asked for there" in leaves["landed"].note
    assert speaking_of(found, "coverage", "landed_leaves") == [leaves["landed"]]
    assert speaking_of(found, "coverage", "leaves") == [leaves["kept"]]
