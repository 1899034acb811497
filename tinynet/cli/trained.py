"""`tinynet evaluate` and `tinynet predict`: what a trained network can do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import backends, data
from ..console import is_terminal, message, plain, say
from ..nn.module import Module
from ..saving.checkpoint import CheckpointError, load, replacing
from . import language, runs, tasks
from .usage import UsageError, chosen_backend, debugging

SURE = 0.6  # probability below which a prediction is called not sure
PAGE = 1024  # pixels a side to which a page is scaled before it is searched
DRAWN = ("digits", "mnist")  # data whose pictures are single drawings, centred by their mass


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure a run on its own data's test images, or on those of --data."""
    from ..insight.report import report

    name = None if arguments.data is None else tasks.data_name(arguments.data)
    path, settings, model = loaded(arguments, text=None if name is None else tasks.is_text(name))
    if name is None and not (name := settings.get("data")):
        raise UsageError(f"{path} does not tell its data; name it by --data")
    name = tasks.data_name(name)
    if settings.get("model") in tasks.LANGUAGE:
        if not tasks.is_text(name):
            raise UsageError(
                f"{path} is a language model; it is measured on a text: {', '.join(tasks.TEXTS)}, or a file"
            )
        return language.evaluate(path, settings, model, name)
    task = tasks.load_task(name, shape=model.built, samples=settings.get("samples"), train=False)
    task = tasks.matched(task, settings.get("classes"), plain(path))
    tasks.check_fit(settings.get("model", "the model"), model, task, spare="classes" in settings)
    measured = report(model, task.test, classes=task.classes)
    say(f"{plain(path)} on {len(task.test[0]):,} test images of {plain(task.name)}: loss {measured.loss.mean():.4f}\n")
    say(f"{measured}\n")
    say(f"test accuracy: {measured.accuracy:.2%}")
    return 0


def predict(arguments: argparse.Namespace) -> int:
    """Say what each picture shows, and which run says so. Returns 1 where one could not be read."""
    path, settings, model = loaded(arguments, text=False)
    shape, failed, written = image_shape(path, model.eval(), settings), False, list[str]()
    say(who_sees(path, settings))
    for name in arguments.images:
        try:
            image, note = seen(name, shape, settings.get("data"))
            line = f"not sure: {note}" if image is None else _named(model, image, settings) + note
            say(f"{plain(name)}: {line}")
            if image is not None and (arguments.show or is_terminal(sys.stdout)):
                say(_sketch(image))
            if image is not None and arguments.show:
                stem = Path(name).stem  # photos of two folders may be called alike
                written.append(stem)
                number = written.count(stem)
                _write(image, Path(f"{stem}-seen{f'-{number}' if number > 1 else ''}.png"))
        except (data.DataError, OSError) as error:
            if debugging():
                raise
            say(f"tinynet: error: {message(error)}", sys.stderr)
            failed = True
    return int(failed)


def image_shape(path: Path, model: Module, settings: dict[str, Any]) -> tuple[int, ...]:
    """The shape (H, W, C) of the images that the network of a checkpoint takes. UsageError where it takes none."""
    shape = model.built or ()
    if len(shape) != 3 or shape[2] not in (1, 3):
        hint = "; tinynet sample lets it write" if settings.get("model") in tasks.LANGUAGE else ""
        raise UsageError(
            f"{plain(path)}: this network takes inputs of shape {shape}, not images; choose another by --run{hint}"
        )
    return shape


def who_sees(path: Path, settings: dict[str, Any]) -> str:
    """The line ahead of what a network says of pictures: runs/x (mnist_cnn, trained on digits) sees."""
    return f"{plain(path.parent if settings else path)}{describe(settings)} sees"


def describe(settings: dict[str, Any]) -> str:
    """What is known of a run: (mnist_cnn, trained on digits, test accuracy 98.65%)."""
    if not settings:
        return ""
    known = f"{settings['model']}, trained on {Path(settings['data']).name}"
    accuracy = settings.get("test_accuracy")
    return f" ({plain(known)}{f', test accuracy {accuracy:.2%}' if isinstance(accuracy, float) else ''})"


def seen(name: str, shape: tuple[int, ...], learnt: str | None) -> tuple[np.ndarray | None, str]:
    """The picture (H, W, C) that the network is to see, or None, and a remark.

    A network that learnt drawings gets the one that is found on the page; one that learnt the pictures of a folder gets
    the whole picture as it is; another one that learnt grey pictures on black, such as clothes, gets it light on dark.
    """
    whole = (*shape,)
    if shape[2] != 1 or learnt not in (None, *DRAWN):
        return data.read_image(name, whole, invert=None if learnt in (None, *tasks.DATA) else False), ""  # type: ignore[arg-type]
    page = data.read_page(name, PAGE)
    found = data.find_drawing(page, shape[:2])  # type: ignore[arg-type]
    if found is None:
        return None, "nothing is drawn here that stands out from the ground"
    if page.shape == shape[:2]:  # a picture as the network learnt them needs no cropping
        return data.read_image(name, whole), ""  # type: ignore[arg-type]
    return found.image, f"  (the largest of {found.shapes} drawings)" if found.shapes > 1 else ""


def seen_by(name: str, path: Path, model: Module, settings: dict[str, Any]) -> np.ndarray:
    """The picture (H, W, C) that the network of a checkpoint is to see. UsageError where it takes none, or nothing is
    drawn."""
    image, note = seen(name, image_shape(path, model, settings), settings.get("data"))
    if image is None:
        raise UsageError(f"{name}: {note}")
    return image


def _named(model: Module, image: np.ndarray, settings: dict[str, Any]) -> str:
    """The three likeliest classes: 7 (98.1%)  then 1 (1.2%), 2 (0.3%)."""
    from ..autograd import no_grad
    from ..ops import softmax

    with no_grad():
        p = softmax(model(image[None])).numpy()[0]
    names = settings.get("classes") or list(map(str, range(len(p))))
    best = [f"{plain(names[i], 40) if i < len(names) else i} ({p[i]:.1%})" for i in np.argsort(-p)[:3]]
    unsure = "" if p.max() >= SURE else f"not sure (below {SURE:.0%}): "
    return unsure + best[0] + (f"  then {', '.join(best[1:])}" if len(best) > 1 else "")


def _sketch(image: np.ndarray) -> str:
    """The picture in characters, two rows of pixels a line."""
    grey = image.mean(2)
    step = max(1, -(-grey.shape[1] // 64))  # at most 64 characters a line
    grey = grey[: len(grey) // (2 * step) * 2 * step, : grey.shape[1] // step * step]
    cells = grey.reshape(-1, 2 * step, grey.shape[1] // step, step).mean((1, 3))
    marks = " .:-=+*#%@"
    return "\n".join("  |" + "".join(marks[round(9 * float(v))] for v in row) + "|" for row in cells)


def _write(image: np.ndarray, path: Path) -> None:
    """The picture as a PNG, each pixel a square."""
    with replacing(path) as temporary:
        data.write_png(temporary, image, scale=max(1, 280 // max(image.shape[:2])))
    say(f"  wrote {plain(path)}")


def loaded(arguments: argparse.Namespace, *, text: bool | None) -> tuple[Path, dict[str, Any], Module]:
    """The checkpoint that was asked for, or the newest (of a text, or of images), its run's settings, and the model."""
    if name := chosen_backend(arguments):
        backends.use(name)
    path, settings = runs.find_checkpoint(arguments.trained, text=text)
    if not path.is_file():
        raise CheckpointError(f"{path}: is no file")
    return path, settings, load(path)
