"""Training: `fit` goes through the data, `evaluate` measures, and a run that is killed goes on where it was."""

from .fit import STOP, EarlyStopping, NonFiniteError, evaluate, fit, outputs
