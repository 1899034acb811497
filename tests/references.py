"""What each operation computes, said in plain NumPy and loops (oracles.py): nothing here shares code with tinynet."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from tests import oracles
from tinynet.ops.cases import formula


def logsumexp(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def softmax(x: np.ndarray, axis: Any = -1) -> np.ndarray:
    return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)


def dense(x: np.ndarray, w: np.ndarray, b: Any = 0.0, relu: bool = False, activation: Any = None) -> np.ndarray:
    y = x @ w + b
    functions = {"relu": lambda y: np.maximum(y, 0), "tanh": np.tanh, "sigmoid": lambda y: 1 / (1 + np.exp(-y))}
    return functions.get("relu" if relu else activation, lambda y: y)(y)


def pad(x: np.ndarray, widths: Any, mode: str = "constant", value: float = 0.0) -> np.ndarray:
    return np.pad(x, widths, mode=mode, **({"constant_values": value} if mode == "constant" else {}))


def reduced(losses: np.ndarray, reduction: str) -> np.ndarray:
    if reduction == "batchmean":
        return losses.sum() / len(losses)
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](losses)


def softmax_cross_entropy(
    logits: np.ndarray,
    labels: np.ndarray,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    weight: Any = None,
    ignore_index: int | None = None,
) -> np.ndarray:
    """A row at a time; the mean of class numbers is the weighted one."""
    k, hard = logits.shape[-1], labels.shape != logits.shape
    w, losses, total = np.ones(k) if weight is None else np.asarray(weight), np.zeros(logits.shape[:-1]), 0.0
    for at in np.ndindex(losses.shape):
        row, label = logits[at], labels[at]
        if hard and label == ignore_index:
            continue
        total += w[label] if hard else 1
        for c in range(k):
            target = float(label == c) if hard else label[c]
            target = (1 - label_smoothing) * target + label_smoothing / k
            losses[at] += w[c] * target * math.log(sum(math.exp(v - row[c]) for v in row))
    return losses.sum() / total if reduction == "mean" else reduced(losses, reduction)


def nll_loss(log_probabilities: np.ndarray, labels: np.ndarray, reduction: str = "mean") -> np.ndarray:
    return reduced(np.array([-row[label] for row, label in zip(log_probabilities, labels, strict=True)]), reduction)


def mse(x: np.ndarray, y: np.ndarray, reduction: str = "mean") -> np.ndarray:
    return reduced((x - y) ** 2, reduction)


def binary_cross_entropy(x: np.ndarray, t: np.ndarray, reduction: str = "mean") -> np.ndarray:
    p = 1 / (1 + np.exp(-x))
    return reduced(-t * np.log(p) - (1 - t) * np.log(1 - p), reduction)


def focal(x: np.ndarray, t: np.ndarray, alpha: Any = 0.25, gamma: float = 2.0, reduction: str = "mean") -> np.ndarray:
    p = 1 / (1 + np.exp(-x))
    right = p * t + (1 - p) * (1 - t)
    balance = 1 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
    return reduced(balance * (1 - right) ** gamma * binary_cross_entropy(x, t, "none"), reduction)


def huber(y: np.ndarray, t: np.ndarray, delta: float = 1.0, reduction: str = "mean") -> np.ndarray:
    d = np.abs(y - t)
    return reduced(np.where(d <= delta, d * d / 2, delta * (d - delta / 2)), reduction)


def dice(p: np.ndarray, t: np.ndarray, axis: Any = None, reduction: str = "mean") -> np.ndarray:
    axis = (tuple(range(1, p.ndim)) or 0) if axis is None else axis
    return reduced(1 - 2 * (p * t).sum(axis) / ((p * p).sum(axis) + (t * t).sum(axis)), reduction)


def hinge(scores: np.ndarray, labels: np.ndarray, margin: float = 1.0, reduction: str = "mean") -> np.ndarray:
    losses = np.zeros(labels.shape)
    for at in np.ndindex(labels.shape):
        others = [s for c, s in enumerate(scores[at]) if c != labels[at]]
        losses[at] = sum(max(0, margin - scores[at][labels[at]] + s) for s in others) / scores.shape[-1]
    return reduced(losses, reduction)


def cosine_similarity(x: np.ndarray, y: np.ndarray, axis: int = -1, eps: float = 1e-8) -> np.ndarray:
    lengths = [np.maximum(np.sqrt((v * v).sum(axis)), eps) for v in (x, y)]
    return (x * y).sum(axis) / (lengths[0] * lengths[1])


def cosine_embedding(
    x: np.ndarray, y: np.ndarray, labels: Any, margin: float = 0.0, reduction: str = "mean"
) -> np.ndarray:
    pairs = zip(cosine_similarity(x, y), labels, strict=True)
    return reduced(np.array([1 - c if label == 1 else max(0, c - margin) for c, label in pairs]), reduction)


def triplet_margin(
    a: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> np.ndarray:
    distance = lambda x, y: (np.abs(x - y + eps) ** p).sum(-1) ** (1 / p)  # noqa: E731
    far = distance(a, negative)
    far = np.minimum(far, distance(positive, negative)) if swap else far
    return reduced(np.maximum(distance(a, positive) - far + margin, 0), reduction)


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
    return [two(p) for p in two(padding)]


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


def conv1d(
    x: np.ndarray, w: np.ndarray, b: Any = None, padding: Any = 0, stride: int = 1, **options: Any
) -> np.ndarray:
    padding = padding if isinstance(padding, str) else ((0, 0), padding)
    options = {name: (1, v) if name == "dilation" else v for name, v in options.items()}
    return conv2d(x[:, None], w[None], b, stride=(1, stride), padding=padding, **options)[:, 0]


def conv_transpose2d(
    x: np.ndarray,
    w: np.ndarray,
    b: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> np.ndarray:
    """Each input pixel, times the kernel, is added to the output; then the borders are cut off."""
    (sh, sw), (dh, dw), (eh, ew) = two(stride), two(dilation), two(output_padding)
    (top, bottom), (left, right) = [two(p) for p in two(padding)]
    (n, h, v, c), (kh, kw, f, _) = x.shape, w.shape
    y = np.zeros((n, (h - 1) * sh + (kh - 1) * dh + 1 + eh, (v - 1) * sw + (kw - 1) * dw + 1 + ew, f * groups))
    for i, j, u, q, k, o in itertools.product(*map(range, (h, v, kh, kw, c, f))):
        group = k // (c // groups)
        y[:, i * sh + u * dh, j * sw + q * dw, group * f + o] += x[:, i, j, k] * w[u, q, o, k]
    y = y[:, top : y.shape[1] - bottom, left : y.shape[2] - right]
    return y if b is None else y + b


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


def batch_norm(x: np.ndarray, gamma: Any, beta: Any, eps: float = 1e-5, relu: bool = False) -> list:
    axes = tuple(range(x.ndim - 1))
    y = normalized(x, axes, gamma, beta, eps)
    return [np.maximum(y, 0) if relu else y, x.mean(axes), x.var(axes)]


def layer_norm(x: np.ndarray, gamma: Any = None, beta: Any = None, axes: Any = -1, eps: float = 1e-5) -> np.ndarray:
    axes = tuple(a % x.ndim for a in axes) if isinstance(axes, tuple) else (axes % x.ndim,)
    shape = [n if i in axes else 1 for i, n in enumerate(x.shape)]
    return normalized(x, axes, *(v if v is None else v.reshape(shape) for v in (gamma, beta)), eps)


def group_norm(x: np.ndarray, groups: int, gamma: Any = None, beta: Any = None, eps: float = 1e-5) -> np.ndarray:
    parts = np.split(x, groups, -1)
    axes = tuple(range(1, x.ndim))
    y = np.concatenate([normalized(p, axes, None, None, eps) for p in parts], -1)
    return y * (1 if gamma is None else gamma) + (0 if beta is None else beta)


def max_unpool2d(x: np.ndarray, indices: Any, kernel_size: int) -> np.ndarray:
    n, h, w, c = x.shape
    y = np.zeros((n, h * kernel_size * w * kernel_size, c), x.dtype)
    for i, row, column, k in np.ndindex(x.shape):
        y[i, indices[i, row, column, k], k] = x[i, row, column, k]
    return y.reshape(n, h * kernel_size, w * kernel_size, c)


def max_pool1d(x: np.ndarray, kernel_size: int, stride: Any = None, padding: Any = 0) -> np.ndarray:
    return max_pool2d(x[:, None], (1, kernel_size), (1, stride or kernel_size), ((0, 0), padding))[:, 0]


def avg_pool1d(x: np.ndarray, kernel_size: int, stride: Any = None, padding: Any = 0) -> np.ndarray:
    return avg_pool2d(x[:, None], (1, kernel_size), (1, stride or kernel_size), ((0, 0), padding))[:, 0]


def adaptive(reduce: Any) -> Any:
    """Pooling over windows that begin at ⌊i n / m⌋ and end before ⌈(i + 1) n / m⌉."""

    def pooled(x: np.ndarray, output_size: Any) -> np.ndarray:
        (h, w), y = two(output_size), None
        y = np.zeros((len(x), h, w, x.shape[3]))
        for i, j in itertools.product(range(h), range(w)):
            top, left = i * x.shape[1] // h, j * x.shape[2] // w
            bottom, right = math.ceil((i + 1) * x.shape[1] / h), math.ceil((j + 1) * x.shape[2] / w)
            y[:, i, j] = reduce(x[:, top:bottom, left:right], (1, 2))
        return y

    return pooled


def resize2d(
    x: np.ndarray, size: Any, mode: str = "nearest", align_corners: bool = False, steps: Any = None
) -> np.ndarray:
    """Pixel by pixel, from the four around it."""
    size = two(size)
    steps = steps or [n / m for n, m in zip(x.shape[1:3], size, strict=True)]
    y = np.zeros((len(x), *size, x.shape[3]))

    def place(i: int, axis: int) -> float:
        n, m, step = x.shape[1 + axis], size[axis], steps[axis]
        if mode == "nearest":
            return min(math.floor(i * step), n - 1)
        return i * (n - 1) / max(m - 1, 1) if align_corners else min(max((i + 0.5) * step - 0.5, 0), n - 1)

    for i, j in itertools.product(*map(range, size)):
        (a, u), (b, v) = divmod(place(i, 0), 1), divmod(place(j, 1), 1)
        for h, w, part in (
            (a, b, (1 - u) * (1 - v)),
            (a + 1, b, u * (1 - v)),
            (a, b + 1, (1 - u) * v),
            (a + 1, b + 1, u * v),
        ):
            if part:
                y[:, i, j] += part * x[:, int(h), int(w)]
    return y


def upsample2d(x: np.ndarray, scale: Any, **options: Any) -> np.ndarray:
    scale = scale if isinstance(scale, tuple) else (scale, scale)
    size = tuple(math.floor(n * s) for n, s in zip(x.shape[1:3], scale, strict=True))
    return resize2d(x, size, steps=[1 / s for s in scale], **options)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: Any = None, causal: bool = False) -> np.ndarray:
    """Query by query."""
    y = np.zeros((*q.shape[:-1], v.shape[-1]))
    for place in np.ndindex(q.shape[:-1]):
        *outer, t = place
        allowed = [s for s in range(k.shape[-2]) if (mask is None or mask[t, s]) and (not causal or s <= t)]
        fits = [math.exp(q[place] @ k[(*outer, s)] / math.sqrt(q.shape[-1])) for s in allowed]
        for s, fit in zip(allowed, fits, strict=True):
            y[place] += fit / sum(fits) * v[(*outer, s)]
    return y


def norm(x: np.ndarray, ord: float = 2, axis: Any = None, keepdims: bool = False) -> np.ndarray:
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(a % x.ndim for a in axes) if x.ndim else ()
    left = [i for i in range(x.ndim) if i not in axes]
    rows = x.transpose((*left, *axes)).reshape([*(x.shape[i] for i in left), math.prod(x.shape[i] for i in axes)])
    y = np.linalg.norm(rows, ord, axis=-1)
    return y.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else y


def scatter(x: np.ndarray, indices: Any, values: Any, axis: int, reduce: Any = None) -> np.ndarray:
    """A value at a time."""
    y, values = x.copy(), np.broadcast_to(values, np.shape(indices))
    for place in np.ndindex(values.shape):
        at = (*place[:axis], indices[place], *place[axis + 1 :])
        y[at] = {None: lambda a, b: b, "add": np.add, "max": np.maximum, "min": np.minimum}[reduce](
            y[at], values[place]
        )
    return y


def argsort(x: np.ndarray, axis: Any = -1) -> np.ndarray:
    return np.argsort(x, axis, kind="stable")


def topk(x: np.ndarray, k: int, axis: int = -1) -> list:
    order = np.argsort(-x, axis, kind="stable").take(range(k), axis)
    return [np.take_along_axis(x, order, axis), order]


REFERENCES: dict[str, Any] = {
    "norm": norm,
    "scatter": scatter,
    "argsort": argsort,
    "sort": lambda x, axis=-1, descending=False: np.sort(x, axis)[..., :: -1 if descending else 1],
    "topk": topk,
    "one_hot": lambda ids, classes: np.eye(classes, dtype=np.float32)[ids],
    "cummax": lambda x, axis: np.maximum.accumulate(x.reshape(-1) if axis is None else x, axis or 0),
    "logcumsumexp": lambda x, axis: np.log(np.cumsum(np.exp(x), axis)),
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
    "conv1d": conv1d,
    "conv_transpose2d": conv_transpose2d,
    "max_pool1d": max_pool1d,
    "avg_pool1d": avg_pool1d,
    "adaptive_avg_pool2d": adaptive(np.mean),
    "adaptive_max_pool2d": adaptive(np.max),
    "resize2d": resize2d,
    "upsample2d": upsample2d,
    "scaled_dot_product_attention": attention,
    "embedding": lambda ids, w: w[ids],
    "max_pool2d": max_pool2d,
    "max_unpool2d": max_unpool2d,
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
    "l1": lambda y, t, reduction="mean": reduced(np.abs(y - t), reduction),
    "huber": huber,
    "focal": focal,
    "kl_divergence": lambda log_p, t, reduction="mean": reduced(t * (np.log(t) - log_p), reduction),
    "dice": dice,
    "hinge": hinge,
    "cosine_similarity": cosine_similarity,
    "cosine_embedding": cosine_embedding,
    "triplet_margin": triplet_margin,
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
    ("copysign", [[0, -2, 3], [1, 1, -1]], [[0, -1, -1], [0, 0, 0]]),
    ("prod", [[2, 0, 3]], [[0, 6, 0]]),
    ("prod", [[0, 0, 3]], [[0, 0, 0]]),
    ("cumprod", [[2, 0, 3]], [[1, 8, 0]]),
    ("cummax", [[1, 3, 3, 2]], [[1, 3, 0, 0]]),
    ("norm", [[0, 0]], [[0, 0]]),
    ("norm", [[0, -2, 3], 1], [[0, -1, 1]]),
    ("norm", [[0, 0], 3], [[0, 0]]),
    ("norm", [[0, -2], math.inf], [[0, -1]]),
    ("sort", [[2, 1, 1]], [[1, 1, 1]]),
    ("power", [[0, 0, 2, -2], [2, 0, 0, 3]], [[0, 0, 0, 12], [0, 0, math.log(2), None]]),  # log(-2): not real
    ("add_relu", [[-1, -2, 1], [0, 2, 1]], [[0, 0, 1], [0, 0, 1]]),
    ("max_pool2d", [np.zeros((1, 2, 2, 1)), 2], [[[[[1], [0]], [[0], [0]]]]]),
    ("l1", [[1, 2, 3], [2, 2, 2]], [[-1 / 3, 0, 1 / 3], [1 / 3, 0, -1 / 3]]),
    ("huber", [[3, 2, 1, 1.5], [2, 2, 2, 2]], [[0.25, 0, -0.25, -0.125], [-0.25, 0, 0.25, 0.125]]),
    ("clip", [[-2, -1, 0, 1, 2], -1.0, 1.0], [[0, 1, 1, 1, 0]]),
]
