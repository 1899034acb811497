"""Classes and functions of one's own in files, and the optimiser's state beside a model."""

import json
import subprocess
import sys

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops, optim
from tinynet.saving import registry
from tinynet.saving.checkpoint import CheckpointError, read, write

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def own_names():
    before = dict(registry.OWN)
    yield
    registry.OWN.clear()
    registry.OWN.update(before)


@tn.register
def swish(x):
    return x * ops.sigmoid(x)


@tn.register
def halves(shape, rng):
    return np.full(shape, 0.5, np.float32)


@tn.register
class Block(nn.Module):
    """Arguments of every kind that a file holds."""

    def __init__(self, width, *layers, activation=swish, scales=(1.0, 2.0), options=None):
        self.dense, self.extra = nn.Dense(width, activation=activation), list(layers)
        self.scale, self.options = scales[0], options or {}
        self.parts = (nn.Dense(2, kernel_init=halves),)
        self.gain = nn.Parameter(1.0)
        self.shift = lambda x: x + 1.0  # made anew each time
        self.buffer("seen", np.zeros(2))

    def create(self, shape):
        self.bias = self.parameter((shape[0],), nn.init.zeros)

    def forward(self, x):
        x = self.shift(self.dense(x + self.bias)) * self.scale * self.gain
        for layer in self.extra:
            x = layer(x)
        return self.parts[0](x) + self.seen


@tn.register
class Net(nn.Sequential):
    def __init__(self, hidden):
        super().__init__(nn.Dense(hidden, activation="relu"), nn.Dense(3), input_shape=3)


@tn.register
class Ids(nn.Module):
    def __init__(self, count):
        self.count, self.head = count, nn.Dense(2)

    def create(self, ids, weights=None):
        self.rows = self.parameter((self.count, 4), nn.init.glorot_uniform)

    def forward(self, ids, weights=None, scale=1.0):
        y = self.rows[ids].mean(1) if weights is None else self.rows[ids].mean(1) * weights
        return self.head(y)


MODELS = {
    "arguments": lambda: nn.Sequential(
        Block(4, nn.ReLU(), nn.Dense(4), scales=(2.0, 1.0), options={"a": [1, {"b": None}]}), swish, nn.Dense(3)
    ),
    "alone": lambda: Block(4),
    "nested": lambda: Block(4, Block(5, activation="tanh"), nn.Residual(nn.Dense(2))),
    "builds itself": lambda: Net(5),
    "functions": lambda: nn.Sequential(nn.Dense(4, activation=swish), nn.Lambda(swish), ops.tanh, nn.Dense(2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_registered_classes_come_back_from_the_file_alone(name, tmp_path):
    path = tmp_path / "m.safetensors"
    model = MODELS[name]()
    if model.built is None:
        model.build(3)
    for i, (_, t) in enumerate([*model.named_parameters(), *model.named_buffers()]):
        t.data[...] = np.random.default_rng(i).standard_normal(t.shape)
    drawn = tn.ops.random.state.snapshot()
    tn.save(model, path)
    again = tn.load(path)
    assert tn.ops.random.state.snapshot() == drawn
    assert type(again) is type(model) and str(again) == str(model)
    state = model.state_dict()
    assert again.state_dict().keys() == state.keys()
    assert all(np.array_equal(again.state_dict()[k], v) for k, v in state.items())
    np.testing.assert_array_equal(again(X).numpy(), model(X).numpy())


def test_ids_and_several_inputs_come_back(tmp_path):
    path, ids, weights = tmp_path / "m.safetensors", np.array([[0, 2], [1, 1]]), np.ones((2, 4))
    for call in (lambda m: m(ids), lambda m: m(ids, weights), lambda m: m(ids, weights=weights, scale=2.0)):
        model = Ids(3)
        expected = call(model).numpy()
        tn.save(model, path)
        for again in tn.load(path), tn.load(path, Ids(3)):
            np.testing.assert_array_equal(call(again).numpy(), expected)
            assert (again.built, again.built_for) == (model.built, model.built_for)
    arrays, description = read(path)
    for wrong in ([["x"]], [[0, [3], "object"]], [[-1, [3], "int64"]], [[0, [-3], "int64"]], [[10**9, [3], "int64"]]):
        description["model"]["inputs"] = wrong
        write(path, arrays, description)
        with pytest.raises(CheckpointError, match="inputs is"):
            tn.load(path)


def test_float64_weights_and_ties_come_back(tmp_path):
    @tn.register
    class Tied(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Dense(3), nn.Dense(3)

        def forward(self, x):
            return self.b(self.a(x))

    model = Tied().build(3)
    model.b.weight = model.a.weight
    model.astype(np.float64)
    tn.save(model, tmp_path / "m.safetensors")
    again = tn.load(tmp_path / "m.safetensors")
    assert again.b.weight is again.a.weight and again.a.weight.dtype == np.float64
    np.testing.assert_array_equal(again(X).numpy(), model(X).numpy())


def test_what_is_not_registered_is_told(tmp_path):
    path = tmp_path / "m.safetensors"
    tn.save(Block(4).build(3), path)
    del registry.OWN["Block"]
    with pytest.raises(CheckpointError, match=r"'Block' is no layer of tinynet.nn, and no class with @tn\.register"):
        tn.load(path)
    tn.save(Block(4).build(3), path)
    with pytest.raises(CheckpointError, match=r"Block is a class of your own; @tn\.register above it"):
        tn.load(path)
    tn.save(nn.Sequential(nn.Dense(2, activation=swish), input_shape=3), path)
    del registry.OWN["swish"]
    with pytest.raises(CheckpointError, match=r"the function swish is not registered"):
        tn.load(path)
    tn.save(nn.Sequential(nn.Dense(2, activation=swish), input_shape=3), path)
    with pytest.raises(CheckpointError, match=r"no name in a file; @tn\.register gives"):
        tn.load(path)


def test_names_are_one_things(tmp_path):
    class Dense(nn.Module):
        pass

    with pytest.raises(ValueError, match="tinynet has a layer Dense of its own"):
        tn.register(Dense)
    with pytest.raises(TypeError, match="a lambda has no name"):
        tn.register(lambda x: x)
    for wrong in 3, nn.ReLU(), int, np.sin:
        with pytest.raises(TypeError, match="neither a Module class nor a function"):
            tn.register(wrong)

    def again():
        @tn.register
        class Once(nn.Module):
            pass

        return Once

    assert again() is not again()  # as where a notebook's cell runs twice
    other = type("Once", (nn.Module,), {})
    with pytest.raises(ValueError, match=r"Once has the name Once already"):
        tn.register(other)


def test_a_file_takes_no_memory_for_weights_that_it_does_not_hold(tmp_path):
    path = tmp_path / "m.safetensors"
    tn.save(Block(4).build(3), path)
    arrays, description = read(path)
    description["model"]["architecture"]["args"] = [10**6]
    write(path, arrays, description)
    with pytest.raises(CheckpointError, match=r"the file holds no weights of shape \(3, 1000000\)"):
        tn.load(path)
    description["model"] |= {"input": [10**9], "inputs": []}
    write(path, arrays, description)
    with pytest.raises(CheckpointError, match="too large to be run unasked"):
        tn.load(path)


def test_another_process_makes_it_from_the_file_alone(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import tinynet as tn\nfrom tinynet import nn\n"
        "@tn.register\nclass Twice(nn.Module):\n"
        "    def __init__(self, n): self.inner = nn.Dense(n)\n"
        "    def forward(self, x): return self.inner(x) * 2.0\n"
    )
    make = "import mine, tinynet as tn; tn.save(mine.Twice(2).build(3), 'm.safetensors')"
    load = "import mine, tinynet as tn; print(type(tn.load('m.safetensors')).__name__)"
    folder = str(tn.__path__[0]).rpartition("/")[0]
    env = {"PYTHONPATH": f"{folder}:{tmp_path}", "OPENBLAS_NUM_THREADS": "1"}
    for code in make, load:
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert not done.returncode, done.stderr
    assert done.stdout == "Twice\n"


# ---- the optimiser's state ------------------------------------------------------------------------------------------


def trained(steps, model=None, optimizer=None):
    if model is None:
        tn.seed(0)
        model = nn.Sequential(nn.Dense(4, activation="tanh"), nn.Dense(3), input_shape=3)
        optimizer = optim.Adam(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ops.softmax_cross_entropy(model(X), np.array([0, 1, 2, 0]))
        loss.backward()
        optimizer.step()
    return model, optimizer


def test_the_optimisers_state_goes_along(tmp_path):
    path = tmp_path / "m.safetensors"
    model, optimizer = trained(3)
    tn.save(model, path, optimizer=optimizer)
    expected = trained(2, model, optimizer)[0].state_dict()
    other, fresh = trained(0)
    assert tn.load(path, other, optimizer=fresh) is other
    for name, value in trained(2, other, fresh)[0].state_dict().items():
        np.testing.assert_array_equal(value, expected[name])
    assert tn.load(path).state_dict().keys() == expected.keys()  # the model alone


def test_a_state_that_does_not_fit_changes_nothing(tmp_path):
    path = tmp_path / "m.safetensors"
    model, optimizer = trained(2)
    tn.save(model, path)
    before, weights = optimizer.state_dict(), model.state_dict()
    with pytest.raises(CheckpointError, match=r"no optimiser's state; save\(…, optimizer=…\) writes it"):
        tn.load(path, model, optimizer=optimizer)
    tn.save(model, path, optimizer=optimizer)
    with pytest.raises(TypeError, match="pass both"):
        tn.load(path, optimizer=optimizer)
    small = nn.Sequential(nn.Dense(4), input_shape=3)
    for wrong, message in (
        (optim.SGD(small.parameters()), "holds the state of Adam, not of SGD"),
        (optim.Adam(small.parameters()), "the optimiser does not fit"),
    ):
        with pytest.raises(CheckpointError, match=message):
            tn.load(path, model, optimizer=wrong)
    del wrong
    trained(1, model, optimizer)
    before, weights = optimizer.state_dict(), model.state_dict()
    other = nn.Sequential(nn.Dense(4), nn.Dense(3), nn.Dense(2), input_shape=3)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        tn.load(path, other, optimizer=optimizer)
    assert all(np.array_equal(optimizer.state_dict()[k], v) for k, v in before.items())
    assert all(np.array_equal(model.state_dict()[k], v) for k, v in weights.items())
    optimizer.groups[0].state[next(iter(optimizer.groups[0].state))][...] = np.nan
    with pytest.raises(CheckpointError, match=r"the optimiser's .* NaN"):
        tn.save(model, path, optimizer=optimizer)


def test_descriptions_are_json(tmp_path):
    tn.save(MODELS["arguments"]().build(3), tmp_path / "m.safetensors")
    assert "own.swish" in json.dumps(read(tmp_path / "m.safetensors")[1])


@tn.register
class Scaled(nn.Module):
    """Settings of several kinds."""

    scale = 1.0

    def __init__(self, factors, names):
        self.factors, self.names = list(factors), dict(names)

    def forward(self, x):
        return x * self.scale * self.factors[0] * self.names["a"]

    def output_size(self, shape):
        return shape


@pytest.mark.parametrize(
    "change, name",
    [
        (lambda m: setattr(m, "scale", 3.0), "scale"),
        (lambda m: m.factors.__setitem__(0, 3.0), "factors"),
        (lambda m: m.names.update(a=3.0), "names"),
    ],
)
def test_settings_that_were_changed_are_not_lost_in_silence(change, name, tmp_path):
    model = nn.Sequential(Scaled([2.0], {"a": 1.0}), input_shape=3)
    tn.save(model, tmp_path / "model")
    assert tn.load(tmp_path / "model")(np.ones((1, 3))).numpy().tolist() == [[2.0, 2.0, 2.0]]
    change(model[0])
    tn.save(model, tmp_path / "model")
    with pytest.raises(CheckpointError, match=rf"0\.{name} was changed after the layer was made"):
        tn.load(tmp_path / "model")
