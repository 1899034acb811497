"""Large pieces of work shared out to threads.

NumPy lets other threads run while it computes, so calls of a millisecond scale with the cores; handing one over takes
a tenth of that. Hence only convolutions of many parts (`winograd.py`, `taps.py`) come here, and only where this
process has the cores to itself: replicas have one each (`team.py`).
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..switches import Switch

SHARES = 4  # for each thread

_executor: Any = None
_lock = threading.RLock()  # of the executor


def usable_cores() -> int:
    """The cores that this process may use: its affinity, and the quota of its control group (a container's)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = []
    with contextlib.suppress(OSError, ValueError):
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        quotas.append(float(limit) / float(period))  # "max 100000" is no number: no limit
    with contextlib.suppress(OSError, ValueError):
        limit, period = (Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
        quotas.append(float(limit) / float(period))  # -1: no limit
    return max(1, min([cores, *(int(q) for q in quotas if q > 0)]))


def count() -> int:
    """How many threads work is shared out to: one a core that the process may use, unless `set_threads`."""
    if set_threads.now is None:
        set_threads.now = usable_cores()
    return set_threads.now


class set_threads(Switch, title="threads"):
    """How many threads work is shared out to, from now on or for a `with` block; None: one a core."""

    get = staticmethod(count)


def each(work: Callable[[Any], Any], items: Sequence[Any]) -> list:
    """[work(item) for item in items], several at a time. The first exception is raised here."""
    global _executor
    if len(items) < 2 or count() == 1:
        return [work(item) for item in items]
    with _lock:  # so that it is not stopped before it has all of them
        if _executor is None:
            from concurrent.futures import ThreadPoolExecutor  # 8 ms that most processes need not wait for

            _executor = ThreadPoolExecutor(count(), "tinynet")
        # NumPy's error state is part of the context
        futures = [_executor.submit(contextvars.copy_context().run, work, item) for item in items]
    return [future.result() for future in futures]


def shares(items: Sequence[Any]) -> list:
    """The items in shares for `each`: some for every thread, so that a slow core gets fewer. One share where there is
    too little work: threads that come and go from NumPy every few microseconds mostly wait for each other."""
    most = SHARES * count()
    if count() == 1 or len(items) < most:
        return [items] if items else []
    return [items[len(items) * i // most : len(items) * (i + 1) // most] for i in range(most)]


def stop() -> None:
    """End the threads, when they have done what they were given, before a fork; the next `each` starts others."""
    global _executor
    with _lock:
        executor, _executor = _executor, None
    if executor is not None:
        executor.shutdown()


# ---- the threads of BLAS ------------------------------------------------------------------------------------

BLAS_THREADS = (  # (get, set) as the libraries name them that NumPy comes with
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
)


def blas_libraries() -> Iterator[tuple[Any, Callable, Callable]]:
    """Each BLAS library in this process that has threads: (library, get, set). Unknown ones are left out.

    (Own code, not threadpoolctl: replicas need it, and the core installs NumPy, tqdm and safetensors alone.)
    """
    with contextlib.suppress(OSError):
        loaded = Path("/proc/self/maps").read_text()
        for path in sorted(set(re.findall(r"/\S*(?:blas|mkl_rt)\S*\.so\S*", loaded))):
            with contextlib.suppress(OSError):
                library = ctypes.CDLL(path)
                for get, set_ in BLAS_THREADS:
                    if hasattr(library, get) and hasattr(library, set_):
                        yield library, getattr(library, get), getattr(library, set_)
                        break


def single_threaded_blas() -> Callable[[], None]:
    """Make every BLAS library in this process use one thread; gives a function that restores what was.

    A core that runs a replica has no time for another one's threads.
    """
    with _forking:
        changed = [(set_, get()) for _, get, set_ in blas_libraries()]  # one may be found twice: first all are asked
        for set_threads, _ in changed:
            set_threads(1)

    def restore() -> None:
        with _forking:
            for set_threads, count in changed:
                set_threads(count)

    return restore


BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


@contextlib.contextmanager
def one_blas_thread() -> Iterator[bool]:
    """Within this context BLAS uses one thread, unless the environment says how many it shall use (BLAS_VARIABLES).
    Yields whether that is a change.

    Threads of BLAS wait for each other by spinning: where another program has one of the cores, a product of 1 ms takes
    100. One thread is as fast on an idle machine for all but large dense layers, and the same everywhere to the bit.
    """
    if any(name in os.environ for name in BLAS_VARIABLES):
        yield False
        return
    several = any(get() > 1 for _, get, _ in blas_libraries())
    restore = single_threaded_blas()
    try:
        yield several
    finally:
        restore()


# OpenBLAS ends its threads before a fork, also where they compute a product for another thread of the process, and
# that call never returns then. So at a fork its variables say that it has none: the threads in use, the most that may
# be, and whether there are any. Products that begin just then do without.
OPENBLAS_STATE = ("blas_cpu_number", "blas_num_threads", "blas_server_avail")
_forking = threading.RLock()  # held from before a fork until after it
_hidden: list[tuple[Any, int]] = []  # (variable of a library, its value)
_crowd = False  # other threads are there


def _hide_blas_threads() -> None:
    global _crowd
    _forking.acquire()
    _crowd = threading.active_count() > 1
    for library, _, _ in blas_libraries():
        with contextlib.suppress(ValueError):  # MKL has no such variables
            variables = [ctypes.c_int.in_dll(library, name) for name in OPENBLAS_STATE]
            _hidden.extend((variable, variable.value) for variable in variables)
            for variable, value in zip(variables, (1, 1, 0), strict=True):
                variable.value = value


def _show_blas_threads() -> None:
    while _hidden:
        variable, value = _hidden.pop()
        variable.value = value
    _forking.release()


def _start_afresh() -> None:
    """Threads do not live on in a copy of the process, nor the one that held a lock: a lock of BLAS, perhaps, that
    only products of several threads take, so a copy of a process with threads has one."""
    global _executor, _lock, _forking
    _executor, _lock = None, threading.RLock()
    for i, (variable, value) in enumerate(_hidden):
        variable.value = (1 if _crowd else value, value, 0)[i % 3]  # BLAS starts threads when it needs them
    _hidden.clear()
    _forking = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hide_blas_threads, after_in_parent=_show_blas_threads, after_in_child=_start_afresh)
