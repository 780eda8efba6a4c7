"""The levels of the design, held: who may import whom, deferred imports counted."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "qdcgen"

LEVELS = {
    0: {"errors", "rows", "safe"},
    1: {
        "axes",
        "beside",
        "bradley_terry",
        "effects",
        "foreign",
        "forms",
        "conditions",
        "critics",
        "deal",
        "hardness",
        "intervals",
        "knn",
        "spectrum",
        "landing",
        "likeness",
        "model",
        "overlap",
        "parts",
        "nearness",
        "passages",
        "plants",
        "prompts",
        "report",
        "same",
        "sandbox",
        "sobol",
        "store",
        "strict_yaml",
        "support",
        "surface",
        "tables",
        "taxonomy",
        "taxonomy_diff",
        "taxonomy_export",
        "taxonomy_files",
        "taxonomy_show",
        "taxonomy_skos",
        "stopping",
        "template",
        "together",
        "tool_lists",
        "tool_walks",
        "trials",
        "tway",
        "wording",
        "worth",
    },
    2: {
        "bands",
        "embedders",
        "executors",
        "exporters",
        "filters",
        "grow",
        "layers",
        "metrics",
        "misfits",
        "recipe",
        "scrutiny",
        "steps",
    },
    3: {
        "agree",
        "attrition",
        "curve",
        "generate",
        "growing",
        "judge",
        "labelled",
        "ledger",
        "line",
        "measure",
        "neighbours",
        "plan",
        "prepare",
        "publish",
        "ratings",
        "readers",
        "reference",
        "refresh",
        "rounds",
        "schema",
        "selection",
        "solver",
        "thrift",
        "vector_cache",
    },
    4: {"audit", "label", "preview", "review", "run", "start", "suggest", "taxonomy_open", "taxonomy_score", "testing"},
    5: {"cli", "cli_taxonomy"},
}
LEVEL = {name: level for level, names in LEVELS.items() for name in names}
SHELVES = {"embedders", "executors", "exporters", "filters", "layers", "metrics", "steps"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def unit(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def qdcgen_units(path):
    found = {name.split(".")[1] for name in imports(path) if name.startswith("qdcgen.")}
    return {name for name in found if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_its_own_level_or_below(path):
    mine = LEVEL[unit(path)]
    above = {name for name in qdcgen_units(path) - {unit(path)} if LEVEL[name] > mine}
    assert not above


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_imports_a_shelf(path):
    assert not (qdcgen_units(path) & SHELVES)


def test_no_module_imports_in_a_circle():
    graph = {}
    for path in MODULES:
        graph.setdefault(unit(path), set()).update(qdcgen_units(path) - {unit(path)})
    done = set()

    def visit(name, above):
        assert name not in above, f"{' → '.join([*above, name])}"
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, [*above, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])


def test_the_command_line_starts_without_anything_heavy():
    import subprocess
    import sys

    heavy = [
        "numpy",
        "polars",
        "pydantic",
        "aiohttp",
        "litellm",
        "rich.console",
        "yaml",
        "jinja2",
        "hdbscan",
        "sklearn",
    ]
    probe = f"import sys, qdcgen.cli; print([m for m in {heavy!r} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_checking_a_recipe_starts_without_anything_heavy(tmp_path):
    import subprocess
    import sys

    recipe = PACKAGE.parent / "recipes" / "quickstart.yaml"
    heavy = ["numpy", "polars", "aiohttp", "litellm", "rich.console", "hdbscan", "sklearn"]
    probe = (
        "import sys; from pathlib import Path; from qdcgen.recipe import load; "
        f"load(Path({str(recipe)!r})); print([m for m in {heavy!r} if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout.strip() == "[]"
