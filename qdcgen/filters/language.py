"""The filter `language`: the text is in a language that was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import copy
from functools import cache
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, field_validator

from qdcgen.errors import nearest
from qdcgen.parts import Filter, Graded, Problem, Scene, Tools, is_text
from qdcgen.rows import Row, Verdict

_KNOWN = """
ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv fy ga
gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la lb lg lij
ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so
sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu
"""
KNOWN = tuple(_KNOWN.split())
"""What the model tells apart, by ISO 639 code. A copy, so that `check` need not load the model."""

_RIVALS = """
ar az bg bn ca cs da de el en es et fa fi fr gu he hi hr hu hy id it ja ka kk km kn ko lt lv mk ml mn mr ms my ne nl no
pa pl ps pt ro ru si sk sl so sq sr sv sw ta te th tl tr uk ur uz vi zh
"""
RIVALS = tuple(_RIVALS.split())
"""What a text can be besides the wanted languages. With all 139, of 13,083 English messages 35 are taken for another
language, without the smallest 75 only 7: a short text otherwise turns out Nigerian Pidgin or Venetian."""

FEWEST = 3
MOST = 4_000
"""Words from which a language can be told, and characters that are read."""

_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W\d_{_UNSPACED}]+")
"""Runs of letters; each letter alone in scripts that put no space between words (Thai, Burmese, Khmer, kana, Han)."""
_NO_LANGUAGE = re.compile(r"https?://\S+|(?<!\S)@*[^\s@]+@\S+\.\S+|www\.\S+")
"""Addresses. One of mail is looked for where a word begins and nowhere else: 1 s for 4,000 characters of `a@` else."""


class Language(Filter):
    """Keeps rows whose text is in the language `is`, or in one of several; told offline, by py3langid's naive Bayes.

    The score is the probability of the wanted languages against the likeliest other one: from 0.5 on, no other is
    likelier. A text of fewer than three words (three letters, where a script has no spaces) cannot be told, and is
    kept without a score.

    At 0.5 `en` drops 6 of 13,074 real bank messages (12 words on average), 45 of 20,192 turns of real dialogues
    (mostly names of places) and none of 300 web texts, and keeps none of 69 short messages in nine other languages.
    A text in two languages counts as the one that fills more of it. Code, tables and lists of names have no language:
    name the `field` that holds prose. Neighbours such as `id` and `ms`, `hr` and `sr`, or `no` and `da` are easily
    confused in a short text: name both.
    """

    model_config = ConfigDict(populate_by_name=True)

    short: ClassVar[str | None] = "is_"

    is_: tuple[str, ...] = Field(alias="is", min_length=1)
    """Language or languages that are wanted, by two-letter code (ISO 639), e.g. `en` or `[en, de]`."""
    at_least: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which a row is kept."""
    field: str | None = None
    """Field to look at; default: all text fields together."""

    @field_validator("is_", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, (list, tuple)):
            return listed
        codes = [_code(one) if isinstance(one, str) else one for one in listed]
        for given, code in zip(listed, codes, strict=True):
            if isinstance(code, str) and code not in KNOWN:
                close = nearest(given, list(KNOWN))
                raise ValueError(f"no language called {given!r}{close}; expected an ISO 639 code such as en, de, zh")
        return tuple(dict.fromkeys(codes))

    def graded(self) -> Graded | None:
        """By probability."""
        return Graded(self.at_least)

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The field exists and holds text."""
        if self.field is None:
            return
        if self.field not in scene.fields:
            yield Problem(("field",), f"no field called {self.field!r}{nearest(self.field, list(scene.fields))}")
        elif not is_text(scene.fields[self.field]):
            yield Problem(("field",), f"field {self.field!r} holds no text, so it has no language")

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """The likeliest language and how sure of it, where it is another one."""
        return [self._one(self._text(row, tools)) for row in rows]

    def _text(self, row: Row, tools: Tools) -> str:
        """The text that is read; a word out of a list is no text, and says `high` in every language."""
        free = [name for name in row.fields if "enum" not in tools.fields.get(name, {})]
        names = [self.field] if self.field else free
        values = [row.fields.get(name) for name in names]
        return "\n".join(value for value in values if isinstance(value, str))

    def _one(self, text: str) -> Verdict:
        read = _NO_LANGUAGE.sub(" ", text[:MOST])
        words = sum(1 for _ in _WORDS.finditer(read))
        if words < FEWEST:
            return Verdict(kept=True, reason=f"too short to tell its language: {words} word{'s' * (words != 1)}")
        found = _probabilities(read, self.is_)
        others = [(p, code) for code, p in found.items() if code not in self.is_]
        against, other = max(others, default=(0.0, "none"))
        held = sum(found[code] for code in self.is_)
        score = held / (held + against)
        if score >= self.at_least:
            return Verdict(kept=True, score=score)
        said = f"language is {other}, not {' or '.join(self.is_)}" if against > held else f"language may be {other}"
        return Verdict(kept=False, reason=f"{said}: {score:.2f}, below {self.at_least:.2f}", score=score)


def _code(name: str) -> str:
    """`en-GB` and `EN` are `en`; Bokmål is what the model calls Norwegian."""
    code = re.split(r"[-_]", name.strip().lower())[0]
    return "no" if code == "nb" else code


def _probabilities(text: str, wanted: tuple[str, ...]) -> dict[str, float]:
    """Language → probability, among the wanted ones and their rivals."""
    return dict(_identifier(wanted).rank(text))


@cache
def _identifier(wanted: tuple[str, ...]) -> Any:
    """The model narrowed to what a text can be."""
    made = copy(_model())
    made.set_languages(sorted({*RIVALS, *wanted}))
    return made


@cache
def _model() -> Any:
    """Read once a process: 0.4 s."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
