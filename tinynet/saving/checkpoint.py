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
from typing import Any

import numpy as np
import safetensors

from ..nn.advice import FITTED
from ..nn.module import Module
from ..ops import loss as losses
from ..optim.optimizer import Optimizer
from . import architecture, registry
from .atomic import check_writable, replacing

__all__ = ["CheckpointError", "check_writable", "first_line", "load", "read", "replacing", "save", "write"]

FORMAT = "tinynet checkpoint 1"
HEADER_LIMIT = 100_000_000  # bytes, safetensors' own; that of a network with ten thousand layers is a hundredth
DTYPES = {"bool": "BOOL", "float16": "F16", "float32": "F32", "float64": "F64"} | {
    f"{sign}int{bits}": f"{(sign or 'i').upper()}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}

PathLike = str | os.PathLike[str]
Arrays = dict[str, np.ndarray]


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, or does not fit; the message names it and says which."""


# ---- models ---------------------------------------------------------------------------------------------


def save(model: Module, path: PathLike, *, optimizer: Optimizer | None = None) -> None:
    """Write the model's weights, and how it was made, to one safetensors file, atomically.

    A model of tinynet's own layers, and of classes with `@tn.register`, can be read back by `load(path)`; any other by
    `load(path, MyNet())`. With `optimizer` its state goes along, for `load(path, model, optimizer=…)`. Folders on the
    way are made. Raises RuntimeError for a model without sizes yet, TypeError for one that holds plain NumPy arrays
    (use `self.buffer`), OSError where the file cannot be written, CheckpointError where a parameter or the state is not
    finite or a buffer is NaN: what is at `path` is then left as it was.
    """
    weights, state = model.state_dict(), {} if optimizer is None else optimizer.state_dict()
    refuse_broken(path, model, weights, state)
    description: dict[str, Any] = {"kind": "model", "model": describe(model)}
    if optimizer is not None:
        description["optimizer"] = type(optimizer).__name__
    write(path, {**prefixed("model", weights), **prefixed("optimizer", state)}, description)


def load(path: PathLike, model: Module | None = None, *, optimizer: Optimizer | None = None) -> Module:
    """The model that `save`, or a training run, wrote to `path`.

    Args:
        model: the network to fill, in place; without it one is built from the file's description.
        optimizer: the optimiser of that model's parameters, which takes up the state in the file.
    Returns: the model (in training mode, as any new one; `tn.evaluate` and `model.eval()` switch).
    Raises: CheckpointError where the file is damaged, is no checkpoint of tinynet, does not fit the model, or
        describes one that cannot be built; FileNotFoundError and its kin where it cannot be opened.
    """
    if optimizer is not None and model is None:
        raise TypeError("load: an optimiser belongs to a model's parameters; pass both, load(path, model, optimizer=…)")
    arrays, description = read(path)
    spec, weights = described(path, description), part("model", arrays)
    if model is None:
        model = rebuilt(path, arrays, description)
    else:
        with model.all_or_nothing():
            if model.built is None and spec["input"]:
                _build(path, model, spec, weights)
            with _restored(path, optimizer, description, part("optimizer", arrays)):
                restore(path, model, weights)
    if spec["loss"] is not None:
        vars(model)[FITTED] = spec["loss"]
    frozen = set(spec["frozen"])
    for name, p in model.named_parameters():
        if name in frozen:
            p.requires_grad_(False)
    return model


def _build(path: PathLike, model: Module, spec: Mapping[str, Any], weights: Arrays) -> None:
    """Build the caller's model for the inputs that the file's was built for."""
    shape = tuple(spec["input"])
    try:
        new = architecture.build_as(model, shape, _inputs(spec), {})
        if registry.known(model):
            architecture.fill(model, new, weights)
    except Exception as error:  # anything may happen in a class of the user's
        raise CheckpointError(
            f"{path}: the model cannot be built for inputs of shape {spec['input']}: {first_line(error)}"
        ) from error


@contextmanager
def _restored(
    path: PathLike, optimizer: Optimizer | None, description: Mapping[str, Any], state: Arrays
) -> Iterator[None]:
    """Give an optimiser the file's state; it has its own again where this context is left by an exception."""
    if optimizer is None:
        yield
        return
    name, kind = type(optimizer).__name__, description.get("optimizer", type(optimizer).__name__)
    if not state or kind != name:
        held = (
            f"the state of {kind}, not of {name}" if state else "no optimiser's state; save(…, optimizer=…) writes it"
        )
        raise CheckpointError(f"{path}: holds {held}")
    before = optimizer.state_dict()
    try:
        try:
            optimizer.load_state_dict(state)
        except Exception as error:  # anything may stand in a file
            raise CheckpointError(f"{path}: the optimiser does not fit: {first_line(error)}") from error
        yield
    except BaseException:
        optimizer.load_state_dict(before)
        raise


def refuse_broken(path: PathLike, model: Module, weights: Arrays, optimizer: Arrays | None = None) -> None:
    """CheckpointError for the state of a model or an optimiser that must not take the place of a good checkpoint: a
    parameter, or the optimiser's state, that is NaN or infinite; a buffer that is NaN (a mask may well be infinite)."""
    own = {name for name, _ in model.named_parameters()}
    named = [
        (f"the {'parameter' if name in own else 'buffer'} {name}", value, name in own)
        for name, value in weights.items()
    ]
    named += [(f"the optimiser's {name}", value, True) for name, value in (optimizer or {}).items()]
    for what, value, finite in named:
        if value.dtype.kind in "fc" and not np.isfinite(value).all():
            nan, infinite = int(np.isnan(value).sum()), int(np.isinf(value).sum())
            if nan or finite:
                raise CheckpointError(
                    f"{path}: is not written, as {what} {value.shape} holds {nan:,} NaN and "
                    f"{infinite:,} infinite of {value.size:,} values; go back to an earlier "
                    "checkpoint, with a lower learning rate or clipped gradients (clip_norm=1)"
                )


def describe(model: Module) -> dict[str, Any]:
    """What `load` needs to build the model again; for a class of one's own, why it cannot.

    Raises TypeError for a NumPy array among the model's attributes, as no file would hold it.
    """
    if lost := model.unsaved():
        raise TypeError(
            f"{type(model).__name__}: {lost[0]} is a NumPy array, which is not saved; keep it as a buffer: "
            "self.buffer(name, array), or in lists and dicts tn.tensor(array)"
        )
    description: dict[str, Any] = {
        "class": type(model).__name__,
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "input": list(model.built or ()) if architecture.is_shape(model.built) else [],
        "inputs": [[key, list(size), dtype] for key, (size, dtype) in (model.built_for or {}).items()],
        "tied": architecture.tied(model),
    }
    if (loss := vars(model).get(FITTED)) is not None:
        description["loss"] = loss_name(loss)
    try:
        description["architecture"] = architecture.describe(model)
    except architecture.Unknown as error:
        description["why"] = str(error)
    return description


def loss_name(loss: Any) -> str:
    """What a file says of a loss: "ops.mse" of tinynet's own, "my_loss" of another, which it cannot hold."""
    name = loss if isinstance(loss, str) else getattr(loss, "__qualname__", type(loss).__qualname__)
    return f"ops.{name}" if getattr(losses, name, None) is loss else name


def rebuilt(path: PathLike, arrays: Arrays, description: Mapping[str, Any]) -> Module:
    """A new model by the file's description, filled with its weights."""
    spec = described(path, description)
    if "architecture" not in spec:
        raise CheckpointError(
            f"{path}: holds a {spec['class']} that cannot be built from the file alone "
            f"({spec['why']}); make the model and pass it: load(path, model)"
        )
    weights = part("model", arrays)
    try:
        model = architecture.build(spec["architecture"], tuple(spec["input"]), _inputs(spec), weights, spec["tied"])
    except Exception as error:  # anything may stand in a file
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


def described(path: PathLike, description: Mapping[str, Any]) -> dict[str, Any]:
    """The file's description of the model, complete and of the right types. CheckpointError where it is not."""
    spec = description.get("model")
    if not isinstance(spec, dict):
        raise CheckpointError(f"{path}: holds no model")
    lacking: dict[str, Any] = {"frozen": [], "input": [], "inputs": [], "tied": {}, "loss": None}
    spec = {"class": "model", "why": "it is not described", **lacking, **spec}
    right = {
        "class": isinstance(spec["class"], str),
        "why": isinstance(spec["why"], str),
        "frozen": isinstance(spec["frozen"], list) and all(isinstance(name, str) for name in spec["frozen"]),
        "input": isinstance(spec["input"], list) and all(type(n) is int and n > 0 for n in spec["input"]),
        "inputs": isinstance(spec["inputs"], list) and all(map(_is_input, spec["inputs"])),
        "tied": isinstance(spec["tied"], dict) and all(isinstance(name, str) for name in spec["tied"].values()),
        "loss": isinstance(spec["loss"], str | None),
    }
    for name, fine in right.items():
        if not fine:
            raise CheckpointError(f"{path}: describes a model that cannot be built: {name} is {spec[name]!r:.60}")
    return spec


def _is_input(value: Any) -> bool:
    """Whether this is [position or name, shape, dtype]."""
    if not (isinstance(value, list) and len(value) == 3 and isinstance(value[1], list) and value[2] in DTYPES):
        return False
    place = (type(value[0]) is int and 0 <= value[0] < 100) or isinstance(value[0], str)
    return place and all(type(n) is int and n > 0 for n in value[1])


def _inputs(spec: Mapping[str, Any]) -> dict | None:
    """The file's inputs as `Module.built_for` holds them."""
    return {key: (tuple(size), dtype) for key, size, dtype in spec["inputs"]} or None


# ---- files ----------------------------------------------------------------------------------------------


def write(path: PathLike, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Write arrays and a JSON description to one file, atomically.

    Raises: OSError where the file cannot be written; TypeError for arrays that are not of numbers, and for what JSON
        does not know.
    """
    arrays, text = check(arrays, description)
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # so that all are aligned
    header = _header(arrays, names, text)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(header)
        for name in names:
            file.write(arrays[name].reshape(-1).data)


def check(arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> tuple[Arrays, str]:
    """Both as they are written. TypeError for what a file does not hold."""
    return {name: _plain(value) for name, value in arrays.items()}, json.dumps(description)


def _plain(value: Any) -> np.ndarray:
    """A contiguous array of a dtype that the format has, little-endian."""
    array = np.asarray(value, order="C")
    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"checkpoint: an array of dtype {array.dtype} has no place in a file; it holds {', '.join(DTYPES)}"
        )
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _header(arrays: Arrays, names: list[str], text: str) -> bytes:
    """What stands before the arrays: see safetensors' "Format"."""
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "description": text, "digest": _digest(text, arrays)}}
    end = 0
    for name in names:
        start, end = end, end + arrays[name].nbytes
        header[name] = {
            "dtype": DTYPES[arrays[name].dtype.name],
            "shape": arrays[name].shape,
            "data_offsets": [start, end],
        }
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > HEADER_LIMIT:
        raise OSError(
            f"checkpoint: the description takes {len(head):,} bytes, more than the {HEADER_LIMIT:,} that a "
            "file may have"
        )
    return len(head).to_bytes(8, "little") + head


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
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        text = metadata["description"]
        if metadata["digest"] != _digest(text, arrays):
            raise CheckpointError(f"{path}: is damaged: its contents do not match their digest")
        description = json.loads(text)
        if not isinstance(description, dict):
            raise CheckpointError(f"{path}: is damaged: its description is no object")
    except CheckpointError:
        raise
    except (
        safetensors.SafetensorError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
        MemoryError,
        OverflowError,
    ) as error:
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
        raise CheckpointError(
            f"{path}: is no checkpoint, or damaged: {status.st_size:,} bytes do not hold the "
            "header that it should start with"
        )


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
    return {name[len(prefix) + 1 :]: value for name, value in arrays.items() if name.startswith(f"{prefix}.")}


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut to a readable length."""
    return f"{(str(error).splitlines() or [''])[0] or type(error).__name__:.300}"
