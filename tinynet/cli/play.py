"""`tinynet play`: a page on which one draws and watches a network think, trains one, and reads how it computes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..console import plain, say
from . import runs, tasks, trained
from .usage import UsageError, number

IMAGES, SMALL = 10_000, ("mnist_cnn", "mnist_small", "mlp", "logistic_regression")
NETWORKS = {  # by the data that the page offers to train on; the first is its choice
    "digits": SMALL,
    "mnist": SMALL,
    "fashion_mnist": SMALL,
    "cifar10": ("cifar_small", "cifar_cnn", "mlp", "logistic_regression"),
}


def add(play: argparse.ArgumentParser) -> None:
    play.add_argument(
        "trained", nargs="?", metavar="RUN", help="a run's folder, or a checkpoint (default: the newest run, if any)"
    )
    play.add_argument("--port", type=_port, default=0, metavar="N", help="of the page's address (default: a free one)")
    play.add_argument("--no-browser", action="store_true", help="print the address alone, and open no browser")


def play(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    import webbrowser

    from ..play import Server, Session

    network = _network(arguments.trained)
    try:
        server = Server(Session(network, Tools()), arguments.port)
    except OSError as error:
        raise UsageError(f"port {arguments.port} is not free ({error.strerror}); name another one by --port") from None
    if network is None:
        say("there is no run yet: the page can train a network (or: tinynet train)")
    else:
        say(f"{plain(network.name)}: {plain(network.about)}")
    say(f"the page is at {server.address}  (Ctrl-C ends it)")
    if not arguments.no_browser:
        webbrowser.open(server.address)
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        say("\nthe page has ended")
    finally:
        server.server_close()
    return 0


class Tools:
    """What the page borrows from the other commands."""

    networks = NETWORKS

    def load_data(self, name: str) -> tasks.Task:
        """The data of a training on the page: of drawn digits, fewer than `tinynet train` takes."""
        return tasks.load_task(name, shape=None, samples=IMAGES)

    def make_model(self, name: str, task: Any) -> Any:
        return tasks.make_model(name, task)

    def read_picture(self, path: Path, shape: tuple, learnt: str | None) -> tuple[np.ndarray | None, str]:
        return trained.seen(str(path), shape, learnt)


def _network(given: str | None) -> Any:
    """The network of a run, None where none was named and there is none."""
    from ..play import Network
    from ..saving.checkpoint import load

    if given is None:
        try:
            runs.newest(text=False)
        except UsageError:
            return None
    path, settings = runs.find_checkpoint(given, text=False)
    model = load(path)
    count = (model.output_shape or (0,))[-1]
    return Network(
        name=plain(path.parent if settings else path),
        model=model,
        classes=settings.get("classes") or list(map(str, range(count))),
        learnt=settings.get("data"),
        about=trained.describe(settings).strip(" ()"),
        samples=_samples(model, settings),
    )


def _samples(model: Any, settings: dict[str, Any]) -> Callable[[], tuple[np.ndarray, np.ndarray]] | None:
    """Loads the test images of the run's own data."""
    if not (name := settings.get("data")):
        return None

    def load() -> tuple[np.ndarray, np.ndarray]:
        task = tasks.load_task(tasks.data_name(name), shape=model.built, samples=settings.get("samples"), train=False)
        return tasks.matched(task, settings.get("classes"), "the run").test

    return load


def _port(text: str) -> int:
    return number(text, int, lambda n: 0 <= n < 1 << 16, "a port, from 0 to 65535")
