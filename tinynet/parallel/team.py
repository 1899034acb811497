"""Processes of one machine that share memory and wait for each other: what replicas talk through.

The members are forked, so they start as copies of the process that makes the team, whatever started that one: a
script, pytest, a notebook. All they share lies in anonymous memory, which the system takes back when the last
member is gone, however it went: there is no name under which anything could be left behind.

A member tells the others where it stands in a counter of its own, which only it writes; to wait is to read theirs.
First in a loop (a core of one's own learns of a change within 0.1 µs), then asleep in the kernel (a futex: 50 µs,
but it costs nothing). Who wakes up for nothing looks whether the others live, so no wait outlasts a death.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import struct
import sys
import tempfile
import threading
import time
import traceback
import warnings
from array import array
from collections.abc import Callable
from mmap import mmap
from typing import Any

import numpy as np

from ..backends.cpu import threads
from ..backends.cpu.threads import single_threaded_blas, usable_cores
from .waiting import LIBC, fence, sleep, wake

LINE = 64  # bytes of a cache line: what two members write lies in different ones
COMMAND = 1 << 20  # bytes that a broadcast may take; memory that nobody touches costs nothing
REPORT = 1 << 16  # bytes that a member's last words may take
SPINS = 4000  # reads of a counter before sleeping: some 0.2 ms
READY = 10.0  # seconds that new members may take to say so; less at the first two tries

_running: set[int] = set()  # the teams that run: a member has one core, so
_one_thread = contextlib.ExitStack()  # the process has one thread until the last of them has ended
_limited = False  # whether it has
_teams = threading.RLock()  # of the three; a team may be dismissed by the garbage collector, anywhere
_CORES = usable_cores()
_MAIN = threading.main_thread()


def _settle() -> None:
    """Give the process one thread where a team runs, and its threads back where none does."""
    global _limited
    with _teams:
        if _limited != bool(_running):
            _limited = bool(_running)
            if _limited:
                _one_thread.enter_context(threads.set_threads(1))
                _one_thread.callback(single_threaded_blas())
            else:
                _one_thread.close()


class ReplicaError(RuntimeError):
    """A replica died or could not start; or, as the cause of another error, what happened in it, with its traceback."""


def shared_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros in anonymous memory that forked processes share."""
    return np.ndarray(shape, dtype, mmap(-1, max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1)))  # type: ignore[call-overload]


class Team:
    """`size` processes; `rank` 0 made the team and leads it.

    This is the transport under data parallelism: replicas elsewhere (MPI ranks, GPUs) need a class with these
    methods and attributes, `broadcast`, `put`, `get`, `part`, `reduce`, `gradients`.

    Args:
        size: the number of processes, this one included.
        vectors: (length, dtype) of each flat vector whose sum over the members is wanted; `gradients[k][rank]` is
            where a member writes its own.
        width: the most numbers that one `put` carries.
    """

    def __init__(self, size: int, vectors: list[tuple[int, Any]], width: int):
        self.size, self.rank, self.width = size, 0, width
        # Rows of whole cache lines, so that no member writes where another does.
        self._vectors = [shared_array((size, -(-n // LINE) * LINE), dtype) for n, dtype in vectors]
        self.gradients = [rows[:, :n] for rows, (n, _) in zip(self._vectors, vectors, strict=True)]
        rows = size * LINE
        command = rows + -(-2 * size * width * 8 // LINE) * LINE
        self._reports = command + COMMAND + -(-size // LINE) * LINE
        self._memory = mmap(-1, self._reports + size * REPORT)
        self._address = np.frombuffer(self._memory, np.uint8).ctypes.data
        self._counters = memoryview(self._memory)[:rows].cast("Q")
        self._rows: Any = memoryview(self._memory)[rows : rows + 2 * size * width * 8].cast("d")
        self._asleep = memoryview(self._memory)[self._reports - size : self._reports]  # a byte a member
        self._nobody = bytes(size)
        self._command = command
        self._stage = self._turn = 0
        self._pids: dict[int, int] = {}
        self._parent = os.getpid()
        self._batch: mmap | None = None
        self._file = _nameless_file()

    # ---- starting and ending -----------------------------------------------------------------------------
    def start(self, work: Callable[[], None]) -> None:
        """Fork the members, each of which runs `work`, and wait until they are ready.

        A copy that is not ready soon met a lock that another thread held just then; then all are forked again.

        Raises: ReplicaError where they do not start.
        """
        for seconds in (READY / 10, READY / 3, READY):
            try:
                return self._fork(work, seconds)
            except TimeoutError as error:
                self.dismiss()
                late = error
            except OSError as error:
                self.dismiss()
                raise ReplicaError(f"no process could be forked ({error})") from error
            except BaseException:
                self.dismiss()
                raise
        raise ReplicaError(str(late))

    def _fork(self, work: Callable[[], None], seconds: float) -> None:
        self._stage = self._turn = 0
        self._counters[:] = array("Q", bytes(self._counters.nbytes))
        self._asleep[:] = self._nobody
        _running.add(id(self))
        _settle()
        threads.stop()
        for stream in (sys.stdout, sys.stderr):  # else what waits there would be written twice
            with contextlib.suppress(AttributeError, ValueError, OSError):
                stream.flush()
        for rank in range(1, self.size):
            with _teams, warnings.catch_warnings():  # Python warns of locks that another thread holds in the
                warnings.simplefilter("ignore", DeprecationWarning)  # copy; the test in _live finds those
                pid = os.fork()
            if pid == 0:
                self._live(rank, work)
            self._pids[rank] = pid
        self.put()
        self.get(deadline=time.monotonic() + seconds)

    def _live(self, rank: int, work: Callable[[], None]) -> None:
        """A member's life. It ends with the process, never by returning into code that is the parent's."""
        try:
            self.rank = rank
            _become_a_replica(self._parent)
            ones = np.ones((256, 256), np.float32)
            assert (ones @ ones)[0, 0] == 256  # a lock that was held during the fork would show here
            self.put()
            self.get()
            work()
        except BaseException as error:
            self.report(error)
        finally:
            os._exit(1)

    @property
    def running(self) -> bool:
        return bool(self._pids)

    def close(self) -> None:
        """Dismiss the members and close the file of the batches."""
        self.dismiss()
        self._file.close()

    def dismiss(self) -> None:
        """End the members. They hold nothing that must be put away, so they are killed, wherever they are."""
        if os.getpid() != self._parent or id(self) not in _running:  # not this process's to end, or ended
            return
        for pid in self._pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self._pids.values():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._pids.clear()
        _running.discard(id(self))
        _settle()

    # ---- talking -----------------------------------------------------------------------------------------
    def broadcast(self, message: Any = None) -> Any:
        """The leader's message, to all. Each member waits for it, for as long as it takes."""
        self._stage += 1
        if self.rank:
            self._wait(0)
            (length,) = struct.unpack_from("Q", self._memory, self._command)
            return pickle.loads(self._memory[self._command + 8 : self._command + 8 + length])
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if len(data) > COMMAND - 8:
            raise ReplicaError(f"the settings of a step take {len(data)} bytes; there is room for {COMMAND - 8}")
        struct.pack_into("Q", self._memory, self._command, len(data))
        self._memory[self._command + 8 : self._command + 8 + len(data)] = data
        self._arrive()
        return message

    def put(self, *numbers: float) -> None:
        """Tell all others some numbers, and that all written to shared memory before is there."""
        start = (self._turn * self.size + self.rank) * self.width
        self._rows[start : start + len(numbers)] = array("d", numbers)
        self._stage += 1
        self._arrive()

    def get(self, count: int = 0, deadline: float | None = None) -> list[list[float]]:
        """Wait for the others' `put`; gives the first `count` numbers of each member.

        The rows take turns, so a member that is one put ahead writes where nobody reads.
        """
        for rank in range(self.size):
            if rank != self.rank:
                self._wait(rank, deadline)
        starts = [(self._turn * self.size + rank) * self.width for rank in range(self.size)]
        self._turn ^= 1
        return [self._rows[start : start + count].tolist() for start in starts]

    def part(self, start: int, stop: int) -> tuple[int, int]:
        """This member's share of a vector's elements [start, stop): whole cache lines, as nearly equal as can be."""
        first, last = (start + (stop - start) * r // self.size for r in (self.rank, self.rank + 1))
        return (
            max(start, first // LINE * LINE),
            stop if self.rank == self.size - 1 else max(start, last // LINE * LINE),
        )

    def own(self, k: int, start: int, shape: tuple[int, ...]) -> np.ndarray:
        """Elements from `start` on of this member's vector k as an array: a view of none, so that `owns` is true."""
        rows = self._vectors[k]
        return np.ndarray(shape, rows.dtype, rows.base, rows[: self.rank].nbytes + start * rows.itemsize)  # type: ignore[call-overload]

    def reduce(self, k: int, start: int, stop: int, members: list[int]) -> np.ndarray:
        """The sum over `members` of elements [start, stop) of vector k, always in the same order, left in the
        leader's row. Each member sums other elements."""
        rows = self.gradients[k][:, start:stop]
        if members[0]:
            rows[0] = rows[members[0]]
        for rank in members[1:]:
            np.add(rows[0], rows[rank], out=rows[0])
        return rows[0]

    def buffer(self, size: int) -> mmap:
        """Shared memory for a batch, at least `size` bytes. It grows: the file has no name, but all know its number."""
        if self._batch is None or len(self._batch) < size:
            if not self.rank:
                size = -(-size * 5 // 4096 // 4) * 4096
                os.ftruncate(self._file.fileno(), size)
            self._batch = mmap(self._file.fileno(), os.fstat(self._file.fileno()).st_size)
        return self._batch

    # ---- errors ------------------------------------------------------------------------------------------
    def report(self, error: BaseException) -> None:
        """Leave an exception, and its traceback's text, for the leader."""
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        try:
            same = pickle.dumps(error)
            pickle.loads(same)
        except Exception:  # an exception may hold anything
            same = b""
        data = pickle.dumps((same if len(same) < REPORT // 4 else b"", text[-REPORT // 8 :]))
        start = self._reports + self.rank * REPORT
        struct.pack_into("Q", self._memory, start, len(data))
        self._memory[start + 8 : start + 8 + len(data)] = data

    def reported(self, rank: int) -> tuple[Exception | None, str]:
        """What a member reported since the last look: the exception, where it can be sent, and the traceback."""
        start = self._reports + rank * REPORT
        (length,) = struct.unpack_from("Q", self._memory, start)
        struct.pack_into("Q", self._memory, start, 0)
        if not length:
            return None, ""
        same, text = pickle.loads(self._memory[start + 8 : start + 8 + length])
        return pickle.loads(same) if same else None, text

    # ---- waiting -----------------------------------------------------------------------------------------
    def _arrive(self) -> None:
        fence()
        self._counters[self.rank * 8] = self._stage
        fence()
        if self._asleep != self._nobody:
            wake(self._address + self.rank * LINE)

    def _wait(self, rank: int, deadline: float | None = None) -> None:
        counters, place, stage = self._counters, rank * 8, self._stage
        for _ in range(SPINS if self.size <= _CORES else 1):
            if counters[place] >= stage:
                break
        else:
            while (seen := counters[place]) < stage:
                self._asleep[self.rank] = 1  # before the kernel looks at the counter: see _arrive
                sleep(self._address + rank * LINE, seen)
                self._asleep[self.rank] = 0
                self._check()
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"a forked process was not ready within {READY:.0f} s")
        fence()

    def _check(self) -> None:
        """Raise where a member is dead; a member whose leader is gone ends."""
        if self.rank:
            if os.getppid() != self._parent:
                os._exit(1)
            return
        for rank, pid in self._pids.items():
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # someone else waited for it
                ended, status = pid, 0
            if ended:
                del self._pids[rank]
                code = os.waitstatus_to_exitcode(status)
                how = f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else "ended"
                raise ReplicaError(f"replica {rank} (process {pid}) {how}\n{self.reported(rank)[1]}".rstrip())


def _become_a_replica(parent: int) -> None:
    """What a fresh copy of a process must not share with the original."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal; the leader decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.freeze()  # the original's objects are not ours to finalise
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 -- replica 0 prints for all
    if sys.__stderr__ is not None:
        sys.stderr = sys.__stderr__
    if LIBC is not None and threading.current_thread() is _MAIN:  # it is the forking thread that counts
        LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: die with the parent, even amid work
    if os.getppid() != parent:
        os._exit(1)


def _nameless_file() -> Any:
    """A file in memory that no directory lists, so that it is gone with the last process that has it open."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(PermissionError):  # a sandbox's
            return os.fdopen(os.memfd_create("tinynet"), "w+b")
    return tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def _start_afresh() -> None:
    """A copy of the process has no team of its own, and no thread that would release a lock held when it was made."""
    global _teams, _limited
    _teams, _limited = threading.RLock(), False
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
