"""Each operation beside its floor, and how cost grows: `python benchmarks/ops.py`.

An operation cannot be faster than reading its inputs and writing its outputs once at the speed of a plain copy, nor
than its multiplications at the speed of this machine's matrix product. Both speeds are measured here first (a copy at
the operation's own size, as small arrays live in the cache), on one core. "× floor" is the measured time over the
larger of the two. A backward pass is measured together with its forward, and its floor counts the gradients as well.

Then each operation runs at growing batch, size and channels, and on one image of growing size: time against work, and
memory against bytes touched, are fitted as powers in their upper half. An exponent of 1 is linear; below, fixed costs
still show; 1.2 and more is marked, as something grows faster than the work. (When arrays outgrow the cache, the copy
slows down too; the floor's own growth is therefore divided out of an operation that memory bounds.)
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
LIMIT = 1.2  # exponents above are marked


class Case(NamedTuple):
    """An operation at one size: fn(*inputs) -> Tensor; bytes and flops that forward must move and make."""

    fn: Callable[..., Any]
    inputs: list
    bytes: int
    flops: int = 0


class Size(NamedTuple):
    """Images (n, h, h, c)."""

    n: int = 16
    h: int = 32
    c: int = 32


# the sizes at which growth is fitted, a row an axis
AXES = {
    "batch": [Size(n=n) for n in (4, 8, 16, 32, 64)],
    "size": [Size(h=h) for h in (16, 24, 32, 48, 64)],
    "channels": [Size(c=c) for c in (8, 16, 32, 64, 128)],
    "one image": [Size(n=1, h=h) for h in (64, 128, 192, 288, 432)],
}


def cases() -> dict[str, Callable[[Size], Case]]:
    """Every operation that is measured, as a function of the size."""
    import numpy as np

    import tinynet as tn
    from tinynet import ops

    rng = np.random.default_rng(0)

    def tensor(*shape: int) -> Any:
        return tn.tensor(rng.standard_normal(shape, np.float32), requires_grad=True)

    def image(s: Size) -> Any:
        return tensor(s.n, s.h, s.h, s.c)

    def plain(fn: Callable, inputs: int = 1, outputs: float = 1.0) -> Callable[[Size], Case]:
        """An operation on whole images: `outputs` values for each input value."""
        return lambda s: Case(
            fn, [image(s) for _ in range(inputs)], int(4 * s.n * s.h * s.h * s.c * (inputs + outputs))
        )

    def rows(fn: Callable, outputs: float = 1.0) -> Callable[[Size], Case]:
        """An operation on rows (n·h·h, c)."""
        return lambda s: Case(fn, [tensor(s.n * s.h * s.h, s.c)], int(4 * s.n * s.h * s.h * s.c * (1 + outputs)))

    def conv(kernel: int, fused: bool = False, pool: bool = False, **options: Any) -> Callable[[Size], Case]:
        groups, stride, padding = options.get("groups", 1), options.get("stride", 1), options.get("padding", 0)

        def make(s: Size) -> Case:
            g = s.c if groups == "depthwise" else groups
            given = {**options, "groups": g}
            w, b = tensor(kernel, kernel, s.c // g, s.c), tensor(s.c)
            out = (s.h + 2 * padding - kernel) // stride + 1
            outputs = s.n * out * out * s.c
            if fused:
                fn = lambda x, w, b: ops.conv_relu_pool(x, w, b, pool=pool, **given)  # noqa: E731
            else:
                fn = lambda x, w, b: ops.conv2d(x, w, b, **given)  # noqa: E731
            return Case(
                fn,
                [image(s), w, b],
                4 * (s.n * s.h * s.h * s.c + w.size + outputs // (4 if pool else 1)),
                2 * outputs * kernel * kernel * s.c // g,
            )

        return make

    def dense(relu: bool) -> Callable[[Size], Case]:
        def make(s: Size) -> Case:
            count, features = s.n * s.h, 8 * s.c
            x, w, b = tensor(count, features), tensor(features, features), tensor(features)
            return Case(
                lambda x, w, b: ops.dense(x, w, b, relu=relu),
                [x, w, b],
                4 * (2 * count * features + w.size),
                2 * count * features * features,
            )

        return make

    def loss(s: Size) -> Case:
        labels = rng.integers(0, s.c, s.n * s.h * s.h)
        return Case(
            lambda x: ops.softmax_cross_entropy(x, labels), [tensor(s.n * s.h * s.h, s.c)], 4 * s.n * s.h * s.h * s.c
        )

    return {
        "add": plain(ops.add, 2),
        "multiply": plain(ops.multiply, 2),
        "relu": plain(ops.relu),
        "exp": plain(ops.exp),
        "tanh": plain(ops.tanh),
        "gelu": plain(ops.gelu),
        "sum": plain(ops.sum, outputs=0),
        "sum over the batch": plain(lambda x: ops.sum(x, axis=0), outputs=0),
        "mean of channels": plain(lambda x: ops.mean(x, axis=-1), outputs=0),
        "max": plain(ops.max, outputs=0),
        "transpose": plain(lambda x: ops.transpose(x, (0, 3, 1, 2))),
        "concatenate": plain(lambda x, y: ops.concatenate([x, y], -1), 2, 2),
        "pad": plain(lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))),
        "dropout": plain(lambda x: ops.dropout(x, 0.5)),
        "max_pool2d": plain(lambda x: ops.max_pool2d(x, 2), 1, 0.25),
        "avg_pool2d": plain(lambda x: ops.avg_pool2d(x, 2), 1, 0.25),
        "global_avg_pool2d": plain(ops.global_avg_pool2d, 1, 0),
        "softmax": rows(lambda x: ops.softmax(x, -1)),
        "log_softmax": rows(lambda x: ops.log_softmax(x, -1)),
        "softmax_cross_entropy": loss,
        "dense": dense(False),
        "dense + relu": dense(True),
        "conv2d 1×1": conv(1),
        "conv2d 3×3": conv(3),
        "conv2d 5×5": conv(5),
        "conv2d 3×3 padding 1": conv(3, padding=1),
        "conv2d 3×3 stride 2": conv(3, stride=2, padding=1),
        "conv2d 3×3 groups 4": conv(3, groups=4),
        "conv2d 3×3 depthwise": conv(3, groups="depthwise"),
        "conv + relu": conv(3, fused=True),
        "conv + relu + pool": conv(3, fused=True, pool=True),
    }


def best(fn: Callable[[], Any], seconds: float) -> float:
    """The time of a call: the lower quartile of calls that together take `seconds`; the first does not count."""
    fn()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 4]


class Machine:
    """The measured speeds: bytes a second of a copy, by size, and flops a second of a matrix product."""

    def __init__(self, seconds: float):
        import numpy as np

        self.numpy, self.seconds, self.copies = np, seconds, {}
        a, b, out = (np.ones((1024, 1024), np.float32) for _ in range(3))
        self.gemm = 2 * 1024**3 / best(lambda: np.matmul(a, b, out=out), 4 * seconds)

    def copy(self, size: int) -> float:
        """Bytes read and written a second when a copy touches `size` bytes in all; to the next half power of two."""
        key = round(2 * math.log2(max(size, 4096)))
        if key not in self.copies:
            a, b = (self.numpy.ones(int(2 ** (key / 2)) // 8, self.numpy.float32) for _ in range(2))
            self.copies[key] = 2 * a.nbytes / best(lambda: self.numpy.copyto(b, a), self.seconds)
        return self.copies[key]

    def floor(self, size: int, flops: int) -> float:
        """Seconds that nothing can go below."""
        return max(size / self.copy(size), flops / self.gemm)


def run(case: Case, machine: Machine, seconds: float) -> dict[str, float]:
    """Times, floors and peak memory of an operation, forward alone and with backward."""
    import numpy as np

    import tinynet as tn

    def forward() -> Any:
        with tn.no_grad():
            return case.fn(*case.inputs)

    out = forward()
    g = tn.tensor(np.ones(out.shape, np.float32))

    def both() -> None:
        for x in case.inputs:
            x.grad = None
        case.fn(*case.inputs).backward(g)

    wanted = len([x for x in case.inputs if x.ndim > 1])
    result = {
        "bytes": case.bytes,
        "flops": case.flops,
        "forward": best(forward, seconds),
        "both": best(both, seconds),
        "memory": peak(both),
        "forward_floor": machine.floor(case.bytes, case.flops),
        "both_floor": machine.floor(case.bytes, case.flops)
        + machine.floor(case.bytes, case.flops * (wanted if case.flops else 0)),
    }
    return result


def peak(fn: Callable[[], Any]) -> int:
    """Bytes that a call needs at its peak, beyond what is there before; 0 where the system does not tell."""
    from processes import fields

    from tinynet.backends.cpu import memory

    fn()
    gc.collect()
    memory.trim()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what the C library keeps must go too, or the next call asks for nothing
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        return 0
    before = fields("/proc/self/status")["VmRSS"]
    fn()
    return max(0, fields("/proc/self/status")["VmHWM"] - before)


def exponent(work: list[float], cost: list[float]) -> float:
    """The power of `work` that `cost` grows with, fitted over the last three points."""
    pairs = [(math.log(w), math.log(c)) for w, c in zip(work[-3:], cost[-3:], strict=True) if w > 0 and c > 0]
    if len(pairs) < 2:
        return math.nan
    mx, my = (sum(p[i] for p in pairs) / len(pairs) for i in (0, 1))
    return sum((x - mx) * (y - my) for x, y in pairs) / sum((x - mx) ** 2 for x, _ in pairs)


def growth(make: Callable[[Size], Case], machine: Machine, seconds: float) -> dict[str, tuple[float, float]]:
    """For each axis the exponents of time and of memory."""
    result = {}
    for axis, sizes in AXES.items():
        rows = [run(make(s), machine, seconds) for s in sizes]
        floors = [r["both_floor"] for r in rows]
        memory = [r["memory"] if r["memory"] > 1 << 18 else 0 for r in rows]  # pages of a few calls are noise
        result[axis] = (exponent(floors, [r["both"] for r in rows]), exponent([r["bytes"] for r in rows], memory))
    return result


def arguments() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--ops", default="", help="parts of names, commas between")
    p.add_argument("--seconds", type=float, default=0.1, help="of a measurement")
    p.add_argument("--quick", action="store_true", help="0.01 s a measurement")
    p.add_argument("--no-growth", action="store_true", help="the floors only")
    p.add_argument("--core", type=int, help="the core to run on")
    p.add_argument("--json", type=Path, help="write all measurements here")
    options = p.parse_args()
    if options.quick:
        options.seconds = 0.01
    return options


def main() -> None:
    options = arguments()
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":  # BLAS reads it when it is loaded
        os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if hasattr(os, "sched_setaffinity"):
        core = max(os.sched_getaffinity(0)) if options.core is None else options.core
        os.sched_setaffinity(0, {core})
    import report

    machine = Machine(options.seconds)
    parts = [p for p in options.ops.split(",") if p]
    chosen = {n: make for n, make in cases().items() if not parts or any(p in n for p in parts)}
    about = report.machine([core] if hasattr(os, "sched_setaffinity") else [])
    print(report.describe(about))
    print(
        f"matrix product {machine.gemm / 1e9:.0f} GFLOP/s; copy "
        + ", ".join(
            f"{machine.copy(2**k) / 1e9:.0f} GB/s at {label}"
            for k, label in ((16, "64 KB"), (20, "1 MB"), (25, "32 MB"))
        )
    )
    head = f"{f'images {tuple(Size())}':30}    forward  × floor  + backward × floor       peak"
    print("\n" + head + ("" if options.no_growth else "    growth of time and memory with " + ", ".join(AXES)))
    result: dict = {"machine": about, "gemm": machine.gemm, "ops": {}}
    marked = []
    for name, make in chosen.items():
        r: dict[str, Any] = run(make(Size()), machine, options.seconds)
        forward, both = r["forward"] / r["forward_floor"], r["both"] / r["both_floor"]
        line = (
            f"{name:30}{1e3 * r['forward']:8.3f} ms{forward:7.1f}{1e3 * r['both']:12.3f} ms{both:7.1f}"
            f"{r['memory'] / 1e6:8.1f} MB   "
        )
        if not options.no_growth:
            r["growth"] = growth(make, machine, options.seconds)
            for axis, (seconds, memory) in r["growth"].items():
                high = seconds > LIMIT or memory > LIMIT
                line += f" {seconds:6.2f} {'-' if math.isnan(memory) else f'{memory:.2f}':>5}{'!' if high else ' '}  "
                marked += [f"{name} with {axis}"] * high
        print(line, flush=True)
        result["ops"][name] = r
    ratios = [r["both"] / r["both_floor"] for r in result["ops"].values()]
    print(f"\nmedian of forward and backward over the floor: {median(ratios):.1f}")
    if not options.no_growth:
        print(f"grows faster than its work (exponent above {LIMIT}): {', '.join(marked) or 'nothing'}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
