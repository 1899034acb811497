"""The house: who imports whom, whose private names are whose, how long modules and functions are.

All of it is read from the source, so imports within functions, by `importlib` and through `sys.modules` count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import tinynet

HOME = Path(tinynet.__file__).parent
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(HOME.rglob("*.py"))}
TREES = {path: ast.parse(text) for path, text in SOURCES.items()}
CODE = {path for path in SOURCES if path.relative_to(HOME).parts[0] != "kernels"}

ENGINE = {"backends", "tensor", "changes", "integers", "operands", "tape", "autograd"}
LAYERS = ENGINE | {"gradcheck", "hints", "ops", "nn"}
# Folder, or module at the root: what it may import besides itself. Each stands below those that name it.
MAY_IMPORT: dict[str, set[str]] = {
    "console": set(),
    "nested": set(),
    "version": set(),
    "folders": set(),
    "hints": set(),
    "backends": {"folders"},
    "tensor": {"backends", "hints"},
    "changes": {"tensor"},
    "integers": {"backends", "tensor"},
    "operands": {"hints", "integers", "tensor"},
    "tape": {"backends", "changes", "integers", "operands", "tensor"},
    "autograd": {"changes", "operands", "tape", "tensor"},
    "gradcheck": ENGINE,
    "ops": ENGINE | {"gradcheck", "hints"},
    "data": {"console", "folders", "integers", "nested"},
    "nn": ENGINE | {"hints", "ops"},
    "optim": LAYERS | {"data"},
    "models": LAYERS,
    "saving": LAYERS | {"models", "optim"},
    "parallel": LAYERS | {"models", "nested", "optim", "saving"},
    "training": LAYERS | {"console", "data", "models", "nested", "optim", "parallel", "saving", "version"},
    "insight": LAYERS | {"console", "data", "models", "nested", "optim", "parallel", "saving", "training"},
    "interchange": LAYERS | {"data", "models", "optim", "saving", "training"},
    "play": LAYERS | {"console", "data", "insight", "models", "optim", "parallel", "saving", "training"},
    "cli": LAYERS
    | {"console", "data", "folders", "insight", "interchange", "models", "optim", "parallel", "play", "saving"}
    | {"training", "version"},
}
FLOORS = [
    "cli",
    "play",
    "insight",
    "training",
    "parallel",
    "saving",
    "optim",
    "nn",
    "ops",
    "autograd",
    "tape",
    "tensor",
    "backends",
]
TOP = {"__init__", "__main__", "moved"}  # the package itself may import everything; nothing imports it

# What is not mended yet; these lists only become shorter.
LONG_MODULES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
UPWARDS: set[tuple[str, str]] = set()
STRANGERS: set[tuple[str, str]] = set()


def unit(module: str) -> str:
    """The folder of `tinynet.ops.conv`, that is "ops"; a module at the root is a unit of its own."""
    return [*module.split("."), "__init__"][1]


def name_of(path: Path) -> str:
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join(("tinynet", *parts)).removesuffix(".__init__")


def is_module(name: str) -> bool:
    place = HOME.joinpath(*name.split(".")[1:])
    return place.is_dir() or place.with_suffix(".py").is_file()


def absolute(name: str, level: int, path: Path) -> str:
    """A name as `from` and `import_module` take it, without its leading dots."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for _ in range(level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{name}".rstrip(".") if level else name


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """(a module of tinynet that this one imports, in which line), "?" where that is computed."""
    for node in ast.walk(TREES[path]):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node.module or "", node.level, path)
            found = [inner if is_module(inner := f"{base}.{alias.name}") else base for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            found = [_constant(node.args[0], path)]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("sys.modules"):
            found = [_constant(node.slice, path)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("sys.modules.get"):
            found = [_constant(node.args[0], path)]
        for name in found:
            if name == "?" or name.partition(".")[0] == "tinynet":
                yield name, getattr(node, "lineno", 0)


def _constant(node: ast.expr, path: Path) -> str:
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return "?"
    level = len(node.value) - len(node.value.lstrip("."))
    return absolute(node.value.lstrip("."), level, path)


def test_the_table_has_an_order():
    """No circle, so everything can stand above what it imports; and every folder and module has a place."""
    order = list(TopologicalSorter(MAY_IMPORT).static_order())
    assert all(name in MAY_IMPORT for name in order)
    for higher, lower in pairwise(FLOORS):
        assert lower in MAY_IMPORT[higher]
    assert {unit(name_of(path)) for path in CODE} <= MAY_IMPORT.keys() | TOP


def test_imports_run_downwards():
    wrong = {}
    for path in CODE:
        own = unit(name_of(path))
        if own in TOP:
            continue
        for name, line in imported(path):
            other = "?" if name == "?" else unit(name)
            if other != own and other not in MAY_IMPORT[own]:
                wrong[own, other] = f"{path.relative_to(HOME)}:{line} imports {name}"
    assert wrong.keys() == UPWARDS, "\n".join(wrong.values())


def test_modules_of_a_folder_have_an_order_too():
    """No circle between modules; a folder's `__init__` counts for those of its names that are imported from it."""
    graph: dict[str, set[str]] = {name_of(path): set() for path in CODE}
    for path in CODE - {HOME / "__init__.py"}:
        own = name_of(path)
        graph[own] |= {name for name, _ in imported(path) if name in graph and name != own}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


# ---- private names ----------------------------------------------------------------------------------------------


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def defined(tree: ast.Module) -> set[str]:
    """The private names that a module makes: functions, classes, variables, attributes."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return {name for name in names if private(name)}


def used(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The private names that a module asks of something else: imports, attributes, getattr."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((alias.name, node.lineno) for alias in node.names if private(alias.name))
        elif isinstance(node, ast.Attribute) and private(node.attr):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            name = getattr(node.args[1], "value", None)  # of a constant
            if isinstance(name, str) and private(name):
                yield name, node.lineno


def test_private_names_stay_within_their_folder():
    homes: dict[str, set[Path]] = {}
    for path in CODE:
        for name in defined(TREES[path]):
            homes.setdefault(name, set()).add(path.parent)
    wrong = {}
    for path in CODE:
        for name, line in used(TREES[path]):
            if name in homes and path.parent not in homes[name]:
                wrong[str(path.relative_to(HOME)), name] = f"{path.relative_to(HOME)}:{line} uses {name}"
    assert wrong.keys() == STRANGERS, "\n".join(sorted(wrong.values()))


# ---- sizes ------------------------------------------------------------------------------------------------------


def test_no_module_is_longer_than_400_lines():
    lengths = {str(path.relative_to(HOME)): text.count("\n") for path, text in SOURCES.items()}
    assert {name for name, n in lengths.items() if n > 400} == LONG_MODULES


def code_lines(node):
    """The lines of a function, its docstring not counted."""
    own = node.body[0]
    documented = isinstance(own, ast.Expr) and isinstance(own.value, ast.Constant) and isinstance(own.value.value, str)
    return node.end_lineno - node.lineno + 1 - (own.end_lineno - own.lineno + 1 if documented else 0)


def test_no_function_is_longer_than_60_lines():
    lengths = {
        f"{path.relative_to(HOME)}: {node.name}": code_lines(node)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name for name, n in lengths.items() if n > 60} == LONG_FUNCTIONS


def test_the_engine_is_small():
    assert sum(SOURCES[HOME / f"{name}.py"].count("\n") for name in ("tensor", "tape", "autograd")) < 600


# ---- these tests notice -----------------------------------------------------------------------------------------

UPWARD = [
    "from ..nn import Module",
    "from .. import nn",
    "import tinynet.nn",
    "def f():\n    from ..nn.module import Module",
    "import importlib\nimportlib.import_module('tinynet.nn')",
    "import importlib\nimportlib.import_module('..nn', __name__)",
    "import sys\nsys.modules['tinynet.nn']",
    "import sys\nsys.modules.get('tinynet.nn')",
]


@pytest.mark.parametrize("text", UPWARD)
def test_every_way_to_import_is_seen(text, monkeypatch):
    path = HOME / "ops" / "made_up.py"
    monkeypatch.setitem(TREES, path, ast.parse(text))
    assert "nn" in {unit(name) for name, _ in imported(path)}


@pytest.mark.parametrize("text", ["from x import _y", "x._y", "f(x)._y = 3", "getattr(x, '_y')", "setattr(x, '_y', 3)"])
def test_every_way_to_a_private_name_is_seen(text):
    assert "_y" in {name for name, _ in used(ast.parse(text))}
