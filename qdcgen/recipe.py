"""The recipe: what YAML says, checked to the last key, with the place of every fault.

`load` reads a file into a frozen `Recipe`; nothing is created, asked or executed, and no file outside the recipe's
folder (or a folder the user allows by name) is opened.
"""

from __future__ import annotations

import os
import re
import types
import typing
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from qdcgen import parts, scrutiny, strict_yaml, taxonomy, taxonomy_files
from qdcgen.errors import Fault, QdcgenError, RecipeError, UsageError, nearest
from qdcgen.parts import Part
from qdcgen.rows import Taxonomy
from qdcgen.scrutiny import Bound, Gate
from qdcgen.strict_yaml import dotted

__all__ = ["Alias", "Bound", "Entry", "Gate", "Measuring", "Recipe", "Source", "Strategy", "Target", "load"]

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
LONGEST = 60
"""Characters of a found value that a message shows."""
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)\Z", re.IGNORECASE)


class Entry(NamedTuple):
    """A part under the name that the recipe gives it."""

    name: str
    part: Any


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Price(_Frozen):
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
        raise ValueError(f"{address!r} is no address: {error}") from None
    if url.scheme not in ("http", "https") or not host or url.username is not None or url.query or url.fragment:
        raise ValueError(f"expected http(s)://host[:port][/path] without user, query or fragment, found {address!r}")
    return address.rstrip("/")


class Alias(_Frozen):
    """A model under the name that the rest of the recipe uses."""

    model: str = Field(min_length=1, examples=["embedded", "openai/gpt-5-mini", "embedded:/models/x.gguf"])
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
    timeout: float = Field(default=120, gt=0, le=86_400)
    """Seconds that one call may take."""
    price: Price | None = None
    """Overrides the known price; without either, cost is reported as unknown."""


class Source(_Frozen):
    """Where a taxonomy comes from: written here, or a file in the recipe's folder."""

    tree: Any = None
    """Nested mappings and lists of names."""
    file: str | None = None
    """Nested YAML or JSON, or a CSV/TSV/JSON table with path columns or with id and parent columns."""
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
    """Rows to leave out: column → value or values."""
    root: str | None = None
    """Take only what lies below this node (id or path)."""
    weights: dict[str, Annotated[float, Field(ge=0, le=1e9)]] = {}
    """Prevalence: path pattern → weight, e.g. `{cards/*: 3}`; default 1."""

    @model_validator(mode="after")
    def _one_source(self) -> Source:
        if (self.tree is None) == (self.file is None):
            raise ValueError("expected either tree: or file:")
        return self


class Strategy(_Frozen):
    """Taxonomies that are drawn together, and how often."""

    axes: tuple[str, ...] = Field(min_length=1)
    """Names of taxonomies."""
    weight: float = Field(default=1.0, gt=0, le=1e9)
    """Share of rows, relative to the other strategies."""


class Target(_Frozen):
    """How much is wanted, and how far the run may go for it."""

    rows: int = Field(ge=1, le=10_000_000_000, examples=[100])
    """Accepted rows to end with: exactly this many, or a named shortfall and exit code 4."""
    candidates: int = Field(default=3, ge=1, le=1000)
    """At most this many tries for each owed row."""


class Anchor(_Frozen):
    """Real rows to compare with."""

    file: str
    """Parquet, JSONL, JSON or CSV in the recipe's folder."""
    text: str | None = None
    """Its column of texts; default: the name of the measured field."""


class Measuring(_Frozen):
    """What is measured, and how."""

    text: tuple[str, ...] = ()
    """Field or fields that make up the measured text; default: every string field."""
    embedder: Any = "wordllama"
    """Which embedder: `wordllama` (default), `bge`, `{sentence_transformers: NAME}`, `{provider: MODEL}`."""
    anchor: Anchor | None = None
    """Real rows to stand beside the synthetic ones."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("text"), str):
                value = {**value, "text": [value["text"]]}
            if isinstance(value.get("anchor"), str):
                value = {**value, "anchor": {"file": value["anchor"]}}
        return value


class Recipe(_Frozen):
    """Everything one run is asked for."""

    recipe: Literal[1] = Field(description="Version of the recipe language.")
    name: str = Field(pattern=RUN_NAME.pattern.replace(r"\Z", "$"))
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
    layers: dict[str, Any] = {}
    """Local variation: axis → layer."""
    generate: tuple[Any, ...] = Field(min_length=1)
    """Steps, in order."""
    filters: tuple[Any, ...] = ()
    """What is kept, in order."""
    target: Target
    """How many rows."""
    measure: Measuring = Measuring()
    """What is measured."""
    gates: dict[Literal["coverage", "diversity", "complexity", "quality"], dict[str, str]] = {}
    """Bounds on measures; a broken one ends the run with exit code 3."""

    file: str = Field(default="", exclude=True, repr=False)
    folder: Path = Field(default=Path(), exclude=True, repr=False)
    taxonomies: dict[str, Any] = Field(default={}, exclude=True, repr=False)
    bounds: tuple[Any, ...] = Field(default=(), exclude=True, repr=False)
    source: str = Field(default="", exclude=True, repr=False)
    notes: tuple[str, ...] = Field(default=(), exclude=True, repr=False)

    @property
    def default_model(self) -> str:
        """The alias that is used where none is named."""
        return next(iter(self.models))

    @property
    def drawn_together(self) -> tuple[Strategy, ...]:
        """The strategies, or the one that draws every taxonomy together."""
        return self.strategies or (Strategy(axes=tuple(self.taxonomy)),)

    @property
    def fields(self) -> dict[str, Mapping[str, Any]]:
        """Field → JSON Schema, over all steps."""
        found: dict[str, Mapping[str, Any]] = {}
        for entry in self.generate:
            found.update(entry.part.fills())
        return found

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
        said["taxonomy"] = {
            name: sha256(
                "\n".join(f"{n.id}\t{n.parent}\t{n.label}\t{n.text}\t{n.weight}" for n in tree.nodes).encode()
            ).hexdigest()
            for name, tree in self.taxonomies.items()
        }
        return said


def _plain(entry: Entry) -> dict[str, Any]:
    return {entry.name: entry.part.model_dump(mode="json")}


# ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def load(path: str | Path, *, overrides: tuple[str, ...] = (), allowed: tuple[Path, ...] = ()) -> Recipe:
    """Read, resolve and check a recipe.

    `overrides` are `path.to.key=value` strings; `allowed` are folders, besides the recipe's own, from which its files
    may be read.

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
    return loads(text, file=str(path), folder=path.resolve().parent, overrides=overrides, allowed=allowed)


def loads(
    text: bytes | str,
    *,
    file: str,
    folder: Path,
    overrides: tuple[str, ...] = (),
    allowed: tuple[Path, ...] = (),
) -> Recipe:
    """As `load`, from text; relative file names are looked up in `folder`."""
    marked = strict_yaml.parse(text, file)
    if not isinstance(marked.data, dict):
        found = "nothing" if marked.data is None else f"a {type(marked.data).__name__}"
        raise RecipeError(Fault(file, 1, 1, f"{found} at the top; expected keys such as recipe:, name:, taxonomy:"))
    for override in overrides:
        _override(marked, override)
    faults: list[Fault] = []
    _variables(marked, faults)
    data = dict(marked.data)
    listed = {
        "layers": _mapped_parts(marked, data, faults),
        "generate": _listed_parts(marked, data, "generate", "steps", faults),
        "filters": _listed_parts(marked, data, "filters", "filters", faults),
    }
    for axis, value in (data.get("taxonomy") or {}).items() if isinstance(data.get("taxonomy"), dict) else ():
        if isinstance(value, list):
            data["taxonomy"] = {**data["taxonomy"], axis: {"tree": value}}
        elif isinstance(value, str):
            data["taxonomy"] = {**data["taxonomy"], axis: {"file": value}}
    if isinstance(data.get("strategies"), list):
        data["strategies"] = [{"axes": s} if isinstance(s, list) else s for s in data["strategies"]]
    data.update({key: value for key, value in listed.items() if key in data})
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        faults += _faults(marked, error, Recipe, ())
    if recipe is None or faults:
        raise RecipeError(faults)
    notes: list[str] = []
    trees = _read_taxonomies(recipe, marked, folder, allowed, faults, notes)
    recipe = recipe.model_copy(
        update={
            "file": file,
            "folder": folder,
            "taxonomies": trees,
            "notes": tuple(notes),
            "source": text.decode("utf-8-sig") if isinstance(text, bytes) else text,
            "measure": recipe.measure.model_copy(update={"embedder": _embedder(marked, recipe, faults)}),
        }
    )
    recipe = recipe.model_copy(update={"bounds": tuple(scrutiny.gates(recipe, marked, faults))})
    scrutiny.check(recipe, marked, faults)
    if faults:
        raise RecipeError(faults)
    return recipe


def _override(marked: strict_yaml.Marked, override: str) -> None:
    key, sign, said = override.partition("=")
    if not sign or not key:
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
        elif isinstance(holder, dict):
            holder = holder.setdefault(word, {})
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
            elif name not in os.environ:
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
    return [entry for entry in found if entry is not None] or said


def _part(
    marked: strict_yaml.Marked, kind: str, said: Any, path: strict_yaml.Path, faults: list[Fault]
) -> Entry | None:
    if isinstance(said, str):
        name, settings, below = said, None, path
    elif isinstance(said, dict) and len(said) == 1:
        name, settings = next(iter(said.items()))
        below = (*path, name)
    else:
        what = f"{len(said)} keys" if isinstance(said, dict) else repr(said)
        faults.append(
            marked.fault(path, f"{dotted(path)}: found {what}; expected one {kind[:-1]}, e.g. {{name: {{…}}}}")
        )
        return None
    try:
        part = parts.find(kind, name)
    except QdcgenError as error:
        faults.append(marked.fault(below, f"{dotted(path)}: {error}", at_key=True))
        return None
    try:
        return Entry(name, part.model_validate(settings_of(part, settings)))
    except ValidationError as error:
        faults += _faults(marked, error, part, below)
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


# ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _faults(
    marked: strict_yaml.Marked, error: ValidationError, model: type[BaseModel], above: strict_yaml.Path
) -> list[Fault]:
    """Pydantic's errors in our words, each at its own place."""
    found = []
    for one in error.errors(include_url=False):
        path = (*above, *(word for word in one["loc"] if word != "[key]"))
        kind, said = one["type"], one["input"]
        if kind == "extra_forbidden":
            known = _known_keys(model, one["loc"][:-1])
            message = f"unknown key {dotted(path)!r}{nearest(str(path[-1]), known)}"
            if known and "did you mean" not in message:
                message += f"; expected one of {', '.join(known[:12])}"
            found.append(marked.fault(path, message, at_key=True))
        elif kind == "missing":
            found.append(marked.fault(path[:-1], f"{dotted(path)} is missing", at_key=len(path) > 1))
        else:
            message = one["msg"].removeprefix("Value error, ")
            message = message[0].lower() + message[1:]
            shown = repr(said) if isinstance(said, (str, int, float, bool, type(None))) else f"a {_kind(said)}"
            shown = shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"
            tail = "" if "found" in message or kind == "value_error" else f", found {shown}"
            found.append(marked.fault(path, f"{dotted(path)}: {message}{tail}"))
    return found


def _kind(value: Any) -> str:
    kind = type(value).__name__
    return {"dict": "mapping", "tuple": "list"}.get(kind, kind)


def _known_keys(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """Keys that the model at `loc` below `model` knows; internal ones left out."""
    current: Any = model
    for word in loc:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(word))
            current = field.annotation if field else None
        else:  # a mapping or list: its items are the last type argument that is a model, or holds one
            current = next((a for a in reversed(typing.get_args(current)) if a is not Ellipsis), None)
        while typing.get_origin(current) in (typing.Union, types.UnionType, Annotated):
            current = typing.get_args(current)[0]
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [name for name, field in current.model_fields.items() if not field.exclude]
    return []


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def inside(folder: Path, name: str, allowed: tuple[Path, ...] = ()) -> Path:
    """The file `name` in `folder`, symbolic links followed.

    Raises:
        ValueError: it lies outside `folder` and every allowed folder, or is no regular file.
    """
    try:
        path = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"file {name!r} cannot be looked up: {error}") from None
    roots = [folder.resolve(), *(root.resolve() for root in allowed)]
    if not any(path.is_relative_to(root) for root in roots):
        raise ValueError(
            f"file {name!r} lies outside the recipe's folder; copy it there, or allow its folder: --allow-dir "
            f"{os.path.relpath(path.parent) if path.parent.is_dir() else path.parent}"
        )
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
) -> dict[str, Taxonomy]:
    trees: dict[str, Taxonomy] = {}
    for axis, source in recipe.taxonomy.items():
        path: strict_yaml.Path = ("taxonomy", axis)
        try:
            if source.file is not None:
                columns = source.model_dump(
                    include={"id", "parent", "label", "text", "weight", "levels", "exclude", "root"}
                )
                said: list[str] = []
                tree = taxonomy_files.read(axis, inside(folder, source.file, allowed), notes=said, **columns)
                notes += [f"taxonomy {axis}: {note}" for note in said]
            else:
                line, _ = marked.values.get((*path, "tree")) or marked.values.get(path, (1, 1))
                tree = taxonomy.inline(axis, source.tree, f"{marked.file}:{line}")
            if source.weights:
                line, _ = marked.values.get((*path, "weights"), (1, 1))
                tree = taxonomy.weighted(tree, source.weights, f"{marked.file}:{line}")
            trees[axis] = tree
        except RecipeError as error:
            faults += error.faults
        except (ValueError, UsageError) as error:
            faults.append(marked.fault((*path, "file"), f"{dotted(path)}: {error}"))
    return trees
