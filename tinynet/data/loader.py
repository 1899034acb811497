"""Batches, in an order that only the seed and the epoch decide."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..integers import count
from .augment import Array, Augment
from .files import DataError

Batch = tuple[Array, Array]


class Loader:
    """Goes through `x` (N, ...) and `y` (N, ...) in batches: `for x_batch, y_batch in loader`.

    Each `for` is one epoch: the first is `epoch` 0, or the one that `set_epoch` says. Where `shuffle` is on,
    the order is a function of (seed, epoch) alone, so a run can be repeated, or taken up again in the middle
    of an epoch with `iterate(epoch, start_batch)`. `drop_last` leaves out a last batch that is not full.

    `augment(x_batch, rng)` returns a changed batch; its `rng` depends on (seed, epoch, number of the batch)
    only, so neither `prefetch` nor a restart alters what it does. `prefetch` is the number of batches that a
    thread prepares ahead, and that take memory beside the one in use; with 0 there is no thread. Batches are
    the caller's own arrays.

    Raises DataError where x and y differ in length or there is nothing to go through, ValueError for a bad
    setting. An exception in the thread is raised in the loop that reads it.
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        batch_size: int = 64,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        augment: Augment | None = None,
        prefetch: int = 2,
    ) -> None:
        self.x, self.y = np.asarray(x), np.asarray(y)
        if self.x.ndim == 0 or self.y.ndim == 0 or len(self.x) != len(self.y):
            raise DataError(
                f"Loader: x and y must have the same length, got the shapes {self.x.shape} and {self.y.shape}"
            )
        settings = {"batch_size": batch_size, "seed": seed, "prefetch": prefetch}
        self.batch_size, self.seed, self.prefetch = (count("Loader", what, n) for what, n in settings.items())
        if self.batch_size < 1 or self.prefetch < 0 or not 0 <= self.seed < 1 << 64:
            raise ValueError(
                f"Loader: wants batch_size >= 1, prefetch >= 0 and 0 <= seed < 2**64, got "
                f"batch_size={batch_size}, prefetch={prefetch}, seed={seed}"
            )
        self.shuffle, self.drop_last, self.augment, self.epoch = shuffle, drop_last, augment, 0
        if len(self) == 0:
            raise DataError(
                f"Loader: {len(self.x)} samples make no batch of {self.batch_size}"
                + (" (drop_last leaves out the rest)" if len(self.x) else "")
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole = len(self.x) / self.batch_size
        return math.floor(whole) if self.drop_last else math.ceil(whole)

    @property
    def samples(self) -> int:
        """Samples in an epoch."""
        return len(self) * self.batch_size if self.drop_last else len(self.x)

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` (0 or more) the one that the next `for` goes through."""
        self.epoch = count("Loader", "epoch", epoch, 0)

    def __iter__(self) -> Iterator[Batch]:
        """The next epoch."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self.iterate(epoch)

    def iterate(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from number `start_batch` on; `loader.epoch` stays as it is."""
        epoch, start_batch = count("Loader", "epoch", epoch), count("Loader", "start_batch", start_batch)
        if epoch < 0 or not 0 <= start_batch <= len(self):
            raise ValueError(
                f"Loader: wants epoch >= 0 and 0 <= start_batch <= {len(self)}, got "
                f"epoch={epoch}, start_batch={start_batch}"
            )
        batches = self._batches(epoch, start_batch)
        return _ahead(batches, self.prefetch) if self.prefetch else batches

    def order(self, epoch: int) -> NDArray[np.intp]:
        """The indices (N,) of the samples in the order of `epoch`."""
        indices = np.arange(len(self.x))
        return self._rng(epoch, 0).permutation(indices) if self.shuffle else indices

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        order = self.order(epoch)
        for number in range(start, len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            x = self.x[chosen]
            if self.augment is not None:
                x = self.augment(x, self._rng(epoch, number + 1))
            yield x, self.y[chosen]

    def _rng(self, epoch: int, use: int) -> np.random.Generator:
        """Key: (seed, epoch). The counter's highest word: 0 for the order, b + 1 for batch b."""
        philox = np.random.Philox(
            key=np.array([self.seed, epoch], np.uint64), counter=np.array([0, 0, 0, use], np.uint64)
        )
        return np.random.Generator(philox)


def _ahead(batches: Iterator[Batch], depth: int) -> Iterator[Batch]:
    """The same batches, prepared up to `depth` ahead in a thread that ends with this iterator."""
    ready: queue.SimpleQueue[Batch | BaseException | None] = queue.SimpleQueue()
    room, stop = threading.Semaphore(depth), threading.Event()
    thread = threading.Thread(target=_fill, args=(batches, ready, room, stop), name="tinynet-loader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                try:
                    raise item
                finally:
                    del item  # else: exception -> traceback -> this frame -> exception
            room.release()
            yield item
    finally:
        stop.set()
        room.release()
        thread.join()
        while not ready.empty():  # an exception that nobody read holds the thread's frame, and that the queue
            ready.get()


def _fill(
    batches: Iterator[Batch], ready: queue.SimpleQueue[Any], room: threading.Semaphore, stop: threading.Event
) -> None:
    """Put a batch whenever there is room, until they end or `stop` is set; then None, or the exception that ended
    them."""
    last: BaseException | None = None
    try:
        while room.acquire() and not stop.is_set():
            batch = next(batches, None)
            if batch is None:
                break
            ready.put(batch)
    except BaseException as error:
        last = error
    ready.put(last)
    del last
