"""Data parallelism: replicas of a model that share every step. See `trainer`."""

from . import replicas
from .capture import capture
from .trainer import Trainer, check_moves, correct_of, evaluating, kept, measured, trainer
