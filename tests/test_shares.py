"""Quotas and minimums of a recipe: what cannot be is told with its place and what to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdcgen.errors import RecipeError
from qdcgen.recipe import loads
from qdcgen.taxonomy import Apportioned, shares

RECIPE = """\
recipe: 1
name: shares
models: {writer: {model: embedded}}
taxonomy:
  topic:
    tree: {cards: [lost, pin], transfers: [pending, wrong], loans: [asked]}
    SAID
  tone: [polite, angry]
generate:
  - write: {fields: {text: string}, prompt: "About {{ topic }}"}
target: {rows: 100}
"""


def loaded(said: str, more: str = ""):
    return loads(RECIPE.replace("SAID", said) + more, file="r.yaml", folder=Path("/nonexistent"))


@pytest.mark.parametrize(
    ("said", "line", "words"),
    [
        ("quotas: {crads: 20%}", 7, "matches no node of topic; did you mean 'cards'?"),
        ("quotas: {cards: 0%}", 7, ("expected a percentage such as 20% (above 0, at most 100), or a whole number "
         "of rows such as 150; found '0%'; to draw none of it write weights: {…: 0}")),
        ("quotas: {cards: 120%}", 7, "above 0, at most 100"),
        ("quotas: {cards: 1.5}", 7, "found 1.5"),
        ("quotas: {cards: some}", 7, "found 'some'"),
        ("quotas: {cards: true}", 7, "expected a percentage"),
        ("quotas: {cards: 150}", 7, ("'cards' asks for 150 rows, and 100 of the target's draw topic; write 100 or "
         "less, or a larger target.rows")),
        ("quotas: {cards: 20%, cards/lost: 5}", 7, ("'cards/lost' and 'cards' both cover 'cards/lost'; a leaf has "
         "one quota, so narrow one of the patterns")),
        ("quotas: {cards: 70%, transfers: 40}", 7, ("quotas add up to 110 % of the 100 rows that draw topic; lower "
         "them to 100 % or less")),
        ("quotas: {cards: 60%, transfers: 40}", 7, "leave none for 1 more leaves, e.g. 'loans/asked'"),
        ("quotas: {cards: 10%, transfers: 40, loans: 2}", 7, ("add up to 52 % of the 100 rows that draw topic, and "
         "no leaf is left for the rest; raise them to 100 %")),
        ("minimum: 21", 7, ("minimum: 21 rows for each of 5 leaves are 105 rows, and 100 of the target's draw "
         "topic; write minimum: 20 or less, or a larger target.rows")),
        ("minimum: 0", 7, "minimum"),
        ("minimum: few", 7, "whole number"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_place(said, line, words):
    with pytest.raises(RecipeError) as error:
        loaded(said)
    (fault,) = error.value.faults
    assert words in fault.message
    assert fault.line == line


def test_a_quota_that_cannot_hold_its_minimum_and_one_on_weightless_leaves_are_told():
    with pytest.raises(RecipeError, match=r"r.yaml:8:21: taxonomy.topic: quotas: 'cards' has 20 rows, and minimum: 15 "
                       r"asks for 30 there; raise the quota, or lower the minimum"):  # fmt: skip
        loaded("minimum: 15\n    quotas: {cards: 20}")
    with pytest.raises(RecipeError, match=r"r.yaml:7:.*the leaves without a quota have 30 rows, and minimum: 15 "
                       r"asks for 45 there; lower the quotas, or lower the minimum"):  # fmt: skip
        loaded("minimum: 15\n    quotas: {cards: 70%}")
    with pytest.raises(RecipeError, match=r"r.yaml:8:21: .*every leaf that 'cards' covers has weight 0"):
        loaded("weights: {cards: 0}\n    quotas: {cards: 20%}")


def test_every_fault_is_told_at_once_and_none_where_the_target_cannot_be_read():
    with pytest.raises(RecipeError) as error:
        loaded("quotas: {cards: 150, nothing: 3, transfers: 400}")
    assert len(error.value.faults) == 3
    with pytest.raises(RecipeError) as error:
        loads(
            RECIPE.replace("SAID", "quotas: {cards: 150}").replace("rows: 100", "rows: x"),
            file="r.yaml",
            folder=Path("/nonexistent"),
        )
    assert [fault.message for fault in error.value.faults] == ["target.rows: expected a whole number, found 'x'"]


def test_shares_are_of_the_rows_that_draw_the_taxonomy():
    half = loaded("quotas: {cards: 25}", "strategies: [{axes: [topic, tone]}, {axes: [tone]}]\n")
    assert half.rows_drawing("topic") == 50
    tree = half.taxonomies["topic"]
    assert isinstance(tree, Apportioned)
    assert [float(part) for part in shares(tree)] == [0.25, 0.25, 1 / 6, 1 / 6, 1 / 6]
    with pytest.raises(RecipeError, match="asks for 60 rows, and 50 of the target's draw topic"):
        loaded("quotas: {cards: 60}", "strategies: [{axes: [topic, tone]}, {axes: [tone]}]\n")


def test_leaves_weigh_by_their_share_so_that_the_digest_covers_quotas():
    plain, tenth, fifth = (loaded(said) for said in ("", "quotas: {cards: 10%}", "quotas: {cards: 20%}"))
    digests = {str(one.resolved()["taxonomy"]) for one in (plain, tenth, fifth)}
    assert len(digests) == 3
    assert [node.weight for node in fifth.taxonomies["topic"].leaves] == pytest.approx([0.5, 0.5, 4 / 3, 4 / 3, 4 / 3])
    assert all(node.weight == 1 for node in loaded("quotas: {cards: 40%}").taxonomies["topic"].nodes)


def test_the_schema_knows_both_keys():
    from qdcgen.schema import recipe_schema

    source = recipe_schema()["$defs"]["Source"]["properties"]
    assert {"minimum", "quotas"} <= set(source)
