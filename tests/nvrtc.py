"""NVRTC, called without CuPy and without a GPU: from NVIDIA's wheels (`pip install 'tinynet[test-gpu]'`)."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from pathlib import Path


def installed() -> list[Path]:
    """The libraries of NVRTC that NVIDIA's wheels brought, at most one of each CUDA version."""
    wheels = [Path(p) / "nvidia" for p in sys.path if p]
    return sorted(p for wheel in wheels for p in wheel.glob("*/lib/libnvrtc.so.*"))


def headers(library: Path) -> list[Path]:
    """The folders of `cuda_fp16.h` that belong to it, if its wheel is installed too."""
    return [
        p.parent
        for p in library.parents[2].glob("*/include/cuda_fp16.h")
        if p.parents[1].name in (library.parents[1].name, "cuda_runtime")
    ]


class Nvrtc:
    """One library. `compile` returns (PTX or CUBIN, the mangled name of each name, the log)."""

    def __init__(self, path: Path):
        self.path, self.library = path, ctypes.CDLL(str(path))
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("Version", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)

    def compile(
        self, text: str, names: Iterable[str], options: Iterable[str], what: str = "PTX"
    ) -> tuple[bytes, dict[str, str], str]:
        """Raises RuntimeError with the compiler's log where the text does not compile."""
        program = ctypes.c_void_p()
        self._call("CreateProgram", ctypes.byref(program), text.encode("ascii"), b"tinynet.cu", 0, None, None)
        try:
            names, words = list(names), [o.encode() for o in options]
            for name in names:
                self._call("AddNameExpression", program, name.encode())
            failed = self.library.nvrtcCompileProgram(program, len(words), (ctypes.c_char_p * len(words))(*words))
            log = self._text("ProgramLog", program).decode(errors="replace").rstrip("\0")
            if failed:
                raise RuntimeError(log)
            mangled = {}
            for name in names:
                found = ctypes.c_char_p()
                self._call("GetLoweredName", program, name.encode(), ctypes.byref(found))
                mangled[name] = (found.value or b"").decode()
            return self._text(what, program), mangled, log
        finally:
            self._call("DestroyProgram", ctypes.byref(program))

    def _text(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", program, text)
        return text.raw

    def _call(self, function: str, *arguments: object) -> None:
        status = self.library[f"nvrtc{function}"](*arguments)
        if status:
            raise RuntimeError(f"nvrtc{function}: {self.library.nvrtcGetErrorString(status).decode()}")
