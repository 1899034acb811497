"""tinynet: a neural-network engine that you can read in an evening.

>>> import tinynet as tn
>>> model = tn.models.mnist_cnn()
>>> history = tn.fit(model, tn.data.synthetic_digits(20_000), epochs=1)
>>> tn.evaluate(model, tn.data.mnist().test)
"""

import sys as _sys
from pathlib import Path as _Path

if not (_Path(__file__).parent / "kernels").exists() and (_Path(__file__).parents[1] / "kernels").is_dir():
    __path__.append(str(_Path(__file__).parents[1]))  # in a clone, tinynet.kernels lies beside the package

from . import backends, data, insight, interchange, models, moved, nn, ops, optim, parallel, saving, training
from .autograd import grad, no_grad
from .backends import use
from .backends.cpu.conv import set_conv_algorithm
from .gradcheck import gradcheck
from .hints import explain_missing as _explain_missing
from .insight import report
from .interchange import from_torch, to_torch
from .nn import Ensemble, Parameter, set_fusion
from .ops.random import seed
from .parallel import capture
from .saving import checkpoint, load, register, save
from .tensor import Tensor, tensor
from .training import EarlyStopping, evaluate, fit, generate, predict, search
from .version import __version__

_sys.modules[f"{__name__}.report"] = _sys.modules[f"{__name__}.insight.report"]  # to import it must not hide tn.report
vars(nn).update(from_torch=from_torch, to_torch=to_torch)

_explain_missing(tn=_sys.modules[__name__], nn=nn, ops=ops, optim=optim, data=data, models=models)

__all__ = [
    "EarlyStopping",
    "Ensemble",
    "Parameter",
    "Tensor",
    "backends",
    "capture",
    "data",
    "evaluate",
    "fit",
    "from_torch",
    "generate",
    "grad",
    "gradcheck",
    "insight",
    "interchange",
    "load",
    "models",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "parallel",
    "predict",
    "register",
    "report",
    "save",
    "saving",
    "search",
    "seed",
    "set_conv_algorithm",
    "set_fusion",
    "tensor",
    "to_torch",
    "training",
    "use",
]
