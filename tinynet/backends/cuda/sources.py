"""Where the `.cu` files are, what they contain, and what their kernels take.

A kernel is declared once, in its source: `template <typename T> __global__ void scale(In<T> x, Out<T> y,
T factor, i64 n)`. The launchers read names, template parameters and arguments from there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)".*$', re.MULTILINE)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_BOUNDS = r"(?:__launch_bounds__\s*\((?P<{}>[^)]*)\)\s*)?"
_KERNEL = re.compile(
    r"(?:\btemplate\s*<(?P<template>[^{};]*?)>\s*)?"
    r'(?:extern\s*"C"\s*)?\b__global__\s+'
    + _BOUNDS.format("b1")
    + r"void\s+"
    + _BOUNDS.format("b2")
    + r"(?P<name>\w+)\s*\((?P<arguments>[^{};]*?)\)\s*\{"
)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_ARRAY = re.compile(r"(InOut|In|Out)\s*<\s*(.+?)\s*>$")


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel: an array (`access` In, Out or InOut of `ctype`), a pointer or a scalar."""

    name: str
    ctype: str
    access: str | None = None


@dataclass(frozen=True)
class Kernel:
    """One `__global__` function as its source declares it."""

    name: str
    template: tuple[str, ...]
    arguments: tuple[Argument, ...]
    most_threads: int = 1024

    def specialised(self, template: dict[str, Any]) -> str:
        """Its name with template arguments, as C++ and CuPy write it: `scale<float>`."""
        values = (
            str(template[name]).lower() if isinstance(template[name], bool) else str(template[name])
            for name in self.template
        )
        return f"{self.name}<{', '.join(values)}>" if self.template else self.name


@cache
def folder() -> Any:
    """The folder of the `.cu` files: the package `tinynet.kernels`, else the checkout's `kernels/`."""
    try:
        found = resources.files("tinynet.kernels")
        if (found / "tinynet.cuh").is_file():
            return found
    except ModuleNotFoundError:  # a clone that shadows the installed package
        pass
    return Path(__file__).parents[3] / "kernels"


@cache
def read(file: str) -> str:
    """The text of a file in `kernels/`."""
    return (folder() / file).read_text(encoding="utf-8")


def expand(text: str, file: str, *, skip: tuple[str, ...] = ()) -> str:
    """`text` with the files of `kernels/` that it includes in place, each once.

    `#line` keeps messages pointing into the original files. CUDA's compiler gets one text this way and
    needs no folder of headers; its cache and the simulator's then depend on all of it.
    """
    seen = set(skip)

    def expanded(text: str, file: str) -> str:
        def include(match: re.Match[str]) -> str:
            name = match[1]
            if name in skip or not (folder() / name).is_file():
                return match[0]
            if name in seen:
                return ""
            seen.add(name)
            line = text.count("\n", 0, match.start()) + 2
            return f'{expanded(read(name), "kernels/" + name)}\n#line {line} "{file}"'

        return f'#line 1 "{file}"\n' + _INCLUDE.sub(include, text)

    return expanded(text, file)


def with_prelude(text: str, file: str) -> str:
    """`text` with `#include "tinynet.cuh"` before it where it has none, so that a bare kernel compiles too."""
    return text if '"tinynet.cuh"' in text else f'#include "tinynet.cuh"\n#line 1 "{file}"\n{text}'


def cuda_text(text: str, file: str) -> str:
    """What CUDA's compiler gets: one text without the simulator.

    It is ASCII, as CuPy writes it to files in the encoding of the locale: other characters stand there by their
    numbers (`\\u00b7`), which C++ takes for them.
    """
    whole = expand(with_prelude(text, file), file, skip=("simulator.h", "checks.h"))
    return _NOT_ASCII.sub(lambda c: f"\\u{ord(c[0]):04x}" if c[0] < "\U00010000" else f"\\U{ord(c[0]):08x}", whole)


def kernels(text: str) -> dict[str, Kernel]:
    """The kernels that a source text defines, by name."""
    found = {}
    for match in _KERNEL.finditer(_COMMENT.sub(" ", text)):
        template = tuple(_split_name(p)[1] for p in _split(match["template"] or ""))
        arguments = tuple(_argument(a) for a in _split(match["arguments"]))
        bound = (match["b1"] or match["b2"] or "").partition(",")[0].strip()
        most = int(bound) if bound.isdigit() else 1024  # a bound that templates compute is the compiler's to keep
        found[match["name"]] = Kernel(match["name"], template, arguments, most)
    return found


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside of <…> and (…)."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "<(") - (c in ">)")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [" ".join(p.split()) for p in parts if p.strip()]


def _split_name(declaration: str) -> tuple[str, str]:
    """`unsigned int n` -> (`unsigned int`, `n`); a default value is left out."""
    match = re.match(r"(.*?)(\w+)$", declaration.split("=")[0].strip(), re.DOTALL)
    assert match, declaration
    return match[1].strip(), match[2]


def _argument(declaration: str) -> Argument:
    ctype, name = _split_name(declaration)
    array = _ARRAY.match(ctype)
    if array:
        return Argument(name, array[2], array[1])
    if "*" in ctype:  # raw CUDA: a pointer, which the simulator cannot check
        element = re.sub(r"\bconst\b|__restrict__|\*", "", ctype).strip()
        return Argument(name, element, "In" if "const" in ctype else "InOut")
    return Argument(name, re.sub(r"\bconst\b", "", ctype).strip())
