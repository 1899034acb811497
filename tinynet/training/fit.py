"""Training: `fit` goes through the data, `evaluate` measures, and a run that is killed goes on where it was.

>>> history = tn.fit(model, (x, y), validation=(x_val, y_val), epochs=5, checkpoint="run.safetensors", resume=True)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import optim, parallel
from ..data import Loader
from ..integers import count
from ..nn.module import Module
from ..ops import random
from ..ops.loss import softmax_cross_entropy
from ..saving import architecture
from ..saving.atomic import check_writable
from ..tensor import Tensor
from .nonfinite import NonFiniteError, NonFiniteWarning
from .progress import Display
from .run import STOP, EarlyStopping, Interrupts, Run

__all__ = ["STOP", "EarlyStopping", "NonFiniteError", "NonFiniteWarning", "evaluate", "fit", "outputs"]


def fit(
    model: Module,
    train: Any,
    *extra: Any,
    validation: Any = None,
    epochs: int = 1,
    batch_size: int = 64,
    optimizer: Any = "adam",
    lr: float | None = None,
    loss: Callable = softmax_cross_entropy,
    workers: int | str = 1,
    callbacks: Iterable[Any] = (),
    seed: int | None = None,
    early_stopping: int | EarlyStopping | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    clip_norm: float | None = None,
    schedule: Callable[[int], float] | None = None,
    csv: str | os.PathLike[str] | None = None,
    verbose: bool = True,
) -> list[dict[str, Any]]:
    """Train a model.

    Args:
        train: arrays (x, y), x (N, …), y (N,) class numbers or what `loss` takes; or a Loader, which brings its own
            batch size and seed.
        validation: (x, y) or a Loader, measured after each epoch (by all workers).
        optimizer: "adam", "sgd", "adamw", "rmsprop", "adagrad", a function of the parameters, or an Optimizer.
        lr: the learning rate; by default the optimiser's own.
        loss: function (outputs, y) -> 0-d Tensor, the mean over the batch.
        workers: processes that share each batch, or "auto".
        callbacks: functions of the epoch's row, or objects with `on_epoch_end(row)`, `on_step_end(info)` or both;
            a callback that returns STOP from the end of an epoch ends the training.
        seed: of the order of the samples; by default that of `tn.seed`.
        early_stopping: a patience in epochs, or an EarlyStopping.
        checkpoint: a file, written atomically after each epoch, after each `checkpoint_every` steps, and at Ctrl-C.
        resume: go on from the checkpoint where there is one, to the very bits of an uninterrupted run. What callbacks
            changed (frozen parameters, rates, train or eval mode, numbers in layers) goes on, too; what they keep
            themselves does not. Refused where the model's settings, the data, the loss, the schedule or anything else
            that the bits depend on is another; what cannot be compared is named in a warning.
        clip_norm: the largest joint norm of the gradients; larger ones are scaled down.
        schedule: the factor of the learning rate at each step, from the step's number: see `optim.schedules`.
        csv: a file for the history.
        verbose: show a progress bar (plain lines where standard output is no terminal).
    Returns: the history, a dict an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy, lr, seconds (of
        training, without validation), images_per_second; None where there is no such thing.
    Raises: NonFiniteError where the loss is not finite: it names the step and the layer. Where only a gradient is not,
        its update is voided and training goes on; a NonFiniteWarning, the first time in an epoch, names the parameter
        and the operation. CheckpointError where a checkpoint is damaged or was made under other settings, or where
        weights are not finite: it is then left as it was; KeyboardInterrupt at Ctrl-C, after the step and the
        checkpoint (a second Ctrl-C does not wait).
    """
    _check("fit", model, extra)
    if not callable(loss):
        raise TypeError(f"fit: loss={loss!r:.60} must be a function (outputs, y) -> 0-d Tensor, such as ops.mse")
    if schedule is not None and not callable(schedule):
        raise TypeError(f"fit: schedule={schedule!r:.60} must be a function of the step's number; see optim.schedules")
    loader = _loader("fit: train", train, batch_size, random.state.seed % 2**64 if seed is None else seed)
    held_out = None if validation is None else _loader("fit: validation", validation, 256, None)
    epochs = count("fit", "epochs", epochs, 0)
    if checkpoint_every is not None:
        checkpoint_every = count("fit", "checkpoint_every", checkpoint_every, 1)
    if checkpoint is None and (resume or checkpoint_every):
        raise ValueError("fit: resume and checkpoint_every need checkpoint=, the file to go on from")
    checkpoint, csv = _file("checkpoint", checkpoint), _file("csv", csv)
    if checkpoint is not None and csv is not None and checkpoint.resolve() == csv.resolve():
        raise ValueError(f"fit: checkpoint and csv are the same file, {os.fspath(csv)!r}")
    stopping = _early_stopping(early_stopping, held_out)
    hooks = _hooks(callbacks)
    if model.built is None or model.unbuilt():
        model.build(loader.x.shape[1:])
    _check_outputs(model, loader, held_out, stopping)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("fit: there is nothing to train: every parameter is frozen; see model.unfreeze()")
    chosen, ours = _optimizer(optimizer, lr, model)
    modes = {m: m.training for m in model.modules()}
    display = Display(epochs, loader.samples, verbose=verbose)

    try:
        with (
            Interrupts() as interrupts,
            parallel.trainer(model, chosen, loss, workers=workers, clip_norm=clip_norm) as step,
        ):
            if noted := step.note:
                display.line(noted)

            def measure() -> dict[str, Any]:
                return {} if held_out is None else _totals(held_out, step.evaluate)

            run = Run(
                model,
                chosen,
                loss,
                loader,
                measure,
                epochs,
                hooks,
                stopping,
                display,
                schedule,
                step,
                interrupts,
                checkpoint,
                checkpoint_every,
                csv,
                held_out,
            )
            if resume:
                run.resume()
            run.train()
            if step.note != noted:
                display.line(str(step.note))
        run.finish()
        return run.progress.history
    finally:
        display.close()
        for module, mode in modes.items():
            module.training = mode
        if ours:
            for p in model.parameters():  # a traceback may keep the optimiser alive; the model is free again
                p.owner = None


def evaluate(
    model: Module, data: Any, *extra: Any, batch_size: int = 256, loss: Callable = softmax_cross_entropy
) -> dict[str, Any]:
    """The mean loss and the accuracy of a model, dropout off.

    Args: data: arrays (x, y), or a Loader. loss: function (outputs, y) -> the batch's mean.
    Returns: {"loss": float, "accuracy": float}; accuracy is None where y holds no class numbers.
    """
    _check("evaluate", model, extra)
    loader = _loader("evaluate: data", data, batch_size, None)
    return _totals(loader, lambda x, y: parallel.measured(model, loss, x, y))


def _totals(loader: Loader, measure: Callable) -> dict[str, Any]:
    """`evaluate`'s result, from measure(x, y) -> (mean loss, number right or None) of each batch."""
    total, seen, right = 0.0, 0, []
    with contextlib.closing(loader.iterate(0)) as batches:  # type: ignore[type-var]
        for x, y in batches:
            loss, count = measure(x, y)
            total += loss * len(y)
            seen += len(y)
            right.append(count)
    counts = [n for n in right if n is not None]
    return {"loss": total / seen, "accuracy": sum(counts) / seen if len(counts) == len(right) else None}


def outputs(model: Module, data: Any, *, batch_size: int = 256) -> Iterator[tuple[Tensor, np.ndarray]]:
    """(the model's output, y) for each batch of `data`, dropout off; the model's modes are left as they were."""
    loader = _loader("evaluate: data", data, batch_size, None)
    with contextlib.closing(loader.iterate(0)) as batches:  # type: ignore[type-var]
        for x, y in batches:
            with parallel.evaluating(model):
                out = model(x)
            yield out, y


# ---- what fit is given ------------------------------------------------------------------------------------


def _check(name: str, model: Any, extra: tuple) -> None:
    """Raise TypeError for what is no model, and for x and y that are no pair."""
    if not isinstance(model, Module):
        hint = "; call what makes the model first" if callable(model) else ""
        raise TypeError(f"{name}: the model is a {type(model).__name__}, not a Module{hint}")
    if extra:
        raise TypeError(f"{name}: the data are one argument, as in tn.{name}(model, (x, y)); all else is named")


def _file(name: str, path: str | os.PathLike[str] | None) -> Path | None:
    """The path of a file that will be written; it is tried now, as an epoch later would be too late to fail."""
    if path is None:
        return None
    if Path(path).is_dir():
        raise IsADirectoryError(f"fit: {name}={os.fspath(path)!r} is a folder; name a file in it")
    check_writable(path)
    return Path(path)


def _loader(what: str, data: Any, batch_size: int, seed: int | None) -> Loader:
    """The data as a Loader: arrays (x, y) are shuffled where there is a seed."""
    if isinstance(data, Loader):
        return data
    if not isinstance(data, tuple | list) or len(data) != 2 or hasattr(data, "train"):
        hint = "; take one part, as in (x_train, y_train), _ = mnist()" if isinstance(data, tuple | list) else ""
        raise TypeError(f"{what} is a {type(data).__name__}; it must be a pair of arrays (x, y), or a Loader{hint}")
    x, y = (part.numpy() if isinstance(part, Tensor) else part for part in data)
    return Loader(x, y, batch_size=batch_size, shuffle=seed is not None, seed=seed or 0)


def _optimizer(given: Any, lr: float | None, model: Module) -> tuple[optim.Optimizer, bool]:
    """The optimiser, and whether it was made here."""
    if isinstance(given, optim.Optimizer):
        if lr is not None:
            given.lr = lr
        parallel.check_moves("fit", given, model)
        return given, False
    if isinstance(given, str):
        if given not in optim.OPTIMIZERS:
            raise ValueError(
                f"fit: optimizer {given!r} is unknown; choose one of {', '.join(optim.OPTIMIZERS)}, or "
                "pass an Optimizer"
            )
        given = optim.OPTIMIZERS[given]
    made = given(model.parameters()) if lr is None else given(model.parameters(), lr=lr)
    if not isinstance(made, optim.Optimizer):
        raise TypeError(f"fit: optimizer= gave a {type(made).__name__}, not an Optimizer")
    return made, True


def _early_stopping(given: int | EarlyStopping | None, validation: Loader | None) -> EarlyStopping | None:
    if given is None or given is False:
        return None
    stopping = given if isinstance(given, EarlyStopping) else EarlyStopping() if given is True else EarlyStopping(given)
    if stopping.monitor.startswith("val") and validation is None:
        raise ValueError(
            f'fit: early stopping watches {stopping.monitor}; pass validation=(x, y), or EarlyStopping(monitor="loss")'
        )
    return stopping


def _check_outputs(model: Module, train: Loader, validation: Loader | None, stopping: EarlyStopping | None) -> None:
    """Raise ValueError now for what would fail at the end of an epoch: validation data that the model does not take,
    and early stopping by an accuracy that there will not be."""
    size = model.output_shape
    if validation is not None and architecture.known(model):
        try:
            size = model.output_size(validation.x.shape[1:])
        except ValueError as error:
            raise ValueError(
                f"fit: validation has x of shape {validation.x.shape}, which the model does not take: {error}"
            ) from None
    if stopping is not None and stopping.monitor.endswith("accuracy"):
        loader: Any = train if stopping.monitor == "accuracy" else validation
        classes = size is None or (len(size) == 1 and size[0] > 1)
        if loader.y.ndim != 1 or loader.y.dtype.kind not in "iu" or not classes:
            raise ValueError(
                f"fit: early stopping watches {stopping.monitor}, but there is none: the labels are no "
                "class numbers (N,), or the outputs no logits (N, K)"
            )


def _hooks(callbacks: Iterable[Any]) -> tuple[list[Callable], list[Callable]]:
    """The functions to call after each epoch, and those after each step."""
    epoch: list[Callable] = []
    step: list[Callable] = []
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"fit: callbacks={callbacks!r:.60} must be a list of them")
    for callback in callbacks:
        at_epoch, at_step = getattr(callback, "on_epoch_end", None), getattr(callback, "on_step_end", None)
        if at_epoch is None and at_step is None:
            if not callable(callback) or isinstance(callback, type):
                raise TypeError(
                    f"fit: the callback {callback!r:.60} must be a function of the epoch's row, or an "
                    "object with on_epoch_end(row) or on_step_end(info)"
                )
            at_epoch = callback
        if at_epoch is not None:
            epoch.append(at_epoch)
        if at_step is not None:
            step.append(at_step)
    return epoch, step
