"""Search: grid and draws, halving, the same result when it is taken up again, and the picture."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops
from tinynet.insight.plots import can_plot

from .training_runs import data


def make(width=8, dropout=0.0):
    return nn.Sequential(nn.Dense(width, activation="relu"), nn.Dropout(dropout), nn.Dense(2), input_shape=2)


def histories(found):
    """What must be equal in two searches: settings and rows without their times."""
    times = ("seconds", "images_per_second")
    return [(t.settings, [{k: v for k, v in row.items() if k not in times} for row in t.history]) for t in found.trials]


def test_a_grid_is_halved(capsys):
    space = {"lr": [1e-7, 0.01, 0.1], "batch_size": [16, 64], "width": [4, 8]}
    tn.seed(5)
    found = tn.search(make, space, data(), epochs=9)
    assert ops.random.state.seed == 5
    assert {json.dumps(t.settings) for t in found.trials} == {
        json.dumps({"lr": a, "batch_size": b, "width": c})
        for a in space["lr"]
        for b in space["batch_size"]
        for c in (4, 8)
    }
    assert [len(t.history) for t in found.trials] == [9] + [3] * 3 + [1] * 8
    for stage in (found.trials[1:4], found.trials[4:]):
        losses = [t.history[-1]["val_loss"] for t in stage]
        assert losses == sorted(losses)
    best = found.trials[0]
    assert best.settings["lr"] > 1e-3
    lines = str(found).splitlines()
    assert len(lines) == 13 and lines[0].split() == ["lr", "batch_size", "width", "epochs", "val_loss"]
    assert lines[1].split()[-1] == f"{best.history[-1]['val_loss']:.4f}"
    assert len(capsys.readouterr().out.splitlines()) == 12 + 4 + 1
    assert found.model(data()[0]).shape == (200, 2)


def test_the_best_model_is_that_of_fit_alone():
    found = tn.search(make, {"lr": [0.001, 0.03]}, data(), epochs=3, seed=2, monitor="val_accuracy")
    tn.seed(2)
    model = make()
    rows = tn.fit(model, data(), validation=0.2, epochs=3, lr=found.trials[0].settings["lr"], seed=2, verbose=False)
    assert rows[-1]["val_loss"] == found.trials[0].history[-1]["val_loss"] and len(found.trials[0].history) == 3
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, found.model.state_dict()[name])
    assert found.trials[0].history[-1]["val_accuracy"] >= found.trials[1].history[-1]["val_accuracy"]


def test_draws_are_reproducible_and_within_their_ranges():
    space = {"lr": (1e-4, 1e-1), "width": (2, 9), "dropout": [0.0, 0.5], "epochs": [1, 2]}
    one, two, other = (tn.search(make, space, data(60), trials=6, halving=1, seed=seed) for seed in (0, 0, 1))
    assert histories(one) == histories(two) != histories(other)
    for trial in one.trials:
        assert 1e-4 <= trial.settings["lr"] <= 1e-1 and type(trial.settings["width"]) is int
        assert 2 <= trial.settings["width"] <= 9 and len(trial.history) == trial.settings["epochs"]
    assert len({trial.settings["lr"] for trial in one.trials}) == 6


@pytest.mark.parametrize("stop", [2, 5, 8, 11])
@pytest.mark.parametrize("noise", [False, True])  # where nothing can be learnt, more epochs are worse
def test_it_is_taken_up_where_it_was_interrupted(tmp_path, stop, noise):
    space = {"lr": [0.001, 0.03, 0.3], "dropout": [0.0, 0.3]}
    x, y = data(60)
    given = (x, np.random.default_rng(0).permutation(y)) if noise else (x, y)
    whole = tn.search(make, space, given, epochs=4, halving=2)
    steps = []

    class Stop:
        def on_epoch_end(self, row):
            steps.append(row)
            if len(steps) == stop:
                raise KeyboardInterrupt

    options = {"epochs": 4, "halving": 2, "folder": tmp_path / "search"}
    with pytest.raises(KeyboardInterrupt):
        tn.search(make, space, given, **options, callbacks=[Stop()])
    with pytest.raises(ValueError, match="holds another search"):
        tn.search(make, {**space, "lr": [1.0]}, data(60), **options)
    done = len(steps) - 1  # the epoch that was interrupted is not in the file
    steps += [None] * 100
    again = tn.search(make, space, given, **options, callbacks=[Stop()])
    assert histories(again) == histories(whole)
    assert done + len(steps) - 100 - stop == sum(len(trial.history) for trial in whole.trials)
    for name, value in whole.model.state_dict().items():
        np.testing.assert_array_equal(value, again.model.state_dict()[name])
    steps.clear()
    assert histories(tn.search(make, space, given, **options, callbacks=[steps.append])) == histories(whole)
    assert not steps  # nothing is trained again


def test_what_diverges_loses():
    space = {"lr": [1e38, 0.01], "optimizer": ["sgd"]}
    with np.errstate(all="ignore"):
        found = tn.search(make, space, data(60), epochs=2, halving=2)
        assert found.trials[0].settings["lr"] == 0.01 and str(found).splitlines()[-1].split()[0] == "1e+38"
        with pytest.raises(ValueError, match="every trial's loss became NaN"):
            tn.search(make, {"lr": [1e38], "optimizer": ["sgd"]}, data(60), epochs=2)


def test_mistakes_are_explained():
    for space, options, text in (
        ({"lr": (0.1, 1)}, {}, r"lr=\(0\.1, 1\) must be a list; with trials=n, also a range"),
        ({"lr": (1, 0.1)}, {"trials": 3}, "a range 0 < low < high"),
        ({"lr": []}, {}, "must be a list"),
        ({"lr": [0.1]}, {"monitor": "mine"}, "must be a loss, an error or an accuracy"),
        ({"lr": [0.1]}, {"halving": 0}, "halving"),
        ({"lr": [0.1]}, {"monitor": "val_mae"}, "the history has no val_mae"),
        ({"lr": [0.1]}, {"monitor": "val_accuracy", "metrics": []}, "the history has no val_accuracy"),
    ):
        with pytest.raises(ValueError, match=f"search: .*{text}"):
            tn.search(make, space, data(60), **options)


@pytest.mark.skipif(not can_plot(), reason="needs matplotlib")
def test_the_picture_is_a_png(tmp_path):
    found = tn.search(make, {"lr": [0.001, 0.01, 0.1], "optimizer": ["sgd", "adam"]}, data(60), epochs=3)
    tn.insight.plot_search(found, tmp_path / "search.png", title="a search")
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")


def test_a_trial_that_diverges_late_is_behind_those_that_were_stopped():
    """With the schedule, no trial survives its ninth step."""
    options = {"optimizer": "sgd", "lr": 0.1, "schedule": lambda step: 1.0 if step < 12 else 1e30, "epochs": 9}
    with np.errstate(all="ignore"):
        found = tn.search(make, {"width": [2, 3, 4]}, data(160), **options)
    first, second, last = found.trials
    assert len(first.history) == len(second.history) == 3 and first.value <= second.value < last.value == np.inf
    np.testing.assert_allclose(tn.evaluate(found.model, data(160))["loss"], first.value, atol=0.2)


def test_make_must_return_another_model_each_time():
    one = make()
    with pytest.raises(ValueError, match="search: make returned a model that it returned before"):
        tn.search(lambda: one, {"lr": [0.1, 0.2]}, data(60), epochs=1)
