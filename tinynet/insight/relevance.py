"""Layer-wise relevance propagation: the score is handed back to the input, and none of it is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..nn.module import Module
from .attribution import explained
from .targets import Target, input_gradient
from .watching import operations

PRODUCTS = {"conv2d", "conv_relu_pool", "conv_transpose2d", "dense", "divide", "matmul", "multiply"}  # by constants
SUMS = {"add", "add_relu", "avg_pool2d", "mean", "normalize", "resize2d", "subtract", "sum"}
MOVES = {
    "broadcast_to",
    "concatenate",
    "getitem",
    "max",
    "max_pool2d",
    "min",
    "negative",
    "pad",
    "reshape",
    "transpose",
}
CURVES = {"clip", "elu", "erf", "gelu", "leaky_relu", "mish", "prelu", "relu", "silu", "tanh"}  # f(0) = 0


def lrp(model: Module, x: np.ndarray, *, target: Target = None, epsilon: float = 1e-6) -> np.ndarray:
    """Layer-wise relevance propagation by the ε-rule (Bach et al. 2015, eq. 58).

    A layer z_j = Σ_i x_i w_ij + b_j hands back relevance in proportion: R_i = Σ_j x_i w_ij R_j / (z_j + ε sign z_j).
    Through activations it passes as it is, and a maximum hands it to the winner. It is computed as x · g, where g is
    the gradient with f(z) / z in place of each f'(z) (Ancona et al. 2018, proposition 1).

    Conservation: a sample's relevances sum to its score, but for what biases take, b_j / (z_j + ε sign z_j) R_j each,
    and ε.

    Args: x: a batch (N, …) of floats. target: a class number, one for each sample (N,), None for the likeliest class,
        or a function of the model's outputs that returns (N,) scores. epsilon: 0 or more.
    Returns: an array of x's shape, with signs.
    Raises: ValueError where an operation on the way has no rule, such as an LSTM, softmax or a product of two values.
    """
    if epsilon < 0:
        raise ValueError(f"lrp: epsilon={epsilon!r} must not be negative")

    def around(name: str, function: Callable, be: Any, inputs: list, options: dict) -> tuple[Any, Any]:
        y, vjp = function(be, *inputs, **options)
        if vjp is None:
            return y, vjp

        def share(g: Any, need: Any) -> tuple:
            factor = _factor(name, be, inputs, y, need, epsilon)
            if name in CURVES:
                return (be.multiply(g, factor),)
            return vjp(g if factor is None else be.multiply(g, factor), need)

        return y, share

    with explained("lrp", model, x, target) as (leaf, target), operations(around):
        return leaf.numpy() * input_gradient("lrp", model, leaf, target).numpy()


def _factor(name: str, be: Any, inputs: list, y: Any, need: Any, epsilon: float) -> Any:
    """What an operation's incoming g is multiplied by; None for 1. ValueError where it has no rule."""
    if name in MOVES:
        return None
    wanted = sum(node is not None for node in need)
    if name not in PRODUCTS | SUMS | CURVES or (wanted > 1 and name in PRODUCTS) or (name == "divide" and not need[0]):
        several = " of two values that both depend on the input" if name in PRODUCTS and wanted > 1 else ""
        raise ValueError(f"lrp: there is no rule for {name}{several}; take integrated_gradients for such a model")
    top, bottom = be.numpy(y), be.numpy(inputs[0] if name in CURVES else y)
    if name not in CURVES:
        bottom = bottom + np.where(bottom < 0, -epsilon, epsilon).astype(bottom.dtype)
    empty = float(name not in CURVES)
    return be.asarray(np.divide(top, bottom, out=np.full_like(top, empty), where=bottom != 0))
