r"""Text from data, made harmless for a terminal, a log or a page.

A row, a node's name or a provider's error can hold bytes that move the cursor, set the clipboard, reverse the reading
order or hide words. Here each such character becomes an escape that can be seen: `\x1b`, `\u202e`. Letters of every
alphabet and emoji stay as they are, also where they need joiners or marks. The escapes are for eyes: a text that holds
the six characters `\u202e` looks the same afterwards, so nothing may read them back.
"""

from __future__ import annotations

import re
from functools import cache

__all__ = ["of_no_turn", "printable", "printable_json"]

# Never shown: C0 and C1 controls, DEL, soft hyphen, grapheme joiner, blank letters of Hangul and Khmer, every
# zero-width space and direction mark, line and paragraph separators, lone surrogates, interlinear and musical controls.
_NEVER = (
    r"\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
)
_JOINERS = r"\u200c\u200d"  # written in Persian, in Indic scripts and inside emoji
_VARIANTS = r"\ufe00-\ufe0f"  # ❤ against ❤️
_IDEOGRAPH_VARIANTS = r"\U000e0100-\U000e01ef"
_TAGS = r"\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
_MARKS = r"\u0300-\u034e\u0350-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_JOINED = r"\u0590-\u1fff\u2100-\u2bff\u2c80-\ud7ff\uf900-\ufe0f\ufe70-\ufefc\U00010000-\U0003ffff"
_IDEOGRAPHS = r"\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"

_SUSPECT = re.compile(f"[{_NEVER}{_JOINERS}{_VARIANTS}{_IDEOGRAPH_VARIANTS}{_TAGS}{_MARKS}]")
_SUSPECT_IN_LINES = re.compile(_SUSPECT.pattern.replace(r"\x00-\x1f", r"\x00-\x08\x0b-\x1f"))


@cache
def _harmful() -> re.Pattern[str]:
    """Compiled on first need: 6 ms that plain text never pays."""
    return re.compile(
        # Flags such as Scotland's are spelt in tag characters; anywhere else tags are a way to hide a message.
        r"(?P<flag>\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{2,6}\U000e007f)"
        f"|[{_NEVER}{_TAGS}]"
        f"|(?<![{_JOINED}])[{_JOINERS}]"
        f"|(?<=[{_VARIANTS}])[{_VARIANTS}]"
        f"|(?<![{_IDEOGRAPHS}])[{_IDEOGRAPH_VARIANTS}]"
        # No language stacks nine marks on one letter; a hundred of them write over the lines above.
        f"|(?<=[{_MARKS}]{{8}})[{_MARKS}]"
    )


_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_LATIN, _BASIC = 0x100, 0x10000


def _escape(character: str) -> str:
    code = ord(character)
    if code < _LATIN:
        return _SHORT.get(character) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _BASIC else f"\\U{code:08x}"


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with every character that is not plainly visible shown as an escape such as `\x1b` or `\u202e`.

    With `lines`, newlines and tabs stay; otherwise they become `\n` and `\t`, so the result is one line. Text without
    suspect characters is returned as it is, after one search.
    """
    suspect, stay = (_SUSPECT_IN_LINES, "\n\t") if lines else (_SUSPECT, "")
    if suspect.search(text) is None:
        return text
    return _harmful().sub(lambda found: found[0] if found["flag"] or found[0] in stay else _escape(found[0]), text)


def _escape_json(character: str) -> str:
    code = ord(character)
    if code < _BASIC:
        return f"\\u{code:04x}"
    high, low = divmod(code - _BASIC, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def printable_json(document: str) -> str:
    r"""The same JSON, with what `printable` would escape written as JSON's own `\u` escapes: the values are unchanged.

    `document` is serialised JSON, in which controls below 0x20 inside strings are escaped already; newlines and tabs
    between the values stay.
    """
    if _SUSPECT_IN_LINES.search(document) is None:
        return document
    return _harmful().sub(
        lambda found: found[0] if found["flag"] or found[0] in "\r\n\t" else _escape_json(found[0]), document
    )


# What chat templates are made of: <|im_end|>, <|eot_id|>, and the same with full-width bars; <s>; [INST]; <<SYS>>.
_TURN = re.compile(
    r"<(?=[|｜][^\s<>]{1,60}[|｜]>"
    r"|/?(?:s|bos|eos|unk|pad|sop|eop|start_of_turn|end_of_turn|end_of_utterance)>"
    r"|<?/?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK)\])"
)


def of_no_turn(text: str) -> str:
    """`text` with a space in every word by which a chat template ends a turn or opens one: `< |im_end|>`, `[ INST]`.

    Runtimes read such words as control tokens also where they stand in a message's content: a row that holds
    `<|im_end|>` and `<|im_start|>system` would otherwise speak as the system.
    """
    return _TURN.sub(lambda found: f"{found[0]} ", text)
