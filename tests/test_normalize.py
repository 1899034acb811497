"""nn.Normalize: fitted to the training set, saved with the model."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn

RNG = np.random.default_rng


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_normalisation_is_fitted_to_the_training_set_and_saved_with_the_model(dtype, tmp_path):
    x = RNG(0).random((1500, 4, 3, 3))
    x = (x * 255).astype(np.uint8) if dtype == "uint8" else x.astype(dtype)
    x[..., 2] = 3  # a channel that never changes
    layer = nn.Normalize.fit(x)
    y = layer(x).numpy()
    assert y.dtype == np.float32 and not y[..., 2].any()
    np.testing.assert_allclose(y[..., :2].mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y[..., :2].std((0, 1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(layer.mean.numpy(), x.mean((0, 1, 2), np.float64), rtol=1e-6)
    model = nn.Sequential(layer, nn.Flatten(), nn.Dense(2), input_shape=(4, 3, 3))
    assert model.output_size((4, 3, 3)) == (2,) and len(model.parameters()) == 2
    tn.save(model, tmp_path / "model.safetensors")
    loaded = tn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(tn.predict(loaded, x[:5]), tn.predict(model, x[:5]))
    assert loaded[0].mean.numpy().tolist() == layer.mean.numpy().tolist()


def test_normalisation_of_tables_and_by_one_number():
    x = RNG(0).normal(5, 3, (100, 4))
    np.testing.assert_allclose(nn.Normalize.fit(x)(x).numpy().std(0), 1, rtol=1e-5)
    np.testing.assert_allclose(nn.Normalize(0.5, 0.25)(np.ones((1, 2, 2, 7), np.float32)).numpy(), 2.0)
    for wrong in (lambda: nn.Normalize(0, 0), lambda: nn.Normalize(float("nan"), 1), lambda: nn.Normalize(0, (1, -1))):
        with pytest.raises(ValueError, match="Normalize: mean"):
            wrong()
    with pytest.raises(ValueError, match="3 channels"):
        nn.Normalize((0, 0, 0), (1, 1, 1)).build((4, 4, 1))
    assert repr(nn.Normalize((0.25, 1 / 3, 0), 1)) == "Normalize([0.25 , 0.333, 0.   ], 1.)"
    assert len(repr(nn.Normalize.fit(RNG(0).random((9, 200))))) < 80
    with pytest.raises(ValueError, match=r"Normalize\.fit"):
        nn.Normalize.fit(np.zeros(3))
