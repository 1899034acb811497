"""`tinynet finetune`: a trained network goes on with other data, from its last layer down."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import backends
from ..console import plain, say
from ..saving.checkpoint import load
from ..version import __version__
from . import runs, tasks, usage
from .train import drawn_pictures, finished
from .usage import UsageError, chosen_backend

EPOCHS, RATE, FACTOR = 8, 1e-3, 2.6


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add = parser.add_argument
    add("trained", metavar="RUN", help="a run's folder, or a checkpoint")
    add(
        "--data",
        metavar="NAME|DIR",
        required=True,
        help=f"{', '.join(tasks.DATA)}, or a folder with a folder of pictures a class",
    )
    add("--samples", type=usage.count, metavar="N", help="training images to use (default: all)")
    add(
        "--freeze",
        action="append",
        default=[],
        metavar="PATTERN",
        help="parameters to leave as they are, by their names, such as '0.*' (may be given again)",
    )
    add(
        "--thaw",
        type=usage.count,
        default=1,
        metavar="N",
        help="epochs until the next layer below learns, too (default: 1)",
    )
    add("--epochs", type=usage.count, default=EPOCHS, metavar="N", help=f"times through the data (default: {EPOCHS})")
    add("--batch-size", type=usage.count, metavar="N", help="images a step (default: 64; 16 for fewer than 2,000)")
    add(
        "--lr",
        type=usage.rate,
        default=RATE,
        metavar="X",
        help=f"learning rate of the last layer (default: {RATE}); "
        f"each layer below has that of the one above divided by {FACTOR}",
    )
    add("--workers", type=usage.workers, default="auto", metavar="N", help="processes, or auto (default: auto)")
    add("--seed", type=usage.seed, default=0, metavar="N", help="of the new layer, order, dropout (default: 0)")
    add("--out", metavar="RUN", help="the new run's folder (default: runs/<model>-<data>-<n>)")


def finetune(arguments: argparse.Namespace) -> int:
    """Train a run's network on other data, into a run of its own; with a new last layer where the classes differ."""
    from ..data import Loader
    from ..insight.report import report
    from ..ops.random import seed
    from ..optim import Adam, layerwise
    from ..training import GradualUnfreezing, fit, new_head

    runs.check_writable(Path(arguments.out) if arguments.out is not None else runs.root())
    data = tasks.data_name(arguments.data)
    if tasks.is_text(data):
        raise UsageError(
            f"--data {arguments.data} is a text; finetune takes images: {', '.join(tasks.DATA)}, or a folder"
        )
    if name := chosen_backend(arguments):
        backends.use(name)
    path, source = runs.find_checkpoint(arguments.trained, text=False)
    seed(arguments.seed)
    model = load(path).unfreeze()
    shape = model.built or ()
    if len(shape) != 3:
        raise UsageError(f"{path}: this network takes inputs of shape {shape}, not images")
    task = tasks.load_task(data, shape=shape, samples=arguments.samples, seed=arguments.seed)
    if task.shape != shape:
        raise UsageError(f"{path} takes images of {tasks.times(shape)}, {task.name} has {tasks.times(task.shape)}")
    if source.get("classes") == list(task.classes):
        say(f"the same classes: test accuracy before is {report(model, task.test).accuracy:.2%}")
    else:
        model = new_head(model, len(task.classes))
        say(f"a new last layer for {len(task.classes)} classes")
    if arguments.freeze:
        model.freeze(*arguments.freeze)
        if not any(p.requires_grad for p in model.parameters()):
            raise UsageError(f"--freeze {' '.join(arguments.freeze)} leaves no parameter that could learn")
    thaw = GradualUnfreezing(model, arguments.thaw)
    settings = _settings(arguments, type(model).__name__ if not source else source["model"], data, path, task)
    folder = runs.new_folder(settings["model"], data, arguments.out)
    say(f"{len(task.train[0]):,} images to train, {len(model.stages())} stages to thaw; into {plain(folder)}")
    with runs.running(folder, settings, f"what it has learnt is in {folder}; finetune begins anew"):
        history = fit(
            model,
            Loader(*task.train, batch_size=settings["batch_size"], seed=settings["seed"]),
            validation=task.validation,
            epochs=settings["epochs"],
            optimizer=Adam(layerwise(model, settings["lr"], factor=FACTOR)),
            callbacks=[thaw],
            workers=settings["workers"],
            checkpoint=folder / runs.CHECKPOINT,
            csv=folder / runs.HISTORY,
        )
        measured = report(model, task.test, classes=task.classes)
        pictures = drawn_pictures(folder, settings, history, measured, task)
    finished(folder, settings, history, measured, pictures)
    return 0


def _settings(arguments: argparse.Namespace, model: str, data: str, path: Path, task: tasks.Task) -> dict[str, Any]:
    """What settings.json holds of the new run."""
    return {
        "tinynet": __version__,
        "model": model,
        "data": data,
        "epochs": arguments.epochs,
        "batch_size": arguments.batch_size or (64 if len(task.train[0]) >= 2000 else 16),
        "lr": arguments.lr,
        "optimizer": "adam",
        "backend": chosen_backend(arguments) or "numpy",
        "workers": arguments.workers,
        "seed": arguments.seed,
        "samples": arguments.samples,
        "finetuned": str(path),
        "freeze": arguments.freeze,
        "classes": list(task.classes),
    }
