"""Checkpoints: one safetensors file that is either the old one or the new one, whenever the power fails.

A file holds arrays by name (`model.…`, and in a run's checkpoint `optimizer.…`, `best.…`) and, in its header, a
description in JSON with a digest over everything. Nothing of it is ever executed, and nothing is believed before
the digest was compared, so that a damaged file is always noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save_file

from . import architecture
from .nn.module import Module

FORMAT = "tinynet checkpoint 1"
HEADER_LIMIT = 1 << 24          # bytes; that of a network with ten thousand layers is a tenth of it

PathLike = str | os.PathLike[str]
Arrays = dict[str, np.ndarray]


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, or does not fit; the message names it and says which."""


# ---- models ---------------------------------------------------------------------------------------------


def save(model: Module, path: PathLike) -> None:
    """Write the model's weights, and how it was made, to one safetensors file, atomically.

    A model of tinynet's own layers can be read back by `load(path)`; one of your own classes by
    `load(path, MyNet())`. Folders on the way are made. Raises RuntimeError for a model without sizes yet, OSError
    where the file cannot be written, CheckpointError where a parameter is not finite or a buffer is NaN: what is at
    `path` is then left as it was.
    """
    weights = model.state_dict()
    refuse_broken(path, model, weights)
    write(path, prefixed("model", weights), {"kind": "model", "model": describe(model)})


def load(path: PathLike, model: Module | None = None) -> Module:
    """The model that `save`, or a training run, wrote to `path`.

    Args: model: the network to fill, in place; without it one is built from the file's description.
    Returns: the model (in training mode, as any new one; `tn.evaluate` and `model.eval()` switch).
    Raises: CheckpointError where the file is damaged, is no checkpoint of tinynet, does not fit the model, or
        describes one that cannot be built; FileNotFoundError and its kin where it cannot be opened.
    """
    arrays, description = read(path)
    if model is None:
        model = rebuilt(path, arrays, description)
    else:
        if model.built is None and (shape := _described(path, description).get("input")):
            try:
                model.build(shape)
            except Exception as error:      # anything may happen in a class of the user's
                raise CheckpointError(f"{path}: the model cannot be built for inputs of shape {shape}: "
                                      f"{first_line(error)}") from error
        restore(path, model, part("model", arrays))
    for name, p in model.named_parameters():
        if name in _described(path, description).get("frozen", ()):
            p.requires_grad_(False)
    return model


def refuse_broken(path: PathLike, model: Module, weights: Arrays, optimizer: Arrays | None = None) -> None:
    """CheckpointError for the state of a model or an optimiser that must not take the place of a good checkpoint: a
    parameter, or the optimiser's state, that is NaN or infinite; a buffer that is NaN (a mask may well be infinite)."""
    own = {name for name, _ in model.named_parameters()}
    named = [(f"the {'parameter' if name in own else 'buffer'} {name}", value, name in own)
             for name, value in weights.items()]
    named += [(f"the optimiser's {name}", value, True) for name, value in (optimizer or {}).items()]
    for what, value, finite in named:
        if value.dtype.kind in "fc" and not np.isfinite(value).all():
            nan, infinite = int(np.isnan(value).sum()), int(np.isinf(value).sum())
            if nan or finite:
                raise CheckpointError(f"{path}: is not written, as {what} {value.shape} holds {nan:,} NaN and "
                                      f"{infinite:,} infinite of {value.size:,} values; go back to an earlier "
                                      "checkpoint, with a lower learning rate or clipped gradients (clip_norm=1)")


def describe(model: Module) -> dict[str, Any]:
    """What `load` needs to build the model again; for a class of one's own, why it cannot."""
    description: dict[str, Any] = {"class": type(model).__name__,
                                   "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
                                   "input": list(model.built or ())}
    try:
        description["architecture"] = architecture.describe(model)
    except architecture.Unknown as error:
        description["why"] = str(error)
    return description


def rebuilt(path: PathLike, arrays: Arrays, description: Mapping[str, Any]) -> Module:
    """A new model by the file's description, filled with its weights."""
    spec = _described(path, description)
    if "architecture" not in spec:
        raise CheckpointError(f"{path}: holds a {spec.get('class', 'model')} that cannot be built from the file alone "
                              f"({spec.get('why', 'it is not described')}); make the model and pass it: "
                              "load(path, model)")
    weights = part("model", arrays)
    try:
        model = architecture.build(spec["architecture"], spec.get("input"), weights)
    except (architecture.Unknown, ValueError, TypeError, KeyError, RuntimeError, RecursionError, MemoryError,
            ArithmeticError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path}: describes a model that cannot be built: {first_line(error)}") from error
    restore(path, model, weights)
    return model


def restore(path: PathLike, model: Module, weights: Arrays) -> None:
    """Copy weights into a model in place. CheckpointError, and nothing changed, where they do not fit."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: cannot be loaded: {error}") from None
    except ValueError as error:
        reason = str(error).removeprefix("load_state_dict: ")
        raise CheckpointError(f"{path}: does not fit the model: {reason}") from None


def _described(path: PathLike, description: Mapping[str, Any]) -> dict[str, Any]:
    spec = description.get("model")
    if not isinstance(spec, dict):
        raise CheckpointError(f"{path}: holds no model")
    return spec


# ---- files ----------------------------------------------------------------------------------------------


def write(path: PathLike, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Write arrays and a JSON description to one file, atomically."""
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    text = json.dumps(description)
    metadata = {"format": FORMAT, "description": text, "digest": _digest(text, arrays)}
    with replacing(path) as temporary:
        temporary.touch()
        usual = temporary.stat().st_mode        # the library makes files that only their owner may read
        try:
            save_file(arrays, temporary, metadata=metadata)
            temporary.chmod(usual)
        except safetensors.SafetensorError as error:
            raise OSError(f"{path}: cannot be written: {error}") from error


def read(path: PathLike) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the description that `write` stored.

    Raises: CheckpointError where the file is damaged or something else; OSError where it cannot be opened.
    """
    _check_size(path)
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(f"{path}: {_other_format(metadata)}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}   # noqa: SIM118 - no mapping
        text = metadata["description"]
        if metadata["digest"] != _digest(text, arrays):
            raise CheckpointError(f"{path}: is damaged: its contents do not match their digest")
        description = json.loads(text)
        if not isinstance(description, dict):
            raise CheckpointError(f"{path}: is damaged: its description is no object")
    except CheckpointError:
        raise
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, AttributeError, RecursionError,
            MemoryError, OverflowError) as error:
        raise CheckpointError(f"{path}: is no checkpoint, or damaged: {first_line(error)}") from error
    return arrays, description


def _check_size(path: PathLike) -> None:
    """Refuse what is no regular file, or is too short for the header it announces."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{path}: is no file")
    with open(path, "rb") as file:
        start = file.read(8)
    header = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= header <= min(status.st_size - 8, HEADER_LIMIT):
        raise CheckpointError(f"{path}: is no checkpoint, or damaged: {status.st_size:,} bytes do not hold the "
                              "header that it should start with")


def _other_format(metadata: Mapping[str, str]) -> str:
    form = metadata.get("format", "")
    if form.startswith("tinynet checkpoint"):
        return f"was written by another version of tinynet ({form}; this one reads {FORMAT!r})"
    return "is a safetensors file, but no checkpoint of tinynet"


def _digest(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    total = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"\0{name}\0{array.dtype.str}{array.shape}\0".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def prefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays under names that start with `prefix.`"""
    return {f"{prefix}.{name}": value for name, value in arrays.items()}


def part(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays whose names start with `prefix.`, without it."""
    return {name[len(prefix) + 1:]: value for name, value in arrays.items() if name.startswith(f"{prefix}.")}


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """A temporary name in the file's folder; what was written there takes the file's place, all at once.

    Readers, and a run that is killed at any moment, see the old file or the new one, never a part.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":      # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sweep(path: PathLike) -> None:
    """Delete the temporary files that killed runs left beside `path`."""
    path = Path(path)
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        left.unlink(missing_ok=True)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut to a readable length."""
    return f"{(str(error).splitlines() or [''])[0] or type(error).__name__:.300}"
