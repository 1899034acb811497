"""Whole networks on the CUDA backend: checked gradients, NumPy's losses, the same bits each time, and no
arithmetic but our kernels' (the simulator's arrays refuse any other)."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet as tn
from tests.test_cuda_backend import BACKENDS
from tinynet import nn, ops, optim
from tinynet.training import run as loop
from tinynet.training.nonfinite import NonFiniteError

STRICT = {"rtol": 1e-6, "atol": 1e-8}


@pytest.fixture(params=BACKENDS)
def backend(request):
    """The backend's name, in use for one test."""
    if request.param == "simulator":
        reason = tn.backends.why_not("simulator")
        if reason and os.environ.get("CI"):
            pytest.fail(f"CI must run the simulator: {reason}")
        if reason:
            pytest.skip(reason)
        tn.backends.get("simulator").launcher.prepare()
    with tn.use(request.param):
        yield request.param


def images(n: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures whose brightest quarter is their class."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((n, *shape)), rng.integers(0, 4, n)
    half = shape[0] // 2
    for image, label in zip(x, y, strict=True):
        image[label // 2 * half :][:half, label % 2 * half :][:, :half] += 2
    return x, y


def small_cnn(**options) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, 3, activation="relu", **options),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Dense(8, activation="relu"),
        nn.Dense(4),
        input_shape=(8, 8, 1),
    )


# ---- gradients ---------------------------------------------------------------------------------------------


def weights(model: nn.Module) -> list[np.ndarray]:
    return [p.numpy().astype(np.float64) for p in model.parameters()]


def by_hand(x, labels, *w, pool=True, **conv):
    """conv → relu → pool → dropout → dense → relu → dense → cross-entropy."""
    ops.random.seed(3)
    y = ops.conv_relu_pool(x, w[0], w[1], pool=pool, **conv)
    y = ops.dropout(y, 0.25)
    y = ops.dense(y.reshape((len(x), -1)), w[2], w[3], relu=True)
    return ops.softmax_cross_entropy(ops.dense(y, w[4], w[5]), labels)


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 1, "pool": False}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2, "padding": (0, 1)}],
)
@pytest.mark.parametrize("path", ["implicit", "im2col"])
def test_gradients_of_a_network(backend, options, path, monkeypatch):
    be = tn.backends.get(backend)
    monkeypatch.setattr(be, "conv_path", path)
    rng = np.random.default_rng(2)
    x, labels = rng.standard_normal((2, 6, 7, 2) if options.get("pool", True) else (2, 4, 3, 2)), np.array([1, 0])
    w = [rng.standard_normal((3, 3, 2 // options.get("groups", 1), 2)), rng.standard_normal(2)]
    with tn.use("numpy"):
        flat = ops.conv_relu_pool(tn.tensor(x), tn.tensor(w[0]), **{"pool": True, **options}).numpy()[0].size
    w += [rng.standard_normal(shape) / 2 for shape in ((flat, 3), (3,), (3, 2), (2,))]
    tn.gradcheck(lambda x, *w: by_hand(x, tn.tensor(labels), *w, **options), [x, *w], **STRICT)


@pytest.mark.parametrize(
    "network",
    [
        lambda x: ops.softmax(ops.max_pool2d(x, 3, stride=2, padding=1).mean((1, 2))),
        lambda x: ops.log_softmax(ops.avg_pool2d(x, (2, 3), padding=(1, 0)).reshape((2, -1)), 0),
        lambda x: ops.gelu(
            ops.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), mode="edge")[:, ::2, 1:].transpose((0, 3, 1, 2))
        ),
        lambda x: ops.concatenate([ops.sigmoid(x[0]), ops.tanh(x[1])], 1).max(0) * ops.exp(x[1, 0, 0]).sum(),
        lambda x: ops.matmul(x[..., 0], x[..., 1].transpose((0, 2, 1))) / (1 + ops.abs(x[:, :, :1, 0])),
        lambda x: ops.logsumexp(ops.where(tn.tensor(np.eye(4, 5)[..., None] > 0), x, 2 * x), (1, 3)).min(1),
    ],
)
def test_gradients_of_other_operations(backend, network):
    x = 0.05 * (np.random.default_rng(1).permutation(80) - 40.0) + 0.0125
    tn.gradcheck(network, [x.reshape(2, 4, 5, 2)], **STRICT)


# ---- training ----------------------------------------------------------------------------------------------


def losses(backend: str, dtype: type, optimizer: str, steps: int = 4) -> list[float]:
    """A few steps of a small network, from the same weights and masks on every backend."""
    x, y = images(24, 8, 8, 1)
    tn.seed(0)
    with tn.use("numpy"):
        first = [w.astype(dtype) for w in weights(small_cnn(padding=1))]
    tn.seed(1)
    with tn.use(backend):
        model = small_cnn(padding=1).train()
        for p, w in zip(model.parameters(), first, strict=True):
            p.data = tn.tensor(w).data
        rule = {
            "adam": lambda p: optim.Adam(p, 0.01),
            "sgd": lambda p: optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
            "rmsprop": lambda p: optim.RMSprop(p, 0.005),
            "adagrad": lambda p: optim.Adagrad(p, 0.02),
        }[optimizer]
        step, seen = rule(model.parameters()), []
        for i in range(steps):
            part = slice(i % 2 * 12, i % 2 * 12 + 12)
            loss = ops.softmax_cross_entropy(model(tn.tensor(x[part].astype(dtype))), tn.tensor(y[part]))
            step.zero_grad()
            loss.backward()
            step.step()
            seen.append(loss.item())
    return seen


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", "adagrad"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-5)])
def test_training_as_on_numpy(backend, optimizer, dtype, tolerance):
    from tinynet.backends.cpu.conv import set_conv_algorithm

    with set_conv_algorithm("exact"):
        expected = losses("numpy", dtype, optimizer)
    np.testing.assert_allclose(losses(backend, dtype, optimizer), expected, rtol=tolerance, atol=tolerance)


def test_training_repeats_bit_for_bit(backend):
    assert losses(backend, np.float32, "adam") == losses(backend, np.float32, "adam")


def test_fit_learns(backend):
    """tn.fit, evaluation and all, with nothing computed but by kernels."""
    x, y = images(96, 8, 8, 1)
    tn.seed(0)
    history = tn.fit(small_cnn(), (x.astype(np.float32), y), epochs=3, batch_size=16, lr=0.01, verbose=False)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


# model → (launches of a step at most, the shape of its images)
LAUNCHES = {
    "mnist_small": (15, (28, 28, 1)),
    "mnist_cnn": (30, (28, 28, 1)),
    "cifar_small": (19, (32, 32, 3)),
    "cifar_cnn": (33, (32, 32, 3)),
    "image128_cnn": (31, (128, 128, 3)),
    "deep_cnn": (45, (32, 32, 3)),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_launches_of_a_step(backend, name, monkeypatch):
    """Of 64 images, with Adam. No gradient is copied, nothing added up alone, and the host asks for the loss only."""
    be, (most, shape) = tn.backends.get(backend), LAUNCHES[name]
    tn.seed(0)
    model = getattr(tn.models, name)().train()
    rule = optim.Adam(model.parameters())
    x, labels = be.asarray(np.zeros((64, *shape), np.float32)), np.arange(64) % 5
    seen: list[str] = []
    numpy = be.numpy
    monkeypatch.setattr(be, "launch", lambda kernel, *_, **k: seen.append(f"{kernel} {k.get('Op', '')}".strip()))
    monkeypatch.setattr(be, "numpy", lambda array: (seen.append(f"read {array.shape}"), numpy(array))[1])
    for _ in range(2):  # the first step makes the 1 that backward starts from
        seen.clear()
        rule.zero_grad()
        loss = ops.softmax_cross_entropy(model(tn.Tensor(x, be)), labels)
        loss.backward()
        rule.step()
        loss.item()
    launched = [s for s in seen if not s.startswith("read")]
    assert len(launched) <= most, launched
    assert not {"strided_copy", "column_sum", "fill", "binary Multiply"} & set(launched)
    assert [s for s in seen if s.startswith("read")] == ["read ()"], "the host waits for more than the loss"


def test_gradients_that_somebody_keeps(backend):
    """They are written where the step reads them, and stay as they were: kept, clipped, added up, one of a pair."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Dense(5, activation="relu"), nn.Dense(3), input_shape=(4,))
    params = list(model.parameters())
    rule = optim.SGD(params, 0.1)
    kept: list[tuple] = []

    def backward(x: np.ndarray) -> None:
        ops.softmax_cross_entropy(model(tn.tensor(x)), np.array([0, 2])).backward()
        kept.extend((p.grad, p.grad.numpy().copy()) for p in params)

    for k in range(8):
        before, x = [p.numpy().copy() for p in params], [rng.standard_normal((2, 4)) for _ in range(2)]
        rule.zero_grad()
        backward(x[0])
        if k % 4 == 1:
            optim.clip_grad_norm(params, 1e-3)
        if k % 4 == 2:
            backward(x[1])
        if k % 4 == 3:
            params[1].grad = None
            kept.extend((g, g.numpy().copy()) for g in tn.grad((model(tn.tensor(x[1])) ** 2).sum(), params))
        expected = [w if p.grad is None else w - 0.1 * p.grad.numpy() for w, p in zip(before, params, strict=True)]
        rule.step()
        for p, w in zip(params, expected, strict=True):
            np.testing.assert_allclose(p.numpy(), w, rtol=1e-5, atol=1e-7)
    for g, values in kept:
        np.testing.assert_array_equal(g.numpy(), values)


def test_a_shape_is_known_without_the_device(backend, monkeypatch):
    x = tn.tensor(np.ones((2, 3), np.float32))
    monkeypatch.setattr(x.backend.launcher, "asnumpy", None)
    assert (np.shape(x), np.ndim(x), np.size(x), np.size(x, 1)) == ((2, 3), 2, 6, 3)


class Watcher:
    def on_step_end(self, info):
        pass


def test_fit_reads_losses_when_it_shows_them(backend, monkeypatch):
    """A device is asked at the end of an epoch, or every so many steps, with the result of asking at each step."""
    x, y = images(40, 8, 8, 1)
    read = tn.Tensor.item

    def run(most: int, **options) -> tuple[str, dict]:
        events: list[str] = []
        monkeypatch.setattr(loop, "MOST_WAITING", most)
        monkeypatch.setattr(tn.Tensor, "item", lambda t: (events.append("r"), read(t))[1])
        tn.seed(0)
        (row,) = tn.fit(
            small_cnn(),
            (x.astype(np.float32), y),
            epochs=1,
            batch_size=4,
            verbose=False,
            **options,
            loss=lambda *a: (events.append("s"), ops.softmax_cross_entropy(*a))[1],
        )
        return "".join(events), {k: row[k] for k in ("loss", "accuracy")}

    events, once = run(32)
    assert events == "s" * 10 + "r" * 10
    assert run(4) == ("ssssrrrr" * 2 + "ssrr", once)
    assert run(32, callbacks=[Watcher()]) == ("sr" * 10, once)


def test_fit_names_the_batch_whose_loss_was_not_finite(backend):
    x, y = images(24, 8, 8, 1)
    x = x.astype(np.float32)
    x[9] = np.nan
    tn.seed(0)
    loader = tn.data.Loader(x, y, batch_size=4, shuffle=False)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=r"batch 3: the batch's images.* 3 steps were"):
        tn.fit(small_cnn(), loader, epochs=1, verbose=False)


def test_a_loss_that_is_not_finite_changes_nothing(backend):
    w = nn.Parameter(tn.tensor(np.ones(3)).data, tn.backends.current())
    step = optim.Adam([w], 0.1)
    for factor, expected in ((np.inf, 1.0), (1.0, 0.9)):
        loss = (w * tn.tensor(np.array([1.0, factor, 2.0]))).sum()
        step.zero_grad()
        loss.backward()
        step.step(loss)
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-6)


def test_the_benchmark_has_right_calls(backend, capsys):
    """Its cases run, at a small size; without a GPU it says so in a sentence and ends well."""
    spec = importlib.util.spec_from_file_location("gpu_benchmark", Path(__file__).parents[1] / "benchmarks" / "gpu.py")
    gpu = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(gpu)
    sys.path[:] = path
    cases = list(gpu.cases(tn.backends.get(backend), n=2, side=8))
    for case in cases:
        case.call()
    assert len({case.name for case in cases}) == len(cases) > 30
    if tn.backends.why_not("cupy"):
        assert gpu.main([]) == 0 and "No GPU was measured: the cupy backend needs" in capsys.readouterr().out
