"""The recipe: what YAML says, checked to the last key, with the place of every fault.

`load` reads a file into a frozen `Recipe`; nothing is created, asked or executed, and no file outside the recipe's
folder (or a folder the user allows by name) is opened.
"""

from __future__ import annotations

import os
import re
import shlex
import typing
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from qdcgen import axes, parts, scrutiny, strict_yaml, tables, taxonomy, taxonomy_files
from qdcgen.bands import LABEL, Bands, Complexity
from qdcgen.errors import Fault, QdcgenError, RecipeError, UsageError, nearest
from qdcgen.landing import THRESHOLD
from qdcgen.misfits import known_keys, misfits
from qdcgen.parts import Part, Settings, Weight, shown
from qdcgen.rows import Taxonomy
from qdcgen.scrutiny import EXPECTED_BOUND, Bound, Gate
from qdcgen.strict_yaml import dotted

if TYPE_CHECKING:
    from qdcgen.grow import Wanted

__all__ = ["Alias", "Bound", "Entry", "Gate", "Growing", "Measuring", "Recipe", "Source", "Strategy", "Target", "load"]
__all__ += ["loads", "outgrown", "rooted"]

RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""Names a folder, so it must not hold a slash or begin with a dot. Pydantic searches: the ends must be said."""
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)\Z", re.IGNORECASE)


class Entry(NamedTuple):
    """A part under the name that the recipe gives it."""

    name: str
    part: Any
    at: int = 0
    """Its place in the list that the recipe writes, faulty ones counted too: where faults are told of."""


class Price(Settings):
    """US dollars per million tokens."""

    input: float = Field(ge=0)
    """Prompt tokens."""
    output: float = Field(ge=0)
    """Reply tokens."""


def _plain_http(address: str) -> str:
    from urllib.parse import urlsplit

    try:
        url = urlsplit(address)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise ValueError(f"expected http(s)://host[:port][/path], and this is no address: {error}") from None
    expected = "expected http(s)://host[:port][/path]"
    extra = {"a user": url.username is not None, "a query": url.query, "a fragment": url.fragment}
    if found := [what for what, there in extra.items() if there]:  # may hold a password, so it is not shown
        raise ValueError(f"{expected}, found an address with {' and '.join(found)}; name a key's variable under key:")
    if url.scheme not in ("http", "https") or not host:
        raise ValueError(f"{expected}, found {shown(address)}")
    return address.rstrip("/")


def _provided(model: str) -> str:
    if model and model != "embedded" and not model.startswith("embedded:") and "/" not in model:
        raise ValueError(f"expected <provider>/<model>, e.g. openai/{model}, or embedded; found {shown(model)}")
    return model


class Alias(Settings):
    """A model under the name that the rest of the recipe uses."""

    model: Annotated[str, AfterValidator(_provided)] = Field(
        min_length=1, examples=["embedded", "openai/gpt-5-mini", "embedded:/models/x.gguf"]
    )
    """`embedded` (in the install), `embedded:small`, `embedded:<path to a GGUF file>`, or `<provider>/<model>`."""
    api_base: Annotated[str, AfterValidator(_plain_http)] | None = None
    """Address of an OpenAI-dialect server, e.g. `http://localhost:8000/v1`."""
    key: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Name of the environment variable that holds the key; default: the provider's own, e.g. OPENAI_API_KEY."""
    temperature: float = Field(default=0.8, ge=0, le=2)
    """Sampling temperature; a step may set its own."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus of the sampling distribution."""
    max_tokens: int = Field(default=1024, ge=1, le=1_000_000)
    """Longest reply."""
    max_in_flight: int = Field(default=32, ge=1, le=10_000)
    """Calls at once. The embedded model runs one per core whatever this says."""
    rpm: float | None = Field(default=None, gt=0)
    """Requests a minute, at most."""
    tpm: float | None = Field(default=None, gt=0)
    """Tokens a minute, prompt and reply together, at most."""
    timeout: float = Field(default=120, gt=0, le=86_400)
    """Seconds that one call may take."""
    via: Literal["litellm"] | None = None
    """`litellm` sends calls through that library even where a direct road is known."""
    batch: bool = False
    """Send calls through the provider's Batch API: cheaper, hours later; the next run collects."""

    @model_validator(mode="after")
    def _one_road(self) -> Alias:
        if self.batch and (self.via is not None or self.model.startswith("embedded")):
            raise ValueError("batch: true needs a provider's own Batch API: no via:, and not the embedded model")
        return self

    price: Price | None = None
    """Overrides the known price; without either, cost is reported as unknown."""


def _quota(value: Any) -> Any:
    expected = "expected a percentage such as 20% (above 0, at most 100), or a whole number of rows such as 150"
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})?\s*%", value.strip()):
        if 0 < float(value.strip().rstrip("% ")) <= 100:  # noqa: PLR2004  per cent
            return value.strip()
    elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    none = "; to draw none of it write weights: {…: 0}" if str(value).strip("0.% ") == "" else ""
    raise ValueError(f"{expected}; found {shown(value)}{none}")


Quota = Annotated[str | int, BeforeValidator(_quota)]
"""A percentage of the rows, or a count of rows."""


class Growing(Settings):
    """A taxonomy that a model is asked for, once: it is frozen in the run folder, and never regrown by itself."""

    description: str = Field(alias="from", min_length=1, max_length=4000)
    """What the axis distinguishes, e.g. `ways this can harm the customer`; the bare value."""
    depth: int = Field(default=3, ge=1, le=10)
    """Levels of nodes."""
    proposals: int = Field(default=3, ge=1, le=20)
    """Independent proposals of each node's children."""
    children: int = Field(default=8, ge=1, le=100)
    """Most children of one node."""
    nodes: int = Field(default=300, ge=1, le=100_000)
    """Most nodes in all."""
    calls: int = Field(default=600, ge=1, le=1_000_000)
    """Most calls in all; one that repairs a reply of the wrong form is not counted."""
    model: str = ""
    """Alias of the model; default: the first one."""
    samples: Annotated[str, Field(min_length=1)] | None = None
    """Parquet, JSONL, JSON or CSV in the recipe's folder; up to 12 rows of it show the model what the data is like."""
    duplicates: Literal["flag", "merge"] = "flag"
    """What becomes of a label that another branch has already, by embedding: noted, or merged into that one."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"from": value} if isinstance(value, str) else value

    def wanted(self, samples: tuple[str, ...] = ()) -> Wanted:
        """The same as `qdcgen.grow` takes it, with rows to show."""
        from qdcgen.grow import Wanted

        return Wanted(alias=self.model, samples=samples, **self.model_dump(exclude={"model", "samples"}))

    def in_words(self) -> str:
        """What `check` says while it is not grown."""
        from qdcgen.grow import most_calls

        return (
            "not grown yet; run, or qdcgen taxonomy grow, asks a model for it: at most "
            f"{self.nodes:,} nodes, {self.depth} deep, {self.children} children each, "
            f"{most_calls(self.wanted()):,} calls"
        )


class Source(Settings):
    """Where a taxonomy comes from: written here, a file in the recipe's folder, or grown by a model."""

    tree: Any = None
    """Nested mappings and lists of names."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """Nested YAML or JSON, a CSV/TSV/JSON table with path columns or with id and parent columns, SKOS (.jsonld, .ttl,
    .rdf), or an artefact (axes/<name>.json)."""
    grow: Growing | None = None
    """What to ask a model for; the tree is frozen as `axes/<axis>.json` in the run folder before any row is planned."""
    id: str | None = None
    """Column of node ids."""
    parent: str | None = None
    """Column of parent ids."""
    label: str | None = None
    """Column of names."""
    text: str | None = None
    """Column of definitions."""
    weight: str | None = None
    """Column of prevalence weights."""
    levels: tuple[str, ...] | None = None
    """Columns that hold the path, root first, e.g. `[sector, group, industry]`."""
    exclude: dict[str, str | list[str]] | None = None
    """Rows to leave out: column → value or values, each as it stands in the file."""
    root: str | None = None
    """Take only this node (id or path) and what lies below it."""
    weights: dict[str, Weight] = Field(default={})
    """Prevalence: path pattern → weight, e.g. `{cards/*: 3}`; default 1."""
    minimum: int | None = Field(default=None, ge=1, le=4_294_967_295)
    """Rows that each leaf gets at least, of the rows that draw this taxonomy at `target.rows`."""
    quotas: dict[str, Quota] = Field(default={})
    """Share of a sub-tree: path pattern → percentage of the rows that draw this taxonomy, or a count of rows at
    `target.rows`, e.g. `{cards/**: 20%, transfers: 150}`. The other leaves share the rest."""

    @model_validator(mode="after")
    def _one_source(self) -> Source:
        if sum(one is not None for one in (self.tree, self.file, self.grow)) != 1:
            raise ValueError("expected either tree: or file: or grow:")
        return self


class Strategy(Settings):
    """Taxonomies that are drawn together, and how often."""

    axes: tuple[str, ...] = Field(min_length=1)
    """Names of taxonomies."""
    weight: float = Field(default=1.0, gt=0, le=1e9)
    """Share of rows, relative to the other strategies."""


class Target(Settings):
    """How much is wanted, and how far the run may go for it."""

    rows: int = Field(ge=1, le=4_294_967_295, examples=[100])
    """Accepted rows to end with: exactly this many, or a named shortfall and exit code 4."""
    candidates: int = Field(default=3, ge=1, le=1000)
    """At most this many tries for each owed row."""
    attempts: int | None = Field(default=None, ge=1)
    """At most this many rows made in all, kept or not."""
    usd: float | None = Field(default=None, gt=0)
    """US dollars that all invocations together may spend; needs known prices."""
    calls: int | None = Field(default=None, ge=1)
    """Model calls that all invocations together may make."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens, prompt and reply together, that all invocations together may take."""
    minutes: float | None = Field(default=None, gt=0)
    """Minutes that one invocation may take."""
    complexity: Complexity | None = None
    """Bands of difficulty and the share of the accepted rows that each is to have: a row whose band is full is turned
    down, and later rounds ask for the bands that lack rows (`{{ complexity }}` in templates, step `complexify`)."""


class Anchor(Settings):
    """Real rows to compare with."""

    file: str = Field(min_length=1)
    """Parquet, JSONL, JSON or CSV in the recipe's folder."""
    text: str | None = None
    """Its column of texts; default: the name of the measured field."""
    labels: dict[str, Annotated[str, Field(min_length=1)]] = Field(default={})
    """Taxonomy → the column that says which node each row is of, by id, path or label, e.g. `{topic: intent}`. On these
    rows the reader of `landing` is measured, so that its word on the others can be believed or not."""


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Landing(Settings):
    """Who reads, blind to the request, where a text landed."""

    model: str | None = None
    """Alias of the model that reads, one call a text and taxonomy; default: the embedder reads, at no cost."""
    threshold: float = Field(default=THRESHOLD, ge=0, le=1)
    """Score from which the embedder places a text at all: 0 no nearer than any sentence, 1 the node itself."""


class Rating(Settings):
    """A critic that compares accepted rows, a few at a time, and says how complex each is; see metric `rated`."""

    model: str
    """Alias of the critic; the bare value. Another one than the writer's is worth more."""
    batch: int = Field(default=5, ge=2, le=20)
    """Texts that are compared in one call."""
    appearances: int = Field(default=5, ge=2, le=50)
    """Batches that each text stands in."""
    rows: int = Field(default=200, ge=20, le=1000)
    """Accepted rows that are compared, at most; `appearances` × rows / `batch` calls in all."""
    anchors: Annotated[str, Field(min_length=1)] | None = None
    """Parquet, JSONL, JSON or CSV in the recipe's folder: 2 to 100 texts (column `text`, or that of the measured field)
    that every run compares its rows with, so that ratings of two runs lie on one scale. A column `level`, where there
    is one, says how complex people find them, as a number."""


class Solver(Settings):
    """A model that is given accepted rows to solve, several times each; see metric `passes`."""

    model: str
    """Alias of the solver. One that wrote the rows finds them too easy."""
    question: Annotated[tuple[str, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
    """Field or fields that the solver sees."""
    answer: str = Field(min_length=1)
    """Field that holds the answer."""
    tries: int = Field(default=8, ge=2, le=64)
    """Times that each row is given to it, at its own temperature."""
    compare: Literal["exact", "number", "choice", "contains"] | None = None
    """How answers are compared, as in the filter `solvable`."""
    tolerance: float = Field(default=0.0, ge=0, le=1)
    """For numbers: largest difference, as a share of the row's answer."""
    rows: int = Field(default=100, ge=20, le=10_000)
    """Accepted rows that are given to it, at most; `tries` calls each."""

    @model_validator(mode="after")
    def _blind(self) -> Solver:
        if self.answer in self.question:
            raise ValueError(f"the solver would see the answer: {self.answer!r} stands under question: as well")
        return self

    def part(self) -> Any:
        """The filter `solvable` that asks and compares."""
        return parts.find("filters", "solvable").model_validate(self.model_dump(exclude={"rows"}))


class Instructed(Settings):
    """Whose answers the embedded model reads with and without their question; see metric `ifd`."""

    question: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = ()
    """Field or fields that are the question; default: those of `measure.solver`."""
    answer: str = ""
    """Field that holds the answer; default: that of `measure.solver`."""
    rows: int = Field(default=30, ge=20, le=10_000)
    """Accepted rows that are read, at most; three passes each: about 9 s of a core for 60 tokens."""


class Measuring(Settings):
    """What is measured, and how."""

    text: tuple[str, ...] = ()
    """Field or fields that make up the measured text; default: every string field."""
    embedder: Any = "wordllama"
    """Which embedder: `wordllama` (default), `bge`, `{sentence_transformers: NAME}`, `{provider: MODEL}`."""
    anchor: Anchor | None = None
    """Real rows to stand beside the synthetic ones."""
    landing: Landing = Landing()
    """Who says where a text landed; a bare value is the alias of a model."""
    pairs: Annotated[str, Field(min_length=1)] | None = None
    """Parquet, JSONL, JSON or CSV in the recipe's folder: pairs of texts (columns `text_a`, `text_b`) of which people
    said whether they say the same (`same`: 1, 0, yes or no). From which cosine on texts are of one semantic class is
    fitted on them; without pairs no classes are counted."""
    complexity: Rating | None = None
    """A critic that rates how complex accepted rows are; a bare value is its alias. Default: none is asked."""
    solver: Solver | None = None
    """A model that solves accepted rows several times each, for their pass rates. Default: none is asked."""
    ifd: Instructed | None = None
    """Whose answers the embedded model reads with and without their question. Default: none, for it takes minutes."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("text"), str):
                value = {**value, "text": [value["text"]]}
            if isinstance(value.get("anchor"), str):
                value = {**value, "anchor": {"file": value["anchor"]}}
            if isinstance(value.get("landing"), str):
                value = {**value, "landing": {"model": value["landing"]}}
            if isinstance(value.get("complexity"), str):
                value = {**value, "complexity": {"model": value["complexity"]}}
        return value

    @property
    def solving(self) -> tuple[tuple[str, ...], str] | None:
        """Fields that are the question, and the one that is its answer, for `ifd`; None where it is not asked for."""
        if self.ifd is None:
            return None
        question = self.ifd.question or (self.solver.question if self.solver is not None else ())
        return question, self.ifd.answer or (self.solver.answer if self.solver is not None else "")


def _worded(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"{EXPECTED_BOUND}, found {shown(value)}")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


class Recipe(Settings):
    """Everything one run is asked for."""

    recipe: Literal[1] = Field(description="Version of the recipe language.")
    name: str = Field(pattern=RUN_NAME)
    """Names the run folder."""
    about: str = ""
    """What the data is, in a sentence; people and models read it."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Everything random derives from it."""
    models: dict[str, Alias] = Field(min_length=1)
    """Aliases; the first one is used wherever a step names none."""
    taxonomy: dict[str, Source] = Field(min_length=1)
    """Global coverage: one tree of regions per axis."""
    strategies: tuple[Strategy, ...] = ()
    """Which taxonomies are drawn together; default: all."""
    forbid: tuple[dict[str, str], ...] = ()
    """Combinations that must not be drawn: axis → pattern or value."""
    layers: dict[str, Any] = Field(default={})
    """Local variation: axis → layer."""
    generate: tuple[Any, ...] = Field(min_length=1)
    """Steps, in order."""
    filters: tuple[Any, ...] = ()
    """What is kept: a row is accepted when every filter keeps it."""
    filter_order: Literal["cheap_first", "written"] = "cheap_first"
    """Which filter sees a row first: those that ask no model, then those with fewer calls a row; or as written."""
    target: Target
    """How many rows."""
    measure: Measuring = Measuring()
    """What is measured."""
    gates: dict[
        Literal["coverage", "diversity", "complexity", "quality"], dict[str, Annotated[str, BeforeValidator(_worded)]]
    ] = Field(default={})
    """Bounds on measures; a broken one ends the run with exit code 3."""

    file: str = Field(default="", exclude=True, repr=False)
    folder: Path = Field(default=Path(), exclude=True, repr=False)
    allowed: tuple[Path, ...] = Field(default=(), exclude=True, repr=False)
    overrides: tuple[str, ...] = Field(default=(), exclude=True, repr=False)
    taxonomies: dict[str, Any] = Field(default={}, exclude=True, repr=False)
    bounds: tuple[Any, ...] = Field(default=(), exclude=True, repr=False)
    source: str = Field(default="", exclude=True, repr=False)
    notes: tuple[str, ...] = Field(default=(), exclude=True, repr=False)
    anchor: Path | None = Field(default=None, exclude=True, repr=False)
    levels: dict[str, float | None] = Field(default={}, exclude=True, repr=False)
    pairs: Path | None = Field(default=None, exclude=True, repr=False)
    samples: dict[str, Path] = Field(default={}, exclude=True, repr=False)
    marked: Any = Field(default=None, exclude=True, repr=False)

    @property
    def ungrown(self) -> tuple[str, ...]:
        """Axes with `grow:` that the run folder does not hold yet; they are not in `taxonomies`."""
        return tuple(axis for axis in self.taxonomy if axis not in self.taxonomies)

    @property
    def drawn_together(self) -> tuple[Strategy, ...]:
        """The strategies, or the one that draws every taxonomy together.

        Raises:
            UsageError: an axis is not grown yet, so nothing can be planned.
        """
        if self.ungrown:
            typed = shlex.quote(self.file)
            raise UsageError(
                f"{self.file}: taxonomy {', '.join(self.ungrown)} is not grown yet; "
                f"type: qdcgen taxonomy grow {typed} (qdcgen run {typed} grows it too, and goes on)"
            )
        return self._together

    @property
    def _together(self) -> tuple[Strategy, ...]:
        return self.strategies or (Strategy(axes=tuple(self.taxonomy)),)

    def rows_drawing(self, axis: str) -> int:
        """Rows of the target whose strategy draws this taxonomy, rounded down."""
        weights = [(Fraction(repr(strategy.weight)), axis in strategy.axes) for strategy in self._together]
        drawn = sum((weight for weight, draws in weights if draws), Fraction(0))
        return int(self.target.rows * drawn / sum(weight for weight, _ in weights))

    @property
    def fields(self) -> dict[str, Mapping[str, Any]]:
        """Field → JSON Schema, over all steps."""
        found: dict[str, Mapping[str, Any]] = {}
        for entry in self.generate:
            found.update(entry.part.fills())
        return found

    @property
    def judges(self) -> tuple[tuple[str, Entry], ...]:
        """The filters in the order in which they see a row, each with a name that no other has.

        `length#2` is the second of that name as the recipe writes them. Those that ask no model come first, then those
        with fewer calls a row: what a free filter drops costs no call. Bands of difficulty come last.
        """
        names = [entry.name for entry in self.filters]
        counts = [names[:place].count(name) for place, name in enumerate(names)]
        labels = [f"{name}#{count + 1}" if count else name for name, count in zip(names, counts, strict=True)]
        listed = list(zip(labels, self.filters, strict=True))
        if self.filter_order == "cheap_first":
            listed.sort(key=lambda one: float(one[1].part.calls(len(self.taxonomy))))
        if self.target.complexity is not None:  # last: a band is full of rows that nobody else turns down
            part = Bands(settings=self.target.complexity, text=self.text_fields, rows=self.target.rows)
            listed.append((LABEL, Entry(LABEL, part)))
        return tuple(listed)

    @property
    def text_fields(self) -> tuple[str, ...]:
        """Fields that make up the measured text."""
        return self.measure.text or tuple(
            name for name, schema in self.fields.items() if schema.get("type") == "string" and "enum" not in schema
        )

    def resolved(self) -> dict[str, Any]:
        """The recipe with defaults filled in and file taxonomies read, as plain data: what the digest covers."""
        said = self.model_dump(mode="json", exclude={"layers", "generate", "filters", "taxonomy"})
        said["layers"] = {axis: _plain(entry) for axis, entry in self.layers.items()}
        said["generate"] = [_plain(entry) for entry in self.generate]
        said["filters"] = [_plain(entry) for entry in self.filters]
        said["taxonomy"] = {name: tree.digest for name, tree in self.taxonomies.items()}
        return said


def _plain(entry: Entry) -> dict[str, Any]:
    return {entry.name: entry.part.model_dump(mode="json")}


# ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def load(
    path: str | Path,
    *,
    overrides: tuple[str, ...] = (),
    allowed: tuple[Path, ...] = (),
    out: Path | None = None,
) -> Recipe:
    """Read, resolve and check a recipe.

    `overrides` are `path.to.key=value` strings; `allowed` are folders, besides the recipe's own, from which its files
    may be read. Axes with `grow:` are read from the run folder `out` (default: `runs/<name>`) where they are grown.

    Raises:
        RecipeError: every fault found, each with file, line and column.
        UsageError: the file cannot be read, or an override cannot be applied.
    """
    path = Path(path)
    try:
        if path.stat().st_size > strict_yaml.MAX_BYTES:
            raise RecipeError(Fault(str(path), 0, 0, f"larger than {strict_yaml.MAX_BYTES:,} bytes"))
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}; expected a recipe (qdcgen init writes one to start from)"
        ) from None
    return loads(text, file=str(path), folder=path.resolve().parent, overrides=overrides, allowed=allowed, out=out)


def loads(
    text: bytes | str,
    *,
    file: str,
    folder: Path,
    overrides: tuple[str, ...] = (),
    allowed: tuple[Path, ...] = (),
    out: Path | None = None,
) -> Recipe:
    """As `load`, from text; relative file names are looked up in `folder`."""
    marked = strict_yaml.parse(text, file)
    if not isinstance(marked.data, dict):
        found = shown(marked.data)
        raise RecipeError(Fault(file, 1, 1, f"{found} at the top; expected keys such as recipe:, name:, taxonomy:"))
    for override in overrides:
        _override(marked, override)
    faults: list[Fault] = []
    _variables(marked, faults)
    recipe, sound = _validated(marked, _long(marked, faults), faults)
    notes: list[str] = []
    recipe = recipe.model_copy(
        update={
            "file": file,
            "folder": folder,
            "allowed": allowed,
            "overrides": overrides,
            "taxonomies": _read_taxonomies(
                recipe, marked, folder, allowed, faults, notes, out or Path("runs") / recipe.name
            ),
            "samples": _samples(recipe, marked, folder, allowed, faults),
            "marked": marked,
            "notes": tuple(notes),
            "source": text.decode("utf-8-sig") if isinstance(text, bytes) else text,
            "measure": recipe.measure.model_copy(update={"embedder": _embedder(marked, recipe, faults)}),
            "bounds": tuple(scrutiny.gates(recipe, marked, faults)),
            "anchor": _anchor(recipe, marked, folder, allowed, faults),
            "levels": _levels(recipe, marked, folder, allowed, faults),
            "pairs": _pairs(recipe, marked, folder, allowed, faults),
        }
    )
    if {"taxonomy", "strategies", "target"} <= sound:
        recipe = recipe.model_copy(update={"taxonomies": _apportioned(recipe, marked, faults)})
    if {"measure", "models", "taxonomy"} <= sound:
        _check_landing(recipe, marked, faults)
        _check_critic(recipe, marked, faults)
    if {"measure", "models", "generate"} <= sound:
        _check_solver(recipe, marked, faults)
    scrutiny.check(recipe, marked, faults, sound)
    if faults:
        raise RecipeError(faults)
    notes += [*scrutiny.own_critics(recipe), *scrutiny.between_bands(recipe)]
    return recipe.model_copy(update={"notes": tuple(notes)})


def rooted(recipe: Recipe, grown: Mapping[str, Taxonomy]) -> Recipe:
    """The recipe with these trees under its grown axes, and none of any other run folder; every pattern is checked.

    Raises:
        RecipeError: a weight, a `forbid` entry or a part names a node that did not grow; nothing was planned.
    """
    faults: list[Fault] = []
    trees: dict[str, Taxonomy] = {}
    for axis, source in recipe.taxonomy.items():
        if source.grow is None:
            trees[axis] = recipe.taxonomies[axis]
        elif axis in grown:
            try:
                trees[axis] = _weighed(grown[axis], source, ("taxonomy", axis), recipe.marked)
            except RecipeError as error:
                faults += error.faults
    young = {axis: tree for axis, tree in trees.items() if axis in grown}
    trees |= _apportioned(recipe.model_copy(update={"taxonomies": young}), recipe.marked, faults)
    recipe = recipe.model_copy(update={"taxonomies": trees})
    scrutiny.check(recipe, recipe.marked, faults, frozenset(Recipe.model_fields))
    if faults:
        raise RecipeError(faults)
    return recipe


def _long(marked: strict_yaml.Marked, faults: list[Fault]) -> dict[str, Any]:
    """The recipe's data with every short form written out, and parts in place of their settings."""
    data = dict(marked.data)
    listed = {
        "layers": _mapped_parts(marked, data, faults),
        "generate": _listed_parts(marked, data, "generate", "steps", faults),
        "filters": _listed_parts(marked, data, "filters", "filters", faults),
    }
    if isinstance(data.get("taxonomy"), dict):
        forms: dict[type, str] = {list: "tree", str: "file"}
        data["taxonomy"] = {
            axis: {forms[type(value)]: value} if type(value) in forms else value
            for axis, value in data["taxonomy"].items()
        }
    if isinstance(data.get("strategies"), list):
        data["strategies"] = [{"axes": s} if isinstance(s, list) else s for s in data["strategies"]]
    data.update({key: value for key, value in listed.items() if key in data})
    return data


def _validated(marked: strict_yaml.Marked, data: dict[str, Any], faults: list[Fault]) -> tuple[Recipe, frozenset[str]]:
    """The recipe, and which of its top-level keys are sound; the others are stood in for, so that checking goes on.

    Checks that need a key that is not sound are left out: a step that could not be read fills no fields, and telling
    that they are missing would send the reader to the wrong place.
    """
    known = {key for key, field in Recipe.model_fields.items() if not field.exclude}
    internal = set(Recipe.model_fields) - known
    listed = ", ".join(known_keys(Recipe, ()))
    faults += [
        marked.fault((key,), f"unknown key {key!r}; expected one of {listed}", at_key=True)
        for key in internal & set(data)
    ]
    data = {key: value for key, value in data.items() if key not in internal}
    spoilt = {key for key in ("layers", "generate", "filters") if _is_spoilt(marked.data.get(key), data.get(key))}
    try:
        return Recipe.model_validate(data), frozenset(known - spoilt)
    except ValidationError as error:
        faults += misfits(marked, error, Recipe, (), told=spoilt)
        wrong = {str(one["loc"][0]) for one in error.errors(include_url=False)}
    if wrong - known:  # an unknown key may be any of those that are not there, mistyped
        spoilt |= known - set(data)
    sound = frozenset(known - wrong - spoilt)
    stand_ins: dict[str, Any] = {
        "recipe": 1,
        "name": "x",
        "models": {"x": {"model": "embedded"}},
        "taxonomy": {"x": {"tree": ["x"]}},
        "generate": [Entry("x", Part())],
        "target": {"rows": 1},
    }
    kept = {key: value for key, value in data.items() if key in known - wrong}
    return Recipe.model_validate({**stand_ins, **kept}), sound


def _is_spoilt(said: Any, made: Any) -> bool:
    """Whether a part could not be made of what was said, which is told already."""
    return isinstance(said, (dict, list)) and isinstance(made, type(said)) and len(made) < len(said)


def _override(marked: strict_yaml.Marked, override: str) -> None:
    key, sign, said = override.partition("=")
    if not sign or not all(key.split(".")):
        raise UsageError(f"--set {override}: expected PATH=VALUE, e.g. --set target.rows=50")
    value = strict_yaml.parse(said, f"--set {key}")
    path: strict_yaml.Path = ()
    holder: Any = marked.data
    words = key.split(".")
    for depth, word in enumerate(words):
        last = depth == len(words) - 1
        step: str | int = word
        if isinstance(holder, list):
            if not word.isdecimal() or int(word) >= len(holder):
                raise UsageError(
                    f"--set {key}: {'.'.join(words[:depth])} is a list of {len(holder)}; {word!r} is not in it"
                )
            step = int(word)
        elif not isinstance(holder, dict):
            raise UsageError(f"--set {key}: {'.'.join(words[:depth])} has no keys below it")
        path = (*path, step)
        if last:
            holder[step] = value.data
            marked.origins[path] = f"--set {key}"
        elif isinstance(holder, dict):
            if holder.get(word) is None:
                holder[word] = {}
                marked.origins[path] = f"--set {key}"
            holder = holder[word]
        else:
            holder = holder[int(step)]


def _variables(marked: strict_yaml.Marked, faults: list[Fault]) -> None:
    """Fill in `${VAR}` below models:, the one place where a recipe depends on the machine it runs on."""

    def fill(value: Any, path: strict_yaml.Path) -> Any:
        if isinstance(value, dict):
            return {key: fill(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [fill(item, (*path, number)) for number, item in enumerate(value)]
        if not isinstance(value, str):
            return value

        def one(found: re.Match[str]) -> str:
            name = found[1]
            if SECRET.search(name):
                faults.append(marked.fault(path, f"${{{name}}} looks like a secret; name it under key: {name} instead"))
                return ""
            if name not in os.environ:
                faults.append(marked.fault(path, f"${{{name}}} is not set; type: export {name}=…"))
            return os.environ.get(name, "")

        return VARIABLE.sub(one, value)

    if isinstance(marked.data.get("models"), dict):
        marked.data["models"] = fill(marked.data["models"], ("models",))


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _mapped_parts(marked: strict_yaml.Marked, data: dict[str, Any], faults: list[Fault]) -> Any:
    said = data.get("layers")
    if not isinstance(said, dict):
        return said
    found = {axis: _part(marked, "layers", value, ("layers", axis), faults) for axis, value in said.items()}
    return {axis: entry for axis, entry in found.items() if entry is not None}


def _listed_parts(marked: strict_yaml.Marked, data: dict[str, Any], key: str, kind: str, faults: list[Fault]) -> Any:
    said = data.get(key)
    if not isinstance(said, list):
        return said
    found = [_part(marked, kind, value, (key, number), faults) for number, value in enumerate(said)]
    return [entry._replace(at=number) for number, entry in enumerate(found) if entry is not None]


def _part(
    marked: strict_yaml.Marked, kind: str, said: Any, path: strict_yaml.Path, faults: list[Fault]
) -> Entry | None:
    if isinstance(said, str):
        name, settings, below = said, None, path
    elif isinstance(said, dict) and len(said) == 1:
        name, settings = next(iter(said.items()))
        below = (*path, name)
    else:
        what = f"{len(said)} keys" if isinstance(said, dict) else shown(said)
        faults.append(
            marked.fault(path, f"{dotted(path)}: found {what}; expected one {kind[:-1]}, e.g. {{name: {{…}}}}")
        )
        return None
    try:
        part = parts.find(kind, name)
    except QdcgenError as error:
        faults.append(marked.fault(below, f"{dotted(path)}: {error}", at_key=below != path))
        return None
    if part.short is None and settings is not None and not isinstance(settings, dict):
        message = f"{dotted(below)}: found {shown(settings)}; {name} takes no bare value, write {{{name}: {{…}}}}"
        faults.append(marked.fault(below, message))
        return None
    try:
        return Entry(name, part.model_validate(settings_of(part, settings)))
    except ValidationError as error:
        faults += misfits(marked, error, part, below)
        return None


def settings_of(part: type[Part], said: Any) -> dict[str, Any]:
    """Settings from any short form: nothing, a bare value for the part's `short` field, or the mapping itself."""
    if said is None:
        return {}
    known = part.model_fields
    if isinstance(said, dict):
        takes_mapping = part.short and typing.get_origin(_bare(known[part.short].annotation)) in (dict, Mapping)
        if not takes_mapping or any(key in known for key in said):
            return said
    return {part.short or "": said}


def _bare(annotation: Any) -> Any:
    """The first member of a union, or the annotation itself."""
    if typing.get_origin(annotation) in (dict, list, tuple, Mapping, None):
        return annotation
    return next((a for a in typing.get_args(annotation) if typing.get_origin(a) is dict), annotation)


def _embedder(marked: strict_yaml.Marked, recipe: Recipe, faults: list[Fault]) -> Entry | None:
    return _part(marked, "embedders", recipe.measure.embedder, ("measure", "embedder"), faults)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def inside(folder: Path, name: str, allowed: tuple[Path, ...] = (), *, runs: bool = False) -> Path:
    """The file `name` in `folder`, symbolic links followed; with `runs`, also the folder of a run.

    Raises:
        ValueError: it lies outside `folder` and every allowed folder, or is no regular file.
    """
    try:
        path = (folder / name).resolve()
        path.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"file {name!r} cannot be looked up: {error}") from None
    roots = [folder.resolve(), *(root.resolve() for root in allowed)]
    if not any(path.is_relative_to(root) for root in roots):
        raise ValueError(
            f"file {name!r} lies outside the recipe's folder; copy it there, or allow its folder: --allow-dir "
            f"{os.path.relpath(path.parent) if path.parent.is_dir() else path.parent}"
        )
    if runs and (path / "manifest.json").is_file():
        return path
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*")][:1000]) if path.parent.is_dir() else ""
        raise ValueError(f"no file {name!r} in {path.parent if path.parent.is_dir() else folder}{near}")
    return path


def _read_taxonomies(
    recipe: Recipe,
    marked: strict_yaml.Marked,
    folder: Path,
    allowed: tuple[Path, ...],
    faults: list[Fault],
    notes: list[str],
    out: Path,
) -> dict[str, Taxonomy]:
    trees: dict[str, Taxonomy] = {}
    for axis, source in recipe.taxonomy.items():
        path: strict_yaml.Path = ("taxonomy", axis)
        try:
            if source.grow is not None:
                frozen = out / "axes" / f"{axis}.json"
                if not frozen.is_file():
                    notes.append(f"taxonomy {axis}: {source.grow.in_words()}")
                    continue
                content = frozen.read_bytes()
                tree = axes.loads(content, axis, str(frozen))
                notes += outgrown(axis, source.grow, content, frozen)
            elif source.file is not None:
                columns = source.model_dump(
                    include={"id", "parent", "label", "text", "weight", "levels", "exclude", "root"}
                )
                said: list[str] = []
                tree = taxonomy_files.read(axis, inside(folder, source.file, allowed), notes=said, **columns)
                notes += [f"taxonomy {axis}: {note}" for note in said]
            else:
                line, _ = marked.values.get((*path, "tree")) or marked.values.get(path, (1, 1))
                tree = taxonomy.inline(axis, source.tree, f"{marked.file}:{line}")
            trees[axis] = _weighed(tree, source, path, marked)
        except RecipeError as error:
            faults += error.faults
        except (ValueError, UsageError) as error:
            faults.append(marked.fault((*path, "file"), f"{dotted(path)}: {error}"))
    return trees


def _apportioned(recipe: Recipe, marked: strict_yaml.Marked, faults: list[Fault]) -> dict[str, Taxonomy]:
    """The taxonomies with their quotas and minimums turned into shares of the rows that draw them at the target."""

    def told(axis: str) -> Callable[[tuple[str, ...], str], None]:
        def problem(below: tuple[str, ...], message: str) -> None:
            path: strict_yaml.Path = ("taxonomy", axis, *below)
            faults.append(marked.fault(path, f"{dotted(('taxonomy', axis))}: {message}"))

        return problem

    return {
        axis: taxonomy.apportioned(
            tree, recipe.rows_drawing(axis), recipe.taxonomy[axis].minimum, recipe.taxonomy[axis].quotas, told(axis)
        )
        for axis, tree in recipe.taxonomies.items()
    }


def outgrown(axis: str, grow: Growing, content: bytes, file: Path) -> list[str]:
    """What to say where a frozen tree was grown by other settings than the recipe has now."""
    about = orjson.loads(content).get("grown") or {}
    before = {"from": about.get("from"), **about.get("settings", {})}
    now = grow.model_dump(by_alias=True, include=set(Growing.model_fields) - {"model", "samples"})
    differing = [name for name, value in now.items() if about and before.get(name) != value]
    was = " and ".join(f"{name} {shown(before.get(name))}" for name in differing)
    says = " and ".join(shown(now[name]) for name in differing)
    said = f"taxonomy {axis}: {file} was grown with {was}, the recipe now says {says}; it is used as it is"
    return [f"{said}, and qdcgen taxonomy grow RECIPE --replace grows it anew"] if differing else []


def _weighed(tree: Taxonomy, source: Source, path: strict_yaml.Path, marked: strict_yaml.Marked) -> Taxonomy:
    """The tree with the recipe's weights on it."""
    if not source.weights:
        return tree
    line, _ = marked.values.get((*path, "weights"), (1, 1))
    return taxonomy.weighted(tree, source.weights, f"{marked.file}:{line}")


def _samples(
    recipe: Recipe, marked: strict_yaml.Marked, folder: Path, allowed: tuple[Path, ...], faults: list[Fault]
) -> dict[str, Path]:
    """Axis → file of sample rows, for axes that are grown with one."""
    found: dict[str, Path] = {}
    for axis, source in recipe.taxonomy.items():
        if source.grow is None or source.grow.samples is None:
            continue
        try:
            found[axis] = inside(folder, source.grow.samples, allowed)
        except ValueError as error:
            path: strict_yaml.Path = ("taxonomy", axis, "grow", "samples")
            faults.append(marked.fault(path, f"{dotted(path)}: {error}"))
    return found


def _check_landing(recipe: Recipe, marked: strict_yaml.Marked, faults: list[Fault]) -> None:
    """The model that reads exists, and so does every taxonomy that real rows are labelled by."""
    model = recipe.measure.landing.model
    if model is not None and model not in recipe.models:
        path: strict_yaml.Path = ("measure", "landing", "model")
        path = path if path in marked.values else path[:-1]  # the short form
        message = f"measure.landing: no model called {model!r}{nearest(model, list(recipe.models))}"
        faults.append(marked.fault(path, message))
    elif model is not None and recipe.models[model].batch:
        message = f"measure.landing: {model} has batch: true and answers hours later; name a model that answers at once"
        faults.append(marked.fault(("measure", "landing"), message))
    for axis in recipe.measure.anchor.labels if recipe.measure.anchor is not None else ():
        if axis not in recipe.taxonomy:
            message = f"measure.anchor.labels: no taxonomy called {axis!r}{nearest(axis, list(recipe.taxonomy))}"
            faults.append(marked.fault(("measure", "anchor", "labels", axis), message, at_key=True))


def _check_critic(recipe: Recipe, marked: strict_yaml.Marked, faults: list[Fault]) -> None:
    """The critic that rates complexity exists, and answers while it is waited for."""
    if recipe.measure.complexity is None:
        return
    model = recipe.measure.complexity.model
    path: strict_yaml.Path = ("measure", "complexity", "model")
    path = path if path in marked.values else path[:-1]  # the short form
    if model not in recipe.models:
        message = f"measure.complexity: no model called {model!r}{nearest(model, list(recipe.models))}"
        faults.append(marked.fault(path, message))
    elif recipe.models[model].batch:
        message = f"measure.complexity: {model} has batch: true and answers hours later; name a model that answers now"
        faults.append(marked.fault(path, message))


def _check_solver(recipe: Recipe, marked: strict_yaml.Marked, faults: list[Fault]) -> None:
    """The solver exists and answers at once; questions and answers are fields of rows."""
    measure = recipe.measure
    if measure.solver is not None:
        scene = parts.Scene({}, recipe.fields, list(recipe.models), lambda _: set())
        for problem in measure.solver.part().problems(scene):
            path: strict_yaml.Path = ("measure", "solver", *problem.path)
            path = path if path in marked.values else path[:3]
            faults.append(marked.fault(path, f"{dotted(path)}: {problem.message}"))
        alias = recipe.models.get(measure.solver.model)
        if alias is not None and alias.batch:
            named = measure.solver.model
            message = f"measure.solver: {named} has batch: true and answers hours later; name a model that answers now"
            faults.append(marked.fault(("measure", "solver", "model"), message))
    if measure.ifd is None:
        return
    question, answer = measure.solving or ((), "")
    if not question or not answer:
        message = "measure.ifd: expected question: and answer:, the fields that are read, e.g. answer: reply"
        faults.append(marked.fault(("measure", "ifd"), message))
    for name in (*question, answer):
        if name and name not in recipe.fields:
            message = f"measure.ifd: no step fills {name!r}{nearest(name, list(recipe.fields))}"
            faults.append(marked.fault(("measure", "ifd"), message))


def _levels(
    recipe: Recipe, marked: strict_yaml.Marked, folder: Path, allowed: tuple[Path, ...], faults: list[Fault]
) -> dict[str, float | None]:
    """The texts that every run compares its rows with → their level, None where the file gives none."""
    said = recipe.measure.complexity
    if said is None or said.anchors is None:
        return {}
    try:
        return _levels_in(inside(folder, said.anchors, allowed), ["text", *recipe.text_fields])
    except (ValueError, UsageError) as error:
        message = f"measure.complexity.anchors: {said.anchors}: {error}"
        faults.append(marked.fault(("measure", "complexity", "anchors"), message))
        return {}


def _levels_in(path: Path, names: list[str]) -> dict[str, float | None]:
    frame = tables.read(path)
    column = next((name for name in names if name in frame.columns), None)
    if column is None:
        raise ValueError(f"no column {' or '.join(names[:2])}; it has {', '.join(frame.columns)}")
    given = frame["level"].to_list() if "level" in frame.columns else [None] * frame.height
    if wrong := [one for one in given if isinstance(one, bool) or not isinstance(one, (int, float, type(None)))]:
        raise ValueError(f"level: expected a number, found {shown(wrong[0])}")
    found = {
        text: None if level is None else float(level)
        for text, level in zip(frame[column].to_list(), given, strict=True)
        if isinstance(text, str) and text.strip()
    }
    if not 2 <= len(found) <= 100:  # noqa: PLR2004  (as the docstring of `anchors` says)
        raise ValueError(f"expected 2 to 100 distinct texts, found {len(found):,}")
    return found


def _pairs(
    recipe: Recipe, marked: strict_yaml.Marked, folder: Path, allowed: tuple[Path, ...], faults: list[Fault]
) -> Path | None:
    """Where the pairs that people judged are. That they can be read is checked before anything is spent."""
    if recipe.measure.pairs is None:
        return None
    from qdcgen import same

    try:
        found = inside(folder, recipe.measure.pairs, allowed)
        same.read(found)
    except (ValueError, UsageError, RecipeError) as error:
        faults.append(marked.fault(("measure", "pairs"), f"measure.pairs: {error}"))
        return None
    return found


def _anchor(
    recipe: Recipe, marked: strict_yaml.Marked, folder: Path, allowed: tuple[Path, ...], faults: list[Fault]
) -> Path | None:
    """Where the real rows are. That they are there is checked before anything is spent."""
    if recipe.measure.anchor is None:
        return None
    path: strict_yaml.Path = ("measure", "anchor", "file")
    try:
        found = inside(folder, recipe.measure.anchor.file, allowed)
    except ValueError as error:
        faults.append(marked.fault(path, f"measure.anchor: {error}"))
        return None
    if found.suffix.lower() not in tables.ENDINGS:
        expected = ", ".join(tables.ENDINGS)
        faults.append(
            marked.fault(path, f"measure.anchor: cannot read {found.suffix or found.name}; expected {expected}")
        )
    return found
