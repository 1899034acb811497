"""Tree: what parameters, buffers and modules an object holds, found wherever they stand, moved, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np

from .. import backends
from ..autograd import changed, requires_grad_
from ..backends.contract import Backend
from ..tensor import Tensor, tensor

INFERRED = (
    "its sizes are inferred from the input: call model.build((28, 28, 1)) with your input's shape, pass "
    "input_shape= to Sequential, or call the model once"
)
BOOKKEEPING = {
    "training",
    "built",
    "built_for",
    "output_shape",
    "_fitted_loss",
    "_arguments",
    "_hooks",
}  # attributes of the engine's own
Self = TypeVar("Self", bound="Tree")


class Parameter(Tensor):
    """A tensor that a module learns: `nn.Parameter(values)`, or what `Module.parameter` makes.

    Args:
        data: numbers, an array or a Tensor. Floating NumPy arrays become float32, as all parameters are by default.
        backend: where `data`, an array of that backend, lies; it is then taken as it is, not copied.
        dtype: a floating dtype for `data`.
    Attributes: owner: the optimiser that moved the parameter into its flat buffer, if one did.
    """

    __slots__ = ()

    def __init__(self, data: Any, backend: Backend | None = None, *, dtype: Any = None):
        if backend is None:
            made = tensor(data, dtype=floats(data, dtype))
            data, backend = made.data, made.backend
        super().__init__(data, backend)
        self.owner = None
        requires_grad_(self)


def floats(data: Any, dtype: Any = None) -> Any:
    """The dtype for values that a module keeps: float32 for floats, unless they are a Tensor's or `dtype` is given."""
    if dtype is None and not isinstance(data, Tensor) and np.asarray(data).dtype.kind == "f":
        return np.float32
    return dtype


class Tree:
    """Parameters, buffers (plain tensors) and modules that are attributes are found by themselves, also in lists,
    tuples and dicts, however nested, under dotted names: `layers.0.weight`."""

    training: bool
    built: Any

    def create(self, shape: tuple) -> None:
        """Make the parameters for inputs of `shape` (no batch axis)."""

    # ---- finding -------------------------------------------------------------------------------------
    def children(self) -> Iterator[tuple[str, Any]]:
        """The modules directly inside, with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Tree):
                yield name, value
            elif isinstance(value, list | tuple | dict) and name not in BOOKKEEPING:
                yield from ((inner, m) for inner, m in inside(name, value) if isinstance(m, Tree))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """This module (under the name "") and all inside it."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> list[Any]:
        """This module and all inside it."""
        return [module for _, module in self.named_modules()]

    def named_tensors(self, kind: type = Tensor, aliases: bool = False) -> Iterator[tuple[str, Any]]:
        """(name, tensor) of one kind, Parameter or Tensor (the buffers), each once, or under each of its names. Unlike
        `named_parameters` it does not ask whether the module is built."""
        seen: set[int] = set()
        for name, value in self._values():
            if type(value) is kind and (aliases or id(value) not in seen):
                seen.add(id(value))  # a shared parameter counts once
                yield name, value

    _tensors = named_tensors

    def _values(self) -> Iterator[tuple[str, Any]]:
        """(dotted name, value) of all that the modules hold, lists and dicts opened."""
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if name in BOOKKEEPING:
                    continue
                for inner, part in inside(name, value):
                    yield (f"{prefix}.{inner}" if prefix else inner), part

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter), frozen ones too, each once. RuntimeError while there are layers without sizes."""
        if lacking := self.unbuilt():
            some = self.built is not None
            raise RuntimeError(
                (f"{type(self).__name__}: {lacking[0]}" if some else type(self).__name__)
                + f" has no parameters yet, as {INFERRED}"
                + "; if that does not help, forward never calls it" * some
            )
        yield from self.named_tensors(Parameter)

    def unbuilt(self) -> list[str]:
        """The layers, as "name, layer", that have yet to see an input before they have parameters."""
        return [
            f"{name}, {module!r},"
            for name, module in self.named_modules()
            if module.built is None and type(module).create is not Tree.create
        ]

    def parameters(self) -> list[Parameter]:
        """All parameters, frozen ones too."""
        return [p for _, p in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of all buffers, each once."""
        yield from self.named_tensors(Tensor)

    def unsaved(self) -> list[str]:
        """The names of plain NumPy arrays, which `state_dict` does not hold."""
        return [name for name, value in self._values() if isinstance(value, np.ndarray)]

    def buffer(self, name: str, array: Any, *, dtype: Any = None) -> Tensor:
        """Keep an array beside the parameters: saved, loaded and moved with them, but not learned.

        `self.buffer("mean", np.zeros(3))` makes `self.mean` a Tensor on the current backend, and returns it. Floating
        arrays become float32 unless `dtype` is given, integers and bools stay what they are. Write new values as
        `self.mean[...] = values`, or `self.mean = tensor`.
        """
        if not name.isidentifier() or hasattr(type(self), name):
            raise ValueError(f"buffer: {name!r} must be the name of a new attribute of {type(self).__name__}")
        setattr(self, name, value := tensor(array, dtype=floats(array, dtype)))
        return value

    # ---- modes and places ----------------------------------------------------------------------------
    def train(self: Self, mode: bool = True) -> Self:
        """Training mode: dropout drops. Returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Evaluation mode: dropout passes everything. Returns the module."""
        return self.train(False)

    def freeze(self: Self, *patterns: str) -> Self:
        """Stop gradients to all parameters (of this module and those inside), or to those of some names; optimisers
        then skip them. A frozen BatchNorm keeps its statistics, in training too.

        Args: patterns: of names, as a shell's: "features.*", "*.bias"; "features" means all in it.
        Returns: the module. Raises: ValueError for a pattern without a parameter.
        """
        for p in self._matching("freeze", patterns):
            p.requires_grad_(False)
            p.grad = None
        return self

    def unfreeze(self: Self, *patterns: str) -> Self:
        """Undo `freeze`, for all parameters or those of some names."""
        for p in self._matching("unfreeze", patterns):
            p.requires_grad_()
        return self

    def _matching(self, what: str, patterns: tuple[str, ...]) -> list[Parameter]:
        """The parameters under the patterns' names, all without any."""
        own, found = dict(self.named_parameters()), dict[str, Parameter]()
        for pattern in patterns or ("*",):
            fits = {n: p for n, p in own.items() if fnmatchcase(n, pattern) or n.startswith(f"{pattern}.")}
            if not fits and patterns:
                raise ValueError(f"{what}: {pattern!r} is the name of no parameter; there are {', '.join(own):.300}")
            found |= fits
        return list(found.values())

    def stages(self) -> list[list[str]]:
        """The names of all parameters, in a list a stage, from the input to the output, as fine-tuning takes them.

        A stage is a module directly inside (where one holds everything, inside that one); one of vectors alone, such as
        a norm, belongs to the stage before. Modules count in the order in which they are attributes.
        """
        own = dict(self.named_parameters())
        prefix, module = "", self
        while True:
            inside_of = {f"{prefix}{name}.": m for name, m in module.children()}
            stages = [[n for n in own if n.startswith(start)] for start in inside_of]
            whole = [start for start, names in zip(inside_of, stages, strict=True) if len(names) == len(own)]
            if not whole:
                break
            prefix, module = whole[0], inside_of[whole[0]]
        rest = [n for n in own if not any(n in names for names in stages)]
        joined: list[list[str]] = []
        for names in filter(None, [rest, *stages]):
            if joined and all(own[n].ndim < 2 for n in names):
                joined[-1] += names
            else:
                joined.append(names)
        return joined

    def to(self: Self, backend: str | Backend) -> Self:
        """Move parameters and buffers to a backend, in place. Do it before an optimiser takes them."""
        be = backends.get(backend)
        self._replace("to", lambda t: (be.copy(be.asarray(t.numpy())), be), lambda t: t.backend is be)
        return self

    def astype(self: Self, dtype: Any) -> Self:
        """Turn floating parameters and buffers into float32 or float64, in place. Do it before an optimiser takes them.

        float64 is for gradient checks: `model.astype(np.float64)`. Arrays that are given to the model follow.
        """
        dtype = np.dtype(dtype)
        if dtype.kind != "f":
            raise TypeError(f"astype: the dtype {dtype} must be floating, float32 or float64")
        self._replace(
            "astype",
            lambda t: (t.backend.astype(t.data, dtype), t.backend),
            lambda t: t.dtype == dtype or t.dtype.kind != "f",
        )
        return self

    def _replace(self, what: str, made: Callable, there: Callable) -> None:
        """Give parameters and buffers other data, but for those that are `there` already."""
        tensors = [t for kind in (Parameter, Tensor) for _, t in self.named_tensors(kind) if not there(t)]
        for t in tensors:
            if isinstance(t, Parameter) and t.owner is not None and t.owner() is not None:
                raise RuntimeError(
                    f"{what}: an optimiser holds these parameters in its flat buffer; move the model first, "
                    "then make the optimiser"
                )
        for t in tensors:
            trainable = t.requires_grad
            t.requires_grad_(False)
            (t.data, t.backend), t.grad = made(t), None
            if trainable:
                t.requires_grad_()

    # ---- state ---------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers on the host, by name."""
        self.parameters()  # raises while unbuilt
        return {name: np.array(t.numpy()) for kind in (Parameter, Tensor) for name, t in self.named_tensors(kind)}

    def load_state_dict(self: Self, state: dict[str, Any]) -> Self:
        """Copy values in place; names, shapes and dtype kinds must fit, else nothing changes and a ValueError says
        what differs."""
        self.parameters()
        own = {name: t for kind in (Parameter, Tensor) for name, t in self.named_tensors(kind)}
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


def inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) itself, or of all that a list, tuple or dict holds."""
    if isinstance(value, list | tuple | dict):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from inside(f"{name}.{key}", part)
    else:
        yield name, value
