"""What can go wrong in a replica, and what the others are told of it."""

from __future__ import annotations

from collections.abc import Sequence

from .team import ReplicaError, Team

FAILED, CHANGED = 1, 2  # what a replica tells the others of its forward and backward, 0 where all is well


class Alone(Exception):
    """A step or an evaluation that one process must make; its text says why."""


class NoMean(Alone):
    """So must all."""


def first_of(team: Team, own: Exception | None, failed: Sequence[float], bounds: list[int]) -> Exception | None:
    """Replica 0's own exception, or the first of those that failed, with its traceback as the cause; Alone where none
    did, but something changed. `failed` holds each replica's code, `bounds` the samples' limits of their shares."""
    rank = failed.index(FAILED if FAILED in failed else CHANGED)
    error, text = [team.reported(r) for r in range(len(failed))][rank]  # none is left for the next step
    if isinstance(error, Alone):
        return error
    cause = ReplicaError(f"in replica {rank}, samples {bounds[rank]} to {bounds[rank + 1] - 1}:\n{text}")
    if isinstance(own, Alone):
        own = None
    if own is not None or error is None:
        return own or cause
    error.__cause__ = cause
    return error


def code(failure: Exception | None) -> int:
    return 0 if failure is None else CHANGED if isinstance(failure, Alone) else FAILED
