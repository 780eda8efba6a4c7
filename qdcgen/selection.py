"""`--select` and `--exclude`: which regions an invocation makes, by pattern, e.g. `topic:cards/**`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from qdcgen.errors import UsageError, nearest
from qdcgen.taxonomy import matching

if TYPE_CHECKING:
    from qdcgen.recipe import Recipe

__all__ = ["Selection"]


class Selection(NamedTuple):
    """Regions with at least one of `select` (all, when there is none) and none of `exclude`: `axis:pattern` each.

    A pattern is compared as everywhere in a recipe (`taxonomy.match`), and one that names an inner node covers what is
    below it.
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def of(self, recipe: Recipe) -> pl.Expr:
        """Whether a region is selected, over columns of node ids by taxonomy.

        Raises:
            UsageError: a pattern without an axis, of an unknown axis, or one that matches no leaf.
        """
        taken = pl.any_horizontal([_covered(recipe, said) for said in self.select] or [pl.lit(value=True)])
        left = pl.any_horizontal([_covered(recipe, said) for said in self.exclude] or [pl.lit(value=False)])
        return taken & ~left


def _covered(recipe: Recipe, said: str) -> pl.Expr:
    axis, colon, pattern = said.partition(":")
    if not colon or not pattern:
        raise UsageError(f"{said!r}: expected AXIS:PATTERN, e.g. {next(iter(recipe.taxonomies))}:cards/**")
    tree = recipe.taxonomies.get(axis)
    if tree is None:
        kind = "is a layer, which is drawn row by row" if axis in recipe.layers else "is no taxonomy of the recipe"
        known = ", ".join(recipe.taxonomies)
        raise UsageError(f"{said!r}: {axis!r} {kind}{nearest(axis, list(recipe.taxonomies))}; expected one of {known}")
    hit = [leaf.id for leaf, named in zip(tree.leaves, matching(pattern, tree), strict=True) if named]
    if not hit:
        near = nearest(pattern, [node.path for node in tree.nodes[:5_000]])
        raise UsageError(f"{said!r}: {pattern!r} matches no node of {axis}{near}")
    return pl.col(axis).is_in(hit).fill_null(value=False)
