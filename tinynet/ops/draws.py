"""A case: one call of an operation whose derivatives are checked, and what its inputs are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..gradcheck import gradcheck

Draw = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Case:
    """One call: fn(*inputs, **options). Without `smooth`, the operation has no derivative (a comparison)."""

    name: str
    fn: Callable
    draws: tuple[Draw, ...]
    options: dict = field(default_factory=dict)
    label: str = ""
    smooth: bool = True

    def arrays(self, dtype: Any = np.float64) -> list[np.ndarray]:
        """The inputs, the same at each call: float ones of `dtype`."""
        rng = np.random.default_rng(1)
        drawn = [draw(rng) for draw in self.draws]
        return [x.astype(dtype) if x.dtype.kind == "f" else x for x in drawn]

    def __call__(self, *tensors: Any) -> Any:
        return self.fn(*tensors, **self.options)

    def __str__(self) -> str:
        shapes = " ".join(str(x.shape).replace(" ", "") for x in self.arrays())
        options = ",".join(f"{k}={v}".replace(" ", "") for k, v in self.options.items() if k != "index")
        return " ".join(filter(None, [self.name, shapes, options, self.label]))

    def check(self) -> None:
        """Raises where the gradient is wrong, by the strict tolerances of the suite."""
        gradcheck(self, self.arrays(), atol=1e-8, rtol=1e-6)


# ---- what the inputs are drawn from ---------------------------------------------------------------------


def normal(*shape: int) -> Draw:
    return lambda rng: np.asarray(rng.standard_normal(shape))


def positive(*shape: int) -> Draw:
    """In [0.5, 2]: away from the pole of log and 1/x."""
    return lambda rng: np.asarray(rng.uniform(0.5, 2, shape))


def away(*shape: int) -> Draw:
    """Of either sign, at least 0.1 from 0, where relu and abs have their kink."""
    return lambda rng: np.asarray(rng.uniform(0.1, 2, shape) * rng.choice([-1, 1], shape))


def inside(*shape: int) -> Draw:
    """In (-0.9, 0.9)."""
    return lambda rng: np.asarray(rng.uniform(-0.9, 0.9, shape))


def fractions(*shape: int) -> Draw:
    """In (0.05, 0.95): probabilities."""
    return lambda rng: np.asarray(rng.uniform(0.05, 0.95, shape))


def wide(*shape: int) -> Draw:
    """In (-8, 8), at least 0.05 from whole numbers and their halves, where functions jump or have a kink."""
    return lambda rng: np.asarray(rng.integers(-16, 16, shape) / 2 + rng.uniform(0.05, 0.45, shape))


def separated(*shape: int) -> Draw:
    """All values differ by 0.05 or more and none is near 0, so that no maximum is nearly a tie."""
    size = int(np.prod(shape))
    return lambda rng: (0.05 * (rng.permutation(size) - size / 2) + 0.0125).reshape(shape)


def between(*shape: int) -> Draw:
    """At least 0.01 from all values that `separated` draws."""
    return lambda rng: separated(*shape)(rng) + 0.01


def integers(high: int, *shape: int) -> Draw:
    return lambda rng: np.asarray(rng.integers(0, high, shape))


def booleans(*shape: int) -> Draw:
    return lambda rng: np.asarray(rng.uniform(size=shape) < 0.5)


# ---- the cases -------------------------------------------------------------------------------------------

CASES: list[Case] = []


def case(name: str, fn: Callable, *draws: Draw, label: str = "", **options: Any) -> None:
    CASES.append(Case(name, fn, draws, options, label))
