"""Groups without weight decay, and the learning rate to begin with."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops, optim


def test_no_decay_leaves_biases_and_norms_out():
    class PlainNorm(nn.Module):
        def create(self, shape):
            self.scale = self.parameter((2, 2), nn.init.zeros)

        def forward(self, x):
            return x

    model = nn.Sequential(
        nn.Conv2d(2, 3), PlainNorm(), nn.Flatten(), nn.Dense(3), nn.Dense(2, bias=False), input_shape=(5, 5, 1)
    )
    groups = optim.no_decay(model)
    assert [[p.shape for p in group["params"]] for group in groups] == [
        [(3, 3, 1, 2), (18, 3), (3, 2)],
        [(2,), (2, 2), (3,)],
    ]
    optimizer = optim.AdamW(groups, weight_decay=0.1)
    assert [group.options["weight_decay"] for group in optimizer.groups] == [0.1, 0.0]
    assert len(optim.no_decay(nn.Dense(2, bias=False).build(3))) == 1


def problem():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 5)).astype(np.float32)
    return x, (x @ rng.standard_normal((5, 1))).astype(np.float32)


@pytest.mark.parametrize("loader", [False, True])
def test_find_lr_suggests_a_rate_that_learns_and_changes_nothing(loader):
    tn.seed(4)
    model = nn.Sequential(nn.Dense(16, activation="tanh"), nn.Dropout(0.1), nn.Dense(1), input_shape=(5,))
    mine = optim.Adam(model.parameters())
    model[1].eval()
    before, steps = model.state_dict(), dict(ops.random.state.steps)
    x, y = problem()
    data = tn.data.Loader(x, y, batch_size=32) if loader else (x, y)
    curve, suggestion = optim.find_lr(model, data, loss=ops.mse, optimizer=optim.SGD, batch_size=32)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert ops.random.state.steps == steps and not model[1].training and model.training
    assert not loader or data.epoch == 0
    model(x[:4]).sum().backward()
    mine.step()  # the parameters are still its own
    assert curve.ndim == 2 and curve.shape[1] == 2 and (np.diff(curve[:, 0]) > 0).all()
    assert 1e-3 < suggestion < 2
    again = optim.find_lr(model, data, loss=ops.mse, optimizer=optim.SGD, batch_size=32)
    assert len(again.curve)

    def after(lr):
        tn.seed(4)
        model = nn.Sequential(nn.Dense(16, activation="tanh"), nn.Dense(1), input_shape=(5,))
        return tn.fit(
            model, (x, y), epochs=3, batch_size=32, loss=ops.mse, optimizer="sgd", lr=lr, verbose=False, seed=0
        )[-1]["loss"]

    assert after(suggestion) < after(suggestion / 100)


def test_find_lr_builds_its_copy_and_takes_lists_several_inputs_and_names():
    class Both(nn.Module):
        def __init__(self):
            self.dense = nn.Dense(1)

        def forward(self, a, b):
            return self.dense(a) + self.dense(b)

    x, y = problem()
    for model, inputs in (
        (nn.Sequential(nn.BatchNorm(), nn.Dense(1)), x),
        (nn.Sequential(nn.Dense(1)), x.tolist()),
        (Both(), (x, x)),
        (Both(), {"a": x, "b": x}),
    ):
        found = optim.find_lr(model, (inputs, y), loss=ops.mse, optimizer="sgd", batch_size=32)
        assert found.suggestion > 0 and model.unbuilt()
    with pytest.raises(ValueError, match="find_lr: optimizer 'sdg' is unknown; choose one of sgd, adam"):
        optim.find_lr(model, (inputs, y), optimizer="sdg")


def test_find_lr_refuses_what_makes_no_sense():
    model, (x, y) = nn.Dense(1).build(5), problem()
    for wrong in ({"low": 1.0, "high": 0.1}, {"low": 0}, {"steps": 3}):
        with pytest.raises(ValueError, match="find_lr: needs 0 < low < high and steps >= 10"):
            optim.find_lr(model, (x, y), loss=ops.mse, **wrong)
    with pytest.raises(ValueError, match="find_lr: the loss is not finite"):
        optim.find_lr(model, (x * np.nan, y), loss=ops.mse)


def test_find_lr_takes_what_fit_takes_and_refuses_what_fit_refuses():
    model, (x, y) = nn.Dense(1).build(5), problem()
    with pytest.raises(ValueError, match="softmax over one class is always 1"):
        optim.find_lr(model, (x, y))
    low = optim.find_lr(model, (x, y), loss=lambda o, t: ops.mse(o, t) - 1e6)  # a likelihood may be negative
    assert low.suggestion > 0 and len(low.curve) > 50

    class Pairs:
        def __len__(self):
            return len(x)

        def __getitem__(self, i):
            return x[i], y[i]

    assert optim.find_lr(model, Pairs(), loss=ops.mse).suggestion > 0
