"""A newcomer's first hours: the line typed, and what comes back."""

from __future__ import annotations

import inspect
import json
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import tinynet as tn
from tinynet import cli, nn, ops, optim
from tinynet.insight.report import Report

from .pages import page


def picture(path, level, size=(28, 28), colour=False):
    """A .npy picture of an even brightness, with a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(abs(hash(path.name)) % 1000)
    noise = 0.1 * rng.random((*size, 3 if colour else 1), dtype=np.float32)
    np.save(path, np.clip(level * np.array([1, 0.5, 0.2] if colour else [1]) + noise, 0, 1).astype(np.float32))


def folder(path, names, count=12, **more):
    for i, name in enumerate(names):
        for j in range(count):
            picture(path / name / f"{j}.npy", 0.8 * i / max(1, len(names) - 1), **more)
    return path


# ---- the command: predict -----------------------------------------------------------------------------------


def test_predict_names_its_run_and_shows_what_it_sees(here, tmp_path, capsys, monkeypatch):
    digit = tn.data.synthetic_digits(1, 5)[0][0, ..., 0]
    np.save(tmp_path / "page.npy", page(np.random.default_rng(0), digit, height=300, width=400))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", "page.npy", "--show", "--run", str(here / "runs" / "mlp-digits-1")]) == 0
    first, line, *sketch, wrote = capsys.readouterr().out.splitlines()
    assert "runs/mlp-digits-1 (mlp, trained on digits, test accuracy" in first and first.endswith("sees")
    assert re.match(r"page\.npy: (not sure \(below 60%\): )?\d \(", line)
    assert len(sketch) == 14 and all(len(row) == 32 for row in sketch) and any("@" in row for row in sketch)
    assert wrote == "  wrote page-seen.png"
    image = pytest.importorskip("PIL.Image").open("page-seen.png")
    assert image.size == (280, 280) and image.mode == "L" and image.getextrema() == (0, 255)


def test_predict_says_that_a_page_is_empty(here, capsys):
    np.save(here / "empty.npy", np.full((300, 400), 0.9, np.float32))
    assert cli.main(["predict", "empty.npy"]) == 0
    assert "empty.npy: not sure: nothing is drawn here" in capsys.readouterr().out


def test_predict_says_which_of_several_drawings_it_read(here, capsys):
    sheet = np.ones((300, 400), np.float32)
    sheet[100:160, 100:110] = sheet[100:190, 300:312] = 0.1
    np.save(here / "two.npy", sheet)
    assert cli.main(["predict", "two.npy"]) == 0
    assert "(the largest of 2 drawings)" in capsys.readouterr().out


def test_predict_obeys_tinynet_debug(here, monkeypatch):
    monkeypatch.setenv("TINYNET_DEBUG", "1")
    with pytest.raises(tn.data.DataError, match="nowhere"):
        cli.main(["predict", "nowhere.npy"])


# ---- the command: folders -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, colour, network",
    [((30, 40), True, "cifar_cnn"), ((40, 30), False, "mnist_cnn"), ((100, 120), True, "image128_cnn")],
)
def test_train_chooses_a_network_for_a_folder_and_says_why(tmp_path, monkeypatch, capsys, size, colour, network):
    folder(tmp_path / "photos", ["apples", "pears", "plums"], 6, size=size, colour=colour)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--data", "photos", "--epochs", "1", "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"18 {'colour' if colour else 'grey'} pictures of about {size[0]}×{size[1]}: {network}")
    model = tn.load(f"runs/{network}-photos-1/checkpoint.safetensors")
    assert model.output_shape == (3,)


def test_one_class_and_other_classes_are_refused_in_one_line(here, tmp_path, capsys):
    run = str(here / "runs" / "mlp-digits-1")
    folder(tmp_path / "one", ["cats"])
    folder(tmp_path / "animals", ["cats", "dogs"])
    folder(tmp_path / "some", ["3", "5"])
    assert cli.main(["train", "--data", str(tmp_path / "one")]) == 2
    assert "holds one class alone (cats)" in (err := capsys.readouterr().err) and len(err.splitlines()) == 1
    assert cli.main(["evaluate", run, "--data", str(tmp_path / "animals")]) == 2
    assert "cats, dogs not among 0, 1, 2, 3 and 6 more" in (err := capsys.readouterr().err)
    assert len(err.splitlines()) == 1
    assert cli.main(["evaluate", run, "--data", str(tmp_path / "some")]) == 0  # some of the run's own classes
    rows = capsys.readouterr().out.splitlines()
    counts = {row.split()[0]: row.split()[-1] for row in rows[3:13]}
    assert {name for name, count in counts.items() if count != "0"} == {"3", "5"}


def test_what_cannot_be_written_is_noticed_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    monkeypatch.setattr("tinynet.data.synthetic_digits", lambda *_: pytest.fail("it works first"))
    for out in ("file/run", "/proc/run", "x" * 300):
        if out == "/proc/run" and sys.platform != "linux":
            continue
        assert cli.main(["train", "--out", out]) in (1, 2)
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and "no run can be written there" in err and "--out" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_inside_the_folder_of_runs_the_newest_is_found(here, monkeypatch, capsys):
    monkeypatch.chdir(here / "runs")
    assert cli.main(["evaluate"]) == 0
    assert "runs/runs" not in capsys.readouterr().out and not Path("runs").exists()


@pytest.mark.parametrize("typed, meant", [("trian", "train"), ("evalute", "evaluate"), ("gradchek", "gradcheck")])
def test_near_misses_of_commands_get_a_suggestion(capsys, typed, meant):
    assert cli.main([typed]) == 2
    assert f"did you mean '{meant}'?" in capsys.readouterr().err


# ---- what is shown ------------------------------------------------------------------------------------------


def measured(names, count=200):
    rng = np.random.default_rng(0)
    true = rng.integers(0, len(names), count)
    seen = np.where(rng.random(count) < 0.7, true, rng.integers(0, len(names), count))
    matrix = np.bincount(true * len(names) + seen, minlength=len(names) ** 2).reshape(len(names), -1)
    p = rng.uniform(0.3, 1, count)
    return Report(matrix, true, seen, p, -np.log(p), tuple(names))


def test_long_names_over_a_confusion_matrix_are_numbered():
    text = str(measured([f"letter {c}" for c in "ABCD"]))
    assert "letter letter" not in text and "[0] [1] [2] [3]" in text and "letter C  [2]" in text
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^ +cat +dog$", str(measured(["cat", "dog"])), re.M)


def test_mistakes_come_in_the_order_of_confidence():
    report = measured(["cat", "dog", "ox"])
    sure = report.probability[report.worst]
    assert len(sure) > 10 and (np.diff(sure) <= 0).all()


def test_names_do_not_overprint_and_colours_are_explained(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from tinynet.insight import plots

    drawn = []
    monkeypatch.setattr(plots, "_finish", lambda figure, path, title: drawn.append(figure))
    names = ["handwritten capital letter A, slanted", "handwritten capital letter B, slanted", "ox"]
    report = measured(names)
    plots.plot_confusion(report, tmp_path / "c.png")
    plots.plot_mistakes(report, np.ones((200, 8, 8, 1), np.float32), tmp_path / "m.png")
    confusion, mistakes = drawn
    assert "share of each row" in confusion._supxlabel.get_text()
    mistakes.canvas.draw()
    boxes = [axes.title.get_window_extent() for axes in mistakes.axes]
    rows = {}
    for box in boxes:
        rows.setdefault(round(box.y0), []).append((box.x0, box.x1))
    for row in rows.values():
        row.sort()
        assert all(a[1] <= b[0] + 1 for a, b in pairwise(row)), row
    assert all(axes.spines["left"].get_visible() for axes in mistakes.axes)  # a frame about white images


def test_a_download_says_what_it_does(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(tn.data.DataError):
        tn.data.mnist(tmp_path, mirror="http://127.0.0.1:9")
    err = capsys.readouterr().err
    assert "asking http://127.0.0.1:9/mnist/train-images" in err and "trying again in 1 s" in err


# ---- habits from elsewhere ----------------------------------------------------------------------------------


def test_a_cell_with_an_optimizer_may_run_again():
    model = nn.Sequential(nn.Dense(2), input_shape=3)
    first = optim.Adam(model.parameters(), lr=1e-4)
    second = optim.Adam(model.parameters(), lr=1e-4)
    ops.sum(model(np.ones((1, 3), np.float32))).backward()
    second.step()
    with pytest.raises((ValueError, RuntimeError), match="optimi"):
        first.step()


def test_plain_tensors_are_optimised():
    w = tn.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)
    ops.sum(w * w).backward()
    optimizer.step()
    np.testing.assert_allclose(w.numpy(), [0.8, 1.6], rtol=1e-6)


def test_an_array_that_saving_would_lose_is_an_error(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            self.mean, self.dense = np.zeros(3), nn.Dense(2)

        def forward(self, x):
            return self.dense(x)

    with pytest.raises(TypeError, match="mean"):
        tn.save(Net().build(3), tmp_path / "net.safetensors")


def test_whole_numbers_do_not_promote():
    assert (tn.tensor([1.0, 2.0]) * [1, 2]).dtype == np.float32


@pytest.mark.parametrize(
    "line, text",
    [
        ("nn.Linear", "nn.Dense"),
        ("ops.sigmoit", "sigmoid"),
        ("nn.MaxPooling2D", "nn.MaxPool2d"),
        ("tn.manual_seed", "tn.seed"),
        ("tn.models.mnist_cn", "models.mnist_cnn"),
        ("tn.data.train_test_split", "data.split"),
        ("nn.Sequential().predict", "tn.predict(model, x)"),
    ],
)
def test_names_from_elsewhere_are_answered(line, text):
    with pytest.raises(AttributeError, match=re.escape(text)):
        eval(line, {"nn": nn, "ops": ops, "tn": tn, "optim": optim})


def test_models_can_be_cut_and_hold_functions():
    model = nn.Sequential(nn.Dense(4), ops.relu, nn.Dense(2), input_shape=3)
    assert isinstance(model[:2], nn.Sequential) and "Dense" in repr(model)
    assert model(np.ones((1, 3), np.float32)).shape == (1, 2)


PUBLIC = {f"{p}.{n}": getattr(m, n) for p, m in {"nn": nn, "tn": tn, "optim": optim}.items() for n in m.__all__}
CALLS = {name: f for name, f in PUBLIC.items() if inspect.isfunction(f)} | {
    name: f for name, f in PUBLIC.items() if inspect.isclass(f) and issubclass(f, nn.Module) and f is not nn.Module
}


@pytest.mark.parametrize("name", [*CALLS, "tn.parallel.trainer"])
def test_signatures_name_the_arguments(name):
    signature = inspect.signature(CALLS.get(name, tn.parallel.trainer))
    assert " at 0x" not in str(signature)
    if name.startswith("nn.") or hasattr(CALLS.get(name), "__wrapped__"):
        kinds = {p.name: p.kind for p in signature.parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds.values() and "extra" not in kinds


@pytest.mark.parametrize(
    "line, text",
    [
        ("nn.MaxPool2d(pool_size=2)", "kernel_size"),
        ("nn.MaxPool2d(2, strides=2)", "stride="),
        ("nn.AvgPool2d(2, strides=2)", "stride="),
        ("nn.Conv2d(filters=8, kernel_size=3)", "out_channels"),
        ("nn.Dense(units=8)", "out_features"),
        ("nn.Dropout(p=0.5)", "rate"),
        ("ops.concatenate([], dim=0)", "axis="),
        ("ops.stack([], dim=0)", "axis="),
        ("tn.fit(model, (), validation_split=0.1)", "validation=0.1"),
        ("tn.parallel.trainer(model, None, learning_rate=0.1)", "lr="),
    ],
)
def test_arguments_from_elsewhere_are_answered(line, text):
    with pytest.raises(TypeError, match=re.escape(f"in tinynet: {text}")):
        eval(line, {"nn": nn, "tn": tn, "ops": ops, "model": nn.Sequential(nn.Dense(2))})


def test_the_gradient_of_an_intermediate_tensor_is_explained():
    x = tn.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    y.sum().backward()
    with pytest.warns(UserWarning, match=r"multiply, shape \(2,\).*tn.grad"):
        assert y.grad is None
    assert x.grad is not None and (tn.tensor([1.0]) * 2).grad is None and y.detach().grad is None


def test_summary_builds_a_layer_that_was_replaced(capsys):
    model = nn.Sequential(nn.Dense(4), nn.Dense(3), input_shape=2)
    model[1] = nn.Dense(5)
    model.summary()
    assert "Dense(5)  (5,)" in capsys.readouterr().out and model.output_shape == (5,)


@pytest.mark.parametrize(
    "make",
    [lambda: nn.Dense(3), nn.ReLU, nn.Flatten, lambda: nn.Dropout(0.5), lambda: nn.Conv1d(3, 2), lambda: ops.relu],
)
def test_a_layer_behind_one_of_several_outputs(make):
    with pytest.raises(TypeError, match=r"GRU\(4\) returns a tuple, .*lambda y: y\[0\]"):
        nn.Sequential(nn.GRU(4), make(), input_shape=(5, 3))
    assert nn.Sequential(nn.GRU(4), lambda y: y[0], make(), input_shape=(5, 3)).output_shape

    def mine(y):
        raise ValueError("of my own")

    with pytest.raises(ValueError, match="of my own"):
        nn.Sequential(nn.GRU(4), mine, input_shape=(5, 3))


@pytest.mark.parametrize("line", ["tn.use('cuda:0')", "tn.use('gpu')", "nn.Dense(2).build(3).to('cuda')"])
def test_a_device_of_elsewhere_is_answered(line):
    with pytest.raises(ValueError, match="in tinynet: 'cupy'"):
        eval(line, {"nn": nn, "tn": tn})


def test_a_list_of_batches_is_no_pair():
    batch = np.zeros((4, 2), np.float32), np.zeros(4, np.int64)
    model = nn.Sequential(nn.Dense(2), input_shape=2)
    with pytest.raises(TypeError, match="lambda: batches"):
        tn.fit(model, [batch, batch])
    assert len(tn.fit(model, lambda: [batch, batch], verbose=False)) == 1
    assert len(tn.fit(model, list(batch), verbose=False)) == 1


def test_help_on_an_operation_shows_its_call():
    assert str(inspect.signature(ops.relu)).startswith("(x")
    assert json.dumps(ops.relu.__doc__)  # it has one
