"""Layers beside PyTorch's: values, and the gradients of the input and of every parameter, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tinynet as tn
from tests.test_parity_torch import F, conv, first, last, torch
from tinynet import nn

pytestmark = pytest.mark.parity


def activation(name, **options):
    """PyTorch's function of this name."""
    return lambda x, p: (getattr(F, name, None) or getattr(torch, name))(x, **options)


def separable(x, p):
    return conv(conv(x, p["depthwise"], groups=2, padding=1), p["pointwise"], p["bias"])


def recurrent(kind, x, p):
    """PyTorch's layer with our weights, whose gradients reach ours."""
    layer = getattr(torch.nn, kind)(3, 4, batch_first=True, dtype=torch.float64)
    ours = {"weight_ih_l0": p["weights.0.wx"].T, "weight_hh_l0": p["weights.0.wh"].T}
    if kind == "GRU":
        ours |= {"bias_ih_l0": p["weights.0.bx"], "bias_hh_l0": p["weights.0.bh"]}
    else:
        ours |= {"bias_ih_l0": p["weights.0.b"], "bias_hh_l0": torch.zeros_like(p["weights.0.b"])}
    return torch.func.functional_call(layer, ours, (x,))[0]


def attention(x, p):
    q, k, v = (
        part.unflatten(-1, (2, 2)).transpose(1, 2) for part in F.linear(x, p["in_weight"].T, p["in_bias"]).chunk(3, -1)
    )
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return F.linear(y, p["out_weight"].T, p["out_bias"])


# name: (layer, the input's shape, what PyTorch makes of the input and our parameters)
LAYERS = {
    "ReLU": (nn.ReLU(), (3, 4), activation("relu")),
    "LeakyReLU": (nn.LeakyReLU(0.2), (3, 4), activation("leaky_relu", negative_slope=0.2)),
    "GELU": (nn.GELU(), (3, 4), activation("gelu")),
    "Sigmoid": (nn.Sigmoid(), (3, 4), activation("sigmoid")),
    "Tanh": (nn.Tanh(), (3, 4), activation("tanh")),
    "Softmax": (nn.Softmax(), (3, 4), activation("softmax", dim=-1)),
    "LogSoftmax": (nn.LogSoftmax(), (3, 4), activation("log_softmax", dim=-1)),
    "ELU": (nn.ELU(0.7), (3, 4), activation("elu", alpha=0.7)),
    "SELU": (nn.SELU(), (3, 4), activation("selu")),
    "SiLU": (nn.SiLU(), (3, 4), activation("silu")),
    "Mish": (nn.Mish(), (3, 4), activation("mish")),
    "ReLU6": (nn.ReLU6(), (3, 4), activation("relu6")),
    "Hardtanh": (nn.Hardtanh(-0.5, 0.7), (3, 4), activation("hardtanh", min_val=-0.5, max_val=0.7)),
    "Hardsigmoid": (nn.Hardsigmoid(), (3, 4), lambda x, p: F.relu6(x + 3) / 6),  # its own gradient is by 1/6 in float32
    "Hardswish": (nn.Hardswish(), (3, 4), activation("hardswish")),
    "Softplus": (nn.Softplus(), (3, 4), activation("softplus")),
    "Softsign": (nn.Softsign(), (3, 4), activation("softsign")),
    "LogSigmoid": (nn.LogSigmoid(), (3, 4), activation("logsigmoid")),
    "PReLU": (nn.PReLU(), (3, 4), lambda x, p: F.prelu(x, p["weight"])),
    "Dense": (nn.Dense(3), (2, 4), lambda x, p: F.linear(x, p["weight"].T, p["bias"])),
    "Flatten": (nn.Flatten(), (2, 3, 4), lambda x, p: x.flatten(1)),
    "Embedding": (nn.Embedding(5, 3), None, lambda x, p: F.embedding(x, p["weight"])),
    "Conv1d": (
        nn.Conv1d(4, 3, stride=2),
        (2, 7, 2),
        lambda x, p: F.conv1d(x.mT, p["weight"].permute(2, 1, 0), p["bias"], 2).mT,
    ),
    "Conv2d": (
        nn.Conv2d(4, 3, padding=1, groups=2),
        (2, 5, 4, 2),
        lambda x, p: conv(x, p["weight"], p["bias"], padding=1, groups=2),
    ),
    "ConvTranspose2d": (
        nn.ConvTranspose2d(3, 3, stride=2),
        (2, 3, 4, 2),
        lambda x, p: last(F.conv_transpose2d(first(x), p["weight"].permute(3, 2, 0, 1), p["bias"], 2)),
    ),
    "SeparableConv2d": (nn.SeparableConv2d(3, 3, padding=1), (2, 5, 4, 2), separable),
    "MaxPool1d": (nn.MaxPool1d(2), (2, 6, 3), lambda x, p: F.max_pool1d(x.mT, 2).mT),
    "AvgPool1d": (nn.AvgPool1d(2), (2, 6, 3), lambda x, p: F.avg_pool1d(x.mT, 2).mT),
    "MaxPool2d": (nn.MaxPool2d(3, 2, padding=1), (2, 5, 6, 3), lambda x, p: last(F.max_pool2d(first(x), 3, 2, 1))),
    "AvgPool2d": (nn.AvgPool2d(3, 2, padding=1), (2, 5, 6, 3), lambda x, p: last(F.avg_pool2d(first(x), 3, 2, 1))),
    "GlobalAvgPool2d": (nn.GlobalAvgPool2d(), (2, 3, 4, 5), lambda x, p: x.mean((1, 2))),
    "AdaptiveAvgPool2d": (
        nn.AdaptiveAvgPool2d(2),
        (2, 5, 3, 2),
        lambda x, p: last(F.adaptive_avg_pool2d(first(x), 2)),
    ),
    "AdaptiveMaxPool2d": (
        nn.AdaptiveMaxPool2d(2),
        (2, 5, 3, 2),
        lambda x, p: last(F.adaptive_max_pool2d(first(x), 2)),
    ),
    "Upsample": (
        nn.Upsample(2, mode="bilinear"),
        (2, 3, 4, 2),
        lambda x, p: last(F.interpolate(first(x), scale_factor=2, mode="bilinear")),
    ),
    "BatchNorm": (
        nn.BatchNorm(),
        (3, 4, 2, 5),
        lambda x, p: last(F.batch_norm(first(x), None, None, p["weight"], p["bias"], True)),
    ),
    "LayerNorm": (nn.LayerNorm(), (3, 4, 5), lambda x, p: F.layer_norm(x, (5,), p["weight"], p["bias"])),
    "GroupNorm": (
        nn.GroupNorm(2),
        (3, 4, 2, 6),
        lambda x, p: last(F.group_norm(first(x), 2, p["weight"], p["bias"])),
    ),
    "RMSNorm": (nn.RMSNorm(), (3, 4, 5), lambda x, p: F.rms_norm(x, (5,), p["weight"], 1e-6)),
    "RNN": (nn.RNN(4), (2, 5, 3), lambda x, p: recurrent("RNN", x, p)),
    "LSTM": (nn.LSTM(4), (2, 5, 3), lambda x, p: recurrent("LSTM", x, p)),
    "GRU": (nn.GRU(4), (2, 5, 3), lambda x, p: recurrent("GRU", x, p)),
    "MultiHeadAttention": (nn.MultiHeadAttention(2), (2, 5, 4), attention),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    layer, shape, theirs = LAYERS[name]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (2, 3)) if shape is None else rng.standard_normal(shape)
    model = layer.build(x.shape[1:]).astype(np.float64)
    for p in model.parameters():
        p.data[...] = rng.standard_normal(p.shape)
    ours, their_x = tn.tensor(x, requires_grad=shape is not None), torch.tensor(x, requires_grad=shape is not None)
    named = {key: torch.tensor(p.numpy(), requires_grad=True) for key, p in model.named_parameters()}
    y, t = model(ours), theirs(their_x, named)
    y = y[0] if isinstance(y, tuple) else y
    assert_allclose(y.numpy(), t.detach().numpy(), rtol=1e-9, atol=1e-11)
    g = rng.standard_normal(y.shape)
    y.backward(g)
    t.backward(torch.tensor(g))
    for a, b in [(ours, their_x)] * (shape is not None) + [(p, named[key]) for key, p in model.named_parameters()]:
        assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-10)
