"""Adversarial examples, by hand and in training; the model is left as it was."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, ops
from tinynet.insight import fgsm, pgd

from .training_runs import quiet


def network():
    return nn.Sequential(
        nn.Conv2d(3, 3), nn.BatchNorm(), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Dense(3), input_shape=(6, 6, 1)
    )


def data(n=40):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    return (rng.random((n, 6, 6, 1)) * 0.6 + 0.2 * y[:, None, None, None]).astype(np.float32), y


def test_fgsm_is_its_formula():
    rng = np.random.default_rng(0)
    x, y = rng.random((20, 4)), rng.integers(0, 3, 20)
    model = nn.Sequential(nn.Dense(3), input_shape=4).astype(np.float64)
    p = tn.predict(model, x)
    slope = (p - np.eye(3)[y]) @ model[0].weight.numpy().T  # of the cross-entropy, by hand
    for clip in ((0, 1), (-9, 9)):
        bad = fgsm(model, x, y, 0.1, clip=clip, batch_size=7)
        np.testing.assert_allclose(bad, np.clip(x + 0.1 * np.sign(slope), *clip), rtol=0, atol=1e-15)
    assert bad.dtype == np.float64
    t = rng.standard_normal((20, 3))
    slope = (model(x).numpy() - t) @ model[0].weight.numpy().T
    np.testing.assert_allclose(fgsm(model, x, t, 0.1, loss=ops.mse, clip=(-9, 9)), x + 0.1 * np.sign(slope), atol=1e-15)


@pytest.mark.parametrize("backend", ["numpy", "simulator"])
@pytest.mark.parametrize("attack", [fgsm, pgd, functools.partial(pgd, steps=3, step=0.5, seed=None)])
def test_examples_stay_near_and_hurt_and_the_model_is_as_it_was(attack, backend):
    if why := tn.backends.why_not(backend):
        pytest.skip(why)
    (x, y), n = data(), 40 if backend == "numpy" else 4
    model = network()
    quiet(model, (x, y), epochs=15, lr=0.02)
    x, y = x[:n], y[:n]
    model.freeze("0.bias").to(backend)
    model[0].eval()
    model(x).sum().backward()
    held = [(p.grad.numpy().copy() if p.requires_grad else None, p.requires_grad) for p in model.parameters()]
    before, modes, given = model.state_dict(), [m.training for m in model.modules()], x.copy()
    bad = attack(model, x, y, eps=0.15)
    assert bad.dtype == np.float32 and bad.min() >= 0 and bad.max() <= 1 and np.abs(bad - x).max() <= 0.15 + 1e-6
    np.testing.assert_array_equal(x, given)
    assert modes == [m.training for m in model.modules()]
    for p, (g, learns) in zip(model.parameters(), held, strict=True):
        assert p.requires_grad == learns
        assert not learns or np.array_equal(p.grad.numpy(), g)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert tn.evaluate(model, (bad, y))["loss"] > tn.evaluate(model, (x, y))["loss"]


def test_pgd_is_reproducible_and_stronger():
    model, (x, y) = network(), data()
    quiet(model, (x, y), epochs=15, lr=0.02)
    steps = dict(ops.random.state.steps)
    np.testing.assert_array_equal(pgd(model, x, y, 0.1), pgd(model, x, y, 0.1))
    assert ops.random.state.steps == steps and not np.array_equal(pgd(model, x, y, 0.1), pgd(model, x, y, 0.1, seed=1))
    assert not np.array_equal(pgd(model, x, y, 0.1, seed=None), pgd(model, x, y, 0.1, seed=None))
    np.testing.assert_array_equal(pgd(model, x, y, 0.1, steps=1, step=0.1, start=False), fgsm(model, x, y, 0.1))
    np.testing.assert_array_equal(fgsm(model, x, y, 0.0), x)
    loss = [tn.evaluate(model, (bad, y))["loss"] for bad in (fgsm(model, x, y, 0.1), pgd(model, x, y, 0.1, steps=20))]
    assert loss[1] >= loss[0] - 1e-6


@pytest.mark.parametrize("workers", [1, 2])
def test_training_on_examples_makes_robust(workers):
    (x, y), eps, accuracy = data(300), 0.1, []
    for attack in (None, functools.partial(fgsm, eps=eps)):
        tn.seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Dense(16, activation="relu"), nn.Dense(3), input_shape=(6, 6, 1))
        quiet(model, (x, y), epochs=15, lr=0.01, workers=workers, attack=attack, seed=0)
        accuracy.append(tn.evaluate(model, (fgsm(model, x, y, eps), y))["accuracy"])
    assert accuracy[1] > accuracy[0] + 0.02


def test_an_attack_sees_the_weights_of_its_step_for_any_number_of_workers():
    """The examples of all steps are the same for one process and two."""
    x, y = data(24)
    seen = {}
    for workers in (1, 2):
        tn.seed(0)
        seen[workers] = []

        def attack(model, x, y, seen=seen[workers]):
            seen.append(pgd(model, x, y, 0.1, seed=None))
            return seen[-1]

        model = network().astype(np.float64)
        quiet(model, (x, y), epochs=2, batch_size=8, workers=workers, attack=attack, seed=0)
    for one, two in zip(*seen.values(), strict=True):
        assert np.mean(np.abs(one - two) < 1e-6) > 0.99  # a sign may turn where a slope is nearly 0


def test_a_run_under_attack_is_taken_up_again(tmp_path):
    attack, ends = functools.partial(pgd, eps=0.1, seed=None, steps=2), []
    for parts in ((3,), (1, 3)):
        for epochs in parts:
            tn.seed(1)
            model = network()
            options = {"checkpoint": tmp_path / str(parts), "resume": True, "epochs": epochs}
            quiet(model, data(), attack=attack, **options)
        ends.append(model.state_dict())
    for name, value in ends[0].items():
        np.testing.assert_array_equal(value, ends[1][name])
    with pytest.raises(tn.checkpoint.CheckpointError, match="attack was"):
        quiet(network(), data(), **{**options, "epochs": 4}, attack=functools.partial(attack, eps=0.2))


def test_mistakes_are_explained():
    model, (x, y) = network(), data()
    for call, error, text in (
        (lambda: fgsm(model, (x * 255).astype(np.uint8), y, 0.1), TypeError, "dtype uint8; it must be floating"),
        (lambda: fgsm(model, x * 255, y, 0.1), ValueError, r"x lies in .* not within clip=\(0\.0, 1\.0\)"),
        (lambda: fgsm(model, (x, x), y, 0.1), TypeError, "takes one array"),
        (lambda: fgsm(model, x, y, -1), ValueError, "eps >= 0"),
        (lambda: pgd(model, x, y[:3], 0.1), ValueError, "a label for each x"),
        (lambda: pgd(model, x, y, 0.1, steps=0), ValueError, "steps"),
        (
            lambda: fgsm(model, np.where(x == x.max(), np.nan, x), y, 0.1),
            ValueError,
            r"x lies in \[nan, nan\], not within",
        ),
        (lambda: pgd(model, x, y, 0.1, step=-0.1), ValueError, "step=-0.1 must be 0 or more"),
        (lambda: pgd(model, x, y, 0.1, step=np.nan), ValueError, "step=nan must be"),
        (lambda: fgsm(model, x, y, 0.1, batch_size=0), ValueError, "batch_size"),
        (lambda: quiet(model, (x, y), attack=0.1), TypeError, r"fit: attack=0\.1 must be a function"),
    ):
        with pytest.raises(error, match=text):
            call()


def test_the_loss_is_the_one_that_the_model_was_trained_with():
    x = np.random.default_rng(0).random((40, 4)).astype(np.float32)
    y = (x[:, :1] > x[:, 1:2]).astype(np.float32)
    bce = ops.binary_cross_entropy_with_logits
    model = nn.Sequential(nn.Dense(8, activation="relu"), nn.Dense(1), input_shape=4)
    with pytest.raises(ValueError, match=r"softmax over one class is always 1.*binary_cross_entropy_with_logits"):
        fgsm(model, x, y, 0.1)
    seen = []

    def attack(model, x, y):
        seen.append(np.abs(fgsm(model, x, y, 0.1) - x).max())
        return x

    quiet(model, (x, y), loss=bce, attack=attack, epochs=1)
    assert min(seen) == pytest.approx(0.1)
    np.testing.assert_array_equal(fgsm(model, x, y, 0.1), fgsm(model, x, y, 0.1, loss=bce))
    assert not np.array_equal(fgsm(model, x, y, 0.1), fgsm(model, x, y, 0.1, loss=lambda o, t: -bce(o, t)))


def test_a_frozen_model_on_a_device_is_attacked_there():
    model = nn.Sequential(nn.Dense(3), input_shape=4).to("simulator").freeze()
    x = np.random.default_rng(0).random((5, 4)).astype(np.float32)
    assert np.abs(fgsm(model, x, np.arange(5) % 3, 0.1) - x).max() > 0.09
