"""Data: digits that need no download, published datasets, folders of one's own, batches, augmentation."""

from .augment import compose, random_crop, random_flip, random_shift
from .datasets import Dataset, cifar10, fashion_mnist, load_dir, look_at_dir, mnist
from .digits import synthetic_digits
from .files import DataError, read_cifar10, read_idx
from .images import read_image, read_page, write_png
from .ink import Drawing, find_drawing
from .loader import Loader
from .parts import k_fold, split

__all__ = [
    "DataError",
    "Dataset",
    "Drawing",
    "Loader",
    "cifar10",
    "compose",
    "fashion_mnist",
    "find_drawing",
    "k_fold",
    "load_dir",
    "look_at_dir",
    "mnist",
    "random_crop",
    "random_flip",
    "random_shift",
    "read_cifar10",
    "read_idx",
    "read_image",
    "read_page",
    "split",
    "synthetic_digits",
    "write_png",
]
