"""Networks for the tests of insight: plain ones, and modules of one's own."""

from __future__ import annotations

import tinynet as tn
from tinynet import nn, ops


def picture_net(activation, norm=False):
    """(12, 12, 3) → 3 scores: conv, pool or norm, conv, flatten, dense."""
    tn.seed(3)
    return nn.Sequential(
        nn.Conv2d(4, 3, padding=1, activation=activation),
        nn.BatchNorm() if norm else nn.MaxPool2d(2) if activation == "relu" else nn.AvgPool2d(2),
        nn.Conv2d(5, 3, padding=1, activation=activation),
        nn.Flatten(),
        nn.Dense(3),
        input_shape=(12, 12, 3),
    )


class Block(nn.Module):
    """Two convolutions and a shortcut, by operations."""

    def __init__(self, channels):
        self.first, self.second = nn.Conv2d(channels, 3, padding=1), nn.Conv2d(channels, 3, stride=2)

    def forward(self, x):
        return ops.relu(self.second(ops.relu(self.first(x))))


class Own(nn.Module):
    """A module of one's own, with a block, and a layer that is called twice."""

    def __init__(self):
        self.conv = nn.Conv2d(4, 3, padding=1)
        self.block = nn.Residual(nn.Conv2d(4, 3, padding=1, activation="relu"), lambda x: x * 2)
        self.twice = nn.Conv2d(4, 1)

    def forward(self, x):
        x = self.block(ops.relu(self.conv(x)))
        return self.twice(self.twice(x)).mean((1, 2))


class Recurrent(nn.Module):
    """Ids (N, T) → 2 scores."""

    def __init__(self):
        self.embed, self.lstm, self.head = nn.Embedding(9, 4), nn.LSTM(5), nn.Dense(2)

    def forward(self, ids):
        y, _ = self.lstm(self.embed(ids))
        return self.head(y[:, -1])


class Branching(nn.Module):
    """Two inputs, and a dict of two outputs."""

    def __init__(self):
        self.a, self.b = nn.Dense(3), nn.Dense(3)

    def forward(self, left, right):
        a, b = self.a(left), self.b(right)
        return {"sum": a + b, "difference": a - b}


class Failing(nn.Module):
    """Passes x on, until it is told to fail."""

    fails = False

    def forward(self, x):
        if self.fails:
            raise ZeroDivisionError
        return x * 1.0


def snapshot(model):
    """All that must not change: modes, hooks, attributes, values and their identity, gradients, nodes; random state."""
    modules = [
        (name, m, m.training, list(m._hooks), m.built, m.output_shape, sorted({*vars(m)} - {"training"}))
        for name, m in model.named_modules()
    ]
    tensors = [
        (name, id(t), id(t.data), t.numpy().tobytes(), id(t.node), t.grad is None or t.grad.numpy().tobytes())
        for kind in (nn.Parameter, tn.Tensor)
        for name, t in model.named_tensors(kind)
    ]
    return modules, tensors, ops.random.state.snapshot()
