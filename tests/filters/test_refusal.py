"""The filter `refusal`: refusals, talk about the task and blanks go; people who are sorry or cannot log in stay."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from pathlib import Path

import polars as pl
import pytest

from qdcgen.filters.refusal import Refusal
from qdcgen.parts import Scene, Tools
from qdcgen.recipe import load
from qdcgen.rows import Cell, Row
from qdcgen.run import run
from qdcgen.store import Store

DATA = Path(__file__).parents[3] / "shared" / "data"

BAD = r"""I'm sorry, but I can't help with that.
I’m sorry, but I can’t assist with that request.
I am sorry, but as an AI language model I cannot have personal experiences.
Sorry, I can't help with that.
I cannot fulfill this request.
I can't comply with that request.
I'm unable to assist with that.
Unfortunately, I am not able to generate content of this kind.
I apologize, but I cannot provide that information.
My apologies, but I can't write a message that promotes fraud.
I must respectfully decline this request.
I don't feel comfortable writing this message.
As an AI, I don't have a bank account.
As a large language model, I cannot feel pain.
"I'm sorry, but I won't be able to do that." I'm sorry, but I cannot create content that is harmful.
I'm just an AI and cannot lose cards.
This request violates the usage policies.
I can't continue this conversation.
I'm not able to help with that.
Es tut mir leid, aber ich kann dabei nicht helfen.
Es tut mir leid, aber diese Nachricht kann ich nicht erstellen.
Als KI-Sprachmodell habe ich keine persönlichen Erfahrungen.
Als KI kann ich das nicht beurteilen.
Je suis désolé, mais je ne peux pas répondre à cette demande.
Désolé, mais je ne peux pas vous aider avec cela.
En tant que modèle de langage, je ne peux pas ressentir.
En tant qu'IA, je n'ai pas d'avis.
Lo siento, pero no puedo ayudarte con eso.
Como modelo de lenguaje, no puedo tener opiniones.
抱歉，我无法生成此类内容。
很抱歉，我不能协助您完成这个请求。
作为一个人工智能语言模型，我没有个人经历。
申し訳ありませんが、その内容を生成することはできません。
申し訳ございませんが、お手伝いできません。
AIとして、個人的な意見は持っていません。
Here is a message from a customer who lost a card:
Here's the revised text:
Sure! Here is a message about a lost card:
Certainly! Here's a short message you can use:
Sure, I'll write a message about that.
Of course! Below is the text:
Note: this text is fictional.
I lost my card.\n\nNote: This message is written from the perspective of an angry customer.
I lost my card. Let me know if you'd like any adjustments!
This message is written from the perspective of a student.
Rewritten message: I lost my card
<think>The user wants</think> Hello
<|im_start|>user Hello
### Response: Hello
```json\n{"message": "Hello"}\n```
Hier ist eine Nachricht einer Kundin:
Natürlich! Hier ist der Text:
Voici un message d'un client :
Bien sûr ! Voici le texte demandé :
Claro, aquí tienes un mensaje:
¡Claro! Aquí tienes el texto:
当然！以下是一条客户消息：
以下是一封邮件示例：
もちろんです。以下はメッセージの例です：
以下がメッセージです：
Hello, my name is [Name] and I lost my card.
Dear [Bank Name], I write to you
Regards, [Your Name]
My card ends in <insert number>
Lorem ipsum dolor sit amet
TODO: write this message
TODO
Please call XXX for more
My number is XXXX-XXXX
Hello {{ name }}, welcome
Dear {name}, welcome
Dear {customer_name}, welcome
Sehr geehrter [Ihr Name], hallo
Bonjour [Votre nom]
Hola [tu nombre]
您好，我是[您的姓名]，我的卡丢了
〇〇様、お世話になっております
My order is <order_id>
[TODO] fill in""".splitlines()
GOOD = r"""I'm sorry to bother you but I can't log in
I can't transfer money
I'm sorry, I can't find my card.
Sorry, but I cannot withdraw cash from the ATM.
Unfortunately I can't open the app.
I am unable to verify my identity.
I can't help but feel ignored.
I cannot get my virtual card to work.
I apologise for the late reply, but I could not reach you.
Sorry, I can't make it tonight.
I can't create a virtual card in the app.
I cannot generate a statement.
I can't write a review because the button is missing.
I'm afraid I can't use my card abroad.
I cannot provide the document you asked for, I do not have it.
I can't complete my request.
I must decline the invitation.
As an AI engineer I would like a business account.
As an airline pilot I travel a lot.
Sure! I'd love to.
Sure, here you go.
Here is my card number, is it right?
Here is the address: 12 High Street.
Note: my card expires in May.
Please note that I moved house.
Note that this card is blocked.
Let me know if you need anything else.
Let me know if you would like to change the date.
This is the third time: my card does not work.
This text message from the bank says my card is blocked.
Certainly not!
I am just an ordinary customer.
quiero cambiar TODO MI DINERO
Perdí todo mi dinero.
Super size XXL
I watched it [twice] and see [1] and [link](http://a.b)
The set {1, 2} and {{1}, {2}} and x^{{2}}
Der Text: leider kann ich mich nicht anmelden
Leider kann ich mich nicht anmelden.
Es tut mir leid, dass ich mich erst jetzt melde, ich konnte mich nicht anmelden.
Es tut mir leid, aber ich kann meine Karte nicht finden.
Je suis désolé de vous déranger, je ne peux pas me connecter.
Lo siento, no puedo entrar en mi cuenta.
抱歉打扰了，我无法登录我的账户。
很抱歉，我无法提供身份证。
申し訳ありませんが、ログインできません。
Understood, I will create an alarm at 4 pm titled New alarm.
I'm sorry, there are no flights that day.
The response is slow: please fix it.
<b>Hello</b> and <name>Anna</name>
The final version of the contract: is it signed?
I will not write to you again.
I can't answer the phone right now.
I won't continue with this bank.""".splitlines()


def judged(part, *texts, schemas=None):
    fields = [one if isinstance(one, dict) else {"text": one.replace("\\n", "\n")} for one in texts]
    rows = [Row(Cell(f"{number:016x}", {}, number, number), one) for number, one in enumerate(fields)]
    return asyncio.run(part.judge(rows, Tools(fields=schemas or {})))


@pytest.mark.parametrize("text", BAD)
def test_refusals_talk_about_the_task_and_blanks_are_dropped(text):
    (verdict,) = judged(Refusal(), text)
    assert not verdict.kept
    assert verdict.reason.split(":")[0] in {"apology", "meta", "placeholder"}
    assert len(verdict.reason) < 90


@pytest.mark.parametrize("text", GOOD)
def test_what_people_write_is_kept(text):
    assert judged(Refusal(), text)[0].kept


def test_only_the_kinds_that_are_named_count():
    texts = ["I can't help with that.", "Here is a message:", "Dear [Name]"]
    for number, kind in enumerate(("apology", "meta", "placeholder")):
        kept = [verdict.kept for verdict in judged(Refusal(kinds=kind), *texts)]
        assert kept == [place != number for place in range(3)]


def test_an_apology_later_in_a_text_is_somebodys_own_words():
    assert judged(Refusal(), "The bank wrote: I'm sorry, but I can't help with that.")[0].kept


def test_texts_inside_lists_are_looked_at_and_words_out_of_a_list_are_not():
    turns = {"turns": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "As an AI, I can't."}]}
    assert [verdict.reason for verdict in judged(Refusal(), turns)] == ['apology: "As an AI, I"']
    assert judged(Refusal(), {"level": "TODO"}, schemas={"level": {"enum": ["TODO"]}})[0].kept


def test_further_patterns_and_one_field():
    part = Refusal(extra=["(?i)my pleasure"], field="reply")
    verdicts = judged(part, {"reply": "My pleasure!", "text": "x"}, {"reply": "Thanks", "text": "[Name] my pleasure"})
    assert [verdict.reason for verdict in verdicts] == ['extra: "My pleasure"', ""]
    scene = Scene({}, {"answer": {}}, [], lambda _: set())
    problems = [*Refusal(extra=["(", "ok"], field="answr").problems(scene)]
    assert [problem.path for problem in problems] == [("extra", 0), ("field",)]
    assert "unclosed group" in problems[0].message
    assert "did you mean 'answer'" in problems[1].message


@pytest.mark.parametrize("piece", ["\n", "[ ", "{{", "sorry i ", "note this ", "〇", "X", "## ", "als ki ", ". "])
def test_no_text_makes_it_slow(piece):
    start = time.perf_counter()
    judged(Refusal(), piece * 20_000)
    assert time.perf_counter() - start < 2


def test_one_false_alarm_in_13083_real_messages_and_the_hostile_refusals_are_caught():
    if not DATA.is_dir():
        pytest.skip("../shared/data is not here")
    texts = [
        r["text"]
        for n in ("train", "test")
        for r in csv.DictReader((DATA / f"banking77/{n}.csv").read_text().splitlines())
    ]
    assert [v.reason for v in judged(Refusal(), *texts) if not v.kept] == ['placeholder: "[country]"']
    replies = [json.loads(line) for line in (DATA / "hostile_inputs/replies.jsonl").read_text().splitlines()]
    caught = [
        r["kind"] for r, v in zip(replies, judged(Refusal(), *(r["reply"] for r in replies)), strict=True) if v.reason
    ]
    assert caught == ["chatter before", "refusal", "template", "thinking"]


def test_a_run_drops_each_kind_of_bad_text_and_says_so(small, tmp_path, server):
    bad = {
        "Es tut mir leid, ich habe meine Karte gestern verloren.": "language",
        "This forbidden word stands in my message today.": "pattern",
        "I'm sorry, but I can't help with that.": "refusal",
        "The tone: angry message about my lost card.": "leak",
        "I lost my card yesterday and need another one.": "",
    }
    texts = list(bad)

    def answer(body):
        said = texts[body["seed"] % len(texts)]
        return json.dumps({"message": said, "urgency": "low"})

    server.answer = answer
    text = small.read_text().replace("  - duplicates: {field: message, similarity: 0.9}\n", "")
    chosen = "  - language: {is: en, field: message}\n  - pattern: {must_not: forbidden}\n  - refusal\n  - leak\n"
    small.write_text(text.replace("target:", f"{chosen}target:").replace("candidates: 3", "candidates: 20"))
    run(load(small), tmp_path / "out", quiet=True)
    store = Store(tmp_path / "out").peek()
    rejected = pl.concat([store.table(name) for name in store.names("rejected")])
    assert {m: f for m, f in rejected.select("message", "_filter").iter_rows() if f != "surplus"} == {
        message: name for message, name in bad.items() if name
    }
    kept = pl.concat([store.table(name) for name in store.names("data")])
    assert set(kept["message"]) == {texts[-1]}
    assert len(kept) == 40
