"""The contenders: one small file an engine, all with the same interface.

A file defines `Contender(network, arrays, data, *, dropout, cores, **options)`: builds the network with these
weights, Adam with learning rate 1e-3 and epsilon 1e-8, and takes the batches in `data`, host arrays in the layout
of its choice. `step(i)` makes a training step on batch i, from host arrays to updated weights, and returns the loss
in the engine's own form; `value(loss)` makes it a float and `close()` ends it. `turn` may replace worker.turn, where
the engine has its own loop. What an engine cannot build raises networks.Unsupported.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A contender: its file, the package that its environment must have, its options, and whether it has one core."""

    module: str
    package: str
    options: dict
    one_core: bool = False


CONTENDERS = {
    "tinynet trainer": Entry("with_tinynet", "numpy", {"mode": "trainer"}),
    "tinynet fit": Entry("with_tinynet", "numpy", {"mode": "fit"}),
    "tinynet loop": Entry("with_tinynet", "numpy", {"mode": "loop"}),
    "tf.function": Entry("with_tensorflow", "tensorflow", {}),
    "keras fit": Entry("with_keras", "tensorflow", {}),
    "torch": Entry("with_torch", "torch", {}),
    "torch channels_last": Entry("with_torch", "torch", {"channels_last": True}),
    "torch compile": Entry("with_torch", "torch", {"compiled": True}),
    "torch compile channels_last": Entry("with_torch", "torch", {"channels_last": True, "compiled": True}),
    "jax jit": Entry("with_jax", "jax", {}),
    "mygrad": Entry("with_mygrad", "mygrad", {}),
    "dezero": Entry("with_dezero", "dezero", {}),
    "tinynet exact, 1 core": Entry("with_tinynet", "numpy", {"mode": "exact"}, True),
    "torch, 1 core": Entry("with_torch", "torch", {}, True),
    "torch channels_last, 1 core": Entry("with_torch", "torch", {"channels_last": True}, True),
}
