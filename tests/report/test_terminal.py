"""A report on a terminal: whole pages compared, every line in its width, nothing from data but what can be seen."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from qdcgen.report.contents import LedgerLine, Report
from qdcgen.report.markdown import markdown
from qdcgen.report.terminal import terminal
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Callable

ANSI = re.compile(r"\x1b\[[0-9;]*m")
HARMFUL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("width", [80, 120])
def test_a_whole_report(bank: Report, snapshot: Callable[[str, str], None], width: int) -> None:
    snapshot(f"bank-{width}.txt", terminal(bank, width=width, colour=False))


def test_a_whole_report_with_its_footnotes(bank: Report, snapshot: Callable[[str, str], None]) -> None:
    snapshot("bank-notes-80.txt", terminal(bank, colour=False, notes=True))


def test_a_short_page_has_no_footnote_and_says_how_to_see_them(bank: Report) -> None:
    short, long = (terminal(bank, colour=False, notes=notes) for notes in (False, True))
    assert not re.search("[⁰¹²³⁴⁵⁶⁷⁸⁹]", short.replace("ε²", "").replace("R²", ""))
    assert re.search(" ²$", long, re.MULTILINE) or "\n² " in long
    assert "qdcgen report runs/bank-support --notes" in short
    assert "--notes" not in long
    assert len(short.splitlines()) < len(long.splitlines()) - 50


def test_what_figures_have_in_common_is_told_once_above_the_table() -> None:
    measures = [
        Measure("diversity", name, value, n=110, of=of, interval=(0.1, 0.9), embedder="bge",
                note=f"at 110 of {whole} texts of 10.9 words")
        for name in ("global", "local")
        for of, value, whole in (("raw", 0.5, 176), ("kept", 0.6, 110), ("anchor", 0.7, 1500))
    ]  # fmt: skip
    page = terminal(Report("x", {}, measures), colour=False)
    above = "n: raw 110 of 176, kept 110 of 110, anchor 110 of 1,500; 10.9 words a text where length matters"
    assert above in re.sub(r"\s+", " ", page)
    assert page.count("bge") == 1
    assert re.search(r"\n95 % beside +raw +kept +anchor\n", page), "each has the n that is told above"
    assert "0.600 .100–.900" in page


def test_lines_without_figures_are_told_by_reason_and_name_the_column() -> None:
    def few(name: str, needs: int) -> list[Measure]:
        return [
            Measure("diversity", name, None, n=n, of=of, note=f"too few: {n} texts, needs {needs}")
            for of, n in (("raw", 108), ("kept", 0), ("anchor", 3))
        ]

    seen = [Measure("diversity", "global", 0.5, n=9, of=of) for of in ("raw", "kept", "anchor")]
    page = terminal(Report("x", {}, [*seen, *few("clusters", 200), *few("facility", 59)]), colour=False)
    told = "– too few: raw 108, kept 0, anchor 3 texts; needs 200: clusters; needs 59: facility"
    assert told in re.sub(r"\s+", " ", page)


def test_a_population_without_any_figure_has_no_column_but_a_remark() -> None:
    measures = [
        Measure("diversity", name, value, n=9, of=of, note="" if value else "too few: 3 texts, needs 20")
        for name in ("global", "local")
        for of, value in (("kept", 0.5), ("anchor", None))
    ]
    short, long = (terminal(Report("x", {}, measures), colour=False, notes=notes) for notes in (False, True))
    assert "· anchor: no figure in any table: too few: 3 texts, needs 20\n" in short
    assert short.count("anchor") == 1
    assert re.search(r"kept +anchor +n\n", long)


def test_raw_rows_that_are_the_kept_ones_have_no_column() -> None:
    measures = [Measure("diversity", "global", 0.5, n=9, of=of) for of in ("raw", "kept")]
    page = terminal(Report("x", {}, measures), colour=False)
    assert "n: kept 9 (raw: the same rows)\n" in page
    assert not re.search(r"raw +kept", page)


def test_figures_told_below_the_table_are_all_there() -> None:
    measures = [
        Measure("diversity", name, value, n=9, of=of)
        for name in ("Vendi score", "Vendi score, q=2", "exact repeats")
        for of, value in (("raw", 0.25), ("kept", 0.5), ("anchor", 0.75))
    ]
    page = terminal(Report("x", {}, measures), colour=False)
    assert "· also, kept / anchor: Vendi score, q=2 0.500 / 0.750, exact repeats 0.500 /\n  0.750\n" in page


def test_what_accepted_and_landed_rows_lack_is_told_apart() -> None:
    def lacking(landed: tuple[str, ...]) -> str:
        measures = [
            Measure("coverage", "leaves", 0.5, n=9, of=of, axis="topic", missing=missing)
            for of, missing in (("kept", ("closing it",)), ("landed", landed))
        ]
        return terminal(Report("x", {}, measures), colour=False)

    page = lacking(("forgotten PIN", "wrong account"))
    assert "missing from leaves, topic, accepted: 1 – closing it\n" in page
    assert "missing from leaves, topic, landed: 2 – forgotten PIN; wrong account\n" in page
    assert "missing from leaves, topic, accepted and landed: 1 – closing it\n" in lacking(("closing it",))


def test_more_of_a_file_is_asked_for_by_its_name() -> None:
    names = tuple(f"node-{n}" for n in range(20))
    measure = Measure("coverage", "leaves", 0.5, n=9, of="rows", axis="topic", missing=names)
    page = terminal(Report("x", {"file": "my data.csv"}, [measure]), colour=False)
    assert "and 12 more: qdcgen report 'my data.csv' --json" in re.sub(r"\s+", " ", page)


def test_colour_adds_codes_and_changes_nothing_else(bank: Report) -> None:
    plain, coloured = (terminal(bank, colour=colour) for colour in (False, True))
    assert [line.rstrip() for line in ANSI.sub("", coloured).splitlines()] == plain.splitlines()
    assert ANSI.search(coloured)


def test_environment_does_not_change_a_page(bank: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    before = terminal(bank, colour=True)
    for name, value in {"NO_COLOR": "1", "COLUMNS": "40", "TERM": "dumb", "FORCE_COLOR": "1", "CI": "1"}.items():
        monkeypatch.setenv(name, value)
    assert terminal(bank, colour=True) == before


def test_an_empty_report_still_names_the_four_tables(snapshot: Callable[[str, str], None]) -> None:
    snapshot("empty-80.txt", terminal(Report("nothing"), colour=False))


def test_hostile_text_in_every_field(hostile: Report, snapshot: Callable[[str, str], None]) -> None:
    page = terminal(hostile, colour=False)
    assert not HARMFUL.search(page)
    assert "[red]bold[/red] [/nope] :smile:" in page, "rich read markup in data"
    assert not HARMFUL.search(ANSI.sub("", terminal(hostile, colour=True)))
    snapshot("hostile-80.txt", page)


@pytest.mark.parametrize("width", [60, 61, 80, 100, 120, 200])
def test_every_line_fits(bank: Report, hostile: Report, width: int) -> None:
    for report in (bank, hostile):
        too_wide = [line for line in terminal(report, width=width, colour=False).splitlines() if cell_len(line) > width]
        assert too_wide == []


def test_a_terminal_narrower_than_sixty_is_set_at_sixty(bank: Report) -> None:
    assert terminal(bank, width=20, colour=False) == terminal(bank, width=60, colour=False)


def test_what_is_no_filter_is_not_said_to_reject() -> None:
    line = LedgerLine("", "", 60, 120, 0, 0, {"length": 2, "surplus": 4, "retired": 54}, 0, 60, 0)
    page = terminal(Report("small", {}, [], [line]), colour=False)
    assert re.search(r"^ +rejected by length +2 ", page, re.MULTILINE)
    assert re.search(r"^ +surplus +4 ", page, re.MULTILINE)
    assert re.search(r"^ +retired +54 ", page, re.MULTILINE)
    page = markdown(Report("small", {}, [], [line]))
    assert "| rejected by length |" in page.replace("`", "")
    assert "| surplus |" in page
    assert "| retired |" in page


def test_fifty_axes_with_ten_thousand_missing_nodes_stay_readable_and_quick() -> None:
    names = tuple(f"node-{n}" for n in range(10_000))
    measures = [
        Measure(
            "coverage", f"nodes, level {level}", 0.5, n=1000, axis=f"axis-{axis}", interval=(0.4, 0.6), missing=names
        )
        for axis in range(50)
        for level in range(5)
    ]
    ledger = [LedgerLine(f"axis-{axis}", name, 1, 1, 0, 0, {}, 0, 0, 1) for axis in range(50) for name in names[:200]]
    start = time.perf_counter()
    page = terminal(Report("huge", {}, measures, ledger), colour=False)
    assert time.perf_counter() - start < 10
    assert page.count("and 9,992 more: qdcgen report RUN --json".replace(" ", "")) == 0
    assert re.sub(r"\s+", " ", page).count("and 9,992 more: qdcgen report RUN --json") == 50
    assert re.sub(r"\s+", " ", page).count("and 192 more: qdcgen report RUN --json") == 50


def test_a_figure_that_is_none_is_a_dash_with_its_reason() -> None:
    page = terminal(Report("x", {}, [Measure("diversity", "Vendi score", None, note="too few: 3 texts")]), colour=False)
    assert "– too few: 3 texts: Vendi score" in page


def test_an_embedder_is_named_once_below_its_table() -> None:
    measures = [Measure("diversity", name, 0.5, n=9, embedder="bge-small") for name in ("global", "local", "tail")]
    assert terminal(Report("x", {}, measures), colour=False).count("bge-small") == 1


def test_what_differs_between_populations_is_said(bank: Report) -> None:
    measures = [
        Measure("diversity", "global", 0.5, n=100, of="raw", control=0.25, control_of="shuffled"),
        Measure("diversity", "global", 0.5, n=90, of="kept", control=0.75, control_of="shuffled"),
    ]
    page = terminal(replace(bank, measures=measures), colour=False, notes=True)
    assert "raw: n 100, control 0.250 (shuffled)" in page


def test_populations_that_do_not_fit_are_set_below() -> None:
    files = [f"/data/set-{n}/train.jsonl" for n in range(6)]
    measures = [Measure("diversity", "global", n / 10, n=100, of=of) for n, of in enumerate(files)]
    page = terminal(Report("x", {}, measures), colour=False)
    assert all(file in page for file in files)
    assert all(f"0.{n}00" in page for n in range(6))


def test_asked_accepted_and_landed_stand_side_by_side_whatever_was_made_beside_them() -> None:
    covered = [
        Measure("coverage", name, value, range=(-1, 1), n=999_999, of=of, axis="topic", interval=(-0.912, -0.109),
                control=0.5, control_of="uniform drawing")
        for name in ("nodes of level 2", "evenness")
        for of, value in (("planned", 1.0), ("kept", 0.9), ("landed", 0.8), ("raw", 0.7), ("anchor", 0.6))
    ]  # fmt: skip
    agreeing = [
        Measure("coverage", f"{name}{at}", 0.5, range=(-1, 1), n=400, of=of, axis="topic", interval=(-0.1, 0.7))
        for name in ("landed", "kappa")
        for at in ("", " at level 2")
        for of in ("raw", "kept")
    ]
    page = terminal(Report("x", {}, [*covered, *agreeing]), colour=False, notes=True)
    above, below = page.split("agreement of asked and landed\n")
    assert re.search(r"asked +accepted +landed +n +control\n", above)
    assert not re.search(r"\braw\b", above)
    assert "landed at" not in above
    assert "0.700" not in above
    assert re.search(r"raw +accepted +n\n", below)
    assert max(map(cell_len, page.splitlines())) <= 80


def test_the_agreement_of_labels_is_called_so() -> None:
    rows = [Measure("coverage", name, 0.5, n=40, of="rows") for name in ("reader accuracy", "placed nowhere")]
    assert "agreement of labels and landed\n" in terminal(Report("x", {}, rows), colour=False)


def test_a_file_has_one_row_for_what_was_drawn_and_one_for_what_was_read() -> None:
    told = [
        Measure("coverage", "hull", value, n=60, of="rows", axis="age", control=0.9, control_of="uniform drawing")
        for value in (0.75, 0.25)
    ]
    page = terminal(Report("x", {}, told), colour=False, notes=True)
    assert re.search(r"\nage +drawn +0.750\n +0.900\n +read +0.250\n", page)
    assert "nothing measured" not in page.partition("diversity")[0]


def test_axes_of_rows_and_of_an_anchor_are_told_apart() -> None:
    told = [
        Measure("diversity", "share explained", value, n=n, of=of, axis="mood", note=note)
        for of, value, n, note in (("kept", 0.5, 90, ""), ("anchor", None, 9, "too few: 9 rows"))
    ]
    page = terminal(Report("x", {}, told), colour=False, notes=True)
    assert "what each axis does to the text, n 90\n" in page
    assert "what each axis does to the text (anchor)\n· mood: too few: 9 rows\n" in page


def test_a_copied_value_is_called_leaking_beside_the_verdict(bank: Report) -> None:
    page = terminal(bank, colour=False)
    assert re.search(r"\nmood .* effective\n.* leaking\n", page)
    assert "mood, leaking: 37 its name as a label" in page


def test_what_a_column_is_and_its_control_are_told_once_without_marks() -> None:
    told = [
        Measure("coverage", name, 0.5, n=40, of=of, axis=axis, note=note, control=0.4, control_of="uniform drawing")
        for axis in ("topic", "tone")
        for name in ("leaves", "nodes of level 1")
        for of, note in (("planned", "what is wanted"), ("kept", "what rows were asked to be; and more"))
    ]
    page = terminal(Report("x", {}, told), colour=False, notes=True)
    assert page.count("what is wanted") == page.count("uniform drawing") == page.count("asked to be") == 1
    assert "\n· asked: what is wanted\n· accepted: what rows were asked to be\n· control: uniform drawing\n" in page
    assert "\n¹ accepted: and more\n" in page
    assert "²" not in page


def test_a_repeated_measure_keeps_a_line_of_its_own() -> None:
    measures = [Measure("quality", "accepted", value, n=9) for value in (0.25, 0.75)]
    page = terminal(Report("x", {}, measures), colour=False)
    assert "0.250" in page
    assert "0.750" in page


def test_the_command_for_more_survives_a_run_folder_with_spaces(bank: Report) -> None:
    page = terminal(replace(bank, facts={"run": "my runs/a"}), width=200, colour=False)
    assert "qdcgen report 'my runs/a' --json" in page
