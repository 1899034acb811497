"""What `fit`, `evaluate` and `predict` are given, checked at the door and made one kind of thing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from .. import optim, parallel
from ..data import Loader, split
from ..integers import count
from ..nested import shapes
from ..nn import advice, door
from ..nn.module import Module
from ..ops import random
from ..saving import architecture
from ..saving.atomic import check_writable
from ..tensor import Tensor
from .metrics import Metric
from .stopping import EarlyStopping


def check_model(name: str, model: Any, extra: tuple) -> None:
    """Raise TypeError for what is no model, and for x and y that are no pair."""
    if not isinstance(model, Module):
        hint = "; call what makes the model first" if callable(model) else ""
        raise TypeError(f"{name}: the model is a {type(model).__name__}, not a Module{hint}")
    if extra:
        raise TypeError(f"{name}: the data are one argument, as in tn.{name}(model, (x, y)); all else is named")


def check_functions(loss: Any, schedule: Any, attack: Any = None) -> None:
    if not callable(loss):
        raise TypeError(f"fit: loss={loss!r:.60} must be a function (outputs, y) -> 0-d Tensor, such as ops.mse")
    if schedule is not None and not callable(schedule):
        raise TypeError(f"fit: schedule={schedule!r:.60} must be a function of the step's number; see optim.schedules")
    if attack is not None and not callable(attack):
        raise TypeError(f"fit: attack={attack!r:.60} must be a function (model, x, y) -> x; see tn.insight.fgsm")


# ---- data -------------------------------------------------------------------------------------------------------


def loaders(
    train: Any, validation: Any, batch_size: int, seed: int | None, augment: Any = None
) -> tuple[Loader, Loader | None]:
    """The training data and the validation data. Of a share such as validation=0.1, the latter is cut from the former:
    with the same shares of the classes, where y are class numbers."""
    seed = random.state.seed % 2**64 if seed is None else seed
    if isinstance(validation, Real) and not isinstance(validation, bool):
        if isinstance(train, Loader) or not is_pair(train):
            raise TypeError(
                f"fit: validation={validation} is a share of arrays (x, y), but train is a {type(train).__name__}; "
                "pass validation=(x, y) or a Loader, see tn.data.split"
            )
        y = np.asarray(train[1]) if not isinstance(train[1], tuple | dict | type(None)) else None
        classes = y is not None and y.dtype.kind in "iu" and y.ndim == 1
        train, validation = split(train[0], train[1], float(validation), stratify=classes, seed=seed)
    if augment is not None and isinstance(train, Loader):
        raise TypeError("fit: train is a Loader, which brings its own augment=; pass it there: Loader(x, y, augment=…)")
    loader = as_loader("fit: train", train, batch_size, seed, augment)
    return loader, None if validation is None else as_loader("fit: validation", validation, 256, None)


def is_pair(data: Any) -> bool:
    """Whether it is a pair (x, y) of arrays; a whole dataset, of training and test data, is not, nor a list of two
    batches."""
    if isinstance(data, list) and all(isinstance(batch, tuple) for batch in data):
        return False
    return isinstance(data, tuple | list) and len(data) == 2 and not hasattr(data, "train")


def as_loader(what: str, data: Any, batch_size: int, seed: int | None, augment: Any = None) -> Loader:
    """The data as a Loader: what is none is shuffled where there is a seed."""
    if isinstance(data, Loader):
        return data
    options: dict[str, Any] = {"batch_size": batch_size, "shuffle": seed is not None, "seed": seed or 0}
    options["augment"] = augment
    if is_pair(data):
        return Loader(*data, **options)
    arrays = isinstance(data, tuple | list | dict | Tensor) or hasattr(data, "__array__")
    makes = callable(data) or hasattr(data, "__getitem__") or isinstance(data, Iterable)
    if arrays or not makes or isinstance(data, str):
        hint = "; take one part, as in (x_train, y_train), _ = mnist()" if isinstance(data, tuple | list) else ""
        hint = "; of a list of batches make a function: lambda: batches" if isinstance(data, list) else hint
        raise TypeError(
            f"{what} is a {type(data).__name__}; it must be a pair of arrays (x, y), a Loader, a dataset with __len__ "
            f"and __getitem__, or an iterable of batches{hint}"
        )
    return Loader(data, **options)


def build(model: Module, loader: Loader) -> None:
    """Give a model the sizes of the loader's samples, where it has none yet; a warning for images as bytes."""
    if model.built is None or model.unbuilt():
        door.build(model, loader.sample()[0])
    advice.check_pixels(model, getattr(loader, "x", None))


def unit(model: Module) -> str:
    """What the progress counts: a network that reads integers sees no images."""
    return "images" if np.dtype(model.input_dtype or np.float32).kind == "f" else "samples"


# ---- the optimiser ----------------------------------------------------------------------------------------------


def as_optimizer(given: Any, lr: float | None, model: Module) -> optim.Optimizer:
    """The optimiser; a model's new one takes the place of any other."""
    if isinstance(given, optim.Optimizer):
        if lr is not None:
            if len(rates := sorted({group.lr for group in given.groups})) > 1:
                raise ValueError(
                    f"fit: lr={lr} would be the rate of all of the optimizer's groups, which have {rates}; "
                    "leave lr= out, or give the groups other rates"
                )
            given.lr = lr
        parallel.check_moves("fit", given, model)
        return given
    if isinstance(given, str):
        if given not in optim.OPTIMIZERS:
            raise ValueError(
                f"fit: optimizer {given!r} is unknown; choose one of {', '.join(optim.OPTIMIZERS)}, or "
                "pass an Optimizer"
            )
        given = optim.OPTIMIZERS[given]
    made = given(model.parameters()) if lr is None else given(model.parameters(), lr=lr)
    if not isinstance(made, optim.Optimizer):
        raise TypeError(f"fit: optimizer= returned a {type(made).__name__}, not an Optimizer")
    return made


# ---- files ------------------------------------------------------------------------------------------------------


def files(checkpoint: Any, every: int | None, resume: bool, csv: Any) -> tuple[Path | None, int | None, Path | None]:
    """The checkpoint's path, after how many steps it is written, and the path of the history."""
    if every is not None:
        every = count("fit", "checkpoint_every", every, 1)
    if checkpoint is None and (resume or every):
        raise ValueError("fit: resume and checkpoint_every need checkpoint=, the file to go on from")
    checkpoint, csv = _file("checkpoint", checkpoint), _file("csv", csv)
    if checkpoint is not None and csv is not None and checkpoint.resolve() == csv.resolve():
        raise ValueError(f"fit: checkpoint and csv are the same file, {os.fspath(csv)!r}")
    return checkpoint, every, csv


def _file(name: str, path: str | os.PathLike[str] | None) -> Path | None:
    """The path of a file that will be written; it is tried now, as an epoch later would be too late to fail."""
    if path is None:
        return None
    if Path(path).is_dir():
        raise IsADirectoryError(f"fit: {name}={os.fspath(path)!r} is a folder; name a file in it")
    check_writable(path)
    return Path(path)


# ---- what is measured -------------------------------------------------------------------------------------------


def as_stopping(
    given: int | EarlyStopping | None, metrics: Mapping[str, Metric], validation: Loader | None
) -> EarlyStopping | None:
    """The early stopping that is asked for; it watches a column of the history that there is."""
    if given is None or given is False:
        return None
    stopping = given if isinstance(given, EarlyStopping) else EarlyStopping() if given is True else EarlyStopping(given)
    known = [start + name for start in ("", "val_") for name in ("loss", *metrics)]
    if stopping.monitor not in known:
        raise ValueError(f"fit: early stopping watches {stopping.monitor!r}; there are {', '.join(known)}")
    if stopping.monitor.startswith("val_") and validation is None:
        raise ValueError(
            f'fit: early stopping watches {stopping.monitor}; pass validation=(x, y), or EarlyStopping(monitor="loss")'
        )
    if stopping.highest is None:
        raise ValueError(
            f'fit: early stopping watches {stopping.monitor}; say whether it shall rise: EarlyStopping(mode="max") or '
            '"min"'
        )
    return stopping


def check_outputs(
    model: Module,
    train: Loader,
    validation: Loader | None,
    metrics: Mapping[str, Metric],
    stopping: EarlyStopping | None,
    asked: bool,
) -> None:
    """Raise ValueError now for what would fail later: a model without anything to train, validation data that it does
    not take, metrics that early stopping watches, or that were `asked` for, and that do not apply."""
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("fit: there is nothing to train: every parameter is frozen; see model.unfreeze()")
    if validation is not None and architecture.known(model):
        x, _ = validation.sample()
        try:
            if isinstance(x, np.ndarray):
                model.output_size(x.shape[1:])
        except ValueError as error:
            shape = (validation.source.count or "N", *x.shape[1:])
            raise ValueError(
                f"fit: validation has x of shape {shape}, which the model does not take: {error}"
            ) from None
    watched = "" if stopping is None else stopping.monitor
    if not asked and watched.removeprefix("val_") not in metrics:
        return
    for loader in [train] if validation is None else [train, validation]:
        x, y = loader.sample()
        with parallel.evaluating(model):
            outputs = door.call(model, x)
            found = parallel.sums(metrics, outputs, y, 1)
        for name, value in found.items():
            column = name if loader is train else f"val_{name}"
            if value is None and (asked or column == watched):
                what = f"early stopping watches {column}, but there is none" if column == watched else f"no {column}"
                raise ValueError(
                    f"fit: {what}: y of shape {shapes(y)} are no class numbers (N,), or the outputs, "
                    f"{shape_text(outputs)}, no logits (N, K), or what else the metric needs"
                )


def shape_text(outputs: Any) -> str:
    """The shapes of a model's outputs."""
    return shapes(outputs) if isinstance(outputs, Tensor | tuple | dict) else type(outputs).__name__


def as_hooks(callbacks: Iterable[Any], schedule: Any = None) -> tuple[list[Callable], list[Callable], list[Any]]:
    """The functions to call after each epoch, those after each step, and all callbacks. A schedule that follows the
    epochs (plateau) is a callback, too."""
    at_epochs: list[Callable] = []
    at_steps: list[Callable] = []
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"fit: callbacks={callbacks!r:.60} must be a list of them")
    callbacks = list(callbacks)
    if hasattr(schedule, "on_epoch_end") and not any(callback is schedule for callback in callbacks):
        callbacks.insert(0, schedule)
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
            at_epochs.append(at_epoch)
        if at_step is not None:
            at_steps.append(at_step)
    return at_epochs, at_steps, callbacks


@contextlib.contextmanager
def begun(callbacks: list[Any], model: Module) -> Iterator[None]:
    """Within this context `on_begin(model)` was called of the callbacks that have it; behind it, `on_end()` of all that
    have that, whatever happens."""
    with contextlib.ExitStack() as ends:
        for callback in callbacks:
            if (begin := getattr(callback, "on_begin", None)) is not None:
                begin(model)
            if (end := getattr(callback, "on_end", None)) is not None:
                ends.callback(end)
        yield
