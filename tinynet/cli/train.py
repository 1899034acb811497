"""`tinynet train`: a network, its data and a folder of its own; and how an interrupted run goes on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import backends, optim
from ..console import plain, say
from ..saving.checkpoint import first_line
from ..version import __version__
from . import language, runs, tasks
from .usage import UsageError, choose, chosen_backend

if TYPE_CHECKING:
    from ..insight.report import Report


def train(arguments: argparse.Namespace) -> int:
    from ..data import Loader
    from ..insight.report import report
    from ..ops.random import seed
    from ..training.fit import fit

    folder, settings = _resumed(arguments) if arguments.resume is not None else _started(arguments)
    backends.use(settings["backend"])
    if tasks.is_text(settings["data"]):
        return language.train(folder, settings, arguments.out)
    task = tasks.load_task(
        settings["data"], shape=tasks.model_shape(settings["model"]), samples=settings["samples"], seed=settings["seed"]
    )
    seed(settings["seed"])
    model = tasks.make_model(settings["model"], task)
    if folder is None:
        folder = runs.new_folder(settings["model"], settings["data"], arguments.out)
    elif settings["classes"] != list(task.classes):
        names = (plain(", ".join(classes), 200) for classes in (settings["classes"], task.classes))
        raise UsageError(
            f"{folder} was begun with the classes {next(names)}; {task.name} has {next(names)} now: "
            "put the data back as they were, or begin a new run"
        )
    settings["classes"] = list(task.classes)
    checkpoint = folder / runs.CHECKPOINT
    say(
        f"{settings['model']} ({sum(p.size for p in model.parameters()):,} parameters) on {plain(task.name)}: "
        f"{len(task.train[0]):,} images to train, {len(task.validation[0]) if task.validation else 0:,} to validate, "
        f"{len(task.test[0]):,} to test; into {plain(folder)}"
    )
    train = Loader(*task.train, batch_size=settings["batch_size"], seed=settings["seed"])
    with runs.running(folder, settings, f"go on with: tinynet train --resume {folder}"):
        history = fit(
            model,
            train,
            validation=task.validation,
            epochs=settings["epochs"],
            lr=settings["lr"],
            optimizer=settings["optimizer"],
            workers=runs.recorded_workers(checkpoint, settings["workers"]),
            checkpoint=checkpoint,
            checkpoint_every=500,
            resume=True,
            csv=folder / runs.HISTORY,
        )
        measured = report(model, task.test, classes=task.classes)
        pictures = drawn_pictures(folder, settings, history, measured, task)
    finished(folder, settings, history, measured, pictures)
    return 0


def finished(folder: Path, settings: dict[str, Any], history: list, measured: Report, pictures: list[str]) -> None:
    """Record how the run ended, and say it."""
    from ..insight import plots

    seconds = sum(row["seconds"] for row in history)
    runs.write_settings(
        folder,
        settings
        | {
            "status": "finished",
            "train_seconds": round(seconds, 3),
            "test_loss": float(measured.loss.mean()),
            "test_accuracy": measured.accuracy,
        },
    )
    say(f"trained {len(history)} epoch{'s' * (len(history) != 1)} in {seconds:.1f} s")
    say(f"wrote {plain(folder)}: {', '.join([runs.CHECKPOINT, runs.HISTORY, runs.SETTINGS, *pictures])}")
    if not plots.can_plot():
        say("pictures of the run need matplotlib: pip install matplotlib")
    say(f"test accuracy: {measured.accuracy:.2%}")


def _started(arguments: argparse.Namespace) -> tuple[None, dict[str, Any]]:
    """The settings of a new run; its folder comes later, when all is known to fit."""
    runs.check_writable(Path(arguments.out) if arguments.out is not None else runs.root())
    if arguments.out is not None:
        runs.refuse_taken(Path(arguments.out))
    usual = "shakespeare" if arguments.model in tasks.LANGUAGE else "digits"
    data = tasks.data_name(usual if arguments.data is None else arguments.data)
    model, batch, note = tasks.defaults(data)
    if arguments.model is not None:
        model = arguments.model
    elif note:
        say(plain(note, 400))
    tasks.model_for(model, data)
    recipe = language.RECIPES.get(model)
    return None, {
        "tinynet": __version__,
        "model": model,
        "data": data,
        "epochs": arguments.epochs or (recipe.epochs if recipe else tasks.EPOCHS.get(data, 10)),
        "batch_size": arguments.batch_size or (recipe.batch if recipe else batch),
        "lr": arguments.lr or (recipe.lr if recipe else None),
        "optimizer": choose("--optimizer", arguments.optimizer or ("adamw" if recipe else "adam"), optim.OPTIMIZERS),
        "backend": chosen_backend(arguments) or "numpy",
        "workers": arguments.workers or "auto",
        "seed": arguments.seed or 0,
        "samples": arguments.samples,
    }


def _resumed(arguments: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The folder and the recorded settings of the run to go on with."""
    if arguments.resume and arguments.out and arguments.resume != arguments.out:
        raise UsageError("--resume and --out name two folders")
    given = arguments.resume or arguments.out
    folder = Path(given) if given else runs.newest(unfinished=True)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such run")
    settings = runs.read_settings(folder)
    if "finetuned" in settings:
        raise UsageError(f"{folder} was begun by tinynet finetune, which begins anew: run that again")
    runs.check_writable(folder)
    for name in ("model", "batch_size", "lr", "optimizer", "backend", "workers", "seed", "samples"):
        wanted = getattr(arguments, name)
        if wanted is not None and wanted != settings.get(name):
            raise UsageError(
                f"{folder} was begun with --{name.replace('_', '-')} {settings.get(name)}: --resume goes "
                f"on with what is recorded; for {wanted}, begin a new run"
            )
    if arguments.data is not None and tasks.data_name(arguments.data) != settings["data"]:
        raise UsageError(f"{folder} was begun with --data {settings['data']}: --resume goes on with what is recorded")
    known: dict[str, Any] = {
        "model": tasks.models_for(settings["data"]),
        "optimizer": optim.OPTIMIZERS,
        "backend": backends.NAMES,
    }
    for name, names in known.items():
        choose(f"{folder}: {name}", settings[name], names)
    tasks.data_name(settings["data"])
    if arguments.epochs:
        if tasks.is_text(settings["data"]) and arguments.epochs != settings["epochs"]:
            raise UsageError(
                f"{folder} was begun with --epochs {settings['epochs']}, over which the learning rate falls: --resume "
                f"goes on with them; for {arguments.epochs}, begin a new run"
            )
        settings["epochs"] = arguments.epochs
    return folder, settings


def drawn_pictures(
    folder: Path, settings: dict[str, Any], history: list, measured: Report, task: tasks.Task
) -> list[str]:
    """Draw the run's pictures, where matplotlib is present. Returns the names of those that could be drawn."""
    from ..insight import plots

    if not plots.can_plot():
        return []
    name = f"{settings['model']} on {Path(settings['data']).name}"
    titles = (
        f"{measured.accuracy:.2%} of the test images are right",
        (f"{len(measured.worst):,} of {len(task.test[0]):,} wrong, the surest first: true → predicted"),
    )
    draw: dict[str, Callable[[Path], None]] = {
        "learning.png": lambda path: plots.plot_history(history, path, title=name),
        "confusion.png": lambda path: plots.plot_confusion(measured, path, title=f"{name}: {titles[0]}"),
        "mistakes.png": lambda path: plots.plot_mistakes(measured, task.test[0], path, title=f"{name}: {titles[1]}"),
    }
    drawn = []
    for picture, plot in draw.items():
        if picture == "learning.png" and not history:
            continue
        try:
            plot(folder / picture)
            drawn.append(picture)
        except Exception as error:  # a picture must not cost the run its end
            say(f"tinynet: {picture} cannot be drawn: {plain(first_line(error))}", sys.stderr)
    return drawn
