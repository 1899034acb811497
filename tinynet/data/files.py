"""Readers of the published files: IDX (MNIST and its kin) and CIFAR-10's binary version.

A file is data, whatever it holds: nothing is unpickled or executed, sizes are checked before memory is taken,
and a damaged file raises one `DataError` that names it.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import tarfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

PathLike = str | os.PathLike[str]
Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]

LIMIT = 1 << 30  # bytes that one file may unpack to
CIFAR_RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes
_INFLATE = 1032  # DEFLATE cannot shrink further than this
_IDX_TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}


class DataError(ValueError):
    """Data that cannot be used: a damaged file, a failed download, arrays that do not fit together."""


class Bounded(io.RawIOBase):
    """A stream that refuses to give more than `limit` bytes: so a small archive cannot fill the memory."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        super().__init__()
        self.stream, self.left, self.limit = stream, limit, limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """As any stream's; DataError where the limit is passed."""
        want = self.left + 1 if size < 0 else min(size, self.left + 1)
        data = self.stream.read(want)
        self.left -= len(data)
        if self.left < 0:
            raise DataError(f"unpacks to more than {self.limit:,} bytes")
        return data


@contextmanager
def reading(path: PathLike, limit: int = LIMIT) -> Iterator[Bounded]:
    """Open a file, plain or gzip (told by its first bytes), to read at most `limit` bytes of content.

    Whatever goes wrong while it is read becomes a DataError that names the file.
    """
    try:
        if not Path(path).is_file():
            raise DataError("no such file")
        with open(path, "rb") as raw:
            size, packed = os.path.getsize(path), raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield Bounded(cast(BinaryIO, unpacked), min(limit, size * _INFLATE))
            else:
                yield Bounded(raw, min(limit, size))
    except DataError as error:
        raise DataError(f"{os.fspath(path)}: {error}") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
        raise DataError(f"{os.fspath(path)}: cannot be read: {_reason(error)}") from error


def read_idx(path: PathLike) -> Bytes:
    """Read an IDX file of unsigned bytes, plain or .gz: a uint8 array of the shape that the file declares.

    The format: two zero bytes, 0x08 (unsigned byte), the number of dimensions, each as a big-endian uint32,
    then the values in C order. So MNIST's images (magic 0x00000803) are (N, 28, 28), its labels (0x00000801)
    (N,).

    Raises DataError where the file is missing, damaged, of another type, or larger than 1 GiB.
    """
    with reading(path) as stream:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or magic[3] == 0:
            raise DataError(f"not an IDX file (it starts with {magic.hex(' ') or 'nothing'})")
        if magic[2] != 0x08:
            raise DataError(f"holds IDX data of type {_IDX_TYPES[magic[2]]}; only uint8 is read")
        if magic[3] > 8:
            raise DataError(f"declares {magic[3]} dimensions; at most 8 are read")
        header = stream.read(4 * magic[3])
        if len(header) < 4 * magic[3]:
            raise DataError("ends within its header")
        shape = tuple(int(side) for side in np.frombuffer(header, ">u4"))
        size = math.prod(shape)
        if size > stream.left:
            raise DataError(f"declares the shape {shape}: {size:,} bytes; it can hold {stream.left:,}")
        data = stream.read(size)
        if len(data) < size:
            raise DataError(f"is truncated: the shape {shape} needs {size:,} bytes, it has {len(data):,}")
        if stream.read(1):
            raise DataError(f"goes on after the {size:,} bytes of its shape {shape}")
    return np.frombuffer(bytearray(data), np.uint8).reshape(shape)


def read_cifar10(path: PathLike) -> tuple[Bytes, Labels]:
    """Read a file of CIFAR-10's binary version, such as `data_batch_1.bin`.

    Returns images uint8 (N, 32, 32, 3) and labels int64 (N,) from 0 to 9.

    Raises DataError where the file is missing, not made of records of 3,073 bytes, or has a label above 9.
    """
    with reading(path) as stream:
        return cifar_records(stream.read())


def cifar_records(data: bytes) -> tuple[Bytes, Labels]:
    """The images uint8 (N, 32, 32, 3) and labels int64 (N,) of CIFAR-10 records, one after another."""
    if not data or len(data) % CIFAR_RECORD:
        raise DataError(f"is no CIFAR-10 binary file: {len(data):,} bytes, no multiple of {CIFAR_RECORD:,}")
    records = np.frombuffer(data, np.uint8).reshape(-1, CIFAR_RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise DataError(f"is no CIFAR-10 binary file: record {labels.argmax()} has the label {labels.max()}")
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def read_members(path: PathLike, names: Collection[str], largest: int, limit: int = LIMIT) -> dict[str, bytes]:
    """Read the regular files `names` (without their folders) of a .tar.gz into memory, writing nothing.

    Other members are passed over. Raises DataError where a name is missing, not a regular file or over
    `largest` bytes, where the archive is damaged, or where it unpacks to more than `limit` bytes.
    """
    found: dict[str, bytes] = {}
    with reading(path, limit) as stream, tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as archive:
        for member in archive:
            name = Path(member.name).name
            if name not in names or name in found:
                continue
            if not member.isreg() or member.size > largest:
                raise DataError(f"its member {name} is not a file of at most {largest:,} bytes")
            content = archive.extractfile(member)
            found[name] = content.read() if content else b""
            if len(found) == len(names):
                break
        else:
            raise DataError(f"lacks {', '.join(sorted(set(names) - set(found)))}")
    return found


def _reason(error: BaseException) -> str:
    """A system's or library's message, without the path that ours has already."""
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__
