"""What each operation computes, said in plain NumPy and loops (oracles.py): nothing here shares code with tinynet."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests import oracles
from tinynet.ops.cases import formula


def logsumexp(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def softmax(x: np.ndarray, axis: Any = -1) -> np.ndarray:
    return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)


def dense(x: np.ndarray, w: np.ndarray, b: Any = 0.0, relu: bool = False) -> np.ndarray:
    y = x @ w + b
    return np.maximum(y, 0) if relu else y


def pad(x: np.ndarray, widths: Any, mode: str = "constant", value: float = 0.0) -> np.ndarray:
    return np.pad(x, widths, mode=mode, **({"constant_values": value} if mode == "constant" else {}))


def reduced(losses: np.ndarray, reduction: str) -> np.ndarray:
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](losses)


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray, reduction: str = "mean") -> np.ndarray:
    losses = [math.log(sum(math.exp(v - row[label]) for v in row)) for row, label in zip(logits, labels, strict=True)]
    return reduced(np.array(losses), reduction)


def nll_loss(log_probabilities: np.ndarray, labels: np.ndarray, reduction: str = "mean") -> np.ndarray:
    return reduced(np.array([-row[label] for row, label in zip(log_probabilities, labels, strict=True)]), reduction)


def mse(x: np.ndarray, y: np.ndarray, reduction: str = "mean") -> np.ndarray:
    return reduced((x - y) ** 2, reduction)


def binary_cross_entropy(x: np.ndarray, t: np.ndarray, reduction: str = "mean") -> np.ndarray:
    p = 1 / (1 + np.exp(-x))
    return reduced(-t * np.log(p) - (1 - t) * np.log(1 - p), reduction)


# ---- windows ---------------------------------------------------------------------------------------------


def two(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def borders(size: tuple, extent: tuple, stride: tuple, padding: Any) -> list[tuple[int, int]]:
    """(before, after) for both axes."""
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if padding == "same":
        missing = [max((math.ceil(n / s) - 1) * s + e - n, 0) for n, s, e in zip(size, stride, extent, strict=True)]
        return [(m // 2, m - m // 2) for m in missing]
    return [(p, p) for p in two(padding)]


def geometry(x: np.ndarray, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> tuple:
    """(stride, padding, dilation) as the oracles take them."""
    kernel, stride, dilation = two(kernel), two(stride), two(dilation)
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    return stride, tuple(borders(x.shape[1:3], extent, stride, padding)), dilation


def conv2d(
    x: np.ndarray, w: np.ndarray, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> np.ndarray:
    return oracles.conv2d(x, w, b, *geometry(x, w.shape[:2], stride, padding, dilation), groups)


def conv_relu_pool(x: np.ndarray, w: np.ndarray, b: Any = None, pool: bool = True, **options: Any) -> np.ndarray:
    y = np.maximum(conv2d(x, w, b, **options), 0)
    return max_pool2d(y, 2) if pool else y


def max_pool2d(x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0) -> np.ndarray:
    stride, pads, _ = geometry(x, kernel_size, kernel_size if stride is None else stride, padding)
    return oracles.max_pool2d(x, two(kernel_size), stride, pads)[0]


def avg_pool2d(
    x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, count_include_pad: bool = True
) -> np.ndarray:
    stride, pads, _ = geometry(x, kernel_size, kernel_size if stride is None else stride, padding)
    return oracles.avg_pool2d(x, two(kernel_size), stride, pads, count_include_pad)


# ---- normalisation ---------------------------------------------------------------------------------------


def normalized(x: np.ndarray, axes: Any, gamma: Any, beta: Any, eps: float) -> np.ndarray:
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    return y * (1 if gamma is None else gamma) + (0 if beta is None else beta)


def _loop(cell: Any, x: np.ndarray, states: tuple, lengths: Any, reverse: bool) -> list:
    """A cell over time, a sample and a step at a time."""
    y, last = np.zeros((*x.shape[:2], states[0].shape[1])), [s.copy() for s in states]
    for i in range(len(x)):
        steps = range(x.shape[1] if lengths is None else lengths[i])
        for t in reversed(steps) if reverse else steps:
            for state, new in zip(last, cell(x[i, t], *(s[i].copy() for s in last)), strict=True):
                state[i] = new
            y[i, t] = last[0][i]
    return [y, *last]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def rnn(x: Any, h: Any, wx: Any, wh: Any, b: Any, lengths: Any = None, reverse: bool = False) -> list:
    return _loop(lambda x, h: (np.tanh(x @ wx + h @ wh + b),), x, (h,), lengths, reverse)


def lstm(x: Any, h: Any, c: Any, wx: Any, wh: Any, b: Any, lengths: Any = None, reverse: bool = False) -> list:
    def cell(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple:
        i, f, g, o = np.split(x @ wx + h @ wh + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    return _loop(cell, x, (h, c), lengths, reverse)


def gru(x: Any, h: Any, wx: Any, wh: Any, bx: Any, bh: Any, lengths: Any = None, reverse: bool = False) -> list:
    def cell(x: np.ndarray, h: np.ndarray) -> tuple:
        (xr, xz, xn), (hr, hz, hn) = np.split(x @ wx + bx, 3), np.split(h @ wh + bh, 3)
        z = sigmoid(xz + hz)
        return ((1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h,)

    return _loop(cell, x, (h,), lengths, reverse)


def batch_norm(x: np.ndarray, gamma: Any, beta: Any, eps: float = 1e-5) -> list:
    axes = tuple(range(x.ndim - 1))
    return [normalized(x, axes, gamma, beta, eps), x.mean(axes), x.var(axes)]


def layer_norm(x: np.ndarray, gamma: Any = None, beta: Any = None, axes: Any = -1, eps: float = 1e-5) -> np.ndarray:
    axes = tuple(a % x.ndim for a in axes) if isinstance(axes, tuple) else (axes % x.ndim,)
    shape = [n if i in axes else 1 for i, n in enumerate(x.shape)]
    return normalized(x, axes, *(v if v is None else v.reshape(shape) for v in (gamma, beta)), eps)


def group_norm(x: np.ndarray, groups: int, gamma: Any = None, beta: Any = None, eps: float = 1e-5) -> np.ndarray:
    parts = np.split(x, groups, -1)
    axes = tuple(range(1, x.ndim))
    y = np.concatenate([normalized(p, axes, None, None, eps) for p in parts], -1)
    return y * (1 if gamma is None else gamma) + (0 if beta is None else beta)


REFERENCES: dict[str, Any] = {
    "clip": lambda x, low=None, high=None: np.clip(x, low, high),
    "astype": lambda x, dtype: x.astype(dtype),
    "logsumexp": logsumexp,
    "softmax": softmax,
    "log_softmax": lambda x, axis=-1: np.log(softmax(x, axis)),
    "flatten": lambda x: x.reshape(len(x), math.prod(x.shape[1:])),
    "split": lambda x, sections, axis=0: np.split(x, sections, axis),
    "pad": pad,
    "getitem": lambda x, index: x[index],
    "dense": dense,
    "conv2d": conv2d,
    "conv_relu_pool": conv_relu_pool,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool2d": lambda x: x.mean((1, 2)),
    "rnn": rnn,
    "lstm": lstm,
    "gru": gru,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "rms_norm": lambda x, gamma, eps=1e-6: x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * gamma,
    "normalize": lambda x, m, v, gamma=1, beta=0, eps=1e-5: (x - m) / np.sqrt(v + eps) * gamma + beta,
    "softmax_cross_entropy": softmax_cross_entropy,
    "nll_loss": nll_loss,
    "mse": mse,
    "binary_cross_entropy_with_logits": binary_cross_entropy,
}


def reference(name: str) -> Any:
    """What computes operation `name`: the function above, or that of its row in the cases, or NumPy's of its name."""
    return REFERENCES.get(name) or formula(name)


# Where a derivative jumps, the project chooses: (operation, inputs, gradients for a cotangent of ones).
KINKS: list[tuple[str, list, list]] = [
    ("relu", [[-1, 0, 2]], [[0, 0, 1]]),
    ("leaky_relu", [[-1, 0, 2]], [[0.01, 0.01, 1]]),
    ("abs", [[-3, 0, 2]], [[-1, 0, 1]]),
    ("maximum", [[1, 2, 3], [2, 2, 2]], [[0, 1, 1], [1, 0, 0]]),
    ("minimum", [[1, 2, 3], [2, 2, 2]], [[1, 1, 0], [0, 0, 1]]),
    ("max", [[[1, 3], [3, 2]]], [[[0, 1], [0, 0]]]),
    ("min", [[[1, 0], [0, 2]]], [[[0, 1], [0, 0]]]),
    ("power", [[0, 0, 2, -2], [2, 0, 0, 3]], [[0, 0, 0, 12], [0, 0, math.log(2), None]]),  # log(-2): not real
    ("max_pool2d", [np.zeros((1, 2, 2, 1)), 2], [[[[[1], [0]], [[0], [0]]]]]),
    ("clip", [[-2, -1, 0, 1, 2], -1.0, 1.0], [[0, 1, 1, 1, 0]]),
]
