"""Random operations, driven by a counter: the same numbers on every backend and for any number of replicas.

A draw is named by (seed, stream, step, global sample index): `tn.seed(n)` sets the seed, each draw takes the
next step of its stream, and a replica that holds samples 32…63 of a batch says so in `state.first`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from ..autograd import op
from ..integers import count
from ..tensor import Tensor
from .reduce import floating

__all__ = ["dropout"]

STREAMS = {"dropout": 1, "init": 2}


class RandomState:
    """The seed, and how many draws each stream has made: all that a checkpoint must keep."""

    def __init__(self, seed: int = 0):
        self.first = 0  # the global index of this process's first sample in the batch
        self.set(seed)

    def set(self, seed: int) -> None:
        self.seed = int(seed)
        self.steps = dict.fromkeys(STREAMS, 0)

    def snapshot(self) -> tuple[int, dict[str, int], int]:
        """What `restore` takes, in this process or a copy of it: (seed, steps, first)."""
        return self.seed, dict(self.steps), self.first

    def restore(self, snapshot: tuple[int, dict[str, int], int]) -> None:
        self.seed, steps, self.first = snapshot
        self.steps = dict(steps)

    def next(self, stream: str) -> int:
        """The number of the next draw."""
        self.steps[stream] += 1
        return self.steps[stream] - 1

    def generator(self, stream: str) -> np.random.Generator:
        """A NumPy generator for the next draw on the host (the initialisers use it)."""
        key = np.array([self.seed % 2**64, STREAMS[stream]], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, self.next(stream), 0], np.uint64)))


state = RandomState()


@contextmanager
def restoring(steps: Mapping[str, int] | None = None) -> Iterator[None]:
    """Within this context draws go on from `steps`, by default from where they are; behind it the random state is what
    it was."""
    before = state.snapshot()
    if steps is not None:
        state.steps = dict(steps)
    try:
        yield
    finally:
        state.restore(before)


def seed(n: int) -> None:
    """Start all random draws (initial weights, dropout) from seed n, an int. A fresh process starts from 0."""
    state.set(count("seed", "n", n))


@op
def _dropout(be, x, rate, seed, stream, step, first):
    y, saved = be.dropout(x, rate, seed, stream, step, first)
    return y, lambda g, need: (be.dropout_grad(g, saved),)


def dropout(x: Tensor, rate: float, *, training: bool = True) -> Tensor:
    """Zero each value with probability `rate` and scale the others by 1 / (1 - rate) (Srivastava et al. 2014).

    Args: x (N, …): the mask of sample i depends on its global index alone. rate in [0, 1), rounded to 1/65536.
    Returns: a Tensor of x's shape; x itself if not training.
    Raises: ValueError for another rate or a 0-d x; TypeError where x is not floating.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate={rate!r} must be in [0, 1): the share of values that are dropped")
    floating("dropout", x)
    if not x.ndim:
        raise ValueError("dropout: the input is 0-d; it must have a first axis, the samples")
    if not training or rate == 0:
        return x
    return _dropout(x, rate, state.seed, STREAMS["dropout"], state.next("dropout"), state.first)
