"""The journal: what is in it is never asked again, and it says so when it cannot be read."""

import asyncio
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qdcgen.errors import RunDamaged
from qdcgen.model.journal import Journal, damage, key
from qdcgen.rows import Reply, Request

ROOT = Path(__file__).parents[2]
REQUEST = Request("m", [{"role": "user", "content": "hello"}], {"type": "object"}, 0.8, 0.95, 100, 7)
REPLY = Reply('{"a": 1}', "m", {"a": 1}, 12, 5, 0.0003, "stop", 0.2)


def kept(path, *entries):
    journal = Journal(path)

    async def go():
        await asyncio.gather(*(journal.put(name, reply) for name, reply in entries))

    asyncio.run(go())
    journal.close()


def test_a_reply_comes_back_as_it_was_without_what_was_parsed_of_it(tmp_path):
    kept(tmp_path / "j", (key(REQUEST), REPLY))
    journal = Journal(tmp_path / "j")
    assert journal.get(key(REQUEST)) == replace(REPLY, parsed=None, journaled=True)
    assert journal.get(b"x" * 16) is None
    journal.close()


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"messages": [{"role": "user", "content": "hello "}]},
        {"schema": {"type": "array"}},
        {"schema": None},
        {"temperature": 0.7},
        {"top_p": 1.0},
        {"max_tokens": 101},
        {"seed": 8},
    ],
)
def test_everything_that_could_change_a_reply_changes_its_key(change):
    assert key(replace(REQUEST, **change)) != key(REQUEST)


def test_a_key_is_the_same_in_every_process_and_whatever_the_order_of_keys():
    other = replace(REQUEST, messages=[{"content": "hello", "role": "user"}])
    assert key(other) == key(REQUEST)
    code = (
        "from qdcgen.model.journal import key; from qdcgen.rows import Request; "
        "print(key(Request('m', [{'role': 'user', 'content': 'hello'}], {'type': 'object'}, 0.8, 0.95, 100, 7)).hex())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.strip() == key(REQUEST).hex()


def test_what_was_spent_counts_unusable_replies_and_unknown_prices(tmp_path):
    journal = Journal(tmp_path / "j")

    async def go():
        await journal.put(b"a" * 16, REPLY)
        await journal.lose("schema", REPLY)

    asyncio.run(go())
    assert journal.totals()[:3] == (2, 24, 10)
    assert journal.totals().cost == pytest.approx(0.0006)
    asyncio.run(journal.put(b"b" * 16, replace(REPLY, cost=None)))
    assert journal.totals().cost is None
    journal.close()


def test_faults_add_up_over_invocations(tmp_path):
    for _ in range(2):
        journal = Journal(tmp_path / "j")
        journal.count({"429": 3, "timeout": 1})
        journal.close()
    journal = Journal(tmp_path / "j")
    assert journal.totals().faults == {"429": 6, "timeout": 2}
    journal.close()


def test_hits_are_counted_and_pruning_spares_what_was_used(tmp_path):
    kept(tmp_path / "j", (b"a" * 16, REPLY), (b"b" * 16, REPLY))
    with sqlite3.connect(tmp_path / "j") as connection:
        connection.execute("UPDATE calls SET at = at - 100 * 86400")
    journal = Journal(tmp_path / "j")
    journal.get(b"a" * 16)
    journal.get(b"a" * 16)
    journal.count({})
    assert (journal.about()["replies"], journal.about()["hits"]) == (2, 2)
    assert journal.prune(30) == 1
    assert journal.get(b"a" * 16) is not None
    assert journal.get(b"b" * 16) is None
    journal.close()


def test_a_file_that_is_no_journal_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "j").write_bytes(b"this is not a database, and long enough to be looked at as one" * 20)
    with pytest.raises(RunDamaged, match=r"no longer a readable journal .*; move it away to ask everything again"):
        Journal(tmp_path / "j")
    assert damage(tmp_path / "j")


def test_a_journal_of_another_format_is_refused_by_name(tmp_path):
    kept(tmp_path / "j", (b"a" * 16, REPLY))
    with sqlite3.connect(tmp_path / "j") as connection:
        connection.execute("UPDATE about SET format = 9")
    with pytest.raises(RunDamaged, match=r"journal of format 9; this qdcgen reads format 1"):
        Journal(tmp_path / "j")


def test_a_sound_journal_has_no_damage(tmp_path):
    kept(tmp_path / "j", (b"a" * 16, REPLY))
    assert damage(tmp_path / "j") == []
    assert damage(tmp_path / "absent") == []
