"""Looking into networks: against closed forms, PyTorch with hooks, and planted evidence; the model stays as it was."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import tinynet as tn
from tests.insight_models import Block, Branching, Failing, Own, Recurrent, picture_net, snapshot
from tinynet import insight, nn, ops
from tinynet.insight.watching import inspecting, operations

RNG = np.random.default_rng(0)
ATTRIBUTIONS = [
    insight.saliency,
    insight.integrated_gradients,
    insight.smooth_grad,
    insight.guided_backprop,
    insight.occlusion,
    insight.grad_cam,
]


def pictures(n=2, size=12, channels=3):
    return np.random.default_rng(1).standard_normal((n, size, size, channels)).astype(np.float32)


# ---- closed forms -----------------------------------------------------------------------------------------------


@pytest.fixture
def linear():
    """x → x @ w + b, with its w (5, 3)."""
    model = nn.Sequential(nn.Dense(3), input_shape=5)
    return model, model[0].weight.numpy()


X = RNG.standard_normal((4, 5)).astype(np.float32)
LABELS = np.array([0, 2, 1, 2])


def test_a_linear_model_is_explained_by_its_weights(linear):
    model, w = linear
    slope = w.T[LABELS]
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(insight.saliency(model, X, target=LABELS), abs(slope), **close)
    np.testing.assert_allclose(insight.smooth_grad(model, X, target=LABELS), slope, **close)
    np.testing.assert_allclose(insight.guided_backprop(model, X, target=LABELS), slope, **close)
    np.testing.assert_allclose(insight.integrated_gradients(model, X, target=LABELS), slope * X, **close)
    at = X[:1] - 2
    got = insight.integrated_gradients(model, X, target=LABELS, baseline=at, steps=1)
    np.testing.assert_allclose(got, slope * (X - at), **close)
    np.testing.assert_allclose(insight.occlusion(model, X, target=LABELS, size=1), slope * X, **close)
    got = insight.occlusion(model, X, target=LABELS, size=1, value=7)
    np.testing.assert_allclose(got, slope * (X - 7), rtol=1e-4, atol=1e-5)


def test_the_target_is_the_likeliest_class_one_for_all_one_each_or_a_function(linear):
    model, w = linear
    with tn.no_grad():
        best = model(X).numpy().argmax(1)
    np.testing.assert_array_equal(insight.saliency(model, X), abs(w.T[best]))
    np.testing.assert_array_equal(insight.saliency(model, X, target=1), abs(np.tile(w[:, 1], (4, 1))))
    got = insight.smooth_grad(model, X, target=lambda y: y[:, 0] - y[:, 2])
    np.testing.assert_allclose(got, np.tile(w[:, 0] - w[:, 2], (4, 1)), rtol=1e-5)
    for target, error in [
        (3, "classes 0 to 2"),
        ([0, 1], r"labels \(2,\)"),
        (0.5, "integers"),
        (lambda y: 3, "return"),
    ]:
        with pytest.raises((TypeError, ValueError), match=error):
            insight.saliency(model, X, target=target)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_integrated_gradients_are_complete(activation):
    model = picture_net(activation)
    x = pictures()
    with tn.no_grad():
        model.eval()
        rise = (model(x) - model(np.zeros_like(x))).numpy()
    for target in range(3):
        total = insight.integrated_gradients(model, x, target=target, steps=128).sum((1, 2, 3))
        np.testing.assert_allclose(total, rise[:, target], rtol=1e-4 if activation == "tanh" else 2e-3, atol=1e-4)


def test_integrated_gradients_do_not_depend_on_how_many_points_are_computed_at_once(monkeypatch):
    model, x = picture_net("relu"), pictures(3)
    together = insight.integrated_gradients(model, x, target=[0, 1, 2], steps=7)
    monkeypatch.setattr("tinynet.insight.attribution.CHUNK", 1)
    np.testing.assert_allclose(
        insight.integrated_gradients(model, x, target=[0, 1, 2], steps=7), together, rtol=1e-4, atol=1e-6
    )
    monkeypatch.undo()
    alone = np.concatenate([insight.integrated_gradients(model, x[i : i + 1], target=i, steps=7) for i in range(3)])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-6)


def test_grad_cam_of_a_mean_and_a_dense_layer_is_the_class_activation_map():
    """Zhou et al. 2016: Σ w_c A_c, here over the number of pixels, as the mean divides by it."""
    model = nn.Sequential(
        nn.Conv2d(4, 3, activation="relu"), nn.GlobalAvgPool2d(), nn.Dense(3), input_shape=(12, 12, 3)
    )
    x = pictures()
    maps = insight.feature_maps(model, x)["0"]
    want = np.maximum(maps @ model[2].weight.numpy()[:, 1], 0) / maps[0, ..., 0].size
    got = insight.grad_cam(model, x, target=1, upsample=False)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-7)
    large = insight.grad_cam(model, x, target=1)
    np.testing.assert_allclose(
        large, ops.resize2d(tn.tensor(want)[..., None], 12, mode="bilinear").numpy()[..., 0], rtol=1e-4, atol=1e-6
    )
    got = insight.grad_cam(model, x, target=1, guided=True)
    np.testing.assert_allclose(
        got, large[..., None] * insight.guided_backprop(model, x, target=1), rtol=1e-5, atol=1e-9
    )


def test_grad_cam_takes_any_convolution():
    model = picture_net("relu")
    x = pictures()
    for layer in ("0", "2", model[0], model[2]):
        h = {"0": 12, "2": 6}.get(layer, 12 if layer is model[0] else 6)
        assert insight.grad_cam(model, x, layer=layer, upsample=False).shape == (2, h, h)
        assert insight.grad_cam(model, x, layer=layer).shape == (2, 12, 12)
    np.testing.assert_array_equal(insight.grad_cam(model, x), insight.grad_cam(model, x, layer="2"))
    with pytest.raises(ValueError, match=r"'7' is no layer .* of floats; there are 0, 1"):
        insight.grad_cam(model, x, layer="7")
    with pytest.raises(ValueError, match=r"'4' is no layer whose output is maps"):
        insight.grad_cam(model, x, layer="4")
    nested = nn.Sequential(model[:3], model[3:])
    for layer in ("0", nested[0]):  # a container's output is that of its last layer
        np.testing.assert_array_equal(insight.grad_cam(nested, x, layer=layer), insight.grad_cam(model, x))
    line = nn.Sequential(nn.Conv1d(4, 3, activation="relu"), nn.Lambda(lambda y: y.mean(1)), nn.Dense(3))
    assert insight.grad_cam(line, pictures()[:, 0], upsample=False).shape == (2, 10)
    with pytest.raises(ValueError, match="pass upsample=False"):
        insight.grad_cam(line, pictures()[:, 0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_grad_cam_finds_a_planted_patch(seed):
    """The stripes of a bright square on faint noise tell the class, upright or lying. The map's mass lies where the
    layer's windows touch the square. (Without biases: with them, a channel may be on everywhere, and speak so.)"""
    tn.seed(seed)
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, 0.05, (1000, 16, 16, 1)).astype(np.float32), rng.integers(0, 2, 1000)
    corners, stripes = rng.integers(0, 13, (1000, 2)), np.indices((4, 4))
    for image, label, (i, j) in zip(x, y, corners, strict=True):
        image[i : i + 4, j : j + 4, 0] += 4.0 * (stripes[label] % 2)
    model = nn.Sequential(
        nn.Conv2d(8, 3, padding="same", activation="relu", bias=False),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 3, padding="same", activation="relu", bias=False),
        nn.GlobalAvgPool2d(),
        nn.Dense(2),
        input_shape=(16, 16, 1),
    )
    tn.fit(model, (x[:800], y[:800]), epochs=10, lr=0.01, verbose=False)
    held = slice(800, 900)
    assert tn.evaluate(model, (x[held], y[held]))["accuracy"] >= 0.95
    maps = insight.grad_cam(model, x[held], target=y[held], upsample=False)
    seen, mass = insight.receptive_field(model)["2"], 0.0
    for n, (i, j) in enumerate(corners[held]):
        for row, column in np.ndindex(8, 8):
            (top, bottom), (left, right) = seen.box(row, column)
            if top < i + 4 and bottom > i and left < j + 4 and right > j:
                mass += maps[n, row, column]
    assert mass >= 0.95 * maps.sum() > 0


# ---- layers -----------------------------------------------------------------------------------------------------


def test_feature_maps_are_what_the_layers_make_one_after_the_other():
    model, x = picture_net("relu"), pictures()
    maps = insight.feature_maps(model, x)
    assert list(maps) == ["0", "1", "2", "3", "4"]
    with tn.no_grad(), tn.set_fusion(False):
        model.eval()
        y = tn.tensor(x)
        for name, layer in zip(maps, model, strict=True):
            y = layer(y)
            np.testing.assert_array_equal(maps[name], y.numpy())
    maps["0"][...] = 0
    assert insight.feature_maps(model, x)["0"].any()


def test_names_of_layers_in_modules_of_ones_own():
    x = pictures()
    own = insight.feature_maps(Own(), x)
    assert list(own) == ["conv", "block.body.0", "block.body.1", "block", "twice", "twice#2", "Own"]
    assert list(insight.feature_maps(Recurrent(), RNG.integers(0, 9, (2, 6)))) == [
        "embed", "lstm.0", "lstm.1.0", "lstm.1.1", "head"
    ]  # fmt: skip
    both = insight.feature_maps(Branching(), {"left": X, "right": X})
    assert list(both) == ["a", "b", "Branching.sum", "Branching.difference"]
    assert insight.grad_cam(Own(), x).shape == (2, 12, 12)
    assert insight.grad_cam(Recurrent(), RNG.integers(0, 9, (2, 6)), layer="embed", upsample=False).shape == (2, 6)


def test_filters_are_the_weights_of_convolutions():
    model = nn.Sequential(nn.Conv2d(4, 3), nn.SeparableConv2d(5, 3), nn.Flatten(), nn.Dense(2), input_shape=(12, 12, 3))
    got = insight.filters(model)
    assert {name: w.shape for name, w in got.items()} == {
        "0": (3, 3, 3, 4),
        "1.depthwise": (3, 3, 1, 4),
        "1.pointwise": (1, 1, 4, 5),
    }
    np.testing.assert_array_equal(got["0"], model[0].weight.numpy())
    assert list(insight.filters(nn.Conv1d(2, 3).build((8, 3)))) == ["Conv1d"]
    assert list(insight.filters(nn.Conv2d(2, 3).build((8, 8, 3)))) == ["Conv2d"]


def test_statistics_by_hand():
    model = nn.Sequential(nn.Dense(4, activation="relu"), nn.Dense(2, activation="tanh"), input_shape=5)
    model[0].weight.data[:, 1] = 0
    model[0].bias.data[:] = [0, -1, 0.1, 0]
    model[1].weight.data[:, 0] *= 100
    rows = insight.activation_statistics(model, X)
    h = np.maximum(X @ model[0].weight.numpy() + model[0].bias.numpy(), 0)
    assert rows["0"]["dead"] == (h == 0).all(0).mean() >= 0.25
    assert rows["0"]["zeros"] == pytest.approx((h == 0).mean())
    for key in "mean", "std", "min", "max":
        assert rows["0"][key] == pytest.approx(getattr(h, key)(), rel=1e-5)
    out = np.tanh(h @ model[1].weight.numpy())
    assert rows["1"]["saturated"] == (abs(out) > 0.98).mean() > 0 and rows["0"]["saturated"] == 0


def test_gradients_that_vanish_show_in_their_shares():
    def deep(activation):
        tn.seed(1)
        return nn.Sequential(*[nn.Dense(16, activation=activation) for _ in range(12)], nn.Dense(3), input_shape=5)

    rows = insight.gradient_statistics(deep("sigmoid"), X, LABELS)
    assert rows["0"]["share"] < 1e-6 and rows["12"]["share"] == 1
    assert insight.gradient_statistics(deep("relu"), X, LABELS)["0"]["share"] > 1e-3
    model = deep("tanh")
    rows = insight.gradient_statistics(model, X, LABELS)
    model.eval()
    ops.softmax_cross_entropy(model(X), LABELS).backward()
    for i, layer in enumerate(model):
        own = np.concatenate([p.grad.numpy().ravel() for p in layer.parameters()])
        assert rows[str(i)]["weights"] == pytest.approx(np.sqrt((own**2).mean()), rel=1e-4)
        size = np.sqrt(sum((p.numpy() ** 2).sum() for p in layer.parameters()))
        assert rows[str(i)]["ratio"] == pytest.approx(np.linalg.norm(own) / size, rel=1e-4)


# ---- receptive fields -------------------------------------------------------------------------------------------

NETS = {
    "plain": lambda: nn.Sequential(nn.Conv2d(3, 3), nn.MaxPool2d(2), nn.Conv2d(3, 3)),
    "strides": lambda: nn.Sequential(nn.Conv2d(3, 5, stride=2, padding=2), nn.Conv2d(3, (1, 3), stride=(1, 2))),
    "same": lambda: nn.Sequential(nn.Conv2d(3, 4, padding="same"), nn.AvgPool2d(3, 2, padding=1), nn.Conv2d(2, 2)),
    "dilated": lambda: nn.Sequential(nn.Conv2d(3, 3, dilation=2, padding=2), nn.BatchNorm(), nn.ReLU()),
    "edge": lambda: nn.Sequential(nn.Conv2d(3, 3, padding=1, padding_mode="edge"), nn.Conv2d(3, 3)),
    "residual": lambda: nn.Sequential(nn.Residual(nn.Conv2d(2, 3, padding=1), nn.Conv2d(2, 3, padding=1)), nn.ReLU()),
    "cut": lambda: nn.Sequential(nn.Conv2d(3, 3), lambda x: x[:, 1::2, 2:-1], nn.Conv2d(2, 3)),
    "own": lambda: Block(3),
}


@pytest.mark.parametrize("name", NETS)
def test_receptive_fields_hold_all_pixels_that_matter_and_no_others(name):
    """Pixels are changed one by one: exactly those within a value's box change it. Weights and pixels are positive, so
    that no relu hides one; a maximum's pixels are tried with a large change."""
    model = NETS[name]().build((17, 19, 2)).eval()
    for p in model.parameters():
        p.data = np.abs(p.data) + 0.1
    x = np.random.default_rng(0).random((1, 17, 19, 2)).astype(np.float32)
    fields = insight.receptive_field(model)
    last = list(fields)[-1]
    base = insight.feature_maps(model, x)[last][0]
    changed = np.zeros((*base.shape[:2], 17, 19), bool)
    for i, j in np.ndindex(17, 19):
        moved = x.copy()
        moved[0, i, j] += 50
        changed[:, :, i, j] = (insight.feature_maps(model, moved)[last][0] != base).any(-1)
    for row, column in np.ndindex(base.shape[:2]):
        (top, bottom), (left, right) = fields[last].box(row, column)
        inside = np.zeros((17, 19), bool)
        inside[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
        got = changed[row, column]
        assert not (got & ~inside).any()
        if name not in ("edge", "dilated"):  # a border repeats its pixels; between dilated taps nothing is seen
            assert (got == inside).all()


def test_receptive_fields_are_known_or_said_not_to_be():
    fields = insight.receptive_field(tn.models.mnist_cnn())
    assert [str(f) for f in fields.values()] == ["3×3", "4×4", "8×8", "10×10", "all", "all", "all"]
    assert fields["6"].box(0, 0) == ((0, np.inf), (0, np.inf))
    turned = nn.Sequential(nn.Conv2d(3, 3), lambda x: x.transpose(0, 2, 1, 3), nn.Conv2d(2, 3)).build((9, 9, 1))
    assert [f is None for f in insight.receptive_field(turned).values()] == [False, True, True]
    with pytest.raises(ValueError, match=r"call model.build\(\(H, W, C\)\) first"):
        insight.receptive_field(nn.Sequential(nn.Conv2d(3, 3)))


# ---- the model as it was ----------------------------------------------------------------------------------------

LOOKS = {
    **{f.__name__: f for f in ATTRIBUTIONS},
    "lrp": insight.lrp,
    "feature_maps": insight.feature_maps,
    "attention_maps": insight.attention_maps,
    "pca": insight.pca,
    "activation_maximization": lambda m, x: insight.activation_maximization(m, 1, steps=3),
    "loss_plane": lambda m, x: insight.loss_plane(m, (x, np.zeros(len(x), int)), points=2),
    "activation_statistics": insight.activation_statistics,
    "gradient_statistics": lambda m, x: insight.gradient_statistics(m, x, np.zeros(len(x), int)),
    "receptive_field": lambda m, x: insight.receptive_field(m),
    "filters": lambda m, x: insight.filters(m),
}


@pytest.mark.parametrize("look", LOOKS)
def test_the_model_stays_as_it_was(look):
    model, x = picture_net("relu", norm=True), pictures()
    optimizer = tn.optim.Adam(model.parameters())
    ops.softmax_cross_entropy(model(x), [0, 1]).backward()
    model[1].eval()
    model[0].freeze()
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    before, functions = snapshot(model), [f.__closure__ for f in tn.autograd.OPS.values()]
    cells = [[c.cell_contents for c in closure] for closure in functions]
    with tn.no_grad():  # and in no_grad all of it works
        first = LOOKS[look](model, x)
    with tn.set_fusion(False):
        second = LOOKS[look](model, x)
    np.testing.assert_equal(first, second)
    assert snapshot(model) == before
    assert cells == [[c.cell_contents for c in closure] for closure in functions]
    assert tn.nn.fusion.fusing() and tn.autograd.mode.recording
    optimizer.step()


@pytest.mark.parametrize("look", [name for name in LOOKS if name not in ("filters", "receptive_field")])
def test_the_model_stays_as_it_was_where_its_forward_fails(look):
    model = nn.Sequential(nn.Conv2d(3, 3, activation="relu"), Failing(), nn.Flatten(), nn.Dense(2))
    model.build((12, 12, 3))
    model[1].fails = True
    before = snapshot(model)
    with pytest.raises(ZeroDivisionError):
        LOOKS[look](model, pictures())
    assert snapshot(model) == before and tn.nn.fusion.fusing() and tn.autograd.mode.recording
    model[1].fails = False
    LOOKS[look](model, pictures())


@pytest.mark.parametrize("look", LOOKS)
def test_they_work_from_a_checkpoint(look, tmp_path):
    model, x = picture_net("relu"), pictures()
    tn.save(model, tmp_path / "a.safetensors")
    np.testing.assert_equal(LOOKS[look](tn.load(tmp_path / "a.safetensors"), x), LOOKS[look](model, x))


def test_in_float64_and_on_the_simulator():
    model = picture_net("relu").astype(np.float64)
    assert insight.grad_cam(model, pictures()).dtype == insight.saliency(model, pictures()).dtype == np.float64
    with tn.use("simulator"):
        small = nn.Sequential(nn.Conv2d(2, 3, activation="relu"), nn.Flatten(), nn.Dense(2), input_shape=(6, 6, 1))
    x = pictures(1, 6, 1)
    there = [insight.grad_cam(small, x), insight.guided_backprop(small, x), insight.occlusion(small, x)]
    here = small.to("numpy")
    for got, look in zip(there, (insight.grad_cam, insight.guided_backprop, insight.occlusion), strict=True):
        np.testing.assert_allclose(got, look(here, x), rtol=1e-4, atol=1e-5)


def test_bad_input_is_refused_with_the_remedy():
    model = picture_net("relu")
    with pytest.raises(
        TypeError, match=r"saliency: the model must be a Module, not ndarray; write saliency\(model, x\)"
    ):
        insight.saliency(pictures(), model)
    with pytest.raises(TypeError, match=r"saliency: the input holds int64 .* grad_cam"):
        insight.saliency(Recurrent(), RNG.integers(0, 9, (2, 6)))
    with pytest.raises(ValueError, match="the model was built for"):
        insight.grad_cam(model, pictures()[0])
    with pytest.raises(TypeError, match="takes one array"):
        insight.saliency(Branching(), (X, X))
    with pytest.raises(TypeError, match="pca: takes one array"):
        insight.pca(Branching(), (X, X))
    with pytest.raises(TypeError, match="activation_maximization: takes one array"):
        insight.activation_maximization(Branching().build(*(X.shape[1:],) * 2), 0)
    with pytest.raises(TypeError, match="activation_maximization: the input holds int64"):
        insight.activation_maximization(tn.models.text_classifier(9).build(6), 0)
    with pytest.raises(TypeError, match=r"the model's output is \(2, 10, 10, 3\), not \(N, K\); pass target="):
        insight.saliency(nn.Sequential(nn.Conv2d(3, 3)), pictures())
    with pytest.raises(TypeError, match=r"the model's output is dict, not \(N, K\); pass target="):
        insight.grad_cam(Branching(), (pictures()[:, 0], pictures()[:, 0]), layer="a", upsample=False)
    with pytest.raises(ValueError, match=r"occlusion: size=\(2, 2, 2\)"):
        insight.occlusion(model, pictures(), size=(2, 2, 2))


def test_other_threads_compute_as_ever_and_wait_with_looking():
    x, done = tn.tensor(X), []

    def around(name, function, be, inputs, options):
        done.append(name)
        return function(be, *inputs, **options)

    def elsewhere():
        ops.relu(x)
        with inspecting(nn.ReLU()):
            order.append("other")

    order = []
    with operations(around):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        ops.exp(x)
        with operations(around):
            ops.tanh(x)
        order.append("this")
    thread.join()
    ops.exp(x)
    assert done == ["exp", "tanh", "tanh"] and order == ["this", "other"]
