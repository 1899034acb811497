"""The networks of networks.MODELS in PyTorch, each as its users write it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from networks import Model
from torch import nn
from torch.nn import functional

Place = tuple[nn.Parameter, str]  # and how tinynet's array gets there: its axes turned, "conv", "dense", or as they are


def build(network: Model, arrays: list[np.ndarray]) -> nn.Module:
    """The network with these weights."""
    model = {"conv_bn_relu": ConvNormRelu, "resnet20": ResNet20, "char_lstm": CharLSTM, "gpt": GPT}[network.kind](
        network
    )
    turns = {"conv": (3, 2, 0, 1), "dense": (1, 0)}
    with torch.no_grad():
        for (p, kind), a in zip(model.places(), arrays, strict=True):
            p.copy_(torch.from_numpy(np.ascontiguousarray(a.transpose(turns[kind]) if kind else a)))
    return model


def whole(part: nn.Module) -> Iterator[Place]:
    """Weight and bias of a layer."""
    kind = "conv" if isinstance(part, nn.Conv2d) else "dense" if isinstance(part, nn.Linear) else ""
    yield part.weight, kind
    if part.bias is not None:
        yield part.bias, ""


def conv_norm(channels: int, filters: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters)]


class ConvNormRelu(nn.Module):
    def __init__(self, network: Model):
        super().__init__()
        channels, parts = network.options["channels"], []
        for i in range(network.options["count"]):
            parts += [*conv_norm(channels if i else network.input[2], channels), nn.ReLU()]
        self.body = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, network.classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)

    def places(self) -> Iterator[Place]:
        for part in self.modules():
            if hasattr(part, "weight"):
                yield from whole(part)


class Block(nn.Module):
    """Two convolutions beside a shortcut; where sizes change, every other pixel and channels of zeros (option A)."""

    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.new = filters - channels
        stride = 2 if self.new else 1
        self.body = nn.Sequential(*conv_norm(channels, filters, stride), nn.ReLU(), *conv_norm(filters, filters))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        around = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.new)) if self.new else x
        return functional.relu(around + self.body(x))


class ResNet20(ConvNormRelu):
    def __init__(self, network: Model):
        nn.Module.__init__(self)
        sizes = [16] * 4 + [32] * 3 + [64] * 3
        blocks = [Block(before, after) for before, after in pairwise(sizes)]
        first = [*conv_norm(network.input[2], 16), nn.ReLU()]
        self.body = nn.Sequential(
            *first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, network.classes)
        )


class CharLSTM(nn.Module):
    def __init__(self, network: Model):
        super().__init__()
        hidden = network.options["hidden"]
        self.embedding, self.head = nn.Embedding(network.classes, 64), nn.Linear(hidden, network.classes)
        self.lstm = nn.LSTM(64, hidden, batch_first=True)
        nn.init.zeros_(self.lstm.bias_hh_l0).requires_grad_(False)  # one bias is trained, as in the others

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embedding(x))[0])

    def places(self) -> Iterator[Place]:
        yield self.embedding.weight, ""
        yield from ((self.lstm.weight_ih_l0, "dense"), (self.lstm.weight_hh_l0, "dense"), (self.lstm.bias_ih_l0, ""))
        yield from whole(self.head)


class TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.qkv(self.norm1(x)).chunk(3, -1)
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.wide(self.norm2(x))))

    def places(self) -> Iterator[Place]:
        yield from (*whole(self.wide), *whole(self.narrow))
        yield from ((self.qkv.weight, "dense"), (self.out.weight, "dense"), (self.qkv.bias, ""), (self.out.bias, ""))
        yield from (*whole(self.norm1), *whole(self.norm2))


class GPT(nn.Module):
    def __init__(self, network: Model, width: int = 128):
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(*network.input, width))
        self.tokens, self.norm = nn.Embedding(network.classes, width), nn.LayerNorm(width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, 4) for _ in range(4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.blocks(self.tokens(x) + self.positions)) @ self.tokens.weight.T

    def places(self) -> Iterator[Place]:
        yield from ((self.positions, ""), (self.tokens.weight, ""))
        for block in self.blocks:
            yield from block.places()
        yield from whole(self.norm)
