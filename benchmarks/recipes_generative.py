"""Recipes of trained.py whose outputs are images: a GAN, an autoencoder, a segmentation. Each leaves a picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import tinynet as tn
from tinynet import ops, optim
from tinynet.optim import schedules


def grid(images: np.ndarray, across: int) -> np.ndarray:
    """Images (N, H, W, 1) side by side, `across` in a row: (rows · H, across · W, 1)."""
    n, height, width, _ = images.shape
    rows = images[: n // across * across].reshape(-1, across, height, width)
    return rows.transpose(0, 2, 1, 3).reshape(-1, across * width, 1)


def outputs(model: tn.nn.Module, x: np.ndarray) -> np.ndarray:
    """What the model makes of x, batch by batch."""
    return np.concatenate([out.numpy() for out, _ in tn.training.outputs(model, (x, np.zeros(len(x), int)))])


def dcgan(seed: int, workers: Any, folder: Path, *, epochs: int = 8, batch: int = 64) -> dict:
    """Both are told the class, as in the authors' code for MNIST (Mirza & Osindero 2014): ten numbers more beside the
    noise, ten planes more beside the image. They train in turn (Goodfellow 2014), from the middle on at falling rates;
    the generator that draws has the average of the steps' weights (Yazıcı 2019). How many of 1,000 samples a classifier
    is sure of, of how many it says the class that was asked for, and, to compare, of how many of the test set's images
    it is sure."""
    (x, y), (held_out, _) = tn.data.mnist()
    (generator, _), (_, discriminator) = tn.models.dcgan(100 + 10, width=32), tn.models.dcgan(width=32, channels=1 + 10)
    rule: dict[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999)}
    draws, judges = optim.Adam(generator.parameters(), **rule), optim.Adam(discriminator.parameters(), **rule)
    average = optim.EMA(generator, 0.999)
    rng, curve, began = np.random.default_rng(seed), [], time.perf_counter()
    one_hot = np.eye(10, dtype=np.float32)[:, None, None]

    def noise(n: int) -> tuple[np.ndarray, np.ndarray]:
        """What the generator gets, and the classes in it."""
        labels = rng.integers(0, 10, n)
        return np.concatenate([rng.standard_normal((n, 1, 1, 100), np.float32), one_hot[labels]], -1), labels

    def loss(images: Any, labels: np.ndarray, real: float) -> tn.Tensor:
        planes = tn.tensor(np.broadcast_to(one_hot[labels], (len(labels), 28, 28, 10)))
        logits = discriminator(ops.concatenate([images, planes], -1))
        return ops.binary_cross_entropy_with_logits(logits, np.full(logits.shape, real, np.float32))

    for epoch in range(epochs):
        sums = np.zeros(2)
        loader = tn.data.Loader(2 * x - 1, y, batch_size=batch, seed=seed, drop_last=True)
        for step, (data, labels) in enumerate(loader.iterate(epoch)):
            draws.lr = judges.lr = rule["lr"] * min(1, 2 - 2 * (epoch + step / len(loader)) / epochs)
            given, wanted = noise(batch)
            drawn = generator(given)
            judges.zero_grad()
            # real ones a little less sure: Salimans 2016
            judged = loss(tn.tensor(data), labels, 0.9) + loss(drawn.detach(), wanted, 0.0)
            judged.backward()
            judges.step(judged)
            draws.zero_grad()
            fooled = loss(drawn, wanted, 1.0)
            fooled.backward()
            draws.step(fooled)
            average.update()
            sums += judged.item(), fooled.item()
        curve.append(dict(zip(("discriminator", "generator"), (sums / len(loader)).round(4).tolist(), strict=True)))
        print(f"dcgan, epoch {epoch + 1}: {curve[-1]}, {time.perf_counter() - began:.0f} s", flush=True)
    seconds = time.perf_counter() - began

    optim.update_statistics(average.apply(), [noise(batch)[0] for _ in range(100)])
    given, wanted = noise(1000)
    samples = (outputs(generator, given) + 1) / 2
    folder.mkdir(parents=True, exist_ok=True)
    tn.data.write_png(folder / "dcgan.png", grid(samples[:64], 8))
    judge = tn.models.mnist_cnn()
    tn.fit(judge, (x, y), epochs=8, workers=workers, schedule=schedules.one_cycle(total=8 * -(-len(x) // 64)))
    probabilities = tn.predict(judge, samples)
    sure, said = probabilities.max(1) > 0.9, probabilities.argmax(1)
    return {
        "figure": float(sure.mean()),
        "of each class": np.bincount(said[sure], minlength=10).tolist(),
        "as asked for": float((said == wanted).mean()),
        "of the test set": float((tn.predict(judge, held_out).max(1) > 0.9).mean()),
        "seconds": seconds,
        "curve": curve,
    }


def autoencoder(seed: int, workers: Any, folder: Path) -> dict:
    """784 pixels by way of 32 numbers; the mean squared error of a test image's pixel."""
    (x, _), (held_out, _) = tn.data.mnist()
    model = tn.models.autoencoder()
    loss = ops.binary_cross_entropy_with_logits
    history = tn.fit(model, (x, x), epochs=5, loss=loss, metrics=[], lr=2e-3, workers=workers)
    again = 1 / (1 + np.exp(-outputs(model, held_out)))
    folder.mkdir(parents=True, exist_ok=True)
    pairs = np.concatenate([np.stack([held_out[i : i + 8], again[i : i + 8]]) for i in range(0, 32, 8)])
    tn.data.write_png(folder / "autoencoder.png", grid(pairs.reshape(-1, 28, 28, 1), 8))
    rows = [{"loss": round(row["loss"], 5)} for row in history]
    return {
        "figure": float(np.square(again - held_out).mean()),
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "curve": rows,
    }


def shapes(n: int, seed: int, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Discs and rectangles, brighter than the noise around by a little, and which pixels are theirs."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:side, :side]
    masks = np.zeros((n, side, side), np.int64)
    for mask in masks:
        for _ in range(rng.integers(1, 4)):
            y, x, a, b = *rng.uniform(8, side - 8, 2), *rng.uniform(4, 12, 2)
            round_one = ((down - y) / a) ** 2 + ((across - x) / b) ** 2 < 1
            square = (abs(down - y) < a) & (abs(across - x) < b)
            mask[round_one if rng.random() < 0.5 else square] = 1
    x = 0.3 + 0.3 * masks + 0.15 * rng.standard_normal(masks.shape)
    return x[..., None].astype(np.float32), masks


def unet(seed: int, workers: Any, folder: Path) -> dict:
    """Intersection over union of the shapes' pixels, over 200 pictures."""
    x, masks = shapes(2000, seed)
    held_out, truth = shapes(200, 10_000 + seed)
    model = tn.models.unet(2, width=8, depth=3, input_shape=(64, 64, 1))
    history = tn.fit(model, (x, masks), epochs=4, batch_size=16, lr=2e-3, workers=workers)
    found = outputs(model, held_out).argmax(-1)
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.concatenate([held_out[:8, ..., 0], truth[:8], found[:8]])[..., None]
    tn.data.write_png(folder / "unet.png", grid(np.clip(rows, 0, 1).astype(np.float32), 8))
    return {
        "figure": float((found & truth).sum() / (found | truth).sum()),
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "curve": [{"loss": round(row["loss"], 5)} for row in history],
    }
