"""What follows the batch in a model: sums over the whole of it, which replicas need in the midst of a step, and state
that layers average over batches (`follows_batch`: the running statistics of batch normalisation).

In a step each replica has a share of the batch. Where an operation needs a statistic of all, it gathers the shares'
sums: each writes its own where all see it, tells the others so, and reads theirs, in one order, so that all compute the
same bits. Who ends its step, or fails, while others gather is seen by them: they end theirs, too.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..backends.switches import scope
from ..nn import Module
from ..ops.norm import shares
from ..tensor import Tensor
from .team import Team, shared_array

MOST = 1 << 16  # numbers that are gathered at a time; memory that nobody touches costs nothing
SUMS = -1  # what a replica tells the others while it gathers, in the place of a step's outcome


class Parted(Exception):
    """Another replica does not gather what this one does."""


def tensors(modules: list[Module]) -> list[Tensor]:
    """The state that follows the batch: of each step one replica keeps it, and a step that does not count leaves it."""
    names = ((vars(m), name) for m in modules for name in getattr(type(m), "follows_batch", ()))
    return [attributes[name] for attributes, name in names if isinstance(attributes.get(name), Tensor)]


def of_shares(model: Module) -> bool:
    """Whether layers normalise each share by itself, so that a loss is not that of the whole batch."""
    return any(getattr(m, "sync", None) is False for m in model.modules())


class Kept:
    """State as it is now, to be put back; with `drawn` that of Python's and NumPy's global random generators, too."""

    def __init__(self, modules: list[Module], drawn: bool = True):
        self.then = [(t, t.backend.copy(t.data)) for t in tensors(modules)]
        self.drawn: Any = (random.getstate(), np.random.get_state()) if drawn else None  # noqa: NPY002

    def restore(self) -> None:
        for t, then in self.then:
            t.backend.copyto(t.data, then)
        if self.drawn is not None:
            random.setstate(self.drawn[0])
            np.random.set_state(self.drawn[1])  # noqa: NPY002


class Gathering:
    """How replicas share sums within a step."""

    def __init__(self, team: Team):
        self.team = team
        self._rows = shared_array((2, team.size, MOST), np.float64)  # by turns: who is ahead writes where nobody reads
        self._turn = 0

    @scope
    def step(self, members: list[int], sizes: list[int]) -> Iterator[None]:
        """Within this context batch statistics are those of all samples of the members, `sizes[r]` of each."""
        self._turn = 0
        shares.gather = functools.partial(self._gather, members) if len(members) > 1 else None
        shares.samples, shares.leads = (max(sizes[self.team.rank], 1), sum(sizes)), self.team.rank == 0
        try:
            yield
        finally:
            shares.gather, shares.samples, shares.leads = None, (1, 1), True

    def told(self, own: tuple, members: list[int]) -> list[list[float]]:
        """What each process tells of its step's end, this one `own`: again, as long as a member gathers."""
        while True:
            self.team.put(*own)
            rows = self.team.get(len(own))
            if all(rows[r][0] != SUMS for r in members):
                return rows

    def _gather(self, members: list[int], own: np.ndarray) -> np.ndarray:
        """The vectors of all members, as rows."""
        found: list[Any] = []
        for first in range(0, own.size, MOST):
            part, rows = own[first : first + MOST], self._rows[self._turn]
            rows[self.team.rank, : part.size] = part
            self.team.put(SUMS, part.size)
            told = self.team.get(2)
            if any(told[r] != [SUMS, part.size] for r in members):
                raise Parted("replicas do not share the same batch statistics")
            found.append(rows[members, : part.size])
            self._turn ^= 1
        return found[0] if len(found) == 1 else np.concatenate(found, 1)
