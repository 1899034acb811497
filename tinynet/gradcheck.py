"""Is this derivative right? Numerical differentiation, by which every operation of tinynet is proved.

>>> x = tn.tensor(np.random.randn(3, 4))            # float64
>>> tn.gradcheck(lambda x: (x * x).sum(axis=1), x)
True
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import backends
from .autograd import no_grad
from .changes import overlap
from .tensor import Tensor, tensor


class GradientError(AssertionError):
    """The gradient that `backward` gives is not the derivative of the function."""


def gradcheck(
    fn: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3
) -> bool:
    """Compare the gradients of fn with central differences, element by element.

    The outputs y_k are reduced with random cotangents g_k, never with ones (which a transposed or permuted
    gradient would pass): for L = Σ_k ⟨g_k, y_k⟩ the gradient that `backward` gives must equal
    (L(x + eps) - L(x - eps)) / 2 eps at every element x of every input, within atol + rtol·|numerical|. Its
    error is of the order eps² |L'''| + 1e-16 |L| / eps. (Griewank & Walther, *Evaluating Derivatives*, ch. 1.)

    Args:
        fn: takes the inputs as tensors; gives a tensor, or a tuple or list of them, of any shapes. It must be
            smooth within eps of the inputs: not at a kink of relu or abs, not near a tie of max.
        inputs: a tensor or array, or a sequence of them, of any shapes, also empty ones. All floating ones are
            checked and must be float64; integer and bool ones are passed on. What shall not be differentiated,
            let fn close over. Their values and their `.grad` stay as they are.
    Returns: True.
    Raises:
        GradientError (an AssertionError): a gradient has a wrong value, shape or dtype, shares memory with
            another array, or was left in a changed input; the message shows the worst element.
        TypeError: an input or output is not float64, or fn gives no tensors.
        ValueError: fn gives different values for the same inputs, or depends on no input.
    """
    arrays = _float64_inputs(inputs)
    checked = [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]
    outputs = _values(fn, arrays)
    for y, again in zip(outputs, _values(fn, arrays), strict=True):
        if not np.array_equal(y, again, equal_nan=True):
            raise ValueError(
                "gradcheck: the function gave two values for the same inputs; a derivative exists only "
                "of a deterministic one (switch dropout off, fix the seed inside the function)"
            )
    rng = np.random.default_rng(0)
    cotangents = [rng.standard_normal(y.shape) for y in outputs]
    gradients = _analytic(fn, arrays, checked, cotangents)
    if len(outputs) > 1:
        _together(fn, arrays, checked, cotangents, gradients)
    for i in checked:
        numerical = _numerical(fn, arrays, i, cotangents, eps)
        _compare(i, arrays[i].backend.numpy(gradients[i]), numerical, atol, rtol)
    return True


def _float64_inputs(inputs: Any) -> list[Tensor]:
    """The inputs as tensors without gradients, on the arrays (and strides) that were given."""
    single = isinstance(inputs, Tensor | np.ndarray | np.generic | float)
    tensors = []
    for i, x in enumerate([inputs] if single else inputs):
        if not isinstance(x, Tensor):
            x = np.asarray(x)
            be = backends.current()
            x = Tensor(x, be) if be.name == "numpy" else tensor(x)
        if x.dtype.kind == "f" and x.dtype != np.float64:
            raise TypeError(
                f"gradcheck: input {i} has dtype {x.dtype}; central differences need float64, as in "
                "tn.tensor(x, dtype=np.float64)"
            )
        tensors.append(x.detach())
    return tensors


def _outputs(result: Any) -> list[Tensor]:
    outputs = list(result) if isinstance(result, tuple | list) else [result]
    for k, y in enumerate(outputs):
        if not isinstance(y, Tensor):
            raise TypeError(f"gradcheck: the function gave a {type(y).__name__}; it must give tensors")
        if y.dtype.kind == "f" and y.dtype != np.float64:
            raise TypeError(
                f"gradcheck: output {k} has dtype {y.dtype}: the function leaves float64 on its way, and "
                "rounding would hide the derivative"
            )
    return outputs


def _values(fn: Callable, arrays: Sequence[Tensor]) -> list[np.ndarray]:
    """The outputs on the host, each in memory of its own."""
    with no_grad():
        return [np.array(y.numpy()) for y in _outputs(fn(*arrays))]


def _analytic(fn: Callable, arrays: list[Tensor], checked: list[int], cotangents: list) -> dict[int, Any]:
    """The gradients that backward gives, as arrays by number of input, and what backward must not do."""
    before = [np.array(x.numpy()) for x in arrays]
    leaves = [x.detach().requires_grad_() if i in checked else x for i, x in enumerate(arrays)]
    reached = False
    for k, cotangent in enumerate(cotangents):  # each output from a graph of its own, as a graph serves once
        y = _outputs(fn(*leaves))[k]
        if y.node is None:
            continue
        reached = True
        value, g = np.array(y.numpy()), tensor(cotangent, backend=y.backend)
        y.backward(g)
        if not np.array_equal(g.numpy(), cotangent):
            raise GradientError(f"gradcheck: backward changed the cotangent of output {k}")
        if not np.array_equal(y.numpy(), value, equal_nan=True):
            raise GradientError(f"gradcheck: backward changed output {k}")
        _refuse_shared(leaves, checked, {f"output {k}": y.data, f"the cotangent of output {k}": g.data})
    if not reached:
        raise ValueError(
            "gradcheck: no output depends on an input in a way that can be differentiated; the function "
            "must compute with tinynet operations, outside no_grad"
        )
    gradients = {}
    for i, x in enumerate(leaves):
        if not np.array_equal(x.numpy(), before[i], equal_nan=True):
            raise GradientError(f"gradcheck: input {i} of shape {x.shape} was changed by the function or by backward")
        if i in checked:
            g = x.backend.full(x.shape, 0, x.dtype) if x.grad is None else x.grad.data
            if g.shape != x.shape or g.dtype != x.dtype:
                raise GradientError(
                    f"gradcheck: input {i} has shape {x.shape} and dtype {x.dtype}, its gradient "
                    f"{g.shape} and {g.dtype}"
                )
            gradients[i] = g
    return gradients


def _together(fn: Callable, arrays: list[Tensor], checked: list[int], cotangents: list, apart: dict) -> None:
    """Raise where one graph with all outputs gives another gradient than the sum over a graph for each: an operation
    with several outputs gets several gradients then, and None for none of them."""
    leaves = [x.detach().requires_grad_() if i in checked else x for i, x in enumerate(arrays)]
    parts = [
        (y * tensor(g, backend=y.backend)).sum()  # type: ignore[operator]
        for y, g in zip(_outputs(fn(*leaves)), cotangents, strict=True)
        if y.node is not None
    ]
    functools.reduce(operator.add, parts).backward()
    for i in checked:
        be = arrays[i].backend
        grad = leaves[i].grad
        both = np.zeros(arrays[i].shape) if grad is None else grad.numpy()
        if not np.allclose(both, be.numpy(apart[i]), rtol=1e-9, atol=1e-12):
            raise GradientError(
                f"gradcheck: the gradient of input {i} from all outputs at once is not the sum of those from each alone"
            )


def _refuse_shared(leaves: list[Tensor], checked: list[int], others: dict[str, Any]) -> None:
    """Raise where the gradient of an input lies in the memory of anything else."""
    arrays = {f"input {i}": x.data for i, x in enumerate(leaves)} | others
    for i in checked:
        if (grad := leaves[i].grad) is None:
            continue
        for name, array in arrays.items():
            if overlap(leaves[i].backend.bounds(grad.data), leaves[i].backend.bounds(array)):
                raise GradientError(f"gradcheck: the gradient of input {i} shares memory with {name}")
        arrays[f"the gradient of input {i}"] = grad.data


def _numerical(fn: Callable, arrays: list[Tensor], i: int, cotangents: list, eps: float) -> np.ndarray:
    """dL/dx for every element x of input i, by central differences."""
    x = np.array(arrays[i].numpy(), order="C")
    result = np.zeros(x.shape)

    def shifted(place: tuple, step: float) -> tuple[list[np.ndarray], float]:
        moved = x.copy()
        moved[place] += step
        be = arrays[i].backend
        return _values(fn, [*arrays[:i], Tensor(be.asarray(moved), be), *arrays[i + 1 :]]), moved[place]

    for place in np.ndindex(x.shape):
        up, high = shifted(place, eps)
        down, low = shifted(place, -eps)
        # subtract before summing: the values that do not depend on x cancel without a rounding error
        result[place] = sum(np.sum((u - d) * g) for u, d, g in zip(up, down, cotangents, strict=True)) / (high - low)
    return result


def _compare(i: int, analytic: np.ndarray, numerical: np.ndarray, atol: float, rtol: float) -> None:
    with np.errstate(all="ignore"):
        allowed = atol + rtol * np.abs(numerical)
        excess = np.abs(analytic - numerical) / allowed
    wrong = ~(excess <= 1)  # NaN is wrong, too
    if not wrong.any():
        return
    worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
    place = tuple(int(n) for n in worst)
    raise GradientError(
        f"gradcheck: the gradient of input {i} of shape {analytic.shape} is wrong, worst at {list(place)}: "
        f"analytic {analytic[place]:.10g}, numerical {numerical[place]:.10g}, where they may differ by "
        f"{allowed[place]:.2g}; {wrong.sum()} of {wrong.size} elements are wrong"
    )
