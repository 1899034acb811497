"""The optimiser's frame: one flat buffer a group, of which the parameters become views.

A step copies the gradients into a flat vector of their own and runs one kernel over all of it. The learning
rate and the step count live beside the parameters, on the device, so that a step asks the host for nothing.
"""

from __future__ import annotations

import bisect
import itertools
import math
import weakref
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

import numpy as np

from ..autograd import changed
from ..hints import refuse_renamed
from ..tensor import Tensor


class Group:
    """Parameters that share their settings: flat vectors `w` and `g`, and one more for each kind of state.

    `segments` are (start, stop, lr_count) of parameters that have made the same number of steps: one at first. A
    parameter that sits a step out (frozen, or without a gradient) splits its segment, as it keeps its own count.
    lr_count is the array [learning rate, steps made] that the kernels read.
    """

    def __init__(self, owner: Optimizer, params: list[Tensor], options: dict):
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
        """Follow what was set from outside: a learning rate in `options`, and the `data` of parameters, which is copied
        to the flat vector where it was replaced by another array.

        Raises: RuntimeError where another optimiser has taken a parameter over; ValueError for data of another shape.
        """
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
        self.lr = self.options["lr"] = float(lr)
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
        nodes = [p.node for p in self.params] if hasattr(self.be, "part") else []
        if (self.offered or not nodes) and all(node is None or node.home is not None for node in nodes):
            return
        self.g = self.be.empty(self.g.shape, self.g.dtype)
        self.offered = [self.be.part(self.g, a, p.shape) for p, a in zip(self.params, self.starts, strict=False)]
        for node, part in zip(nodes, self.offered, strict=True):
            if node is not None:
                node.home = part

    def collect(self) -> list[tuple[int, int, Any]]:
        """Copy the gradients into `g`; returns (start, stop, lr_count) of the stretches of elements that have one."""
        parts = self.offered or self.views(self.g)
        pairs = zip(self.params, parts, strict=True)
        lost = (getattr(p.grad, "data", q) is not q and getattr(p.node, "home", None) is not q for p, q in pairs)
        if self.offered and any(lost):  # given out, and the gradient is another by now: clipped, or the sum of two
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


class Optimizer:
    """Base of all optimisers. Subclasses give `state_names(options)` and `update(...)`.

    `guard` is a 0-d Tensor, finite where the last step was made and not where it was voided; None before the first.

    Args:
        params: a list of parameters (or of tensors with requires_grad), or of dicts {"params": [...], "lr": ...} with
            settings of their own. Parameters of another dtype or backend become a group of their own. An optimiser
            takes its parameters over from one made before, whose next step raises then.
        defaults: the settings of groups that do not set them.
    """

    squares = True  # whether the rule squares gradients: one whose square would overflow then voids a step
    whole = False  # whether it needs whole parameters (their norms, matrices): others take any part of the vectors
    guard: Tensor | None = None

    def __new__(cls, *args: Any, **options: Any) -> Any:
        refuse_renamed(cls.__name__, cls.__init__, options)
        return super().__new__(cls)

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
            alike: dict[tuple, list[Tensor]] = {}  # flat vectors have one dtype and one backend
            for p in members:
                alike.setdefault((p.dtype, p.backend.name, *self.kind(p, options).items()), []).append(p)
            groups += [(same, {**options, **self.kind(same[0], options)}) for same in alike.values()]
        self.groups = [Group(self, same, options) for same, options in groups]

    def _check(self, members: list, seen: set[int]) -> None:
        """TypeError or ValueError for what cannot be optimised, and for a parameter that is given twice."""
        name = type(self).__name__
        for p in members:
            if not isinstance(p, Tensor):
                raise TypeError(f"{name}: {p!r:.60} is not a parameter; pass model.parameters(), or tensors")
            if p.node is not None and not p.node.is_leaf:
                raise TypeError(
                    f"{name}: a tensor of shape {p.shape} is the result of an operation ({p.node.name}), not a "
                    "parameter; pass what it was computed from"
                )
            if p.node is None and not hasattr(p, "owner"):
                raise TypeError(
                    f"{name}: {p!r:.60} is not a parameter, as no gradient flows to it; make it with "
                    "tn.tensor(..., requires_grad=True)"
                )
            if id(p) in seen:
                raise ValueError(f"{name}: a parameter of shape {p.shape} is given twice")
            seen.add(id(p))

    # ---- what subclasses define ----------------------------------------------------------------------
    def check_options(self, options: dict) -> None:
        """ValueError for a setting of a group that makes no sense: all must be numbers of 0 or more, `betas` two."""
        for name, value in sorted(options.items()):
            if name == "betas":
                if not isinstance(value, tuple | list) or len(value) != 2 or not all(0 <= beta < 1 for beta in value):
                    raise ValueError(f"{type(self).__name__}: betas={value!r} must be two numbers in [0, 1)")
            elif not (isinstance(value, Real) and float(value) >= 0):
                raise ValueError(f"{type(self).__name__}: {name}={value!r} must be a number >= 0")

    def kind(self, p: Tensor, options: dict) -> dict:
        """Settings that depend on the parameter; parameters of other kinds become a group of their own."""
        return {}

    def state_names(self, options: dict) -> tuple[str, ...]:
        """The names of the flat state vectors that these settings need."""
        return ()

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        """Change w, and the vectors in `state`, in place, by one kernel; lr_count is [lr, steps made]. Rules that are
        `whole` get `shapes`, those of the parameters in w, too."""
        raise TypeError(f"{type(self).__name__} has no update(); an optimiser must define it")

    # ---- using it --------------------------------------------------------------------------------------
    def step(self, loss: Tensor | None = None) -> None:
        """Update all parameters that have a gradient. A gradient that is not finite, or so large that the rule would
        overflow, voids the step for all of them, and so does a loss, where it is given: nothing changes then, and
        `voided` is true."""
        guard, be, parts = (None, None, []) if loss is None else (loss.data, loss.backend, [])
        for group in self.groups:
            if (recording := getattr(group.be, "recording", None)) is not None:
                recording.groups.append(group)
            group.reclaim()
            guard, be = _moved(guard, be, group.be), group.be
            for start, stop, lr_count in group.collect():
                guard = be.guard(group.g[start:stop], guard, group.most)
                parts.append((group, start, stop, lr_count))
        self.guard = None if guard is None else Tensor(guard, be)  # type: ignore[arg-type]
        for group, start, stop, lr_count in parts:
            self.apply(group, start, stop, lr_count, _moved(guard, be, group.be))

    @property
    def voided(self) -> bool:
        """Whether the last step changed nothing, as its loss or gradient was not finite. Waits for the device, so read
        it when you need it."""
        return self.guard is not None and not math.isfinite(self.guard.item())

    def apply(self, group: Group, start: int, stop: int, lr_count: Any, loss: Any) -> None:
        """Run the kernel on elements [start, stop) of a group whose `g` is filled, unless `loss`, what guards the step,
        is not finite."""
        state = {name: flat[start:stop] for name, flat in group.state.items()}
        shapes = (group.shapes(start, stop),) if self.whole else ()
        self.update(group.be, group.w[start:stop], group.g[start:stop], state, lr_count, loss, group.options, *shapes)
        changed.note(group.w_tensor)

    def zero_grad(self) -> None:
        """Forget all gradients (they become None)."""
        for group in self.groups:
            for p in group.params:
                p.grad = None
            group.offer()

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets all groups'. One group's: `groups[i].options["lr"]`."""
        return self.groups[0].options["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        self.check_options({"lr": value})
        for group in self.groups:
            group.set_lr(value)

    def __repr__(self) -> str:
        lines = [
            f"{len(group.params)} parameters, {group.starts[-1]:,} values: "
            + ", ".join(f"{name}={value!r}" for name, value in group.options.items())
            for group in self.groups
        ]
        name = type(self).__name__
        many = "\n  ".join([f"{name} of {len(lines)} groups", *(f"{i}: {line}" for i, line in enumerate(lines))])
        return f"{name}({lines[0]})" if len(lines) == 1 else many

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
            group.follow_rate()  # a rate that was set since the last step is of the state
            for name, flat in group.state.items():
                out[f"{i}.{name}"] = np.array(group.be.numpy(flat))
            out[f"{i}.runs"] = np.array([[a, b] for a, b, _ in group.segments])
            out[f"{i}.counts"] = np.stack([np.array(group.be.numpy(lr_count)) for _, _, lr_count in group.segments])
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
            lr_count = np.asarray(state[f"{i}.counts"], np.float64)
            group.segments = [
                (int(a), int(b), group.be.copy(group.be.asarray(lr_count[k])))
                for k, (a, b) in enumerate(np.asarray(state[f"{i}.runs"]).tolist())
            ]
            group.lr = group.options["lr"] = float(lr_count[0, 0])


def _moved(x: Any, be: Any, to: Any) -> Any:
    """An array of backend `be`, or None, on another backend; groups may well lie on several."""
    return x if x is None or be is to else to.asarray(be.numpy(x))
