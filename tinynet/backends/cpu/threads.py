"""Large pieces of work shared out to threads.

NumPy lets other threads run while it computes, so calls of a millisecond scale with the cores; handing one over takes
a tenth of that. Hence only convolutions of many parts (`winograd.py`, `taps.py`) come here, and only where this
process has the cores to itself: replicas have one each (`team.py`).
"""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..switches import scope

RUNS = 4  # for each thread

_limit: int | None = None
_executor: Any = None


def usable_cores() -> int:
    """The cores that this process may use: its affinity, and the quota of its control group (a container's)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = []
    with contextlib.suppress(OSError, ValueError):
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        quotas.append(float(limit) / float(period))                  # "max 100000" is no number: no limit
    with contextlib.suppress(OSError, ValueError):
        limit, period = (Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
        quotas.append(float(limit) / float(period))                  # -1: no limit
    return max(1, min([cores, *(int(q) for q in quotas if q > 0)]))


def count() -> int:
    """How many threads work is shared out to: one a core that the process may use, unless `limited`."""
    global _limit
    if _limit is None:
        _limit = usable_cores()
    return _limit


@scope
def limited(most: int) -> Iterator[None]:
    """Within this context `count()` is `most`."""
    global _limit
    before, _limit = _limit, most
    try:
        yield
    finally:
        _limit = before


def each(work: Callable[[Any], Any], items: Sequence[Any]) -> list:
    """[work(item) for item in items], several at a time. The first exception is raised here."""
    global _executor
    if len(items) < 2 or count() == 1:
        return [work(item) for item in items]
    if _executor is None:
        from concurrent.futures import ThreadPoolExecutor  # 8 ms that most processes need not wait for

        _executor = ThreadPoolExecutor(count(), "tinynet")
    # NumPy's error state is part of the context
    futures = [_executor.submit(contextvars.copy_context().run, work, item) for item in items]
    return [future.result() for future in futures]


def shares(items: Sequence[Any]) -> list:
    """The items in runs for `each`: some for every thread, so that a slow core gets fewer. One run where there is too
    little work: threads that come and go from NumPy every few microseconds mostly wait for each other."""
    runs = RUNS * count()
    if count() == 1 or len(items) < runs:
        return [items] if items else []
    return [items[len(items) * i // runs : len(items) * (i + 1) // runs] for i in range(runs)]


def stop() -> None:
    """End the threads, before a fork; the next `each` starts others."""
    global _executor
    if _executor is not None:
        _executor.shutdown()
        _executor = None


def _forget() -> None:
    global _executor
    _executor = None


if hasattr(os, "register_at_fork"):  # threads do not live on in a copy of the process
    os.register_at_fork(after_in_child=_forget)
