"""What layers share: weights over names, and cases in which other settings hold because other axes match. Pure.

A case is a record with `if`: axis → pattern, and settings of its own, e.g. `{if: {topic: cards}, values: {angry: 1}}`.
Cases are tried in order; the first that fits is used. `forbid` compares drawn values in the same way (`agrees`).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from qdcgen.errors import nearest
from qdcgen.parts import Layer, Problem, Scene, Settings, Weight, word
from qdcgen.rows import Node, Taxonomy
from qdcgen.taxonomy import covers, match

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Weights", "When", "agrees", "every", "first", "mismatch", "pick", "problems"]


def _listed(value: Any) -> Any:
    return {str(item): 1.0 for item in value} if isinstance(value, list) else value


def _some(value: dict[str, float]) -> dict[str, float]:
    if not sum(value.values()) > 0:
        raise ValueError("expected at least one value with a weight above 0")
    return value


Weights = Annotated[
    dict[str, Weight],
    BeforeValidator(_listed, json_schema_input_type=dict[str, float] | list[str]),
    AfterValidator(_some),
]
"""Value → weight, or a list of values that weigh alike; some weight is above 0."""


class When(Settings):
    """Other settings for rows whose other axes match; a layer's own case adds what it changes."""

    model_config = ConfigDict(populate_by_name=True)

    if_: dict[str, str] = Field(alias="if", min_length=1)
    """Axis → node pattern or value; all must match."""


class _Case(Protocol):
    @property
    def if_(self) -> Mapping[str, str]: ...


_OneCase = TypeVar("_OneCase", bound=_Case)


def first(cases: Sequence[_OneCase], names: Mapping[str, Any]) -> _OneCase | None:
    """The first case of which every axis matches."""
    return next(
        (case for case in cases if all(agrees(pattern, names.get(axis)) for axis, pattern in case.if_.items())),
        None,
    )


def pick(weights: Mapping[str, float], u: float) -> str:
    """The value at the point `u` of [0, 1): even points give every value its share."""
    values, totals = list(weights), list(accumulate(weights.values()))
    point = u * totals[-1]
    return next(value for value, total in zip(values, totals, strict=True) if point < total)


def every(*weights: Mapping[str, float]) -> list[str]:
    """Every value of any of them, each once, in order."""
    return list(dict.fromkeys(value for one in weights for value in one))


_ONE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*([=<>])\s*(.+)", re.DOTALL)
_SIGNS = {"<": operator.lt, ">": operator.gt}


def agrees(pattern: str, value: Any) -> bool:
    """Whether a drawn value is what a pattern names.

    A node by its path, `*` and inner nodes included; a mapping by its `name`, or one of its keys by `medium=phone`,
    `openness<40`; anything else by what it prints as.
    """
    if value is None:
        return False
    if isinstance(value, Node):
        return covers(pattern, value)
    if isinstance(value, Mapping):
        if "name" in value:
            return word(value) == pattern
        if found := _ONE.fullmatch(pattern):
            key, sign, said = found[1], found[2], found[3].strip()
            own = value.get(key)
            if sign == "=":
                return own is not None and str(own) == said
            return isinstance(own, (int, float)) and _is_number(said) and _SIGNS[sign](own, float(said))
    return word(value) == pattern


def _is_number(said: str) -> bool:
    return bool(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", said))


def mismatch(pattern: str, axis: str, known: Any) -> str | None:
    """Why no value of this axis (a Taxonomy or a Layer) can agree with the pattern, as far as it tells; else None."""
    if isinstance(known, Taxonomy):
        return _no_node(pattern, axis, known) if known.nodes else None
    if not isinstance(known, Layer):
        return None
    if (support := known.support()) is not None:
        words = [word(value) for value in support]
        return None if pattern in words else f"{axis} is never {pattern!r}{nearest(pattern, words)}"
    columns = known.column()
    if isinstance(columns, str) or "name" in columns or set(columns) == {"text"}:
        return None
    found = _ONE.fullmatch(pattern)
    if found is None:
        return f"{pattern!r}: {axis} has several values; name one, such as {_example(known, columns)!r}"
    key, sign, said = found[1], found[2], found[3].strip()
    if key not in columns:
        close = nearest(key, list(columns)) or f"; it has {', '.join(columns)}"
        return f"{axis} has no {key!r}{close}"
    if sign != "=" and not _is_number(said):
        return f"{pattern!r}: expected a number after {sign}, found {said!r}"
    if sign != "=" and columns[key] not in ("Float64", "Int64"):
        return f"{pattern!r}: {key} is no number; write {key}=…"
    listed = known.vocabulary().get(key)
    if listed and said not in listed:
        return f"{key} of {axis} is never {said!r}{nearest(said, list(listed))}"
    return None


def _example(layer: Layer, columns: Mapping[str, str]) -> str:
    listed = layer.vocabulary()
    key = next((key for key in columns if key in listed), next(key for key in columns if key != "text"))
    return f"{key}={listed[key][0]}" if key in listed else f"{key}<40"


def problems(cases: Sequence[_Case], scene: Scene) -> Iterator[Problem]:
    """A case may only look at axes that are drawn before this one, and must be able to fit. For the key `when`."""
    for number, case in enumerate(cases):
        for axis, pattern in case.if_.items():
            path = ("when", number, "if", axis)
            if axis not in scene.axes:
                yield Problem(path, f"no axis {axis!r} above this one{nearest(axis, list(scene.axes))}")
            elif said := mismatch(pattern, axis, scene.axes[axis]):
                yield Problem(path, said)


def _no_node(pattern: str, axis: str, tree: Taxonomy) -> str | None:
    if _can_fit(pattern, tree):
        return None
    node = next((node for node in tree.nodes if node.id == pattern), None)
    close = nearest(pattern, [node.path for node in tree.nodes][:5000])
    if node is not None:
        close = f" by path or label, which is all a case can tell above the leaves; write {node.path!r}"
    return f"{pattern!r} matches no node of {axis}{close}"


def _can_fit(pattern: str, tree: Taxonomy) -> bool:
    """Whether `covers` can say yes to some leaf; each node is looked at once, not once for every leaf below it."""
    return any(match(pattern, leaf) for leaf in tree.leaves) or any(
        match(pattern, Node(node.path, node.label, node.path, node.depth)) for node in tree.nodes
    )
