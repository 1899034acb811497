"""Images in other sizes: nearest and bilinear interpolation, channels last, with PyTorch's places of pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import op
from ..tensor import Tensor
from .conv import pair
from .reduce import floating

__all__ = ["resize2d", "upsample2d"]


@op
def _resize2d(be, x, rows, columns):
    """x (N, H, W, C), rows and columns: (the pixel before, the one after, the weight of that) of each output pixel.

    A line between pixels: y = before + weight · (after - before), down the image first, then across.
    """
    n, h, w, c = x.shape
    down, across = _between(be, rows, h), _between(be, columns, w)
    narrow = be.reshape(down[0](be.reshape(x, (n, h, w * c))), (n * len(rows[0]), w, c))
    y = be.reshape(across[0](narrow), (n, len(rows[0]), len(columns[0]), c))

    def vjp(g, need):
        g = across[1](be.reshape(g, (n * len(rows[0]), len(columns[0]), c)))
        return (be.reshape(down[1](be.reshape(g, (n, len(rows[0]), w * c))), (n, h, w, c)),)

    return y, vjp


def _between(be: Any, places: tuple, size: int) -> tuple:
    """The interpolation along axis 1 of (A, size, B) arrays, and its transpose."""
    before, after, weight = (be.asarray(v) for v in places)
    whole = not np.any(places[2])

    def forward(x):
        low = be.take_rows(x, before)
        if whole:
            return low
        part = be.reshape(be.asarray(weight, x.dtype), (len(places[2]), 1))
        return be.add(low, be.multiply(be.subtract(be.take_rows(x, after), low), part))

    def backward(g):
        if whole:
            return be.take_rows_grad(g, before, size)
        up = be.multiply(g, be.reshape(be.asarray(weight, g.dtype), (len(places[2]), 1)))
        return be.add(be.take_rows_grad(be.subtract(g, up), before, size), be.take_rows_grad(up, after, size))

    return forward, backward


def _places(size: int, new: int, step: float, mode: str, align_corners: bool) -> tuple:
    """(before, after, weight) of the `new` pixels along an axis of `size`, `step` old pixels a new one."""
    at = np.arange(new, dtype=np.float64)
    if mode == "nearest":
        before = np.minimum(np.floor(at * step), size - 1).astype(np.int64)
        return before, before, np.zeros(new)
    place = at * ((size - 1) / (new - 1) if new > 1 else 0) if align_corners else np.maximum((at + 0.5) * step - 0.5, 0)
    before = np.minimum(np.floor(place), size - 1).astype(np.int64)
    return before, np.minimum(before + 1, size - 1), np.minimum(place - before, 1)


def resize2d(x: Tensor, size: Any, *, mode: str = "nearest", align_corners: bool = False) -> Tensor:
    """x (N, H, W, C) → (N, OH, OW, C) for `size` = (OH, OW), or an int for both.

    Args:
        mode: "nearest": pixel floor(i · H / OH); "bilinear": a line between the two nearest along each axis.
        align_corners: the corner pixels' centres stay; otherwise the images' edges do. Of "bilinear" only.

    Returns: a Tensor of x's dtype.
    Raises: ValueError for another mode, or where x is no batch of images.
    """
    size = pair("resize2d", "size", size)
    _checked("resize2d", x, mode, align_corners)
    steps = [n / m for n, m in zip(x.shape[1:3], size, strict=True)]
    return _resized(x, size, steps, mode, align_corners)


def upsample2d(x: Tensor, scale: Any, *, mode: str = "nearest", align_corners: bool = False) -> Tensor:
    """x (N, H, W, C) → (N, ⌊H · scale⌋, ⌊W · scale⌋, C); scale: a number, or (vertical, horizontal). As `resize2d`.

    Returns: a Tensor of x's dtype.
    Raises: ValueError for another mode, or where x is no batch of images.
    """
    _checked("upsample2d", x, mode, align_corners)
    size, scales = upsampled(x.shape[1:3], scale)
    return _resized(x, size, [1 / s for s in scales], mode, align_corners)


def upsampled(size: tuple, scale: Any) -> tuple[tuple[int, int], tuple[float, float]]:
    """(the new size, the scales along both axes)."""
    values = np.asarray(scale, np.float64)
    if values.shape not in ((), (1,), (2,)) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"upsample2d: scale={scale!r} must be a number > 0 or a (vertical, horizontal) pair of them")
    down, across = (float(v) for v in np.broadcast_to(values, 2))
    new = math.floor(size[0] * down), math.floor(size[1] * across)
    if min(new) < 1:
        raise ValueError(f"upsample2d: scale={scale!r} leaves nothing of an image of {size[0]}×{size[1]}")
    return new, (down, across)


def _resized(x: Tensor, size: tuple, steps: list, mode: str, align_corners: bool) -> Tensor:
    places = [_places(n, m, step, mode, align_corners) for n, m, step in zip(x.shape[1:3], size, steps, strict=True)]
    return _resize2d(x, *places)


def _checked(name: str, x: Tensor, mode: str, align_corners: bool) -> None:
    floating(name, x)
    if x.ndim != 4 or 0 in x.shape[1:3]:
        raise ValueError(f"{name}: input {x.shape} must be (N, H, W, C) and hold pixels")
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f'{name}: mode={mode!r} must be "nearest" or "bilinear"')
    if align_corners and mode == "nearest":
        raise ValueError(f'{name}: align_corners is of mode="bilinear"')
