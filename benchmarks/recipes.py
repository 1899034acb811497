"""The recipes of trained.py: a network, its data, how it is trained, and the figure that is measured at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import recipes_generative

import tinynet as tn
from tinynet import nn, optim
from tinynet.data import text
from tinynet.optim import schedules


@dataclass(frozen=True)
class Recipe:
    """What it trains, what is asked of it, the function (seed, workers, folder) -> figures, how a figure is shown."""

    what: str
    asked: str
    run: Callable[[int, Any, Path], dict]
    show: Callable[[float], str] = "{:.2%}".format


def kept(history: list[dict]) -> dict:
    """The curve, and the seconds of training."""
    names = ("loss", "accuracy", "val_loss", "val_accuracy", "lr")
    rows = [{k: round(row[k], 5) for k in names if row.get(k) is not None} for row in history]
    return {"seconds": round(sum(row["seconds"] for row in history), 1), "curve": rows}


# ---- classifiers ------------------------------------------------------------------------------------------------


def classify(
    model: nn.Module, train: Any, test: Any, *, epochs: int, workers: Any, batch_size: int = 64, **settings: Any
) -> dict:
    """Train on all of the training set, under one cycle of the rate unless there is another schedule; the test set is
    looked at once, at the end."""
    steps = epochs * -(-len(train[0]) // batch_size)
    settings.setdefault("schedule", schedules.one_cycle(total=steps))
    history = tn.fit(model, train, epochs=epochs, batch_size=batch_size, workers=workers, **settings)
    return {"figure": tn.evaluate(model, test)["accuracy"], "epochs": epochs, **kept(history)}


def cifar_cnn(seed: int, workers: Any, folder: Path) -> dict:
    train, test = tn.data.cifar10()
    flip = tn.data.random_flip()
    return classify(tn.models.cifar_cnn(), train, test, epochs=10, batch_size=32, workers=workers, augment=flip)


SGD = {"lr": 0.08, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}  # PyTorch's names are the same
SMOOTHING = 0.1  # of labels


def resnet20(seed: int, workers: Any, folder: Path, *, samples: int = 50_000, epochs: int = 15) -> dict:
    """Shift and flip, SGD with momentum, one cycle of the rate, softened labels. The figure is that of the mean of what
    it says of ten views of an image."""
    (x, y), test = tn.data.cifar10()
    x, y = x[:samples], y[:samples]
    model = nn.Sequential(nn.Normalize.fit(x), tn.models.resnet20(), input_shape=x.shape[1:])
    made = classify(
        model,
        (x, y),
        test,
        epochs=epochs,
        workers=workers,
        augment=shift_and_flip(),
        loss=partial(tn.ops.softmax_cross_entropy, label_smoothing=SMOOTHING),
        optimizer=optim.SGD(model.parameters(), **SGD),
        schedule=cycle(epochs * -(-len(x) // 64)),
    )
    return made | views(partial(tn.predict, model), *test, SIDES)


def shift_and_flip() -> Any:
    """What is shifted in mirrors the edge: a black border, which no test image has, would spoil the statistics of batch
    normalisation."""
    return tn.data.compose(tn.data.random_crop(2), tn.data.random_flip())


def cycle(steps: int) -> Callable[[int], float]:
    """One cycle of the rate, up for a fifth of the steps."""
    return schedules.one_cycle(total=steps, rise=0.2)


SIDES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))  # pixels down and to the right: ten views with the mirror images


def views(predict: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray, shifts: Any = SIDES[:1]) -> dict:
    """The accuracy of the mean of what is said of shifted images and of their mirror images, as Krizhevsky et al. 2012,
    §4.1, have it, and that of the images alone, which are the first."""
    padded, (height, width) = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect"), x.shape[1:3]
    seen = []
    for down, right in shifts:
        view = padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        seen += [predict(np.ascontiguousarray(v)) for v in (view, view[:, :, ::-1])]
    figure, alone = (float((p.argmax(1) == y).mean()) for p in (sum(seen), seen[0]))
    return {"figure": figure, "of the images alone": alone}


def small_resnet(width: int) -> nn.Sequential:
    """For 28×28×1: a convolution, then two stages of a pool, a wider convolution and a residual block."""

    def conv(channels: int) -> list:
        return [nn.Conv2d(channels, 3, padding="same", bias=False, kernel_init="he_normal"), nn.BatchNorm()]

    layers: list = [*conv(width), nn.ReLU()]
    for channels in (2 * width, 4 * width):
        body = [*conv(channels), nn.ReLU(), *conv(channels)]
        layers += [nn.MaxPool2d(2), *conv(channels), nn.ReLU(), nn.Residual(*body), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Dense(10))


def mnist(seed: int, workers: Any, folder: Path) -> dict:
    train, test = tn.data.mnist()
    moved = tn.data.random_affine(rotate=10, scale=(0.9, 1.1), shear=10, shift=2)
    return classify(
        small_resnet(16), train, test, epochs=10, workers=workers, augment=moved, optimizer="adamw", lr=4e-3
    )


def fashion(seed: int, workers: Any, folder: Path) -> dict:
    """Trained on images and their mirror images; the figure is that of the mean of what it says of both."""
    train, test = tn.data.fashion_mnist()
    model, flip = small_resnet(24), tn.data.random_flip()
    made = classify(model, train, test, epochs=8, workers=workers, augment=flip, optimizer="adamw", lr=4e-3)
    return made | views(partial(tn.predict, model), *test)


# ---- language ---------------------------------------------------------------------------------------------------


def language(
    model: nn.Module, corpus: text.Corpus, context: int, *, batch: int, steps: int, seed: int, **settings: Any
) -> dict:
    """Train on windows drawn anywhere; the loss over the whole validation text, in windows one after another."""
    rounds = 10
    train = tn.data.Loader(text.Windows(corpus.train, context), batch_size=batch, steps=steps // rounds, seed=seed)
    held_out = tn.data.Loader(text.Windows(corpus.validation, context, stride=context), batch_size=64, shuffle=False)
    history = tn.fit(model, train, epochs=rounds, clip_norm=1.0, metrics=[], **settings)
    figure = tn.evaluate(model, held_out)["loss"]
    return {"figure": figure, "steps": steps, **kept(history)}


def gpt(seed: int, workers: Any, folder: Path, *, steps: int = 2000) -> dict:
    """nanoGPT's setting for a CPU: AdamW, 100 steps of warm-up, half a cosine from 1e-3 to 1e-4, no dropout."""
    corpus = text.tiny_shakespeare()
    model = tn.models.gpt(len(corpus.vocabulary))
    model.build((64,))
    optimizer = optim.AdamW(optim.no_decay(model), 1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = schedules.cosine(total=steps, warmup=100, final=0.1)
    return language(
        model, corpus, 64, batch=12, steps=steps, seed=seed, workers=workers, optimizer=optimizer, schedule=schedule
    )


def char_lstm(seed: int, workers: Any, folder: Path, *, steps: int = 3000) -> dict:
    corpus = text.tiny_shakespeare()
    model = tn.models.char_lstm(len(corpus.vocabulary), 256)
    schedule = schedules.one_cycle(total=steps)
    return language(model, corpus, 100, batch=32, steps=steps, seed=seed, workers=workers, lr=5e-3, schedule=schedule)


def in_torch(name: str, **settings: Any) -> Callable[..., dict]:
    """The recipe of this name in PyTorch."""

    def run(seed: int, workers: Any, folder: Path) -> dict:
        import recipes_torch

        return getattr(recipes_torch, name)(seed, workers, folder, **settings)

    return run


RECIPES = {
    "cifar_cnn": Recipe("`cifar_cnn`, CIFAR-10, 10 epochs", "≥ 69% (mean of three)", cifar_cnn),
    "resnet20": Recipe("`resnet20`, CIFAR-10, 15 epochs", "≥ 87%", resnet20),
    "resnet20_10k": Recipe(
        "`resnet20`, 10,000 images of CIFAR-10, 4 epochs",
        "within 1 point of PyTorch",
        partial(resnet20, samples=10_000, epochs=4),
    ),
    "resnet20_10k_torch": Recipe("the same in PyTorch", "", in_torch("resnet20", samples=10_000, epochs=4)),
    "mnist": Recipe("a small residual network, MNIST", "≥ 99.6% (mean of three), ≤ 15 min", mnist),
    "fashion": Recipe("the same, wider, Fashion-MNIST", "≥ 93.5%, ≤ 15 min", fashion),
    "gpt": Recipe("`gpt`, tiny Shakespeare, 2,000 steps", "validation loss ≤ 1.90", gpt, "{:.3f}".format),
    "gpt_torch": Recipe("the same in PyTorch", "", in_torch("gpt"), "{:.3f}".format),
    "char_lstm": Recipe("`char_lstm`, hidden 256, the same text", "≤ 1.80", char_lstm, "{:.3f}".format),
    "dcgan": Recipe(
        "`dcgan`, MNIST: samples that a classifier is sure of", "≥ 90%, all ten classes", recipes_generative.dcgan
    ),
    "autoencoder": Recipe(
        "`autoencoder`, MNIST: squared error of a pixel", "", recipes_generative.autoencoder, "{:.4f}".format
    ),
    "unet": Recipe("`unet`, drawn shapes: intersection over union", "≥ 0.9", recipes_generative.unet, "{:.3f}".format),
}
