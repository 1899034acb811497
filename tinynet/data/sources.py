"""Where a Loader's samples come from: arrays, an indexable dataset, or something that makes batches itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..nested import lengths, mapped, shapes
from .files import DataError


class Arrays:
    """x and y: an array, a tuple or a dict of arrays each, all of one length; y may be None."""

    def __init__(self, x: Any, y: Any):
        self.x, self.y = mapped(as_array, x), mapped(as_array, y)
        found = lengths(self.x, self.y)
        if len(found) != 1 or found == {-1} or x is None:
            raise DataError(f"Loader: x and y must have the same length, got the shapes {shapes(x)} and {shapes(y)}")
        (self.count,) = found

    def take(self, indices: NDArray[np.intp]) -> tuple[Any, Any]:
        return mapped(lambda array: array[indices], self.x), mapped(lambda array: array[indices], self.y)

    def __repr__(self) -> str:
        parts = [f"{what} {described(value)}" for what, value in (("x", self.x), ("y", self.y))]
        return f"{self.count:,} samples, {', '.join(parts)}"


class Samples:
    """An indexable dataset: `dataset[i]` is the pair (x, y) of one sample, each an array, a number, a tuple or a dict
    of them; or x alone. Where it has `batch_at(indices)`, that returns the batch (x, y) at once."""

    def __init__(self, dataset: Any):
        self.dataset, self.count = dataset, len(dataset)

    def take(self, indices: NDArray[np.intp]) -> tuple[Any, Any]:
        if hasattr(self.dataset, "batch_at"):
            return self.dataset.batch_at(indices)
        found = [self.dataset[int(i)] for i in indices]
        pairs = [one if isinstance(one, tuple | list) and len(one) == 2 else (one, None) for one in found]
        return _stacked([x for x, _ in pairs], indices), _stacked([y for _, y in pairs], indices)

    def __repr__(self) -> str:
        return f"{self.count:,} samples of a {type(self.dataset).__name__}"


class Batches:
    """What makes batches (x, y) itself: an iterable, or a function that returns an iterator.

    Each epoch goes through it anew. Where it has a `set_epoch(epoch)`, as the samplers of other libraries have, that
    is called before.
    """

    count = None

    def __init__(self, source: Iterable | Callable[[], Iterable]):
        self.source = source
        self._looked_at: Iterator[Any] | None = None  # an epoch whose first batch was needed before it began

    def __len__(self) -> int:
        return len(self.source)  # type: ignore[arg-type]

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        """The batches of an epoch."""
        if hasattr(self.source, "set_epoch"):
            self.source.set_epoch(number)
        batches, self._looked_at = self._looked_at or self._fresh(), None
        empty = True
        for batch in batches:
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise DataError(f"Loader: a batch must be a pair (x, y), got {type(batch).__name__} {batch!r:.60}")
            x, y = (mapped(as_array, part) for part in batch)
            if len(lengths(x, y)) != 1:
                raise DataError(f"Loader: a batch has x of shape {shapes(x)} and y of shape {shapes(y)}")
            empty = False
            yield x, y
        if empty:
            raise DataError(
                f"Loader: {self.source!r:.60} gave no batch in epoch {number + 1}; an iterator can be gone through "
                "once: pass the function that makes it, or an object whose __iter__ begins anew"
            )

    def first(self) -> tuple[Any, Any]:
        """The first batch; an iterator that can be gone through once keeps it for the epoch."""
        batches = self._looked_at or self._fresh()
        batch = next(batches, None)
        if batch is None:
            raise DataError(f"Loader: {self.source!r:.60} has no batches")
        self._looked_at = itertools.chain([batch], batches) if batches is self.source else None
        return mapped(as_array, batch[0]), mapped(as_array, batch[1])

    def _fresh(self) -> Iterator[Any]:
        return iter(self.source() if callable(self.source) else self.source)

    def __repr__(self) -> str:
        return f"batches of {self.source!r:.60}"


def source(x: Any, y: Any) -> Arrays | Samples | Batches:
    """The source that x and y are: with y, or where x is a structure of arrays, they are arrays."""
    if y is not None or isinstance(x, tuple | dict) or hasattr(x, "__array__") or hasattr(x, "numpy") or np.isscalar(x):
        return Arrays(x, y)
    if hasattr(x, "__getitem__") and hasattr(x, "__len__"):
        pairs = not isinstance(x, list) or (len(x) > 0 and isinstance(x[0], tuple | dict))
        return Samples(x) if pairs else Arrays(x, None)
    if callable(x) or isinstance(x, Iterable):
        return Batches(x)
    raise DataError(
        f"Loader: cannot go through a {type(x).__name__}; it takes arrays x and y, a dataset with __len__ and "
        "__getitem__, or an iterable of batches (x, y)"
    )


def as_array(value: Any) -> np.ndarray:
    """The leaf as an ndarray: a tensor, of tinynet or another library, or a list."""
    return value.numpy() if hasattr(value, "numpy") and not isinstance(value, np.ndarray) else np.asarray(value)


def described(value: Any) -> str:
    """Dtypes and shapes of one sample: "float32 (28, 28, 1)"."""
    return "None" if value is None else str(mapped(lambda a: f"{a.dtype} {a.shape[1:]}", value)).replace("'", "")


def _stacked(found: list[Any], indices: NDArray[np.intp]) -> Any:
    """The samples' structures as one, each leaf with a batch axis."""
    head = found[0]
    if head is None:
        return None
    if isinstance(head, tuple):
        return tuple(_stacked([sample[i] for sample in found], indices) for i in range(len(head)))
    if isinstance(head, dict):
        return {name: _stacked([sample[name] for sample in found], indices) for name in head}
    arrays = [as_array(sample) for sample in found]
    for i, array in zip(indices, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise DataError(
                f"Loader: sample {i} has shape {array.shape}, sample {indices[0]} {arrays[0].shape}; the samples of a "
                "batch must have one shape"
            )
    return np.stack(arrays)


def sample_of(found: Arrays | Samples | Batches) -> tuple[Any, Any]:
    """(x, y) of one sample, with a batch axis."""
    if isinstance(found, Batches):
        x, y = found.first()
        return mapped(lambda a: a[:1], x), mapped(lambda a: a[:1], y)
    return found.take(np.arange(1))
