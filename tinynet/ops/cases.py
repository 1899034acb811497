"""For every operation, the calls whose derivatives are checked: by the suite, and by `tinynet gradcheck`.

A new operation gets a row here; `missing()` names those without one, and a test fails while there are any.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import autograd, ops
from . import random
from .cases_index import DISCRETE
from .draws import (
    CASES,
    Case,
    away,
    between,
    booleans,
    case,
    fractions,
    inside,
    integers,
    normal,
    positive,
    separated,
    wide,
)

__all__ = ["BINARY", "CASES", "DISCRETE", "UNARY", "Case", "away", "formula", "missing", "normal"]

_erf = np.vectorize(math.erf, otypes=[float])
_BROADCAST: tuple = ((3, 4), (3, 4)), ((), (2, 3)), ((2, 1, 3), (4, 1))


def _gelu(x: np.ndarray, approximate: bool = False) -> np.ndarray:
    inner = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)) if approximate else _erf(x / math.sqrt(2))
    return x * (1 + inner) / 2


# Elementwise operations of one and of two values: what each is drawn from, and its formula, where it is not NumPy's
# function of the name. All elementwise tests (values, derivatives, layouts, kernels) take their operations from here.
UNARY: dict[str, tuple] = {
    **dict.fromkeys(("negative", "exp", "exp2", "expm1", "tanh", "sin", "cos", "arctan", "sinh", "cosh"), (normal,)),
    **dict.fromkeys(("log", "log2", "log10", "log1p", "sqrt"), (positive,)),
    **dict.fromkeys(("tan", "arcsin", "arccos"), (inside,)),
    **dict.fromkeys(("floor", "ceil", "trunc", "round"), (wide,)),
    **dict.fromkeys(("abs", "sign", "cbrt", "reciprocal"), (away,)),
    "square": (normal,),
    "rsqrt": (positive, lambda x: 1 / np.sqrt(x)),
    "erf": (normal, _erf),
    "sigmoid": (normal, lambda x: 1 / (1 + np.exp(-x))),
    "relu": (away, lambda x: np.maximum(x, 0)),
    "leaky_relu": (away, lambda x, slope=0.01: np.where(x > 0, x, slope * x)),
    "gelu": (normal, _gelu),
    "elu": (away, lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(x))),
    "selu": (away, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "silu": (normal, lambda x: x / (1 + np.exp(-x))),
    "relu6": (wide, lambda x: np.clip(x, 0, 6)),
    "hardtanh": (wide, lambda x, low=-1.0, high=1.0: np.clip(x, low, high)),
    "hardsigmoid": (wide, lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    "hardswish": (wide, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "log_sigmoid": (normal, lambda x: -np.log1p(np.exp(-x))),
    "softsign": (away, lambda x: x / (1 + np.abs(x))),
    "mish": (normal, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "softplus": (normal, lambda x: np.log(1 + np.exp(x))),
}
BINARY: dict[str, tuple] = {
    **dict.fromkeys(("add", "subtract", "multiply"), (normal, normal)),
    **dict.fromkeys(("maximum", "minimum"), (separated, between)),
    **dict.fromkeys(("mod", "fmod", "floor_divide"), (wide, away)),
    **dict.fromkeys(("divide", "logaddexp"), (normal, away)),
    **dict.fromkeys(("copysign", "arctan2"), (away, away)),
    "add_relu": (away, away, lambda x, y: np.maximum(x + y, 0)),
    "prelu": (away, normal, lambda x, slope: np.where(x > 0, x, slope * x)),
    "power": (positive, normal),
}
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isclose")
TRUTHS = ("logical_and", "logical_or")
BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift")

for _name in ("add", "subtract", "multiply"):
    _op = getattr(ops, _name)
    for _shapes in ((2, 3), ()), ((1, 4, 3), (4, 1)), ((0, 3), (1, 3)):
        case(_name, _op, normal(*_shapes[0]), normal(*_shapes[1]))
    case(_name, lambda x, op=_op: op(op(x, x), 3.0), normal(2, 3), label="one tensor twice, a number")
    case(_name, lambda x, op=_op: op(0.7, x), normal(3), label="a number first")
for _name, (_draw, _other, *_) in BINARY.items():
    for _shapes in _BROADCAST:
        case(_name, getattr(ops, _name), _draw(*_shapes[0]), _other(*_shapes[1]))
case("divide", lambda x: 2.0 / x / 3.0, away(2, 3), label="numbers")
case("divide", lambda x: x / x, away(3), label="one tensor twice")
case("power", lambda x: x**3 + x**2 + x**1 + x**0, away(2, 3), label="whole exponents")
case("power", lambda x: 2.5**x, normal(2, 3), label="a number first")
case("power", lambda x: x**x, positive(3), label="one tensor twice")
for _name in ("maximum", "minimum"):
    _op = getattr(ops, _name)
    case(_name, lambda x, op=_op: op(x[:4], x[4:]), separated(8), label="halves")
    case(_name, lambda x, op=_op: op(x[:, :1], x[0, 1:]), separated(3, 4), label="broadcast")
    case(_name, lambda x, op=_op: op(x, 0.0), separated(3, 4), label="a number")
case("where", ops.where, booleans(3, 4), normal(3, 4), normal(3, 4))
case("where", ops.where, booleans(4), normal(3, 1), normal())
case("clip", ops.clip, separated(4, 5), low=-0.25, high=0.3)
case("clip", ops.clip, separated(4, 5), low=0.1)
case("clip", ops.clip, separated(4, 5), high=0.1)
for _name, (_draw, *_) in UNARY.items():
    for _shape in (2, 3), (), (0, 2):
        case(_name, getattr(ops, _name), _draw(*_shape))
case("leaky_relu", ops.leaky_relu, away(3, 4), slope=0.3)
case("gelu", lambda x: ops.gelu(x * 3), normal(30), label="all three ranges of erf")
case("astype", ops.astype, normal(2, 3), dtype=np.float64)
case("gelu", ops.gelu, normal(3, 4), approximate=True)
case("elu", ops.elu, away(3, 4), alpha=0.4)
case("hardtanh", ops.hardtanh, wide(3, 4), low=-3.0, high=2.0)
for _name in ("isnan", "isfinite", "logical_not", "bitwise_not"):
    CASES.append(Case(_name, getattr(ops, _name), (integers(3, 3, 4),), smooth=False))
for _name in (*COMPARISONS, *TRUTHS, *BITS):
    CASES.append(Case(_name, getattr(ops, _name), (integers(3, 3, 4), integers(3, 4)), smooth=False))

_AXES: tuple = (None, 0, -1, (0, 2), (-1, 1), ())
for _name, _draw in {
    "sum": normal,
    "mean": normal,
    "var": normal,
    "logsumexp": normal,
    "max": separated,
    "min": separated,
}.items():
    for _axis in _AXES:
        case(_name, getattr(ops, _name), _draw(2, 3, 4), axis=_axis, keepdims=_axis in (0, (-1, 1)))
    case(_name, getattr(ops, _name), _draw())
    case(_name, getattr(ops, _name), _draw(0, 3), axis=1)
    case(_name, getattr(ops, _name), _draw(1, 3), axis=0)
case("sum", ops.sum, normal(0, 3), axis=0)
case("var", ops.var, normal(4, 3), axis=0, ddof=1)
for _name in ("softmax", "log_softmax"):
    for _axis in _AXES:
        case(_name, getattr(ops, _name), normal(2, 3, 4), axis=_axis)
    case(_name, getattr(ops, _name), normal(), axis=None)
    case(_name, getattr(ops, _name), normal(0, 3))

case("reshape", lambda x: ops.reshape(x, 4, -1), normal(2, 3, 4), label="(4,-1)")
case("reshape", lambda x: ops.reshape(x, ()), normal(1, 1), label="()")
case("flatten", ops.flatten, normal(2, 3, 4))
case("flatten", ops.flatten, normal(0, 3, 4))
case("transpose", ops.transpose, normal(2, 3, 4))
case("transpose", ops.transpose, normal(2, 3, 4), axes=(2, 0, 1))
case("transpose", ops.transpose, normal(3, 3), axes=(-1, 0))
case("squeeze", ops.squeeze, normal(1, 3, 1))
case("squeeze", ops.squeeze, normal(1, 3, 1), axis=-1)
case("expand_dims", ops.expand_dims, normal(2, 3), axis=-1)
case("expand_dims", ops.expand_dims, normal(), axis=0)
case("broadcast_to", ops.broadcast_to, normal(3, 1), shape=(2, 3, 4))
case("broadcast_to", ops.broadcast_to, normal(), shape=(2, 2))
case("concatenate", lambda x, y: ops.concatenate([x, y, x], -1), normal(2, 3), normal(2, 2), label="one tensor twice")
case("concatenate", lambda x, y: ops.concatenate([x, y]), normal(0, 2), normal(3, 2))
case("stack", lambda x, y: ops.stack([x, y], 1), normal(2, 3), normal(2, 3), label="axis=1")
case("stack", lambda x, y: ops.stack([x, y], -1), normal(2, 3), normal(2, 3), label="axis=-1")
case("split", ops.split, normal(2, 6), sections=3, axis=-1)
case("split", ops.split, normal(7, 2), sections=[2, 2, 5])
for _widths in 1, (0, 2), ((1, 0), (2, 3)):
    case("pad", ops.pad, normal(2, 3), widths=_widths)
    case("pad", ops.pad, normal(2, 3), widths=_widths, mode="edge")
case("pad", ops.pad, normal(2, 3), widths=1, value=5.0)
case("pad", ops.pad, normal(1, 1, 2), widths=2, mode="edge")
for _label, _index in {
    "an int": 1,
    "a negative step": slice(None, None, -2),
    "nothing left": slice(3, 1),
    "mixed": (slice(1, None), -1),
    "a new axis": (..., None, 0),
    "repeated integers": np.array([0, 2, 2, 0, 2]),
    "negative integers": (np.array([[-1, 0], [0, 2]]),),
    "pairs": (np.array([0, 1, 0]), np.array([1, 1, 1])),
    "integers after a slice": (slice(1, 3), np.array([3, 3])),
    "bool": np.array([True, False, True]),
}.items():
    case("getitem", ops.getitem, normal(3, 4), index=_index, label=_label)

_MATMUL: tuple = (
    ((2, 3), (3, 4)),
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((2, 1, 2, 3), (4, 3, 1)),
    ((2, 2, 3), (3,)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
)
for _shapes in _MATMUL:
    case("matmul", ops.matmul, normal(*_shapes[0]), normal(*_shapes[1]))
case("matmul", lambda x: x @ x, normal(3, 3), label="one tensor twice")
case("matmul", lambda x: x @ x.T, normal(3, 2), label="with its transpose")
for _rows in (4,), (), (2, 3), (0,):
    case("dense", ops.dense, normal(*_rows, 3), normal(3, 2), normal(2))
case("dense", ops.dense, normal(4, 3), normal(3, 2))
case("dense", ops.dense, normal(4, 3), normal(3, 2), normal(2), relu=True)
case("dense", ops.dense, normal(4, 3), normal(3, 2), normal(2), activation="sigmoid")
case("dense", ops.dense, normal(2, 2, 3), normal(3, 2), activation="tanh")

for _name in ("conv2d", "conv_relu_pool"):
    _conv = getattr(ops, _name)
    case(_name, _conv, normal(2, 5, 6, 3), normal(3, 2, 3, 4), normal(4))
    case(_name, _conv, normal(1, 5, 6, 2), normal(2, 3, 2, 1))
    case(_name, _conv, normal(2, 6, 5, 2), normal(3, 3, 2, 2), normal(2), stride=(2, 1), padding=(1, 2))
    case(_name, _conv, normal(1, 7, 6, 4), normal(2, 2, 2, 6), normal(6), groups=2, dilation=(2, 1), padding="same")
    case(_name, _conv, normal(1, 5, 5, 3), normal(3, 3, 1, 6), normal(6), groups=3, padding=1)
    case(_name, _conv, normal(2, 5, 6, 3), normal(3, 2, 1, 3), normal(3), groups=3, padding=(2, 1), dilation=(1, 2))
    case(_name, _conv, normal(2, 6, 7, 2), normal(3, 3, 2, 3), normal(3), padding=1)
    case(_name, _conv, normal(2, 4, 4, 3), normal(1, 1, 3, 2), normal(2), padding="valid")
    case(_name, _conv, normal(1, 8, 16, 2), normal(3, 3, 2, 3), normal(3), label="wide")
    case(_name, _conv, normal(0, 4, 4, 2), normal(3, 3, 2, 2), normal(2))
case("conv_relu_pool", ops.conv_relu_pool, normal(2, 5, 5, 2), normal(3, 3, 2, 3), normal(3), pool=False)
case("conv2d", ops.conv2d, normal(1, 4, 5, 2), normal(3, 2, 2, 2), padding=((2, 0), (0, 1)))
for _at in {}, {"stride": 2}, {"padding": (1, 2)}, {"padding": "same", "dilation": 2, "stride": 2}:
    case("conv1d", ops.conv1d, normal(2, 7, 2), normal(3, 2, 4), normal(4), **_at)
case("conv1d", ops.conv1d, normal(1, 5, 4), normal(2, 2, 2), groups=2)
for _at in {}, {"stride": (2, 1), "output_padding": (1, 0)}, {"padding": 1, "dilation": 2, "stride": 3}:
    case("conv_transpose2d", ops.conv_transpose2d, normal(2, 3, 4, 3), normal(2, 3, 2, 3), normal(2), **_at)
case(
    "conv_transpose2d", ops.conv_transpose2d, normal(1, 3, 3, 4), normal(3, 3, 3, 4), padding=((0, 1), (1, 0)), groups=2
)
case("conv_transpose2d", ops.conv_transpose2d, normal(0, 2, 2, 1), normal(2, 2, 1, 1))
case("embedding", ops.embedding, integers(4, 2, 3), normal(4, 3))
case("embedding", ops.embedding, integers(3, 5), normal(5, 2))
case("embedding", ops.embedding, integers(2, 0), normal(2, 3))
case("embedding", lambda w: ops.embedding(np.array([1, 1, 0]), w), normal(3, 2), label="an array of ids")
for _name, _draw in {"max_pool2d": separated, "avg_pool2d": normal}.items():
    _pool = getattr(ops, _name)
    case(_name, _pool, _draw(2, 4, 6, 3), kernel_size=2)
    case(_name, _pool, _draw(1, 5, 9, 2), kernel_size=2)
    case(_name, _pool, _draw(1, 6, 5, 2), kernel_size=(3, 2), stride=(1, 2), padding=(1, 0))
    case(_name, _pool, _draw(1, 5, 5, 1), kernel_size=3, stride=2, padding="same")
    case(_name, _pool, _draw(2, 3, 4, 1), kernel_size=1, stride=2)
    case(_name, _pool, _draw(0, 4, 4, 2), kernel_size=2)
case("avg_pool2d", ops.avg_pool2d, normal(1, 5, 4, 2), kernel_size=3, stride=2, padding=1, count_include_pad=False)
case(
    "avg_pool2d", lambda x: ops.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True), normal(1, 6, 5, 2), label="ceil"
)
case("max_pool2d", lambda x: ops.max_pool2d(x, 2, stride=2, ceil_mode=True), separated(1, 5, 4, 2), label="ceil")
case(
    "max_pool2d",
    lambda x: ops.max_pool2d(x, (2, 3), dilation=(2, 1), stride=1, padding=1),
    separated(1, 5, 4, 2),
    label="d",
)
_PLACES = np.array([[0, 5], [6, 3], [4, 4], [15, 10]]).reshape(1, 2, 2, 2)  # of two channels in an image of 4×4
case("max_unpool2d", ops.max_unpool2d, normal(1, 2, 2, 2), indices=_PLACES, kernel_size=2)
for _name, _draw in {"max_pool1d": separated, "avg_pool1d": normal}.items():
    case(_name, getattr(ops, _name), _draw(2, 7, 3), kernel_size=2)
    case(_name, getattr(ops, _name), _draw(1, 6, 2), kernel_size=3, stride=2, padding=(1, 0))
for _name, _draw in {"adaptive_max_pool2d": separated, "adaptive_avg_pool2d": normal}.items():
    case(_name, getattr(ops, _name), _draw(2, 4, 6, 2), output_size=(2, 3))
    case(_name, getattr(ops, _name), _draw(1, 5, 4, 2), output_size=(3, 6))
case("resize2d", ops.resize2d, normal(2, 3, 4, 2), size=(5, 2))
case("resize2d", ops.resize2d, normal(1, 3, 4, 2), size=(5, 3), mode="bilinear")
case("resize2d", ops.resize2d, normal(1, 3, 4, 2), size=(5, 1), mode="bilinear", align_corners=True)
case("resize2d", ops.resize2d, normal(0, 3, 4, 2), size=2, mode="bilinear")
case("upsample2d", ops.upsample2d, normal(2, 3, 2, 2), scale=2)
case("upsample2d", ops.upsample2d, normal(1, 3, 4, 2), scale=(2.5, 0.7), mode="bilinear")
case("global_avg_pool2d", ops.global_avg_pool2d, normal(2, 3, 4, 2))

for _batch in (4, 3), (2, 3, 2, 3), (3, 2, 1):
    case("batch_norm", ops.batch_norm, normal(*_batch), normal(_batch[-1]), normal(_batch[-1]))
    case("rms_norm", ops.rms_norm, normal(*_batch), normal(_batch[-1]))
    case("normalize", ops.normalize, normal(*_batch), normal(_batch[-1]), positive(_batch[-1]))
case("batch_norm", ops.batch_norm, normal(4, 3), normal(3), away(3), relu=True)
case("batch_norm", lambda x: ops.batch_norm(x, None, None, eps=0.1)[0], normal(5, 2), label="no scale")
case("batch_norm", lambda x: ops.batch_norm(x, x[0], x[1])[2], normal(5, 2), label="the variance alone")
case("normalize", ops.normalize, normal(0, 2), normal(2), positive(2), normal(2), normal(2), eps=0.1)
case("normalize", ops.normalize, normal(3, 4, 2), normal(2), positive(2), normal(2), normal(2))
case("layer_norm", ops.layer_norm, normal(3, 5), normal(5), normal(5))
case("layer_norm", ops.layer_norm, normal(2, 4, 3), normal(4, 3), normal(4, 3), axes=(1, 2), eps=0.1)
case("layer_norm", ops.layer_norm, normal(2, 4, 3), normal(2, 3), normal(2, 3), axes=(0, -1))
case("layer_norm", ops.layer_norm, normal(5))
case("layer_norm", ops.layer_norm, normal(0, 3), normal(3), normal(3))
case("group_norm", ops.group_norm, normal(2, 3, 2, 4), groups=2)
case("group_norm", lambda x, a, b: ops.group_norm(x, 3, a, b), normal(2, 2, 6), normal(6), normal(6), label="groups=3")
case("group_norm", lambda x, a, b: ops.group_norm(x, 4, a, b), normal(2, 3, 4), normal(4), normal(4), label="instance")
case("group_norm", ops.group_norm, normal(0, 2, 4), groups=1)

# N, T, C, H
for _n, _t, _c, _h, _options in (
    (3, 4, 2, 3, {}),
    (2, 3, 1, 2, {"reverse": True}),
    (3, 4, 2, 2, {"lengths": (4, 0, 2)}),
    (2, 3, 2, 1, {"lengths": (1, 3), "reverse": True}),
    (2, 11, 1, 1, {}),  # more steps than are prepared at one time
    (1, 1, 1, 1, {}),
    (0, 2, 2, 2, {}),
):
    for _name, _gates, _states, _biases in ("rnn", 1, 1, 1), ("lstm", 4, 2, 1), ("gru", 3, 1, 2):
        _wide = _gates * _h
        _draws = [normal(_n, _t, _c), *[normal(_n, _h)] * _states, normal(_c, _wide), normal(_h, _wide)]
        case(_name, getattr(ops, _name), *_draws, *[normal(_wide)] * _biases, **_options)

_attention = ops.scaled_dot_product_attention
_MASKS: tuple[dict, ...] = (
    {},
    {"causal": True},
    {"mask": np.array([[True, False, True, True], [False] * 4, [True] * 4])},
)
for _mask in _MASKS:
    case(
        "scaled_dot_product_attention", _attention, normal(2, 2, 3, 2), normal(2, 2, 4, 2), normal(2, 2, 4, 3), **_mask
    )
case("scaled_dot_product_attention", _attention, normal(1, 3, 2), normal(1, 3, 2), normal(1, 3, 2))
case("scaled_dot_product_attention", _attention, normal(0, 3, 2), normal(0, 3, 2), normal(0, 3, 2))

_WEIGHTS: Any = (0.5, 2.0, 0.3, 1.0)
for _reduction in "mean", "sum", "none":
    for _name in ("softmax_cross_entropy", "nll_loss"):
        case(_name, getattr(ops, _name), normal(5, 4), integers(4, 5), reduction=_reduction)
    for _name in "mse", "l1", "huber":
        case(_name, getattr(ops, _name), normal(3, 2), separated(3, 2), reduction=_reduction)
    for _name in "binary_cross_entropy_with_logits", "focal":
        case(_name, getattr(ops, _name), normal(3, 2), fractions(3, 2), reduction=_reduction)
    case("kl_divergence", ops.kl_divergence, normal(3, 2), positive(3, 2), reduction=_reduction)
    case("dice", ops.dice, positive(3, 2, 2), positive(3, 2, 2), reduction=_reduction)
    case("hinge", ops.hinge, separated(5, 4), integers(4, 5), reduction=_reduction)
    case("cosine_embedding", ops.cosine_embedding, normal(2, 3), normal(2, 3), labels=(1, -1), reduction=_reduction)
    case("triplet_margin", ops.triplet_margin, *[normal(4, 3)] * 2, separated(4, 3), reduction=_reduction)
    case("softmax_cross_entropy", ops.softmax_cross_entropy, normal(3, 4), fractions(3, 4), reduction=_reduction)
_cross_entropy = ops.softmax_cross_entropy
for _reduction in "mean", "sum", "none":
    for _smoothing, _weight, _ignored in (
        (0.2, None, None),
        (0.0, _WEIGHTS, None),
        (0.0, _WEIGHTS, 1),
        (0.2, _WEIGHTS, 1),
    ):
        _chosen: dict = {"label_smoothing": _smoothing, "weight": _weight, "ignore_index": _ignored}
        case(
            _cross_entropy.__name__, _cross_entropy, normal(2, 3, 4), integers(4, 2, 3), reduction=_reduction, **_chosen
        )
case("huber", ops.huber, wide(3, 4), separated(3, 4), delta=2.3)
case("l1", ops.l1, normal(), normal())
case("kl_divergence", ops.kl_divergence, normal(3, 2), positive(3, 2), reduction="batchmean")
case("dice", ops.dice, positive(2, 3, 2), positive(2, 3, 2), axis=1)
case("dice", ops.dice, positive(4), positive(4))
case("focal", ops.focal, normal(3, 2), fractions(3, 2), alpha=None, gamma=1.5)
case("hinge", ops.hinge, separated(2, 3, 4), integers(4, 2, 3), margin=0.17)
case("cosine_similarity", ops.cosine_similarity, normal(2, 3, 4), normal(3, 1))
case("cosine_similarity", ops.cosine_similarity, normal(3, 4), normal(3, 4), axis=0, eps=3.0)
case("cosine_embedding", ops.cosine_embedding, normal(3, 4), normal(3, 4), labels=(-1, -1, -1), margin=-0.5)
case("triplet_margin", ops.triplet_margin, *[normal(5, 3)] * 3, margin=2.0, p=3.0, eps=0.1, swap=True)
case("softmax_cross_entropy", ops.softmax_cross_entropy, normal(1, 1), integers(1, 1))
case("softmax_cross_entropy", ops.softmax_cross_entropy, normal(0, 3), integers(3, 0), reduction="sum")


def _same_dropout(x: Any, rate: float) -> Any:
    """dropout with one mask at every call, and the global random state left as it is."""
    with random.restoring({"dropout": 0}):
        return ops.dropout(x, rate)


case("dropout", _same_dropout, normal(6, 5), rate=0.4)
case("dropout", _same_dropout, normal(3, 2, 2, 3), rate=0.9)
case("dropout", _same_dropout, normal(0, 3), rate=0.5)


def _same_noise(x: Any) -> Any:
    with random.restoring({"dropout": 0}):
        return ops.gaussian_noise(x, 0.5)


case("gaussian_noise", _same_noise, normal(3, 4))
case("pad", ops.pad, normal(3, 4), widths=((2, 1), (0, 3)), mode="reflect")
case("pad", ops.pad, normal(3, 4), widths=((2, 1), (4, 0)), mode="wrap")


def formula(name: str) -> Callable | None:
    """What an elementwise operation computes, of NumPy arrays; None where its row does not say."""
    given = UNARY.get(name, ())[1:] or BINARY.get(name, ())[2:]
    return given[0] if given else getattr(np, name, None)


def missing() -> list[str]:
    """The names of the operations (declared with @op, or listed in tinynet.ops) that have no case."""
    covered = {c.name for c in CASES}
    return sorted({name.lstrip("_") for name in (*autograd.OPS, *ops.__all__)} - covered)
