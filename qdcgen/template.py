"""Prompts: bounded, sandboxed Jinja2. Pure.

A template may name the row's axes and the fields filled so far, use filters, `if` and `for`. It can reach no
attribute that starts with an underscore, call no method that changes its data, and loop over no more than what it is
given. Data is never a template: only the recipe's own text is compiled.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qdcgen.errors import RowFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2

__all__ = ["MAX_OUTPUT", "MAX_SOURCE", "names_in", "render"]

MAX_SOURCE = 64 * 1024
"""Characters in one template."""
MAX_OUTPUT = 256 * 1024
"""Characters that one template may print; about 64,000 tokens."""
MAX_LOOP = 10_000
"""Values in one `range()`; nested loops are bounded by what they print and by MAX_STEPS."""


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # 60 ms, not paid by --help

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False, cache_size=0, finalize=_present
    )
    environment.globals = {"range": _bounded_range}
    for unsafe in (
        "attr",
        "map",
        "pprint",
        "xmlattr",
        "urlize",
        "filesizeformat",
        "center",
        "indent",
        "wordwrap",
        "format",
    ):
        environment.filters.pop(unsafe, None)  # reach attributes by name, or print without bound
    return environment


def _present(value: Any) -> Any:
    if value is None:
        raise RowFault(
            "template", "the template prints an axis that this row does not have; guard it: {% if name %}…{% endif %}"
        )
    return value


def _bounded_range(*bounds: int) -> range:
    values = range(*bounds)
    if len(values) > MAX_LOOP:
        raise RowFault("template", f"range of {len(values):,} values; at most {MAX_LOOP:,}")
    return values


def _parsed(source: str) -> Any:
    from jinja2 import TemplateSyntaxError

    if len(source) > MAX_SOURCE:
        raise RowFault("template", f"template of {len(source):,} characters; at most {MAX_SOURCE:,}")
    try:
        return _environment().parse(source)
    except TemplateSyntaxError as error:
        raise RowFault("template", f"line {error.lineno} of the template: {error.message}") from None
    except RecursionError:
        raise RowFault("template", "template nested too deep") from None


@lru_cache(maxsize=256)
def names_in(source: str) -> frozenset[str]:
    """Top-level names that a template reads.

    Raises:
        RowFault: the template is too long, does not parse, or uses what is not allowed here (blocks, imports, nested
            `for` loops: they are the one way to spend unbounded time).
    """
    from jinja2 import TemplateError, meta, nodes

    tree = _parsed(source)
    for kind in (
        nodes.Include,
        nodes.Import,
        nodes.FromImport,
        nodes.Extends,
        nodes.Macro,
        nodes.CallBlock,
        nodes.Block,
    ):
        for found in tree.find_all(kind):
            raise RowFault("template", f"line {found.lineno} of the template: {kind.__name__.lower()} is not allowed")
    for loop in tree.find_all(nodes.For):
        for inner in loop.find_all(nodes.For):
            if loop.recursive or inner is not loop:
                raise RowFault("template", f"line {inner.lineno} of the template: a loop inside a loop is not allowed")
    for power in tree.find_all((nodes.Pow, nodes.Mul)):
        raise RowFault("template", f"line {power.lineno} of the template: * and ** are not allowed")
    try:
        return frozenset(meta.find_undeclared_variables(tree)) - {"range"}
    except TemplateError as error:  # an unknown filter or test is only found when code is made
        line = getattr(error, "lineno", 1)
        raise RowFault("template", f"line {line} of the template: {str(error.message).splitlines()[0]}") from None


@lru_cache(maxsize=256)
def _compiled(source: str) -> jinja2.Template:
    names_in(source)
    return _environment().from_string(source)


def render(source: str, names: Mapping[str, Any]) -> str:
    """Fill the template; 4 to 20 µs once compiled.

    Raises:
        RowFault: an undefined name, a forbidden attribute, or more than MAX_OUTPUT characters.
    """
    template = _compiled(source)
    from jinja2 import TemplateError

    parts: list[str] = []
    size = 0
    try:
        for part in template.root_render_func(template.new_context(dict(names))):
            size += len(part)
            if size > MAX_OUTPUT:
                raise RowFault("template", f"the template prints more than {MAX_OUTPUT:,} characters")
            parts.append(part)
    except TemplateError as error:
        raise RowFault("template", f"template: {error.message}") from None
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise RowFault("template", f"template: {error}") from None
    return "".join(parts)
