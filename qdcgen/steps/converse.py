"""The step `converse`: user, assistant and tool speak in turn until the outline is done."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import Field, model_validator

from qdcgen.errors import ReplyFault, RowFault, nearest
from qdcgen.parts import Layer, Problem, Scene, Step, Tools, alias_of
from qdcgen.prompts import DATA, fenced, unknown_alias, unknown_names
from qdcgen.rows import Draft

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

USER = (
    "You play the user in a conversation with an assistant, and write the user's next message: one message, in the "
    "user's own voice, about the one point you are given and nothing that comes after it. Go on from what was said; "
    "do not greet twice, and do not speak for the assistant. Write the words themselves, never a report of them. "
    + DATA
)
ASSISTANT = (
    "You play the assistant in a conversation, and write its next message. Answer what the user said last, from what "
    "is known in the conversation; do not speak for the user. " + DATA
)
CALLING = (
    "You may call one of the tools below. To call one, give its name under call, its arguments under given, as a list "
    "of names and values (lists and objects as JSON text), and leave say empty. Take values from the conversation "
    'only. When nothing needs to be called, or a value is missing and must be asked for, put "no tool" under call, '
    "leave given empty, and put your message under say. The tools:"
)
SIMULATOR = (
    "You stand in for the tools of an assistant: you are given a tool, the arguments it is called with and what was "
    "said and returned before. Give what the tool returns: concrete, plausible, short, and in agreement with all that "
    "it and the others returned before. " + DATA
)
AT_ONCE = (
    "You write a whole conversation between a user and an assistant: one exchange for each point of the outline, in "
    "its order. In each, first is the user's message, which brings the point up in the user's own voice, and second is "
    "the assistant's answer. Each goes on from what was said before; nobody greets twice or names the outline. "
    "Write the words that are spoken, never a report of them. " + DATA
)
NOTHING = "no tool"
LONGEST = 2000
"""Characters of one message or result."""
CALLS = 3
"""Most tool calls for one point of the outline."""
EXPECTED = 10
"""Messages of a dialogue of five points, which is what an outline of 3 to 6 gives; `plan --estimate` measures."""


class Converse(Step):
    """Writes a dialogue along the outline: user, assistant and, where there are tools, tool speak in turn.

    For each point of `{{ outline }}` (put the step `outline` above) the user speaks, then the assistant, who may call
    tools first, up to three for a point; it ends when the outline is done or after `turns` messages. Each message is
    one call under its role's own system prompt; the assistant never sees the outline. With `at_once: true` the whole
    dialogue is one call, without tools: cheaper, and each speaker then knows what the other will say.

    `tools:` names a layer whose value lists tools with their JSON Schemas (`tool_graph`). Arguments are checked against
    the schema, unknown names refused; a call that does not fit is asked for once more with the reason, and then the
    assistant must answer without it, or the row fails (`misfit`). A result is what `stub` says of that tool, else made
    up by a model, in the form that the tool declares where it does.

    `field` holds a list of messages with `role` and `content`, and for tool calls and results `name` and `arguments`
    (JSON text), which are empty elsewhere; `text` holds the same in lines, for filters and measures to read. `_notes`
    says which point each message is of, and what was dropped.

    Source: ToolFlow (arXiv 2410.18447) turn by turn, DiaSynth (arXiv 2409.19020) at once.
    """

    field: str = Field(default="dialogue", min_length=1)
    """Field of the row that holds the dialogue."""
    text: str = Field(default="transcript", min_length=1)
    """Field of the row that holds it as text, one line a message."""
    user: str = ""
    """Template that says who the user is, e.g. `{{ persona }}`."""
    assistant: str = ""
    """Template that says who the assistant is."""
    tools: str | None = None
    """Layer that gives the row its tools."""
    stub: dict[str, Any] = Field(default={})
    """Tool → what it always returns, in place of a model's answer."""
    misfit: Literal["drop", "fail"] = "drop"
    """What becomes of a tool call that does not fit its schema after one more try: the call goes, or the row fails."""
    turns: int = Field(default=24, ge=2, le=200)
    """Most messages, tool calls and results counted."""
    at_once: bool = False
    """Write the whole dialogue in one call."""
    model: str | None = None
    """Alias of the model that plays every role; default: the row's writer."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Overrides the alias."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Overrides the alias."""

    @model_validator(mode="after")
    def _possible(self) -> Converse:
        if self.at_once and (self.tools is not None or self.stub):
            raise ValueError("a dialogue with tools cannot be written at_once: results come between its messages")
        if self.field == self.text:
            raise ValueError(f"field: and text: are both {self.field!r}; the text needs a field of its own")
        if self.stub and self.tools is None:
            raise ValueError("stub: needs tools:, the layer whose tools it stands in for")
        return self

    async def take(self, draft: Draft, tools: Tools) -> None:
        """At most two calls a message; see the module's bound."""
        outline = draft.names.get("outline")
        points = list(outline["points"]) if isinstance(outline, dict) else []
        if not points:
            raise RowFault("no outline", "converse: this row has no outline; put the step outline above it")
        talk = _Talk(self, draft, tools)
        if self.at_once:
            await talk.at_once(points[: self.turns // 2])
        else:
            for point in points:
                if len(talk.turns) + 2 > self.turns:
                    break
                await talk.exchange(point)
        draft.fields[self.field] = talk.turns
        draft.fields[self.text] = "\n".join(talk.lines())
        draft.notes["converse"] = {
            "points": len(points),
            "reached": talk.reached,
            "done": talk.reached == len(points),
            "point_of": talk.point_of,
        } | ({"called": talk.called, "repaired": talk.repaired, "dropped": talk.dropped} if self.tools else {})

    def fills(self) -> Mapping[str, Mapping[str, Any]]:
        """The dialogue as a list of messages, and as text."""
        return {self.field: TURNS, self.text: {"type": "string", "minLength": 1}}

    def calls(self) -> tuple[float, float]:
        """One at once. Else one a message; a tool call may be asked for twice and its result made up: two a message."""
        if self.at_once:
            return (1.0, 1.0)
        return (float(min(self.turns, EXPECTED)), float(self.turns * (2 if self.tools else 1)))

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """The alias, the outline and the layer of tools exist; templates name only what there is."""
        yield from unknown_alias(scene, model=self.model)
        for key, source in (("user", self.user), ("assistant", self.assistant)):
            yield from unknown_names(scene, key, source)
        if not isinstance(scene.axes.get("outline"), dict):
            yield Problem((), "there is no outline to follow; put the step outline above converse")
        if self.tools is not None and not isinstance(scene.axes.get(self.tools), Layer):
            layers = [axis for axis, value in scene.axes.items() if isinstance(value, Layer)]
            close = nearest(self.tools, layers) or (f"; known here: {', '.join(layers)}" if layers else "")
            yield Problem(("tools",), f"no layer called {self.tools!r}{close}")


class _Talk:
    """One dialogue being written."""

    def __init__(self, step: Converse, draft: Draft, tools: Tools) -> None:
        names = {**draft.names, **draft.fields}
        self.step = step
        self.alias = alias_of(draft, step.model)
        self.ask = tools.ask
        self.known = _tools_of(draft.names.get(step.tools)) if step.tools is not None else {}
        user, assistant = (tools.render(source, names).strip() for source in (step.user, step.assistant))
        self.user = _joined(USER, user)
        self.assistant = _joined(ASSISTANT, assistant)
        self.both = _joined(AT_ONCE, user and f"The user: {user}", assistant and f"The assistant: {assistant}")
        self.turns: list[dict[str, Any]] = []
        self.point_of: list[int] = []
        self.reached = 0
        self.called: list[str] = []
        self.repaired = 0
        self.dropped: list[str] = []

    async def at_once(self, points: Sequence[str]) -> None:
        """The whole dialogue in one call, one exchange a point."""
        listed = "\n".join(f"{number}. {point}" for number, point in enumerate(points, 1))
        exchange = _object({"first": _TEXT, "second": _TEXT})  # in this order also by the alphabet
        size = {"minItems": len(points), "maxItems": len(points)}
        said = await self._asked(
            self.both,
            f"The outline:\n{fenced(listed)}\n\nWrite the {len(points)} exchanges.",
            _object({"exchanges": {"type": "array", "items": exchange, **size}}),
        )
        for pair in said["exchanges"]:
            self._say("user", pair["first"])
            self._say("assistant", pair["second"])
            self.reached += 1

    async def exchange(self, point: str) -> None:
        """The user brings one point up; the assistant calls what it needs, and answers."""
        said = await self._asked(
            self.user,
            f"{self._so_far()}\n\nThe point of your next message:\n{fenced(point)}\n\nWrite the user's next message.",
            _object({"text": _TEXT}),
        )
        self._say("user", said["text"])
        calls = 0
        while self.known and calls < CALLS and len(self.turns) + 3 <= self.step.turns:
            found = await self._decided()
            if found is None:
                break
            if isinstance(found, str):
                self._say("assistant", found)
                self.reached += 1
                return
            name, arguments = found
            calls += 1
            self.called.append(name)
            self._say("assistant", "", name=name, arguments=orjson.dumps(arguments).decode())
            self._say("tool", await self._returned(name, arguments), name=name)
        said = await self._asked(
            self.assistant, f"{self._so_far()}\n\nWrite the assistant's next message.", _object({"text": _TEXT})
        )
        self._say("assistant", said["text"])
        self.reached += 1

    async def _decided(self) -> str | tuple[str, dict[str, Any]] | None:
        """What the assistant says, or the tool that it calls; None: its call did not fit and is dropped."""
        system = f"{self.assistant}\n\n{CALLING}\n{fenced(list(self.known.values()))}"
        question = f"{self._so_far()}\n\nGive the assistant's next message or tool call."
        pair = _object({"name": {"type": "string", "maxLength": 200}, "value": VALUE})
        most = max(len(tool.get("parameters", {}).get("properties") or ()) for tool in self.known.values())
        schema = _object(
            {
                "call": {"enum": [NOTHING, *self.known]},
                "given": {"type": "array", "items": pair, "maxItems": max(most, _MOST)},
                "say": {"type": "string", "maxLength": LONGEST},
            }
        )
        why = ""
        for attempt in range(2):
            told = f"{question}\n\nYour last try cannot be used: {why}" if why else question
            try:
                said = await self._asked(system, told, schema)
            except ReplyFault as fault:
                if fault.kind not in ("schema", "not JSON", "cut"):
                    raise
                why = f"the form of the reply: {fault}"  # asked for a second time already, unless it was cut
                break
            if said["call"] == NOTHING and said["say"].strip():
                return str(said["say"])
            why = "no tool is called and nothing is said"
            if said["call"] != NOTHING:
                arguments, why = _fitting(self.known[said["call"]], said["given"])
                if not why:
                    self.repaired += attempt
                    return said["call"], arguments
                why = f"{said['call']}: {why}"
        if self.step.misfit == "fail":
            raise RowFault("tool call", f"a tool call that does not fit, twice: {why}")
        self.dropped.append(why[:300])
        return None

    async def _returned(self, name: str, arguments: Mapping[str, Any]) -> str:
        """What a tool answers: its stub, or what a model makes up."""
        if name in self.step.stub:
            stub = self.step.stub[name]
            return stub if isinstance(stub, str) else orjson.dumps(stub).decode()
        said = await self._asked(
            SIMULATOR,
            f"{self._so_far()}\n\nThe tool:\n{fenced(self.known[name])}\n\nIt is called with:\n{fenced(arguments)}"
            "\n\nGive what it returns.",
            returned_schema(self.known[name].get("returns")),
        )
        return str(said["result"]) if list(said) == ["result"] else orjson.dumps(said).decode()

    async def _asked(self, system: str, question: str, schema: dict[str, Any]) -> Any:
        reply = await self.ask(
            self.alias,
            [{"role": "system", "content": system}, {"role": "user", "content": question}],
            schema=schema,
            temperature=self.step.temperature,
            max_tokens=self.step.max_tokens,
        )
        return reply.parsed

    def _say(self, role: str, content: str, **more: str) -> None:
        self.turns.append({"role": role, "content": content.strip(), "name": "", "arguments": "", **more})
        self.point_of.append(self.reached)

    def _so_far(self) -> str:
        if not self.turns:
            return "The conversation has not begun."
        return "The conversation so far:\n" + fenced("\n".join(self.lines()))

    def lines(self) -> Iterator[str]:
        """The dialogue as text, one line a message."""
        for turn in self.turns:
            said = " ".join(turn["content"].split())
            if turn["role"] == "tool":
                yield f"{turn['name']} returns: {said}"
            elif turn["arguments"]:
                yield f"assistant calls {turn['name']}: {turn['arguments']}"
            else:
                yield f"{turn['role']}: {said}"


# ── tools ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tools_of(value: Any) -> dict[str, dict[str, Any]]:
    """Name → tool, of a layer's value."""
    listed = value.get("tools") if isinstance(value, dict) else None
    if isinstance(listed, str):
        listed = orjson.loads(listed)
    if not listed:
        raise RowFault("no tools", "converse: the layer that tools: names gives this row no list of tools")
    return {str(tool["name"]): dict(tool) for tool in listed}


def _fitting(tool: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], str]:
    """The arguments as the tool's schema has them, and why they do not fit, if so."""
    schema = tool.get("parameters") or {"type": "object", "properties": {}}
    known: Mapping[str, Any] = schema.get("properties") or {}
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name = pair["name"]
        if name in arguments:
            return {}, f"the argument {name} twice"
        if name not in known and not schema.get("additionalProperties"):
            return {}, f"no argument called {name!r}; it takes {', '.join(known) or 'none'}"
        arguments[name] = _typed(known.get(name), pair["value"])
    for misfit in _validator(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))(arguments):
        where = ".".join(str(part) for part in misfit.instance_path)
        return {}, f"{where}: {misfit.message}"[:300] if where else str(misfit.message)[:300]
    return arguments, ""


def _typed(schema: Any, value: Any) -> Any:
    """A value as its schema wants it: as text where it wants text, else the JSON that a text spells."""
    if isinstance(schema, dict) and schema.get("type") == "string":
        return value if isinstance(value, str) else orjson.dumps(value).decode()
    if not isinstance(value, str):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    try:
        return orjson.loads(value)
    except ValueError:
        return value


@lru_cache(maxsize=512)
def _validator(schema: bytes) -> Callable[[Any], Any]:
    """What checks arguments. Nothing is fetched: a schema that points elsewhere cannot be checked.

    Raises:
        RowFault: it is no JSON Schema.
    """
    from jsonschema_rs import validator_for

    try:
        return validator_for(schema.decode(), retriever=_nowhere).iter_errors
    except Exception as error:  # noqa: BLE001  (the library raises ValidationError, ReferencingError and ValueError alike)
        raise RowFault("tool", f"a tool's parameters are no JSON Schema: {error}"[:500]) from None


def _nowhere(address: str) -> Any:
    raise LookupError(f"nothing is read from {address}")


def returned_schema(returns: Any) -> dict[str, Any]:
    """The reply's JSON Schema for a tool's result: what it declares, as far as every provider takes it, else a text."""
    found: dict[str, Any] = {}
    if isinstance(returns, list):
        found = {str(name): _TEXT for name in returns if isinstance(name, str)}
    elif isinstance(returns, dict) and isinstance(returns.get("properties"), dict):
        found = {str(name): _simple(schema) for name, schema in returns["properties"].items()}
    return _object(dict(list(found.items())[:_MOST]) or {"result": _TEXT})


_MOST = 20
"""Keys of one result."""


def _simple(schema: Any) -> dict[str, Any]:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(schema, dict) and (values := schema.get("enum")) and all(isinstance(one, str) for one in values):
        return {"enum": list(values)}
    if kind in ("integer", "number", "boolean"):
        return {"type": kind}
    return {"type": "array", "items": {"type": "string"}, "maxItems": _MOST} if kind == "array" else _TEXT


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _joined(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip())


VALUE: dict[str, Any] = {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "string", "maxLength": 1000}]}
"""JSON Schema of an argument. Numbers are numbers: asked for texts alone, the embedded model wrote `,2` and went on."""
_TEXT: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": LONGEST}
TURNS: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "role": {"type": "string", "enum": ["user", "assistant", "tool"]},
            "content": {"type": "string"},
            "name": {"type": "string"},
            "arguments": {"type": "string"},
        },
        "required": ["role", "content", "name", "arguments"],
        "additionalProperties": False,
    },
    "minItems": 2,
}
"""JSON Schema of a dialogue."""
