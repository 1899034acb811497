"""The loop under `fit`: one run over the data, and its progress.

The run's state is a `Progress`, the weights, the optimiser's state and the random state; nothing else, so what a
checkpoint holds (see `record`) is enough to go on to the same bits.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import optim, parallel
from ..backends.cpu.threads import one_blas_thread
from ..data import Loader
from ..nested import mapped, samples
from ..nn.module import Module, restoring_modes
from ..ops import random
from ..parallel.trainer import Metric, Trainer
from ..saving import checkpoint as files
from ..tensor import Tensor
from . import record
from .evaluate import totals
from .nonfinite import NonFiniteWarning, explain, explain_gradient
from .progress import Display
from .stopping import STOP, EarlyStopping, Interrupts

MOST_WAITING = 32  # steps whose losses a device may keep


@dataclass
class Progress:
    """How far a run is: what, beside the arrays, a checkpoint must hold."""

    epoch: int = 0  # the current epoch, from 0
    batch: int = 0  # the next batch of this epoch
    step: int = 0  # the next step of the whole run
    seen: int = 0  # samples of this epoch so far; loss, sums and seconds are sums over them
    loss: float = 0.0
    sums: dict[str, float | None] = field(default_factory=dict)  # of the metrics; None where one does not apply
    seconds: float = 0.0
    best: float | None = None  # for early stopping: the best value, and the epochs since
    waited: int = 0
    stopped: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)

    def check(self, loader: Loader, names: list[str]) -> None:
        """ValueError where this is no place in a run over the loader's batches with these columns; it may come from
        anywhere."""
        sums = [n for n in self.sums.values() if n is not None] if isinstance(self.sums, dict) else [""]
        counts = (self.epoch, self.batch, self.step, self.seen, self.waited)
        numbers = [self.loss, self.seconds, 0 if self.best is None else self.best, *sums]
        rows: Any = self.history if isinstance(self.history, list) else [None]
        fine = all(isinstance(row, dict) and set(row) == set(names) for row in rows) and type(self.stopped) is bool
        fine = fine and set(self.sums) <= set(names)
        numbers += [value for row in rows * fine for value in row.values() if value is not None]
        fine = fine and all(type(n) is int and 0 <= n < 1 << 63 for n in counts)
        fine = fine and all(type(n) is float or (type(n) is int and abs(n) < 1 << 63) for n in numbers)
        if fine and loader.samples is not None:
            fine = self.step == self.epoch * len(loader) + self.batch
            fine = fine and self.seen == min(self.batch * loader.batch_size, loader.samples)
        if not fine or len(rows) != self.epoch:
            raise ValueError("its progress makes no sense")

    def add(self, loss: float, sums: Mapping[str, float | None], count: int) -> None:
        """Add a step: its mean loss, and its metrics' sums over `count` samples."""
        self.loss += loss * count
        for name, value in sums.items():
            before = self.sums.get(name, 0.0)
            self.sums[name] = None if value is None or before is None else before + value

    def means(self) -> dict[str, float | None]:
        """The metrics of the epoch so far."""
        return {name: None if value is None else float(value / self.seen) for name, value in self.sums.items()}

    def next_epoch(self) -> None:
        self.epoch += 1
        self.batch = self.seen = 0
        self.loss = self.seconds = 0.0
        self.sums = {}


class Step(NamedTuple):
    """A step whose loss was not read yet."""

    loss: Tensor
    guard: Tensor | None  # what voided the update, where that is not finite
    counter: Callable[[], dict[str, float | None]]  # the metrics' sums
    x: Any
    y: Any
    draws: dict[str, int]  # the random state before
    batch: int  # its number in the epoch, from 1


@dataclass(kw_only=True)
class Run:
    """One call of `fit`."""

    model: Module
    optimizer: optim.Optimizer
    loss: Callable
    metrics: Mapping[str, Metric]
    loader: Loader
    held_out: Loader | None
    epochs: int
    at_epochs: list[Callable]
    at_steps: list[Callable]
    stopping: EarlyStopping | None
    schedule: Callable[[int], float] | None
    attack: Callable[[Module, Any, Any], Any] | None
    display: Display
    path: Path | None  # of the checkpoint, and after how many steps it is written
    every: int | None
    csv: Path | None

    trainer: Trainer = field(init=False)
    interrupts: Interrupts = field(init=False, default_factory=Interrupts)
    progress: Progress = field(init=False, default_factory=Progress)
    best_weights: files.Arrays = field(init=False, default_factory=dict)  # the best epoch's, for early stopping
    last_weights: files.Arrays = field(init=False, default_factory=dict)  # once the model has been given the best ones
    first_epoch: int = field(init=False)  # the loader's epoch at which this run began
    rates: list[float] = field(init=False)  # the groups' learning rates at the beginning
    settings: dict[str, Any] = field(init=False, default_factory=dict)  # what the checkpoint is compared by
    attributes: dict[str, Any] = field(init=False, default_factory=dict)  # the modules', at the beginning
    saved: bool = field(init=False, default=False)
    waiting: list[Step] = field(init=False, default_factory=list)
    voided: int = field(init=False, default=0)  # updates of this epoch that a gradient voided
    dtype: np.dtype = field(init=False)  # the model's
    lazy: bool = field(init=False)  # the model is on a device: to read is to wait for it
    mark: float = field(init=False, default=0.0)  # when the seconds of the epoch were last added up

    def __post_init__(self) -> None:
        self.first_epoch = self.loader.epoch
        self.rates = [float(group.options["lr"]) for group in self.optimizer.groups]
        weight = self.model.parameters()[0]
        self.dtype, self.lazy = weight.dtype, hasattr(weight.backend, "ahead")

    def columns(self) -> list[str]:
        """The history's columns."""
        measured = [start + name for start in ("", "val_") for name in ("loss", *self.metrics)]
        return ["epoch", *measured, "lr", "seconds", "images_per_second"]

    def go(self, *, workers: int | str, clip_norm: float | None, accumulate: int, resume: bool) -> list[dict[str, Any]]:
        """The whole run, from the checkpoint on where it shall be resumed; returns the history. Modules are then in the
        modes in which they were."""
        options: dict[str, Any] = {"workers": workers, "clip_norm": clip_norm, "accumulate": accumulate}
        options["metrics"] = self.metrics
        try:
            with (
                self.interrupts,
                restoring_modes(self.model),
                one_blas_thread() as calmed,
                parallel.trainer(self.model, self.optimizer, self.loss, **options) as self.trainer,
            ):
                if noted := self.trainer.note:
                    self.display.line(noted)
                if calmed and self.trainer.workers == 1 and not self.lazy:
                    self.display.line('one process with one thread for matrix products; workers="auto": all cores')
                record.begin(self)
                if resume:
                    record.resume(self)
                    for row in self.progress.history if hasattr(self.schedule, "on_epoch_end") else ():
                        self.schedule.on_epoch_end(row)  # type: ignore[union-attr]
                self.train()
                if self.trainer.note != noted:
                    self.display.line(str(self.trainer.note))
            self.finish()
            return self.progress.history
        finally:
            self.display.close()

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
        if self.best_weights:
            self.last_weights = self.model.state_dict()
            self.model.load_state_dict(self.best_weights)
        if self.best_weights or not self.saved:
            self.save()
        self._write_csv()

    def save(self) -> None:
        """Write the checkpoint, if there is to be one."""
        if self.path is None:
            return
        self._read()
        if self.progress.batch:
            self._tick()
        record.save(self)
        self.saved = True

    # ---- an epoch -------------------------------------------------------------------------------------------
    def _epoch(self) -> None:
        p = self.progress
        self.display.start(p.epoch, p.seen)
        if not p.batch:  # else the run was taken up amid an epoch, whose modes are those of the checkpoint
            self.model.train()
        self.mark = time.perf_counter()
        with contextlib.closing(self.loader.iterate(self.first_epoch + p.epoch, p.batch)) as batches:  # type: ignore[type-var]
            for x, y in self._moved(batches):
                self._step(x, y)
                self._interrupted()
        self._read()
        self._tick()
        row = self._row(self._validate())
        stop = [hook(dict(row)) == STOP for hook in self.at_epochs]  # a list: each of them is called
        p.history.append(row)
        p.stopped = self._stops(row) or any(stop)
        p.next_epoch()
        self.loader.set_epoch(self.first_epoch + p.epoch)
        self._write_csv()
        self.display.end(row)
        if self.voided:
            self.display.line(f"{self.voided} updates of this epoch were voided by gradients that were not finite")
            self.voided = 0

    def _row(self, measured: dict[str, Any]) -> dict[str, Any]:
        """The epoch's row of the history."""
        p = self.progress
        values = {"loss": p.loss / p.seen, **p.means(), **{f"val_{name}": value for name, value in measured.items()}}
        values |= {"lr": self.optimizer.lr, "seconds": p.seconds, "images_per_second": p.seen / max(p.seconds, 1e-9)}
        row: dict[str, Any] = {name: values.get(name) for name in self.columns()}
        return {name: None if value is None else float(value) for name, value in row.items()} | {"epoch": p.epoch + 1}

    def _moved(self, batches: Iterator) -> Iterator:
        """The batches, on a device ahead of the step where the model is on one and takes one array."""
        be: Any = self.model.parameters()[0].backend
        if not self.lazy or not isinstance(self.loader.sample()[0], np.ndarray):
            return batches
        return ((Tensor(x, be), y) for x, y in be.ahead((self._like_model(x), y) for x, y in batches))

    def _step(self, x: Any, y: Any) -> None:
        p, y = self.progress, self._like_model(y)
        if self.attack is not None:
            x = self.attack(self.model, x, y)
        draws = dict(random.state.steps)
        if self.schedule is not None:
            self._scale_rates(self.schedule(p.step))
        loss = self.trainer(x, y)
        p.seen, p.batch, p.step = p.seen + samples(x), p.batch + 1, p.step + 1
        self.waiting.append(Step(loss, self.optimizer.guard, self.trainer.counter(), x, y, draws, p.batch))
        if not self.lazy or self.at_steps or len(self.waiting) == MOST_WAITING or self.display.due():
            self._read()
        if self.every and p.step % self.every == 0:
            self.save()

    def _like_model(self, value: Any) -> Any:
        """Arrays of floats, in the model's dtype: float64 targets would make the loss float64."""
        return mapped(lambda a: a.astype(self.dtype, copy=False) if a.dtype.kind == "f" else a, value)

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
        for step in waiting:
            value, sums = float((step.loss if step.guard is None else step.guard).item()), step.counter()
            voided = not math.isfinite(value)  # the guard is the loss itself, but where a gradient was not finite
            value = float(step.loss.item()) if voided else value
            if not math.isfinite(value):
                self.display.close()
                raise explain(self.model, self.loss, step.x, step.y, value=value, **self._place(step))
            if voided:
                self._note_voided(step)
            p.add(value, sums, samples(step.x))
        if not waiting:
            return
        means = p.means()
        self.display.step(p.seen, {"loss": p.loss / p.seen, **means})
        for hook in self.at_steps:
            hook(
                {
                    "epoch": p.epoch + 1,
                    "batch": p.batch,
                    "step": p.step,
                    "loss": value,
                    "mean_loss": p.loss / p.seen,
                    **means,
                    "lr": self.optimizer.lr,
                }
            )

    def _place(self, step: Step) -> dict[str, Any]:
        """Where in the run a step was, for an explanation."""
        p = self.progress
        return {"draws": step.draws, "epoch": p.epoch + 1, "batch": step.batch, "since": p.batch - step.batch}

    def _note_voided(self, step: Step) -> None:
        """Warn of the epoch's first update that a gradient voided; count them all."""
        self.voided += 1
        if self.voided == 1:
            most = min(group.most for group in self.optimizer.groups)
            text = explain_gradient(self.model, self.loss, step.x, step.y, most=most, **self._place(step))
            warnings.warn(text, NonFiniteWarning, stacklevel=2)

    def _validate(self) -> dict[str, Any]:
        """The loss and the metrics of the validation data, {} where there are none."""
        self.display.note("validation")
        measured = {} if self.held_out is None else totals(self.held_out, self.metrics, self.trainer.evaluate)
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
                f"fit: early stopping watches {self.stopping.monitor}, but there is none: it does not apply to these "
                "outputs and y"
            )
        if self.stopping.improved(value, p.best):
            p.best, p.waited = value, 0
            if self.stopping.restore_best:
                self.best_weights = self.model.state_dict()
        else:
            p.waited += 1
        return p.waited >= self.stopping.patience

    def _write_csv(self) -> None:
        if self.csv is None:
            return
        names, rows = self.columns(), self.progress.history
        lines = [",".join(names), *(",".join("" if row[c] is None else repr(row[c]) for c in names) for row in rows)]
        with files.replacing(self.csv) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
