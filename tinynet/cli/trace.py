"""`tinynet trace IMAGE`: what a trained network computes on a picture, operation by operation."""

from __future__ import annotations

import argparse

from ..console import plain, say
from . import trained
from .usage import UsageError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="PNG, JPEG and others (with Pillow), or .npy")
    parser.add_argument(
        "--run", dest="trained", metavar="RUN", help="a run's folder, or a checkpoint (default: the newest run)"
    )
    parser.add_argument(
        "--class",
        dest="label",
        metavar="NAME",
        help="the class that the loss compares with (default: go back from the outputs)",
    )
    parser.add_argument("--fused", action="store_true", help="let neighbours run as one operation, as in training")
    parser.add_argument("--graph", metavar="FILE", help="draw the network, as .svg or .dot")


def trace(arguments: argparse.Namespace) -> int:
    """Print a line for each operation, forward and back."""
    from .. import insight

    path, settings, model = trained.loaded(arguments, text=False)
    image = trained.seen_by(arguments.image, path, model, settings)
    names = settings.get("classes") or [str(i) for i in range((model.output_shape or (0,))[-1])]
    if arguments.label is not None and arguments.label not in names:
        raise UsageError(f"--class {arguments.label!r} is none of {', '.join(map(plain, names))}")
    y = None if arguments.label is None else [names.index(arguments.label)]
    if arguments.graph is not None:
        insight.draw_graph(model, arguments.graph)
    say(str(insight.trace(model, image[None], y, fused=arguments.fused)))
    if arguments.graph is not None:
        say(f"\nwrote {plain(arguments.graph)}")
    return 0
