"""Training that one watches: a thread that goes on or waits, and a picture of where it is for whoever asks."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .. import optim
from ..console import message
from ..data.loader import Loader
from ..nn.module import Module
from ..ops import random, softmax_cross_entropy
from . import plane, watch
from .asked import PlayError, number, rate, text

ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu")
PACE = 0.002  # seconds that a step takes at least: people shall see it, and the page needs the processor, too
BETWEEN = 0.25  # seconds between two pictures, at least
SHARE = 4  # a picture may take a fifth of the time
MOST_POINTS = 1200  # of a curve; then neighbours are joined


@dataclass
class Plan:
    """What to train, and how."""

    data: str
    network: str  # a model's name; for points the widths of the hidden layers
    activation: str
    optimizer: str
    rate: float
    batch: int
    images: bool


class Training:
    """One network in training, for all tabs of the page."""

    def __init__(self, tools: Any, turns: Any):
        self.tools, self.turns = tools, turns
        self.plan: Plan = Plan("spirals", "16 16", "relu", "adam", 0.01, 32, False)
        self.task: Any = None
        self.table: plane.Points | None = None
        self.version, self.picture, self.trouble = 0, b"", ""
        self.running = self.closed = self.told = False  # told: the page was shown it running
        self.steps_due = 0
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None
        self.acts: dict[tuple[str, str], Callable[[dict, bytes], Any]] = {
            ("GET", "train"): self.watched,
            ("POST", "train/start"): self.start,
            ("POST", "train/table"): self.own_table,
            ("POST", "train/run"): lambda request, body: self._go(running=True),
            ("POST", "train/pause"): lambda request, body: self._go(running=False),
            ("POST", "train/step"): lambda request, body: self._go(running=False, steps=1),
            ("POST", "train/rate"): self.new_rate,
        }

    def choices(self) -> dict[str, Any]:
        """What may be trained, and what is."""
        return {
            "planes": list(plane.PLANES),
            "pictures": {name: list(networks) for name, networks in self.tools.networks.items()},
            "optimizers": list(optim.OPTIMIZERS),
            "activations": list(ACTIVATIONS),
            "plan": asdict(self.plan) if self.task is not None else None,
        }

    # ---- what the page asks for ---------------------------------------------------------------------------------
    def start(self, request: dict, body: bytes) -> dict[str, Any]:
        """Make a new network and its data; it waits at step 0."""
        images = text(request, "data") in self.tools.networks
        names = list(self.tools.networks) if images else [*plane.PLANES, "table"]
        data = text(request, "data", names)
        plan = Plan(
            data=data,
            network=text(request, "network", self.tools.networks[data] if images else None),
            activation=text(request, "activation", ACTIVATIONS),
            optimizer=text(request, "optimizer", list(optim.OPTIMIZERS)),
            rate=rate(request),
            batch=number(request, "batch", 1, 1024),
            images=images,
        )
        self._go(running=False)
        task: Any = self.table if data == "table" else self.tools.load_data(data) if images else plane.points(data)
        if task is None:
            raise PlayError("drop a table first: two columns of numbers and one of classes")
        with self.turns.person():
            self._begin(plan, task)
        if self.thread is None or not self.thread.is_alive():
            self.thread = threading.Thread(target=self._work, name="tinynet play: training", daemon=True)
            self.thread.start()
        return {"version": self.version}

    def own_table(self, request: dict, body: bytes) -> dict[str, Any]:
        """Take a table of the user's."""
        try:
            self.table = plane.table(body.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise PlayError("this is no text; a table is a CSV file in UTF-8") from None
        return {"points": sum(len(y) for _, y in (self.table.train, self.table.test)), "classes": self.table.classes}

    def new_rate(self, request: dict, body: bytes) -> dict[str, Any]:
        """Go on with another learning rate."""
        value = rate(request)
        with self.turns.person():
            self._begun()
            self.optimizer.lr = self.plan.rate = value
        return {"rate": value}

    def watched(self, request: dict, body: bytes) -> Any:
        """The newest picture, or only its number where that is not newer than `since`."""
        return self.picture if self.version > number(request, "since") else {"version": self.version}

    def close(self) -> None:
        """End the thread."""
        with self.changed:
            self.closed, self.running, self.steps_due = True, False, 0
            self.changed.notify_all()
        if self.thread is not None:
            self.thread.join(5)

    # ---- the work -----------------------------------------------------------------------------------------------
    def _go(self, *, running: bool, steps: int = 0) -> dict[str, Any]:
        if running or steps:
            self._begun()
        with self.changed:
            self.running, self.steps_due = running, self.steps_due + steps if steps else 0
            self.changed.notify_all()
        return {"running": running}

    def _begun(self) -> None:
        if self.task is None:
            raise PlayError("there is nothing in training yet: choose a network and its data, and press Start")

    def _begin(self, plan: Plan, task: Any) -> None:
        random.seed(0)
        classes = len(task.classes)
        self.model: Module = (
            self.tools.make_model(plan.network, task)
            if plan.images
            else plane.network(plan.network, plan.activation, classes)
        )
        self.optimizer = optim.OPTIMIZERS[plan.optimizer](self.model.parameters(), lr=plan.rate)
        self.loader = Loader(*task.train, batch_size=min(plan.batch, len(task.train[0])), prefetch=0)
        self.plan, self.task, self.trouble = plan, task, ""
        self.batches = self._batches()
        self.step = self.epoch = 0
        self.losses: list[list[float]] = []  # (step, loss), the mean of `joined` steps each
        self.tests: list[list[float]] = []  # (step, loss, accuracy)
        self.joined = 1
        self.part: list[float] = []
        self._show()

    def _batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            yield from self.loader
            self.epoch += 1

    def _work(self) -> None:
        """The thread: step after step while it is to run; a picture now and then, and whenever it stops."""
        due = 0.0
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.running or self.steps_due or self.closed or self.told)
                if self.closed:
                    return
                go_on = self.running or self.steps_due > 0
                self.steps_due = max(0, self.steps_due - 1)
            began = time.perf_counter()
            with self.turns.machine(), np.errstate(all="ignore"):  # what overflows is told in words
                try:
                    if go_on:
                        self._step()
                    if not self.running or began >= due:
                        due = self._show()
                except Exception as error:  # the page says it
                    self.running, self.steps_due, self.trouble = False, 0, f"{message(error)} ({type(error).__name__})"
                    with contextlib.suppress(Exception):  # it may be what cannot be shown
                        self._show()
            time.sleep(max(0.0, PACE - (time.perf_counter() - began)))

    def _step(self) -> None:
        """Once forward, back, and down the slope."""
        x, y = next(self.batches)
        self.model.train()
        self.optimizer.zero_grad()
        loss = softmax_cross_entropy(self.model(x), y)
        value = float(loss.item())
        loss.backward()
        self.optimizer.step(loss)
        self.step += 1
        if self.optimizer.voided:
            raise PlayError(f"the loss or its gradient overflowed at step {self.step}: start again with a lower rate")
        self.part.append(value)
        if len(self.part) >= self.joined:
            self.losses.append([self.step, sum(self.part) / len(self.part)])
            self.part = []
        if len(self.losses) > MOST_POINTS:
            pairs = zip(self.losses[::2], self.losses[1::2], strict=False)
            self.losses = [[b[0], (a[1] + b[1]) / 2] for a, b in pairs]
            self.joined *= 2

    def _show(self) -> float:
        """Make the picture that the page is to see next; returns when the one after it is due."""
        began, self.told = time.perf_counter(), self.running
        self.picture = watch.picture(self, self.version + 1)
        self.version += 1
        now = time.perf_counter()
        return now + max(BETWEEN, SHARE * (now - began))
