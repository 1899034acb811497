"""Batches, in an order that only the seed and the epoch decide."""

from __future__ import annotations

import itertools
import math
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..integers import count
from .augment import Augment, WithLabels, augmented, function
from .files import DataError
from .sources import Arrays, Batches, sample_of, source

Batch = tuple[Any, Any]  # x and y, each an array, a tuple or a dict of arrays; y may be None


class Loader:
    """Goes through samples in batches: `for x_batch, y_batch in loader`.

    It takes arrays `x` (N, …) and `y` (N, …), each of which may be a tuple or a dict of arrays, and y None; or, in
    place of x, an indexable dataset (`__len__`, and `__getitem__(i)` that returns the pair (x, y) of one sample), or an
    iterable of batches (x, y), which brings its own batch size and order.

    Each `for` is one epoch: the first is `epoch` 0, or the one that `set_epoch` says. Where `shuffle` is on,
    the order is a function of (seed, epoch) alone, so a run can be repeated, or taken up again in the middle
    of an epoch with `iterate(epoch, start_batch)`. `drop_last` leaves out a last batch that is not full. `steps` is
    the largest number of batches in an epoch: of a large set, an epoch then sees a part, in each another one where it
    shuffles, else always the first.

    `augment(x_batch, rng)` returns a changed batch, and a `WithLabels` changed labels, too; its `rng` depends on
    (seed, epoch, number of the batch) only, so neither `prefetch` nor a restart alters what it does. `prefetch` is the
    number of batches that a thread prepares ahead, and that take memory beside the one in use; with 0 there is no
    thread. Batches are the caller's own arrays.

    Attributes: source: what the samples come from, see `sources`. x, y: the arrays, where it is arrays.

    Raises DataError where x and y differ in length or there is nothing to go through, ValueError for a bad
    setting. An exception in the thread is raised in the loop that reads it.
    """

    x: Any
    y: Any

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 64,
        shuffle: bool = True,
        drop_last: bool = False,
        steps: int | None = None,
        seed: int = 0,
        augment: Augment | WithLabels | None = None,
        prefetch: int = 2,
    ) -> None:
        self.source = source(x, y)
        if isinstance(self.source, Arrays):
            self.x, self.y = self.source.x, self.source.y
        settings = {"batch_size": batch_size, "seed": seed, "prefetch": prefetch}
        self.batch_size, self.seed, self.prefetch = (count("Loader", what, n) for what, n in settings.items())
        if self.batch_size < 1 or self.prefetch < 0 or not 0 <= self.seed < 1 << 64:
            raise ValueError(
                f"Loader: wants batch_size >= 1, prefetch >= 0 and 0 <= seed < 2**64, got "
                f"batch_size={batch_size}, prefetch={prefetch}, seed={seed}"
            )
        if augment is not None:
            function("Loader", augment)
        self.shuffle, self.drop_last, self.augment, self.epoch = shuffle, drop_last, augment, 0
        self.steps = None if steps is None else count("Loader", "steps", steps, 1)
        if steps is not None and isinstance(self.source, Batches):
            raise ValueError("Loader: an iterable of batches says itself how many make an epoch; leave steps= out")
        if self.samples == 0:
            raise DataError(
                f"Loader: {self.source.count} samples make no batch of {self.batch_size}"
                + (" (drop_last leaves out the rest)" if self.source.count else "")
            )

    def __len__(self) -> int:
        """Batches in an epoch. TypeError where an iterable of batches does not say."""
        if isinstance(self.source, Batches):
            return len(self.source)
        whole = self.source.count / self.batch_size
        batches = math.floor(whole) if self.drop_last else math.ceil(whole)
        return batches if self.steps is None else min(batches, self.steps)

    @property
    def samples(self) -> int | None:
        """Samples in an epoch, None where batches come from an iterable."""
        if self.source.count is None:
            return None
        return min(len(self) * self.batch_size, self.source.count)

    def __repr__(self) -> str:
        if isinstance(self.source, Batches):
            return f"Loader({self.source!r})"
        settings: dict[str, Any] = {"batch_size": self.batch_size, "shuffle": self.shuffle, "seed": self.seed}
        settings |= {"drop_last": True} if self.drop_last else {}
        settings |= {} if self.steps is None else {"steps": self.steps}
        if self.augment is not None:
            settings["augment"] = getattr(self.augment, "__qualname__", type(self.augment).__name__)
        return f"Loader({self.source!r}, {', '.join(f'{k}={v}' for k, v in settings.items())})"

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
        if epoch < 0 or start_batch < 0 or (self.samples is not None and start_batch > len(self)):
            raise ValueError(
                f"Loader: wants epoch >= 0 and 0 <= start_batch <= {'…' if self.samples is None else len(self)}, got "
                f"epoch={epoch}, start_batch={start_batch}"
            )
        batches = self._batches(epoch, start_batch)
        return _ahead(batches, self.prefetch) if self.prefetch else batches

    def sample(self) -> tuple[Any, Any]:
        """(x, y) of one sample, not augmented, with a batch axis of length 1."""
        return sample_of(self.source)

    def order(self, epoch: int) -> NDArray[np.intp]:
        """The indices (N,) of the samples in the order of `epoch`. TypeError where batches come from an iterable."""
        if self.source.count is None:
            raise TypeError("Loader: an iterable of batches has an order of its own")
        indices = np.arange(self.source.count)
        return self._rng(epoch, 0).permutation(indices) if self.shuffle else indices

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        for number, (x, y) in enumerate(self._plain(epoch, start), start):
            yield augmented(self.augment, x, self._rng(epoch, number + 1), y)

    def _plain(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches before augmentation."""
        if isinstance(self.source, Batches):
            yield from itertools.islice(self.source.epoch(epoch), start, None)
            return
        order = self.order(epoch)
        for number in range(start, len(self)):
            yield self.source.take(order[number * self.batch_size : (number + 1) * self.batch_size])

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
        while not ready.empty():  # an exception that nobody read keeps the thread's frame, and so the queue, alive
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
