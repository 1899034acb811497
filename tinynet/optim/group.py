"""A group of an optimiser: one flat vector, of which the parameters become views.

The learning rate and the step count live beside the parameters, on the device, so that a step asks the host for
nothing.
"""

from __future__ import annotations

import bisect
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import changed
from ..tensor import Tensor


class Group:
    """Parameters that share their settings: flat vectors `w` and `g`, and one more for each kind of state.

    `segments` are (start, stop, lr_count) of parameters that have made the same number of steps: one at first. A
    parameter that sits a step out (frozen, or without a gradient) splits its segment, as it keeps its own count.
    lr_count is the array [learning rate, steps made] that the kernels read.
    """

    def __init__(self, owner: Any, params: list[Tensor], options: dict):
        first = params[0]
        self.params, self.options, self.be = params, options, first.backend
        self.owner = weakref.ref(owner)
        self.starts = np.cumsum([0, *(p.size for p in params)]).tolist()
        size, dtype = self.starts[-1], first.dtype
        self.w, self.g = self.be.empty((size,), dtype), self.be.full((size,), 0, dtype)
        self.state = {name: self.be.full((size,), 0, dtype) for name in owner.state_names(options)}
        options["lr"] = float(options["lr"])  # a NumPy scalar or a Fraction would go on into arrays and files
        lr_count = self.be.asarray(np.array([options["lr"], 0.0]))
        self.segments: list[tuple[int, int, Any]] = [(0, len(params), lr_count)]
        self.offered: list | None = None  # on a device: the parts of `g`, which operations may write gradients to
        self.lr = options["lr"]  # the value last written to lr_count
        self.known = dict(options)  # the settings that were checked
        self.most = float(np.finfo(dtype).max) ** (0.5 if owner.squares else 1)  # a larger gradient would overflow
        self.w_tensor = Tensor(self.w, self.be)  # stands for all parameters where changes are noted
        for p in params:
            p.owner = self.owner
        self.adopt(self.w)

    def adopt(self, w: Any) -> None:
        """Copy the parameters into the flat vector w, and make them views of it. Those that another optimiser has taken
        over since are left to it."""
        self.w = self.w_tensor.data = w
        self.homes = self.views(w)
        for p, view in zip(self.params, self.homes, strict=True):
            if p.owner is self.owner:
                self.be.copyto(view, p.data)
                p.data = view

    def relocate(self, allocate: Callable[[tuple[int, ...], Any], Any], g: Any = None) -> None:
        """Move all flat vectors to arrays that `allocate(shape, dtype)` makes; g, where it is given, is that of the
        gradients."""

        def moved(flat: Any) -> Any:
            new = allocate(flat.shape, flat.dtype)
            self.be.copyto(new, flat)
            return new

        self.adopt(allocate(self.w.shape, self.w.dtype))
        self.g, self.offered = moved(self.g) if g is None else g, None
        self.state = {name: moved(flat) for name, flat in self.state.items()}

    def snapshot(self) -> tuple[dict, list[tuple[int, int, list[float]]]]:
        """The settings and step counts, for a copy of this group in another process: see `follow`."""
        return self.options, [(a, b, self.be.numpy(lr_count).tolist()) for a, b, lr_count in self.segments]

    def follow(self, snapshot: tuple[dict, list[tuple[int, int, list[float]]]]) -> None:
        """Take over the settings and step counts that `snapshot` returned elsewhere."""
        options, segments = snapshot
        self.options.update(options)
        self.segments = [(a, b, self.be.asarray(np.array(lr_count))) for a, b, lr_count in segments]

    def reclaim(self) -> None:
        """Follow what was set from outside: settings in `options`, and the `data` of parameters, which is copied to the
        flat vector where it was replaced by another array.

        Raises: RuntimeError where another optimiser has taken a parameter over; ValueError for data of another shape,
        and for settings that make no sense, or need vectors that the rule was made without.
        """
        if self.options != self.known:
            self._check_options()
        self.follow_rate()
        for p, view in zip(self.params, self.homes, strict=True):
            if p.data is not view:
                self._refuse_taken(p)
                if tuple(p.data.shape) != tuple(view.shape):
                    raise ValueError(
                        f"optimiser: a parameter of shape {view.shape} was given data of shape "
                        f"{p.data.shape}; make a new model, or write into it: p.data[...] = values"
                    )
                self.be.copyto(view, p.data)
                p.data = view
                changed.note(p)

    def _check_options(self) -> None:
        owner: Any = self.owner()
        owner.check_options(self.options)
        if lacking := [name for name in owner.state_names(self.options) if name not in self.state]:
            changed = ", ".join(f"{k}={v!r}" for k, v in self.options.items() if self.known.get(k) != v)
            raise ValueError(
                f"{type(owner).__name__}: {changed} was set after it was made, and it keeps no {', '.join(lacking)}; "
                "make the optimiser with that setting"
            )
        self.known = dict(self.options)

    def _refuse_taken(self, p: Tensor) -> None:
        if p.owner is not self.owner:
            other = None if p.owner is None else p.owner()
            name = type(self.owner()).__name__
            raise RuntimeError(
                f"{name}: a parameter of shape {p.shape} was taken over by another optimiser made later"
                + (f" ({type(other).__name__})" if other is not None else "")
                + f"; step that one, or make this one again: optimizer = optim.{name}(...)"
            )

    def follow_rate(self) -> None:
        """Write a learning rate that was set in `options` to where the kernels read it."""
        if self.options["lr"] != self.lr:
            self.set_lr(self.options["lr"])

    def set_lr(self, lr: float) -> None:
        """Write the learning rate to where the kernels read it, beside the step count."""
        if (recording := getattr(self.be, "recording", None)) is not None:
            recording.refuse("sets a learning rate; set optimizer.lr before the call")
        self.lr = self.options["lr"] = self.known["lr"] = float(lr)
        for _, _, lr_count in self.segments:
            self.be.copyto(lr_count[:1], self.lr)

    def views(self, flat: Any) -> list:
        """The parts of a flat vector, in the parameters' shapes."""
        return [
            self.be.reshape(flat[a:b], p.shape)
            for p, a, b in zip(self.params, self.starts[:-1], self.starts[1:], strict=True)
        ]

    def shapes(self, start: int, stop: int) -> list[tuple[int, ...]]:
        """Of the parameters that elements [start, stop) consist of."""
        return [p.shape for p, first in zip(self.params, self.starts[:-1], strict=True) if start <= first < stop]

    def snap(self, place: int) -> int:
        """The first element from `place` on where a parameter begins, or the end of all."""
        return self.starts[bisect.bisect_left(self.starts, place)]

    def offer(self) -> None:
        """On a device, where a copy costs a launch: let operations write gradients where the step reads them, in a new
        flat vector, since somebody may keep a gradient of the last step. What was offered and not used stays."""
        if not hasattr(self.be, "part"):
            return
        nodes = [p.node for p in self.params]
        if self.offered and all(node is None or node.home is not None for node in nodes):
            return
        self.g = self.be.empty(self.g.shape, self.g.dtype)
        self.offered = [self.be.part(self.g, a, p.shape) for p, a in zip(self.params, self.starts, strict=False)]
        for node, part in zip(nodes, self.offered, strict=True):
            if node is not None:
                node.home = part

    def collect(self) -> list[tuple[int, int, Any]]:
        """Copy the gradients into `g`; returns (start, stop, lr_count) of the stretches of elements that have one."""
        parts = self.offered or self.views(self.g)
        if self.offered and any(
            p.grad is not None
            and getattr(p.grad, "data", None) is not part
            and (p.node is None or p.node.home is not part)
            for p, part in zip(self.params, parts, strict=True)
        ):  # a part was given out, and the gradient is another by now: clipped, or the sum of two
            self.g = self.be.empty(self.g.shape, self.g.dtype)
            parts = self.views(self.g)
        return self.stretches(self.gather(parts))

    def gather(self, views: list) -> list[bool]:
        """Copy the gradients into views of a flat vector, but for those that are there; which parameters have one."""
        for p, view in zip(self.params, views, strict=True):
            if p.grad is not None and p.grad.data is not view:
                if not isinstance(p.grad, Tensor):
                    raise TypeError(f"optimiser: a gradient is a {type(p.grad).__name__}; it must be a Tensor or None")
                if p.grad.shape != p.shape or p.grad.backend is not self.be:
                    raise ValueError(
                        f"optimiser: a parameter of shape {p.shape} on {self.be.name!r} has a gradient of "
                        f"shape {p.grad.shape} on {p.grad.backend.name!r}"
                    )
                self.be.copyto(view, p.grad.data)
        return [p.grad is not None for p in self.params]

    def stretches(self, have: list[bool]) -> list[tuple[int, int, Any]]:
        """(start, stop, lr_count) of the elements whose parameters `have` a gradient, equal step counts together."""
        if not all(have):
            self._split(have)
        return [(self.starts[a], self.starts[b], lr_count) for a, b, lr_count in self.segments if have[a]]

    def _split(self, have: list[bool]) -> None:
        """Cut the segments where a parameter with a gradient meets one without."""
        segments = []
        for a, b, lr_count in self.segments:
            cuts = [a, *(i for i in range(a + 1, b) if have[i] != have[i - 1]), b]
            for i, j in itertools.pairwise(cuts):
                segments.append((i, j, lr_count if i == a else self.be.copy(lr_count)))
        self.segments = segments
