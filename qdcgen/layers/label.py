"""The layer `label`: a label drawn before the text is written, from a declared distribution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from qdcgen import conditions
from qdcgen.conditions import Weights, When
from qdcgen.parts import Label as Drawn
from qdcgen.parts import Layer, Position, Problem, Scene


class Case(When):
    """Another distribution for rows whose other axes match."""

    values: Weights
    """Label → weight in this case."""


class Label(Layer):
    """The label that a row must get, drawn before its text: `{field: sentiment, values: {positive: 3, negative: 1}}`.

    `field` is a field with an `enum`; the step that fills it may then answer nothing but the drawn label, so that the
    label constrains the text and not the other way round. Name the axis in the prompt, or the text does not know of it:
    `wanted: {label: {field: sentiment, …}}` and `Write a {{ wanted }} review`. Labels are dealt evenly inside each mix:
    of its first 2^k rows each label has its share to within two rows, of any number up to 200 to within four.

    Source: label-constrained generation of TarGEN (arXiv 2310.17876, §3).
    """

    values: Weights
    """Label → weight, or a list of labels that weigh alike."""
    field: str = Field(min_length=1)
    """The field that holds the label; its `enum` has every label."""
    when: tuple[Case, ...] = ()
    """Cases, tried in order: `{if: {topic: cards/*}, values: {negative: 1}}`."""

    def draw(self, names: Mapping[str, Any], at: Position) -> Drawn:
        """The label at the row's stratified point."""
        case = conditions.first(self.when, names)
        return Drawn(conditions.pick((case or self).values, at.u), self.field)

    def support(self) -> Sequence[str]:
        """Every label of every case."""
        return conditions.every(self.values, *(case.values for case in self.when))

    def decides(self) -> str:
        """The field that holds the label."""
        return self.field

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """Cases look at axes above, and no two layers decide one field; what the field can hold is seen later."""
        yield from conditions.problems(self.when, scene)
        for axis, other in scene.axes.items():
            if isinstance(other, Layer) and other.decides() == self.field:
                yield Problem(("field",), f"{axis} decides {self.field!r} already")
