"""How windows lie on images: the arithmetic of convolution and pooling, once for all floors.

Along an axis of n pixels with padding, a window of k taps that lie `dilation` apart reaches over (k - 1)·dilation + 1
of them and moves on by `stride`. Dumoulin & Visin, "A guide to convolution arithmetic for deep learning" (2016), has
the pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

Pair = tuple[int, int]  # (vertical, horizontal)
Pads = tuple[Pair, Pair]  # ((top, bottom), (left, right))
Slices = tuple[slice, slice]
NO_PADS: Pads = ((0, 0), (0, 0))


class Geometry(NamedTuple):
    """How windows lie on an image, and into how many groups its channels are split."""

    stride: Pair
    padding: Pads
    dilation: Pair
    groups: int = 1


def reach(kernel: Pair, dilation: Pair = (1, 1)) -> Pair:
    """(vertical, horizontal): the pixels from a window's first tap to its last."""
    return (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1


def same_padding(size: Pair, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Pads:
    """The padding that gives an image of `size` (H, W) ceil(size / stride) windows along each axis. An odd surplus goes
    after, as in Keras."""
    (top, bottom), (left, right) = (
        (total // 2, total - total // 2)
        for total in (
            max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(size, stride, reach(kernel, dilation), strict=True)
        )
    )
    return (top, bottom), (left, right)


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair = (1, 1)) -> Pair:
    """(OH, OW): how many windows fit along each axis of an image of `size` (H, W).

    Raises ValueError where not even one does.
    """
    (h, w), (top, left) = reach(kernel, dilation), padding
    down, across = size[0] + top[0] + top[1] - h, size[1] + left[0] + left[1] - w
    if down < 0 or across < 0:
        raise ValueError(f"a window of {h}×{w} does not fit a padded image of {down + h}×{across + w}")
    return down // stride[0] + 1, across // stride[1] + 1


def places(size: Pair, kernel: Pair, stride: Pair, padding: Pads) -> Iterator[tuple[int, Slices, Slices]]:
    """For each place of the window in C order: (its number, the windows it is inside for, its image slice)."""
    oh, ow = output_size(size, kernel, stride, padding)
    for i in range(kernel[0]):
        rows, image_rows = _inside(i, oh, size[0], stride[0], padding[0][0])
        for j in range(kernel[1]):
            cols, image_cols = _inside(j, ow, size[1], stride[1], padding[1][0])
            yield i * kernel[1] + j, (rows, cols), (image_rows, image_cols)


def _inside(place: int, outputs: int, size: int, stride: int, before: int) -> Slices:
    """Along one axis: (the windows whose `place` lies inside the image, where in the image that is)."""
    first = max(0, -((place - before) // stride))  # the first window with window·stride + place >= before
    last = min(outputs - 1, (size - 1 + before - place) // stride)
    start = first * stride + place - before
    return slice(first, max(last + 1, first)), slice(start, max(last * stride + place - before + 1, start), stride)
