"""Language models on the command line: they learn a text, write after each epoch, go on, are measured, and write on."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tinynet as tn
from tinynet import cli, models
from tinynet.cli import language, tasks
from tinynet.saving import checkpoint

VERSE = "So we'll go no more a roving\nSo late into the night,\n" * 40


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder that holds the finished run `run`."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        prepare(folder, patch)
        assert train() == 0
    return folder


@pytest.fixture
def run(trained, small):
    """A copy of that run."""
    shutil.copytree(trained / "run", "run")


def prepare(tmp_path, monkeypatch):
    """A folder with a text, and networks and epochs that take no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYNET_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data" / "tinyshakespeare").mkdir(parents=True)
    (tmp_path / "data" / "tinyshakespeare" / "input.txt").write_text(VERSE[::-1], encoding="utf-8")
    (tmp_path / "verse.txt").write_text(VERSE, encoding="utf-8")
    monkeypatch.setattr(language, "STEPS", 3)
    monkeypatch.setattr(language, "SAMPLE", 40)
    monkeypatch.setitem(tasks.LANGUAGE, "gpt", functools.partial(models.gpt, layers=1, heads=2, width=8))
    monkeypatch.setitem(tasks.LANGUAGE, "char_lstm", functools.partial(models.char_lstm, hidden=8, embedding=4))


def train(*arguments, out="run", workers="1"):
    return cli.main(["train", "--data", "verse.txt", "--epochs", "2", "--workers", workers, "--out", out, *arguments])


def weights(folder):
    arrays, _ = checkpoint.read(Path(folder) / "checkpoint.safetensors")
    return np.concatenate([w.ravel() for name, w in sorted(arrays.items()) if name.startswith("model.")])


@pytest.mark.parametrize("model", ["gpt", "char_lstm"])
def test_train_writes_samples_and_ends_with_the_validation_loss(model, capsys):
    assert train("--model", model) == 0
    out = capsys.readouterr().out
    settings = json.loads(Path("run/settings.json").read_text())
    assert out.splitlines()[-1] == f"validation loss: {settings['validation_loss']:.4f}"
    assert settings["status"] == "finished" and settings["model"] == model
    history = Path("run/history.csv").read_text().splitlines()
    assert history[0].split(",")[:3] == ["epoch", "loss", "val_loss"] and len(history) == 3
    assert "samples/s" in out and "images" not in out
    assert "an epoch is 3 steps of" in out and f"{len(set(VERSE))} different ones" in out
    samples = Path("run/samples.txt").read_text()
    assert samples.count("---- epoch") == 2 and samples.splitlines()[-1] in out
    assert set(json.loads(Path("run/vocabulary.json").read_text())["symbols"]) == set(VERSE)


def test_the_newest_text_of_the_newest_network_is_the_default(capsys):
    assert cli.main(["train", "--model", "gpt", "--epochs", "1", "--workers", "1"]) == 0
    assert "gpt" in capsys.readouterr().out and Path("runs/gpt-shakespeare-1").is_dir()
    assert cli.main(["train", "--data", "shakespeare", "--epochs", "1", "--workers", "1"]) == 0
    assert json.loads(Path("runs/gpt-shakespeare-2/settings.json").read_text())["model"] == "gpt"
    np.testing.assert_array_equal(weights("runs/gpt-shakespeare-1"), weights("runs/gpt-shakespeare-2"))


@pytest.mark.parametrize("step", [2, 3, 4])
def test_an_interrupted_run_goes_on_to_the_same_bits(step, monkeypatch, capsys):
    assert train(out="whole") == 0
    from tinynet.training.run import Run

    original = Run._step

    def interrupted(run, x, y):
        original(run, x, y)
        run.interrupts.noticed = run.progress.step == step

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_step", interrupted)
        assert train() == 130
    assert "go on with: tinynet train --resume run" in capsys.readouterr().err
    assert cli.main(["train", "--resume", "run"]) == 0
    np.testing.assert_array_equal(weights("run"), weights("whole"))
    for name in ("samples.txt", "vocabulary.json"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()


def test_workers_share_the_windows(capsys):
    assert train(out="one") == 0 and train(out="two", workers="2") == 0
    np.testing.assert_allclose(weights("one"), weights("two"), atol=1e-4)


def test_sample_writes_on(run, capsys):
    def sample(*arguments):
        assert cli.main(["sample", *arguments]) == 0
        return capsys.readouterr().out

    text = sample("run", "--prompt", "So we", "--length", "20")
    assert text.startswith("So we") and len(text) == 5 + 20 + 1
    assert sample("run", "--prompt", "So we", "--length", "20", "--seed", "0") == text
    assert sample("run", "--prompt", "So we", "--length", "20", "--seed", "1") != text
    assert sample("run", "--prompt", "S", "--length", "9", "--top-k", "1") == sample(
        "run", "--prompt", "S", "--length", "9", "--temperature", "0"
    )
    assert len(sample("run", "--length", "30")) == 31 == len(sample("run", "--length", "30", "--prompt", ""))
    assert len(sample("run/checkpoint.safetensors")) == 501


def test_a_text_without_a_prompt_begins_as_a_line_does(run, monkeypatch, capsys):
    from tinynet import training

    given = []
    monkeypatch.setattr(
        training, "generate", lambda model, ids, *_, **__: given.append(ids.tolist()) or np.array([0, 0])
    )
    assert cli.main(["sample", "run"]) == 0
    symbols = json.loads(Path("run/vocabulary.json").read_text())["symbols"]
    assert [[symbols[i] for i in ids] for ids in given] == [["\n"]]
    Path("run/vocabulary.json").write_text(json.dumps({"kind": "Characters", "symbols": symbols[1:]}))
    assert symbols[0] == "\n" and cli.main(["sample", "run"]) == 0 and given[1] == [0]


@pytest.mark.parametrize("changed", [VERSE.replace(" ", "@"), VERSE + "more", VERSE.replace("So", "oS")])
def test_a_run_is_not_taken_up_with_another_text_and_stays_as_it_was(changed, run, capsys):
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    settings = json.loads(before["settings.json"])
    Path("verse.txt").write_text(changed)
    settings["data"] = str(Path("verse.txt").resolve())
    Path("run/settings.json").write_text(json.dumps(settings))
    before["settings.json"] = Path("run/settings.json").read_bytes()
    assert cli.main(["train", "--resume", "run"]) in (1, 2)
    assert "begun with other characters" in (shown := capsys.readouterr().err) or "cannot be resumed" in shown
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before


def test_sample_finds_the_newest_language_model(capsys):
    assert cli.main(["train", "--model", "gpt", "--epochs", "1", "--workers", "1"]) == 0
    assert cli.main(["train", "--model", "mlp", "--samples", "64", "--epochs", "1", "--workers", "1"]) == 0
    capsys.readouterr()
    assert cli.main(["sample", "--length", "12"]) == 0
    assert len(capsys.readouterr().out) == 13
    assert cli.main(["train", "--model", "gpt", "--epochs", "1", "--workers", "1"]) == 0
    np.save("digit.npy", tn.data.synthetic_digits(1, 5)[0][0])
    capsys.readouterr()
    for command in (["predict", "digit.npy"], ["evaluate", "--data", "digits"]):
        assert cli.main(command) == 0  # the newest that reads images
        assert "mlp-digits-1" in capsys.readouterr().out
    assert cli.main(["trace", "digit.npy"]) == 0
    assert cli.main(["explain", "digit.npy", "--run", "runs/gpt-shakespeare-1"]) == 2
    assert "not images; choose another by --run" in (shown := capsys.readouterr().err) and "gpt-shakespeare-1" in shown
    assert cli.main(["sample", "runs/mlp-digits-1"]) == 2
    assert "has no vocabulary.json beside it" in capsys.readouterr().err


def test_evaluate_measures_what_train_measured(run, capsys):
    last = f"validation loss: {json.loads(Path('run/settings.json').read_text())['validation_loss']:.4f}"
    assert cli.main(["evaluate", "run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == last
    assert cli.main(["evaluate", "run", "--data", "shakespeare"]) == 0  # the same characters
    assert capsys.readouterr().out.splitlines()[-1].startswith("validation loss: ")
    Path("other.txt").write_text("zzz" * 100)
    assert cli.main(["evaluate", "run", "--data", "other.txt"]) == 1
    assert "the vocabulary has no 'z'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["train", "--data", "verse.txt", "--model", "mlp"], 2, "learns images, and"),
        (["train", "--data", "digits", "--model", "gpt"], 2, "gpt learns texts, and digits has images; choose"),
        (["train", "--data", "nothing.txt"], 2, "no such folder, and no such text file"),
        (["train", "--data", "shakespear"], 2, "did you mean 'shakespeare'?"),
        (["train", "--data", "short.txt"], 2, "5 characters are too few: the last tenth"),
        (["train", "--data", "bytes.txt"], 1, "is no text in UTF-8"),
        (["train", "--resume", "run", "--epochs", "3"], 2, "over which the learning rate falls"),
        (["train", "--resume", "run", "--data", "shakespeare"], 2, "was begun with --data"),
        (["evaluate", "run", "--data", "digits"], 2, "is a language model"),
        (["predict", "x.npy", "--run", "run"], 2, "tinynet sample lets it write"),
        (["finetune", "run", "--data", "verse.txt"], 2, "is a text; finetune takes images"),
        (["sample", "run", "--prompt", "ß"], 2, "the vocabulary has no 'ß'; it learnt"),
        (["sample", "run", "--temperature", "-1"], 2, "0 or more"),
        (["sample", "nowhere"], 2, "no such run"),
        (["sample"], 2, "no run in"),
        (["sample", "damaged"], 2, "vocabulary.json: is damaged"),
    ],
)
def test_mistakes_are_explained(arguments, status, text, run, capsys):
    shutil.copytree("run", "damaged")
    Path("damaged/vocabulary.json").write_text("[1")
    Path("short.txt").write_text("short")
    Path("bytes.txt").write_bytes(b"\xff\xfe")
    capsys.readouterr()
    assert cli.main(arguments) == status
    shown = capsys.readouterr().err
    assert text in shown and "Traceback" not in shown
    assert not Path("runs").exists() or not list(Path("runs").iterdir())
