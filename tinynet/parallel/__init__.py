"""Data parallelism: replicas of a model that share every step. See `trainer`."""

from ..nn.module import evaluating
from .capture import capture
from .start import check_moves, trainer
from .trainer import Metric, Trainer, accuracy, kept, measured, sums
