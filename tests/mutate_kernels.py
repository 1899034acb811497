"""Break every CUDA kernel, and see whether the suite notices: `python -m tests.mutate_kernels [FILE…] [--all]`.

Each mutant changes one place of one file in kernels/: an index off by one, a bound that is one too far or dropped, a
missing barrier, a reduction that is too narrow, two sizes swapped, a sign. It runs on the checking simulator,
against the calls of cuda_calls.py whose kernels use that place. Of each kind of change a function gets the first
and the last place where it fits; with --all, every place.

Prints a table and every mutant that survived; exits with 1 if one did. A mutant that computes the same cannot be
noticed: EQUIVALENT lists those, each with the reason.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase

from tests import cuda_calls, cuda_parity, test_cuda_backend
from tinynet.backends.cuda import Cuda, sources
from tinynet.backends.cuda.launcher import KernelError
from tinynet.backends.cuda.simulator import SimulatorLauncher
from tinynet.backends.cuda.table import TABLE, Entry

SECONDS = 60  # of CPU time; a mutant that runs for so long has been noticed
EXAMPLES = 20

SWAPS = [
    ("SH", "SW"),
    ("KH", "KW"),
    ("OH", "OW"),
    ("DH", "DW"),
    ("H", "W"),
    ("top", "left"),
    ("rows", "columns"),
    ("x_step", "y_step"),
    ("beta1", "beta2"),
    ("c", "f"),
    ("first", "end"),
]
RULES: list[tuple[str, str, Any]] = [
    ("no barrier", r"__syncthreads\(\);", ""),
    ("narrow reduction", r"WARP / 2", "WARP / 4"),
    ("bound + 1", r"(?<=[\w\])]) < (?=[\w(])", " <= "),
    ("bound - 1", r" >= ", " > "),
    ("bound dropped", r"if \([^;{}?]*\) (continue|return);", ";"),
    ("and/or", r" && ", " || "),
    ("index + 1", r"(?<=\w\[)([^\[\]]+)(?=\])", r"\1 + 1"),
    ("sign", r" \+ | - |\+=|-=", lambda m: m[0].replace("+", "~").replace("-", "+").replace("~", "-")),
    ("product", r" \* ", " + "),
    ("zero", r"T\(0\)|\b0(?=;)", lambda m: m[0].replace("0", "1")),
    *(
        (
            f"{a} for {b}",
            rf"(?<![\w<])(?<!i32 )(?<!i64 )(s\.|p\.|by_)?({a}|{b})\b(?! = )",
            lambda m, a=a, b=b: (m[1] or "") + (b if m[2] == a else a),
        )
        for a, b in SWAPS
    ),
]

# function, rule, the beginning of the line → why the mutant computes the same
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("gemm_tiled", "bound + 1", "for (i64 k = 0; k < depth"): "one more tile, of zeros",
    ("add_slices", "bound + 1", "if (relu && sum < Acc<T>(0)) sum = 0"): "relu of 0 is 0",
    ("Output", "bound + 1", "if (row + i < rows) z["): "relu of 0 is 0",
    ("Matrix", "zero", "__device__ T at("): "what lies beyond the last line meets outputs that are not stored",
    ("TurnedWeights", "zero", "__device__ T at("): "likewise",
    ("Fetcher", "bound + 1", "for (int i = 0; i < LINES"): "a local array, that is, registers: nothing can check it",
    ("column_sum", "bound + 1", "i64 first = blockIdx.y"): "both are the same where they are equal",
    ("column_moments", "bound + 1", "i64 first = blockIdx.y"): "likewise",
    ("normalize_scale_grad", "bound + 1", "i64 first = blockIdx.y"): "likewise",
    ("Relu", "bound + 1", "UNARY(Relu"): "zeros of either sign are equal",
    ("AddRelu", "bound + 1", "BINARY(AddRelu"): "likewise",
    ("normalize", "bound + 1", "if (relu && value < Acc<T>(0)"): "likewise",
    ("absolute", "bound + 1", "__device__"): "both are the same at 0",
    ("mish_e", "bound + 1", "template"): "both are the same where they are equal",
    ("power_of", "zero", "if (y < 0) return"): "the operation refuses negative exponents",
    ("mod_of", "bound + 1", "if (r != T(0)) return"): "r is not 0 there, and NaN where y is",
    ("mod_of", "bound + 1", "return r != 0"): "r is not 0 there, and y neither",
    ("floor_divide_of", "bound + 1", "if (r != T(0)"): "likewise",
    ("floor_divide_of", "bound + 1", "return x / y"): "of x = 0 there is no rest, and y is not 0",
    ("Maximum", "bound - 1", "BINARY(Maximum"): "of equal values, whichever",
    ("Clip", "bound + 1", "UNARY(Clip"): "likewise",
    ("max_pool", "zero", "T best = 0"): "the first value replaces it, whatever it is",
    ("divisor", "bound + 1", "i64 h1 ="): "both are the same where they are equal",
    ("wins", "bound + 1", "if (x != x) return"): "a place that meets itself",
    ("wins", "bound + 1", "return Op::template"): "likewise",
    ("pad_edge", "bound + 1", "k = k < 0 ? 0"): "both are the same where they are equal",
    ("place_of", "bound + 1", "first + slice < depth"): "both are the same where they are equal",
}


@dataclass
class Mutant:
    file: str  # the .cu file
    text: str  # what it becomes
    kernels: tuple[str, ...]  # those that the change is part of
    ops: tuple[str | None, ...]  # of elementwise.cu: the functions that the change is part of
    where: str  # the function
    rule: str
    line: str
    shown: str  # as it becomes

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}: {self.shown}"


# ---- what there is to break ------------------------------------------------------------------------------------


FUNCTION = re.compile(r"^(?:template[^\n]*\n)?(?:__global__|__device__|struct|template)[^;{]*?\{", re.MULTILINE)
MACRO = re.compile(
    r"^(?:UNARY|BINARY|GRADIENT|COMPARE)\((\w+), .*?\)(?=\s*(?://[^\n]*)?\n(?:[A-Z\n/]|template))",
    re.MULTILINE | re.DOTALL,
)
NAME = re.compile(r"(\w+)\s*(?=\()|struct\s+(\w+)")


def parts(text: str) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of each function, struct and macro call at the top level of a file."""
    code = re.sub(r"//[^\n]*", lambda m: " " * len(m[0]), text)
    for match in FUNCTION.finditer(code):
        depth, end = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        found = NAME.search(match[0].replace("__launch_bounds__(", "").replace("__align__(", ""))
        yield (found[1] or found[2]) if found else "?", match.start(), end
    for match in MACRO.finditer(text):
        yield match[1], match.start(), match.end()


KERNELS_OF = {
    "UNARY": ("unary",),
    "BINARY": ("binary", "binary_strided"),
    "GRADIENT": ("binary", "binary_strided"),
    "COMPARE": ("compare",),
}


def users(text: str, name: str, kernels: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """The kernels and, of elementwise.cu, the functions whose code reaches `name`, through helpers too."""
    bodies = {n: text[a:b] for n, a, b in parts(text)}
    reached = {name}
    while True:
        words = re.compile(rf"\b({'|'.join(reached)})\b")
        more = {n for n, body in bodies.items() if n not in reached and words.search(body)}
        if not more:
            break
        reached |= more
    kinds = {n: body.partition("(")[0] for n, body in bodies.items() if n in reached and MACRO.match(body + "\n\n")}
    used = reached | {k for kind in kinds.values() for k in KERNELS_OF[kind]}
    return tuple(k for k in kernels if k in used), (*kinds,) or (None,)


def mutants(file: str, everything: bool) -> Iterator[Mutant]:
    """Of one .cu file and the header that it stands for: warp_sum is broken in reduce.cu, the tile loop in gemm.cu."""
    own = sources.read(file)
    kernels = sources.kernels(own)
    for part in [file, *{"reduce.cu": ["tinynet.cuh"], "gemm.cu": ["gemm.cuh"]}.get(file, [])]:
        text = sources.read(part)
        for name, start, end in parts(text):
            used, ops = users(text if part == file else text + own, name, kernels)
            for rule, pattern, replacement in RULES if used else ():
                sites = list(places(text, start, end, pattern))
                for match in sites if everything or len(sites) < 3 else (sites[0], sites[-1]):
                    new = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
                    changed = text[: match.start()] + new + text[match.end() :]
                    line = text[text.rfind("\n", 0, match.start()) + 1 : text.find("\n", match.end())].strip()
                    if part != file:  # the header's name stays, else a right one would come first
                        changed = own.replace(f'#include "{part}"', f'{changed}\n// in place of "{part}"')
                    before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()].lstrip()
                    yield Mutant(
                        file,
                        changed,
                        used,
                        ops,
                        f"{part} {name}",
                        rule,
                        line,
                        f"{before}«{new}»{text[match.end() : text.find(chr(10), match.end())]}",
                    )


# what declares rather than computes: to change it changes nothing, or does not compile
DECLARATION = re.compile(
    r"\s*((T|In<T>|i64|i32|Divisor|typename [\w:]+|static.*|using.*|return \{i32.*) [\w, ]*\[?$"
    r"|SHARED|constexpr|struct)"
)


def places(text: str, start: int, end: int, pattern: str) -> Iterator[re.Match]:
    """Where a rule fits: in code, behind the declaration of the function."""
    begin = text.find("{", start, end) + 1 or text.find(",", start, end)
    for match in re.compile(pattern).finditer(text, begin, end):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        if "//" not in line and "#" not in line and not DECLARATION.match(line):
            yield match


def equivalent(m: Mutant) -> tuple[str, str, str] | None:
    """The exception that a mutant is, if it is one."""
    return next(
        (e for e in EQUIVALENT if m.where.endswith(f" {e[0]}") and m.rule == e[1] and m.line.startswith(e[2])), None
    )


# ---- running them ----------------------------------------------------------------------------------------------


def recorded(good: Cuda) -> dict[tuple[str, str | None], list[str]]:
    """Which kernels of the contract launch (kernel, Op)."""
    launches = defaultdict(list)
    real = good.launch
    for name in cuda_calls.CALLS:
        seen = set()
        good.launch = lambda kernel, *a, seen=seen, **k: (seen.add((kernel, k.get("Op"))), real(kernel, *a, **k))[1]
        cuda_calls.each(name, EXAMPLES, lambda call, name=name: cuda_parity.run(good, name, call), **QUICK)
        for kernel, op in seen:
            launches[kernel, None].append(name)
            launches[kernel, op].append(name)
    good.launch = real
    return launches


QUICK: dict[str, Any] = {
    "phases": [Phase.generate],
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
HELPERS = ("copy", "numpy", "asarray", "copyto", "full")  # called by all: their own calls come last


def broken_backend(good: Cuda, mutant: Mutant) -> Cuda:
    """The backend whose launches of the mutant's kernels run its text; all others, the right one."""
    entries = {}
    for kernel in mutant.kernels:
        shape, choices = TABLE[mutant.file][kernel].shape, TABLE[mutant.file][kernel].choices
        alone = mutant.file in ("elementwise.cu", "shape.cu")  # many instances, of which a call needs one
        entries[kernel] = Entry(shape, {"T": (), "Op": ()} if alone else {**choices, "T": ("double",)})
    broken = SimulatorLauncher({mutant.file: entries}, {mutant.file: mutant.text}, check=True)
    broken._files, broken._entries = dict.fromkeys(entries, mutant.file), entries
    be = Cuda("simulator", good.launcher)
    be.launch = lambda name, *a, **k: (broken if name in entries else good.launcher).launch(name, *a, **k)
    return be


def proofs(be: Cuda, mutant: Mutant, launches: dict) -> Iterator[Any]:
    """The calls that a mutant must survive, the most telling ones first."""
    for kernel in mutant.kernels:
        yield from test_cuda_backend.ladders(be, kernel)
        if kernel in ("random_bits", "dropout"):
            yield lambda: test_cuda_backend.test_draws_that_a_graph_has_moved_on(be)
    names = {name for k in mutant.kernels for op in mutant.ops for name in launches[k, op]}
    fewest = sorted(names, key=lambda n: (n in HELPERS, sum(n in v for v in launches.values()), n))
    for name in fewest[:8]:
        yield lambda name=name: cuda_calls.each(name, EXAMPLES, lambda call: cuda_parity.check(be, name, call), **QUICK)


def noticed(good: Cuda, mutant: Mutant, launches: dict) -> int:
    """In a process of its own: 1 noticed, 0 survived, 2 no mutant, as it does not compile."""
    be = broken_backend(good, mutant)
    for proof in proofs(be, mutant, launches):
        try:
            proof()
        except KernelError as error:
            return 2 if "does not compile" in str(error) else 1
        except BaseException as error:
            return 2 if "does not compile" in "".join(map(str, getattr(error, "exceptions", [error]))) else 1
    return 0


def outcomes(good: Cuda, todo: list[Mutant], launches: dict) -> Iterator[tuple[Mutant, int]]:
    """Each mutant in a forked child, as many at once as there are cores; a child has SECONDS."""
    running: dict[int, Mutant] = {}
    queue = iter(todo)
    while True:
        while len(running) < (os.cpu_count() or 1) and (mutant := next(queue, None)):
            child = os.fork()
            if not child:
                resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                os._exit(noticed(good, mutant, launches))
            running[child] = mutant
        if not running:
            return
        child, status = os.wait()
        yield running.pop(child), os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1


def main(arguments: list[str]) -> int:
    everything, files = "--all" in arguments, [a for a in arguments if a != "--all"] or list(TABLE)
    if unknown := [name for name in files if name not in TABLE]:  # --help, too
        sys.exit(f"{__doc__}\nthere is no {unknown[0]}; there are {', '.join(TABLE)}, and --all")
    cuda_calls.FLOATS = cuda_calls.FLOATS[1:]  # in double, a wrong bit is no rounding error
    good = Cuda("simulator", SimulatorLauncher(check=True))
    good.launcher.prepare()
    launches = recorded(good)
    scratch = tempfile.TemporaryDirectory(prefix="tinynet-mutants-")
    os.environ["XDG_CACHE_HOME"] = scratch.name  # mutants are compiled once and for nothing
    survived: list[Mutant] = []
    for file in files:
        start, count, unmade = time.time(), defaultdict(lambda: [0, 0]), 0
        todo = [m for m in mutants(file, everything) if not equivalent(m)]
        unbroken = Mutant(file, sources.read(file), tuple(TABLE[file]), (None,), file, "nothing", "", "")
        if noticed(good, unbroken, launches):
            raise SystemExit(f"{file}: the unbroken kernels do not pass")
        for mutant, outcome in outcomes(good, todo, launches):
            unmade += outcome == 2
            if outcome < 2:
                count[mutant.where][outcome] += 1
            if outcome == 0:
                survived.append(mutant)
                print(f"    survived: {mutant}", flush=True)
        for where, (alive, dead) in sorted(count.items()):
            print(f"{where:40} {dead:4} noticed {alive:4} survived")
        print(
            f"{file}: {sum(d for _, d in count.values())} noticed, {sum(a for a, _ in count.values())} survived, "
            f"{unmade} did not compile, {time.time() - start:.0f} s\n",
            flush=True,
        )
    for mutant in survived:
        print(f"survived: {mutant}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
