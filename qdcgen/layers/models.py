"""The layer `models`: which writer makes the row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from qdcgen import conditions
from qdcgen.conditions import Weights, When
from qdcgen.errors import nearest
from qdcgen.parts import Layer, Position, Problem, Scene, Writer


class Case(When):
    """Other writers for rows whose other axes match."""

    values: Weights
    """Alias → weight in this case."""


class Models(Layer):
    """Which model makes the row, by weight: `{small: 3, large: 1}` or `[small, large]`, names under `models:`.

    Every step that names no model of its own asks the row's; one that names a model keeps to it. The rows of one mix
    are spread evenly over the weights. Several writers, small ones among them, widen the range of what is written
    (arXiv 2504.12522; how alike single models write: arXiv 2510.22954).
    """

    short: ClassVar[str | None] = "values"

    values: Weights
    """Alias → weight."""
    when: tuple[Case, ...] = ()
    """Cases, tried in order: `{if: {topic: law/*}, values: [large]}`."""

    def draw(self, names: Mapping[str, Any], at: Position) -> Writer:
        """The alias at the row's stratified point."""
        case = conditions.first(self.when, names)
        return Writer(conditions.pick((case or self).values, at.u))

    def support(self) -> Sequence[str]:
        """Every alias of every case."""
        return conditions.every(self.values, *(case.values for case in self.when))

    def problems(self, scene: Scene) -> Iterator[Problem]:
        """Every alias is one, cases look at axes above, and there is one such layer."""
        yield from conditions.problems(self.when, scene)
        paths: list[tuple[str | int, ...]] = [("values",), *(("when", at, "values") for at in range(len(self.when)))]
        for path, weights in zip(paths, (self.values, *(case.values for case in self.when)), strict=True):
            for alias in weights:
                if alias not in scene.models:
                    yield Problem((*path, alias), f"no model called {alias!r}{nearest(alias, list(scene.models))}")
        for axis, other in scene.axes.items():
            if isinstance(other, Models):
                yield Problem((), f"{axis} says already which model makes a row")
