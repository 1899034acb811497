"""DCGAN: a network that draws, against one that tells drawings from data (Radford, Metz & Chintala 2016)."""

from __future__ import annotations

from ..nn import BatchNorm, Conv2d, ConvTranspose2d, Dense, Flatten, LeakyReLU, ReLU, Sequential
from .parts import normal


def dcgan(latent: int = 100, *, width: int = 64, channels: int = 1) -> tuple[Sequential, Sequential]:
    """(generator, discriminator) of images 28×28×channels, a dense layer in each, as in the authors' code for MNIST.

    The generator makes noise (N, 1, 1, latent) into images in (-1, 1): 6,659,457 parameters, 13,148,160 multiply-adds.
    The discriminator makes images into logits (N, 1), of being data: 6,558,017 parameters, 13,046,784 multiply-adds.
    Weights are drawn from N(0, 0.02²), those of batch normalisation from N(1, 0.02²).
    Args: width: the channels of the layers next to the image; the dense layers have 16 times as many features.
    """
    generator = Sequential(
        ConvTranspose2d(16 * width, 1, bias=False),
        BatchNorm(),
        ReLU(),
        ConvTranspose2d(2 * width, 7, bias=False),
        BatchNorm(),
        ReLU(),
        ConvTranspose2d(width, 4, stride=2, padding=1, bias=False),
        BatchNorm(),
        ReLU(),
        ConvTranspose2d(channels, 4, stride=2, padding=1, activation="tanh"),
        input_shape=(1, 1, latent),
    )
    discriminator = Sequential(
        Conv2d(width, 4, stride=2, padding=1),
        LeakyReLU(0.2),
        Conv2d(2 * width, 4, stride=2, padding=1, bias=False),
        BatchNorm(),
        LeakyReLU(0.2),
        Flatten(),
        Dense(16 * width, bias=False),
        BatchNorm(),
        LeakyReLU(0.2),
        Dense(1),
        input_shape=(28, 28, channels),
    )
    for name, p in (*generator.named_parameters(), *discriminator.named_parameters()):
        if name.endswith("weight"):
            normal(p, 0.02, mean=1.0 if p.ndim == 1 else 0.0)
    return generator, discriminator
