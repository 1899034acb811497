"""Layers: thin objects over the operations, which hold the parameters. Images are (N, H, W, C)."""

from . import init
from .activation import GELU, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from .blocks import Concatenate, Residual
from .conv import Conv2d
from .dense import Dense, Flatten
from .functions import Lambda
from .fusion import set_fusion
from .module import Module, Parameter
from .norm import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from .pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from .random import Dropout
from .recurrent import GRU, LSTM, RNN
from .sequential import Sequential

__all__ = [
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AvgPool2d",
    "BatchNorm",
    "Concatenate",
    "Conv2d",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Lambda",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool2d",
    "Module",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "init",
    "set_fusion",
]
