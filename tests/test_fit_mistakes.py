"""What fit refuses, before it has changed anything, and settings of other types that it takes."""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
import pytest

import tinynet as tn
from tests.strategies import named
from tests.training_runs import data, network, quiet
from tinynet import nn, optim
from tinynet.training import EarlyStopping


def test_a_whole_dataset_is_not_a_pair_of_arrays():
    pair = (np.zeros((4, 2), np.float32), np.zeros(4, int))
    with pytest.raises(TypeError, match=r"fit: train is a Dataset; .* take one part"):
        quiet(network(), tn.data.datasets.Dataset(pair, pair, "ab"))


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"train": np.zeros((4, 2))}, TypeError, "pair of arrays"),
        ({"train": (np.zeros((4, 2)), np.zeros(3, int))}, ValueError, "same length"),
        ({"epochs": -1}, ValueError, "epochs=-1"),
        ({"optimizer": "adm"}, ValueError, "'adm' is unknown; choose one of sgd, adam"),
        ({"optimizer": lambda p: 3}, TypeError, "not an Optimizer"),
        ({"early_stopping": 2}, ValueError, "validation"),
        (
            {
                "early_stopping": EarlyStopping(monitor="accuracy"),
                "loss": lambda out, y: (out * out).mean(),
                "train": (np.zeros((4, 2), np.float32), np.zeros((4, 2))),
            },
            ValueError,
            "no class numbers",
        ),
        ({"resume": True}, ValueError, "checkpoint="),
        ({"callbacks": [3]}, TypeError, "on_epoch_end"),
        ({"workers": 0}, ValueError, "workers=0"),
    ],
)
def test_mistakes_are_explained(options, error, text):
    options = {"train": data(20), **options}
    with pytest.raises(error, match=text):
        quiet(network(), **options)


@pytest.mark.parametrize("name", ["checkpoint", "csv"])
def test_bad_places_for_files_are_found_before_the_training(tmp_path, name):
    model = network()
    before = model.state_dict()
    with pytest.raises(IsADirectoryError, match=f"fit: {name}=.* is a folder; name a file in it"):
        quiet(model, data(), **{name: tmp_path})
    assert all((before[k] == v).all() for k, v in model.state_dict().items())
    quiet(model, data(), **{name: tmp_path / "new" / "folder" / "file"})
    assert (tmp_path / "new" / "folder" / "file").is_file()


def test_checkpoint_and_csv_are_two_files(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(ValueError, match="checkpoint and csv are the same file"):
        quiet(network(), data(), checkpoint=tmp_path / "file", csv=tmp_path / "link")


SCALARS = [np.float32, np.float64, np.float16, np.int64, Fraction]


@pytest.mark.parametrize(
    "options",
    [
        *({"lr": kind(1)} for kind in SCALARS),
        *({"clip_norm": kind(1)} for kind in SCALARS),
        *({"early_stopping": kind(2)} for kind in (np.int64, np.uint8)),
        {"batch_size": np.int32(50)},
        *({"early_stopping": EarlyStopping(np.int8(2), min_delta=kind(0))} for kind in SCALARS),
        {"checkpoint_every": np.int64(3), "seed": np.uint64(3)},
        {"workers": np.int64(1)},
        {"optimizer": lambda p: optim.SGD(p, np.float32(0.1), momentum=np.float32(0.5), nesterov=True)},
        {"optimizer": lambda p: optim.Adam(p, betas=(np.float32(0.5), Fraction(1, 2)), eps=np.float16(1))},
        {"optimizer": lambda p: optim.AdamW([{"params": p, "lr": np.float32(1), "weight_decay": Fraction(1, 2)}])},
        {"schedule": lambda step: np.float32(0.5)},
    ],
    ids=named,
)
def test_settings_of_other_numeric_types_reach_the_files_as_numbers(options, tmp_path):
    for epochs in 2, 3:  # the second goes on from the first's file
        history = quiet(
            network(),
            data(),
            **{
                "validation": data(9),
                "checkpoint": tmp_path / "run",
                "resume": True,
                "csv": tmp_path / "csv",
                "epochs": epochs,
                **options,
            },
        )
    rows = (tmp_path / "csv").read_text().splitlines()[1:]
    assert [[float(v) for v in row.split(",")] for row in rows] == [list(row.values()) for row in history]
    assert all(type(v) in (int, float) for row in history for v in row.values())


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"validation": (*data(9)[:1], np.zeros(8))}, ValueError, "same length"),
        (
            {"validation": (np.zeros((9, 3), np.float32), np.zeros(9, int))},
            ValueError,
            r"validation has x of shape \(9, 3\)",
        ),
        ({"validation": (np.zeros(9, np.float32), np.zeros(9, int))}, ValueError, r"validation has x of shape \(9,\)"),
        (
            {"validation": (data(9)[0], np.zeros(9)), "early_stopping": EarlyStopping(monitor="val_accuracy")},
            ValueError,
            "no class numbers",
        ),
        (
            {"train": (data()[0], np.zeros((200, 2))), "early_stopping": EarlyStopping(monitor="accuracy")},
            ValueError,
            "no class numbers",
        ),
        ({"early_stopping": 2.5}, ValueError, "patience=2.5"),
        ({"early_stopping": "3"}, ValueError, "patience='3'"),
        ({"csv": "file/below"}, OSError, "file"),
        ({"checkpoint": "file/below"}, OSError, "file"),
        ({"csv": "x" * 256}, OSError, "too long"),
        ({"checkpoint": "x" * 256}, OSError, "too long"),
    ],
)
def test_what_would_fail_after_an_epoch_fails_before_the_first_step(options, error, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    model = network()
    before = model.state_dict()
    with pytest.raises(error, match=text):
        quiet(model, **{"train": data(), "validation": data(9), **options})
    assert all((before[k] == v).all() for k, v in model.state_dict().items())


def test_a_state_that_no_file_holds_is_refused_before_the_first_step(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            self.inner, self.buffer = nn.Dense(2), tn.Tensor(np.zeros(2, complex), tn.backends.get("numpy"))

        def forward(self, x):
            return self.inner(x)

    model = Own().build(2)
    before = model.inner.weight.numpy().copy()
    with pytest.raises(TypeError, match="complex128"):
        quiet(model, data(), checkpoint=tmp_path / "run")
    assert np.array_equal(before, model.inner.weight.numpy()) and os.listdir(tmp_path) == []


def test_one_rate_for_groups_of_several_is_refused():
    model = nn.Sequential(nn.Dense(4), nn.Dense(3), input_shape=5)
    x, y = np.zeros((4, 5), np.float32), np.arange(4) % 3
    optimizer = tn.optim.Adam(tn.optim.layerwise(model, 1e-3))
    with pytest.raises(
        ValueError, match=r"fit: lr=0\.1 would be the rate of all of the optimizer's groups, which have"
    ):
        tn.fit(model, (x, y), lr=0.1, optimizer=optimizer, epochs=1, verbose=False)
    assert tn.fit(model, (x, y), optimizer=optimizer, epochs=1, verbose=False)
    tn.fit(model, (x, y), lr=0.1, optimizer=tn.optim.Adam(model.parameters()), epochs=1, verbose=False)
