"""One training run on MNIST in a process of its own, for mnist_time.py: answers with its points in a line of JSON.

A point is [steps made, seconds of training, seconds without the first step, test accuracy]. The clock starts when
training is asked for, compilation included, and stands still while the test set is measured.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable

BATCH = 64


class Stopwatch:
    """Counts steps; at the fixed points measures the accuracy, off the clock. `done` once the goal is reached."""

    def __init__(self, steps: int, points: int, goal: float, accuracy: Callable[[], float]):
        self.at = {round(steps * (i + 1) / points) for i in range(points)}
        self.steps, self.goal, self.accuracy = steps, goal, accuracy
        self.points: list[list[float]] = []
        self.count, self.first, self.done = 0, 0.0, False
        self.start = time.perf_counter()

    def step(self) -> None:
        """Call it after each step."""
        self.count += 1
        now = time.perf_counter()
        if self.count == 1:
            self.first = now - self.start
        if (self.count - 1) % self.steps + 1 in self.at:
            took = now - self.start
            value = self.accuracy()
            self.points.append([self.count, took, took - self.first, value])
            self.done = self.done or value >= self.goal
            self.start += time.perf_counter() - now


class Done(Exception):
    """Ends a training loop at the goal."""


def run_tinynet(network, arrays, train, test, spec, watch) -> list:
    from peers import with_tinynet

    import tinynet as tn
    from tinynet import training

    if spec["options"]["mode"] == "exact":
        with_tinynet.exact()
    model = with_tinynet.build(network)
    model.load_state_dict(dict(zip(model.state_dict(), arrays, strict=True)))
    tn.seed(spec["seed"])
    watch = watch(lambda: training.evaluate(model, test, batch_size=500)["accuracy"])

    class Hook:
        def on_step_end(self, info: dict) -> None:
            watch.step()
            if watch.done:
                raise Done

    workers = 1 if spec["options"]["mode"] == "exact" else "auto"
    with contextlib.suppress(Done):
        training.fit(
            model,
            train,
            epochs=spec["epochs"],
            batch_size=BATCH,
            optimizer="adam",
            workers=workers,
            callbacks=[Hook()],
            verbose=False,
        )
    return watch.points


def run_keras(network, arrays, train, test, spec, watch) -> list:
    import keras
    import numpy as np
    from peers import with_keras

    keras.utils.set_random_seed(spec["seed"])
    model = with_keras.build(network)
    for variable, a in zip(model.trainable_variables, arrays, strict=True):
        variable.assign(a)
    x, y = test

    def accuracy() -> float:
        parts = [np.asarray(model(x[i : i + 500], training=False)).argmax(1) for i in range(0, len(x), 500)]
        return float((np.concatenate(parts) == y).mean())

    watch = watch(accuracy)

    class Hook(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            watch.step()
            if watch.done:
                raise Done

    with contextlib.suppress(Done):
        model.fit(*train, epochs=spec["epochs"], batch_size=BATCH, callbacks=[Hook()], verbose=0)
    return watch.points


def run_torch(network, arrays, train, test, spec, watch) -> list:
    import torch
    from peers import with_torch

    torch.manual_seed(spec["seed"])
    contender = with_torch.Contender(network, arrays, [], dropout=True, cores=len(spec["cores"]), **spec["options"])
    model, optimizer = contender.model, contender.optimizer
    last = spec["options"].get("channels_last", False)

    def images(x) -> torch.Tensor:
        x = torch.from_numpy(x).permute(0, 3, 1, 2)
        return x if last else x.contiguous()

    x, y, x_test, y_test = images(train[0]), torch.from_numpy(train[1]), images(test[0]), torch.from_numpy(test[1])

    def accuracy() -> float:
        model.eval()
        with torch.no_grad():
            right = sum(
                (model(x_test[i : i + 500]).argmax(1) == y_test[i : i + 500]).sum().item()
                for i in range(0, len(x_test), 500)
            )
        model.train()
        return right / len(x_test)

    watch = watch(accuracy)
    for _ in range(spec["epochs"]):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = contender.loss(x[rows], y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step()
            if watch.done:
                return watch.points
    return watch.points


def main() -> None:
    spec = json.loads(sys.argv[1])
    os.sched_setaffinity(0, spec["cores"])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        import numpy as np
        from networks import NETWORKS

        with np.load(spec["weights"]) as file:
            arrays = [file[f"a{i}"] for i in range(len(file.files))]
        with np.load(spec["data"]) as file:
            train, test = (
                (file[f"x_{part}"].astype(np.float32) / np.float32(255), file[f"y_{part}"])
                for part in ("train", "test")
            )
        engine = spec["module"].removeprefix("with_")
        importlib.import_module(f"peers.{spec['module']}")  # imports are not timed
        steps = -(-len(train[0]) // BATCH)
        points = globals()[f"run_{engine}"](
            NETWORKS["mnist_cnn"],
            arrays,
            train,
            test,
            spec,
            lambda accuracy: Stopwatch(steps, spec["points"], spec["goal"], accuracy),
        )
        answer = {"points": points, "steps": steps}
    except Exception as error:
        traceback.print_exc()
        answer = {"error": f"{type(error).__name__}: {str(error)[:300]}", "unsupported": False}
    out.write(json.dumps(answer) + "\n")
    out.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
