"""`tinynet sample`: a language model goes on with a text."""

from __future__ import annotations

import argparse

import numpy as np

from .. import backends
from ..console import harmless, say
from ..data import DataError
from ..data.text import Vocabulary
from ..saving.checkpoint import CheckpointError, load
from . import language, runs, usage
from .usage import UsageError, chosen_backend


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add = parser.add_argument
    add(
        "trained", nargs="?", metavar="RUN", help="a run's folder, or a checkpoint (default: the newest language model)"
    )
    add("--prompt", metavar="TEXT", help="what the text begins with (default: as a new line does)")
    add("--length", type=usage.count, default=500, metavar="N", help="characters to add (default: 500)")
    add("--temperature", type=usage.temperature, default=0.8, metavar="X", help="below 1 the likely becomes likelier, "
        "0 takes the likeliest (default: 0.8)")  # fmt: skip
    add("--top-k", type=usage.count, metavar="K", help="draw from the K likeliest alone (default: all)")
    add("--seed", type=usage.seed, default=0, metavar="N", help="of the draws (default: 0)")


def _new_line(vocabulary: Vocabulary) -> np.ndarray:
    """What stands before a text that begins anew: a line's end, or the first symbol where the text has no lines."""
    try:
        return vocabulary.encode("\n")
    except DataError:
        return np.zeros(1, np.int64)


def sample(arguments: argparse.Namespace) -> int:
    """Print the prompt and what the model adds to it."""
    from ..training import generate

    if name := chosen_backend(arguments):
        backends.use(name)
    path, _ = runs.find_checkpoint(arguments.trained, text=True)
    if not path.is_file():
        raise CheckpointError(f"{path}: is no file")
    vocabulary, model = language.vocabulary(path), load(path)
    try:
        ids = vocabulary.encode(arguments.prompt) if arguments.prompt else _new_line(vocabulary)
    except DataError as error:
        raise UsageError(f"--prompt: {error}; it learnt {vocabulary.decode(range(len(vocabulary)))!r:.300}") from None
    written = generate(
        model,
        ids,
        arguments.length,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        seed=arguments.seed,
    )
    say(harmless(vocabulary.decode(written if arguments.prompt else written[1:])))
    return 0
