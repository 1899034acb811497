"""The launcher that runs kernels on the CPU: compiles `.cu` files with the system's C++ compiler.

A file's kernels become one shared library, kept in the user's cache under a hash of everything that it
depends on, so that each text is compiled once on a machine. `load` does the same for anybody's kernel.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import itertools
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ...folders import cache_folder, temporary_folder, who_else_may_write
from ..errors import BackendError
from . import sources
from .devicearray import DeviceArray
from .launcher import KernelError, Launcher
from .table import FLOATS, TABLE, Entry

ORDERS = 4  # of the threads, in checking mode: ascending, descending, two random

_lock = threading.Lock()  # one launch at a time: the simulated device is static memory


class SimulatorLauncher(Launcher):
    """Runs kernels on the CPU.

    Args:
        check: look at every access and run each launch in several orders of its threads (slow, for
            tests and for writing kernels). None: whether TINYNET_SIMULATOR_CHECK is set to 1.

    In checking mode arrays are made full of NaN, so that an element which no kernel fills shows.
    """

    name = "simulator"
    arraytype: Any = DeviceArray

    def __init__(
        self, table: dict[str, dict[str, Entry]] = TABLE, texts: dict[str, str] | None = None, check: bool | None = None
    ):
        super().__init__(table, texts)
        self.check = os.environ.get("TINYNET_SIMULATOR_CHECK") == "1" if check is None else check
        self._table = table
        self._libraries: dict[tuple[str, tuple[str, ...]], ctypes.CDLL] = {}
        compiler()  # say now if there is none

    # ---- arrays ----------------------------------------------------------------------------------

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        """A new array; its contents are arbitrary (NaN in checking mode)."""
        array = np.empty(shape, dtype)
        if self.check:
            array.reshape(-1).view(np.uint8).fill(0xFF)
        return array.view(DeviceArray)

    def zeros(self, shape: Any, dtype: Any) -> DeviceArray:
        """A new array whose bytes are zero."""
        return np.zeros(shape, dtype).view(DeviceArray)

    def part(self, flat: DeviceArray, start: int, shape: Any) -> DeviceArray:
        """An array on the memory of a flat one, elements from `start` on; a view of none."""
        return np.ndarray.__new__(DeviceArray, shape, flat.dtype, flat.base, start * flat.dtype.itemsize)  # type: ignore[arg-type]

    def asarray(self, array: Any, dtype: Any = None) -> DeviceArray:
        """A host array's contents as a new array here; an array of this launcher as it is."""
        if isinstance(array, DeviceArray) and dtype in (None, array.dtype):
            return array
        return np.array(array, dtype, order="C").view(DeviceArray)

    def asnumpy(self, array: DeviceArray) -> np.ndarray:
        """A copy on the host."""
        return np.array(array.view(np.ndarray), order="C")

    def copyto(self, to: Any, source: Any, stream: Any = None) -> None:
        """Copy bytes between arrays of one shape and dtype, here or on the host."""
        if to.shape != source.shape or to.dtype != source.dtype:
            raise ValueError(f"copyto: {source.shape} {source.dtype} does not fit {to.shape} {to.dtype}")
        if not (to.flags.c_contiguous and source.flags.c_contiguous):
            raise ValueError("copyto moves bytes: both arrays must be C-contiguous")
        np.copyto(to.view(np.ndarray), source.view(np.ndarray))

    def ahead(self, batches: Iterable[tuple]) -> Iterator[tuple]:
        """(x, y) with x here; there is nothing to run ahead of."""
        for x, y in batches:
            yield self.asarray(x), y

    def synchronize(self) -> None:
        """Wait until all launches are done; here they always are."""

    # ---- kernels ---------------------------------------------------------------------------------

    def compile(self, file: str, kernel: sources.Kernel, name: str) -> Callable[..., None]:
        library, index = self._library(file, name)
        function = library[f"tinynet_kernel_{index}"]
        function.argtypes, function.restype = [ctypes.c_char_p, ctypes.c_char_p], ctypes.c_char_p
        orders = ORDERS if self.check else 1

        def run(grid: Any, block: Any, shared: int, stream: Any, arguments: list[bytes]) -> None:
            if shared > MOST_SHARED:
                raise ValueError(f"{name}: a block has at most {MOST_SHARED} bytes of shared memory, not {shared}")
            shape = struct.pack("6I2q", *grid, *block, shared, orders)
            with _lock:
                message = function(shape, b"".join(arguments))
            if message:
                raise KernelError(message.decode(errors="replace"))

        return run

    def prepare(self) -> None:
        """Compile all files of the table now, side by side, instead of each at its first launch."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda file: build(self._source(file, *self._batch(file)), check=self.check), self._table))

    def pointer(self, array: np.ndarray | None) -> bytes:
        return struct.pack("Pq", 0, 0) if array is None else struct.pack("Pq", array.ctypes.data, array.size)

    def scalar(self, value: np.generic | np.ndarray) -> bytes:
        data = value.tobytes()
        return data + bytes(-len(data) % 16)

    def _library(self, file: str, name: str) -> tuple[ctypes.CDLL, int]:
        """The library that has `name`, and its number there."""
        declared, batch = self._batch(file)
        if name not in batch:
            batch = (name,)
        if (file, batch) not in self._libraries:
            text = self._source(file, declared, batch)
            self._libraries[file, batch] = build(text, check=self.check)
        return self._libraries[file, batch], batch.index(name)

    def _batch(self, file: str) -> tuple[dict[str, sources.Kernel], tuple[str, ...]]:
        """(the kernels of a file, the names of the instances that are compiled together)."""
        declared = self.declared(file)
        return declared, tuple(instance for k in declared.values() for instance in self._instances(file, k))

    def _instances(self, file: str, kernel: sources.Kernel) -> list[str]:
        """The kernel with each combination of template values that the table foresees."""
        choices = {"T": FLOATS} | self._table[file].get(kernel.name, Entry(None)).choices
        if any(p not in choices for p in kernel.template):
            return []
        combinations = itertools.product(*(choices[p] for p in kernel.template))
        return [kernel.specialised(dict(zip(kernel.template, c, strict=True))) for c in combinations]

    def _source(self, file: str, declared: dict[str, sources.Kernel], batch: Iterable[str]) -> str:
        """The file's text, and behind it an entry for Python to each kernel of the batch."""
        text = self.texts.get(file)
        own = file if text is not None else f"kernels/{file}"
        text = sources.read(file) if text is None else text
        lines = [sources.expand(sources.with_prelude(text, own), own), '#line 1 "<entries>"']
        for index, name in enumerate(batch):
            arguments = declared[name.partition("<")[0]].arguments
            access = {"In": "'I'", "Out": "'O'", "InOut": "'B'", None: "0"}
            parameters = ", ".join(f'{{"{a.name}", {access[a.access]}}}' for a in arguments) or "{}"
            lines.append(
                f'extern "C" __attribute__((visibility("default"))) const char* tinynet_kernel_{index}'
                "(const simulator::Launch* how, const simulator::Slot* slots) {\n"
                f"    static const simulator::Parameter parameters[] = {{{parameters}}};\n"
                f'    return simulator::Entry<{name}>::launch("{name}", parameters, how, slots);\n}}'
            )
        return "\n".join(lines) + "\n"


MOST_SHARED = 227 * 1024  # bytes a block may ask for on the largest devices

# ---- Compiling -----------------------------------------------------------------------------------


def compiler() -> str:
    """The C++ compiler's path: $CXX, else the first of c++, g++ and clang++ that there is."""
    wanted = os.environ.get("CXX")
    for name in (wanted,) if wanted else ("c++", "g++", "clang++"):
        path = shutil.which(name)
        if path:
            return path
    raise BackendError(
        f"the simulator needs a C++ compiler, and {'$CXX (' + wanted + ')' if wanted else 'c++, g++ or clang++'} was"
        " not found: install one (Debian: apt install g++; macOS: xcode-select --install) or set CXX"
    )


PATIENCE = 600  # seconds that a compiler may take; the largest file takes some ten
DIGITS = 32  # of a SHA-256 sum, in the name of a library


def build(text: str, *, check: bool) -> ctypes.CDLL:
    """The shared library made of a source text, from the cache where it is there whole.

    Raises KernelError where the text does not compile, BackendError where the compiler or every folder fails.
    """
    cxx = compiler()
    flags = [
        "-std=c++17",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        "-w",
        "-U_FORTIFY_SOURCE",
        "-fno-stack-protector",
        "-fstack-clash-protection",  # a large local array touches each page, and so the closed one of its stack
        "-O1" if check else "-O2",
        f"-DTINYNET_CHECK={int(check)}",
    ]
    if platform.machine() in ("x86_64", "AMD64"):
        flags.append("-fcf-protection=none")  # fibers switch stacks
    status = os.stat(cxx)
    key = repr((text, flags, cxx, status.st_size, status.st_mtime_ns, platform.machine(), platform.system()))
    key = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:DIGITS]
    failures = []
    for find in (_own_cache, temporary_folder):
        try:
            folder = find()
            return _from_cache(folder, key) or ctypes.CDLL(str(_make([cxx, *flags], text, folder, key)))
        except OSError as error:  # it cannot be written, is full, or is mounted noexec
            failures.append(str(error))
            if find is _own_cache:
                _note(f"compiled kernels are not kept: {error}")
    raise BackendError(
        "the simulator found no folder for compiled kernels: set XDG_CACHE_HOME or TMPDIR to one of yours that can be"
        f" written and executed from ({'; '.join(failures)})"
    )


def _own_cache() -> Path:
    """The user's folder of compiled kernels; OSError where there is none, or others could plant code in it."""
    folder = cache_folder("simulator")
    if folder is None:
        raise OSError("this user has no home folder; XDG_CACHE_HOME names another place")
    for place in (folder.parent.parent, folder.parent, folder):
        if not place.is_dir():
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder.resolve()
    if reason := who_else_may_write(folder):
        raise OSError(f"{reason}, so code in {folder} could be somebody else's")
    return folder


@functools.cache
def _note(text: str) -> None:
    print(f"tinynet: {text}", file=sys.stderr)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _from_cache(folder: Path, key: str) -> ctypes.CDLL | None:
    """The library of this key, if its content has the sum in its name: loading a damaged one can end the process."""
    for path in folder.glob(f"{key}-*.so"):
        try:
            if path.name == f"{key}-{_digest(path.read_bytes())}.so":
                return ctypes.CDLL(str(path))
        except OSError:  # another process removed it, or it was made for another system: it is made anew
            pass
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def _make(command: list[str], text: str, folder: Path, key: str) -> Path:
    """Compile into `folder`. The library is there whole or not at all, for other processes and after a power cut."""
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / "kernels.so"
        _compile([*command, "-x", "c++", "-", "-o", str(made)], text, scratch)
        with open(made, "r+b") as file:
            content = file.read()
            os.fsync(file.fileno())
        library = folder / f"{key}-{_digest(content)}.so"
        os.replace(made, library)
    return library


def _compile(command: list[str], text: str, scratch: str) -> None:
    """Run the compiler; it speaks English, reads UTF-8 and keeps its own files in `scratch`."""
    environment = os.environ | {"LC_ALL": "C", "TMPDIR": scratch}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise BackendError(f"the C++ compiler {command[0]} does not run: {error.strerror or error}") from error
    with process:
        try:
            _, answer = process.communicate(text.encode("utf-8", "surrogateescape"), timeout=PATIENCE)
        except BaseException as error:  # Ctrl-C among them: the compiler's children hold its pipes
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise BackendError(f"the C++ compiler {command[0]} did not end within {PATIENCE} s") from error
            raise
    says = answer.decode("utf-8", "replace").strip()
    if process.returncode and re.search("No space left on device|Disk quota exceeded", says):
        raise OSError(f"{scratch} is full")
    if process.returncode > 0 and says:
        raise KernelError(f"the kernel does not compile:\n{says}")
    if process.returncode or not os.path.exists(command[-1]):
        code = process.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}" if code else "made no library"
        raise BackendError(f"the C++ compiler {command[0]} {how}" + (f": {says}" if says else " and says nothing"))


# ---- A kernel of one's own -----------------------------------------------------------------------


class Kernels:
    """The kernels of one source, as functions of NumPy arrays: see `load`."""

    def __init__(self, text: str, file: str, check: bool, choices: dict[str, tuple]):
        names = sources.kernels(text)
        if not names:
            raise KernelError(f"{file}: no __global__ function found")
        table = {file: {name: Entry(None, choices) for name in names}}
        self._launcher = _OnHost(table, {file: text}, check)
        self._names = tuple(names)

    def __dir__(self) -> Iterable[str]:
        return self._names

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_") or name not in self._names:
            raise AttributeError(f"no kernel {name!r}; there are {', '.join(self._names)}")

        def call(grid: Any, block: Any, *args: Any, shared: int = 0, **template: Any) -> None:
            self._launcher.launch(name, *args, grid=grid, block=block, shared=shared, **template)

        call.__name__ = name
        return call


class _OnHost(SimulatorLauncher):
    """Takes plain NumPy arrays, so that a first kernel needs no other word of tinynet."""

    arraytype = np.ndarray


def load(source: str | os.PathLike, *, check: bool = True, **choices: tuple) -> Kernels:
    """Compile CUDA C++ for the CPU; each `__global__` function becomes a function of NumPy arrays.

    Args:
        source: the path of a `.cu` file, or the text itself.
        check: look for faults (see `kernels/README.md`); False runs faster.
        choices: values of template parameters, `TILE=(8, 16)`, to compile together at the first launch;
            T is float and double. Any other value is compiled when it is asked for.

    >>> k = load("template <typename T> __global__ void scale(In<T> x, Out<T> y, T a, i64 n) {"
    ...          "  i64 i = thread_index(); if (i < n) y[i] = a * x[i]; }")
    >>> x = np.arange(5, dtype=np.float32); y = np.empty_like(x)
    >>> k.scale(1, 32, x, y, 2.0, 5)    # grid, block, then the kernel's own arguments
    >>> y
    array([0., 2., 4., 6., 8.], dtype=float32)

    Raises KernelError, with file and line, where it does not compile or a fault is found.
    """
    if isinstance(source, str) and ("\n" in source or "__global__" in source):
        return Kernels(source, "kernel.cu", check, choices)
    path = Path(source)
    return Kernels(path.read_text(encoding="utf-8"), str(path), check, choices)
