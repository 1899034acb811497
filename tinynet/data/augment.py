"""Random changes to a batch of images, so that a network sees each in many guises: where they lie and how they stand.

Each is made once and then called as `augment(x, rng)`: x is (N, H, W, C) of floats or uint8, rng a NumPy Generator;
the result is a new array of the same shape and dtype, and x is left as it was. What changes the labels, too, is a
`WithLabels`. A `Loader(…, augment=…)` calls it in its thread, with an rng that the seed, the epoch and the batch's
number decide. Colours are changed in `colour`, images mixed in `mixing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..integers import count

Array = NDArray[Any]
Augment = Callable[[Array, np.random.Generator], Array]


@dataclass(frozen=True)
class WithLabels:
    """An augmentation whose labels follow: called as `augment(x, rng, y)`, it returns the pair (x, y)."""

    function: Callable[[Array, np.random.Generator, Any], tuple[Array, Any]]

    def __call__(self, x: Array, rng: np.random.Generator, y: Any) -> tuple[Array, Any]:
        return self.function(x, rng, y)


@dataclass(frozen=True)
class Colours:
    """An augmentation that moves nothing, so that `with_masks` leaves the masks alone."""

    function: Augment

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        return self.function(x, rng)


@dataclass(frozen=True)
class Composed:
    """Augmentations of images, one after another."""

    parts: tuple[Augment, ...]

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        for augment in self.parts:
            x = augment(x, rng)
        return x


def augmented(augment: Any, x: Any, rng: np.random.Generator, y: Any) -> tuple[Any, Any]:
    """(x, y) of a batch after an augmentation, a function or a WithLabels; None changes nothing."""
    if isinstance(augment, WithLabels):
        return augment(x, rng, y)
    return (x if augment is None else augment(x, rng)), y


def compose(*augments: Any) -> Any:
    """All of these, one after another; a WithLabels where one of them is."""
    for augment in augments:
        function("compose", augment)
    return in_turn(augments) if any(isinstance(augment, WithLabels) for augment in augments) else Composed(augments)


def in_turn(augments: Sequence[Any]) -> WithLabels:
    """One after another, with their labels."""

    def pair(x: Array, rng: np.random.Generator, y: Any) -> tuple[Array, Any]:
        for augment in augments:
            x, y = augmented(augment, x, rng, y)
        return x, y

    return WithLabels(pair)


def with_masks(augment: Augment) -> WithLabels:
    """Move labels that are images, such as the masks of a segmentation, as the images are moved; changes of colours,
    noise and blur are the images' alone.

    Masks are class numbers, integers or bools (N, H, W) or (N, H, W, 1), and stay such: each pixel becomes the class
    that has the largest share of it, and what comes in is class 0. Others, (N, H, W, K), are treated as images.
    """
    function("with_masks", augment)
    if isinstance(augment, WithLabels):
        raise TypeError("with_masks: this augmentation changes labels itself; put the others alone into with_masks")
    if isinstance(augment, Composed):
        return in_turn([with_masks(part) for part in augment.parts])
    if isinstance(augment, Colours):
        return WithLabels(lambda x, rng, y: (augment(x, rng), y))

    def both(x: Array, rng: np.random.Generator, y: Any) -> tuple[Array, Any]:
        seed, y = int(rng.integers(1 << 62)), np.asarray(y)
        moved = augment(x, np.random.default_rng(seed))
        if y.dtype.kind in "iub" and (y.ndim == 3 or y.shape[3:] == (1,)):
            return moved, _moved_classes(augment, y, seed)
        return moved, augment(y, np.random.default_rng(seed))

    return WithLabels(both)


def _moved_classes(augment: Augment, y: Array, seed: int) -> Array:
    """Class numbers (N, H, W) or (N, H, W, 1) after an augmentation, by the share that each has of a pixel."""
    found, most, rest = np.zeros_like(y), np.zeros((*y.shape[:3], 1), np.float32), np.float32(1)
    for label in np.unique(y[y != 0]):
        here = augment((y == label).reshape(most.shape).astype(np.float32), np.random.default_rng(seed))
        found[(here > most).reshape(y.shape)] = label
        most, rest = np.maximum(most, here), rest - here
    found[np.broadcast_to(rest >= most, most.shape).reshape(y.shape)] = 0
    return found


def random_flip(probability: float = 0.5, *, vertical: bool = False) -> Augment:
    """Mirror each image left to right, or upside down, with this probability."""
    share("random_flip", probability)

    def flip(x: Array, rng: np.random.Generator) -> Array:
        mirrored = rng.random(len(x)) < probability
        x = images("random_flip", x)
        return np.where(mirrored[:, None, None, None], x[:, ::-1] if vertical else x[:, :, ::-1], x)

    return flip


def random_shift(pixels: int) -> Augment:
    """Move each image by up to `pixels` up or down and left or right; what comes in is black (0)."""
    return _shift("random_shift", pixels, "constant")


def random_crop(padding: int) -> Augment:
    """Extend each image by `padding` pixels, mirrored at its edges, and cut its size out anywhere."""
    return _shift("random_crop", padding, "reflect")


def _shift(name: str, pixels: int, mode: Any) -> Augment:
    pixels = count(name, "pixels", pixels, 0)  # 2 · pixels wraps around in a small integer dtype

    def shift(x: Array, rng: np.random.Generator) -> Array:
        n, height, width, _ = images(name, x).shape
        padded = np.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode)
        windows = sliding_window_view(padded, (height, width), axis=(1, 2))  # (N, a, b, C, H, W)
        down, across = rng.integers(0, 2 * pixels + 1, (2, n))
        return np.ascontiguousarray(windows[np.arange(n), down, across].transpose(0, 2, 3, 1))

    return shift


def random_affine(
    *, rotate: float = 0.0, scale: tuple[float, float] = (1.0, 1.0), shear: float = 0.0, shift: float = 0.0
) -> Augment:
    """Turn, enlarge, slant and move each image, in one resampling: see `affine`.

    Args: rotate: the largest angle in degrees, either way. scale: the smallest and the largest factor. shear: the
        largest slant in degrees, either way. shift: the largest way in pixels, fractions too, along each axis. Each is
        drawn evenly, for each image.
    """
    numbers("random_affine", rotate=rotate, shear=shear, shift=shift)
    if np.shape(scale) != (2,):
        raise ValueError(f"random_affine: scale={scale!r} must be a pair, the smallest and the largest factor")
    low, high = scale
    if not (0 <= rotate <= 360 and 0 < low <= high < np.inf and 0 <= shear < 90 and 0 <= shift < np.inf):
        raise ValueError(
            f"random_affine: wants rotate from 0 to 360, 0 < scale[0] <= scale[1], shear from 0 to less than 90 and "
            f"shift from 0, got rotate={rotate}, scale={scale}, shear={shear}, shift={shift}"
        )

    def move(x: Array, rng: np.random.Generator) -> Array:
        angle, slant, down, across = rng.uniform(-1, 1, (4, len(x))) * [[rotate], [shear], [shift], [shift]]
        return affine(
            x, rotate=angle, scale=rng.uniform(low, high, len(x)), shear=slant, shift=np.stack([down, across], 1)
        )

    return move


def random_rotate(degrees: float) -> Augment:
    """Turn each image by up to so many degrees either way."""
    return random_affine(rotate=degrees)


def random_scale(low: float, high: float) -> Augment:
    """Enlarge each image by a factor from `low` to `high`, about its centre."""
    return random_affine(scale=(low, high))


def random_shear(degrees: float) -> Augment:
    """Slant each image by up to so many degrees either way."""
    return random_affine(shear=degrees)


def affine(x: Array, *, rotate: Any = 0.0, scale: Any = 1.0, shear: Any = 0.0, shift: Any = (0.0, 0.0)) -> Array:
    """Images (N, H, W, C) slanted, enlarged and turned about their centres, then moved; what comes in is black (0).

    Each pixel of the result is the bilinear mean of the four about the place that it comes from.

    Args: numbers, or arrays with one of them an image. rotate: degrees, anticlockwise. scale: a factor. shear: the
        angle in degrees by which upright lines lean to the right. shift: pixels (down, right).
    Returns: a new array like x; uint8 is rounded.
    """
    n, height, width, channels = images("affine", x).shape
    m = _inverse(n, np.radians(rotate), scale, np.radians(shear))
    middle = (np.array([height, width]) - 1) / 2
    down, right = np.broadcast_to(shift, (n, 2)).T[:, :, None]
    u, v = np.arange(height) - middle[0] - down, np.arange(width) - middle[1] - right  # (N, H), (N, W)
    # Where each pixel comes from, in the image with a black border of one pixel: what lies further out is black, too.
    rows, cols = (
        np.clip((m[:, i, :1] * u)[:, :, None] + (m[:, i, 1:] * v)[:, None] + middle[i] + 1, 0, size + 1)
        for i, size in enumerate((height, width))
    )
    top, left = (np.minimum(place.astype(np.intp), size) for place, size in ((rows, height), (cols, width)))
    bordered = np.pad(as_floats(x), ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(-1, channels)
    a, b = ((place - first).astype(bordered.dtype)[..., None] for place, first in ((rows, top), (cols, left)))
    at = (np.arange(n)[:, None, None] * (height + 2) + top) * (width + 2) + left
    above = _between(bordered.take(at, 0), bordered.take(at + 1, 0), b)
    at += width + 2
    below = _between(bordered.take(at, 0), bordered.take(at + 1, 0), b)
    return as_dtype(_between(above, below, a), x.dtype)


def _between(first: Array, second: Array, share: Array) -> Array:
    """first + share · (second - first), in the memory of second."""
    second -= first
    second *= share
    second += first
    return second


def _inverse(n: int, angle: Any, scale: Any, slant: Any) -> Array:
    """(N, 2, 2): from (down, right) of the result to those of the image. Forth it is turn · scale · slant."""
    cos, sin, lean, one = (np.broadcast_to(v, n) for v in (np.cos(angle), np.sin(angle), np.tan(slant), 1.0))
    turn = np.stack([cos, sin, -sin, cos], -1).reshape(n, 2, 2)
    slanted = np.stack([one, 0 * one, lean, one], -1).reshape(n, 2, 2)
    return slanted @ turn / np.broadcast_to(scale, n)[:, None, None]


def as_floats(x: Array) -> Array:
    """Images as floats: their own dtype, or float32."""
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def as_dtype(values: Array, dtype: np.dtype) -> Array:
    """Floats as the dtype of images: rounded and kept from 0 to 255 for uint8."""
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    info = np.iinfo(dtype)
    return np.clip(np.rint(values), info.min, info.max).astype(dtype)


def images(name: str, x: Array) -> Array:
    """x, where it is a batch of images; else a ValueError."""
    if x.ndim != 4:
        raise ValueError(f"{name}: wants a batch of images (N, H, W, C), got the shape {x.shape}")
    return x


def function(name: str, augment: Any) -> None:
    """Raise TypeError for what is no augmentation, with the remedy for a list, and for a maker that was not called."""
    if isinstance(augment, list | tuple):
        raise TypeError(
            f"{name}: augment must be one function, got a {type(augment).__name__}; join them: compose(a, b)"
        )
    own = getattr(augment, "__qualname__", "") if getattr(augment, "__module__", "").startswith(__package__) else ""
    if not callable(augment) or (own and "." not in own):
        raise TypeError(
            f"{name}: augment must be a function (x, rng) -> x, got {augment!r:.60}"
            + f"; call it: {own}(…)" * bool(own)
        )


def numbers(name: str, **values: Any) -> None:
    """Raise TypeError for an argument that is not one number."""
    for argument, value in values.items():
        if not isinstance(value, int | float | np.number):
            raise TypeError(
                f"{name}: {argument}={value!r:.60} must be a number, how far it goes at most; the amount is drawn anew "
                "for each image"
            )


def share(name: str, probability: float) -> None:
    """Raise ValueError for what is no probability."""
    numbers(name, probability=probability)
    if not 0 <= probability <= 1:
        raise ValueError(f"{name}: probability must be from 0 to 1, got {probability}")
