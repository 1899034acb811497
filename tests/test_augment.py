"""Augmentation: each does what its name says, draws from its rng alone, and leaves what it was given as it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynet.data import Loader, augment, colour, mixing
from tinynet.data.augment import WithLabels, affine, augmented

RNG = np.random.default_rng
IMAGES = {
    "random_flip": augment.random_flip(),
    "random_flip vertical": augment.random_flip(vertical=True),
    "random_shift": augment.random_shift(2),
    "random_crop": augment.random_crop(2),
    "random_affine": augment.random_affine(rotate=20, scale=(0.8, 1.3), shear=10, shift=1.5),
    "random_rotate": augment.random_rotate(180),
    "random_scale": augment.random_scale(0.5, 2),
    "random_shear": augment.random_shear(30),
    "color_jitter": colour.color_jitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5),
    "random_noise": colour.random_noise(0.1),
    "random_blur": colour.random_blur(2),
    "cutout": mixing.cutout(3),
    "compose": augment.compose(augment.random_flip(), augment.random_crop(1), mixing.cutout(2, probability=0.5)),
}
MIXING = {
    "mixup": mixing.mixup(0.4, classes=10),
    "cutmix": mixing.cutmix(classes=10),
    "compose": augment.compose(augment.random_flip(), mixing.mixup(classes=10), mixing.cutout(2)),
    "with_masks": augment.with_masks(augment.random_rotate(30)),
}
ALL = {**IMAGES, **{f"{name} of labels": a for name, a in MIXING.items()}}


def batch(n=6, height=9, width=7, channels=3, dtype="float32", seed=0):
    x = RNG(seed).random((n, height, width, channels))
    return (x * 255).astype(np.uint8) if dtype == "uint8" else x.astype(dtype)


def labels(name, x):
    return x[..., :1].astype(np.float32) if "masks" in name else np.arange(len(x)) % 10


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_shape_and_dtype_are_kept_and_the_batch_is_left_alone(name, channels, dtype):
    x = batch(channels=channels, dtype=dtype)
    x.flags.writeable = False
    y = labels(name, x)
    y.flags.writeable = False
    out, labelled = augmented(ALL[name], x, RNG(1), y)
    assert out.shape == x.shape and out.dtype == x.dtype and not np.shares_memory(out, x)
    assert len(labelled) == len(y) and np.isfinite(out).all()
    again, labelled_again = augmented(ALL[name], x, RNG(1), y)
    np.testing.assert_array_equal(out, again)
    np.testing.assert_array_equal(labelled, labelled_again)
    other, _ = augmented(ALL[name], x, RNG(2), y)
    assert not np.array_equal(out, other)
    nothing, _ = augmented(ALL[name], x[:0], RNG(1), y[:0])
    assert nothing.shape == (0, *x.shape[1:])


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize(
    "same",
    [
        augment.random_flip(0),
        augment.random_shift(0),
        augment.random_crop(0),
        augment.random_affine(),
        augment.random_rotate(0),
        augment.random_scale(1, 1),
        augment.random_shear(0),
        colour.color_jitter(),
        colour.random_noise(0),
        colour.random_blur(0),
        mixing.cutout(3, probability=0),
        augment.compose(),
        augment.compose(augment.random_flip(0), colour.color_jitter()),
    ],
)
def test_without_any_change_the_images_are_the_same(same, dtype):
    x = batch(dtype=dtype)
    np.testing.assert_array_equal(same(x, RNG(0)), x)


# ---- where the pixels lie -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("turns", [-3, -2, -1, 0, 1, 2, 3, 4])
def test_a_quarter_turn_is_that_of_numpy(turns, dtype):
    x = batch(height=8, width=8, dtype=dtype)
    out = affine(x, rotate=90.0 * turns)
    np.testing.assert_allclose(out, np.rot90(x, turns, (1, 2)), atol=1e-6)


def test_a_turn_of_oblong_images_is_about_the_centre():
    x = batch(height=5, width=9)
    turned = affine(x, rotate=90)
    np.testing.assert_allclose(turned[:, :, 2:7], np.rot90(x[:, :, 2:7], 1, (1, 2)), atol=1e-6)
    assert not turned[:, :, :2].any() and not turned[:, :, 7:].any()
    np.testing.assert_allclose(affine(x, rotate=180), x[:, ::-1, ::-1], atol=1e-6)


@given(down=st.integers(-10, 10), right=st.integers(-10, 10))
def test_a_shift_is_a_roll_with_zeros(down, right):
    x = batch()
    rolled = np.roll(x, (down, right), (1, 2))
    rows, cols = (np.arange(size) for size in x.shape[1:3])
    inside = (
        ((rows - down >= 0) & (rows - down < len(rows)))[:, None] & (cols - right >= 0) & (cols - right < len(cols))
    )
    np.testing.assert_array_equal(affine(x, shift=(down, right)), np.where(inside[..., None], rolled, 0))


def test_a_shift_by_half_a_pixel_is_the_mean_of_two():
    x = batch()
    moved = affine(x, shift=(0, 0.5))
    np.testing.assert_allclose(moved[:, :, 1:], (x[:, :, 1:] + x[:, :, :-1]) / 2, rtol=1e-6)
    np.testing.assert_allclose(moved[:, :, 0], x[:, :, 0] / 2, rtol=1e-6)


def test_enlarging_and_slanting_follow_their_formulas():
    rows, cols = np.meshgrid(np.arange(11.0) - 5, np.arange(11.0) - 5, indexing="ij")
    ramps = np.stack([rows, cols], -1)[None]  # bilinear resampling is exact for what is linear
    inner = (0, slice(3, 8), slice(3, 8))
    np.testing.assert_allclose(affine(ramps, scale=2)[inner], ramps[inner] / 2, atol=1e-9)
    slanted = affine(ramps, shear=30)[inner]
    np.testing.assert_allclose(slanted[..., 0], rows[3:8, 3:8], atol=1e-9)
    np.testing.assert_allclose(slanted[..., 1], (cols + np.tan(np.radians(30)) * rows)[3:8, 3:8], atol=1e-9)
    at_once = affine(ramps, rotate=25, scale=1.2, shear=10)[inner]
    in_turn = affine(affine(affine(ramps, shear=10), scale=1.2), rotate=25)[inner]
    np.testing.assert_allclose(at_once, in_turn, atol=1e-9)


def test_each_image_has_its_own_numbers():
    x = batch(4)
    angles, factors = np.array([0, 10, 20, 30]), np.array([1, 1.5, 1, 0.5])
    moved = affine(x, rotate=angles, scale=factors, shift=np.arange(8).reshape(4, 2))
    for i in range(4):
        alone = affine(x[i : i + 1], rotate=angles[i], scale=factors[i], shift=(2 * i, 2 * i + 1))
        np.testing.assert_array_equal(moved[i : i + 1], alone)


def test_the_draws_stay_within_their_limits():
    dot = np.zeros((400, 21, 21, 1))
    dot[:, 10, 15] = 1
    rows, cols = np.indices((21, 21)) - 10.0
    x = augment.random_rotate(30)(dot, RNG(0))[..., 0]
    angles = np.degrees(np.arctan2(-(x * rows).sum((1, 2)), (x * cols).sum((1, 2))))
    assert np.abs(angles).max() < 31 and angles.min() < -25 and angles.max() > 25


def test_a_vertical_flip_is_upside_down():
    x = batch()
    np.testing.assert_array_equal(augment.random_flip(1, vertical=True)(x, RNG(0)), x[:, ::-1])


def test_masks_move_as_their_images():
    x = batch(8)
    for move in IMAGES["random_affine"], IMAGES["random_crop"], IMAGES["random_flip"]:
        moved, mask = augment.with_masks(move)(x, RNG(0), x[..., :2].copy())
        np.testing.assert_array_equal(moved[..., :2], mask)
        assert not np.array_equal(moved, x)


# ---- colours --------------------------------------------------------------------------------------------------


def recolored(x, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0):
    return colour.recolor(x, np.tile([brightness, contrast, saturation], (len(x), 1)), np.full(len(x), hue))


def test_brightness_contrast_and_saturation_are_blends():
    x = batch(dtype="float64") * 0.4 + 0.3
    grey = (x @ colour.LUMA)[..., None]
    mean = grey.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(recolored(x, brightness=0.5), x / 2)
    np.testing.assert_allclose(recolored(x, contrast=1.2), 1.2 * x - 0.2 * mean)
    np.testing.assert_allclose(recolored(x, saturation=1.3), 1.3 * x - 0.3 * grey)
    np.testing.assert_allclose(recolored(x, contrast=0), np.broadcast_to(mean, x.shape))
    np.testing.assert_allclose(recolored(x, saturation=0), np.broadcast_to(grey, x.shape))
    in_turn = recolored(recolored(recolored(recolored(x, 0.9), saturation=0.7), hue=0.05), contrast=0.8)
    np.testing.assert_allclose(
        recolored(x, 0.9, 0.8, 0.7, 0.05).mean((1, 2)) @ [1, 1, 1], in_turn.mean((1, 2)) @ [1, 1, 1], atol=0.05
    )


def test_a_third_of_the_hues_circle_makes_red_green():
    x = batch(dtype="float64")
    np.testing.assert_allclose(recolored(x, hue=1 / 3), x[..., [2, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(recolored(x, hue=-1 / 3), x[..., [1, 2, 0]], atol=1e-12)
    np.testing.assert_allclose(recolored(x, hue=1), x, atol=1e-12)
    grey = np.repeat(x[..., :1], 3, -1)
    np.testing.assert_allclose(recolored(grey, hue=0.2), grey, atol=1e-12)


def test_colours_stay_in_their_range():
    for dtype, top in (("float32", 1), ("uint8", 255)):
        out = colour.color_jitter(brightness=2, contrast=2)(batch(50, dtype=dtype), RNG(0))
        assert out.min() == 0 and out.max() == top


def test_bytes_change_as_floats_do():
    x = batch(dtype="uint8")
    for name in ("color_jitter", "random_blur", "random_affine", "random_noise"):
        out = IMAGES[name](x, RNG(3))
        floats = np.clip(IMAGES[name](x.astype(np.float64) / 255, RNG(3)) * 255, 0, 255)
        assert np.abs(out - floats).max() <= 0.5001, name


def test_noise_has_its_spread_and_blur_keeps_what_is_even():
    x = np.full((10, 32, 32, 3), 0.5, np.float32)
    noise = colour.random_noise(0.1)(x, RNG(0)) - 0.5
    assert abs(noise.mean()) < 0.002 and abs(noise.std() - 0.1) < 0.002
    np.testing.assert_allclose(colour.random_blur(3)(x, RNG(0)), x, rtol=1e-5)
    dot = np.zeros((1, 31, 31, 1))
    dot[0, 15, 15] = 1
    blurred = colour.blur(dot, np.array([2.0]))[0, ..., 0]
    rows = np.arange(31) - 15
    np.testing.assert_allclose(blurred.sum(), 1, atol=1e-5)
    np.testing.assert_allclose((blurred.sum(1) * rows**2).sum(), 4, rtol=1e-3)
    np.testing.assert_allclose(blurred, blurred.T, atol=1e-12)


# ---- mixing ---------------------------------------------------------------------------------------------------


def test_cutout_takes_squares_out_that_may_lie_half_outside():
    x = np.ones((2000, 9, 9, 2), np.float32)
    out = mixing.cutout(4)(x, RNG(0))
    gone = (out == 0).all(-1)
    np.testing.assert_array_equal(gone, (out == 0).any(-1))
    sizes = set(gone.sum((1, 2)).tolist())
    assert max(sizes) == 16 and min(sizes) == 4  # two rows or columns stay inside at a corner
    assert gone.any(0).all()
    half = (mixing.cutout(4, probability=0.5)(x, RNG(0)) == 0).any((1, 2, 3)).mean()
    assert abs(half - 0.5) < 0.05


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_labels_follow_the_images(name, dtype):
    n, shape = 200, (8, 10, 1)
    x = np.broadcast_to(np.arange(n, dtype=dtype)[:, None, None, None], (n, *shape))  # image i holds the number i
    out, y = getattr(mixing, name)(1.0, classes=n)(x, RNG(0), np.arange(n))
    assert y.shape == (n, n) and y.dtype == np.float32
    np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(out.mean((1, 2, 3)), y @ np.arange(n), rtol=1e-4, atol=1e-3)
    assert ((y > 0).sum(1) <= 2).all() and ((y > 0).sum(1) == 2).mean() > 0.8
    whole, _ = getattr(mixing, name)(1e-3, classes=n)(x, RNG(0), np.arange(n))
    assert np.isin(np.round(whole, 3), np.arange(n)).mean() > 0.95  # shares near 0 or 1


def test_mixing_takes_probabilities_and_targets_too():
    x, targets = batch(), RNG(0).random((6, 4))
    _, y = mixing.mixup()(x, RNG(1), targets)
    assert y.shape == targets.shape and y.dtype == targets.dtype and not np.array_equal(y, targets)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: augment.random_flip(-1), "random_flip: probability"),
        (lambda: augment.random_affine(rotate=-1), "random_affine"),
        (lambda: augment.random_scale(0, 1), "random_affine"),
        (lambda: augment.random_shear(90), "random_affine"),
        (lambda: augment.random_rotate(float("nan")), "random_affine"),
        (lambda: colour.color_jitter(hue=0.6), "color_jitter"),
        (lambda: colour.color_jitter(contrast=-1), "color_jitter"),
        (lambda: colour.random_noise(-1), "random_noise"),
        (lambda: colour.random_blur(float("inf")), "random_blur"),
        (lambda: mixing.cutout(0), "cutout"),
        (lambda: mixing.mixup(classes="10"), "mixup: classes='10' must be an int"),
        (lambda: augment.random_affine(scale=0.1), "scale=0.1 must be a pair"),
        (lambda: colour.color_jitter()(batch() * 2 - 1, RNG(0)), r"color_jitter: x lies in .*nn.Normalize.fit"),
        (lambda: colour.color_jitter(hue=0.1)(batch() * 255, RNG(0)), r"not in \[0, 1\]; divide by 255"),
        (lambda: colour.color_jitter()(batch() * np.nan, RNG(0)), r"not in \[0, 1\]"),
        (lambda: mixing.mixup(0), "mixup: alpha"),
        (lambda: mixing.cutmix(-1), "cutmix: alpha"),
        (lambda: mixing.mixup()(batch(), RNG(0), np.arange(6)), r"mixup\(classes=10\)"),
        (lambda: mixing.cutmix(classes=3)(batch(), RNG(0), np.arange(6)), "labels from 0 to 5 are not from 0 to 2"),
        (lambda: mixing.mixup()(batch(), RNG(0), np.array(list("abcdef"))), "cannot be mixed"),
        (lambda: colour.color_jitter(hue=0.1)(batch(channels=2), RNG(0)), r"\(N, H, W, 3\)"),
        *(
            (lambda a=a: augmented(a, np.zeros((3, 4)), RNG(0), np.zeros((3, 4))), r"\(N, H, W, C\)")
            for name, a in ALL.items()
            if name not in ("random_noise", "mixup of labels")
        ),
    ],
)
def test_mistakes_are_explained(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            lambda: augment.compose([augment.random_flip()]),
            r"compose: augment must be one function, got a list.*compose",
        ),
        (lambda: Loader(batch(), np.arange(6), augment=[1]), "Loader: augment must be one function, got a list"),
        (lambda: Loader(batch(), np.arange(6), augment=augment.random_flip), r"call it: random_flip\(…\)"),
        (lambda: augment.compose(mixing.mixup), r"call it: mixup\(…\)"),
        (lambda: augment.with_masks(3), r"with_masks: augment must be a function \(x, rng\) -> x, got 3$"),
        (lambda: augment.with_masks(mixing.mixup()), "changes labels itself"),
        (lambda: colour.color_jitter(brightness=(0.5, 1.5)), r"brightness=\(0.5, 1.5\) must be a number"),
        (lambda: augment.random_rotate((-10, 10)), r"rotate=\(-10, 10\) must be a number"),
        (lambda: colour.random_blur((0.1, 2)), r"random_blur: sigma=\(0.1, 2\) must be a number"),
        (lambda: colour.random_noise("a"), "random_noise: std='a' must be a number"),
        (lambda: augment.random_flip([0.5]), r"random_flip: probability=\[0.5\] must be a number"),
        (lambda: mixing.cutmix((1, 1)), r"cutmix: alpha=\(1, 1\) must be a number"),
    ],
)
def test_what_is_no_augmentation_and_no_number_is_named(wrong, message):
    with pytest.raises(TypeError, match=message):
        wrong()


# ---- masks ------------------------------------------------------------------------------------------------------


MOVES = [name for name in IMAGES if name not in ("color_jitter", "random_noise", "random_blur", "compose")]


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_masks_move_with_their_images_and_stay_classes(name, dtype):
    truth = RNG(0).integers(0, 2 if dtype == "bool" else 3, (20, 9, 7)).astype(dtype)
    images = (truth[..., None] == np.unique(truth)).astype(np.float32)  # a channel for each class
    moves = augment.compose(colour.random_noise(0.01), IMAGES[name], colour.random_blur(0.01))
    for masks in (truth, truth[..., None]):
        x, y = augment.with_masks(moves)(images, RNG(3), masks)
        assert y.shape == masks.shape and y.dtype == masks.dtype and set(np.unique(y)) <= set(np.unique(truth))
        shares = np.concatenate([1 - x[..., 1:].sum(-1, keepdims=True), x[..., 1:]], -1)  # what comes in is class 0
        sure = np.sort(shares, -1)[..., -1] - np.sort(shares, -1)[..., -2] > 0.2
        np.testing.assert_array_equal(y.reshape(truth.shape)[sure], np.unique(truth)[shares.argmax(-1)][sure])
        assert sure.mean() > 0.5


@pytest.mark.parametrize(
    "colours", [colour.color_jitter(brightness=0.5), colour.random_noise(0.1), colour.random_blur(2)]
)
def test_colours_leave_masks_alone(colours):
    x, masks = batch(), RNG(0).random((6, 9, 7, 2))
    for mixed in (colours, augment.compose(colours, colours)):
        changed, y = augment.with_masks(mixed)(x, RNG(0), masks)
        assert not np.array_equal(changed, x)
        np.testing.assert_array_equal(y, masks)


def test_a_pair_augmentation_of_ones_own():
    swap = WithLabels(lambda x, rng, y: (x[::-1], y[::-1]))
    x, y = batch(4), np.arange(4)
    ((a, b),) = Loader(x, y, shuffle=False, augment=augment.compose(swap, augment.random_flip(0)))
    np.testing.assert_array_equal(a, x[::-1])
    np.testing.assert_array_equal(b, y[::-1])
