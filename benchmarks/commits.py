"""Two commits side by side: the same losses to the bit? the same time a step?

    python benchmarks/commits.py OLD [NEW]          commits, or folders that hold a checkout; NEW is this tree

The five CNNs train for a few steps from one seed: by one process, and by two replicas. The
losses are compared bit by bit. Then steps are timed in turn, A, B, A, B, …, each commit in a process of its own,
and the medians and their ratio are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = {"mnist_small": 32, "mnist_cnn": 64, "cifar_small": 16, "cifar_cnn": 32, "image128_cnn": 32}  # and batches
WORKER = """
import json, sys, time
import numpy as np
import tinynet as tn

name, batch, workers, algorithm = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
tn.set_conv_algorithm(algorithm)
tn.seed(0)
model = getattr(tn.models, name)()
rng = np.random.default_rng(0)
x = rng.random((batch, *model.built), np.float32)
y = rng.integers(0, model.output_shape[0], batch)
with tn.parallel.trainer(model, tn.optim.Adam(model.parameters()), workers=workers) as step:
    for line in sys.stdin:                  # a number of steps
        start, losses = time.perf_counter(), []
        for _ in range(int(line)):
            losses.append(float(step(x, y).item()).hex())
        print(json.dumps([losses, time.perf_counter() - start]), flush=True)
"""


class Checkout:
    """A commit's files and a process that trains one of its networks."""

    def __init__(self, commit: str, folder: Path):
        if Path(commit).is_dir():
            self.path = Path(commit)
        else:
            self.path = folder / commit.replace("/", "_")
            subprocess.run(["git", "worktree", "add", "-q", "--detach", self.path, commit], cwd=ROOT, check=True)

    def start(self, *arguments: object) -> None:
        """A fresh process for a network."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *map(str, arguments)],
            cwd=self.path,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def steps(self, count: int) -> tuple[list[str], float]:
        """(losses as hexadecimal floats, seconds a step)."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(count, file=self.process.stdin, flush=True)
        losses, seconds = json.loads(self.process.stdout.readline())
        return losses, seconds / count

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new", nargs="?", default=str(ROOT))
    parser.add_argument("--rounds", type=int, default=15, help="timings of each commit; 0 compares losses only")
    parser.add_argument("--steps", type=int, default=10, help="that are compared, and that a timing takes")
    given = parser.parse_args()
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        pair = [Checkout(commit, Path(folder)) for commit in (given.old, given.new)]
        try:
            for name, batch in NETWORKS.items():
                for workers in (1, 2):
                    for algorithm in ("exact", "auto"):
                        worst |= compare(pair, name, batch, workers, algorithm, given)
        finally:
            subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
    return worst


def compare(
    pair: list[Checkout], name: str, batch: int, workers: int, algorithm: str, given: argparse.Namespace
) -> int:
    """One line for a network; 1 where a bit differs."""
    for checkout in pair:
        checkout.start(name, batch, workers, algorithm)
    (old, _), (new, _) = (checkout.steps(given.steps) for checkout in pair)
    first = next((i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b), None)
    times: list[list[float]] = [[], []]
    for _ in range(given.rounds if algorithm == "auto" else 0):
        for checkout, seconds in zip(pair, times, strict=True):
            seconds.append(checkout.steps(given.steps)[1])
    for checkout in pair:
        checkout.stop()
    timed = ""
    if times[0]:
        a, b = (1e3 * statistics.median(t) for t in times)
        timed = f"   {a:8.2f} ms, {b:8.2f} ms a step: {b / a:.3f}"
    losses = "equal to the bit" if first is None else f"differ from step {first}"
    print(f"{name:13} workers={workers} {algorithm:5}  losses {losses}{timed}", flush=True)
    return int(first is not None)


if __name__ == "__main__":
    sys.exit(main())
