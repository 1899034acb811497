"""What the page is about: the networks it may look at, and what it may ask of them."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..data.images import resample
from ..data.ink import laid_out
from ..nn.module import Module
from . import draw, read
from .asked import PlayError, number, text
from .packed import packed
from .training import Training

DRAWN = ("digits", "mnist", None)  # data whose pictures are single drawings, light on black, centred by their mass
LARGEST_SIDE = 1024  # pixels of a picture that the page sends


class Tools(Protocol):
    """What the command lends to the page: its data sets, its networks, and how it reads a picture."""

    @property
    def networks(self) -> Mapping[str, Sequence[str]]: ...  # names of networks by the name of their data
    def load_data(self, name: str) -> Any: ...
    def make_model(self, name: str, task: Any) -> Module: ...
    def read_picture(self, path: Path, shape: tuple, learnt: str | None) -> tuple[np.ndarray | None, str]: ...


@dataclass
class Network:
    """A trained network, or one in training.

    Attributes: name: of the run. about: a line for people. learnt: the name of its data, None where that is not known.
        samples: loads pictures and class numbers (x, y) to show; None where there are none.
    """

    name: str
    model: Module
    classes: Sequence[str]
    learnt: str | None = None
    about: str = ""
    samples: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None

    @cached_property
    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """Loaded when the page first asks."""
        return (np.zeros((0,)), np.zeros(0, np.int64)) if self.samples is None else self.samples()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.model.built or ()

    @property
    def drawn(self) -> bool:
        """Whether a drawing is centred for it, as MNIST's digits are."""
        return self.shape[2] == 1 and self.learnt in DRAWN


class Turns:
    """One computation at a time, as modes and switches are the whole process's; people go before the training."""

    def __init__(self) -> None:
        self._lock, self._people = threading.Lock(), 0

    @contextlib.contextmanager
    def person(self) -> Iterator[None]:
        self._people += 1
        try:
            with self._lock:
                yield
        finally:
            self._people -= 1

    @contextlib.contextmanager
    def machine(self) -> Iterator[None]:
        while self._people:
            time.sleep(0.001)
        with self._lock:
            yield


class Session:
    """What the server's requests reach: each is a method in `acts`, of the request (a dict) and the body (bytes)."""

    def __init__(self, network: Network | None, tools: Tools):
        self.run, self.tools, self.turns = network, tools, Turns()
        self.training = Training(tools, self.turns)
        self.acts: dict[tuple[str, str], Callable[[dict, bytes], Any]] = {
            ("GET", "state"): self.state,
            ("POST", "look"): self.look,
            ("POST", "unit"): self.unit,
            ("POST", "overlay"): self.overlay,
            ("GET", "samples"): self.samples,
            ("GET", "source"): lambda request, body: read.sources(text(request, "operation")),
            **self.training.acts,
        }

    def close(self) -> None:
        """End the training's thread."""
        self.training.close()

    def network(self, request: dict) -> Network:
        """The one that a request names: "run", or "training"."""
        name = request.get("network", "run")
        if name == "training" and self.training.task is not None and self.training.plan.images:
            task = self.training.task
            about = f"{self.training.plan.network} on {task.name}, in training"
            return Network("training", self.training.model, task.classes, task.name, about, lambda: task.test)
        if name != "run" or self.run is None:
            raise PlayError("there is no trained network yet: train one on pictures in the Train tab")
        return self.run

    def state(self, request: dict, body: bytes) -> dict[str, Any]:
        """What there is: the networks to look at, and what may be trained."""
        networks = {}
        for name in ("run", "training"):
            with contextlib.suppress(PlayError):
                found = self.network({"network": name})
                networks[name] = {
                    "name": found.name,
                    "about": found.about,
                    "classes": list(found.classes),
                    "shape": list(found.shape),
                    "drawn": found.drawn,
                    "samples": found.samples is not None,
                }
        return {"networks": networks, "operations": list(read.OPERATIONS), **self.training.choices()}

    # ---- Draw ---------------------------------------------------------------------------------------------------
    def look(self, request: dict, body: bytes) -> bytes:
        """Probabilities and maps of a picture."""
        with self.turns.person():
            network = self.network(request)
            x, note = self._seen(network, request, body)
            layers, arrays = draw.look(network.model, x)
        header = {"layers": layers, "note": note, "empty": not x.any(), "classes": list(network.classes)}
        if request.get("from") == "sample":
            header["truth"] = int(network.pictures[1][number(request, "number")])
        return packed(header, {k: np.nan_to_num(a) for k, a in arrays.items()})

    def unit(self, request: dict, body: bytes) -> bytes:
        """How the values of one map came about."""
        with self.turns.person():
            network = self.network(request)
            x, _ = self._seen(network, request, body)
            layer, channel = text(request, "layer"), number(request, "channel", 0)
            try:
                header, arrays = draw.unit(network.model, x, layer, channel)
            except (KeyError, IndexError, ValueError):
                raise PlayError("this network has no such layer or map") from None
        return packed(header, arrays)

    def overlay(self, request: dict, body: bytes) -> bytes:
        """A map (H, W) over the picture: what counts for a class, or what would make it that class."""
        with self.turns.person():
            network = self.network(request)
            x, _ = self._seen(network, request, body)
            target, what = number(request, "target", 0, len(network.classes) - 1), text(request, "what", draw.OVERLAYS)
            found = draw.overlay(network.model, x, what, target)
        return packed({k: v for k, v in found.items() if k != "map"}, {"map": found["map"]})

    def samples(self, request: dict, body: bytes) -> bytes:
        """Pictures of the run's data set from number `start` on, and what they are."""
        with self.turns.person():
            network = self.network(request)
            x, y = network.pictures
        start = number(request, "start", 0)
        part = slice(start, start + number(request, "count", 0, 200))
        return packed({"labels": y[part].tolist(), "total": len(y)}, {"pictures": x[part]})

    def _seen(self, network: Network, request: dict, body: bytes) -> tuple[np.ndarray, str]:
        """The picture (1, H, W, C) that a request means, as the network is to see it, and a remark."""
        shape, source = network.shape, request.get("from")
        if len(shape) != 3 or shape[2] not in (1, 3):
            raise PlayError(f"this network takes inputs of shape {shape}, not pictures")
        if source == "sample":
            x, i = network.pictures[0], number(request, "number")
            if not 0 <= i < len(x):
                raise PlayError(f"there are {len(x):,} samples; there is no number {i}")
            return x[i : i + 1], ""
        channels = {"drawing": 1, "picture": 3}.get(source or "")
        if channels is None:
            raise PlayError("from must be a drawing or a picture or a sample")
        high, wide = (number(request, side, 1, LARGEST_SIDE) for side in ("height", "width"))
        if len(body) != high * wide * channels:
            raise PlayError(f"a picture of {high}×{wide} has {high * wide * channels:,} bytes, got {len(body):,}")
        pixels = np.frombuffer(body, np.uint8).reshape(high, wide, channels).astype(np.float32) / np.float32(255)
        return _drawing(network, pixels) if channels == 1 else self._picture(network, pixels)

    def _picture(self, network: Network, pixels: np.ndarray) -> tuple[np.ndarray, str]:
        """A picture of the user's, read as `tinynet predict` reads it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.npy"
            np.save(path, pixels)
            image, note = self.tools.read_picture(path, network.shape, network.learnt)
        if image is None:
            raise PlayError(note)
        return image[None].astype(np.float32), note.strip(" ()")


def _drawing(network: Network, ink: np.ndarray) -> tuple[np.ndarray, str]:
    """Ink (H, W, 1) on paper, 1 for full ink, as the network is to see it."""
    shape = network.shape
    rows, columns = np.flatnonzero(ink.any((1, 2))), np.flatnonzero(ink.any((0, 2)))
    if not len(rows):
        return np.zeros((1, *shape), np.float32), ""
    if network.drawn:
        cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, 0]
        return laid_out(cut, shape[:2])[None, ..., None], ""
    image = np.clip(resample(ink, shape[:2]), 0, 1)
    return np.repeat(image if shape[2] == 1 else 1 - image, shape[2], axis=2)[None].astype(np.float32), ""
