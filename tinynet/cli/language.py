"""Language models on the command line: a network learns a text, in a folder of its own, and says what it has learnt.

Beside what each run has (see `runs`), its folder holds vocabulary.json and samples.txt, what the network wrote after
each epoch.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import data
from ..console import Bar, harmless, is_terminal, plain, say
from ..nn.module import Module
from ..saving.checkpoint import first_line, replacing
from . import runs, tasks
from .usage import UsageError

SAMPLES = "samples.txt"
STEPS = 250  # of an epoch: a text has as many windows as characters, and an epoch sees some of them
WARMUP = 100  # steps
SAMPLE = 300  # characters that are written after each epoch


@dataclass(frozen=True)
class Recipe:
    """How a network learns a text, where nothing else is asked for."""

    batch: int  # windows a step
    length: int  # characters a window
    lr: float
    epochs: int


RECIPES = {
    "gpt": Recipe(batch=12, length=64, lr=1e-3, epochs=8),
    "char_lstm": Recipe(batch=32, length=64, lr=5e-3, epochs=8),
}


def corpus(name: str, samples: int | None = None, vocabulary: data.text.Vocabulary | None = None) -> data.text.Corpus:
    """The text called `name`; of what is there to train on, the first `samples` characters."""
    if name in tasks.TEXTS:
        found = tasks.TEXTS[name](vocabulary=vocabulary)
    else:
        found = data.text.corpus_of(data.text.read_text(name), vocabulary=vocabulary)
    return data.text.Corpus(found.train[:samples], found.validation, found.vocabulary)


def train(folder: Path | None, settings: dict[str, Any], out: str | None) -> int:
    """Train by these settings, into `folder`, or a new one."""
    from ..ops.random import seed
    from ..optim.schedules import cosine
    from ..training.fit import fit

    text, recipe = corpus(settings["data"], settings["samples"]), RECIPES[settings["model"]]
    if len(text.validation) <= recipe.length:
        raise UsageError(
            f"--data {settings['data']}: {len(text.train) + len(text.validation)} characters are too few: the last "
            f"tenth is to validate with, and must hold {recipe.length + 1}; give {10 * (recipe.length + 1)} or more"
        )
    seed(settings["seed"])
    model = tasks.LANGUAGE[settings["model"]](len(text.vocabulary)).build(recipe.length, input_dtype=np.int64)
    windows = data.text.Windows(text.train, recipe.length)
    held_out = data.text.Windows(text.validation, recipe.length, stride=recipe.length)
    if folder is None:
        folder = runs.new_folder(settings["model"], settings["data"], out)
        _write(folder / runs.VOCABULARY, json.dumps(text.vocabulary.to_json()))
    elif vocabulary(folder / runs.CHECKPOINT).to_json() != text.vocabulary.to_json():
        raise UsageError(
            f"{folder} was begun with other characters than {settings['data']} has now: put the text back as it was, "
            "or begin a new run"
        )
    settings |= {"classes": [], "steps": STEPS}
    say(
        f"{settings['model']} ({sum(p.size for p in model.parameters()):,} parameters) on {plain(settings['data'])}: "
        f"{len(text.train):,} characters to train, {len(text.validation):,} to validate, {len(text.vocabulary)} "
        f"different ones; an epoch is {STEPS} steps of {settings['batch_size']} windows of {recipe.length} characters; "
        f"into {plain(folder)}"
    )
    with runs.running(folder, settings, f"go on with: tinynet train --resume {folder}"):
        history = fit(
            model,
            data.Loader(windows, batch_size=settings["batch_size"], steps=STEPS, seed=settings["seed"]),
            validation=held_out,
            metrics=[],
            epochs=settings["epochs"],
            lr=settings["lr"],
            optimizer=settings["optimizer"],
            schedule=cosine(total=settings["epochs"] * STEPS, warmup=WARMUP, final=0.1),
            clip_norm=1.0,
            workers=runs.recorded_workers(folder / runs.CHECKPOINT, settings["workers"]),
            callbacks=[_writer(folder, model, text)],
            checkpoint=folder / runs.CHECKPOINT,
            checkpoint_every=500,
            resume=True,
            csv=folder / runs.HISTORY,
        )
    _finished(folder, settings, history)
    return 0


def _writer(folder: Path, model: Module, text: data.text.Corpus) -> Callable[[dict[str, Any]], None]:
    """What prints a sample after each epoch, and keeps it in the run's folder."""
    from ..training import generate

    def write(row: dict[str, Any]) -> None:
        written = generate(model, text.validation[:1], SAMPLE, temperature=0.8, seed=row["epoch"])
        sample = harmless(text.vocabulary.decode(written[1:]))
        title = f"---- epoch {row['epoch']}, validation loss {row['val_loss']:.4f} ----"
        with Bar.external_write_mode(file=sys.stdout) if is_terminal(sys.stdout) else contextlib.nullcontext():
            say(f"{title}\n{sample}\n{'-' * len(title)}")
        path = folder / SAMPLES
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        kept = before.partition(f"---- epoch {row['epoch']},")[0]  # a resumed run may write an epoch's again
        _write(path, f"{kept}{title}\n{sample}\n")

    return write


def _write(path: Path, content: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _finished(folder: Path, settings: dict[str, Any], history: list[dict[str, Any]]) -> None:
    """Record how the run ended, and say it."""
    from ..insight import plots

    seconds, loss = sum(row["seconds"] for row in history), history[-1]["val_loss"]
    ended = {"status": "finished", "train_seconds": round(seconds, 3), "validation_loss": loss}
    runs.write_settings(folder, settings | ended)
    files = [runs.CHECKPOINT, runs.VOCABULARY, SAMPLES, runs.HISTORY, runs.SETTINGS]
    if plots.can_plot():
        try:
            title = f"{settings['model']} on {os.path.basename(settings['data'])}"
            plots.plot_history(history, folder / "learning.png", title=title)
            files.append("learning.png")
        except Exception as error:  # a picture must not cost the run its end
            say(f"tinynet: learning.png cannot be drawn: {plain(first_line(error))}", sys.stderr)
    say(f"trained {len(history)} epoch{'s' * (len(history) != 1)} in {seconds:.1f} s")
    say(f"wrote {plain(folder)}: {', '.join(files)}")
    say(f"tinynet sample {plain(folder)} goes on writing")
    say(f"validation loss: {loss:.4f}")


def evaluate(path: Path, settings: dict[str, Any], model: Module, name: str) -> int:
    """Measure the language model of a checkpoint on the last tenth of a text."""
    from ..training import evaluate as measured

    text, length = corpus(name, vocabulary=vocabulary(path)), RECIPES[settings["model"]].length
    held_out = data.text.Windows(text.validation, length, stride=length)
    say(f"{plain(path)} on {len(text.validation):,} characters of {plain(name)}, in windows of {length}")
    say(f"validation loss: {measured(model, held_out, metrics=[])['loss']:.4f}")
    return 0


def vocabulary(checkpoint: Path) -> data.text.Vocabulary:
    """The vocabulary beside a checkpoint. UsageError where there is none, as of runs that learnt no text."""
    path = checkpoint.parent / runs.VOCABULARY
    if not path.is_file():
        raise UsageError(f"{checkpoint}: has no {runs.VOCABULARY} beside it, so it is no language model's run")
    try:
        return data.text.vocabulary_from(json.loads(data.text.read_text(path)))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is damaged: {error}") from None
