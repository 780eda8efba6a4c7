"""The published systems as shipped recipes: over a scripted server each makes the rows that its replies imply."""

import asyncio
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from qdcgen.parts import Tools
from qdcgen.preview import plan_summary
from qdcgen.recipe import load
from qdcgen.report.plan_text import plan_terminal
from qdcgen.run import run
from qdcgen.testing import Server

RECIPES = Path(__file__).parent.parent / "recipes"
SYSTEMS = ("simula", "diasynth", "targen", "targen-pairs", "toolflow", "personas", "ensemble", "creative", "code")


# ── a server that plays every part ──────────────────────────────────────────────────────────────────────────────────


def told(body):
    return "\n".join(message["content"] for message in body["messages"])


def fresh(body, words=9):
    """Words that no other request gets."""
    digest = hashlib.sha512(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return " ".join("".join(chr(ord("a") + int(c, 16)) for c in digest[n * 5 : n * 5 + 5]) for n in range(words))


def person(end, number):
    return "You " + " ".join([end, *["rule"] * number]) + " and then decide it."


class Script:
    """Answers by the form of the reply that is asked for, and keeps what it was asked."""

    def __init__(self):
        self.asked = []
        self.written = Counter()

    def __call__(self, body):
        schema = body["response_format"]["json_schema"]["schema"]["properties"]
        keys = list(schema)
        self.asked.append((tuple(keys), told(body), body["model"]))
        return json.dumps(self.said(body, schema, keys))

    def said(self, body, schema, keys):
        text = told(body)
        match keys:
            case ["scenarios"]:
                return {"scenarios": [f"scenario {n} {fresh(body)}" for n in range(schema["scenarios"]["minItems"])]}
            case ["harder"]:
                return {"harder": f"harder {fresh(body, 3)}"}
            case ["finding", "verdict"]:
                return self.judged(text)
            case ["because", "label"]:
                drawn = re.search(r"is meant as (\w+)", text)[1]
                return {"because": "so it reads", "label": "neutral" if "flipme" in text else drawn}
            case ["subtopics"]:
                return {"subtopics": [f"{fresh(body, 2)} {n}" for n in range(schema["subtopics"]["maxItems"])]}
            case ["points"]:
                return {"points": [f"point {n} {fresh(body, 2)}" for n in range(schema["points"]["minItems"])]}
            case ["exchanges"]:
                points = re.findall(r"^\d+\. (.*)$", text, re.MULTILINE)
                return {"exchanges": [{"first": f"on {p}", "second": f"yes {p} {fresh(body)}"} for p in points]}
            case ["high", "low"] | ["low", "high"]:
                return {end: [person(end, n) for n in range(schema[end]["minItems"])] for end in keys}
            case ["call", "given", "say"]:
                return self.tooled(text, schema["call"]["enum"])
            case ["seed"]:
                return {"seed": fresh(body, 4)}
        return {name: self.value(name, one, body) for name, one in schema.items()}

    def judged(self, text):
        """Double critic and revision: a row that says `flawed` is wrong, one that says `unfinished` is mended once."""
        if "incorrect" in text:
            wrong = "flawed" in text
            return {"finding": "looked", "verdict": "yes" if ("Is anything" in text) == wrong else "no"}
        return {"finding": "looked", "verdict": "no" if "unfinished" in text else "yes"}

    def tooled(self, text, tools):
        """One call at each point, with arguments of the right types, and then an answer."""
        last = text.rsplit("</data>", 1)[0].strip().splitlines()[-1]
        if "returns: " in last:
            return {"call": "no tool", "given": [], "say": f"It is so. {fresh({'text': text}, 3)}"}
        first = "point 0" in last
        name = tools[1] if first or len(tools) < 3 else tools[2]
        known = {tool["name"]: tool for tool in json.loads((RECIPES / "data/library-tools.json").read_text())["tools"]}
        given = known[name]["inputSchema"]["properties"]
        pairs = [{"name": key, "value": "2" if one["type"] == "integer" else "x7"} for key, one in given.items()]
        return {"call": name, "given": pairs, "say": ""}

    def value(self, name, schema, body):
        if "enum" in schema:
            return schema["enum"][0]
        match schema.get("type"):
            case "number" | "integer":
                return 3
            case "boolean":
                return True
            case "array":
                return ["one", "two"]
        if "pattern" in schema:
            return "assert deed([1, 2]) == 3"
        text = told(body)
        if name == "text" and "The point of your next message" in text:
            return re.findall(r"<data>\n(.*?)\n</data>", text, re.DOTALL)[-1]
        labels = [one["enum"][0] for one in body_schema(body).values() if len(one.get("enum", ())) == 1]
        meant = f" is meant as {labels[0]}" if labels else ""
        said = f"{fresh(body, 18 if name == 'piece' else 9)}{meant}{self.marks(name, text)}"
        return said[: schema.get("maxLength", 999)]

    def marks(self, name, text):
        """What is wrong with a text, for a critic to find: by the order of arrival, so that a second try is sound."""
        sound = "mend one example" in text or "Relation: neutral" in text
        mark, every, most = {
            "message": (" unfinished", 4, 99),
            "code": (" flawed", 4, 2),
            "sentence": (" flipme", 3, 99),
            "hypothesis": (" flipme", 1, 3),
        }.get(name, ("", 1, 0))
        if sound or not mark:
            return ""
        self.written[name] += 1
        count, rest = divmod(self.written[name] - 1, every)
        return mark if rest == 0 and count < most else ""


def body_schema(body):
    return body["response_format"]["json_schema"]["schema"]["properties"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`made("simula")` runs the shipped recipe with its models replaced, and nothing else but overrides; once each."""
    with Server() as server:
        known = {}

        def go(name, *overrides):
            if (name, overrides) in known:
                return known[name, overrides]
            path = RECIPES / f"{name}.yaml"
            server.answer = script = Script()
            there = []
            for alias in load(path).models:
                there += [f"models.{alias}.model=openai/{alias}", f"models.{alias}.api_base={server.url}"]
                there += [f"models.{alias}.price={{input: 1, output: 2}}"]
            folder = tmp_path_factory.mktemp(name)
            recipe = load(path, overrides=(*there, *overrides), out=folder)
            outcome = run(recipe, folder, quiet=True)
            parts = [pl.read_parquet(file) for file in sorted((folder / "data").glob("*.parquet"))]
            raw = pl.concat([pl.read_parquet(file) for file in sorted((folder / "raw").glob("*.parquet"))])
            measures = json.loads((folder / "measures.json").read_text())["measures"]
            known[name, overrides] = SimpleNamespace(
                outcome=outcome, rows=pl.concat(parts), raw=raw, measures=measures, recipe=recipe, asked=script.asked
            )
            return known[name, overrides]

        yield go


def notes(frame):
    return [json.loads(said) for said in frame["_notes"]]


def figures(made, name, of="raw"):
    return {one["axis"]: one for one in made.measures if (one["name"], one["of"]) == (name, of)}


# ── every one of them ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_makes_the_rows_it_was_asked_for_in_typed_columns(made, name):
    one = made(name)
    assert one.outcome.exit_code == 0
    assert one.rows.height == one.recipe.target.rows
    assert one.rows["_id"].n_unique() == one.rows.height
    types = {"string": pl.String, "number": pl.Float64, "array": pl.List}
    for field, schema in one.recipe.fields.items():
        assert isinstance(one.rows.schema[field], types[schema.get("type", "string")])
        assert one.rows[field].null_count() == 0
    for axis, entry in one.recipe.layers.items():
        column = entry.part.column()
        assert isinstance(one.rows.schema[axis], pl.String if isinstance(column, str) else pl.Struct)
        assert one.rows[axis].null_count() == 0
    assert {one["table"] for one in one.measures} >= {"coverage", "diversity", "complexity", "quality"}
    leaves = figures(one, "leaves", "kept")
    assert all(leaves[axis]["value"] == 1 for axis in one.recipe.taxonomies)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_plan_of_a_system_says_calls_a_row(name, tmp_path):
    recipe = load(RECIPES / f"{name}.yaml")
    summary = plan_summary(recipe, tmp_path)
    page = plan_terminal(summary, colour=False)
    calls = sum(entry.part.calls()[0] for entry in recipe.generate)
    assert calls > 0
    calls += sum(entry.part.calls(len(recipe.taxonomies)) for entry in recipe.filters)
    assert f"({calls:.3g} a row)" in next(line for line in page.splitlines() if line.startswith("calls"))


@pytest.mark.parametrize("name", SYSTEMS)
def test_only_the_models_of_a_system_tie_it_to_the_install(name):
    text = (RECIPES / f"{name}.yaml").read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert re.search(r"arXiv \d{4}\.\d{5}", " ".join(comments)) or name in ("creative", "code")
    assert "change `models:`" in re.sub(r"\s*\n# ", " ", "\n".join(comments))
    body = text.split("\nmodels:\n")[1]
    models, rest = re.split(r"\n(?=\S)", body, maxsplit=1)
    assert "# " in models, "a commented line for a real provider"
    assert "embedded" not in rest


# ── one by one ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_simula_keeps_one_of_several_scenarios_and_later_rows_see_earlier_ones(made):
    one = made("simula", "target.rows=32")
    said = notes(one.rows)
    assert all(note["scenario"]["of"] == 2 for note in said)
    assert len({note["scenario"]["text"] for note in said}) == 32
    asked = [text for keys, text, _ in one.asked if keys == ("scenarios",)]
    assert len(asked) == 16, "two rows share a call"
    later = [text for text in asked if "exist already" in text]
    assert len(later) == 8
    assert all(text.count("- scenario ") == 2 for text in later)
    hard = [note for note in said if note["complexity"] == "hard"]
    assert len(hard) in (9, 10)
    assert set(one.rows["_complexity"]) == {"hard", "plain"}
    assert all(note["complexify"]["kept"] == "rewritten" for note in hard)
    writing = [text for keys, text, _ in one.asked if "department" in keys and "mend" not in text]
    assert sum("harder " in text for text in writing) == len(hard)
    ended = Counter((len(note["revise"][0]["verdicts"]), note["revise"][0]["ended"]) for note in said)
    assert set(ended) == {(1, "yes"), (2, "yes")}
    assert not one.rows["message"].str.contains("unfinished").any()


def test_diasynth_talks_about_a_subtopic_between_two_different_people_along_its_outline(made):
    one = made("diasynth")
    pairs = [frozenset((row["first"], row["second"])) for row in one.rows["people"]]
    assert all(len(pair) == 2 for pair in pairs)
    by_mix = Counter(zip(one.rows["topic"], pairs, strict=True))
    assert set(by_mix.values()) == {1}
    subtopics = {row["text"] for row in one.rows["subtopic"]}
    assert len(subtopics) == 8, "no subtopic of a leaf comes twice before all came once"
    for row, note in zip(one.rows.iter_rows(named=True), notes(one.rows), strict=True):
        assert [turn["role"] for turn in row["dialogue"]] == ["user", "assistant"] * 3
        assert [turn["content"] for turn in row["dialogue"][::2]] == [f"on {point}" for point in note["outline"]]
        assert note["converse"]["done"]
        assert row["situation"]["topic"] == row["subtopic"]["text"]
    assert set(one.rows["_calls"]) == {2}


def test_targen_draws_labels_as_declared_and_counts_flips_by_label(made):
    one = made("targen", "target.rows=32")
    for _, rows in one.rows.group_by("context"):
        drawn = Counter(rows["wanted"])
        assert rows.height == 8
        assert all(abs(drawn[label] - 8 * share) < 2 for label, share in (("positive", 0.4), ("negative", 0.4)))
    drawn_in_all, read_in_all = Counter(one.rows["wanted"]), Counter(one.rows["sentiment"])
    said = [note["correct"]["sentiment"] for note in notes(one.rows)]
    assert [note["drawn"] for note in said] == one.rows["wanted"].to_list()
    assert [note["read"] for note in said] == one.rows["sentiment"].to_list()
    flips = Counter(note["drawn"] for note in said if note["flipped"])
    meant = one.rows["sentence"].str.contains("flipme")
    assert sum(flips.values()) == (meant & (one.rows["wanted"] != "neutral")).sum() > 0
    assert set(flips) <= {"positive", "negative"}
    told = figures(one, "flipped")
    assert told["sentiment"]["n"] == 32
    assert {
        label: round(told[f"sentiment={label}"]["value"] * told[f"sentiment={label}"]["n"]) for label in flips
    } == flips
    assert told["sentiment=neutral"]["note"].endswith(
        f"{drawn_in_all['neutral']} before, {read_in_all['neutral']} after"
    )
    seeds = [text for keys, text, _ in one.asked if keys == ("seed",)]
    assert not any(label in text for text in seeds for label in ("positive", "negative", "neutral"))
    read = [text for keys, text, _ in one.asked if "because" in keys]
    assert all("wanted" not in text for text in read)


def test_targen_pairs_drops_what_flips_and_makes_it_again(made):
    one = made("targen-pairs")
    dropped = one.raw.filter(one.raw["_fault"] == "label flipped")
    assert dropped.height > 0
    told = figures(one, "flipped")["relation"]
    assert (told["n"], round(told["value"] * told["n"])) == (one.raw.height, dropped.height)
    assert one.rows["wanted"].to_list() == one.rows["relation"].to_list()
    assert not one.rows["hypothesis"].str.contains("flipme").filter(one.rows["relation"] != "neutral").any()
    assert set(one.rows["relation"]) == {"entailment", "contradiction", "neutral"}
    writing = [text for keys, text, _ in one.asked if "relation" in keys]
    assert all(any(premise in text for text in writing) for premise in one.rows["premise"])


def test_toolflow_walks_along_steps_and_its_calls_fit_their_tools(made):
    one = made("toolflow", "target.rows=8")
    entry = one.recipe.layers["tools"].part
    from qdcgen.parts import find

    embed = find("embedders", "wordllama")().embed
    graph = asyncio.run(entry.prepare(Tools(embed=embed, file=lambda name: RECIPES / name))).graph
    names = [tool.record()["name"] for tool in graph.tools]
    steps = {(names[i], names[j]) for i, follow in enumerate(graph.follow) for j in follow}
    for row, note in zip(one.rows.iter_rows(named=True), notes(one.rows), strict=True):
        walk = row["tools"]["names"]
        assert tuple(walk) in steps
        assert note["converse"]["called"] == walk
        assert note["converse"]["done"]
        assert note["converse"]["dropped"] == []
        assert [turn["role"] for turn in row["dialogue"]] == ["user", "assistant", "tool", "assistant"] * 2
        known = {tool["name"]: tool for tool in json.loads(row["tools"]["tools"])}
        for turn in row["dialogue"]:
            if turn["arguments"]:
                assert set(json.loads(turn["arguments"])) <= set(known[turn["name"]]["parameters"]["properties"])
    assert {row["names"][0] for row in one.rows["tools"]} >= {"find_book", "check_shelf", "list_loans"}


def test_personas_cover_their_axes_and_neither_names_nor_numbers_reach_a_prompt(made):
    one = made("personas")
    positions = one.rows["persona"].struct.unnest()
    for axis in ("caution", "trust", "change"):
        assert positions[axis].is_between(0, 1).all()
        assert {int(4 * place) for place in positions[axis]} == {0, 1, 2, 3}
    writing = [text for keys, text, _ in one.asked if keys == ("answer",)]
    shown = [text.split("You are asked:")[0] for text in writing]
    assert not any(re.search(r"\d|caution|trust|change", text) for text in shown)
    assert positions["text"].n_unique() > 10
    assert sum(set(keys) == {"low", "high"} for keys, _, _ in one.asked) == 3
    assert figures(one, "support coverage", "kept")["persona"]["value"] > 0.9


def test_ensemble_counts_what_each_writer_brought_and_what_it_cost(made):
    one = made("ensemble")
    made_by = Counter(one.rows["writer"])
    assert made_by == {"cool": 10, "warm": 10}
    assert [f"{alias}" in models for alias, models in zip(one.rows["writer"], one.rows["_models"], strict=True)]
    accepted, unique, dollars = (
        figures(one, name) for name in ("accepted by writer", "unique by writer", "unique accepted rows a dollar")
    )
    assert {axis: (said["value"], said["n"]) for axis, said in unique.items()} == {"cool": (1.0, 10), "warm": (1.0, 10)}
    assert set(accepted) == {"cool", "warm"}
    for alias, said in dollars.items():
        spent = one.raw.filter(one.raw["writer"] == alias)["_usd"].sum()
        assert said["value"] == pytest.approx(10 / spent)


def test_creative_varies_form_and_teller_and_judges_no_correctness(made):
    one = made("creative")
    assert {row["name"] for row in one.rows["form"]} == {"diary", "letter", "talk", "list"}
    assert [entry.name for entry in one.recipe.filters] == ["schema", "length", "duplicates"]
    assert {keys for keys, _, _ in one.asked} == {("piece",)}
    tellers = [text.split("The person: ")[1].split("Where: ")[0] for _, text, _ in one.asked]
    assert not any(re.search(r"\d|neurotic|extravers|openness", teller) for teller in tellers)
    assert one.outcome.exit_code == 0, "its gate holds"


def test_code_drops_what_a_critic_finds_wrong_and_pins_the_difficulty(made):
    one = made("code", "target.rows=24")
    assert one.rows["difficulty"].to_list() == one.rows["hard"].to_list()
    assert Counter(one.rows["hard"])["easy"] > Counter(one.rows["hard"])["medium"]
    assert not one.rows["code"].str.contains("flawed").any()
    rejected = figures(one, "rejected")["double_critic"]
    assert rejected["value"] > 0
