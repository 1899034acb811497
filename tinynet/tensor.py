"""Tensor: an array, its gradient, and its place on the tape."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backends
from .backends.contract import Backend
from .backends.foreign import holds_values, of_cupy
from .hints import unset


class Tensor:
    """An array of one backend that may take part in differentiation. Make one with `tinynet.tensor`.

    Attributes:
        data: the backend's array (an `np.ndarray`, a `cupy.ndarray`, …), never a Python scalar. What is written into it
            behind the tensor's back, as by `x.data[...] = 0`, no graph notices; `x[...] = 0` it does.
        grad: the gradient that `backward` left in a leaf, a Tensor of the same shape and dtype, or None.
        node: this tensor's place on the tape, None where no gradient flows.
        backend: the backend whose kernels run on `data`.

    Operators and methods are attached where each operation is declared, in `tinynet/ops`.

    Whose memory is it? A tensor made by `tinynet.tensor` holds a copy, and so does a graph of every array, list and
    batch that an operation, a layer or a loss was given: write to yours when you like, the gradient is that of the
    values at the call. A graph shares the memory of Tensors; where one changes in place, by `x += 1`, `x[...] = 1`, a
    step of an optimiser or `load_state_dict`, `backward` refuses. `x.data`, `x.numpy()` on the numpy backend,
    `x.detach()` and views share x's memory.
    """

    __slots__ = ("__weakref__", "backend", "data", "grad", "node", "owner")
    owner: Any  # the optimiser that moved it into its flat vector, a weak reference; set on parameters only

    def __init__(self, data: Any, backend: Backend, node: Any = None):
        self.data = data
        self.backend = backend
        self.node = node
        if node is None:  # what an operation returns has none: see __getattr__
            self.grad: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to (or through) this tensor."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        self.requires_grad_(flag)

    def numpy(self) -> np.ndarray:
        """The values on the host. On the numpy backend this is `data` itself, so a change shows in both, and no graph
        that saved it notices; elsewhere a copy."""
        return self.backend.numpy(self.data)

    def item(self) -> float | int | bool:
        """The one value of a one-element tensor, as a Python number; waits for the device."""
        if self.size != 1:
            raise ValueError(f"item: the tensor has shape {self.shape}, {self.size} values; item() needs one")
        return self.numpy().item()

    def detach(self) -> Tensor:
        """A tensor of the same data through which no gradient flows."""
        return Tensor(self.data, self.backend)

    def to(self, backend: str | Backend) -> Tensor:
        """A copy on another backend, off the tape (itself where it is there already)."""
        be = backends.get(backend)
        if be is self.backend:
            return self
        moved = Tensor(be.asarray(self.numpy()), be)
        if self.node is not None and self.node.is_leaf:
            moved.requires_grad_()  # type: ignore[attr-defined]
        return moved

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth value of a tensor of shape {self.shape} is ambiguous; "
                "compare, then use .numpy().any() or .numpy().all()"
            )
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __deepcopy__(self, memo: dict) -> Tensor:
        copied = type(self)(self.backend.copy(self.data), self.backend)  # type: ignore[call-arg]
        memo[id(self)] = copied
        if self.node is not None:
            if not self.node.is_leaf:
                raise ValueError("deepcopy: only leaf tensors can be copied; use .detach() for an intermediate one")
            copied.requires_grad_()  # type: ignore[attr-defined]
        else:
            copied.requires_grad_(False)  # type: ignore[attr-defined]
        if self.grad is not None:
            copied.grad = Tensor(self.backend.copy(self.grad.data), self.backend)
        return copied

    def __reduce__(self) -> tuple:
        if self.node is not None and not self.node.is_leaf:
            raise ValueError("pickle: only leaf tensors can be pickled; use .detach() for an intermediate one")
        return _unpickled, (type(self), self.numpy(), self.backend.name, self.node is not None)

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="tensor(", threshold=100, precision=4)
        extras = [f"dtype={self.dtype}"] if self.dtype != np.float32 else []
        extras += [f"backend={self.backend.name!r}"] if self.backend.name != "numpy" else []
        if self.node is not None:
            extras.append("requires_grad=True" if self.node.is_leaf else f"op={self.node.name}")
        return ", ".join([f"tensor({values}", *extras]) + ")"

    if not TYPE_CHECKING:  # type checkers would accept any attribute

        def __getattr__(self, name: str) -> Any:
            return unset(self, name)

    if TYPE_CHECKING:  # attached where each operation is declared; tests/test_tensor.py keeps this list true

        def _operation(self, *args: Any, **options: Any) -> Tensor: ...

        T: Tensor
        __array__: Callable[..., np.ndarray]
        __array_function__: Callable[..., Any]
        __iter__: Callable[..., Any]
        __setitem__: Callable[..., None]
        backward: Callable[..., None]
        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _operation
        __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __invert__ = __and__ = __rand__ = __or__ = __ror__ = (
            _operation
        )
        __xor__ = __rxor__ = __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _operation
        __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __neg__ = __abs__ = __getitem__ = _operation
        __iadd__ = __isub__ = __imul__ = __itruediv__ = __lt__ = __le__ = __gt__ = __ge__ = _operation
        __eq__ = __ne__ = _operation  # type: ignore[assignment]
        requires_grad_ = abs = astype = clip = exp = log = relu = sigmoid = sqrt = tanh = _operation
        sum = mean = max = min = var = logsumexp = softmax = log_softmax = std = prod = cumsum = cumprod = _operation
        any = all = argmax = argmin = argsort = sort = take = repeat = _operation
        broadcast_to = flatten = reshape = squeeze = transpose = _operation


def _unpickled(kind: type[Tensor], values: np.ndarray, backend: str, requires_grad: bool) -> Tensor:
    be = backends.get(backend)
    x: Any = kind(be.asarray(values), be)
    return x.requires_grad_(requires_grad)


def tensor(
    data: Any, *, dtype: Any = None, backend: str | Backend | None = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor that holds a copy of `data`, on every backend and whatever its dtype and strides: a later change of
    `data` does not show in it.

    Args:
        data: a number, nested sequences, an ndarray, a Tensor (taken off its tape).
        dtype: by default an ndarray's own; Python floats become float32, ints int64, bools bool.
        backend: "numpy", "cupy" or "simulator"; by default the current one (a Tensor's own).
        requires_grad: whether `backward` shall leave a gradient in `.grad`; floating dtypes only.
    """
    if isinstance(data, Tensor):
        backend = data.backend if backend is None else backend
        data = data.numpy()
    be = backends.current() if backend is None else backends.get(backend)
    if dtype is None and not hasattr(data, "dtype"):
        kind = np.asarray(data).dtype
        if kind.hasobject:
            raise ValueError("tensor: the nested sequences have unequal lengths, or hold something that is no number")
        dtype = np.float32 if kind == np.float64 and not holds_values(data) else kind
    array = data if of_cupy(data) else np.array(data, dtype, order="C")
    if not array.dtype.isnative:  # of a file, say
        array = array.astype(array.dtype.newbyteorder("="))
    result = Tensor(be.copy(be.asarray(array, dtype)) if array is data else be.asarray(array), be)
    return result.requires_grad_() if requires_grad else result
