"""Random changes to the colours and the sharpness of a batch of images; see `augment`.

Values are from 0 (black) to 1 in floats, from 0 to 255 in uint8.
"""

from __future__ import annotations

import numpy as np

from .augment import Array, Colours, as_dtype, as_floats, images, numbers

LUMA = np.array([0.299, 0.587, 0.114])  # the share of red, green and blue in brightness (ITU-R BT.601)


def color_jitter(
    *, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
) -> Colours:
    """Change each image's brightness, contrast, saturation and hue; values stay from 0 to 1, or to 255 in uint8.

    Args: for each of the first three, the factor is drawn from max(0, 1 - value) to 1 + value; 0 of brightness is
        black, of contrast the image's mean grey, of saturation its greys. hue: the largest turn of the colours' circle,
        either way, as a share of the whole (0 to 0.5).
    All of it is one affine map of the colours, by a 3 x 3 matrix an image (Haeberli 1993, "Matrix operations for image
    processing"). Grey images, C = 1, have brightness and contrast only.
    """
    numbers("color_jitter", brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    spread = np.array([brightness, contrast, saturation])
    if not (np.all((spread >= 0) & (spread < np.inf)) and 0 <= hue <= 0.5):
        raise ValueError(
            f"color_jitter: wants 0 or more, and a hue from 0 to 0.5, got brightness={brightness}, "
            f"contrast={contrast}, saturation={saturation}, hue={hue}"
        )
    low, high = np.maximum(0, 1 - spread), 1 + spread

    def jitter(x: Array, rng: np.random.Generator) -> Array:
        factors = rng.uniform(low, high, (len(x), 3))
        return recolor(x, factors, rng.uniform(-hue, hue, len(x)))

    return Colours(jitter)


def recolor(x: Array, factors: Array, hue: Array) -> Array:
    """Images x (N, H, W, C) with the factors (N, 3) of brightness, contrast and saturation, and the turns (N,) of the
    hue, of `color_jitter`. ValueError where floats are not from 0 to 1."""
    brightness, contrast, saturation = factors.T
    n, height, width, channels = images("color_jitter", x).shape
    if channels not in (1, 3):
        raise ValueError(f"color_jitter: wants grey or colour images, (N, H, W, 1) or (N, H, W, 3), got {x.shape}")
    if x.size and x.dtype.kind == "f" and not (x.min() >= -1e-3 and x.max() <= 1.001):
        raise ValueError(
            f"color_jitter: x lies in [{x.min():g}, {x.max():g}], not in [0, 1]; divide by 255, and change colours "
            "before noise is added and before x is normalised, as nn.Normalize.fit(x) does in the model's first layer"
        )
    luma, m = np.ones(1), np.ones((n, 1, 1))
    if channels == 3:
        luma, keep = LUMA, saturation[:, None, None]
        m = (np.eye(3) * keep + LUMA[:, None] * (1 - keep)) @ _turn(hue)
    colours = as_floats(x).reshape(n, height * width, channels)
    kind = colours.dtype
    grey = colours.mean(1) @ luma * brightness  # the mean, after the change of brightness
    y = colours @ (m * (brightness * contrast)[:, None, None]).astype(kind)
    y += ((1 - contrast) * grey)[:, None, None].astype(kind)
    return as_dtype(np.clip(y, 0, 1 if x.dtype.kind == "f" else 255, out=y), x.dtype).reshape(x.shape)


def _turn(hue: Array) -> Array:
    """(N, 3, 3): the turn of (red, green, blue) about the grey line, by Rodrigues' formula: a third makes red green."""
    angle = 2 * np.pi * hue[:, None, None]
    around = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]]) / np.sqrt(3)
    return np.cos(angle) * np.eye(3) + np.sin(angle) * around + (1 - np.cos(angle)) / 3


def random_noise(std: float) -> Colours:
    """Add normal noise; `std` is a share of the range of values, 1 or 255. Floats may leave the range."""
    numbers("random_noise", std=std)
    if not 0 <= std < np.inf:
        raise ValueError(f"random_noise: std={std} must be 0 or more")

    def noise(x: Array, rng: np.random.Generator) -> Array:
        drawn = rng.standard_normal(x.shape, np.float32)
        drawn *= std if x.dtype.kind == "f" else 255 * std
        return as_dtype(as_floats(x) + drawn.astype(as_floats(x[:0]).dtype, copy=False), x.dtype)

    return Colours(noise)


def random_blur(sigma: float) -> Colours:
    """Blur each image by a Gaussian whose standard deviation, in pixels, is drawn from 0 to `sigma`."""
    numbers("random_blur", sigma=sigma)
    if not 0 <= sigma < np.inf:
        raise ValueError(f"random_blur: sigma={sigma} must be 0 or more")
    return Colours(lambda x, rng: blur(x, rng.uniform(0, sigma, len(x))))


def blur(x: Array, sigma: Array) -> Array:
    """Images x (N, H, W, C) blurred by Gaussians of sigma (N,) pixels; at the edges, over the pixels that there are."""
    n, height, width, channels = images("random_blur", x).shape
    floats = as_floats(x)
    down, across = (_gaussian(size, sigma).astype(floats.dtype) for size in (height, width))
    y = (down @ floats.reshape(n, height, width * channels)).reshape(n, height, width, channels)
    return as_dtype(across[:, None] @ y, x.dtype)


def _gaussian(size: int, sigma: Array) -> Array:
    """(N, size, size): row i holds the weights of all pixels of a line in pixel i of the blurred line."""
    away = np.subtract.outer(np.arange(size), np.arange(size)) ** 2
    weights = np.exp(-away / (2 * np.maximum(sigma, 1e-3)[:, None, None] ** 2))
    return weights / weights.sum(-1, keepdims=True)
