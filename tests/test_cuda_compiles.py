"""Every kernel compiles for real devices: nvcc's registers, shared memory and spills go to the log, and none spills.

By default in float and half, one Op of each kernel, for one architecture, which takes some seconds; all of all with

    TINYNET_NVCC=all python -m pytest tests/test_cuda_compiles.py -s        # -s prints the log
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tinynet.backends.cuda import sources
from tinynet.backends.cuda.table import FLOATS, TABLE

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
        if choices["T"][:1] == ("float",) and file != "optim.cu":     # the state of an optimiser is float at least
            choices["T"] = (*choices["T"], *HALVES) if ALL else ("float", "half")
        wanted = (choices[p] if ALL or (p in ("T", "TX", "TY") and choices["T"][-1] in HALVES) else choices[p][:1]
                  for p in kernel.template)
        for values in itertools.product(*wanted):
            template = dict(zip(kernel.template, values, strict=True))
            types = ", ".join(declared_type(a, template) for a in kernel.arguments)
            if template:
                lines.append(f"template __global__ void {kernel.specialised(template)}({types});")
    return "\n".join(lines) + "\n"


def declared_type(argument: sources.Argument, template: dict[str, str]) -> str:
    ctype = re.sub(r"\w+", lambda m: template.get(m[0], m[0]), argument.ctype)
    return f"{argument.access}<{ctype}>" if argument.access else ctype


def resources_of(log: str) -> dict[str, tuple[int, int, int]]:
    """{kernel: (registers, bytes of shared memory, bytes spilled)} from ptxas -v."""
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        name = part.split("'")[0]
        registers, shared = re.search(r"Used (\d+) registers", part), re.search(r"(\d+) bytes smem", part)
        spills = sum(map(int, re.findall(r"(\d+) bytes spill", part)))
        found[name] = (int(registers[1]) if registers else 0, int(shared[1]) if shared else 0, spills)
    return found


@needs_nvcc
def test_compiles_without_spills(tmp_path):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = list(itertools.product(ARCHITECTURES, TABLE))
        for (arch, file), found in zip(jobs, pool.map(lambda job: compiled(*job, tmp_path), jobs), strict=True):
            assert found, f"nvcc reported no kernel in {file}"
            for name, (registers, shared, spills) in sorted(found.items()):
                print(f"{ARCHITECTURES[arch]:7} {file:15} {registers:4} registers {shared:6} bytes shared  {name}")
                assert spills == 0, f"{name} spills {spills} bytes on {arch}"


def compiled(arch: str, file: str, folder: Path) -> dict[str, tuple[int, int, int]]:
    command = ["nvcc", "-cubin", "-DTINYNET_HALF", f"-arch={arch}", "-std=c++17", "-Xptxas", "-v"]
    source = folder / f"{arch}-{file}"
    source.write_text(instances(file))
    command += ["-o", f"{arch}-{file}.cubin", str(source)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return resources_of(done.stdout + done.stderr)
