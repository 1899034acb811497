"""Changing a tensor in place: `x += y`, `x[index] = y`. The change is noted: `backward` refuses what it spoilt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import integers as whole
from ..changes import changed
from ..operands import explained, mixed
from ..tape import mode
from ..tensor import Tensor


def _for_integers(name: str, x: Tensor, y: Any) -> Any:
    """y, as a change in place of x takes it; TypeError where an x of integers or bools would cut the result off."""
    if x.dtype.kind == "f":
        return y
    if name == "/=" or (x.dtype.kind == "b" and name in ("+=", "-=", "*=")):
        raise TypeError(f"{name}: the tensor has dtype {x.dtype}, the result has another; write x = x {name[0]} y")
    whole.exact(name, x.dtype, y)
    return int(y) if isinstance(y, float) else y


def _in_place(name: str, compute: Callable) -> Callable:
    def method(x: Tensor, y: Any) -> Tensor:
        if x.node is not None and (mode.recording or not x.node.is_leaf):
            raise RuntimeError(
                f"{name}: a tensor that takes part in differentiation is changed in place only if it "
                "is a leaf, inside `with no_grad():`"
            )
        y = _for_integers(name, x, y)
        if isinstance(y, Tensor):
            if y.backend is not x.backend:
                raise mixed(name, (x, y))
            if y.node is not None and mode.recording:
                raise RuntimeError(
                    f"{name}: the gradient of the right side (shape {y.shape}) would be lost; write "
                    "x = x + y, or change x inside `with no_grad():`"
                )
            y = y.data
        elif hasattr(type(y), "__array__") or isinstance(y, list | tuple):
            y = x.backend.asarray(np.asarray(y), x.dtype)
        try:
            compute(x, y)
        except (ValueError, TypeError, IndexError) as error:
            raise explained(error, name, [x.data, y]) from error
        changed.note(x)
        return x

    return method


Tensor.__iadd__ = _in_place("+=", lambda x, y: x.backend.add(x.data, y, out=x.data))
Tensor.__isub__ = _in_place("-=", lambda x, y: x.backend.subtract(x.data, y, out=x.data))
Tensor.__imul__ = _in_place("*=", lambda x, y: x.backend.multiply(x.data, y, out=x.data))
Tensor.__itruediv__ = _in_place("/=", lambda x, y: x.backend.divide(x.data, y, out=x.data))


def _setitem(x: Tensor, index: Any, value: Any) -> None:
    index = whole.index("x[…] =", index)
    _in_place("x[…] =", lambda x, y: x.backend.setitem_inplace(x.data, index, y))(x, value)


Tensor.__setitem__ = _setitem  # type: ignore[assignment,method-assign]
