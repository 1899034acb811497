"""Looking into networks beside PyTorch with hooks, on the same weights."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import insight, nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install tinynet[parity])")
pytestmark = pytest.mark.parity
LABELS = np.array([1, 0, 2])


def pair():
    """A convolutional network with normalisation, trained statistics, and its twin."""
    tn.seed(1)
    model = nn.Sequential(
        nn.Conv2d(6, 3, padding=1),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.GlobalAvgPool2d(),
        nn.Dense(16, activation="relu"),
        nn.Dense(3),
        input_shape=(16, 12, 3),
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 16, 12, 3)).astype(np.float32)
    for _ in range(3):
        model(x)
    t = torch.nn
    twin = t.Sequential(
        t.Conv2d(3, 6, 3, padding=1),
        t.BatchNorm2d(6),
        t.ReLU(),
        t.MaxPool2d(2),
        t.Conv2d(6, 8, 3, stride=2, padding=1),
        t.ReLU(),
        t.AdaptiveAvgPool2d(1),
        t.Flatten(),
        t.Linear(8, 16),
        t.ReLU(),
        t.Linear(16, 3),
    ).eval()
    state = model.state_dict()
    places = {"0": "0", "4": "4", "7": "8", "8": "10"}
    kinds = {4: "conv", 2: "dense"}
    theirs = {
        f"{places[n]}.{what}": torch.from_numpy(nn.to_torch(w, kinds[w.ndim]) if w.ndim > 1 else w)
        for n, what, w in ((*name.split("."), w) for name, w in state.items())
        if n in places
    }
    theirs |= {
        f"1.{what}": torch.from_numpy(state[f"1.{what}"]) for what in ("weight", "bias", "running_mean", "running_var")
    }
    twin.load_state_dict(theirs, strict=False)
    return model, twin, x, torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def channels_last(t):
    return t.detach().numpy().transpose(0, 2, 3, 1)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * abs(want).max())


def torch_gradient(twin, x):
    x = x.clone().requires_grad_()
    twin(x)[torch.arange(3), torch.from_numpy(LABELS)].sum().backward()
    return channels_last(x.grad)


@pytest.mark.parametrize(("layer", "place"), [("0", 0), ("2", 2), ("4", 4), ("5", 5), (None, 5)])
def test_grad_cam(layer, place):
    model, twin, x, tx = pair()
    kept = {}
    twin[place].register_forward_hook(lambda _m, _x, y: kept.update(y=y))
    twin[place].register_full_backward_hook(lambda _m, _x, g: kept.update(g=g[0]))
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    torch_gradient(twin, tx)
    cam = torch.relu((kept["g"].mean((2, 3), keepdim=True) * kept["y"]).sum(1, keepdim=True))
    close(insight.grad_cam(model, x, layer=layer, target=LABELS, upsample=False), channels_last(cam)[..., 0])
    large = torch.nn.functional.interpolate(cam, (16, 12), mode="bilinear", align_corners=False)
    close(insight.grad_cam(model, x, layer=layer, target=LABELS), channels_last(large)[..., 0])


def test_saliency_and_guided_backprop():
    model, twin, x, tx = pair()
    plain = torch_gradient(twin, tx)
    close(insight.saliency(model, x, target=LABELS), abs(plain))
    for module in twin:
        if isinstance(module, torch.nn.ReLU):
            module.register_full_backward_hook(lambda _m, gx, g: (torch.where(g[0] > 0, gx[0], 0),))
    guided = torch_gradient(twin, tx)
    assert (guided != plain).any()
    close(insight.guided_backprop(model, x, target=LABELS), guided)


def test_integrated_gradients():
    model, twin, x, tx = pair()
    nodes, weights = np.polynomial.legendre.leggauss(16)
    total = sum(w / 2 * torch_gradient(twin, tx * float((t + 1) / 2)) for t, w in zip(nodes, weights, strict=True))
    close(insight.integrated_gradients(model, x, target=LABELS, steps=16), x * total)


def test_feature_maps():
    model, twin, x, tx = pair()
    maps, kept = insight.feature_maps(model, x), {}
    for name, place in {"0": 0, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5}.items():
        twin[place].register_forward_hook(lambda _m, _x, y, name=name: kept.update({name: channels_last(y)}))
    twin(tx)
    for name, want in kept.items():
        close(maps[name], want)


def test_relevance_without_biases_is_gradient_times_input():
    """Where there is no bias and ε is 0 (Ancona et al. 2018)."""
    model, twin, x, tx = pair()
    for name, p in (*model.named_parameters(), *model.named_buffers()):
        if "bias" in name or "mean" in name:
            p.data[...] = 0
    for name, p in twin.state_dict().items():
        if "bias" in name or "mean" in name:
            p.zero_()
    close(insight.lrp(model, x, target=LABELS, epsilon=0), x * torch_gradient(twin, tx))
