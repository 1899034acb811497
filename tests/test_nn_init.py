"""Initial weights: their variance, and the seed."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn


def small_net(**kwargs):
    return nn.Sequential(nn.Conv2d(4, 3, activation="relu"), nn.MaxPool2d(2), nn.Flatten(), nn.Dense(3), **kwargs)


FAN_IN, FAN_OUT = 9 * 40, 9 * 60
VARIANCES = {
    "glorot": 2 / (FAN_IN + FAN_OUT),
    "he": 2 / FAN_IN,
    "lecun": 1 / FAN_IN,
    "orthogonal": 1 / FAN_IN,
    "truncated": 0.774 * 0.02**2,  # of the normal distribution within two deviations
    "normal": 1,
    "zeros": 0,
}


@pytest.mark.parametrize("name", sorted({*nn.init.INITIALISERS} - {"ones"}))
def test_initial_variance(name):
    shape = (3, 3, 40, 60)
    w = nn.init.get(name)(shape, np.random.default_rng(0))
    assert w.shape == shape
    assert w.dtype == np.float32
    want = VARIANCES[name.split("_")[0]]
    assert w.var() == pytest.approx(want, rel=0.03)
    assert abs(w.mean()) <= 0.01 * np.sqrt(want)
    if name.endswith("uniform"):
        assert abs(w).max() <= np.sqrt(3 * want) * (1 + 1e-6)
    np.testing.assert_array_equal(w, nn.init.get(name)(shape, np.random.default_rng(0)))
    if want:
        assert not np.array_equal(w, nn.init.get(name)(shape, np.random.default_rng(1)))


@pytest.mark.parametrize("shape", [(7, 7), (12, 5), (5, 12), (3, 2, 4, 6), (1, 1, 2, 9), (4, 1), (0, 3)])
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_orthogonal_weights(shape, gain):
    w = nn.init.orthogonal(gain=gain)(shape, np.random.default_rng(3))
    assert w.shape == shape and w.dtype == np.float32
    matrix = w.reshape(-1, shape[-1]).astype(float) / gain
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), atol=1e-6)


def test_rotations_are_alike_likely():
    """Without Mezzadri's signs the first entry would never be positive."""
    rng = np.random.default_rng(0)
    drawn = np.array([nn.init.orthogonal((2, 2), rng) for _ in range(400)])
    assert abs(drawn.mean(0)).max() < 0.12
    assert 0.4 < (np.linalg.det(drawn) > 0).mean() < 0.6
    with pytest.raises(ValueError, match=r"orthogonal: weights \(3,\) are no matrix"):
        nn.init.orthogonal((3,), rng)


@pytest.mark.parametrize("std", [0.02, 1.5])
def test_truncated_normal_weights(std):
    w = nn.init.truncated_normal(std)((400, 100), np.random.default_rng(0))
    assert 1.9 * std < abs(w).max() <= 2 * std * (1 + 1e-6)
    assert w.std() == pytest.approx(0.8796 * std, rel=0.01)
    assert np.isfinite(nn.init.truncated_normal((), np.random.default_rng(0)))


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu"])
@pytest.mark.parity
def test_gains_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    assert nn.init.gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-12)
    assert nn.init.gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3), rel=1e-12)


def test_gains_keep_the_variance_level():
    """What goes into an activation has variance 1, and four layers on still has."""
    assert nn.init.gain(None) == 1 and nn.init.gain(tn.ops.relu) == pytest.approx(nn.init.gain("relu"), rel=1e-6)
    assert nn.init.gain("elu") == pytest.approx(1 / np.sqrt(0.5 + 0.14494), rel=1e-3)  # E[elu(z)²] for z < 0
    for name in ("relu", "gelu", "silu", "softsign", "elu", "mish"):
        rng = np.random.default_rng(0)
        z = rng.standard_normal((200, 300))
        for _ in range(4):
            z = getattr(tn.ops, name)(z).numpy() @ nn.init.orthogonal((300, 300), rng, gain=nn.init.gain(name))
        assert (z * z).mean() == pytest.approx(1, rel=0.15), name
    for bad in ("reluu", "prelu", 3):
        with pytest.raises(ValueError, match=r"gain: activation .* is none of tinynet.ops; pass a function"):
            nn.init.gain(bad)


def test_initialisers_with_settings_are_saved(tmp_path):
    """A file names the function and its settings; other settings are another model."""
    init = nn.init.orthogonal(gain=nn.init.gain("tanh"))
    model = nn.Sequential(
        nn.Dense(4, activation="tanh", kernel_init=init), nn.BatchNorm(gamma_init="zeros"), input_shape=(3,)
    )
    tn.save(model, tmp_path / "m.st")
    loaded = tn.load(tmp_path / "m.st")
    kept = loaded.layers[0].kernel_init
    assert kept.func is nn.init.orthogonal and kept.keywords == {"gain": 5 / 3}
    assert loaded.layers[1].gamma_init is nn.init.zeros
    np.testing.assert_array_equal(loaded.layers[0].weight.numpy(), model.layers[0].weight.numpy())


@pytest.mark.parametrize("layer", [nn.BatchNorm, nn.LayerNorm, nn.RMSNorm, lambda **o: nn.GroupNorm(2, **o)])
def test_a_residual_branch_that_begins_as_nothing(layer):
    """gamma_init="zeros": the block is the identity at first, and learns: the gain of gamma is not 0."""
    block = nn.Residual(nn.Dense(4, activation="relu"), nn.Dense(4), layer(gamma_init="zeros")).build((4,))
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    y = block(x)
    np.testing.assert_array_equal(y.numpy(), x)
    (y * y).sum().backward()
    norm = block.body.layers[-1]
    assert not norm.weight.numpy().any() and np.abs(norm.weight.grad.numpy()).min() > 0
    assert layer().build((4,)).weight.numpy().tolist() == [1] * 4
    with pytest.raises(ValueError, match="initialiser 'zero' is unknown"):
        layer(gamma_init="zero")


def test_the_seed_fixes_the_weights():
    tn.seed(5)
    a = small_net(input_shape=(8, 8, 3)).state_dict()
    tn.seed(5)
    b = small_net(input_shape=(8, 8, 3)).state_dict()
    tn.seed(6)
    c = small_net(input_shape=(8, 8, 3)).state_dict()
    np.testing.assert_array_equal(a["0.weight"], b["0.weight"])
    assert not np.array_equal(a["0.weight"], c["0.weight"])
