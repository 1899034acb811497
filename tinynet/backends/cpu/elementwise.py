"""Elementwise functions and their derivatives, in NumPy.

`like(x, y)` gives a recycled array for a large result and None for a small one, which NumPy then makes
itself. A chain of steps runs in place in that one result.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .memory import empty, like

BLOCK = 1 << 13  # elements that a long chain of steps works on at one time


def _unary(ufunc: np.ufunc) -> Callable:
    def kernel(x, *, out=None):
        return ufunc(x, out=like(x) if out is None else out)

    kernel.__name__ = ufunc.__name__
    return kernel


def _binary(ufunc: np.ufunc) -> Callable:
    def kernel(x, y, *, out=None):
        return ufunc(x, y, out=like(x, y) if out is None else out)

    kernel.__name__ = ufunc.__name__
    return kernel


def _compare(ufunc: np.ufunc) -> Callable:
    def kernel(x, y, *, out=None):
        return ufunc(x, y, out=out)

    kernel.__name__ = ufunc.__name__
    return kernel


negative, sign, tanh = _unary(np.negative), _unary(np.sign), _unary(np.tanh)
abs = _unary(np.absolute)
add, subtract, multiply = _binary(np.add), _binary(np.subtract), _binary(np.multiply)
maximum, minimum = _binary(np.maximum), _binary(np.minimum)
equal, not_equal = _compare(np.equal), _compare(np.not_equal)
less, less_equal = _compare(np.less), _compare(np.less_equal)
greater, greater_equal = _compare(np.greater), _compare(np.greater_equal)


def _quiet(kernel: Callable) -> Callable:
    """IEEE results (inf, NaN) without NumPy's warnings: log 0 is -inf here as on a GPU."""

    def wrapped(*args, **kwargs):
        with np.errstate(all="ignore"):
            return kernel(*args, **kwargs)

    wrapped.__name__ = kernel.__name__
    return wrapped


exp, log, sqrt = _quiet(_unary(np.exp)), _quiet(_unary(np.log)), _quiet(_unary(np.sqrt))
exp2, expm1 = _quiet(_unary(np.exp2)), _quiet(_unary(np.expm1))
log2, log10, log1p = _quiet(_unary(np.log2)), _quiet(_unary(np.log10)), _quiet(_unary(np.log1p))
sin, cos, tan = _quiet(_unary(np.sin)), _quiet(_unary(np.cos)), _quiet(_unary(np.tan))
arcsin, arccos, arctan = _quiet(_unary(np.arcsin)), _quiet(_unary(np.arccos)), _unary(np.arctan)
sinh, cosh, cbrt = _quiet(_unary(np.sinh)), _quiet(_unary(np.cosh)), _unary(np.cbrt)
floor, ceil, trunc, round = _unary(np.floor), _unary(np.ceil), _unary(np.trunc), _unary(np.rint)
divide, _power = _quiet(_binary(np.divide)), _quiet(_binary(np.power))
mod, fmod, floor_divide = _quiet(_binary(np.mod)), _quiet(_binary(np.fmod)), _quiet(_binary(np.floor_divide))
copysign, logaddexp, arctan2 = _binary(np.copysign), _quiet(_binary(np.logaddexp)), _binary(np.arctan2)
bitwise_and, bitwise_or, bitwise_xor = _binary(np.bitwise_and), _binary(np.bitwise_or), _binary(np.bitwise_xor)
left_shift, right_shift = _binary(np.left_shift), _binary(np.right_shift)
logical_and, logical_or = _compare(np.logical_and), _compare(np.logical_or)


def sqrt_grad(g, y, *, out=None):
    return divide(g, np.multiply(y, 2), out=out)


def tanh_grad(g, y, *, out=None):
    slope = np.multiply(y, y, out=like(y) if out is None else out)
    return np.multiply(g, np.subtract(1, slope, out=_same(slope)), out=_same(slope))


def sigmoid(x, *, out=None):
    # e^-x may overflow: 1 / inf is 0, as it should be. (1 + tanh(x/2)) / 2 would lose all digits of small values.
    y = np.multiply(x, -1.0, out=like(x) if out is None else out)
    y = exp(y, out=_same(y))
    y = np.add(y, 1, out=_same(y))
    return np.divide(1, y, out=_same(y))


def sigmoid_grad(g, y, *, out=None):
    slope = np.subtract(1, y, out=like(y) if out is None else out)
    slope = np.multiply(slope, y, out=_same(slope))
    return np.multiply(slope, g, out=_same(slope))


_ZEROS = 1 << 13
_zeros: dict[np.dtype, np.ndarray] = {}


def rectify(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """out = max(x, 0). NumPy's maximum is two to four times as fast with an array of zeros as with the number."""
    whole = x.size // _ZEROS * _ZEROS
    if whole == 0 or not (x.flags.c_contiguous and out.flags.c_contiguous and x.dtype is out.dtype):
        return np.maximum(x, 0, out=out)
    zeros = _zeros.get(x.dtype)
    if zeros is None:
        zeros = _zeros[x.dtype] = np.zeros(_ZEROS, x.dtype)
    flat, result = x.reshape(-1), out.reshape(-1)
    np.maximum(flat[:whole].reshape(-1, _ZEROS), zeros, out=result[:whole].reshape(-1, _ZEROS))
    np.maximum(flat[whole:], zeros[: x.size - whole], out=result[whole:])
    return out


def relu(x, *, out=None):
    out = like(x) if out is None else out
    return np.maximum(x, 0) if out is None else rectify(x, out)


def add_relu(x, y, *, out=None):
    z = add(x, y, out=out)
    return rectify(z, z) if isinstance(z, np.ndarray) else np.maximum(z, 0)


def relu_grad(g, y, *, out=None):
    # In two steps, because NumPy converts bools slowly in the midst of a product; np.where is slower still.
    if out is None:
        out = empty(g.shape, g.dtype)
    np.copyto(out, np.greater(y, 0, out=empty(g.shape, np.bool_)))
    return np.multiply(out, g, out=out)


def leaky_relu(x, slope, *, out=None):
    return np.multiply(x, _leak(x, slope), out=like(x) if out is None else out)


def leaky_relu_grad(g, x, slope, *, out=None):
    return np.multiply(g, _leak(x, slope), out=like(x) if out is None else out)


def _leak(x, slope):
    return np.where(np.greater(x, 0), x.dtype.type(1), x.dtype.type(slope))


def gelu(x, *, out=None):
    if x.dtype != np.float32:
        return np.multiply(x, _normal_cdf(x), out=out)
    return _in_blocks(_gelu, out, x)


def gelu_grad(g, x, *, out=None):
    if x.dtype != np.float32 or g.dtype != np.float32:
        density = np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
        return np.multiply(g, _normal_cdf(x) + x * density, out=out)
    return _in_blocks(_gelu_grad, out, x, g)


def _in_blocks(work, out, *xs):
    """work(*blocks, y) for blocks of arrays of one shape: all that `work` makes stays in the cache."""
    y = empty(xs[0].shape, xs[0].dtype)
    flat, *rest = y.reshape(-1), *(np.ascontiguousarray(x).reshape(-1) for x in xs)
    for start in range(0, y.size, BLOCK):
        work(*(x[start : start + BLOCK] for x in rest), flat[start : start + BLOCK])
    if out is None:
        return y
    np.copyto(out, y)
    return out


def _gelu(x, y):
    p, _ = _normal(x, y)
    np.multiply(x, p, out=y)


def _gelu_grad(x, g, y):
    p, density = _normal(x, y)
    density *= x
    density *= np.float32(1 / math.sqrt(2 * math.pi))
    p += density
    np.multiply(p, g, out=y)


# exp(a²/2) Φ(-a) = t (c₁ + c₂ t + … + c₇ t⁶) with t = 1 / (1 + 0.3625 a), to 8e-7 of its value for 0 <= a <= 14. (The
# form is that of C. Hastings, "Approximations for Digital Computers", 1955; these numbers are fitted to float32.)
_TAIL = tuple(
    np.array(c, np.float32)
    for c in (
        0.04806419,
        -0.17974791,
        0.17511314,
        0.0296748,
        0.13926006,
        0.14293566,
        0.14470044,
    )
)
_FARTHEST = np.full(BLOCK, 30, np.float32)  # there exp(-x²/2) is 0
_HALF = np.array(0.5, np.float32)


def _normal(x, t):
    """(Φ(x), exp(-x²/2)) of a float32 vector; t: another to work in."""
    a = np.abs(x)
    np.minimum(a, _FARTHEST[: len(a)], out=a)
    np.multiply(a, np.float32(0.3625), out=t)
    t += 1
    np.divide(1, t, out=t)
    a *= a
    a *= -_HALF
    density = np.exp(a, out=a)
    p = t * _TAIL[0]
    for c in _TAIL[1:]:
        p += c
        p *= t
    p *= density
    np.subtract(_HALF, p, out=p)
    np.copysign(p, x, out=p)
    p += _HALF
    return p, density


def softplus(x, *, out=None):
    return np.logaddexp(x, x.dtype.type(0), out=like(x) if out is None else out)


def softplus_grad(g, x, *, out=None):
    return np.multiply(g, sigmoid(x), out=out)


def mish(x, *, out=None):
    _, n = _mish_parts(x)
    return np.multiply(x, n / (n + 2), out=like(x) if out is None else out)


def mish_grad(g, x, *, out=None):
    e, n = _mish_parts(x)
    return np.multiply(g, n / (n + 2) + x * 4 * e * (1 + e) / ((n + 2) * (n + 2)), out=out)


def _mish_parts(x):
    """(e, n) with e = eˣ and tanh(log(1 + e)) = n / (n + 2), which is 1 from x = 20 on."""
    e = np.exp(np.minimum(x, 20))
    return e, e * (e + 2)


@_quiet
def power(x, y, *, out=None):
    """x to the power of y. A small whole number is a few products: NumPy takes 40 times as long for negative x."""
    if type(x) is np.ndarray and x.dtype.kind == "f" and type(y) in (int, float) and y in (3, 4):
        square = multiply(x, x)
        return multiply(square, x if y == 3 else square, out=_same(square) if out is None else out)
    return _power(x, y, out=out)


def power_grad(g, x, y, *, out=None):
    with np.errstate(all="ignore"):
        return np.multiply(g, np.where(np.equal(y, 0), 0, y * power(x, y - 1)), out=out)


def power_grad_exponent(g, x, y, *, out=None):
    with np.errstate(all="ignore"):
        return np.multiply(g, np.where(np.equal(x, 0), 0, np.power(x, y) * np.log(x)), out=out)


def where(condition, x, y, *, out=None):
    if out is None:
        return np.where(condition, x, y)
    np.copyto(out, y)
    np.copyto(out, x, where=condition)
    return out


def clip(x, low, high, *, out=None):
    return np.clip(x, low, high, out=like(x) if out is None else out)


def _same(array):
    """`array` as the out= of the next step; None where a ufunc gave a scalar (0-d input)."""
    return array if type(array) is np.ndarray else None


# ---- erf, which NumPy lacks ------------------------------------------------------------------------
# W. J. Cody, "Rational Chebyshev approximation for the error function", Math. Comp. 23 (1969): the three
# ranges |x| <= 0.46875, <= 4, and above, each to 16 digits. Coefficients from the highest power down.
_NEAR = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e0,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_MIDDLE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)
_FAR = (
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242e0,
        1.87295284992346725e0,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)


def _polynomial(coefficients, z):
    """Horner's rule, in place."""
    y = np.full_like(z, coefficients[0])
    for c in coefficients[1:]:
        y *= z
        y += c
    return y


def _ratio(coefficients, z):
    y = _polynomial(coefficients[0], z)
    y /= _polynomial(coefficients[1], z)
    return y


def _erf(x: np.ndarray) -> np.ndarray:
    """The error function of an array, to the precision of its dtype: erf = x·P(x²) near 0, else 1 - erfc."""
    x = np.atleast_1d(x)
    a = np.abs(x)
    tail = _ratio(_MIDDLE, np.minimum(a, 4))
    if (far := a > 4).any():
        b = a[far]
        inverse = 1 / (b * b)
        tail[far] = (1 / math.sqrt(math.pi) - inverse * _ratio(_FAR, inverse)) / b
    tail *= np.exp(-np.square(np.minimum(a, 30)))  # erfc(30) is 0 in any dtype
    y = np.copysign(1 - tail, x)
    if (near := a <= 0.46875).any():
        b = x[near]
        y[near] = b * _ratio(_NEAR, b * b)
    return y


def erf(x, *, out=None):
    y = np.reshape(_erf(x), x.shape)
    return y if out is None else np.multiply(y, 1, out=out)


def _normal_cdf(x):
    """Φ(x) = (1 + erf(x/√2)) / 2"""
    return np.reshape(0.5 * (1 + _erf(x * x.dtype.type(math.sqrt(0.5)))), x.shape)
