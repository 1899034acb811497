"""The optimiser's frame: one flat buffer a group, of which the parameters become views.

A step copies the gradients into a flat vector of their own and runs one kernel over all of it. The learning
rate and the step count live beside the parameters, on the device, so that a step asks the host for nothing.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np

from ..autograd import changed
from ..nn.module import Parameter
from ..tensor import Tensor


class Group:
    """Parameters that share their settings: flat vectors `w` and `g`, and one more for each kind of state.

    `runs` are stretches [start, stop) of parameters that have made the same number of steps: one at first; a
    parameter that sits a step out (frozen, or without a gradient) splits its run, as it keeps its own count.
    """

    def __init__(self, owner: Optimizer, params: list[Parameter], options: dict):
        first = params[0]
        for p in params:
            if (p.dtype, p.backend) != (first.dtype, first.backend):
                raise ValueError(
                    f"{type(owner).__name__}: the parameters of a group must share dtype and backend; "
                    f"found {first.dtype} on {first.backend.name!r} and {p.dtype} on {p.backend.name!r}"
                )
        self.params, self.options, self.be = params, options, first.backend
        self.starts = np.cumsum([0, *(p.size for p in params)]).tolist()
        size, dtype = self.starts[-1], first.dtype
        self.w, self.g = self.be.empty((size,), dtype), self.be.full((size,), 0, dtype)
        self.state = {name: self.be.full((size,), 0, dtype) for name in owner.state_names(options)}
        options["lr"] = float(options["lr"])  # a NumPy scalar or a Fraction would go on into arrays and files
        lr_step = self.be.asarray(np.array([options["lr"], 0.0]))
        self.runs: list[tuple[int, int, Any]] = [(0, len(params), lr_step)]
        self.lr = options["lr"]  # that is in lr_step
        self.most = float(np.finfo(dtype).max) ** (0.5 if owner.squares else 1)  # a larger gradient would overflow
        self.w_tensor = Tensor(self.w, self.be)  # stands for all parameters where changes are noted
        self.adopt(self.w)
        for p in params:
            p.owner = weakref.ref(owner)

    def adopt(self, w: Any) -> None:
        """Copy the parameters into the flat vector w, and make them views of it."""
        self.w = self.w_tensor.data = w
        self.homes = self.views(w)
        for p, view in zip(self.params, self.homes, strict=True):
            self.be.copyto(view, p.data)
            p.data = view

    def reclaim(self) -> None:
        """Follow what was set from outside: a learning rate in `options`, and the `data` of parameters, which is copied
        to the flat vector where it was replaced by another array."""
        if self.options["lr"] != self.lr:
            self.set_lr(self.options["lr"])
        for p, view in zip(self.params, self.homes, strict=True):
            if p.data is not view:
                if tuple(p.data.shape) != tuple(view.shape):
                    raise ValueError(
                        f"optimiser: a parameter of shape {view.shape} was given data of shape "
                        f"{p.data.shape}; make a new model, or write into it: p.data[...] = values"
                    )
                self.be.copyto(view, p.data)
                p.data = view
                changed.note(p)

    def set_lr(self, lr: float) -> None:
        """Write the learning rate to where the kernels read it, beside the step count."""
        self.lr = self.options["lr"] = float(lr)
        for _, _, lr_step in self.runs:
            self.be.copyto(lr_step[:1], self.lr)

    def views(self, flat: Any) -> list:
        """The parts of a flat vector, in the parameters' shapes."""
        return [
            self.be.reshape(flat[a:b], p.shape)
            for p, a, b in zip(self.params, self.starts[:-1], self.starts[1:], strict=True)
        ]

    def collect(self) -> list[tuple[int, int, Any]]:
        """Copy the gradients into `g`; gives (start, stop, lr_step) of the stretches of elements that have one."""
        return self.stretches(self.gather(self.views(self.g)))

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
        """(start, stop, lr_step) of the elements whose parameters `have` a gradient, equal step counts together."""
        if not all(have):
            self._split(have)
        return [(self.starts[a], self.starts[b], lr_step) for a, b, lr_step in self.runs if have[a]]

    def _split(self, have: list[bool]) -> None:
        """Cut the runs where a parameter with a gradient meets one without."""
        runs = []
        for a, b, lr_step in self.runs:
            cuts = [a, *(i for i in range(a + 1, b) if have[i] != have[i - 1]), b]
            for i, j in itertools.pairwise(cuts):
                runs.append((i, j, lr_step if i == a else self.be.copy(lr_step)))
        self.runs = runs


class Optimizer:
    """Base of all optimisers. Subclasses give `state_names(options)` and `update(...)`.

    `guard` is a 0-d Tensor, finite where the last step was made and not where it was voided; None before the first.

    Args:
        params: a list of parameters, or of dicts {"params": [...], "lr": ..., ...} with settings of their own.
        defaults: the settings of groups that do not set them.
    """

    squares = True  # whether the rule squares gradients: one whose square would overflow then voids a step
    guard: Tensor | None = None

    def __init__(self, params: Iterable, **defaults: Any):
        name = type(self).__name__
        given = [params] if isinstance(params, Tensor) else list(params)
        if not given:
            raise ValueError(f"{name}: there are no parameters to optimise; build the model first")
        specs = given if isinstance(given[0], dict) else [{"params": given}]
        if not all(isinstance(spec, dict) for spec in specs):
            raise TypeError(f'{name}: pass parameters, or groups of them ({{"params": [...], ...}}), not both')
        seen: set[int] = set()
        self.groups: list[Group] = []
        groups = []
        for spec in specs:
            spec = dict(spec)
            members: Any = spec.pop("params", ())
            members = [members] if isinstance(members, Tensor) else list(members)
            if not members:
                raise ValueError(f'{name}: a group is {{"params": [...], "lr": ...}}, with one parameter at least')
            if unknown := set(spec) - set(defaults):
                raise ValueError(f"{name}: unknown setting {', '.join(sorted(unknown))}; it has {', '.join(defaults)}")
            self._check(members, seen)
            options = {**defaults, **spec}
            self.check_options(options)
            groups.append((members, options))
        self.groups = [Group(self, members, options) for members, options in groups]

    def _check(self, members: list, seen: set[int]) -> None:
        name = type(self).__name__
        for p in members:
            if not isinstance(p, Parameter):
                raise TypeError(f"{name}: {p!r:.60} is not a parameter; pass model.parameters(), or nn.Parameter(...)")
            if id(p) in seen:
                raise ValueError(f"{name}: a parameter of shape {p.shape} is given twice")
            seen.add(id(p))
            if p.owner is not None and p.owner() is not None:
                raise ValueError(
                    f"{name}: a parameter of shape {p.shape} belongs to another optimiser "
                    f"({type(p.owner()).__name__}) already; delete that one first (del optimizer)"
                )

    # ---- what subclasses define ----------------------------------------------------------------------
    def check_options(self, options: dict) -> None:
        """ValueError for a setting of a group that makes no sense: all must be numbers of 0 or more."""
        for name, value in options.items():
            if not (isinstance(value, Real) and float(value) >= 0):
                raise ValueError(f"{type(self).__name__}: {name}={value!r} must be a number >= 0")

    def state_names(self, options: dict) -> tuple[str, ...]:
        """The names of the flat state vectors that these settings need."""
        return ()

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_step: Any, loss: Any, options: dict) -> None:
        """Change w, and the vectors in `state`, in place, by one kernel; lr_step is [lr, steps made]."""
        raise TypeError(f"{type(self).__name__} has no update(); an optimiser must define it")

    # ---- using it --------------------------------------------------------------------------------------
    def step(self, loss: Tensor | None = None) -> None:
        """Update all parameters that have a gradient. A gradient that is not finite, or so large that the rule would
        overflow, voids the step for all of them, and so does a loss, where it is given: nothing changes then, and
        `voided` is true."""
        guard, be, parts = (None, None, []) if loss is None else (loss.data, loss.backend, [])
        for group in self.groups:
            group.reclaim()
            guard, be = _moved(guard, be, group.be), group.be
            for start, stop, lr_step in group.collect():
                guard = be.guard(group.g[start:stop], guard, group.most)
                parts.append((group, start, stop, lr_step))
        self.guard = None if guard is None else Tensor(guard, be)  # type: ignore[arg-type]
        for group, start, stop, lr_step in parts:
            self.apply(group, start, stop, lr_step, _moved(guard, be, group.be))

    @property
    def voided(self) -> bool:
        """Whether the last step changed nothing, as its loss or gradient was not finite. Waits for the device, so read
        it when you need it."""
        return self.guard is not None and not math.isfinite(self.guard.item())

    def apply(self, group: Group, start: int, stop: int, lr_step: Any, loss: Any) -> None:
        """Run the kernel on elements [start, stop) of a group whose `g` is filled, unless `loss`, what guards the step,
        is not finite."""
        state = {name: flat[start:stop] for name, flat in group.state.items()}
        self.update(group.be, group.w[start:stop], group.g[start:stop], state, lr_step, loss, group.options)
        changed.note(group.w_tensor)

    def zero_grad(self) -> None:
        """Forget all gradients (they become None)."""
        for group in self.groups:
            for p in group.params:
                p.grad = None

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets all groups'. One group's: `groups[i].options["lr"]`."""
        return self.groups[0].options["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        self.check_options({"lr": value})
        for group in self.groups:
            group.set_lr(value)

    # ---- state -----------------------------------------------------------------------------------------
    def __reduce__(self) -> Any:
        raise TypeError(
            f"{type(self).__name__}: an optimiser cannot be copied or pickled, as it owns a model's "
            "parameters; make one for the copy, and give it load_state_dict(optimizer.state_dict())"
        )

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies, on the host, of all that a resumed run needs: state vectors, step counts, learning rates."""
        out: dict[str, np.ndarray] = {}
        for i, group in enumerate(self.groups):
            group.reclaim()  # a rate that was set since the last step is of the state
            for name, flat in group.state.items():
                out[f"{i}.{name}"] = np.array(group.be.numpy(flat))
            out[f"{i}.runs"] = np.array([[a, b] for a, b, _ in group.runs])
            out[f"{i}.counts"] = np.stack([np.array(group.be.numpy(lr_step)) for _, _, lr_step in group.runs])
        return out

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Copy a state_dict in place; it must come from an optimiser with the same parameters and settings."""
        own = self.state_dict()
        if set(own) != set(state):
            raise ValueError(
                f"load_state_dict: {type(self).__name__} holds {', '.join(sorted(own))}; the state has "
                f"{', '.join(sorted(state))}"
            )
        for i, group in enumerate(self.groups):
            for name in group.state:
                if np.shape(state[f"{i}.{name}"]) != own[f"{i}.{name}"].shape:
                    raise ValueError(
                        f"load_state_dict: {i}.{name} holds {np.size(state[f'{i}.{name}'])} values, this "
                        f"optimiser has {own[f'{i}.{name}'].size}"
                    )
            runs = np.asarray(state[f"{i}.runs"]).tolist()
            stops = [0, *(b for _, b in runs)]
            if (
                runs != [[a, b] for a, b in itertools.pairwise(stops)]
                or stops[-1] != len(group.params)
                or np.shape(state[f"{i}.counts"]) != (len(runs), 2)
            ):
                raise ValueError(
                    f"load_state_dict: {i}.runs is of {stops[-1]} parameters, this optimiser has {len(group.params)}"
                )
        for i, group in enumerate(self.groups):
            for name, flat in group.state.items():
                group.be.copyto(flat, group.be.asarray(np.ascontiguousarray(state[f"{i}.{name}"])))
            lr_step = np.asarray(state[f"{i}.counts"], np.float64)
            group.runs = [
                (int(a), int(b), group.be.copy(group.be.asarray(lr_step[k])))
                for k, (a, b) in enumerate(np.asarray(state[f"{i}.runs"]).tolist())
            ]
            group.lr = group.options["lr"] = float(lr_step[0, 0])


def _moved(x: Any, be: Any, to: Any) -> Any:
    """An array of backend `be`, or None, on another backend; groups may well lie on several."""
    return x if x is None or be is to else to.asarray(be.numpy(x))
