"""Initial weights. Each function takes (shape, rng) and gives float32 values.

With fan_in inputs to a unit and fan_out units fed by one input, the variance of the weights is

    glorot  2 / (fan_in + fan_out)   keeps tanh and linear layers level (Glorot & Bengio 2010)
    he      2 / fan_in               keeps relu layers level (He et al. 2015)
    lecun   1 / fan_in               (LeCun et al. 1998)

Those with settings are made by a call without a shape: kernel_init=init.orthogonal(gain=init.gain("tanh")).
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable

import numpy as np

from .. import ops
from ..tensor import tensor


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


def normal(shape: tuple, rng: np.random.Generator) -> np.ndarray:
    """N(0, 1), for embeddings."""
    return rng.standard_normal(shape).astype(np.float32)


def zeros(shape: tuple, rng: np.random.Generator) -> np.ndarray:
    """All zero."""
    return np.zeros(shape, np.float32)


def ones(shape: tuple, rng: np.random.Generator) -> np.ndarray:
    """All one."""
    return np.ones(shape, np.float32)


def with_settings(function: Callable) -> Callable:
    """Let initialise(shape, rng, …) return weights, and a call with its settings alone an initialiser with those."""
    names = list(inspect.signature(function).parameters)[2:]

    @functools.wraps(function)
    def initialise(*args: object, **settings: object) -> object:
        if len(args) >= 2:
            return function(*args, **settings)
        return functools.partial(initialise, **dict(zip(names, args, strict=False)), **settings)

    return initialise


@with_settings
def orthogonal(shape: tuple, rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
    """`gain` times a random rotation: seen as a matrix (all other axes, last axis), the weights have orthonormal
    columns, or rows where there are fewer of them (Saxe et al. 2014). All are alike likely (Mezzadri 2007).

    Raises ValueError where the shape has less than two axes.
    """
    if len(shape) < 2:
        raise ValueError(f"orthogonal: weights {shape} are no matrix; it is for two axes or more")
    rows, columns = math.prod(shape[:-1]), shape[-1]
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(np.float32)


@with_settings
def truncated_normal(shape: tuple, rng: np.random.Generator, std: float = 0.02) -> np.ndarray:
    """N(0, std²) without what is further from 0 than 2 std, drawn again; their deviation is 0.88 std (as Keras's)."""
    values = np.asarray(rng.standard_normal(shape))
    while (far := np.abs(values) > 2).any():
        values[far] = rng.standard_normal(np.count_nonzero(far))
    return (std * values).astype(np.float32)


GAINS: dict = {None: 1.0, "linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}


def gain(activation: str | Callable | None, slope: float = 0.01) -> float:
    """By what the deviation 1/√fan_in of weights is multiplied, so that layers with this activation stay level.

    It is 1/√E[f(z)²] of a standard normal z, which He et al. (2015) derive for relu, √2. Of tanh, selu and sigmoid it
    is the value that is in use, as torch.nn.init.calculate_gain returns it: 5/3, 3/4 and 1.
    Args: activation: the name of one of tinynet.ops, "linear", None, or a function of a Tensor, value by value; slope:
    that of leaky_relu.
    Raises: ValueError for an unknown name.
    """
    if activation == "leaky_relu":
        return math.sqrt(2 / (1 + slope**2))
    if activation in GAINS:
        return GAINS[activation]
    if not callable(activation) and (activation not in ops.activation.__all__ or activation == "prelu"):
        raise ValueError(f"gain: activation {activation!r:.60} is none of tinynet.ops; pass a function of a Tensor")
    function = activation if callable(activation) else getattr(ops, activation)
    z = np.linspace(-12, 12, 48_001)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    squares = function(tensor(z, backend="numpy")).numpy() ** 2
    return float(1 / math.sqrt((squares * density).sum() * (z[1] - z[0])))


INITIALISERS = {
    f.__name__: f
    for f in (
        *(glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal),
        *(orthogonal, truncated_normal, normal, zeros, ones),
    )
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
