"""One picture from a file, as a network wants it."""

from __future__ import annotations

import contextlib
import io
import math
import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .files import LIMIT, DataError, PathLike

PIXELS = 64_000_000                                  # pictures of more are refused
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")    # none of these runs a program
SUFFIXES = (".npy", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

Floats = NDArray[np.float32]


def read_image(path: PathLike, shape: tuple[int, int, int] | None = None, *,
               invert: bool | None = None) -> Floats:
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
        image = _unit(_load_npy(path) if name.lower().endswith(".npy") else _load_pillow(path))
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    image = _over_white(image)
    if shape is not None:
        image = _fit(_channels(image, shape[2]), shape[0], shape[1])
        if invert is None:
            invert = shape[2] == 1 and bool(_border(image).mean() > 0.5)
    return np.ascontiguousarray(1 - image if invert else image, np.float32)


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
        file = io.BytesIO(Path(path).read_bytes())   # a header that declares gigabytes reads what is there
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
    except Exception as error:                       # a damaged header fails in many ways
        raise DataError(f"is not a readable .npy file: {_first_line(error)}") from error


def _load_pillow(path: PathLike) -> NDArray[np.generic]:
    """The pixels of a picture that Pillow can read: uint8 (H, W) or (H, W, 4), uint16 or float32 (H, W)."""
    _refuse_no_file(path)
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise DataError("reading this needs Pillow: pip install pillow (or save it as .npy)") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as picture:
                size = picture.width * picture.height
                if size > min(PIXELS, max(1 << 16, 2000 * os.path.getsize(path))):
                    raise DataError(f"has {picture.width} x {picture.height} pixels, more than {PIXELS:,}, "
                                    f"or than {os.path.getsize(path):,} bytes can hold")
                with contextlib.suppress(Exception):     # damaged notes are no reason to refuse the pixels
                    ImageOps.exif_transpose(picture, in_place=True)      # a camera may note which side is up
                if picture.mode.startswith("I"):     # 16 bits of grey
                    return np.clip(np.asarray(picture), 0, 65535).astype(np.uint16)
                if picture.mode == "F":
                    return np.asarray(picture)
                grey = picture.mode in ("1", "L") and "transparency" not in picture.info
                return np.asarray(picture.convert("L" if grey else "RGBA"))
    except DataError:
        raise
    except Exception as error:                       # Pillow's decoders raise nearly anything
        raise DataError(f"is not a readable picture: {_first_line(error)}") from error


def _unit(pixels: NDArray[np.generic]) -> Floats:
    """Pixels (H, W) or (H, W, C) of any accepted dtype as float32 (H, W, C) in [0, 1]."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] not in (1, 3, 4):
        raise DataError(f"has the shape {pixels.shape}; a picture is (H, W) or (H, W, 1, 3 or 4)")
    if pixels.dtype.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1):        # also true of NaN
            raise DataError("holds floats outside [0, 1]")
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


def _fit(image: Floats, height: int, width: int) -> Floats:
    """Scale (H, W, C), its proportions kept, to fit (height, width, C); margins get the border's colour."""
    if image.shape[:2] == (height, width):
        return image
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = [min(side, max(1, round(old * scale)))
             for old, side in zip(image.shape, (height, width), strict=False)]
    down, across = _resampler(image.shape[0], inner[0]), _resampler(image.shape[1], inner[1])
    fitted = np.empty((height, width, image.shape[2]), np.float32)
    fitted[:] = _border(image).mean(axis=0)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    rows = np.tensordot(down, image, axes=1)                      # (h, W, C)
    fitted[top:top + inner[0], left:left + inner[1]] = np.clip(np.matmul(across, rows), 0, 1)
    return fitted


def _resampler(old: int, new: int) -> Floats:
    """The matrix (new, old) that resamples a line of pixels with a triangle as wide as it must be."""
    ratio = old / new
    centre = (np.arange(new) + 0.5) * ratio - 0.5
    weight = np.maximum(0, 1 - np.abs(np.arange(old) - centre[:, None]) / max(ratio, 1))
    return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


def _border(image: Floats) -> Floats:
    """The pixels (P, C) on the four edges of a picture (H, W, C)."""
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
