"""Averages of parameters, and statistics measured for them."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tinynet as tn
from tests.optimising import parameters
from tinynet import nn, optim


def net():
    return nn.Sequential(nn.Dense(4, activation="relu"), nn.Dropout(0.5), nn.Dense(2), input_shape=(3,))


def values(model):
    return [p.numpy().copy() for p in model.parameters()]


def trained(average, steps=6):
    """The parameters after each of some steps, after each of which the average was updated."""
    model = average.model
    optimizer, seen, rng = optim.SGD(model.parameters(), 0.5), [], np.random.default_rng(0)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(rng.standard_normal((5, 3))) ** 2).mean().backward()
        optimizer.step()
        average.update()
        seen.append(values(model))
    return seen


@pytest.mark.parametrize("kind", ["EMA", "SWA"])
def test_averages_are_the_formulas_and_go_in_and_out(kind):
    average = optim.EMA(net(), 0.8) if kind == "EMA" else optim.SWA(net())
    seen = trained(average)
    want = seen[0]
    for count, now in enumerate(seen[1:], 2):
        share = 0.2 if kind == "EMA" else 1 / count
        want = [(1 - share) * a + share * p for a, p in zip(want, now, strict=True)]
    with average.applied() as model:
        for p, a in zip(model.parameters(), want, strict=True):
            assert_allclose(p.numpy(), a, rtol=2e-5, atol=1e-6)
    for p, last in zip(average.model.parameters(), seen[-1], strict=True):
        np.testing.assert_array_equal(p.numpy(), last)
    with pytest.raises(ZeroDivisionError), average.applied():
        1 / 0  # noqa: B018
    for p, last in zip(average.model.parameters(), seen[-1], strict=True):
        np.testing.assert_array_equal(p.numpy(), last)
    average.apply()
    assert_allclose(average.model.parameters()[0].numpy(), want[0], rtol=2e-5, atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["EMA", "SWA"])
def test_averages_beside_pytorch(kind):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install tinynet[parity])")
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    average = optim.EMA(net(), 0.9) if kind == "EMA" else optim.SWA(net())
    twin = torch.nn.ParameterList([torch.from_numpy(v) for v in values(average.model)])
    theirs = AveragedModel(twin, multi_avg_fn=get_ema_multi_avg_fn(0.9) if kind == "EMA" else None)
    for now in trained(average):
        for p, v in zip(twin, now, strict=True):
            p.data = torch.from_numpy(v)
        theirs.update_parameters(twin)
    for a, b in zip(average.averages, theirs.module, strict=True):
        assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-7)


def test_a_graph_notices_that_averages_were_written():
    model = net()
    average = optim.EMA(model)
    average.update()
    loss = model(tn.tensor(np.ones((1, 3), np.float32), requires_grad=True)).sum()
    average.apply()
    with pytest.raises(RuntimeError, match="was changed in place since"):
        loss.backward()


@pytest.mark.parametrize("workers", [1, 2])
def test_averages_are_callbacks_of_fit(workers):
    x, y = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32), np.arange(40) % 2
    model = net()
    ema, swa, ends, steps = optim.EMA(model, 0.5), optim.SWA(model, start=2), [], []

    class Watch:
        def on_step_end(self, info):
            steps.append(values(model))

    tn.fit(
        model,
        (x, y),
        epochs=4,
        batch_size=10,
        workers=workers,
        callbacks=[ema, swa, Watch(), lambda row: ends.append(values(model))],
        verbose=False,
    )
    assert (ema.count, swa.count) == (16, 3)
    for k, average in enumerate(swa.averages):
        assert_allclose(average.numpy(), np.mean([end[k] for end in ends[1:]], axis=0), rtol=1e-5, atol=1e-7)
    want = steps[0]
    for now in steps[1:]:
        want = [0.5 * (a + p) for a, p in zip(want, now, strict=True)]
    for average, a in zip(ema.averages, want, strict=True):
        assert_allclose(average.numpy(), a, rtol=1e-5, atol=1e-7)


def test_an_average_resumes_and_refuses_another():
    one, two = (optim.EMA(net(), 0.9) for _ in range(2))
    trained(one)
    two.load_state_dict(one.state_dict())
    assert two.count == one.count
    for a, b in zip(one.averages, two.averages, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.raises(ValueError, match="EMA: the state is of another model's"):
        two.load_state_dict(optim.SWA(nn.Dense(2).build(3)).state_dict())
    for decay in (1.0, -0.1):
        with pytest.raises(ValueError, match="EMA: decay"):
            optim.EMA(net(), decay)


class Normal(nn.Module):
    """A batch norm in short: what `update_statistics` looks for."""

    def __init__(self, momentum=0.1):
        self.momentum = momentum

    def create(self, shape):
        self.buffer("running_mean", np.zeros(shape, np.float32))

    def forward(self, x):
        if self.training:
            mean = x.detach().mean(0)
            running = self.running_mean
            running.data[...] = running.data + self.momentum * (mean.data - running.data)
        return x - self.running_mean


def test_statistics_are_the_mean_over_the_batches():
    model = nn.Sequential(nn.Dropout(0.5), Normal(), nn.Dense(2), Normal(0.7), input_shape=(3,))
    model.train()
    batches = [np.random.default_rng(i).standard_normal((6, 3)).astype(np.float32) + 1 for i in range(4)]
    model[1].eval()
    modes = [m.training for m in model.modules()]
    optim.update_statistics(model, ((x, None) for x in batches))
    means = np.array([x.mean(0) for x in batches])
    assert_allclose(model[1].running_mean.numpy(), means.mean(0), rtol=1e-5)
    assert [m.training for m in model.modules()] == modes
    assert (model[1].momentum, model[3].momentum) == (0.1, 0.7)
    optim.update_statistics(net(), itertools.count())  # there are none: no pass over data that has no end


def test_parameters_of_any_backend_and_dtype():
    class Both(nn.Module):
        def __init__(self):
            self.p, self.q = parameters(shapes=((2,),))[0], parameters(shapes=((3,),), dtype=np.float32)[0]

        def forward(self, x):
            return x

    average = optim.EMA(Both())
    average.update()
    assert [a.dtype for a in average.averages] == [np.float64, np.float32]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norms_are_measured_for_the_averages(momentum):
    model = nn.Sequential(nn.Dense(4), nn.BatchNorm(momentum=momentum), nn.Dense(2), input_shape=(3,))
    average = optim.SWA(model)
    trained(average)
    batches = [np.random.default_rng(i).standard_normal((6, 3)).astype(np.float32) for i in range(5)]
    with average.applied():
        optim.update_statistics(model, batches)
        hidden = [model[0](x).numpy() for x in batches]
    assert_allclose(model[1].running_mean.numpy(), np.mean([h.mean(0) for h in hidden], axis=0), rtol=1e-4, atol=1e-6)
    assert_allclose(model[1].running_var.numpy(), np.mean([h.var(0, ddof=1) for h in hidden], axis=0), rtol=1e-4)
    groups = optim.no_decay(model)
    assert [len(group["params"]) for group in groups] == [2, 4] and model[1].momentum == momentum


@pytest.mark.parametrize("make", [optim.EMA, lambda model: optim.SWA(model, start=5)])
def test_an_average_of_nothing_is_refused(make):
    model = net()
    average, before = make(model), values(model)
    tn.fit(model, (np.ones((8, 3)), np.zeros(8, int)), epochs=2, verbose=False)
    learnt = values(model)
    assert not np.array_equal(learnt[0], before[0])
    for use in average.apply, lambda: average.applied().__enter__():
        with pytest.raises(RuntimeError, match=r"never updated; pass it as callbacks=\[…\]"):
            use()
    for a, b in zip(values(model), learnt, strict=True):
        np.testing.assert_array_equal(a, b)


def test_statistics_are_measured_of_what_a_loader_brings():
    class Both(nn.Module):
        def __init__(self):
            self.norm = nn.BatchNorm(momentum=0.5)

        def forward(self, a, b):
            return self.norm(a + b)

    x = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
    for inputs in (x, x), {"a": x, "b": x}:
        model = Both()
        tn.evaluate(model, (inputs, x), loss=lambda out, y: (out * 0).sum())  # built
        optim.update_statistics(model, tn.data.Loader(inputs, x, batch_size=4))
        assert_allclose(model.norm.running_mean.numpy(), 2 * x.mean(0), rtol=1e-4, atol=1e-6)
    norm = nn.BatchNorm().build(3)
    with pytest.raises(TypeError, match=r"update_statistics: a tuple \(x, y\) is no list of batches; pass Loader"):
        optim.update_statistics(norm, (x, np.arange(12)))
    optim.update_statistics(norm, ((x[:4], 0), (x[4:], 0)))
    optim.update_statistics(norm, (x[:4], x[4:]))
    assert_allclose(norm.running_mean.numpy(), (x[:4].mean(0) + x[4:].mean(0)) / 2, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="there are no batches"):
        optim.update_statistics(norm, [])
