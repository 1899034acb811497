"""Where a model and a loss meet: pairs that train worse, or not at all, without an error."""

from __future__ import annotations

import functools
import warnings
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from .. import ops
from ..tensor import Tensor
from .activation import Sigmoid, Softmax
from .conv import Conv2d
from .dense import Dense, Flatten
from .functions import Lambda
from .module import Module
from .random import Dropout
from .sequential import Sequential

_told: weakref.WeakKeyDictionary[Module, set[Callable]] = weakref.WeakKeyDictionary()  # models that were warned of

FITTED = "_fitted_loss"  # the attribute of a model that was trained: the loss, or its name as a file tells it
ENDS = {ops.softmax: "softmax", ops.sigmoid: "sigmoid"}
LOGITS = {
    ops.softmax_cross_entropy: "softmax",  # the losses that take logits, and what they apply to them
    ops.binary_cross_entropy_with_logits: "sigmoid",
    ops.focal: "sigmoid",
}
NUMBERS = (ops.mse, ops.l1, ops.huber)  # the losses whose outputs are what is asked for


def check_loss(model: Module, loss: Callable) -> None:
    """Say what is wrong with a loss for a built model, as far as that can be known from its last layer.

    Warns, once for a model and a loss, where the model ends in softmax or sigmoid and the loss takes logits, or where
    nll_loss gets probabilities. Raises ValueError where softmax_cross_entropy gets one value a sample.
    """
    function = _bare(loss)
    end, size = last_activation(model), model.output_shape
    if function is ops.softmax_cross_entropy and isinstance(size, tuple) and size[-1:] == (1,):
        remedy = " without the sigmoid" if end == "sigmoid" else ""
        raise ValueError(
            f"softmax_cross_entropy: the model's outputs {('N', *size)} have one value a sample, or place, and softmax "
            "over one class is always 1; for two classes use loss=ops.binary_cross_entropy_with_logits"
            f"{remedy}, with y of shape (N, 1) and values 0.0 or 1.0, or a last layer of two, nn.Dense(2), with y of "
            "shape (N,); for numbers use loss=ops.mse"
        )
    if end is None or function in _told.setdefault(model, set()):
        return
    if function in LOGITS:
        _told[model].add(function)
        warnings.warn(
            f"the model ends in {end}, and {function.__name__} takes logits: it applies {LOGITS[function]} itself, so "
            f"training is worse than it could be; leave the {end} out (tn.predict returns probabilities)",
            UserWarning,
            stacklevel=3,
        )
    elif function is ops.nll_loss:
        _told[model].add(function)
        warnings.warn(
            f"the model ends in {end}, and nll_loss takes log-probabilities; leave the {end} out and use "
            "loss=ops.softmax_cross_entropy",
            UserWarning,
            stacklevel=3,
        )


def check_pixels(model: Module, x: Any) -> None:
    """Warn, once for a model, where images as bytes, from 0 to 255, meet the first layer with weights as they are."""
    first: Any = model
    while isinstance(first, Sequential):
        first = next((layer for layer in first.layers if not isinstance(layer, Flatten | Dropout)), None)
    told = _told.setdefault(model, set())
    if (
        getattr(x, "dtype", None) == np.uint8
        and x.ndim > 2
        and isinstance(first, Conv2d | Dense)
        and check_pixels not in told
    ):
        told.add(check_pixels)
        warnings.warn(
            f"the images are uint8, from 0 to 255, which {type(first).__name__} takes as they are: networks learn "
            "badly from numbers so large; divide by 255, or let nn.Normalize.fit(x) be the first layer",
            UserWarning,
            stacklevel=5,
        )


def fitted_loss(model: Module) -> Callable | None:
    """The loss that `fit` trained a model with; None where there was none, or its file tells the name of another's."""
    loss = vars(model).get(FITTED)
    if not isinstance(loss, str):
        return loss
    return getattr(ops, loss[4:]) if loss.startswith("ops.") and loss[4:] in ops.loss.__all__ else None


def probabilities(model: Module, outputs: Tensor) -> Tensor:
    """What outputs (N, …, K) say: the softmax of logits; the sigmoid where there is one, or where the model was trained
    with a loss that takes it; themselves where the model ends in either, or was trained with a loss of numbers."""
    loss = fitted_loss(model)
    if last_activation(model) is not None or _bare(loss) in NUMBERS:
        return outputs
    return ops.sigmoid(outputs) if outputs.shape[-1] == 1 or applied(loss) == "sigmoid" else ops.softmax(outputs)


def logits(model: Module, outputs: np.ndarray) -> np.ndarray:
    """Outputs (…, K) as numbers whose softmax is what the model says: their logarithms where it ends in softmax."""
    if last_activation(model) != "softmax":
        return outputs
    return np.log(np.maximum(outputs, np.finfo(outputs.dtype).tiny))


def applied(loss: Any) -> str | None:
    """What a loss that takes logits applies to them: "softmax" or "sigmoid"; None of others."""
    return LOGITS.get(_bare(loss))


def _bare(loss: Any) -> Any:
    """The function of which `loss` may have set some options; None for an object that cannot be a key, none of ours."""
    function = loss.func if isinstance(loss, functools.partial) else loss
    return function if isinstance(function, Hashable) else None


def last_activation(model: Module) -> str | None:
    """ "softmax" or "sigmoid" where the model's last layer ends in that; None for others and where it is not known."""
    while isinstance(model, Sequential):
        layers = [layer for layer in model.layers if not isinstance(layer, Dropout)]
        if not layers:
            return None
        model = layers[-1]
    if isinstance(own := getattr(type(model), "ends_in", None), property):  # an ensemble's
        return own.fget(model)  # type: ignore[misc]
    if isinstance(model, Softmax | Sigmoid):
        return type(model).__name__.lower()
    function = model.function if isinstance(model, Lambda) else vars(model).get("activation")
    return ENDS.get(function) if callable(function) else None
