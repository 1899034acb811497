"""The CUDA kernels beside their floors, and whole networks beside PyTorch: `python benchmarks/gpu.py`.

A kernel cannot be faster than moving its inputs and outputs once at the speed of a plain copy, nor than its
operations at the speed of cuBLAS's float32 product. Both speeds are measured here first. A kernel's time is the median
of CUDA events around single calls, queued behind a kernel that spins, so that the device never waits for Python; its
arrays are larger than the L2 cache, which is overwritten before each call. A network's time is the wall's, of steps in
a row whose batch is on the device, beside the time that it takes to queue them.

Prints tables and writes benchmarks/results/gpu-DEVICE.json. Without a GPU it says so and does nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


class Case(NamedTuple):
    """One call of a kernel: the bytes that it must move, the operations that it must do."""

    name: str
    call: Callable[[], Any]
    bytes: int
    flops: int = 0


def cases(be: Any, n: int = 128, side: int = 32) -> Iterator[Case]:
    """Each kernel at a size that a network on n pictures of side × side gives it."""
    import numpy as np

    f32 = np.float32
    rng = np.random.default_rng(0)

    def array(*shape: int) -> Any:
        return be.asarray(rng.standard_normal(shape, f32))

    def size(*shapes: tuple) -> int:
        return 4 * sum(int(np.prod(shape)) for shape in shapes)

    c, f = 32, 64
    image, small, wide = (n, side, side, c), (n, side // 2, side // 2, c), (n, side, side, f)
    x, y, out, row = array(*image), array(*image), be.empty(image, f32), array(c)
    yield Case("copy", lambda: be.copy(x, out=out), size(image, image))
    yield Case("copy, transposed", lambda: be.copy(be.transpose(x, (0, 3, 1, 2))), size(image, image))
    yield Case("relu", lambda: be.relu(x, out=out), size(image, image))
    yield Case("gelu", lambda: be.gelu(x, out=out), size(image, image))
    yield Case("add", lambda: be.add(x, y, out=out), size(image, image, image))
    yield Case("add, a row broadcast", lambda: be.add(x, row, out=out), size(image, image))
    yield Case("relu_grad", lambda: be.relu_grad(x, y, out=out), size(image, image, image))
    yield Case("dropout", lambda: be.dropout(x, 0.5, 1, 2, 3, 0), size(image, image))
    yield Case("sum of all", lambda: be.sum(x, (0, 1, 2, 3)), size(image))
    yield Case("sum, bias gradient", lambda: be.sum(x, (0, 1, 2)), size(image))
    yield Case("max over channels", lambda: be.max(x, (3,)), size(image) + 3 * size(image[:3]))
    rows = 256 * n
    logits, labels, g = array(rows, 100), be.asarray(rng.integers(0, 100, rows)), array(rows)
    yield Case("softmax", lambda: be.softmax(logits, (1,)), size(logits.shape, logits.shape))
    _, slope = be.softmax_cross_entropy(logits, labels)
    moved = size(logits.shape, logits.shape)
    yield Case("softmax_cross_entropy", lambda: be.softmax_cross_entropy(logits, labels), moved)
    yield Case("softmax_cross_entropy_grad", lambda: be.softmax_cross_entropy_grad(g, slope), moved)

    window = ((2, 2), (2, 2), ((0, 0), (0, 0)))
    _, winners = be.max_pool2d(x, *window)
    h = array(*small)
    yield Case("max_pool2d", lambda: be.max_pool2d(x, *window), size(image, small, small))
    yield Case("max_pool2d_grad", lambda: be.max_pool2d_grad(h, winners), size(image, small, small))
    yield Case("avg_pool2d", lambda: be.avg_pool2d(x, *window, True), size(image, small))
    yield Case("avg_pool2d_grad", lambda: be.avg_pool2d_grad(h, image, *window, True), size(image, small))

    k = 4096 if n >= 128 else 64
    a, b, z, moved = array(k, k), array(k, k), be.empty((k, k), f32), 12 * k * k
    for name in ("gemm_naive", "gemm_tiled"):
        yield Case(name, lambda name=name: be.launch(name, a, b, z, k, k, k), moved, 2 * k**3)
    for flags, name in (((False, False), "NN"), ((False, True), "NT"), ((True, False), "TN"), ((True, True), "TT")):
        yield Case(f"matmul {name}", lambda flags=flags: be.matmul(a, b, *flags, out=z), moved, 2 * k**3)
    features, w1, bias = array(n, 50 * side), array(50 * side, 4 * side), array(4 * side)
    yield Case(
        "dense, bias, relu (split-K)",
        lambda: be.dense(features, w1, bias, True),
        size(features.shape, w1.shape, (n, 4 * side)),
        2 * n * 50 * side * 4 * side,
    )

    options = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    w, bias = array(3, 3, c, f), array(f)
    flops = 2 * n * side * side * 9 * c * f
    conv = be.conv2d(x, w, bias, *options)[1]
    gy = array(*wide)
    yield Case("im2col", lambda: be.im2col(x, (3, 3), *options[:3]), size(image) * 10)
    yield Case("conv2d", lambda: be.conv2d(x, w, bias, *options), size(image, wide), flops)
    yield Case("conv2d_grad, input", lambda: be.conv2d_grad(gy, conv, (1, 0, 0)), size(image, wide), flops)
    yield Case("conv2d_grad, weight", lambda: be.conv2d_grad(gy, conv, (0, 1, 0)), size(image, wide), flops)
    grey, w1 = array(n, side, side, 1), array(3, 3, 1, c)
    yield Case(
        "conv2d, one channel",
        lambda: be.conv2d(grey, w1, row, *options),
        size(grey.shape, image),
        2 * n * side * side * 9 * c,
    )

    parameters = 8000 * n
    p, q, m, v = (be.abs(array(parameters)) for _ in range(4))
    state = be.asarray(np.array([1e-3, 1.0]))
    yield Case(
        "adam_step",
        lambda: be.adam_step(p, q, m, v, None, state, None, 0.9, 0.999, 1e-8, 0.0, False, False),
        28 * parameters,
    )
    yield Case("sgd_step", lambda: be.sgd_step(p, q, m, state, None, 0.9, 0.0, False, 0.0, False), 20 * parameters)


# ---- the clock ---------------------------------------------------------------------------------------------

SPIN = """__global__ void spin(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {}
}"""
MILLISECOND = 2_000_000  # cycles, at the 2 GHz that no device exceeds by much


class Clock:
    """Times calls on the device, from CUDA events, with the caches cold.

    Before each call a kernel spins for a millisecond, in which the host queues the call and both events: without it
    the time from one event to the other holds Python's launches (10 to 30 µs). A call that takes the host longer
    than the spin is `late`.
    """

    def __init__(self) -> None:
        import cupy

        self.cupy, self.late = cupy, 0
        module = cupy.RawModule(code=SPIN, options=("--std=c++17",), name_expressions=("spin",))
        self.spin = module.get_function("spin")
        self.scratch = cupy.zeros(2 * l2_bytes(), cupy.uint8)

    def milliseconds(self, call: Callable[[], Any], repeats: int = 50, warm: int = 5) -> float:
        """The median time of a call."""
        events = self.cupy.cuda.Event
        for _ in range(warm):
            call()
        times = []
        for _ in range(repeats):
            start, end = events(), events()
            self.scratch.data.memset_async(0, self.scratch.nbytes)
            self.spin((1,), (1,), (MILLISECOND,))
            began = time.perf_counter()
            start.record()
            call()
            end.record()
            self.late += time.perf_counter() - began > 1e-3
            end.synchronize()
            times.append(self.cupy.cuda.get_elapsed_time(start, end))
        return median(times)


def steps(step: Callable[[], Any], count: int = 50, rounds: int = 5) -> tuple[float, float]:
    """(milliseconds a step takes, milliseconds that the host takes to queue it): medians of rounds of `count` steps."""
    import cupy

    wait, walls, queues = cupy.cuda.Device().synchronize, [], []
    for _ in range(rounds + 1):  # the first one warms up
        wait()
        start = time.perf_counter()
        for _ in range(count):
            step()
        queues.append(1e3 * (time.perf_counter() - start) / count)
        wait()
        walls.append(1e3 * (time.perf_counter() - start) / count)
    return median(walls[1:]), median(queues[1:])


def l2_bytes() -> int:
    import cupy

    return int(cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["l2CacheSize"])


def speeds(clock: Clock, small: bool) -> tuple[float, float]:
    """(bytes a second of a large copy, operations a second of cuBLAS's float32 product)."""
    import cupy

    n, k = (1 << 12, 64) if small else (1 << 28, 8192)
    a, b = (cupy.zeros(n, cupy.float32) for _ in range(2))
    copy = 2 * a.nbytes / clock.milliseconds(lambda: cupy.copyto(b, a)) * 1e3
    x, y = (cupy.random.rand(k, k, dtype=cupy.float32) for _ in range(2))
    z = cupy.empty_like(x)
    return copy, 2 * k**3 / clock.milliseconds(lambda: cupy.matmul(x, y, out=z), 20) * 1e3


def beyond_l2(side: int = 32) -> int:
    """How many pictures make an array of twice the L2 cache, of which `cases` uses two at least."""
    return max(128, 1 << math.ceil(math.log2(2 * l2_bytes() / (4 * side * side * 32))))


def measure_kernels(clock: Clock, bandwidth: float, peak: float, small: bool) -> list[dict]:
    import tinynet as tn

    rows = []
    n, side = (2, 8) if small else (beyond_l2(), 32)
    print(f"\n  {'kernel':30}{'µs':>10}{'floor':>10}   of it")
    for case in cases(tn.backends.get("cupy"), n, side):
        ms = clock.milliseconds(case.call, 2 if small else 50)
        floor = 1e3 * max(case.bytes / bandwidth, case.flops / peak)
        bound = "bytes" if case.bytes / bandwidth > case.flops / peak else "operations"
        rows.append(
            {"kernel": case.name, "ms": ms, "floor_ms": floor, "bound_by": bound, "share": floor / ms, "pictures": n}
        )
        print(f"  {case.name:30}{1e3 * ms:10.1f}{1e3 * floor:10.1f}{floor / ms:8.0%}   {bound}", flush=True)
    return rows


# ---- networks ----------------------------------------------------------------------------------------------


def tinynet_step(network: Any) -> Callable[[], Any]:
    """A training step of a network with Adam, on a batch that is on the device."""
    import numpy as np
    from networks import batches
    from peers.with_tinynet import build, weights

    import tinynet as tn

    arrays = weights(network)
    with tn.use("cupy"):
        model = build(network).train()
        model.load_state_dict(dict(zip(model.state_dict(), arrays, strict=True)))
        adam = tn.optim.Adam(model.parameters())
        images, labels = (tn.tensor(np.ascontiguousarray(a)) for a in batches(network, 1)[0])

    def step() -> Any:
        loss = tn.ops.softmax_cross_entropy(model(images), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss

    return step


def torch_step(network: Any) -> Callable[[], Any]:
    """The same in PyTorch: eager, channels_last, its fused Adam."""
    import torch
    from networks import batches
    from peers.with_torch import build

    model = build(network).cuda().to(memory_format=torch.channels_last).train()
    adam = torch.optim.Adam(model.parameters(), fused=True)
    images, labels = batches(network, 1)[0]
    x = torch.from_numpy(images).cuda().permute(0, 3, 1, 2)
    y = torch.from_numpy(labels).cuda()

    def step() -> Any:
        loss = torch.nn.functional.cross_entropy(model(x), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss

    return step


def measure_networks(small: bool) -> list[dict]:
    from networks import DESIGN

    peer, missing = _torch()
    print(f"\n  {'network':16}{'batch':>6}{'tinynet ms':>12}{'to queue':>10}{'torch ms':>10}{missing}")
    rows = []
    for network in DESIGN[:1] if small else DESIGN:
        network, count = (replace(network, batch=2), 1) if small else (network, 50)
        mine, queued = steps(tinynet_step(network), count)
        theirs = steps(torch_step(network), count)[0] if peer else None
        rows.append(
            {
                "network": network.name,
                "batch": network.batch,
                "tinynet_ms": mine,
                "tinynet_queue_ms": queued,
                "torch_ms": theirs,
            }
        )
        print(
            f"  {network.name:16}{network.batch:6}{mine:12.3f}{queued:10.3f}" + (f"{theirs:10.3f}" if theirs else ""),
            flush=True,
        )
    return rows


def _torch() -> tuple[bool, str]:
    try:
        import torch
    except ImportError:
        return False, "   (PyTorch is not installed)"
    return (True, "") if torch.cuda.is_available() else (False, "   (this PyTorch has no CUDA)")


# ---- all of it ---------------------------------------------------------------------------------------------


def device() -> dict[str, Any]:
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return {
        "name": properties["name"].decode(),
        "multiprocessors": properties["multiProcessorCount"],
        "memory_gb": round(properties["totalGlobalMem"] / 1e9, 1),
        "cupy": cupy.__version__,
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "cuda": cupy.cuda.runtime.runtimeGetVersion(),
        "system": platform.platform(),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the JSON; benchmarks/results/gpu-DEVICE.json by default")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that all runs; its times mean nothing")
    options = parser.parse_args(arguments)

    import tinynet as tn

    if reason := tn.backends.why_not("cupy"):
        print(f"No GPU was measured: {reason}")
        return 0
    found = device()
    clock = Clock()
    bandwidth, peak = speeds(clock, options.small)
    print(
        f"{found['name']}, {found['multiprocessors']} multiprocessors, {found['memory_gb']} GB; "
        f"CuPy {found['cupy']}, CUDA {found['cuda']}, driver {found['driver']}\n"
        f"copies {bandwidth / 1e9:.0f} GB/s, cuBLAS float32 {peak / 1e12:.1f} TFLOP/s"
    )
    result = {
        "device": found,
        "copy_bytes_per_s": bandwidth,
        "peak_flops_per_s": peak,
        "kernels": measure_kernels(clock, bandwidth, peak, options.small),
        "late_calls": clock.late,
        "networks": measure_networks(options.small),
    }
    if clock.late:
        print(f"\n  {clock.late} calls took the host more than a millisecond to queue: their times hold some of that")
    file = re.sub(r"\W+", "-", found["name"]).strip("-").lower()
    out = options.out or HERE / "results" / f"gpu-{file}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwritten to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
