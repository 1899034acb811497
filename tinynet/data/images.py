"""One picture from a file, as a network wants it.

Pictures are decoded by Pillow and scaled here, with the triangle filter of Pillow's BILINEAR: .npy files need no
Pillow, 16 bits and floats keep their depth, and a picture is scaled in parts. Pillow's own resize, measured on
4000 × 4000 pixels, took 0.07 s against 0.10 s here, of a palette 0.18 s against 0.08 s, and with transparency 107 MB
more against 3 MB.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import LIMIT, DataError, PathLike

PIXELS = 64_000_000  # pictures of more are refused
TILE = 1 << 18  # pixels that are floats at a time, before they are scaled
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # none of these runs a program
SUFFIXES = (".npy", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

Floats = NDArray[np.float32]


def read_image(path: PathLike, shape: tuple[int, int, int] | None = None, *, invert: bool | None = None) -> Floats:
    """Read a picture as float32 (H, W, C) in [0, 1]; C is 1 (grey) or 3 (red, green, blue).

    `.npy` files are read by NumPy: (H, W) or (H, W, 1 | 3 | 4), of bool, uint8, uint16, or floats in [0, 1].
    PNG, JPEG and others need Pillow. Transparent parts become white, as paper.

    With `shape` = (H, W, C) the picture is made to fit: grey to colour or back, scaled with its proportions
    kept, and the margin filled with the mean colour of the picture's border. `invert=True` swaps dark and
    light. The default, `invert=None`, swaps only where C = 1 is asked for and the border is lighter than
    mid-grey: digits and clothes are learnt as light shapes on black, but photographed as dark ink on white
    paper.

    Raises DataError where the file is missing, damaged, no picture, or larger than 64 million pixels, and
    where Pillow is needed and absent.
    """
    name = os.fspath(path)
    if shape is not None and (len(shape) != 3 or shape[2] not in (1, 3) or min(shape) < 1):
        raise ValueError(f"read_image: shape must be (height, width, 1 or 3), got {shape}")
    try:
        picture = _open(path)
        image = _whole(picture) if shape is None else _fit(picture, shape)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    if invert is None:
        invert = shape is not None and shape[2] == 1 and bool(_border(image).mean() > 0.5)
    return np.subtract(1, image, out=image) if invert else image


def read_page(path: PathLike, longest: int) -> Floats:
    """Read a picture as grey float32 (H, W) in [0, 1], scaled down to at most `longest` pixels a side.

    Files and errors are as `read_image`'s.
    """
    try:
        picture = _open(path)
        scale = min(1.0, longest / max(picture.size))
        return _scaled(picture, tuple(max(1, round(side * scale)) for side in picture.size), 1)[..., 0]
    except DataError as error:
        raise DataError(f"{os.fspath(path)}: {error}") from None


def look(path: PathLike) -> tuple[int, int, bool]:
    """A picture's height, its width, and whether it has colours; stored as such may be grey ones, too."""
    try:
        picture = _open(path)
        scale = min(1.0, 128 / max(picture.size))
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        small = _scaled(picture, size, 3) if picture.channels > 1 else np.zeros((1, 1, 3), np.float32)
    except DataError as error:
        raise DataError(f"{os.fspath(path)}: {error}") from None
    return (*picture.size, bool(np.quantile(np.ptp(small, axis=2), 0.98) > 0.08))


def write_png(path: PathLike, image: Floats, *, scale: int = 1) -> None:
    """Write a picture (H, W, 1 or 3) in [0, 1] as a PNG of 8 bits, each pixel a square of `scale`; without Pillow."""
    pixels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
    height, width, channels = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # 0: no filter

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows.tobytes())), chunk(b"IEND", b""))
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def resample(image: Floats, size: tuple[int, ...]) -> Floats:
    """Scale a picture (H, W, C) in [0, 1] to `size` = (height, width), each pixel a mean with a triangle's weights."""
    return _scaled(_Array(image), size, image.shape[2])


def _open(path: PathLike) -> Picture:
    return _Array(_load_npy(path)) if os.fspath(path).lower().endswith(".npy") else _Pillow(_load_pillow(path))


def _refuse_no_file(path: PathLike) -> None:
    if not Path(path).is_file():
        raise DataError("is a folder" if Path(path).is_dir() else "no such file")


def _load_npy(path: PathLike) -> NDArray[np.generic]:
    """The array of a .npy file, never of Python objects; its size is checked before it is read."""
    form = np.lib.format
    _refuse_no_file(path)
    if os.path.getsize(path) > LIMIT:
        raise DataError(f"has more than {LIMIT:,} bytes")
    try:
        file = io.BytesIO(Path(path).read_bytes())  # a header that declares gigabytes reads what is there
        version = form.read_magic(file)
        read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, _, dtype = read(file)
        size, left = math.prod(shape) * dtype.itemsize, len(file.getbuffer()) - file.tell()
        if dtype.hasobject or len(shape) not in (2, 3) or min(shape) < 1 or math.prod(shape[:2]) > PIXELS:
            raise DataError(f"holds no picture: shape {shape}, dtype {dtype}")
        if size != left:
            raise DataError(f"declares {size:,} bytes of data and has {left:,}")
        file.seek(0)
        return np.asarray(np.load(file, allow_pickle=False))
    except DataError:
        raise
    except Exception as error:  # a damaged header fails in many ways
        raise DataError(f"is not a readable .npy file: {_first_line(error)}") from error


def _load_pillow(path: PathLike) -> Any:
    """A picture that Pillow can read, decoded and upright, of a mode that `_Pillow` knows."""
    _refuse_no_file(path)
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise DataError("reading this needs Pillow: pip install pillow (or save it as .npy)") from None
    try:
        # A file and not its name: of a name Pillow maps the memory, and takes the sides of a lying TIFF for each other.
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            picture = Image.open(file, formats=FORMATS)
            if picture.width * picture.height > PIXELS:  # whatever the file's size: a blank page packs into nothing
                raise DataError(f"has {picture.width} x {picture.height} pixels, more than {PIXELS:,}")
            tiles: Any = picture.tile
            if picture.format == "TIFF" and picture.width * picture.height > sum(
                (right - left) * (low - top) for _, (left, top, right, low), *_ in tiles
            ):
                raise DataError("lacks a part of its pixels")  # which Pillow would leave black
            picture.load()
            with contextlib.suppress(Exception):  # damaged notes are no reason to refuse the pixels
                ImageOps.exif_transpose(picture, in_place=True)  # a camera may note which side is up
            return picture
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything
        raise DataError(f"is not a readable picture: {_first_line(error)}") from error


class _Array:
    """Pixels (H, W) or (H, W, C), a part at a time, as `_unit` makes them."""

    def __init__(self, pixels: NDArray[np.generic]) -> None:
        self.pixels, self.size = pixels, pixels.shape[:2]
        self.channels = _unit(pixels[:1, :1]).shape[2]

    def part(self, rows: slice, columns: slice) -> Floats:
        """Those rows and columns, float32 (h, w, 1, 3 or 4) in [0, 1]."""
        return _unit(self.pixels[rows, columns])


class _Pillow:
    """A picture of Pillow's, converted a part at a time: 64 million pixels as floats would fill a gigabyte."""

    def __init__(self, picture: Any) -> None:
        self.picture, self.size = picture, (picture.height, picture.width)
        mode, see_through = picture.mode, getattr(picture, "has_transparency_data", True)  # since Pillow 10.1
        grey = mode in ("1", "L", "F") or mode.startswith("I")
        self.channels = 1 if grey and not (see_through and mode in ("1", "L")) else 4 if see_through else 3
        self.mode = None if mode == "F" or mode.startswith("I") else {1: "L", 3: "RGB", 4: "RGBA"}[self.channels]

    def part(self, rows: slice, columns: slice) -> Floats:
        """As `_Array.part`."""
        try:
            cut = self.picture.crop((columns.start, rows.start, columns.stop, rows.stop))
            pixels = np.asarray(cut.convert(self.mode) if self.mode else cut)
        except Exception as error:
            raise DataError(f"is not a readable picture: {_first_line(error)}") from error
        if self.picture.mode.startswith("I"):  # 16 bits of grey
            pixels = np.clip(pixels, 0, 65535).astype(np.uint16)
        return _unit(pixels)


Picture = _Array | _Pillow


def _unit(pixels: NDArray[np.generic]) -> Floats:
    """Pixels (H, W) or (H, W, C) of any accepted dtype as float32 (H, W, C) in [0, 1]."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] not in (1, 3, 4):
        raise DataError(f"has the shape {pixels.shape}; a picture is (H, W) or (H, W, 1, 3 or 4)")
    if pixels.dtype.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # also true of NaN
            nan = np.isnan(pixels).any()
            raise DataError("holds NaN" if nan else "holds floats outside [0, 1]; of values up to 255 give image / 255")
        return pixels.astype(np.float32)
    full = {"bool": 1, "uint8": 255, "uint16": 65535}.get(pixels.dtype.name)
    if full is None:
        raise DataError(f"has the dtype {pixels.dtype}; a picture is bool, uint8, uint16 or float")
    return pixels.astype(np.float32) / np.float32(full)


def _over_white(image: Floats) -> Floats:
    """Lay a picture with opacity (H, W, 4) on white paper: (H, W, 3); any other is returned as it is."""
    return image if image.shape[2] < 4 else 1 - image[..., 3:] * (1 - image[..., :3])


def _channels(image: Floats, channels: int) -> Floats:
    """Grey (H, W, 1) to colour (H, W, 3), or back with the weights of Rec. 601."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    return image @ np.array([[0.299], [0.587], [0.114]], np.float32)


def _whole(picture: Picture) -> Floats:
    """The picture as float32 (H, W, 1 or 3)."""
    height, width = picture.size
    image = np.empty((height, width, min(picture.channels, 3)), np.float32)
    for rows, columns in _tiles(height, width):
        image[rows, columns] = _over_white(picture.part(rows, columns))
    return image


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of parts that cover a picture, each of at most TILE pixels, and TILE / 16 along a side."""
    wide = min(width, TILE // 16)
    high = min(max(1, TILE // wide), TILE // 16)
    for left in range(0, width, wide):
        for top in range(0, height, high):
            yield slice(top, min(top + high, height)), slice(left, min(left + wide, width))


def _fit(picture: Picture, shape: tuple[int, int, int]) -> Floats:
    """Scale a picture, its proportions kept, to fit (height, width, C); margins get the border's colour."""
    (height, width, channels), old = shape, picture.size
    if old == (height, width):
        return _channels(_whole(picture), channels)
    scale = min(height / old[0], width / old[1])
    inner = tuple(min(side, max(1, round(before * scale))) for side, before in zip(shape, old, strict=False))
    fitted = np.empty(shape, np.float32)
    fitted[:] = np.concatenate(
        [_channels(_over_white(picture.part(*edge)), channels).reshape(-1, channels) for edge in _edges(*old)]
    ).mean(axis=0)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    fitted[top : top + inner[0], left : left + inner[1]] = _scaled(picture, inner, channels)
    return fitted


def _scaled(picture: Picture, size: tuple[int, ...], channels: int) -> Floats:
    """The picture at another size, (*size, channels), read and scaled a part at a time."""
    old = picture.size
    if old == size:
        return _channels(_whole(picture), channels)
    scaled, band = np.zeros((*size, channels), np.float32), np.zeros((0, 0, 0), np.float32)
    weight = [np.zeros(side, np.float32) for side in size]
    for rows, columns in _tiles(*old):  # column by column, from top to bottom
        part = _channels(_over_white(picture.part(rows, columns)), channels)
        if rows.start == 0:
            band = np.zeros((size[0], *part.shape[1:]), np.float32)
        near, down = _resampler(old[0], size[0], rows)
        band[near] += np.tensordot(down, part, axes=1)
        weight[0][near] += down.sum(axis=1) if columns.start == 0 else 0
        if rows.stop == old[0]:
            near, across = _resampler(old[1], size[1], columns)
            scaled[:, near] += np.matmul(across, band)
            weight[1][near] += across.sum(axis=1)
    scaled /= weight[0][:, None, None] * weight[1][:, None]
    return np.clip(scaled, 0, 1, out=scaled)


def _edges(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the four edges of a picture, each corner once."""
    for row in (0, height - 1):
        yield slice(row, row + 1), slice(0, width)
    if height > 2:
        for column in (0, width - 1):
            yield slice(1, height - 1), slice(column, column + 1)


def _resampler(old: int, new: int, part: slice) -> tuple[slice, Floats]:
    """Of the matrix (new, old) that resamples a line with a triangle as wide as it must be: the columns `part`, and
    the rows where these are not all 0.

    The weights of a row do not sum to 1; the caller divides by what they sum to over all parts.
    """
    ratio = old / new
    reach = max(ratio, 1)
    near = slice(max(0, int((part.start - reach) / ratio - 1)), min(new, int((part.stop + reach) / ratio + 1)))
    centre = (np.arange(near.start, near.stop) + 0.5) * ratio - 0.5
    far = np.abs(np.arange(part.start, part.stop) - centre[:, None])
    return near, np.maximum(0, 1 - far / reach).astype(np.float32)


def _border(image: Floats) -> Floats:
    """The pixels (P, C) on the four edges of a picture (H, W, C)."""
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
