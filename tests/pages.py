"""Pages and photographs with one digit on them, drawn from a digit of 28 × 28 (light on black)."""

from __future__ import annotations

import numpy as np

from tinynet.data.images import resample

KINDS = {  # what `page` is told; a test and benchmarks/pages.py go through them
    "white": {"paper": (1, 1), "ink": (0, 0.1)},
    "grey light": {"paper": (0.5, 0.8), "ink": (0.1, 0.3)},
    "light on dark": {"dark": False},
    "pasted 28×28": {"size": 28, "paper": (1, 1), "ink": (0, 0)},
    "pasted, dark page": {"size": 28, "paper": (1, 1), "ink": (0, 0), "dark": False},
    "uneven light": {"light": 0.5, "noise": 0.02},
    "phone": {"light": 0.5, "noise": 0.04, "turn": 0.15, "paper": (0.7, 0.9), "ink": (0.15, 0.35)},
    "shadow": {"light": 0.3, "noise": 0.03, "shadow": True},
}


def page(
    rng,
    digit,
    *,
    height=600,
    width=800,
    size=None,
    paper=(0.75, 1.0),
    ink=(0.0, 0.35),
    dark=True,
    light=0.0,
    noise=0.0,
    turn=0.0,
    shadow=False,
):
    """A page (height, width) with `digit` (28, 28) somewhere on it.

    Args: size: of the digit's square, a tenth to two thirds of the height by default. paper, ink: ranges of
    brightness. dark: ink on paper, else the negative. light: by how much a side is darker. noise: standard deviation.
    turn: radians at most. shadow: half of the page lies in one.
    """
    size = size or int(rng.uniform(0.1, 0.66) * height)
    large = resample(digit[..., None].astype(np.float32), (size, size))[..., 0]
    if turn:
        large = turned(large, rng.uniform(-turn, turn))
    brightness, black = rng.uniform(*paper), rng.uniform(*ink)
    out = np.full((height, width), brightness)
    top, left = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
    out[top : top + size, left : left + size] += (black - brightness) * large
    if not dark:
        out = 1 - out
    y, x = (np.arange(n) / n - 0.5 for n in (height, width))
    angle = rng.uniform(0, 2 * np.pi)
    out *= 1 - light * (0.5 + np.cos(angle) * x + np.sin(angle) * y[:, None]) - light / 2 * (x**2 + y[:, None] ** 2)
    if shadow:
        out = np.where(x + y[:, None] * rng.uniform(-1, 1) > rng.uniform(-0.3, 0.3), 0.7 * out, out)
    return np.clip(out + noise * rng.standard_normal(out.shape), 0, 1).astype(np.float32)


def turned(image, angle):
    """A square picture turned about its middle, its corners black."""
    size = len(image)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    rows, columns = (
        np.cos(angle) * y - np.sin(angle) * x + (size - 1) / 2,
        np.sin(angle) * y + np.cos(angle) * x + (size - 1) / 2,
    )
    inside = (rows >= 0) & (rows <= size - 1) & (columns >= 0) & (columns <= size - 1)
    nearest = (np.clip(np.rint(a), 0, size - 1).astype(int) for a in (rows, columns))
    return image[tuple(nearest)] * inside


def right_on_pages(classify, images, labels, kind, seed=5, **more):
    """How many of the digits that `classify` has right as they are it has right on pages, and how many those are.

    Args: classify: images (N, 28, 28, 1) -> (classes, probabilities). more: of `page`.
    """
    from tinynet.data import find_drawing

    rng, right = np.random.default_rng(seed), 0
    cropped = np.flatnonzero(classify(images)[0] == labels)
    for i in cropped:
        found = find_drawing(page(rng, images[i, ..., 0], **KINDS[kind], **more))
        right += found is not None and int(classify(found.image[None])[0][0]) == labels[i]
    return right, len(cropped)
