"""What an operation is given: tensors, numbers, arrays of anybody's. Made one kind here, before it computes."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy import generic

from . import integers as whole
from .hints import keyword
from .tensor import Tensor

FIXED = frozenset({type(None), bool, int, float, str, slice, type(...)})  # operands that nobody can change


def fixed(a: Any) -> bool:
    """Whether nobody can change this operand."""
    return type(a) in FIXED or (type(a) is tuple and all(map(fixed, a)))


def gathered(name: str, args: tuple, operands: set) -> tuple[Any, list, list, bool, bool]:
    """(the backend or None, the inputs as its arrays, their nodes, whether all arrays are known to be floating, whether
    an operand is something of the caller's that he may change)."""
    be: Any = None
    inputs: list[Any] = []
    parents: list[Any] = []
    floating, lists, dtype, lent = True, False, None, False
    for a in args:
        if isinstance(a, Tensor):
            if a.backend is not be:
                if be is not None:
                    raise mixed(name, args)
                be = a.backend
            inputs.append(x := a.data)
            parents.append(a.node)
            if a.node is None and x.dtype.kind != "f":
                floating = False
            else:
                dtype = x.dtype
            continue
        if type(a) in FIXED:
            pass
        elif type(a) is tuple and len(inputs) not in operands:
            lent = lent or not fixed(a)
        elif isinstance(a, generic):  # a number: float64 ones must not promote
            a = a.item()
        elif isinstance(a, Real) and not isinstance(a, int):  # a Fraction
            a = float(a)
        elif hasattr(type(a), "__array__") or (isinstance(a, list | tuple) and len(inputs) in operands):
            lists = lists or isinstance(a, list | tuple)
            a, floating, lent = whole.operand(a), False, True
            if not a.ndim and len(inputs) not in operands:
                a = a.item()  # a limit, a rate
        else:
            lent = True
        inputs.append(a)
        parents.append(None)
    if lists and dtype is not None:  # Python's ints in a list do not promote either
        inputs = [
            x.astype(dtype) if isinstance(a, list | tuple) and isinstance(x, np.ndarray) and x.dtype.kind == "i" else x
            for a, x in zip(args, inputs, strict=True)
        ]
    return be, inputs, parents, floating, lent


def kept(be: Any, value: Any) -> Any:
    """An operand of the caller's as it is now: of arrays and lists a copy, as he may write to them before `backward`
    reads what the operation saved. (A batch's copy costs less than 1% of its step. Devices copy anyway.)"""
    if isinstance(value, np.ndarray):
        return value.copy() if be.name == "numpy" else value
    if type(value) in (tuple, list):
        return type(value)(
            [
                part if type(part) in FIXED else np.array(part) if isinstance(part, np.ndarray) else kept(be, part)
                for part in value
            ]
        )
    foreign = hasattr(value, "__array__") and not isinstance(value, Tensor | generic | type)
    return np.array(value) if foreign else value


def positional(name: str, parameters: list, args: tuple, options: dict) -> tuple[tuple, dict]:
    """Tensors may be given by keyword (b=…): move those to their places."""
    args_, options = list(args), dict(options)
    for i, p in enumerate(parameters):
        if p.kind is p.POSITIONAL_OR_KEYWORD and i >= len(args_):
            if p.name not in options and p.default is p.empty:
                raise TypeError(f"{name}: the argument {p.name!r} is missing")
            args_.append(options.pop(p.name, p.default))
    return tuple(args_), options


def mixed(name: str, args: tuple) -> ValueError:
    kinds = ", ".join(f"a tensor of shape {a.shape} on {a.backend.name!r}" for a in args if isinstance(a, Tensor))
    return ValueError(
        f"{name}: the inputs are on different backends ({kinds}); "
        'move one with .to("numpy"), .to("cupy") or .to("simulator")'
    )


def explained(error: Exception, name: str, inputs: list) -> Exception:
    """The same error, with the operation's name in front and the shapes after it."""
    if str(error).startswith(name + ":"):
        return error
    kind = next(k for k in (ValueError, TypeError, IndexError) if isinstance(error, k))  # NumPy's own kinds: its bases
    shapes = ", ".join(str(a.shape) if hasattr(a, "shape") else repr(a) for a in inputs)
    return kind(f"{name}: {error}{keyword(str(error))} (inputs: {shapes})")
