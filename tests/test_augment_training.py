"""Augmentation in training: batches that depend on the seed alone, and runs that resume to the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tests.test_augment import ALL, batch, labels
from tinynet import nn
from tinynet.data import Loader, augment, mixing


@pytest.mark.parametrize("name", ALL)
def test_batches_depend_on_the_seed_alone(name):
    x = batch(10)
    y = labels(name, x)

    def epoch(**options):
        settings = {"batch_size": 4, "seed": 7, "augment": ALL[name]} | options
        return list(Loader(x, y, **settings).iterate(2))

    ahead, here, other = epoch(prefetch=3), epoch(prefetch=0), epoch(seed=8)
    part = list(Loader(x, y, batch_size=4, seed=7, augment=ALL[name]).iterate(2, 1))
    for (a, ya), (b, yb) in zip([*ahead, *part], [*here, *here[1:]], strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(ya, yb)
    assert not np.array_equal(ahead[0][0], other[0][0])


def small():
    tn.seed(0)
    return nn.Sequential(nn.Normalize.fit(batch(40)), nn.Flatten(), nn.Dense(4, activation="relu"), nn.Dense(10)).build(
        (9, 7, 3)
    )


def weights(model):
    return np.concatenate([p.numpy().ravel() for p in model.parameters()])


@pytest.mark.parametrize("name", ["compose", "random_affine", "color_jitter"])
def test_fit_augments_and_resumes_to_the_same_bits(name, tmp_path):
    data, options = (batch(40), np.arange(40) % 10), {"batch_size": 8, "verbose": False, "augment": ALL[name]}
    whole, plain = small(), small()
    tn.fit(whole, data, epochs=3, **options)
    tn.fit(plain, data, epochs=3, **options | {"augment": None})
    assert not np.array_equal(weights(whole), weights(plain))

    def stop(info):
        if info["step"] == 8:
            raise KeyboardInterrupt

    class Stop:
        on_step_end = staticmethod(stop)

    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        tn.fit(small(), data, epochs=3, checkpoint=path, checkpoint_every=1, callbacks=[Stop()], **options)
    again = small()
    tn.fit(again, data, epochs=3, checkpoint=path, checkpoint_every=1, resume=True, **options)
    np.testing.assert_array_equal(weights(again), weights(whole))
    with pytest.raises(tn.checkpoint.CheckpointError, match="augment"):
        tn.fit(
            small(), data, epochs=3, checkpoint=path, resume=True, **options | {"augment": augment.random_flip(0.125)}
        )


def test_fit_leaves_a_loader_its_own_augmentation_and_the_validation_alone():
    x, y = batch(10), np.arange(10)
    with pytest.raises(TypeError, match="brings its own augment="):
        tn.fit(small(), Loader(x, y), augment=augment.random_flip())
    seen = []

    def note(x, rng):
        seen.append(len(x))
        return x

    tn.fit(small(), (x, y), validation=(x, y), batch_size=10, augment=note, verbose=False)
    assert seen == [10]


def test_fit_learns_from_mixed_labels():
    data = batch(40), np.arange(40) % 10
    for mix in (mixing.mixup(classes=10), mixing.cutmix(classes=10)):
        history = tn.fit(small(), data, validation=data, epochs=2, augment=mix, verbose=False)
        assert history[-1]["loss"] < history[0]["loss"]
        assert history[-1]["accuracy"] is None and history[-1]["val_accuracy"] is not None


def test_the_number_of_workers_changes_no_batch():
    trained = [small(), small()]
    for model, workers in zip(trained, (1, 2), strict=True):
        mix = augment.compose(ALL["random_affine"], mixing.mixup(classes=10))
        tn.fit(model, (batch(40), np.arange(40) % 10), batch_size=8, augment=mix, workers=workers, verbose=False)
    np.testing.assert_allclose(*map(weights, trained), atol=1e-5)
