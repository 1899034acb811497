"""The simulator's array: memory that only kernels may compute with, as a GPU's is for the CPU.

The code of `backends/cuda` runs on CuPy arrays and on these. CuPy would quietly launch a kernel of its
own for `a + b`, `a.sum()` or `a[:] = 0`; here that raises, so no test passes with anything but our kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_VIEWS = {
    np.shape,
    np.ndim,
    np.size,
    np.transpose,
    np.moveaxis,
    np.swapaxes,
    np.expand_dims,
    np.squeeze,
    np.broadcast_to,
    np.may_share_memory,
    np.shares_memory,
}


class DeviceArray(np.ndarray):
    """Views, shapes and attributes are NumPy's; arithmetic and copies are refused."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        raise _refusal(ufunc.__name__)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in _VIEWS:
            result = super().__array_function__(function, types, args, kwargs)
            return _view_of(self, result) if isinstance(result, np.ndarray) else result
        raise _refusal(function.__name__)

    def __getitem__(self, key: Any) -> Any:
        for k in key if isinstance(key, tuple) else (key,):
            if not (k is None or k is Ellipsis or isinstance(k, (int, np.integer, slice))) or isinstance(k, bool):
                raise _refusal("indexing with an array")
        view = super().__getitem__(key)
        return view if isinstance(view, np.ndarray) else super().__getitem__((*_tuple(key), Ellipsis))

    def reshape(self, *shape: Any, **kwargs: Any) -> Any:
        view = super().reshape(*shape, **kwargs)
        if self.size and not np.may_share_memory(view.view(np.ndarray), self.view(np.ndarray)):
            raise _refusal("reshape of an array whose strides need a copy")
        return view

    def ravel(self, *args: Any, **kwargs: Any) -> Any:
        return self.reshape(-1)

    def __repr__(self) -> str:
        return f"DeviceArray({self.view(np.ndarray)!r})"

    __str__ = __repr__


def _view_of(x: DeviceArray, view: np.ndarray) -> DeviceArray:
    """`view`, of x's memory, as an array of x's type whose base is the array that owns it (as CuPy's views know it)."""
    kind = type(x)
    if not view.size or (isinstance(view, kind) and isinstance(view.base, kind)):
        return view.view(kind)
    root = x.base if isinstance(x.base, kind) else x
    offset = view.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    return np.ndarray.__new__(kind, view.shape, view.dtype, root, offset, view.strides)  # type: ignore[arg-type]


def _tuple(key: Any) -> tuple:
    return key if isinstance(key, tuple) else (key,)


def _refusal(what: str) -> TypeError:
    return TypeError(
        f"{what} on a simulator array: device memory is for kernels; launch one, or copy to the host with"
        " asnumpy (on a GPU this would compute with CuPy's kernels, or make the host wait)"
    )


def _refuse(name: str) -> Any:
    def method(self: DeviceArray, *args: Any, **kwargs: Any) -> Any:
        raise _refusal(name)

    method.__name__ = name
    return method


# What is written in C and asks neither __array_ufunc__ nor __array_function__.
_WRITTEN_IN_C = """
    __setitem__ __bool__ __int__ __float__ __index__ __complex__ __contains__ __iter__ all any argmax argmin
    argpartition argsort astype byteswap choose clip compress conj conjugate copy cumprod cumsum diagonal
    dot dump dumps fill flatten item max mean min nonzero partition prod put repeat resize round searchsorted
    sort std sum take tobytes tofile tolist trace var
"""
for _name in _WRITTEN_IN_C.split():
    setattr(DeviceArray, _name, _refuse(_name))
