"""tinynet: a neural-network engine that you can read in an evening."""

from . import backends, models, nn, ops, optim
from .autograd import grad, no_grad
from .backends import use
from .gradcheck import gradcheck
from .nn import set_fusion
from .ops.random import seed
from .tensor import Tensor, tensor

__version__ = "0.1.0"

__all__ = ["Tensor", "backends", "grad", "gradcheck", "models", "nn", "no_grad", "ops", "optim", "seed", "set_fusion", "tensor", "use"]
