"""2-D convolution (cross-correlation, as every framework means by it), channels last."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import op
from ..backends.geometry import NO_PADS, Pads, Pair, output_size, reach, same_padding
from ..integers import count, counts
from ..tensor import Tensor

__all__ = ["conv2d", "conv_relu_pool"]


def pair(name: str, what: str, value: Any, least: int = 1) -> Pair:
    """An int, or (vertical, horizontal), as a pair; each at least `least`."""
    try:
        values = counts(name, what, value)
    except TypeError:
        values = ()
    if len(values) != 1 + bool(np.ndim(value)) or min(values) < least:
        raise ValueError(f"{name}: {what}={value!r} must be an int >= {least} or a (vertical, horizontal) pair of them")
    return values[0], values[-1]


def windows(
    name: str, size: tuple, kernel: tuple, stride: Pair, padding: Any, dilation: Pair = (1, 1)
) -> tuple[Pads, Pair]:
    """The padding as ((top, bottom), (left, right)) and the output size (OH, OW) of a sliding window.

    `padding`: an int, a (vertical, horizontal) pair, "valid" (none), or "same": an output of
    ceil(size / stride), an odd surplus going after, as in Keras.
    """
    if padding == "same":
        pads = same_padding(size, kernel, stride, dilation)
    elif padding == "valid":
        pads = NO_PADS
    elif isinstance(padding, str):
        raise ValueError(f'{name}: padding={padding!r} must be an int, a pair of ints, "same" or "valid"')
    else:
        down, across = pair(name, "padding", padding, 0)
        pads = (down, down), (across, across)
    try:
        return pads, output_size(size, kernel, stride, pads, dilation)
    except ValueError:
        spread = f" with dilation {dilation}" if dilation != (1, 1) else ""
        high, wide = reach(kernel, dilation)
        raise ValueError(
            f"{name}: the kernel {kernel}{spread} covers {high}×{wide}, more than the image of "
            f"{size[0]}×{size[1]} with padding {padding!r}; use a smaller kernel or more padding"
        ) from None


@op
def _conv2d(be, x, w, b, stride, padding, dilation, groups):
    y, saved = be.conv2d(x, w, b, stride, padding, dilation, groups)
    return y, lambda g, need: be.conv2d_grad(g, saved, need)


@op
def _conv_relu_pool(be, x, w, b, stride, padding, dilation, groups, pool):
    y, saved = be.conv_relu_pool(x, w, b, stride, padding, dilation, groups, pool)
    return y, lambda g, need: be.conv_relu_pool_grad(g, saved, need)


def conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """x (N, H, W, C) with w (KH, KW, C // groups, F) and b (F,) → (N, OH, OW, F).

    y[n, i, j, f] = b[f] + Σ x[n, i·stride + u·dilation - top, j·stride + v·dilation - left, c] · w[u, v, c, f]

    Args:
        stride, dilation: an int or (vertical, horizontal).
        padding: zeros around the image: an int, (vertical, horizontal), "same" (surplus after, as Keras), "valid".
        groups: input and output channels are split into so many groups that do not see each other.
    Raises: ValueError where the shapes do not fit.
    Returns: a Tensor (N, OH, OW, F).
    """
    return _conv2d(x, w, b, *_arguments("conv2d", x, w, b, stride, padding, dilation, groups))


def conv_relu_pool(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    pool: bool = True,
) -> Tensor:
    """relu(conv2d(…)), then max_pool2d(…, 2) if `pool`, in one step: what Sequential fuses by itself.

    Returns: a Tensor (N, OH, OW, F), of half the height and width if `pool`.
    Raises: as conv2d.
    """
    arguments = _arguments("conv_relu_pool", x, w, b, stride, padding, dilation, groups)
    return _conv_relu_pool(x, w, b, *arguments, pool)


def _arguments(
    name: str, x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> tuple:
    """The checked and normalised options of a convolution."""
    if x.ndim != 4:
        raise ValueError(
            f"{name}: input {x.shape} must be (N, H, W, C); one image needs x[None], grey ones a last axis of 1"
        )
    if w.ndim != 4:
        raise ValueError(f"{name}: weight {w.shape} must be (KH, KW, C // groups, F)")
    groups = count(name, "groups", groups)
    channels, filters = x.shape[3], w.shape[3]
    if groups < 1 or channels % groups or filters % groups:
        raise ValueError(
            f"{name}: groups={groups} must divide the input's {channels} channels and the {filters} filters"
        )
    expected = w.shape[2] * groups
    if channels != expected:
        hint = "; images are (N, H, W, C): x.transpose(0, 2, 3, 1) turns PyTorch's" if x.shape[1] == expected else ""
        raise ValueError(
            f"{name}: input has {channels} channels, the weight {w.shape}"
            f"{f' with groups={groups}' if groups > 1 else ''} expects {expected}{hint}"
        )
    if b is not None and b.shape != (filters,):
        raise ValueError(f"{name}: bias {b.shape} must be ({filters},), one value a filter")
    stride, dilation = pair(name, "stride", stride), pair(name, "dilation", dilation)
    pads, _ = windows(name, x.shape[1:3], w.shape[:2], stride, padding, dilation)
    return stride, pads, dilation, groups
