"""`tinynet doctor`: what works on this machine, and how to get the rest."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import backends
from ..backends.cpu import threads
from ..backends.cpu.threads import usable_cores
from ..console import plain, say

OK, MISSING, BROKEN = "ok", "--", "!!"
Line = tuple[str, str, str]  # mark, topic, finding


def main() -> int:
    """Print the findings; 0 where tinynet itself works, else 1."""
    say("tinynet doctor: ok works, -- is not there (and not needed), !! is broken\n")
    broken = False
    for mark, topic, finding in findings():
        broken |= mark == BROKEN
        head, *more = finding.splitlines() or [""]
        say(f"{mark}  {topic:<12} {plain(head, 2000)}")
        for line in more:
            say(f"    {'':<12} {plain(line, 2000)}")
    return int(broken)


def findings() -> Iterator[Line]:
    """All that can be said; never raises."""
    for topic, look in (
        ("tinynet", _tinynet),
        ("Python", _python),
        ("NumPy", _numpy),
        ("BLAS", _blas),
        ("cores", _cores),
        ("backends", _backends),
        ("GPU driver", _driver),
        ("CuPy", _cupy),
        ("compiler", _compiler),
        ("extras", _extras),
        ("data", _data),
    ):
        try:
            yield from ((mark, topic if first else "", text) for first, (mark, text) in _numbered(look()))
        except Exception as error:
            yield BROKEN, topic, f"cannot be examined: {type(error).__name__}: {error}"


def _numbered(lines: Iterator[tuple[str, str]]) -> Iterator[tuple[bool, tuple[str, str]]]:
    return ((i == 0, line) for i, line in enumerate(lines))


def _tinynet() -> Iterator[tuple[str, str]]:
    from .. import nn, ops
    from ..tensor import tensor
    from ..version import __version__

    x = tensor([[1.0, 2.0]], backend="numpy", requires_grad=True)
    ops.sum(ops.relu(x) * 3.0).backward()
    works = x.grad is not None and x.grad.numpy().tolist() == [[3.0, 3.0]]
    yield OK if works else BROKEN, f"{__version__} in {Path(nn.__file__).parent.parent}"


def _python() -> Iterator[tuple[str, str]]:
    fine = sys.version_info >= (3, 10)
    yield (
        OK if fine else BROKEN,
        (
            f"{platform.python_version()} ({platform.python_implementation()}) on "
            f"{platform.system()} {platform.machine()}" + ("" if fine else "\ntinynet needs Python 3.10 or newer")
        ),
    )


def _numpy() -> Iterator[tuple[str, str]]:
    fine = int(np.__version__.split(".")[0]) >= 2
    remedy = "" if fine else "\ntinynet needs 2.0 or newer: pip install -U numpy"
    yield OK if fine else BROKEN, np.__version__ + remedy


def _blas() -> Iterator[tuple[str, str]]:
    config = np.show_config(mode="dicts")
    blas = (config or {}).get("Build Dependencies", {}).get("blas", {})
    name, version = blas.get("name", "unknown"), blas.get("version", "")
    threads = blas_threads()
    text = f"{name} {version}, " + (f"{threads} thread{'s' * (threads != 1)}" if threads else "threads unknown")
    if limits := [
        f"{n}={os.environ[n]}"
        for n in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
        if n in os.environ
    ]:
        text += f" ({', '.join(limits)})"
    slow = name in ("unknown", "lapack_lite", "none")
    yield OK, text + ("\na slow one, as it seems: NumPy from pip brings OpenBLAS" if slow else "")


def blas_threads() -> int | None:
    """The number of threads that NumPy's BLAS uses in this process, None where it cannot be asked."""
    found = [get() for _, get, _ in threads.blas_libraries()]
    return int(found[0]) if found else None


def _cores() -> Iterator[tuple[str, str]]:
    usable, there = usable_cores(), os.cpu_count() or 1
    text = f"{usable} usable" + (f" of {there}" if there != usable else "")
    processes = usable if sys.platform == "linux" else 1  # replicas are forked, which is safe on Linux only
    yield OK, f"{text}: --workers auto trains with {processes} process{'es' * (processes != 1)}"


def _backends() -> Iterator[tuple[str, str]]:
    if (wanted := os.environ.get("TINYNET_BACKEND") or "numpy") not in backends.NAMES:
        yield BROKEN, f"TINYNET_BACKEND ({wanted}) is none; there are {', '.join(backends.NAMES)}"
    for name in backends.NAMES:
        reason = backends.why_not(name)
        yield (OK, f"{name} runs") if reason is None else (MISSING, f"{name} does not run here: {reason}")


def _driver() -> Iterator[tuple[str, str]]:
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        version, count = ctypes.c_int(), ctypes.c_int()
        driver.cuDriverGetVersion(ctypes.byref(version))
        status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
        supports = f"for CUDA {version.value // 1000}.{version.value % 1000 // 10}"
        if status or not count.value:
            yield MISSING, f"NVIDIA's driver is installed ({supports}), but it finds no GPU (CUDA error {status})"
        else:
            yield OK, f"NVIDIA's, {supports}, {count.value} GPU{'s' * (count.value > 1)}"
        return
    yield MISSING, "none: a GPU needs NVIDIA's driver, from https://www.nvidia.com/drivers"


def _cupy() -> Iterator[tuple[str, str]]:
    if importlib.util.find_spec("cupy") is None:
        yield (
            MISSING,
            ("not installed: pip install 'cupy-cuda12x[ctk]>=14.2' (or cupy-cuda13x, by what the driver is for)"),
        )
        return
    import cupy

    yield OK, f"{cupy.__version__}, built for CUDA {cupy.cuda.runtime.runtimeGetVersion() // 1000}"


def _compiler() -> Iterator[tuple[str, str]]:
    wanted = os.environ.get("CXX")
    for name in [wanted] if wanted else ["c++", "g++", "clang++"]:
        if path := shutil.which(name):
            yield OK, f"{path}: the simulator runs the CUDA kernels on the CPU"
            return
    yield (
        MISSING,
        (
            f"{f'$CXX ({wanted}) is not' if wanted else 'no C++ compiler'} found: the simulator needs one "
            "(Debian: apt install g++; macOS: xcode-select --install)"
        ),
    )


def _extras() -> Iterator[tuple[str, str]]:
    for module, name, use in (
        ("matplotlib", "matplotlib", "pictures of a run"),
        ("PIL", "Pillow", "reading PNG and JPEG"),
        ("torch", "torch", "tests against PyTorch"),
    ):
        there = importlib.util.find_spec(module) is not None
        yield OK if there else MISSING, f"{name}, for {use}" + ("" if there else f": pip install {name}")


def _data() -> Iterator[tuple[str, str]]:
    from ..data import DataError, datasets

    yield OK, "digits are drawn, they need no files"
    for source, holds in (
        (datasets.MNIST, datasets.holds_idx),
        (datasets.FASHION_MNIST, datasets.holds_idx),
        (datasets.CIFAR10, datasets.holds_cifar),
    ):
        try:
            yield OK, f"{source.name} in {datasets.locate(source, holds, None, None, False)}"
        except (DataError, OSError):
            own = os.environ.get("TINYNET_DATA", "not set")
            yield (
                MISSING,
                (
                    f"{source.name} is downloaded at the first use, or put its files into "
                    f"$TINYNET_DATA/{source.name}/ (TINYNET_DATA: {own})"
                ),
            )
