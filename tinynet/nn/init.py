"""Initial weights. Each function takes (shape, rng) and gives float32 values.

With fan_in inputs to a unit and fan_out units fed by one input, the variance of the weights is

    glorot  2 / (fan_in + fan_out)   keeps tanh and linear layers level (Glorot & Bengio 2010)
    he      2 / fan_in               keeps relu layers level (He et al. 2015)
    lecun   1 / fan_in               (LeCun et al. 1998)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def fans(shape: tuple) -> tuple[int, int]:
    """(fan_in, fan_out) of dense weights (in, out) or convolution weights (KH, KW, C // groups, F)."""
    if len(shape) < 2:
        return (shape[0] if shape else 1,) * 2
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def _scaled(variance: Callable[[int, int], float], uniform: bool, name: str, doc: str) -> Callable:
    def initialise(shape: tuple, rng: np.random.Generator) -> np.ndarray:
        deviation = math.sqrt(variance(*fans(shape)))
        if uniform:  # a uniform variable on [-a, a] has variance a² / 3
            limit = math.sqrt(3) * deviation
            return rng.uniform(-limit, limit, shape).astype(np.float32)
        return (deviation * rng.standard_normal(shape)).astype(np.float32)

    initialise.__name__ = initialise.__qualname__ = name
    initialise.__doc__ = doc
    return initialise


def _glorot(i: int, o: int) -> float:
    return 2 / max(i + o, 1)


def _he(i: int, o: int) -> float:
    return 2 / max(i, 1)


def _lecun(i: int, o: int) -> float:
    return 1 / max(i, 1)


glorot_uniform = _scaled(_glorot, True, "glorot_uniform", "U(-a, a), variance 2 / (fan_in + fan_out).")
glorot_normal = _scaled(_glorot, False, "glorot_normal", "N(0, 2 / (fan_in + fan_out)).")
he_uniform = _scaled(_he, True, "he_uniform", "U(-a, a), variance 2 / fan_in.")
he_normal = _scaled(_he, False, "he_normal", "N(0, 2 / fan_in).")
lecun_uniform = _scaled(_lecun, True, "lecun_uniform", "U(-a, a), variance 1 / fan_in.")
lecun_normal = _scaled(_lecun, False, "lecun_normal", "N(0, 1 / fan_in).")


def zeros(shape: tuple, rng: np.random.Generator) -> np.ndarray:
    """All zero."""
    return np.zeros(shape, np.float32)


def ones(shape: tuple, rng: np.random.Generator) -> np.ndarray:
    """All one."""
    return np.ones(shape, np.float32)


INITIALISERS = {
    f.__name__: f
    for f in (glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal, zeros, ones)
}


def get(init: str | Callable) -> Callable:
    """An initialiser by name, or the function itself."""
    if callable(init):
        return init
    if init not in INITIALISERS:
        raise ValueError(
            f"initialiser {init!r} is unknown; choose one of {', '.join(INITIALISERS)}, "
            "or pass a function (shape, rng) -> array"
        )
    return INITIALISERS[init]
