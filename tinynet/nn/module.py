"""Module: what holds parameters. A layer creates them when it first sees its input, so sizes are inferred."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backends
from ..autograd import changed, mode, no_grad, requires_grad_
from ..backends.contract import Backend
from ..hints import missing
from ..ops import random
from ..tensor import Tensor, tensor

_INFERRED = (
    "its sizes are inferred from the input: call model.build((28, 28, 1)) with your input's shape, pass "
    "input_shape= to Sequential, or call the model once"
)


class Parameter(Tensor):
    """A tensor that a module learns. Made by `Module.parameter`; `owner` is the optimiser that moved it into
    its flat buffer, if one did."""

    __slots__ = ()

    def __init__(self, data: Any, backend: Backend | None = None):
        if backend is None:
            made = tensor(data)
            data, backend = made.data, made.backend
        super().__init__(data, backend)
        self.owner = None
        requires_grad_(self)


class Module:
    """A layer or a network. Subclasses define `forward(x)`, and `create(shape)` where they have parameters.

    Parameters, buffers (plain tensors) and modules that are attributes are found by themselves, parameters and
    modules in lists and dicts, too, under dotted names: `layers.0.weight`.
    """

    training: bool = True
    built: tuple | None = None  # the input shape, without the batch axis, that sizes were inferred from
    output_shape: tuple | None = None  # of the first call, without the batch axis
    _arguments: tuple[tuple, dict] = ((), {})
    _hooks: list[Callable]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        self._arguments = (args, kwargs)  # so that `tn.save` can write how the module was made
        self._hooks = []
        return self

    # ---- what subclasses define ---------------------------------------------------------------------
    def create(self, shape: tuple) -> None:
        """Make the parameters for inputs of `shape` (no batch axis)."""

    def forward(self, x: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no forward(); a module must define it")

    def output_size(self, shape: tuple) -> tuple:
        """The output's shape for an input of `shape`, both without the batch axis, by arithmetic: nothing is run.

        All layers of tinynet say it, so that a model is loaded, and bad data found, without a forward. ValueError
        where the layer takes no such input; TypeError where a class of your own does not define it.
        """
        raise TypeError(f"{type(self).__name__} does not say the size of its output; define output_size(shape)")

    # ---- calling -------------------------------------------------------------------------------------
    def __call__(self, x: Any, *rest: Any) -> Tensor:
        if not isinstance(x, Tensor):
            x = _input(x, self)
        y = self._first_call(x, *rest) if self.built is None else self.forward(x, *rest)
        if y is None:
            raise TypeError(f"{type(self).__name__}.forward gave None; it must return its output")
        if self.output_shape is None and isinstance(y, Tensor):
            self.output_shape = y.shape[1:]
        for hook in self._hooks:
            hook(self, x, y)
        return y

    def _first_call(self, x: Tensor, *rest: Any) -> Tensor:
        """Create the parameters, then forward. When that fails nothing is built, here and inside: a second call may
        bring another shape."""
        with self._all_or_nothing():
            self.create(x.shape[1:])
            self.built = x.shape[1:]
            return self.forward(x, *rest)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """When this context is left by an exception, the attributes of all modules, and the random state, are what they
        were."""
        before, steps = [(vars(m), dict(vars(m))) for m in self.modules()], dict(random.state.steps)
        try:
            yield
        except BaseException:
            for attributes, then in before:
                attributes.clear()
                attributes.update(then)
            random.state.steps = steps
            raise

    def build(self, shape: int | tuple) -> Module:
        """Create all parameters for inputs of `shape` (without the batch axis) and give the module back.

        Again with the same shape: nothing, but for layers that were put in since. With another: a ValueError.
        """
        shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
        if not all(isinstance(n, int | np.integer) and n > 0 for n in shape):
            raise ValueError(f"build: the shape {shape} must be of positive ints, without the batch axis: (28, 28, 1)")
        shape = tuple(map(int, shape))
        if self.built is not None:
            if self.built != shape:
                raise ValueError(
                    f"build: {type(self).__name__} was built for inputs of shape {self.built}, "
                    f"now {shape}; make a new model for another shape"
                )
            if not self.unbuilt():
                return self
            for module in self.modules():  # a layer was put in since
                module.output_shape = None
        be, modes = backends.current(), {m: m.training for m in self.modules()}
        try:
            self.eval()
            with no_grad():
                self(Tensor(be.full((1, *shape), 0, np.float32), be))
        finally:
            for module, training in modes.items():
                module.training = training
        return self

    def parameter(self, shape: tuple, initialise: Callable) -> Parameter:
        """A new parameter: `initialise(shape, rng)` gives its float32 values."""
        be = backends.current()
        return Parameter(be.copy(be.asarray(initialise(shape, random.state.generator("init")), np.float32)), be)

    # ---- finding -------------------------------------------------------------------------------------
    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, list | tuple | dict) and name != "_arguments":
                yield from ((inner, m) for inner, m in _inside(name, value) if isinstance(m, Module))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module (under the name "") and all inside it."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> list[Module]:
        return [module for _, module in self.named_modules()]

    def _tensors(self, kind: type, aliases: bool = False) -> Iterator[tuple[str, Any]]:
        """(name, tensor) of one kind, each once, or under each of its names."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if type(value) is kind:
                    found = [(name, value)]
                elif kind is Parameter and isinstance(value, list | tuple | dict) and name != "_arguments":
                    found = [(inner, p) for inner, p in _inside(name, value) if type(p) is kind]
                else:
                    continue
                for inner, p in found:
                    if aliases or id(p) not in seen:
                        seen.add(id(p))  # a shared parameter counts once
                        yield (f"{prefix}.{inner}" if prefix else inner), p

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter), frozen ones too, each once."""
        if lacking := self.unbuilt():
            some = self.built is not None
            raise RuntimeError(
                (f"{type(self).__name__}: {lacking[0]}" if some else type(self).__name__)
                + f" has no parameters yet, as {_INFERRED}"
                + "; if that does not help, forward never calls it" * some
            )
        yield from self._tensors(Parameter)

    def unbuilt(self) -> list[str]:
        """The layers, as "name, layer", that have yet to see an input before they have parameters."""
        return [
            f"{name}, {module!r},"
            for name, module in self.named_modules()
            if module.built is None and type(module).create is not Module.create
        ]

    def parameters(self) -> list[Parameter]:
        """All parameters, frozen ones too."""
        return [p for _, p in self.named_parameters()]

    # ---- modes ---------------------------------------------------------------------------------------
    def train(self, mode: bool = True) -> Module:
        """Training mode: dropout drops. Gives the module back."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation mode: dropout passes everything. Gives the module back."""
        return self.train(False)

    def freeze(self) -> Module:
        """Stop gradients to all parameters (of this module and those inside); optimisers then skip them."""
        for p in self.parameters():
            p.requires_grad_(False)
            p.grad = None
        return self

    def unfreeze(self) -> Module:
        """Undo `freeze`."""
        for p in self.parameters():
            p.requires_grad_()
        return self

    def to(self, backend: str | Backend) -> Module:
        """Move parameters and buffers to a backend, in place. Do it before an optimiser takes them."""
        be = backends.get(backend)
        tensors = [t for kind in (Parameter, Tensor) for _, t in self._tensors(kind)]
        for t in tensors:
            if isinstance(t, Parameter) and t.owner is not None and t.owner() is not None and t.backend is not be:
                raise RuntimeError(
                    "to: an optimiser holds these parameters in its flat buffer; move the model first, "
                    "then make the optimiser"
                )
        for t in tensors:
            trainable = t.requires_grad
            t.requires_grad_(False)
            t.data, t.backend, t.grad = be.copy(be.asarray(t.numpy())), be, None
            if trainable:
                t.requires_grad_()
        return self

    def register_forward_hook(self, hook: Callable[[Module, Tensor, Tensor], None]) -> Callable[[], None]:
        """Call `hook(module, x, y)` after each forward; gives a function that removes it. A hooked layer is
        never fused with its neighbours."""
        self._hooks.append(hook)
        return lambda: self._hooks.remove(hook)

    if not TYPE_CHECKING:  # which would take it for any attribute's

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # a property that raised AttributeError: say what it said
                return object.__getattribute__(self, name)
            if self.built is None and any(name in inspect.get_annotations(c) for c in type(self).__mro__):
                raise AttributeError(f"{type(self).__name__} has no {name} yet, as {_INFERRED}", name=name, obj=self)
            raise missing(type(self).__name__, name, self)

    # ---- state ---------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers on the host, by name."""
        self.parameters()  # raises while unbuilt
        return {name: np.array(t.numpy()) for kind in (Parameter, Tensor) for name, t in self._tensors(kind)}

    def load_state_dict(self, state: dict[str, Any]) -> Module:
        """Copy values in place; names, shapes and dtype kinds must fit, else nothing changes and a ValueError says
        what differs."""
        self.parameters()
        own = {name: t for kind in (Parameter, Tensor) for name, t in self._tensors(kind)}
        problems = [f"{name} is missing" for name in own if name not in state]
        problems += [f"{name} is unknown" for name in state if name not in own]
        for name, t in own.items():
            value = state.get(name, t)
            host = value if isinstance(value, Tensor) else np.asarray(value)
            if host.shape != t.shape:
                problems.append(f"{name} has shape {host.shape}, the model's is {t.shape}")
            elif host.dtype.kind != t.dtype.kind:
                problems.append(f"{name} has dtype {host.dtype}, the model's is {t.dtype}")
        if problems:
            more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
            raise ValueError(f"load_state_dict: {'; '.join(problems[:5])}{more}")
        for name, t in own.items():
            value = state[name]
            host = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
            t.backend.copyto(t.data, t.backend.asarray(host, t.dtype))
            changed.note(t)
        return self

    # ---- showing -------------------------------------------------------------------------------------
    def summary(self) -> None:
        """Print a table of layers with output shapes and parameter counts."""
        counts = {
            name: module._own_size()
            for name, module in self.named_modules()
            if not any(True for _ in module.children()) or module._own_size()
        }
        rows = [
            (name or type(self).__name__, repr(module), str(module.output_shape or "?"), f"{counts[name]:,}")
            for name, module in self.named_modules()
            if name in counts
        ]
        head = ("name", "layer", "output", "parameters")
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(4)]
        lines = [
            "  ".join([*(c.ljust(w) for c, w in zip(row[:3], widths[:3], strict=True)), row[3].rjust(widths[3])])
            for row in [head, *rows]
        ]
        total = sum(p.size for p in self.parameters())
        trained = sum(p.size for p in self.parameters() if p.requires_grad)
        print(
            lines[0],
            "-" * len(lines[0]),
            *lines[1:],
            "-" * len(lines[0]),
            f"{total:,} parameters, {trained:,} trainable",
            sep="\n",
        )

    def _own_size(self) -> int:
        """The size of the parameters that are of no module inside."""
        inside = {id(p) for _, child in self.children() for _, p in child._tensors(Parameter)}
        return sum(p.size for _, p in self._tensors(Parameter) if id(p) not in inside)

    def __repr__(self) -> str:
        args, kwargs = self._arguments
        inside = [repr(a) for a in args] + [f"{k}={v!r}" for k, v in kwargs.items()]
        return f"{type(self).__name__}({', '.join(inside)})"


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) itself, or of all that a list, tuple or dict holds."""
    if isinstance(value, list | tuple | dict):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _inside(f"{name}.{key}", part)
    else:
        yield name, value


def _input(x: Any, module: Module) -> Tensor:
    """An array as a tensor of the module's backend; integers and float64 become float32. It is a copy wherever a graph
    may keep it: the caller may fill his array with the next batch before `backward`."""
    parameters = (v for _, m in module.named_modules() for v in vars(m).values() if type(v) is Parameter)
    first = next(chain(parameters, (p for _, p in module._tensors(Parameter))), None)  # the latter: those in lists
    be = first.backend if first is not None else backends.current()
    array = np.asarray(x)
    dtype = np.float32 if first is None or array.dtype.kind != "f" else first.dtype
    if be.name == "numpy" and mode.recording:
        return Tensor(be.astype(array, dtype), be)  # a copy, as for the operands of operations
    return Tensor(be.asarray(array.astype(dtype, copy=False)), be)
