"""The command in hostile surroundings: environments, files, texts and streams that make no sense."""

from __future__ import annotations

import codecs
import importlib.util
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet as tn
from tinynet import cli
from tinynet.cli import runs
from tinynet.console import say

from .commands import QUICK, ROOT


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

    def fails(*_, **__):
        raise RuntimeError("no\x1b[31m ink")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["tinynet.insight.plots"], f"plot_{picture.replace('learning', 'history')}", fails)
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
    assert max(map(len, shown)) < 6000 and len(shown[0].splitlines()) == 2 and "\\x1b[31mb\\nc.npy" in shown[0]
    measured = tn.report(tn.load(run / runs.CHECKPOINT), tn.data.synthetic_digits(100, 1), classes=evil)
    text = str(measured)
    assert all(c.isprintable() or c == "\n" for c in text) and len(text) < 4000 and len(text.splitlines()) == 24
    if importlib.util.find_spec("matplotlib"):
        from tinynet.insight import plot_confusion, plot_mistakes

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
