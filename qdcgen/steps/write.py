"""The step `write`: a prompt and a schema become fields."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from qdcgen.errors import RowFault, nearest
from qdcgen.parts import Problem, Scene, Settings, Step, Tools, alias_of, pinned, shown
from qdcgen.rows import Draft


class Shape(Settings):
    """What one field may hold: a small part of JSON Schema that every provider understands."""

    type: Literal["string", "integer", "number", "boolean", "array"] = "string"
    """JSON type; `array` is a list of strings."""
    enum: tuple[str | int | float, ...] | None = Field(default=None, min_length=1)
    """The only values allowed."""
    description: str = ""
    """Told to the model."""
    minLength: int | None = Field(default=None, ge=0)  # noqa: N815  (JSON Schema's own spelling)
    """Fewest characters."""
    maxLength: int | None = Field(default=None, ge=1)  # noqa: N815
    """Most characters."""
    pattern: str | None = None
    """Regular expression that the whole string must match; constrains the embedded model as it writes."""
    minimum: float | None = None
    """Smallest number."""
    maximum: float | None = None
    """Largest number."""
    minItems: int | None = Field(default=None, ge=0)  # noqa: N815
    """Fewest list items."""
    maxItems: int | None = Field(default=None, ge=1)  # noqa: N815
    """Most list items."""

    @field_validator("pattern")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        """A pattern that no reply could be checked against must be told before one is paid for."""
        from jsonschema_rs import ValidationError, validator_for

        for said in () if value is None else (value, _whole(value)):
            try:
                validator_for({"type": "string", "pattern": said})
            except (ValidationError, ValueError):
                raise ValueError(f"expected a regular expression, found {shown(value)}") from None
        return value

    @model_validator(mode="after")
    def _possible(self) -> Shape:
        for low, high in (("minLength", "maxLength"), ("minimum", "maximum"), ("minItems", "maxItems")):
            a, b = getattr(self, low), getattr(self, high)
            if a is not None and b is not None and a > b:
                raise ValueError(f"{low} {a} is above {high} {b}")
        return self

    def schema_(self) -> dict[str, Any]:
        """The JSON Schema of this field."""
        said = self.model_dump(exclude_none=True, exclude_defaults=True)
        if self.pattern is not None:
            said["pattern"] = _whole(self.pattern)
        if "enum" in said:
            said["enum"] = list(said["enum"])
            return said
        said = {"type": self.type, **said}
        if self.type == "array":
            said["items"] = {"type": "string"}
        if self.type == "string" and "minLength" not in said and "pattern" not in said:
            said["minLength"] = 1  # an empty text is never what was asked for
        return said


def _whole(pattern: str) -> str:
    """The pattern, for the whole string: JSON Schema would be content with a part of it.

    Its own anchors at the ends say nothing more, and the embedded model's grammar can read none but ours.
    """
    bare = pattern.removeprefix("^")
    if bare.endswith("$") and (len(bare) - len(bare[:-1].rstrip("\\"))) % 2 == 1:  # not an escaped $
        bare = bare[:-1]
    return f"^(?:{bare})$"


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return {"type": value}
    return {"enum": value} if isinstance(value, list) else value


class Write(Step):
    """Asks a model to fill `fields`, telling it `prompt`. The reply must fit the fields' schema or the row fails.

    The prompt is a template: it may name every axis (`{{ topic }}`, `{{ topic.path }}`, `{{ mood }}`) and every field
    that earlier steps filled. Put what varies last: the shared beginning is then evaluated once. Where a layer `label`
    decides one of the fields, the reply can only hold the row's label there.
    """

    fields: dict[str, Annotated[Shape, BeforeValidator(_short, json_schema_input_type=Shape | str | list[Any])]] = (
        Field(min_length=1)
    )
    """Field → `string`, a list of allowed values, or a mapping such as `{type: integer, minimum: 1}`."""
    prompt: str = Field(min_length=1)
    """Template of the user message."""
    system: str | None = None
    """Template of the system message."""
    model: str | None = None
    """Alias of the model; default: the one that a layer `models` drew, else the first one."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Overrides the alias."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Overrides the alias."""

    async def take(self, draft: Draft, tools: Tools) -> None:
        """One call; its parsed reply becomes fields of the draft."""
        names = {**draft.names, **draft.fields}
        messages = [{"role": "user", "content": tools.render(self.prompt, names)}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": tools.render(self.system, names)})
        schema = self.reply_schema
        reply = await tools.ask(
            alias_of(draft, self.model),
            messages,
            schema={**schema, "properties": pinned(draft, schema["properties"])},
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        draft.fields.update(reply.parsed)

    @cached_property
    def reply_schema(self) -> dict[str, Any]:
        """JSON Schema of the whole reply: an object with exactly these fields."""
        return {
            "type": "object",
            "properties": dict(self.fills()),
            "required": list(self.fields),
            "additionalProperties": False,
        }

    def fills(self) -> Mapping[str, Mapping[str, Any]]:
        """Each field with its JSON Schema."""
        return {name: shape.schema_() for name, shape in self.fields.items()}

    def calls(self) -> tuple[float, float]:
        """One call."""
        return (1.0, 1.0)

    def problems(self, scene: Scene) -> Any:
        """The alias exists; the templates compile and name only what there is."""
        if self.model is not None and self.model not in scene.models:
            yield Problem(("model",), f"no model called {self.model!r}{nearest(self.model, list(scene.models))}")
        known = {*scene.axes, *scene.fields}
        for key in ("prompt", "system"):
            source = getattr(self, key)
            if source is None:
                continue
            try:
                unknown = scene.template_names(source) - known
            except RowFault as error:
                yield Problem((key,), str(error))
                continue
            for name in sorted(unknown):
                close = nearest(name, sorted(known)) or f"; known here: {', '.join(sorted(known))}"
                yield Problem((key,), f"{{{{ {name} }}}} is no axis and no earlier field{close}")
