"""The command: runs and their folders, exit codes, messages; nowhere a traceback for a user's mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet as tn
from tinynet import cli
from tinynet.cli import doctor, runs, tasks
from tinynet.saving.checkpoint import read

from .commands import QUICK, ROOT, command


def test_train_reports_and_writes_a_run(place):
    lines = (place / "stdout.txt").read_text().splitlines()
    assert re.fullmatch(r"test accuracy: \d+\.\d\d%", lines[-1])
    assert lines[0].startswith("mlp (55,050 parameters) on digits: 640 images to train")
    run = place / "runs" / "mlp-digits-1"
    settings = json.loads((run / "settings.json").read_text())
    assert settings["status"] == "finished" and settings["samples"] == 640 and settings["classes"] == list("0123456789")
    assert lines[-1] == f"test accuracy: {settings['test_accuracy']:.2%}"
    assert len((run / "history.csv").read_text().splitlines()) == 3
    names = {"checkpoint.safetensors", "history.csv", "settings.json"}
    assert {p.name for p in run.iterdir()} in (names, names | {"learning.png", "confusion.png", "mistakes.png"})


def test_evaluate_takes_the_newest_run(here, capsys):
    accuracy = (here / "stdout.txt").read_text().splitlines()[-1]
    assert cli.main(["evaluate"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == accuracy and "precision" in shown and "predicted" in shown
    assert cli.main(["evaluate", "runs/mlp-digits-1/checkpoint.safetensors", "--data", "digits"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == accuracy


def test_predict_npy_png_and_what_is_wrong(here, capsys):
    image = tn.data.synthetic_digits(1, 5)[0][0, ..., 0]
    np.save(here / "digit.npy", image)
    assert cli.main(["predict", "digit.npy"]) == 0
    shown = capsys.readouterr().out
    run, line = shown.splitlines()
    assert re.fullmatch(r"runs/mlp-digits-1 \(mlp, trained on digits, test accuracy \d+\.\d\d%\) sees", run)
    assert re.fullmatch(r"digit\.npy: (not sure \(below 60%\): )?\d \(\d+\.\d%\)  then \d \(.*\), \d \(.*\)", line)
    assert ("not sure" in line) == (float(re.search(r"\((\d+\.\d)%\)", line)[1]) < 60)
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(np.round(255 * image).astype(np.uint8)).save(here / "digit.png")
    (here / "broken.png").write_bytes(b"no picture")
    assert cli.main(["predict", "digit.png", "broken.png", "nowhere.png", "digit.npy"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert out.splitlines()[1].removeprefix("digit.png") == line.removeprefix("digit.npy")
    assert "broken.png" in err and "nowhere.png" in err and len(err.splitlines()) == 2


def test_predict_without_pillow_says_how_to_get_it(here, capsys, monkeypatch):
    (here / "some.png").write_bytes(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert cli.main(["predict", "some.png"]) == 1
    assert "pip install pillow" in capsys.readouterr().err.lower()


@pytest.mark.parametrize(
    "arguments, status, text",
    [
        ([], 2, "required"),
        (["trian"], 2, "did you mean 'train'?"),
        (["train", "--epochs", "0"], 2, "1 or more"),
        (["train", "--lr", "nan"], 2, "above 0"),
        (["train", "--workers", "many"], 2, "auto, or a whole number"),
        (["train", "--model", "mnist_cn"], 2, "did you mean 'mnist_cnn'?"),
        (["train", "--data", "mnits"], 2, "did you mean 'mnist'?"),
        (["train", "--data", "./photos"], 2, "no such folder"),
        (["train", "--optimizer", "adan"], 2, "did you mean 'adam'?"),
        (["train", "--backend", "numpi"], 2, "did you mean 'numpy'?"),
        (["train", "--model", "alexnet", "--samples", "64"], 2, "mnist_small, mnist_cnn, lenet5 (MaxPool2d: "),
        (["train", "--model", "gpt", "--data", "digits"], 2, "gpt learns texts, and digits has images; choose one of"),
        (["train", "--resume"], 2, "no interrupted run"),
        (["train", "--resume", "nowhere"], 2, "no such run"),
        (["train", "--out", "runs/mlp-digits-1"], 2, "holds a run already"),
        (["train", "--resume", "runs/mlp-digits-1", "--batch-size", "8"], 2, "was begun with --batch-size 64"),
        (["train", "--modle", "mlp"], 2, "train takes no --modle; did you mean --model?; tinynet train --help"),
        (["train", "mnist"], 2, "train takes no mnist; tinynet train --help"),
        (["train", "--model", "unet"], 2, "--model unet is trained in Python, by tn.fit(tn.models.unet("),
        (["evaluate", "nowhere"], 2, "no such run"),
        (["evaluate", "runs/mlp-digit-1"], 2, "no such run or checkpoint; did you mean runs/mlp-digits-1?"),
        (["evaluate", "runs"], 2, "holds no checkpoint"),
        (["evaluate", "stdout.txt"], 1, "is no checkpoint, or damaged"),
        (["predict", "stdout.txt"], 1, "stdout.txt"),
        (["gradcheck", "conv3d"], 2, "did you mean 'conv2d'?"),
    ],
)
def test_mistakes_are_explained(here, capsys, arguments, status, text):
    assert cli.main(arguments) == status
    shown = capsys.readouterr().err
    assert text in shown and "Traceback" not in shown
    assert sorted(p.name for p in Path("runs").iterdir()) == ["mlp-digits-1"]  # no folder for what did not begin


@pytest.mark.parametrize("name", ["thesis.pdf", "photo.JPG", "digit.npy"])
def test_a_file_that_is_no_text_is_not_learnt_as_one(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("%PDF" * 1000)
    assert cli.main(["train", "--data", name]) == 2
    assert f"--data {name}: is no text; give a text file, a folder with" in capsys.readouterr().err


def test_pictures_of_one_name_are_shown_apart(here, capsys):
    for folder in ("a", "b"):
        Path(folder).mkdir()
        np.save(f"{folder}/1.npy", tn.data.synthetic_digits(1, 5)[0][0])
    assert cli.main(["predict", "a/1.npy", "b/1.npy", "--show"]) == 0
    assert "wrote 1-seen.png" in (shown := capsys.readouterr().out) and "wrote 1-seen-2.png" in shown
    assert Path("1-seen.png").exists() and Path("1-seen-2.png").exists()


def test_networks_of_any_size_are_built_for_the_data():
    x, y = np.zeros((4, 28, 28, 1), np.float32), np.arange(4) % 3
    task = tasks.Task("digits", (x, y), None, (x, y), ("a", "b", "c"))
    for name in "resnet20", "mobilenet_v2":
        model = tasks.make_model(name, task)
        assert (model.built, model.output_shape) == ((28, 28, 1), (3,))
    assert tasks.model_shape("vgg16") == (224, 224, 3) and tasks.model_shape("mlp") is None
    assert "vgg16" in tasks.fitting((256, 224, 3)) and "vgg16" not in tasks.fitting((128, 128, 3))


def test_mistakes_in_a_process_of_their_own(place):
    failed = command("evaluate", "stdout.txt", cwd=place)
    assert failed.returncode == 1 and len(failed.stderr.splitlines()) == 1
    assert failed.stderr.startswith("tinynet: error: ")
    assert "Traceback" in command("evaluate", "stdout.txt", cwd=place, TINYNET_DEBUG="1").stderr


def test_help_has_examples(capsys):
    for name in "", "train", "evaluate", "predict", "gradcheck":
        assert cli.main([*name.split(), "--help"]) == 0
        assert "examples:" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0 and tn.__version__ in capsys.readouterr().out


def test_ctrl_c_then_resume_ends_as_uninterrupted(tmp_path):
    arguments = [*QUICK, "--epochs", "40", "--seed", "4"]  # so many that Ctrl-C comes before the end
    run = subprocess.Popen(
        [sys.executable, "-m", "tinynet", "train", *arguments, "--out", "broken"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
    )
    for line in run.stdout:
        if line.startswith("epoch 2/"):
            run.send_signal(signal.SIGINT)
            break
    _, err = run.communicate()
    assert run.returncode == 130 and "go on with: tinynet train --resume broken" in err and "Traceback" not in err
    assert json.loads((tmp_path / "broken" / "settings.json").read_text())["status"] == "interrupted"
    resumed = command("train", "--resume", "broken", cwd=tmp_path)
    straight = command("train", *arguments, cwd=tmp_path)
    assert resumed.returncode == straight.returncode == 0, resumed.stderr
    assert resumed.stdout.splitlines()[-1] == straight.stdout.splitlines()[-1]
    ours, theirs = (read(tmp_path / f / runs.CHECKPOINT)[0] for f in ("broken", "runs/mlp-digits-1"))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs) and ours.keys() == theirs.keys()


def test_a_folder_of_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images, labels = tn.data.synthetic_digits(200, 0)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        if label < 3:
            folder = tmp_path / "my photos" / f"class {label}"
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{i}.npy", image)
    assert cli.main(["train", "--data", "my photos", "--model", "mlp", "--epochs", "2", "--workers", "1"]) == 0
    assert (tmp_path / "runs" / "mlp-my-photos-1" / runs.CHECKPOINT).exists()
    assert cli.main(["evaluate"]) == 0 and "class 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "text"), [("a class", "was begun with the classes a, b"), ("a picture", "cannot be")]
)
def test_a_run_is_not_taken_up_with_other_pictures_and_stays_as_it_was(change, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(30):
            np.save(tmp_path / "photos" / name / f"{i}.npy", rng.random((28, 28), dtype=np.float32))
    train = ["train", "--data", "photos", "--model", "mlp", "--epochs", "1", "--workers", "1", "--out", "run"]
    assert cli.main(train) == 0
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    if change == "a class":
        (tmp_path / "photos" / "ant").mkdir()
    for i in range(30):
        np.save(tmp_path / "photos" / ("ant" if change == "a class" else "a") / f"{i}.npy", np.ones((28, 28), "f4"))
    assert cli.main(["train", "--resume", "run"]) in (1, 2)
    assert text in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before


def test_doctor_finds_what_there_is(capsys):
    assert doctor.main() == 0
    shown = capsys.readouterr().out
    for topic in "Python", "NumPy", "BLAS", "backends", "CuPy", "compiler", "numpy runs", "digits", "Pillow":
        assert topic in shown
    assert "!!" not in shown.split("\n", 2)[2]


def test_gradcheck_prints_a_table(capsys):
    assert cli.main(["gradcheck", "relu", "max_pool2d"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^max_pool2d +\d+  right", shown, re.M) and "all derivatives are right" in shown


def test_gradcheck_tells_a_wrong_derivative(capsys, monkeypatch):
    from tinynet.backends import cpu

    monkeypatch.setattr(cpu, "relu_grad", lambda g, y, out=None: 1.001 * g * (y > 0))
    assert cli.main(["gradcheck", "relu"]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_pictures_of_a_folder_are_read_as_they_were_learnt(tmp_path, monkeypatch, capsys):
    """Dark on white in training, dark on white in predict; without a folder, dark ink is turned into light."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / "white" / name).mkdir(parents=True)
        for i in range(60):
            page = 0.9 + 0.1 * rng.random((28, 28), dtype=np.float32)
            column = 8 if name == "left" else 18
            page[6:22, column : column + 3] = 0.1 * rng.random((16, 3), dtype=np.float32)
            np.save(tmp_path / "white" / name / f"{i:02}.npy", page)
    monkeypatch.chdir(tmp_path)
    assert (
        cli.main(["train", "--data", "white", "--model", "mlp", "--epochs", "8", "--batch-size", "8", "--workers", "1"])
        == 0
    )
    capsys.readouterr()
    assert cli.main(["predict", *(f"white/{name}/{i:02}.npy" for name in ("left", "right") for i in range(10))]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert (
        sum(
            Path(line.split(": ")[0]).parent.name
            == line.replace("not sure (below 60%): ", "").split(": ")[1].split()[0]
            for line in lines
        )
        >= 18
    )
    (tmp_path / "runs" / "mlp-white-1" / "settings.json").write_text("{")
    assert cli.main(["predict", "--run", "runs/mlp-white-1", "white/left/00.npy"]) == 0
    assert "settings.json: cannot be read" in (shown := capsys.readouterr().err) and "going on without it" in shown


def test_a_wrong_backend_in_the_environment_is_named(here, monkeypatch, capsys):
    monkeypatch.setenv("TINYNET_BACKEND", "foo")
    for arguments in (["evaluate"], ["predict", "x.png"], ["train"]):
        assert cli.main(arguments) == 2
        assert "'foo' is unknown. There are: numpy, cupy, simulator" in capsys.readouterr().err


def test_ctrl_c_after_the_last_epoch_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    import tinynet.insight.report  # noqa: F401  # the module; tinynet.report is the function in it

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["tinynet.insight.report"], "report", interrupted)
    assert cli.main(["train", *QUICK, "--epochs", "1"]) == 130
    assert "go on with: tinynet train --resume runs/mlp-digits-1" in capsys.readouterr().err
    assert json.loads(Path("runs/mlp-digits-1/settings.json").read_text())["status"] == "interrupted"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--resume"]) == 0
