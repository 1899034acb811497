"""Named datasets and folders: where they are looked for, the shapes that come back, what is refused."""

from __future__ import annotations

import copy
import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tinynet.data import DataError, Dataset, cifar10, datasets, fashion_mnist, load_dir, mnist
from tinynet.data.datasets import CIFAR_FILES, CLOTHES, IDX_FILES
from tinynet.data.files import CIFAR_RECORD


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data on this machine but what a test puts there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    for name in ("TINYNET_DATA", "TINYNET_MIRROR"):
        monkeypatch.delenv(name, raising=False)


def put_idx(folder, n=(6, 4), size=(28, 28), packed=False, top=9):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for count, (images, labels) in zip(n, (IDX_FILES[:2], IDX_FILES[2:]), strict=True):
        for name, array in (
            (images, rng.integers(0, 256, (count, *size), np.uint8)),
            (labels, np.arange(count, dtype=np.uint8) % (top + 1)),
        ):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            data = head + array.tobytes()
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return folder


def put_cifar(folder, packed=False):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: bytes([i]) + rng.bytes(CIFAR_RECORD - 1) for i, name in enumerate(CIFAR_FILES)}
    if packed:
        with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    else:
        for name, data in files.items():
            (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["data/mnist", "cache/tinynet/mnist", "share/datasets/mnist", "own"])
def test_mnist_is_found(tmp_path, monkeypatch, place, packed):
    folder = put_idx(tmp_path / place, packed=packed)
    monkeypatch.setenv("TINYNET_DATA", str(tmp_path / "data"))
    data = mnist(folder if place == "own" else None, download=False)
    (x, y), (x_test, y_test) = data
    assert x.shape == (6, 28, 28, 1) and x.dtype == np.float32 and x.min() >= 0 and x.max() <= 1
    assert y.tolist() == list(range(6)) and y.dtype == np.int64
    assert x_test.shape == (4, 28, 28, 1) and y_test.dtype == np.int64
    assert data.classes == tuple("0123456789")
    assert data.train[0] is x and data.test[1] is y_test


def test_fashion_mnist_under_either_name(tmp_path):
    put_idx(tmp_path / "share/datasets/fashion-mnist")
    assert fashion_mnist(download=False).classes == CLOTHES


@pytest.mark.parametrize(("place", "packed"), [("", False), ("cifar-10-batches-bin", False), ("", True)])
def test_cifar10_is_found(tmp_path, monkeypatch, place, packed):
    put_cifar(tmp_path / "cifar10" / place, packed)
    monkeypatch.setenv("TINYNET_DATA", str(tmp_path))
    (x, y), (x_test, y_test) = data = cifar10(download=False)
    assert x.shape == (5, 32, 32, 3) and x.dtype == np.float32 and y.tolist() == [0, 1, 2, 3, 4]
    assert x_test.shape == (1, 32, 32, 3) and y_test.tolist() == [5]
    assert len(data.classes) == 10
    assert load_dir(tmp_path / "cifar10").classes == data.classes


def test_absent_without_download_says_where_and_what(tmp_path):
    wanted = r"mnist is in none of .*cache.*share.*put train-images-idx3-ubyte\.gz.* into"
    with pytest.raises(DataError, match=wanted):
        mnist(download=False)
    with pytest.raises(DataError, match="none of"):
        cifar10(tmp_path, download=False)


def test_a_mistyped_folder_of_data_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYNET_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"mnist: TINYNET_DATA=.*nowhere is no folder; name the one that holds mnist/"):
        mnist()


def test_wrong_contents_are_named(tmp_path):
    put_idx(tmp_path / "a", size=(9, 9))
    with pytest.raises(DataError, match=r"images of \(9, 9\)"):
        mnist(tmp_path / "a", download=False)
    put_idx(tmp_path / "b", n=(20, 3), top=15)
    with pytest.raises(DataError, match="label 15"):
        mnist(tmp_path / "b", download=False)
    put_idx(tmp_path / "c")
    (tmp_path / "c" / IDX_FILES[1]).write_bytes(b"\0\0\x08\x01\0\0\0\x01\x07")
    with pytest.raises(DataError, match=r"\(6, 28, 28\).*\(1,\)"):
        mnist(tmp_path / "c", download=False)
    put_cifar(tmp_path / "d", packed=True)
    archive = tmp_path / "d/cifar-10-binary.tar.gz"
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: cannot be read"):
        cifar10(tmp_path / "d", download=False)


def test_dataset_survives_copy_and_pickle():
    pair = (np.zeros((1, 2), np.float32), np.zeros(1, np.int64))
    data = Dataset(pair, pair, ["a"])
    for other in (copy.copy(data), pickle.loads(pickle.dumps(data))):
        assert isinstance(other, Dataset) and other.classes == ("a",) and len(other) == 2


def test_load_dir_of_idx_counts_its_classes(tmp_path):
    data = load_dir(put_idx(tmp_path, size=(5, 7), top=2))
    assert data.classes == ("0", "1", "2") and data.train[0].shape == (6, 5, 7, 1)


def put_pictures(folder, classes, count=10, shape=(6, 5)):
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            np.save(folder / name / f"{i:02}.npy", np.full(shape, k * 20 + i, np.uint8))


def test_load_dir_of_pictures_keeps_a_share_for_the_test(tmp_path):
    put_pictures(tmp_path, ["cat", "dog"])
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").touch()
    (x, y), (x_test, y_test) = data = load_dir(tmp_path)
    assert data.classes == ("cat", "dog") and x.shape == (16, 6, 5, 1) and x_test.shape == (4, 6, 5, 1)
    assert y.tolist() == [0] * 8 + [1] * 8 and y_test.tolist() == [0, 0, 1, 1]
    values = np.rint(np.concatenate([x, x_test])[:, 0, 0, 0] * 255).astype(int)
    assert sorted(values) == [*range(10), *range(20, 30)]
    assert load_dir(tmp_path, shape=(8, 8, 3), test_share=0).train[0].shape == (20, 8, 8, 3)


def test_load_dir_with_its_own_split(tmp_path):
    put_pictures(tmp_path / "train", ["a", "b"], 3)
    put_pictures(tmp_path / "test", ["b"], 2, (12, 10))
    data = load_dir(tmp_path)
    assert data.train[0].shape == (6, 6, 5, 1) and data.test[0].shape == (2, 6, 5, 1)
    assert data.test[1].tolist() == [1, 1]
    put_pictures(tmp_path / "test", ["z"], 1)
    with pytest.raises(DataError, match="classes that train has not: z"):
        load_dir(tmp_path)


def test_load_dir_refuses(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        load_dir(tmp_path / "absent")
    with pytest.raises(DataError, match="holds neither IDX"):
        load_dir(tmp_path)
    with pytest.raises(ValueError, match="test_share"):
        load_dir(tmp_path, test_share=1)
    put_pictures(tmp_path, ["a"], 2)
    (tmp_path / "a/00.npy").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"00\.npy: is not a readable"):
        load_dir(tmp_path)


def test_import_needs_neither_pillow_nor_network():
    root = str(Path(datasets.__file__).parents[2])
    code = (
        "import socket, sys; sys.modules['PIL'] = socket.socket.connect = socket.getaddrinfo = None; "
        "import tinynet.data"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": root}, capture_output=True
    )


# --- the real files -------------------------------------------------------------------------------

REAL = os.environ.get("TINYNET_DATA")
real = pytest.mark.skipif(
    not (REAL and (Path(REAL) / "mnist").is_dir()), reason="needs MNIST's files in $TINYNET_DATA/mnist"
)


@real
def test_the_real_mnist():
    (x, y), (x_test, y_test) = mnist(Path(REAL) / "mnist", download=False)
    assert x.shape == (60000, 28, 28, 1) and x_test.shape == (10000, 28, 28, 1)
    assert np.bincount(y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert round(float(x.mean(dtype=np.float64)), 4) == 0.1307


@real
def test_the_real_files_have_the_published_sums():
    from tinynet.data.download import sum_of

    for name, total in datasets.MNIST.sums.items():
        path = Path(REAL) / "mnist" / name
        assert sum_of(path if path.exists() else path.with_suffix("")) == total


def test_what_systems_leave_in_folders_is_passed_over(tmp_path):
    """Sidecars, thumbnails and trash are neither pictures nor classes; a link that leads nowhere is an error."""
    put_pictures(tmp_path, "ab")
    left = [
        "a/._0.npy",
        "a/.hidden.png",
        "a/.DS_Store",
        "b/Thumbs.db",
        "b/desktop.ini",
        "b/~$3.npy",
        ".DS_Store",
        "a/@eaDir/0.npy/thumb.jpg",
        "@eaDir/a/thumb.jpg",
        "@eaDir/x.jpg",
        "__MACOSX/x.png",
        "__MACOSX/a/._0.png",
        "a/.ipynb_checkpoints/0-checkpoint.png",
        ".ipynb_checkpoints/0.png",
        "$RECYCLE.BIN/x.bmp",
        "#recycle/x.gif",
        "a/inner.png/x.png",
        "lost+found/x.png",
        "System Volume Information/x.png",
        ".git/x.png",
    ]
    for name in left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7" + bytes(60))
    found = load_dir(tmp_path)
    assert found.classes == ("a", "b") and len(found.train[0]) + len(found.test[0]) == 20
    (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        load_dir(tmp_path)


def test_without_a_home_the_files_are_found_where_they_are(tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    put_idx(tmp_path / "own")
    put_idx(tmp_path / "data" / "mnist")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", no_home)
    assert len(mnist(tmp_path / "own").test[1]) == 4
    monkeypatch.setenv("TINYNET_DATA", str(tmp_path / "data"))
    assert len(mnist().test[1]) == 4
    monkeypatch.setenv("TINYNET_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_DATA_DIRS", ":::")
    with pytest.raises(DataError, match="put train-images"):
        mnist(download=False)
