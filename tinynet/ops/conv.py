"""2-D convolution (cross-correlation, as every framework means by it), channels last."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import op
from ..backends.geometry import NO_PADS, Pads, Pair, output_size, reach, same_padding
from ..integers import count, counts
from ..tensor import Tensor
from .shape import pad

__all__ = ["conv1d", "conv2d", "conv_relu_pool", "conv_transpose2d"]


def pair(name: str, what: str, value: Any, least: int = 1) -> Pair:
    """An int, or (vertical, horizontal), as a pair; each at least `least`."""
    if type(value) is tuple and len(value) == 2 and type(value[0]) is type(value[1]) is int and min(value) >= least:
        return value  # type: ignore[return-value]
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

    `padding`: an int, a (vertical, horizontal) pair, ((top, bottom), (left, right)), "valid" (none), or "same": an
    output of ceil(size / stride), an odd surplus going after, as in Keras.
    """
    if padding == "same":
        pads = same_padding(size, kernel, stride, dilation)
    elif padding == "valid":
        pads = NO_PADS
    elif isinstance(padding, str):
        raise ValueError(f'{name}: padding={padding!r} must be an int, a pair of ints, "same" or "valid"')
    elif isinstance(padding, tuple | list) and len(padding) == 2 and any(np.ndim(p) for p in padding):
        (top, left) = (pair(name, "padding", p, 0) for p in padding)
        pads = top, left
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


@op
def _conv_transpose2d(be, x, w, b, shape, stride, pads, dilation, groups):
    y = be.conv2d_input_grad(x, w, shape, stride, pads, dilation, groups)
    if b is not None:
        y = be.add(y, b)

    def vjp(g, need):  # the convolution whose transpose this is, and its gradient
        dx, saved = be.conv2d(g, w, None, stride, pads, dilation, groups)
        dw = be.conv2d_grad(x, saved, (False, True, False))[1] if need[1] else None
        db = be.sum(g, (0, 1, 2)) if b is not None and need[2] else None
        return dx if need[0] else None, dw, db

    return y, vjp


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
        padding: zeros around the image: an int, (vertical, horizontal), ((top, bottom), (left, right)), "same"
            (surplus after, as Keras), "valid".
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


def conv1d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int | Pair | str = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """x (N, L, C) with w (K, C // groups, F) and b (F,) → (N, OL, F): conv2d along one axis.

    padding: zeros around the sequence: an int, (before, after), "same" or "valid".

    Returns: a Tensor of x's dtype.
    Raises: ValueError where the shapes do not fit.
    """
    if x.ndim != 3 or w.ndim != 3:
        raise ValueError(f"conv1d: input {x.shape} must be (N, L, C), weight {w.shape} (K, C // groups, F)")
    y = conv2d(x[:, None], w[None], b, **along("conv1d", stride, padding, dilation), groups=groups)
    return y.reshape(y.shape[0], *y.shape[2:])


def along(name: str, stride: Any, padding: Any, dilation: Any = 1) -> dict:
    """The options of one axis as those of an image of one line."""
    if not isinstance(padding, str):
        padding = ((0, 0), pair(name, "padding", padding, 0))
    return {
        "stride": (1, count(name, "stride", stride, 1)),
        "padding": padding,
        "dilation": (1, count(name, "dilation", dilation, 1)),
    }


def conv_transpose2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """The transpose of conv2d as a linear map: x (N, H, W, C) with w (KH, KW, F // groups, C) → (N, OH, OW, F).

    OH = (H - 1)·stride - top - bottom + (KH - 1)·dilation + 1 + output_padding, so that a conv2d of the same options
    takes an image of (OH, OW) to (H, W). (Zeiler et al., "Deconvolutional networks", 2010.)

    Args:
        padding: what is cut off at the borders, an int, (vertical, horizontal) or ((top, bottom), (left, right)).
        output_padding: lines and columns added at the bottom and right, fewer than the stride or the dilation.
    Raises: ValueError where the shapes do not fit.
    """
    name = "conv_transpose2d"
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(f"{name}: input {x.shape} must be (N, H, W, C), weight {w.shape} (KH, KW, F // groups, C)")
    groups = count(name, "groups", groups, 1)
    if w.shape[3] != x.shape[3] or x.shape[3] % groups:
        raise ValueError(
            f"{name}: the weight {w.shape} must be (KH, KW, F // groups, C) for an input of {x.shape[3]} channels, "
            f"which groups={groups} must divide"
        )
    filters = w.shape[2] * groups
    if b is not None and b.shape != (filters,):
        raise ValueError(f"{name}: bias {b.shape} must be ({filters},), one value a filter")
    stride, dilation = pair(name, "stride", stride), pair(name, "dilation", dilation)
    pads, (high, wide), (down, across) = transposed_windows(
        name, x.shape[1:3], w.shape[:2], stride, padding, output_padding, dilation
    )
    shape = x.shape[0], high - down, wide - across, filters
    if not down and not across:
        return _conv_transpose2d(x, w, b, shape, stride, pads, dilation, groups)
    y = _conv_transpose2d(x, w, None, shape, stride, pads, dilation, groups)
    y = pad(y, ((0, 0), (0, down), (0, across), (0, 0)))
    return y if b is None else y + b


def transposed_windows(
    name: str, size: tuple, kernel: tuple, stride: Pair, padding: Any, output_padding: Any, dilation: Pair
) -> tuple[Pads, Pair, Pair]:
    """((top, bottom), (left, right)) that is cut off, the size (OH, OW) of a transposed convolution's output, and how
    many of its last lines and columns no window reaches."""
    pads, _ = windows(name, (2**40, 2**40), kernel, stride, padding, dilation)
    if isinstance(padding, str):
        raise ValueError(f"{name}: padding={padding!r} must be an int or a pair of ints")
    extra = pair(name, "output_padding", output_padding, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(
            f"{name}: output_padding={output_padding!r} must be less than the stride {stride} or the dilation "
            f"{dilation}"
        )
    high, wide = (
        (n - 1) * s - sum(p) + r + e
        for n, s, p, r, e in zip(size, stride, pads, reach(kernel, dilation), extra, strict=True)
    )
    if high < 1 or wide < 1:
        raise ValueError(f"{name}: padding={padding!r} cuts off all of the output of {size[0]}×{size[1]} inputs")
    beyond = [0, 0]
    edges = list(pads)
    for axis, (e, s) in enumerate(zip(extra, stride, strict=True)):
        if e >= s:  # another window would fit: what is added is taken from what is cut off, the rest is zeros
            first, last = edges[axis]
            edges[axis], beyond[axis] = (first, max(last - e, 0)), max(e - last, 0)
    return (edges[0], edges[1]), (high, wide), (beyond[0], beyond[1])


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
