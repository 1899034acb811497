"""The form of the server's larger answers: a header in JSON, then arrays as they lie in memory.

4 bytes          length of the header, little-endian, padded with blanks to a multiple of 4
header           JSON; "arrays" lists {"name", "shape", "at"}: where each begins behind the header, in bytes
arrays           float32, little-endian, C order
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def packed(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """The answer's bytes. header: what JSON can hold. arrays: of any dtype and shape, made float32."""
    listed, parts, at = [], [], 0
    for name, array in arrays.items():
        part = np.ascontiguousarray(array, "<f4").tobytes()
        listed.append({"name": name, "shape": list(np.shape(array)), "at": at})
        parts.append(part)
        at += len(part)
    text = json.dumps({**header, "arrays": listed}, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([len(text).to_bytes(4, "little"), text, *parts])


def unpacked(answer: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of what `packed` made."""
    start = 4 + int.from_bytes(answer[:4], "little")
    header = json.loads(answer[4:start])
    arrays = {}
    for item in header.pop("arrays"):
        count = int(np.prod(item["shape"], dtype=np.int64))
        arrays[item["name"]] = np.frombuffer(answer, "<f4", count, start + item["at"]).reshape(item["shape"])
    return header, arrays
