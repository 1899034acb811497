"""The named datasets, and a folder of one's own: where they are, how they are fetched, what they hold."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..folders import cache_folder
from .download import fetch
from .files import CIFAR_RECORD, DataError, PathLike, cifar_records, read_cifar10, read_idx, read_members
from .images import SUFFIXES, look, read_image

Examples = tuple[NDArray[np.float32], NDArray[np.int64]]

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CIFAR_ARCHIVE = "cifar-10-binary.tar.gz"
LEFT_BEHIND = (
    "__macosx",
    "@eadir",
    "@recycle",
    "@tmp",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "lost+found",
    "system volume information",
    "__pycache__",
)  # folders, in lower case
BATCH = 10_000 * CIFAR_RECORD  # bytes of a published batch


class Dataset(tuple[Examples, Examples]):
    """A pair of pairs, `(x_train, y_train), (x_test, y_test) = mnist()`, that also knows its `classes`.

    x is float32 (N, H, W, C) in [0, 1], y int64 (N,); `classes[y[i]]` is the name of what x[i] shows.
    """

    classes: tuple[str, ...]

    def __new__(cls, train: Examples, test: Examples, classes: Iterable[str]) -> Dataset:
        self = super().__new__(cls, (train, test))
        self.classes = tuple(classes)
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (*self, self.classes)

    @property
    def train(self) -> Examples:
        return self[0]

    @property
    def test(self) -> Examples:
        return self[1]


class Source(NamedTuple):
    """A published dataset: addresses of the folders that hold its files, and SHA-256 sums of these."""

    name: str
    urls: tuple[str, ...]
    sums: dict[str, str]  # of a .gz file's content, of an archive itself
    limit: int  # bytes of the largest file, with room to spare


MNIST = Source(
    "mnist",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ),
    {
        "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    20_000_000,
)

FASHION_MNIST = Source(
    "fashion_mnist",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    ),
    {
        "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    60_000_000,
)

CIFAR10 = Source(
    "cifar10",
    ("https://www.cs.toronto.edu/~kriz",),
    {
        CIFAR_ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    },
    200_000_000,
)


def mnist(folder: PathLike | None = None, *, mirror: str | None = None, download: bool = True) -> Dataset:
    """Handwritten digits: 60,000 + 10,000 grey images of 28 x 28.

    Returns `(x_train, y_train), (x_test, y_test)`: x float32 (N, 28, 28, 1) in [0, 1], y int64 (N,).

    The published files are looked for in `folder` where it is given, else in `$TINYNET_DATA/mnist`, in the
    user's cache (`$XDG_CACHE_HOME/tinynet/mnist`, by default `~/.cache/tinynet/mnist`) and in the system's
    `share/datasets/mnist`, as .gz or unpacked. Else they are downloaded into `folder` or the cache, each with
    its SHA-256 sum checked. `mirror` (or `$TINYNET_MIRROR`) is an address to download from in place of the
    publishers': it must hold `mnist/train-images-idx3-ubyte.gz` and so on. `download=False` keeps off the
    network.

    Raises DataError where the files are damaged, or absent and not to be had.
    """
    found = locate(MNIST, holds_idx, folder, mirror, download)
    return _read_idx_folder(found, map(str, range(10)), (28, 28))


def fashion_mnist(folder: PathLike | None = None, *, mirror: str | None = None, download: bool = True) -> Dataset:
    """Zalando's articles of clothing: 60,000 + 10,000 grey images of 28 x 28; all else as `mnist`.

    The places looked in end with `fashion_mnist` or `fashion-mnist` (the Debian package
    `dataset-fashion-mnist` puts it into the system's `share/datasets`).
    """
    found = locate(FASHION_MNIST, holds_idx, folder, mirror, download)
    return _read_idx_folder(found, CLOTHES, (28, 28))


def cifar10(folder: PathLike | None = None, *, mirror: str | None = None, download: bool = True) -> Dataset:
    """Small photographs: 50,000 + 10,000 colour images of 32 x 32.

    x is float32 (N, 32, 32, 3) in [0, 1]; all else as `mnist`.

    The places looked in end with `cifar10`. Read is the binary version: `data_batch_1.bin` to
    `test_batch.bin`, also in a sub-folder `cifar-10-batches-bin`, or the archive `cifar-10-binary.tar.gz`
    (162 MB) as it is.
    """
    return _read_cifar_folder(locate(CIFAR10, holds_cifar, folder, mirror, download))


def load_dir(path: PathLike, *, shape: tuple[int, int, int] | None = None, test_share: float = 0.2) -> Dataset:
    """Read a folder of one's own: `(x_train, y_train), (x_test, y_test)` with `.classes`, as `mnist` gives.

    The folder holds one of:

    - the four IDX files under MNIST's names, .gz or not; classes are then named by their numbers;
    - CIFAR-10's binary files or archive;
    - sub-folders `train` and `test`, each with a sub-folder of pictures a class;
    - a sub-folder of pictures a class, of which the share `test_share`, spread evenly over the sorted names,
      is kept for the test.

    Pictures are read by `read_image` (.npy always, PNG and others with Pillow) and made to fit `shape` = (H,
    W, C), by default that of the first one. Light shapes on black are expected where C = 1; nothing is
    inverted. Hidden files and folders are passed over, and what systems leave behind (`__MACOSX`, `@eaDir` ...).

    Raises DataError where the folder holds none of these, or a file of it is damaged.
    """
    folder = Path(path)
    if not 0 <= test_share < 1:
        raise ValueError(f"load_dir: test_share must be in [0, 1), got {test_share}")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if holds_idx(folder):
        return _read_idx_folder(folder, None)
    if holds_cifar(folder):
        return _read_cifar_folder(folder)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train, test = _pictures(folder / "train"), _pictures(folder / "test")
        if extra := sorted(set(test) - set(train)):
            raise DataError(f"{folder / 'test'}: has classes that train has not: {', '.join(extra)}")
    else:
        pictures = _pictures(folder)
        held_out = {name: _spread(len(files), test_share) for name, files in pictures.items()}
        train = {name: [f for i, f in enumerate(files) if i not in held_out[name]] for name, files in pictures.items()}
        test = {name: [files[i] for i in sorted(held_out[name])] for name, files in pictures.items()}
    classes = sorted(train)
    if shape is None:
        height, width, channels = read_image(next(iter(train[classes[0]]))).shape
        shape = (height, width, channels if channels == 1 else 3)
    return Dataset(_read_pictures(train, classes, shape), _read_pictures(test, classes, shape), classes)


def look_at_dir(path: PathLike, most: int = 24) -> tuple[int, int, bool, int]:
    """What `load_dir` would read from a folder: the pictures' middle height and width, whether any has colours, and how
    many there are. At most `most` pictures are looked at, evenly spread."""
    folder = Path(path)
    if holds_idx(folder) or holds_cifar(folder):
        train, test = load_dir(folder)
        shapes, count = [train[0].shape[1:]], len(train[0]) + len(test[0])
        return (*shapes[0][:2], shapes[0][2] == 3, count)
    apart = (folder / "train").is_dir() and (folder / "test").is_dir()
    places = [folder / "train", folder / "test"] if apart else [folder]
    paths = [path for place in places for files in _pictures(place).values() for path in files]
    images = [look(paths[i]) for i in np.unique(np.linspace(0, len(paths) - 1, most).astype(int))]
    heights, widths, colours = zip(*images, strict=True)
    return int(np.median(heights)), int(np.median(widths)), any(colours), len(paths)


def locate(
    source: Source, holds: Callable[[Path], bool], folder: PathLike | None, mirror: str | None, download: bool
) -> Path:
    """The folder that holds the files of a dataset, downloaded if need be."""
    names = dict.fromkeys((source.name, source.name.replace("_", "-")))
    cache = cache_folder(source.name)  # None for a user without a home
    own = os.environ.get("TINYNET_DATA")
    if folder is not None:
        places = [Path(folder)]
    else:
        given = [place for place in os.environ.get("XDG_DATA_DIRS", "").split(os.pathsep) if place]
        roots = [
            *([Path(own)] if own else []),
            *([cache.parent] if cache else []),
            *(Path(place) / "datasets" for place in given or ("/usr/local/share", "/usr/share")),
        ]
        places = [root / name for root in roots for name in names]
    for place in places:
        with contextlib.suppress(OSError):  # a place that cannot be looked into does not hold it
            if holds(place):
                return place
    goal = places[0] if folder is not None else cache
    by_hand = f"put {', '.join(source.sums)} into {goal or '$TINYNET_DATA/' + source.name}"
    if not download or goal is None:
        raise DataError(
            f"{source.name} is in none of {', '.join(map(str, places))}; {by_hand}, or "
            + ("allow the download" if goal else "name a folder to download into: this user has no home")
        )
    if folder is None and own and not Path(own).is_dir():
        raise DataError(f"{source.name}: TINYNET_DATA={own} is no folder; name the one that holds {source.name}/")
    mirror = mirror or os.environ.get("TINYNET_MIRROR")
    bases = (f"{mirror.rstrip('/')}/{source.name}",) if mirror else source.urls
    try:
        for name, total in source.sums.items():
            if not (goal / name).exists():
                fetch(
                    [f"{base}/{name}" for base in bases],
                    goal / name,
                    total,
                    limit=source.limit,
                    unpack=name != CIFAR_ARCHIVE,
                )
    except (DataError, OSError) as error:
        raise DataError(f"{source.name}: {error}\nTo go on, name a mirror in TINYNET_MIRROR, or {by_hand}") from error
    return goal


def _either(folder: Path, name: str) -> Path | None:
    """The file of this name in a folder, unpacked or .gz; in a folder that this user may not enter there is none."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if os.path.isfile(path)), None)


def holds_idx(folder: Path) -> bool:
    return all(_either(folder, name) for name in IDX_FILES)


def holds_cifar(folder: Path) -> bool:
    return os.path.isfile(folder / CIFAR_ARCHIVE) or _bins(folder) is not None


def _bins(folder: Path) -> list[Path] | None:
    """CIFAR-10's six unpacked files, or None where one lacks."""
    for place in (folder, folder / "cifar-10-batches-bin"):
        paths = [place / name for name in CIFAR_FILES]
        if all(map(os.path.isfile, paths)):
            return paths
    return None


def _read_idx_folder(folder: Path, classes: Iterable[str] | None, size: tuple[int, int] | None = None) -> Dataset:
    """MNIST's four files; `size` is that of the images, where it is known."""
    pairs = []
    for split in (IDX_FILES[:2], IDX_FILES[2:]):
        paths = [_either(folder, name) or folder / name for name in split]
        images, labels = map(read_idx, paths)
        if images.ndim not in (3, 4) or labels.ndim != 1 or len(images) != len(labels):
            raise DataError(
                f"{folder}: {paths[0].name} has the shape {images.shape}, {paths[1].name} "
                f"{labels.shape}; wanted (N, H, W) and (N,)"
            )
        if size and images.shape[1:] != size:
            raise DataError(f"{paths[0]}: holds images of {images.shape[1:]}, not of {size}")
        pairs.append(_pair(images[..., None] if images.ndim == 3 else images, labels))
    count = 1 + max(int(y.max(initial=0)) for _, y in pairs)
    names = tuple(classes or map(str, range(count)))
    if count > len(names):
        raise DataError(f"{folder}: has the label {count - 1}; the highest is {len(names) - 1}")
    return Dataset(pairs[0], pairs[1], names)


def _read_cifar_folder(folder: Path) -> Dataset:
    """CIFAR-10's six files, or its archive."""
    if paths := _bins(folder):
        batches = [read_cifar10(path) for path in paths]
    else:
        archive = folder / CIFAR_ARCHIVE
        members = read_members(archive, CIFAR_FILES, largest=2 * BATCH, limit=20 * BATCH)
        try:
            batches = [cifar_records(members[name]) for name in CIFAR_FILES]
        except DataError as error:
            raise DataError(f"{archive}: a member {error}") from None
    images = np.concatenate([x for x, _ in batches[:-1]])
    labels = np.concatenate([y for _, y in batches[:-1]])
    return Dataset(_pair(images, labels), _pair(*batches[-1]), THINGS)


def _pair(images: NDArray[np.uint8], labels: NDArray[Any]) -> Examples:
    """Bytes to float32 in [0, 1] and int64."""
    return np.divide(images, np.float32(255), dtype=np.float32), labels.astype(np.int64)


def _pictures(folder: Path) -> dict[str, list[Path]]:
    """The sorted pictures of each class: of each sub-folder that has any. What systems leave behind is passed over."""
    found = {}
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not _left_behind(path)):
        named = (path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
        if files := sorted(path for path in named if not (_left_behind(path) or path.is_dir())):
            found[place.name] = files
    if not found:
        raise DataError(
            f"{folder}: holds neither IDX files ({IDX_FILES[0]} ...) nor CIFAR-10 files "
            f"({CIFAR_FILES[0]} ...) nor a sub-folder of pictures a class"
        )
    return found


def _left_behind(path: Path) -> bool:
    """Whether this is hidden, or what file managers, archivers and storage servers leave in people's folders."""
    return path.name.startswith((".", "~$")) or path.name.lower() in LEFT_BEHIND


def _spread(count: int, share: float) -> set[int]:
    """The places of a share of `count` things, evenly spread; never the first: each class is trained on."""
    return {i for i in range(1, count) if int((i + 1) * share) > int(i * share)}


def _read_pictures(pictures: dict[str, list[Path]], classes: Sequence[str], shape: tuple[int, int, int]) -> Examples:
    """All pictures of all classes, float32 (N, *shape), and the numbers of their classes."""
    paths = [(path, label) for label, name in enumerate(classes) for path in pictures.get(name, [])]
    x = np.empty((len(paths), *shape), np.float32)
    for i, (path, _) in enumerate(paths):
        x[i] = read_image(path, shape, invert=False)
    return x, np.array([label for _, label in paths], np.int64)
