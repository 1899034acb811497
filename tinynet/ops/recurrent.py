"""Recurrent networks over sequences x (N, T, C) → y (N, T, H); gates stand side by side in the last axis.

What the input adds to the gates is one product for all time steps; the loop over time adds what the state does, and
applies the cell. Back likewise: the loop runs the cells in reverse, and each weight's gradient is one product at the
end. The cells, with σ for sigmoid and * elementwise:

    rnn     h' = tanh(x wx + h wh + b)                                        (Elman 1990)
    lstm    i, f, g, o = x wx + h wh + b                                      (Hochreiter & Schmidhuber 1997)
            c' = σ(f) * c + σ(i) * tanh(g)
            h' = σ(o) * tanh(c')
    gru     r, z = σ(x wx + bx + h wh + bh)    of the first two gates         (Cho et al. 2014)
            n = tanh(x wx + bx + r * (h wh + bh))    of the third
            h' = (1 - z) * n + z * h
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import op
from ..integers import counts
from ..tensor import Tensor
from .norm import alike

__all__ = ["gru", "lstm", "rnn"]

TOGETHER = 8  # time steps


@op(integers="float64")
def _rnn(be, x, h0, wx, wh, b, lengths, reverse):
    x, h0, wx, wh, b = alike(be, x, h0, wx, wh, b)

    def cell(zx, h):
        z = be.add(zx, be.matmul(h, wh), out=zx)
        h = be.tanh(z, out=z)
        return (h,), h

    def cell_grad(dh, h, before):
        dz = be.tanh_grad(dh, h)
        return dz, dz, (be.matmul(dz, wh, transpose_y=True),)

    return _scan(be, cell, cell_grad, x, (h0,), wx, b, lengths, reverse)


@op(integers="float64")
def _lstm(be, x, h0, c0, wx, wh, b, lengths, reverse):
    x, h0, c0, wx, wh, b = alike(be, x, h0, c0, wx, wh, b)

    def cell(zx, h, c):
        h, c, gates, tanh_c = be.lstm_cell(be.add(zx, be.matmul(h, wh), out=zx), c)
        return (h, c), (gates, tanh_c)

    def cell_grad(dh, dc, saved, before):
        dz, dc = be.lstm_cell_grad(dh, dc, *saved)
        return dz, dz, (be.matmul(dz, wh, transpose_y=True), dc)

    def slopes(steps):  # in one go: one step has too few values for so many calls
        rows = [(gates, before[1], tanh_c) for (gates, tanh_c), before in steps]
        of_all = be.lstm_slopes(*(be.concatenate(v, 0) for v in zip(*rows, strict=True)))
        of_each = be.reshape(of_all, (len(steps), len(c0), of_all.shape[1]))
        return [(gates, be.getitem(of_each, (i,))) for i, (gates, *_) in enumerate(rows)]

    return _scan(be, cell, cell_grad, x, (h0, c0), wx, b, lengths, reverse, prepare=slopes)


@op(integers="float64")
def _gru(be, x, h0, wx, wh, bx, bh, lengths, reverse):
    x, h0, wx, wh, bx, bh = alike(be, x, h0, wx, wh, bx, bh)

    def cell(zx, h):
        zh = be.dense(h, wh, bh)
        h, gates = be.gru_cell(zx, zh, h)
        return (h,), (gates, zh)

    def cell_grad(dh, saved, before):
        dzx, dzh, dh = be.gru_cell_grad(dh, saved[0], saved[1], before[0])
        return dzx, dzh, (be.add(dh, be.matmul(dzh, wh, transpose_y=True)),)

    return _scan(be, cell, cell_grad, x, (h0,), wx, bx, lengths, reverse, own_bias=bh is not None)


def _scan(be, cell, cell_grad, x, states, wx, b, lengths, reverse, own_bias=False, prepare=None):
    """(outputs, vjp) of a cell that is run over time. The inputs are (x, *states, wx, wh, b), and bh where own_bias.
    `prepare` makes what `cell_grad` wants as saved, from [(saved, states before)] of several steps."""
    n, time, features = x.shape
    hidden = states[0].shape[1]
    order = range(time - 1, -1, -1) if reverse else range(time)
    alive = None if lengths is None else [be.asarray(np.array(lengths)[:, None] > t) for t in range(time)]
    steps = be.transpose(x, (1, 0, 2))
    if alive:  # what is padded may be anything, NaN too
        steps = be.where(be.concatenate([be.reshape(a, (1, n, 1)) for a in alive], 0), steps, 0.0)
    rows = be.reshape(steps, (time * n, features))  # a time step is one block
    zx = be.reshape(be.dense(rows, wx, b), (time, n, wx.shape[1]))
    saved: list[Any] = [None] * time
    ys, befores = list(saved), list(saved)
    last = states
    for t in order:
        befores[t] = last
        new, saved[t] = cell(be.getitem(zx, (t,)), *last)
        if alive is not None:  # what is padded leaves the state as it was
            new = tuple(be.where(alive[t], a, b) for a, b in zip(new, last, strict=True))
        ys[t], last = be.reshape(new[0] if alive is None else be.where(alive[t], new[0], 0.0), (n, 1, hidden)), new
    y = be.concatenate(ys, 1) if time else be.full((n, 0, hidden), 0, x.dtype)

    def vjp(g, need):
        gy, *gs = g
        d = [be.full(s.shape, 0, s.dtype) if one is None else one for s, one in zip(states, gs, strict=True)]
        dzx: list[Any] = [None] * time
        dzh: list[Any] = [None] * time
        for i, t in enumerate(reversed(order)):
            if prepare and i % TOGETHER == 0:
                some = order[::-1][i : i + TOGETHER]
                for s, ready in zip(some, prepare([(saved[s], befores[s]) for s in some]), strict=True):
                    saved[s] = ready
            if gy is not None:
                here = be.getitem(gy, (slice(None), t))
                d[0] = be.add(d[0], here if alive is None else be.where(alive[t], here, 0.0))
            given = d if alive is None else [be.where(alive[t], v, 0.0) for v in d]
            dzx[t], dzh[t], back = cell_grad(*given, saved[t], befores[t])
            saved[t] = None  # the tape is gone over once: others may have the memory
            d = list(back) if alive is None else [be.where(alive[t], a, b) for a, b in zip(back, d, strict=True)]
        return _weight_grads(be, rows, x.shape, [before[0] for before in befores], wx, dzx, dzh, d, need, own_bias)

    return (y, *last), vjp


def _weight_grads(be, rows, shape, hs, wx, dzx, dzh, d_states, need, own_bias):
    """The gradients of (x, *states, wx, wh, b), and bh, each in one go over all time steps."""
    n, time, features = shape
    if not time:
        return (None, *d_states, *[None] * (3 + own_bias))
    x, *states, w, u, b = list(need)[: len(d_states) + 4]
    ax = be.concatenate(dzx, 0)
    ah = ax if dzh[0] is dzx[0] else be.concatenate(dzh, 0)
    dx = None
    if x:
        dx = be.transpose(be.reshape(be.matmul(ax, wx, transpose_y=True), (time, n, features)), (1, 0, 2))
    grads = [dx, *(d if node else None for d, node in zip(d_states, states, strict=True))]
    grads.append(be.matmul(rows, ax, transpose_x=True) if w else None)
    grads.append(be.matmul(be.concatenate(hs, 0), ah, transpose_x=True) if u else None)
    grads.append(be.sum(ax, (0,)) if b else None)
    if own_bias:
        grads.append(be.sum(ah, (0,)) if need[len(grads)] else None)
    return tuple(grads)


# ---- what users call ---------------------------------------------------------------------------------------


def rnn(
    x: Tensor,
    h0: Tensor,
    wx: Tensor,
    wh: Tensor,
    b: Tensor | None = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """x (N, T, C), h0 (N, H), wx (C, H), wh (H, H), b (H,) → (y (N, T, H), the last h (N, H)).

    Args:
        lengths: (N,) ints: sample i has lengths[i] <= T steps; at the others y is 0, the state stays as it was, and
            no gradient flows.
        reverse: go from the last step to the first; y stays in the order of x.
    Raises: ValueError where shapes or lengths do not fit. Source: Elman, *Finding Structure in Time* (1990).
    """
    return _rnn(*_checked("rnn", 1, x, (h0,), wx, wh, (b,), lengths), bool(reverse))


def lstm(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    wx: Tensor,
    wh: Tensor,
    b: Tensor | None = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, T, C), h0 and c0 (N, H), wx (C, 4H), wh (H, 4H), b (4H,) → (y (N, T, H), last h, last c (N, H)).

    The gates' order is i, f, g, o, as PyTorch's. lengths, reverse, errors: as `rnn`. Source: Hochreiter &
    Schmidhuber, *Long Short-Term Memory* (1997).
    """
    return _lstm(*_checked("lstm", 4, x, (h0, c0), wx, wh, (b,), lengths), bool(reverse))


def gru(
    x: Tensor,
    h0: Tensor,
    wx: Tensor,
    wh: Tensor,
    bx: Tensor | None = None,
    bh: Tensor | None = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """x (N, T, C), h0 (N, H), wx (C, 3H), wh (H, 3H), bx and bh (3H,) → (y (N, T, H), the last h (N, H)).

    The gates' order is r, z, n; r applies after the product with wh, as PyTorch has it. lengths, reverse, errors: as
    `rnn`. Source: Cho et al., *Learning Phrase Representations using RNN Encoder-Decoder* (2014).
    """
    return _gru(*_checked("gru", 3, x, (h0,), wx, wh, (bx, bh), lengths), bool(reverse))


def _checked(name: str, gates: int, x: Any, states: tuple, wx: Any, wh: Any, biases: tuple, lengths: Any) -> tuple:
    """The arguments in the operation's order, lengths as a tuple of ints; ValueError where shapes do not fit."""
    hidden = np.shape(wh)[0] if np.ndim(wh) == 2 else -1
    wide = gates * hidden
    if np.ndim(x) != 3 or np.shape(wx) != (np.shape(x)[2], wide) or np.shape(wh) != (hidden, wide):
        raise ValueError(
            f"{name}: x must be (N, T, C), wx (C, {gates}·H) and wh (H, {gates}·H); got {np.shape(x)}, "
            f"{np.shape(wx)} and {np.shape(wh)}"
        )
    n, time, _ = np.shape(x)
    if any(np.shape(s) != (n, hidden) for s in states):
        raise ValueError(
            f"{name}: the state must be (N, H) = ({n}, {hidden}), got {', '.join(str(np.shape(s)) for s in states)}"
        )
    if any(b is not None and np.shape(b) != (wide,) for b in biases):
        raise ValueError(
            f"{name}: biases must be ({gates}·H,) = ({wide},), got {[b if b is None else np.shape(b) for b in biases]}"
        )
    if lengths is not None:
        lengths = counts(name, "lengths", lengths)
        if len(lengths) != n or not all(0 <= k <= time for k in lengths):
            raise ValueError(f"{name}: lengths={lengths!r:.60} must be {n} ints from 0 to {time}, one a sample")
    return x, *states, wx, wh, *biases, lengths
