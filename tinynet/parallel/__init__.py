"""Data parallelism: replicas of a model that share every step. See `trainer`."""

from . import replicas
from .trainer import Metric, Trainer, accuracy, check_moves, evaluating, kept, measured, sums, trainer
