"""Update rules over flat vectors, in place, in chunks that stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .summation import sum_of_squares

CHUNK = 1 << 15
FLUSH_EVERY = 64  # steps


def guard(g, loss, most):
    with np.errstate(all="ignore"):
        total = float(np.dot(g, g))  # one pass at the memory's speed; where it says no, the elements decide
        sound = (math.isfinite(total) and total <= most * most) or bool((np.abs(g) <= most).all())
    if not sound:
        return np.full((), np.nan, g.dtype)
    return np.zeros((), g.dtype) if loss is None else loss


def squares(x):
    with np.errstate(all="ignore"):
        total = sum_of_squares(x.reshape(-1))
        return np.asarray(total if np.isfinite(total) else np.square(x, dtype=np.float64).sum(), np.float64)


def _begin(lr_count, loss) -> tuple[float, float] | None:
    """(learning rate, step count) of this step, or None where the loss voids it."""
    if loss is not None and not np.isfinite(loss):
        return None
    lr_count[1] += 1
    return float(lr_count[0]), float(lr_count[1])


def _chunks(w, g, *states, weight_decay) -> Iterator[list]:
    """w, a private copy of g + weight_decay·w, the states: views of CHUNK elements at a time."""
    scratch = np.empty(min(CHUNK, w.size), w.dtype)
    for start in range(0, w.size, CHUNK):
        part = slice(start, start + CHUNK)
        d = scratch[: min(CHUNK, w.size - start)]
        if weight_decay:
            np.multiply(w[part], weight_decay, out=d)
            d += g[part]
        else:
            np.copyto(d, g[part])
        yield [w[part], d, *(None if s is None else s[part] for s in states)]


def _flush(state: np.ndarray, step: float) -> None:
    """Every so often, zeros for values of a decaying average that are subnormal: where no gradient comes any more (a
    dead unit) it ends among these, with which a processor is ten times as slow, and never leaves them."""
    if step % FLUSH_EVERY == 0:
        state[np.abs(state) < np.finfo(state.dtype).tiny] = 0


def sgd_step(w, g, velocity, lr_count, loss, momentum, nesterov, weight_decay):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, t = begun
    if velocity is not None:
        _flush(velocity, t)
    for w, d, v in _chunks(w, g, velocity, weight_decay=weight_decay):
        if v is not None:
            v *= momentum
            v += d
            d = d + momentum * v if nesterov else v
        w -= lr * d


def adam_step(w, g, m, v, lr_count, loss, beta1, beta2, eps, weight_decay, decoupled):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, t = begun
    root = math.sqrt(1 - beta2**t)  # the bias correction, moved outside: rate·m / (√v + eps·root)
    # As arrays without axes: a ufunc takes twice as long to begin where it is given a Python number.
    rate, new1, old2, new2, small = (
        np.array(value, w.dtype) for value in (lr / (1 - beta1**t) * root, 1 - beta1, beta2, 1 - beta2, eps * root)
    )
    scratch = np.empty(min(CHUNK, w.size), w.dtype)
    for start in range(0, w.size, CHUNK):
        part = slice(start, start + CHUNK)
        x, d, m1, v1 = w[part], g[part], m[part], v[part]
        _flush(m1, t)
        _flush(v1, t)
        s = scratch[: len(x)]
        if weight_decay and decoupled:
            x *= 1 - lr * weight_decay
        elif weight_decay:
            d = d + weight_decay * x
        np.subtract(d, m1, out=s)
        s *= new1
        m1 += s
        np.multiply(d, d, out=s)
        s *= new2
        v1 *= old2
        v1 += s
        np.sqrt(v1, out=s)
        s += small
        np.divide(m1, s, out=s)
        s *= rate
        x -= s


def rmsprop_step(w, g, v, velocity, lr_count, loss, alpha, eps, momentum, weight_decay):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, _ = begun
    for w, d, v, velocity in _chunks(w, g, v, velocity, weight_decay=weight_decay):
        v *= alpha
        v += (1 - alpha) * d * d
        d /= np.sqrt(v) + eps
        if velocity is not None:
            velocity *= momentum
            velocity += d
            d = velocity
        w -= lr * d


def adagrad_step(w, g, v, lr_count, loss, eps, lr_decay, weight_decay):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, t = begun
    for w, d, v in _chunks(w, g, v, weight_decay=weight_decay):
        v += d * d
        d /= np.sqrt(v) + eps
        w -= lr / (1 + (t - 1) * lr_decay) * d
