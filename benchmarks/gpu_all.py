"""What only a GPU can settle, as one command of about six minutes: `python benchmarks/gpu_all.py --out FILE`.

Each part runs in a process of its own with a limit of its own, so that one that hangs or loses the device costs
nobody else's time. Results are written to FILE as they come, a JSON object a line: {"part", "seconds", …}; the last
line of a part has "ok". First it looks for all that must be there (packages, files, tools), and ends where some is
not. Exit code: 0 where each part is ok.

`--stand-in` runs all of it at tiny sizes on the tests' stand-in for CuPy, without a GPU: to find typos, not faults.
`--only PART…` runs some. The parts:
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

NEEDED = ["numpy", "cupy", "tqdm", "safetensors", "pytest", "xdist", "hypothesis"]  # modules
USEFUL = ["torch"]  # what the networks are compared with
PATHS = [
    "kernels/tinynet.cuh",
    "tests/conftest.py",
    "tests/cuda_calls.py",
    "tests/test_cuda_backend.py",
    "tests/test_cuda_networks.py",
    "benchmarks/gpu.py",
    "benchmarks/networks.py",
    "benchmarks/peers/with_tinynet.py",
    "benchmarks/peers/with_torch.py",
]
SANITIZER = ["compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer"]

Row = dict[str, Any]
PARTS: dict[str, tuple[int, Callable[[argparse.Namespace], Iterator[Row]]]] = {}


def part(seconds: int) -> Callable:
    """Declares a part with its limit."""

    def declare(function: Callable) -> Callable:
        PARTS[function.__name__] = seconds, function
        return function

    return declare


# ---- the parts -------------------------------------------------------------------------------------------------


@part(30)
def starts(options: argparse.Namespace) -> Iterator[Row]:
    """CuPy imports without a warning; versions; the headers are found; asking makes no context, a launch does."""
    import numpy as np

    import tinynet as tn
    from tinynet.parallel import trainer

    if not options.stand_in:
        done = subprocess.run([sys.executable, "-W", "error", "-c", "import cupy"], capture_output=True, text=True)
        yield {"check": "import under -W error", "good": done.returncode == 0, "says": done.stderr[-2000:]}
    reason = tn.backends.why_not("cupy")
    yield {"check": "cupy is available", "good": reason is None, "says": reason}
    yield {"check": "asking makes no CUDA context", "good": not tn.backends.cuda_runs()}
    with tn.use("numpy"):
        model = tn.models.mnist_small()
        with trainer(model, tn.optim.Adam(model.parameters()), workers=2) as step:
            step(np.zeros((4, 28, 28, 1), np.float32), np.zeros(4, np.int64))
            yield {"check": "replicas in a process that asked for cupy", "good": step.workers == 2, "says": step.note}
    import gpu

    yield {"device": gpu.device(), "l2_bytes": gpu.l2_bytes(), "pictures": gpu.beyond_l2()}
    be = tn.backends.get("cupy")
    yield {"check": "one add", "good": be.numpy(be.add(be.asarray([1.0, 2.0]), 1)).tolist() == [2, 3]}
    yield {"check": "a launch makes a CUDA context", "good": options.stand_in or tn.backends.cuda_runs()}


@part(60)
def first(options: argparse.Namespace) -> Iterator[Row]:
    """Random bits; a sum in half; denormals and exp beside NumPy; out of memory; three steps beside the simulator."""
    import numpy as np

    import tinynet as tn

    be, numpy = tn.backends.get("cupy"), tn.backends.get("numpy")
    bits = be.numpy(be.random_bits((3, 50), 7, 1, 2, 0))
    yield {"check": "random bits", "good": bool((bits == numpy.random_bits((3, 50), 7, 1, 2, 0)).all())}
    y = be.empty((2,), np.float16)
    be.launch("row_sum", be.asarray(np.ones((2, 300), np.float16)), y, 2, 300)
    yield {"check": "a sum of halves", "good": be.numpy(y).tolist() == [300, 300]}
    small = np.array([1e-39, 1e-41, 1e-45], np.float32)
    yield {"denormals": small.tolist(), "times 1": be.numpy(be.multiply(be.asarray(small), 1.0)).tolist()}
    x = np.linspace(-20, 20, 4001, dtype=np.float32)
    off = np.abs(be.numpy(be.exp(be.asarray(x))) / np.exp(x.astype(np.float64)) - 1).max()
    yield {"check": "exp", "good": bool(off < 1e-6), "relative error": float(off)}
    try:
        be.empty((1 << 14, 1 << 14, 1 << 14), np.float64)
        yield {"check": "out of memory", "good": False}
    except MemoryError as error:
        yield {"check": "out of memory", "good": "the GPU is out of memory: an array" in str(error), "says": str(error)}
    seen = {name: _losses(name, 3) for name in ("cupy", "simulator", "numpy") if tn.backends.why_not(name) is None}
    close = all(np.allclose(seen["cupy"], other, rtol=1e-5) for other in seen.values())
    yield {"check": "three steps of mnist_small", "good": close and len(seen) == 3, "losses": seen}


def _losses(name: str, count: int) -> list[float]:
    import numpy as np

    import tinynet as tn

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16 * count, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, 16 * count)
    tn.seed(0)
    with tn.use(name):
        model = tn.models.mnist_small().train()
        rule = tn.optim.Adam(model.parameters())
        seen = []
        for k in range(0, len(x), 16):
            loss = tn.ops.softmax_cross_entropy(model(tn.tensor(x[k : k + 16])), tn.tensor(y[k : k + 16]))
            rule.zero_grad()
            loss.backward()
            rule.step()
            seen.append(loss.item())
    return seen


@part(110)
def tests(options: argparse.Namespace) -> Iterator[Row]:
    """The tests marked gpu, in 8 processes; all failures, not the first."""
    few = ["-n", "0", "-p", "tests.cupy_on_host", "-k", "test_arrays or repeats_bit"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests",
        "-m",
        "gpu",
        "-vv",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        *(few if options.stand_in else ["-n", "8"]),
    ]
    on_host = {"TINYNET_CUPY_ON_HOST": "stand-in"} if options.stand_in else {}
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | on_host | {"PYTHONUNBUFFERED": "1"},
    ) as done:
        for line in done.stdout or ():  # a failure is written down at once: at the limit the rest would be lost
            lines.append(line)
            if re.search(r"\b(FAILED|ERROR)\b.*::", line):
                yield {"failed": line.strip()}
    code, passed = done.returncode, sum(" PASSED" in line for line in lines)
    yield {
        "check": "pytest -m gpu",
        "good": code == 0 and passed > 1,
        "passed": passed,
        "says": lines[-1:],
        "end": "" if code == 0 else "".join(lines)[-12_000:],
    }


@part(45)
def copies(options: argparse.Namespace) -> Iterator[Row]:
    """Batches copied ahead arrive as they were, with epochs behind and in one another; memory stays the same."""
    import cupy
    import numpy as np

    import tinynet as tn

    be, pool = tn.backends.get("cupy"), cupy.get_default_memory_pool()
    shape, count = ((4, 8, 8, 3), 6) if options.stand_in else ((32, 128, 128, 3), 60)
    host = np.random.default_rng(0).standard_normal((8, *shape), dtype=np.float32)
    sums, wrong, taken = [float(h.sum(dtype=np.float64)) for h in host], 0, []
    for epoch in range(4):
        seen = []
        for k, (x, _) in enumerate(be.ahead((host[k % 8], k) for k in range(count))):
            seen.append((k % 8, be.sum(x, (0, 1, 2, 3))))
            if k == 3 + epoch:
                for j, (z, _) in enumerate(be.ahead((host[j], j) for j in range(5))):
                    seen.append((j, be.sum(z, (0, 1, 2, 3))))
        wrong += sum(abs(float(be.numpy(s)) - sums[k]) > 1e-3 * np.sqrt(host[0].size) for k, s in seen)
        taken.append(pool.total_bytes())
    yield {"check": "batches ahead", "good": not wrong and taken[-1] <= 1.1 * taken[0], "wrong": wrong, "bytes": taken}
    n, used = (80, []) if options.stand_in else (60_000, [])
    images = np.random.default_rng(1).random((n, 28, 28, 1), dtype=np.float32)
    labels = (images[:, :14].mean((1, 2, 3)) > images[:, 14:].mean((1, 2, 3))).astype(np.int64)
    with tn.use("cupy"):
        model = tn.models.mnist_small() if options.stand_in else tn.models.mnist_cnn()
        start = time.perf_counter()
        rows = tn.fit(
            model,
            (images, labels),
            epochs=2,
            batch_size=64,
            verbose=False,
            callbacks=[lambda row: used.append((pool.used_bytes(), pool.total_bytes()))],
        )
    yield {
        "check": "two epochs",
        "good": used[1][1] <= 1.1 * used[0][1],
        "bytes used, taken": used,
        "both took": time.perf_counter() - start,
        "losses": [row["loss"] for row in rows],
    }


@part(45)
def captured(options: argparse.Namespace) -> Iterator[Row]:
    """tn.capture: 20 steps of mnist_cnn, with dropout and falling rates, to the bits of those without; then times."""
    from dataclasses import replace

    import gpu
    import numpy as np
    from networks import DESIGN

    import tinynet as tn

    n, count = (2, 6) if options.stand_in else (64, 20)
    rng = np.random.default_rng(0)
    data = [(rng.random((n, 28, 28, 1), dtype=np.float32), rng.integers(0, 10, n)) for _ in range(count)]

    def losses(wrap: Callable) -> list[float]:
        tn.seed(0)
        model = tn.models.mnist_cnn().train()
        adam = tn.optim.Adam(model.parameters())

        @wrap
        def step(x: Any, y: Any) -> Any:
            loss = tn.ops.softmax_cross_entropy(model(x), y)
            adam.zero_grad()
            loss.backward()
            adam.step(loss)
            return loss

        kept = []
        for k, (x, y) in enumerate(data):
            adam.lr = 1e-3 / (1 + k // 3)
            kept.append(step(x, y))
            tn.tensor(np.full((n, 28, 28, 1), np.nan, np.float32)).exp()  # others use the memory that is free
        return [loss.item() for loss in kept]

    with tn.use("cupy"):
        plain, again = losses(lambda step: step), losses(tn.capture)
        yield {"check": "captured steps", "good": plain == again, "plain": plain, "captured": again}
        for network in DESIGN[:1] if options.stand_in else DESIGN:
            step = gpu.tinynet_step(replace(network, batch=2) if options.stand_in else network)
            times = [gpu.steps(s, *((4, 1) if options.stand_in else (50, 4))) for s in (step, tn.capture(step))]
            names = ("wall_ms", "queue_ms", "captured_wall_ms", "captured_queue_ms")
            yield {"network": network.name, **dict(zip(names, (*times[0], *times[1]), strict=True))}


@part(120)
def kernels(options: argparse.Namespace) -> Iterator[Row]:
    """benchmarks/gpu.py: kernels beside their floors, networks beside PyTorch."""
    import contextlib

    import gpu

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        out = Path(folder) / "gpu.json"
        code = gpu.main(["--out", str(out), *(["--small"] if options.stand_in else [])])
        yield {"check": "benchmarks/gpu.py", "good": code == 0, **json.loads(out.read_text())}


@part(75)
def sanitizer(options: argparse.Namespace) -> Iterator[Row]:
    """compute-sanitizer on three steps: memory that is not the kernel's, and races in shared memory."""
    tool = [shutil.which(name) for name in SANITIZER]
    for check in ("memcheck", "racecheck"):
        command = [] if options.stand_in else [next(filter(None, tool)), "--tool", check, "--error-exitcode", "9"]
        command += [sys.executable, __file__, "--part", "three_steps", *_shared(options)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        says = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("=====")]
        yield {
            "check": check,
            "good": done.returncode == 0,
            "says": says[:60],
            "last": says[-2:],
            "error": "" if done.returncode == 0 else done.stderr[-3000:],
        }


def three_steps(options: argparse.Namespace) -> Iterator[Row]:
    """What the sanitizer looks at."""
    yield {"check": "three steps", "good": len(_losses("cupy", 3)) == 3}


@part(60)
def profile(options: argparse.Namespace) -> Iterator[Row]:
    """200 steps of each network: the time to queue one, the wall's, its launches, and where Python's time goes."""
    import cProfile
    import pstats
    from dataclasses import replace

    import gpu
    from networks import DESIGN

    import tinynet as tn

    be = tn.backends.get("cupy")
    for network in DESIGN[:1] if options.stand_in else DESIGN:
        step = gpu.tinynet_step(replace(network, batch=2) if options.stand_in else network)
        wall, queue = gpu.steps(step, *((1, 1) if options.stand_in else (50, 4)))
        launches: list[str] = []
        real = be.launch
        be.launch = lambda name, *a, launches=launches, real=real, **k: (launches.append(name), real(name, *a, **k))
        step()
        be.launch = real
        profiler = cProfile.Profile()
        profiler.runcall(lambda step=step: [step() for _ in range(2 if options.stand_in else 40)])
        stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
        slow = sorted(
            ((row[2], f"{Path(file).name}:{line} {name}") for (file, line, name), row in stats.items()), reverse=True
        )[:12]
        yield {
            "network": network.name,
            "batch": network.batch,
            "wall_ms": wall,
            "queue_ms": queue,
            "launches": len(launches),
            "most_seconds": slow,
        }


# ---- one command -----------------------------------------------------------------------------------------------


def missing(options: argparse.Namespace) -> list[str]:
    """What is not there and must be."""
    found = [
        f"the module {name}"
        for name in NEEDED
        if importlib.util.find_spec(name) is None and not (options.stand_in and name == "cupy")
    ]
    found += [f"the file {path}" for path in PATHS if not (ROOT / path).is_file()]
    if not options.stand_in and not any(map(shutil.which, SANITIZER)):
        found.append("compute-sanitizer, of the CUDA toolkit")
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")))):
        found.append("a C++ compiler, for the simulator")
    return found


def versions() -> dict[str, str]:
    wanted = re.compile(r"numpy|cupy|torch$|pytest|hypothesis|nvidia-cuda-nvrtc|cuda-pathfinder|safetensors|tqdm")
    return {d.name: d.version for d in importlib.metadata.distributions() if wanted.match(d.name or "")}


def _shared(options: argparse.Namespace) -> list[str]:
    return ["--stand-in"] if options.stand_in else []


def run_here(options: argparse.Namespace) -> int:
    """One part, in this process: rows to stdout."""
    if options.stand_in:
        from tests import cupy_on_host

        cupy_on_host.stand_in()
    function = three_steps if options.part == "three_steps" else PARTS[options.part][1]
    good = True
    for row in function(options):
        good &= bool(row.get("good", True))
        print(json.dumps(row, default=str), flush=True)
    return 0 if good else 1


def run_part(name: str, options: argparse.Namespace, write: Callable[[Row], None]) -> bool:
    """One part in a process of its own, with its limit."""
    start, limit = time.perf_counter(), PARTS[name][0] * (4 if options.stand_in else 1)
    command = [sys.executable, str(Path(__file__).resolve()), "--part", name, *_shared(options)]
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        ) as process:
            alarm = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
            alarm.start()
            try:
                for line in process.stdout or ():
                    try:
                        row = json.loads(line)
                    except ValueError:
                        row = {"printed": line.rstrip()}
                    write({"part": name, "seconds": round(time.perf_counter() - start, 2), **row})
            except BaseException:  # Ctrl-C: the part is in a session of its own
                os.killpg(process.pid, signal.SIGKILL)
                raise
            finally:
                alarm.cancel()
        errors.seek(0)
        code, says = process.returncode, errors.read()
    seconds = time.perf_counter() - start
    write(
        {
            "part": name,
            "ok": code == 0,
            "seconds": round(seconds, 2),
            "late": seconds >= limit,
            "error": "" if code == 0 else says[-6000:],
        }
    )
    return code == 0


def main(arguments: list[str]) -> int:
    table = "\n".join(f"  {name:10} {limit:4} s  {function.__doc__}" for name, (limit, function) in PARTS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}{table}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu-all.jsonl", help="the results")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--stand-in", action="store_true", help="without a GPU, at tiny sizes")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        return run_here(options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", encoding="utf-8") as file:

        def write(row: Row) -> None:
            file.write(json.dumps(row, default=str) + "\n")
            file.flush()
            if "good" in row or "ok" in row:
                print({k: v for k, v in row.items() if k in ("part", "check", "good", "ok", "seconds")}, flush=True)

        lacks = missing(options)
        write(
            {
                "part": "start",
                "ok": not lacks,
                "python": sys.version,
                "versions": versions(),
                "missing": lacks,
                "absent": [name for name in USEFUL if importlib.util.find_spec(name) is None],
            }
        )
        if lacks:
            print("missing: " + "; ".join(lacks))
            return 2
        good = [run_part(name, options, write) for name in options.only]
    print(f"{sum(good)} of {len(good)} parts are ok; written to {options.out}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
