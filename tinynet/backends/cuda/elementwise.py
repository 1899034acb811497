"""Elementwise kernels: which struct of `elementwise.cu` computes what, and how operands reach it."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import KERNELS
from .arrays import Array, Arrays, computed_in, strides_of
from .table import rows

BOOL = np.dtype(np.bool_)
INT64 = np.iinfo(np.int64)
OF_INTEGERS = ("Negative", "Sign", "Relu", "Abs", "Clip")  # the others need fractions


def _method(launch: str, op: str, name: str) -> Any:
    def method(self: Any, *args: Any, out: Array | None = None) -> Array:
        return getattr(self, launch)(op, *args, out=out)

    method.__name__, method.__doc__ = name, KERNELS[name].__doc__
    method.__signature__ = inspect.signature(KERNELS[name])  # type: ignore[attr-defined]
    return method


class Elementwise(Arrays):
    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The methods that are made from the contract's rows, below."""

    def clip(self, x: Array, low: float | None, high: float | None, *, out: Array | None = None) -> Array:
        least, most = (-math.inf, math.inf) if computed_in(x.dtype).kind == "f" else (INT64.min, INT64.max)
        limits = least if low is None else max(low, least), most if high is None else min(high, most)
        return self.unary("Clip", x, *limits, out=out)

    def power_grad(self, g: Array, x: Array, y: Array, *, out: Array | None = None) -> Array:
        return self.multiply(g, self.binary("PowerSlope", x, y), out=out)

    def power_grad_exponent(self, g: Array, x: Array, y: Array, *, out: Array | None = None) -> Array:
        return self.multiply(g, self.binary("PowerLog", x, y), out=out)

    def where(self, condition: Array, x: Any, y: Any, *, out: Array | None = None) -> Array:
        dtype, (x, y) = self.operands(x, y)
        shape = np.broadcast_shapes(condition.shape, np.shape(x), np.shape(y))
        x, y, condition = (self.spread(z, shape) for z in (x, y, self.asarray(condition, BOOL)))
        return self.into(out, shape, dtype, lambda z: self.launch("select", condition, *_pair(x), *_pair(y), z, z.size))

    # ---- the shapes of launch ---------------------------------------------------------------------------
    def unary(self, op: str, x: Array, a: float = 0, b: float = 0, *, out: Array | None = None) -> Array:
        """Op(x, a, b) for each element."""
        dtype, (x,) = self.operands(x, floating=op not in OF_INTEGERS)
        x = self.contiguous(x)
        return self.into(out, x.shape, dtype, lambda y: self.launch("unary", x, y, a, b, y.size, Op=op))

    def binary(self, op: str, x: Any, y: Any, a: float = 0, *, out: Array | None = None) -> Array:
        """Op(x, y, a) for each element of the broadcast operands, either of which may be a number."""
        dtype, (x, y) = self.operands(x, y, floating=op == "Divide")
        shape = np.broadcast_shapes(np.shape(x), np.shape(y))
        arrays = [z for z in (x, y) if isinstance(z, self.launcher.arraytype)]

        def run(z: Array) -> None:
            if all(w.shape == shape and w.flags.c_contiguous for w in arrays):
                self.launch("binary", *_pair(x), *_pair(y), z, a, z.size, Op=op)
                return
            places = [part for w in (x, y) for part in self._strided(w, shape, dtype)]
            self.launch("binary_strided", *places, z, a, shape, len(shape), z.size, Op=op)

        return self.into(out, shape, dtype, run)

    def compare(self, op: str, x: Any, y: Any, *, out: Array | None = None) -> Array:
        """Op(x, y) for each element, as bools."""
        _, (x, y) = self.operands(x, y)
        shape = np.broadcast_shapes(np.shape(x), np.shape(y))
        x, y = self.spread(x, shape), self.spread(y, shape)
        return self.into(out, shape, BOOL, lambda z: self.launch("compare", *_pair(x), *_pair(y), z, z.size, Op=op))

    def operands(self, *values: Any, floating: bool = False) -> tuple[np.dtype, list]:
        """(the type to compute in, the operands in it); numbers stay numbers and do not promote."""
        dtype = np.result_type(*(getattr(v, "dtype", v) for v in values))
        if floating and dtype.kind != "f":
            dtype = np.dtype(np.float64)
        dtype = computed_in(dtype)
        return dtype, [
            v if not isinstance(v, self.launcher.arraytype) or v.dtype == dtype else self.astype(v, dtype)
            for v in values
        ]

    def spread(self, x: Any, shape: tuple) -> Any:
        """x broadcast to `shape` in memory; a number stays one."""
        if not isinstance(x, self.launcher.arraytype):
            return x
        return self.contiguous(x if x.shape == shape else self.broadcast_to(x, shape))

    def _strided(self, x: Any, shape: tuple, dtype: np.dtype) -> tuple[Array, int, list[int]]:
        if not isinstance(x, self.launcher.arraytype):
            x = self.full((1,), x, dtype)
        if len(shape) > 8:
            raise ValueError(f"an array of {len(shape)} axes; the CUDA kernels take up to 8")
        flat, offset = self._memory(x)
        return flat, offset, strides_of(x, shape)


for _launch, _rows in {"unary": rows(1), "binary": rows(2), "compare": rows(2, "bool")}.items():
    for _name, _struct in _rows.items():
        if not hasattr(Elementwise, _name):  # clip looks at its limits first
            setattr(Elementwise, _name, _method(_launch, _struct, _name))


def _pair(x: Any) -> tuple[Any, Any]:
    """(array, number) as the kernels take an operand that may be either."""
    return (x, 0) if hasattr(x, "dtype") and hasattr(x, "flags") and not isinstance(x, np.generic) else (None, x)
