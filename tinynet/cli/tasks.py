"""What the commands train and measure on: data sets, folders of pictures, and the networks that fit them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import data, models
from ..console import plain
from ..nn.module import Module
from ..saving.checkpoint import first_line
from .usage import UsageError, choose

DIGITS, DIGITS_HELD_OUT = 40_000, 10_000  # images
TEST_SEED, VALIDATION_SEED = 2**63 - 1, 2**63 - 2  # of synthetic digits; a run's own seed is smaller
PUBLISHED: dict[str, Callable[[], data.Dataset]] = {
    "mnist": data.mnist,
    "fashion_mnist": data.fashion_mnist,
    "cifar10": data.cifar10,
}
DATA = ("digits", *PUBLISHED)
TEXTS: dict[str, Callable[..., data.text.Corpus]] = {"shakespeare": data.text.tiny_shakespeare}
EPOCHS = {"digits": 3, "mnist": 5, "fashion_mnist": 8, "cifar10": 10}  # elsewhere 10
CLASSIFIERS = models.CLASSIFIERS
LANGUAGE: dict[str, Callable[..., Module]] = {"gpt": models.gpt, "char_lstm": models.char_lstm}  # what learns from text
LARGE = 96  # pixels along the shorter side, from which 32 × 32 would lose too much
MOST_BYTES = 2 << 30  # of images of 128 × 128 in memory
NO_TEXTS = (*data.images.SUFFIXES, ".npz", ".pdf", ".safetensors")
ANY_SHAPE = ("mlp", "logistic_regression")  # they take any images, and any number of classes

Pair = tuple[np.ndarray, np.ndarray]


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


def data_name(name: str) -> str:
    """The name of a known dataset, or the absolute path of a folder or a text file."""
    if name in DATA or name in TEXTS:
        return name
    if name and (Path(name).is_dir() or Path(name).is_file()):
        if Path(name).suffix.lower() in NO_TEXTS:
            raise UsageError(
                f"--data {name}: is no text; give a text file, a folder with a folder of pictures a class, or one of "
                f"{', '.join([*DATA, *TEXTS])}"
            )
        return str(Path(name).resolve())
    if any(mark in name for mark in "/\\."):
        raise UsageError(f"--data {name}: no such folder, and no such text file")
    return choose("--data", name, [*DATA, *TEXTS, "DIR (a folder)", "FILE (a text)"])


def is_text(name: str) -> bool:
    """Whether the data called `name` are a text, which language models learn."""
    return name in TEXTS or Path(name).is_file()


def model_for(name: str, data: str) -> str:
    """The network's name, if it learns the data; else a UsageError that says what does."""
    fits, others = models_for(data), CLASSIFIERS if is_text(data) else LANGUAGE
    if name in others:
        kinds = ("images", "is a text") if is_text(data) else ("texts", "has images")
        raise UsageError(f"--model {name} learns {kinds[0]}, and {data} {kinds[1]}; choose one of {', '.join(fits)}")
    if name in models.MODELS and name not in fits:
        raise UsageError(
            f"--model {name} is trained in Python, by tn.fit(tn.models.{name}(…), …); this command trains "
            f"{', '.join(fits)}"
        )
    return choose("--model", name, fits)


def models_for(name: str) -> dict[str, Callable[..., Module]]:
    """The networks that learn the data called `name`."""
    return LANGUAGE if is_text(name) else CLASSIFIERS


def load_task(
    name: str, *, shape: tuple[int, ...] | None, samples: int | None = None, seed: int = 0, train: bool = True
) -> Task:
    """The data called `name`.

    Args: shape: that pictures in a folder are made to fit, None for their own. samples: how many training images to
    use. seed: of the digits drawn, and of which images are set apart for validation (5%, and 5,000 at most). train:
    without it, only the test images are needed.
    Raises: UsageError where there is one class alone, DataError where no image is left for the test.
    """
    if is_text(name):
        raise UsageError(f"{name} is a text; this needs images: {', '.join(DATA)}, or a folder of pictures")
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
    if len(dataset.classes) < 2:
        raise UsageError(
            f"{name}: holds one class alone ({', '.join(dataset.classes)}): to tell classes apart, give each a folder "
            "of its own pictures"
        )
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


def matched(task: Task, learnt: list[str] | None, run: str) -> Task:
    """The task with its classes numbered as a run learnt them; UsageError where it has others.

    Args: learnt: the run's classes, None where they are not known; then the model's count of outputs must do.
    """
    if learnt is None or task.classes == tuple(learnt):
        return task
    if others := [name for name in task.classes if name not in learnt]:
        raise UsageError(
            f"{task.name} has other classes than {run} learnt: {_some(others)} not among {_some(learnt)}; "
            "evaluate a run of the same classes, or train one on this data"
        )
    number = np.array([learnt.index(name) for name in task.classes])
    (x, y), (x_test, y_test) = task.train, task.test
    return Task(task.name, (x, number[y]), None, (x_test, number[y_test]), tuple(learnt))


def _some(names: list[str], most: int = 4) -> str:
    """a, b, c, d and 3 more"""
    more = len(names) - most
    return ", ".join(plain(name, 40) for name in names[:most]) + (f" and {more} more" if more > 0 else "")


def defaults(name: str) -> tuple[str, int, str]:
    """The network and the size of a batch for the data called `name`, and why.

    For a folder they follow from the colours, the size and the number of its pictures.
    """
    if is_text(name):
        return "gpt", 12, ""
    if name in DATA:
        return ("cifar_cnn" if name == "cifar10" else "mnist_cnn"), 64, ""
    height, width, colour, count = data.look_at_dir(name)
    large, fits = min(height, width) >= LARGE, count * 128 * 128 * 3 * 4 <= MOST_BYTES
    model = "image128_cnn" if large and fits else "cifar_cnn" if colour else "mnist_cnn"
    batch = 64 if count >= 2000 else 16
    note = (
        f"{count:,} {'colour' if colour else 'grey'} picture{'s' * (count != 1)} of about {height}×{width}: {model}, "
        f"which sees {times(model_shape(model) or ())}, in batches of {batch} (--model and --batch-size choose others)"
    )
    return model, batch, note + ("; for image128_cnn they are too many for the memory" if large and not fits else "")


def make_model(name: str, task: Task) -> Module:
    """The network, built for the task's images, with an output for each class. UsageError where it takes others."""
    make: Callable[..., Module] = CLASSIFIERS[name]
    if _made_for(name):
        try:
            return make(classes=len(task.classes), input_shape=task.shape)
        except ValueError as error:
            raise UsageError(_refusal(name, _made_for(name), task) + f" ({first_line(error)})") from None
    model = make(classes=len(task.classes))
    if name in ANY_SHAPE:
        return model.build(task.shape)
    check_fit(name, model, task)
    return model


def check_fit(name: str, model: Module, task: Task, *, spare: bool = False) -> None:
    """UsageError where the model takes other images than the task's, or has another number of outputs; or fewer, where
    some may be `spare`."""
    if model.built != task.shape:
        raise UsageError(_refusal(name, model.built, task))
    count = (model.output_shape or (0,))[-1]
    if count < len(task.classes) or (count > len(task.classes) and not spare):
        raise UsageError(f"{name} tells {count} classes apart, {task.name} has {len(task.classes)}")


def _refusal(name: str, shape: tuple[int, ...] | None, task: Task) -> str:
    return (
        f"{name} takes images of {times(shape or ())}, {task.name} has {times(task.shape)}: "
        f"models that fit are {', '.join(fitting(task.shape))}"
    )


def fitting(shape: tuple[int, ...]) -> list[str]:
    """The names of the models that take images of this shape, or are built for any that are no smaller than theirs."""

    def fits(name: str) -> bool:
        own = _made_for(name)
        return all(a <= b for a, b in zip(own[:2], shape, strict=False)) if own else model_shape(name) in (None, shape)

    return [name for name in CLASSIFIERS if fits(name)]


def model_shape(name: str) -> tuple[int, ...] | None:
    """The images that a model takes, or was made for, (H, W, C); None where it takes any."""
    return None if name in ANY_SHAPE else _made_for(name) or CLASSIFIERS[name]().built


def _made_for(name: str) -> tuple[int, ...] | None:
    """The images that a model was made for which is built for others, too; None where there are none such."""
    shape = inspect.signature(CLASSIFIERS[name]).parameters.get("input_shape")
    return None if shape is None else shape.default


def times(shape: tuple[int, ...]) -> str:
    """28×28×1"""
    return "×".join(map(str, shape))
