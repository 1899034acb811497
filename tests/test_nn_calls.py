"""Calling modules: several inputs, keywords, ids, outputs of any kind; buffers; the dtype of a whole model."""

import copy
import pickle
import sys

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops
from tinynet.nn import door

A, B = np.ones((2, 3), np.float32), np.full((2, 5), 2.0)
IDS = np.array([[0, 2, 1], [1, 1, 0]])


class Two(nn.Module):
    """Two inputs, an option, a keyword that is an array."""

    def __init__(self):
        self.left, self.right = nn.Dense(4), nn.Dense(4)

    def forward(self, a, b, mask=None, *, scale=1.0):
        y = (self.left(a) + self.right(b)) * scale
        return y if mask is None else ops.where(mask, y, 0.0)


class Table(nn.Module):
    """An embedding by hand: ids in, rows of a table out."""

    input_dtype = np.int64

    def __init__(self, count, features):
        self.count, self.features = count, features

    def create(self, shape):
        self.rows = self.parameter((self.count, self.features), nn.init.glorot_uniform)

    def forward(self, ids):
        assert ids.dtype.kind == "i", ids.dtype
        return self.rows[ids]


def test_several_inputs_and_keywords():
    model = Two()
    y = model(A, B, scale=2.0)
    assert y.shape == (2, 4) and y.dtype == np.float32 and model.built == (3,)
    np.testing.assert_array_equal(model(a=A, b=B, scale=2.0).numpy(), y.numpy())
    mask = np.array([[True], [False]])
    for masked in model(A, B, mask), model(A, B, mask=mask), model(A, b=tn.tensor(B, dtype=np.float32), mask=mask):
        np.testing.assert_array_equal(masked.numpy()[1], np.zeros(4))
        assert masked.numpy()[0].any()
    with pytest.raises(TypeError, match="unexpected keyword argument 'scael'"):
        model(A, B, scael=1)
    with pytest.raises(TypeError, match="'b'"):
        model(A)


@pytest.mark.parametrize(
    "build", [lambda m: m.build(3, 5), lambda m: m.build((3,), b=(5,)), lambda m: m.build(a=3, b=5)]
)
def test_a_model_of_several_inputs_is_built(build):
    model = Two()
    assert build(model) is model and [p.shape for p in model.parameters()] == [(3, 4), (4,), (5, 4), (4,)]
    assert build(model) is model  # again: nothing
    assert model(A, B).shape == (2, 4)


@pytest.mark.parametrize("x", [(A, B), {"a": A, "b": B}, {"b": B, "a": A}])
def test_data_of_several_inputs(x):
    model, other = Two(), Two()
    tn.seed(3)
    door.build(model, x)
    tn.seed(3)
    expected = other(A, B)
    assert model.built == (3,)
    np.testing.assert_array_equal(door.call(model, x).numpy(), expected.numpy())
    single = nn.Dense(2)
    door.build(single, A)
    assert door.call(single, A).shape == (2, 2)


def test_ids_stay_integers_and_build_knows():
    model = nn.Sequential(Table(3, 4), nn.Flatten(), nn.Dense(2))
    assert model.input_dtype is np.int64 and model.build(3)(IDS).shape == (2, 2)
    for ids in IDS, IDS.astype(np.int32), IDS.tolist(), tn.tensor(IDS):
        np.testing.assert_array_equal(model(ids).numpy(), model(IDS).numpy())

    class Own(nn.Module):
        def __init__(self):
            self.table, self.head = Table(3, 4), nn.Dense(2)

        def forward(self, ids, weights=None):
            return self.head(self.table(ids).mean(1))

    for made in Own().build(3, input_dtype=np.int64), Own().build(3, input_dtype={0: "int64"}):
        assert made(IDS).shape == (2, 2) and made.built_for == {0: ((3,), "int64")}
    called = Own()
    assert called(IDS, weights=B).shape == (2, 2)
    assert called.built_for == {0: ((3,), "int64"), "weights": ((5,), "float32")}
    door.build(Own(), IDS)


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3), nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 3, activation="relu"))])
def test_integer_images_become_floats_where_a_layer_computes_in_them(layer):
    x = np.arange(2 * 8 * 8).reshape(2, 8, 8, 1) % 7
    expected = layer(x.astype(np.float32)).numpy()
    for given in x, x.astype(np.uint8), tn.tensor(x), x.astype(bool) * 1:
        assert layer(given).dtype == np.float32
    np.testing.assert_array_equal(layer(x).numpy(), expected)
    assert nn.MaxPool2d(2)(x).dtype.kind == "i"


class Outputs(nn.Module):
    def __init__(self, form):
        self.form, self.dense = form, nn.Dense(2)

    def forward(self, x):
        y = self.dense(x)
        return {"tuple": (y, (x, y)), "dict": {"y": y, "x": x}}[self.form]


def test_outputs_are_tuples_or_dicts_and_pass_through():
    seen = []
    pair = Outputs("tuple")
    pair.register_forward_hook(lambda m, x, y: seen.append(type(y)))
    y, (x, again) = pair(A)
    assert y is again and x.shape == A.shape and pair.output_shape == ((2,), ((3,), (2,))) and seen == [tuple]
    named = Outputs("dict")
    assert named(A)["y"].shape == (2, 2) and named.output_shape == {"y": (2,), "x": (3,)}

    class First(nn.Module):
        def forward(self, pair):
            return pair[0]

    model = nn.Sequential(Outputs("tuple"), First(), nn.Dense(4, activation="relu"))
    for _ in range(2):
        assert model(A).shape == (2, 4)


def test_tuples_and_dicts_of_arrays_become_tensors():
    class Add(nn.Module):
        def forward(self, x, state=None, more=None):
            h, c = state
            assert all(isinstance(t, tn.Tensor) for t in (x, h, c, *(more or {}).values()))
            return x + h + c

    for state in (A, A), (A, tn.tensor(A)):
        np.testing.assert_array_equal(Add()(A, state).numpy(), 3 * A)
        np.testing.assert_array_equal(Add()(A, state=state, more={"k": A}).numpy(), 3 * A)


def test_create_gets_the_shapes_that_it_names():
    class Bilinear(nn.Module):
        def create(self, a, b):
            self.w = self.parameter((*a, *b), nn.init.glorot_uniform)

        def forward(self, a, b):
            return ops.sum((a @ self.w) * b, 1)

    assert Bilinear()(A, B).shape == (2,)
    assert Bilinear()(b=B, a=A).shape == (2,)
    assert Bilinear().build(3, 5).w.shape == (3, 5)


# ---- buffers ------------------------------------------------------------------------------------------------------


class Centre(nn.Module):
    def __init__(self):
        self.buffer("mean", np.zeros(3))
        self.buffer("count", np.zeros((), np.int64))
        self.more = {"a": [tn.tensor(np.ones(2, np.float32))]}
        self.dense = nn.Dense(2)

    def forward(self, x):
        return self.dense(x - self.mean)


NAMES = {"mean", "count", "more.a.0", "dense.weight", "dense.bias"}


def test_buffers_are_found_saved_loaded_copied_and_moved(tmp_path):
    model = Centre().build(3)
    assert model.mean.dtype == np.float32 and not model.mean.requires_grad and len(model.parameters()) == 2
    with tn.no_grad():
        model.mean[...] = 0.5
        model.count += 7
        model.more["a"][0][...] = 3.0
    assert set(model.state_dict()) == NAMES
    assert [name for name, _ in model.named_buffers()] == ["mean", "count", "more.a.0"]
    tn.save(model, tmp_path / "m.safetensors")
    for other in tn.load(tmp_path / "m.safetensors", Centre()), copy.deepcopy(model), pickle.loads(pickle.dumps(model)):
        for name, value in other.state_dict().items():
            np.testing.assert_array_equal(value, model.state_dict()[name])
            assert value.dtype == model.state_dict()[name].dtype
    if tn.backends.why_not("simulator") is None:
        moved = model.to("simulator")
        assert moved.mean.backend.name == moved.more["a"][0].backend.name == "simulator"


def test_buffers_want_a_name_of_their_own():
    for name in "forward", "not a name", "training":
        with pytest.raises(ValueError, match="must be the name of a new attribute"):
            nn.ReLU().buffer(name, 0.0)


@pytest.mark.parametrize("value", [np.zeros(3), [np.zeros(3)], {"a": (np.arange(2),)}])
def test_an_array_that_saving_would_lose_is_an_error(value, tmp_path):
    model = nn.Sequential(nn.Dense(2), input_shape=3)
    model.layers[0].mean = value
    with pytest.raises(TypeError, match=r"0\.mean.* is a NumPy array, which is not saved; .* self\.buffer\("):
        tn.save(model, tmp_path / "m.safetensors")
    with pytest.raises(TypeError, match=r"0\.mean.* is a NumPy array"):
        tn.fit(model, (A, [0, 1]), checkpoint=tmp_path / "m.safetensors", verbose=False)
    assert not list(tmp_path.iterdir())


# ---- dtypes -------------------------------------------------------------------------------------------------------


def test_a_model_in_float64():
    model = Centre().build(3)
    before = model.state_dict()
    assert model.astype(np.float64) is model
    assert {name: t.dtype.name for name, t in [*model.named_parameters(), *model.named_buffers()]} == {
        "dense.weight": "float64",
        "dense.bias": "float64",
        "mean": "float64",
        "count": "int64",
        "more.a.0": "float64",
    }
    assert model(A).dtype == np.float64 and all(p.requires_grad for p in model.parameters())
    for name, value in model.astype("float32").state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(TypeError, match="must be floating"):
        model.astype(int)
    optimizer = tn.optim.SGD(model.parameters())
    with pytest.raises(RuntimeError, match="astype: an optimiser holds"):
        model.astype(np.float64)
    model.astype(np.float32)  # nothing to do
    del optimizer


@pytest.mark.parametrize(
    "workers", [1, pytest.param(2, marks=pytest.mark.skipif(sys.platform != "linux", reason="forks"))]
)
def test_a_model_in_float64_from_end_to_end(workers, tmp_path):
    """Trained, evaluated, saved and read back: parameters, buffers and outputs are float64, and exact."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 8, 8, 1)), np.arange(20) % 3

    def made():
        return nn.Sequential(
            *(nn.Conv2d(4, 3, padding="same"), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2)),
            *(nn.Flatten(), nn.Dense(5, activation="gelu"), nn.LayerNorm(), nn.Dense(3)),
        )

    model = made().build((8, 8, 1)).astype(np.float64)
    tn.fit(model, (x, y), validation=(x, y), epochs=2, batch_size=8, workers=workers, verbose=False)
    tn.save(model, tmp_path / "m.st")
    loaded = tn.load(tmp_path / "m.st")
    expected = tn.predict(model, x)
    for other in (model, loaded, tn.load(tmp_path / "m.st", made())):
        assert {value.dtype for value in other.state_dict().values()} == {np.dtype(np.float64)}
        assert other.eval()(x).dtype == np.float64
        np.testing.assert_array_equal(tn.predict(other, x), expected, strict=True)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], value, strict=True)


def test_parameters_share_one_dtype():
    given = [0.0, np.zeros(3), [1.0, 2.0], np.zeros(3, np.float32), np.float64(2)]
    assert {nn.Parameter(value).dtype for value in given} == {np.dtype(np.float32)}
    assert nn.Parameter(np.zeros(3), dtype=np.float64).dtype == np.float64
    assert nn.Parameter(tn.tensor(np.zeros(3))).dtype == np.float64
    with pytest.raises(TypeError, match="cannot require a gradient"):
        nn.Parameter(np.arange(3))
    tn.optim.SGD([nn.Parameter(np.zeros(3)), nn.Parameter(0.0)])


# ---- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", [None, "relu"])
def test_errors_name_the_layer_and_the_models_door(fused, kind):
    model = nn.Sequential(nn.Conv2d(2, 3, activation=kind), nn.MaxPool2d(2), nn.Flatten(), nn.Dense(2, activation=kind))
    model.build((8, 8, 1))
    with nn.set_fusion(fused):
        with pytest.raises(
            ValueError,
            match=r"^Sequential: the input has shape \(2, 10, 10, 1\), the model was built for \(N, 8, 8, 1\): Dense: ",
        ):
            model(np.zeros((2, 10, 10, 1)))
        with pytest.raises(ValueError, match=r"built for \(N, 8, 8, 1\): Conv2d: input has 3 channels"):
            model(np.zeros((2, 8, 8, 3)))
        with pytest.raises(ValueError, match=r"^Conv2d: input \(8, 8\) must be"):
            model[0](np.zeros((8, 8)))
    free = nn.Sequential(nn.Conv2d(2, 3, activation=kind), nn.GlobalAvgPool2d(), input_shape=(8, 8, 1))
    assert free(np.zeros((2, 10, 12, 1))).shape == (2, 2)  # no error where any size will do


def test_a_users_own_operation_keeps_its_name():
    class Own(nn.Module):
        def forward(self, x):
            return ops.dense(x, tn.tensor(np.ones((3, 2))))

    with pytest.raises(ValueError, match=r"^dense: input"):
        Own()(np.ones((2, 4)))


# ---- sizes are inferred -------------------------------------------------------------------------------------------


class Overridden(nn.Sequential):
    """Its output is not that of the layers in a row, as its base says it is."""

    def forward(self, x):
        return ops.concatenate([super().forward(x), x], -1)


class Half(nn.Module):
    """It says its size without asking the layer inside."""

    def __init__(self):
        self.inside = nn.Dense(2)

    def forward(self, x):
        return self.inside(x)

    def output_size(self, shape):
        return (*shape[:-1], 2)


BUILT_BY_A_CALL = {
    "a function": lambda: nn.Sequential(nn.Dense(4), lambda x: ops.concatenate([x, x], -1), nn.Dense(2)),
    "several outputs": lambda: nn.Sequential(nn.LSTM(4), lambda y: y[0], nn.Dense(2)),
    "forward alone": lambda: nn.Sequential(Overridden(nn.Dense(4)), nn.Dense(2)),
    "a layer left out": lambda: nn.Sequential(Half(), nn.Dense(2)),
}


@pytest.mark.parametrize("name", BUILT_BY_A_CALL)
def test_build_calls_a_model_whose_sizes_arithmetic_cannot_tell(name):
    built, called = BUILT_BY_A_CALL[name](), BUILT_BY_A_CALL[name]()
    tn.seed(0)
    built.build((5, 3))
    tn.seed(0)
    called(np.zeros((1, 5, 3), np.float32))
    assert str(built) == str(called)
    for ours, other in zip(built.parameters(), called.parameters(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), other.numpy())


def test_build_runs_no_layer_where_all_say_their_sizes_and_makes_the_same_model(monkeypatch):
    def model():
        return nn.Sequential(
            nn.Conv2d(4, 3, padding=1),
            nn.BatchNorm(),
            ops.relu,
            nn.Residual(nn.Conv2d(6, 3, padding=1), nn.ReLU(), shortcut=nn.Conv2d(6, 1)),
            nn.Concatenate(nn.Sequential(), nn.Sequential(nn.MaxPool2d(3, 1, padding=1), nn.SeparableConv2d(2, 1))),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dense(3),
        )

    tn.seed(0)
    called = model()
    called(np.zeros((1, 6, 5, 2), np.float32))
    monkeypatch.setattr(nn.Conv2d, "forward", None)
    tn.seed(0)
    inferred = model().build((6, 5, 2))
    assert str(inferred) == str(called) and inferred.unbuilt() == []
    for ours, other in zip(inferred.parameters(), called.parameters(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), other.numpy())
