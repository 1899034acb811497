"""The trace beside NumPy, tracemalloc and counts by hand; graphs of networks as files."""

from __future__ import annotations

import inspect
import re
import time
import tracemalloc
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest

import tinynet as tn
from tests import oracles
from tests.insight_models import Block, Branching, Failing, Own, Recurrent, picture_net, snapshot
from tinynet import insight, nn, ops
from tinynet.cli import main

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 5)).astype(np.float32)


def pictures(n=2, size=12, channels=3):
    return np.random.default_rng(1).standard_normal((n, size, size, channels)).astype(np.float32)


class Mine(nn.Module):
    """Operations of one's own, each on a line that the test knows."""

    def __init__(self):
        self.dense = nn.Dense(3, activation="tanh")

    def forward(self, x):
        y = self.dense(x)
        z = ops.relu(y)
        return (z * 2.0).reshape(4, 3)


def test_forward_and_back_by_hand():
    model = Mine()
    with tn.no_grad():
        model(X)
    steps = insight.trace(model, X).steps
    assert [s.name for s in steps if not s.back] == ["dense", "tanh", "relu", "multiply", "reshape"]
    assert [s.name for s in steps if s.back] == ["reshape", "multiply", "relu", "tanh", "dense"]
    w, b = model.dense.weight.numpy(), model.dense.bias.numpy()
    values = [X @ w + b]
    values += [np.tanh(values[-1]), np.maximum(np.tanh(values[-1]), 0)]
    values += [values[-1] * 2] * 2
    for step, want in zip(steps, values, strict=False):
        assert step.shape == (4, 3) and step.dtype == "float32" and step.seconds > 0
        assert (step.low, step.high) == pytest.approx((want.min(), want.max()), rel=1e-5)
        assert step.zeros == pytest.approx((want == 0).mean())
    assert [s.inputs for s in steps[:2]] == [((4, 5), (5, 3), (3,)), ((4, 3),)]
    back = {s.name: s for s in steps if s.back}
    g = 2.0 * (values[1] > 0)
    assert back["relu"].zeros == (g == 0).mean() and back["relu"].high == 2
    g = g * (1 - values[1] ** 2)
    parts = [X.T @ g, g.sum(0)]
    assert back["dense"].shape == ((5, 3), (3,)), "no gradient of x is computed"
    assert back["dense"].high == pytest.approx(max(p.max() for p in parts), rel=1e-5)
    lines, first = inspect.getsourcelines(Mine.forward)
    for name, text in {"relu": "ops.relu", "multiply": "* 2.0", "reshape": "reshape"}.items():
        line = first + next(i for i, t in enumerate(lines) if text in t)
        for step in (s for s in steps if s.name == name):
            assert step.where.endswith(f"test_trace.py:{line}") and step.layer == "Mine"
    assert steps[0].layer == "dense" and re.match(r"tinynet/nn/dense.py:\d+$", steps[0].where)


def test_from_the_loss_and_fused():
    model, x, y = picture_net("relu"), pictures(), np.array([0, 2])
    plain, fused = insight.trace(model, x, y), insight.trace(model, x, y, fused=True)
    assert [s.name for s in plain.steps][5:7] == ["dense", "softmax_cross_entropy"] or "softmax_cross_entropy" in str(
        plain
    )
    assert [s.name for s in fused.steps if not s.back] == [
        "conv_relu_pool", "conv_relu_pool", "reshape", "dense", "softmax_cross_entropy"
    ]  # fmt: skip
    assert plain.steps[-1].name == "conv2d" and fused.steps[-1].name == "conv_relu_pool"
    adds = [sum(s.multiply_adds for s in t.steps) for t in (plain, fused)]
    assert adds[0] == adds[1] > 0
    many = insight.trace(Branching(), {"left": X, "right": X})
    assert [s.name for s in many.steps] == ["dense", "dense", "add", "subtract"], "of several outputs, none goes back"
    mean = insight.trace(model, x, np.zeros((2, 3), np.float32), loss=ops.mse)
    assert mean.steps[-1].back


def test_a_step_of_several_layers_is_the_first_ones():
    conv = [nn.Conv2d(4, 3), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm(), nn.ReLU()]
    body = [nn.Conv2d(4, 3, padding="same"), nn.ReLU(), nn.Conv2d(4, 3, padding="same")]
    rest = [nn.Residual(*body), nn.ReLU(), nn.Flatten(), nn.Dense(5), nn.Tanh(), nn.Dense(4, activation="relu")]
    model = nn.Sequential(*conv, *rest, nn.Dense(3), input_shape=(12, 12, 3))
    steps = insight.trace(model, pictures(), np.array([0, 2]), fused=True).steps
    layers = {s.layer for s in steps if "cross_entropy" not in s.name}
    assert layers - {"1"} == {"0", "4", "6", "6.body.0", "6.body.2", "8", "9", "11", "12"}  # 1 folds itself into 0
    assert {s.layer for s in steps if s.name == "dense"} == {"9", "11", "12"}


def test_memory_as_tracemalloc_counts_it():
    """The bytes of an operation are those of its new arrays: a view takes none. (NumPy tells tracemalloc.)"""
    x = tn.tensor(RNG.standard_normal((71, 97)).astype(np.float32))
    functions = {
        "exp": ops.exp,
        "add": lambda x: x + 1,
        "reshape": lambda x: ops.reshape(x, 97, 71),
        "transpose": lambda x: ops.transpose(x),
        "getitem": lambda x: x[:50],
        "concatenate": lambda x: ops.concatenate([x, x]),
        "sum": lambda x: x.sum(0),
        "greater": lambda x: x > 0,
        "astype": lambda x: x.astype(np.float64),
    }
    for name, function in functions.items():
        function(x)
        tracemalloc.start()
        kept = function(x)
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        step = insight.trace(nn.Lambda(function), x).steps[0]
        assert "hints" not in step.where
        assert step.name == name and abs(grown - step.bytes) < 2000, (name, grown, step.bytes)
        del kept


def counted(model, x):
    return sum(s.multiply_adds for s in insight.trace(model, x).steps if not s.back)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 3, stride=2, padding=1),
        nn.Conv2d(6, 3, dilation=2, groups=3),
        nn.ConvTranspose2d(4, 3, stride=2),
        nn.SeparableConv2d(4, 3),
        nn.Sequential(nn.Flatten(), nn.Dense(7)),
    ],
)
def test_multiply_adds_of_layers_are_those_of_the_summary(layer):
    model = nn.Sequential(layer, input_shape=(12, 12, 3))
    shape, want = (12, 12, 3), 0
    for part in model.modules():
        if not list(part.children()):
            want += part.multiply_adds(shape)
            shape = part.output_size(shape)
    assert counted(model, pictures()) == 2 * want > 0


def test_multiply_adds_by_counting():
    """One for each pair of an output and an input that the definition multiplies; padding counts, as it is computed."""
    model = nn.Sequential(nn.Conv2d(4, 3, groups=2), input_shape=(6, 5, 2))
    pairs = len(list(oracles.places((6, 5), (4, 3), (3, 3), (1, 1), ((0, 0), (0, 0)))))
    assert counted(model, pictures(3, 6, 2)[:, :, :5]) == 3 * pairs * 4
    heads = nn.MultiHeadAttention(2).build((5, 4))
    x = RNG.standard_normal((3, 5, 4))
    assert counted(heads, x) == 3 * (5 * 4 * 12 + 2 * (5 * 5 * 2) * 2 + 5 * 4 * 4)
    assert counted(nn.LSTM(6).build((5, 4)), x) == 3 * 5 * 4 * 6 * (4 + 6)
    assert counted(nn.GRU(6).build((5, 4)), x) == 3 * 5 * 3 * 6 * (4 + 6)
    steps = insight.trace(picture_net("relu"), pictures()).steps
    back = {s.layer: s.multiply_adds for s in steps if s.back and s.multiply_adds}
    there = {s.layer: s.multiply_adds for s in steps if not s.back and s.multiply_adds}
    assert back == {name: n * (1 if name == "0" else 2) for name, n in there.items()}, "the first needs no dx"


def test_times_add_up_to_no_more_than_the_whole():
    model, x = picture_net("relu"), pictures(16)
    began = time.perf_counter()
    steps = insight.trace(model, x).steps
    assert 0 < sum(s.seconds for s in steps) <= time.perf_counter() - began


@pytest.mark.parametrize("y", [None, np.array([0, 1])])
def test_the_model_stays_as_it_was(y):
    model = picture_net("relu", norm=True)
    optimizer = tn.optim.Adam(model.parameters())
    for _ in range(2):  # the second time, gradients have a home at the optimiser's
        optimizer.zero_grad()
        before = snapshot(model)
        flat = [None if p.node.home is None else p.node.home.copy() for p in model.parameters()]
        insight.trace(model, pictures(), y)
        assert snapshot(model) == before
        for p, home in zip(model.parameters(), flat, strict=True):
            assert (p.node.home is None) == (home is None) and (home is None or (p.node.home == home).all())
        ops.softmax_cross_entropy(model(pictures()), [0, 1]).backward()
        optimizer.step()
    broken = nn.Sequential(nn.Conv2d(3, 3), Failing()).build((12, 12, 3))
    broken[1].fails = True
    before = snapshot(broken)
    with pytest.raises(ZeroDivisionError):
        insight.trace(broken, pictures())
    assert snapshot(broken) == before


def test_the_table():
    text = str(insight.trace(picture_net("relu"), pictures(), np.array([0, 1])))
    lines = text.splitlines()
    assert lines[0].split() == [
        "operation",
        "layer",
        "output",
        "dtype",
        "range",
        "zeros",
        "ms",
        "memory",
        "multiply-adds",
        "where",
    ]
    assert lines[2].split()[:4] == ["conv2d", "0", "2×12×12×4", "float32"]
    assert re.search(r"^forward: 8 operations, .* ms, .* KiB, .* multiply-adds$", text, re.M)
    assert re.search(r"^back: 8 operations, ", text, re.M) and "max_pool2d′" in text


def test_outputs_of_several_arrays_ids_and_other_dtypes():
    steps = insight.trace(Recurrent(), RNG.integers(0, 9, (2, 6)), np.array([0, 1])).steps
    lstm = next(s for s in steps if s.name == "lstm")
    assert lstm.shape == ((2, 6, 5), (2, 5), (2, 5)) and lstm.layer == "lstm"
    assert next(s for s in steps if s.back and s.name == "embedding").shape == (9, 4)
    assert {s.dtype for s in insight.trace(picture_net("relu").astype(np.float64), pictures()).steps} == {"float64"}


# ---- graphs -----------------------------------------------------------------------------------------------------


def edges(path):
    """({box's first line: …}, {(from, to)}) of a .dot file."""
    text = path.read_text()
    names = dict(re.findall(r'^  (n\d+) \[label="(.*?)(?:\\n|")', text, re.M))
    return [*names.values()], {(names[a], names[b]) for a, b in re.findall(r"^  (n\d+) -> (n\d+)$", text, re.M)}


def test_the_graph_of_a_model_folds_blocks_and_opens_them(tmp_path):
    model = nn.Sequential(
        nn.Conv2d(4, 3, padding=1),
        nn.Residual(nn.Conv2d(4, 3, padding=1, activation="relu"), nn.BatchNorm()),
        nn.Residual(nn.Conv2d(4, 1)),
        nn.Flatten(),
        input_shape=(8, 8, 1),
    )
    folded = ["input", "0 Conv2d", "1 Residual, 2 layers", "2 Residual, 1 layer", "3 Flatten"]
    insight.draw_graph(model, tmp_path / "a.dot")
    assert edges(tmp_path / "a.dot") == (folded, {*pairwise(folded)})
    insight.draw_graph(model, tmp_path / "a.dot", open=["1.body"])
    names, lines = edges(tmp_path / "a.dot")
    assert names == [
        "input",
        "0 Conv2d",
        "1.body.0 Conv2d",
        "1.body.1 BatchNorm",
        "add",
        "2 Residual, 1 layer",
        "3 Flatten",
    ]
    assert {("0 Conv2d", "add"), ("1.body.1 BatchNorm", "add"), ("add", "2 Residual, 1 layer")} <= lines and len(
        lines
    ) == 7
    insight.draw_graph(model, tmp_path / "a.dot", depth=0)
    assert edges(tmp_path / "a.dot")[0].count("add") == 2
    with pytest.raises(ValueError, match="no module 9"):
        insight.draw_graph(model, tmp_path / "a.dot", open=["9"])


def boxes_of(path):
    """[(title, left, top, width, height)] of a .svg file, and its size."""
    root = ET.parse(path).getroot()
    space = "{http://www.w3.org/2000/svg}"
    found = []
    for g in root.iter(f"{space}g"):
        rect = g.find(f"{space}rect")
        found.append((g.find(f"{space}text").text, *(float(rect.get(k)) for k in ("x", "y", "width", "height"))))
    return found, (float(root.get("width")), float(root.get("height")))


@pytest.mark.parametrize(
    "make", [lambda: picture_net("relu"), lambda: Own(), lambda: Block(3), lambda: tn.models.resnet20()]
)
@pytest.mark.parametrize("depth", [0, 1])
def test_no_boxes_overlap_or_leave_the_picture(make, depth, tmp_path):
    model = make()
    model.build(model.built or (12, 12, 3))
    insight.draw_graph(model, tmp_path / "a.svg", depth=depth)
    found, (width, height) = boxes_of(tmp_path / "a.svg")
    assert len(found) >= 5
    for i, (_, left, top, wide, high) in enumerate(found):
        assert left >= 0 and top >= 0 and left + wide <= width and top + high <= height
        for _, left2, top2, wide2, high2 in found[:i]:
            assert left + wide <= left2 or left2 + wide2 <= left or top + high <= top2 or top2 + high2 <= top
    text = (tmp_path / "a.svg").read_text()
    assert text.count("<path d=") - 1 == len(edges_of(model, tmp_path, depth))


def edges_of(model, folder, depth):
    insight.draw_graph(model, folder / "b.dot", depth=depth)
    return re.findall(r"^  n\d+ -> n\d+$", (folder / "b.dot").read_text(), re.M)


def test_graphs_of_tensors_and_of_models_with_other_inputs(tmp_path):
    w = tn.tensor(np.ones((5, 2), np.float32), requires_grad=True)
    y = ops.relu(X @ w + 1).sum()
    insight.draw_graph(y, tmp_path / "a.dot")
    assert edges(tmp_path / "a.dot")[0] == ["leaf", "matmul", "add", "relu", "sum"]
    y.backward()  # its graph was not used up
    two = Branching()
    two(left=X, right=X)
    insight.draw_graph(two, tmp_path / "a.dot")
    names, lines = edges(tmp_path / "a.dot")
    assert names[:2] == ["input left", "input right"] and ("b Dense", "subtract") in lines
    ids = Recurrent()
    insight.draw_graph(ids, tmp_path / "a.dot", x=RNG.integers(0, 9, (2, 6)))
    insight.draw_graph(ids, tmp_path / "b.dot")
    assert edges(tmp_path / "a.dot") == edges(tmp_path / "b.dot")
    before = snapshot(two)
    insight.draw_graph(two, tmp_path / "a.svg")
    assert snapshot(two) == before


def test_names_from_anywhere_are_harmless(tmp_path):
    model = nn.Sequential(nn.Lambda(lambda x: x * 2), input_shape=5)
    model.layers[0].function.__name__ = '<script>"&\\'
    for end in ("svg", "dot"):
        insight.draw_graph(model, tmp_path / f"a.{end}")
    ET.parse(tmp_path / "a.svg")
    assert "<script>" not in (tmp_path / "a.svg").read_text() and r"<script>\"&\\" in (tmp_path / "a.dot").read_text()


def test_what_cannot_be_drawn_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.svg or \.dot"):
        insight.draw_graph(picture_net("relu"), tmp_path / "a.png")
    with pytest.raises(ValueError, match="takes a Module, or a Tensor"):
        insight.draw_graph(tn.tensor(X), tmp_path / "a.svg")
    with pytest.raises(ValueError, match="is not built"):
        insight.draw_graph(nn.Sequential(nn.Dense(3)), tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())


# ---- the command ------------------------------------------------------------------------------------------------


def test_the_command(here, capsys):
    np.save("digit.npy", tn.data.synthetic_digits(1, 5)[0][0])
    assert main(["trace", "digit.npy", "--class", "3", "--graph", "network.svg"]) == 0
    out = capsys.readouterr().out
    assert "softmax_cross_entropy′" in out and "forward: " in out and out.endswith("wrote network.svg\n")
    assert ET.parse("network.svg").getroot().tag.endswith("svg")
    assert main(["trace", "digit.npy", "--fused"]) == 0
    assert "relu" not in capsys.readouterr().out
    assert main(["trace", "digit.npy", "--class", "x"]) == 2
    assert "--class 'x' is none of 0, 1, 2" in capsys.readouterr().err
    np.save("empty.npy", np.zeros((28, 28, 1), np.float32))
    assert main(["trace", "empty.npy"]) == 2
    assert "nothing is drawn here" in capsys.readouterr().err
    assert main(["trace", "missing.npy"]) == 1
