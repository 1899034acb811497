"""Module: a layer or a network. A layer creates its parameters when it first sees its input, so sizes are inferred."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backends
from ..autograd import no_grad
from ..backends.switches import scope
from ..hints import call, missing, refuse_renamed, renamed
from ..ops import random
from ..tensor import Tensor
from . import door, summary
from .fields import Field
from .fusion import set_fusion
from .tree import INFERRED, Parameter, Tree

__all__ = ["Module", "Parameter"]


class Module(Tree):
    """A layer or a network. Subclasses define `forward(x, …)`, and `create(shape)` where they have parameters.

    A module is called with one or more inputs, arrays or tensors, and with keywords (`mask=`); it returns what its
    `forward` does: a Tensor, or a tuple or dict of them. Integer arrays stay integers, but that layers which compute
    in floats (`input_dtype`) turn them into floats.

    Attributes:
        training: whether dropout drops; `train()` and `eval()` set it.
        input_dtype: what its first input is made of, where the layer cares: np.float32, np.int64 (ids), or None.
        built: the shape of the first input, without the batch axis, that sizes were inferred from; None before.
        built_for: {position or name: (shape, dtype)} where it was built for more than one input of its `input_dtype`.
        output_shape: of the first call, without the batch axis; a tuple or dict where there are several outputs.
    """

    training: bool = True
    input_dtype: Any = None
    built: tuple | None = None
    built_for: dict | None = None
    output_shape: Any = None
    _arguments: tuple[tuple, dict] = ((), {})
    _hooks: list[Callable]
    trainable = renamed("freeze() or unfreeze() of the layer")  # Keras's

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__signature__ = call(cls.__init__, 1)  # type: ignore[attr-defined] # help would show __new__'s

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        refuse_renamed(cls.__name__, cls.__init__, kwargs)
        if (args or kwargs) and cls.__init__ is object.__init__:  # which says nothing beside a __new__
            given = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
            raise TypeError(f"{cls.__name__} takes no arguments, got {given:.80}")
        self = super().__new__(cls)
        self._arguments = (args, kwargs)  # so that `tn.save` can write how the module was made
        self._hooks = []
        return self

    # ---- what subclasses define ---------------------------------------------------------------------
    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The output for the inputs, which come as tensors."""
        raise TypeError(f"{type(self).__name__} has no forward(); a module must define it")

    def output_size(self, shape: tuple) -> tuple:
        """The output's shape for an input of `shape`, both without the batch axis, by arithmetic: nothing is run.

        All layers of tinynet say it, so that a model is loaded, and bad data found, without a forward. ValueError
        where the layer takes no such input; TypeError where a class of your own does not define it.
        """
        raise TypeError(f"{type(self).__name__} does not say the size of its output; define output_size(shape)")

    def multiply_adds(self, shape: tuple) -> int:
        """How many multiplications, each with an addition, one sample of `shape` takes, without the modules inside."""
        return 0

    def receptive(self, field: Field) -> Field:
        """The receptive field of the output where the input's is `field`; None where it is not known."""
        return None

    # ---- calling -------------------------------------------------------------------------------------
    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if options or len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].data.dtype.kind != "f":
            inputs, options = door.prepared(self, inputs, options)
        try:
            y = self._first_call(inputs, options) if self.built is None else self.forward(*inputs, **options)
        except (ValueError, TypeError, IndexError) as error:
            door.explain(error, self, inputs)
            raise
        if y is None:
            raise TypeError(f"{type(self).__name__}.forward gave None; it must return its output")
        if self.output_shape is None:
            self.output_shape = door.shape_of(y)
        for hook in self._hooks:
            hook(self, inputs[0] if len(inputs) == 1 else inputs, y)
        return y

    def _first_call(self, inputs: tuple, options: dict) -> Any:
        """Create the parameters, then forward. When that fails nothing is built, here and inside: a second call may
        bring another shape."""
        with self.all_or_nothing():
            shapes = door.sizes(self, inputs, options)
            self.create(*shapes)
            self.built = () if shapes[0] is None else shapes[0]
            if (given := door.record(self, inputs, options)) is not None:
                self.built_for = given
            return self.forward(*inputs, **options)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """When this context is left by an exception, the attributes of all modules, and the random state, are what they
        were."""
        before, draws = [(vars(m), dict(vars(m))) for m in self.modules()], random.state.snapshot()
        try:
            yield
        except BaseException:
            for attributes, then in before:
                attributes.clear()
                attributes.update(then)
            random.state.restore(draws)
            raise

    _all_or_nothing = all_or_nothing

    def build(self, *shapes: Any, input_dtype: Any = None, **named: Any) -> Module:
        """Create all parameters for inputs of these shapes (without the batch axis) and return the module.

        Args:
            shapes: one for each input: `model.build((28, 28, 1))`, `two.build(3, (4, 4, 1))`; by keyword for inputs
                that are given by name. None: the input is None.
            input_dtype: a dtype for all of them, or a dict by position or name; by default the layer's `input_dtype`,
                else float32. Networks that take ids: `model.build(64, input_dtype=np.int64)`.
        Nothing is run where all layers say their output's size; otherwise the model is called on zeros, one sample.
        Again with the same first shape: nothing, but for layers that were put in since. With another: a ValueError.
        """
        shapes = tuple(map(door.checked_shape, shapes))
        named = {name: door.checked_shape(shape) for name, shape in named.items()}
        given = [*shapes, *named.values()]
        if not given:
            raise TypeError("build: pass the input's shape, without the batch axis: model.build((28, 28, 1))")
        if self.built is not None:
            if self.built != given[0]:
                raise ValueError(
                    f"build: {type(self).__name__} was built for inputs of shape {self.built}, "
                    f"now {given[0]}; make a new model for another shape"
                )
            if not self.unbuilt():
                return self
            for module in self.modules():  # a layer was put in since
                module.output_shape = None
        if len(given) == 1 and not named and door.as_by_default(self, input_dtype) and self._inferred(given[0]):
            return self
        inputs, options = door.zeros(self, shapes, named, input_dtype)
        with evaluating(self), set_fusion(False):  # every layer is called, and so knows its output's shape
            self(*inputs, **options)
        return self

    @property
    def by_arithmetic(self) -> bool:
        """Whether `output_size` tells what `forward` returns: no class of one's own overrides forward alone."""
        lines = type(self).__mro__
        size, forward = (next(i for i, c in enumerate(lines) if name in vars(c)) for name in ("output_size", "forward"))
        ours = lines[forward].__module__.startswith(f"{__package__.partition('.')[0]}.")
        return lines[size] is not Module and (ours or size <= forward)

    def infer(self, shape: tuple) -> None:
        """Create the parameters for inputs of `shape`, without the batch axis, by `output_size`: nothing is run."""

        def create(module: Module, size: tuple) -> None:
            if module.built is None:
                module.create(size)
                module.built = size

        for module, _, size in summary.walk(self, "output_size", shape, create):
            if module.output_shape is None:
                module.output_shape = size

    def _inferred(self, shape: tuple) -> bool:
        """Whether that could be done for all modules; if not, all is as it was."""
        if not all(module.by_arithmetic for module in self.modules()):
            return False
        try:
            with self.all_or_nothing():
                self.infer(shape)
                if self.unbuilt():
                    raise ValueError("output_size does not go through all layers")
        except (ValueError, TypeError, IndexError):  # a call says best what is wrong
            return False
        return True

    def parameter(self, shape: tuple, initialise: Callable) -> Parameter:
        """A new parameter: `initialise(shape, rng)` returns its float32 values."""
        be, values = backends.current(), initialise(shape, random.state.generator("init"))
        if np.shape(values) != tuple(shape):
            raise ValueError(
                f"{type(self).__name__}: the initialiser made values of shape {np.shape(values)}, the parameter's is "
                f"{tuple(shape)}; weights of PyTorch come through tn.interchange.from_torch"
            )
        return Parameter(be.copy(be.asarray(values, np.float32)), be)

    def register_forward_hook(self, hook: Callable[[Module, Any, Any], None]) -> Callable[[], None]:
        """Call `hook(module, x, y)` after each forward (x is a tuple where there are several inputs); returns a
        function that removes it. What the hook returns is not looked at: to change the output, write a layer. A hooked
        layer is never fused with its neighbours."""
        self._hooks.append(hook)
        return lambda: self._hooks.remove(hook)

    if not TYPE_CHECKING:  # type checkers would accept any attribute

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # a property that raised AttributeError: say what it said
                return object.__getattribute__(self, name)
            if self.built is None and any(name in inspect.get_annotations(c) for c in type(self).__mro__):
                raise AttributeError(f"{type(self).__name__} has no {name} yet, as {INFERRED}", name=name, obj=self)
            raise missing(type(self).__name__, name, self)

    # ---- showing -------------------------------------------------------------------------------------
    def summary(self) -> None:
        """Print a table of layers: output shapes, parameters, multiply-adds, receptive fields (of images) and the
        memory that an output takes, for one sample in float32. Layers that were put in since it was built are built."""
        if self.built and self.built_for is None and self.unbuilt():
            self.build(self.built)
        print(summary.table(self))

    def __str__(self) -> str:
        return summary.tree(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What a notebook shows."""
        printer.text(str(self))

    def __repr__(self) -> str:
        args, kwargs = self._arguments
        inside = [summary.shown(a) for a in args] + [f"{k}={summary.shown(v)}" for k, v in kwargs.items()]
        return f"{type(self).__name__}({', '.join(inside)})"


def made_with(module: Module) -> tuple[tuple, dict]:
    """The arguments, (by place, by name), that a module was made with."""
    return module._arguments


def hooks_of(module: Module) -> list[Callable]:
    """The functions that a module's output is shown to; the list itself."""
    return module._hooks


@contextmanager
def restoring_modes(model: Module) -> Iterator[None]:
    """Behind this context each module of `model` is in the mode, train or eval, that it was in."""
    modes = {m: m.training for m in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@scope
def evaluating(model: Module) -> Iterator[None]:
    """Within this context the model is in eval mode and nothing is recorded; the modes are then what they were."""
    with restoring_modes(model), no_grad():
        model.eval()
        yield
