"""Search: which settings train a network best, the losers stopped early."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import json
import math
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..console import say
from ..integers import count
from ..nn.module import Module
from ..ops import random
from ..saving.checkpoint import load, replacing
from .fit import fit
from .metrics import higher_is_better
from .nonfinite import NonFiniteError
from .settings import text

FIT = set(inspect.signature(fit).parameters)  # settings that `fit` takes; `make` takes the others


@dataclass(eq=False)
class Trial:
    """A choice of settings, and how its training went."""

    settings: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)  # the rows that `fit` returned; none: it diverged
    value: float = math.inf  # what it came to, less is better

    def row(self, monitor: str) -> list[str]:
        values = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in self.settings.values()]
        return [*values, str(len(self.history)), *(f"{row[monitor]:.4f}" for row in self.history[-1:])]


@dataclass
class Search:
    """What `search` returns. `print(found)` is a table, `insight.plot_search(found, path)` a picture."""

    trials: list[Trial]  # the best first; behind those that went on the stopped ones, then those that diverged
    monitor: str  # the column of the history that decided
    model: Module  # of the best trial, trained

    def __str__(self) -> str:
        rows = [[*self.trials[0].settings, "epochs", self.monitor], *(t.row(self.monitor) for t in self.trials)]
        return "\n".join("  ".join(f"{cell:>12}" for cell in row) for row in rows)


def search(
    make: Callable[..., Module],
    space: Mapping[str, Sequence[Any]],
    data: Any,
    *,
    trials: int | None = None,
    halving: int = 3,
    monitor: str = "val_loss",
    folder: str | Path | None = None,
    **options: Any,
) -> Search:
    """Train networks under many settings, and find the best by successive halving (Jamieson & Talwalkar 2016): all
    train for a few epochs, the best third goes on for three times as many, and so on to `epochs`.

    Args:
        make: a function of settings that returns a model; those that `fit` takes (lr, epochs, …) go to it instead.
        space: lists of values by the settings' names, of which each is tried with each (a grid); with `trials=n` n
            settings are drawn, also from ranges (low, high): evenly in their logarithm, whole numbers of whole ones.
        data: as for `fit`. halving: one in how many goes on; 1: all do. monitor: the history's column that decides.
        folder: keeps search.json and the checkpoints, from which an interrupted search, called again, goes on alike.
        options: what `fit` gets besides, the same for all trials: by default epochs=9, of a trial that is never
            stopped; validation=0.2, one split for all; seed=0, of initial weights, order, split and draws.
    Returns: a Search. Trials whose loss is not finite are losers. tn.seed's random state stays as it was.
    Raises: ValueError for a space that makes no sense, and where the folder holds another search.
    """
    if higher_is_better(monitor) is None:
        raise ValueError(f"search: monitor={monitor!r} must be a loss, an error or an accuracy, such as val_loss")
    options = {"epochs": 9, "validation": 0.2, "seed": 0, "verbose": False} | options
    found, halving = _drawn(space, trials, options["seed"]), count("search", "halving", halving, 1)
    rungs = int(math.log(min(len(found), options["epochs"]), halving) + 1e-9) if halving > 1 else 0
    asked = json.dumps(text([make, space, data, trials, halving, monitor, options | {"callbacks": None}]))
    models = weakref.WeakSet[Module]()

    def made(t: Trial) -> Module:
        random.seed(options["seed"])
        model = make(**{name: value for name, value in t.settings.items() if name not in FIT})
        if model in models:
            raise ValueError("search: make returned a model that it returned before; it must make another each time")
        models.add(model)
        return model

    with tempfile.TemporaryDirectory() as nowhere, random.restoring():
        (place := Path(nowhere if folder is None else folder)).mkdir(parents=True, exist_ok=True)
        file = place / "search.json"
        then, rows = json.loads(file.read_text()) if file.exists() else (asked, [[]] * len(found))
        if then != asked:
            raise ValueError(f"search: {place} holds another search; name another folder, or ask for the same")
        for trial, row in zip(found, rows, strict=True):
            trial.history = row
        going, stopped = list(found), list[Trial]()
        for rung in range(rungs + 1):
            for t in going:
                _train(t, made, data, place / f"trial-{found.index(t)}", halving ** (rung - rungs), monitor, options)
                with replacing(file) as temporary:
                    temporary.write_text(json.dumps([asked, [t.history for t in found]]))
                say("  ".join(f"{k} {v}" for k, v in zip([*space, "epochs", monitor], t.row(monitor), strict=False)))
            ranked = sorted([*sorted(going, key=lambda t: t.value), *stopped], key=lambda t: t.value == math.inf)
            going, stopped = ranked[: (left := len(found) // halving ** (rung + 1))], ranked[left:]
        if math.isinf((best := ranked[0]).value):
            raise ValueError("search: every trial's loss became NaN or infinite; search lower learning rates")
        return Search(ranked, monitor, load(place / f"trial-{found.index(best)}", made(best)))


def _drawn(space: Mapping[str, Sequence[Any]], trials: int | None, seed: int) -> list[Trial]:
    """The trials: all choices of the space, or `trials` draws."""
    for name, v in space.items():
        if not (v if isinstance(v, list) else trials and isinstance(v, tuple) and len(v) == 2 and 0 < v[0] < v[1]):
            raise ValueError(f"search: {name}={v!r:.60} must be a list; with trials=n, also a range 0 < low < high")
    if trials is None:
        return [Trial(dict(zip(space, values, strict=True))) for values in itertools.product(*space.values())]
    rng = np.random.Generator(np.random.Philox(seed))

    def draw(v: Sequence[Any]) -> Any:
        value = v[rng.integers(len(v))] if isinstance(v, list) else math.exp(rng.uniform(*np.log(v)))
        return round(value) if isinstance(v, tuple) and all(isinstance(end, int) for end in v) else value

    return [Trial({name: draw(v) for name, v in space.items()}) for _ in range(count("search", "trials", trials, 1))]


def _train(t: Trial, made: Callable, data: Any, path: Path, share: float, monitor: str, options: dict) -> None:
    """Train a trial for a share of its epochs, from where it is."""
    given = options | {name: value for name, value in t.settings.items() if name in FIT}
    given["epochs"] = max(1, math.ceil(given["epochs"] * share - 1e-9))
    if len(t.history) < given["epochs"]:
        model, t.history = made(t), []
        with contextlib.suppress(NonFiniteError):
            t.history = fit(model, data, checkpoint=path, resume=True, **given)
    row = (t.history[: given["epochs"]] or [{monitor: math.inf}])[-1]  # a search taken up may know what came later
    if monitor not in (last := {name: value for name, value in row.items() if value is not None}):
        raise ValueError(f"search: the history has no {monitor}; it has {', '.join(last)}")
    value = -last[monitor] if t.history and higher_is_better(monitor) else last[monitor]
    t.value = value if math.isfinite(value) else math.inf
