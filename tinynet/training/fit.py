"""Training: `fit` goes through the data, and a run that is killed goes on where it was.

>>> history = tn.fit(model, (x, y), validation=(x_val, y_val), epochs=5, checkpoint="run.safetensors", resume=True)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from ..hints import explained
from ..integers import count
from ..nn import advice
from ..nn.module import Module
from ..ops.loss import softmax_cross_entropy
from . import arguments
from .evaluate import evaluate, outputs, predict, remember
from .metrics import chosen
from .nonfinite import NonFiniteError, NonFiniteWarning
from .progress import Display
from .run import Run
from .stopping import STOP, EarlyStopping

__all__ = ["STOP", "EarlyStopping", "NonFiniteError", "NonFiniteWarning", "evaluate", "fit", "outputs", "predict"]


@explained
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
    metrics: Any = None,
    workers: int | str = 1,
    callbacks: Iterable[Any] = (),
    seed: int | None = None,
    early_stopping: int | EarlyStopping | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    clip_norm: float | None = None,
    accumulate: int = 1,
    augment: Any = None,
    schedule: Callable[[int], float] | None = None,
    attack: Callable[[Module, Any, Any], Any] | None = None,
    csv: str | os.PathLike[str] | None = None,
    verbose: bool = True,
) -> list[dict[str, Any]]:
    """Train a model.

    Args:
        train: arrays (x, y), x (N, …), y (N, …) class numbers or what `loss` takes; for a model of several inputs, x is
            a tuple (`model(*x)`) or a dict (`model(**x)`) of arrays; y may be such, too, or None. Or a Loader, which
            brings its own batch size and seed; a dataset with `__len__` and `__getitem__`; an iterable of batches.
        validation: (x, y), a Loader or what else train may be, measured after each epoch (by all workers); or the share
            of the training arrays that is set apart for it, such as 0.1: see `data.split`.
        optimizer: "adam", "sgd", "adamw", "rmsprop", "adagrad", a function of the parameters, or an Optimizer.
        lr: the learning rate; by default the optimiser's own.
        loss: function (outputs, y) -> 0-d Tensor, the mean over the batch. `evaluate` remembers it.
        metrics: names ("accuracy", "binary_accuracy", "top_5", "mse", "mae"), functions (outputs, y), a list of both,
            or a dict: see `training.metrics`. By default the accuracy where y are classes.
        workers: processes that share each batch, or "auto".
        callbacks: functions of the epoch's row, or objects with `on_epoch_end(row)`, `on_step_end(info)` or both;
            a callback that returns STOP from the end of an epoch ends the training. An object's `on_begin(model)` is
            called before the first step, its `on_end()` when fit is left, however that is.
        seed: of the order of the samples; by default that of `tn.seed`.
        early_stopping: a patience in epochs, or an EarlyStopping.
        checkpoint: a file, written atomically after each epoch, after each `checkpoint_every` steps, and at Ctrl-C.
        resume: go on from the checkpoint where there is one, to the very bits of an uninterrupted run. What callbacks
            changed (frozen parameters, rates, train or eval mode, numbers in layers) goes on, too; what they keep
            themselves does not. Refused where the model's settings, the data, the loss, the schedule or anything else
            that the bits depend on is another; what cannot be compared is named in a warning.
        clip_norm: the largest joint norm of the gradients; larger ones are scaled down.
        accumulate: batches of `batch_size` samples that make one step: their gradients are added up, in the memory of
            one. A Loader's batches are the steps', each computed in so many parts.
        augment: what changes each training batch, such as data.random_flip(), in the thread that prepares it; a Loader
            brings its own.
        schedule: the factor of the learning rate at each step, from the step's number: see `optim.schedules`.
        attack: a function (model, x, y) -> x that changes each batch before its step, for adversarial training, such as
            `functools.partial(tn.insight.fgsm, eps=0.1)`; this process makes the examples for all workers.
        csv: a file for the history.
        verbose: show a progress bar (plain lines where standard output is no terminal and no notebook).
    Returns: the history, a dict an epoch: epoch (from 1), loss, a column for each metric, val_loss, val_ of each
        metric, lr, seconds (of training, without validation), images_per_second; None where there is no such thing.
    Raises: NonFiniteError where the loss is not finite: it names the step and the layer. Where only a gradient is not,
        its update is voided and training goes on; a NonFiniteWarning, the first time in an epoch, names the parameter
        and the operation. CheckpointError where a checkpoint is damaged or was made under other settings, or where
        weights are not finite: it is then left as it was; KeyboardInterrupt at Ctrl-C, after the step and the
        checkpoint (a second Ctrl-C does not wait).
    """
    arguments.check_model("fit", model, extra)
    arguments.check_functions(loss, schedule, attack)
    measures = chosen(metrics, loss)
    accumulate = count("fit", "accumulate", accumulate, 1)
    loader, held_out = arguments.loaders(
        train, validation, batch_size if accumulate == 1 else batch_size * accumulate, seed, augment
    )
    epochs = count("fit", "epochs", epochs, 0)
    path, every, history = arguments.files(checkpoint, checkpoint_every, resume, csv)
    stopping = arguments.as_stopping(early_stopping, measures, held_out)
    at_epochs, at_steps, called = arguments.as_hooks(callbacks, schedule)
    arguments.build(model, loader)
    advice.check_loss(model, loss)
    arguments.check_outputs(model, loader, held_out, measures, stopping, metrics is not None)
    remember(model, loss)
    with arguments.begun(called, model):
        return Run(
            model=model,
            optimizer=arguments.as_optimizer(optimizer, lr, model),
            loss=loss,
            metrics=measures,
            loader=loader,
            held_out=held_out,
            epochs=epochs,
            at_epochs=at_epochs,
            at_steps=at_steps,
            stopping=stopping,
            schedule=schedule,
            attack=attack,
            display=Display(epochs, loader.samples, unit=arguments.unit(model), verbose=verbose),
            path=path,
            every=every,
            csv=history,
        ).go(workers=workers, clip_norm=clip_norm, accumulate=accumulate, resume=resume)
