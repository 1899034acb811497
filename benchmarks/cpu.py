"""A training step of each network, for tinynet and every peer that is installed: `python benchmarks/cpu.py`.

A step is forward, backward and Adam, with dropout where the network has it, on images and labels that differ from
step to step. All contenders start from the same weights; their losses over four steps are compared before anybody
is timed. They then take turns, in rounds, each in a process and Python environment of its own, on the same cores.
README.md beside this file says how to make the environments and how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import report  # noqa: E402
from networks import DESIGN, MODELS, NETWORKS, OTHERS, Model, Network  # noqa: E402
from peers import CONTENDERS  # noqa: E402
from processes import ENVS, Failed, Sampler, Worker, busy, cores_of, environments, high_water, scratch  # noqa: E402

STEPS = 4  # whose losses are compared
TOLERANCES = (1e-4, 3e-3)  # relative, of the first loss and of the others: Adam turns rounding at g ≈ 0 into steps


def arguments() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument(
        "--networks", default="design", help='"design", "others", "models", "all", or names: ' + " ".join(NETWORKS)
    )
    p.add_argument(
        "--contenders",
        default="",
        help="parts of names, commas between; a leading - leaves out: " + ", ".join(CONTENDERS),
    )
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--seconds", type=float, default=0.4, help="of a turn")
    p.add_argument("--pause", type=float, default=0.1, help="seconds between turns")
    p.add_argument("--cores", default="", help="such as 0,1; by default all that this process may use")
    p.add_argument("--quick", action="store_true", help="3 rounds of 0.15 s: to see that it runs")
    p.add_argument("--check", action="store_true", help="compare losses only, time nothing")
    p.add_argument("--envs", type=Path, default=ENVS, help="folder of the peers' virtual environments")
    p.add_argument("--json", type=Path, help="write all measurements here")
    p.add_argument("--chart", type=Path, help="draw a bar chart here (PNG; needs matplotlib)")
    options = p.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 0.15
    return options


def chosen(text: str) -> list[Network | Model]:
    """The networks that --networks names."""
    groups = {"design": DESIGN, "others": OTHERS, "models": MODELS, "all": [*DESIGN, *OTHERS, *MODELS]}
    names = [
        n.name
        for part in text.split(",")
        for n in groups.get(part) or [NETWORKS.get(part)]
        if n or sys.exit(f"--networks: there is no {part!r}; there are {', '.join(groups)}, {', '.join(NETWORKS)}")
    ]
    return [NETWORKS[n] for n in dict.fromkeys(names)]


def contenders(text: str, pythons: dict[str, str]) -> list[str]:
    """The contenders that --contenders names and an environment has; says which are missing."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    wanted = [p for p in parts if p[0] != "-"]
    refused = [p[1:] for p in parts if p[0] == "-"]
    names = [
        n
        for n in CONTENDERS
        if (not wanted or any(p == n if p in CONTENDERS else p in n for p in wanted))
        and not any(p == n if p in CONTENDERS else p in n for p in refused)
    ]
    for name in names:
        if CONTENDERS[name].package not in pythons:
            print(f"left out: {name} ({CONTENDERS[name].package} is in no environment; see benchmarks/README.md)")
    return [n for n in names if CONTENDERS[n].package in pythons]


class Race:
    """One network: start everybody, compare losses, prepare, then rounds of turns."""

    def __init__(
        self, network: Network | Model, names: list[str], pythons: dict[str, str], cores: list[int], folder: Path
    ):
        import numpy as np
        from peers.with_tinynet import weights

        self.network, self.notes = network, {}
        file = folder / f"{network.name}.npz"
        np.savez(file, **{f"a{i}": a for i, a in enumerate(weights(network))})
        self.workers: dict[str, Worker] = {}
        self.results: dict[str, dict] = {}
        for name in names:
            entry = CONTENDERS[name]
            mine = cores[:1] if entry.one_core else cores
            spec = {
                "module": entry.module,
                "options": entry.options,
                "network": network.name,
                "weights": str(file),
                "cores": mine,
            }
            log = folder / f"{network.name}-{name.replace(' ', '_')}.log"
            self.workers[name] = Worker(pythons[entry.package], spec, log=log)
            self.results[name] = {"cores": len(mine), "turns": [], "idle": 0.0}

    def drop(self, name: str, why: str) -> None:
        """Go on without a contender."""
        self.workers.pop(name).stop()
        self.results.pop(name)
        self.notes[name] = why
        print(f"  {name}: left out: {why}", flush=True)

    def _each(self, what) -> None:
        """Run `what(name, worker)` for all, two at a time; who fails is dropped."""

        def one(name: str) -> None:
            try:
                what(name, self.workers[name])
            except Failed as error:
                failures[name] = str(error)

        failures: dict[str, str] = {}
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, list(self.workers)))
        for name, why in failures.items():
            self.drop(name, why)

    def check(self) -> None:
        """Import everything, then compare the losses of the first steps with the median of all."""

        def first(name: str, worker: Worker) -> None:
            self.results[name]["versions"] = worker.read(120)["versions"]
            self.results[name]["losses"] = worker.ask("check", steps=STEPS)["losses"]

        self._each(first)
        for name, why in report.disagreements(self.results, TOLERANCES).items():
            self.drop(name, why)

    def prepare(self) -> None:
        """Compile and warm up; then look at each one's memory during steps that are not timed."""

        def ready(name: str, worker: Worker) -> None:
            if note := worker.ask("prepare")["note"]:
                print(f"  {name}: {note}")

        self._each(ready)
        for name in list(self.workers):
            worker = self.workers[name]
            try:
                with Sampler(worker.pid) as sampler:
                    worker.ask("turn", seconds=0.5)
                self.results[name].update(memory=sampler.peak, high_water=high_water(worker.pid))
            except Failed as error:
                self.drop(name, str(error))

    def rounds(self, count: int, seconds: float, pause: float) -> None:
        """Turns, in an order that moves on by one from round to round. Who is very slow sits out after three."""
        spent = dict.fromkeys(self.workers, 0.0)
        for number in range(count):
            names = list(self.workers)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if number >= 3 and spent[name] > 2 * count * seconds:
                    continue
                others = {n: busy(w.pid) for n, w in self.workers.items() if n != name}
                start = time.perf_counter()
                try:
                    turn = self.workers[name].ask("turn", seconds=seconds)["times"]
                except Failed as error:
                    self.drop(name, str(error))
                    continue
                took = time.perf_counter() - start
                spent[name] += took
                self.results[name]["turns"].append({"round": number, "times": turn})
                for n, before in others.items():
                    self.results[n]["idle"] = max(self.results[n]["idle"], (busy(self.workers[n].pid) - before) / took)
                time.sleep(pause)

    def stop(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.stop()


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the workers are ended
    cores = cores_of(options.cores)
    pythons = environments(options.envs, {entry.package for entry in CONTENDERS.values()})
    networks, names = chosen(options.networks), contenders(options.contenders, pythons)
    folder, start = scratch(), time.time()
    result = {"machine": report.machine(cores), "rounds": options.rounds, "seconds": options.seconds, "networks": {}}
    print(report.describe(result["machine"]), flush=True)
    for network in networks:
        print(f"\n{network.name}, batch {network.batch}, {network.flops() / 1e9:.2f} GFLOP a step", flush=True)
        race = Race(network, names, pythons, cores, folder)
        try:
            race.check()
            if not options.check:
                race.prepare()
                race.rounds(options.rounds, options.seconds, options.pause)
        finally:
            race.stop()
        if options.check:
            print(report.agreement(race.results))
            continue
        row = {"batch": network.batch, "left_out": race.notes, "contenders": report.summarise(race.results)}
        result["networks"][network.name] = row
        print(report.table(row), flush=True)
        if options.json:
            options.json.write_text(json.dumps(result, indent=1))
    result["took"] = time.time() - start
    if not options.check:
        print(report.overview(result))
    print(f"\n{result['took']:.0f} s in all; load average now {os.getloadavg()[0]:.2f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    if options.chart:
        print(report.chart(result, options.chart))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
