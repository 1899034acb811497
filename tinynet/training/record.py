"""A run's checkpoint: all that it takes to go on to the same bits, written, read and refused where it does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..ops import random
from ..saving import checkpoint as files
from ..saving.checkpoint import CheckpointError
from . import settings

if TYPE_CHECKING:
    from .run import Run


def begin(run: Run) -> None:
    """Note what the run begins with. TypeError for a state that no file holds: an epoch would be lost later."""
    if run.path is not None:
        run.settings = settings.of_run(run)
        run.attributes = settings.changing(run.model)
        files.check(run.model.state_dict(), description(run))


def save(run: Run) -> None:
    """Write the checkpoint."""
    assert run.path is not None
    weights, state = run.model.state_dict(), run.optimizer.state_dict()
    files.refuse_broken(run.path, run.model, weights, state)
    arrays = {
        **files.prefixed("model", weights),
        **files.prefixed("optimizer", state),
        **files.prefixed("best", run.best_weights),
        **files.prefixed("last", run.last_weights),
    }
    files.write(run.path, arrays, description(run))


def description(run: Run) -> dict[str, Any]:
    """What the checkpoint holds beside the arrays: the settings that the run began with, and all that steps and
    callbacks have changed since."""
    now = settings.changing(run.model)
    return {
        "kind": "run",
        "model": files.describe(run.model),
        "settings": run.settings,
        "progress": vars(run.progress),
        "loader": run.first_epoch,
        "random": {"seed": random.state.seed, "steps": random.state.steps},
        "options": [
            {k: settings.text(v) for k, v in group.options.items() if k != "lr"} for group in run.optimizer.groups
        ],
        "evaluating": [name for name, module in run.model.named_modules() if not module.training],
        "changed": {
            name: {k: now[name][k] for k, v in held.items() if name in now and now[name].get(k, v) != v}
            for name, held in run.attributes.items()
        },
    }


def resume(run: Run) -> None:
    """Take up the run that the checkpoint holds, if there is one. CheckpointError, and nothing changed, where that
    cannot be done."""
    assert run.path is not None
    if not run.path.exists():
        return
    arrays, found = files.read(run.path)
    if found.get("kind") != "run":
        raise CheckpointError(f"{run.path}: holds a model, not a run to resume; tn.load returns the model")
    frozen = files.described(run.path, found)["frozen"]
    settings.refuse_others(run.path, found.get("settings"), run.settings, frozen)
    before = run.optimizer.state_dict()
    try:
        progress = type(run.progress)(**found["progress"])
        progress.check(run.loader, run.columns())
        seed, steps, first_epoch = settings.counters(found)
        options = settings.options(run.optimizer, found["options"])
        changed = settings.changes(run.model, found["changed"], found["evaluating"])
        model, best, last = (files.part(name, arrays) for name in ("model", "best", "last"))
        if any(
            held and {k: w.shape for k, w in held.items()} != {k: w.shape for k, w in model.items()}
            for held in (best, last)
        ):
            raise ValueError("its best weights are not of the model")
        run.optimizer.load_state_dict(files.part("optimizer", arrays))
        files.restore(run.path, run.model, last or model)
    except Exception as error:  # anything may stand in a file
        run.optimizer.load_state_dict(before)
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{run.path}: cannot be resumed: {files.first_line(error)}") from error
    random.state.seed, random.state.steps = seed, steps
    for group, held in zip(run.optimizer.groups, options, strict=True):
        group.options.update(held)
    for module, name, value in changed:
        setattr(module, name, value)
    still = set(frozen)
    for name, p in run.model.named_parameters():
        if p.requires_grad == (name in still):
            p.requires_grad_(name not in still)
    run.progress, run.first_epoch, run.best_weights = progress, first_epoch, best
    run.loader.set_epoch(first_epoch + progress.epoch)
    run.saved = True
