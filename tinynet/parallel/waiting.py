"""How processes of one machine wait for each other: asleep in the kernel, on a number in memory that they share.

A futex on Linux (Franke, Russell & Kirkwood 2002); elsewhere a short nap. And the barrier between what was stored
before and what is stored next.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
import time
from typing import Any

NAP = 0.25  # seconds between two looks whether the others live
LIBC: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221}.get(platform.machine())
_WAIT, _WAKE = 0, 1


class _Seconds(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


if LIBC is not None and _FUTEX and sys.maxsize > 2**32:
    _call = LIBC.syscall
    _call.restype = ctypes.c_long
    _call.argtypes = [
        ctypes.c_long,
        ctypes.c_void_p,
        ctypes.c_long,
        ctypes.c_long,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_long,
    ]
    _nap = _Seconds(0, int(NAP * 1e9))

    def sleep(address: int, seen: int) -> None:
        """Until the counter's low half is no longer as seen (the kernel looks again first), or NAP is over."""
        _call(_FUTEX, address, _WAIT, seen & 0xFFFFFFFF, ctypes.addressof(_nap), None, 0)

    def wake(address: int) -> None:
        _call(_FUTEX, address, _WAKE, 0x7FFFFFFF, None, None, 0)
else:

    def sleep(address: int, seen: int) -> None:
        time.sleep(1e-4)

    def wake(address: int) -> None: ...


_lock = threading.Lock()


def fence() -> None:
    """Let all see what was stored before sooner than what is stored next, and read nothing early: taking and
    releasing a lock twice is a full memory barrier on every processor."""
    with _lock:
        pass
    with _lock:
        pass


def _start_afresh() -> None:
    """A copy of the process has no thread that would release a lock held when it was made."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
