"""Every kernel compiles for real devices, by both of CUDA's compilers: nvcc, and NVRTC as CuPy calls it.

nvcc's registers, shared memory and spills go to the log; no kernel spills or has an array in local memory. By default
in float and half, one Op of each kernel, for one architecture, which takes some seconds; all of all with

    TINYNET_NVCC=all python -m pytest tests/test_cuda_compiles.py -s        # -s prints the log

NVRTC (pip install 'tinynet[test-gpu]') compiles every instance that the table foresees or an operation asks for, with
the launcher's options, to PTX; there stands too which arguments a kernel expects, and that no array is in local memory.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests import nvrtc
from tinynet import backends
from tinynet.backends import cuda
from tinynet.backends.cuda import sources
from tinynet.backends.cuda.cupy_launcher import CupyLauncher, options
from tinynet.backends.cuda.launcher import KernelError, Launcher, Specialised
from tinynet.backends.cuda.simulator import SimulatorLauncher
from tinynet.backends.cuda.table import FLOATS, TABLE
from tinynet.ops import cases
from tinynet.tensor import tensor

ALL = os.environ.get("TINYNET_NVCC") == "all"
HALVES = ("half", "bfloat16")
ARCHITECTURES = {"sm_75": "Turing", "sm_80": "Ampere", "sm_90": "Hopper"} if ALL else {"sm_90": "Hopper"}
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc, of the CUDA toolkit")


def instances(file: str) -> str:
    """A file's text and, behind it, each of its kernels with all template values of the table, and half types."""
    text = sources.read(file)
    lines = [sources.expand(text, f"kernels/{file}")]
    for name, kernel in sources.kernels(text).items():
        choices = {"T": FLOATS} | TABLE[file][name].choices
        if choices["T"][:1] == ("float",) and file != "optim.cu":  # the state of an optimiser is float at least
            choices["T"] = (*choices["T"], *HALVES) if ALL else ("float", "half")
        wanted = (
            choices[p] if ALL or (p in ("T", "TX", "TY") and choices["T"][-1] in HALVES) else choices[p][:1]
            for p in kernel.template
        )
        for values in itertools.product(*wanted):
            template = dict(zip(kernel.template, values, strict=True))
            types = ", ".join(declared_type(a, template) for a in kernel.arguments)
            if template:
                lines.append(f"template __global__ void {kernel.specialised(template)}({types});")
    return "\n".join(lines) + "\n"


def declared_type(argument: sources.Argument, template: dict[str, str]) -> str:
    ctype = re.sub(r"\w+", lambda m: template.get(m[0], m[0]), argument.ctype)
    return f"{argument.access}<{ctype}>" if argument.access else ctype


def resources_of(log: str) -> dict[str, tuple[int, int, int, int]]:
    """{kernel: (registers, bytes of shared memory, bytes spilled, bytes of local memory)} from ptxas -v."""
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        name = part.split("'")[0]
        registers, shared = re.search(r"Used (\d+) registers", part), re.search(r"(\d+) bytes smem", part)
        spills = sum(map(int, re.findall(r"(\d+) bytes spill", part)))
        stack = re.search(r"(\d+) bytes stack frame", part)
        assert registers and stack, f"ptxas says nothing of {name}"
        found[name] = (int(registers[1]), int(shared[1]) if shared else 0, spills, int(stack[1]))
    return found


@needs_nvcc
def test_compiles_without_spills_and_local_memory(tmp_path):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = list(itertools.product(ARCHITECTURES, TABLE))
        for (arch, file), found in zip(jobs, pool.map(lambda job: compiled(*job, tmp_path), jobs), strict=True):
            assert found, f"nvcc reported no kernel in {file}"
            for name, (registers, shared, spills, stack) in sorted(found.items()):
                print(f"{ARCHITECTURES[arch]:7} {file:15} {registers:4} registers {shared:6} bytes shared  {name}")
                assert spills == 0, f"{name} spills {spills} bytes on {arch}"
                assert stack == 0, f"{name} has {stack} bytes of local memory on {arch}"


def compiled(arch: str, file: str, folder: Path) -> dict[str, tuple[int, int, int, int]]:
    command = ["nvcc", "-cubin", "-DTINYNET_HALF", f"-arch={arch}", "-std=c++17", "-Xptxas", "-v"]
    source = folder / f"{arch}-{file}"
    source.write_text(instances(file))
    command += ["-o", f"{arch}-{file}.cubin", str(source)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return resources_of(done.stdout + done.stderr)


# ---- NVRTC ---------------------------------------------------------------------------------------

LIBRARIES = nvrtc.installed()
needs_nvrtc = pytest.mark.skipif(not LIBRARIES, reason="needs NVRTC (pip install 'tinynet[test-gpu]')")
each_library = pytest.mark.parametrize("library", LIBRARIES or [None], ids=lambda path: path.name if path else "none")
DTYPES = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")


class Packing(CupyLauncher):
    """CuPy's launcher without CuPy: it packs arguments as it does on a GPU."""

    def __init__(self) -> None:
        Launcher.__init__(self)

    def compile(self, file, kernel, name):
        return None


@cache
def wanted() -> dict[str, dict[str, Specialised]]:
    """{file: {instance: how its arguments are packed}}: of the table, and those that any operation asks for."""
    launcher, found = Packing(), {file: {} for file in TABLE}
    for file, kernel, template in itertools.chain(foreseen(), asked_for()):
        special = launcher._specialise(kernel, [None] * len(kernel.arguments), template)
        found[file][special.name] = special
    return found


def foreseen() -> Iterator[tuple]:
    for file, entries in TABLE.items():
        for name, kernel in sources.kernels(sources.read(file)).items():
            choices = {"T": FLOATS} | entries[name].choices
            for values in itertools.product(*(choices[p] for p in kernel.template)):
                yield file, kernel, dict(zip(kernel.template, values, strict=True))


def asked_for() -> list[tuple]:
    """What the operations' cases launch, in every dtype that they take, forward and backward. Nothing is compiled or
    run: results are arbitrary."""
    asked = []

    class Recorder(SimulatorLauncher):
        def compile(self, file, kernel, name):
            values = name.partition("<")[2].removesuffix(">").split(", ") if kernel.template else []
            asked.append((file, kernel, dict(zip(kernel.template, values, strict=True))))
            return lambda *_: None

    before = backends._loaded.get("simulator")
    backends._loaded["simulator"] = recorder = cuda.Cuda("simulator", Recorder())
    try:
        for case in cases.CASES:
            for dtype in map(np.dtype, DTYPES):
                arrays = [x.astype(dtype) if x.dtype.kind == "f" else x for x in case.arrays()]
                try:
                    tensors = [tensor(x, backend="simulator", requires_grad=x.dtype.kind == "f") for x in arrays]
                    with backends.use("simulator"), np.errstate(all="ignore"):
                        y = case(*tensors)
                    y = y[0] if isinstance(y, list | tuple) else y
                    if y.requires_grad:
                        y.backward(recorder.full(y.shape, 1, y.dtype))
                except (TypeError, ValueError, IndexError):
                    pass  # the operation does not take this dtype, and says so
    finally:
        backends._loaded.pop("simulator")
        if before is not None:
            backends._loaded["simulator"] = before
    return asked


@cache
def compiled_by(library: Path) -> dict[str, tuple[Specialised, str, tuple]]:
    """{instance: (how the launcher packs its arguments, its PTX, `resources_of` it or ())} of all that is wanted."""
    compiler, asked = nvrtc.Nvrtc(library), wanted()

    def compile_file(file: str, half: bool) -> dict[str, tuple[Specialised, str, tuple]]:
        packed = {name: s for name, s in asked[file].items() if ("-DTINYNET_HALF" in options(name)) == half}
        if not packed:
            return {}
        text = sources.cuda_text(sources.read(file), f"kernels/{file}")
        words = [*options(next(iter(packed))), "-ftz=true"]  # the last by CuPy
        words += ["-arch=sm_90", "-Xptxas=-v"] if ALL else ["-arch=compute_90"]
        words += [f"-I{folder}" for folder in nvrtc.headers(library)]
        ptx, mangled, log = compiler.compile(text, packed, words)
        entries, used = dict(re.findall(r"\.entry (\w+)(.*?)\n}", ptx.decode(), re.DOTALL)), resources_of(log)
        return {
            name: (special, entries[mangled[name]], used[mangled[name]] if ALL else ())
            for name, special in packed.items()
        }

    jobs = [(file, half) for file in TABLE for half in (False, True) if not half or nvrtc.headers(library)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {name: pair for found in pool.map(lambda job: compile_file(*job), jobs) for name, pair in found.items()}


@needs_nvrtc
@each_library
def test_all_that_is_asked_for_compiles_as_cupy_compiles_it(library):
    names = {name for file in wanted().values() for name in file}
    if not nvrtc.headers(library):
        names = {name for name in names if "half" not in name}
    print(f"NVRTC {nvrtc.Nvrtc(library).version}: {len(names)} instances")
    assert set(compiled_by(library)) == names


@needs_nvrtc
@each_library
def test_no_kernel_has_an_array_in_local_memory(library):
    """An array that is indexed at run time has no place in registers; TINYNET_NVCC=all finds spills too. CUDA's own
    sine has one, for the digits of 2/π that angles above 10⁵ need."""
    for name, (_, ptx, used) in compiled_by(library).items():
        if not name.startswith(("unary<Sin, ", "unary<Cos, ", "unary<Tan, ")):
            assert "__local_depot" not in ptx and not any(used[2:]), (name, used)


@needs_nvrtc
@each_library
def test_arguments_are_packed_as_the_kernels_expect(library):
    """Sizes and kinds of PTX's .param list against what the launcher hands to CuPy, which copies bytes."""
    for name, (special, ptx, _) in compiled_by(library).items():
        expected = [
            (kind == "f", int(bits) // 8 * int(count or 1), int(align or 0))
            for align, kind, bits, count in re.findall(
                r"\.param (?:\.align (\d+) )?\.([a-z])(\d+) \w+(?:\[(\d+)\])?", ptx.partition("{")[0]
            )
        ]
        given = []
        for argument, convert in zip(special.arguments, special.convert, strict=True):
            value = convert(None if argument.access else () if "Ints" in argument.ctype else 1)
            assert isinstance(value, np.generic | np.ndarray), (name, argument)
            kind, size = value.dtype.kind, value.nbytes
            given.append((kind == "f" and size > 2, size, 8 if kind == "V" else 2 if kind == "f" and size == 2 else 0))
        assert given == expected, name  # (whether a float, bytes, alignment of a structure; a half is one in PTX)


@needs_nvrtc
@each_library
def test_a_mistake_names_file_and_line(library):
    text = sources.cuda_text("// Σ\n__global__ void k(Out<int> y) {\n    int unused; y[0] = nothing;\n}", "my k.cu")
    with pytest.raises(RuntimeError) as caught:
        nvrtc.Nvrtc(library).compile(text, ["k"], [*options("k"), "-arch=compute_90"])
    error = KernelError(f"the kernel does not compile:\n{caught.value}")
    assert (error.file, error.line) == ("my k.cu", 3)


@pytest.mark.parametrize(
    "message, file, line",
    [
        ("kernels/a.cu(46): error: no", "kernels/a.cu", 46),
        ("/tmp/x/a.cu(46): catastrophic error: no", "/tmp/x/a.cu", 46),
        (
            "kernels/a.cu(2): warning #177-D: unused\n\nkernels/b.cuh(46): error: no\nkernels/c.cu(5): error: no",
            "kernels/b.cuh",
            46,
        ),
        ("kernel.cu:46:7: error: no", "kernel.cu", 46),
        ("kernel.cu: In function 'void k()':\nkernel.cu:46:7: error: no", "kernel.cu", 46),
        ("In file included from kernel.cu:1:\nmine.h:46:7: fatal error: no", "mine.h", 46),
        ("a folder/kernel.cu:46: k: thread (0, 0, 0) reads x[64]", "a folder/kernel.cu", 46),
        ("In file included from kernel.cu:46:", "kernel.cu", 46),
        ("ptxas fatal: out of memory", None, None),
    ],
)
def test_the_place_of_a_mistake(message, file, line):
    for text in (message, f"the kernel does not compile:\n{message}\nand more"):
        error = KernelError(text)
        assert (error.file, error.line) == (file, line)


def test_cuda_text_is_ascii():
    for file in TABLE:
        text = sources.cuda_text(sources.read(file), f"kernels/{file}")
        assert text.isascii() and text.count("\n") >= sources.read(file).count("\n")
    assert "\\u03b2x\\u00b7\\U0001f600" in sources.cuda_text("// βx·😀", "k.cu")  # as C++ writes them in names, too
