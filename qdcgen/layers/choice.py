"""The layer `choice`: one of a few named values, by weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from qdcgen.errors import nearest
from qdcgen.parts import Layer, Position, Problem, Scene, Settings, Weight
from qdcgen.rows import Node, Taxonomy
from qdcgen.taxonomy import covers, match


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


class Case(Settings):
    """Other values for rows whose other axes match."""

    model_config = ConfigDict(populate_by_name=True)

    if_: dict[str, str] = Field(alias="if", min_length=1)
    """Axis → node pattern or value; all must match."""
    values: Weights
    """Value → weight in this case."""


class Choice(Layer):
    """One of a few values, by weight: `{calm: 2, worried: 1}` or `[calm, worried]`.

    The rows of one mix are spread evenly over the weights (a stratified point each), not drawn independently.
    `when` gives other weights where other axes, declared above this one, match; the first case that fits is used.
    """

    short: ClassVar[str | None] = "values"

    values: Weights
    """Value → weight."""
    when: tuple[Case, ...] = ()
    """Cases, tried in order: `{if: {topic: cards/*}, values: {angry: 1}}`."""

    def draw(self, names: Mapping[str, Any], at: Position) -> str:
        """The value at the row's stratified point."""
        weights = next((case.values for case in self.when if _fits(case.if_, names)), self.values)
        values, totals = list(weights), list(accumulate(weights.values()))
        point = at.u * totals[-1]
        return next(value for value, total in zip(values, totals, strict=True) if point < total)

    def support(self) -> Sequence[str]:
        """Every value of every case."""
        return list(
            dict.fromkeys(value for weights in (self.values, *(c.values for c in self.when)) for value in weights)
        )

    def problems(self, scene: Scene) -> Any:
        """A case may only look at axes that are drawn before this one, and must be able to fit."""
        for number, case in enumerate(self.when):
            for axis, pattern in case.if_.items():
                path = ("when", number, "if", axis)
                if axis not in scene.axes:
                    yield Problem(path, f"no axis {axis!r} above this one{nearest(axis, list(scene.axes))}")
                elif isinstance(tree := scene.axes[axis], Taxonomy) and tree.nodes and not _can_fit(pattern, tree):
                    node = next((node for node in tree.nodes if node.id == pattern), None)
                    close = nearest(pattern, [node.path for node in tree.nodes][:5000])
                    if node is not None:
                        close = f" by path or label, which is all a case can tell above the leaves; write {node.path!r}"
                    yield Problem(path, f"{pattern!r} matches no node of {axis}{close}")


def _can_fit(pattern: str, tree: Taxonomy) -> bool:
    """Whether `covers` can say yes to some leaf; each node is looked at once, not once for every leaf below it."""
    return any(match(pattern, leaf) for leaf in tree.leaves) or any(
        match(pattern, Node(node.path, node.label, node.path, node.depth)) for node in tree.nodes
    )


def _fits(wanted: Mapping[str, str], names: Mapping[str, Any]) -> bool:
    for axis, pattern in wanted.items():
        value = names.get(axis)
        if value is None or not (covers(pattern, value) if hasattr(value, "path") else str(value) == pattern):
            return False
    return True
