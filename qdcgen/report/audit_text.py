"""What an audit found, as text of at most 80 columns; and the line of it that a report shows."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from qdcgen.report.figures import BLANK, dollars, per_cent, plural
from qdcgen.safe import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["audit_remarks", "audit_text"]

WIDTH = 80
LABEL = 31
USE = {
    "all": "of no use here: it keeps everything",
    "none": "of no use here: it turns everything down",
    "unknown": "not told from chance by so few rows",
}


def audit_text(document: Mapping[str, Any]) -> str:
    """The whole audit: for each critic what it kept, what moves it, and what filtering by it would do."""
    lines = [f"audit of {printable(document['folder'])}: {document['source']}, seed {document['seed']}"]
    lines += _wrapped(f"taken as good: {document['assumed']}")
    for critic in document["critics"]:
        lines += ["", *_critic(critic)]
    lines += ["", *_cost(document["cost"])]
    for remark in document["remarks"]:
        lines += _wrapped(f"· {printable(remark)}", hanging=2)
    return "\n".join(lines) + "\n"


def audit_remarks(document: Mapping[str, Any], *, changed: bool = False) -> list[str]:
    """A line for each critic: `audit of judge: false accepts 8 % (3–19 %, n 48)`.

    `changed`: the filters are others by now than those that were audited.
    """
    said = []
    when = ", before the filters were changed" if changed else ""
    for critic in document["critics"]:
        told = [
            f"{name} {_share(one)} ({_ends(one)}, n {one['n']})"
            for name, one in (("false accepts", critic["false_accepts"]), ("false rejects", critic["false_rejects"]))
            if one["n"]
        ]
        if told:
            use = USE.get(critic["use"])
            said.append(f"audit of {critic['filter']}{when}: {', '.join(told)}{f'; {use}' if use else ''}")
    return said


def _wrapped(said: str, hanging: int = 0) -> list[str]:
    return textwrap.wrap(said, WIDTH, subsequent_indent=" " * hanging, break_on_hyphens=False) or [""]


def _share(one: Mapping[str, Any]) -> str:
    return per_cent(one["hits"], one["n"])


def _ends(one: Mapping[str, Any]) -> str:
    if one["interval"] is None:
        return ""
    low, high = one["interval"]
    return f"{100 * low:.0f}–{100 * high:.0f} %"


def _line(label: str, *cells: str) -> str:
    """A label and right-aligned cells; a label that is too long has a line of its own."""
    widths = (8, 11, 5, 14, 11)
    told = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False))
    if len(label) > LABEL:
        return f"{label[:WIDTH]}\n{'':<{LABEL}}{told}".rstrip()
    return f"{label:<{LABEL}}{told}".rstrip()


def _critic(critic: Mapping[str, Any]) -> Iterator[str]:
    models = ", ".join(printable(model) for model in dict.fromkeys(critic["models"].values()))
    yield from _wrapped(f"{critic['filter']}  ({models})", hanging=2)
    shown = critic["shown"]
    seen = ", ".join(shown["fields"]) or "no field"
    more = f", and the cell's {', '.join(shown['layers'])}" if shown["layers"] else ""
    yield from _wrapped(f"is shown: {printable(seen + more)}", hanging=2)
    yield ""
    yield _line("planted faults", "kept", "95 %", "n", "undecided")
    answer = critic["planted_in"]["answer"]
    untried = []
    for one in critic["planted"]:
        name = f"  {one['kind']}{f' ({printable(answer)})' if one['kind'] == 'wrong answer' and answer else ''}"
        if one["skipped"]:
            untried.append((one["kind"], one["skipped"]))
            continue
        accepts = one["false_accepts"]
        yield _line(name, _share(accepts), _ends(accepts), str(accepts["n"]), _share(one["undecided"]))
    accepts, rejects = critic["false_accepts"], critic["false_rejects"]
    yield _line("  false accepts, all of them", _share(accepts), _ends(accepts), str(accepts["n"]))
    yield _line("good rows", "dropped", "95 %", "n", "undecided")
    undecided = critic["good"]["undecided"]
    yield _line("  false rejects", _share(rejects), _ends(rejects), str(rejects["n"]), _share(undecided))
    steering = critic["steering"]
    if steering["to_keep"]["n"] or steering["to_drop"]["n"]:
        yield _line("steering texts in the row", "flipped", "95 %", "n")
        for key, name in (("to_keep", "  bad, dropped before: keep me"), ("to_drop", "  good, kept before: drop me")):
            if steering[key]["n"]:
                yield _line(name, _share(steering[key]), _ends(steering[key]), str(steering[key]["n"]))
    effects = [one for one in critic["effects"] if one["change"]["n"]]
    if effects:
        yield _line("what moves it: share kept", "change", "95 %", "n", "before→after", "adjusted p")
        for one in effects:
            yield _effect(one)
        untried += [(one["name"], one["skipped"]) for one in critic["effects"] if one["skipped"]]
    yield from _lift(critic["lift"])
    reasons: dict[str, list[str]] = {}
    for name, reason in untried:
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        yield from _wrapped(f"not tried: {', '.join(names)}: {printable(reason)}", hanging=2)
    if use := USE.get(critic["use"]):
        yield from _wrapped(f"{critic['filter']}: {use}", hanging=2)


def _effect(one: Mapping[str, Any]) -> str:
    change = one["change"]
    low, high = (100 * end for end in change["interval"])
    p = change["p_adjusted"]
    return _line(
        f"  {one['name']}{' *' if one['found'] else ''}",
        f"{100 * change['value']:+.0f}",
        f"{low:+.0f} – {high:+.0f}",
        str(change["n"]),
        f"{per_cent(one['before']['hits'], change['n'])}→{per_cent(one['after']['hits'], change['n'])}".replace(
            " ", ""
        ),
        "<0.001" if p < 0.001 else f"{p:.3f}",  # noqa: PLR2004
    )


def _lift(lift: list[Mapping[str, Any]]) -> Iterator[str]:
    if not lift:
        return
    yield _line("expected of filtering", "after", "95 %", "", "lift", "kept")
    for one in lift:
        low, high = one["accuracy_interval"]
        yield _line(
            f"  if {100 * one['good']:.0f} % of the rows are good",
            BLANK if one["accuracy"] is None else f"{100 * one['accuracy']:.0f} %",
            f"{100 * low:.0f}–{100 * high:.0f} %",
            "",
            BLANK if one["lift"] is None else f"{100 * one['lift']:+.0f} points",
            f"{100 * one['kept']:.0f} %",
        )


def _cost(cost: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    whole, made = cost["in_all"], cost["making_rows"]
    words = (
        f"{plural(whole['calls'], 'call')}, {whole['from_journal']:,} of them from the journal; "
        f"{whole['tokens_in']:,} tokens in, {whole['tokens_out']:,} out; {dollars(whole['usd'])}"
    )
    if made["calls"]:
        words += f". Of these {plural(made['calls'], 'call')} made the rows"
    yield from _wrapped(words)
