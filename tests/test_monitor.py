"""Training, live, for TensorBoard and for whatever has wandb's `log`."""

from __future__ import annotations

import importlib.util
import struct
from types import SimpleNamespace

import numpy as np
import pytest

import tinynet as tn
from tests.insight_models import picture_net
from tinynet import insight

needs_tensorboardx = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason="needs tensorboardX: pip install '.[monitor]'"
)


def data(n=40):
    rng = np.random.default_rng(0)
    return rng.random((n, 12, 12, 3)).astype(np.float32), rng.integers(0, 3, n)


def trained(callback, **options):
    model = picture_net("relu")
    return model, tn.fit(model, data(), epochs=2, batch_size=10, callbacks=[callback], verbose=False, **options)


# ---- wandb's shape ----------------------------------------------------------------------------------------------


class Target:
    def __init__(self):
        self.calls = []

    def log(self, values, step=None):
        self.calls.append((step, values))


def test_steps_and_epochs_are_logged():
    target = Target()
    _, history = trained(insight.Log(target), validation=data(20))
    steps = [(step, values) for step, values in target.calls if "epoch" not in values]
    assert [step for step, _ in steps] == [*range(1, 9)] and all(set(v) == {"loss", "lr"} for _, v in steps)
    epochs = [(step, values) for step, values in target.calls if "epoch" in values]
    assert [step for step, _ in epochs] == [4, 8]
    for (_, values), row in zip(epochs, history, strict=True):
        assert values["epoch"] == row["epoch"] and values["epoch/val_loss"] == row["val_loss"]
    order = [step for step, _ in target.calls]
    assert order == sorted(order), "W&B refuses steps that go back"


def test_some_steps_and_what_is_no_number():
    target = Target()
    _, history = trained(insight.Log(target, every=3))
    assert [step for step, values in target.calls if "epoch" not in values] == [3, 6]
    assert history[0]["val_loss"] is None and "epoch/val_loss" not in target.calls[1][1]


def test_mlflow_has_another_name_for_it_and_other_objects_are_refused():
    calls = []
    trained(insight.Log(SimpleNamespace(log_metrics=lambda values, step: calls.append(step))))
    assert calls == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    with pytest.raises(TypeError, match=r"Log: .* must have log\(dict, step=\)"):
        insight.Log([])


# ---- callbacks begin and end ------------------------------------------------------------------------------------


class Ends:
    def __init__(self, fails=None):
        self.seen, self.fails = [], fails

    def on_begin(self, model):
        self.seen.append(("begin", model.built))
        if self.fails == "begin":
            raise KeyError

    def on_epoch_end(self, row):
        self.seen.append(row["epoch"])
        if self.fails == "epoch":
            raise KeyError

    def on_end(self):
        self.seen.append("end")


def test_callbacks_are_told_of_the_beginning_and_the_end():
    ends = Ends()
    trained(ends)
    assert ends.seen == [("begin", (12, 12, 3)), 1, 2, "end"]
    for fails, want in {"epoch": [("begin", (12, 12, 3)), 1, "end"], "begin": [("begin", (12, 12, 3))]}.items():
        broken, other = Ends(fails), Ends()
        with pytest.raises(KeyError):
            tn.fit(picture_net("relu"), data(), callbacks=(c for c in (other, broken)), verbose=False)
        assert broken.seen == want and other.seen[0][0] == "begin" and other.seen[-1] == "end"


# ---- TensorBoard ------------------------------------------------------------------------------------------------


def events(folder):
    """The events of all files in a folder, read as TFRecords: length, checksum, bytes, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.rglob("events*")):
        text, at = path.read_bytes(), 0
        while at < len(text):
            (size,) = struct.unpack_from("<Q", text, at)
            found.append(Event.FromString(text[at + 12 : at + 12 + size]))
            at += 16 + size
    return found


def values(found):
    return [(e.step, v) for e in found for v in e.summary.value]


@needs_tensorboardx
@pytest.mark.parametrize("workers", [1, 2])
def test_tensorboard_gets_scalars_histograms_images_and_the_graph(tmp_path, workers):
    images = data()[0][:4]
    model, history = trained(insight.TensorBoard(tmp_path / "logs", images=images), workers=workers)
    found = events(tmp_path / "logs")
    scalars = {(v.tag, step): v.simple_value for step, v in values(found) if v.HasField("simple_value")}
    assert {step for tag, step in scalars if tag == "step/loss"} == set(range(1, 9))
    for row in history:
        for key in ("loss", "accuracy", "lr"):
            assert scalars[f"epoch/{key}", row["epoch"]] == pytest.approx(row[key], rel=1e-6)
    assert not any(tag == "epoch/val_loss" for tag, _ in scalars)
    histograms = {(v.tag, step): v.histo for step, v in values(found) if v.HasField("histo")}
    assert set(histograms) == {(name, epoch) for name, _ in model.named_parameters() for epoch in (1, 2)}
    last = histograms["4.weight", 2]
    assert last.num == model[4].weight.size
    assert last.sum == pytest.approx(float(model[4].weight.numpy().sum(dtype=np.float64)), rel=1e-4, abs=1e-5)
    pictures = {(v.tag, step) for step, v in values(found) if v.HasField("image")}
    assert {("filters", 1), ("filters", 2)} <= pictures and any(tag.startswith("images") for tag, _ in pictures)
    from tensorboardX.proto.graph_pb2 import GraphDef

    (graph,) = [GraphDef.FromString(e.graph_def) for e in found if e.graph_def]
    names = [node.name for node in graph.node]
    assert [node.op for node in graph.node] == ["input", "Conv2d", "MaxPool2d", "Conv2d", "Flatten", "Dense"]
    assert [list(node.input) for node in graph.node] == [[], *[[name] for name in names[:-1]]]


@needs_tensorboardx
def test_tensorboard_is_closed_and_may_be_used_again(tmp_path):
    board = insight.TensorBoard(tmp_path, every=4, histograms=False, graph=False)
    for run in range(2):
        trained(board)
        assert board.writer is None, run
    steps = [step for step, v in values(events(tmp_path)) if v.tag == "step/loss"]
    assert sorted(steps) == [4, 4, 8, 8]


def test_without_tensorboardx_the_remedy_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'tinynet\[monitor\]'"):
        insight.TensorBoard(tmp_path)
