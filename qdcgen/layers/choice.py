"""The layer `choice`: one of a few named values, by weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from qdcgen import conditions
from qdcgen.conditions import Weights, When
from qdcgen.parts import Layer, Position, Problem, Scene


class Case(When):
    """Other values for rows whose other axes match."""

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
        case = conditions.first(self.when, names)
        return conditions.pick((case or self).values, at.u)

    def support(self) -> Sequence[str]:
        """Every value of every case."""
        return conditions.every(self.values, *(case.values for case in self.when))

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """A case may only look at axes that are drawn before this one, and must be able to fit."""
        yield from conditions.problems(self.when, scene)
