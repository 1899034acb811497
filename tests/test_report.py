"""The report of a classifier, and its pictures."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.insight.report import can_plot, plot_confusion, plot_history, plot_mistakes, report


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
