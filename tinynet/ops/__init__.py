"""The differentiable operations, a file a topic. NumPy's names and argument order."""

from . import inplace, protocols
from .conv import conv2d, conv_relu_pool
from .elementwise import (
    abs,
    add,
    astype,
    clip,
    divide,
    equal,
    exp,
    gelu,
    greater,
    greater_equal,
    leaky_relu,
    less,
    less_equal,
    log,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    relu,
    sigmoid,
    softplus,
    sqrt,
    subtract,
    tanh,
    where,
)
from .loss import binary_cross_entropy_with_logits, mse, nll_loss, softmax_cross_entropy
from .matmul import dense, matmul
from .pool import avg_pool2d, global_avg_pool2d, max_pool2d
from .random import dropout
from .reduce import log_softmax, logsumexp, max, mean, min, softmax, sum, var
from .shape import (
    broadcast_to,
    concatenate,
    expand_dims,
    flatten,
    getitem,
    pad,
    reshape,
    split,
    squeeze,
    stack,
    transpose,
)

__all__ = [
    "abs", "add", "astype", "avg_pool2d", "binary_cross_entropy_with_logits", "broadcast_to", "clip", "concatenate",
    "conv2d", "conv_relu_pool", "dense", "divide", "dropout", "equal", "exp", "expand_dims", "flatten", "gelu",
    "getitem", "global_avg_pool2d", "greater", "greater_equal", "leaky_relu", "less", "less_equal", "log",
    "log_softmax", "logsumexp", "matmul", "max", "max_pool2d", "maximum", "mean", "min", "minimum", "mse", "multiply",
    "negative", "nll_loss", "not_equal", "pad", "power", "relu", "reshape", "sigmoid", "softmax",
    "softmax_cross_entropy", "softplus", "split", "sqrt", "squeeze", "stack", "subtract", "sum", "tanh", "transpose",
    "var", "where",
]
