"""The readers: what they read, and that a damaged file is one clear error and nothing else."""

from __future__ import annotations

import gzip
import io
import pickle
import random
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinynet.data import DataError, read_cifar10, read_idx, read_image
from tinynet.data.files import CIFAR_RECORD, cifar_records, read_members

DAMAGED = 1000


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def archive(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def damaged(good, rng):
    """Endless damaged versions of a good file: cut, changed, extended, shuffled, or nothing but noise."""
    while True:
        data = bytearray(good)
        kind, at = rng.randrange(6), rng.randrange(len(good))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at % 64] ^= 1 << rng.randrange(8)
        elif kind == 2:
            for _ in range(20):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == 3:
            data += rng.randbytes(rng.randrange(1, 50))
        elif kind == 4:
            del data[at : at + rng.randrange(1, 30)]
        else:
            data = bytearray(good[: rng.randrange(16)] + rng.randbytes(rng.randrange(300)))
        yield bytes(data)


def survives(read, path, goods, check):
    """Give DAMAGED bad files to a reader: each is read within reason, or raises a DataError that names it."""
    rng = random.Random(0)
    streams = [damaged(good, rng) for good in goods]
    refused = 0
    tracemalloc.start()
    try:
        for i in range(DAMAGED):
            path.write_bytes(next(streams[i % len(streams)]))
            try:
                check(read(path))  # a changed pixel is not damage that can be seen
            except DataError as error:
                assert str(path) in str(error)
                assert "\n" not in str(error)
                refused += 1
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert refused > DAMAGED // 2


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)), st.booleans())
def test_idx_round_trip(tmp_path_factory, array, packed):
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    got = read_idx(path)
    assert got.dtype == np.uint8 and got.flags.writeable
    np.testing.assert_array_equal(got, array)


def test_idx_damaged(tmp_path):
    good = idx(np.random.default_rng(1).integers(0, 256, (5, 9, 8), np.uint8))
    survives(read_idx, tmp_path / "x.gz", [good, gzip.compress(good)], lambda a: a.shape)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"PK\x03\x04", "not an IDX file"),
        (b"\0\0\x0d\x01\0\0\0\0", "float32"),
        (b"\0\0\x08\x00", "not an IDX file"),
        (b"\0\0\x08\x09", "9 dimensions"),
        (b"\0\0\x08\x02\0\0", "within its header"),
        (b"\0\0\x08\x01\xff\xff\xff\xff", "can hold"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "can hold"),
        (b"\0\0\x08\x01\0\0\0\x01ab", "goes on"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x05ab"), "truncated"),
        (gzip.compress(idx(np.ones(9, np.uint8)))[:-9], "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_idx_errors_say_what_is_wrong(tmp_path, data, message):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "x")


def test_missing_file_and_folder(tmp_path):
    for read in (read_idx, read_cifar10, read_image):
        for path in (tmp_path / "absent.npy", tmp_path / "absent.png", tmp_path):
            with pytest.raises(DataError, match=path.name):
                read(path)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(4, np.uint8)) + bytes(50 << 20)))
    tracemalloc.start()
    with pytest.raises(DataError, match="goes on"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_cifar_layout(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (7, 32, 32, 3), np.uint8), rng.integers(0, 10, 7)
    data = b"".join(bytes([k]) + x.transpose(2, 0, 1).tobytes() for x, k in zip(images, labels, strict=True))
    (tmp_path / "b.bin").write_bytes(data)
    x, y = read_cifar10(tmp_path / "b.bin")
    np.testing.assert_array_equal(x, images)
    np.testing.assert_array_equal(y, labels)
    assert y.dtype == np.int64


def test_cifar_damaged(tmp_path):
    good = bytes(2 * CIFAR_RECORD)
    survives(read_cifar10, tmp_path / "b.bin", [good], lambda pair: pair[0].shape)
    (tmp_path / "b.bin").write_bytes(b"\x0a" + bytes(CIFAR_RECORD - 1))
    with pytest.raises(DataError, match="label 10"):
        read_cifar10(tmp_path / "b.bin")


def test_archive(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archive({"x/readme": b"no", "../../a.bin": b"123", "x/b.bin": b"4"}))
    assert read_members(path, ("a.bin", "b.bin"), largest=3) == {"a.bin": b"123", "b.bin": b"4"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]
    with pytest.raises(DataError, match=r"lacks c\.bin"):
        read_members(path, ("a.bin", "c.bin"), largest=3)
    with pytest.raises(DataError, match="at most 2 bytes"):
        read_members(path, ("a.bin",), largest=2)
    path.write_bytes(archive({"big": bytes(1 << 20), "a.bin": b"1"}))
    with pytest.raises(DataError, match="more than"):
        read_members(path, ("a.bin",), largest=3, limit=1000)


def test_archive_link_is_refused(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        link = tarfile.TarInfo("a.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (tmp_path / "a.tar.gz").write_bytes(packed.getvalue())
    with pytest.raises(DataError, match=r"a\.bin is not a file"):
        read_members(tmp_path / "a.tar.gz", ("a.bin",), largest=10)


def test_archive_damaged(tmp_path):
    good = archive({"x/a.bin": bytes(CIFAR_RECORD), "b.bin": b"5"})
    survives(
        lambda path: read_members(path, ("a.bin", "b.bin"), 2 * CIFAR_RECORD),
        tmp_path / "a.tar.gz",
        [good, gzip.compress(gzip.decompress(good), 0)],
        len,
    )


# --- pictures -------------------------------------------------------------------------------------


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def png(array, mode=None, form="PNG", **options):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install '.[image]'")
    file = io.BytesIO()
    picture = image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(file, form, **options)
    return file.getvalue()


class Trap:
    """Unpickled, it would raise something that is no DataError."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was executed')",))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(12, dtype=np.uint8).reshape(3, 4, 1),
        np.arange(36, dtype=np.uint8).reshape(3, 4, 3),
        np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4)),
    ],
)
def test_npy_is_read(tmp_path, array):
    (tmp_path / "x.npy").write_bytes(npy(array))
    got = read_image(tmp_path / "x.npy")
    assert got.dtype == np.float32 and got.shape == (*array.shape, 1)[:3]
    np.testing.assert_array_equal(got.reshape(array.shape), array / np.float32(255))


def test_npy_types(tmp_path):
    path = tmp_path / "x.npy"
    for array in (np.ones((2, 2), bool), np.full((2, 2), 65535, np.uint16), np.ones((2, 2))):
        path.write_bytes(npy(array))
        assert (read_image(path) == 1).all()
    for array, message in (
        (np.ones((2, 2), np.int64), "int64"),
        (np.full((2, 2), 1.5), "outside"),
        (np.full((2, 2), np.nan), "holds NaN"),
        (np.ones(4), "no picture"),
        (np.ones((2, 2, 2)), "shape"),
        (np.ones((2, 0)), "no picture"),
        (np.ones((2, 2), complex), "complex"),
    ):
        path.write_bytes(npy(array))
        with pytest.raises(DataError, match=message):
            read_image(path)


def test_pickles_are_never_executed(tmp_path):
    trap = np.empty((1, 1), object)
    trap[0, 0] = Trap()
    for name, data in (
        ("a.npy", npy(trap, allow_pickle=True)),
        ("b.npy", pickle.dumps(Trap())),
        ("c.bin", pickle.dumps(Trap())),
        ("d.png", pickle.dumps(Trap())),
    ):
        (tmp_path / name).write_bytes(data)
        for read in (read_image, read_idx, read_cifar10):
            with pytest.raises(DataError):
                read(tmp_path / name)


def test_npy_that_declares_much(tmp_path):
    head = npy(np.zeros((2, 2), np.uint8)).replace(b"(2, 2), ", b"(9999, 6000), ")
    (tmp_path / "x.npy").write_bytes(head)
    with pytest.raises(DataError, match=r"x\.npy"):
        read_image(tmp_path / "x.npy")


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("RGB", 3), ("P", 3), ("RGBA", 3), ("LA", 3)])
def test_pillow_modes(tmp_path, mode, channels):
    array = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    (tmp_path / "x.png").write_bytes(png(array, mode))
    got = read_image(tmp_path / "x.png")
    assert got.shape == (6, 5, channels) and got.dtype == np.float32 and got.min() >= 0 and got.max() <= 1
    if mode == "RGB":
        np.testing.assert_allclose(got, array / 255, atol=1e-6)


def test_sixteen_bits_and_transparency(tmp_path):
    (tmp_path / "x.png").write_bytes(png(np.full((2, 2), 32768, np.uint16)))
    np.testing.assert_allclose(read_image(tmp_path / "x.png"), 32768 / 65535)
    (tmp_path / "y.png").write_bytes(png(np.zeros((2, 2, 4), np.uint8)))
    np.testing.assert_array_equal(read_image(tmp_path / "y.png"), np.ones((2, 2, 3)))


def test_fit_keeps_proportions_and_levels(tmp_path):
    page = np.ones((40, 80), np.float32)
    page[:, 40:] = 0
    np.save(tmp_path / "x.npy", page)
    got = read_image(tmp_path / "x.npy", (28, 28, 1), invert=False)[..., 0]
    assert got.shape == (28, 28)
    np.testing.assert_allclose(got[7:21, :13], 1, atol=1e-6)
    np.testing.assert_allclose(got[7:21, 15:], 0, atol=1e-6)
    assert 0.4 < got[0].mean() < 0.6  # the margin: the mean of the border
    assert read_image(tmp_path / "x.npy", (20, 30, 3)).shape == (20, 30, 3)
    np.save(tmp_path / "y.npy", np.random.default_rng(0).random((3, 5, 3)))
    assert read_image(tmp_path / "y.npy", (200, 7, 1)).shape == (200, 7, 1)


def test_dark_ink_on_paper_is_inverted_unless_told(tmp_path):
    page = np.ones((28, 28), np.float32)
    page[10:20, 14] = 0
    np.save(tmp_path / "x.npy", page)
    read = read_image(tmp_path / "x.npy", (28, 28, 1))
    np.testing.assert_array_equal(read[..., 0], 1 - page)
    np.testing.assert_array_equal(read_image(tmp_path / "x.npy", (28, 28, 1), invert=False)[..., 0], page)
    np.testing.assert_array_equal(read_image(tmp_path / "x.npy")[..., 0], page)
    assert read_image(tmp_path / "x.npy", (28, 28, 3))[0, 0, 0] == 1
    np.save(tmp_path / "y.npy", 1 - page)
    np.testing.assert_array_equal(read_image(tmp_path / "y.npy", (28, 28, 1))[..., 0], 1 - page)
    np.testing.assert_array_equal(read_image(tmp_path / "y.npy", (28, 28, 1), invert=True)[..., 0], page)


def test_images_damaged(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    forms = {"PNG": {}, "JPEG": {}, "BMP": {}, "GIF": {}, "TIFF": {}, "PPM": {}}
    survives(
        read_image,
        tmp_path / "x.png",
        [png(array, form=form, **more) for form, more in forms.items()],
        lambda x: x.shape,
    )
    survives(read_image, tmp_path / "x.npy", [npy(array), npy(array / 255)], lambda x: x.shape)


def test_picture_bomb_and_foreign_formats(tmp_path):
    pytest.importorskip("PIL.Image")
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 60000, 60000) + b"\x08\0\0\0\0"
    (tmp_path / "x.png").write_bytes(header + b"\0\0\0\0" * 9)
    with pytest.raises(DataError, match=r"x\.png"):
        read_image(tmp_path / "x.png")
    (tmp_path / "y.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(DataError, match="not a readable picture"):
        read_image(tmp_path / "y.png")


def test_without_pillow_the_remedy_is_named(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(DataError, match="pip install pillow"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 2), (0, 3, 1)])
def test_bad_shape(tmp_path, shape):
    with pytest.raises(ValueError, match="shape must be"):
        read_image(tmp_path / "x.npy", shape)


def test_cifar_records_of_nothing():
    with pytest.raises(DataError, match="0 bytes"):
        cifar_records(b"")


def test_a_camera_notes_which_side_is_up(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    upright = (255 * np.linspace(0, 1, 24).reshape(4, 6)).astype(np.uint8)
    turned = Image.fromarray(np.rot90(upright))  # 6: turn it by 90° clockwise to see it upright
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_allclose(read_image(tmp_path / "photo.png")[..., 0], upright / np.float32(255), atol=1e-6)


def test_pictures_of_floats_and_folders_with_a_pictures_name(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    page = np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)
    Image.fromarray(page).save(tmp_path / "page.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "page.tif")[..., 0], page)
    Image.fromarray(200 * page).save(tmp_path / "bright.tif")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.npy").mkdir()
    for name, message in (("bright.tif", "floats outside"), ("folder.png", "a folder"), ("folder.npy", "a folder")):
        with pytest.raises(DataError, match=message):
            read_image(tmp_path / name)


# What a viewer does with the stored array, by the orientation that the file notes (EXIF 2.3, tag 0x0112).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
    0: lambda a: a,
    9: lambda a: a,
}
MODES = {
    "PNG": "1 L LA P RGB RGBA I;16",
    "JPEG": "L RGB CMYK",
    "TIFF": "1 L LA P RGB RGBA I;16 CMYK F",
    "WEBP": "L RGB RGBA",
    "BMP": "1 L P RGB",
    "GIF": "1 L P RGB",
}
NOTED = ("PNG", "JPEG", "TIFF", "WEBP")


def stored(mode, height=24, width=40):
    """A picture of this mode for Pillow, and the same as float64 (H, W, 1 or 3) over white: blocks of even colour."""
    Image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(3)

    def blocks(high, *more):
        return np.kron(rng.integers(0, high, (height // 8, width // 8, *more)), np.ones((8, 8, *[1] * len(more)), int))

    if mode == "1":
        a = blocks(2).astype(bool)
        return Image.fromarray(255 * a.astype(np.uint8)).convert("1"), a[..., None] * 1.0
    if mode == "F":
        a = (blocks(1000) / 1000).astype(np.float32)
        return Image.fromarray(a), a[..., None].astype(float)
    if mode == "I;16":
        a = blocks(65536).astype(np.uint16)
        return Image.fromarray(a), a[..., None] / 65535
    if mode == "P":
        colours, numbers = rng.integers(0, 256, (16, 3)), blocks(16)
        picture = Image.new("P", (width, height))
        picture.putdata(numbers.ravel().tolist())
        picture.putpalette(colours.ravel().tolist())
        return picture, colours[numbers] / 255
    bands = len(Image.new(mode, (1, 1)).getbands())
    a = blocks(256, bands).astype(np.uint8)
    picture = Image.merge(mode, [Image.fromarray(np.ascontiguousarray(a[..., i])) for i in range(bands)])
    unit = a / 255
    if mode == "CMYK":
        return picture, (1 - unit[..., :3]) * (1 - unit[..., 3:])
    if mode == "LA":
        unit = unit[..., [0, 0, 0, 1]]
    return picture, 1 - unit[..., 3:] * (1 - unit[..., :3]) if unit.shape[2] == 4 else unit


@pytest.mark.parametrize("form, mode", [(form, mode) for form, modes in MODES.items() for mode in modes.split()])
def test_every_orientation_of_every_kind_of_picture_is_read_upright(tmp_path, form, mode):
    Image = pytest.importorskip("PIL.Image")
    picture, array = stored(mode)
    lossy = form == "JPEG"
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}}.get(form, {})
    for number, upright in UPRIGHT.items():
        for compression in [None, "tiff_lzw"] if form == "TIFF" and number in range(1, 9) else [None]:
            exif, path = Image.Exif(), tmp_path / f"x.{form.lower()}"
            exif[0x0112] = number
            more = {"compression": compression} if compression else {}
            picture.save(path, form, **options, **more, **({"exif": exif} if form in NOTED else {}))
            got, want = read_image(path), upright(array) if form in NOTED else array
            if got.shape[2] != want.shape[2]:  # a format may keep grey as colour, or the other way about
                got, want = (np.broadcast_to(a, (*a.shape[:2], 3)) for a in (got, want))
            assert got.shape == want.shape, (number, compression)
            gap = np.abs(got - want)
            assert (np.median(gap) if lossy else gap.max()) < (0.02 if lossy else 0.006), (number, compression)
            small = read_image(path, (7, 9, 3), invert=False)
            np.save(tmp_path / "y.npy", np.clip(np.broadcast_to(got, (*got.shape[:2], 3)), 0, 1))
            np.testing.assert_allclose(small, read_image(tmp_path / "y.npy", (7, 9, 3), invert=False), atol=2e-3)


@pytest.mark.parametrize("tile", [64, 1000, 1 << 18])
@pytest.mark.parametrize(
    "size, goal",
    [
        ((50, 70), (28, 28)),
        ((9, 300), (28, 28)),
        ((1, 1000), (5, 7)),
        ((3, 2), (40, 9)),
        ((28, 28), (28, 28)),
        ((61, 1), (8, 8)),
    ],
)
def test_scaling_in_parts_is_scaling_at_once(tmp_path, monkeypatch, tile, size, goal):
    """Against the two whole matrices."""
    rng = np.random.default_rng(1)
    image = rng.random((*size, 3), dtype=np.float32)
    np.save(tmp_path / "x.npy", image)
    monkeypatch.setattr("tinynet.data.images.TILE", tile)

    def matrix(old, new):
        centre = (np.arange(new) + 0.5) * old / new - 0.5
        weight = np.maximum(0, 1 - np.abs(np.arange(old) - centre[:, None]) / max(old / new, 1))
        return weight / weight.sum(1, keepdims=True)

    scale = min(goal[0] / size[0], goal[1] / size[1])
    h, w = (min(g, max(1, round(s * scale))) for g, s in zip(goal, size, strict=True))
    want = np.einsum("hH,HWc,wW->hwc", matrix(size[0], h), image, matrix(size[1], w))
    got = read_image(tmp_path / "x.npy", (*goal, 3))
    top, left = (goal[0] - h) // 2, (goal[1] - w) // 2
    np.testing.assert_allclose(got[top : top + h, left : left + w], want, atol=1e-5)
    border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]]).mean(0)
    if (h, w) != goal:
        np.testing.assert_allclose(got[0, 0] if top or left else got[-1, -1], border, atol=0.02)


@pytest.mark.parametrize(
    "form, mode, options",
    [
        ("PNG", "1", {"optimize": True}),
        ("TIFF", "1", {"compression": "group4"}),
        ("WEBP", "RGB", {"lossless": True}),
        ("GIF", "L", {}),
        ("PNG", "L", {"optimize": True}),
        ("TIFF", "L", {"compression": "tiff_adobe_deflate"}),
    ],
)
def test_an_honest_page_may_have_few_bytes(tmp_path, form, mode, options):
    Image = pytest.importorskip("PIL.Image")
    page = Image.new("1", (2480, 3508), 1)
    page.paste(0, (900, 700, 1200, 1700))
    page.convert(mode).save(tmp_path / "page.png", form, **options)
    got = read_image(tmp_path / "page.png", (28, 28, 1))
    assert got.max() > 0.8 and got[0].max() < 1e-5 and (got[6:13, 11:14] > 0.5).any()


def test_a_picture_of_too_many_pixels_is_refused_and_one_of_many_takes_little_memory(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    Image.new("1", (8001, 8000)).save(tmp_path / "much.png")
    with pytest.raises(DataError, match="more than 64,000,000"):
        read_image(tmp_path / "much.png")
    Image.new("1", (1_000_000, 30)).save(tmp_path / "long.tif", compression="group4")
    tracemalloc.start()
    try:
        assert read_image(tmp_path / "long.tif", (28, 28, 1)).shape == (28, 28, 1)
        assert tracemalloc.get_traced_memory()[1] < 128 << 20
    finally:
        tracemalloc.stop()


def test_a_tiff_that_lacks_pixels_is_refused(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    Image.fromarray(np.ones((9, 8), np.uint8)).save(tmp_path / "x.tif")
    data = (tmp_path / "x.tif").read_bytes()
    entry = struct.pack("<HHI", 257, 4, 1)
    at = data.index(entry) + 8
    (tmp_path / "x.tif").write_bytes(data[:at] + struct.pack("<I", 9000) + data[at + 4 :])
    with pytest.raises(DataError, match=r"x\.tif"):
        read_image(tmp_path / "x.tif")
