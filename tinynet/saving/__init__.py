"""Files: weights, architectures and whole runs, written atomically."""

from .checkpoint import CheckpointError, load, save
from .registry import register
