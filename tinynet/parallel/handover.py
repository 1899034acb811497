"""A batch handed over to replicas: the leader copies it to shared memory, each replica its share from there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import backends
from ..backends.cpu import memory
from ..nested import leaves, mapped
from ..tensor import Tensor
from .team import LINE, Team


@dataclass
class Place:
    """Where an array of a batch lies in shared memory."""

    is_tensor: bool
    dtype: str
    shape: tuple[int, ...]
    start: int

    def array(self, there: Any) -> np.ndarray:
        return np.ndarray(self.shape, self.dtype, there, self.start)  # type: ignore[call-overload]

    @property
    def end(self) -> int:
        return self.start + math.prod(self.shape) * np.dtype(self.dtype).itemsize


def give(team: Team, batch: tuple[Any, Any], first: int) -> Any:
    """Copy the samples from `first` on to shared memory; returns x and y with a Place for each array."""
    end, tails = 0, []

    def place(array: Any) -> Place:
        nonlocal end
        tail = np.asarray(array)[first:]
        if tail.dtype.hasobject:
            raise TypeError("trainer: x and y must be arrays of numbers")
        made = Place(isinstance(array, Tensor), tail.dtype.str, tail.shape, end)
        tails.append((tail, made))
        end += -(-tail.nbytes // LINE) * LINE
        return made

    places = mapped(place, batch)
    there = team.buffer(end + 1)
    for tail, made in tails:
        np.copyto(made.array(there), tail)
    return places


def take(team: Team, places: Any, start: int, stop: int) -> Any:
    """Copies of x and y of samples [start, stop) of those handed over: the next batch overwrites these."""
    there = team.buffer(max(made.end for made in leaves(places)) + 1)

    def taken(made: Place) -> Any:
        part = made.array(there)[start:stop]
        own = memory.empty(part.shape, part.dtype)
        np.copyto(own, part)
        return Tensor(own, backends.get("numpy")) if made.is_tensor else own

    return mapped(taken, places)
