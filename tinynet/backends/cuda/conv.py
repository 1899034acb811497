"""Convolution: implicit GEMM, or im2col and a matrix product, which is the one to study.

`TINYNET_CUDA_CONV=im2col`, or `conv_path` of a backend, chooses the second.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from ..errors import BackendError
from ..geometry import NO_PADS, Geometry, output_size
from .arrays import Array, Arrays, computed_in
from .matmul import product, weight_product
from .pool import max_pool

PATHS = ("implicit", "im2col")
MOST_PIXELS = 2**31 - 1  # conv.cu counts pixels and taps in 32 bits


def chosen_path() -> str:
    """What TINYNET_CUDA_CONV asks for, or "implicit"; BackendError where that is no path."""
    path = os.environ.get("TINYNET_CUDA_CONV") or PATHS[0]
    if path not in PATHS:
        raise BackendError(f"TINYNET_CUDA_CONV={path!r:.60} is no way to convolve; choose one of {', '.join(PATHS)}")
    return path


def _divisor(d: int) -> int:
    """What makes n // d a multiplication and a shift (see conv.cu): magic + 2³² · shift."""
    shift = (d - 1).bit_length()
    return (((1 << 32) * ((1 << shift) - d) // d + 1) & 0xFFFFFFFF) + (shift << 32)


def _sizes(shape: tuple, kernel: tuple, filters: int, at: Geometry) -> list[int]:
    """The integers that `conv.cu` takes for an image batch of `shape`."""
    n, h, w, channels = shape
    oh, ow = output_size((h, w), kernel, *at[:3])
    c, f = channels // at.groups, filters // at.groups
    if max(n * h * w, n * oh * ow, math.prod(kernel) * max(c, f)) > MOST_PIXELS:
        raise ValueError(f"conv2d: images {shape} have more than {MOST_PIXELS} pixels; use a smaller batch")
    (top, _), (left, _) = at.padding
    return [
        h,
        w,
        channels,
        oh,
        ow,
        filters,
        *kernel,
        *at.stride,
        *at.dilation,
        top,
        left,
        c,
        f,
        *(_divisor(max(d, 1)) for d in (h, w, oh, ow, kernel[1], *at.stride, c, f)),
    ]


class Conv(Arrays):
    conv_path = PATHS[0]

    # ---- the teaching path ---------------------------------------------------------------------------
    def im2col(
        self, x: Array, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, *, out: Array | None = None
    ) -> Array:
        at = Geometry(stride, padding, dilation)
        shape = (len(x), *output_size(x.shape[1:3], kernel, *at[:3]), *kernel, x.shape[3])
        return self.into(
            out,
            shape,
            x.dtype,
            lambda cols: self.launch("im2col", self.contiguous(x), cols, _sizes(x.shape, kernel, 1, at), cols.size),
        )

    def col2im(
        self, cols: Array, shape: tuple, stride: tuple, padding: tuple, dilation: tuple, *, out: Array | None = None
    ) -> Array:
        sizes = _sizes(shape, cols.shape[3:5], 1, Geometry(stride, padding, dilation))
        return self.into(
            out, shape, cols.dtype, lambda dx: self.launch("col2im", self.contiguous(cols), dx, sizes, dx.size)
        )

    def _columns(self, x: Array, kernel: tuple, at: Geometry) -> Array:
        """(groups, pixels, taps)."""
        cols = self.im2col(x, kernel, *at[:3])
        split = cols.reshape(math.prod(cols.shape[:3]), math.prod(kernel), at.groups, x.shape[3] // at.groups)
        return self.reshape(split.transpose(2, 0, 1, 3), (at.groups, split.shape[0], split.shape[1] * split.shape[3]))

    def _by_group(self, x: Array, groups: int) -> Array:
        """(…, F) → (groups, …, F / groups), the axes between as one."""
        return self.contiguous(x.reshape(math.prod(x.shape[:-1]), groups, x.shape[-1] // groups).transpose(1, 0, 2))

    def _im2col_forward(self, x: Array, w: Array, b: Array | None, y: Array, at: Geometry, relu: bool) -> None:
        products = self.matmul(self._columns(x, w.shape[:2], at), self._by_group(w, at.groups))
        self.copy(products.transpose(1, 0, 2), out=y.reshape(products.shape[1], at.groups, products.shape[2]))
        if b is not None:
            self.add(y, b, out=y)
        if relu:
            self.relu(y, out=y)

    def _im2col_input_grad(self, g: Array, x: Array, w: Array, at: Geometry) -> Array:
        kh, kw, c, _ = w.shape
        cols = self.matmul(self._by_group(g, at.groups), self._by_group(w, at.groups), transpose_y=True)
        cols = cols.reshape(at.groups, cols.shape[1], kh * kw, c).transpose(1, 2, 0, 3)
        return self.col2im(self.reshape(cols, (*g.shape[:3], kh, kw, c * at.groups)), x.shape, *at[:3])

    def _im2col_weight_grad(self, g: Array, x: Array, w: Array, at: Geometry, need: tuple) -> tuple:
        dw = self.matmul(self._columns(x, w.shape[:2], at), self._by_group(g, at.groups), transpose_x=True)
        return self.reshape(dw.transpose(1, 0, 2), w.shape), self._bias_grad(g) if need[1] else None

    # ---- implicit GEMM -------------------------------------------------------------------------------
    def _implicit_forward(self, x: Array, w: Array, b: Array | None, y: Array, at: Geometry, relu: bool) -> None:
        kh, kw, c, filters = w.shape
        product(
            self,
            "conv_forward",
            x,
            w,
            b,
            y,
            math.prod(y.shape[:3]),
            filters // at.groups,
            kh * kw * c,
            at.groups,
            relu,
            _sizes(x.shape, (kh, kw), filters, at),
        )

    def _implicit_input_grad(self, g: Array, x: Array, w: Array, at: Geometry) -> Array:
        kh, kw, c, filters = w.shape
        dx = self.empty(x.shape, x.dtype)
        product(
            self,
            "conv_input_grad",
            g,
            w,
            None,
            dx,
            math.prod(x.shape[:3]),
            c,
            kh * kw * (filters // at.groups),
            at.groups,
            False,
            _sizes(x.shape, (kh, kw), filters, at),
        )
        return dx

    def _implicit_weight_grad(self, g: Array, x: Array, w: Array, at: Geometry, need: tuple) -> tuple:
        kh, kw, _, filters = w.shape
        sizes = _sizes(x.shape, (kh, kw), filters, at)
        return weight_product(self, "conv_weight_grad", x, g, need, w.shape, math.prod(g.shape[:3]), at.groups, sizes)

    # ---- what the contract names ---------------------------------------------------------------------
    def conv2d(
        self, x: Array, w: Array, b: Array | None, stride: tuple, padding: tuple, dilation: tuple, groups: int
    ) -> tuple[Array, Any]:
        return self._conv2d(x, w, b, Geometry(stride, padding, dilation, groups), relu=False)

    def _conv2d(self, x: Array, w: Array, b: Array | None, at: Geometry, relu: bool) -> tuple[Array, Any]:
        dtype = computed_in(np.result_type(x.dtype, w.dtype))
        x, w = (self.contiguous(self.asarray(z, dtype)) for z in (x, w))
        bias = None if b is None else self.contiguous(self.asarray(b, dtype))
        y = self.empty((len(x), *output_size(x.shape[1:3], w.shape[:2], *at[:3]), w.shape[3]), dtype)
        getattr(self, f"_{self.conv_path}_forward")(x, w, bias, y, at, relu)
        return y, (x, w, b is not None, at)

    def conv2d_grad(self, g: Array, saved: Any, need: tuple) -> tuple:
        x, w, has_bias, at = saved
        g = self.contiguous(self.asarray(g, x.dtype))
        need = (need[0], need[1], has_bias and need[2])
        dx = getattr(self, f"_{self.conv_path}_input_grad")(g, x, w, at) if need[0] else None
        if need[1]:
            return dx, *getattr(self, f"_{self.conv_path}_weight_grad")(g, x, w, at, need[1:])
        return dx, None, self._bias_grad(g) if need[2] else None

    def _bias_grad(self, g: Array) -> Array:
        return self.sum(g, (0, 1, 2))

    def conv_relu_pool(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        stride: tuple,
        padding: tuple,
        dilation: tuple,
        groups: int,
        pool: bool,
    ) -> tuple[Array, Any]:
        y, convolution = self._conv2d(x, w, b, Geometry(stride, padding, dilation, groups), relu=True)
        if not pool:
            return y, (convolution, y, None)
        y, winners = max_pool(self, y, (2, 2), (2, 2), NO_PADS, positive=True)
        return y, (convolution, None, winners)

    def conv_relu_pool_grad(self, g: Array, saved: Any, need: tuple) -> tuple:
        convolution, y, winners = saved
        g = self.relu_grad(g, y) if winners is None else self.max_pool2d_grad(g, winners)  # which takes relu's, too
        return self.conv2d_grad(g, convolution, need)
