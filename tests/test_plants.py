"""Each rule changes one thing of a row, says what, and says why where it cannot."""

import time

import pytest

from qdcgen import plants
from qdcgen.plants import FILLER, KINDS, OFF_TOPIC, STEER_YES, Plant, Scene
from qdcgen.rows import Cell, Node, Row, Taxonomy

TREE = Taxonomy(
    "topic",
    (
        Node("cards", "cards", "cards", 0),
        Node("lost", "lost", "cards/lost", 1, "cards"),
        Node("stolen", "stolen", "cards/stolen", 1, "cards"),
        Node("transfers", "transfers", "transfers", 0),
        Node("late", "late", "transfers/late", 1, "transfers"),
    ),
)
FLAT = Taxonomy("topic", (Node("a", "a", "a", 0), Node("b", "b", "b", 0)))
FIELDS = {"message": {"type": "string"}, "urgency": {"enum": ["low", "normal", "high"]}}
TEXT = "My card was lost on the train this morning. What do I have to do now to block it, please?"


def row(number, node="lost", **fields):
    values = {"words": number * 10, "channel": ["chat", "email"][number % 2]}
    cell = Cell(f"{number:016x}", {"topic": node}, number, number, values)
    return Row(cell, {"message": f"{TEXT} It is case {number}.", "urgency": "low", **fields})


ROWS = [row(1), row(2, "stolen"), row(3, "late"), row(4, "late"), row(5)]


def scene(**changed):
    told = {"fields": FIELDS, "taxonomies": {"topic": TREE}, "seen": ["message", "urgency"], "layers": ["words"]}
    return Scene(**{**told, "text": "message", "answer": "urgency", **changed})


@pytest.mark.parametrize("kind", KINDS)
def test_a_plant_says_what_it_is_and_has_an_id_of_its_own_and_is_the_same_again(kind):
    made = plants.plants(kind, ROWS, scene(), 7)
    assert made == plants.plants(kind, ROWS, scene(), 7)
    assert {plant.row.notes["planted"]["kind"] for plant in made} == {kind}
    assert not {plant.row.id for plant in made} & {one.id for one in ROWS}
    assert len({plant.row.id for plant in made}) == len(made) == 5


def test_seeds_give_other_plants():
    said = {str([plant.row.fields for plant in plants.plants("truncated", ROWS, scene(), seed)]) for seed in range(4)}
    assert len(said) == 4


def test_a_wrong_answer_is_another_value_and_the_text_stays():
    for base, bad in plants.plants("wrong answer", ROWS, scene(), 1):
        assert bad.fields["urgency"] in {"normal", "high"}
        assert bad.fields["message"] == ROWS[base].fields["message"]
        assert bad.cell.mix == ROWS[base].cell.mix


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"type": "integer", "minimum": 0, "maximum": 3}, [0, 1, 2, 3, 3]),
        ({"type": "number"}, [0.5, 1.5, -2.0, 100.0, 0.0]),
        ({"type": "boolean"}, [True, False, True, False, True]),
        ({"type": "string"}, ["42", "12 apples", "17", "0", "1,000"]),
        ({"type": "string"}, ["Paris", "Rome", "Oslo", "Bern", "Rome"]),
    ],
)
def test_an_answer_of_any_kind_is_made_wrong_inside_what_the_schema_allows(schema, values):
    rows = [row(number, answer=value) for number, value in enumerate(values)]
    made = plants.plants("wrong answer", rows, scene(fields={**FIELDS, "answer": schema}, answer="answer"), 3)
    assert len(made) == 5
    for base, bad in made:
        assert bad.fields["answer"] != values[base]
        assert type(bad.fields["answer"]) is type(values[base]) or isinstance(values[base], float)
        if "maximum" in schema:
            assert 0 <= bad.fields["answer"] <= 3


def test_rows_that_all_have_the_one_answer_there_is_say_so():
    rows = [row(number, urgency="low") for number in range(3)]
    said = plants.plants("wrong answer", rows, scene(fields={**FIELDS, "urgency": {"enum": ["low"]}}), 1)
    assert said == "every row has the same urgency, and nothing to replace it with"
    assert "no field is like an answer" in plants.plants("wrong answer", rows, scene(answer=None), 1)


def test_the_answer_is_a_label_before_a_number_before_a_short_text_before_a_name():
    def found(fields, **values):
        rows = [Row(Cell(str(n), {}, n, n), {name: of[n] for name, of in values.items()}) for n in range(2)]
        return plants.answer_of(rows, fields, list(fields), "question")

    text = {"type": "string"}
    asked, long = (
        ["What is it that we want to know here?"] * 2,
        ["One long text in six words.", "Two of those in six words."],
    )
    assert (
        found({"question": text, "n": {"type": "integer"}, "l": {"enum": [1, 2]}}, question=asked, n=[1, 2], l=[1, 2])
        == "l"
    )
    assert found({"question": text, "n": {"type": "integer"}}, question=asked, n=[1, 2]) == "n"
    assert found({"question": text, "capital": text}, question=asked, capital=["Oslo", "Rome"]) == "capital"
    assert found({"question": text, "answer": text}, question=asked, answer=long) == "answer"
    assert found({"question": text, "story": text}, question=asked, story=long) is None
    assert found({"answer": text}, answer=long) is None, "the only text is no answer to anything"


def test_a_wrong_region_has_the_text_of_another_top_level_region_under_its_own_cell():
    for base, bad in plants.plants("wrong region", ROWS, scene(), 1):
        assert bad.cell.mix == ROWS[base].cell.mix
        donor = next(one for one in ROWS if one.fields == bad.fields)
        tops = {tuple(TREE.line(one.cell.mix["topic"]))[-1].id for one in (donor, ROWS[base])}
        assert tops == {"cards", "transfers"}
    near = [row(1), row(2, "stolen")]
    assert plants.plants("wrong region", near, scene(), 1) == "no two rows lie in different top-level regions"
    flat = [row(1, "a"), row(2, "b")]
    assert len(plants.plants("wrong region", flat, scene(taxonomies={"topic": FLAT}), 1)) == 2


def test_a_broken_requirement_changes_the_cell_and_leaves_every_field():
    for base, bad in plants.plants("broken requirement", ROWS, scene(), 1):
        assert bad.fields == ROWS[base].fields
        assert abs(bad.cell.values["words"] - ROWS[base].cell.values["words"]) >= 20
    for base, bad in plants.plants("broken requirement", ROWS, scene(layers=["channel"]), 1):
        assert {bad.cell.values["channel"], ROWS[base].cell.values["channel"]} == {"chat", "email"}
    assert "not shown" in plants.plants("broken requirement", ROWS, scene(layers=[]), 1)


def test_a_truncated_text_is_a_beginning_of_30_to_60_per_cent_that_ends_in_no_full_stop():
    for base, bad in plants.plants("truncated", ROWS, scene(), 1):
        whole, cut = ROWS[base].fields["message"], bad.fields["message"]
        assert whole.startswith(cut)
        assert 0.25 <= len(cut.split()) / len(whole.split()) <= 0.65
        assert cut[-1] not in ".!?"
    assert "6 words" in plants.plants("truncated", [row(1, message="too short")], scene(), 1)


def test_off_topic_texts_are_sentences_from_elsewhere():
    for _, bad in plants.plants("off-topic", ROWS, scene(), 1):
        assert sum(sentence in bad.fields["message"] for sentence in OFF_TOPIC) == 3
    assert plants.plants("off-topic", ROWS, scene(text=None), 1) == "it is shown no text"


def test_steered_padded_and_inserted_texts_keep_every_word_of_the_original():
    good = [Plant(base, one) for base, one in enumerate(ROWS)]
    steered = plants.steered(good, "message", keep=True)
    assert {plant.row.notes["planted"]["what"] for plant in steered} == set(STEER_YES)
    for plant in [*steered, *plants.padded(good, "message", 1)]:
        assert plant.row.fields["message"].startswith(ROWS[plant.base].fields["message"])
    padded = plants.padded(good, "message", 1)[0].row.fields["message"]
    assert len(padded.split()) >= len(ROWS[0].fields["message"].split()) + 40
    assert any(sentence in padded for sentence in FILLER)
    by_place = {place: list(plants.inserted(ROWS, "message", place, 1)) for place in plants.PLACES}
    for base, one in enumerate(ROWS):
        texts = {place: made[base].row.fields["message"] for place, made in by_place.items()}
        sentence = next(said for said in OFF_TOPIC if said in texts["start"])
        assert texts["start"] == f"{sentence} {one.fields['message']}"
        assert texts["end"] == f"{one.fields['message']} {sentence}"
        assert texts["middle"].replace(f"{sentence} ", "") == one.fields["message"]
        assert not texts["middle"].startswith(sentence)


def test_every_kind_of_value_can_be_altered_to_look_whether_it_is_shown():
    for value in (True, 3, 2.5, "text", ["a"], [], {"name": "a", "n": 1}, None):
        assert plants.altered(value) != value


def test_long_texts_and_long_numbers_are_planted_in_in_a_moment():
    long = [row(number, message="a " * 100_000, urgency=f"{'1a' * 100_000}{number}") for number in range(2)]
    schemas = {name: {"type": "string"} for name in FIELDS}
    begun = time.process_time()
    made = plants.padded([Plant(0, long[0])], "message", 1)
    assert len(made[0].row.fields["message"].split()) >= 200_000
    found = plants.plants("wrong answer", long, scene(fields=schemas), 1)
    assert [one.row.fields["urgency"] != long[one.base].fields["urgency"] for one in found] == [True, True]
    assert time.process_time() - begun < 2
    assert len(plants.plants("wrong answer", [row(1, urgency="9" * 5_000)], scene(fields=schemas), 1)) == 1
