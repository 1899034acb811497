"""The networks of papers: their counts, as the papers and torchvision have them, and a small copy of each at work."""

import re

import numpy as np
import pytest

import tinynet as tn
from tests.test_cuda_networks import backend  # noqa: F401  # a fixture
from tinynet import models, ops, optim
from tinynet.nn import summary

# name: (arguments, parameters, multiply-adds). Those of ImageNet's networks are in torchvision's table of weights.
COUNTS = {
    "resnet20": ((), 269_722, 40_551_040),  # 0.27 M and 41 M in the papers
    "gpt": ((65,), 809_856, 55_058_432),  # 0.80 M in nanoGPT, without positions
    "char_lstm": ((65,), 111_361, 106_624),
}

# name: (a small copy, its inputs for two samples, its labels)
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 7, (2, 5))


def images(*shape):
    return RNG.standard_normal((2, *shape)).astype(np.float32)


SMALL = {
    "resnet20": (lambda: models.resnet20(3, width=2, input_shape=(8, 8, 3)), images(8, 8, 3), np.array([0, 2])),
    "gpt": (lambda: models.gpt(7, layers=2, heads=2, width=8, context=6), IDS, (IDS + 1) % 7),
    "char_lstm": (lambda: models.char_lstm(7, 6, embedding=3), IDS, (IDS + 1) % 7),
}


def cross_entropy(logits, labels):
    """Of one label a sample, or of one a step."""
    return ops.softmax_cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


def built(name, call):
    model = call()
    if model.built is None:
        model.build(SMALL[name][1].shape[1:])
    return model


def test_all_published_networks_are_checked():
    published = {name for name, f in models.MODELS.items() if f.__module__ != models.basic.__name__}
    assert published == set(COUNTS) == set(SMALL)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_multiply_adds(name):
    arguments, parameters, multiply_adds = COUNTS[name]
    make = models.MODELS[name]
    model = make(*arguments)
    if model.built is None:
        model.build(1)
    assert sum(p.size for p in model.parameters()) == parameters
    assert int(re.search(r"([\d,]+) multiply-adds,", summary.table(model))[1].replace(",", "")) == multiply_adds
    assert all(f"{count:,}" in make.__doc__ for count in (parameters, multiply_adds))


@pytest.mark.parametrize("name", SMALL)
def test_a_small_copy_has_the_right_gradient(name):
    """In a random direction in the space of all parameters, in float64, by central differences."""
    make, x, y = SMALL[name]
    tn.seed(1)
    model = built(name, make).astype(np.float64)

    def loss():
        return cross_entropy(model(x), y)

    loss().backward()
    parameters, rng, eps = model.parameters(), np.random.default_rng(2), 1e-6
    assert all(p.grad is not None and np.isfinite(p.grad.numpy()).all() for p in parameters)
    direction = [rng.standard_normal(p.shape) for p in parameters]
    values = []
    with tn.no_grad():
        for step in (eps, -2 * eps):
            for p, d in zip(parameters, direction, strict=True):
                p += step * d
            values.append(loss().item())
    slope = sum(float((p.grad.numpy() * d).sum()) for p, d in zip(parameters, direction, strict=True))
    assert (values[0] - values[1]) / (2 * eps) == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_copy_says_its_size_and_comes_back_from_its_file(name, tmp_path):
    make, x, _ = SMALL[name]
    model = built(name, make).eval()
    y = model(x)
    assert model.output_size(x.shape[1:]) == y.shape[1:]
    tn.save(model, tmp_path / "model.safetensors")
    again = tn.load(tmp_path / "model.safetensors").eval()
    assert type(again) is type(model) and again.state_dict().keys() == model.state_dict().keys()
    np.testing.assert_array_equal(again(x).numpy(), y.numpy())


@pytest.mark.parametrize("name", SMALL)
def test_a_small_copy_learns_with_any_number_of_workers(name):
    make, x, y = SMALL[name]
    losses = []
    for workers in (1, 2):
        tn.seed(3)
        model = built(name, make)
        rows = tn.fit(
            model,
            (np.repeat(x, 4, 0), np.repeat(y, 4, 0)),
            epochs=6,
            batch_size=8,
            lr=1e-2,
            loss=cross_entropy,
            workers=workers,
            verbose=False,
        )
        losses.append([row["loss"] for row in rows])
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_copy_takes_a_step_on_a_device(name, backend):  # noqa: F811
    make, x, y = SMALL[name]
    losses = {}
    for place in ("numpy", backend):
        with tn.use(place):
            tn.seed(4)
            model = built(name, make)
            optimizer = optim.SGD(model.parameters(), 0.1)
            losses[place] = []
            for _ in range(2):
                loss = cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step(loss)
                losses[place].append(loss.item())
    np.testing.assert_allclose(losses[backend], losses["numpy"], rtol=1e-4)
