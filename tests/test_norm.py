"""Normalisation: any shape, large means, statistics as outputs; layers in both modes, running statistics, freezing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tinynet as tn
from tests import checks
from tests import strategies as draw
from tinynet import nn, ops, optim
from tinynet.backends import cpu
from tinynet.backends.cpu import norm

STRICT = {"rtol": 1e-6, "atol": 1e-8}


def reference_moments(x):
    return x.mean((1, 3)), x.var((1, 3))


@settings(max_examples=40)
@given(
    st.tuples(*[st.integers(1, 5)] * 4),
    st.sampled_from([1, 4, 12, 4096]),
    st.sampled_from([8, 64, 1 << 19]),
    draw.seeds,
)
def test_blocks_and_lines_change_nothing(shape, line, part, seed):
    """However the rows are seen as lines and the lines cut into blocks: the definition's values."""
    x, g = (draw.values(shape, seed + i) for i in range(2))
    mean, var = reference_moments(x)
    gamma, beta = (draw.values(shape[2:], seed + i) for i in range(2, 4))
    before = norm.LINE, norm.PART_BYTES
    norm._together.cache_clear()
    norm.LINE, norm.PART_BYTES = line, part
    try:
        for found, expected in zip(cpu.moments(x), (mean, var), strict=True):
            assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
        assert_allclose(cpu.moments(x, False)[1], (x * x).mean((1, 3)), rtol=1e-12)
        root = 1 / np.sqrt(var + 0.1)[:, None, :, None]
        hat = (x - mean[:, None, :, None]) * root
        y = cpu.normalize(x, mean, var, gamma, beta, 0.1)
        assert_allclose(y, norm.reference_normalize(x, mean, var, gamma, beta, 0.1), rtol=1e-11, atol=1e-12)
        assert_array_equal(cpu.normalize(x, mean, var, gamma, beta, 0.1, True), np.maximum(y, 0))
        gg = g * gamma
        means = [v.mean((1, 3)) for v in (gg, gg * hat)]
        expected = (gg - means[0][:, None, :, None] - hat * means[1][:, None, :, None]) * root
        for given_means in (None, None), means:
            dx = cpu.normalize_grad(g, x, mean, var, gamma, 0.1, *given_means)
            assert_allclose(dx, expected, rtol=1e-10, atol=1e-12)
            own = g.copy()
            assert cpu.normalize_grad(own, x, mean, var, gamma, 0.1, *given_means, out=own) is own
            assert_array_equal(own, dx)
        dgamma, dbeta = cpu.normalize_scale_grad(g, x, mean, var, 0.1)
        assert_allclose(dgamma, (g * hat).sum((0, 1)), rtol=1e-10, atol=1e-12)
        assert_allclose(dbeta, g.sum((0, 1)), rtol=1e-10, atol=1e-12)
    finally:
        norm.LINE, norm.PART_BYTES = before
        norm._together.cache_clear()


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "group_norm"])
def test_a_large_mean(name, backend):
    """Mean 1,000 and variance 1 in float32: values to 1e-4, as no large mean is squared."""
    if reason := tn.backends.why_not(backend):
        pytest.skip(reason)
    x = np.random.default_rng(0).normal(1000, 1, (16, 14, 14, 3) if backend == "simulator" else (64, 32, 32, 3))
    x = x.astype(np.float32)
    axes = {"batch_norm": (0, 1, 2), "layer_norm": (1, 2, 3), "group_norm": (1, 2)}[name]
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)
    with tn.use(backend):
        t = tn.tensor(x)
        y = {
            "batch_norm": lambda: ops.batch_norm(t, None, None)[0],
            "layer_norm": lambda: ops.layer_norm(t, axes=(1, 2, 3)),
            "group_norm": lambda: ops.group_norm(t, 3),
        }[name]()
    assert_allclose(y.numpy(), expected, atol=1e-4)


@settings(max_examples=25)
@given(st.data(), draw.shapes(1, 3, largest=4), st.integers(1, 3), st.sampled_from([1e-5, 0.1]), draw.seeds)
def test_any_shape(data, shape, channels, eps, seed):
    """Values and gradients, through mean and variance too, for any layout in memory."""
    x = data.draw(draw.laid_out(draw.values((2, *shape, channels), seed)))
    gamma, beta = draw.values((channels,), seed + 1), draw.values((channels,), seed + 2)
    axes = tuple(range(x.ndim - 1))
    y, mean, var = ops.batch_norm(tn.tensor(x), tn.tensor(gamma), tn.tensor(beta), eps=eps)
    assert_allclose(mean.numpy(), x.mean(axes), rtol=1e-11, atol=1e-13)
    assert_allclose(var.numpy(), x.var(axes), rtol=1e-11, atol=1e-13)
    assert_allclose(y.numpy(), (x - x.mean(axes)) / np.sqrt(x.var(axes) + eps) * gamma + beta, rtol=1e-9, atol=1e-10)
    for which in 0, 1, 2, slice(None):
        tn.gradcheck(lambda *a, w=which: ops.batch_norm(*a, eps=0.1)[w], [x, gamma, beta], rtol=1e-5, atol=1e-7)
    tn.gradcheck(lambda *a: ops.rms_norm(*a, eps=0.1), [x, gamma], **STRICT)


@given(st.data(), draw.shapes(2, 4, largest=3), draw.seeds)
@settings(max_examples=25)
def test_layer_norm_over_any_axes(data, shape, seed):
    axes = data.draw(draw.axes(len(shape)).filter(lambda a: a is not None and a != ()))
    x = draw.values(shape, seed)
    names = tuple(sorted(a % x.ndim for a in (axes if isinstance(axes, tuple) else (axes,))))
    kept = tuple(n if i in names else 1 for i, n in enumerate(shape))
    gamma = draw.values(tuple(shape[a] for a in names), seed + 1)
    y = ops.layer_norm(tn.tensor(x), tn.tensor(gamma), axes=axes, eps=0.1)
    hat = (x - x.mean(names, keepdims=True)) / np.sqrt(x.var(names, keepdims=True) + 0.1)
    assert_allclose(y.numpy(), hat * gamma.reshape(kept), rtol=1e-10, atol=1e-12)
    tn.gradcheck(lambda *a: ops.layer_norm(*a, axes=axes, eps=0.1), [x, gamma], **STRICT)


# ---- layers -------------------------------------------------------------------------------------------------


def batch(n=8, shape=(3, 3, 4), seed=0):
    return tn.tensor(np.random.default_rng(seed).normal(2, 3, (n, *shape)).astype(np.float32))


def test_running_statistics_follow_the_batches():
    layer, mean, var = nn.BatchNorm(momentum=0.3).build((3, 3, 4)), np.zeros(4), np.ones(4)
    for i in range(4):
        x = batch(seed=i)
        layer(x)
        wide = x.numpy().astype(np.float64)
        mean = 0.7 * mean + 0.3 * wide.mean((0, 1, 2))
        var = 0.7 * var + 0.3 * wide.var((0, 1, 2), ddof=1)  # the unbiased variance is kept
    assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-5)
    assert_allclose(layer.running_var.numpy(), var, rtol=1e-5)
    before = layer.state_dict()
    assert set(before) == {"weight", "bias", "running_mean", "running_var"}
    y = layer.eval()(batch(seed=9))
    assert_allclose(y.numpy(), (batch(seed=9).numpy() - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-5)
    assert all((before[k] == v).all() for k, v in layer.state_dict().items()), "evaluation changed something"


def test_momentum_none_is_the_mean_over_all_batches():
    layer = nn.BatchNorm(momentum=None, affine=False).build((4,))
    means = []
    for i in range(5):
        x = batch(6, (4,), i)
        layer(x)
        means.append(x.numpy().mean(0))
    assert_allclose(layer.running_mean.numpy(), np.mean(means, 0), rtol=1e-5)
    assert layer.batches.numpy().tolist() == [5]
    assert layer.parameters() == []


def test_no_grad_follows_too_and_records_nothing():
    layer = nn.BatchNorm().build((4,))
    with tn.no_grad():
        y = layer(batch(6, (4,)))
    assert not y.requires_grad and (layer.running_mean.numpy() != 0).all()


def test_a_frozen_layer_keeps_its_statistics_in_training():
    layer = nn.BatchNorm().build((4,))
    layer(batch(6, (4,)))
    expected = layer.eval()(batch(5, (4,), 1)).numpy()
    layer.train().freeze()
    before = layer.state_dict()
    x = batch(5, (4,), 1)
    x.requires_grad_()
    y = layer(x)
    assert_array_equal(y.numpy(), expected)
    y.sum().backward()
    assert x.grad is not None and layer.weight.grad is None
    assert all((before[k] == v).all() for k, v in layer.state_dict().items())
    layer.unfreeze()
    assert (layer(x).numpy() != expected).any()


def test_statistics_that_are_not_finite_are_not_kept():
    layer = nn.BatchNorm().build((2,))
    x = np.ones((4, 2), np.float32)
    x[:, 1] = [1, 2, np.nan, 3]
    layer(tn.tensor(x))
    assert np.isfinite(layer.running_mean.numpy()).all() and np.isfinite(layer.running_var.numpy()).all()
    assert_allclose(layer.running_mean.numpy(), [0.1, 0])


def test_a_graph_of_evaluation_keeps_its_values():
    """Later batches change the running statistics in place; a graph made before them does not see it."""
    layer = nn.BatchNorm().build((4,))
    gradients = []
    for change in False, True:
        layer.load_state_dict({**layer.state_dict(), "running_mean": np.ones(4), "running_var": np.ones(4)})
        x = batch(5, (4,), 1).requires_grad_()
        y = layer.eval()(x)
        if change:
            layer.train()(batch(7, (4,), 2))
        y.backward(np.ones(y.shape, np.float32))
        gradients.append((x.grad.numpy(), layer.weight.grad.numpy()))
        layer.weight.grad = None
    for a, b in zip(*gradients, strict=True):
        assert_array_equal(a, b)


def layers():
    return [nn.BatchNorm(), nn.LayerNorm(), nn.LayerNorm(axes=(1, 2, 3)), nn.GroupNorm(2), nn.RMSNorm()]


@pytest.mark.parametrize("layer", layers(), ids=repr)
def test_one_layer_twice_in_a_graph(layer):
    """Its gradient is the sum of both uses'."""
    layer.build((3, 3, 4))
    x, z = batch(seed=1), batch(seed=2)
    g = np.random.default_rng(3).standard_normal(x.shape).astype(np.float32)
    apart = []
    for part in x, z:
        layer(part).backward(g)
        apart.append({n: p.grad.numpy().copy() for n, p in layer.named_parameters()})
        for p in layer.parameters():
            p.grad = None
    (layer(x) + layer(z)).backward(g)
    for name, p in layer.named_parameters():
        assert_allclose(p.grad.numpy(), apart[0][name] + apart[1][name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [*layers(), nn.BatchNorm(momentum=None), nn.BatchNorm(affine=False)], ids=repr)
def test_saving_and_resuming_is_exact(layer, tmp_path):
    def model():
        tn.seed(0)
        again = type(layer)(*layer._arguments[0], **layer._arguments[1])
        return nn.Sequential(nn.Conv2d(4, 2), again, nn.Flatten(), nn.Dense(2), input_shape=(4, 4, 1))

    def steps(net, which):
        opt = optim.SGD(net.parameters(), 0.1)
        for i in which:
            x = tn.tensor(np.random.default_rng(i).standard_normal((5, 4, 4, 1)).astype(np.float32))
            opt.zero_grad()
            ops.softmax_cross_entropy(net(x), np.arange(5) % 2).backward()
            opt.step()
        return net.state_dict()

    expected = steps(model(), range(4))
    first = model()
    steps(first, range(2))
    tn.save(first, tmp_path / "half.safetensors")
    resumed = tn.load(tmp_path / "half.safetensors").train()
    found = steps(resumed, range(2, 4))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_array_equal(found[name], value, err_msg=name)


def test_modes_of_the_other_layers_are_one():
    for layer in layers()[1:]:
        layer.build((3, 3, 4))
        assert_array_equal(layer(batch()).numpy(), layer.eval()(batch()).numpy())


MISTAKES = [
    (lambda: ops.batch_norm(tn.tensor(np.ones((0, 3))), None, None), ValueError, "at least one value a channel"),
    (lambda: ops.batch_norm(tn.tensor(np.ones(3)), None, None), ValueError, r"must be \(N, …, C\)"),
    (lambda: ops.batch_norm(tn.tensor([[1, 2]]), None, None), TypeError, "batch_norm: the input has dtype int64"),
    (
        lambda: ops.layer_norm(tn.tensor(np.ones((2, 3))), tn.tensor(np.ones(2))),
        ValueError,
        r"must be \(3,\), got \(2,\)",
    ),
    (lambda: ops.layer_norm(tn.tensor(np.ones((2, 0)))), ValueError, "no values to normalise"),
    (lambda: ops.group_norm(tn.tensor(np.ones((2, 4))), 3), ValueError, "C divisible by groups=3"),
    (lambda: nn.BatchNorm()(tn.tensor(np.ones((1, 3)))), ValueError, "one value a channel has no variance"),
    (lambda: nn.BatchNorm(64), TypeError, r"nn.BatchNorm\(\) for PyTorch's nn.BatchNorm\(64\)"),
    (lambda: nn.BatchNorm(momentum=2), ValueError, r"momentum=2 must be in \[0, 1\]"),
    (lambda: nn.GroupNorm(3).build((4,)), ValueError, "groups=3 must divide the 4 channels"),
    (lambda: nn.LayerNorm(axes=0).build((4,)), ValueError, "name the batch axis"),
    (lambda: nn.BatchNorm().build((4,)).output_size((5,)), ValueError, r"built for features \(4,\)"),
]


@pytest.mark.parametrize(("mistake", "error", "message"), MISTAKES)
def test_messages(mistake, error, message):
    with pytest.raises(error, match=message):
        mistake()


def test_an_empty_batch_in_evaluation():
    for layer in layers():
        layer.build((3, 3, 4)).eval()
        assert layer(tn.tensor(np.zeros((0, 3, 3, 4), np.float32))).shape == (0, 3, 3, 4)


# ---- fusion ---------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.booleans(), st.booleans(), st.sampled_from(["eval", "frozen"]), st.integers(0, 2), st.integers(1, 2), draw.seeds
)
def test_normalisation_in_a_convolutions_weights(bias, affine, how, tail, stride, seed):
    """conv → batch norm (→ relu (→ pool)) as one operation: the values and gradients of one layer after the other."""
    affine = affine or how == "frozen"
    tn.seed(seed)
    rest = [nn.ReLU(), nn.MaxPool2d(2)][:tail]
    model = nn.Sequential(nn.Conv2d(3, 3, bias=bias, stride=stride), nn.BatchNorm(affine=affine), *rest)
    model.build((9, 8, 2)).astype(np.float64)
    norm_layer = model.layers[1]
    rng = np.random.default_rng(seed)
    for tensor_ in (norm_layer.running_mean, norm_layer.running_var, norm_layer.weight, norm_layer.bias):
        if tensor_ is not None:
            tensor_.data[...] = rng.uniform(0.5, 2, 3)
    model.eval() if how == "eval" else norm_layer.freeze()
    found, images = [], rng.standard_normal((2, 9, 8, 2))
    for flag in False, True:
        x = tn.tensor(images, requires_grad=True)
        with nn.set_fusion(flag):
            y = model(x)
        g = np.random.default_rng(0).standard_normal(y.shape)
        y.backward(g)
        found.append([y.numpy(), x.grad.numpy(), *(p.grad.numpy() for p in model.parameters() if p.grad is not None)])
        for p in model.parameters():
            p.grad = None
    assert len(found[0]) == len(found[1]) > 2
    for a, b in zip(*found, strict=True):
        assert_allclose(b, a, rtol=1e-9, atol=1e-11)


def test_fusion_leaves_training_and_hooks_alone():
    from tinynet.nn.patterns import fused

    model = nn.Sequential(nn.Conv2d(3, 3), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2), input_shape=(8, 8, 1))
    assert fused(model.layers, 0)[1] == 1  # in training
    model.eval()
    assert fused(model.layers, 0)[1] == 4
    model.layers[1].register_forward_hook(lambda *_: None)
    assert fused(model.layers, 0)[1] == 1


@pytest.mark.parametrize("proof", [checks.given_means, checks.batch_of_shares], ids=lambda proof: proof.__name__)
def test_what_replicas_share(proof):
    proof()
