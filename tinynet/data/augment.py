"""Random changes to a batch of images, so that a network sees each in many guises.

Each is made once and then called as `augment(x, rng)`: x is (N, H, W, C) of any dtype, rng a NumPy Generator;
the result is a new array of the same shape and dtype, and x is left as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..integers import count

Array = NDArray[Any]
Augment = Callable[[Array, np.random.Generator], Array]


def random_flip(probability: float = 0.5) -> Augment:
    """Mirror each image left to right with this probability."""
    if not 0 <= probability <= 1:
        raise ValueError(f"random_flip: probability must be from 0 to 1, got {probability}")

    def flip(x: Array, rng: np.random.Generator) -> Array:
        mirrored = rng.random(len(x)) < probability
        return np.where(mirrored[:, None, None, None], _images("random_flip", x)[:, :, ::-1], x)

    return flip


def random_shift(pixels: int) -> Augment:
    """Move each image by up to `pixels` up or down and left or right; what comes in is black (0)."""
    return _shift("random_shift", pixels, "constant")


def random_crop(padding: int) -> Augment:
    """Extend each image by `padding` pixels, mirrored at its edges, and cut its size out anywhere."""
    return _shift("random_crop", padding, "reflect")


def compose(*augments: Augment) -> Augment:
    """All of these, one after another."""

    def composed(x: Array, rng: np.random.Generator) -> Array:
        for augment in augments:
            x = augment(x, rng)
        return x

    return composed


def _shift(name: str, pixels: int, mode: Any) -> Augment:
    pixels = count(name, "pixels", pixels, 0)  # 2 · pixels wraps around in a small integer dtype

    def shift(x: Array, rng: np.random.Generator) -> Array:
        n, height, width, _ = _images(name, x).shape
        padded = np.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode)
        windows = sliding_window_view(padded, (height, width), axis=(1, 2))  # (N, a, b, C, H, W)
        down, across = rng.integers(0, 2 * pixels + 1, (2, n))
        return np.ascontiguousarray(windows[np.arange(n), down, across].transpose(0, 2, 3, 1))

    return shift


def _images(name: str, x: Array) -> Array:
    if x.ndim != 4:
        raise ValueError(f"{name}: wants a batch of images (N, H, W, C), got the shape {x.shape}")
    return x
