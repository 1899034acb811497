"""Every network beside PyTorch: the same weights, data and optimiser give the same losses."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import models, nn, ops, optim

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install tinynet[parity])")
pytestmark = pytest.mark.parity

NAMES = sorted(name for name, f in models.MODELS.items() if f.__module__ == models.basic.__name__)
BATCH = {"mnist_small": 8, "mnist_cnn": 6, "cifar_small": 6, "cifar_cnn": 4, "image128_cnn": 1, "deep_cnn": 3}


def torch_twin(model, dtype):
    """The same network in PyTorch, with the same weights, dropout left out."""
    layers, previous = [], None
    for layer in model.layers:
        if isinstance(layer, nn.Conv2d):
            twin = torch.nn.Conv2d(layer.built[2], layer.out_channels, 3, dtype=dtype)
            twin.weight.data = torch.from_numpy(nn.to_torch(layer.weight, "conv")).to(dtype)
        elif isinstance(layer, nn.Dense):
            twin = torch.nn.Linear(layer.built[0], layer.out_features, dtype=dtype)
            image = previous.built if isinstance(previous, nn.Flatten) and len(previous.built) == 3 else None
            twin.weight.data = torch.from_numpy(nn.to_torch(layer.weight, "dense", image=image)).to(dtype)
        else:
            twin = {
                nn.MaxPool2d: lambda: torch.nn.MaxPool2d(2),
                nn.Flatten: torch.nn.Flatten,
                nn.Dropout: torch.nn.Identity,
            }[type(layer)]()
        if isinstance(layer, nn.Conv2d | nn.Dense):
            twin.bias.data = torch.from_numpy(layer.bias.numpy().copy()).to(dtype)
        layers.append(twin)
        if getattr(layer, "activation", None) is ops.relu:
            layers.append(torch.nn.ReLU())
        previous = layer
    return torch.nn.Sequential(*layers)


def pair(name, dtype, seed=0):
    tn.seed(seed)
    model = models.MODELS[name]()
    shape = (20,) if model.built is None else model.built
    model.build(shape).eval()
    for p in model.parameters():
        p.data = p.data.astype(dtype)
        p.node = None
        p.requires_grad_()
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((BATCH.get(name, 16), *shape)).astype(dtype)
    outputs = model.layers[-1].out_features
    y = rng.standard_normal((len(x), 1)).astype(dtype) if outputs == 1 else rng.integers(0, outputs, len(x))
    twin = torch_twin(model, torch.from_numpy(x).dtype)
    tx, ty = torch.from_numpy(nn.to_torch(x, "images") if x.ndim == 4 else x), torch.from_numpy(y)
    losses = (
        (ops.mse, torch.nn.functional.mse_loss)
        if outputs == 1
        else (ops.softmax_cross_entropy, torch.nn.functional.cross_entropy)
    )
    return model, twin, (x, y), (tx, ty), losses


@pytest.mark.parametrize("name", NAMES)
def test_float64_losses_over_50_steps(name):
    model, twin, (x, y), (tx, ty), (our_loss, their_loss) = pair(name, np.float64)
    ours, theirs = optim.Adam(model.parameters(), 1e-3), torch.optim.Adam(twin.parameters(), 1e-3)
    for step in range(50):
        loss = our_loss(model(x), y)
        ours.zero_grad()
        loss.backward()
        ours.step(loss)
        their = their_loss(twin(tx), ty)
        theirs.zero_grad()
        their.backward()
        theirs.step()
        assert float(loss) == pytest.approx(their.item(), rel=1e-9, abs=1e-9), f"step {step}"


@pytest.mark.parametrize("name", NAMES)
def test_float32_first_gradients(name):
    model, twin, (x, y), (tx, ty), (our_loss, their_loss) = pair(name, np.float32)
    our_loss(model(x), y).backward()
    their_loss(twin(tx), ty).backward()
    named = list(twin.parameters())
    previous = None
    images = {}
    for i, layer in enumerate(model.layers):
        if isinstance(layer, nn.Dense) and isinstance(previous, nn.Flatten) and len(previous.built) == 3:
            images[f"{i}.weight"] = previous.built
        previous = layer
    for (key, p), q in zip(model.named_parameters(), named, strict=True):
        want = nn.from_torch(q.grad, {4: "conv", 2: "dense"}.get(q.ndim), image=images.get(key))
        scale = np.abs(want).max()
        assert np.abs(p.grad.numpy() - want).max() <= 1e-5 * max(scale, 1e-3), key
