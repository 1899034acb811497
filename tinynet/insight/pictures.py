"""What insight finds, as matplotlib Figures: `show_…(…).savefig("maps.png")`; a notebook shows them by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data import augmented
from .plots import BLUE, FRAME, ORANGE, _figure, _label

MOST = 32  # maps or filters that are shown of a layer


def show_attribution(x: np.ndarray, values: np.ndarray, *, titles: Sequence[str] = ()) -> Any:
    """Each image beside what was found in it: a heat map over it where no value is negative, else red for and blue
    against the class.

    Args: x: (N, H, W, 1 or 3). values: (N, H, W), or (N, H, W, C), whose channels are added up: what grad_cam,
        saliency, integrated_gradients, lrp, … return. titles: one for each image.
    Returns: a Figure.
    """
    if np.ndim(x) != 4 or np.shape(values)[:3] != np.shape(x)[:3]:
        raise ValueError(
            f"show_attribution: images {np.shape(x)} must be (N, H, W, C) and values {np.shape(values)} "
            "(N, H, W) or (N, H, W, C)"
        )
    values = np.asarray(values, np.float64)
    values = values.sum(-1) if values.ndim == 4 else values
    figure = _figure(4.2, 2.2 * len(x))
    places = figure.subplots(len(x), 2, squeeze=False)
    for i, (image, found, (left, right)) in enumerate(zip(x, values, places, strict=True)):
        picture(left, image)
        heat(right, image, found)
        left.set_title(titles[i] if i < len(titles) else "", fontsize=9, loc="left")
    return figure


def show_feature_maps(maps: Mapping[str, np.ndarray], *, sample: int = 0, most: int = MOST) -> Any:
    """A row for each layer whose outputs are maps (N, H, W, C), the strongest channels first, each layer on its own
    scale.

    Args: maps: what feature_maps returns. sample: which one of the batch. most: channels of a layer.
    Returns: a Figure.
    """
    rows = {name: strongest(y[sample], most) for name, y in maps.items() if y.ndim == 4 and min(y.shape[1:3]) > 1}
    if not rows:
        raise ValueError("show_feature_maps: no layer's output is maps (N, H, W, C)")
    return _rows(rows, "viridis", centred=False)


def show_filters(filters: Mapping[str, np.ndarray], *, most: int = MOST) -> Any:
    """A row for each convolution: its filters (KH, KW, C, F), in colours where C is 3, else their mean over C.

    Args: filters: what insight.filters returns. most: filters of a layer.
    Returns: a Figure.
    """
    rows = {}
    for name, w in filters.items():
        if w.ndim == 4:
            parts = np.moveaxis(w, 3, 0)[:most]
            size = np.abs(parts).max() or 1.0
            rows[name] = parts / size / 2 + 0.5 if w.shape[2] == 3 else parts.mean(-1)
    if not rows:
        raise ValueError("show_filters: there are no filters (KH, KW, C, F)")
    return _rows(rows, "RdBu_r", centred=True)


def show_augmented(x: np.ndarray, augment: Any, *, y: Any = None, times: int = 7, seed: int = 0) -> Any:
    """Each image, and beside it what an augmentation makes of it, `times` times.

    Args: x: (N, H, W, 1 or 3). augment: a function (x, rng), or a data.WithLabels, which takes the labels y, too. seed:
        of the rng.
    Returns: a Figure.
    """
    rng = np.random.default_rng(seed)
    columns = [x, *(augmented(augment, x, rng, y)[0] for _ in range(times))]
    figure = _figure(1.1 * len(columns), 1.2 * len(x))
    places = figure.subplots(len(x), len(columns), squeeze=False)
    for images, axes in zip(columns, places.T, strict=True):
        for image, place in zip(images, axes, strict=True):
            picture(place, image)
    return figure


def show_attention(maps: Mapping[str, np.ndarray], *, sample: int = 0) -> Any:
    """A row for each layer, a square for each head: queries downwards, keys to the right.

    Args: maps: what attention_maps returns. Returns: a Figure.
    """
    if not maps:
        raise ValueError("show_attention: there are no attention maps")
    return _rows({name: p[sample] for name, p in maps.items()}, "magma", centred=False)


def show_statistics(rows: Mapping[str, Mapping[str, float]]) -> Any:
    """Bars, a panel for each statistic and a line for each layer: what activation_statistics and gradient_statistics
    return. Those of gradients are logarithmic. Returns: a Figure."""
    keys = [*next(iter(rows.values()))]
    figure = _figure(1.9 * len(keys) + 1, 0.28 * len(rows) + 1)
    for axes, key in zip(figure.subplots(1, len(keys), sharey=True, squeeze=False)[0], keys, strict=True):
        values = [row[key] for row in rows.values()]
        axes.barh(range(len(rows)), values, color=BLUE if key not in ("dead", "saturated") else ORANGE)
        axes.set_title(key, fontsize=9, loc="left")
        axes.set_yticks(range(len(rows)), [_label(name) for name in rows], fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        if key in ("output", "weights", "share", "ratio") and max(values, default=0) > 0:
            axes.set_xscale("log")
            axes.set_xlim(min(v for v in values if v) / 3, max(values) * 1.5)
            axes.minorticks_off()
        elif key in ("zeros", "dead", "saturated"):
            axes.set_xlim(0, 1)
    axes.invert_yaxis()
    return figure


def show_pca(points: np.ndarray, labels: np.ndarray | None = None, *, classes: Sequence[str] = ()) -> Any:
    """Samples as points (N, 2 or more), what insight.pca returns, in a colour for each of their labels (N,).

    Returns: a Figure.
    """
    figure = _figure(5, 4.4)
    axes = figure.add_subplot()
    for i, value in enumerate([None] if labels is None else np.unique(labels)):
        part = points if value is None else points[labels == value]
        name = None if value is None else _label(classes[value] if len(classes) > value else value)
        axes.scatter(part[:, 0], part[:, 1], s=8, alpha=0.7, color=f"C{i % 10}", label=name, linewidths=0)
    if labels is not None:
        axes.legend(fontsize=8, frameon=False, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_xlabel("first component", fontsize=8)
    axes.set_ylabel("second component", fontsize=8)
    axes.tick_params(labelsize=7)
    return figure


def show_loss_plane(places: np.ndarray, losses: np.ndarray) -> Any:
    """Lines of equal loss around the weights, which are in the middle: what loss_plane returns.

    Returns: a Figure.
    """
    figure = _figure(5, 4.2)
    axes = figure.add_subplot()
    values = np.where(np.isfinite(losses), losses, np.nan)
    low, high = np.nanmin(values), np.nanmax(values)
    levels = np.geomspace(max(low, high * 1e-4, 1e-9), max(high, 1e-8), 18)
    drawn = axes.contourf(places, places, np.clip(values.T, levels[0], levels[-1]), levels, cmap="viridis", norm="log")
    axes.contour(places, places, values.T, levels, colors="white", linewidths=0.4, alpha=0.6)
    axes.plot(0, 0, marker="+", color="white", markersize=12)
    axes.set_aspect("equal")
    axes.set_xlabel("first direction", fontsize=8)
    axes.set_ylabel("second direction", fontsize=8)
    figure.colorbar(drawn, ax=axes, label="loss", format="%.2g")
    return figure


# ---- parts ------------------------------------------------------------------------------------------------------


def picture(axes: Any, image: np.ndarray) -> None:
    """An image (H, W, 1 or 3), bytes or floats; floats that are not within 0 and 1 are scaled to it."""
    image = np.asarray(image, np.float64) / (255 if np.asarray(image).dtype == np.uint8 else 1)
    low, high = image.min(), image.max()
    if low < 0 or high > 1:
        image = (image - low) / (high - low or 1)
    shown = image[..., 0] if image.shape[-1] == 1 else image if image.shape[-1] == 3 else image.mean(-1)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    bare(axes)


def heat(axes: Any, image: np.ndarray, values: np.ndarray) -> None:
    """Values (H, W) over a pale image: from clear to red, or blue and red where some are negative."""
    picture(axes, np.asarray(image, np.float64).mean(-1, keepdims=True))
    size = float(np.abs(values).max()) or 1.0
    signed = values.min() < 0
    opacity = np.clip(np.abs(values) / size, 0, 1) ** 0.7 * 0.85
    options = {"cmap": "bwr", "vmin": -size} if signed else {"cmap": "inferno", "vmin": 0}
    axes.imshow(values, vmax=size, alpha=opacity, interpolation="nearest", **options)


def strongest(maps: np.ndarray, most: int) -> np.ndarray:
    """(K, H, W): the channels of (H, W, C) with the largest mean size, the largest first."""
    order = np.argsort(-np.abs(maps).mean((0, 1)), kind="stable")[:most]
    return np.moveaxis(maps[..., order], 2, 0)


def tiled(parts: np.ndarray, columns: int) -> np.ndarray:
    """Images (K, H, W) or (K, H, W, 3) as one, a line of NaN (of white) between them."""
    k, h, w = parts.shape[:3]
    rows, gap = -(-k // columns), max(1, h // 12)
    blank = 1.0 if parts.ndim == 4 else np.nan
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, *parts.shape[3:]), blank)
    for i, part in enumerate(parts):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[top : top + h, left : left + w] = part
    return sheet


def bare(axes: Any) -> None:
    """No ticks, a thin grey frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(FRAME)


def _rows(rows: Mapping[str, np.ndarray], cmap: str, *, centred: bool) -> Any:
    """A strip of pictures (K, H, W) for each name, 16 in a line."""
    columns = min(16, max(len(parts) for parts in rows.values()))
    high = [math.ceil(len(parts) / columns) for parts in rows.values()]
    figure = _figure(max(3.0, 0.55 * columns), sum(0.25 + 0.58 * n for n in high))
    strips = figure.subplots(len(rows), 1, squeeze=False, height_ratios=high)[:, 0]
    for axes, (name, parts) in zip(strips, rows.items(), strict=True):
        size = np.abs(parts).max() or 1.0
        axes.imshow(
            tiled(parts, columns),
            cmap=cmap,
            vmin=-size if centred else None,
            vmax=size if centred else None,
            interpolation="nearest",
        )
        axes.set_title(_label(f"{name}  {' × '.join(map(str, parts.shape[1:3]))}"), fontsize=8, loc="left", pad=2)
        axes.axis("off")
        axes.set_anchor("W")
    return figure
