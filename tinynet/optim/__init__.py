"""Optimisers, gradient clipping, learning-rate schedules, averages of parameters."""

from . import schedules
from .averaging import EMA, SWA, update_statistics
from .clip import clip_grad_norm, clip_grad_value
from .optimizer import Group, Optimizer
from .rules import LAMB, OPTIMIZERS, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, Muon, NAdam, RMSprop
from .tuning import find_lr, layerwise, no_decay

__all__ = [
    "EMA",
    "LAMB",
    "OPTIMIZERS",
    "SGD",
    "SWA",
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
    "find_lr",
    "layerwise",
    "no_decay",
    "schedules",
    "update_statistics",
]
