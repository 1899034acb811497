"""The networks of papers beside PyTorch, layer for layer with the same weights, in float64: outputs and gradients."""

import math

import numpy as np
import pytest

import tinynet as tn
from tests.test_models_published import SMALL, built, loss_of
from tinynet import nn, ops

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install tinynet[parity])")
pytestmark = pytest.mark.parity
F = torch.nn.functional


def at_any_place(name, make):
    """A small copy in float64, without dropout, and with no parameter at 0 or 1."""
    tn.seed(1)
    model = built(name, make).astype(np.float64)
    rng = np.random.default_rng(2)
    with tn.no_grad():
        for p in model.parameters():
            p += 0.05 * rng.standard_normal(p.shape)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.rate = 0.0
    return model


def leaf(p):
    return torch.tensor(p.numpy(), requires_grad=True)


class Twin:
    """The layers of a model as functions of images (N, C, H, W), which use `weights`: (ours, PyTorch's) of each."""

    def __init__(self):
        self.weights = []

    def weight(self, p):
        self.weights.append((p, leaf(p)))
        return self.weights[-1][1]

    def optional(self, p):
        return None if p is None else self.weight(p)

    def of(self, layer):
        return getattr(self, type(layer).__name__)(layer)

    def Sequential(self, layer):
        parts = [self.of(part) for part in layer]

        def run(x):
            for part in parts:
                x = part(x)
            return x

        return run

    def Residual(self, layer):
        body, around = self.of(layer.body), (lambda x: x) if layer.shortcut is None else self.of(layer.shortcut)
        return lambda x: around(x) + body(x)

    def Concatenate(self, layer):
        branches = [self.of(branch) for branch in layer.branches]
        return lambda x: torch.cat([branch(x) for branch in branches], 1)

    def Conv2d(self, layer):
        w, b = self.weight(layer.weight), self.optional(layer.bias)
        options = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
        return self.then(layer, lambda x: F.conv2d(x, w.permute(3, 2, 0, 1), b, **options))

    def ConvTranspose2d(self, layer):
        w, b = self.weight(layer.weight), self.optional(layer.bias)
        options = {"stride": layer.stride, "padding": layer.padding}
        return self.then(layer, lambda x: F.conv_transpose2d(x, w.permute(3, 2, 0, 1), b, **options))

    def Dense(self, layer):
        w, b = self.weight(layer.weight), self.weight(layer.bias)
        return self.then(layer, lambda x: x @ w + b)

    @staticmethod
    def then(layer, linear):
        function = {ops.relu: F.relu, ops.tanh: torch.tanh, None: lambda x: x}[layer.activation]
        return lambda x: function(linear(x))

    def BatchNorm(self, layer):
        w, b = self.weight(layer.weight), self.weight(layer.bias)
        return lambda x: F.batch_norm(x, None, None, w, b, training=True, eps=layer.eps)

    def Lambda(self, layer):
        return {ops.relu: F.relu, ops.relu6: F.relu6}[layer.function]

    def ReLU(self, layer):
        return F.relu

    def Dropout(self, layer):
        return lambda x: x

    def Flatten(self, layer):
        return lambda x: x.permute(0, 2, 3, 1).flatten(1)

    def MaxPool2d(self, layer):
        options = {"padding": layer.padding, "ceil_mode": layer.ceil_mode}
        return lambda x: F.max_pool2d(x, layer.kernel_size, layer.stride, **options)

    def AvgPool2d(self, layer):
        return lambda x: F.avg_pool2d(x, layer.kernel_size, layer.stride, padding=layer.padding)

    def AdaptiveAvgPool2d(self, layer):
        return lambda x: F.adaptive_avg_pool2d(x, layer.size)

    def GlobalAvgPool2d(self, layer):
        return lambda x: x.mean((2, 3))

    def PaddedShortcut(self, layer):
        return lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, layer.channels - x.shape[1]))

    def ChannelShuffle(self, layer):
        return torch.nn.ChannelShuffle(layer.groups)

    # ---- of sequences, (N, T, C) in both ---------------------------------------------------------------------------

    def GPT(self, model):
        table, places, blocks = self.weight(model.tokens.weight), self.weight(model.positions), self.of(model.blocks)
        norm = self.of(model.norm)
        return lambda ids: norm(blocks(table[ids] + places[: ids.shape[1]])) @ table.T

    def ViT(self, model):
        token, places, patches = self.weight(model.token), self.weight(model.positions), self.of(model.patches)
        blocks, norm, head = self.of(model.blocks), self.of(model.norm), self.of(model.head)

        def run(x):
            x = patches(x).flatten(2).permute(0, 2, 1)
            return head(norm(blocks(torch.cat([token.expand(len(x), -1, -1), x], 1) + places))[:, 0])

        return run

    def LayerNorm(self, layer):
        w, b = self.weight(layer.weight), self.weight(layer.bias)
        return lambda x: F.layer_norm(x, w.shape, w, b, layer.eps)

    def TransformerBlock(self, block):
        """As nanoGPT's Block and CausalSelfAttention write it."""
        norm1, norm2, attention = self.of(block.norm1), self.of(block.norm2), block.attention
        w, b = self.weight(attention.in_weight), self.weight(attention.in_bias)
        wo, bo = self.weight(attention.out_weight), self.weight(attention.out_bias)
        w1, b1, w2, b2 = (self.weight(p) for p in (block.weight1, block.bias1, block.weight2, block.bias2))

        def run(x):
            n, t, c = x.shape
            heads = (n, t, attention.heads, c // attention.heads)
            q, k, v = (part.view(heads).transpose(1, 2) for part in (norm1(x) @ w + b).split(c, dim=2))
            scores = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1))
            if block.causal:
                scores = scores.masked_fill(torch.ones(t, t).tril() == 0, float("-inf"))
            y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, c)
            x = x + (y @ wo + bo)
            return x + (F.gelu(norm2(x) @ w1 + b1) @ w2 + b2)

        return run

    def CharLSTM(self, model):
        table, lstm, head = self.weight(model.embedding.weight), self.lstm(model.lstm), self.of(model.head)
        return lambda ids: head(lstm(table[ids])[0])

    def TextClassifier(self, model):
        table, lstm, head = self.weight(model.embedding.weight), self.lstm(model.lstm), self.of(model.head)
        return lambda ids: head(lstm(table[ids])[1][0][0])

    def lstm(self, layer):
        wx, wh, b = (self.weight(layer.weights[0][name]) for name in ("wx", "wh", "b"))
        twin = torch.nn.LSTM(wx.shape[0], layer.hidden, batch_first=True, dtype=torch.float64)
        weights = {"weight_ih_l0": wx.T, "weight_hh_l0": wh.T, "bias_ih_l0": b, "bias_hh_l0": torch.zeros_like(b)}
        return lambda x: torch.func.functional_call(twin, weights, (x,))


@pytest.mark.parametrize("name", SMALL)
def test_outputs_and_gradients(name):
    make, x, y = SMALL[name]
    model, twin = at_any_place(name, make), Twin()
    run = twin.of(model)
    assert {id(p) for p, _ in twin.weights} == {id(p) for p in model.parameters()}
    images = x.ndim == 4
    inputs = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)).astype(np.float64) if images else x)
    out, their = model(x), run(inputs)
    their = their.permute(0, 2, 3, 1) if their.ndim == 4 else their
    np.testing.assert_allclose(out.numpy(), their.detach().numpy(), rtol=1e-6, atol=1e-8)
    loss_of(out, y).backward()
    labels = torch.from_numpy(y)
    if labels.is_floating_point():
        loss = F.binary_cross_entropy_with_logits(their, labels.double())
    else:
        loss = F.cross_entropy(their.reshape(-1, their.shape[-1]), labels.reshape(-1))
    loss.backward()
    largest = max(w.grad.abs().max().item() for _, w in twin.weights)
    for p, w in twin.weights:
        np.testing.assert_allclose(p.grad.numpy(), w.grad.numpy(), rtol=1e-5, atol=1e-7 * largest)
