"""Adversarial examples: inputs changed so little that nobody sees it, and so that the network errs.

>>> x_bad = tn.insight.fgsm(model, x, y, eps=0.1)
>>> tn.evaluate(model, (x_bad, y))["accuracy"]
>>> tn.fit(model, (x, y), attack=functools.partial(tn.insight.fgsm, eps=0.1))  # adversarial training
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..autograd import grad
from ..integers import count
from ..nn.advice import check_loss, fitted_loss
from ..nn.module import Module, Parameter, restoring_modes
from ..ops import random
from ..ops.loss import softmax_cross_entropy
from ..tensor import Tensor, tensor
from .watching import one_array


def fgsm(
    model: Module,
    x: Any,
    y: Any,
    eps: float,
    *,
    loss: Callable | None = None,
    clip: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 256,
) -> np.ndarray:
    """The fast gradient sign method (Goodfellow, Shlens & Szegedy 2015, §4): x + eps · sign(dloss/dx).

    Args:
        model: a classifier; it is taken in evaluation mode, and left as it was: weights, gradients, modes, statistics.
        x: (N, …), floating. y: (N,) class numbers, or what `loss` takes.
        eps: the most that a value changes, in units of x.
        loss: what shall grow: by default the one that `fit` trained the model with, else the softmax cross-entropy.
        clip: the least and the largest value that x may have; examples stay within.
    Returns: an array of x's shape and dtype.
    Raises: TypeError where x is no floating array; ValueError for eps < 0, where x is not within `clip`, and for the
        softmax cross-entropy of a single output, which nothing changes.
    """
    return pgd(model, x, y, eps, steps=1, step=eps, start=False, loss=loss, clip=clip, batch_size=batch_size)


def pgd(
    model: Module,
    x: Any,
    y: Any,
    eps: float,
    *,
    steps: int = 10,
    step: float | None = None,
    start: bool = True,
    seed: int | None = 0,
    loss: Callable | None = None,
    clip: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 256,
) -> np.ndarray:
    """Projected gradient descent (Madry et al. 2018, §2.1): `fgsm` in small steps, each back into x ± eps.

    Args:
        step: of each, by default 2.5 · eps / steps.
        start: whether it begins at a random point of x ± eps, else at x. seed: of that point; None: the next draw of
            tn.seed's, so another at each call, as adversarial training wants it.
        The others: as `fgsm`.
    """
    one_array("fgsm, pgd", x)
    x, y = (a.numpy() if isinstance(a, Tensor) else np.asarray(a) for a in (x, y))
    if x.dtype.kind != "f":
        raise TypeError(f"fgsm, pgd: x has dtype {x.dtype}; it must be floating, so that it can change a little")
    if not (math.isfinite(eps) and eps >= 0) or len(x) != len(y) or not len(x):
        raise ValueError(f"fgsm, pgd: wants eps >= 0 and a label for each x, got eps={eps}, {x.shape} and {y.shape}")
    low, high = clip
    if not (x.min() >= low and x.max() <= high):  # NaN is not within either
        raise ValueError(
            f"fgsm, pgd: x lies in [{x.min():g}, {x.max():g}], not within clip={clip}; pass the range of the inputs"
        )
    loss = loss or fitted_loss(model) or softmax_cross_entropy
    check_loss(model, loss)
    steps, batch_size = count("pgd", "steps", steps, 1), count("fgsm, pgd", "batch_size", batch_size, 1)
    rate = 2.5 * eps / steps if step is None else step
    if not 0 <= rate < math.inf:
        raise ValueError(f"pgd: step={step} must be 0 or more")
    least, most = np.maximum(x - eps, low).astype(x.dtype), np.minimum(x + eps, high).astype(x.dtype)
    bad = x.copy()
    if start:
        rng = random.state.generator("dropout") if seed is None else np.random.Generator(np.random.Philox(seed))
        bad = np.clip(x + rng.uniform(-eps, eps, x.shape).astype(x.dtype), least, most)
    with _fixed(model) as be:
        for a in range(0, len(x), batch_size):
            part = slice(a, a + batch_size)
            for _ in range(steps):
                given = tensor(bad[part], requires_grad=True, backend=be)
                uphill = np.sign(grad(loss(model(given), y[part]), given).numpy())
                bad[part] = np.clip(bad[part] + (rate * uphill).astype(x.dtype), least[part], most[part])
    return bad


@contextmanager
def _fixed(model: Module) -> Iterator[Any]:
    """Within this context the model is in evaluation mode, and its parameters want no gradient, which saves a third of
    the time; behind it all is as before. Returns the parameters' backend, None where there are none."""
    parameters = [p for _, p in model.named_tensors(Parameter)]
    learning = [p for p in parameters if p.requires_grad]
    with restoring_modes(model):
        model.eval()
        try:
            for p in learning:
                p.requires_grad_(False)
            yield parameters[0].backend if parameters else None
        finally:
            for p in learning:
                p.requires_grad_()
