"""Reports to set in type, and whole outputs to compare them with."""

from __future__ import annotations

import difflib
import math
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qdcgen.report.contents import (
    Attrition,
    Change,
    Confusion,
    GateResult,
    LedgerLine,
    Loss,
    Report,
    Sieve,
    Skew,
)
from qdcgen.report.plan_text import AxisPlan, NeededPlan, PairPlan, PlanSummary, QuotaPlan, TriplePlan
from qdcgen.rows import Measure

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS = Path(__file__).parent / "snapshots"

HOSTILE = (
    "\x1b[2J\x1b]52;c;cm0gLXJm\x07 [red]bold[/red] [/nope] :smile: | a\\| b `code` ``two``\r\n\n"
    "<script>alert(1)</script> <!-- --> ![i](http://x.test/i) [l](http://x.test) www.x.test @octocat #1 GH-2 "
    "\u202egnp\u2066 \u200b\u200d \x9b31m \x7f \ud800 " + "e" + "\u0301" * 40 + " 漢字 👩\u200d👩\u200d👧 "
    "**b** _i_ ~~s~~ $x$ &amp; \u2028"
)
"""One text with everything that could be read as a command by a terminal, by rich, by Markdown or by GitHub."""

BGE = "bge-small-en-v1.5, int8"


def _gate(name: str, bound: str, value: float | None, line: int, message: str = "") -> GateResult:
    table, _, measure = name.partition(".")
    holds = not message
    return GateResult(table, measure, bound, value, holds, "recipes/bank-support.yaml", line, message)


def _axis(axis: str, told: tuple[float | None, ...], verdict: str, note: str, kind: str = "") -> list[Measure]:
    """The figures of the metric `effects` for one axis: explained, read back, by chance, lost, adjusted p."""
    explained, read, chance, lost, p = told
    measure = partial(Measure, "diversity", n=1990, axis=axis, embedder=BGE)

    def around(x: float | None) -> Any:
        return {"interval": None if x is None else (x - 0.014, x + 0.016), "range": (-1, 1)}

    below: dict[str, Any] = {"control": 0.004, "control_of": "19 of 20 shuffles stay below"}
    shuffled: dict[str, Any] = {"control": 0.002, "control_of": "shuffled values", "note": "share of …"}
    few: dict[str, Any] = {"note": "too few: needs two values with 20 rows each"}
    bound: dict[str, Any] = {"control": 0.05, "control_of": "decorative above"}
    said = f"{axis} is {verdict}; p 0.003 of 999 shuffles, adjusted for 4 axes; {note}"
    return [
        measure("share explained", explained, unit="ε²", note=kind, **around(explained), **below),
        measure("read back", read, control=chance, control_of="commonest value", note="held out; …", **around(read)),
        measure("lost when frozen", lost, **around(lost), **(few if lost is None else shuffled)),
        measure("effect", p, unit="adjusted p", note=said, interval=None if p is None else (p * 0.8, p), **bound),
    ]


def _copied(axis: str, hits: int, chance: float) -> list[Measure]:
    share = hits / 2000
    told = f"{'leaking' if share > 0.01 else 'no more than chance'}: {hits} its name as a label" if hits else ""
    between = (share * 0.7, share * 1.3 + 0.002)
    other: dict[str, Any] = {"control": chance, "control_of": "values of other rows", "note": told}
    return [Measure("diversity", "copied", share, n=2000, axis=axis, interval=between, **other)]


def _positions(axis: str, *, known: bool) -> list[Measure]:
    """The figures of the metric `positions` for one layer: a struct of two numbers that are read back, or a number."""
    names = ("support coverage", "hull", "closest pair", "mean distance", "largest empty ball", "KL to Sobol")
    drawn, read = (1.0, 0.995, 0.00417, 0.333, 0.00347, 0.000216), (0.71, 0.402, 0.00011, 0.21, 0.0871, 0.31)
    uniform = (0.837, 0.99, 1.1e-05, 0.34, 0.014, 0.00513)
    span: dict[str, Any] = {"control_of": "uniform drawing"}
    where = "500 positions in 2 dimensions: risk, patience" if known else "500 positions"
    untold = "the texts do not tell where they stand: no position is read back better than by chance"
    r2 = partial(Measure, "coverage", "position read back", n=500, of="landed", unit="R²", embedder=BGE)
    fits: dict[str, Any] = {"range": (-math.inf, 1), "control": -0.02, "control_of": "shuffled positions"}
    numbers = (".risk", ".patience") if known else ("",)
    between = (0.352, 0.47) if known else (-0.388, -0.0713)
    return [
        *(
            Measure("coverage", name, x, n=500, axis=axis, control=y, note=where, **span)
            for name, x, y in zip(names, drawn, uniform, strict=True)
        ),
        *(r2(sum(between) / 2, axis=f"{axis}{of}", interval=between, **fits) for of in numbers),
        *(
            Measure("coverage", name, x, n=500, axis=axis, of="landed", control=y, note="read from the texts …", **span)
            if known
            else Measure("coverage", name, None, n=500, axis=axis, of="landed", note=untold)
            for name, x, y in zip(names, read, uniform, strict=True)
        ),
    ]  # fmt: skip


def _changes(*figures: tuple[str, float, float, float | None, int]) -> tuple[Change, ...]:
    """Name, figure of the rows that came in, change, half width of its interval, and the size it is taken at."""
    return tuple(
        Change(
            "diversity" if name in {"distance", "Vendi"} else "complexity",
            name,
            came,
            change,
            None if spread is None else (change - spread, change + spread),
            at,
        )
        for name, came, change, spread, at in figures
    )


def _attrition() -> Attrition:
    """A filter that turns down nothing, one that is even-handed, one that is not, and one that too few rows reach."""
    few = tuple(Change("diversity", name, None, None) for name in ("distance", "Vendi", "words", "long words"))
    lost = (
        Loss("topic", False, 1, 12, 0.02, 0.004, ("cards/lost",), 31),
        Loss("topic × trade", True, 90, 1204, 71.4, 0.21, ("cards/lost × naics/111",), 104),
    )
    skews = (
        Skew("topic", "cards/lost", 140, 60, (0.35, 0.511), 2507, 301, 3.57, (2.85, 4.47), 1e-9),
        Skew("label", "urgent", 400, 400, (0.99, 1.0), 2247, 0, None, None, 1e-12),
        *(Skew("tools", f"tool {n}", 90, 30, (0.24, 0.44), 2557, 331, 2.57, (1.9, 3.5), 0.01) for n in range(4)),
    )
    sieves = (
        Sieve("schema", 2856, 2856, 0, (), _changes(("distance", 0.612, 0.0, None, 0), ("Vendi", 41.3, 0, None, 100),
              ("words", 48.0, 0.0, None, 0), ("long words", 0.21, 0.0, None, 0))),
        Sieve("length", 2856, 2646, 0, (Loss("topic", False, 0, 12, 0.004, 1.0, (), 0),),
              _changes(("distance", 0.612, 0.0004, 0.0021, 0), ("Vendi", 41.3, 0.31, 0.95, 100),
                       ("words", 48.0, -12.34, 2.5, 0), ("long words", 0.21, -0.004, 0.0032, 0))),
        Sieve("double_critic", 2647, 2156, 17, lost, _changes(("distance", 0.612, -0.0312, 0.0071, 0),
              ("Vendi", 41.6, -2.81, 1.3, 100), ("words", 35.7, 0.4, 0.9, 0), ("long words", 0.2, 0.001, 0.003, 0)),
              skews),
        Sieve("judge", 12, 9, 1, (), few),
    )  # fmt: skip
    return Attrition(2871, 2856, 40, sieves, 412, BGE)


@pytest.fixture
def bank() -> Report:
    """What a run of the recipe in the design might end with."""
    leaves = tuple(f"cards/{name}" for name in ("lost", "stolen", "pin"))
    many = tuple(f"naics/{code}" for code in range(111, 131))
    uniform, shuffled = "uniform drawing of as many rows", "asked nodes shuffled"
    coverage = [
        Measure(
            "coverage", "nodes, level 1", 1.0, n=1954, axis="topic", interval=None, control=1.0, control_of=uniform
        ),
        Measure(
            "coverage",
            "leaves",
            0.95,
            n=1954,
            axis="topic",
            interval=(0.9123, 0.971),
            control=0.93,
            control_of=uniform,
            missing=leaves,
        ),
        Measure(
            "coverage",
            "evenness",
            0.914,
            n=1954,
            axis="topic",
            interval=(0.902, 0.925),
            control=0.99,
            control_of=uniform,
        ),
        *(
            Measure("coverage", "leaves", value, n=n, axis="topic", control=0.93, control_of=uniform, of=of, note=note)
            for of, value, n, note in (
                ("planned", 1.0, 2000, "what is wanted"),
                ("landed", 0.9, 1911, "where accepted rows landed, read blind by the critic; 49 leaves hold a row …"),
            )
        ),
        Measure(
            "coverage",
            "landed",
            0.871,
            n=1954,
            axis="topic",
            interval=(0.855, 0.885),
            control=0.061,
            control_of=shuffled,
            note="the reader is the recipe's critic, blind to the request",
        ),
        Measure(
            "coverage",
            "kappa",
            0.852,
            range=(-1, 1),
            n=1954,
            axis="topic",
            interval=(0.834, 0.869),
            control=-0.004,
            control_of=shuffled,
        ),
        *(
            Measure(
                "coverage",
                name,
                value,
                range=span,
                n=2871,
                axis="topic",
                interval=bounds,
                control=0.0,
                control_of=shuffled,
                of="raw",
            )
            for name, value, span, bounds in (
                ("landed", 0.733, (0, 1), (0.716, 0.749)),
                ("kappa", -0.0, (-1, 1), (-0.0004, 0.012)),
            )
        ),
        Measure("coverage", "landed at level 1", 0.95, n=1954, axis="topic", interval=(0.939, 0.959)),
        Measure("coverage", "pairs", 0.9, n=2871, axis="topic × trade", interval=(0.88, 0.92), of="raw"),
        Measure(
            "coverage",
            "leaves",
            0.784,
            n=1954,
            axis="trade",
            interval=(0.751, 0.81),
            control=0.802,
            control_of=uniform,
            missing=many,
        ),
        Measure(
            "coverage",
            "landed",
            0.633,
            n=1954,
            axis="trade",
            interval=(0.611, 0.654),
            control=0.02,
            control_of=shuffled,
        ),
        Measure(
            "coverage",
            "pairs",
            0.83,
            n=1954,
            axis="topic × trade",
            interval=(0.811, 0.847),
            control=0.742,
            control_of=uniform,
        ),
        Measure("coverage", "pairs", None, n=3, axis="topic × risk", note="too few: 3 rows, needs 20"),
    ]
    diversity = []
    for of, shift, n in (("raw", 0.0, 2871), ("kept", 0.031, 2000), ("anchor", 0.052, 2000)):
        control: dict[str, Any] = {"control": 0.721, "control_of": "two halves of the anchor"}
        diversity += [
            Measure(
                "diversity",
                "mean cosine distance",
                0.612 + shift,
                range=(0, 2),
                n=n,
                interval=(0.601 + shift, 0.624 + shift),
                of=of,
                embedder=BGE,
                **control,
            ),
            Measure(
                "diversity",
                "Vendi score",
                41.27 + 40 * shift,
                range=(1, math.inf),
                n=500,
                interval=(39.9 + 40 * shift, 42.8 + 40 * shift),
                of=of,
                embedder=BGE,
                control=52.4,
                control_of="two halves of the anchor",
            ),
            Measure(
                "diversity",
                "near duplicates",
                0.104 - 2 * shift if of != "kept" else 0.0002,
                n=n,
                interval=(0.0001, 0.0011) if of == "kept" else (0.0, 0.11),
                of=of,
                embedder=BGE,
            ),
            Measure("diversity", "distinct 3-grams", 0.43 + shift, n=n, interval=(0.42 + shift, 0.44 + shift), of=of),
        ]
    diversity += _axis("mood", (0.12, 0.71, 0.33, 0.081, 0.006), "effective", "3 values, shuffled within mixes")
    diversity += _copied("mood", 37, 0.004)
    diversity += _axis("tools", (-0.002, 0.251, 0.25, 0.004, 1.0), "decorative", "4 values, shuffled within mixes")
    diversity += _copied("tools", 0, 0.0)
    over = "shuffled over all rows: too few rows a mix, so a topic may be part of it"
    diversity += _axis("situation.where they meet", (0.034, 0.31, 0.3, None, 0.02), "effective", f"9 values, {over}")
    diversity += _axis(
        "situation.hour", (0.003, 0.29, 0.2, -0.004, 0.3), "unclear (…)", f"5 values, {over}", "in fifths"
    )
    diversity += [
        Measure("diversity", name, None, n=2000, axis=axis, embedder=BGE, note="too few: 2,000 values over 2,000 rows")
        for axis in ("situation.name", "persona")
        for name in ("share explained", "read back", "lost when frozen", "effect")
    ]
    diversity += _copied("situation", 0, 0.0) + _copied("persona", 2, 0.001)
    coverage += _positions("persona", known=True) + _positions("age", known=False)
    complexity = [
        Measure(
            "complexity",
            "surprisal",
            3.412,
            "nats/token",
            (0, math.inf),
            2000,
            (3.38, 3.45),
            3.71,
            "anchor at equal length",
        ),
        Measure("complexity", "words", 48.0, "words", (0, math.inf), 2000, (47.2, 48.9)),
        Measure("complexity", "hard, asked for", 0.3, n=2000),
        Measure(
            "complexity", "hard, measured", None, n=8, note="unknown: 0 of 8 passed, and 8 are too few to call it hard"
        ),
    ]
    quality = [
        Measure("quality", "accepted by length", 0.927, n=2859, interval=(0.917, 0.936)),
        Measure("quality", "accepted by double_critic", 0.934, n=2649, interval=(0.924, 0.943)),
        Measure(
            "quality",
            "critics agree",
            0.98,
            n=2649,
            interval=(0.974, 0.985),
            control=0.62,
            control_of="chance agreement",
        ),
    ]
    ledger = [
        LedgerLine("", "", 2000, 2871, 12, 3, {"length": 210, "double_critic": 490}, 202, 1954, 46),
        *(
            LedgerLine("topic", leaf, 160, 220, 1, 0, {"length": 20}, 12, 160 - owed, owed)
            for leaf, owed in zip(("cards/lost", "cards/pin", "transfers/pending"), (0, 12, 4), strict=True)
        ),
        *(LedgerLine("trade", f"naics/{code}", 20, 40, 0, 0, {}, 2, 17, 3) for code in range(111, 121)),
    ]
    why = "3 of 60 leaves have no row: cards/lost, cards/stolen, cards/pin; raise target.candidates or forbid them"
    gates = [
        _gate("coverage.leaves", ">= 0.98", 0.95, 52, why),
        _gate("coverage.pairs", ">= 0.8", 0.83, 52),
        _gate("diversity.near_duplicates", "<= 0.02", 0.0002, 53),
        _gate("complexity.hard", "0.2..0.4", None, 54, "not measured: too few"),
    ]
    facts = {
        "run": "runs/bank-support",
        "recipe": "recipes/bank-support.yaml (sha256 9f2c61e0)",
        "model": "embedded, SmolLM2-135M (embedded model: for trying qdcgen, not for training data)",
        "embedder": BGE,
        "qdcgen": "0.1.0",
    }
    remarks = (
        "λ is unknown: the recipe names no anchor. qdcgen trust finds it once there is one.",
        "46 rows are owed; qdcgen run recipes/bank-support.yaml goes on from here.",
    )
    coverage.append(
        Measure(
            "coverage",
            "reader accuracy",
            0.912,
            n=500,
            axis="topic",
            interval=(0.884, 0.934),
            control=0.021,
            control_of="shuffled labels",
            of="anchor",
        )
    )
    confused = (
        Confusion("topic", "kept", "cards/lost", "cards/stolen", 31, 160),
        Confusion("topic", "kept", "transfers/wrong account", "", 9, 160),
        Confusion("topic", "anchor", "cards/pin", "cards/lost", 4, 50),
    )
    measures = (*coverage, *diversity, *complexity, *quality)
    return Report("bank-support", facts, measures, ledger, gates, remarks, confused=confused, attrition=_attrition())


@pytest.fixture
def hostile() -> Report:
    """A report whose every text is hostile, with long and short figures, none, and not a number."""
    values = (0.5, None, math.nan, math.inf, -1e300, 1234567.891, 5e-324)
    measures = [
        Measure(
            "coverage",
            HOSTILE,
            x,
            HOSTILE,
            (0, 1),
            10**9,
            (-math.inf, 1e18),
            x,
            HOSTILE,
            of,
            HOSTILE,
            HOSTILE,
            HOSTILE,
            (HOSTILE,) * 12,
        )
        for x, of in zip(
            values, ("raw", "kept", HOSTILE, "b" * 300, "/data/one.jsonl", "/data/two.jsonl", "anchor"), strict=True
        )
    ]
    measures += [
        replace(measures[0], table="diversity", name=name, of="kept")
        for name in ("share explained", "read back", "lost when frozen", "effect", "copied")
    ]
    measures += [
        replace(measures[0], name=name, of="kept")
        for name in ("support coverage", "hull", "KL to Sobol", "position read back")
    ]
    ledger = [LedgerLine(axis, HOSTILE, 1, 1, 1, 1, {HOSTILE: 1}, 1, 1, 1) for axis in ("", HOSTILE)]
    gates = [replace(_gate("", HOSTILE, math.nan, 3, HOSTILE), table=HOSTILE, measure=HOSTILE, file=HOSTILE)]
    confused = [
        Confusion(HOSTILE, of, HOSTILE, landed, 10**9, 10**12) for of, landed in ((HOSTILE, HOSTILE), ("kept", ""))
    ]
    change = Change("diversity", HOSTILE, 1e300, -1e300, (-math.inf, math.inf), 10**12)
    loss = Loss(HOSTILE, True, 10**9, 10**12, 1e9, 0.0, (HOSTILE,) * 5, 10**12)
    skew = Skew(HOSTILE, HOSTILE, 10**12, 10**9, (0.0, 1.0), 10**12, 10**9, 1e300, (0.0, math.inf), 0.0)
    sieve = Sieve(HOSTILE, 10**12, 10**9, 10**9, (loss,), (change,), (skew,) * 9)
    attrition = Attrition(10**12, 10**12, 10**12, (sieve,), 10**12, HOSTILE)
    facts = {"run": HOSTILE, HOSTILE: HOSTILE}
    return Report(HOSTILE, facts, measures, ledger, gates, (HOSTILE,), confused=confused, attrition=attrition)


@pytest.fixture
def plan() -> PlanSummary:
    """What `qdcgen plan` might tell of the recipe in the design."""
    return PlanSummary(
        recipe="recipes/bank-support.yaml",
        rows=2000,
        mixes_total=8400,
        mixes_planned=1204,
        axes=(AxisPlan("topic", 60, 60, 33, 34), AxisPlan("trade", 1012, 999, 0, 2), AxisPlan("risk", 64, 64, 23, 24)),
        pairs=(
            PairPlan("topic", "risk", 3840, 1500, 1241.4),
            PairPlan("topic", "trade", 60720, 500, 499.6),
            PairPlan("topic", "mood", 180, 180, 179.9, 1500),
        ),
        triples=(
            TriplePlan(("topic", "trade", "risk"), 3886080, 2000, 1999.5),
            TriplePlan(("topic", "risk", "mood"), 11520, 1400, 1410.2, 1500),
        ),
        quotas=(QuotaPlan("topic", "cards/**", 20, 0.2, 400), QuotaPlan("topic", "", 40, 0.8, 1600)),
        needed=(
            NeededPlan("leaves", 1136, 20000, (180, 500, 1900, 2024), (740, 1650, 3071, 4712)),
            NeededPlan("pairs", 64560, 20000, (14000, None, None, None), (41400, 96300, None, None)),
        ),
        batches=63,
        batch_rows=32,
        calls_expected=6200.4,
        calls_most=18000,
        tokens_in_expected=(3.1e6, 4.4e6),
        tokens_out_expected=(410000, 800000),
        usd=(1.234, 3.2),
        examples=(
            {
                "topic": "cards/lost",
                "risk": "fraud/impersonation",
                "mood": "calm",
                "length": "57 words",
                "persona": "Speaks up first, likes a plan, " * 4,
            },
            {"topic": "transfers/pending", "trade": "naics/5221", "mood": "angry", "length": "21 words"},
        ),
        remarks=("the price of openai/qwen3-8b is unknown; set models.local.price to count it",),
    )


@pytest.fixture
def snapshot() -> Callable[[str, str], None]:
    """Compare a whole output with `snapshots/<name>`; QDCGEN_UPDATE_SNAPSHOTS=1 writes it instead."""

    def compare(name: str, text: str) -> None:
        file = SNAPSHOTS / name
        if os.environ.get("QDCGEN_UPDATE_SNAPSHOTS") == "1":
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        expected = file.read_text(encoding="utf-8")
        diff = difflib.unified_diff(expected.splitlines(), text.splitlines(), "expected", "found", lineterm="")
        assert text == expected, f"{file} (QDCGEN_UPDATE_SNAPSHOTS=1 rewrites it)\n" + "\n".join(diff)

    return compare
