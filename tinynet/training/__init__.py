"""Training: `fit` goes through the data, `evaluate` measures, and a run that is killed goes on where it was."""

from . import metrics
from .evaluate import evaluate, outputs, predict
from .fit import fit
from .generate import generate
from .nonfinite import NonFiniteError, NonFiniteWarning
from .search import Search, search
from .stopping import STOP, EarlyStopping
from .transfer import GradualUnfreezing, new_head
