"""A stand-in for CuPy that needs no GPU: `sys.modules["cupy"]` while a test runs the real `cupy_launcher.py`.

It has what the launcher and the GPU benchmarks call, on the device of `fake_cuda.py`; kernels run on the simulator's
compiled libraries. Where CuPy and CUDA are strict, or careless, so is this:

- A queued copy reads pinned memory when it runs; pageable memory is read when it is queued.
- A kernel takes bytes: an argument of another size than its source declares is refused, one of another kind misread.
- A name that a module was not asked for (`name_expressions`) is not found, since C++ mangles names.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import struct
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests import fake_cuda as gpu
from tests.fake_cuda import Event, Graph, Stream
from tinynet.backends.cuda import sources
from tinynet.backends.cuda.devicearray import DeviceArray
from tinynet.backends.cuda.launcher import CTYPES, KernelError, resolve
from tinynet.backends.cuda.simulator import SimulatorLauncher

__version__ = "14.2.0"


class CompileException(Exception):
    """NVRTC's messages."""


# ---- arrays ------------------------------------------------------------------------------------------------------


class _Pointer:
    """`array.data`."""

    def __init__(self, ptr: int, memory: Any = None):
        self.ptr, self.memory = ptr, memory  # which it keeps

    def __add__(self, nbytes: int) -> _Pointer:
        return _Pointer(self.ptr + nbytes, self.memory)

    def memset_async(self, value: int, size: int, stream: Stream | None = None) -> None:
        (stream or gpu.current[-1]).put(lambda: ctypes.memset(self.ptr, value, size))

    def copy_from_device_async(self, source: _Pointer, size: int, stream: Stream | None = None) -> None:
        (stream or gpu.current[-1]).put(lambda: ctypes.memmove(self.ptr, source.ptr, size))


class ndarray(DeviceArray):
    """Device memory, which arithmetic and NumPy's functions are refused on, as on the simulator's."""

    def __new__(cls, shape: Any, dtype: Any, memptr: _Pointer) -> ndarray:
        offset = memptr.ptr - memptr.memory.__array_interface__["data"][0]
        return np.ndarray.__new__(cls, shape, dtype, memptr.memory, offset)  # type: ignore[arg-type]

    @property
    def data(self) -> _Pointer:  # type: ignore[override]
        root = self
        while isinstance(root, ndarray):
            root = root.base
        return _Pointer(self.__array_interface__["data"][0], root)

    def set(self, host: np.ndarray, stream: Stream | None = None) -> None:
        if host.shape != self.shape or host.dtype != self.dtype or not host.flags.c_contiguous:
            raise ValueError("set: another shape, dtype or order")
        stream, to, source = stream or gpu.current[-1], self.data.ptr, host.__array_interface__["data"][0]
        if not gpu.device.is_pinned(host):
            gpu.device.forbid("copying pageable memory", stream.graph is not None)
            gpu.device.pageable += 1
            kept = host.copy()
            stream.put(lambda: ctypes.memmove(to, kept.ctypes.data, kept.nbytes))
        else:
            size = host.nbytes
            stream.put(lambda: ctypes.memmove(to, source, size))

    def get(
        self, stream: Stream | None = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True
    ) -> np.ndarray:
        host: np.ndarray = np.empty(self.shape, self.dtype) if out is None else out
        stream, to, source = stream or gpu.current[-1], host.__array_interface__["data"][0], self.data.ptr
        wait = blocking or not gpu.device.is_pinned(host)
        gpu.device.forbid("reading an array", wait and (stream.graph is not None or stream.number == 0))
        stream.put(lambda: ctypes.memmove(to, source, host.nbytes))
        if wait:
            stream.synchronize()
        return host


def empty(shape: Any, dtype: Any = np.float64) -> ndarray:
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    chunk = gpu.device.allocate(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    return np.ndarray.__new__(ndarray, shape, dtype, chunk)  # type: ignore[arg-type]


def asarray(host: np.ndarray, dtype: Any = None) -> ndarray:
    gpu.device.forbid("copying pageable memory", gpu.current[-1].graph is not None)
    host = np.array(host, dtype, order="C")
    array = empty(host.shape, host.dtype)
    array.set(host)
    return array


def asnumpy(array: Any, stream: Stream | None = None, order: str = "C") -> np.ndarray:
    return array.get(stream, order) if isinstance(array, ndarray) else np.asarray(array, order=order)


def get_default_memory_pool() -> Any:
    return SimpleNamespace(
        used_bytes=lambda: gpu.device.used,
        free_bytes=lambda: gpu.device.taken - gpu.device.used,
        total_bytes=lambda: gpu.device.taken,
        free_all_blocks=gpu.device.free_all,
    )


# ---- kernels -----------------------------------------------------------------------------------------------------


class RawModule:
    """A source text, compiled when a function of it is asked for."""

    def __init__(self, *, code: str, options: tuple[str, ...] = (), name_expressions: Any = None):
        self.code, self.options, self.names = code, options, tuple(name_expressions or ())

    def get_function(self, name: str) -> RawKernel:
        gpu.device.forbid("loading a module")
        halves = "half" in name or "bfloat16" in name
        if "--std=c++17" not in self.options or (halves and "-DTINYNET_HALF" not in self.options):
            raise CompileException(f"{name}: error: needs C++17, and TINYNET_HALF for the half types: {self.options}")
        if name not in self.names:
            raise gpu.CUDADriverError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        return RawKernel(self.code, name)


class RawKernel:
    """A kernel's function. One that only spends time (it reads the clock) does nothing here."""

    def __init__(self, code: str, name: str):
        self.name, self.idle = name, "clock64" in code
        self.max_dynamic_shared_size_bytes = 48 * 1024
        if self.idle:
            return
        file = re.match(r'#line 1 "(.*?)"\n', code)[1]  # type: ignore[index]
        base, _, values = name.rstrip(">").partition("<")
        own = sources.kernels(code).get(base)
        if own is None:
            raise CompileException(f'name "{base}" is not defined')
        self.arguments = own.arguments
        self.template = dict(zip(own.template, (v.strip() for v in values.split(",")), strict=False))
        short = file.removeprefix("kernels/")
        if file != short and code != sources.cuda_text(sources.read(short), file):
            raise CompileException(f"{file}: another text than the file's")
        launcher = (
            simulator()
            if file != short
            else SimulatorLauncher({file: {}}, {file: code.rpartition(f'#line 1 "{file}"\n')[2]}, check=False)
        )
        try:
            self.run = launcher.compile(short, own, name)
        except KernelError as error:
            raise CompileException(str(error)) from error

    def __call__(self, grid: Any, block: Any, args: tuple, *, shared_mem: int = 0) -> None:
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise gpu.CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        if self.idle:
            gpu.current[-1].put(lambda: None)
            return
        if len(args) != len(self.arguments):
            raise AssertionError(f"{self.name} takes {len(self.arguments)} arguments, was given {len(args)}")
        gpu.device.launched.append((self.name, grid, block, shared_mem))
        packed = [self._packed(a, v) for a, v in zip(self.arguments, args, strict=True)]
        gpu.current[-1].put(lambda: self.run(grid, block, shared_mem, None, packed))

    def _packed(self, argument: sources.Argument, value: Any) -> bytes:
        """What the kernel would find in an argument's place, as the simulator wants it."""
        if isinstance(value, ndarray):
            given = struct.pack("P", value.data.ptr)
        elif isinstance(value, bool | int | float | np.generic | np.ndarray):
            given = np.asarray(value).tobytes()  # as CuPy: Python's as int64, double and bool, NumPy's as they are
        else:
            raise TypeError(f"{self.name}: {argument.name}: unsupported type {type(value)}")
        ctype = resolve(argument.ctype, self.template)
        ints = re.fullmatch(r"Ints\s*<\s*(\d+)\s*>", ctype)
        size = 8 if argument.access else 8 * int(ints[1]) if ints else CTYPES[ctype].itemsize
        if len(given) != size:
            raise AssertionError(f"{self.name}: {argument.name} has {size} bytes, was given {len(given)}: {value!r}")
        if argument.access:
            return given + struct.pack("q", value.size if isinstance(value, ndarray) else 0)
        return given + bytes(-size % 16)


_simulator: list[SimulatorLauncher] = []


def simulator() -> SimulatorLauncher:
    """The launcher whose compiled libraries all devices share."""
    if not _simulator:
        _simulator.append(SimulatorLauncher(check=False))
    return _simulator[0]


# ---- for the benchmarks ------------------------------------------------------------------------------------------


def zeros(shape: Any, dtype: Any = np.float64) -> ndarray:
    array = empty(shape, dtype)
    array.data.memset_async(0, array.nbytes)
    return array


def copyto(to: ndarray, source: ndarray) -> None:
    to.data.copy_from_device_async(source.data, source.nbytes)


def matmul(x: ndarray, y: ndarray, out: ndarray) -> None:
    """cuBLAS's product, which takes time and computes nothing here."""
    gpu.device.forbid("cuBLAS", gpu.current[-1].graph is not None)


uint8, float32 = np.uint8, np.float32
random = SimpleNamespace(rand=lambda *shape, dtype: zeros(shape, dtype))
empty_like = lambda x: empty(x.shape, x.dtype)  # noqa: E731


# ---- the module --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def installed(schedule: str = "eager", **options: Any) -> Iterator[gpu._Device]:
    """This module as `cupy`, with a new device. Of a CuPy that was imported no part is seen meanwhile."""
    others = {
        name: sys.modules.pop(name)
        for name in list(sys.modules)
        if name.partition(".")[0] in ("cupy", "cupyx", "cupy_backends")
    }
    sys.modules["cupy"] = sys.modules[__name__]
    try:
        yield gpu.start(schedule, **options)
    finally:
        del sys.modules["cupy"]
        sys.modules.update(others)


cuda = SimpleNamespace(
    Stream=Stream,
    Event=Event,
    Graph=Graph,
    MemoryPool=gpu.MemoryPool,
    using_allocator=gpu.using_allocator,
    get_current_stream=lambda: gpu.current[-1],
    alloc_pinned_memory=gpu.alloc_pinned_memory,
    get_cuda_path=lambda: "/usr/local/cuda",
    get_elapsed_time=lambda start, end: 1e3 * (end.time - start.time),
    Device=lambda: SimpleNamespace(id=0, synchronize=lambda: gpu.device.synchronize()),
    memory=SimpleNamespace(OutOfMemoryError=gpu.OutOfMemoryError),
    compiler=SimpleNamespace(CompileException=CompileException),
    nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
    runtime=SimpleNamespace(
        CUDARuntimeError=gpu.CUDARuntimeError,
        getDeviceCount=lambda: 1,
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13000,
        memGetInfo=lambda: (gpu.device.total - gpu.device.taken, gpu.device.total),
        getDeviceProperties=lambda _: {
            "name": b"stand-in",
            "multiProcessorCount": 1,
            "l2CacheSize": 1 << 20,
            "totalGlobalMem": gpu.device.total,
        },
    ),
)
