"""What the bits of a run depend on, as JSON that can be compared: a run is taken up under the settings it had only.
What the run itself has changed of them is recorded too, and set again.

A function is told by its name and by what it holds: the arguments of a `partial`, the variables that it closes over
and its defaults; one that is not tinynet's also by a checksum of its code and by the globals that it reads; an object
of the user's class by that class, too. What an object hides (a random generator, a handle) cannot be compared; its
text has a "(?)".
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import re
import sys
import types
import warnings
import zlib
from collections import deque
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from ..backends.switches import snapshot
from ..data import Loader
from ..data.sources import Arrays, described
from ..nested import leaves
from ..nn.module import Module, hooks_of
from ..ops import random
from ..optim import Optimizer
from ..parallel.snapshot import named
from ..saving.architecture import BOOKKEEPING, SCALARS
from ..saving.checkpoint import CheckpointError
from ..tensor import Tensor
from ..version import __version__

DEEPEST = 8  # objects within objects
LONGEST = 300  # characters of a global's text; a longer one is told by its checksum
COLLECTIONS = (np.ndarray, np.generic, Tensor, tuple, list, dict, set, frozenset, deque, argparse.Namespace)
PLAIN = (*COLLECTIONS, types.SimpleNamespace, Module, functools.partial, np.random.Generator, Random)
CODE = re.compile(r"#[0-9a-f]{8}")
PYTHON = "{}.{}".format(*sys.version_info)


def of_run(run: Any) -> dict[str, Any]:
    """All that the bits of the result depend on, for a `Run`."""
    loader, stopping, switches = run.loader, run.stopping, snapshot()
    named = {
        "tinynet": __version__,
        "python": PYTHON,
        "backend": run.model.parameters()[0].backend.name,
        "fusion": switches["fusion"],
        "conv_algorithm": switches["conv_algorithm"],
        "workers": run.trainer.workers,
        "accumulate": run.trainer.accumulate,
        "batch_size": loader.batch_size,
        "shuffle": loader.shuffle,
        "drop_last": loader.drop_last,
        "steps": loader.steps,
        "seed": loader.seed,
        "loader": type(loader),
        "augment": loader.augment,
        "optimizer": type(run.optimizer),
        "lr": run.rates,
        "loss": run.loss,
        "metrics": run.metrics,
        "clip_norm": run.trainer.clip_norm,
        "schedule": run.schedule,
        "attack": run.attack,
        "early_stopping": None if stopping is None else vars(stopping),
        "train": fingerprint(loader),
        "validation": None if run.held_out is None else fingerprint(run.held_out),
        "frozen": [name for name, p in run.model.named_parameters() if not p.requires_grad],
    }
    for i, group in enumerate(run.optimizer.groups):
        named |= {f"{name} (group {i})" if i else name: value for name, value in group.options.items() if name != "lr"}
    return {name: text(value) for name, value in named.items()} | dict(layers(run.model))


def refuse_others(path: Path, then: Any, now: dict[str, Any], frozen: list[str]) -> None:
    """CheckpointError where the settings of the run in the file are not these; a warning where that cannot be seen.

    frozen: the parameters that were frozen when the file was written; the model may come so, too.
    """
    if not isinstance(then, dict):
        raise CheckpointError(f"{path}: is damaged: it holds no settings")
    same_python = then.get("python") == PYTHON
    ignored = {"python"} | ({"frozen"} if now["frozen"] == frozen else set())
    differ, unseen = [], []
    for name in [*now, *(name for name in then if name not in now)]:
        old, new = (_without_code(settings.get(name), same_python) for settings in (then, now))
        if name not in ignored and old != new:
            differ.append(f"{name} was {old!r:.300}, is now {new!r:.300}")
        elif "(?)" in repr(new) or (not same_python and CODE.search(repr(now.get(name)))):
            unseen.append(name)
    if differ:
        raise CheckpointError(
            f"{path}: cannot be resumed, as the result would not be that of one run: "
            f"{'; '.join(differ)}. Set it as it was, or start anew from the weights: "
            "tn.load(path), then fit without resume"
        )
    if unseen:
        warnings.warn(
            f"{path}: is resumed, but whether these are what they were cannot be seen: {', '.join(unseen)}",
            stacklevel=5,
        )


def _without_code(value: Any, same_python: bool) -> Any:
    """Without the checksums of code where they are another Python's."""
    return value if same_python else CODE.sub("", repr(value))


# ---- what callbacks change ----------------------------------------------------------------------------------


def changing(model: Module) -> dict[str, dict[str, Any]]:
    """The modules' attributes that are numbers, texts or None, by the modules' names."""
    return {
        name: {
            k: v.item() if isinstance(v, np.generic) else v
            for k, v in attributes(module).items()
            if isinstance(v, (*SCALARS, np.generic))
        }
        for name, module in model.named_modules()
    }


def changes(model: Module, changed: dict[str, dict], evaluating: list[str]) -> list[tuple[Module, str, Any]]:
    """The attributes that a run has changed, train or eval mode among them, as its file tells them. ValueError (or
    what Python raises) where that makes no sense."""
    modules, now, still = dict(model.named_modules()), changing(model), set(evaluating)
    found: list[tuple[Module, str, Any]] = [(m, "training", name not in still) for name, m in modules.items()]
    for name, held in changed.items():
        for key, value in held.items():
            number = isinstance(now[name][key], int | float)
            if not isinstance(value, (int, float) if number else (str, type(None))):
                raise ValueError(f"it sets {name}.{key} to {value!r:.60}")
            found.append((modules[name], key, value))
    return found


def options(optimizer: Optimizer, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The settings of the optimiser's groups, but for the rates, as a run's file tells them."""
    found = []
    for group, held in zip(optimizer.groups, groups, strict=True):
        held = {k: tuple(v) if isinstance(v, list) else v for k, v in held.items()}
        numbers = [n for v in held.values() for n in (v if isinstance(v, tuple) else (v,)) if not isinstance(n, str)]
        if held.keys() != group.options.keys() - {"lr"} or not all(map(math.isfinite, numbers)):
            raise ValueError("its optimizer has other settings")
        optimizer.check_options({**group.options, **held})
        found.append(held)
    return found


def counters(description: dict[str, Any]) -> tuple[int, dict[str, int], int]:
    """The seed, the steps of the random streams and the loader's first epoch, as a run's file tells them."""
    drawn, first = description["random"], description["loader"]
    seed, steps = drawn["seed"], {name: drawn["steps"][name] for name in random.STREAMS}
    if type(seed) is not int or not all(type(n) is int and 0 <= n < 1 << 63 for n in (first, *steps.values())):
        raise ValueError("its random state makes no sense")
    return seed, steps, first


# ---- layers -------------------------------------------------------------------------------------------------


def layers(model: Module) -> Iterator[tuple[str, str]]:
    """("layer 1", "Dropout(rate=0.5)") of each module."""
    for name, module in model.named_modules():
        told: set[int] = set()
        own = {} if _ours(type(module)) else _members(type(module), functools.partial(text, told=told))
        held = {key: text(value) for key, value in attributes(module).items() if not key.startswith("_")}
        plain = {key: value for key, value in own.items() if type(value) in SCALARS and key not in vars(module)}
        hooks = [text(hook, told=told) for hook in hooks_of(module)]
        rest = [value for key, value in own.items() if type(value) not in SCALARS] + hooks
        yield (
            f"layer {name}".rstrip(),
            _call(type(module).__name__, plain | held) + (f"#{zlib.crc32(repr(rest).encode()):08x}" if rest else ""),
        )


def attributes(module: Module) -> dict[str, Any]:
    """A module's settings: its attributes without parameters, buffers, the modules inside and the bookkeeping."""
    return {name: value for name, value in vars(module).items() if name not in BOOKKEEPING and not _holds(value)}


def _holds(value: Any) -> bool:
    """Whether it is, or a container has, a tensor or a module."""
    if isinstance(value, list | tuple | dict):
        return any(map(_holds, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Module | Tensor)


# ---- any value ----------------------------------------------------------------------------------------------


def text(value: Any, seen: tuple[int, ...] = (), told: set[int] | None = None) -> Any:
    """The value as JSON that another run can be compared by.

    seen: what it is part of. told: the functions and classes that were told already, which are named only.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in SCALARS or isinstance(value, int):
        return value if type(value) in SCALARS else int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, complex | str | bytes | range | np.dtype | os.PathLike):
        return repr(value)
    if id(value) in seen or len(seen) > DEEPEST:
        return "…"
    told = set() if told is None else told
    inside = functools.partial(text, seen=(*seen, id(value)), told=told)
    if isinstance(value, list | tuple | deque):
        return [inside(v) for v in value]
    if isinstance(value, dict):
        return {str(k): inside(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(repr, map(inside, value)))
    if isinstance(value, functools.partial):
        return _call(
            "partial",
            {
                "function": inside(value.func),
                **dict(enumerate(map(inside, value.args))),
                **{k: inside(v) for k, v in value.keywords.items()},
            },
        )
    if isinstance(value, types.MethodType):
        return f"{inside(value.__self__)}.{inside(value.__func__)}"
    if isinstance(value, types.FunctionType):
        return value.__qualname__ if _known(value, told) else _function(value, inside)
    if isinstance(value, Module):
        return "; ".join(layer for _, layer in layers(value))
    if isinstance(value, Tensor):  # of parameters, the values are what the run is about
        return f"{type(value).__name__}{value.shape}" if value.requires_grad else inside(value.numpy())
    if isinstance(value, np.ndarray):
        return (
            inside(value.tolist()) if value.dtype.hasobject else (f"{value.dtype}{value.shape} {_checksum(value):08x}")
        )
    if isinstance(value, Optimizer):
        return type(value).__qualname__
    if isinstance(value, type) and not _foreign(value):
        return value.__qualname__ if _known(value, told) else _call(value.__qualname__, _members(value, inside))
    if isinstance(value, type | types.BuiltinFunctionType | np.ufunc | types.ModuleType):
        return getattr(value, "__qualname__", value.__name__)
    if hasattr(value, "__dict__") and not isinstance(value, types.GeneratorType | Random):
        kind = {} if _foreign(type(value)) else {"class": inside(type(value))}
        return _call(type(value).__qualname__, {k: inside(v) for k, v in vars(value).items()} | kind)
    return f"{type(value).__qualname__}(?)"


def _known(value: Any, told: set[int]) -> bool:
    """Whether it was told already; from now on it was."""
    known = id(value) in told
    told.add(id(value))
    return known


def _function(function: types.FunctionType, inside: Any) -> str:
    """A function's name, with what its results depend on beside its arguments."""
    name = function.__qualname__
    held: dict[Any, Any] = {}
    if _ours(function) and "<locals>" not in name:
        return name
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            held[variable] = inside(cell.cell_contents)
        except ValueError:  # it is not set yet
            held[variable] = "…"
    held |= dict(enumerate(map(inside, function.__defaults__ or ())))
    held |= {k: inside(v) for k, v in (function.__kwdefaults__ or {}).items()}
    if not _ours(function):
        for variable in sorted(named(function.__code__)):
            value = function.__globals__.get(variable)
            if value is not None and _counts(value):
                told = inside(value)
                held[variable] = told if len(repr(told)) < LONGEST else f"{zlib.crc32(repr(told).encode()):08x}"
        name += f"#{_code(function.__code__):08x}"
    return _call(name, held) if held else name


def _call(name: str, held: dict) -> str:
    return f"{name}({', '.join(f'{k}={v!r}' if isinstance(k, str) else repr(v) for k, v in held.items())})"


def _members(kind: type, inside: Any) -> dict[str, Any]:
    """The text of what a class has: its functions, and its attributes but for Python's own."""
    held: dict[str, Any] = {}
    for c in reversed(kind.__mro__):
        for name, value in {} if _foreign(c) else vars(c).items():
            for inner in ("__func__", "fget", "func"):  # of a staticmethod, a property, a cached one
                if isinstance(within := getattr(value, inner, None), types.FunctionType):
                    held[name] = [type(value).__name__, inside(within)]
            if isinstance(value, types.FunctionType) or not (
                name.startswith(("__", "_abc_")) or hasattr(type(value), "__get__")
            ):
                held[name] = inside(value)
    return held


def _foreign(kind: type) -> bool:
    """Whether a class is tinynet's, NumPy's or Python's, whose code is told by the version."""
    package = str(kind.__module__).partition(".")[0]
    return package in ("tinynet", "numpy") or package in sys.stdlib_module_names


def _counts(value: Any) -> bool:
    """Whether what a function reads of its globals is a setting: no module, and none of Python's and tinynet's own."""
    if isinstance(value, types.FunctionType):
        return not _ours(value)
    if isinstance(value, (*SCALARS, *PLAIN)):
        return True
    if isinstance(value, types.ModuleType | types.BuiltinFunctionType | np.ufunc):
        return False
    return not _foreign(value if isinstance(value, type) else type(value))


def _ours(thing: Any) -> bool:
    return str(thing.__module__).partition(".")[0] == "tinynet"


def _code(code: types.CodeType) -> int:
    """A checksum of what the code does; where it stands does not count."""
    consts = [
        _code(c) if isinstance(c, types.CodeType) else sorted(map(repr, c)) if isinstance(c, frozenset) else c
        for c in code.co_consts
    ]
    return zlib.crc32(repr((code.co_names, consts)).encode(), zlib.crc32(code.co_code))


# ---- data ---------------------------------------------------------------------------------------------------


def fingerprint(loader: Loader) -> Any:
    """Shapes, dtypes and a checksum of all of a loader's data: another set has another one. What is no arrays is told
    by what its object holds."""
    found = loader.source
    if not isinstance(found, Arrays):
        return [
            repr(found) if found.count is not None else "batches",
            text(vars(found).get("dataset", vars(found).get("source"))),
        ]
    check = 0
    for array in (*leaves(found.x), *leaves(found.y)):
        check = _checksum(array, check)
    return f"{described(found.x)} {described(found.y)} of {found.count} samples {check:08x}"


def _checksum(array: np.ndarray, start: int = 0) -> int:
    """CRC-32 of an array's values, some MB at a time: it may be a memory map, or not contiguous."""
    if array.dtype.hasobject:
        return zlib.crc32(repr(array.tolist()).encode(), start)
    rows = max(1, (1 << 22) // max(1, array[:1].nbytes)) if array.ndim else 1
    for part in (array[i : i + rows] for i in range(0, len(array), rows)) if array.ndim else (array,):
        start = zlib.crc32(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data, start)
    return start
