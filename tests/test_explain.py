"""Why the network says so, on a page and in a terminal."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

import tinynet as tn
from tests.insight_models import picture_net, snapshot
from tests.test_insight_pictures import inside, pixels
from tinynet import insight, nn
from tinynet.cli import main
from tinynet.insight import halfblocks

needs_matplotlib = pytest.mark.skipif(not insight.can_plot(), reason="needs matplotlib: pip install '.[plot]'")


class Corner(nn.Module):
    """Says "bright" where the upper left 4×4 pixels of (14, 14, 3) images are, else "dark"; "other" never."""

    def __init__(self):
        self.conv = nn.Conv2d(1, 4, bias=False, kernel_init="ones")
        self.build((14, 14, 3))

    def forward(self, x):
        y = self.conv(x)[:, 0, 0] / 48
        return tn.ops.concatenate([y * 20, 10.0 - y * 0, y * 0 - 30], -1)


@pytest.fixture
def image():
    image = np.full((14, 14, 3), 0.25, np.float32)
    image[:6, :6] = 1
    return image


def test_what_is_found(image):
    model = Corner()
    before = snapshot(model)
    found = insight.explain(model, image, classes=["bright", "dark"])
    assert snapshot(model) == before
    assert found.classes == ("bright", "dark", "2") and found.likeliest.tolist() == [0, 1, 2]
    p = np.exp([20, 10, -30] - np.array(20.0))
    np.testing.assert_allclose(found.probability, p / p.sum(), rtol=1e-4, atol=1e-12)
    assert found.cams.shape == (2, 14, 14) and found.cams[0].argmax() == 0
    assert found.maps["conv"].shape == (1, 11, 11)
    rows, columns = found.patch
    assert found.changes and (rows.start, columns.start) == (0, 0)
    covered = image.copy()
    covered[rows, columns] = 0.25  # the median of the image
    np.testing.assert_allclose(found.without, tn.predict(model, covered[None])[0], rtol=1e-5)
    assert found.verdict() == f"without the {rows.stop}×{columns.stop} patch it says {found.name(1, found.without)}"


def test_where_no_patch_changes_the_answer(image):
    model = Corner()
    model.conv.weight.data[...] = 10
    found = insight.explain(model, image)
    assert not found.changes
    assert re.fullmatch(
        r"no patch changes the answer; without the .* patch 0 falls from 100.0% to \d+\.\d%", found.verdict()
    )


def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match=r"explain: the image \(1, 14, 14, 3\) must be \(H, W, C\), a single one"):
        insight.explain(Corner(), image[None])
    with pytest.raises(ValueError, match="grad_cam: no layer's output is maps"):
        insight.explain(nn.Sequential(nn.Flatten(), nn.Dense(2), input_shape=(4, 4, 1)), np.ones((4, 4, 1), np.float32))
    with pytest.raises(ValueError, match=r"explain: the model's output is \(1, 2, 2, 3\); a classifier's is \(N, cl"):
        insight.explain(nn.Sequential(nn.Conv2d(3, 3)), np.ones((4, 4, 1), np.float32))


@needs_matplotlib
def test_the_page(image):
    found = insight.explain(Corner(), image, classes=["bright", "dark", "$other$"])
    figure = insight.show_explanation(found, title="corner.png: bright")
    drawn = pixels(figure)
    assert 350 < drawn.shape[0] < 600 and drawn.shape[1] == 1100
    axes = figure.get_axes() or [a for part in figure.subfigs for a in part.axes]
    seen = inside(figure, axes[0])
    h, w = seen.shape[:2]
    assert seen[h // 5, w // 5].min() > 0.9 and abs(seen[h * 4 // 5, w * 4 // 5] - 0.25).max() < 0.02
    titles = [a.get_title(loc="left") for a in axes]
    assert titles[:5] == [
        "what the network saw", "its answer", "what speaks for bright", "what speaks for dark", "the patch that decides"
    ]  # fmt: skip
    assert "bright  100.0%" in [t.get_text() for t in axes[1].texts]
    framed = np.abs(inside(figure, axes[4]) - [217 / 255, 112 / 255, 43 / 255]).max(-1) < 0.1
    rows, columns = np.nonzero(framed)
    assert framed.sum() > 50 and rows.max() / h < 0.6 and columns.max() / w < 0.6
    assert "without the" in axes[4].get_xlabel().replace("\n", " ")
    insight.show_explanation(insight.explain(picture_net("relu"), np.random.default_rng(0).random((12, 12, 3))))


# ---- in a terminal ----------------------------------------------------------------------------------------------


def test_half_blocks_show_two_pixels_each():
    image = np.array([[0, 1, 0, 1], [0, 0, 1, 1]], float)
    assert halfblocks.sketch(image, colour=False) == [" ▀▄█"]
    (line,) = halfblocks.sketch(image[:, :2])
    assert line == "\x1b[38;2;0;0;0;48;2;0;0;0m▀\x1b[38;2;255;255;255;48;2;0;0;0m▀\x1b[0m"
    assert [len(line) for line in halfblocks.sketch(np.zeros((64, 90)), wide=30, colour=False)] == [30] * 11
    assert len(halfblocks.sketch(np.zeros((5, 5, 3)), colour=False)) == 3


@pytest.mark.parametrize("colour", [False, True])
def test_the_text(image, colour):
    found = insight.explain(Corner(), image, classes=["bright", "dark", "other"])
    text = insight.explanation_text(found, colour=colour)
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert ("\x1b" in text) is colour
    assert "it says bright (100.0%), then dark (0.0%)" in plain and found.verdict() in plain and "layer conv" in plain
    panels = plain.splitlines()[1:8]
    assert len({len(line) for line in panels}) == 1
    if not colour:
        assert panels[0].startswith("██████        ") and panels[6].startswith(" " * 14)


# ---- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def digit(tmp_path, monkeypatch):
    """A working folder with a picture and the file of a network."""
    monkeypatch.chdir(tmp_path)
    np.save("seven.npy", tn.data.synthetic_digits(1, 5)[0][0])
    tn.save(tn.models.mnist_small(), "net.safetensors")
    return ["explain", "seven.npy", "--run", "net.safetensors"]


@needs_matplotlib
def test_the_command_writes_a_page(digit, tmp_path, capsys):
    assert main(digit) == 0
    out = capsys.readouterr().out
    assert re.search(r"^net\.safetensors sees\nseven\.npy: \d \(\d+\.\d%\); .*patch.*\nwrote seven-explained.png$", out)
    assert (tmp_path / "seven-explained.png").read_bytes().startswith(b"\x89PNG")
    assert main([*digit, "--out", "why.png"]) == 0 and (tmp_path / "why.png").exists()


def test_the_command_in_a_terminal_and_without_matplotlib(digit, capsys, monkeypatch):
    assert main([*digit, "--text"]) == 0
    out = capsys.readouterr().out
    assert "what the network saw" in out and "█" in out and "\x1b" not in out and "pip install" not in out
    monkeypatch.setattr(insight, "can_plot", lambda: False)
    assert main(digit) == 0
    assert capsys.readouterr().out.endswith("pip install 'tinynet[plot]')\n")
    monkeypatch.setattr(sys.modules["tinynet.cli.explain"], "is_terminal", lambda stream: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(digit) == 0 and "\x1b[38;2;" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(digit) == 0 and "\x1b" not in capsys.readouterr().out


def test_the_command_says_what_is_wrong(digit, capsys):
    assert main(["explain", "missing.png", "--run", "net.safetensors"]) == 1
    tn.save(tn.models.mlp(5), "rows.safetensors")
    assert main(["explain", "seven.npy", "--run", "rows.safetensors"]) == 2
    assert "not images" in capsys.readouterr().err
