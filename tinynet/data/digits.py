"""Handwritten-looking digits, drawn by a pen: training data without a download.

Each way of writing a digit is a line of `SKELETONS`: the points that the pen passes, in a square of
20 x 20 with y downwards. `/` is a sharp turn at the point before it, `;` lifts the pen, and between those the
pen follows a smooth curve (a Catmull-Rom spline). Every digit then gets a hand of its own:

1. the skeleton's points stray a little, each by itself (waviness);
2. the whole is bent, slanted, stretched and turned, then scaled to fill a box of 20 x 20 pixels;
3. 56 pen points along the curve each leave a narrow Gaussian spot. A Gaussian is a product of one in x and
   one in y, so the sum of a digit's spots is one matrix product (28, 56) @ (56, 28), and a batch is one
   batched product. The logarithm of the sum is nearly that of its largest term, so it tells each pixel's
   distance to the pen's way: ink is where that is less than the pen's radius;
4. soft edges and noise turn the ink into 256 levels of grey, and whole-pixel steps centre it by its mass in
   28 x 28, as the images of MNIST were.
"""

from __future__ import annotations

import operator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .skeletons import SKELETONS

SIZE, BOX = 28, 20  # pixels along a side of the image, and along the longer side of the digit
PEN_POINTS = 56  # spots that the pen leaves on its way
SPOT = 0.7  # standard deviation of a spot, in pixels
MARGIN = 4  # pixels by which a digit is moved at most to centre its mass
CHUNK = 256  # images drawn together: image i depends on (seed, i // CHUNK) only

# A hand's habits: mean and standard deviation (of the logarithm, where it is a factor).
WAVINESS, UNEVEN = 1.1, 0.3  # how far a point strays (the square is 20); how hands differ
BEND = 0.16  # quadratic terms of the bend
STRETCH = 0.07, 0.20  # a factor for the width
SLANT = 0.12, 0.25  # x that a step up adds
TURN = 0.0, 0.10  # radians
RADIUS = -0.05, 0.37  # of the pen, a factor in pixels
ROUGH = 0.15  # noise: a factor from 1 - ROUGH to 1 + ROUGH

Floats = NDArray[np.float32]


def synthetic_digits(n: int, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Draw `n` handwritten-looking digits: white ink (1) on black (0), as MNIST.

    Returns `(images, labels)`: images float32 (n, 28, 28, 1) in [0, 1], in steps of 1/255; labels int64 (n,)
    from 0 to 9, about as many of each. The same seed always gives the same images, and image i does not
    depend on n: `synthetic_digits(10)` are the first of `synthetic_digits(1000)`. (BLAS libraries round
    differently: on another machine a pixel may be one level of grey off.)

    Raises ValueError for a negative `n` or `seed`, TypeError where they are not integers.
    """
    n, seed = operator.index(n), operator.index(seed)
    if n < 0 or seed < 0:
        raise ValueError(f"synthetic_digits: n and seed must be 0 or more, got n={n}, seed={seed}")
    images = np.empty((n, SIZE, SIZE, 1), np.float32)
    labels = np.empty(n, np.int64)
    for start in range(0, n, CHUNK):
        rng = np.random.default_rng([seed, start // CHUNK])
        drawn, digits = _draw(rng)
        count = min(CHUNK, n - start)
        images[start : start + count, ..., 0] = drawn[:count]
        labels[start : start + count] = digits[:count]
    return images, labels


def _draw(rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
    """One chunk: images (CHUNK, 28, 28) and labels (CHUNK,)."""
    points, basis, first, many = _pen()
    labels = rng.integers(0, 10, CHUNK)
    variant = first[labels] + (rng.random(CHUNK) * many[labels]).astype(np.int64)
    untidy: Floats = np.exp(_normal(rng, 0, UNEVEN, CHUNK, 1, 1))
    strays = untidy * _normal(rng, 0, WAVINESS, CHUNK, *points.shape[1:])
    way: Floats = basis[variant] @ (points[variant] + strays)
    radius: Floats = np.clip(np.exp(_normal(rng, *RADIUS, CHUNK, 1)), 0.4, 3.0)
    x, y = _place(rng, way[..., 0], way[..., 1], BOX - 2 * radius)
    return _centre(_ink(rng, x, y, radius)), labels


def _place(rng: np.random.Generator, x: Floats, y: Floats, box: Floats) -> tuple[Floats, Floats]:
    """Bend, slant, stretch and turn the pen's way, x and y (CHUNK, 56); make it fill a square."""
    x, y = x - BOX / 2, y - BOX / 2
    squares = np.stack([x * x, x * y, y * y]) / np.float32(BOX / 2)
    x, y = (way + (_normal(rng, 0, BEND, 3, CHUNK, 1) * squares).sum(axis=0) for way in (x, y))
    x = x * np.exp(_normal(rng, *STRETCH, CHUNK, 1)) - y * _normal(rng, *SLANT, CHUNK, 1)
    turn = _normal(rng, *TURN, CHUNK, 1)
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    scale = box / np.maximum(np.ptp(x, axis=1), np.ptp(y, axis=1))[:, None]
    scale *= rng.uniform(0.95, 1.04, (CHUNK, 1)).astype(np.float32)
    centre = rng.uniform(-0.5, 0.5, (2, CHUNK, 1)).astype(np.float32) + np.float32(SIZE / 2)
    x, y = ((way - way.mean(axis=1, keepdims=True)) * scale for way in (x, y))
    return x + centre[0], y + centre[1]


def _ink(rng: np.random.Generator, x: Floats, y: Floats, radius: Floats) -> Floats:
    """The picture (CHUNK, 28, 28) that a pen of `radius` (CHUNK, 1) leaves along x and y (CHUNK, 56)."""
    ink = _spots(y) @ _spots(x).transpose(0, 2, 1)
    np.log(ink, out=ink)
    ink *= -2 * SPOT**2
    np.maximum(ink, 0, out=ink)
    np.sqrt(ink, out=ink)  # about the distance to the pen's way
    np.subtract(radius[..., None], ink, out=ink)
    ink *= rng.uniform(0.55, 1.1, (CHUNK, 1, 1)).astype(np.float32)  # how sharp the edge is
    ink += np.float32(0.5)
    noise = np.frombuffer(rng.bytes(ink.size), np.uint8).reshape(ink.shape)
    ink *= noise * np.float32(2 * ROUGH / 255) + np.float32(1 - ROUGH)
    np.clip(ink, 0, 1, out=ink)
    ink *= 255
    return np.divide(np.rint(ink, out=ink), np.float32(255), out=ink)


def _centre(ink: Floats) -> Floats:
    """Move each picture (CHUNK, 28, 28) by whole pixels: its centre of mass to pixel 14, as MNIST's."""
    rows, columns = ink.sum(axis=2), ink.sum(axis=1)
    pixel, total = np.arange(SIZE, dtype=np.float32), rows.sum(axis=1)
    down, right = (
        np.rint(profile @ pixel / total).astype(np.int64) - SIZE // 2 + MARGIN for profile in (rows, columns)
    )
    padded = np.pad(ink, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIZE, SIZE), axis=(1, 2))
    return windows[np.arange(CHUNK), np.clip(down, 0, 2 * MARGIN), np.clip(right, 0, 2 * MARGIN)]


def _spots(at: Floats) -> Floats:
    """Gaussians (CHUNK, 28, 56) of the pixels 0 to 27 around the points `at` (CHUNK, 56)."""
    scale = np.float32(0.5**0.5 / SPOT)
    far = np.arange(SIZE, dtype=np.float32)[:, None] * scale - at[:, None] * scale
    np.square(far, out=far)
    np.minimum(far, 20, out=far)  # beyond 87 the results were denormal numbers, and slow
    np.negative(far, out=far)
    return np.exp(far, out=far)


def _normal(rng: np.random.Generator, mean: float, deviation: float, *shape: int) -> Floats:
    """Float32 normal numbers."""
    return rng.standard_normal(shape, np.float32) * np.float32(deviation) + np.float32(mean)


@cache
def _pen() -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]:
    """All variants as arrays: `basis[v] @ points[v]` is the pen's way (56, 2) through variant v.

    Returns points (V, K, 2) and basis (V, 56, K), both padded with zeros to the K of the longest; and for
    each digit the number of its first variant and how many it has.
    """
    parsed = [_parse(line) for digit in range(10) for line in SKELETONS[digit]]
    longest = max(len(points) for points, _ in parsed)
    points = np.zeros((len(parsed), longest, 2), np.float32)
    basis = np.zeros((len(parsed), PEN_POINTS, longest), np.float32)
    for v, (way, matrix) in enumerate(parsed):
        points[v, : len(way)] = way
        basis[v, :, : len(way)] = matrix
    many = np.array([len(SKELETONS[digit]) for digit in range(10)])
    return points, basis, np.cumsum(many) - many, many


def _parse(line: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A skeleton's points (K, 2) and the matrix (56, K) that draws it: equal steps along its whole length."""
    points: list[tuple[float, ...]] = []
    rows: list[tuple[NDArray[np.float64], list[int]]] = []
    for stroke in line.split(";"):
        corner: list[int] = []
        for piece in stroke.split("/"):
            new = [tuple(map(float, pair.split(","))) for pair in piece.split()]
            index = corner + list(range(len(points), len(points) + len(new)))
            points += new
            corner = index[-1:]
            rows.append((_spline(len(index)), index))
    way = np.array(points)
    dense = np.zeros((sum(len(r) for r, _ in rows), len(way)))
    lengths, at = [], 0
    for matrix, index in rows:
        dense[at : at + len(matrix), index] = matrix
        steps = np.linalg.norm(np.diff(matrix @ way[index], axis=0), axis=1)
        lengths += [0.0, *steps]  # a pen in the air draws nothing
        at += len(matrix)
    length = np.cumsum(lengths)
    wanted = (np.arange(PEN_POINTS) + 0.5) / PEN_POINTS * length[-1]
    after = np.searchsorted(length, wanted)
    share = ((wanted - length[after - 1]) / (length[after] - length[after - 1]))[:, None]
    return way, dense[after - 1] * (1 - share) + dense[after] * share


def _spline(k: int, per_piece: int = 24) -> NDArray[np.float64]:
    """The matrix ((k - 1) * per_piece + 1, k) of a Catmull-Rom curve through k points."""
    eye = np.eye(k)
    slope = np.empty((k, k))
    slope[1:-1] = (eye[2:] - eye[:-2]) / 2
    slope[0], slope[-1] = eye[1] - eye[0], eye[-1] - eye[-2]
    if k > 2:  # parabolas at the ends
        slope[0], slope[-1] = 2 * slope[0] - slope[1], 2 * slope[-1] - slope[-2]
    t = np.linspace(0, 1, per_piece, endpoint=False)[:, None]
    ends = (1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2, t * t * (3 - 2 * t), t * t * (t - 1)
    pieces = [
        ends[0] * eye[i] + ends[1] * slope[i] + ends[2] * eye[i + 1] + ends[3] * slope[i + 1] for i in range(k - 1)
    ]
    return np.concatenate([*pieces, eye[-1:]])
