"""What comes in at a module's door: arrays become tensors, shapes are read off, and errors name the user's layer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np

from .. import backends
from ..autograd import mode
from ..tensor import Tensor
from .tree import Parameter

# ---- values ---------------------------------------------------------------------------------------------------


def prepared(module: Any, inputs: tuple, options: dict) -> tuple[tuple, dict]:
    """The arrays among a module's inputs and keywords as tensors of its backend, also in tuples and dicts.

    Floats become the parameters' dtype (float32 where there are none). Integers and bools stay (ids, masks), but that
    the first input of a layer whose `input_dtype` is floating becomes floating. Anything else is passed on. Arrays are
    copied where a graph may keep them: the caller may fill his own with the next batch before `backward`.
    """
    given = _Given(module)
    inputs = tuple([given.value(x, i == 0) for i, x in enumerate(inputs)])
    return inputs, {name: given.value(x, name == "x") for name, x in options.items()}


class _Given:
    """The values that one call of a module was given, made tensors."""

    def __init__(self, module: Any):
        self.module = module
        self.floats = module.input_dtype is not None and np.dtype(module.input_dtype).kind == "f"
        self.home: tuple[Any, Any] | None = None  # looked for when it is needed

    def value(self, x: Any, first: bool) -> Any:
        """An input, or what stands in it."""
        floats = first and self.floats
        if isinstance(x, Tensor):
            return self.tensor(x, floats) if floats and x.dtype.kind != "f" else x
        if isinstance(x, dict):
            return {key: self.value(part, False) for key, part in x.items()}
        if type(x) is tuple and any(map(_holds, x)):
            return tuple([self.value(part, False) for part in x])
        return self.tensor(x, floats) if first or _is_array(x) else x

    def tensor(self, x: Any, floats: bool) -> Tensor:
        """An array, or a Tensor of integers, as a Tensor; integers become floats where that is asked."""
        be, dtype = self.home = self.home or _home(self.module)
        if isinstance(x, Tensor):
            return x.astype(dtype)
        array = np.asarray(x)
        if array.dtype.kind != "f" and not floats:
            dtype = array.dtype
        if be.name == "numpy" and mode.recording:
            return Tensor(be.astype(array, dtype), be)  # a copy, as for the operands of operations
        return Tensor(be.asarray(array.astype(dtype, copy=False)), be)


def _is_array(x: Any) -> bool:
    return hasattr(type(x), "__array__") and not isinstance(x, np.generic)


def _holds(x: Any) -> bool:
    """Whether a part of a tuple makes that a tuple of inputs, not one input's numbers."""
    return _is_array(x) or isinstance(x, Tensor) or (isinstance(x, tuple) and any(map(_holds, x)))


def _home(module: Any) -> tuple[Any, Any]:
    """The backend and the dtype of a module's parameters, or those by default."""
    parameters = (v for _, m in module.named_modules() for v in vars(m).values() if type(v) is Parameter)
    first = next(chain(parameters, (p for _, p in module.named_tensors(Parameter))), None)  # the latter: in lists
    return (backends.current(), np.float32) if first is None else (first.backend, first.dtype)


def call(module: Any, x: Any) -> Any:
    """`module` on one batch of data: an array is its input, a tuple its inputs in order, a dict its inputs by name."""
    if isinstance(x, dict):
        return module(**x)
    return module(*x) if isinstance(x, tuple) else module(x)


def build(module: Any, x: Any) -> None:
    """Build a module for data like x: an array, a tuple of arrays, or a dict of arrays by input, all with a batch
    axis."""
    positional, named = ((), x) if isinstance(x, dict) else (x if isinstance(x, tuple) else (x,), {})
    dtypes = {key: array.dtype for key, array in chain(enumerate(positional), named.items())}
    whole = {key: dtype for key, dtype in dtypes.items() if dtype.kind != "f"}
    module.build(
        *(array.shape[1:] for array in positional),
        input_dtype=whole,
        **{name: array.shape[1:] for name, array in named.items()},
    )


# ---- shapes ---------------------------------------------------------------------------------------------------


def shape_of(x: Any) -> Any:
    """The shape of a tensor without the batch axis; of a tuple or dict of them, a tuple or dict; else None."""
    if isinstance(x, Tensor):
        return x.shape[1:]
    if isinstance(x, tuple | list):
        return tuple([shape_of(part) for part in x])
    return {key: shape_of(part) for key, part in x.items()} if isinstance(x, dict) else None


def sizes(module: Any, inputs: tuple, options: dict) -> list[Any]:
    """The shapes that `create` gets: those of the inputs in the order of `forward`, as many as it takes."""
    given = [shape_of(x) for x in _in_order(module.forward, inputs, options)] or [()]
    code = type(module).create.__code__
    return given if code.co_flags & inspect.CO_VARARGS else given[: max(code.co_argcount - 1, 1)]


def _in_order(forward: Callable, inputs: tuple, options: dict) -> tuple | list:
    """The values that a call gives to `forward`, in its order."""
    if not options:
        return inputs
    try:
        bound = inspect.signature(forward).bind(*inputs, **options)
    except (TypeError, ValueError):  # forward itself says what is wrong
        return inputs
    values: list[Any] = []
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        values += value if kind is kind.VAR_POSITIONAL else value.values() if kind is kind.VAR_KEYWORD else [value]
    return values


def record(module: Any, inputs: tuple, options: dict) -> dict[int | str, tuple[tuple, str]] | None:
    """The shape and dtype of each input, by position or name, as `Module.build` needs them to make the same call; None
    where that is one input of the module's own `input_dtype`."""
    found = {
        key: (x.shape[1:], x.dtype.name)
        for key, x in chain(enumerate(inputs), options.items())
        if isinstance(x, Tensor) and x.ndim
    }
    kind = np.dtype(module.input_dtype or np.float32).kind
    return None if set(found) <= {0} and all(np.dtype(d).kind == kind for _, d in found.values()) else found


def zeros(module: Any, shapes: tuple, named: dict, dtypes: Any) -> tuple[list, dict]:
    """Inputs of zeros for one sample, of the current backend."""
    be = backends.current()
    default = np.dtype(module.input_dtype or np.float32)

    def made(key: int | str, shape: tuple | None) -> Tensor | None:
        if shape is None:
            return None
        one = dtypes.get(key) if isinstance(dtypes, dict) else dtypes
        dtype = np.dtype(one) if one is not None else default if key == 0 else np.dtype(np.float32)
        return Tensor(be.full((1, *shape), 0, dtype), be)

    return [made(i, shape) for i, shape in enumerate(shapes)], {name: made(name, s) for name, s in named.items()}


def as_by_default(module: Any, dtypes: Any) -> bool:
    """Whether a first input of these dtypes, as `Module.build` takes them, is what the module makes of it anyway."""
    given = dtypes.get(0) if isinstance(dtypes, dict) else dtypes
    kind = np.dtype(module.input_dtype or np.float32).kind
    return given is None or np.dtype(given).kind == kind or (module.input_dtype is not None and kind == "f")


def checked_shape(shape: Any) -> tuple[int, ...] | None:
    """A shape as it was given to `build`, an int for one axis, as a tuple."""
    if shape is None:
        return None
    shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    if not all(isinstance(n, int | np.integer) and n > 0 for n in shape):
        raise ValueError(f"build: the shape {shape} must be of positive ints, without the batch axis: (28, 28, 1)")
    return tuple(map(int, shape))


# ---- errors ---------------------------------------------------------------------------------------------------

OPERATION = re.compile(r"^[a-z_]\w*(?=: )")  # `conv_relu_pool: …`


def explain(error: Exception, module: Any, inputs: tuple) -> None:
    """Let an error from inside a module name the user's layer, and say where the input has not the shape that the
    module was built for."""
    if len(error.args) != 1 or not isinstance(error.args[0], str):
        return
    inner = getattr(error, "inner", None)
    if inner is None:  # this module is the innermost
        inner = error.args[0]
        if type(module).__module__.startswith(__name__.rpartition(".")[0]):
            inner = OPERATION.sub(type(module).__name__, inner)
        error.inner = inner  # type: ignore[attr-defined]
        error.args = (inner,)
    x = inputs[0] if inputs else None
    if isinstance(x, Tensor) and type(module.built) is tuple and x.shape[1:] != module.built:
        name, wanted = type(module).__name__, ", ".join(map(str, ("N", *module.built)))
        if not inner.startswith(name):
            error.args = (f"{name}: the input has shape {x.shape}, the model was built for ({wanted}): {inner}",)


def refuse_several(error: Exception, before: Any, layer: Any, x: Any) -> None:
    """Raise TypeError where a layer of tinynet failed on several outputs of the one before it; modules and functions
    of one's own may take them, and say themselves what is wrong."""
    own = getattr(layer, "function", type(layer)).__module__
    if str(own).startswith("tinynet.") and not any(True for _ in layer.children()):
        raise TypeError(
            f"Sequential: {before!r} returns a {type(x).__name__}, {layer!r} takes one tensor; choose it by a function "
            "between them: lambda y: y[0]"
        ) from error
