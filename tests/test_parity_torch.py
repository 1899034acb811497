"""The operations beside PyTorch's: values to 1e-12 and gradients to 1e-10, in float64, under one random cotangent.

Channels-last images and weights (KH, KW, C // groups, F) are transposed to PyTorch's layouts inside the table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tinynet as tn
from tinynet import ops
from tinynet.ops.cases import BINARY, CASES, UNARY

pytestmark = pytest.mark.parity
try:
    import torch
    import torch.nn.functional as F
except ImportError:  # conftest.py skips the tests, with the reason
    torch = F = None


def first(x):
    """NHWC → NCHW"""
    return x.permute(0, 3, 1, 2)


def last(x):
    return x.permute(0, 2, 3, 1)


def conv(x, w, b=None, **options):
    return last(F.conv2d(first(x), w.permute(3, 2, 0, 1), b, **options))


def same(function):
    return function, function


def focal(x, t):
    """As torchvision has it, of which PyTorch has none."""
    p = x.sigmoid()
    wrong = 1 - (p * t + (1 - p) * (1 - t))
    weight = 0.25 * t + 0.75 * (1 - t)
    return (weight * wrong**2 * F.binary_cross_entropy_with_logits(x, t, reduction="none")).mean()


def dice(p, t):
    return (1 - 2 * (p * t).sum((1, 2)) / ((p * p).sum((1, 2)) + (t * t).sum((1, 2)))).mean()


LABELS = np.array([0, 2, 1, 1])
ROWS = np.array([0, 2, 2, -1])
PLACES = np.array([[0, 0, 2], [1, 2, 1]])

# name: (ours, PyTorch's, shapes of the inputs)
TABLE = {
    "arithmetic": (*same(lambda x, y: (x + y) * x / (y * y + 1.0) - 2.0 * y), [(3, 1, 4), (2, 1)]),
    "power": (*same(lambda x, y: (x * x + 0.5) ** y), [(3, 4), (4,)]),
    "where": (lambda x, y: ops.where(x > y, x, y * 2), lambda x, y: torch.where(x > y, x, y * 2), [(3, 4), (3, 1)]),
    "clip": (*same(lambda x: x.clip(-0.5, 0.7)), [(5, 6)]),
    "sum": (*same(lambda x: x.sum((0, -1))), [(2, 3, 4)]),
    "mean": (lambda x: x.mean(1, True), lambda x: x.mean(1, keepdim=True), [(2, 3, 4)]),
    "var": (lambda x: x.var((0, 2), ddof=1), lambda x: x.var((0, 2), correction=1), [(2, 3, 4)]),
    "max": (lambda x: x.max((0, 2)), lambda x: x.amax((0, 2)), [(2, 3, 4)]),
    "min": (lambda x: x.min(), lambda x: x.min(), [(2, 3, 4)]),
    "logsumexp": (*same(lambda x: x.logsumexp((0, 2))), [(2, 3, 4)]),
    "softmax": (*same(lambda x: x.softmax(1)), [(2, 3, 4)]),
    "log_softmax": (*same(lambda x: x.log_softmax(-1)), [(2, 3, 4)]),
    "reshape": (*same(lambda x: x.reshape(4, -1) * x.reshape(4, 6)), [(2, 3, 4)]),
    "transpose": (lambda x: x.transpose((2, 0, 1)), lambda x: x.permute(2, 0, 1), [(2, 3, 4)]),
    "concatenate": (lambda x, y: ops.concatenate([x, y], -1), lambda x, y: torch.cat([x, y], -1), [(2, 3), (2, 1)]),
    "stack": (lambda x, y: ops.stack([x, y], 1), lambda x, y: torch.stack([x, y], 1), [(2, 3), (2, 3)]),
    "split": (lambda x: ops.split(x, 3)[1], lambda x: x.tensor_split(3)[1], [(6, 2)]),
    "pad": (lambda x: ops.pad(x, ((0, 0), (1, 2)), value=3.0), lambda x: F.pad(x, (1, 2), value=3.0), [(2, 3)]),
    "pad edge": (
        lambda x: ops.pad(x, ((0, 0), (0, 0), (1, 2)), "edge"),
        lambda x: F.pad(x, (1, 2), mode="replicate"),
        [(2, 3, 4)],
    ),
    "getitem": (lambda x: x[ROWS, 1:], lambda x: x[torch.tensor(ROWS), 1:], [(3, 4)]),
    "std": (lambda x: x.std((0, 2), ddof=1), lambda x: x.std((0, 2), correction=1), [(2, 3, 4)]),
    "prod": (*same(lambda x: x.prod(1)), [(2, 3, 4)]),
    "norm": (lambda x: ops.norm(x, 3, (0, 2)), lambda x: torch.linalg.vector_norm(x, 3, (0, 2)), [(2, 3, 4)]),
    "norm inf": (lambda x: ops.norm(x, np.inf), lambda x: torch.linalg.vector_norm(x, np.inf), [(2, 3, 4)]),
    "cumsum": (*same(lambda x: x.cumsum(1)), [(2, 7, 4)]),
    "cumprod": (*same(lambda x: x.cumprod(-1)), [(2, 7, 4)]),
    "cummax": (lambda x: ops.cummax(x, 1), lambda x: torch.cummax(x, 1).values, [(2, 7, 4)]),
    "logcumsumexp": (lambda x: ops.logcumsumexp(x, 1), lambda x: torch.logcumsumexp(x, 1), [(2, 7, 4)]),
    "flip": (lambda x: ops.flip(x, (0, 2)), lambda x: x.flip((0, 2)), [(2, 3, 4)]),
    "roll": (lambda x: ops.roll(x, (1, -2), (0, 1)), lambda x: x.roll((1, -2), (0, 1)), [(2, 5)]),
    "repeat": (lambda x: ops.repeat(x, 3, 1), lambda x: x.repeat_interleave(3, 1), [(2, 5)]),
    "tile": (lambda x: ops.tile(x, (2, 1, 3)), lambda x: x.tile((2, 1, 3)), [(2, 5)]),
    "tril": (lambda x: ops.tril(x, 1), lambda x: x.tril(1), [(2, 3, 4)]),
    "triu": (lambda x: ops.triu(x, -1), lambda x: x.triu(-1), [(2, 3, 4)]),
    "take": (lambda x: ops.take(x, ROWS % 3, 1), lambda x: x.index_select(1, torch.tensor(ROWS % 3)), [(2, 3)]),
    "take_along_axis": (
        lambda x: ops.take_along_axis(x, PLACES, 1),
        lambda x: torch.take_along_dim(x, torch.tensor(PLACES), 1),
        [(2, 3)],
    ),
    "scatter": (
        lambda x, y: ops.scatter(x, PLACES[:, 1:], y, 1),
        lambda x, y: x.scatter(1, torch.tensor(PLACES[:, 1:]), y),
        [(2, 3), (2, 2)],
    ),
    "scatter add": (
        lambda x, y: ops.scatter(x, PLACES, y, 1, reduce="add"),
        lambda x, y: x.scatter_add(1, torch.tensor(PLACES), y),
        [(2, 3), (2, 3)],
    ),
    "scatter max": (
        lambda x, y: ops.scatter(x, PLACES, y, 1, reduce="max"),
        lambda x, y: x.scatter_reduce(1, torch.tensor(PLACES), y, "amax"),
        [(2, 3), (2, 3)],
    ),
    "sort": (lambda x: ops.sort(x, 0), lambda x: x.sort(0).values, [(5, 3)]),
    "topk": (lambda x: ops.topk(x, 2, 0)[0], lambda x: x.topk(2, 0).values, [(5, 3)]),
    "outer": (ops.outer, lambda x, y: torch.outer(x, y), [(5,), (3,)]),
    "einsum": (
        lambda x, y, z: ops.einsum("...ij,jk,ki->...k", x, y, z),
        lambda x, y, z: torch.einsum("...ij,jk,ki->...k", x, y, z),
        [(2, 4, 3), (3, 5), (5, 4)],
    ),
    "matmul": (*same(lambda x, y: x @ y), [(2, 1, 3, 4), (5, 4, 2)]),
    "dense": (
        lambda x, w, b: ops.dense(x, w, b, relu=True),
        lambda x, w, b: F.linear(x, w.T, b).relu(),
        [(2, 5, 3), (3, 4), (4,)],
    ),
    "dense tanh": (
        lambda x, w, b: ops.dense(x, w, b, activation="tanh"),
        lambda x, w, b: F.linear(x, w.T, b).tanh(),
        [(5, 3), (3, 4), (4,)],
    ),
    "conv2d": (
        lambda x, w, b: ops.conv2d(x, w, b, stride=(2, 1), padding=(1, 2)),
        lambda x, w, b: conv(x, w, b, stride=(2, 1), padding=(1, 2)),
        [(2, 7, 6, 3), (3, 2, 3, 4), (4,)],
    ),
    "conv2d groups": (
        lambda x, w: ops.conv2d(x, w, groups=2, dilation=2),
        lambda x, w: conv(x, w, groups=2, dilation=2),
        [(2, 7, 6, 4), (3, 2, 2, 6)],
    ),
    "conv2d depthwise": (
        lambda x, w: ops.conv2d(x, w, groups=3, padding=1),
        lambda x, w: conv(x, w, groups=3, padding=1),
        [(2, 5, 5, 3), (3, 3, 1, 3)],
    ),
    "conv1d": (
        lambda x, w, b: ops.conv1d(x, w, b, stride=2, padding=1, dilation=2),
        lambda x, w, b: F.conv1d(x.permute(0, 2, 1), w.permute(2, 1, 0), b, 2, 1, 2).permute(0, 2, 1),
        [(2, 9, 3), (3, 3, 4), (4,)],
    ),
    "conv_transpose2d": (
        lambda x, w, b: ops.conv_transpose2d(
            x, w, b, stride=(3, 2), padding=1, output_padding=(2, 1), dilation=2, groups=2
        ),
        lambda x, w, b: last(F.conv_transpose2d(first(x), w.permute(3, 2, 0, 1), b, (3, 2), 1, (2, 1), 2, 2)),
        [(2, 4, 3, 4), (3, 2, 3, 4), (6,)],
    ),
    "embedding": (
        lambda w: ops.embedding(ROWS % 3, w),
        lambda w: F.embedding(torch.tensor(ROWS % 3), w),
        [(3, 4)],
    ),
    "conv_relu_pool": (
        lambda x, w, b: ops.conv_relu_pool(x, w, b),
        lambda x, w, b: last(F.max_pool2d(F.relu(first(conv(x, w, b))), 2)),
        [(2, 7, 6, 3), (3, 3, 3, 4), (4,)],
    ),
    "max_pool2d": (
        lambda x: ops.max_pool2d(x, (3, 2), stride=2, padding=1),
        lambda x: last(F.max_pool2d(first(x), (3, 2), stride=2, padding=1)),
        [(2, 7, 6, 3)],
    ),
    "avg_pool2d": (
        lambda x: ops.avg_pool2d(x, 3, stride=2, padding=1),
        lambda x: last(F.avg_pool2d(first(x), 3, stride=2, padding=1)),
        [(2, 7, 6, 3)],
    ),
    "avg_pool2d without pad": (
        lambda x: ops.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
        lambda x: last(F.avg_pool2d(first(x), 3, stride=2, padding=1, count_include_pad=False)),
        [(2, 7, 6, 3)],
    ),
    "global_avg_pool2d": (ops.global_avg_pool2d, lambda x: x.mean((1, 2)), [(2, 3, 4, 5)]),
    "batch_norm": (
        lambda x, w, b: ops.batch_norm(x, w, b, eps=0.1)[0],
        lambda x, w, b: last(F.batch_norm(first(x), None, None, w, b, True, eps=0.1)),
        [(3, 4, 2, 5), (5,), (5,)],
    ),
    "normalize": (
        lambda x, m, v, w, b: ops.normalize(x, m, v * v, w, b, eps=0.1),
        lambda x, m, v, w, b: (x - m) / torch.sqrt(v * v + 0.1) * w + b,
        [(3, 4, 5), (5,), (5,), (5,), (5,)],
    ),
    "batch_norm relu": (
        lambda x, w, b: ops.batch_norm(x, w, b, eps=0.1, relu=True)[0],
        lambda x, w, b: last(F.batch_norm(first(x), None, None, w, b, True, eps=0.1)).relu(),
        [(3, 4, 2, 5), (5,), (5,)],
    ),
    "layer_norm": (
        lambda x, w, b: ops.layer_norm(x, w, b, axes=(1, 2), eps=0.1),
        lambda x, w, b: F.layer_norm(x, (4, 5), w, b, 0.1),
        [(3, 4, 5), (4, 5), (4, 5)],
    ),
    "group_norm": (
        lambda x, w, b: ops.group_norm(x, 2, w, b, eps=0.1),
        lambda x, w, b: last(F.group_norm(first(x), 2, w, b, 0.1)),
        [(3, 4, 5, 6), (6,), (6,)],
    ),
    "rms_norm": (
        lambda x, w: ops.rms_norm(x, w, eps=0.1),
        lambda x, w: F.rms_norm(x, (5,), w, 0.1),
        [(3, 4, 5), (5,)],
    ),
    "softmax_cross_entropy": (
        lambda x: ops.softmax_cross_entropy(x, LABELS),
        lambda x: F.cross_entropy(x, torch.tensor(LABELS)),
        [(4, 3)],
    ),
    "nll_loss": (
        lambda x: ops.nll_loss(x, LABELS, reduction="none"),
        lambda x: F.nll_loss(x, torch.tensor(LABELS), reduction="none"),
        [(4, 3)],
    ),
    "focal": (lambda x, t: ops.focal(x, t.sigmoid()), lambda x, t: focal(x, t.sigmoid()), [(4, 3), (4, 3)]),
    "dice": (ops.dice, dice, [(2, 4, 3), (2, 4, 3)]),
    "mse": (ops.mse, lambda x, y: F.mse_loss(x, y), [(4, 3), (4, 3)]),
    "binary_cross_entropy_with_logits": (
        lambda x, t: ops.binary_cross_entropy_with_logits(x, t.sigmoid()),
        lambda x, t: F.binary_cross_entropy_with_logits(x, t.sigmoid()),
        [(4, 3), (4, 3)],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_operation(name):
    ours, theirs, shapes = TABLE[name]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    xs = [tn.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    compare(ours(*xs), theirs(*ts), xs, ts)


def compare(y, t, xs, ts):
    """Values, and the gradients of one random cotangent."""
    assert y.shape == tuple(t.shape)
    assert_allclose(y.numpy(), t.detach().numpy(), rtol=1e-12, atol=1e-13)
    g = np.asarray(np.random.default_rng(3).standard_normal(y.shape))
    y.backward(g)
    t.backward(torch.tensor(g))
    for x, theirs_x in zip(xs, ts, strict=True):
        assert_allclose(x.grad.numpy(), theirs_x.grad.numpy(), rtol=1e-10, atol=1e-11)


# Where PyTorch has another name for an operation, or an option.
NAMES = {"power": "pow", "mod": "remainder", "log_sigmoid": "logsigmoid"}
OWN = {
    "add_relu": lambda x, y: torch.relu(x + y),
    "cbrt": lambda x: x.sign() * x.abs() ** (1 / 3),
    "floor_divide": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "hardsigmoid": lambda x: F.relu6(x + 3) / 6,  # whose own gradient is by 1/6 in float32
    "prelu": lambda x, slope: torch.where(x > 0, x, slope * x),
}
KEYWORDS = {
    "leaky_relu": lambda slope=0.01: {"negative_slope": slope},
    "gelu": lambda approximate=False: {"approximate": "tanh" if approximate else "none"},
    "hardtanh": lambda low=-1.0, high=1.0: {"min_val": low, "max_val": high},
}


def theirs_of(name: str) -> Any:
    """PyTorch's function of an operation's name."""
    name = NAMES.get(name, name)
    return OWN.get(name) or next(
        (f for place in (torch, F, torch.special) if callable(f := getattr(place, name, None))), None
    )


BY_NAME = [c for c in CASES if c.fn is getattr(ops, c.name) and c.smooth and c.name in {*UNARY, *BINARY}]


@pytest.mark.parametrize("case", BY_NAME, ids=str)
def test_elementwise_operations_by_name(case):
    """Every elementwise operation of the cases beside PyTorch's function of the same name."""
    xs = [tn.tensor(a, requires_grad=True) for a in case.arrays()]
    ts = [torch.tensor(a, requires_grad=True) for a in case.arrays()]
    compare(case(*xs), theirs_of(case.name)(*ts, **KEYWORDS.get(case.name, dict)(**case.options)), xs, ts)


def test_every_operation_is_here():
    """Except comparisons, shape changes without values, and what has random numbers, which are our own."""
    left = {"astype", "broadcast_to", "dropout", "expand_dims", "flatten", "gaussian_noise", "squeeze"}
    left |= {
        "scaled_dot_product_attention",
        "adaptive_avg_pool2d",
        "adaptive_max_pool2d",
        "avg_pool1d",
        "max_pool1d",
        "max_unpool2d",
        "resize2d",
        "upsample2d",
        "rnn",
        "lstm",
        "gru",
        "l1",
        "huber",
        "hinge",
        "kl_divergence",
        "cosine_similarity",
        "cosine_embedding",
        "triplet_margin",
    }  # these have drawn settings in test_parity_layers.py, test_parity_loss.py and test_recurrent.py
    found = {name.split()[0] for name in TABLE} | {c.name for c in BY_NAME}
    assert set(ops.__all__) - found == left | {c.name for c in CASES if not c.smooth}
