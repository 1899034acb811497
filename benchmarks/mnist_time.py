"""Seconds to 98.5% on MNIST's test set with mnist_cnn: `python benchmarks/mnist_time.py`.

Batch 64, Adam 1e-3; tinynet's fit with a replica a core, Keras's fit, and a PyTorch loop. For each seed all start
from the same weights; the order of the images is each engine's own for that seed. The test set is measured after
every quarter of an epoch, off the clock. `--epochs 3` measures the accuracy after so many epochs instead, for the
fast paths and for the exact ones (no fusion, no Winograd, one process), which see the same images and dropout.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from statistics import mean, median

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import report  # noqa: E402
from networks import NETWORKS  # noqa: E402
from processes import ENVS, Failed, Worker, cores_of, environments, scratch  # noqa: E402

# name: (file, package, options)
RACE = {
    "tinynet fit": ("with_tinynet", "numpy", {"mode": "fit"}),
    "keras fit": ("with_keras", "tensorflow", {}),
    "torch": ("with_torch", "torch", {}),
    "torch channels_last": ("with_torch", "torch", {"channels_last": True}),
}
PATHS = {
    "tinynet fast": ("with_tinynet", "numpy", {"mode": "fit"}),
    "tinynet exact": ("with_tinynet", "numpy", {"mode": "exact"}),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--goal", type=float, default=0.985)
    p.add_argument("--epochs", type=int, default=0, help="measure accuracy after so many epochs, fast and exact paths")
    p.add_argument("--most", type=int, default=6, help="epochs after which a run gives up")
    p.add_argument("--contenders", default="", help="parts of names: " + ", ".join(RACE))
    p.add_argument("--data", type=Path, help="folder of the four IDX files; by default tinynet.data.mnist() finds them")
    p.add_argument("--cores", default="", help="such as 0,1; by default all that this process may use")
    p.add_argument("--quick", action="store_true", help="one seed, a tenth of the images: to see that it runs")
    p.add_argument("--envs", type=Path, default=ENVS, help="folder of the peers' virtual environments")
    p.add_argument("--json", type=Path, help="write all measurements here")
    options = p.parse_args()
    if options.quick:
        options.seeds, options.goal = 1, 0.94
    return options


def store(folder: Path, options: argparse.Namespace) -> Path:
    """MNIST as bytes in a file that every environment can read."""
    import numpy as np

    from tinynet.data import mnist

    (x, y), (x_test, y_test) = mnist(options.data)
    if options.quick:
        x, y, x_test, y_test = x[:6000], y[:6000], x_test[:2000], y_test[:2000]
    path = folder / "mnist.npz"
    np.savez(
        path,
        x_train=np.rint(255 * x).astype(np.uint8),
        y_train=y,
        x_test=np.rint(255 * x_test).astype(np.uint8),
        y_test=y_test,
    )
    return path


def main() -> None:
    import numpy as np
    from peers.with_tinynet import weights

    options, folder = arguments(), scratch()
    cores = cores_of(options.cores)
    field = PATHS if options.epochs else RACE
    pythons = environments(options.envs, {package for _, package, _ in field.values()})
    parts = [part for part in options.contenders.split(",") if part]
    result: dict = {"machine": report.machine(cores), "goal": options.goal, "runs": []}
    print(report.describe(result["machine"]), flush=True)
    data = store(folder, options)
    for seed in range(options.seeds):
        file = folder / f"weights{seed}.npz"
        arrays = weights(NETWORKS["mnist_cnn"], seed)
        np.savez(file, **{f"a{i}": a if a.ndim > 1 else np.zeros_like(a) for i, a in enumerate(arrays)})
        for name, (module, package, settings) in field.items():
            if (parts and not any(part in name for part in parts)) or package not in pythons:
                continue
            spec = {
                "module": module,
                "options": settings,
                "weights": str(file),
                "data": str(data),
                "cores": cores,
                "seed": seed,
                "epochs": options.epochs or options.most,
                "points": 1 if options.epochs else 4,
                "goal": 2.0 if options.epochs else options.goal,
            }
            worker = Worker(pythons[package], spec, log=folder / "log", script="mnist_worker.py")
            try:
                answer = worker.read(1800)
            except Failed as error:
                print(f"  {name}, seed {seed}: {error}", flush=True)
                continue
            finally:
                worker.stop()
            steps, total, warm, accuracy = answer["points"][-1]
            result["runs"].append(
                {
                    "name": name,
                    "seed": seed,
                    "epochs": steps / answer["steps"],
                    "seconds": total,
                    "without_first_step": warm,
                    "accuracy": accuracy,
                    "points": answer["points"],
                    "reached": accuracy >= options.goal,
                }
            )
            print(
                f"  {name:20} seed {seed}: {100 * accuracy:.2f}% after {steps / answer['steps']:.2f} epochs, "
                f"{total:.1f} s ({warm:.1f} s without the first step)",
                flush=True,
            )
            if options.json:
                options.json.write_text(json.dumps(result, indent=1))
    summary(result, field, options)
    shutil.rmtree(folder)


def summary(result: dict, field: dict, options: argparse.Namespace) -> None:
    """The medians, or the means of the accuracies."""
    print()
    first = None
    for name in field:
        runs = [r for r in result["runs"] if r["name"] == name]
        if not runs:
            continue
        if options.epochs:
            value = 100 * mean(r["accuracy"] for r in runs)
            print(
                f"{name:20} {value:.3f}% after {options.epochs} epochs, mean of {len(runs)} seeds"
                + (f", {value - first:+.3f} points" if first is not None else "")
            )
        elif all(r["reached"] for r in runs):
            value = median(r["seconds"] for r in runs)
            warm = median(r["without_first_step"] for r in runs)
            every = [r["seconds"] for r in runs]
            print(
                f"{name:20} {value:7.1f} s to {100 * options.goal:.1f}%, {len(runs)} seeds ({min(every):.1f} to "
                f"{max(every):.1f}; {warm:.1f} without the first step)"
                + (f", {value / first:.2f} times tinynet's" if first is not None else "")
            )
        else:
            print(f"{name:20} did not reach {100 * options.goal:.1f}% with {sum(not r['reached'] for r in runs)} seeds")
            continue
        first = value if first is None else first


if __name__ == "__main__":
    main()
