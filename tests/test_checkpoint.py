"""Checkpoints: what comes back, what is refused, and runs that end to the bit as if nothing had happened."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
import math
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import tinynet as tn
from tinynet import nn, optim
from tinynet.data import Loader, random_shift
from tinynet.saving.checkpoint import FORMAT, CheckpointError, load, read, replacing, save, write
from tinynet.training import EarlyStopping, fit


def network():
    return nn.Sequential(
        nn.Conv2d(3, 3, activation="relu"), nn.Dropout(0.3), nn.Flatten(), nn.Dense(2), input_shape=(5, 5, 1)
    )


def data(n=90):
    x = np.random.default_rng(0).standard_normal((n, 5, 5, 1)).astype(np.float32)
    return x, (x.sum((1, 2, 3)) > 0).astype(np.int64)


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


# ---- models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [name for name, f in tn.models.MODELS.items() if f.__module__ == "tinynet.models.basic" and name != "image128_cnn"],
)  # 13 MB, nothing new
def test_every_model_comes_back(name, tmp_path):
    model = tn.models.MODELS[name]()
    model.build((6,) if model.built is None else model.built)
    save(model, tmp_path / "model.safetensors")
    state = dict(tn.ops.random.state.steps)
    again = load(tmp_path / "model.safetensors")
    assert same(model.state_dict(), again.state_dict()) and repr(again.layers) == repr(model.layers)
    assert tn.ops.random.state.steps == state  # loading draws nothing that counts


def test_arguments_of_every_kind_come_back(tmp_path):
    model = nn.Sequential(
        nn.Conv2d(4, (3, 2), stride=(1, 2), padding="same", padding_mode="edge", activation=tn.ops.tanh),
        nn.Sequential(nn.LeakyReLU(np.float64(0.2)), nn.AvgPool2d(2, count_include_pad=False)),
        nn.GlobalAvgPool2d(),
        nn.Dense(3, bias=False, kernel_init=nn.init.he_normal),
        input_shape=(8, 8, 2),
    )
    model.layers.append(nn.Dropout(0.5))  # after it was made
    model.layers[0].freeze()
    path = tmp_path / "deep" / "model.safetensors"  # folders are made
    save(model, path)
    again = load(path)
    assert same(model.state_dict(), again.state_dict())
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 2)).astype(np.float32)
    assert np.array_equal(model.eval()(x).numpy(), again.eval()(x).numpy())
    assert isinstance(again.layers[-1], nn.Dropout)
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    old = os.umask(0)
    os.umask(old)
    return old


class Own(nn.Module):
    def __init__(self):
        self.inner = nn.Dense(2)

    def forward(self, x):
        return self.inner(x)


def test_own_classes_are_filled_not_made(tmp_path):
    path, model = tmp_path / "own.safetensors", Own().build(3)
    save(model, path)
    with pytest.raises(CheckpointError, match=r"holds a Own .*class of your own.*load\(path, model\)"):
        load(path)
    filled = load(path, Own().build(3))
    assert same(filled.state_dict(), model.state_dict())
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load(path, Own().build(4))
    assert same(load(path, Own()).state_dict(), model.state_dict())  # built for the same inputs first

    class Other(Own):
        def forward(self, x):
            raise KeyError("x")

    with pytest.raises(CheckpointError, match=r"cannot be built for inputs of shape \[3\]"):
        load(path, Other())


def test_functions_and_changes_that_a_file_cannot_tell(tmp_path):
    path = tmp_path / "m.safetensors"
    save(nn.Sequential(nn.Dense(2, activation=lambda x: x * 2.0), input_shape=2), path)
    with pytest.raises(CheckpointError, match="no name in a file"):
        load(path)
    model = nn.Sequential(nn.Dense(2), nn.Dropout(0.1), input_shape=2)
    model.layers[1].rate = 0.9
    save(model, path)
    with pytest.raises(CheckpointError, match=r"1\.rate was changed"):
        load(path)
    model = nn.Sequential(nn.Dense(2), nn.Dense(2), input_shape=2)
    model.extra = nn.Parameter(np.zeros(3))
    save(model, path)
    with pytest.raises(CheckpointError, match=r"the file alone .*not those that its layers make: extra"):
        load(path)
    save(nn.Sequential(nn.Dense(2).build(2)), path)
    with pytest.raises(CheckpointError, match=r"the file alone .*as a whole"):
        load(path)
    shared = nn.ReLU()
    save(nn.Sequential(nn.Dense(2), shared, shared, input_shape=2), path)
    with pytest.raises(CheckpointError, match="two places"):
        load(path)


def tied(*names):
    """Dense layers of one size, with parameters of each that are those of the first."""
    model = nn.Sequential(*(nn.Dense(4) for _ in range(3)), nn.Sequential(nn.Dense(4)), input_shape=4)
    for layer in model[1], model[3][0]:
        for name in names:
            setattr(layer, name, getattr(model[0], name))
    return model


@pytest.mark.parametrize("names", [("weight",), ("bias",), ("weight", "bias")])
def test_tied_weights_are_saved_once_and_loaded_tied(names, tmp_path):
    path, model = tmp_path / "m.safetensors", tied(*names)
    model[0].weight.requires_grad_(False)
    save(model, path)
    assert len(read(path)[0]) == len(model.parameters()) == 8 - 2 * len(names)
    again = load(path)
    assert same(model.state_dict(), again.state_dict())
    for name in names:
        assert getattr(again[0], name) is getattr(again[1], name) is getattr(again[3][0], name)
        assert getattr(again[0], name) is not getattr(again[2], name)
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    assert np.array_equal(model(x).numpy(), again(x).numpy())
    assert same(load(path, tied(*names)).state_dict(), model.state_dict())
    arrays, description = read(path)
    for ties in ({"1.weight": "nothing"}, {"nothing": "0.weight"}, {"1.weight": "0.bias"}, {"1.training": "0.weight"}):
        description["model"]["tied"] = ties
        write(path, arrays, description)
        with pytest.raises(CheckpointError):
            load(path)


def test_a_built_model_is_as_one_that_was_run(tmp_path):
    for model in (tn.models.mnist_cnn(), tied("weight"), nn.Sequential(nn.ReLU()), nn.Sequential(nn.GELU()).build(3)):
        save(model, tmp_path / "m.safetensors")
        for again in load(tmp_path / "m.safetensors"), load(tmp_path / "m.safetensors", copy.deepcopy(model)):
            for ours, theirs in zip(model.modules(), again.modules(), strict=True):
                assert (ours.built, ours.output_shape) == (theirs.built, theirs.output_shape)
                assert vars(ours).keys() - {"training"} == vars(theirs).keys() - {"training"}
            for p in again.parameters():
                assert p.data.flags.writeable and p.data.flags.c_contiguous


def test_a_failed_load_leaves_the_callers_model_unbuilt(tmp_path):
    save(nn.Sequential(nn.Dense(3), nn.Dense(2), input_shape=4), tmp_path / "m.safetensors")
    model, state = nn.Sequential(nn.Dense(3), nn.Dense(5)), dict(tn.ops.random.state.steps)
    with pytest.raises(CheckpointError, match="does not fit"):
        load(tmp_path / "m.safetensors", model)
    assert model.built is None and model.unbuilt() and tn.ops.random.state.steps == state
    assert model.build(7)[0].weight.shape == (7, 3)


@pytest.mark.parametrize(
    "dtype",
    [
        *(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64)),
        "bool",
        "float16",
        "float32",
        "float64",
        ">f4",
        ">i8",
    ],
)
def test_arrays_of_every_dtype_and_shape_come_back(dtype, tmp_path):
    rng = np.random.default_rng(0)
    shapes = (), (0,), (3,), (2, 0), (3, 5)
    arrays = {f"{shape}": np.asarray(rng.integers(0, 2, shape)).astype(dtype) for shape in shapes}
    arrays |= {"byte": np.ones(1, np.int8), "turned": arrays["(3, 5)"].T, 'ü"\n': arrays["(3,)"][::-1]}
    write(tmp_path / "file", arrays, {"a": [1, "ü", None]})
    again, description = read(tmp_path / "file")
    assert description == {"a": [1, "ü", None]} and again.keys() == arrays.keys()
    for name, value in arrays.items():
        assert np.array_equal(again[name], value) and again[name].dtype == value.dtype.newbyteorder("="), name
    with pytest.raises(TypeError, match="complex128"):
        write(tmp_path / "file", {"z": np.zeros(2, complex)}, {})
    assert read(tmp_path / "file")[0].keys() == arrays.keys()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.safetensors"
    save(Own().build(3), path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="out of paper"), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("out of paper")
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.safetensors"]


# ---- damage -----------------------------------------------------------------------------------------------


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_a_thousand_damaged_files(tmp_path):
    """Cut, flipped, overwritten, lengthened and random ones: one error each, whatever was hit."""
    path, rng = tmp_path / "bad.safetensors", np.random.default_rng(0)
    save(nn.Sequential(nn.Dense(3), nn.Dense(2), input_shape=4), path)
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    blanks = [i for i in range(header) if good[i] == 32 and good[i:header].strip() == b""]  # padding says nothing
    for case in range(1000):
        bad, kind = bytearray(good), case % 5
        place = int(rng.integers(0, (header if case % 2 else len(good))))
        if kind == 0:
            bad = bad[:place]
        elif kind == 1:
            place = place if place not in blanks else 0
            bad[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            bad[:8] = struct.pack("<Q", int(rng.integers(0, 2**63)) >> int(rng.integers(0, 63)))
            if bytes(bad) == good:
                continue
        elif kind == 3:
            bad += bytes(rng.integers(0, 256, 1 + place % 50, dtype=np.uint8))
        else:
            bad = bytearray(rng.integers(0, 256, place, dtype=np.uint8))
        refused(path, bytes(bad))


def raw(metadata, tensors=None, data=b""):
    """A safetensors file by hand."""
    header = json.dumps({"__metadata__": metadata, **(tensors or {})}).encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 100,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        raw({"format": "pt"}),
        raw({"format": FORMAT}),
        raw({"format": "tinynet checkpoint 99"}),
        raw({"format": FORMAT, "description": "[" * 9999, "digest": "0"}),
        raw(
            {"format": FORMAT, "description": "{}", "digest": "0"},
            {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}},
        ),
        raw(
            {"format": FORMAT, "description": "{}", "digest": "0"},
            {"a": {"dtype": "F32", "shape": [2**63 - 1, 0], "data_offsets": [0, 0]}},
        ),
        raw(
            {"format": FORMAT, "description": "{}", "digest": "0"},
            {"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}},
            b"ab",
        ),
        raw(
            {"format": FORMAT, "description": "{}", "digest": "0"},
            {"a": {"dtype": "Q7", "shape": [1], "data_offsets": [0, 4]}},
            b"abcd",
        ),
    ],
)
def test_hostile_headers(content, tmp_path):
    refused(tmp_path / "bad.safetensors", content)


DENSE = {"module": "Dense", "args": [2], "kwargs": {}}


def deep(levels):
    spec = DENSE
    for _ in range(levels):
        spec = {"module": "Sequential", "args": [spec], "kwargs": {}}
    return spec


@pytest.mark.parametrize(
    "architecture, shape",
    [
        ({"module": "Dense", "args": [10**12], "kwargs": {}}, [3]),
        ({"module": "Dense", "args": [2], "kwargs": {}}, [10**12]),
        ({"module": "Dense", "args": [2], "kwargs": {}}, [-3]),
        ({"module": "Dense", "args": [2], "kwargs": {}}, "3"),
        ({"module": "Module", "args": [], "kwargs": {}}, [3]),
        ({"module": "init", "args": [], "kwargs": {}}, [3]),
        ({"module": "set_fusion", "args": [False], "kwargs": {}}, [3]),
        ({"module": "__builtins__", "args": [], "kwargs": {}}, [3]),
        ({"module": "Dense", "args": ["x"], "kwargs": {"nonsense": 1}}, [3]),
        ({"module": "Sequential", "args": [DENSE] * 20_000, "kwargs": {}}, [3]),
        ({"module": "LSTM", "args": [2], "kwargs": {"layers": 10**9}}, [5, 3]),
        ({"module": "MaxPool2d", "args": [2], "kwargs": {"padding": 10**6}}, [4, 4, 1]),
        ({"module": "MaxPool2d", "args": [10**6], "kwargs": {"padding": 10**6 - 1}}, [4, 4, 1]),
        ({"module": "Dense", "args": [2], "kwargs": {"activation": {"named": "eval"}}}, [3]),
        ({"module": "Sequential", "args": [{"tuple": 3}], "kwargs": {}}, [3]),
        (deep(20), [4]),
        (deep(100), [3]),
        (DENSE["args"], [3]),
        (None, None),
        ("Dense", [3]),
    ],
)
def test_hostile_architectures(architecture, shape, tmp_path):
    """The digest is right, as anyone can compute it; the description makes no sense."""
    weights = Own().build(3).state_dict()
    path = tmp_path / "bad.safetensors"
    write(
        path,
        {f"model.{k.removeprefix('inner.')}": v for k, v in weights.items()},
        {"kind": "model", "model": {"class": "Dense", "architecture": architecture, "input": shape}},
    )
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def layer(name, *args, **kwargs):
    return {"module": name, "args": list(args), "kwargs": kwargs}


SAME = [layer("Dropout", 0.5), *map(layer, ("GELU", "ReLU", "LeakyReLU", "Sigmoid", "Tanh", "Softmax", "Flatten"))]


@pytest.mark.parametrize(
    "layers, shape",
    [
        *(([one], [1 << 40]) for one in SAME),
        (SAME * 40, [1 << 20, 1 << 20]),
        ([layer("AvgPool2d", 16384, stride=1)], [16384, 16384, 1]),
        ([layer("MaxPool2d", 9999, padding=9998)], [9, 9, 1]),
        ([layer("GlobalAvgPool2d")], [1 << 20, 1 << 20, 3]),
        ([layer("Dense", 500)] * 300, [500]),
        ([layer("Dense", 500, bias=False)] * 300, [500]),
        ([layer("Conv2d", 500, 1, padding=10**9, bias=False)], [3, 3, 500]),
        ([layer("Conv2d", 1 << 40, 1 << 30, padding=1 << 30)], [1, 1, 1 << 40]),
    ],
    ids=lambda v: f"{v!r:.30}",
)
def test_small_files_take_little_memory(layers, shape, tmp_path):
    """Nothing of the sizes that a description tells is made, by the file alone or in the caller's model."""
    path, spec = tmp_path / "m.safetensors", layer("Sequential", *layers)
    for arrays in {}, {"model.0.weight": np.zeros((500, 500), np.float32), "model.0.bias": np.zeros(500, np.float32)}:
        write(path, arrays, {"kind": "model", "model": {"architecture": spec, "input": shape}})
        for model in None, tn.saving.architecture._made(spec):
            tracemalloc.start()
            with contextlib.suppress(CheckpointError):
                load(path, model)
            assert tracemalloc.get_traced_memory()[1] < 50 * os.path.getsize(path) + 20_000_000
            tracemalloc.stop()
    with pytest.raises(CheckpointError, match=r"too large|cannot be built|fit"):
        load(path, Own() if math.prod(shape) > 1 << 24 else Own().build(3))


JUNK = [5, -1, "x", None, True, [], {}, [[]], 1e400, 10**400, {"a": 1}, ["0.weight"], 2**63, 0.5]


def leaves(value, path=()):
    """The places in a JSON value: those of its leaves, and of all that holds them."""
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(inner, (*path, key))


@pytest.mark.parametrize("kind", ["model", "run"])
def test_wrong_types_anywhere_in_a_description_are_one_error(kind, tmp_path):
    path, model = tmp_path / "m.safetensors", nn.Sequential(nn.Dropout(0.5), nn.Dense(2), input_shape=3)
    x, y = np.random.default_rng(0).random((8, 3), np.float32), np.arange(8) % 2

    def resumed(epochs):
        tn.seed(0)
        model = nn.Sequential(nn.Dropout(0.5), nn.Dense(2), input_shape=3)
        return fit(
            model,
            (x, y),
            validation=(x, y),
            epochs=epochs,
            batch_size=4,
            early_stopping=5,
            checkpoint=path,
            checkpoint_every=1,
            resume=True,
            verbose=False,
        )

    if kind == "model":
        save(model, path)
    else:
        resumed(1)
    arrays, description = read(path)
    refused = 0
    for number, place in enumerate(leaves(description)):
        for junk in JUNK if kind == "model" else [JUNK[(number + i * 3) % len(JUNK)] for i in range(2)]:
            bad = copy.deepcopy(description)
            holder = bad
            for key in place[:-1]:
                holder = holder[key]
            holder[place[-1]] = junk
            write(path, arrays, bad)
            for use in (
                (load, lambda path: load(path, copy.deepcopy(model)))
                if kind == "model"
                else (load, lambda path: resumed(2))
            ):
                try:
                    use(path)
                except CheckpointError as error:
                    refused += 1
                    assert "\n" not in str(error)
    assert refused > 100


def test_wrong_dtypes_and_other_files(tmp_path):
    path, model = tmp_path / "m.safetensors", Own().build(3)
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of tinynet"):
        load(path)
    integers = {f"model.{k}": v.astype(np.int32) for k, v in model.state_dict().items()}
    write(path, integers, {"kind": "model", "model": {}})
    with pytest.raises(CheckpointError, match="int32"):
        load(path, model)
    with pytest.raises(CheckpointError, match="is no file"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")
    save(model, path)
    with pytest.raises(CheckpointError, match="holds a model, not a run"):
        fit(model, (np.zeros((4, 3)), np.zeros(4, int)), checkpoint=path, resume=True, verbose=False)


# ---- runs -------------------------------------------------------------------------------------------------


class Crash(Exception):
    pass


def run(path, *, crash=None, seed=1, **options):
    """A run that may crash after so many steps; gives the model and its history without times."""

    def crashing(info):
        if info["step"] == crash:
            raise Crash

    hook = type("Hook", (), {"on_step_end": staticmethod(crashing)})()
    tn.seed(seed)
    model = network()
    history = fit(
        model,
        data(),
        **{
            "epochs": 4,
            "batch_size": 20,
            "checkpoint": path,
            "resume": True,
            "verbose": False,
            "callbacks": [hook],
            "seed": 2,
            **options,
        },
    )
    times = "seconds", "images_per_second"
    return model, [{k: v for k, v in row.items() if k not in times} for row in history]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"checkpoint_every": 2},
        {"optimizer": lambda p: optim.SGD(p, 0.05, momentum=0.9), "checkpoint_every": 3},
        {"schedule": lambda step: 0.9**step, "clip_norm": 0.1, "checkpoint_every": 4},
        {"workers": 2, "checkpoint_every": 1},
    ],
    ids=["epoch", "steps", "momentum", "schedule and clipping", "two workers"],
)
def test_resumed_runs_are_bit_identical(options, tmp_path):
    wanted, history = run(tmp_path / "straight", **options)
    for crash in 3, 12:  # before, and amid, the third epoch of five steps
        path = tmp_path / f"crash-{crash}"
        with pytest.raises(Crash):
            run(path, crash=crash, **options)
        tn.ops.dropout(tn.tensor(np.ones((3, 3))), 0.5)  # other draws in between
        model, again = run(path, **options)
        assert same(model.state_dict(), wanted.state_dict()) and again == history
        assert same(read(path)[0], read(tmp_path / "straight")[0])


def test_loaders_with_augmentation_resume(tmp_path):
    def go(path, crash=None):
        tn.seed(0)
        loader = Loader(*data(), batch_size=16, seed=5, augment=random_shift(1))
        loader.set_epoch(3)
        model = network()

        def end(row):
            if row["epoch"] == crash:
                raise Crash

        fit(model, loader, epochs=3, checkpoint=path, checkpoint_every=2, resume=True, callbacks=[end], verbose=False)
        assert loader.epoch == 6
        return model.state_dict()

    with pytest.raises(Crash):
        go(tmp_path / "b", crash=2)
    assert same(go(tmp_path / "b"), go(tmp_path / "a"))


def test_early_stopping_resumes_and_more_epochs_go_on(tmp_path):
    options = {"validation": data(30), "early_stopping": EarlyStopping(50)}
    wanted, history = run(tmp_path / "straight", epochs=4, **options)
    run(tmp_path / "short", epochs=2, **options)  # ends with its best weights
    model, again = run(tmp_path / "short", epochs=4, **options)
    assert again == history and same(model.state_dict(), wanted.state_dict())
    model, again = run(tmp_path / "short", epochs=4, **options)  # there is nothing left to do
    assert again == history and same(model.state_dict(), wanted.state_dict())
    assert same(load(tmp_path / "short").state_dict(), wanted.state_dict())


@pytest.mark.parametrize(
    "options, text",
    [
        ({"batch_size": 10}, "batch_size was 20, is now 10"),
        ({"lr": 0.1}, r"lr was \[0.001\], is now \[0.1\]"),
        ({"optimizer": "sgd"}, "optimizer was 'Adam', is now 'SGD'"),
        ({"seed": 3}, "seed was 1, is now 3"),
        ({"workers": 2}, "workers was 1, is now 2"),
        ({"clip_norm": 1.0}, r"clip_norm was None, is now 1\.0"),
        ({"early_stopping": 3, "validation": data(9)}, "early_stopping was None"),
        ({"loss": lambda out, y: tn.ops.softmax_cross_entropy(out, y) * 2.0}, "loss was 'softmax_cross_entropy'"),
        ({"train": data(60)}, "train was "),
        ({"schedule": lambda step: 1.0}, "schedule"),
    ],
)
def test_other_settings_are_refused_and_named(options, text, tmp_path):
    model = network()
    common = {"checkpoint": tmp_path / "run", "verbose": False, "epochs": 1, "batch_size": 20, "seed": 1}
    fit(model, data(), **common)
    before, options = model.state_dict(), dict(options)
    with pytest.raises(CheckpointError, match=text):
        fit(model, options.pop("train", data()), **{**common, "resume": True, **options})
    assert same(model.state_dict(), before)


def test_backend_and_version_are_tied(tmp_path, monkeypatch):
    run(tmp_path / "run", epochs=1)
    monkeypatch.setattr("tinynet.training.settings.__version__", "99")
    with pytest.raises(CheckpointError, match=r"tinynet was '.*', is now '99'"):
        run(tmp_path / "run")
    monkeypatch.undo()
    arrays, description = read(tmp_path / "run")
    description["settings"]["backend"] = "cupy"
    write(tmp_path / "run", arrays, description)
    with pytest.raises(CheckpointError, match="backend was 'cupy', is now 'numpy'"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("progress"),
        lambda d: d["progress"].update(epoch="x"),
        lambda d: d["progress"].update(batch=10**9),
        lambda d: d["progress"].update(history=3),
        lambda d: d["progress"].update(surprise=1),
        lambda d: d.update(random=[]),
        lambda d: d.update(settings=None),
        lambda d: d.update(loader="first"),
        lambda d: d["random"].update(steps={}),
    ],
)
def test_nonsense_progress_is_refused(change, tmp_path):
    run(tmp_path / "run", epochs=1)
    arrays, description = read(tmp_path / "run")
    change(description)
    write(tmp_path / "run", arrays, description)
    with pytest.raises(CheckpointError):
        run(tmp_path / "run")


def test_leftovers_of_killed_runs_are_swept(tmp_path):
    (tmp_path / ".run.12345.tmp").write_bytes(b"half a checkpoint")
    run(tmp_path / "run", epochs=1)
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_kill_nine_at_random_moments():
    script = Path(__file__).parent.parent / "benchmarks" / "kill_resume.py"
    spec = importlib.util.spec_from_file_location("kill_resume", script)
    kill_resume = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kill_resume)
    counts = kill_resume.measure(kills=3, epochs=2)
    assert counts["kills"] == 3 and counts["ended"] == counts["identical"] >= 1 and counts["left behind"] == 0


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda m: setattr(m[1], "shortcut", nn.Tanh()), "1.shortcut"),
        (lambda m: m[1].body.layers.append(nn.Tanh()), "1.body.1"),
        (lambda m: m[1].body.layers.pop(), "1.body"),
        (lambda m: m[2].branches.append(nn.Sigmoid()), "2.branches"),
    ],
)
def test_layers_that_were_put_in_or_taken_out_are_noticed(change, text, tmp_path):
    model = nn.Sequential(nn.Dense(3), nn.Residual(nn.ReLU()), nn.Concatenate(nn.ReLU(), nn.Tanh()), input_shape=3)
    x = np.random.default_rng(0).standard_normal((4, 3))
    save(model, tmp_path / "as made")
    np.testing.assert_array_equal(load(tmp_path / "as made")(x).numpy(), model(x).numpy())
    change(model)
    save(model, tmp_path / "changed")
    with pytest.raises(CheckpointError, match=rf"its layers are not those .*: {text}|{text}\.layers was changed"):
        load(tmp_path / "changed")
