"""The `tinynet` command: train, evaluate, predict, gradcheck, doctor."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .. import backends, optim
from ..console import message, plain, say
from ..nn.module import Module
from ..saving.checkpoint import CheckpointError, first_line, load, read
from ..version import __version__
from . import runs
from .runs import UsageError

if TYPE_CHECKING:
    from ..insight.report import Report

EXAMPLES = """examples:
  tinynet train                              a network learns handwritten digits, in a minute, without a download
  tinynet train --data mnist --epochs 10     the same network on MNIST
  tinynet train --resume                     go on with the run that was interrupted
  tinynet evaluate --data mnist              the newest run, on MNIST's test images
  tinynet predict three.png                  which digit is it?
  tinynet gradcheck                          check the derivative of every operation
  tinynet doctor                             what works on this machine?

exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted. TINYNET_DEBUG=1 shows where an error comes from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (by default the process's). Returns the exit status."""
    for stream in sys.stdout, sys.stderr:  # in a log with another encoding, × may look odd but must not fail
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(ValueError, OSError):  # it is closed
                stream.reconfigure(errors="replace")
    status = _run(argv)
    try:
        if hasattr(sys.stdout, "flush"):  # here, and not as the process ends, a full disk can be told
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # what stands in for it may be no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if status == 0 and not isinstance(error, BrokenPipeError):
            say(f"tinynet: error: standard output: {message(error)}", sys.stderr)
        return status or 1
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser().parse_args(argv)
        return arguments.run(arguments)
    except SystemExit as stop:  # argparse: --help, or a wrong usage that it has explained
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt as stop:
        say(f"tinynet: interrupted{str(stop) and '; ' + message(stop)}", sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: `tinynet … | head`
        return 1
    except Exception as error:
        if os.environ.get("TINYNET_DEBUG", "0") not in ("", "0"):
            raise
        text = message(error)
        if not isinstance(error, ValueError | ArithmeticError | OSError | backends.BackendError):
            text += f" ({type(error).__name__}; TINYNET_DEBUG=1 shows where)"
        say(f"tinynet: error: {text}", sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:  # it repeats what was typed
        super().error(plain(message, 2000))


def _parser() -> argparse.ArgumentParser:
    verbatim = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="tinynet",
        epilog=EXAMPLES,
        formatter_class=verbatim,
        description="A neural-network engine that you can read in an evening.",
    )
    parser.add_argument("--version", action="version", version=f"tinynet {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable, text: str, examples: str) -> argparse.ArgumentParser:
        shown = "\n".join(f"  tinynet {name} {example}".rstrip() for example in examples.split("\n"))
        added = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"examples:\n{shown}",
            formatter_class=verbatim,
        )
        added.set_defaults(run=run)
        return added

    train = command(
        "train",
        _train,
        "train a network, into a folder of its own",
        "\n--model mlp --data fashion_mnist\n--data photos/ --model cifar_cnn --epochs 20     a folder of "
        "pictures a class\n--resume",
    )
    train.add_argument(
        "--model", metavar="NAME", help=f"{', '.join(runs.CLASSIFIERS)} (default: mnist_cnn; for cifar10 cifar_cnn)"
    )
    train.add_argument(
        "--data",
        metavar="NAME|DIR",
        help=f"{', '.join(runs.DATA)}, or a folder with a folder of "
        "pictures a class (default: digits, which are drawn)",
    )
    train.add_argument(
        "--epochs",
        type=_count,
        metavar="N",
        help="times through the data (default: digits 3, mnist 5, fashion_mnist 8, others 10)",
    )
    train.add_argument("--batch-size", type=_count, metavar="N", help="images a step (default: 64)")
    train.add_argument("--lr", type=_rate, metavar="X", help="learning rate (default: the optimiser's; adam 0.001)")
    train.add_argument("--optimizer", metavar="NAME", help=f"{', '.join(optim.OPTIMIZERS)} (default: adam)")
    train.add_argument(
        "--backend", metavar="NAME", help=f"{', '.join(backends.NAMES)} (default: $TINYNET_BACKEND, or numpy)"
    )
    train.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that share each batch, or auto, one a core (default: auto)",
    )
    train.add_argument("--seed", type=_seed, metavar="N", help="of initial weights, order, dropout (default: 0)")
    train.add_argument(
        "--samples",
        "--train-size",
        type=_count,
        metavar="N",
        dest="samples",
        help="training images to use (default: all; digits 40,000)",
    )
    train.add_argument("--out", metavar="RUN", help="the run's folder (default: runs/<model>-<data>-<n>)")
    train.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with a run that was interrupted, by default the newest, with its own settings "
        "(--epochs may be raised)",
    )

    evaluate = command(
        "evaluate",
        _evaluate,
        "measure a trained network on test images, class by class",
        "\n--data mnist\nruns/mnist_cnn-digits-1",
    )
    evaluate.add_argument(
        "trained", nargs="?", metavar="RUN", help="a run's folder, or a checkpoint (default: the newest run)"
    )
    evaluate.add_argument(
        "--data", metavar="NAME|DIR", help=f"{', '.join(runs.DATA)}, or a folder (default: the run's own)"
    )
    evaluate.add_argument("--backend", metavar="NAME", help=", ".join(backends.NAMES))

    predict = command(
        "predict",
        _predict,
        "say what is to be seen in pictures",
        "three.png\nscan1.png scan2.npy --run runs/mnist_cnn-digits-1",
    )
    predict.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="PNG, JPEG and others (with Pillow), or .npy. Dark ink on white is turned into light on "
        "black, but for networks that learnt the pictures of a folder",
    )
    predict.add_argument(
        "--run", dest="trained", metavar="RUN", help="a run's folder, or a checkpoint (default: the newest run)"
    )
    predict.add_argument("--backend", metavar="NAME", help=", ".join(backends.NAMES))

    check = command(
        "gradcheck",
        _gradcheck,
        "check the derivative of every operation against central differences",
        "\nconv2d max_pool2d",
    )
    check.add_argument("operations", nargs="*", metavar="OPERATION", help="which ones (default: all)")
    command("doctor", _doctor, "say what works on this machine, and how to get the rest", "")
    return parser


# ---- train ------------------------------------------------------------------------------------------------


def _train(arguments: argparse.Namespace) -> int:
    from ..data import Loader
    from ..insight.report import can_plot, report
    from ..ops.random import seed
    from ..training.fit import fit

    folder, settings = _resumed(arguments) if arguments.resume is not None else _started(arguments)
    _use(settings["backend"])
    task = runs.load_task(
        settings["data"], shape=runs.model_shape(settings["model"]), samples=settings["samples"], seed=settings["seed"]
    )
    seed(settings["seed"])
    model = runs.make_model(settings["model"], task)
    if folder is None:
        folder = runs.new_folder(settings["model"], settings["data"], arguments.out)
    settings |= {"classes": list(task.classes), "status": "running"}
    runs.write_settings(folder, settings)
    checkpoint = folder / runs.CHECKPOINT
    say(
        f"{settings['model']} ({sum(p.size for p in model.parameters()):,} parameters) on {plain(task.name)}: "
        f"{len(task.train[0]):,} images to train, {len(task.validation[0]) if task.validation else 0:,} to validate, "
        f"{len(task.test[0]):,} to test; into {plain(folder)}"
    )
    train = Loader(*task.train, batch_size=settings["batch_size"], seed=settings["seed"])
    try:
        history = fit(
            model,
            train,
            validation=task.validation,
            epochs=settings["epochs"],
            lr=settings["lr"],
            optimizer=settings["optimizer"],
            workers=_recorded_workers(checkpoint, settings["workers"]),
            checkpoint=checkpoint,
            checkpoint_every=500,
            resume=True,
            csv=folder / runs.HISTORY,
        )
        measured = report(model, task.test, classes=task.classes)
        pictures = _pictures(folder, settings, history, measured, task)
    except KeyboardInterrupt:
        runs.write_settings(folder, settings | {"status": "interrupted"})
        raise KeyboardInterrupt(f"go on with: tinynet train --resume {folder}") from None
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
    if not can_plot():
        say("pictures of the run need matplotlib: pip install matplotlib")
    _accuracy(measured.accuracy)
    return 0


def _started(arguments: argparse.Namespace) -> tuple[None, dict[str, Any]]:
    """The settings of a new run; its folder comes later, when all is known to fit."""
    if arguments.out is not None:
        runs.refuse_taken(Path(arguments.out))
    data = runs.data_name("digits" if arguments.data is None else arguments.data)
    usual = "cifar_cnn" if data == "cifar10" else "mnist_cnn"
    model = usual if arguments.model is None else arguments.model
    optimizer = "adam" if arguments.optimizer is None else arguments.optimizer
    return None, {
        "tinynet": __version__,
        "model": runs.choose("--model", model, runs.CLASSIFIERS),
        "data": data,
        "epochs": arguments.epochs or runs.EPOCHS.get(data, 10),
        "batch_size": arguments.batch_size or 64,
        "lr": arguments.lr,
        "optimizer": runs.choose("--optimizer", optimizer, optim.OPTIMIZERS),
        "backend": _backend(arguments) or "numpy",
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
    for name in ("model", "batch_size", "lr", "optimizer", "backend", "workers", "seed", "samples"):
        wanted = getattr(arguments, name)
        if wanted is not None and wanted != settings.get(name):
            raise UsageError(
                f"{folder} was begun with --{name.replace('_', '-')} {settings.get(name)}: --resume goes "
                f"on with what is recorded; for {wanted}, begin a new run"
            )
    if arguments.data is not None and runs.data_name(arguments.data) != settings["data"]:
        raise UsageError(f"{folder} was begun with --data {settings['data']}: --resume goes on with what is recorded")
    for name, known in (("model", runs.CLASSIFIERS), ("optimizer", optim.OPTIMIZERS), ("backend", backends.NAMES)):
        runs.choose(f"{folder}: {name}", settings[name], known)
    runs.data_name(settings["data"])
    if arguments.epochs:
        settings["epochs"] = arguments.epochs
    return folder, settings


def _recorded_workers(checkpoint: Path, otherwise: int | str) -> int | str:
    """The number of processes that a run to go on with had: its bits depend on it."""
    if not checkpoint.exists():
        return otherwise
    settings = read(checkpoint)[1].get("settings")
    recorded = settings.get("workers") if isinstance(settings, dict) else None
    return recorded if isinstance(recorded, int) else otherwise


def _pictures(folder: Path, settings: dict[str, Any], history: list, measured: Report, task: runs.Task) -> list[str]:
    """Draw the run's pictures, where matplotlib is present. Returns the names of those that could be drawn."""
    from ..insight.report import can_plot, plot_confusion, plot_history, plot_mistakes

    if not can_plot():
        return []
    name = f"{settings['model']} on {Path(settings['data']).name}"
    titles = (
        f"{measured.accuracy:.2%} of the test images are right",
        (f"{len(measured.worst):,} of {len(task.test[0]):,} wrong; true → predicted, and how sure"),
    )
    draw: dict[str, Callable[[Path], None]] = {
        "learning.png": lambda path: plot_history(history, path, title=name),
        "confusion.png": lambda path: plot_confusion(measured, path, title=f"{name}: {titles[0]}"),
        "mistakes.png": lambda path: plot_mistakes(measured, task.test[0], path, title=f"{name}: {titles[1]}"),
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


# ---- the others ---------------------------------------------------------------------------------------------


def _evaluate(arguments: argparse.Namespace) -> int:
    from ..insight.report import report

    name = None if arguments.data is None else runs.data_name(arguments.data)
    path, settings, model = _trained(arguments)
    if name is None and not (name := settings.get("data")):
        raise UsageError(f"{path} does not tell its data; name it by --data")
    task = runs.load_task(runs.data_name(name), shape=model.built, samples=settings.get("samples"), train=False)
    runs.check_fit(settings.get("model", "the model"), model, task)
    measured = report(model, task.test, classes=task.classes)
    say(f"{plain(path)} on {len(task.test[0]):,} test images of {plain(task.name)}: loss {measured.loss.mean():.4f}\n")
    say(f"{measured}\n")
    _accuracy(measured.accuracy)
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from ..autograd import no_grad
    from ..data import DataError, read_image
    from ..ops import softmax

    _, settings, model = _trained(arguments)
    # Dark ink on white becomes light on black, as digits are learnt; the pictures of a folder are learnt as they are.
    invert = None if settings.get("data") in (None, *runs.DATA) else False
    model.eval()
    shape, failed = model.built or (), False
    if len(shape) != 3:
        raise UsageError(f"this network takes inputs of shape {shape}, not images")
    for name in arguments.images:
        try:
            image = read_image(name, shape, invert=invert)
        except (DataError, OSError) as error:
            say(f"tinynet: error: {message(error)}", sys.stderr)
            failed = True
            continue
        with no_grad():
            p = softmax(model(image[None])).numpy()[0]
        names = settings.get("classes") or list(map(str, range(len(p))))
        best = [f"{plain(names[i], 40) if i < len(names) else i} ({p[i]:.1%})" for i in np.argsort(-p)[:3]]
        say(f"{plain(name)}: {best[0]}" + (f"  then {', '.join(best[1:])}" if len(best) > 1 else ""))
    return int(failed)


def _gradcheck(arguments: argparse.Namespace) -> int:
    from ..ops.cases import CASES, missing

    names = list(dict.fromkeys(case.name for case in CASES))
    chosen = [runs.choose("operation", name, names) for name in arguments.operations] or names
    if backend := _backend(arguments):
        _use(backend)
    say(f"{'operation':<34} cases  result   seconds\n{'-' * 60}")
    wrong = []
    for name in chosen:
        cases, began, failures = [c for c in CASES if c.name == name], time.perf_counter(), []
        for case in cases:
            try:
                if case.smooth:
                    case.check()
            except Exception as error:
                failures.append(f"{case}: {first_line(error)}")
        smooth = any(case.smooth for case in cases)
        result = "WRONG" if failures else "right" if smooth else "no derivative"
        say(f"{name:<34} {len(cases):>5}  {result:<7} {time.perf_counter() - began:>7.2f}")
        wrong += failures
    say("-" * 60)
    for line in wrong:
        say(line)
    lacking = [] if arguments.operations else missing()
    if lacking:
        say(f"without any case: {', '.join(lacking)}")
    say(
        f"{len(chosen)} operation{'s' * (len(chosen) != 1)}, {sum(c.name in chosen for c in CASES)} cases: "
        f"{f'{len(wrong)} wrong' if wrong else 'all derivatives are right'}"
    )
    return int(bool(wrong or lacking))


def _doctor(arguments: argparse.Namespace) -> int:
    from . import doctor

    return doctor.main()


def _trained(arguments: argparse.Namespace) -> tuple[Path, dict[str, Any], Module]:
    """The checkpoint that was asked for, its run's settings, and the model."""
    if name := _backend(arguments):
        _use(name)
    path, settings = runs.find_checkpoint(arguments.trained)
    if not path.is_file():
        raise CheckpointError(f"{path}: is no file")
    return path, settings, load(path)


def _backend(arguments: argparse.Namespace) -> str | None:
    """The backend that --backend or $TINYNET_BACKEND names, None where neither does."""
    given = getattr(arguments, "backend", None)
    name = given if given is not None else os.environ.get("TINYNET_BACKEND") or None
    return (
        None if name is None else runs.choose("TINYNET_BACKEND" if given is None else "--backend", name, backends.NAMES)
    )


def _use(name: str) -> None:
    backends.use(name)


def _accuracy(value: float) -> None:
    say(f"test accuracy: {value:.2%}")


# ---- arguments ----------------------------------------------------------------------------------------------


def _count(text: str) -> int:
    return _number(text, int, lambda n: n >= 1, "a whole number, 1 or more")


def _seed(text: str) -> int:
    return _number(text, int, lambda n: 0 <= n < 2**62, "a whole number from 0 to 2**62 - 1")


def _rate(text: str) -> float:
    return _number(text, float, lambda x: 0 < x < float("inf"), "a number above 0")


def _workers(text: str) -> int | str:
    return (
        "auto"
        if text == "auto"
        else _number(
            text, int, lambda n: 1 <= n <= runs.MOST_WORKERS, f"auto, or a whole number from 1 to {runs.MOST_WORKERS:,}"
        )
    )


def _number(text: str, kind: Callable, fits: Callable, wanted: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value
