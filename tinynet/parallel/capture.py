"""Captured steps: what a function does on the GPU, recorded once and then repeated by one call.

A training step of a small network is some thirty launches, and Python queues them more slowly than the GPU runs them.
A graph (CUDA's) holds all of them with their arguments: queueing it costs one call. So everything that differs from
step to step must lie on the device: the batch in buffers of its own, the learning rate and the step count beside the
parameters, the place in the random sequence of each dropout.

>>> @tn.capture
... def step(x, y):
...     loss = tn.ops.softmax_cross_entropy(model(x), y)
...     optimizer.zero_grad()
...     loss.backward()
...     optimizer.step(loss)
...     return loss
>>> for x, y in loader:
...     loss = step(x, y)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backends
from ..backends.errors import CaptureError
from ..ops.random import STREAMS, state
from ..tensor import Tensor, tensor

WARM = 2  # calls as ever: the first loads kernels and takes memory, the second takes what the first one left behind
MOST = 8  # graphs of one function, each for other shapes or settings


def capture(function: Callable[..., Any]) -> Captured:
    """`function`, repeated from a captured graph on the cupy backend; on numpy and the simulator just called.

    Each call is one call of the function, to the bit. The first two run it as ever, the third records it, and from then
    on its Python does not run: the GPU repeats what it did. Arguments that are arrays, lists of numbers or Tensors are
    copied into buffers, and the function gets them as Tensors on the device; others (numbers, strings, None) and shapes
    choose the graph, at most 8. What it returns comes as new, detached Tensors (in tuples, lists and dicts, too).

    Learning rates (`optimizer.lr`, schedules) may be set between calls, and so may `tn.seed`, parameters, and the
    optimiser's settings and state; where a graph would repeat what has changed it is recorded anew. What else the
    function decides in Python (train or eval mode, a counter, a hook) is decided while it is recorded. What it keeps
    between calls must be changed in place. Labels on the device are not checked: they must be in range.

    Raises: CaptureError where the function does what a graph cannot hold: read a value on the host, move an array
    there, set the learning rate, take another way than in its first calls. Nothing was computed by that call.

    Source: the CUDA programming guide's chapter on graphs.
    """
    return Captured(function)


class Captured:
    """What `capture` returns: call it as the function."""

    def __init__(self, function: Callable[..., Any]):
        if not callable(function):
            raise TypeError(f"capture: {function!r:.60} is no function")
        functools.update_wrapper(self, function)
        self.function = function
        self.steps: dict[tuple, _Step] = {}

    def __call__(self, *args: Any, **options: Any) -> Any:
        given = [*args, *options.values()]
        be: Any = next((a.backend for a in given if isinstance(a, Tensor) and _graphs(a.backend)), backends.current())
        if not _graphs(be):
            return self.function(*args, **options)
        if be.recording is not None:
            raise CaptureError("capture: a captured function calls another one; capture the outer one alone")
        arrays = {i: _array(a) for i, a in enumerate(given) if isinstance(a, Tensor | np.ndarray | list)}
        kinds = [(x.shape, x.dtype) if (x := arrays.get(i)) is not None else given[i] for i in range(len(given))]
        key = (be.name, state.seed, state.first, len(args), *options, *kinds)
        if key not in self.steps:
            if len(self.steps) == MOST:
                raise CaptureError(
                    f"capture: the function was called in more than {MOST} ways (shapes of arrays, arguments that are"
                    f" none), the last with {kinds}; pass what changes as an array, and leave out odd batches"
                )
            self.steps[key] = _Step(be, self.function, given, arrays, list(options))
        return self.steps[key](arrays)


class _Step:
    """The function's calls with arguments of one kind."""

    def __init__(self, be: Any, function: Callable, given: list, arrays: dict[int, Any], names: list[str]):
        self.be = be
        self.buffers = {i: Tensor(be.empty(x.shape, x.dtype), be) for i, x in arrays.items()}
        given = [self.buffers.get(i, a) for i, a in enumerate(given)]
        count = len(given) - len(names)
        self.function = functools.partial(function, *given[:count], **dict(zip(names, given[count:], strict=True)))
        # by stream of random numbers: the draws made since the graph was recorded, where the kernels add them
        self.moved = {name: be.full((1,), 0, np.int64) for name in STREAMS}
        self.forget()

    def forget(self) -> None:
        """Begin again, without a graph."""
        self.calls, self.graph, self.result = 0, self.be.launcher.graph(), None
        self.fixed: list[tuple[Any, tuple]] = []  # (an optimiser's group, what of it must stay as it was)

    def __call__(self, arrays: dict[int, Any]) -> Any:
        for i, x in arrays.items():
            own = isinstance(x, Tensor) and x.backend is self.be
            self.be.copyto(
                self.buffers[i].data, x.data if own else np.asarray(x.numpy() if isinstance(x, Tensor) else x)
            )
        for group, _ in self.fixed:
            group.reclaim()  # what was set from outside since the last call
        if not all(_same(_fixed(group), fixed) for group, fixed in self.fixed):
            self.forget()
        self.calls += 1
        if self.calls <= WARM:
            result = self.graph.warm(self.function)
            self.fixed = [(group, _fixed(group)) for group in self.graph.groups]
            return self._fresh(result)
        if self.calls == WARM + 1:
            self._record()
        self._replay()
        return self._fresh(self.result)

    def _record(self) -> None:
        self.first, self.be.moved = dict(state.steps), {STREAMS[name]: x for name, x in self.moved.items()}
        try:
            self.result = self.graph.record(self.function)
        except BaseException:
            self.forget()
            raise
        finally:
            self.be.moved = None
            self.draws = {name: count - self.first[name] for name, count in state.steps.items()}
            state.steps.update(self.first)
        self.fixed = [(group, _fixed(group)) for group in self.graph.groups]

    def _replay(self) -> None:
        for name, draws in self.draws.items():
            if draws:
                self.be.fill(self.moved[name], state.steps[name] - self.first[name])
        self.graph.replay()
        for name, draws in self.draws.items():
            state.steps[name] += draws

    def _fresh(self, result: Any) -> Any:
        """The result in new arrays, as the graph fills its own again and again."""
        if isinstance(result, Tensor):
            return Tensor(result.backend.copy(result.data), result.backend)
        if isinstance(result, tuple | list):
            return type(result)(self._fresh(r) for r in result)
        return {k: self._fresh(r) for k, r in result.items()} if isinstance(result, dict) else result


def _fixed(group: Any) -> tuple[list, list]:
    """What a graph that steps an optimiser's group repeats, and must not repeat once it has changed: (settings, but for
    the rate, which lies on the device, and what parameters are frozen; the arrays of vectors and step counts)."""
    settings = {name: value for name, value in group.options.items() if name != "lr"}
    frozen = [p.node is None for p in group.params]
    counts = [lr_count for _, _, lr_count in group.segments]
    return [settings, frozen, [(a, b) for a, b, _ in group.segments]], [group.w, *group.state.values(), *counts]


def _same(now: tuple[list, list], then: tuple[list, list]) -> bool:
    return now[0] == then[0] and all(x is y for x, y in zip(now[1], then[1], strict=True))


def _graphs(be: Any) -> bool:
    return hasattr(getattr(be, "launcher", None), "graph")


def _array(a: Any) -> Any:
    """An argument as a Tensor where it is one, else as an array on the host, of the dtype that `tn.tensor` gives it."""
    return a if isinstance(a, Tensor) else tensor(a, backend="numpy").data
