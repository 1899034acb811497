"""Training, live, for others: callbacks of `fit` for TensorBoard, and for whatever has wandb's `log`."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..integers import count
from ..nn.module import Module
from .features import filters
from .graph import boxes_of_model
from .pictures import tiled


class TensorBoard:
    """`fit(…, callbacks=[tn.insight.TensorBoard("logs/first")])`, then `tensorboard --logdir logs`.

    Of each step the loss and the rate; of each epoch the history's row, a histogram of each parameter, and the filters
    of the first convolution as a picture; of the run the network's graph, and `images` as they are. Needs tensorboardX.

    Args:
        folder: of the run, for the files. images: some (N, H, W, 1 or 3), bytes or floats from 0 to 1.
        every: so many steps apart are those that are written. histograms, graph: whether there are such.
    Raises: ImportError where tensorboardX is missing.
    """

    def __init__(
        self, folder: str | Path, *, images: Any = None, every: int = 1, histograms: bool = True, graph: bool = True
    ):
        if importlib.util.find_spec("tensorboardX") is None:
            raise ImportError("TensorBoard: the files are written by tensorboardX: pip install 'tinynet[monitor]'")
        self.folder, self.images, self.every = Path(folder), images, count("TensorBoard", "every", every, 1)
        self.histograms, self.graph = histograms, graph
        self.model: Module | None = None
        self.writer: Any = None

    def on_begin(self, model: Module) -> None:
        self.model = model

    def on_step_end(self, info: Mapping[str, Any]) -> None:
        if info["step"] % self.every == 0:
            self._scalars("step", {key: info[key] for key in ("loss", "lr")}, info["step"])

    def on_epoch_end(self, row: Mapping[str, Any]) -> None:
        epoch = row["epoch"]
        self._scalars("epoch", {key: value for key, value in row.items() if key != "epoch"}, epoch)
        if self.model is not None:
            self._network(self.model, epoch)
        self.writer.flush()

    def on_end(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def _scalars(self, group: str, values: Mapping[str, Any], step: int) -> None:
        if self.writer is None:  # not earlier: it starts a thread, and workers are forked before the first step
            from tensorboardX import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), filename_suffix=f".{time.time_ns()}")  # its own: seconds
            if self.images is not None:
                self.writer.add_images("images", np.asarray(self.images), 0, dataformats="NHWC")
        for name, value in numbers(values).items():
            self.writer.add_scalar(f"{group}/{name}", value, step)

    def _network(self, model: Module, epoch: int) -> None:
        """The parameters' histograms, the first filters, and once the graph."""
        if self.histograms:
            for name, p in model.named_parameters():
                if np.isfinite(p.numpy()).all():
                    self.writer.add_histogram(name, p.numpy(), epoch)
        first = next((w for w in filters(model).values() if w.ndim == 4), None)
        if first is not None:
            parts = np.moveaxis(first, 3, 0)
            parts = parts / (np.abs(parts).max() or 1.0) / 2 + 0.5
            sheet = tiled(parts if parts.shape[-1] == 3 else parts.mean(-1), 8)
            self.writer.add_image(
                "filters", np.nan_to_num(sheet, nan=1.0), epoch, dataformats="HW" + "C" * (sheet.ndim - 2)
            )
        if self.graph:
            from tensorboardX.proto import event_pb2, graph_pb2

            drawn = graph_pb2.GraphDef()
            names: dict[str, str] = {}
            for key, box in boxes_of_model(model, depth=0).items():
                names[key] = f"{box.title.split()[0].replace('.', '/')}_{len(names)}"
                drawn.node.add(name=names[key], op=box.kind, input=[names[need] for need in box.needs])
            self.writer.file_writer.add_event(event_pb2.Event(graph_def=drawn.SerializeToString()))
            self.graph = False


class Log:
    """`fit(…, callbacks=[tn.insight.Log(wandb)])`: each step's loss and rate, and each epoch's row, for anything that
    has wandb's `log(dict, step=)`, a run of W&B or trackio, or MLflow's `log_metrics(dict, step=)`.

    Args: target: the module or object. every: so many steps apart are those that are logged.
    """

    def __init__(self, target: Any, *, every: int = 1):
        self.log: Any = getattr(target, "log", None) or getattr(target, "log_metrics", None)
        if not callable(self.log):
            raise TypeError(f"Log: {target!r:.60} must have log(dict, step=), as wandb, or log_metrics(dict, step=)")
        self.every, self.step = count("Log", "every", every, 1), 0

    def on_step_end(self, info: Mapping[str, Any]) -> None:
        self.step = info["step"]
        if self.step % self.every == 0:
            self.log(numbers({"loss": info["loss"], "lr": info["lr"]}), step=self.step)

    def on_epoch_end(self, row: Mapping[str, Any]) -> None:
        named = {key if key == "epoch" else f"epoch/{key}": value for key, value in row.items()}
        self.log(numbers(named), step=self.step)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those of the values that are numbers."""
    return {key: value for key, value in values.items() if isinstance(value, int | float)}
