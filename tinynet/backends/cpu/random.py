"""Counter-based randomness: NumPy's Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", 2011), read at a place computed from the sample's global index."""

from __future__ import annotations

import math
import threading

import numpy as np

from .memory import empty, like

_WORD = (1 << 64) - 1
_NOTHING = np.zeros(4, np.uint64)  # of a block that was begun


class _Own(threading.local):
    """A thread's generator. Making one asks the system for entropy, 80 µs in the midst of a training step."""

    def __init__(self) -> None:
        self.philox = np.random.Philox(0)


_own = _Own()


def random_bits(shape, seed, stream, step, first, *, out=None):
    size = math.prod(shape[1:])
    blocks = -(-size // 16)  # 4 words of 64 bits a block, 4 values a word
    start = (first * blocks | step << 128) - 1  # NumPy adds 1 to the counter before each block
    counter = np.array([start >> shift & _WORD for shift in (0, 64, 128, 192)], np.uint64)
    key = np.array([seed & _WORD, stream & _WORD], np.uint64)
    _own.philox.state = {
        "bit_generator": "Philox",
        "state": {"counter": counter, "key": key},
        "buffer": _NOTHING,
        "buffer_pos": 4,
        "has_uint32": 0,
        "uinteger": 0,
    }
    words = _own.philox.random_raw(shape[0] * blocks * 4).astype("<u8", copy=False)
    bits = words.view("<u2").reshape(shape[0], blocks * 16)[:, :size].reshape(shape)
    if out is None:
        return bits
    np.copyto(out, bits)
    return out


def dropout(x, rate, seed, stream, step, first):
    # As numbers: NumPy converts bools slowly in the midst of a product.
    mask = empty(x.shape, x.dtype)
    np.copyto(mask, random_bits(x.shape, seed, stream, step, first) >= round(rate * 65536))
    mask *= x.dtype.type(1 / (1 - rate) if rate < 1 else 0)
    return dropout_grad(x, mask), mask


def dropout_grad(g, saved, *, out=None):
    return np.multiply(g, saved, out=like(g) if out is None else out)
