"""The filter `language`: which language a text is in, told offline, and that short texts cannot be told."""

from __future__ import annotations

import asyncio
import csv
import time
from pathlib import Path

import pytest

from qdcgen.filters.language import _NO_LANGUAGE, KNOWN, RIVALS, Language
from qdcgen.parts import Graded, Scene, Tools
from qdcgen.rows import Cell, Row

DATA = Path(__file__).parents[3] / "shared" / "data"
SENTENCES = {
    "en": [
        "Where is my card?",
        "I still have not received my refund",
        "Can I change my PIN at an ATM?",
        "The app keeps crashing when I log in.",
        "Why was I charged twice for the same coffee?",
        "my transfer is pending since monday, please help",
        "What currencies do you support?",
        "Top up failed again",
        "How do I close my account",
        "Someone stole my phone and my wallet yesterday.",
    ],
    "de": [
        "Wo ist meine Karte?",
        "Ich habe meine Rückerstattung noch nicht bekommen",
        "Kann ich meine PIN am Automaten ändern?",
        "Die App stürzt beim Anmelden immer wieder ab.",
        "Warum wurde mir der Kaffee doppelt berechnet?",
        "meine Überweisung ist seit Montag offen, bitte helfen Sie",
        "Welche Währungen unterstützen Sie?",
        "Aufladen hat wieder nicht geklappt",
        "Wie kann ich mein Konto schließen",
        "Gestern wurden mir Handy und Geldbörse gestohlen.",
    ],
    "fr": [
        "Où est ma carte ?",
        "Je n'ai toujours pas reçu mon remboursement",
        "Puis-je changer mon code PIN au distributeur ?",
        "L'application plante chaque fois que je me connecte.",
        "Pourquoi ai-je été débité deux fois pour le même café ?",
        "mon virement est en attente depuis lundi, aidez-moi",
        "Quelles devises acceptez-vous ?",
        "Le rechargement a encore échoué",
        "Comment fermer mon compte",
        "On m'a volé mon téléphone et mon portefeuille hier.",
    ],
    "es": [
        "¿Dónde está mi tarjeta?",
        "Todavía no he recibido mi reembolso",
        "¿Puedo cambiar mi PIN en un cajero automático?",
        "La aplicación se cierra cada vez que inicio sesión.",
        "¿Por qué me cobraron dos veces el mismo café?",
        "mi transferencia está pendiente desde el lunes, ayuda por favor",
        "¿Qué monedas aceptan?",
        "La recarga ha vuelto a fallar",
        "Cómo cierro mi cuenta",
        "Ayer me robaron el teléfono y la cartera.",
    ],
    "zh": [
        "我的卡在哪里？",
        "我还没有收到退款",
        "我可以在自动取款机上修改密码吗？",
        "每次登录时应用程序都会崩溃。",
        "为什么同一杯咖啡扣了我两次钱？",
        "我的转账从星期一开始一直在处理中，请帮忙",
        "你们支持哪些货币？",
        "充值又失败了",
        "怎么关闭我的账户",
        "昨天我的手机和钱包被偷了。",
    ],
    "it": [
        "Dov'è la mia carta?",
        "Non ho ancora ricevuto il rimborso",
        "Posso cambiare il PIN allo sportello?",
        "L'app si blocca ogni volta che accedo.",
        "Perché mi avete addebitato due volte lo stesso caffè?",
        "Quali valute accettate?",
        "Come chiudo il mio conto",
    ],
    "pt": [
        "Onde está o meu cartão?",
        "Ainda não recebi o meu reembolso",
        "Posso mudar o meu PIN num caixa automático?",
        "A aplicação fecha sempre que inicio sessão.",
        "Porque é que me cobraram duas vezes o mesmo café?",
        "Que moedas aceitam?",
        "Como encerro a minha conta",
    ],
    "nl": [
        "Waar is mijn kaart?",
        "Ik heb mijn terugbetaling nog steeds niet ontvangen",
        "Kan ik mijn pincode wijzigen bij een automaat?",
        "De app crasht elke keer als ik inlog.",
        "Welke valuta ondersteunen jullie?",
        "Hoe sluit ik mijn rekening",
    ],
    "ja": [
        "私のカードはどこですか？",
        "まだ返金を受け取っていません",
        "ATMで暗証番号を変更できますか？",
        "ログインするたびにアプリが落ちます。",
        "口座を解約する方法を教えてください",
    ],
    "ru": [
        "Где моя карта?",
        "Я до сих пор не получил возврат денег",
        "Можно ли сменить ПИН-код в банкомате?",
        "Как закрыть мой счёт",
    ],
}


def judged(part, *texts, schemas=None):
    fields = [one if isinstance(one, dict) else {"text": one} for one in texts]
    rows = [Row(Cell(f"{number:016x}", {}, number, number), one) for number, one in enumerate(fields)]
    return asyncio.run(part.judge(rows, Tools(fields=schemas or {})))


def wanting(*codes, **settings):
    return Language.model_validate({"is": list(codes), **settings})


@pytest.mark.parametrize("code", SENTENCES)
def test_short_messages_are_told_by_language(code):
    own = judged(wanting(code), *SENTENCES[code])
    assert sum(not verdict.kept for verdict in own) <= (code == "es")  # "La recarga ha vuelto a fallar": Italian, 0.45
    others = [text for other, texts in SENTENCES.items() if other != code for text in texts]
    assert sum(verdict.kept for verdict in judged(wanting(code), *others)) <= (code == "it")
    assert all(verdict.kept for verdict in judged(wanting(*SENTENCES), *others))


def test_the_score_decides_and_a_no_says_what_it_is():
    part = wanting("en", at_least=0.9)
    assert part.graded() == Graded(0.9, "above")
    verdicts = judged(part, *[text for texts in SENTENCES.values() for text in texts])
    assert all(verdict.kept == (verdict.score >= 0.9) and 0 <= verdict.score <= 1 for verdict in verdicts)
    (verdict,) = judged(wanting("en", "fr"), "Ich habe meine Karte gestern verloren.")
    assert verdict.reason.startswith("language is de, not en or fr: 0.")
    assert verdict.reason.endswith("below 0.50")


@pytest.mark.parametrize(
    "text", ["", "Hi!", "OK thanks", "123 456 789 !!!", "🦊🦊🦊🦊", "https://example.org/a/b/c", "你好"]
)
def test_what_is_too_short_is_kept_without_a_score(text):
    (verdict,) = judged(wanting("en"), text)
    assert verdict.kept
    assert verdict.score is None
    assert verdict.reason.startswith("too short to tell its language: ")


def test_words_out_of_a_list_have_no_language_and_one_field_can_be_meant():
    schemas = {"text": {"type": "string"}, "label": {"enum": ["wo ist meine karte geblieben"]}}
    row = {"text": "Where is my card?", "label": "wo ist meine karte geblieben"}
    assert judged(wanting("en", at_least=0.9), row, schemas=schemas)[0].kept
    assert not judged(wanting("en", field="label"), row, schemas=schemas)[0].kept


def test_codes_are_those_of_the_model_and_others_are_refused():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    assert {*LanguageIdentifier.from_model_file(MODEL_FILE).labels} == {*KNOWN, "zxx"}
    assert {*RIVALS} <= {*KNOWN}
    assert Language.model_validate({"is": "EN-gb"}).is_ == ("en",)
    assert wanting("nb", "no", "zh-Hans").is_ == ("no", "zh")
    with pytest.raises(ValueError, match=r"no language called 'english'.*expected an ISO 639 code"):
        wanting("english")
    with pytest.raises(ValueError, match="at least 1"):
        wanting()
    assert all(verdict.kept for verdict in judged(wanting(*KNOWN), "Where is my card?"))
    scene = Scene({}, {"message": {}, "n": {"type": "integer"}}, [], lambda _: set())
    assert "did you mean 'message'" in next(wanting("en", field="mesage").problems(scene)).message
    assert "has no language" in next(wanting("en", field="n").problems(scene)).message


def test_english_messages_are_hardly_ever_dropped():
    if not DATA.is_dir():
        pytest.skip("../shared/data is not here")
    texts = [r["text"] for r in csv.DictReader((DATA / "banking77/test.csv").read_text().splitlines())]
    assert sum(not verdict.kept for verdict in judged(wanting("en"), *texts)) <= 4


def test_ten_thousand_texts_of_60_words_take_seconds():
    text = " ".join(SENTENCES["en"])[:330]
    judged(wanting("en"), text)
    start = time.perf_counter()
    judged(wanting("en"), *[f"{text} {number}" for number in range(2_000)])
    assert time.perf_counter() - start < 4


def test_addresses_are_no_language_and_are_looked_for_in_a_moment() -> None:
    said = "Hello there a@b.co (x.y@mail.example.org) https://x.org/a www.x.org @me@social.example bye"
    assert _NO_LANGUAGE.sub(" ", said).split() == ["Hello", "there", "bye"]
    begun = time.process_time()
    for repeated in ("a@", "@", "a.", "a@.", "www", "http:"):
        _NO_LANGUAGE.sub(" ", repeated * (4_000 // len(repeated)))
    assert time.process_time() - begun < 0.3
