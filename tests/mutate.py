"""Break every derivative, and see whether the suite notices: `python -m tests.mutate [NAME…]`.

Two kinds of mutants, each held against the cases of tinynet/ops/cases.py (and,
for the source, against all of checks.PROOFS) until one fails:

- *tape*: the gradient that an operation hands to one of its inputs is changed on its way (sign, a factor of
  1 ± 1e-3, dropped, its axes swapped), whatever the code looks like;
- *source*: one place in the code of a derivative is changed (an operator, a number, a flag, the order of two
  arguments, a statement left out): the products in tinynet/ops and the `…_grad` kernels in tinynet/backends/cpu.

Prints a table and every mutant that survived; exits with 1 if one did. A mutant that computes the same function
cannot be noticed: EQUIVALENT lists those, each with the reason.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import inspect
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from tests import checks
from tinynet import autograd, ops, tape
from tinynet.backends.cpu import threads
from tinynet.ops.cases import CASES, Case

Proof = Callable[[], None]


def noticed_by(proofs: Iterable[Proof]) -> bool:
    """Whether one of them fails."""
    with warnings.catch_warnings(), checks.poisoned():
        warnings.simplefilter("error")
        for proof in proofs:
            try:
                proof()
            except Exception:
                return True
    return False


# ---- changing gradients on the tape ----------------------------------------------------------------------


def swapped(p: np.ndarray) -> np.ndarray:
    """p with its values in the order of the transposed array; a vector is turned by one."""
    return np.roll(p, 1) if p.ndim == 1 else p.T.reshape(p.shape)


TAPE: dict[str, Callable] = {
    "sign": np.negative,
    "factor 1.001": lambda p: p * 1.001,
    "factor 0.999": lambda p: p * 0.999,
    "dropped": lambda p: None,
    "swapped axes": swapped,
    "shifted": lambda p: p + 1e-3,
}


@contextlib.contextmanager
def on_tape(name: str, i: int, change: Callable) -> Iterator[list]:
    """Within, operation `name` hands its i-th input a changed gradient; the list holds something once one differed."""
    real, differed = tape.Node, []

    def node(made: str, be: Any, y: Any, parents: tuple, vjp: Callable | None) -> tape.Node:
        def broken(g: Any, need: Any) -> tuple:
            parts = list(vjp(g, need))
            if i < len(parts) and parts[i] is not None:
                before = np.array(parts[i])
                parts[i] = change(before)
                if np.any(before) if parts[i] is None else not np.array_equal(before, parts[i]):
                    differed.append(True)
            return tuple(parts)

        return real(made, be, y, parents, broken if made == name.strip("_") else vjp)

    tape.Node = node  # type: ignore[assignment,misc]
    try:
        yield differed
    finally:
        tape.Node = real  # type: ignore[misc]


def differentiable_inputs(name: str, cases: list[Case]) -> list[int]:
    """The places of operation `name` that a gradient arrives at in some case."""
    places = set()
    for case in cases:
        for y in checks.outputs_of(case, checks.as_leaves(case.arrays())):
            for node in checks.nodes_of(y):
                if node.name == name.strip("_"):
                    places |= {i for i, parent in enumerate(node.parents) if parent is not None}
    return sorted(places)


def tape_mutants(name: str) -> Iterator[tuple[str, bool]]:
    """(mutant, whether a case noticed) for every gradient that operation `name` gives."""
    cases = [c for c in CASES if c.name == name.lstrip("_") and c.smooth]
    cases.sort(key=lambda c: sum(x.size for x in c.arrays()))  # the quickest first
    for i in differentiable_inputs(name, cases):
        for label, change in TAPE.items():
            with on_tape(name, i, change) as differed:
                noticed = noticed_by(case.check for case in cases)
            if differed:  # 0 times whatever is 0: not a mutant of floor, say
                yield f"{name}, input {i}: {label}", noticed


# ---- changing the source -----------------------------------------------------------------------------------

OPS = [topic.__name__.rpartition(".")[2] for topic in ops.TOPICS]
KERNELS = (
    "elementwise",
    "reduce",
    "shape",
    "matmul",
    "loss",
    "random",
    "pool",
    "columns",
    "conv",
    "taps",
    "winograd",
    "lines",
    "norm",
    "embedding",
    "recurrent",
)
# parts of derivatives under another name
HELPERS = {"sum_to", "col2im", "_leak", "_add_windows", "_add_columns", "_add_lines", "backward"}

OPERATORS: dict = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.USub: ast.UAdd,
    ast.Gt: ast.Lt,
    ast.Lt: ast.Gt,
    ast.GtE: ast.Lt,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
CALLS = {
    "add": "subtract",
    "subtract": "add",
    "multiply": "divide",
    "divide": "multiply",
    "greater": "less",
    "greater_equal": "less",
    "less_equal": "greater",
    "equal": "not_equal",
    "log": "exp",
    "exp": "log",
}
ORDERED = ("subtract", "divide", "power", "matmul", "where")

# part of a mutant's description → why it computes the same
EQUIVALENT = {
    "in `if need[1] and len(y_shape) == 2 and x.ndim > 2": "a shortcut: the general way gives the same sum",
    "2 + 1 in `dz[:, :, ow // 2 * 2 :] = 0": "clears more than it must, before the rest is written",
    "`frame: np.ndarray = np.zeros(0)`": "a first value for the type checker; the first tile makes the frame",
    "another Add in `place = dplanes[:, (a + i) % q, (b + j) % q": "q is 1 or 2, where i and -i are the same",
    "0 + 1 in `top, left = p.padding[0][0], p.padding[1][0]`": "conv2d pads 3×3 windows of stride 1 evenly",
    "0 + 1 in `(top, left), (_, h, wide, _) = (p.padding[0][0]": "likewise",
    "another Sub in `dx[:, lines - top :] = 0": "likewise: with a line above there is one below",
    "another Sub in `dx[:, :, width - left :] = 0": "likewise",
    "always else in `columns = kept[number] if kept": "what was not kept is made again",
    "5 + 1 in `if not any(need[1:5])": "there are five inputs that may want a gradient",
    "3 + 1 in `dgamma, dbeta = be.normalize_scale_grad": "likewise three",
    "2 + 1 in `return y, lambda g, need: vjp(g, (*need[:2], None))[:2]": "the third is eps, which has no gradient",
    "always else in `centre = _line(mean, rows, shape[1]) if one": "made for each part, it is the same",
    "1 + 1 in `share = be.divide(x if ord == 2": "where y is 0, x is: the share is 0 by any divisor",
    "always else in `ah = ax if dzh[0] is dzx[0]": "a shortcut: the parts are the same",
    "always else in `home = need[1].take_home()": "where the sum is written, not what it is",
    "not False in `dw = be.conv2d_grad(x, saved, (False, True, False))[1]": "what else is computed is not taken",
    "in `product = np.matmul if p.block <= DEEP else matmul": "the same, but for the time it takes to choose",
    "0 + 1 in `g = across[1](be.reshape(g, (n * len(rows[0])": "there are as many pixels before as after",
    "0 + 1 in `return (be.reshape(down[1](be.reshape(g, (n, len(rows[0])": "likewise",
    "0 + 1 in `kernel = window[0]`": "it only chooses how large windows are added",
    "3 + 1 in `for number, (rows, cols), (image_rows, image_cols) in places(": "the third size is not looked at",
    "3 + 1 in `for _, (rows, cols), (image_rows, image_cols) in places(": "likewise",
    "3 + 1 in `share = g / _window_counts(": "likewise",
    "0 + 1 in `x = np.broadcast_to(g.dtype.type(0), shape)": "only the shape is looked at",
    "not False in `return columns.backward(g, (x, w, False, at, False": "what else is computed is not taken",
    "another Sub in `th, wide = -(-oh // m), ow + kw - 1`": "what is beyond a line is cut off",
    "another Sub in `frame = empty((n, th * m + kh - 1, wide, c)": "likewise",
    "1 + 1 in `db.add(add_up(dm.array[1].reshape(-1)[: (kw - 1 + dm.pixels)": "the last pixel is beyond the line",
    "1 + 1 in `if dx is not None and (kh, kw, oh, c) ==": "with two lines or a stride of two, oh is not h",
}


@dataclass
class Mutant:
    function: FunctionType
    code: CodeType
    line: str  # the source line that was changed
    change: str

    def __str__(self) -> str:
        module = self.function.__module__.removeprefix("tinynet.")
        return f"{module}.{self.function.__name__}: {self.change} in `{self.line}`"


def modules() -> list[ModuleType]:
    """Where derivatives are."""
    return [
        importlib.import_module(f"tinynet.{floor}.{topic}")
        for floor, topics in (("ops", OPS), ("backends.cpu", KERNELS))
        for topic in topics
    ]


def source_mutants(module: ModuleType) -> Iterator[Mutant]:
    """Each change to each derivative of a module, one at a time, compiled."""
    source = inspect.getsource(module)
    tree, lines = ast.parse(source), source.splitlines()
    for function, parts in derivatives(module, tree):
        wanted = function.__code__.co_name, function.__code__.co_firstlineno
        for part in parts:
            for number, change in changes(part):
                compiled = compile(tree, str(module.__file__), "exec")
                codes = (c for c in compiled.co_consts if isinstance(c, CodeType))
                code = next(c for c in codes if (c.co_name, c.co_firstlineno) == wanted)
                yield Mutant(function, code, lines[number - 1].strip(), change)


def derivatives(module: ModuleType, tree: ast.Module) -> Iterator[tuple[FunctionType, list[ast.AST]]]:
    """(function, what of it computes a derivative): the module's functions, and the slopes in rows such as
    `exp = function("exp", …, lambda be, y: y)`, found in memory by their line."""
    living = [f for f in gc.get_objects() if type(f) is FunctionType and f.__module__ == module.__name__]
    slopes = {f.__code__.co_firstlineno: f for f in living if f.__name__ == "<lambda>"}
    for definition in tree.body:
        if isinstance(definition, ast.FunctionDef):
            yield inspect.unwrap(getattr(module, definition.name)), derivative_parts(definition)
        elif isinstance(definition, ast.Assign) and ast.unparse(definition.value).startswith("function("):
            yield from ((slopes[n.lineno], [n]) for n in ast.walk(definition) if isinstance(n, ast.Lambda))


def derivative_parts(definition: ast.FunctionDef) -> list[ast.AST]:
    """What of a function computes a derivative: all of a `…_grad`, the inner functions of an operation."""
    if definition.name in HELPERS or "_grad" in definition.name or definition.name.endswith("_backward"):
        return [definition]
    is_op = any(isinstance(d, ast.Name) and d.id == "op" for d in definition.decorator_list)
    if is_op or any(isinstance(n, ast.FunctionDef) and n.name == "vjp" for n in definition.body):
        return [
            n
            for n in ast.walk(definition)
            if isinstance(n, ast.Lambda) or (isinstance(n, ast.FunctionDef) and n is not definition)
        ]
    return []


def changes(part: ast.AST) -> Iterator[tuple[int, str]]:
    """Makes each change to the tree in turn, undone when the next is asked for; gives (line number, what)."""
    indifferent = {id(n) for node in ast.walk(part) for piece in without_effect(node) for n in ast.walk(piece)}
    for node in ast.walk(part):
        line = getattr(node, "lineno", 0)
        for field, value, label in variants(node) if id(node) not in indifferent else ():
            before = getattr(node, field)
            setattr(node, field, value)
            yield line, label
            setattr(node, field, before)


def without_effect(node: ast.AST) -> list[ast.AST]:
    """Parts that no result depends on: where memory comes from, zip's strictness, the 1 of reshape's -1."""
    if isinstance(node, ast.keyword) and node.arg in ("strict", "out"):
        return [node]
    if isinstance(node, ast.IfExp) and ast.unparse(node.test) == "out is None":
        return [node]
    return [node.operand] if isinstance(node, ast.UnaryOp) and ast.unparse(node) == "-1" else []


def variants(node: ast.AST) -> Iterator[tuple[str, Any, str]]:
    """(field, its new value, a label) for each way to break one node of the tree."""
    op = getattr(node, "ops", [None])[0] or getattr(node, "op", None)
    if type(op) in OPERATORS:
        other = OPERATORS[type(op)]()
        yield (
            ("ops", [other, *node.ops[1:]], f"another {type(op).__name__}")
            if isinstance(node, ast.Compare)
            else ("op", other, f"another {type(op).__name__}")
        )
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "value", not node.value, f"not {node.value}"
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield "value", node.value + 1, f"{node.value} + 1"
    elif isinstance(node, ast.IfExp):
        yield "test", ast.copy_location(ast.Constant(value=False), node), "always else"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        called, arguments = node.func, node.args
        if called.attr in CALLS:
            other = ast.copy_location(ast.Attribute(called.value, CALLS[called.attr], called.ctx), called)
            yield "func", other, f"{called.attr} → {CALLS[called.attr]}"
        if called.attr in ORDERED and len(arguments) >= 2:
            yield "args", [*arguments[:-2], arguments[-1], arguments[-2]], f"{called.attr} the other way round"
    for field in ("body", "orelse"):
        statements = getattr(node, field, None)
        for k, statement in enumerate(statements if isinstance(statements, list) else ()):
            if isinstance(statement, ast.AugAssign):
                yield (
                    field,
                    [*statements[:k], ast.copy_location(ast.Pass(), statement), *statements[k + 1 :]],
                    f"`{ast.unparse(statement)}` left out",
                )


def users() -> dict[CodeType, list[Proof]]:
    """For each function of tinynet, the proofs in which it runs; in one thread, as another is not seen."""
    found: dict[CodeType, list[Proof]] = defaultdict(list)
    for proof in checks.PROOFS.values():
        seen: set[CodeType] = set()
        with threads.set_threads(1):
            sys.setprofile(lambda frame, event, _, seen=seen: seen.add(frame.f_code) if event == "call" else None)
            try:
                proof()
            finally:
                sys.setprofile(None)
        for code in seen:
            found[code].append(proof)
    return found


@contextlib.contextmanager
def in_source(mutant: Mutant) -> Iterator[None]:
    """Within, the function runs the mutant's code: nothing is imported again, every reference sees it."""
    before = mutant.function.__code__
    mutant.function.__code__ = mutant.code
    try:
        yield
    finally:
        mutant.function.__code__ = before


# ---- the report ---------------------------------------------------------------------------------------------


def main(names: list[str]) -> int:
    known = [*autograd.OPS, *(module.__name__.removeprefix("tinynet.") for module in modules())]
    if unknown := [name for name in names if name not in known]:  # --help, too
        sys.exit(f"{__doc__}\nthere is no {unknown[0]}; there are {', '.join(known)}")
    survivors, total, start = [], 0, time.time()
    using = users()
    for name in autograd.OPS:
        if not names or name in names:
            results = list(tape_mutants(name))
            print(f"{'tape':8} {name:30} {len(results):5} mutants", flush=True)
            total += len(results)
            survivors += [label for label, noticed in results if not noticed]
    for module in modules():
        if not names or module.__name__.removeprefix("tinynet.") in names:
            count = 0
            for mutant in source_mutants(module):
                proofs = using[mutant.function.__code__]
                count += 1
                with in_source(mutant):
                    if not noticed_by(proofs) and not any(part in str(mutant) for part in EQUIVALENT):
                        survivors.append(f"{mutant} ({len(proofs)} proofs run it)")
            print(f"{'source':8} {module.__name__.removeprefix('tinynet.'):30} {count:5} mutants", flush=True)
            total += count
    print(f"{total} mutants in {time.time() - start:.0f} s; {len(survivors)} survived")
    for label in survivors:
        print("  survived:", label)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
