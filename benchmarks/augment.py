"""What augmentation costs: milliseconds of one core for a batch of 32 images of CIFAR-10's size, beside a training step
of `cifar_cnn` on the same batch. The thread of the loader has time for what costs less than the step.

    python benchmarks/augment.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tinynet as tn
from tinynet import data

AUGMENTS = {
    "flip": data.random_flip(),
    "shift": data.random_shift(4),
    "crop": data.random_crop(4),
    "rotate": data.random_rotate(15),
    "scale": data.random_scale(0.9, 1.1),
    "shear": data.random_shear(10),
    "affine": data.random_affine(rotate=15, scale=(0.9, 1.1), shear=10, shift=2),
    "colours": data.color_jitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
    "noise": data.random_noise(0.1),
    "blur": data.random_blur(1),
    "cutout": data.cutout(8),
    "mixup": data.mixup(classes=10),
    "cutmix": data.cutmix(classes=10),
}
AUGMENTS["crop, flip, cutout"] = data.compose(*(AUGMENTS[name] for name in ("crop", "flip", "cutout")))
AUGMENTS["affine, colours, flip, cutout, mixup"] = data.compose(
    *(AUGMENTS[name] for name in ("affine", "colours", "flip", "cutout", "mixup"))
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    x, y = rng.random((32, 32, 32, 3), np.float32), rng.integers(0, 10, 32)
    model = tn.models.cifar_cnn()
    with tn.parallel.trainer(model, tn.optim.Adam(model.parameters()), tn.ops.softmax_cross_entropy, workers=1) as step:
        found = {"a training step of cifar_cnn": milliseconds(lambda: step(x, y).item())}
        for name, augment in AUGMENTS.items():
            found[name] = milliseconds(lambda augment=augment: data.augmented(augment, x, rng, y))
    for name, value in found.items():
        print(f"{name:<40} {value:7.2f} ms")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


def milliseconds(run: Callable[[], object], times: int = 40) -> float:
    """The median of the processor's time, after two runs to warm up."""
    spent = []
    for _ in range(times + 2):
        began = time.process_time()
        run()
        spent.append(time.process_time() - began)
    return 1e3 * float(np.median(spent[2:]))


if __name__ == "__main__":
    main()
