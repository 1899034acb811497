"""JAX: the whole step, Adam included, in one jit that may reuse the old weights' memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from networks import Network


class Contender:
    """Host arrays become JAX's within the step, and the step waits for its result."""

    def __init__(self, network: Network, arrays: list, data: list, *, dropout: bool, cores: int):
        self.network, self.dropout, self.data = network, dropout, data
        w = [jnp.array(a) for a in arrays]
        self.state = (w, [jnp.zeros_like(a) for a in w], [jnp.zeros_like(a) for a in w], jnp.zeros((), jnp.int32))
        self.jitted = jax.jit(self._step, donate_argnums=0)

    def _loss(self, w: list, x: jax.Array, y: jax.Array, key: jax.Array) -> jax.Array:
        rest = iter(w)
        for number, (layer, _, _) in enumerate(self.network.shapes()):
            if "conv" in layer:
                pad = self.network.same(layer["kernel"], layer["padding"])
                x = lax.conv_general_dilated(
                    x,
                    next(rest),
                    (layer["stride"],) * 2,
                    ((pad, pad), (pad, pad)),
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                    feature_group_count=layer["groups"],
                )
                x = jax.nn.relu(x + next(rest))
            elif "pool" in layer:
                window = (1, layer["pool"], layer["pool"], 1)
                x = lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
            elif "mean" in layer:
                x = x.mean((1, 2))
            elif "dropout" in layer:
                if self.dropout:
                    keep = 1 - layer["dropout"]
                    mask = jax.random.bernoulli(jax.random.fold_in(key, number), keep, x.shape)
                    x = jnp.where(mask, x / keep, 0)
            else:
                x = x.reshape(x.shape[0], -1) @ next(rest) + next(rest)
                x = jax.nn.relu(x) if layer["relu"] else x
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

    def _step(self, state: tuple, x: jax.Array, y: jax.Array) -> tuple:
        w, m, v, t = state
        t = t + 1
        loss, g = jax.value_and_grad(self._loss)(w, x, y, jax.random.fold_in(jax.random.key(0), t))
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
        v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g, strict=True)]
        rate, away = 1e-3 / (1 - 0.9**t), 1 / (1 - 0.999**t)
        w = [p - rate * a / (jnp.sqrt(b * away) + 1e-8) for p, a, b in zip(w, m, v, strict=True)]
        return (w, m, v, t), loss

    def step(self, i: int) -> jax.Array:
        self.state, loss = self.jitted(self.state, *self.data[i])
        return jax.block_until_ready((self.state, loss))[1]

    @staticmethod
    def value(loss: jax.Array) -> float:
        return float(loss)

    def close(self) -> None:
        """Nothing to end."""
