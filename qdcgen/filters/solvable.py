r"""Filter `solvable`: a solver that does not see the answer must come to it.

Answers are compared by rule, after writing both alike: `\boxed{\frac{1}{2}}`, `1/2` and `0.50` are one answer.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from qdcgen.critics import answered, ask, clipped, of_row, undecided, unknown_fields
from qdcgen.errors import RowFault
from qdcgen.parts import Filter, Graded, Problem
from qdcgen.prompts import DATA, unknown_alias
from qdcgen.rows import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qdcgen.parts import Scene, Tools
    from qdcgen.rows import Row

SYSTEM = (
    "You solve one task, given as JSON. Work it out first, in short steps; then give the result alone: the number, "
    "letter, label or short phrase that is asked for, without a sentence around it. " + DATA
)
QUESTION = "What is the result?"
WORKING: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 2000}
SHORT: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 300}
_PLAIN = frozenset({"string", "number", "integer", "boolean"})

How = Literal["exact", "number", "choice", "contains"]


class Solvable(Filter):
    r"""Gives the question to a solver that never sees the answer; keeps the row when it comes to the row's answer.

    What is compared is decided by rule, not by a model. Both answers are first written alike: case, spaces, quotes and
    full stops at the ends, `\boxed{}`, `\frac`, `\text` and other LaTeX marks do not count; 1,000 is 1000.0, 1/2 is
    0.5, 50% is 0.5 and 50, $5 is 5 dollars and 5, but 5 km is not 5 m. `exact` takes the whole answer, `number` the
    last number in it (`tolerance` allows a difference), `choice` its letter, `contains` looks for the row's answer as
    words in the solver's. A field with an `enum` is answered by one of its values.

    With `tries` the solver is asked so often, each time with another seed at its own temperature; the score is the
    share of tries that agree. A try without an answer that fits does not agree, and is told; none at all is undecided,
    which is never kept. One call a try. What makes it lie: rows that are too hard for the solver are dropped with
    those that are wrong, so the kept ones are easier: read the complexity table beside it. A solver that is the writer
    repeats its errors.

    Source: the generation-verification gap (arXiv 2412.02674); self-consistency (arXiv 2203.11171).
    """

    critic: ClassVar[bool] = True

    question: Annotated[tuple[str, ...], Field(min_length=1)]
    """Field or fields that the solver sees."""
    answer: str = Field(min_length=1)
    """Field that holds the answer."""
    tries: int = Field(default=1, ge=1, le=64)
    """Times that the solver is asked."""
    at_least: int = Field(default=1, ge=1)
    """Tries that must agree."""
    compare: How | None = None
    """How answers are compared; default: `number` for a field of numbers, otherwise `exact`."""
    tolerance: float = Field(default=0.0, ge=0, le=1)
    """For numbers: largest difference, as a share of the row's answer."""
    model: str | None = None
    """Alias of the solver; default: the first model. Another one than the writer's is worth more."""

    @field_validator("question", mode="before")
    @classmethod
    def _one_field(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _reachable(self) -> Solvable:
        if self.at_least > self.tries:
            raise ValueError(f"at_least: {self.at_least} is more than tries: {self.tries}")
        if self.answer in self.question:
            raise ValueError(f"the solver would see the answer: {self.answer!r} stands under question: as well")
        return self

    def graded(self) -> Graded:
        """By the share of tries that agree."""
        return Graded(self.at_least / self.tries)

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias and the fields exist; the answer is something that can be compared."""
        yield from unknown_alias(scene, model=self.model)
        yield from unknown_fields(scene, "question", self.question)
        missing = list(unknown_fields(scene, "answer", (self.answer,)))
        yield from (Problem(("answer",), one.message) for one in missing)
        schema = scene.fields.get(self.answer, {})
        if not missing and "enum" not in schema and schema.get("type", "string") not in _PLAIN:
            message = f"{self.answer!r} is of type {schema['type']}; name a field of one text, number or label"
            yield Problem(("answer",), message)

    def calls(self, axes: int) -> float:  # noqa: ARG002
        """One a try."""
        return float(self.tries)

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """One verdict a row; rows without a question or an answer are undecided without a call."""
        schema = self._schema(tools.fields.get(self.answer, {}))
        whole = [row for row in rows if self.answer in row.fields and set(self.question) & set(row.fields)]
        said = await answered(self._try(row, number, schema, tools) for row in whole for number in range(self.tries))
        tries = {row.id: said[place * self.tries : (place + 1) * self.tries] for place, row in enumerate(whole)}
        how = self.compare or (
            "number" if schema["properties"]["result"].get("type") in {"number", "integer"} else "exact"
        )
        return [
            self._verdict(row.fields[self.answer], tries[row.id], how)
            if row.id in tries
            else undecided(f"the row has no {self.answer}, or nothing to answer")
            for row in rows
        ]

    def _schema(self, field: Mapping[str, Any]) -> dict[str, Any]:
        """The form of a solution; the working comes first, by the alphabet too, and the result is drawn from it."""
        free = field.get("type") not in {"number", "integer", "boolean"}
        result = {"enum": field["enum"]} if "enum" in field else SHORT if free else {"type": field["type"]}
        return {
            "type": "object",
            "properties": {"reasoning": WORKING, "result": result},
            "required": ["reasoning", "result"],
            "additionalProperties": False,
        }

    async def _try(self, row: Row, number: int, schema: Mapping[str, Any], tools: Tools) -> Any:
        several = self.tries > 1
        said = await ask(
            tools,
            self.model,
            SYSTEM,
            of_row(row, self.question, tools),
            QUESTION,
            schema,
            temperature=None if several else 0.0,
            seed=f"try {number}" if several else None,
        )
        return said["result"]

    def _verdict(self, wanted: Any, said: Sequence[Any], how: How) -> Verdict:
        faults = [one for one in said if isinstance(one, RowFault)]
        if len(faults) == len(said):
            return undecided(f"the solver gave no answer that fits: {faults[0]}")
        results = [one for one in said if not isinstance(one, RowFault)]
        others = [one for one in results if not agree(wanted, one, how, self.tolerance)]
        agreeing = len(results) - len(others)
        score = agreeing / len(said)
        if agreeing >= self.at_least:
            return Verdict(kept=True, score=score)
        tally = "" if self.tries == 1 else f"{agreeing} of {self.tries} tries agree, {self.at_least} wanted; "
        silent = f" ({len(faults)} without an answer that fits)" if faults else ""
        met = f"solver: {others[0]}, row: {wanted}" if others else f"row: {wanted}"
        return Verdict(kept=False, reason=clipped(f"{tally}{met}{silent}"), score=score)


# ── when two answers are one ────────────────────────────────────────────────────────────────────────────────────────


class Quantity(NamedTuple):
    """A number with what stands behind or before it: `%`, `$`, `km`, or nothing."""

    value: Fraction
    unit: str
    loose: bool
    """Whether the unit may be left out: 12 apples are 12, but 2k is not 2."""


def agree(wanted: Any, found: Any, how: How = "exact", tolerance: float = 0.0) -> bool:
    """Whether `found` is the answer `wanted`."""
    one, other = alike(wanted), alike(found)
    if how == "choice":
        return bool(_choice(one)) and _choice(one) == _choice(other)
    if how == "contains":
        return bool(one) and re.search(rf"(?<!\w){re.escape(one)}(?!\w)", other) is not None
    if how == "exact" and one.replace(" ", "") == other.replace(" ", ""):
        return bool(one)
    read = quantity if how == "exact" else last_quantity
    a, b = read(one), read(other)
    return a is not None and b is not None and _equal(a, b, tolerance)


def _equal(a: Quantity, b: Quantity, tolerance: float) -> bool:
    if a.unit != b.unit and not ((a.loose and not b.unit) or (b.loose and not a.unit)):
        return False
    values = [a.value]
    if "%" in (a.unit, b.unit) and a.unit != b.unit:  # 50% is 0.5, and where per cent are asked for it is 50
        values.append(a.value / 100 if a.unit == "%" else a.value * 100)
    return any(abs(value - b.value) <= abs(value) * Fraction(tolerance) for value in values)


_WORDS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "“": '"', "”": '"', "’": "'", "π": "\\pi"})
_LATEX: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), said)
    for pattern, said in (
        (r"\\[,;:!]|\\ (?=\S)|\{,\}(?=\d)|\\(?:left|right|displaystyle|quad|qquad|limits)\b(?!\w)", ""),
        (r"\{,\}", ","),
        (r"(?<=\d)\s+(?=\\(?:pi|sqrt)\b)", ""),  # 8 \pi is no number with a unit
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"\\sqrt\s*(\d|[a-z])", r"\\sqrt{\1}"),
        (r"\^\{?\\circ\}?|\\degree\b|\bdegrees?\b", "°"),
        (r"\\(?:cdot|times)\b", "*"),
        (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 "),
        (r"\\([%$&#_{}])", r"\1"),
        (r"\\[()\[\]]|(?<!\S)\$\$?(?=\D)|(?<=\S)\$\$?(?!\S)", ""),
    )
)
_NESTED = (
    (re.compile(r"\\frac\s*\{((?:[^{}]|\{[^{}]*\})*)\}\s*\{((?:[^{}]|\{[^{}]*\})*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\sqrt\s*\{([^{}]*)\}"), r"sqrt(\1)"),
)
"""Applied twice, since one may stand in another."""
_ONE = r"-?(?:sqrt\([\w.]+\)|[\w.]+)"
_ATOM = re.compile(rf"(?<![\w)])\(({_ONE})\)(?!\w)")
_RATIO = re.compile(rf"^(-?)\(({_ONE})/({_ONE})\)$")
_LAYERS = 8
"""Marks and brackets around an answer that are taken off, one in another; a row may hold ten thousand."""
_ENDS = " \t\n.,;:!?\"'`*"
_SAYS = re.compile(
    r"^(?:(?:so|thus|therefore|hence),? )?(?:the |my )?(?:final |correct )?(?:answer|result|solution) ?(?:is|:|=) ?"
)


def alike(value: Any) -> str:
    r"""An answer as it is compared: lower case, single spaces, no marks at its ends, LaTeX in plain signs."""
    return _written(str(value))


@lru_cache(maxsize=1024)
def _written(said: str) -> str:
    text = _boxed(said.translate(_WORDS)).strip()
    if len(text) > 1 and text[0] == text[-1] == "$":
        text = text.strip("$")
    for pattern, plain in (*_LATEX, *_NESTED, *_NESTED):
        text = pattern.sub(plain, text)
    text = re.sub(r"(?<=[\^_])\{([^{}]*)\}", r"(\1)", text)
    text = re.sub(r"\\(?=[a-z])", "", text)
    text = " ".join(text.casefold().split())
    for _ in range(_LAYERS):
        text = _ATOM.sub(r"\1", text).lstrip(_ENDS.replace(".", "")).rstrip(_ENDS)
        text = _RATIO.sub(r"\1\2/\3", text)
        text = _SAYS.sub("", text)
    return text


def _boxed(text: str) -> str:
    r"""What stands in the last `\boxed{…}`, else the text."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return text
    begin, depth = start + len("\\boxed{"), 1
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place]
    return text[begin:]


_NUMBER = r"(?:(?:\d{1,3}(?:,\d{3}){1,12}|\d{1,40})(?:\.\d{1,40})?|\.\d{1,40})"
_WORD = r"[a-z]+(?:\^?[23²³])?"
_UNIT = re.compile(rf"[°%$€£¥]\s?[a-z]?|{_WORD}(?:/{_WORD})?(?: [a-z]+){{0,2}}")
_QUANTITY = re.compile(
    r"(?P<sign>[-+]?)\s?(?P<money>[$€£¥]?)\s?(?P<inner>-?)"
    rf"(?:(?P<whole>\d{{1,40}}) (?=\d+/))?(?P<over>{_NUMBER})(?:\s?/\s?(?P<under>{_NUMBER}))?"
    r"(?:e(?P<power>[-+]?\d{1,2})|\s?\*\s?10\^\(?(?P<ten>-?\d{1,2})\)?)?"
)
_NAMES = {
    "percent": "%",
    "per cent": "%",
    "dollar": "$",
    "usd": "$",
    "euro": "€",
    "eur": "€",
    "gbp": "£",
    "degree": "°",
}


_PER_CENT = re.compile(r"\s*%")


def quantity(text: str) -> Quantity | None:
    """The number that all of `text` is, with its unit; None where it is something else."""
    found = _QUANTITY.match(text)
    if found is None or (text[found.end() :].strip() and not _UNIT.fullmatch(text[found.end() :].strip())):
        return None
    return _read(found, text[found.end() :])


def last_quantity(text: str) -> Quantity | None:
    """The number that `text` is, or else the last one in it, without the word behind it."""
    whole = quantity(text)
    if whole is not None:
        return whole
    read = None
    for found in _QUANTITY.finditer(text):
        read = _read(found, "%" if _PER_CENT.match(text, found.end()) else "") or read
    return read


def _read(found: re.Match[str], rest: str) -> Quantity | None:
    under = Fraction((found["under"] or "1").replace(",", ""))
    if not under:
        return None
    value = Fraction(found["over"].replace(",", "")) / under + int(found["whole"] or 0)
    value *= Fraction(10) ** int(found["power"] or found["ten"] or 0)
    word = found["money"] or rest.strip()
    unit = word[:-1] if word.endswith("s") and len(word) > 2 else word  # noqa: PLR2004  apples, but not s and ms
    loose = bool(unit) and (not unit[0].isalpha() or (rest[:1] == " " and len(unit) > 1))
    negative = (found["sign"] == "-") != (found["inner"] == "-")
    return Quantity(-value if negative else value, _NAMES.get(unit, unit), loose)


_LETTER = re.compile(r"^(?:option |choice |answer )?\(?([a-z])(?:[).:,]|$|\s*[-:]\s)")


def _choice(text: str) -> str:
    """The letter of a choice: `B`, `(B)`, `B) Paris`, `option b`; empty where there is none."""
    found = _LETTER.match(text)
    return found[1] if found else ""
