"""Holding a backend to the numpy backend's results, call by call."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import numpy as np

from tests.cuda_calls import Call
from tinynet.backends import cpu
from tinynet.backends.contract import Backend
from tinynet.backends.cpu.conv import set_conv_algorithm

TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}


def place(be: Any, x: np.ndarray, layout: str) -> Any:
    """x on the backend, with the strides of a layout. (Views are made there, so that they stay views.)"""
    reverse = (..., *(slice(None, None, -1) for _ in x.shape))
    if layout == "F":
        return be.transpose(be.asarray(np.array(x.T, order="C")), tuple(range(x.ndim))[::-1])
    if layout == "negative":
        return be.asarray(np.array(x[reverse], order="C"))[reverse]
    if layout == "spread":
        room = np.full([2 * n + 1 for n in x.shape], 77, x.dtype)
        every = (..., *(slice(1, None, 2) for _ in x.shape))
        room[every] = x
        return be.asarray(room)[every]
    if layout == "offset" and x.ndim:
        return be.asarray(np.concatenate([x[:1], x]) if len(x) else x)[1 if len(x) else 0 :]
    if layout == "stride 0" and x.ndim and len(x) and (x[:1] == x).all():
        return be.broadcast_to(be.asarray(x[:1]), x.shape)
    return be.asarray(np.array(x, order="C"))


def moved(be: Any, value: Any, layouts: Iterable[str]) -> Any:
    """Arguments with their arrays on the backend; the layouts are handed out in turn."""
    if isinstance(value, np.ndarray):
        return place(be, value, next(layouts))  # type: ignore[call-overload]
    if isinstance(value, list):
        return [moved(be, v, layouts) for v in value]
    return value


def turns(call: Call) -> Any:
    while True:
        yield from call.layouts


def flattened(call: Call) -> Call:
    """With the first row everywhere in each operand of stride 0, so that such a view has these values."""
    layouts = turns(call)
    args = tuple(_repeat(a, next(layouts)) if isinstance(a, np.ndarray) else a for a in call.args)
    return Call(args, call.forward, call.rest, call.layouts)


def _repeat(x: np.ndarray, layout: str) -> np.ndarray:
    if layout != "stride 0" or not x.ndim or not len(x):
        return x
    return np.array(np.broadcast_to(x[:1], x.shape))


def run(be: Any, name: str, call: Call, **options: Any) -> tuple[Any, list]:
    """(what a kernel returns, less its saved, or the changed arguments; the arrays that it was given)."""
    layouts = turns(call)
    args = [moved(be, a, layouts) for a in call.args]
    if call.forward:
        y, saved = getattr(be, call.forward)(*args)
        g = np.asarray(np.random.default_rng(1).standard_normal(y.shape), y.dtype)
        args = [place(be, g, next(layouts)), saved, *call.rest]
    result = getattr(be, name)(*args, **options)
    returns = str(inspect.signature(vars(Backend)[name]).return_annotation)
    if returns == "None":
        result = [a for a in args if hasattr(a, "dtype") and hasattr(a, "strides")]
    elif returns == "tuple[Array, Any]":
        result = result[0]
    return result, args


def on_host(be: Any, value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [on_host(be, v) for v in value]
    return None if value is None else np.asarray(be.numpy(value))


def agree(actual: Any, expected: Any, least: float = 0) -> None:
    if isinstance(expected, list):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            agree(a, e, least)
        return
    assert (actual is None) == (expected is None)
    if expected is None:
        return
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    tolerance = TOLERANCE.get(expected.dtype, 0) and max(TOLERANCE[expected.dtype], least)
    finite = np.abs(expected[np.isfinite(expected)]) if expected.dtype.kind == "f" else np.zeros(0)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * max(1, finite.max(initial=0)))


def check(be: Any, name: str, call: Call) -> None:
    """The numpy backend's result; the same bits once more, and into `out` of any strides; inputs as they were."""
    call = flattened(call)
    with np.errstate(all="ignore"), set_conv_algorithm("exact"):
        expected = on_host(cpu, run(cpu, name, Call(_copies(call.args), call.forward, call.rest))[0])
    result, args = run(be, name, call)
    actual = on_host(be, result)
    coarse = [TOLERANCE.get(a.dtype, 0) for a in call.args if hasattr(a, "dtype")]
    agree(actual, expected, max(coarse, default=0) if name == "squares" else 0)  # of float32 values, in float64
    again, _ = run(be, name, call)
    _same_bits(on_host(be, again), actual)
    signature = inspect.signature(vars(Backend)[name])
    if signature.return_annotation != "None" and not call.forward:
        given = [a for a in call.args if hasattr(a, "strides")]
        _same_bits([on_host(be, a) for a in args if hasattr(a, "strides")], given)
    if "out" in signature.parameters:
        for layout in ("C", "spread", "F"):
            out = place(be, np.full(actual.shape, 1, actual.dtype), layout)
            given, _ = run(be, name, call, out=out)
            assert given is out, f"{name} did not return out"
            _same_bits(on_host(be, out), actual)


def _copies(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_copies(v) for v in value)
    return value.copy() if isinstance(value, np.ndarray) else value


def _same_bits(a: Any, b: Any) -> None:
    for x, y in zip(a if isinstance(a, list) else [a], b if isinstance(b, list) else [b], strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            np.testing.assert_array_equal(x, y, strict=True)
