"""The command: runs and their folders, exit codes, messages; nowhere a traceback for a user's mistake."""

from __future__ import annotations

import codecs
import importlib.util
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet as tn
from tinynet import cli
from tinynet.cli import doctor, runs
from tinynet.console import say
from tinynet.saving.checkpoint import read

ROOT = Path(__file__).parent.parent
QUICK = ["--model", "mlp", "--samples", "640", "--workers", "1"]


def command(*arguments, cwd, **environment):
    """`python -m tinynet …` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tinynet", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", **environment},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which one small network was trained by the command."""
    folder = tmp_path_factory.mktemp("place")
    done = command("train", *QUICK, "--epochs", "2", cwd=folder)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    """The same folder as the working one, for commands that run in this process."""
    monkeypatch.chdir(place)
    return place


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
    assert re.fullmatch(r"digit\.npy: \d \(\d+\.\d%\)  then \d \(.*\), \d \(.*\)\n", shown)
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(np.round(255 * image).astype(np.uint8)).save(here / "digit.png")
    (here / "broken.png").write_bytes(b"no picture")
    assert cli.main(["predict", "digit.png", "broken.png", "nowhere.png", "digit.npy"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert out.splitlines()[0].split(": ")[1].split()[0] == shown.split(": ")[1].split()[0]
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
        (["trian"], 2, "invalid choice"),
        (["train", "--epochs", "0"], 2, "1 or more"),
        (["train", "--lr", "nan"], 2, "above 0"),
        (["train", "--workers", "many"], 2, "auto, or a whole number"),
        (["train", "--model", "mnist_cn"], 2, "did you mean 'mnist_cnn'?"),
        (["train", "--data", "mnits"], 2, "did you mean 'mnist'?"),
        (["train", "--data", "./photos"], 2, "no such folder"),
        (["train", "--optimizer", "adan"], 2, "did you mean 'adam'?"),
        (["train", "--backend", "numpi"], 2, "did you mean 'numpy'?"),
        (["train", "--model", "cifar_cnn", "--samples", "64"], 2, "mnist_small, mnist_cnn"),
        (
            ["train", "--model", "cifar_cnn", "--samples", "64"],
            2,
            "cifar_cnn takes images of 32×32×3, digits has 28×28×1",
        ),
        (["train", "--resume"], 2, "no interrupted run"),
        (["train", "--resume", "nowhere"], 2, "no such run"),
        (["train", "--out", "runs/mlp-digits-1"], 2, "holds a run already"),
        (["train", "--resume", "runs/mlp-digits-1", "--batch-size", "8"], 2, "was begun with --batch-size 64"),
        (["evaluate", "nowhere"], 2, "no such run"),
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
    arguments = [*QUICK, "--epochs", "12", "--seed", "4"]
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
    lines = capsys.readouterr().out.splitlines()
    assert sum(Path(line.split(": ")[0]).parent.name == line.split(": ")[1].split()[0] for line in lines) >= 18
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


@pytest.mark.parametrize(
    "nonsense",
    [
        {
            "TQDM_MININTERVAL": "abc",
            "COLUMNS": "abc",
            "MPLBACKEND": "zzz",
            "TINYNET_DATA": "/dev/null",
            "LINES": "x",
            "XDG_CACHE_HOME": "/dev/null",
            "OPENBLAS_NUM_THREADS": "abc",
            "PYTHONIOENCODING": "ascii",
            "LC_ALL": "zz_ZZ",
        },
        {
            "TQDM_NCOLS": "abc",
            "TQDM_ASCII": "x",
            "COLUMNS": "-5",
            "MPLCONFIGDIR": "/dev/null",
            "TINYNET_DATA": "x" * 5000,
            "XDG_CACHE_HOME": "x" * 5000,
            "OPENBLAS_NUM_THREADS": "-3",
            "HOME": "/nowhere",
            "PYTHONIOENCODING": "cp1252",
        },
        {
            "TQDM_POSITION": "x",
            "TQDM_GUI": "1",
            "COLUMNS": "0",
            "XDG_DATA_DIRS": ":::" + "x" * 5000,
            "TMPDIR": "/nowhere",
            "OMP_NUM_THREADS": "abc",
            "TINYNET_DEBUG": "zzz",
            "TINYNET_MIRROR": "zzz",
            "CXX": "nowhere",
        },
    ],
    ids=["abc", "long", "odd"],
)
def test_nonsense_in_the_environment_costs_nothing(tmp_path, nonsense):
    """A run ends well, pictures apart, and the doctor looks at all, whatever stands in the environment."""
    program = (
        "import sys; from tinynet import cli\n"
        "for line in 'train --help', 'doctor', "
        "'train --samples 64 --epochs 1 --model mlp --workers 1 --out r':\n"
        "    if cli.main(line.split()): sys.exit(line)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"} | nonsense,
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert json.loads((tmp_path / "r" / "settings.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("name", ["numpyy", "cupy", "\x1b[31m", "x" * 100_000])
def test_gradcheck_without_its_backend_says_so_in_one_line(here, monkeypatch, capsys, name):
    if name == "cupy" and tn.backends.why_not("cupy") is None:
        pytest.skip("CuPy runs here")
    monkeypatch.setenv("TINYNET_BACKEND", name)
    assert cli.main(["gradcheck", "relu"]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and len(err) < 3000 and "\x1b" not in err
    assert err.startswith("tinynet: error: ") and name.strip("\x1b")[:5] in err.lower()


@pytest.mark.parametrize("picture", ["learning", "confusion", "mistakes"])
def test_a_picture_that_cannot_be_drawn_does_not_cost_the_run_its_end(tmp_path, monkeypatch, capsys, picture):
    pytest.importorskip("matplotlib")
    import tinynet.insight.report  # noqa: F401

    def fails(*_, **__):
        raise RuntimeError("no\x1b[31m ink")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["tinynet.insight.report"], f"plot_{picture.replace('learning', 'history')}", fails)
    assert cli.main(["train", *QUICK, "--epochs", "1", "--out", "r"]) == 0
    out, err = capsys.readouterr()
    assert err == f"tinynet: {picture}.png cannot be drawn: no\\x1b[31m ink\n" and "test accuracy" in out
    assert json.loads(Path("r/settings.json").read_text())["status"] == "finished"
    assert sorted(p.stem for p in Path("r").glob("*.png")) == sorted({"learning", "confusion", "mistakes"} - {picture})


def special(path, kind):
    """Puts what is no regular file of a sensible size in the place of `path`."""
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with open(path, "wb") as file:
            file.truncate(1 << 40)
    elif kind == "loop":
        path.symlink_to(path)


@pytest.mark.skipif(sys.platform != "linux", reason="makes Linux's special files")
@pytest.mark.parametrize("kind", ["fifo", "zero", "folder", "huge", "loop"])
@pytest.mark.parametrize("name", [runs.SETTINGS, runs.CHECKPOINT])
def test_what_is_no_regular_file_is_neither_waited_for_nor_read(place, tmp_path, monkeypatch, capsys, kind, name):
    def waited(*_):
        pytest.fail("it waits")

    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "a"
    shutil.copytree(place / "runs" / "mlp-digits-1", run)
    settings = json.loads((run / "settings.json").read_text())
    (run / "settings.json").write_text(json.dumps(settings | {"status": "interrupted"}))
    special(run / name, kind)
    before = signal.signal(signal.SIGALRM, waited)
    try:
        for arguments in (["train", "--resume"], ["train", "--resume", "runs/a"], ["evaluate"], ["predict", "x.npy"]):
            signal.alarm(60)
            status, err = cli.main(arguments), capsys.readouterr().err
            assert status in (0, 1, 2) and "Error" not in err and "waits" not in err
            if name == runs.SETTINGS and arguments[-1] == "runs/a":
                assert status == 2 and len(err.splitlines()) == 1 and "settings.json" in err
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "name, value",
    [
        ("model", 3),
        ("model", "zzz"),
        ("model", "\x1b[31m" + "x" * 100_000),
        ("data", 7),
        ("data", "zzz"),
        ("data", ""),
        ("data", "y" * 100_000),
        ("epochs", 0),
        ("epochs", True),
        ("epochs", 1e9),
        ("batch_size", 0),
        ("batch_size", "8"),
        ("lr", -1),
        ("lr", float("nan")),
        ("lr", "fast"),
        ("optimizer", "zzz"),
        ("optimizer", None),
        ("backend", "zzz"),
        ("workers", 0),
        ("workers", "many"),
        ("seed", -1),
        ("seed", 2**70),
        ("samples", 0),
        ("samples", "all"),
        ("status", None),
        ("classes", "abc"),
        ("classes", [1, 2]),
        ("classes", None),
    ],
)
def test_settings_that_make_no_sense_are_named(place, tmp_path, monkeypatch, capsys, name, value):
    monkeypatch.chdir(tmp_path)
    settings = json.loads((place / "runs" / "mlp-digits-1" / "settings.json").read_text())
    Path("r").mkdir()
    Path("r/settings.json").write_text(json.dumps(settings | {"status": "interrupted", name: value}))
    assert cli.main(["train", "--resume", "r"]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and len(err) < 3000 and "\x1b" not in err
    assert (name in err or str(value)[:3] in err) and "TINYNET_DEBUG" not in err


def test_text_from_files_reaches_the_terminal_harmless_and_short(here, tmp_path, monkeypatch, capsys):
    """Class names, settings, file names and arguments: escaped, one line, shortened."""
    evil = [
        "\x1b]0;pwned\x07\x1b[2J",
        "two\nlines",
        "z" * 100_000,
        "\u202eright to left",
        "\udc80",
        "$x^{$",
        "a\rb",
        "7",
        "8",
        "9",
    ]
    settings = json.loads(Path("runs/mlp-digits-1/settings.json").read_text())
    run = tmp_path / "r"
    shutil.copytree("runs/mlp-digits-1", run)
    runs.write_settings(run, settings | {"classes": evil})
    assert runs.read_settings(run)["classes"] == evil
    image = tmp_path / "a\x1b[31mb\nc.npy"
    np.save(image, np.zeros((28, 28), np.float32))
    missing = str(tmp_path / "\x1b[5mno\nwhere.npy")
    shown = []
    for arguments in (
        ["predict", str(image), missing, "--run", str(run)],
        ["evaluate", missing],
        ["train", missing],
        ["train", "--model", "\x1b[31m" + "m" * 100_000],
        ["evaluate", "--data", "./\x1b[31m"],
        ["gradcheck", "\x1b" * 5000],
        ["\x1b[31m"],
        ["train", "--epochs", "\x1b[31m" + "1" * 10_000],
    ):
        assert cli.main(arguments) != 0
        shown += [*capsys.readouterr()]
    assert all(c.isprintable() or c == "\n" for text in shown for c in text)
    assert max(map(len, shown)) < 6000 and len(shown[0].splitlines()) == 1 and "\\x1b[31mb\\nc.npy" in shown[0]
    measured = tn.report(tn.load(run / runs.CHECKPOINT), tn.data.synthetic_digits(100, 1), classes=evil)
    text = str(measured)
    assert all(c.isprintable() or c == "\n" for c in text) and len(text) < 4000 and len(text.splitlines()) == 24
    if importlib.util.find_spec("matplotlib"):
        from tinynet.insight.report import plot_confusion, plot_mistakes

        plot_confusion(measured, tmp_path / "c.png", title="$x^{$\x1b")
        plot_mistakes(measured, tn.data.synthetic_digits(100, 1)[0], tmp_path / "m.png", title="\udc80")


class Odd:
    """An object in the place of standard output: `write` alone, and what `more` names."""

    def __init__(self, codec="utf-8", fails=None, **more):
        self.text, self.codec, self.fails = "", codec, fails
        vars(self).update(more)

    def write(self, text):
        if self.fails:
            raise self.fails
        self.text += text.encode(self.codec).decode(self.codec)


@pytest.mark.parametrize(
    "make",
    [
        Odd,
        lambda: Odd("ascii"),
        lambda: Odd("cp1252", isatty=lambda: False, encoding=None),
        lambda: None,
        lambda: Odd(isatty=None),
        lambda: Odd(isatty=lambda: 1 / 0),
        lambda: Odd(isatty=lambda: True, encoding=None),
        lambda: Odd("ascii", isatty=lambda: True),
        lambda: io.TextIOWrapper(io.BytesIO(), "ascii"),
        lambda: codecs.getwriter("cp1252")(io.BytesIO()),
    ],
)
def test_any_object_may_stand_for_standard_output(here, monkeypatch, make):
    stream = make()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        history = tn.fit(tn.models.mlp(), tn.data.synthetic_digits(64), epochs=2)
        say("×→猫")
        assert cli.main(["evaluate"]) == 0
    assert len(history) == 2
    if isinstance(stream, Odd):
        assert "test accuracy" in stream.text


@pytest.mark.parametrize(
    "fails",
    [
        BrokenPipeError(32, "Broken pipe"),
        ValueError("I/O operation on closed file."),
        OSError(5, "Input/output error"),
        OSError(28, "No space left on device"),
    ],
)
@pytest.mark.parametrize("terminal", [True, False])
def test_an_output_that_is_gone_does_not_end_a_training(monkeypatch, fails, terminal):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Odd(fails=fails, isatty=lambda: terminal))
        assert len(tn.fit(tn.models.mlp(), tn.data.synthetic_digits(64), epochs=2)) == 2


def test_a_reader_that_leaves_does_not_cost_the_run_its_end(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-m", "tinynet", "train", *QUICK, "--epochs", "3", "--out", "r"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
    )
    run.stdout.readline()
    run.stdout.close()
    err = run.stderr.read()
    run.stderr.close()
    assert run.wait() == 1 and err == b""
    assert json.loads((tmp_path / "r" / "settings.json").read_text())["status"] == "finished"


@pytest.mark.skipif(sys.platform != "linux", reason="as the script")
@pytest.mark.parametrize("kind", ["idx", "cifar", "picture", "npy", "settings"])
def test_damaged_files_are_read_or_refused(tmp_path, monkeypatch, kind):
    """Some of the cases of benchmarks/fuzz.py, which has thousands, and limits of time and memory."""
    pytest.importorskip("PIL.Image")
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "benchmarks" / "fuzz.py")
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    monkeypatch.chdir(tmp_path)
    make, errors = fuzz.KINDS[kind]
    for _, use in zip(range(40), make(tmp_path, random.Random(7)), strict=False):
        try:
            fuzz.quiet(use)
        except errors as error:
            assert "\n" not in str(error)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["train", "--help"], ["evaluate"]])
def test_a_full_disk_behind_standard_output_is_told_in_one_line(place, arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tinynet", *arguments],
            cwd=place,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "No space left" in done.stderr
