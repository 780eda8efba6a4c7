"""What a part is, what it is given, and how a name in YAML becomes one.

A part is a frozen pydantic model (its fields are what YAML may say) plus one method, in a file of its own on a shelf:
`qdcgen/filters/length.py` is the filter `length`. Nobody imports a shelf; `find` looks on it by name, then among the
entry points of installed packages (group `qdcgen.filters`, …), on first use.
"""

from __future__ import annotations

import importlib
import inspect
import random
import typing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from qdcgen import sobol
from qdcgen.errors import QdcgenError, nearest
from qdcgen.rows import Cell, Draft, Measure, Reply, Row, Taxonomy, Verdict, stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from qdcgen.bradley_terry import Ratings
    from qdcgen.landing import Landing
    from qdcgen.same import Fitted

    Vectors = NDArray[np.float32]

__all__ = [
    "KINDS",
    "UNDECIDED",
    "Band",
    "Embedder",
    "Executor",
    "Exporter",
    "Filter",
    "Graded",
    "Label",
    "Layer",
    "Metric",
    "Part",
    "Position",
    "Problem",
    "Sample",
    "Scene",
    "Settings",
    "Step",
    "Tools",
    "UnknownPart",
    "Weight",
    "Writer",
    "alias_of",
    "find",
    "names",
    "pinned",
    "position",
    "shown",
    "word",
]


# ── what a part is given ────────────────────────────────────────────────────────────────────────────────────────────


class Ask(Protocol):
    """`await tools.ask(alias, messages, schema=…)`: one journaled, limited, checked model call."""

    def __call__(
        self,
        alias: str,
        messages: Sequence[Mapping[str, str]],
        *,
        schema: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: str | None = None,
        counted: bool = True,
    ) -> Awaitable[Reply]:
        """Ask the model behind `alias`.

        Every call has a seed of its own row and place, so two rows never share a reply by accident. A step that gives
        `seed` names a call that all rows of its mix share: the same name and the same messages are asked once, and
        served to the others. `counted` says whether it is in this row's calls, tokens and cost: give it to one of them.

        Raises:
            RowFault: the reply does not fit, or the provider refuses this one request; costs the row.
            ModelRefused: key, quota or permission; ends the run.
        """
        ...


def _no_model(alias: str, *_: Any, **__: Any) -> Any:
    message = f"this part was not given a model, and asked for {alias!r}"
    raise LookupError(message)


def _no_template(source: str, _names: Mapping[str, Any]) -> str:
    message = f"this part was not given templates, and asked for {source[:40]!r}"
    raise LookupError(message)


def _nothing_is(_values: Mapping[str, str]) -> bool:
    return False


def _no_neighbour(_cell: Cell) -> Row | None:
    return None


def _not_read(_axis: str) -> Landing | None:
    return None


def _no_pairs() -> Fitted | None:
    return None


def _no_file(name: str) -> Path:
    message = f"this part was not given files, and asked for {name!r}"
    raise LookupError(message)


def _no_vectors(_texts: Sequence[str]) -> Any:
    message = "this part was not given an embedder"
    raise LookupError(message)


@dataclass(frozen=True, slots=True)
class Tools:
    """Everything a part may do to the world, as plain callables; a test passes a lambda.

    `ask` calls a model; `render(source, names)` fills a bounded, sandboxed template; `rng(name)` is the row's own
    random stream of that name; `embed(texts)` gives (n, dim) float32 rows of unit length; `kept()` yields, in plan
    order, the rows that this filter has let through so far; `scratch` is the part's own for one invocation, and holds
    only what can be worked out again from `kept()`. `near(cell)` is the accepted row of an earlier round whose region
    lies nearest to the cell's, None where there is none.
    """

    ask: Ask = _no_model
    render: Callable[[str, Mapping[str, Any]], str] = _no_template
    rng: Callable[[str], random.Random] = random.Random
    embed: Callable[[Sequence[str]], Vectors] = _no_vectors
    kept: Callable[[], Iterable[Row]] = tuple
    scratch: dict[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Declared fields of a row → JSON Schema."""
    taxonomies: Mapping[str, Taxonomy] = field(default_factory=dict)
    """Axis → tree, as the recipe declares them."""
    near: Callable[[Cell], Row | None] = _no_neighbour
    file: Callable[[str], Path] = _no_file
    """A file, or a run's folder, of the recipe's folder by name; raises UsageError for one that is not there or lies
    outside."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where one layer of one row stands: a stratified point for even cover inside the mix, and a private stream."""

    mix_seed: int
    """Seed of this layer in this mix: `stream(mix, layer name)`; shared by all replicates."""
    row_seed: int
    """Seed of this layer in this row."""
    replicate: int
    prepared: Any = None
    """What the layer's `prepare` gave."""

    @property
    def u(self) -> float:
        """A point in [0, 1): the first 2^k replicates of a mix fall one into each of 2^k equal parts.

        One-dimensional Sobol point (the van der Corput sequence) with hash-based nested scrambling of both its order
        and its value (Burley 2020, JCGT 9:4, §3). Shuffling the order by layer keeps two layers of one mix from
        moving together, which the same sequence scrambled twice would do.
        """
        index = sobol.scramble(self.replicate & _MASK, self.mix_seed & _MASK)
        return sobol.scramble(sobol.reverse(index), self.mix_seed >> 32 & _MASK) / 2**32

    @property
    def rng(self) -> random.Random:
        """The layer's own random stream in this row."""
        return random.Random(self.row_seed)


_MASK = 0xFFFFFFFF


def word(value: Any) -> str:
    """A drawn value as one word, which a recipe and the plan compare it by: a mapping's `name`, else its `text`."""
    if isinstance(value, dict):
        return str(value.get("name", value.get("text", value)))
    return str(value)


class Writer(str):
    """A drawn value that names the model of its row; see `alias_of`."""

    __slots__ = ()


class Label(str):
    """A drawn value that the field `field` of its row must have; see `pinned`."""

    __slots__ = ("field",)

    def __new__(cls, value: str, field: str) -> typing.Self:
        """The text `value`, which knows its field."""
        made = super().__new__(cls, value)
        made.field = field
        return made

    field: str


class Band(str):
    """The band of difficulty that a row is asked to be in, where the recipe's target has bands."""

    __slots__ = ("harder",)

    def __new__(cls, value: str, *, harder: bool) -> typing.Self:
        """The band's name, which knows whether it lies above the middle one."""
        made = super().__new__(cls, value)
        made.harder = harder
        return made

    harder: bool


def alias_of(draft: Draft, own: str | None) -> str:
    """The alias that a step of this row asks: its own where it names one, else what the row's layer `models` drew.

    Empty where there is neither: `ask` then takes the recipe's first.
    """
    if own:
        return own
    return next((str(value) for value in draft.names.values() if isinstance(value, Writer)), "")


def pinned(draft: Draft, fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The fields' JSON Schemas, where each field that a layer `label` of this row decides may only be that label."""
    labels = {value.field: str(value) for value in draft.names.values() if isinstance(value, Label)}
    return {
        name: {**schema, "enum": [one for one in schema["enum"] if str(one) == labels[name]]}
        if name in labels and "enum" in schema
        else schema
        for name, schema in fields.items()
    }


@dataclass(frozen=True)
class Sample:
    """One population of texts to measure, with everything a metric may look at.

    `texts` are in plan order. `frame` has one row per text: axes, fields and `_` columns. `vectors()` is computed once
    for all metrics. `taxonomies` and `layers` are what the recipe declares, empty for data from elsewhere. `attempts`
    is the whole history (one row per candidate made: `_id`, axes, `_kept`, `_filter`, `_reason`), None for data from
    elsewhere; `filters` names its filters in the recipe's order. `surprisal(texts)` gives (nats, tokens) per text under
    the embedded model, None where it is not loaded. `equal_n` and `equal_words` are what figures that depend on size
    are taken at, so that populations compare: texts, and mean words per text; None where nothing is compared.
    """

    of: str
    texts: Sequence[str]
    frame: pl.DataFrame
    vectors: Callable[[], Vectors]
    embedder: str
    seed: int = 0
    embed: Callable[[Sequence[str]], Vectors] | None = None
    """The embedder itself, for texts that are cut; None where there is none."""
    taxonomies: Mapping[str, Taxonomy] = field(default_factory=dict)
    layers: Sequence[str] = ()
    strategies: Sequence[Sequence[str]] = ()
    attempts: pl.DataFrame | None = None
    surprisal: Callable[[Sequence[str]], Sequence[tuple[float, int]]] | None = None
    forbidden: Callable[[Mapping[str, str]], bool] = _nothing_is
    """Whether the recipe forbids rows with these values (a leaf's path, or a layer's value) on these two axes."""
    filters: Sequence[str] = ()
    landing: Callable[[str], Landing | None] = _not_read
    """Taxonomy → where the texts landed on it, read once for all metrics; None where nobody read them."""
    planned: pl.DataFrame | None = None
    """Every row that is wanted, taxonomies as node ids; None where nothing was planned."""
    ratings: Ratings | None = None
    """How complex a critic found some of the texts, against each other; None where none was asked."""
    equal_n: int | None = None
    equal_words: float | None = None
    even: Sample | None = None
    """These texts, or some of them, cut to equal words, where populations differ in length."""
    bands: Mapping[str, float] = field(default_factory=dict)
    """Band of difficulty → share of the rows that it is to have, easiest first; empty where the target has none."""
    solving: tuple[Sequence[str], str] | None = None
    """Fields that are the question, and the one that is its answer, where the recipe says so."""
    reading: int = 0
    """Pairs of question and answer whose difficulty the embedded model reads, at most."""
    alike: Callable[[], Fitted | None] = _no_pairs
    """From which cosine on two texts say the same, fitted on first use; None where nobody gave pairs to fit it on."""
    beside: Mapping[str, Sample] = field(default_factory=dict, repr=False, compare=False)
    """Every population that is measured together with this one, itself included, by name."""


@dataclass(frozen=True)
class Scene:
    """What is known about a recipe when a part is checked: names it may use, before anything runs.

    `fields` maps each field filled by the steps so far to its JSON Schema.
    """

    axes: Mapping[str, Any]
    fields: Mapping[str, Mapping[str, Any]]
    models: Sequence[str]
    template_names: Callable[[str], set[str]]
    """Names that a template reads. Raises `RowFault` where the template cannot be compiled."""


class Problem(NamedTuple):
    """Something wrong with a part's settings: the key path below the part, and what to say about it."""

    path: tuple[str | int, ...]
    message: str


# ── what a part is ──────────────────────────────────────────────────────────────────────────────────────────────────


class Settings(BaseModel):
    """A frozen record that YAML fills: no key that it does not know, and no word where a number belongs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _words_stay_words(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would read `010` as 10, `1_000` as 1000, and `true` as 1: just what strict YAML keeps apart."""
        _numbers_only(cls.model_fields[str(info.field_name)].annotation, value)
        return value


def _numbers_only(annotation: Any, value: Any) -> None:
    """Raises ValueError where a number belongs and `value` is a word or a boolean."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if not isinstance(value, (str, bool)):
        return
    kinds = set(typing.get_args(annotation) or (annotation,)) - {type(None)}
    if kinds and kinds <= {int, float}:
        raise ValueError(f"expected a {'' if float in kinds else 'whole '}number, found {shown(value)}")


def _number(value: Any) -> Any:
    _numbers_only(float, value)
    return value


Weight = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1e9)]
"""A share relative to others, in a mapping from names to weights."""


def shown(value: Any) -> str:
    """A found value for a message: as YAML has it, cut to 60 characters; a mapping or list by its kind."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list, tuple)):
        return "a mapping" if isinstance(value, dict) else "a list"
    said = repr(value)
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"


_LONGEST = 60


def is_text(schema: Mapping[str, Any]) -> bool:
    """Whether a field of this JSON Schema holds text, as far as the schema tells."""
    if "enum" in schema:
        return all(isinstance(value, str) for value in schema["enum"])
    return bool(schema.get("type", "string") == "string")


class Part(Settings):
    """A frozen record of settings with one method. Its docstring is what `qdcgen parts` and the manual print."""

    short: ClassVar[str | None] = None
    """The field that a bare value sets: with `short = "similarity"`, `{duplicates: 0.9}` is the short form."""

    def problems(self, scene: Scene) -> Iterator[Problem]:  # noqa: ARG002  (for parts that look at the recipe)
        """What is wrong with these settings in this recipe. Nothing, unless a part says otherwise."""
        yield from ()


class Layer(Part):
    """Gives each row a value on a local axis. The value is a scalar, or a mapping whose `text` goes to prompts."""

    async def prepare(self, tools: Tools) -> Any:  # noqa: ARG002  (for layers that need something first)
        """What drawing needs beyond the settings, worked out once before the first round; None: nothing.

        `draw` finds it at the row's position. Plain data (JSON) where model calls were made for it: it is then frozen
        in the run folder as `axes/<axis>.json`, which a person may edit, and never asked for again. Anything else (a
        table that was read, say) is not written. `tools` has `ask`, `embed`, `file` and `taxonomies`.
        """
        return None

    async def mend(self, prepared: Any, tools: Tools) -> Any:  # noqa: ARG002  (for layers that a recipe can outgrow)
        """What was frozen, with what it lacks by now (a leaf that is new); the same value where nothing is lacking."""
        return prepared

    def remarks(self, prepared: Any) -> Sequence[str]:  # noqa: ARG002  (for layers with something to tell)
        """What a person may want to know of what was prepared, a line each; `plan` and `run` print it."""
        return ()

    def preparing(self) -> float:
        """Model calls that `prepare` makes at most; 0: none, and nothing is frozen."""
        return 0.0

    def draw(self, names: Mapping[str, Any], at: Position) -> Any:
        """The value for the row at `at`, given the axes drawn before it (axis → Node or value)."""
        raise NotImplementedError

    def column(self) -> str | Mapping[str, str]:
        """Type of the layer's column: `String`, `Int64`, `Float64`, `Boolean`, `List` (of strings) or `JSON`.

        A layer whose values are mappings gives a type for each of their keys: the column is then a struct.
        """
        return "String"

    def support(self) -> Sequence[Any] | None:
        """Every value that can be drawn, in order, or None where that is not a short list.

        A value that is a mapping with a `name` stands here by that name.
        """
        return None

    def vocabulary(self) -> Mapping[str, Sequence[str]]:
        """For values that are mappings: key → every value it can have, for the keys where that is a short list."""
        return {}

    def decides(self) -> str | None:
        """The field that the steps must fill with this layer's value, None where it decides none; see `pinned`."""
        return None


class Step(Part):
    """Takes a draft one step further, usually by asking a model."""

    judges: ClassVar[bool] = False
    """Whether it looks at a row that is whole, and so is taken also when the steps that make rows are passed over."""

    async def take(self, draft: Draft, tools: Tools) -> None:
        """Fill `draft.fields` and `draft.notes` in place. Raises `RowFault` when the row cannot be made."""
        raise NotImplementedError

    def fills(self) -> Mapping[str, Mapping[str, Any]]:
        """Fields that this step writes → JSON Schema of each."""
        return {}

    def names(self) -> Mapping[str, Any]:
        """Names that this step adds to `draft.names` for later templates, each with an example; they are no columns."""
        return {}

    def calls(self) -> tuple[float, float]:
        """Model calls a row takes here: expected and at most, repairs not counted."""
        return (0.0, 0.0)


class Graded(NamedTuple):
    """How a filter's score decides: kept from `threshold` on (`above`), or below it and not at it (`below`)."""

    threshold: float
    keeps: typing.Literal["above", "below"] = "above"


UNDECIDED = "undecided: "
"""How the reason of a "no" begins where a critic gave no verdict: not known to be bad, and never kept."""


class Filter(Part):
    """Says of each row whether it is kept, and why not."""

    critic: ClassVar[bool] = False
    """Whether a model's opinion decides; then its errors can be audited."""
    embeds: ClassVar[bool] = False
    """Whether what it says depends on the recipe's embedder."""

    def graded(self) -> Graded | None:
        """How the score decides, where a score alone does: every decided verdict then carries one. None otherwise."""
        return None

    def files(self) -> Sequence[str]:
        """Files and run folders that it reads, as the recipe names them: rows are judged anew when one changes."""
        return ()

    def read(self, tools: Tools) -> Any:  # noqa: ARG002  (for filters with files)
        """What it needs of its files. `check` calls it to tell what is wrong with them; `judge` calls it as it likes.

        Raises:
            UsageError, RecipeError: a file cannot be read.
        """
        return None

    def calls(self, axes: int) -> float:  # noqa: ARG002  (for filters that ask a critic)
        """Model calls that judging one row takes at most, of a recipe with so many taxonomies; repairs not counted."""
        return 0.0

    async def judge(self, rows: Sequence[Row], tools: Tools) -> list[Verdict]:
        """One verdict per row, in order. `rows` are the next ones in plan order that earlier filters kept."""
        raise NotImplementedError


class Metric(Part):
    """Turns a sample into measures."""

    table: ClassVar[str]
    """The table it belongs to: coverage, diversity, complexity or quality."""
    evened: ClassVar[bool] = False
    """Whether its figures move with the length of texts, so that compared populations are cut to equal words for it."""
    gates: ClassVar[tuple[str, ...]] = ()
    """Keys of its measures that a recipe's gates may bound, as `measure.speaking_of` reads them."""
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Gate → what a recipe must have for it to be measured at all: keys such as `measure.solver`, or what `NEEDED` in
    qdcgen/scrutiny.py knows; `… or …` where one of them does. A gate that is not here is measured in every run."""

    def measure(self, sample: Sample) -> list[Measure]:
        """The measures, each with n and interval; value None with a note where n is too small. Never raises on size."""
        raise NotImplementedError


class Embedder(Part):
    """Turns texts into vectors of unit length."""

    alone: ClassVar[bool] = False
    """Whether what is embedded beside a text moves its vector by more than rounding: where vectors are kept, such an
    embedder is given texts one by one."""

    @property
    def label(self) -> str:
        """Name and version, printed beside every figure that rests on it."""
        raise NotImplementedError

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, rows of unit length; an empty text gets a fixed vector, never NaN."""
        raise NotImplementedError


class Executor(Part):
    """Runs batches somewhere."""

    def run(
        self, batches: Iterable[Any], make: Callable[[Any], Awaitable[Any]], stop: Callable[[], bool]
    ) -> AsyncIterator[list[Any]]:
        """Yield `make(batch)` of every batch, in lists of what is done by then; start no more once `stop()` is true."""
        raise NotImplementedError


class Exporter(Part):
    """Writes accepted rows in a trainer's own format."""

    def export(self, rows: Iterator[pl.DataFrame], to: Path) -> int:
        """Write the rows to `to`; gives how many."""
        raise NotImplementedError


KINDS: dict[str, type[Part]] = {
    "layers": Layer,
    "steps": Step,
    "filters": Filter,
    "metrics": Metric,
    "embedders": Embedder,
    "executors": Executor,
    "exporters": Exporter,
}
"""Shelf → what stands on it."""


# ── how a name becomes a part ───────────────────────────────────────────────────────────────────────────────────────


class UnknownPart(QdcgenError):
    """No part of that name; the message names the nearest and how to list them."""

    exit_code = 2


@cache
def _entry_points(kind: str) -> dict[str, Any]:
    from importlib.metadata import entry_points  # 20 ms: only for names that are not on our own shelf

    return {point.name: point for point in entry_points(group=f"qdcgen.{kind}")}


@cache
def _on_shelf(kind: str) -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in (Path(__file__).parent / kind).glob("[a-z]*.py")))


def names(kind: str) -> list[str]:
    """Every part of a kind by name: the shelf's own, then installed plug-ins. Imports none of them."""
    return [*_on_shelf(kind), *sorted(set(_entry_points(kind)) - set(_on_shelf(kind)))]


@cache
def find(kind: str, name: str) -> type[Part]:
    """The part called `name` on the shelf `kind`.

    Raises:
        UnknownPart: there is none; names the nearest.
    """
    base = KINDS[kind]
    if name in _on_shelf(kind):
        module = importlib.import_module(f"qdcgen.{kind}.{name}")
        for found in vars(module).values():
            if inspect.isclass(found) and issubclass(found, base) and found.__module__ == module.__name__:
                return found
        message = f"qdcgen/{kind}/{name}.py defines no {base.__name__}"
        raise UnknownPart(message)
    if name in _entry_points(kind):
        found = _entry_points(kind)[name].load()
        if inspect.isclass(found) and issubclass(found, base):
            return found
        message = f"the plug-in {kind[:-1]} {name!r} is not a subclass of qdcgen.parts.{base.__name__}"
        raise UnknownPart(message)
    message = f"no {kind[:-1]} called {name!r}{nearest(name, names(kind))} (qdcgen parts {kind} lists them)"
    raise UnknownPart(message)


def position(seed: int, mix: str, row: str, layer: str, replicate: int, prepared: Any = None) -> Position:
    """Where `layer` of `row` stands; `mix` is the region's name and `seed` the recipe's."""
    return Position(stream(f"{seed}/{mix}", layer), stream(row, layer), replicate, prepared)
