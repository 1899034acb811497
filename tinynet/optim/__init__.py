"""Optimisers, gradient clipping, learning-rate schedules."""

from . import schedules
from .clip import clip_grad_norm, clip_grad_value
from .optimizer import Group, Optimizer
from .rules import SGD, Adagrad, Adam, AdamW, RMSprop

OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop, "adagrad": Adagrad}

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Group",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm",
    "clip_grad_value",
    "schedules",
]
