"""The recipe: what YAML says, checked to the last key, with the place of every fault.

`load` reads a file into a frozen `Recipe`; nothing is created, asked or executed, and no file outside the recipe's
folder (or a folder the user allows by name) is opened.
"""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from qdcgen import parts, scrutiny, strict_yaml, tables, taxonomy, taxonomy_files
from qdcgen.errors import Fault, QdcgenError, RecipeError, UsageError, nearest
from qdcgen.misfits import known_keys, misfits
from qdcgen.parts import Part, Settings, Weight, shown
from qdcgen.rows import Taxonomy
from qdcgen.scrutiny import EXPECTED_BOUND, Bound, Gate
from qdcgen.strict_yaml import dotted

__all__ = ["Alias", "Bound", "Entry", "Gate", "Measuring", "Recipe", "Source", "Strategy", "Target", "load"]

RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""Names a folder, so it must not hold a slash or begin with a dot. Pydantic searches: the ends must be said."""
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)\Z", re.IGNORECASE)


class Entry(NamedTuple):
    """A part under the name that the recipe gives it."""

    name: str
    part: Any


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


class Source(Settings):
    """Where a taxonomy comes from: written here, or a file in the recipe's folder."""

    tree: Any = None
    """Nested mappings and lists of names."""
    file: Annotated[str, Field(min_length=1)] | None = None
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
    weights: dict[str, Weight] = Field(default={})
    """Prevalence: path pattern → weight, e.g. `{cards/*: 3}`; default 1."""

    @model_validator(mode="after")
    def _one_source(self) -> Source:
        if (self.tree is None) == (self.file is None):
            raise ValueError("expected either tree: or file:")
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
    usd: float | None = Field(default=None, gt=0)
    """US dollars that all invocations together may spend; needs known prices."""
    calls: int | None = Field(default=None, ge=1)
    """Model calls that all invocations together may make."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens, prompt and reply together, that all invocations together may take."""
    minutes: float | None = Field(default=None, gt=0)
    """Minutes that one invocation may take."""


class Anchor(Settings):
    """Real rows to compare with."""

    file: str = Field(min_length=1)
    """Parquet, JSONL, JSON or CSV in the recipe's folder."""
    text: str | None = None
    """Its column of texts; default: the name of the measured field."""


class Measuring(Settings):
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
    """What is kept, in order."""
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
    taxonomies: dict[str, Any] = Field(default={}, exclude=True, repr=False)
    bounds: tuple[Any, ...] = Field(default=(), exclude=True, repr=False)
    source: str = Field(default="", exclude=True, repr=False)
    notes: tuple[str, ...] = Field(default=(), exclude=True, repr=False)
    anchor: Path | None = Field(default=None, exclude=True, repr=False)

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
            "taxonomies": _read_taxonomies(recipe, marked, folder, allowed, faults, notes),
            "notes": tuple(notes),
            "source": text.decode("utf-8-sig") if isinstance(text, bytes) else text,
            "measure": recipe.measure.model_copy(update={"embedder": _embedder(marked, recipe, faults)}),
            "bounds": tuple(scrutiny.gates(recipe, marked, faults)),
            "anchor": _anchor(recipe, marked, folder, allowed, faults),
        }
    )
    scrutiny.check(recipe, marked, faults, sound)
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
    return [entry for entry in found if entry is not None]


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


def inside(folder: Path, name: str, allowed: tuple[Path, ...] = ()) -> Path:
    """The file `name` in `folder`, symbolic links followed.

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
