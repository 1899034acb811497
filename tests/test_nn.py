"""Modules and layers: sizes, names, modes, states, errors, fusion."""

import copy
import gc

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops


def images(n=2, h=6, w=5, c=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, h, w, c)).astype(np.float32)


def small_net(**kwargs):
    return nn.Sequential(nn.Conv2d(4, 3, activation="relu"), nn.MaxPool2d(2), nn.Flatten(), nn.Dense(3), **kwargs)


# ---- sizes --------------------------------------------------------------------------------------------


def test_sizes_come_from_input_shape_build_or_the_first_call():
    tn.seed(1)
    built = small_net(input_shape=(8, 8, 3))
    tn.seed(1)
    later = small_net().build((8, 8, 3))
    tn.seed(1)
    called = small_net()
    called(images(2, 8, 8))
    for model in (later, called):
        assert [n for n, _ in model.named_parameters()] == [n for n, _ in built.named_parameters()]
        for a, b in zip(built.parameters(), model.parameters(), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_build_twice_is_nothing_and_with_another_shape_an_error():
    model = small_net(input_shape=(8, 8, 3))
    before = model.parameters()[0].numpy().copy()
    assert model.build((8, 8, 3)) is model
    np.testing.assert_array_equal(model.parameters()[0].numpy(), before)
    with pytest.raises(ValueError, match=r"built for inputs of shape \(8, 8, 3\), now \(9, 9, 3\)"):
        model.build((9, 9, 3))


def test_an_unbuilt_model_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"call model\.build"):
        small_net().parameters()
    with pytest.raises(RuntimeError, match="input_shape="):
        small_net().state_dict()


def test_a_failed_build_leaves_no_trace():
    model = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(4, 9))
    draws = dict(ops.random.state.steps)
    with pytest.raises(ValueError, match="kernel"):
        model.build((5, 5, 1))
    assert ops.random.state.steps == draws
    assert model.training


# ---- what is inside -------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self):
        self.body = nn.Conv2d(3, 3, padding="same")
        self.heads = [nn.Dense(2), nn.Dense(2)]
        self.scale = tn.tensor(2.0)  # a buffer
        self.gain = nn.Parameter(np.ones(1, np.float32), tn.backends.get("numpy"))

    def forward(self, x):
        h = ops.flatten((x + self.body(x)) * self.scale * self.gain)
        return self.heads[0](h) + self.heads[1](h)


def test_a_users_own_module_is_found_through_attributes_and_lists():
    model = Residual().build((4, 4, 3))
    names = [n for n, _ in model.named_parameters()]
    assert names == [
        "gain",
        "body.weight",
        "body.bias",
        "heads.0.weight",
        "heads.0.bias",
        "heads.1.weight",
        "heads.1.bias",
    ]
    assert set(model.state_dict()) == {*names, "scale"}
    loss = model(images(2, 4, 4)).sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


class Branches(nn.Sequential):
    """A Sequential with more inside than its layers."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Dense(4))
        self.heads = {"a": nn.Dense(2), "b": [nn.Dense(2), (nn.Dropout(0.5), nn.Dense(2))]}
        self.gains = [nn.Parameter(np.ones(2, np.float32)), nn.Parameter([2.0, 3.0])]

    def forward(self, x):
        h, (b, (drop, last)) = super().forward(x), self.heads["b"]
        return self.heads["a"](h) * self.gains[0] + b(h) * self.gains[1] + last(drop(h))


def test_modules_and_parameters_in_lists_and_dicts_are_found(tmp_path):
    model = Branches().build((4, 4, 3))
    assert [n for n, _ in model.named_parameters()] == [
        "gains.0",
        "gains.1",
        "1.weight",
        "1.bias",
        "heads.a.weight",
        "heads.a.bias",
        "heads.b.0.weight",
        "heads.b.0.bias",
        "heads.b.1.1.weight",
        "heads.b.1.1.bias",
    ]
    assert not any(m.training for m in model.eval().modules())
    model(images(2, 4, 4)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    tn.save(model, tmp_path / "m.safetensors")
    again = tn.load(tmp_path / "m.safetensors", Branches()).eval()
    x = images(2, 4, 4, seed=1)
    np.testing.assert_array_equal(again(x).numpy(), model(x).numpy())


def test_numpy_integers_are_sizes():
    n = np.int64(3)
    model = nn.Sequential(nn.Conv2d(n, n, stride=np.int32(1)), nn.MaxPool2d(np.int64(2)), nn.Flatten(), nn.Dense(n))
    assert model.build((n + 5, 8, 1))(images(2, 8, 8, 1)).shape == (2, 3)


def test_a_shared_layer_counts_once():
    layer = nn.Dense(4)
    model = nn.Sequential(layer, layer, input_shape=4)
    assert [n for n, _ in model.named_parameters()] == ["0.weight", "0.bias"]


def test_train_and_eval_reach_all_and_dropout_obeys():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    x = np.ones((3, 100), np.float32)
    assert (model(x).numpy() == 0).any()
    model.eval()
    np.testing.assert_array_equal(model(x).numpy(), x)
    assert model.train() is model
    assert all(m.training for m in model.modules())


def test_freeze_stops_gradients_and_unfreeze_brings_them_back():
    model = small_net(input_shape=(8, 8, 3))
    model[0].freeze()
    model(images(2, 8, 8)).sum().backward()
    assert model[0].weight.grad is None
    assert model[3].weight.grad is not None
    model[0].unfreeze()
    model(images(2, 8, 8)).sum().backward()
    assert model[0].weight.grad is not None


def test_state_dict_round_trip_copies_both_ways():
    tn.seed(0)
    a = small_net(input_shape=(8, 8, 3))
    b = small_net(input_shape=(8, 8, 3))
    state = a.state_dict()
    b.load_state_dict(state)
    x = images(2, 8, 8)
    np.testing.assert_array_equal(a(x).numpy(), b(x).numpy())
    state["0.weight"][...] = 7
    assert not (a[0].weight.numpy() == 7).any()
    assert not (b[0].weight.numpy() == 7).any()


def test_load_state_dict_names_what_differs_and_changes_nothing():
    model = small_net(input_shape=(8, 8, 3))
    state = model.state_dict()
    before = model.state_dict()
    wrong = {**state, "0.weight": np.zeros((1, 1, 3, 4)), "extra": np.zeros(1)}
    del wrong["3.bias"]
    wrong["0.bias"] = np.full(4, 9.0)
    with pytest.raises(ValueError, match=r"3\.bias is missing.*extra is unknown.*0\.weight has shape \(1, 1, 3, 4\)"):
        model.load_state_dict(wrong)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_deepcopy_is_a_model_of_its_own():
    model = small_net(input_shape=(8, 8, 3))
    assert not any(p.requires_grad for p in copy.deepcopy(model.freeze()).parameters())
    twin = copy.deepcopy(model.unfreeze())
    with tn.no_grad():
        twin[0].weight += 1.0
    assert not np.array_equal(model[0].weight.numpy(), twin[0].weight.numpy())
    twin(images(2, 8, 8)).sum().backward()
    assert model[0].weight.grad is None


def test_summary_counts(capsys):
    assert small_net(input_shape=(8, 8, 3)).summary() is None  # a notebook would show it again
    text = capsys.readouterr().out
    assert "(6, 6, 4)" in text
    assert "112" in text.split("\n")[2]  # 3·3·3·4 + 4
    assert text.endswith("\n223 parameters, 223 trainable\n")


def test_hooks_see_every_layer_and_can_be_removed():
    model = small_net(input_shape=(8, 8, 3))
    seen = []
    removes = [m.register_forward_hook(lambda m, x, y: seen.append((type(m).__name__, y.shape))) for m in model.layers]
    model(images(2, 8, 8))
    assert seen == [("Conv2d", (2, 6, 6, 4)), ("MaxPool2d", (2, 3, 3, 4)), ("Flatten", (2, 36)), ("Dense", (2, 3))]
    for remove in removes:
        remove()
    model(images(2, 8, 8))
    assert len(seen) == 4


def test_integer_and_float64_images_become_the_models_dtype():
    model = small_net(input_shape=(8, 8, 3))
    assert model(np.zeros((1, 8, 8, 3), np.uint8)).dtype == np.float32
    assert model(np.zeros((1, 8, 8, 3))).dtype == np.float32


def test_no_cycles_a_model_and_its_graph_die_by_reference_counting():
    gc.collect()
    gc.disable()
    try:
        model = small_net(input_shape=(8, 8, 3))
        loss = model(images(2, 8, 8)).sum()
        loss.backward()
        del loss, model
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_after_a_wrong_shape_the_right_one_works():
    def made():
        return nn.Sequential(nn.Flatten(), nn.Dense(4), nn.Sequential(nn.Dense(3)), ForTwelve())

    class ForTwelve(nn.Module):
        def create(self, shape):
            self.scale = self.parameter((3,), lambda shape, rng: np.ones(shape))

        def forward(self, x):
            if len(x.numpy()) == 2:
                raise ValueError("not two")
            return x * self.scale

    model, other = made(), made()
    tn.seed(3)
    with pytest.raises(ValueError, match="not two"):
        model(np.ones((2, 5, 5, 1)))
    assert all(m.built is None for m in model.modules())
    with pytest.raises(RuntimeError, match="no parameters yet"):
        model.parameters()
    x = np.ones((1, 6, 6, 1))
    y = model(x).numpy()
    tn.seed(3)
    assert np.array_equal(y, other(x).numpy())  # nothing was drawn for the wrong shape


def test_an_unbuilt_layers_weight_says_why_it_is_not_there():
    layer = nn.Dense(3)
    with pytest.raises(AttributeError, match=r"Dense has no weight yet, as its sizes are inferred .* call model.build"):
        _ = layer.weight
    assert layer.build(4).weight.shape == (4, 3)


def test_load_state_dict_refuses_other_kinds_of_numbers():
    model = nn.Sequential(nn.Dense(2), input_shape=3)
    before = model.state_dict()
    for bad in (np.array(["a", "b"]), np.array([1, 2])):
        with pytest.raises(ValueError, match=r"0.bias has dtype .*, the model's is float32"):
            model.load_state_dict({"0.weight": np.ones((3, 2)), "0.bias": bad})
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())


def test_a_containers_own_parameters_are_in_the_summary(capsys):
    class Scaled(nn.Module):
        def __init__(self):
            self.inner = (nn.Dense(2),)
            self.factors = (nn.Parameter(np.ones(5, np.float32)), nn.Parameter(np.ones(2, np.float32)))

        def forward(self, x):
            return self.inner[0](x) * self.factors[1]

    model = Scaled().build(3)
    names = [name for name, _ in model.named_parameters()]
    assert names == ["factors.0", "factors.1", "inner.0.weight", "inner.0.bias"]
    model.summary()
    text = capsys.readouterr().out
    assert [line.split()[3] for line in text.splitlines() if line.startswith("Scaled")] == ["7"]
    assert [line.split()[3] for line in text.splitlines() if line.startswith("inner.0")] == ["8"]
    assert "15 parameters" in text


def test_a_new_head_is_built_by_build_and_by_fit():
    model = nn.Sequential(nn.Dense(4, activation="relu"), nn.Dense(2), input_shape=3)
    body = model[0].weight
    model[-1] = nn.Dense(5)
    with pytest.raises(RuntimeError, match=r"Sequential: 1, Dense\(5\), has no parameters yet"):
        model.parameters()
    assert model.build(3).parameters()[-1].shape == (5,) and model.output_shape == (5,) and model[0].weight is body
    model[1] = nn.Dense(7)
    tn.fit(model, (np.ones((8, 3), np.float32), np.arange(8) % 7), verbose=False)
    assert model.output_shape == (7,)

    class Idle(nn.Module):
        def __init__(self):
            self.used, self.idle = nn.Dense(2), nn.Dense(3)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(RuntimeError, match=r"Idle: idle, Dense\(3\), has no .* if that does not help, forward never"):
        Idle().build(3).parameters()


def test_a_forward_without_a_result_says_so():
    class Forgetful(nn.Module):
        def forward(self, x):
            x.relu()

    with pytest.raises(TypeError, match=r"Forgetful.forward gave None; it must return its output"):
        Forgetful()(np.ones((1, 2)))


SIZES = [
    (nn.Conv2d(3, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2)), (7, 8, 2)),
    (nn.Conv2d(4, 3, padding="same", stride=2, groups=2, activation="relu", bias=False), (7, 5, 2)),
    (nn.Conv2d(2, 3, padding=1, padding_mode="edge"), (4, 4, 1)),
    (nn.Conv2d(2, 2, padding="valid"), (4, 4, 1)),
    (nn.MaxPool2d(3, stride=2, padding=1), (7, 8, 2)),
    (nn.AvgPool2d((2, 3), padding="same"), (7, 8, 2)),
    (nn.GlobalAvgPool2d(), (3, 4, 5)),
    (nn.Dense(3), (4,)),
    (nn.Dense(3, activation="softmax"), (4, 5)),
    (nn.Normalize((0.5, 0.4), 2.0), (3, 4, 2)),
    (nn.Ensemble([nn.Dense(3), nn.Dense(3)]), (4,)),
    (nn.Flatten(), (3, 4, 5)),
    (nn.Flatten(), ()),
    (nn.Flatten(), (6,)),
    (nn.Dropout(0.5), (3, 4)),
    (nn.Conv2d(2, 3, padding=((2, 0), (1, 2))), (4, 5, 1)),
    (nn.Conv2d(2, 3, padding=1, padding_mode="reflect"), (4, 4, 1)),
    (nn.Conv2d(2, 3, padding=(1, 2), padding_mode="circular"), (4, 4, 1)),
    (nn.Conv1d(4, 3, stride=2, padding=(1, 0), groups=2), (9, 2)),
    (nn.ConvTranspose2d(4, 3, stride=2, padding=1, output_padding=(1, 0), groups=2), (3, 4, 2)),
    (nn.SeparableConv2d(4, 3, stride=2, padding="same", activation="relu"), (5, 4, 3)),
    (nn.MaxPool2d(3, stride=2, dilation=2, ceil_mode=True, padding=1), (8, 7, 2)),
    (nn.AvgPool2d(2, ceil_mode=True), (5, 4, 2)),
    (nn.MaxPool1d(3, stride=2, padding=1), (8, 2)),
    (nn.AvgPool1d(2), (8, 2)),
    (nn.AdaptiveAvgPool2d((2, 3)), (5, 4, 2)),
    (nn.AdaptiveMaxPool2d(2), (4, 6, 2)),
    (nn.Upsample(2.5, mode="bilinear"), (3, 4, 2)),
    (nn.Embedding(5, 3), (4,)),
    (nn.Dropout2d(0.5), (3, 4)),
    (nn.GaussianNoise(0.1), (3,)),
    (nn.MultiHeadAttention(2), (3, 4)),
    (nn.TransformerBlock(2, 5, causal=True), (3, 4)),
    (nn.PositionalEncoding(), (3, 4)),
    (nn.BatchNorm(), (3, 4)),
    (nn.LayerNorm(axes=(1, -1)), (3, 2, 4)),
    (nn.GroupNorm(2), (3, 4)),
    (nn.RMSNorm(), (4,)),
    (nn.ReLU(), ()),
    (nn.LeakyReLU(), (3,)),
    (nn.GELU(), (3, 4)),
    (nn.Sigmoid(), (2, 3, 4)),
    *((kind(), (2, 3)) for kind in (nn.ELU, nn.SELU, nn.SiLU, nn.Mish, nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid)),
    *((kind(), (2, 3)) for kind in (nn.Hardswish, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.LogSoftmax, nn.PReLU)),
    (nn.Tanh(), (3,)),
    (nn.Softmax(), (3,)),
    (nn.Sequential(nn.Conv2d(2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Sequential(nn.Flatten(), nn.Dense(7))), (8, 8, 1)),
    (nn.RNN(4), (5, 3)),
    (nn.LSTM(4, layers=2, bidirectional=True), (5, 3)),
    (nn.GRU(4), (5, 3)),
    (nn.Sequential(), (3, 4)),
    (nn.Lambda(ops.tanh), (3, 4)),
    (nn.Lambda(lambda x: x[:, 1:]), (3, 4)),
    (nn.Residual(nn.Conv2d(2, 3, stride=2, padding=1), ops.relu, shortcut=nn.Conv2d(2, 1, stride=2)), (7, 8, 3)),
    (nn.Concatenate(nn.Dense(3), ops.relu), (4,)),
    (nn.Ensemble([nn.Dense(3), nn.Dense(3)]), (4,)),
]


@pytest.mark.parametrize("layer, shape", SIZES, ids=lambda value: f"{value!r:.40}")
def test_every_layer_says_its_output_size(layer, shape):
    if shape:
        layer.build(shape)
    y = layer(np.zeros((2, *shape), layer.input_dtype or np.float32))
    assert layer.output_size(shape) == (y[0] if isinstance(y, tuple) else y).shape[1:]
    if isinstance(layer, nn.Conv2d | nn.Dense | nn.MaxPool2d | nn.AvgPool2d | nn.GlobalAvgPool2d):
        for wrong in ((), (*shape, 9)[-2:] if len(shape) == 3 else (9,)):
            with pytest.raises(ValueError, match=type(layer).__name__):
                layer.output_size(wrong)


def test_the_sizes_of_all_layers_are_tested():
    layers = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)}
    assert {type(layer) for layer, _ in SIZES} == layers - {nn.Module}

    class Own(nn.Module):
        pass

    with pytest.raises(TypeError, match=r"Own does not say .* define output_size"):
        nn.Sequential(Own()).output_size((3,))
