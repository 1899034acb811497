"""Parts of images: views, borders, bands of lines that stay in the cache. What pooling and all convolutions share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..geometry import NO_PADS, Pads, Pair
from .memory import empty


def strided(x: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...], first: int = 0) -> np.ndarray:
    """A view of x, from byte `first` on, with any shape and strides, only to be read. (NumPy's as_strided takes ten
    times as long.)"""
    if x.flags.c_contiguous:
        return np.ndarray(shape, x.dtype, x, first, strides)
    assert first == 0
    return as_strided(x, shape, strides, writeable=False)


def window_slice(start: Pair, count: Pair, step: Pair) -> tuple[slice, ...]:
    """The index of `count` lines and columns from `start` on, every `step`."""
    return (slice(None), *(slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(start, count, step, strict=True)))


def pad(x: np.ndarray, padding: Pads) -> np.ndarray:
    """x (N, H, W, C) with zeros around its images; x itself where there are none to add."""
    if padding == NO_PADS:
        return x
    n, h, w, c = x.shape
    (top, bottom), (left, right) = padding
    padded = empty((n, h + top + bottom, w + left + right, c), x.dtype)
    padded[:, :top] = 0
    padded[:, top + h :] = 0
    padded[:, top : top + h, :left] = 0
    padded[:, top : top + h, left + w :] = 0
    padded[:, top : top + h, left : left + w] = x
    return padded


def crop(x: np.ndarray, lines: Pair, columns: Pair) -> np.ndarray:
    """Lines and columns [first, last) of the images x (N, H, W, C), zeros where these lie outside; a view of x where
    none do."""
    places, pads = [], []
    for (first, last), size in zip((lines, columns), x.shape[1:3], strict=True):
        inside = slice(min(max(first, 0), size), min(max(last, 0), size))
        before = min(max(-first, 0), last - first)
        places.append(inside)
        pads.append((before, last - first - before - (inside.stop - inside.start)))
    return pad(x[:, places[0], places[1]], (pads[0], pads[1]))


def bands(n: int, lines: int, line_bytes: int, limit: int, step: int = 1) -> Iterator[tuple[slice, slice]]:
    """Cuts n images of so many lines into parts of at most `limit` bytes: whole images where one fits, else
    some lines (a multiple of `step`) of one image. Gives (images, lines)."""
    count = max(1, limit // max(1, line_bytes))
    if count >= lines:
        together = count // max(1, lines)
        together = -(-n // max(1, -(-n // together)))  # parts of about the same size
        for first in range(0, n, max(1, together)):
            yield slice(first, min(first + together, n)), slice(0, lines)
        return
    count = max(1, count // step) * step
    for image in range(n):
        for first in range(0, lines, count):
            yield slice(image, image + 1), slice(first, min(first + count, lines))


def quadrants(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The four places of all 2×2 windows, as views (N, H // 2, W // 2, C)."""
    h, w = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return x[:, 0:h:2, 0:w:2], x[:, 0:h:2, 1:w:2], x[:, 1:h:2, 0:w:2], x[:, 1:h:2, 1:w:2]
