"""What the tests of optimisers share: parameters, gradients, and every rule with each of its options."""

import functools

import numpy as np

import tinynet as tn
from tinynet import nn, optim

BE = tn.backends.get("numpy")
SHAPES = ((3, 4), (5,), (2, 2, 2))

# Each rule's settings: at first the defaults, then every option alone, then all together.
SETTINGS = {
    "SGD": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.3},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"momentum": 0.8, "dampening": 0.2, "weight_decay": 0.1, "maximize": True},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    ],
    "Adam": [
        {},
        {"betas": (0.8, 0.95), "eps": 1e-3},
        {"weight_decay": 0.1},
        {"amsgrad": True},
        {"maximize": True},
        {"betas": (0.5, 0.6), "weight_decay": 0.1, "amsgrad": True, "maximize": True},
    ],
    "AdamW": [{}, {"weight_decay": 0.3}, {"betas": (0.5, 0.6), "eps": 1e-3, "amsgrad": True, "maximize": True}],
    "RMSprop": [
        {},
        {"alpha": 0.9, "eps": 1e-3},
        {"momentum": 0.5},
        {"centered": True},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"alpha": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.1, "maximize": True},
    ],
    "Adagrad": [
        {},
        {"lr_decay": 0.1},
        {"initial_accumulator_value": 0.5},
        {"weight_decay": 0.1, "eps": 1e-3},
        {"maximize": True},
        {"lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.1, "maximize": True},
    ],
    "Adadelta": [{}, {"rho": 0.8, "eps": 1e-3}, {"weight_decay": 0.1}, {"maximize": True}],
    "Adamax": [{}, {"betas": (0.8, 0.9), "eps": 1e-3}, {"weight_decay": 0.1}, {"maximize": True}],
    "NAdam": [
        {},
        {"betas": (0.8, 0.9), "eps": 1e-3},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"momentum_decay": 0.1},
        {"maximize": True, "weight_decay": 0.1},
    ],
    "Lion": [{}, {"betas": (0.5, 0.7)}, {"weight_decay": 0.1}, {"maximize": True}],
    "LAMB": [{}, {"betas": (0.8, 0.9), "eps": 1e-3}, {"weight_decay": 0}, {"weight_decay": 0.3, "maximize": True}],
    "Muon": [
        {},
        {"momentum": 0.5, "nesterov": False},
        {"weight_decay": 0},
        {"adjust_lr_fn": "match_rms_adamw"},
        {"ns_steps": 3, "ns_coefficients": (2.0, -1.5, 0.5)},
        {"eps": 5.0},
    ],
}
EVERY = [(name, settings) for name, all_of_it in SETTINGS.items() for settings in all_of_it]
RULES = [getattr(optim, name) for name in SETTINGS]
KINDS = [
    *RULES,
    functools.partial(optim.SGD, momentum=0.9),
    functools.partial(optim.RMSprop, centered=True, momentum=0.9),
    functools.partial(optim.Adam, amsgrad=True),
]


def parameters(seed=0, shapes=SHAPES, dtype=np.float64, be=BE):
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal(s).astype(dtype) for s in shapes]
    return [nn.Parameter(be.asarray(v), be) for v in values]


def set_grads(params, rng):
    grads = [rng.standard_normal(p.shape).astype(p.dtype) for p in params]
    for p, g in zip(params, grads, strict=True):
        p.grad = tn.tensor(g, backend=p.backend)
    return grads
