"""Prompts: bounded, sandboxed Jinja2. Pure.

A template may name the row's axes and the fields filled so far, use the filters and methods listed here, `if` and
`for`. A value that is a mapping prints its `text`: `{{ persona }}` and `{{ persona.text }}` are the same. What is not
listed is refused when the recipe is checked, and again when it is called. Data is never a template: only the recipe's
own text is compiled.

Time and memory are bounded by counting. Each turn of a loop costs as many steps as its body has nodes; each filter,
method, `+`, `~`, `in` and slice costs the length of what it reads and makes. A template that spends more than MAX_STEPS
fails its row, so that no nesting of loops and no doubling of texts takes more than a second. Literal lists hold
constants only: lists of lists of names would print exponentially.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

from qdcgen.errors import RowFault, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import jinja2
    from jinja2 import nodes

__all__ = [
    "FILTERS",
    "MAX_OUTPUT",
    "MAX_SOURCE",
    "MAX_STEPS",
    "METHODS",
    "TESTS",
    "attributes_in",
    "names_in",
    "render",
]

MAX_SOURCE = 64 * 1024
"""Characters in one template."""
MAX_NODES = 10_000
"""Names, constants and operators in one template; compiling takes 30 µs for each."""
MAX_OUTPUT = 256 * 1024
"""Characters that one template may print; about 64,000 tokens."""
MAX_LOOP = 10_000
"""Values in one `range()`."""
MAX_STEPS = 1_000_000
"""What one rendering may spend, see above; 0.2 s at worst."""
MAX_NUMBER = 2**63
"""Larger results of arithmetic are refused: big integers take time that nothing counts."""
MAX_DIGITS = 15
"""Decimal places that `round` takes; a float has no more."""

FILTERS = [
    "abs",
    "capitalize",
    "count",
    "d",
    "default",
    "first",
    "float",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "max",
    "min",
    "replace",
    "reverse",
    "round",
    "sort",
    "string",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "wordcount",
]
"""Filters that cost what they read and make, reach no attribute, and give the same for the same input."""
METHODS = [
    "capitalize",
    "count",
    "endswith",
    "find",
    "get",
    "isdigit",
    "items",
    "keys",
    "lower",
    "lstrip",
    "removeprefix",
    "removesuffix",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "title",
    "upper",
    "values",
]
"""Methods of texts and mappings that change nothing and make nothing longer."""
TESTS = [
    "boolean",
    "defined",
    "divisibleby",
    "even",
    "false",
    "float",
    "integer",
    "iterable",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "string",
    "true",
    "undefined",
    "eq",
    "equalto",
    "ne",
    "lt",
    "le",
    "lessthan",
    "gt",
    "ge",
    "greaterthan",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
]

_SPENT: ContextVar[list[int]] = ContextVar("steps")  # one number, in a list so that it can be changed in place


def _spend(steps: int) -> None:
    spent = _SPENT.get()
    spent[0] += steps
    if spent[0] > MAX_STEPS:
        raise RowFault("template", f"the template takes more than {MAX_STEPS:,} steps; shorten its loops")


def _size(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 1


class _Spoken(dict[str, Any]):
    """A mapping that prints as its `text`, wherever Jinja turns it into one: in `{{ }}`, in a filter, beside `~`."""

    __slots__ = ()

    def __str__(self) -> str:
        return str(self["text"]) if "text" in self else super().__repr__()


# ── the environment ─────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    from jinja2 import StrictUndefined, pass_context
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # 60 ms, not paid by --help

    class Counting(ImmutableSandboxedEnvironment):
        """Calls only what is listed, and counts what operators make."""

        intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            """Numbers with numbers, and `+` of two texts or two lists."""
            numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
            if not numbers and operator != "+":
                raise RowFault("template", f"{operator} of a {_kind(left)} and a {_kind(right)}; expected two numbers")
            _spend(_size(left) + _size(right))
            made = super().call_binop(context, operator, left, right)
            if numbers and abs(made) > MAX_NUMBER:
                raise RowFault("template", f"{operator} gives a number beyond {MAX_NUMBER:,}")
            return made

        def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063 - jinja's
            """`range`, `loop.cycle` and METHODS."""
            owner = getattr(__obj, "__self__", None)
            listed = isinstance(owner, (str, dict)) and getattr(__obj, "__name__", "") in METHODS
            if not (listed or __obj is _bounded_range or type(owner).__name__ == "LoopContext"):
                raise RowFault("template", f"a {_kind(__obj)} cannot be called")
            _spend(_size(owner) + sum(_size(value) for value in args))
            made = super().call(__context, __obj, *args, **kwargs)
            _spend(_size(made))
            return made

    environment = Counting(
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=False,
        cache_size=0,
        optimized=False,  # or constant parts are worked out, uncounted, when the template is compiled
        finalize=pass_context(_present),  # with a context, nothing constant is finalized at that time either
    )
    environment.globals = {"range": _bounded_range}
    known = environment.filters
    environment.filters = {name: _counted(name, known[name]) for name in FILTERS} | {"_each": _each, "_joined": _joined}
    environment.tests = {name: environment.tests[name] for name in TESTS}
    return environment


def _present(_context: Any, value: Any) -> Any:
    """What is printed: not None, and no method, whose address would differ from run to run."""
    if callable(value):
        from jinja2 import Undefined

        if not isinstance(value, Undefined):  # that one tells its own story when it is printed
            raise RowFault("template", f"the template prints a {_kind(value)} itself; call it: ()")
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


def _counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, counting what it reads and makes; results are never lazy."""
    at = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)  # carries over whether it wants the context or the environment first
    def counted(*arguments: Any, **options: Any) -> Any:
        value, rest = arguments[at], [*arguments[at + 1 :], *options.values()]
        if name not in {"d", "default"}:  # those are for what is not there
            _spend(_size(value) + _growth(name, value, rest))
        made = function(*arguments, **options)
        if hasattr(made, "__next__"):
            made = list(made)
        _spend(_size(made))
        return made

    return counted


def _growth(name: str, value: Any, rest: list[Any]) -> int:
    """Characters that a filter would add, told before it adds them."""
    if name == "join":
        items = list(value) if _size(value) <= MAX_STEPS else []
        return sum(len(item) if isinstance(item, str) else 8 for item in items) + _size(rest[0] if rest else "") * len(
            items
        )
    if name in {"sort", "unique"}:
        return 8 * _size(value)  # each item is made lower case and compared some 15 times
    if name == "replace" and len(rest) > 1:
        return str(value).count(str(rest[0])) * len(str(rest[1]))
    if name == "round" and rest and not (isinstance(rest[0], int) and abs(rest[0]) <= MAX_DIGITS):
        raise RowFault("template", f"round takes at most {MAX_DIGITS} digits")
    if name == "truncate" and rest and isinstance(rest[0], int):
        return min(abs(rest[0]), _size(value))
    return 0


def _each(value: Any, cost: int) -> Any:
    """What a loop, a slice or `in` goes over, paid for."""
    if not hasattr(value, "__len__"):
        value = list(value)
    _spend(len(value) * cost)
    return value


def _joined(values: list[Any]) -> str:
    """`a ~ b ~ c`."""
    texts = [str(value) for value in values]
    _spend(sum(map(len, texts)))
    return "".join(texts)


def _kind(value: Any) -> str:
    kind = type(value).__name__
    return {"str": "text", "dict": "mapping", "builtin_function_or_method": "method"}.get(kind, kind)


# ── checking and compiling ──────────────────────────────────────────────────────────────────────────────────────────


def _parsed(source: str) -> nodes.Template:
    from jinja2 import TemplateError

    if len(source) > MAX_SOURCE:
        raise RowFault("template", f"template of {len(source):,} characters; at most {MAX_SOURCE:,}")
    try:
        return _environment().parse(source)
    except TemplateError as error:
        said = str(error.message).splitlines()[0].rstrip(".")
        raise RowFault("template", f"line {getattr(error, 'lineno', 1)} of the template: {said}") from None
    except RecursionError:
        raise RowFault("template", "template nested too deep") from None
    except ValueError as error:  # an integer of more than 4,300 digits
        raise RowFault("template", f"the template: {error}") from None


def _refuse(node: Any, what: str) -> RowFault:
    return RowFault("template", f"line {node.lineno} of the template: {what}")


def _checked(tree: nodes.Template) -> None:
    """Raises RowFault for the first construct, filter, test, method or literal that is not listed."""
    from jinja2 import nodes as n

    allowed = (
        *(n.Template, n.Output, n.TemplateData, n.Name, n.Const, n.For, n.If, n.Assign, n.With, n.Getattr, n.Getitem),
        *(n.Slice, n.Filter, n.Test, n.Call, n.Compare, n.Operand, n.And, n.Or, n.Not, n.Neg, n.Pos, n.CondExpr),
        *(n.Concat, n.Add, n.Sub, n.Mul, n.Div, n.FloorDiv, n.Mod, n.List, n.Tuple, n.Dict, n.Pair, n.Keyword),
    )
    for number, node in enumerate(tree.find_all(n.Node)):
        if number >= MAX_NODES:
            raise _refuse(node, f"more than {MAX_NODES:,} names and operators; split the step")
        kind = type(node).__name__.lower()
        if not isinstance(node, allowed):
            raise _refuse(node, f"{kind} is not allowed")
        if isinstance(node, n.Name) and node.name == "self":
            raise _refuse(node, "self is not allowed")
        if isinstance(node, n.Const) and isinstance(node.value, (int, float)) and not abs(node.value) <= MAX_NUMBER:
            raise _refuse(node, f"a number beyond {MAX_NUMBER:,}")
        if isinstance(node, n.For) and node.recursive:
            raise _refuse(node, "a recursive loop is not allowed")
        if isinstance(node, (n.Filter, n.Test)):
            known = FILTERS if isinstance(node, n.Filter) else TESTS
            if node.name not in known:
                listed = nearest(node.name, known) or f"; known: {', '.join(known)}"
                raise _refuse(node, f"no {kind} called {node.name!r} here{listed}")
        if isinstance(node, n.Call):
            _checked_call(node)
        if isinstance(node, (n.List, n.Dict)) or (isinstance(node, n.Tuple) and node.ctx == "load"):
            for part in node.find_all((n.Name, n.Call, n.Filter)):
                raise _refuse(part, "a literal list may hold constants only")


def _checked_call(node: nodes.Call) -> None:
    from jinja2 import nodes as n

    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise _refuse(node, "* in a call is not allowed")
    if isinstance(node.node, n.Name) and node.node.name == "range":
        return
    if not isinstance(node.node, n.Getattr):
        raise _refuse(node, "only range() and methods of texts can be called")
    if node.node.attr not in METHODS and node.node.attr != "cycle":
        known = nearest(node.node.attr, METHODS) or f"; known: {', '.join(METHODS)}"
        raise _refuse(node, f"no method called {node.node.attr!r} here{known}")


def _paying(tree: nodes.Template) -> nodes.Template:
    """The same template, in which loops, slices, `in` and `~` pay."""
    from jinja2 import nodes as n
    from jinja2.visitor import NodeTransformer

    def paid(node: Any, cost: int) -> Any:
        return n.Filter(node, "_each", [n.Const(cost, lineno=node.lineno)], [], None, None, lineno=node.lineno)

    class Payer(NodeTransformer):
        """Inner nodes first."""

        def visit_For(self, node: Any) -> Any:  # noqa: N802 - jinja's name
            self.generic_visit(node)
            body = sum(1 for part in (*node.body, *([node.test] if node.test else [])) for _ in part.find_all(n.Node))
            node.iter = paid(node.iter, body + 2)
            return node

        def visit_Getitem(self, node: Any) -> Any:  # noqa: N802
            self.generic_visit(node)
            if isinstance(node.arg, n.Slice):
                node.node = paid(node.node, 1)
            return node

        def visit_Operand(self, node: Any) -> Any:  # noqa: N802
            self.generic_visit(node)
            if node.op in {"in", "notin"}:
                node.expr = paid(node.expr, 1)
            return node

        def visit_Concat(self, node: Any) -> Any:  # noqa: N802
            self.generic_visit(node)
            texts = n.List(node.nodes, lineno=node.lineno)
            return n.Filter(texts, "_joined", [], [], None, None, lineno=node.lineno)

    return Payer().visit(tree)  # type: ignore[no-any-return]


@lru_cache(maxsize=256)
def _compiled(source: str) -> tuple[jinja2.Template, frozenset[str]]:
    """The template, and the names it reads."""
    from jinja2 import Template, TemplateError, meta

    tree = _parsed(source)
    environment = _environment()
    try:
        _checked(tree)
        names = frozenset(meta.find_undeclared_variables(tree)) - {"range"}
        code = environment.compile(_paying(tree))
        return Template.from_code(environment, code, environment.globals), names
    except TemplateError as error:
        line = getattr(error, "lineno", 1)
        raise RowFault("template", f"line {line} of the template: {str(error.message).splitlines()[0]}") from None
    except (RecursionError, SyntaxError, MemoryError):  # Python's own limits on nesting
        raise RowFault("template", "template nested too deep") from None


def names_in(source: str) -> frozenset[str]:
    """Top-level names that a template reads.

    Raises:
        RowFault: the template is too long, does not parse, or uses what is not allowed here.
    """
    return _compiled(source)[1]


@lru_cache(maxsize=256)
def attributes_in(source: str) -> frozenset[tuple[str, str]]:
    """(name, attribute) of everything that is read of a top-level name, methods left out; raises as `names_in`."""
    from jinja2 import nodes as n

    tree, read = _parsed(source), names_in(source)
    called = {id(call.node) for call in tree.find_all(n.Call)}
    return frozenset(
        (node.node.name, node.attr)
        for node in tree.find_all(n.Getattr)
        if isinstance(node.node, n.Name) and node.node.name in read and id(node) not in called
    )


def render(source: str, names: Mapping[str, Any]) -> str:
    """Fill the template; 5 to 30 µs once compiled.

    Raises:
        RowFault: an undefined name, a forbidden attribute, more than MAX_OUTPUT characters or MAX_STEPS steps.
    """
    template, _ = _compiled(source)
    from jinja2 import TemplateError

    parts: list[str] = []
    size = 0
    before = _SPENT.set([0])
    try:
        spoken = {name: _Spoken(value) if type(value) is dict else value for name, value in names.items()}
        for part in template.root_render_func(template.new_context(spoken)):
            size += len(part)
            if size > MAX_OUTPUT:
                raise RowFault("template", f"the template prints more than {MAX_OUTPUT:,} characters")
            parts.append(part)
    except TemplateError as error:
        raise RowFault("template", f"template: {error.message}") from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise RowFault("template", f"template: {error}") from None
    finally:
        _SPENT.reset(before)
    return "".join(parts)
