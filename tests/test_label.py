"""Labels by people: a real terminal, real kills, files of labels, and the report that they end in."""

import contextlib
import csv
import fcntl
import json
import os
import pty
import random
import select
import shutil
import signal
import struct
import sys
import termios
import time
from collections import Counter

import polars as pl
import pytest

from qdcgen import labelled, rounds
from qdcgen.errors import UsageError
from qdcgen.label import _cell, _wrapped, label, label_text
from qdcgen.labelled import Place
from qdcgen.recipe import load
from qdcgen.run import run
from qdcgen.store import Store
from qdcgen.testing import Server

from .conftest import ROOT  # noqa: TID252  (fixtures' own)

RECIPE = """\
recipe: 1
name: sums
seed: 5
models:
  writer: {{model: openai/test, api_base: "{url}", price: {{input: 1, output: 2}}}}
taxonomy:
  topic: {{tree: {{cards: [lost, declined], transfers: [pending, wrong account]}}}}
layers:
  channel: {{choice: {{chat: 2, email: 1}}}}
generate:
  - write:
      fields: {{message: {{type: string}}}}
      prompt: "A message by {{{{ channel }}}} about {{{{ topic.path }}}}"
filters:
  - length: {{field: message, min_words: 3}}
  - double_critic: {{model: writer}}
target: {{rows: 40, candidates: 12}}
measure: {{text: message}}
"""


def answering(body):
    """A writer of whose messages 3 in 10 are bad, which they say; a critic that errs on 1 in 10 of either kind."""
    asked = body["messages"][-1]["content"]
    whole = json.dumps(body["messages"])
    chance = random.Random(f"{whole}{body.get('seed')}")
    if "correct" not in asked:
        bad = chance.random() < 0.3
        words = [f"w{chance.randrange(10**6)}" for _ in range(2 if chance.random() < 0.1 else 8)]
        return json.dumps({"message": " ".join(["wrong" if bad else "right", *words])})
    errs = random.Random(whole[-300:-150]).random() < 0.1
    bad = ("wrong" in whole) is not errs
    verdict = {False: "yes", True: "no"}[bad]
    if "incorrect" in asked:
        verdict = {"yes": "no", "no": "yes"}[verdict]
    schema = body["response_format"]["json_schema"]["schema"]["properties"]
    return json.dumps({name: verdict if name == "verdict" else "because" for name in schema})


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A finished run of 40 rows, with some rejected by a critic."""
    home = tmp_path_factory.mktemp("sums")
    with Server(answer=answering) as server:
        (home / "sums.yaml").write_text(RECIPE.format(url=server.url))
        assert run(load(home / "sums.yaml"), home / "out", quiet=True).exit_code == 0
    return home / "out"


@pytest.fixture
def made(template, tmp_path, server):
    """A copy of it, beside its recipe."""
    server.answer = answering
    (tmp_path / "sums.yaml").write_text(RECIPE.format(url=server.url))
    shutil.copytree(template, tmp_path / "out")
    return tmp_path / "out"


def labels(folder):
    return json.loads((folder / "labels.json").read_text())["labels"]


def everything(folder):
    """Row → message of all that was made."""
    raw = pl.concat(pl.read_parquet(path) for path in sorted((folder / "raw").glob("*.parquet")))
    return dict(raw.select("_id", "message").iter_rows())


# ── the terminal ────────────────────────────────────────────────────────────────────────────────────────────────────


class Terminal:
    """`qdcgen label` behind a real pseudo-terminal."""

    def __init__(self, *arguments, columns=80, lines=24):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            os.environ.update(TERM="xterm", PYTHONPATH=str(ROOT))
            os.execv(
                sys.executable, [sys.executable, "-c", "from qdcgen.cli import main; main()", *map(str, arguments)]
            )
        self.seen = b""
        self.looked = 0

    def screen(self, words, seconds=30):
        """The first whole screen that holds these words, of those that have not been looked at."""
        end = time.monotonic() + seconds
        while True:
            for at, one in self.whole():
                if words.encode() in one:
                    self.looked = at
                    return one.decode()
            assert time.monotonic() < end, self.seen.decode()
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65536)

    def whole(self):
        """(where it ends, text) of each whole screen not looked at."""
        at = self.looked
        while (start := self.seen.find(b"\x1b[2J", at)) >= 0 and (end := self.seen.find(b"\r\n> ", start)) >= 0:
            at = end + 4
            yield at, self.seen[start + 4 : at]

    def press(self, keys):
        os.write(self.fd, keys.encode())

    def end(self):
        """The exit code, once it has ended."""
        while True:
            try:
                if not (more := os.read(self.fd, 65536)):
                    break
                self.seen += more
            except OSError:
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_rows_are_shown_blind_and_each_key_is_saved(made):
    terminal = Terminal("label", made, "--rows", "6")
    for number, key in enumerate("ynsy", 1):
        screen = terminal.screen(f"row {number} of 6")
        assert "topic: " in screen
        assert "channel: " in screen
        assert number == 1 or len(labels(made)) == number - 1
        terminal.press(key)
    terminal.screen("row 5 of 6")
    terminal.press("q")
    assert terminal.end() == 0
    assert [one["good"] for one in labels(made)] == [True, False, None, True]
    said = terminal.seen.decode()
    assert "2 left; go on with: qdcgen label" in said
    for word in ("length", "critic", "reject", "accept", "because"):
        assert word not in said.partition("me: 2 good")[0]
    assert not Store(made).peek().verify()


def test_a_kill_between_keys_loses_nothing_and_what_was_labelled_is_not_shown_again(made):
    terminal = Terminal("label", made, "--rows", "5")
    terminal.screen("row 1 of 5")
    terminal.press("y")
    terminal.screen("row 2 of 5")
    terminal.press("n")
    terminal.screen("row 3 of 5")
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.end() == -signal.SIGKILL
    assert [one["good"] for one in labels(made)] == [True, False]
    texts = everything(made)
    first, second = (texts[one["row"]] for one in labels(made))
    again = Terminal("label", made, "--rows", "5")
    screen = again.screen("row 3 of 5 · 1 good, 1 bad")
    assert first not in screen
    assert second not in screen
    again.press("u")  # also back to a row of the session that was killed
    assert second in again.screen("row 2 of 5 · 1 good, 0 bad")
    assert len(labels(made)) == 1
    again.press("yyyy")
    assert again.end() == 0
    assert [one["good"] for one in labels(made)] == [True] * 5
    assert len({one["row"] for one in labels(made)}) == 5
    assert "5 of 5 rows are labelled by me; for more: qdcgen label" in again.seen.decode()


def test_ctrl_c_ends_it_at_once_also_where_signals_were_ignored(made):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as what a script starts in its background inherits it
    try:
        terminal = Terminal("label", made)
    finally:
        signal.signal(signal.SIGINT, before)
    terminal.screen("row 1 of")
    terminal.press("y")
    terminal.screen("row 2 of")
    terminal.press("\x03")
    end = time.monotonic() + 20
    while not (ended := os.waitpid(terminal.pid, os.WNOHANG))[0]:
        assert time.monotonic() < end, "no key follows, and it still waits for one"
        if select.select([terminal.fd], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):
                os.read(terminal.fd, 65536)
    assert os.waitstatus_to_exitcode(ended[1]) == 128 + signal.SIGINT
    assert [one["good"] for one in labels(made)] == [True]


def number_of(terminal):
    """Of a pseudo-terminal, by its own answer to TIOCGPTN, which Python names from 3.13 on."""
    return struct.unpack("i", fcntl.ioctl(terminal, 0x80045430, b"\0" * 4))[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(made, number):
    terminal = Terminal("label", made)
    other = os.open(
        f"/dev/pts/{number_of(terminal.fd)}", os.O_RDWR | os.O_NOCTTY
    )  # a terminal with no user left cannot be asked
    before = termios.tcgetattr(other)
    terminal.screen("row 1 of")
    assert not termios.tcgetattr(other)[3] & termios.ECHO
    os.kill(terminal.pid, number)
    said = b""
    while b"saved" not in said:
        assert select.select([terminal.fd], [], [], 30)[0], said
        said += os.read(terminal.fd, 65536)
    assert b"interrupted; every label given so far is saved" in said
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 128 + number
    assert termios.tcgetattr(other) == before
    os.close(other)


def test_help_long_rows_and_narrow_terminals(made, tmp_path, server):
    server.answer = lambda body: (
        json.dumps({"message": " ".join(f"part{n}" for n in range(400))})
        if "correct" not in body["messages"][-1]["content"]
        else answering(body)
    )
    outcome = run(load(tmp_path / "sums.yaml", overrides=("target.rows=1",)), tmp_path / "long", quiet=True)
    assert outcome.exit_code == 0
    terminal = Terminal("label", tmp_path / "long", columns=40, lines=16)
    screen = terminal.screen("row 1")
    assert all(len(line) <= 40 for line in screen.split("\r\n"))
    assert len(screen.split("\r\n")) <= 16
    assert "space more" in screen
    assert "part399" not in screen
    while "part399" not in screen:
        terminal.press(" ")
        screen = terminal.screen("row 1 of 1")
    terminal.press("\x1b[A")  # an arrow is no label
    terminal.screen("row 1")
    terminal.press("?")
    terminal.screen("any key")
    terminal.press("y")  # leaves the help, and labels nothing
    terminal.screen("? help")
    terminal.press("q")
    assert terminal.end() == 0
    assert not (tmp_path / "long" / "labels.json").exists()


def test_no_control_byte_of_a_row_reaches_the_terminal(made, tmp_path, server):
    hostile = "one \x1b]52;c;aGk=\x07 two \x1b[2J\u202e three \u2028 \x9b31m four five \U0001f98a"
    server.answer = lambda body: (
        json.dumps({"message": hostile}) if "correct" not in body["messages"][-1]["content"] else answering(body)
    )
    run(load(tmp_path / "sums.yaml", overrides=("target.rows=1",)), tmp_path / "bad", quiet=True)
    terminal = Terminal("label", tmp_path / "bad")
    screen = terminal.screen("row 1 of")
    terminal.press("q")
    terminal.end()
    assert "\\x1b]52;c" in screen
    assert not set(screen) & set("\x1b\x07\u202e\u2028\x9b")


def test_lines_are_as_wide_as_the_terminal_whatever_the_letters():
    from rich.cells import cell_len

    for text in ("", "one two three", "x" * 100, "漢字" * 40, "a\n\nb  c", "🦊" * 30, "\ttab"):
        lines = _wrapped(text, 20)
        assert lines
        assert all(cell_len(line) <= 20 for line in lines)
    assert _wrapped("a\n\nb  c", 20) == ["a", "", "b  c"]


def test_without_a_terminal_it_says_what_to_type(made, qdcgen):
    done = qdcgen("label", made)
    assert done.returncode == 2
    assert "--to todo.csv" in done.stderr
    assert "--from todo.csv" in done.stderr


# ── which rows ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_half_of_the_rows_are_accepted_ones_and_the_filters_share_the_rest():
    standing = {f"{n:04}": Place("" if n % 10 else ("a" if n % 20 else "b"), 0, "x") for n in range(1_000)}
    order = labelled.order(standing, ["a", "b"], 1)
    assert len(order) == len(set(order)) == 1_000
    for size in (12, 24, 48):
        counts = Counter(standing[row].stratum for row in order[:size])
        assert counts == {"": size / 2, "a": size / 4, "b": size / 4}
    assert len({tuple(standing[row].stratum for row in order[at : at + 12]) for at in range(0, 48, 12)}) > 1
    assert labelled.order(standing, ["a", "b"], 2)[:20] != order[:20]
    only = {row: place for row, place in standing.items() if not place.stratum}
    assert len(labelled.order(only, ["a"], 1)) == len(only)


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def todo(folder, to, rows=60, **more):
    return label(folder, rows=rows, seed=0, by=more.pop("by", "me"), to=to, **more)


def take(folder, source, by="me"):
    return label(folder, rows=50, seed=0, by=by, source=source)


def fill(path, to, judge):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with to.open("w", newline="") as file:
        sheet = csv.DictWriter(file, list(rows[0]))
        sheet.writeheader()
        sheet.writerows({**row, "label": judge(row)} for row in rows)


def test_from_a_file_to_the_report(made, tmp_path, qdcgen):
    done = qdcgen("label", made, "--to", "todo.csv", "--rows", 1000)
    assert done.returncode == 0, done.stderr
    fill(tmp_path / "todo.csv", tmp_path / "done.csv", lambda row: "bad" if "wrong" in row["message"] else "GOOD")
    header = (tmp_path / "todo.csv").read_text().splitlines()[0]
    assert header == "_id,label,topic,channel,message,_content"
    assert qdcgen("label", made, "--to", "todo.csv").returncode == 2  # never writes over what may hold labels
    done = qdcgen("label", made, "--from", "done.csv", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    texts = everything(made)
    assert said["taken"] == said["labelled"] == said["judged"] == len(texts)
    report = qdcgen("report", made)
    assert "good among accepted" in report.stdout
    assert "gap closed" in report.stdout
    figures = {
        (one["name"], one["axis"]): one
        for one in json.loads(qdcgen("report", made, "--json").stdout)["measures"]
        if one["table"] == "quality"
    }
    data = pl.read_parquet(made / "data" / "*.parquet")
    assert figures["good among accepted", ""]["value"] == pytest.approx(
        1 - data["message"].str.contains("wrong").mean()
    )
    good = sum("wrong" not in text for text in texts.values()) / len(texts)
    assert figures["good among made", ""]["value"] == pytest.approx(good)
    assert figures["gap closed", "double_critic"]["note"] == "of value"
    assert figures["gap closed", "double_critic"]["interval"][0] > 0
    assert figures["bad rows caught", "double_critic"]["value"] > 0.6
    assert not Store(made).peek().verify()
    # a run that has nothing to do measures again, with the labels
    again = qdcgen(
        "run", tmp_path / "sums.yaml", "--out", made, "--quiet", "--set", 'gates.quality.good_among_made=">= 0.99"'
    )
    assert again.returncode == 3, again.stderr
    assert "good_among_made" in again.stderr
    assert "good among made" in (made / "report.md").read_text()


def test_every_reader_finds_as_many_rows_as_were_written_whatever_they_hold(tmp_path, server):
    texts = ["a\rb c", "\r", "a\r\nb c", "a\nb", '"a,b', "a;b\tc", "=1+1", "'x", "\x0b\x0c\x1c\x85\u2028", ",,", "\\r"]
    hostile = ROOT / ".." / "shared" / "data" / "hostile_inputs" / "csv.jsonl"
    if hostile.is_file():
        texts += [json.loads(line)["text"] for line in hostile.read_text().split("\n") if line]

    def answer(body):
        if "correct" in body["messages"][-1]["content"]:
            return answering(body)
        return json.dumps({"message": f"{texts[body['seed'] % len(texts)]} of {body['seed']}"})

    server.answer = answer
    recipe = RECIPE.replace("  - length: {{field: message, min_words: 3}}\n", "")
    (tmp_path / "sums.yaml").write_text(recipe.format(url=server.url))
    run(load(tmp_path / "sums.yaml"), tmp_path / "out", quiet=True)
    made = tmp_path / "out"
    written = label(made, rows=1000, seed=0, by="me", to=tmp_path / "todo.csv")["written"]
    assert written >= 40
    with (tmp_path / "todo.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == written
    messages = everything(made)
    assert {row["_id"]: row["message"] for row in rows} == {row["_id"]: _cell(messages[row["_id"]]) for row in rows}
    assert pl.read_csv(tmp_path / "todo.csv", infer_schema=False).height == written
    # as one that breaks lines at \r sees it: outside of quotes there is no such line
    outside = (tmp_path / "todo.csv").read_bytes().decode().split('"')[::2]
    assert all("\r" not in part.replace("\r\n", "") for part in outside)
    fill(tmp_path / "todo.csv", tmp_path / "done.csv", lambda row: "good")
    assert take(made, tmp_path / "done.csv")["taken"] == written


def test_advice_for_more_is_of_more_than_there_is(made, tmp_path):
    whole = label(made, rows=1000, seed=0, by="eve", to=tmp_path / "todo.csv")["written"]
    fill(tmp_path / "todo.csv", tmp_path / "done.csv", lambda row: "good" if row["_content"][0] < "c" else "")
    said = take(made, tmp_path / "done.csv", by="eve")["labelled"]
    assert 8 < said < whole
    found = label(made, rows=4, seed=0, by="eve", to=tmp_path / "more.csv")
    told = label_text(found)
    assert f"nothing written: {said} rows are labelled by eve; for more: qdcgen label " in told
    assert f" --rows {min(whole, said + 4)} --by eve" in told
    rows = int(told.split(" --rows ")[1].split()[0])
    assert label(made, rows=rows, seed=0, by="eve", to=tmp_path / "more.csv")["written"] == min(4, whole - said)


def test_nothing_is_taken_from_a_file_with_a_fault_and_each_is_named(made, tmp_path):
    one, two, three = list(everything(made))[:3]
    path = tmp_path / "labels.csv"
    path.write_text(f"_id,label\n{one},good\nffff,bad\n{two},maybe\n{three},yes\n{three},no\n")
    with pytest.raises(UsageError) as raised:
        take(made, path)
    said = str(raised.value)
    assert "row 2: 'ffff' is no row of this run" in said
    assert "row 3: the label 'maybe'; expected good or bad" in said
    assert f"rows 4 and 5: {three!r} is 'yes' and 'no'" in said
    assert not (made / "labels.json").exists()
    path.write_text("name,label\na,good\n")
    with pytest.raises(UsageError, match="expected the columns _id"):
        take(made, path)


@pytest.mark.parametrize(
    ("ending", "good", "bad"), [("csv", "1", "0"), ("jsonl", True, False), ("parquet", "Yes", "NO")]
)
def test_every_kind_of_file_and_word(made, tmp_path, ending, good, bad):
    one, two, three = list(everything(made))[:3]
    frame = pl.DataFrame(
        {"id": [one, two, three], "label": [good, bad, None], "by": ["anna", None, "anna"]}, strict=False
    )
    path = tmp_path / f"labels.{ending}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](path)
    said = take(made, path, by="ben")
    assert said["taken"] == 2
    assert said["empty"] == 1
    assert {(found["row"], found["by"], found["good"]) for found in labels(made)} == {
        (one, "anna", True),
        (two, "ben", False),
    }
    assert take(made, path, by="ben")["changed"] == 0
    assert len(labels(made)) == 2


def test_several_people_and_how_far_they_agree(made, tmp_path):
    ids = list(everything(made))[:40]
    chance = random.Random(3)
    said = [chance.random() < 0.5 for _ in ids]
    for by, errs in (("anna", 0.0), ("ben", 0.1), ("carl", 0.1)):
        path = tmp_path / f"{by}.jsonl"
        rows = [{"_id": row, "label": good is (chance.random() >= errs)} for row, good in zip(ids, said, strict=True)]
        path.write_text("\n".join(map(json.dumps, rows)))
        found = take(made, path, by=by)
    assert found["agreement"]["rows"] == 40
    low, high = found["agreement"]["interval"]
    assert 0.4 < low < found["agreement"]["kappa"] < high < 1


def test_cells_that_a_spreadsheet_would_run_are_quoted():
    assert [_cell(text) for text in ("=1+1", "+1", "-1", "@a", "\tx", "a=b", "")] == [
        "'=1+1", "'+1", "'-1", "'@a", "'\tx", "a=b", "",
    ]  # fmt: skip


# ── labels stay ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_labels_survive_judging_anew_refills_and_replace_but_not_a_text_that_changed(made, tmp_path):
    path = tmp_path / "sums.yaml"
    todo(made, tmp_path / "todo.csv", rows=1000)
    fill(tmp_path / "todo.csv", tmp_path / "done.csv", lambda row: "bad" if "wrong" in row["message"] else "good")
    before = take(made, tmp_path / "done.csv")["labelled"]
    run(load(path, overrides=("target.rows=48",)), made, quiet=True)
    path.write_text(path.read_text().replace("min_words: 3", "min_words: 2"))
    run(load(path, overrides=("target.rows=48",)), made, quiet=True)
    assert len(labels(made)) == before
    assert not Store(made).peek().verify()
    store = Store(made).peek()
    recipe = load(path, overrides=("target.rows=48",))
    history = labelled.attached(rounds.attempts(store, recipe), store, recipe)
    assert history["_said"].drop_nulls().len() == before
    assert history["_lost"][0] == 0
    # another prompt: the same names, other words
    path.write_text(path.read_text().replace("A message by", "One message by"))
    run(load(path), made, quiet=True, replace=True)
    assert len(labels(made)) == before
    found = todo(made, tmp_path / "again.csv")
    assert found["ignored"] == before
    assert found["labelled"] == 0
    with pytest.raises(UsageError, match="no label was taken"):
        take(made, tmp_path / "done.csv")
