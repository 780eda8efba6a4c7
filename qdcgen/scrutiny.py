"""Checks that need the whole recipe: every name that is used exists, none means two things, every gate can be read.

Nothing here raises: faults are collected, so that all are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from qdcgen import conditions, parts, taxonomy, template
from qdcgen.errors import Fault, RowFault, nearest
from qdcgen.parts import Scene
from qdcgen.rows import Taxonomy
from qdcgen.strict_yaml import Marked, Path, dotted

__all__ = ["EXPECTED_BOUND", "Bound", "Checked", "Gate", "between_bands", "bound", "check", "gates", "own_critics"]

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
RESERVED = frozenset(
    {"range", "loop", "true", "false", "none", "self", "and", "or", "not", "in", "is", "if", "else", "for"}
)


BANDS = frozenset({"easy", "medium", "hard", "plain"})
"""Bands whose share a gate may bound in any recipe: those that were asked for, where the target has none."""


class Checked(Protocol):
    """What these checks look at: a `Recipe` whose parts are made and whose taxonomies are read.

    Written out because `qdcgen.recipe` imports this module.
    """

    @property
    def models(self) -> Mapping[str, Any]:
        """Alias → model."""

    @property
    def taxonomy(self) -> Mapping[str, Any]:
        """Axis → where its tree comes from."""

    @property
    def taxonomies(self) -> Mapping[str, Taxonomy]:
        """Axis → its tree; those that could not be read are not here."""

    @property
    def layers(self) -> Mapping[str, Any]:
        """Axis → name and part."""

    @property
    def strategies(self) -> Sequence[Any]:
        """Taxonomies that are drawn together."""

    @property
    def forbid(self) -> Sequence[Mapping[str, str]]:
        """Axis → pattern or value."""

    @property
    def generate(self) -> Sequence[Any]:
        """Steps, name and part."""

    @property
    def filters(self) -> Sequence[Any]:
        """Filters, name and part."""

    @property
    def fields(self) -> Mapping[str, Mapping[str, Any]]:
        """Field → JSON Schema."""

    @property
    def text_fields(self) -> Sequence[str]:
        """Fields that are measured."""

    @property
    def measure(self) -> Any:
        """What is measured."""

    @property
    def target(self) -> Any:
        """How many rows, and in which bands of difficulty."""

    @property
    def gates(self) -> Mapping[Any, Mapping[str, str]]:
        """Table → measure → bound."""


# ── gates ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Bound(NamedTuple):
    """A closed interval that a measure must lie in; open ends are infinite. `strict` excludes the ends."""

    low: float
    high: float
    strict: bool
    text: str

    def holds(self, value: float | None) -> bool:
        """False also for a value that could not be computed: a gate without its number is broken."""
        if value is None:
            return False
        return self.low < value < self.high if self.strict else self.low <= value <= self.high


EXPECTED_BOUND = "expected a bound such as '>= 0.98', '<= 0.02' or '0.2..0.4'"
_NUMBER = r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"


def bound(text: str) -> Bound:
    """`>= 0.98`, `<= 0.02`, `> 1`, `< 2` or `0.2..0.4`.

    Raises:
        ValueError: anything else.
    """
    said = str(text).strip()
    infinity = float("inf")
    if found := re.fullmatch(rf"(<=|>=|<|>)\s*({_NUMBER})", said):
        sign, number = found[1], float(found[2])
        low, high = (number, infinity) if sign[0] == ">" else (-infinity, number)
        return Bound(low, high, len(sign) == 1, said)
    if found := re.fullmatch(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})", said):
        low, high = float(found[1]), float(found[2])
        if low <= high:
            return Bound(low, high, strict=False, text=said)
    raise ValueError(f"{EXPECTED_BOUND}, found {said!r}")


class Gate(NamedTuple):
    """A bound on a measure of one table, and where the recipe sets it."""

    table: str
    measure: str
    bound: Bound
    file: str
    line: int


def gates(recipe: Checked, marked: Marked, faults: list[Fault]) -> Iterator[Gate]:
    """Each gate whose measure is known and whose bound can be read; the others become faults."""
    for table, bounds in recipe.gates.items():
        for name, said in bounds.items():
            path: Path = ("gates", table, name)
            known = _gate_names(table)
            if table == "complexity":
                known += _bands_named(marked)  # the share of a band is a measure of its name
            if name not in known:
                faults.append(
                    marked.fault(path, f"no {table} measure called {name!r}{nearest(name, known)}", at_key=True)
                    if known
                    else marked.fault(path, f"{table} has no measures to bound", at_key=True)
                )
                continue
            try:
                yield Gate(table, name, bound(said), marked.file, marked.keys.get(path, (0, 0))[0])
            except ValueError as error:
                faults.append(marked.fault(path, f"{dotted(path)}: {error}"))


def _numbers(layer: Any) -> bool:
    kinds = layer.column()
    return bool({"Int64", "Float64"} & {*(kinds.values() if isinstance(kinds, Mapping) else (kinds,))})


NEEDED: dict[str, Callable[[Checked], bool]] = {
    "an embedded model": lambda recipe: any(one.model.startswith("embedded") for one in recipe.models.values()),
    "a step complexify": lambda recipe: any(entry.name == "complexify" for entry in recipe.generate),
    "a step correct": lambda recipe: any(entry.name == "correct" for entry in recipe.generate),
    "a layer models": lambda recipe: any(entry.name == "models" for entry in recipe.layers.values()),
    "a layer of numbers": lambda recipe: any(_numbers(entry.part) for entry in recipe.layers.values()),
    "a second axis": lambda recipe: len(recipe.taxonomy) + len(recipe.layers) >= 2,  # noqa: PLR2004
    "a third axis": lambda recipe: len(recipe.taxonomy) + len(recipe.layers) >= 3,  # noqa: PLR2004
}
"""What a gate may need that is no single key → whether a recipe has it."""


def _has(recipe: Checked, need: str) -> bool:
    """Whether the recipe has what `Metric.needs` says in these words."""
    if " or " in need:
        return any(_has(recipe, one) for one in need.split(" or "))
    if need in NEEDED:
        return NEEDED[need](recipe)
    found: Any = recipe
    for key in need.split("."):
        found = getattr(found, key) if found else None
    return bool(found) if isinstance(found, (Mapping, Sequence)) else found is not None  # no labels are none


def _check_gates(recipe: Checked, marked: Marked, faults: list[Fault]) -> None:
    """Every gate has something that measures it: known before a call is paid for, and not when rows are there."""
    needs: dict[tuple[str, str], tuple[str, ...]] = {}
    for part in parts.names("metrics"):
        metric: Any = parts.find("metrics", part)
        needs |= {(metric.table, gate): wanted for gate, wanted in metric.needs.items()}
    bands = recipe.target.complexity
    for table, bounds in recipe.gates.items():
        for name in bounds:
            path: Path = ("gates", table, name)
            lacking = [need for need in needs.get((table, name), ()) if not _has(recipe, need)]
            if lacking:
                message = f"{dotted(path)}: nothing measures it: add {' and '.join(lacking)}"
                faults.append(marked.fault(path, message, at_key=True))
            elif table == "complexity" and name in BANDS and bands is not None and name not in bands.order:
                message = f"nothing measures it: target.complexity has the bands {', '.join(bands.order)}"
                faults.append(marked.fault(path, f"{dotted(path)}: {message}", at_key=True))


def _bands_named(marked: Marked) -> list[str]:
    """Bands of difficulty as the recipe writes them, sound or not."""
    said = marked.data.get("target")
    for key in ("complexity", "bands"):
        said = said.get(key) if isinstance(said, dict) else None
    return [str(name) for name in said] if isinstance(said, dict) else []


def _gate_names(table: str) -> list[str]:
    found: list[str] = []
    for name in parts.names("metrics"):
        metric: Any = parts.find("metrics", name)
        if metric.table == table:
            found += metric.gates
    return found


# ── critics ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def behind(recipe: Checked, alias: str) -> tuple[str, str | None]:
    """The model behind an alias, and its address: two aliases may be one model."""
    return recipe.models[alias].model, recipe.models[alias].api_base


def writers(recipe: Checked) -> set[tuple[str, str | None]]:
    """The models that write rows."""
    first = next(iter(recipe.models))
    drawn = [
        str(alias) for entry in recipe.layers.values() if entry.name == "models" for alias in entry.part.support() or ()
    ]
    named = [getattr(entry.part, "model", None) for entry in recipe.generate if entry.part.fills()]
    aliases = {alias for one in named for alias in ([one] if one else drawn or [first])}
    return {behind(recipe, alias) for alias in aliases if alias in recipe.models}


def own_critics(recipe: Checked) -> list[str]:
    """What to say of each filter whose critic is a model that writes the rows, or where two critics are one model."""
    first, writing = next(iter(recipe.models)), writers(recipe)
    found = []
    for entry in recipe.filters:
        if not entry.part.critic:
            continue
        asked = getattr(entry.part, "models", None) or [getattr(entry.part, "model", None) or first]
        if own := [alias for alias in asked if behind(recipe, alias) in writing]:
            found.append(
                f"filter {entry.name}: {', '.join(own)} also writes the rows, and shares the errors it should find; "
                "another model finds more, and qdcgen audit says how much this one finds"
            )
        if len({behind(recipe, alias) for alias in asked}) < len(asked):
            found.append(f"filter {entry.name}: {', '.join(asked)} are not that many models, and agree with themselves")
    return found


def between_bands(recipe: Checked) -> list[str]:
    """What to say where a figure may lie between two bands of difficulty, so that a row with it is of no use."""
    bands = recipe.target.complexity
    gaps = bands.gaps if bands is not None else ()
    if not gaps:
        return []
    what = bands.by.replace("_", " ")
    return [f"target.complexity: a row with {what} {', '.join(gaps)} is in no band, and will be turned down"]


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def check(recipe: Checked, marked: Marked, faults: list[Fault], sound: frozenset[str]) -> None:
    """Names: every axis, field, alias and pattern that is used exists, and none means two things.

    `sound` are the top-level keys that could be read; what needs another one is not checked.
    """
    axes = [*recipe.taxonomy, *recipe.layers]
    for kind in ("models", "taxonomy", "layers"):
        for name in getattr(recipe, kind):
            if kind != "models" and (not NAME.match(name) or name in RESERVED):
                message = f"{kind} name {name!r}: expected letters, digits and _, starting with a letter"
                faults.append(marked.fault((kind, name), message, at_key=True))
    both = set(recipe.taxonomy) & set(recipe.layers)
    faults += [marked.fault(("layers", name), f"{name!r} is a taxonomy already", at_key=True) for name in both]
    if {"models", "taxonomy"} <= sound:
        _check_growing(recipe, marked, faults)
    if {"strategies", "taxonomy"} <= sound:
        _check_strategies(recipe, marked, faults)
    if {"forbid", "taxonomy", "layers"} <= sound:
        _check_forbid(recipe, marked, axes, faults)
    if {"layers", "models"} <= sound:
        _check_preparing(recipe, marked, faults)
    if {"taxonomy", "layers", "models", "generate"} <= sound:
        _check_parts(recipe, marked, faults, steered="target" not in sound or recipe.target.complexity is not None)
    if {"measure", "generate"} <= sound:
        _check_measured(recipe, marked, faults)
    if {"target", "models", "taxonomy", "layers", "generate", "filters"} <= sound:
        _check_bands(recipe, marked, faults)
    if {"models", "taxonomy", "layers", "generate", "target", "measure", "gates"} <= sound:
        _check_gates(recipe, marked, faults)


def _check_measured(recipe: Checked, marked: Marked, faults: list[Fault]) -> None:
    fields = list(recipe.fields)
    for number, name in enumerate(recipe.measure.text):
        if name not in fields:
            message = f"measure.text: no field called {name!r}{nearest(name, fields)}"
            faults.append(marked.fault(("measure", "text", number), message))
        elif not parts.is_text(recipe.fields[name]):
            found = ", ".join(_text_fields(recipe))
            message = f"measure.text: field {name!r} holds no text{f'; these do: {found}' if found else ''}"
            faults.append(marked.fault(("measure", "text", number), message))
    if not recipe.text_fields:
        found = ", ".join(_text_fields(recipe))
        message = f"say which to measure: {found}" if found else "no field holds text; add one of type string"
        faults.append(marked.fault(("measure", "text"), f"measure.text: {message}"))


def _check_bands(recipe: Checked, marked: Marked, faults: list[Fault]) -> None:
    """The critic of bands of difficulty exists, and the name that templates know the band by is free."""
    if (bands := recipe.target.complexity) is None:
        return
    if bands.model is not None and bands.model not in recipe.models:
        message = f"target.complexity: no model called {bands.model!r}{nearest(bands.model, list(recipe.models))}"
        faults.append(marked.fault(("target", "complexity", "model"), message))
    name = "complexity"
    for where, known in (("taxonomy", recipe.taxonomy), ("layers", recipe.layers)):
        if name in known:
            message = f"{name!r} is what templates call the band of target.complexity; give this axis another name"
            faults.append(marked.fault((where, name), message, at_key=True))
    if name in recipe.fields:
        message = f"target.complexity: a step fills a field {name!r}, which templates call the band; rename the field"
        faults.append(marked.fault(("target", "complexity"), message, at_key=True))
    if any(entry.name == name for entry in recipe.filters):
        message = f"target.complexity: the filter {name!r} has the name of its judge; take one of them out"
        faults.append(marked.fault(("target", "complexity"), message, at_key=True))
    for band in bands.order:
        if band in set(_gate_names("complexity")) - BANDS:
            message = f"target.complexity: {band!r} is a figure of the report; give the band another name"
            faults.append(marked.fault(("target", "complexity", "bands", band), message, at_key=True))


def _text_fields(recipe: Checked) -> list[str]:
    return [name for name, schema in recipe.fields.items() if parts.is_text(schema)]


def _check_growing(recipe: Checked, marked: Marked, faults: list[Fault]) -> None:
    """The model of every axis that is to be grown; its nodes are not known before, and their patterns wait for them."""
    for axis, source in recipe.taxonomy.items():
        if (grow := getattr(source, "grow", None)) is None:
            continue
        path: Path = ("taxonomy", axis, "grow", "model")
        alias = grow.model or next(iter(recipe.models))
        if alias not in recipe.models:
            message = f"{dotted(path)}: no model called {alias!r}{nearest(alias, list(recipe.models))}"
            faults.append(marked.fault(path, message))
        elif recipe.models[alias].batch:
            message = f"{dotted(path)}: {alias} waits in batches, and each level of a tree needs the one above it"
            faults.append(marked.fault(path, f"{message}; name a model without batch: true"))


def _check_preparing(recipe: Checked, marked: Marked, faults: list[Fault]) -> None:
    """The model of every layer that is prepared by one: it is asked before any batch could be sent."""
    for axis, entry in recipe.layers.items():
        alias = getattr(entry.part, "model", None) or next(iter(recipe.models))
        if entry.part.preparing() and alias in recipe.models and recipe.models[alias].batch:
            message = f"layers.{axis}: {alias} waits in batches, and rows are drawn from what this layer asks for first"
            faults.append(marked.fault(("layers", axis), f"{message}; name a model without batch: true"))


def _check_strategies(recipe: Checked, marked: Marked, faults: list[Fault]) -> None:
    for number, strategy in enumerate(recipe.strategies):
        for place, axis in enumerate(strategy.axes):
            path: Path = ("strategies", number, "axes", place)
            if path not in marked.values:
                path = ("strategies", number, place)  # the short form
            if axis not in recipe.taxonomy:
                message = f"strategies.{number}: no taxonomy called {axis!r}{nearest(axis, list(recipe.taxonomy))}"
                faults.append(marked.fault(path, message))
            elif axis in strategy.axes[:place]:
                faults.append(marked.fault(path, f"strategies.{number}: {axis!r} twice"))


def _check_forbid(recipe: Checked, marked: Marked, axes: list[str], faults: list[Fault]) -> None:
    for number, entry in enumerate(recipe.forbid):
        if not entry:
            faults.append(marked.fault(("forbid", number), f"forbid.{number} is empty and would forbid every row"))
        for axis, pattern in entry.items():
            path: Path = ("forbid", number, axis)
            if axis not in axes:
                faults.append(
                    marked.fault(path, f"forbid.{number}: no axis called {axis!r}{nearest(axis, axes)}", at_key=True)
                )
            elif tree := recipe.taxonomies.get(axis):
                if not any(taxonomy.match(pattern, node) for node in tree.nodes):
                    close = nearest(pattern, [node.path for node in tree.nodes][:5000])
                    faults.append(marked.fault(path, f"forbid.{number}: {pattern!r} matches no node of {axis}{close}"))
            elif axis in recipe.layers and (said := conditions.mismatch(pattern, axis, recipe.layers[axis].part)):
                faults.append(marked.fault(path, f"forbid.{number}: {said}"))


def _check_parts(recipe: Checked, marked: Marked, faults: list[Fault], *, steered: bool) -> None:
    trees: dict[str, Any] = {name: recipe.taxonomies.get(name) or Taxonomy(name, ()) for name in recipe.taxonomy}
    axes: dict[str, Any] = {**trees, **{name: entry.part for name, entry in recipe.layers.items()}}
    models = list(recipe.models)
    fields: dict[str, Mapping[str, Any]] = {}

    def ask(entry: Any, above: Path, scene: Scene) -> None:
        for problem in entry.part.problems(scene):
            path = (*above, entry.name, *problem.path)
            faults.append(marked.fault(path, f"{dotted((*above, entry.name, *problem.path))}: {problem.message}"))

    added: dict[str, Any] = {"complexity": parts.Band("medium", harder=False)} if steered else {}
    """What steps above give to templates, beside fields; and the band of difficulty, where the target has bands."""

    def read(source: str) -> set[str]:
        return _names(source, axes)

    def scene() -> Scene:
        return Scene({**axes, **added}, dict(fields), models, read)

    drawn = dict(trees)
    for axis, entry in recipe.layers.items():
        ask(entry, ("layers", axis), Scene(drawn, {}, models, lambda source: set(template.names_in(source))))
        drawn[axis] = entry.part
    for entry in recipe.generate:
        number = entry.at
        ask(entry, ("generate", number), scene())
        for field in entry.part.fills():
            if field in axes or not NAME.match(field) or field in RESERVED:
                why = (
                    "is an axis already" if field in axes else "expected letters, digits and _, starting with a letter"
                )
                above: Path = ("generate", number, entry.name)
                message = f"{dotted(above)}: field {field!r}: {why}"
                faults.append(marked.fault((*above, "fields", field), message, at_key=True))
        fields.update(entry.part.fills())
        for name, example in entry.part.names().items():
            if name in axes or name in recipe.fields or not NAME.match(name) or name in RESERVED:
                faults.append(_unusable(name, marked, ("generate", number, entry.name), taken=name not in RESERVED))
            added[name] = example
    added.clear()  # filters see rows, which have axes and fields
    for entry in recipe.filters:
        ask(entry, ("filters", entry.at), scene())
    _check_decided(recipe, marked, fields, faults)


def _unusable(name: str, marked: Marked, path: Path, *, taken: bool) -> Fault:
    """The fault of a step that adds a name which cannot be one."""
    plain = NAME.match(name) and taken
    why = "is an axis or a field" if plain else "expected letters, digits and _, starting with a letter"
    return marked.fault(path, f"{dotted(path)}: it adds the name {name!r}, which {why}")


def _names(source: str, axes: Mapping[str, Any]) -> set[str]:
    """Names that a template reads. Raises RowFault where it reads a part that an axis does not have."""
    for name, attribute in sorted(template.attributes_in(source)):
        known = _attributes(axes[name]) if name in axes else None
        if known is not None and attribute not in known:
            has = f"{name} has {', '.join(known)}" if known else f"{name} is one value, without parts"
            raise RowFault("template", f"{{{{ {name}.{attribute} }}}}: {has}{nearest(attribute, list(known))}")
    return set(template.names_in(source))


def _attributes(axis: Any) -> tuple[str, ...] | None:
    """What a template may read of an axis after a dot; None where that is not known."""
    if isinstance(axis, Taxonomy):
        return ("id", "label", "path", "depth", "parent", "text", "weight")
    kind = axis.column()
    return tuple(kind) if isinstance(kind, Mapping) else None if kind == "JSON" else ()


def _check_decided(
    recipe: Checked, marked: Marked, fields: Mapping[str, Mapping[str, Any]], faults: list[Fault]
) -> None:
    """Fields that a layer decides are filled by a step, and can hold what it draws."""
    for axis, entry in recipe.layers.items():
        if field := entry.part.decides():
            path: Path = ("layers", axis, entry.name, "field")
            faults += [marked.fault(path, f"{dotted(path)}: {said}") for said in _misfits(entry.part, field, fields)]


def _misfits(layer: Any, field: str, fields: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Why the steps cannot fill `field` with what the layer draws."""
    if field not in fields:
        yield f"no step fills a field called {field!r}{nearest(field, list(fields))}"
    elif "enum" not in fields[field]:
        yield f"field {field!r} may hold anything; list its labels where it is filled, e.g. {field}: [yes, no]"
    else:
        known = [str(value) for value in fields[field]["enum"]]
        for label in layer.support():
            if label not in known:
                yield f"{label!r} is no value of field {field!r}{nearest(label, known)}; it has {', '.join(known)}"
