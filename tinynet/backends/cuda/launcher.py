"""Launching kernels: what the GPU's launcher and the simulator's have in common.

    launcher.launch("row_sum", x, y, rows, columns)

finds the kernel's source and its launch shape (`table.py`) and its declaration (`sources.py`), deduces
the template types from the arrays, converts each scalar to the type that the kernel declares, refuses
arrays that the kernel would misread, and hands the rest to the subclass: `cupy_launcher.py` on a GPU,
`simulator.py` on the CPU.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from . import sources
from .table import TABLE, Entry

# The C names that arguments may have, and the name under which each dtype enters a template.
CTYPES: dict[str, np.dtype] = {
    name: np.dtype(dtype)
    for dtype, names in {
        np.float32: ("float",),
        np.float64: ("double",),
        np.float16: ("half", "__half"),
        np.bool_: ("bool",),
        np.int8: ("signed char",),
        np.uint8: ("u8", "unsigned char"),
        np.int16: ("short",),
        np.uint16: ("u16", "unsigned short", "bfloat16"),  # NumPy has no bfloat16: arrays hold its bits
        np.int32: ("int", "i32"),
        np.uint32: ("u32", "unsigned", "unsigned int"),
        np.int64: ("i64", "long long", "long"),
        np.uint64: ("u64", "unsigned long long", "size_t"),
    }.items()
    for name in names
}
NAMES: dict[np.dtype, str] = {dtype: name for name, dtype in reversed(CTYPES.items())}

# Where a compiler or the simulator points to: `kernel.cu:46:7: error: …`, or NVRTC: `kernel.cu(46): error: …`.
_PLACE = re.compile(r"^(?:In file included from )?(.+?\.(?:cuh?|h))(?::(\d+)|\((\d+)\))", re.MULTILINE)
_ERROR = re.compile(_PLACE.pattern + r"(?::\d+)?: (?:catastrophic |fatal )?error", re.MULTILINE)

Dim3 = tuple[int, int, int]
Shape = tuple[Dim3, Dim3, int]  # grid, block, bytes of dynamic shared memory


class KernelError(RuntimeError):
    """A kernel is wrong: it does not compile, or the simulator caught it. `file` and `line` say where."""

    def __init__(self, message: str):
        super().__init__(message)
        place = _ERROR.search(message) or _PLACE.search(message)
        self.file: str | None = place[1] if place else None
        self.line: int | None = int(place[2] or place[3]) if place else None


@dataclass(frozen=True)
class Specialised:
    """A kernel with its template arguments, ready to be given values."""

    name: str  # row_sum<float>
    arguments: tuple[sources.Argument, ...]
    convert: tuple[Callable[[Any], Any], ...]  # a converter for each argument
    run: Callable[..., None]  # (grid, block, shared, stream, converted arguments)


class Launcher:
    """What both launchers do. A subclass compiles, runs, and makes arrays.

    Args:
        table: which files there are, and the entry (launch shape, template choices) of each kernel.
        texts: the source text of each file, where it is not one of `kernels/`.
    """

    name = "abstract"
    arraytype: Any
    recording: Any = None  # the graph that a function runs for, where the launcher has graphs

    def __init__(self, table: dict[str, dict[str, Entry]] = TABLE, texts: dict[str, str] | None = None):
        self.texts = texts or {}
        self._files = {name: file for file, entries in table.items() for name in entries}
        self._entries = {name: entry for entries in table.values() for name, entry in entries.items()}
        self._specialised: dict[tuple, Specialised] = {}
        self.kernel = lru_cache(maxsize=None)(self._find)

    # ---- for a subclass --------------------------------------------------------------------------

    def compile(self, file: str, kernel: sources.Kernel, name: str) -> Callable[..., None]:
        """A function (grid, block, shared, stream, arguments) that runs `name`, like row_sum<float>."""
        raise NotImplementedError

    def pointer(self, array: Any) -> Any:
        """An array, or None for an array that is not given, as an argument for `run`."""
        raise NotImplementedError

    def scalar(self, value: np.generic | np.ndarray) -> Any:
        """A scalar of the declared type, or one structure as an argument for `run`."""
        return value

    # ---- launching -------------------------------------------------------------------------------

    def launch(
        self,
        name: str,
        *args: Any,
        grid: Any = None,
        block: Any = None,
        shared: int | None = None,
        stream: Any = None,
        **template: Any,
    ) -> None:
        """Run kernel `name` on the arguments that its source declares, in their order.

        Args:
            args: arrays of this launcher (C-contiguous, of the declared type; None for one that is not
                given), numbers, and sequences of ints for `Ints<N>`.
            grid, block: blocks and threads, an int or up to three; the table's shape without them.
            shared: bytes of dynamic shared memory; the table's without it.
            stream: where the work is queued; the current stream without it.
            template: template arguments that no array's dtype gives, by name: `Op="Add"`, `TILE=16`.

        Returns nothing and waits for nothing. A grid without blocks launches nothing.
        Raises TypeError or ValueError for wrong arguments, KernelError for a wrong kernel.
        """
        kernel, deduced = self.kernel(name)
        if len(args) != len(kernel.arguments):
            takes = ", ".join(a.name for a in kernel.arguments)
            raise TypeError(f"{name} takes {len(kernel.arguments)} arguments ({takes}); got {len(args)}")
        key = (name, *(getattr(args[k], "dtype", None) for k in deduced), *template.items())
        special = self._specialised.get(key)
        if special is None:
            special = self._specialised[key] = self._specialise(kernel, args, template)
        if grid is None or block is None:
            shape = self._entries[name].shape
            if shape is None:
                raise TypeError(f"{name} has no launch shape in the table: give grid= and block=")
            grid, block, by_shape = shape({a.name: v for a, v in zip(kernel.arguments, args, strict=True)})
            shared = by_shape if shared is None else shared
        blocks, threads = dim3(grid), dim3(block)
        if 0 in blocks:
            return
        check_shape(kernel, blocks, threads)
        converted = [convert(value) for convert, value in zip(special.convert, args, strict=True)]
        special.run(blocks, threads, shared or 0, stream, converted)

    def _find(self, name: str) -> tuple[sources.Kernel, tuple[int, ...]]:
        """A kernel's declaration, and the positions of the arrays whose dtypes its template depends on."""
        if name not in self._files:
            raise KeyError(f"there is no kernel {name!r}; there are {', '.join(sorted(self._files))}")
        declared = self.declared(self._files[name])
        if name not in declared:
            raise KeyError(f"{self._files[name]} defines no kernel {name!r}, but the table lists it")
        kernel = declared[name]
        words = set(kernel.template)
        return kernel, tuple(k for k, a in enumerate(kernel.arguments) if a.access and words & set(_words(a.ctype)))

    def declared(self, file: str) -> dict[str, sources.Kernel]:
        """The kernels that a file defines."""
        return sources.kernels(self.texts.get(file) or sources.read(file))

    def _specialise(self, kernel: sources.Kernel, args: Iterable[Any], given: dict[str, Any]) -> Specialised:
        template = dict(given)
        unknown = set(template) - set(kernel.template)
        if unknown:
            raise TypeError(f"{kernel.name} has no template parameter {', '.join(sorted(unknown))}")
        for argument, value in zip(kernel.arguments, args, strict=True):
            if argument.access and argument.ctype in kernel.template and value is not None:
                template.setdefault(argument.ctype, ctype_of(kernel, argument, value))
        missing = [name for name in kernel.template if name not in template]
        if missing:
            raise TypeError(f"{kernel.name}: no array tells template parameter {missing[0]}; give {missing[0]}=…")
        name = kernel.specialised(template)
        convert = tuple(self._converter(kernel, a, template) for a in kernel.arguments)
        return Specialised(name, kernel.arguments, convert, self.compile(self._files[kernel.name], kernel, name))

    def _converter(
        self, kernel: sources.Kernel, argument: sources.Argument, template: dict[str, Any]
    ) -> Callable[[Any], Any]:
        ctype = resolve(argument.ctype, template)
        where = f"{kernel.name}: {argument.name}"
        ints = re.fullmatch(r"Ints\s*<\s*(\d+)\s*>", ctype)
        if ints:
            return lambda value: self.scalar(pack_ints(where, value, int(ints[1])))
        if ctype not in CTYPES:
            known = ", ".join(CTYPES)
            raise TypeError(f"{where} is declared {ctype}, which the launcher does not know; it knows {known}")
        dtype = CTYPES[ctype]
        if argument.access:
            return lambda value: self.pointer(self._checked(where, value, dtype))
        make = dtype.type
        if dtype.kind == "f":
            return lambda value: self.scalar(make(float(value)))
        if dtype.kind == "b":
            return lambda value: self.scalar(make(bool(value)))
        return lambda value: self.scalar(make(operator.index(value)))  # refuses 2.5, and what does not fit

    def _checked(self, where: str, value: Any, dtype: np.dtype) -> Any:
        if value is None:
            return None
        if type(value) is not self.arraytype and not isinstance(value, self.arraytype):
            kind = f"{type(value).__module__}.{type(value).__name__}"
            raise TypeError(f"{where} must be an array of the {self.name} backend, not {kind}")
        if value.dtype != dtype:
            raise TypeError(f"{where} must be {dtype}, not {value.dtype}")
        if not value.flags.c_contiguous:
            raise ValueError(f"{where} must be C-contiguous: kernels see memory, not strides; copy it first")
        return value


def dim3(size: Any) -> Dim3:
    """An int or up to three as (x, y, z)."""
    size = (size,) if isinstance(size, (int, np.integer)) else tuple(size)
    x, y, z = (*map(int, size), 1, 1)[:3]
    return x, y, z


def check_shape(kernel: sources.Kernel, grid: Dim3, block: Dim3) -> None:
    """Refuse what no CUDA device takes."""
    threads = block[0] * block[1] * block[2]
    if min(block) < 1 or threads > kernel.most_threads or block[2] > 64:
        raise ValueError(f"{kernel.name}: a block has 1 to {kernel.most_threads} threads, z at most 64; got {block}")
    if min(grid) < 0 or grid[0] >= 2**31 or max(grid[1:]) > 65535:
        raise ValueError(f"{kernel.name}: a grid has at most 2147483647 x 65535 x 65535 blocks; got {grid}")


def ctype_of(kernel: sources.Kernel, argument: sources.Argument, value: Any) -> str:
    """The C name of an array's dtype."""
    dtype = getattr(value, "dtype", None)
    if dtype not in NAMES:
        what = dtype or type(value).__name__
        raise TypeError(f"{kernel.name}: {argument.name} is {what}, for which the launcher knows no C type")
    return NAMES[dtype]


def resolve(ctype: str, template: dict[str, Any]) -> str:
    """A declared type with the template's types in place; Acc<T> as `tinynet.cuh` defines it."""
    ctype = re.sub(r"\w+", lambda m: str(template.get(m[0], m[0])), ctype)
    accumulator = re.fullmatch(r"Acc\s*<\s*(.+?)\s*>", ctype)
    if accumulator:
        return "float" if accumulator[1] in ("half", "bfloat16") else accumulator[1]
    return ctype


def pack_ints(where: str, values: Iterable[int], n: int) -> np.ndarray:
    """Ints<n>: a few integers by value, zeros after the last; one structure, as CuPy wants them."""
    ints = [operator.index(v) for v in values]
    if len(ints) > n:
        raise ValueError(f"{where} takes at most {n} integers; got {len(ints)}")
    packed = np.zeros(1, np.dtype([("value", np.int64, n)]))
    packed["value"][0, : len(ints)] = ints
    return packed


def _words(ctype: str) -> list[str]:
    return re.findall(r"\w+", ctype)
