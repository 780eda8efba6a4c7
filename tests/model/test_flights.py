"""Equal requests at one time are asked once, whatever becomes of the first to ask."""

import asyncio
import json

import pytest

from qdcgen.errors import ReplyFault
from qdcgen.model.ask import Models
from qdcgen.model.journal import Journal
from qdcgen.recipe import Alias

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def asking(server, tmp_path, work):
    """What `work(ask)` gives, where `ask(seed, **settings)` is one call."""
    aliases = {"writer": Alias(model="openai/test", api_base=server.url)}

    async def run():
        journal = Journal(tmp_path / "calls.sqlite")
        models = Models(aliases, journal)

        def ask(seed=1, **settings):
            return models.ask("", [{"role": "user", "content": "a"}], seed=seed, schema=SCHEMA, **settings)

        try:
            return await work(ask)
        finally:
            await models.close()
            journal.close()

    return asyncio.run(run())


def test_many_ask_the_same_and_one_call_is_made(server, tmp_path):
    server.latency = 0.05
    replies = asking(server, tmp_path, lambda ask: asyncio.gather(*(ask(n % 3) for n in range(60))))
    assert server.asked == 3
    assert len({reply.parsed["a"] for reply in replies}) == 3
    assert sum(reply.journaled for reply in replies) == 57


def test_a_fault_is_shared_by_those_who_wait(server, tmp_path):
    server.latency = 0.05
    server.answer = lambda _: "no JSON"
    found = asking(server, tmp_path, lambda ask: asyncio.gather(*(ask() for _ in range(20)), return_exceptions=True))
    assert all(isinstance(one, ReplyFault) for one in found)
    assert server.asked == 2, "one call and one repair"


@pytest.mark.parametrize(("shared", "calls"), [(False, 4), (True, 2)])
def test_a_shared_request_that_failed_is_not_tried_again_in_this_invocation(server, tmp_path, shared, calls):
    server.answer = lambda _: "no JSON"

    async def twice(ask):
        for _ in range(2):
            with pytest.raises(ReplyFault):
                await ask(shared=shared)

    asking(server, tmp_path, twice)
    assert server.asked == calls
    server.answer = lambda _: json.dumps({"a": "good"})
    assert asking(server, tmp_path, lambda ask: ask(shared=shared)).parsed == {"a": "good"}, "but in the next one"


def test_when_the_first_to_ask_is_cancelled_another_asks(server, tmp_path):
    server.latency = 0.1

    async def work(ask):
        first, *others = [asyncio.ensure_future(ask()) for _ in range(4)]
        await asyncio.sleep(0.02)
        first.cancel()
        others[0].cancel()
        return await asyncio.gather(*others[1:])

    replies = asking(server, tmp_path, work)
    assert len({reply.text for reply in replies}) == 1
    assert server.asked <= 2
