"""Memory for large arrays, used again instead of asked for again.

The C library gives a large array fresh pages and takes them back when the array dies, so every step of
a training loop would have the system map and clear the same megabytes once more: an addition then costs
three times what its arithmetic does. Here the memory of a dead array goes to a pool, and the next array
of about that size is made from it.

When is an array dead? When nothing views its memory any more, and NumPy knows that already: a view keeps
the array it looks into alive, and that array keeps its `base`. So every array made here has as its base
a small *lease*, an object that does nothing but hold the place; when the last view is gone, so is the
lease, and a weak reference to it lands in the pool. Nothing that can still be reached is ever overwritten,
and no reference has to be counted by hand. (A finaliser in Python would do, too, but Ctrl-C may come just
when it runs, and what is raised there is lost.)

Memory is kept in size classes, eight to an octave, so that arrays of nearly the same size (the last,
smaller batch) share it; at most an eighth of a block lies idle. What was not needed for `KEEP_SECONDS`
goes back to the system at the next request, and half of what is idle does when most of the pool is: batches
of ever other sizes would fill it with blocks that fit none of the next ones.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
import weakref
from typing import Any

import numpy as np

from ..switches import Switch

POOLED = 1 << 16  # bytes; smaller arrays are cheap to make, NumPy keeps their memory itself
ALIGN = 64  # bytes: a cache line, and the widest vector register
KEEP_SECONDS = 10.0
IDLE = 1 << 26  # bytes; less may lie idle in any case
CHECK_EVERY = 256  # leases between two looks at the clock

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


class _Ref(weakref.ref):
    """A reference to a lease that knows the address."""

    __slots__ = ("address",)
    address: int


class _SizeClass:
    """The blocks of one size: the memory behind each, by its address, with the reference to its last lease, which
    is in `free` when that is over."""

    __slots__ = ("blocks", "free", "give_back", "lowest", "place", "refs", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.blocks: dict[int, np.ndarray] = {}
        self.refs: dict[int, _Ref] = {}
        self.free: list[Any] = []
        self.give_back = self.free.append  # in C: atomic, so a lease may end in any thread and at any moment
        self.lowest = 0  # the fewest free blocks since the last sweep: so many were not needed
        self.place: Any = (ctypes.c_char * size).from_address

    def grow(self) -> int:
        """The aligned address of a new block."""
        block = np.empty(self.size + ALIGN, np.uint8)  # NumPy asks for huge pages where they pay
        address = -(-block.ctypes.data // ALIGN) * ALIGN
        self.blocks[address] = block
        return address

    def shrink(self, count: int) -> None:
        """Gives up to `count` free blocks back to the system, those that waited longest first."""
        for _ in range(count):
            try:
                ref = self.free.pop(0)
            except IndexError:  # another thread took it meanwhile
                break
            address = getattr(ref, "address", 0)
            self.refs.pop(address, None)
            self.blocks.pop(address, None)
        self.lowest = len(self.free)


_classes: dict[int, _SizeClass] = {}
_leases = 0
_misses = 0
_most = 0  # bytes
_next_check = CHECK_EVERY
_last_sweep = time.monotonic()


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised C-contiguous array; a large one is aligned and its memory comes from the pool."""
    global _leases
    if not isinstance(dtype, np.dtype):
        dtype = np.dtype(dtype)
    nbytes = int(math.prod(shape)) * dtype.itemsize
    if nbytes < POOLED or not set_pool.now or dtype.hasobject:
        return np.empty(shape, dtype)
    shift = nbytes.bit_length() - 4
    size = -(-nbytes >> shift) << shift
    _leases += 1
    try:
        kept = _classes[size]
        free = kept.free
        address = free.pop().address
        if len(free) < kept.lowest:
            kept.lowest = len(free)
    except (KeyError, IndexError, AttributeError):  # the last: Ctrl-C came just when that lease was made, see below
        kept, address = _miss(size)
    if _leases >= _next_check:
        _look_at_the_clock()
    lease = kept.place(address)
    ref = kept.refs[address] = _Ref(lease, kept.give_back)
    ref.address = address
    return np.ndarray(shape, dtype, lease)


def like(x: Any, y: Any = None) -> np.ndarray | None:
    """Where an elementwise operation on x (and y) should write: an array of the pool for a large
    floating-point result, or None, which lets the ufunc make its own small (or unusual) one."""
    if type(x) is not np.ndarray:
        return like(y) if type(x) in (int, float) and y is not None else None
    if type(y) is not np.ndarray:
        if x.nbytes < POOLED or x.dtype.kind != "f" or not (y is None or type(y) in (int, float)):
            return None
        return empty(x.shape, x.dtype)
    if x.nbytes < POOLED and y.nbytes < POOLED:
        return None
    shape = x.shape if x.shape == y.shape else np.broadcast_shapes(x.shape, y.shape)
    dtype = x.dtype if x.dtype is y.dtype else np.result_type(x, y)
    return empty(shape, dtype) if dtype.kind == "f" else None


def trim() -> None:
    """Gives all free memory back to the system, also what glibc keeps of it; leased memory stays."""
    _drop()
    if _malloc_trim is not None:
        _malloc_trim(0)


def _drop() -> None:
    for kept in list(_classes.values()):
        kept.shrink(len(kept.free))


def stats() -> dict[str, int]:
    """Counts since the start (`leases`, and `misses` that asked the system) and bytes held now."""
    classes = list(_classes.values())
    return {
        "leases": _leases,
        "misses": _misses,
        "hits": _leases - _misses,
        "bytes_held": sum(c.size * len(c.blocks) for c in classes),
        "bytes_free": sum(c.size * len(c.free) for c in classes),
    }


class set_pool(Switch, title="memory_pool"):
    """`set_pool(False)` makes every array NumPy's own, from now on or for a `with` block; leases of before live on as
    they would."""

    now = True

    def __init__(self, flag: bool):
        super().__init__(bool(flag))


def _miss(size: int) -> tuple[_SizeClass, int]:
    """A block of `size` from the system; where that has none left, after giving back what is free."""
    global _misses
    _misses += 1
    _give_back_idle(size)
    kept = _classes.get(size) or _classes.setdefault(size, _SizeClass(size))
    try:
        return kept, kept.grow()
    except MemoryError:
        trim()
        return kept, kept.grow()


def _give_back_idle(size: int) -> None:
    """Half of the free blocks, before another is made, where the pool holds twice the most that was leased at a miss in
    the last `KEEP_SECONDS`."""
    global _most
    held, free = 0, 0
    for kept in list(_classes.values()):
        held += kept.size * len(kept.blocks)
        free += kept.size * len(kept.free)
    _most = max(_most, held - free + size)
    if free > IDLE and held > 2 * _most:
        for kept in list(_classes.values()):
            kept.shrink(-(-len(kept.free) // 2))


def _look_at_the_clock() -> None:
    """Every `KEEP_SECONDS`, gives back the blocks that stayed free for all that time."""
    global _next_check, _last_sweep, _most
    _next_check = _leases + CHECK_EVERY
    now = time.monotonic()
    if now - _last_sweep >= KEEP_SECONDS:
        _last_sweep = now
        _most = 0
        for kept in list(_classes.values()):
            kept.shrink(kept.lowest)


if hasattr(os, "register_at_fork"):  # a child would otherwise copy every free page that it writes to
    os.register_at_fork(after_in_child=_drop)
