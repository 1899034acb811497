"""Networks trained for real, each to a figure that anybody can check: `python benchmarks/trained.py NAME`.

    python benchmarks/trained.py --list                     the recipes, and what each must reach
    python benchmarks/trained.py resnet20                   train; the figure and the curve go to results/trained/
    python benchmarks/trained.py cifar_cnn --seeds 0,1,2    three seeds and their mean
    python benchmarks/trained.py --table                    the table of the README, from the files

$TINYNET_DATA says where the data are. A recipe's file holds a run for each seed: what was measured, the curve, the
seconds it took, and the machine. A figure is measured once, after the last step, on the test set.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from recipes import RECIPES, Recipe  # noqa: E402

import tinynet as tn  # noqa: E402
from tinynet.saving.atomic import replacing  # noqa: E402

RESULTS = HERE / "results" / "trained"


def machine(workers: int | str) -> dict:
    """What the run's seconds are of."""
    model = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": (model or [platform.processor()])[0], "cores": cores, "workers": workers, "load": os.getloadavg()[0]}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def run(recipe: Recipe, seed: int, workers: int | str, folder: Path) -> dict:
    """Train with a seed; what was measured, with the seconds of training and the machine."""
    tn.seed(seed)
    described, began = machine(workers), time.perf_counter()
    measured = recipe.run(seed, workers, folder)
    seconds = measured.pop("seconds", None) or time.perf_counter() - began
    return {"seed": seed, "seconds": round(seconds, 1), **measured, "machine": described}


def keep(path: Path, recipe: Recipe, made: dict) -> list[dict]:
    """Write a run into the recipe's file, in the place of the one with its seed; all runs there."""
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    runs = sorted([r for r in runs if r["seed"] != made["seed"]] + [made], key=lambda r: r["seed"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        new.write_text(json.dumps({"asked": recipe.asked, "what": recipe.what, "runs": runs}, indent=1) + "\n")
    return runs


def table() -> str:
    """Markdown: network and data, figure, seconds, command."""
    rows = ["| network, data | asked | measured | time | command |", "|---|---|---|---|---|"]
    for name, recipe in RECIPES.items():
        path = RESULTS / f"{name}.json"
        runs = json.loads(path.read_text())["runs"] if path.exists() else []
        figure, minutes = "not run", 0.0
        if runs:
            values = [r["figure"] for r in runs]
            figure = recipe.show(statistics.mean(values)) + (f" (mean of {len(runs)})" if len(runs) > 1 else "")
            minutes = statistics.mean(r["seconds"] for r in runs) / 60
        command = f"`benchmarks/trained.py {name}`"
        rows.append(f"| {recipe.what} | {recipe.asked or '-'} | {figure} | {minutes:.1f} min | {command} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--seeds", default="0", help="numbers, commas between (default: 0)")
    parser.add_argument("--workers", default="auto", help="processes (default: auto, one a core)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the results' folder")
    parser.add_argument("--list", action="store_true", help="say what recipes there are")
    parser.add_argument("--table", action="store_true", help="print the table of what was measured")
    options = parser.parse_args()
    if options.list or not (options.names or options.table):
        print("\n".join(f"{name:<14} {recipe.what}; asked: {recipe.asked}" for name, recipe in RECIPES.items()))
        return
    if unknown := [name for name in options.names if name not in RECIPES]:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(RECIPES)}")
    workers = options.workers if options.workers == "auto" else int(options.workers)
    for name in options.names:
        for seed in map(int, options.seeds.split(",")):
            made = run(RECIPES[name], seed, workers, options.out)
            runs = keep(options.out / f"{name}.json", RECIPES[name], made)
            print(f"{name}, seed {seed}: {RECIPES[name].show(made['figure'])}, {made['seconds']:.0f} s", flush=True)
        mean = statistics.mean(r["figure"] for r in runs)
        print(f"{name}: mean of {len(runs)}: {RECIPES[name].show(mean)}; asked: {RECIPES[name].asked}", flush=True)
    if options.table:
        print(table())


if __name__ == "__main__":
    main()
