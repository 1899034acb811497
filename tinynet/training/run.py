"""The loop under `fit`: one run over the data, its progress, and its checkpoint.

The run's state is a `Progress`, the weights, the optimiser's state and the random state; nothing else, so what a
checkpoint holds is enough to go on to the same bits.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from .. import optim
from ..data import Loader
from ..nn.module import Module
from ..ops import random
from ..parallel.trainer import Trainer
from ..saving import checkpoint as files
from ..saving.checkpoint import CheckpointError
from ..tensor import Tensor
from . import settings
from .nonfinite import NonFiniteWarning, explain, explain_gradient
from .progress import Display

COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds", "images_per_second")
MOST_WAITING = 32  # steps whose losses a device may keep
STOP = "stop"  # what a callback gives back to end the training after this epoch


@dataclass
class EarlyStopping:
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs in a row.

    monitor: "val_loss", "val_accuracy", "loss" or "accuracy". restore_best: the model ends with the weights of its
    best epoch.
    """

    patience: int = 3
    monitor: str = "val_loss"
    min_delta: float = 0.0
    restore_best: bool = True

    def __post_init__(self) -> None:
        if (
            not isinstance(self.patience, int | np.integer)
            or not isinstance(self.min_delta, Real)
            or (self.patience < 1 or self.monitor not in ("val_loss", "val_accuracy", "loss", "accuracy"))
        ):
            raise ValueError(
                f"EarlyStopping: patience={self.patience!r} must be an int >= 1, min_delta="
                f"{self.min_delta!r} a number, and monitor={self.monitor!r} one of val_loss, "
                "val_accuracy, loss, accuracy"
            )
        self.patience, self.min_delta = int(self.patience), float(self.min_delta)

    def improved(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than the best so far."""
        gain = math.inf if best is None else (value - best if self.monitor.endswith("accuracy") else best - value)
        return gain > self.min_delta or (best is not None and math.isnan(best) and not math.isnan(value))


@dataclass
class Progress:
    """How far a run is: what, beside the arrays, a checkpoint must hold."""

    epoch: int = 0  # that is under way, from 0
    batch: int = 0  # of this epoch, that comes next
    step: int = 0  # of the whole run, that comes next
    seen: int = 0  # samples of this epoch so far; loss, correct and seconds are sums over them
    loss: float = 0.0
    correct: int | None = 0
    seconds: float = 0.0
    best: float | None = None  # for early stopping: the best value, and the epochs since
    waited: int = 0
    stopped: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)

    def check(self, loader: Loader) -> None:
        """ValueError where this is no place in a run over the loader's batches; it may come from anywhere."""
        correct, best = (0 if n is None else n for n in (self.correct, self.best))
        counts = (self.epoch, self.batch, self.step, self.seen, self.waited, correct)
        numbers = [self.loss, self.seconds, best]
        rows: Any = self.history if isinstance(self.history, list) else [None]
        fine = all(isinstance(row, dict) and set(row) == set(COLUMNS) for row in rows) and type(self.stopped) is bool
        numbers += [value for row in rows * fine for value in row.values() if value is not None]
        fine = fine and all(type(n) is int and 0 <= n < 1 << 63 for n in counts)
        fine = fine and all(type(n) is float or (type(n) is int and abs(n) < 1 << 63) for n in numbers)
        if not (
            fine
            and len(rows) == self.epoch
            and self.step == self.epoch * len(loader) + self.batch
            and self.seen == min(self.batch * loader.batch_size, loader.samples)
        ):
            raise ValueError("its progress makes no sense")

    def row(self, measured: dict[str, Any], lr: float) -> dict[str, Any]:
        """The epoch's row of the history."""
        accuracy = None if self.correct is None else self.correct / self.seen
        values = (
            self.loss / self.seen,
            accuracy,
            measured.get("loss"),
            measured.get("accuracy"),
            lr,
            self.seconds,
            self.seen / max(self.seconds, 1e-9),
        )
        return dict(zip(COLUMNS, (self.epoch + 1, *(None if v is None else float(v) for v in values)), strict=True))

    def next_epoch(self) -> None:
        self.epoch += 1
        self.batch = self.seen = self.correct = 0
        self.loss = self.seconds = 0.0


@dataclass
class Run:
    """One call of `fit`. `measure()` gives the validation's loss and accuracy, or {} where there is none."""

    model: Module
    optimizer: optim.Optimizer
    loss: Callable
    loader: Loader
    measure: Callable[[], dict[str, Any]]
    epochs: int
    hooks: tuple[list[Callable], list[Callable]]
    stopping: EarlyStopping | None
    display: Display
    schedule: Callable[[int], float] | None
    step: Trainer
    interrupts: Interrupts
    path: Path | None
    every: int | None
    csv: Path | None
    held_out: Loader | None = None  # what `measure` goes through

    def __post_init__(self) -> None:
        self.progress = Progress()
        self.best: files.Arrays = {}  # the best epoch's weights, where early stopping keeps them
        self.last: files.Arrays = {}  # the last epoch's, once the model has been given the best ones
        self.first = self.loader.epoch  # of the loader's epochs, that is this run's first
        self.rates = [float(group.options["lr"]) for group in self.optimizer.groups]
        self.saved = False
        self.waiting: list[tuple] = []  # steps whose losses were not read yet
        self.voided = 0  # updates of this epoch that a gradient voided
        self.lazy = hasattr(self.model.parameters()[0].backend, "ahead")  # a device: to read is to wait for it
        if self.path is not None:
            self.settings = settings.of_run(self)
            self.attributes = settings.changing(self.model)
            files.check(self.model.state_dict(), self._description())  # else an epoch would be lost where that fails

    def train(self) -> None:
        """All epochs that are left."""
        try:
            while self.progress.epoch < self.epochs and not self.progress.stopped:
                self._epoch()
                self.save()
        finally:
            if self.schedule is not None:  # else the rates are the caller's, who may change them as he goes
                self._scale_rates(1.0)

    def finish(self) -> None:
        """The best weights, where they were asked for, and the files."""
        if self.best:
            self.last = self.model.state_dict()
            self.model.load_state_dict(self.best)
        if self.best or not self.saved:
            self.save()
        self._write_csv()

    def _epoch(self) -> None:
        p = self.progress
        self.display.start(p.epoch, p.seen)
        if not p.batch:  # else the run was taken up amid an epoch, whose modes are those of the checkpoint
            self.model.train()
        self.mark = time.perf_counter()
        with contextlib.closing(self.loader.iterate(self.first + p.epoch, p.batch)) as batches:  # type: ignore[type-var]
            for x, y in self._moved(batches):
                self._step(x, y)
                self._interrupted()
        self._read()
        self._tick()
        row = p.row(self._validate(), self.optimizer.lr)
        stop = [hook(dict(row)) == STOP for hook in self.hooks[0]]  # a list: each of them is called
        p.history.append(row)
        p.stopped = self._stops(row) or any(stop)
        p.next_epoch()
        self.loader.set_epoch(self.first + p.epoch)
        self._write_csv()
        self.display.end(row)
        if self.voided:
            self.display.line(f"{self.voided} updates of this epoch were voided by gradients that were not finite")
            self.voided = 0

    def _moved(self, batches: Iterator) -> Iterator:
        """The batches, on a device ahead of the step where the model is on one."""
        first = self.model.parameters()[0]
        be: Any = first.backend
        if not hasattr(be, "ahead"):
            return batches
        return ((Tensor(x, be), y) for x, y in be.ahead((x.astype(first.dtype, copy=False), y) for x, y in batches))

    def _step(self, x: np.ndarray, y: np.ndarray) -> None:
        p, draws = self.progress, dict(random.state.steps)
        if self.schedule is not None:
            self._scale_rates(self.schedule(p.step))
        y = _like_model(self.model, y)
        loss = self.step(x, y)
        p.seen, p.batch, p.step = p.seen + len(x), p.batch + 1, p.step + 1
        self.waiting.append((loss, self.optimizer.guard, self.step.counter(), x, y, draws, p.batch))
        if not self.lazy or self.hooks[1] or len(self.waiting) == MOST_WAITING or self.display.due():
            self._read()
        if self.every and p.step % self.every == 0:
            self.save()

    def _scale_rates(self, factor: float) -> None:
        """Set the learning rates to those that the run began with, times a factor."""
        for group, rate in zip(self.optimizer.groups, self.rates, strict=True):
            group.set_lr(rate * factor)

    def _read(self) -> None:
        """Read the losses of the steps since the last time, show them, call the hooks (with them, it is one step).

        Raises: NonFiniteError at the first that is not finite.
        """
        p, value = self.progress, 0.0
        waiting, self.waiting = self.waiting, []
        for loss, guard, counter, x, y, draws, batch in waiting:
            value, right = float((loss if guard is None else guard).item()), counter()
            voided = not math.isfinite(value)  # the guard is the loss itself, but where a gradient was not finite
            value = float(loss.item()) if voided else value
            if not math.isfinite(value):
                self.display.close()
                raise explain(
                    self.model,
                    self.loss,
                    x,
                    y,
                    draws=draws,
                    epoch=p.epoch + 1,
                    batch=batch,
                    value=value,
                    since=p.batch - batch,
                )
            if voided:
                self._note_voided(x, y, draws, batch)
            p.correct = None if right is None or p.correct is None else p.correct + int(right)
            p.loss += value * len(x)
        if not waiting:
            return
        accuracy = None if p.correct is None else p.correct / p.seen
        self.display.step(p.seen, p.loss / p.seen, accuracy)
        for hook in self.hooks[1]:
            hook(
                {
                    "epoch": p.epoch + 1,
                    "batch": p.batch,
                    "step": p.step,
                    "loss": value,
                    "mean_loss": p.loss / p.seen,
                    "accuracy": accuracy,
                    "lr": self.optimizer.lr,
                }
            )

    def _note_voided(self, x: Any, y: Any, draws: dict[str, int], batch: int) -> None:
        """Warn of the epoch's first update that a gradient voided; count them all."""
        p = self.progress
        self.voided += 1
        if self.voided == 1:
            warnings.warn(
                explain_gradient(
                    self.model,
                    self.loss,
                    x,
                    y,
                    draws=draws,
                    epoch=p.epoch + 1,
                    batch=batch,
                    most=min(group.most for group in self.optimizer.groups),
                    since=p.batch - batch,
                ),
                NonFiniteWarning,
                stacklevel=2,
            )

    def _validate(self) -> dict[str, Any]:
        self.display.note("validation")
        measured = self.measure()
        self._interrupted()
        return measured

    def _interrupted(self) -> None:
        if self.interrupts.noticed:
            self.save()
            raise KeyboardInterrupt

    def _tick(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self.mark
        self.mark = now

    def _stops(self, row: dict[str, Any]) -> bool:
        """Early stopping: keeps the best weights; True where the patience is over."""
        if self.stopping is None:
            return False
        p, value = self.progress, row[self.stopping.monitor]
        if value is None:
            raise ValueError(
                f"fit: early stopping watches {self.stopping.monitor}, but there is none: the labels are "
                "no class numbers"
            )
        if self.stopping.improved(value, p.best):
            p.best, p.waited = value, 0
            if self.stopping.restore_best:
                self.best = self.model.state_dict()
        else:
            p.waited += 1
        return p.waited >= self.stopping.patience

    # ---- files ----------------------------------------------------------------------------------------------
    def save(self) -> None:
        """Write the checkpoint, if there is to be one."""
        if self.path is None:
            return
        self._read()
        if self.progress.batch:
            self._tick()
        weights, state = self.model.state_dict(), self.optimizer.state_dict()
        files.refuse_broken(self.path, self.model, weights, state)
        arrays = {
            **files.prefixed("model", weights),
            **files.prefixed("optimizer", state),
            **files.prefixed("best", self.best),
            **files.prefixed("last", self.last),
        }
        files.write(self.path, arrays, self._description())
        self.saved = True

    def _description(self) -> dict[str, Any]:
        """What the checkpoint holds beside the arrays: the settings that the run began with, and all that steps and
        callbacks have changed since."""
        now = settings.changing(self.model)
        return {
            "kind": "run",
            "model": files.describe(self.model),
            "settings": self.settings,
            "progress": vars(self.progress),
            "loader": self.first,
            "random": {"seed": random.state.seed, "steps": random.state.steps},
            "options": [
                {k: settings.text(v) for k, v in group.options.items() if k != "lr"} for group in self.optimizer.groups
            ],
            "evaluating": [name for name, module in self.model.named_modules() if not module.training],
            "changed": {
                name: {k: now[name][k] for k, v in held.items() if name in now and now[name].get(k, v) != v}
                for name, held in self.attributes.items()
            },
        }

    def resume(self) -> None:
        """Take up the run that the checkpoint holds, if there is one."""
        assert self.path is not None
        if not self.path.exists():
            return
        arrays, description = files.read(self.path)
        if description.get("kind") != "run":
            raise CheckpointError(f"{self.path}: holds a model, not a run to resume; tn.load gives the model")
        frozen = files.described(self.path, description)["frozen"]
        settings.refuse_others(self.path, description.get("settings"), self.settings, frozen)
        before = self.optimizer.state_dict()
        try:
            progress = Progress(**description["progress"])
            progress.check(self.loader)
            seed, steps, first = settings.counters(description)
            options = settings.options(self.optimizer, description["options"])
            changed = settings.changes(self.model, description["changed"], description["evaluating"])
            model, best, last = (files.part(name, arrays) for name in ("model", "best", "last"))
            if any(
                held and {k: w.shape for k, w in held.items()} != {k: w.shape for k, w in model.items()}
                for held in (best, last)
            ):
                raise ValueError("its best weights are not of the model")
            self.optimizer.load_state_dict(files.part("optimizer", arrays))
            files.restore(self.path, self.model, last or model)
        except Exception as error:  # anything may stand in a file
            self.optimizer.load_state_dict(before)
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{self.path}: cannot be resumed: {files.first_line(error)}") from error
        random.state.seed, random.state.steps = seed, steps
        for group, held in zip(self.optimizer.groups, options, strict=True):
            group.options.update(held)
        for module, name, value in changed:
            setattr(module, name, value)
        still = set(frozen)
        for name, p in self.model.named_parameters():
            if p.requires_grad == (name in still):
                p.requires_grad_(name not in still)
        self.progress, self.first, self.best = progress, first, best
        self.loader.set_epoch(first + progress.epoch)
        self.saved = True

    def _write_csv(self) -> None:
        if self.csv is None:
            return
        lines = [",".join(COLUMNS)]
        lines += [",".join("" if row[c] is None else repr(row[c]) for c in COLUMNS) for row in self.progress.history]
        with files.replacing(self.csv) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Interrupts:
    """Ctrl-C waits for the end of the step, so that no update is left half done; a second one does not wait."""

    noticed = False

    def __enter__(self) -> Interrupts:
        self.installed = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self.installed:
            signal.signal(signal.SIGINT, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        if self.installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _notice(self, number: int, frame: Any) -> None:
        self.noticed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _like_model(model: Module, y: np.ndarray) -> np.ndarray:
    """Targets that are floats, in the model's dtype: float64 ones would make the loss float64."""
    return y.astype(model.parameters()[0].dtype, copy=False) if y.dtype.kind == "f" else y
