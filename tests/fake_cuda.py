"""The device of the stand-in for CuPy (`fake_cupy.py`): streams, events, graphs and memory, as late as a GPU may be.

Kernels, copies and events are queued in their stream and run when the schedule says so. What CUDA leaves open is
left open here:

- Each stream has an arena. Memory that an array leaves is at once another's of that arena, whatever is queued.
- A pinned buffer that is let go is at once another's.
- Between `begin_capture` and `end_capture` work is recorded and not run; new memory, waiting, reading, copies of
  pageable memory and loading a module are refused, and what was refused spoils the capture. (CUDA's strictest mode.)

`start(schedule)` begins a new device.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# When queued work runs, but for work that somebody waits for:
SCHEDULES = {
    "eager": "at once, the youngest stream's first",
    "lazy": "never",
    "copies first": "at once on the streams that were made; on the null stream never",
    "kernels first": "at once on the null stream; on the others never",
    "random": "now and then, on any stream",
}


class CUDARuntimeError(RuntimeError):
    """An error of CUDA's runtime."""


class CUDADriverError(RuntimeError):
    """An error of CUDA's driver."""


class OutOfMemoryError(MemoryError):
    """The device has no such memory left."""


# ---- the device --------------------------------------------------------------------------------------------------


class _Device:
    """Streams, their arenas, and pinned memory. `refuse` allocations fail as if the memory were used up."""

    def __init__(self, schedule: str, seed: int, total: int):
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule {schedule!r} is none of {', '.join(SCHEDULES)}")
        self.schedule, self.rng, self.total, self.refuse = schedule, np.random.default_rng(seed), total, 0
        self.streams: list[Stream] = []
        self.arenas: defaultdict[tuple[Any, int, int], list] = defaultdict(list)  # (pool, stream, size) → free memory
        self.released: defaultdict[int, list] = defaultdict(
            list
        )  # by size: memory of the device, which any pool may take
        self.pool: MemoryPool | None = None  # that new arrays come from, if not the default one
        self.taken = self.used = 0  # bytes of the device, of arrays
        self.pinned: list[np.ndarray] = []
        self.free_pinned: defaultdict[int, list] = defaultdict(list)
        self.memory: list[np.ndarray] = []  # all there ever was: addresses stay
        self.graph: Graph | None = None  # the one being captured
        self.launched: list[tuple] = []  # (name, grid, block, bytes of shared memory) of each kernel, as queued
        self.pageable = 0  # arrays set from pageable memory

    def progress(self) -> None:
        """Run what the schedule runs by now."""
        if self.schedule == "random":
            for _ in range(self.rng.integers(4)):
                ready = [s for s in self.streams if s.ready()]
                if ready:
                    ready[self.rng.integers(len(ready))].step()
            return
        late = {"eager": [], "lazy": self.streams, "copies first": self.streams[:1], "kernels first": self.streams[1:]}
        while ready := [s for s in self.streams if s not in late[self.schedule] and s.ready()]:
            ready[-1].step()

    def finish(self, stream: Stream, position: int) -> None:
        """Run a stream's work up to a position in it, and of other streams what that waits for."""
        while stream.done < position:
            self.progress()
            if stream.done < position:
                needed = stream.queue[0][1]
                if needed:
                    self.finish(*needed)
                stream.step()

    def forbid(self, what: str, capturing: bool = True) -> None:
        """Refuse what cannot be captured."""
        if self.graph is not None and capturing:
            self.graph.spoilt = True
            raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while a stream is captured")

    def allocate(self, nbytes: int) -> np.ndarray:
        """Memory from the arena of the current stream; it is the arena's again once no array is on it."""
        size, arena = -(-max(nbytes, 1) // 512) * 512, (self.pool, current[-1].number)
        free = self.arenas[(*arena, size)]
        if not free:
            self.forbid("allocating new memory")
            if self.taken + size > self.total:
                self.free_all()
            if self.refuse or self.taken + size > self.total:
                self.refuse = max(0, self.refuse - 1)
                raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
            free.append(self.released[size].pop() if self.released[size] else np.full(size, 0xFF, np.uint8))
            self.memory.append(free[-1])
            self.taken += size
        memory = free.pop()
        self.used += size
        chunk = memory.view(_Chunk)
        weakref.finalize(chunk, self._give, arena, size, memory).atexit = False
        return chunk

    def _give(self, arena: tuple, size: int, memory: np.ndarray) -> None:
        self.arenas[(*arena, size)].append(memory)
        self.used -= size

    def free_all(self) -> None:
        """Give the default pool's free memory back to the device, which waits for all work to do so."""
        self.synchronize()
        for pool, stream, size in [arena for arena in self.arenas if arena[0] is None]:
            free = self.arenas.pop((pool, stream, size))
            self.taken -= size * len(free)
            self.released[size] += free

    def synchronize(self) -> None:
        self.forbid("waiting for the device")
        for stream in self.streams:
            self.finish(stream, stream.queued)

    def is_pinned(self, host: np.ndarray) -> bool:
        address = host.__array_interface__["data"][0]
        return any(0 <= address - p.ctypes.data < p.nbytes for p in self.pinned)


class _Chunk(np.ndarray):
    """Memory that an array is on."""


class MemoryPool:
    """Memory apart from the default pool's: its free memory is given to nobody else."""

    def malloc(self, size: int) -> Any:
        raise NotImplementedError("only as the allocator of `using_allocator`")


@contextlib.contextmanager
def using_allocator(allocator: Any) -> Iterator[None]:
    before, device.pool = device.pool, allocator.__self__
    try:
        yield
    finally:
        device.pool = before


class PinnedMemoryPointer(np.ndarray):
    """Page-locked host memory; the pool has it back once nobody holds it."""

    def size(self) -> int:  # type: ignore[override]
        return int(self.nbytes)


def alloc_pinned_memory(nbytes: int) -> PinnedMemoryPointer:
    size = -(-nbytes // 512) * 512
    free = device.free_pinned[size]
    if not free:
        device.forbid("allocating pinned memory")
        free.append(np.zeros(size, np.uint8))
        device.pinned.append(free[-1])
    memory = free.pop()
    pointer = memory.view(PinnedMemoryPointer)
    weakref.finalize(pointer, free.append, memory).atexit = False
    return pointer


# ---- streams, events, graphs -------------------------------------------------------------------------------------


class Stream:
    """Work in order. The null stream aside, only non-blocking streams are modelled."""

    def __init__(self, null: bool = False, non_blocking: bool = False):
        if not (null or non_blocking):
            raise NotImplementedError("a stream that waits for the null stream at each launch")
        self.number = len(device.streams)
        self.queue: deque[tuple[Callable[[], None], tuple | None]] = deque()
        self.queued = self.done = 0
        self.graph: Graph | None = None
        device.streams.append(self)

    def put(self, run: Callable[[], None], needed: tuple | None = None) -> None:
        """Queue work; `needed`: (stream, position) before which it does not run."""
        if self.graph is not None:
            self.graph.add(self, run)
            return
        self.queue.append((run, needed))
        self.queued += 1
        device.progress()

    def ready(self) -> bool:
        needed = self.queue[0][1] if self.queue else None
        return bool(self.queue) and (needed is None or needed[0].done >= needed[1])

    def step(self) -> None:
        run, _ = self.queue.popleft()
        run()
        self.done += 1

    def synchronize(self) -> None:
        device.forbid("waiting for a stream", self.graph is not None or self.number == 0)
        device.finish(self, self.queued)

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        if event.graph is not None and event.graph is device.graph:
            self.graph = self.graph or event.graph  # a stream that waits for a captured one is captured too
            self.graph.open.discard(event.stream if self is self.graph.origin else None)
            return
        if self.graph is not None:
            self.graph.spoilt = True
            raise CUDARuntimeError("cudaErrorStreamCaptureIsolation: waits for an event from outside of the capture")
        self.put(lambda: None, (event.stream, event.position) if event.stream else None)

    def begin_capture(self, mode: int | None = None) -> None:
        if self.number == 0 or device.graph is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: the null stream, or one capture in another")
        self.graph = device.graph = Graph(self)

    def end_capture(self) -> Graph:
        graph, device.graph = self.graph, None
        if graph is None:
            raise CUDARuntimeError("cudaErrorIllegalState: this stream is not captured")
        for stream in device.streams:
            stream.graph = None
        if graph.spoilt or graph.open:
            error = "Invalidated: an operation was refused" if graph.spoilt else "Unjoined: a stream was left behind"
            raise CUDARuntimeError(f"cudaErrorStreamCapture{error}")
        return graph

    def is_capturing(self) -> bool:
        return self.graph is not None

    def use(self) -> Stream:
        current[-1] = self
        return self

    def __enter__(self) -> Stream:
        current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        current.pop()


class Event:
    """A place in a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False):
        self.stream: Stream | None = None
        self.position, self.time, self.graph = 0, 0.0, None

    def record(self, stream: Stream | None = None) -> None:
        self.stream = stream = stream or current[-1]
        self.graph = stream.graph
        stream.put(lambda: setattr(self, "time", time.perf_counter()))
        self.position = stream.queued

    @property
    def done(self) -> bool:
        device.forbid("asking an event", self.graph is not None)
        return self.stream is None or self.stream.done >= self.position

    def synchronize(self) -> None:
        device.forbid("waiting for an event", self.graph is not None)
        if self.stream is not None:
            device.finish(self.stream, self.position)


class Graph:
    """Captured work, on the addresses that it had then."""

    def __init__(self, origin: Stream):
        self.origin, self.spoilt = origin, False
        self.nodes: list[Callable[[], None]] = []
        self.open: set[Any] = set()  # streams with captured work that the first one has not waited for

    def add(self, stream: Stream, run: Callable[[], None]) -> None:
        self.nodes.append(run)
        if stream is not self.origin:
            self.open.add(stream)

    def launch(self, stream: Stream | None = None) -> None:
        for run in self.nodes:
            (stream or current[-1]).put(run)


def start(schedule: str = "eager", seed: int = 0, total: int = 1 << 31) -> _Device:
    """A new device, on which nothing was done yet."""
    global device
    device = _Device(schedule, seed, total)
    current[:] = [Stream(null=True)]
    return device


device: _Device
current: list[Stream] = []  # the last one is the current stream
start()
