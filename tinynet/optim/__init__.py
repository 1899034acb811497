"""Optimisers, gradient clipping, learning-rate schedules."""

from . import schedules
from .clip import clip_grad_norm, clip_grad_value
from .optimizer import Group, Optimizer
from .rules import LAMB, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, Muon, NAdam, RMSprop

OPTIMIZERS = {
    rule.__name__.lower(): rule
    for rule in (SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, NAdam, Lion, LAMB, Muon)
}

__all__ = [
    "LAMB",
    "OPTIMIZERS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Group",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm",
    "clip_grad_value",
    "schedules",
]
