"""fit and evaluate: history, callbacks, early stopping, what is shown, Ctrl-C; the report."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import threading
from fractions import Fraction

import numpy as np
import pytest

import tinynet as tn
from tests.strategies import named
from tinynet import nn, ops, optim, parallel
from tinynet.data import Loader
from tinynet.insight import can_plot, plot_confusion, plot_history, plot_mistakes, report
from tinynet.training import evaluate, fit
from tinynet.training.progress import Display
from tinynet.training.run import STOP, EarlyStopping


def data(n=200, seed=0):
    """Points in the plane; the class tells on which side of a line they are."""
    x = np.random.default_rng(seed).standard_normal((n, 2)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > 0).astype(np.int64)


def network():
    return nn.Sequential(nn.Dense(8, activation="relu"), nn.Dense(2), input_shape=2)


def quiet(model, train, **options):
    return fit(model, train, verbose=False, **options)


def test_history_learns_and_is_complete():
    history = quiet(network(), data(), validation=data(50, 1), epochs=4, lr=0.02)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert list(history[0]) == [
        "epoch",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "lr",
        "seconds",
        "images_per_second",
    ]
    assert history[-1]["loss"] < history[0]["loss"] and history[-1]["val_accuracy"] > 0.8
    assert history[0]["lr"] == 0.02 and history[0]["seconds"] > 0


def test_one_epoch_is_the_plain_loop():
    """fit does what the loop that everybody writes does."""
    x, y = data()
    ours, theirs = network(), network()
    theirs.load_state_dict(ours.state_dict())
    quiet(ours, (x, y), epochs=2, batch_size=32, optimizer="sgd", lr=0.1, seed=5)
    optimizer = optim.SGD(theirs.parameters(), 0.1)
    loader = Loader(x, y, batch_size=32, seed=5, prefetch=0)
    for _ in range(2):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = tn.ops.softmax_cross_entropy(theirs(xb), yb)
            loss.backward()
            optimizer.step(loss)
    for name, value in ours.state_dict().items():
        assert np.array_equal(value, theirs.state_dict()[name])


def test_two_workers_train_as_one_up_to_rounding():
    results = []
    for workers in 1, 2:
        tn.seed(0)
        model = nn.Sequential(nn.Dense(8, activation="relu"), nn.Dropout(0.3), nn.Dense(2), input_shape=2)
        history = quiet(model, data(), epochs=2, workers=workers)
        results.append((model.state_dict(), history[-1]["accuracy"]))
    assert results[0][1] == results[1][1]
    for name, value in results[0][0].items():
        np.testing.assert_allclose(results[1][0][name], value, rtol=1e-4, atol=1e-5)


def test_a_whole_dataset_is_not_a_pair_of_arrays():
    pair = (np.zeros((4, 2), np.float32), np.zeros(4, int))
    with pytest.raises(TypeError, match=r"fit: train is a Dataset; .* take one part"):
        quiet(network(), tn.data.datasets.Dataset(pair, pair, "ab"))


def test_loaders_bring_batch_size_and_epoch():
    loader = Loader(*data(), batch_size=50, seed=1)
    steps = []

    class Count:
        def on_step_end(self, info):
            steps.append((info["epoch"], info["batch"], info["step"]))

    quiet(network(), loader, epochs=2, callbacks=[Count()])
    assert steps == [(1, 1, 1), (1, 2, 2), (1, 3, 3), (1, 4, 4), (2, 1, 5), (2, 2, 6), (2, 3, 7), (2, 4, 8)]
    assert loader.epoch == 2  # a second fit sees the samples in another order


def test_evaluate_is_the_mean_over_samples_and_leaves_modes_alone():
    x, y = data(37)
    model = nn.Sequential(nn.Dense(2), nn.Dropout(0.9), input_shape=2)
    model.layers[0].training = False
    measured = evaluate(model, (x, y), batch_size=10)
    assert measured == evaluate(model, (x, y), batch_size=10)
    assert [m.training for m in model.modules()] == [True, False, True]
    model.eval()
    assert measured["loss"] == pytest.approx(tn.ops.softmax_cross_entropy(model(x), y).item(), rel=1e-6)
    assert measured["accuracy"] == np.mean(model(x).numpy().argmax(1) == y)


def test_regression_has_no_accuracy():
    x, _ = data()
    y = (x @ np.array([[2.0], [-1.0]])).astype(np.float64)  # float64 targets of a float32 model
    model = nn.Sequential(nn.Dense(1), input_shape=2)
    history = quiet(model, (x, y), validation=(x, y), epochs=20, optimizer="sgd", lr=0.1, loss=tn.ops.mse)
    assert history[-1]["accuracy"] is None and history[-1]["val_accuracy"] is None and history[-1]["loss"] < 1e-3
    assert model.parameters()[0].dtype == np.float32


@pytest.mark.parametrize("optimizer", ["sgd", lambda p, **k: optim.SGD(p, momentum=0.9, **k), "instance"])
def test_optimizers_by_name_function_and_instance(optimizer):
    model = network()
    if optimizer == "instance":
        optimizer = optim.AdamW(model.parameters())
    quiet(model, data(), optimizer=optimizer, lr=0.1, epochs=2)
    if not isinstance(optimizer, optim.Optimizer):
        optim.SGD(model.parameters())  # the model is free again
    assert evaluate(model, data())["accuracy"] > 0.7


def test_schedule_scales_the_rate_at_each_step():
    rates = []

    class Rates:
        def on_step_end(self, info):
            rates.append(info["lr"])

    quiet(
        network(),
        data(),
        batch_size=100,
        epochs=2,
        lr=0.5,
        optimizer="sgd",
        callbacks=[Rates()],
        schedule=lambda step: 0.5**step,
    )
    assert rates == [0.5, 0.25, 0.125, 0.0625]


def test_a_schedule_leaves_the_optimisers_rate_as_it_was():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    quiet(model, data(), optimizer=optimizer, schedule=lambda step: 0.1)
    assert optimizer.lr == 0.5
    with pytest.raises(ZeroDivisionError):
        quiet(model, data(), optimizer=optimizer, schedule=lambda step: 0.1 / (step < 1))
    assert optimizer.lr == 0.5 and optimizer.state_dict()["0.counts"][0, 0] == 0.5


@pytest.mark.parametrize("workers", [1, 2])
def test_accuracy_is_of_class_numbers_and_of_nothing_else(workers):
    """Labels (N, 1), one-hot rows, and a class for each of several places have none, in training and validation."""
    x = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)

    def squares(out, y):
        return ops.mse(out, tn.tensor(np.asarray(y, np.float32)))

    class Places(nn.Module):
        def __init__(self):
            self.dense = nn.Dense(6)

        def forward(self, x):
            return self.dense(x).reshape(len(x), 3, 2)

    for model, y, loss in (
        (nn.Sequential(nn.Dense(1), input_shape=6), (x[:, :1] > 0).astype(int), squares),
        (nn.Sequential(nn.Dense(3), input_shape=6), np.eye(3, dtype=int)[np.arange(40) % 3], squares),
        (Places(), (x[:, :3] > 0).astype(int), lambda out, y: (out[:, :, 0] - np.asarray(y, np.float32)).var()),
    ):
        row = quiet(model, (x, y), validation=(x, y), loss=loss, workers=workers)[0]
        assert row["accuracy"] is None and row["val_accuracy"] is None and np.isfinite(row["val_loss"])


def test_clip_norm_bounds_the_update():
    model = network()
    before = model.state_dict()
    quiet(model, data(100), batch_size=100, optimizer="sgd", lr=1.0, clip_norm=1e-3)
    moved = sum(np.sum((v - before[k]) ** 2) for k, v in model.state_dict().items()) ** 0.5
    assert 0.9e-3 < moved < 1.1e-3


def test_callbacks_get_rows_and_can_stop():
    rows = []
    history = quiet(
        network(), data(), epochs=9, callbacks=[rows.append, lambda row: STOP if row["epoch"] == 3 else None]
    )
    assert len(history) == 3 and rows == history


def test_early_stopping_restores_the_best_weights(monkeypatch):
    model, values = network(), iter([0.5, 0.4, 0.6, 0.45, 0.1])
    weights = []

    def evaluate(trainer, x, y):
        weights.append(model.state_dict())
        return next(values), len(x)

    monkeypatch.setattr(parallel.Trainer, "evaluate", evaluate)
    history = quiet(model, data(), validation=data(8), epochs=9, early_stopping=2)
    assert [row["val_loss"] for row in history] == [0.5, 0.4, 0.6, 0.45]
    for name, value in model.state_dict().items():
        assert np.array_equal(value, weights[1][name])


def test_early_stopping_judges():
    accuracy = EarlyStopping(monitor="val_accuracy", min_delta=0.01)
    assert accuracy.improved(0.5, None) and accuracy.improved(0.52, 0.5) and not accuracy.improved(0.505, 0.5)
    loss = EarlyStopping()
    assert loss.improved(0.4, 0.5) and not loss.improved(0.5, 0.5) and not loss.improved(float("nan"), 0.5)
    assert loss.improved(0.4, float("nan"))


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


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_have_no_control_characters(capsys):
    fit(network(), data(), validation=data(50, 1), epochs=2)
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == 2 and lines[1].startswith("epoch 2/2  loss ") and lines[1].endswith(" images/s")
    assert "val_accuracy" in lines[0] and "%" in lines[0] and shown.err == ""
    assert not set(shown.out) & {"\r", "\x1b", "\b"}


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    before = threading.active_count()
    fit(network(), data(200), batch_size=1, epochs=1)
    shown = terminal.getvalue()
    assert "\r" in shown and "epoch 1/1" in shown and "images/s" in shown and "100% |" in shown and "left" in shown
    assert shown.splitlines()[-1].startswith("epoch 1/1  loss")
    assert threading.active_count() == before


@pytest.mark.skipif(os.name != "posix", reason="needs a terminal of its own")
def test_eighty_columns_show_loss_and_accuracy():
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(slave, "w") as terminal:
        display = Display(10, 60_000, stream=terminal)
        display.start(0, 0)
        display.bar.mininterval = 0
        display.began -= 10
        display.step(30_000, 1.98304, 0.8691)
        display.close()
    drawn = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed and all is read
        while part := os.read(master, 4096):  # a terminal may hand on its text in several parts
            drawn += part
    os.close(master)
    lines = re.split("[\r\n]+", drawn.decode())
    (line,) = [line for line in lines if "loss 1.9830  accuracy 86.91%" in line]
    assert max(map(len, lines)) <= 80 and "left" in line and "images/s" in line


def test_no_standard_output_is_no_mistake(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert len(fit(network(), data(50))) == 1


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


def test_reports_take_arrays_of_names_bytes_and_refuse_what_is_no_image(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Dense(2), input_shape=(4, 4, 1))
    x, y = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1)).astype(np.uint8), np.arange(20) % 2
    measured = report(model, (x, y), classes=np.array(["even", "odd"]))
    assert measured.classes == ("even", "odd")
    with pytest.raises(ValueError, match=r"report: wants .* labels \(20, 1\)"):
        report(model, (x, y[:, None]))
    if can_plot():
        plot_mistakes(measured, x, tmp_path / "bytes.png")
        plot_mistakes(measured, x / np.float32(255), tmp_path / "floats.png")
        assert (tmp_path / "bytes.png").read_bytes() == (tmp_path / "floats.png").read_bytes()
        with pytest.raises(ValueError, match=r"plot_mistakes: images must be .* got \(20, 16\)"):
            plot_mistakes(measured, x.reshape(20, 16), tmp_path / "rows.png")


def test_long_epochs_say_something_in_a_log(monkeypatch):
    monkeypatch.setattr("tinynet.training.progress.PAUSE", 0.0)
    stream = io.StringIO()
    display = Display(3, 100, stream=stream)
    display.start(0, 0)
    display.step(40, 0.5, 0.25)
    assert stream.getvalue().startswith("epoch 1/3  40/100  loss 0.5000  accuracy 25.00%")


def test_csv_is_the_history(tmp_path):
    path = tmp_path / "new" / "history.csv"
    history = quiet(network(), data(), validation=data(9), epochs=2, csv=path)
    head, *rows = path.read_text().splitlines()
    assert head.split(",") == list(history[0])
    assert [[float(v) for v in row.split(",")] for row in rows] == [list(row.values()) for row in history]
    assert os.listdir(path.parent) == ["history.csv"]  # nothing temporary is left


def test_ctrl_c_ends_after_the_step_with_a_checkpoint(tmp_path):
    path, model = tmp_path / "run.safetensors", network()
    handler, threads = signal.getsignal(signal.SIGINT), threading.active_count()

    class Interrupt:
        def on_step_end(self, info):
            if info["step"] == 5:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        quiet(model, data(), epochs=3, batch_size=50, checkpoint=path, callbacks=[Interrupt()], optimizer="sgd")
    assert signal.getsignal(signal.SIGINT) is handler and threading.active_count() == threads
    optim.SGD(model.parameters())  # the model can be used on
    straight, resumed = network(), network()
    straight.load_state_dict(model.state_dict())
    history = quiet(resumed, data(), epochs=3, batch_size=50, checkpoint=path, resume=True, optimizer="sgd")
    assert len(history) == 3


def test_frozen_layers_stay():
    model = network()
    model.layers[0].freeze()
    before = model.state_dict()
    quiet(model, data())
    after = model.state_dict()
    assert np.array_equal(before["0.weight"], after["0.weight"])
    assert not np.array_equal(before["1.weight"], after["1.weight"])


# ---- the report -----------------------------------------------------------------------------------------------


class Answers(nn.Module):
    """Says for input x that the class is x, rather surely."""

    def forward(self, x):
        return tn.tensor(np.eye(3, dtype=np.float32)[x.numpy().astype(int).ravel()] * 3)


def test_report_by_hand():
    predicted, true = np.array([[0], [0], [1], [1], [1], [0]]), np.array([0, 1, 1, 1, 0, 0])
    measured = report(Answers(), (predicted, true), classes=["a", "b", "c"], batch_size=4)
    assert measured.confusion.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert measured.accuracy == 4 / 6
    np.testing.assert_allclose(measured.precision, [2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(measured.recall, [2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(measured.f1, [2 / 3, 2 / 3, 0])
    assert sorted(measured.worst) == [1, 4]
    np.testing.assert_allclose(measured.probability, np.e**3 / (np.e**3 + 2), rtol=1e-6)
    text = str(measured)
    assert "66.67%" in text and "predicted" in text
    with pytest.raises(ValueError, match="class numbers"):
        report(Answers(), (predicted, true + 3))


@pytest.mark.skipif(not can_plot(), reason="needs matplotlib")
def test_pictures_are_png(tmp_path):
    rng = np.random.default_rng(0)
    measured = report(Answers(), (rng.integers(0, 3, (30, 1)), rng.integers(0, 3, 30)), classes=["cat", "dog", "ox"])
    row = {"epoch": 1, "loss": 1.0, "accuracy": 0.5, "val_loss": None, "val_accuracy": None}
    plot_history([row], tmp_path / "a.png")
    plot_confusion(measured, tmp_path / "b.png", title="title")
    plot_mistakes(measured, rng.random((30, 4, 4, 3)), tmp_path / "c.png")
    for name in "abc":
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
