"""Runs in a process of its own, as a script: says of one text after another whether it parses. It runs none of them.

One JSON object a line on stdin, one JSON value a line on stdout: null, or why not. A text that crashes a parser, fills
the memory or takes too long ends this process and nothing else; whoever asks then starts another.
"""

from __future__ import annotations

import ast
import json
import resource
import signal
import sys
import warnings
from typing import Any

SECONDS = 2.0
"""Of CPU time for one text: 1 MiB of real Python takes 0.4 s to parse and compile, one of nothing but `x=1;` 2 s. CPU
time and not the clock's, so that a busy machine judges as an idle one does."""
MEMORY = 1 << 30
DEEP = 5_000
"""Python's own frames, for sqlglot: it takes some 20 for a level of brackets."""


def _python(asked: dict[str, Any]) -> str | None:
    try:
        tree = ast.parse(asked["text"], "<field>")
        if asked["compile"]:
            compile(asked["text"], "<field>", "exec", dont_inherit=True)
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        return f"{where}{error.msg}"
    except ValueError as error:
        return str(error)
    return None if tree.body else "nothing but comments"


def _sql(asked: dict[str, Any]) -> str | None:
    import sqlglot
    from sqlglot import errors, expressions

    if "\0" in asked["text"]:
        return "a NUL byte"
    try:
        found = [one for one in sqlglot.parse(asked["text"], dialect=asked["dialect"]) if one is not None]
    except errors.ParseError as error:
        told = error.errors[0] if error.errors else {}
        where = f"line {told['line']}: " if told.get("line") else ""
        near = f", near {told['highlight']!r}" if told.get("highlight") else ""
        return f"{where}{told.get('description') or error}{near}"
    except errors.SqlglotError as error:
        return str(error)
    found = [one for one in found if not isinstance(one, expressions.Semicolon)]
    if not found:
        return "nothing but comments"
    words = (expressions.Condition, expressions.Alias, expressions.Identifier, expressions.Tuple)
    for one in found:
        if isinstance(one, words) and not isinstance(one, expressions.Query):
            return f"an expression ({type(one).__name__.lower()}), expected a statement"
    return None


def main() -> None:
    """Answer until nobody asks any more."""
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(DEEP)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere there is no such limit, or it cannot be set
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    readers = {"python": _python, "sql": _sql}
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # whose signal ends the process
        try:
            said = readers[asked["language"]](asked)
        except RecursionError:
            said = "nested too deeply"
        except MemoryError:
            said = "nested too deeply, or too large for 1 GiB of memory"
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
