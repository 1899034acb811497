"""What the `tinynet` command trains on, and the folders that it writes: one a run, with all that belongs to it.

runs/mnist_cnn-digits-1/
  settings.json             what was asked for, and how it ended
  checkpoint.safetensors    see checkpoint.py
  history.csv               a row an epoch
  learning.png  confusion.png  mistakes.png      where matplotlib is present
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, models
from ..console import message, plain, say
from ..nn.module import Module
from ..saving.checkpoint import replacing

ROOT = Path("runs")
SETTINGS, CHECKPOINT, HISTORY = "settings.json", "checkpoint.safetensors", "history.csv"
DIGITS, DIGITS_HELD_OUT = 40_000, 10_000  # images
TEST_SEED, VALIDATION_SEED = 2**63 - 1, 2**63 - 2  # of synthetic digits; a run's own seed is smaller
PUBLISHED: dict[str, Callable[[], data.Dataset]] = {
    "mnist": data.mnist,
    "fashion_mnist": data.fashion_mnist,
    "cifar10": data.cifar10,
}
DATA = ("digits", *PUBLISHED)
EPOCHS = {"digits": 3, "mnist": 5, "fashion_mnist": 8, "cifar10": 10}  # elsewhere 10
CLASSIFIERS = {name: make for name, make in models.MODELS.items() if name != "linear_regression"}
ANY_SHAPE = ("mlp", "logistic_regression")  # they take any images, and any number of classes
MOST_WORKERS = 1024  # processes
SETTINGS_LIMIT = 1 << 24  # bytes of settings.json


def _whole(low: int, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _text(value: Any) -> bool:
    return isinstance(value, str)


KINDS: dict[str, Callable[[Any], bool]] = {  # what settings.json holds: the name, and what may stand there
    "model": _text,
    "data": _text,
    "epochs": _whole(1),
    "batch_size": _whole(1),
    "lr": lambda value: value is None or (type(value) in (int, float) and 0 < value < math.inf),
    "optimizer": _text,
    "backend": _text,
    "workers": lambda value: value == "auto" or _whole(1, MOST_WORKERS)(value),
    "seed": _whole(0, 2**62 - 1),
    "samples": lambda value: value is None or _whole(1)(value),
    "status": _text,
    "classes": lambda value: isinstance(value, list) and all(map(_text, value)),
}

Pair = tuple[np.ndarray, np.ndarray]


class UsageError(ValueError):
    """What the user asked for makes no sense; the message says what would."""


# ---- data and models ----------------------------------------------------------------------------------------


@dataclass
class Task:
    """Images (N, H, W, C) with class numbers (N,), in three parts, and the classes' names."""

    name: str
    train: Pair
    validation: Pair | None
    test: Pair
    classes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.test[0].shape[1:]


def choose(what: str, name: str, names: Iterable[str]) -> str:
    """The name, if it is one of `names`; else a UsageError that suggests the nearest."""
    names = list(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, 1, 0.5)
    raise UsageError(
        f"{what} {name!r} is unknown{f'; did you mean {near[0]!r}?' if near else '.'} There are: {', '.join(names)}"
    )


def data_name(name: str) -> str:
    """The name of a known dataset, or the absolute path of a folder."""
    if name in DATA:
        return name
    if name and Path(name).is_dir():
        return str(Path(name).resolve())
    if any(mark in name for mark in "/\\."):
        raise UsageError(f"--data {name}: no such folder")
    return choose("--data", name, [*DATA, "DIR (a folder)"])


def load_task(
    name: str, *, shape: tuple[int, ...] | None, samples: int | None = None, seed: int = 0, train: bool = True
) -> Task:
    """The data called `name`.

    Args: shape: that pictures in a folder are made to fit, None for their own. samples: how many training images to
    use. seed: of the digits drawn, and of which images are set apart for validation (5%, and 5,000 at most). train:
    without it, only the test images are needed.
    """
    if name == "digits":
        count = DIGITS if samples is None else samples
        held_out = DIGITS_HELD_OUT if count >= DIGITS_HELD_OUT else max(200, count // 4)
        return Task(
            name,
            data.synthetic_digits(count if train else 0, seed),
            data.synthetic_digits(max(100, held_out // 5), VALIDATION_SEED) if train else None,
            data.synthetic_digits(held_out, TEST_SEED),
            tuple(map(str, range(10))),
        )
    if name in PUBLISHED:
        dataset = PUBLISHED[name]()
    else:
        dataset = data.load_dir(name, shape=shape if shape is None or len(shape) == 3 else None)  # type: ignore[arg-type]
    (x, y), test = dataset
    if not len(test[0]):
        raise data.DataError(
            f"{name}: holds too few pictures to keep some for the test; add pictures, or folders train and test"
        )
    if not train:
        return Task(name, (x, y), None, test, dataset.classes)
    order = np.random.default_rng(seed).permutation(len(x))
    apart = min(len(x) // 20, 5000)
    kept = np.sort(order[apart:][:samples])
    held = np.sort(order[:apart])
    return Task(name, (x[kept], y[kept]), (x[held], y[held]) if apart else None, test, dataset.classes)


def make_model(name: str, task: Task) -> Module:
    """The network, built for the task's images. UsageError with those that fit where it does not."""
    classes = len(task.classes)
    if name in ANY_SHAPE:
        make: Callable[..., Module] = CLASSIFIERS[name]
        return make(classes=classes).build(task.shape)
    model = CLASSIFIERS[name]()
    check_fit(name, model, task)
    return model


def check_fit(name: str, model: Module, task: Task) -> None:
    """UsageError where the model takes other images than the task's, or has too few outputs."""
    if model.built != task.shape:
        raise UsageError(
            f"{name} takes images of {times(model.built or ())}, {task.name} has {times(task.shape)}: "
            f"models that fit are {', '.join(fitting(task.shape))}"
        )
    if (count := (model.output_shape or (0,))[-1]) < len(task.classes):
        raise UsageError(
            f"{name} tells {count} classes apart, {task.name} has {len(task.classes)}: models for "
            f"any number are {', '.join(ANY_SHAPE)}"
        )


def fitting(shape: tuple[int, ...]) -> list[str]:
    """The names of the models that take images of this shape."""
    return [name for name, make in CLASSIFIERS.items() if name in ANY_SHAPE or make().built == shape]


def model_shape(name: str) -> tuple[int, ...] | None:
    """The images that a model takes, (H, W, C); None where it takes any."""
    return None if name in ANY_SHAPE else CLASSIFIERS[name]().built


def times(shape: tuple[int, ...]) -> str:
    """28×28×1"""
    return "×".join(map(str, shape))


# ---- folders --------------------------------------------------------------------------------------------------


def new_folder(model: str, name: str, out: str | None) -> Path:
    """Make the folder of a new run: `out`, or the first free runs/<model>-<data>-<n>."""
    if out is not None:
        folder = Path(out)
        refuse_taken(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    stem = f"{model}-{re.sub(r'[^A-Za-z0-9_]+', '-', Path(name).name).strip('-') or 'data'}"
    ROOT.mkdir(exist_ok=True)
    names = (re.fullmatch(rf"{stem}-(\d{{1,9}})", path.name) for path in ROOT.glob(f"{stem}-*"))
    taken = [int(name[1]) for name in names if name]
    number = max(taken, default=0) + 1
    while True:
        try:
            (ROOT / f"{stem}-{number}").mkdir()
        except FileExistsError:
            number += 1
        else:
            return ROOT / f"{stem}-{number}"


def refuse_taken(folder: Path) -> None:
    """UsageError where the folder holds a run already, or is none."""
    if (folder / SETTINGS).exists():
        raise UsageError(f"{folder} holds a run already: go on with it by --resume {folder}, or name another folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is no folder")


def newest(*, unfinished: bool = False) -> Path:
    """The folder of the newest run that has a checkpoint, or, with `unfinished`, that was interrupted."""
    found = []
    for path in ROOT.glob(f"*/{SETTINGS}"):
        checkpoint = path.parent / CHECKPOINT
        if unfinished or checkpoint.exists():
            try:
                done = read_settings(path.parent)["status"] == "finished"
            except UsageError:
                continue
            if not (unfinished and done):
                found.append(((checkpoint if checkpoint.exists() else path).stat().st_mtime_ns, path.parent))
    if not found:
        raise UsageError(
            f"there is no {'interrupted run' if unfinished else 'run'} in {ROOT.resolve()}; "
            f"{'name its folder' if unfinished else 'train one with: tinynet train'}"
        )
    return max(found)[1]


def find_checkpoint(given: str | None) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of a run's folder (by default the newest), or a file, and the run's settings ({} without any)."""
    path = newest() if given is None else Path(given)
    if path.is_dir():
        if not (path / CHECKPOINT).exists():
            raise UsageError(f"{path}: holds no {CHECKPOINT}")
        path = path / CHECKPOINT
    elif not path.exists():
        raise UsageError(f"{path}: no such run or checkpoint")
    if not (path.parent / SETTINGS).exists():
        return path, {}
    try:
        return path, read_settings(path.parent)
    except UsageError as error:
        say(f"tinynet: {message(error)}; going on without it", sys.stderr)
        return path, {}


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """settings.json, atomically."""
    with replacing(folder / SETTINGS) as temporary:
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        temporary.write_bytes(text.encode("utf-8", "surrogatepass"))  # a folder's name may be no UTF-8


def read_settings(folder: Path) -> dict[str, Any]:
    """What write_settings wrote. UsageError where there is none, or it is damaged."""
    path = folder / SETTINGS
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > SETTINGS_LIMIT:  # a pipe would be waited for
            raise UsageError(f"{path}: cannot be read: it is no file of at most {SETTINGS_LIMIT:,} bytes")
        with open(path, "rb") as file:
            settings = json.loads(file.read(SETTINGS_LIMIT).decode("utf-8", "surrogatepass"))
    except FileNotFoundError:
        raise UsageError(f"{folder}: holds no run ({SETTINGS} is missing)") from None
    except UsageError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    if not isinstance(settings, dict):
        raise UsageError(f"{path}: is damaged: it does not hold a run's settings")
    for name, fits in KINDS.items():
        if name not in settings or not fits(settings[name]):
            found = plain(repr(settings[name]), 60) if name in settings else "missing"
            raise UsageError(f"{path}: is damaged: it does not hold a run's settings ({name} is {found})")
    return settings
