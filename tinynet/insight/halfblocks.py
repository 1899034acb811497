"""Pictures in a terminal: each character shows two pixels, one above the other, by half blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from .explanation import MAPS, TOP, Explanation
from .pictures import tiled

WIDE = 28  # characters that a picture may take
ORANGE = np.array([0.85, 0.44, 0.17])


def sketch(image: np.ndarray, *, wide: int = WIDE, colour: bool = True) -> list[str]:
    """Lines of half blocks for an image (H, W), (H, W, 1 or 3) of values from 0 to 1, made at most `wide` characters.

    Args: colour: by escape sequences for 24-bit colours; otherwise black and white, divided at the mean.
    """
    image = np.asarray(image, np.float64)
    image = image[..., None] if image.ndim == 2 else image
    step = -(-image.shape[1] // wide)
    h, w = (max(n // step, 1) for n in image.shape[:2])
    small = image[: h * step, : w * step].reshape(h, step, w, step, -1).mean((1, 3))
    small = np.concatenate([small, small[-1:]])[: h + h % 2]
    if not colour:
        grey = small.mean(-1)
        light = grey > (grey.min() + grey.max()) / 2
        pairs = light[::2] + 2 * light[1::2]
        return ["".join(" ▀▄█"[i] for i in row) for row in pairs]
    pixels = (np.broadcast_to(small, (*small.shape[:2], 3)).clip(0, 1) * 255).round().astype(int).tolist()
    return [
        "".join(map(_cell, above, below)) + "\x1b[0m" for above, below in zip(pixels[::2], pixels[1::2], strict=True)
    ]


def _cell(above: list[int], below: list[int]) -> str:
    """One half block: the pen is the upper pixel, the paper the lower one."""
    return "\x1b[38;2;{};{};{};48;2;{};{};{}m▀".format(*above, *below)


def beside(panels: Sequence[tuple[str, list[str], int]]) -> list[str]:
    """Panels (title, lines, width in characters) next to each other."""
    titles = "  ".join(title[:width].ljust(width) for title, _, width in panels)
    rows = zip_longest(*(lines for _, lines, _ in panels))
    widths = [width for *_, width in panels]
    return [titles, *("  ".join(line or " " * w for line, w in zip(row, widths, strict=True)) for row in rows)]


def explanation_text(found: Explanation, *, colour: bool = True) -> str:
    """What `show_explanation` draws, as text."""
    image = _unit(found.image)
    grey = image.mean(-1, keepdims=True)
    panels = [("what the network saw", image)]
    for i, cam in zip(found.likeliest, found.cams, strict=False):
        share = (cam / (cam.max() or 1.0))[..., None]
        title = f"for {found.classes[i]}"
        panels.append((title, grey * (1 - 0.7 * share) + share * [1.0, 0.25, 0.1] if colour else share))
    marked = np.repeat(grey, 3, -1) if image.shape[-1] == 1 else image.copy()
    rows, columns = found.patch
    marked[rows, columns] = 0.4 * marked[rows, columns] + 0.6 * ORANGE
    panels.append(("the patch", marked if colour else np.zeros_like(grey)))
    if not colour:
        panels[-1][1][rows, columns] = 1
    drawn = [(title, sketch(p, colour=colour)) for title, p in panels]
    wide = max(1, image.shape[1] // -(-image.shape[1] // WIDE))
    width = max(wide, 20)
    padded = [(title, [line + " " * (width - wide) for line in lines], width) for title, lines in drawn]
    text = [*beside(padded), "", f"it says {found.name(found.likeliest[0], found.probability)}"]
    text[-1] += "".join(f", then {found.name(i, found.probability)}" for i in found.likeliest[1:TOP])
    text += [found.verdict(), ""]
    for name, maps in found.maps.items():
        sheet = np.nan_to_num(tiled(maps[: MAPS // 2], MAPS // 2) / (np.abs(maps).max() or 1.0))
        text += [f"layer {name}", *sketch(sheet, wide=min(sheet.shape[1], 3 * WIDE), colour=colour)]
    return "\n".join(text)


def _unit(image: np.ndarray) -> np.ndarray:
    """The image as floats from 0 to 1."""
    image = np.asarray(image, np.float64) / (255 if np.asarray(image).dtype == np.uint8 else 1)
    low, high = min(image.min(), 0.0), max(image.max(), 1.0)
    return (image - low) / (high - low)
