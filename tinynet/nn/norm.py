"""Normalisation layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..integers import count, counts
from ..ops.norm import shares
from ..tensor import Tensor
from . import init
from .activation import SameSize
from .module import Parameter


class _Norm(SameSize):
    """Base: gamma (`weight`) and beta (`bias`) of the features that are normalised.

    gamma_init="zeros" makes a residual branch that ends in the layer begin as nothing (Goyal et al. 2017, §5.1).
    """

    input_dtype = np.float32
    weight: Parameter | None = None
    bias: Parameter | None = None

    def __init__(self, *extra: Any, eps: float, affine: bool = True, gamma_init: str | Callable = "ones"):
        if extra:
            raise TypeError(
                f"{type(self).__name__} infers its sizes: write nn.{type(self).__name__}() for PyTorch's "
                f"nn.{type(self).__name__}({', '.join(map(repr, extra))}); all else is named"
            )
        self.eps, self.affine, self.gamma_init = eps, affine, init.get(gamma_init)

    def features(self, shape: tuple) -> tuple:
        """The shape of gamma and beta for inputs of `shape` (no batch axis)."""
        return shape[-1:]

    def create(self, shape: tuple) -> None:
        self.check(shape)
        if self.affine:
            self.weight = self.parameter(self.features(shape), self.gamma_init)
            self.bias = self.parameter(self.features(shape), init.zeros)

    def output_size(self, shape: tuple) -> tuple:
        self.check(shape)
        return shape

    def check(self, shape: tuple) -> None:
        """Raise ValueError where the layer takes no inputs of `shape` (no batch axis)."""
        name = type(self).__name__
        if not shape:
            raise ValueError(f"{name}: inputs must be (N, …, features), got (N,); add an axis with x[:, None]")
        if self.weight is not None and self.weight.shape != self.features(shape):
            raise ValueError(
                f"{name}: it was built for features {self.weight.shape}, an input {('N', *shape)} has "
                f"{self.features(shape)}"
            )
        self.features(shape)


class BatchNorm(_Norm):
    """x (N, …, C): each channel normalised over the batch, then scaled and shifted (Ioffe & Szegedy 2015).

    In training by the statistics of the batch, of the whole of it for any number of replicas. `running_mean` and
    `running_var` average what they were; by those it normalises in evaluation, and also in training once it is frozen
    (`layer.freeze()`), as fine-tuning wants it.

    Args:
        eps: added to the variance.
        momentum: running = (1 - momentum) · running + momentum · batch; None: the mean over all batches so far. The
            variance kept is the unbiased one. Statistics that are not finite are not kept.
        affine: whether gamma and beta are learnt.
        gamma_init: gamma's initialiser; "zeros" for the last layer of a residual branch.
        sync: False: each replica normalises its own share; the running statistics are the first replica's.
    Parameters: weight (C,), bias (C,). Buffers: running_mean (C,), running_var (C,), and batches, their number, where
        momentum is None.
    """

    running_mean: Tensor
    running_var: Tensor
    batches: Tensor
    follows_batch = ("running_mean", "running_var", "batches")

    def __init__(
        self,
        *extra: Any,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        sync: bool = True,
        gamma_init: str | Callable = "ones",
    ):
        super().__init__(*extra, eps=eps, affine=affine, gamma_init=gamma_init)
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"BatchNorm: momentum={momentum!r} must be in [0, 1], or None for the mean of all batches")
        self.momentum, self.sync = momentum, sync

    def create(self, shape: tuple) -> None:
        super().create(shape)
        self.buffer("running_mean", np.zeros(shape[-1:]))
        self.buffer("running_var", np.ones(shape[-1:]))
        if self.momentum is None:
            self.buffer("batches", np.zeros(1))

    def check(self, shape: tuple) -> None:
        super().check(shape)
        if self.built is not None and shape[-1:] != self.running_mean.shape:
            raise ValueError(f"BatchNorm: it was built for {self.running_mean.shape[0]} channels, got {('N', *shape)}")

    @property
    def fixed(self) -> bool:
        """Whether the running statistics are used: in evaluation, and where the layer is frozen."""
        return not self.training or (self.weight is not None and not self.weight.requires_grad)

    def folded(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """(weight, bias) of a convolution that does what it and then this layer do, by the running statistics."""
        scale = 1.0 / ops.sqrt(self.running_var + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = (-self.running_mean if bias is None else bias - self.running_mean) * scale
        return weight * scale, shift if self.bias is None else shift + self.bias

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """The layer, and with `relu` what a ReLU behind it returns."""
        if self.fixed:
            be = x.backend  # of copies: a graph keeps the values of now, whatever later batches do to the running ones
            mean, var = (Tensor(be.copy(v.data), be) for v in (self.running_mean, self.running_var))
            y = ops.normalize(x, mean, var, self.weight, self.bias, eps=self.eps)
            return ops.relu(y) if relu else y
        y, mean, var = ops.batch_norm(x, self.weight, self.bias, eps=self.eps, sync=self.sync, relu=relu)
        n = math.prod(x.shape[:-1])
        self._keep(mean, var, shares.whole(n) if self.sync else n)
        return y

    def _keep(self, mean: Tensor, var: Tensor, n: int) -> None:
        """Average the statistics of a batch of n values a channel into the running ones."""
        if n < 2:
            raise ValueError(
                "BatchNorm: a batch of one value a channel has no variance; train on larger batches (drop a last "
                "one of a single sample), or call eval() first"
            )
        if not shares.leads:
            return
        be, part = mean.backend, self.momentum
        if part is None:
            be.copyto(self.batches.data, be.add(self.batches.data, 1.0))
            part = be.divide(1.0, self.batches.data)
        for running, new in (self.running_mean, mean.data), (self.running_var, be.multiply(var.data, n / (n - 1))):
            old = running.data
            kept = be.add(be.multiply(old, be.subtract(1.0, part)), be.multiply(new, part))
            be.copyto(old, be.where(be.less(be.abs(kept), np.inf), kept, old))


class LayerNorm(_Norm):
    """x normalised over `axes` of each sample, then scaled and shifted (Ba, Kiros & Hinton 2016).

    Args: axes: an int or a tuple, counted with the batch axis or from the end; the last one by default.
    Parameters: weight and bias, in the shape of those axes.
    """

    def __init__(
        self,
        *extra: Any,
        axes: int | tuple = -1,
        eps: float = 1e-5,
        affine: bool = True,
        gamma_init: str | Callable = "ones",
    ):
        super().__init__(*extra, eps=eps, affine=affine, gamma_init=gamma_init)
        self.axes = counts("LayerNorm", "axes", axes)

    def features(self, shape: tuple) -> tuple:
        axes = [a % (len(shape) + 1) if a < 0 else a for a in self.axes]
        if not all(1 <= a <= len(shape) for a in axes):
            raise ValueError(f"LayerNorm: axes={self.axes} are not axes of {('N', *shape)}, or name the batch axis")
        return tuple(shape[a - 1] for a in sorted(axes))

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias, axes=self.axes, eps=self.eps)


class GroupNorm(_Norm):
    """x (N, …, C): its channels in `groups` groups, each normalised in each sample (Wu & He 2018).

    One group is layer normalisation over all but the batch; as many as channels, instance normalisation.
    Parameters: weight (C,), bias (C,).
    """

    def __init__(
        self, groups: int, *extra: Any, eps: float = 1e-5, affine: bool = True, gamma_init: str | Callable = "ones"
    ):
        super().__init__(*extra, eps=eps, affine=affine, gamma_init=gamma_init)
        self.groups = count("GroupNorm", "groups", groups, 1)

    def features(self, shape: tuple) -> tuple:
        if shape[-1] % self.groups:
            raise ValueError(f"GroupNorm: groups={self.groups} must divide the {shape[-1]} channels of {('N', *shape)}")
        return shape[-1:]

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.groups, self.weight, self.bias, eps=self.eps)


class RMSNorm(_Norm):
    """x (N, …, C) divided by the root of its mean square over the last axis, then scaled (Zhang & Sennrich 2019).

    Parameters: weight (C,).
    """

    def __init__(self, *extra: Any, eps: float = 1e-6, affine: bool = True, gamma_init: str | Callable = "ones"):
        super().__init__(*extra, eps=eps, affine=affine, gamma_init=gamma_init)

    def create(self, shape: tuple) -> None:
        self.check(shape)
        if self.affine:
            self.weight = self.parameter(self.features(shape), self.gamma_init)

    def forward(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.weight, eps=self.eps)


class Normalize(SameSize):
    """x (N, …, C): (x - mean) / std, by numbers of the training set that are kept with the model.

    So `evaluate`, `predict` and whoever loads the model normalise as the training did. It stands first:

    >>> model = nn.Sequential(nn.Normalize.fit(x_train), tn.models.cifar_cnn())

    Args: mean, std: a number for all channels, or one for each, (C,); std above 0.
    Buffers: mean, std, as they were given.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | tuple[float, ...], std: float | tuple[float, ...]):
        if not (np.all(np.isfinite(mean)) and np.all(np.asarray(std) > 0) and np.all(np.isfinite(std))):
            raise ValueError(f"Normalize: mean={mean!r:.80} must be finite, std={std!r:.80} finite and above 0")
        self.buffer("mean", np.asarray(mean, np.float64))
        self.buffer("std", np.asarray(std, np.float64))

    def __repr__(self) -> str:
        mean, std = (
            np.array2string(v.numpy(), precision=3, threshold=4, edgeitems=1, separator=", ")
            for v in (self.mean, self.std)
        )
        return f"Normalize({mean}, {std})"

    @classmethod
    def fit(cls, x: Any) -> Normalize:
        """The layer that gives each channel of x (N, …, C), the training set alone, mean 0 and standard deviation 1; a
        channel that never changes becomes 0."""
        x = np.asarray(x)
        if x.ndim < 2 or not len(x) or x.dtype.kind not in "fiub":
            raise ValueError(f"Normalize.fit: x must be numbers (N, …, C), got {x.dtype} {x.shape}")
        parts = [x[i : i + 1024].reshape(-1, x.shape[-1]) for i in range(0, len(x), 1024)]  # float64 takes memory
        n = x.size // x.shape[-1]
        mean = sum(part.sum(0, dtype=np.float64) for part in parts) / n
        std = np.sqrt(sum(np.square(part - mean).sum(0) for part in parts) / n)
        return cls(tuple(mean.tolist()), tuple(np.where(std > 0, std, 1).tolist()))

    def create(self, shape: tuple) -> None:
        self.check(shape)

    def output_size(self, shape: tuple) -> tuple:
        self.check(shape)
        return shape

    def check(self, shape: tuple) -> None:
        """Raise ValueError where the layer takes no inputs of `shape` (no batch axis)."""
        for given in (self.mean, self.std):
            if given.ndim and given.shape != shape[-1:]:
                raise ValueError(f"Normalize: it is for {given.shape[0]} channels, got {('N', *shape)}")

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std
