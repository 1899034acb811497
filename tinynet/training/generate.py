"""Text, or anything else that is a row of numbers, that a language model goes on with."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import parallel
from ..backends.cpu.threads import one_blas_thread
from ..integers import count
from ..nn import advice
from ..nn.module import Module


def generate(
    model: Module, ids: Any, length: int, *, temperature: float = 1.0, top_k: int | None = None, seed: int = 0
) -> np.ndarray:
    """Go on with ids, one after the other, each drawn from what the model expects after those before it.

    >>> ids = tn.generate(model, vocabulary.encode("ROMEO:"), 200, temperature=0.8, top_k=40)
    >>> print(vocabulary.decode(ids))

    Args:
        model: ids (N, T) -> logits (N, T, K), or their softmax. One with a `step(ids, state) -> (logits, state)`, such
            as char_lstm, reads each id once and keeps its state; one with a `context`, such as gpt, reads so many of
            the last ids, each time anew.
        ids: integers (T,), or (N, T) for N texts at once; T is 1 or more.
        length: how many to add.
        temperature: divides the logits: below 1 the likely ones become likelier, 0 always takes the likeliest.
        top_k: only the k likeliest are drawn from (and those that are as likely as the last of them).
        seed: of the draws; the modes of the model, and the random state of `tn.seed`, stay as they were.
    Returns: int64 (T + length,), or (N, T + length): what was given, and what was added.
    Raises: ValueError for ids that are none, and where the logits are not finite.
    """
    given = np.asarray(ids.numpy() if hasattr(ids, "numpy") else ids)
    length = count("generate", "length", length, 0)
    top_k = None if top_k is None else count("generate", "top_k", top_k, 1)
    if given.ndim not in (1, 2) or given.dtype.kind not in "iu" or not given.size:
        raise ValueError(
            f"generate: ids must be integers (T,) or (N, T), at least one, got {given.dtype} {given.shape}"
        )
    if not 0 <= temperature < np.inf:
        raise ValueError(f"generate: temperature={temperature} must be 0 or more")
    rng = np.random.Generator(np.random.Philox(count("generate", "seed", seed, 0)))
    known = np.atleast_2d(given).astype(np.int64)
    step, context, state, new = getattr(model, "step", None), getattr(model, "context", None), None, known
    with one_blas_thread(), parallel.evaluating(model):
        for _ in range(length):
            if step is None:
                logits = model(known if context is None else known[:, -context:])
            else:
                logits, state = step(new, state)
            last = advice.logits(model, logits.numpy()[:, -1])
            new = _drawn(last.astype(np.float64), temperature, top_k, rng)
            known = np.concatenate([known, new], 1)
    return known[0] if given.ndim == 1 else known


def _drawn(logits: np.ndarray, temperature: float, top_k: int | None, rng: np.random.Generator) -> np.ndarray:
    """One number (N, 1) for each row of logits (N, K)."""
    if not np.isfinite(logits).all():
        raise ValueError("generate: the model's logits are not finite; its weights are damaged, or were never trained")
    if temperature == 0:
        return logits.argmax(-1)[:, None]
    if top_k is not None and top_k < logits.shape[-1]:
        least = np.partition(logits, -top_k)[:, -top_k, None]
        logits = np.where(logits < least, -np.inf, logits)
    sums = np.exp((logits - logits.max(-1, keepdims=True)) / temperature).cumsum(-1)
    return (sums < (1 - rng.random((len(sums), 1))) * sums[:, -1:]).sum(-1, keepdims=True)
