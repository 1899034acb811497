"""The pool of large arrays: nothing that can be reached is overwritten, nothing large is asked for twice."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tinynet.backends.cpu import memory

SHAPE = (300, 200)


@pytest.fixture(autouse=True)
def empty_pool():
    memory.trim()
    yield
    memory.trim()


def filled(value: float, shape: tuple = SHAPE, dtype: Any = np.float32) -> np.ndarray:
    x = memory.empty(shape, dtype)
    x[...] = value
    return x


def address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int32", "int64", "uint16", "bool"])
def test_arrays_are_as_numpy_makes_them(dtype):
    for shape in ((1 << 17,), (3, 7, 11, 997), (1 << 9, 0, 5), (), (4, 4)):
        x = memory.empty(shape, dtype)
        assert x.shape == shape and x.dtype == dtype and type(x) is np.ndarray
        assert x.flags.c_contiguous and x.flags.writeable and x.flags.aligned
        assert not isinstance(x.base, np.ndarray)  # how the engine sees that nobody else looks into it
        x[...] = 1
        assert (x == 1).all()
        if x.nbytes >= memory.POOLED:
            assert address(x) % memory.ALIGN == 0 and x.base is not None


def test_memory_comes_back_when_the_last_view_is_gone():
    x = filled(1)
    where = address(x)
    del x
    again = memory.empty(SHAPE, np.float32)
    assert address(again) == where
    view = again[10:]
    del again
    assert address(memory.empty(SHAPE, np.float32)) != where
    tail = view.reshape(-1)[::2].view(np.int32)[5:]
    del view
    assert address(memory.empty(SHAPE, np.float32)) != where
    del tail
    assert where in {address(x) for x in [memory.empty(SHAPE, np.float32) for _ in range(3)]}


@pytest.mark.parametrize(
    "keep",
    [
        lambda x: x,
        lambda x: x[3:5, ::2],
        lambda x: x.reshape(-1),
        lambda x: x.T,
        lambda x: np.broadcast_to(x[0], (4, *x[0].shape)),
        lambda x: memoryview(x),
        lambda x: iter(x),
    ],
    ids=["itself", "slice", "reshape", "transpose", "broadcast", "memoryview", "iterator"],
)
def test_nothing_in_use_is_overwritten(keep):
    kept = keep(filled(7))
    for value in range(20):
        filled(value)
    rows = list(kept) if hasattr(kept, "__next__") else np.asarray(kept)
    assert_array_equal(rows, np.full_like(rows, 7))


def test_a_repeated_pattern_asks_for_nothing():
    def step(n: int) -> np.ndarray:
        x = filled(1, (n, 200))
        y = filled(2, (n, 300), np.float64)
        return x[:, :100] + filled(0, (n, 100)) + y[:, :100]

    step(300)
    before = memory.stats()
    for _ in range(50):
        step(300)
    step(299)  # a last batch of nearly the same size finds room as well
    after = memory.stats()
    assert after["misses"] == before["misses"]
    assert after["leases"] - before["leases"] == after["hits"] - before["hits"] == 51 * 3
    assert after["bytes_held"] == before["bytes_held"]


def test_the_end_of_a_lease_runs_no_python():
    """Else Ctrl-C that comes just then would be raised where nobody can catch it, and be lost."""
    x, calls = filled(1), []
    sys.setprofile(lambda frame, event, arg: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        del x
    finally:
        sys.setprofile(None)
    assert calls == [] and memory.stats()["bytes_free"] > 0
    kept = next(kept for kept in memory._classes.values() if kept.blocks)
    kept.free.append(memory._Ref(np.ones(1), None))  # as if a lease had been broken off before it was complete
    assert (filled(2) == 2).all()
    kept.free.append(memory._Ref(np.ones(1), None))
    memory.trim()
    assert memory.stats()["bytes_free"] == 0


def test_sizes_that_never_come_again(monkeypatch):
    """Batches of ever other sizes: the pool holds a few times what is in use, not all that ever was. Where sizes come
    again nothing is given back."""
    monkeypatch.setattr(memory, "IDLE", 1 << 20)
    monkeypatch.setattr(memory, "_most", 0)
    gc.collect()
    memory.trim()
    rng, most, before = np.random.default_rng(0), 0, memory.stats()["bytes_held"]
    for n in rng.integers(1 << 15, 1 << 20, 200):
        together = [memory.empty((n // k,), np.float32) for k in (1, 2, 3)]
        del together
        most = max(most, memory.stats()["bytes_held"] - before)
    assert most < 4 * (1 << 22) * (1 + 1 / 2 + 1 / 3)
    memory.trim()
    sizes = [1 << 20, 3 << 18, 1 << 19, 5 << 17]
    for _ in range(2):
        for n in sizes:
            memory.empty((n,), np.float32)
    before = memory.stats()["misses"]
    for _ in range(20):
        for n in sizes:
            memory.empty((n,), np.float32)
    assert memory.stats()["misses"] - before <= 4 * len(sizes)


def test_stats_and_trim():
    before = memory.stats()
    assert before["bytes_free"] == 0
    x, y = filled(1), filled(2)
    held = memory.stats()["bytes_held"] - before["bytes_held"]
    assert 2 * x.nbytes <= held <= 2.3 * x.nbytes
    del y
    memory.trim()
    after = memory.stats()
    assert after["bytes_held"] - before["bytes_held"] == held // 2 and after["bytes_free"] == 0
    assert (x == 1).all()


def test_what_is_not_needed_goes_back(monkeypatch):
    """After a phase with many arrays, those that a whole interval did without are freed, the others stay."""
    many = [filled(i) for i in range(10)]
    del many
    clock = [memory._last_sweep]
    monkeypatch.setattr(memory.time, "monotonic", lambda: clock[0])
    free = memory.stats()["bytes_free"]
    for _ in range(3):
        clock[0] += memory.KEEP_SECONDS + 1
        for _ in range(memory.CHECK_EVERY):
            two = filled(1), filled(2)
            del two
    left = memory.stats()["bytes_free"]
    assert left == free // 5
    memory._last_sweep = 0.0


def test_small_arrays_and_switching_off():
    before = memory.stats()["leases"]
    assert memory.empty((10, 10), np.float32).base is None
    with memory.set_pool(False):
        with memory.set_pool(False):
            assert memory.empty(SHAPE, np.float32).base is None
        assert memory.empty(SHAPE, np.float32).base is None
    assert memory.stats()["leases"] == before
    assert memory.empty(SHAPE, np.float32).base is not None


def test_like():
    x, row = filled(1), np.ones(SHAPE[1], np.float32)
    for result in (
        memory.like(x),
        memory.like(x, 2.0),
        memory.like(3, x),
        memory.like(x, x),
        memory.like(x, row),
        memory.like(row, x),
    ):
        assert result is not None and result.shape == SHAPE and result.dtype == np.float32
    assert memory.like(x, row.astype(np.float64)).dtype == np.float64
    wide = memory.like(filled(1, (300, 1, 200)), np.ones((300, 2, 1), np.float32))
    assert wide.shape == (300, 2, 200)
    for small in (row, 1.0, np.float32(2)):
        assert memory.like(small, 2.0) is None
    assert memory.like(row, row) is None and memory.like(x.astype(np.int64)) is None


def test_threads():
    """Two threads lease and release at once; neither sees the other's values."""
    failures = []

    def work(value: int) -> None:
        kept = []
        for i in range(300):
            x = filled(value + i)
            if i % 3 == 0:
                kept.append((x[5:6], value + i))
            if len(kept) > 5:
                view, expected = kept.pop(0)
                failures.extend(view[view != expected])
            failures.extend(x[x != value + i])

    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(1, 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork():
    """A child starts with what was in use, shares none of it, and holds no free memory."""
    kept = filled(5)
    filled(6)
    assert memory.stats()["bytes_free"] > 0
    child = os.fork()
    if child == 0:
        good = memory.stats()["bytes_free"] == 0 and bool((kept == 5).all())
        kept[...] = 9
        x = filled(1)
        good = good and bool((x == 1).all()) and address(x) != address(kept)
        os._exit(0 if good else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (kept == 5).all()


def test_out_of_memory_gives_the_free_memory_back_first(monkeypatch):
    filled(1)
    grow, calls = memory._SizeClass.grow, []

    def failing(self: Any) -> int:
        calls.append(memory.stats()["bytes_free"])
        if len(calls) == 1:
            raise MemoryError
        return grow(self)

    monkeypatch.setattr(memory._SizeClass, "grow", failing)
    x = filled(2, (500, 500))
    assert (x == 2).all() and calls[0] > 0 and calls[1] == 0


@pytest.mark.skipif(memory._malloc_trim is None, reason="not glibc")
def test_trim_gives_back_what_the_c_library_keeps():
    """In a process of its own: the heap, whose top is still in use."""
    code = """
import numpy as np
from tinynet.backends.cpu import memory

def anonymous():
    return sum(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Anonymous:"))

arrays = [np.ones(4000, np.float32) for _ in range(6000)]      # 96 MB
last = arrays[-1]
del arrays
memory.trim()
print(anonymous() // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60, "megabytes are still held"
