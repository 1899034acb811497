"""Finding what is drawn on a page or a photograph, and laying it out as MNIST's digits are.

A stroke is narrower than the paper around it. So, in a picture of at most 1024 pixels a side:

1. a smooth surface (a quadratic, fitted robustly) tells the light on the paper; the tail of what is left over tells
   whether the strokes are darker or lighter than it;
2. the picture's closing (the highest lows of each neighbourhood), less the picture, is the ink: what is narrower than
   the neighbourhood. Shadows and the edge of a table are wider, and do not count;
3. ink well above the paper's own noise is gathered into shapes, across gaps of a fiftieth of the picture. The heaviest
   one that is not cut off by the picture's edge is taken;
4. it is scaled to fill 20 × 20 pixels, and put into 28 × 28 with its centre of mass in the middle
   (LeCun et al. 1998, as MNIST was made).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .images import resample

LONGEST = 1024  # pixels along the longer side of the picture that is searched
NEIGHBOURHOOD = 0.25  # of the picture's shorter side: wider things are no strokes
FAINTEST = 0.06  # contrast of the faintest ink, of 1
NOISE = 7.0  # times its spread: what paper does not reach by chance
CELLS = 50  # a side of the grid over the picture in which shapes are gathered
SMALLEST = 8  # pixels along the longer side of the smallest shape
BOX = 20 / 28  # what MNIST's digits fill of their picture
THINNEST = 1.6  # pixels: thinner strokes are made as thick, as a pen's on MNIST's scale

Floats = NDArray[np.float32]


@dataclass
class Drawing:
    """What `find_drawing` found.

    Attributes:
        image: (H, W, 1) float32 in [0, 1]: light on black, centred by its mass.
        box: rows and columns of the picture that hold it: (top, left, bottom, right).
        shapes: how many shapes of a similar weight the picture has; `image` is the heaviest.
    """

    image: Floats
    box: tuple[int, int, int, int]
    shapes: int


def find_drawing(page: Floats, shape: tuple[int, ...] = (28, 28)) -> Drawing | None:
    """The heaviest drawing in a grey picture (H, W) in [0, 1], None where there is nothing but paper.

    Args: shape: height and width of the drawing's own picture; MNIST's by default.
    """
    height, width = page.shape
    scale = min(1.0, LONGEST / max(height, width))
    small = resample(page[..., None], tuple(max(1, round(side * scale)) for side in page.shape))[..., 0]
    ink, level = _ink(small)
    if level == 0:
        return None
    groups = _shapes(ink, ink > 0.4 * level)
    if not groups:
        return None
    weight, (top, left, bottom, right), mask = groups[0]
    if max(bottom - top, right - left) < SMALLEST:
        return None
    cut = np.clip((ink * mask)[top:bottom, left:right] / level, 0, 1)
    box = tuple(round(side / scale) for side in (top, left, bottom, right))
    return Drawing(laid_out(cut, shape)[..., None], box, sum(w > weight / 3 for w, *_ in groups))  # type: ignore[arg-type]


def _ink(page: Floats) -> tuple[Floats, float]:
    """How much each pixel differs from the paper around it, ≥ 0, and the level of full ink; 0 where there is none."""
    soft = _blurred(page)
    soft = soft - _light(soft)
    if np.mean((soft - np.median(soft)) ** 3) < 0:  # the tail is dark: ink on paper
        soft = -soft
    side = max(3, int(NEIGHBOURHOOD * min(page.shape)))
    paper = soft
    for axis in (0, 1):
        paper = _extreme(paper, side, axis, np.minimum)
    for axis in (0, 1):
        paper = _extreme(paper, side, axis, np.maximum)
    ink = soft - paper
    floor = np.median(ink)
    spread = 1.4826 * np.median(np.abs(ink - floor))
    peak = float(ink.max() - floor)
    if peak < max(FAINTEST, NOISE * spread):
        return ink, 0.0
    ink = np.maximum(ink - floor - 2 * spread, 0)
    strong = ink[ink > 0.4 * ink.max()]
    return ink, float(np.quantile(strong, 0.7))


def _light(page: Floats) -> Floats:
    """The quadratic surface (H, W) that most of the page lies on, fitted to at most 64 × 64 of its pixels."""
    height, width = page.shape
    rows, columns = (np.linspace(0, side - 1, min(side, 64)).astype(int) for side in page.shape)

    def terms(r: np.ndarray, c: np.ndarray) -> np.ndarray:
        v, u = np.broadcast_arrays(r[:, None] * 2 / height - 1, c[None] * 2 / width - 1)
        return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1).astype(np.float32)

    a, y = terms(rows, columns).reshape(-1, 6), page[np.ix_(rows, columns)].ravel()
    weight, fit = np.ones(len(y), np.float32), np.zeros(6, np.float32)
    for _ in range(8):
        fit = np.linalg.lstsq(a * weight[:, None], y * weight, rcond=None)[0]
        off = np.abs(y - a @ fit)
        weight = 1 / (1 + (off / max(2 * float(np.median(off)), 1e-3)) ** 2)
    return terms(np.arange(height), np.arange(width)) @ fit


def _blurred(page: Floats) -> Floats:
    """The means of 3 × 3 pixels."""
    for axis in (0, 1):
        more = np.pad(page, [(1, 1) if i == axis else (0, 0) for i in (0, 1)], mode="edge")
        n = page.shape[axis]
        page = sum(np.take(more, range(i, i + n), axis) for i in range(3)) / np.float32(3)  # type: ignore[assignment]
    return page


def _extreme(a: Floats, side: int, axis: int, ufunc: np.ufunc) -> Floats:
    """The least, or greatest, of `side` neighbours along an axis, the picture's edge repeated; in log2(side) passes."""
    before = side // 2
    padded = np.pad(a, [(before, side - 1 - before) if i == axis else (0, 0) for i in (0, 1)], mode="edge")
    padded = np.moveaxis(padded, axis, 0)
    reach = 1
    while reach < side:
        step = min(reach, side - reach)
        padded = ufunc(padded[: len(padded) - step], padded[step:])
        reach += step
    return np.moveaxis(padded, 0, axis)


Shape = tuple[float, tuple[int, int, int, int], NDArray[np.bool_]]


def _shapes(ink: Floats, mask: NDArray[np.bool_]) -> list[Shape]:
    """The shapes in a mask, the heaviest first; those cut off by the picture's edge come last: weight, box, its pixels.

    A shape is a group of neighbouring cells of a coarse grid.
    """
    height, width = ink.shape
    cell = max(1, -(-max(height, width) // CELLS))
    high, wide = -(-height // cell), -(-width // cell)
    padded = np.zeros((high * cell, wide * cell), bool)
    padded[:height, :width] = mask
    cells = padded.reshape(high, cell, wide, cell).any((1, 3))
    left_over, groups = {(int(r), int(c)) for r, c in np.argwhere(cells)}, []
    while left_over:
        front = [left_over.pop()]
        group = []
        while front:
            r, c = front.pop()
            group.append((r, c))
            near = {(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left_over
            left_over -= near
            front += near
        groups.append(group)
    found: list[tuple[bool, Shape]] = []
    for group in groups:
        chosen = np.zeros((high, wide), bool)
        chosen[tuple(np.transpose(group))] = True
        own = np.kron(chosen, np.ones((cell, cell), bool))[:height, :width] & mask
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
        at_edge = box[0] == 0 or box[1] == 0 or box[2] == height or box[3] == width
        found.append((bool(at_edge), (float((ink * own).sum()), box, own)))
    heaviest = max((shape[0] for _, shape in found), default=0)
    inner = [shape for at_edge, shape in found if not at_edge and shape[0] > 0.05 * heaviest]
    return sorted(inner or [shape for _, shape in found], key=lambda shape: -shape[0])


def laid_out(cut: Floats, shape: tuple[int, ...]) -> Floats:
    """A drawing (h, w) scaled to MNIST's box, its centre of mass in the middle of `shape`."""
    target = BOX * min(shape)
    scale = target / max(cut.shape)
    edge = np.abs(np.diff(cut, axis=0)).sum() + np.abs(np.diff(cut, axis=1)).sum()
    thickness = 2 * float(cut.sum()) / max(float(edge) * 0.8, 1e-6)  # 0.8: edges are counted along rows and columns
    grow = round(max(0.0, THINNEST / scale - thickness))
    if grow:
        cut = np.pad(cut, -(-grow // 2))
        for axis in (0, 1):
            cut = _extreme(cut, grow + 1, axis, np.maximum)
        scale = target / max(cut.shape)
    size = tuple(max(1, round(side * scale)) for side in cut.shape)
    small = resample(cut[..., None], size)[..., 0]  # type: ignore[arg-type]
    small = np.clip(
        small / max(float(np.quantile(small[small > 0.1], 0.9)) if (small > 0.1).any() else 1.0, 1e-6), 0, 1
    )
    mass = small.sum()
    image = np.zeros(shape, np.float32)
    start = []
    for axis, (side, length) in enumerate(zip(shape, small.shape, strict=True)):
        centre = float(small.sum(1 - axis) @ np.arange(length) / mass)
        start.append(int(np.clip(round(side / 2 - centre), 0, side - length)))
    image[start[0] : start[0] + small.shape[0], start[1] : start[1] + small.shape[1]] = small
    return image
