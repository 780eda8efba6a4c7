"""The layer `range`: a number between two bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from qdcgen.parts import Layer, Position


class Range(Layer):
    """A number from `min` to `max`, spread evenly inside each mix: `{min: 15, max: 120, unit: words}`.

    Whole numbers when both bounds, and `step` where it is set, are whole; else fractions with three decimals, or six
    with `step`.
    """

    min: int | float = Field(ge=-1e12, le=1e12)
    """Smallest value."""
    max: int | float = Field(ge=-1e12, le=1e12)
    """Largest value."""
    step: float | None = Field(default=None, gt=0)
    """Only multiples of this above `min`."""
    unit: str = ""
    """For people who read the recipe; changes nothing."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self

    def draw(self, names: Mapping[str, Any], at: Position) -> int | float:  # noqa: ARG002  (does not depend on other axes)
        """The value at the row's stratified point."""
        whole = self.column() == "Int64"
        if self.step is not None:
            steps = int((self.max - self.min) / self.step + 1e-9) + 1
            value = self.min + self.step * int(at.u * steps)
            return round(value) if whole else round(float(value), 6)
        if whole:
            return int(self.min + int(at.u * (self.max - self.min + 1)))
        return round(self.min + at.u * (self.max - self.min), 3)

    def column(self) -> str:
        """Int64 when every value is whole, else Float64."""
        whole = all(isinstance(bound, int) for bound in (self.min, self.max))
        return "Int64" if whole and (self.step is None or float(self.step).is_integer()) else "Float64"
