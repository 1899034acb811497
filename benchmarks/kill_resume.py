"""Does a killed run end as an uninterrupted one? kill -9 at random moments, over and over.

    python benchmarks/kill_resume.py [--kills 100] [--seed 0]

A small network (dropout, Adam with a cosine schedule, shuffling, augmentation, early stopping, two workers, a
checkpoint each 3 steps and epoch, a CSV file) is trained once without a break. Then the same run is started, killed
with SIGKILL, and started again, until it has been killed so often as asked for; where a run ends before that, the
next one begins. Two kills of three come while a checkpoint is written, the others after a random time. Only the
leader is killed, as replicas must follow it. Each run that ends must have the weights, optimiser state, random state
and history of the uninterrupted one, to the bit, and nothing may be left behind, neither files nor processes. Prints
the figures; exit status 1 where a run differs, could not be resumed or left something.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

RUN = """
import functools, sys, numpy as np, tinynet as tn
from tinynet import nn
from tinynet.data import Loader, compose, random_flip, random_shift
rng = np.random.default_rng(1)
x = rng.standard_normal((300, 6, 6, 1), dtype=np.float32)
y = (x.sum((1, 2, 3)) > 0).astype(np.int64)
tn.seed(3)
model = nn.Sequential(nn.Conv2d(4, 3, activation="relu"), nn.Dropout(0.25), nn.Flatten(), nn.Dense(300),
                      nn.Dropout(0.5), nn.Dense(2), input_shape=(6, 6, 1))
folder, epochs = sys.argv[1], int(sys.argv[2])
train = Loader(x, y, batch_size=16, seed=7, augment=compose(random_flip(), random_shift(1)))
print("begins", flush=True)
tn.fit(model, train, validation=(x[:50], y[:50]), epochs=epochs, checkpoint=f"{folder}/run[1].safetensors",
       csv=f"{folder}/run.csv", checkpoint_every=3, resume=True, verbose=False, workers=2, early_stopping=1000,
       schedule=functools.partial(tn.optim.schedules.cosine, total=1000, warmup=20))
"""
FILES = ["run.csv", "run[1].safetensors"]


def start(folder: Path, epochs: int) -> subprocess.Popen[str]:
    """The run in a process (and a group) of its own; returns when training begins."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), str(epochs)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert run.stdout is not None
    begun = run.stdout.readline() == "begins\n"
    run.stdout.close()  # what follows is not read: the run says nothing more
    if not begun:
        raise RuntimeError(f"the run did not start: exit status {run.wait()}")
    return run


def result(folder: Path) -> tuple:
    """All arrays as bytes, the history without its times, and the random state."""
    from tinynet.saving.checkpoint import read

    arrays, description = read(folder / FILES[1])
    history = [
        tuple(v for k, v in row.items() if k not in ("seconds", "images_per_second"))
        for row in description["progress"]["history"]
    ]
    return {name: value.tobytes() for name, value in arrays.items()}, history, description["random"]


def writing(folder: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any(name.startswith(".run[1]") for name in os.listdir(folder))


def kill(run: subprocess.Popen[str], folder: Path, after: float, amid: bool) -> bool | None:
    """Kill the run some seconds later, `amid` the first write from then on; gives whether it was one, None where the
    run ended before."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(after)
    while amid and run.poll() is None and not writing(folder):
        time.sleep(0.0002)  # a write takes some milliseconds
    if run.poll() is not None:
        return None
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    return writing(folder)


def gone(group: int, seconds: float = 10) -> bool:
    """Whether all processes of a group end within this time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    return False


def measure(kills: int, epochs: int, seed: int = 0) -> dict[str, int]:
    """Kill so often; gives counts: kills, runs that ended, of these identical ones, kills amid a write, files and
    processes left behind."""
    dice, counts = random.Random(seed), {"kills": 0, "ended": 0, "identical": 0, "amid a write": 0, "left behind": 0}
    with tempfile.TemporaryDirectory() as top:
        straight = Path(top) / "straight"
        began = time.monotonic()
        if start(straight, epochs).wait() != 0:
            raise RuntimeError("the uninterrupted run failed")
        length, wanted = time.monotonic() - began, result(straight)
        while counts["kills"] < kills or counts["ended"] == 0:
            folder, ended = Path(top) / str(counts["ended"]), False
            while not ended:
                run = start(folder, epochs)
                if counts["kills"] < kills:
                    amid = counts["amid a write"] * 3 < 2 * (counts["kills"] + 1)
                    killed = kill(run, folder, dice.uniform(0, 0.3 * length), amid)
                    if killed is not None:
                        counts["kills"] += 1
                        counts["amid a write"] += killed
                status = run.wait()
                counts["left behind"] += not gone(run.pid)
                if status not in (0, -signal.SIGKILL):
                    raise RuntimeError(f"a killed run did not resume: exit status {status}")
                ended = status == 0
            counts["ended"] += 1
            counts["identical"] += result(folder) == wanted
            counts["left behind"] += sorted(os.listdir(folder)) != FILES
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts = measure(arguments.kills, arguments.epochs, arguments.seed)
    print(
        f"{counts['kills']} kills ({counts['amid a write']} amid the write of a checkpoint), each resumed; of "
        f"{counts['ended']} runs that ended, {counts['identical']} are identical to the uninterrupted one; "
        f"{counts['left behind']} left files or processes behind"
    )
    return int(counts["identical"] != counts["ended"] or counts["left behind"] > 0)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
