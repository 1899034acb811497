"""Data: digits that need no download, published datasets, folders of one's own, text, batches, augmentation."""

from . import text
from .augment import (
    WithLabels,
    affine,
    augmented,
    compose,
    random_affine,
    random_crop,
    random_flip,
    random_rotate,
    random_scale,
    random_shear,
    random_shift,
    with_masks,
)
from .colour import color_jitter, random_blur, random_noise
from .datasets import Dataset, cifar10, fashion_mnist, load_dir, look_at_dir, mnist
from .digits import synthetic_digits
from .files import DataError, read_cifar10, read_idx
from .images import read_image, read_page, write_png
from .ink import Drawing, find_drawing
from .loader import Loader
from .mixing import cutmix, cutout, mixup
from .parts import k_fold, split

__all__ = [
    "DataError",
    "Dataset",
    "Drawing",
    "Loader",
    "WithLabels",
    "affine",
    "augmented",
    "cifar10",
    "color_jitter",
    "compose",
    "cutmix",
    "cutout",
    "fashion_mnist",
    "find_drawing",
    "k_fold",
    "load_dir",
    "look_at_dir",
    "mixup",
    "mnist",
    "random_affine",
    "random_blur",
    "random_crop",
    "random_flip",
    "random_noise",
    "random_rotate",
    "random_scale",
    "random_shear",
    "random_shift",
    "read_cifar10",
    "read_idx",
    "read_image",
    "read_page",
    "split",
    "synthetic_digits",
    "text",
    "with_masks",
    "write_png",
]
