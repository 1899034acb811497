"""The launcher that runs kernels on a GPU, through CuPy: its arrays, memory pool, streams and compiler."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ...folders import cache_folder, temporary_folder
from ..errors import BackendError, CaptureError
from . import sources
from .launcher import KernelError, Launcher
from .table import TABLE, Entry

OLDEST = (14, 2)  # of CuPy: from here on compiled kernels are kept between processes
OPTIONS = ("--std=c++17",)
LARGE = 1 << 20  # bytes of a batch that a thread copies: it takes longer than to start one
DEFAULT_SHARED = 48 * 1024  # bytes of shared memory that a kernel gets without asking


class CupyLauncher(Launcher):
    """Runs kernels on the current CUDA device. Raises BackendError where there is none."""

    name = "cupy"

    def __init__(self, table: dict[str, dict[str, Entry]] = TABLE, texts: dict[str, str] | None = None):
        super().__init__(table, texts)
        self.cupy = import_cupy()
        self.arraytype = self.cupy.ndarray
        self._lanes: list[_Lane] = []  # those that no `ahead` uses

    # ---- arrays ----------------------------------------------------------------------------------

    def empty(self, shape: Any, dtype: Any) -> Any:
        """A new array from CuPy's pool; its contents are arbitrary."""
        with self._memory(shape, dtype):
            return self.cupy.empty(shape, dtype)

    def zeros(self, shape: Any, dtype: Any) -> Any:
        """A new array whose bytes are zero."""
        array = self.empty(shape, dtype)
        array.data.memset_async(0, array.nbytes)
        return array

    def part(self, flat: Any, start: int, shape: Any) -> Any:
        """An array on the memory of a flat one, elements from `start` on; a view of none."""
        return self.cupy.ndarray(shape, flat.dtype, flat.data + start * flat.dtype.itemsize)

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        """A host array's contents as a new array here; an array of this launcher as it is."""
        if isinstance(array, self.arraytype) and dtype in (None, array.dtype):
            return array
        host = np.asarray(array, dtype, order="C")
        self.refuse(
            f"moves a host array of shape {host.shape} to the device; pass it as an argument, or move it before"
        )
        with self._memory(host.shape, host.dtype):
            return self.cupy.asarray(host)

    def asnumpy(self, array: Any) -> np.ndarray:
        """A copy on the host; waits for the work that makes it."""
        self.refuse(
            f"reads an array of shape {array.shape} on the host (item, numpy, print, float); return it, read it later"
        )
        return self.cupy.asnumpy(array, order="C")

    def copyto(self, to: Any, source: Any, stream: Any = None) -> None:
        """Copy bytes between arrays of one shape and dtype, here or on the host, in the order of the stream.

        From pinned host memory this returns at once: the source must stay as it is until the copy ran.
        """
        if to.shape != source.shape or to.dtype != source.dtype:
            raise ValueError(f"copyto: {source.shape} {source.dtype} does not fit {to.shape} {to.dtype}")
        if not (to.flags.c_contiguous and source.flags.c_contiguous):
            raise ValueError("copyto moves bytes: both arrays must be C-contiguous")
        stream = stream or self.cupy.cuda.get_current_stream()
        if not (isinstance(to, self.arraytype) and isinstance(source, self.arraytype)):
            self.refuse("copies between host and device; pass the array as an argument, or return it")
        if not isinstance(to, self.arraytype):
            source.get(stream=stream, out=to)
        elif not isinstance(source, self.arraytype):
            to.set(source, stream=stream)
        else:
            to.data.copy_from_device_async(source.data, source.nbytes, stream)

    def ahead(self, batches: Iterable[tuple]) -> Iterator[tuple]:
        """(x, y) with x on the device: copied from pinned memory, on a stream of its own, one batch ahead.

        A pinned buffer is written again only after the copy from it has ended; the new array's memory may have
        been another's a moment ago, so the copy first waits for the steps that were queued before it. The stream
        and its buffers are kept for the next `ahead`: however this one ends, it waits for the copies first.
        """
        cuda = self.cupy.cuda
        self.refuse("draws batches that are copied to the device; draw them outside, and pass each as an argument")
        try:
            lane = self._lanes.pop()
        except IndexError:  # the first, or one beside another
            lane = _Lane(cuda)
        waiting: deque[tuple] = deque()
        try:
            for source, pinned, y in lane.filled(batches):
                lane.stream.wait_event(cuda.get_current_stream().record())
                with lane.stream:
                    array = self.empty(source.shape, source.dtype)
                    array.set(source, stream=lane.stream)
                pinned.copied = lane.stream.record()
                waiting.append((array, y, pinned.copied))
                if len(waiting) > 1:
                    yield self._arrived(*waiting.popleft())
            while waiting:
                yield self._arrived(*waiting.popleft())
        finally:
            lane.stream.synchronize()
            self._lanes.append(lane)

    def _arrived(self, array: Any, y: Any, copied: Any) -> tuple:
        self.cupy.cuda.get_current_stream().wait_event(copied)
        return array, y

    def graph(self) -> Graph:
        """A graph that repeats what a function does."""
        return Graph(self)

    def refuse(self, what: str) -> None:
        """Raise CaptureError where a graph is recorded, in which there is no such thing."""
        if self.recording is not None:
            self.recording.refuse(what)

    def synchronize(self) -> None:
        """Wait until the work of the current stream is done."""
        self.refuse("waits for the device; do so outside")
        self.cupy.cuda.get_current_stream().synchronize()

    @contextlib.contextmanager
    def _memory(self, shape: Any, dtype: Any) -> Iterator[None]:
        try:
            yield
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            pool = self.cupy.get_default_memory_pool()
            free, total = self.cupy.cuda.runtime.memGetInfo()
            asked = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            raise MemoryError(
                f"the GPU is out of memory: an array {shape} {np.dtype(dtype)} asks for {asked / 1e6:.1f} MB; tinynet"
                f" uses {pool.used_bytes() / 1e6:.1f} MB and keeps {pool.free_bytes() / 1e6:.1f} MB for reuse; of the"
                f" device's {total / 1e6:.1f} MB {free / 1e6:.1f} MB are free. Use a smaller batch, wrap inference in"
                " tn.no_grad(), or end other programs on this GPU (nvidia-smi lists them)"
            ) from error

    # ---- kernels ---------------------------------------------------------------------------------

    def compile(self, file: str, kernel: sources.Kernel, name: str) -> Callable[..., None]:
        cupy = self.cupy
        self.refuse(f"needs the kernel {name}, which its first calls did not; it must take the same way each time")
        text = self.texts.get(file)
        own = file if text is not None else f"kernels/{file}"
        module = cupy.RawModule(
            code=sources.cuda_text(sources.read(file) if text is None else text, own),
            options=options(name),
            name_expressions=(name,),  # of a kernel without a template too: C++ mangles its name as well
        )
        try:
            function = module.get_function(name)
        except cupy.cuda.compiler.CompileException as error:
            raise KernelError(f"the kernel does not compile:\n{error}") from error

        def run(grid: Any, block: Any, shared: int, stream: Any, arguments: list) -> None:
            if shared > DEFAULT_SHARED and function.max_dynamic_shared_size_bytes < shared:
                function.max_dynamic_shared_size_bytes = shared
            with stream or contextlib.nullcontext():
                function(grid, block, tuple(arguments), shared_mem=shared)

        return run

    def pointer(self, array: Any) -> Any:
        return np.uint64(0) if array is None else array


class Graph:
    """What a function does on the device, recorded once and then repeated as a whole.

    `warm` runs the function in the stream where it will be recorded, so that its kernels are loaded and the graph's
    memory is taken. `record` runs its Python once more: what it launches is written down, with all arguments, and not
    run. `replay` queues that. Its arrays lie in memory of the graph's own, which nothing else gets while it lives.

    Attributes:
        groups: the optimisers' groups that made a step while the function ran.
    """

    def __init__(self, launcher: CupyLauncher):
        cuda = launcher.cupy.cuda
        self.launcher, self.stream, self.pool = launcher, cuda.Stream(non_blocking=True), cuda.MemoryPool()
        self.groups: list[Any] = []
        self.capturing = False
        self.refused: CaptureError | None = None
        self.recorded: Any = None

    def warm(self, function: Callable[[], Any]) -> Any:
        """The function's result; it runs as ever, in the graph's stream and memory."""
        with self._alone():
            return function()

    def record(self, function: Callable[[], Any]) -> Any:
        """The function's result: arrays that each `replay` fills. Raises CaptureError for what no graph can hold."""
        error: Exception | None = None
        with self._alone():
            self.stream.begin_capture()
            self.capturing = True
            try:
                result = function()
            except Exception as caught:
                error = caught
            finally:
                self.capturing = False
                try:
                    self.recorded = self.stream.end_capture()
                except self.launcher.cupy.cuda.runtime.CUDARuntimeError as caught:
                    error = error or caught
        if self.refused is not None:
            raise self.refused from (None if error is self.refused else error)
        if error is not None and "StreamCapture" in str(error):
            raise CaptureError(
                "capture: the function does what no graph can hold (its calls must be alike, take no new memory after"
                f" the first two, and leave the host out): {error}"
            ) from error
        if error is not None:
            raise error
        return result

    def refuse(self, what: str) -> None:
        """Raise CaptureError while the graph is recorded; who catches it saves nothing."""
        if self.capturing:
            self.refused = self.refused or CaptureError(f"capture: the function {what}")
            raise self.refused

    def replay(self) -> None:
        """Queue all that was recorded, in the current stream."""
        self.recorded.launch(self.launcher.cupy.cuda.get_current_stream())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Within, work goes to the graph's stream, behind what was queued so far, and new arrays to its memory."""
        cuda, launcher = self.launcher.cupy.cuda, self.launcher
        before = cuda.get_current_stream()
        self.stream.wait_event(before.record())
        self.groups, launcher.recording = [], self
        try:
            with self.stream, cuda.using_allocator(self.pool.malloc):
                yield
        finally:
            launcher.recording = None
            before.wait_event(self.stream.record())


class _Lane:
    """A stream that copies to the device, and the pinned buffers that it copies from, in turn."""

    def __init__(self, cuda: Any):
        self.stream = cuda.Stream(non_blocking=True)
        self.buffers = deque(_Pinned(cuda) for _ in range(3))

    def filled(self, batches: Iterable[tuple]) -> Iterator[tuple]:
        """(x's values in pinned memory, the buffer which that is, y) of each batch (x, y). While one is used the next
        is copied there, by a thread where that takes long; then only the one after it is drawn."""
        last = None
        for x, y in batches:
            self.buffers.rotate()
            pinned = self.buffers[0]
            source = pinned.holding(x)
            if last is not None:
                yield last
            pinned.join()
            last = source, pinned, y
        if last is not None:
            yield last


class _Pinned:
    """A buffer of page-locked host memory, from which the device copies by itself."""

    def __init__(self, cuda: Any):
        self.cuda = cuda
        self.memory: Any = None
        self.copied: Any = None
        self.thread: threading.Thread | None = None  # that copies values here

    def join(self) -> None:
        """Wait until the values are here."""
        if self.thread is not None:
            self.thread.join()
        self.thread = None

    def holding(self, x: np.ndarray) -> np.ndarray:
        """x's values in this buffer after `join`. Waits until the copy that last read it has ended."""
        self.join()
        if self.copied is not None:
            self.copied.synchronize()
        if self.memory is None or self.memory.size() < x.nbytes:
            self.memory = self.cuda.alloc_pinned_memory(max(x.nbytes, 1))
        array: np.ndarray = np.frombuffer(self.memory, x.dtype, x.size).reshape(x.shape)
        if x.nbytes < LARGE:
            np.copyto(array, x)
        else:
            self.thread = threading.Thread(target=np.copyto, args=(array, x), name="tinynet-pinned", daemon=True)
            self.thread.start()
        return array


def options(name: str) -> tuple[str, ...]:
    """The compiler's options for a kernel: the 16-bit types come with large headers, so only on demand."""
    return (*OPTIONS, "-DTINYNET_HALF") if "half" in name or "bfloat16" in name else OPTIONS


def import_cupy() -> Any:
    """CuPy with a device and a compiler that it can use; BackendError says what is missing otherwise.

    Looks without starting anything on the device, so that a process which only asks may still be forked.
    """
    give_cache()
    try:
        import cupy
    except ImportError as error:
        if error.name not in (None, "cupy"):
            raise BackendError(f"CuPy is installed but does not load: {error}") from error
        raise BackendError(
            "the cupy backend needs CuPy: pip install 'tinynet[gpu]' (CUDA 12) or 'tinynet[gpu13]' (CUDA 13);"
            ' without a GPU, tn.use("simulator") runs the same kernels on the CPU'
        ) from error
    version = tuple(int(part) for part in cupy.__version__.split(".")[:2])
    if version < OLDEST:
        raise BackendError(
            f"the cupy backend needs CuPy {'.'.join(map(str, OLDEST))} or newer; this is {cupy.__version__}:"
            " pip install --upgrade 'tinynet[gpu]'"
        )
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(why_no_device(str(error))) from error
    if not devices:
        raise BackendError(why_no_device("cudaErrorNoDevice"))
    missing = missing_toolkit(cupy)
    if missing:
        raise BackendError(
            f"the cupy backend compiles its kernels with NVRTC, for which {missing}: pip install 'tinynet[gpu]' (CUDA"
            " 12) or 'tinynet[gpu13]' (CUDA 13) brings both it and its headers, or CUDA_PATH says where a toolkit is"
        )
    return cupy


def give_cache() -> None:
    """Tell CuPy where to keep compiled kernels in a process without a home, where it would use a folder called `~`."""
    if "CUPY_CACHE_DIR" not in os.environ and not os.path.isabs(os.environ.get("HOME", "")):
        os.environ["CUPY_CACHE_DIR"] = str(cache_folder("cupy") or temporary_folder() / "cupy")


def missing_toolkit(cupy: Any) -> str | None:
    """What CuPy would miss at the first compilation (NVRTC, CUDA's headers), found as CuPy finds it; or None."""
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # of several kinds, by how the library is looked for
        return f"the library was not found ({' '.join(str(error).split())[:200]})"
    if cupy.cuda.get_cuda_path() is None:
        from cuda import pathfinder  # comes with CuPy

        if pathfinder.find_nvidia_header_directory("cudart") is None:
            return "CUDA's headers were not found"
    return None


def why_no_device(error: str) -> str:
    """What a CUDA error at the first call means, and what helps."""
    if "InsufficientDriver" in error:
        reason = (
            "no NVIDIA driver, or one too old for this CuPy, was found: `nvidia-smi` names the driver and the CUDA"
            " version it serves; update it, or install the CuPy for that version (tinynet[gpu]: 12, tinynet[gpu13]: 13)"
        )
    elif "NoDevice" in error:
        reason = (
            "the driver finds no CUDA device: `nvidia-smi` should list one, and CUDA_VISIBLE_DEVICES must not hide it"
        )
    else:
        reason = f"CUDA does not start: {error}"
    return f'the cupy backend needs a GPU; {reason}. Without one, tn.use("simulator") runs the same kernels on the CPU'
