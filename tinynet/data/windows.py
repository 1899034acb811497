"""Batches of text: windows of a long one, and many short ones of like lengths, padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..integers import count
from .files import DataError

Ids = NDArray[np.int64]


class Windows:
    """Pieces of a long text for a language model: sample i is x = ids[s : s + length] and y, what follows each of them,
    ids[s + 1 : s + length + 1], with s = i · stride.

    To train on windows drawn anywhere, `Loader(Windows(ids, 64), batch_size=12, steps=250)`: its order is another one
    in each epoch. To validate, windows one after another: `Windows(ids, 64, stride=64)`.

    Args: ids: integers (T,), kept as they are; a rest that fills no window is left out. DataError where none is filled.
    """

    def __init__(self, ids: Any, length: int, *, stride: int = 1):
        self.ids = np.asarray(ids)
        self.length, self.stride = count("Windows", "length", length, 1), count("Windows", "stride", stride, 1)
        if self.ids.ndim != 1 or self.ids.dtype.kind not in "iu":
            raise DataError(f"Windows: ids must be integers (T,), got {self.ids.dtype} {self.ids.shape}")
        if len(self.ids) <= self.length:
            raise DataError(f"Windows: {len(self.ids)} symbols make no window of {self.length} and one that follows")

    def __len__(self) -> int:
        return (len(self.ids) - self.length - 1) // self.stride + 1

    def __getitem__(self, i: int) -> tuple[Ids, Ids]:
        if not 0 <= i < len(self):
            raise IndexError(f"Windows: {i} is not from 0 to {len(self) - 1}")
        piece = self.ids[i * self.stride : i * self.stride + self.length + 1]
        return piece[:-1], piece[1:]

    def batch_at(self, indices: NDArray[np.intp]) -> tuple[Ids, Ids]:
        """The samples of these numbers at once: x and y (N, length)."""
        pieces = self.ids[indices[:, None] * self.stride + np.arange(self.length + 1)]
        return pieces[:, :-1], pieces[:, 1:]


def pad(sequences: Sequence[Any], *, value: int = 0, length: int | None = None) -> tuple[Ids, Ids]:
    """Sequences of ids in one array (N, T), and their lengths (N,).

    Args: value: what stands behind the shorter ones. length: T; by default that of the longest; of longer ones the
        beginning is kept.
    Raises: DataError where a sequence holds other things than integers.
    """
    sequences = [_ids(i, s) for i, s in enumerate(sequences)]
    lengths = np.array([len(s) for s in sequences], np.int64)
    width = int(lengths.max(initial=0)) if length is None else count("pad", "length", length, 1)
    lengths = np.minimum(lengths, width)
    padded = np.full((len(sequences), width), count("pad", "value", value), np.int64)
    for row, sequence, n in zip(padded, sequences, lengths, strict=True):
        row[:n] = sequence[:n]
    return padded, lengths


def _ids(i: int, sequence: Any) -> NDArray[Any]:
    """One sequence, as an array of integers."""
    ids = np.asarray(sequence)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise DataError(f"pad: sequence {i} must hold integers (T,), got {ids.dtype} {ids.shape}")
    return ids


class Buckets:
    """Batches ((ids (N, T), lengths (N,)), y) of sequences that are about as long as one another, so that little is
    padded; an iterable for `fit` and `Loader`.

    In each epoch sequences of one length stand in a new order, and so do the batches: a function of (seed, epoch).
    `shuffle=False`: by their lengths, always alike.
    """

    def __init__(
        self,
        sequences: Sequence[Any],
        y: Any,
        *,
        batch_size: int = 64,
        seed: int = 0,
        shuffle: bool = True,
        value: int = 0,
    ):
        self.sequences, self.y, self.value = sequences, np.asarray(y), value
        self.batch_size, self.seed = count("Buckets", "batch_size", batch_size, 1), count("Buckets", "seed", seed, 0)
        self.shuffle, self.epoch = shuffle, 0
        if len(self.sequences) != len(self.y) or not len(self.y):
            raise DataError(f"Buckets: {len(self.sequences)} sequences and {len(self.y)} y must be as many, and some")

    def __len__(self) -> int:
        return -(-len(self.sequences) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[tuple[Ids, Ids], Any]]:
        """The next epoch."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._batches(epoch)

    def _batches(self, epoch: int) -> Iterator[tuple[tuple[Ids, Ids], Any]]:
        rng = np.random.Generator(np.random.Philox(key=np.array([self.seed, epoch], np.uint64)))
        order = np.arange(len(self.sequences))
        order = rng.permutation(order) if self.shuffle else order
        order = order[np.argsort([len(self.sequences[i]) for i in order.tolist()], kind="stable")]
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        turns = np.arange(len(batches))
        for b in rng.permutation(turns) if self.shuffle else turns:
            yield pad([self.sequences[i] for i in batches[b].tolist()], value=self.value), self.y[batches[b]]
