"""Relevance that is conserved, attention, what a layer likes, layers as points, and the loss around the weights."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tests.insight_models import Own, Recurrent, picture_net, snapshot
from tinynet import insight, nn, ops

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 5)).astype(np.float32)


def pictures(n=2, size=12, channels=3):
    return np.random.default_rng(1).standard_normal((n, size, size, channels)).astype(np.float32)


def scores(model, x, target):
    with tn.no_grad():
        return model.eval()(x).numpy()[:, target]


# ---- relevance --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 0.5])
def test_relevance_is_handed_back_as_the_rule_says(epsilon):
    """The ε-rule in plain NumPy, layer by layer; what biases and ε take is all that is lost."""
    model = nn.Sequential(nn.Dense(7, activation="relu"), nn.Dense(6, activation="tanh"), nn.Dense(3), input_shape=5)
    model.astype(np.float64)
    for layer in model:
        layer.bias.data[...] = np.random.default_rng(5).standard_normal(layer.bias.shape) / 3
    values, sums = [X.astype(np.float64)], []
    for layer, f in zip(model, (lambda z: np.maximum(z, 0), np.tanh, lambda z: z), strict=True):
        sums.append(values[-1] @ layer.weight.numpy() + layer.bias.numpy())
        values.append(f(sums[-1]))
    relevance = np.eye(3)[1] * sums[-1]
    score, lost = relevance.sum(1), 0
    for layer, x, z in zip(model[::-1], values[-2::-1], sums[::-1], strict=True):
        part = relevance / (z + np.where(z < 0, -epsilon, epsilon))
        lost = lost + (part * (layer.bias.numpy() + np.where(z < 0, -epsilon, epsilon))).sum(1)
        relevance = x * (part @ layer.weight.numpy().T)
    got = insight.lrp(model, X.astype(np.float64), target=1, epsilon=epsilon)
    np.testing.assert_allclose(got, relevance, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.sum(1) + lost, score, rtol=1e-9)


def without_biases(model):
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.data[...] = 0
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: picture_net("relu"),
        lambda: picture_net("tanh"),
        lambda: picture_net("relu", norm=True),
        lambda: picture_net("gelu"),
        lambda: Own().build((12, 12, 3)),
        lambda: nn.Sequential(lambda x: ops.conv_relu_pool(x, W), nn.Flatten(), nn.Dense(3)).build((12, 12, 3)),
    ],
)
def test_relevance_is_conserved(make):
    model, x = without_biases(make().astype(np.float64)), pictures().astype(np.float64)
    for target in range(2):
        total = insight.lrp(model, x, target=target, epsilon=0).sum((1, 2, 3))
        np.testing.assert_allclose(total, scores(model, x, target), rtol=1e-7, atol=1e-9)


W = np.random.default_rng(2).standard_normal((3, 3, 3, 4))


def test_relevance_says_what_it_has_no_rule_for():
    with pytest.raises(ValueError, match="lrp: there is no rule for softmax"):
        insight.lrp(nn.Sequential(nn.Dense(3), nn.Softmax()), X)
    with pytest.raises(ValueError, match="no rule for multiply of two values that both depend on the input"):
        insight.lrp(nn.Sequential(nn.Dense(3), lambda x: x * ops.tanh(x)), X)
    with pytest.raises(ValueError, match="no rule for layer_norm"):
        insight.lrp(nn.Sequential(nn.Dense(3), nn.LayerNorm()), X)
    with pytest.raises(ValueError, match="epsilon=-1 must not be negative"):
        insight.lrp(nn.Sequential(nn.Dense(3)), X, epsilon=-1)


# ---- attention --------------------------------------------------------------------------------------------------


class Weights(nn.Module):
    """Attention twice: of x to itself, causal, and to its first steps under a mask."""

    def __init__(self):
        self.first, self.second = nn.MultiHeadAttention(2), nn.MultiHeadAttention(1)

    def forward(self, x):
        mask = np.arange(3) < 2
        return self.second(self.first(x, causal=True), x[:, :3], mask=mask)


def test_attention_maps_are_the_weights_of_the_values():
    x = RNG.standard_normal((2, 5, 4)).astype(np.float32)
    model = Weights().build((5, 4))
    maps = insight.attention_maps(model, x)
    assert {name: p.shape for name, p in maps.items()} == {"first": (2, 2, 5, 5), "second": (2, 1, 5, 3)}
    for p in maps.values():
        np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
    assert not np.triu(maps["first"], 1).any() and not maps["second"][..., 2].any()
    v = (x @ model.first.in_weight.numpy())[..., 8:]
    values = maps["first"] @ v.reshape(2, 5, 2, 2).transpose(0, 2, 1, 3)
    out = values.transpose(0, 2, 1, 3).reshape(2, 5, 4) @ model.first.out_weight.numpy()
    np.testing.assert_allclose(insight.feature_maps(model, x)["first"], out, rtol=1e-4, atol=1e-6)
    assert insight.attention_maps(picture_net("relu"), pictures()) == {}
    block = nn.Sequential(nn.TransformerBlock(2, 8), nn.TransformerBlock(2, 8, causal=True), input_shape=(5, 4))
    assert list(insight.attention_maps(block, x)) == ["0.attention", "1.attention"]


def test_a_query_that_may_attend_to_nothing_has_no_weights():
    class Masked(nn.Module):
        def forward(self, x):
            return ops.scaled_dot_product_attention(x, x, x, np.arange(5)[:, None] > 0)

    maps = insight.attention_maps(Masked(), RNG.standard_normal((2, 5, 4)))
    assert list(maps) == ["Masked"] and not maps["Masked"][:, 0].any()
    np.testing.assert_allclose(maps["Masked"][:, 1:].sum(-1), 1, rtol=1e-6)


# ---- what a unit likes ------------------------------------------------------------------------------------------


def test_a_linear_unit_likes_its_weights():
    model = nn.Sequential(nn.Dense(3), input_shape=5)
    best = insight.activation_maximization(model, 1, limits=(-1, 1), decay=0)
    np.testing.assert_array_equal(best, np.sign(model[0].weight.numpy()[:, 1]))


@pytest.mark.parametrize(("layer", "unit"), [(None, 2), ("0", 3), ("2", 0)])
def test_what_a_unit_likes_excites_it(layer, unit):
    model = picture_net("relu")
    liked = insight.activation_maximization(model, unit, layer=layer, steps=40)
    assert liked.shape == (12, 12, 3) and liked.dtype == np.float32 and 0 <= liked.min() <= liked.max() <= 1
    tried = np.concatenate([liked[None], np.random.default_rng(0).random((50, 12, 12, 3))])
    maps = insight.feature_maps(model, tried)[layer or "4"][..., unit]
    assert maps.reshape(51, -1).sum(1).argmax() == 0
    again = insight.activation_maximization(model, unit, layer=layer, steps=40)
    np.testing.assert_array_equal(again, liked)


def test_what_is_no_unit_is_said():
    with pytest.raises(ValueError, match="the output has no unit 3"):
        insight.activation_maximization(picture_net("relu"), 3)
    with pytest.raises(ValueError, match=r"'7' \(there are 0, 1, 2, 3, 4\) has no unit 0"):
        insight.activation_maximization(picture_net("relu"), 0, layer="7")
    with pytest.raises(ValueError, match="is not built"):
        insight.activation_maximization(nn.Sequential(nn.Dense(3)), 0)


# ---- layers as points -------------------------------------------------------------------------------------------


def test_points_are_principal_components(monkeypatch):
    model = nn.Sequential(nn.Dense(4, activation="tanh"), nn.Dense(2), input_shape=5)
    points = insight.pca(model, X)
    h = insight.feature_maps(model, X)["0"].astype(np.float64)
    h -= h.mean(0)
    values, axes = np.linalg.eigh(h.T @ h)
    np.testing.assert_allclose(abs(points), abs(h @ axes[:, :-3:-1]), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose((points**2).sum(0), values[:-3:-1], rtol=1e-6)
    monkeypatch.setattr("tinynet.insight.features.BATCH", 4)
    np.testing.assert_allclose(insight.pca(model, X), points, rtol=1e-5, atol=1e-7)
    assert insight.pca(model, X, layer="1", components=1).shape == (6, 1)
    with pytest.raises(ValueError, match="components=5 of 6 samples with 4 values"):
        insight.pca(model, X, components=5)
    with pytest.raises(ValueError, match="no layer 'x'"):
        insight.pca(model, X, layer="x")
    assert insight.pca(Recurrent(), RNG.integers(0, 9, (7, 6)), layer="lstm.1.0").shape == (7, 2)


def test_the_states_of_layers_above_each_other_are_those_of_the_samples():
    """Their first axis is the layers', not the samples'."""
    model, x = nn.LSTM(3, layers=2).eval(), RNG.standard_normal((5, 4, 2)).astype(np.float32)
    model(x)
    state = insight.feature_maps(model, x)["LSTM.1.0"]
    assert state.shape == (2, 5, 3)
    flat = insight.pca(nn.Sequential(nn.Flatten()), np.ascontiguousarray(state.swapaxes(0, 1)), layer="0")
    np.testing.assert_allclose(insight.pca(model, x, layer="LSTM.1.0"), flat, atol=1e-6)
    with pytest.raises(ValueError, match=r"pca: the output \(2, 4\) of layer '0' has no axis of 5 samples"):
        insight.pca(nn.Sequential(nn.Lambda(lambda x: x[:2, :, 0])), x)


# ---- the loss around the weights --------------------------------------------------------------------------------


def test_the_loss_on_a_plane():
    model, y = nn.Sequential(nn.Dense(3, bias=False), input_shape=5), RNG.standard_normal((6, 3)).astype(np.float32)
    w = model[0].weight.numpy().copy()
    before = snapshot(model)
    places, losses = insight.loss_plane(model, (X, y), loss=ops.mse, points=5, span=0.5)
    assert snapshot(model) == before
    assert places.tolist() == [-0.5, -0.25, 0, 0.25, 0.5] and losses.shape == (5, 5)
    assert losses[2, 2] == pytest.approx(((X @ w - y) ** 2).mean(), rel=1e-5)
    fit = np.polyfit(places, losses[:, 2], 2)  # a linear model's squared loss is a parabola
    np.testing.assert_allclose(np.polyval(fit, places), losses[:, 2], rtol=1e-4)
    again = insight.loss_plane(model, (X, y), loss=ops.mse, points=5, span=0.5)[1]
    np.testing.assert_array_equal(again, losses)
    assert (insight.loss_plane(model, (X, y), loss=ops.mse, points=5, span=0.5, seed=1)[1] != losses).any()


def test_directions_are_as_long_as_the_filters_and_leave_biases_alone():
    seen = []
    model = picture_net("relu", norm=True)
    weights = {name: p.numpy().copy() for name, p in model.named_parameters()}
    model[4].register_forward_hook(lambda *_: seen.append({n: p.numpy().copy() for n, p in model.named_parameters()}))
    insight.loss_plane(model, (pictures(), np.array([0, 1])), points=2, span=1)
    for name, w in weights.items():
        ways = [state[name] - w for state in seen]
        if w.ndim == 1:
            assert not np.any(ways)
        else:
            axes = tuple(range(w.ndim - 1))
            both = (ways[0] + ways[1]) / 2  # -first
            np.testing.assert_allclose((both**2).sum(axes), (w**2).sum(axes), rtol=1e-3)


def test_weights_are_put_back_where_the_loss_fails():
    model = picture_net("relu")
    optimizer = tn.optim.Adam(model.parameters())
    before = snapshot(model)
    with pytest.raises(ZeroDivisionError):
        insight.loss_plane(model, (pictures(), np.array([0, 1])), loss=lambda out, y: 1 / 0)
    assert snapshot(model) == before
    ops.softmax_cross_entropy(model(pictures()), [0, 1]).backward()
    optimizer.step()
    assert snapshot(model) != before
