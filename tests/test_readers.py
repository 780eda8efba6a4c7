"""The landed column of a run's report, with real files and a loopback model that does not always do as it is asked."""

import json
import re

import pytest

from qdcgen.recipe import load
from qdcgen.report.markdown import markdown
from qdcgen.report.terminal import terminal
from qdcgen.review import of_file
from qdcgen.run import run

SAID = {
    "lost card": "I think my card is lost, I cannot find the card anywhere, attempt {}.",
    "forgotten pin": "I forgot my PIN and need a new pin number, attempt {}.",
    "pending transfer": "My transfer is still pending since Monday, attempt {}.",
    "wrong account": "I sent the money to the wrong account by mistake, attempt {}.",
}
RECIPE = """\
recipe: 1
name: landing
models:
  writer: {{model: openai/test, api_base: "{url}"}}
  critic: {{model: openai/critic, api_base: "{url}"}}
taxonomy:
  topic: {{tree: {{cards: [lost card, forgotten pin], transfers: [pending transfer, wrong account]}}}}
layers:
  words: {{range: {{min: 5, max: 5000}}}}
generate:
  - write:
      fields: {{message: {{type: string}}}}
      prompt: "Message {{{{ words }}}} about <{{{{ topic }}}}>"
filters: {filters}
target: {{rows: 80, candidates: 2{target}}}
measure: {{text: message{more}}}
"""


def writer(swap=()):
    """Writes what it is asked for, but what `swap` says in place of some; as a critic, sorts every text rightly."""
    swap = dict(swap)

    def answer(body):
        said = body["messages"][-1]["content"]
        if body["model"] == "critic":
            text = re.search(r"<text \w+>\n(.*)\n</", said, re.DOTALL)[1]
            options = body["response_format"]["json_schema"]["schema"]["properties"]["subject"]["enum"]
            right = next(leaf for leaf, words in SAID.items() if words[:20] == text[:20])
            return json.dumps({"subject": next(option for option in options if option.endswith(right))})
        number, topic = re.search(r"Message (\d+) about <(.*?)>", said).groups()
        return json.dumps({"message": SAID[swap.get(topic, topic)].format(number)})

    return answer


@pytest.fixture
def made(tmp_path, server):
    """Run the recipe with a writer that swaps, filters and more settings of `measure`."""

    def make(swap=(), filters="[]", more="", target="", answer=None):
        server.answer = answer or writer(swap)
        path = tmp_path / "landing.yaml"
        path.write_text(RECIPE.format(url=server.url, filters=filters, more=more, target=target))
        return run(load(path), tmp_path / "out", quiet=True)

    return make


def figures(report):
    return {(m.name, m.of): m for m in report.measures if m.table == "coverage" and m.axis == "topic"}


def test_the_coverage_table_says_asked_accepted_and_landed_and_names_the_leaf_that_was_not_reached(made):
    outcome = made({"forgotten pin": "lost card"})
    found = figures(outcome.report)
    assert [found["leaves", of].value for of in ("planned", "kept", "landed")] == [1.0, 1.0, 0.75]
    assert found["leaves", "landed"].missing == ("cards/forgotten pin",)
    assert found["nodes of level 1", "landed"].value == 1.0
    assert found["landed", "kept"].value == pytest.approx(0.75)
    assert found["landed", "kept"].control == pytest.approx(0.25)
    assert found["kappa", "kept"].value == pytest.approx(2 / 3)
    assert found["landed at level 1", "kept"].value == 1.0
    assert found["placed nowhere", "kept"].value == 0.0
    assert [(c.asked, c.landed, c.rows, c.total) for c in outcome.report.confused] == [
        ("cards/forgotten pin", "cards/lost card", 20, 20)
    ]
    page = terminal(outcome.report, colour=False, notes=True)
    assert re.search(r"asked +accepted +landed", page)
    assert "missing from leaves, topic, landed: 1" in page
    assert re.search(r"agreement of asked and landed\n +accepted +95 % +n +control\n", page)
    assert "### Agreement of asked and landed\n" in markdown(outcome.report)
    assert max(map(len, page.splitlines())) <= 80
    assert "| `topic` | accepted | `cards/forgotten pin` | `cards/lost card` | 20 | 20 |" in markdown(outcome.report)
    assert any("how well it tells the nodes of topic apart is unknown" in remark for remark in outcome.report.remarks)


def test_planted_requests_that_are_swapped_stand_at_the_top_of_the_confused_pairs(made):
    swap = {"lost card": "wrong account", "wrong account": "lost card"}
    report = made(swap).report
    assert {(c.asked, c.landed) for c in report.confused[:2]} == {
        ("cards/lost card", "transfers/wrong account"),
        ("transfers/wrong account", "cards/lost card"),
    }
    assert figures(report)["landed", "kept"].value == pytest.approx(0.5)
    assert figures(report)["leaves", "landed"].value == 1.0  # every region has rows, if not the ones asked for
    assert "2 leaves hold a row that was asked for there" in figures(report)["leaves", "landed"].note


def test_a_critic_reads_through_the_journal_and_the_filter_has_paid_for_it(made, server):
    outcome = made({"forgotten pin": "lost card"}, "[{landed: {model: critic}}]", ", landing: critic")
    assert outcome.exit_code == 4  # the leaf that is never reached is named
    assert outcome.results["rows"]["accepted"] == 60
    assert any("cards/forgotten pin: 20 rows short" in remark for remark in outcome.remarks)
    found = figures(outcome.report)
    assert found["landed", "kept"].value == 1.0
    assert "read blind by openai/critic" in found["landed", "kept"].note
    assert ("landed", "raw") not in found  # the critic is not asked about what was dropped
    assert outcome.report.calls.replies <= 2 * outcome.results["rows"]["attempted"]  # one to write, one to read
    assert any("this same reader agrees with" in remark for remark in outcome.report.remarks)
    asked = server.asked
    assert made({"forgotten pin": "lost card"}, "[{landed: {model: critic}}]", ", landing: critic").exit_code == 4
    assert server.asked == asked


def test_a_critic_without_the_filter_is_asked_once_a_text(made):
    outcome = made((), "[]", ", landing: {model: critic}")
    assert outcome.exit_code == 0
    assert outcome.report.calls.replies <= 160
    assert figures(outcome.report)["landed", "kept"].value == 1.0


def test_texts_that_a_critic_gives_no_usable_answer_on_have_not_landed_and_are_counted(made):
    obedient = writer()
    outcome = made(
        more=", landing: critic",
        answer=lambda body: "neither" if body["model"] == "critic" else obedient(body),
    )
    assert outcome.exit_code == 0
    assert figures(outcome.report)["placed nowhere", "kept"].value == 1.0
    assert figures(outcome.report)["landed", "kept"].value == 0.0
    assert any("texts that openai/critic gave no usable answer on" in remark for remark in outcome.report.remarks)
    assert any(
        remark.startswith("topic: openai/critic placed 80 of 80 accepted rows nowhere: where they landed is not known")
        for remark in outcome.report.remarks
    )


def test_a_cap_that_is_reached_while_reading_leaves_the_report_without_the_column(made):
    outcome = made((), "[]", ", landing: critic", target=", calls: 100")
    assert outcome.exit_code == 0
    assert ("landed", "kept") not in figures(outcome.report)
    assert any("where texts landed was not read" in remark for remark in outcome.report.remarks)


def test_filtered_by_the_embedder_everything_made_is_told_beside_what_was_kept(made):
    outcome = made({"forgotten pin": "lost card"}, "[landed]")
    found = figures(outcome.report)
    assert outcome.exit_code == 4
    assert found["landed", "kept"].value == 1.0
    assert found["landed", "raw"].value == pytest.approx(60 / outcome.results["rows"]["attempted"])


def test_rows_that_are_about_nothing_in_the_tree_pass_the_filter_and_the_report_says_so(made):
    outcome = made(
        filters="[landed]",
        answer=lambda body: json.dumps(
            {"message": "The choir sang in the church, " + body["messages"][-1]["content"].split()[1]}
        ),
    )
    assert outcome.exit_code == 0
    (said,) = [remark for remark in outcome.report.remarks if "nowhere" in remark]
    assert re.match(
        r"topic: wordllama .* placed \d\d of 80 accepted rows nowhere, and the filter landed keeps such rows: .*"
        r"measure\.landing\.model.* measure\.landing\.threshold \(0\.15\)",
        said,
    )


def test_labels_of_real_rows_say_how_good_the_reader_is(made, tmp_path):
    rows = [{"text": words.format(n), "intent": leaf} for n in range(15) for leaf, words in SAID.items()]
    rows += [{"text": "The choir sang in the church.", "intent": "lost_card"}] * 5
    rows += [{"text": "hello there", "intent": "greeting"}] * 2
    (tmp_path / "real.jsonl").write_text("\n".join(map(json.dumps, rows)))
    outcome = made((), "[]", ", anchor: {file: real.jsonl, text: text, labels: {topic: intent}}")
    found = figures(outcome.report)
    reader = found["reader accuracy", "anchor"]
    assert (reader.n, reader.value) == (65, pytest.approx(60 / 65))
    assert reader.interval[0] < reader.value < reader.interval[1]
    assert found["placed nowhere", "anchor"].value == pytest.approx(5 / 65)
    assert found["reader kappa", "anchor"].value > 0.85
    assert "2 rows whose intent names no node of topic are left out: 'greeting' (2)" in " ".join(outcome.report.remarks)
    assert not any("is unknown: name rows" in remark for remark in outcome.report.remarks)


def test_settings_that_name_what_is_not_there_are_told_with_their_place(qdcgen, small):
    said = qdcgen(
        "check",
        small,
        "--set",
        "measure={text: message, landing: critc, anchor: {file: small.yaml, labels: {topc: x}}}",
    )
    assert said.returncode == 2
    assert "measure.landing: no model called 'critc'" in said.stderr
    assert "measure.anchor.labels: no taxonomy called 'topc'; did you mean 'topic'" in said.stderr


def test_labelled_data_from_elsewhere_is_scored_from_the_command_line(qdcgen, tmp_path):
    rows = [{"text": words.format(n), "intent": leaf} for n in range(10) for leaf, words in SAID.items()]
    (tmp_path / "real.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "tree.yaml").write_text(
        "cards: [lost card, forgotten pin]\ntransfers: [pending transfer, wrong account]\n"
    )
    flat = json.loads(qdcgen("report", "real.jsonl", "--text", "text", "--label", "intent", "--json").stdout)
    deep = qdcgen("report", "real.jsonl", "--text", "text", "--label", "intent", "--taxonomy", "tree.yaml", "--json")
    for found in (flat, json.loads(deep.stdout)):
        (accuracy,) = [m for m in found["measures"] if m["name"] == "reader accuracy"]
        assert accuracy["value"] == 1.0
        assert accuracy["n"] == 40
        assert accuracy["interval"][0] > 0.9
    assert any(m["name"] == "reader accuracy at level 1" for m in json.loads(deep.stdout)["measures"])
    assert not any("no better than chance" in remark for remark in flat["remarks"])
    for number, row in enumerate(rows):
        row["intent"] = f"rung {number // 4 % 5}"
    (tmp_path / "rungs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rungs = json.loads(qdcgen("report", "rungs.jsonl", "--text", "text", "--label", "intent", "--json").stdout)
    (said,) = [remark for remark in rungs["remarks"] if "no better than chance" in remark]
    assert re.match(r"the reader tells the nodes of intent right on \d+\.\d% of rows, by chance \d+\.\d%: it is", said)
    wrong = qdcgen("report", "real.jsonl", "--label", "intnt")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "real.jsonl: no column 'intnt'; did you mean 'intent'? (columns: text, intent)\n",
    )
    alone = qdcgen("report", "real.jsonl", "--taxonomy", "tree.yaml")
    assert alone.returncode == 2
    assert "--taxonomy needs --label COLUMN" in alone.stderr


def test_labels_of_another_tree_are_refused_and_some_of_it_told_first(qdcgen, tmp_path):
    (tmp_path / "topics.yaml").write_text("cards: [lost card, forgotten pin]\n")
    asked = ("report", "real.jsonl", "--text", "text", "--label", "intent", "--taxonomy", "topics.yaml")
    rows = [{"text": f"hello {n}", "intent": f"greeting {n % 6}"} for n in range(24)]
    (tmp_path / "real.jsonl").write_text("\n".join(map(json.dumps, rows)))
    wrong = qdcgen(*asked)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == (
        "real.jsonl: none of 24 labels (intent) names a node of topics: 'greeting 0', 'greeting 1', 'greeting 2', "
        "'greeting 3', 'greeting 4', …; is this the right tree?\n"
    )
    rows[:20] = [{"text": SAID["lost card"].format(n), "intent": "lost card"} for n in range(20)]
    (tmp_path / "real.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = qdcgen(*asked, "--json")
    assert found.returncode == 0
    said = json.loads(found.stdout)
    assert said["facts"]["label"] == "intent, nodes of topics.yaml"
    assert said["remarks"][0].startswith("4 rows whose intent names no node of topics are left out: 'greeting 2' (1)")
    (tmp_path / "real.jsonl").write_text("\n".join(json.dumps({"text": "hello", "intent": None}) for _ in range(24)))
    empty = qdcgen(*asked)
    assert (empty.returncode, empty.stderr) == (
        2,
        "--label intent: the column is empty; expected the node of each text\n",
    )


def test_a_label_that_cannot_be_one_is_told(qdcgen, tmp_path):
    (tmp_path / "real.jsonl").write_text(json.dumps({"text": "my card is lost", "empty": None}) + "\n")
    for label, said in {
        "text": "--label text: that is the text itself; name the column that says what each text is",
        "empty": "--label empty: the column is empty; expected the node of each text",
    }.items():
        found = qdcgen("report", "real.jsonl", "--text", "text", "--label", label)
        assert (found.returncode, found.stderr.strip()) == (2, said)


def test_more_labels_than_can_be_read_are_told_instead_of_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("qdcgen.measure.MOST_LEAVES", 24)
    path = tmp_path / "real.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"text {n}", "code": n}) for n in range(25)))
    found = of_file(path, text=("text",), axes=(), embedder=None, label="code")
    assert "code has 25 leaves, too many to read the texts by" in found.remarks
    assert not [one for one in found.measures if one.name.startswith("reader")]
