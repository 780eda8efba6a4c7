"""The filter `duplicates` drops repeats with a reason, and forgets nothing across batches, restarts and runs."""

from __future__ import annotations

import asyncio
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdcgen.embedders.bge import Bge
from qdcgen.embedders.wordllama import Wordllama
from qdcgen.errors import MissingExtra, RecipeError, UsageError
from qdcgen.filters.duplicates import Duplicates
from qdcgen.parts import Embedder, Scene, Tools
from qdcgen.rows import Cell, Row, Verdict


def row(number: int, **fields: Any) -> Row:
    return Row(Cell(f"{number:016x}", {}, number, number), fields)


def judged(part: Duplicates, rows: list[Row], tools: Tools | None = None) -> list[Verdict]:
    return asyncio.run(part.judge(rows, tools or Tools()))


LONG = "My card has still not arrived although you said that it would be here by Monday at the latest"


def test_an_exact_repeat_names_the_row_it_repeats() -> None:
    rows = [row(1, message=LONG), row(2, message="other words"), row(3, message=f"  {LONG.upper()}\n")]
    first, second, third = judged(Duplicates(field="message"), rows)
    assert first.kept
    assert second.kept
    assert third == Verdict(kept=False, reason="repeats row 0000000000000001, same letters", score=1.0)


def test_a_near_repeat_says_how_near() -> None:
    verdict = judged(Duplicates(), [row(1, message=LONG), row(2, message=LONG + "!")])[1]
    assert not verdict.kept
    assert verdict.score is not None
    assert verdict.reason == f"repeats row 0000000000000001, letters {verdict.score:.2f}, at or above 0.90"


def test_rows_kept_in_an_earlier_batch_count_with_and_without_scratch() -> None:
    old = row(1, message=LONG)
    tools = Tools(kept=lambda: [old])
    assert not judged(Duplicates(), [row(2, message=LONG)], tools)[0].kept
    tools = Tools()
    assert judged(Duplicates(), [old], tools)[0].kept
    assert not judged(Duplicates(), [row(2, message=LONG)], tools)[0].kept


def test_a_dropped_row_is_not_what_later_rows_repeat() -> None:
    rows = [row(1, m=LONG), row(2, m=LONG), row(3, m=LONG)]
    assert [v.reason[:28] for v in judged(Duplicates(), rows)[1:]] == ["repeats row 0000000000000001"] * 2


def test_without_a_field_all_text_fields_are_compared_together() -> None:
    rows = [
        row(1, q=LONG, a="yes", n=1),
        row(2, q=LONG, a="certainly not, we regret", n=1),
        row(3, q=LONG, a="yes", n=2),
    ]
    assert [v.kept for v in judged(Duplicates(), rows)] == [True, True, False]


def test_rows_without_the_field_are_kept() -> None:
    rows = [row(1), row(2), row(3, message=None), row(4, message=" "), row(5, message=4)]
    assert all(v.kept for v in judged(Duplicates(field="message"), rows))


def test_an_unknown_field_is_a_problem_with_a_suggestion() -> None:
    scene = Scene({}, {"message": {}, "reply": {}}, [], lambda _: set())
    (problem,) = Duplicates(field="mesage").problems(scene)
    assert problem.path == ("field",)
    assert problem.message == "no step fills 'mesage'; did you mean 'message'? (fields: message, reply)"
    assert list(Duplicates(field="reply").problems(scene)) == []


def test_no_rows_give_no_verdicts() -> None:
    assert judged(Duplicates(), []) == []


# ── by meaning ──────────────────────────────────────────────────────────────────────────────────────────────────────

ASKED = "Can I get money in my home currency at an ATM"
TURNED = "Can I, at an ATM, get money in my home currency?"
BASE = (
    ASKED,
    LONG,
    "How do I activate my new card?",
    "There is a payment that I do not recognise on my statement",
    "Why was I charged a fee for a withdrawal abroad?",
    "I would like to change the PIN of my card in the app",
)


def test_another_order_of_words_is_a_repeat_by_meaning_and_not_by_letters() -> None:
    rows = [row(1, m=LONG), row(2, m=ASKED), row(3, m=TURNED), row(4, m="How do I activate my new card?")]
    assert all(verdict.kept for verdict in judged(Duplicates(), rows))
    tools = Tools(embed=Wordllama().embed)
    first, second, third, fourth = judged(Duplicates(meaning=0.9), rows, tools)
    assert first == Verdict(kept=True)
    assert second.kept
    assert fourth.kept
    assert third.score is not None
    assert 0.9 <= third.score < 1
    assert third.reason == (
        f"repeats row 0000000000000002, meaning {third.score:.2f}, at or above 0.90 ({Wordllama().label})"
    )


def test_with_meaning_a_kept_row_has_its_nearest_cosine_as_score() -> None:
    tools = Tools(embed=Wordllama().embed)
    low, high = (judged(Duplicates(meaning=0.99), [row(1, m=ASKED), row(2, m=m)], tools)[1] for m in (LONG, TURNED))
    assert low.kept
    assert high.kept
    assert (low.score or 0) < (high.score or 0) < 0.99
    assert judged(Duplicates(), [row(1, m=ASKED), row(2, m=LONG)])[1].score is None


def test_a_threshold_at_the_very_cosine_drops_and_one_above_it_keeps() -> None:
    tools = lambda: Tools(embed=Wordllama().embed)  # noqa: E731
    rows = [row(1, m=ASKED), row(2, m=TURNED)]
    score = judged(Duplicates(meaning=1), rows, tools())[1].score
    assert score is not None
    assert not judged(Duplicates(meaning=score), rows, tools())[1].kept
    assert judged(Duplicates(meaning=round(score + 0.0001, 4)), rows, tools())[1].kept


def test_case_and_spaces_do_not_change_the_meaning() -> None:
    """wordllama puts capitals far from small letters; what is compared is the normal form."""
    tools = Tools(embed=Wordllama().embed)
    assert not judged(Duplicates(meaning=0.9), [row(1, m=ASKED), row(2, m=TURNED.upper())], tools)[1].kept


def test_the_embedder_counts_for_what_is_judged_only_where_meaning_does() -> None:
    assert Duplicates(meaning=0.9).embeds
    assert not Duplicates().embeds


def test_without_meaning_nothing_is_embedded() -> None:
    assert not judged(Duplicates(), [row(1, m=LONG), row(2, m=LONG)], Tools())[1].kept


# ── truth that was planted ──────────────────────────────────────────────────────────────────────────────────────────


def test_planted_repeats_are_found_by_the_stage_that_can_and_nothing_else_is() -> None:
    rows = [row(number, m=text) for number, text in enumerate(BASE)]
    plants = {
        "same letters": [text.upper().replace(" ", "  ") for text in BASE],
        "letters": [f"{text}!" for text in BASE],
        "meaning": [
            TURNED,
            "How do I activate a new card of mine?",
            "I would like, in the app, to change my card's PIN",
        ],
    }
    rows += [row(100 + n, m=text) for n, text in enumerate(text for some in plants.values() for text in some)]
    verdicts = judged(Duplicates(similarity=0.8, meaning=0.85), rows, Tools(embed=Wordllama().embed))
    assert all(verdict.kept for verdict in verdicts[: len(BASE)])
    said = iter(verdicts[len(BASE) :])
    for stage, some in plants.items():
        for number, text in enumerate(some):
            verdict = next(said)
            assert f", {stage}" in verdict.reason, (text, verdict)
            if stage != "meaning":
                assert f"row {number:016x}," in verdict.reason


# ── however the rows come in ────────────────────────────────────────────────────────────────────────────────────────


def pool(seed: int, n: int = 40) -> list[Row]:
    """Messages with every kind of repeat among them, in chance order."""
    rng = random.Random(seed)

    def one() -> Any:
        words = rng.choice(BASE).split()
        for _ in range(rng.randrange(3)):
            kind, at = rng.randrange(4), rng.randrange(len(words))
            if kind == 0:
                words[at] = words[at].upper()
            elif kind == 1:
                words[at] = f"{words[at]}!"
            elif kind == 2:
                words.insert(rng.randrange(len(words)), words.pop(at))
            else:
                words[at] = rng.choice(rng.choice(BASE).split())
        return rng.choice([" ".join(words)] * 20 + [" ", None])

    return [row(number, m=one()) for number in range(n)]


def in_parts(part: Duplicates, rows: list[Row], cuts: list[int], killed: set[int], embedder: Embedder) -> list[Verdict]:
    """Verdicts batch by batch; where a run was killed before a batch, only what was kept is left."""
    found: list[Verdict] = []
    scratch: dict[str, Any] = {}
    edges = [0, *sorted(cuts), len(rows)]
    for start, end in pairwise(edges):
        if start in killed:
            scratch = {}
        kept = [one for one, verdict in zip(rows, found, strict=False) if verdict.kept]
        tools = Tools(embed=embedder.embed, kept=lambda kept=kept: kept, scratch=scratch)
        found += judged(part, rows[start:end], tools)
    return found


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    cuts=st.lists(st.integers(0, 40), max_size=12, unique=True),
    killed=st.sets(st.integers(0, 40), max_size=12),
    meaning=st.sampled_from([None, 0.85, 0.95]),
)
def test_verdicts_depend_neither_on_batches_nor_on_a_kill(
    seed: int, cuts: list[int], killed: set[int], meaning: float | None
) -> None:
    part, rows = Duplicates(similarity=0.8, meaning=meaning), pool(seed)
    whole = in_parts(part, rows, [], set(), Wordllama())
    assert len({verdict.reason.partition(",")[2][:8] for verdict in whole}) > 1
    assert in_parts(part, rows, cuts, killed | set(cuts[::2]), Wordllama()) == whole


def test_an_embedder_whose_vectors_move_with_the_batch_is_asked_text_by_text() -> None:
    part, rows = Duplicates(similarity=1, meaning=0.95), pool(3, 24)
    try:
        whole = in_parts(part, rows, [], set(), Bge())
    except MissingExtra as error:
        pytest.skip(str(error))
    assert any("meaning" in verdict.reason for verdict in whole)
    assert in_parts(part, rows, [1, 5, 6, 17], {5, 17}, Bge()) == whole


# ── earlier runs and files ──────────────────────────────────────────────────────────────────────────────────────────


def reading(folder: Path, **more: Any) -> Tools:
    return Tools(file=lambda name: folder / name, fields={"m": {"type": "string"}, "n": {"type": "integer"}}, **more)


def old(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    (folder / name).write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    return name


def test_rows_of_earlier_files_count_as_kept_and_are_named(tmp_path: Path) -> None:
    name = old(tmp_path, "old.jsonl", [{"m": "nothing"}, {"m": None}, {"m": LONG}])
    for part in (Duplicates(earlier=(name,)), Duplicates(field="m", earlier=(name,))):
        exact, near, new = judged(
            part, [row(1, m=LONG.upper()), row(2, m=LONG + "."), row(3, m=ASKED)], reading(tmp_path)
        )
        assert exact.reason == "repeats row 3 of old.jsonl, same letters"
        assert near.reason.startswith("repeats row 3 of old.jsonl, letters 0.9")
        assert new.kept
    assert part.files() == (name,)


def test_earlier_rows_are_compared_by_meaning_too_and_their_column_may_have_another_name(tmp_path: Path) -> None:
    name = old(tmp_path, "old.jsonl", [{"question": ASKED}, {"question": ASKED.lower()}, {"question": LONG}])
    part = Duplicates(field="m", meaning=0.9, earlier=(name,), text_column="question")
    turned, more = judged(part, [row(1, m=TURNED), row(2, m=LONG)], reading(tmp_path, embed=Wordllama().embed))
    assert turned.reason.startswith("repeats row 1 of old.jsonl, meaning 0.9")
    assert more.reason == "repeats row 3 of old.jsonl, same letters"


@pytest.mark.parametrize(
    ("settings_", "content", "message"),
    [
        ({"field": "m"}, '{"text": "a", "mm": "b"}', r"no column 'm'.*\(columns: text, mm\); name .*text_column: …"),
        ({}, '{"text": "a"}', "no column 'm'"),
        ({"text_column": "texd"}, '{"text": "a"}', "no column 'texd'; did you mean 'text'"),
        ({"text_column": "n"}, '{"n": 4}', "column 'n' of old.jsonl holds Int64; expected text"),
        ({"field": "m"}, "{", "not JSON"),
    ],
)
def test_a_file_that_cannot_be_compared_is_told(
    tmp_path: Path, settings_: dict[str, Any], content: str, message: str
) -> None:
    (tmp_path / "old.jsonl").write_text(content)
    with pytest.raises((UsageError, RecipeError), match=message):
        Duplicates(earlier=("old.jsonl",), **settings_).read(reading(tmp_path))


def test_a_column_of_no_file_is_refused() -> None:
    with pytest.raises(ValueError, match="text_column is a column of `earlier`, which is not given"):
        Duplicates(text_column="a")


def test_a_field_without_text_is_a_problem() -> None:
    scene = Scene({}, {"n": {"type": "integer"}}, [], lambda _: set())
    (problem,) = Duplicates(field="n").problems(scene)
    assert problem.message == "field 'n' holds no text, so there is nothing to compare"


# ── in a run ────────────────────────────────────────────────────────────────────────────────────────────────────────

TEN = [f"{first} {second}" for first in ("lost", "stolen") for second in ("card", "phone", "key", "bag", "coat")]


@pytest.fixture
def given(server: Any) -> list[int]:
    """What a server counts its replies in: each has a text of its own, the same ones again from the ninth on."""
    given: list[int] = []

    def answer(_body: Any) -> str:
        given.append(1)
        return json.dumps({"message": f"where is my {TEN[len(given) % 8]}?", "urgency": "low"})

    server.answer = answer
    return given


def test_a_run_repeats_no_row_of_an_earlier_run_and_judges_anew_when_that_one_grew(
    small: Path, qdcgen: Any, server: Any, given: list[int]
) -> None:
    text = small.read_text().replace("rows: 40, candidates: 3", "rows: 4, candidates: 20")
    first = small.with_name("first.yaml")
    first.write_text(text.replace("similarity: 0.9", "similarity: 1"))
    assert qdcgen("run", first, "--out", "runs/old", "--quiet").returncode == 0
    second = small.with_name("second.yaml")
    second.write_text(
        text.replace("similarity: 0.9", "similarity: 1, earlier: [runs/old]").replace("seed: 3", "seed: 4")
    )
    given.clear()
    said = qdcgen("run", second, "--out", "runs/new", "--quiet")
    assert said.returncode == 0, said.stderr
    before, now = (pl.read_parquet(small.parent / f"runs/{name}/data/*.parquet") for name in ("old", "new"))
    assert not set(before["message"]) & set(now["message"])
    reasons = pl.read_parquet(small.parent / "runs/new/rejected/*.parquet")["_reason"].to_list()
    assert any(reason.endswith(" of runs/old, same letters") for reason in reasons)
    assert {reason.split()[2] for reason in reasons if "runs/old" in reason} <= set(before["_id"])
    asked = server.asked
    first.write_text(first.read_text().replace("rows: 4,", "rows: 6,"))
    assert qdcgen("run", first, "--out", "runs/old", "--quiet").returncode == 0
    assert server.asked > asked
    asked = server.asked
    assert qdcgen("run", second, "--out", "runs/new", "--quiet").returncode in {0, 4}
    assert server.asked == asked, "judged anew, and no writer was asked"


def test_check_tells_a_missing_column_and_a_missing_file(small: Path, qdcgen: Any) -> None:
    old(small.parent, "old.jsonl", [{"text": "a"}])
    text = small.read_text()
    for earlier, message in (
        ("old.jsonl", "filters.2.duplicates: earlier: old.jsonl has no column 'message' (columns: text)"),
        ("odl.jsonl", "did you mean 'old.jsonl'"),
    ):
        small.write_text(text.replace("similarity: 0.9", f"earlier: [{earlier}]"))
        said = qdcgen("check", small)
        assert said.returncode == 2
        assert "small.yaml:" in said.stderr
        assert message in said.stderr
    small.write_text(text.replace("similarity: 0.9", "earlier: [old.jsonl], text_column: text"))
    assert qdcgen("check", small).returncode == 0
