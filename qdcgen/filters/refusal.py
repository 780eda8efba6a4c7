"""The filter `refusal`: the model wrote the text, and not about writing it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from qdcgen.errors import nearest
from qdcgen.parts import Filter, Problem, Scene, Tools
from qdcgen.rows import Row, Verdict
from qdcgen.wording import first_matches, quoted, regex_fault, texts

Kind = Literal["apology", "meta", "placeholder"]

# What a model is asked to do and refuses; a customer who cannot log in, transfer or find a card refuses nothing.
_CANNOT = (
    r"(?:can(?:['’]?t|not| not)|(?:won['’]t|will not)(?: be able to)?"
    r"|(?:['’]?m| am|['’]re| are)? ?(?:unable|not able|not allowed|not permitted|not programmed) to)(?: \w+ly)?"
)
_REQUEST = (
    r"(?:(?:help|assist)(?: you)?(?: with (?:that|this|it|such|(?:your|the) (?:request|task"
    r"|question))\b|(?= *(?:[.!]|$)))"
    r"|fulfil\w* (?:that|this|your|the|such)\b|comply(?: with (?:that|this|your|the request)| *[.!])"
    r"|(?:generate|create|write|produce|compose|craft|draft|provide)\s(?:that|this|such|explicit|harmful"
    r"|the (?:requested|content|text)|any (?:content|text|such)|content|text"
    r"|an? (?:\w+ ){0,3}?(?:response|text|message|story|scenario|dialogue|conversation|review|script"
    r"|poem|reply|e-?mail)"
    r" (?:that|about|which|from|for|like|containing|with|in the|depicting|promoting|where))\b"
    r"|(?:engage|participate) in (?:that|this|such|any|conversations?|discussions?|role)"
    r"|continue (?:with )?(?:this|that|the) (?:conversation|request|role|story|topic))"
)
_THAT = r"(?:do|say|answer|discuss|share|respond to|talk about) (?:that|this|your)\b"
_AI = r"(?:an? )?(?:ai\b|artificial intelligence|(?:large |big )?language model)"
_SURE = r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|understood|got it)[ !,.:—–-]{1,3}\s*"
_PIECE = (
    r"(?:message|text|e-?mail|response|reply|json|rewrite|rewritten|revision|version|draft|scenario|dialogue"
    r"|conversation|example|sample|output|object|row|description|paragraph|sentence)s?"
)

_STARTS: dict[str, tuple[str, ...]] = {
    "apology": (
        (
            rf"(?:(?:i['’]?m|i am|we['’]re|we are)\s)?(?:(?:so|very|really|truly|deeply) )?(?:sorry"
            rf"|afraid)\b[^?\n]{{0,30}}?"
            rf"\b(?:i|we) ?{_CANNOT} (?:{_REQUEST}|{_THAT})"
        ),
        (
            rf"(?:my |our |i )?(?:sincere |deepest |must )?apolog\w+\b[^?\n]{{0,40}}?\b(?:i|we) ?{_CANNOT}"
            rf" (?:{_REQUEST}|{_THAT})"
        ),
        rf"(?:(?:unfortunately|regrettably|sorry|no)\W{{1,3}})?(?:i|we) ?{_CANNOT} {_REQUEST}",
        (
            r"i (?:must|have to|need to|will have to) (?:respectfully |politely )?decline (?:this|that"
            r"|your|the request|to (?:\w+ ){0,2}write)"
        ),
        (
            r"i (?:do not|don['’]t|would not|wouldn['’]t) feel comfortable \w+ing (?:this|that|such"
            r"|content|text|an?|any)\b"
        ),
        (
            r"it (?:is|isn['’]t|would be|wouldn['’]t be|would not be) (?:not"
            r" )?(?:in)?(?:un)?(?:appropriate|ethical)\b[^.!?\n]{0,30}? to"
            r" (?:generate|create|write|produce|provide)\b"
        ),
        r"i['’]?m (?:just|only) an? ai\b",
        r"(?:this|that|your|the) (?:request|prompt) (?:violates|goes against|is against|is not something i)\b",
        # German, French, Spanish, Chinese, Japanese.
        (
            r"(?:es )?(?:tut mir|tut uns) (?:sehr )?leid\b[^.!?\n]{0,50}?\b(?:ich|wir|dabei|das|damit)\b[^.!?\n]{0,60}?"
            r"\bnicht (?:weiter)?(?:helfen|behilflich|erstellen|schreiben|verfassen|beantworten|generieren|erfüllen)\b"
        ),
        (
            r"leider (?:kann|darf) ich\b[^.!?\n]{0,40}?\b(?:anfrage|inhalte?|bitte|text|dabei|damit)\b[^.!?\n]{0,30}?"
            r"\bnicht (?:helfen|erstellen|schreiben|verfassen|beantworten|generieren|erfüllen)\b"
        ),
        (
            r"(?:je (?:suis|m['’]excuse)|désolée?)\b[^.!?\n]{0,40}?\bje ne (?:peux|suis|puis)\b[^.!?\n]{0,40}?"
            r"\b(?:aider|répondre à (?:cette|votre)|générer|rédiger|écrire|produire|fournir (?:ce|de"
            r"|une?)|satisfaire)\b"
        ),
        (
            r"(?:lo siento|lo lamento|disculpa|perdón)\b[^.!?\n]{0,20}?\bno (?:puedo|podemos)\b[^.!?\n]{0,20}?"
            r"\b(?:ayudar(?:te|le)? con (?:eso|est[ao]|esa)|generar|crear (?:ese|este|una?|contenido)|escribir|redactar"
            r"|cumplir|proporcionar (?:ese|este|contenido))\b"
        ),
        (
            r"(?:很|非常|十分)?(?:抱歉|对不起|對不起)[^。！？\n]{0,14}(?:无法|不能|無法|没办法)[^。！？\n]{0,12}?"
            r"(?:生成|撰写|创作|编写|写出|满足|完成|回答|协助|帮助|提供(?:此|该|这|相关)|滿足|協助|撰寫)"
        ),
        (
            r"(?:大変)?(?:申し訳|すみません|ごめんなさい)[^!?！？\n]{0,30}?(?:生成|作成|執筆|お手伝い|お答え|回答)"
            r"[^。！？\n]{0,8}?(?:でき|いたしかね|しかね|出来)"
        ),
    ),
    "meta": (
        (
            rf"(?:{_SURE})?(?:here(?:['’]s| is| are)|below (?:is|are)|the following is|this is)\s(?:\w+[\s-]){{0,6}}?"
            rf"{_PIECE}\b[^.!?\n]{{0,100}}(?::|\.?[ \t]*\n)"
        ),
        rf"{_SURE}here (?:it is|they are|you go)\W*[:\n{{]",
        (
            rf"{_SURE}i(?:['’]ll| will| can| have|['’]ve) (?:wr[io]te|written|created?|generated?"
            rf"|draft(?:ed)?|composed?|rewr[io]te"
            rf"|rewritten)\s(?:\w+[\s-]){{0,6}}?{_PIECE}\b"
        ),
        (
            r"(?:this|the following|the above) (?:\w+ ){0,3}?(?:message|text|response|scenario|dialogue|example)"
            r" (?:is|was|has been) (?:written|generated|created|composed|rewritten)\b"
        ),
        (
            r"(?:rewritten|revised|improved|generated|final|updated) (?:message|text|scenario|version"
            r"|reply|response)\W{0,3}:"
        ),
        r"```(?:json)?\s*\{",
        r"(?:instruction|input|response|output|assistant|system)s? ?:\s*\n",
        # German, French, Spanish, Chinese, Japanese.
        (
            r"(?:(?:natürlich|gerne?|klar|selbstverständlich|sicher)[ !,.]{1,3})?hier (?:ist|sind"
            r"|kommt|folgt)\s(?:\w+ ){0,4}?"
            r"(?:nachricht|text|antwort|e-?mail|beispiel|entwurf|szenario|dialog|version)\w{0,3}\b[^.!?\n]{0,80}:"
        ),
        (
            r"(?:(?:bien sûr|certainement|d['’]accord)[ !,.]{1,3})?voici\s(?:[\w’']+ ){0,4}?"
            r"(?:message|texte|réponse|e-?mail|courriel|exemple|brouillon|scénario|dialogue|version)s?\b[^.!?\n]{0,80}:"
        ),
        (
            r"(?:(?:claro|por supuesto|desde luego)[ !,.]{1,3})?¿?¡?aquí (?:tienes?|está|va|le"
            r" presento)\s(?:\w+ ){0,4}?"
            r"(?:mensaje|texto|respuesta|correo|ejemplo|borrador|escenario|diálogo|versión)\b[^.!?\n]{0,80}:"
        ),
        (
            r"(?:(?:当然|好的|没问题|當然)[！，,!。 ]{0,2})?(?:以下|下面|这里)(?:是|为)[^。！？\n]{0,20}?"
            r"(?:消息|信息|文本|文字|示例|邮件|对话|回复|场景|例子|内容)[^。！？\n]{0,20}[：:]"
        ),
        (
            r"(?:(?:もちろん(?:です)?|承知(?:しました|いたしました)|かしこまりました)[。、！!]?)?\s*(?:以下|こちら)(?:は|が|に)"
            r"[^。！？\n]{0,40}(?:メッセージ|文章|例文|例|メール|テキスト|会話|返信)[^。！？\n]{0,16}(?:です|ます)?[。：:]"
        ),
    ),
}
"""Kind → how a text begins. Said later in a text most of these are somebody's own words."""

_ANYWHERE: dict[str, tuple[str, ...]] = {
    "apology": (
        rf"\bas {_AI}(?: (?:language )?(?:model|assistant|chatbot|system))?(?: \w+ed by \w+)?,? (?:i|my)\b",
        r"\bi['’]?(?: a)?m (?:just |only )?an? (?:ai |large )?language model\b",
        r"\bagainst (?:my|openai['’]?s?|anthropic['’]?s?) (?:\w+ )?(?:guidelines|policy|policies|programming)\b",
        r"\bals (?:eine? )?(?:ki\b|künstliche intelligenz|(?:großes )?sprachmodell)[^.!?\n]{0,40}?\bich\b",
        r"\ben tant qu(?:e |['’])(?:une? )?(?:ia\b|intelligence artificielle|assistant ia\b|modèle (?:de lang|lingu))",
        r"\bcomo (?:una? )?(?:ia\b|inteligencia artificial|modelo de lenguaje)[^.!?\n]{0,30}?,? (?:no|mi|yo)\b",
        r"作为(?:一个|一名|一款|一种)?(?:ai|人工智能|大?型?语言模型)[^。！？\n]{0,10}[，,]?\s?我",
        r"(?:ai|人工知能|(?:大規模)?言語モデル)(?:アシスタント)?(?:として|なので|ですので|であるため)[、,]",
    ),
    "meta": (
        (
            r"^[^\w\n]{0,20}(?:please )?note\b\W{0,3}(?:that )?(?:this|the (?:above|following"
            r"|provided))\s(?:\w+ ){0,3}?"
            r"(?:text|message|e-?mail|response|reply|example|scenario|dialogue|conversation|output|content|json)\b"
        ),
        (
            r"\blet me know if you(?:['’]d| would)? (?:like|want|need) (?:me to |any |it |this |the"
            r" (?:text|message|tone) )?"
            r"(?:further |other |more |to be )?(?:adjust|revis|modif|rewrit|edit|tweak|another"
            r" version|changes? to th)\w*"
        ),
        r"</?think(?:ing)?>",
        r"<\|(?:im_start|im_end|endoftext|eot_id|begin_of_text|start_header_id|end_header_id|assistant|user|system)\|>",
        r"\[/?inst\]|<<sys>>|^</?data>[ \t]{0,9}$",
        r"^#{2,4} ?(?:instruction|input|response|output|assistant|user|system)s? ?:",
        r"\bwhat stands between <data>|\bis no instruction to you\b",
    ),
    "placeholder": (
        (
            r"(?<![\w\]])\[\s*(?:insert|enter|add|fill in|your|customer(?:['’]s)?|client(?:['’]s)?|recipient(?:['’]s)?"
            r"|sender(?:['’]s)?|user(?:['’]s)?|company|first|last|full|agent(?:['’]s)?|ihre?n?|votre"
            r"|vos|su|tu|您的?|你的?)\b"
            r"[^\[\]\n]{1,40}\](?!\()"
        ),
        (
            r"(?<![\w\]])\[\s*(?:name|date|time|amount|number|address|e-?mail|phone|phone number|city"
            r"|state|country|company"
            r"|location|title|url|(?:account|card|order|reference|transaction|phone|ticket|tracking)"
            r" (?:number|id|no\.?)"
            r"|(?:product|store|bank|merchant|person|place|brand|business) name|employer|recruiter|candidate|job title"
            r"|number of \w+|datum|betrag|firma|nom|prénom|montant|nombre|apellido|fecha|importe"
            r"|x{2,}|tbd|tba|todo)\s*\](?!\()"
        ),
        r"[\[【（(](?:您的|你的|お)?(?:姓名|名字|名前|氏名|日期|日付|金额|金額|公司名称|会社名|电话|電話番号)[\]】）)]",
        r"[〇○]{2,9}(?:様|さん|さま|株式会社|銀行)",
        r"<\s*(?:insert|enter|your|fill in|add)\s[^<>\n]{1,40}>|\(\s*insert\s[^()\n]{1,40}\)",
        r"<(?:customer|first|last|full|company|account|card|order|user)[ _-](?:name|number|id)>",
        r"\blorem ipsum\b",
        r"(?<![\w^_}{\\])\{\{\s?[^{}\n]{1,80}?\s?\}\}|\{%-?\s[^{}\n]{1,80}?\s-?%\}",
        r"(?<![$\\\w{])\{(?:your|customer|first|last|full|company|user|account|card)?[ _]?(?:name|number)\}",
    ),
}
"""Kind → what no text of its own has anywhere; `^` is the start of a line."""

_CAPITALS = r"(?<!\w)TODO(?= ?[:(\]>])|^[^\w\n]{0,20}TODO[^\w\n]{0,20}$|(?<!\w)X{3,}(?!\w)"
"""In capitals only: `todo` is Spanish for everything."""

_LEAD = re.compile(r"[\s\"'“”„«»‘’*_>#\-–—:.…¡]*")
"""What may stand before the first word."""


class Refusal(Filter):
    """Drops rows in which the model refused, spoke of its task, or left a blank for somebody else to fill.

    `apology`: it declines ("I'm sorry, but I can't help with that", "As an AI language model, …"); `meta`: it
    introduces or comments on what it wrote ("Here is a message from a customer:", "Note: this text …", marks of chat
    templates); `placeholder`: "[Name]", "<insert date>", "{{ name }}", "Lorem ipsum", "TODO:", "XXX". Most apologies
    and introductions count only at the start of a field: that is where a model speaks, and customers may be sorry
    later. English, and the common forms in German, French, Spanish, Chinese and Japanese. It knows phrases, not
    meaning: a refusal in other words passes, and so does a prompt that is repeated.

    False alarms, each looked at: 1 of 13,083 real bank messages ("[country]", which was a blank), 0 of 20,670 turns of
    real dialogues, 1 of 300 web texts (a page about TODO comments), 1 of 12,631 film reviews ("[city]"), 0 of 5,565
    instructions and problems in mathematics. Of 2,016 outputs of older models it drops 60: 44 with blanks, 16 that
    repeat headings such as "Input:".
    """

    short: ClassVar[str | None] = "kinds"

    kinds: tuple[Kind, ...] = Field(default=("apology", "meta", "placeholder"), min_length=1)
    """What counts; default: all three."""
    extra: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Further regular expressions (Rust's syntax, `(?i)` ignores case) that no text may hold."""
    field: str | None = None
    """Field to look at; default: every text field, each by itself."""

    @field_validator("kinds", "extra", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """Each further pattern can be compiled; the field exists."""
        for place, pattern in enumerate(self.extra):
            if (fault := regex_fault(pattern)) is not None:
                yield Problem(("extra", place), fault)
        if self.field is not None and self.field not in scene.fields:
            yield Problem(("field",), f"no field called {self.field!r}{nearest(self.field, list(scene.fields))}")

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """The first thing that is found, and what it is."""
        found = [self._own(row, tools) for row in rows]
        for pattern in self.extra:
            for place, row in enumerate(rows):
                if not found[place]:
                    matches = first_matches([text for _, text in self._texts(row, tools)], pattern)
                    found[place] = next((f"extra: {quoted(match)}" for match in matches if match is not None), "")
        return [Verdict(kept=not reason, reason=reason) for reason in found]

    def _texts(self, row: Row, tools: Tools) -> Iterator[tuple[str, str]]:
        fields = row.fields if self.field is None else {self.field: row.fields.get(self.field)}
        return texts(fields, tools.fields)

    def _own(self, row: Row, tools: Tools) -> str:
        for _, text in self._texts(row, tools):
            start = _LEAD.match(text)
            begins = start.end() if start else 0
            for kind in self.kinds:
                starts, anywhere = _patterns(kind)
                match = (starts.match(text, begins) if starts else None) or anywhere.search(text)
                if match is None and kind == "placeholder":
                    match = _capitals().search(text)
                if match is not None:
                    return f"{kind}: {quoted(match[0])}"
        return ""


@cache
def _patterns(kind: str) -> tuple[re.Pattern[str] | None, re.Pattern[str]]:
    """How a text begins, where that counts, and what stands anywhere; compiled on first need."""
    starts = _STARTS.get(kind)
    return (
        re.compile("|".join(starts), re.IGNORECASE) if starts else None,
        re.compile("|".join(_ANYWHERE[kind]), re.IGNORECASE | re.MULTILINE),
    )


@cache
def _capitals() -> re.Pattern[str]:
    return re.compile(_CAPITALS, re.MULTILINE)
