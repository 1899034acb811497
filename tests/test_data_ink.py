"""Finding a drawing on a page: digits that are right when cropped are right on pages and photographs."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tinynet.data import DataError, find_drawing

from .pages import KINDS, page, right_on_pages


@pytest.fixture(scope="module")
def classify():
    """A small network that learnt synthetic digits."""
    tn.seed(0)
    model = tn.models.mnist_small()
    tn.fit(model, tn.data.synthetic_digits(10_000), epochs=3, verbose=False)
    model.eval()

    def classify(images):
        p = tn.ops.softmax(model(np.asarray(images, np.float32))).numpy()
        return p.argmax(1), p.max(1)

    return classify


def digits(source, count=12):
    if source == "synthetic":
        return tn.data.synthetic_digits(count, 7)
    try:
        x, y = tn.data.mnist(download=False).test
    except DataError:
        pytest.skip("the real MNIST is not here (TINYNET_DATA)")
    return x[:count], y[:count]


def size(kind):
    """Whole pages of the plainest kind, smaller ones of the others, to save time."""
    return {} if kind == "white" else {"height": 300, "width": 400}


@pytest.mark.parametrize("source", ["synthetic", "mnist"])
@pytest.mark.parametrize("kind", KINDS)
def test_digits_on_pages_are_read_as_when_cropped(classify, source, kind):
    right, cropped = right_on_pages(classify, *digits(source), kind, **size(kind))
    assert cropped >= 7 and right >= 0.9 * cropped - 1, (right, cropped)


def test_of_all_kinds_together_nine_of_ten_are_right(classify):
    counts = [right_on_pages(classify, *digits("synthetic", 6), kind, seed=9, **size(kind)) for kind in KINDS]
    right, cropped = map(sum, zip(*counts, strict=True))
    assert right >= 0.9 * cropped, (right, cropped)


@pytest.mark.parametrize("noise", [0, 0.01, 0.03, 0.06])
@pytest.mark.parametrize("dark", [True, False])
def test_on_an_empty_page_nothing_is_found(noise, dark):
    rng = np.random.default_rng(3)
    for light in (0, 0.3, 0.6):
        empty = page(rng, np.zeros((28, 28)), size=28, light=light, noise=noise, dark=dark, height=300, width=400)
        assert find_drawing(empty) is None
    for level in (0, 0.5, 1):
        assert find_drawing(np.full((28, 28), level, np.float32)) is None
    assert find_drawing(np.ones((1, 1), np.float32)) is None and find_drawing(np.ones((1, 90), np.float32)) is None


def test_it_is_laid_out_as_mnist_is():
    """20 pixels along the longer side, the centre of mass in the middle, full ink white, paper black."""
    canvas = np.ones((600, 800), np.float32)
    canvas[100:400, 500:540] = 0.2
    canvas[360:400, 500:640] = 0.2  # an L
    found = find_drawing(canvas)
    assert found is not None and found.image.shape == (28, 28, 1) and found.image.dtype == np.float32
    assert found.shapes == 1 and np.abs(np.subtract(found.box, (100, 500, 400, 640))).max() <= 2
    image = found.image[..., 0]
    rows, columns = np.flatnonzero(image.max(1) > 0.3), np.flatnonzero(image.max(0) > 0.3)
    assert 19 <= np.ptp(rows) + 1 <= 21 and 8 <= np.ptp(columns) + 1 <= 11
    mass = image.sum()
    assert abs(image.sum(1) @ np.arange(28) / mass - 14) < 1 and abs(image.sum(0) @ np.arange(28) / mass - 14) < 1
    assert image.max() == 1 and image.min() == 0 and image[0].max() == 0
    for other in (1 - canvas, 0.5 + canvas / 4, np.pad(canvas, 500, constant_values=1)):  # negative, faint, far away
        np.testing.assert_allclose(find_drawing(other).image, found.image, atol=0.25)


def test_the_heaviest_of_several_drawings_and_none_that_the_edge_cuts():
    canvas = np.ones((300, 400), np.float32)
    canvas[:, :6] = 0.1  # the edge of a table
    canvas[100:160, 100:110] = 0.1
    canvas[100:190, 300:312] = 0.1
    found = find_drawing(canvas)
    assert found.shapes == 2 and found.box[1] >= 290
    thin = np.ones((600, 800), np.float32)
    thin[100:500, 400] = 0  # a hair line becomes a stroke that can be seen
    assert find_drawing(thin).image.max() == 1 and (find_drawing(thin).image > 0.4).sum() >= 20
