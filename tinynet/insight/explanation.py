"""Why does the network say so? One picture on one page: what it saw, its answer, where it looked, what decides it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..console import plain
from ..nn.module import Module
from ..training import predict
from .attribution import windows
from .cam import grad_cam
from .features import feature_maps
from .pictures import heat, picture, strongest, tiled
from .plots import FRAME, GREY, ORANGE, _figure, _label

TOP, LAYERS, MAPS = 5, 6, 14  # classes, layers and maps of a layer that are shown
SHARES = (7, 5, 4, 3)  # a patch's side is such a part of the image's; the first with which the answer changes is taken


@dataclass
class Explanation:
    """What `explain` found about one image (H, W, C).

    Attributes: classes: the K names. probability: (K,). likeliest: the classes' numbers, the likeliest first.
        cams: (2, H, W) Grad-CAM of the first two (of one, where there is one). maps: {layer: its strongest maps
        (n, h, w)}. patch: (rows, columns), two slices, without which the first class loses most.
        without: (K,) the probabilities then.
    """

    image: np.ndarray
    classes: tuple[str, ...]
    probability: np.ndarray
    likeliest: np.ndarray
    cams: np.ndarray
    maps: dict[str, np.ndarray]
    patch: tuple[slice, slice]
    without: np.ndarray

    @property
    def changes(self) -> bool:
        """Whether the answer is another one without the patch."""
        return bool(self.without.argmax() != self.likeliest[0])

    def name(self, i: Any, p: np.ndarray) -> str:
        """7 (98.1%)"""
        return f"{plain(self.classes[i], 24)} ({p[i]:.1%})"

    def verdict(self) -> str:
        """What the patch decides, as a sentence."""
        rows, columns = self.patch
        first = self.likeliest[0]
        where = f"the {rows.stop - rows.start}×{columns.stop - columns.start} patch"
        if self.changes:
            return f"without {where} it says {self.name(self.without.argmax(), self.without)}"
        fall = f"{plain(self.classes[first], 24)} falls from {self.probability[first]:.1%} to {self.without[first]:.1%}"
        return f"no patch changes the answer; without {where} {fall}"


def explain(model: Module, image: np.ndarray, *, classes: Sequence[str] | None = None) -> Explanation:
    """What a classifier of images makes of one image (H, W, C), and why. The model stays as it was.

    A patch is covered by the image's median colour; it is a seventh of the image wide, or wider, where no such patch
    changes the answer.

    Args: classes: the K names, by default numbers.
    Raises: ValueError where `image` is no single image, or the model no classifier or without a convolution.
    """
    if np.ndim(image) != 3:
        raise ValueError(f"explain: the image {np.shape(image)} must be (H, W, C), a single one")
    image = np.asarray(image)
    probability = predict(model, image[None])[0]
    if probability.ndim != 1:
        raise ValueError(f"explain: the model's output is {(1, *probability.shape)}; a classifier's is (N, classes)")
    likeliest = np.argsort(-probability, kind="stable")
    cams = [grad_cam(model, image[None], target=int(i))[0] for i in likeliest[:2]]
    names = tuple(map(str, range(len(probability)) if classes is None else classes))
    names += tuple(map(str, range(len(names), len(probability))))
    maps = {
        name: strongest(y[0], MAPS)
        for name, y in feature_maps(model, image[None]).items()
        if y.ndim == 4 and min(y.shape[1:3]) > 1
    }
    patch, without = _decisive(model, image, likeliest[0])
    return Explanation(image, names, probability, likeliest, np.stack(cams), maps, patch, without)


def _decisive(model: Module, image: np.ndarray, first: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """(the patch, the probabilities without it): of those that change the answer, or where none does, of the largest,
    the one that lowers the first class most."""
    found = None
    for share in SHARES:
        places = windows((1, *image.shape), tuple(max(1, n // share) for n in image.shape[:2]))
        parts = np.repeat(image[None], len(places), 0)
        for part, (_, rows, columns) in zip(parts, places, strict=True):
            part[rows, columns] = np.median(image, (0, 1))
        p = predict(model, parts)
        others = p.argmax(1) != first
        least = int(np.where(others | ~others.any(), p[:, first], np.inf).argmin())
        found = places[least][1:], p[least]
        if others.any():
            break
    return found  # type: ignore[return-value]


def show_explanation(found: Explanation, *, title: str = "") -> Any:
    """The page, a matplotlib Figure."""
    layers = _some(found.maps)
    figure = _figure(11, 3.1 + 0.86 * len(layers), layout="constrained")
    heights = [3.1, 0.86 * len(layers)][: 1 + bool(layers)]
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    axes = parts[0].subplots(1, 5, width_ratios=[1, 1.15, 1, 1, 1])
    picture(axes[0], found.image)
    _headed(axes[0], "what the network saw")
    _bars(axes[1], found)
    for place, i, cam in zip(axes[2:], found.likeliest, found.cams, strict=False):
        heat(place, found.image, cam)
        _headed(place, f"what speaks for {_label(found.classes[i], 16)}")
    if len(found.cams) < 2:
        axes[3].axis("off")
    picture(axes[4], found.image)
    _outlined(axes[4], found)
    if layers:
        _strips(parts[1].subplots(len(layers), 1, squeeze=False)[:, 0], layers)
    if title:
        figure.suptitle(_label(title, 110), fontsize=12, x=0.01, ha="left")
    return figure


def _strips(strips: Any, layers: dict[str, np.ndarray]) -> None:
    """A line of maps for each layer, 14 places wide."""
    for axes, (name, maps) in zip(strips, layers.items(), strict=True):
        empty = np.full((MAPS - len(maps), *maps.shape[1:]), np.nan)
        axes.imshow(tiled(np.concatenate([maps, empty]), MAPS), cmap="viridis", interpolation="nearest")
        axes.axis("off")
        axes.set_anchor("W")
        size = "×".join(map(str, maps.shape[1:]))
        axes.set_title(
            _label(f"layer {name}: its strongest maps, {size}", 80), fontsize=8, loc="left", pad=2, color=GREY
        )


def _headed(axes: Any, text: str) -> None:
    axes.set_title(text, fontsize=9.5, loc="left", pad=5)


def _bars(axes: Any, found: Explanation) -> None:
    """The likeliest classes, the first on top."""
    top = found.likeliest[:TOP]
    values = [float(found.probability[i]) for i in top]
    axes.barh(range(len(top)), values, color=["#9dc3ee", *[FRAME] * (len(top) - 1)], height=0.62)
    for row, (i, p) in enumerate(zip(top, values, strict=True)):
        axes.text(0.03, row, f"{_label(found.classes[i], 16)}  {p:.1%}", va="center", fontsize=9)
    axes.set_xlim(0, 1)
    axes.set_ylim(TOP - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1], ["0", "50%", "100%"], fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_box_aspect(0.87)
    _headed(axes, "its answer")


def _outlined(axes: Any, found: Explanation) -> None:
    """The image with the patch in a frame, and what it decides."""
    rows, columns = found.patch
    left, right, top, bottom = (v - 0.5 for v in (columns.start, columns.stop, rows.start, rows.stop))
    axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=ORANGE, linewidth=2.5)
    _headed(axes, "the patch that decides" if found.changes else "the patch that matters most")
    axes.set_xlabel("\n".join(textwrap.wrap(_label(found.verdict(), 140), 32)), fontsize=8.5)


def _some(maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """At most LAYERS of them, evenly from the first to the last."""
    places = np.linspace(0, len(maps) - 1, min(LAYERS, len(maps))).round().astype(int)
    return {name: maps[name] for name in (list(maps)[i] for i in places)}
