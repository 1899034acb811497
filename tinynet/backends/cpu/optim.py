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
        return np.zeros((), g.dtype) if loss is None else np.asarray(loss, g.dtype)


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


def _chunks(w, g, *states, weight_decay=0, maximize=False) -> Iterator[list]:
    """w, a private copy of ±g + weight_decay·w, the states: views of CHUNK elements at a time."""
    scratch = np.empty(min(CHUNK, w.size), w.dtype)
    for start in range(0, w.size, CHUNK):
        part = slice(start, start + CHUNK)
        d = scratch[: min(CHUNK, w.size - start)]
        if weight_decay:
            np.multiply(w[part], weight_decay, out=d)
            (np.subtract if maximize else np.add)(d, g[part], out=d)
        else:
            (np.negative if maximize else np.positive)(g[part], out=d)
        yield [w[part], d, *(None if s is None else s[part] for s in states)]


def _flush(count: float, *states: np.ndarray | None) -> None:
    """Every so often, zeros for values of decaying averages that are subnormal: where no gradient comes any more (a
    dead unit) they end among these, with which a processor is ten times as slow, and never leave them."""
    if count % FLUSH_EVERY == 0:
        for state in states:
            if state is not None:
                state[np.abs(state) < np.finfo(state.dtype).tiny] = 0


def sgd_step(w, g, velocity, lr_count, loss, momentum, dampening, nesterov, weight_decay, maximize):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, t = begun
    _flush(t, velocity)
    for w, d, v in _chunks(w, g, velocity, weight_decay=weight_decay, maximize=maximize):
        if v is not None:
            v *= momentum
            v += (1 - dampening) * d if dampening and t > 1 else d
            d = d + momentum * v if nesterov else v
        w -= lr * d


def adam_step(w, g, m, v, largest, lr_count, loss, beta1, beta2, eps, weight_decay, decoupled, maximize):
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
        _flush(t, m1, v1)
        s = scratch[: len(x)]
        if maximize:
            d = -d
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
        if largest is not None:
            v1 = np.maximum(largest[part], v1, out=largest[part])
        np.sqrt(v1, out=s)
        s += small
        np.divide(m1, s, out=s)
        s *= rate
        x -= s


def rmsprop_step(w, g, v, mean, velocity, lr_count, loss, alpha, eps, momentum, weight_decay, maximize):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, t = begun
    _flush(t, v, mean, velocity)
    for w, d, v, mean, velocity in _chunks(w, g, v, mean, velocity, weight_decay=weight_decay, maximize=maximize):
        v *= alpha
        v += (1 - alpha) * d * d
        spread = v
        if mean is not None:
            mean += (1 - alpha) * (d - mean)
            spread = np.maximum(v - mean * mean, 0)
        d /= np.sqrt(spread) + eps
        if velocity is not None:
            velocity *= momentum
            velocity += d
            d = velocity
        w -= lr * d


def adagrad_step(w, g, v, lr_count, loss, eps, lr_decay, weight_decay, maximize):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, t = begun
    for w, d, v in _chunks(w, g, v, weight_decay=weight_decay, maximize=maximize):
        v += d * d
        d /= np.sqrt(v) + eps
        w -= lr / (1 + (t - 1) * lr_decay) * d


def adadelta_step(w, g, v, u, lr_count, loss, rho, eps, weight_decay, maximize):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, t = begun
    _flush(t, v, u)
    for w, d, v, u in _chunks(w, g, v, u, weight_decay=weight_decay, maximize=maximize):
        v *= rho
        v += (1 - rho) * d * d
        d *= np.sqrt(u + eps) / np.sqrt(v + eps)
        u *= rho
        u += (1 - rho) * d * d
        w -= lr * d


def adamax_step(w, g, m, u, lr_count, loss, beta1, beta2, eps, weight_decay, maximize):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, t = begun
    _flush(t, m)
    for w, d, m, u in _chunks(w, g, m, u, weight_decay=weight_decay, maximize=maximize):
        m += (1 - beta1) * (d - m)
        u *= beta2
        np.maximum(u, np.abs(d) + eps, out=u)
        w -= lr / (1 - beta1**t) * m / u


def nadam_step(w, g, m, v, rest, lr_count, loss, beta1, beta2, eps, weight_decay, decoupled, momentum_decay, maximize):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, t = begun
    _flush(t, m, v)
    mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
    decay = 0 if decoupled else weight_decay
    for w, d, m, v, rest in _chunks(w, g, m, v, rest, weight_decay=decay, maximize=maximize):
        if decoupled:
            w *= 1 - lr * weight_decay
        rest *= mu
        rest += 1 - mu  # 1 - μ₁ μ₂ … μ_t
        m += (1 - beta1) * (d - m)
        v *= beta2
        v += (1 - beta2) * d * d
        d = (1 - mu) / rest * d + mu_next / (mu_next * rest + (1 - mu_next)) * m
        w -= lr * d / (np.sqrt(v) / math.sqrt(1 - beta2**t) + eps)


def lion_step(w, g, m, lr_count, loss, beta1, beta2, weight_decay, maximize):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, t = begun
    _flush(t, m)
    for w, d, m in _chunks(w, g, m, maximize=maximize):
        w *= 1 - lr * weight_decay
        w -= lr * np.sign(beta1 * m + (1 - beta1) * d)
        m += (1 - beta2) * (d - m)


def lamb_step(w, g, m, v, sizes, lr_count, loss, beta1, beta2, eps, weight_decay, maximize):
    if (begun := _begin(lr_count, loss)) is None:
        return
    lr, t = begun
    _flush(t, m, v)
    stop = 0
    for size in sizes:
        part = slice(stop, stop := stop + size)
        r = np.empty(size, w.dtype)
        for x, d, m1, v1, r1 in _chunks(w[part], g[part], m[part], v[part], r, maximize=maximize):
            m1 += (1 - beta1) * (d - m1)
            v1 *= beta2
            v1 += (1 - beta2) * d * d
            np.divide(m1 / (1 - beta1**t), np.sqrt(v1) / math.sqrt(1 - beta2**t) + eps, out=r1)
            r1 += weight_decay * x
        w_norm, r_norm = (math.sqrt(float(squares(a))) for a in (w[part], r))
        w[part] -= lr * (w_norm / r_norm if w_norm and r_norm else 1.0) * r


def muon_momentum_step(g, velocity, update, loss, momentum, nesterov, maximize):
    if loss is not None and not np.isfinite(loss):
        return
    _flush(0, velocity)
    for v, d, u in _chunks(velocity, g, update, maximize=maximize):
        v += (1 - momentum) * (d - v)
        u[...] = d + momentum * (v - d) if nesterov else v
