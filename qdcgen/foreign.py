"""What columns of a table from elsewhere stand for: which model wrote a text, and which prompt it answers. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdcgen.errors import UsageError, nearest
from qdcgen.intervals import FEW

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

__all__ = ["written"]

MODELS = frozenset({"model", "models", "model_name", "model_id", "writer", "generator"})
"""Names of a column that, named by `--axis`, is also read as `--model`."""
CROSSED = 0.9
"""Share of the prompts that every model has answered from which a column is taken for that of the prompts."""


def written(
    frame: pl.DataFrame, of: str, *, model: str | None, group: str | None, axes: Sequence[str], text: Sequence[str]
) -> tuple[pl.DataFrame, Mapping[str, str], list[str]]:
    """The table with `_writer` and `_mix` where it says who wrote what, a fact for the head of the report, remarks.

    `model` is the column of the models; where none is named, an axis called so is. `group` is the column of what a text
    answers; where none is named it is `_mix`, else the column with most values (20 at least) of which nine in ten have
    texts of every model.

    Raises:
        UsageError: a column is not there, or is no column of names; `group` without models; one column for both.
    """
    import polars as pl

    model = model or next((axis for axis in axes if axis.lower() in MODELS), None)
    if model is None:
        if group is not None:
            raise UsageError(f"--group {group} needs --model COLUMN: the column that says which model wrote each text")
        return frame, {}, []
    for option, name in (("--model", model), ("--group", group)):
        if name is None:
            continue
        if name not in frame.columns:
            close = nearest(name, frame.columns)
            raise UsageError(f"{of}: no column {name!r}{close} (columns: {', '.join(frame.columns)})")
        if frame[name].dtype.is_nested() or frame[name].dtype in (pl.Binary, pl.Object):
            raise UsageError(f"{option} {name}: the column holds {frame[name].dtype}; expected text or a number")
    if group == model:
        raise UsageError(f"--group {group}: that is the model; name the column that says which prompt a text answers")
    frame = frame.with_columns(pl.col(model).cast(pl.String).alias("_writer"))
    group = group or ("_mix" if "_mix" in frame.columns else _prompts(frame, {model, *text}))
    if group is None:
        said = (
            f"which texts answer the same prompt is not known, so the texts of each {model} are not compared: name the "
            "column with --group"
        )
        return frame, {}, [said]
    fact = {"models": f"{model}, compared within {group}"}
    return frame.with_columns(pl.col(group).cast(pl.String).alias("_mix")), fact, []


def _prompts(frame: pl.DataFrame, taken: set[str]) -> str | None:
    """The column of the prompts; None where no column looks like it."""
    import polars as pl

    models = frame["_writer"].drop_nulls().n_unique()
    if models < 2:  # noqa: PLR2004  (one model has met every prompt)
        return None
    found: dict[str, int] = {}
    for name, kind in frame.schema.items():
        if name in taken or name.startswith("_") or kind.is_nested() or kind in (pl.Binary, pl.Object):
            continue
        met = frame.select(pl.col(name).alias("value"), "_writer").drop_nulls().unique().group_by("value").len()
        if met.height >= FEW and (met["len"] == models).sum() >= CROSSED * met.height:
            found[name] = met.height
    return max(found, key=lambda name: found[name], default=None)
