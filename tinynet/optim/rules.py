"""The optimisers: update rules and defaults as PyTorch's. Each rule itself is in `backends/*/optim.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .optimizer import Optimizer


class SGD(Optimizer):
    """w -= lr · g, with momentum (Polyak 1964) or Nesterov's variant (Sutskever et al. 2013) if asked.

    weight_decay adds weight_decay · w to the gradient.
    """

    squares = False

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        *,
        momentum: float = 0,
        nesterov: bool = False,
        weight_decay: float = 0,
    ):
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def check_options(self, options: dict) -> None:
        super().check_options(options)
        if options.get("nesterov") and not options["momentum"]:
            raise ValueError("SGD: nesterov=True needs momentum > 0")

    def state_names(self, options: dict) -> tuple[str, ...]:
        return ("velocity",) if options["momentum"] else ()

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        be.sgd_step(
            w,
            g,
            state.get("velocity"),
            lr_count,
            loss,
            options["momentum"],
            options["nesterov"],
            options["weight_decay"],
        )


class Adam(Optimizer):
    """Steps of the mean gradient over its root mean square, both running averages, bias-corrected.

    (Kingma & Ba, "Adam", 2015, algorithm 1.) weight_decay adds weight_decay · w to the gradient.
    """

    decoupled = False

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def check_options(self, options: dict) -> None:
        betas = options.get("betas", (0, 0))
        if not isinstance(betas, tuple | list) or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{type(self).__name__}: betas={betas!r} must be two numbers in [0, 1)")
        super().check_options({name: value for name, value in options.items() if name != "betas"})

    def state_names(self, options: dict) -> tuple[str, ...]:
        return ("m", "v")

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        be.adam_step(
            w,
            g,
            state["m"],
            state["v"],
            lr_count,
            loss,
            *options["betas"],
            options["eps"],
            options["weight_decay"],
            self.decoupled,
        )


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights directly (Loshchilov & Hutter 2019)."""

    decoupled = True

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)


class RMSprop(Optimizer):
    """w -= lr · g / (root mean square of g), a running average (Hinton 2012, lecture 6e)."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0,
        weight_decay: float = 0,
    ):
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay)

    def state_names(self, options: dict) -> tuple[str, ...]:
        return ("v", "velocity") if options["momentum"] else ("v",)

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        be.rmsprop_step(
            w,
            g,
            state["v"],
            state.get("velocity"),
            lr_count,
            loss,
            options["alpha"],
            options["eps"],
            options["momentum"],
            options["weight_decay"],
        )


class Adagrad(Optimizer):
    """w -= lr · g / (root of the sum of all g² so far) (Duchi et al. 2011)."""

    def __init__(
        self, params: Iterable, lr: float = 1e-2, *, lr_decay: float = 0, eps: float = 1e-10, weight_decay: float = 0
    ):
        super().__init__(params, lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay)

    def state_names(self, options: dict) -> tuple[str, ...]:
        return ("v",)

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        be.adagrad_step(w, g, state["v"], lr_count, loss, options["eps"], options["lr_decay"], options["weight_decay"])
