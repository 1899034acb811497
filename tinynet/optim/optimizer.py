"""The optimiser's frame: one flat buffer a group, of which the parameters become views.

A step copies the gradients into a flat vector of their own and runs one kernel over all of it. The learning
rate and the step count live beside the parameters, on the device, so that a step asks the host for nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np

from ..autograd import changed
from ..hints import refuse_renamed, renamed
from ..tensor import Tensor
from .group import Group


class Optimizer:
    """Base of all optimisers. Subclasses give `state_names(options)` and `update(...)`.

    `guard` is a 0-d Tensor, finite where the last step was made and not where it was voided; None before the first.

    Args:
        params: a list of parameters (or of tensors with requires_grad), or of dicts {"params": [...], "lr": ...} with
            settings of their own. Parameters of another dtype or backend become a group of their own. An optimiser
            takes its parameters over from one made before, whose next step raises then.
        defaults: the settings of groups that do not set them.
    """

    learning_rate = renamed("lr, as in optimizer.lr = 1e-3")  # Keras's
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
