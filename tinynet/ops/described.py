"""What `help` shows of an operation: its signature without quotes, and what is the same for all elementwise ones."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable

DTYPES = {
    "int64": "Integers and bools are computed in int64.",
    "float64": "Integers and bools are computed in float64.",
    "kept": "Integers and bools keep their dtype.",
}


def describe(function: Callable, elementwise: bool) -> None:
    """Resolve the annotations of a composed operation; add shapes, result and errors to an elementwise one's text."""
    if not hasattr(function, "__signature__"):
        with contextlib.suppress(NameError):
            function.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    if elementwise and "Args:" not in (text := inspect.cleandoc(function.__doc__ or "")):
        operands = [name for name in inspect.signature(function).parameters if name in ("condition", "x", "y")]
        several = len(operands) > 1
        shapes = "of shapes that broadcast together as in NumPy; numbers take the tensor's dtype" if several else ""
        whole = DTYPES.get(getattr(function, "integers", ""), "")
        function.__doc__ = (
            f"{text}\n\nArgs: {', '.join(operands)}: {'tensors' if several else 'a tensor'}, arrays or numbers "
            f"{shapes or 'of any shape'}. {whole}\nReturns: a Tensor of {'the broadcast' if several else 'the same'} "
            f"shape.\nRaises: {'ValueError where shapes do not broadcast or backends differ; ' if several else ''}"
            f"TypeError for uint64 and for what is no real number."
        )
