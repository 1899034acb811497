"""The cupy backend in a process without a GPU, so that the tests marked `gpu` run there:

    TINYNET_CUPY_ON_HOST=arrays python -m pytest -m gpu -p tests.cupy_on_host

`stand-in` is `fake_cupy.py`, whose arrays are the simulator's. `arrays` are those of CuPy's wheel, over host memory:
what CuPy makes of shapes, strides, views and attributes is real, and whatever would launch a kernel of CuPy's own
raises, as there is no driver. Compiling, copies and `ahead` are the simulator's then.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

import tinynet as tn
from tinynet.backends.cuda import Cuda
from tinynet.backends.cuda.cupy_launcher import CupyLauncher
from tinynet.backends.cuda.launcher import Launcher
from tinynet.backends.cuda.simulator import SimulatorLauncher


def stand_in(schedule: str = "random") -> None:
    """The stand-in as `cupy`, for good."""
    from tests import fake_cupy

    sys.modules["cupy"] = fake_cupy
    fake_cupy.gpu.start(schedule, total=1 << 34)
    fake_cupy.simulator().prepare()


class OnHost(CupyLauncher):
    """Real CuPy arrays; the simulator's kernels."""

    def __init__(self) -> None:
        import cupy

        Launcher.__init__(self)
        self.cupy, self.arraytype, self.simulator = cupy, cupy.ndarray, SimulatorLauncher(check=False)
        self.simulator.prepare()

    def empty(self, shape: Any, dtype: Any) -> Any:
        host = np.full(max(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize, 1), 0xFF, np.uint8)
        memory = self.cupy.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host, 0)
        return self.cupy.ndarray(shape, dtype, self.cupy.cuda.MemoryPointer(memory, 0))

    def zeros(self, shape: Any, dtype: Any) -> Any:
        return self.asarray(np.zeros(shape, dtype))

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        if isinstance(array, self.arraytype) and dtype in (None, array.dtype):
            return array
        host = np.asarray(array, dtype, order="C")
        made = self.empty(host.shape, host.dtype)
        self.copyto(made, host)
        return made

    def asnumpy(self, array: Any) -> np.ndarray:
        return np.array(self.seen(array)) if isinstance(array, self.arraytype) else np.asarray(array)

    def copyto(self, to: Any, source: Any, stream: Any = None) -> None:
        np.copyto(self.seen(to), self.seen(source))

    def ahead(self, batches: Any) -> Any:
        for x, y in batches:
            yield self.asarray(x), y

    def synchronize(self) -> None:
        pass

    def compile(self, file: str, kernel: Any, name: str) -> Any:
        run = self.simulator.compile(file, kernel, name)

        def packed(grid: Any, block: Any, shared: int, stream: Any, arguments: list) -> None:
            pairs = zip(kernel.arguments, arguments, strict=True)
            run(grid, block, shared, stream, [self._packed(*pair) for pair in pairs])

        return packed

    def _packed(self, argument: Any, value: Any) -> bytes:
        if argument.access:
            return self.simulator.pointer(self.seen(value) if isinstance(value, self.arraytype) else None)
        return self.simulator.scalar(value)

    def seen(self, array: Any) -> np.ndarray:
        """A CuPy array's memory as the host sees it."""
        if not isinstance(array, self.arraytype):
            return np.asarray(array)
        import ctypes

        assert array.flags.c_contiguous
        room = (ctypes.c_char * max(array.nbytes, 1)).from_address(array.data.ptr)
        return np.frombuffer(room, array.dtype, array.size).reshape(array.shape)


if os.environ.get("TINYNET_CUPY_ON_HOST") == "arrays":  # as a plugin, before tests are collected
    tn.backends._loaded["cupy"] = Cuda("cupy", OnHost())
elif os.environ.get("TINYNET_CUPY_ON_HOST") == "stand-in":
    stand_in()
