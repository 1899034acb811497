"""The `tinynet` command: train, finetune, evaluate, sample, predict, play, gradcheck, doctor."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from .. import backends, optim
from ..console import message, plain, say
from ..saving.checkpoint import first_line
from ..version import __version__
from . import explain, finetune, play, sample, tasks, trace, usage
from .train import train
from .trained import SURE, evaluate, predict
from .usage import Parser, UsageError, choose, chosen_backend, debugging

EXAMPLES = """examples:
  tinynet train                              a network learns handwritten digits, in a minute, without a download
  tinynet train --data mnist --epochs 10     the same network on MNIST
  tinynet train --model gpt                  a transformer learns to write like Shakespeare
  tinynet train --resume                     go on with the run that was interrupted
  tinynet evaluate --data mnist              the newest run, on MNIST's test images
  tinynet predict three.png                  which digit is it?
  tinynet play                               draw a digit, and watch the network think
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
        words = sys.argv[1:] if argv is None else list(argv)
        if words and not words[0].startswith("-"):
            choose("command", words[0], COMMANDS)
        arguments, unknown = _parser().parse_known_args(words)
        if unknown:
            _refuse(next(word for word in words if word in COMMANDS), unknown[0])
        return arguments.run(arguments)
    except SystemExit as stop:  # argparse: --help, or a wrong usage that it has explained
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt as stop:
        say(f"tinynet: interrupted{str(stop) and '; ' + message(stop)}", sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: `tinynet … | head`
        return 1
    except Exception as error:
        if debugging():
            raise
        text = message(error)
        if not isinstance(error, ValueError | ArithmeticError | OSError | backends.BackendError):
            text += f" ({type(error).__name__}; TINYNET_DEBUG=1 shows where)"
        say(f"tinynet: error: {text}", sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _refuse(command: str, word: str) -> NoReturn:
    """UsageError for a word that the command does not take, with the option that may be meant."""
    parser = Parser()
    for add in COMMANDS[command][3]:
        add(parser)
    near = difflib.get_close_matches(word.partition("=")[0], parser._option_string_actions, 1)
    raise UsageError(
        f"{command} takes no {plain(word, 60)}{f'; did you mean {near[0]}?' if near else ''}; "
        f"tinynet {command} --help lists what it takes"
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="tinynet",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A neural-network engine that you can read in an evening.",
    )
    parser.add_argument("--version", action="version", version=f"tinynet {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (run, text, examples, arguments) in COMMANDS.items():
        shown = "\n".join(f"  tinynet {name} {example}".rstrip() for example in examples)
        added = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"examples:\n{shown}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        for add in arguments:
            add(added)
    return parser


def _train_what(train: argparse.ArgumentParser) -> None:
    train.add_argument(
        "--model",
        metavar="NAME",
        help=f"{', '.join(tasks.CLASSIFIERS)} (default: mnist_cnn; for cifar10 cifar_cnn; for a folder, by the size "
        f"and the colours of its pictures); for texts {', '.join(tasks.LANGUAGE)} (default: gpt)",
    )
    train.add_argument(
        "--data",
        metavar="NAME|DIR",
        help=f"{', '.join(tasks.DATA)}, or a folder with a folder of "
        f"pictures a class (default: digits, which are drawn); texts: {', '.join(tasks.TEXTS)}, or a text file",
    )
    train.add_argument(
        "--samples",
        "--train-size",
        type=usage.count,
        metavar="N",
        dest="samples",
        help="training images, or characters of a text, to use (default: all; digits 40,000)",
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


def _train_how(train: argparse.ArgumentParser) -> None:
    train.add_argument(
        "--epochs",
        type=usage.count,
        metavar="N",
        help="times through the data, of texts 250 steps (default: digits 3, mnist 5, fashion_mnist and texts 8, "
        "others 10)",
    )
    train.add_argument(
        "--batch-size",
        type=usage.count,
        metavar="N",
        help="images a step (default: 64; 16 for a folder of few; gpt 12, char_lstm 32)",
    )
    train.add_argument(
        "--lr",
        type=usage.rate,
        metavar="X",
        help="learning rate (default: the optimiser's, adam 0.001; char_lstm 0.005)",
    )
    train.add_argument(
        "--optimizer", metavar="NAME", help=f"{', '.join(optim.OPTIMIZERS)} (default: adam; for texts adamw)"
    )
    _backend(train)
    train.add_argument(
        "--workers",
        type=usage.workers,
        metavar="N",
        help="processes that share each batch, or auto, one a core (default: auto)",
    )
    train.add_argument("--seed", type=usage.seed, metavar="N", help="of initial weights, order, dropout (default: 0)")


def _evaluate(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument(
        "trained", nargs="?", metavar="RUN", help="a run's folder, or a checkpoint (default: the newest run)"
    )
    evaluate.add_argument(
        "--data", metavar="NAME|DIR", help=f"{', '.join(tasks.DATA)}, or a folder (default: the run's own)"
    )


def _predict(predict: argparse.ArgumentParser) -> None:
    predict.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="PNG, JPEG and others (with Pillow), or .npy. For a network that learnt digits: a photograph or a page "
        "with one, dark on light or light on dark; it is found, cropped, and centred as MNIST's are",
    )
    predict.add_argument(
        "--run", dest="trained", metavar="RUN", help="a run's folder, or a checkpoint (default: the newest run)"
    )
    predict.add_argument(
        "--show",
        action="store_true",
        help="show what the network sees, and write it as IMAGE-seen.png here; a class of less than "
        f"{SURE:.0%} probability is called not sure".replace("%", "%%"),
    )


def _backend(command: argparse.ArgumentParser) -> None:
    names = ", ".join(backends.NAMES)
    command.add_argument("--backend", metavar="NAME", help=f"{names} (default: $TINYNET_BACKEND, or numpy)")


def _operations(check: argparse.ArgumentParser) -> None:
    check.add_argument("operations", nargs="*", metavar="OPERATION", help="which ones (default: all)")


def gradcheck(arguments: argparse.Namespace) -> int:
    from ..ops.cases import CASES, missing

    names = list(dict.fromkeys(case.name for case in CASES))
    chosen = [choose("operation", name, names) for name in arguments.operations] or names
    if name := chosen_backend(arguments):
        backends.use(name)
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


def doctor(arguments: argparse.Namespace) -> int:
    from .doctor import main

    return main()


COMMANDS: dict[str, tuple[Callable, str, list[str], list[Callable]]] = {  # what runs, help, examples, arguments
    "train": (
        train,
        "train a network, into a folder of its own",
        [
            "",
            "--model mlp --data fashion_mnist",
            "--data photos/     a folder of pictures a class",
            "--data shakespeare --model gpt",
            "--resume",
        ],
        [_train_what, _train_how],
    ),
    "finetune": (
        finetune.finetune,
        "go on with a trained network on other data, its last layers first",
        ["runs/mnist_cnn-digits-1 --data mnist --samples 200", "runs/mnist_cnn-digits-1 --data photos/ --freeze 0"],
        [finetune.add, _backend],
    ),
    "evaluate": (
        evaluate,
        "measure a trained network on test images, class by class",
        ["", "--data mnist", "runs/mnist_cnn-digits-1"],
        [_evaluate, _backend],
    ),
    "sample": (
        sample.sample,
        "let a language model write on",
        ["", "runs/gpt-shakespeare-1 --prompt 'ROMEO:' --temperature 0.7 --top-k 40"],
        [sample.add, _backend],
    ),
    "predict": (
        predict,
        "say what is to be seen in pictures",
        ["three.png", "photo.jpg --show", "scan1.png scan2.npy --run runs/mnist_cnn-digits-1"],
        [_predict, _backend],
    ),
    "explain": (
        explain.explain,
        "say why a network answers so for a picture, on one page: where it looked, what decides",
        ["three.png", "photo.jpg --run runs/cifar_cnn-cifar10-1 --out why.png", "three.png --text"],
        [explain.add, _backend],
    ),
    "trace": (
        trace.trace,
        "say what a network computes on a picture, operation by operation, forward and back",
        ["three.png", "three.png --class 3 --fused", "three.png --graph network.svg"],
        [trace.add, _backend],
    ),
    "play": (
        play.play,
        "open a page: draw and watch the network think, train one and watch it learn",
        ["", "runs/mnist_cnn-digits-1", "--port 8000 --no-browser"],
        [play.add],
    ),
    "gradcheck": (
        gradcheck,
        "check the derivative of every operation against central differences",
        ["", "conv2d max_pool2d"],
        [_operations],
    ),
    "doctor": (doctor, "say what works on this machine, and how to get the rest", [""], []),
}
