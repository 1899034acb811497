"""Pictures of a run and of what a model gets wrong, as PNGs; they need matplotlib."""

from __future__ import annotations

import importlib.util
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..console import plain
from ..saving.checkpoint import replacing
from ..training import Search
from .report import WIDEST, Report
from .scores import Calibration, Curve


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


BLUE, ORANGE, GREY, FRAME = "#2a6fbb", "#d9702b", "#666666", "#bbbbbb"


def plot_history(history: Sequence[Mapping[str, Any]], path: str | Path, *, title: str = "") -> None:
    """Learning curves, loss and accuracy by epoch, as a PNG."""
    accuracy = any(row.get("accuracy") is not None for row in history)
    figure = _figure(9 if accuracy else 5, 3.8)
    epochs = [row["epoch"] for row in history]
    for i, name in enumerate(["loss", "accuracy"][: 1 + accuracy]):
        axes = figure.add_subplot(1, 1 + accuracy, i + 1)
        scale = 100 if name == "accuracy" else 1
        for key, label, colour in (name, "training", BLUE), (f"val_{name}", "validation", ORANGE):
            points = [(e, scale * row[key]) for e, row in zip(epochs, history, strict=True) if row.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, linewidth=2, label=label)
        axes.set_xlabel("epoch")
        axes.set_title("loss" if name == "loss" else "accuracy, %", fontsize=11, loc="left")
        axes.set_xticks(epochs if len(epochs) <= 12 else epochs[:: -(-len(epochs) // 12)])
        if len(epochs) == 1:
            axes.set_xlim(0.5, 1.5)
        if name == "loss":
            axes.set_ylim(0, 1.08 * max(axes.dataLim.y1, 1e-9))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    _finish(figure, path, title)


def plot_confusion(measured: Report, path: str | Path, *, title: str = "") -> None:
    """The confusion matrix as a PNG: colours by share of the true class, so that rare mistakes can be seen."""
    confusion, count = measured.confusion, len(measured.classes)
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    names = [_label(name) for name in measured.classes] if count <= WIDEST else []
    room = 0.055 * max([0, *map(len, names)])  # inches that the longest name takes
    side = min(max(3.6, 0.52 * count + 0.7), 13)
    figure = _figure(side + 0.9 + room, side + 0.9 + 0.75 * room)
    axes = figure.add_subplot()
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # the root lifts shares of a percent out of white
    if names:
        for i, j in np.argwhere(confusion):
            colour = "white" if share[i, j] > 0.35 else "black"
            axes.text(j, i, f"{confusion[i, j]}", ha="center", va="center", fontsize=8, color=colour)
        slanted = max(map(len, names)) > 3
        turn: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        axes.set_xticks(range(count), names, fontsize=9, **turn)
        axes.set_yticks(range(count), names, fontsize=9)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.supxlabel("colours: share of each row, of the images of a true class", fontsize=8, color=GREY)
    axes.spines[:].set_color(FRAME)
    axes.tick_params(length=0)
    _finish(figure, path, title)


def plot_curves(curves: Mapping[str, Curve], path: str | Path, *, title: str = "", axes: Sequence[str] = ()) -> None:
    """Curves of `roc_curve` or `precision_recall_curve` by name (the classes), with their areas, as a PNG.

    axes: the two labels; by default those of a ROC where a curve starts at (0, 0), else of precision and recall.
    """
    roc = all(curve.x[0] == curve.y[0] == 0 for curve in curves.values())
    figure = _figure(5.4, 4.4)
    plot = figure.add_subplot()
    for name, curve in curves.items():
        plot.step(curve.x, curve.y, where="post" if roc else "pre", label=f"{_label(name)}  {curve.area:.4f}")
    if roc:
        plot.plot([0, 1], [0, 1], color=FRAME, linewidth=1, linestyle="--")
    across, up = axes or (("false positive rate", "true positive rate") if roc else ("recall", "precision"))
    plot.set(xlabel=across, ylabel=up, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    plot.grid(alpha=0.3)
    plot.spines[["top", "right"]].set_visible(False)
    plot.legend(frameon=False, fontsize=8, title="area", title_fontsize=8)
    _finish(figure, path, title)


def plot_reliability(measured: Calibration, path: str | Path, *, title: str = "") -> None:
    """How often predictions are right beside how sure they are, as a PNG; on the diagonal a classifier is calibrated.
    The dots' areas are the bins' shares of the samples."""
    figure = _figure(4.6, 4.6)
    plot = figure.add_subplot()
    plot.plot([0, 1], [0, 1], color=FRAME, linewidth=1, linestyle="--")
    plot.plot(measured.confidence, measured.accuracy, color=BLUE, linewidth=1)
    plot.scatter(
        measured.confidence, measured.accuracy, 20 + 400 * measured.samples / measured.samples.sum(), color=BLUE
    )
    plot.set(xlabel="mean probability", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
    plot.set_title(f"expected calibration error {measured.error:.2%}", fontsize=10, loc="left")
    plot.grid(alpha=0.3)
    plot.spines[["top", "right"]].set_visible(False)
    _finish(figure, path, title)


def plot_search(found: Search, path: str | Path, *, title: str = "") -> None:
    """The learning curves of a search's trials, and what each came to by each setting of numbers, as a PNG. The best is
    orange; crosses were stopped early."""
    names = [n for n, v in found.trials[0].settings.items() if isinstance(v, int | float) and not isinstance(v, bool)]
    figure = _figure(4.2 + 2.8 * len(names), 3.6)
    panels = figure.subplots(1, 1 + len(names), sharey=True, squeeze=False)[0]
    longest = max(len(trial.history) for trial in found.trials)
    for i, trial in reversed(list(enumerate(found.trials))):
        ys = [row[found.monitor] for row in trial.history]
        colour = BLUE if i else ORANGE
        panels[0].plot(range(1, len(ys) + 1), ys, color=colour, linewidth=1 if i else 2.5, marker="." if i else "o")
        for panel, name in zip(panels[1:], names, strict=True):
            mark = "o" if len(ys) == longest else "x"
            panel.plot([trial.settings[name]] * len(ys[-1:]), ys[-1:], mark, color=colour)
    panels[0].set(xlabel="epoch", ylabel=_label(found.monitor))
    for panel, name in zip(panels[1:], names, strict=True):
        values = [trial.settings[name] for trial in found.trials]
        panel.set(xlabel=_label(name), xscale="log" if 0 < 10 * min(values) <= max(values) else "linear")
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    _finish(figure, path, title)


def plot_mistakes(
    measured: Report, images: np.ndarray, path: str | Path, *, title: str = "", rows: int = 5, columns: int = 8
) -> None:
    """The most surely wrong images (N, H, W, 1 or 3) as a PNG, the surest first: what they are, what the model sees."""
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(f"plot_mistakes: images must be (N, H, W, 1 or 3), got {images.shape}")
    worst = measured.worst[: rows * columns]
    rows = max(1, -(-len(worst) // columns))
    long = max(len(str(name)) for name in measured.classes) > 2  # names in two lines
    head, high = (0.9 if long else 0.75), (1.6 if long else 1.45) * rows + 0.6
    figure = _figure(1.25 * columns, high, layout=None)  # placed by hand, which is quicker with so many axes
    figure.subplots_adjust(
        left=0.01, right=0.99, bottom=0.1 / high, wspace=0.08, top=1 - head / high, hspace=0.45 if long else 0.28
    )
    if not len(worst):
        figure.text(0.5, 0.5, "no mistakes", ha="center", va="center", color=GREY)
    for place, i in enumerate(worst):
        axes = figure.add_subplot(rows, columns, place + 1)
        image = np.clip(images[i] / (255 if images.dtype == np.uint8 else 1), 0, 1)
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(FRAME)  # a white picture on white paper has no edge of its own
        true, seen = (measured.classes[numbers[i]] for numbers in (measured.labels, measured.predictions))
        sure = f"{measured.probability[i]:.0%}"
        text = (
            f"{_label(true, 18)}\n→ {_label(seen, 11)} {sure}" if long else f"{_label(true)} → {_label(seen)}  {sure}"
        )
        axes.set_title(text, fontsize=7 if long else 8.5, pad=3)
    _finish(figure, path, title)


def _figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """A figure of its own, without pyplot: no window, no global state. ImportError where matplotlib is missing."""
    if not can_plot():
        raise ImportError("pictures are drawn by matplotlib, which is not installed: pip install 'tinynet[plot]'")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _label(name: object, limit: int = 24) -> str:
    """A name as matplotlib shall show it: what stands between two dollars would be a formula."""
    return plain(name, limit).replace("$", r"\$")


def _finish(figure: Any, path: str | Path, title: str) -> None:
    if title:
        wide = int(11 * figure.get_figwidth())  # letters of this size in a line
        figure.suptitle("\n".join(textwrap.wrap(_label(title, 120), wide)), fontsize=12)
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a font may lack the letters of a class's name
        figure.savefig(temporary, format="png", dpi=140)
