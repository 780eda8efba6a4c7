"""Steps between tools, the groups they make, and walks that take no other steps."""

import itertools
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from qdcgen.errors import RecipeError, UsageError
from qdcgen.parts import find
from qdcgen.tool_lists import Tool, read
from qdcgen.tool_walks import counted, in_words, linked, matched, walk

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
EMBED = find("embedders", "wordllama")().embed


def tool(name, takes=(), gives=(), twin=""):
    def fields(names):
        return {"type": "object", "properties": {one: {"type": "string"} for one in names}, "required": []}

    return Tool(name, "", fields(takes), fields(gives) if gives else None, twin)


TOOLS = [
    tool("find_flight", ["departure_city"], ["flight_number"]),
    tool("book_flight", ["flightNumber", "passport"]),
    tool("renew_passport", ["passport"]),
    tool("boil_egg", ["minutes"]),
    tool("now"),
]


def graph(pairs, count=6, counts=None):
    tools = [tool(f"t{n}") for n in range(count)]
    follow = [np.array([b for a, b in pairs if a == n], dtype=np.int32) for n in range(count)]
    weights = (
        None
        if counts is None
        else [np.array([w for (a, _), w in zip(pairs, counts, strict=True) if a == n], float) for n in range(count)]
    )
    return linked(tools, follow, weights)


def test_a_return_leads_to_a_parameter_and_two_parameters_lead_both_ways():
    follow = [list(map(int, one)) for one in matched(TOOLS, EMBED, 0.82)]
    assert follow == [[1], [2], [1], [], []]


def test_the_threshold_decides():
    assert [len(one) for one in matched(TOOLS, EMBED, 1.0)] == [1, 1, 1, 0, 0]
    assert sum(len(one) for one in matched(TOOLS, EMBED, 0.01)) > 6
    assert [len(one) for one in matched([tool("a"), tool("b")], EMBED, 0.5)] == [0, 0]


def test_two_tools_of_one_name_never_follow_each_other():
    same = [tool("weather", ["city"]), tool("weather_2", ["city"], twin="weather"), tool("hotel", ["city"])]
    assert [list(map(int, one)) for one in matched(same, EMBED, 0.82)] == [[2], [2], [0, 1]]
    made = linked(same, matched(same, EMBED, 0.82))
    for seed in range(20):
        way = walk(made, seed % 3, 3, random.Random(seed))
        assert len(way) == 2
        assert 2 in way


def test_fields_inside_objects_and_lists_count_too():
    inner = {"type": "object", "properties": {"order_number": {"type": "string"}}}
    shop = Tool("shop", "", {"type": "object", "properties": {}}, {"type": "array", "items": inner})
    track = Tool("track", "", {"type": "object", "properties": {"order": inner}})
    assert [list(map(int, one)) for one in matched([shop, track], EMBED, 0.82)] == [[1], []]


def test_components_and_isolated_tools_are_named():
    made = graph([(0, 1), (2, 1), (3, 4)])
    assert [list(group) for group in made.components] == [[0, 1, 2], [3, 4]]
    assert list(made.isolated) == [5]
    assert list(made.starts) == [0, 2, 3]
    said = in_words(made, 3)
    assert said == [
        "6 tools, 3 steps from one to another; 2 components",
        "component of 3 tools: t0, t1, t2",
        "component of 2 tools: t3, t4",
        "too few hang together for a walk of 3, so theirs are shorter: t3, t4",
        "1 isolated tools, that follow none and none follows, and stand in no walk: t5",
    ]


def longest(way, pairs):
    return max([len(way), *(longest([*way, b], pairs) for a, b in pairs if a == way[-1] and b not in way)])


def test_walks_take_steps_only_repeat_nothing_and_are_as_long_as_they_can_be():
    rng = random.Random(3)
    for _ in range(200):
        count = rng.randint(2, 9)
        pairs = sorted({(a, b) for a in range(count) for b in range(count) if a != b and rng.random() < 0.25})
        made = graph(pairs, count)

        for start in range(count):
            way = walk(made, start, 4, rng)
            assert way[0] == start
            assert len(set(way)) == len(way)
            assert all(step in pairs for step in itertools.pairwise(way))
            assert len(way) == min(4, longest([start], pairs))


def test_counted_steps_are_taken_in_proportion():
    made = graph([(0, 1), (0, 2), (0, 3)], counts=[70, 20, 10])
    found = Counter(walk(made, 0, 2, random.Random(seed))[1] for seed in range(4000))
    for place, share in {1: 0.7, 2: 0.2, 3: 0.1}.items():
        assert abs(found[place] / 4000 - share) < 0.03  # four standard errors


def test_a_graph_in_which_everything_follows_everything_takes_no_time():
    count = 2000
    everything = np.arange(count, dtype=np.int32)
    made = linked([tool(f"t{n}") for n in range(count)], [everything[everything != n] for n in range(count)])
    begin = time.perf_counter()
    ways = [walk(made, seed, 20, random.Random(seed)) for seed in range(200)]
    assert time.perf_counter() - begin < 2
    assert {len(way) for way in ways} == {20}
    comb = graph([(n, n + 1) for n in range(0, 40, 2)] + [(n, n + 2) for n in range(0, 38, 2)], 41)
    assert len(walk(comb, 0, 20, random.Random(1))) == 20


def test_a_table_of_steps_is_read_and_added_up(tmp_path):
    path = tmp_path / "steps.csv"
    path.write_text("from,to,count\nfind_flight,book_flight,3\nfind_flight,book_flight,2\nnow,boil_egg,0\nnow,now,4\n")
    follow, counts = counted(path, TOOLS)
    assert [list(map(int, one)) for one in follow] == [[1], [], [], [], []]
    assert list(counts[0]) == [5]
    path.write_text("from,to\nnow,boil_egg\n")
    follow, counts = counted(path, TOOLS)
    assert list(map(int, follow[4])) == [3]
    assert list(counts[4]) == [1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "no column 'from'; expected from, to and, optionally, count"),
        ("from,to\nnow,boil_eg\n", "row 1: no tool called 'boil_eg'; did you mean 'boil_egg'"),
        ("from,to,count\nnow,boil_egg,-1\n", "row 1: count is -1; expected a number from 0 up"),
        ("from,to,count\nnow,boil_egg,many\n", "row 1: count is 'many'"),
        ("from,to,count\nnow,boil_egg,inf\n", "row 1: count is inf"),
        ("from,to\nnow,\n", "row 1: no tool called None"),
        ("", "the file is empty"),
    ],
)
def test_a_table_of_steps_that_cannot_be_used_is_told_by_row(tmp_path, content, said):
    path = tmp_path / "steps.csv"
    path.write_text(content)
    with pytest.raises((UsageError, RecipeError), match=said):
        counted(path, TOOLS)


def test_2670_tools_of_a_benchmark_are_linked_in_seconds():
    path = SHARED / "bfcl_tools" / "tools.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    begin = time.perf_counter()
    tools = read(path).tools
    made = linked(tools, matched(tools, EMBED, 0.82))
    assert time.perf_counter() - begin < 20
    assert sum(map(len, made.components)) + len(made.isolated) == len(tools)
    assert len(made.components[0]) > 1000


def test_steps_found_by_matching_are_more_often_real_ones_than_chance():
    """What the docstring of the layer says, on the tools of 5,019 dialogues."""
    path = SHARED / "sgd" / "tools.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    tools = read(path).tools
    real, _ = counted(path.parent / "intent_transitions.csv", tools)
    seen = {place for place, others in enumerate(real) for place in (place, *map(int, others)) if len(others)}
    steps = {(place, int(other)) for place, others in enumerate(real) for other in others}
    found = [
        (place, int(other))
        for place, others in enumerate(matched(tools, EMBED, 0.82))
        for other in others
        if place in seen and int(other) in seen
    ]
    precision = sum(step in steps for step in found) / len(found)
    chance = len(steps) / (len(seen) * (len(seen) - 1))
    assert chance == pytest.approx(0.0526, abs=0.001)
    assert precision == pytest.approx(0.19, abs=0.01)
