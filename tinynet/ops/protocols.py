"""What NumPy's own functions do with a tensor: convert it where no gradient is lost, else name the operation to use.

NumPy asks the operands of its functions what to do (NEP 13 and NEP 18). `ndarray * Tensor` is a Tensor, on the tape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..autograd import mode
from ..hints import NAMES
from ..tensor import Tensor

PUBLIC: dict[str, Callable] = {}  # what is public in tinynet.ops, by name; filled there
OURS = {
    "absolute": "abs",
    "add.reduce": "sum",
    "amax": "max",
    "amin": "min",
    "append": "concatenate",
    "fabs": "abs",
    "hstack": "concatenate",
    "inner": "matmul",
    "maximum.reduce": "max",
    "minimum.reduce": "min",
    "moveaxis": "transpose",
    "ravel": "flatten",
    "remainder": "mod",
    "rint": "round",
    "swapaxes": "transpose",
    "vdot": "matmul",
    "vstack": "concatenate",
}
BINARY = (
    "add",
    "subtract",
    "multiply",
    "divide",
    "power",
    "matmul",
    "maximum",
    "minimum",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "mod",
    "floor_divide",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "left_shift",
    "right_shift",
)
# What asks for a shape or a dtype only.
OF_SHAPES = (
    np.shape,
    np.ndim,
    np.size,
    np.zeros_like,
    np.ones_like,
    np.empty_like,
    np.full_like,
    np.result_type,
    np.iscomplexobj,
    np.isrealobj,
    np.may_share_memory,
    np.shares_memory,
)


def _array(x: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    _refuse_lost("np.asarray", [x], "ops.stack where several shall be one tensor")
    return np.array(x.numpy(), dtype=dtype, copy=copy)


def _array_ufunc(x: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    name = ufunc.__name__
    if method == "__call__" and not options and OURS.get(name, name) in BINARY:
        return PUBLIC[OURS.get(name, name)](*inputs)
    outs = options.get("out", ())
    if any(isinstance(out, Tensor) for out in outs):
        raise TypeError(f"np.{name}: out= is a tensor, which NumPy does not fill; write x[...] = … within no_grad")
    whole = name if method == "__call__" else f"{name}.{method}"
    if outs and outs[0] is inputs[0] and method == "__call__":  # array += tensor
        _refuse_lost(f"np.{whole}", inputs, "x = x + y in place of x += y, where x is an array")
    _refuse_lost(f"np.{whole}", [*inputs, *options.values()])
    return getattr(ufunc, method)(*map(_plain, inputs), **{k: _plain(v) for k, v in options.items()})


def _array_function(x: Tensor, function: Any, types: Any, args: tuple, options: dict) -> Any:
    if function not in OF_SHAPES:
        _refuse_lost(f"np.{function.__name__}", [args, options])
    plain = _shaped if function in OF_SHAPES else _plain
    return function(*map(plain, args), **{k: plain(v) for k, v in options.items()})


def _refuse_lost(what: str, values: Any, remedy: str | None = None) -> None:
    """Raise TypeError where a gradient would flow through a tensor among the values."""
    lost = next((t for t in _tensors(values) if t.requires_grad), None)
    if lost is None or not mode.recording:
        return
    name = what.removeprefix("np.")
    name = OURS.get(name, name)
    if remedy is None:
        ours = name in PUBLIC
        remedy = f"ops.{name}" if ours else NAMES.get(name) or "operations of tinynet.ops"
    raise TypeError(
        f"{what} would take a tensor of shape {lost.shape} off the tape, and its gradient would be lost; "
        f"use {remedy}, or .detach() where no gradient is wanted"
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _shaped(value: Any) -> Any:
    """An array of a tensor's shape and dtype: its values may lie on a device, and to look at them is to wait for it."""
    return np.broadcast_to(np.empty((), value.dtype), value.shape) if isinstance(value, Tensor) else _plain(value)


def _plain(value: Any) -> Any:
    """The value with arrays in place of its tensors."""
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


T: Any = Tensor
T.__array__, T.__array_ufunc__, T.__array_function__ = _array, _array_ufunc, _array_function
