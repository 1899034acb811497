"""What each idea of the fast path gains: a training step with it, over one without: `python benchmarks/ideas.py`.

All variants of a network take turns in one process (the last, with replicas, in its own), so that a noisy machine is
noisy for all of them; medians of the turns are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tinynet as tn
from tinynet.backends.cpu import memory

BATCH = {"mnist_small": 32, "mnist_cnn": 64, "cifar_small": 16, "cifar_cnn": 32, "image128_cnn": 32}

IDEAS: dict[str, Callable[[], list]] = {
    "all, one process": list,
    "without Winograd": lambda: [tn.set_conv_algorithm("exact")],
    "im2col only": lambda: [tn.set_conv_algorithm("im2col")],
    "without fusion": lambda: [tn.set_fusion(False)],
    "without the memory pool": lambda: [memory.set_pool(False)],
}


def turn(step: Callable, batches: list, seconds: float) -> float:
    """Milliseconds a step."""
    step(*batches[0])
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        step(*batches[count % len(batches)])
        count += 1
    return 1e3 * (time.perf_counter() - start) / count


def measure(name: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    tn.seed(0)
    model = tn.models.MODELS[name]()
    rng = np.random.default_rng(0)
    shape, classes = model.built, model.layers[-1].out_features
    batches = [
        (rng.standard_normal((BATCH[name], *shape)).astype(np.float32), rng.integers(0, classes, BATCH[name]))
        for _ in range(4)
    ]
    times: dict[str, list[float]] = {idea: [] for idea in [*IDEAS, "all, a replica a core"]}
    for _ in range(rounds):
        optimizer = tn.optim.Adam(model.parameters())

        def step(x: np.ndarray, y: np.ndarray, optimizer: tn.optim.Optimizer = optimizer) -> None:
            loss = tn.ops.softmax_cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        for idea, switches in IDEAS.items():
            with contextlib.ExitStack() as stack:
                for switch in switches():
                    stack.enter_context(switch)
                times[idea].append(turn(step, batches, seconds))
        with tn.parallel.trainer(model, optimizer) as shared:
            times["all, a replica a core"].append(turn(shared, batches, seconds))
        del optimizer, step, shared
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(BATCH), help="names, commas between")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of a turn")
    options = parser.parse_args()
    names = options.networks.split(",")
    medians = {
        name: {idea: statistics.median(t) for idea, t in measure(name, options.rounds, options.seconds).items()}
        for name in names
    }
    print(f"{'ms a step (times the first row)':34}" + "".join(f"{name:>22}" for name in names))
    for idea in next(iter(medians.values())):
        cells = (f"{m[idea]:.2f} ({m[idea] / m['all, one process']:.2f})" for m in medians.values())
        print(f"{idea:34}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
