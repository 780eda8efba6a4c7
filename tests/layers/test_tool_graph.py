"""Walks over tools as a layer: along steps only, evenly begun, held as data."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import orjson
import pytest

from qdcgen.errors import UsageError
from qdcgen.layers.tool_graph import ToolGraph
from qdcgen.parts import Tools, find, position

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "data"
EMBED = find("embedders", "wordllama")().embed


def ready(part, folder):
    return asyncio.run(part.prepare(Tools(embed=EMBED, file=lambda name: folder / name)))


def drawn(part, held, rows, mix="topic=a"):
    return [part.draw({}, position(7, mix, f"{mix} row {n}", "tools", n, held)) for n in range(rows)]


def named(name, *takes):
    return {"name": name, "parameters": {"type": "object", "properties": {one: {"type": "string"} for one in takes}}}


@pytest.fixture
def folder(tmp_path):
    tools = [
        named("hotel", "city"),
        named("flight", "city", "passport"),
        named("visa", "passport"),
        named("egg", "minutes"),
    ]
    (tmp_path / "tools.json").write_text(json.dumps(tools))
    (tmp_path / "steps.csv").write_text("from,to,count\nhotel,egg,3\negg,visa,1\n")
    return tmp_path


def test_walks_start_at_every_tool_in_turn_and_go_along_steps(folder):
    part = ToolGraph(file="tools.json", walk=3)
    held = ready(part, folder)
    found = drawn(part, held, 30)
    for turn in range(0, 30, 3):
        assert {one["names"][0] for one in found[turn : turn + 3]} == {"hotel", "flight", "visa"}
    assert {tuple(one["names"]) for one in found} == {
        ("hotel", "flight", "visa"),
        ("flight", "visa"),
        ("flight", "hotel"),
        ("visa", "flight", "hotel"),
    }
    assert part.remarks(held)[-1].endswith(
        "1 isolated tools, that follow none and none follows, and stand in no walk: egg"
    )
    assert drawn(part, held, 30) == found
    assert drawn(part, held, 30, "topic=b") != found


def test_the_tools_of_a_walk_are_held_as_data_and_as_text(folder):
    part = ToolGraph(file="tools.json")
    (value,) = drawn(part, ready(part, folder), 1)
    assert [tool["name"] for tool in value["tools"]] == value["names"]
    assert [orjson.loads(line) for line in value["text"].splitlines()] == value["tools"]
    assert set(value["tools"][0]) == {"name", "description", "parameters"}
    assert value.keys() == part.column().keys()


def test_a_users_steps_replace_matching(folder):
    part = ToolGraph(file="tools.json", transitions="steps.csv")
    held = ready(part, folder)
    assert {tuple(one["names"]) for one in drawn(part, held, 10)} == {("hotel", "egg", "visa"), ("egg", "visa")}


def test_one_tool_a_row_takes_every_tool(folder):
    part = ToolGraph(file="tools.json", walk=1, threshold=1)
    found = Counter(one["names"][0] for one in drawn(part, ready(part, folder), 8))
    assert found == {"hotel": 2, "flight": 2, "visa": 2, "egg": 2}


def test_tools_of_which_none_follows_another_are_told_with_the_ways_out(folder):
    (folder / "tools.json").write_text(json.dumps([named("a", "city"), named("b", "minutes"), named("c")]))
    with pytest.raises(
        UsageError, match=r"none of its 3 tools can follow another \(threshold 0.82\); lower the thresh"
    ):
        ready(ToolGraph(file="tools.json"), folder)


def test_walks_over_counted_transitions_use_real_ones_only():
    path = SHARED / "sgd" / "intent_transitions.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    part = ToolGraph(file="tools.jsonl", walk=4, transitions="intent_transitions.csv")
    held = ready(part, path.parent)
    real = {tuple(line.split(",")[:2]) for line in path.read_text().splitlines()[1:]}
    found = drawn(part, held, 1000)
    steps = {step for one in found for step in zip(one["names"], one["names"][1:], strict=False)}
    assert steps <= real
    assert len(steps) > 100
    assert Counter(len(one["names"]) for one in found)[4] > 900
    assert any("30 isolated tools" in line for line in part.remarks(held))
