"""`tinynet explain IMAGE`: why a trained network says what it says, on one page."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..console import is_terminal, plain, say
from . import trained


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="PNG, JPEG and others (with Pillow), or .npy")
    parser.add_argument(
        "--run", dest="trained", metavar="RUN", help="a run's folder, or a checkpoint (default: the newest run)"
    )
    parser.add_argument("--out", metavar="FILE", help="the page, a PNG (default: IMAGE-explained.png here)")
    parser.add_argument(
        "--text", action="store_true", help="in the terminal, instead of a page; so, too, where matplotlib is missing"
    )


def explain(arguments: argparse.Namespace) -> int:
    """Write the page, or print it."""
    from .. import insight
    from ..saving.checkpoint import replacing

    checkpoint, settings, model = trained.loaded(arguments, text=False)
    image = trained.seen_by(arguments.image, checkpoint, model, settings)
    found = insight.explain(model, image, classes=settings.get("classes"))
    name = plain(Path(arguments.image).name)
    if arguments.text or not insight.can_plot():
        colour = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")
        say(insight.explanation_text(found, colour=colour))
        if not arguments.text:
            say("\n(for a page as PNG: pip install 'tinynet[plot]')")
        return 0
    path = Path(arguments.out or f"{Path(arguments.image).stem}-explained.png")
    figure = insight.show_explanation(found, title=f"{name}: {found.name(found.likeliest[0], found.probability)}")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
    say(trained.who_sees(checkpoint, settings))
    say(f"{name}: {found.name(found.likeliest[0], found.probability)}; {found.verdict()}\nwrote {plain(path)}")
    return 0
