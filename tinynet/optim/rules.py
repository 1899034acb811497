"""The optimisers: update rules and defaults as PyTorch's. Each rule itself is in `backends/*/optim.py`.

All of them take weight_decay, which adds weight_decay · w to the gradient unless the docstring says otherwise, and
maximize=True, which makes the loss large instead of small (Muon excepted).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..tensor import Tensor
from .optimizer import Optimizer


class SGD(Optimizer):
    """w -= lr · g, with momentum (Polyak 1964) or Nesterov's variant (Sutskever et al. 2013) if asked.

    velocity = momentum · velocity + (1 - dampening) · g, but g itself at the first step.
    """

    squares = False

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        *,
        momentum: float = 0,
        dampening: float = 0,
        nesterov: bool = False,
        weight_decay: float = 0,
        maximize: bool = False,
    ):
        rule = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
        super().__init__(params, lr=lr, **rule, weight_decay=weight_decay, maximize=maximize)

    def check_options(self, options: dict) -> None:
        super().check_options(options)
        if options.get("nesterov") and (not options["momentum"] or options["dampening"]):
            raise ValueError("SGD: nesterov=True needs momentum > 0 and no dampening")

    def state_names(self, options: dict) -> tuple[str, ...]:
        return ("velocity",) if options["momentum"] else ()

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        rule = take(options, "momentum", "dampening", "nesterov", "weight_decay", "maximize")
        be.sgd_step(w, g, state.get("velocity"), lr_count, loss, *rule)


class Adam(Optimizer):
    """Steps of the mean gradient over its root mean square, both running averages, bias-corrected.

    (Kingma & Ba, "Adam", 2015, algorithm 1.) amsgrad: the root of the largest mean square so far (Reddi et al. 2018).
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
        amsgrad: bool = False,
        maximize: bool = False,
    ):
        rule = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, lr=lr, **rule, maximize=maximize)

    def state_names(self, options: dict) -> tuple[str, ...]:
        return ("m", "v", "largest") if options["amsgrad"] else ("m", "v")

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        rule = *take(options, "betas", "eps", "weight_decay"), self.decoupled, options["maximize"]
        be.adam_step(w, g, state["m"], state["v"], state.get("largest"), lr_count, loss, *rule)


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights directly, by lr · weight_decay (Loshchilov & Hutter 2019)."""

    decoupled = True

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        maximize: bool = False,
    ):
        rule: dict[str, Any] = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, lr, **rule, maximize=maximize)


class RMSprop(Optimizer):
    """w -= lr · g / (root mean square of g), a running average (Hinton 2012, lecture 6e).

    centered: over the standard deviation of g instead (Graves 2013, §4.2).
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0,
        centered: bool = False,
        weight_decay: float = 0,
        maximize: bool = False,
    ):
        rule = {"alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered}
        super().__init__(params, lr=lr, **rule, weight_decay=weight_decay, maximize=maximize)

    def state_names(self, options: dict) -> tuple[str, ...]:
        return "v", *("mean",) * bool(options["centered"]), *("velocity",) * bool(options["momentum"])

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        rule = take(options, "alpha", "eps", "momentum", "weight_decay", "maximize")
        be.rmsprop_step(w, g, state["v"], state.get("mean"), state.get("velocity"), lr_count, loss, *rule)


class Adagrad(Optimizer):
    """w -= lr · g / (root of the sum of all g² so far), a sum that starts at initial_accumulator_value
    (Duchi et al. 2011)."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        *,
        lr_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        weight_decay: float = 0,
        maximize: bool = False,
    ):
        rule = {"lr_decay": lr_decay, "initial_accumulator_value": initial_accumulator_value, "eps": eps}
        super().__init__(params, lr=lr, **rule, weight_decay=weight_decay, maximize=maximize)
        for group in self.groups:
            group.be.copyto(group.state["v"], float(group.options["initial_accumulator_value"]))

    def state_names(self, options: dict) -> tuple[str, ...]:
        return ("v",)

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        rule = take(options, "eps", "lr_decay", "weight_decay", "maximize")
        be.adagrad_step(w, g, state["v"], lr_count, loss, *rule)


class Adadelta(Optimizer):
    """w -= lr · g · (root mean square of the steps) / (root mean square of g) (Zeiler 2012, algorithm 1)."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 1.0,
        *,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        maximize: bool = False,
    ):
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize)

    def state_names(self, options: dict) -> tuple[str, ...]:
        return "v", "u"

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        rule = take(options, "rho", "eps", "weight_decay", "maximize")
        be.adadelta_step(w, g, state["v"], state["u"], lr_count, loss, *rule)


class Adamax(Optimizer):
    """Adam with the largest |g|, decaying, in place of the root mean square (Kingma & Ba 2015, algorithm 2)."""

    squares = False

    def __init__(
        self,
        params: Iterable,
        lr: float = 2e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        maximize: bool = False,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize)

    def state_names(self, options: dict) -> tuple[str, ...]:
        return "m", "u"

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        rule = take(options, "betas", "eps", "weight_decay", "maximize")
        be.adamax_step(w, g, state["m"], state["u"], lr_count, loss, *rule)


class NAdam(Optimizer):
    """Adam that looks ahead along its mean gradient, as Nesterov's momentum does (Dozat 2016).

    decoupled_weight_decay: the decay is AdamW's. `rest`, of the state, is 1 minus the product of the momenta so far.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 2e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
    ):
        rule = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay}
        super().__init__(params, lr=lr, **rule, decoupled_weight_decay=decoupled_weight_decay, maximize=maximize)

    def state_names(self, options: dict) -> tuple[str, ...]:
        return "m", "v", "rest"

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        names = "betas", "eps", "weight_decay", "decoupled_weight_decay", "momentum_decay", "maximize"
        be.nadam_step(w, g, state["m"], state["v"], state["rest"], lr_count, loss, *take(options, *names))


class Lion(Optimizer):
    """Steps of lr times the sign of a mean gradient; one vector of state (Chen et al. 2023, algorithm 2).

    weight_decay shrinks the weights directly, as AdamW's does.
    """

    squares = False

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        maximize: bool = False,
    ):
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize)

    def state_names(self, options: dict) -> tuple[str, ...]:
        return ("m",)

    def update(self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict) -> None:
        be.lion_step(w, g, state["m"], lr_count, loss, *take(options, "betas", "weight_decay", "maximize"))


class LAMB(Optimizer):
    """Adam's step, and the decay, scaled for each parameter by ‖w‖ / ‖step‖: for large batches (You et al. 2020).

    weight_decay · w is added to the step, not to the gradient.
    """

    whole = True

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 1e-2,
        maximize: bool = False,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize)

    def state_names(self, options: dict) -> tuple[str, ...]:
        return "m", "v"

    def update(
        self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict, shapes: Any = ()
    ) -> None:
        rule = take(options, "betas", "eps", "weight_decay", "maximize")
        be.lamb_step(w, g, state["m"], state["v"], tuple(map(math.prod, shapes)), lr_count, loss, *rule)


class Muon(Optimizer):
    """Momentum whose matrices are made orthogonal before each step (Jordan et al. 2024), and AdamW for all else.

    Parameters of two axes and more are matrices: (in, out), (KH · KW · C, F). The rest (biases, norms), and groups with
    matrices=False (Jordan: embeddings and the last layer), move by AdamW's rule with the same lr, `betas` and `eps`.
    weight_decay shrinks the weights directly. adjust_lr_fn: "original" scales a step by √max(1, out / in),
    "match_rms_adamw" by 0.2 √max(in, out), so that AdamW's learning rates fit (Liu et al. 2025).
    Products are computed in the parameters' dtype, where PyTorch takes bfloat16.
    """

    whole = True

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        ns_steps: int = 5,
        adjust_lr_fn: str = "original",
        eps: float = 1e-7,
        betas: tuple[float, float] = (0.9, 0.999),
        matrices: bool | None = None,
    ):
        rule = {"weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov, "adjust_lr_fn": adjust_lr_fn}
        series = {"ns_coefficients": ns_coefficients, "ns_steps": ns_steps}
        super().__init__(params, lr=lr, **rule, **series, eps=eps, betas=betas, matrices=matrices)

    def check_options(self, options: dict) -> None:
        rest = dict(options)
        if rest.pop("adjust_lr_fn", "original") not in ("original", "match_rms_adamw"):
            raise ValueError(f'Muon: adjust_lr_fn={options["adjust_lr_fn"]!r} must be "original" or "match_rms_adamw"')
        if len(rest.pop("ns_coefficients", (0, 0, 0))) != 3 or rest.pop("matrices", None) not in (None, True, False):
            raise ValueError("Muon: ns_coefficients must be three numbers, and matrices True, False or None")
        super().check_options(rest)

    def kind(self, p: Tensor, options: dict) -> dict:
        if options["matrices"] and p.ndim < 2:
            raise ValueError(f"Muon: a parameter of shape {p.shape} is no matrix; leave matrices=True out")
        return {"matrices": p.ndim >= 2 if options["matrices"] is None else options["matrices"]}

    def state_names(self, options: dict) -> tuple[str, ...]:
        return ("velocity",) if options["matrices"] else ("m", "v")

    def update(
        self, be: Any, w: Any, g: Any, state: dict, lr_count: Any, loss: Any, options: dict, shapes: Any = ()
    ) -> None:
        decay = options["weight_decay"]
        if not options["matrices"]:
            rule = *take(options, "betas", "eps"), decay, True, False
            return be.adam_step(w, g, state["m"], state["v"], None, lr_count, loss, *rule)
        step, stop = be.full(w.shape, 0, w.dtype), 0
        be.muon_momentum_step(g, state["velocity"], step, loss, options["momentum"], options["nesterov"], False)
        for shape in shapes:
            start, stop = stop, stop + math.prod(shape)
            rows, columns = math.prod(shape[:-1]), shape[-1]
            matrix = be.reshape(step[start:stop], (rows, columns))
            root = max(1, columns / rows) if options["adjust_lr_fn"] == "original" else 0.04 * max(rows, columns)
            series = *take(options, "ns_steps", "eps"), options["ns_coefficients"]
            be.copyto(matrix, (orthogonal(Tensor(matrix, be), *series) * math.sqrt(root)).data)
        return be.sgd_step(w, step, None, lr_count, loss, 0.0, 0.0, False, decay, False)


def orthogonal(x: Tensor, steps: int, eps: float, coefficients: tuple[float, float, float]) -> Tensor:
    """About U Vᵀ for x = U S Vᵀ (rows, columns): singular values near 1, by Newton and Schulz's iteration of an odd
    polynomial of degree five (Jordan et al. 2024). It converges as far as its coefficients do: to 0.7 … 1.2."""
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    norm = Tensor(x.backend.squares(x.data), x.backend).sqrt().clip(eps, None)
    x = x / norm.astype(x.dtype)
    for _ in range(steps):
        gram = x @ x.T
        x = x * a + (gram * b + gram @ gram * c) @ x
    return x.T if tall else x


def take(options: dict, *names: str) -> tuple:
    """The values of these settings in this order; a pair (betas) as two."""
    values: list = []
    for name in names:
        value = options[name]
        values += value if isinstance(value, tuple | list) else (value,)
    return tuple(values)


OPTIMIZERS = {
    rule.__name__.lower(): rule
    for rule in (SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, NAdam, Lion, LAMB, Muon)
}
