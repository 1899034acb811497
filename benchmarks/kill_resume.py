"""Does a killed run end as an uninterrupted one? kill -9 at random moments, over and over.

    python benchmarks/kill_resume.py [--kills 50] [--seed 0]

A small network (dropout, Adam, shuffling, a checkpoint each 5 steps and epoch) is trained once without a break.
Then the same run is started, killed with SIGKILL after a random time, and started again, until it has been killed so
often as asked for; where a run ends before that, the next one begins. Each run that ends must have the weights,
optimiser state and history of the uninterrupted one, to the bit. Prints the figures; exit status 1 where a run
differs or could not be resumed.
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
import sys, numpy as np, tinynet as tn
from tinynet import nn
rng = np.random.default_rng(1)
x = rng.standard_normal((300, 6, 6, 1), dtype=np.float32)
y = (x.sum((1, 2, 3)) > 0).astype(np.int64)
tn.seed(3)
model = nn.Sequential(nn.Conv2d(4, 3, activation="relu"), nn.Dropout(0.25), nn.Flatten(), nn.Dense(2),
                      input_shape=(6, 6, 1))
print("begins", flush=True)
tn.fit(model, (x, y), validation=(x[:50], y[:50]), epochs=int(sys.argv[2]), batch_size=16, checkpoint=sys.argv[1],
       checkpoint_every=5, resume=True, verbose=False, early_stopping=1000)
"""


def start(checkpoint: Path, epochs: int) -> subprocess.Popen[str]:
    """The run in a process (and a group) of its own; returns when training begins."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.Popen([sys.executable, "-c", RUN, str(checkpoint), str(epochs)], stdout=subprocess.PIPE, text=True,
                           env=environment, start_new_session=True)
    assert run.stdout is not None
    begun = run.stdout.readline() == "begins\n"
    run.stdout.close()          # what follows is not read: the run says nothing more
    if not begun:
        raise RuntimeError(f"the run did not start: exit status {run.wait()}")
    return run


def result(checkpoint: Path) -> tuple[dict[str, bytes], list[tuple]]:
    """All arrays as bytes, and the history without its times."""
    from tinynet.saving.checkpoint import read

    arrays, description = read(checkpoint)
    history = [tuple(v for k, v in row.items() if k not in ("seconds", "images_per_second"))
               for row in description["progress"]["history"]]
    return {name: value.tobytes() for name, value in arrays.items()}, history


def measure(kills: int, epochs: int, seed: int = 0) -> dict[str, int]:
    """Kill so often; gives counts: kills, runs that ended, of these identical ones, kills during a write."""
    dice, counts = random.Random(seed), {"kills": 0, "ended": 0, "identical": 0, "amid a write": 0}
    with tempfile.TemporaryDirectory() as folder:
        straight = Path(folder) / "straight.safetensors"
        began = time.monotonic()
        if start(straight, epochs).wait() != 0:
            raise RuntimeError("the uninterrupted run failed")
        length, wanted = time.monotonic() - began, result(straight)
        while counts["kills"] < kills or counts["ended"] == 0:
            checkpoint = Path(folder) / f"killed-{counts['ended']}.safetensors"
            ended = False
            while not ended:
                run = start(checkpoint, epochs)
                if counts["kills"] < kills:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        run.wait(dice.uniform(0, 0.5 * length))
                    if run.poll() is None:
                        os.killpg(run.pid, signal.SIGKILL)
                        counts["kills"] += 1
                        counts["amid a write"] += bool(list(Path(folder).glob(".killed*.tmp")))
                status = run.wait()
                if status not in (0, -signal.SIGKILL):
                    raise RuntimeError(f"a killed run did not resume: exit status {status}")
                ended = status == 0
            counts["ended"] += 1
            counts["identical"] += result(checkpoint) == wanted
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts = measure(arguments.kills, arguments.epochs, arguments.seed)
    print(f"{counts['kills']} kills ({counts['amid a write']} amid the write of a checkpoint), each resumed; of "
          f"{counts['ended']} runs that ended, {counts['identical']} are identical to the uninterrupted one")
    return int(counts["identical"] != counts["ended"])


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
