"""PyTorch's layouts, there and back."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn


def test_layouts_round_trip():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 5))
    np.testing.assert_array_equal(tn.nn.from_torch(x), x.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(tn.nn.to_torch(tn.nn.from_torch(x)), x)
    w = rng.standard_normal((8, 3, 2, 2))
    np.testing.assert_array_equal(nn.from_torch(w, "conv"), w.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(nn.to_torch(nn.from_torch(w, "conv"), "conv"), w)
    d = rng.standard_normal((7, 3 * 4 * 5))
    flat = nn.from_torch(d, image=(4, 5, 3))
    np.testing.assert_allclose(nn.from_torch(x).reshape(2, -1) @ flat, x.reshape(2, -1) @ d.T)
    np.testing.assert_array_equal(nn.to_torch(flat, image=(4, 5, 3)), d)
    state = {"0.weight": w, "0.bias": np.zeros(8)}
    assert nn.from_torch(state)["0.weight"].shape == (2, 2, 3, 8)
    with pytest.raises(ValueError, match="kind"):
        nn.from_torch(x, "dense")


@pytest.mark.parametrize("convert", [tn.to_torch, tn.from_torch])
def test_layouts_of_whole_models_say_what_to_pass(convert):
    model = nn.Sequential(nn.Dense(4), input_shape=3)
    with pytest.raises(TypeError, match=r"of a model, its state_dict\(\)"):
        convert(model)
    with pytest.raises(ValueError, match="is unknown; choose one of"):
        convert(np.ones((2, 2)), model)


@pytest.mark.parametrize("convert", [tn.to_torch, tn.from_torch])
def test_an_image_that_is_not_the_weights_is_refused(convert):
    w = np.arange(2000.0).reshape(10, 200)
    w = w.T if convert is tn.to_torch else w
    for value, image, error, text in (
        (
            {"fc.weight": w},
            {"fc1.weight": (5, 10, 4)},
            ValueError,
            "image: the state dict has no 'fc1.weight'; it has fc",
        ),
        ({"fc.weight": w}, (5, 10, 4), TypeError, r"image=\(5, 10, 4\): of a state dict it must be a mapping"),
        (w, (5, 5, 4), ValueError, r"image=\(5, 5, 4\) has 100 numbers, the weight takes 200 inputs"),
        ({"fc.weight": w}, {"fc.weight": (5, 5, 4)}, ValueError, "has 100 numbers"),
    ):
        with pytest.raises(error, match=text):
            convert(value, "dense", image=image)
    assert convert({"fc.weight": w}, image={"fc.weight": (5, 10, 4)})["fc.weight"].shape == w.T.shape
