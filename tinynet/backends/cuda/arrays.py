"""Device arrays: making, moving, copying. Nothing here computes; `launch` does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..contract import Backend
else:
    Backend = object  # a kernel that no topic has is missing, not the contract's empty one

Array = Any

RAW: dict[int, Any] = {1: np.dtype(np.uint8), 2: np.dtype(np.int16), 4: np.dtype(np.int32), 8: np.dtype(np.int64)}
COMPUTED = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64))


def computed_in(dtype: np.dtype) -> np.dtype:
    """The type that kernels compute a dtype in: float32, float64 or int64."""
    if dtype in COMPUTED:
        return dtype
    return np.dtype(np.float32) if dtype.kind == "f" else np.dtype(np.int64)


def strides_of(x: Array, shape: tuple) -> list[int]:
    """The strides, in elements, with which x is read as an array of `shape`: 0 along broadcast axes."""
    missing = len(shape) - x.ndim
    own = [s // x.dtype.itemsize if n != 1 else 0 for n, s in zip(x.shape, x.strides, strict=True)]
    return [0] * missing + own


class Arrays(Backend):
    """What every topic stands on: `launcher` runs kernels on arrays of its own kind.

    A topic is a subclass with the kernels of one `.cu` file. It calls those of other topics on `self`, which is the
    composed backend, by the names of the contract alone.
    """

    def __init__(self, name: str, launcher: Any):
        self.name = name
        self.launcher = launcher
        self.launch = launcher.launch
        self._ones: dict[np.dtype, Array] = {}

    # ---- making and moving -------------------------------------------------------------------------
    def asarray(self, data: Any, dtype: Any = None) -> Array:
        if isinstance(data, self.launcher.arraytype):
            return data if dtype is None or data.dtype == dtype else self.astype(data, dtype)
        return self.launcher.asarray(np.array(data, dtype, order="C", copy=None))

    def numpy(self, x: Array) -> np.ndarray:
        return self.launcher.asnumpy(self.contiguous(x))

    def ahead(self, batches: Iterable[tuple]) -> Iterator[tuple]:
        """Batches (x, y) of host arrays, with x as own arrays whose copies run ahead of the steps that use them."""
        return self.launcher.ahead(batches)

    def empty(self, shape: tuple, dtype: Any) -> Array:
        return self.launcher.empty(tuple(shape), np.dtype(dtype))

    def full(self, shape: tuple, value: float, dtype: Any) -> Array:
        y = self.empty(shape, dtype)
        self.fill(y, value)
        return y

    @property
    def recording(self) -> Any:
        """The graph that a function runs for at the moment, or None."""
        return self.launcher.recording

    def one(self, shape: tuple, dtype: Any) -> Array:
        if dtype not in self._ones:
            self._ones[dtype] = self.full((), 1, dtype)
        return self._ones[dtype].reshape(shape)

    def part(self, flat: Array, start: int, shape: tuple) -> Array:
        """An array on a flat one's memory, elements from `start` on. It is a view of none, so `owns` is true."""
        return self.launcher.part(flat, start, tuple(shape))

    def fill(self, y: Array, value: float) -> None:
        """y[...] = value, for a C-contiguous y."""
        number: np.ndarray = np.array([value]).astype(y.dtype)  # on the host
        bits = number.view(RAW[y.dtype.itemsize]).item()
        self.launch("fill", self.raw(y.reshape(-1)), bits, y.size)

    def home(self, need: Any, shape: tuple, dtype: Any) -> Array:
        """Where a gradient that is needed goes: the array that waits for it, if one does and fits, else a new one."""
        home = need.take_home() if hasattr(need, "take_home") else None
        fits = home is not None and (home.shape, home.dtype) == (shape, dtype) and home.flags.c_contiguous
        return home if fits else self.empty(shape, dtype)

    def owns(self, x: Array) -> bool:
        return not isinstance(x.base, self.launcher.arraytype)

    def bounds(self, x: Array) -> tuple[int, int]:
        low = high = _address(x)
        for n, stride in zip(x.shape, x.strides, strict=True):
            low, high = low + min((n - 1) * stride, 0), high + max((n - 1) * stride, 0)
        return low, high + x.dtype.itemsize if math.prod(x.shape) else low

    # ---- copying ---------------------------------------------------------------------------------------
    def copy(self, x: Array, *, out: Array | None = None) -> Array:
        y = self.empty(x.shape, x.dtype) if out is None else out
        self._move(x, y)
        return y

    def contiguous(self, x: Array) -> Array:
        """x itself where kernels can read it, else a C-contiguous copy."""
        return x if x.flags.c_contiguous else self.copy(x)

    def astype(self, x: Array, dtype: Any, *, out: Array | None = None) -> Array:
        dtype = np.dtype(dtype)
        x = self.contiguous(x)
        if x.dtype == dtype:
            return self.copy(x, out=out)
        return self.into(out, x.shape, dtype, lambda y: self.launch("convert", x, y, y.size))

    def copyto(self, dst: Array, src: Any) -> None:
        if not isinstance(src, self.launcher.arraytype):
            if np.ndim(src) == 0 and dst.flags.c_contiguous:
                return self.fill(dst, src)
            src = np.asarray(src, dst.dtype, order="C")
            if src.shape == dst.shape and dst.flags.c_contiguous:
                return self.launcher.copyto(dst, src)
            src = self.asarray(src)
        self._move(src if src.dtype == dst.dtype else self.astype(src, dst.dtype), dst)

    def _move(self, x: Array, y: Array) -> None:
        """y[...] = x for any two views of one dtype; x may be broadcast."""
        if len(y.shape) > 8:
            raise ValueError(f"an array of {len(y.shape)} axes; the CUDA kernels take up to 8")
        (source, start), (target, first) = self._memory(x), self._memory(y)
        self.launch(
            "strided_copy",
            self.raw(source),
            start,
            strides_of(x, y.shape),
            self.raw(target),
            first,
            strides_of(y, y.shape),
            y.shape,
            len(y.shape),
            y.size,
        )

    def raw(self, x: Array) -> Array:
        """x seen as integers of its elements' size: what is only moved needs no kernel of its own type."""
        return x.view(RAW[x.dtype.itemsize])

    def _memory(self, x: Array) -> tuple[Array, int]:
        """The whole array that the view x looks into, flat, and the offset of x's first element in it."""
        root = x if self.owns(x) else x.base
        return root.reshape(-1), (_address(x) - _address(root)) // x.dtype.itemsize

    def into(self, out: Array | None, shape: tuple, dtype: Any, write: Callable[[Array], None]) -> Array:
        """What `write` writes into a new C-contiguous array, or into `out`, through a copy where it must."""
        fits = out is not None and out.dtype == dtype and out.flags.c_contiguous
        y = out if fits else self.empty(shape, dtype)
        write(y)
        if out is None or fits:
            return y
        self.copyto(out, y)
        return out


def _address(x: Array) -> int:
    return x.data.ptr if hasattr(x.data, "ptr") else x.__array_interface__["data"][0]
