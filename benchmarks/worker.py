"""A contender in its own process: reads commands from stdin, one JSON object a line, answers likewise on stdout.

    {"do": "check", "steps": 4}      losses of the first steps, dropout off, from the given weights
    {"do": "prepare"}                builds anew where there is dropout, compiles, warms up
    {"do": "turn", "seconds": 0.5}   times of training steps, after one that is not timed
    {"do": "stop"}

The first answer says that everything is imported, and which versions. What libraries print goes to stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

PACKAGES = ("numpy", "torch", "tensorflow", "keras", "jax", "jaxlib", "mygrad", "dezero", "scipy")


def turn(contender: Any, batches: int, seconds: float, first: int = 0) -> list[float]:
    """The times of steps, at least one, that together take `seconds`; each on the next of the batches."""
    contender.step(first % batches)
    times: list[float] = []
    total, i, start = 0.0, first + 1, time.perf_counter()
    while total < seconds:
        contender.step(i % batches)
        now = time.perf_counter()
        times.append(now - start)
        total, start, i = total + now - start, now, i + 1
    return times


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that matter here."""
    from importlib import metadata

    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        for distribution in (name, "tensorflow-cpu") if name == "tensorflow" else (name,):
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(distribution)
    return found


class Session:
    """The commands."""

    def __init__(self, spec: dict):
        import numpy as np
        from networks import NETWORKS, batch_count, batches

        self.module = importlib.import_module(f"peers.{spec['module']}")
        self.spec, self.network = spec, NETWORKS[spec["network"]]
        with np.load(spec["weights"]) as file:
            self.arrays = [file[f"a{i}"] for i in range(len(file.files))]
        self.batches, self.make = batch_count(self.network), batches
        self.contender: Any = None
        self.turns = 0

    def _build(self, dropout: bool) -> None:
        if self.contender is not None:
            self.contender.close()
            self.contender = None
        data = self.make(self.network, self.batches)  # kept by the contender alone, or they would count twice
        self.contender = self.module.Contender(
            self.network,
            [a.copy() for a in self.arrays],
            data,
            dropout=dropout,
            cores=len(self.spec["cores"]),
            **self.spec["options"],
        )

    def check(self, steps: int) -> dict:
        self._build(dropout=False)
        losses = [self.contender.value(self.contender.step(i % self.batches)) for i in range(steps)]
        return {"losses": [float(loss) for loss in losses]}

    def prepare(self) -> dict:
        if self.contender is None or any("dropout" in layer for layer in self.network.layers):
            self._build(dropout=True)
        for _ in range(2):
            self.turn(0.02)
        return {"note": getattr(self.contender, "note", None)}

    def turn(self, seconds: float) -> dict:
        self.turns += 1
        if hasattr(self.contender, "turn"):
            return {"times": self.contender.turn(seconds)}
        return {"times": turn(self.contender, self.batches, seconds, first=self.turns)}


def main() -> None:
    spec = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec["cores"])  # before any library counts the cores
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message: dict) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    session = None
    try:
        session = Session(spec)
        answer({"versions": versions()})
        for line in sys.stdin:
            command = json.loads(line)
            if (do := command.pop("do")) == "stop":
                break
            answer(getattr(session, do)(**command))
    except Exception as error:
        from networks import Unsupported

        if not isinstance(error, Unsupported):
            traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        answer({"error": f"{type(error).__name__}: {lines[0][:300]}", "unsupported": isinstance(error, Unsupported)})
    if session is not None and session.contender is not None:
        session.contender.close()
    out.flush()
    os._exit(0)  # some engines' threads take seconds to end


if __name__ == "__main__":
    main()
