"""Whole numbers as they come from outside: the dtype that they are computed in, indices, class numbers, counts.

They arrive as NumPy's small integers, whose arithmetic wraps around (200 + 100 is 44 in uint8), as lists, as arrays of
other libraries. Each kind is made one kind here, where it comes in; behind that, nothing has to ask.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .backends.foreign import holds_values, of_cupy
from .tensor import Tensor

RULES = ("int64", "float64", "kept")


def computed(be: Any, name: str, values: list, rule: str) -> list:
    """The operands of an operation, in the dtype that it computes in where no operand is floating (`rule`).

    "int64": bools and narrow integers become int64, as on a device. "float64": the mathematics needs fractions. "kept":
    values are moved, not computed with. Other values than the backend's arrays stay as they are.
    Raises TypeError for uint64, which no other integer dtype holds, and for what is no real number.
    """
    dtypes = [getattr(v, "dtype", None) for v in values]
    arrays = [d for d in dtypes if isinstance(d, np.dtype)]  # a class such as np.float64 has a descriptor there
    for dtype in arrays:
        if dtype.kind not in "biuf":
            raise TypeError(f"{name}: an input has dtype {dtype}; it must be floating, integer or bool")
    if rule == "kept" or any(d.kind == "f" for d in arrays):
        return values
    if np.uint64 in arrays:
        raise TypeError(
            f"{name}: an input has dtype uint64, which nothing is computed in; use x.astype(np.int64) or "
            "x.astype(np.float64)"
        )
    dtype = np.dtype(rule)
    return [
        be.astype(v, dtype) if isinstance(d, np.dtype) and d != dtype else v
        for v, d in zip(values, dtypes, strict=True)
    ]


def operand(value: Any) -> Any:
    """A list, a tuple or another library's array beside a tensor, as an ndarray; as in `tn.tensor`, Python's floats are
    float32."""
    if isinstance(value, np.ndarray) or of_cupy(value):
        return value
    array = np.asarray(value)
    floats = array.dtype == np.float64 and not hasattr(value, "__array__")
    return array.astype(np.float32) if floats and not holds_values(value) else array


def exact(name: str, dtype: np.dtype, value: Any) -> None:
    """Raise TypeError where an array of integers, or of bools, cannot hold `value` (a number, an array, a list)."""
    if dtype.kind == "f":
        return
    if isinstance(value, list | tuple):
        value = np.asarray(value)
    if hasattr(value, "dtype") and np.ndim(value):
        fits = np.can_cast(value.dtype, dtype, "safe")
    else:
        number = value.item() if hasattr(value, "item") else value
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        fits = isinstance(number, int | float) and low <= number <= high and number == int(number)
    if not fits:
        what = f"values of {value.dtype}" if hasattr(value, "dtype") else repr(value)
        raise TypeError(
            f"{name}: the tensor has dtype {dtype}, which cannot hold {what:.60}; use x.astype(…) of a "
            "wider dtype first"
        )


def index(name: str, given: Any) -> tuple:
    """An index in the one form that kernels take: a tuple of ints, slices of ints, …, None, and fresh ndarrays of int64
    or bool.

    Lists, ranges, tuples within the tuple, buffers and whatever has `__array__` (Tensors, other libraries' arrays)
    count as arrays. Raises IndexError for anything else.
    """
    if type(given) is int:
        return (given,)
    if type(given) is not tuple:
        return (_part(name, given),)
    return tuple([_part(name, part) for part in given])


def _part(name: str, part: Any) -> Any:
    kind = type(part)
    if kind is int or part is None or part is Ellipsis:
        return part
    if kind is slice:
        bounds = a, b, c = part.start, part.stop, part.step
        if (type(a) is int or a is None) and (type(b) is int or b is None) and (type(c) is int or c is None):
            return part
        return slice(*(None if v is None else count(name, "a slice's bound", v) for v in bounds))
    if isinstance(part, Tensor):
        part = part.numpy()
    elif isinstance(part, set | frozenset | dict | str | bytes):
        raise _no_index(name, part)
    try:
        array = np.array(part)  # a copy: the caller may change his own before `backward` reads it
    except (ValueError, TypeError):
        raise _no_index(name, part) from None
    if not array.size and not hasattr(part, "dtype"):  # [] is of floats to NumPy
        array = array.astype(np.int64)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind == "O" and array.ndim == 0 and hasattr(part, "__index__"):
        array = np.array(operator.index(part))
    if array.dtype.kind not in "iu" or (array.dtype == np.uint64 and array.max(initial=0) > np.iinfo(np.int64).max):
        raise _no_index(name, part)
    return array.astype(np.int64, copy=False) if array.ndim else int(array)


def _no_index(name: str, part: Any) -> IndexError:
    what = f"an array of {part.dtype}" if hasattr(part, "dtype") else f"{part!r:.60}"
    return IndexError(
        f"{name}: {what} is no index; use ints, slices, …, None, and lists or arrays of integers or "
        "bools, as in index.astype(int)"
    )


def count(name: str, what: str, value: Any, least: int | None = None) -> int:
    """A whole number (a size, a length, an axis) as a Python int, whose arithmetic does not wrap around: an int of any
    library, or an array of one.

    Raises ValueError below `least`, and TypeError (ValueError where there is a least value) for anything else.
    """
    if type(value) is int and (least is None or value >= least):
        return value
    try:
        number = operator.index(value)
    except TypeError:
        one = np.asarray(value)
        if one.size != 1 or one.dtype.kind not in "iu":
            kind, bound = (TypeError, "") if least is None else (ValueError, f" >= {least}")
            raise kind(f"{name}: {what}={value!r:.60} must be an int{bound}") from None
        number = int(one.item())
    if least is not None and number < least:
        raise ValueError(f"{name}: {what}={value!r} must be an int >= {least}")
    return number


def counts(name: str, what: str, values: Any) -> tuple[int, ...]:
    """One such number, or several, as a tuple of ints: a shape, axes."""
    if type(values) is int:
        return (values,)
    if type(values) is tuple:
        for v in values:
            if type(v) is not int:
                break
        else:
            return values
    if hasattr(values, "__array__"):
        values = np.asarray(values)
    if hasattr(values, "__index__") and not getattr(values, "ndim", 0):
        return (count(name, what, values),)
    if not hasattr(values, "__iter__"):
        raise TypeError(f"{name}: {what}={values!r:.60} must be an int, or several")
    return tuple([count(name, what, v) for v in values])


def class_numbers(name: str, labels: Any, shape: tuple[int, ...]) -> Any:
    """Labels that fit outputs of `shape` (…, K): int64 (…), fresh, on the host; a Tensor on a device as it is, whose
    values are not looked at.

    Raises ValueError where their shape is another or a label is not in [0, K), TypeError where they are no integers.
    """
    on_device = isinstance(labels, Tensor) and labels.backend.name != "numpy"
    array = labels if on_device else np.asarray(labels.data if isinstance(labels, Tensor) else labels)
    if not shape or array.shape != shape[:-1]:
        hint = ""
        if shape and array.ndim == len(shape):
            one = ", ".join([":"] * (array.ndim - 1) + ["0"])
            hint = "; labels are class numbers, not " + (
                f"one-hot rows: use labels.argmax({array.ndim - 1})"
                if array.shape[-1] > 1
                else f"rows of one: use labels[{one}]"
            )
        raise ValueError(f"{name}: logits {shape} must be (…, K) and labels {array.shape} (…){hint}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: labels have dtype {array.dtype}; they must be integers, as in labels.astype(int)")
    if on_device:
        return labels
    if array.size and not 0 <= array.min() <= array.max() < shape[-1]:
        raise ValueError(
            f"{name}: labels run from {array.min()} to {array.max()}, the logits {shape} have classes 0 "
            f"to {shape[-1] - 1}"
        )
    return array.astype(np.int64)
