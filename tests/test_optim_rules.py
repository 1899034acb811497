"""The optimisers' rules: as published, and 20 steps beside PyTorch's."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tinynet as tn
from tests.optimising import BE, EVERY, RULES, SETTINGS, parameters, set_grads
from tinynet import nn, optim
from tinynet.optim.rules import orthogonal


def sgd(w, g, s, t, lr, momentum=0, nesterov=False, weight_decay=0):
    g = g + weight_decay * w
    if momentum:
        s["v"] = momentum * s["v"] + g if t > 1 else g
        g = g + momentum * s["v"] if nesterov else s["v"]
    return w - lr * g


def adam(w, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False):
    if decoupled:
        w = w - lr * weight_decay * w
    else:
        g = g + weight_decay * w
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    m, v = s["m"] / (1 - betas[0] ** t), s["v"] / (1 - betas[1] ** t)
    return w - lr * m / (np.sqrt(v) + eps)


def adamw(w, g, s, t, lr, **settings):
    return adam(w, g, s, t, lr, decoupled=True, **{"weight_decay": 1e-2, **settings})


def rmsprop(w, g, s, t, lr, alpha=0.99, eps=1e-8, momentum=0, weight_decay=0):
    g = g + weight_decay * w
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g**2
    step = g / (np.sqrt(s["v"]) + eps)
    if momentum:
        s["b"] = step = momentum * s.get("b", 0) + step
    return w - lr * step


def adagrad(w, g, s, t, lr, lr_decay=0, eps=1e-10, weight_decay=0):
    g = g + weight_decay * w
    s["v"] = s.get("v", 0) + g**2
    return w - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["v"]) + eps)


def lion(w, g, s, t, lr, betas=(0.9, 0.99), weight_decay=0, maximize=False):
    g, m = -g if maximize else g, s.get("m", 0)
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return w - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * w)


def lamb(w, g, s, t, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=1e-2, maximize=False):
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * (-g if maximize else g)
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    r = s["m"] / (1 - betas[0] ** t) / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps) + weight_decay * w
    return w - lr * np.linalg.norm(w) / np.linalg.norm(r) * r


CASES = [
    (optim.SGD, sgd, {}),
    (optim.SGD, sgd, {"momentum": 0.9}),
    (optim.SGD, sgd, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (optim.Adam, adam, {}),
    (optim.Adam, adam, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    (optim.AdamW, adamw, {}),
    (optim.AdamW, adamw, {"weight_decay": 0.3}),
    (optim.RMSprop, rmsprop, {}),
    (optim.RMSprop, rmsprop, {"momentum": 0.5, "alpha": 0.9, "weight_decay": 0.1}),
    (optim.Adagrad, adagrad, {}),
    (optim.Adagrad, adagrad, {"lr_decay": 0.1, "weight_decay": 0.1}),
    *((optim.Lion, lion, settings) for settings in SETTINGS["Lion"]),
    *((optim.LAMB, lamb, settings) for settings in SETTINGS["LAMB"]),
]


@pytest.mark.parametrize(("kind", "rule", "settings"), CASES)
def test_rule(kind, rule, settings):
    params = parameters()
    want = [p.numpy().copy() for p in params]
    states = [{} for _ in params]
    optimizer = kind(params, 0.05, **settings)
    rng = np.random.default_rng(1)
    for t in range(1, 6):
        grads = set_grads(params, rng)
        kept = [g.copy() for g in grads]
        optimizer.step()
        want = [rule(w, g, s, t, 0.05, **settings) for w, g, s in zip(want, grads, states, strict=True)]
        for p, w, g in zip(params, want, kept, strict=True):
            np.testing.assert_allclose(p.numpy(), w, rtol=1e-12, atol=1e-12)
            np.testing.assert_array_equal(p.grad.numpy(), g)  # a step leaves gradients as they are


@pytest.mark.parametrize("kind", RULES)
def test_large_vectors_are_done_in_chunks_that_agree(kind):
    params = parameters(shapes=((40_000,), (3,), (70_000,)), dtype=np.float32)
    twin = [nn.Parameter(p.numpy().copy(), BE) for p in params]
    one, many = kind(params, 0.1), [kind([p], 0.1) for p in twin]
    rng = np.random.default_rng(0)
    for _ in range(3):
        for p, q, g in zip(params, twin, set_grads(params, rng), strict=True):
            q.grad = tn.tensor(g)
            assert p.shape == q.shape
        one.step()
        for optimizer in many:
            optimizer.step()
    for p, q in zip(params, twin, strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-6, atol=1e-7)


def test_lamb_takes_plain_steps_where_a_norm_is_0():
    w = nn.Parameter(np.zeros(3), BE)
    optimizer = optim.LAMB([w], 0.1)
    second = 0.1 * 2 / (1 - 0.9**2) / np.sqrt(0.001 * 4 / (1 - 0.999**2))
    for grad, expected in ((0.0, 0.0), (2.0, -0.1 * second)):
        w.grad = tn.tensor(np.full(3, grad))
        optimizer.step()
        assert_allclose(w.numpy(), np.full(3, expected), rtol=1e-5)


def test_orthogonal():
    """Singular values come near 1, vectors stay; in either direction, and for matrices of a low rank."""
    rng = np.random.default_rng(0)
    for shape in (4, 7), (7, 4), (5, 5), (1, 6), (6, 1):
        x = rng.standard_normal(shape)
        u, s, v = np.linalg.svd(x, full_matrices=False)
        y = orthogonal(tn.tensor(x), 5, 1e-7, (3.4445, -4.7750, 2.0315)).numpy()
        inside = u.T @ y @ v.T
        assert_allclose(inside - np.diag(np.diag(inside)), 0, atol=1e-9)
        assert ((np.diag(inside) > 0.65) & (np.diag(inside) < 1.25)).all(), (s, np.diag(inside))
    assert not orthogonal(tn.tensor(np.zeros((2, 3))), 5, 1e-7, (3.4445, -4.7750, 2.0315)).numpy().any()


def test_muon_moves_by_adamw_what_is_no_matrix():
    params, twins = parameters(), parameters()
    rest = {"weight_decay": 0.1, "betas": (0.8, 0.9), "eps": 1e-7}
    muon = optim.Muon([{"params": params[:2]}, {"params": params[2:], "matrices": False}], 0.05, **rest)
    assert [group.options["matrices"] for group in muon.groups] == [True, False, False]
    adamw = optim.AdamW(twins[1:], 0.05, **rest)
    rng = np.random.default_rng(0)
    for _ in range(3):
        for twin, g in zip(twins, set_grads(params, rng), strict=True):
            twin.grad = tn.tensor(g)
        muon.step()
        adamw.step()
    for p, twin in zip(params[1:], twins[1:], strict=True):
        np.testing.assert_array_equal(p.numpy(), twin.numpy())
    assert not np.array_equal(params[0].numpy(), twins[0].numpy())


# ---- beside PyTorch ------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-5)])
@pytest.mark.parametrize(("name", "settings"), [(n, s) for n, s in EVERY if n not in ("Lion", "LAMB")])
def test_twenty_steps_beside_pytorch(name, settings, dtype, tolerance, monkeypatch):
    """Steps on a loss that is not quadratic, so that an error in one shows in the next."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install tinynet[parity])")
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # Muon's products, in the parameters' dtype
    precision = torch.get_default_dtype()
    torch.set_default_dtype(torch.from_numpy(np.empty(0, dtype)).dtype)  # NAdam's product of momenta has this one
    try:
        shapes = ((4, 3), (3, 5), (4, 4)) if name == "Muon" else ((3, 4), (5,), (2, 2, 2))
        ours = parameters(shapes=shapes, dtype=dtype)
        # Dense weights are (in, out) here and (out, in) there, of which Muon's rate depends.
        theirs = [torch.from_numpy(p.numpy().T.copy()).requires_grad_() for p in ours]
        lr = 0.02
        optimizer, twin = getattr(optim, name)(ours, lr, **settings), getattr(torch.optim, name)(theirs, lr, **settings)
        targets = [p.numpy().copy() for p in parameters(seed=5, shapes=shapes, dtype=dtype)]
        for _ in range(20):
            for p, q, t in zip(ours, theirs, targets, strict=True):
                gap = q.detach().numpy().T - t
                g = (np.tanh(gap) + gap**3) * (-1 if settings.get("maximize") else 1)
                p.grad, q.grad = tn.tensor(g), torch.from_numpy(g.T.copy())
            optimizer.step()
            twin.step()
            for p, q in zip(ours, theirs, strict=True):
                assert_allclose(p.numpy(), q.detach().numpy().T, rtol=tolerance, atol=tolerance)
    finally:
        torch.set_default_dtype(precision)


def test_options_and_defaults_are_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install tinynet[parity])")
    theirs_only = {"self", "foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay"}
    for name in SETTINGS:
        if name in ("Lion", "LAMB"):
            continue
        own = {k: v.default for k, v in inspect.signature(getattr(optim, name)).parameters.items()}
        for option, parameter in inspect.signature(getattr(torch.optim, name).__init__).parameters.items():
            if option not in own:
                assert option in theirs_only, f"{name} has no {option}"
            elif (name, option) != ("Muon", "adjust_lr_fn"):  # there None, here "original", the same
                assert own[option] == parameter.default, f"{name}: {option}"
