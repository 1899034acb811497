"""Ensemble: several networks that answer as one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from .. import ops
from ..tensor import Tensor
from .advice import FITTED, last_activation
from .fields import Field, joined
from .module import Module

AVERAGES = ("softmax", "sigmoid", "outputs")
OTHERS = dict.fromkeys(("mse", "l1", "huber"), "outputs")  # losses, and what of the networks is then averaged
OTHERS["binary_cross_entropy_with_logits"] = "sigmoid"


class Ensemble(Module):
    """Networks for the same inputs, whose answers are averaged (Hansen & Salamon 1990).

    "softmax", for classifiers: x → log of the members' mean probabilities (N, …, K), logits whose softmax is that mean,
    so that `tn.predict`, `tn.evaluate`, `tn.report` and a loss take it as any classifier; of one logit (N, 1) the mean
    is that of sigmoids. "sigmoid", for labels that do not exclude one another: logits whose sigmoids are the mean of
    the members'. "outputs": their mean, for regression. Train the members first, each from a seed of its own; an
    ensemble can be trained on, too.

    >>> tn.Ensemble([tn.load(path) for path in paths])

    Args: members: modules whose outputs are logits, or numbers; built ones make the ensemble built. average: one of
        those three.
    Raises: TypeError where a member is no Module; ValueError where there is none, where their shapes differ, where one
        ends in softmax or sigmoid but outputs are not what is averaged, and where one was trained with the loss of
        another average.
    """

    def __init__(self, members: Iterable[Module], *, average: str = "softmax"):
        if average not in AVERAGES:
            raise ValueError(f"Ensemble: average={average!r} is none of {', '.join(AVERAGES)}")
        self.average = average
        self.members = list(members)
        if not self.members or not all(isinstance(m, Module) for m in self.members):
            kinds = ", ".join(type(m).__name__ for m in self.members)
            raise (TypeError if self.members else ValueError)(f"Ensemble: pass a list of modules, got [{kinds}]")
        for m in self.members if average == "softmax" else ():
            if (loss := _fitted(m)) in OTHERS:
                raise ValueError(f"Ensemble: a member was trained with {loss}; pass average={OTHERS[loss]!r}")
        if average != "outputs" and (ends := [end for m in self.members if (end := last_activation(m))]):
            raise ValueError(
                f"Ensemble: a member ends in {ends[0]}; members must return logits, so leave it out, or pass "
                "average='outputs'"
            )
        losses = {_fitted(m): vars(m).get(FITTED) for m in self.members}
        common = next(iter(losses.values())) if len(losses) == 1 else None
        if common is None and average == "sigmoid":
            common = ops.binary_cross_entropy_with_logits
        if common is not None:
            vars(self)[FITTED] = common  # what `evaluate` and `predict` take it for
        built = {(m.built, m.output_shape) for m in self.members if m.built is not None}
        if len(built) > 1:
            shapes = ", ".join(f"{m.built} → {m.output_shape}" for m in self.members)
            raise ValueError(f"Ensemble: the members must take the same inputs and tell the same classes, got {shapes}")
        if built and not any(m.unbuilt() for m in self.members):
            ((self.built, self.output_shape),) = built
            self.built_for = self.members[0].built_for

    @property
    def input_dtype(self) -> Any:  # type: ignore[override]
        return self.members[0].input_dtype

    def forward(self, x: Any) -> Tensor:
        logits = ops.stack([member(x) for member in self.members])
        if self.average == "outputs":
            return ops.mean(logits, 0)
        if self.average == "softmax" and logits.shape[-1] > 1:
            return _mean(ops.log_softmax(logits))
        return _mean(ops.log_sigmoid(logits)) - _mean(ops.log_sigmoid(-logits))

    @property
    def ends_in(self) -> str | None:
        """The activation that all members end in: then their outputs are averaged."""
        ends = {last_activation(member) for member in self.members}
        return ends.pop() if len(ends) == 1 else None

    def output_size(self, shape: tuple) -> tuple:
        return [member.output_size(shape) for member in self.members][-1]

    def receptive(self, field: Field) -> Field:
        return joined(*(member.receptive(field) for member in self.members))

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, i: int) -> Module:
        return self.members[i]


def _fitted(model: Module) -> str:
    """The name of the loss that `fit` trained a model with; "" where none is known, and where one logit makes sigmoid
    and softmax the same."""
    loss = vars(model).get(FITTED)
    name = loss.removeprefix("ops.") if isinstance(loss, str) else getattr(loss, "__name__", "")
    return "" if OTHERS.get(name) == "sigmoid" and (model.output_shape or ())[-1:] == (1,) else name


def _mean(log_p: Tensor) -> Tensor:
    """The logarithm of the members' mean probability."""
    return ops.logsumexp(log_p, 0) - math.log(log_p.shape[0])
