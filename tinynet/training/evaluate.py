"""What a trained model does: its loss and metrics on data, its outputs, its probabilities. The modes of its layers are
left as they were."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import parallel
from ..autograd import no_grad
from ..backends.cpu.threads import one_blas_thread
from ..data import Loader
from ..hints import explained
from ..nested import samples
from ..nn import advice, door
from ..nn.module import Module
from ..ops.loss import softmax_cross_entropy
from ..tensor import Tensor
from . import arguments
from .metrics import Metric, chosen


@explained
def evaluate(
    model: Module, data: Any, *extra: Any, batch_size: int = 256, loss: Callable | None = None, metrics: Any = None
) -> dict[str, Any]:
    """The mean loss and the metrics of a model, dropout off: means of the batches', by their samples.

    Args:
        data: arrays (x, y), x an array, a tuple or a dict of arrays, y likewise or None; a Loader; a dataset with
            `__len__` and `__getitem__`; or an iterable of batches.
        loss: function (outputs, y) -> the batch's mean; by default the one that `fit` used, which a file of the model
            keeps where it is tinynet's own; where there was none, the softmax cross-entropy.
        metrics: names or functions, see `training.metrics`; by default the accuracy, where y are classes.
    Returns: {"loss": float, "accuracy": float or None}, a key for each metric; None where it does not apply.
    """
    arguments.check_model("evaluate", model, extra)
    loader = arguments.as_loader("evaluate: data", data, batch_size, None)
    told = loss or remembered(model)
    used = told or softmax_cross_entropy
    measures = chosen(metrics, used)
    try:
        advice.check_loss(model, used)
        with one_blas_thread():
            return totals(loader, measures, lambda x, y: parallel.measured(model, used, x, y, measures))
    except (TypeError, ValueError) as error:
        if told is not None:
            raise
        raise type(error)(
            f"{error}; evaluate was not told the loss, and takes softmax_cross_entropy then: pass loss="
        ) from error


def totals(loader: Loader, metrics: Mapping[str, Metric], measure: Callable) -> dict[str, Any]:
    """`evaluate`'s result, from measure(x, y) -> (mean loss, each metric's sum or None) of each batch."""
    total, seen = 0.0, 0
    found: dict[str, list] = {name: [] for name in metrics}
    with contextlib.closing(loader.iterate(0)) as batches:  # type: ignore[type-var]
        for x, y in batches:
            loss, sums = measure(x, y)
            total += loss * samples(x)
            seen += samples(x)
            for name, value in sums.items():
                found[name].append(value)
    return {"loss": total / seen} | {k: None if None in v else float(sum(v) / seen) for k, v in found.items()}


def outputs(model: Module, data: Any, *, batch_size: int = 256) -> Iterator[tuple[Any, Any]]:
    """(the model's output, y) for each batch of `data`, dropout off."""
    loader = arguments.as_loader("evaluate: data", data, batch_size, None)
    with contextlib.closing(loader.iterate(0)) as batches:  # type: ignore[type-var]
        for x, y in batches:
            with parallel.evaluating(model):
                out = door.call(model, x)
            yield out, y


def predict(model: Module, x: Any, *, batch_size: int = 256) -> np.ndarray:
    """The probabilities that a classifier gives to each class, dropout off.

    It is what LIME, SHAP and scikit-learn's tools call a model: `explainer(lambda x: tn.predict(model, x), rows)`.

    Args: x: an array (N, …) of any dtype, or a list; a tuple or a dict of arrays for a model of several inputs; or a
        Loader, whose y is not looked at, and whose samples are taken in their order, also where it shuffles.
    Returns: an array (N, K) of the model's dtype: the softmax of its logits (N, K), over the last axis where there are
        more; the sigmoid of a single one, (N, 1), and of all where `fit` trained the model with a loss that takes it,
        such as binary_cross_entropy_with_logits. The outputs themselves where the model ends in softmax or sigmoid, or
        was trained for numbers (mse, l1, huber).
    Raises: TypeError where the model's output is no Tensor of floats (N, K).
    """
    arguments.check_model("predict", model, ())
    data: Any = (np.asarray(x) if isinstance(x, list) else x, None)
    if isinstance(x, Loader):
        data = copy.copy(x)
        data.shuffle = False
    parts = []
    with one_blas_thread(), no_grad():
        for out, _ in outputs(model, data, batch_size=batch_size):
            if not isinstance(out, Tensor) or out.ndim < 2 or out.dtype.kind != "f":
                raise TypeError(f"predict: the outputs {arguments.shape_text(out)} must be logits, floats (N, K)")
            parts.append(advice.probabilities(model, out).numpy())
    return np.concatenate(parts)


# ---- the loss that a model was trained with ---------------------------------------------------------------------


def remember(model: Module, loss: Callable) -> None:
    """Note the loss on the model, for `evaluate`."""
    vars(model)[advice.FITTED] = loss


def remembered(model: Module) -> Callable | None:
    """The loss that `fit` used, None where there was none; a warning where the model's file does not hold it."""
    loss, known = vars(model).get(advice.FITTED), advice.fitted_loss(model)
    if known is not None or loss is None:
        return known
    warnings.warn(
        f"evaluate: the model was trained with the loss {loss:.60}, which its file does not hold; this is another one, "
        "softmax_cross_entropy: pass loss=",
        stacklevel=3,
    )
    return None
